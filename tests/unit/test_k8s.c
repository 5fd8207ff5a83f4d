/* SPDX-License-Identifier: Apache-2.0 */
/* Documents to objects: what is read, and a table of what is wrong with its line, object, field and reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model.h"

#define MAX 8

struct seen {
	struct k8s_sink sink;
	struct object *object[MAX], *stand_in[MAX];
	unsigned objects, rejects;
	char rejected[MAX][400];
	struct text problems; /* a line each */
};

static void on_emit(struct k8s_sink *sink, struct object *o)
{
	struct seen *s = container_of(sink, struct seen, sink);

	assert_true(s->objects < MAX);
	s->object[s->objects++] = o;
}

static void on_reject(struct k8s_sink *sink, enum object_kind kind, const char *namespace, const char *name,
		      struct object *stand_in)
{
	struct seen *s = container_of(sink, struct seen, sink);

	assert_true(s->rejects < MAX);
	snprintf(s->rejected[s->rejects], sizeof(s->rejected[0]), "%s %s/%s", object_kind_name(kind), namespace,
		 name);
	s->stand_in[s->rejects++] = stand_in;
}

static void on_report(struct k8s_sink *sink, const struct problem *p)
{
	struct seen *s = container_of(sink, struct seen, sink);

	assert_string_equal(p->file, "f.yaml");
	text_add(&s->problems, "%s%u %s | %s | %s\n", p->warning ? "warning " : "", p->line, p->object,
		 p->field, p->reason);
}

static void decode(struct seen *s, const char *in)
{
	struct arena a = {0};
	struct doc_error e = {0};
	struct doc *d;

	*s = (struct seen){.sink = {on_emit, on_reject, on_report}};
	text_add_bytes(&s->problems, "", 0);
	text_add(&s->problems, "%s", "");
	if (doc_parse(&a, in, strlen(in), false, 1, &d, &e))
		fail_msg("line %u: %s\n%s", e.line, e.reason, in);
	k8s_decode(d, "f.yaml", &s->sink);
	arena_free(&a);
}

static void release(struct seen *s)
{
	for (unsigned i = 0; i < s->objects; i++)
		object_free(s->object[i]);
	for (unsigned i = 0; i < s->rejects; i++)
		object_free(s->stand_in[i]);
	text_free(&s->problems);
}

/* One object, nothing wrong. */
static struct object *one(struct seen *s, const char *in)
{
	decode(s, in);
	if (s->problems.len)
		fail_msg("%s", s->problems.data);
	assert_int_equal(s->objects, 1);
	assert_int_equal(s->rejects, 0);
	return s->object[0];
}

static void is_addr(const struct abi_addr *a, const char *text)
{
	char buf[ADDR_TEXT];

	assert_string_equal(addr_text(a, buf), text);
}

static void core(void **state)
{
	struct seen s;
	struct object *o;

	o = one(&s, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {a: b}, namespace: x}\n");
	assert_int_equal(o->kind, KIND_NAMESPACE);
	assert_string_equal(o->namespace, "");
	assert_string_equal(o->name, "shop");
	assert_string_equal(pairs_get(&o->labels, "a"), "b");
	release(&s);
	o = one(&s, "\n\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, "
		    "creationTimestamp: \"2026-01-31T12:00:01Z\"}\n");
	assert_string_equal(o->namespace, "default");
	assert_int_equal(o->created, 1769860801);
	assert_string_equal(o->file, "f.yaml");
	assert_int_equal(o->line, 3);
	release(&s);
	o = one(&s, "apiVersion: v1\nkind: Node\nmetadata: {name: n1.example}\nstatus:\n  addresses:\n"
		    "  - {type: Hostname, address: n1}\n  - {type: InternalIP, address: 10.0.0.1}\n"
		    "  - {type: ExternalIP, address: fd00::1}\n");
	assert_int_equal(o->node.addrs, 2);
	is_addr(&o->node.addr[0], "10.0.0.1");
	is_addr(&o->node.addr[1], "fd00::1");
	release(&s);
}

