/* SPDX-License-Identifier: Apache-2.0 */
/* publish.c: the order of things: see publish.h and abi.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "publish_parts.h"

struct publish *publish_new(struct world *w, const int fds[WIRE_FD_COUNT], int *ret_error)
{
	struct publish *p = mem_alloc(sizeof(*p));
	int r;

	p->world = w;
	memcpy(p->fds, fds, sizeof(p->fds));
	p->fd = p->fds;
	r = publish_read(p);
	if (r < 0) {
		*ret_error = r;
		publish_free(p);
		return NULL;
	}
	*ret_error = 0;
	return p;
}

static void forget_errors(struct publish *p)
{
	for (unsigned i = 0; i < p->errors; i++) {
		free(p->error[i]);
		p->error[i] = NULL;
	}
	p->errors = 0;
	p->first_error = 0;
}

void publish_free(struct publish *p)
{
	if (!p)
		return;
	forget_errors(p);
	publish_found_free(p);
	free(p->orphan);
	free(p->stray.key);
	free(p->old_endpoints.key);
	free(p);
}

/* ------------------------------------------------------------------ pods of before */

/* Pods that are enrolled again: the world learns what the kernel has for them. */
static void adopt_pods(struct publish *p)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < p->orphans; i++) {
		struct world_pod *pod = world_pod_in(p->world, p->orphan[i].netns);

		if (!pod) {
			p->orphan[kept++] = p->orphan[i];
			continue;
		}
		pod->kernel = p->orphan[i].row;
		pod->in_kernel = true;
		world_pod_dirty(p->world, pod);
	}
	p->orphans = kept;
}

static bool orphaned(const struct publish *p, uint64_t netns)
{
	for (unsigned i = 0; i < p->orphans; i++)
		if (p->orphan[i].netns == netns)
			return true;
	return false;
}

unsigned publish_waiting(const struct publish *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->orphans; i++)
		n += !world_pod_in(p->world, p->orphan[i].netns);
	return n;
}

void publish_all_enrolled(struct publish *p)
{
	p->all_enrolled = true;
}

/* The supervisor knows nothing of them: their addresses first, then they. */
static void forget_orphans(struct publish *p)
{
	struct world *w = p->world;

	for (struct table_link *l = table_walk(&w->addresses, NULL); l; l = table_walk(&w->addresses, l)) {
		struct world_address *a = container_of(l, struct world_address, link);

		if (a->in_kernel && a->kernel.kind == ABI_KIND_LOCAL_POD && orphaned(p, a->kernel.netns))
			world_address_dirty(w, a);
	}
}

static void delete_orphans(struct publish *p)
{
	for (unsigned i = 0; i < p->orphans; i++)
		publish_del(p, WIRE_FD_PODS, &p->orphan[i].netns, p->orphan[i].row.name);
	p->orphans = 0;
}

/* ------------------------------------------------------------------ addresses */

static void settle(struct world_address *a)
{
	if (a->dirty)
		list_del(&a->dirty_link);
	a->dirty = false;
}

static void publish_address(struct publish *p, struct world_address *a)
{
	struct abi_address row;
	char what[ADDR_TEXT];

	if (a->pod && !a->pod->in_kernel)
		return; /* the pod could not be written: its address waits */
	addr_text(&a->addr, what);
	if (world_address_row(a, &row)) {
		if ((!a->in_kernel || memcmp(&row, &a->kernel, sizeof(row))) &&
		    publish_put(p, WIRE_FD_ADDRESSES, &a->addr, &row, what) < 0)
			return;
		a->kernel = row;
		a->in_kernel = true;
		settle(a);
		return;
	}
	if (a->in_kernel && a->kernel.kind == ABI_KIND_LOCAL_POD && !p->all_enrolled &&
	    orphaned(p, a->kernel.netns)) {
		settle(a);
		return;
	}
	if (a->in_kernel)
		publish_del(p, WIRE_FD_ADDRESSES, &a->addr, what);
	world_address_drop(p->world, a);
}

/* ------------------------------------------------------------------ pods */

static void write_pod(struct publish *p, struct world_pod *pod, const struct abi_pod *row)
{
	uint64_t old = pod->in_kernel ? pod->kernel.netns : 0;

	if (!pod->set->published || !pod->identity->published)
		return; /* named by publish_errors; the pod keeps what it has */
	if ((!pod->in_kernel || memcmp(row, &pod->kernel, sizeof(*row))) &&
	    publish_put(p, WIRE_FD_PODS, &row->netns, row, row->name) < 0)
		return;
	pod->kernel = *row;
	pod->in_kernel = true;
	for (unsigned i = 0; i < pod->addrs; i++) {
		struct world_address *a = world_address(p->world, &pod->addr[i]);

		if (a && a->pod == pod)
			publish_address(p, a);
	}
	if (old && old != row->netns)
		publish_del(p, WIRE_FD_PODS, &old, row->name);
	pod->dirty = false;
	list_del(&pod->dirty_link);
}

static void write_pods(struct publish *p)
{
	list_each_safe(l, next, &p->world->dirty_pods) {
		struct world_pod *pod = container_of(l, struct world_pod, dirty_link);
		struct abi_pod row;

		if (world_pod_row(pod, &row))
			write_pod(p, pod, &row);
	}
}

static void delete_pods(struct publish *p)
{
	list_each_safe(l, next, &p->world->dirty_pods) {
		struct world_pod *pod = container_of(l, struct world_pod, dirty_link);

		if (pod->enrolled)
			continue;
		if (pod->in_kernel)
			publish_del(p, WIRE_FD_PODS, &pod->kernel.netns, pod->kernel.name);
		pod->in_kernel = false;
		pod->dirty = false;
		list_del(l);
		if (!pod->object)
			world_pod_drop(p->world, pod);
	}
}

/* ------------------------------------------------------------------ all */

/*
 * What the kernel may read comes before what leads there, and is removed after it:
 * identities, sets, pods with their addresses; endpoints, services, VIPs; then backwards what is gone.
 */
void publish_switch(struct publish *p)
{
	uint64_t start = clock_ns();

	p->stats = (struct publish_stats){0};
	forget_errors(p);
	adopt_pods(p);
	publish_adopt_sets(p);
	publish_del_all(p, WIRE_FD_ENDPOINTS, &p->stray, "endpoints of before");
	if (p->all_enrolled && p->orphans)
		forget_orphans(p);

	publish_identities(p);
	publish_sets(p);
	write_pods(p);
	publish_fronts(p);
	list_each_safe(l, next, &p->world->dirty_addresses)
		publish_address(p, container_of(l, struct world_address, dirty_link));
	p->stats.took_ns = clock_ns() - start;
}

int publish_sweep(struct publish *p)
{
	uint64_t start = clock_ns();

	publish_gone_fronts(p);
	publish_del_all(p, WIRE_FD_ENDPOINTS, &p->old_endpoints, "endpoints of before");
	delete_pods(p);
	if (p->all_enrolled)
		delete_orphans(p);
	publish_dead_sets(p);
	publish_sweep_found(p);
	p->stats.took_ns += clock_ns() - start;
	return p->first_error;
}

int publish(struct publish *p)
{
	publish_switch(p);
	return publish_sweep(p);
}

const char *const *publish_errors(const struct publish *p, unsigned *ret_count)
{
	if (ret_count)
		*ret_count = p->errors;
	return (const char *const *)p->error;
}

const struct publish_stats *publish_stats(const struct publish *p)
{
	return &p->stats;
}
