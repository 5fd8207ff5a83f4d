/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbone_send.c: frames on their way down.
 *
 * nghttp2's own frames are small: they are gathered and go down in one write, before DATA. The bytes of DATA are never
 * copied: they go from the writer's memory to the transport while he calls, the frame's header in the headroom before
 * them. Only what a full transport does not take of a frame that it has begun is kept (`out`).
 */
#include <assert.h>
#include <string.h>

#include "hbone_parts.h"

#define SETTINGS_FRAME 4 /* its type */

void hbone_settle_later(struct hbone *h)
{
	if (!h->settling)
		loop_defer(h->thread->loop, &h->end);
}

void hbone_end(struct hbone *h, const char *why)
{
	if (h->over)
		return;
	h->over = true;
	if (!h->why)
		h->why = why;
	hbone_settle_later(h);
}

/* All of it leaves us: to the transport, or where that is full, behind what waits already. */
static void put(struct hbone *h, const struct stream_bytes *run, unsigned runs)
{
	size_t took = h->out.len ? 0 : stream_write(h->below, run, runs);

	for (; runs; runs--, run++) {
		size_t gone = took < run->len ? took : run->len;

		took -= gone;
		if (gone < run->len)
			buf_add(&h->out, &h->thread->pool, run->data + gone, run->len - gone);
	}
}

static struct stream_bytes take_gathered(struct hbone *h)
{
	struct stream_bytes all = {.data = h->gather, .len = h->gathered};

	h->gathered = 0;
	return all;
}

static void put_gathered(struct hbone *h)
{
	struct stream_bytes all = take_gathered(h);

	if (all.len)
		put(h, &all, 1);
}

/*
 * Our SETTINGS as the peer reads them. RFC 9113 section 5.1.2 wants a stream error for the one stream too many, nghttp2
 * makes it the connection's; so nghttp2 has a higher limit than the peer was told, and hbone_receive.c refuses.
 */
static void tell_limit(struct hbone *h, uint8_t *frame, size_t len)
{
	size_t at;

	for (at = HBONE_FRAME_HEAD; at + 6 <= len; at += 6) {
		uint32_t value = h->limit.streams;

		if (frame[at] || frame[at + 1] != NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
			continue;
		frame[at + 2] = (uint8_t)(value >> 24);
		frame[at + 3] = (uint8_t)(value >> 16);
		frame[at + 4] = (uint8_t)(value >> 8);
		frame[at + 5] = (uint8_t)value;
	}
}

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t len, int flags, void *arg)
{
	struct hbone *h = arg;

	if (h->gathered + len > HBONE_GATHER)
		put_gathered(h);
	if (h->out.len)
		return NGHTTP2_ERR_WOULDBLOCK; /* it waits where it is: nghttp2 does not say more */
	if (len > HBONE_GATHER) {
		struct stream_bytes all = {.data = (uint8_t *)data, .len = len};

		put(h, &all, 1);
		return (ssize_t)len;
	}
	memcpy(h->gather + h->gathered, data, len);
	if (h->server && !h->first_frame && len > HBONE_FRAME_HEAD && data[3] == SETTINGS_FRAME) {
		tell_limit(h, h->gather + h->gathered, len);
		h->first_frame = true;
	}
	h->gathered += len;
	return (ssize_t)len;
}

/* The next `len` bytes of what is given, as one run if they lie together. */
static struct stream_bytes next_given(struct hbone *h, size_t most)
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
	struct hbone *h = arg;
	unsigned runs = 0;
	uint8_t copy[HBONE_FRAME_HEAD];
	bool first = true;

	assert(frame->data.padlen == 0 && len <= h->give.left);
	if (h->gathered)
		run[runs++] = take_gathered(h);
	while (len) {
		struct stream_bytes next = next_given(h, len);

		len -= next.len;
		if (first && next.headroom >= HBONE_FRAME_HEAD) {
			next.data -= HBONE_FRAME_HEAD;
			next.len += HBONE_FRAME_HEAD;
			next.headroom -= HBONE_FRAME_HEAD;
			memcpy(next.data, head, HBONE_FRAME_HEAD);
		} else if (first) {
			memcpy(copy, head, HBONE_FRAME_HEAD);
			run[runs++] = (struct stream_bytes){.data = copy, .len = HBONE_FRAME_HEAD};
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

/* Asked of each stream that may send: only the one whose owner is calling has bytes. */
ssize_t hbone_on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
		      nghttp2_data_source *source, void *arg)
{
	struct tunnel *t = source->ptr;
	struct hbone *h = arg;

	if (h->give.t == t && h->give.left && !h->out.len) {
		*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
		return (ssize_t)(len < h->give.left ? len : h->give.left);
	}
	if (t->s.finished && t->state >= TUNNEL_OPEN) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		return 0;
	}
	return NGHTTP2_ERR_DEFERRED;
}

/*
 * With its header it fills whole TLS records, so that no record of a few bytes follows. The floor: every peer takes
 * frames of 16384 (RFC 9113 section 4.2).
 */
size_t hbone_frame_most(struct hbone *h)
{
	size_t most = nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_FRAME_SIZE);

	most += HBONE_FRAME_HEAD;
	if (most > THREAD_SCRATCH)
		most = THREAD_SCRATCH;
	return most - most % HBONE_RECORD - HBONE_FRAME_HEAD;
}

static ssize_t on_frame_most(nghttp2_session *session, uint8_t type, int32_t id, int32_t connection_window,
			     int32_t stream_window, uint32_t most, void *arg)
{
	return (ssize_t)hbone_frame_most(arg);
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct hbone *h = arg;
	struct tunnel *t;

	if (frame->hd.type == NGHTTP2_DATA) /* whoever takes bytes sends WINDOW_UPDATEs for them */
		h->glitches -= (int)(2 + frame->hd.length / HBONE_UPDATE_LEAST);
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code && !h->why)
		h->why = "hbone: protocol error of the peer";
	if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	t = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (!t)
		return 0;
	t->end_sent = true;
	/* He who left reads no more: RFC 9113 section 8.1 has NO_ERROR for that; from a client it is CANCEL. */
	if (t->state == TUNNEL_LEFT && !t->peer_ended)
		return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, t->id,
						 h->server ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
	return 0;
}

void hbone_flush(struct hbone *h)
{
	uint8_t gather[HBONE_GATHER];
	int r;

	assert(!h->gather);
	if (h->closed)
		return;
	if (!stream_drain(h->below, &h->out)) /* what the transport did not take before */
		return;
	h->gather = gather;
	h->gathered = 0;
	r = nghttp2_session_send(h->session);
	put_gathered(h);
	h->gather = NULL;
	if (r < 0)
		hbone_end(h, "hbone: cannot send a frame");
}

void hbone_send_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_send_callback(c, on_send);
	nghttp2_session_callbacks_set_send_data_callback(c, on_send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(c, on_frame_most);
	nghttp2_session_callbacks_set_on_frame_send_callback(c, on_sent);
}
