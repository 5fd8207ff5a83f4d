/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c: a client's connection to a Service that is looked into: what is spoken on it, and then who serves it.
 *
 *	declared HTTP		its first bytes tell HTTP/1 from HTTP/2
 *	nobody said		whoever speaks first tells: a server is dialled at once, so that one who greets is heard
 *	TLSRoute		the client's first record has the name
 *	TCPRoute, else		bytes, to a backend of the route or to the Service itself: a relay
 *	from outside		to a Gateway: HTTP, or TLS, whose ALPN tells which
 *
 * A Service of which a client was seen to speak HTTP is dialled only when the next client is late: so what is detected
 * costs one connection to a server, once. Bytes that do not come are not a failure.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parts.h"

#define LATE_NS 100000000ull	 /* after that a server may be the one who speaks first */
#define IDLE_NS 3600000000000ull /* without a first byte, where HTTP is declared */
#define HANDSHAKE_NS 10000000000ull
#define UNTOLD_NS 1000000000ull	 /* for the rest of bytes that may begin HTTP: longer than a segment that was lost */
#define FIRST_NS 10000000000ull	 /* the same where it is HTTP that begins, or TLS with a name */
#define FIRST_BYTES 32768	 /* that are looked at: a ClientHello of the largest kind */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static bool remembered(const struct serve *v)
{
	return v->site->spoken[v->caller.service % SERVE_MEMORY] == v->caller.service;
}

/* Whoever serves it reads all of it. */
static void unread(struct serve *v)
{
	if (v->first.len)
		sock_give_back(v->stream, &v->first);
}

/* Dialled to hear whether it greets; nobody needs it. */
static void drop_server(struct serve *v)
{
	if (v->server)
		stream_close(v->server, NULL);
	v->server = NULL;
	v->to = 0;
}

/* Its first bytes have said so. */
static void begin_http(struct serve *v, bool http2)
{
	unread(v);
	dial_cancel(&v->dial);
	if (!v->server)
		v->to = 0;
	loop_disarm(v->site->thread->loop, &v->late);
	serve_http(v, http2);
}

/* ------------------------------------------------------------------ bytes */

static const char *namespace_of(const struct serve *v)
{
	const struct view_pod *pod = view_pod(v->site->view, v->caller.netns);

	return pod ? pod->namespace : "";
}

/* Where bytes go: an endpoint of `s`. */
static enum abi_reason plan_endpoint(struct serve *v, const struct view_service *s)
{
	struct site *at = v->site;
	const struct pick_question q = {.ipv4 = addr_is_v4(&v->caller.tuple.src),
					.memory = &at->pick,
					.now_ns = loop_now(at->thread->loop),
					.random = random_next(&at->dialer.random)};
	const struct pick_affinity of = {
		.map = at->affinity, .number = s ? s->number : 0, .client = &v->caller.tuple.src};
	const struct view_endpoint *e = s ? pick_for(&of, s, &q) : NULL;

	if (!e)
		return ABI_NO_ENDPOINT;
	v->plan.server = e->addr;
	v->plan.server_port = e->port;
	return ABI_NONE;
}

/* A rule of a TCPRoute or TLSRoute; NULL: the Service itself. */
static enum abi_reason plan_make(struct serve *v, const struct view_service *s, const struct route_rule *rule)
{
	struct site *at = v->site;
	const struct view_pod *from = view_pod(at->view, v->caller.netns), *to;
	const struct route_backend *b = NULL;
	const struct view_peer *peer;
	enum abi_reason reason;

	if (!from)
		return ABI_POD_GONE;
	if (rule) {
		b = route_backend(rule, random_next(&at->dialer.random));
		if (!b || b->refused)
			return ABI_BAD_BACKEND;
		s = view_backend(at->view, &b->target);
	}
	/* Without routes the kernel's choice is as good, and minds the client's affinity. */
	if (b || s->routes || v->tries) {
		reason = plan_endpoint(v, s);
		if (reason)
			return reason;
	}
	peer = view_peer(at->view, &v->plan.server);
	v->generation = peer ? peer->generation : 0;
	v->identity = from->identity;
	reason = dial_choose(&at->dialer, from, &v->plan, &to);
	v->to = to ? to->netns : 0;
	v->policy = to ? to->policy : 0;
	v->guarded = reason == ABI_NEEDS_WORKER;
	return v->guarded ? ABI_NONE : reason;
}

static const struct route_rule *tcp_rule(const struct serve *v, const struct view_service *s)
{
	return s->routes ? route_find_tcp(s->routes, namespace_of(v)) : NULL;
}

static struct relay *become_relay(struct serve *v)
{
	struct relay *r;

