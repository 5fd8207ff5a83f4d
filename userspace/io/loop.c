/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c: epoll, the timer wheel, and what waits for the end of the turn.
 *
 * The wheel's next tick is a timerfd's and not the timeout of each wait, which would set a timer in the kernel and take
 * it back in every turn. It is set when something is due before it, and left alone when that is disarmed: it then wakes
 * the loop once for nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "wheel.h"

struct loop {
	int epoll, timer;
	uint64_t alarm; /* tick of which the timerfd tells; it has, when that has come */
	bool stop;
	uint64_t now; /* of this turn */
	struct list watches;
	struct list due;   /* timers: armed with 0, or taken off the wheel and not yet called */
	struct list tasks; /* of this turn */
	void (*before_wait)(void);
	void (*after_wait)(void);
	struct wheel wheel;
	/* What epoll gave and is not yet delivered: loop_unwatch takes its own out, so nothing stale is called. */
	struct epoll_event event[LOOP_BATCH];
	int events, next;
};

struct loop *loop_new(void)
{
	struct epoll_event alarm = {.events = EPOLLIN | EPOLLET}; /* of no watch: that it came is all */
	struct loop *l = mem_alloc(sizeof(*l));

	list_init(&l->watches);
	list_init(&l->due);
	list_init(&l->tasks);
	l->now = clock_ns();
	wheel_init(&l->wheel, wheel_tick(l->now));
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->epoll < 0 || l->timer < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->timer, &alarm)) {
		log_error("no loop: %m: raise the limit of open files (ulimit -n)");
		abort();
	}
	return l;
}

static void disarm_all(struct loop *l, struct list *timers)
{
	list_each_safe(at, next, timers)
		loop_disarm(l, container_of(at, struct loop_timer, link));
}

void loop_free(struct loop *l)
{
	unsigned i;

	if (!l)
		return;
	list_each_safe(at, next_watch, &l->watches)
		loop_unwatch(l, container_of(at, struct loop_watch, link));
	list_each_safe(at, next_task, &l->tasks)
		loop_cancel(l, container_of(at, struct loop_task, link));
	disarm_all(l, &l->due);
	for (i = 0; i < array_size(l->wheel.slot); i++)
		disarm_all(l, &l->wheel.slot[i]);
	close(l->timer);
	close(l->epoll);
	free(l);
}

/* ------------------------------------------------------------------ watches */

int loop_watch(struct loop *l, struct loop_watch *w)
{
	struct epoll_event e = {.events = w->events, .data.ptr = w};

	if (epoll_ctl(l->epoll, w->active ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &e) < 0)
		return -errno;
	if (!w->active)
		list_add(&l->watches, &w->link);
	w->active = true;
	return 0;
}

void loop_forget(struct loop *l, struct loop_watch *w)
{
	int i;

	if (!w->active)
		return;
	list_del(&w->link);
	w->active = false;
	for (i = l->next; i < l->events; i++)
		if (l->event[i].data.ptr == w)
			l->event[i].data.ptr = NULL;
}

void loop_unwatch(struct loop *l, struct loop_watch *w)
{
	struct epoll_event none = {0};

	/* May fail if the owner closed the fd first: then the kernel has already forgotten it. */
	if (w->active)
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, &none);
	loop_forget(l, w);
}

/* ------------------------------------------------------------------ timers, tasks */

void loop_arm(struct loop *l, struct loop_timer *t, uint64_t after_ns)
{
	loop_disarm(l, t);
	/* The clock itself and not loop_now(): this turn may have worked for seconds (a large world). */
	if (__builtin_add_overflow(clock_ns(), after_ns, &t->due_ns))
		t->due_ns = UINT64_MAX;
	t->slot = WHEEL_NOWHERE;
	if (!after_ns || !wheel_add(&l->wheel, t))
		list_add(&l->due, &t->link);
	t->armed = true;
}

void loop_disarm(struct loop *l, struct loop_timer *t)
{
	if (!t->armed)
		return;
	wheel_del(&l->wheel, t);
	t->armed = false;
}

