/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2_send.c: frames on their way down.
 *
 * nghttp2's own frames are small: they are gathered and go down in one write, before DATA. The bytes of DATA are never
 * copied: they go from the writer's memory to the transport while he calls, the frame's header in the headroom before
 * them. Only what a full transport does not take of a frame that it has begun is kept (`out`).
 *
 * But where each write costs a system call, little ones are (`corked`), and go down together at the end of the turn:
 * whatever one read has asked is answered by one write.
 */
#include <assert.h>
#include <string.h>

#include "http2_parts.h"

#define SETTINGS_FRAME 4 /* its type */

void http2_settle_later(struct http2 *h)
{
	if (!h->settling)
		loop_defer(h->thread->loop, &h->end);
}

void http2_end(struct http2 *h, const char *why)
{
	if (h->over)
		return;
	h->over = true;
	if (!h->why)
		h->why = why;
	http2_settle_later(h);
}

void http2_doom(struct http2 *h, uint32_t error, enum http2_why why)
{
	if (h->doomed)
		return;
	h->doomed = true;
	if (!h->why)
		h->why = h->user->reason[why];
	nghttp2_session_terminate_session(h->session, error);
}

void http2_seen_reset(struct http2 *h)
{
	uint64_t now, forgiven;

	if (!h->limit.resets || ++h->resets <= HTTP2_RESETS)
		return;
	now = loop_now(h->thread->loop);
	forgiven = (now - h->reset_ns) * HTTP2_RESETS_SECOND / 1000000000u;
	if (forgiven) {
		h->resets -= (int)(forgiven < HTTP2_RESETS ? forgiven : HTTP2_RESETS);
		h->reset_ns = now;
	}
	if (h->resets > HTTP2_RESETS)
		http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, HTTP2_WHY_RESETS);
}

static void keep_reset(struct http2 *h, int32_t id)
{
	if (!h->reset_id)
		h->reset_id = mem_alloc(HTTP2_RESETS_KEPT * sizeof(*h->reset_id));
	h->reset_id[h->reset_at++ % HTTP2_RESETS_KEPT] = id;
}

bool http2_was_reset(const struct http2 *h, int32_t id)
{
	unsigned i;

	for (i = 0; h->reset_id && i < HTTP2_RESETS_KEPT; i++)
		if (h->reset_id[i] == id)
			return true;
	return false;
}

/* To the transport, or where that is full, behind what waits already. */
static void put_down(struct http2 *h, const struct stream_bytes *run, unsigned runs)
{
	size_t took = h->out.len ? 0 : stream_write(h->below, run, runs);

	for (; runs; runs--, run++) {
		size_t gone = took < run->len ? took : run->len;

		took -= gone;
		if (gone < run->len)
			buf_add(&h->out, &h->thread->pool, run->data + gone, run->len - gone);
	}
}

void http2_uncork(struct http2 *h)
{
	h->acks = 0;
	while (h->corked.len) {
		struct stream_bytes run[STREAM_RUNS];
		size_t all;
		unsigned n = stream_lend(&h->corked, run, SIZE_MAX, &all);

		put_down(h, run, n);
		buf_consume(&h->corked, &h->thread->pool, all);
	}
}

/* All of it leaves us. */
static void put(struct http2 *h, const struct stream_bytes *run, unsigned runs)
{
	struct stream_bytes both[STREAM_RUNS];
	size_t all = 0, corked;
	unsigned i;

	if (!h->user->cork) {
		put_down(h, run, runs);
		return;
	}
	for (i = 0; i < runs; i++)
		all += run[i].len;
	if (all <= HTTP2_CORK && h->corked.len + all <= BUF_CHUNK) {
		for (i = 0; i < runs; i++)
			buf_add(&h->corked, &h->thread->pool, run[i].data, run[i].len);
		loop_defer(h->thread->loop, &h->end);
		return;
	}
	i = stream_lend(&h->corked, both, SIZE_MAX, &corked);
	if (corked < h->corked.len || i + runs > STREAM_RUNS) {
		http2_uncork(h);
		put_down(h, run, runs);
		return;
	}
	memcpy(both + i, run, runs * sizeof(*run));
	put_down(h, both, i + runs);
	if (corked)
		buf_consume(&h->corked, &h->thread->pool, corked);
	h->acks = 0;
}

bool http2_may_wait(const struct http2 *h)
{
	return h->acks && h->corked.len == h->acks && h->streams && !h->over && !h->draining;
}

