/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_http.c: rules of AuthorizationPolicies with fields of HTTP, asked of one request, whole: who, from which
 * address, to which port, and what HTTP says. The kernel's terms say which rules are worth asking.
 *
 * A field that comes more than once is asked value by value, never joined: DENY if one of them matches, ALLOW only if
 * all do. So nobody gets past a rule by sending a field twice.
 */
#include <ctype.h>
#include <string.h>

#include "policy.h"

enum http_part { PART_HOST, PART_METHOD, PART_PATH, PARTS };

struct source {
	struct match_strings name[TEST_TRUST_DOMAIN + 1], not_name[TEST_TRUST_DOMAIN + 1];
	struct match_blocks blocks, not_blocks;
	bool unknown; /* requestPrincipals, remoteIpBlocks */
};

struct operation {
	struct match_ports ports, not_ports;
	struct match_strings part[PARTS], not_part[PARTS];
};

struct condition {
	int key;	    /* of struct policy_condition */
	const char *header; /* lower case; NULL: none */
	struct match_strings values, not_values;
	struct match_blocks blocks, not_blocks;
	struct match_ports ports, not_ports;
};

struct policy_http {
	bool deny;
	struct source *from;
	struct operation *to;
	struct condition *when;
	unsigned froms, tos, whens;
	/* what destination.ip says of the pod's addresses of a family, [1] IPv4: all of them, none, or some */
	enum policy_answer dest[2];
};

/* ------------------------------------------------------------------ copies */

static struct match_strings copy_strings(struct arena *a, const struct match_strings *m, bool lower)
{
	struct match_strings to = {.given = m->given, .values.count = m->values.count};

	to.values.item = arena_alloc(a, to.values.count * sizeof(char *) + 1);
	for (unsigned i = 0; i < to.values.count; i++) {
		size_t len = strlen(m->values.item[i]);
		char *s = arena_string(a, m->values.item[i], len);

		for (size_t at = 0; lower && at < len; at++)
			s[at] = (char)tolower((unsigned char)s[at]);
		to.values.item[i] = s;
	}
	return to;
}

/* "name" is of the policy's namespace */
static struct match_strings copy_accounts(struct arena *a, const struct match_strings *m, const char *namespace)
{
	struct match_strings to = copy_strings(a, m, false);

	for (unsigned i = 0; i < to.values.count; i++) {
		const char *s = to.values.item[i];
		size_t len = strlen(s), space = strlen(namespace);
		char *full;

		if (strchr(s, '/') || !strcmp(s, "*"))
			continue;
		full = arena_alloc(a, space + len + 2);
		memcpy(full, namespace, space);
		full[space] = '/';
		memcpy(full + space + 1, s, len);
		to.values.item[i] = full;
	}
	return to;
}

static struct match_blocks copy_blocks(struct arena *a, const struct match_blocks *m)
{
	struct match_blocks to = *m;

	to.values.item = arena_alloc(a, m->values.count * sizeof(*to.values.item) + 1);
	if (m->values.count)
		memcpy(to.values.item, m->values.item, m->values.count * sizeof(*to.values.item));
	return to;
}

static struct match_ports copy_ports(struct arena *a, const struct match_ports *m)
{
	struct match_ports to = *m;

	to.values.item = arena_alloc(a, m->values.count * sizeof(*to.values.item) + 1);
	if (m->values.count)
		memcpy(to.values.item, m->values.item, m->values.count * sizeof(*to.values.item));
	return to;
}

static void copy_source(struct arena *a, const struct policy_source *s, const char *namespace, struct source *to)
{
	*to = (struct source){
		.name = {[TEST_PRINCIPAL] = copy_strings(a, &s->principals, false),
			 [TEST_NAMESPACE] = copy_strings(a, &s->namespaces, false),
			 [TEST_SERVICE_ACCOUNT] = copy_accounts(a, &s->service_accounts, namespace),
			 [TEST_TRUST_DOMAIN] = copy_strings(a, &s->trust_domains, false)},
		.not_name = {[TEST_PRINCIPAL] = copy_strings(a, &s->not_principals, false),
			     [TEST_NAMESPACE] = copy_strings(a, &s->not_namespaces, false),
			     [TEST_SERVICE_ACCOUNT] = copy_accounts(a, &s->not_service_accounts, namespace),
			     [TEST_TRUST_DOMAIN] = copy_strings(a, &s->not_trust_domains, false)},
		.blocks = copy_blocks(a, &s->ip_blocks),
		.not_blocks = copy_blocks(a, &s->not_ip_blocks),
		.unknown = s->l7,
	};
}

