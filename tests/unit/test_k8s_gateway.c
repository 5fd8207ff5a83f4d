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

	assert_int_equal(o->grant.froms, 2);
	assert_int_equal(o->grant.tos, 1);
	assert_int_equal(o->grant.secrets, 1);
	assert_string_equal(o->grant.secret[0], "");
	assert_true(route_grant_allows(o, KIND_HTTP_ROUTE, "shop", "a"));
	assert_false(route_grant_allows(o, KIND_HTTP_ROUTE, "shop", "b"));
	assert_false(route_grant_allows(o, KIND_HTTP_ROUTE, "other", "a"));
	assert_false(route_grant_allows(o, KIND_GRPC_ROUTE, "shop", "a"));
	decoded_end(&d);
}

/* What is refused, by field and reason; what is only warned of. A rule is `BEFORE the text AFTER`. */
static void refused(void **state)
{
#define R HTTP "  - "
#define GATE "group: gateway.networking.k8s.io, "
#define GRANT(from, to) "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\n" \
			"metadata: {name: g, namespace: lab}\nspec: {from: [{" from "}], to: [{" to "}]}\n"
#define E "HTTPRoute shop/r | spec.rules[0]"
#define FILTER(text) R "filters: [{" text "}]\n" TO
#define MATCH(text) R "matches: [{" text "}]\n" TO
#define F0 E ".filters[0]"
#define M0 E ".matches[0]"
	static const struct {
		const char *yaml, *want; /* a part of what is said; NULL: nothing is said */
	} cases[] = {
		{R "name: x\n" TO, NULL},
		{R "retry: {attempts: 3}\n" TO, E ".retry | is not supported: weft does not retry requests yet"},
		{R "sessionPersistence: {sessionName: a}\n" TO, E ".sessionPersistence | is not supported: "},
		{FILTER("type: ExtensionRef, extensionRef: {name: a}"), F0 ".type | ExtensionRef is not supported"},
		{FILTER("type: ExternalAuth, externalAuth: {}"), F0 ".type | ExternalAuth is not supported"},
		{FILTER("type: Custom"), F0 ".type | \"Custom\" is not a type of filter that weft knows"},
		{FILTER("cors: {}"), F0 ".type | is missing"},
		{FILTER("type: CORS"), F0 ".cors | is missing"},
		{FILTER("type: CORS, cors: {}, urlRewrite: {}"), F0 ".urlRewrite | is not for type CORS"},
		{FILTER("type: CORS, cors: {allowOrigins: [\"ftp://a\"]}"), F0 ".cors.allowOrigins[0] | \"ftp://a\""},
		{FILTER("type: CORS, cors: {allowOrigins: [\"*\", \"http://a\"]}"), "[0] | * must stand alone"},
		{FILTER("type: CORS, cors: {allowMethods: [get]}"), F0
		".cors.allowMethods[0] | \"get\" is not a method"},
		{FILTER("type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a}]}"),
		 F0 ".requestHeaderModifier.set[0].name | Host is no header to change here"},
		{FILTER("type: RequestHeaderModifier, requestHeaderModifier: {remove: [Transfer-Encoding]}"),
		 F0 ".requestHeaderModifier.remove[0] | \"transfer-encoding\" concerns one connection"},
		{FILTER("type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: \"x\\r\\nb: "
		"c\"}]}"),
		 F0 ".requestHeaderModifier.add[0].value | must be 1 to 4096 printable characters"},
		{FILTER("type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: \"a b\", value: x}]}"),
		 F0 ".requestHeaderModifier.add[0].name | \"a b\" is not the name of a header"},
		{FILTER("type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: x}], remove: "
		"[A]}"),
		 F0 ".requestHeaderModifier.remove[0] | \"a\" is also in set or add"},
		{FILTER("type: RequestMirror, requestMirror: {backendRef: {name: a}}"),
		 F0 ".requestMirror.backendRef.port | is missing: a Service needs it"},
		{FILTER("type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 101}"),
		 F0 ".requestMirror.percent | must be a whole number from 0 to 100"},
		{FILTER("type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {numerator: 5, "
			"denominator: 4}}"),
		 F0 ".requestMirror.fraction.numerator | must not be more than the denominator 4"},
		{FILTER("type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: x}}"),
		 F0 ".urlRewrite.path.replaceFullPath | must be a path that starts with"},
		{FILTER("type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/a b'}}"),
		 F0 ".urlRewrite.path.replaceFullPath | must be a path that starts with \"/\", as it stands"},
		{FILTER("type: URLRewrite, urlRewrite: {hostname: \"*.a\"}"), F0
		".urlRewrite.hostname | \"*.a\" is not"},
		{R "matches: [{path: {type: Exact, value: /a}}]\n    filters: [{type: URLRewrite, urlRewrite: {path: "
		"{type: "
		   "ReplacePrefixMatch, replacePrefixMatch: /b}}}]\n" TO,
		 E ".matches | must be one match of type PathPrefix"},
		{FILTER("type: RequestRedirect, requestRedirect: {}"), E
		".filters | RequestRedirect excludes backendRefs"},
		{R "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]\n",
		 F0 ".requestRedirect.statusCode | must be 301, 302, 303, 307 or 308, not 304"},
		{R "filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]\n" TO,
		 E ".filters[1].type | CORS must not be repeated"},
		{MATCH("path: {type: Regex, value: /}"), M0
		".path.type | must be Exact, PathPrefix or RegularExpression"},
		{MATCH("path: {value: a}"), M0 ".path.value | \"a\" can match no request: must start with \"/\""},
		{MATCH("path: {value: /a//b}"), M0
		".path.value | \"/a//b\" can match no request: must not have \"//\""},
		{MATCH("path: {value: /a/../b}"), M0 ".path.value | \"/a/../b\" can match no request"},
		{MATCH("path: {value: /a%2Fb}"), M0 ".path.value | \"/a%2Fb\" can match no request"},
		{MATCH("path: {value: \"/a?b=c\"}"), M0 ".path.value | \"/a?b=c\" can match no request"},
		{MATCH("path: {type: RegularExpression, value: \"(a\"}"), M0
		".path.value | is no regular expression (PCRE2)"},
		{MATCH("method: get"), M0 ".method | must be GET, HEAD"},
		{MATCH("headers: [{name: \":path\", value: a}]"), M0 ".headers[0].name | \":path\" is not the name"},
		{MATCH("headers: [{name: a, value: \"\"}]"), M0 ".headers[0].value | must be text of 1 to 4096"},
		{MATCH("headers: [{name: a, value: b, type: Prefix}]"), M0
		".headers[0].type | must be Exact or Regular"},
		{MATCH("headers: [{name: a, value: b}, {name: A, value: c}]"),
		 M0 ".headers[1].name | \"a\" is given twice: only the first is used"},
		{MATCH("cookies: []"), M0 ".cookies | weft does not know this field: ignored"},
		{R "timeouts: {request: 10}\n" TO, E ".timeouts.request | must be text"},
		{R "timeouts: {request: 1.5s}\n" TO, E ".timeouts.request | must be a duration like 10s"},
		{R "timeouts: {request: 123456s}\n" TO, E ".timeouts.request | must be a duration"},
		{R "timeouts: {request: 1h1m1s1ms1s}\n" TO, E ".timeouts.request | must be a duration"},
		{R "timeouts: {request: \"\"}\n" TO, E ".timeouts.request | must be a duration"},
		{R "timeouts: {request: 1s, backendRequest: 2s}\n" TO, E
		".timeouts.backendRequest | must not be longer"},
		{R "backendRefs: [{name: a}]\n", E ".backendRefs[0].port | is missing: a Service needs it"},
		{R "backendRefs: [{name: a, port: 1, weight: 1000001}]\n", E
		".backendRefs[0].weight | must be a whole"},
		{R "name: x\n", E ".backendRefs | is empty: requests of this rule get status 500"},
		{R "name: x\n" TO "  - name: x\n" TO, "spec.rules[1].name | \"x\" is given twice"},
		{HEAD("HTTPRoute", "v1") "  hostnames: [a.example]\n  rules: [{backendRefs: [{name: a, port: 1}]}]\n",
		 "spec.hostnames | has no effect for a Service (GEP-1294): match the header Host"},
		{HEAD("HTTPRoute", "v1alpha2") "  rules: []\n",
		"apiVersion | \"gateway.networking.k8s.io/v1alpha2\" is not"},
		{"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n"
		 "  parentRefs: [{kind: Mesh, group: x, name: edge}]\n"
		 "  rules: [{backendRefs: [{name: a, port: 1}]}]\n",
		 "spec.parentRefs | names no Service (group \"\", kind Service) and no Gateway: "
		 "the route has no effect in weft"},
		{"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n"
		 "  parentRefs: [{kind: Service, name: web}]\n",
		"spec.parentRefs[0].group | must be \"\" for a Service"},
		{GRPC "  - matches: [{method: {}}]\n" TO, "matches[0].method | must have service or method"},
		{GRPC "  - matches: [{method: {service: a/b}}]\n" TO, "method.service | must be of letters"},
		{GRPC "  - filters: [{type: CORS, cors: {}}]\n" TO,
		"\"CORS\" is not a type of filter that weft knows for a GRPC"},
		{GRPC "  - timeouts: {request: 1s}\n" TO,
		"spec.rules[0].timeouts | weft does not know this field: ignored"},
		{HEAD("TCPRoute", "v1") "  rules: []\n", "spec.rules | is empty"},
		/* what is left out of a grant grants more */
		{GRANT(GATE "kind: HTTPRoute, namespace: a", "kind: Service, nme: web"),
		 "ReferenceGrant lab/g | spec.to[0].nme | weft does not know this field"},
		{GRANT(GATE "kind: HTTPRoute, namespace: a", "kind: Service, name: \"\""),
		 "spec.to[0].name | is empty: it would grant all; leave it out if that is meant"},
		{GRANT(GATE "kind: HTTPRoute, namespace: a, account: b", "kind: Service"),
		 "spec.from[0].account | weft does not know this field"},
		{GRANT("kind: HTTPRoute, namespace: a", "kind: Service"), "spec.from[0].group | is missing"},
		{GRANT("group: x.y, kind: Z, namespace: a, b: c", "group: x.y, kind: Z, nme: w"), NULL},
		{HEAD("TLSRoute", "v1") "  hostnames: [\"a.*\"]\n  rules: [{backendRefs: [{name: a, port: 1}]}]\n",
		 "spec.hostnames[0] | \"a.*\" is not a host name"},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct decoded d;
		bool warning;

		decoded_begin(&d);
		decoded_add(&d, cases[i].yaml);
		if (cases[i].want ? !strstr(d.problems.data, cases[i].want) : d.problems.len)
			fail_msg("%sgave:\n%s\nnot: %s", cases[i].yaml, d.problems.data, cases[i].want);
		warning = !strstr(d.problems.data, "\n") || text_starts(d.problems.data, "warning");
		assert_int_equal(d.objects, warning);
		assert_int_equal(d.rejects, !warning);
		decoded_end(&d);
	}
}