static struct stream_bytes take_gathered(struct http2 *h)
{
	struct stream_bytes all = {.data = h->gather, .len = h->gathered};

	h->gathered = 0;
	return all;
}

static void put_gathered(struct http2 *h)
{
	struct stream_bytes all = take_gathered(h);

	if (all.len)
		put(h, &all, 1);
}

/*
 * Our SETTINGS as the peer reads them. RFC 9113 section 5.1.2 wants a stream error for the one stream too many, nghttp2
 * makes it the connection's; so nghttp2 has a higher limit than the peer was told, and http2_receive.c refuses.
 */
static void tell_limit(struct http2 *h, uint8_t *frame, size_t len)
{
	size_t at;

	for (at = HTTP2_FRAME_HEAD; at + 6 <= len; at += 6) {
		uint32_t value = h->limit.streams;

		if (frame[at] || frame[at + 1] != NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
			continue;
		frame[at + 2] = (uint8_t)(value >> 24);
		frame[at + 3] = (uint8_t)(value >> 16);
		frame[at + 4] = (uint8_t)(value >> 8);
		frame[at + 5] = (uint8_t)value;
	}
}

/* Any frame but DATA that carries bytes. */
static void gather(struct http2 *h, const uint8_t *data, size_t len)
{
	if (h->gathered + len > HTTP2_GATHER)
		put_gathered(h);
	if (len > HTTP2_GATHER) {
		struct stream_bytes all = {.data = (uint8_t *)data, .len = len};

		put(h, &all, 1);
		return;
	}
	memcpy(h->gather + h->gathered, data, len);
	if (h->server && !h->first_frame && len > HTTP2_FRAME_HEAD && data[3] == SETTINGS_FRAME) {
		tell_limit(h, h->gather + h->gathered, len);
		h->first_frame = true;
	}
	h->gathered += len;
	if (h->user->cork && data[3] == NGHTTP2_PING && data[4] & NGHTTP2_FLAG_ACK)
		h->acks += len;
}

/* The next `len` bytes of what is given, as one run if they lie together. */
static struct stream_bytes next_given(struct http2 *h, size_t most)
{
	const struct stream_bytes *from = h->give.run;
	struct stream_bytes run = {.data = from->data + h->give.at, .len = from->len - h->give.at};

	/* What was taken of a run with headroom is headroom too: nobody reads it again. */
	if (from->headroom)
		run.headroom = from->headroom + h->give.at;
	if (run.len > most)
		run.len = most;
	h->give.at += run.len;
	h->give.left -= run.len;
	while (h->give.left && h->give.at == h->give.run->len) {
		h->give.run++;
		h->give.at = 0;
	}
	return run;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t len,
			nghttp2_data_source *source, void *arg)
{
	struct stream_bytes run[STREAM_RUNS];
	struct http2 *h = arg;
	unsigned runs = 0;
	uint8_t copy[HTTP2_FRAME_HEAD];
	bool first = true;

	assert(frame->data.padlen == 0 && len <= h->give.left);
	if (h->gathered)
		run[runs++] = take_gathered(h);
	while (len) {
		struct stream_bytes next = next_given(h, len);

		len -= next.len;
		if (first && next.headroom >= HTTP2_FRAME_HEAD) {
			next.data -= HTTP2_FRAME_HEAD;
			next.len += HTTP2_FRAME_HEAD;
			next.headroom -= HTTP2_FRAME_HEAD;
			memcpy(next.data, head, HTTP2_FRAME_HEAD);
		} else if (first) {
			memcpy(copy, head, HTTP2_FRAME_HEAD);
			run[runs++] = (struct stream_bytes){.data = copy, .len = HTTP2_FRAME_HEAD};
		}
		first = false;
		if (runs == STREAM_RUNS) {
			put(h, run, runs);
			runs = 0;
		}
		run[runs++] = next;
	}
	put(h, run, runs);
	return 0;
}

static void say_end(struct http2_stream *x, uint32_t *flags)
{
	const struct http2_user *user = x->h->user;

	x->end_said = true;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (user->trail && user->trail(x, false))
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
}

/* Asked of each stream that may send: only the one whose owner is calling has bytes. */
ssize_t http2_on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
		      nghttp2_data_source *source, void *arg)
{
	struct http2_stream *x = source->ptr;
	struct http2 *h = arg;

	if (h->give.x == x && h->give.left && !h->out.len) {
		*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
		if (len > h->give.left)
			len = h->give.left;
		if (h->give.ends && len == h->give.left)
			say_end(x, flags);
		return (ssize_t)len;
	}
	if (x->s.finished && x->writable && !x->end_said) {
		say_end(x, flags);
		return 0;
	}
	return NGHTTP2_ERR_DEFERRED;
}

