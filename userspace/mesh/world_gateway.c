/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_gateway.c: Gateways of our class: which of their listeners are in force, what they listen on, and a new plan of
 * each whenever something changes that any is made of. They are few, and endpoints are not among it.
 */
#include <stdlib.h>
#include <string.h>

#include "world_edge.h"

struct world_gateway *world_gateway_in(const struct world *w, uint64_t netns)
{
	list_each(l, &w->gateways) {
		struct world_gateway *g = container_of(l, struct world_gateway, link);

		if (g->netns == netns)
			return g;
	}
	return NULL;
}

const char *world_gateway_account(const struct world_gateway *g)
{
	return g->identity->service_account;
}

/* ------------------------------------------------------------------ statuses */

static printf_like(5, 6) void set_status(bool *flag, char reason[32], const char *why, char message[192],
					 const char *fmt, ...)
{
	va_list ap;

	*flag = false;
	text_copy(reason, 32, why);
	va_start(ap, fmt);
	vsnprintf(message, 192, fmt, ap);
	va_end(ap);
}

static void begin_status(struct world_gateway_listener *s)
{
	*s = (struct world_gateway_listener){.accepted = true, .resolved = true};
	text_copy(s->accepted_reason, sizeof(s->accepted_reason), "Accepted");
	text_copy(s->resolved_reason, sizeof(s->resolved_reason), "ResolvedRefs");
}

#define REFUSE(s, why, ...) set_status(&(s)->accepted, (s)->accepted_reason, why, (s)->message, __VA_ARGS__)
#define UNRESOLVED(s, why, ...) set_status(&(s)->resolved, (s)->resolved_reason, why, (s)->message, __VA_ARGS__)

void world_gateway_bad_certificate(struct world_gateway *g, uint32_t listener, const char *why)
{
	struct world_gateway_listener *s = &g->listener[listener];

	UNRESOLVED(s, "InvalidCertificateRef", "spec.listeners[%u].tls.certificateRefs: %.120s", listener, why);
}

/* ------------------------------------------------------------------ listeners */

/* With those before it: of one port all have one protocol, and no two the same name. */
static bool in_conflict(struct world_gateway *g, unsigned i)
{
	const struct object_gateway_listener *all = g->object->gateway.listener, *l = &all[i];
	struct world_gateway_listener *s = &g->listener[i];

	for (unsigned k = 0; k < i; k++) {
		if (all[k].port != l->port || !g->listener[k].accepted)
			continue;
		if (all[k].protocol != l->protocol)
			REFUSE(s, "ProtocolConflict",
			       "spec.listeners[%u].protocol: port %u is listener %.60s's, of another", i, l->port,
			       all[k].name);
		else if (!strcmp(all[k].hostname, l->hostname))
			REFUSE(s, "HostnameConflict", "spec.listeners[%u].hostname: is that of listener %.60s", i,
			       all[k].name);
		s->conflicted |= !s->accepted;
	}
	return s->conflicted;
}

static bool same_node_port(const struct object_gateway *a, const struct object_gateway *b)
{
	for (unsigned i = 0; i < a->addrs; i++)
		for (unsigned k = 0; k < b->addrs; k++)
			if (addr_equal(&a->addr[i], &b->addr[k]))
				return true;
	return !a->addrs || !b->addrs;
}

/* An older Gateway has the port. */
static bool is_taken(struct world *w, struct world_gateway *g, unsigned i)
{
	uint16_t port = g->object->gateway.listener[i].port;

	list_each(l, &w->gateways) {
		const struct world_gateway *o = container_of(l, struct world_gateway, link);

		if (o == g)
			return false;
		if (!o->object || !o->plan || !gateway_port(o->plan, port) ||
		    !same_node_port(&o->object->gateway, &g->object->gateway))
			continue;
		REFUSE(&g->listener[i], "PortUnavailable",
		       "spec.listeners[%u].port: %u is that of Gateway %.60s/%.60s", i, port,
		       o->namespace, o->name);
		return true;
	}
	return false;
}

