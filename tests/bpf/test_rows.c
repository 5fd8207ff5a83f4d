/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of `addresses` that are read while the worker replaces them, and the kernel gives the memory of the one to the
 * next. Readers take cells of such a table as decide_row() says; whoever takes the first thing he reads is shown to be
 * wrong beside it.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "decide.h"

#define KEYS 3
#define ENOUGH 50 /* wrong rows, before the test has shown what it is to show */
#define LONGEST_S 60

/* Like the kernel's: one cell more than rows, so what a row has left is the next row's at once. */
static struct abi_address cell[KEYS + 1];
static _Atomic(struct abi_address *) at[KEYS];
static atomic_bool over;

static struct abi_address row_of(unsigned key, __u32 policy)
{
	return (struct abi_address){.netns = 1000 + key,
				    .identity = 100 + key,
				    .pod = 10 + key,
				    .policy = policy * KEYS + key,
				    .kind = ABI_KIND_LOCAL_POD + key};
}

static int is_of(const struct abi_address *a, unsigned key)
{
	return a->netns == 1000 + key && a->identity == 100 + key && a->pod == 10 + key && a->policy % KEYS == key &&
	       a->kind == ABI_KIND_LOCAL_POD + key && !a->flags;
}

static void *writes(void *arg)
{
	struct abi_address *spare = &cell[KEYS];

	for (__u32 i = 1; !atomic_load(&over); i++) {
		struct abi_address row = row_of(i % KEYS, i);
		volatile __u64 *to = (volatile __u64 *)spare;
		__u64 from[3];

		memcpy(from, &row, sizeof(from));
		for (int w = 0; w < 3; w++)
			to[w] = from[w];
		spare = atomic_exchange(&at[i % KEYS], spare);
	}
	return NULL;
}

static void rows_that_are_replaced(void **state)
{
	unsigned long settled = 0, raw_wrong = 0, never = 0;
	time_t until = time(NULL) + LONGEST_S;
	pthread_t writer;

	for (unsigned k = 0; k < KEYS; k++) {
		cell[k] = row_of(k, 0);
		atomic_store(&at[k], &cell[k]);
	}
	assert_int_equal(pthread_create(&writer, NULL, writes, NULL), 0);
	for (unsigned long i = 0; (raw_wrong < ENOUGH || settled < ENOUGH) && (i & 1023 || time(NULL) < until); i++) {
		struct decide_row_looks looks = {0};
		int done = 0;

		for (int n = 0; !done && n < ADDRESS_LOOKS; n++) {
			done = decide_row(&looks, atomic_load(&at[i % KEYS]));
			raw_wrong += !n && !is_of(&looks.said, i % KEYS);
		}
		settled += done;
		never += !done;
		if (done && !is_of(&looks.said, i % KEYS))
			fail_msg("key %lu was told netns %llu, identity %u, pod %u", i % KEYS, looks.said.netns,
				 looks.said.identity, looks.said.pod);
	}
	atomic_store(&over, true);
	pthread_join(writer, NULL);
	print_message("%lu settled, %lu never did, %lu first looks were wrong\n", settled, never, raw_wrong);
	assert_true(settled >= ENOUGH);
	assert_true(raw_wrong > 0);
}

/* Looks that are told beforehand, against the law: two that agree, or ROW_LOOKS that find nothing. */
static void looks_by_the_law(void **state)
{
	__u64 seed = 7;

	for (int round = 0; round < 200000; round++) {
		struct decide_row_looks looks = {0};
		struct abi_address last = {0};
		unsigned missing = 0;

		for (int n = 0; n < ADDRESS_LOOKS; n++) {
			struct abi_address row;
			int found, expected, done;

			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			found = seed >> 33 & 1;
			row = row_of(0, seed >> 40 & 1);
			row.flags = seed >> 50 & 1;
			expected = found ? !memcmp(&row, &last, sizeof(row)) : ++missing == ROW_LOOKS;
			done = decide_row(&looks, found ? &row : NULL);
			assert_int_equal(done, expected);
			if (found)
				last = row;
			else if (done)
				memset(&last, 0, sizeof(last));
			if (done) {
				assert_memory_equal(&looks.said, &last, sizeof(last));
				break;
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_that_are_replaced),
		cmocka_unit_test(looks_by_the_law),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
