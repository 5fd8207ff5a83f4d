/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was meant, and is not what stands there: objects whose kind or apiVersion is missing or no text (what of them
 * speaks of a policy must not open anything), annotations where they do nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model.h"

struct seen {
	struct k8s_sink sink;
	struct text said; /* a line each: what is wrong, which object was rejected, what stands in */
};

static void on_emit(struct k8s_sink *sink, struct object *o)
{
	text_add(&container_of(sink, struct seen, sink)->said, "taken: %s %s\n", object_kind_name(o->kind), o->name);
	object_free(o);
}

static void on_reject(struct k8s_sink *sink, enum object_kind kind, const char *namespace, const char *name,
		      struct object *stand_in)
{
	struct text *said = &container_of(sink, struct seen, sink)->said;

	text_add(said, "%s %s/%s", object_kind_name(kind), namespace, name);
	if (stand_in && kind == KIND_AUTHORIZATION_POLICY)
		text_add(said, stand_in->authorization.action == POLICY_DENY ? " DENY" : " ALLOW");
	else if (stand_in)
		text_add(said, stand_in->peer.mtls == ABI_MTLS_STRICT ? " STRICT" : " ?");
	text_add(said, "\n");
	object_free(stand_in);
}

static void on_report(struct k8s_sink *sink, const struct problem *p)
{
	text_add(&container_of(sink, struct seen, sink)->said, "%u %s | %s | %s\n", p->line, p->object, p->field,
		 p->reason);
}

static void said(const char *in, const char *want)
{
	struct seen s = {.sink = {on_emit, on_reject, on_report}};
	struct doc_error e = {0};
	struct arena a = {0};
	struct doc *d;

	assert_int_equal(doc_parse(&a, in, strlen(in), false, 1, &d, &e), 0);
	k8s_decode(d, "f.yaml", &s.sink);
	arena_free(&a);
	assert_string_equal(s.said.data, want);
	text_free(&s.said);
}

static void meant(void **state)
{
	static const struct {
		const char *in, *said;
	} cases[] = {
		{"kind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {rules: [{}]}\n",
		 "1 AuthorizationPolicy shop/p | apiVersion | must be there, as text\n"
		 "AuthorizationPolicy shop/p DENY\n"},
		{"apiversion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\n",
		 "1 PeerAuthentication shop/p | apiVersion | must be there, as text\n"
		 "PeerAuthentication shop/p STRICT\n"},
		{"apiVersion: 1\nkind: AuthorisationPolicy\nmetadata: {name: p}\n",
		 "1 AuthorisationPolicy default/p | apiVersion | must be there, as text\n"
		 "AuthorizationPolicy default/p DENY\n"},
		{"apiVersion: security.istio.io/v1\nKind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n",
		 "1 AuthorizationPolicy shop/p | kind | must be there, as text\n"
		 "AuthorizationPolicy shop/p DENY\n"},
		{"apiVersion: security.istio.io/v1beta1\nknd: PeerAuthentication\nmetadata: {name: p}\n",
		 "1 PeerAuthentication default/p | kind | must be there, as text\n"
		 "PeerAuthentication default/p STRICT\n"},
		{"apiVersion: security.istio.io/v1\nkind: 7\nmetadata: {namespace: shop}\n",
		 "3 AuthorizationPolicy | metadata.name | is missing\n"
		 "2 AuthorizationPolicy | kind | must be there, as text\n"
		 "AuthorizationPolicy shop/(unreadable) DENY\n"},
		{"api: security.istio.io/v1\nsort: x\nmetadata: {name: p}\n",
		 "1 AuthorizationPolicy default/p | kind | must be there, as text\n"
		 "AuthorizationPolicy default/p DENY\n"},
		/* the items of a list inherit what they do not say */
		{"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nitems:\n"
		 "- {kind: [], metadata: {name: p}}\n",
		 "4 AuthorizationPolicy default/p | kind | must be there, as text\n"
		 "AuthorizationPolicy default/p DENY\n"},
		{"apiVersion: security.istio.io/v1\nkind: AuthorisationPolicyList\nitems:\n- metadata: {name: p}\n",
		 "4 AuthorisationPolicy default/p | kind | \"AuthorisationPolicy\" of security.istio.io is not "
		 "supported; a mistyped AuthorizationPolicy or PeerAuthentication?\n"
		 "AuthorizationPolicy default/p DENY\n"},
		{"kind: List\nitems:\n"
		 "- {apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p}, spec: {x: 1}}\n",
		 "1  | apiVersion | must be there, as text\nobject /\n"
		 "3 AuthorizationPolicy default/p | spec.x | weft does not know this field; it could widen or narrow "
		 "the policy\n"
		 "AuthorizationPolicy default/p ALLOW\n"},
		{"- apiVersion: security.istio.io/v1\n  kind: AuthorisationPolicy\n  metadata: {name: p}\n",
		 "1  |  | an object must be a map with apiVersion, kind and metadata\nobject /\n"
		 "2 AuthorisationPolicy default/p | kind | \"AuthorisationPolicy\" of security.istio.io is not "
		 "supported; a mistyped AuthorizationPolicy or PeerAuthentication?\n"
		 "AuthorizationPolicy default/p DENY\n"},
		/* and what is none of weft's policies closes nothing */
		{"apiVersion: security.istio.io/v1\nKind: RequestAuthentication\nmetadata: {name: p}\n",
		 "1  | kind | must be there, as text\nobject /\n"},
		{"name: authorizer\nimage: proxy\n", "1  | kind | must be there, as text\nobject /\n"},
		{"apiVersion: operator.authorino.kuadrant.io/v1beta1\nkind: Authorino\nmetadata: {name: p}\n",
		 "1 Authorino p | kind | weft does not read operator.authorino.kuadrant.io Authorino: ignored\n"},
		{"kind: Service\nmetadata: {name: AuthorizationPolicy}\n",
		 "1  | apiVersion | must be there, as text\nobject /\n"},
		{"apiVersion: v1\nmetadata: {name: p}\n", "1  | kind | must be there, as text\nobject /\n"},
		{"apiVersion: policy.linkerd.io/v1\nmetadata: {name: p}\n",
		 "1  | kind | must be there, as text\nobject /\n"},
	};

	for (size_t i = 0; i < array_size(cases); i++)
		said(cases[i].in, cases[i].said);
}

