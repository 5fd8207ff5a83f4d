/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Explanations: forms of a destination, the objects that are named, and, for random worlds, that the verdict is what
 * the policy sets say. Real maps (root), because the kernel's switches are asked too.
 */
#include <jansson.h>

#include "maps.h"
#include "scene.h"

#include "report.h"

struct stage {
	struct scene scene;
	struct report report;
};

static void publish_stage(struct stage *g)
{
	unsigned n;

	world_update(g->scene.world);
	if (publish(g->report.publish))
		fail_msg("%s", publish_errors(g->report.publish, &n)[0]);
}

static int setup(void **state)
{
	struct stage *g = mem_alloc(sizeof(*g));
	int err;

	g->scene = scene_new();
	g->report = (struct report){.world = g->scene.world, .splice_on = true, .kernel_safe = true};
	maps_open(g->report.fd, 4096);
	g->report.publish = publish_new(g->scene.world, g->report.fd, &err);
	assert_non_null(g->report.publish);
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

static json_t *explain(struct stage *g, const char *source, const char *destination)
{
	json_t *request = json_pack("{s:s, s:s}", "source", source, "destination", destination), *ret;
	struct answer *a = explain_answer(&g->report, request);
	struct text t = {0};

	while (a->more(a, &t) > 0)
		;
	a->end(a);
	json_decref(request);
	ret = json_loadb(t.data, t.len, 0, NULL);
	assert_non_null(ret);
	text_free(&t);
	return ret;
}

static const char *string_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* Verdict and reason; `object` (may be NULL) is named in some step. */
static void expect(struct stage *g, const char *source, const char *destination, const char *verdict,
		   const char *reason, const char *object)
{
	json_t *a = explain(g, source, destination), *step;
	bool named = !object;
	size_t i;

	if (strcmp(string_of(a, "verdict"), verdict) || strcmp(string_of(a, "reason"), reason))
		fail_msg("%s -> %s: %s (%s) %s", source, destination, string_of(a, "verdict"),
			 string_of(a, "reason"), string_of(a, "error"));
	json_array_foreach(json_object_get(a, "steps"), i, step)
	{
		named = named || !strcmp(string_of(step, "object"), object);
		if (!strcmp(verdict, "refused") && strstr(string_of(step, "text"), "passe"))
			fail_msg("%s -> %s is refused: \"%s\"", source, destination, string_of(step, "text"));
	}
	if (!named)
		fail_msg("%s -> %s: no step names %s", source, destination, object);
	json_decref(a);
}

static void expect_error(struct stage *g, const char *source, const char *destination, const char *part)
{
	json_t *a = explain(g, source, destination);

	if (!strstr(string_of(a, "error"), part))
		fail_msg("%s -> %s: \"%s\" does not speak of \"%s\"", source, destination,
			 string_of(a, "error"), part);
	json_decref(a);
}

static const char web[] = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
			  "spec: {clusterIPs: [10.96.0.1, 'fd00:96::1'], selector: {app: web},\n"
			  "  ports: [{name: http, port: 80, targetPort: 8080}]}\n";
static const char two_ports[] =
	"apiVersion: v1\nkind: Service\nmetadata: {name: two, namespace: shop}\n"
	"spec: {clusterIP: 10.96.0.2, selector: {app: web},\n"
	"  ports: [{name: a, port: 80, targetPort: 8080}, {name: b, port: 81, targetPort: 8081}]}\n";
static const char empty[] = "apiVersion: v1\nkind: Service\nmetadata: {name: empty, namespace: shop}\n"
			    "spec: {clusterIP: 10.96.0.3, selector: {app: nobody}, ports: [{port: 80}]}\n";
static const char headless[] = "apiVersion: v1\nkind: Service\nmetadata: {name: bare, namespace: shop}\n"
			       "spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}\n";
static const char allow_a[] = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
			      "metadata: {name: allow-a, namespace: shop}\n"
			      "spec:\n  selector: {matchLabels: {app: web}}\n  rules:\n"
			      "  - from: [{source: {principals: [cluster.local/ns/shop/sa/nobody]}}]\n"
			      "  - from: [{source: {principals: [cluster.local/ns/shop/sa/a]}}]\n";
static const char deny_block[] = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
				 "metadata: {name: deny-block, namespace: shop}\n"
				 "spec:\n  action: DENY\n  selector: {matchLabels: {app: web}}\n  rules:\n"
				 "  - from: [{source: {ipBlocks: [10.0.0.2/32]}}]\n";
static const char strict[] = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
			     "metadata: {name: strict, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";

static void populate(struct stage *g)
{
	scene_enrol(g->scene.world, 1, "shop/a", "a", "10.0.0.1,fd00::1", "");
	scene_enrol(g->scene.world, 2, "shop/b", "b", "10.0.0.2,fd00::2", "");
	scene_enrol(g->scene.world, 3, "shop/web", "web", "10.0.0.3,fd00::3", "app=web");
	scene_yaml(g->scene.store, web);
	publish_stage(g);
}

/* ------------------------------------------------------------------ tests */

static void forms(void **state)
{
	static const char *const good[] = {
		"10.96.0.1",
		"10.96.0.1:80",
		"[fd00:96::1]:80",
		"fd00:96::1",
		"[fd00:96::1]",
		"web.shop",
		"web.shop:80",
		"web.shop.svc:80",
		"web.shop.svc.cluster.local:80",
		"shop/web:8080",
		"10.0.0.3:8080",
		"[fd00::3]:8080",
		"web",
		"::ffff:10.96.0.1",
	};
	static const char *const bad[][2] = {
		{"", "no destination is named"},
		{"10.96.0.1:", "not a port"},
		{"10.96.0.1:0", "not a port"},
		{"10.96.0.1:65536", "not a port"},
		{"10.96.0.1:80:90", "not a service"},
		{"[fd00::1", "no \"]\""},
		{"[fd00:96::1]80", "after"},
		{"10.0.0.3", "which port"},
		{"nope.shop", "no service nope"},
		{"shop/nope:1", "no pod or service"},
		{"a.b.c.d:1", "not a service"},
		{":80", "no destination is named"},
		{"/web:80", "no destination is named"},
		{"shop/:80", "no destination is named"},
		{".shop:80", "no destination is named"},
		{"fd00::1:99999", "not a port"},
		{"shop/web", "which port"},
	};
	struct stage *g = *state;

	populate(g);
	for (size_t i = 0; i < array_size(good); i++) {
		/* "web" is a pod before it is a service: it needs a port */
		if (!strcmp(good[i], "web"))
			expect_error(g, "shop/a", good[i], "which port");
		else
			expect(g, "shop/a", good[i], "allowed", "none", NULL);
	}
	for (size_t i = 0; i < array_size(bad); i++)
		expect_error(g, "shop/a", bad[i][0], bad[i][1]);
	expect_error(g, "shop/nope", "web.shop", "no pod shop/nope");
	expect_error(g, "nope", "web.shop", "give NAMESPACE/NAME");
	expect_error(g, "/x", "web.shop", "give NAMESPACE/NAME");
}

static void services(void **state)
{
	struct stage *g = *state;

	populate(g);
	scene_yaml(g->scene.store, two_ports);
	scene_yaml(g->scene.store, empty);
	scene_yaml(g->scene.store, headless);
	publish_stage(g);
	expect(g, "shop/a", "two.shop:81", "allowed", "none", "Service shop/two");
	expect_error(g, "shop/a", "two.shop", "several ports (80, 81)");
	expect_error(g, "shop/a", "10.96.0.2", "several ports");
	expect(g, "shop/a", "web.shop:81", "refused", "no_service_port", NULL);
	expect(g, "shop/a", "empty.shop", "refused", "no_endpoint", "Service shop/empty");
	expect_error(g, "shop/a", "bare.shop", "no clusterIP");
	expect_error(g, "shop/a", "bare.shop:80", "no clusterIP");
}

static void policies(void **state)
{
	struct stage *g = *state;

	populate(g);
	expect(g, "shop/b", "web.shop", "allowed", "none", NULL);
	scene_yaml(g->scene.store, allow_a);
	publish_stage(g);
	expect(g, "shop/a", "web.shop", "allowed", "none", "AuthorizationPolicy shop/allow-a rules[1]");
	expect(g, "shop/b", "web.shop", "refused", "not_allowed", "AuthorizationPolicy shop/allow-a");
	scene_yaml(g->scene.store, deny_block);
	publish_stage(g);
	expect(g, "shop/b", "web.shop", "refused", "denied", "AuthorizationPolicy shop/deny-block rules[0]");
	expect(g, "shop/b", "[fd00::3]:80", "refused", "not_allowed", NULL);
	expect(g, "shop/a", "web.shop", "allowed", "none", NULL);
	scene_yaml(g->scene.store, strict);
	publish_stage(g);
	expect(g, "shop/a", "web.shop", "allowed", "none", "PeerAuthentication shop/strict");
}

static void not_weft(void **state)
{
	const struct abi_addr node = scene_addr("10.0.0.254");
	struct stage *g = *state;

	populate(g);
	world_node_addresses(g->scene.world, &node, 1);
	scene_yaml(g->scene.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: far, namespace: shop}\n"
				   "spec: {nodeName: node2}\nstatus: {podIP: 10.1.0.1}\n");
	publish_stage(g);
	expect(g, "shop/a", "10.0.0.254:10250", "allowed", "node_itself", NULL);
	expect(g, "shop/a", "192.0.2.1:443", "allowed", "outside", NULL);
	expect(g, "shop/a", "shop/far:80", "refused", "worker_gone", "Pod shop/far");
	expect(g, "shop/a", "10.0.0.1:80", "allowed", "same_pod", NULL);
	expect(g, "shop/a", "127.0.0.1:80", "allowed", "same_pod", NULL);
	/* a pod of another node has no identity here */
	expect(g, "shop/far", "shop/web:80", "allowed", "none", NULL);
	scene_yaml(g->scene.store, strict);
	publish_stage(g);
	expect(g, "shop/far", "shop/web:80", "refused", "mtls_required", "PeerAuthentication shop/strict");
}

