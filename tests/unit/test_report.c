/* SPDX-License-Identifier: Apache-2.0 */
/* The answers of the admin socket from a small world over real maps (root): the members that docs/admin.md promises. */
#include <jansson.h>

#include "maps.h"
#include "scene.h"

#include "report.h"

struct stage {
	struct scene scene;
	struct report report;
};

static unsigned source_count;

static int source_nothing(struct source *s)
{
	return 0;
}

static const struct problem *source_one(const struct source *s, unsigned *ret_errors, unsigned *ret_warnings)
{
	static const struct problem p = {.file = "bad\xff.yaml",
					 .line = 3,
					 .object = "Service shop/x",
					 .field = "spec.ports",
					 .reason = "is missing"};

	*ret_errors = source_count;
	*ret_warnings = 0;
	return source_count ? &p : NULL;
}

static const struct source_ops ops = {
	.load = source_nothing, .ready = source_nothing, .problems = source_one};
static struct source source = {.name = "folder test", .fd = -1, .loaded = true, .ops = &ops};

static const char web[] = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
			  "spec: {clusterIPs: [10.96.0.1], selector: {app: web}, sessionAffinity: ClientIP,\n"
			  "  ports: [{name: http, port: 80, targetPort: 8080}]}\n";
static const char policy[] = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
			     "metadata: {name: allow-a, namespace: shop}\n"
			     "spec:\n  selector: {matchLabels: {app: web}}\n  rules:\n"
			     "  - from: [{source: {principals: [cluster.local/ns/shop/sa/a]}}]\n";
static const char strict[] = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
			     "metadata: {name: strict, namespace: shop}\n"
			     "spec: {selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, "
			     "portLevelMtls: {'8443': {mode: DISABLE}}}\n";

static int setup(void **state)
{
	struct stage *g = mem_alloc(sizeof(*g));
	unsigned n;
	int err;

	source_count = 0;
	g->scene = scene_new();
	g->report = (struct report){.world = g->scene.world, .source = &source, .ready = true};
	maps_open(g->report.fd, 64);
	g->report.publish = publish_new(g->scene.world, g->report.fd, &err);
	assert_non_null(g->report.publish);
	scene_enrol(g->scene.world, 1, "shop/a", "a", "10.0.0.1,fd00::1", "");
	scene_enrol(g->scene.world, 2, "shop/web1", "web", "10.0.0.2", "app=web");
	scene_enrol(g->scene.world, 3, "shop/web2", "web", "10.0.0.3", "app=web");
	scene_yaml(g->scene.store, web);
	scene_yaml(g->scene.store, policy);
	scene_yaml(g->scene.store, strict);
	world_update(g->scene.world);
	if (publish(g->report.publish))
		fail_msg("%s", publish_errors(g->report.publish, &n)[0]);
	*state = g;
	return 0;
}

static int teardown(void **state)
{
	struct stage *g = *state;

	publish_free(g->report.publish);
	scene_free(&g->scene);
	maps_close(g->report.fd);
	free(g);
	return 0;
}

/* `request` is taken. */
static json_t *asked(struct stage *g, const char *command, json_t *request)
{
	struct text t = {0};
	struct answer *a;
	json_t *ret;

	a = report_ask(&g->report, command, request);
	while (a->more(a, &t) > 0)
		;
	a->end(a);
	json_decref(request);
	ret = json_loadb(t.data, t.len, JSON_REJECT_DUPLICATES, NULL);
	if (!ret)
		fail_msg("not JSON: %s", t.data);
	text_free(&t);
	return ret;
}

static json_t *ask(struct stage *g, const char *command, const char *key, const char *value)
{
	json_t *request = json_object();

	if (key)
		json_object_set_new(request, key, json_string(value));
	return asked(g, command, request);
}

static const char *string_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (!s)
		fail_msg("no string \"%s\"", key);
	return s;
}

static json_int_t number_of(const json_t *o, const char *key)
{
	if (!json_is_integer(json_object_get(o, key)))
		fail_msg("no number \"%s\"", key);
	return json_integer_value(json_object_get(o, key));
}

static json_t *list_of(const json_t *o, const char *key, size_t size)
{
	json_t *list = json_object_get(o, key);

	if (!json_is_array(list) || json_array_size(list) != size)
		fail_msg("\"%s\" has %zu items, not %zu", key, json_array_size(list), size);
	return list;
}

/* ------------------------------------------------------------------ tests */

