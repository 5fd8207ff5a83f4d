/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2_receive.c: frames on their way up.
 *
 * The transport's bytes are read where they lie: nghttp2 says which of them are whose, each stream notes its runs, and
 * when nghttp2 has returned each owner is told, and takes them from there. What he leaves is copied, then the transport
 * has its memory back.
 */
#include <string.h>

#include "http2_parts.h"

#define HTTP2_BATCHES 4 /* reads of the transport before the others have their turn */

/* ------------------------------------------------------------------ frames that move nothing */

static void glitch(struct http2 *h, int weight)
{
	uint64_t now, forgiven;

	h->glitches += weight;
	if (h->glitches <= HTTP2_GLITCHES)
		return;
	now = loop_now(h->thread->loop);
	forgiven = (now - h->glitch_ns) * HTTP2_GLITCHES_SECOND / 1000000000u;
	if (forgiven) {
		h->glitches -= (int)(forgiven < HTTP2_GLITCHES ? forgiven : HTTP2_GLITCHES);
		h->glitch_ns = now;
	}
	if (h->glitches > HTTP2_GLITCHES)
		http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, HTTP2_WHY_GLITCHES);
}

/* A frame is one until it turns out to be of use: bytes come, a request is answered. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	struct http2 *h = arg;

	if (h->batch)
		h->batch->head = true;
	if (h->glitches < -HTTP2_GLITCHES_SAVED)
		h->glitches = -HTTP2_GLITCHES_SAVED;
	if (hd->type == NGHTTP2_SETTINGS)
		glitch(h, hd->flags & NGHTTP2_FLAG_ACK ? 0 : 1);
	else if (hd->type != NGHTTP2_DATA || !(hd->flags & NGHTTP2_FLAG_END_STREAM))
		glitch(h, 1);
	return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	struct http2 *h = arg;

	glitch(h, 1);
	if (frame->hd.type == NGHTTP2_HEADERS)
		h->head_ns = 0; /* as in drop_head() */
	return 0;
}

/* Of a type that we do not know: RFC 9113 section 4.1 wants it ignored. */
static int on_extension(nghttp2_session *session, void **ret, const nghttp2_frame_hd *hd, void *arg)
{
	return NGHTTP2_ERR_CANCEL;
}

/* ------------------------------------------------------------------ frames that nghttp2 ignores */

static uint32_t number(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/*
 * nghttp2 keeps nothing of closed streams, which would be 200 bytes of each, and ignores their frames. RFC 9113 section
 * 5.1 has that for those that we have reset; for others it is an error of the connection, as for a stream that opens
 * below an older one. false: nghttp2 must have had what came before it, to tell.
 */
static bool check_stream(struct http2 *h, bool first, int32_t id)
{
	if (id > h->last_id) {
		if (h->frame.head[3] == NGHTTP2_HEADERS)
			h->last_id = id;
		return true;
	}
	if (!first && id == (int32_t)h->frame.ends)
		return false; /* nghttp2 has not heard of its end yet */
	if (nghttp2_session_get_stream_remote_close(h->session, id) >= 0 || http2_was_reset(h, id))
		return true;
	if (first)
		http2_doom(h, NGHTTP2_STREAM_CLOSED, HTTP2_WHY_STREAM_CLOSED);
	return first;
}

static bool check_frame(struct http2 *h, bool first)
{
	const uint8_t *head = h->frame.head;
	uint32_t id = number(head + 5) & INT32_MAX;

	if (head[3] == NGHTTP2_HEADERS || head[3] == NGHTTP2_DATA) {
		if (id && !check_stream(h, first, (int32_t)id))
			return false;
		if (head[4] & NGHTTP2_FLAG_END_STREAM)
			h->frame.ends = id;
	} else if (head[3] == NGHTTP2_RST_STREAM) {
		h->frame.ends = id;
	}
	if (head[3] == NGHTTP2_PRIORITY && (!id || (number(head + 9) & INT32_MAX) == id))
		http2_doom(h, NGHTTP2_PROTOCOL_ERROR, HTTP2_WHY_PROTOCOL);
	return true;
}

/* Bytes of the frame's head that are looked at: of PRIORITY also what it depends on. */
static uint8_t head_size(const struct http2 *h)
{
	bool more = h->frame.have >= HTTP2_FRAME_HEAD && h->frame.head[3] == NGHTTP2_PRIORITY &&
		    number(h->frame.head) >> 8 >= 4;

	return more ? HTTP2_FRAME_HEAD + 4 : HTTP2_FRAME_HEAD;
}

/* Bytes that nghttp2 may have before the next frame is looked at. */
static size_t scan(struct http2 *h, const uint8_t *data, size_t len)
{
	size_t at = 0, start;

	while (at < len) {
		size_t n = h->frame.left < len - at ? h->frame.left : len - at;

		h->frame.left -= (uint32_t)n;
		at += n;
		for (start = at; at < len && h->frame.have < head_size(h); at++)
			h->frame.head[h->frame.have++] = data[at];
		if (h->frame.have < head_size(h))
			break;
		h->frame.left = (number(h->frame.head) >> 8) - (h->frame.have - HTTP2_FRAME_HEAD);
		h->frame.have = 0;
		if (!check_frame(h, !start)) {
			h->frame.left = 0;
			return start;
		}
	}
	return len;
}

/* ------------------------------------------------------------------ bytes */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *arg)
{
	struct http2 *h = arg;
	struct http2_batch *b = h->batch;
	struct http2_stream *x = http2_stream_find(h, id);
	bool whole = b->head && (size_t)(data - b->slice) >= HTTP2_FRAME_HEAD; /* its header lies before it */

	if (b->head)
		h->glitches -= 2;
	/* A reader who sleeps closes his stream's window, never the connection's. */
	nghttp2_session_consume_connection(session, len);
	if (x)
		http2_stream_take(x, (uint8_t *)data, len, whole ? HTTP2_FRAME_HEAD : 0);
	b->head = false;
	return 0;
}

