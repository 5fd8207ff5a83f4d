/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: who runs where, in which order jobs run, RCU, and that nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <urcu/urcu-qsbr.h>
#include <cmocka.h>

#include "thread.h"

static struct loop *loop;
static struct thread *control;

static int setup(void **state)
{
	loop = loop_new();
	control = thread_control(loop);
	return 0;
}

static int teardown(void **state)
{
	thread_control_end(control);
	loop_free(loop);
	return 0;
}

static void run(void)
{
	assert_int_equal(loop_run(loop), 0);
}

/* ------------------------------------------------------------------ start and end */

static _Atomic unsigned started, ended;

static void count_start(struct thread *t)
{
	cpu_set_t set;
	unsigned i;

	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1)
		started++;
	for (i = 0; i < SCRATCH_COUNT; i++)
		memset(t->scratch[i] - 64, 0xff, THREAD_SCRATCH + 64);
}

static void count_end(struct thread *t)
{
	ended++;
}

static void each_starts_on_one_core_and_ends(void **state)
{
	unsigned i;

	started = ended = 0;
	assert_true(threads_cores() >= 1);
	assert_int_equal(threads_start(0, NULL, NULL), -EINVAL);
	assert_int_equal(threads_start(THREAD_MAX + 1, NULL, NULL), -EINVAL);
	assert_int_equal(threads_start(5, count_start, count_end), 0);
	assert_int_equal(threads_count(), 5);
	for (i = 0; i < 5; i++)
		assert_int_equal(thread_at(i)->index, i);
	threads_stop();
	assert_int_equal(threads_count(), 0);
	assert_int_equal(started, 5);
	assert_int_equal(ended, 5);
	threads_stop();
}

static void start_and_stop_again(void **state)
{
	unsigned i;

	for (i = 1; i < 20; i++) {
		assert_int_equal(threads_start(1 + i % 4, NULL, NULL), 0);
		threads_stop();
	}
}

/* ------------------------------------------------------------------ jobs */

enum { ROUNDS = 2000 };

struct ball {
	struct thread_job job;
	unsigned left;
	struct thread *home;
	uint64_t number;
};

static void back_home(struct thread *t, struct thread_job *job)
{
	assert_ptr_equal(t, control);
	loop_stop(t->loop);
}

static void pass_on(struct thread *t, struct thread_job *job)
{
	struct ball *b = container_of(job, struct ball, job);

	if (!b->left--) {
		job->run = back_home;
		thread_do(b->home, job);
		return;
	}
	thread_do(thread_at((t->index + 1) % threads_count()), job);
}

static void a_job_goes_round(void **state)
{
	struct ball b = {.job.run = pass_on, .left = ROUNDS, .home = control};

	assert_int_equal(threads_start(3, NULL, NULL), 0);
	thread_do(thread_at(0), &b.job);
	run();
	threads_stop();
}

/* Two threads throw at a third: of each thrower all come, in his order. */

enum { THROWN = 5000 };

static struct ball thrown[2][THROWN];
static uint64_t caught[2];
static _Atomic unsigned wrong;

static void catch (struct thread *t, struct thread_job *job)
{
	struct ball *b = container_of(job, struct ball, job);
	unsigned from = b >= thrown[1];

	if (b->number != caught[from])
		wrong++;
	caught[from]++;
	if (caught[0] + caught[1] == 2 * THROWN) {
		b->job.run = back_home;
		thread_do(control, &b->job);
	}
}

static void throw(struct thread * t, struct thread_job *job)
{
	unsigned i;

	for (i = 0; i < THROWN; i++) {
		thrown[t->index][i] = (struct ball){.job.run = catch, .number = i};
		thread_do(thread_at(2), &thrown[t->index][i].job);
	}
}

static void jobs_run_in_order(void **state)
{
	struct thread_job go[2] = {{.run = throw}, {.run = throw}};

	caught[0] = caught[1] = 0;
	wrong = 0;
	assert_int_equal(threads_start(3, NULL, NULL), 0);
	thread_do(thread_at(0), &go[0]);
	thread_do(thread_at(1), &go[1]);
	run();
	threads_stop();
	assert_int_equal(wrong, 0);
}

