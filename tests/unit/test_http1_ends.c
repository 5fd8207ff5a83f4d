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

/* ------------------------------------------------------------------ rest */

#define REST_NS 20000000ull

static void some_time(struct ends *e)
{
	uint64_t until = clock_ns() + 5 * REST_NS;

	while (clock_ns() < until) {
		usleep(1000);
		ends_turn(e);
	}
}

static bool rested(struct ends *e, unsigned times)
{
	for (unsigned i = 0; i < 30000 && e->rests < times; i++) {
		usleep(1000);
		ends_turn(e);
	}
	return e->rests >= times;
}

/* Its owner keeps the transport, and goes on with it; whatever came meanwhile is there. */
static void rests_and_goes_on(void **state)
{
	static const struct http_limits limits = {.rest_ns = REST_NS};

	ends_start(&s, true, ENDS_HELLO, &limits);
	for (unsigned i = 0; i < 3; i++) { /* before it has said anything; after it has */
		s.leaves = true;
		assert_true(rested(&s, i + 1));
		assert_true(!s.c && s.left);
		ends_turns(&s);
		assert_true(!s.over && !s.peer_ended && s.thread->slab[SLAB_HTTP1].spare);
		if (i)
			ends_say(&s, REQUEST);
		s.c = http1_server(s.thread, s.left, &limits, &ends_events, &s);
		ends_turns(&s);
		if (!i)
			ends_say(&s, REQUEST);
		assert_int_equal(s.requests, i + 1);
	}
	assert_string_equal(s.heard, HELLO HELLO HELLO);
	ends_end(&s);
}

/* Who is told and does not leave is told again when it was in use; time goes on as ever. */
static void rests_and_stays(void **state)
{
	static const struct http_limits limits = {.rest_ns = REST_NS, .idle_ns = 10 * REST_NS};

	ends_start(&s, true, ENDS_HELLO, &limits);
	assert_true(rested(&s, 1));
	some_time(&s);
	assert_int_equal(s.rests, 1);
	ends_say(&s, REQUEST);
	assert_int_equal(s.requests, 1);
	assert_true(rested(&s, 2));
	assert_true(ended(&s) && !s.why && s.peer_ended && !s.peer_reset); /* idle */
	assert_int_equal(s.rests, 2);
	ends_end(&s);
}

static void has_no_rest(void **state)
{
	static const struct http_limits limits = {.rest_ns = REST_NS};

	ends_start(&s, true, ENDS_HELLO, NULL); /* nobody asked for it */
	ends_say(&s, REQUEST);
	some_time(&s);
	assert_int_equal(s.rests, 0);
	ends_end(&s);
	ends_start(&s, false, ENDS_HOLD, &limits); /* a client's */
	some_time(&s);
	assert_int_equal(s.rests, 0);
	ends_end(&s);
	ends_start(&s, true, ENDS_HOLD, &limits);
	ends_say(&s, REQUEST); /* under way */
	some_time(&s);
	assert_int_equal(s.rests, 0);
	answer_hello();
	ends_say(&s, "GET / HT"); /* a part of one */
	some_time(&s);
	assert_int_equal(s.rests, 0);
	ends_say(&s, "TP/1.1\r\nHost: a\r\n\r\n");
	answer_hello();
	s.c->last_ns = 60000000000ull; /* it drains */
	s.c->ops->drain(s.c);
	some_time(&s);
	assert_true(!s.rests && !s.over);
	ends_end(&s);
}

/* The end of an answer is still ours when its owner has left: who never takes it does not hold us for ever. */
static void takes_nothing(void **state)
{
	static const struct {
		const char *say;
		bool left; /* of the request */
	} cases[] = {
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"},
		{"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\n1", true},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1", true},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n1", true},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	};
	const struct http_limits l = {.head_ns = 5000000, .idle_ns = 10000000};

	for (unsigned i = 0; i < array_size(cases); i++) {
		ends_start(&s, true, ENDS_HOLD, &l);
		s.pair[1]->capacity = 30;
		s.pair[1]->s.ready = NULL;
		ends_say(&s, cases[i].say);
		assert_int_equal(s.requests, 1);
		ends_answer(&s, 200, HTTP_STREAM, 0);
		ends_write(&s, "12345");
		stream_finish(&s.app.x->s);
		ends_turns(&s);
		assert_true(s.app.x->s.ended == !cases[i].left && !s.over);
		ends_close(&s, NULL);
		if (!ended(&s))
			fail_msg("row %u", i);
		ends_end(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_answers),
		cmocka_unit_test(drains),
		cmocka_unit_test(rests_and_goes_on),
		cmocka_unit_test(rests_and_stays),
		cmocka_unit_test(has_no_rest),
		cmocka_unit_test(takes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
