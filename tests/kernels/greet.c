/* SPDX-License-Identifier: Apache-2.0 */
/* greet.c: who is behind an address: greet and ask; see guest.h. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS 8
#define PATIENCE_MS 10000

int greet(int argc, char **argv)
{
	struct pollfd p[PORTS];
	int n = argc - 2;

	if (n < 1 || n > PORTS)
		die("usage: greet NAME PORT...");
	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = sock_listen((unsigned)number(argv[i + 2], 1, 65535)), .events = POLLIN};
	for (;;) {
		if (poll(p, (nfds_t)n, -1) < 0)
			die("poll");
		for (int i = 0; i < n; i++) {
			int fd = sock_accept(p[i].fd);

			if (fd < 0)
				continue;
			(void)dprintf(fd, "%s %s", argv[1], argv[i + 2]);
			close(fd);
		}
	}
}

/* The peer as the app sees it: a service's client must see the address that it asked for. */
static void print_peer(int fd)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);
	char text[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in6 *v6 = (const void *)&peer;
	const struct sockaddr_in *v4 = (const void *)&peer;

	if (getpeername(fd, (struct sockaddr *)&peer, &size))
		die("getpeername");
	if (peer.ss_family == AF_INET6)
		(void)inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
	else
		(void)inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
	(void)printf(" %s %u\n", text, ntohs(peer.ss_family == AF_INET6 ? v6->sin6_port : v4->sin_port));
}

static void ask_once(const char *address, unsigned port)
{
	int fd = sock_connect(address, port, -1), err = fd < 0 ? fd : 0;
	char text[100];
	size_t len = 0;

	if (!err && !sock_wait(fd, POLLOUT, PATIENCE_MS))
		err = -ETIMEDOUT;
	if (!err)
		err = sock_error(fd);
	while (!err) {
		ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

		if (!n)
			break;
		if (n > 0)
			len += (size_t)n;
		else if (errno != EAGAIN)
			err = -errno;
		else if (!sock_wait(fd, POLLIN, PATIENCE_MS))
			err = -ETIMEDOUT;
	}
	if (err) {
		(void)printf("%s\n", strerrorname_np(-err));
	} else {
		text[len] = '\0';
		(void)fputs(text, stdout);
		if (len)
			print_peer(fd);
		else
			(void)puts("nothing"); /* accepted, then closed without a word */
	}
	if (fd >= 0)
		close(fd);
}

int ask(int argc, char **argv)
{
	unsigned long count;

	if (argc != 4)
		die("usage: ask ADDRESS PORT COUNT");
	count = number(argv[3], 1, 100000);
	while (count--)
		ask_once(argv[1], (unsigned)number(argv[2], 1, 65535));
	return 0;
}
