/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about files of certificates, whose answers may be lost. The test is the supervisor. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "worker.h"
#include "worker_certs.h"

static struct loop *loop;
static struct link *link_up;
static struct worker_certs *certs;
static struct loop_watch heard;
static struct wire *asked;

static void answered(void *ctx, const struct wire *m, int *fd, unsigned nfds)
{
	worker_certs_got(certs, m, fd, nfds);
}

static void nothing(void *ctx)
{
}

static void gone(void *ctx, int error)
{
	fail_msg("the link is gone: %s", strerror(-error));
}

static void ready(struct loop_watch *w, uint32_t events)
{
	loop_stop(loop);
}

/* The next question; its number. */
static uint32_t next(void)
{
	int fds[WIRE_FDS];
	unsigned nfds;

	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(wire_recv(heard.fd, asked, fds, &nfds), 1);
	assert_int_equal(asked->type, WIRE_CERTS);
	assert_string_equal(asked->files.name[0], "roots.pem");
	assert_string_equal(asked->files.name[1], "crl.pem");
	return asked->seq;
}

/* Clients have all descriptors: that says nothing of the files, and a CRL that counts goes on counting. */
static void no_room_for_the_files(void **state)
{
	const struct wire_start start = {.certs = "/nowhere", .certs_pem = true};
	struct link_plan plan = {.got = answered, .turn = nothing, .gone = gone, .lost = nothing};
	uint32_t first, second;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	loop = loop_new();
	asked = wire_new(WIRE_CERTS);
	plan.loop = loop;
	plan.sock = pair[1];
	heard = (struct loop_watch){.fd = pair[0], .events = EPOLLIN, .ready = ready};
	assert_int_equal(loop_watch(loop, &heard), 0);
	assert_int_equal(worker_link_open(&link_up, &plan), 0);
	certs = worker_certs_open(loop, link_up, &start, inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	first = next();
	asked->number = -EMFILE;
	worker_certs_got(certs, asked, NULL, 0);
	assert_null(certs_problem(worker_certs(certs)));
	second = next(); /* a second later */
	assert_int_not_equal(second, first);
	asked->files.error[0] = asked->files.error[1] = -ENOENT;
	worker_certs_got(certs, asked, NULL, 0);
	assert_string_equal(certs_problem(worker_certs(certs)), "roots.pem is missing in /nowhere");
	close(pair[0]);
	free(asked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_room_for_the_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
