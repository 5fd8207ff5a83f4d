/* SPDX-License-Identifier: Apache-2.0 */
/* edge.c: the node's own listeners, of Gateways, as one thread has them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "parts.h"

#define ACCEPTS_A_TURN 64
#define REST_NS 100000000ull /* without file descriptors */

struct edge_listener {
	struct site *site;
	uint64_t netns; /* of the Gateway */
	struct abi_addr addr;
	uint16_t port;
	bool early; /* somebody waits, and the view does not have the Gateway yet */
	struct loop_watch watch;
	struct list link;
};

static void listener_watch(struct edge_listener *k)
{
	int err = k->site->draining || k->early ? 0 : loop_watch(k->site->thread->loop, &k->watch);

	if (err)
		log_error("a Gateway's listener cannot be watched: %s", strerror(-err));
}

static void resume_due(struct loop_timer *t)
{
	struct site *at = container_of(t, struct site, edge_resume);

	list_each(l, &at->edges)
		listener_watch(container_of(l, struct edge_listener, link));
}

/* Out of descriptors or memory: a listener that stays readable would take all of the CPU. */
static void rest(struct site *at, int error)
{
	log_error("connections wait: accept: %s: raise the worker's limit of open files", strerror(error));
	list_each(l, &at->edges)
		loop_unwatch(at->thread->loop, &container_of(l, struct edge_listener, link)->watch);
	at->edge_resume.due = resume_due;
	loop_arm(at->thread->loop, &at->edge_resume, REST_NS);
}

void edge_view_changed(struct site *at)
{
	list_each(l, &at->edges) {
		struct edge_listener *k = container_of(l, struct edge_listener, link);

		if (!k->early)
			continue;
		k->early = false;
		listener_watch(k);
	}
}

/* false: there is nothing more to accept now. */
static bool accept_one(struct edge_listener *k, const struct view_pod *gate, const struct gateway_port *port)
{
	struct site *at = k->site;
	struct abi_tuple t = {0};
	int fd = sock_accept(k->watch.fd, &t.src, &t.src_port), err = fd < 0 ? -fd : 0;

	if (err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS)
		rest(at, err);
	else if (err == EINVAL || err == EBADF || err == EOPNOTSUPP)
		loop_unwatch(at->thread->loop, &k->watch); /* it listens no more */
	if (err)
		return err == ECONNABORTED || err == EINTR;
	at->accepted++;
	if (sock_local(fd, &t.dst, &t.dst_port))
		close(fd); /* it has gone already */
	else
		serve_edge(at, gate, port, &t, fd);
	return true;
}

static void listener_ready(struct loop_watch *w, uint32_t events)
{
	struct edge_listener *k = container_of(w, struct edge_listener, watch);
	const struct view_pod *gate = view_pod(k->site->view, k->netns);
	const struct gateway_port *port = gate ? gateway_port(gate->gateway, k->port) : NULL;

	if (!port) {
		k->early = true;
		loop_unwatch(k->site->thread->loop, w);
		return;
	}
	for (unsigned i = 0; i < ACCEPTS_A_TURN; i++)
		if (!accept_one(k, gate, port))
			return;
}

static void listener_free(struct edge_listener *k)
{
	loop_unwatch(k->site->thread->loop, &k->watch);
	close(k->watch.fd);
	list_del(&k->link);
	free(k);
}

void edge_close(struct site *at, uint64_t netns, const struct abi_addr *addr, uint16_t port)
{
	list_each_safe(l, next, &at->edges) {
		struct edge_listener *k = container_of(l, struct edge_listener, link);

		if ((!netns || k->netns == netns) && (!addr || (k->port == port && addr_equal(&k->addr, addr))))
			listener_free(k);
	}
}

void edge_listen(struct site *at, uint64_t netns, const struct abi_addr *addr, uint16_t port, int fd)
{
	struct edge_listener *k = mem_alloc(sizeof(*k));

	edge_close(at, netns, addr, port);
	k->site = at;
	k->netns = netns;
	k->addr = *addr;
	k->port = port;
	k->watch = (struct loop_watch){.fd = fd, .events = EPOLLIN, .ready = listener_ready};
	list_add(&at->edges, &k->link);
	listener_watch(k);
}
