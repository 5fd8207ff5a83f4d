/* SPDX-License-Identifier: Apache-2.0 */
/* sockets.h: a thread whose loop is turned by hand, and real sockets of the loopback, for tests of streams. */
#ifndef WEFT_TESTS_SOCKETS_H
#define WEFT_TESTS_SOCKETS_H

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

#define MS 1000000ull

static struct loop *loop;
static struct thread *thread;

static inline int setup(void **state)
{
	loop = loop_new();
	thread = thread_control(loop);
	return 0;
}

static inline int teardown(void **state)
{
	assert_int_equal(thread->pool.lent, 0);
	for (unsigned i = 0; i < SHARES_COLUMNS; i++) /* what was counted for somebody has ended */
		assert_int_equal(thread->shares.held[0][i], 0);
	thread_control_end(thread);
	loop_free(loop);
	return 0;
}

static inline void end_turn(struct loop_timer *t)
{
	loop_stop(loop);
}

static inline void turn(uint64_t wait_ns)
{
	struct loop_timer end = {.due = end_turn};

	loop_arm(loop, &end, wait_ns);
	assert_int_equal(loop_run(loop), 0);
}

#define UNTIL(condition)                                              \
	do {                                                          \
		uint64_t began = clock_ns();                          \
		while (!(condition)) {                                \
			assert_true(clock_ns() - began < 60000 * MS); \
			turn(MS / 2);                                 \
		}                                                     \
	} while (0)

/* Some turns in which nothing must happen. */
static inline void rest(void)
{
	unsigned i;

	for (i = 0; i < 5; i++)
		turn(MS);
}

/* ------------------------------------------------------------------ sockets */

static inline int listener(int family, struct abi_addr *addr, uint16_t *port, int backlog)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (family == AF_INET6)
		assert_int_equal(bind(fd, (struct sockaddr *)&in6, sizeof(in6)), 0);
	else
		assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(sock_local(fd, addr, port), 0);
	return fd;
}

/* Two connected sockets: [0] for a stream, [1] for the peer, who blocks. */
static inline void pair(int fd[2])
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct abi_addr addr;
	uint16_t port;
	int listening = listener(AF_INET, &addr, &port, 1);

	memcpy(&in.sin_addr, addr.byte + 12, 4);
	in.sin_port = htons(port);
	fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd[1], (struct sockaddr *)&in, sizeof(in)), 0);
	fd[0] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd[0] >= 0);
	close(listening);
}

static inline void reset(int fd)
{
	struct linger l = {.l_onoff = 1};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
	close(fd);
}

#endif
