/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k8s_security.c: AuthorizationPolicy and PeerAuthentication of security.istio.io.
 *
 * Here an unknown field, an empty list and an odd value are errors: each could widen or narrow what the author
 * meant. An object with an error is replaced by a stand-in that closes what it selects (model.h).
 */
#include <ctype.h>
#include <string.h>

#include "http.h"
#include "k8s_kinds.h"

#define MAX_ITEMS 65536 /* of one list of a policy */

static void decode_selector(const struct field *spec, struct pairs *ret)
{
	static const char *const names[] = {"matchLabels"};
	struct field selector = field_get(spec, "selector"), labels = field_get(&selector, "matchLabels");
	unsigned before = spec->d->errors;

	if (!field_is_map(&selector))
		return; /* a wrong type is reported; the policy then closes its namespace */
	field_only(&selector, names, array_size(names));
	field_pairs(&labels, ret);
	for (struct field i = field_first_key(&labels); i.doc; field_next(&i))
		if (strchr(i.key, '*') || (i.doc->text && strchr(i.doc->text, '*')))
			field_error(&i, "must not contain *: labels are compared as they are");
	if (spec->d->errors != before)
		*ret = (struct pairs){0};
}

/* A list that was written must say something: an empty one would be "any" for Istio and "none" for people. */
static bool begin_list(const struct field *list, bool *ret_given)
{
	if (!list->doc)
		return false;
	*ret_given = true;
	if (list->doc->kind == DOC_NULL || (list->doc->kind == DOC_LIST && !list->doc->child)) {
		field_error(list, "is empty: leave the field out, or list what is meant");
		return false;
	}
	return field_at_most(list, MAX_ITEMS);
}

static const char *pattern(const struct field *i)
{
	const char *s = field_string(i);

	if (field_given(i) && (!s || *s))
		return s;
	field_error(i, "is empty");
	return NULL;
}

enum shape { PATTERN,
	     PATH,
	     PRINCIPAL,
	     ACCOUNT };

/* Istio's templates: {*} is one component, {**} any number of them, and nothing of its kind follows it. */
static void check_path(const struct field *i, const char *s)
{
	bool template = strstr(s, "{*}") || strstr(s, "{**}"), last = false;

	for (; template && *s; s++) {
		size_t len = text_starts(s, "{*}") ? 3 : text_starts(s, "{**}") ? 4 : 0;

		if (!len && !strchr("*{}", *s))
			continue;
		if (!len || last || s[-1] != '/' || (s[len] && s[len] != '/')) {
			field_error(i, "of * { } a template has only the components {*} and, as its last one, {**}");
			return;
		}
		last = len == 4;
		s += len - 1;
	}
}

static void check_shape(const struct field *i, const char *s, enum shape shape)
{
	const char *slash = strchr(s, '/');

	if (shape == PATH)
		check_path(i, s);
	if (shape == PRINCIPAL && text_starts(s, "spiffe://"))
		field_error(i, "must be written without \"spiffe://\": it would never match");
	if (shape != ACCOUNT)
		return;
	if (strchr(s, '*'))
		field_error(i, "must not contain *: service accounts are compared as they are");
	else if (slash && (slash == s || !slash[1] || strchr(slash + 1, '/')))
		field_error(i, "must be NAME or NAMESPACE/NAME");
}

/* As the paths of requests have it, or a DENY rule with %c3 would let every %C3 pass. */
static const char *one_form(const struct field *i, const char *s)
{
	char *copy = arena_string(&i->d->object->arena, s, strlen(s));

	http_path_escapes(copy);
	return copy;
}

static void decode_strings(const struct field *map, const char *key, enum shape shape,
			   struct match_strings *ret)
{
	struct field list = field_get(map, key);

	if (!begin_list(&list, &ret->given))
		return;
	ret->values.item = field_alloc(&list, field_count(&list), sizeof(*ret->values.item));
	for (struct field i = field_first_item(&list); i.doc; field_next(&i)) {
		const char *s = pattern(&i);

		if (!s)
			continue;
		check_shape(&i, s, shape);
		if (shape == PATH)
			s = one_form(&i, s);
		ret->values.item[ret->values.count++] = s;
	}
}

