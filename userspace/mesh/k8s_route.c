/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k8s_route.c: HTTPRoute, GRPCRoute, TLSRoute, TCPRoute and ReferenceGrant of gateway.networking.k8s.io.
 *
 * The limits are those of the CRDs (Gateway API v1.6). What weft cannot do is an error that names the field; what it
 * has never heard of is a warning, since a newer API may have it.
 */
#include <ctype.h>
#include <string.h>

#include "k8s_kinds.h"
#include "route.h"
#include "route_regex.h"

#define MAX_PARENTS 32
#define MAX_RULES 16
#define MAX_MATCHES 64	/* of a rule */
#define ALL_MATCHES 128 /* of a route */
#define MAX_VALUES 16	/* headers, query parameters */
#define MAX_BACKENDS 16
#define MAX_WEIGHT 1000000
#define MAX_HOSTNAMES 1024
#define MAX_GRANTS 16
#define MAX_PATH 1024
#define MAX_HEADER 4096
#define GATEWAY "gateway.networking.k8s.io"

static bool is_http(const struct field *f)
{
	return f->d->object->kind == KIND_HTTP_ROUTE;
}

static bool is_grpc(const struct field *f)
{
	return f->d->object->kind == KIND_GRPC_ROUTE;
}

/* ------------------------------------------------------------------ parents */

static void decode_parent(const struct field *f, struct object_route_parent *p)
{
	static const char *const names[] = {"group", "kind", "namespace", "name", "sectionName", "port"};
	struct field group = field_get(f, "group"), kind = field_get(f, "kind"), name = field_get(f, "name");
	struct field space = field_get(f, "namespace"), section = field_get(f, "sectionName");
	struct field port = field_get(f, "port");
	const char *g = field_text(&group), *k = field_string(&kind);
	long long n;

	if (!field_is_map(f))
		return;
	field_known(f, names, array_size(names));
	p->name = field_string(&name);
	if (!p->name || !*p->name) {
		p->name = "";
		field_error(&name, "is missing");
	}
	p->namespace = field_string(&space);
	if (!p->namespace || !*p->namespace)
		p->namespace = f->d->object->namespace;
	p->section = field_string(&section);
	if (field_number(&port, 1, 65535, &n))
		p->port = (uint16_t)n;
	if (!g && !k)
		p->kind = "Gateway"; /* the API's default */
	else if ((!k || !strcmp(k, "Gateway")) && (!g || !strcmp(g, GATEWAY)))
		p->kind = "Gateway";
	else if (k && !strcmp(k, "Service") && (!g || !strcmp(g, GATEWAY)))
		field_error(&group, "must be \"\" for a Service: %s is where a Gateway is", GATEWAY);
	else if (!k || strcmp(k, "Service") || *g)
		p->kind = k ? k : "Gateway";
	p->gateway = p->kind && (!g || !strcmp(g, GATEWAY)) && !strcmp(p->kind, "Gateway");
}

static void decode_parents(const struct field *spec)
{
	struct object_route *r = &spec->d->object->route;
	struct field list = field_get(spec, "parentRefs");
	unsigned ours = 0;

	if (field_given(&list) && field_at_most(&list, MAX_PARENTS)) {
		r->parent = field_alloc(&list, field_count(&list) + 1, sizeof(*r->parent));
		for (struct field i = field_first_item(&list); i.doc; field_next(&i)) {
			decode_parent(&i, &r->parent[r->parents]);
			ours += !r->parent[r->parents].kind || r->parent[r->parents].gateway;
			r->parents++;
		}
	}
	if (!ours && !spec->d->errors)
		field_warning(&list, "names no Service (group \"\", kind Service) and no Gateway: the route "
				     "has no effect in weft");
}

/* ------------------------------------------------------------------ matches */

/* False: it is an exact one, or wrong. */
static bool is_regex(const struct field *type)
{
	const char *s = field_text(type);

	if (s && strcmp(s, "Exact") && strcmp(s, "RegularExpression"))
		field_error(type, "must be Exact or RegularExpression, not \"%.40s\"", s);
	return s && !strcmp(s, "RegularExpression");
}

