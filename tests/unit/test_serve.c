// SPDX-License-Identifier: Apache-2.0
/* A client's connection to a Service that is looked into: what is spoken on it, and who serves it then. */
#include "serves.h"

#define PORT 8080
#define OK(body) "HTTP/1.1 200 OK\r\nContent-Length: " body "\r\n\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: web.shop\r\n\r\n"

static int one, two; /* listeners of 10.3.0.1 and 10.3.0.2 */

/* shop/web:80 at 10.3.0.1 and, if it says so, 10.3.0.2; `protocol`: its appProtocol, "" none. */
static void service(const char *protocol, bool both)
{
	site_yaml("apiVersion: v1\nkind: Service\n"
		  "metadata: {namespace: shop, name: web, annotations: {weft.io/proxy: always}}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: p, port: 80, targetPort: 8080%s%s}]}\n"
		  "---\n"
		  "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
		  "metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}\n"
		  "addressType: IPv4\nendpoints: [{addresses: [10.3.0.1]}%s]\nports: [{name: p, port: 8080}]\n",
		  *protocol ? ", appProtocol: " : "", protocol, both ? ", {addresses: [10.3.0.2]}" : "");
}

static void route(const char *kind, const char *backend)
{
	site_yaml("apiVersion: gateway.networking.k8s.io/v1\nkind: %s\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: %s, "
		  "port: 80}]}]}\n",
		  kind, backend);
}

/* What the kernel has captured, on its way to 10.3.0.1: the far end of it. */
static int capture(void)
{
	struct abi_addr vip = scene_addr("10.96.0.1");
	struct abi_conn c = {.service = world_front(scene.world, &vip, 80)->number,
			     .asked = vip,
			     .asked_port = 80,
			     .target = scene_addr("10.3.0.1"),
			     .target_port = PORT};
	const struct view_service *s = view_service(view, c.service);
	struct abi_tuple t = {.src = scene_addr("10.1.0.1"), .src_port = 4711};
	int fd[2];

	assert_non_null(s);
	assert_true(serve_wants(s));
	pair(fd);
	sock_prepare(fd[0]);
	assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	serve_begin(&site, view_pod(view, 1001), s, &c, &t, fd[0]);
	return fd[1];
}

static struct raw client(void)
{
	return raw_of(capture());
}

static struct raw server(int listening)
{
	return raw_of(site_accept(listening));
}

static bool nobody_dialled(int listening)
{
	rest();
	return accept4(listening, NULL, NULL, SOCK_CLOEXEC) < 0;
}

static void over(struct raw *r)
{
	raw_close(r);
	UNTIL(!site.relay_count);
	rest();
}

static struct serve *first(void)
{
	return container_of(site.serves.next, struct serve, link);
}

static void answers(struct raw *s, struct raw *c)
{
	HEARS(s, "GET /a ");
	raw_say(s, OK("2") "ok");
	HEARS(c, "\r\n\r\nok");
}

/* One request of HTTP/1 and its answer. */
static struct raw asks(struct raw *c, int listening)
{
	struct raw s;

	raw_say(c, GET("/a"));
	s = server(listening);
	answers(&s, c);
	return s;
}

/* ------------------------------------------------------------------ declared */

static void test_declared(void **state)
{
	struct relay_row row;
	struct raw c, s;

	service("http", false);
	c = client();
	assert_true(nobody_dialled(one));
	serve_row(first(), &row);
	assert_string_equal(row.waits, "first bytes");
	s = asks(&c, one);
	serve_row(first(), &row);
	assert_int_equal(row.kind, RELAY_HTTP);
	assert_int_equal(row.requests, 1);
	assert_int_equal(row.received, 2);
	assert_int_equal(row.server_port, 80);
	assert_string_equal(row.waits, "nothing");
	raw_close(&s);
	over(&c);
	assert_int_equal(site.requests, 1);
}

