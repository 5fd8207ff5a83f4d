/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_route.c: which routes name which Services, and what they come to for each port that has some. A change compiles
 * the ports of the Services that the changed route is attached to, or those to which routes are attached that name the
 * changed Service.
 */
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

/* ------------------------------------------------------------------ finding */

struct world_routed *world_routed(const struct world *w, const char *namespace, const char *name)
{
	struct table_link *l;

	if (!w->routed.count)
		return NULL;
	l = table_first(&w->routed, world_name_hash(namespace, name));
	for (; l; l = table_next_same(l)) {
		struct world_routed *r = container_of(l, struct world_routed, link);

		if (!strcmp(r->name, name) && !strcmp(r->namespace, namespace))
			return r;
	}
	return NULL;
}

bool world_routed_used(const struct world_routed *r)
{
	return r->wanted || r->kept || !list_empty(&r->attached) || !list_empty(&r->sending);
}

const struct route_table *world_routed_table(const struct world_routed *r, uint16_t port)
{
	for (unsigned i = 0; i < r->ports; i++)
		if (r->port[i].port == port)
			return r->port[i].routes;
	return NULL;
}

bool world_route_attached(const struct world *w, const char *namespace, const char *name, uint16_t port)
{
	const struct world_routed *r = world_routed(w, namespace, name);

	return r && world_routed_table(r, port);
}

struct world_route *world_route_named(const struct world *w, enum object_kind kind, const char *namespace,
				      const char *name)
{
	struct table_link *l = table_first(&w->routes, world_name_hash(namespace, name));

	for (; l; l = table_next_same(l)) {
		struct world_route *r = container_of(l, struct world_route, link);

		if (r->kind == kind && !strcmp(r->name, name) && !strcmp(r->namespace, namespace))
			return r;
	}
	return NULL;
}

struct world_route *world_route_each(const struct world *w, const struct world_route *after)
{
	struct table_link *l = table_walk(&w->routes, after ? &after->link : NULL);

	return l ? container_of(l, struct world_route, link) : NULL;
}

/* ------------------------------------------------------------------ Services */

static struct world_routed *routed_get(struct world *w, const char *namespace, const char *name)
{
	struct world_routed *r = world_routed(w, namespace, name);

	if (r)
		return r;
	r = mem_alloc(sizeof(*r));
	r->namespace = mem_string(namespace);
	r->name = mem_string(name);
	list_init(&r->attached);
	list_init(&r->sending);
	table_add(&w->routed, &r->link, world_name_hash(namespace, name));
	return r;
}

static void drop_tables(struct world_routed *r)
{
	for (unsigned i = 0; i < r->ports; i++)
		route_table_drop(r->port[i].routes);
	free(r->port);
	r->port = NULL;
	r->ports = 0;
}

static void routed_free(struct world *w, struct world_routed *r)
{
	if (r->dirty)
		list_del(&r->dirty_link);
	if (r->changed)
		list_del(&r->changed_link);
	drop_tables(r);
	table_del(&w->routed, &r->link);
	free(r->namespace);
	free(r->name);
	free(r);
}

static void routed_dirty(struct world *w, struct world_routed *r)
{
	if (r->dirty)
		return;
	r->dirty = true;
	list_add(&w->dirty_routed, &r->dirty_link);
}

static void routed_change(struct world *w, struct world_routed *r)
{
	if (r->changed)
		return;
	r->changed = true;
	list_add(&w->changed_routed, &r->changed_link);
}

/* All Services that the route is attached to. */
static void parents_change(struct world *w, const struct world_route *r)
{
	for (unsigned i = 0; i < r->parents; i++)
		routed_change(w, r->use[i].of);
}

void world_route_wanted(struct world *w, const char *namespace, const char *name, bool wanted)
{
	struct world_routed *r = wanted ? routed_get(w, namespace, name) : world_routed(w, namespace, name);

	if (!r || r->wanted == wanted)
		return;
	r->wanted = wanted;
	r->kept |= wanted;
	routed_dirty(w, r);
}

void world_route_touch(struct world *w, const char *namespace, const char *name)
{
	struct world_routed *r = world_routed(w, namespace, name);

	if (r)
		routed_dirty(w, r);
}

void world_route_service(struct world *w, const char *namespace, const char *name)
{
	struct world_routed *r = world_routed(w, namespace, name);

	if (!r)
		return;
	if (!store_get(w->store, KIND_SERVICE, namespace, name))
		r->kept = false;
	if (!list_empty(&r->attached))
		routed_change(w, r);
	list_each(l, &r->sending) {
		struct world_route *route = container_of(l, struct world_use, link)->route;

		parents_change(w, route);
		if (!list_empty(&route->edge_link))
			world_gateway_touch(w);
	}
}

void world_route_begin(struct world *w)
{
	while (!list_empty(&w->dirty_routed)) {
		struct world_routed *r = container_of(w->dirty_routed.next, struct world_routed, dirty_link);

		list_del(&r->dirty_link);
		r->dirty = false;
		if (!world_routed_used(r))
			routed_free(w, r);
	}
}

/* ------------------------------------------------------------------ routes */