/* Of a namespace that cannot be: not the object of that name in another one. */
static void nowhere(void **state)
{
	said("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: Shop}\n",
	     "3 AuthorizationPolicy | metadata.namespace | \"Shop\" is not a valid name: at most 63 of a-z, 0-9 and -\n"
	     "AuthorizationPolicy default/(unreadable) ALLOW\n");
	said("apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: [shop]}\n",
	     "3 Pod | metadata.namespace | must be text, not a list\nPod default/\n");
}

#define PEER(rest) "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n" rest

/* Around the spec of a policy. */
static void frames(void **state)
{
	said(PEER("metadata: {name: p, namespace: shop}\nspce: {mtls: {mode: STRICT}}\n"),
	     "4 PeerAuthentication shop/p | spce | weft does not know this field; it could widen or narrow the policy\n"
	     "PeerAuthentication shop/p STRICT\n");
	said("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
	     "Spec: {action: DENY, rules: [{}]}\n",
	     "4 AuthorizationPolicy shop/p | Spec | weft does not know this field; it could widen or narrow the "
	     "policy\n"
	     "AuthorizationPolicy shop/p ALLOW\n");
	said(PEER("metadata: {name: p, namspace: shop}\nspec: {mtls: {mode: STRICT}}\n"),
	     "3 PeerAuthentication default/p | metadata.namspace | weft does not know this field; it could widen or "
	     "narrow the policy\n"
	     "PeerAuthentication default/(unreadable) STRICT\n");
	said(PEER("metadata: {name: p, namespace: shop, newer: 1, uid: x, managedFields: []}\nspec: {}\nstatus: {}\n"),
	     "3 PeerAuthentication shop/p | metadata.newer | weft does not know this field: ignored\n"
	     "taken: PeerAuthentication p\n");
}

/* A word that weft knows, where it says nothing, would be taken for one that does. */
static void annotations(void **state)
{
	said("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  annotations:\n"
	     "    weft.io/proxy: always\n    weft.io/splice: \"off\"\n    weft.io/egres: any\n    a.b/egress: any\n",
	     "7 Namespace shop | metadata.annotations[\"weft.io/splice\"] | has no effect on a Namespace: see "
	     "docs/manifests.md\n"
	     "8 Namespace shop | metadata.annotations[\"weft.io/egres\"] | weft does not know this annotation: see "
	     "docs/manifests.md\n"
	     "taken: Namespace shop\n");
	said("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, annotations: {weft.io/egress: any}}\n",
	     "3 ServiceAccount default/a | metadata.annotations[\"weft.io/egress\"] | has no effect on a "
	     "ServiceAccount: see docs/manifests.md\n"
	     "taken: ServiceAccount a\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(meant),
		cmocka_unit_test(nowhere),
		cmocka_unit_test(frames),
		cmocka_unit_test(annotations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
