/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k8s_edge.c: Gateway of gateway.networking.k8s.io, and the Secrets that it names.
 *
 * A Gateway of another class is somebody else's: nothing of it is looked at. Of ours what weft cannot do is an error
 * that names the field.
 */
#include <openssl/evp.h>
#include <string.h>

#include "k8s_kinds.h"
#include "http.h"

#define MAX_ADDRESSES 16
#define MAX_CERTIFICATES 64
#define MAX_KINDS 8
#define MAX_EXPRESSIONS 64
#define MAX_VALUES 256
#define MAX_PEM (256 * 1024) /* Kubernetes: a Secret is at most 1 MiB */
#define ACCOUNT "weft-gateway"

const char *k8s_edge_hostname(const struct field *f)
{
	const char *s = field_string(f), *rest, *ret;
	struct http_text host;
	struct text t = {0};
	uint16_t port = 0;
	char name[256];

	if (!s)
		return NULL;
	rest = text_starts(s, "*.") ? s + 2 : s;
	if (strchr(rest, '*') || strchr(rest, ':') ||
	    !http_host((struct http_text){rest, strlen(rest)}, name, &host, &port) || !host.len) {
		field_error(f, "\"%.60s\" is not a host name, nor one after \"*.\"", s);
		return NULL;
	}
	text_add(&t, "%s%.*s", rest == s ? "" : "*.", (int)host.len, host.at);
	ret = arena_string(&f->d->object->arena, t.data, t.len);
	text_free(&t);
	return ret;
}

/* ------------------------------------------------------------------ who may attach routes */

static void decode_expression(const struct field *f, struct object_gateway_expression *e)
{
	static const char *const ops[] = {"In", "NotIn", "Exists", "DoesNotExist"};
	struct field key = field_get(f, "key"), op = field_get(f, "operator"), values = field_get(f, "values");
	const char *s = field_text(&op);
	size_t i = 0;

	e->key = field_string(&key);
	if (!e->key)
		field_error(&key, "is missing");
	while (s && i < array_size(ops) && strcmp(s, ops[i]))
		i++;
	if (!s || i == array_size(ops)) {
		field_error(&op, "must be In, NotIn, Exists or DoesNotExist");
		return;
	}
	e->op = i;
	if (!field_given(&values) || !field_at_most(&values, MAX_VALUES))
		return;
	e->values.item = field_alloc(&values, field_count(&values) + 1, sizeof(*e->values.item));
	for (struct field v = field_first_item(&values); v.doc; field_next(&v)) {
		const char *text = field_string(&v);

		if (text)
			e->values.item[e->values.count++] = text;
	}
}

static void decode_selector(const struct field *f, struct object_gateway_listener *l)
{
	static const char *const names[] = {"matchLabels", "matchExpressions"};
	struct field labels = field_get(f, "matchLabels"), list = field_get(f, "matchExpressions");

	if (!field_given(f)) {
		field_error(f, "is missing: from: Selector needs it");
		return;
	}
	if (!field_is_map(f))
		return;
	field_only(f, names, array_size(names));
	field_pairs(&labels, &l->labels);
	if (!field_given(&list) || !field_at_most(&list, MAX_EXPRESSIONS))
		return;
	l->expression = field_alloc(&list, field_count(&list) + 1, sizeof(*l->expression));
	for (struct field i = field_first_item(&list); i.doc; field_next(&i))
		decode_expression(&i, &l->expression[l->expressions++]);
}

static void decode_kinds(const struct field *list, struct object_gateway_listener *l)
{
	if (!field_given(list)) {
		l->http = l->grpc = true;
		return;
	}
	if (!field_at_most(list, MAX_KINDS))
		return;
	for (struct field i = field_first_item(list); i.doc; field_next(&i)) {
		struct field kind = field_get(&i, "kind"), group = field_get(&i, "group");
		const char *k = field_text(&kind), *g = field_text(&group);
		bool ours = !g || !strcmp(g, "gateway.networking.k8s.io");

		if (ours && k && !strcmp(k, "HTTPRoute"))
			l->http = true;
		else if (ours && k && !strcmp(k, "GRPCRoute"))
			l->grpc = true;
		else
			l->other_kinds = true;
	}
	if (!field_count(list))
		l->http = l->grpc = true;
}

static void decode_allowed(const struct field *f, struct object_gateway_listener *l)
{
	static const char *const names[] = {"namespaces", "kinds"}, *const spaces[] = {"from", "selector"};
	struct field kinds = field_get(f, "kinds"), space = field_get(f, "namespaces");
	struct field from = field_get(&space, "from"), selector = field_get(&space, "selector");
	const char *s = field_text(&from);

	if (field_given(f) && field_is_map(f))
		field_only(f, names, array_size(names));
	if (field_given(&space) && field_is_map(&space))
		field_only(&space, spaces, array_size(spaces));
	decode_kinds(&kinds, l);
	if (!s || !strcmp(s, "Same")) {
		l->from = GATEWAY_SAME;
	} else if (!strcmp(s, "All")) {
		l->from = GATEWAY_ALL;
	} else if (!strcmp(s, "Selector")) {
		l->from = GATEWAY_SELECTOR;
		decode_selector(&selector, l);
	} else {
		field_error(&from, "must be Same, All or Selector, not \"%.40s\"", s);
	}
}

