/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_http.c: a client's connection on which HTTP is spoken, and its rest.
 *
 *	SERVE_HTTP: stream, codec, struct serve	--a second without a request--> stream, struct rest
 *	the same				<--whatever happens--
 *
 * Of many clients most say nothing most of the time. What is kept then is what is asked for without the client: who it
 * is, what it has moved, and its socket, which tells of all else. To wake is to make two structs, nothing beside a
 * request. HTTP/2 has a state that cannot be made anew (http/http2_memory.c).
 */
#include <assert.h>
#include <stdlib.h>

#include "parts.h"

#define IDLE_NS 3600000000000ull /* without a request, then it is over */
#define REST_NS 1000000000ull

static void requested(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	exchange_begin(c->owner, x, h);
}

static void refused(struct http_connection *c, int status, const char *why)
{
	struct serve *v = c->owner;
	char client[ADDR_PORT_TEXT];

	relay_count_reason(v->site, ABI_MALFORMED);
	if (log_wants(LOG_INFO))
		log_info("request refused: %s: client=%s status=%d", why,
			 addr_port_text(&v->caller.tuple.src, v->caller.tuple.src_port, client), status);
}

static void draining(struct http_connection *c)
{
}

static void closed(struct http_connection *c, const char *why)
{
	struct serve *v = c->owner;

	v->http = NULL;
	if (v->state == SERVE_CLOSED)
		loop_defer(v->site->thread->loop, &v->task);
	else
		serve_close(v, why ? ABI_RESET : ABI_NONE, why);
}

static void rests(struct http_connection *c);

static const struct http_events events = {
	.request = requested, .refused = refused, .rests = rests, .draining = draining, .closed = closed};

static void remember(struct serve *v)
{
	v->site->spoken[v->caller.service % SERVE_MEMORY] = v->caller.service;
}

/* A stranger has to ask for something; a pod may open its connections long before. */
static bool never_asked(const struct serve *v)
{
	return v->caller.edge && !v->caller.requests;
}

static void await_first(struct serve *v)
{
	struct loop *loop = v->site->thread->loop;
	uint64_t now = loop_now(loop), until = v->caller.opened_ns + SERVE_FIRST_NS;

	loop_arm(loop, &v->late, until > now ? until - now : 0);
}

/* A head that is coming has its own time, and is served. */
void serve_http_late(struct serve *v)
{
	if (never_asked(v))
		serve_http_drain(v);
}

void serve_http_drain(struct serve *v)
{
	v->http->last_ns = SITE_LAST_NS;
	v->http->ops->drain(v->http);
}

void serve_http(struct serve *v, bool http2)
{
	static const struct http_limits limits = {.idle_ns = IDLE_NS, .rest_ns = REST_NS};
	struct stream *s = v->stream;
	struct thread *t = v->site->thread;

	v->stream = NULL;
	if (!v->caller.edge)
		remember(v);
	serve_set_state(v, SERVE_HTTP);
	v->http = (http2 ? http2_server : http1_server)(t, s, &limits, &events, v);
	if (never_asked(v))
		await_first(v);
	if (v->site->draining)
		serve_http_drain(v);
}

/* ------------------------------------------------------------------ rest */

static struct rest *rest_of(struct list *link)
{
	return container_of(link, struct rest, link);
}

static void arm(struct site *at)
{
	uint64_t now = loop_now(at->thread->loop);

	if (!list_empty(&at->rests) && !at->rests_over.armed) {
		uint64_t until = rest_of(at->rests.next)->until_ns;

		loop_arm(at->thread->loop, &at->rests_over, until > now ? until - now : 0);
	}
}

/* It is served again. Whoever had asked for its events asks the codec from now on. */
static struct serve *wake(struct rest *r)
{
	struct site *at = r->stream->thread->proxy;
	struct serve *v = serve_new(at);

	v->declared = v->looks = true;
	v->caller = r->caller;
	v->stream = r->stream;
	list_del(&r->link);
	at->rest_count--;
	at->relay_count--; /* it was counted as long as it rested */
	free(r);
	serve_http(v, false);
	return v;
}

static void rest_ready(struct stream *s, unsigned happened)
{
	(void)wake(s->owner);
	s->ready(s, happened);
}

static void rests_due(struct loop_timer *t)
{
	struct site *at = container_of(t, struct site, rests_over);
	uint64_t now = loop_now(at->thread->loop);

	while (!list_empty(&at->rests) && rest_of(at->rests.next)->until_ns <= now)
		serve_close(wake(rest_of(at->rests.next)), ABI_NONE, NULL);
	arm(at);
}

static void rests(struct http_connection *c)
{
	struct serve *v = c->owner;
	struct site *at = v->site;
	struct rest *r;

	/* Its first request is to have that server; and a stranger has little time for his. */
	if (v->server || never_asked(v))
		return;
	assert(v->http == c && list_empty(&v->exchanges));
	r = mem_alloc(sizeof(*r));
	*r = (struct rest){.stream = http1_leave(c),
			   .until_ns = loop_now(at->thread->loop) + IDLE_NS - REST_NS,
			   .caller = v->caller};
	r->stream->ready = rest_ready;
	r->stream->owner = r;
	shares_hold(at->thread, caller_place(&r->caller));
	list_add(&at->rests, &r->link);
	at->rest_count++;
	at->relay_count++;
	at->rests_over.due = rests_due;
	arm(at);
	v->http = NULL;
	serve_leave(v);
}

void caller_row(const struct caller *c, struct relay_row *ret)
{
	*ret = (struct relay_row){
		.kind = RELAY_HTTP,
		.netns = c->netns,
		.tuple = c->tuple,
		.client = c->tuple.src,
		.server = c->asked,
		.client_port = c->tuple.src_port,
		.server_port = c->asked_port,
		.service = c->service,
		.sent = c->sent,
		.received = c->received,
		.requests = c->requests,
		.opened_ns = c->opened_ns,
	};
}

void rest_row(const struct rest *r, struct relay_row *ret)
{
	caller_row(&r->caller, ret);
	ret->open = true;
	ret->thread = r->stream->thread->index;
	ret->waits = "nothing";
}

static void end_one(struct list *l, void *arg)
{
	const struct ending *e = arg;

	if (!e->netns || rest_of(l)->caller.netns == e->netns)
		serve_close(wake(rest_of(l)), e->reason, e->why);
}

void rests_end(struct site *at, uint64_t netns, enum abi_reason reason, const char *why)
{
	struct ending e = {.netns = netns, .reason = reason, .why = why};

	list_visit(&at->rests, end_one, &e);
	if (list_empty(&at->rests))
		loop_disarm(at->thread->loop, &at->rests_over);
}

static void drain_one(struct list *l, void *arg)
{
	serve_http_drain(wake(rest_of(l)));
}

void rests_drain(struct site *at)
{
	list_visit(&at->rests, drain_one, NULL);
}
