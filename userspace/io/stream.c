/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c: what waits in a queue, lent to who reads and given to who takes; and from one stream to another. */
#include "stream.h"

#define PUMP_BYTES THREAD_SCRATCH /* in one go, at most */
#define PUMP_TURNS 4		  /* goes, before others have theirs */

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
		if (took < all && (!took || !stream_room(to))) /* whole records may have been taken: is it full? */
			return false;
	}
	return true;
}

/* To say that this was all needs no room: who can hear of it for nothing does, since it may be all that is to come. */
static enum stream_pump no_room(struct stream *in, const struct stream *out)
{
	struct stream_bytes run[STREAM_RUNS];

	if (in->windowed && out->windowed && stream_peek(in, run, 1))
		stream_consume(in, 0);
	return in->ended && !out->finished ? STREAM_PUMP_ENDED : STREAM_PUMP_WAITS;
}

enum stream_pump stream_pump_heard(struct stream *in, struct stream *out, uint64_t *count,
				   void (*hear)(void *ctx, const struct stream_bytes *run, size_t len), void *ctx)
{
	size_t most = stream_share(in, PUMP_BYTES);
	struct stream_bytes run[STREAM_RUNS];

	for (unsigned i = 0; i < (most < PUMP_BYTES ? 1 : PUMP_TURNS); i++) {
		size_t room = stream_room(out), took;
		unsigned runs;

		if (!room)
			return no_room(in, out);
		runs = stream_peek(in, run, room < most ? room : most);
		if (!runs)
			return in->ended && !out->finished ? STREAM_PUMP_ENDED : STREAM_PUMP_WAITS;
		out->last = in->ends_after;
		took = stream_write(out, run, runs);
		if (hear && took)
			hear(ctx, run, took);
		stream_consume(in, took);
		*count += took;
		if (in->ended && !out->finished)
			return STREAM_PUMP_ENDED;
	}
	return STREAM_PUMP_MORE;
}

enum stream_pump stream_pump(struct stream *in, struct stream *out, uint64_t *count)
{
	return stream_pump_heard(in, out, count, NULL, NULL);
}
