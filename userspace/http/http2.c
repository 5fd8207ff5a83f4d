/* SPDX-License-Identifier: Apache-2.0 */
/* http2.c: requests and answers of http.h as streams of HTTP/2 (http2_parts.h). RFC 9113, 8441. */
#include <stdlib.h>
#include <string.h>

#include "http2_head.h"

#define HTTP2_FEW_FIELDS 40 /* of a usual head, with ours */
#define REFUSALS 8 /* different ones that may wait to be told */

struct messages { /* one connection */
	struct http2 h;
	struct http_connection c;
	struct http2_head *coming; /* header blocks come one at a time */
	bool had_free;		   /* client: the owner knows that there is room */
	uint32_t informational;
	unsigned refusals;
	struct {
		int status;
		enum http2_why why;
		unsigned times;
	} refusal[REFUSALS];
};

struct message {
	struct http2_stream x;
	struct http2_head *news; /* heads that were not told yet */
	struct arena arena;	 /* of trailers that came */
	nghttp2_nv *trail;	 /* to be sent, with their texts behind them */
	size_t trails;
	uint64_t length;    /* that we have promised */
	uint32_t informed;  /* 1xx that came */
	uint8_t asked;	    /* enum http_method */
	bool has_length;
	bool final;   /* client: the answer has come, if not been told */
	bool upgrade; /* extended CONNECT */
	bool tunnel;  /* it was agreed to: bytes both ways */
};

static const char *const reasons[] = {
#define X(symbol, text) "http2: " text,
	HTTP2_WHYS(X)
#undef X
};

static struct messages *messages_of(const struct http2 *h)
{
	return container_of(h, struct messages, h);
}

static struct message *message_of(const struct http2_stream *x)
{
	return container_of(x, struct message, x);
}

static struct messages *connection_of(const struct http_connection *c)
{
	return container_of(c, struct messages, c);
}

/* ------------------------------------------------------------------ what was refused */

static void on_refused(struct http2 *h, int status, enum http2_why why)
{
	struct messages *all = messages_of(h);
	unsigned i;

	for (i = 0; i < all->refusals; i++)
		if (all->refusal[i].status == status && all->refusal[i].why == why)
			break;
	if (i == REFUSALS)
		return; /* there are not so many */
	all->refusal[i].status = status;
	all->refusal[i].why = why;
	if (i == all->refusals) {
		all->refusal[i].times = 0;
		all->refusals++;
	}
	all->refusal[i].times++;
}

/*
 * Requests that a client may begin. Until the server has said how many it takes, one: of more than it takes it may end
 * the connection (RFC 9113 section 5.1.2), and who is on it hears only that.
 */
static unsigned may_begin(const struct http2 *h)
{
	unsigned most = h->server ? 0 : http2_free(h);

	if (most && !h->settings)
		return h->streams ? 0 : 1;
	return most;
}

static void on_settled(struct http2 *h)
{
	struct messages *all = messages_of(h);
	bool has_free = may_begin(h);

	while (all->refusals) {
		unsigned last = all->refusals - 1;

		if (!all->c.events->refused)
			all->refusals = 0;
		else if (all->refusal[last].times--)
			all->c.events->refused(&all->c, all->refusal[last].status, reasons[all->refusal[last].why]);
		else
			all->refusals--;
	}
	if (h->settings && !h->server && (!all->c.settled || all->c.shut != (h->shut_ns != 0))) {
		all->c.settled = true;
		all->c.shut = h->shut_ns != 0;
		if (all->c.events->settled)
			all->c.events->settled(&all->c);
	}
	if (has_free && !all->had_free) {
		all->had_free = true;
		if (all->c.events->free)
			all->c.events->free(&all->c);
	}
	if (!may_begin(h))
		all->had_free = false;
}

/* The codec answers by itself. */
static void refuse(struct http2_stream *x, int status, enum http2_why why)
{
	struct http_head answer = {.body = HTTP_NO_BODY, .has_length = true};
	nghttp2_nv field[HTTP2_OWN_FIELDS];
	char number[HTTP2_NUMBER];
	struct http2 *h = x->h;

	on_refused(h, status, why);
	http2_stream_let_go(x);
	if (nghttp2_submit_response(h->session, x->id, field,
				    http2_head_say(&answer, (unsigned)status, field, number), NULL) < 0)
		http2_stream_reset(x, NGHTTP2_REFUSED_STREAM);
}

