// SPDX-License-Identifier: Apache-2.0
/* kinds.c: rows about connections that are made in another way: IPv4-mapped, Multipath TCP, Fast Open, not accepted. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <string.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static void see_name(struct side *s, const char *what, int (*of)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int rc = of(s->fd, (void *)&a, &len);

	saw(s, "%s: %s, %s", what, result(rc), a.ss_family == AF_INET6
		? (IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)&a)->sin6_addr) ? "IPv4-mapped" : "IPv6") : "IPv4");
}

static int own_name(int fd, struct sockaddr *a, socklen_t *len)
{
	return getsockname(fd, a, len);
}

static int peer_name(int fd, struct sockaddr *a, socklen_t *len)
{
	return getpeername(fd, a, len);
}

/* A conversation in which each message is looked at, then the end. */
static void ask_all(struct side *s)
{
	char data[32], wanted[32];
	int right = 0;

	see_name(s, "own address", own_name);
	see_name(s, "peer's address", peer_name);
	for (int i = 0; i < 100; i++) {
		snprintf(data, sizeof(data), "question %08d", i);
		snprintf(wanted, sizeof(wanted), "answerto %08d", i);
		put(s, data, 17);
		get(s, data, 17);
		right += !memcmp(data, wanted, 17);
	}
	saw(s, "%d answers right", right);
	must(s, shutdown(s->fd, SHUT_WR));
	see_end(s);
}

static void answer_all(struct side *s)
{
	char data[32];

	see_name(s, "own address", own_name);
	see_name(s, "peer's address", peer_name);
	for (int i = 0; i < 100; i++) {
		get(s, data, 17);
		memcpy(data, "answerto", 8);
		put(s, data, 17);
	}
	see_end(s);
	must(s, shutdown(s->fd, SHUT_WR));
}

/* ------------------------------------------------------------------ 34: Fast Open */

static void fast_open(struct side *s)
{
	static const char path[] = "/proc/sys/net/ipv4/tcp_fastopen"; /* of the network namespace that we are in */
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	must(s, fd);
	must(s, write(fd, "3", 1));
	close(fd);
	see_option(s, "TCP_FASTOPEN_NO_COOKIE", IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1);
	if (!s->client)
		see_option(s, "TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, 16);
}

static void send_with_syn(struct side *s)
{
	struct tcp_info i = {};
	socklen_t len = sizeof(i);
	ssize_t n = sendto(s->fd, "abc", 3, MSG_FASTOPEN | MSG_NOSIGNAL, (void *)&s->address, s->address_len);

	saw(s, "sendto(\"abc\", FASTOPEN) = %s", result(n));
	must(s, fcntl(s->fd, F_SETFL, O_NONBLOCK));
	put_text(s, "def");
	delivered(s);
	must(s, getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &i, &len));
	saw(s, "data in SYN %s", i.tcpi_options & TCPI_OPT_SYN_DATA ? "was taken" : "was not taken");
	tell(s, 0);
	hear(s);
	ask_all(s);
}

static void accept_with_data(struct side *s)
{
	s->fd = (int)must(s, accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	hear(s);
	see_recv(s, 100, 0);
	tell(s, 0);
	answer_all(s);
}

/* ------------------------------------------------------------------ 41: before accept() */

static void write_before_accept(struct side *s)
{
	unsigned char data[8192];
	size_t total = 0;
	ssize_t n;

	must(s, connect(s->fd, (void *)&s->address, s->address_len));
	must(s, fcntl(s->fd, F_SETFL, O_NONBLOCK));
	do {
		pattern(data, sizeof(data), total);
		n = send(s->fd, data, sizeof(data), MSG_NOSIGNAL);
		total += n > 0 ? (size_t)n : 0;
	} while ((n > 0 || (errno == EAGAIN && wait_for(s->fd, POLLOUT, 100))) && total < (32u << 20));
	saw(s, "send = %s after %s", n < 0 ? result(n) : "taken", total < (32u << 20) ? "some" : "all of 32 MiB");
	tell(s, (long)total);
	hear(s);
	see_poll(s, POLLIN | POLLOUT | POLLRDHUP, 2000);
}

static void accept_late(struct side *s)
{
	static unsigned char data[8192];
	size_t total = (size_t)hear(s), got = 0;
	bool right = true;

	s->fd = (int)must(s, accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	while (got < total) {
		size_t len = total - got < sizeof(data) ? total - got : sizeof(data);

		get(s, data, len);
		right = right && pattern_holds(data, len, got);
		got += len;
	}
	saw(s, "all that was written came, %s", right ? "right" : "wrong");
	tell(s, 0);
}

/* The client ends before the server has accepted. */
static void come_and_go(struct side *s)
{
	must(s, connect(s->fd, (void *)&s->address, s->address_len));
	see_send(s, "abcde", 0);
	saw(s, "close = %s", result(close(s->fd)));
	tell(s, 0);
}

static void accept_the_gone(struct side *s)
{
	hear(s);
	s->fd = (int)must(s, accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	if (!wait_for(s->fd, POLLRDHUP, 3000))
		saw(s, "no end");
	see_recv(s, 100, 0);
	see_recv(s, 100, 0);
}

const struct row kinds_rows[] = {
	{ "31", "mapped-client", "an IPv6 socket connects to an IPv4-mapped address", ask_all, answer_all,
	  .flags = ROW_FAMILY6 },
	{ "31", "dual-stack", "an IPv4 client of a server on ::", ask_all, answer_all, .flags = ROW_SERVER6 },
	{ "32", "mptcp-listener", "a plain client of a Multipath TCP listener", ask_all, answer_all,
	  .server_protocol = IPPROTO_MPTCP },
	{ "33", "mptcp", "Multipath TCP on both ends", ask_all, answer_all, .server_protocol = IPPROTO_MPTCP,
	  .client_protocol = IPPROTO_MPTCP },
	{ "34", "fast-open", "data in the SYN, more right behind it", send_with_syn, accept_with_data,
	  .flags = ROW_BARE, .before = fast_open },
	{ "41", "unaccepted", "the client writes until it is stopped before the server accepts", write_before_accept,
	  accept_late, .flags = ROW_BARE },
	{ "41", "gone-before-accept", "the client writes and closes before the server accepts", come_and_go,
	  accept_the_gone, .flags = ROW_BARE },
	{},
};
