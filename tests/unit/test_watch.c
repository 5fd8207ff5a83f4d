/* SPDX-License-Identifier: Apache-2.0 */
/* How long passes of weft_watch wait. What they do is seen on real sockets: tests/bpf, tests/net/test_splice.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "watch.h"

static uint64_t first(uint64_t cost_ns)
{
	return watch_wait(cost_ns, WATCH_FIRST_NS, WATCH_YOUNG_NS);
}

/* Of a node with few sockets it comes at once; of one with many it takes no more of a CPU than it did at 25 ms. */
static void the_first_pass(void **state)
{
	assert_true(first(0) == WATCH_FIRST_NS);
	assert_true(first(50000) == WATCH_FIRST_NS);
	assert_true(first(WATCH_FIRST_NS / WATCH_SHARE) == WATCH_FIRST_NS);
	assert_true(first(200000) == 200000 * WATCH_SHARE);
	assert_true(first(7000000) == WATCH_YOUNG_NS);
	assert_true(first(10000000000) == WATCH_YOUNG_NS);
}

static void those_behind_it(void **state)
{
	assert_true(watch_wait(50000, 2 * WATCH_FIRST_NS, WATCH_YOUNG_MOST_NS) == 2 * WATCH_FIRST_NS);
	assert_true(watch_wait(50000, WATCH_YOUNG_NS, WATCH_YOUNG_MOST_NS) == WATCH_YOUNG_NS);
	assert_true(watch_wait(1000000, WATCH_YOUNG_NS, WATCH_YOUNG_MOST_NS) == 1000000 * WATCH_SHARE);
	assert_true(watch_wait(7000000, WATCH_YOUNG_NS, WATCH_YOUNG_MOST_NS) == WATCH_YOUNG_MOST_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_pass),
		cmocka_unit_test(those_behind_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
