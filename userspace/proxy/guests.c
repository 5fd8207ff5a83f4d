/* SPDX-License-Identifier: Apache-2.0 */
/* guests.c: the listeners of the pods of this node, as one thread has them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parts.h"

#define ACCEPTS_A_TURN 64
#define ACCEPTS_CAUTION 32 /* events that take one only, after one try too many: it makes a file, for nobody */
#define REST_NS 100000000ull /* without file descriptors */

struct guest {
	uint64_t netns;
	struct site *site;
	struct listener {
		struct loop_watch watch;
		struct guest *guest;
		unsigned tries;	  /* of accept(2) in one event */
		unsigned caution; /* events until they are more */
		bool early; /* somebody waits, and the view does not have the pod yet */
	} listener[WIRE_LISTENERS];
	struct table_link link;
};

static void (*const serve[WIRE_LISTENERS])(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t) = {
	outbound_accept,
	inbound_plain,
	inbound_hbone,
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

static void each_listener(struct site *at, void (*one)(struct site *at, struct listener *k))
{
	for (struct table_link *l = table_walk(&at->guests, NULL); l; l = table_walk(&at->guests, l)) {
		struct guest *g = container_of(l, struct guest, link);

		for (unsigned i = 0; i < WIRE_LISTENERS; i++)
			one(at, &g->listener[i]);
	}
}

static void listener_watch(struct site *at, struct listener *k)
{
	int err = k->watch.fd >= 0 && !at->draining ? loop_watch(at->thread->loop, &k->watch) : 0;

	if (err)
		log_error("a pod's listener cannot be watched: %s", strerror(-err));
}

static void listener_rest(struct site *at, struct listener *k)
{
	if (k->watch.fd >= 0)
		loop_unwatch(at->thread->loop, &k->watch);
}

static void resume_due(struct loop_timer *t)
{
	each_listener(container_of(t, struct site, resume), listener_watch);
}

/* Out of descriptors or memory: a listener that stays readable would take all of the CPU. */
static void rest(struct site *at, int error)
{
	log_error("connections wait: accept: %s: raise the worker's limit of open files", strerror(error));
	each_listener(at, listener_rest);
	at->resume.due = resume_due;
	loop_arm(at->thread->loop, &at->resume, REST_NS);
}

/* Nobody waits any more, or accept(2) has failed otherwise. */
static void accept_failed(struct site *at, struct listener *k, int err)
{
	k->tries = 1;
	k->caution = ACCEPTS_CAUTION;
	if (err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS)
		rest(at, err);
	else if (err == EINVAL || err == EBADF || err == EOPNOTSUPP)
		loop_unwatch(at->thread->loop, &k->watch); /* it listens no more */
}

/* All were taken that were tried for: the next event, which comes as long as somebody waits, may try for more. */
static void accepted_all(struct listener *k)
{
	if (k->caution)
		k->caution--;
	else if (k->tries < ACCEPTS_A_TURN)
		k->tries *= 2;
}

static void listener_ready(struct loop_watch *w, uint32_t events)
{
	struct listener *k = container_of(w, struct listener, watch);
	struct guest *g = k->guest;
	struct site *at = g->site;
	const struct view_pod *pod = view_pod(at->view, g->netns);
	unsigned which = (unsigned)(k - g->listener);

	if (!pod) {
		k->early = true;
		loop_unwatch(at->thread->loop, w);
		return;
	}
	for (unsigned i = 0; i < k->tries; i++) {
		struct abi_tuple t = {0};
		int fd = sock_accept(w->fd, &t.src, &t.src_port);

		if (fd == -ECONNABORTED || fd == -EINTR)
			continue;
		if (fd < 0) {
			accept_failed(at, k, -fd);
			return;
		}
		at->accepted++;
		serve[which](at, pod, fd, &t);
	}
	accepted_all(k);
}

static void listener_early(struct site *at, struct listener *k)
{
	if (k->early)
		listener_watch(at, k);
	k->early = false;
}

void guests_view_changed(struct site *at)
{
	each_listener(at, listener_early);
}

static void guest_free(struct guest *g)
{
	struct site *at = g->site;

	for (unsigned i = 0; i < WIRE_LISTENERS; i++) {
		struct loop_watch *w = &g->listener[i].watch;

		loop_unwatch(at->thread->loop, w);
		if (w->fd >= 0)
			close(w->fd);
	}
	table_del(&at->guests, &g->link);
	free(g);
}

void guests_listen(struct site *at, uint64_t netns, const int fd[WIRE_LISTENERS])
{
	struct guest *g = find(at, netns);

	if (g)
		guest_free(g);
	g = mem_alloc(sizeof(*g));
	g->netns = netns;
	g->site = at;
	table_add(&at->guests, &g->link, table_hash(&netns, sizeof(netns)));
	for (unsigned i = 0; i < WIRE_LISTENERS; i++) {
		g->listener[i].guest = g;
		g->listener[i].tries = 1;
		g->listener[i].watch =
			(struct loop_watch){.fd = fd[i], .events = EPOLLIN, .ready = listener_ready};
		listener_watch(at, &g->listener[i]);
	}
}

void guests_leave(struct site *at, uint64_t netns)
{
	for (struct table_link *l = table_walk(&at->guests, NULL), *next; l; l = next) {
		struct guest *g = container_of(l, struct guest, link);

		next = table_walk(&at->guests, l);
		if (!netns || g->netns == netns)
			guest_free(g);
	}
}