static void pods(void **state)
{
	static const struct {
		const char *command, *key;
	} no_names[] = {{"pods", "pod"},	 {"policy", "pod"},  {"connections", "pod"},
			{"services", "service"}, {"routes", "route"}, {"gateways", "gateway"}};
	json_t *a = ask(*state, "pods", NULL, NULL), *p = json_array_get(list_of(a, "pods", 3), 1);

	assert_string_equal(string_of(p, "pod"), "shop/web1");
	assert_string_equal(string_of(p, "identity"), "cluster.local/ns/shop/sa/web");
	assert_string_equal(string_of(p, "service_account"), "web");
	assert_string_equal(string_of(p, "mtls"), "STRICT");
	assert_string_equal(string_of(p, "splice"), "auto");
	assert_string_equal(json_string_value(json_array_get(list_of(p, "addresses", 1), 0)), "10.0.0.2");
	assert_string_equal(string_of(json_object_get(p, "labels"), "app"), "web");
	assert_int_equal(number_of(p, "number"), 2);
	assert_int_equal(number_of(p, "netns"), 1002);
	assert_int_equal(number_of(p, "policies"), 1);
	assert_true(json_is_true(json_object_get(p, "in_kernel")));
	json_decref(a);
	a = ask(*state, "pods", "pod", "shop/a");
	assert_string_equal(string_of(json_array_get(list_of(a, "pods", 1), 0), "pod"), "shop/a");
	json_decref(a);
	a = ask(*state, "pods", "pod", "shop/nobody");
	assert_non_null(strstr(string_of(a, "error"), "no pod shop/nobody"));
	json_decref(a);
	for (size_t i = 0; i < array_size(no_names); i++) {
		a = asked(*state, no_names[i].command, json_pack("{s:o}", no_names[i].key, json_integer(7)));
		assert_non_null(strstr(string_of(a, "error"), "must be a text"));
		json_decref(a);
	}
}

static void services(void **state)
{
	json_t *a = ask(*state, "services", NULL, NULL), *s = json_array_get(list_of(a, "services", 1), 0),
	       *e;
	double share = 0;
	size_t i;

	assert_string_equal(string_of(s, "service"), "shop/web");
	assert_string_equal(string_of(s, "vip"), "10.96.0.1");
	assert_int_equal(number_of(s, "port"), 80);
	assert_int_equal(number_of(s, "affinity_seconds"), 10800);
	assert_int_equal(number_of(s, "endpoint_count"), 2);
	json_array_foreach(list_of(s, "endpoints", 2), i, e)
	{
		share += json_number_value(json_object_get(e, "share"));
		assert_true(text_starts(string_of(e, "pod"), "shop/web"));
		assert_true(text_ends(string_of(e, "address"), ":8080"));
		assert_int_equal(number_of(e, "weight"), 1);
	}
	assert_true(share > 0.999999 && share < 1.000001);
	json_decref(a);
	a = ask(*state, "services", "service", "shop/web");
	list_of(a, "services", 1);
	json_decref(a);
	a = ask(*state, "services", "service", "shop/other");
	list_of(a, "services", 0);
	json_decref(a);
}

static void routes(void **state)
{
	struct stage *g = *state;
	json_t *a, *r, *p;

	a = ask(g, "routes", NULL, NULL);
	list_of(a, "routes", 0);
	json_decref(a);
	scene_yaml(g->scene.store, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
				   "metadata: {namespace: shop, name: canary}\n"
				   "spec: {parentRefs: [{group: '', kind: Service, name: web, port: 80}, "
				   "{group: '', kind: Service, name: gone}], rules: [{backendRefs: "
				   "[{name: web, port: 80}, {name: web, port: 80, weight: 3}]}]}\n");
	world_update(g->scene.world);
	assert_int_equal(publish(g->report.publish), 0);
	a = ask(g, "routes", NULL, NULL);
	r = json_array_get(list_of(a, "routes", 1), 0);
	assert_string_equal(string_of(r, "kind"), "HTTPRoute");
	assert_string_equal(string_of(r, "route"), "shop/canary");
	assert_int_equal(number_of(r, "rules"), 1);
	assert_int_equal(number_of(r, "backends"), 2);
	p = json_array_get(list_of(r, "parents", 2), 0);
	assert_string_equal(string_of(p, "parent"), "shop/web");
	assert_int_equal(number_of(p, "port"), 80);
	assert_true(json_is_true(json_object_get(p, "accepted")));
	assert_true(json_is_true(json_object_get(p, "resolved")));
	assert_string_equal(string_of(json_array_get(list_of(p, "ports", 1), 0), "protocol"), "http");
	p = json_array_get(list_of(r, "parents", 2), 1);
	assert_true(json_is_false(json_object_get(p, "accepted")));
	assert_string_equal(string_of(p, "accepted_reason"), "NoMatchingParent");
	list_of(p, "ports", 0);
	json_decref(a);
	a = ask(g, "routes", "route", "shop/canary");
	list_of(a, "routes", 1);
	json_decref(a);
	a = ask(g, "routes", "route", "shop/other");
	list_of(a, "routes", 0);
	json_decref(a);
}

