/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h: the rooms of the worker's main program: its socket to the supervisor (proc/worker_link.c), the
 * listeners in pods (proc/worker_pods.c) and the node's addresses (proc/worker_addresses.c). proc/worker.c puts
 * them together.
 */
#ifndef WEFT_WORKER_H
#define WEFT_WORKER_H

#include "loop.h"
#include "wire.h"

/* ------------------------------------------------------------------ proc/worker_link.c */

/* Sends in order; what the socket does not take waits in memory, small, until it does. */
struct link;
struct link_plan {
	struct loop *loop;
	int sock; /* taken; made non-blocking */
	/* one message; takes the fds */
	void (*got)(void *ctx, const struct wire *m, int *fds, unsigned nfds);
	/* all that was there has been given to `got` */
	void (*turn)(void *ctx);
	/* the supervisor closed (0), or the socket failed */
	void (*gone)(void *ctx, int error);
	void *ctx;
};
int worker_link_open(struct link **ret, const struct link_plan *plan) must_check;
void worker_link_close(struct link *l);
/* A message without a body, or with pod.netns alone (netns not 0). `text` may be NULL. */
void worker_link_send(struct link *l, enum wire_type type, uint32_t seq, int number, uint64_t netns,
		      const char *text);
/* Asks for sockets: WIRE_SOCKETS with that seq comes to got(). */
void worker_link_sockets(struct link *l, uint32_t seq, const struct wire_sockets *w);
/* Asks for certificate files: WIRE_CERTS with that seq comes to got(). The fds are taken: as many as names, or none. */
void worker_link_files(struct link *l, uint32_t seq, const struct wire_files *f, const int *fds, unsigned nfds);
/* Connections to end: `item` is copied. They go before whatever waits: time counts. */
void worker_link_destroy(struct link *l, const struct wire_destroy *item, unsigned count);

/* ------------------------------------------------------------------ proc/worker_pods.c */

/*
 * Listeners 15001, 15006 and 15008 of the pods. This version does not proxy, so that nothing is sent there by the
 * kernel: who connects by himself is reset at once, and the pod is named in the log, once.
 */
struct worker_pods;
struct worker_pods *worker_pods_new(struct loop *loop);
void worker_pods_free(struct worker_pods *p);
/* WIRE_POD_FDS: listeners of a pod (taken). */
void worker_pods_listen(struct worker_pods *p, const struct wire *m, const int *fds, unsigned nfds);
void worker_pods_leave(struct worker_pods *p, uint64_t netns); /* harmless if there are none */

/* ------------------------------------------------------------------ proc/worker_addresses.c */

/* Addresses of the netns we are in that say who it is: not loopback, not link-local. free(*ret). 0 or -errno */
int worker_addresses_read(struct abi_addr **ret, unsigned *ret_count) must_check;
/* An fd that is readable when they may have changed (close it), or -errno. */
int worker_addresses_watch(void) must_check;
void worker_addresses_changed(int fd); /* it was readable: empties it */

#endif