/* Who asks for what is merely somebody's backend has not asked for HTTP, whatever its port is called. */
static void test_backend(void **state)
{
	const struct abi_addr vip = scene_addr("10.96.0.1");

	site_yaml("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80}, {name: other, port: 81}]}\n");
	site_yaml("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {parentRefs: [{group: '', kind: Service, name: front}], "
		  "rules: [{backendRefs: [{name: web, port: 80}]}]}\n");
	for (uint16_t port = 80; port <= 81; port++) {
		const struct view_service *s = view_service(view, world_front(scene.world, &vip, port)->number);

		assert_non_null(s);
		assert_false(serve_wants(s));
	}
	route("HTTPRoute", "web"); /* in place of the other: now it has routes of its own */
	assert_true(serve_wants(view_service(view, world_front(scene.world, &vip, 80)->number)));
}

/* The preface of HTTP/2 in pieces; a client that says a part of it and goes. */
static void test_declared_http2(void **state)
{
	static const uint8_t settings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
	struct talk *t;
	struct raw c;
	struct far f, s;

	service("kubernetes.io/h2c", false);
	c = client();
	raw_say(&c, "PRI * HT");
	rest();
	raw_say(&c, "TP/2.0\r\n\r\nSM\r\n\r\n");
	assert_int_equal(send(c.fd, settings, sizeof(settings), 0), sizeof(settings));
	UNTIL((raw_hear(&c), c.len >= 9)); /* its SETTINGS */
	assert_false(raw_heard(&c, "HTTP/1.1"));
	over(&c);
	c = client();
	raw_say(&c, "PRI * HT");
	rest();
	over(&c);
	far_begin(&f, capture(), false, true);
	t = far_ask(&f, HTTP_GET, "GET", "/a", NULL, NULL);
	far_begin(&s, site_accept(one), true, true);
	UNTIL(s.talks == 1);
	talk_answer(&s.talk[0], 200, "ok");
	UNTIL(t->ended);
	assert_string_equal(t->body, "ok");
	far_end(&f);
	UNTIL(!site.relay_count);
	far_end(&s);
}

/* What is no HTTP at a port that is said to speak it. */
static void test_declared_and_not(void **state)
{
	uint64_t before;
	struct raw c;

	service("http", false);
	c = client();
	raw_say(&c, "EHLO me\r\n");
	HEARS(&c, "HTTP/1.1 400 ");
	assert_int_equal(site.reasons[ABI_MALFORMED], 1);
	over(&c);
	before = site.reasons[ABI_RESET];
	c = client();
	raw_reset(&c);
	UNTIL(!site.relay_count);
	assert_int_equal(site.reasons[ABI_RESET], before + 1);
}

/* ------------------------------------------------------------------ detected */

/* Who greets is heard at once, and its client has it as bytes. */
static void test_greeting(void **state)
{
	struct raw c, s;

	service("", false);
	c = client();
	s = server(one);
	raw_say(&s, "220 hello\r\n");
	HEARS(&c, "220 hello\r\n");
	raw_say(&c, "EHLO me\r\n");
	HEARS(&s, "EHLO me\r\n");
	raw_close(&s);
	over(&c);
	/* one that ends without a word */
	c = client();
	s = server(one);
	raw_close(&s);
	UNTIL(raw_over(&c));
	over(&c);
}

/* Clients of HTTP: the server was dialled, once; then it is known. */
static void test_detected(void **state)
{
	struct raw c, s;

	service("", false);
	c = client();
	s = server(one);
	raw_say(&c, GET("/a"));
	answers(&s, &c);
	raw_close(&s);
	over(&c);
	c = client();
	assert_true(nobody_dialled(one));
	s = asks(&c, one);
	raw_close(&s);
	over(&c);
	/* one that says nothing: now the server is dialled, and may greet */
	c = client();
	s = server(one);
	raw_say(&s, "220 hello\r\n");
	HEARS(&c, "220 hello\r\n");
	raw_close(&s);
	over(&c);
}

