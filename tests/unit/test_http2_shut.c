// SPDX-License-Identifier: Apache-2.0
/* Servers that allow no streams (SETTINGS_MAX_CONCURRENT_STREAMS of 0): for a while, and for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "by_hand.h"

#define PATIENCE 50000000ull
#define REFUSED_STREAM 7

static void allow(unsigned char streams)
{
	const uint8_t settings[] = {0, 3, 0, 0, 0, streams};

	raw_frame(&r, F_SETTINGS, 0, 0, settings, sizeof(settings));
	scene_turns(&m.s);
}

static bool is_over(struct scene *s)
{
	return m.client.closed || s->client.closed;
}

static bool drains(struct scene *s)
{
	return m.client.draining || s->client.draining;
}

/* Its time is looked at every few ms: no PING, but a limit that is short. */
static void begin(uint64_t patience)
{
	const struct http_limits limit = {.head_ns = 2000000, .ping_timeout_ns = patience};

	by_hand_server(&limit);
	assert_int_equal(m.client.settled, 1);
	assert_false(m.client.c->shut);
}

static void for_a_while(void **state)
{
	const struct http_head head = ask_head("/");

	begin(3600000000000ull);
	for (unsigned i = 0; i < 3; i++) {
		allow(0);
		assert_true(m.client.c->shut);
		assert_int_equal(m.client.settled, 2 * i + 2);
		assert_int_equal(http_free(m.client.c), 0);
		assert_null(meeting_ask(&m, &head, true));
		allow(0); /* the same: nobody is told */
		assert_int_equal(m.client.settled, 2 * i + 2);
		allow(2);
		assert_false(m.client.c->shut);
		assert_int_equal(m.client.settled, 2 * i + 3);
		assert_int_equal(m.client.free, i + 1);
		assert_int_equal(http_free(m.client.c), 2);
	}
	assert_int_equal(m.client.closed, 0);
	by_hand_leave();
}

static void for_ever(void **state)
{
	uint64_t began;

	begin(PATIENCE);
	began = clock_ns();
	allow(0);
	assert_true(scene_until(&m.s, is_over));
	assert_true(clock_ns() - began >= PATIENCE);
	assert_string_equal(m.client.why, "http2: the peer allows no streams");
	assert_int_equal(r.count[F_GOAWAY], 1);
	assert_int_equal(r.goaway_code, 0);
	by_hand_leave();
}

/* What is under way is done first. */
static void with_a_request_under_way(void **state)
{
	const struct http_head head = ask_head("/");
	struct talk *t;

	begin(PATIENCE);
	t = meeting_ask(&m, &head, true);
	scene_turns(&m.s);
	allow(0);
	assert_true(scene_until(&m.s, drains));
	assert_int_equal(m.client.closed, 0);
	assert_false(t->failed);
	raw_frame(&r, F_HEADERS, END_HEADERS | END_STREAM, 1, "\x88", 1);
	scene_turns(&m.s);
	assert_int_equal(t->status, 200);
	assert_true(t->ended);
	talk_close(t, NULL);
	assert_true(scene_until(&m.s, is_over));
	assert_null(m.client.why);
	by_hand_leave();
}

/* What was asked and has not left would never leave: its owner hears that it was not processed. */
static void with_a_request_that_has_not_left(void **state)
{
	const struct http_head head = ask_head("/");
	struct talk *t;

	begin(PATIENCE);
	r.end->capacity = 0;
	allow(100); /* our answer fills the transport: what is asked then waits behind it */
	t = meeting_ask(&m, &head, true);
	allow(0);
	assert_true(scene_until(&m.s, is_over));
	assert_true(t->failed && t->unprocessed);
	by_hand_leave();
}

/* A tunnel's connection says so too, and how many streams it takes then. */
static void tunnels(void **state)
{
	const struct hbone_limits limit = {.idle_ns = 2000000, .ping_timeout_ns = PATIENCE};
	struct scene *s = &m.s;
	struct app *a;

	raw_server(s, &r, &limit);
	assert_true(hbone_most(s->client.h) == HBONE_UNSAID);
	a = scene_connect(s, 1);
	scene_turns(s);
	assert_int_equal(s->client.settled, 1);
	assert_int_equal(hbone_most(s->client.h), 100);
	allow(0);
	assert_int_equal(s->client.settled, 2);
	assert_int_equal(hbone_most(s->client.h), 0);
	assert_null(scene_connect(s, 2));
	allow(7);
	assert_int_equal(hbone_most(s->client.h), 7);
	assert_int_equal(hbone_free(s->client.h), 6);
	allow(0);
	assert_true(scene_until(s, drains));
	assert_int_equal(s->client.closed, 0);
	assert_false(a->failed);
	raw_rst(&r, 1, REFUSED_STREAM);
	assert_true(scene_until(s, is_over));
	assert_true(a->failed);
	raw_end(s, &r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(for_a_while),
		cmocka_unit_test(for_ever),
		cmocka_unit_test(with_a_request_under_way),
		cmocka_unit_test(with_a_request_that_has_not_left),
		cmocka_unit_test(tunnels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