static void decode_blocks(const struct field *map, const char *key, struct match_blocks *ret)
{
	struct field list = field_get(map, key);

	if (!begin_list(&list, &ret->given))
		return;
	ret->values.item = field_alloc(&list, field_count(&list), sizeof(*ret->values.item));
	for (struct field i = field_first_item(&list); i.doc; field_next(&i)) {
		const char *s = pattern(&i);
		struct block *b = &ret->values.item[ret->values.count];

		if (s && addr_parse_block(s, &b->addr, &b->bits))
			field_error(&i, "\"%.60s\" is not an address block: write it as 10.0.0.0/8, fd00::/8 or "
					"one address, with no bits after the prefix",
				    s);
		else if (s)
			ret->values.count++;
	}
}

static void decode_ports(const struct field *map, const char *key, struct match_ports *ret)
{
	struct field list = field_get(map, key);
	long long n;

	if (!begin_list(&list, &ret->given))
		return;
	ret->values.item = field_alloc(&list, field_count(&list), sizeof(*ret->values.item));
	for (struct field i = field_first_item(&list); i.doc; field_next(&i)) {
		const char *s = pattern(&i);

		if (s && text_number(s, 1, 65535, &n))
			field_error(&i, "\"%.40s\" is not a port: a number from 1 to 65535", s);
		else if (s)
			ret->values.item[ret->values.count++] = (uint16_t)n;
	}
}

/* Fields that only HTTP can tell: their values are the proxy's business, here only their shape is checked. */
static bool decode_l7(const struct field *map, const char *const *names, size_t count)
{
	bool l7 = false;

	for (size_t n = 0; n < count; n++) {
		struct field list = field_get(map, names[n]);

		if (begin_list(&list, &l7))
			for (struct field i = field_first_item(&list); i.doc; field_next(&i))
				(void)pattern(&i);
	}
	return l7;
}

/* ------------------------------------------------------------------ AuthorizationPolicy */

static void decode_source(const struct field *f, struct policy_source *s)
{
	static const char *const l7[] = {"requestPrincipals", "notRequestPrincipals", "remoteIpBlocks",
					 "notRemoteIpBlocks"};
	static const char *const names[] = {
		"principals", "notPrincipals", "namespaces", "notNamespaces",
		"serviceAccounts", "notServiceAccounts", "trustDomains", "notTrustDomains",
		"ipBlocks", "notIpBlocks", "requestPrincipals", "notRequestPrincipals",
		"remoteIpBlocks", "notRemoteIpBlocks"};

	if (!field_is_map(f) || !f->doc->child) {
		if (!field_given(f) || f->doc->kind == DOC_MAP)
			field_error(f, "is empty: it would mean every source; leave `from` out if that is meant");
		return;
	}
	field_only(f, names, array_size(names));
	decode_strings(f, "principals", PRINCIPAL, &s->principals);
	decode_strings(f, "notPrincipals", PRINCIPAL, &s->not_principals);
	decode_strings(f, "namespaces", PATTERN, &s->namespaces);
	decode_strings(f, "notNamespaces", PATTERN, &s->not_namespaces);
	decode_strings(f, "serviceAccounts", ACCOUNT, &s->service_accounts);
	decode_strings(f, "notServiceAccounts", ACCOUNT, &s->not_service_accounts);
	decode_strings(f, "trustDomains", PATTERN, &s->trust_domains);
	decode_strings(f, "notTrustDomains", PATTERN, &s->not_trust_domains);
	decode_blocks(f, "ipBlocks", &s->ip_blocks);
	decode_blocks(f, "notIpBlocks", &s->not_ip_blocks);
	s->l7 = decode_l7(f, l7, array_size(l7));
	if ((s->service_accounts.given || s->not_service_accounts.given) &&
	    (s->principals.given || s->not_principals.given || s->namespaces.given || s->not_namespaces.given))
		field_error(f, "serviceAccounts cannot stand beside principals or namespaces");
}

static void decode_operation(const struct field *f, struct policy_operation *o)
{
	struct {
		const char *name;
		struct match_strings *to;
	} l7[] = {{"hosts", &o->hosts},	    {"notHosts", &o->not_hosts}, {"methods", &o->methods},
		  {"notMethods", &o->not_methods}, {"paths", &o->paths},	 {"notPaths", &o->not_paths}};
	static const char *const names[] = {"hosts", "notHosts", "ports", "notPorts",
					    "methods", "notMethods", "paths", "notPaths"};

	if (!field_is_map(f) || !f->doc->child) {
		if (!field_given(f) || f->doc->kind == DOC_MAP)
			field_error(f, "is empty: it would mean every operation; leave `to` out if that is meant");
		return;
	}
	field_only(f, names, array_size(names));
	decode_ports(f, "ports", &o->ports);
	decode_ports(f, "notPorts", &o->not_ports);
	for (size_t i = 0; i < array_size(l7); i++) {
		decode_strings(f, l7[i].name, i < 4 ? PATTERN : PATH, l7[i].to);
		o->l7 |= l7[i].to->given;
	}
}

