/* SPDX-License-Identifier: Apache-2.0 */
/* TCP streams that are still to be connected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "owner.h"

static int unconnected(int family)
{
	return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static void connects(void **state)
{
	const int families[][2] = {{AF_INET, AF_INET}, {AF_INET6, AF_INET6}, {AF_INET6, AF_INET}};
	struct abi_addr addr, peer, other;
	uint16_t port, peer_port, other_port;
	struct owner o;
	struct stream *s;
	unsigned i;
	int fd;

	for (i = 0; i < array_size(families); i++) {
		int listening = listener(families[i][1], &addr, &port, 1);

		s = own(sock_connect(thread, unconnected(families[i][0]), &addr, port, 5000 * MS), &o);
		assert_int_equal(o.opened, 0);
		assert_int_equal(stream_room(s), 0);
		assert_int_equal(peeked(s, 10), 0);
		UNTIL(o.opened == 1);
		assert_int_equal(o.failed, 0);
		assert_true(o.writable <= 1);
		assert_int_equal(stream_room(s), SIZE_MAX);
		fd = accept(listening, NULL, NULL);
		assert_int_equal(sock_peer(sock_fd(s), &peer, &peer_port), 0);
		assert_true(addr_equal(&peer, &addr));
		assert_int_equal(peer_port, port);
		assert_int_equal(sock_local(sock_fd(s), &peer, &peer_port), 0);
		assert_int_equal(sock_peer(fd, &other, &other_port), 0);
		assert_true(addr_equal(&peer, &other));
		assert_int_equal(peer_port, other_port);
		stream_close(s, "done");
		close(fd);
		close(listening);
		rest();
	}
	assert_true(sock_peer(-1, &peer, &peer_port) < 0);
}

static void finished_before_it_stands(void **state)
{
	struct abi_addr addr;
	uint16_t port;
	struct owner o;
	struct stream *s;
	char c;
	int fd, listening = listener(AF_INET, &addr, &port, 1);

	s = own(sock_connect(thread, unconnected(AF_INET), &addr, port, 5000 * MS), &o);
	stream_finish(s);
	UNTIL(o.opened);
	fd = accept(listening, NULL, NULL);
	assert_int_equal(read(fd, &c, 1), 0);
	close(fd);
	close(listening);
	stream_close(s, NULL);
	rest();
}

static const char *why_not(int family, const struct abi_addr *addr, uint16_t port, uint64_t timeout_ns)
{
	struct owner o;
	struct stream *s = own(sock_connect(thread, unconnected(family), addr, port, timeout_ns), &o);
	const char *why;

	assert_int_equal(o.failed, 0);
	UNTIL(o.failed == 1);
	assert_int_equal(o.opened, 0);
	why = s->why;
	stream_close(s, why);
	rest();
	return why;
}

static void refused(void **state)
{
	struct abi_addr addr;
	uint16_t port;

	close(listener(AF_INET, &addr, &port, 1));
	assert_string_equal(why_not(AF_INET, &addr, port, 5000 * MS), "refused");
	close(listener(AF_INET6, &addr, &port, 1));
	assert_string_equal(why_not(AF_INET6, &addr, port, 5000 * MS), "refused");
}

static void no_route(void **state)
{
	struct abi_addr addr;

	assert_int_equal(addr_parse("fd00::1", &addr), 0);
	assert_string_equal(why_not(AF_INET, &addr, 80, 5000 * MS), "no route");
}

/* A listener whose backlog is full drops SYNs. */
static void connect_times_out(void **state)
{
	struct abi_addr addr;
	uint16_t port;
	struct owner o[4];
	struct stream *s[4];
	unsigned i;
	uint64_t before;
	int listening = listener(AF_INET, &addr, &port, 0);

	for (i = 0; i < 4; i++)
		s[i] = own(sock_connect(thread, unconnected(AF_INET), &addr, port, 60000 * MS), &o[i]);
	rest();
	assert_int_equal(o[3].opened, 0);
	before = clock_ns();
	assert_string_equal(why_not(AF_INET, &addr, port, 30 * MS), "timed out");
	assert_true(clock_ns() - before >= 30 * MS);
	for (i = 0; i < 4; i++)
		stream_close(s[i], NULL);
	close(listening);
	rest();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(connects),
		TEST(finished_before_it_stands),
		TEST(refused),
		TEST(no_route),
		TEST(connect_times_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
