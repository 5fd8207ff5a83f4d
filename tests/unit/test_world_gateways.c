/* SPDX-License-Identifier: Apache-2.0 */
/* Gateways meet routes, Secrets and each other: what is in force, and what a change costs. */
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

static void gateway(struct scene *s, const char *name, unsigned year, const char *listeners)
{
	yaml(s, "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
		"metadata: {namespace: shop, name: %s, creationTimestamp: \"%u-01-01T00:00:00Z\"}\n"
		"spec: {gatewayClassName: weft, listeners: [%s]}\n",
	     name, year, listeners);
}

static void route(struct scene *s, const char *kind, const char *name, unsigned year, const char *hosts,
		  const char *more)
{
	yaml(s, "apiVersion: gateway.networking.k8s.io/v1\nkind: %s\n"
		"metadata: {namespace: shop, name: %s, creationTimestamp: \"%u-01-01T00:00:00Z\"}\n"
		"spec: {parentRefs: [{name: edge%s}], hostnames: [%s],\n"
		"  rules: [{backendRefs: [{name: web, port: 80}]}]}\n",
	     kind, name, year, more, hosts);
}

static void secret(struct scene *s, const char *namespace, const char *name)
{
	yaml(s, "apiVersion: v1\nkind: Secret\nmetadata: {namespace: %s, name: %s}\ntype: kubernetes.io/tls\n"
		"stringData: {tls.crt: c, tls.key: k}\n", namespace, name);
}

static const struct world_gateway *edge(const struct scene *s, const char *name)
{
	const struct world_gateway *g = world_gateway_named(s->world, "shop", name);

	assert_non_null(g);
	return g;
}

static const char *accepted(const struct scene *s, const char *gate, unsigned listener)
{
	return edge(s, gate)->listener[listener].accepted_reason;
}

static const char *attached(const struct scene *s, enum object_kind kind, const char *name)
{
	const struct route_status *status = &world_route_named(s->world, kind, "shop", name)->status[0];

	return status->accepted ? status->resolved_reason : status->accepted_reason;
}

static const struct route_table *routes(const struct scene *s, uint16_t port, const char *host)
{
	const struct http_text text = {host, strlen(host)};
	const struct gateway_listener *l = gateway_listener(edge(s, "edge")->plan, port, text);

	return l ? gateway_routes(l, text) : NULL;
}

static void service(struct scene *s)
{
	yaml(s, "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
		"spec: {clusterIP: None, ports: [{port: 80}]}\n");
}

static void routes_come_and_go(void **state)
{
	struct scene s = scene_new();

	service(&s);
	route(&s, "HTTPRoute", "one", 2020, "a.example, \"*.wide.example\"", "");
	world_update(s.world);
	assert_string_equal(attached(&s, KIND_HTTP_ROUTE, "one"), "NoMatchingParent");
	gateway(&s, "edge", 2020, "{name: http, port: 80, protocol: HTTP}, "
				  "{name: narrow, port: 81, protocol: HTTP, hostname: b.wide.example}");
	world_update(s.world);
	assert_string_equal(attached(&s, KIND_HTTP_ROUTE, "one"), "ResolvedRefs");
	assert_int_equal(edge(&s, "edge")->listener[0].routes, 1);
	assert_non_null(routes(&s, 80, "a.example"));
	assert_non_null(routes(&s, 80, "x.wide.example"));
	assert_null(routes(&s, 80, "other.example"));
	assert_null(routes(&s, 81, "a.example"));
	assert_non_null(routes(&s, 81, "b.wide.example"));
	store_del(s.store, KIND_SERVICE, "shop", "web");
	world_update(s.world);
	assert_string_equal(attached(&s, KIND_HTTP_ROUTE, "one"), "BackendNotFound");
	store_del(s.store, KIND_HTTP_ROUTE, "shop", "one");
	world_update(s.world);
	assert_null(routes(&s, 80, "a.example"));
	assert_int_equal(edge(&s, "edge")->sockets, 2);
	store_del(s.store, KIND_GATEWAY, "shop", "edge");
	world_update(s.world);
	assert_null(edge(&s, "edge")->object);
	assert_int_equal(edge(&s, "edge")->sockets, 0);
	world_gateway_taken(s.world);
	assert_null(world_gateway_named(s.world, "shop", "edge"));
	scene_free(&s);
}

