/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of HTTP/1 over a stream in memory: what a peer says, what the owner sees, what the peer hears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "../../userspace/http/http1_parts.h"
#include "http1_ends.h"

#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define HELLO_CLOSE "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"

static struct ends s;

/* ------------------------------------------------------------------ servers */

/* Said in one piece, and byte by byte: the same is noted and heard. */
static void server_table(void **state)
{
	static const struct {
		const char *say, *notes, *hear;
		enum ends_mode mode;
		bool over;
	} all[] = {
		{"GET /x?y HTTP/1.1\r\nHost: a:80\r\nX-One: 1 \r\n\r\n", "GET http a:80 /x?y none [X-One=1]\n", HELLO},
		{"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET http a / none\n", HELLO},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET http a / none\n", HELLO_CLOSE, 0, true},
		{"GET / HTTP/1.0\r\n\r\n", "GET http  1.0 / none\n", HELLO_CLOSE, 0, true},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\nHost: b\r\n\r\n", "GET http b 1.0 / none\n",
		 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"},
		{"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET http b /x none\n", HELLO},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Gone, te\r\nx-gone: 1\r\nKeep-Alive: 1\r\n\r\n",
		 "GET http a / none\n", HELLO},
		{"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD http a / none\n",
		 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "POST http a / length 3\n",
		 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ENDS_ECHO},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0A\r\n0123456789\r\n"
		 "0\r\nX-T: 1\r\nHost: no\r\n\r\n",
		 "POST http a / stream\ntrailer [X-T=1]\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		 ENDS_ECHO},
		{"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "POST http  1.0 / length 3\n",
		 "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", ENDS_ECHO, true},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n"
		 "Connection: close\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
		 "GET http a / none\nGET http a /2 none\nGET http a /3 none\n", HELLO HELLO HELLO_CLOSE, 0, true},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "",
		 "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 23\r\n"
		 "Connection: close\r\n\r\n"
		 "http1: two Host fields\n", 0, true},
	};

	for (size_t i = 0; i < array_size(all); i++) {
		for (size_t step = 0; step < 3; step++) {
			ends_start(&s, true, all[i].mode, NULL);
			ends_say_bytes(&s, all[i].say, strlen(all[i].say), step);
			if (strcmp(s.notes, all[i].notes))
				fail_msg("row %zu, step %zu: %s, should be %s", i, step, s.notes, all[i].notes);
			if (strncmp(s.heard, all[i].hear, strlen(all[i].hear)) ||
			    (all[i].mode != ENDS_ECHO && strcmp(s.heard, all[i].hear)))
				fail_msg("row %zu, step %zu: %s, should be %s", i, step, s.heard, all[i].hear);
			if (s.over != all[i].over || s.peer_ended != all[i].over)
				fail_msg("row %zu, step %zu: %s", i, step, s.over ? "it is over" : "it is not over");
			assert_false(s.peer_reset);
			ends_end(&s);
		}
	}
}

/* ------------------------------------------------------------------ clients */

#define ASK "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

