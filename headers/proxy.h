/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.h: the data plane of the worker (proxy/proxy.c): what comes to a pod's listeners goes where it wanted to.
 *
 *	15001	what the kernel captured: to another node by a tunnel, to a pod of this node, or on as it is
 *	15006	plaintext that the kernel assigned to us: to the app
 *	15008	HBONE of other nodes: to the app
 *
 * And what comes to the node's own listeners of Gateways: by the routes of these.
 *
 * Functions are the control thread's. They hand work to the threads and return.
 */
#ifndef WEFT_PROXY_H
#define WEFT_PROXY_H

#include "tunnels.h"

struct proxy_plan {
	struct loop *loop; /* of the control thread */
	struct view *view;
	struct certs *certs; /* NULL: nobody has a certificate: no tunnels */
	int conns, own, affinity; /* fds of the kernel's maps */
	unsigned threads;
	void (*sockets)(void *ctx, struct socket_order *o); /* see socket_pool.h */
	void *ctx;
};

struct proxy;
/* Starts the threads; one proxy in a process. 0 or -errno */
int proxy_open(struct proxy **ret, const struct proxy_plan *plan) must_check;
void proxy_close(struct proxy *p); /* cuts what there is, ends the threads */
/* Listeners of a pod, three for each thread beginning with `first` (taken): instead of what they had. */
void proxy_listen(struct proxy *p, uint64_t netns, unsigned first, const int *fds, unsigned nfds);
void proxy_each_listener(const struct proxy *p,
			 void (*each)(void *to, uint64_t netns, unsigned thread, const int fd[3]), void *to);
/*
 * Listeners of a Gateway (WIRE_GATEWAY, the number of its view_pod), one for each thread beginning with `first`
 * (taken); and all of that address and port closed again: connections go on.
 */
void proxy_edge_listen(struct proxy *p, uint64_t netns, const struct abi_addr *addr, uint16_t port, unsigned first,
		       const int *fds, unsigned nfds);
void proxy_edge_close(struct proxy *p, uint64_t netns, const struct abi_addr *addr, uint16_t port);
void proxy_each_edge(const struct proxy *p,
		     void (*each)(void *to, const struct abi_addr *addr, uint16_t port, unsigned thread, int fd),
		     void *to);
/* The pod is gone: everything of it ends. Then done(ctx, netns): no thread holds anything of its netns. */
void proxy_leave(struct proxy *p, uint64_t netns, void (*done)(void *ctx, uint64_t netns), void *ctx);
/* view_update() said so: connections that are now forbidden end, tunnels to who is gone too. */
void proxy_view_changed(struct proxy *p, unsigned changed);
void proxy_trust_changed(struct proxy *p);
/* No new connections; GOAWAY; done(ctx) when the last one has ended or after_ns have passed: then the rest is cut. */
void proxy_drain(struct proxy *p, uint64_t after_ns, void (*done)(void *ctx), void *ctx);

enum relay_kind {		/* who made the connection, and where it goes */
		  RELAY_TUNNEL, /* our pod, to another node */
		  RELAY_LOCAL,	/* our pod, to a pod of this node */
		  RELAY_PASS,	/* our pod, to what is not in the mesh */
		  RELAY_HBONE,	/* another node, to our pod */
		  RELAY_PLAIN,	/* from outside by plain TCP, to our pod */
		  RELAY_HTTP,	/* our pod, to a Service; each request goes where its route says */
};

struct relay_row {
	enum relay_kind kind;
	bool open; /* both sides stand */
	unsigned thread;
	uint64_t netns; /* of our pod */
	/* the app's own connection with us, as the kernel has it in `conns` */
	struct abi_tuple tuple;
	struct abi_addr client, server; /* the real ends */
	uint16_t client_port, server_port;
	uint32_t service;
	uint64_t sent, received; /* client to server, and back; of HTTP: of bodies */
	uint64_t requests;	 /* RELAY_HTTP, and what is judged */
	bool judged;		 /* each request, by the policy of the pod that it goes to */
	uint64_t denied;	 /* requests */
	uint64_t opened_ns;
	const char *waits; /* constant */
	char peer[CERTS_ID];
};

/*
 * What the threads have now; free(*ret). Waits for them, PROXY_GATHER_NS at most: -ETIMEDOUT if one did not answer.
 */
#define PROXY_GATHER_NS 1000000000ull
int proxy_relays(struct proxy *p, struct relay_row **ret, unsigned *ret_count) must_check;
int proxy_tunnels(struct proxy *p, struct tunnel_row **ret, unsigned *ret_count) must_check;

struct proxy_stats { /* of one thread */
	unsigned thread;
	unsigned relays, tunnels, spare_sockets;
	unsigned resting; /* of the relays: HTTP/1.1 that has nothing to do, kept small */
	unsigned http_connections; /* to endpoints */
	uint64_t accepted, refused, requests;
	size_t buffered; /* bytes of its buffers in use */
};
int proxy_stats(struct proxy *p, struct proxy_stats **ret, unsigned *ret_count) must_check; /* free(*ret) */
/* How often the threads ended or refused a connection for each reason, since the start. Reads only. */
void proxy_reasons(const struct proxy *p, uint64_t ret[ABI_REASON_MAX]);

#endif
