// SPDX-License-Identifier: Apache-2.0
/*
 * crr.c: connect, request, response, close; `clients` of them in flight. The server closes first, so that
 * TIME_WAIT stays on its side and the client never runs out of ports.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define REQUEST 100

struct call {
	int fd;
	size_t got;
	bool sent;
	uint64_t start;
};

static void dial(struct call *c, const struct endpoint *e, int epoll)
{
	struct epoll_event ev = { .events = EPOLLOUT, .data.ptr = c };

	c->fd = socket(e->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	c->got = 0;
	c->sent = false;
	c->start = now_ns();
	if (c->fd < 0)
		fail("socket");
	if (connect(c->fd, (const void *)&e->addr, e->len) && errno != EINPROGRESS)
		fail("connect");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &ev))
		fail("epoll_ctl");
}

/* True when the call has its whole answer and the server's close. */
static bool step(struct call *c, int epoll)
{
	static const char request[REQUEST] = "request";
	char answer[2 * REQUEST];
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
	ssize_t n;

	if (!c->sent) {
		if (send(c->fd, request, sizeof(request), MSG_NOSIGNAL) != (ssize_t)sizeof(request))
			fail("connect or send");
		c->sent = true;
		if (epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &ev))
			fail("epoll_ctl");
		return false;
	}
	n = read(c->fd, answer, sizeof(answer));
	if (n > 0)
		c->got += (size_t)n;
	else if (n < 0 && errno != EAGAIN)
		fail("read");
	else if (!n && c->got != REQUEST) {
		fprintf(stderr, "load: the answer ended after %zu of %d bytes\n", c->got, REQUEST);
		exit(1);
	}
	return !n;
}

int crr_client(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	struct call *calls = calloc(l->clients, sizeof(*calls));
	struct epoll_event ev[64];
	struct samples s = {};
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	char congestion[16];
	uint64_t start = now_ns(), end = start + (uint64_t)(l->seconds * 1e9);
	struct cpu before = cpu_used(), after;

	if (!calls || epoll < 0)
		fail("setup");
	for (unsigned i = 0; i < l->clients; i++)
		dial(&calls[i], &e, epoll);
	endpoint_congestion(calls[0].fd, congestion, sizeof(congestion));
	for (unsigned live = l->clients; live;) {
		int n = epoll_wait(epoll, ev, 64, -1);

		for (int i = 0; i < n; i++) {
			struct call *c = ev[i].data.ptr;

			if (!step(c, epoll))
				continue;
			samples_add(&s, now_ns() - c->start);
			close(c->fd);
			if (now_ns() < end)
				dial(c, &e, epoll);
			else
				live--;
		}
	}
	end = now_ns();
	after = cpu_used();
	printf("{\"test\":\"crr\",\"clients\":%u,\"count\":%zu,\"seconds\":%.6f,\"per_second\":%.1f,"
	       "\"p50_us\":%.2f,\"p99_us\":%.2f,\"cpu_user_s\":%.6f,\"cpu_system_s\":%.6f,"
	       "\"congestion\":\"%s\"}\n",
	       l->clients, s.count, (double)(end - start) / 1e9,
	       (double)s.count * 1e9 / (double)(end - start), samples_us(&s, 0.5), samples_us(&s, 0.99),
	       after.user - before.user, after.system - before.system, congestion);
	return 0;
}

static void take(int listener, int epoll)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev))
			fail("accept");
	}
}

int crr_answer(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	int listener = endpoint_listen(&e);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev[64] = { { .events = EPOLLIN, .data.fd = listener } };
	char buf[REQUEST];

	if (fcntl(listener, F_SETFL, O_NONBLOCK) || epoll < 0 ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev[0]))
		fail("epoll");
	for (;;) {
		int n = epoll_wait(epoll, ev, 64, -1);

		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;

			if (fd == listener) {
				take(listener, epoll);
				continue;
			}
			/* a request fits in one segment; what a client that dies leaves is its loss */
			if (read(fd, buf, sizeof(buf)) == REQUEST &&
			    send(fd, buf, sizeof(buf), MSG_NOSIGNAL) != REQUEST)
				fprintf(stderr, "load: an answer was not taken: %s\n", strerror(errno));
			close(fd);
		}
	}
}
