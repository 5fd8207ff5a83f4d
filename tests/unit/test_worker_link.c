/* SPDX-License-Identifier: Apache-2.0 */
/* A worker whose supervisor goes and comes: what it sends, to whom, what it gives back. Needs root (SO_PEERCRED). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "worker.h"

#define NETNS 42

static struct loop *loop;
static struct link *worker;
static struct wire_start start;
static struct wire *message;
static struct loop_timer patience;
static uint64_t patience_ns;
static int supervisor, resume, fds[WIRE_FD_COUNT];
static unsigned got, lost, back, gone, splice_said;
static int number; /* of the last one that was got */

static void got_one(void *ctx, const struct wire *m, int *fd, unsigned nfds)
{
	got++;
	number = m->number;
	while (nfds)
		close(fd[--nfds]);
	loop_stop(loop);
}

static void turn(void *ctx)
{
}

static void gone_now(void *ctx, int error)
{
	gone++;
	loop_stop(loop);
}

static void lost_now(void *ctx)
{
	lost++;
	loop_stop(loop);
}

static void back_now(void *ctx, const struct wire_start *s)
{
	back++;
	splice_said = s->splice_on;
	loop_stop(loop);
}

static void listeners(void *ctx, void (*each)(void *to, uint64_t netns, unsigned thread, const int fd[3]), void *to)
{
	const int fd[3] = {resume, resume, resume};

	each(to, NETNS, 0, fd);
	each(to, NETNS, 1, fd);
}

static void due(struct loop_timer *t)
{
	loop_stop(loop);
}

static void run(void)
{
	loop_arm(loop, &patience, patience_ns);
	assert_int_equal(loop_run(loop), 0);
	loop_disarm(loop, &patience);
}

/* A socket of its own name in the abstract space: nothing is left behind. */
static struct sockaddr_un name(socklen_t *ret_len)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			       (size_t)snprintf(at.sun_path + 1, 40, "weft-link-%d", (int)getpid()));
	return at;
}

static int setup(void **state)
{
	struct link_plan plan = {.got = got_one,
				 .turn = turn,
				 .gone = gone_now,
				 .lost = lost_now,
				 .back = back_now,
				 .listeners = listeners};
	socklen_t len;
	struct sockaddr_un at = name(&len);
	int pair[2];

	patience_ns = 2000000000ull;
	got = lost = back = gone = splice_said = 0;
	if (geteuid() || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	loop = loop_new();
	patience.due = due;
	supervisor = pair[0];
	plan.loop = loop;
	plan.sock = pair[1];
	resume = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	message = wire_new(WIRE_RESUME);
	start = (struct wire_start){.version = "1", .instance = "x", .threads = 2};
	fds[WIRE_FD_ADMIN] = fds[WIRE_FD_RESUME] = resume;
	return bind(resume, (struct sockaddr *)&at, len) || listen(resume, 4) || worker_link_open(&worker, &plan);
}

static int teardown(void **state)
{
	worker_link_close(worker);
	loop_free(loop);
	close(supervisor);
	close(resume);
	free(message);
	return 0;
}

static void supervisor_dies(void)
{
	close(supervisor);
	run();
	assert_int_equal(lost, 1);
	assert_int_equal(gone, 0);
}

/* Another one says what it would start; the worker has taken notice when this returns. */
static void another(enum wire_type type, const struct wire_start *s)
{
	socklen_t len;
	struct sockaddr_un at = name(&len);

	supervisor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(supervisor, (struct sockaddr *)&at, len), 0);
	*message = (struct wire){.version = WIRE_VERSION, .type = type, .start = *s};
	assert_int_equal(wire_send(supervisor, message, NULL, 0), 0);
	run();
}

/* The next message that it got, of that type, with as many fds. */
static void next(enum wire_type type, unsigned count)
{
	int fd[WIRE_FDS];
	unsigned n;

	assert_int_equal(wire_recv(supervisor, message, fd, &n), 1);
	assert_int_equal(message->type, type);
	assert_int_equal(n, count);
	while (n)
		close(fd[--n]);
}

static void before_the_start_it_is_the_end(void **state)
{
	close(supervisor);
	supervisor = -1;
	run();
	assert_int_equal(gone, 1);
	assert_int_equal(lost, 0);
}

