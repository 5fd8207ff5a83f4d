/* SPDX-License-Identifier: Apache-2.0 */
/* serve_close.c: how a client's connection to a Service begins to be served, its states, and the one door out. */
#include <assert.h>

#include "parts.h"

struct serve *serve_new(struct site *at)
{
	struct thread *t = at->thread;
	struct serve *v = slab_take(&t->slab[SLAB_SERVE], &t->pages, sizeof(*v));

	v->site = at;
	v->caller.opened_ns = loop_now(t->loop);
	list_init(&v->exchanges);
	list_add(&at->serves, &v->link);
	at->relay_count++;
	return v;
}

void serve_set_state(struct serve *v, enum serve_state to)
{
	assert(to > v->state);
	v->state = to;
}

static void serve_free(struct loop_task *t)
{
	struct serve *v = container_of(t, struct serve, task);
	struct thread *thread = v->site->thread;

	slab_give(&thread->slab[SLAB_SERVE], &thread->pages, v);
}

const struct abi_addr *serve_shakes_from(const struct list *l)
{
	return &container_of(l, struct serve, shaking)->caller.tuple.src;
}

void serve_shaken(struct serve *v)
{
	if (!v->shakes)
		return;
	v->shakes = false;
	list_del(&v->shaking);
	v->site->edge_handshakes.count--;
}

void serve_leave(struct serve *v)
{
	struct loop *loop = v->site->thread->loop;

	serve_set_state(v, SERVE_CLOSED);
	dial_cancel(&v->dial);
	loop_disarm(loop, &v->late);
	buf_clear(&v->first, &v->site->thread->pool);
	serve_shaken(v);
	list_del(&v->link);
	v->site->relay_count--;
	shares_let_go(v->site->thread, caller_place(&v->caller));
	loop_cancel(loop, &v->task);
	v->task.run = serve_free;
	if (!v->http)
		loop_defer(loop, &v->task);
}

static void log_end(const struct serve *v, enum abi_reason reason, const char *why)
{
	char client[ADDR_PORT_TEXT], asked[ADDR_PORT_TEXT];

	if (log_wants(LOG_DEBUG))
		log_debug("%s: http from=%s to=%s reason=%s requests=%llu", why ? why : "closed",
			  addr_port_text(&v->caller.tuple.src, v->caller.tuple.src_port, client),
			  addr_port_text(&v->caller.asked, v->caller.asked_port, asked), reason_name(reason),
			  (unsigned long long)v->caller.requests);
}

void serve_close(struct serve *v, enum abi_reason reason, const char *why)
{
	if (v->state == SERVE_CLOSED)
		return;
	if (reason && !why)
		why = reason_name(reason);
	log_end(v, reason, why);
	if (reason)
		relay_count_reason(v->site, reason);
	exchanges_end(&v->exchanges, reason, why);
	if (v->stream)
		stream_close(v->stream, reason ? why : NULL);
	if (v->server)
		stream_close(v->server, reason ? why : NULL);
	if (v->http)
		v->http->ops->close(v->http, reason ? why : NULL);
	serve_leave(v);
}
