/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h: the rooms of the worker's main program: the process (proc/worker_process.c), its socket to the supervisor
 * (proc/worker_link.c), what is wrong (proc/worker_told.c), the threads of the data plane (proc/worker_proxy.c) and the
 * node's addresses (proc/worker_addresses.c). proc/worker.c puts them together.
 */
#ifndef WEFT_WORKER_H
#define WEFT_WORKER_H

#include "loop.h"
#include "proxy.h"
#include "report.h"
#include "wire.h"

/* ------------------------------------------------------------------ proc/worker_process.c */

/* The command line: opens the log; ends the process at --version. 0, or -EINVAL (printed) if weftd did not start us */
int worker_options(int argc, char **argv, int sock) must_check;
/* An fd that is readable when SIGHUP, SIGTERM or SIGINT came (blocked from now on, for threads too), or -errno. */
int worker_signals(void) must_check;

/* ------------------------------------------------------------------ proc/worker_confine.c */

/*
 * From now on, for this thread and those to come: no core, no file but beneath these folders (the first is read only),
 * and of the system calls only those that a worker needs. Libraries that read files of the system do it in here,
 * before. 0 or -errno (logged).
 */
int worker_confine(int manifests, int state) must_check;

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
	/* over for good: the supervisor closed (0) or the socket failed before worker_link_stay(), or as that says */
	void (*gone)(void *ctx, int error);
	/* the supervisor is gone, another may come: what is sent until then is lost, what was asked has no answer */
	void (*lost)(void *ctx);
	/* another is there, with these settings: ask it again */
	void (*back)(void *ctx, const struct wire_start *start);
	/* it wants the pods' listeners: call each() with those of every thread of every pod (borrowed) */
	void (*listeners)(void *ctx, void (*each)(void *to, uint64_t netns, unsigned thread, const int fd[3]),
			  void *to);
	void *ctx;
};
int worker_link_open(struct link **ret, const struct link_plan *plan) must_check;
void worker_link_close(struct link *l);
/*
 * From now on the loss of the supervisor is not the end: the next one comes by fd[WIRE_FD_RESUME], with a start that is
 * the same as this (WIRE_RESUME). After 10 minutes without one, or if it wants another start: gone(ctx, 0). The fds of
 * WIRE_START are borrowed.
 */
int worker_link_stay(struct link *l, const int *fd, const struct wire_start *start) must_check;
/* A message without a body, or with pod.netns alone (netns not 0). `text` may be NULL. */
void worker_link_send(struct link *l, enum wire_type type, uint32_t seq, int number, uint64_t netns,
		      const char *text);
/* Asks for sockets: WIRE_SOCKETS with that seq comes to got(). */
void worker_link_sockets(struct link *l, uint32_t seq, const struct wire_sockets *w);
/* Asks for certificate files: WIRE_CERTS with that seq comes to got(). The fds are taken: as many as names, or none. */
void worker_link_files(struct link *l, uint32_t seq, const struct wire_files *f, const int *fds, unsigned nfds);
/* WIRE_EDGE_OPEN, whose answer comes to got(), or WIRE_EDGE_CLOSE. The fds are borrowed: copies of them go. */
void worker_link_edge(struct link *l, enum wire_type type, uint32_t seq, const struct wire_edge *e, const int *fds,
		      unsigned nfds);
/* Records that no socket backs: WIRE_SWEPT comes to got(). Copied. */
void worker_link_stale(struct link *l, const struct wire_stale *s);
/* Connections to end: `item` is copied. They go before whatever waits: time counts. */
void worker_link_destroy(struct link *l, const struct wire_destroy *item, unsigned count);

/* ------------------------------------------------------------------ proc/worker_gateway.c */

/* What Gateways need of the process: certificates, sockets. */
struct worker_gateway;
struct worker_gateway_plan {
	struct loop *loop;
	struct link *link;
	struct world *world;
	struct proxy *proxy;
	unsigned threads;
};
struct worker_gateway *worker_gateway_open(const struct worker_gateway_plan *plan) must_check;
/* After world_update(), before view_update(): certificates of the plans that are new. */
void worker_gateway_tls(struct worker_gateway *w, struct world *world);
void worker_gateway_update(struct worker_gateway *w); /* after view_update(): sockets */
/* WIRE_EDGE_OPEN: the fds are taken. true: a socket's state is another one now. */
bool worker_gateway_got(struct worker_gateway *w, const struct wire *m, const int *fds, unsigned nfds);
void worker_gateway_back(struct worker_gateway *w); /* another supervisor is there: it gets what is open */

