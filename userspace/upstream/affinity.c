/* SPDX-License-Identifier: Apache-2.0 */
/*
 * affinity.c: sessionAffinity ClientIP where weft picks: see pick.h. What a client is bound to is the kernel's own map,
 * in which connections that the kernel picks for are bound too: all threads and the kernel say the same, for as long.
 */
#include <errno.h>
#include <string.h>

#include "kernel.h"
#include "pick.h"

#define FRESH_NS 1000000000ull /* so often an entry in use is written */

/* Where it fails he is forgotten earlier. */
static void put(const struct pick_affinity *of, const struct abi_affinity_key *key, const struct abi_affinity *a)
{
	int err = kernel_update(of->map, key, a);

	if (err)
		log_debug("map affinity: %s", strerror(-err));
}

/* NULL: he is bound to nobody, or to who is not there, or does not answer. */
static const struct view_endpoint *bound(const struct pick_affinity *of, const struct abi_affinity_key *key,
					 const struct view_service *s, const struct pick_question *q)
{
	const struct view_endpoint *e;
	struct abi_affinity a;

	if (kernel_lookup(of->map, key, &a) || q->now_ns > a.used_ns + s->affinity_seconds * 1000000000ull)
		return NULL;
	e = pick_find(s, &a.addr, a.port);
	if (!e || pick_avoids(q, e))
		return NULL;
	if (q->now_ns > a.used_ns + FRESH_NS) {
		a.used_ns = q->now_ns;
		put(of, key, &a);
	}
	return e;
}

const struct view_endpoint *pick_for(const struct pick_affinity *of, const struct view_service *s,
				     const struct pick_question *q)
{
	struct abi_affinity_key key = {.service = of->number};
	const struct view_endpoint *e, *other;
	struct abi_affinity a = {0};

	key.client = *of->client;
	if (!s->affinity_seconds || !of->number)
		return pick(s, q);
	e = bound(of, &key, s, q);
	if (e)
		return e;
	e = pick(s, q);
	if (!e)
		return NULL;
	a.addr = e->addr;
	a.port = e->port;
	a.used_ns = q->now_ns; /* the kernel looks for the index by the address */
	if (kernel_create(of->map, &key, &a) != -EEXIST)
		return e;
	/* Another thread was faster; or what is there is stale. */
	other = bound(of, &key, s, q);
	if (other)
		return other;
	put(of, &key, &a);
	return e;
}
