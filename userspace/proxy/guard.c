/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.c: a connection to a pod of this node whose policy asks for what HTTP says: each request is judged before the
 * app hears of it. One connection of the client is one to the app, in the same version of HTTP; nothing is routed, and
 * nothing changed but the path, which goes on in the form that was judged.
 *
 *	relay (both sides stand) --first bytes--> HTTP/1 or HTTP/2 on both sides
 *				 --other bytes--> judged once, as what is no HTTP
 */
#include <stdlib.h>
#include <string.h>

#include "filter.h"
#include "parts.h"

#define FIRST_NS 60000000000ull /* for the first bytes, which tell what is spoken */
#define FIRST_BYTES 4096	/* more than that it never takes */
#define HELD_HEAD 4096		/* bytes of a request's head that are kept while its answer is waited for */
#define H2_CANCEL 0x8u

struct guard {
	struct site *site;
	struct stream *side[2];	       /* by enum relay_end, until it is known what is spoken */
	struct buf seen;	       /* the same: of a socket's first bytes, while they do not tell */
	struct http_connection *http[2];
	struct list requests;	       /* struct judged */
	struct loop_timer first;
	struct loop_task task; /* looks at the first bytes; frees */
	bool closed;
	bool last; /* the app's connection takes no other request */
	struct guard_plan plan;
	char *spiffe; /* of the client; "": none */
	uint64_t asked, denied; /* requests */
	uint64_t bytes[2];	/* of bodies that are over */
	struct list link;
};

struct judged {
	struct guard *guard;
	struct http_exchange *side[2]; /* of the client, of the app; NULL: gone, or not asked yet */
	struct arena arena;
	struct http_head *head; /* until it was sent; then what an answer of weft's own must know */
	struct http_text reply; /* weft's own body that is not written yet */
	bool answered, replies, closed;
	struct loop_task again; /* stopped for others' sake, or is to be freed */
	uint64_t bytes[2];
	struct list link;
};

/* ------------------------------------------------------------------ one request */

static void judged_free(struct loop_task *t)
{
	struct judged *j = container_of(t, struct judged, again);

	arena_free(&j->arena);
	free(j);
}

/* why NULL: in order */
static void judged_close(struct judged *j, const char *why)
{
	struct loop *loop = j->guard->site->thread->loop;

	if (j->closed)
		return;
	j->closed = true;
	for (int i = 0; i < 2; i++) {
		if (!j->side[i])
			continue;
		if (why && !j->side[i]->error)
			j->side[i]->error = H2_CANCEL;
		stream_close(&j->side[i]->s, why);
		j->side[i] = NULL;
	}
	list_del(&j->link);
	j->guard->bytes[RELAY_CLIENT] += j->bytes[RELAY_CLIENT];
	j->guard->bytes[RELAY_SERVER] += j->bytes[RELAY_SERVER];
	loop_cancel(loop, &j->again);
	j->again.run = judged_free;
	loop_defer(loop, &j->again);
}

static void reply_more(struct judged *j)
{
	struct http_exchange *down = j->side[RELAY_CLIENT];
	struct stream_bytes run = {.data = (uint8_t *)j->reply.at, .len = j->reply.len};
	size_t took = j->reply.len ? stream_write(&down->s, &run, 1) : 0;

	j->reply.at += took;
	j->reply.len -= took;
	if (j->reply.len)
		return;
	stream_finish(&down->s);
	judged_close(j, NULL);
}

/* An answer of weft's own, or a cut where the app's has begun. */
static void judged_fail(struct judged *j, const struct http_head *request, enum abi_reason reason, const char *why)
{
	struct http_exchange *up = j->side[RELAY_SERVER];
	struct reply r;

	relay_count_reason(j->guard->site, reason);
	if (j->answered || j->replies) {
		judged_close(j, why ? why : reason_name(reason));
		return;
	}
	j->side[RELAY_SERVER] = NULL;
	if (up)
		stream_close(&up->s, why ? why : reason_name(reason));
	r = reply_make(&j->arena, request, 0, reason, why, clock_wall());
	j->replies = true;
	j->reply = r.body;
	j->side[RELAY_CLIENT]->unread = true;
	http_answer(j->side[RELAY_CLIENT], r.head);
	reply_more(j);
}

