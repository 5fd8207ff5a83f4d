/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view_service.c: the ports of Services that weft looks into, as data threads see them: see view.h. An entry is found
 * by (namespace, name, port) and by each of its numbers; a change replaces it. The load of an endpoint is shared by
 * all entries that have the endpoint, and outlives them while somebody counts on it.
 */
#define _LGPL_SOURCE
#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>
#include <urcu/rculfhash.h>

#include "view_parts.h"

#define BUCKETS 64 /* at the start */

struct load {
	struct view_load is;
	struct abi_addr addr;
	uint16_t port;
	unsigned entries; /* in force: of the control thread */
	unsigned holders; /* atomic: entries that some reader may still have */
	struct table_link link;
	struct list idle;
};

struct number { /* of one address of the port */
	uint32_t number;
	const struct service *of;
	struct cds_lfht_node node;
};

struct service {
	struct view_service is;
	struct view_endpoint *endpoint;
	struct number *number;
	unsigned numbers;
	struct cds_lfht_node by_name;
	struct list of_group; /* or of those that take() leaves for later, or of `leaving` */
	struct group *group;
	bool stays; /* inside take() */
	struct rcu_head rcu;
	char text[];
};

struct group { /* the names stand behind it */
	struct list services;
	struct table_link link;
	const char *namespace, *name;
};

/* ------------------------------------------------------------------ tables */

struct cds_lfht *view_table_new(void)
{
	struct cds_lfht *t = cds_lfht_new(BUCKETS, BUCKETS, 0, CDS_LFHT_AUTO_RESIZE, NULL);

	if (!t)
		abort(); /* out of memory */
	return t;
}

void view_table_free(struct cds_lfht *t, void (*gone)(struct cds_lfht_node *n))
{
	struct cds_lfht_iter at;
	struct cds_lfht_node *n;

	rcu_read_lock();
	cds_lfht_for_each(t, &at, n)
	{
		if (!cds_lfht_del(t, n))
			gone(n);
	}
	rcu_read_unlock();
	(void)cds_lfht_destroy(t, NULL);
}

struct cds_lfht_node *view_table_find(struct cds_lfht *t, uint64_t hash, cds_lfht_match_fct match, const void *key)
{
	struct cds_lfht_iter at;

	cds_lfht_lookup(t, hash, match, key, &at);
	return cds_lfht_iter_get_node(&at);
}

/* ------------------------------------------------------------------ questions */

static int is_target(struct cds_lfht_node *n, const void *key)
{
	const struct view_service *s = &container_of(n, struct service, by_name)->is;
	const struct route_target *t = key;

	return s->port == t->port && !strcmp(s->name, t->service) && !strcmp(s->namespace, t->namespace);
}

static int is_number(struct cds_lfht_node *n, const void *number)
{
	return container_of(n, struct number, node)->number == *(const uint32_t *)number;
}

static uint64_t number_hash(uint32_t number)
{
	return table_hash(&number, sizeof(number));
}

const struct view_service *view_service(const struct view *v, uint32_t number)
{
	struct cds_lfht_node *n =
		view_table_find(v->services.by_number, number_hash(number), is_number, &number);

	return n ? &container_of(n, struct number, node)->of->is : NULL;
}

const struct view_service *view_backend(const struct view *v, const struct route_target *t)
{
	struct cds_lfht_node *n = view_table_find(v->services.by_name, t->hash, is_target, t);

	return n ? &container_of(n, struct service, by_name)->is : NULL;
}

/* ------------------------------------------------------------------ load */

static uint64_t load_hash(const struct abi_addr *addr, uint16_t port)
{
	struct abi_service_key key = {.vip = *addr, .port = port};

	return table_hash(&key, sizeof(key));
}

/* For one more entry that has the endpoint. */
static struct load *load_take(struct view_services *v, const struct abi_addr *addr, uint16_t port)
{
	uint64_t hash = load_hash(addr, port);
	struct table_link *l = table_first(&v->loads, hash);
	struct load *load = NULL;

	for (; l && !load; l = table_next_same(l)) {
		load = container_of(l, struct load, link);
		if (!addr_equal(&load->addr, addr) || load->port != port)
			load = NULL;
	}
	if (!load) {
		load = aligned_alloc(_Alignof(struct load), sizeof(*load));
		if (!load)
			abort(); /* out of memory */
		memset(load, 0, sizeof(*load));
		load->addr = *addr;
		load->port = port;
		list_init(&load->idle);
		table_add(&v->loads, &load->link, hash);
	}
	if (!load->entries++)
		list_del(&load->idle);
	__atomic_add_fetch(&load->holders, 1, __ATOMIC_RELAXED);
	return load;
}

static void load_free(struct view_services *v, struct load *load)
{
	list_del(&load->idle);
	table_del(&v->loads, &load->link);
	free(load);
}

/*
 * Who raises `active` has found the load in an entry, before the turn of his loop ends, and so before the entry lets go
 * of its loads: no entry and no request under way means that nobody has the pointer.
 */