/* First bytes in pieces, other bytes, an end at once. */
static void test_first_bytes(void **state)
{
	static const char request[] = GET("/a");
	struct raw c, s;

	service("", false);
	c = client();
	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		char byte[2] = {request[i]};

		raw_say(&c, byte);
		turn(MS / 2);
	}
	s = server(one);
	HEARS(&s, "GET /a ");
	raw_close(&s);
	HEARS(&c, "HTTP/1.1 502 ");
	over(&c);
	c = client();
	raw_say(&c, "\x01\x02 not http\r\n");
	s = server(one);
	HEARS(&s, "\x01\x02 not http\r\n");
	raw_say(&s, "fine");
	HEARS(&c, "fine");
	raw_close(&s);
	over(&c);
	c = client();
	assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
	s = server(one);
	UNTIL(raw_over(&s));
	assert_true(s.ended);
	raw_close(&s);
	over(&c);
}

/* A few bytes that may begin anything, behind which nothing comes (ZooKeeper's "ruok"): the server hears them. */
static void test_untold(void **state)
{
	struct raw c, s;

	service("", false);
	for (int known = 0; known < 2; known++) {
		c = client();
		raw_say(&c, known ? "PRI * HTTP/2.0\r\n" : "ruok");
		if (known)
			assert_true(nobody_dialled(one));
		s = server(one);
		HEARS(&s, known ? "PRI * HTTP/2.0\r\n" : "ruok");
		raw_say(&s, "imok");
		HEARS(&c, "imok");
		raw_close(&s);
		over(&c);
		c = client();
		s = asks(&c, one); /* from now on it is known to speak HTTP */
		raw_close(&s);
		over(&c);
	}
}

/* Nobody listens at one of two: the other one is dialled; at none: the client sees a reset. */
static void test_another(void **state)
{
	struct raw c, s;

	service("", true);
	close(one);
	c = client();
	s = server(two);
	raw_say(&s, "220 two\r\n");
	HEARS(&c, "220 two\r\n");
	raw_close(&s);
	over(&c);
	close(two);
	two = -1;
	c = client();
	UNTIL(raw_over(&c));
	assert_true(c.reset);
	assert_int_equal(site.reasons[ABI_UNREACHABLE], 1);
	over(&c);
	site_socket_error = -EMFILE;
	c = client();
	UNTIL(raw_over(&c));
	assert_true(c.reset);
	over(&c);
	one = site_listen("10.3.0.1", PORT);
}

/* ------------------------------------------------------------------ routes of bytes */

static void test_tcp_route(void **state)
{
	struct raw c, s;

	service("tcp", false);
	site_yaml("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: v2}\n"
		  "spec: {clusterIPs: [None], ports: [{name: p, port: 80, targetPort: 8080}]}\n"
		  "---\n"
		  "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
		  "metadata: {namespace: shop, name: v2-1, labels: {kubernetes.io/service-name: v2}}\n"
		  "addressType: IPv4\nendpoints: [{addresses: [10.3.0.2]}]\nports: [{name: p, port: 8080}]\n");
	route("TCPRoute", "v2");
	c = client();
	s = server(two);
	raw_say(&c, GET("/a"));
	HEARS(&s, GET("/a"));
	raw_close(&s);
	over(&c);
	route("TCPRoute", "nobody");
	c = client();
	UNTIL(raw_over(&c));
	assert_int_equal(site.reasons[ABI_BAD_BACKEND], 1);
	over(&c);
	assert_true(nobody_dialled(one));
}

/* ------------------------------------------------------------------ rest */

static struct rest *resting(void)
{
	return container_of(site.rests.next, struct rest, link);
}

/* A client that was answered once and says nothing any more. */
static struct raw rests(struct raw *s)
{
	struct raw c;

	service("http", false);
	c = client();
	*s = asks(&c, one);
	UNTIL(site.rest_count == 1);
	rest();
	return c;
}