/* true: stopped for others' sake */
static bool pump_one(struct judged *j, enum relay_end from)
{
	struct http_exchange *in = j->side[from], *out = j->side[!from];
	enum stream_pump is;

	if (out->s.finished)
		return false;
	http_pass_trailers(in, out);
	is = stream_pump(&in->s, &out->s, &j->bytes[from]);
	if (is == STREAM_PUMP_ENDED) {
		http_pass_trailers(in, out);
		stream_finish(&out->s);
	}
	return is == STREAM_PUMP_MORE;
}

static void pump(struct judged *j)
{
	struct http_exchange *down = j->side[RELAY_CLIENT], *up = j->side[RELAY_SERVER];
	bool more = pump_one(j, RELAY_CLIENT);

	if (j->answered)
		more = pump_one(j, RELAY_SERVER) || more;
	if (down->s.finished && down->s.ended && up->s.finished && up->s.ended)
		judged_close(j, NULL);
	else if (more)
		loop_defer(j->guard->site->thread->loop, &j->again);
}

static void again_run(struct loop_task *t)
{
	struct judged *j = container_of(t, struct judged, again);

	if (j->side[RELAY_SERVER])
		pump(j);
}

static void side_ready(struct stream *s, unsigned happened)
{
	struct judged *j = s->owner;
	bool client = !j->closed && j->side[RELAY_CLIENT] && s == &j->side[RELAY_CLIENT]->s;

	if (j->closed || (!client && (!j->side[RELAY_SERVER] || s != &j->side[RELAY_SERVER]->s)))
		return;
	if (happened & STREAM_FAILED && client)
		judged_close(j, s->why);
	else if (happened & STREAM_FAILED && s->ended && j->side[RELAY_CLIENT]->s.finished)
		judged_close(j, NULL); /* the answer is complete: who has sent it need not hear the rest */
	else if (happened & STREAM_FAILED)
		judged_fail(j, j->head, ABI_RESET, s->why);
	else if (j->replies)
		reply_more(j);
	else if (j->side[RELAY_SERVER])
		pump(j);
}

/* A hundred large heads on one connection would be megabytes. */
static void let_go(struct judged *j)
{
	enum http_method method = j->head->method;
	bool grpc = http_is_grpc(j->head);

	if (j->arena.bytes <= HELD_HEAD)
		return;
	arena_free(&j->arena);
	j->head = arena_alloc(&j->arena, sizeof(*j->head));
	j->head->method = method;
	if (grpc)
		http_field_put(&j->arena, j->head, HTTP_TEXT("content-type"), HTTP_TEXT("application/grpc"));
}

/* The app's connection takes it, or it waits for that (HTTP/1: the last one is not over yet). */
static void send(struct judged *j)
{
	struct http_connection *c = j->guard->http[RELAY_SERVER];
	struct http_exchange *up;

	if (!c || j->guard->last) {
		judged_fail(j, j->head, ABI_RESET, "the app has closed its connection");
		return;
	}
	if (!http_free(c) || (j->head->upgrade.len && !c->settled))
		return;
	up = http_request(c, j->head, j->head->body == HTTP_NO_BODY);
	if (!up)
		return;
	up->s.ready = side_ready;
	up->s.owner = j;
	j->side[RELAY_SERVER] = up;
	let_go(j);
	pump(j);
}

/* The one form of host and path that is judged, and goes on. */
static const char *normalise(struct judged *j, char host[256], struct http_text *ret_host, struct http_text *ret_path)
{
	struct http_head *h = j->head;
	struct http_text query = {0};
	const char *why = NULL;
	uint16_t port;

	if (h->authority.len && !http_host(h->authority, host, ret_host, &port))
		return "the host is none";
	if (h->method == HTTP_CONNECT && !h->upgrade.len)
		return NULL;
	if (h->path.len == 1 && h->path.at[0] == '*') {
		*ret_path = h->path;
		return NULL;
	}
	if (!http_path_normalise(h->path, false, (char *)h->path.at, ret_path, &query, &why))
		return why;
	h->path = (struct http_text){ret_path->at, ret_path->len + (query.at ? 1 + query.len : 0)};
	return NULL;
}

