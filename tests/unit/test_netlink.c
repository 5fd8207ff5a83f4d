/* SPDX-License-Identifier: Apache-2.0 */
/* Ending connections: real sockets in a network namespace of the test's own, so this needs root. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "netlink.h"

static int diag;

static int setup(void **state)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int sock;

	if (unshare(CLONE_NEWNET) < 0) {
		print_error("unshare: %s: run the tests as root\n", strerror(errno));
		return -1;
	}
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ioctl(sock, SIOCSIFFLAGS, &lo) < 0)
		return -1;
	close(sock);
	diag = netlink_diag_open();
	return diag < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	close(diag);
	return 0;
}

/* ------------------------------------------------------------------ connections over lo */

enum family { V4,
	      V6,
	      MAPPED }; /* MAPPED: both ends AF_INET6 sockets with ::ffff:127.0.0.1 */

struct conn {
	int client, server;
};

static int listener(enum family family, struct sockaddr_in6 *ret_at)
{
	int sock = socket(family == V4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *text = family == V6 ? "::1" : "::ffff:127.0.0.1";
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(*ret_at);

	memset(ret_at, 0, sizeof(*ret_at));
	ret_at->sin6_family = AF_INET6;
	assert_int_equal(inet_pton(AF_INET6, text, &ret_at->sin6_addr), 1);
	if (family == V4)
		memcpy(ret_at, &v4, sizeof(v4));
	assert_int_equal(bind(sock, (struct sockaddr *)ret_at, family == V4 ? sizeof(v4) : len), 0);
	assert_int_equal(listen(sock, 128), 0);
	assert_int_equal(getsockname(sock, (struct sockaddr *)ret_at, &len), 0);
	return sock;
}

static struct conn connected(enum family family)
{
	struct sockaddr_in6 at;
	struct conn c;
	int door = listener(family, &at);
	socklen_t len = family == V4 ? sizeof(struct sockaddr_in) : sizeof(at);

	c.client = socket(family == V4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c.client, (struct sockaddr *)&at, len), 0);
	c.server = accept(door, NULL, NULL);
	assert_true(c.server >= 0);
	close(door);
	return c;
}

static void side(int (*name)(int, struct sockaddr *restrict, socklen_t *restrict), int sock,
		 struct abi_addr *ret_addr, uint16_t *ret_port)
{
	struct sockaddr_in6 at;
	socklen_t len = sizeof(at);

	assert_int_equal(name(sock, (struct sockaddr *)&at, &len), 0);
	*ret_port = ntohs(at.sin6_port);
	if (at.sin6_family == AF_INET) {
		*ret_addr = (struct abi_addr){{[10] = 0xff, [11] = 0xff}};
		memcpy(ret_addr->byte + 12, &((struct sockaddr_in *)(void *)&at)->sin_addr, 4);
	} else {
		memcpy(ret_addr->byte, &at.sin6_addr, 16);
	}
}

static struct wire_destroy what(int sock, enum family family)
{
	struct wire_destroy d = {.ipv6_socket = family != V4};
	socklen_t len = sizeof(d.cookie);

	assert_int_equal(getsockopt(sock, SOL_SOCKET, SO_COOKIE, &d.cookie, &len), 0);
	side(getsockname, sock, &d.local, &d.local_port);
	side(getpeername, sock, &d.remote, &d.remote_port);
	return d;
}

static void must_be_alive(const struct conn *c)
{
	char byte = 'x';

	assert_int_equal(send(c->client, &byte, 1, MSG_NOSIGNAL), 1);
	assert_int_equal(recv(c->server, &byte, 1, 0), 1);
}

static int pending_error(int sock)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	socklen_t len = sizeof(int);
	int error = 0;

	assert_int_equal(poll(&p, 1, 20000), 1); /* told at once, not at the next timeout */
	assert_int_equal(getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return error;
}

static void shut(const struct conn *c)
{
	close(c->client);
	close(c->server);
}

static void ends_both_sides(enum family family)
{
	struct conn c = connected(family), bystander = connected(family);
	struct wire_destroy d = what(c.client, family), back = what(c.server, family);

	must_be_alive(&c);
	assert_int_equal(netlink_diag_destroy(diag, &d), 0);
	assert_int_equal(pending_error(c.client), ECONNABORTED);
	assert_int_equal(pending_error(c.server), ECONNRESET);
	assert_int_equal(netlink_diag_destroy(diag, &d), -ENOENT); /* gone */
	assert_int_equal(netlink_diag_destroy(diag, &back), -ENOENT);
	must_be_alive(&bystander);
	shut(&c);
	shut(&bystander);
}

static void ipv4(void **state)
{
	ends_both_sides(V4);
}

static void ipv6(void **state)
{
	ends_both_sides(V6);
}

static void mapped(void **state)
{
	ends_both_sides(MAPPED);
}

/* ------------------------------------------------------------------ only what was meant */