static void count_job(struct thread *t, struct thread_job *job)
{
	started++;
}

static void what_was_given_before_the_stop_has_run(void **state)
{
	struct thread_job job[100];
	unsigned i, round;

	for (round = 0; round < 20; round++) {
		started = 0;
		assert_int_equal(threads_start(2, NULL, NULL), 0);
		for (i = 0; i < 100; i++) {
			job[i] = (struct thread_job){.run = count_job};
			thread_do(thread_at(i % 2), &job[i]);
		}
		threads_stop();
		assert_int_equal(started, 100);
	}
}

/* A job that gives itself again does not keep the fds and timers of its thread from being served. */
static _Atomic bool enough;

static void for_ever(struct thread *t, struct thread_job *job)
{
	if (!enough)
		thread_do(t, job);
}

static void in_time(struct loop_timer *t)
{
	enough = true;
	loop_stop(loop);
}

static void a_job_that_comes_again_starves_nobody(void **state)
{
	struct thread_job job = {.run = for_ever};
	struct loop_timer timer = {.due = in_time};

	enough = false;
	loop_arm(loop, &timer, 3000000);
	thread_do(control, &job);
	run();
}

/* ------------------------------------------------------------------ who goes on? */

static _Atomic bool let_go;

static void hold(struct thread *t, struct thread_job *job)
{
	while (!let_go)
		(void)usleep(1000);
}

static bool in_a_turn(unsigned *ret_turn, pid_t *ret_id)
{
	*ret_turn = thread_turn(thread_at(0), ret_id);
	return *ret_turn & 1;
}

static void a_turn_that_lasts_is_seen(void **state)
{
	struct thread_job job = {.run = hold};
	unsigned turn, again;
	pid_t id;

	let_go = false;
	assert_int_equal(threads_start(1, NULL, NULL), 0);
	do
		(void)usleep(1000);
	while (!thread_turn(thread_at(0), &id) || in_a_turn(&turn, &id)); /* it waits, with nothing to do */
	assert_true(id > 0 && id != getpid());
	thread_do(thread_at(0), &job);
	do
		(void)usleep(1000);
	while (!in_a_turn(&turn, &id));
	(void)usleep(10000);
	assert_true(in_a_turn(&again, &id));
	assert_int_equal(again, turn);
	let_go = true;
	do
		(void)usleep(1000);
	while (in_a_turn(&again, &id));
	assert_int_not_equal(again, turn);
	threads_stop();
}

/* ------------------------------------------------------------------ the end of a thread */

struct left {
	struct loop_task task;
	struct thread *thread;
	struct buf buf;
};
static struct left left;

static void clear_left(struct loop_task *t)
{
	buf_clear(&left.buf, &left.thread->pool);
}

static void leave(struct thread *t)
{
	left = (struct left){.task.run = clear_left, .thread = t};
	buf_add(&left.buf, &t->pool, "bytes", 5);
}

static void close_left(struct thread *t)
{
	loop_defer(t->loop, &left.task);
}

static void what_is_freed_at_the_end_of_a_turn_is_freed_at_the_end(void **state)
{
	assert_int_equal(threads_start(1, leave, close_left), 0);
	threads_stop();
	assert_int_equal(left.buf.len, 0);
}

static void signals_are_not_theirs(void **state)
{
	sigset_t before, after;

	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &before), 0);
	assert_int_equal(threads_start(2, NULL, NULL), 0);
	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &after), 0);
	assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
	threads_stop();
}

/* ------------------------------------------------------------------ RCU */

struct world {
	unsigned good;
};
static struct world *world;
static _Atomic bool look_on;
static _Atomic unsigned looks;

static void look(struct thread *t, struct thread_job *job)
{
	struct world *w = rcu_dereference(world);
	unsigned i;

	for (i = 0; i < 1000; i++)
		if (*(volatile unsigned *)&w->good != 1)
			wrong++;
	looks++;
	if (look_on)
		thread_do(t, job);
}

