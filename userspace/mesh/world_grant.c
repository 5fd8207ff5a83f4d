/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_grant.c: ReferenceGrants, of routes to Services and of Gateways to Secrets: each pair of its `from` and `to` as
 * a row of its own, so that a question costs the same however many there are.
 */
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

struct row {
	struct table_link link; /* by all four */
	struct grant *of;
	enum object_kind kind;
	char *from;
	char *service; /* "": all */
};

struct grant {
	struct table_link link;
	char *namespace, *name;
	struct row *row;
	unsigned rows;
};

static uint64_t row_hash(enum object_kind kind, const char *from, const char *to, const char *service)
{
	uint64_t all[4] = {kind, table_hash(from, strlen(from)), table_hash(to, strlen(to)),
			   table_hash(service, strlen(service))};

	return table_hash(all, sizeof(all));
}

static bool listed(const struct world *w, enum object_kind kind, const char *from, const char *to,
		   const char *service)
{
	struct table_link *l = table_first(&w->granted, row_hash(kind, from, to, service));

	for (; l; l = table_next_same(l)) {
		const struct row *r = container_of(l, struct row, link);

		if (r->kind == kind && !strcmp(r->service, service) && !strcmp(r->from, from) &&
		    !strcmp(r->of->namespace, to))
			return true;
	}
	return false;
}

bool world_granted(const struct world *w, enum object_kind kind, const char *from, const char *to, const char *service)
{
	return listed(w, kind, from, to, service) || listed(w, kind, from, to, "");
}

static void clear(struct world *w, struct grant *g)
{
	for (unsigned i = 0; i < g->rows; i++) {
		table_del(&w->granted, &g->row[i].link);
		free(g->row[i].from);
		free(g->row[i].service);
	}
	free(g->row);
	g->row = NULL;
	g->rows = 0;
}

static void fill(struct world *w, struct grant *g, const struct object_grant *o)
{
	g->row = mem_alloc((size_t)o->froms * (o->tos + o->secrets) * sizeof(*g->row) + 1);
	for (unsigned f = 0; f < o->froms; f++) {
		bool secrets = o->from[f].kind == KIND_GATEWAY;

		for (unsigned t = 0; t < (secrets ? o->secrets : o->tos); t++) {
			struct row *r = &g->row[g->rows++];

			r->of = g;
			r->kind = o->from[f].kind;
			r->from = mem_string(o->from[f].namespace);
			r->service = mem_string(secrets ? o->secret[t] : o->to[t]);
			table_add(&w->granted, &r->link, row_hash(r->kind, r->from, g->namespace, r->service));
		}
	}
}

static void drop(struct world *w, struct grant *g)
{
	clear(w, g);
	table_del(&w->grants, &g->link);
	free(g->namespace);
	free(g->name);
	free(g);
}

/* Those who name Services of the namespace look again (world_route_update). */
static void note(struct world *w, const char *namespace)
{
	if (w->grant_namespaces && !strcmp(w->grant_namespace[w->grant_namespaces - 1], namespace))
		return;
	if (w->grant_namespaces == w->grant_namespaces_size) {
		w->grant_namespaces_size = w->grant_namespaces_size ? 2 * w->grant_namespaces_size : 16;
		w->grant_namespace = mem_grow(w->grant_namespace, w->grant_namespaces_size, sizeof(char *));
	}
	w->grant_namespace[w->grant_namespaces++] = mem_string(namespace);
}

void world_grant_change(struct world *w, const char *namespace, const char *name)
{
	const struct object *o = store_get(w->store, KIND_REFERENCE_GRANT, namespace, name);
	uint64_t hash = world_name_hash(namespace, name);
	struct table_link *l = table_first(&w->grants, hash);
	struct grant *g = NULL;

	for (; l && !g; l = table_next_same(l)) {
		g = container_of(l, struct grant, link);
		if (strcmp(g->name, name) || strcmp(g->namespace, namespace))
			g = NULL;
	}
	if (!g && !o)
		return;
	note(w, namespace);
	world_gateway_touch(w);
	if (!g) {
		g = mem_alloc(sizeof(*g));
		g->namespace = mem_string(namespace);
		g->name = mem_string(name);
		table_add(&w->grants, &g->link, hash);
	}
	clear(w, g);
	if (o)
		fill(w, g, &o->grant);
	else
		drop(w, g);
}

void world_grant_free(struct world *w)
{
	struct table_link *l = table_walk(&w->grants, NULL), *next;

	for (; l; l = next) {
		next = table_walk(&w->grants, l);
		drop(w, container_of(l, struct grant, link));
	}
	table_free(&w->grants);
	table_free(&w->granted);
	for (unsigned i = 0; i < w->grant_namespaces; i++)
		free(w->grant_namespace[i]);
	free(w->grant_namespace);
}
