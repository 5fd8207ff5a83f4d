/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dial.h: a connection to an endpoint, whatever way it takes (upstream/dial.c): a tunnel to another node, a socket in
 * the netns of a pod of this node toward its app, or one toward what is not in the mesh.
 *
 *	dial_choose(d, from, &plan)	the way
 *	dial_begin(d, &plan, &wait)	--> wait.done(stream that is open, or why not)
 */
#ifndef WEFT_DIAL_H
#define WEFT_DIAL_H

#include "tunnels.h"

/* What one thread dials with. */
struct dialer {
	struct thread *thread;
	const struct view *view;
	struct socket_pool *sockets;
	struct tunnels *tunnels;
	int own; /* fd of the kernel's map */
	struct random random; /* for what need not be a secret */
};

enum dial_kind {
	DIAL_OUT,    /* plain, from the netns of a pod */
	DIAL_APP,    /* to the app of a pod of this node, which sees `client` */
	DIAL_TUNNEL, /* a CONNECT to the node of a pod */
};

struct dial_plan {
	enum dial_kind kind;
	uint64_t netns; /* of the pod that speaks; DIAL_APP: of the one that is spoken to */
	struct abi_addr client, server;
	uint16_t client_port, server_port;
	struct abi_own own; /* DIAL_APP: what the kernel shall show of it */
	uint32_t place;	    /* shares.h: that it is for; 0: nobody asks */
};

struct dial;
/* Who waits for a connection: embedded by him, zeroed. */
struct dial_wait {
	/* Once, also from within dial_begin(). s: STREAM_OPEN, his now; NULL: `reason` and why, a constant. */
	void (*done)(struct dial_wait *w, struct stream *s, enum abi_reason reason, const char *why);
	struct dial *dial; /* under way; else NULL */
};

/*
 * How a pod of this node reaches plan->server as plan->client: sets the kind, the netns, and who asks in `own`. A pod
 * of this node is asked for its policy here, and *ret_to is it, else NULL. ABI_NONE, or why not.
 */
enum abi_reason dial_choose(const struct dialer *d, const struct view_pod *from, struct dial_plan *plan,
			    const struct view_pod **ret_to) must_check;
void dial_begin(struct dialer *d, const struct dial_plan *plan, struct dial_wait *w);
void dial_cancel(struct dial_wait *w); /* harmless if nothing is under way */
/* Of a failure: others who ask would fail, too. Not what weft does not have, nor what a policy says of who asks. */
bool dial_blames(enum abi_reason reason, const char *why) must_check;

/* `baggage` of a pod, as facts/ambient.md 2.2 has it; cut where it does not fit. */
#define DIAL_BAGGAGE 320
void dial_baggage(const struct view_pod *pod, char buf[DIAL_BAGGAGE]);

#endif
