/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of HTTP/1 over a stream in memory: what a peer says, what the owner sees, what the peer hears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

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
		 "200 OK stream\n", "hello", true, true,
		 .why = "http1: the answer was cut"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
		 "200 OK stream\n", "hello",
		 true, true, .why = "http1: the answer was cut"},
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(server_table),
		cmocka_unit_test(client_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
