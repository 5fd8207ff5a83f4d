/* SPDX-License-Identifier: Apache-2.0 */
/* dialer.h: a dialer whose sockets are made at once, in the netns of the test. */
#ifndef WEFT_TESTS_DIALER_H
#define WEFT_TESTS_DIALER_H

#include "dial.h"
#include "sockets.h"

static inline void dialer_ask(void *ctx, struct socket_order *o)
{
	int fd[WIRE_SOCKET_BATCH];

	for (unsigned i = 0; i < o->count; i++) {
		fd[i] = socket(o->ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		assert_true(fd[i] >= 0);
		sock_prepare(fd[i]);
	}
	socket_pool_answer(o, 0, fd, o->count);
}

static inline void dialer_setup(struct dialer *d)
{
	const struct socket_pool_plan plan = {.control = thread, .ask = dialer_ask};

	*d = (struct dialer){
		.thread = thread, .sockets = socket_pool_new(thread, &plan), .own = -1, .random = {.s = {1, 2}}};
}

static inline void dialer_teardown(struct dialer *d)
{
	rest();
	socket_pool_free(d->sockets);
}

#endif
