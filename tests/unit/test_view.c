// SPDX-License-Identifier: Apache-2.0
/* Whose address is it, as data threads see it: what changes changes, what did not keeps its generation. */
#include <pthread.h>
#include <stdatomic.h>
#include <urcu-qsbr.h>

#include "scene.h"
#include "view.h"

/* What publish.c does to the world, but for the maps. */
static unsigned take_in(struct scene *s, struct view *v)
{
	unsigned changed;

	world_update(s->world);
	view_gather(v, s->world);
	list_each_safe(l, next, &s->world->dirty_pods) {
		struct world_pod *p = container_of(l, struct world_pod, dirty_link);

		p->in_kernel = world_pod_row(p, &p->kernel);
		p->dirty = false;
		list_del(l);
		if (p->set)
			p->set->published = true;
	}
	list_each_safe(l, next, &s->world->dirty_addresses) {
		struct world_address *a = container_of(l, struct world_address, dirty_link);
		struct abi_address row;

		a->dirty = false;
		list_del(l);
		if (!world_address_row(a, &row))
			world_address_drop(s->world, a);
	}
	changed = view_update(v, s->world);
	list_each_safe(l, next, &s->world->dead_sets)
		world_set_drop(s->world, container_of(l, struct policy_set, all));
	rcu_quiescent_state();
	return changed;
}

static void pod(struct scene *s, const char *name, const char *account, const char *ip, const char *more)
{
	char *text = mem_format("apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: %s%s}\n"
				"spec: {nodeName: node2, serviceAccountName: %s}\n"
				"status: {podIPs: [{ip: %s}]}\n",
				name, more, account, ip);

	scene_yaml(s->store, text);
	free(text);
}

static const struct view_peer *peer(const struct view *v, const char *ip)
{
	struct abi_addr a = scene_addr(ip);

	return view_peer(v, &a);
}

static void test_peers(void **state)
{
	struct scene s = scene_new();
	struct view *v = view_new();
	uint64_t first, other;

	assert_null(peer(v, "10.2.0.1"));
	pod(&s, "web", "web", "10.2.0.1", "");
	pod(&s, "out", "web", "10.2.0.2", ", labels: {istio.io/dataplane-mode: none}");
	assert_int_equal(take_in(&s, v), VIEW_PEERS);
	assert_int_equal(peer(v, "10.2.0.1")->kind, ABI_KIND_REMOTE_POD);
	assert_string_equal(peer(v, "10.2.0.1")->spiffe, "spiffe://cluster.local/ns/shop/sa/web");
	assert_string_equal(peer(v, "10.2.0.1")->pod, "shop/web");
	assert_string_equal(peer(v, "10.2.0.1")->node, "node2");
	assert_true(peer(v, "10.2.0.1")->mesh);
	assert_false(peer(v, "10.2.0.2")->mesh);
	first = peer(v, "10.2.0.1")->generation;
	other = peer(v, "10.2.0.2")->generation;

	/* a label changes nobody */
	pod(&s, "web", "web", "10.2.0.1", ", labels: {a: b}");
	assert_int_equal(take_in(&s, v), 0);
	assert_int_equal(peer(v, "10.2.0.1")->generation, first);

	/* the address goes to the next pod before the last one is gone */
	pod(&s, "next", "next", "10.2.0.1", ", creationTimestamp: '2026-01-01T00:00:00Z'");
	assert_int_equal(take_in(&s, v), VIEW_PEERS);
	assert_string_equal(peer(v, "10.2.0.1")->pod, "shop/next");
	assert_int_not_equal(peer(v, "10.2.0.1")->generation, first);
	assert_int_equal(peer(v, "10.2.0.2")->generation, other);
	first = peer(v, "10.2.0.1")->generation;
	store_del(s.store, KIND_POD, "shop", "web");
	assert_int_equal(take_in(&s, v), 0);
	assert_int_equal(peer(v, "10.2.0.1")->generation, first);

	/* the namespace leaves the mesh */
	scene_yaml(s.store, "apiVersion: v1\nkind: Namespace\n"
			    "metadata: {name: shop, labels: {istio.io/dataplane-mode: none}}\n");
	assert_int_equal(take_in(&s, v), VIEW_PEERS);
	assert_false(peer(v, "10.2.0.1")->mesh);

	store_del(s.store, KIND_POD, "shop", "next");
	assert_int_equal(take_in(&s, v), VIEW_PEERS);
	assert_null(peer(v, "10.2.0.1"));
	view_free(v);
	scene_free(&s);
}