/* ------------------------------------------------------------------ heads that come */

static void on_begin(struct http2 *h)
{
	struct messages *all = messages_of(h);

	http2_head_free(all->coming);
	all->coming = NULL;
}

static int on_field(struct http2_stream *x, const struct http2_text *name, const struct http2_text *value,
		    uint8_t flags, bool large)
{
	struct messages *all = messages_of(x->h);

	if (!all->coming)
		all->coming = http2_head_new();
	http2_head_add(all->coming, name, value, flags, large);
	return 0;
}

static void add_news(struct message *m, struct http2_head *in)
{
	struct http2_head **at = &m->news;

	while (*at) /* 1xx, a few at most */
		at = &(*at)->next;
	*at = in;
	m->x.news = true;
	http2_stream_touch(&m->x, 0);
}

static const struct http_exchange_ops exchange_ops;

static void on_request(struct message *m, struct http2_head *in)
{
	struct http2_stream *x = &m->x;
	int status = http2_head_request(in, x->peer_ended);

	if (status) {
		http2_head_free(in);
		refuse(x, status, status == 431 ? HTTP2_WHY_HEADERS : HTTP2_WHY_MALFORMED);
		return;
	}
	x->h->glitches--; /* a request is none, though it may be taken back: http2_seen_reset() */
	m->asked = (uint8_t)in->h.method;
	if (in->h.upgrade.len)
		m->upgrade = true;
	else if (in->h.method == HTTP_CONNECT)
		m->tunnel = true;
	x->exchange.connection = &messages_of(x->h)->c;
	x->exchange.ops = &exchange_ops;
	http2_stream_set_state(x, HTTP2_ASKED);
	add_news(m, in);
}

static void bad_answer(struct message *m, struct http2_head *in, enum http2_why why)
{
	http2_head_free(in);
	m->x.exchange.error = NGHTTP2_PROTOCOL_ERROR;
	http2_stream_fail(&m->x, reasons[why]);
	http2_stream_reset(&m->x, NGHTTP2_PROTOCOL_ERROR);
}

static void on_answer(struct message *m, struct http2_head *in)
{
	struct http2_stream *x = &m->x;
	bool large = in->large;

	if (!http2_head_answer(in, (enum http_method)m->asked, m->upgrade, x->peer_ended)) {
		bad_answer(m, in, large ? HTTP2_WHY_HEADERS : HTTP2_WHY_MALFORMED);
	} else if (in->h.status < 200 && in->h.body != HTTP_TUNNEL &&
		   ++m->informed > messages_of(x->h)->informational) {
		bad_answer(m, in, HTTP2_WHY_INFORMATIONAL);
	} else {
		m->tunnel = in->h.body == HTTP_TUNNEL;
		m->final = m->tunnel || in->h.status >= 200;
		x->h->glitches -= m->final ? HTTP2_ANSWERED : 0; /* we have asked */
		add_news(m, in);
	}
}

static void on_trailers(struct message *m, struct http2_head *in)
{
	if (in->large) {
		bad_answer(m, in, HTTP2_WHY_HEADERS);
		return;
	}
	http2_head_join(in);
	if (in->h.fields)
		m->x.exchange.trailers = http_head_keep(&m->arena, &in->h, 0);
	http2_head_free(in);
}

static void on_head(struct http2_stream *x, const nghttp2_frame *frame, bool large)
{
	struct messages *all = messages_of(x->h);
	struct http2_head *in = all->coming;

	all->coming = NULL;
	if (!in)
		in = http2_head_new(); /* trailers without a field */
	if (x->s.why)
		http2_head_free(in);
	else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		on_request(message_of(x), in);
	else if (!x->h->server && !message_of(x)->final)
		on_answer(message_of(x), in);
	else
		on_trailers(message_of(x), in);
}

static void tell_head(struct message *m, struct http2_head *in)
{
	struct messages *all = messages_of(m->x.h);
	struct http_exchange *e = &m->x.exchange;

	http2_head_join(in);
	if (all->h.server) {
		m->x.unheard = false;
		m->x.readable = e->head_came = true;
		all->c.events->request(&all->c, e, &in->h);
		return;
	}
	if (in->h.status >= 200 || in->h.body == HTTP_TUNNEL) {
		http2_stream_set_state(&m->x, HTTP2_OPEN);
		m->x.readable = e->head_came = true;
	}
	all->c.events->answer(e, &in->h);
}

