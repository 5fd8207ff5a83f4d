/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: order of timers against a sort, and who may stop whom when. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

#include "wheel.h"

#define MS 1000000u

static struct loop *loop;

static int setup(void **state)
{
	loop = loop_new();
	return 0;
}

static int teardown(void **state)
{
	loop_free(loop);
	return 0;
}

static void run(void)
{
	assert_int_equal(loop_run(loop), 0);
}

/* ------------------------------------------------------------------ watches */

struct thing {
	struct loop_watch watch;
	unsigned called;
	uint32_t events;
	void (*then)(struct thing *t);
	struct thing *other;
};

static void ready(struct loop_watch *w, uint32_t events)
{
	struct thing *t = container_of(w, struct thing, watch);

	t->called++;
	t->events = events;
	if (t->then)
		t->then(t);
}

static void open_thing(struct thing *t, unsigned value)
{
	memset(t, 0, sizeof(*t));
	t->watch.fd = eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK);
	t->watch.events = EPOLLIN;
	t->watch.ready = ready;
	assert_true(t->watch.fd >= 0);
	assert_int_equal(loop_watch(loop, &t->watch), 0);
}

static void close_thing(struct thing *t)
{
	loop_unwatch(loop, &t->watch);
	close(t->watch.fd);
}

static void stop(struct thing *t)
{
	loop_stop(loop);
}

static void a_ready_fd_is_called(void **state)
{
	struct thing quiet, loud;

	open_thing(&quiet, 0);
	open_thing(&loud, 1);
	loud.then = stop;
	run();
	assert_int_equal(loud.called, 1);
	assert_int_equal(loud.events, EPOLLIN);
	assert_int_equal(quiet.called, 0);
	run(); /* level triggered: still ready */
	assert_int_equal(loud.called, 2);
	close_thing(&quiet);
	close_thing(&loud);
}

static void end_turn(struct loop_timer *t)
{
	loop_stop(loop);
}

/* One turn and no more: a timer that is due at once ends it after the fds. */
static void one_turn(void)
{
	struct loop_timer end = {.due = end_turn};

	loop_arm(loop, &end, 0);
	run();
	assert_false(end.armed);
}

static struct thing *survivor;

static void stop_the_other(struct thing *t)
{
	survivor = t;
	close_thing(t->other);
	memset(t->other, 0xa5, sizeof(*t->other)); /* as if freed: a call would crash */
}

static void nobody_is_called_after_its_stop(void **state)
{
	struct thing a, b;

	open_thing(&a, 1);
	open_thing(&b, 1);
	a.then = b.then = stop_the_other;
	a.other = &b;
	b.other = &a;
	one_turn();
	/* Whoever came first has stopped the other, in the same batch. */
	assert_true(survivor == &a || survivor == &b);
	assert_int_equal(survivor->called, 1);
	close_thing(survivor);
}

static void restart_the_other(struct thing *t)
{
	loop_unwatch(loop, &t->other->watch);
	assert_int_equal(loop_watch(loop, &t->other->watch), 0);
	t->then = NULL;
}

static void a_restarted_watch_waits_for_the_next_turn(void **state)
{
	struct thing a, b;

	open_thing(&a, 1);
	open_thing(&b, 1);
	a.then = b.then = restart_the_other;
	a.other = &b;
	b.other = &a;
	one_turn();
	assert_int_equal(a.called + b.called, 1);
	a.then = b.then = NULL;
	one_turn();
	assert_int_equal(a.called + b.called, 3);
	close_thing(&a);
	close_thing(&b);
}

static void stop_itself(struct thing *t)
{
	loop_unwatch(loop, &t->watch);
	loop_unwatch(loop, &t->watch); /* twice is nothing */
}

static void a_watch_may_stop_itself(void **state)
{
	struct thing a;

	open_thing(&a, 1);
	a.then = stop_itself;
	one_turn();
	one_turn();
	assert_int_equal(a.called, 1);
	assert_false(a.watch.active);
	close(a.watch.fd);
}

static void want_nothing(struct thing *t)
{
	t->other->watch.events = 0;
	assert_int_equal(loop_watch(loop, &t->other->watch), 0);
}

static void events_change(void **state)
{
	struct thing a, b;

	open_thing(&a, 1);
	a.watch.events = EPOLLIN | EPOLLOUT;
	assert_int_equal(loop_watch(loop, &a.watch), 0);
	one_turn();
	assert_int_equal(a.events, EPOLLIN | EPOLLOUT);
	/* In the same batch: what is no longer wanted is not delivered. */
	open_thing(&b, 1);
	a.called = 0;
	a.then = b.then = want_nothing;
	a.other = &b;
	b.other = &a;
	one_turn();
	assert_int_equal(a.called + b.called, 1);
	close_thing(&a);
	close_thing(&b);
}