static void deny(struct scene *s, const char *principal)
{
	char *text = mem_format("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
				"metadata: {namespace: shop, name: closed}\n"
				"spec: {action: DENY, rules: [{from: [{source: {principals: ['%s']}}]}]}\n",
				principal);

	scene_yaml(s->store, text);
	free(text);
}

static enum abi_reason allows(const struct view *v, uint64_t netns, const char *spiffe)
{
	struct abi_addr from = scene_addr("10.9.9.9");

	return view_allows(view_pod(v, netns), spiffe, &from, 80);
}

static void test_policy(void **state)
{
	static const char far[] = "spiffe://other.mesh/ns/far/sa/away";
	struct scene s = scene_new();
	struct view *v = view_new();
	uint32_t policy;

	scene_enrol(s.world, 1, "shop/own", "own", "10.1.0.1,fd00::1", "");
	assert_int_equal(take_in(&s, v), VIEW_PEERS | VIEW_POLICY);
	assert_int_equal(peer(v, "fd00::1")->netns, 1001);
	assert_int_equal(view_pod(v, 1001)->addrs, 2);
	assert_string_equal(view_pod(v, 1001)->spiffe, "spiffe://cluster.local/ns/shop/sa/own");
	assert_int_equal(allows(v, 1001, far), ABI_NONE);
	policy = view_pod(v, 1001)->policy;

	deny(&s, "other.mesh/ns/far/*");
	assert_int_equal(take_in(&s, v) & VIEW_POLICY, VIEW_POLICY);
	assert_int_not_equal(view_pod(v, 1001)->policy, policy);
	assert_int_equal(allows(v, 1001, far), ABI_DENIED);
	assert_int_equal(allows(v, 1001, "spiffe://other.mesh/ns/near/sa/x"), ABI_NONE);
	assert_int_equal(allows(v, 1001, NULL), ABI_NONE);
	assert_int_equal(allows(v, 1001, "spiffe://other.mesh/ns/far/x"), ABI_DENIED); /* not five parts */

	scene_yaml(s.store, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
			    "metadata: {namespace: shop, name: all}\nspec: {mtls: {mode: STRICT}}\n");
	take_in(&s, v);
	assert_int_equal(allows(v, 1001, NULL), ABI_MTLS_REQUIRED);
	assert_int_equal(allows(v, 1001, "spiffe://a/ns/b/sa/c"), ABI_NONE);

	world_release(s.world, 1001);
	take_in(&s, v);
	assert_null(view_pod(v, 1001));
	assert_null(peer(v, "fd00::1"));
	view_free(v);
	scene_free(&s);
}

static void service(struct scene *s, const char *name, const char *ips, const char *ports, const char *proxy)
{
	char *text = mem_format("apiVersion: v1\nkind: Service\n"
				"metadata: {namespace: shop, name: %s, annotations: {weft.io/proxy: %s}}\n"
				"spec: {clusterIPs: [%s], ports: [%s]}\n",
				name, proxy, ips, ports);

	scene_yaml(s->store, text);
	free(text);
}

/* Endpoints "10.3.0.1, 10.3.0.2" */
static void slice(struct scene *s, const char *name, const char *service, const char *type, const char *ips)
{
	char *text = mem_format("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
				"metadata: {namespace: shop, name: %s, labels: {kubernetes.io/service-name: %s}}\n"
				"addressType: %s\nendpoints:\n",
				name, service, type),
	     *list = mem_string(ips), *save = NULL;
	struct text t = {0};

	text_add(&t, "%s", text);
	for (char *at = strtok_r(list, ", ", &save); at; at = strtok_r(NULL, ", ", &save))
		text_add(&t, "- {addresses: ['%s'], conditions: {ready: %s}}\n", at + (*at == '!'),
			 *at == '!' ? "false" : "true");
	text_add(&t, "ports: [{name: http, port: 8080}]\n");
	scene_yaml(s->store, t.data);
	text_free(&t);
	free(list);
	free(text);
}

static const struct view_service *backend(const struct view *v, const char *name, uint16_t port)
{
	return view_backend(v, &(struct route_target){.namespace = "shop",
						      .service = name,
						      .port = port,
						      .hash = route_target_hash("shop", name, port)});
}

