/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shares.h: who gives way when descriptors run out (io/shares.c).
 *
 * A process may have so many of them. The last eighth of those that connections may have is not for who holds most:
 * while it is used, no new connection is made for a place that holds a SHARES_PART of all, and more than half of what
 * the one with most holds. So who comes in great number fills the rest, and others find room. What stands goes on.
 *
 * A place is a pod of this node, or where a stranger comes from; nothing is kept of it but how many connections it has
 * (and requests at once on one of them, that have others for themselves), in a sketch (count-min, Cormode and
 * Muthukrishnan 2005): each thread adds to its own, all are looked at when it matters. Two places that are taken for
 * one are one pair in a million.
 */
#ifndef WEFT_SHARES_H
#define WEFT_SHARES_H

#include "base.h"

#define SHARES_ROWS 2
#define SHARES_COLUMNS 1024
#define SHARES_PART 64
#define SHARES_WHY "too many open files, and who asks holds most"

struct abi_addr;
struct thread;

struct shares {
	int32_t held[SHARES_ROWS][SHARES_COLUMNS]; /* by this thread's doing: what one begins another may end */
	uint64_t looked_ns;
	int64_t most, all; /* that one place had then, and all had */
};

/* Numbers of places; never 0, which holds nothing. */
uint32_t shares_pod(uint64_t netns);
uint32_t shares_stranger(const struct abi_addr *from); /* who has one address of IPv6 has all of its /64 */
void shares_hold(struct thread *t, uint32_t place);
void shares_let_go(struct thread *t, uint32_t place);
void shares_seen(struct thread *t, int fd); /* that is for a connection, whoever's it will be */
bool shares_scarce(struct thread *t) must_check; /* the last eighth is used: shares_over() may say yes */
/* One more for that place would be at the cost of others. fd: what was just made for it; -1: nothing yet. */
bool shares_over(struct thread *t, int fd, uint32_t place) must_check;

#endif
