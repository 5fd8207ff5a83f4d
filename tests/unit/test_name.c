/* SPDX-License-Identifier: Apache-2.0 */
/* Every name is known in any case, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "http.h"

static const char *const names[HTTP_NAME_COUNT] = {
#define X(symbol, string) [HTTP_NAME_##symbol] = string,
	HTTP_NAMES(X)
#undef X
};

static enum http_name slow(const char *at, size_t len)
{
	for (unsigned i = 1; i < HTTP_NAME_COUNT; i++)
		if (strlen(names[i]) == len && !strncasecmp(names[i], at, len))
			return i;
	return HTTP_NAME_OTHER;
}

static void known_in_any_case(void **state)
{
	for (unsigned i = 1; i < HTTP_NAME_COUNT; i++) {
		size_t len = strlen(names[i]);
		char *s = malloc(len);

		memcpy(s, names[i], len);
		assert_int_equal(http_name(s, len), i);
		for (size_t at = 0; at < len; at += 2)
			if (s[at] >= 'a' && s[at] <= 'z')
				s[at] = (char)(s[at] - 32);
		assert_int_equal(http_name(s, len), i);
		free(s);
	}
}

/* One character other: only the other case is the same name (a carriage return is "-" without one bit). */
static void nothing_else_is(void **state)
{
	assert_int_equal(http_name("", 0), HTTP_NAME_OTHER);
	for (unsigned i = 1; i < HTTP_NAME_COUNT; i++) {
		size_t len = strlen(names[i]);
		char s[64] = {0};

		memcpy(s, names[i], len);
		for (size_t at = 0; at < len; at++) {
			for (int c = 0; c < 256; c++) {
				s[at] = (char)c;
				assert_int_equal(http_name(s, len), c ? slow(s, len) : HTTP_NAME_OTHER);
			}
			s[at] = names[i][at];
		}
		assert_int_equal(http_name(s, len - 1), slow(s, len - 1));
		assert_int_equal(http_name(s, len + 1), HTTP_NAME_OTHER); /* with a NUL */
		assert_int_equal(http_name(s, 63), HTTP_NAME_OTHER);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_in_any_case),
		cmocka_unit_test(nothing_else_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