	unread(v);
	r = relay_captured(v->site, v->caller.netns, &v->caller.tuple, v->stream, &v->plan);
	r->to = v->to;
	r->policy = v->policy;
	r->identity = v->identity;
	r->guarded = v->guarded;
	r->opened_ns = v->caller.opened_ns;
	v->stream = NULL;
	return r;
}

static void relay_to_server(struct serve *v)
{
	struct relay *r = become_relay(v);
	struct stream *server = v->server;

	v->server = NULL;
	serve_leave(v);
	relay_judge(r); /* it stands for a while perhaps */
	if (r->state == RELAY_CLOSED)
		stream_close(server, "not wanted any more");
	else
		relay_join(r, server);
}

static void relay_by(struct serve *v, const struct view_service *s, const struct route_rule *rule)
{
	enum abi_reason reason = plan_make(v, s, rule);
	struct relay *r = become_relay(v);
	const struct dial_plan plan = v->plan;

	drop_server(v);
	serve_leave(v);
	if (reason)
		relay_close(r, reason, NULL);
	else
		relay_dial(r, &plan);
}

/* Bytes, to whoever was dialled already, if somebody was. */
static void relay_bytes(struct serve *v, const struct view_service *s)
{
	v->bytes = true;
	if (v->server)
		relay_to_server(v);
	else if (!v->dial.dial)
		relay_by(v, s, tcp_rule(v, s));
}

/* ------------------------------------------------------------------ who speaks first */

static void server_ready(struct stream *s, unsigned happened)
{
	struct serve *v = s->owner;
	struct stream_bytes run[STREAM_RUNS];
	unsigned runs;

	if (v->state != SERVE_LISTENS) { /* it says something, or ends: of no use for the first request */
		if (happened & (STREAM_READABLE | STREAM_FAILED))
			drop_server(v);
		return;
	}
	if (happened & STREAM_FAILED) {
		serve_close(v, ABI_RESET, s->why);
		return;
	}
	runs = stream_peek(s, run, STREAM_RUNS);
	if (runs)
		stream_consume(s, 0);
	if (runs || s->ended || v->bytes)
		relay_to_server(v);
}

static void dial_server(struct serve *v);

static void dialled(struct dial_wait *w, struct stream *s, enum abi_reason reason, const char *why)
{
	struct serve *v = container_of(w, struct serve, dial);

	if (s) {
		v->server = s;
		s->ready = server_ready;
		s->owner = v;
		server_ready(s, STREAM_READABLE);
		return;
	}
	if (dial_blames(reason, why))
		pick_failed(&v->site->pick, &v->plan.server, v->plan.server_port, loop_now(v->site->thread->loop));
	if (++v->tries < PICK_TRIES && reason != ABI_PEER_REFUSED)
		dial_server(v);
	else
		serve_close(v, reason, why);
}

static void dial_server(struct serve *v)
{
	const struct view_service *s = view_service(v->site->view, v->caller.service);
	enum abi_reason reason = s ? plan_make(v, s, tcp_rule(v, s)) : ABI_NO_SERVICE_PORT;

	if (reason)
		serve_close(v, reason, NULL);
	else
		dial_begin(&v->site->dialer, &v->plan, &v->dial);
}

static void late_due(struct loop_timer *t)
{
	struct serve *v = container_of(t, struct serve, late);
	const struct view_service *s = v->caller.edge ? NULL : view_service(v->site->view, v->caller.service);

	if (v->state == SERVE_HTTP)
		serve_http_late(v);
	else if (v->declared && v->first.len)
		serve_close(v, ABI_TIMEOUT, "its first bytes do not go on");
	else if (v->declared)
		serve_close(v, ABI_NONE, NULL);
	else if (!v->first.len)
		dial_server(v);
	else if (s)
		relay_bytes(v, s); /* what waits for an answer to so little is no HTTP */
	else
		serve_close(v, ABI_NO_SERVICE_PORT, NULL);
}

/* ------------------------------------------------------------------ the client's first bytes */

static bool has(const struct serve *v, const struct view_service *s, enum route_kind kind)
{
	return s->routes && route_table_has(s->routes, kind, namespace_of(v));
}

static bool has_http(const struct serve *v, const struct view_service *s)
{
	return has(v, s, ROUTE_HTTP) || has(v, s, ROUTE_GRPC);
}

enum telling { MORE, HELLO /* more of it */, HTTP1, HTTP2, NAMED, BYTES };