static void copy_operation(struct arena *a, const struct policy_operation *o, struct operation *to)
{
	*to = (struct operation){
		.ports = copy_ports(a, &o->ports),
		.not_ports = copy_ports(a, &o->not_ports),
		.part = {copy_strings(a, &o->hosts, true), copy_strings(a, &o->methods, false),
			 copy_strings(a, &o->paths, false)},
		.not_part = {copy_strings(a, &o->not_hosts, true), copy_strings(a, &o->not_methods, false),
			     copy_strings(a, &o->not_paths, false)},
	};
}

static void copy_condition(struct arena *a, const struct policy_condition *c, const char *namespace,
			   struct condition *to)
{
	bool account = c->key == WHEN_SOURCE_SERVICE_ACCOUNT;

	*to = (struct condition){
		.key = c->key,
		.header = c->header ? arena_string(a, c->header, strlen(c->header)) : NULL,
		.values = account ? copy_accounts(a, &c->values, namespace) : copy_strings(a, &c->values, false),
		.not_values =
			account ? copy_accounts(a, &c->not_values, namespace) : copy_strings(a, &c->not_values, false),
		.blocks = copy_blocks(a, &c->blocks),
		.not_blocks = copy_blocks(a, &c->not_blocks),
		.ports = copy_ports(a, &c->ports),
		.not_ports = copy_ports(a, &c->not_ports),
	};
}

/* ------------------------------------------------------------------ what all rules have */

static bool some_block(const struct match_blocks *m, const struct abi_addr *addr)
{
	for (unsigned i = 0; i < m->values.count; i++)
		if (terms_in_block(addr, &m->values.item[i]))
			return true;
	return false;
}

static bool blocks_hold(const struct match_blocks *in, const struct match_blocks *out, const struct abi_addr *addr)
{
	return (!in->given || some_block(in, addr)) && (!out->given || !some_block(out, addr));
}

static bool some_port(const struct match_ports *m, uint16_t port)
{
	for (unsigned i = 0; i < m->values.count; i++)
		if (m->values.item[i] == port)
			return true;
	return false;
}

static bool ports_hold(const struct match_ports *in, const struct match_ports *out, uint16_t port)
{
	return (!in->given || some_port(in, port)) && (!out->given || !some_port(out, port));
}

static bool some_name(const struct match_strings *m, const char *name)
{
	for (unsigned i = 0; name && i < m->values.count; i++)
		if (terms_fit(m->values.item[i], name))
			return true;
	return false;
}

static bool names_hold(const struct match_strings *in, const struct match_strings *out, const char *name)
{
	return (!in->given || some_name(in, name)) && (!out->given || !some_name(out, name));
}

static const char *name_of(const struct identity *who, enum test_what what)
{
	if (!who)
		return NULL;
	switch (what) {
	case TEST_PRINCIPAL:
		return who->principal;
	case TEST_NAMESPACE:
		return who->namespace;
	case TEST_SERVICE_ACCOUNT:
		return who->account;
	default:
		return who->trust_domain;
	}
}

/* ------------------------------------------------------------------ what HTTP says */

static bool starts(struct http_text t, const char *s, size_t len)
{
	return t.len >= len && !memcmp(t.at, s, len);
}

static bool ends(struct http_text t, const char *s, size_t len)
{
	return t.len >= len && !memcmp(t.at + t.len - len, s, len);
}

/* {*}: one component that is not empty; {**}, the last of them: anything. k8s_security.c has looked at the form. */
static bool template_fits(const char *p, struct http_text t)
{
	while (*p) {
		const char *open = strchr(p, '{');
		size_t len = open ? (size_t)(open - p) : strlen(p), part = 0;

		if (!starts(t, p, len))
			return false;
		t.at += len;
		t.len -= len;
		p += len;
		if (!open)
			return !t.len;
		if (text_starts(p, "{**}"))
			return ends(t, p + 4, strlen(p + 4));
		while (part < t.len && t.at[part] != '/')
			part++;
		if (!part)
			return false;
		t.at += part;
		t.len -= part;
		p += 3;
	}
	return !t.len;
}

