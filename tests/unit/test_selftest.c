/* SPDX-License-Identifier: Apache-2.0 */
/* What follows from the results of the self-test, for every result; and one run on the kernel that runs (root). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "selftest.h"

static struct selftest results(enum wire_probe_state all)
{
	struct selftest t = {.rows = selftest_row_count, .ms = 40};

	for (unsigned i = 0; i < selftest_row_count; i++) {
		text_copy(t.row[i].name, sizeof(t.row[i].name), selftest_rows[i].name);
		text_copy(t.row[i].detail, sizeof(t.row[i].detail), "seen");
		t.row[i].state = all;
	}
	return t;
}

static const struct wire_probe *row_of(const struct probe *p, const char *name)
{
	for (unsigned i = 0; i < p->rows; i++)
		if (text_equal(p->row[i].name, name))
			return &p->row[i];
	fail_msg("no row %s", name);
	return NULL;
}

static void table_is_whole(void **state)
{
	assert_in_range(selftest_row_count, 1, WIRE_SELFTESTS - 1); /* one more for what is no row */
	for (unsigned i = 0; i < selftest_row_count; i++) {
		const struct selftest_row *row = &selftest_rows[i];

		assert_in_range(strlen(row->name), 1, 16); /* a column of `weftd --probe` */
		assert_in_range(strlen(row->passed), 1, sizeof(((struct wire_probe *)0)->detail) - 1);
		assert_in_range(strlen(row->stake), 1, WIRE_STAKE - sizeof(" ..."));
		assert_non_null(row->run);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(row->name, selftest_rows[k].name);
	}
}

/* auto needs both: no failed row and the known fixes. Each row alone can turn it off; one that is off does not. */
static void every_row_counts(void **state)
{
	for (unsigned fixes = 0; fixes < 2; fixes++) {
		for (unsigned bad = 0; bad <= selftest_row_count; bad++) {
			struct selftest t = results(WIRE_PROBE_OK);
			struct probe p = {.iterates = true, .fixes = fixes};
			bool fails = bad < selftest_row_count;

			t.row[selftest_row_count - 1].state = WIRE_PROBE_OFF;
			if (fails)
				t.row[bad].state = WIRE_PROBE_FAILED;
			selftest_settle(&t, &p);
			assert_int_equal(p.kernel_safe, fixes && !fails);
			assert_int_equal(selftest_passed(&t), !fails);
			assert_int_equal(p.counts_tcp,
					 !fails || !text_equal(selftest_rows[bad].name, SELFTEST_COUNTS_TCP));
			assert_int_equal(row_of(&p, "self-test")->state, fails ? WIRE_PROBE_OFF : WIRE_PROBE_OK);
			assert_int_equal(row_of(&p, "splice auto")->state,
					 p.kernel_safe ? WIRE_PROBE_OK : WIRE_PROBE_OFF);
			assert_int_equal(!!p.at_stake[0], !p.kernel_safe);
			if (!fails)
				continue;
			assert_non_null(strstr(p.at_stake, selftest_rows[bad].stake));
			assert_non_null(strstr(row_of(&p, "self-test")->detail, selftest_rows[bad].name));
			assert_false(selftest_ok(&t, selftest_rows[bad].name));
		}
	}
}

/* Readers that ask FIONREAD are found and kept out: that the kernel does not count for them is no reason to be off. */
static void what_is_kept_out_is_no_reason(void **state)
{
	struct selftest t = results(WIRE_PROBE_OK);
	struct probe p = {.iterates = true, .fixes = true};
	unsigned kept_out = 0;

	for (unsigned i = 0; i < t.rows; i++) {
		if (!selftest_rows[i].kept_out)
			continue;
		t.row[i].state = WIRE_PROBE_OFF;
		kept_out++;
	}
	selftest_settle(&t, &p);
	assert_int_equal(kept_out, 2); /* FIONREAD TCP, splice(2) */
	assert_true(p.kernel_safe);
	assert_false(p.counts_tcp);
	assert_string_equal(p.at_stake, "");
}