static enum telling tell(const struct serve *v, const struct view_service *s, const uint8_t *data, size_t len,
			 char name[256])
{
	size_t known = len < sizeof(preface) - 1 ? len : sizeof(preface) - 1;
	enum http_spoken spoken;
	int n;

	if (v->declared) {
		if (memcmp(data, preface, known))
			return HTTP1;
		return known < sizeof(preface) - 1 ? MORE : HTTP2;
	}
	spoken = http_detect(data, len);
	if (spoken == HTTP_SPOKEN_UNKNOWN && len < FIRST_BYTES)
		return MORE;
	if (v->looks && spoken == HTTP_SPOKEN_HTTP1)
		return HTTP1;
	if (v->looks && spoken == HTTP_SPOKEN_HTTP2)
		return HTTP2;
	if (spoken != HTTP_SPOKEN_TLS || !has(v, s, ROUTE_TLS))
		return BYTES;
	n = http_sni(data, len, name);
	if (n < 0)
		*name = '\0';
	return !n && len < FIRST_BYTES ? HELLO : NAMED;
}

/* For what is to come, from the first byte. */
static void wait_for_more(struct serve *v, enum telling told)
{
	if (!v->untold)
		loop_arm(v->site->thread->loop, &v->late, v->declared || told == HELLO ? FIRST_NS : UNTOLD_NS);
	v->untold = true;
}

static void go_on(struct serve *v, const struct view_service *s, enum telling told, const char *name)
{
	const struct route_rule *rule;

	switch (told) {
	case MORE:
	case HELLO:
		return;
	case HTTP1:
	case HTTP2:
		begin_http(v, told == HTTP2);
		return;
	case NAMED:
		rule = route_find_tls(s->routes, name, namespace_of(v));
		if (rule)
			relay_by(v, s, rule);
		else
			serve_close(v, ABI_NO_ROUTE, NULL);
		return;
	case BYTES:
		relay_bytes(v, s);
		return;
	}
}

/* What came in parts, in one piece. */
static const uint8_t *gathered(const struct serve *v)
{
	uint8_t *to = v->site->thread->scratch[SCRATCH_PLAIN];
	struct iovec part[8];
	size_t at = 0;

	for (unsigned i = 0, n = buf_peek(&v->first, part, array_size(part)); i < n; i++) {
		memcpy(to + at, part[i].iov_base, part[i].iov_len);
		at += part[i].iov_len;
	}
	return to;
}

/* The usual case is one run of the socket's, which stays where it is. */
static void look(struct serve *v)
{
	const struct view_service *s = v->caller.edge ? NULL : view_service(v->site->view, v->caller.service);
	struct stream_bytes run[STREAM_RUNS];
	enum telling told = MORE;
	char name[256] = "";

	if (!s && !v->caller.edge) {
		serve_close(v, ABI_NO_SERVICE_PORT, NULL);
		return;
	}
	while (v->state == SERVE_LISTENS && !v->bytes && told <= HELLO) {
		unsigned runs = stream_peek(v->stream, run, FIRST_BYTES - v->first.len);

		if (!runs) {
			if (v->stream->ended && v->declared)
				serve_close(v, ABI_NONE, NULL);
			else if (v->stream->ended)
				relay_bytes(v, s);
			else if (v->first.len)
				wait_for_more(v, told);
			return;
		}
		told = v->first.len ? MORE : tell(v, s, run[0].data, run[0].len, name);
		if (told > HELLO) {
			stream_consume(v->stream, 0);
			break;
		}
		buf_add(&v->first, &v->site->thread->pool, run[0].data, run[0].len);
		stream_consume(v->stream, run[0].len);
		told = tell(v, s, gathered(v), v->first.len, name);
	}
	go_on(v, s, told, name);
}

/* The client's handshake is done. */
static void shaken(struct serve *v)
{
	serve_shaken(v);
	v->caller.listener = tls_mark(v->stream);
	begin_http(v, !strcmp(tls_alpn(v->stream), "h2"));
}

static void client_ready(struct stream *s, unsigned happened)
{
	struct serve *v = s->owner;

	if (v->state != SERVE_LISTENS)
		return;
	if (happened & STREAM_FAILED)
		serve_close(v, v->shakes ? ABI_HANDSHAKE_FAILED : ABI_RESET, s->why);
	else if (!v->shakes)
		look(v);
	else if (happened & STREAM_OPEN)
		shaken(v);
}

/* ------------------------------------------------------------------ begin */

bool serve_wants(const struct view_service *s)
{
	return s->routes || (s->wanted && s->protocol != VIEW_TCP && s->protocol != VIEW_TLS);
}

static void wait_for_bytes(struct serve *v)
{
	struct loop *loop = v->site->thread->loop;

	if (v->declared && !v->untold)
		loop_arm(loop, &v->late, IDLE_NS);
	else if (!v->declared && !remembered(v))
		dial_server(v);
	else if (!v->untold)
		loop_arm(loop, &v->late, LATE_NS);
}

