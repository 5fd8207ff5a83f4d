// SPDX-License-Identifier: Apache-2.0
/* Copies of a request: what they get, and that neither the request nor its answer ever waits for one. */
#include "exchanges.h"

static const char world[] =
	SERVICE("web", "", "clusterIPs: [10.96.0.1]")
	SERVICE("copy", "", "clusterIPs: [None]")
	SERVICE("app", "", "clusterIPs: [None], selector: {app: app}")
	ENDPOINTS("web", "{addresses: [10.3.0.1]}")
	ENDPOINTS("copy", "{addresses: [10.3.0.2]}")
	ENDPOINTS("app", "{addresses: [10.1.0.2]}")
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: web}\n"
	"spec:\n"
	"  parentRefs: [{group: '', kind: Service, name: web}]\n"
	"  rules:\n"
	"  - filters:\n"
	"    - {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}\n"
	"    - {type: RequestMirror, requestMirror: {backendRef: {name: app, port: 80}}}\n"
	"    backendRefs: [{name: web, port: 80}]\n";

static int copies; /* 10.3.0.2 */

static bool nobody_at(int listening_at)
{
	rest();
	return accept4(listening_at, NULL, NULL, SOCK_CLOEXEC) < 0;
}

/* Copies go too; not to a pod that does not allow it; nobody waits for their answers. */
static void test_mirrored(void **state)
{
	int app = site_listen("10.1.0.2", PORT);
	struct raw c = client(), e, copy;

	site_policy("DENY", "{to: [{operation: {methods: [POST]}}]}");
	raw_say(&c, POST("/", "6") "abc");
	e = endpoint(listening);
	HEARS(&e, "abc");
	raw_say(&c, "def");
	HEARS(&e, "def");
	raw_say(&e, OK("2") "ok");
	HEARS(&c, "\r\n\r\nok");
	copy = endpoint(copies); /* which answers nothing, and goes */
	HEARS(&copy, "abcdef");
	raw_reset(&copy);
	assert_true(nobody_at(app));
	raw_close(&e);
	close(app);
	exchanges_over(&c);
}

/* An answer of any size is thrown away, and the connection is used for the next copy. */
static void test_answers_are_thrown_away(void **state)
{
	struct raw c = client(), e, copy;

	raw_say(&c, GET("/1"));
	e = endpoint(listening);
	copy = endpoint(copies);
	for (unsigned n = 1; n <= 3; n++) {
		char line[32];

		snprintf(line, sizeof(line), "GET /%u HTTP", n);
		HEARS(&e, line);
		HEARS(&copy, line);
		raw_say(&e, OK("2") "ok");
		UNTIL(raw_count(&c, "\r\n\r\nok") == n);
		assert_int_equal(site.mirror_count, 1);
		raw_say(&copy, n & 1 ? "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nnever"
				     : "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nnever\r\n0\r\n\r\n");
		UNTIL(list_empty(&site.mirrors));
		snprintf(line, sizeof(line), "/%u", n + 1);
		if (n < 3) {
			char request[128];

			snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: web.shop\r\n\r\n", line);
			raw_say(&c, request);
		}
	}
	assert_null(strstr(c.text, "never"));
	assert_int_equal(raw_count(&c, "HTTP/1.1 200 "), 3);
	assert_true(nobody_at(copies));
	raw_close(&e);
	raw_close(&copy);
	exchanges_over(&c);
}

/* A copy that is not read is given up, and the request has all of its body where it goes. */
static void test_one_that_does_not_keep_up(void **state)
{
	static char body[8 << 20];
	struct raw c = client(), e, copy;
	size_t sent = 0, came = 0;

	raw_say(&c, POST("/", "8388608"));
	e = endpoint(listening);
	HEARS(&e, "\r\n\r\n");
	copy = endpoint(copies);
	HEARS(&copy, "\r\n\r\n");
	while (came < sizeof(body)) {
		static char got[65536];
		ssize_t n = sent < sizeof(body) ? send(c.fd, body + sent, sizeof(body) - sent, MSG_NOSIGNAL) : 0;

		sent += n > 0 ? (size_t)n : 0;
		while ((n = recv(e.fd, got, sizeof(got), 0)) > 0)
			came += (size_t)n;
		assert_true(site.mirror_count <= 1);
		turn(0);
	}
	raw_say(&e, OK("2") "ok");
	HEARS(&c, "\r\n\r\nok");
	UNTIL(list_empty(&site.mirrors));
	UNTIL(raw_over(&copy));
	assert_true(copy.reset); /* nobody takes it for all of it */
	raw_close(&copy);
	raw_close(&e);
	exchanges_over(&c);
}

