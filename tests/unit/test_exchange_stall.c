// SPDX-License-Identifier: Apache-2.0
/* Requests of which bytes wait that nobody takes end after the Service's time; who is slow or quiet does not. */
#include "exchanges.h"

#define STALL_MS 200
#define LARGE "1073741824" /* bytes of a body that never comes to its end */

/* The world, with an annotation of the Service that is asked. */
static void stall_timeout(const char *value)
{
	site_yaml("apiVersion: v1\nkind: Service\n"
		  "metadata: {namespace: shop, name: web,\n"
		  "  annotations: {weft.io/proxy: always, weft.io/stall-timeout: %s}}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80, targetPort: 8080}]}\n",
		  value);
}

static const char world[] = ENDPOINTS("web", "{addresses: [10.3.0.1]}");

/* Writes until nobody takes more: for 20 turns not a byte. */
static size_t fill(struct raw *r)
{
	static const char zero[65536];
	size_t sent = 0;

	for (unsigned still = 0; still < 20; still++) {
		ssize_t n = send(r->fd, zero, sizeof(zero), MSG_NOSIGNAL);

		if (n > 0) {
			sent += (size_t)n;
			still = 0;
		}
		turn(MS / 2);
	}
	return sent;
}

/* So many bytes, or what there is. */
static size_t take(struct raw *r, size_t most)
{
	static char bytes[65536];
	size_t took = 0;
	ssize_t n;

	while (took < most && (n = recv(r->fd, bytes, sizeof(bytes), 0)) > 0)
		took += (size_t)n;
	return took;
}

static void pass(uint64_t ms)
{
	uint64_t begins = clock_ns();

	while (clock_ns() - begins < ms * MS)
		turn(MS);
}

/* A client whose answer has begun, of which it has read the head. */
static struct raw answered(struct raw *e, const char *request)
{
	struct raw c = client();

	raw_say(&c, request);
	*e = endpoint(listening);
	HEARS(e, "\r\n\r\n");
	raw_say(e, "HTTP/1.1 200 OK\r\nContent-Length: " LARGE "\r\n\r\nfirst");
	HEARS(&c, "\r\n\r\nfirst");
	return c;
}

static void test_a_client_that_takes_nothing(void **state)
{
	struct raw e, c = answered(&e, GET("/a"));
	uint64_t begins = clock_ns();

	(void)fill(&e);
	UNTIL(counted(ABI_STALLED) == 1);
	assert_true(clock_ns() - begins >= STALL_MS * MS);
	assert_true(list_empty(&serve.exchanges));
	UNTIL(raw_over(&e)); /* the endpoint hears of it */
	UNTIL(raw_over(&c)); /* and what the client has is no whole answer */
	raw_close(&e);
	exchanges_over(&c);
}

/* The window of one stream is shut; another one asks for nothing yet, and has more time. */
static void test_one_stream_of_two(void **state)
{
	struct talk *quiet, *sleeps;
	struct raw first, second;
	struct far c;

	stall_timeout("1h");
	far_begin(&c, client_fd(true), false, true);
	quiet = far_ask(&c, HTTP_GET, "GET", "/a", NULL, NULL);
	first = endpoint(listening);
	HEARS(&first, "GET /a ");
	stall_timeout("200ms"); /* the looks, an hour apart until now, come sooner */
	sleeps = far_ask(&c, HTTP_GET, "GET", "/b", NULL, NULL);
	sleeps->sleeping = true;
	second = endpoint(listening);
	HEARS(&second, "GET /b ");
	raw_say(&second, "HTTP/1.1 200 OK\r\nContent-Length: " LARGE "\r\n\r\n");
	(void)fill(&second);
	UNTIL(sleeps->failed);
	assert_int_equal(sleeps->error, H2_CANCEL);
	assert_int_equal(counted(ABI_STALLED), 1);
	raw_say(&first, OK("2") "ok");
	UNTIL(quiet->ended);
	assert_string_equal(quiet->body, "ok");
	far_end(&c);
	UNTIL(!serve.http && list_empty(&serve.exchanges));
	raw_close(&first);
	raw_close(&second);
}

/*
 * All bytes of an answer went, and used up the window that is never opened again; its end comes later, and needs none.
 * No event tells of it: who waits for room reads nothing.
 */
