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

static int each_setup(void **state)
{
	int r = site_begin(exchange_answered);

	stalls_start(&site);
	shed_start(&site, 1);
	site.say_shed_ns = UINT64_MAX;
	site.waiting_most = thread->pool.tell = MOST;
	objects();
	list_each(l, &scene.world->gateways)
		gate = view_pod(view, container_of(l, struct world_gateway, link)->netns);
	assert_non_null(gate);
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
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
