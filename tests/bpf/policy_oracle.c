// SPDX-License-Identifier: Apache-2.0
/* policy_oracle.c: see policy_oracle.h. */
#include <stdio.h>
#include <string.h>

#include "policy_oracle.h"

static bool one_text(const char *pattern, const char *value)
{
	size_t p = strlen(pattern), v = strlen(value);

	if (p == 1 && pattern[0] == '*')
		return true;
	if (p > 1 && pattern[0] == '*')
		return v >= p - 1 && memcmp(value + v - (p - 1), pattern + 1, p - 1) == 0;
	if (p > 1 && pattern[p - 1] == '*')
		return v >= p - 1 && memcmp(value, pattern, p - 1) == 0;
	return p == v && memcmp(pattern, value, p) == 0;
}

static bool some_text(const struct match_strings *m, const char *value)
{
	for (unsigned i = 0; i < m->values.count; i++)
		if (one_text(m->values.item[i], value))
			return true;
	return false;
}

/* A pair of lists on one attribute of the source; an attribute that is not there fits nothing. */
static bool texts_hold(const struct match_strings *want, const struct match_strings *not_want,
		       const struct oracle_connection *c, const char *value)
{
	if (want->given && !(c->known && some_text(want, value)))
		return false;
	if (not_want->given && c->known && some_text(not_want, value))
		return false;
	return true;
}

/* "name" means namespace/name in the namespace of the policy. */
static bool some_account(const struct match_strings *m, const struct oracle_connection *c, const char *namespace)
{
	char full[600], mine[600];

	snprintf(mine, sizeof(mine), "%s/%s", c->source_namespace, c->source_account);
	for (unsigned i = 0; i < m->values.count; i++) {
		const char *v = m->values.item[i];

		if (strcmp(v, "*") == 0 || strchr(v, '/'))
			snprintf(full, sizeof(full), "%s", v);
		else
			snprintf(full, sizeof(full), "%s/%s", namespace, v);
		if (one_text(full, mine))
			return true;
	}
	return false;
}

static bool accounts_hold(const struct match_strings *want, const struct match_strings *not_want,
			  const struct oracle_connection *c, const char *namespace)
{
	if (want->given && !(c->known && some_account(want, c, namespace)))
		return false;
	if (not_want->given && c->known && some_account(not_want, c, namespace))
		return false;
	return true;
}

static bool is_v4(const struct abi_addr *a)
{
	static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	return memcmp(a->byte, mapped, 12) == 0;
}

static bool in_one_block(const struct abi_addr *a, const struct block *b)
{
	bool block_v4 = is_v4(&b->addr) && b->bits >= 96;

	if (is_v4(a) != block_v4)
		return false;
	for (unsigned bit = 0; bit < b->bits; bit++) {
		unsigned x = a->byte[bit / 8] >> (7 - bit % 8) & 1;
		unsigned y = b->addr.byte[bit / 8] >> (7 - bit % 8) & 1;

		if (x != y)
			return false;
	}
	return true;
}

static bool some_block(const struct match_blocks *m, const struct abi_addr *a)
{
	for (unsigned i = 0; i < m->values.count; i++)
		if (in_one_block(a, &m->values.item[i]))
			return true;
	return false;
}

static bool blocks_hold(const struct match_blocks *want, const struct match_blocks *not_want,
			const struct abi_addr *a)
{
	return (!want->given || some_block(want, a)) && (!not_want->given || !some_block(not_want, a));
}

static bool some_port(const struct match_ports *m, uint16_t port)
{
	for (unsigned i = 0; i < m->values.count; i++)
		if (m->values.item[i] == port)
			return true;
	return false;
}

static bool ports_hold(const struct match_ports *want, const struct match_ports *not_want, uint16_t port)
{
	return (!want->given || some_port(want, port)) && (!not_want->given || !some_port(not_want, port));
}

enum answer { NO,
	      YES,
	      ONLY_WITH_HTTP };

