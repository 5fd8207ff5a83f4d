/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_gateway.c: what Gateways need of the process: TLS contexts out of Secrets, sockets of the supervisor, keys of
 * tickets. See worker.h.
 *
 *	world_update --> worker_gateway_tls() --> view_update --> worker_gateway_update() --WIRE_EDGE_OPEN--> threads
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "front.h"
#include "worker.h"

#define ROTATE_NS 3600000000000ull /* see front.h */
#define AGAIN_NS 5000000000ull	   /* a socket that could not be opened */

struct open { /* asked for, or open; of a Gateway */
	uint64_t netns;
	struct abi_addr addr;
	uint16_t port;
	uint32_t seq; /* of the question about the next threads; 0: all are there, or it failed */
	unsigned threads; /* that have theirs */
	bool wanted;
	struct list link;
};

struct tls { /* of a port, as it was made last */
	uint64_t netns, stamp;
	uint16_t port;
	bool used;
	void *front;
	struct front_listener *listener;
	unsigned listeners;
	struct list link;
};

struct worker_gateway {
	struct worker_gateway_plan plan;
	struct list opens, fronts;
	uint32_t seq;
	struct loop_timer rotate, again;
};

/* ------------------------------------------------------------------ TLS */

static uint64_t stamp_text(uint64_t stamp, const char *s)
{
	uint64_t pair[2] = {stamp, table_hash(s, strlen(s))};

	return table_hash(pair, sizeof(pair));
}

/* Of all that a context of the port is made from. */
static uint64_t stamp_of(const struct gateway *g, uint16_t port)
{
	uint64_t stamp = 0;

	for (unsigned i = 0; i < g->listeners; i++) {
		const struct gateway_listener *l = &g->listener[i];

		if (l->port != port)
			continue;
		stamp = stamp_text(stamp, l->hostname) + l->number;
		for (unsigned k = 0; k < l->secrets; k++) {
			stamp = stamp_text(stamp, l->secret[k]->secret.certificate);
			stamp = stamp_text(stamp, l->secret[k]->secret.key);
		}
	}
	return stamp;
}

static void tls_drop(struct tls *t)
{
	list_del(&t->link);
	if (t->front)
		front_free(t->front);
	free(t->listener);
	free(t);
}

static struct tls *tls_of(struct worker_gateway *w, uint64_t netns, uint16_t port)
{
	struct tls *t;

	list_each(l, &w->fronts) {
		t = container_of(l, struct tls, link);
		if (t->netns == netns && t->port == port)
			return t;
	}
	t = mem_alloc(sizeof(*t));
	t->netns = netns;
	t->port = port;
	list_add(&w->fronts, &t->link);
	return t;
}

static void pairs_of(const struct gateway_listener *l, struct front_listener *to)
{
	struct front_pair *pair = mem_alloc(l->secrets * sizeof(*pair) + 1);

	for (unsigned i = 0; i < l->secrets; i++) {
		const struct object *o = l->secret[i];

		pair[i] = (struct front_pair){.name = mem_format("Secret %s/%s", o->namespace, o->name),
					      .certificate = o->secret.certificate,
					      .key = o->secret.key};
	}
	*to = (struct front_listener){.number = l->number, .hostname = l->hostname, .pair = pair, .pairs = l->secrets};
}

static void pairs_free(struct front_listener *l)
{
	for (unsigned i = 0; i < l->pairs; i++)
		free((char *)l->pair[i].name);
	free((struct front_pair *)l->pair);
	l->pair = NULL;
	l->hostname = NULL; /* was the plan's */
	l->pairs = 0;
}

static void tls_make(struct tls *t, const struct gateway *g)
{
	if (t->front)
		front_free(t->front);
	free(t->listener);
	t->listener = mem_alloc(g->listeners * sizeof(*t->listener) + 1);
	t->listeners = 0;
	for (unsigned i = 0; i < g->listeners; i++)
		if (g->listener[i].port == t->port)
			pairs_of(&g->listener[i], &t->listener[t->listeners++]);
	t->front = front_new(t->listener, t->listeners);
	for (unsigned i = 0; i < t->listeners; i++)
		pairs_free(&t->listener[i]);
}