/* ------------------------------------------------------------------ headers */

static bool too_large(const struct http2 *h)
{
	return h->head_bytes > h->limit.head_bytes || (h->limit.fields && h->head_fields > h->limit.fields);
}

/* Of what is left of it, and of its end, nghttp2 says nothing: it is not one that is awaited. */
static int drop_head(struct http2 *h)
{
	h->head_ns = 0;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2 *h = arg;
	struct http2_stream *x;

	h->head_bytes = h->head_fields = 0;
	h->head_ns = loop_now(h->thread->loop);
	if (h->user->begin)
		h->user->begin(h);
	if (!h->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	if (h->streams >= h->limit.streams) {
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
		return drop_head(h);
	}
	x = http2_stream_new(h, frame->hd.stream_id);
	nghttp2_session_set_stream_user_data(session, x->id, x);
	return 0;
}

/* Counted before anything is kept: one byte on the wire may be a field of 4 KB here. */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
		     uint8_t flags, void *arg)
{
	struct http2 *h = arg;
	struct http2_text n = {name, nghttp2_rcbuf_get_buf(name)}, v = {value, nghttp2_rcbuf_get_buf(value)};
	struct http2_stream *x = http2_stream_find(h, frame->hd.stream_id);

	h->head_bytes += (uint32_t)(n.v.len + v.v.len + 32);
	h->head_fields++;
	if (h->head_bytes > 4 * h->limit.head_bytes) { /* an answer is not worth what the rest costs */
		http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, HTTP2_WHY_HEADERS);
		return drop_head(h);
	}
	if (!x || x->state >= HTTP2_LEFT)
		return 0;
	return h->user->field(x, &n, &v, flags, too_large(h));
}

/* nghttp2 would leave it out and go on. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
			     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
	return drop_head(arg);
}

/* ------------------------------------------------------------------ frames */

static void on_settings(struct http2 *h)
{
	bool shut = !h->server &&
		    !nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

	h->settings = true;
	h->may_write = true;
	http2_frame_limit(h);
	if (!shut)
		h->shut_ns = 0;
	else if (!h->shut_ns)
		h->shut_ns = clock_ns();
	if (h->user->settings)
		h->user->settings(h);
}

/* One that was asked for is no glitch. */
static void on_ping_ack(struct http2 *h, const uint8_t *opaque)
{
	if (!memcmp(opaque, HTTP2_PING_DRAIN, 8)) {
		/* Whatever the peer sent before it knew of the drain has come. */
		if (h->server && h->draining && !h->last_goaway) {
			h->glitches--;
			h->last_goaway = true;
			nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
					      nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
					      NULL, 0);
		}
	} else if (!memcmp(opaque, HTTP2_PING_ALIVE, 8) && h->ping_ns) {
		h->glitches--;
		h->rtt_ns = clock_ns() - h->ping_ns;
		h->ping_ns = 0;
	}
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2 *h = arg;
	struct http2_stream *x = http2_stream_find(h, frame->hd.stream_id);
	bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS: {
		bool trouble = too_large(h);

		h->news_bytes += h->head_bytes;
		h->head_ns = h->head_bytes = h->head_fields = 0;
		if (!x || x->state >= HTTP2_LEFT)
			break;
		if (end)
			http2_stream_ended(x);
		h->user->head(x, frame, trouble);
		break;
	}
	case NGHTTP2_DATA:
		if (x && end)
			http2_stream_ended(x);
		break;
	case NGHTTP2_SETTINGS:
		on_settings(h);
		break;
	case NGHTTP2_RST_STREAM:
		if (h->server && x && !x->end_sent)
			http2_seen_reset(h);
		break;
	case NGHTTP2_WINDOW_UPDATE:
		h->may_write = true;
		break;
	case NGHTTP2_PING:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK)
			on_ping_ack(h, frame->ping.opaque_data);
		break;
	case NGHTTP2_GOAWAY:
		h->draining = true;
		if (frame->goaway.error_code && !h->why)
			h->why = h->user->reason[HTTP2_WHY_GOAWAY];
		break;
	default:
		break;
	}
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
	struct http2_stream *x = http2_stream_find(arg, id);

	if (x)
		http2_stream_gone(x, error);
	return 0;
}

