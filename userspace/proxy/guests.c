/* SPDX-License-Identifier: Apache-2.0 */
/* guests.c: the listeners of the pods of this node, as one thread has them. */
#include <stdlib.h>
#include <unistd.h>

#include "parts.h"

#define MANY 32 /* connections of a thread, before it looks whether others have less */

struct guest {
	uint64_t netns;
	struct listener listener[WIRE_LISTENERS];
	struct table_link link;
};

/* ------------------------------------------------------------------ sharing */

/*
 * What a program of the pod dials comes to the thread of the core that it runs on (thread.h), where neither of the two
 * has to wake another core for the other. So a program may have all of its connections on one thread: who has many more
 * than another hands a new one on to him.
 */
struct handed {
	struct thread_job job;
	uint64_t netns;
	struct abi_tuple tuple;
	int fd;
};

static void take_handed(struct thread *t, struct thread_job *job)
{
	struct handed *h = container_of(job, struct handed, job);
	struct site *at = t->proxy;
	const struct view_pod *pod = view_pod(at->view, h->netns);

	if (pod)
		outbound_accept(at, pod, h->fd, &h->tuple);
	else
		close(h->fd);
	free(h);
}

static bool hand_on(struct site *at, uint64_t netns, int fd, const struct abi_tuple *t)
{
	struct site *other;
	struct handed *h;

	if (at->relay_count < MANY || threads_count() < 2)
		return false;
	at->next = (at->next + 1) % threads_count();
	other = __atomic_load_n(&thread_at(at->next)->proxy, __ATOMIC_ACQUIRE);
	if (!other || __atomic_load_n(&other->relay_count, __ATOMIC_RELAXED) >= at->relay_count / 2)
		return false;
	h = mem_alloc(sizeof(*h));
	*h = (struct handed){.job.run = take_handed, .netns = netns, .tuple = *t, .fd = fd};
	thread_do(other->thread, &h->job);
	return true;
}

/* ------------------------------------------------------------------ accepting */

static void accepted_outbound(struct listener *k, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	if (!hand_on(k->site, k->netns, fd, t))
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
		if (g->listener[i].site)
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
		g->listener[i].captured = !i; /* 15001 */
		if (fd[i] >= 0)
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
