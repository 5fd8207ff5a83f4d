/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers over HTTP/2 between two of our ends, in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "messages.h"

static struct meeting m;

static void start(size_t capacity, size_t slice, const struct http_limits *client, const struct http_limits *server)
{
	struct pair_end *ends[2];

	meeting_thread(&m);
	pair_make(&m.s.thread, ends, capacity, slice, 1);
	m.client.end = ends[0];
	m.server.end = ends[1];
	m.client.c = http2_client(&m.s.thread, &ends[0]->s, client, &party_events, &m.client);
	m.server.c = http2_server(&m.s.thread, &ends[1]->s, server, &party_events, &m.server);
}

static void turns(void)
{
	scene_turns(&m.s);
}

static struct talk *ask(const char *path, bool end)
{
	struct http_head h = ask_head(path);

	return meeting_ask(&m, &h, end);
}

static void request_and_answer(void **state)
{
	struct talk *a;

	start(1 << 20, 0, NULL, NULL);
	assert_int_equal(http_free(m.client.c), 1); /* the server has not said how many it takes */
	a = ask("/hello?x=1", true);
	assert_non_null(a);
	assert_int_equal(http_free(m.client.c), 0);
	a->keeps = true;
	turns();
	assert_int_equal(http_free(m.client.c), 100);
	assert_string_equal(m.server.talk[0].head, "GET http a.example /hello?x=1\n");
	assert_int_equal(m.server.talk[0].body, HTTP_NO_BODY);
	assert_true(m.server.talk[0].ended);
	assert_string_equal(a->head, "200\n(5)\n");
	assert_int_equal(a->body, HTTP_LENGTH);
	assert_string_equal(a->text.data, "hello");
	assert_true(a->ended);
	assert_true(a->x->head_sent && a->x->head_came);
	assert_null(a->x->trailers);
	assert_int_equal(m.client.c->ops->active(m.client.c), 0);
	assert_int_equal(m.server.c->ops->active(m.server.c), 0);
	talk_close(a, NULL);
	talk_close(&m.server.talk[0], NULL);
	turns();
	assert_int_equal(m.s.thread.pool.lent, 0);
	meeting_end(&m);
	assert_null(m.client.why);
	assert_null(m.server.why);
	assert_int_equal(m.server.refused, 0);
}

/* Whole messages with trailers, through a transport of every kind. */
static void bodies_of_any_size(void **state)
{
	static const struct {
		size_t capacity, slice;
		bool knows_room;
		unsigned talks;
		uint64_t bytes;
	} all[] = {
		{8 << 20, 0, false, 4, 3000000}, {100000, 30000, false, 8, 400000}, {100000, 30000, true, 8, 400000},
		{5000, 700, false, 3, 60000},	 {5000, 1500, true, 20, 20000},	    {40, 7, false, 2, 1500},
		{40, 7, true, 2, 1500},		 {1, 1, false, 1, 300},		    {8 << 20, 0, false, 90, 100},
		{8 << 20, 0, false, 50, 0},
	};
	const struct http_field trail = {HTTP_TEXT("Grpc-Status"), HTTP_TEXT("0"), HTTP_NAME_GRPC_STATUS, false};
	size_t i;
	unsigned n, round;

	for (i = 0; i < array_size(all); i++) {
		start(all[i].capacity, all[i].slice, NULL, NULL);
		m.client.end->knows_room = m.server.end->knows_room = all[i].knows_room;
		for (n = 0; n < all[i].talks; n++) {
			struct talk *a = ask("/echo", false);

			a->send = all[i].bytes;
			a->finish = true;
			a->trail = &trail;
			a->trails = n % 2;
		}
		for (n = 0; n < all[i].talks; n++)
			talk_send(&m.client.talk[n]);
		for (n = 0, round = 0; n < all[i].talks && round < 20000; round++) {
			turns();
			while (n < all[i].talks && m.client.talk[n].ended)
				n++;
		}
		for (n = 0; n < all[i].talks; n++) {
			struct talk *a = &m.client.talk[n];

			if (!a->ended || a->got != all[i].bytes)
				fail_msg("row %zu does not end", i);
			assert_int_equal(m.server.talk[n].got, all[i].bytes);
			assert_string_equal(a->trailers, n % 2 ? "grpc-status: 0\n" : "");
		}
		turns();
		assert_int_equal(m.client.c->ops->active(m.client.c), 0);
		meeting_end(&m);
	}
}