static void tls_port(struct worker_gateway *w, struct world_gateway *g, struct gateway_port *p)
{
	struct tls *t = tls_of(w, g->netns, p->port);
	uint64_t stamp = stamp_of(g->plan, p->port);

	if (t->stamp != stamp || !t->listener)
		tls_make(t, g->plan);
	t->stamp = stamp;
	t->used = true;
	p->tls = t->front ? front_hold(t->front) : NULL;
	p->tls_free = front_free;
	for (unsigned i = 0; i < t->listeners; i++)
		if (t->listener[i].why[0])
			world_gateway_bad_certificate(g, t->listener[i].number, t->listener[i].why);
}

void worker_gateway_tls(struct worker_gateway *w, struct world *world)
{
	bool any = false;

	list_each(l, &world->gateways)
		any |= container_of(l, struct world_gateway, link)->dirty;
	if (!any)
		return;
	list_each(l, &w->fronts)
		container_of(l, struct tls, link)->used = false;
	list_each(l, &world->gateways) {
		struct world_gateway *g = container_of(l, struct world_gateway, link);

		for (unsigned i = 0; g->plan && i < g->plan->ports; i++)
			if (g->plan->port[i].secure && !g->plan->port[i].tls)
				tls_port(w, g, &g->plan->port[i]);
	}
	list_each_safe(l, next, &w->fronts)
		if (!container_of(l, struct tls, link)->used)
			tls_drop(container_of(l, struct tls, link));
}

/* ------------------------------------------------------------------ sockets */

static struct world_gateway_socket *socket_of(const struct worker_gateway *w, const struct open *o)
{
	struct world_gateway *g = world_gateway_in(w->plan.world, o->netns);

	for (unsigned i = 0; g && i < g->sockets; i++)
		if (g->socket[i].port == o->port && addr_equal(&g->socket[i].addr, &o->addr))
			return &g->socket[i];
	return NULL;
}

static void ask(struct worker_gateway *w, struct open *o)
{
	unsigned left = w->plan.threads - o->threads;
	const struct wire_edge e = {.addr = o->addr,
				    .port = o->port,
				    .first = (uint16_t)o->threads,
				    .count = (uint16_t)(left < WIRE_FDS ? left : WIRE_FDS)};

	if (!++w->seq)
		w->seq = 1;
	o->seq = w->seq;
	worker_link_edge(w->plan.link, WIRE_EDGE_OPEN, o->seq, &e, NULL, 0);
}

static struct open *open_find(const struct worker_gateway *w, uint64_t netns, const struct world_gateway_socket *s)
{
	list_each(l, &w->opens) {
		struct open *o = container_of(l, struct open, link);

		if (o->netns == netns && o->port == s->port && addr_equal(&o->addr, &s->addr))
			return o;
	}
	return NULL;
}

static void close_unwanted(struct worker_gateway *w)
{
	list_each_safe(l, next, &w->opens) {
		struct open *o = container_of(l, struct open, link);
		const struct wire_edge e = {.addr = o->addr, .port = o->port};

		if (o->wanted)
			continue;
		worker_link_edge(w->plan.link, WIRE_EDGE_CLOSE, 0, &e, NULL, 0);
		proxy_edge_close(w->plan.proxy, o->netns, &o->addr, o->port);
		list_del(&o->link);
		free(o);
	}
}

static void open_new(struct worker_gateway *w, uint64_t netns, const struct world_gateway_socket *s)
{
	struct open *o = mem_alloc(sizeof(*o));

	*o = (struct open){.netns = netns, .addr = s->addr, .port = s->port, .wanted = true};
	list_add(&w->opens, &o->link);
	ask(w, o);
}

static void left(void *ctx, uint64_t netns)
{
}