static void on_tell(struct http2_stream *x)
{
	struct message *m = message_of(x);

	while (m->news) {
		struct http2_head *in = m->news;

		m->news = in->next;
		if (!x->s.why)
			tell_head(m, in);
		http2_head_free(in);
	}
}

/* ------------------------------------------------------------------ what is sent */

/* `few` are nearly always enough. */
static nghttp2_nv *room_for(unsigned fields, nghttp2_nv few[HTTP2_FEW_FIELDS])
{
	size_t all = (size_t)fields + HTTP2_OWN_FIELDS;

	return all <= HTTP2_FEW_FIELDS ? few : mem_grow(NULL, all, sizeof(*few));
}

static void say_length(struct message *m, const struct http_head *h)
{
	m->has_length = h->body == HTTP_LENGTH && h->has_length;
	m->length = h->length;
}

static void answer(struct http_exchange *e, const struct http_head *head)
{
	struct http2_stream *x = http2_stream_of(&e->s);
	struct message *m = message_of(x);
	nghttp2_data_provider data = {.source.ptr = x, .read_callback = http2_on_read};
	bool agreed = m->upgrade && head->status == 101, end = head->body == HTTP_NO_BODY;
	/* It would be a yes to extended CONNECT, and was said to a GET that asked to switch. */
	bool lost = m->upgrade && head->status >= 200 && head->status < 300;
	nghttp2_nv few[HTTP2_FEW_FIELDS], *field;
	char number[HTTP2_NUMBER];
	struct http2 *h = x->h;
	size_t n;
	int r;

	if (x->s.why || x->gone || h->over)
		return; /* he will hear of it */
	field = room_for(head->fields, few);
	n = http2_head_say(head, agreed ? 200 : lost ? 502 : head->status, field, number);
	if (head->status < 200 && !agreed) {
		r = nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, x->id, NULL, field, n, NULL);
		r = r > 0 ? 0 : r;
	} else {
		http2_stream_set_state(x, HTTP2_OPEN);
		x->writable = e->head_sent = true;
		x->s.finished = end;
		m->tunnel = agreed || (m->asked == HTTP_CONNECT && head->body == HTTP_TUNNEL);
		say_length(m, head);
		h->glitches -= HTTP2_ANSWERED;
		r = nghttp2_submit_response(h->session, x->id, field, n, end ? NULL : &data);
	}
	if (field != few)
		free(field);
	if (r)
		http2_stream_fail(x, reasons[HTTP2_WHY_CANNOT_ANSWER]);
	http2_settle_later(h);
}

/* Kept until the body has ended, as one piece with their texts. */
static void trailers(struct http_exchange *e, const struct http_field *field, unsigned fields)
{
	struct http2_stream *x = http2_stream_of(&e->s);
	struct message *m = message_of(x);
	nghttp2_nv few[HTTP2_FEW_FIELDS], *all;
	size_t bytes = 0, i, n;
	uint8_t *to;

	if (!fields || m->trail || m->tunnel || x->s.finished || x->end_said)
		return;
	all = room_for(fields, few);
	n = http2_head_fields(field, fields, all);
	for (i = 0; i < n; i++)
		bytes += all[i].namelen + all[i].valuelen;
	m->trail = mem_grow(NULL, n * sizeof(*all) + bytes + 1, 1);
	m->trails = n;
	to = (uint8_t *)(m->trail + n);
	for (i = 0; i < n; i++) {
		m->trail[i] = all[i];
		m->trail[i].name = to;
		memcpy(to, all[i].name, all[i].namelen);
		to += all[i].namelen;
		m->trail[i].value = to;
		if (all[i].valuelen)
			memcpy(to, all[i].value, all[i].valuelen);
		to += all[i].valuelen;
	}
	if (all != few)
		free(all);
}

static bool on_trail(struct http2_stream *x, bool any)
{
	struct message *m = message_of(x);
	bool some = m->trails || (any && !m->tunnel);

	if (some)
		some = !nghttp2_submit_trailer(x->h->session, x->id, m->trail, m->trails);
	m->trails = 0;
	free(m->trail);
	m->trail = NULL;
	return some;
}