static void the_next_one_gets_all(void **state)
{
	struct wire_start other = start;

	assert_int_equal(worker_link_stay(worker, fds, &start), 0);
	worker_link_send(worker, WIRE_READY, 0, 1, 0, "");
	next(WIRE_READY, 0);
	supervisor_dies();
	worker_link_send(worker, WIRE_ENROLLED, 7, 0, NETNS, NULL); /* to nobody */
	other.splice_on = 1;
	other.kernel_safe = 1;
	another(WIRE_RESUME, &other);
	assert_int_equal(back, 1);
	assert_int_equal(splice_said, 1);
	for (int thread = 0; thread < 2; thread++) {
		next(WIRE_POD_FDS, 3);
		assert_int_equal(message->pod.netns, NETNS);
		assert_int_equal(message->number, thread);
	}
	next(WIRE_RESUMED, 2);
	assert_int_equal(message->number, 0);
	worker_link_sockets(worker, 9, &(struct wire_sockets){.netns = NETNS, .count = 1});
	next(WIRE_SOCKETS, 0); /* and nothing of before */
	assert_int_equal(message->seq, 9);
	*message = (struct wire){.version = WIRE_VERSION, .type = WIRE_NAMED};
	assert_int_equal(wire_send(supervisor, message, NULL, 0), 0);
	run();
	assert_int_equal(got, 1);
}

static void one_that_wants_another_start_ends_it(void **state)
{
	struct wire_start other = start;

	assert_int_equal(worker_link_stay(worker, fds, &start), 0);
	supervisor_dies();
	other.map[3] = 1;
	another(WIRE_RESUME, &other);
	assert_int_equal(back, 0);
	assert_int_equal(gone, 1);
	next(WIRE_RESUMED, 0);
	assert_int_equal(message->number, -ESTALE);
}

static void who_says_something_else_changes_nothing(void **state)
{
	assert_int_equal(worker_link_stay(worker, fds, &start), 0);
	supervisor_dies();
	patience_ns = 100000000ull; /* nothing comes of it */
	another(WIRE_START, &start);
	patience_ns = 2000000000ull;
	assert_int_equal(back + gone, 0);
	close(supervisor);
	another(WIRE_RESUME, &start);
	assert_int_equal(back, 1);
}

static void it_dies_and_comes_at_once(void **state)
{
	assert_int_equal(worker_link_stay(worker, fds, &start), 0);
	for (unsigned i = 1; i <= 3; i++) {
		close(supervisor); /* its end and the next one's message are read in one turn, in any order */
		another(WIRE_RESUME, &start);
		for (unsigned k = 0; k < 3 && back < i; k++)
			run();
		assert_int_equal(back, i);
		next(WIRE_POD_FDS, 3);
	}
	assert_int_equal(lost, 3);
	assert_int_equal(gone, 0);
}

/* A message with an fd, for which there is no room: clients may have taken all of it. */
static void send_in_vain(enum wire_type type)
{
	struct rlimit was, none;
	int first = dup(supervisor);

	close(first); /* the lowest that is free */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = was;
	none.rlim_cur = (rlim_t)first;
	*message = (struct wire){.version = WIRE_VERSION, .type = type};
	assert_int_equal(wire_send(supervisor, message, &supervisor, 1), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	run();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

/* What was asked for comes to nothing, and the worker is not lost for it, with all of its connections. */
static void no_room_for_what_it_gets(void **state)
{
	const enum wire_type asked[] = {WIRE_SOCKETS, WIRE_FILE, WIRE_CERTS, WIRE_EDGE_OPEN, WIRE_POD_FDS};

	assert_int_equal(worker_link_stay(worker, fds, &start), 0);
	for (unsigned i = 0; i < array_size(asked); i++) {
		send_in_vain(asked[i]);
		assert_int_equal(got, i + 1);
		assert_int_equal(number, -EMFILE);
	}
	assert_int_equal(lost + gone, 0);
	send_in_vain(WIRE_START);
	assert_int_equal(got, array_size(asked));
	assert_int_equal(lost, 1);
}

#define TEST(what) cmocka_unit_test_setup_teardown(what, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(before_the_start_it_is_the_end),
		TEST(the_next_one_gets_all),
		TEST(one_that_wants_another_start_ends_it),
		TEST(who_says_something_else_changes_nothing),
		TEST(it_dies_and_comes_at_once),
		TEST(no_room_for_what_it_gets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
