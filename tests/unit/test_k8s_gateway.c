/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of the Gateway API to objects: what is read, and a table of what is refused, by its field. */
#include "decoded.h"
#include "route.h"

#define HEAD(kind, version)                                                                                       \
	"apiVersion: gateway.networking.k8s.io/" version "\nkind: " kind "\nmetadata: {name: r, namespace: shop}\n" \
	"spec:\n  parentRefs: [{group: \"\", kind: Service, name: web}]\n"
#define HTTP HEAD("HTTPRoute", "v1") "  rules:\n"
#define GRPC HEAD("GRPCRoute", "v1") "  rules:\n"
#define TO "    backendRefs: [{name: web, port: 80}]\n"

static struct object *one(struct decoded *d, const char *yaml)
{
	decoded_begin(d);
	decoded_add(d, yaml);
	assert_string_equal(d->problems.data, "");
	assert_int_equal(d->objects, 1);
	return d->object[0];
}

static void is_text(struct http_text t, const char *want)
{
	assert_int_equal(t.len, strlen(want));
	assert_memory_equal(t.at, want, t.len);
}

static void http_route(void **state)
{
	struct decoded d;
	struct object *o = one(
		&d,
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
		"metadata: {name: canary, namespace: shop, creationTimestamp: \"2026-01-31T12:00:01Z\"}\n"
		"spec:\n"
		"  parentRefs:\n"
		"  - {group: \"\", kind: Service, name: web, port: 80}\n"
		"  - {group: \"\", kind: Service, name: api, namespace: other, sectionName: http}\n"
		"  - {name: edge}\n"
		"  rules:\n"
		"  - name: one\n"
		"    matches:\n"
		"    - path: {type: Exact, value: /a%62c/%c3%a9}\n"
		"      method: POST\n"
		"      headers:\n      - {name: X-Canary, value: \"true\"}\n"
		"      - {name: x-v, type: RegularExpression, value: \"v[0-9]\"}\n"
		"      queryParams: [{name: Q, value: x}]\n"
		"    - headers: [{name: a, value: b}]\n"
		"    timeouts: {request: 1m30s, backendRequest: 250ms}\n"
		"    backendRefs:\n"
		"    - {name: web-v1, port: 8080, weight: 90}\n"
		"    - {name: web-v2, port: 8080, namespace: lab, weight: 0}\n"
		"  - backendRefs: [{kind: ServiceImport, group: multicluster.x-k8s.io, name: far}]\n"
		"    timeouts: {request: 0s, backendRequest: 3s}\n");
	const struct object_route *r = &o->route;

	assert_int_equal(o->kind, KIND_HTTP_ROUTE);
	assert_int_equal(r->parents, 3);
	assert_null(r->parent[0].kind);
	assert_string_equal(r->parent[0].namespace, "shop");
	assert_int_equal(r->parent[0].port, 80);
	assert_string_equal(r->parent[1].namespace, "other");
	assert_string_equal(r->parent[1].section, "http");
	assert_string_equal(r->parent[2].kind, "Gateway");
	assert_int_equal(r->rules, 2);
	assert_string_equal(r->rule[0].name, "one");
	assert_int_equal(r->rule[0].matches, 2);
	assert_int_equal(r->rule[0].match[0].type, ROUTE_EXACT);
	assert_string_equal(r->rule[0].match[0].path, "/abc/%C3%A9");
	assert_string_equal(r->rule[0].match[0].method, "POST");
	assert_int_equal(r->rule[0].match[0].headers, 2);
	assert_string_equal(r->rule[0].match[0].header[0].name, "x-canary");
	assert_true(r->rule[0].match[0].header[1].regex);
	assert_string_equal(r->rule[0].match[0].query[0].name, "Q");
	assert_int_equal(r->rule[0].match[1].type, ROUTE_PREFIX);
	assert_string_equal(r->rule[0].match[1].path, "/");
	assert_int_equal(r->rule[0].request_ns, 90000000000);
	assert_int_equal(r->rule[0].backend_ns, 250000000);
	assert_int_equal(r->rule[0].backend[0].weight, 90);
	assert_int_equal(r->rule[0].backend[1].weight, 0);
	assert_string_equal(r->rule[0].backend[1].namespace, "lab");
	assert_string_equal(r->rule[1].backend[0].kind, "ServiceImport");
	assert_int_equal(r->rule[1].matches, 1);
	assert_int_equal(r->rule[1].request_ns, 0);
	assert_true(route_has_parent(o, "shop", "web", 80, ""));
	assert_false(route_has_parent(o, "shop", "web", 81, ""));
	assert_true(route_has_parent(o, "other", "api", 81, "http"));
	assert_false(route_has_parent(o, "other", "api", 81, "https"));
	assert_false(route_has_parent(o, "shop", "edge", 80, ""));
	decoded_end(&d);
}