static void check_regex(const struct field *value, const char *pattern)
{
	char why[ROUTE_REGEX_WHY];
	struct route_regex *r = route_regex_new(pattern, why);

	if (!r)
		field_error(value, "is no regular expression (PCRE2): %s", why);
	route_regex_free(r);
}

static bool given_before(const struct object_route_value *v, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(v[i].name, name))
			return true;
	return false;
}

/* headers[] (names in lower case) or queryParams[] */
static struct object_route_value *decode_values(const struct field *list, bool headers, unsigned *ret_count)
{
	static const char *const names[] = {"type", "name", "value"};
	struct object_route_value *v;
	unsigned n = 0;
	size_t max = headers ? MAX_HEADER : MAX_PATH;

	if (!field_given(list) || !field_at_most(list, MAX_VALUES))
		return NULL;
	v = field_alloc(list, field_count(list) + 1, sizeof(*v));
	for (struct field i = field_first_item(list); i.doc; field_next(&i)) {
		struct field type = field_get(&i, "type"), name = field_get(&i, "name"), value = field_get(&i, "value");

		if (!field_is_map(&i))
			continue;
		field_known(&i, names, array_size(names));
		v[n].name = k8s_route_header_name(&name, headers);
		v[n].value = field_string(&value);
		v[n].regex = is_regex(&type);
		if (!v[n].value || !*v[n].value || strlen(v[n].value) > max) {
			field_error(&value, "must be text of 1 to %zu characters", max);
			continue;
		}
		if (v[n].regex)
			check_regex(&value, v[n].value);
		if (v[n].name && given_before(v, n, v[n].name))
			field_warning(&name, "\"%.60s\" is given twice: only the first is used", v[n].name);
		else if (v[n].name)
			n++;
	}
	*ret_count = n;
	return v;
}

/* The rules of the CRD for a path that is compared as it is. Its escapes are brought into the form of a request's. */
static const char *plain_path(const struct field *value, const char *s)
{
	const char *why = NULL;
	char *copy = NULL;
	struct http_text path, query;

	if (*s != '/')
		why = "must start with \"/\"";
	else if (strstr(s, "//"))
		why = "must not have \"//\"";
	else if (strstr(s, "/./") || strstr(s, "/../") || text_ends(s, "/.") || text_ends(s, "/.."))
		why = "must not have \".\" or \"..\" as a part";
	else if (strchr(s, '?') || strchr(s, '#'))
		why = "must not have \"?\" or \"#\": a query is matched by queryParams";
	if (!why) {
		copy = field_alloc(value, strlen(s) + 1, 1);
		if (!http_path_normalise((struct http_text){s, strlen(s)}, false, copy, &path, &query, &why))
			copy = NULL;
		else
			copy = arena_string(&value->d->object->arena, path.at, path.len);
	}
	if (!copy)
		field_error(value, "\"%.60s\" can match no request: %s", s, why);
	return copy;
}

static void decode_path(const struct field *f, struct object_route_match *m)
{
	static const char *const names[] = {"type", "value"};
	struct field type = field_get(f, "type"), value = field_get(f, "value");
	const char *t = field_text(&type), *s = field_string(&value);

	m->type = ROUTE_PREFIX;
	m->path = "/";
	if (!field_is_map(f))
		return;
	field_known(f, names, array_size(names));
	if (t && !strcmp(t, "Exact"))
		m->type = ROUTE_EXACT;
	else if (t && !strcmp(t, "RegularExpression"))
		m->type = ROUTE_REGEX;
	else if (t && strcmp(t, "PathPrefix"))
		field_error(&type, "must be Exact, PathPrefix or RegularExpression, not \"%.40s\"", t);
	if (!s)
		s = "/";
	if (strlen(s) > MAX_PATH)
		field_error(&value, "must be at most %d characters", MAX_PATH);
	else if (m->type == ROUTE_REGEX)
		check_regex(&value, s);
	else
		s = plain_path(&value, s);
	m->path = s ? s : "/";
}

static void decode_method(const struct field *f, struct object_route_match *m)
{
	static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE",
					      "PATCH"};
	const char *s = field_string(f);

	m->method = s;
	for (size_t i = 0; s && i < array_size(methods); i++)
		if (!strcmp(s, methods[i]))
			return;
	if (s)
		field_error(f, "must be GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE or PATCH, not \"%.40s\"",
			    s);
}

