/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers: those of the paper's recurrence, spread over all bits, other ones for each seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base.h"

/* The recurrence worked out by hand from {1, 2}: t = 1 ^ 1 << 23; s1 = t ^ 2 ^ (t >> 18) ^ (2 >> 5); s0 = 2. */
static void recurrence(void **state)
{
	struct random r = {{1, 2}};
	uint64_t t = 1 ^ 1ull << 23, first = t ^ 2 ^ t >> 18;

	assert_true(random_next(&r) == first + 2);
	assert_true(r.s[0] == 2 && r.s[1] == first);
}

static void every_bit_is_one_half_of_the_time(void **state)
{
	enum { TURNS = 20000 };
	struct random r;
	unsigned ones[64] = {0}, i, bit;

	assert_int_equal(random_seed(&r), 0);
	for (i = 0; i < TURNS; i++) {
		uint64_t x = random_next(&r);

		for (bit = 0; bit < 64; bit++)
			ones[bit] += x >> bit & 1;
	}
	for (bit = 0; bit < 64; bit++) /* ten standard deviations of 71 */
		assert_in_range(ones[bit], TURNS / 2 - 710, TURNS / 2 + 710);
}

static void seeds_differ(void **state)
{
	struct random a, b;

	assert_int_equal(random_seed(&a), 0);
	assert_int_equal(random_seed(&b), 0);
	assert_memory_not_equal(&a, &b, sizeof(a));
	assert_true(a.s[0] || a.s[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recurrence),
		cmocka_unit_test(every_bit_is_one_half_of_the_time),
		cmocka_unit_test(seeds_differ),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