static const struct world_front *front(const struct scene *s, const char *ip, uint16_t port)
{
	struct abi_addr a = scene_addr(ip);

	return world_front(s->world, &a, port);
}

/* What requests to it are to be like; a change of that alone is one. */
static void test_service_settings(void **state)
{
	static const char *const says[] = {"", ", weft.io/stall-timeout: 1m30s", ", weft.io/stall-timeout: 0s"};
	static const uint64_t want[] = {300000000000, 90000000000, 0};
	struct scene s = scene_new();
	struct view *v = view_new();

	for (unsigned i = 0; i < 2 * array_size(want); i++) {
		char *text = mem_format("apiVersion: v1\nkind: Service\n"
					"metadata: {namespace: shop, name: web, "
					"annotations: {weft.io/proxy: always%s}}\n"
					"spec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]%s}\n",
					says[i / 2], i & 1 ? ", sessionAffinity: ClientIP" : "");

		scene_yaml(s.store, text);
		free(text);
		take_in(&s, v);
		assert_int_equal(backend(v, "web", 80)->stall_ns, want[i / 2]);
		assert_int_equal(backend(v, "web", 80)->affinity_seconds, i & 1 ? 10800 : 0);
	}
	view_free(v);
	scene_free(&s);
}

static void test_services(void **state)
{
	struct scene s = scene_new();
	struct view *v = view_new();
	const struct view_service *web;
	struct view_load *load;
	uint32_t number;

	service(&s, "plain", "10.96.0.9", "{name: http, port: 80}", "auto");
	service(&s, "web", "'10.96.0.1', 'fd00::1'", "{name: http, port: 80}, {name: db, port: 3306}", "always");
	slice(&s, "web-4", "web", "IPv4", "10.3.0.2, 10.3.0.1, !10.3.0.3");
	slice(&s, "web-6", "web", "IPv6", "fd03::1");
	assert_int_equal(take_in(&s, v), VIEW_PEERS | VIEW_SERVICES);

	/* what nobody asked for costs nothing */
	assert_null(view_service(v, front(&s, "10.96.0.9", 80)->number));
	assert_null(backend(v, "plain", 80));
	assert_int_equal(s.world->routed.count, 1);

	web = view_service(v, front(&s, "10.96.0.1", 80)->number);
	assert_non_null(web);
	assert_ptr_equal(web, view_service(v, front(&s, "fd00::1", 80)->number));
	assert_ptr_equal(web, backend(v, "web", 80));
	assert_int_equal(web->number, front(&s, "10.96.0.1", 80)->number);
	assert_string_equal(web->namespace, "shop");
	assert_string_equal(web->name, "web");
	assert_int_equal(web->port, 80);
	assert_int_equal(web->protocol, VIEW_HTTP);
	assert_null(web->routes);
	assert_int_equal(web->endpoints, 3);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const want[] = {"10.3.0.1", "10.3.0.2", "fd03::1"};
		char at[ADDR_TEXT];

		assert_string_equal(addr_text(&web->endpoint[i].addr, at), want[i]);
		assert_int_equal(web->endpoint[i].port, 8080);
		assert_int_equal(web->endpoint[i].weight, 1);
		assert_non_null(web->endpoint[i].load);
	}
	assert_int_equal(backend(v, "web", 3306)->protocol, VIEW_TCP);
	assert_null(backend(v, "web", 81));
	number = web->number;

	/* what says the same is the same */
	service(&s, "web", "'10.96.0.1', 'fd00::1'", "{name: http, port: 80}, {name: db, port: 3306}", "always");
	assert_int_equal(take_in(&s, v) & VIEW_SERVICES, 0);
	assert_ptr_equal(web, backend(v, "web", 80));

	/* one slice changes: one entry; the load of who stays, stays */
	load = web->endpoint[1].load;
	load->active = 1;
	slice(&s, "web-4", "web", "IPv4", "10.3.0.2");
	assert_int_equal(take_in(&s, v), VIEW_SERVICES);
	web = view_service(v, number);
	assert_int_equal(web->endpoints, 2);
	assert_ptr_equal(web->endpoint[0].load, load);
	assert_int_equal(backend(v, "web", 3306)->endpoints, 0); /* its slices have no such port */

	/* an endpoint that comes back while a request to it is under way has its load again */
	slice(&s, "web-4", "web", "IPv4", "10.3.0.7");
	take_in(&s, v);
	rcu_barrier();
	for (unsigned i = 0; i < 3; i++) {
		slice(&s, "web-6", "web", "IPv6", i % 2 ? "fd03::1" : "fd03::2");
		take_in(&s, v);
	}
	slice(&s, "web-4", "web", "IPv4", "10.3.0.2");
	take_in(&s, v);
	assert_ptr_equal(view_service(v, number)->endpoint[0].load, load);
	assert_int_equal(load->active, 1);
	load->active = 0;

	/* another service with the same endpoint shares it */
	service(&s, "two", "None", "{name: http, port: 8000}", "always");
	slice(&s, "two-4", "two", "IPv4", "10.3.0.2");
	take_in(&s, v);
	assert_int_equal(backend(v, "two", 8000)->number, 0); /* headless */
	assert_ptr_equal(backend(v, "two", 8000)->endpoint[0].load, load);

	/* an annotation goes, a port goes, a service goes */
	service(&s, "two", "None", "{name: http, port: 8000}", "auto");
	service(&s, "web", "10.96.0.1", "{name: http, port: 80, appProtocol: kubernetes.io/h2c}", "always");
	assert_int_equal(take_in(&s, v) & VIEW_SERVICES, VIEW_SERVICES);
	assert_false(backend(v, "two", 8000)->wanted);
	assert_null(backend(v, "web", 3306));
	assert_int_equal(backend(v, "web", 80)->protocol, VIEW_HTTP2);
	store_del(s.store, KIND_SERVICE, "shop", "web");
	assert_int_equal(take_in(&s, v) & VIEW_SERVICES, VIEW_SERVICES);
	assert_null(backend(v, "web", 80));
	assert_null(view_service(v, number));
	store_del(s.store, KIND_SERVICE, "shop", "two");
	take_in(&s, v);
	assert_null(backend(v, "two", 8000));
	take_in(&s, v);
	assert_int_equal(s.world->routed.count, 0);
	view_free(v);
	scene_free(&s);
}

