/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbone_receive.c: frames on their way up.
 *
 * The transport's bytes are read where they lie: nghttp2 says which of them are whose, each tunnel notes its runs, and
 * when nghttp2 has returned each owner is told, and takes them from there. What he leaves is copied, then the transport
 * has its memory back.
 */
#include <stdlib.h>
#include <string.h>

#include "hbone_parts.h"

#define HBONE_BATCHES 4 /* reads of the transport before the others have their turn */

/* ------------------------------------------------------------------ frames that move nothing */

static void glitch(struct hbone *h, int weight)
{
	uint64_t now, forgiven;

	h->glitches += weight;
	if (h->glitches <= HBONE_GLITCHES)
		return;
	now = loop_now(h->thread->loop);
	forgiven = (now - h->glitch_ns) * HBONE_GLITCHES_SECOND / 1000000000u;
	if (forgiven) {
		h->glitches -= (int)(forgiven < HBONE_GLITCHES ? forgiven : HBONE_GLITCHES);
		h->glitch_ns = now;
	}
	if (h->glitches <= HBONE_GLITCHES || h->doomed)
		return;
	h->doomed = true;
	if (!h->why)
		h->why = "hbone: too many frames that move nothing";
	nghttp2_session_terminate_session(h->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* A frame is one until it turns out to be of use: bytes come, a CONNECT is answered. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	struct hbone *h = arg;

	if (h->batch)
		h->batch->head = true;
	if (h->glitches < -HBONE_GLITCHES_SAVED)
		h->glitches = -HBONE_GLITCHES_SAVED;
	if (hd->type == NGHTTP2_SETTINGS || hd->type == NGHTTP2_PING)
		glitch(h, hd->flags & NGHTTP2_FLAG_ACK ? 0 : 1);
	else if (hd->type != NGHTTP2_DATA || !(hd->flags & NGHTTP2_FLAG_END_STREAM))
		glitch(h, 1);
	return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	glitch(arg, 1);
	return 0;
}

/* Of a type that we do not know: RFC 9113 section 4.1 wants it ignored. */
static int on_extension(nghttp2_session *session, void **ret, const nghttp2_frame_hd *hd, void *arg)
{
	return NGHTTP2_ERR_CANCEL;
}

/* ------------------------------------------------------------------ bytes */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *arg)
{
	struct hbone *h = arg;
	struct batch *b = h->batch;
	struct tunnel *t = nghttp2_session_get_stream_user_data(session, id);
	size_t before = (size_t)(data - b->slice);

	if (b->head)
		h->glitches -= 2;
	/* A reader who sleeps closes his stream's window, never the connection's. */
	nghttp2_session_consume_connection(session, len);
	if (t)
		tunnel_take(t, (uint8_t *)data, len, b->head && before >= HBONE_FRAME_HEAD ? HBONE_FRAME_HEAD : 0);
	b->head = false;
	return 0;
}