/* A message that has another length than it said is not one, whoever cut it. */
static bool is_complete(struct http2_stream *x)
{
	struct message *m = message_of(x);

	return !m->has_length || m->length == x->s.written_bytes;
}

static const struct http_exchange_ops exchange_ops = {.answer = answer, .trailers = trailers};

static struct http_exchange *request(struct http_connection *c, const struct http_head *head, bool end)
{
	struct messages *all = connection_of(c);
	struct http2 *h = &all->h;
	nghttp2_data_provider data = {.read_callback = http2_on_read};
	bool extended = head->upgrade.len && c->extended_connect;
	nghttp2_nv few[HTTP2_FEW_FIELDS], *field;
	char number[HTTP2_NUMBER];
	struct http2_stream *x;
	struct message *m;
	size_t n;

	if (!http2_free(h)) {
		all->had_free = false;
		return NULL;
	}
	x = http2_stream_new(h, 0);
	m = message_of(x);
	data.source.ptr = x;
	field = room_for(head->fields, few);
	n = http2_head_ask(head, extended, field, number);
	x->id = nghttp2_submit_request(h->session, NULL, field, n, end ? NULL : &data, x);
	if (field != few)
		free(field);
	if (x->id < 0) { /* stream ids have run out, which takes 2^30 of them */
		h->draining = true;
		http2_stream_never(x);
		http2_settle_later(h);
		return NULL;
	}
	x->exchange.connection = c;
	x->exchange.ops = &exchange_ops;
	x->writable = true;
	x->s.finished = end;
	m->asked = (uint8_t)head->method;
	m->upgrade = extended;
	say_length(m, head);
	http2_settle_later(h); /* it leaves with the first of its body, or when the turn ends */
	if (h->below->draining) { /* the last one, then */
		http2_flush(h);
		http2_drain(h);
	}
	return &x->exchange;
}

/* ------------------------------------------------------------------ the end of a message */

static void on_gone(struct http2_stream *x, uint32_t error)
{
	struct message *m = message_of(x);
	struct http2 *h = x->h;
	struct http_exchange *e = &x->exchange;
	/* Who has said a word of an answer has acted on it, whatever he calls it. */
	bool refused = error == NGHTTP2_REFUSED_STREAM && !m->final && !m->informed;

	/*
	 * All that is to come has come. The answer is whole: what else we have to say interests nobody (RFC 9113
	 * section 8.1). And so leaves a tunnel who wants no more of it.
	 */
	if (x->peer_ended && (m->tunnel ? error == NGHTTP2_NO_ERROR || error == NGHTTP2_CANCEL : !h->server)) {
		x->cut = true;
		h->may_write = true;
		return;
	}
	e->error = h->closed ? NGHTTP2_CANCEL : error;
	e->unprocessed = !h->server && (refused || !e->head_sent);
	http2_stream_fail(x, reasons[x->reset_sent ? HTTP2_WHY_MALFORMED
				     : refused	   ? HTTP2_WHY_UNPROCESSED
						   : HTTP2_WHY_RESET]);
}

static size_t on_write_cut(struct http2_stream *x, size_t all)
{
	if (all && message_of(x)->tunnel)
		http2_stream_fail(x, reasons[HTTP2_WHY_RESET]);
	return all;
}

static void on_drop(struct http2_stream *x)
{
	struct message *m = message_of(x);

	while (m->news) {
		struct http2_head *in = m->news;

		m->news = in->next;
		http2_head_free(in);
	}
	arena_free(&m->arena);
	x->exchange.trailers = NULL;
	if (x->gone || !x->s.finished) { /* else they may be on their way */
		free(m->trail);
		m->trail = NULL;
		m->trails = 0;
	}
}