/* A world that was replaced is freed when no thread can look at it any more; sleeping threads hold up nobody. */
static void nobody_looks_at_what_was_freed(void **state)
{
	struct thread_job job[2] = {{.run = look}, {.run = look}};
	unsigned i;

	wrong = looks = 0;
	look_on = true;
	world = calloc(1, sizeof(*world));
	world->good = 1;
	assert_int_equal(threads_start(4, NULL, NULL), 0); /* two of them sleep */
	thread_do(thread_at(0), &job[0]);
	thread_do(thread_at(1), &job[1]);
	for (i = 0; i < 200; i++) {
		struct world *next = calloc(1, sizeof(*next)), *old = world;

		next->good = 1;
		rcu_assign_pointer(world, next);
		urcu_qsbr_synchronize_rcu();
		old->good = 0;
		free(old);
	}
	look_on = false;
	threads_stop();
	assert_int_equal(wrong, 0);
	assert_true(looks > 0);
	free(world);
}

/* ------------------------------------------------------------------ connections stay on their core */

enum { DIALS = 20 };

static int listen_beside(struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
	socklen_t len = sizeof(*at);

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)at, len), 0);
	assert_int_equal(listen(fd, DIALS), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

static unsigned accept_all(int listener)
{
	unsigned n = 0;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		close(fd);
		n++;
	}
	return n;
}

/* DIALS connections from that core; how many came to each. */
static void dial_from(unsigned cpu, const struct sockaddr_in *to, const int listener[2], unsigned ret[2])
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	for (unsigned i = 0; i < DIALS; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_int_equal(connect(fd, (const struct sockaddr *)to, sizeof(*to)), 0);
		close(fd);
	}
	ret[0] = accept_all(listener[0]);
	ret[1] = accept_all(listener[1]);
	assert_int_equal(ret[0] + ret[1], DIALS);
}

/* Core `nth` of ours. */
static unsigned core(const cpu_set_t *set, unsigned nth)
{
	unsigned cpu = 0;

	while (!CPU_ISSET(cpu, set) || nth--)
		cpu++;
	return cpu;
}

static void a_connection_comes_to_the_thread_of_its_core(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener[2] = {listen_beside(&at), listen_beside(&at)};
	unsigned came[2];
	cpu_set_t ours;

	assert_int_equal(sched_getaffinity(0, sizeof(ours), &ours), 0);
	assert_int_equal(threads_start(2, NULL, NULL), 0);
	threads_near(listener[0]);
	for (unsigned i = 0; i < 2 && CPU_COUNT(&ours) > 1; i++) { /* on one core they share it: by hash */
		dial_from(core(&ours, i), &at, listener, came);
		assert_int_equal(came[i], DIALS);
		assert_int_equal(sched_setaffinity(0, sizeof(ours), &ours), 0);
	}
	threads_stop();
	close(listener[0]);
	close(listener[1]);
}

/* Two to a core: nobody is left out. */
static void threads_that_share_cores_share_connections(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener[2];
	unsigned came[2];
	cpu_set_t ours, one;

	assert_int_equal(sched_getaffinity(0, sizeof(ours), &ours), 0);
	CPU_ZERO(&one);
	CPU_SET(core(&ours, 0), &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(threads_start(2, NULL, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		listener[i] = listen_beside(&at);
	threads_near(listener[0]);
	dial_from(core(&ours, 0), &at, listener, came);
	assert_true(came[0] && came[1]); /* by hash: 2^-19 that not */
	assert_int_equal(sched_setaffinity(0, sizeof(ours), &ours), 0);
	threads_stop();
	close(listener[0]);
	close(listener[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_starts_on_one_core_and_ends),
		TEST(start_and_stop_again),
		TEST(a_job_goes_round),
		TEST(jobs_run_in_order),
		TEST(what_was_given_before_the_stop_has_run),
		TEST(a_job_that_comes_again_starves_nobody),
		TEST(a_turn_that_lasts_is_seen),
		TEST(what_is_freed_at_the_end_of_a_turn_is_freed_at_the_end),
		TEST(signals_are_not_theirs),
		TEST(nobody_looks_at_what_was_freed),
		TEST(a_connection_comes_to_the_thread_of_its_core),
		TEST(threads_that_share_cores_share_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