static void beat(struct stage *g, uint64_t ns)
{
	uint32_t zero = 0;

	assert_int_equal(kernel_update(g->report.fd[WIRE_FD_BEAT], &zero, &ns), 0);
}

static void captures(void **state)
{
	struct stage *g = *state;

	populate(g);
	scene_yaml(g->scene.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: far, namespace: shop}\n"
				   "spec: {nodeName: node2}\nstatus: {podIP: 10.1.0.1}\n");
	scene_yaml(g->scene.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: old, namespace: shop, labels: "
				   "{istio.io/dataplane-mode: none}}\nspec: {nodeName: node2}\n"
				   "status: {podIP: 10.1.0.2}\n");
	publish_stage(g);
	beat(g, clock_ns());
	expect(g, "shop/a", "shop/far:80", "allowed", "tunnelled", "Pod shop/far");
	expect(g, "shop/a", "shop/far:15008", "allowed", "other_node", "Pod shop/far");
	expect(g, "shop/a", "shop/far:15001", "refused", "own_port", "Pod shop/far");
	expect(g, "shop/a", "shop/web:15006", "refused", "own_port", NULL);
	expect(g, "shop/a", "shop/old:80", "allowed", "other_node", "Pod shop/old");
	scene_yaml(g->scene.store, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: "
				   "{weft.io/proxy: always, weft.io/egress: registry-only}}\n");
	publish_stage(g);
	expect(g, "shop/a", "web.shop", "allowed", "proxied", "Service shop/web");
	expect(g, "shop/a", "192.0.2.1:443", "refused", "egress", NULL);
	expect(g, "shop/a", "[fe80::1]:443", "refused", "egress", NULL);
	scene_yaml(g->scene.store, strict);
	scene_yaml(g->scene.store, allow_a);
	publish_stage(g);
	expect(g, "shop/b", "web.shop", "refused", "not_allowed", NULL);
	expect(g, "shop/b", "shop/web:15008", "allowed", "none", NULL);
	beat(g, (clock_ns() - ABI_BEAT_NS - 2) & ~ABI_BEAT_LATE); /* the first who asks waits */
	expect(g, "shop/a", "web.shop", "allowed", "proxied", "Service shop/web");
	beat(g, (clock_ns() - ABI_BEAT_NS - 2) | ABI_BEAT_LATE);
	expect(g, "shop/a", "web.shop", "refused", "worker_gone", "Service shop/web");
	scene_yaml(g->scene.store, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: "
				   "{weft.io/proxy: always, weft.io/fail-open: 'true'}}\n");
	publish_stage(g);
	expect(g, "shop/a", "web.shop", "allowed", "fail_open", "Service shop/web");
	expect(g, "shop/a", "192.0.2.1:443", "allowed", "outside", NULL);
}

