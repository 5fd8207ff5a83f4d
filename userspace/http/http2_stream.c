/* SPDX-License-Identifier: Apache-2.0 */
/* http2_stream.c: one stream of HTTP/2 as a struct stream. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http2_parts.h"

void http2_stream_set_state(struct http2_stream *x, enum http2_state state)
{
	assert(state > x->state); /* life goes one way */
	x->state = (uint8_t)state;
}

/* ------------------------------------------------------------------ events */

void http2_stream_touch(struct http2_stream *x, unsigned events)
{
	if (x->state >= HTTP2_LEFT)
		return;
	x->events |= (uint8_t)events;
	if (list_empty(&x->touched))
		list_add(&x->h->touched, &x->touched);
	http2_settle_later(x->h);
}

void http2_stream_fail(struct http2_stream *x, const char *why)
{
	if (x->state >= HTTP2_LEFT || x->s.why)
		return;
	x->s.why = why;
	x->events = 0;
	list_del(&x->waiting);
	http2_stream_touch(x, STREAM_FAILED);
}

/* ------------------------------------------------------------------ bytes up */

static bool empty(const struct http2_stream *x)
{
	return !x->kept.len && !x->first;
}

void http2_stream_ended(struct http2_stream *x)
{
	if (x->peer_ended)
		return;
	x->peer_ended = true;
	x->s.ended = empty(x);
	http2_stream_touch(x, STREAM_READABLE);
}

void http2_stream_keep(struct http2_stream *x)
{
	while (x->first) {
		struct http2_run *run = &x->h->batch->run[x->first - 1];

		buf_add(&x->kept, &x->h->thread->pool, run->data, run->len);
		x->first = run->next;
	}
	x->last = 0;
}

void http2_stream_take(struct http2_stream *x, uint8_t *data, size_t len, size_t headroom)
{
	struct http2_batch *b = x->h->batch;
	struct http2_run *last = x->last ? &b->run[x->last - 1] : NULL;

	if (x->state >= HTTP2_LEFT || x->s.why)
		return;
	if (last && last->data + last->len == data) {
		last->len += len; /* two slices of one frame */
	} else if (b->runs == HTTP2_BATCH_RUNS) {
		http2_stream_keep(x); /* a swarm of small frames: cheaper as one piece */
		buf_add(&x->kept, &x->h->thread->pool, data, len);
	} else {
		b->run[b->runs++] = (struct http2_run){.data = data, .len = len, .headroom = headroom};
		if (last)
			last->next = b->runs;
		else
			x->first = b->runs;
		x->last = b->runs;
	}
	http2_stream_touch(x, STREAM_READABLE);
}

static unsigned peek(struct stream *s, struct stream_bytes out[STREAM_RUNS], size_t most)
{
	struct http2_stream *x = http2_stream_of(s);
	unsigned at, runs;
	size_t len;

	if (s->why || !most)
		return 0;
	runs = stream_lend(&x->kept, out, most, &len);
	for (at = x->first; at && runs < STREAM_RUNS && len < most; at = x->h->batch->run[at - 1].next) {
		const struct http2_run *run = &x->h->batch->run[at - 1];
		size_t n = run->len < most - len ? run->len : most - len;

		out[runs++] = (struct stream_bytes){.data = run->data, .len = n, .headroom = run->headroom};
		len += n;
	}
	if (!runs)
		x->want_read = true;
	s->ends_after = x->peer_ended && !at && len < most && len >= x->kept.len;
	return runs;
}

/* The window grows only for a reader who has read all. */
static void grow(struct http2_stream *x, size_t len)
{
	struct http2 *h = x->h;
	uint64_t want = (uint64_t)x->window * HTTP2_WINDOW_STEP;
	uint64_t all = h->limit.connection_window / HTTP2_GROWTH, rest = all > h->grown ? all - h->grown : 0;

	x->read_new += (uint32_t)len;
	if (x->read_new < x->window / 2 || !empty(x))
		return;
	x->read_new = 0;
	if (want > h->limit.stream_window)
		want = h->limit.stream_window;
	if (want > x->window + rest / 2) /* half of what is left: there is always some for the next one */
		want = x->window + rest / 2;
	if (want <= x->window)
		return;
	if (nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, x->id, (int32_t)want))
		return;
	h->grown += want - x->window;
	x->window = (uint32_t)want;
}