static void fields(void **state)
{
	struct http_field all[] = {
		{HTTP_TEXT("X-Mixed-Case"), HTTP_TEXT("Stays As It Is"), HTTP_NAME_OTHER, false},
		{HTTP_TEXT("Authorization"), HTTP_TEXT("Bearer x"), HTTP_NAME_AUTHORIZATION, true},
		{HTTP_TEXT("Connection"), HTTP_TEXT("close"), HTTP_NAME_CONNECTION, false},
		{HTTP_TEXT("host"), HTTP_TEXT("b"), HTTP_NAME_HOST, false},
		{HTTP_TEXT("cookie"), HTTP_TEXT("a=1"), HTTP_NAME_COOKIE, false},
		{HTTP_TEXT("expect"), HTTP_TEXT("100-Continue"), HTTP_NAME_EXPECT, false},
		{HTTP_TEXT("cookie"), HTTP_TEXT("b=2"), HTTP_NAME_COOKIE, false},
		{HTTP_TEXT("cookie"), HTTP_TEXT("c=3"), HTTP_NAME_COOKIE, false},
		{HTTP_TEXT("empty"), {0}, HTTP_NAME_OTHER, false},
	};
	struct http_head h = ask_head("/wait");

	start(1 << 20, 0, NULL, NULL);
	h.method = HTTP_POST;
	h.method_text = HTTP_TEXT("POST");
	h.scheme = HTTP_TEXT("https");
	h.field = all;
	h.fields = array_size(all);
	h.body = HTTP_LENGTH;
	h.has_length = true;
	h.length = 12345678901234567ull;
	h.trailers = true;
	meeting_ask(&m, &h, false);
	turns();
	assert_string_equal(m.server.talk[0].head, "POST https a.example /wait\n(12345678901234567)\n(te)\n"
						   "x-mixed-case: Stays As It Is\n"
						   "authorization: Bearer x (secret)\n"
						   "cookie: a=1; b=2; c=3 (secret)\n" /* so short: nghttp2 says so */
						   "expect: 100-Continue\n"
						   "empty: \n");
	assert_int_equal(m.server.talk[0].body, HTTP_LENGTH);
	meeting_end(&m);
}

/* ------------------------------------------------------------------ answers */

static void say(struct talk *t, unsigned status, enum http_body body)
{
	struct http_head h = {.status = (uint16_t)status, .body = body};

	http_answer(t->x, &h);
}

static void informational(void **state)
{
	struct talk *a;
	unsigned i;

	start(1 << 20, 0, NULL, NULL);
	a = ask("/wait", true);
	turns();
	say(&m.server.talk[0], 100, HTTP_NO_BODY);
	say(&m.server.talk[0], 103, HTTP_NO_BODY);
	turns();
	assert_int_equal(a->heads, 2);
	assert_int_equal(a->status, 103);
	assert_false(a->ended);
	assert_false(a->x->head_came);
	say(&m.server.talk[0], 103, HTTP_NO_BODY);
	say(&m.server.talk[0], 204, HTTP_NO_BODY);
	turns();
	assert_int_equal(a->heads, 4);
	assert_int_equal(a->status, 204);
	assert_true(a->ended);

	a = ask("/wait", true); /* no end of them */
	turns();
	for (i = 0; i < 17; i++)
		say(&m.server.talk[1], 103, HTTP_NO_BODY);
	turns();
	assert_true(a->failed);
	assert_string_equal(a->why, "http2: too many answers before the final one");
	assert_true(m.server.talk[1].failed);
	meeting_end(&m);
}