/* What the client never finished is no request, nor is its copy. */
static void test_cut_with_the_request(void **state)
{
	struct raw c = client(), e, copy;

	raw_say(&c, POST("/", "10") "01234");
	e = endpoint(listening);
	copy = endpoint(copies);
	HEARS(&copy, "01234");
	raw_reset(&c);
	UNTIL(raw_over(&e) && raw_over(&copy));
	assert_true(copy.reset);
	UNTIL(list_empty(&site.mirrors) && !serve.http);
	raw_close(&e);
	raw_close(&copy);
}

/* Nobody answers the client by it; the body comes with the request's. */
static void test_expect_is_the_requests_own(void **state)
{
	struct raw c = client(), e, copy;

	raw_say(&c, "POST / HTTP/1.1\r\nHost: web.shop\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	e = endpoint(listening);
	HEARS(&e, "100-continue");
	copy = endpoint(copies);
	HEARS(&copy, "\r\n\r\n");
	raw_say(&copy, "HTTP/1.1 100 Continue\r\n\r\n");
	rest();
	assert_null(strstr(copy.text, "xpect"));
	raw_hear(&c);
	assert_int_equal(c.len, 0);
	raw_say(&e, "HTTP/1.1 100 Continue\r\n\r\n");
	HEARS(&c, "HTTP/1.1 100 ");
	raw_say(&c, "ab");
	HEARS(&e, "ab");
	HEARS(&copy, "ab");
	raw_say(&e, OK("2") "ok");
	HEARS(&c, "\r\n\r\nok");
	raw_close(&e);
	raw_close(&copy);
	exchanges_over(&c);
}

static void test_none_of_an_upgrade(void **state)
{
	struct raw c = client(), e;

	raw_say(&c, "GET / HTTP/1.1\r\nHost: web.shop\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n");
	e = endpoint(listening);
	HEARS(&e, "\r\n\r\n");
	assert_true(nobody_at(copies));
	raw_close(&e);
	raw_reset(&c);
	UNTIL(!serve.http);
}

/* Nobody answers: the request is over, its copies wait, so many and no more. */
static void test_as_many_as_there_may_be(void **state)
{
	struct raw c = client(), e;

	site.mirror_count = 1023;
	raw_say(&c, GET("/1"));
	e = endpoint(listening);
	HEARS(&e, "GET /1 ");
	raw_say(&e, OK("0"));
	assert_int_equal(site.mirror_count, 1024);
	HEARS(&c, "HTTP/1.1 200 ");
	raw_say(&c, GET("/2"));
	HEARS(&e, "GET /2 ");
	assert_int_equal(site.mirror_count, 1024);
	raw_say(&e, OK("0"));
	UNTIL(raw_count(&c, "HTTP/1.1 200 ") == 2);
	mirrors_close(&site);
	assert_int_equal(site.mirror_count, 1023);
	site.mirror_count = 0;
	raw_close(&e);
	exchanges_over(&c);
}

/* Files run out: requests may have of the last, a copy is not worth one. */
static void test_no_file_for_a_copy(void **state)
{
	struct raw c = client(), e;
	int fd;

	for (unsigned i = 0; i < 8; i++)
		shares_hold(thread, shares_pod(7));
	shares_seen(thread, (int)sock_files() - 1);
	raw_say(&c, POST("/", "2"));
	UNTIL((shares_seen(thread, (int)sock_files() - 1),
	       (fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0));
	e = raw_of(fd);
	assert_int_equal(site.mirror_count, 0);
	assert_true(nobody_at(copies));
	raw_say(&c, "ab");
	HEARS(&e, "ab");
	raw_say(&e, OK("2") "ok");
	HEARS(&c, "\r\n\r\nok");
	for (unsigned i = 0; i < 8; i++)
		shares_let_go(thread, shares_pod(7));
	raw_close(&e);
	exchanges_over(&c);
}

static int each_setup(void **state)
{
	int r = exchanges_begin(world);

	copies = site_listen("10.3.0.2", PORT);
	return r;
}

static int each_teardown(void **state)
{
	close(copies);
	return site_end(exchanges_clear);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_mirrored),
		SITE_TEST(test_answers_are_thrown_away),
		SITE_TEST(test_one_that_does_not_keep_up),
		SITE_TEST(test_cut_with_the_request),
		SITE_TEST(test_expect_is_the_requests_own),
		SITE_TEST(test_none_of_an_upgrade),
		SITE_TEST(test_as_many_as_there_may_be),
		SITE_TEST(test_no_file_for_a_copy),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