/* Routes come and go: the parent has the table, the backend is there to be asked, also without either's address. */
static void test_routes(void **state)
{
	static const char route[] = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
				    "metadata: {namespace: shop, name: canary}\n"
				    "spec: {parentRefs: [{group: '', kind: Service, name: web, port: 80}], rules: [{"
				    "backendRefs: [{name: v2, port: 8000}]}]}\n";
	struct scene s = scene_new();
	struct view *v = view_new();
	const struct route_table *table;
	uint32_t number;

	service(&s, "web", "10.96.0.1", "{name: http, port: 80}, {name: grpc, port: 81}", "auto");
	service(&s, "v2", "None", "{name: http, port: 8000}", "auto");
	slice(&s, "v2-4", "v2", "IPv4", "10.3.0.2");
	take_in(&s, v);
	number = front(&s, "10.96.0.1", 80)->number;
	assert_null(view_service(v, number));
	scene_yaml(s.store, route);
	assert_int_equal(take_in(&s, v), VIEW_SERVICES);
	assert_int_equal(front(&s, "10.96.0.1", 80)->number, number); /* the service is the same */
	table = view_service(v, number)->routes;
	assert_non_null(table);
	assert_true(route_table_has(table, ROUTE_HTTP, "shop"));
	assert_null(backend(v, "web", 81)->routes);
	assert_int_equal(backend(v, "web", 81)->protocol, VIEW_HTTP2);
	assert_int_equal(backend(v, "v2", 8000)->endpoints, 1);
	assert_null(backend(v, "v2", 8000)->routes);
	assert_false(backend(v, "v2", 8000)->wanted);

	/* an endpoint more: the table is the same */
	slice(&s, "v2-4", "v2", "IPv4", "10.3.0.2, 10.3.0.3");
	assert_int_equal(take_in(&s, v), VIEW_SERVICES);
	assert_ptr_equal(view_service(v, number)->routes, table);
	assert_int_equal(backend(v, "v2", 8000)->endpoints, 2);
	service(&s, "v2", "None", "{name: http, port: 8000}", "always"); /* a change of that alone is one */
	assert_int_equal(take_in(&s, v), VIEW_SERVICES);
	assert_true(backend(v, "v2", 8000)->wanted);
	service(&s, "v2", "None", "{name: http, port: 8000}", "auto");
	take_in(&s, v);
	assert_false(backend(v, "v2", 8000)->wanted);

	/* its connections go on, and their requests to its own endpoints, also to those that come now */
	store_del(s.store, KIND_HTTP_ROUTE, "shop", "canary");
	assert_int_equal(take_in(&s, v), VIEW_SERVICES);
	assert_null(view_service(v, number)->routes);
	take_in(&s, v);
	slice(&s, "web-4", "web", "IPv4", "10.3.0.7");
	assert_int_equal(take_in(&s, v), VIEW_SERVICES);
	assert_int_equal(view_service(v, number)->endpoints, 1);
	store_del(s.store, KIND_SERVICE, "shop", "web");
	take_in(&s, v);
	assert_null(view_service(v, number));
	store_del(s.store, KIND_SERVICE, "shop", "v2");
	take_in(&s, v);
	assert_null(backend(v, "v2", 8000));
	take_in(&s, v);
	assert_int_equal(s.world->routed.count, 0);
	view_free(v);
	scene_free(&s);
}

