// SPDX-License-Identifier: Apache-2.0
/* Connections on order: one that stands, one that is refused, one that nobody wants any more. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "dialer.h"

struct waiter {
	struct dial_wait wait;
	struct stream *stream;
	enum abi_reason reason;
	unsigned calls;
};

static struct dialer dialer;

static void done(struct dial_wait *w, struct stream *s, enum abi_reason reason, const char *why)
{
	struct waiter *waiter = container_of(w, struct waiter, wait);

	assert_null(w->dial);
	assert_true(!!s == !why);
	waiter->stream = s;
	waiter->reason = reason;
	waiter->calls++;
}

static void dial(struct waiter *w, const struct abi_addr *addr, uint16_t port)
{
	const struct dial_plan plan = {.kind = DIAL_OUT, .netns = 7, .server = *addr, .server_port = port};

	*w = (struct waiter){.wait.done = done};
	dial_begin(&dialer, &plan, &w->wait);
}

static void nothing(struct stream *s, unsigned events)
{
}

static void test_open(void **state)
{
	struct abi_addr addr;
	uint16_t port;
	int listening = listener(AF_INET, &addr, &port, 8);
	struct waiter w;

	dial(&w, &addr, port);
	UNTIL(w.calls);
	assert_non_null(w.stream);
	w.stream->ready = nothing;
	stream_close(w.stream, NULL);
	rest();
	assert_int_equal(w.calls, 1);
	close(listening);
}

static void test_refused(void **state)
{
	struct abi_addr addr;
	uint16_t port;
	int listening = listener(AF_INET, &addr, &port, 8);
	struct waiter w;

	close(listening);
	dial(&w, &addr, port);
	UNTIL(w.calls);
	assert_null(w.stream);
	assert_int_equal(w.reason, ABI_UNREACHABLE);
	rest();
	assert_int_equal(w.calls, 1);
}

/* Before there is a socket, and while it connects. */
static void test_cancelled(void **state)
{
	for (unsigned turns = 0; turns < 3; turns++) {
		struct abi_addr addr;
		uint16_t port;
		int listening = listener(AF_INET, &addr, &port, 8);
		struct waiter w;

		dial(&w, &addr, port);
		for (unsigned i = 0; i < turns && !w.calls; i++)
			turn(0);
		if (w.stream) {
			w.stream->ready = nothing;
			stream_close(w.stream, "test");
		}
		dial_cancel(&w.wait);
		dial_cancel(&w.wait);
		rest();
		assert_true(w.calls <= 1 && !!w.calls == !!w.stream);
		close(listening);
	}
}

/* Descriptors run out: who holds most gets none, also if he has waited for it; others do. */
static void test_gives_way(void **state)
{
	const uint32_t many = shares_pod(1), few = shares_pod(2);
	struct dial_plan plan = {.kind = DIAL_OUT, .netns = 8, .place = many};
	struct waiter waits = {.wait.done = done}, late = waits, other = waits;
	int listening = listener(AF_INET, &plan.server, &plan.server_port, 8);
	uint64_t begins;

	for (unsigned i = 0; i < 100; i++)
		shares_hold(thread, many);
	dial_begin(&dialer, &plan, &waits.wait);
	assert_int_equal(waits.calls, 0);
	begins = clock_ns();
	shares_seen(thread, (int)sock_files() - 1);
	dial_begin(&dialer, &plan, &late.wait);
	assert_true(late.calls == 1 && late.reason == ABI_OVERLOADED);
	plan.place = few;
	dial_begin(&dialer, &plan, &other.wait);
	UNTIL(waits.calls && other.calls);
	if (clock_ns() - begins < 900 * MS) { /* else they may not run out any more */
		assert_null(waits.stream);
		assert_int_equal(waits.reason, ABI_OVERLOADED);
	} else if (waits.stream) {
		waits.stream->ready = nothing;
		stream_close(waits.stream, NULL);
	}
	assert_non_null(other.stream);
	other.stream->ready = nothing;
	stream_close(other.stream, NULL);
	for (unsigned i = 0; i < 100; i++)
		shares_let_go(thread, many);
	rest();
	close(listening);
}

static int dial_setup(void **state)
{
	struct rlimit files;
	int r = setup(state);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = 400;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	dialer_setup(&dialer);
	return r;
}

static int dial_teardown(void **state)
{
	dialer_teardown(&dialer);
	return teardown(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_gives_way),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, dial_setup, dial_teardown);
}
