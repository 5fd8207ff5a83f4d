/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that wait, against one long array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "buf.h"

static void empty_holds_nothing(void **state)
{
	struct buf_pool pool;
	struct buf b = {0};
	struct iovec iov[2];

	buf_pool_init(&pool, 4);
	assert_int_equal(buf_peek(&b, iov, 2), 0);
	buf_add(&b, &pool, "", 0);
	buf_consume(&b, &pool, 0);
	buf_clear(&b, &pool);
	assert_int_equal(pool.lent, 0);
	assert_int_equal(pool.kept, 0);
	buf_pool_free(&pool);
}

static void chunks_come_back_and_some_are_kept(void **state)
{
	static const uint8_t bytes[5 * BUF_CHUNK];
	struct buf_pool pool;
	struct buf b = {0};

	buf_pool_init(&pool, 2);
	buf_add(&b, &pool, bytes, sizeof(bytes));
	assert_int_equal(b.len, sizeof(bytes));
	assert_int_equal(pool.lent, 5);
	buf_consume(&b, &pool, 1);
	assert_int_equal(pool.lent, 5);
	buf_consume(&b, &pool, BUF_CHUNK - 1);
	assert_int_equal(pool.lent, 4);
	assert_int_equal(pool.kept, 1);
	buf_clear(&b, &pool);
	assert_int_equal(pool.lent, 0);
	assert_int_equal(pool.kept, 2);
	buf_add(&b, &pool, bytes, 1);
	assert_int_equal(pool.kept, 1);
	buf_clear(&b, &pool);
	buf_pool_free(&pool);
	assert_int_equal(pool.kept, 0);
}

static void a_few_at_a_time(void **state)
{
	static const uint8_t bytes[3 * BUF_CHUNK];
	struct buf_pool pool;
	struct buf b = {0};
	struct iovec iov[4];

	buf_pool_init(&pool, 0);
	buf_add(&b, &pool, bytes, sizeof(bytes));
	buf_consume(&b, &pool, 100);
	assert_int_equal(buf_peek(&b, iov, 2), 2);
	assert_int_equal(iov[0].iov_len, BUF_CHUNK - 100);
	assert_int_equal(iov[1].iov_len, BUF_CHUNK);
	assert_int_equal(buf_peek(&b, iov, 4), 3);
	buf_clear(&b, &pool);
	buf_pool_free(&pool);
}

/* Adds and consumes at random; what is there must be what an array says. */
static void as_an_array(void **state)
{
	enum { ALL = 2000000, MOST = 70000 };
	uint8_t *bytes = malloc(ALL), *out = malloc(ALL);
	struct buf_pool pool;
	struct buf b = {0};
	struct iovec iov[16];
	size_t in = 0, taken = 0, i;

	srandom(1);
	buf_pool_init(&pool, 3);
	for (i = 0; i < ALL; i++)
		bytes[i] = (uint8_t)random();
	while (taken < ALL) {
		size_t add = (size_t)random() % MOST, want = (size_t)random() % MOST, left;
		unsigned n, k;

		if (add > ALL - in)
			add = ALL - in;
		buf_add(&b, &pool, bytes + in, add);
		in += add;
		if (want > b.len)
			want = b.len;
		n = buf_peek(&b, iov, array_size(iov));
		for (k = 0, left = want; k < n && left; k++) {
			size_t part = iov[k].iov_len < left ? iov[k].iov_len : left;

			memcpy(out + taken + want - left, iov[k].iov_base, part);
			left -= part;
		}
		want -= left; /* more chunks than we looked at */
		buf_consume(&b, &pool, want);
		taken += want;
		assert_int_equal(b.len, in - taken);
		assert_true(pool.lent <= b.len / BUF_CHUNK + 2 || b.len == 0);
	}
	assert_memory_equal(bytes, out, ALL);
	assert_int_equal(pool.lent, 0);
	buf_pool_free(&pool);
	free(bytes);
	free(out);
}

/* Many who keep all that they may take leave something for each other; and nobody is refused a little. */
static void a_share_for_each(void **state)
{
	const size_t want = 257 * 1024;
	struct buf_pool pool;
	unsigned i;

	buf_pool_init(&pool, 0);
	pool.lent = 1 << 20;
	assert_int_equal(buf_share(&pool, want), want);
	pool.lent = 0;
	pool.most = 16384; /* 256 MiB */
	assert_int_equal(buf_share(&pool, want), want);
	assert_int_equal(buf_share(&pool, 1), 1);
	for (i = 0; i < 1500; i++) {
		size_t share = buf_share(&pool, want);

		assert_true(share >= BUF_CHUNK / 2 && (i > 500 || share == want));
		pool.lent += (share + BUF_CHUNK - 1) / BUF_CHUNK;
	}
	assert_true(pool.lent < pool.most);
	pool.lent = 2 * pool.most;
	assert_int_equal(buf_share(&pool, want), BUF_CHUNK / 2);
	assert_int_equal(buf_share(&pool, 100), 100);
	pool.lent = 0;
	buf_pool_free(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_holds_nothing),
		cmocka_unit_test(chunks_come_back_and_some_are_kept),
		cmocka_unit_test(a_few_at_a_time),
		cmocka_unit_test(as_an_array),
		cmocka_unit_test(a_share_for_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
