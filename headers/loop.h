/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h: one thread's epoll loop: watched fds and timers (io/loop.c).
 * Callbacks may start and stop any watch or timer, their own too; nothing is called after its stop.
 * A turn: wait, ready watches, due timers. So a timer armed with 0 in a watch is work at the end of the turn.
 */
#ifndef WEFT_LOOP_H
#define WEFT_LOOP_H

#include "base.h"

struct loop;

struct loop_watch { /* embedded by the owner; zeroed = not started */
	int fd;
	uint32_t events; /* EPOLLIN ... (level triggered) */
	void (*ready)(struct loop_watch *w, uint32_t events);
	bool active;
	struct list link;
};

struct loop_timer { /* embedded by the owner; zeroed = not armed */
	uint64_t due_ns; /* clock_ns() */
	void (*due)(struct loop_timer *t);
	bool armed;
	struct list link;
};

struct loop *loop_new(void);
void loop_free(struct loop *l);
/* Again with other events: changes them. */
int loop_watch(struct loop *l, struct loop_watch *w) must_check; /* 0 or -errno; sets fd, events, ready before */
void loop_unwatch(struct loop *l, struct loop_watch *w); /* before the fd is closed, which it does not do */
void loop_arm(struct loop *l, struct loop_timer *t, uint64_t after_ns); /* re-arms */
void loop_disarm(struct loop *l, struct loop_timer *t);
int loop_run(struct loop *l) must_check; /* until loop_stop; 0 or -errno of epoll_wait */
void loop_stop(struct loop *l);

#endif