static void on_close(struct stream *s, const char *why)
{
	struct http2_stream *x = http2_stream_of(s);
	struct http2 *h = x->h;
	uint32_t error = x->exchange.error;
	bool failed = s->why;

	if (!why && !failed && message_of(x)->tunnel && x->writable && !s->finished) {
		s->finished = true;
		if (!x->gone && !h->over)
			nghttp2_session_resume_data(h->session, x->id);
	}
	http2_stream_let_go(x);
	if (x->gone || h->over)
		return;
	/* A message that was not finished is cut: it must never look like a whole one. */
	if (h->server && x->exchange.head_sent && why)
		http2_flush(h); /* the head goes before it: nghttp2 sends nothing of a stream that is to be reset */
	if (failed || why || !s->finished)
		http2_stream_reset(x, error ? error : h->server && !failed ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL);
	else if (x->end_sent)
		http2_stream_reset(x, h->server ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
}

/* ------------------------------------------------------------------ connections */

static void on_settings(struct http2 *h)
{
	struct messages *all = messages_of(h);

	if (!h->server)
		all->c.extended_connect =
			nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

static void on_draining(struct http2 *h)
{
	struct messages *all = messages_of(h);

	if (all->c.events->draining)
		all->c.events->draining(&all->c);
}

static void on_closed(struct http2 *h, const char *why)
{
	struct messages *all = messages_of(h);

	on_begin(h);
	all->c.below = NULL;
	all->c.events->closed(&all->c, why);
}

static const struct http2_user user = {
	.reason = reasons,
	.stream_size = sizeof(struct message),
	.cork = true,
	.leaf = true,
	.extended_connect = true,
	.begin = on_begin,
	.field = on_field,
	.head = on_head,
	.tell = on_tell,
	.gone = on_gone,
	.drop = on_drop,
	.write_cut = on_write_cut,
	.complete = is_complete,
	.trail = on_trail,
	.close = on_close,
	.refused = on_refused,
	.settled = on_settled,
	.settings = on_settings,
	.draining = on_draining,
	.closed = on_closed,
};

/* Whoever hears that there is no room is told when there is: also when answers have come before on_settled() looks. */
static unsigned free_of(const struct http_connection *c)
{
	struct messages *all = connection_of(c);
	unsigned most = may_begin(&all->h);

	if (!most)
		all->had_free = false;
	return most;
}

static unsigned active(const struct http_connection *c)
{
	return connection_of(c)->h.streams;
}

static void drain(struct http_connection *c)
{
	http2_drain(&connection_of(c)->h);
}

static void close_connection(struct http_connection *c, const char *why)
{
	http2_close(&connection_of(c)->h, why);
}

static size_t kept(const struct http_connection *c)
{
	const struct http2 *h = &connection_of(c)->h;
	size_t all = buf_kept(&h->out) + buf_kept(&h->corked) + (h->below ? stream_kept(h->below) : 0);

	list_each(l, &h->all)
		all += buf_kept(&container_of(l, struct http2_stream, link)->kept);
	return all;
}

static const struct http_connection_ops connection_ops = {
	.request = request,
	.free = free_of,
	.active = active,
	.drain = drain,
	.close = close_connection,
	.kept = kept,
};

static struct http_connection *start(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner, bool server)
{
	static const struct http_limits none;
	struct messages *all = mem_alloc(sizeof(*all));
	struct http2_limits limit;

	if (!l)
		l = &none;
	limit = (struct http2_limits){
		.stream_window = http2_or(l->stream_window, 4u << 20),
		.connection_window = http2_or(l->connection_window, 16u << 20),
		.frame_size = http2_or(l->frame_size, 16384),
		.head_bytes = http2_or(l->head_bytes, 60u << 10),
		.fields = http2_or(l->fields, 100),
		.streams = http2_or(l->streams, 100),
		.resets = server,
		.ping_ns = l->ping_ns,
		.ping_timeout_ns = http2_or_ns(l->ping_timeout_ns, 20000000000ull),
		.idle_ns = http2_or_ns(l->idle_ns, server ? 3600000000000ull : 60000000000ull),
		.head_ns = http2_or_ns(l->head_ns, 10000000000ull),
	};
	all->informational = http2_or(l->informational, 16);
	all->had_free = !server;
	all->c = (struct http_connection){
		.ops = &connection_ops,
		.events = e,
		.thread = t,
		.below = below,
		.owner = owner,
		.version = HTTP_2,
		.server = server,
	};
	http2_start(&all->h, t, below, &user, &limit, server);
	return &all->c;
}

struct http_connection *http2_server(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner)
{
	return start(t, below, l, e, owner, true);
}

struct http_connection *http2_client(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner)
{
	return start(t, below, l, e, owner, false);
}
