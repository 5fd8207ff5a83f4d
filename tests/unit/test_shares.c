// SPDX-License-Identifier: Apache-2.0
/* Who gives way when descriptors run out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "sockets.h"

#define FILES 350 /* that connections may have */
#define TIGHT 307 /* the last eighth of them */

static void hold(uint64_t netns, unsigned n)
{
	while (n--)
		shares_hold(thread, shares_pod(netns));
}

static void let_go(uint64_t netns, unsigned n)
{
	while (n--)
		shares_let_go(thread, shares_pod(netns));
}

static bool over(int fd, uint64_t netns)
{
	return shares_over(thread, fd, shares_pod(netns));
}

static void pass(uint64_t ms)
{
	uint64_t begins = clock_ns();

	while (clock_ns() - begins < ms * MS)
		turn(MS);
}

static void test_who_holds_most(void **state)
{
	hold(1, 200);
	hold(2, 101);
	hold(3, 100);
	hold(4, FILES / SHARES_PART - 1);
	/* there is room yet */
	for (uint64_t i = 1; i <= 5; i++)
		assert_false(over(TIGHT - 1, i) || over(-1, i));
	assert_false(shares_scarce(thread));
	assert_true(over(TIGHT, 1) && over(TIGHT, 2));
	assert_false(over(TIGHT, 3) || over(TIGHT, 4) || over(FILES - 1, 5));
	/* for a while also what somebody has just given back */
	assert_true(shares_scarce(thread));
	assert_true(over(10, 1) && over(-1, 2));
	assert_false(over(10, 3) || over(-1, 5));
	let_go(1, 200);
	pass(20);
	assert_false(over(10, 2) || shares_scarce(thread)); /* so many have gone */
	assert_true(over(TIGHT, 2) && over(TIGHT, 3)); /* now they hold most */
	assert_false(over(TIGHT, 1) || over(TIGHT, 4));
	let_go(2, 101);
	let_go(3, 100);
	pass(20);
	assert_false(over(TIGHT, 4)); /* who holds so little takes nothing from others */
	let_go(4, FILES / SHARES_PART - 1);
}

static void test_it_passes(void **state)
{
	hold(1, 100);
	assert_true(over(TIGHT, 1));
	pass(1020);
	assert_false(over(10, 1) || shares_scarce(thread));
	let_go(1, 100);
}

static void test_places(void **state)
{
	static const struct {
		const char *a, *b;
		bool one;
	} rows[] = {
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"2001:db8::1", "2001:db8::ffff:2", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"10.0.0.1", "::1", false},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct abi_addr a, b;

		assert_int_equal(addr_parse(rows[i].a, &a), 0);
		assert_int_equal(addr_parse(rows[i].b, &b), 0);
		assert_int_equal(shares_stranger(&a) == shares_stranger(&b), rows[i].one);
	}
}

static int few(void **state)
{
	struct rlimit r;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
	r.rlim_cur = 400;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	assert_int_equal(sock_files(), FILES);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_holds_most, setup, teardown),
		cmocka_unit_test_setup_teardown(test_it_passes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places, setup, teardown),
	};

	return cmocka_run_group_tests(tests, few, NULL);
}