static void hang_up_is_always_told(void **state)
{
	struct thing t = {.watch = {.events = 0, .ready = ready}, .then = stop};
	int fd[2];

	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	t.watch.fd = fd[0];
	assert_int_equal(loop_watch(loop, &t.watch), 0);
	close(fd[1]);
	run();
	assert_true(t.events & EPOLLHUP);
	close_thing(&t);
}

static void what_epoll_refuses_is_an_error(void **state)
{
	struct loop_watch w = {.fd = -1, .events = EPOLLIN};
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	assert_int_equal(loop_watch(loop, &w), -EBADF);
	assert_false(w.active);
	w.fd = file;
	assert_int_equal(loop_watch(loop, &w), -EPERM); /* a plain file has no readiness */
	assert_false(w.active);
	loop_unwatch(loop, &w);
	close(file);
}

/* More ready fds than one batch holds: everybody is served. */
static void more_than_a_batch(void **state)
{
	enum { THINGS = 300 };
	struct thing *t = calloc(THINGS, sizeof(*t));
	unsigned i, turn;

	for (i = 0; i < THINGS; i++)
		open_thing(&t[i], 1);
	for (turn = 0; turn < 10; turn++)
		one_turn();
	for (i = 0; i < THINGS; i++) {
		assert_true(t[i].called > 0);
		close_thing(&t[i]);
	}
	free(t);
}

static void stop_ends_the_turn(void **state)
{
	struct thing a, b;

	open_thing(&a, 1);
	open_thing(&b, 1);
	a.then = b.then = stop;
	run();
	assert_int_equal(a.called + b.called, 1);
	run(); /* what was not delivered comes now */
	assert_int_equal(a.called + b.called, 2);
	assert_true(a.called == 1 && b.called == 1);
	close_thing(&a);
	close_thing(&b);
}

/* An edge is told once, and not lost where the turn ended before it was told. */
static void edges(void **state)
{
	struct thing a, b;
	uint64_t one = 1;

	open_thing(&a, 1);
	open_thing(&b, 1);
	a.watch.events = b.watch.events = EPOLLIN | EPOLLET;
	assert_int_equal(loop_watch(loop, &a.watch), 0);
	assert_int_equal(loop_watch(loop, &b.watch), 0);
	a.then = b.then = stop;
	run();
	assert_int_equal(a.called + b.called, 1);
	run();
	assert_true(a.called == 1 && b.called == 1);
	one_turn();
	assert_int_equal(a.called + b.called, 2);
	assert_int_equal(write(a.watch.fd, &one, sizeof(one)), sizeof(one));
	run();
	assert_int_equal(a.called, 2);
	loop_forget(loop, &a.watch);
	close(a.watch.fd);
	close_thing(&b);
}

static void stop_before_run(void **state)
{
	loop_stop(loop);
	run();
}

static void free_stops_everything(void **state)
{
	struct loop *l = loop_new();
	struct loop_timer t = {.due = end_turn};
	struct loop_watch w = {.fd = eventfd(0, EFD_CLOEXEC), .events = EPOLLIN};

	assert_int_equal(loop_watch(l, &w), 0);
	loop_arm(l, &t, 1000 * MS);
	loop_free(l);
	assert_false(w.active);
	assert_false(t.armed);
	close(w.fd);
	loop_free(NULL);
}

/* ------------------------------------------------------------------ timers */

enum { TIMERS = 500 };

static struct tick {
	struct loop_timer timer;
	uint64_t due_ns;
	unsigned fired;
} tick[TIMERS];

static unsigned fires, expected;
static uint64_t last_tick;

static void due(struct loop_timer *t)
{
	struct tick *k = container_of(t, struct tick, timer);

	assert_false(t->armed);
	assert_true(clock_ns() >= t->due_ns);
	k->fired++;
	if (++fires == expected)
		loop_stop(loop);
}

static void due_in_order(struct loop_timer *t)
{
	assert_true(wheel_due(t) >= last_tick);
	last_tick = wheel_due(t);
	due(t);
}