static void answers_without_a_body(void **state)
{
	struct http_head h = ask_head("/hello");
	struct http_head not_modified = {.status = 304, .body = HTTP_NO_BODY, .has_length = true, .length = 77};
	struct talk *a, *b;

	start(1 << 20, 0, NULL, NULL);
	h.method = HTTP_HEAD;
	h.method_text = HTTP_TEXT("HEAD");
	a = meeting_ask(&m, &h, true);
	b = ask("/wait", true);
	turns();
	assert_string_equal(a->head, "200\n(5)\n");
	assert_int_equal(a->body, HTTP_NO_BODY);
	assert_true(a->ended);
	http_answer(m.server.talk[1].x, &not_modified);
	talk_close(&m.server.talk[1], NULL); /* finished by itself */
	turns();
	assert_string_equal(b->head, "304\n(77)\n");
	assert_true(b->ended);
	assert_int_equal(m.client.c->ops->active(m.client.c), 0);
	meeting_end(&m);
}

static void echo_tunnel(struct talk *t, const struct http_head *h)
{
	t->echo = true;
	say(t, h->upgrade.len ? 101 : 200, HTTP_TUNNEL);
}

static void tunnels(void **state)
{
	struct http_head h = ask_head("/chat?x");
	struct talk *a, *b;

	start(1 << 20, 0, NULL, NULL);
	m.server.serve = echo_tunnel;
	assert_false(m.client.c->settled);
	turns();
	assert_true(m.client.settled == 1 && m.client.c->settled); /* once, and it is known by then */
	assert_int_equal(m.server.settled, 0);
	assert_true(m.client.c->extended_connect); /* RFC 8441 */
	h.upgrade = HTTP_TEXT("websocket");
	a = meeting_ask(&m, &h, false);
	turns();
	assert_string_equal(m.server.talk[0].head, "GET http a.example /chat?x websocket\n");
	assert_int_equal(m.server.talk[0].body, HTTP_TUNNEL);
	assert_string_equal(a->head, "101\n");
	assert_int_equal(a->body, HTTP_TUNNEL);
	a->send = 100000;
	talk_send(a);
	turns();
	assert_int_equal(a->got, 100000);

	h = (struct http_head){.method = HTTP_CONNECT, .method_text = HTTP_TEXT("CONNECT"),
			       .authority = HTTP_TEXT("a:1")};
	b = meeting_ask(&m, &h, false);
	turns();
	assert_string_equal(m.server.talk[1].head, "CONNECT  a:1 \n");
	assert_string_equal(b->head, "200\n");
	assert_int_equal(b->body, HTTP_TUNNEL);
	b->send = 1000;
	b->finish = true;
	talk_send(b);
	turns();
	assert_int_equal(b->got, 1000);
	assert_true(b->ended);
	talk_close(a, NULL); /* in order: END_STREAM */
	turns();
	assert_true(m.server.talk[0].ended);
	assert_int_equal(m.client.c->ops->active(m.client.c), 0);
	meeting_end(&m);
}

/* Refused: an answer like any other; one that would be a yes in HTTP/2 and is none here is an error. */
static void no_tunnel(void **state)
{
	struct http_head h = ask_head("/wait");
	struct talk *a, *b;

	start(1 << 20, 0, NULL, NULL);
	turns();
	h.upgrade = HTTP_TEXT("websocket");
	a = meeting_ask(&m, &h, false);
	b = meeting_ask(&m, &h, false);
	turns();
	say(&m.server.talk[0], 403, HTTP_NO_BODY);
	say(&m.server.talk[1], 200, HTTP_NO_BODY);
	turns();
	assert_int_equal(a->status, 403);
	assert_int_equal(a->body, HTTP_NO_BODY);
	assert_true(a->ended);
	assert_int_equal(b->status, 502);
	meeting_end(&m);
}

/* ------------------------------------------------------------------ ends */

static void serve_asleep(struct talk *t, const struct http_head *h)
{
	t->sleeping = true;
	serve_all(t, h);
}

