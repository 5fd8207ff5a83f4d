// SPDX-License-Identifier: Apache-2.0
/* Routes meet Services: what is attached where, what becomes of it, and what a change costs. */
#include "scene.h"

static void yaml(struct scene *s, const char *fmt, ...) printf_like(2, 3);
static void yaml(struct scene *s, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	scene_yaml(s->store, text);
	free(text);
}

static void service(struct scene *s, const char *name, const char *ports)
{
	yaml(s, "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: %s}\n"
		"spec: {clusterIP: None, ports: [%s]}\n", name, ports);
}

static void route(struct scene *s, const char *name, const char *parent, const char *backend)
{
	yaml(s, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: %s}\n"
		"spec: {parentRefs: [{group: '', kind: Service, %s}], rules: [{backendRefs: [{%s}]}]}\n",
	     name, parent, backend);
}

static const struct route_table *table(const struct scene *s, const char *service, uint16_t port)
{
	const struct world_routed *r = world_routed(s->world, "shop", service);

	return r ? world_routed_table(r, port) : NULL;
}

static const struct route_status *status(const struct scene *s, const char *name, unsigned parent)
{
	return &world_route_named(s->world, KIND_HTTP_ROUTE, "shop", name)->status[parent];
}

struct heard {
	unsigned count;
	char object[128], field[64], reason[256];
};

static void hear(void *ctx, const struct problem *p)
{
	struct heard *h = ctx;

	h->count++;
	assert_true(p->warning);
	text_copy(h->object, sizeof(h->object), p->object);
	text_copy(h->field, sizeof(h->field), p->field);
	text_copy(h->reason, sizeof(h->reason), p->reason);
}

static struct heard problems(const struct scene *s)
{
	struct heard h = {0};

	world_problems(s->world, hear, &h);
	return h;
}

static void attached_and_not(void **state)
{
	struct scene s = scene_new();
	const struct route_table *was;

	/* the route first: there is nothing to attach it to */
	route(&s, "one", "name: web, port: 80", "name: v1, port: 80");
	world_update(s.world);
	assert_null(table(&s, "web", 80));
	assert_false(status(&s, "one", 0)->accepted);
	assert_string_equal(status(&s, "one", 0)->accepted_reason, "NoMatchingParent");
	assert_string_equal(problems(&s).object, "HTTPRoute shop/one");
	assert_string_equal(problems(&s).field, "spec.parentRefs[0]");
	assert_non_null(strstr(problems(&s).reason, "NoMatchingParent"));

	/* the Service comes, without the port; then with it; then the backend */
	service(&s, "web", "{name: http, port: 81}");
	world_update(s.world);
	assert_false(status(&s, "one", 0)->accepted);
	service(&s, "web", "{name: http, port: 80}, {name: more, port: 81}");
	world_update(s.world);
	assert_non_null(table(&s, "web", 80));
	assert_null(table(&s, "web", 81));
	assert_true(status(&s, "one", 0)->accepted);
	assert_false(status(&s, "one", 0)->resolved);
	assert_string_equal(status(&s, "one", 0)->resolved_reason, "BackendNotFound");
	assert_int_equal(problems(&s).count, 1);
	service(&s, "v1", "{name: http, port: 80}");
	world_update(s.world);
	assert_true(status(&s, "one", 0)->resolved);
	assert_int_equal(problems(&s).count, 0);
	assert_true(world_routed_used(world_routed(s.world, "shop", "v1")));

	/* what does not concern the table leaves it alone */
	was = table(&s, "web", 80);
	service(&s, "other", "{name: http, port: 80}");
	world_update(s.world);
	assert_ptr_equal(table(&s, "web", 80), was);

	/* to all ports; then elsewhere; then gone */
	route(&s, "one", "name: web", "name: v1, port: 80");
	world_update(s.world);
	assert_non_null(table(&s, "web", 81));
	route(&s, "one", "name: v1", "name: web, port: 80");
	world_update(s.world);
	assert_null(table(&s, "web", 80));
	assert_non_null(table(&s, "v1", 80));
	store_del(s.store, KIND_HTTP_ROUTE, "shop", "one");
	world_update(s.world);
	assert_null(table(&s, "v1", 80));
	world_update(s.world);
	assert_int_equal(s.world->routed.count, 2); /* connections may be left of those that had routes */
	store_del(s.store, KIND_SERVICE, "shop", "web");
	store_del(s.store, KIND_SERVICE, "shop", "v1");
	world_update(s.world);
	world_update(s.world);
	assert_int_equal(s.world->routed.count, 0);
	assert_int_equal(s.world->routes.count, 0);
	scene_free(&s);
}

