/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h: what the data threads see of the world (mesh/view.c): whose address is it, and what is a pod of this node.
 *
 *	control thread:  world_update(w); view_gather(v, w); publish_switch(p); view_update(v, w);
 *	data threads:    view_peer(v, &addr), view_pod(v, netns)
 *
 * Entries are immutable; a change replaces them (RCU, liburcu QSBR). What a data thread looked up stays good until its
 * turn of the loop ends, and no longer: keep the generation, or copy. A change costs what it touches.
 */
#ifndef WEFT_VIEW_H
#define WEFT_VIEW_H

#include "protocol.h"
#include "route.h"
#include "world.h"

#define VIEW_ID 512 /* longest SPIFFE URI with its NUL, as CERTS_ID */

struct view;

struct view_peer {
	struct abi_addr addr;
	uint64_t generation; /* never 0; another one when somebody else has the address, or is somebody else */
	enum abi_kind kind;
	bool mesh;	    /* REMOTE_POD: speaks HBONE */
	uint64_t netns;	    /* LOCAL_POD */
	const char *spiffe; /* pods: "spiffe://TD/ns/NS/sa/SA"; else "" */
	const char *pod;    /* "shop/web-1"; else "" */
	const char *node;   /* of a pod, where its object says so; else "" */
};

struct view_pod { /* enrolled here, and in the kernel */
	uint64_t netns;
	uint32_t number, identity;
	uint32_t policy; /* number of the set: another one after each change that may matter */
	const char *spiffe, *name, *namespace, *trust_domain;
	const struct policy_set *set;
	const struct abi_addr *addr;
	unsigned addrs;
	/* No pod, but a Gateway that asks as one does (netns & WIRE_GATEWAY): no set, no addresses; else NULL. */
	const struct gateway *gateway;
};

/*
 * Of one endpoint on this node, exact across threads: all services and generations that have the endpoint share it.
 * Whoever has raised `active` may keep the pointer until he has lowered it; it is freed when it is 0 and no service
 * has the endpoint.
 */
struct view_load {
	_Alignas(64) uint32_t active; /* requests that are under way: atomic, lowered with memory_order_release */
};
struct view_endpoint {
	struct abi_addr addr;
	uint16_t port;
	uint16_t weight;
	uint64_t upto; /* weights of it and of those before it */
	struct view_load *load;
};

/* A port of a Service that weft looks into: it has routes, or is a backend of one, or wants the worker. */
struct view_service {
	uint32_t number; /* as in the kernel's rows, of its first address; 0: it has no address of its own */
	const char *namespace, *name;
	uint16_t port;
	enum view_protocol protocol; /* docs/services.md has the table */
	const struct route_table *routes; /* NULL: none are attached */
	bool wanted; /* weft.io/proxy: always. Neither this nor routes: a backend, whose bytes go as they are */
	const struct view_endpoint *endpoint; /* ready ones, as the kernel has them: IPv4 first, then IPv6 */
	unsigned endpoints;
	bool even; /* all of them have one weight */
	uint32_t affinity_seconds; /* sessionAffinity: ClientIP; 0: none */
	uint64_t stall_ns; /* of a request whose bytes nobody takes; 0: for ever */
};

struct view *view_new(void);
void view_free(struct view *v); /* nobody reads any more */

/* -------- control thread, which must be an RCU thread as well */

/*
 * What of the world changed since the last time: before publish_switch(), which takes note of it as done. Services are
 * taken in at once: no connection is captured for one that the threads do not know. Those that are gone leave in
 * view_update(), which waits for the data threads then: who has found a route in this turn finds its backend.
 */
void view_gather(struct view *v, const struct world *w);
/* VIEW_* bits of what is different now: the threads must look at what they have opened. */
#define VIEW_PEERS 1u /* some generation */
#define VIEW_POLICY 2u
#define VIEW_SERVICES 4u /* a view_service */
unsigned view_update(struct view *v, const struct world *w);

/* -------- data threads */

const struct view_peer *view_peer(const struct view *v, const struct abi_addr *addr); /* NULL: not in the mesh */
const struct view_pod *view_pod(const struct view *v, uint64_t netns);
/* By abi_conn.service, any of its numbers; NULL: weft does not look into it, or it is gone. */
const struct view_service *view_service(const struct view *v, uint32_t number);
const struct view_service *view_backend(const struct view *v, const struct route_target *t); /* NULL: gone */
/*
 * What the kernel would decide, by the same code, also for identities that it never heard of. `spiffe` NULL or "":
 * nobody proved anything. ABI_NONE: allowed.
 */
enum abi_reason view_allows(const struct view_pod *to, const char *spiffe, const struct abi_addr *source,
			    uint16_t port);
/*
 * May a connection go on that carries requests, each of which is judged by itself? *policy is that of `to` when it was
 * asked last, and is kept.
 */
bool view_still_allows(const struct view_pod *to, uint32_t *policy, const char *spiffe, const struct abi_addr *source,
		       uint16_t port);
/*
 * NEEDS_WORKER of view_allows(): the answer differs from request to request. The same question of one request: `host`
 * of http_host(), `path` of http_path_normalise(), without the query. head NULL: the connection is no HTTP, once for
 * all of it. NEEDS_WORKER again: it depends on what weft does not know; refuse.
 */
enum abi_reason view_allows_request(const struct view_pod *to, const char *spiffe, const struct abi_addr *source,
				    uint16_t port, const struct http_head *head, struct http_text host,
				    struct http_text path);
/* May there be such connections to this port? */
bool view_needs_http(const struct view_pod *to, uint16_t port);

#endif
