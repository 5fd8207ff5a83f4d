/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair.h: two struct streams that are each other's peer, in memory: what a transport may do, it does. Bytes come in
 * pieces of any size (`slice`), a full one (`capacity`) takes a part of a write, room() knows all or nothing of it.
 */
#ifndef WEFT_TEST_PAIR_H
#define WEFT_TEST_PAIR_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"

struct pair_end {
	struct stream s;
	struct pair_end *other; /* NULL: it was closed */
	struct buf in;
	struct loop_task tell;
	size_t capacity; /* of `in` */
	size_t slice;	 /* a peek gives at most so many bytes, chosen anew each time; 0: all */
	bool knows_room;
	bool want_read, want_write, other_finished, broken, closing;
	unsigned events;
	uint64_t random;
	unsigned writes; /* calls */
};

static inline uint64_t pair_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	uint64_t z = *state;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline struct pair_end *pair_of(struct stream *s)
{
	return container_of(s, struct pair_end, s);
}

static inline void pair_event(struct pair_end *e, unsigned events)
{
	e->events |= events;
	loop_defer(e->s.thread->loop, &e->tell);
}

static unsigned pair_peek(struct stream *s, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	struct pair_end *e = pair_of(s);
	struct iovec iov[STREAM_RUNS];
	unsigned i, n = e->broken ? 0 : buf_peek(&e->in, iov, STREAM_RUNS);

	if (e->slice) {
		size_t some = 1 + pair_random(&e->random) % e->slice;

		most = most < some ? most : some;
	}
	for (i = 0; i < n && most; i++) {
		size_t len = iov[i].iov_len < most ? iov[i].iov_len : most;

		run[i] = (struct stream_bytes){.data = iov[i].iov_base, .len = len};
		most -= len;
	}
	if (!n) {
		e->want_read = true;
		s->ended |= e->other_finished;
	}
	return i;
}

static void pair_consume(struct stream *s, size_t len)
{
	struct pair_end *e = pair_of(s);

	buf_consume(&e->in, &s->thread->pool, len);
	s->read_bytes += len;
	e->want_read |= !len; /* what comes behind them can be seen */
	if (len && e->other && e->other->want_write) {
		e->other->want_write = false;
		pair_event(e->other, STREAM_WRITABLE);
	}
	if (!e->in.len)
		s->ended |= e->other_finished;
}

static size_t pair_space(struct pair_end *e)
{
	if (!e->other || e->broken)
		return SIZE_MAX; /* like a socket: the next write tells */
	return e->other->in.len < e->other->capacity ? e->other->capacity - e->other->in.len : 0;
}

static size_t pair_room(struct stream *s)
{
	struct pair_end *e = pair_of(s);
	size_t n = pair_space(e);

	if (!n)
		e->want_write = true;
	return n && !e->knows_room ? SIZE_MAX : n;
}

static size_t pair_write(struct stream *s, const struct stream_bytes *run, unsigned runs)
{
	struct pair_end *e = pair_of(s), *to = e->other;
	size_t space = pair_space(e), took = 0;
	bool short_of = false;
	unsigned i;

	assert(runs <= STREAM_RUNS && !s->finished);
	e->writes++;
	for (i = 0; i < runs && !short_of; i++) {
		size_t n = run[i].len < space ? run[i].len : space;

		if (to && !e->broken)
			buf_add(&to->in, &s->thread->pool, run[i].data, n);
		took += n;
		space -= n;
		short_of = n < run[i].len;
	}
	if (short_of)
		e->want_write = true;
	if (took && to && to->want_read) {
		to->want_read = false;
		pair_event(to, STREAM_READABLE);
	}
	s->written_bytes += took;
	return took;
}

static void pair_finish(struct stream *s)
{
	struct pair_end *to = pair_of(s)->other;

	if (!to)
		return;
	to->other_finished = true;
	to->want_read = false;
	pair_event(to, STREAM_READABLE);
}

static inline void pair_break(struct pair_end *e)
{
	e->broken = true;
	e->s.why = "reset by peer";
	pair_event(e, STREAM_FAILED);
}

static void pair_close(struct stream *s, const char *why)
{
	struct pair_end *e = pair_of(s);

	if (e->other) {
		e->other->other = NULL;
		if (why)
			pair_break(e->other);
		else
			pair_finish(s), e->other->other_finished = true, pair_event(e->other, STREAM_READABLE);
	}
	e->other = NULL;
	s->ready = NULL;
	e->closing = true;
	loop_defer(s->thread->loop, &e->tell);
}

static void pair_tell(struct loop_task *task)
{
	struct pair_end *e = container_of(task, struct pair_end, tell);
	unsigned events = e->broken ? STREAM_FAILED : e->events;

	e->events = 0;
	if (e->closing) {
		buf_clear(&e->in, &e->s.thread->pool);
		free(e);
	} else if (events && e->s.ready) {
		e->s.ready(&e->s, events);
	}
}

static inline void pair_make(struct thread *t, struct pair_end *ret[2], size_t capacity, size_t slice, uint64_t seed)
{
	static const struct stream_ops ops = {
		.peek = pair_peek,
		.consume = pair_consume,
		.room = pair_room,
		.write = pair_write,
		.finish = pair_finish,
		.close = pair_close,
	};
	int i;

	for (i = 0; i < 2; i++) {
		ret[i] = mem_alloc(sizeof(*ret[i]));
		ret[i]->s.ops = &ops;
		ret[i]->s.thread = t;
		ret[i]->capacity = capacity;
		ret[i]->slice = slice;
		ret[i]->random = seed + (uint64_t)i;
		ret[i]->want_read = true;
		ret[i]->tell.run = pair_tell;
	}
	ret[0]->other = ret[1];
	ret[1]->other = ret[0];
}

#endif
