/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of Gateways as the supervisor keeps them: those a worker brings, who asks for too much, and what a worker
 * that has begun anew no longer wants. Opening them in the netns of the node is tests/net/test_gateway.py's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "edges.h"

#define THREADS 4

static struct edges *edges;
static int pipe_end[2]; /* stands for a socket: who keeps a copy keeps the pipe open */
static char why[256];

static int begin(void **state)
{
	edges = edges_new(NULL, THREADS);
	return pipe(pipe_end);
}

static int end(void **state)
{
	edges_free(edges);
	close(pipe_end[0]);
	if (pipe_end[1] >= 0)
		close(pipe_end[1]);
	return 0;
}

static struct wire_edge at(uint16_t port, unsigned first, unsigned count)
{
	return (struct wire_edge){.port = port, .first = first, .count = count};
}

/* The worker brings `count` sockets. */
static int brings(struct wire_edge w, unsigned count)
{
	int fds[WIRE_FDS], got[WIRE_FDS];
	unsigned n = 99;
	int err;

	for (unsigned i = 0; i < count; i++)
		fds[i] = pipe_end[1];
	err = edges_open(edges, &w, fds, count, got, &n, why, sizeof(why));
	assert_int_equal(n, 0);
	return err;
}

/* What is kept, by its threads. */
static unsigned has(struct wire_edge w)
{
	int got[WIRE_FDS];
	unsigned n = 0;

	assert_int_equal(edges_open(edges, &w, NULL, 0, got, &n, why, sizeof(why)), 0);
	for (unsigned i = 0; i < n; i++) {
		assert_true(got[i] > 2 && got[i] != pipe_end[1]);
		assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
	}
	return n;
}

/* Nobody has a copy of it any more. */
static bool all_closed(void)
{
	char c;

	close(pipe_end[1]);
	pipe_end[1] = -1;
	assert_int_equal(fcntl(pipe_end[0], F_SETFL, O_NONBLOCK), 0);
	return read(pipe_end[0], &c, 1) == 0;
}

static void those_of_a_worker_are_kept(void **state)
{
	assert_int_equal(brings(at(80, 0, 2), 2), 0);
	assert_int_equal(brings(at(80, 2, 2), 2), 0);
	assert_int_equal(has(at(80, 0, THREADS)), THREADS);
	assert_int_equal(brings(at(80, 0, THREADS), THREADS), 0); /* once more: as they are */
	edges_close(edges, &(struct wire_edge){.port = 81}); /* none of ours */
	assert_int_equal(has(at(80, 0, THREADS)), THREADS);
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
		cmocka_unit_test_setup_teardown(sockets_without_end, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
