/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbone.c: tunnels: streams of HTTP/2 (http2_parts.h) that begin with CONNECT and its 200, and carry bytes after that.
 *
 * Closing is what it is in TCP: END_STREAM is a FIN, and so is RST_STREAM of NO_ERROR or CANCEL: it is how peers leave.
 */
#include <stdlib.h>
#include <string.h>

#include "hbone.h"
#include "http2_parts.h"

/*
 * CONNECTs that are taken back before they were answered are an attack to who serves them (CVE-2023-44487), and what a
 * program does that connects and resets. Ours ends the connection after 500 and 25 a second, Envoy after 500: with it
 * ends what stands on it. So before that no more of them go there.
 */
#define TAKEN_BACK 250
#define TAKEN_BACK_SECOND 20 /* that are forgiven */

struct hbone {
	struct http2 h;
	const struct hbone_events *events;
	void *owner;
	uint64_t answer_ns;
	uint32_t most; /* client: hbone_most(), as its owner was told */
	unsigned taken_back; /* client */
	uint64_t taken_ns;   /* until then they are forgiven */
	struct list asking; /* struct tunnel: client, until it is answered */
	struct loop_timer answer; /* of the first in `asking` */
};

/* The fields of a CONNECT or of its answer that we keep, until the owner has seen them. */
struct ask {
	char *authority, *forwarded, *baggage, *traceparent;
	bool connect, bad; /* method; a field is too long */
};

struct tunnel {
	struct http2_stream x;
	struct ask *ask;
	struct list asking;
	uint64_t asked_ns; /* client: CONNECT */
	uint16_t status;
};

static const char *const reasons[] = {
#define X(symbol, text) "hbone: " text,
	HTTP2_WHYS(X)
#undef X
};

static struct hbone *hbone_up(const struct http2 *h)
{
	return container_of(h, struct hbone, h);
}

static struct tunnel *tunnel_up(const struct http2_stream *x)
{
	return container_of(x, struct tunnel, x);
}

static struct tunnel *tunnel_of(const struct stream *s)
{
	return tunnel_up(http2_stream_of(s));
}

static void ask_free(struct tunnel *t)
{
	struct ask *a = t->ask;

	t->ask = NULL;
	if (!a)
		return;
	free(a->authority);
	free(a->forwarded);
	free(a->baggage);
	free(a->traceparent);
	free(a);
}

/* ------------------------------------------------------------------ heads */

static void keep(struct ask *ask, char **ret, nghttp2_vec value, bool vital)
{
	if (value.len > HBONE_HEADER || memchr(value.base, 0, value.len)) {
		ask->bad |= vital;
		return;
	}
	free(*ret); /* twice the same: the last one stands */
	*ret = mem_alloc(value.len + 1);
	memcpy(*ret, value.base, value.len);
}

static bool is(nghttp2_vec v, const char *want)
{
	return v.len == strlen(want) && !memcmp(v.base, want, v.len);
}

static int on_field(struct http2_stream *x, const struct http2_text *name_of, const struct http2_text *value_of,
		    uint8_t flags, bool trouble)
{
	nghttp2_vec name = name_of->v, value = value_of->v;
	struct tunnel *t = tunnel_up(x);
	struct ask *ask;

	if (!t->ask && x->state == HTTP2_NEW)
		t->ask = mem_alloc(sizeof(*t->ask));
	ask = t->ask;
	if (!ask || trouble)
		return 0;
	if (is(name, ":method"))
		ask->connect = is(value, "CONNECT");
	else if (is(name, ":authority"))
		keep(ask, &ask->authority, value, true);
	else if (is(name, ":status"))
		t->status = value.len == 3 ? (uint16_t)((value.base[0] - '0') * 100 + (value.base[1] - '0') * 10 +
							value.base[2] - '0')
					   : 0;
	else if (is(name, "forwarded"))
		keep(ask, &ask->forwarded, value, false);
	else if (is(name, "baggage"))
		keep(ask, &ask->baggage, value, false);
	else if (is(name, "traceparent"))
		keep(ask, &ask->traceparent, value, false);
	return 0;
}

static void on_request(struct tunnel *t, bool large)
{
	const struct ask *ask = t->ask;
	int status = large ? 431 : !ask->connect || ask->bad || !ask->authority || !*ask->authority ? 400
												    : 0;

	if (status) {
		hbone_refuse(&t->x.s, status);
		t->x.h->glitches += HTTP2_ANSWERED; /* not the owner's answer */
		return;
	}
	http2_stream_set_state(&t->x, HTTP2_ASKED);
	t->x.news = true;
	http2_stream_touch(&t->x, 0);
}

