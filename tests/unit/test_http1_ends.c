/* SPDX-License-Identifier: Apache-2.0 */
/* How connections of HTTP/1 end: answers that are cut, servers that drain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "http1_ends.h"

#define REQUEST "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define HELLO_CLOSE "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"

static struct ends s;

static void answer_hello(void)
{
	ends_answer(&s, 200, HTTP_LENGTH, 5);
	ends_write(&s, "hello");
	stream_finish(&s.app.x->s);
	ends_pump(&s);
	ends_turns(&s);
}

static bool ended(struct ends *e)
{
	for (unsigned i = 0; i < 3000 && !e->over; i++) {
		usleep(1000);
		ends_turn(e);
	}
	ends_turns(e);
	return e->over;
}

/*
 * An answer that was begun and left never looks like a whole one: where an end would, it is a reset. What was read of
 * it is delivered, the head too that came in the turn of the cut.
 */
static void cut_answers(void **state)
{
	static const struct {
		const char *say;
		unsigned status;
		enum http_body body;
		const char *write;
		bool reset;
	} cases[] = {
		{REQUEST, 200, HTTP_LENGTH, "12345", false},
		{REQUEST, 200, HTTP_LENGTH, "", false},
		{REQUEST, 200, HTTP_STREAM, "12345", false},
		{REQUEST, 200, HTTP_STREAM, "", false},
		{"GET / HTTP/1.0\r\n\r\n", 200, HTTP_STREAM, "12345", true},
		{REQUEST, 0, HTTP_NO_BODY, "", true},
	};

	for (unsigned i = 0; i < 2 * array_size(cases); i++) {
		bool at_once = i & 1;

		ends_start(&s, true, ENDS_HOLD, NULL);
		ends_say(&s, cases[i / 2].say);
		if (cases[i / 2].status)
			ends_answer(&s, cases[i / 2].status, cases[i / 2].body, 10);
		if (*cases[i / 2].write)
			ends_write(&s, cases[i / 2].write);
		if (!at_once)
			ends_turns(&s);
		ends_close(&s, i & 2 ? "upstream was reset" : NULL);
		ends_turns(&s);
		assert_true(s.over && s.why && s.peer_reset == cases[i / 2].reset);
		assert_true(s.peer_reset || s.peer_ended);
		assert_null(strstr(s.heard, "\r\n0\r\n\r\n"));
		if (!cases[i / 2].reset)
			assert_non_null(strstr(s.heard, "200"));
		ends_end(&s);
	}
	/* Nor can its owner end it too early. */
	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, REQUEST);
	ends_answer(&s, 200, HTTP_LENGTH, 10);
	ends_write(&s, "12345");
	stream_finish(&s.app.x->s);
	ends_turns(&s);
	assert_true(s.peer_reset && s.app.failed);
	ends_end(&s);
}

static void drains(void **state)
{
	ends_start(&s, true, ENDS_HOLD, NULL);
	s.c->ops->drain(s.c);
	ends_turns(&s);
	assert_true(s.over && !s.why && s.drainings == 1);
	ends_end(&s);
	/* Who was idle may still ask, once, where the owner wants that. */
	ends_start(&s, true, ENDS_HOLD, NULL);
	s.c->last_ns = 20000000;
	s.c->ops->drain(s.c);
	ends_turns(&s);
	assert_true(!s.over && s.drainings == 1);
	ends_say(&s, REQUEST REQUEST);
	answer_hello();
	assert_string_equal(s.heard, HELLO_CLOSE);
	assert_true(s.over && !s.why && s.requests == 1);
	ends_end(&s);
	ends_start(&s, true, ENDS_HOLD, NULL);
	s.c->last_ns = 20000000;
	s.c->ops->drain(s.c);
	assert_true(ended(&s) && !s.why && s.peer_ended && !s.peer_reset);
	ends_end(&s);
	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, REQUEST REQUEST);
	s.c->ops->drain(s.c);
	ends_turns(&s);
	assert_false(s.over);
	answer_hello();
	assert_string_equal(s.heard, HELLO_CLOSE);
	assert_true(s.over && s.requests == 1 && s.drainings == 1);
	ends_end(&s);
	ends_start(&s, false, ENDS_HOLD, NULL);
	assert_non_null(ends_ask(&s, &(struct http_head){0}, true));
	s.c->ops->drain(s.c);
	assert_int_equal(http_free(s.c), 0);
	ends_say(&s, HELLO);
	assert_true(s.app.ended && s.over && !s.why);
	ends_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_answers),
		cmocka_unit_test(drains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
