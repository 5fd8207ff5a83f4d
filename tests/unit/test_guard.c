// SPDX-License-Identifier: Apache-2.0
/* Connections to a pod whose policy asks for what HTTP says: each request is judged before the app hears of it. */
#include "guards.h"

#define READ "{to: [{operation: {methods: [GET, CONNECT], paths: [/a, '/public/*', '/pkg.Echo/*']}}]}"
#define HOST "{to: [{operation: {hosts: [web.example]}}]}"
#define HOSTS "{to: [{operation: {hosts: [web.example, '*.shop']}}]}"
#define ROLE "{when: [{key: 'request.headers[x-role]', values: [admin]}]}"
#define BAD "{when: [{key: 'request.headers[x-bad]', values: ['1']}]}"
#define DELETE "{to: [{operation: {methods: [DELETE]}}]}"
#define OF(space) "{from: [{source: {namespaces: [" space "]}}], to: [{operation: {paths: [/a]}}]}"
#define OK(body) "HTTP/1.1 200 OK\r\nContent-Length: " body "\r\n\r\n"
/* One request: method and path, then more lines. */
#define ASK(what, lines) what " HTTP/1.1\r\nHost: web\r\n" lines "\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: web.example\r\n\r\n"

struct ends {
	struct raw client, app;
};

static struct ends begin(void)
{
	int fd[2];

	guard(fd);
	return (struct ends){raw_of(fd[0]), raw_of(fd[1])};
}

/* Nobody holds anything any more. */
static void end(struct ends *e)
{
	raw_close(&e->client);
	raw_close(&e->app);
	UNTIL(!site.relay_count);
	rest();
}

static uint64_t counted(enum abi_reason reason)
{
	return site.reasons[reason];
}

/* ------------------------------------------------------------------ one request */

static const struct {
	const char *action, *rules, *request;
	bool passes;
} rows[] = {
	{"ALLOW", READ, ASK("GET /a", ""), true},
	{"ALLOW", READ, ASK("POST /a", "Content-Length: 0\r\n"), false},
	{"ALLOW", READ, ASK("GET /b", ""), false},
	{"ALLOW", READ, ASK("GET /a?b=c", ""), true},
	{"ALLOW", READ, ASK("GET /public/../secret", ""), false},
	{"ALLOW", READ, ASK("GET /x/%2e%2e/%61", ""), true},
	{"ALLOW", READ, ASK("HEAD /a", ""), false},
	{"ALLOW", HOSTS, "GET / HTTP/1.1\r\nHost: WEB.example:80\r\n\r\n", true},
	{"ALLOW", HOSTS, "GET / HTTP/1.1\r\nHost: a.shop\r\n\r\n", true},
	{"ALLOW", HOST, "GET / HTTP/1.1\r\nHost: other\r\n\r\n", false},
	{"ALLOW", HOST, "GET http://web.example/ HTTP/1.1\r\nHost: other\r\n\r\n", true},
	{"ALLOW", HOST, "GET / HTTP/1.0\r\n\r\n", false},
	{"ALLOW", ROLE, ASK("GET /", "X-Role: admin\r\n"), true},
	{"ALLOW", ROLE, ASK("GET /", "X-Role: admin\r\nx-role: guest\r\n"), false},
	{"ALLOW", ROLE, ASK("GET /", "X-Role: admin, guest\r\n"), false},
	{"ALLOW", ROLE, ASK("GET /", ""), false},
	{"DENY", BAD, ASK("GET /", "X-Bad: 2\r\nx-bad: 1\r\n"), false},
	{"DENY", BAD, ASK("GET /", "X-Bad: 2\r\nx-bad: 3\r\n"), true},
	{"DENY", DELETE, ASK("DELETE /a", ""), false},
	{"DENY", DELETE, ASK("delete /a", ""), true},
	{"DENY", OF("shop"), ASK("GET /./a", ""), false},
	{"DENY", OF("other"), ASK("GET /a", ""), true},
};