/* A rule into another namespace needs its grant, and the grant may come, go and change. */
static void grants(void **state)
{
	static const char grant[] = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n"
				    "metadata: {namespace: %s, name: g%u}\n"
				    "spec: {from: [{group: gateway.networking.k8s.io, kind: %s, namespace: shop}], "
				    "to: [{group: '', kind: Service%s}]}\n";
	struct scene s = scene_new();

	service(&s, "web", "{name: http, port: 80}");
	yaml(&s, "apiVersion: v1\nkind: Service\nmetadata: {namespace: far, name: v2}\n"
		 "spec: {clusterIP: None, ports: [{port: 80}]}\n");
	route(&s, "one", "name: web", "name: v2, namespace: far, port: 80");
	world_update(s.world);
	assert_string_equal(status(&s, "one", 0)->resolved_reason, "RefNotPermitted");
	yaml(&s, grant, "near", 1, "HTTPRoute", "");
	yaml(&s, grant, "far", 2, "GRPCRoute", "");
	yaml(&s, grant, "far", 3, "HTTPRoute", ", name: v3");
	world_update(s.world);
	assert_false(status(&s, "one", 0)->resolved);
	yaml(&s, grant, "far", 3, "HTTPRoute", ", name: v2");
	world_update(s.world);
	assert_true(status(&s, "one", 0)->resolved);
	yaml(&s, grant, "far", 4, "HTTPRoute", "");
	store_del(s.store, KIND_REFERENCE_GRANT, "far", "g3");
	world_update(s.world);
	assert_true(status(&s, "one", 0)->resolved);
	store_del(s.store, KIND_REFERENCE_GRANT, "far", "g4");
	world_update(s.world);
	assert_false(status(&s, "one", 0)->resolved);
	scene_free(&s);
}

static unsigned flags(const struct scene *s, const char *vip, uint16_t port)
{
	struct abi_addr a = scene_addr(vip);

	return world_front(s->world, &a, port)->flags;
}

/* All addresses of a port are captured while it has routes. */
static void captured(void **state)
{
	struct scene s = scene_new();
	struct abi_addr vip = scene_addr("10.96.0.1");

	yaml(&s, "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
		 "spec: {clusterIPs: [10.96.0.1, 'fd00::1'], ports: [{name: a, port: 80}, {name: b, port: 81}]}\n");
	world_update(s.world);
	assert_int_equal(flags(&s, "10.96.0.1", 80), 0);
	list_each_safe(l, next, &s.world->dirty_fronts) {
		container_of(l, struct world_front, dirty_link)->dirty = false;
		list_del(l);
	}
	route(&s, "one", "name: web, port: 80", "name: web, port: 80");
	world_update(s.world);
	assert_int_equal(flags(&s, "10.96.0.1", 80), ABI_SERVICE_ROUTES | ABI_SERVICE_PROXY);
	assert_int_equal(flags(&s, "fd00::1", 80), ABI_SERVICE_ROUTES | ABI_SERVICE_PROXY);
	assert_int_equal(flags(&s, "10.96.0.1", 81), 0);
	assert_true(world_front(s.world, &vip, 80)->dirty); /* so it is published again */
	store_del(s.store, KIND_HTTP_ROUTE, "shop", "one");
	world_update(s.world);
	assert_int_equal(flags(&s, "10.96.0.1", 80), 0);
	scene_free(&s);
}

/* One parentRef is a Gateway, one a Service: only the second is weft's. */
static void of_a_gateway(void **state)
{
	struct scene s = scene_new();

	service(&s, "web", "{name: http, port: 80}");
	yaml(&s, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: one}\n"
		 "spec: {parentRefs: [{name: edge}, {group: '', kind: Service, name: web}], "
		 "rules: [{backendRefs: [{name: web, port: 80}]}]}\n");
	world_update(s.world);
	assert_false(status(&s, "one", 0)->accepted);
	assert_true(status(&s, "one", 1)->accepted);
	assert_int_equal(problems(&s).count, 0);
	scene_free(&s);
}

/* 10 000 Services with a route each, and 10 000 routes to one; then one of each changes. */
static void full_load(void **state)
{
	enum { COUNT = 10000 };
	struct scene s = scene_new();
	uint64_t start, load, best = UINT64_MAX, hub;

	for (unsigned i = 0; i < COUNT; i++) {
		char name[32], parent[64], backend[64];

		store_put(s.store, scene_service(i));
		store_put(s.store, scene_slice(i, 10 * i, 2));
		snprintf(name, sizeof(name), "r%u", i);
		snprintf(parent, sizeof(parent), "namespace: load, name: svc%u", i);
		snprintf(backend, sizeof(backend), "namespace: load, name: svc%u, port: 80", (i + 1) % COUNT);
		route(&s, name, parent, backend);
	}
	start = clock_ns();
	world_update(s.world);
	load = clock_ns() - start;
	for (unsigned i = 0; i < 20; i++) {
		route(&s, "r7", "namespace: load, name: svc7", i % 2 ? "name: a, port: 80" : "name: b, port: 80");
		start = clock_ns();
		world_update(s.world);
		if (clock_ns() - start < best)
			best = clock_ns() - start;
	}
	for (unsigned i = 0; i < COUNT; i++) {
		char name[32];

		snprintf(name, sizeof(name), "hub%u", i);
		yaml(&s, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
			 "metadata: {namespace: load, name: %s}\nspec: {parentRefs: [{group: '', kind: Service, "
			 "name: svc1}], rules: [{matches: [{path: {value: /p%u}}], "
			 "backendRefs: [{name: svc2, port: 80}]}]}\n", name, i);
	}
	start = clock_ns();
	world_update(s.world);
	hub = clock_ns() - start;
	print_message("    10000 services with routes: %llu ms; one route: %llu us; 10000 routes of one: %llu ms\n",
		      (unsigned long long)load / 1000000, (unsigned long long)best / 1000,
		      (unsigned long long)hub / 1000000);
	/* many times what they take: so that what grows with the square is seen also where others use the machine */
	assert_true(load < 15000000000);
	assert_true(best < 5000000);
	assert_true(hub < 15000000000);
	scene_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attached_and_not),
		cmocka_unit_test(grants),
		cmocka_unit_test(captured),
		cmocka_unit_test(of_a_gateway),
		cmocka_unit_test(full_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
