/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_pool.h: HTTP connections to endpoints, of one thread (upstream/http_pool.c).
 *
 * A connection is shared only by requests of one key: never between two pods that speak, nor by two that had one
 * address. HTTP/1: a connection carries one request at a time, and the one that was used last is used next (its
 * congestion window is open). HTTP/2: as many as the peer allows. Who is idle for a minute is closed, and so is who
 * says something unasked.
 *
 * Where view_allows() says NEEDS_WORKER of the endpoint, whoever takes a connection has asked view_allows_request().
 *
 * Connections end with what they stand for: a pod that has gone cuts them; where somebody has become another, or the
 * worker drains, those with requests go on until these are done. A request under way keeps what it has.
 */
#ifndef WEFT_HTTP_POOL_H
#define WEFT_HTTP_POOL_H

#include "dial.h"
#include "http.h"

#define HTTP_POOL_CONNECTIONS 1024 /* of one key */
#define HTTP_POOL_WAITING 1024	   /* requests that wait for one of these */
#define HTTP_POOL_IDLE_NS 60000000000ull

struct http_pool_group;
struct http_pool_key {
	uint64_t netns; /* of the pod that speaks */
	uint64_t generation; /* of `server` in the view; 0: it is not in the mesh */
	struct abi_addr client, server;
	uint32_t identity; /* number of the pod's, which may change */
	uint32_t service;  /* that the kernel shall show */
	uint16_t port, client_port; /* the latter is for people, no part of the key */
	enum http_version version;  /* HTTP_1_1 or HTTP_2 */
};

/* Who waits for a connection: embedded by him, zeroed. */
struct http_pool_wait {
	/*
	 * Once, also from within take(). He calls http_request() at once; what he does not use stays in the pool.
	 * `fresh`: nobody used it before. NULL: `reason` and why, a constant.
	 */
	void (*done)(struct http_pool_wait *w, struct http_connection *c, bool fresh, enum abi_reason reason,
		     const char *why);
	bool settled; /* asked: it takes only a connection of which it is known what it can do */
	bool modest; /* asked: no connection is made for it; there is one that is free, or ABI_OVERLOADED */
	bool waiting;
	struct http_pool_group *group;
	struct list link;
};

struct http_pool_plan {
	struct dialer *dialer;
	void (*answer)(struct http_exchange *x, const struct http_head *h); /* http_events.answer */
};

struct http_pool;
struct http_pool *http_pool_new(const struct http_pool_plan *plan);
void http_pool_free(struct http_pool *p); /* closes all; nobody waits any more */
void http_pool_take(struct http_pool *p, const struct http_pool_key *key, struct http_pool_wait *w);
/*
 * A connection of this key that somebody has dialled (as conn_new() would have) and on which nothing was said: it is
 * taken. `to`, `policy`: of the pod of this node that it goes to, as dial_choose() said it; 0: none.
 */
void http_pool_give(struct http_pool *p, const struct http_pool_key *key, struct stream *s, uint64_t to,
		    uint32_t policy);
void http_pool_cancel(struct http_pool_wait *w); /* harmless if he does not wait */

void http_pool_pod_gone(struct http_pool *p, uint64_t netns); /* at either end */
void http_pool_view_changed(struct http_pool *p);
void http_pool_drain(struct http_pool *p); /* for ever: what comes yet gets a connection that ends behind it */
unsigned http_pool_count(const struct http_pool *p); /* connections */

#endif
