/* SPDX-License-Identifier: Apache-2.0 */
/* worker_pods.c: see worker.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker.h"

#define LISTENERS 3
#define ACCEPTS_A_TURN 32

static const unsigned ports[LISTENERS] = {15001, 15006, 15008}; /* order of WIRE_POD_FDS */

struct guest {
	uint64_t netns;
	uint32_t number;
	struct worker_pods *pods;
	bool told;
	struct list listeners;
	struct table_link link;
};

struct listener {
	struct loop_watch watch;
	struct guest *guest;
	unsigned port;
	struct list link;
};

struct worker_pods {
	struct loop *loop;
	struct table guests; /* by netns */
};

static struct guest *find(const struct worker_pods *p, uint64_t netns)
{
	struct table_link *l = table_first(&p->guests, table_hash(&netns, sizeof(netns)));

	for (; l; l = table_next_same(l)) {
		struct guest *g = container_of(l, struct guest, link);

		if (g->netns == netns)
			return g;
	}
	return NULL;
}

static void listener_ready(struct loop_watch *w, uint32_t events)
{
	struct listener *k = container_of(w, struct listener, watch);
	struct guest *g = k->guest;
	const struct linger reset = {.l_onoff = 1};

	for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			if (errno == EINVAL || errno == EBADF || errno == EOPNOTSUPP)
				loop_unwatch(g->pods->loop, w); /* it listens no more */
			return;
		}
		/* RST, not FIN: nobody reads here, and the client must not believe that somebody did. */
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		if (g->told)
			continue;
		g->told = true;
		log_warning("pod %u: something connects to port %u, where weft would proxy: this version "
			    "does not, so it is "
			    "reset; connect to the service or to the pod's own port",
			    g->number, k->port);
	}
}

static void guest_free(struct guest *g)
{
	list_each_safe(at, next, &g->listeners) {
		struct listener *k = container_of(at, struct listener, link);

		loop_unwatch(g->pods->loop, &k->watch);
		close(k->watch.fd);
		free(k);
	}
	table_del(&g->pods->guests, &g->link);
	free(g);
}

struct worker_pods *worker_pods_new(struct loop *loop)
{
	struct worker_pods *p = mem_alloc(sizeof(*p));

	p->loop = loop;
	return p;
}

void worker_pods_free(struct worker_pods *p)
{
	if (!p)
		return;
	for (struct table_link *l = table_walk(&p->guests, NULL), *next; l; l = next) {
		next = table_walk(&p->guests, l);
		guest_free(container_of(l, struct guest, link));
	}
	table_free(&p->guests);
	free(p);
}

void worker_pods_listen(struct worker_pods *p, const struct wire *m, const int *fds, unsigned nfds)
{
	struct guest *g;

	if (!m->number)
		worker_pods_leave(p, m->pod.netns);
	g = find(p, m->pod.netns);
	if (!g) {
		g = mem_alloc(sizeof(*g));
		*g = (struct guest){.netns = m->pod.netns, .number = m->pod.pod, .pods = p};
		list_init(&g->listeners);
		table_add(&p->guests, &g->link, table_hash(&g->netns, sizeof(g->netns)));
	}
	for (unsigned i = 0; i < nfds; i++) {
		struct listener *k = mem_alloc(sizeof(*k));
		int err;

		*k = (struct listener){.guest = g, .port = ports[i % LISTENERS]};
		k->watch = (struct loop_watch){.fd = fds[i], .events = EPOLLIN, .ready = listener_ready};
		list_add(&g->listeners, &k->link);
		err = loop_watch(p->loop, &k->watch);
		if (err)
			log_warning("pod %u: listener %u cannot be watched: %s", g->number, k->port, strerror(-err));
	}
}

void worker_pods_leave(struct worker_pods *p, uint64_t netns)
{
	struct guest *g = find(p, netns);

	if (g)
		guest_free(g);
}
