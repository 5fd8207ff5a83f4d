/* SPDX-License-Identifier: Apache-2.0 */
/* hbone_tunnel.c: one CONNECT as a struct stream. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hbone_parts.h"

void ask_free(struct ask *a)
{
	if (!a)
		return;
	free(a->authority);
	free(a->forwarded);
	free(a->baggage);
	free(a->traceparent);
	free(a);
}

void tunnel_set_state(struct tunnel *t, enum tunnel_state state)
{
	assert(state > t->state); /* life goes one way */
	t->state = (uint8_t)state;
}

/* ------------------------------------------------------------------ events */

void tunnel_touch(struct tunnel *t, unsigned events)
{
	if (t->state >= TUNNEL_LEFT)
		return;
	t->events |= (uint8_t)events;
	if (list_empty(&t->touched))
		list_add(&t->h->touched, &t->touched);
	hbone_settle_later(t->h);
}

void tunnel_fail(struct tunnel *t, const char *why)
{
	if (t->state >= TUNNEL_LEFT || t->s.why)
		return;
	t->s.why = why;
	t->events = 0;
	list_del(&t->waiting);
	tunnel_touch(t, STREAM_FAILED);
}

/* ------------------------------------------------------------------ bytes up */

static bool empty(const struct tunnel *t)
{
	return !t->kept.len && !t->first;
}

void tunnel_ended(struct tunnel *t)
{
	if (t->peer_ended)
		return;
	t->peer_ended = true;
	t->s.ended = empty(t);
	tunnel_touch(t, STREAM_READABLE);
}

void tunnel_keep(struct tunnel *t)
{
	while (t->first) {
		struct run *run = &t->h->batch->run[t->first - 1];

		buf_add(&t->kept, &t->h->thread->pool, run->data, run->len);
		t->first = run->next;
	}
	t->last = 0;
}

void tunnel_take(struct tunnel *t, uint8_t *data, size_t len, size_t headroom)
{
	struct batch *b = t->h->batch;
	struct run *last = t->last ? &b->run[t->last - 1] : NULL;

	if (t->state >= TUNNEL_LEFT || t->s.why)
		return;
	if (last && last->data + last->len == data) {
		last->len += len; /* two slices of one frame */
	} else if (b->runs == HBONE_BATCH_RUNS) {
		tunnel_keep(t); /* a swarm of small frames: cheaper as one piece */
		buf_add(&t->kept, &t->h->thread->pool, data, len);
	} else {
		b->run[b->runs++] = (struct run){.data = data, .len = len, .headroom = headroom};
		if (last)
			last->next = b->runs;
		else
			t->first = b->runs;
		t->last = b->runs;
	}
	tunnel_touch(t, STREAM_READABLE);
}

static unsigned peek(struct stream *s, struct stream_bytes out[STREAM_RUNS], size_t most)
{
	struct tunnel *t = tunnel_of(s);
	unsigned at, runs;
	size_t len;

	if (s->why || !most)
		return 0;
	runs = stream_lend(&t->kept, out, most, &len);
	for (at = t->first; at && runs < STREAM_RUNS && len < most; at = t->h->batch->run[at - 1].next) {
		const struct run *run = &t->h->batch->run[at - 1];
		size_t n = run->len < most - len ? run->len : most - len;

		out[runs++] = (struct stream_bytes){.data = run->data, .len = n, .headroom = run->headroom};
		len += n;
	}
	if (!runs)
		t->want_read = true;
	return runs;
}

/* The window grows only for a reader who has read all. */
static void grow(struct tunnel *t, size_t len)
{
	struct hbone *h = t->h;
	uint64_t want = (uint64_t)t->window * HBONE_WINDOW_STEP;
	uint64_t all = h->limit.connection_window / HBONE_GROWTH, rest = all > h->grown ? all - h->grown : 0;

	t->read_new += (uint32_t)len;
	if (t->read_new < t->window / 2 || !empty(t))
		return;
	t->read_new = 0;
	if (want > h->limit.stream_window)
		want = h->limit.stream_window;
	if (want > t->window + rest / 2) /* half of what is left: there is always some for the next one */
		want = t->window + rest / 2;
	if (want <= t->window)
		return;
	if (nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, t->id, (int32_t)want))
		return;
	h->grown += want - t->window;
	t->window = (uint32_t)want;
}

