/* SPDX-License-Identifier: Apache-2.0 */
/* publish_policy.c: policy sets and what identities they know. */
#include <stdlib.h>
#include <string.h>

#include "publish_parts.h"

static int put_source(struct publish *p, const struct policy_set *s, const struct policy_source_row *row,
		      const char *what)
{
	struct abi_source_key key = {.set = s->number, .identity = row->identity};

	return publish_put(p, WIRE_FD_SOURCES, &key, &row->bits, what);
}

/* A new identity: every set in the kernel lists it before a pod carries it. */
void publish_identities(struct publish *p)
{
	struct world *w = p->world;
	struct list *lists[] = {&w->all_sets, &w->dead_sets};

	for (unsigned i = 0; i < w->identities.count; i++) {
		struct identity *who = w->identities.all[i];
		int r = 0;

		if (who->published)
			continue;
		for (size_t n = 0; n < array_size(lists); n++) {
			list_each(l, lists[n]) {
				struct policy_set *s = container_of(l, struct policy_set, all);
				const struct policy_source_row *row = policy_learn(s, who);

				if (s->published && row && !r)
					r = put_source(p, s, row, who->principal);
			}
		}
		who->published = !r;
	}
}

/* ------------------------------------------------------------------ rows of sets */

/* In the order of writing: a set's head comes when all else is there. */
static const enum wire_fd maps[] = {WIRE_FD_SOURCES, WIRE_FD_BLOCKS, WIRE_FD_PORTS, WIRE_FD_POLICIES};

static void add_row(struct publish_rows *to, enum wire_fd map, const void *key, size_t key_size,
		    const void *value, size_t value_size)
{
	publish_later(&to->keys[map], key, key_size);
	publish_later(&to->values[map], value, value_size);
}

static void add_sources(struct publish_rows *to, uint32_t set, const struct policy_source_row *row, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct abi_source_key key = {.set = set, .identity = row[i].identity};

		add_row(to, WIRE_FD_SOURCES, &key, sizeof(key), &row[i].bits, sizeof(row[i].bits));
	}
}

static void add_blocks(struct publish_rows *to, uint32_t set, const struct policy_block_row *row, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct abi_block_key key = {
			.prefixlen = 32 + row[i].block.bits, .set = set, .addr = row[i].block.addr};

		add_row(to, WIRE_FD_BLOCKS, &key, sizeof(key), &row[i].bits, sizeof(row[i].bits));
	}
}

static void add_ports(struct publish_rows *to, uint32_t set, const struct policy_port_row *row, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct abi_port_key key = {.set = set, .port = row[i].port};

		add_row(to, WIRE_FD_PORTS, &key, sizeof(key), &row[i].value, sizeof(row[i].value));
	}
}

static void add_set(struct publish_rows *to, const struct policy_set *s)
{
	struct abi_policy head = s->head;

	head.set = s->number;
	add_sources(to, s->number, s->source, s->sources);
	add_blocks(to, s->number, s->block, s->blocks);
	add_ports(to, s->number, s->port, s->ports);
	add_row(to, WIRE_FD_POLICIES, &s->number, sizeof(s->number), &head, sizeof(head));
}

void publish_rows_found(struct publish_rows *to, const struct publish_found *f)
{
	add_sources(to, f->number, f->source, f->sources);
	add_blocks(to, f->number, f->block, f->blocks);
	add_ports(to, f->number, f->port, f->ports);
	add_row(to, WIRE_FD_POLICIES, &f->number, sizeof(f->number), &f->head, sizeof(f->head));
}

static void forget_rows(struct publish_rows *rows)
{
	for (size_t i = 0; i < array_size(maps); i++) {
		free(rows->keys[maps[i]].key);
		free(rows->values[maps[i]].key);
	}
	*rows = (struct publish_rows){0};
}

/* 0, or -errno with the map that did not take them. */
static int write_rows(struct publish *p, const struct publish_rows *rows, enum wire_fd *ret_map)
{
	unsigned count = 0;

	for (size_t i = 0; i < array_size(maps); i++) {
		const struct publish_keys *k = &rows->keys[maps[i]], *v = &rows->values[maps[i]];
		int r = kernel_update_batch(p->fd[maps[i]], k->key, v->key, k->count, k->key_size, v->key_size);

		*ret_map = maps[i];
		if (r)
			return r;
		count += k->count;
	}
	p->stats.updates += count;
	return 0;
}

/* The head first, as nobody shall read what is not whole. */
void publish_delete_rows(struct publish *p, struct publish_rows *rows, const char *what)
{
	for (size_t i = array_size(maps); i-- > 0;)
		publish_del_all(p, maps[i], &rows->keys[maps[i]], what);
	forget_rows(rows);
}

/* ------------------------------------------------------------------ sets */

/* All of them did not fit: one at a time, so that the one that does not is named and the others count. */
static void write_set(struct publish *p, struct policy_set *s)
{
	struct publish_rows rows = {0};
	char what[64 + 2 * WIRE_NAME];
	enum wire_fd map;
	int r;

	snprintf(what, sizeof(what), "policy set %u%s%s%s%s", s->number, s->policies ? " with " : "",
		 s->policies ? s->policy[0].namespace : "", s->policies ? "/" : "",
		 s->policies ? s->policy[0].name : "");
	add_set(&rows, s);
	r = write_rows(p, &rows, &map);
	s->published = !r;
	s->failed = r;
	if (r) {
		publish_fail(p, r, map, what);
		publish_delete_rows(p, &rows, what); /* half of it is of no use, and the room may serve another */
	}
	forget_rows(&rows);
}

void publish_sets(struct publish *p)
{
	struct publish_rows rows = {0};
	enum wire_fd map;
	bool all;

	list_each(l, &p->world->all_sets) {
		struct policy_set *s = container_of(l, struct policy_set, all);

		if (!s->published)
			add_set(&rows, s);
	}
	all = !write_rows(p, &rows, &map);
	if (!all)
		publish_delete_rows(p, &rows, "policy sets that do not fit together");
	forget_rows(&rows);
	list_each(l, &p->world->all_sets) {
		struct policy_set *s = container_of(l, struct policy_set, all);

		if (s->published)
			continue;
		if (all) {
			s->published = true;
			s->failed = false;
		} else {
			write_set(p, s);
		}
	}
}

static bool in_use(const struct world *w, uint32_t number)
{
	list_each(l, &w->enrolled) {
		const struct world_pod *pod = container_of(l, struct world_pod, enrolled_link);

		if (pod->in_kernel && pod->kernel.policy == number)
			return true;
	}
	return false;
}

void publish_dead_sets(struct publish *p)
{
	struct publish_rows old = {0};

	list_each_safe(l, next, &p->world->dead_sets) {
		struct policy_set *s = container_of(l, struct policy_set, all);

		if (in_use(p->world, s->number))
			continue; /* its successor could not be written: see publish_errors */
		add_set(&old, s);
		world_set_drop(p->world, s);
	}
	publish_delete_rows(p, &old, "old policy sets");
}