static void pod(void **state)
{
	struct seen s;
	struct object *o = one(
		&s, "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1, namespace: shop, annotations: "
		    "{weft.io/splice: \"off\"}}\nspec:\n  serviceAccountName: web\n  nodeName: n1\n"
		    "  initContainers:\n  - restartPolicy: Always\n    ports: [{name: side, containerPort: 9000}]\n"
		    "  - ports: [{name: init, containerPort: 9001}]\n"
		    "  containers:\n  - ports:\n    - {name: http, containerPort: 8080, protocol: TCP}\n"
		    "    - {name: dns, containerPort: 53, protocol: UDP}\n    - {containerPort: 1}\n"
		    "status:\n  phase: Running\n  podIP: 10.0.0.2\n  podIPs: [{ip: 10.0.0.2}, {ip: \"fd00::2\"}]\n"
		    "  conditions: [{type: Ready, status: \"False\"}]\n");

	assert_string_equal(o->pod.service_account, "web");
	assert_string_equal(o->pod.node, "n1");
	assert_int_equal(o->pod.addrs, 2);
	is_addr(&o->pod.addr[1], "fd00::2");
	assert_int_equal(o->pod.ports, 2);
	assert_string_equal(o->pod.port[0].name, "http");
	assert_int_equal(o->pod.port[0].port, 8080);
	assert_string_equal(o->pod.port[1].name, "side");
	assert_true(o->pod.unready);
	assert_false(o->pod.terminating);
	assert_false(o->pod.finished);
	release(&s);
	o = one(&s, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {phase: Failed, podIP: ''}\n");
	assert_null(o->pod.service_account);
	assert_null(o->pod.node);
	assert_int_equal(o->pod.addrs, 0);
	assert_false(o->pod.unready);
	assert_true(o->pod.finished);
	release(&s);
	o = one(&s, "apiVersion: v1\nkind: Pod\nmetadata: {name: p, deletionTimestamp: "
		    "\"2026-01-31T12:00:00Z\"}\nspec: {serviceAccount: old, "
		    "hostNetwork: true}\n");
	assert_string_equal(o->pod.service_account, "old");
	assert_true(o->pod.host_network);
	assert_true(o->pod.terminating);
	release(&s);
}

static void service(void **state)
{
	struct seen s;
	struct object *o = one(&s, "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n"
				   "  clusterIP: 10.96.0.1\n  clusterIPs: [10.96.0.1, \"fd00:96::1\"]\n"
				   "  selector: {app: web}\n  sessionAffinity: ClientIP\n"
				   "  ports:\n  - {name: http, port: 80, targetPort: 8080}\n"
				   "  - {name: alt, port: 81, targetPort: web, appProtocol: http}\n"
				   "  - {name: same, port: 82}\n  - {name: udp, port: 80, protocol: UDP}\n");

	assert_int_equal(o->service.vips, 2);
	is_addr(&o->service.vip[1], "fd00:96::1");
	assert_int_equal(o->service.ports, 3);
	assert_int_equal(o->service.port[0].target, 8080);
	assert_int_equal(o->service.port[1].target, 0);
	assert_string_equal(o->service.port[1].target_name, "web");
	assert_string_equal(o->service.port[1].app_protocol, "http");
	assert_int_equal(o->service.port[2].target, 82);
	assert_true(o->service.affinity);
	assert_int_equal(o->service.affinity_seconds, 10800);
	assert_false(o->service.headless);
	release(&s);
	o = one(&s, "apiVersion: v1\nkind: Service\nmetadata: {name: h}\nspec: {clusterIP: None, "
		    "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}}\n");
	assert_true(o->service.headless);
	assert_int_equal(o->service.vips, 0);
	assert_int_equal(o->service.affinity_seconds, 60);
	release(&s);
	o = one(&s, "apiVersion: v1\nkind: Service\nmetadata: {name: e}\nspec: {type: ExternalName, "
		    "externalName: x.y}\n");
	assert_int_equal(o->service.vips, 0);
	release(&s);
}

static void slice(void **state)
{
	struct seen s;
	struct object *o =
		one(&s, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-abc, labels: "
			"{kubernetes.io/service-name: web}, annotations: {weft.io/weight: \"7\"}}\n"
			"addressType: IPv4\nports: [{name: http, port: 8080}, {name: u, port: 1, protocol: UDP}]\n"
			"endpoints:\n- addresses: [10.0.0.1]\n"
			"- {addresses: [10.0.0.2], conditions: {ready: false}, nodeName: n1}\n"
			"- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: "
			"true}}\n");

	assert_string_equal(o->slice.service, "web");
	assert_int_equal(o->slice.endpoints, 3);
	assert_int_equal(o->slice.ports, 1);
	assert_int_equal(o->slice.endpoint[0].weight, 7);
	assert_true(o->slice.endpoint[0].ready && o->slice.endpoint[0].serving);
	assert_false(o->slice.endpoint[1].ready || o->slice.endpoint[1].serving);
	assert_string_equal(o->slice.endpoint[1].node, "n1");
	assert_true(!o->slice.endpoint[2].ready && o->slice.endpoint[2].serving &&
		    o->slice.endpoint[2].terminating);
	release(&s);
}

static void authorization(void **state)
{
	struct seen s;
	struct object *o = one(
		&s, "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, "
		    "namespace: shop}\n"
		    "spec:\n  action: DENY\n  selector: {matchLabels: {app: web}}\n  rules:\n"
		    "  - from:\n    - source: {principals: [\"cluster.local/*\"], notNamespaces: [a, b]}\n"
		    "    - source: {ipBlocks: [10.0.0.0/8, \"fd00::/8\", 1.2.3.4], serviceAccounts: [web, x/y]}\n"
		    "    to:\n    - operation: {ports: [\"80\"], notPorts: [\"81\"]}\n"
		    "    - operation: {methods: [GET]}\n"
		    "    when:\n    - {key: source.ip, values: [10.0.0.0/8]}\n"
		    "    - {key: destination.port, notValues: [\"22\"]}\n"
		    "    - {key: \"request.headers[x]\", values: [z]}\n"
		    "    - {key: source.namespace, values: [a], notValues: [b]}\n"
		    "  - {}\n");
	const struct object_authorization *p = &o->authorization;

	assert_int_equal(p->action, POLICY_DENY);
	assert_string_equal(pairs_get(&p->selector, "app"), "web");
	assert_int_equal(p->rules, 2);
	assert_int_equal(p->rule[0].froms, 2);
	assert_string_equal(p->rule[0].from[0].principals.values.item[0], "cluster.local/*");
	assert_int_equal(p->rule[0].from[0].not_namespaces.values.count, 2);
	assert_false(p->rule[0].from[0].namespaces.given);
	assert_int_equal(p->rule[0].from[1].ip_blocks.values.count, 3);
	assert_int_equal(p->rule[0].from[1].ip_blocks.values.item[0].bits, 104);
	assert_int_equal(p->rule[0].from[1].ip_blocks.values.item[2].bits, 128);
	assert_int_equal(p->rule[0].tos, 2);
	assert_int_equal(p->rule[0].to[0].ports.values.item[0], 80);
	assert_false(p->rule[0].to[0].l7);
	assert_true(p->rule[0].to[1].l7);
	assert_int_equal(p->rule[0].whens, 4);
	assert_int_equal(p->rule[0].when[0].blocks.values.count, 1);
	assert_true(p->rule[0].when[1].not_ports.given);
	assert_int_equal(p->rule[0].when[2].key, WHEN_L7);
	assert_int_equal(p->rule[0].when[3].not_values.values.count, 1);
	assert_int_equal(p->rule[1].froms + p->rule[1].tos + p->rule[1].whens, 0);
	assert_false(p->stand_in);
	release(&s);
	o = one(&s, "apiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata: {name: none}\n");
	assert_int_equal(o->authorization.action, POLICY_ALLOW);
	assert_int_equal(o->authorization.rules, 0);
	release(&s);
}

static void peer(void **state)
{
	struct seen s;
	struct object *o = one(
		&s, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec:\n"
		    "  selector: {matchLabels: {app: web}}\n  mtls: {mode: STRICT}\n"
		    "  portLevelMtls: {8080: {mode: DISABLE}, \"8081\": {mode: UNSET}, 8082: {mode: "
		    "PERMISSIVE}}\n");

	assert_true(o->peer.mtls_given);
	assert_int_equal(o->peer.mtls, ABI_MTLS_STRICT);
	assert_int_equal(o->peer.ports, 2);
	assert_int_equal(o->peer.port[0].mtls, ABI_MTLS_DISABLE);
	assert_int_equal(o->peer.port[1].port, 8082);
	release(&s);
	o = one(&s, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: "
		    "{mtls: {mode: UNSET}}\n");
	assert_false(o->peer.mtls_given);
	release(&s);
}

static void lists(void **state)
{
	struct seen s;

	decode(&s, "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n"
		   "- apiVersion: v1\n  kind: NamespaceList\n  items:\n  - metadata: {name: b}\n"
		   "- 7\n- {apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: 1}}\n");
	assert_int_equal(s.objects, 2);
	assert_string_equal(s.object[0]->name, "a");
	assert_string_equal(s.object[1]->name, "b");
	assert_int_equal(s.object[1]->line, 8);
	assert_int_equal(s.rejects, 2);
	assert_string_equal(s.rejected[0], "object /");
	assert_string_equal(s.rejected[1], "Service default/x");
	release(&s);
	decode(&s, "{items: [{metadata: {name: a, namespace: ns}, addressType: IPv4}], kind: EndpointSliceList, "
		   "apiVersion: discovery.k8s.io/v1, metadata: {resourceVersion: \"1\"}}");
	assert_int_equal(s.objects, 1);
	assert_int_equal(s.object[0]->kind, KIND_ENDPOINT_SLICE);
	release(&s);
	decode(&s, "{kind: List, apiVersion: v1, items: null}");
	assert_int_equal(s.objects + s.rejects + (unsigned)s.problems.len, 0);
	release(&s);
	decode(&s, "");
	assert_int_equal(s.objects + s.rejects + (unsigned)s.problems.len, 0);
	release(&s);
}

#define SVC "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n"
#define SLICE "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" \
	      "metadata: {name: w, labels: {kubernetes.io/service-name: w}}\n"
#define AUTHZ "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n" \
	      "metadata: {name: p, namespace: shop}\nspec:\n"
#define PEER "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n" \
	     "metadata: {name: p, namespace: shop}\nspec:\n"

static void problems(void **state)
{
	static const struct {
		const char *in;
		const char *problems;
		const char *rejected; /* NULL: the object is taken, or ignored */
	} cases[] = {
		/* what it is */
		{"- 1\n", "1  |  | an object must be a map with apiVersion, kind and metadata\n", "object /"},
		{"kind: Pod\n", "1  | apiVersion | must be there, as text\n", "object /"},
		{"apiVersion: v1\nkind: 7\n", "1  | kind | must be there, as text\n", "object /"},
		{"apiVersion: v1\nkind: List\nitems: 1\n", "3  | items | must be a list of objects\n", "object /"},
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, namespace: y}\n",
		 "warning 1 Deployment y/x | kind | weft does not read apps Deployment: ignored\n", NULL},
		{"apiVersion: v2\nkind: Service\nmetadata: {name: x}\nspec: {}\n",
		 "1 Service default/x | apiVersion | \"v2\" is not a version that weft reads; see "
		 "docs/manifests.md\n",
		 "Service default/x"},
		{"apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: x}\n",
		 "warning 1 Service x | kind | weft does not read serving.knative.dev Service: ignored\n", NULL},
		/* a typo of a policy must not open anything */
		{"apiVersion: security.istio.io/v1\nkind: AuthorisationPolicy\nmetadata: {name: x}\n",
		 "2 AuthorisationPolicy default/x | kind | \"AuthorisationPolicy\" of security.istio.io is not "
		 "supported; a mistyped AuthorizationPolicy or PeerAuthentication?\n",
		 "AuthorizationPolicy default/x"},
		{"apiVersion: v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\n",
		 "1 AuthorizationPolicy default/x | apiVersion | \"v1\" is not the group of this kind: "
		 "security.istio.io/v1\n",
		 "AuthorizationPolicy default/x"},
		{"apiVersion: security.istio.io/v7\nkind: PeerAuthentication\nmetadata: {name: x}\n",
		 "1 PeerAuthentication default/x | apiVersion | \"security.istio.io/v7\" is not a version "
		 "that weft "
		 "reads; see docs/manifests.md\n",
		 "PeerAuthentication default/x"},
		{"apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: x}\n",
		 "warning 1 AuthorizationPolicy x | kind | weft does not read policy.linkerd.io "
		 "AuthorizationPolicy: ignored\n",
		 NULL},
		/* metadata */
		{"apiVersion: v1\nkind: Pod\n", "1 Pod | metadata | is missing\n", "Pod default/"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {}\n", "3 Pod | metadata.name | is missing\n", "Pod "
												      "default/"},
		{"apiVersion: v1\nkind: Pod\nmetadata:\n  name: Web_1\n",
		 "4 Pod | metadata.name | \"Web_1\" is not a valid name: at most 253 of a-z, 0-9 and -, in "
		 "parts with dots between\n",
		 "Pod default/"},
		{"apiVersion: v1\nkind: Pod\nmetadata:\n  name: ok\n  namespace: a.b\n",
		 "5 Pod | metadata.namespace | \"a.b\" is not a valid name: at most 63 of a-z, 0-9 and -\n",
		 "Pod default/"},
		{"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels:\n    app: on\n",
		 "6 Pod default/p | metadata.labels.app | must be text, but on is a boolean: write it in quotes\n",
		 "Pod default/p"},
		{"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n    weft.io/splice: \"no\"\n",
		 "6 Pod default/p | metadata.annotations[\"weft.io/splice\"] | must be \"auto\", \"always\" or "
		 "\"off\", not \"no\"\n",
		 "Pod default/p"},
		{"apiVersion: v1\nkind: Namespace\nmetadata: {name: p, annotations: {weft.io/egress: no-way}}\n",
		 "3 Namespace p | metadata.annotations[\"weft.io/egress\"] | must be \"any\" or "
		 "\"registry-only\", not \"no-way\"\n", "Namespace /p"},
		{"apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations: {weft.io/splise: \"off\"}\n",
		 "warning 5 Pod default/p | metadata.annotations[\"weft.io/splise\"] | weft does not know this "
		 "annotation: see docs/manifests.md\n",
		 NULL},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p, creationTimestamp: \"yesterday\"}\n",
		 "warning 3 Pod default/p | metadata.creationTimestamp | \"yesterday\" is not a time like "
		 "2026-01-31T12:00:00Z: ignored\n",
		 NULL},
		/* core */
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus:\n  podIPs:\n  - ip: 10.0.0.256\n",
		 "6 Pod default/p | status.podIPs[0].ip | \"10.0.0.256\" is not an IP address\n", "Pod default/p"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIP: 127.0.0.1}\n",
		 "4 Pod default/p | status.podIP | \"127.0.0.1\" is a loopback address; it cannot be reached from "
		 "another pod\n",
		 "Pod default/p"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIP: \"fe80::1\"}\n",
		 "4 Pod default/p | status.podIP | \"fe80::1\" is a link-local address; it cannot be reached from "
		 "another pod\n",
		 "Pod default/p"},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: web}\n", "1 Service default/web | spec | "
									   "is missing\n",
		 "Service default/web"},
		{SVC "  clusterIP: 10.96.0.1\n  ports:\n  - port: \"80\"\n",
		 "7 Service shop/web | spec.ports[0].port | must be a number, not text\n", "Service shop/web"},
		{SVC "  clusterIP: 10.96.0.1\n  ports:\n  - port: 80\n    targetPort: 70000\n",
		 "8 Service shop/web | spec.ports[0].targetPort | must be a whole number from 1 to 65535, "
		 "not 70000\n",
		 "Service shop/web"},
		{SVC "  clusterIP: 10.96.0.1\n  ports:\n  - {port: 080}\n",
		 "7 Service shop/web | spec.ports[0].port | must be a whole number from 1 to 65535, not 080\n",
		 "Service shop/web"},
		{SVC "  clusterIP: 10.96.0.1\n  ports: [{port: 80, name: a}, {port: 80, name: b}]\n",
		 "6 Service shop/web | spec.ports[1].port | 80 is given twice\n", "Service shop/web"},
		{SVC "  clusterIP: 10.96.0.1\n  ports:\n    port: 80\n",
		 "7 Service shop/web | spec.ports | must be a list, not a map\n", "Service shop/web"},
		{SVC "  clusterIP: 10.96.0\n", "5 Service shop/web | spec.clusterIP | \"10.96.0\" is not an "
					       "IP address\n",
		 "Service shop/web"},
		{SVC "  clusterIP: 224.0.0.1\n",
		 "5 Service shop/web | spec.clusterIP | \"224.0.0.1\" is a multicast or reserved address; "
		 "it cannot be "
		 "reached from another pod\n",
		 "Service shop/web"},
		{SVC "  ports: [{port: 80}]\n",
		 "warning 5 Service shop/web | spec.clusterIP | is missing, and without a cluster nobody "
		 "gives one: "
		 "the service has no address of its own\n",
		 NULL},
		{SVC "  clusterIP: None\n  sessionAffinity: Cookie\n",
		 "6 Service shop/web | spec.sessionAffinity | must be ClientIP or None, not \"Cookie\"\n",
		 "Service shop/web"},
		{SVC "  clusterIP: None\n  selector: [a]\n",
		 "6 Service shop/web | spec.selector | must be a map, not a list\n", "Service shop/web"},
		{SLICE "addressType: IPv4\nendpoints:\n- addresses: [\"fd00::1\"]\n",
		 "6 EndpointSlice default/w | endpoints[0].addresses[0] | \"fd00::1\" is not of the slice's "
		 "addressType IPv4\n",
		 "EndpointSlice default/w"},
		{SLICE "addressType: IPv4\nendpoints:\n- addresses: []\n",
		 "6 EndpointSlice default/w | endpoints[0].addresses | is missing or empty\n",
		 "EndpointSlice default/w"},
		{SLICE "endpoints: []\n", "1 EndpointSlice default/w | addressType | is missing\n",
		 "EndpointSlice default/w"},
		{SLICE "addressType: IPv4\nendpoints:\n- addresses: [10.0.0.1]\n  conditions: {ready: \"true\"}\n",
		 "7 EndpointSlice default/w | endpoints[0].conditions.ready | must be true or false, not text\n",
		 "EndpointSlice default/w"},
		/* AuthorizationPolicy */
		{AUTHZ "  rules:\n  - from:\n    - source:\n        ipBlocks:\n        - 10.0.0.0/8\n       "
		       " - 10.0.0.0/33\n",
		 "10 AuthorizationPolicy shop/p | spec.rules[0].from[0].source.ipBlocks[1] | "
		 "\"10.0.0.0/33\" is not an "
		 "address block: write it as 10.0.0.0/8, fd00::/8 or one address, with no bits after the prefix\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  action: DENYY\n",
		 "5 AuthorizationPolicy shop/p | spec.action | must be ALLOW or DENY, not \"DENYY\"\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  action: CUSTOM\n  provider: {name: x}\n  rules: [{}]\n",
		 "5 AuthorizationPolicy shop/p | spec.action | CUSTOM is not supported: weft calls no external "
		 "authorizer\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  action: AUDIT\n  rules: [{}]\n",
		 "warning 5 AuthorizationPolicy shop/p | spec.action | AUDIT is not supported: the policy has no "
		 "effect\n",
		 NULL},
		{AUTHZ "  targetRefs: [{kind: Gateway}]\n",
		 "5 AuthorizationPolicy shop/p | spec.targetRefs | is not supported in this version: use a "
		 "selector\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - form: []\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].form | weft does not know this field; it "
		 "could widen or "
		 "narrow the policy\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: []\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from | is empty: leave the field out, or "
		 "list what is "
		 "meant\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: [{source: {}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from[0].source | is empty: it would mean "
		 "every source; "
		 "leave `from` out if that is meant\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: [{}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from[0].source | is empty: it would mean "
		 "every source; "
		 "leave `from` out if that is meant\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: [{source: {principals: []}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from[0].source.principals | is empty: leave "
		 "the field "
		 "out, or list what is meant\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: [{source: {principals: [\"spiffe://a/b\"]}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from[0].source.principals[0] | must be "
		 "written without "
		 "\"spiffe://\": it would never match\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: [{source: {principals: a}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from[0].source.principals | must be a list, "
		 "not text\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: [{source: {namespaces: [\"\"]}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from[0].source.namespaces[0] | is empty\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: [{source: {serviceAccounts: [\"a/*\"]}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from[0].source.serviceAccounts[0] | must not "
		 "contain *: "
		 "service accounts are compared as they are\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - from: [{source: {serviceAccounts: [a], namespaces: [b]}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].from[0].source | serviceAccounts cannot "
		 "stand beside "
		 "principals or namespaces\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - to: [{operation: {ports: [80]}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].to[0].operation.ports[0] | must be text, but "
		 "80 is a "
		 "number: write it in quotes\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - to: [{operation: {ports: [\"http\"]}}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].to[0].operation.ports[0] | \"http\" is not a "
		 "port: a "
		 "number from 1 to 65535\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - when: [{key: source.foo, values: [a]}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].when[0].key | \"source.foo\" is not a key that weft "
		 "knows\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules:\n  - when: [{key: source.ip}]\n",
		 "6 AuthorizationPolicy shop/p | spec.rules[0].when[0] | has neither values nor notValues\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  rules: [null]\n",
		 "5 AuthorizationPolicy shop/p | spec.rules[0] | is empty: write {} for a rule that matches "
		 "everything\n",
		 "AuthorizationPolicy shop/p"},
		{AUTHZ "  action: DENY\n",
		 "warning 5 AuthorizationPolicy shop/p | spec.rules | a DENY policy without rules denies nothing\n",
		 NULL},
		{"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, annotations: "
		 "{istio.io/dry-run: \"true\"}}\nspec: {rules: [{}]}\n",
		 "warning 3 AuthorizationPolicy default/p | metadata.annotations[\"istio.io/dry-run\"] | "
		 "dry run is "
		 "not supported: the policy has no effect\n",
		 NULL},
		/* PeerAuthentication */
		{PEER "  mtls: {mode: strict}\n",
		 "5 PeerAuthentication shop/p | spec.mtls.mode | must be STRICT, PERMISSIVE, DISABLE or UNSET, not "
		 "\"strict\"\n",
		 "PeerAuthentication shop/p"},
		{PEER "  portLevelMtls: {80: {mode: STRICT}}\n",
		 "5 PeerAuthentication shop/p | spec.portLevelMtls | needs a selector with matchLabels\n",
		 "PeerAuthentication shop/p"},
		{PEER "  selector: {matchLabels: {a: b}}\n  portLevelMtls: {http: {mode: STRICT}}\n",
		 "6 PeerAuthentication shop/p | spec.portLevelMtls.http | \"http\" is not a port: a number "
		 "from 1 to "
		 "65535\n",
		 "PeerAuthentication shop/p"},
		{PEER "  selector: {matchExpressions: []}\n",
		 "5 PeerAuthentication shop/p | spec.selector.matchExpressions | weft does not know this field; it "
		 "could widen or narrow the policy\n",
		 "PeerAuthentication shop/p"},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct seen s;

		decode(&s, cases[i].in);
		if (strcmp(s.problems.data, cases[i].problems))
			fail_msg("%s\ngave:\n%s\nnot:\n%s", cases[i].in, s.problems.data, cases[i].problems);
		if (cases[i].rejected) {
			assert_int_equal(s.objects, 0);
			assert_int_equal(s.rejects, 1);
			assert_string_equal(s.rejected[0], cases[i].rejected);
		} else {
			assert_int_equal(s.rejects, 0);
		}
		release(&s);
	}
}