static bool source_holds(const struct policy_source *s, const struct oracle_connection *c, const char *namespace)
{
	char principal[900];

	snprintf(principal, sizeof(principal), "%s/ns/%s/sa/%s", c->source_trust_domain, c->source_namespace,
		 c->source_account);
	return texts_hold(&s->principals, &s->not_principals, c, principal) &&
	       texts_hold(&s->namespaces, &s->not_namespaces, c, c->source_namespace) &&
	       texts_hold(&s->trust_domains, &s->not_trust_domains, c, c->source_trust_domain) &&
	       accounts_hold(&s->service_accounts, &s->not_service_accounts, c, namespace) &&
	       blocks_hold(&s->ip_blocks, &s->not_ip_blocks, &c->from);
}

static bool condition_holds(const struct policy_condition *w, const struct oracle_connection *c,
			    const char *namespace)
{
	char principal[900];

	switch (w->key) {
	case WHEN_SOURCE_IP:
		return blocks_hold(&w->blocks, &w->not_blocks, &c->from);
	case WHEN_DESTINATION_IP:
		return blocks_hold(&w->blocks, &w->not_blocks, &c->to);
	case WHEN_DESTINATION_PORT:
		return ports_hold(&w->ports, &w->not_ports, c->port);
	case WHEN_SOURCE_NAMESPACE:
		return texts_hold(&w->values, &w->not_values, c, c->source_namespace);
	case WHEN_SOURCE_PRINCIPAL:
		snprintf(principal, sizeof(principal), "%s/ns/%s/sa/%s", c->source_trust_domain,
			 c->source_namespace, c->source_account);
		return texts_hold(&w->values, &w->not_values, c, principal);
	case WHEN_SOURCE_SERVICE_ACCOUNT:
		return accounts_hold(&w->values, &w->not_values, c, namespace);
	case WHEN_L7:
		break;
	}
	return true; /* as far as L4 can see */
}

static bool strings_hold(const struct match_strings *want, const struct match_strings *not_want, const char *value)
{
	return (!want->given || some_text(want, value)) && (!not_want->given || !some_text(not_want, value));
}

static bool operation_of_http(const struct policy_operation *o, const struct oracle_request *q, bool deny)
{
	if (!q->http)
		return deny;
	return strings_hold(&o->hosts, &o->not_hosts, q->host) &&
	       strings_hold(&o->methods, &o->not_methods, q->method) &&
	       strings_hold(&o->paths, &o->not_paths, q->path);
}

static enum answer header_condition(const struct policy_condition *w, const struct oracle_request *q, bool deny)
{
	unsigned fit = 0;

	if (!q || !w->header)
		return ONLY_WITH_HTTP;
	if (!q->http)
		return deny ? YES : NO;
	if (strcmp(w->header, "x-a") != 0 || !q->values)
		return w->values.given ? NO : YES;
	for (unsigned i = 0; i < q->values; i++)
		fit += strings_hold(&w->values, &w->not_values, q->value[i]);
	return (deny ? fit > 0 : fit == q->values) ? YES : NO;
}

/* One rule: some source, some operation, all conditions; the best answer of all pairs. */
static enum answer rule_holds(const struct policy_rule *r, const struct oracle_connection *c,
			      const char *namespace, bool deny)
{
	static const struct policy_source any_source;
	static const struct policy_operation any_operation;
	enum answer best = NO;
	bool http = false;

	for (unsigned i = 0; i < r->whens; i++) {
		if (!condition_holds(&r->when[i], c, namespace))
			return NO;
		if (r->when[i].key == WHEN_L7) {
			enum answer a = header_condition(&r->when[i], c->request, deny);

			if (a == NO)
				return NO;
			http |= a == ONLY_WITH_HTTP;
		}
	}
	for (unsigned f = 0; f < (r->froms ? r->froms : 1); f++) {
		const struct policy_source *s = r->froms ? &r->from[f] : &any_source;

		if (!source_holds(s, c, namespace))
			continue;
		for (unsigned t = 0; t < (r->tos ? r->tos : 1); t++) {
			const struct policy_operation *o = r->tos ? &r->to[t] : &any_operation;

			if (!ports_hold(&o->ports, &o->not_ports, c->port))
				continue;
			if (o->l7 && c->request && !operation_of_http(o, c->request, deny))
				continue;
			if (!http && !s->l7 && (!o->l7 || c->request))
				return YES;
			best = ONLY_WITH_HTTP;
		}
	}
	return best;
}

