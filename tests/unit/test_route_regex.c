/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions of routes: the whole value, and no value that costs more than the bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "../../userspace/mesh/route_regex.h"

static bool matches(const char *pattern, const char *value, size_t len)
{
	char why[ROUTE_REGEX_WHY];
	struct route_regex *r = route_regex_new(pattern, why);
	struct route_regex_work w = {0};
	/* On the heap without a NUL: the sanitizer sees a byte too many. */
	char *copy = malloc(len ? len : 1);
	bool ret;

	assert_non_null(r);
	memcpy(copy, value, len);
	ret = route_regex_match(r, (struct http_text){copy, len}, &w);
	assert_int_equal(route_regex_match(r, (struct http_text){copy, len}, &w), ret);
	route_regex_done(&w);
	route_regex_free(r);
	free(copy);
	return ret;
}

static void whole_values(void **state)
{
	static const struct {
		const char *pattern, *value;
		bool want;
	} cases[] = {
		{"v[0-9]", "v1", true}, {"v[0-9]", "v12", false}, {"v[0-9]", "xv1", false}, {"a|ab", "ab", true},
		{"a|bc", "abc", false}, {".*", "", true}, {"", "", true}, {"", "a", false}, {"a$", "a\n", false},
		{"^a$", "a", true}, {"(?i)abc", "ABC", true}, {"abc", "ABC", false}, {"a.c", "a\nc", false},
		{"(?s)a.c", "a\nc", true}, {"\\d+", "123", true}, {"(a)(b)(c)(d)", "abcd", true},
		{"(?=a).*b", "ab", true}, {"\xff+", "\xff\xff", true}, {".", "\xc3\xa9", false},
	};

	for (size_t i = 0; i < array_size(cases); i++)
		if (matches(cases[i].pattern, cases[i].value, strlen(cases[i].value)) != cases[i].want)
			fail_msg("%s on %s", cases[i].pattern, cases[i].value);
	assert_true(matches("a.b", "a\0b", 3));
}

static void refused(void **state)
{
	static const struct {
		const char *pattern, *why;
	} cases[] = {
		{"(a", "missing closing parenthesis at character 3"},
		{"*a", "quantifier does not follow a repeatable item at character 1"},
		{"[z-a]", "range out of order in character class at character 4"},
		{"(*UTF)a", "using UTF is disabled"},
		{"a\\Cb", "using \\C is disabled"},
	};
	char why[ROUTE_REGEX_WHY], *deep = malloc(4097);

	for (size_t i = 0; i < array_size(cases); i++) {
		assert_null(route_regex_new(cases[i].pattern, why));
		if (!text_starts(why, cases[i].why))
			fail_msg("%s: %s", cases[i].pattern, why);
	}
	/* What would take a long time or much memory to compile is no pattern either. */
	memset(deep, '(', 2048);
	memset(deep + 2048, ')', 2048);
	deep[4096] = 0;
	assert_null(route_regex_new(deep, why));
	assert_null(route_regex_new("(((((a{1000}){1000}){1000}){1000}){1000})", why));
	free(deep);
}

/* Values that make a backtracking matcher run for years (row 23 of the attacks). */
static void bounded(void **state)
{
	static const char *const patterns[] = {"(a+)+$", "(a|aa)+$", "(.*)*b", "(a*)*(a*)*c", ".*.*.*.*.*.*x",
	"(?:a?){200}b",
					       "((a{0,9}){0,9}){0,9}b", "(a|a?)+b", "(?=(a+))a*b\\1", "([a-z]+)*=",
					       "(?R)?a+b", "(x+x+)+y", "(a(?1)?b)*c"};
	char *value = malloc(65536);
	struct timespec before, after;

	memset(value, 'a', 65536);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	for (size_t i = 0; i < array_size(patterns); i++)
		for (size_t len = 16; len <= 65536; len *= 16) {
			value[len - 1] = '!';
			assert_false(matches(patterns[i], value, len));
			value[len - 1] = 'a';
		}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	/* About 1 ms each without a sanitizer; the point is that it is not years. */
	assert_in_range(after.tv_sec - before.tv_sec, 0, 20);
	assert_true(matches("a*", value, ROUTE_REGEX_VALUE));
	assert_false(matches("a*", value, ROUTE_REGEX_VALUE + 1));
	assert_true(matches(".*a", value, ROUTE_REGEX_VALUE));
	free(value);
}

/* Of a value that is bad for many patterns a few may cost so much, the others nearly nothing; good ones match yet. */
static void bounded_together(void **state)
{
	char why[ROUTE_REGEX_WHY], *value = malloc(4000);
	struct route_regex *bad = route_regex_new("(a|aa)+$", why), *good = route_regex_new("[a!]+", why);
	struct http_text v = {value, 4000};
	struct route_regex_work w = {0};
	struct timespec at[3];

	memset(value, 'a', 4000);
	value[3999] = '!';
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at[0]);
	for (unsigned i = 0; i < ROUTE_REGEX_DEAR; i++)
		assert_false(route_regex_match(bad, v, &w));
	assert_int_equal(w.dear, ROUTE_REGEX_DEAR);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at[1]);
	for (unsigned i = 0; i < 10 * ROUTE_REGEX_DEAR; i++)
		assert_false(route_regex_match(bad, v, &w));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at[2]);
	assert_int_equal(w.dear, ROUTE_REGEX_DEAR);
	for (unsigned i = 1; i < 3; i++)
		at[i].tv_nsec += (at[i].tv_sec - at[0].tv_sec) * 1000000000;
	/* Forty times fewer steps each: in the time that a tenth of them took before, and far less. */
	assert_true(at[2].tv_nsec - at[1].tv_nsec < at[1].tv_nsec - at[0].tv_nsec);
	assert_true(route_regex_match(good, v, &w));
	route_regex_done(&w);
	assert_false(route_regex_match(bad, v, &w));
	assert_int_equal(w.dear, 1); /* another question */
	route_regex_done(&w);
	route_regex_free(bad);
	route_regex_free(good);
	free(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_values),
		cmocka_unit_test(refused),
		cmocka_unit_test(bounded),
		cmocka_unit_test(bounded_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