static void early_answer(void **state)
{
	struct talk *a, *b;

	start(1 << 20, 0, NULL, NULL);
	m.server.serve = serve_asleep;
	a = ask("/hello", false);
	a->keeps = true;
	a->send = 10000000;
	turns();
	talk_send(a);
	turns();
	b = &m.server.talk[0];
	assert_true(a->ended);
	assert_string_equal(a->text.data, "hello");
	assert_int_equal(a->sent, 65535);
	talk_close(b, NULL); /* RST_STREAM NO_ERROR: what he has not sent interests nobody */
	turns();
	assert_false(a->failed);
	assert_int_equal(a->sent, 10000000);
	assert_int_equal(m.client.c->ops->active(m.client.c), 0);
	stream_finish(&a->x->s);
	talk_close(a, NULL);
	assert_int_equal(m.server.closed, 0);
	meeting_end(&m);
}

/* The same, but that the connection ends: who waits for room to say the rest is not left alone with it. */
static void early_answer_and_the_end(void **state)
{
	for (int broken = 0; broken < 2; broken++) {
		struct talk *a;

		start(1 << 20, 0, NULL, NULL);
		m.server.serve = serve_asleep;
		a = ask("/hello", false);
		a->send = 100000;
		a->finish = true;
		talk_send(a);
		turns();
		assert_true(a->ended);
		assert_int_equal(a->sent, 65535);
		if (broken)
			pair_break(m.client.end);
		else
			m.server.c->ops->close(m.server.c, NULL);
		turns();
		assert_int_equal(m.client.closed, 1);
		assert_false(a->failed);
		assert_int_equal(a->sent, 100000);
		assert_true(a->x->s.finished);
		meeting_end(&m);
	}
}

static void resets(void **state)
{
	struct talk *a;

	start(1 << 20, 0, NULL, NULL);
	a = ask("/wait", true);
	turns();
	talk_close(a, "why not"); /* takes it back */
	turns();
	assert_true(m.server.talk[0].failed);
	assert_string_equal(m.server.talk[0].why, "http2: reset by the peer");
	assert_int_equal(m.server.talk[0].error, 8);

	a = ask("/wait", true); /* never answered */
	turns();
	talk_close(&m.server.talk[1], NULL);
	turns();
	assert_true(a->failed);
	assert_int_equal(a->error, 2);
	assert_false(a->unprocessed);

	a = ask("/wait", true);
	turns();
	m.server.talk[2].x->error = 7;
	talk_close(&m.server.talk[2], "overloaded");
	turns();
	assert_true(a->failed);
	assert_int_equal(a->error, 7);
	assert_true(a->unprocessed);
	assert_string_equal(a->why, "http2: the peer refuses the stream");

	a = ask("/wait", true); /* it says the same behind an answer that has begun */
	turns();
	say(&m.server.talk[3], 200, HTTP_STREAM);
	m.server.talk[3].x->error = 7;
	talk_close(&m.server.talk[3], "overloaded");
	turns();
	assert_true(a->failed);
	assert_false(a->unprocessed);
	assert_int_equal(m.server.closed + m.client.closed, 0);
	meeting_end(&m);
}

/* A message that was cut never arrives as a whole one. */
static void cut(void **state)
{
	static const struct http_head promise = {.status = 200, .body = HTTP_LENGTH, .has_length = true,
						 .length = 1000};
	struct http_head h = ask_head("/wait");
	struct talk *a, *t;

	start(1 << 20, 0, NULL, NULL);
	a = ask("/wait", true); /* closed before its end */
	turns();
	t = &m.server.talk[0];
	say(t, 200, HTTP_STREAM);
	t->send = 100;
	talk_send(t);
	talk_close(t, NULL);
	turns();
	assert_true(a->failed);
	assert_false(a->ended);

	a = ask("/wait", true); /* ended before its length */
	turns();
	t = &m.server.talk[1];
	http_answer(t->x, &promise);
	t->send = 999;
	t->finish = true;
	talk_send(t);
	turns();
	assert_true(a->failed);
	assert_false(a->ended);
	assert_true(t->failed);

	h.body = HTTP_LENGTH; /* the same the other way */
	h.has_length = true;
	h.length = 10;
	a = meeting_ask(&m, &h, false);
	a->send = 9;
	talk_send(a);
	assert_int_equal(a->sent, 9); /* at once */
	turns();
	a->finish = true;
	talk_send(a);
	turns();
	t = &m.server.talk[2];
	assert_true(a->failed);
	assert_true(t->failed);
	assert_false(t->ended);

	h.body = HTTP_STREAM; /* the connection breaks */
	h.has_length = false;
	a = meeting_ask(&m, &h, false);
	a->send = 10;
	talk_send(a);
	turns();
	pair_break(m.server.end);
	turns();
	t = &m.server.talk[3];
	assert_true(t->failed);
	assert_int_equal(t->error, 8);
	assert_false(t->ended);
	assert_string_equal(t->why, "reset by peer");
	meeting_end(&m);
}