static const char *grpc_name(const struct field *f, bool regex)
{
	const char *s = field_string(f);

	if (!s || !*s)
		return NULL;
	if (strlen(s) > MAX_PATH)
		field_error(f, "must be at most %d characters", MAX_PATH);
	else if (regex)
		check_regex(f, s);
	else
		for (const char *c = s; *c; c++)
			if (!isalnum((unsigned char)*c) && *c != '_' && *c != '.') {
				field_error(f, "must be of letters, digits, _ and .");
				break;
			}
	return s;
}

static void decode_grpc_method(const struct field *f, struct object_route_match *m)
{
	static const char *const names[] = {"type", "service", "method"};
	struct field type = field_get(f, "type"), service = field_get(f, "service"), method = field_get(f, "method");
	bool regex;

	m->type = ROUTE_EXACT;
	if (!field_is_map(f))
		return;
	field_known(f, names, array_size(names));
	regex = is_regex(&type);
	m->type = regex ? ROUTE_REGEX : ROUTE_EXACT;
	m->service = grpc_name(&service, regex);
	m->grpc_method = grpc_name(&method, regex);
	if (!m->service && !m->grpc_method)
		field_error(f, "must have service or method");
}

static void decode_match(const struct field *f, struct object_route_match *m)
{
	static const char *const http[] = {"path", "headers", "queryParams", "method"};
	static const char *const grpc[] = {"method", "headers"};
	struct field path = field_get(f, "path"), headers = field_get(f, "headers");
	struct field query = field_get(f, "queryParams"), method = field_get(f, "method");

	if (is_grpc(f)) {
		if (field_is_map(f))
			field_known(f, grpc, array_size(grpc));
		decode_grpc_method(&method, m);
	} else {
		if (field_is_map(f))
			field_known(f, http, array_size(http));
		decode_path(&path, m);
		decode_method(&method, m);
		m->query = decode_values(&query, false, &m->queries);
	}
	m->header = decode_values(&headers, true, &m->headers);
}

static void decode_matches(const struct field *rule, struct object_route_rule *r)
{
	struct field list = field_get(rule, "matches");
	unsigned n = field_given(&list) && field_at_most(&list, MAX_MATCHES) ? field_count(&list) : 0;

	r->match = field_alloc(&list, n + 1, sizeof(*r->match));
	if (n)
		for (struct field i = field_first_item(&list); i.doc; field_next(&i))
			decode_match(&i, &r->match[r->matches++]);
	if (!r->matches) { /* everything */
		struct field none = {.d = rule->d, .up = &list};

		decode_match(&none, &r->match[r->matches++]);
	}
}

/* ------------------------------------------------------------------ rules */

static void decode_backend(const struct field *f, struct object_route_backend *b)
{
	static const char *const names[] = {"group", "kind", "name", "namespace", "port", "weight", "filters"};
	struct field weight = field_get(f, "weight"), filters = field_get(f, "filters");
	bool l7 = is_http(f) || is_grpc(f);
	long long n = 1;

	b->name = b->namespace = "";
	if (!field_is_map(f))
		return;
	field_known(f, names, array_size(names) - !l7);
	if (!k8s_route_backend_ref(f, b))
		return;
	(void)field_number(&weight, 0, MAX_WEIGHT, &n);
	b->weight = (uint32_t)n;
	if (l7)
		b->filter = k8s_route_filters(&filters, is_grpc(f), &b->filters);
}

static void decode_backends(const struct field *rule, struct object_route_rule *r)
{
	struct field list = field_get(rule, "backendRefs");

	if (field_given(&list) && field_at_most(&list, MAX_BACKENDS)) {
		r->backend = field_alloc(&list, field_count(&list) + 1, sizeof(*r->backend));
		for (struct field i = field_first_item(&list); i.doc; field_next(&i))
			decode_backend(&i, &r->backend[r->backends++]);
	}
	if (!r->backends && !k8s_route_redirects(r->filter, r->filters) && !rule->d->errors)
		field_warning(&list, "is empty: %s", is_http(rule) ? "requests of this rule get status 500"
								   : "what matches this rule is refused");
}

