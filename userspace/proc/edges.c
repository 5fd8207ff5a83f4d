/* SPDX-License-Identifier: Apache-2.0 */
/* edges.c: see edges.h. */
#include "edges.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pods.h"

struct edge {
	struct abi_addr addr;
	uint16_t port;
	bool stale; /* the worker that is there now has not asked for it */
	int *fd;    /* one for each thread */
	struct list link;
};

struct edges {
	struct loader *loader;
	unsigned threads, count;
	struct list all;
	uint64_t sockets_ns; /* of inside_share(): for all Gateways together */
};

struct edges *edges_new(struct loader *l, unsigned threads)
{
	struct edges *e = mem_alloc(sizeof(*e));

	e->loader = l;
	e->threads = threads;
	list_init(&e->all);
	return e;
}

static struct edge *find(const struct edges *e, const struct wire_edge *w)
{
	list_each(l, &e->all) {
		struct edge *i = container_of(l, struct edge, link);

		if (i->port == w->port && addr_equal(&i->addr, &w->addr))
			return i;
	}
	return NULL;
}

static void drop(struct edges *e, struct edge *i)
{
	for (unsigned k = 0; k < e->threads; k++)
		if (i->fd[k] >= 0)
			close(i->fd[k]);
	list_del(&i->link);
	e->count--;
	free(i->fd);
	free(i);
}

void edges_free(struct edges *e)
{
	if (!e)
		return;
	list_each_safe(l, next, &e->all)
		drop(e, container_of(l, struct edge, link));
	free(e);
}

void edges_begin(struct edges *e)
{
	list_each(l, &e->all)
		container_of(l, struct edge, link)->stale = true;
}

void edges_settle(struct edges *e)
{
	list_each_safe(l, next, &e->all)
		if (container_of(l, struct edge, link)->stale)
			drop(e, container_of(l, struct edge, link));
}

void edges_close(struct edges *e, const struct wire_edge *w)
{
	struct edge *i = find(e, w);

	if (i)
		drop(e, i);
}

static int refuse(const struct wire_edge *w, int err, char *why, size_t size)
{
	char at[ADDR_PORT_TEXT] = "";

	if (addr_is_zero(&w->addr))
		snprintf(at, sizeof(at), "port %u", w->port);
	else
		(void)addr_port_text(&w->addr, w->port, at);
	if (err == -EADDRINUSE)
		snprintf(why, size, "%s is in use on the node: stop what listens there (`ss -ltnp`)", at);
	else if (err == -EADDRNOTAVAIL)
		snprintf(why, size, "%s: the node does not have this address", at);
	else if (err == -ENOSPC)
		snprintf(why, size, "%s: a node listens on at most %d addresses and ports", at, EDGES_MOST);
	else
		snprintf(why, size, "%s: %s", at, strerror(-err));
	return err;
}

static struct edge *edge_new(struct edges *e, const struct wire_edge *w)
{
	struct edge *i = mem_alloc(sizeof(*i));

	i->addr = w->addr;
	i->port = w->port;
	i->fd = mem_alloc(e->threads * sizeof(*i->fd));
	for (unsigned k = 0; k < e->threads; k++)
		i->fd[k] = -1;
	list_add(&e->all, &i->link);
	e->count++;
	return i;
}

/* They were a supervisor's that is gone. */
static void keep(struct edge *i, const struct wire_edge *w, const int *fds, unsigned nfds)
{
	for (unsigned k = 0; k < nfds; k++)
		if (i->fd[w->first + k] < 0)
			i->fd[w->first + k] = fcntl(fds[k], F_DUPFD_CLOEXEC, 3);
}

int edges_open(struct edges *e, const struct wire_edge *w, const int *fds, unsigned nfds, int ret[WIRE_FDS],
	       unsigned *ret_nfds, char *why, size_t size)
{
	struct edge *i = find(e, w);
	int err = 0;

	*ret_nfds = 0;
	if (!w->port || w->first >= e->threads || w->count > e->threads - w->first || w->count > WIRE_FDS ||
	    (nfds && nfds != w->count))
		return refuse(w, -EINVAL, why, size);
	/* The worker may be hostile: the next one would take clients of another port for the Gateway's. */
	for (unsigned k = 0; k < nfds; k++)
		if (!netns_home_listens(fds[k], &w->addr, w->port))
			return refuse(w, -EINVAL, why, size);
	if (!i && e->count == EDGES_MOST)
		return refuse(w, -ENOSPC, why, size);
	if (!i)
		i = edge_new(e, w);
	i->stale = false;
	keep(i, w, fds, nfds);
	for (unsigned k = w->first; k < w->first + w->count && !err; k++) {
		if (i->fd[k] < 0)
			i->fd[k] = netns_home_listen(&w->addr, w->port);
		if (i->fd[k] < 0)
			err = i->fd[k];
		else if (!nfds)
			ret[(*ret_nfds)++] = i->fd[k];
	}
	if (!err)
		return 0;
	drop(e, i);
	*ret_nfds = 0;
	return refuse(w, err, why, size);
}

int edges_sockets(struct edges *e, const struct wire_sockets *w, int ret[WIRE_SOCKET_BATCH], char *why, size_t size)
{
	const struct netns_own own = inside_own(e->loader);
	int err;

	if (!w->count || w->kind != WIRE_SOCKET_OUT)
		return -EINVAL;
	if (!inside_share(&e->sockets_ns, w->count))
		return -EBUSY;
	err = netns_home_sockets(w, &own, ret);
	if (err)
		snprintf(why, size, "no socket for a Gateway: %s", strerror(-err));
	return err;
}