static void test_rows(void **state)
{
	for (size_t i = 0; i < array_size(rows); i++) {
		bool deny = !strcmp(rows[i].action, "DENY");
		uint64_t before = counted(deny ? ABI_DENIED : ABI_NOT_ALLOWED), requests = site.requests;
		struct ends e;

		site_policy("ALLOW", "");
		site_policy("DENY", "");
		site_policy(rows[i].action, rows[i].rules);
		e = begin();
		raw_say(&e.client, rows[i].request);
		if (rows[i].passes) {
			HEARS(&e.app, "\r\n\r\n");
			raw_say(&e.app, OK("2") "ok");
			HEARS(&e.client, "\r\n\r\nok");
		} else {
			HEARS(&e.client, "\r\n\r\n");
			if (strncmp(e.client.text, "HTTP/1.1 403 ", 13))
				fail_msg("row %zu: %s: %s", i, rows[i].request, e.client.text);
			assert_int_equal(counted(deny ? ABI_DENIED : ABI_NOT_ALLOWED), before + 1);
			raw_hear(&e.app);
			assert_int_equal(e.app.len, 0);
		}
		assert_int_equal(site.requests, requests + 1);
		end(&e);
	}
}

/* What is judged is what goes on: one form of the path, every field as it came. */
static void test_one_form(void **state)
{
	struct ends e = begin();

	raw_say(&e.client, ASK("GET /x/../public/%7ea%2d?q=%2f", "X-Case: 1\r\nx-two: a\r\nx-two: b\r\nCookie: a=b\r\n"
							   "X-Forwarded-For: 1.2.3.4\r\n"));
	HEARS(&e.app, "\r\n\r\n");
	assert_true(text_starts(e.app.text, "GET /public/~a-?q=%2f HTTP/1.1\r\n"));
	HEARS(&e.app, "Host: web\r\n");
	HEARS(&e.app, "X-Case: 1\r\nx-two: a\r\nx-two: b\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\n");
	assert_false(raw_heard(&e.app, "x-request-id"));
	end(&e);
}