static enum answer policy_holds(const struct object *o, const struct oracle_connection *c)
{
	const struct object_authorization *p = &o->authorization;
	enum answer best = NO;

	if (p->stand_in)
		return p->action == POLICY_DENY ? YES : NO;
	for (unsigned i = 0; i < p->rules && best != YES; i++) {
		enum answer a = rule_holds(&p->rule[i], c, o->namespace, p->action == POLICY_DENY);

		if (a != NO)
			best = a;
	}
	return best;
}

static bool labels_hold(const struct pairs *selector, const struct pairs *labels)
{
	for (unsigned i = 0; i < selector->count; i++) {
		bool found = false;

		for (unsigned j = 0; j < labels->count; j++)
			if (strcmp(selector->item[i].key, labels->item[j].key) == 0 &&
			    strcmp(selector->item[i].value, labels->item[j].value) == 0)
				found = true;
		if (!found)
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------ mTLS */

static bool precedes(const struct object *a, const struct object *b)
{
	return a->created != b->created ? a->created < b->created : strcmp(a->name, b->name) < 0;
}

/* The PeerAuthentication of one scope that counts. 0 mesh, 1 namespace, 2 workload. */
static const struct object *peer_of(const struct store *store, const char *root, const struct oracle_connection *c,
				    int scope)
{
	const struct object *best = NULL, *o = NULL;

	while ((o = store_each(store, KIND_PEER_AUTHENTICATION, o))) {
		bool fits = false;

		if (scope == 0)
			fits = !o->peer.selector.count && strcmp(o->namespace, root) == 0;
		if (scope == 1)
			fits = !o->peer.selector.count && strcmp(o->namespace, c->namespace) == 0;
		if (scope == 2)
			fits = o->peer.selector.count && strcmp(o->namespace, c->namespace) == 0 &&
			       labels_hold(&o->peer.selector, c->labels);
		if (fits && (!best || precedes(o, best)))
			best = o;
	}
	return best;
}

static enum abi_mtls mtls_of(const struct store *store, const char *root, const struct oracle_connection *c)
{
	const struct object *workload = peer_of(store, root, c, 2);
	const struct object *order[3] = {workload, peer_of(store, root, c, 1), peer_of(store, root, c, 0)};

	for (unsigned i = 0; workload && i < workload->peer.ports; i++)
		if (workload->peer.port[i].port == c->port)
			return workload->peer.port[i].mtls;
	for (int i = 0; i < 3; i++)
		if (order[i] && order[i]->peer.mtls_given)
			return order[i]->peer.mtls;
	return ABI_MTLS_PERMISSIVE;
}

/* ------------------------------------------------------------------ all */

enum abi_reason oracle_decide(const struct store *store, const char *root_namespace,
			      const struct oracle_connection *c)
{
	enum answer deny = NO, allow = NO;
	const struct object *o = NULL;
	bool has_allow = false;

	while ((o = store_each(store, KIND_AUTHORIZATION_POLICY, o))) {
		enum answer a, *sum = o->authorization.action == POLICY_DENY ? &deny : &allow;

		if (strcmp(o->namespace, c->namespace) != 0 && strcmp(o->namespace, root_namespace) != 0)
			continue;
		if (!labels_hold(&o->authorization.selector, c->labels))
			continue;
		if (o->authorization.action == POLICY_ALLOW)
			has_allow = true;
		a = policy_holds(o, c);
		if (a == YES || *sum == NO)
			*sum = a;
	}
	if (mtls_of(store, root_namespace, c) == ABI_MTLS_STRICT && !c->known)
		return ABI_MTLS_REQUIRED;
	if (deny == YES)
		return ABI_DENIED;
	if (deny == ONLY_WITH_HTTP)
		return ABI_NEEDS_WORKER;
	if (!has_allow || allow == YES)
		return ABI_NONE;
	return allow == ONLY_WITH_HTTP ? ABI_NEEDS_WORKER : ABI_NOT_ALLOWED;
}