static void limits(void **state)
{
	static const struct {
		const char *before, *each, *after, *want;
		unsigned most;
	} cases[] = {
		{HTTP, "  - backendRefs: [{name: web, port: 80}]\n", "",
		"spec.rules | has 17 items; weft takes at most 16", 16},
		{HTTP "  - matches:\n", "    - {path: {value: /a}}\n", TO, "has 65 items; weft takes at most 64", 64},
		{HTTP "  - backendRefs:\n", "    - {name: web, port: 80}\n", "",
		"has 17 items; weft takes at most 16", 16},
	};

	for (size_t i = 0; i < array_size(cases); i++)
		for (unsigned more = 0; more < 2; more++) {
			struct text t = {0};
			struct decoded d;

			text_add(&t, "%s", cases[i].before);
			for (unsigned n = 0; n < cases[i].most + more; n++)
				text_add(&t, "%s", cases[i].each);
			text_add(&t, "%s", cases[i].after);
			decoded_begin(&d);
			decoded_add(&d, t.data);
			if (!more && d.problems.len)
				fail_msg("%s", d.problems.data);
			if (more && !strstr(d.problems.data, cases[i].want))
				fail_msg("%s not %s", d.problems.data, cases[i].want);
			decoded_end(&d);
			text_free(&t);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(http_route),
		cmocka_unit_test(filters),
		cmocka_unit_test(others),
		cmocka_unit_test(grants),
		cmocka_unit_test(refused),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