static void on_answer(struct tunnel *t, bool large)
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
	struct http2_stream *x = &t->x;
	size_t i;

	if (x->state != HTTP2_NEW || x->s.why)
		return;
	if (!large && t->status >= 100 && t->status < 200) {
		t->status = 0; /* the answer is yet to come */
		return;
	}
	if (!large && t->status >= 200 && t->status < 300) {
		list_del(&t->asking);
		http2_stream_set_state(x, HTTP2_OPEN);
		x->readable = x->writable = true;
		x->h->glitches -= HTTP2_ANSWERED;
		http2_stream_touch(x, STREAM_OPEN);
		x->h->may_write = true;
		if (x->s.finished)
			nghttp2_session_resume_data(x->h->session, x->id);
		return;
	}
	for (i = 0; i < array_size(known); i++)
		if (known[i].status == t->status)
			why = known[i].why;
	x->h->glitches -= HTTP2_ANSWERED; /* we have asked */
	http2_stream_fail(x, why);
	http2_stream_reset(x, NGHTTP2_CANCEL);
}

static void on_head(struct http2_stream *x, const nghttp2_frame *frame, bool trouble)
{
	if (!x->h->server)
		on_answer(tunnel_up(x), trouble);
	else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		on_request(tunnel_up(x), trouble);
}

static void on_tell(struct http2_stream *x)
{
	struct hbone *h = hbone_up(x->h);
	struct tunnel *t = tunnel_up(x);
	const struct hbone_request ask = {
		.authority = t->ask->authority,
		.forwarded = t->ask->forwarded,
		.baggage = t->ask->baggage,
		.traceparent = t->ask->traceparent,
	};

	x->unheard = false;
	h->events->asked(h, &x->s, &ask);
}

static void on_told(struct http2_stream *x)
{
	if (x->h->server || x->state == HTTP2_OPEN)
		ask_free(tunnel_up(x));
}

/* ------------------------------------------------------------------ the end of a tunnel */

static void on_gone(struct http2_stream *x, uint32_t error)
{
	if (x->state != HTTP2_OPEN) {
		x->h->glitches -= !x->h->server; /* an answer, too */
		http2_stream_fail(x, error == NGHTTP2_REFUSED_STREAM ? HBONE_UNPROCESSED
								      : "hbone: the peer has reset the CONNECT");
	} else if (error == NGHTTP2_NO_ERROR || error == NGHTTP2_CANCEL) {
		x->cut = true;
		http2_stream_ended(x);
		x->h->may_write = true;
	} else {
		http2_stream_fail(x, reasons[HTTP2_WHY_RESET]);
	}
}

/* The peer has closed both ways: as with TCP, what is written to him tells us so. */
static size_t on_write_cut(struct http2_stream *x, size_t all)
{
	if (all)
		http2_stream_fail(x, "hbone: the peer has closed the tunnel");
	return all;
}

static void on_drop(struct http2_stream *x)
{
	struct tunnel *t = tunnel_up(x);

	ask_free(t);
	if (t->asking.next)
		list_del(&t->asking);
}

static void take_back(struct hbone *h)
{
	uint64_t now = loop_now(h->h.thread->loop), forgiven = (now - h->taken_ns) * TAKEN_BACK_SECOND / 1000000000u;

	if (forgiven) {
		h->taken_back -= forgiven < h->taken_back ? (unsigned)forgiven : h->taken_back;
		h->taken_ns = now;
	}
	if (++h->taken_back > TAKEN_BACK)
		http2_drain(&h->h);
}

