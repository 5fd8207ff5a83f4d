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
	TABLE(ROUTE("matching") "  - matches:\n    - path: {type: PathPrefix, value: /}\n"
				"    - headers: [{name: version, value: one}]\n" TO("v1")
				"  - matches:\n    - path: {type: PathPrefix, value: /v2}\n"
				"    - headers: [{name: version, value: two}]\n" TO("v2"),
	      {"GET /", "v1:8080"}, {"GET /example", "v1:8080"}, {"GET / Version:one", "v1:8080"},
	      {"GET /v2", "v2:8080"}, {"GET /v2/example", "v2:8080"}, {"GET / Version:two", "v2:8080"},
	      {"GET /v2/", "v2:8080"}, {"GET /v2example", "v1:8080"}, {"GET /v2 Version:one", "v2:8080"},
	      {"GET /foo/v2/example", "v1:8080"});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matching),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
