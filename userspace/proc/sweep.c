/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.c: see sweep.h. */
#include "sweep.h"

#include <errno.h>
#include <stdlib.h>

#include "kernel.h"

/* The pair of a connection whose end was not seen: nobody else would ever give it back. */
static void free_pair(int pairs, const struct abi_conn *c)
{
	struct abi_pair p;

	if (c->stage == ABI_STAGE_OUT || kernel_lookup(pairs, &c->slot, &p) || p.conn != c->conn)
		return;
	p.conn = 0;
	p.leaving_ns = clock_ns();
	if (kernel_update(pairs, &c->slot, &p))
		log_debug("a pair of the splice is lost");
}

unsigned sweep_backed(int conns, int pairs, const struct wire_stale *s, const struct backing *b, uint64_t now_ns)
{
	unsigned gone = 0;

	for (unsigned i = 0; i < s->count && i < WIRE_STALES; i++) {
		const struct wire_stale_one *one = &s->item[i];
		struct abi_conn now;

		/* The tuple may be another connection's by now, one that is younger than the look at the sockets. */
		if (kernel_lookup(conns, &one->tuple, &now) || now.conn != one->conn ||
		    now.opened_ns + BACKING_OLD_NS >= now_ns || backing_has(b, &now))
			continue;
		if (kernel_delete(conns, &one->tuple))
			continue;
		gone++;
		free_pair(pairs, &now);
	}
	return gone;
}

int sweep(const struct loader *l, const struct wire_stale *s)
{
	const struct loader_watch *w = loader_watch(l);
	struct abi_live *live;
	struct backing b;
	unsigned lives;
	int err;

	if (!loader_live(l))
		return -EOPNOTSUPP;
	err = backing_read(loader_fd(l, WIRE_FD_LIVE), &live, &lives);
	if (err)
		return err;
	backing_open(&b, live, lives);
	err = (int)sweep_backed(w->conns, w->pairs, s, &b, clock_ns());
	backing_close(&b);
	free(live);
	return err;
}
