/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket_pool.h: unconnected sockets in the netns of pods, of one thread (upstream/socket_pool.c).
 *
 *	thread: take() --order--> control thread --WIRE_SOCKETS--> supervisor --fds--> answer() --> thread: got()
 *
 * A pod at rest has none. Who takes often has a stock, which grows while it does not last (POOL_STOCK at most) and is
 * ordered again when half of it is left, in several batches where one is too small. It shrinks where less is taken, and
 * is closed when nobody took any for POOL_IDLE_NS.
 */
#ifndef WEFT_SOCKET_POOL_H
#define WEFT_SOCKET_POOL_H

#include "thread.h"
#include "wire.h"

#define POOL_IDLE_NS 5000000000ull
#define POOL_STOCK (4 * WIRE_SOCKET_BATCH) /* of one pod, kind and family */

/* Sockets that a thread wants. The control thread answers each, once, with socket_pool_answer(). */
struct socket_order {
	uint64_t netns;
	enum wire_socket kind;
	bool ipv6;
	unsigned count; /* wanted; then: that are there */
	int fd[WIRE_SOCKET_BATCH];
	int error; /* 0, or -errno: none is there */
	/* inside */
	unsigned asked;
	struct thread_job job;
	struct socket_pool *pool;
	struct thread *thread;
	struct list link; /* the control thread's */
	uint32_t seq;	  /* the control thread's */
};
void socket_pool_answer(struct socket_order *o, int error, const int *fds, unsigned nfds); /* takes o and the fds */

struct socket_pool_plan {
	struct thread *control;
	void (*ask)(void *ctx, struct socket_order *o); /* in the control thread; takes o */
	void *ctx;
};

/* Who waits for a socket: embedded by him, zeroed. */
struct socket_wait {
	/* fd is his, or -errno. Called once; also from within take(). */
	void (*got)(struct socket_wait *w, int fd);
	bool waiting;
	struct list link;
};

struct socket_pool *socket_pool_new(struct thread *t, const struct socket_pool_plan *plan);
void socket_pool_free(struct socket_pool *p); /* nobody waits any more */
/* An AF_INET6 socket is not for IPv4 destinations. */
void socket_pool_take(struct socket_pool *p, uint64_t netns, enum wire_socket kind, bool ipv6, struct socket_wait *w);
void socket_pool_cancel(struct socket_wait *w); /* harmless if it does not wait */
/* The pod is gone: its sockets are closed, and who waits gets -ENOENT. */
void socket_pool_leave(struct socket_pool *p, uint64_t netns);
/* What people read of an error that `got` was given: SOCK_RESOURCES, if the lack is ours. */
const char *socket_pool_why(int error) must_check;
/* One of these bound to an address; the port is chosen by connect(): so that many connections share one. 0 or -errno */
int socket_pool_bind(int fd, const struct abi_addr *addr) must_check;
unsigned socket_pool_spare(const struct socket_pool *p); /* sockets that wait for use */

#endif