static void decode_timeouts(const struct field *rule, struct object_route_rule *r)
{
	static const char *const names[] = {"request", "backendRequest"};
	struct field f = field_get(rule, "timeouts"), request = field_get(&f, "request");
	struct field backend = field_get(&f, "backendRequest");

	if (!field_is_map(&f))
		return;
	field_known(&f, names, array_size(names));
	(void)field_duration(&request, &r->request_ns);
	(void)field_duration(&backend, &r->backend_ns);
	if (r->request_ns && r->backend_ns > r->request_ns)
		field_error(&backend, "must not be longer than timeouts.request");
}

/* The prefix that is replaced must be known: the CRD asks for exactly one match, of type PathPrefix. */
static void check_replacement(const struct field *rule, const struct object_route_rule *r)
{
	struct field list = field_get(rule, "matches");
	bool replaces = k8s_route_replaces_prefix(r->filter, r->filters);

	for (unsigned i = 0; i < r->backends; i++)
		replaces |= k8s_route_replaces_prefix(r->backend[i].filter, r->backend[i].filters);
	if (replaces && (r->matches != 1 || r->match[0].type != ROUTE_PREFIX))
		field_error(&list, "must be one match of type PathPrefix, for replacePrefixMatch to replace");
}

static void rule_name(const struct field *f, struct object_route_rule *r)
{
	const struct object_route *route = &f->d->object->route;

	r->name = field_string(f);
	if (!r->name)
		r->name = "";
	if (strlen(r->name) > 253)
		field_error(f, "must be at most 253 characters");
	for (const struct object_route_rule *o = route->rule; o < r && *r->name; o++)
		if (!strcmp(o->name, r->name))
			field_error(f, "\"%.60s\" is given twice: rules need different names", r->name);
}

static void decode_rule(const struct field *f, struct object_route_rule *r)
{
	static const char *const http[] = {"name", "backendRefs", "matches", "filters", "sessionPersistence",
					   "timeouts", "retry"};
	struct field name = field_get(f, "name"), filters = field_get(f, "filters");
	size_t known = is_http(f) ? array_size(http) : is_grpc(f) ? 5 : 2;

	r->name = "";
	if (!field_is_map(f))
		return;
	field_known(f, http, known);
	rule_name(&name, r);
	if (is_http(f) || is_grpc(f)) {
		decode_matches(f, r);
		r->filter = k8s_route_filters(&filters, is_grpc(f), &r->filters);
		field_unsupported(f, "sessionPersistence", "every request is balanced on its own");
	}
	if (is_http(f)) {
		decode_timeouts(f, r);
		field_unsupported(f, "retry", "weft does not retry requests yet");
	}
	decode_backends(f, r);
	if (is_http(f)) {
		check_replacement(f, r);
		if (r->backends && k8s_route_redirects(r->filter, r->filters))
			field_error(&filters, "RequestRedirect excludes backendRefs");
	}
}

/* A route of a Service alone. */
static bool in_mesh(const struct object_route *r)
{
	for (unsigned i = 0; i < r->parents; i++)
		if (r->parent[i].kind)
			return false;
	return true;
}

static void decode_hostnames(const struct field *spec)
{
	struct object_route *r = &spec->d->object->route;
	struct field list = field_get(spec, "hostnames");

	if (!field_given(&list))
		return;
	if (spec->d->object->kind != KIND_TLS_ROUTE && in_mesh(r))
		field_warning(&list, "has no effect for a Service (GEP-1294): match the header Host");
	if (!field_at_most(&list, MAX_HOSTNAMES))
		return;
	r->hostnames.item = field_alloc(&list, field_count(&list) + 1, sizeof(*r->hostnames.item));
	for (struct field i = field_first_item(&list); i.doc; field_next(&i)) {
		const char *s = k8s_edge_hostname(&i);

		if (s)
			r->hostnames.item[r->hostnames.count++] = s;
	}
}

