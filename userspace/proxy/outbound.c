/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbound.c: what the kernel captured from a pod of this node (port 15001): where it wanted to go is in the kernel's
 * record of the connection, which only the kernel writes: whoever dialled the port himself has none.
 */
#include <unistd.h>

#include "kernel.h"
#include "parts.h"

static const enum relay_kind kinds[] = {
	[DIAL_OUT] = RELAY_PASS, [DIAL_APP] = RELAY_LOCAL, [DIAL_TUNNEL] = RELAY_TUNNEL};

void outbound_accept(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	struct dial_plan plan;
	const struct view_pod *to;
	enum abi_reason reason;
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
	plan = (struct dial_plan){.client = t->src,
				  .client_port = t->src_port,
				  .server = c.target,
				  .server_port = c.target_port,
				  .own.service = c.service};
	reason = dial_choose(&at->dialer, pod, &plan, &to);
	r = relay_new(at, kinds[plan.kind], sock_prepared(at->thread, fd));
	r->tuple = *t;
	r->netns = pod->netns;
	r->service = c.service;
	r->client = plan.client;
	r->client_port = plan.client_port;
	r->server = plan.server;
	r->server_port = plan.server_port;
	r->to = to ? to->netns : 0;
	r->policy = to ? to->policy : 0;
	if (reason)
		relay_close(r, reason, NULL);
	else
		relay_dial(r, &plan);
}
