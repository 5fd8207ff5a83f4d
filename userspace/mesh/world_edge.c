/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_edge.c: routes meet the listeners of one round of Gateways: which are attached where, and the table of each
 * host name of each listener.
 */
#include <stdlib.h>
#include <string.h>

#include "world_edge.h"

struct place { /* a route under one name of one listener */
	struct gateway *plan;
	struct gateway_listener *listener; /* of it */
	const char *host;
	struct world_route *route;
	unsigned parent; /* by which of its parentRefs */
};

struct places {
	struct world *world;
	struct place *place;
	unsigned count, size;
};

struct world_gateway *world_gateway_named(const struct world *w, const char *namespace, const char *name)
{
	list_each(l, &w->gateways) {
		struct world_gateway *g = container_of(l, struct world_gateway, link);

		if (!strcmp(g->name, name) && !strcmp(g->namespace, namespace))
			return g;
	}
	return NULL;
}

/* ------------------------------------------------------------------ may it be attached */

static bool has_value(const struct strings *values, const char *value)
{
	for (unsigned i = 0; i < values->count; i++)
		if (!strcmp(values->item[i], value))
			return true;
	return false;
}

/* A label of a namespace; one that Kubernetes gives to each stands for itself. */
static const char *label_of(const struct object *o, const char *namespace, const char *key)
{
	const char *value = o ? pairs_get(&o->labels, key) : NULL;

	return value || strcmp(key, "kubernetes.io/metadata.name") ? value : namespace;
}

static bool selects(const struct world *w, const struct object_gateway_listener *l, const char *namespace)
{
	const struct object *o = store_get(w->store, KIND_NAMESPACE, "", namespace);

	for (unsigned i = 0; i < l->labels.count; i++)
		if (!text_equal(label_of(o, namespace, l->labels.item[i].key), l->labels.item[i].value))
			return false;
	for (unsigned i = 0; i < l->expressions; i++) {
		const struct object_gateway_expression *e = &l->expression[i];
		const char *value = label_of(o, namespace, e->key);
		bool in = value && has_value(&e->values, value);

		bool fits = e->op == SELECT_IN ? in : e->op == SELECT_NOT_IN ? !in
							: (e->op == SELECT_EXISTS) == (value != NULL);

		if (!fits)
			return false;
	}
	return true;
}

static bool allows(const struct world *w, const struct world_gateway *g, const struct object_gateway_listener *l,
		   const struct world_route *r)
{
	if (r->kind == KIND_HTTP_ROUTE ? !l->http : r->kind == KIND_GRPC_ROUTE ? !l->grpc : true)
		return false;
	return l->from == GATEWAY_ALL || (l->from == GATEWAY_SELECTOR ? selects(w, l, r->namespace)
								       : !strcmp(r->namespace, g->namespace));
}

static void add(struct places *f, struct gateway *plan, struct gateway_listener *l, const char *host,
		struct world_route *r, unsigned parent)
{
	if (f->count == f->size) {
		f->size = f->size ? 2 * f->size : 64;
		f->place = mem_grow(f->place, f->size, sizeof(*f->place));
	}
	f->place[f->count++] = (struct place){
		.plan = plan, .listener = l, .host = host, .route = r, .parent = parent};
}

/* Names that both have; false: none. */
static bool meet(struct places *f, struct gateway *plan, struct gateway_listener *l, struct world_route *r,
		 unsigned parent)
{
	const struct strings *names = &r->object->route.hostnames;
	bool any = false;

	if (!names->count)
		add(f, plan, l, l->hostname, r, parent);
	for (unsigned i = 0; i < names->count; i++) {
		const char *both = gateway_name_both(names->item[i], l->hostname);

		if (both)
			add(f, plan, l, both, r, parent);
		any |= both != NULL;
	}
	return any || !names->count;
}

static printf_like(3, 4) void refuse(struct route_status *s, const char *reason, const char *fmt, ...)
{
	va_list ap;

	s->accepted = false;
	text_copy(s->accepted_reason, sizeof(s->accepted_reason), reason);
	va_start(ap, fmt);
	vsnprintf(s->message, sizeof(s->message), fmt, ap);
	va_end(ap);
}