static void what_a_listener_takes(void **state)
{
	struct scene s = scene_new();

	service(&s);
	gateway(&s, "edge", 2020,
		"{name: grpc, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}, "
		"{name: far, port: 81, protocol: HTTP, hostname: far.example}, "
		"{name: odd, port: 82, protocol: HTTP, allowedRoutes: {kinds: [{kind: UDPRoute}, {kind: HTTPRoute}]}}");
	route(&s, "HTTPRoute", "kind", 2020, "", ", sectionName: grpc");
	route(&s, "GRPCRoute", "good", 2020, "", ", sectionName: grpc");
	route(&s, "HTTPRoute", "host", 2020, "near.example", ", port: 81");
	route(&s, "HTTPRoute", "section", 2020, "", ", sectionName: none");
	route(&s, "HTTPRoute", "odd", 2020, "", ", sectionName: odd");
	world_update(s.world);
	assert_string_equal(attached(&s, KIND_HTTP_ROUTE, "kind"), "NotAllowedByListeners");
	assert_string_equal(attached(&s, KIND_GRPC_ROUTE, "good"), "ResolvedRefs");
	assert_string_equal(attached(&s, KIND_HTTP_ROUTE, "host"), "NoMatchingListenerHostname");
	assert_string_equal(attached(&s, KIND_HTTP_ROUTE, "section"), "NoMatchingParent");
	assert_string_equal(attached(&s, KIND_HTTP_ROUTE, "odd"), "ResolvedRefs");
	assert_string_equal(edge(&s, "edge")->listener[2].resolved_reason, "InvalidRouteKinds");
	scene_free(&s);
}

static void the_oldest_kind_counts(void **state)
{
	struct scene s = scene_new();

	service(&s);
	gateway(&s, "edge", 2020, "{name: http, port: 80, protocol: HTTP}");
	route(&s, "GRPCRoute", "young", 2021, "a.example", "");
	route(&s, "HTTPRoute", "old", 2020, "a.example", "");
	route(&s, "GRPCRoute", "alone", 2021, "b.example", "");
	world_update(s.world);
	assert_string_equal(attached(&s, KIND_HTTP_ROUTE, "old"), "ResolvedRefs");
	assert_string_equal(attached(&s, KIND_GRPC_ROUTE, "young"), "Conflicted");
	assert_string_equal(attached(&s, KIND_GRPC_ROUTE, "alone"), "ResolvedRefs");
	scene_free(&s);
}

static void note(void *ctx, const struct problem *p)
{
	assert_true(p->warning);
	text_add(ctx, "%s | %s | %s\n", p->object, p->field, p->reason);
}

/* What `weftctl status` and the log say of it. */
static void problems_are(const struct scene *s, const char *want)
{
	struct text said = {0};

	text_add(&said, "%s", "");
	world_problems(s->world, note, &said);
	assert_string_equal(said.data, want);
	text_free(&said);
}

static void conflicts(void **state)
{
	struct scene s = scene_new();

	secret(&s, "shop", "a");
	gateway(&s, "edge", 2020,
		"{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}, "
		"{name: c, port: 80, protocol: HTTPS, hostname: c, tls: {certificateRefs: [{name: a}]}}, "
		"{name: d, port: 80, protocol: HTTP, hostname: d}");
	gateway(&s, "other", 2019, "{name: e, port: 81, protocol: HTTP}");
	world_update(s.world);
	assert_string_equal(accepted(&s, "edge", 0), "Accepted");
	assert_string_equal(accepted(&s, "edge", 1), "HostnameConflict");
	assert_string_equal(accepted(&s, "edge", 2), "ProtocolConflict");
	assert_string_equal(accepted(&s, "edge", 3), "Accepted");
	assert_int_equal(edge(&s, "edge")->sockets, 1);
	problems_are(&s, "Gateway shop/edge | spec.listeners[1].hostname | is that of listener a (HostnameConflict)\n"
			 "Gateway shop/edge | spec.listeners[2].protocol | port 80 is listener a's, of another "
			 "(ProtocolConflict)\n");
	/* the older one asks for it as well, and later has it */
	gateway(&s, "other", 2019, "{name: e, port: 80, protocol: HTTP}");
	world_update(s.world);
	assert_string_equal(accepted(&s, "other", 0), "Accepted");
	assert_string_equal(accepted(&s, "edge", 0), "PortUnavailable");
	assert_int_equal(edge(&s, "edge")->sockets, 0);
	store_del(s.store, KIND_GATEWAY, "shop", "other");
	world_update(s.world);
	assert_string_equal(accepted(&s, "edge", 0), "Accepted");
	scene_free(&s);
}