static void consume(struct stream *s, size_t len)
{
	struct http2_stream *x = http2_stream_of(s);
	struct http2 *h = x->h;
	size_t left = len, n = len < x->kept.len ? len : x->kept.len;

	if (!len) {
		x->want_read = true;
		return;
	}
	if (n)
		buf_consume(&x->kept, &h->thread->pool, n);
	for (left -= n; left; left -= n) {
		struct http2_run *run = &h->batch->run[x->first - 1];

		n = left < run->len ? left : run->len;
		run->data += n;
		run->len -= n;
		if (run->headroom)
			run->headroom += n;
		if (run->len)
			continue;
		x->first = run->next;
		if (!x->first)
			x->last = 0;
	}
	s->read_bytes += len;
	if (x->peer_ended) {
		s->ended = empty(x);
	} else if (!x->gone && !h->over) {
		nghttp2_session_consume_stream(h->session, x->id, len);
		grow(x, len);
		if (nghttp2_session_want_write(h->session))
			http2_settle_later(h);
	}
}

static size_t kept(const struct stream *s)
{
	return buf_kept(&http2_stream_of(s)->kept);
}

/* ------------------------------------------------------------------ bytes down */

/* Of a request that is still to leave: what its stream will have. */
static int32_t peer_window(const struct http2_stream *x)
{
	nghttp2_session *session = x->h->session;

	if (!x->h->server && !x->exchange.head_sent)
		return (int32_t)nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
	return nghttp2_session_get_stream_remote_window_size(session, x->id);
}

static size_t space(struct http2_stream *x)
{
	struct http2 *h = x->h;
	int32_t stream, connection;
	size_t most, room, below;

	if (!x->writable || x->state >= HTTP2_LEFT || x->s.finished || x->s.why)
		return 0;
	if (x->cut)
		return THREAD_SCRATCH;
	if (h->over || h->doomed || h->out.len || x->gone)
		return 0;
	stream = peer_window(x);
	connection = nghttp2_session_get_remote_window_size(h->session);
	if (stream <= 0 || connection <= 0)
		return 0;
	room = (size_t)(stream < connection ? stream : connection);
	most = h->frame_most;
	below = stream_room(h->below);
	if (below < SIZE_MAX / 2) {
		size_t heads = (below / most + 1) * HTTP2_FRAME_HEAD;

		/* It is not full, so it will not tell when there is more: begin a frame, its rest waits here. */
		below = below > heads ? below - heads : below ? HTTP2_LITTLE
							      : 0;
	}
	if (room > below)
		room = below;
	if (room > THREAD_SCRATCH)
		room = THREAD_SCRATCH;
	/* Whole records, where there is enough for one. */
	if (room >= most)
		room -= room % most;
	else if (room + HTTP2_FRAME_HEAD > HTTP2_RECORD)
		room -= (room + HTTP2_FRAME_HEAD) % HTTP2_RECORD;
	return room;
}

bool http2_stream_may_write(struct http2_stream *x)
{
	return space(x) > 0;
}

static void wait_room(struct http2_stream *x)
{
	if (list_empty(&x->waiting) && !x->s.why)
		list_add(&x->h->waiting, &x->waiting);
}

static size_t room(struct stream *s)
{
	size_t n = space(http2_stream_of(s));

	if (!n)
		wait_room(http2_stream_of(s));
	return n;
}

static bool is_complete(struct http2_stream *x)
{
	return !x->h->user->complete || x->h->user->complete(x);
}

static size_t write_runs(struct stream *s, const struct stream_bytes *run, unsigned runs)
{
	struct http2_stream *x = http2_stream_of(s);
	struct http2 *h = x->h;
	size_t all = 0, most = space(x), took;
	unsigned i;

	for (i = 0; i < runs; i++)
		all += run[i].len;
	if (x->cut && most)
		return h->user->write_cut(x, all);
	if (most > all)
		most = all;
	if (most) {
		while (!run->len)
			run++;
		h->give.x = x;
		h->give.run = run;
		h->give.at = 0;
		h->give.left = most;
		s->written_bytes += most;
		h->give.ends = s->last && most == all && is_complete(x);
		/* Not deferred yet if the head is still in nghttp2's queue: then it comes to the data by itself. */
		nghttp2_session_resume_data(h->session, x->id);
		http2_flush(h);
		took = most - h->give.left;
		s->written_bytes -= h->give.left;
		h->give.x = NULL;
		h->give.left = 0;
	} else {
		took = 0;
	}
	if (took < all)
		wait_room(x);
	return took;
}

