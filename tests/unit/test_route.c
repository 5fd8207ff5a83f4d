/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rule is a request's: tables with the cases of the Gateway API's conformance tests (their shapes, for a Service
 * as parent), and of what they leave open.
 */
#include "routed.h"

#define META(kind, name, more)                                                                                    \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: " kind "\n"                                         \
	"metadata: {name: " name ", namespace: shop" more "}\n"
#define PARENT "spec:\n  parentRefs: [{group: \"\", kind: Service, name: web}]\n  rules:\n"
#define ROUTE(name) META("HTTPRoute", name, "") PARENT
#define GRPC(name) META("GRPCRoute", name, "") PARENT
#define TO(service) "    backendRefs: [{name: " service ", port: 8080}]\n"
#define PATH(path) "  - matches: [{path: " path "}]\n"

static void table(const char *yaml, const char *const (*ask)[2], size_t count)
{
	struct routed r;

	routed_begin(&r, yaml);
	for (size_t i = 0; i < count; i++)
		routed_is(&r, ask[i][0], ask[i][1]);
	routed_end(&r);
}
#define TABLE(yaml, ...)                                                                                          \
	do {                                                                                                      \
		static const char *const ask[][2] = {__VA_ARGS__};                                                \
		table(yaml, ask, array_size(ask));                                                                \
	} while (0)

/* HTTPRouteMatching, MeshHTTPRouteMatching */
static void matching(void **state)
{
	TABLE(ROUTE("matching")
	      "  - matches: [{path: {type: PathPrefix, value: /}}, {headers: [{name: version, value: one}]}]\n"
	      TO("v1")
	      "  - matches: [{path: {type: PathPrefix, value: /v2}}, {headers: [{name: version, value: two}]}]\n"
	      TO("v2"),
	      {"GET /", "v1:8080"}, {"GET /example", "v1:8080"}, {"GET / Version:one", "v1:8080"},
	      {"GET /v2", "v2:8080"}, {"GET /v2/example", "v2:8080"}, {"GET / Version:two", "v2:8080"},
	      {"GET /v2/", "v2:8080"}, {"GET /v2example", "v1:8080"}, {"GET /v2 Version:one", "v2:8080"},
	      {"GET /foo/v2/example", "v1:8080"});
}

/* HTTPRoutePathMatchOrder; a regular expression stands between prefixes and "/" */
static void path_order(void **state)
{
	TABLE(ROUTE("order")
	      PATH("{type: PathPrefix, value: /}") TO("any")
	      PATH("{type: PathPrefix, value: /match}") TO("p1")
	      PATH("{type: PathPrefix, value: /match/prefix/}") TO("p2")
	      PATH("{type: Exact, value: /match/exact}") TO("e1")
	      PATH("{type: PathPrefix, value: /match/prefix/one}") TO("p3")
	      PATH("{type: Exact, value: /match/prefix/one/two}") TO("e2")
	      PATH("{type: RegularExpression, value: \"/re/[a-z]+\"}") TO("r1")
	      PATH("{type: RegularExpression, value: \"/re/.*\"}") TO("r2")
	      PATH("{type: Exact, value: /slash/}") TO("e3"),
	      {"GET /match/exact", "e1:8080"}, {"GET /match/exact/", "p1:8080"},
	      {"GET /match/exact/more", "p1:8080"}, {"GET /match/prefix", "p2:8080"},
	      {"GET /match/prefix/", "p2:8080"}, {"GET /match/prefix/one/two", "e2:8080"},
	      {"GET /match/prefix/one/two/x", "p3:8080"}, {"GET /match/prefix/oneone", "p2:8080"},
	      {"GET /match/prefixes", "p1:8080"}, {"GET /matched", "any:8080"}, {"GET /Match", "any:8080"},
	      {"GET /re/abc", "r1:8080"}, {"GET /re/ABC", "r2:8080"}, {"GET /x/re/abc", "any:8080"},
	      {"GET /re/abc/d", "r2:8080"}, {"GET /slash/", "e3:8080"}, {"GET /slash", "any:8080"},
	      {"GET /%6Datch/%65xact?a=b", "e1:8080"}, {"GET /match/./x/../exact", "e1:8080"},
	      {"OPTIONS *", "any:8080"});
}

