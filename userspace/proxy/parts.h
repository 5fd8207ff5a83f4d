/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h: what the files of this room ask of each other, bottom up. All of it belongs to one thread. */
#ifndef WEFT_PROXY_PARTS_H
#define WEFT_PROXY_PARTS_H

#include "dial.h"
#include "proxy.h"

/* Everything that one thread serves: thread.proxy. */
struct site {
	struct thread *thread;
	const struct view *view;
	struct certs *certs;
	int conns; /* fd of the kernel's map */
	struct dialer dialer;
	struct table guests;	/* struct guest */
	struct list relays;	/* struct relay */
	struct list carriers;	/* struct carrier: open ones */
	struct list handshakes; /* and those that are not, oldest first */
	unsigned relay_count, carrier_count, handshake_count;
	bool draining;
	struct loop_timer resume; /* listeners rest: no file descriptors */
	/* written here, read by the control thread */
	uint64_t accepted, refused;
	uint64_t reasons[ABI_REASON_MAX];
};

/* ------------------------------------------------------------------ relay.c */

enum relay_end { RELAY_CLIENT,
		 RELAY_SERVER };
enum relay_state {
	RELAY_DIALS, /* the server's side does not stand yet; nothing is read from the client */
	RELAY_OPEN,
	RELAY_CLOSED, /* freed at the end of the turn */
};

/* Who is at the other end of a carrier: relays may outlive it, to be read to their end. */
struct peer {
	unsigned holders;
	char spiffe[];
};
struct peer *peer_new(const char *spiffe);
void peer_drop(struct peer *p); /* harmless if NULL */

/* Two streams, and what goes from one to the other. An idle one costs this struct and those of its streams. */
struct relay {
	struct site *site;
	struct stream *side[2]; /* by enum relay_end; NULL: not there (any more) */
	struct dial_wait dial;
	struct peer *peer; /* RELAY_HBONE: who asks */
	enum relay_kind kind;
	enum relay_state state;
	struct loop_task again; /* stopped for others' sake, or is to be freed */
	uint64_t bytes[2];	/* that came from this side and were taken by the other */
	uint64_t opened_ns;
	uint64_t netns;	 /* of the pod whose listener it came to */
	uint64_t to;	 /* of the pod of this node that it goes to; 0: none */
	uint32_t policy; /* of that pod, when it was asked last */
	uint32_t service;
	struct abi_tuple tuple; /* of the client's socket; not of a CONNECT */
	struct abi_addr client, server;
	uint16_t client_port, server_port;
	struct list link;
};

struct relay *relay_new(struct site *at, enum relay_kind kind, struct stream *client);
/* A server's side: also from within it ends, if there is none. */
void relay_dial(struct relay *r, const struct dial_plan *plan);
/*
 * The one door out: RELAY_CLOSED. ABI_NONE: in order. Else at once and visibly, by RST; `why` (a constant) is for the
 * log. A CONNECT that was not answered yet is answered.
 */
void relay_close(struct relay *r, enum abi_reason reason, const char *why);
/* What has no relay yet is refused: RST, counted, logged. Takes the fd. */
void relay_refuse(struct site *at, int fd, enum abi_reason reason, const struct abi_tuple *t, const char *why);
void relay_count_reason(struct site *at, enum abi_reason reason);
/* The policy of who it goes to may have changed: it ends if that forbids it now. */
void relay_judge(struct relay *r);
void relay_row(const struct relay *r, struct relay_row *ret);
const char *relay_kind_name(enum relay_kind kind);

/* ------------------------------------------------------------------ outbound.c, inbound.c */

/* Something has come to a listener of this pod; the fd is taken. `t` has the source. */
void outbound_accept(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t);
void inbound_plain(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t);
void inbound_hbone(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t);
void carriers_end(struct site *at, uint64_t netns, const char *why); /* of this pod; 0: of all */
void carriers_view_changed(struct site *at);			     /* of pods that are somebody else now */
void carriers_trust_changed(struct site *at);
void carriers_drain(struct site *at);
void carriers_each(const struct site *at, void (*one)(void *ctx, const struct tunnel_row *r), void *ctx);

/* ------------------------------------------------------------------ guests.c */


/* Listeners of a pod (taken): instead of those it had. */
void guests_listen(struct site *at, uint64_t netns, const int fd[WIRE_LISTENERS]);
void guests_view_changed(struct site *at);	    /* pods that it did not know may be there */
void guests_leave(struct site *at, uint64_t netns); /* 0: all */

#endif
