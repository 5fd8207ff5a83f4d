// SPDX-License-Identifier: Apache-2.0
/*
 * relay.c: the floor of a proxy: takes a connection, dials the target, moves the bytes by recv() and send(), both
 * ways, and does nothing else. A thread each has its own listener (SO_REUSEPORT), epoll and buffer.
 */
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BUFFER (256u << 10)
#define EVENTS 64
#define TURN 4 /* buffers that one direction may move before others have their turn */

struct side {
	struct pair *pair;
	int fd;
	/* edges of epoll, until EAGAIN or a short read takes them back */
	bool readable, writable;
	bool hung_up;	     /* the end is there too, behind what can be read: a short read says nothing then */
	bool ended;	     /* its end was read */
	bool finished;	     /* ours was sent */
	unsigned char *rest; /* what its peer could not take yet */
	size_t rest_len, rest_at;
};

struct pair {
	struct side side[2];
	bool listed, dead;
	struct pair *next;
};

struct worker {
	struct endpoint from, to;
	int listener, epoll;
	unsigned char *buf;
	struct pair *list; /* of those whose turn was not enough, and of the dead */
};

static void watch(const struct worker *w, struct side *s)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};

	endpoint_nodelay(s->fd);
	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, s->fd, &ev))
		fail("relay: epoll_ctl");
}

static void take(const struct worker *w)
{
	for (;;) {
		int fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct pair *p;

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		p = calloc(1, sizeof(*p));
		if (fd < 0 || !p)
			fail("relay: accept");
		p->side[0].fd = fd;
		p->side[1].fd = socket(w->to.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (p->side[1].fd < 0)
			fail("relay: socket");
		if (connect(p->side[1].fd, (const void *)&w->to.addr, w->to.len) && errno != EINPROGRESS)
			fail("relay: connect");
		for (int i = 0; i < 2; i++) {
			p->side[i].pair = p;
			watch(w, &p->side[i]);
		}
	}
}

/* False: the connection is broken. What is not taken stays in from->rest. */
static bool push(struct side *from, struct side *to, const unsigned char *data, size_t len)
{
	ssize_t n = send(to->fd, data, len, MSG_NOSIGNAL);
	size_t sent = n > 0 ? (size_t)n : 0;

	if (n < 0 && errno != EAGAIN)
		return false;
	if (sent == len)
		return true;
	to->writable = false;
	from->rest = malloc(len - sent);
	if (!from->rest)
		fail("relay: malloc");
	from->rest_len = len - sent;
	from->rest_at = 0;
	memcpy(from->rest, data + sent, from->rest_len);
	return true;
}

static bool push_rest(struct side *from, struct side *to)
{
	ssize_t n = send(to->fd, from->rest + from->rest_at, from->rest_len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		return false;
	if (n > 0) {
		from->rest_at += (size_t)n;
		from->rest_len -= (size_t)n;
	}
	if (from->rest_len) {
		to->writable = false;
		return true;
	}
	free(from->rest);
	from->rest = NULL;
	return true;
}

/* One direction, a turn of it; false: broken. */
static bool move(const struct worker *w, struct side *from, struct side *to)
{
	if (from->rest_len && to->writable && !push_rest(from, to))
		return false;
	for (int i = 0; i < TURN && from->readable && to->writable && !from->rest_len && !from->ended; i++) {
		ssize_t n = recv(from->fd, w->buf, BUFFER, 0);

		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < (ssize_t)BUFFER && !from->hung_up)
			from->readable = false;
		from->ended = !n;
		if (n > 0 && !push(from, to, w->buf, (size_t)n))
			return false;
	}
	if (from->ended && !from->rest_len && !to->finished) {
		to->finished = true;
		return !shutdown(to->fd, SHUT_WR);
	}
	return true;
}

static bool ready(const struct side *from, const struct side *to)
{
	return from->readable && to->writable && !from->rest_len && !from->ended;
}

static void step(struct worker *w, struct pair *p)
{
	struct side *a = &p->side[0], *b = &p->side[1];

	if (p->dead)
		return;
	p->dead = !move(w, a, b) || !move(w, b, a) || (a->finished && b->finished);
	if (p->dead) {
		close(a->fd);
		close(b->fd);
		free(a->rest);
		free(b->rest);
	}
	if (!p->listed && (p->dead || ready(a, b) || ready(b, a))) {
		p->listed = true;
		p->next = w->list;
		w->list = p;
	}
}

/* The dead are freed here, where no event of this epoll_wait() can name them any more. */
static void step_listed(struct worker *w)
{
	struct pair *p = w->list, *next;

	w->list = NULL;
	for (; p; p = next) {
		next = p->next;
		p->listed = false;
		if (p->dead)
			free(p);
		else
			step(w, p);
	}
}

static void *serve(void *arg)
{
	struct worker *w = arg;
	struct epoll_event ev[EVENTS] = {{.events = EPOLLIN}};

	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->buf = malloc(BUFFER);
	if (w->epoll < 0 || !w->buf || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->listener, &ev[0]))
		fail("relay: epoll");
	for (;;) {
		int n = epoll_wait(w->epoll, ev, EVENTS, w->list ? 0 : -1);

		for (int i = 0; i < n; i++) {
			struct side *s = ev[i].data.ptr;
			uint32_t what = ev[i].events;

			if (!s) {
				take(w);
				continue;
			}
			s->hung_up |= !!(what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
			s->readable |= s->hung_up || (what & EPOLLIN);
			s->writable |= !!(what & EPOLLOUT);
			step(w, s->pair);
		}
		step_listed(w);
	}
	return NULL;
}

int relay(const struct load *l)
{
	struct worker *w = calloc(l->threads, sizeof(*w));
	pthread_t thread;

	if (!w || !l->to)
		fail("relay: --to");
	for (unsigned i = 0; i < l->threads; i++) {
		w[i].from = endpoint_parse(l->endpoint);
		w[i].to = endpoint_parse(l->to);
		w[i].listener = endpoint_listen_shared(&w[i].from);
	}
	for (unsigned i = 1; i < l->threads; i++) {
		if (pthread_create(&thread, NULL, serve, &w[i]))
			fail("relay: pthread_create");
	}
	serve(&w[0]);
	return 0;
}
