/* SPDX-License-Identifier: Apache-2.0 */
/* route_report.c: which routes there are, and what became of each: see report.h and docs/admin.md. */
#include <stdlib.h>
#include <string.h>

#include "report.h"

struct route_key { /* names are hashed (seeded): what is found by it may have gone meanwhile */
	uint64_t hash;
	enum object_kind kind;
	const struct world_route *route; /* for the order only: not valid in a later part */
};

static const struct world_route *find(const struct world *w, const struct route_key *k)
{
	struct table_link *l = table_first(&w->routes, k->hash);

	for (; l; l = table_next_same(l))
		if (container_of(l, struct world_route, link)->kind == k->kind)
			return container_of(l, struct world_route, link);
	return NULL;
}

/* The ports of the Service that it names, and what each speaks. */
static json_t *parent_ports(const struct world *w, const struct object_route_parent *p)
{
	const struct object *o = p->kind ? NULL : store_get(w->store, KIND_SERVICE, p->namespace, p->name);
	json_t *list = json_array();

	for (unsigned i = 0; o && i < o->service.ports; i++) {
		const struct service_port *at = &o->service.port[i];

		if (route_parent_is(p, p->namespace, p->name, at->port, at->name))
			json_array_append_new(list, json_pack("{s:i, s:s}", "port", (int)at->port, "protocol",
							      protocol_name(protocol_of(at))));
	}
	return list;
}

static json_t *parent_json(const struct world *w, const struct world_route *r, unsigned i)
{
	const struct object_route_parent *p = &r->object->route.parent[i];
	const struct route_status *s = &r->status[i];

	return json_pack("{s:s, s:o, s:i, s:o, s:o, s:b, s:s, s:b, s:s, s:o}", "kind", p->kind ? p->kind : "Service",
			 "parent", name_full(p->namespace, p->name), "port", (int)p->port, "section",
			 answer_text(p->section ? p->section : ""), "ports", parent_ports(w, p), "accepted",
			 s->accepted, "accepted_reason", s->accepted_reason, "resolved", s->resolved, "resolved_reason",
			 s->resolved_reason, "message", answer_text(s->message));
}

static json_t *item(void *ctx, const void *key)
{
	const struct report *report = ctx;
	const struct world_route *r = find(report->world, key);
	const struct object_route *o;
	json_t *parents, *hostnames;
	unsigned backends = 0;

	if (!r || !r->object)
		return NULL;
	o = &r->object->route;
	parents = json_array();
	hostnames = json_array();
	for (unsigned i = 0; i < o->parents; i++)
		json_array_append_new(parents, parent_json(report->world, r, i));
	for (unsigned i = 0; i < o->hostnames.count; i++)
		json_array_append_new(hostnames, answer_text(o->hostnames.item[i]));
	for (unsigned i = 0; i < o->rules; i++)
		backends += o->rule[i].backends;
	return json_pack("{s:s, s:o, s:o, s:o, s:i, s:i, s:o}", "kind", object_kind_name(r->kind), "route",
			 name_full(r->namespace, r->name), "parents", parents, "hostnames", hostnames, "rules",
			 (int)o->rules, "backends", (int)backends, "object",
			 name_place(r->object->file, r->object->line));
}

static int by_name(const void *a, const void *b)
{
	const struct world_route *x = ((const struct route_key *)a)->route, *y = ((const struct route_key *)b)->route;
	int c = strcmp(x->namespace, y->namespace);

	if (!c)
		c = strcmp(x->name, y->name);
	return c ? c : (x->kind > y->kind) - (x->kind < y->kind);
}

static bool wanted(const struct world_route *r, const char *name)
{
	char *full;
	bool is;

	if (!name)
		return true;
	full = mem_format("%s/%s", r->namespace, r->name);
	is = text_equal(full, name);
	free(full);
	return is;
}

struct answer *route_report(struct report *r, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "route"));
	struct answer_list list = {.name = "routes", .size = sizeof(struct route_key), .item = item};
	struct route_key *keys = mem_alloc(r->world->routes.count * sizeof(*keys) + 1);

	for (const struct world_route *at = world_route_each(r->world, NULL); at; at = world_route_each(r->world, at))
		if (wanted(at, name))
			keys[list.count++] =
				(struct route_key){.hash = at->link.hash, .kind = at->kind, .route = at};
	if (list.count)
		qsort(keys, list.count, sizeof(*keys), by_name);
	list.keys = keys;
	return answer_lists(&list, 1, r, NULL);
}