void loop_defer(struct loop *l, struct loop_task *t)
{
	if (t->waiting)
		return;
	list_add(&l->tasks, &t->link);
	t->waiting = true;
}

void loop_cancel(struct loop *l, struct loop_task *t)
{
	(void)l;
	if (!t->waiting)
		return;
	list_del(&t->link);
	t->waiting = false;
}

uint64_t loop_now(const struct loop *l)
{
	return l->now;
}

void loop_around_wait(struct loop *l, void (*before)(void), void (*after)(void))
{
	l->before_wait = before;
	l->after_wait = after;
}

/* ------------------------------------------------------------------ a turn */

/* The timerfd is read by nobody: each time it is due is an edge. */
static void set_alarm(struct loop *l, uint64_t tick)
{
	uint64_t due = tick << WHEEL_TICK_BITS;
	const struct itimerspec at = {
		.it_value = {.tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u)}};

	timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &at, NULL); /* a time that has passed is due at once */
	l->alarm = tick;
}

/* Is nothing to do until something happens? Then the alarm is set for what has a time. */
static bool may_sleep(struct loop *l)
{
	uint64_t tick;

	if (!list_empty(&l->due) || !list_empty(&l->tasks))
		return false;
	if (!wheel_next(&l->wheel, &tick) || tick > wheel_tick(UINT64_MAX)) /* loop_arm(UINT64_MAX): never */
		return true;
	if (tick < l->alarm || l->alarm <= wheel_tick(l->now))
		set_alarm(l, tick);
	return true;
}

static int wait_events(struct loop *l)
{
	bool sleep;
	int n, error;

	if (l->next < l->events)
		return 0; /* loop_stop() left them; an edge would not come again */
	sleep = may_sleep(l);
	if (l->before_wait)
		l->before_wait();
	n = epoll_wait(l->epoll, l->event, LOOP_BATCH, sleep ? -1 : 0);
	error = errno;
	if (l->after_wait)
		l->after_wait();
	l->now = clock_ns();
	l->next = 0;
	l->events = n > 0 ? n : 0;
	return n < 0 && error != EINTR ? -error : 0;
}

static void deliver(struct loop *l)
{
	while (l->next < l->events && !l->stop) {
		struct epoll_event e = l->event[l->next++];
		struct loop_watch *w = e.data.ptr;
		uint32_t events;

		if (!w)
			continue; /* the alarm, or stopped meanwhile */
		/* A callback before this one may have changed what the watch wants. */
		events = e.events & (w->events | EPOLLERR | EPOLLHUP);
		if (events)
			w->ready(w, events);
	}
}

static void fire(struct loop *l)
{
	struct list last; /* where this turn ends: what is armed from now on stands behind it */

	wheel_advance(&l->wheel, wheel_tick(l->now), &l->due);
	list_add(&l->due, list_place(&last));
	while (!l->stop && l->due.next != &last) {
		struct loop_timer *t = container_of(l->due.next, struct loop_timer, link);

		loop_disarm(l, t);
		t->due(t);
	}
	list_del(&last);
}

static void run_tasks(struct loop *l)
{
	unsigned round;

	for (round = 0; round < LOOP_TASK_ROUNDS && !list_empty(&l->tasks); round++) {
		struct list last;

		list_add(&l->tasks, list_place(&last));
		while (l->tasks.next != &last) {
			struct loop_task *t = container_of(l->tasks.next, struct loop_task, link);

			loop_cancel(l, t);
			t->run(t);
		}
		list_del(&last);
	}
}

void loop_settle(struct loop *l)
{
	while (!list_empty(&l->tasks))
		run_tasks(l);
}

int loop_run(struct loop *l)
{
	int r = 0;

	while (!l->stop) {
		r = wait_events(l);
		if (r < 0)
			break;
		deliver(l);
		fire(l);
		run_tasks(l);
	}
	l->stop = false;
	return r;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}
