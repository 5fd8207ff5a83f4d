/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish_found.c: what the kernel held when the worker started. Rows that are right are taken over, so that a
 * restart writes nothing; numbers start above all that were seen, so that none gets a second meaning.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "publish_parts.h"

static void above(uint32_t *next, uint32_t seen)
{
	if (seen >= *next)
		*next = seen + 1;
}

/* ------------------------------------------------------------------ pods, addresses */

static int read_pods(struct publish *p)
{
	struct world *w = p->world;
	uint64_t *netns;
	struct abi_pod *row;
	unsigned n;
	int r;

	r = kernel_dump(p->fd[WIRE_FD_PODS], sizeof(*netns), sizeof(*row), (void **)&netns, (void **)&row, &n);
	if (r < 0)
		return r;
	p->orphan = mem_alloc(n * sizeof(*p->orphan) + 1);
	p->orphans = n;
	for (unsigned i = 0; i < n; i++) {
		p->orphan[i] = (struct publish_orphan){.netns = netns[i], .row = row[i]};
		above(&w->identities.next, row[i].identity);
		above(&w->next_set, row[i].policy);
		world_hint(w, netns[i], row[i].identity);
	}
	free(netns);
	free(row);
	return 0;
}

static int read_addresses(struct publish *p)
{
	struct abi_addr *addr;
	struct abi_address *row;
	unsigned n;
	int r;

	r = kernel_dump(p->fd[WIRE_FD_ADDRESSES], sizeof(*addr), sizeof(*row), (void **)&addr, (void **)&row, &n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		struct world_address *a = world_address_get(p->world, &addr[i]);

		a->kernel = row[i];
		a->in_kernel = true;
		above(&p->world->identities.next, row[i].identity);
		above(&p->world->next_set, row[i].policy);
		world_address_dirty(p->world, a);
	}
	free(addr);
	free(row);
	return 0;
}

/* ------------------------------------------------------------------ services */

static int read_endpoints(struct publish *p)
{
	struct abi_endpoint_key *key;
	struct abi_endpoint *row;
	struct world_front *f = NULL;
	unsigned n;
	int r;

	r = kernel_dump(p->fd[WIRE_FD_ENDPOINTS], sizeof(*key), sizeof(*row), (void **)&key, (void **)&row, &n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		above(&p->world->next_service, key[i].service);
		f = world_front_numbered(p->world, key[i].service);
		if (!f || f->kernel.generation != key[i].generation || key[i].index >= f->kernel.count) {
			publish_later(&p->stray, &key[i], sizeof(key[i]));
			continue;
		}
		if (!f->endpoint)
			f->endpoint = mem_alloc(f->kernel.count * sizeof(*f->endpoint));
		f->endpoint[key[i].index] = row[i];
		f->count++;
	}
	free(key);
	free(row);
	for (f = NULL; (f = world_front_each(p->world, f));)
		if (f->count != f->kernel.count) {
			f->count = 0; /* holes: somebody else deleted some */
			f->endpoints_changed = true;
		}
	return 0;
}

static int read_services(struct publish *p)
{
	struct abi_service_key *key;
	struct abi_service *row;
	unsigned n;
	int r;

	r = kernel_dump(p->fd[WIRE_FD_SERVICES], sizeof(*key), sizeof(*row), (void **)&key, (void **)&row, &n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		struct world_front *f = world_front_get(p->world, &key[i], row[i].service);

		f->kernel = row[i];
		f->in_kernel = true;
		row[i].name[sizeof(row[i].name) - 1] = '\0';
		memcpy(f->name, row[i].name, sizeof(f->name));
		above(&p->world->next_service, row[i].service);
		world_front_dirty(p->world, f);
	}
	free(key);
	free(row);
	return read_endpoints(p);
}

/* ------------------------------------------------------------------ policy sets */

static struct publish_found *found(struct publish *p, uint32_t number)
{
	uint64_t hash = table_hash(&number, sizeof(number));
	struct table_link *l = table_first(&p->found, hash);
	struct publish_found *f;

	for (; l; l = table_next_same(l)) {
		f = container_of(l, struct publish_found, link);
		if (f->number == number)
			return f;
	}
	f = mem_alloc(sizeof(*f));
	f->number = number;
	table_add(&p->found, &f->link, hash);
	above(&p->world->next_set, number);
	return f;
}