/* Arms, re-arms and disarms at random: what is left fires once, in the order of ticks (test_wheel.c has the oracle). */
static void timers_fire_in_order(void **state)
{
	unsigned i, round;

	for (round = 0; round < 20; round++) {
		srandom(round);
		memset(tick, 0, sizeof(tick));
		fires = expected = 0;
		last_tick = 0;
		for (i = 0; i < 4 * TIMERS; i++) {
			struct tick *t = &tick[(unsigned)random() % TIMERS];

			t->timer.due = due_in_order;
			if (random() % 4 == 0) {
				loop_disarm(loop, &t->timer);
				continue;
			}
			loop_arm(loop, &t->timer, 1 + (uint64_t)(random() % 20) * MS / 4);
			t->due_ns = t->timer.due_ns;
		}
		for (i = 0; i < TIMERS; i++)
			expected += tick[i].timer.armed;
		run();
		assert_int_equal(fires, expected);
		for (i = 0; i < TIMERS; i++) {
			assert_false(tick[i].timer.armed);
			assert_true(tick[i].fired <= 1);
		}
	}
}

/* Armed with 0: those of this turn, in the order in which they were armed. */
static void at_once_is_in_order_too(void **state)
{
	unsigned i;

	memset(tick, 0, sizeof(tick));
	fires = 0;
	expected = TIMERS;
	last_tick = 0;
	for (i = 0; i < TIMERS; i++) {
		tick[i].timer.due = due_in_order;
		loop_arm(loop, &tick[i].timer, 0);
		tick[i].due_ns = tick[i].timer.due_ns;
	}
	run();
	assert_int_equal(fires, TIMERS);
}

static void not_before_its_time(void **state)
{
	struct loop_timer end = {.due = end_turn};
	uint64_t before = clock_ns();

	loop_arm(loop, &end, 20 * MS);
	run();
	assert_true(clock_ns() - before >= 20 * MS);
}

static unsigned again;

static void arm_itself(struct loop_timer *t)
{
	again++;
	loop_arm(loop, t, 0);
}

static void stop_after_ten(struct thing *t)
{
	if (t->called == 10)
		loop_stop(loop);
}

/* A timer that is always due does not keep the fds from being served. */
static void a_timer_that_arms_itself_starves_nobody(void **state)
{
	struct loop_timer t = {.due = arm_itself};
	struct thing a;

	open_thing(&a, 1);
	a.then = stop_after_ten;
	again = 0;
	loop_arm(loop, &t, 0);
	run();
	assert_true(again >= 9);
	loop_disarm(loop, &t);
	close_thing(&a);
}

static struct loop_timer victim;

static void disarm_victim(struct loop_timer *t)
{
	loop_disarm(loop, &victim);
	loop_stop(loop);
}

static void must_not_fire(struct loop_timer *t)
{
	fail_msg("a disarmed timer was called");
}

/* Both are due in one turn; the first stops the second. */
static void a_disarmed_timer_is_not_called(void **state)
{
	struct loop_timer first = {.due = disarm_victim}, end = {.due = end_turn};

	victim = (struct loop_timer){.due = must_not_fire};
	loop_arm(loop, &first, 0);
	loop_arm(loop, &victim, 0);
	run();
	assert_false(victim.armed);
	loop_arm(loop, &end, MS);
	run();
	loop_disarm(loop, &end); /* not armed: nothing */
}

static void never_is_far_away(void **state)
{
	struct loop_timer never = {.due = must_not_fire};

	loop_arm(loop, &never, UINT64_MAX);
	assert_true(never.due_ns == UINT64_MAX);
	one_turn();
	assert_true(never.armed);
	loop_disarm(loop, &never);
}

struct ring {
	struct loop_timer timer;
	unsigned rang;
	struct ring *first; /* armed in the callback, for `after` */
	uint64_t after;
};

static void ring(struct loop_timer *t)
{
	struct ring *r = container_of(t, struct ring, timer);

	r->rang++;
	if (r->first)
		loop_arm(loop, &r->first->timer, r->after);
	else
		loop_stop(loop);
}

/* The loop sleeps for what is due first, also where that came later or has gone. */
static void the_first_of_all_wakes_it(void **state)
{
	struct ring last = {.timer.due = ring}, gone = {.timer.due = ring}, soon = {.timer.due = ring};
	struct ring begin = {.timer.due = ring, .first = &soon, .after = 5 * MS};
	uint64_t began = clock_ns();

	loop_arm(loop, &last.timer, 60000ull * MS);
	loop_arm(loop, &gone.timer, 40 * MS), loop_arm(loop, &begin.timer, MS);
	run(); /* asleep for `last`, or `gone`, it has to be woken for `soon` */
	assert_true(begin.rang == 1 && soon.rang == 1 && !gone.rang);
	loop_disarm(loop, &gone.timer);
	loop_arm(loop, &soon.timer, 80 * MS);
	run();
	assert_true(soon.rang == 2 && !gone.rang && !last.rang && clock_ns() - began >= 80 * MS);
	loop_disarm(loop, &last.timer);
}

/* ------------------------------------------------------------------ tasks */

struct chore {
	struct loop_task task;
	unsigned run, more;
};

