/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.h: records of connections that no socket backs are removed, and their pairs given back (proc/sweep.c). The
 * worker says which; the supervisor looks for itself, for the programs follow the kernel addresses that stand in
 * `conns` and `pairs`: whoever could write there could read the kernel's memory.
 */
#ifndef WEFT_SWEEP_H
#define WEFT_SWEEP_H

#include "backing.h"
#include "loader.h"

/* The looks at all sockets, which the worker asks for: they get one part in SWEEP_SHARE of the time, and no more. */
#define SWEEP_SHARE 10
struct sweeps {
	uint64_t looked_ns, cost_ns; /* the last one */
};
bool sweeps_due(const struct sweeps *past, uint64_t now_ns) must_check;

/* As WIRE_STALE asks. How many are gone; -EAGAIN: not now; or -errno: the sockets cannot be listed. */
int sweep(struct sweeps *past, const struct loader *l, const struct wire_stale *s) must_check;

/* -------- the part that tests can play: `b` is a look at the sockets that is younger than the worker's */
struct sweep_maps {
	int conns, pairs;
	uint64_t *holds; /* in memory */
};
unsigned sweep_backed(const struct sweep_maps *m, const struct wire_stale *s, const struct backing *b, uint64_t now_ns);

#endif