/* Which of both is missing is said. */
static void says_what_is_missing(void **state)
{
	static const struct {
		bool fixes;
		enum wire_probe_state rows;
		const char *text;
	} table[] = {
		{true, WIRE_PROBE_OK, "the self-test passed and the known fixes are in"},
		{true, WIRE_PROBE_OFF, "the self-test passed and the known fixes are in"},
		{true, WIRE_PROBE_FAILED, "the self-test failed; annotation always overrides"},
		{false, WIRE_PROBE_OK, "known fixes are missing; annotation always overrides"},
		{false, WIRE_PROBE_FAILED,
		 "the self-test failed and known fixes are missing; annotation always overrides"},
	};

	for (size_t i = 0; i < array_size(table); i++) {
		struct selftest t = results(table[i].rows);
		struct probe p = {.iterates = true, .fixes = table[i].fixes};

		selftest_settle(&t, &p);
		assert_string_equal(row_of(&p, "splice auto")->detail, table[i].text);
	}
}

/* Rows that did not run are rows that did not pass. */
static void unfinished_is_failed(void **state)
{
	for (unsigned rows = 0; rows < selftest_row_count; rows++) {
		struct selftest t = results(WIRE_PROBE_OK);
		struct probe p = {.iterates = true, .fixes = true};

		t.rows = rows;
		selftest_settle(&t, &p);
		assert_false(p.kernel_safe);
		assert_false(selftest_ok(&t, selftest_rows[rows].name));
	}
}

/* Whole sentences, each once, as many as fit. */
static void stakes_fit(void **state)
{
	struct selftest t = results(WIRE_PROBE_FAILED), two = results(WIRE_PROBE_OK);
	struct probe p = {.iterates = true, .fixes = false}, q = {.iterates = true, .fixes = true};
	const char *first;

	selftest_settle(&t, &p);
	assert_in_range(strlen(p.at_stake), 1, WIRE_STAKE - 1);
	assert_true(text_starts(p.at_stake, "the kernel can crash"));
	assert_true(text_ends(p.at_stake, " ..."));
	two.row[0].state = WIRE_PROBE_FAILED;
	two.row[two.rows++] = two.row[0];
	selftest_settle(&two, &q);
	first = strstr(q.at_stake, selftest_rows[0].stake);
	assert_non_null(first);
	assert_null(strstr(first + 1, selftest_rows[0].stake));
	/* a row that is none of ours: what the process said before the first one */
	two = (struct selftest){.rows = 1, .row = {{.name = "setup", .state = WIRE_PROBE_FAILED}}};
	selftest_settle(&two, &q);
	assert_non_null(strstr(q.at_stake, "not known"));
}

static void tells_the_wire(void **state)
{
	struct selftest t = results(WIRE_PROBE_OK);
	struct wire_status status = {0};

	selftest_report(&t, &status);
	assert_int_equal(status.selftests, selftest_row_count);
	assert_int_equal(status.selftest_ms, 40);
	assert_string_equal(status.selftest[1].name, selftest_rows[1].name);
}

/* Every row ran, in order and in time; which of them pass is the kernel's business. */
static void runs_here(void **state)
{
	struct selftest t;

	selftest_run(&t);
	if (t.rows && text_equal(t.row[0].name, "setup"))
		fail_msg("%s: run the tests as root", t.row[0].detail);
	assert_int_equal(t.rows, selftest_row_count);
	assert_in_range(t.ms, 0, SELFTEST_BUSY_MS);
	for (unsigned i = 0; i < t.rows; i++) {
		assert_string_equal(t.row[i].name, selftest_rows[i].name);
		assert_true(t.row[i].detail[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_whole),	cmocka_unit_test(every_row_counts),
		cmocka_unit_test(what_is_kept_out_is_no_reason),
		cmocka_unit_test(says_what_is_missing), cmocka_unit_test(unfinished_is_failed),
		cmocka_unit_test(stakes_fit),		cmocka_unit_test(tells_the_wire),
		cmocka_unit_test(runs_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
