/* SPDX-License-Identifier: Apache-2.0 */
/* Heads that are refused, each with its status and reason; limits; what becomes a field; where memory ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/http/http1_parts.h"

static const struct http1_limit limit = {.head_bytes = 60 << 10, .line_bytes = 16 << 10, .fields = 100};

static struct http_field field[HTTP1_FIELDS];
static struct http1_head head;
static char *copy; /* ends where memory ends */

static int request(const char *data, size_t len)
{
	free(copy);
	copy = malloc(len ? len : 1);
	memcpy(copy, data, len);
	head.h.field = field;
	head.h.room = HTTP1_FIELDS;
	return http1_parse_request(copy, len, &limit, &head);
}

#define H "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\n" H
#define ROW(status, say) {say, sizeof(say) - 1, status}
#define FRAMED(fields) ROW(400, POST fields "\r\n")

static void refused(void **state)
{
	static const struct {
		const char *say;
		size_t len;
		int status;
	} all[] = {
		/* facts/l7.md row 15 */
		FRAMED("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
		FRAMED("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
		FRAMED("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
		FRAMED("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
		FRAMED("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
		FRAMED("Transfer-Encoding: , chunked\r\n"),
		FRAMED("Transfer-Encoding: chunked,\r\n"),
		FRAMED("Transfer-Encoding: chunked, identity\r\n"),
		FRAMED("Transfer-Encoding: chunked, chunked\r\n"),
		FRAMED("Transfer-Encoding: identity\r\n"),
		FRAMED("Transfer-Encoding: xchunked\r\n"),
		FRAMED("Transfer-Encoding: chunkedx\r\n"),
		FRAMED("Transfer-Encoding: \"chunked\"\r\n"),
		FRAMED("Transfer-Encoding: chunked;q=1\r\n"),
		FRAMED("Transfer-Encoding: \vchunked\r\n"),
		FRAMED("Transfer-Encoding:\r\n"),
		FRAMED("Transfer-Encoding\r\n"),
		FRAMED("Transfer-Encoding : chunked\r\n"),
		FRAMED("Transfer-Encoding\t: chunked\r\n"),
		FRAMED("Transfer-Encoding:\r\n chunked\r\n"),
		ROW(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
		ROW(501, POST "Transfer-Encoding: gzip, chunked\r\n\r\n"),
		/* row 16 */
		FRAMED("Content-Length: 3\r\nContent-Length: 4\r\n"),
		FRAMED("Content-Length: 3, 3\r\n"),
		FRAMED("Content-Length:\r\n"),
		FRAMED("Content-Length: +1\r\n"),
		FRAMED("Content-Length: -1\r\n"),
		FRAMED("Content-Length: 0x10\r\n"),
		FRAMED("Content-Length: 1_0\r\n"),
		FRAMED("Content-Length: 1 0\r\n"),
		FRAMED("Content-Length: 1.0\r\n"),
		FRAMED("Content-Length: \"1\"\r\n"),
		FRAMED("Content-Length: 9223372036854775808\r\n"),
		FRAMED("Content-Length: 18446744073709551615\r\n"),
		FRAMED("Content-Length: 18446744073709551616\r\n"),
		FRAMED("Content-Length: 18446744073709551619\r\n"),
		FRAMED("Content-Length: 99999999999999999999999\r\n"),
		/* row 19 */
		FRAMED("A: b\n"),
		FRAMED("A: b\r\r\n"),
		FRAMED("A: b\rC: d\r\n"),
		FRAMED("A: b\r\n c\r\n"),
		FRAMED("A: b\r\n\tc\r\n"),
		FRAMED("A : b\r\n"),
		FRAMED(": b\r\n"),
		FRAMED("A\r\n"),
		FRAMED("A b: c\r\n"),
		FRAMED("A: b\0c\r\n"),
		FRAMED("A\0: b\r\n"),
		FRAMED("A: \x01\r\n"),
		FRAMED("A: \x7f\r\n"),
		FRAMED("A\x80: b\r\n"),
		FRAMED("\xc3\xa9: b\r\n"),
		FRAMED("A(b): c\r\n"),
		FRAMED("A: b\x0b\r\n"),
		ROW(400, GET " " H "\r\n"),
		ROW(400, GET "\t" H "\r\n"),
		ROW(400, "GET / HTTP/1.1\n" H "\r\n"),
		/* hosts */
		ROW(400, GET H "Host: b\r\n\r\n"),
		ROW(400, GET H H "\r\n"),
		ROW(400, GET "\r\n"),
		ROW(400, GET "Host: a b\r\n\r\n"),
		ROW(400, GET "Host: a,b\r\n\r\n"),
		ROW(400, GET "Host: a/b\r\n\r\n"),
		ROW(400, GET "Host: u@a\r\n\r\n"),
		ROW(400, GET "Host: a:x\r\n\r\n"),
		ROW(400, GET "Host: [::\r\n\r\n"),
		/* request lines: row 21 */
		ROW(400, "GET /#x HTTP/1.1\r\n"),
		ROW(400, "GET /a?b#x HTTP/1.1\r\n"),
		ROW(400, "GET  / HTTP/1.1\r\n"),
		ROW(400, "GET /  HTTP/1.1\r\n"),
		ROW(400, "GET / HTTP/1.1 \r\n"),
		ROW(400, "GET /a b HTTP/1.1\r\n"),
		ROW(400, "GET /\ta HTTP/1.1\r\n"),
		ROW(400, "GET /\0a HTTP/1.1\r\n"),
		ROW(400, "GET /\xc3\xa9 HTTP/1.1\r\n"),
		ROW(400, "GET\t/ HTTP/1.1\r\n"),
		ROW(400, "G(T / HTTP/1.1\r\n"),
		ROW(400, "GET: / HTTP/1.1\r\n"),
		ROW(400, " GET / HTTP/1.1\r\n"),
		ROW(400, "\r\n\r\nGET / HTTP/1.1\r\n"),
		ROW(400, "\nGET / HTTP/1.1\r\n"),
		ROW(400, "\r GET / HTTP/1.1\r\n"),
		ROW(400, "GET a HTTP/1.1\r\n"),
		ROW(400, "GET * HTTP/1.1\r\n"),
		ROW(400, "GET a:80 HTTP/1.1\r\n"),
		ROW(400, "GET ftp://a/ HTTP/1.1\r\n"),
		ROW(400, "GET http:///x HTTP/1.1\r\n"),
		ROW(400, "GET http://u@a/ HTTP/1.1\r\n"),
		ROW(400, "GET http://a,b/ HTTP/1.1\r\n"),
		ROW(400, "GET http://a?x HTTP/1.1\r\n"),
		ROW(400, "CONNECT / HTTP/1.1\r\n"),
		ROW(400, "CONNECT a HTTP/1.1\r\n"),
		ROW(400, "CONNECT http://a:80/ HTTP/1.1\r\n"),
		ROW(400, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\n"),
		ROW(400, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\n\r\n"),
		ROW(400, "TRACE / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\n"),
		ROW(400, "GET /\r\n"),
		ROW(400, "GET\r\n"),
		ROW(400, "GET / HTTP\r\n"),
		ROW(400, "GET / http/1.1\r\n"),
		ROW(400, "GET / HTTP/1.10\r\n"),
		ROW(400, "GET / HTTP/11\r\n\r\n"),
		ROW(505, "GET / HTTP/0.9\r\n"),
		ROW(505, "GET / HTTP/1.2\r\n"),
		ROW(505, "GET / HTTP/2.0\r\n"),
		ROW(400, "PRI * HTTP/2.0\r\n"),
		ROW(400, GET H "Connection: a b\r\n\r\n"),
	};

	for (size_t i = 0; i < array_size(all); i++) {
		int r = request(all[i].say, all[i].len);

		if (r >= 0 || head.status != all[i].status)
			fail_msg("row %zu: %d, %d %s: %s", i, r, head.status, head.why, all[i].say);
		assert_true(!strncmp(head.why, "http1: ", 7));
		/* And no beginning of it is taken. */
		for (size_t len = 0; len < all[i].len; len++)
			assert_true(request(all[i].say, len) <= 0);
	}
}

static void taken(void **state)
{
	static const char *const all[] = {
		GET H "\r\n",
		GET "hOST:a\r\n\r\n",
		GET "Host:\r\n\r\n",
		GET "Host: \t a \t \r\n\r\n",
		POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
		POST "Content-Length: 9223372036854775807\r\n\r\n",
		POST "Content-Length: 000\r\n\r\n",
		POST "Transfer-Encoding: CHUNKED\r\n\r\n",
		GET H "A: b\tc \x80\xff\r\n\r\n",
		GET H "A:\r\n\r\n",
		GET H "!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
		"GET /a:b@c!$&'()*+,;=[]{}|\\^`\"<>%zz?? HTTP/1.1\r\n" H "\r\n", /* http_path_normalise() judges */
		"WHAT-EVER /x HTTP/1.1\r\n" H "\r\n",
		"OPTIONS * HTTP/1.1\r\n" H "\r\n",
		"OPTIONS http://a HTTP/1.1\r\n" H "\r\n",
		"CONNECT [::1]:80 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET HTTPS://A HTTP/1.1\r\n" H "\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		GET H "Connection: ,close,,x, \r\n\r\n",
	};

	for (size_t i = 0; i < array_size(all); i++) {
		size_t len = strlen(all[i]);

		for (size_t part = 0; part < len; part++)
			if (request(all[i], part))
				fail_msg("row %zu: %zu bytes: %s", i, part, head.why);
		if (request(all[i], len) != (int)len)
			fail_msg("row %zu: %s", i, head.why);
	}
}

static bool is(struct http_text t, const char *s)
{
	return t.len == strlen(s) && !memcmp(t.at, s, t.len);
}

static int of(const char *s)
{
	return request(s, strlen(s));
}

static void meaning(void **state)
{
	static const char *const never[] = {"h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.2", "tls", "a b", "/1", "a/",
					    "a/1/2", "websocket, h2c", "\"a\"", "\xe9", ""};
	char text[128];
	size_t i;

	assert_true(of("GET http://B.x:8/p?q HTTP/1.1\r\nHost: other\r\n\r\n") > 0);
	assert_true(is(head.h.authority, "B.x:8") && is(head.h.path, "/p?q") && is(head.h.scheme, "http"));
	assert_true(of("GET https://b HTTP/1.1\r\nHost: other\r\n\r\n") > 0);
	assert_true(is(head.h.authority, "b") && is(head.h.path, "/") && is(head.h.scheme, "https"));
	assert_true(of("OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n") > 0);
	assert_true(is(head.h.path, "*"));
	assert_true(of("CONNECT b:443 HTTP/1.1\r\nHost: other\r\n\r\n") > 0);
	assert_true(is(head.h.authority, "b:443") && !head.h.path.len && head.h.body == HTTP_TUNNEL);

	assert_true(of(GET H "Connection: close\r\n\r\n") > 0 && !head.keep);
	assert_true(of(GET H "Connection: keep-alive\r\nConnection: x,CLOSE\r\n\r\n") > 0 && !head.keep);
	assert_true(of(GET H "\r\n") > 0 && head.keep);
	assert_true(of("GET / HTTP/1.0\r\n\r\n") > 0 && !head.keep);
	assert_true(of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n") > 0 && head.keep);

	/* What concerns this connection is no field; what Connection names neither, wherever it stands. */
	assert_true(of(GET "X-A: 1\r\n" H "Keep-Alive: x\r\nTE: trailers, x\r\nProxy-Connection: x\r\nX-b: 2\r\n"
			   "Connection: x-A, te, upgrade, http2-settings\r\nHTTP2-Settings: x\r\nUpgrade: h2c\r\n"
			   "x-a: 3\r\nX-C: 4\r\n\r\n") > 0);
	assert_int_equal(head.h.fields, 2);
	assert_true(is(field[0].name, "X-b") && is(field[1].value, "4") && head.h.trailers && !head.h.upgrade.len);

	assert_true(of(GET H "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n") > 0);
	assert_true(is(head.h.upgrade, "websocket") && head.h.body == HTTP_TUNNEL);
	assert_true(of(GET H "Upgrade: websocket\r\n\r\n") > 0 && !head.h.upgrade.len); /* Connection does not say so */
	assert_true(of(POST "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n") > 0 && !head.h.upgrade.len);
	assert_true(of(GET H "Upgrade: chat/2.0\r\nConnection: Upgrade\r\n\r\n") > 0);
	assert_true(is(head.h.upgrade, "chat/2.0") && head.h.body == HTTP_TUNNEL);
	for (i = 0; i < array_size(never); i++) {
		snprintf(text, sizeof(text), GET H "Connection: Upgrade\r\nUpgrade: %s\r\n\r\n", never[i]);
		assert_true(of(text) > 0 && !head.h.upgrade.len);
	}
	assert_true(of(GET H "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\n") > 0);
	assert_true(!head.h.upgrade.len && head.h.body == HTTP_LENGTH);
	assert_true(of("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "\r\n") > 0 && !head.h.upgrade.len);

	assert_true(of(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n") > 0 && head.h.expect);
	assert_int_equal(head.h.fields, 1);
	assert_true(of("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n") > 0 && !head.h.expect);
	assert_int_equal(head.h.fields, 0);
	assert_true(of("DELETE / HTTP/1.1\r\n" H "\r\n") > 0 && head.h.method == HTTP_DELETE);
	assert_true(of("delete / HTTP/1.1\r\n" H "\r\n") > 0 && head.h.method == HTTP_METHOD_OTHER);
}

/* A head of some fields of some size. */
static int sized(unsigned fields, size_t name, size_t value, size_t target)
{
	size_t most = 200 + target + fields * (name + value + 4), len;
	char *s = malloc(most);
	int r;

	memset(s, 'x', most);
	memcpy(s, "GET /", 5);
	len = 5 + target;
	memcpy(s + len, " HTTP/1.1\r\nHost: a\r\n", 20);
	len += 20;
	while (fields--) {
		s[len + name] = ':';
		memcpy(s + len + name + 1 + value, "\r\n", 2);
		len += name + value + 3;
	}
	memcpy(s + len, "\r\n", 2);
	r = request(s, len + 2);
	free(s);
	return r;
}

static void limits(void **state)
{
	static char line[17000];

	assert_true(sized(99, 5, 5, 0) > 0);
	assert_true(sized(100, 5, 5, 0) < 0 && head.status == 431);
	assert_true(sized(10000, 1, 0, 0) < 0 && head.status == 431);
	assert_true(sized(1, 5, 61000, 0) > 0);
	assert_true(sized(1, 5, 61500, 0) < 0 && head.status == 431);
	assert_true(sized(1, 61500, 5, 0) < 0 && head.status == 431);
	assert_true(sized(10, 5, 6200, 0) < 0 && head.status == 431);
	assert_true(sized(1, 5, 1 << 20, 0) < 0 && head.status == 431);
	assert_true(sized(0, 0, 0, 16300) > 0);
	assert_true(sized(0, 0, 0, 16400) < 0 && head.status == 414);
	assert_true(sized(0, 0, 0, 60000) < 0 && head.status == 414);
	/* Without their ends too: nothing is waited for that would be refused. */
	memset(line, 'x', sizeof(line));
	memcpy(line, "GET /", 5);
	assert_int_equal(request(line, 10000), 0);
	assert_true(request(line, sizeof(line)) < 0 && head.status == 414);
}

/* Each control character at each place of a value, at the end of memory. */
static void values(void **state)
{
	for (size_t len = 1; len < 40; len++) {
		for (size_t at = 0; at < len; at++) {
			for (int c = 0; c < 256; c++) {
				bool bad = (c < 32 && c != '\t') || c == 127;
				char *s = malloc(len);

				memset(s, at & 1 ? 'x' : '\t', len);
				s[at] = (char)c;
				assert_int_equal(http1_scan_value(s, len), bad ? at : len);
				free(s);
			}
		}
	}
}

static void answers(void **state)
{
	static const struct {
		const char *say;
		struct http1_asked asked;
		enum http_body body; /* 99: refused */
	} all[] = {
		{"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", {HTTP_GET, true}, HTTP_TUNNEL},
		{"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 101 x\r\n\r\n", {HTTP_GET, true}, 99},
		{"HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n", {HTTP_GET, true}, 99},
		{"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\n",
		 {HTTP_GET, true}, 99},
		{"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		 {HTTP_GET, true}, 99},
		{"HTTP/1.1 200 x\r\nContent-Length: 3\r\n\r\n", {HTTP_CONNECT, false}, HTTP_TUNNEL},
		{"HTTP/1.1 407 x\r\nContent-Length: 3\r\n\r\n", {HTTP_CONNECT, false}, HTTP_LENGTH},
		{"HTTP/1.1 200 x\r\nContent-Length: 3\r\n\r\n", {HTTP_HEAD, false}, HTTP_NO_BODY},
		{"HTTP/1.1 100 x\r\nTransfer-Encoding: chunked\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 200 x\r\nTransfer-Encoding: gzip\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 200 x\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 200 x\0y\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 20x x\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1  200 x\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 200x\r\n\r\n", {HTTP_GET, false}, 99},
		{"ICY 200 OK\r\n\r\n", {HTTP_GET, false}, 99},
		{"\r\nHTTP/1.1 200 x\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 200 x\r\nA: b\r\n c\r\n\r\n", {HTTP_GET, false}, 99},
		{"HTTP/1.1 200 x\r\nHost: a\r\nHost: b\r\n\r\n", {HTTP_GET, false}, HTTP_STREAM},
		{"HTTP/1.0 200 x\r\nContent-Length: 3\r\n\r\n", {HTTP_GET, false}, HTTP_LENGTH},
	};

	for (size_t i = 0; i < array_size(all); i++) {
		size_t len = strlen(all[i].say);
		int r;

		head.h.field = field;
		head.h.room = HTTP1_FIELDS;
		if (i == 13) /* a NUL in it */
			len += 6;
		r = http1_parse_answer(all[i].say, len, &limit, &all[i].asked, &head);
		if (all[i].body == 99 ? r >= 0 || head.status != 502 : r <= 0 || head.h.body != all[i].body)
			fail_msg("row %zu: %d %s", i, r, head.why);
	}
}

static void trailers(void **state)
{
	static const char good[] = "X: 1\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n"
		 "Host: a\r\nY: 2\r\nTrailer: z\r\n\r\n";

	head.h.field = field;
	head.h.room = HTTP1_FIELDS;
	assert_int_equal(http1_parse_trailers(good, sizeof(good) - 1, &limit, &head), sizeof(good) - 1);
	assert_int_equal(head.h.fields, 2);
	assert_true(is(field[0].name, "X") && is(field[1].name, "Y"));
	assert_int_equal(http1_parse_trailers("\r\n", 2, &limit, &head), 2);
	assert_int_equal(head.h.fields, 0);
	assert_true(http1_parse_trailers("X: 1\n\r\n", 7, &limit, &head) < 0);
	assert_true(http1_parse_trailers(" X: 1\r\n\r\n", 9, &limit, &head) < 0);
}

static int drop_copy(void **state)
{
	free(copy);
	copy = NULL;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused),
		cmocka_unit_test(taken),
		cmocka_unit_test(meaning),
		cmocka_unit_test(limits),
		cmocka_unit_test(values),
		cmocka_unit_test(answers),
		cmocka_unit_test(trailers),
	};

	return cmocka_run_group_tests(tests, NULL, drop_copy);
}
