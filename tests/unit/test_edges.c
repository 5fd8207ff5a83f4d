/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of Gateways as the supervisor keeps them: those a worker brings, who asks for too much, and what a worker
 * that has begun anew no longer wants. Opening them in the netns of the node is tests/net/test_gateway.py's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "edges.h"
#include "netns.h"

#define THREADS 4

static struct edges *edges;
static char why[256];

/* A netns of the test's own: who listens there is known. */
static int setup(void **state)
{
	if (unshare(CLONE_NEWNET)) {
		print_error("unshare: %s: run the tests as root\n", strerror(errno));
		return -1;
	}
	return netns_home(getuid());
}

static int begin(void **state)
{
	edges = edges_new(NULL, THREADS);
	return 0;
}

static int end(void **state)
{
	edges_free(edges);
	return 0;
}

/* At `addr`, IPv4; NULL: at all, IPv6. -1: somebody is there who does not share. */
static int listener(const char *addr, uint16_t port, bool shares)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	int sock = socket(addr ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	assert_true(sock >= 0 && (!addr || inet_pton(AF_INET, addr, &four.sin_addr) == 1));
	assert_int_equal(setsockopt(sock, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on)), 0);
	if (shares)
		assert_int_equal(setsockopt(sock, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
	if (!bind(sock, addr ? (struct sockaddr *)&four : (struct sockaddr *)&six, addr ? sizeof(four) : sizeof(six)) &&
	    !listen(sock, 1))
		return sock;
	close(sock);
	return -1;
}

static struct wire_edge at(uint16_t port, unsigned first, unsigned count)
{
	return (struct wire_edge){.port = port, .first = first, .count = count};
}

/* The worker brings `count` copies of `sock`. */
static int brings_it(struct wire_edge w, int sock, unsigned count)
{
	int fds[WIRE_FDS], got[WIRE_FDS];
	unsigned n = 99;
	int err;

	for (unsigned i = 0; i < count; i++)
		fds[i] = sock;
	err = edges_open(edges, &w, fds, count, got, &n, why, sizeof(why));
	assert_int_equal(n, 0);
	return err;
}

static int brings(struct wire_edge w, unsigned count)
{
	int sock = listener(NULL, w.port, true), err;

	assert_true(sock >= 0);
	err = brings_it(w, sock, count);
	close(sock);
	return err;
}

/* What is kept, by its threads. */
static unsigned has(struct wire_edge w)
{
	int got[WIRE_FDS];
	unsigned n = 0;

	assert_int_equal(edges_open(edges, &w, NULL, 0, got, &n, why, sizeof(why)), 0);
	for (unsigned i = 0; i < n; i++) {
		assert_true(got[i] > 2);
		assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
	}
	return n;
}

/* Nobody listens there any more. */
static bool all_closed(void)
{
	for (uint16_t port = 80; port < 82; port++) {
		int sock = listener(NULL, port, false);

		if (sock < 0)
			return false;
		close(sock);
	}
	return true;
}

static void those_of_a_worker_are_kept(void **state)
{
	assert_int_equal(brings(at(80, 0, 2), 2), 0);
	assert_int_equal(brings(at(80, 2, 2), 2), 0);
	assert_int_equal(has(at(80, 0, THREADS)), THREADS);
	assert_int_equal(brings(at(80, 0, THREADS), THREADS), 0); /* once more: as they are */
	edges_close(edges, &(struct wire_edge){.port = 81}); /* none of ours */
	assert_int_equal(has(at(80, 0, THREADS)), THREADS);
	assert_true(!all_closed());
	edges_close(edges, &(struct wire_edge){.port = 80});
	assert_true(all_closed());
}

static void what_nobody_asks_for_again_is_closed(void **state)
{
	assert_int_equal(brings(at(80, 0, 4), 4), 0);
	assert_int_equal(brings(at(81, 0, 4), 4), 0);
	edges_begin(edges);
	assert_int_equal(has(at(81, 0, 4)), 4);
	edges_settle(edges);
	assert_int_equal(has(at(81, 0, 4)), 4);
	edges_begin(edges);
	edges_settle(edges);
	assert_true(all_closed());
}

static void a_worker_that_asks_for_too_much(void **state)
{
	static const struct wire_edge rows[] = {
		{.port = 0, .count = 1},
		{.port = 80, .first = THREADS, .count = 1},
		{.port = 80, .first = UINT16_MAX, .count = 1},
		{.port = 80, .first = 1, .count = THREADS},
		{.port = 80, .count = UINT16_MAX},
		{.port = 80, .first = 1, .count = UINT16_MAX},
	};

	for (size_t i = 0; i < array_size(rows); i++)
		assert_int_equal(brings(rows[i], 1), -EINVAL);
	assert_int_equal(brings(at(80, 0, 2), 1), -EINVAL); /* not as many as it says */
	for (unsigned i = 0; i < EDGES_MOST; i++)
		assert_int_equal(brings(at((uint16_t)(i + 1), 0, 0), 0), 0);
	assert_int_equal(brings(at(EDGES_MOST + 1, 0, 0), 0), -ENOSPC);
	assert_string_equal(why, "port 1025: a node listens on at most 1024 addresses and ports");
	assert_int_equal(brings(at(1, 0, 0), 0), 0); /* one of them */
	edges_close(edges, &(struct wire_edge){.port = 1});
	assert_int_equal(brings(at(EDGES_MOST + 1, 0, 0), 0), 0);
	assert_true(all_closed());
}

/* What it brings would be the next worker's: clients of another port, of a pod, would be the Gateway's. */
static void what_does_not_listen_there(void **state)
{
	struct wire_edge w = at(80, 0, 1), four = at(80, 0, 1);
	int other = listener(NULL, 81, true), narrow = listener("10.9.9.9", 80, true), pair[2];
	int unborn = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), elsewhere;

	assert_true(other >= 0 && narrow >= 0 && unborn >= 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	elsewhere = listener(NULL, 80, true);
	assert_int_equal(brings_it(w, other, 1), -EINVAL);
	assert_int_equal(brings_it(w, narrow, 1), -EINVAL);
	assert_int_equal(brings_it(w, unborn, 1), -EINVAL);
	assert_int_equal(brings_it(w, pair[0], 1), -EINVAL);
	assert_int_equal(brings_it(w, elsewhere, 1), -EINVAL);
	assert_int_equal(addr_parse("10.9.9.9", &four.addr), 0);
	assert_int_equal(brings_it(four, narrow, 1), 0);
	assert_int_equal(addr_parse("10.9.9.8", &four.addr), 0);
	assert_int_equal(brings_it(four, narrow, 1), -EINVAL);
	close(other);
	close(narrow);
	close(unborn);
	close(elsewhere);
	close(pair[0]);
	close(pair[1]);
}

/* A worker that was taken over cannot have the supervisor make sockets without end. */
static void sockets_without_end(void **state)
{
	struct wire_sockets w = {.kind = WIRE_SOCKET_OUT, .count = 0};
	int got[WIRE_SOCKET_BATCH];

	assert_int_equal(edges_sockets(edges, &w, got, why, sizeof(why)), -EINVAL);
	w = (struct wire_sockets){.kind = WIRE_SOCKET_OUT + 1, .count = 1};
	assert_int_equal(edges_sockets(edges, &w, got, why, sizeof(why)), -EINVAL);
	w = (struct wire_sockets){.kind = WIRE_SOCKET_OUT, .count = 5000};
	assert_int_equal(edges_sockets(edges, &w, got, why, sizeof(why)), -EBUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(those_of_a_worker_are_kept, begin, end),
		cmocka_unit_test_setup_teardown(what_nobody_asks_for_again_is_closed, begin, end),
		cmocka_unit_test_setup_teardown(a_worker_that_asks_for_too_much, begin, end),
		cmocka_unit_test_setup_teardown(what_does_not_listen_there, begin, end),
		cmocka_unit_test_setup_teardown(sockets_without_end, begin, end),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