/* ------------------------------------------------------------------ telling */

static void tell_one(struct http2 *h, struct http2_stream *x)
{
	unsigned events = x->events;

	x->events = 0;
	if (x->news) {
		x->news = false;
		h->user->tell(x);
		events |= x->events;
		x->events = 0;
	}
	if (!x->readable)
		events &= STREAM_FAILED;
	if (!x->want_read)
		events &= ~(unsigned)STREAM_READABLE;
	if (events & STREAM_READABLE)
		x->want_read = false;
	if (events && x->s.ready)
		x->s.ready(&x->s, events);
	if (x->state >= HTTP2_LEFT)
		return;
	if (h->user->told)
		h->user->told(x);
	http2_stream_keep(x);
}

void http2_tell(struct http2 *h)
{
	h->news_bytes = 0;
	while (!list_empty(&h->touched)) {
		struct http2_stream *x = container_of(h->touched.next, struct http2_stream, touched);

		list_del(&x->touched);
		tell_one(h, x);
	}
}

/* All of `from`, at the end of `to`. */
static void list_join(struct list *to, struct list *from)
{
	while (!list_empty(from)) {
		struct list *first = from->next;

		list_del(first);
		list_add(to, first);
	}
}

/* Who still finds no room stays before those who were served and come again. */
void http2_offer(struct http2 *h)
{
	struct list all, rest;

	h->may_write = false;
	list_init(&all);
	list_init(&rest);
	list_join(&all, &h->waiting);
	while (!list_empty(&all)) { /* any of them may go away meanwhile */
		struct http2_stream *x = container_of(all.next, struct http2_stream, waiting);

		list_del(&x->waiting);
		if (!http2_stream_may_write(x))
			list_add(&rest, &x->waiting);
		else if (x->s.ready)
			x->s.ready(&x->s, STREAM_WRITABLE);
	}
	list_join(&rest, &h->waiting);
	list_join(&h->waiting, &rest);
}

/* ------------------------------------------------------------------ reading */

/* Bytes used. Less than all: it is over, or the peer does not take what we have to say to him. */
static size_t feed(struct http2 *h, uint8_t *data, size_t len)
{
	size_t used = 0;

	while (used < len) {
		size_t n = len - used < HTTP2_SLICE ? len - used : HTTP2_SLICE;
		ssize_t r;

		if (h->server)
			n = scan(h, data + used, n);
		h->batch->slice = data + used;
		h->batch->head = false;
		r = nghttp2_session_mem_recv(h->session, data + used, n);
		if (r < 0) {
			bool flood = r == NGHTTP2_ERR_FLOODED;

			http2_end(h, h->user->reason[flood ? HTTP2_WHY_FLOOD : HTTP2_WHY_NO_HTTP2]);
			return used;
		}
		used += (size_t)r;
		if (h->news_bytes > HTTP2_NEWS)
			http2_tell(h);
		if (h->over || h->doomed || (size_t)r < n)
			break;
		if (nghttp2_session_get_outbound_queue_size(h->session) > HTTP2_QUEUE)
			break;
	}
	return used;
}

static bool peer_is_deaf(struct http2 *h)
{
	return h->out.len > HTTP2_OUT || nghttp2_session_get_outbound_queue_size(h->session) > HTTP2_QUEUE;
}

/* One batch; false: nothing more now. */
static bool read_batch(struct http2 *h)
{
	struct stream_bytes run[STREAM_RUNS];
	struct http2_batch b;
	unsigned i, runs = stream_peek(h->below, run, THREAD_SCRATCH);
	size_t all = 0;

	if (!runs) {
		if (h->below->ended)
			http2_end(h, h->streams ? h->user->reason[HTTP2_WHY_CLOSED] : NULL);
		return false;
	}
	b.runs = 0;
	h->batch = &b;
	h->heard_ns = loop_now(h->thread->loop);
	for (i = 0; i < runs && !h->over; i++) {
		size_t used = feed(h, run[i].data, run[i].len);

		all += used;
		if (used < run[i].len)
			break;
	}
	http2_tell(h); /* also when it is over: what came before that is good */
	h->batch = NULL;
	stream_consume(h->below, all);
	return !h->over && !h->doomed;
}

void http2_read(struct http2 *h)
{
	unsigned i;

	h->more = false;
	for (i = 0; i < HTTP2_BATCHES; i++) {
		if (h->over || h->doomed)
			return;
		if (peer_is_deaf(h)) {
			http2_flush(h);
			if (peer_is_deaf(h)) {
				h->deaf = true; /* WRITABLE of the transport goes on from here */
				return;
			}
		}
		if (!read_batch(h))
			return;
	}
	h->more = true;
}

void http2_receive_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
	nghttp2_session_callbacks_set_unpack_extension_callback(c, on_extension);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(c, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback2(c, on_invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
}