static void test_an_end_behind_a_shut_window(void **state)
{
	static const struct http_limits limits = {.stream_window = 1024};
	struct far c = {.talk = calloc(FAR_TALKS, sizeof(struct talk))};
	int fd = client_fd(true);
	char body[1025] = "";
	struct talk *t;
	struct raw e;

	sock_prepare(fd);
	c.c = http2_client(thread, sock_stream(thread, fd), &limits, &far_events, &c);
	t = far_ask(&c, HTTP_GET, "GET", "/a", NULL, NULL);
	t->sleeping = true;
	e = endpoint(listening);
	HEARS(&e, "GET /a ");
	memset(body, 'x', 1024);
	raw_say(&e, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n");
	raw_say(&e, body);
	UNTIL(http_kept(c.c) && t->status == 200);
	pass(2 * STALL_MS);
	assert_false(list_empty(&serve.exchanges)); /* it may go on, and then needs room */
	raw_say(&e, "\r\n0\r\n\r\n");
	UNTIL(list_empty(&serve.exchanges));
	assert_int_equal(counted(ABI_STALLED), 0);
	t->sleeping = false;
	UNTIL((talk_read(t), t->ended || t->failed));
	assert_true(t->ended && t->len == 1024);
	far_end(&c);
	UNTIL(!serve.http);
	raw_close(&e);
}

static void test_an_endpoint_that_takes_nothing(void **state)
{
	struct raw c = client(), e;

	raw_say(&c, POST("/a", LARGE));
	e = endpoint(listening);
	HEARS(&e, "POST /a ");
	(void)fill(&c);
	HEARS(&c, "HTTP/1.1 504 ");
	HEARS(&c, "weft: stalled: ");
	assert_int_equal(counted(ABI_STALLED), 1);
	UNTIL(raw_over(&e)); /* by a reset: what it has of the request is not all */
	assert_true(e.reset);
	raw_close(&e);
	exchanges_over(&c);
}

/* The answer has begun, so there can be no other one. */
static void test_an_endpoint_that_answers_and_takes_nothing(void **state)
{
	struct raw e, c = answered(&e, POST("/a", LARGE));

	(void)fill(&c);
	UNTIL(counted(ABI_STALLED) == 1);
	UNTIL(raw_over(&c) && raw_over(&e));
	assert_null(strstr(c.text, "504"));
	raw_close(&e);
	exchanges_over(&c);
}

/* It takes something in each of these times. */
static void test_a_slow_reader(void **state)
{
	struct raw e, c = answered(&e, GET("/a"));
	uint64_t begins = clock_ns(), last = begins;
	size_t took = 0;

	while (clock_ns() - begins < 4 * STALL_MS * MS) {
		static const char zero[65536];

		while (send(e.fd, zero, sizeof(zero), MSG_NOSIGNAL) > 0)
			;
		turn(MS);
		if (clock_ns() - last >= STALL_MS * MS / 8) { /* more than a receiver keeps to itself before it tells */
			last = clock_ns();
			took += take(&c, 1 << 20);
		}
	}
	assert_true(took > 1 << 20);
	assert_int_equal(counted(ABI_STALLED), 0);
	assert_false(list_empty(&serve.exchanges));
	raw_close(&e);
	raw_reset(&c);
	UNTIL(!serve.http);
}

/* An endpoint that thinks, a request that pauses, an answer that pauses: nobody is waited for. */
static void test_who_is_quiet(void **state)
{
	for (unsigned what = 0; what < 3; what++) {
		struct raw e, c;

		if (what < 2) {
			c = client();
			raw_say(&c, what ? POST("/a", "10") "01234" : GET("/a"));
			e = endpoint(listening);
			HEARS(&e, what ? "01234" : "GET /a ");
		} else {
			c = answered(&e, GET("/a"));
		}
		pass(3 * STALL_MS);
		assert_int_equal(counted(ABI_STALLED), 0);
		assert_false(list_empty(&serve.exchanges));
		assert_false(raw_over(&c) || raw_over(&e));
		raw_close(&e);
		raw_reset(&c);
		UNTIL(!serve.http && list_empty(&serve.exchanges));
	}
	pass(STALL_MS);
	assert_false(site.stalls.armed); /* nobody is left to look at */
}

static void test_no_time_at_all(void **state)
{
	struct raw e, c;

	stall_timeout("0s");
	c = answered(&e, GET("/a"));
	(void)fill(&e);
	assert_false(site.stalls.armed);
	pass(3 * STALL_MS);
	assert_int_equal(counted(ABI_STALLED), 0);
	raw_close(&e);
	raw_reset(&c);
	UNTIL(!serve.http);
}

/* What is a tunnel now is no request. */
static void test_a_tunnel(void **state)
{
	struct raw c = client(), e;

	raw_say(&c, "GET /a HTTP/1.1\r\nHost: web.shop\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n");
	e = endpoint(listening);
	HEARS(&e, "pgrade: chat");
	raw_say(&e, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\nfirst");
	HEARS(&c, "first");
	(void)fill(&e);
	pass(3 * STALL_MS);
	assert_int_equal(counted(ABI_STALLED), 0);
	assert_false(list_empty(&serve.exchanges));
	raw_reset(&c);
	UNTIL(raw_over(&e) && !serve.http);
	raw_close(&e);
}

static int each_setup(void **state)
{
	int r = exchanges_begin(world);

	stall_timeout("200ms");
	return r;
}

static int each_teardown(void **state)
{
	return site_end(exchanges_clear);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_a_client_that_takes_nothing),
		SITE_TEST(test_one_stream_of_two),
		SITE_TEST(test_an_end_behind_a_shut_window),
		SITE_TEST(test_an_endpoint_that_takes_nothing),
		SITE_TEST(test_an_endpoint_that_answers_and_takes_nothing),
		SITE_TEST(test_a_slow_reader),
		SITE_TEST(test_who_is_quiet),
		SITE_TEST(test_no_time_at_all),
		SITE_TEST(test_a_tunnel),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
