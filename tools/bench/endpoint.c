// SPDX-License-Identifier: Apache-2.0
/* endpoint.c: sockets of the load programs, TCP and AF_UNIX alike. See load.h. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

static bool parse_unix(const char *path, struct endpoint *ret)
{
	struct sockaddr_un *un = (void *)&ret->addr;

	if (strlen(path) >= sizeof(un->sun_path))
		return false;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, strlen(path) + 1);
	ret->len = sizeof(*un);
	return true;
}

static bool parse_ip(const char *text, struct endpoint *ret)
{
	struct sockaddr_in6 *in6 = (void *)&ret->addr;
	struct sockaddr_in *in = (void *)&ret->addr;
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	size_t len = colon ? (size_t)(colon - text) : sizeof(host);
	unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;

	if (len >= sizeof(host) || !port || port > 65535)
		return false;
	memcpy(host, text, len);
	host[len] = 0;
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = 0;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		ret->len = sizeof(*in6);
		return inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1;
	}
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	ret->len = sizeof(*in);
	return inet_pton(AF_INET, host, &in->sin_addr) == 1;
}

struct endpoint endpoint_parse(const char *text)
{
	struct endpoint e = {};

	if (strncmp(text, "unix:", 5) ? parse_ip(text, &e) : parse_unix(text + 5, &e))
		return e;
	fprintf(stderr, "load: %s is no endpoint: 10.0.0.1:80, [fd00::1]:80 or unix:/path\n", text);
	exit(2);
}

static int listen_at(const struct endpoint *e, int kind, int option)
{
	int fd = socket(e->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | kind, 0);
	int one = 1;

	if (fd < 0)
		fail("socket");
	if (e->addr.ss_family == AF_UNIX)
		unlink(((const struct sockaddr_un *)&e->addr)->sun_path);
	else if (setsockopt(fd, SOL_SOCKET, option, &one, sizeof(one)))
		fail("SO_REUSEADDR");
	if (bind(fd, (const void *)&e->addr, e->len))
		fail("bind");
	if (listen(fd, 1024))
		fail("listen");
	return fd;
}

int endpoint_listen(const struct endpoint *e)
{
	return listen_at(e, 0, SO_REUSEADDR);
}

int endpoint_listen_shared(const struct endpoint *e)
{
	return listen_at(e, SOCK_NONBLOCK, SO_REUSEPORT);
}

void endpoint_nodelay(int fd)
{
	int one = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) && errno != EOPNOTSUPP)
		fail("TCP_NODELAY");
}

static void prepare(int fd, const struct load *l)
{
	if (l->nodelay)
		endpoint_nodelay(fd);
	if (!l->blocking && fcntl(fd, F_SETFL, O_NONBLOCK))
		fail("O_NONBLOCK");
}

int endpoint_accept(int listener, const struct load *l)
{
	int fd;

	do
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0)
		fail("accept");
	prepare(fd, l);
	return fd;
}

int endpoint_connect(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	int fd = socket(e.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (connect(fd, (void *)&e.addr, e.len))
		fail("connect");
	prepare(fd, l);
	return fd;
}

void endpoint_congestion(int fd, char *ret_name, size_t size)
{
	socklen_t len = (socklen_t)size - 1;

	memset(ret_name, 0, size);
	if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, ret_name, &len))
		ret_name[0] = '-';
}

struct waiter waiter_open(int fd, bool blocking)
{
	struct waiter w = {.fd = fd, .epoll = -1};
	struct epoll_event ev = {.events = EPOLLIN};

	if (blocking)
		return w;
	w.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w.epoll < 0 || epoll_ctl(w.epoll, EPOLL_CTL_ADD, fd, &ev))
		fail("epoll");
	w.armed = EPOLLIN;
	return w;
}

void waiter_close(struct waiter *w)
{
	if (w->epoll >= 0)
		close(w->epoll);
	close(w->fd);
}

/* Until the socket has one of `events`; the interest is changed only when it has to be, as servers do. */
static void wait_for(struct waiter *w, uint32_t events)
{
	struct epoll_event ev = {.events = events};

	if (w->armed != events && epoll_ctl(w->epoll, EPOLL_CTL_MOD, w->fd, &ev))
		fail("epoll_ctl");
	w->armed = events;
	while (epoll_wait(w->epoll, &ev, 1, -1) < 0) {
		if (errno != EINTR)
			fail("epoll_wait");
	}
}

/* A blocking socket may give EAGAIN too, when a sockmap program is on it: that is for the tests to see. */
static bool again(struct waiter *w, uint32_t events)
{
	if (errno == EINTR)
		return true;
	if (errno != EAGAIN || w->epoll < 0)
		return false;
	wait_for(w, events);
	return true;
}

size_t waiter_read_some(struct waiter *w, void *buf, size_t size)
{
	ssize_t n;

	if (w->epoll >= 0)
		wait_for(w, EPOLLIN);
	do
		n = read(w->fd, buf, size);
	while (n < 0 && again(w, EPOLLIN));
	if (n < 0 && errno != ECONNRESET)
		fail("read");
	return n > 0 ? (size_t)n : 0;
}

bool waiter_read(struct waiter *w, void *buf, size_t size)
{
	for (size_t got = 0; got < size;) {
		size_t n = waiter_read_some(w, (char *)buf + got, size - got);

		if (!n)
			return false;
		got += n;
	}
	return true;
}

bool waiter_write(struct waiter *w, const void *buf, size_t size)
{
	for (size_t sent = 0; sent < size;) {
		ssize_t n = send(w->fd, (const char *)buf + sent, size - sent, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else if (n < 0 && again(w, EPOLLOUT))
			continue;
		else if (errno == EPIPE || errno == ECONNRESET)
			return false;
		else
			fail("write");
	}
	return true;
}
