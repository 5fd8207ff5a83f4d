// SPDX-License-Identifier: Apache-2.0
/*
 * crowd.c: many connections at once. A client says with the first bytes of each what it wants: bulk to the server, bulk
 * from it, or one byte back and then silence.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS 64
#define CHUNK (128u << 10) /* of one write, as iperf3 has it */
#define READ (256u << 10)
#define TURN 4	 /* of those before the others have their turn; epoll is level-triggered */
#define DIALS 64 /* idle: connections that are being made at once */

enum want { WANT_WRITE = 'w',
	    WANT_READ = 'r',
	    WANT_IDLE = 'i' };

/* Of both ends on one machine: host byte order. */
struct ask {
	uint64_t want;
	uint64_t last_ns; /* WANT_READ: how long, from when it is read */
};

struct member {
	int fd;
	struct ask ask;
	size_t got; /* bytes of ask */
	uint64_t bytes;
	uint64_t until_ns; /* writes */
	bool asked; /* client: it was sent */
	bool writes;
};

static void rearm(int epoll, struct member *m, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = m};

	if (epoll_ctl(epoll, EPOLL_CTL_MOD, m->fd, &ev))
		fail("epoll_ctl");
}

/* Bulk out. True: it is over, and the end was said. */
static bool write_some(struct member *m, int epoll)
{
	for (int i = 0; i < TURN; i++) {
		ssize_t n;

		if (now_ns() >= m->until_ns) {
			if (shutdown(m->fd, SHUT_WR))
				fail("shutdown");
			m->writes = false;
			rearm(epoll, m, EPOLLIN);
			return true;
		}
		n = send(m->fd, pattern_at(0), CHUNK, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0)
			fail("write");
		m->bytes += (uint64_t)n;
	}
	return false;
}

/* Bulk in. True: the peer has ended. */
static bool read_some(struct member *m, void *buf)
{
	for (int i = 0; i < TURN; i++) {
		ssize_t n = recv(m->fd, buf, READ, 0);

		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0)
			fail("read");
		if (!n)
			return true;
		m->bytes += (uint64_t)n;
		if (n < (ssize_t)READ)
			return false;
	}
	return false;
}

/* ------------------------------------------------------------------ server */

static void take(int listener, int epoll)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct member *m;
		struct epoll_event ev = {.events = EPOLLIN};

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		m = ev.data.ptr = calloc(1, sizeof(*m));
		if (fd < 0 || !m)
			fail("accept");
		m->fd = fd;
		endpoint_nodelay(fd);
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev))
			fail("epoll_ctl");
	}
}

/* True: the connection is over. */
static bool serve_ask(struct member *m, int epoll)
{
	ssize_t n = recv(m->fd, (char *)&m->ask + m->got, sizeof(m->ask) - m->got, 0);

	if (n <= 0)
		return n == 0 || errno != EAGAIN;
	m->got += (size_t)n;
	if (m->got < sizeof(m->ask))
		return false;
	if (m->ask.want == WANT_IDLE)
		return send(m->fd, "i", 1, MSG_NOSIGNAL) != 1;
	m->writes = m->ask.want == WANT_READ;
	m->until_ns = now_ns() + m->ask.last_ns;
	if (m->writes)
		rearm(epoll, m, EPOLLOUT);
	return false;
}

static bool serve_member(struct member *m, int epoll, void *buf)
{
	if (m->got < sizeof(m->ask))
		return serve_ask(m, epoll);
	if (m->writes) {
		write_some(m, epoll);
		return false;
	}
	if (m->ask.want == WANT_IDLE)
		return recv(m->fd, buf, READ, 0) == 0 || errno != EAGAIN;
	if (!read_some(m, buf))
		return false;
	if (m->ask.want == WANT_WRITE && send(m->fd, &m->bytes, sizeof(m->bytes), MSG_NOSIGNAL) < 0)
		fprintf(stderr, "load: the writer is gone after %llu bytes\n", (unsigned long long)m->bytes);
	return true;
}

int crowd_server(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	int listener = endpoint_listen(&e);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev[EVENTS] = {{.events = EPOLLIN}};
	void *buf = malloc(READ);

	if (!buf || fcntl(listener, F_SETFL, O_NONBLOCK) || epoll < 0 ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev[0]))
		fail("epoll");
	for (;;) {
		int n = epoll_wait(epoll, ev, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct member *m = ev[i].data.ptr;

			if (!m) {
				take(listener, epoll);
			} else if (serve_member(m, epoll, buf)) {
				close(m->fd);
				free(m);
			}
		}
	}
}

/* ------------------------------------------------------------------ clients */

