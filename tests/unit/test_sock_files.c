// SPDX-License-Identifier: Apache-2.0
/* Descriptors that are not for connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "stream.h"

static void test_the_last_eighth(void **state)
{
	struct rlimit r;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
	r.rlim_cur = 400;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	assert_false(sock_is_last(349));
	assert_true(sock_is_last(350));
	assert_true(sock_is_last(399));
	assert_false(sock_is_last(-1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_last_eighth)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
