/* SPDX-License-Identifier: Apache-2.0 */
/* Strings; numbers against strtoll; growing text against a plain buffer. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal),
		cmocka_unit_test(starts_and_ends),
		cmocka_unit_test(copy),
		cmocka_unit_test(copy_reads_no_further),
		cmocka_unit_test(numbers),
		cmocka_unit_test(numbers_against_strtoll),
		cmocka_unit_test(growing),
		cmocka_unit_test(growing_nothing),
		cmocka_unit_test(growing_at_the_edge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
