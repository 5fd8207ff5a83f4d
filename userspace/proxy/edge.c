/* SPDX-License-Identifier: Apache-2.0 */
/* edge.c: the node's own listeners, of Gateways, as one thread has them. */
#include <stdlib.h>
#include <unistd.h>

#include "parts.h"

struct edge_listener {
	struct listener is;
	struct abi_addr addr;
	uint16_t port;
	struct list link;
};

static const struct gateway_port *port_of(const struct listener *k, const struct view_pod *gate)
{
	return gateway_port(gate->gateway, container_of(k, struct edge_listener, is)->port);
}

static bool knows(const struct listener *k, const struct view_pod *gate)
{
	return port_of(k, gate);
}

static void accepted(struct listener *k, const struct view_pod *gate, int fd, struct abi_tuple *t)
{
	if (sock_local(fd, &t->dst, &t->dst_port))
		close(fd); /* it has gone already */
	else
		serve_edge(k->site, gate, port_of(k, gate), t, fd);
}

void edge_close(struct site *at, uint64_t netns, const struct abi_addr *addr, uint16_t port)
{
	list_each_safe(l, next, &at->edges) {
		struct edge_listener *k = container_of(l, struct edge_listener, link);

		if ((netns && k->is.netns != netns) || (addr && (k->port != port || !addr_equal(&k->addr, addr))))
			continue;
		listener_close(&k->is);
		list_del(&k->link);
		free(k);
	}
}

void edge_listen(struct site *at, uint64_t netns, const struct abi_addr *addr, uint16_t port, int fd)
{
	struct edge_listener *k = mem_alloc(sizeof(*k));

	edge_close(at, netns, addr, port);
	k->is.knows = knows;
	k->is.accepted = accepted;
	k->addr = *addr;
	k->port = port;
	list_add(&at->edges, &k->link);
	listener_open(&k->is, at, netns, fd);
}