/* Two claim an address: its number is of the one that has it, and goes with it. */
static void test_rivals(void **state)
{
	struct scene s = scene_new();
	struct view *v = view_new();
	uint32_t number;

	service(&s, "b", "10.96.0.1", "{name: http, port: 80}", "always");
	take_in(&s, v);
	number = backend(v, "b", 80)->number;
	assert_int_not_equal(number, 0);
	service(&s, "a", "10.96.0.1", "{name: http, port: 80}", "always");
	take_in(&s, v);
	assert_int_equal(backend(v, "b", 80)->number, 0);
	assert_null(view_service(v, number));
	assert_ptr_equal(view_service(v, backend(v, "a", 80)->number), backend(v, "a", 80));
	store_del(s.store, KIND_SERVICE, "shop", "a");
	take_in(&s, v);
	assert_ptr_equal(view_service(v, backend(v, "b", 80)->number), backend(v, "b", 80));
	view_free(v);
	scene_free(&s);
}

struct reader {
	struct view *view;
	atomic_bool stop;
	atomic_ulong asked;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;
	struct abi_addr from = scene_addr("10.9.9.9");

	rcu_register_thread();
	while (!atomic_load(&r->stop)) {
		const struct view_pod *p = view_pod(r->view, 1001);
		const struct view_peer *at = peer(r->view, "10.2.0.1");
		const struct view_service *web = backend(r->view, "web", 80);

		for (unsigned i = 0; web && i < web->endpoints; i++)
			(void)__atomic_load_n(&web->endpoint[i].load->active, __ATOMIC_RELAXED);
		if (web && web->number)
			(void)view_service(r->view, web->number);
		if (web && web->routes)
			(void)route_table_has(web->routes, ROUTE_HTTP, "shop");
		if (p)
			(void)view_allows(p, "spiffe://a/ns/b/sa/c", &from, 80);
		if (at)
			assert_true(text_starts(at->spiffe, "spiffe://"));
		atomic_fetch_add(&r->asked, 1);
		rcu_quiescent_state();
	}
	rcu_unregister_thread();
	return NULL;
}

/* Under ASan: what a reader holds is there until it lets go, while everything is replaced all the time. */
static void test_readers(void **state)
{
	struct scene s = scene_new();
	struct view *v = view_new();
	struct reader r = {.view = v};
	pthread_t thread;

	scene_enrol(s.world, 1, "shop/own", "own", "10.1.0.1", "");
	take_in(&s, v);
	assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
	for (unsigned i = 0; i < 300 || atomic_load(&r.asked) < 1000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "a/ns/b%u/sa/c", i);
		deny(&s, name);
		pod(&s, "web", i % 2 ? "one" : "two", "10.2.0.1", "");
		snprintf(name, sizeof(name), "10.3.0.%u, 10.3.0.%u", i % 7, i % 11 + 7);
		service(&s, "web", i % 5 ? "10.96.0.1" : "10.96.0.2", "{name: http, port: 80}",
			i % 3 ? "always" : "auto");
		slice(&s, "web-4", "web", "IPv4", name);
		if (i % 7)
			scene_yaml(s.store, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
					    "metadata: {namespace: shop, name: one}\nspec: {parentRefs: [{group: '', "
					    "kind: Service, name: web}], rules: [{backendRefs: [{name: web, "
					    "port: 80}]}]}\n");
		else
			store_del(s.store, KIND_HTTP_ROUTE, "shop", "one");
		take_in(&s, v);
	}
	atomic_store(&r.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	view_free(v);
	scene_free(&s);
}