/* ------------------------------------------------------------------ listeners */

static void decode_certificate(const struct field *f, struct object_gateway_ref *r)
{
	static const char *const names[] = {"group", "kind", "name", "namespace"};
	struct field group = field_get(f, "group"), kind = field_get(f, "kind"), name = field_get(f, "name");
	struct field space = field_get(f, "namespace");
	const char *g = field_text(&group), *k = field_text(&kind), *s = field_string(&space);

	r->name = r->namespace = "";
	if (!field_is_map(f))
		return;
	field_only(f, names, array_size(names));
	if ((g && *g) || (k && strcmp(k, "Secret")))
		field_error(&kind, "must be Secret of group \"\"");
	r->namespace = s && *s ? s : f->d->object->namespace;
	r->name = field_string(&name);
	if (!r->name || !*r->name) {
		r->name = "";
		field_error(&name, "is missing");
	}
}

static void decode_tls(const struct field *f, struct object_gateway_listener *l)
{
	static const char *const names[] = {"mode", "certificateRefs", "options", "frontendValidation"};
	struct field mode = field_get(f, "mode"), refs = field_get(f, "certificateRefs");
	const char *s = field_text(&mode);

	if (l->protocol != GATEWAY_HTTPS) {
		if (field_given(f))
			field_error(f, "is only for protocol HTTPS");
		return;
	}
	if (!field_given(f)) {
		field_error(f, "is missing: protocol HTTPS needs certificateRefs");
		return;
	}
	if (!field_is_map(f))
		return;
	field_unsupported(f, "frontendValidation", "weft asks clients for no certificate");
	field_unsupported(f, "options", "weft chooses TLS 1.3 and its suites by itself");
	field_only(f, names, array_size(names));
	if (s && strcmp(s, "Terminate"))
		field_error(&mode, "must be Terminate for HTTPS, not \"%.40s\"", s);
	if (!field_given(&refs) || !field_count(&refs)) {
		field_error(&refs, "is missing: a Secret of type kubernetes.io/tls");
		return;
	}
	if (!field_at_most(&refs, MAX_CERTIFICATES))
		return;
	l->certificate = field_alloc(&refs, field_count(&refs) + 1, sizeof(*l->certificate));
	for (struct field i = field_first_item(&refs); i.doc; field_next(&i))
		decode_certificate(&i, &l->certificate[l->certificates++]);
}

static void decode_protocol(const struct field *f, struct object_gateway_listener *l)
{
	const char *s = field_text(f);

	if (!s)
		field_error(f, "is missing: HTTP or HTTPS");
	else if (!strcmp(s, "HTTPS"))
		l->protocol = GATEWAY_HTTPS;
	else if (strcmp(s, "HTTP"))
		field_error(f, "\"%.40s\" is not supported: weft serves HTTP and HTTPS", s);
}

static void listener_name(const struct field *f, struct object_gateway_listener *l)
{
	const struct object_gateway *g = &f->d->object->gateway;

	l->name = field_string(f);
	if (!l->name || !*l->name) {
		l->name = "";
		field_error(f, "is missing");
	}
	if (strlen(l->name) > 253)
		field_error(f, "must be at most 253 characters");
	for (const struct object_gateway_listener *o = g->listener; o < l && *l->name; o++)
		if (!strcmp(o->name, l->name))
			field_error(f, "\"%.60s\" is given twice: listeners need different names", l->name);
}

static void decode_listener(const struct field *f, struct object_gateway_listener *l)
{
	static const char *const names[] = {"name", "hostname", "port", "protocol", "tls", "allowedRoutes"};
	struct field name = field_get(f, "name"), hostname = field_get(f, "hostname"), port = field_get(f, "port");
	struct field protocol = field_get(f, "protocol"), tls = field_get(f, "tls");
	struct field allowed = field_get(f, "allowedRoutes");
	const char *host = NULL;
	long long n = 0;

	l->name = l->hostname = "";
	if (!field_is_map(f))
		return;
	field_only(f, names, array_size(names));
	listener_name(&name, l);
	if (field_given(&hostname) && (!hostname.doc->text || *hostname.doc->text))
		host = k8s_edge_hostname(&hostname);
	l->hostname = host ? host : "";
	if (field_number(&port, 1, 65535, &n))
		l->port = (uint16_t)n;
	else if (!field_given(&port))
		field_error(&port, "is missing");
	decode_protocol(&protocol, l);
	decode_tls(&tls, l);
	decode_allowed(&allowed, l);
}

/* ------------------------------------------------------------------ Gateway */