static void loads_sweep(struct view_services *v)
{
	list_each_safe(l, next, &v->idle) {
		struct load *load = container_of(l, struct load, idle);

		if (!__atomic_load_n(&load->holders, __ATOMIC_ACQUIRE) &&
		    !__atomic_load_n(&load->is.active, __ATOMIC_ACQUIRE))
			load_free(v, load);
	}
}

/* ------------------------------------------------------------------ entries */

/* No reader has it any more; on the thread of RCU, or the caller's if it was never shown. */
static void service_free(struct rcu_head *h)
{
	struct service *s = container_of(h, struct service, rcu);

	for (unsigned i = 0; i < s->is.endpoints; i++)
		__atomic_sub_fetch(&container_of(s->endpoint[i].load, struct load, is)->holders, 1, __ATOMIC_RELEASE);
	if (s->is.routes)
		route_table_drop((struct route_table *)s->is.routes);
	free(s->endpoint);
	free(s->number);
	free(s);
}

/* It is not in force any more. */
static void service_leave(struct view_services *v, struct service *s)
{
	for (unsigned i = 0; i < s->is.endpoints; i++) {
		struct load *load = container_of(s->endpoint[i].load, struct load, is);

		if (!--load->entries)
			list_add(&v->idle, &load->idle);
	}
	list_del(&s->of_group);
}

/* Its numbers and its name lead nowhere; what took its place in the table by name has done so. */
static void service_drop(struct view_services *v, struct service *s, bool replaced)
{
	for (unsigned i = 0; i < s->numbers; i++)
		(void)cds_lfht_del(v->by_number, &s->number[i].node); /* harmless where it was replaced */
	if (!replaced)
		(void)cds_lfht_del(v->by_name, &s->by_name);
	service_leave(v, s);
	call_rcu(&s->rcu, service_free);
	v->changed = true;
}

static bool service_same(const struct service *a, const struct service *b)
{
	if (a->is.protocol != b->is.protocol || a->is.routes != b->is.routes || a->is.wanted != b->is.wanted ||
	    a->numbers != b->numbers ||
	    a->is.endpoints != b->is.endpoints || a->is.affinity_seconds != b->is.affinity_seconds ||
	    a->is.stall_ns != b->is.stall_ns)
		return false;
	for (unsigned i = 0; i < a->numbers; i++)
		if (a->number[i].number != b->number[i].number)
			return false;
	for (unsigned i = 0; i < a->is.endpoints; i++)
		if (a->endpoint[i].load != b->endpoint[i].load || a->endpoint[i].weight != b->endpoint[i].weight)
			return false;
	return true;
}

static void service_endpoints(struct view_services *v, const struct world *w, const struct world_service *from,
			      unsigned port, struct service *s)
{
	struct service_picks picks = {0};
	uint64_t sum = 0;

	world_service_endpoints(w, from, port, &picks);
	s->is.even = true;
	s->endpoint = mem_alloc(picks.count * sizeof(*s->endpoint) + 1);
	for (unsigned i = 0; i < picks.count; i++) {
		const struct service_pick *p = &picks.pick[i];

		s->endpoint[i] = (struct view_endpoint){.addr = p->addr,
							.port = p->port,
							.weight = p->weight,
							.load = &load_take(v, &p->addr, p->port)->is};
		s->is.even &= p->weight == picks.pick[0].weight;
		sum += p->weight;
		s->endpoint[i].upto = sum;
	}
	s->is.endpoint = s->endpoint;
	s->is.endpoints = picks.count;
	free(picks.pick);
}

static struct service *service_new(struct view_services *v, const struct world *w, const struct world_service *from,
				   unsigned port, const struct world_routed *r)
{
	size_t len = strlen(from->namespace) + 1, name_len = strlen(from->name) + 1;
	const struct object_service *o = &from->object->service;
	const struct service_port *p = &o->port[port];
	const struct route_table *routes = world_routed_table(r, p->port);
	struct service *s = mem_alloc(sizeof(*s) + len + name_len);

	s->is.namespace = memcpy(s->text, from->namespace, len);
	s->is.name = memcpy(s->text + len, from->name, name_len);
	s->is.port = p->port;
	s->is.protocol = protocol_of(p);
	s->is.affinity_seconds = o->affinity ? o->affinity_seconds : 0;
	s->is.stall_ns = o->stall_ns;
	s->is.routes = routes ? route_table_hold(routes) : NULL;
	s->is.wanted = r->wanted;
	s->number = mem_alloc(from->vips * sizeof(*s->number) + 1);
	for (unsigned i = 0; i < from->claims; i++) {
		const struct world_claim *c = &from->claim[i];

		if (c->port == port && c->front->owner == from)
			s->number[s->numbers++] = (struct number){.number = c->front->number, .of = s};
	}
	s->is.number = s->numbers ? s->number[0].number : 0;
	list_init(&s->of_group);
	service_endpoints(v, w, from, port, s);
	return s;
}

/* ------------------------------------------------------------------ taking in */

static struct group *group_find(const struct view_services *v, const char *namespace, const char *name, uint64_t hash)
{
	struct table_link *l = table_first(&v->groups, hash);