static void rule(struct stage *g, const char *action, const char *text)
{
	char *yaml = mem_format("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
				"metadata: {name: http, namespace: shop}\nspec:\n  action: %s\n"
				"  selector: {matchLabels: {app: web}}\n  rules: [%s]\n",
				action, text);

	scene_yaml(g->scene.store, yaml);
	free(yaml);
	publish_stage(g);
}

/* What the worker is asked for each request; and what it refuses whatever is requested, as weft cannot know of it. */
static void on_requests(void **state)
{
	static const char by[] = "AuthorizationPolicy shop/http rules[0]";
	struct stage *g = *state;

	populate(g);
	beat(g, clock_ns());
	rule(g, "ALLOW", "{to: [{operation: {paths: [/a]}}]}");
	expect(g, "shop/a", "web.shop", "allowed", "proxied", by);
	rule(g, "ALLOW", "{from: [{source: {requestPrincipals: ['*']}}]}");
	expect(g, "shop/a", "web.shop", "refused", "needs_worker", by);
	rule(g, "ALLOW", "{to: [{operation: {paths: [/a]}}], when: [{key: request.auth.presenter, values: [x]}]}");
	expect(g, "shop/a", "web.shop", "refused", "needs_worker", by);
	rule(g, "ALLOW", "{when: [{key: 'request.headers[te]', values: [x]}]}, {to: [{operation: {methods: [GET]}}]}");
	expect(g, "shop/a", "web.shop", "allowed", "proxied", "AuthorizationPolicy shop/http rules[1]");
	rule(g, "ALLOW", "{from: [{source: {requestPrincipals: ['*']}}, {source: {namespaces: [shop]}}],"
			 " to: [{operation: {paths: [/a]}}]}");
	expect(g, "shop/a", "web.shop", "allowed", "proxied", by);
	rule(g, "DENY", "{from: [{source: {notRequestPrincipals: ['*']}}]}");
	expect(g, "shop/a", "web.shop", "refused", "needs_worker", by);
	rule(g, "DENY", "{from: [{source: {notRequestPrincipals: ['*']}}], to: [{operation: {paths: [/a]}}]}");
	expect(g, "shop/a", "web.shop", "allowed", "proxied", by);
	rule(g, "DENY", "{from: [{source: {notRequestPrincipals: ['*'], namespaces: [other]}}]}");
	expect(g, "shop/a", "web.shop", "allowed", "none", NULL);
	rule(g, "DENY", "{to: [{operation: {paths: [/a]}}]}");
	expect(g, "shop/a", "web.shop", "allowed", "proxied", by);
	scene_enrol(g->scene.world, 4, "shop/many", "a", "10.0.0.4,10.0.0.5", "");
	publish_stage(g);
	expect(g, "shop/many", "web.shop", "mixed", "needs_worker", by); /* too late if not bound */
	scene_yaml(g->scene.store, "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, annotations: "
				   "{weft.io/proxy: always}}\nspec: {clusterIPs: [10.96.0.1, 'fd00:96::1'], "
				   "selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n");
	publish_stage(g);
	expect(g, "shop/many", "web.shop", "allowed", "proxied", by); /* the worker has it in any case */
	scene_yaml(g->scene.store, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: "
				   "{weft.io/fail-open: 'true'}}\n");
	publish_stage(g);
	beat(g, (clock_ns() - ABI_BEAT_NS - 2) | ABI_BEAT_LATE);
	expect(g, "shop/a", "web.shop", "refused", "worker_gone", by);
}