static void requested(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	struct guard *g = c->owner;
	const struct view_pod *to = view_pod(g->site->view, g->plan.to);
	struct judged *j = mem_alloc(sizeof(*j));
	struct http_text name = {0}, path = {0};
	enum abi_reason reason = ABI_POD_GONE;
	const char *why;
	char host[256];

	j->guard = g;
	j->side[RELAY_CLIENT] = x;
	j->again.run = again_run;
	x->s.ready = side_ready;
	x->s.owner = j;
	list_add(&g->requests, &j->link);
	g->site->requests++;
	g->asked++;
	j->head = http_head_keep(&j->arena, h, 0);
	why = normalise(j, host, &name, &path);
	if (why)
		reason = ABI_MALFORMED;
	else if (to)
		reason = view_allows_request(to, g->spiffe, &g->plan.client, g->plan.server_port, j->head, name, path);
	g->denied += reason != ABI_NONE;
	if (reason)
		judged_fail(j, j->head, reason, why);
	else
		send(j);
}

/* ------------------------------------------------------------------ the connection */

static void guard_free(struct loop_task *t)
{
	struct guard *g = container_of(t, struct guard, task);

	free(g->spiffe);
	free(g);
}

static void guard_close(struct guard *g, enum abi_reason reason, const char *why)
{
	struct loop *loop = g->site->thread->loop;

	if (g->closed)
		return;
	if (reason && !why)
		why = reason_name(reason);
	if (reason)
		relay_count_reason(g->site, reason);
	while (!list_empty(&g->requests))
		judged_close(container_of(g->requests.next, struct judged, link), why ? why : "closed");
	g->closed = true;
	for (int i = 0; i < 2; i++) {
		struct http_connection *c = g->http[i];

		if (g->side[i])
			stream_close(g->side[i], why);
		g->side[i] = NULL;
		g->http[i] = NULL;
		if (c) {
			c->owner = NULL;
			c->ops->close(c, why);
		}
	}
	buf_clear(&g->seen, &g->site->thread->pool);
	list_del(&g->link);
	g->site->relay_count--;
	shares_let_go(g->site->thread, g->plan.place);
	loop_disarm(loop, &g->first);
	loop_cancel(loop, &g->task);
	g->task.run = guard_free;
	loop_defer(loop, &g->task);
}

static void answered(struct http_exchange *up, const struct http_head *h)
{
	struct judged *j = up->s.owner;

	if (j->closed || j->side[RELAY_SERVER] != up)
		return;
	j->answered = h->status >= 200 || h->status == 101;
	http_answer(j->side[RELAY_CLIENT], h);
	if (j->answered)
		pump(j);
}

/* Those that were judged already and wait. */
static void send_waiting(struct guard *g)
{
	list_each_safe(l, next, &g->requests) {
		struct judged *j = container_of(l, struct judged, link);

		if (!j->side[RELAY_SERVER] && !j->replies)
			send(j);
	}
}

static void app_free(struct http_connection *c)
{
	struct guard *g = c->owner;

	if (g)
		send_waiting(g);
}

static void refused(struct http_connection *c, int status, const char *why)
{
	struct guard *g = c->owner;

	if (g)
		relay_count_reason(g->site, ABI_MALFORMED);
}

static void drain(struct guard *g, uint64_t last_ns)
{
	struct http_connection *c = g->http[RELAY_CLIENT];

	c->last_ns = last_ns;
	c->ops->drain(c);
}

/* The app takes no more: nor do we. Who waits for it has waited in vain. */
static void app_ends(struct guard *g)
{
	g->last = true;
	if (g->http[RELAY_CLIENT])
		drain(g, 0);
	send_waiting(g);
}

static void draining(struct http_connection *c)
{
	struct guard *g = c->owner;

	if (g && g->http[RELAY_SERVER] == c)
		app_ends(g);
}

static void closed(struct http_connection *c, const char *why)
{
	struct guard *g = c->owner;

	if (!g)
		return;
	if (g->http[RELAY_CLIENT] == c) {
		g->http[RELAY_CLIENT] = NULL;
		guard_close(g, why ? ABI_RESET : ABI_NONE, why);
		return;
	}
	g->http[RELAY_SERVER] = NULL;
	app_ends(g);
}

static const struct http_events of_client = {
	.request = requested, .refused = refused, .draining = draining, .closed = closed};
static const struct http_events of_app = {
	.answer = answered, .free = app_free, .settled = app_free, .refused = refused, .draining = draining,
	.closed = closed};