static void consume(struct stream *s, size_t len)
{
	struct tunnel *t = tunnel_of(s);
	struct hbone *h = t->h;
	size_t left = len, n = len < t->kept.len ? len : t->kept.len;

	if (!len)
		return;
	if (n)
		buf_consume(&t->kept, &h->thread->pool, n);
	for (left -= n; left; left -= n) {
		struct run *run = &h->batch->run[t->first - 1];

		n = left < run->len ? left : run->len;
		run->data += n;
		run->len -= n;
		if (run->headroom)
			run->headroom += n;
		if (run->len)
			continue;
		t->first = run->next;
		if (!t->first)
			t->last = 0;
	}
	s->read_bytes += len;
	if (t->peer_ended) {
		s->ended = empty(t);
	} else if (!t->gone && !h->over) {
		nghttp2_session_consume_stream(h->session, t->id, len);
		grow(t, len);
		if (nghttp2_session_want_write(h->session))
			hbone_settle_later(h);
	}
}

/* ------------------------------------------------------------------ bytes down */

static size_t space(struct tunnel *t)
{
	struct hbone *h = t->h;
	int32_t stream, connection;
	size_t most, room, below;

	if (t->state != TUNNEL_OPEN || t->s.finished || t->s.why)
		return 0;
	if (t->cut)
		return THREAD_SCRATCH;
	if (h->over || h->out.len || t->gone)
		return 0;
	stream = nghttp2_session_get_stream_remote_window_size(h->session, t->id);
	connection = nghttp2_session_get_remote_window_size(h->session);
	if (stream <= 0 || connection <= 0)
		return 0;
	room = (size_t)(stream < connection ? stream : connection);
	most = hbone_frame_most(h);
	below = stream_room(h->below);
	if (below < SIZE_MAX / 2) {
		size_t heads = (below / most + 1) * HBONE_FRAME_HEAD;

		/* It is not full, so it will not tell when there is more: begin a frame, its rest waits here. */
		below = below > heads ? below - heads : below ? HBONE_LITTLE
							      : 0;
	}
	if (room > below)
		room = below;
	if (room > THREAD_SCRATCH)
		room = THREAD_SCRATCH;
	/* Whole records, where there is enough for one. */
	if (room >= most)
		room -= room % most;
	else if (room + HBONE_FRAME_HEAD > HBONE_RECORD)
		room -= (room + HBONE_FRAME_HEAD) % HBONE_RECORD;
	return room;
}

bool tunnel_may_write(struct tunnel *t)
{
	return space(t) > 0;
}

static void wait_room(struct tunnel *t)
{
	if (list_empty(&t->waiting) && !t->s.why)
		list_add(&t->h->waiting, &t->waiting);
}

static size_t room(struct stream *s)
{
	size_t n = space(tunnel_of(s));

	if (!n)
		wait_room(tunnel_of(s));
	return n;
}

/* The peer has closed both ways: as with TCP, what is written to him tells us so. */
static size_t write_cut(struct tunnel *t, size_t all)
{
	if (all)
		tunnel_fail(t, "hbone: the peer has closed the tunnel");
	return all;
}

static size_t write_runs(struct stream *s, const struct stream_bytes *run, unsigned runs)
{
	struct tunnel *t = tunnel_of(s);
	struct hbone *h = t->h;
	size_t all = 0, most = space(t), took;
	unsigned i;

	for (i = 0; i < runs; i++)
		all += run[i].len;
	if (t->cut && most)
		return write_cut(t, all);
	if (most > all)
		most = all;
	if (most) {
		while (!run->len)
			run++;
		h->give.t = t;
		h->give.run = run;
		h->give.at = 0;
		h->give.left = most;
		/* Not deferred yet if 200 is still in nghttp2's queue: then it comes to the data by itself. */
		nghttp2_session_resume_data(h->session, t->id);
		hbone_flush(h);
		took = most - h->give.left;
		h->give.t = NULL;
		h->give.left = 0;
	} else {
		took = 0;
	}
	if (took < all)
		wait_room(t);
	s->written_bytes += took;
	return took;
}

static void finish(struct stream *s)
{
	struct tunnel *t = tunnel_of(s);

	if (t->state != TUNNEL_OPEN || t->gone || t->h->over)
		return; /* on its way when it opens */
	nghttp2_session_resume_data(t->h->session, t->id);
	hbone_settle_later(t->h);
}

/* ------------------------------------------------------------------ the end, and the answers */

void tunnel_reset(struct tunnel *t, uint32_t error)
{
	if (t->gone || t->h->over)
		return;
	nghttp2_submit_rst_stream(t->h->session, NGHTTP2_FLAG_NONE, t->id, error);
	hbone_settle_later(t->h);
}

void tunnel_let_go(struct tunnel *t)
{
	t->s.ready = NULL;
	t->events = 0;
	t->tell_asked = false;
	list_del(&t->touched);
	list_del(&t->waiting);
	list_del(&t->link);
	buf_clear(&t->kept, &t->h->thread->pool);
	t->first = t->last = 0;
	ask_free(t->ask);
	t->ask = NULL;
	tunnel_set_state(t, t->gone ? TUNNEL_FREE : TUNNEL_LEFT);
	list_add(t->gone ? &t->h->free : &t->h->tunnels, &t->link);
	hbone_settle_later(t->h);
}

