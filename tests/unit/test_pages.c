/* SPDX-License-Identifier: Apache-2.0 */
/* Pages: zeroed, lent once, and without memory where they say so (mincore() tells). */
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

static bool is_zero(const uint8_t *page)
{
	for (unsigned i = 0; i < PAGES_SIZE; i++)
		if (page[i])
			return false;
	return true;
}

static bool resident(void *page)
{
	unsigned char there = 0xff;

	if (machine_has())
		assert_int_equal(mincore(page, PAGES_SIZE, &there), 0);
	return there & 1;
}

static void zeroed_aligned_and_each_lent_once(void **state)
{
	struct pages p = {0};
	uint8_t *page[MANY];

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < MANY; i++) {
			page[i] = pages_take(&p);
			assert_int_equal((uintptr_t)page[i] % PAGES_SIZE, 0);
			assert_true(is_zero(page[i]));
			memset(page[i], 1 + (int)(i % 255), PAGES_SIZE);
		}
		assert_int_equal(p.lent, MANY);
		for (unsigned i = 0; i < MANY; i++)
			assert_true(page[i][0] == 1 + i % 255 && page[i][PAGES_SIZE - 1] == 1 + i % 255);
		for (unsigned i = 0; i < MANY; i++)
			pages_give(&p, page[(i + round * 7) % MANY]);
		assert_int_equal(p.lent, 0);
	}
	pages_free(&p);
	pages_free(&p);
}

/* Nothing but zeros is given back: one byte anywhere keeps it. */
static void rest_changes_nothing(void **state)
{
	struct pages p = {0};
	uint8_t *page = pages_take(&p);

	for (unsigned i = 0; i < PAGES_SIZE; i++) {
		page[i] = 0x80;
		assert_false(pages_rest(page));
		assert_int_equal(page[i], 0x80);
		page[i] = 0;
	}
	assert_true(resident(page));
	assert_int_equal(pages_rest(page), machine_has());
	assert_int_equal(resident(page), !machine_has());
	assert_true(is_zero(page));
	page[17] = 1;
	assert_true(resident(page));
	assert_false(pages_rest(page));
	pages_give(&p, page);
	pages_free(&p);
}

/* Those that nobody has keep no more memory than a few. */
static void given_back(void **state)
{
	struct pages p = {0};
	uint8_t *page[MANY];
	unsigned there = 0;

	for (unsigned i = 0; i < MANY; i++)
		memset(page[i] = pages_take(&p), 1, PAGES_SIZE);
	for (unsigned i = 0; i < MANY; i++)
		pages_give(&p, page[i]);
	for (unsigned i = 0; i < MANY; i++)
		there += resident(page[i]);
	assert_in_range(there, 1, machine_has() ? 64 : MANY);
	pages_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_aligned_and_each_lent_once),
		cmocka_unit_test(rest_changes_nothing),
		cmocka_unit_test(given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