/* HTTPRouteHeaderMatching; joined values, Host, regular expressions */
static void headers(void **state)
{
#define H(list, service) "  - matches: [{headers: [" list "]}]\n" TO(service)
	TABLE(ROUTE("headers")
	      H("{name: version, value: one}", "v1")
	      H("{name: version, value: two}", "v2")
	      H("{name: version, value: two}, {name: color, value: orange}", "v3")
	      "  - matches: [{headers: [{name: Color, value: blue}]}, {headers: [{name: color, value: green}]}]\n"
	      TO("v4")
	      H("{name: list, value: \"a,b c\"}", "v5")
	      H("{name: Host, value: \"A.example:80\"}", "v6")
	      H("{name: re, type: RegularExpression, value: \"x|y+\"}", "v7")
	      H("{name: re, type: RegularExpression, value: \"y.*\"}", "v8")
	      H("{name: cookie, value: \"a=1; b=2\"}", "v9"),
	      {"GET / version:one", "v1:8080"}, {"GET / VERSION:two", "v2:8080"}, {"GET / version:One", "404"},
	      {"GET / version:two color:orange", "v3:8080"}, {"GET / color:blue", "v4:8080"},
	      {"GET / color:green", "v4:8080"}, {"GET / color:orange", "404"},
	      {"GET / version:two color:blue", "v2:8080"}, {"GET / version:", "404"},
	      {"GET / list:a List:b_c", "v5:8080"}, {"GET / list:a,b_c", "v5:8080"},
	      {"GET / list:b_c list:a", "404"}, {"GET / host:a.example:8080", "v6:8080"},
	      {"GET / host:b.example", "404"}, {"GET / re:x", "v7:8080"}, {"GET / re:yyy", "v7:8080"},
	      {"GET / re:yx", "v8:8080"}, {"GET / re:xx", "404"}, {"GET / re:x re:x", "404"},
	      {"GET / cookie:a=1 cookie:b=2", "v9:8080"});
#undef H
}

/* HTTPRouteMethodMatching with its precedences, HTTPRouteQueryParamMatching */
static void methods_and_queries(void **state)
{
#define M(match, service) "  - matches: [{" match "}]\n" TO(service)
	TABLE(ROUTE("methods")
	      M("method: POST", "v1")
	      M("method: GET", "v2")
	      M("headers: [{name: version, value: four}]", "v3")
	      M("path: {value: /path1}, method: GET", "v4")
	      M("headers: [{name: version, value: one}], method: PUT", "v5")
	      M("path: {value: /path2}, method: POST, headers: [{name: version, value: two}]", "v6")
	      M("path: {value: /path3}, method: PATCH", "v7")
	      M("path: {value: /path3}", "v8"),
	      {"POST /", "v1:8080"}, {"GET /", "v2:8080"}, {"HEAD /", "404"}, {"GET /path1", "v4:8080"},
	      {"PUT / version:one", "v5:8080"}, {"POST /path2 version:two", "v6:8080"},
	      {"POST /path2 version:two", "v6:8080"}, {"POST /path2", "v1:8080"}, {"GET / version:four", "v2:8080"},
	      {"PUT / version:four", "v3:8080"}, {"PATCH /path3/x", "v7:8080"}, {"PURGE /path3", "v8:8080"},
	      {"get /", "404"});
#define Q(list, service) M("queryParams: [" list "]", service)
	TABLE(ROUTE("queries")
	      Q("{name: animal, value: whale}", "v1")
	      Q("{name: animal, value: dolphin}", "v2")
	      Q("{name: animal, value: dolphin}, {name: color, value: blue}", "v3")
	      "  - matches: [{queryParams: [{name: ANIMAL, value: Whale}]}, {queryParams: [{name: sp, value: "
	      "\"a b\"}]}]\n" TO("v4")
	      Q("{name: color, value: yellow}", "v5")
	      M("path: {value: /path1}, queryParams: [{name: animal, value: whale}]", "v6")
	      M("headers: [{name: version, value: one}], queryParams: [{name: animal, value: whale}]", "v7")
	      Q("{name: re, type: RegularExpression, value: \"[0-9]+\"}", "v8"),
	      {"GET /?animal=whale", "v1:8080"}, {"GET /?animal=dolphin", "v2:8080"},
	      {"GET /?animal=dolphin&color=blue", "v3:8080"}, {"GET /?color=blue&animal=dolphin", "v3:8080"},
	      {"GET /?ANIMAL=Whale", "v4:8080"}, {"GET /?animal=Whale", "404"}, {"GET /?sp=a%20b", "v4:8080"},
	      {"GET /?s%70=a%20b", "v4:8080"}, {"GET /?sp=a+b", "404"}, {"GET /?color=yellow&x", "v5:8080"},
	      {"GET /?animal=whale&animal=dolphin", "v1:8080"}, {"GET /?animal=dolphin&animal=whale", "v2:8080"},
	      {"GET /path1?animal=whale", "v6:8080"}, {"GET /?animal=whale version:one", "v7:8080"},
	      {"GET /?re=12", "v8:8080"}, {"GET /?re=1a", "404"}, {"GET /?", "404"}, {"GET /?animal", "404"},
	      {"GET /?xanimal=whale", "404"}, {"GET /?&&animal=whale", "v1:8080"}, {"GET /?animal=%2", "404"});
#undef M
#undef Q
}