/* An answer in one piece and byte by byte; then: was it whole, may the connection be used again? */
static void client_table(void **state)
{
	static const struct {
		const char *say, *notes, *got;
		bool fin, failed, reused;
		const char *why;
		enum http_method method;
	} all[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc", "200 OK length 3 [X-A=b]\n", "abc",
		 .reused = true},
		{"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "200  none 0\n", "", .reused = true},
		{"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200  none 0\n", "", .reused = true},
		{"HTTP/1.1 204 No Content\r\n\r\n", "204 No Content none\n", "", .reused = true},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "304 Not Modified none 7\n", "",
		 .reused = true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "200 OK none 7\n",
		 "", .reused = true, .method = HTTP_HEAD},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200 OK none\n", "", .reused = true,
		 .method = HTTP_HEAD},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
		 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz",
		 "100 Continue none\n103 Early Hints none [Link=x]\n200 OK length 1\n", "z", .reused = true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		 "200 OK stream\n", "hello",
		 .reused = true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n00\r\ngrpc-status: 0\r\n\r\n",
		 "200 OK stream\ntrailer [grpc-status=0]\n", "h", .reused = true},
		{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", "200 OK length 1\n", "x"},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "200 OK length 1\n", "x"},
		{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", "200 OK length 1\n", "x",
		 .reused = true},
		{"HTTP/1.1 200 OK\r\n\r\nto the end", "200 OK stream\n", "to the end", .fin = true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n", "200 OK length 1\n", "x"},
		/* cut */
		{"", "", "", true, true, .why = "http1: the server closed without an answer"},
		{"HTTP/1.1 200 OK\r\nConte", "", "", true, true, .why = "http1: the server closed without an answer"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "200 OK length 9\n", "abc", true, true,
		 .why = "http1: the answer was cut"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		 "200 OK stream\n", "hello", true, true, .why = "http1: the answer was cut"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
		 "200 OK stream\n", "hello", true, true, .why = "http1: the answer was cut"},
		/* no answers */
		{"hello\r\n", "", "", .failed = true, .why = "http1: no version of HTTP"},
		{"HTTP/1.1 2000 OK\r\n\r\n", "", "", .failed = true, .why = "http1: no status line"},
		{"HTTP/1.1 099 OK\r\n\r\n", "", "", .failed = true, .why = "http1: no status line"},
		{"HTTP/2.0 200 OK\r\n\r\n", "", "", .failed = true, .why = "http1: another version of HTTP"},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
		 "", "", .failed = true,
		 .why = "http1: a switch of protocols that nobody asked for"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "", "", .failed = true,
		 .why = "http1: Content-Length with Transfer-Encoding"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n", "", "", .failed = true,
		 .why = "http1: Content-Length is not a number"},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", "", .failed = true,
		 .why = "http1: Transfer-Encoding in HTTP/1.0"},
		{"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc", "", "", .failed = true,
		 .why = "http1: an informational answer with a body"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n", "200 OK stream\n", "hello",
		 .failed = true, .why = "http1: a chunk is longer than it said"},
		/* Met while data before it is lent: its first bytes are not counted twice. */
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0TE: x\r\n\r\n", "200 OK stream\n",
		 "hello", .failed = true, .why = "http1: something behind the size of a chunk"},
	};

	for (size_t i = 0; i < array_size(all); i++) {
		for (size_t step = 0; step < 3; step++) {
			struct http_head ask = {.method = all[i].method};

			if (ask.method == HTTP_HEAD)
				ask.method_text = HTTP_TEXT("HEAD");
			ends_start(&s, false, ENDS_HELLO, NULL);
			assert_int_equal(http_free(s.c), 1);
			assert_non_null(ends_ask(&s, &ask, true));
			assert_int_equal(http_free(s.c), 0);
			ends_turns(&s);
			if (ask.method != HTTP_HEAD)
				assert_string_equal(s.heard, ASK);
			ends_say_bytes(&s, all[i].say, strlen(all[i].say), step);
			if (all[i].fin)
				stream_finish(&s.pair[1]->s);
			ends_turns(&s);
			if (strcmp(s.notes, all[i].notes) || strcmp(s.app.got, all[i].got) ||
			    s.app.failed != all[i].failed || s.app.ended == all[i].failed)
				fail_msg("row %zu, step %zu: %s%s %s", i, step, s.notes, s.app.got,
					 s.app.failed ? s.app.why : "");
			if (all[i].failed)
				assert_string_equal(s.app.why, all[i].why);
			if (s.over == all[i].reused || (all[i].reused && s.frees != 1))
				fail_msg("row %zu, step %zu: over %d, frees %u: %s", i, step, s.over, s.frees, s.why);
			if (all[i].reused) {
				assert_int_equal(http_free(s.c), 1);
				assert_non_null(ends_ask(&s, &(struct http_head){0}, true));
				ends_say(&s, HELLO);
				assert_string_equal(s.app.got, "hello");
				assert_int_equal(s.frees, 2);
			}
			ends_end(&s);
		}
	}
}