static void policies(void **state)
{
	json_t *a = ask(*state, "policy", "pod", "shop/web1"), *p = json_array_get(list_of(a, "pods", 1), 0),
	       *one;
	struct stage *g = *state;

	assert_string_equal(string_of(p, "mtls"), "STRICT");
	assert_string_equal(string_of(p, "mtls_from"), "shop/strict");
	one = json_array_get(list_of(p, "mtls_ports", 1), 0);
	assert_int_equal(number_of(one, "port"), 8443);
	assert_string_equal(string_of(one, "mtls"), "DISABLE");
	one = json_array_get(list_of(p, "policies", 1), 0);
	assert_string_equal(string_of(one, "policy"), "shop/allow-a");
	assert_string_equal(string_of(one, "action"), "ALLOW");
	assert_string_equal(string_of(one, "scope"), "workload");
	assert_int_equal(number_of(one, "rules"), 1);
	assert_true(text_starts(string_of(one, "place"), "test.yaml:"));
	assert_true(json_is_false(json_object_get(p, "mtls_stand_in")));
	json_decref(a);
	store_get(g->scene.store, KIND_PEER_AUTHENTICATION, "shop", "strict")->peer.stand_in = true;
	a = ask(*state, "policy", "pod", "shop/web1");
	assert_true(json_is_true(json_object_get(json_array_get(list_of(a, "pods", 1), 0), "mtls_stand_in")));
	json_decref(a);
}

/* The shape that design.md section 11 promises to scripts. */
static void connections(void **state)
{
	struct stage *g = *state;
	struct abi_tuple t = {.src = scene_addr("10.0.0.1"),
			      .dst = scene_addr("10.0.0.2"),
			      .src_port = 4000,
			      .dst_port = 8080};
	struct abi_conn c = {.client_pod = 1,
			     .server_pod = 2,
			     .path = ABI_PATH_SPLICE,
			     .reason = ABI_SPLICED,
			     .opened_ns = clock_ns() - 5000000000ull,
			     .service = world_front_numbered(g->scene.world, 1) ? 1 : 0,
			     .asked = scene_addr("10.96.0.1"),
			     .asked_port = 80,
			     .end = {{.spliced_bytes = 10}, {.spliced_bytes = 20}}};
	json_t *a, *k;

	assert_int_equal(kernel_update(g->report.fd[WIRE_FD_CONNS], &t, &c), 0);
	t.src = scene_addr("192.0.2.7");
	c = (struct abi_conn){
		.server_pod = 2, .path = ABI_PATH_DIRECT, .reason = ABI_OUTSIDE, .opened_ns = clock_ns()};
	assert_int_equal(kernel_update(g->report.fd[WIRE_FD_CONNS], &t, &c), 0);
	t.src = scene_addr("10.1.0.9");
	assert_int_equal(kernel_update(g->report.fd[WIRE_FD_CONNS], &t, &c), 0);
	scene_yaml(g->scene.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: far, namespace: shop}\n"
				   "spec: {nodeName: node2}\nstatus: {podIP: 10.1.0.9}\n");
	world_update(g->scene.world);

	a = ask(g, "connections", NULL, NULL);
	k = json_array_get(list_of(a, "connections", 3), 0); /* the oldest */
	assert_string_equal(string_of(json_object_get(k, "source"), "pod"), "shop/a");
	assert_string_equal(string_of(json_object_get(k, "source"), "address"), "10.0.0.1");
	assert_int_equal(number_of(json_object_get(k, "source"), "port"), 4000);
	assert_string_equal(string_of(json_object_get(k, "destination"), "pod"), "shop/web1");
	assert_int_equal(number_of(json_object_get(k, "destination"), "port"), 8080);
	assert_string_equal(string_of(k, "service"), "shop/web");
	assert_string_equal(string_of(k, "asked_address"), "10.96.0.1");
	assert_string_equal(string_of(k, "path"), "splice");
	assert_string_equal(string_of(k, "reason"), "spliced");
	assert_int_equal(number_of(k, "bytes_sent"), 10);
	assert_int_equal(number_of(k, "bytes_received"), 20);
	assert_true(number_of(k, "age_ms") >= 5000 && number_of(k, "age_ms") < 60000);
	for (unsigned i = 1; i < 3; i++) {
		const json_t *from =
			json_object_get(json_array_get(json_object_get(a, "connections"), i), "source");
		bool far = text_equal(string_of(from, "address"), "10.1.0.9");

		assert_string_equal(string_of(from, "pod"), far ? "shop/far" : "");
	}
	json_decref(a);
	a = ask(g, "connections", "pod", "shop/a");
	list_of(a, "connections", 1);
	json_decref(a);
	a = ask(g, "connections", "pod", "shop/far");
	assert_non_null(strstr(string_of(a, "error"), "not enrolled"));
	json_decref(a);
}

