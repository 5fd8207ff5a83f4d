/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_pool.c: see http_pool.h.
 *
 *	CONN_DIALS --it stands--> CONN_FREE <--requests--> CONN_BUSY --GOAWAY, close, drain--> CONN_DRAINS --> freed
 *
 * A group is what one key has. Who waits is served by whatever comes first: a connection that gets free, or a new one;
 * so that each failure of a new one is told to one who waits (HTTP/1), or to all (HTTP/2: they wait for the same).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http_pool.h"

#define STREAMS_HOPED 100 /* of a connection of HTTP/2 that does not stand yet */

enum conn_state { CONN_DIALS, CONN_FREE, CONN_BUSY, CONN_DRAINS, CONN_STATES };

struct http_pool_group {
	struct http_pool_key key;
	struct http_pool *pool;
	struct list conns[CONN_STATES]; /* struct conn; of CONN_FREE the one used last is the first */
	struct list waits;		/* struct http_pool_wait */
	unsigned count, dialling, waiting;
	unsigned unsettled; /* they stand, and their server has not said yet how many requests it takes */
	unsigned shut;	    /* their server takes none for now: another one would say the same */
	unsigned busy; /* calls that still look at it */
	struct table_link link;
};

struct conn {
	struct http_pool_group *group;
	enum conn_state state;
	struct dial_wait dial;
	struct http_connection *http;
	uint64_t to;	 /* netns of the pod of this node that it goes to; 0: none */
	uint32_t policy; /* of that pod, when it was asked last */
	enum abi_reason ends; /* it is being ended, and why */
	bool used;
	bool settled, shut; /* of `http`, as they are counted in the group */
	struct list link;
};

struct http_pool {
	struct http_pool_plan plan;
	struct table groups;
	unsigned count;
	bool draining; /* a connection that is made yet serves who waits for it, and ends */
};

struct http_pool *http_pool_new(const struct http_pool_plan *plan)
{
	struct http_pool *p = mem_alloc(sizeof(*p));

	p->plan = *plan;
	return p;
}

/* ------------------------------------------------------------------ groups */

static uint64_t key_hash(const struct http_pool_key *k)
{
	const struct {
		uint64_t netns, generation;
		struct abi_addr client, server;
		uint32_t identity, service, port, version;
	} all = {k->netns, k->generation, k->client, k->server, k->identity, k->service, k->port, k->version};

	return table_hash(&all, sizeof(all));
}

static bool key_equal(const struct http_pool_key *a, const struct http_pool_key *b)
{
	return a->netns == b->netns && a->generation == b->generation && a->identity == b->identity &&
	       a->service == b->service && a->port == b->port && a->version == b->version &&
	       addr_equal(&a->client, &b->client) && addr_equal(&a->server, &b->server);
}

static struct http_pool_group *group_get(struct http_pool *p, const struct http_pool_key *key)
{
	uint64_t hash = key_hash(key);
	struct http_pool_group *g;

	for (struct table_link *l = table_first(&p->groups, hash); l; l = table_next_same(l)) {
		g = container_of(l, struct http_pool_group, link);
		if (key_equal(&g->key, key))
			return g;
	}
	g = mem_alloc(sizeof(*g));
	g->key = *key;
	g->pool = p;
	for (unsigned i = 0; i < CONN_STATES; i++)
		list_init(&g->conns[i]);
	list_init(&g->waits);
	table_add(&p->groups, &g->link, hash);
	return g;
}

static void group_put(struct http_pool_group *g)
{
	if (g->busy || g->count || g->waiting)
		return;
	table_del(&g->pool->groups, &g->link);
	free(g);
}

static void wait_done(struct http_pool_group *g, struct conn *c, enum abi_reason reason, const char *why)
{
	struct http_pool_wait *w = container_of(g->waits.next, struct http_pool_wait, link);
	bool fresh = c && !c->used;

	list_del(&w->link);
	w->waiting = false;
	g->waiting--;
	if (c)
		c->used = true;
	w->done(w, c ? c->http : NULL, fresh, reason, why);
}

/* ------------------------------------------------------------------ connections */