static void leads_to(struct scene *s, const char *backend)
{
	char *text = mem_format("apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\n"
				"metadata: {namespace: shop, name: to}\nspec: {parentRefs: [{group: '', "
				"kind: Service, name: web}], rules: [{backendRefs: [{name: %s, port: 80}]}]}\n",
				backend);

	scene_yaml(s->store, text);
	free(text);
}

/* Within one turn: by the route of web, to its backend. */
static bool routed(const struct view *v, uint32_t number)
{
	const struct view_service *web = view_service(v, number);
	const struct route_rule *rule = web && web->routes ? route_find_tcp(web->routes, "shop") : NULL;

	return rule && view_backend(v, &route_backend(rule, 0)->target);
}

struct follower {
	struct view *view;
	uint32_t number;
	atomic_bool stop;
	atomic_ulong followed, lost;
};

static void *follow(void *arg)
{
	struct follower *f = arg;

	rcu_register_thread();
	while (!atomic_load(&f->stop)) {
		atomic_fetch_add(routed(f->view, f->number) ? &f->followed : &f->lost, 1);
		rcu_quiescent_state();
	}
	rcu_unregister_thread();
	return NULL;
}

/* A route leads to other backends, that nobody had looked at before: whoever follows it, at any moment, finds one. */
static void test_backends_before_routes(void **state)
{
	static const char *const names[] = {"a", "z", "zz", "b"};
	struct scene s = scene_new();
	struct view *v = view_new();
	struct follower f = {.view = v};
	pthread_t thread;

	service(&s, "web", "10.96.0.1", "{name: tcp, port: 80}", "auto");
	for (unsigned i = 0; i < array_size(names); i++)
		service(&s, names[i], "None", "{name: tcp, port: 80}", "auto");
	leads_to(&s, "a");
	take_in(&s, v);
	f.number = front(&s, "10.96.0.1", 80)->number;
	assert_true(routed(v, f.number));
	assert_int_equal(pthread_create(&thread, NULL, follow, &f), 0);
	for (unsigned i = 1; i < 300 || atomic_load(&f.followed) < 1000; i++) {
		leads_to(&s, names[i % array_size(names)]);
		world_update(s.world);
		view_gather(v, s.world);
		/* who has found the old route in this turn finds its backend */
		assert_non_null(backend(v, names[(i - 1) % array_size(names)], 80));
		assert_non_null(backend(v, names[i % array_size(names)], 80));
		assert_int_equal(view_update(v, s.world), VIEW_SERVICES);
		assert_null(backend(v, names[(i - 1) % array_size(names)], 80));
		take_in(&s, v);
	}
	atomic_store(&f.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(atomic_load(&f.lost), 0);
	view_free(v);
	scene_free(&s);
}

/* One address of 100 000 changes: that costs microseconds. */
static void test_scale(void **state)
{
	struct scene s = scene_new();
	struct view *v = view_new();
	uint64_t start, best = UINT64_MAX;

	for (unsigned i = 0; i < 20000; i++) {
		char name[32], ip[32];

		snprintf(name, sizeof(name), "p%u", i);
		snprintf(ip, sizeof(ip), "10.%u.%u.%u", 100 + (i >> 16), i >> 8 & 255, i & 255);
		pod(&s, name, "web", ip, "");
	}
	take_in(&s, v);
	for (unsigned i = 0; i < 20; i++) {
		pod(&s, "p7", i % 2 ? "web" : "other", "10.100.0.7", "");
		world_update(s.world);
		view_gather(v, s.world);
		start = clock_ns();
		assert_int_equal(view_update(v, s.world), VIEW_PEERS);
		if (clock_ns() - start < best)
			best = clock_ns() - start;
		take_in(&s, v);
	}
	print_message("one of 20000 addresses: %llu us\n", (unsigned long long)best / 1000);
	assert_true(best < 1000000);
	view_free(v);
	scene_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peers),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_service_settings),
		cmocka_unit_test(test_services),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_rivals),
		cmocka_unit_test(test_readers),
		cmocka_unit_test(test_backends_before_routes),
		cmocka_unit_test(test_scale),
	};
	int r;

	rcu_register_thread();
	r = cmocka_run_group_tests(tests, NULL, NULL);
	rcu_unregister_thread();
	return r;
}