static const struct object_authorization *stand_in(struct seen *s, const char *in)
{
	decode(s, in);
	assert_int_equal(s->rejects, 1);
	assert_non_null(s->stand_in[0]);
	assert_int_equal(s->stand_in[0]->kind, KIND_AUTHORIZATION_POLICY);
	assert_true(s->stand_in[0]->authorization.stand_in);
	assert_int_equal(s->stand_in[0]->authorization.rules, 0);
	return &s->stand_in[0]->authorization;
}

/* A policy that is wrong closes what it selects, and no more than it must. */
static void stand_ins(void **state)
{
	struct seen s;
	const struct object_authorization *a;

	a = stand_in(&s, AUTHZ "  selector: {matchLabels: {app: web}}\n  rules: [{x: 1}]\n");
	assert_int_equal(a->action, POLICY_ALLOW);
	assert_int_equal(a->selector.count, 1);
	release(&s);
	a = stand_in(&s, AUTHZ "  selector: {matchLabels: {app: web}}\n  action: DENY\n  rules: [{x: 1}]\n");
	assert_int_equal(a->action, POLICY_DENY);
	assert_int_equal(a->selector.count, 1);
	release(&s);
	a = stand_in(&s, AUTHZ "  selector: {matchLabels: {app: 1}}\n");
	assert_int_equal(a->selector.count, 0);
	release(&s);
	a = stand_in(&s, AUTHZ "  selector: {matchLabels: {app: web}}\n  action: 7\n");
	assert_int_equal(a->action, POLICY_DENY);
	release(&s);
	a = stand_in(&s, AUTHZ "  selector: {matchLabels: {app: web}}\n  action: CUSTOM\n");
	assert_int_equal(a->action, POLICY_DENY);
	release(&s);
	a = stand_in(&s, AUTHZ "  selector: {matchLabels: {app: web}}\n  targetRef: {name: x}\n");
	assert_int_equal(a->selector.count, 0);
	release(&s);
	a = stand_in(&s, "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n"
			 "spec: 1\n");
	assert_int_equal(a->action, POLICY_DENY);
	release(&s);
	a = stand_in(&s, "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: "
			 "{namespace: shop}\n");
	assert_string_equal(s.rejected[0], "AuthorizationPolicy shop/(unreadable)");
	release(&s);
	a = stand_in(&s, "apiVersion: security.istio.io/v1\nkind: Authorizationpolicy\nmetadata: {name: p}\n");
	assert_int_equal(a->action, POLICY_DENY);
	release(&s);
	decode(&s, PEER "  selector: {matchLabels: {a: b}}\n  mtls: {mode: x}\n");
	assert_int_equal(s.stand_in[0]->peer.mtls, ABI_MTLS_STRICT);
	assert_true(s.stand_in[0]->peer.mtls_given);
	assert_int_equal(s.stand_in[0]->peer.selector.count, 1);
	release(&s);
	/* What never had an effect closes nothing when it is wrong. */
	decode(&s, AUTHZ "  action: AUDIT\n  rules: [{x: 1}]\n");
	assert_null(s.stand_in[0]);
	release(&s);
	decode(&s, "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: p}\n");
	assert_int_equal(s.rejects, 1);
	assert_null(s.stand_in[0]);
	release(&s);
}