/* HTTPRouteMatchingAcrossRoutes, ages and names, MeshHTTPRouteNamedRule */
static void across_routes(void **state)
{
	TABLE(ROUTE("part1")
	      "  - matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}]\n" TO("v1")
	      ROUTE("part2")
	      "  - matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}]\n" TO("v2"),
	      {"GET /", "v1:8080"}, {"GET /v2", "v2:8080"}, {"GET / version:two", "v2:8080"},
	      {"GET /v2/example", "v2:8080"}, {"GET /v2 version:one", "v2:8080"}, {"GET / version:one", "v1:8080"});
	TABLE(META("HTTPRoute", "a", ", creationTimestamp: \"2026-01-02T00:00:00Z\"") PARENT
	      "  - name: young\n" TO("v1")
	      META("HTTPRoute", "z", ", creationTimestamp: \"2026-01-01T00:00:00Z\"") PARENT
	      "  - name: old\n" TO("v2"),
	      {"GET /", "[old] v2:8080"});
	TABLE(ROUTE("bb")
	      "  - name: two\n" TO("v1")
	      ROUTE("aa")
	      "  - name: one\n" TO("v2")
	      "  - name: late\n" TO("v3"),
	      {"GET /", "[one] v2:8080"});
}

/* HTTPRouteWeight, and backends that cannot be */
static void weights(void **state)
{
	struct routed r;
	unsigned hit[3] = {0};
	const struct route_rule *rule;

	routed_begin(&r, ROUTE("weight") "  - backendRefs:\n    - {name: v1, port: 8080, weight: 70}\n"
					 "    - {name: v2, port: 8080, weight: 30}\n    - {name: v3, port: 8080, "
					"weight: 0}\n"
					 "  - matches: [{path: {value: /zero}}]\n"
					 "    backendRefs: [{name: v1, port: 80, weight: 0}]\n");
	routed_is(&r, "GET /", "v1:8080*70+v2:8080*30+v3:8080*0");
	rule = routed_find(&r, "GET /").rule;
	for (uint64_t i = 0; i < 1000; i++)
		hit[route_backend(rule, i * (UINT64_MAX / 1000)) - rule->backend]++;
	assert_in_range(hit[0], 699, 701);
	assert_in_range(hit[1], 299, 301);
	assert_int_equal(hit[2], 0);
	assert_ptr_equal(route_backend(rule, UINT64_MAX), &rule->backend[1]);
	assert_ptr_equal(route_backend(rule, 0), &rule->backend[0]);
	assert_null(route_backend(routed_find(&r, "GET /zero").rule, 1));
	routed_end(&r);
}

