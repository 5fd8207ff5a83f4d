// SPDX-License-Identifier: Apache-2.0
/* Connections on order: one that stands, one that is refused, one that nobody wants any more. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

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

static int dial_setup(void **state)
{
	int r = setup(state);

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
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, dial_setup, dial_teardown);
}
