/* SPDX-License-Identifier: Apache-2.0 */
/* The hash table against an array that is searched from end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "../../userspace/base/table_wide.h"
#include "base.h"

struct thing {
	unsigned key;
	bool in, seen;
	struct table_link link;
};

static struct thing *of(struct table_link *l)
{
	return container_of(l, struct thing, link);
}

static struct thing *find(const struct table *t, unsigned key, uint64_t hash)
{
	struct table_link *l;

	for (l = table_first(t, hash); l; l = table_next_same(l))
		if (of(l)->key == key)
			return of(l);
	return NULL;
}

static void empty(void **state)
{
	struct table t = {0};
	struct table_link stray = {0};

	assert_null(table_first(&t, 0));
	assert_null(table_walk(&t, NULL));
	table_del(&t, &stray);
	table_free(&t);
	assert_int_equal(t.count, 0);
}

/* `spread` hashes: few of them make long chains of equal hashes. */
static void against_array(unsigned spread)
{
	enum { THINGS = 2000,
	       STEPS = 60000 };
	struct thing *thing = calloc(THINGS, sizeof(*thing));
	size_t step, i, in = 0;
	struct table t = {0};

	for (i = 0; i < THINGS; i++)
		thing[i].key = (unsigned)i;
	for (step = 0; step < STEPS; step++) {
		struct thing *x = &thing[(unsigned)random() % THINGS], *found;
		uint64_t hash = spread ? x->key % spread : table_hash(&x->key, sizeof(x->key));

		found = find(&t, x->key, hash);
		assert_ptr_equal(found, x->in ? x : NULL);
		/* Waves: mostly in, then mostly out. */
		if (x->in && random() % 8 < (step / 10000 % 2 ? 6 : 2)) {
			table_del(&t, &x->link);
			x->in = false;
			in--;
		} else if (!x->in) {
			table_add(&t, &x->link, hash);
			x->in = true;
			in++;
		}
		assert_int_equal(t.count, in);
		assert_true(t.buckets >= t.count);
	}
	for (struct table_link *l = table_walk(&t, NULL); l; l = table_walk(&t, l)) {
		assert_true(of(l)->in);
		assert_false(of(l)->seen);
		of(l)->seen = true;
	}
	for (i = 0; i < THINGS; i++)
		assert_int_equal(thing[i].seen, thing[i].in);
	table_free(&t);
	free(thing);
}

static void random_steps(void **state)
{
	srandom(2);
	against_array(0);
}

static void random_steps_with_collisions(void **state)
{
	srandom(3);
	against_array(1);
	against_array(7);
}

static void walk_may_remove_the_current(void **state)
{
	struct thing thing[100] = {0};
	struct table_link *l, *next;
	struct table t = {0};
	unsigned i, gone = 0;

	for (i = 0; i < 100; i++)
		table_add(&t, &thing[i].link, table_hash(&i, sizeof(i)));
	for (l = table_walk(&t, NULL); l; l = next) {
		next = table_walk(&t, l);
		table_del(&t, l);
		memset(of(l), 0xff, sizeof(struct thing)); /* as if freed */
		gone++;
	}
	assert_int_equal(gone, 100);
	assert_int_equal(t.count, 0);
	table_free(&t);
}

static void removing_a_stranger_does_nothing(void **state)
{
	struct thing a = {0}, b = {0};
	struct table t = {0};

	table_add(&t, &a.link, 5);
	b.link.hash = 5;
	table_del(&t, &b.link);
	assert_int_equal(t.count, 1);
	assert_ptr_equal(table_first(&t, 5), &a.link);
	table_free(&t);
}

static void hash_uses_all_bytes(void **state)
{
	unsigned char key[600] = {0};
	uint64_t zero = table_hash(key, sizeof(key));
	size_t i;

	assert_int_equal(zero, table_hash(key, sizeof(key)));
	assert_int_not_equal(zero, table_hash(key, sizeof(key) - 1));
	for (i = 0; i < sizeof(key); i++) {
		key[i] = 1;
		assert_int_not_equal(zero, table_hash(key, sizeof(key)));
		key[i] = 0;
	}
}

/* In steps of 16 bytes or of 32, by what the CPU can: the same number. */
static void long_keys_are_hashed_alike_everywhere(void **state)
{
	char key[3000];
	uint64_t seed = 7;

	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (char)(i * i >> 3);
	for (size_t len = TABLE_WIDE_MIN; len <= sizeof(key); len++)
		assert_int_equal(TABLE_WIDE ? table_wide(key, len, seed) : XXH3_64bits_withSeed(key, len, seed),
				 XXH3_64bits_withSeed(key, len, seed));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty),
		cmocka_unit_test(random_steps),
		cmocka_unit_test(random_steps_with_collisions),
		cmocka_unit_test(walk_may_remove_the_current),
		cmocka_unit_test(removing_a_stranger_does_nothing),
		cmocka_unit_test(hash_uses_all_bytes),
		cmocka_unit_test(long_keys_are_hashed_alike_everywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