static void status_is(const struct route_status *s, const char *accepted, const char *resolved, const char *message)
{
	assert_string_equal(s->accepted_reason, accepted);
	assert_int_equal(s->accepted, !strcmp(accepted, "Accepted"));
	assert_string_equal(s->resolved_reason, resolved);
	assert_int_equal(s->resolved, !strcmp(resolved, "ResolvedRefs"));
	assert_string_equal(s->message, message);
}

static void references(void **state)
{
	static const struct {
		const char *yaml, *answer, *resolved, *message;
	} cases[] = {
		{ROUTE("r") "  - backendRefs: [{name: none, port: 8080}, {name: v1, port: 80}]\n",
		"!none:8080*1+v1:80*1",
		 "BackendNotFound", "spec.rules[0].backendRefs[0]: there is no Service shop/none with port 8080"},
		{ROUTE("r") "  - backendRefs: [{name: v1, namespace: lab, port: 80}]\n", "!lab/v1:80",
		"RefNotPermitted",
		 "spec.rules[0].backendRefs[0]: Service lab/v1 needs a ReferenceGrant there"},
		{ROUTE("r") "  - backendRefs: [{name: v1, namespace: lab, port: 80}]\n"
			    "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n"
			    "metadata: {name: g, namespace: lab}\nspec:\n  from: [{group: gateway.networking.k8s.io, "
			"kind: "
			    "HTTPRoute, namespace: shop}]\n  to: [{group: \"\", kind: Service}]\n",
		 "lab/v1:80", "ResolvedRefs", ""},
		{ROUTE("r") "  - backendRefs: [{name: v1, kind: Bucket, group: example.com}]\n", "!v1:0", "InvalidKind",
		 "spec.rules[0].backendRefs[0]: Bucket is no kind that weft sends to: use a Service"},
		{ROUTE("r") "  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: none, port: "
		"1}}}]\n" TO("v1"),
		 "v1:8080", "BackendNotFound",
		 "spec.rules[0].filters[0].requestMirror.backendRef: there is no Service shop/none with port 1"},
		{ROUTE("r") "  - {}\n", "500", "ResolvedRefs", ""},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct routed r;

		routed_begin(&r, cases[i].yaml);
		routed_is(&r, "GET /", cases[i].answer);
		status_is(&r.status[0], "Accepted", cases[i].resolved, cases[i].message);
		routed_end(&r);
	}
}

#define FROM(name, space, more, rules)                                                                            \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: " name ", namespace: " space \
	"}\nspec:\n  parentRefs: [{group: \"\", kind: Service, name: web, namespace: shop" more "}]\n  rules:\n" rules

/* MeshConsumerRoute, MeshPorts, MeshFrontend */
static void parents(void **state)
{
	struct routed r;
	struct route_status s;

	/* A consumer's route may name the Service that it is for without a grant, and no other. */
	routed_begin(&r, FROM("p", "shop", "", "  - name: producer\n" TO("web"))
			 FROM("c", "lab", "", "  - name: consumer\n    matches: [{path: {value: /c}}]\n"
					      "    backendRefs: [{name: web, namespace: shop, port: 80}]\n")
			 FROM("d", "far", "", "  - backendRefs: [{name: other, namespace: shop, port: 80}]\n"));
	routed_is(&r, "GET /c @shop", "[producer] web:8080");
	routed_is(&r, "GET /c @elsewhere", "[producer] web:8080");
	routed_is(&r, "GET /c @lab", "[consumer] web:80");
	routed_is(&r, "GET / @lab", "404");
	routed_is(&r, "GET / @far", "!other:80");
	assert_true(route_table_has(r.table, ROUTE_HTTP, "lab"));
	assert_false(route_table_has(r.table, ROUTE_GRPC, "lab"));
	routed_end(&r);

	/* Only a consumer has routes: the others have none, which is not "no route matches". */
	routed_begin(&r, FROM("c", "lab", "", "  - name: consumer\n"));
	assert_true(route_table_has(r.table, ROUTE_HTTP, "lab"));
	assert_false(route_table_has(r.table, ROUTE_HTTP, "shop"));
	routed_is(&r, "GET / @lab", "[consumer] 500");
	routed_end(&r);

	routed_begin(&r, FROM("all", "shop", "", "  - name: all\n") FROM("one", "shop", ", port: 80",
	"  - name: eighty\n    "
		     "matches: [{path: {value: /x}}]\n") FROM("two", "shop", ", sectionName: https",
		"  - name: https\n    "
		     "matches: [{path: {value: /x}}]\n"));
	routed_is(&r, "GET /x", "[eighty] 500");
	routed_compile(&r, "shop", "web", 443, "https");
	routed_is(&r, "GET /x", "[https] 500");
	routed_compile(&r, "shop", "web", 7070, "");
	routed_is(&r, "GET /x", "[all] 500");
	routed_compile(&r, "shop", "other", 80, "");
	assert_null(r.table);
	route_no_parent(r.d.object[1], 0, &s);
	status_is(&s, "NoMatchingParent", "ResolvedRefs", "spec.parentRefs[0]: no port 80 of a Service shop/web");
	routed_end(&r);
}

