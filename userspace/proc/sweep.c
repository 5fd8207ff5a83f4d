/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.c: see sweep.h. */
#include "sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "decide.h"
#include "kernel.h"

#define HOLDS_SIZE (ABI_MAX_HOLDS * sizeof(uint64_t))

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

/* The programs count there at the same time. */
static void give_back(uint64_t *holds, uint32_t holder)
{
	if (!holder || holder >= ABI_MAX_HOLDS)
		return;
	__atomic_fetch_sub(&holds[decide_place_sum(holder)], 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&holds[holder], 1, __ATOMIC_RELAXED);
}

unsigned sweep_backed(const struct sweep_maps *m, const struct wire_stale *s, const struct backing *b, uint64_t now_ns)
{
	unsigned gone = 0;

	for (unsigned i = 0; i < s->count && i < WIRE_STALES; i++) {
		const struct wire_stale_one *one = &s->item[i];
		struct abi_conn now;

		/* The tuple may be another connection's by now, one that is younger than the look at the sockets. */
		if (kernel_lookup(m->conns, &one->tuple, &now) || now.conn != one->conn ||
		    now.opened_ns + BACKING_OLD_NS >= now_ns || backing_has(b, &now))
			continue;
		if (kernel_delete(m->conns, &one->tuple))
			continue;
		gone++;
		give_back(m->holds, now.holder);
		free_pair(m->pairs, &now);
	}
	return gone;
}

bool sweeps_due(const struct sweeps *past, uint64_t now_ns)
{
	return now_ns - past->looked_ns >= SWEEP_SHARE * past->cost_ns;
}

int sweep(struct sweeps *past, const struct loader *l, const struct wire_stale *s)
{
	const struct loader_watch *w = loader_watch(l);
	uint64_t now = clock_ns(); /* the sockets are looked at later: what is old by now is as old as it says */
	struct sweep_maps m = {.conns = w->conns, .pairs = w->pairs};
	struct abi_live *live;
	struct backing b;
	unsigned lives;
	int err;

	if (!loader_live(l))
		return -EOPNOTSUPP;
	if (!s->count)
		return 0;
	if (!sweeps_due(past, now))
		return -EAGAIN;
	m.holds = mmap(NULL, HOLDS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, w->holds, 0);
	if (m.holds == MAP_FAILED)
		return -errno;
	err = backing_read(loader_fd(l, WIRE_FD_LIVE), &live, &lives);
	if (!err) {
		backing_open(&b, live, lives);
		err = (int)sweep_backed(&m, s, &b, now);
		backing_close(&b);
		free(live);
	}
	(void)munmap(m.holds, HOLDS_SIZE);
	past->looked_ns = clock_ns();
	past->cost_ns = past->looked_ns - now;
	return err;
}