static void another_cookie_is_another_connection(void **state)
{
	struct conn c = connected(V4);
	struct wire_destroy d = what(c.client, V4), wrong = d;

	wrong.cookie++;
	assert_int_equal(netlink_diag_destroy(diag, &wrong), -ENOENT);
	wrong.cookie = d.cookie | 1ull << 40;
	assert_int_equal(netlink_diag_destroy(diag, &wrong), -ENOENT);
	must_be_alive(&c);
	shut(&c);
}

/* INET_DIAG_NOCOOKIE would end whatever has the addresses. */
static void no_cookie_is_refused(void **state)
{
	struct conn c = connected(V4);
	struct wire_destroy d = what(c.client, V4);

	d.cookie = 0;
	assert_int_equal(netlink_diag_destroy(diag, &d), -EINVAL);
	d.cookie = UINT64_MAX;
	assert_int_equal(netlink_diag_destroy(diag, &d), -EINVAL);
	d = what(c.client, V4);
	d.local.byte[0] = 0xfd; /* an AF_INET socket has no IPv6 address */
	assert_int_equal(netlink_diag_destroy(diag, &d), -EINVAL);
	must_be_alive(&c);
	shut(&c);
}

/* Nothing has the tuple, but a listener has the port: the kernel finds that one, and the cookie saves it. */
static void a_listener_behind_the_tuple_stays(void **state)
{
	struct sockaddr_in6 at;
	int door = listener(V4, &at), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct wire_destroy d = {.cookie = 12345, .remote_port = 9, .local_port = ntohs(at.sin6_port)};

	assert_int_equal(addr_parse("127.0.0.1", &d.local), 0);
	assert_int_equal(addr_parse("127.0.0.9", &d.remote), 0);
	assert_int_equal(netlink_diag_destroy(diag, &d), -ENOENT);
	assert_int_equal(connect(client, (struct sockaddr *)&at, sizeof(struct sockaddr_in)), 0);
	close(client);
	close(door);
}

/* ------------------------------------------------------------------ many */

static void many_at_once(void **state)
{
	enum { CONNS = 601 }; /* several threads, and a batch that is not full */
	struct conn c[CONNS];
	struct wire_destroy d[CONNS];
	int result[CONNS];
	unsigned i;

	for (i = 0; i < CONNS; i++) {
		enum family family = (enum family)(i % 3);

		c[i] = connected(family);
		d[i] = what(i % 2 ? c[i].client : c[i].server, family);
		if (i % 5 == 1)
			d[i].cookie += 1000000; /* stays */
		if (i % 5 == 2)
			d[i].cookie = 0;
	}
	assert_int_equal(netlink_diag_destroy_many(diag, d, CONNS, result), 0);
	for (i = 0; i < CONNS; i++) {
		assert_int_equal(result[i], i % 5 == 1 ? -ENOENT : i % 5 == 2 ? -EINVAL
									      : 0);
		if (result[i])
			must_be_alive(&c[i]);
		else
			assert_int_equal(pending_error(i % 2 ? c[i].client : c[i].server), ECONNABORTED);
		shut(&c[i]);
	}
	assert_int_equal(netlink_diag_destroy_many(diag, d, 0, result), 0);
}

static void a_socket_that_fails_says_so_for_each(void **state)
{
	struct conn c = connected(V4);
	struct wire_destroy d[3] = {what(c.client, V4), what(c.server, V4), {.cookie = 0}};
	int result[3];

	assert_int_equal(netlink_diag_destroy_many(-1, d, 3, result), -EBADF);
	assert_int_equal(result[0], -EBADF);
	assert_int_equal(result[1], -EBADF);
	assert_int_equal(result[2], -EINVAL);
	assert_int_equal(netlink_diag_destroy(-1, d), -EBADF);
	must_be_alive(&c);
	shut(&c);
}

/* The socket belongs to the namespace in which it was opened, wherever the thread is. */
static void the_namespace_is_that_of_the_open(void **state)
{
	struct conn c = connected(V4);
	struct wire_destroy d = what(c.client, V4);
	int here = netlink_diag_open(), there;

	assert_int_equal(unshare(CLONE_NEWNET), 0); /* the last test: it stays there */
	there = netlink_diag_open();
	assert_int_equal(netlink_diag_destroy(there, &d), -ENOENT);
	must_be_alive(&c);
	assert_int_equal(netlink_diag_destroy(here, &d), 0);
	assert_int_equal(pending_error(c.client), ECONNABORTED);
	shut(&c);
	close(here);
	close(there);
}

static void the_probe_passes_here(void **state)
{
	assert_int_equal(netlink_diag_probe(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_probe_passes_here),
		cmocka_unit_test(ipv4),
		cmocka_unit_test(ipv6),
		cmocka_unit_test(mapped),
		cmocka_unit_test(another_cookie_is_another_connection),
		cmocka_unit_test(no_cookie_is_refused),
		cmocka_unit_test(a_listener_behind_the_tuple_stays),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(a_socket_that_fails_says_so_for_each),
		cmocka_unit_test(the_namespace_is_that_of_the_open),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
