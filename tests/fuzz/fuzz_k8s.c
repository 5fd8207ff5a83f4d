/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any document to objects. Beside crashes: every object has a valid name, every rejection was explained, and no
 * policy is lost without a word.
 */
#include <stdlib.h>
#include <string.h>

#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct k8s_sink sink;
	unsigned emitted, rejected, reported, errors;
};

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_strings(const struct match_strings *m)
{
	require(m->given || !m->values.count);
	for (unsigned i = 0; i < m->values.count; i++)
		require(*m->values.item[i]);
}

static void check_policy(const struct object_authorization *a)
{
	for (unsigned r = 0; r < a->rules; r++)
		for (unsigned f = 0; f < a->rule[r].froms; f++) {
			const struct policy_source *s = &a->rule[r].from[f];

			check_strings(&s->principals);
			check_strings(&s->not_principals);
			check_strings(&s->namespaces);
			check_strings(&s->service_accounts);
			for (unsigned b = 0; b < s->ip_blocks.values.count; b++)
				require(s->ip_blocks.values.item[b].bits <= 128);
			/* An item that says nothing would match every source. */
			require(s->principals.given || s->not_principals.given || s->namespaces.given ||
				s->not_namespaces.given || s->service_accounts.given ||
				s->not_service_accounts.given || s->trust_domains.given ||
				s->not_trust_domains.given || s->ip_blocks.given || s->not_ip_blocks.given ||
				s->l7);
		}
	require(!a->stand_in || !a->rules);
}

static void on_emit(struct k8s_sink *sink, struct object *o)
{
	struct seen *s = container_of(sink, struct seen, sink);

	s->emitted++;
	require(*o->name && o->kind < KIND_COUNT);
	if (o->kind == KIND_AUTHORIZATION_POLICY)
		check_policy(&o->authorization);
	object_free(o);
}

static void on_reject(struct k8s_sink *sink, enum object_kind kind, const char *namespace, const char *name,
		      struct object *stand_in)
{
	struct seen *s = container_of(sink, struct seen, sink);

	s->rejected++;
	require(s->errors > 0);
	require(namespace && name);
	if (stand_in && kind == KIND_AUTHORIZATION_POLICY)
		require(stand_in->authorization.stand_in);
	if (stand_in && kind == KIND_PEER_AUTHENTICATION)
		require(stand_in->peer.mtls_given && stand_in->peer.mtls == ABI_MTLS_STRICT);
	object_free(stand_in);
}

static void on_report(struct k8s_sink *sink, const struct problem *p)
{
	struct seen *s = container_of(sink, struct seen, sink);

	s->reported++;
	s->errors += !p->warning;
	require(*p->reason && p->line >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen s = {.sink = {on_emit, on_reject, on_report}};
	struct arena a = {0};
	struct doc_error error;
	struct doc *d;
	char *bytes = malloc(size ? size : 1);

	memcpy(bytes, data, size);
	if (!doc_parse(&a, bytes, size, false, 1, &d, &error) || !doc_parse(&a, bytes, size, true, 1, &d, &error)) {
		k8s_decode(d, "f", &s.sink);
		require(!s.errors == !s.rejected);
	}
	s = (struct seen){.sink = s.sink};
	error = (struct doc_error){.line = 1, .reason = "x"};
	k8s_broken(bytes, size, 1, &error, "f", &s.sink);
	require(s.rejected >= 1 && s.reported == 1);
	arena_free(&a);
	free(bytes);
	return 0;
}