static void splice_said(void **state)
{
	static const struct {
		bool on, safe, seen, fault;
		uint32_t reads;
		const char *says;
	} table[] = {
		{true, true, true, false, 0, "eligible"},
		{false, true, true, false, 0, "switched_off"},
		{true, false, true, false, 0, "kernel_unsafe"},
		{true, true, false, false, 0, "reader_unseen"},
		{true, true, true, false, ABI_READS_BY_SPLICE, "program haproxy of shop/a reads by splice(2)"},
		{true, true, true, true, ABI_READS_BY_COUNT, "program nginx of shop/a asks FIONREAD"},
		{true, true, true, false, ABI_READS_BY_COUNT, "eligible"},
	};
	struct stage *g = *state;
	uint64_t netns;

	populate(g);
	netns = name_find_pod(g->scene.world, "shop/a", true, (char[256]){0})->enrolled->netns;
	for (size_t i = 0; i < array_size(table); i++) {
		struct abi_settings set = {.reader_seen = table[i].seen, .count_fault = table[i].fault};
		struct abi_reader reader = {.how = table[i].reads, .program = {"haproxy", "nginx"}};
		uint32_t zero = 0;
		json_t *a, *step;
		bool said = false;
		size_t k;

		g->report.splice_on = table[i].on;
		g->report.kernel_safe = table[i].safe;
		assert_int_equal(kernel_update(g->report.fd[WIRE_FD_SETTINGS], &zero, &set), 0);
		assert_int_equal(kernel_update(g->report.fd[WIRE_FD_READERS], &netns, &reader), 0);
		a = explain(g, "shop/a", "web.shop");
		json_array_foreach(json_object_get(a, "steps"), k, step) said =
			said || (!strcmp(string_of(step, "step"), "splice") &&
				 strstr(string_of(step, "text"), table[i].says));
		assert_true(said);
		json_decref(a);
	}
}