static void attach_parent(struct places *f, struct world_gateway *g, struct world_route *r, unsigned parent)
{
	const struct object_route_parent *p = &r->object->route.parent[parent];
	const struct object_gateway *o = &g->object->gateway;
	struct route_status *s = &r->status[parent];
	bool named = false, allowed = false, met = false;

	route_status_begin(s);
	s->gateway = true;
	for (unsigned i = 0; g->plan && i < g->plan->listeners; i++) {
		struct gateway_listener *l = &g->plan->listener[i];
		bool here;

		if ((p->port && p->port != l->port) || (p->section && strcmp(p->section, l->name)))
			continue;
		named = true;
		if (!allows(f->world, g, &o->listener[l->number], r))
			continue;
		allowed = true;
		here = meet(f, g->plan, l, r, parent);
		g->listener[l->number].routes += here;
		met |= here;
	}
	if (!named)
		refuse(s, "NoMatchingParent",
		       "spec.parentRefs[%u]: no listener of Gateway %.60s/%.60s in force%s", parent,
		       g->namespace, g->name, p->section || p->port ? " has that sectionName and port" : "");
	else if (!allowed)
		refuse(s, "NotAllowedByListeners",
		       "spec.parentRefs[%u]: allowedRoutes of Gateway %.63s/%.63s does not take %s of this namespace",
		       parent, g->namespace, g->name, object_kind_name(r->kind));
	else if (!met)
		refuse(s, "NoMatchingListenerHostname",
		       "spec.hostnames: none is within a listener's of Gateway %.60s/%.60s", g->namespace, g->name);
}

/* ------------------------------------------------------------------ tables */

static int by_place(const void *pa, const void *pb)
{
	const struct place *a = pa, *b = pb;
	int c;

	if (a->listener != b->listener)
		return a->listener < b->listener ? -1 : 1;
	c = strcmp(a->host, b->host);
	if (c)
		return c;
	if (a->route != b->route)
		return a->route < b->route ? -1 : 1;
	return (a->parent > b->parent) - (a->parent < b->parent);
}

/* All of one name of one listener. */
static void compile(struct world *w, const struct place *place, unsigned count)
{
	static const struct route_target none = {.namespace = "", .service = ""};
	const struct object **object = mem_alloc(count * sizeof(*object));
	struct route_status *status = mem_alloc(count * sizeof(*status));
	struct route_world questions = world_route_questions;
	struct gateway_host *h = arena_alloc(&place->plan->arena, sizeof(*h));
	unsigned n = 0;

	questions.ctx = w;
	for (unsigned i = 0; i < count; i++)
		if (!n || object[n - 1] != place[i].route->object)
			object[n++] = place[i].route->object;
	h->routes = route_compile(object, n, &none, &questions, status);
	h->name = arena_string(&place->plan->arena, place->host, strlen(place->host));
	table_add(&place->listener->hosts, &h->link, table_hash(h->name, strlen(h->name)));
	for (unsigned i = 0, at = 0; i < count; i++) {
		struct route_status *to = &place[i].route->status[place[i].parent];

		while (object[at] != place[i].route->object)
			at++;
		if (route_badness(&status[at]) > route_badness(to)) {
			*to = status[at];
			to->gateway = true;
		}
	}
	free(object);
	free(status);
}

void world_edge_routes(struct world *w)
{
	struct places f = {.world = w};

	list_each(l, &w->edge_routes) {
		struct world_route *r = container_of(l, struct world_route, edge_link);

		for (unsigned i = 0; i < r->object->route.parents; i++) {
			const struct object_route_parent *p = &r->object->route.parent[i];
			struct world_gateway *g = p->gateway ? world_gateway_named(w, p->namespace, p->name) : NULL;

			if (g && g->object)
				attach_parent(&f, g, r, i);
			else if (p->gateway)
				route_no_parent(r->object, i, &r->status[i]);
		}
	}
	if (f.count)
		qsort(f.place, f.count, sizeof(*f.place), by_place);
	for (unsigned i = 0, end; i < f.count; i = end) {
		for (end = i + 1; end < f.count && f.place[end].listener == f.place[i].listener &&
				  !strcmp(f.place[end].host, f.place[i].host);
		     end++)
			;
		compile(w, &f.place[i], end - i);
	}
	list_each(l, &w->edge_routes)
		world_route_judge(w, container_of(l, struct world_route, edge_link));
	free(f.place);
}
