/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to the pod's own app from an address that is nobody's here: with the way back it stands, and the app
 * sees that address. In a network namespace of the test's own, whose addresses are on lo; so this needs root.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "netns.h"
#include "routes.h"

#define ACCEPT "/proc/sys/net/ipv4/tcp_fwmark_accept"
#define REFLECT "/proc/sys/net/ipv4/fwmark_reflect"
#define REFLECT6 "/proc/sys/net/ipv6/fwmark_reflect"
#define WAIT_MS 10000

static int pod;

static int setup(void **state)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int sock;

	(void)state;
	if (unshare(CLONE_NEWNET)) {
		print_error("unshare: %s: run the tests as root\n", strerror(errno));
		return -1;
	}
	pod = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (pod < 0 || sock < 0 || ioctl(sock, SIOCSIFFLAGS, &lo) || netns_home(0))
		return -1;
	close(sock);
	return 0;
}

static int get(const char *path)
{
	FILE *file = fopen(path, "re");
	int value = -1;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &value), 1);
	(void)fclose(file);
	return value;
}

static void put(const char *path, int value)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	(void)fprintf(file, "%d\n", value);
	assert_int_equal(fclose(file), 0);
}

static int mark(void *ctx, int sock, enum abi_path path)
{
	(void)ctx;
	(void)sock;
	return 0;
}

static socklen_t address(struct sockaddr_storage *ret, bool six, const char *text, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (six) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
		return sizeof(*v6);
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons(port);
	assert_int_equal(inet_pton(AF_INET, text, &v4->sin_addr), 1);
	return sizeof(*v4);
}

/* SO_ERROR of a socket of weft's that is bound to `from` and connects to `to`: -1 if nothing comes of it. */
static int dial(bool six, const char *from, const char *to, uint16_t port, int *ret)
{
	static const struct netns_own own = {.mark = mark};
	struct wire_sockets w = {.kind = WIRE_SOCKET_APP, .ipv6 = six, .count = 1};
	struct sockaddr_storage at;
	struct pollfd p = {.events = POLLOUT};
	int sock[WIRE_SOCKET_BATCH], err = -1;
	socklen_t len = sizeof(err);

	assert_int_equal(netns_sockets(pod, &w, &own, sock), 0);
	p.fd = sock[0];
	assert_int_equal(bind(p.fd, (struct sockaddr *)&at, address(&at, six, from, 0)), 0);
	assert_int_equal(connect(p.fd, (struct sockaddr *)&at, address(&at, six, to, port)), -1);
	assert_int_equal(errno, EINPROGRESS);
	if (poll(&p, 1, *ret < 0 ? WAIT_MS : 100) == 1)
		assert_int_equal(getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &err, &len), 0);
	*ret = p.fd;
	return err;
}

static int app(bool six, uint16_t *ret_port)
{
	struct sockaddr_storage at;
	socklen_t len = address(&at, six, six ? "::1" : "127.0.0.1", 0);
	int sock = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(sock, (struct sockaddr *)&at, len), 0);
	assert_int_equal(getsockname(sock, (struct sockaddr *)&at, &len), 0);
	*ret_port = ntohs(((struct sockaddr_in *)&at)->sin_port); /* at the same place in both */
	return sock;
}

static void stands(bool six, const char *from)
{
	struct sockaddr_storage want, peer;
	socklen_t len = sizeof(peer);
	uint16_t port;
	char got[4];
	int listener = app(six, &port), client = -1, server;

	/* Nobody listens yet: it is told so at once, by a RST that finds back too. */
	assert_int_equal(dial(six, from, six ? "::1" : "127.0.0.1", port, &client), ECONNREFUSED);
	close(client);
	client = -1;
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(dial(six, from, six ? "::1" : "127.0.0.1", port, &client), 0);
	server = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
	assert_true(server >= 0);
	len = address(&want, six, from, 0);
	((struct sockaddr_in *)&want)->sin_port = ((struct sockaddr_in *)&peer)->sin_port;
	assert_memory_equal(&want, &peer, len);
	assert_int_equal(send(client, "abc", 3, MSG_NOSIGNAL), 3);
	assert_int_equal(recv(server, got, sizeof(got), 0), 3);
	assert_int_equal(send(server, "defg", 4, MSG_NOSIGNAL), 4);
	assert_int_equal(poll(&(struct pollfd){.fd = client, .events = POLLIN}, 1, WAIT_MS), 1);
	assert_int_equal(recv(client, got, sizeof(got), 0), 4);
	close(server);
	assert_int_equal(poll(&(struct pollfd){.fd = client, .events = POLLIN}, 1, WAIT_MS), 1);
	assert_int_equal(recv(client, got, sizeof(got), 0), 0);
	close(client);
	close(listener);
}

static void falls(bool six, const char *from)
{
	uint16_t port;
	int listener = app(six, &port), client = 0;

	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(dial(six, from, six ? "::1" : "127.0.0.1", port, &client), -1);
	close(client);
	close(listener);
}

static void the_way_back(void **state)
{
	(void)state;
	falls(false, "192.0.2.7");
	assert_int_equal(routes_add(pod), 0);
	assert_int_equal(routes_add(pod), 0); /* again: nothing new */
	assert_int_equal(get(ACCEPT), 1);
	assert_int_equal(get(REFLECT6), 1);
	stands(false, "192.0.2.7");
	stands(true, "2001:db8::7");
	put("/proc/sys/net/ipv4/conf/all/rp_filter", 1);
	put("/proc/sys/net/ipv4/conf/lo/rp_filter", 1);
	stands(false, "192.0.2.7");
	assert_int_equal(routes_remove(pod), 0);
	assert_int_equal(get(ACCEPT) + get(REFLECT) + get(REFLECT6), 0);
	falls(false, "192.0.2.7");
	falls(true, "2001:db8::7");
	assert_int_equal(routes_remove(pod), 0);
}

/* What somebody else had switched on stays on, also if weftd was started again meanwhile. */
static void what_was_on_stays_on(void **state)
{
	(void)state;
	put(ACCEPT, 1);
	assert_int_equal(routes_add(pod), 0);
	assert_int_equal(routes_add(pod), 0);
	assert_int_equal(get(REFLECT), 1);
	assert_int_equal(routes_remove(pod), 0);
	assert_int_equal(get(ACCEPT), 1);
	assert_int_equal(get(REFLECT) + get(REFLECT6), 0);
	put(ACCEPT, 0);
}

static void without_ipv6(void **state)
{
	(void)state;
	put("/proc/sys/net/ipv6/conf/all/disable_ipv6", 1);
	assert_int_equal(routes_add(pod), 0);
	stands(false, "192.0.2.7");
	assert_int_equal(routes_remove(pod), 0);
	put("/proc/sys/net/ipv6/conf/all/disable_ipv6", 0);
	falls(false, "192.0.2.7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_way_back),
		cmocka_unit_test(what_was_on_stays_on),
		cmocka_unit_test(without_ipv6),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
