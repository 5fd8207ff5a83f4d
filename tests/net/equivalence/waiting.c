// SPDX-License-Identifier: Apache-2.0
/* waiting.c: rows about readers that sleep, and how they are woken. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
	signals++;
}

static void handle(int number, int flags)
{
	struct sigaction a = { .sa_handler = on_signal, .sa_flags = flags };

	sigaction(number, &a, NULL);
}

static void make_blocking(struct side *s)
{
	saw(s, "clear O_NONBLOCK = %s", result(fcntl(s->fd, F_SETFL, 0)));
}

/* ------------------------------------------------------------------ 21: a signal wakes a sleeping reader */

static void signal_a_sleeper(struct side *s)
{
	hear(s);
	wait_asleep(s, s->peer);
	must(s, kill(s->peer, SIGUSR1));
	if (hear(s) == 1)
		put_text(s, "abcde");
}

static void sleep_until_signal(struct side *s)
{
	handle(SIGUSR1, 0);
	tell(s, 0);
	see_recv(s, 100, 0);
	by_nature(s, false);
	saw(s, "%d signals", (int)signals);
	tell(s, 1);
	see_recv(s, 100, 0);
}

static void signal_then_data(struct side *s)
{
	hear(s);
	wait_asleep(s, s->peer);
	must(s, kill(s->peer, SIGUSR1));
	hear(s); /* from the handler: it has run, and recv() begins anew */
	wait_asleep(s, s->peer);
	put_text(s, "abcde");
}

static int handler_tells;

static void on_signal_tell(int number)
{
	long n = 0;

	signals++;
	if (write(handler_tells, &n, sizeof(n)) != sizeof(n))
		_exit(3);
}

static void sleep_and_restart(struct side *s)
{
	struct sigaction a = { .sa_handler = on_signal_tell, .sa_flags = SA_RESTART };

	handler_tells = s->other;
	sigaction(SIGUSR1, &a, NULL);
	tell(s, 0);
	see_recv(s, 100, 0);
	saw(s, "%d signals", (int)signals);
}

static void made_blocking_until_signal(struct side *s)
{
	make_blocking(s);
	by_nature(s, true);
	sleep_until_signal(s);
}

static void made_blocking_and_restart(struct side *s)
{
	make_blocking(s);
	by_nature(s, true);
	sleep_and_restart(s);
}

/* ------------------------------------------------------------------ 22: two threads sleep in recv() */

struct reader {
	struct side *side;
	pthread_t thread;
	char data[16];
	ssize_t got;
	int error;
};

static void *read_once(void *ctx)
{
	struct reader *r = ctx;

	tell(r->side, (long)syscall(SYS_gettid));
	r->got = recv(r->side->fd, r->data, 5, 0);
	r->error = errno;
	return NULL;
}

