/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to PING: beside open streams they wait a little, for what is said next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/http/http2_parts.h"
#include "by_hand.h"

#define GET "\x82\x86\x84\x41\x01" "a" /* of HPACK's static table: GET http / and whose */
#define WAIT "\x83\x86\x04\x05/wait\x41\x01" "a"

#define PING_FRAME (HTTP2_FRAME_HEAD + 8)

static struct http2 *served;
static unsigned pings; /* asked */

static void start(void)
{
	by_hand_client(NULL);
	served = m.server.c->below->owner;
	pings = 0;
}

static void ping(void)
{
	raw_frame(&r, F_PING, 0, 0, "01234567", 8);
	pings++;
}

static bool answered(struct scene *s)
{
	return r.count[F_PING] == pings;
}

static bool waits_or_answered(struct scene *s)
{
	return served->acks || answered(s);
}

/* One that waits: of a slow machine its time may have passed before we look. */
static void ping_that_waits(void)
{
	unsigned tries = 0;

	do {
		assert_true(tries++ < 1000);
		ping();
		assert_true(scene_until(&m.s, waits_or_answered));
	} while (answered(&m.s));
	assert_int_equal(served->acks, PING_FRAME);
	assert_int_equal(served->corked.len, PING_FRAME);
	assert_int_equal(r.count[F_PING], pings - 1);
}

static void without_streams_at_once(void **state)
{
	start();
	ping();
	scene_turns(&m.s);
	assert_int_equal(served->acks, 0);
	assert_true(answered(&m.s));
	raw_frame(&r, F_HEADERS, END_HEADERS | END_STREAM, 1, GET, sizeof(GET) - 1);
	scene_turns(&m.s);
	assert_int_equal(r.count[F_HEADERS], 1);
	ping();
	scene_turns(&m.s);
	assert_true(answered(&m.s));
	by_hand_leave();
}

static void with_what_is_said_next(void **state)
{
	start();
	raw_frame(&r, F_HEADERS, END_HEADERS, 1, WAIT, sizeof(WAIT) - 1);
	scene_turns(&m.s);
	assert_int_equal(m.server.talks, 1);
	ping_that_waits();
	raw_frame(&r, F_HEADERS, END_HEADERS | END_STREAM, 3, GET, sizeof(GET) - 1);
	while (!r.count[F_HEADERS])
		scene_turns(&m.s);
	assert_true(answered(&m.s));
	assert_int_equal(served->acks, 0);
	by_hand_leave();
}

static void not_for_long(void **state)
{
	start();
	raw_frame(&r, F_HEADERS, END_HEADERS, 1, WAIT, sizeof(WAIT) - 1);
	scene_turns(&m.s);
	for (unsigned i = 0; i < 3; i++) {
		ping_that_waits();
		assert_true(scene_until(&m.s, answered));
		assert_int_equal(served->acks, 0);
		assert_int_equal(served->corked.len, 0);
	}
	by_hand_leave();
}

/* Closed while one waits: it has left before. */
static void before_the_end(void **state)
{
	start();
	raw_frame(&r, F_HEADERS, END_HEADERS, 1, WAIT, sizeof(WAIT) - 1);
	scene_turns(&m.s);
	ping_that_waits();
	m.server.c->ops->close(m.server.c, NULL);
	scene_turns(&m.s);
	assert_true(answered(&m.s));
	assert_int_equal(r.count[F_GOAWAY], 1);
	by_hand_leave();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_streams_at_once),
		cmocka_unit_test(with_what_is_said_next),
		cmocka_unit_test(not_for_long),
		cmocka_unit_test(before_the_end),
	};
	int result = cmocka_run_group_tests(tests, NULL, NULL);

	free(m.client.talk);
	free(m.server.talk);
	return result;
}