/* As terms_fit(). */
static bool text_fits(const char *pattern, struct http_text t)
{
	size_t len = strlen(pattern);

	if (pattern[0] == '*')
		return ends(t, pattern + 1, len - 1);
	if (len && pattern[len - 1] == '*')
		return starts(t, pattern, len - 1);
	return t.len == len && !memcmp(t.at, pattern, len);
}

static bool some_text(const struct match_strings *m, struct http_text t, bool templates)
{
	for (unsigned i = 0; i < m->values.count; i++) {
		const char *p = m->values.item[i];

		if (templates && strchr(p, '{') && (strstr(p, "{*}") || strstr(p, "{**}")) ? template_fits(p, t)
											    : text_fits(p, t))
			return true;
	}
	return false;
}

/* A pattern may be written with the port of the authority, or without. */
static bool some_host(const struct match_strings *m, const struct policy_request *q)
{
	struct http_text whole = q->head->authority;
	char lower[512];

	if (some_text(m, q->host, false))
		return true;
	if (whole.len > sizeof(lower))
		return false; /* http_host() takes no such */
	for (size_t i = 0; i < whole.len; i++)
		lower[i] = (char)tolower((unsigned char)whole.at[i]);
	return some_text(m, (struct http_text){lower, whole.len}, false);
}

/* What is empty is not there, and fits nothing, "*" neither: the host of HTTP/1.0, the path of CONNECT. */
static bool some_part(const struct match_strings *m, enum http_part part, const struct policy_request *q)
{
	struct http_text t = part == PART_METHOD ? q->head->method_text : q->path;

	if (part == PART_HOST)
		return (q->host.len || q->head->authority.len) && some_host(m, q);
	return t.len && some_text(m, t, part == PART_PATH);
}

static bool operation_holds(const struct operation *o, bool deny, const struct policy_request *q)
{
	if (!ports_hold(&o->ports, &o->not_ports, q->port))
		return false;
	for (enum http_part p = 0; p < PARTS; p++) {
		const struct match_strings *in = &o->part[p], *out = &o->not_part[p];

		if (!q->head && !deny && (in->given || out->given))
			return false;
		if (!q->head)
			continue;
		if ((in->given && !some_part(in, p, q)) || (out->given && some_part(out, p, q)))
			return false;
	}
	return true;
}

/* Every value for itself: see above. A field that is not there fits no values, and every notValues. */
static bool header_holds(const struct condition *c, bool deny, const struct policy_request *q)
{
	const struct http_text name = {c->header, strlen(c->header)};
	const struct http_field *f = NULL;
	bool one = false, all = true;

	if (!q->head)
		return deny;
	if (!strcmp(c->header, "host")) { /* it is no field any more */
		if (!q->host.len && !q->head->authority.len)
			return !c->values.given;
		one = (!c->values.given || some_host(&c->values, q)) &&
		      (!c->not_values.given || !some_host(&c->not_values, q));
		return one;
	}
	while ((f = http_field_named(q->head, name, f))) {
		bool fits = (!c->values.given || some_text(&c->values, f->value, false)) &&
			    (!c->not_values.given || !some_text(&c->not_values, f->value, false));

		one |= fits;
		all &= fits;
	}
	f = http_field_named(q->head, name, NULL);
	if (!f)
		return !c->values.given;
	return deny ? one : all;
}