static void drains(void **state)
{
	struct talk *a;
	int server;

	for (server = 0; server < 2; server++) {
		struct http_connection **c = server ? &m.server.c : &m.client.c;

		start(1 << 20, 0, NULL, NULL);
		a = ask("/wait", true);
		turns();
		(*c)->ops->drain(*c);
		turns();
		assert_int_equal(m.client.draining, 1);
		assert_int_equal(http_free(m.client.c), 0);
		assert_int_equal(m.server.closed, 0);
		say(&m.server.talk[0], 200, HTTP_NO_BODY);
		turns();
		assert_true(a->ended);
		assert_int_equal(m.server.closed, 1);
		assert_int_equal(m.client.closed, 1);
		assert_null(m.client.why);
		assert_null(m.server.why);
		meeting_end(&m);
	}
}

static void closed_with_requests(void **state)
{
	struct talk *a;

	start(1 << 20, 0, NULL, NULL);
	a = ask("/wait", true);
	turns();
	m.server.c->ops->close(m.server.c, "no more");
	turns();
	assert_true(m.server.talk[0].failed);
	assert_string_equal(m.server.talk[0].why, "no more");
	assert_true(a->failed);
	assert_int_equal(m.client.closed, 1);
	meeting_end(&m);
}

/* ------------------------------------------------------------------ limits */

static void streams_at_once(void **state)
{
	const struct http_limits few = {.streams = 3};
	unsigned i;

	start(1 << 20, 0, NULL, &few);
	turns();
	assert_int_equal(http_free(m.client.c), 3);
	for (i = 0; i < 3; i++)
		assert_non_null(ask("/wait", true));
	assert_null(ask("/wait", true));
	turns();
	assert_int_equal(m.client.free, 0);
	say(&m.server.talk[1], 200, HTTP_NO_BODY);
	turns();
	assert_int_equal(m.client.free, 1);
	assert_non_null(ask("/wait", true));
	turns();
	assert_int_equal(m.client.free, 1);
	assert_int_equal(m.server.refused, 0);
	meeting_end(&m);
}

static void heads_too_large(void **state)
{
	static char long_text[70000];
	struct http_field many[101];
	struct http_head h = ask_head("/hello");
	struct talk *a;
	unsigned i;

	memset(long_text, 'x', sizeof(long_text));
	for (i = 0; i < array_size(many); i++)
		many[i] = (struct http_field){HTTP_TEXT("a"), HTTP_TEXT("b"), HTTP_NAME_OTHER, false};
	start(1 << 20, 0, NULL, NULL);
	h.field = many;
	h.fields = 96; /* four pseudo fields count too */
	a = meeting_ask(&m, &h, true);
	turns();
	assert_int_equal(a->status, 200);
	h.fields = 97;
	a = meeting_ask(&m, &h, true);
	turns();
	assert_int_equal(a->status, 431);
	assert_true(a->ended);
	many[0].value = (struct http_text){long_text, 50000};
	h.fields = 1;
	a = meeting_ask(&m, &h, true);
	turns();
	assert_int_equal(a->status, 200);
	many[0].value.len = 62000;
	a = meeting_ask(&m, &h, true);
	turns();
	assert_int_equal(a->status, 431);
	assert_int_equal(m.server.refused, 2);
	assert_int_equal(m.server.refused_status, 431);
	assert_string_equal(m.server.refused_why, "http2: headers too large");
	assert_int_equal(m.server.talks, 2);
	assert_int_equal(m.server.closed, 0);
	meeting_end(&m);
}