static int read_heads(struct publish *p)
{
	struct abi_policy *row;
	uint32_t *key;
	unsigned n;
	int r;

	r = kernel_dump(p->fd[WIRE_FD_POLICIES], sizeof(*key), sizeof(*row), (void **)&key, (void **)&row, &n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		struct publish_found *f = found(p, key[i]);

		f->head = row[i];
		f->head_there = true;
	}
	free(key);
	free(row);
	return 0;
}

static int read_sources(struct publish *p)
{
	struct abi_source_key *key;
	struct abi_bits *row;
	unsigned n;
	int r;

	r = kernel_dump(p->fd[WIRE_FD_SOURCES], sizeof(*key), sizeof(*row), (void **)&key, (void **)&row, &n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		struct publish_found *f = found(p, key[i].set);

		above(&p->world->identities.next, key[i].identity);
		f->source = mem_grow(f->source, f->sources + 1, sizeof(*f->source));
		f->source[f->sources++] =
			(struct policy_source_row){.identity = key[i].identity, .bits = row[i]};
	}
	free(key);
	free(row);
	return 0;
}

static int read_blocks(struct publish *p)
{
	struct abi_block_key *key;
	struct abi_bits *row;
	unsigned n;
	int r;

	r = kernel_dump(p->fd[WIRE_FD_BLOCKS], sizeof(*key), sizeof(*row), (void **)&key, (void **)&row, &n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		struct publish_found *f = found(p, key[i].set);

		f->block = mem_grow(f->block, f->blocks + 1, sizeof(*f->block));
		f->block[f->blocks++] = (struct policy_block_row){
			.block = {.addr = key[i].addr, .bits = key[i].prefixlen - 32}, .bits = row[i]};
	}
	free(key);
	free(row);
	return 0;
}

static int read_ports(struct publish *p)
{
	struct abi_port_key *key;
	struct abi_port *row;
	unsigned n;
	int r;

	r = kernel_dump(p->fd[WIRE_FD_PORTS], sizeof(*key), sizeof(*row), (void **)&key, (void **)&row, &n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		struct publish_found *f = found(p, key[i].set);

		f->port = mem_grow(f->port, f->ports + 1, sizeof(*f->port));
		f->port[f->ports++] = (struct policy_port_row){.port = key[i].port, .value = row[i]};
	}
	free(key);
	free(row);
	return 0;
}

static int by_identity(const void *pa, const void *pb)
{
	const struct policy_source_row *a = pa, *b = pb;

	return (a->identity > b->identity) - (a->identity < b->identity);
}

static int by_block(const void *pa, const void *pb)
{
	const struct policy_block_row *a = pa, *b = pb;
	int c = memcmp(&a->block.addr, &b->block.addr, sizeof(a->block.addr));

	return c ? c : (a->block.bits > b->block.bits) - (a->block.bits < b->block.bits);
}

static int by_port(const void *pa, const void *pb)
{
	const struct policy_port_row *a = pa, *b = pb;

	return (a->port > b->port) - (a->port < b->port);
}

static void sort_rows(struct publish *p)
{
	for (struct table_link *l = table_walk(&p->found, NULL); l; l = table_walk(&p->found, l)) {
		struct publish_found *f = container_of(l, struct publish_found, link);

		if (f->sources)
			qsort(f->source, f->sources, sizeof(*f->source), by_identity);
		if (f->blocks)
			qsort(f->block, f->blocks, sizeof(*f->block), by_block);
		if (f->ports)
			qsort(f->port, f->ports, sizeof(*f->port), by_port);
	}
}

static bool same_rows(const struct publish_found *f, const struct policy_set *s)
{
	if (f->sources != s->sources || f->blocks != s->blocks || f->ports != s->ports)
		return false;
	for (unsigned i = 0; i < s->sources; i++)
		if (f->source[i].identity != s->source[i].identity ||
		    memcmp(&f->source[i].bits, &s->source[i].bits, sizeof(struct abi_bits)))
			return false;
	for (unsigned i = 0; i < s->blocks; i++)
		if (by_block(&f->block[i], &s->block[i]) ||
		    memcmp(&f->block[i].bits, &s->block[i].bits, sizeof(struct abi_bits)))
			return false;
	for (unsigned i = 0; i < s->ports; i++)
		if (f->port[i].port != s->port[i].port ||
		    memcmp(&f->port[i].value, &s->port[i].value, sizeof(struct abi_port)))
			return false;
	return true;
}