static void on_close(struct stream *s, const char *why)
{
	struct http2_stream *x = http2_stream_of(s);
	struct http2 *h = x->h;
	uint8_t was = x->state;
	bool failed = s->why;

	if (was == HTTP2_ASKED && !failed) {
		hbone_refuse(s, 503);
		return;
	}
	http2_stream_let_go(x);
	if (x->gone || h->over)
		return;
	if (was == HTTP2_NEW && !failed)
		take_back(hbone_up(h));
	if (was == HTTP2_NEW || failed)
		http2_stream_reset(x, NGHTTP2_CANCEL);
	else if (why)
		http2_stream_reset(x, NGHTTP2_CONNECT_ERROR); /* RFC 9113 section 8.5 */
	else if (x->end_sent)
		http2_stream_reset(x, h->server ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
	else if (!s->finished) {
		s->finished = true;
		nghttp2_session_resume_data(h->session, x->id);
	}
}

/* ------------------------------------------------------------------ time */

static void arm_answer(struct hbone *h)
{
	uint64_t now = loop_now(h->h.thread->loop), due;
	struct tunnel *first;

	if (list_empty(&h->asking)) {
		loop_disarm(h->h.thread->loop, &h->answer);
		return;
	}
	first = container_of(h->asking.next, struct tunnel, asking);
	due = first->asked_ns + h->answer_ns;
	loop_arm(h->h.thread->loop, &h->answer, due > now ? due - now : 1);
}

static void on_answer_due(struct loop_timer *timer)
{
	struct hbone *h = container_of(timer, struct hbone, answer);
	uint64_t now = loop_now(h->h.thread->loop);

	list_each_safe(at, next, &h->asking) {
		struct tunnel *t = container_of(at, struct tunnel, asking);

		if (t->asked_ns + h->answer_ns > now)
			break;
		list_del(&t->asking);
		http2_stream_fail(&t->x, "hbone: no answer to CONNECT in time");
		http2_stream_reset(&t->x, NGHTTP2_CANCEL);
	}
	arm_answer(h);
	http2_settle(&h->h);
}

/* ------------------------------------------------------------------ connections */

static void on_settled(struct http2 *c)
{
	struct hbone *h = hbone_up(c);
	uint32_t most = hbone_most(h);

	if (c->server || h->most == most)
		return;
	h->most = most;
	if (h->events->settled)
		h->events->settled(h);
}

static void on_draining(struct http2 *c)
{
	struct hbone *h = hbone_up(c);

	list_each(at, &c->all) {
		struct http2_stream *x = container_of(at, struct http2_stream, link);

		if (c->server) /* who asks knows it himself */
			break;
		x->s.draining = true;
		http2_stream_touch(x, STREAM_DRAINING);
	}
	h->events->draining(h);
}

static void on_closed(struct http2 *c, const char *why)
{
	struct hbone *h = hbone_up(c);

	loop_disarm(c->thread->loop, &h->answer);
	h->events->closed(h, why);
}

static const struct http2_user user = {
	.reason = reasons,
	.stream_size = sizeof(struct tunnel),
	.field = on_field,
	.head = on_head,
	.tell = on_tell,
	.told = on_told,
	.gone = on_gone,
	.drop = on_drop,
	.write_cut = on_write_cut,
	.close = on_close,
	.settled = on_settled,
	.draining = on_draining,
	.closed = on_closed,
};

static struct hbone *start(struct thread *t, struct stream *below, const struct hbone_limits *l,
			   const struct hbone_events *e, void *owner, bool server)
{
	static const struct hbone_limits none;
	struct hbone *h = mem_alloc(sizeof(*h));
	struct http2_limits limit;

	if (!l)
		l = &none;
	limit = (struct http2_limits){
		.stream_window = http2_or(l->stream_window, 4u << 20),
		.connection_window = http2_or(l->connection_window, 16u << 20),
		.frame_size = http2_or(l->frame_size, 1u << 20),
		.head_bytes = http2_or(l->header_list, server ? 64u << 10 : 16u << 10),
		.streams = http2_or(l->streams, server ? 200 : 100),
		.ping_ns = http2_or_ns(l->ping_ns, 10000000000ull),
		.ping_timeout_ns = http2_or_ns(l->ping_timeout_ns, 20000000000ull),
		.idle_ns = http2_or_ns(l->idle_ns, server ? 0 : 300000000000ull),
	};
	h->answer_ns = http2_or_ns(l->answer_ns, 10000000000ull);
	h->events = e;
	h->owner = owner;
	h->answer.due = on_answer_due;
	h->most = HBONE_UNSAID;
	h->taken_ns = loop_now(t->loop);
	list_init(&h->asking);
	http2_start(&h->h, t, below, &user, &limit, server);
	return h;
}

struct hbone *hbone_client(struct thread *t, struct stream *below, const struct hbone_limits *l,
			   const struct hbone_events *e, void *owner)
{
	return start(t, below, l, e, owner, false);
}

struct hbone *hbone_server(struct thread *t, struct stream *below, const struct hbone_limits *l,
			   const struct hbone_events *e, void *owner)
{
	return start(t, below, l, e, owner, true);
}

/* ------------------------------------------------------------------ questions */

void *hbone_owner(const struct hbone *h)
{
	return h->owner;
}

struct stream *hbone_below(const struct hbone *h)
{
	return h->h.below;
}

unsigned hbone_streams(const struct hbone *h)
{
	return h->h.streams;
}

uint32_t hbone_most(const struct hbone *h)
{
	uint32_t peer;

	if (!h->h.settings || h->h.over)
		return h->most;
	peer = nghttp2_session_get_remote_settings(h->h.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	return h->h.limit.streams < peer ? h->h.limit.streams : peer;
}

unsigned hbone_free(const struct hbone *h)
{
	return http2_free(&h->h);
}

void hbone_look(const struct hbone *up, struct hbone_view *ret)
{
	const struct http2 *h = &up->h;

	*ret = (struct hbone_view){
		.streams = h->streams,
		.opened = h->opened,
		.age_ns = clock_ns() - h->born_ns,
		.ping_rtt_ns = h->rtt_ns,
		.draining = h->draining,
		.waits = http2_waits(h),
	};
	if (!h->session)
		return;
	ret->send_window = nghttp2_session_get_remote_window_size(h->session);
	ret->recv_window = nghttp2_session_get_local_window_size(h->session);
}

void hbone_stream_look(const struct stream *s, struct hbone_stream_view *ret)
{
	const struct http2_stream *x = http2_stream_of(s);

	*ret = (struct hbone_stream_view){.waits = http2_stream_waits(x)};
	if (x->gone || !x->h->session)
		return;
	ret->send_window = nghttp2_session_get_stream_remote_window_size(x->h->session, x->id);
	ret->recv_window = nghttp2_session_get_stream_local_window_size(x->h->session, x->id);
}

int hbone_status(const struct stream *s)
{
	return tunnel_of(s)->status;
}

struct hbone *hbone_of(const struct stream *s)
{
	return hbone_up(http2_stream_of(s)->h);
}

const char *hbone_baggage(const struct stream *s)
{
	const struct tunnel *t = tunnel_of(s);

	return t->ask && t->ask->baggage ? t->ask->baggage : "";
}

/* ------------------------------------------------------------------ what the owner does */

struct stream *hbone_connect(struct hbone *h, const struct hbone_request *ask)
{
	nghttp2_nv all[] = {
		HTTP2_FIELD(":method", "CONNECT"),
		HTTP2_FIELD(":authority", ask->authority),
		HTTP2_FIELD("baggage", ask->baggage),
		/* Of no other CONNECT: not worth a place in the table of HPACK. */
		HTTP2_FIELD_FLAGS("forwarded", ask->forwarded, NGHTTP2_NV_FLAG_NO_INDEX),
		HTTP2_FIELD_FLAGS("traceparent", ask->traceparent, NGHTTP2_NV_FLAG_NO_INDEX),
	};
	nghttp2_data_provider data = {.read_callback = http2_on_read};
	size_t i, count = 0;
	struct http2_stream *x;
	struct tunnel *t;

	if (!hbone_free(h))
		return NULL;
	for (i = 0; i < array_size(all); i++)
		if (all[i].valuelen)
			all[count++] = all[i];
	x = http2_stream_new(&h->h, 0);
	data.source.ptr = x;
	x->id = nghttp2_submit_request(h->h.session, NULL, all, count, &data, x);
	if (x->id < 0) { /* stream ids have run out, which takes 2^30 of them */
		h->h.draining = true;
		http2_stream_never(x);
		http2_settle_later(&h->h);
		return NULL;
	}
	t = tunnel_up(x);
	t->asked_ns = loop_now(h->h.thread->loop);
	list_init(&t->asking);
	list_add(&h->asking, &t->asking);
	if (!h->answer.armed)
		arm_answer(h);
	http2_settle_later(&h->h);
	return &x->s;
}

void hbone_accept(struct stream *s, const char *baggage)
{
	nghttp2_nv field[] = {HTTP2_FIELD(":status", "200"), HTTP2_FIELD("baggage", baggage)};
	struct tunnel *t = tunnel_of(s);
	struct http2_stream *x = &t->x;
	struct http2 *h = x->h;
	nghttp2_data_provider data = {.source.ptr = x, .read_callback = http2_on_read};

	if (s->why || x->gone || h->over)
		return; /* he will hear of it */
	t->status = 200;
	http2_stream_set_state(x, HTTP2_OPEN);
	x->readable = x->writable = true;
	h->glitches -= HTTP2_ANSWERED;
	if (nghttp2_submit_response(h->session, x->id, field, baggage && *baggage ? 2 : 1, &data) < 0)
		http2_stream_fail(x, reasons[HTTP2_WHY_CANNOT_ANSWER]);
	http2_stream_touch(x, STREAM_READABLE);
}

void hbone_refuse(struct stream *s, int status)
{
	struct tunnel *t = tunnel_of(s);
	struct http2_stream *x = &t->x;
	struct http2 *h = x->h;
	nghttp2_nv field = HTTP2_FIELD(":status", "");
	char text[4];

	t->status = (uint16_t)status;
	snprintf(text, sizeof(text), "%03u", (unsigned)status % 1000);
	field.value = (uint8_t *)text;
	field.valuelen = 3;
	http2_stream_let_go(x);
	if (x->gone || h->over)
		return;
	h->glitches -= HTTP2_ANSWERED;
	if (nghttp2_submit_response(h->session, x->id, &field, 1, NULL) < 0)
		http2_stream_reset(x, NGHTTP2_REFUSED_STREAM);
}

void hbone_drain(struct hbone *h)
{
	http2_drain(&h->h);
}

void hbone_close(struct hbone *h, const char *why)
{
	http2_close(&h->h, why);
}