/* Text that is no YAML at all: what can be seen of a policy closes its namespace. */
static void broken(void **state)
{
	static const struct {
		const char *in, *rejected[3];
	} cases[] = {
		{"a: [", {"object /"}},
		{"kind: AuthorizationPolicy\nmetadata:\n  name: p\n\tnamespace: "
		 "shop\n",
		 {"AuthorizationPolicy shop/p"}},
		{"kind: AuthorizationPolicy\nmetadata:\n\tname: Bad_Name\n",
		 {"AuthorizationPolicy default/(unreadable, line 5)"}},
		{"{\"kind\": \"PeerAuthentication\", \"metadata\": {\"namespace\":\"a\", \"name\":\"b\"}",
		 {"PeerAuthentication a/b"}},
		{"metadata: {name: p, namespace: s\nkind: AuthorizationPolicy\n", {"AuthorizationPolicy s/p"}},
		{"apiVersion: security.istio.io/v1\nmetadata: {name: p\nknd: Authorization\n",
		 {"AuthorizationPolicy default/p"}},
		{"apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: "
		 "p\n",
		 {"object /"}},
		{"kind: List\nitems:\n- kind: AuthorizationPolicy\n  metadata: {name: a, namespace: x}\n"
		 "- kind: AuthorizationPolicy\n  metadata: {name: b, namespace: y}\n- [",
		 {"AuthorizationPolicy x/a", "AuthorizationPolicy y/b"}},
	};
	static const struct doc_error error = {.line = 6, .reason = "not valid YAML"};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct seen s = {.sink = {on_emit, on_reject, on_report}};

		k8s_broken(cases[i].in, strlen(cases[i].in), 5, &error, "f.yaml", &s.sink);
		assert_string_equal(s.problems.data, "6  |  | not valid YAML\n");
		for (unsigned r = 0; cases[i].rejected[r]; r++) {
			assert_true(r < s.rejects);
			assert_string_equal(s.rejected[r], cases[i].rejected[r]);
			assert_int_equal(!s.stand_in[r], text_starts(s.rejected[r], "object"));
		}
		release(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(core),
		cmocka_unit_test(pod),
		cmocka_unit_test(service),
		cmocka_unit_test(slice),
		cmocka_unit_test(authorization),
		cmocka_unit_test(peer),
		cmocka_unit_test(lists),
		cmocka_unit_test(problems),
		cmocka_unit_test(stand_ins),
		cmocka_unit_test(broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
