/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbound.c: what the kernel captured from a pod of this node (port 15001): where it wanted to go is in the kernel's
 * record of the connection, which only the kernel writes: whoever dialled the port himself has none.
 */
#include <sys/socket.h>

#include "kernel.h"
#include "parts.h"

static bool is_captured(const struct site *at, const struct view_pod *pod, const struct abi_tuple *t,
			struct abi_conn *ret)
{
	return !kernel_lookup(at->conns, t, ret) && ret->flags & ABI_CONN_CAPTURED && ret->client_netns == pod->netns;
}

/*
 * The kernel sends it to the address of the pod (connect.bpf.c), and who has not chosen his own has the same: so that
 * is asked for first, and getsockname() only where there is no such record. A record that is found is one of this pod,
 * by this port. Who binds one source twice and dials this port at another address gets what his own pod asked for.
 */
static bool find_captured(const struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t,
			  struct abi_conn *ret)
{
	t->dst = t->src;
	t->dst_port = ABI_PORT_OUTBOUND;
	if (is_captured(at, pod, t, ret))
		return true;
	return !sock_local(fd, &t->dst, &t->dst_port) && is_captured(at, pod, t, ret);
}

/* Who has reset it by now took the kernel's record along: he was after no port of ours. */
static bool is_reset(int fd)
{
	socklen_t len = sizeof(int);
	int error = 0;

	return !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) && error;
}

void outbound_accept(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	const struct view_service *s;
	const struct view_peer *peer;
	const struct view_pod *to;
	struct dial_plan plan;
	enum abi_reason reason;
	struct abi_conn c;
	struct relay *r;

	if (!find_captured(at, pod, fd, t, &c)) {
		if (is_reset(fd))
			relay_refuse(at, fd, ABI_RESET, t, "before it was taken");
		else
			relay_refuse(at, fd, ABI_OWN_PORT, t, "nothing was captured");
		return;
	}
	s = c.service ? view_service(at->view, c.service) : NULL;
	if (s && serve_wants(s)) {
		serve_begin(at, pod, s, &c, t, fd);
		return;
	}
	peer = view_peer(at->view, &c.target);
	if (peer && peer->kind == ABI_KIND_VIP) { /* it had routes when it was captured */
		relay_refuse(at, fd, ABI_NO_ENDPOINT, t, NULL);
		return;
	}
	plan = (struct dial_plan){.client = t->src,
				  .client_port = t->src_port,
				  .server = c.target,
				  .server_port = c.target_port,
				  .own.service = c.service,
				  .place = shares_pod(pod->netns)};
	reason = dial_choose(&at->dialer, pod, &plan, &to);
	r = relay_captured(at, pod->netns, t, sock_prepared(at->thread, fd), &plan);
	r->to = to ? to->netns : 0;
	r->policy = to ? to->policy : 0;
	r->guarded = reason == ABI_NEEDS_WORKER;
	if (reason && !r->guarded)
		relay_close(r, reason, NULL);
	else
		relay_dial(r, &plan);
}
