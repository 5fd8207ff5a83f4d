/* SPDX-License-Identifier: Apache-2.0 */
/* Names of reasons: complete, distinct, fit for metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base.h"

static const struct {
	unsigned number;
	const char *name, *text;
} all[] = {
#define ROW(number, symbol, name, text) {number, name, text},
	ABI_REASONS(ROW)
#undef ROW
};

static void every_reason_has_its_name(void **state)
{
	unsigned i;

	for (i = 0; i < array_size(all); i++) {
		assert_true(all[i].number < ABI_REASON_MAX);
		assert_string_equal(reason_name(all[i].number), all[i].name);
		assert_string_equal(reason_text(all[i].number), all[i].text);
	}
	assert_string_equal(reason_name(ABI_BULK), "bulk");
}

static void names_are_distinct_labels(void **state)
{
	unsigned i, j;

	for (i = 0; i < array_size(all); i++) {
		assert_int_equal(strspn(all[i].name, "abcdefghijklmnopqrstuvwxyz_"), strlen(all[i].name));
		assert_true(*all[i].text);
		for (j = 0; j < i; j++) {
			assert_string_not_equal(all[i].name, all[j].name);
			assert_int_not_equal(all[i].number, all[j].number);
		}
	}
}

/* One line of output may name several that are unknown. */
static void unknown_numbers_show_as_numbers(void **state)
{
	const char *a = reason_name(15), *b = reason_name(UINT32_MAX), *c = path_name(9), *d = splice_name(3);

	assert_string_equal(a, "reason-15");
	assert_string_equal(b, "reason-4294967295");
	assert_string_equal(c, "path-9");
	assert_string_equal(d, "splice-3");
	assert_true(strlen(reason_text(15)) > 0);
	assert_true(strlen(reason_text(UINT32_MAX)) > 0);
}

static void paths_and_switches(void **state)
{
	assert_string_equal(path_name(ABI_PATH_NONE), "none");
	assert_string_equal(path_name(ABI_PATH_SPLICE), "splice");
	assert_string_equal(path_name(ABI_PATH_TCP), "tcp");
	assert_string_equal(path_name(ABI_PATH_PROXY), "proxy");
	assert_string_equal(path_name(ABI_PATH_TUNNEL), "tunnel");
	assert_string_equal(path_name(ABI_PATH_DIRECT), "direct");
	assert_string_equal(splice_name(ABI_SPLICE_AUTO), "auto");
	assert_string_equal(splice_name(ABI_SPLICE_ALWAYS), "always");
	assert_string_equal(splice_name(ABI_SPLICE_OFF), "off");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_reason_has_its_name),
		cmocka_unit_test(names_are_distinct_labels),
		cmocka_unit_test(unknown_numbers_show_as_numbers),
		cmocka_unit_test(paths_and_switches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
