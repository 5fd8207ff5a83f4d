// SPDX-License-Identifier: Apache-2.0
/* A server was dialled to hear whether it greets, and its policy changes before anybody has spoken. */
#include "serves.h"

#define PORT 8080
#define GET "GET /a HTTP/1.1\r\nHost: web.shop\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define NO_HTTP "\x01\x02 not http\r\n"

static int listening; /* the app's of shop/app */
static struct raw client, app;

static void capture(void)
{
	struct abi_addr vip = scene_addr("10.96.0.1");
	struct abi_conn c = {.service = world_front(scene.world, &vip, 80)->number,
			     .asked = vip,
			     .asked_port = 80,
			     .target = scene_addr("10.1.0.2"),
			     .target_port = PORT};
	struct abi_tuple t = {.src = scene_addr("10.1.0.1"), .src_port = 4711};
	int fd[2];

	pair(fd);
	sock_prepare(fd[0]);
	assert_int_equal(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	serve_begin(&site, view_pod(view, 1001), view_service(view, c.service), &c, &t, fd[0]);
	client = raw_of(fd[1]);
	app = raw_of(site_accept(listening));
	UNTIL(container_of(site.serves.next, struct serve, link)->server);
}

static void over(void)
{
	raw_close(&client);
	raw_close(&app);
	UNTIL(!site.relay_count);
	rest();
}

/* As the world's changes reach a thread: view_work() of proxy.c. */
static void policy(const char *action, const char *rules)
{
	site_policy(action, rules);
	http_pool_view_changed(site.pool);
}

static void test_allowed(void **state)
{
	capture();
	policy("DENY", "{to: [{operation: {ports: ['9']}}]}"); /* another one, which says nothing of this port */
	raw_say(&client, NO_HTTP);
	HEARS(&app, "not http");
	over();
	policy("DENY", "");
	capture();
	policy("DENY", "{to: [{operation: {ports: ['9']}}]}");
	raw_say(&client, GET);
	HEARS(&app, "GET /a ");
	raw_say(&app, OK);
	HEARS(&client, "\r\n\r\nok");
	over();
}

static void test_bytes_denied(void **state)
{
	uint64_t before = site.reasons[ABI_POLICY_CHANGED];

	capture();
	policy("DENY", "{to: [{operation: {ports: ['8080']}}]}");
	raw_say(&client, NO_HTTP);
	UNTIL(raw_over(&client) && raw_over(&app));
	assert_int_equal(app.len, 0);
	assert_int_equal(site.reasons[ABI_POLICY_CHANGED], before + 1);
	over();
}

static void test_request_denied(void **state)
{
	capture();
	policy("DENY", "{to: [{operation: {ports: ['8080']}}]}");
	raw_say(&client, GET);
	HEARS(&client, "HTTP/1.1 403 ");
	UNTIL(raw_over(&app));
	assert_int_equal(app.len, 0);
	over();
}

/* What was allowed as bytes asks for HTTP now. */
static void test_bytes_ask_for_http(void **state)
{
	capture();
	policy("ALLOW", "{to: [{operation: {paths: [/a]}}]}");
	raw_say(&client, NO_HTTP);
	UNTIL(raw_over(&client) && raw_over(&app));
	assert_int_equal(app.len, 0);
	over();
	policy("ALLOW", "");
	capture();
	policy("ALLOW", "{to: [{operation: {paths: [/b]}}]}");
	raw_say(&client, GET);
	HEARS(&client, "HTTP/1.1 403 ");
	assert_int_equal(app.len, 0);
	over();
}

/* The server is being dialled: a policy that asks for HTTP refuses nobody, each request is asked once it stands. */
static void test_while_it_is_dialled(void **state)
{
	const struct dial_plan plan = {.kind = DIAL_APP,
				       .client = scene_addr("10.1.0.1"),
				       .client_port = 4711,
				       .server = scene_addr("10.1.0.2"),
				       .server_port = PORT};
	const struct abi_tuple t = {.src = plan.client, .src_port = 4711};
	uint64_t before = site.reasons[ABI_POLICY_CHANGED];
	struct relay *r;
	int fd[2];

	pair(fd);
	r = relay_captured(&site, 1001, &t, sock_stream(thread, fd[0]), &plan);
	r->to = 1002;
	for (unsigned i = 0; i < 3; i++) {
		policy("ALLOW", i % 2 ? "{to: [{operation: {paths: [/b]}}]}" : "{to: [{operation: {paths: [/a]}}]}");
		relay_judge(r);
		assert_true(r->state == RELAY_DIALS && r->guarded);
	}
	policy("ALLOW", "{to: [{operation: {ports: ['8080']}}]}");
	relay_judge(r);
	assert_true(r->state == RELAY_DIALS && !r->guarded); /* nothing is to be asked any more */
	policy("DENY", "{to: [{operation: {ports: ['8080']}}]}");
	relay_judge(r);
	assert_int_equal(site.reasons[ABI_POLICY_CHANGED], before + 1);
	close(fd[1]);
	UNTIL(!site.relay_count);
	rest();
}

/* The client's pod is another one now, for whom that policy is not. */
static void other_account(const char *account)
{
	scene_enrol(scene.world, 1, "shop/client", account, "10.1.0.1", "");
	site_take_in();
	list_each_safe(l, next, &site.relays)
		relay_judge(container_of(l, struct relay, link));
}

static void test_another_identity(void **state)
{
	policy("ALLOW", "{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]}");
	capture();
	raw_say(&client, NO_HTTP);
	HEARS(&app, "not http");
	other_account("client");
	rest();
	assert_false(raw_over(&client) || raw_over(&app));
	other_account("other");
	UNTIL(raw_over(&client) && raw_over(&app));
	over();
	other_account("client");
	capture();
	other_account("other"); /* it stands, and nobody has spoken yet */
	raw_say(&client, NO_HTTP);
	UNTIL(raw_over(&client) && raw_over(&app));
	assert_int_equal(app.len, 0);
	assert_int_equal(site.reasons[ABI_POLICY_CHANGED], 2);
	over();
}

static int each_setup(void **state)
{
	int r = site_begin(exchange_answered);

	stalls_start(&site);
	listening = site_listen("10.1.0.2", PORT);
	site_yaml("apiVersion: v1\nkind: Service\n"
		  "metadata: {namespace: shop, name: web, annotations: {weft.io/proxy: always}}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: p, port: 80, targetPort: 8080}]}\n"
		  "---\n"
		  "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
		  "metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}\n"
		  "addressType: IPv4\nendpoints: [{addresses: [10.1.0.2]}]\nports: [{name: p, port: 8080}]\n");
	return r;
}

static void clear(void)
{
	serves_over();
	close(listening);
}

static int each_teardown(void **state)
{
	return site_end(clear);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_allowed),
		SITE_TEST(test_bytes_denied),
		SITE_TEST(test_request_denied),
		SITE_TEST(test_while_it_is_dialled),
		SITE_TEST(test_bytes_ask_for_http),
		SITE_TEST(test_another_identity),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
