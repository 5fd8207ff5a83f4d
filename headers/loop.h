/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h: one thread's epoll loop: watched fds, timers, work at the end of a turn (io/loop.c).
 *
 * A turn: wait; ready watches, at most LOOP_BATCH of them; due timers; tasks. Callbacks may start and stop any watch,
 * timer or task, their own too; nothing is called after its stop. What arms or watches again in its own callback waits
 * for the next turn, so nobody starves anybody. A callback that could go on for ever must stop by itself and
 * loop_arm(0).
 */
#ifndef WEFT_LOOP_H
#define WEFT_LOOP_H

#include "base.h"

#define LOOP_BATCH 128

struct loop;

struct loop_watch { /* embedded by the owner; zeroed = not started */
	int fd;
	uint32_t events; /* EPOLLIN ...; level triggered unless EPOLLET is among them */
	void (*ready)(struct loop_watch *w, uint32_t events);
	bool active;
	struct list link;
};

struct loop_timer { /* embedded by the owner; zeroed = not armed */
	uint64_t due_ns; /* clock_ns() */
	void (*due)(struct loop_timer *t);
	bool armed;
	uint16_t slot; /* of the wheel */
	struct list link;
};

struct loop_task { /* embedded by the owner; zeroed = not waiting */
	void (*run)(struct loop_task *t);
	bool waiting;
	struct list link;
};

struct loop *loop_new(void);
void loop_free(struct loop *l);
/* Again with other events: changes them. */
int loop_watch(struct loop *l, struct loop_watch *w) must_check; /* 0 or -errno; sets fd, events, ready before */
void loop_unwatch(struct loop *l, struct loop_watch *w); /* before the fd is closed, which it does not do */
/* The same for an fd of which there is no duplicate, and which the caller closes now: that takes it out of epoll. */
void loop_forget(struct loop *l, struct loop_watch *w);
/*
 * Re-arms. Never before its time, and up to 1.05 ms after it; in order of ticks of that size. 0: at the end of this
 * turn, or of the next if armed by a timer.
 */
void loop_arm(struct loop *l, struct loop_timer *t, uint64_t after_ns);
void loop_disarm(struct loop *l, struct loop_timer *t);
/*
 * Runs at the end of the turn, after the timers and before the loop waits; once however often it was asked for. A task
 * may ask for tasks: they run in this turn too, up to LOOP_TASK_ROUNDS deep; what is deeper runs in the next, which
 * then does not wait.
 */
#define LOOP_TASK_ROUNDS 8
void loop_defer(struct loop *l, struct loop_task *t);
void loop_cancel(struct loop *l, struct loop_task *t);
void loop_settle(struct loop *l); /* before the end of a loop that no longer runs: its tasks, until there are none */
/* clock_ns() as the wait of this turn ended: for what need not be exact. Before the first turn: of loop_new(). */
uint64_t loop_now(const struct loop *l);
/* Called before and after each wait (liburcu: offline while it sleeps). */
void loop_around_wait(struct loop *l, void (*before)(void), void (*after)(void));
int loop_run(struct loop *l) must_check; /* until loop_stop; 0 or -errno of epoll_wait */
void loop_stop(struct loop *l);

#endif
