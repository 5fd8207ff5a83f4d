// SPDX-License-Identifier: Apache-2.0
/* Sockets on order: none while nobody asks, more while many do, none again when they are done. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "socket_pool.h"
#include "sockets.h"

#define NETNS 7

/* The supervisor of the tests: keeps the orders until it is told to answer. */
static struct socket_order *order[64];
static unsigned orders, ordered_sockets;

static void ask(void *ctx, struct socket_order *o)
{
	assert_true(orders < array_size(order));
	assert_int_equal(o->netns, NETNS);
	order[orders++] = o;
	ordered_sockets += o->count;
}

static void serve(int error)
{
	for (unsigned i = 0; i < orders; i++) {
		int fd[WIRE_SOCKET_BATCH];
		unsigned count = error ? 0 : order[i]->count;

		for (unsigned k = 0; k < count; k++)
			fd[k] = socket(order[i]->ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		socket_pool_answer(order[i], error, fd, count);
	}
	orders = 0;
}

struct waiter {
	struct socket_wait wait;
	int fd; /* -1: nothing yet */
};

static void got(struct socket_wait *w, int fd)
{
	container_of(w, struct waiter, wait)->fd = fd;
}

static void take(struct socket_pool *p, struct waiter *w)
{
	*w = (struct waiter){.wait.got = got, .fd = -1};
	socket_pool_take(p, NETNS, WIRE_SOCKET_OUT, false, &w->wait);
}

static struct socket_pool *new_pool(void)
{
	const struct socket_pool_plan plan = {.control = thread, .ask = ask};

	orders = ordered_sockets = 0;
	return socket_pool_new(thread, &plan);
}

static void free_pool(struct socket_pool *p)
{
	serve(-ECANCELED);
	rest();
	assert_int_equal(orders, 0);
	socket_pool_free(p);
}

static void test_one(void **state)
{
	struct socket_pool *p = new_pool();
	struct waiter w;

	take(p, &w);
	assert_int_equal(w.fd, -1);
	UNTIL(orders == 1);
	assert_true(order[0]->count <= 2);
	serve(0);
	UNTIL(w.fd >= 0);
	close(w.fd);
	rest();
	assert_int_equal(orders, 0); /* what is spare is enough */
	assert_true(socket_pool_spare(p) <= 2);
	free_pool(p);
}

/* Many at once: few messages; whoever waits gets his, in order. */
static void test_many(void **state)
{
	struct socket_pool *p = new_pool();
	struct waiter w[100];
	unsigned messages = 0, served = 0;

	for (unsigned i = 0; i < array_size(w); i++)
		take(p, &w[i]);
	while (served < array_size(w)) {
		UNTIL(orders);
		messages += orders;
		serve(0);
		turn(MS);
		while (served < array_size(w) && w[served].fd >= 0)
			close(w[served++].fd);
		for (unsigned i = served; i < array_size(w); i++)
			assert_int_equal(w[i].fd, -1);
	}
	assert_true(messages <= 24);
	assert_true(socket_pool_spare(p) <= POOL_STOCK);
	free_pool(p);
}

/* In steady use nobody waits. */
static void test_ahead(void **state)
{
	struct socket_pool *p = new_pool();
	unsigned waited = 0;

	for (unsigned i = 0; i < 300; i++) {
		struct waiter w;

		take(p, &w);
		waited += w.fd < 0;
		turn(0);
		serve(0);
		UNTIL(w.fd >= 0);
		close(w.fd);
	}
	assert_true(waited <= 6);
	free_pool(p);
}

/* As many at once as there are in flight, over and over, and the supervisor is late: still nobody waits. */
static void test_late(void **state)
{
	struct socket_pool *p = new_pool();
	struct waiter w[16];

	for (unsigned round = 0; round < 60; round++) {
		for (unsigned i = 0; i < array_size(w); i++) {
			take(p, &w[i]);
			if (round >= 30)
				assert_true(w[i].fd >= 0);
		}
		turn(0);
		if (round < 30 || round % 4 == 3)
			serve(0);
		for (unsigned i = 0; i < array_size(w); i++) {
			UNTIL(w[i].fd >= 0);
			close(w[i].fd);
		}
		assert_true(socket_pool_spare(p) <= POOL_STOCK);
	}
	free_pool(p);
}

static void test_errors(void **state)
{
	struct socket_pool *p = new_pool();
	struct waiter w[3];

	for (unsigned i = 0; i < array_size(w); i++)
		take(p, &w[i]);
	socket_pool_cancel(&w[1].wait);
	socket_pool_cancel(&w[1].wait);
	UNTIL(orders);
	serve(-ENOENT);
	UNTIL(w[0].fd == -ENOENT && w[2].fd == -ENOENT);
	assert_int_equal(w[1].fd, -1);
	/* that was no reason not to ask again */
	take(p, &w[0]);
	UNTIL(orders);
	serve(0);
	UNTIL(w[0].fd >= 0);
	close(w[0].fd);
	free_pool(p);
}

/* The pod leaves: who waits hears it, nothing of it stays open, and what comes late is closed. */
static void test_leave(void **state)
{
	struct socket_pool *p = new_pool();
	struct waiter w[2];

	take(p, &w[0]);
	UNTIL(orders);
	socket_pool_leave(p, NETNS);
	assert_int_equal(w[0].fd, -ENOENT);
	serve(0);
	rest();
	assert_int_equal(socket_pool_spare(p), 0);
	take(p, &w[0]);
	UNTIL(orders);
	serve(0);
	UNTIL(w[0].fd >= 0);
	close(w[0].fd);
	socket_pool_leave(p, NETNS);
	assert_int_equal(socket_pool_spare(p), 0);
	free_pool(p);
}

static void test_bind(void **state)
{
	static const char *const addrs[] = {"127.0.0.9", "::1"};
	const int on = 1;

	for (size_t i = 0; i < array_size(addrs); i++) {
		struct abi_addr want, is;
		uint16_t port;
		int fd = socket(i ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)), 0);
		assert_int_equal(addr_parse(addrs[i], &want), 0);
		assert_int_equal(socket_pool_bind(fd, &want), 0);
		assert_int_equal(sock_local(fd, &is, &port), 0);
		assert_true(addr_equal(&is, &want));
		assert_int_equal(port, 0);
		close(fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_leave),
		cmocka_unit_test(test_bind),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
