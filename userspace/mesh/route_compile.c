/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route_compile.c: the routes of one Service port to one table: whose clients they are for, which kind is in force.
 *
 * A route of the Service's own namespace is for all clients (producer), one of another namespace for the clients of
 * that namespace, and then in place of the producer's (consumer). Of one such set a single kind counts (GEP-1294).
 */
#include <stdlib.h>
#include <string.h>

#include "route_parts.h"

struct item { /* a route at work */
	const struct object *object;
	struct route_status *status;
	const struct route_target *parent;
	struct route_rule *rules;
	enum route_kind kind;
};

/* ------------------------------------------------------------------ statuses */

static void settle(bool *flag, char reason[32], bool value, const char *why)
{
	*flag = value;
	text_copy(reason, 32, why);
}

void route_status_begin(struct route_status *s)
{
	*s = (struct route_status){0};
	settle(&s->accepted, s->accepted_reason, true, "Accepted");
	settle(&s->resolved, s->resolved_reason, true, "ResolvedRefs");
}

void route_no_parent(const struct object *route, unsigned parent, struct route_status *ret)
{
	const struct object_route_parent *p = &route->route.parent[parent];

	route_status_begin(ret);
	settle(&ret->accepted, ret->accepted_reason, false, "NoMatchingParent");
	if (p->kind)
		snprintf(ret->message, sizeof(ret->message), "spec.parentRefs[%u]: is a %.40s, which is not weft's",
			 parent, p->kind);
	else if (p->section)
		snprintf(ret->message, sizeof(ret->message),
			 "spec.parentRefs[%u]: no port \"%.40s\" of a Service %.40s/%.40s", parent, p->section,
			 p->namespace, p->name);
	else if (p->port)
		snprintf(ret->message, sizeof(ret->message), "spec.parentRefs[%u]: no port %u of a Service %.60s/%.60s",
			 parent, p->port, p->namespace, p->name);
	else
		snprintf(ret->message, sizeof(ret->message), "spec.parentRefs[%u]: no Service %.63s/%.63s", parent,
			 p->namespace, p->name);
}

/* ------------------------------------------------------------------ order */

/* By age, then by namespace, name and kind. */
static int by_age(const void *pa, const void *pb)
{
	const struct object *a = ((const struct item *)pa)->object, *b = ((const struct item *)pb)->object;
	int c = object_by_age(a, b);

	return c ? c : (int)a->kind - (int)b->kind;
}

/* By namespace first: the routes of one set stand together, in the order of precedence. */
static int by_namespace(const void *pa, const void *pb)
{
	int c = strcmp(((const struct item *)pa)->object->namespace, ((const struct item *)pb)->object->namespace);

	return c ? c : by_age(pa, pb);
}

static enum route_kind best_kind(const struct item *item, unsigned count)
{
	static const unsigned specific[] = {[ROUTE_GRPC] = 0, [ROUTE_HTTP] = 1, [ROUTE_TLS] = 2, [ROUTE_TCP] = 3};
	enum route_kind best = item[0].kind;

	for (unsigned i = 1; i < count; i++)
		if (specific[item[i].kind] < specific[best])
			best = item[i].kind;
	return best;
}

/* ------------------------------------------------------------------ sets */

static void index_requests(struct route_table *t, struct route_set *s, const struct item *item, unsigned count)
{
	struct route_draft *draft;
	unsigned n = 0, order = 0;

	for (unsigned i = 0; i < count; i++)
		for (unsigned r = 0; r < item[i].object->route.rules && item[i].kind == s->kind; r++)
			n += item[i].object->route.rule[r].matches;
	draft = mem_alloc((n + 1) * sizeof(*draft));
	n = 0;
	for (unsigned i = 0; i < count; i++) {
		const struct object_route *route = &item[i].object->route;

		for (unsigned r = 0; r < route->rules && item[i].kind == s->kind; r++, order++)
			for (unsigned m = 0; m < route->rule[r].matches; m++)
				draft[n++] = (struct route_draft){.match = &route->rule[r].match[m],
								  .rule = &item[i].rules[r],
								  .order = order};
	}
	route_index(t, s, draft, n);
	route_index_done(s);
	free(draft);
}

