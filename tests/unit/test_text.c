/* SPDX-License-Identifier: Apache-2.0 */
/* Strings; numbers against strtoll; growing text against a plain buffer. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base.h"

static void digits(void **state)
{
	static const uint64_t numbers[] = {0, 1, 9, 10, 99, 100, 65535, 4294967296, UINT64_MAX};
	char expect[32], got[32];

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		snprintf(expect, sizeof(expect), "%" PRIu64, numbers[i]);
		*text_decimal(got, numbers[i]) = 0;
		assert_string_equal(got, expect);
		snprintf(expect, sizeof(expect), "%016" PRIx64, numbers[i]);
		*text_hex(got, numbers[i], 16) = 0;
		assert_string_equal(got, expect);
	}
	*text_hex(got, 0x12345, 4) = 0; /* the lowest ones */
	assert_string_equal(got, "2345");
	assert_ptr_equal(text_hex(got, 5, 0), got);
}

static void equal(void **state)
{
	assert_true(text_equal(NULL, NULL));
	assert_false(text_equal(NULL, ""));
	assert_false(text_equal("", NULL));
	assert_true(text_equal("a", "a"));
	assert_false(text_equal("a", "ab"));
}

static void starts_and_ends(void **state)
{
	assert_true(text_starts("weft.io/splice", "weft.io/"));
	assert_true(text_starts("x", ""));
	assert_false(text_starts("we", "weft"));
	assert_true(text_ends("a.yaml", ".yaml"));
	assert_true(text_ends("x", ""));
	assert_false(text_ends("yaml", ".yaml"));
	assert_false(text_ends("a.yaml~", ".yaml"));
}

/* The source ends at an unreadable page: one byte too far is a crash. */
/* The same by its definition, slowly. */
static unsigned slow_distance(const char *a, const char *b)
{
	unsigned least, other;

	if (!*a || !*b)
		return (unsigned)(strlen(a) + strlen(b));
	least = slow_distance(a + 1, b + 1) + (*a != *b);
	other = slow_distance(a + 1, b) + 1;
	least = other < least ? other : least;
	other = slow_distance(a, b + 1) + 1;
	least = other < least ? other : least;
	if (a[1] && b[1] && a[0] == b[1] && a[1] == b[0]) {
		other = slow_distance(a + 2, b + 2) + 1;
		least = other < least ? other : least;
	}
	return least;
}

static void distance(void **state)
{
	static const struct {
		const char *a, *b;
		unsigned is;
	} all[] = {
		{"", "", 0},	      {"", "ab", 2},	     {"", "abc", 3},	     {"status", "status", 0},
		{"stauts", "status", 1}, {"statu", "status", 1}, {"sstatus", "status", 1}, {"stazus", "status", 1},
		{"tsatsu", "status", 2}, {"pods", "policy", 3},  {"route", "routes", 1},
		{"1234567890123456789012345678901234567890", "123456789012345678901234567890123456789", 1},
		{"12345678901234567890123456789012345678901", "12345678901234567890123456789012345678901", 3},
	};
	uint64_t seed = 7;

	for (size_t i = 0; i < array_size(all); i++) {
		assert_int_equal(text_distance(all[i].a, all[i].b), all[i].is);
		assert_int_equal(text_distance(all[i].b, all[i].a), all[i].is);
	}
	for (unsigned i = 0; i < 2000; i++) {
		char word[2][6] = {0};
		unsigned want;

		for (unsigned k = 0; k < 10; k++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			word[k / 5][k % 5] = "abc"[(seed >> 40) % 3];
		}
		word[0][(seed >> 50) % 6] = word[1][(seed >> 55) % 6] = '\0';
		want = slow_distance(word[0], word[1]);
		if (text_distance(word[0], word[1]) != (want < 3 ? want : 3))
			fail_msg("%s %s: %u", word[0], word[1], want);
	}
}