static void set_state(struct conn *c, enum conn_state to)
{
	struct http_pool_group *g = c->group;

	assert(to != CONN_DIALS && c->state != CONN_DRAINS);
	g->dialling -= c->state == CONN_DIALS;
	list_del(&c->link);
	if (to == CONN_FREE)
		list_add(g->conns[to].next, &c->link); /* before the first */
	else
		list_add(&g->conns[to], &c->link);
	c->state = to;
}

/* The last thing that is done with it; its group stays. */
static void conn_drop(struct conn *c)
{
	struct http_pool_group *g = c->group;

	dial_cancel(&c->dial);
	g->dialling -= c->state == CONN_DIALS;
	g->count--;
	g->pool->count--;
	list_del(&c->link);
	free(c);
}

static void serve(struct http_pool_group *g);

static void conn_drain(struct conn *c)
{
	if (c->state == CONN_DIALS || c->state == CONN_DRAINS)
		return;
	set_state(c, CONN_DRAINS);
	c->http->ops->drain(c->http);
}

static void http_answered(struct http_exchange *x, const struct http_head *h)
{
	const struct conn *c = x->connection->owner;

	c->group->pool->plan.answer(x, h);
}

static void http_is_free(struct http_connection *http)
{
	struct conn *c = http->owner;

	if (c->state != CONN_BUSY)
		return;
	set_state(c, CONN_FREE);
	serve(c->group);
}

static void set_shut(struct conn *c, bool shut)
{
	c->group->shut += shut;
	c->group->shut -= c->shut;
	c->shut = shut;
}

static void http_settled(struct http_connection *http)
{
	struct conn *c = http->owner;

	c->group->unsettled -= !c->settled;
	c->settled = true;
	set_shut(c, http->shut && c->state != CONN_DRAINS);
	serve(c->group);
}

/* Its server has taken no request until its end: who waits has waited in vain. */
static void give_up(struct conn *c)
{
	struct http_pool_group *g = c->group;

	if (!c->shut)
		return;
	set_shut(c, false);
	g->busy++;
	while (g->waiting)
		wait_done(g, NULL, ABI_OVERLOADED, "the backend allows no requests");
	g->busy--;
}

static void http_draining(struct http_connection *http)
{
	struct conn *c = http->owner;

	if (c->state != CONN_DRAINS)
		set_state(c, CONN_DRAINS);
	give_up(c);
}

static void refuse_unsettled(struct http_pool_group *g, const char *why)
{
	while (g->waiting && container_of(g->waits.next, struct http_pool_wait, link)->settled)
		wait_done(g, NULL, ABI_BAD_ANSWER, why);
}

static void http_closed(struct http_connection *http, const char *why)
{
	struct conn *c = http->owner;
	struct http_pool_group *g = c->group;
	char at[ADDR_PORT_TEXT];

	if (log_wants(LOG_DEBUG))
		log_debug("http connection to %s closed: %s", addr_port_text(&g->key.server, g->key.port, at),
			  why ? why : "in order");
	g->busy++;
	if (!c->settled) { /* and another one would not say it either */
		g->unsettled--;
		refuse_unsettled(g, why ? why : "the backend has closed the connection");
	}
	give_up(c);
	conn_drop(c);
	g->busy--;
	serve(g); /* there may be room for another one */
}

static const struct http_events events = {
	.answer = http_answered, .free = http_is_free, .settled = http_settled, .draining = http_draining,
	.closed = http_closed};

static void dialled(struct dial_wait *w, struct stream *s, enum abi_reason reason, const char *why)
{
	static const struct http_limits limits = {.idle_ns = HTTP_POOL_IDLE_NS};
	struct conn *c = container_of(w, struct conn, dial);
	struct http_pool_group *g = c->group;
	struct thread *t = g->pool->plan.dialer->thread;

	g->busy++;
	if (s) {
		c->http = (g->key.version == HTTP_2 ? http2_client : http1_client)(t, s, &limits, &events, c);
		set_state(c, CONN_FREE);
		c->settled = c->http->settled;
		g->unsettled += !c->settled;
	} else {
		conn_drop(c);
		if (g->waiting && g->key.version != HTTP_2)
			wait_done(g, NULL, reason, why);
		while (g->waiting && !g->dialling && g->key.version == HTTP_2)
			wait_done(g, NULL, reason, why);
	}
	g->busy--;
	serve(g);
}

