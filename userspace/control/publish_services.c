/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish_services.c: services and their endpoints. All endpoints of the next generation, then the row that
 * switches to it, then (by the caller, after everything) the endpoints of the old one are deleted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "publish_parts.h"

#define GROUP 16384 /* endpoints written in one go */

struct group { /* fronts whose endpoints are written together */
	struct world_front **front;
	struct abi_service *row;
	unsigned fronts, fronts_size;
	struct abi_endpoint_key *key;
	struct abi_endpoint *value;
	unsigned count, size;
};

/* The row as it should be, with the next generation where endpoints change. */
static struct abi_service row_of(const struct world_front *f)
{
	struct abi_service row = {.service = f->number,
				  .generation = f->kernel.generation,
				  .count = f->count,
				  .flags = f->flags,
				  .splice = f->splice,
				  .affinity_seconds = f->affinity_seconds,
				  .key = f->key};

	if (!f->in_kernel || f->kernel.service != f->number)
		row.generation = 1;
	else if (f->endpoints_changed)
		row.generation++;
	memcpy(row.name, f->name, sizeof(row.name));
	return row;
}

static bool next_generation(const struct world_front *f)
{
	return f->endpoints_changed || !f->in_kernel || f->kernel.service != f->number;
}

static void group_add(struct group *g, struct world_front *f)
{
	struct abi_service row = row_of(f);

	if (g->fronts == g->fronts_size) {
		g->fronts_size = g->fronts_size ? g->fronts_size * 2 : 64;
		g->front = mem_grow(g->front, g->fronts_size, sizeof(struct world_front *));
		g->row = mem_grow(g->row, g->fronts_size, sizeof(*g->row));
	}
	g->front[g->fronts] = f;
	g->row[g->fronts++] = row;
	if (!next_generation(f))
		return;
	if (g->count + f->count > g->size) {
		g->size = g->count + f->count > GROUP ? g->count + f->count : GROUP;
		g->key = mem_grow(g->key, g->size, sizeof(*g->key));
		g->value = mem_grow(g->value, g->size, sizeof(*g->value));
	}
	for (unsigned i = 0; i < f->count; i++) {
		f->endpoint[i].service = row.service;
		f->endpoint[i].generation = row.generation;
		g->key[g->count] = (struct abi_endpoint_key){
			.service = row.service, .generation = row.generation, .index = i};
		g->value[g->count++] = f->endpoint[i];
	}
}

static void retire(struct publish *p, const struct abi_service *row)
{
	struct abi_endpoint_key key = {.service = row->service, .generation = row->generation};

	for (; key.index < row->count; key.index++)
		publish_later(&p->old_endpoints, &key, sizeof(key));
}

static void done(struct publish *p, struct world_front *f, const struct abi_service *row)
{
	if (f->in_kernel && (f->kernel.service != row->service || f->kernel.generation != row->generation))
		retire(p, &f->kernel);
	f->kernel = *row;
	f->in_kernel = true;
	f->endpoints_changed = false;
	f->dirty = false;
	list_del(&f->dirty_link);
}

static void write_alone(struct publish *p, struct world_front *f, const struct group *g)
{
	enum wire_fd map = WIRE_FD_ENDPOINTS;
	int r = kernel_update_batch(p->fd[WIRE_FD_ENDPOINTS], g->key, g->value, g->count, sizeof(*g->key),
				    sizeof(*g->value));

	if (!r) {
		map = WIRE_FD_SERVICES;
		r = kernel_update(p->fd[WIRE_FD_SERVICES], &f->key, g->row);
	}
	if (!r) {
		p->stats.updates += g->count + 1;
		done(p, f, g->row);
		return;
	}
	publish_fail(p, r, map, f->name);
	r = kernel_delete_batch(p->fd[WIRE_FD_ENDPOINTS], g->key, g->count, sizeof(*g->key));
	if (r < 0)
		publish_fail(p, r, WIRE_FD_ENDPOINTS, f->name);
}

/* The group did not fit: one front at a time, so that the one that does not is named and the others are served. */
static void write_one(struct publish *p, struct world_front *f)
{
	struct group g = {0};
	struct abi_service there;

	group_add(&g, f);
	/* One that was switched before the group failed has all its endpoints, in use: nothing may take them back. */
	if (!kernel_lookup(p->fd[WIRE_FD_SERVICES], &f->key, &there) && !memcmp(&there, g.row, sizeof(there)))
		done(p, f, g.row);
	else
		write_alone(p, f, &g);
	free(g.front);
	free(g.row);
	free(g.key);
	free(g.value);
}

static void group_write(struct publish *p, struct group *g)
{
	struct abi_service_key *key = mem_alloc(g->fronts * sizeof(*key) + 1);
	int r;

	for (unsigned i = 0; i < g->fronts; i++)
		key[i] = g->front[i]->key;
	r = kernel_update_batch(p->fd[WIRE_FD_ENDPOINTS], g->key, g->value, g->count, sizeof(*g->key),
				sizeof(*g->value));
	if (!r)
		r = kernel_update_batch(p->fd[WIRE_FD_SERVICES], key, g->row, g->fronts, sizeof(*key),
					sizeof(*g->row));
	for (unsigned i = 0; i < g->fronts; i++) {
		if (r)
			write_one(p, g->front[i]);
		else
			done(p, g->front[i], &g->row[i]);
	}
	if (!r)
		p->stats.updates += g->count + g->fronts;
	g->fronts = g->count = 0;
	free(key);
}

void publish_fronts(struct publish *p)
{
	struct group g = {0};

	list_each_safe(l, next, &p->world->dirty_fronts) {
		struct world_front *f = container_of(l, struct world_front, dirty_link);
		struct abi_service row = row_of(f);

		if (!f->owner)
			continue; /* publish_gone_fronts */
		if (f->in_kernel && !memcmp(&row, &f->kernel, sizeof(row))) {
			f->dirty = false;
			list_del(l);
			continue;
		}
		/* `next` stays on the list while this group is written: it is not in the group */
		group_add(&g, f);
		if (g.count >= GROUP || g.fronts >= GROUP)
			group_write(p, &g);
	}
	if (g.fronts)
		group_write(p, &g);
	free(g.front);
	free(g.row);
	free(g.key);
	free(g.value);
}

void publish_gone_fronts(struct publish *p)
{
	struct publish_keys gone = {0};

	list_each_safe(l, next, &p->world->dirty_fronts) {
		struct world_front *f = container_of(l, struct world_front, dirty_link);

		if (f->owner)
			continue; /* could not be written */
		if (f->in_kernel) {
			publish_later(&gone, &f->key, sizeof(f->key));
			retire(p, &f->kernel);
		}
		world_front_drop(p->world, f);
	}
	publish_del_all(p, WIRE_FD_SERVICES, &gone, "services that are gone");
}
