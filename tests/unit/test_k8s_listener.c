/* SPDX-License-Identifier: Apache-2.0 */
/* Gateways and Secrets to objects: what is read, and what is refused by its field, without a value of a Secret. */
#include "decoded.h"

#define META(kind, version) "apiVersion: " version "\nkind: " kind "\nmetadata: {name: edge, namespace: shop"
#define GATE META("Gateway", "gateway.networking.k8s.io/v1") "}\nspec:\n  gatewayClassName: weft\n"
#define LISTENERS GATE "  listeners:\n  - "
#define SECRET META("Secret", "v1") "}\ntype: kubernetes.io/tls\n"

static struct object *one(struct decoded *d, const char *yaml)
{
	decoded_begin(d);
	decoded_add(d, yaml);
	assert_string_equal(d->problems.data, "");
	assert_int_equal(d->objects, 1);
	return d->object[0];
}

static void gateway(void **state)
{
	struct decoded d;
	const struct object_gateway *g =
		&one(&d, META("Gateway", "gateway.networking.k8s.io/v1")
			 ", annotations: {weft.io/service-account: front}}\nspec:\n  gatewayClassName: weft\n"
			 "  addresses: [{type: IPAddress, value: 192.0.2.1}, {value: \"2001:db8::1\"}]\n"
			 "  listeners:\n"
			 "  - {name: http, port: 80, protocol: HTTP}\n"
			 "  - name: tls\n    port: 443\n    protocol: HTTPS\n    hostname: \"*.Shop.Example\"\n"
			 "    tls: {mode: Terminate, certificateRefs: [{name: a}, {name: b, namespace: lab}]}\n"
			 "    allowedRoutes:\n      kinds: [{kind: GRPCRoute}]\n"
			 "      namespaces: {from: Selector, selector: {matchLabels: {a: b},\n"
			 "        matchExpressions: [{key: c, operator: NotIn, values: [d, e]}]}}\n")
			 ->gateway;
	const struct object_gateway_listener *l = &g->listener[1];

	assert_true(g->ours);
	assert_string_equal(g->account, "front");
	assert_int_equal(g->addrs, 2);
	assert_int_equal(g->listeners, 2);
	assert_int_equal(g->listener[0].port, 80);
	assert_int_equal(g->listener[0].protocol, GATEWAY_HTTP);
	assert_string_equal(g->listener[0].hostname, "");
	assert_int_equal(g->listener[0].from, GATEWAY_SAME);
	assert_true(g->listener[0].http && g->listener[0].grpc);
	assert_string_equal(l->hostname, "*.shop.example");
	assert_int_equal(l->protocol, GATEWAY_HTTPS);
	assert_int_equal(l->certificates, 2);
	assert_string_equal(l->certificate[0].namespace, "shop");
	assert_string_equal(l->certificate[1].namespace, "lab");
	assert_false(l->http || l->other_kinds);
	assert_true(l->grpc);
	assert_int_equal(l->from, GATEWAY_SELECTOR);
	assert_int_equal(l->labels.count, 1);
	assert_int_equal(l->expression[0].op, SELECT_NOT_IN);
	assert_int_equal(l->expression[0].values.count, 2);
	decoded_end(&d);
}

/* Of another class anything may be asked for: it is not ours to judge. */
static void not_ours(void **state)
{
	struct decoded d;
	struct object *o = one(&d, META("Gateway", "gateway.networking.k8s.io/v1") "}\nspec:\n"
				   "  gatewayClassName: istio\n  infrastructure: {a: b}\n  listeners: 7\n");

	assert_false(o->gateway.ours);
	assert_string_equal(o->gateway.class, "istio");
	assert_int_equal(o->gateway.listeners, 0);
	decoded_end(&d);
}

static void secrets(void **state)
{
	struct decoded d;
	struct object *o = one(&d, SECRET "data: {tls.crt: YWJjZA==, tls.key: \"YWJj\\nZGU=\"}\n");

	assert_string_equal(o->secret.certificate, "abcd");
	assert_string_equal(o->secret.key, "abcde");
	decoded_end(&d);
	o = one(&d, SECRET "data: {tls.crt: YWJjZGVm}\nstringData: {tls.key: plain}\n");
	assert_string_equal(o->secret.certificate, "abcdef");
	assert_string_equal(o->secret.key, "plain");
	decoded_end(&d);
	o = one(&d, META("Secret", "v1") "}\ntype: Opaque\ndata: {password: c2VjcmV0}\n");
	assert_null(o->secret.certificate);
	assert_null(o->secret.key);
	decoded_end(&d);
}