void worker_gateway_update(struct worker_gateway *w)
{
	struct world *world = w->plan.world;

	list_each(l, &w->opens)
		container_of(l, struct open, link)->wanted = false;
	list_each(l, &world->gateways) {
		struct world_gateway *g = container_of(l, struct world_gateway, link);

		for (unsigned i = 0; i < g->sockets; i++) {
			struct open *o = open_find(w, g->netns, &g->socket[i]);

			if (o)
				o->wanted = true;
		}
		if (!g->object)
			proxy_leave(w->plan.proxy, g->netns, left, NULL);
	}
	close_unwanted(w);
	list_each(l, &world->gateways) {
		const struct world_gateway *g = container_of(l, struct world_gateway, link);

		for (unsigned i = 0; i < g->sockets; i++)
			if (!open_find(w, g->netns, &g->socket[i]))
				open_new(w, g->netns, &g->socket[i]);
	}
	world_gateway_taken(world);
}

static void failed(struct worker_gateway *w, struct open *o, const struct wire *m)
{
	struct world_gateway_socket *s = socket_of(w, o);
	char *why = mem_format("%s", m->text[0] ? m->text : strerror(-m->number));

	if (s && (s->state != GATEWAY_SOCKET_FAILED || !text_equal(s->why, why)))
		log_error("a Gateway cannot listen: %s: tried again every 5 s", why);
	if (s) {
		s->state = GATEWAY_SOCKET_FAILED;
		text_copy(s->why, sizeof(s->why), why);
	}
	free(why);
	proxy_edge_close(w->plan.proxy, o->netns, &o->addr, o->port);
	o->threads = 0;
	if (!w->again.armed)
		loop_arm(w->plan.loop, &w->again, AGAIN_NS);
}

bool worker_gateway_got(struct worker_gateway *w, const struct wire *m, const int *fds, unsigned nfds)
{
	list_each(l, &w->opens) {
		struct open *o = container_of(l, struct open, link);
		struct world_gateway_socket *s = socket_of(w, o);

		if (!o->seq || o->seq != m->seq)
			continue;
		o->seq = 0;
		if (m->number || !nfds) {
			while (nfds)
				close(fds[--nfds]);
			failed(w, o, m);
			return true;
		}
		proxy_edge_listen(w->plan.proxy, o->netns, &o->addr, o->port, o->threads, fds, nfds);
		o->threads += nfds;
		if (o->threads < w->plan.threads) {
			ask(w, o);
		} else if (s) {
			s->state = GATEWAY_SOCKET_OPEN;
			s->why[0] = '\0';
		}
		return true;
	}
	while (nfds)
		close(fds[--nfds]);
	return false;
}

static void again_due(struct loop_timer *t)
{
	struct worker_gateway *w = container_of(t, struct worker_gateway, again);

	list_each(l, &w->opens) {
		struct open *o = container_of(l, struct open, link);

		if (!o->seq && o->threads < w->plan.threads)
			ask(w, o);
	}
}

static void give(void *to, const struct abi_addr *addr, uint16_t port, unsigned thread, int fd)
{
	struct worker_gateway *w = to;
	const struct wire_edge e = {.addr = *addr, .port = port, .first = (uint16_t)thread, .count = 1};

	worker_link_edge(w->plan.link, WIRE_EDGE_OPEN, 0, &e, &fd, 1);
}

void worker_gateway_back(struct worker_gateway *w)
{
	proxy_each_edge(w->plan.proxy, give, w);
	list_each(l, &w->opens) {
		struct open *o = container_of(l, struct open, link);

		if (o->threads < w->plan.threads)
			ask(w, o);
	}
}

/* ------------------------------------------------------------------ life */

static void rotate_due(struct loop_timer *t)
{
	struct worker_gateway *w = container_of(t, struct worker_gateway, rotate);

	if (front_rotate())
		log_warning("no new key for TLS tickets: there are no random numbers");
	loop_arm(w->plan.loop, t, ROTATE_NS);
}

struct worker_gateway *worker_gateway_open(const struct worker_gateway_plan *plan)
{
	struct worker_gateway *w = mem_alloc(sizeof(*w));

	w->plan = *plan;
	list_init(&w->opens);
	list_init(&w->fronts);
	w->again.due = again_due;
	w->rotate.due = rotate_due;
	rotate_due(&w->rotate);
	return w;
}