static bool same_set(const struct publish_found *f, const struct policy_set *s)
{
	struct abi_policy head = s->head;

	head.set = f->number;
	return f->head_there && !f->taken && !memcmp(&f->head, &head, sizeof(head)) && same_rows(f, s);
}

void publish_adopt_sets(struct publish *p)
{
	if (!p->found.count)
		return;
	list_each(l, &p->world->all_sets) {
		struct policy_set *s = container_of(l, struct policy_set, all);

		for (struct table_link *f = table_walk(&p->found, NULL); f && !s->published;
		     f = table_walk(&p->found, f)) {
			struct publish_found *old = container_of(f, struct publish_found, link);

			if (!same_set(old, s))
				continue;
			old->taken = true;
			s->number = old->number;
			s->published = true;
		}
	}
}

static void found_free(struct publish *p, struct publish_found *f)
{
	table_del(&p->found, &f->link);
	free(f->source);
	free(f->block);
	free(f->port);
	free(f);
}

static bool in_use(const struct publish *p, uint32_t number)
{
	for (unsigned i = 0; i < p->orphans; i++)
		if (p->orphan[i].row.policy == number)
			return true;
	list_each(l, &p->world->enrolled) {
		const struct world_pod *pod = container_of(l, struct world_pod, enrolled_link);

		if (pod->in_kernel && pod->kernel.policy == number)
			return true;
	}
	return false;
}

void publish_sweep_found(struct publish *p)
{
	struct publish_rows old = {0};
	struct table_link *l, *next;

	for (l = table_walk(&p->found, NULL); l; l = next) {
		struct publish_found *f = container_of(l, struct publish_found, link);

		next = table_walk(&p->found, l);
		if (!f->taken && in_use(p, f->number))
			continue;
		if (!f->taken)
			publish_rows_found(&old, f);
		found_free(p, f);
	}
	publish_delete_rows(p, &old, "policy sets of before");
}

void publish_found_free(struct publish *p)
{
	struct table_link *l, *next;

	for (l = table_walk(&p->found, NULL); l; l = next) {
		next = table_walk(&p->found, l);
		found_free(p, container_of(l, struct publish_found, link));
	}
	table_free(&p->found);
}

/* ------------------------------------------------------------------ numbers that only connections and counters hold */

static int read_conns(struct publish *p)
{
	struct abi_tuple key, next;
	struct abi_conn c;
	int r;

	/* bounded: while connections come and go the walk may start over */
	for (unsigned i = 0; i < 2 * ABI_MAX_CONNS; i++) {
		r = kernel_next(p->fd[WIRE_FD_CONNS], i ? &key : NULL, &next);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		key = next;
		if (kernel_lookup(p->fd[WIRE_FD_CONNS], &key, &c) < 0)
			continue;
		above(&p->world->identities.next, c.source);
		above(&p->world->next_service, c.service);
		above(&p->world->next_set, c.policy);
	}
	return 0;
}

static int read_counters(struct publish *p)
{
	struct abi_traffic_key key, next;
	int r;

	for (unsigned i = 0; i < 2 * ABI_MAX_TRAFFIC; i++) {
		r = kernel_next(p->fd[WIRE_FD_TRAFFIC], i ? &key : NULL, &next);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		key = next;
		above(&p->world->identities.next, key.source);
		above(&p->world->next_service, key.service);
	}
	return 0;
}

int publish_read(struct publish *p)
{
	static int (*const step[])(struct publish *) = {
		read_pods,
		read_addresses,
		read_services,
		read_heads,
		read_sources,
		read_blocks,
		read_ports,
		read_conns,
		read_counters,
	};

	for (size_t i = 0; i < array_size(step); i++) {
		int r = step[i](p);

		if (r < 0)
			return r;
	}
	sort_rows(p);
	return 0;
}