static void again_task(struct loop_task *t)
{
	struct chore *c = container_of(t, struct chore, task);

	c->run++;
	assert_false(t->waiting);
	if (c->more) {
		c->more--;
		loop_defer(loop, t);
	}
}

static struct chore *chore;

static void defer_chore(struct thing *t)
{
	loop_defer(loop, &chore->task);
	loop_defer(loop, &chore->task);
	assert_int_equal(chore->run, 0);
}

static void a_task_runs_once_at_the_end(void **state)
{
	struct chore c = {.task.run = again_task};
	struct thing a;

	chore = &c;
	open_thing(&a, 1);
	a.then = defer_chore;
	one_turn();
	assert_int_equal(c.run, 1);
	close_thing(&a);
}

static void a_task_that_comes_again_starves_nobody(void **state)
{
	struct chore c = {.task.run = again_task, .more = 1000000};
	struct thing a;

	open_thing(&a, 1);
	a.then = stop_after_ten;
	loop_defer(loop, &c.task);
	run();
	assert_int_equal(a.called, 10);
	assert_true(c.run <= 11 * LOOP_TASK_ROUNDS);
	assert_true(c.task.waiting);
	loop_cancel(loop, &c.task);
	loop_cancel(loop, &c.task);
	assert_false(c.task.waiting);
	close_thing(&a);
}

static struct chore *other_chore;

static void cancel_other(struct loop_task *t)
{
	loop_cancel(loop, &other_chore->task);
	container_of(t, struct chore, task)->run++;
}

static void a_cancelled_task_does_not_run(void **state)
{
	struct chore a = {.task.run = cancel_other}, b = {.task.run = again_task};

	other_chore = &b;
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	one_turn();
	assert_int_equal(a.run, 1);
	assert_int_equal(b.run, 0);
	assert_false(b.task.waiting);
}

/* ------------------------------------------------------------------ the wait */

static unsigned before_waits, after_waits;

static void before_wait(void)
{
	assert_int_equal(before_waits, after_waits);
	before_waits++;
}

static void after_wait(void)
{
	after_waits++;
	assert_int_equal(before_waits, after_waits);
}

static void outside_the_wait(struct thing *t)
{
	assert_int_equal(before_waits, after_waits);
	assert_int_equal(before_waits, t->called);
}

static void each_wait_is_told(void **state)
{
	struct thing a;
	unsigned i;

	before_waits = after_waits = 0;
	loop_around_wait(loop, before_wait, after_wait);
	open_thing(&a, 1);
	a.then = outside_the_wait;
	for (i = 1; i <= 3; i++) {
		one_turn();
		assert_int_equal(after_waits, i);
	}
	close_thing(&a);
}

static void now_is_that_of_the_turn(void **state)
{
	uint64_t before = loop_now(loop), after;

	assert_true(before <= clock_ns());
	one_turn();
	after = clock_ns();
	assert_true(loop_now(loop) >= before && loop_now(loop) <= after);
}

/* ------------------------------------------------------------------ signals */

static volatile sig_atomic_t signals;

static void on_alarm(int number)
{
	signals++;
}

static void signals_do_not_end_it(void **state)
{
	struct sigaction sa = {.sa_handler = on_alarm}, old;
	struct itimerval every = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};
	struct loop_timer end = {.due = end_turn};

	assert_int_equal(sigaction(SIGALRM, &sa, &old), 0);
	loop_arm(loop, &end, 40 * MS);
	setitimer(ITIMER_REAL, &every, NULL);
	run();
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	assert_true(signals > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_ready_fd_is_called),
		TEST(nobody_is_called_after_its_stop),
		TEST(a_restarted_watch_waits_for_the_next_turn),
		TEST(a_watch_may_stop_itself),
		TEST(events_change),
		TEST(hang_up_is_always_told),
		TEST(what_epoll_refuses_is_an_error),
		TEST(more_than_a_batch),
		TEST(stop_ends_the_turn),
		TEST(edges),
		TEST(stop_before_run),
		TEST(free_stops_everything),
		TEST(timers_fire_in_order),
		TEST(at_once_is_in_order_too),
		TEST(not_before_its_time),
		TEST(a_timer_that_arms_itself_starves_nobody),
		TEST(a_disarmed_timer_is_not_called),
		TEST(never_is_far_away),
		TEST(the_first_of_all_wakes_it),
		TEST(a_task_runs_once_at_the_end),
		TEST(a_task_that_comes_again_starves_nobody),
		TEST(a_cancelled_task_does_not_run),
		TEST(each_wait_is_told),
		TEST(now_is_that_of_the_turn),
		TEST(signals_do_not_end_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