void k8s_route_decode(const struct field *root)
{
	static const char *const names[] = {"parentRefs", "hostnames", "rules", "useDefaultGateways"};
	struct object_route *r = &root->d->object->route;
	struct field spec = field_get(root, "spec"), rules = field_get(&spec, "rules");
	unsigned matches = 0;

	if (!field_given(&spec)) {
		field_error(&spec, "is missing");
		return;
	}
	if (!field_is_map(&spec))
		return;
	field_known(&spec, names, array_size(names));
	decode_parents(&spec);
	decode_hostnames(&spec);
	if (!field_at_most(&rules, MAX_RULES))
		return;
	r->rule = field_alloc(&rules, field_count(&rules) + 1, sizeof(*r->rule));
	for (struct field i = field_first_item(&rules); i.doc; field_next(&i)) {
		decode_rule(&i, &r->rule[r->rules]);
		matches += r->rule[r->rules++].matches;
	}
	if (matches > ALL_MATCHES)
		field_error(&rules, "has %u matches in all; a route may have %d", matches, ALL_MATCHES);
	if (r->rules)
		return;
	if (is_http(root)) { /* the API's default: one rule that matches everything, and sends it nowhere */
		struct field none = {.d = root->d, .up = &rules};

		r->rules = 1;
		r->rule[0].name = "";
		decode_matches(&none, &r->rule[0]);
		field_warning(&rules, "is empty: every request gets status 500");
	} else if (!root->d->errors) {
		field_error(&rules, "is empty");
	}
}

/* ------------------------------------------------------------------ ReferenceGrant */

/* Here an unknown field is an error, as in a policy: what is left out, or mistyped, grants more. */
static void grant_from(const struct field *f, struct object_grant *g)
{
	static const char *const names[] = {"group", "kind", "namespace"};
	struct field group = field_get(f, "group"), kind = field_get(f, "kind"), space = field_get(f, "namespace");
	const char *gr = field_text(&group), *k = field_text(&kind), *s = field_string(&space);
	enum route_kind unused;

	if (!field_is_map(f))
		return;
	if (!s || !*s) {
		field_error(&space, "is missing");
		return;
	}
	if (!k || !field_given(&group)) {
		field_error(k ? &group : &kind, "is missing");
		return;
	}
	if (!gr || strcmp(gr, GATEWAY))
		return;
	field_only(f, names, array_size(names));
	for (enum object_kind o = 0; o < KIND_COUNT; o++)
		if ((route_kind_of(o, &unused) || o == KIND_GATEWAY) && !strcmp(k, object_kind_name(o)))
			g->from[g->froms++] = (struct object_grant_from){.kind = o, .namespace = s};
}

static void grant_to(const struct field *f, struct object_grant *g)
{
	static const char *const names[] = {"group", "kind", "name"};
	struct field group = field_get(f, "group"), kind = field_get(f, "kind"), name = field_get(f, "name");
	const char *gr = field_text(&group), *k = field_text(&kind), *s = field_string(&name);

	/* Others are somebody else's. */
	if (!field_is_map(f) || !k || (gr && *gr) || (strcmp(k, "Service") && strcmp(k, "Secret")))
		return;
	field_only(f, names, array_size(names));
	if (s && !*s)
		field_error(&name, "is empty: it would grant all; leave it out if that is meant");
	if (!strcmp(k, "Service"))
		g->to[g->tos++] = s ? s : "";
	else
		g->secret[g->secrets++] = s ? s : "";
}

void k8s_grant_decode(const struct field *root)
{
	static const char *const names[] = {"from", "to"};
	struct object_grant *g = &root->d->object->grant;
	struct field spec = field_get(root, "spec"), from = field_get(&spec, "from"), to = field_get(&spec, "to");

	if (!field_given(&spec)) {
		field_error(&spec, "is missing");
		return;
	}
	if (!field_is_map(&spec) || !field_at_most(&from, MAX_GRANTS) || !field_at_most(&to, MAX_GRANTS))
		return;
	field_known(&spec, names, array_size(names));
	g->from = field_alloc(&from, field_count(&from) + 1, sizeof(*g->from));
	g->to = field_alloc(&to, field_count(&to) + 1, sizeof(*g->to));
	g->secret = field_alloc(&to, field_count(&to) + 1, sizeof(*g->secret));
	for (struct field i = field_first_item(&from); i.doc; field_next(&i))
		grant_from(&i, g);
	for (struct field i = field_first_item(&to); i.doc; field_next(&i))
		grant_to(&i, g);
}