/* ------------------------------------------------------------------ exchanges that are held */

#define REQUEST "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

static void answer_hello(void)
{
	ends_answer(&s, 200, HTTP_LENGTH, 5);
	ends_write(&s, "hello");
	stream_finish(&s.app.x->s);
	ends_pump(&s);
	ends_turns(&s);
}

/* What is not asked for is not read. */
static void ten_thousand_requests(void **state)
{
	size_t one = strlen(REQUEST), all = 10000 * one, i;
	char *say = malloc(all);

	for (i = 0; i < 10000; i++)
		memcpy(say + i * one, REQUEST, one);
	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say_bytes(&s, say, all, 0);
	assert_int_equal(s.requests, 1);
	assert_int_equal(s.pair[0]->s.read_bytes, one);
	answer_hello();
	assert_int_equal(s.requests, 2);
	s.mode = ENDS_HELLO;
	answer_hello();
	for (i = 0; i < 20000 && s.requests < 10000; i++)
		ends_turn(&s);
	assert_int_equal(s.requests, 10000);
	assert_int_equal(s.heard_len, 10000 * strlen(HELLO));
	ends_end(&s);
	free(say);
}

#define EMPTY "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

/* The next request waits until the answer before it has left, and no longer. */
static void narrow_transport(void **state)
{
	ends_start(&s, true, ENDS_ECHO, NULL);
	s.pair[1]->capacity = 10;
	ends_say(&s, REQUEST REQUEST REQUEST);
	for (unsigned i = 0; i < 200 && s.requests < 3; i++)
		ends_turn(&s);
	ends_turns(&s);
	ends_turns(&s);
	assert_string_equal(s.heard, EMPTY EMPTY EMPTY);
	assert_int_equal(s.thread->pool.lent, 0);
	ends_end(&s);
}