static void traffic(void **state)
{
	struct stage *g = *state;
	struct abi_traffic_key key = {.source = 1, .pod = 2};
	struct abi_refusal_key refusal = {.source = 1, .pod = 2, .reason = ABI_DENIED};
	unsigned cpus = kernel_cpus();
	struct abi_traffic *t = mem_alloc(cpus * sizeof(*t));
	uint64_t *n = mem_alloc(cpus * sizeof(*n)), sum = 0;
	json_t *a, *row;

	for (unsigned i = 0; i < cpus; i++) {
		t[i] = (struct abi_traffic){
			.opened = 1, .closed = 2, .sent_bytes = 100 * i, .connect_ns = 7000, .srtt_us = 30};
		n[i] = i + 1;
		sum += i + 1;
	}
	assert_int_equal(kernel_update(g->report.fd[WIRE_FD_TRAFFIC], &key, t), 0);
	assert_int_equal(kernel_update(g->report.fd[WIRE_FD_REFUSALS], &refusal, n), 0);
	a = ask(g, "traffic", NULL, NULL);
	row = json_array_get(list_of(a, "traffic", 1), 0);
	assert_string_equal(string_of(row, "pod"), "shop/web1");
	assert_string_equal(string_of(row, "source"),
			    identity_by_number(&g->scene.world->identities, 1)->principal);
	assert_int_equal(number_of(row, "opened"), cpus);
	assert_int_equal(number_of(row, "closed"), 2 * cpus);
	assert_int_equal(number_of(row, "sent_bytes"), 100 * cpus * (cpus - 1) / 2);
	assert_int_equal(number_of(row, "connect_us"), 7);
	assert_int_equal(number_of(row, "srtt_us"), 15);
	row = json_array_get(list_of(a, "refusals", 1), 0);
	assert_string_equal(string_of(row, "reason"), "denied");
	assert_int_equal(number_of(row, "count"), sum);
	json_decref(a);
	free(t);
	free(n);
}

static void status(void **state)
{
	struct stage *g = *state;
	json_t *a = ask(g, "status", NULL, NULL), *p, *m;
	uint64_t count;
	size_t i;

	assert_true(json_is_true(json_object_get(a, "ready")));
	assert_int_equal(number_of(json_object_get(a, "counts"), "pods"), 3);
	assert_int_equal(number_of(json_object_get(a, "counts"), "endpoints"), 2);
	list_of(a, "problems", 0);
	list_of(a, "reasons", 0);
	json_array_foreach(json_object_get(a, "maps"), i, m)
		assert_true(number_of(m, "used") <= number_of(m, "max"));
	json_decref(a);

	source_count = 1;
	assert_int_equal(traffic_reason_add(g->report.fd[WIRE_FD_REASONS], ABI_POLICY_CHANGED, 3), 0);
	assert_int_equal(traffic_reason_add(g->report.fd[WIRE_FD_REASONS], ABI_POLICY_CHANGED, 2), 0);
	assert_int_equal(traffic_reason(g->report.fd[WIRE_FD_REASONS], ABI_POLICY_CHANGED, &count), 0);
	assert_int_equal(count, 5);
	a = ask(g, "status", NULL, NULL);
	assert_int_equal(number_of(a, "errors"), 1);
	p = json_array_get(list_of(a, "problems", 1), 0);
	assert_string_equal(string_of(p, "file"), "bad?.yaml"); /* a file name need not be UTF-8 */
	assert_int_equal(number_of(p, "line"), 3);
	p = json_array_get(list_of(a, "reasons", 1), 0);
	assert_string_equal(string_of(p, "name"), "policy_changed");
	assert_int_equal(number_of(p, "count"), 5);
	json_decref(a);
}