static void resolve_certificates(struct world *w, struct world_gateway *g, unsigned i, struct gateway_listener *to)
{
	const struct object_gateway_listener *l = &g->object->gateway.listener[i];
	struct world_gateway_listener *s = &g->listener[i];
	const struct object **secret = arena_alloc(&g->plan->arena, l->certificates * sizeof(*secret) + 1);

	to->secret = secret;
	for (unsigned k = 0; k < l->certificates; k++) {
		const struct object_gateway_ref *r = &l->certificate[k];
		const struct object *o = store_get(w->store, KIND_SECRET, r->namespace, r->name);

		if (strcmp(r->namespace, g->namespace) &&
		    !world_granted(w, KIND_GATEWAY, g->namespace, r->namespace, r->name))
			UNRESOLVED(s, "RefNotPermitted",
				   "spec.listeners[%u].tls.certificateRefs[%u]: Secret %.60s/%.60s needs a "
				   "ReferenceGrant",
				   i, k, r->namespace, r->name);
		else if (!o || !o->secret.certificate)
			UNRESOLVED(s, "InvalidCertificateRef",
				   "spec.listeners[%u].tls.certificateRefs[%u]: there is no Secret %.60s/%.60s of type "
				   "kubernetes.io/tls",
				   i, k, r->namespace, r->name);
		else
			secret[to->secrets++] = o;
	}
}

static void take_listener(struct world *w, struct world_gateway *g, unsigned i)
{
	const struct object_gateway_listener *l = &g->object->gateway.listener[i];
	struct gateway_listener *to = &g->plan->listener[g->plan->listeners];

	begin_status(&g->listener[i]);
	if (l->other_kinds)
		UNRESOLVED(&g->listener[i], "InvalidRouteKinds",
			   "spec.listeners[%u].allowedRoutes.kinds: weft attaches HTTPRoute and GRPCRoute here", i);
	if (in_conflict(g, i) || is_taken(w, g, i))
		return;
	*to = (struct gateway_listener){.name = arena_string(&g->plan->arena, l->name, strlen(l->name)),
					.hostname = arena_string(&g->plan->arena, l->hostname, strlen(l->hostname)),
					.number = i,
					.port = l->port,
					.secure = l->protocol == GATEWAY_HTTPS};
	if (to->secure)
		resolve_certificates(w, g, i, to);
	g->plan->listeners++;
	if (!gateway_port(g->plan, l->port))
		g->plan->port[g->plan->ports++] =
			(struct gateway_port){.port = l->port, .secure = l->protocol == GATEWAY_HTTPS};
}

/* ------------------------------------------------------------------ sockets */

static const struct world_gateway_socket *had(const struct world_gateway_socket *s, unsigned count,
					      const struct abi_addr *addr, uint16_t port)
{
	for (unsigned i = 0; i < count; i++)
		if (s[i].port == port && addr_equal(&s[i].addr, addr))
			return &s[i];
	return NULL;
}

static void take_sockets(struct world_gateway *g)
{
	static const struct abi_addr any;
	const struct object_gateway *o = g->object ? &g->object->gateway : NULL;
	unsigned addrs = o && o->addrs ? o->addrs : 1, count = g->sockets;
	struct world_gateway_socket *old = g->socket;

	g->socket = mem_alloc((g->plan ? g->plan->ports : 0) * addrs * sizeof(*g->socket) + 1);
	g->sockets = 0;
	for (unsigned i = 0; g->plan && i < g->plan->ports; i++)
		for (unsigned k = 0; k < addrs; k++) {
			const struct abi_addr *addr = o->addrs ? &o->addr[k] : &any;
			const struct world_gateway_socket *was = had(old, count, addr, g->plan->port[i].port);

			if (!had(g->socket, g->sockets, addr, g->plan->port[i].port))
				g->socket[g->sockets++] =
					was ? *was
					    : (struct world_gateway_socket){.addr = *addr,
									    .port = g->plan->port[i].port};
		}
	free(old);
}

/* ------------------------------------------------------------------ one Gateway */

static void choose_source(const struct world *w, struct gateway *plan)
{
	const struct abi_addr *list[] = {w->object_addr, w->node_addr};
	unsigned count[] = {w->object_addrs, w->node_addrs};
	bool found[2] = {false, false};

	plan->source[0] = (struct abi_addr){.byte = {[10] = 0xff, [11] = 0xff}};
	for (unsigned i = 0; i < array_size(list); i++)
		for (unsigned k = 0; k < count[i]; k++) {
			const struct abi_addr *a = &list[i][k];
			unsigned family = addr_is_v4(a) ? 0 : 1;

			if (found[family] || addr_is_loopback(a) || addr_is_link_local(a))
				continue;
			found[family] = true;
			plan->source[family] = *a;
		}
}

