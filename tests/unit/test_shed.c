// SPDX-License-Identifier: Apache-2.0
/* Bytes that nobody takes have a bound over all connections: who holds most is cut, others go on. */
#include "serves.h"

#define PLAIN 8880
#define MOST 24 /* chunks */
#define STREAMS 16

static int backend; /* listens */
static const struct view_pod *gate;

static void objects(void)
{
	site_yaml("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80, targetPort: 8080,\n"
		  "  appProtocol: kubernetes.io/h2c}]}\n"
		  "---\n"
		  "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
		  "metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}\n"
		  "addressType: IPv4\nendpoints: [{addresses: [10.3.0.1]}]\nports: [{name: http, port: 8080}]\n"
		  "---\n"
		  "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {namespace: shop, name: edge}\n"
		  "spec: {gatewayClassName: weft, listeners: [{name: http, port: %d, protocol: HTTP}]}\n"
		  "---\n"
		  "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}\n",
		  PLAIN);
}

static void find_gate(void)
{
	list_each(l, &scene.world->gateways)
		gate = view_pod(view, container_of(l, struct world_gateway, link)->netns);
	assert_non_null(gate);
}

/* A client of HTTP/2 at the Gateway, which keeps little itself. */
static void client(struct far *f, const char *from)
{
	static const struct http_limits limits = {.stream_window = 1024};
	const struct abi_tuple t = {
		.src = scene_addr(from), .src_port = 4711, .dst = scene_addr("10.9.0.1"), .dst_port = PLAIN};
	int fd[2];

	pair(fd);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fcntl(fd[i], F_SETFL, O_NONBLOCK), 0);
		sock_prepare(fd[i]);
	}
	serve_edge(&site, gate, gateway_port(gate->gateway, PLAIN), &t, fd[0]);
	*f = (struct far){.talk = calloc(FAR_TALKS, sizeof(struct talk))};
	f->c = http2_client(thread, sock_stream(thread, fd[1]), &limits, &far_events, f);
}

/* As much of an answer as weft takes. */
static void answer(struct talk *t)
{
	static const uint8_t zero[65536];
	struct stream_bytes run = {.data = (uint8_t *)zero, .len = sizeof(zero)};
	struct http_head h = {.version = HTTP_2, .status = 200, .body = HTTP_STREAM};

	if (!t->x)
		return;
	if (!t->status)
		http_answer(t->x, &h);
	t->status = 200;
	if (stream_room(&t->x->s))
		(void)stream_write(&t->x->s, &run, 1);
}

static void test_who_holds_most(void **state)
{
	static const char *const from[] = {"10.8.0.3", "10.8.0.2"}; /* another place, and the same one */
	struct far greedy, other[2], s;
	struct talk *small[2];

	for (unsigned i = 0; i < 2; i++) {
		client(&other[i], from[i]);
		small[i] = far_ask(&other[i], HTTP_GET, "GET", "/small", NULL, NULL);
		if (!i)
			far_begin(&s, site_accept(backend), true, true);
		UNTIL(s.talks == i + 1);
	}
	client(&greedy, "10.8.0.2");
	for (unsigned i = 0; i < STREAMS; i++)
		far_ask(&greedy, HTTP_GET, "GET", "/large", NULL, NULL)->sleeping = true;
	UNTIL(s.talks == 2 + STREAMS);
	for (unsigned i = 2; i < s.talks && !greedy.closed; i++) {
		for (unsigned k = 0; k < 40 && !greedy.closed; k++) {
			answer(&s.talk[i]);
			turn(0);
			assert_true(thread->pool.lent <= MOST + 16); /* what comes in one turn */
			UNTIL(thread->pool.lent < MOST || greedy.closed);
		}
	}
	UNTIL(greedy.closed && thread->pool.lent < MOST && thread->pool.tell == MOST);
	assert_true(site.reasons[ABI_OVERLOADED]);
	for (unsigned i = 0; i < 2; i++) {
		assert_false(other[i].closed || small[i]->failed);
		talk_answer(&s.talk[i], 200, "ok");
		UNTIL(small[i]->ended);
		assert_string_equal(small[i]->body, "ok");
	}
	far_end(&greedy);
	far_end(&other[0]);
	far_end(&other[1]);
	UNTIL(!site.relay_count);
	far_end(&s);
}

/* A connection whose requests a policy judges, between a client and its app. */
static void guarded(struct far *c, struct far *app, uint32_t place)
{
	static const struct http_limits limits = {.stream_window = 1024};
	const struct guard_plan plan = {.kind = RELAY_PLAIN,
					.netns = 1002,
					.to = 1002,
					.place = place,
					.client = scene_addr("10.3.0.9"),
					.server = scene_addr("10.1.0.2"),
					.client_port = 4711,
					.server_port = 80};
	int client[2], server[2];

	pair(client);
	pair(server);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fcntl(client[i], F_SETFL, O_NONBLOCK), 0);
		assert_int_equal(fcntl(server[i], F_SETFL, O_NONBLOCK), 0);
	}
	shares_hold(thread, place); /* as its relay has */
	guard_begin(&site, sock_stream(thread, client[0]), sock_stream(thread, server[0]), &plan);
	*c = (struct far){.talk = calloc(FAR_TALKS, sizeof(struct talk))};
	c->c = http2_client(thread, sock_stream(thread, client[1]), &limits, &far_events, c);
	far_begin(app, server[1], true, true);
}

