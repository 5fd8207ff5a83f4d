/* SPDX-License-Identifier: Apache-2.0 */
/* sock.c: see guest.h. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int sock_listen(unsigned port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;

	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 4096))
		die("port %u", port);
	return fd;
}

static void prompt(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

int sock_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		prompt(fd);
	return fd;
}

int sock_connect(const char *address, unsigned port, int fd)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	const void *to = strchr(address, ':') ? (const void *)&v6 : (const void *)&v4;
	socklen_t size = to == &v6 ? sizeof(v6) : sizeof(v4);
	int family = to == &v6 ? AF_INET6 : AF_INET;

	errno = 0;
	if (inet_pton(family, address, to == &v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) != 1)
		die("\"%s\" is no address", address);
	if (fd < 0)
		fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	prompt(fd);
	if (connect(fd, to, size) && errno != EINPROGRESS) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

bool sock_wait(int fd, short events, unsigned timeout_ms)
{
	uint64_t end = now_ns() + timeout_ms * 1000000ull;
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = now_ns();
		int n = poll(&p, 1, now < end ? (int)((end - now) / 1000000 + 1) : 0);

		if (n > 0)
			return true;
		if (!n && now_ns() >= end)
			return false;
		if (n < 0 && errno != EINTR)
			die("poll");
	}
}

int sock_error(int fd)
{
	socklen_t size = sizeof(int);
	int err = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) ? -errno : -err;
}