static void serve(struct guard *g, bool http2)
{
	static const struct http_limits limits;
	struct thread *t = g->site->thread;
	struct stream *client = g->side[RELAY_CLIENT], *server = g->side[RELAY_SERVER];

	g->side[RELAY_CLIENT] = g->side[RELAY_SERVER] = NULL;
	loop_disarm(t->loop, &g->first);
	g->http[RELAY_SERVER] = (http2 ? http2_client : http1_client)(t, server, &limits, &of_app, g);
	g->http[RELAY_CLIENT] = (http2 ? http2_server : http1_server)(t, client, &limits, &of_client, g);
	if (g->site->draining)
		drain(g, SITE_LAST_NS);
}

/* No HTTP: one answer for all of it. What need not be asked is not guarded, so it does not go on. */
static void opaque(struct guard *g)
{
	const struct view_pod *to = view_pod(g->site->view, g->plan.to);
	enum abi_reason reason = to ? view_allows_request(to, g->spiffe, &g->plan.client, g->plan.server_port, NULL,
							  (struct http_text){0}, (struct http_text){0})
				    : ABI_POD_GONE;

	guard_close(g, reason ? reason : ABI_NEEDS_WORKER, NULL);
}

/*
 * What the client has said so far, in one piece: 0: nothing new. A socket shows what is new only when the old was
 * taken: it is given back. A copy of its own: a tunnel's bytes lie in the thread's scratch.
 */
static size_t first_bytes(struct guard *g, uint8_t to[FIRST_BYTES])
{
	struct thread *t = g->site->thread;
	struct stream *s = g->side[RELAY_CLIENT];
	bool takes = sock_is(s);
	struct stream_bytes run[STREAM_RUNS];
	struct iovec part[STREAM_RUNS];
	unsigned parts = stream_peek(s, run, FIRST_BYTES - g->seen.len);
	size_t len = 0;

	if (!parts)
		return 0;
	for (unsigned i = 0; i < parts; i++) {
		part[i] = (struct iovec){.iov_base = run[i].data, .iov_len = run[i].len};
		len += run[i].len;
		if (takes)
			buf_add(&g->seen, &t->pool, run[i].data, run[i].len);
	}
	if (takes) {
		stream_consume(s, len);
		parts = buf_peek(&g->seen, part, STREAM_RUNS);
	}
	len = 0;
	for (unsigned i = 0; i < parts; i++) {
		memcpy(to + len, part[i].iov_base, part[i].iov_len);
		len += part[i].iov_len;
	}
	if (!takes)
		stream_consume(s, 0);
	return len;
}

static void look(struct guard *g)
{
	struct stream *s = g->side[RELAY_CLIENT];
	enum http_spoken spoken = HTTP_SPOKEN_UNKNOWN;
	uint8_t first[FIRST_BYTES];
	size_t len;

	do {
		len = first_bytes(g, first);
		if (len)
			spoken = http_detect(first, len);
	} while (len && len < FIRST_BYTES && spoken == HTTP_SPOKEN_UNKNOWN && sock_is(s));
	if (s->ended && spoken == HTTP_SPOKEN_UNKNOWN) {
		guard_close(g, ABI_NONE, NULL);
		return;
	}
	if (len < FIRST_BYTES && spoken == HTTP_SPOKEN_UNKNOWN)
		return;
	if (g->seen.len)
		sock_give_back(s, &g->seen);
	if (spoken == HTTP_SPOKEN_HTTP1 || spoken == HTTP_SPOKEN_HTTP2)
		serve(g, spoken == HTTP_SPOKEN_HTTP2);
	else
		opaque(g);
}

/* Does the app end it before anything was said? What it says by itself has to wait. */
static void look_at_app(struct guard *g)
{
	struct stream *s = g->side[RELAY_SERVER];
	struct stream_bytes run[STREAM_RUNS];

	if (stream_peek(s, run, 1))
		stream_consume(s, 0);
	else if (s->ended)
		guard_close(g, ABI_NONE, NULL);
}

static void look_run(struct loop_task *t)
{
	struct guard *g = container_of(t, struct guard, task);

	if (!g->closed && g->side[RELAY_CLIENT])
		look(g);
	if (!g->closed && g->side[RELAY_SERVER])
		look_at_app(g);
}

static void first_due(struct loop_timer *t)
{
	guard_close(container_of(t, struct guard, first), ABI_TIMEOUT, "nothing was said");
}