/* Fields that who reads a message takes out of it (http.h): what they were nobody knows here. */
static bool of_connection(const char *name)
{
	static const char *const names[] = {"connection", "content-length",    "keep-alive", "proxy-connection",
					    "te",	  "transfer-encoding", "upgrade"};

	for (size_t i = 0; i < array_size(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static enum policy_answer condition_holds(const struct policy_http *p, const struct condition *c,
					  const struct policy_request *q)
{
	static const enum test_what what[] = {
		[WHEN_SOURCE_NAMESPACE] = TEST_NAMESPACE,
		[WHEN_SOURCE_PRINCIPAL] = TEST_PRINCIPAL,
		[WHEN_SOURCE_SERVICE_ACCOUNT] = TEST_SERVICE_ACCOUNT,
	};

	switch (c->key) {
	case WHEN_SOURCE_IP:
		return blocks_hold(&c->blocks, &c->not_blocks, q->source) ? POLICY_YES : POLICY_NO;
	case WHEN_DESTINATION_IP:
		return p->dest[addr_is_v4(q->source)];
	case WHEN_DESTINATION_PORT:
		return ports_hold(&c->ports, &c->not_ports, q->port) ? POLICY_YES : POLICY_NO;
	case WHEN_L7:
		if (!c->header || (q->head && of_connection(c->header)))
			return POLICY_UNKNOWN;
		return header_holds(c, p->deny, q) ? POLICY_YES : POLICY_NO;
	default:
		return names_hold(&c->values, &c->not_values, name_of(q->who, what[c->key])) ? POLICY_YES : POLICY_NO;
	}
}

static enum policy_answer source_holds(const struct source *s, const struct policy_request *q)
{
	for (enum test_what what = TEST_PRINCIPAL; what <= TEST_TRUST_DOMAIN; what++)
		if (!names_hold(&s->name[what], &s->not_name[what], name_of(q->who, what)))
			return POLICY_NO;
	if (!blocks_hold(&s->blocks, &s->not_blocks, q->source))
		return POLICY_NO;
	return s->unknown ? POLICY_UNKNOWN : POLICY_YES;
}

enum policy_answer policy_http_holds(const struct policy_http *p, const struct policy_request *q)
{
	enum policy_answer from = p->froms ? POLICY_NO : POLICY_YES;
	bool to = !p->tos, unknown = false;

	for (unsigned i = 0; i < p->tos && !to; i++)
		to = operation_holds(&p->to[i], p->deny, q);
	if (!to)
		return POLICY_NO;
	for (unsigned i = 0; i < p->froms && from != POLICY_YES; i++) {
		enum policy_answer a = source_holds(&p->from[i], q);

		if (a != POLICY_NO)
			from = a;
	}
	if (from == POLICY_NO)
		return POLICY_NO;
	for (unsigned i = 0; i < p->whens; i++) {
		enum policy_answer a = condition_holds(p, &p->when[i], q);

		if (a == POLICY_NO)
			return POLICY_NO;
		unknown |= a == POLICY_UNKNOWN;
	}
	return unknown ? POLICY_UNKNOWN : from;
}

unsigned policy_http_answers(const struct policy_http *p, const struct policy_request *q)
{
	enum policy_answer from = p->froms ? POLICY_NO : POLICY_YES;
	bool to = !p->tos, whatever = !p->tos, unknown;

	for (unsigned i = 0; i < p->tos; i++) {
		bool parts = false;

		for (enum http_part part = 0; part < PARTS; part++)
			parts |= p->to[i].part[part].given || p->to[i].not_part[part].given;
		if (!ports_hold(&p->to[i].ports, &p->to[i].not_ports, q->port))
			continue;
		to = true;
		whatever |= !parts;
	}
	for (unsigned i = 0; i < p->froms && from != POLICY_YES; i++) {
		enum policy_answer a = source_holds(&p->from[i], q);

		if (a != POLICY_NO)
			from = a;
	}
	if (!to || from == POLICY_NO)
		return 1u << POLICY_NO;
	unknown = from == POLICY_UNKNOWN;
	for (unsigned i = 0; i < p->whens; i++) {
		const struct condition *c = &p->when[i];
		enum policy_answer a;

		if (c->key == WHEN_L7 && c->header && !of_connection(c->header)) {
			whatever = false;
			continue;
		}
		a = c->key == WHEN_L7 ? POLICY_UNKNOWN : condition_holds(p, c, q);
		if (a == POLICY_NO)
			return 1u << POLICY_NO;
		unknown |= a == POLICY_UNKNOWN;
	}
	return 1u << (unknown ? POLICY_UNKNOWN : POLICY_YES) | !whatever << POLICY_NO;
}

/* ------------------------------------------------------------------ making one */

/* All conditions on destination.ip, asked of each of the pod's addresses. */
static void fold_destination(struct policy_http *p, const struct abi_addr *addr, unsigned addrs)
{
	unsigned yes[2] = {0}, no[2] = {0};

	for (unsigned i = 0; i < addrs; i++) {
		bool holds = true;

		for (unsigned w = 0; w < p->whens; w++)
			if (p->when[w].key == WHEN_DESTINATION_IP)
				holds &= blocks_hold(&p->when[w].blocks, &p->when[w].not_blocks, &addr[i]);
		(holds ? yes : no)[addr_is_v4(&addr[i])]++;
	}
	for (int v4 = 0; v4 < 2; v4++)
		p->dest[v4] = yes[v4] && !no[v4]  ? POLICY_YES
			      : no[v4] && !yes[v4] ? POLICY_NO
						   : POLICY_UNKNOWN;
}

static bool of_http(const struct policy_rule *r)
{
	bool l7 = false;

	for (unsigned i = 0; i < r->froms; i++)
		l7 |= r->from[i].l7;
	for (unsigned i = 0; i < r->tos; i++)
		l7 |= r->to[i].l7;
	for (unsigned i = 0; i < r->whens; i++)
		l7 |= r->when[i].key == WHEN_L7 || r->when[i].key == WHEN_DESTINATION_IP;
	return l7;
}

struct policy_http *policy_http_new(struct arena *a, const struct object *policy, unsigned rule,
				    const struct abi_addr *addr, unsigned addrs)
{
	const struct policy_rule *r = &policy->authorization.rule[rule];
	struct policy_http *p;

	if (!of_http(r))
		return NULL;
	p = arena_alloc(a, sizeof(*p));
	p->deny = policy->authorization.action == POLICY_DENY;
	p->from = arena_alloc(a, r->froms * sizeof(*p->from) + 1);
	p->to = arena_alloc(a, r->tos * sizeof(*p->to) + 1);
	p->when = arena_alloc(a, r->whens * sizeof(*p->when) + 1);
	for (; p->froms < r->froms; p->froms++)
		copy_source(a, &r->from[p->froms], policy->namespace, &p->from[p->froms]);
	for (; p->tos < r->tos; p->tos++)
		copy_operation(a, &r->to[p->tos], &p->to[p->tos]);
	for (; p->whens < r->whens; p->whens++)
		copy_condition(a, &r->when[p->whens], policy->namespace, &p->when[p->whens]);
	fold_destination(p, addr, addrs);
	return p;
}

/* ------------------------------------------------------------------ signing */

static void sign_strings(struct text *t, const struct match_strings *m)
{
	text_add(t, "|%d%u ", m->given, m->values.count);
	for (unsigned i = 0; i < m->values.count; i++)
		text_add_bytes(t, m->values.item[i], strlen(m->values.item[i]) + 1);
}

static void sign_blocks(struct text *t, const struct match_blocks *m)
{
	text_add(t, "|%d%u ", m->given, m->values.count);
	for (unsigned i = 0; i < m->values.count; i++) {
		text_add_bytes(t, &m->values.item[i].addr, sizeof(m->values.item[i].addr));
		text_add(t, "/%u", m->values.item[i].bits);
	}
}

static void sign_ports(struct text *t, const struct match_ports *m)
{
	text_add(t, "|%d%u ", m->given, m->values.count);
	for (unsigned i = 0; i < m->values.count; i++)
		text_add(t, "%u ", m->values.item[i]);
}

void policy_http_sign(const struct policy_http *p, struct text *to)
{
	text_add(to, "%d %u %u %u %d%d", p->deny, p->froms, p->tos, p->whens, p->dest[0], p->dest[1]);
	for (unsigned i = 0; i < p->froms; i++) {
		for (enum test_what what = TEST_PRINCIPAL; what <= TEST_TRUST_DOMAIN; what++) {
			sign_strings(to, &p->from[i].name[what]);
			sign_strings(to, &p->from[i].not_name[what]);
		}
		sign_blocks(to, &p->from[i].blocks);
		sign_blocks(to, &p->from[i].not_blocks);
		text_add(to, "%d", p->from[i].unknown);
	}
	for (unsigned i = 0; i < p->tos; i++) {
		sign_ports(to, &p->to[i].ports);
		sign_ports(to, &p->to[i].not_ports);
		for (enum http_part part = 0; part < PARTS; part++) {
			sign_strings(to, &p->to[i].part[part]);
			sign_strings(to, &p->to[i].not_part[part]);
		}
	}
	for (unsigned i = 0; i < p->whens; i++) {
		const struct condition *c = &p->when[i];

		text_add(to, "|%d %s", c->key, c->header ? c->header : "");
		sign_strings(to, &c->values);
		sign_strings(to, &c->not_values);
		sign_blocks(to, &c->blocks);
		sign_blocks(to, &c->not_blocks);
		sign_ports(to, &c->ports);
		sign_ports(to, &c->not_ports);
	}
}