static void copy_reads_no_further(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), to[8];

	assert_ptr_not_equal(two, MAP_FAILED);
	assert_int_equal(mprotect(two + page, page, PROT_NONE), 0);
	memcpy(two + page - 4, "abc", 4);
	assert_true(text_copy(to, sizeof(to), two + page - 4));
	assert_string_equal(to, "abc");
	munmap(two, 2 * page);
}

static void copy(void **state)
{
	char to[5] = "zzzz";

	assert_true(text_copy(to, sizeof(to), "abcd"));
	assert_string_equal(to, "abcd");
	assert_false(text_copy(to, sizeof(to), "12345"));
	assert_string_equal(to, "1234");
	assert_true(text_copy(to, sizeof(to), ""));
	assert_string_equal(to, "");
	assert_false(text_copy(to, 1, "x"));
	assert_string_equal(to, "");
	to[0] = 'k';
	assert_false(text_copy(to, 0, "x"));
	assert_int_equal(to[0], 'k');
}

static void numbers(void **state)
{
	long long n = 77;

	assert_int_equal(text_number("0", 0, 10, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(text_number("-5", -5, 10, &n), 0);
	assert_int_equal(n, -5);
	assert_int_equal(text_number("9223372036854775807", LLONG_MIN, LLONG_MAX, &n), 0);
	assert_true(n == LLONG_MAX);
	assert_int_equal(text_number("-9223372036854775808", LLONG_MIN, LLONG_MAX, &n), 0);
	assert_true(n == LLONG_MIN);
	n = 77;
	assert_int_equal(text_number("9223372036854775808", LLONG_MIN, LLONG_MAX, &n), -ERANGE);
	assert_int_equal(text_number("-9223372036854775809", LLONG_MIN, LLONG_MAX, &n), -ERANGE);
	assert_int_equal(text_number("99999999999999999999999999", 0, LLONG_MAX, &n), -ERANGE);
	assert_int_equal(text_number("65536", 0, 65535, &n), -ERANGE);
	assert_int_equal(text_number("", 0, 10, &n), -EINVAL);
	assert_int_equal(text_number("-", -1, 10, &n), -EINVAL);
	assert_int_equal(text_number("+1", 0, 10, &n), -EINVAL);
	assert_int_equal(text_number(" 1", 0, 10, &n), -EINVAL);
	assert_int_equal(text_number("1 ", 0, 10, &n), -EINVAL);
	assert_int_equal(text_number("0x1", 0, 10, &n), -EINVAL);
	assert_int_equal(text_number("1.5", 0, 10, &n), -EINVAL);
	assert_int_equal(n, 77); /* untouched by errors */
}

static int oracle(const char *s, long long min, long long max, long long *ret)
{
	char *end;

	if (*s == '+' || isspace((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	*ret = strtoll(s, &end, 10);
	if (end == s || *end)
		return -EINVAL;
	return errno == ERANGE || *ret < min || *ret > max ? -ERANGE : 0;
}

static void numbers_against_strtoll(void **state)
{
	static const char alphabet[] = "00112233445566778899--+ x.";
	unsigned i, j;

	srandom(4);
	for (i = 0; i < 200000; i++) {
		char s[24];
		unsigned len = (unsigned)random() % (sizeof(s) - 1);
		long long a = 0, b = 0, min = -(random() % 100000), max = random();
		int r;

		for (j = 0; j < len; j++) /* mostly digits, else nothing long would ever parse */
			s[j] = random() % 16 ? (char)('0' + random() % 10)
					     : alphabet[random() % (sizeof(alphabet) - 1)];
		s[len] = 0;
		if (random() % 4 == 0) {
			min = LLONG_MIN;
			max = LLONG_MAX;
		}
		r = text_number(s, min, max, &a);
		if (r != oracle(s, min, max, &b) || (!r && a != b))
			fail_msg("\"%s\" in [%lld, %lld]: %d, %lld; strtoll says %lld", s, min, max, r, a, b);
	}
}

static void growing(void **state)
{
	char *plain = calloc(1, 1 << 20);
	struct text t = {0};
	size_t len = 0;
	unsigned i;

	srandom(5);
	text_free(&t); /* an empty one */
	for (i = 0; i < 3000; i++) {
		int width = (int)random() % 300;

		if (random() % 2) {
			text_add(&t, "%u:%*s;", i, width, "x");
			len += (size_t)snprintf(plain + len, (1 << 20) - len, "%u:%*s;", i, width, "x");
		} else {
			text_add_bytes(&t, "a\0b", 3);
			memcpy(plain + len, "a\0b", 3);
			len += 3;
		}
		assert_int_equal(t.len, len);
		assert_int_equal(t.data[t.len], 0);
		assert_true(t.size > t.len);
	}
	assert_memory_equal(t.data, plain, len);
	text_free(&t);
	assert_null(t.data);
	free(plain);
}

static void growing_nothing(void **state)
{
	struct text t = {0};

	text_add(&t, "%s", "");
	assert_string_equal(t.data, "");
	text_add_bytes(&t, NULL, 0);
	assert_int_equal(t.len, 0);
	text_free(&t);
}

/* Exactly full, one less, one more. */
static void growing_at_the_edge(void **state)
{
	int i;

	for (i = 60; i < 70; i++) {
		struct text t = {0};

		text_add_bytes(&t, "", 0);
		text_add(&t, "%*s", i, "");
		assert_int_equal(t.len, i);
		assert_int_equal(strlen(t.data), i);
		text_free(&t);
	}
}

static void utf8(void **state)
{
	static const struct {
		const char *s;
		size_t is;
	} all[] = {
		{"a", 1},	      {"", 1},		    {"\x7f", 1},	      {"\x80", 0},
		{"\xc1\xbf", 0},      {"\xc2\x80", 2},      {"\xdf\xbf", 2},      {"\xdf", 0},
		{"\xdf\x7f", 0},      {"\xe0\x9f\xbf", 0},  {"\xe0\xa0\x80", 3},  {"\xed\x9f\xbf", 3},
		{"\xed\xa0\x80", 0},  {"\xef\xbf\xbf", 3},  {"\xef\xbf", 0},      {"\xf0\x8f\xbf\xbf", 0},
		{"\xf0\x90\x80\x80", 4}, {"\xf4\x8f\xbf\xbf", 4}, {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0},
	};

	for (size_t i = 0; i < array_size(all); i++)
		if (text_utf8(all[i].s) != all[i].is)
			fail_msg("row %zu: %zu", i, text_utf8(all[i].s));
}

static void guesses(void **state)
{
	static const char *const names[] = {"status", "pods", "policy", "splice", "reasons", "ip"};
	static const struct {
		const char *word, *meant;
	} all[] = {
		{"stauts", "status"}, {"stat", "status"}, {"st", NULL},	   {"pod", "pods"}, {"polcy", "policy"},
		{"spl", "splice"},    {"xyz", NULL},	  {"podx", "pods"}, {"ipx", "ip"},  {"nothing", NULL},
	};

	for (size_t i = 0; i < array_size(all); i++) {
		struct text_guess g = {.word = all[i].word};

		for (size_t n = 0; n < array_size(names); n++)
			text_guess(&g, names[n]);
		if (!text_equal(g.meant, all[i].meant))
			fail_msg("%s: %s", all[i].word, g.meant);
	}
	assert_string_equal(text_plural(1), "");
	assert_string_equal(text_plural(0), "s");
	assert_string_equal(text_plural(2), "s");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digits),
		cmocka_unit_test(equal),
		cmocka_unit_test(starts_and_ends),
		cmocka_unit_test(copy),
		cmocka_unit_test(distance),
		cmocka_unit_test(guesses),
		cmocka_unit_test(utf8),
		cmocka_unit_test(copy_reads_no_further),
		cmocka_unit_test(numbers),
		cmocka_unit_test(numbers_against_strtoll),
		cmocka_unit_test(growing),
		cmocka_unit_test(growing_nothing),
		cmocka_unit_test(growing_at_the_edge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