static void refused(void **state)
{
	static const struct {
		const char *yaml, *want;
	} rows[] = {
		{GATE, "spec.listeners | is missing"},
		{GATE "  infrastructure: {}\n  listeners: [{name: a, port: 80, protocol: HTTP}]\n",
		 "spec.infrastructure | is not supported"},
		{GATE "  addresses: [{type: Hostname, value: a}]\n  listeners: [{name: a, port: 80, protocol: HTTP}]\n",
		 "spec.addresses[0].type | \"Hostname\" is not supported"},
		{LISTENERS "{name: a, port: 80, protocol: TLS}\n", "listeners[0].protocol | \"TLS\" is not supp"},
		{LISTENERS "{name: a, port: 80, protocol: UDP}\n", "listeners[0].protocol | \"UDP\" is not supp"},
		{LISTENERS "{name: a, port: 0, protocol: HTTP}\n", "spec.listeners[0].port | must be a whole"},
		{LISTENERS "{name: a, protocol: HTTP}\n", "spec.listeners[0].port | is missing"},
		{LISTENERS "{port: 80, protocol: HTTP}\n", "spec.listeners[0].name | is missing"},
		{LISTENERS "{name: a, port: 80, protocol: HTTP}\n  - {name: a, port: 81, protocol: HTTP}\n",
		 "spec.listeners[1].name | \"a\" is given twice"},
		{LISTENERS "{name: a, port: 80, protocol: HTTP, hostname: \"a.*\"}\n",
		 "spec.listeners[0].hostname | \"a.*\" is not a host name"},
		{LISTENERS "{name: a, port: 80, protocol: HTTP, tls: {}}\n", "listeners[0].tls | is only for protocol"},
		{LISTENERS "{name: a, port: 80, protocol: HTTPS}\n", "spec.listeners[0].tls | is missing"},
		{LISTENERS "{name: a, port: 80, protocol: HTTPS, tls: {}}\n", "tls.certificateRefs | is missing"},
		{LISTENERS "{name: a, port: 80, protocol: HTTPS, tls: {mode: Passthrough}}\n",
		 "spec.listeners[0].tls.mode | must be Terminate for HTTPS"},
		{LISTENERS "{name: a, port: 80, protocol: HTTPS, "
			   "tls: {options: {x: y}, certificateRefs: [{name: s}]}}\n",
		 "spec.listeners[0].tls.options | is not supported"},
		{LISTENERS "{name: a, port: 80, protocol: HTTPS, "
			   "tls: {frontendValidation: {}, certificateRefs: [{name: s}]}}\n",
		 "spec.listeners[0].tls.frontendValidation | is not supported"},
		{LISTENERS "{name: a, port: 80, protocol: HTTPS, tls: {certificateRefs: [{kind: X, name: s}]}}\n",
		 "spec.listeners[0].tls.certificateRefs[0].kind | must be Secret"},
		{LISTENERS "{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Some}}}\n",
		 "spec.listeners[0].allowedRoutes.namespaces.from | must be Same, All or Selector"},
		{LISTENERS "{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}\n",
		 "spec.listeners[0].allowedRoutes.namespaces.selector | is missing"},
		{SECRET "data: {tls.crt: YWJj}\n", "data[\"tls.key\"] | is missing"},
		{SECRET "data: {tls.crt: YWJj, tls.key: \"PRIVATE!\"}\n", "[\"tls.key\"] | is not base64 of a text"},
		{SECRET "data: {tls.crt: YWJj, tls.key: AAAA}\n", "data[\"tls.key\"] | is not base64 of a text"},
		{SECRET "data: {tls.crt: YWJj, tls.key: YWJjZ}\n", "data[\"tls.key\"] | is not base64 of a text"},
		{SECRET "data: {tls.crt: YWJj, tls.key: YWI}\n", "data[\"tls.key\"] | is not base64 of a text"},
		{SECRET "data: {tls.crt: YWJj, tls.key: YQ=}\n", "data[\"tls.key\"] | is not base64 of a text"},
		{SECRET "data: {tls.crt: YWJj, tls.key: YQ==YWJj}\n", "data[\"tls.key\"] | is not base64 of a text"},
		{SECRET "data: {tls.crt: YWJj, tls.key: YWJj-YWJj}\n", "data[\"tls.key\"] | is not base64 of a text"},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct decoded d;

		decoded_begin(&d);
		decoded_add(&d, rows[i].yaml);
		if (!strstr(d.problems.data, rows[i].want))
			fail_msg("%sgave:\n%s\nnot: %s", rows[i].yaml, d.problems.data, rows[i].want);
		assert_null(strstr(d.problems.data, "does not know")); /* what is refused is known */
		assert_null(strstr(d.problems.data, "PRIVATE"));
		assert_int_equal(d.objects, 0);
		assert_int_equal(d.rejects, 1);
		decoded_end(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gateway),
		cmocka_unit_test(not_ours),
		cmocka_unit_test(secrets),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
