/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.c: the life of one request: see exchange.h.
 *
 * A request goes to another endpoint when the one that was asked has certainly not acted on it, or may have had it but
 * does no harm by having it twice (RFC 9110 section 9.2.2) and the connection was an old one, which it may just have
 * been closing. Only while nothing of the body was read, since nothing is held.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

#define EDGE_STALL_NS 300000000000ull /* from outside; a Service's default (mesh/k8s_core.c) */
#define ARENA_BYTES 2016 /* a usual head, and what is added to it */

static void waited(struct http_pool_wait *w, struct http_connection *c, bool fresh, enum abi_reason reason,
		   const char *why);
static void again_run(struct loop_task *t);
static void deadline_due(struct loop_timer *t);
static void backend_due(struct loop_timer *t);

static struct loop *loop_of(const struct exchange *x)
{
	return x->site->thread->loop;
}

/* An exchange with its arena's first chunk is used again: a request at its usual size asks malloc() for nothing. */
static struct exchange *exchange_new(struct serve *v)
{
	struct site *at = v->site;
	struct exchange *x;

	if (list_empty(&at->exchanges)) {
		x = mem_alloc(sizeof(*x));
	} else {
		struct arena arena;

		x = container_of(at->exchanges.next, struct exchange, link);
		list_del(&x->link);
		at->exchanges_kept--;
		arena = x->arena;
		memset(x, 0, sizeof(*x));
		x->arena = arena;
	}
	arena_reserve(&x->arena, ARENA_BYTES);
	x->serve = v;
	x->site = at;
	list_init(&x->mirrors);
	x->wait.done = waited;
	x->again.run = again_run;
	x->deadline.due = deadline_due;
	x->backend_deadline.due = backend_due;
	x->grpc_status = -1;
	x->opened_ns = loop_now(at->thread->loop);
	list_add(&v->exchanges, &x->link);
	return x;
}

/* ------------------------------------------------------------------ the endpoint */

/* A pod's policy may be another one since it was asked. */
static bool still_allowed(struct serve *v, const struct view_pod *from)
{
	const struct view_pod *to = v->to ? view_pod(v->site->view, v->to) : NULL;

	if (!to)
		return !v->to;
	return view_still_allows(to, &v->policy, from->spiffe, &v->caller.tuple.src, v->plan.server_port);
}

/* What was dialled to hear whether the server greets: the first request's, if that goes there. */
static void use_dialled(struct exchange *x)
{
	struct serve *v = x->serve;
	struct stream *s = v->server;
	const struct http_pool_key *k = &x->key;

	v->server = NULL;
	if (k->port == v->plan.server_port && addr_equal(&k->server, &v->plan.server) &&
	    k->generation == v->generation && k->identity == v->identity && !s->draining && !s->ended &&
	    still_allowed(v, exchange_source(x)))
		http_pool_give(x->site->pool, k, s, v->to, v->policy);
	else
		stream_close(s, NULL);
	v->to = 0;
}

static void ask(struct exchange *x)
{
	struct site *at = x->site;
	struct http_pool_key key;
	enum abi_reason reason;

	exchange_set_state(x, EXCHANGE_WAITS);
	x->load = exchange_endpoint(x, exchange_service(x), &x->tried, &key);
	if (!x->load && x->tried.tries) {
		exchange_fail(x, x->failed, x->failed_why);
	} else if (!x->load) {
		exchange_fail(x, exchange_source(x) ? ABI_NO_ENDPOINT : ABI_POD_GONE, NULL);
	} else if ((reason = exchange_allowed(x, x->head, &key)) != ABI_NONE) {
		exchange_fail(x, reason, NULL);
	} else {
		x->tried.tried[x->tried.tries++] = x->load;
		x->key = key;
		if (x->serve->server)
			use_dialled(x);
		x->place = exchange_takes_file(x, &key) ? caller_place(&x->serve->caller) : 0;
		shares_hold(at->thread, x->place);
		x->wait.settled = x->head->upgrade.len;
		x->wait.modest = shares_scarce(at->thread) &&
				 shares_over(at->thread, -1, caller_place(&x->serve->caller));
		http_pool_take(at->pool, &x->key, &x->wait);
	}
}

static bool idempotent(enum http_method m)
{
	return m == HTTP_GET || m == HTTP_HEAD || m == HTTP_OPTIONS || m == HTTP_PUT || m == HTTP_DELETE ||
	       m == HTTP_TRACE;
}

/* `unprocessed`: it has certainly not been acted on. true: somebody else is asked. */
static bool try_again(struct exchange *x, enum abi_reason reason, const char *why, bool unprocessed)
{
	if (x->state > EXCHANGE_SENT || x->tried.tries >= PICK_TRIES || x->bytes[RELAY_CLIENT] || x->once)
		return false;
	if (!unprocessed && (x->fresh || !idempotent(x->head->method)))
		return false;
	x->failed = reason;
	x->failed_why = why;
	/* It was the old connection's fault, not the endpoint's: it may be asked again. */
	if (!x->fresh && x->up && x->tried.tries)
		x->tried.tried[x->tried.tries - 1] = NULL;
	exchange_leave(x, why);
	loop_disarm(loop_of(x), &x->backend_deadline);
	ask(x);
	return true;
}

