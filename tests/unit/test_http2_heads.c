/* SPDX-License-Identifier: Apache-2.0 */
/* Heads that nobody is told of: refused, malformed, too large. They have ended all the same, and cost nobody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "by_hand.h"

#define NEVER "http2: headers do not end in time"

static uint64_t until_ns;

static bool closed_or_later(struct scene *s)
{
	return m.server.closed || m.client.closed || clock_ns() > until_ns;
}

/* Ticks of the connection, each of which would find a head that is late. */
static void some_ticks(uint64_t head_ns)
{
	until_ns = clock_ns() + 6 * head_ns;
	assert_true(scene_until(&m.s, closed_or_later));
}

static size_t get(uint8_t *to, const char *path)
{
	size_t len = raw_field(to, ":method", "GET");

	len += raw_field(to + len, ":scheme", "http");
	len += raw_field(to + len, ":path", path);
	return len + raw_field(to + len, ":authority", "a");
}

/* With one field more, if `name`. */
static void say(uint32_t id, const char *path, const char *name, const char *value)
{
	uint8_t block[512];
	size_t len = get(block, path);

	if (name)
		len += raw_field(block + len, name, value);
	raw_frame(&r, F_HEADERS, END_HEADERS | END_STREAM, id, block, len);
	scene_turns(&m.s);
}

/* What a request did wrong is over with it: the streams beside it go on, for however long nobody asks for more. */
static void refused_requests(void **state)
{
	static const char *const fields[][2] = {{"Upper", "x"}, {"a", "x\ny"}, {"connection", "close"}, {":path", "/"}};
	const struct http_limits limits = {.head_ns = 20000000, .streams = 2};

	for (size_t i = 0; i <= array_size(fields); i++) {
		by_hand_client(&limits);
		say(1, "/wait", NULL, NULL);
		if (i < array_size(fields)) {
			say(3, "/", fields[i][0], fields[i][1]);
		} else {
			say(3, "/wait", NULL, NULL);
			say(5, "/wait", NULL, NULL); /* more than there may be */
		}
		assert_int_equal(r.count[F_RST_STREAM], 1);
		some_ticks(limits.head_ns);
		if (m.server.closed)
			fail_msg("row %zu: %s", i, m.server.why);
		by_hand_leave();
	}
}

static void refused_answers(void **state)
{
	const struct http_limits limits = {.head_ns = 20000000};
	struct http_head h = ask_head("/");
	struct talk *a, *b;
	uint8_t block[512];
	size_t len;

	by_hand_server(&limits);
	a = meeting_ask(&m, &h, true);
	b = meeting_ask(&m, &h, true);
	scene_turns(&m.s);
	len = raw_field(block, ":status", "200");
	len += raw_field(block + len, "a", "x\ny");
	raw_frame(&r, F_HEADERS, END_HEADERS, 3, block, len);
	scene_turns(&m.s);
	assert_true(b->failed);
	some_ticks(limits.head_ns);
	if (m.client.closed)
		fail_msg("%s", m.client.why);
	assert_false(a->failed);
	by_hand_leave();
}

/* And one that has not ended is still late, whatever came before it. */
static void late_after_refused(void **state)
{
	const struct http_limits limits = {.head_ns = 20000000};
	uint8_t block[512];

	by_hand_client(&limits);
	say(1, "/", "Upper", "x");
	raw_frame(&r, F_HEADERS, 0, 3, block, get(block, "/"));
	until_ns = UINT64_MAX;
	assert_true(scene_until(&m.s, closed_or_later));
	assert_string_equal(m.server.why, NEVER);
	by_hand_leave();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_requests),
		cmocka_unit_test(refused_answers),
		cmocka_unit_test(late_after_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
