/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick.h: which endpoint of a Service gets a request (upstream/pick.c): two are drawn by weight, and the one with fewer
 * requests under way for its weight takes it ("power of two choices", Mitzenmacher 2001). What is under way is exact
 * for the node: all threads count in view_load.
 *
 * An endpoint that could not be reached lately is asked last, by the thread that found out.
 */
#ifndef WEFT_PICK_H
#define WEFT_PICK_H

#include "view.h"

#define PICK_TRIES 3	      /* endpoints that one request is sent to, at most */
#define PICK_AGO_NS 5000000000ull /* "lately" */
#define PICK_SLOTS 64

struct pick_memory { /* of one thread; zeroed: nothing was seen */
	struct pick_slot {
		struct abi_addr addr;
		uint16_t port;
		uint64_t until_ns;
	} slot[PICK_SLOTS];
};

struct pick_question {
	bool ipv4; /* of the client: it is spoken to in its family */
	const struct pick_memory *memory;
	uint64_t now_ns;
	uint64_t random;
	/* those that this request was sent to in vain */
	const struct view_load *tried[PICK_TRIES];
	unsigned tries;
	/* somebody is connected to it already: it is taken, if it is one of the Service and fit; NULL: none */
	const struct abi_addr *near;
	uint16_t near_port;
};

/* NULL: there is none of that family, or all were tried. */
const struct view_endpoint *pick(const struct view_service *s, const struct pick_question *q);
/* NULL: it is none of the Service. As many looks as there are endpoints. */
const struct view_endpoint *pick_find(const struct view_service *s, const struct abi_addr *addr, uint16_t port);
bool pick_avoids(const struct pick_question *q, const struct view_endpoint *e); /* tried, or failed lately */
void pick_failed(struct pick_memory *m, const struct abi_addr *addr, uint16_t port, uint64_t now_ns);
/* A request is under way, and is not any more; `load` may be kept in between. */
void pick_raise(struct view_load *load);
void pick_lower(struct view_load *load);

/* ------------------------------------------------------------------ upstream/affinity.c */

struct pick_affinity {
	int map; /* the kernel's, `affinity` */
	uint32_t number; /* of the Service port, as in the kernel's rows; 0: it has no address, and no affinity */
	const struct abi_addr *client;
};

/*
 * The same, of a Service that may ask for sessionAffinity ClientIP: then a client keeps its endpoint while that is one
 * of the Service and can be reached, and until affinity_seconds after its last request. That costs one look into the
 * kernel's map, and one along the endpoints.
 */
const struct view_endpoint *pick_for(const struct pick_affinity *of, const struct view_service *s,
				     const struct pick_question *q);

#endif