static void detach(struct world *w, struct world_route *r)
{
	parents_change(w, r);
	for (unsigned i = 0; i < r->uses; i++) {
		routed_dirty(w, r->use[i].of);
		list_del(&r->use[i].link);
	}
	free(r->use);
	free(r->status);
	r->use = NULL;
	r->status = NULL;
	r->uses = r->parents = 0;
	if (!list_empty(&r->edge_link))
		world_gateway_touch(w);
	list_del(&r->edge_link);
}

static void route_drop(struct world *w, struct world_route *r)
{
	detach(w, r);
	list_del(&r->troubled_link);
	table_del(&w->routes, &r->link);
	free(r->namespace);
	free(r->name);
	free(r);
}

struct attach {
	struct world *world;
	struct world_route *route;
	unsigned size;
};

static void use_add(struct attach *a, const char *namespace, const char *name, bool parent)
{
	struct world_route *r = a->route;
	struct world_routed *of = routed_get(a->world, namespace, name);

	for (unsigned i = 0; parent && i < r->uses; i++)
		if (r->use[i].of == of)
			return;
	if (r->uses == a->size) {
		a->size = a->size ? 2 * a->size : 4;
		r->use = mem_grow(r->use, a->size, sizeof(*r->use));
	}
	r->use[r->uses++] = (struct world_use){.route = r, .of = of};
	r->parents += parent;
}

static void use_target(void *ctx, const struct route_target *t)
{
	use_add(ctx, t->namespace, t->service, false);
}

static void attach(struct world *w, struct world_route *r)
{
	const struct object_route *o = &r->object->route;
	struct attach a = {.world = w, .route = r};

	r->status = mem_alloc(o->parents * sizeof(*r->status) + 1);
	for (unsigned i = 0; i < o->parents; i++) {
		if (o->parent[i].gateway && list_empty(&r->edge_link)) {
			list_add(&w->edge_routes, &r->edge_link);
			world_gateway_touch(w);
		}
		if (o->parent[i].kind)
			route_no_parent(r->object, i, &r->status[i]);
		else
			use_add(&a, o->parent[i].namespace, o->parent[i].name, true);
	}
	route_each_target(r->object, use_target, &a);
	for (unsigned i = 0; i < r->uses; i++) { /* they do not move any more */
		struct world_use *u = &r->use[i];

		list_add(i < r->parents ? &u->of->attached : &u->of->sending, &u->link);
		routed_dirty(w, u->of);
	}
	parents_change(w, r);
}

void world_route_change(struct world *w, enum object_kind kind, const char *namespace, const char *name)
{
	const struct object *o = store_get(w->store, kind, namespace, name);
	struct world_route *r = world_route_named(w, kind, namespace, name);

	if (!r && !o)
		return;
	if (!r) {
		r = mem_alloc(sizeof(*r));
		r->kind = kind;
		r->namespace = mem_string(namespace);
		r->name = mem_string(name);
		list_init(&r->troubled_link);
		list_init(&r->edge_link);
		table_add(&w->routes, &r->link, world_name_hash(namespace, name));
	}
	detach(w, r);
	r->object = o;
	if (o)
		attach(w, r);
	else
		route_drop(w, r);
}

/* ------------------------------------------------------------------ compiling */

static bool ask_service(void *ctx, const char *namespace, const char *service, uint16_t port)
{
	const struct world *w = ctx;
	const struct object *o = store_get(w->store, KIND_SERVICE, namespace, service);

	for (unsigned i = 0; o && i < o->service.ports; i++)
		if (o->service.port[i].port == port)
			return true;
	return false;
}

static bool ask_granted(void *ctx, enum object_kind kind, const char *from, const char *to, const char *service)
{
	return world_granted(ctx, kind, from, to, service);
}

const struct route_world world_route_questions = {.service = ask_service, .granted = ask_granted};

/* What became of a route at one port: the worst of all its ports is what the parentRef says. */
static void merge(struct world_route *r, const struct world_routed *of, const struct service_port *port,
		  const struct route_status *s)
{
	const struct object_route *o = &r->object->route;

	for (unsigned i = 0; i < o->parents; i++) {
		struct route_status *to = &r->status[i];

		if (route_parent_is(&o->parent[i], of->namespace, of->name, port->port, port->name) &&
		    (!to->accepted_reason[0] || route_badness(s) > route_badness(to)))
			*to = *s;
	}
}

struct routes { /* of one Service */
	struct world_route **all, **some;
	const struct object **object; /* of `some`: those of one port */
	struct route_status *status;
	unsigned count;
};

static void compile_port(struct world *w, struct world_routed *r, const struct service_port *p, struct routes *of)
{
	struct route_world world = world_route_questions;
	const struct route_target parent = {.namespace = r->namespace,
					    .service = r->name,
					    .port = p->port,
					    .hash = route_target_hash(r->namespace, r->name, p->port)};
	struct route_table *t;
	unsigned n = 0;

	for (unsigned i = 0; i < of->count; i++) {
		const struct object *o = of->all[i]->object;

		if (!route_has_parent(o, r->namespace, r->name, p->port, p->name))
			continue;
		of->some[n] = of->all[i];
		of->object[n++] = o;
	}
	if (!n)
		return;
	world.ctx = w;
	memset(of->status, 0, n * sizeof(*of->status));
	t = route_compile(of->object, n, &parent, &world, of->status);
	for (unsigned i = 0; i < n; i++)
		merge(of->some[i], r, p, &of->status[i]);
	if (t)
		r->port[r->ports++] = (struct world_routed_port){.port = p->port, .routes = t};
}

