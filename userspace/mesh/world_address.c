/* SPDX-License-Identifier: Apache-2.0 */
/* world_address.c: whose address is it: claims, and the row of the strongest. */
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

struct world_address *world_address(const struct world *w, const struct abi_addr *addr)
{
	struct table_link *l = table_first(&w->addresses, table_hash(addr, sizeof(*addr)));

	for (; l; l = table_next_same(l)) {
		struct world_address *a = container_of(l, struct world_address, link);

		if (addr_equal(&a->addr, addr))
			return a;
	}
	return NULL;
}

struct world_address *world_address_get(struct world *w, const struct abi_addr *addr)
{
	struct world_address *a = world_address(w, addr);

	if (a)
		return a;
	a = mem_alloc(sizeof(*a));
	a->addr = *addr;
	list_init(&a->remotes);
	table_add(&w->addresses, &a->link, table_hash(addr, sizeof(*addr)));
	return a;
}

void world_address_dirty(struct world *w, struct world_address *a)
{
	if (a->dirty)
		return;
	a->dirty = true;
	list_add(&w->dirty_addresses, &a->dirty_link);
}

void world_address_drop(struct world *w, struct world_address *a)
{
	if (a->dirty)
		list_del(&a->dirty_link);
	table_del(&w->addresses, &a->link);
	free(a);
}

void world_address_count(struct world *w, const struct abi_addr *addr, enum abi_kind kind, int change)
{
	struct world_address *a = world_address_get(w, addr);

	switch (kind) {
	case ABI_KIND_NODE:
		a->node += change;
		break;
	case ABI_KIND_VIP:
		a->vip += change;
		break;
	default:
		a->remote += change;
	}
	world_address_dirty(w, a);
}

void world_address_claim(struct world *w, const struct abi_addr *addr, struct world_remote *r)
{
	world_address_count(w, addr, ABI_KIND_REMOTE_POD, 1);
	list_add(&world_address(w, addr)->remotes, &r->link);
}

void world_address_unclaim(struct world *w, const struct abi_addr *addr, struct world_remote *r)
{
	list_del(&r->link);
	world_address_count(w, addr, ABI_KIND_REMOTE_POD, -1);
}

const struct world_pod *world_address_pod(const struct world_address *a)
{
	const struct world_pod *best = NULL;

	if (a->pod || a->node || a->vip)
		return a->pod;
	list_each(l, &a->remotes) {
		const struct world_pod *p = container_of(l, struct world_remote, link)->pod;
		const struct object_pod *is = &p->object->pod, *was = best ? &best->object->pod : NULL;

		if (!best || (was->terminating && !is->terminating) ||
		    (was->terminating == is->terminating && p->object->created >= best->object->created))
			best = p;
	}
	return best;
}

static bool enrolled_with(const struct world_pod *p, const struct abi_addr *addr)
{
	for (unsigned i = 0; p->enrolled && i < p->enrolled->addrs; i++)
		if (addr_equal(&p->enrolled->addr[i], addr))
			return true;
	return false;
}

void world_address_take(struct world *w, const struct abi_addr *addr, struct world_pod *p)
{
	struct world_address *a = world_address_get(w, addr);

	if (a->pod && a->pod != p) {
		/* what the supervisor enrolled is stronger than what a Pod object says */
		a->contested = true;
		if (!enrolled_with(p, addr) || enrolled_with(a->pod, addr))
			return;
	}
	a->pod = p;
	world_address_dirty(w, a);
}

void world_address_leave(struct world *w, const struct abi_addr *addr, struct world_pod *p)
{
	struct world_address *a = world_address(w, addr);

	if (!a || a->pod != p)
		return;
	a->pod = NULL;
	world_address_dirty(w, a);
	if (!a->contested)
		return;
	a->contested = false;
	list_each(l, &w->enrolled) {
		struct world_pod *other = container_of(l, struct world_pod, enrolled_link);

		for (unsigned i = 0; other != p && i < other->addrs; i++)
			if (other->claimed == ABI_KIND_LOCAL_POD && addr_equal(&other->addr[i], addr))
				world_address_take(w, addr, other);
	}
}

bool world_address_row(const struct world_address *a, struct abi_address *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (a->pod) {
		if (!a->pod->in_kernel)
			return false;
		ret->kind = ABI_KIND_LOCAL_POD;
		ret->netns = a->pod->kernel.netns;
		ret->pod = a->pod->kernel.pod;
		ret->identity = a->pod->kernel.identity;
		ret->policy = a->pod->kernel.policy;
		ret->splice = a->pod->kernel.splice;
		if (a->pod->kernel.flags & ABI_POD_PROXY)
			ret->flags |= ABI_ADDRESS_PROXY;
		if (a->pod->kernel.flags & ABI_POD_FAIL_OPEN)
			ret->flags |= ABI_ADDRESS_FAIL_OPEN;
		return true;
	}
	if (a->node)
		ret->kind = ABI_KIND_NODE;
	else if (a->vip)
		ret->kind = ABI_KIND_VIP;
	else if (a->remote)
		ret->kind = ABI_KIND_REMOTE_POD;
	if (ret->kind == ABI_KIND_REMOTE_POD && !(world_address_pod(a)->flags & ABI_POD_PLAIN))
		ret->flags |= ABI_ADDRESS_MESH;
	return ret->kind != ABI_KIND_NONE;
}
