/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbound.c: what the kernel captured from a pod of this node (port 15001): where it wanted to go is in the kernel's
 * record of the connection, which only the kernel writes: whoever dialled the port himself has none.
 */
#include <unistd.h>

#include "kernel.h"
#include "parts.h"

/* A pod of this node that wants the worker: its policy is asked here, as it is for what comes from other nodes. */
static void go_local(struct relay *r, const struct view_pod *from, const struct view_peer *peer,
		     const struct abi_conn *c)
{
	const struct abi_own own = {.source = from->identity, .service = c->service, .path = ABI_PATH_PROXY};
	const struct view_pod *to = view_pod(r->site->view, peer->netns);
	enum abi_reason reason;

	if (!to) {
		relay_close(r, ABI_POD_GONE, NULL);
		return;
	}
	r->kind = RELAY_LOCAL;
	r->to = to->netns;
	r->policy = to->policy;
	reason = view_allows(to, from->spiffe, &r->client, r->server_port);
	if (reason)
		relay_close(r, reason, NULL);
	else
		dial_app(r, &own);
}

void outbound_accept(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	const struct view_peer *to;
	struct abi_conn c;
	struct relay *r;

	if (sock_local(fd, &t->dst, &t->dst_port)) {
		close(fd); /* it has gone already */
		return;
	}
	if (kernel_lookup(at->conns, t, &c) || !(c.flags & ABI_CONN_CAPTURED) || c.client_netns != pod->netns) {
		relay_refuse(at, fd, ABI_OWN_PORT, t, "nothing was captured");
		return;
	}
	to = view_peer(at->view, &c.target);
	r = relay_new(at, RELAY_PASS, sock_prepared(at->thread, fd));
	r->tuple = *t;
	r->netns = pod->netns;
	r->service = c.service;
	r->client = t->src;
	r->client_port = t->src_port;
	r->server = c.target;
	r->server_port = c.target_port;
	if (to && to->kind == ABI_KIND_LOCAL_POD) {
		go_local(r, pod, to, &c);
	} else if (to && to->mesh) {
		r->kind = RELAY_TUNNEL;
		dial_tunnel(r, pod, to);
	} else {
		dial_out(r);
	}
}