/*
 * The end of a stream needs no window (RFC 9113 section 6.9.1), but nghttp2 sends no DATA without one, none without
 * bytes either: a peer that opens it no more would wait for ever. Trailers are no DATA; there may be none of them.
 */
static bool end_without_window(struct http2_stream *x)
{
	struct http2 *h = x->h;

	if (!h->user->trail || (!h->server && !x->exchange.head_sent) ||
	    (peer_window(x) > 0 && nghttp2_session_get_remote_window_size(h->session) > 0))
		return false;
	x->end_said = h->user->trail(x, true);
	return x->end_said;
}

static void finish(struct stream *s)
{
	struct http2_stream *x = http2_stream_of(s);

	if (!x->writable || x->gone || x->h->over || x->end_said)
		return; /* on its way when it opens, or already */
	if (!is_complete(x))
		http2_stream_reset(x, NGHTTP2_INTERNAL_ERROR);
	else if (!end_without_window(x))
		nghttp2_session_resume_data(x->h->session, x->id);
	http2_settle_later(x->h);
}

/* ------------------------------------------------------------------ the end */

void http2_stream_reset(struct http2_stream *x, uint32_t error)
{
	if (x->gone || x->h->over)
		return;
	nghttp2_submit_rst_stream(x->h->session, NGHTTP2_FLAG_NONE, x->id, error);
	http2_settle_later(x->h);
}

/* What its window had grown by is for others: not before nothing of it is kept any more. */
static void shrink(struct http2_stream *x)
{
	x->h->grown -= x->window - x->h->window_start;
	x->window = x->h->window_start;
}

/* It holds nothing any more. */
static void strip(struct http2_stream *x)
{
	x->s.ready = NULL;
	x->events = 0;
	x->news = x->unheard = false;
	list_del(&x->touched);
	list_del(&x->waiting);
	list_del(&x->link);
	buf_clear(&x->kept, &x->h->thread->pool);
	x->first = x->last = 0;
	if (x->gone)
		shrink(x);
	x->h->user->drop(x);
	http2_settle_later(x->h);
}

void http2_stream_let_go(struct http2_stream *x)
{
	strip(x);
	http2_stream_set_state(x, x->gone ? HTTP2_FREE : HTTP2_LEFT);
	list_add(x->gone ? &x->h->free : &x->h->all, &x->link);
}

void http2_stream_gone(struct http2_stream *x, uint32_t error)
{
	struct http2 *h = x->h;

	x->gone = true;
	if (h->found == x)
		h->found = NULL;
	h->streams--;
	if (empty(x))
		shrink(x);
	if (!h->streams) {
		h->idle_ns = loop_now(h->thread->loop);
		http2_memory_idle(h);
	}
	if (x->state == HTTP2_LEFT || x->unheard) {
		strip(x);
		http2_stream_set_state(x, HTTP2_FREE);
		list_add(&h->free, &x->link);
	} else if (!x->s.why && !(x->peer_ended && x->end_sent)) {
		h->user->gone(x, error);
	}
}

/* ------------------------------------------------------------------ the start */

static void close_stream(struct stream *s, const char *why)
{
	http2_stream_of(s)->h->user->close(s, why);
}

static const struct stream_ops ops = {
	.peek = peek,
	.consume = consume,
	.room = room,
	.write = write_runs,
	.finish = finish,
	.close = close_stream,
	.kept = kept,
};

struct http2_stream *http2_stream_new(struct http2 *h, int32_t id)
{
	struct http2_stream *x = mem_alloc(h->user->stream_size);

	x->s.ops = &ops;
	x->s.thread = h->thread;
	x->s.windowed = h->user->trail;
	x->h = h;
	x->id = id;
	x->window = h->window_start;
	x->want_read = true;
	x->unheard = h->server;
	list_init(&x->link);
	list_init(&x->touched);
	list_init(&x->waiting);
	list_add(&h->all, &x->link);
	h->streams++;
	h->held++;
	h->opened++;
	return x;
}

void http2_stream_never(struct http2_stream *x)
{
	list_del(&x->link);
	x->h->streams--;
	x->h->held--;
	x->h->opened--;
	free(x);
}
