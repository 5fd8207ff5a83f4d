/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces: zeroed, each lent once, and without memory when the last of their block was given (mincore() tells). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "slab.h"

#define MANY 500
#define SIZE 264

static uint64_t seed = 7;

static unsigned draw(unsigned below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(seed >> 33) % below;
}

static void check_is(const uint8_t *piece, uint8_t what)
{
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(piece[i], what);
}

static void zeroed_and_each_lent_once(void **state)
{
	struct pages p = {0};
	struct slab s = {0};
	uint8_t *piece[MANY] = {NULL};

	for (unsigned i = 0; i < 20 * MANY; i++) {
		unsigned k = draw(MANY);

		if (piece[k]) {
			check_is(piece[k], (uint8_t)(1 + k % 255));
			slab_give(&s, &p, piece[k]);
			piece[k] = NULL;
			continue;
		}
		piece[k] = slab_take(&s, &p, SIZE);
		assert_int_equal((uintptr_t)piece[k] % 8, 0);
		check_is(piece[k], 0);
		memset(piece[k], 1 + (int)(k % 255), SIZE);
	}
	for (unsigned k = 0; k < MANY; k++)
		if (piece[k])
			slab_give(&s, &p, piece[k]);
	slab_end(&s, &p);
	pages_free(&p); /* asserts that nothing is lent */
}

static bool is_memory(const void *at)
{
	unsigned char there = 1;

	assert_int_equal(mincore((void *)((uintptr_t)at & ~(uintptr_t)(PAGES_SIZE - 1)), PAGES_SIZE, &there), 0);
	return there & 1u;
}

static void goes_back_to_the_machine(void **state)
{
	struct pages p = {0};
	struct slab s = {0};
	void *piece[MANY], *last;
	unsigned lent, there = 0;

	for (unsigned i = 0; i < MANY; i++)
		piece[i] = slab_take(&s, &p, SIZE);
	lent = p.lent;
	assert_in_range(lent, MANY * SIZE / PAGES_BLOCK, MANY * SIZE / PAGES_BLOCK + 2);
	for (unsigned i = 0; i < MANY; i++)
		slab_give(&s, &p, piece[i]);
	assert_int_equal(p.lent, 1); /* kept */
	for (unsigned i = 0; i < MANY; i++)
		there += is_memory(piece[i]);
	if (sysconf(_SC_PAGESIZE) == PAGES_SIZE)
		assert_true(there < MANY / 4);
	last = slab_take(&s, &p, SIZE); /* the kept one */
	assert_int_equal(p.lent, 1);
	slab_give(&s, &p, last);
	slab_end(&s, &p);
	pages_free(&p);
}

/* A few that stay do not keep what comes and goes from being given back. */
static void the_fuller_block_first(void **state)
{
	struct pages p = {0};
	struct slab s = {0};
	void *piece[MANY], *more;
	unsigned lent;

	for (unsigned i = 0; i < MANY; i++)
		piece[i] = slab_take(&s, &p, SIZE);
	for (unsigned i = 0; i < MANY; i++)
		if (i % 100)
			slab_give(&s, &p, piece[i]);
	lent = p.lent;
	assert_in_range(lent, 2, 6);
	for (unsigned i = 0; i < MANY; i++) { /* nothing new is needed for one after the other */
		more = slab_take(&s, &p, SIZE);
		slab_give(&s, &p, more);
	}
	assert_int_equal(p.lent, lent);
	for (unsigned i = 0; i < MANY; i += 100)
		slab_give(&s, &p, piece[i]);
	slab_end(&s, &p);
	pages_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_and_each_lent_once),
		cmocka_unit_test(goes_back_to_the_machine),
		cmocka_unit_test(the_fuller_block_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