static void up_failed(struct exchange *x)
{
	const char *why = x->up->s.why;
	uint32_t error = x->up->error;
	bool both_http2 = x->down->connection->version == HTTP_2 && x->up->connection->version == HTTP_2;

	if (x->needless) /* the answer is complete: who has sent it need not hear the rest of the request */
		exchange_close(x, ABI_NONE, NULL);
	else if (x->state == EXCHANGE_ANSWERED)
		exchange_cut(x, ABI_RESET, why, error);
	else if (try_again(x, ABI_RESET, why, x->up->unprocessed))
		return;
	else if (error == H2_PROTOCOL_ERROR)
		exchange_fail(x, ABI_BAD_ANSWER, why);
	else if (both_http2 && error)
		exchange_cut(x, ABI_RESET, why, error);
	else
		exchange_fail(x, ABI_RESET, why);
}

static void up_ready(struct stream *s, unsigned events)
{
	struct exchange *x = s->owner;

	if (!x->up || s != &x->up->s)
		return;
	if (events & STREAM_FAILED) {
		up_failed(x);
		return;
	}
	if (events & STREAM_READABLE)
		exchange_pump_answer(x);
	if (events & STREAM_WRITABLE && x->state != EXCHANGE_CLOSED)
		loop_defer(loop_of(x), &x->again);
}

static struct http_text cut_text(struct exchange *x, struct http_text t)
{
	return http_text_keep(&x->arena, (struct http_text){t.at, t.len < 1024 ? t.len : 1024});
}

/* A large head is not held for the case that somebody else must be asked. */
static void let_go(struct exchange *x)
{
	const struct http_head *old = x->head;
	const struct http_field *type = http_field(old, HTTP_NAME_CONTENT_TYPE, NULL);
	struct http_head *h;

	if (!x->large.last)
		return;
	h = arena_alloc(&x->arena, sizeof(*h));
	*h = *old;
	h->method_text = cut_text(x, old->method_text);
	h->scheme = cut_text(x, old->scheme);
	h->authority = cut_text(x, old->authority);
	h->path = cut_text(x, old->path);
	h->upgrade = cut_text(x, old->upgrade);
	h->fields = h->room = 0;
	h->field = NULL;
	if (type) { /* what tells gRPC, which has answers of its own */
		h->field = arena_alloc(&x->arena, sizeof(*type));
		*h->field = (struct http_field){
			.name = HTTP_TEXT("content-type"), .value = cut_text(x, type->value), .id = type->id};
		h->fields = h->room = 1;
	}
	x->head = h;
	x->once = true;
	arena_free(&x->large);
}

/* The head goes out; its body follows. */
static void send_head(struct exchange *x, struct http_connection *c)
{
	bool end = x->head->body == HTTP_NO_BODY;

	x->up = http_request(c, x->head, end);
	if (!x->up) { /* it was free when it was given: the endpoint has just closed it */
		x->tried.tries -= !x->fresh;
		if (!try_again(x, ABI_OVERLOADED, "the connection takes no request", true))
			exchange_fail(x, ABI_OVERLOADED, "the connection takes no request");
		return;
	}
	x->up->s.ready = up_ready;
	x->up->s.owner = x;
	x->sent_ns = loop_now(loop_of(x));
	exchange_set_state(x, EXCHANGE_SENT);
	let_go(x);
	if (x->backend_ns)
		loop_arm(loop_of(x), &x->backend_deadline, x->backend_ns);
	if (x->begins)
		exchange_pump_request(x);
	else if (!x->up->s.finished)
		loop_defer(loop_of(x), &x->again);
}

static void waited(struct http_pool_wait *w, struct http_connection *c, bool fresh, enum abi_reason reason,
		   const char *why)
{
	struct exchange *x = container_of(w, struct exchange, wait);
	struct site *at = x->site;
	uint64_t key[2];

	if (!c) {
		if (dial_blames(reason, why))
			pick_failed(&at->pick, &x->key.server, x->key.port, loop_now(loop_of(x)));
		x->fresh = true;
		if (!try_again(x, reason, why, reason == ABI_UNREACHABLE || reason == ABI_TUNNEL_FAILED))
			exchange_fail(x, reason, why);
		return;
	}
	x->fresh = fresh;
	if (x->head->upgrade.len && x->key.version == HTTP_2 && !c->extended_connect) {
		exchange_fail(x, ABI_BAD_ANSWER, "the backend takes no upgrade over HTTP/2");
		return;
	}
	if (x->head->upgrade.len && !x->prepared) {
		key[0] = random_next(&at->dialer.random);
		key[1] = random_next(&at->dialer.random);
		x->prepared = true;
		why = websocket_request(&x->arena, x->head, x->key.version, (const uint8_t *)key, &x->websocket);
		if (why) {
			exchange_fail(x, ABI_MALFORMED, why);
			return;
		}
	}
	send_head(x, c);
}

