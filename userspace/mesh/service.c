/* SPDX-License-Identifier: Apache-2.0 */
/* service.c: which endpoints a port of a Service has, and the alias table to pick among them. */
#include <stdlib.h>
#include <string.h>

#include "service.h"

void service_pick_add(struct service_picks *p, const struct service_pick *one)
{
	if (p->count == p->size) {
		p->size = p->size ? p->size * 2 : 16;
		p->pick = mem_grow(p->pick, p->size, sizeof(*p->pick));
	}
	p->pick[p->count++] = *one;
}

/*
 * The slice's port of the Service's port: of the same name, as Kubernetes writes them; a slice written by hand may
 * use the name of the target instead.
 */
static const struct slice_port *slice_port(const struct object_slice *slice, const struct service_port *port)
{
	for (unsigned i = 0; i < slice->ports; i++)
		if (text_equal(slice->port[i].name, port->name))
			return &slice->port[i];
	for (unsigned i = 0; port->target_name && i < slice->ports; i++)
		if (text_equal(slice->port[i].name, port->target_name))
			return &slice->port[i];
	return NULL;
}

bool service_pick_slice(struct service_picks *p, const struct object_slice *slice,
			const struct service_port *port, bool ipv6)
{
	const struct slice_port *at = slice_port(slice, port);

	if (!at)
		return false;
	if (slice->ipv6 != ipv6)
		return true;
	for (unsigned i = 0; i < slice->endpoints; i++) {
		const struct slice_endpoint *e = &slice->endpoint[i];

		if (addr_is_v4(&e->addr) == ipv6)
			continue;
		service_pick_add(p, &(struct service_pick){.addr = e->addr,
							   .port = at->port,
							   .weight = e->weight,
							   .ready = e->ready,
							   .serving = e->serving,
							   .terminating = e->terminating});
	}
	return true;
}

static int compare(const void *pa, const void *pb)
{
	const struct service_pick *a = pa, *b = pb;
	int c = memcmp(&a->addr, &b->addr, sizeof(a->addr));

	return c ? c : (a->port > b->port) - (a->port < b->port);
}

/* An endpoint that two slices name (while it moves from one to the other) is one: ready if one says so. */
static void unite(struct service_picks *p)
{
	unsigned kept = 0;

	if (!p->count)
		return;
	qsort(p->pick, p->count, sizeof(*p->pick), compare);
	for (unsigned i = 1; i < p->count; i++) {
		struct service_pick *last = &p->pick[kept], *one = &p->pick[i];

		if (compare(last, one)) {
			p->pick[++kept] = *one;
			continue;
		}
		if (one->weight > last->weight)
			last->weight = one->weight;
		last->ready |= one->ready;
		last->serving |= one->serving;
		last->terminating &= one->terminating;
	}
	p->count = kept + 1;
}

void service_choose(struct service_picks *p, bool publish_not_ready)
{
	bool any_ready = publish_not_ready;
	unsigned kept = 0;

	unite(p);
	for (unsigned i = 0; i < p->count; i++)
		any_ready |= p->pick[i].ready;
	for (unsigned i = 0; i < p->count; i++) {
		const struct service_pick *e = &p->pick[i];
		bool use = publish_not_ready || (any_ready ? e->ready : e->serving && e->terminating);

		if (use && e->weight)
			p->pick[kept++] = *e;
	}
	p->count = kept;
}

/* r of w as a share: the entry is kept for random numbers 0 .. share (decide_alias). */
static uint32_t share_of(uint64_t r, uint64_t w)
{
	uint64_t share = (uint64_t)(((unsigned __int128)r << 32) / w);

	return share ? share - 1 : 0;
}

void service_alias(const struct service_pick *p, unsigned count, struct abi_endpoint *ret)
{
	uint64_t *left = mem_alloc(count * sizeof(*left) + 1);
	uint32_t *small = mem_alloc(count * sizeof(*small) + 1), *large = mem_alloc(count * sizeof(*large) + 1);
	unsigned smalls = 0, larges = 0;
	uint64_t total = 0;

	for (unsigned i = 0; i < count; i++)
		total += p[i].weight;
	for (unsigned i = 0; i < count; i++) {
		/* whole numbers: entry i holds weight * count of its own, and has room for `total` */
		left[i] = (uint64_t)p[i].weight * count;
		if (left[i] < total)
			small[smalls++] = i;
		else
			large[larges++] = i;
		ret[i] = (struct abi_endpoint){.addr = p[i].addr,
					       .port = p[i].port,
					       .weight = p[i].weight,
					       .share = UINT32_MAX,
					       .alias = i};
	}
	while (smalls && larges) {
		uint32_t s = small[--smalls], l = large[larges - 1];

		ret[s].share = share_of(left[s], total);
		ret[s].alias = l;
		left[l] -= total - left[s];
		if (left[l] < total) {
			larges--;
			small[smalls++] = l;
		}
	}
	/* what remains is exactly full: sum(left) is count * total at each step */
	free(left);
	free(small);
	free(large);
}