static void dial(struct member *m, const struct endpoint *e, int epoll)
{
	struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = m};

	m->fd = socket(e->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->fd < 0)
		fail("socket");
	endpoint_nodelay(m->fd);
	if (connect(m->fd, (const void *)&e->addr, e->len) && errno != EINPROGRESS)
		fail("connect");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, m->fd, &ev))
		fail("epoll_ctl");
}

static void ask(struct member *m, enum want want, uint64_t last, int epoll)
{
	m->ask = (struct ask){.want = want, .last_ns = last};
	m->until_ns = now_ns() + last;
	if (send(m->fd, &m->ask, sizeof(m->ask), MSG_NOSIGNAL) != (ssize_t)sizeof(m->ask))
		fail("connect or send");
	/* Who only reads says so: Envoy resets a stream whose server ends before its client. */
	if (want == WANT_READ && shutdown(m->fd, SHUT_WR))
		fail("shutdown");
	m->asked = true;
	m->writes = want == WANT_WRITE;
	if (!m->writes)
		rearm(epoll, m, EPOLLIN);
}

/* True: its last byte is there, and the numbers agree. */
static bool bulk_step(struct member *m, bool reverse, uint64_t last, int epoll, void *buf)
{
	uint64_t got;
	ssize_t n;

	if (!m->asked) {
		ask(m, reverse ? WANT_READ : WANT_WRITE, last, epoll);
		return false;
	}
	if (reverse)
		return read_some(m, buf);
	if (m->writes) {
		write_some(m, epoll);
		return false;
	}
	n = recv(m->fd, &got, sizeof(got), 0);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n != (ssize_t)sizeof(got) || got != m->bytes) {
		fprintf(stderr, "load: the server got %llu of %llu bytes\n",
			n == (ssize_t)sizeof(got) ? (unsigned long long)got : 0, (unsigned long long)m->bytes);
		exit(1);
	}
	return true;
}

static void bulk_print(const struct load *l, const struct member *m, uint64_t took, struct cpu before,
		       const char *congestion)
{
	struct cpu after = cpu_used();
	uint64_t sum = 0, least = UINT64_MAX, most = 0;

	for (unsigned i = 0; i < l->clients; i++) {
		sum += m[i].bytes;
		least = m[i].bytes < least ? m[i].bytes : least;
		most = m[i].bytes > most ? m[i].bytes : most;
	}
	printf("{\"test\":\"bulk\",\"clients\":%u,\"bytes\":%llu,\"least\":%llu,\"most\":%llu,"
	       "\"seconds\":%.6f,\"mb_s\":%.2f,\"cpu_user_s\":%.6f,\"cpu_system_s\":%.6f,"
	       "\"congestion\":\"%s\"}\n",
	       l->clients, (unsigned long long)sum, (unsigned long long)least, (unsigned long long)most,
	       (double)took / 1e9, (double)sum * 1e3 / (double)took, after.user - before.user,
	       after.system - before.system, congestion);
}

int crowd_bulk(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	struct member *m = calloc(l->clients, sizeof(*m));
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev[EVENTS];
	void *buf = malloc(READ);
	char congestion[16];
	struct cpu before = cpu_used();
	uint64_t start = now_ns(), last = (uint64_t)(l->seconds * 1e9);

	if (!m || !buf || epoll < 0)
		fail("setup");
	for (unsigned i = 0; i < l->clients; i++)
		dial(&m[i], &e, epoll);
	endpoint_congestion(m[0].fd, congestion, sizeof(congestion));
	for (unsigned live = l->clients; live;) {
		int n = epoll_wait(epoll, ev, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct member *x = ev[i].data.ptr;

			if (bulk_step(x, l->reverse, last, epoll, buf)) {
				close(x->fd);
				live--;
			}
		}
	}
	bulk_print(l, m, now_ns() - start, before, congestion);
	return 0;
}

int crowd_idle(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	struct member *m = calloc(l->clients, sizeof(*m));
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev[EVENTS];
	unsigned dialled = 0, stand = 0;
	uint64_t start = now_ns();
	char c;

	if (!m || epoll < 0)
		fail("setup");
	while (stand < l->clients) {
		while (dialled < l->clients && dialled - stand < DIALS)
			dial(&m[dialled++], &e, epoll);
		for (int i = 0, n = epoll_wait(epoll, ev, EVENTS, -1); i < n; i++) {
			struct member *x = ev[i].data.ptr;

			if (!x->asked) {
				ask(x, WANT_IDLE, 0, epoll);
				continue;
			}
			if (recv(x->fd, &c, 1, 0) != 1 || epoll_ctl(epoll, EPOLL_CTL_DEL, x->fd, NULL))
				fail("an idle connection");
			stand++;
		}
	}
	printf("{\"test\":\"idle\",\"clients\":%u,\"seconds\":%.6f}\n", l->clients,
	       (double)(now_ns() - start) / 1e9);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}