static void two_readers(struct side *s)
{
	struct reader r[2] = { { .side = s }, { .side = s } };

	for (int i = 0; i < 2; i++)
		pthread_create(&r[i].thread, NULL, read_once, &r[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(r[i].thread, NULL);
	for (int i = 0; i < 2; i++) {
		errno = r[i].error;
		saw(s, "a thread: recv(5) = %s", result(r[i].got));
	}
}

static void wake_two(struct side *s)
{
	pid_t tasks[2] = { (pid_t)hear(s), (pid_t)hear(s) };

	for (int i = 0; i < 2; i++)
		wait_asleep(s, tasks[i]);
	put_text(s, "abcde");
	put_text(s, "fghij");
}

static void two_readers_made_blocking(struct side *s)
{
	make_blocking(s);
	by_nature(s, true);
	two_readers(s);
}

/* ------------------------------------------------------------------ 23: SO_RCVTIMEO */

static void times_out(struct side *s)
{
	struct timeval t = { .tv_usec = 150000 };
	struct timespec a, b;
	long ms;

	saw(s, "set SO_RCVTIMEO = %s", result(setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t))));
	clock_gettime(CLOCK_MONOTONIC, &a);
	see_recv(s, 100, 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
	saw(s, "after %s", ms < 150 ? "less than 150 ms" : "150 ms or more");
	meet(s);
	await(s);
	see_recv(s, 100, 0);
}

static void late_message(struct side *s)
{
	meet(s);
	arrive(s, "abcde");
}

static void times_out_made_blocking(struct side *s)
{
	make_blocking(s);
	times_out(s);
}

/* ------------------------------------------------------------------ a sleeper in recv, poll, select, and by signal */

static void wake_each(struct side *s)
{
	for (int i = 0; i < 5; i++) {
		hear(s);
		wait_asleep(s, s->peer);
		put_text(s, "wake");
	}
}

static void sleep_in_recv(struct side *s)
{
	for (int i = 0; i < 5; i++) {
		tell(s, 0);
		see_recv(s, 100, 0);
	}
}

static void sleep_made_blocking(struct side *s)
{
	make_blocking(s);
	sleep_in_recv(s);
}

static void sleep_in_poll(struct side *s)
{
	for (int i = 0; i < 5; i++) {
		tell(s, 0);
		see_poll(s, POLLIN | POLLRDHUP, 3000);
		see_recv(s, 100, 0);
	}
}

static void sleep_in_select(struct side *s)
{
	for (int i = 0; i < 5; i++) {
		struct timeval t = { .tv_sec = 3 };
		fd_set in;

		FD_ZERO(&in);
		FD_SET(s->fd, &in);
		tell(s, 0);
		saw(s, "select = %s", result(select(s->fd + 1, &in, NULL, NULL, &t)));
		see_recv(s, 100, 0);
	}
}

/* SIGIO may come once for several events; what is compared is that it comes. */
static void told_by_signal(struct side *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	must(s, fcntl(s->fd, F_SETOWN, getpid()));
	must(s, fcntl(s->fd, F_SETFL, O_NONBLOCK | O_ASYNC));
	for (int i = 0; i < 5; i++) {
		struct timespec t = { .tv_sec = 3 };
		int n;

		tell(s, 0);
		do {
			n = sigtimedwait(&set, NULL, &t);
		} while (n == SIGIO && !wait_for(s->fd, POLLIN, 0));
		saw(s, "sigtimedwait = %s", n == SIGIO ? "SIGIO" : result(n));
		see_recv(s, 100, 0);
	}
}

/* The reader sleeps since before weft could enter the connection into its map. */
static void wake_after_a_while(struct side *s)
{
	hear(s);
	wait_asleep(s, s->peer);
	settle(s);
	put_text(s, "wake");
	for (int i = 0; i < 4; i++) {
		hear(s);
		wait_asleep(s, s->peer);
		put_text(s, "wake");
	}
}

/* ------------------------------------------------------------------ made blocking, and weft has seen it */

static void let_go(struct side *s)
{
	meet(s);
	leave(s);
	meet(s);
}

static void left_until_signal(struct side *s)
{
	make_blocking(s);
	let_go(s);
	sleep_until_signal(s);
}

static void signal_when_left(struct side *s)
{
	let_go(s);
	signal_a_sleeper(s);
}

static void two_readers_left(struct side *s)
{
	make_blocking(s);
	let_go(s);
	two_readers(s);
}

static void wake_two_when_left(struct side *s)
{
	let_go(s);
	wake_two(s);
}

#define BLOCKED "weft looks at O_NONBLOCK once a second; until then EAGAIN where a blocking socket has none"

const struct row waiting_rows[] = {
	{ "21", "signal", "a signal for a reader that sleeps in recv()", signal_a_sleeper, sleep_until_signal,
	  .flags = ROW_SERVER_BLOCKS },
	{ "21", "signal-restart", "the same with SA_RESTART, then data", signal_then_data, sleep_and_restart,
	  .flags = ROW_SERVER_BLOCKS },
	{ "21", "signal-made-blocking", "made blocking after a conversation, then a signal", signal_a_sleeper,
	  made_blocking_until_signal, .nature = BLOCKED },
	{ "21", "signal-left", "the same once weft has let go of the connection", signal_when_left,
	  left_until_signal },
	{ "21", "restart-made-blocking", "the same with SA_RESTART", signal_then_data, made_blocking_and_restart,
	  .nature = BLOCKED },
	{ "22", "two-readers", "two threads sleep in recv() of one socket, two messages come", wake_two, two_readers,
	  .flags = ROW_SERVER_BLOCKS },
	{ "22", "two-readers-made-blocking", "made blocking after a conversation, then two threads", wake_two,
	  two_readers_made_blocking, .nature = BLOCKED },
	{ "22", "two-readers-left", "the same once weft has let go of the connection", wake_two_when_left,
	  two_readers_left },
	{ "23", "rcvtimeo", "SO_RCVTIMEO ends recv(), then data comes", late_message, times_out,
	  .flags = ROW_SERVER_BLOCKS },
	{ "23", "rcvtimeo-made-blocking", "made blocking after a conversation, then SO_RCVTIMEO", late_message,
	  times_out_made_blocking },
	{ "23", "sleep-recv", "a reader that sleeps in recv() five times", wake_each, sleep_in_recv,
	  .flags = ROW_SERVER_BLOCKS },
	{ "23", "sleep-from-the-start", "a reader that sleeps in recv() from the start", wake_after_a_while,
	  sleep_in_recv, .flags = ROW_SERVER_BLOCKS | ROW_SILENT | ROW_DIALS },
	{ "23", "sleep-made-blocking", "made blocking after a conversation, then sleeps in recv()", wake_each,
	  sleep_made_blocking },
	{ "23", "sleep-poll", "a reader that sleeps in poll()", wake_each, sleep_in_poll },
	{ "23", "sleep-select", "a reader that sleeps in select()", wake_each, sleep_in_select },
	{ "23", "sigio", "a reader that is told by SIGIO (O_ASYNC)", wake_each, told_by_signal },
	{},
};
