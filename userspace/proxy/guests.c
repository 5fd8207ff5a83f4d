/* SPDX-License-Identifier: Apache-2.0 */
/* guests.c: the listeners of the pods of this node, as one thread has them. */
#include <stdlib.h>

#include "parts.h"

struct guest {
	uint64_t netns;
	struct listener listener[WIRE_LISTENERS];
	bool listens[WIRE_LISTENERS];
	struct table_link link;
};

static void accepted_outbound(struct listener *k, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	outbound_accept(k->site, pod, fd, t);
}

static void accepted_plain(struct listener *k, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	inbound_plain(k->site, pod, fd, t);
}

static void accepted_hbone(struct listener *k, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	inbound_hbone(k->site, pod, fd, t);
}

static void (*const accepted[WIRE_LISTENERS])(struct listener *k, const struct view_pod *pod, int fd,
					      struct abi_tuple *t) = {
	accepted_outbound,
	accepted_plain,
	accepted_hbone,
};

static struct guest *find(const struct site *at, uint64_t netns)
{
	struct table_link *l = table_first(&at->guests, table_hash(&netns, sizeof(netns)));

	for (; l; l = table_next_same(l)) {
		struct guest *g = container_of(l, struct guest, link);

		if (g->netns == netns)
			return g;
	}
	return NULL;
}

static void guest_free(struct site *at, struct guest *g)
{
	for (unsigned i = 0; i < WIRE_LISTENERS; i++)
		if (g->listens[i])
			listener_close(&g->listener[i]);
	table_del(&at->guests, &g->link);
	free(g);
}

void guests_listen(struct site *at, uint64_t netns, const int fd[WIRE_LISTENERS])
{
	struct guest *g = find(at, netns);

	if (g)
		guest_free(at, g);
	g = mem_alloc(sizeof(*g));
	g->netns = netns;
	table_add(&at->guests, &g->link, table_hash(&netns, sizeof(netns)));
	for (unsigned i = 0; i < WIRE_LISTENERS; i++) {
		g->listener[i].accepted = accepted[i];
		g->listens[i] = fd[i] >= 0;
		if (g->listens[i])
			listener_open(&g->listener[i], at, netns, fd[i]);
	}
}

void guests_leave(struct site *at, uint64_t netns)
{
	for (struct table_link *l = table_walk(&at->guests, NULL), *next; l; l = next) {
		struct guest *g = container_of(l, struct guest, link);

		next = table_walk(&at->guests, l);
		if (!netns || g->netns == netns)
			guest_free(at, g);
	}
}