static struct serve *from_client(struct site *at, uint64_t netns, const struct abi_tuple *t, bool edge)
{
	struct serve *v = serve_new(at);

	v->caller.netns = netns;
	v->caller.tuple = *t;
	v->caller.edge = edge;
	shares_hold(at->thread, caller_place(&v->caller));
	v->dial.done = dialled;
	v->late.due = late_due;
	return v;
}

void serve_begin(struct site *at, const struct view_pod *pod, const struct view_service *s, const struct abi_conn *c,
		 const struct abi_tuple *t, int fd)
{
	struct serve *v = from_client(at, pod->netns, t, false);

	v->caller.service = c->service;
	v->caller.asked = c->asked;
	v->caller.asked_port = c->asked_port;
	v->plan = (struct dial_plan){.client = t->src,
				     .client_port = t->src_port,
				     .server = c->target,
				     .server_port = c->target_port,
				     .own.service = c->service,
				     .place = caller_place(&v->caller)};
	v->stream = sock_awaited(at->thread, fd);
	v->stream->ready = client_ready;
	v->stream->owner = v;
	v->looks = has_http(v, s) || (!s->routes && s->protocol != VIEW_TCP && s->protocol != VIEW_TLS);
	v->declared = v->looks && (s->protocol == VIEW_HTTP || s->protocol == VIEW_HTTP2);
	if (!v->looks && !has(v, s, ROUTE_TLS)) {
		relay_bytes(v, s);
		return;
	}
	look(v);
	if (v->state == SERVE_LISTENS && !v->bytes)
		wait_for_bytes(v);
}

/* ------------------------------------------------------------------ from outside */

static struct serve *edge_new(struct site *at, const struct view_pod *gate, const struct abi_tuple *t)
{
	struct serve *v = from_client(at, gate->netns, t, true);

	v->declared = v->looks = true;
	v->caller.asked = t->dst;
	v->caller.asked_port = t->dst_port;
	return v;
}

static void make_room(struct site *at, const struct abi_addr *from)
{
	struct list *l = handshakes_room(&at->edge_handshakes, from);

	if (l)
		serve_close(container_of(l, struct serve, shaking), ABI_OVERLOADED, "too many handshakes");
}

void serve_edge(struct site *at, const struct view_pod *gate, const struct gateway_port *port,
		const struct abi_tuple *t, int fd)
{
	const struct tls_plan plan = {
		.ctx = port->tls, .server = true, .anonymous = true, .deadline_ns = HANDSHAKE_NS};
	struct serve *v;

	if (port->secure && !port->tls) {
		relay_refuse(at, fd, ABI_HANDSHAKE_FAILED, t, "the Gateway's port has no certificate");
		return;
	}
	v = edge_new(at, gate, t);
	v->caller.secure = port->secure;
	v->stream = sock_prepared(at->thread, fd);
	if (v->caller.secure) {
		make_room(at, &t->src);
		v->shakes = true;
		list_add(&at->edge_handshakes.all, &v->shaking);
		at->edge_handshakes.count++;
		v->stream = tls_stream(at->thread, v->stream, &plan);
	}
	v->stream->ready = client_ready;
	v->stream->owner = v;
	if (v->caller.secure)
		return; /* its deadline is the handshake's */
	look(v);
	if (v->state == SERVE_LISTENS && !v->untold)
		loop_arm(at->thread->loop, &v->late, SERVE_FIRST_NS);
}

/* ------------------------------------------------------------------ all of them */

static void end_one(struct list *l, void *arg)
{
	struct serve *v = container_of(l, struct serve, link);
	const struct ending *e = arg;

	if (!e->netns || v->caller.netns == e->netns || v->to == e->netns)
		serve_close(v, e->reason, e->why);
}

void serves_end(struct site *at, uint64_t netns, enum abi_reason reason, const char *why)
{
	struct ending e = {.netns = netns, .reason = reason, .why = why};

	list_visit(&at->serves, end_one, &e);
	rests_end(at, netns, reason, why);
}

static void drain_one(struct list *l, void *arg)
{
	struct serve *v = container_of(l, struct serve, link);

	if (v->http)
		serve_http_drain(v);
	else if (v->declared) /* late_due() ends it, if its first request does not come */
		loop_arm(v->site->thread->loop, &v->late, SITE_LAST_NS);
}

void serves_drain(struct site *at)
{
	list_visit(&at->serves, drain_one, NULL);
	rests_drain(at);
}

void serve_row(const struct serve *v, struct relay_row *ret)
{
	caller_row(&v->caller, ret);
	ret->open = !v->dial.dial;
	ret->thread = v->site->thread->index;
	ret->waits = v->state == SERVE_LISTENS ? "first bytes" : list_empty(&v->exchanges) ? "nothing" : "server";
}