static void filters(void **state)
{
	struct decoded d;
	struct object *o = one(
		&d,
		HTTP "  - matches: [{path: {value: /x}}]\n"
		     "    filters:\n"
		     "    - type: RequestHeaderModifier\n"
		     "      requestHeaderModifier:\n"
		     "        set: [{name: X-Set, value: a}]\n"
		     "        add: [{name: X-Add, value: \"b, c\"}]\n"
		     "        remove: [X-Gone]\n"
		     "    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: yy, value: z}]}}\n"
		     "    - {type: URLRewrite, urlRewrite: {hostname: a.example, path: {type: ReplacePrefixMatch, "
		     "replacePrefixMatch: /y}}}\n"
		     "    - {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 81}, percent: 5}}\n"
		     "    - {type: RequestMirror, requestMirror: {backendRef: {name: mm, port: 82, namespace: lab}, "
		     "fraction: {numerator: 1, denominator: 3}}}\n"
		     "    - type: CORS\n"
		     "      cors: {allowOrigins: [\"https://WWW.example:443\", \"http://*.a.example:8080\"], "
		     "allowCredentials: true, allowMethods: [GET, PUT], allowHeaders: [\"*\"], exposeHeaders: [X-A], "
		     "maxAge: 7}\n" TO
		     "  - filters:\n"
		     "    - type: RequestRedirect\n"
		     "      requestRedirect: {scheme: https, hostname: b.example, port: 8443, statusCode: 308, path: "
		     "{type: ReplaceFullPath, replaceFullPath: /z}}\n");
	const struct object_route_rule *r = o->route.rule;
	const struct route_filter *f = r[0].filter;

	assert_int_equal(r[0].filters, 6);
	assert_int_equal(f[0].kind, FILTER_REQUEST_HEADERS);
	is_text(f[0].headers.set[0].name, "X-Set");
	is_text(f[0].headers.add[0].value, "b, c");
	is_text(f[0].headers.remove[0], "x-gone");
	assert_int_equal(f[1].kind, FILTER_RESPONSE_HEADERS);
	assert_int_equal(f[1].headers.adds, 1);
	assert_int_equal(f[2].kind, FILTER_REWRITE);
	is_text(f[2].url.host, "a.example");
	assert_int_equal(f[2].url.change, PATH_PREFIX);
	is_text(f[2].url.path, "/y");
	assert_string_equal(f[3].mirror.target.service, "m");
	assert_int_equal(f[3].mirror.numerator, 5);
	assert_int_equal(f[3].mirror.denominator, 100);
	assert_string_equal(f[4].mirror.target.namespace, "lab");
	assert_int_equal(f[4].mirror.denominator, 3);
	assert_int_equal(f[5].cors.origins, 2);
	is_text(f[5].cors.origin[0], "https://www.example");
	is_text(f[5].cors.origin[1], "http://*.a.example:8080");
	is_text(f[5].cors.methods, "GET, PUT");
	is_text(f[5].cors.headers, "*");
	is_text(f[5].cors.expose, "X-A");
	assert_true(f[5].cors.credentials);
	assert_int_equal(f[5].cors.max_age_s, 7);
	f = r[1].filter;
	assert_int_equal(f[0].kind, FILTER_REDIRECT);
	is_text(f[0].url.scheme, "https");
	assert_int_equal(f[0].url.port, 8443);
	assert_int_equal(f[0].url.status, 308);
	assert_int_equal(f[0].url.change, PATH_FULL);
	decoded_end(&d);
}

static void others(void **state)
{
	struct decoded d;
	struct object *o = one(&d, GRPC "  - matches:\n    - method: {service: a.B, method: C}\n"
					"      headers: [{name: K, value: v}]\n"
					"    - method: {type: RegularExpression, service: \"a[.].*\"}\n" TO
					"  - backendRefs:\n    - name: web\n      port: 80\n      filters:\n"
					"      - type: RequestHeaderModifier\n"
					"        requestHeaderModifier: {remove: [a]}\n");
	const struct object_route_match *m = o->route.rule[0].match;

	assert_string_equal(m[0].service, "a.B");
	assert_string_equal(m[0].grpc_method, "C");
	assert_int_equal(m[0].type, ROUTE_EXACT);
	assert_string_equal(m[0].header[0].name, "k");
	assert_int_equal(m[1].type, ROUTE_REGEX);
	assert_null(m[1].grpc_method);
	assert_int_equal(o->route.rule[1].matches, 1);
	assert_null(o->route.rule[1].match[0].service);
	assert_int_equal(o->route.rule[1].backend[0].filters, 1);
	decoded_end(&d);
	o = one(&d, HEAD("TLSRoute", "v1alpha3") "  hostnames: [A.example, \"*.b.example\"]\n"
						 "  rules: [{backendRefs: [{name: web, port: 443}]}]\n");
	assert_string_equal(o->route.hostnames.item[0], "a.example");
	assert_string_equal(o->route.hostnames.item[1], "*.b.example");
	decoded_end(&d);
	o = one(&d, HEAD("TCPRoute", "v1") "  rules:\n"
					   "  - {name: x, backendRefs: [{name: w, port: 443, weight: 7}]}\n");
	assert_int_equal(o->route.rule[0].backend[0].weight, 7);
	decoded_end(&d);
}

static void grants(void **state)
{
	struct decoded d;
	struct object *o = one(&d, "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n"
				   "metadata: {name: g, namespace: lab}\nspec:\n  from:\n"
				   "  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}\n"
				   "  - {group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}\n"
				   "  to: [{group: \"\", kind: Service, name: a}, {group: \"\", kind: Secret}]\n");

	assert_int_equal(o->grant.froms, 1);
	assert_int_equal(o->grant.tos, 1);
	assert_true(route_grant_allows(o, KIND_HTTP_ROUTE, "shop", "a"));
	assert_false(route_grant_allows(o, KIND_HTTP_ROUTE, "shop", "b"));
	assert_false(route_grant_allows(o, KIND_HTTP_ROUTE, "other", "a"));
	assert_false(route_grant_allows(o, KIND_GRPC_ROUTE, "shop", "a"));
	decoded_end(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http_route),
		cmocka_unit_test(filters),
		cmocka_unit_test(others),
		cmocka_unit_test(grants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