static void informational(void **state)
{
	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	assert_true(s.head->expect);
	ends_answer(&s, 100, HTTP_NO_BODY, 0);
	ends_answer(&s, 103, HTTP_NO_BODY, 0);
	ends_turns(&s);
	assert_string_equal(s.heard, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n");
	ends_say(&s, "x");
	answer_hello();
	assert_false(s.over);
	/* Will its body come? Nobody knows: the end. */
	ends_say(&s, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	s.heard_len = 0;
	s.lazy = true;
	ends_answer(&s, 417, HTTP_NO_BODY, 0);
	stream_finish(&s.app.x->s);
	ends_close(&s, NULL);
	ends_turns(&s);
	assert_string_equal(s.heard, "HTTP/1.1 417 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	assert_true(s.over && s.peer_ended && !s.peer_reset);
	ends_end(&s);

	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	ends_answer(&s, 103, HTTP_NO_BODY, 0);
	ends_turns(&s);
	assert_string_equal(s.heard, "");
	ends_end(&s);

	ends_start(&s, false, ENDS_HELLO, &(struct http_limits){.informational = 2});
	assert_non_null(ends_ask(&s, &(struct http_head){0}, true));
	ends_say(&s, "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 100 x\r\n\r\n");
	assert_string_equal(s.app.why, "http1: too many informational answers");
	assert_int_equal(s.answers, 2);
	ends_end(&s);
}

#define UPGRADE "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
#define SWITCHED "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

static void server_tunnels(void **state)
{
	/* Bytes that came before the answer wait for it. */
	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, UPGRADE "early");
	assert_true(s.head->body == HTTP_TUNNEL && http_text_equal(s.head->upgrade, HTTP_TEXT("websocket")));
	assert_int_equal(s.app.got_len, 0);
	assert_int_equal(stream_room(&s.app.x->s), 0);
	ends_answer(&s, 101, HTTP_TUNNEL, 0);
	ends_turns(&s);
	assert_string_equal(s.heard, SWITCHED);
	assert_string_equal(s.app.got, "early");
	ends_say(&s, "late");
	assert_string_equal(s.app.got, "earlylate");
	ends_write(&s, "back");
	ends_turns(&s);
	assert_string_equal(s.heard, SWITCHED "back");
	stream_finish(&s.pair[1]->s);
	ends_turns(&s);
	assert_true(s.app.ended && !s.over);
	stream_finish(&s.app.x->s);
	ends_pump(&s);
	ends_turns(&s);
	assert_true(s.over && !s.why && s.peer_ended && !s.peer_reset);
	ends_end(&s);

	/* Who does not agree has an exchange like any other. */
	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, UPGRADE);
	answer_hello();
	assert_true(s.app.ended);
	assert_string_equal(s.heard, HELLO);
	ends_say(&s, REQUEST);
	assert_int_equal(s.requests, 2);
	/* 101 for a request that did not ask */
	ends_answer(&s, 101, HTTP_TUNNEL, 0);
	ends_turns(&s);
	assert_int_equal(s.refused, 502);
	assert_true(s.over && s.app.failed);
	ends_end(&s);

	/* The bytes behind a CONNECT that was refused are no request. */
	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" REQUEST);
	ends_answer(&s, 403, HTTP_NO_BODY, 0);
	stream_finish(&s.app.x->s);
	ends_pump(&s);
	ends_turns(&s);
	assert_string_equal(s.heard, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	assert_true(s.over && s.requests == 1);
	ends_end(&s);
	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" REQUEST);
	ends_pump(&s);
	assert_int_equal(s.app.got_len, 0);
	ends_answer(&s, 200, HTTP_TUNNEL, 0);
	ends_turns(&s);
	assert_string_equal(s.app.got, REQUEST);
	assert_string_equal(s.heard, "HTTP/1.1 200 OK\r\n\r\n");
	ends_close(&s, "gone");
	ends_turns(&s);
	assert_true(s.peer_reset);
	ends_end(&s);
}

static void client_tunnels(void **state)
{
	struct http_head ask = {.upgrade = HTTP_TEXT("websocket")};

	ends_start(&s, false, ENDS_HELLO, NULL);
	assert_non_null(ends_ask(&s, &ask, false));
	ends_turns(&s);
	assert_string_equal(s.heard, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	assert_int_equal(stream_room(&s.app.x->s), 0);
	ends_say(&s, SWITCHED "bytes");
	assert_string_equal(s.app.got, "bytes");
	s.heard_len = 0;
	ends_write(&s, "back");
	ends_turns(&s);
	assert_string_equal(s.heard, "back");
	stream_finish(&s.app.x->s);
	ends_turns(&s);
	assert_true(s.peer_ended && !s.over);
	stream_finish(&s.pair[1]->s);
	ends_turns(&s);
	assert_true(s.app.ended && s.over && !s.why);
	ends_end(&s);

	ends_start(&s, false, ENDS_HELLO, NULL);
	assert_non_null(ends_ask(&s, &ask, false));
	ends_say(&s, HELLO);
	assert_true(s.app.ended && s.head->body == HTTP_LENGTH);
	assert_null(s.app.x); /* complete: nobody had to finish what was refused */
	ends_turns(&s);
	assert_int_equal(http_free(s.c), 1);
	ends_end(&s);
}

/* ------------------------------------------------------------------ ends */

/* The owner answers and does not read the request's body. */
static void unread_bodies(void **state)
{
	static char body[200000];

	for (unsigned i = 0; i < 4; i++) {
		size_t len = i & 1 ? sizeof(body) : 1000;
		char text[128];

		ends_start(&s, true, ENDS_HELLO, NULL);
		s.lazy = true;
		if (i < 2)
			snprintf(text, sizeof(text), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", len);
		else
			snprintf(text, sizeof(text),
				 "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", len);
		ends_say(&s, text);
		ends_close(&s, NULL);
		ends_turns(&s);
		assert_string_equal(s.heard, HELLO);
		ends_say_bytes(&s, body, len, 5000);
		if (i > 1)
			ends_say(&s, "\r\n0\r\nX: y\r\n\r\n");
		s.lazy = false;
		ends_say(&s, REQUEST);
		assert_false(s.peer_reset);
		assert_int_equal(s.over, i & 1);
		assert_int_equal(s.requests, i & 1 ? 1 : 2);
		ends_end(&s);
	}
}

/* And says so before: who hears of no end would send the next request, which nobody reads. */
static void unread_bodies_are_announced(void **state)
{
#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#define LENGTH(n) "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " n "\r\n\r\n"
	static const struct {
		const char *request, *rest;
		bool ends, waits; /* for the rest, before it ends */
	} rows[] = {
		{LENGTH("5") "12345", "", false},
		{LENGTH("5") "12", "345", false},
		{LENGTH("65536"), NULL, false},
		{LENGTH("65537"), NULL, true},
		{LENGTH("200000") "12345", NULL, true},
		{CHUNKED "5\r\n12345\r\n0\r\n\r\n", "", false},
		{CHUNKED "5\r\n12345\r\n0\r\nX: y\r\n", "\r\n", false},
		{CHUNKED "5\r\n12345\r\n", "0\r\n\r\n", true}, /* of which there may be any number */
		{CHUNKED, NULL, true, true},
	};

	for (unsigned i = 0; i < array_size(rows); i++) {
		ends_start(&s, true, ENDS_HELLO, NULL);
		s.lazy = s.unread = true;
		ends_say(&s, rows[i].request);
		ends_close(&s, NULL);
		ends_turns(&s);
		assert_non_null(strstr(s.heard, "hello"));
		assert_int_equal(!!strstr(s.heard, "onnection: close\r\n"), rows[i].ends);
		if (rows[i].rest)
			ends_say(&s, rows[i].rest);
		assert_false(s.peer_reset);
		assert_int_equal(s.over, rows[i].ends && !rows[i].waits);
		if (!rows[i].ends && rows[i].rest) {
			s.lazy = false;
			ends_say(&s, REQUEST);
			assert_int_equal(s.requests, 2);
		}
		ends_end(&s);
	}
}

/* Trailers that come in parts, or never, while their owner reads when he likes: nobody waits for an event. */
static void trailers_in_parts(void **state)
{
	for (unsigned fin = 0; fin < 2; fin++) {
		ends_start(&s, true, ENDS_HOLD, NULL);
		s.lazy = true;
		ends_say(&s, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1");
		if (fin)
			stream_finish(&s.pair[1]->s);
		ends_turns(&s);
		s.lazy = false;
		ends_pump(&s);
		ends_turns(&s);
		assert_true(s.over == fin && s.app.failed == fin && !s.app.ended);
		if (!fin)
			ends_say(&s, "\r\n\r\n");
		assert_string_equal(s.notes + strlen("POST http a / stream\n"), fin ? "" : "trailer [X-T=1]\n");
		ends_end(&s);
	}
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

static void deadlines(void **state)
{
	const struct http_limits l = {.head_ns = 5000000}, idle = {.idle_ns = 5000000};

	ends_start(&s, true, ENDS_HELLO, &idle);
	assert_true(ended(&s) && !s.why && s.peer_ended && !s.heard_len);
	ends_end(&s);
	ends_start(&s, true, ENDS_HELLO, &l);
	ends_say(&s, "GET / HTTP/1.1\r\nHo");
	assert_true(ended(&s) && s.refused == 408 && !s.peer_reset);
	assert_non_null(strstr(s.heard, "HTTP/1.1 408 Request Timeout\r\n"));
	ends_end(&s);
	ends_start(&s, false, ENDS_HELLO, &idle);
	assert_true(ended(&s) && !s.why);
	ends_end(&s);
	/* An exchange takes the time that it takes. */
	ends_start(&s, true, ENDS_HOLD, &l);
	ends_say(&s, REQUEST);
	usleep(20000);
	ends_turns(&s);
	assert_false(s.over);
	answer_hello();
	assert_string_equal(s.heard, HELLO);
	ends_end(&s);
}

static void idle_clients(void **state)
{
	ends_start(&s, false, ENDS_HELLO, NULL);
	stream_finish(&s.pair[1]->s);
	ends_turns(&s);
	assert_true(s.over && !s.why);
	ends_end(&s);
	ends_start(&s, false, ENDS_HELLO, NULL);
	ends_say(&s, HELLO);
	assert_true(s.over);
	assert_string_equal(s.why, "http1: bytes that nobody asked for");
	ends_end(&s);
	/* Nothing of it has left: certainly not acted on. */
	for (unsigned left = 0; left < 2; left++) {
		ends_start(&s, false, ENDS_HELLO, NULL);
		s.pair[1]->capacity = left;
		assert_non_null(ends_ask(&s, &(struct http_head){0}, true));
		ends_turns(&s);
		pair_break(s.pair[0]);
		ends_turns(&s);
		assert_true(s.app.failed && s.app.x->unprocessed == !left && s.app.x->error == (left ? 8 : 7));
		ends_end(&s);
	}
}

/* What came before the request has left is not its answer: it has not been acted on, others may be asked. */
static void unasked_answers(void **state)
{
	struct stream_bytes poison = {.data = (uint8_t *)HELLO, .len = strlen(HELLO)};
	struct http_head get = {0}, put = {.body = HTTP_LENGTH, .length = 5};

	for (unsigned i = 0; i < 6; i++) {
		ends_start(&s, false, ENDS_HELLO, NULL);
		if (i & 1) { /* it has served */
			assert_non_null(ends_ask(&s, &get, true));
			ends_say(&s, HELLO);
		}
		s.heard_len = s.answers = 0;
		assert_int_equal(stream_write(&s.pair[1]->s, &poison, 1), poison.len);
		assert_non_null(ends_ask(&s, i < 2 ? &get : &put, i < 2)); /* before the event */
		if (i > 3)
			ends_write(&s, "whole");
		ends_turns(&s);
		assert_true(s.app.failed && s.app.x->unprocessed && s.over && !s.answers && !s.heard_len);
		assert_string_equal(s.app.why, "http1: bytes that nobody asked for");
		ends_end(&s);
	}
}

/* The answer is whole, the request's body is not: the connection has done its work. */
static void early_answers(void **state)
{
	struct http_head ask = {.method_text = HTTP_TEXT("POST"), .method = HTTP_POST, .body = HTTP_STREAM};

	ends_start(&s, false, ENDS_HELLO, NULL);
	assert_non_null(ends_ask(&s, &ask, false));
	ends_write(&s, "some");
	ends_say(&s, HELLO);
	assert_true(s.app.ended && !s.over);
	ends_write(&s, "more");
	ends_close(&s, NULL);
	ends_turns(&s);
	assert_true(s.over && s.peer_reset);
	assert_null(strstr(s.heard, "\r\n0\r\n\r\n"));
	ends_end(&s);
}

/* ------------------------------------------------------------------ both of ours */

/* Bodies both ways through a transport of every kind: all of it arrives, once, in order, and nothing is left over. */
static void there_and_back(void **state)
{
	static const struct {
		size_t capacity, slice, body;
	} all[] = {{8 << 20, 0, 1000000}, {70000, 0, 500000}, {5000, 700, 60000},
		   {300, 40, 5000},	  {7, 3, 300},	      {1, 1, 30}};
	static uint8_t body[1000000];
	static struct ends server;
	uint64_t random = 7;

	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)pair_random(&random);
	for (size_t i = 0; i < 3 * array_size(all); i++) {
		size_t len = all[i / 3].body;
		struct http_head ask = {.method_text = HTTP_TEXT("POST"), .method = HTTP_POST};

		ask.body = i % 3 ? HTTP_STREAM : HTTP_LENGTH;
		ask.has_length = i % 3 == 0;
		ask.length = len;
		ends_start(&s, false, ENDS_HELLO, NULL);
		for (int e = 0; e < 2; e++) {
			s.pair[e]->capacity = all[i / 3].capacity;
			s.pair[e]->slice = all[i / 3].slice;
			s.pair[e]->knows_room = i % 3 == 2;
		}
		ends_join(&server, &s, ENDS_ECHO);
		for (int n = 1; n <= 2; n++) {
			assert_non_null(ends_ask(&s, &ask, false));
			s.random = i;
			s.send = body;
			s.send_left = len;
			ends_send(&s);
			for (unsigned t = 0; t < 400000 && !s.app.ended && !s.app.failed; t++)
				ends_turn(&s);
			if (!s.app.ended || s.app.got_len != len || memcmp(s.app.got, body, len))
				fail_msg("row %zu, exchange %d: %zu of %zu came back: %s", i, n, s.app.got_len, len,
					 s.app.failed ? s.app.why : "");
			ends_turns(&s);
			assert_true(s.app.closed && http_free(s.c) == 1);
			assert_int_equal(s.thread->pool.lent, 0);
		}
		s.c->ops->close(s.c, NULL);
		ends_turns(&s);
		assert_true(s.over && server.over && !server.why);
		ends_drop(&server);
		ends_end(&s);
	}
}

/* Trailers, of which what is no trailer stays behind. */
static void trailers_of_both(void **state)
{
	struct http_field t[] = {
		{.name = HTTP_TEXT("grpc-status"), .value = HTTP_TEXT("0"), .id = HTTP_NAME_GRPC_STATUS},
		{.name = HTTP_TEXT("host"), .value = HTTP_TEXT("x"), .id = HTTP_NAME_HOST},
	};

	ends_start(&s, true, ENDS_HOLD, NULL);
	ends_say(&s, REQUEST);
	ends_answer(&s, 200, HTTP_STREAM, 0);
	ends_write(&s, "abc");
	http_trailers(s.app.x, t, 2);
	stream_finish(&s.app.x->s);
	ends_turns(&s);
	assert_string_equal(s.heard, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
				     "grpc-status: 0\r\n\r\n");
	assert_int_equal(s.pair[0]->writes, 1); /* all of it in one */
	ends_end(&s);
}

/* An idle connection, and one that has served, hold nothing. */
static void memory(void **state)
{
	assert_true(sizeof(struct http1) <= 512);
	ends_start(&s, true, ENDS_HELLO, NULL);
	for (unsigned i = 0; i < 3; i++) {
		ends_say(&s, REQUEST);
		assert_int_equal(s.thread->pool.lent, 0);
		assert_int_equal(s.pair[0]->writes, i + 1); /* head and body in one */
	}
	ends_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(server_table),
		cmocka_unit_test(client_table),
		cmocka_unit_test(ten_thousand_requests),
		cmocka_unit_test(narrow_transport),
		cmocka_unit_test(informational),
		cmocka_unit_test(server_tunnels),
		cmocka_unit_test(client_tunnels),
		cmocka_unit_test(unread_bodies),
		cmocka_unit_test(unread_bodies_are_announced),
		cmocka_unit_test(trailers_in_parts),
		cmocka_unit_test(deadlines),
		cmocka_unit_test(idle_clients),
		cmocka_unit_test(unasked_answers),
		cmocka_unit_test(early_answers),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(trailers_of_both),
		cmocka_unit_test(memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
