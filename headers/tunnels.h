/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tunnels.h: HBONE connections to other nodes, of one thread, and the streams on them (upstream/tunnels.c).
 *
 * A connection is shared only by streams of one key: never between two source identities, and never by two pods that
 * had one address (the generation of the address in the view is part of the key). One connection is made at a time for
 * a key, whoever waits gets its result; another one is made when streams run out.
 */
#ifndef WEFT_TUNNELS_H
#define WEFT_TUNNELS_H

#include "certs.h"
#include "hbone.h"
#include "socket_pool.h"
#include "view.h"

struct tunnel_key {
	const char *source; /* SPIFFE id of the pod that speaks */
	const char *server; /* SPIFFE id that the other end must show */
	struct abi_addr addr, from;
	uint64_t netns;	     /* the source pod's */
	uint64_t generation; /* of addr in the view */
	uint16_t port;
};

/* Who waits for a stream: embedded by him; `ask` stays his and good until done() or cancel. */
struct tunnel_wait {
	const struct hbone_request *ask;
	/* Once, also from within connect. The stream (its STREAM_OPEN is to come), or NULL and why, a constant. */
	void (*done)(struct tunnel_wait *w, struct stream *s, const char *why);
	bool waiting;
	struct list link;
};

struct tunnels_plan {
	struct certs *certs;
	const struct view *view;
	struct socket_pool *sockets;
};

struct tunnels;
struct tunnels *tunnels_new(struct thread *t, const struct tunnels_plan *plan);
void tunnels_free(struct tunnels *ts); /* closes all */
void tunnels_connect(struct tunnels *ts, const struct tunnel_key *key, struct tunnel_wait *w);
void tunnels_cancel(struct tunnel_wait *w); /* harmless if it does not wait */

/* Something happened: connections that it concerns end, their streams with them. */
void tunnels_view_changed(struct tunnels *ts);		   /* addresses that are somebody else's now */
void tunnels_trust_changed(struct tunnels *ts);		   /* peers that are not to be believed any more */
void tunnels_pod_gone(struct tunnels *ts, uint64_t netns); /* a source */
void tunnels_drain(struct tunnels *ts);			   /* GOAWAY: no new streams */
unsigned tunnels_count(const struct tunnels *ts);	   /* connections */

/* One HBONE connection, of either side: for weftctl tunnels. Texts are cut. */
struct tunnel_row {
	bool client;	   /* ours; else the peer came to us */
	const char *state; /* "connecting", "open", "draining" */
	const char *waits; /* for what: as hbone_view.waits */
	uint64_t netns;	   /* of our pod */
	unsigned thread;
	struct abi_addr local, remote;
	uint16_t local_port, remote_port;
	char identity[CERTS_ID], peer[CERTS_ID];
	char alpn[16], cipher[40], group[32];
	uint32_t streams;
	uint64_t opened, age_ns, rtt_ns, sent, received;
	int64_t send_window, recv_window;
};
void tunnels_each(const struct tunnels *ts, void (*one)(void *ctx, const struct tunnel_row *r), void *ctx);
/* What both sides fill in the same way. */
void tunnel_row_fill(struct tunnel_row *r, const struct thread *t, struct stream *tls, const struct hbone *h);

#endif
