/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c: what waits in a queue, lent to who reads and given to who takes. */
#include "stream.h"

unsigned stream_lend(const struct buf *from, struct stream_bytes run[STREAM_RUNS], size_t most, size_t *ret_len)
{
	struct iovec iov[STREAM_RUNS];
	unsigned n = buf_peek(from, iov, STREAM_RUNS), i;
	size_t all = 0;

	for (i = 0; i < n && all < most; i++) {
		size_t len = iov[i].iov_len < most - all ? iov[i].iov_len : most - all;

		run[i] = (struct stream_bytes){.data = iov[i].iov_base, .len = len};
		all += len;
	}
	*ret_len = all;
	return i;
}

bool stream_drain(struct stream *to, struct buf *from)
{
	while (from->len) {
		struct stream_bytes run[STREAM_RUNS];
		size_t all, took;
		unsigned n = stream_lend(from, run, SIZE_MAX, &all);

		took = stream_write(to, run, n);
		buf_consume(from, &to->thread->pool, took);
		if (took < all)
			return false;
	}
	return true;
}