/*
 * With its header it fills whole TLS records, so that no record of a few bytes follows. The floor: every peer takes
 * frames of 16384 (RFC 9113 section 4.2).
 */
void http2_frame_limit(struct http2 *h)
{
	size_t most = nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_FRAME_SIZE);

	most += HTTP2_FRAME_HEAD;
	if (most > THREAD_SCRATCH)
		most = THREAD_SCRATCH;
	h->frame_most = (uint32_t)(most - most % HTTP2_RECORD - HTTP2_FRAME_HEAD);
}

static ssize_t on_frame_most(nghttp2_session *session, uint8_t type, int32_t id, int32_t connection_window,
			     int32_t stream_window, uint32_t most, void *arg)
{
	return ((struct http2 *)arg)->frame_most;
}

static void seen_wrong(struct http2 *h, uint32_t error)
{
	http2_seen_reset(h);
	if (h->user->refused)
		h->user->refused(h, 0, error == NGHTTP2_REFUSED_STREAM ? HTTP2_WHY_STREAMS : HTTP2_WHY_MALFORMED);
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2 *h = arg;
	struct http2_stream *x;

	if (frame->hd.type == NGHTTP2_DATA) /* whoever takes bytes sends WINDOW_UPDATEs for them */
		h->glitches -= (int)(2 + frame->hd.length / HTTP2_UPDATE_LEAST);
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code) {
		h->doomed = true; /* by nghttp2 itself perhaps, which says nothing more now */
		if (!h->why)
			h->why = h->user->reason[HTTP2_WHY_PROTOCOL];
	}
	if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS &&
	    frame->hd.type != NGHTTP2_RST_STREAM)
		return 0;
	x = http2_stream_find(h, frame->hd.stream_id);
	if (frame->hd.type == NGHTTP2_RST_STREAM) {
		if (h->server)
			keep_reset(h, frame->hd.stream_id);
		/* Not by the owner's will: what the peer did was wrong. */
		if (!x || (x->state < HTTP2_LEFT && !x->s.why))
			seen_wrong(h, frame->rst_stream.error_code);
		if (x)
			x->reset_sent = true;
		return 0;
	}
	if (x && !h->server && frame->hd.type == NGHTTP2_HEADERS) {
		x->exchange.head_sent = true;
		h->may_write |= !list_empty(&x->waiting); /* it has a window now */
	}
	if (!x || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	x->end_sent = true;
	/* He who left reads no more: RFC 9113 section 8.1 has NO_ERROR for that; from a client it is CANCEL. */
	if (x->state == HTTP2_LEFT && !x->peer_ended)
		return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, x->id,
						 h->server ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
	return 0;
}

/*
 * Not nghttp2_session_send(): that keeps what the transport did not take where the frame is written, which is not this
 * session's alone. Here nothing is left in it when we return.
 */
static ssize_t send_all(struct http2 *h)
{
	struct thread *t = h->thread;
	const uint8_t *data;
	ssize_t n = 0;

	assert(!h->written || !t->framer);
	if (h->written)
		t->framer = h;
	while (!h->out.len && (n = nghttp2_session_mem_send(h->session, &data)) > 0)
		gather(h, data, (size_t)n);
	if (h->written)
		t->framer = NULL;
	return n;
}

void http2_flush(struct http2 *h)
{
	uint8_t room[HTTP2_GATHER];
	ssize_t r;

	assert(!h->gather);
	if (h->closed)
		return;
	if (!stream_drain(h->below, &h->out)) /* what the transport did not take before */
		return;
	h->gather = room;
	h->gathered = 0;
	r = send_all(h);
	put_gathered(h);
	h->gather = NULL;
	if (r < 0)
		http2_end(h, h->user->reason[HTTP2_WHY_CANNOT_SEND]);
}

void http2_send_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_send_data_callback(c, on_send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(c, on_frame_most);
	nghttp2_session_callbacks_set_on_frame_send_callback(c, on_sent);
}