static bool names(const struct object_route_parent *p, const struct world_routed *r)
{
	return !p->kind && !strcmp(p->name, r->name) && !strcmp(p->namespace, r->namespace);
}

/* Statuses of the parentRefs that name this Service: forgotten before it is compiled, filled up after. */
static void clear_status(struct world_route *r, const struct world_routed *of)
{
	for (unsigned i = 0; i < r->object->route.parents; i++)
		if (names(&r->object->route.parent[i], of))
			r->status[i].accepted_reason[0] = '\0';
}

bool world_route_troubled(const struct route_status *s)
{
	return route_badness(s);
}

void world_route_judge(struct world *w, struct world_route *r)
{
	bool troubled = false;

	for (unsigned i = 0; i < r->object->route.parents; i++)
		troubled |= route_badness(&r->status[i]) && (!r->object->route.parent[i].kind || r->status[i].gateway);
	list_del(&r->troubled_link);
	if (troubled)
		list_add(&w->troubled_routes, &r->troubled_link);
}

static void judge(struct world *w, struct world_route *r, const struct world_routed *of)
{
	for (unsigned i = 0; i < r->object->route.parents; i++)
		if (names(&r->object->route.parent[i], of) && !r->status[i].accepted_reason[0])
			route_no_parent(r->object, i, &r->status[i]);
	world_route_judge(w, r);
}

/* The same ports have routes as before? */
static bool same_ports(const struct world_routed_port *was, unsigned count, const struct world_routed *r)
{
	for (unsigned i = 0; i < count; i++)
		if (!world_routed_table(r, was[i].port))
			return false;
	return count == r->ports;
}

static void compile(struct world *w, struct world_routed *r)
{
	const struct object *o = store_get(w->store, KIND_SERVICE, r->namespace, r->name);
	struct world_routed old = *r;
	struct routes of = {0};

	list_each(l, &r->attached)
		of.count++;
	of.all = mem_alloc(of.count * sizeof(*of.all) + 1);
	of.some = mem_alloc(of.count * sizeof(*of.some) + 1);
	of.object = mem_alloc(of.count * sizeof(*of.object) + 1);
	of.status = mem_alloc(of.count * sizeof(*of.status) + 1);
	of.count = 0;
	list_each(l, &r->attached) {
		of.all[of.count] = container_of(l, struct world_use, link)->route;
		clear_status(of.all[of.count++], r);
	}
	r->port = mem_alloc((o ? o->service.ports : 0) * sizeof(*r->port) + 1);
	r->ports = 0;
	for (unsigned i = 0; o && of.count && i < o->service.ports; i++)
		compile_port(w, r, &o->service.port[i], &of);
	for (unsigned i = 0; i < of.count; i++)
		judge(w, of.all[i], r);
	r->recast |= !same_ports(old.port, old.ports, r);
	r->kept |= r->ports != 0;
	drop_tables(&old);
	routed_dirty(w, r);
	free(of.all);
	free(of.some);
	free(of.object);
	free(of.status);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* ReferenceGrants changed: whoever names a Service of their namespaces from another one is looked at again. */
static void grants_change(struct world *w)
{
	if (!w->grant_namespaces)
		return;
	qsort(w->grant_namespace, w->grant_namespaces, sizeof(char *), compare);
	for (struct table_link *l = table_walk(&w->routed, NULL); l; l = table_walk(&w->routed, l)) {
		const struct world_routed *r = container_of(l, struct world_routed, link);

		if (!bsearch(&r->namespace, w->grant_namespace, w->grant_namespaces, sizeof(char *), compare))
			continue;
		list_each(at, &r->sending) {
			const struct world_route *route = container_of(at, struct world_use, link)->route;

			if (strcmp(route->namespace, r->namespace))
				parents_change(w, route);
		}
	}
	while (w->grant_namespaces)
		free(w->grant_namespace[--w->grant_namespaces]);
}

void world_route_update(struct world *w)
{
	grants_change(w);
	while (!list_empty(&w->changed_routed)) {
		struct world_routed *r = container_of(w->changed_routed.next, struct world_routed, changed_link);

		list_del(&r->changed_link);
		r->changed = false;
		compile(w, r);
	}
}

void world_route_free(struct world *w)
{
	struct table_link *l, *next;

	for (l = table_walk(&w->routes, NULL); l; l = next) {
		next = table_walk(&w->routes, l);
		route_drop(w, container_of(l, struct world_route, link));
	}
	for (l = table_walk(&w->routed, NULL); l; l = next) {
		next = table_walk(&w->routed, l);
		routed_free(w, container_of(l, struct world_routed, link));
	}
	table_free(&w->routes);
	table_free(&w->routed);
}