/* What stays of it says the same; what it says next is heard as ever, however it comes. */
static void test_rests_and_wakes(void **state)
{
	static const char *const said[][2] = {{GET("/a"), ""}, {"GE", "T /a HTTP/1.1\r\nHost: web.shop\r\n\r\n"}};
	struct relay_row row;
	struct raw c, s;
	uint64_t opened = 0;

	c = rests(&s);
	for (unsigned i = 0; i < array_size(said); i++) {
		assert_true(list_empty(&site.serves));
		assert_int_equal(site.relay_count, 1);
		rest_row(resting(), &row);
		opened = i ? opened : row.opened_ns;
		assert_true(row.kind == RELAY_HTTP && row.open && row.opened_ns && row.opened_ns == opened);
		assert_int_equal(row.netns, 1001);
		assert_int_equal(row.client_port, 4711);
		assert_int_equal(row.tuple.src_port, 4711);
		assert_int_equal(row.server_port, 80);
		assert_int_equal(row.requests, i + 1);
		assert_int_equal(row.received, 2 * (i + 1));
		assert_string_equal(row.waits, "nothing");
		raw_forget(&c);
		raw_forget(&s);
		raw_say(&c, said[i][0]);
		UNTIL(!site.rest_count);
		raw_say(&c, said[i][1]);
		answers(&s, &c);
		rest();
		serve_row(first(), &row);
		assert_int_equal(row.requests, i + 2);
		assert_int_equal(row.received, 2 * (i + 2));
		assert_true(row.opened_ns == opened && row.service == first()->caller.service && row.service);
		UNTIL(site.rest_count == 1);
	}
	raw_close(&s);
	over(&c);
	assert_int_equal(site.rest_count, 0);
	assert_int_equal(site.requests, 3);
}

/* Its end, from whichever side it comes, and time. */
static void test_ends_at_rest(void **state)
{
	uint64_t gone = site.reasons[ABI_POD_GONE], was_reset = site.reasons[ABI_RESET];
	struct raw c, s;

	c = rests(&s); /* its FIN */
	assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
	UNTIL(raw_over(&c));
	assert_true(c.ended);
	over(&c);
	raw_close(&s);
	assert_int_equal(site.reasons[ABI_RESET], was_reset);
	c = rests(&s); /* its reset */
	raw_reset(&c);
	UNTIL(!site.relay_count);
	raw_close(&s);
	assert_int_equal(site.reasons[ABI_RESET], was_reset + 1);
	c = rests(&s); /* its pod goes, not another's */
	serves_end(&site, 4711, ABI_POD_GONE, NULL);
	rest();
	assert_int_equal(site.rest_count, 1);
	serves_end(&site, 1001, ABI_POD_GONE, NULL);
	assert_int_equal(site.rest_count, 0);
	assert_int_equal(site.reasons[ABI_POD_GONE], gone + 1);
	UNTIL(raw_over(&c));
	assert_true(c.reset);
	raw_close(&s);
	over(&c);
	c = rests(&s); /* too long */
	site.rests_over.due(&site.rests_over);
	rest();
	assert_int_equal(site.rest_count, 1);
	resting()->until_ns = 1;
	site.rests_over.due(&site.rests_over);
	UNTIL(raw_over(&c));
	assert_true(c.ended);
	assert_int_equal(site.rest_count, 0);
	raw_close(&s);
	over(&c);
}

/* As one that does not rest: it ends, but a request that crosses it is answered. */
static void test_drain_at_rest(void **state)
{
	struct raw c, s;

	for (int asks_once_more = 0; asks_once_more < 2; asks_once_more++) {
		c = rests(&s);
		raw_forget(&c);
		raw_forget(&s);
		serves_drain(&site);
		assert_int_equal(site.rest_count, 0);
		if (asks_once_more) {
			raw_say(&c, GET("/a"));
			answers(&s, &c);
			assert_true(strcasestr(c.text, "connection: close") != NULL);
		}
		UNTIL(raw_over(&c));
		assert_true(c.ended);
		raw_close(&s);
		over(&c);
	}
}