static bool condition_key(const char *key, struct policy_condition *c)
{
	static const struct {
		const char *name;
		int key;
	} keys[] = {{"source.ip", WHEN_SOURCE_IP},
		    {"source.namespace", WHEN_SOURCE_NAMESPACE},
		    {"source.principal", WHEN_SOURCE_PRINCIPAL},
		    {"source.serviceAccount", WHEN_SOURCE_SERVICE_ACCOUNT},
		    {"destination.ip", WHEN_DESTINATION_IP},
		    {"destination.port", WHEN_DESTINATION_PORT},
		    {"remote.ip", WHEN_L7},
		    {"connection.sni", WHEN_L7},
		    {"request.auth.principal", WHEN_L7},
		    {"request.auth.audiences", WHEN_L7},
		    {"request.auth.presenter", WHEN_L7}};
	static const char *const families[] = {"request.headers[", "request.auth.claims[",
					       "experimental.envoy.filters."};

	c->key_text = key;
	for (size_t i = 0; i < array_size(keys); i++)
		if (!strcmp(key, keys[i].name)) {
			c->key = keys[i].key;
			return true;
		}
	c->key = WHEN_L7;
	for (size_t i = 0; i < array_size(families); i++)
		if (text_starts(key, families[i]))
			return true;
	return false;
}

/* NAME of "request.headers[NAME]", in lower case; an error if there is none. */
static void condition_header(const struct field *f, struct policy_condition *c)
{
	static const char family[] = "request.headers[";
	size_t len = strlen(c->key_text), start = sizeof(family) - 1;
	char *name;

	if (c->key != WHEN_L7 || !text_starts(c->key_text, family))
		return;
	if (len < start + 2 || c->key_text[len - 1] != ']' || strpbrk(c->key_text + start, " \t:")) {
		field_error(f, "must be request.headers[NAME]");
		return;
	}
	name = field_alloc(f, len - start, 1);
	for (size_t i = start; i < len - 1; i++)
		name[i - start] = (char)tolower((unsigned char)c->key_text[i]);
	c->header = name;
}

static void condition_values(const struct field *f, struct policy_condition *c)
{
	static const char *const values[] = {"values", "notValues"};

	switch (c->key) {
	case WHEN_SOURCE_IP:
	case WHEN_DESTINATION_IP:
		decode_blocks(f, "values", &c->blocks);
		decode_blocks(f, "notValues", &c->not_blocks);
		break;
	case WHEN_DESTINATION_PORT:
		decode_ports(f, "values", &c->ports);
		decode_ports(f, "notValues", &c->not_ports);
		break;
	case WHEN_L7:
		if (c->header) {
			decode_strings(f, "values", PATTERN, &c->values);
			decode_strings(f, "notValues", PATTERN, &c->not_values);
		} else {
			(void)decode_l7(f, values, array_size(values));
		}
		break;
	default: {
		enum shape shape = c->key == WHEN_SOURCE_PRINCIPAL	   ? PRINCIPAL
				   : c->key == WHEN_SOURCE_SERVICE_ACCOUNT ? ACCOUNT
									   : PATTERN;

		decode_strings(f, "values", shape, &c->values);
		decode_strings(f, "notValues", shape, &c->not_values);
	}
	}
}

static void decode_condition(const struct field *f, struct policy_condition *c)
{
	static const char *const names[] = {"key", "values", "notValues"};
	struct field key = field_get(f, "key"), values = field_get(f, "values");
	struct field not_values = field_get(f, "notValues");
	const char *s;

	if (!field_is_map(f)) {
		if (!field_given(f))
			field_error(f, "is empty");
		return;
	}
	field_only(f, names, array_size(names));
	s = field_string(&key);
	if (!s) {
		if (!field_given(&key))
			field_error(&key, "is missing");
		return;
	}
	if (!condition_key(s, c)) {
		field_error(&key, "\"%.60s\" is not a key that weft knows", s);
		return;
	}
	condition_header(&key, c);
	if (!values.doc && !not_values.doc)
		field_error(f, "has neither values nor notValues");
	condition_values(f, c);
}

/* from[] and to[]: a list of maps with one key each. */
static bool begin_parts(const struct field *list, unsigned *ret_count)
{
	bool given;

	if (!begin_list(list, &given) || list->doc->kind != DOC_LIST) {
		(void)field_first_item(list); /* reports another type */
		return false;
	}
	*ret_count = field_count(list);
	return true;
}