static void add_host(struct route_table *t, struct route_set *s, const char *name, const struct route_rule *rule)
{
	uint64_t hash = route_name_hash(name);
	struct route_host *h;

	for (struct table_link *l = table_first(&s->hosts, hash); l; l = table_next_same(l))
		if (!strcmp(container_of(l, struct route_host, link)->name, name))
			return; /* an older one has it */
	h = arena_alloc(&t->arena, sizeof(*h));
	h->name = route_keep(&t->arena, route_text(name)).at;
	h->rule = rule;
	table_add(&s->hosts, &h->link, hash);
}

/* TLSRoute and TCPRoute: there is nothing to tell their rules apart, so the first counts. */
static void index_connections(struct route_table *t, struct route_set *s, const struct item *item, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct strings *hosts = &item[i].object->route.hostnames;

		if (item[i].kind != s->kind || !item[i].object->route.rules)
			continue;
		for (unsigned h = 0; h < hosts->count; h++)
			add_host(t, s, hosts->item[h], &item[i].rules[0]);
		if (!hosts->count && !s->rest)
			s->rest = &item[i].rules[0];
	}
}

/* The items are those of `kind`, and others, which are refused. */
static struct route_set *make_set(struct route_table *t, const struct item *item, unsigned count, enum route_kind kind)
{
	struct route_set *s = arena_alloc(&t->arena, sizeof(*s));

	s->namespace = route_keep(&t->arena, route_text(item[0].object->namespace)).at;
	s->kind = kind;
	for (unsigned i = 0; i < count; i++) {
		struct route_status *status = item[i].status;

		if (item[i].kind == s->kind)
			continue;
		settle(&status->accepted, status->accepted_reason, false, "Conflicted");
		snprintf(status->message, sizeof(status->message),
			 "spec.parentRefs: another kind of route is attached to the same port; %s",
			 *item[i].parent->service ? "GRPCRoute comes before HTTPRoute, then TLSRoute, then TCPRoute"
						  : "of one host name the oldest route says which kind is in force");
	}
	if (s->kind == ROUTE_HTTP || s->kind == ROUTE_GRPC)
		index_requests(t, s, item, count);
	else
		index_connections(t, s, item, count);
	return s;
}

struct route_table *route_compile(const struct object *const *route, unsigned routes,
				  const struct route_target *parent, const struct route_world *world,
				  struct route_status *ret_status)
{
	struct item *item = mem_alloc((routes + 1) * sizeof(*item));
	struct route_table *t;
	unsigned end;

	if (!routes) {
		free(item);
		return NULL;
	}
	t = mem_alloc(sizeof(*t));
	t->holders = 1;
	for (unsigned i = 0; i < routes; i++) {
		route_status_begin(&ret_status[i]);
		item[i] = (struct item){.object = route[i], .status = &ret_status[i], .parent = parent};
		(void)route_kind_of(route[i]->kind, &item[i].kind);
		item[i].rules = route_rules(&t->arena, route[i], parent, world, &ret_status[i]);
	}
	if (!*parent->service) { /* a Gateway: all clients are strangers */
		qsort(item, routes, sizeof(*item), by_age);
		t->producer = make_set(t, item, routes, item[0].kind);
		free(item);
		return t;
	}
	qsort(item, routes, sizeof(*item), by_namespace);
	for (unsigned i = 0; i < routes; i = end) {
		const char *namespace = item[i].object->namespace;
		struct route_set *s;

		for (end = i + 1; end < routes && !strcmp(item[end].object->namespace, namespace); end++)
			;
		s = make_set(t, &item[i], end - i, best_kind(&item[i], end - i));
		if (!strcmp(namespace, parent->namespace))
			t->producer = s;
		else
			table_add(&t->consumers, &s->link, route_name_hash(namespace));
	}
	free(item);
	return t;
}

/* ------------------------------------------------------------------ the end of a table */

static void free_set(struct route_set *s)
{
	table_free(&s->exact);
	table_free(&s->prefix);
	table_free(&s->method);
	table_free(&s->slots);
	table_free(&s->hosts);
}

void route_table_drop(struct route_table *t)
{
	struct table_link *next;

	if (!t || __atomic_sub_fetch(&t->holders, 1, __ATOMIC_ACQ_REL))
		return;
	for (struct table_link *l = table_walk(&t->consumers, NULL); l; l = next) {
		next = table_walk(&t->consumers, l);
		free_set(container_of(l, struct route_set, link));
	}
	if (t->producer)
		free_set(t->producer);
	table_free(&t->consumers);
	route_index_free(t);
	arena_free(&t->arena);
	free(t);
}