static void decode_addresses(const struct field *list, struct object_gateway *g)
{
	if (!field_given(list) || !field_at_most(list, MAX_ADDRESSES))
		return;
	g->addr = field_alloc(list, field_count(list) + 1, sizeof(*g->addr));
	for (struct field i = field_first_item(list); i.doc; field_next(&i)) {
		struct field type = field_get(&i, "type"), value = field_get(&i, "value");
		const char *t = field_text(&type);

		if (!field_is_map(&i))
			continue;
		if (t && strcmp(t, "IPAddress"))
			field_error(&type, "\"%.40s\" is not supported: weft binds addresses of type IPAddress", t);
		else if (!field_given(&value))
			field_error(&value, "is missing");
		else if (field_address(&value, &g->addr[g->addrs]))
			g->addrs++;
	}
}

static void decode_account(const struct field *root, struct object_gateway *g)
{
	const char *s = pairs_get(&root->d->object->annotations, "weft.io/service-account");
	struct field m = field_get(root, "metadata"), list = field_get(&m, "annotations");
	struct field at = field_get(&list, "weft.io/service-account");

	g->account = s ? s : ACCOUNT;
	if (!*g->account || strlen(g->account) > 253 || strspn(g->account, "abcdefghijklmnopqrstuvwxyz0123456789.-") !=
								strlen(g->account))
		field_error(&at, "must be the name of a ServiceAccount");
}

void k8s_edge_gateway(const struct field *root)
{
	static const char *const names[] = {"gatewayClassName", "listeners",	    "addresses", "infrastructure",
					    "tls",		"allowedListeners", "defaultScope"};
	struct object_gateway *g = &root->d->object->gateway;
	struct field spec = field_get(root, "spec"), class = field_get(&spec, "gatewayClassName");
	struct field list = field_get(&spec, "listeners"), addresses = field_get(&spec, "addresses");

	g->class = g->account = "";
	if (!field_given(&spec)) {
		field_error(&spec, "is missing");
		return;
	}
	if (!field_is_map(&spec))
		return;
	g->class = field_string(&class);
	if (!g->class)
		g->class = "";
	g->ours = !strcmp(g->class, GATEWAY_CLASS);
	if (!g->ours)
		return;
	field_unsupported(&spec, "infrastructure", "weft makes no other objects for a Gateway");
	field_unsupported(&spec, "tls",
			  "weft asks clients for no certificate, and has none of its own for backends here");
	field_unsupported(&spec, "allowedListeners", "listeners are those of the Gateway itself");
	field_unsupported(&spec, "defaultScope", "routes name their Gateway");
	field_known(&spec, names, array_size(names));
	decode_addresses(&addresses, g);
	decode_account(root, g);
	if (!field_given(&list) || !field_count(&list)) {
		field_error(&list, "is missing");
		return;
	}
	if (!field_at_most(&list, GATEWAY_LISTENERS))
		return;
	g->listener = field_alloc(&list, field_count(&list) + 1, sizeof(*g->listener));
	for (struct field i = field_first_item(&list); i.doc; field_next(&i))
		decode_listener(&i, &g->listener[g->listeners++]);
}

/* ------------------------------------------------------------------ Secret */

/*
 * RFC 4648 section 4, with white space between. NULL: it is none, or no text. In the object's arena. OpenSSL is as
 * strict as Kubernetes is but for '-', where it ends and asks for no more.
 */
static char *base64(const struct field *f, const char *s)
{
	size_t len = strlen(s);
	unsigned char *to = field_alloc(f, len / 4 * 3 + 4, 1);
	EVP_ENCODE_CTX *c = EVP_ENCODE_CTX_new();
	int n = 0, last = 0;
	bool good;

	EVP_DecodeInit(c);
	good = !memchr(s, '-', len) && EVP_DecodeUpdate(c, to, &n, (const unsigned char *)s, (int)len) >= 0 &&
	       EVP_DecodeFinal(c, to + n, &last) == 1 && !memchr(to, 0, (size_t)(n + last));
	EVP_ENCODE_CTX_free(c);
	return good ? (char *)to : NULL;
}

static char *pem(const struct field *root, const char *key)
{
	struct field data = field_get(root, "data"), text = field_get(root, "stringData");
	struct field plain = field_get(&text, key), coded = field_get(&data, key);
	const char *s = field_given(&plain) ? field_text(&plain) : field_given(&coded) ? field_text(&coded) : NULL;
	const struct field *f = field_given(&plain) ? &plain : &coded;
	char *ret;

	if (!s) {
		field_error(&coded, "is missing");
		return NULL;
	}
	if (strlen(s) > MAX_PEM * 4 / 3) {
		field_error(f, "must be at most %d bytes", MAX_PEM);
		return NULL;
	}
	ret = field_given(&plain) ? arena_string(&root->d->object->arena, s, strlen(s)) : base64(f, s);
	if (!ret)
		field_error(f, "is not base64 of a text");
	return ret;
}

/* No value of it is ever in a message. */
void k8s_edge_secret(const struct field *root)
{
	struct object_secret *s = &root->d->object->secret;
	struct field type = field_get(root, "type");
	const char *t = field_text(&type);

	if (!t || strcmp(t, "kubernetes.io/tls"))
		return;
	s->certificate = pem(root, "tls.crt");
	s->key = pem(root, "tls.key");
}