static void test_ambiguous(void **state)
{
	static const char *const bad[] = {GET("/public/a%2fb"), GET("/public/%5c"), GET("/../a"), GET("/a%00"),
					  "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n",
					  "GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
					  ASK("GET /a", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")};

	for (size_t i = 0; i < array_size(bad); i++) {
		uint64_t before = counted(ABI_MALFORMED);
		struct ends e = begin();

		raw_say(&e.client, bad[i]);
		HEARS(&e.client, "HTTP/1.1 400 ");
		assert_int_equal(counted(ABI_MALFORMED), before + 1);
		raw_hear(&e.app);
		assert_int_equal(e.app.len, 0);
		end(&e);
	}
}

/* Three at once, the one in the middle is denied: answers in order, and the app hears of two. */
static void test_pipelined(void **state)
{
	struct ends e = begin();
	struct relay_row row;

	raw_say(&e.client, GET("/a") ASK("POST /a", "Content-Length: 5\r\n") "hello" GET("/public/c"));
	HEARS(&e.app, "GET /a ");
	rest();
	assert_int_equal(raw_count(&e.client, "HTTP/1.1 "), 0);
	raw_say(&e.app, OK("1") "1");
	HEARS(&e.client, "\r\n\r\n1HTTP/1.1 403 ");
	HEARS(&e.app, "GET /public/c ");
	raw_say(&e.app, OK("1") "3");
	HEARS(&e.client, "\r\n\r\n3");
	assert_int_equal(raw_count(&e.app, "HTTP/1.1"), 2);
	assert_false(raw_heard(&e.app, "POST"));
	assert_false(raw_heard(&e.app, "hello"));
	guard_row(guard_of(site.guards.next), &row);
	assert_true(row.open && row.judged && row.kind == RELAY_LOCAL && row.server_port == 80);
	assert_int_equal(row.requests, 3);
	assert_int_equal(row.denied, 1);
	assert_int_equal(row.received, 2);
	assert_string_equal(row.waits, "nothing");
	assert_string_equal(row.peer, "spiffe://cluster.local/ns/shop/sa/app");
	end(&e);
}

/* A denied request's body, which is still to come, is no request. */
static void test_denied_body(void **state)
{
	struct ends e = begin();

	raw_say(&e.client, "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 43\r\n\r\n");
	HEARS(&e.client, "HTTP/1.1 403 ");
	raw_say(&e.client, GET("/a"));
	rest();
	raw_hear(&e.app);
	assert_int_equal(e.app.len, 0);
	end(&e);
}

static void test_grpc_denied(void **state)
{
	struct ends e = begin();

	raw_say(&e.client, "POST /pkg.Other/Call HTTP/1.1\r\nHost: web\r\nContent-Type: application/grpc\r\n"
			   "Content-Length: 0\r\n\r\n");
	HEARS(&e.client, "HTTP/1.1 200 ");
	HEARS(&e.client, "grpc-status: 7\r\n");
	HEARS(&e.client, "grpc-message: weft: not_allowed");
	raw_hear(&e.app);
	assert_int_equal(e.app.len, 0);
	end(&e);
}

/* ------------------------------------------------------------------ bodies and answers */

static void test_bodies(void **state)
{
	struct ends e;

	site_policy("ALLOW", "{to: [{operation: {paths: [/a]}}]}");
	e = begin();
	raw_say(&e.client, ASK("POST /a", "Transfer-Encoding: chunked\r\nTrailer: x-t\r\n") "3\r\nabc\r\n");
	HEARS(&e.app, "abc");
	raw_say(&e.client, "2\r\nde\r\n0\r\nX-T: end\r\n\r\n");
	HEARS(&e.app, "X-T: end\r\n\r\n");
	raw_say(&e.app, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 Fine\r\n"
			"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-U: end\r\n\r\n");
	HEARS(&e.client, "HTTP/1.1 103 ");
	HEARS(&e.client, "HTTP/1.1 200 Fine\r\n");
	HEARS(&e.client, "X-U: end\r\n\r\n");
	/* and the next one, by the same connections */
	raw_say(&e.client, GET("/a"));
	HEARS(&e.app, "GET /a ");
	raw_say(&e.app, OK("2") "ok");
	HEARS(&e.client, "\r\n\r\nok");
	end(&e);
}

/* The answer is there before the request is complete. */
static void test_early_answer(void **state)
{
	struct ends e;

	site_policy("ALLOW", "{to: [{operation: {paths: [/a]}}]}");
	e = begin();
	raw_say(&e.client, "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\n01234");
	HEARS(&e.app, "01234");
	raw_say(&e.app, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
	HEARS(&e.client, "\r\n\r\nbig");
	raw_say(&e.client, "56789" GET("/a"));
	HEARS(&e.app, "56789");
	HEARS(&e.app, "GET /a ");
	raw_say(&e.app, OK("0"));
	HEARS(&e.client, "HTTP/1.1 200 OK");
	end(&e);
	/* the app closes behind it: the client has the answer, and an end */
	e = begin();
	raw_say(&e.client, "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\n01234");
	HEARS(&e.app, "01234");
	raw_say(&e.app, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig");
	close(e.app.fd);
	e.app.fd = -1;
	HEARS(&e.client, "\r\n\r\nbig");
	raw_say(&e.client, "56789");
	UNTIL(raw_over(&e.client));
	assert_true(e.client.ended && strstr(e.client.text, "413") && !strstr(e.client.text, "502"));
	end(&e);
}

/* Until the app has agreed nothing is a tunnel; then it is bytes, both ways, and each end of its own. */
static void test_upgrade(void **state)
{
	struct ends e = begin();

	raw_say(&e.client, "GET /a HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly");
	HEARS(&e.app, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
	HEARS(&e.app, "\r\n\r\n");
	rest();
	assert_false(raw_heard(&e.app, "early"));
	raw_say(&e.app, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello");
	HEARS(&e.client, "HTTP/1.1 101 ");
	HEARS(&e.client, "\r\n\r\nhello");
	HEARS(&e.app, "early");
	raw_say(&e.client, "POST /b HTTP/1.1\r\n\r\n");
	HEARS(&e.app, "POST /b HTTP/1.1\r\n\r\n");
	assert_int_equal(shutdown(e.client.fd, SHUT_WR), 0);
	UNTIL(raw_over(&e.app));
	assert_true(e.app.ended);
	raw_say(&e.app, "bye");
	HEARS(&e.client, "bye");
	end(&e);
	/* a denied one never gets there */
	e = begin();
	raw_say(&e.client, "GET /b HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
	HEARS(&e.client, "HTTP/1.1 403 ");
	raw_hear(&e.app);
	assert_int_equal(e.app.len, 0);
	end(&e);
}

/* A switch that nobody asked for is no answer. */
static void test_unasked_upgrade(void **state)
{
	struct ends e = begin();

	raw_say(&e.client, GET("/a"));
	HEARS(&e.app, "GET /a ");
	raw_say(&e.app, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfree");
	HEARS(&e.client, "HTTP/1.1 502 ");
	assert_false(raw_heard(&e.client, "free"));
	assert_false(raw_heard(&e.client, "101"));
	end(&e);
}

/* ------------------------------------------------------------------ HTTP/2 */

struct ends2 {
	struct far client, app;
};

static void begin2(struct ends2 *e)
{
	int fd[2];

	guard(fd);
	far_begin(&e->app, fd[1], true, true);
	far_begin(&e->client, fd[0], false, true);
}

static void end2(struct ends2 *e)
{
	far_end(&e->client);
	far_end(&e->app);
	UNTIL(!site.relay_count);
}

static void test_streams(void **state)
{
	struct ends2 e;
	struct talk *a, *b, *c, *d;

	begin2(&e);
	a = far_ask(&e.client, HTTP_GET, "GET", "/a", NULL, NULL);
	UNTIL(e.app.talks == 1);
	b = far_ask(&e.client, HTTP_POST, "POST", "/a", NULL, "body");
	c = far_ask(&e.client, HTTP_GET, "GET", "/public/./c", NULL, NULL);
	d = far_ask(&e.client, HTTP_POST, "POST", "/pkg.Other/Call", "content-type: application/grpc", "");
	UNTIL(b->status == 403 && b->ended);
	assert_non_null(strstr(b->body, "not_allowed"));
	UNTIL(d->status == 200 && d->ended);
	assert_int_equal(d->grpc_status, 7);
	UNTIL(e.app.talks == 2);
	assert_string_equal(e.app.talk[0].line, "GET web.example /a");
	assert_string_equal(e.app.talk[1].line, "GET web.example /public/c");
	talk_answer(&e.app.talk[1], 200, "c");
	talk_answer(&e.app.talk[0], 200, "a");
	UNTIL(a->ended && c->ended);
	assert_string_equal(a->body, "a");
	assert_string_equal(c->body, "c");
	assert_false(e.client.closed);
	rest();
	assert_int_equal(e.app.talks, 2);
	end2(&e);
}

/* What one side says by a reset the other side hears; the others go on. */
static void test_stream_resets(void **state)
{
	struct ends2 e;
	struct talk *a, *b, *c;

	site_policy("ALLOW", "{to: [{operation: {paths: ['/*']}}]}");
	begin2(&e);
	a = far_ask(&e.client, HTTP_GET, "GET", "/a", NULL, NULL);
	UNTIL(e.app.talks == 1);
	b = far_ask(&e.client, HTTP_POST, "POST", "/b", NULL, "");
	c = far_ask(&e.client, HTTP_GET, "GET", "/c", NULL, NULL);
	UNTIL(e.app.talks == 3);
	b->x->error = 8; /* CANCEL */
	talk_close(b, "the client does not want it");
	UNTIL(e.app.talk[1].failed);
	e.app.talk[2].x->error = 0xb; /* ENHANCE_YOUR_CALM */
	talk_close(&e.app.talk[2], "the app does not want it");
	UNTIL(c->failed || c->ended);
	talk_answer(&e.app.talk[0], 200, "a");
	UNTIL(a->ended);
	assert_string_equal(a->body, "a");
	end2(&e);
}

/* What the app's connection cannot take yet waits, and was judged. */
static void test_policy_changes_under_streams(void **state)
{
	struct ends2 e;
	struct talk *a, *b, *c;

	begin2(&e);
	a = far_ask(&e.client, HTTP_GET, "GET", "/a", NULL, NULL);
	UNTIL(e.app.talks == 1);
	site_policy("DENY", "{to: [{operation: {paths: [/a]}}]}");
	guards_view_changed(&site);
	b = far_ask(&e.client, HTTP_GET, "GET", "/a", NULL, NULL);
	c = far_ask(&e.client, HTTP_GET, "GET", "/public/", NULL, NULL);
	UNTIL(b->status == 403 && e.app.talks == 2);
	talk_answer(&e.app.talk[0], 200, "a"); /* it was under way */
	talk_answer(&e.app.talk[1], 200, "c");
	UNTIL(a->ended && c->ended);
	assert_string_equal(a->body, "a");
	assert_int_equal(c->status, 200);
	/* nothing on it can be allowed any more */
	site_policy("DENY", "{to: [{operation: {ports: ['80']}}]}");
	guards_view_changed(&site);
	UNTIL(e.client.closed && e.app.closed);
	assert_int_equal(site.relay_count, 0);
	end2(&e);
}

/* The client's pod is another one now: what it asks from here on is judged so. */
static void test_another_identity(void **state)
{
	struct ends e;

	site_policy("ALLOW", "{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}],"
			     " to: [{operation: {paths: [/a]}}]}");
	e = begin();
	raw_say(&e.client, GET("/a"));
	HEARS(&e.app, "GET /a ");
	raw_say(&e.app, OK("1") "1");
	HEARS(&e.client, "\r\n\r\n1");
	scene_enrol(scene.world, 1, "shop/client", "other", "10.1.0.1", "");
	site_take_in();
	guards_view_changed(&site);
	raw_say(&e.client, GET("/a"));
	UNTIL(raw_heard(&e.client, "HTTP/1.1 403 ") || raw_over(&e.client));
	assert_int_equal(raw_count(&e.app, "GET /a "), 1);
	end(&e);
}

static void test_drain(void **state)
{
	struct ends2 e;
	struct talk *a;

	begin2(&e);
	a = far_ask(&e.client, HTTP_GET, "GET", "/a", NULL, NULL);
	UNTIL(e.app.talks == 1);
	guards_drain(&site);
	UNTIL(e.client.draining);
	talk_answer(&e.app.talk[0], 200, "a");
	UNTIL(a->ended && e.client.closed);
	assert_string_equal(a->body, "a");
	end2(&e);
}

/* ------------------------------------------------------------------ how it ends */

enum life { BEFORE, WAITS, IN_REQUEST, IN_ANSWER, IDLE, LIVES };

/* A connection in that moment of a request's life. */
static struct ends at(enum life life)
{
	struct ends e = begin();

	if (life == IN_REQUEST) {
		raw_say(&e.client, "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\n01234");
		HEARS(&e.app, "01234");
	} else if (life != BEFORE) {
		raw_say(&e.client, GET("/a"));
		HEARS(&e.app, "GET /a ");
	}
	if (life == IN_ANSWER) {
		raw_say(&e.app, OK("10") "01234");
		HEARS(&e.client, "01234");
	} else if (life == IDLE) {
		raw_say(&e.app, OK("1") "1");
		HEARS(&e.client, "\r\n\r\n1");
	}
	return e;
}

/* The client goes first, by an end or a reset: the app hears of it, whatever was under way. */
static void test_client_goes(void **state)
{
	site_policy("ALLOW", "{to: [{operation: {paths: [/a]}}]}");
	for (int life = 0; life < LIVES; life++) {
		for (int by_reset = 0; by_reset < 2; by_reset++) {
			struct ends e = at(life);

			if (by_reset) {
				raw_reset(&e.client);
			} else {
				close(e.client.fd);
				e.client.fd = -1;
			}
			/* an end may be half of one: the answer is still wanted */
			if (!by_reset && (life == WAITS || life == IN_ANSWER))
				raw_say(&e.app, life == WAITS ? OK("1") "1" : "56789");
			UNTIL(raw_over(&e.app));
			if (life == IN_REQUEST)
				assert_true(e.app.reset); /* never as if it were complete */
			UNTIL(!site.relay_count);
			end(&e);
		}
	}
}

/* The app goes first: a request without an answer gets one of weft's own, an answer that was begun is cut. */
static void test_app_goes(void **state)
{
	site_policy("ALLOW", "{to: [{operation: {paths: [/a]}}]}");
	for (int life = 0; life < LIVES; life++) {
		for (int by_reset = 0; by_reset < 2; by_reset++) {
			struct ends e = at(life);

			if (by_reset) {
				raw_reset(&e.app);
			} else {
				close(e.app.fd);
				e.app.fd = -1;
			}
			if (life == WAITS || life == IN_REQUEST)
				HEARS(&e.client, "HTTP/1.1 502 ");
			else
				UNTIL(raw_over(&e.client));
			if (life == IN_ANSWER)
				assert_true(e.client.reset || strstr(e.client.text, "56789") == NULL);
			if (life == BEFORE || life == IDLE)
				assert_null(strstr(e.client.text, "502"));
			end(&e);
		}
	}
}

/* The client has said all and listens: its answer comes, then both end. */
static void test_half_close(void **state)
{
	struct ends e = begin();

	raw_say(&e.client, GET("/a"));
	assert_int_equal(shutdown(e.client.fd, SHUT_WR), 0);
	HEARS(&e.app, "GET /a ");
	rest();
	raw_say(&e.app, OK("2") "ok");
	HEARS(&e.client, "\r\n\r\nok");
	UNTIL(raw_over(&e.client) && raw_over(&e.app));
	assert_true(e.client.ended);
	end(&e);
}

static void test_ended(void **state)
{
	for (int life = 0; life < LIVES; life++) {
		uint64_t before = counted(ABI_POD_GONE);
		struct ends e;

		site_policy("ALLOW", "{to: [{operation: {paths: [/a]}}]}");
		e = at(life);
		guards_end(&site, 4711, ABI_POD_GONE, NULL); /* another one */
		rest();
		assert_int_equal(site.relay_count, 1);
		guards_end(&site, POD, ABI_POD_GONE, NULL);
		guards_end(&site, 0, ABI_POD_GONE, NULL);
		assert_int_equal(site.relay_count, 0);
		assert_int_equal(counted(ABI_POD_GONE), before + 1);
		UNTIL(raw_over(&e.client) && raw_over(&e.app));
		assert_true(e.client.reset && e.app.reset);
		end(&e);
	}
}

/* ------------------------------------------------------------------ the first bytes */

/* They may come one at a time: what they are is known when they tell it, not before. */
static void test_first_bytes(void **state)
{
	static const char request[] = GET("/a");
	struct ends e = begin();

	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		char one[2] = {request[i]};

		raw_say(&e.client, one);
		turn(MS / 2);
	}
	HEARS(&e.app, "GET /a ");
	end(&e);
}

static void test_first_bytes_of_http2(void **state)
{
	static const uint8_t settings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
	struct ends e = begin();

	raw_say(&e.client, "PRI * HT");
	rest();
	raw_say(&e.client, "TP/2.0\r\n\r\nSM\r\n");
	rest();
	raw_say(&e.client, "\r\n");
	assert_int_equal(send(e.client.fd, settings, sizeof(settings), 0), sizeof(settings));
	HEARS(&e.app, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	UNTIL((raw_hear(&e.client), e.client.len > 0));
	assert_false(raw_heard(&e.client, "HTTP/1.1"));
	end(&e);
}

/* Judged once, as what is no HTTP: by an ALLOW rule, or a DENY rule without its fields of HTTP. */
static void test_no_http(void **state)
{
	static const char *const said[] = {"\x16\x03\x01\x02\x01\x01\x01\x01\x01", "\x01\x02 not http\r\n",
					   "EHLO me\r\n", "GET key\r\n"};

	for (size_t i = 0; i < 2 * array_size(said); i++) {
		enum abi_reason reason = i % 2 ? ABI_DENIED : ABI_NOT_ALLOWED;
		uint64_t before = counted(reason);
		struct ends e;

		site_policy("ALLOW", i % 2 ? "" : READ);
		site_policy("DENY", i % 2 ? DELETE : "");
		e = begin();
		raw_say(&e.client, said[i / 2]);
		UNTIL(raw_over(&e.client) && raw_over(&e.app));
		assert_int_equal(e.app.len, 0);
		assert_int_equal(counted(reason), before + 1);
		end(&e);
	}
}

/* A server that greets is not heard before the client has spoken. */
static void test_greeting_waits(void **state)
{
	struct ends e = begin();

	raw_say(&e.app, "220 hello\r\n");
	rest();
	raw_hear(&e.client);
	assert_int_equal(e.client.len, 0);
	end(&e);
}

/* ------------------------------------------------------------------ memory */

/* Heads at their largest, as many as there may be at once: what was sent is not held for its answer. */
static void test_large_heads(void **state)
{
	char *value = malloc(30001), *field;
	struct ends2 e;
	size_t before;

	memset(value, 'a', 30000);
	value[30000] = '\0';
	field = mem_format("x-large: %s", value);
	begin2(&e);
	(void)far_ask(&e.client, HTTP_GET, "GET", "/a", NULL, NULL);
	UNTIL(e.app.talks == 1);
	before = __sanitizer_get_current_allocated_bytes();
	for (unsigned i = 0; i < 90; i++)
		(void)far_ask(&e.client, HTTP_GET, "GET", "/a", field, NULL);
	UNTIL(e.app.talks == 91);
	rest();
	assert_true(__sanitizer_get_current_allocated_bytes() - before < 1 << 20);
	end2(&e);
	free(field);
	free(value);
}

static int each_setup(void **state)
{
	return guards_setup(READ);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_rows),
		SITE_TEST(test_one_form),
		SITE_TEST(test_ambiguous),
		SITE_TEST(test_pipelined),
		SITE_TEST(test_denied_body),
		SITE_TEST(test_grpc_denied),
		SITE_TEST(test_bodies),
		SITE_TEST(test_early_answer),
		SITE_TEST(test_upgrade),
		SITE_TEST(test_unasked_upgrade),
		SITE_TEST(test_streams),
		SITE_TEST(test_stream_resets),
		SITE_TEST(test_policy_changes_under_streams),
		SITE_TEST(test_another_identity),
		SITE_TEST(test_drain),
		SITE_TEST(test_client_goes),
		SITE_TEST(test_app_goes),
		SITE_TEST(test_half_close),
		SITE_TEST(test_ended),
		SITE_TEST(test_first_bytes),
		SITE_TEST(test_first_bytes_of_http2),
		SITE_TEST(test_no_http),
		SITE_TEST(test_greeting_waits),
		SITE_TEST(test_large_heads),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