static void test_guards(void **state)
{
	struct far greedy, other, app[2];
	struct talk *small;

	site_policy("ALLOW", "{to: [{operation: {paths: ['/*']}}]}");
	guarded(&other, &app[0], 1);
	small = far_ask(&other, HTTP_GET, "GET", "/small", NULL, NULL);
	guarded(&greedy, &app[1], 2);
	for (unsigned i = 0; i < STREAMS; i++)
		far_ask(&greedy, HTTP_GET, "GET", "/large", NULL, NULL)->sleeping = true;
	UNTIL(app[0].talks == 1 && app[1].talks == STREAMS);
	for (unsigned i = 0; i < STREAMS && !greedy.closed; i++) {
		for (unsigned k = 0; k < 40 && !greedy.closed; k++) {
			answer(&app[1].talk[i]);
			turn(0);
			UNTIL(thread->pool.lent < MOST || greedy.closed);
		}
	}
	UNTIL(greedy.closed && thread->pool.lent < MOST);
	talk_answer(&app[0].talk[0], 200, "ok");
	UNTIL(small->ended);
	assert_string_equal(small->body, "ok");
	far_end(&greedy);
	far_end(&other);
	UNTIL(!site.relay_count);
	far_end(&app[0]);
	far_end(&app[1]);
}

/* ------------------------------------------------------------------ bytes that are no HTTP */

/* A relay of that place: far[0] is its client, who takes little by himself, far[1] its server. */
static struct relay *bytes(struct raw far[2], uint32_t place)
{
	int client[2], server[2], little = 4096;
	struct relay *r;

	pair(client);
	pair(server);
	for (int i = 0; i < 2; i++) {
		int what = i ? SO_RCVBUF : SO_SNDBUF;

		assert_int_equal(setsockopt(client[i], SOL_SOCKET, what, &little, sizeof(little)), 0);
		assert_int_equal(fcntl(client[i], F_SETFL, O_NONBLOCK), 0);
		assert_int_equal(fcntl(server[i], F_SETFL, O_NONBLOCK), 0);
	}
	r = relay_new(&site, RELAY_PASS, sock_stream(thread, client[0]));
	relay_hold(r, place);
	relay_join(r, sock_stream(thread, server[0]));
	far[0] = raw_of(client[1]);
	far[1] = raw_of(server[1]);
	return r;
}

/* Writes what its peer takes; nobody reads it. */
static void pour(struct raw *r)
{
	static const char zero[65536];

	while (send(r->fd, zero, sizeof(zero), MSG_NOSIGNAL) > 0)
		turn(0);
}

static void test_bytes(void **state)
{
	struct raw greedy[2 * MOST][2], other[2];
	unsigned all = 0, cut = 0;

	bytes(other, 1);
	for (; all < 2 * MOST && !site.reasons[ABI_OVERLOADED]; all++) {
		bytes(greedy[all], 2);
		pour(&greedy[all][1]);
		UNTIL(thread->pool.lent < MOST);
	}
	assert_true(site.reasons[ABI_OVERLOADED]);
	for (unsigned i = 0; i < all; i++) {
		cut += raw_over(&greedy[i][1]);
		raw_close(&greedy[i][0]);
		raw_close(&greedy[i][1]);
	}
	assert_true(cut > 0);
	raw_say(&other[1], "ok");
	HEARS(&other[0], "ok");
	raw_close(&other[0]);
	raw_close(&other[1]);
	UNTIL(!site.relay_count);
}

/* ------------------------------------------------------------------ HTTP/1 */

/* Its codec keeps nothing; its socket does. */
static void test_http1(void **state)
{
	struct raw c[2 * MOST], e[2 * MOST];
	unsigned all = 0;

	site_yaml("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80, targetPort: 8080}]}\n");
	find_gate();
	for (; all < 2 * MOST && !site.reasons[ABI_OVERLOADED]; all++) {
		const struct abi_tuple t = {.src = scene_addr("10.8.0.2"),
					    .src_port = 4711,
					    .dst = scene_addr("10.9.0.1"),
					    .dst_port = PLAIN};
		int fd[2], little = 4096;

		pair(fd);
		assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
		assert_int_equal(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &little, sizeof(little)), 0);
		serve_edge(&site, gate, gateway_port(gate->gateway, PLAIN), &t, fd[0]);
		c[all] = raw_of(fd[1]);
		raw_say(&c[all], "GET / HTTP/1.1\r\nHost: web\r\n\r\n");
		e[all] = raw_of(site_accept(backend));
		UNTIL(raw_heard(&e[all], "GET / ") || raw_over(&e[all]));
		raw_say(&e[all], "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
		pour(&e[all]);
		UNTIL(thread->pool.lent < MOST);
	}
	assert_true(site.reasons[ABI_OVERLOADED]);
	for (unsigned i = 0; i < all; i++) {
		raw_close(&c[i]);
		raw_close(&e[i]);
	}
	UNTIL(!site.relay_count);
}

static int each_setup(void **state)
{
	int r = site_begin(exchange_answered);

	stalls_start(&site);
	shed_start(&site, 1);
	site.say_shed_ns = UINT64_MAX;
	thread->pool.most = thread->pool.tell = MOST;
	objects();
	find_gate();
	backend = site_listen("10.3.0.1", 8080);
	return r;
}

static void clear(void)
{
	shed_end(&site);
	guards_end(&site, 0, ABI_RESET, "the test is over");
	serves_over();
	close(backend);
}

static int each_teardown(void **state)
{
	return site_end(clear);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_who_holds_most),
		SITE_TEST(test_guards),
		SITE_TEST(test_bytes),
		SITE_TEST(test_http1),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
