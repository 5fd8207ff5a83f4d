/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c: epoll, and timers in a list by due time (there are few: a process has a handful). */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loop.h"

#define LOOP_BATCH 64 /* events of one epoll_wait */

struct loop {
	int epoll;
	bool stop;
	struct list watches, timers; /* timers: the first due first */
	/* What epoll gave and is not yet delivered: loop_unwatch takes its own out, so nothing stale is called. */
	struct epoll_event event[LOOP_BATCH];
	int events, next;
};

struct loop *loop_new(void)
{
	struct loop *l = mem_alloc(sizeof(*l));

	list_init(&l->watches);
	list_init(&l->timers);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0) {
		log_error("epoll_create1: %m: raise the limit of open files (ulimit -n)");
		abort();
	}
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	list_each_safe(at, next_watch, &l->watches)
		loop_unwatch(l, container_of(at, struct loop_watch, link));
	list_each_safe(at, next_timer, &l->timers)
		loop_disarm(l, container_of(at, struct loop_timer, link));
	close(l->epoll);
	free(l);
}

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

void loop_unwatch(struct loop *l, struct loop_watch *w)
{
	struct epoll_event none = {0};
	int i;

	if (!w->active)
		return;
	/* May fail if the owner closed the fd first: then the kernel has already forgotten it. */
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, &none);
	list_del(&w->link);
	w->active = false;
	for (i = l->next; i < l->events; i++)
		if (l->event[i].data.ptr == w)
			l->event[i].data.ptr = NULL;
}

void loop_arm(struct loop *l, struct loop_timer *t, uint64_t after_ns)
{
	struct list *at;

	loop_disarm(l, t);
	if (__builtin_add_overflow(clock_ns(), after_ns, &t->due_ns))
		t->due_ns = UINT64_MAX;
	/* From the back: most timers are due after those that were armed before. Equal ones keep their order. */
	for (at = l->timers.prev; at != &l->timers; at = at->prev)
		if (container_of(at, struct loop_timer, link)->due_ns <= t->due_ns)
			break;
	t->link.prev = at;
	t->link.next = at->next;
	at->next->prev = &t->link;
	at->next = &t->link;
	t->armed = true;
}

void loop_disarm(struct loop *l, struct loop_timer *t)
{
	(void)l;
	if (!t->armed)
		return;
	list_del(&t->link);
	t->armed = false;
}

static struct loop_timer *first_timer(struct loop *l)
{
	return list_empty(&l->timers) ? NULL : container_of(l->timers.next, struct loop_timer, link);
}

static int wait_events(struct loop *l)
{
	struct timespec ts, *wait = NULL;
	struct loop_timer *t = first_timer(l);
	int n;

	if (t) {
		uint64_t now = clock_ns(), left = t->due_ns > now ? t->due_ns - now : 0;

		ts.tv_sec = (time_t)(left / 1000000000u);
		ts.tv_nsec = (long)(left % 1000000000u);
		wait = &ts;
	}
	n = epoll_pwait2(l->epoll, l->event, LOOP_BATCH, wait, NULL);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	l->events = n;
	return 0;
}

static void deliver(struct loop *l)
{
	while (l->next < l->events && !l->stop) {
		struct epoll_event e = l->event[l->next++];
		struct loop_watch *w = e.data.ptr;
		uint32_t events;

		if (!w)
			continue; /* stopped meanwhile */
		/* A callback before this one may have changed what the watch wants. */
		events = e.events & (w->events | EPOLLERR | EPOLLHUP);
		if (events)
			w->ready(w, events);
	}
	l->events = l->next = 0;
}

static void fire(struct loop *l)
{
	uint64_t now = clock_ns();
	struct loop_timer *t;

	/* A timer that arms itself again is due after `now`: it waits for the fds like the others. */
	while (!l->stop && (t = first_timer(l)) && t->due_ns <= now) {
		loop_disarm(l, t);
		t->due(t);
	}
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
	}
	l->stop = false;
	return r;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}
