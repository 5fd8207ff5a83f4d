/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks: zeroed, lent once, the same after they were packed, and without memory meanwhile (mincore() tells). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "pages.h"

#define MANY 300

/* Of larger pages nothing is given back. */
static bool machine_has(void)
{
	return sysconf(_SC_PAGESIZE) == PAGES_SIZE;
}

static bool is_zero(const uint8_t *block)
{
	for (unsigned i = 0; i < PAGES_BLOCK; i++)
		if (block[i])
			return false;
	return true;
}

/* Pages of it that are memory. */
static unsigned resident(void *block)
{
	unsigned char there[PAGES_BLOCK / PAGES_SIZE] = {1, 1, 1};

	if (machine_has())
		assert_int_equal(mincore(block, PAGES_BLOCK, there), 0);
	return (there[0] & 1u) + (there[1] & 1u) + (there[2] & 1u);
}

static void zeroed_aligned_and_each_lent_once(void **state)
{
	struct pages p = {0};
	uint8_t *block[MANY];

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < MANY; i++) {
			block[i] = pages_take(&p);
			assert_int_equal((uintptr_t)block[i] % PAGES_SIZE, 0);
			assert_true(is_zero(block[i]));
			memset(block[i], 1 + (int)(i % 255), PAGES_BLOCK);
		}
		assert_int_equal(p.lent, MANY);
		for (unsigned i = 0; i < MANY; i++)
			assert_true(block[i][0] == 1 + i % 255 && block[i][PAGES_BLOCK - 1] == 1 + i % 255);
		for (unsigned i = 0; i < MANY; i++)
			pages_give(&p, block[(i + round * 7) % MANY]);
		assert_int_equal(p.lent, 0);
	}
	pages_free(&p);
	pages_free(&p);
}

static void check_packed(uint8_t *block, bool want)
{
	static uint8_t was[PAGES_BLOCK];
	struct pages_image *image;

	memcpy(was, block, PAGES_BLOCK);
	image = pages_pack(block);
	assert_int_equal(image != NULL, want && machine_has());
	if (image) {
		assert_int_equal(resident(block), 0);
		pages_unpack(block, image);
	}
	assert_memory_equal(block, was, PAGES_BLOCK);
}

static void the_same_after_it_was_packed(void **state)
{
	struct pages p = {0};
	uint8_t *block = pages_take(&p);
	unsigned i;

	check_packed(block, true); /* nothing but zeros */
	for (i = 0; i < PAGES_BLOCK; i += 8 * 61 + 1) {
		block[i] = 0x80; /* a byte, wherever it stands in its word */
		check_packed(block, true);
	}
	block[PAGES_BLOCK - 1] = 1;
	check_packed(block, true);
	for (i = 0; i < 1000; i++) { /* what random writes make of it, until there is too much */
		((uint64_t *)block)[random() % (PAGES_BLOCK / 8)] = (uint64_t)random() * (uint64_t)random();
		if (i % 100 == 0)
			check_packed(block, true);
	}
	memset(block, 1, PAGES_BLOCK / 2);
	memset(block + PAGES_BLOCK / 2, 0, PAGES_BLOCK / 2);
	check_packed(block, true);
	block[PAGES_BLOCK - 8] = 1;
	check_packed(block, false);
	pages_give(&p, block);
	pages_free(&p);
}

/* Those that nobody has keep no memory. */
static void given_back(void **state)
{
	struct pages p = {0};
	uint8_t *block[MANY];
	unsigned there = 0;

	for (unsigned i = 0; i < MANY; i++)
		memset(block[i] = pages_take(&p), 1, PAGES_BLOCK);
	for (unsigned i = 0; i < MANY; i++)
		pages_give(&p, block[i]);
	for (unsigned i = 0; i < MANY; i++)
		there += resident(block[i]);
	assert_int_equal(there, machine_has() ? 0 : 3 * MANY);
	pages_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_aligned_and_each_lent_once),
		cmocka_unit_test(the_same_after_it_was_packed),
		cmocka_unit_test(given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