/* Before its first byte, with a part of a head, with a request under way. */
static void test_does_not_rest(void **state)
{
	uint64_t until = clock_ns() + 2500 * MS;
	struct raw c[3], s;

	service("http", false);
	c[0] = client(); /* says nothing */
	c[1] = client();
	raw_say(&c[1], "GET /half HTTP/1.1\r\n");
	c[2] = client();
	raw_say(&c[2], GET("/a"));
	s = server(one);
	HEARS(&s, "GET /a ");
	while (clock_ns() < until)
		turn(MS);
	assert_int_equal(site.rest_count, 0);
	assert_int_equal(site.relay_count, 3);
	answers(&s, &c[2]);
	UNTIL(site.rest_count == 1);
	raw_say(&c[1], "Host: web.shop\r\n\r\n");
	HEARS(&s, "GET /half ");
	raw_say(&s, OK("4") "half");
	HEARS(&c[1], "\r\n\r\nhalf");
	raw_close(&s);
	for (unsigned i = 0; i < 3; i++)
		raw_close(&c[i]);
	UNTIL(!site.relay_count);
	rest();
}

/* ------------------------------------------------------------------ all of them */

static void test_ends(void **state)
{
	for (int http = 0; http < 2; http++) {
		uint64_t before = site.reasons[ABI_POD_GONE];
		struct raw c, s = {.fd = -1};

		service("http", false);
		c = client();
		if (http)
			s = asks(&c, one);
		serves_end(&site, 4711, ABI_POD_GONE, NULL); /* another pod's */
		rest();
		assert_int_equal(site.relay_count, 1);
		serves_end(&site, 1001, ABI_POD_GONE, NULL);
		assert_int_equal(site.reasons[ABI_POD_GONE], before + 1);
		UNTIL(raw_over(&c));
		if (http)
			raw_close(&s);
		over(&c);
	}
}

/* A request under way is answered; who says nothing is let go. */
static void test_drain(void **state)
{
	struct raw c, s, quiet;

	service("http", false);
	quiet = client();
	c = client();
	raw_say(&c, GET("/a"));
	s = server(one);
	HEARS(&s, "GET /a ");
	serves_drain(&site);
	UNTIL(raw_over(&quiet));
	raw_say(&s, OK("2") "ok");
	HEARS(&c, "\r\n\r\nok");
	assert_true(strcasestr(c.text, "connection: close") != NULL);
	UNTIL(raw_over(&c));
	raw_close(&s);
	raw_close(&quiet);
	over(&c);
}

/* The Service goes while the client has said nothing. */
static void test_service_goes(void **state)
{
	struct raw c;

	service("http", false);
	c = client();
	rest();
	store_del(scene.store, KIND_SERVICE, "shop", "web");
	site_take_in();
	raw_say(&c, GET("/a"));
	UNTIL(raw_over(&c));
	assert_int_equal(site.reasons[ABI_NO_SERVICE_PORT], 1);
	over(&c);
}

static int each_setup(void **state)
{
	int r = site_begin(exchange_answered);

	stalls_start(&site);
	one = site_listen("10.3.0.1", PORT);
	two = site_listen("10.3.0.2", PORT);
	return r;
}

static void clear(void)
{
	serves_over();
	close(one);
	if (two >= 0)
		close(two);
}

static int each_teardown(void **state)
{
	return site_end(clear);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_declared),
		SITE_TEST(test_backend),
		SITE_TEST(test_declared_http2),
		SITE_TEST(test_declared_and_not),
		SITE_TEST(test_greeting),
		SITE_TEST(test_detected),
		SITE_TEST(test_first_bytes),
		SITE_TEST(test_untold),
		SITE_TEST(test_another),
		SITE_TEST(test_tcp_route),
		SITE_TEST(test_rests_and_wakes),
		SITE_TEST(test_ends_at_rest),
		SITE_TEST(test_drain_at_rest),
		SITE_TEST(test_does_not_rest),
		SITE_TEST(test_ends),
		SITE_TEST(test_drain),
		SITE_TEST(test_service_goes),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
