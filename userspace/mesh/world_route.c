/* SPDX-License-Identifier: Apache-2.0 */
/* world_route.c: the Services that weft looks into. */
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

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

static struct world_routed *routed_get(struct world *w, const char *namespace, const char *name)
{
	struct world_routed *r = world_routed(w, namespace, name);

	if (r)
		return r;
	r = mem_alloc(sizeof(*r));
	r->namespace = mem_string(namespace);
	r->name = mem_string(name);
	table_add(&w->routed, &r->link, world_name_hash(namespace, name));
	return r;
}

bool world_routed_used(const struct world_routed *r)
{
	return r->wanted;
}

static void routed_free(struct world *w, struct world_routed *r)
{
	if (r->dirty)
		list_del(&r->dirty_link);
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

void world_route_wanted(struct world *w, const char *namespace, const char *name, bool wanted)
{
	struct world_routed *r = wanted ? routed_get(w, namespace, name) : world_routed(w, namespace, name);

	if (!r || r->wanted == wanted)
		return;
	r->wanted = wanted;
	routed_dirty(w, r);
}

void world_route_touch(struct world *w, const char *namespace, const char *name)
{
	struct world_routed *r = world_routed(w, namespace, name);

	if (r)
		routed_dirty(w, r);
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

void world_route_free(struct world *w)
{
	struct table_link *l = table_walk(&w->routed, NULL), *next;

	for (; l; l = next) {
		next = table_walk(&w->routed, l);
		routed_free(w, container_of(l, struct world_routed, link));
	}
	table_free(&w->routed);
}