void tunnel_gone(struct tunnel *t, uint32_t error)
{
	struct hbone *h = t->h;
	bool in_order = error == NGHTTP2_NO_ERROR || error == NGHTTP2_CANCEL;

	t->gone = true;
	h->streams--;
	h->grown -= t->window - h->window_start;
	t->window = h->window_start;
	if (!h->streams)
		h->idle_ns = loop_now(h->thread->loop);
	/* Nobody has it, or nobody has heard of it yet. */
	if (t->state == TUNNEL_LEFT || (t->state == TUNNEL_NEW && h->server) || t->tell_asked) {
		t->tell_asked = false;
		list_del(&t->touched);
		list_del(&t->link);
		buf_clear(&t->kept, &h->thread->pool);
		t->first = t->last = 0;
		ask_free(t->ask);
		t->ask = NULL;
		tunnel_set_state(t, TUNNEL_FREE);
		list_add(&h->free, &t->link);
		hbone_settle_later(h);
	} else if (t->state != TUNNEL_OPEN) {
		tunnel_fail(t, error == NGHTTP2_REFUSED_STREAM ? HBONE_UNPROCESSED
							       : "hbone: the peer has reset the CONNECT");
	} else if (t->peer_ended && t->end_sent) {
		return;
	} else if (in_order) {
		t->cut = true;
		tunnel_ended(t);
		h->may_write = true;
	} else {
		tunnel_fail(t, "hbone: reset by the peer");
	}
}

void hbone_accept(struct stream *s, const char *baggage)
{
	nghttp2_nv field[] = {FIELD(":status", "200"), FIELD("baggage", baggage)};
	struct tunnel *t = tunnel_of(s);
	struct hbone *h = t->h;
	nghttp2_data_provider data = {.source.ptr = t, .read_callback = hbone_on_read};

	if (s->why || t->gone || h->over)
		return; /* he will hear of it */
	t->status = 200;
	tunnel_set_state(t, TUNNEL_OPEN);
	h->glitches -= HBONE_ANSWERED;
	if (nghttp2_submit_response(h->session, t->id, field, baggage && *baggage ? 2 : 1, &data) < 0)
		tunnel_fail(t, "hbone: cannot answer");
	tunnel_touch(t, STREAM_READABLE);
}

void hbone_refuse(struct stream *s, int status)
{
	struct tunnel *t = tunnel_of(s);
	struct hbone *h = t->h;
	nghttp2_nv field = FIELD(":status", "");
	char text[4];

	t->status = (uint16_t)status;
	snprintf(text, sizeof(text), "%03u", (unsigned)status % 1000);
	field.value = (uint8_t *)text;
	field.valuelen = 3;
	tunnel_let_go(t);
	if (t->gone || h->over)
		return;
	h->glitches -= HBONE_ANSWERED;
	if (nghttp2_submit_response(h->session, t->id, &field, 1, NULL) < 0)
		tunnel_reset(t, NGHTTP2_REFUSED_STREAM);
}

static void close_tunnel(struct stream *s, const char *why)
{
	struct tunnel *t = tunnel_of(s);
	struct hbone *h = t->h;
	uint8_t was = t->state;
	bool failed = s->why;

	if (was == TUNNEL_ASKED && !failed) {
		hbone_refuse(s, 503);
		return;
	}
	tunnel_let_go(t);
	if (t->gone || h->over)
		return;
	if (was == TUNNEL_NEW || failed)
		tunnel_reset(t, NGHTTP2_CANCEL);
	else if (why)
		tunnel_reset(t, NGHTTP2_CONNECT_ERROR); /* RFC 9113 section 8.5 */
	else if (t->end_sent)
		tunnel_reset(t, h->server ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
	else if (!s->finished) {
		s->finished = true;
		nghttp2_session_resume_data(h->session, t->id);
	}
}

/* ------------------------------------------------------------------ */

static const struct stream_ops ops = {
	.peek = peek,
	.consume = consume,
	.room = room,
	.write = write_runs,
	.finish = finish,
	.close = close_tunnel,
};

struct tunnel *tunnel_new(struct hbone *h, int32_t id)
{
	struct tunnel *t = mem_alloc(sizeof(*t));

	t->s.ops = &ops;
	t->s.thread = h->thread;
	t->h = h;
	t->id = id;
	t->window = h->window_start;
	t->want_read = true;
	list_init(&t->link);
	list_init(&t->touched);
	list_init(&t->waiting);
	h->streams++;
	h->held++;
	h->opened++;
	return t;
}