/* What an item of from[] or to[] has under its one key. */
static struct field sole(const struct field *item, const char *key)
{
	if (field_is_map(item))
		field_only(item, &key, 1);
	return field_get(item, key);
}

static void decode_rule(const struct field *f, struct policy_rule *r)
{
	static const char *const names[] = {"from", "to", "when"};
	struct field from = field_get(f, "from"), to = field_get(f, "to"), when = field_get(f, "when");

	if (!field_is_map(f)) {
		if (!field_given(f))
			field_error(f, "is empty: write {} for a rule that matches everything");
		return;
	}
	field_only(f, names, array_size(names));
	if (begin_parts(&from, &r->froms)) {
		r->from = field_alloc(&from, r->froms, sizeof(*r->from));
		for (struct field i = field_first_item(&from); i.doc; field_next(&i)) {
			struct field s = sole(&i, "source");

			decode_source(&s, &r->from[i.index]);
		}
	}
	if (begin_parts(&to, &r->tos)) {
		r->to = field_alloc(&to, r->tos, sizeof(*r->to));
		for (struct field i = field_first_item(&to); i.doc; field_next(&i)) {
			struct field o = sole(&i, "operation");

			decode_operation(&o, &r->to[i.index]);
		}
	}
	if (begin_parts(&when, &r->whens)) {
		r->when = field_alloc(&when, r->whens, sizeof(*r->when));
		for (struct field i = field_first_item(&when); i.doc; field_next(&i))
			decode_condition(&i, &r->when[i.index]);
	}
}

/* False: the policy is right and has no effect. Until it is known, a policy denies. */
static bool decode_action(const struct field *spec)
{
	struct object_authorization *a = &spec->d->object->authorization;
	struct field action = field_get(spec, "action"), provider = field_get(spec, "provider");
	const char *s = field_text(&action);

	a->action = POLICY_DENY;
	if (!field_given(&action) || (s && !strcmp(s, "ALLOW")))
		a->action = POLICY_ALLOW;
	else if (s && !strcmp(s, "CUSTOM"))
		field_error(&action, "CUSTOM is not supported: weft calls no external authorizer");
	else if (s && strcmp(s, "DENY") && strcmp(s, "AUDIT"))
		field_error(&action, "must be ALLOW or DENY, not \"%.40s\"", s);
	if (field_given(&provider) && (!s || strcmp(s, "CUSTOM")))
		field_error(&provider, "is for action CUSTOM alone");
	if (!s || strcmp(s, "AUDIT"))
		return true;
	field_warning(&action, "AUDIT is not supported: the policy has no effect");
	return false;
}

static bool dry_run(const struct field *root)
{
	const char *s = pairs_get(&root->d->object->annotations, "istio.io/dry-run");
	struct field metadata = field_get(root, "metadata"), list = field_get(&metadata, "annotations");
	struct field f = field_get(&list, "istio.io/dry-run");

	if (!s || !strcmp(s, "false"))
		return false;
	if (strcmp(s, "true")) {
		field_error(&f, "must be \"true\" or \"false\", not \"%.40s\"", s);
		return false;
	}
	field_warning(&f, "dry run is not supported: the policy has no effect");
	return true;
}

static void reject_targets(const struct field *spec, struct pairs *selector)
{
	static const char *const names[] = {"targetRef", "targetRefs"};

	for (size_t n = 0; n < array_size(names); n++) {
		struct field f = field_get(spec, names[n]);

		if (!field_given(&f))
			continue;
		field_error(&f, "is not supported in this version: use a selector");
		*selector = (struct pairs){0};
	}
}

static bool decode_authorization(const struct field *root)
{
	static const char *const names[] = {"selector", "targetRef", "targetRefs",
					    "rules", "action", "provider"};
	struct object_authorization *a = &root->d->object->authorization;
	struct field spec = field_get(root, "spec"), rules = field_get(&spec, "rules");
	bool effect;

	a->action = POLICY_DENY;
	if (!field_given(&spec)) {
		/* As in Istio: no spec is an ALLOW policy without rules, which allows nothing. */
		a->action = POLICY_ALLOW;
		return !dry_run(root);
	}
	if (!field_is_map(&spec))
		return true;
	field_only(&spec, names, array_size(names));
	decode_selector(&spec, &a->selector);
	reject_targets(&spec, &a->selector);
	effect = decode_action(&spec);
	effect = !dry_run(root) && effect;
	if (field_at_most(&rules, MAX_ITEMS) && field_given(&rules)) {
		a->rule = field_alloc(&rules, field_count(&rules), sizeof(*a->rule));
		for (struct field i = field_first_item(&rules); i.doc; field_next(&i))
			decode_rule(&i, &a->rule[a->rules++]);
	}
	if (a->action == POLICY_DENY && effect && !root->d->errors && !a->rules)
		field_warning(&rules, "a DENY policy without rules denies nothing");
	return effect;
}