	for (; l; l = table_next_same(l)) {
		struct group *g = container_of(l, struct group, link);

		if (!strcmp(g->name, name) && !strcmp(g->namespace, namespace))
			return g;
	}
	return NULL;
}

static struct group *group_get(struct view_services *v, const char *namespace, const char *name)
{
	size_t len = strlen(namespace) + 1, name_len = strlen(name) + 1;
	uint64_t hash = route_target_hash(namespace, name, 0);
	struct group *g = group_find(v, namespace, name, hash);
	char *text;

	if (g)
		return g;
	g = mem_alloc(sizeof(*g) + len + name_len);
	text = (char *)(g + 1);
	g->namespace = memcpy(text, namespace, len);
	g->name = memcpy(text + len, name, name_len);
	list_init(&g->services);
	table_add(&v->groups, &g->link, hash);
	return g;
}

/* `s` takes its place, and that of the entry that had the port before; if there is one, and `later`, not yet. */
static void group_put(struct view_services *v, struct group *g, struct service *s, struct list *later)
{
	struct route_target key = {.namespace = g->namespace, .service = g->name, .port = s->is.port};
	struct service *old = NULL;

	key.hash = route_target_hash(g->namespace, g->name, s->is.port);
	list_each(l, &g->services)
		if (container_of(l, struct service, of_group)->is.port == s->is.port)
			old = container_of(l, struct service, of_group);
	if (old && service_same(old, s)) {
		old->stays = true;
		service_leave(v, s);
		service_free(&s->rcu);
		return;
	}
	if (old && later) {
		old->stays = true;
		s->group = g;
		list_add(later, &s->of_group);
		return;
	}
	for (unsigned i = 0; i < s->numbers; i++) {
		cds_lfht_node_init(&s->number[i].node);
		(void)cds_lfht_add_replace(v->by_number, number_hash(s->number[i].number), is_number,
					   &s->number[i].number, &s->number[i].node);
	}
	cds_lfht_node_init(&s->by_name);
	(void)cds_lfht_add_replace(v->by_name, key.hash, is_target, &key, &s->by_name);
	s->stays = true;
	list_add(&g->services, &s->of_group);
	if (old)
		service_drop(v, old, true);
	v->changed = true;
}

static void take(struct view_services *v, const struct world *w, const struct world_routed *r, struct list *later)
{
	const struct world_service *from = world_routed_used(r) ? world_service_named(w, r->namespace, r->name) : NULL;
	struct group *g = group_get(v, r->namespace, r->name);

	list_each(l, &g->services)
		container_of(l, struct service, of_group)->stays = false;
	for (unsigned i = 0; from && from->object && i < from->object->service.ports; i++)
		group_put(v, g, service_new(v, w, from, i, r), later);
	list_each_safe(l, next, &g->services) {
		struct service *s = container_of(l, struct service, of_group);

		if (!s->stays) {
			list_del(&s->of_group);
			list_add(&v->leaving, &s->of_group);
			v->changed = true;
		}
	}
	if (list_empty(&g->services)) {
		table_del(&v->groups, &g->link);
		free(g);
	}
}

/* What is new is there before a route leads to it; what no route leads to any more goes in view_services_leave(). */
void view_services_take(struct view_services *v, const struct world *w)
{
	struct list later;

	list_init(&later);
	rcu_read_lock();
	list_each(l, &w->dirty_routed)
		take(v, w, container_of(l, struct world_routed, dirty_link), &later);
	list_each_safe(l, next, &later) {
		struct service *s = container_of(l, struct service, of_group);

		list_del(l);
		group_put(v, s->group, s, NULL);
	}
	rcu_read_unlock();
	loads_sweep(v);
}

void view_services_leave(struct view_services *v)
{
	if (list_empty(&v->leaving))
		return;
	synchronize_rcu(); /* in its turn a thread may have found the route, and not yet asked for the backend */
	list_each_safe(l, next, &v->leaving)
		service_drop(v, container_of(l, struct service, of_group), false);
}

/* ------------------------------------------------------------------ life */

void view_services_new(struct view_services *v)
{
	v->by_name = view_table_new();
	v->by_number = view_table_new();
	list_init(&v->idle);
	list_init(&v->leaving);
}

void view_services_free(struct view_services *v)
{
	struct table_link *l = table_walk(&v->groups, NULL), *next;

	view_services_leave(v);
	rcu_read_lock();
	for (; l; l = next) {
		struct group *g = container_of(l, struct group, link);

		next = table_walk(&v->groups, l);
		list_each_safe(at, then, &g->services)
			service_drop(v, container_of(at, struct service, of_group), false);
		table_del(&v->groups, l);
		free(g);
	}
	rcu_read_unlock();
	rcu_barrier();
	(void)cds_lfht_destroy(v->by_name, NULL);
	(void)cds_lfht_destroy(v->by_number, NULL);
	table_free(&v->groups);
	list_each_safe(at, then, &v->idle)
		load_free(v, container_of(at, struct load, idle));
	table_free(&v->loads);
}