static void stands(struct stream *s, unsigned happened)
{
	struct guard *g = s->owner;

	if (g->closed || !g->side[RELAY_CLIENT])
		return;
	if (happened & STREAM_FAILED)
		guard_close(g, ABI_RESET, s->why);
	else if (s == g->side[RELAY_CLIENT])
		look(g);
	else
		look_at_app(g);
}

struct guard *guard_of(struct list *link)
{
	return container_of(link, struct guard, link);
}

void guard_row(const struct guard *g, struct relay_row *ret)
{
	const struct guard_plan *p = &g->plan;
	const struct view_peer *peer = p->kind == RELAY_LOCAL ? view_peer(g->site->view, &p->server) : NULL;

	*ret = (struct relay_row){
		.kind = p->kind,
		.open = true,
		.thread = g->site->thread->index,
		.netns = p->netns,
		.tuple = p->tuple,
		.client = p->client,
		.server = p->server,
		.client_port = p->client_port,
		.server_port = p->server_port,
		.service = p->service,
		.sent = g->bytes[RELAY_CLIENT],
		.received = g->bytes[RELAY_SERVER],
		.requests = g->asked,
		.judged = true,
		.denied = g->denied,
		.opened_ns = p->opened_ns,
		.waits = g->side[RELAY_CLIENT]	     ? "first bytes"
			 : list_empty(&g->requests) ? "nothing"
						    : "server",
	};
	text_copy(ret->peer, sizeof(ret->peer), peer ? peer->spiffe : g->spiffe);
}

void guard_begin(struct site *at, struct stream *client, struct stream *server, const struct guard_plan *plan)
{
	struct guard *g = mem_alloc(sizeof(*g));

	g->site = at;
	g->plan = *plan;
	g->spiffe = mem_string(plan->spiffe ? plan->spiffe : "");
	g->plan.spiffe = NULL;
	g->side[RELAY_CLIENT] = client;
	g->side[RELAY_SERVER] = server;
	client->ready = server->ready = stands;
	client->owner = server->owner = g;
	list_init(&g->requests);
	list_add(&at->guards, &g->link);
	at->relay_count++;
	g->first.due = first_due;
	g->task.run = look_run;
	loop_arm(at->thread->loop, &g->first, FIRST_NS);
	loop_defer(at->thread->loop, &g->task);
}

size_t guard_kept(const struct guard *g, uint32_t *ret_place)
{
	size_t kept = 0;

	for (int i = 0; i < 2; i++)
		kept += g->http[i] ? http_kept(g->http[i]) : g->side[i] ? stream_kept(g->side[i]) : 0;
	*ret_place = g->plan.place;
	return kept;
}

void guard_shed(struct guard *g, const char *why)
{
	guard_close(g, ABI_OVERLOADED, why);
}

void guards_end(struct site *at, uint64_t netns, enum abi_reason reason, const char *why)
{
	list_each_safe(l, next, &at->guards) {
		struct guard *g = guard_of(l);

		if (!netns || g->plan.to == netns || g->plan.netns == netns)
			guard_close(g, reason, why);
	}
}

/* A pod of this node proves nothing: it is who the world says. */
static void learn_client(struct guard *g)
{
	const struct view_pod *from =
		g->plan.kind == RELAY_LOCAL ? view_pod(g->site->view, g->plan.netns) : NULL;

	if (!from || !strcmp(from->spiffe, g->spiffe))
		return;
	free(g->spiffe);
	g->spiffe = mem_string(from->spiffe);
}

void guards_view_changed(struct site *at)
{
	list_each_safe(l, next, &at->guards) {
		struct guard *g = guard_of(l);
		const struct view_pod *to = view_pod(at->view, g->plan.to);
		enum abi_reason reason = ABI_NONE;

		learn_client(g);
		if (to)
			reason = view_allows(to, g->spiffe, &g->plan.client, g->plan.server_port);
		if (reason && reason != ABI_NEEDS_WORKER)
			guard_close(g, ABI_POLICY_CHANGED, NULL);
	}
}

void guards_drain(struct site *at)
{
	list_each_safe(l, next, &at->guards) {
		struct guard *g = guard_of(l);

		if (g->http[RELAY_CLIENT] && g->http[RELAY_SERVER])
			drain(g, SITE_LAST_NS);
	}
}