/* ------------------------------------------------------------------ PeerAuthentication */

/* False: UNSET or absent. */
static bool decode_mode(const struct field *map, enum abi_mtls *ret)
{
	static const char *const names[] = {"mode"};
	struct field f = field_get(map, "mode");
	const char *s;

	if (!field_is_map(map))
		return false;
	field_only(map, names, array_size(names));
	s = field_text(&f);
	if (!s || !strcmp(s, "UNSET"))
		return false;
	if (!strcmp(s, "STRICT"))
		*ret = ABI_MTLS_STRICT;
	else if (!strcmp(s, "PERMISSIVE"))
		*ret = ABI_MTLS_PERMISSIVE;
	else if (!strcmp(s, "DISABLE"))
		*ret = ABI_MTLS_DISABLE;
	else
		field_error(&f, "must be STRICT, PERMISSIVE, DISABLE or UNSET, not \"%.40s\"", s);
	return true;
}

static void decode_port_mtls(const struct field *list)
{
	struct object_peer_authentication *p = &list->d->object->peer;

	p->port = field_alloc(list, field_count(list), sizeof(*p->port));
	for (struct field i = field_first_key(list); i.doc; field_next(&i)) {
		struct port_mtls *e = &p->port[p->ports];
		long long n;

		if (text_number(i.key, 1, 65535, &n)) {
			field_error(&i, "\"%.40s\" is not a port: a number from 1 to 65535", i.key);
			continue;
		}
		e->port = (uint16_t)n;
		if (decode_mode(&i, &e->mtls))
			p->ports++;
	}
}

static void decode_peer(const struct field *root)
{
	static const char *const names[] = {"selector", "mtls", "portLevelMtls"};
	struct object_peer_authentication *p = &root->d->object->peer;
	struct field spec = field_get(root, "spec"), mtls = field_get(&spec, "mtls");
	struct field list = field_get(&spec, "portLevelMtls");

	if (!field_is_map(&spec))
		return;
	field_only(&spec, names, array_size(names));
	decode_selector(&spec, &p->selector);
	p->mtls_given = decode_mode(&mtls, &p->mtls);
	if (!field_given(&list) || !field_at_most(&list, MAX_ITEMS))
		return;
	if (!p->selector.count)
		field_error(&list, "needs a selector with matchLabels");
	decode_port_mtls(&list);
}

/* ------------------------------------------------------------------ both */

/*
 * Around the spec: `spce: {mtls: ...}` would be an object without one. A metadata field that weft has never heard of
 * may be of a newer Kubernetes; not where no namespace is given, which it may have been meant as.
 */
static void check_frame(const struct field *root)
{
	static const char *const names[] = {"apiVersion", "kind", "metadata", "spec", "status"};
	static const char *const meta[] = {"name", "namespace", "labels", "annotations", "creationTimestamp",
					   "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "uid",
					   "finalizers", "generateName", "ownerReferences", "resourceVersion",
					   "clusterName", "selfLink", "managedFields"};
	struct field m = field_get(root, "metadata"), space = field_get(&m, "namespace");
	unsigned errors;

	field_only(root, names, array_size(names));
	if (!field_given(&m) || m.doc->kind != DOC_MAP)
		return;
	if (field_given(&space)) {
		field_known(&m, meta, array_size(meta));
		return;
	}
	errors = root->d->errors;
	field_only(&m, meta, array_size(meta));
	if (root->d->errors > errors)
		root->d->object->name = ""; /* whose it is is not known */
}

bool k8s_security_decode(const struct field *root)
{
	check_frame(root);
	if (root->d->object->kind == KIND_AUTHORIZATION_POLICY)
		return decode_authorization(root);
	decode_peer(root);
	return true;
}

void k8s_security_stand_in(struct object *o)
{
	if (o->kind == KIND_AUTHORIZATION_POLICY) {
		o->authorization.rule = NULL;
		o->authorization.rules = 0;
		o->authorization.stand_in = true;
	} else {
		o->peer.stand_in = o->peer.mtls_given = true;
		o->peer.mtls = ABI_MTLS_STRICT;
		o->peer.port = NULL;
		o->peer.ports = 0;
	}
}