static struct conn *conn_add(struct http_pool_group *g)
{
	struct conn *c = mem_alloc(sizeof(*c));

	c->group = g;
	c->dial.done = dialled;
	list_add(&g->conns[CONN_DIALS], &c->link);
	g->count++;
	g->pool->count++;
	g->dialling++;
	return c;
}

static void conn_new(struct http_pool_group *g)
{
	struct conn *c = conn_add(g);
	struct dialer *d = g->pool->plan.dialer;
	const struct view_pod *from = view_pod(d->view, g->key.netns), *to = NULL;
	struct dial_plan plan = {.client = g->key.client,
				 .client_port = g->key.client_port,
				 .server = g->key.server,
				 .server_port = g->key.port,
				 .own.service = g->key.service};
	enum abi_reason reason = from ? dial_choose(d, from, &plan, &to) : ABI_POD_GONE;

	c->to = to ? to->netns : 0;
	c->policy = to ? to->policy : 0;
	if (reason && reason != ABI_NEEDS_WORKER) /* then each request was asked about */
		dialled(&c->dial, NULL, reason, reason_name(reason));
	else
		dial_begin(d, &plan, &c->dial);
}

/* ------------------------------------------------------------------ requests */

/* A connection that can take a request now. */
static struct conn *conn_free(struct http_pool_group *g)
{
	while (!list_empty(&g->conns[CONN_FREE])) {
		struct conn *c = container_of(g->conns[CONN_FREE].next, struct conn, link);

		if (c->http->ops->free(c->http))
			return c;
		set_state(c, CONN_BUSY); /* it says when it is free() again */
	}
	return NULL;
}

static bool another(const struct http_pool_group *g)
{
	unsigned hoped = g->key.version == HTTP_2 ? (g->dialling + g->unsettled) * STREAMS_HOPED : g->dialling;

	return g->waiting > hoped && !g->shut && g->count < HTTP_POOL_CONNECTIONS;
}

/* The group is gone after it, if nothing is left of it. */
static void serve(struct http_pool_group *g)
{
	struct conn *c;
	bool early = false;

	if (g->busy)
		return; /* who is above looks again */
	g->busy++;
	while (g->waiting && (c = conn_free(g)) != NULL) {
		early = !c->http->settled && container_of(g->waits.next, struct http_pool_wait, link)->settled;
		if (early) /* http_settled() is to come */
			break;
		wait_done(g, c, ABI_NONE, NULL);
		if (c->state == CONN_FREE && !c->http->ops->free(c->http))
			set_state(c, CONN_BUSY);
	}
	while (!early && another(g))
		conn_new(g);
	if (g->pool->draining) {
		list_each_safe(at, next, &g->conns[CONN_FREE])
			conn_drain(container_of(at, struct conn, link));
		list_each_safe(at, next, &g->conns[CONN_BUSY])
			conn_drain(container_of(at, struct conn, link));
	}
	g->busy--;
	group_put(g);
}

void http_pool_take(struct http_pool *p, const struct http_pool_key *key, struct http_pool_wait *w)
{
	struct http_pool_group *g = group_get(p, key);

	if (g->waiting == HTTP_POOL_WAITING) {
		w->done(w, NULL, false, ABI_OVERLOADED, "too many requests wait for the endpoint");
		return;
	}
	if (w->modest && !conn_free(g)) {
		group_put(g);
		w->done(w, NULL, false, ABI_OVERLOADED, SHARES_WHY);
		return;
	}
	w->waiting = true;
	w->group = g;
	list_add(&g->waits, &w->link);
	g->waiting++;
	serve(g);
}

void http_pool_give(struct http_pool *p, const struct http_pool_key *key, struct stream *s, uint64_t to,
		    uint32_t policy)
{
	struct conn *c = conn_add(group_get(p, key));

	c->to = to;
	c->policy = policy;
	dialled(&c->dial, s, ABI_NONE, NULL);
}