/* ------------------------------------------------------------------ the answer */

/* What it is changed by, if by anything: the usual one goes on as it came. false: it was answered otherwise. */
static bool changed(struct exchange *x, const struct http_head **h)
{
	bool websocket = x->websocket.add || x->websocket.verify;
	struct http_head *copy;
	const char *why;

	if (!x->changes && !websocket)
		return true;
	copy = http_head_keep(&x->arena, *h, 8);
	*h = copy;
	why = websocket ? websocket_answer(&x->websocket, copy) : NULL;
	if (why) {
		exchange_fail(x, ABI_BAD_ANSWER, why);
		return false;
	}
	if (x->changes)
		filter_answer(&x->arena, x->changes, copy);
	return true;
}

void exchange_answered(struct http_exchange *up, const struct http_head *h)
{
	struct exchange *x = up->s.owner;
	const struct http_field *status;

	if (mirror_is(up)) {
		mirror_answered(up);
		return;
	}
	if (x->up != up)
		return;
	if (h->status < 200 && h->status != 101) {
		x->once = true; /* it has been acted on, by an old connection too */
		http_answer(x->down, h);
		return;
	}
	if (h->status == 101 && !x->head->upgrade.len) {
		exchange_fail(x, ABI_BAD_ANSWER, "a protocol was switched that nobody asked for");
		return;
	}
	if (!changed(x, &h))
		return;
	exchange_set_state(x, EXCHANGE_ANSWERED);
	x->answered_ns = loop_now(loop_of(x));
	x->status = h->status;
	status = http_field(h, HTTP_NAME_GRPC_STATUS, NULL);
	x->grpc_status = status ? grpc_status_parse(status->value) : -1;
	if (h->body == HTTP_TUNNEL) { /* no request any more: it may go on for ever */
		stall_watch(x, 0);
		loop_disarm(loop_of(x), &x->deadline);
		loop_disarm(loop_of(x), &x->backend_deadline);
	}
	http_answer(x->down, h);
	exchange_pump_answer(x);
}

/* ------------------------------------------------------------------ the client */

static void down_ready(struct stream *s, unsigned events)
{
	struct exchange *x = s->owner;

	if (x->state == EXCHANGE_CLOSED)
		return;
	if (events & STREAM_FAILED) {
		uint32_t error = x->down->error;

		if (x->up)
			x->up->error = error ? error : H2_CANCEL;
		x->cut = true;
		exchange_close(x, ABI_RESET, s->why);
	} else if (x->state == EXCHANGE_REPLIES) {
		exchange_reply_more(x);
	} else if (x->up) {
		if (events & STREAM_READABLE)
			exchange_pump_request(x);
		if (events & STREAM_WRITABLE && x->state != EXCHANGE_CLOSED)
			loop_defer(loop_of(x), &x->again);
	}
}

static void again_run(struct loop_task *t)
{
	struct exchange *x = container_of(t, struct exchange, again);

	if (x->up)
		exchange_pump(x);
}

static void deadline_due(struct loop_timer *t)
{
	exchange_fail(container_of(t, struct exchange, deadline), ABI_TIMEOUT, "the request took too long");
}

static void backend_due(struct loop_timer *t)
{
	struct exchange *x = container_of(t, struct exchange, backend_deadline);

	if (x->needless)
		exchange_close(x, ABI_NONE, NULL);
	else
		exchange_fail(x, ABI_TIMEOUT, "the backend took too long");
}

static uint64_t stall_of(const struct exchange *x)
{
	const struct view_service *s = exchange_asked(x);

	return x->serve->caller.edge ? EDGE_STALL_NS : s ? s->stall_ns : 0;
}

void exchange_begin(struct serve *v, struct http_exchange *down, const struct http_head *h)
{
	struct exchange *x = exchange_new(v);

	x->down = down;
	down->s.ready = down_ready;
	down->s.owner = x;
	v->caller.requests++;
	v->site->requests++;
	x->begins = true;
	stall_watch(x, stall_of(x));
	if (exchange_route(x, h)) {
		if (x->request_ns)
			loop_arm(loop_of(x), &x->deadline, x->request_ns);
		ask(x);
	}
	x->begins = false;
}

void exchanges_end(struct list *exchanges, enum abi_reason reason, const char *why)
{
	while (!list_empty(exchanges))
		exchange_cut(container_of(exchanges->next, struct exchange, link), reason, why, H2_CANCEL);
}