static void refuse_all(struct world_gateway *g)
{
	for (unsigned i = 0; i < g->object->gateway.listeners; i++) {
		begin_status(&g->listener[i]);
		REFUSE(&g->listener[i], "TooManyGateways", "a node serves %d Gateways, and there are older ones",
		       WORLD_GATEWAYS);
	}
}

static void take(struct world *w, struct world_gateway *g, bool serves)
{
	const struct object_gateway *o = &g->object->gateway;
	struct gateway *plan = mem_alloc(sizeof(*plan));

	gateway_drop(g->plan);
	free(g->listener);
	plan->holders = 1;
	plan->namespace = arena_string(&plan->arena, g->namespace, strlen(g->namespace));
	plan->name = arena_string(&plan->arena, g->name, strlen(g->name));
	plan->listener = arena_alloc(&plan->arena, o->listeners * sizeof(*plan->listener));
	plan->port = arena_alloc(&plan->arena, o->listeners * sizeof(*plan->port));
	g->plan = plan;
	g->listener = mem_alloc(o->listeners * sizeof(*g->listener));
	g->identity = identity_get(&w->identities, w->trust_domain, g->namespace, o->account);
	g->dirty = true;
	choose_source(w, plan);
	if (serves)
		for (unsigned i = 0; i < o->listeners; i++)
			take_listener(w, g, i);
	else
		refuse_all(g);
	take_sockets(g);
}

/* ------------------------------------------------------------------ all of them */

static void gateway_free(struct world_gateway *g)
{
	list_del(&g->link);
	gateway_drop(g->plan);
	free(g->listener);
	free(g->socket);
	free(g->namespace);
	free(g->name);
	free(g);
}

static void gone(struct world_gateway *g)
{
	g->object = NULL;
	gateway_drop(g->plan);
	g->plan = NULL;
	take_sockets(g);
	g->dirty = true;
}

static int by_age(const void *a, const void *b)
{
	return object_by_age(*(const struct object *const *)a, *(const struct object *const *)b);
}

/* Those of our class, the oldest first. *ret_count of them; free() it. */
static const struct object **sorted(const struct world *w, unsigned *ret_count)
{
	const struct object **all = mem_alloc(store_count(w->store, KIND_GATEWAY) * sizeof(*all) + 1);
	unsigned n = 0;

	for (const struct object *o = store_each(w->store, KIND_GATEWAY, NULL); o;
	     o = store_each(w->store, KIND_GATEWAY, o))
		if (o->gateway.ours)
			all[n++] = o;
	if (n)
		qsort(all, n, sizeof(*all), by_age);
	*ret_count = n;
	return all;
}

static struct world_gateway *gateway_get(struct world *w, const struct object *o)
{
	struct world_gateway *g = world_gateway_named(w, o->namespace, o->name);

	if (!g) {
		g = mem_alloc(sizeof(*g));
		g->namespace = mem_string(o->namespace);
		g->name = mem_string(o->name);
		g->netns = WIRE_GATEWAY | ++w->next_gateway;
		list_init(&g->link);
		list_add(&w->gateways, &g->link);
	}
	return g;
}

void world_gateway_update(struct world *w)
{
	const struct object **all;
	unsigned count;

	if (!w->gateways_changed)
		return;
	w->gateways_changed = false;
	all = sorted(w, &count);
	list_each(l, &w->gateways) /* the store may have freed them */
		container_of(l, struct world_gateway, link)->object = NULL;
	for (unsigned i = 0; i < count && i < 2 * WORLD_GATEWAYS; i++) {
		struct world_gateway *g = gateway_get(w, all[i]);

		list_del(&g->link); /* in order */
		list_add(&w->gateways, &g->link);
		g->object = all[i];
	}
	for (unsigned i = 0; i < count && i < 2 * WORLD_GATEWAYS; i++)
		take(w, gateway_get(w, all[i]), i < WORLD_GATEWAYS);
	list_each(l, &w->gateways) {
		struct world_gateway *g = container_of(l, struct world_gateway, link);

		if (!g->object)
			gone(g);
	}
	world_edge_routes(w);
	free(all);
}

void world_gateway_taken(struct world *w)
{
	list_each_safe(l, next, &w->gateways) {
		struct world_gateway *g = container_of(l, struct world_gateway, link);

		g->dirty = false;
		if (!g->object)
			gateway_free(g);
	}
}

void world_gateway_free(struct world *w)
{
	while (!list_empty(&w->gateways))
		gateway_free(container_of(w->gateways.next, struct world_gateway, link));
}