/* ------------------------------------------------------------------ proc/worker_told.c */

/* What is wrong, said once in the log while it is wrong. Zeroed: nothing was said. */
struct worker_told {
	struct table said;
	unsigned round;
};
/* `key`: what makes it the same problem; lines move while files are edited. */
void worker_told_say(struct worker_told *t, enum log_level level, const char *key, const char *text);
/* Around saying all that is wrong now: what is not said in between is forgotten. */
void worker_told_begin(struct worker_told *t);
void worker_told_end(struct worker_told *t);

/* ------------------------------------------------------------------ proc/worker_forbidden.c */

/*
 * A handshake that was under way when the policy changed leaves no socket to end until it is over, and the peer
 * decides when: with TCP_DEFER_ACCEPT when it first speaks. So it looks again, less and less often; then at each sweep.
 */
struct worker_forbidden { /* loop, link and report are set by the owner */
	struct loop *loop;
	struct link *link;
	struct report *report;
	struct loop_timer straggler;
	uint64_t straggler_ns; /* until the next look */
};
void worker_forbidden_switched(struct worker_forbidden *f); /* the kernel decides by another policy now */
/* Ends what is forbidden: connections. `both` ends: of what should have gone by now. */
unsigned worker_forbidden_end(struct worker_forbidden *f, bool both);

/* ------------------------------------------------------------------ proc/worker_stale.c */

/* Tells the supervisor of records that no socket backs: the worker may only read `conns`. */
void worker_stale_look(struct link *l, const struct report *r, struct worker_told *told);
/* WIRE_SWEPT has come: as many are gone. true: there may be more than it was told of, or it had no time: look soon. */
bool worker_stale_swept(struct report *r, struct worker_told *told, int number) must_check;

/* ------------------------------------------------------------------ proc/worker_proxy.c */

struct worker_proxy_plan {
	struct loop *loop;
	struct link *link;
	const int *fd; /* as they came with WIRE_START */
	struct view *view;
	struct certs *certs;
	unsigned threads;
};
struct worker_proxy;
/* Starts the threads, and tells the supervisor that it goes on until worker_proxy_serve(). 0 or -errno */
int worker_proxy_open(struct worker_proxy **ret, const struct worker_proxy_plan *plan) must_check;
struct proxy *worker_proxy(struct worker_proxy *p);
/* The first world is in the kernel and in the view: tells the kernel, now and 4 times a second, that we are there. */
void worker_proxy_serve(struct worker_proxy *p);
/* WIRE_POD_FDS has come (the fds are taken); number -EMFILE: without them. */
void worker_proxy_listen(struct worker_proxy *p, const struct wire *m, const int *fds, unsigned nfds);
/* The listeners of that pod did not come, and `why` (256 bytes, or NULL) says so: that is forgotten from here on. */
bool worker_proxy_deaf(struct worker_proxy *p, uint64_t netns, char *why);
/* WIRE_SOCKETS has come (the fds are taken). */
void worker_proxy_sockets(struct worker_proxy *p, const struct wire *m, const int *fds, unsigned nfds);
void worker_proxy_back(struct worker_proxy *p); /* another supervisor: asks it what the last one did not answer */

/* ------------------------------------------------------------------ proc/worker_addresses.c */

/* Addresses of the netns we are in that say who it is: not loopback, not link-local. */
struct worker_addresses { /* zeroed: not watched */
	struct loop_watch watch;
	void (*changed)(void *ctx);
	void *ctx;
};
/* changed() is called when they may have changed. What fails is in the log: weft goes on by what it knows. */
void worker_addresses_watch(struct worker_addresses *a, struct loop *loop, void (*changed)(void *ctx), void *ctx);
void worker_addresses_tell(struct world *w); /* reads them */

#endif