/* GEP-1294: of several kinds on one port one counts */
static void conflicts(void **state)
{
	struct routed r;

	routed_begin(&r, ROUTE("h") "  - {}\n" GRPC("g") "  - matches: [{method: {service: a.B}}]\n" TO("v1")
			 META("TCPRoute", "t", "") PARENT "  -\n" TO("v2"));
	routed_is(&r, "POST /a.B/C", "v1:8080");
	routed_is(&r, "GET /", "404");
	status_is(&r.status[1], "Accepted", "ResolvedRefs", "");
	assert_string_equal(r.status[0].accepted_reason, "Conflicted");
	assert_string_equal(r.status[2].accepted_reason, "Conflicted");
	assert_false(r.status[2].accepted);
	assert_true(route_table_has(r.table, ROUTE_GRPC, "shop"));
	assert_null(route_find_tcp(r.table, "shop"));
	routed_end(&r);
}

/* GRPCExactMethodMatching, GRPCRouteHeaderMatching, GRPCRouteNamedRule, MeshGRPCRouteWeight */
static void grpc(void **state)
{
#define G(match, service) "  - matches: [{" match "}]\n" TO(service)
	TABLE(GRPC("g")
	      G("method: {method: Echo}", "v0")
	      G("method: {service: pkg.Echo, method: Echo}", "v1")
	      G("method: {service: pkg.Echo}", "v2")
	      G("method: {service: pkg.Echo, method: Echo}, headers: [{name: version, value: two}]", "v3")
	      G("method: {type: RegularExpression, service: \"pkg[.]R.*\", method: \"Get.*\"}", "v4")
	      G("method: {type: RegularExpression, method: \"List.*\"}", "v5")
	      G("headers: [{name: color, value: blue}]", "v6"),
	      {"POST /pkg.Echo/Echo", "v1:8080"}, {"POST /pkg.Echo/EchoTwo", "v2:8080"},
	      {"POST /other/Echo", "v0:8080"}, {"POST /pkg.Echo/Echo version:two", "v3:8080"},
	      {"POST /pkg.EchoX/Y", "404"}, {"POST /pkg.Rx/GetIt", "v4:8080"}, {"POST /pkg.Rx/Put", "404"},
	      {"POST /x/Listen", "v5:8080"}, {"POST /x/y color:blue", "v6:8080"},
	      {"POST /pkg.Echo/Echo color:blue", "v1:8080"}, {"POST /", "404"}, {"POST /pkg.echo/Echo", "v0:8080"});
	TABLE(GRPC("w")
	      "  - name: all\n    backendRefs: [{name: v1, port: 1, weight: 9}, {name: v2, port: 2}]\n",
	      {"POST /a/b", "[all] v1:1*9+v2:2*1"});
#undef G
}