/* ------------------------------------------------------------------ headers */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct hbone *h = arg;
	struct tunnel *t;

	h->header_bytes = 0;
	if (!h->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	if (h->streams >= h->limit.streams) {
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	t = tunnel_new(h, frame->hd.stream_id);
	t->ask = mem_alloc(sizeof(*t->ask));
	list_add(&h->tunnels, &t->link);
	nghttp2_session_set_stream_user_data(session, t->id, t);
	return 0;
}

static void keep(struct ask *ask, char **ret, const uint8_t *value, size_t len, bool vital)
{
	if (len > HBONE_HEADER || memchr(value, 0, len)) {
		ask->bad |= vital;
		return;
	}
	free(*ret); /* twice the same: the last one stands */
	*ret = mem_alloc(len + 1);
	memcpy(*ret, value, len);
}

static bool is(const uint8_t *name, size_t len, const char *want)
{
	return len == strlen(want) && !memcmp(name, want, len);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
		     const uint8_t *value, size_t len, uint8_t flags, void *arg)
{
	struct hbone *h = arg;
	struct tunnel *t = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	struct ask *ask = t ? t->ask : NULL;

	h->header_bytes += (uint32_t)(name_len + len + 32);
	if (h->header_bytes > 4 * h->limit.header_list) { /* an answer is not worth what the rest costs */
		h->why = "hbone: headers too large";
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	if (!ask)
		return 0;
	if (is(name, name_len, ":method"))
		ask->connect = is(value, len, "CONNECT");
	else if (is(name, name_len, ":authority"))
		keep(ask, &ask->authority, value, len, true);
	else if (is(name, name_len, ":status"))
		t->status = len == 3 ? (uint16_t)((value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0') : 0;
	else if (is(name, name_len, "forwarded"))
		keep(ask, &ask->forwarded, value, len, false);
	else if (is(name, name_len, "baggage"))
		keep(ask, &ask->baggage, value, len, false);
	else if (is(name, name_len, "traceparent"))
		keep(ask, &ask->traceparent, value, len, false);
	return 0;
}

static void on_request(struct hbone *h, struct tunnel *t, bool large)
{
	const struct ask *ask = t->ask;
	int status = large ? 431 : !ask->connect || ask->bad || !ask->authority || !*ask->authority ? 400
												    : 0;

	if (status) {
		hbone_refuse(&t->s, status);
		h->glitches += HBONE_ANSWERED; /* not the owner's answer */
		return;
	}
	tunnel_set_state(t, TUNNEL_ASKED);
	t->tell_asked = true;
	tunnel_touch(t, 0);
}

static void on_answer(struct hbone *h, struct tunnel *t, bool large)
{
	static const struct {
		int status;
		const char *why;
	} known[] = {
		{400, "hbone: bad request (400)"},
		{401, "hbone: denied by policy (401)"},
		{403, "hbone: denied by policy (403)"},
		{404, "hbone: not found (404)"},
		{502, "hbone: bad gateway (502)"},
		{503, "hbone: destination unavailable (503)"},
		{504, "hbone: destination timed out (504)"},
	};
	const char *why = "hbone: CONNECT was refused";
	size_t i;

	if (t->state != TUNNEL_NEW || t->s.why)
		return;
	if (!large && t->status >= 100 && t->status < 200) {
		t->status = 0; /* the answer is yet to come */
		return;
	}
	if (!large && t->status >= 200 && t->status < 300) {
		list_del(&t->link);
		list_add(&h->tunnels, &t->link);
		tunnel_set_state(t, TUNNEL_OPEN);
		h->glitches -= HBONE_ANSWERED;
		tunnel_touch(t, STREAM_OPEN);
		h->may_write = true;
		return;
	}
	for (i = 0; i < array_size(known); i++)
		if (known[i].status == t->status)
			why = known[i].why;
	tunnel_fail(t, why);
	tunnel_reset(t, NGHTTP2_CANCEL);
}

/* ------------------------------------------------------------------ frames */

static void on_ping_ack(struct hbone *h, const uint8_t *opaque)
{
	if (!memcmp(opaque, HBONE_PING_DRAIN, 8)) {
		/* Whatever the peer sent before it knew of the drain has come. */
		if (h->server && h->draining && !h->last_goaway) {
			h->last_goaway = true;
			nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
					      nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
					      NULL, 0);
		}
	} else if (!memcmp(opaque, HBONE_PING_ALIVE, 8) && h->ping_ns) {
		h->rtt_ns = clock_ns() - h->ping_ns;
		h->ping_ns = 0;
	}
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct hbone *h = arg;
	struct tunnel *t = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS: {
		bool large = h->header_bytes > h->limit.header_list;

		h->header_bytes = 0;
		if (!t)
			break;
		if (end)
			tunnel_ended(t);
		if (h->server && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
			on_request(h, t, large);
		else if (!h->server)
			on_answer(h, t, large);
		break;
	}
	case NGHTTP2_DATA:
		if (t && end)
			tunnel_ended(t);
		break;
	case NGHTTP2_SETTINGS:
		h->settings = true;
		h->may_write = true;
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
			h->why = "hbone: the peer has sent GOAWAY with an error";
		break;
	default:
		break;
	}
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
	struct tunnel *t = nghttp2_session_get_stream_user_data(session, id);

	if (t)
		tunnel_gone(t, error);
	return 0;
}

/* ------------------------------------------------------------------ telling */

static void tell_one(struct hbone *h, struct tunnel *t)
{
	unsigned events = t->events;

	t->events = 0;
	if (t->tell_asked) {
		const struct hbone_request ask = {
			.authority = t->ask->authority,
			.forwarded = t->ask->forwarded,
			.baggage = t->ask->baggage,
			.traceparent = t->ask->traceparent,
		};

		t->tell_asked = false;
		h->events->asked(h, &t->s, &ask);
		if (t->state < TUNNEL_LEFT) {
			ask_free(t->ask);
			t->ask = NULL;
		}
		events |= t->events;
		t->events = 0;
	}
	if (t->state != TUNNEL_OPEN)
		events &= STREAM_FAILED;
	if (!t->want_read)
		events &= ~(unsigned)STREAM_READABLE;
	if (events & STREAM_READABLE)
		t->want_read = false;
	if (events && t->s.ready)
		t->s.ready(&t->s, events);
	if (t->state >= TUNNEL_LEFT)
		return;
	if (events & STREAM_OPEN) {
		ask_free(t->ask);
		t->ask = NULL;
	}
	tunnel_keep(t);
}

void hbone_tell(struct hbone *h)
{
	while (!list_empty(&h->touched)) {
		struct tunnel *t = container_of(h->touched.next, struct tunnel, touched);

		list_del(&t->touched);
		tell_one(h, t);
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
void hbone_offer(struct hbone *h)
{
	struct list all, rest;

	h->may_write = false;
	list_init(&all);
	list_init(&rest);
	list_join(&all, &h->waiting);
	while (!list_empty(&all)) { /* any of them may go away meanwhile */
		struct tunnel *t = container_of(all.next, struct tunnel, waiting);

		list_del(&t->waiting);
		if (h->out.len || h->over || !tunnel_may_write(t))
			list_add(&rest, &t->waiting);
		else if (t->s.ready)
			t->s.ready(&t->s, STREAM_WRITABLE);
	}
	list_join(&rest, &h->waiting);
	list_join(&h->waiting, &rest);
}

/* ------------------------------------------------------------------ reading */

/* Bytes used. Less than all: it is over, or the peer does not take what we have to say to him. */
static size_t feed(struct hbone *h, uint8_t *data, size_t len)
{
	size_t used = 0;

	while (used < len) {
		size_t n = len - used < HBONE_SLICE ? len - used : HBONE_SLICE;
		ssize_t r;

		h->batch->slice = data + used;
		h->batch->head = false;
		r = nghttp2_session_mem_recv(h->session, data + used, n);
		if (r < 0) {
			hbone_end(h, r == NGHTTP2_ERR_FLOODED ? "hbone: too many frames that want an answer"
							      : "hbone: the peer does not speak HTTP/2");
			return used;
		}
		used += (size_t)r;
		if (h->doomed || (size_t)r < n || nghttp2_session_get_outbound_queue_size(h->session) > HBONE_QUEUE)
			break;
	}
	return used;
}

static bool peer_is_deaf(struct hbone *h)
{
	return h->out.len > HBONE_OUT || nghttp2_session_get_outbound_queue_size(h->session) > HBONE_QUEUE;
}

/* One batch; false: nothing more now. */
static bool read_batch(struct hbone *h)
{
	struct stream_bytes run[STREAM_RUNS];
	struct batch b;
	unsigned i, runs = stream_peek(h->below, run, THREAD_SCRATCH);
	size_t all = 0;

	if (!runs) {
		if (h->below->ended)
			hbone_end(h, h->streams ? HBONE_CLOSED : NULL);
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
	hbone_tell(h); /* also when it is over: what came before that is good */
	h->batch = NULL;
	stream_consume(h->below, all);
	return !h->over && !h->doomed;
}

void hbone_read(struct hbone *h)
{
	unsigned i;

	h->more = false;
	for (i = 0; i < HBONE_BATCHES; i++) {
		if (h->over || h->doomed)
			return;
		if (peer_is_deaf(h)) {
			hbone_flush(h);
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

void hbone_receive_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_on_begin_frame_callback(c, on_begin_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
	nghttp2_session_callbacks_set_unpack_extension_callback(c, on_extension);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(c, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
}