static void live_ones(void **state)
{
	struct abi_tuple t = {.src = scene_addr("10.0.0.1"),
			      .dst = scene_addr("10.0.0.3"),
			      .src_port = 4000,
			      .dst_port = 8080};
	struct abi_conn c = {.client_pod = 1, .server_pod = 3, .path = ABI_PATH_SPLICE};
	struct stage *g = *state;
	json_t *a, *steps;

	populate(g);
	assert_int_equal(kernel_update(g->report.fd[WIRE_FD_CONNS], &t, &c), 0);
	a = explain(g, "shop/a", "web.shop");
	steps = json_object_get(a, "steps");
	assert_string_equal(string_of(json_array_get(steps, json_array_size(steps) - 1), "text"),
			    "1 live connection between the two: 1 splice");
	json_decref(a);
}

/* A service of several endpoints that are judged differently. */
static void mixed(void **state)
{
	struct stage *g = *state;

	populate(g);
	scene_enrol(g->scene.world, 4, "shop/open", "web", "10.0.0.4", "app=web,open=yes");
	scene_yaml(g->scene.store,
		   "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
		   "metadata: {name: closed, namespace: shop}\n"
		   "spec:\n  action: DENY\n  selector: {matchLabels: {open: 'yes'}}\n  rules: [{}]\n");
	publish_stage(g);
	expect(g, "shop/a", "web.shop", "mixed", "denied", "AuthorizationPolicy shop/closed rules[0]");
	expect(g, "shop/a", "shop/web:8080", "allowed", "none", NULL);
	/* from one of the endpoints itself */
	expect(g, "shop/web", "web.shop", "mixed", "denied", NULL);
}

/* What is explained is what the set decides: random pods, policies, ports. */
static void as_decided(void **state)
{
	struct stage *g = *state;
	unsigned refused = 0;

	srand(7);
	for (unsigned i = 0; i < 8; i++) {
		char name[16], ip[32], labels[16];

		snprintf(name, sizeof(name), "shop/p%u", i);
		snprintf(ip, sizeof(ip), "10.0.0.%u", 10 + i);
		snprintf(labels, sizeof(labels), "app=%c", 'a' + i % 3);
		scene_enrol(g->scene.world, 10 + i, name, name + 5, ip, labels);
	}
	for (unsigned i = 0; i < 12; i++) {
		char *yaml = mem_format(
			"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
			"metadata: {name: r%u, namespace: shop}\nspec:\n  action: %s\n"
			"  selector: {matchLabels: {app: %c}}\n  rules:\n"
			"  - from: [{source: {%s: [\"%s%d\"]}}]\n    to: [{operation: {%s: [\"%d\"]}}]\n",
			i, rand() % 3 ? "ALLOW" : "DENY", 'a' + rand() % 3,
			rand() % 2 ? "principals" : "notPrincipals", "cluster.local/ns/shop/sa/p", rand() % 8,
			rand() % 4 ? "ports" : "notPorts", 80 + rand() % 3);

		scene_yaml(g->scene.store, yaml);
		free(yaml);
	}
	publish_stage(g);
	for (unsigned i = 0; i < 400; i++) {
		unsigned from = (unsigned)rand() % 8, to = (unsigned)rand() % 8,
			 port = 80 + (unsigned)rand() % 3;
		char source[16], destination[32], ip[32];
		struct abi_addr a;
		const struct world_pod *p, *q;
		enum abi_reason why;

		if (from == to)
			continue;
		snprintf(source, sizeof(source), "shop/p%u", from);
		snprintf(destination, sizeof(destination), "shop/p%u:%u", to, port);
		snprintf(ip, sizeof(ip), "10.0.0.%u", 10 + from);
		a = scene_addr(ip);
		p = world_pod_named(g->scene.world, "shop", source + 5);
		q = world_pod_numbered(g->scene.world, 10 + to);
		why = policy_decide(q->set, p->identity, &a, (uint16_t)port, NULL);
		refused += why != ABI_NONE;
		expect(g, source, destination, why ? "refused" : "allowed", reason_name(why), NULL);
	}
	assert_true(refused > 20);
}

static void requests(void **state)
{
	struct stage *g = *state;
	json_t *empty_request = json_object();
	struct answer *a = explain_answer(&g->report, empty_request);
	struct text t = {0};

	assert_int_equal(a->more(a, &t), 0);
	assert_non_null(strstr(t.data, "explain needs"));
	a->end(a);
	text_free(&t);
	json_decref(empty_request);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(forms),
		TEST(services),
		TEST(policies),
		TEST(not_weft),
		TEST(captures),
		TEST(on_requests),
		TEST(splice_said),
		TEST(live_ones),
		TEST(mixed),
		TEST(as_decided),
		TEST(requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