static void connections(void **state)
{
#define TLS(name, hosts, service)                                                                                 \
	META("TLSRoute", name, "") "spec:\n  parentRefs: [{group: \"\", kind: Service, name: web}]\n"             \
				   "  hostnames: [" hosts "]\n  rules:\n  -\n" TO(service)
	static const char *const names[][2] = {
		{"a.example", "v1:8080"}, {"A.Example", "v1:8080"}, {"b.example", "v2:8080"}, {"x.y.example",
		"v2:8080"},
		{"x.deep.example", "v3:8080"}, {"deep.example", "v2:8080"}, {"example", "404"}, {"", "404"},
		{".example", "404"}, {"c.example.org", "404"}, {"*.example", "v2:8080"}};
	struct routed r;

	routed_begin(&r, TLS("aa", "a.example", "v1") TLS("bb", "\"*.example\"", "v2") TLS("cc", "\"*.deep.example\"",
	"v3")
			 TLS("dd", "a.example", "late"));
	for (size_t i = 0; i < array_size(names); i++) {
		struct text t = {0};

		routed_answer(route_find_tls(r.table, names[i][0], "shop"), &t);
		if (strcmp(t.data, names[i][1]))
			fail_msg("%s: %s, should be %s", names[i][0], t.data, names[i][1]);
		text_free(&t);
	}
	assert_null(route_find_tcp(r.table, "shop"));
	assert_null(routed_find(&r, "GET /").rule);
	routed_end(&r);
	routed_begin(&r, META("TCPRoute", "bb", "") PARENT "  -\n" TO("v2") META("TCPRoute", "aa", "") PARENT
		     "  - backendRefs: [{name: v1, port: 1, weight: 3}, {name: v2, port: 2, weight: 1}]\n");
	assert_string_equal(route_find_tcp(r.table, "shop")->route, "shop/aa");
	assert_int_equal(route_find_tcp(r.table, "shop")->weights, 4);
	assert_null(route_find_tls(r.table, "x", "shop"));
	routed_end(&r);
}

/* The filters of the mesh cases reach the rule as they were read, in memory of the table's own. */
static void filters(void **state)
{
	struct routed r;
	struct route_found f;

	routed_begin(&r, ROUTE("f")
	"  - matches: [{path: {value: /old/}}]\n    timeouts: {request: 2s, backendRequest: 500ms}\n"
				    "    filters:\n"
				    "    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, "
				"replacePrefixMatch: /new}}}\n"
				    "    - {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 9}, "
				"percent: 20}}\n"
				    "    backendRefs:\n    - name: v1\n      port: 8080\n      filters:\n"
				    "      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: "
				"X-Request-Id, value: a}]}}\n"
				    "  - matches: [{path: {type: Exact, value: /gone}}]\n    filters:\n"
				    "    - {type: RequestRedirect, requestRedirect: {hostname: example.org, "
				"statusCode: 301}}\n");
	for (unsigned i = 0; i < r.d.objects; i++)
		object_free(r.d.object[i]);
	r.d.objects = 0;
	f = routed_find(&r, "GET /old/thing");
	assert_int_equal(f.prefix, 4);
	assert_int_equal(f.rule->request_ns, 2000000000);
	assert_int_equal(f.rule->backend_ns, 500000000);
	assert_int_equal(f.rule->filter[0].url.change, PATH_PREFIX);
	assert_memory_equal(f.rule->filter[0].url.path.at, "/new", 5);
	assert_string_equal(f.rule->filter[1].mirror.target.service, "copy");
	assert_int_equal(f.rule->filter[1].mirror.numerator, 20);
	assert_int_equal(f.rule->filter[1].mirror.target.hash, route_target_hash("shop", "copy", 9));
	assert_int_equal(f.rule->backend[0].filter[0].headers.set[0].id, HTTP_NAME_X_REQUEST_ID);
	assert_string_equal(f.rule->route, "shop/f");
	routed_is(&r, "GET /gone", "redirect");
	assert_int_equal(routed_find(&r, "GET /gone").prefix, 0);
	assert_int_equal(routed_find(&r, "GET /gone").rule->filter[0].url.status, 301);
	routed_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matching),
		cmocka_unit_test(path_order),
		cmocka_unit_test(headers),
		cmocka_unit_test(methods_and_queries),
		cmocka_unit_test(across_routes),
		cmocka_unit_test(weights),
		cmocka_unit_test(references),
		cmocka_unit_test(parents),
		cmocka_unit_test(conflicts),
		cmocka_unit_test(grpc),
		cmocka_unit_test(connections),
		cmocka_unit_test(filters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