static void somebody_listens(void **state)
{
	struct scene s = scene_new();
	struct world_gateway_socket *socket;

	gateway(&s, "edge", 2020, "{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: HTTP}");
	world_update(s.world);
	problems_are(&s, "");
	socket = &edge(&s, "edge")->socket[1];
	assert_int_equal(socket->port, 81);
	socket->state = GATEWAY_SOCKET_FAILED;
	snprintf(socket->why, sizeof(socket->why), "[::]:81: in use");
	problems_are(&s, "Gateway shop/edge | spec.listeners[1].port | [::]:81: in use (PortUnavailable)\n");
	store_del(s.store, KIND_GATEWAY, "shop", "edge");
	world_update(s.world);
	problems_are(&s, "");
	scene_free(&s);
}

static void certificates(void **state)
{
	struct scene s = scene_new();
	const struct world_gateway *g;

	secret(&s, "lab", "b");
	gateway(&s, "edge", 2020,
		"{name: a, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: a}]}}, "
		"{name: b, port: 81, protocol: HTTPS, tls: {certificateRefs: [{name: b, namespace: lab}]}}");
	world_update(s.world);
	g = edge(&s, "edge");
	assert_string_equal(g->listener[0].resolved_reason, "InvalidCertificateRef");
	assert_string_equal(g->listener[1].resolved_reason, "RefNotPermitted");
	assert_int_equal(g->plan->listener[1].secrets, 0);
	problems_are(&s, "Gateway shop/edge | spec.listeners[0].tls.certificateRefs[0] | there is no Secret shop/a of "
			 "type kubernetes.io/tls (InvalidCertificateRef)\n"
			 "Gateway shop/edge | spec.listeners[1].tls.certificateRefs[0] | Secret lab/b needs a "
			 "ReferenceGrant (RefNotPermitted)\n");
	secret(&s, "shop", "a");
	yaml(&s, "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {namespace: lab, name: g}\n"
		 "spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}],\n"
		 "  to: [{group: '', kind: Secret, name: b}]}\n");
	world_update(s.world);
	assert_true(g->listener[0].resolved && g->listener[1].resolved);
	problems_are(&s, "");
	assert_int_equal(g->plan->listener[1].secrets, 1);
	store_del(s.store, KIND_REFERENCE_GRANT, "lab", "g");
	world_update(s.world);
	assert_string_equal(g->listener[1].resolved_reason, "RefNotPermitted");
	scene_free(&s);
}

/* What Gateways are not made of leaves their plans as they are. */
static void others_cost_nothing(void **state)
{
	struct scene s = scene_new();
	const struct gateway *was;

	service(&s);
	gateway(&s, "edge", 2020, "{name: http, port: 80, protocol: HTTP}");
	route(&s, "HTTPRoute", "one", 2020, "", "");
	world_update(s.world);
	was = edge(&s, "edge")->plan;
	yaml(&s, "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: other}\n"
		 "spec: {clusterIP: None, ports: [{port: 80}]}\n");
	yaml(&s, "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: p}\nspec: {containers: [{name: a}]}\n"
		 "status: {podIP: 10.1.1.1}\n");
	world_update(s.world);
	assert_ptr_equal(edge(&s, "edge")->plan, was);
	scene_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(routes_come_and_go),	  cmocka_unit_test(what_a_listener_takes),
		cmocka_unit_test(the_oldest_kind_counts), cmocka_unit_test(conflicts),
		cmocka_unit_test(somebody_listens),	  cmocka_unit_test(certificates),
		cmocka_unit_test(others_cost_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
