/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h: when the kernel looks at which connections enter and leave the splice (proc/watch.c, bpf/watch.bpf.c).
 *
 * A pass of the iterator weft_watch costs some 50 us and 0.1 us for each socket. One every WATCH_YOUNG_NS while there
 * are young connections between pods of this node of which an end has spoken twice, one a second while there are any
 * such; none at all otherwise: a ring buffer wakes us. After a quiet time the first pass comes sooner, WATCH_FIRST_NS
 * after whoever woke us, and the next ones twice as late each, because what has begun to talk has had its eight turns
 * in a few milliseconds and is carried dearer until it enters. A pass for young connections waits longer, up to
 * WATCH_YOUNG_MOST_NS, where it would take more than one part in WATCH_SHARE of one CPU; the first one up to
 * WATCH_YOUNG_NS, as connections that come and go wake us again and again.
 */
#ifndef WEFT_WATCH_H
#define WEFT_WATCH_H

#include "loader.h"
#include "loop.h"
#include "pods.h"

#define WATCH_FIRST_NS 5000000ull
#define WATCH_YOUNG_NS 25000000ull
#define WATCH_YOUNG_MOST_NS 250000000ull
#define WATCH_OLD_NS 1000000000ull
#define WATCH_SHARE 50

/* How long such a pass waits, by what the last one has cost. */
static inline uint64_t watch_wait(uint64_t cost_ns, uint64_t least_ns, uint64_t most_ns)
{
	uint64_t share = cost_ns * WATCH_SHARE;

	return share < least_ns ? least_ns : share < most_ns ? share : most_ns;
}

struct watch;

struct watch_plan {
	struct loop *loop;
	const struct loader_watch *from; /* borrowed; without its iterator nothing is spliced, and nothing watched */
	struct pods *pods;
	void (*lost)(void *ctx); /* the pins of reader.h are gone, or another's: nobody sees readers for us any more */
	void *ctx;
};

int watch_open(struct watch **ret, const struct watch_plan *plan) must_check; /* 0 or -errno */
void watch_now(struct watch *w); /* something was switched: look at once */
void watch_close(struct watch *w);

#endif
