/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wheel.h: the timers of a loop in a hierarchical timing wheel (io/wheel.c; Varghese and Lauck, SOSP 1987).
 *
 * Time is counted in ticks of 2^20 ns. Eight levels of 64 slots: a timer stands in the level of the highest group of
 * six bits in which its tick differs from now, and moves down when the wheel comes to its slot; at most seven times.
 * To add and to remove costs the same whatever there is. No clock here: the caller says what time it is.
 */
#ifndef WEFT_WHEEL_H
#define WEFT_WHEEL_H

#include "loop.h"

#define WHEEL_TICK_BITS 20 /* about a millisecond */
#define WHEEL_SLOT_BITS 6
#define WHEEL_SLOTS (1u << WHEEL_SLOT_BITS)
#define WHEEL_LEVELS 8 /* 48 bits of ticks: more than 64 bits of nanoseconds hold */
#define WHEEL_NOWHERE 0xffff

struct wheel {
	uint64_t now;		     /* tick: whatever is in the wheel is due after it */
	uint64_t full[WHEEL_LEVELS]; /* a bit for each slot that holds timers */
	struct list slot[WHEEL_LEVELS * WHEEL_SLOTS];
};

static inline uint64_t wheel_tick(uint64_t ns) /* that has begun */
{
	return ns >> WHEEL_TICK_BITS;
}
static inline uint64_t wheel_due(const struct loop_timer *t) /* the first tick that is not before its time */
{
	return wheel_tick(t->due_ns) + !!(t->due_ns & ((1u << WHEEL_TICK_BITS) - 1));
}

void wheel_init(struct wheel *w, uint64_t tick);
/* false: it is due already, and was not taken. */
bool wheel_add(struct wheel *w, struct loop_timer *t) must_check;
void wheel_del(struct wheel *w, struct loop_timer *t); /* of this wheel */
/* To `tick`: what is due then goes to the end of `ret`, in order of ticks. */
void wheel_advance(struct wheel *w, uint64_t tick, struct list *ret);
/* When to advance at the latest: the tick of the first timer, or an earlier one where timers must move down. */
bool wheel_next(const struct wheel *w, uint64_t *ret_tick);

#endif