void http_pool_cancel(struct http_pool_wait *w)
{
	if (!w->waiting)
		return;
	list_del(&w->link);
	w->waiting = false;
	w->group->waiting--;
	group_put(w->group);
}

/* ------------------------------------------------------------------ ends */

enum fate { GOES_ON, DRAINS, ENDS };

/* What is called back may begin others: so who dials is ended last, and his group held until then. */
static void conn_end(struct conn *c, enum abi_reason reason, struct list *dialling)
{
	if (c->ends)
		return;
	c->ends = reason;
	if (c->state == CONN_DIALS) {
		c->group->busy++;
		list_del(&c->link);
		list_add(dialling, &c->link);
		return;
	}
	if (c->state != CONN_DRAINS)
		set_state(c, CONN_DRAINS);
	c->http->ops->close(c->http, reason_name(reason));
}

static void each_conn(struct http_pool *p, enum fate (*judge)(struct conn *c, const void *arg, enum abi_reason *ret),
		      const void *arg)
{
	struct list dialling;

	list_init(&dialling);
	for (struct table_link *l = table_walk(&p->groups, NULL); l; l = table_walk(&p->groups, l)) {
		struct http_pool_group *g = container_of(l, struct http_pool_group, link);

		for (unsigned i = 0; i < CONN_STATES; i++) {
			list_each_safe(at, next, &g->conns[i]) {
				struct conn *c = container_of(at, struct conn, link);
				enum abi_reason reason = ABI_POD_GONE;
				enum fate fate = judge(c, arg, &reason);

				if (fate == DRAINS)
					conn_drain(c);
				else if (fate == ENDS)
					conn_end(c, reason, &dialling);
			}
		}
	}
	while (!list_empty(&dialling)) {
		struct conn *c = container_of(dialling.next, struct conn, link);
		struct http_pool_group *g = c->group;

		g->busy--;
		dial_cancel(&c->dial);
		dialled(&c->dial, NULL, c->ends, reason_name(c->ends));
	}
}

static enum fate judge_pod(struct conn *c, const void *arg, enum abi_reason *ret)
{
	uint64_t netns = *(const uint64_t *)arg;

	return c->group->key.netns == netns || c->to == netns ? ENDS : GOES_ON;
}

/* Who speaks, who is spoken to, and whether he may be. */
static enum fate judge_view(struct conn *c, const void *arg, enum abi_reason *ret)
{
	const struct http_pool_key *key = &c->group->key;
	const struct view *v = arg;
	const struct view_pod *from = view_pod(v, key->netns), *to = c->to ? view_pod(v, c->to) : NULL;
	const struct view_peer *peer = view_peer(v, &key->server);

	if (!from || (c->to && !to))
		return ENDS;
	if (to && !view_still_allows(to, &c->policy, from->spiffe, &key->client, key->port)) {
		*ret = ABI_POLICY_CHANGED;
		return ENDS;
	}
	return from->identity != key->identity || (peer ? peer->generation : 0) != key->generation ? DRAINS : GOES_ON;
}

static enum fate judge_drain(struct conn *c, const void *arg, enum abi_reason *ret)
{
	return DRAINS;
}

static enum fate judge_end(struct conn *c, const void *arg, enum abi_reason *ret)
{
	*ret = ABI_RESET;
	return ENDS;
}

void http_pool_pod_gone(struct http_pool *p, uint64_t netns)
{
	each_conn(p, judge_pod, &netns);
}

void http_pool_view_changed(struct http_pool *p)
{
	each_conn(p, judge_view, p->plan.dialer->view);
}

void http_pool_drain(struct http_pool *p)
{
	p->draining = true;
	each_conn(p, judge_drain, NULL);
}

void http_pool_free(struct http_pool *p)
{
	if (!p)
		return;
	each_conn(p, judge_end, NULL);
	loop_settle(p->plan.dialer->thread->loop);
	assert(!p->count);
	table_free(&p->groups);
	free(p);
}

unsigned http_pool_count(const struct http_pool *p)
{
	return p->count;
}