/* What one read has asked is answered by one write. */
static void one_write_for_a_turn(void **state)
{
	unsigned i, before;

	start(1 << 20, 0, NULL, NULL);
	turns();
	for (i = 0; i < 64; i++)
		assert_non_null(ask("/hello", true));
	before = m.client.end->writes;
	turns();
	assert_int_equal(m.server.talks, 64);
	assert_in_range(m.client.end->writes - before, 1, 2);
	before = m.server.end->writes;
	for (i = 0; i < 64; i++) {
		assert_true(m.client.talk[i].ended);
		talk_close(&m.client.talk[i], NULL);
		talk_close(&m.server.talk[i], NULL);
	}
	turns();
	for (i = 0; i < 64; i++)
		assert_non_null(ask("/hello", true));
	before = m.server.end->writes;
	turns();
	assert_int_equal(m.server.talks, 128);
	assert_int_equal(m.server.end->writes - before, 1);
	meeting_end(&m);
}

static void on_failed(struct stream *s, unsigned events)
{
	if (events & STREAM_FAILED)
		stream_close(s, s->why);
}

static void never(struct talk *t, const struct http_head *h)
{
	t->x->s.ready = on_failed;
	t->x = NULL;
}

/* Nothing that happens to all streams of a connection at once costs more than each of them. */
static void ten_thousand_at_once(void **state)
{
	const struct http_limits many = {.streams = 10000};
	uint64_t took[2];
	unsigned i, n;

	for (n = 0; n < 2; n++) {
		unsigned count = n ? 10000 : 1000;
		uint64_t start_ns;

		start(64 << 20, 0, &many, &many);
		m.server.serve = never;
		turns();
		for (i = 0; i < count; i++) {
			struct http_head h = ask_head("/wait");
			struct http_exchange *x = http_request(m.client.c, &h, true);

			assert_non_null(x);
			x->s.ready = on_failed;
			if (i % 100 == 0)
				turns();
		}
		turns();
		assert_int_equal(m.server.talks, count);
		start_ns = clock_ns();
		pair_break(m.server.end);
		turns();
		took[n] = clock_ns() - start_ns;
		assert_int_equal(m.server.closed, 1);
		meeting_end(&m);
	}
	if (took[1] > 60 * took[0] + 100000000)
		fail_msg("1000: %llu us, 10000: %llu us", (unsigned long long)took[0] / 1000,
			 (unsigned long long)took[1] / 1000);
}

static bool server_closed(struct scene *x)
{
	return container_of(x, struct meeting, s)->server.closed;
}

static void times(void **state)
{
	const struct http_limits limit = {.idle_ns = 20000000};

	start(1 << 20, 0, NULL, &limit);
	ask("/hello", true);
	assert_true(scene_until(&m.s, server_closed));
	assert_null(m.server.why);
	assert_true(m.client.talk[0].ended);
	meeting_end(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_and_answer),
		cmocka_unit_test(bodies_of_any_size),
		cmocka_unit_test(fields),
		cmocka_unit_test(informational),
		cmocka_unit_test(answers_without_a_body),
		cmocka_unit_test(tunnels),
		cmocka_unit_test(no_tunnel),
		cmocka_unit_test(early_answer),
		cmocka_unit_test(early_answer_and_the_end),
		cmocka_unit_test(resets),
		cmocka_unit_test(cut),
		cmocka_unit_test(drains),
		cmocka_unit_test(closed_with_requests),
		cmocka_unit_test(streams_at_once),
		cmocka_unit_test(heads_too_large),
		cmocka_unit_test(one_write_for_a_turn),
		cmocka_unit_test(ten_thousand_at_once),
		cmocka_unit_test(times),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	free(m.client.talk);
	free(m.server.talk);
	return r;
}