/* A splice that is forced on a kernel that is not safe: a warning that names who, and what it risks. */
static void forced(void **state)
{
	static const char pod[] = "apiVersion: v1\nkind: Pod\nmetadata: {name: web1, namespace: shop, "
				  "labels: {app: web}, annotations: {weft.io/splice: always}}\n";
	static const char service[] = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, "
				      "annotations: {weft.io/splice: always}}\n"
				      "spec: {clusterIPs: [10.96.0.1, 'fd00::9'], selector: {app: web}, "
				      "ports: [{name: a, port: 80}, {name: b, port: 81}]}\n";
	struct stage *g = *state;
	json_t *a, *p;

	g->report.kernel_safe = false;
	text_copy(g->report.at_stake, sizeof(g->report.at_stake), "readers hang");
	json_decref(ask(g, "status", NULL, NULL));
	scene_yaml(g->scene.store, pod);
	scene_yaml(g->scene.store, service);
	world_update(g->scene.world);
	a = ask(g, "status", NULL, NULL);
	assert_int_equal(number_of(a, "errors"), 0);
	assert_int_equal(number_of(a, "warnings"), 2);
	p = json_array_get(list_of(a, "problems", 2), 0);
	assert_string_equal(string_of(p, "object"), "Pod shop/web1");
	assert_string_equal(string_of(p, "field"), "weft.io/splice");
	assert_string_equal(string_of(p, "reason"), "always, on a kernel that is not safe: readers hang");
	p = json_array_get(list_of(a, "problems", 2), 1); /* once, though it has two ports and two VIPs */
	assert_string_equal(string_of(p, "object"), "Service shop/web");
	json_decref(a);
	g->report.kernel_safe = true;
	a = ask(g, "status", NULL, NULL);
	list_of(a, "problems", 0);
	json_decref(a);
}

static void commands(void **state)
{
	struct stage *g = *state;
	struct publish *publish_of_it = g->report.publish;
	json_t *a = ask(g, "shutdown", NULL, NULL);

	assert_non_null(strstr(string_of(a, "error"), "unknown command"));
	assert_non_null(strstr(string_of(a, "error"), "connections"));
	json_decref(a);
	g->report.publish = NULL;
	a = ask(g, "pods", NULL, NULL);
	g->report.publish = publish_of_it;
	assert_non_null(strstr(string_of(a, "error"), "starting"));
	json_decref(a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Rows of what is gone go, and only when there are too many. */
static void traffic_room(void **state)
{
	struct stage *g = *state;
	const struct world_front *f = world_front_each(g->scene.world, NULL);
	struct abi_traffic *t = mem_alloc(kernel_cpus() * sizeof(*t));
	uint64_t *n = mem_alloc(kernel_cpus() * sizeof(*n));
	int traffic = g->report.fd[WIRE_FD_TRAFFIC], refusals = g->report.fd[WIRE_FD_REFUSALS];
	struct abi_traffic_key stays[] = {{.pod = 2}, {.service = f->number, .pod = 3}, {.source = 77}, {0}};
	struct abi_refusal_key told = {.service = f->number, .reason = ABI_NO_ENDPOINT};

	for (uint32_t i = 0; i < 20; i++) {
		struct abi_traffic_key key = {
			.source = 1, .service = i % 2 ? 1000 + i : 0, .pod = i % 2 ? 2 : 1000 + i};
		struct abi_refusal_key refusal = {.pod = 1000 + i, .reason = ABI_DENIED};

		assert_int_equal(kernel_update(traffic, &key, t), 0);
		assert_int_equal(kernel_update(refusals, &refusal, n), 0);
	}
	for (size_t i = 0; i < array_size(stays); i++)
		assert_int_equal(kernel_update(traffic, &stays[i], t), 0);
	assert_int_equal(kernel_update(refusals, &told, n), 0);
	assert_int_equal(traffic_make_room(&g->report, 24), 0);
	assert_int_equal(traffic_make_room(&g->report, 22), 20); /* of traffic alone: there are 24 and 21 */
	assert_int_equal(traffic_make_room(&g->report, 0), 20);
	assert_int_equal(traffic_make_room(&g->report, 0), 0);
	for (size_t i = 0; i < array_size(stays); i++)
		assert_int_equal(kernel_lookup(traffic, &stays[i], t), 0);
	assert_int_equal(kernel_lookup(refusals, &told, n), 0);
	free(t);
	free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(pods), TEST(services), TEST(routes), TEST(policies), TEST(connections),
					   TEST(traffic), TEST(traffic_room), TEST(status), TEST(forced),
					   TEST(commands)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
