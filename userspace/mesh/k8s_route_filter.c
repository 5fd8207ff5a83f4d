/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k8s_route_filter.c: filters of HTTPRoute and GRPCRoute.
 *
 * What the CRD would refuse is refused here as well: a folder of manifests has no API server that does.
 */
#include <ctype.h>
#include <string.h>

#include "k8s_kinds.h"
#include "route.h"

#define MAX_FILTERS 16
#define MAX_FIELDS 16 /* of one list of a header filter */
#define MAX_LIST 64   /* of one list of a CORS filter */
#define MAX_VALUE 4096
#define MAX_PATH 1024

static struct http_text text(const char *s)
{
	return (struct http_text){.at = s ? s : "", .len = s ? strlen(s) : 0};
}

/* A map that is there; what is not in names is a warning. */
static bool begin_map(const struct field *f, const char *const *names, size_t count)
{
	if (!field_given(f)) {
		field_error(f, "is missing");
		return false;
	}
	if (!field_is_map(f))
		return false;
	field_known(f, names, count);
	return true;
}

/* ------------------------------------------------------------------ names and values */

static bool is_token(const char *s)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
			return false;
	return true;
}

const char *k8s_route_header_name(const struct field *f, bool lower)
{
	const char *s = field_string(f);
	char *copy;

	if (!s) {
		if (!field_given(f))
			field_error(f, "is missing");
		return NULL;
	}
	if (!*s || strlen(s) > 256 || !is_token(s)) {
		field_error(f, "\"%.60s\" is not the name of a header", s);
		return NULL;
	}
	copy = arena_string(&f->d->object->arena, s, strlen(s));
	for (char *c = copy; lower && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return copy;
}

/* What a message's framing says is made by who sends it: no route may say something else. */
static bool changeable(const struct field *f, const char *name)
{
	enum http_name id = http_name(name, strlen(name));

	if (id == HTTP_NAME_HOST)
		field_error(f, "Host is no header to change here: use a URLRewrite filter with hostname");
	else if (http_name_is_framing(id))
		field_error(f, "\"%.40s\" concerns one connection: weft writes it itself", name);
	return !http_name_is_framing(id);
}

static bool is_value(const char *s)
{
	size_t len = strlen(s);

	if (!len || len > MAX_VALUE || strchr(" \t", s[0]) || strchr(" \t", s[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < ' ' ? s[i] != '\t' : s[i] == 0x7f)
			return false;
	return true;
}

static bool known_name(const struct http_field *list, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (list[i].name.len == strlen(name) && !strncasecmp(list[i].name.at, name, list[i].name.len))
			return true;
	return false;
}

static struct http_field *header_fields(const struct field *list, unsigned *ret_count)
{
	static const char *const names[] = {"name", "value"};
	struct http_field *fields;
	unsigned n = 0;

	*ret_count = 0;
	if (!field_given(list) || !field_at_most(list, MAX_FIELDS))
		return NULL;
	fields = field_alloc(list, field_count(list) + 1, sizeof(*fields));
	for (struct field i = field_first_item(list); i.doc; field_next(&i)) {
		struct field name = field_get(&i, "name"), value = field_get(&i, "value");
		const char *s, *v;

		if (!begin_map(&i, names, array_size(names)))
			continue;
		s = k8s_route_header_name(&name, false);
		v = field_string(&value);
		if (!v || !is_value(v))
			field_error(&value, "must be 1 to %d printable characters, no blanks around them", MAX_VALUE);
		else if (s && known_name(fields, n, s))
			field_warning(&name, "\"%.60s\" is given twice: only the first is used", s);
		else if (s && changeable(&name, s))
			fields[n++] = (struct http_field){.name = text(s), .value = text(v)};
	}
	*ret_count = n;
	return fields;
}

static void decode_headers(const struct field *f, struct route_filter *r)
{
	static const char *const names[] = {"set", "add", "remove"};
	struct field set = field_get(f, "set"), add = field_get(f, "add"), gone = field_get(f, "remove");
	unsigned n = 0;

	if (!begin_map(f, names, array_size(names)))
		return;
	r->headers.set = header_fields(&set, &r->headers.sets);
	r->headers.add = header_fields(&add, &r->headers.adds);
	for (unsigned i = 0; i < r->headers.adds; i++)
		if (known_name(r->headers.set, r->headers.sets, r->headers.add[i].name.at))
			field_error(&add, "\"%.60s\" is also in set: one action for one name",
				    r->headers.add[i].name.at);
	if (!field_given(&gone) || !field_at_most(&gone, MAX_FIELDS))
		return;
	r->headers.remove = field_alloc(&gone, field_count(&gone) + 1, sizeof(*r->headers.remove));
	for (struct field i = field_first_item(&gone); i.doc; field_next(&i)) {
		const char *s = k8s_route_header_name(&i, true);

		if (!s || !changeable(&i, s))
			continue;
		if (known_name(r->headers.set, r->headers.sets, s) || known_name(r->headers.add, r->headers.adds, s))
			field_error(&i, "\"%.60s\" is also in set or add: one action for one name", s);
		r->headers.remove[n++] = text(s);
	}
	r->headers.removes = n;
}

/* ------------------------------------------------------------------ redirect and rewrite */

static bool is_host(const char *s)
{
	size_t part = 0, len = strlen(s);

	if (!len || len > 253)
		return false;
	for (size_t i = 0; i < len; i++) {
		bool edge = !part || i + 1 == len || s[i + 1] == '.';

		if (s[i] == '.' && part && i + 1 < len) {
			part = 0;
			continue;
		}
		if (!isdigit((unsigned char)s[i]) && !islower((unsigned char)s[i]) && (s[i] != '-' || edge))
			return false;
		part++;
	}
	return true;
}

static void decode_host(const struct field *f, struct route_filter *r)
{
	const char *s = field_string(f);

	if (s && !is_host(s))
		field_error(f, "\"%.60s\" is not a host name: a-z, 0-9 and - in parts with dots between", s);
	else
		r->url.host = text(s);
}

static bool is_path(const char *s)
{
	if (strlen(s) > MAX_PATH)
		return false;
	for (; *s; s++)
		if (*s == '%' ? !isxdigit((unsigned char)s[1]) || !isxdigit((unsigned char)s[2])
			      : !isalnum((unsigned char)*s) && !strchr("-/._~!$&'()*+,;=:@", *s))
			return false;
	return true;
}

static void decode_path_change(const struct field *f, struct route_filter *r)
{
	static const char *const names[] = {"type", "replaceFullPath", "replacePrefixMatch"};
	struct field type = field_get(f, "type"), full = field_get(f, "replaceFullPath");
	struct field prefix = field_get(f, "replacePrefixMatch"), *used, *other;
	const char *s;

	if (!field_given(f) || !begin_map(f, names, array_size(names)))
		return;
	s = field_text(&type);
	if (!s || (strcmp(s, "ReplaceFullPath") && strcmp(s, "ReplacePrefixMatch"))) {
		field_error(&type, "must be ReplaceFullPath or ReplacePrefixMatch, not \"%.40s\"", s ? s : "");
		return;
	}
	r->url.change = strcmp(s, "ReplaceFullPath") ? PATH_PREFIX : PATH_FULL;
	used = r->url.change == PATH_FULL ? &full : &prefix;
	other = r->url.change == PATH_FULL ? &prefix : &full;
	if (field_given(other))
		field_error(other, "is not for type %s", s);
	s = field_string(used);
	if (!s)
		field_error(used, "is missing");
	else if (!is_path(s) || (*s != '/' && (*s || r->url.change == PATH_FULL)))
		field_error(used, "must be a path that starts with \"/\", as it stands in a URL (%%20), of at most %d "
			    "characters", MAX_PATH);
	else
		r->url.path = text(s);
}

static void decode_redirect(const struct field *f, struct route_filter *r)
{
	static const char *const names[] = {"scheme", "hostname", "path", "port", "statusCode"};
	struct field scheme = field_get(f, "scheme"), host = field_get(f, "hostname"), path = field_get(f, "path");
	struct field port = field_get(f, "port"), status = field_get(f, "statusCode");
	const char *s;
	long long n;

	r->url.status = 302;
	if (!begin_map(f, names, array_size(names)))
		return;
	s = field_string(&scheme);
	if (s && strcmp(s, "http") && strcmp(s, "https"))
		field_error(&scheme, "must be http or https, not \"%.40s\"", s);
	r->url.scheme = text(s);
	decode_host(&host, r);
	decode_path_change(&path, r);
	if (field_number(&port, 1, 65535, &n))
		r->url.port = (uint16_t)n;
	if (!field_number(&status, 300, 399, &n))
		return;
	if (n != 301 && n != 302 && n != 303 && n != 307 && n != 308)
		field_error(&status, "must be 301, 302, 303, 307 or 308, not %lld", n);
	r->url.status = (uint16_t)n;
}

static void decode_rewrite(const struct field *f, struct route_filter *r)
{
	static const char *const names[] = {"hostname", "path"};
	struct field host = field_get(f, "hostname"), path = field_get(f, "path");

	if (!begin_map(f, names, array_size(names)))
		return;
	decode_host(&host, r);
	decode_path_change(&path, r);
}

/* ------------------------------------------------------------------ mirror */

static const char *name_of(const struct field *f, const char *absent)
{
	const char *s;

	if (!field_given(f)) {
		if (!absent)
			field_error(f, "is missing");
		return absent;
	}
	s = field_string(f);
	if (s && *s && strlen(s) <= 253)
		return s;
	if (s)
		field_error(f, "must be 1 to 253 characters");
	return NULL;
}

bool k8s_route_backend_ref(const struct field *f, struct object_route_backend *ret)
{
	struct field group = field_get(f, "group"), kind = field_get(f, "kind"), name = field_get(f, "name");
	struct field space = field_get(f, "namespace"), port = field_get(f, "port");
	const char *g = field_text(&group), *k = field_string(&kind);
	unsigned before = f->d->errors;
	long long n = 0;

	ret->name = name_of(&name, NULL);
	ret->namespace = name_of(&space, f->d->object->namespace);
	ret->kind = (g && *g) || (k && strcmp(k, "Service")) ? (k ? k : "Service of another group") : NULL;
	if (field_number(&port, 1, 65535, &n))
		ret->port = (uint16_t)n;
	else if (!field_given(&port) && !ret->kind)
		field_error(&port, "is missing: a Service needs it");
	return f->d->errors == before;
}

static void decode_share(const struct field *percent, const struct field *fraction, struct route_filter *r)
{
	static const char *const names[] = {"numerator", "denominator"};
	struct field top = field_get(fraction, "numerator"), bottom = field_get(fraction, "denominator");
	long long n = 100, of = 100;

	if (field_given(percent) && field_given(fraction))
		field_error(fraction, "excludes percent");
	(void)field_number(percent, 0, 100, &n);
	if (field_given(fraction) && begin_map(fraction, names, array_size(names))) {
		if (!field_given(&top))
			field_error(&top, "is missing");
		n = 0;
		(void)field_number(&top, 0, INT32_MAX, &n);
		(void)field_number(&bottom, 1, INT32_MAX, &of);
		if (n > of)
			field_error(&top, "must not be more than the denominator %lld", of);
	}
	r->mirror.numerator = (uint32_t)n;
	r->mirror.denominator = (uint32_t)of;
}

static void decode_mirror(const struct field *f, struct route_filter *r)
{
	static const char *const names[] = {"backendRef", "percent", "fraction"};
	static const char *const refs[] = {"group", "kind", "name", "namespace", "port"};
	struct field ref = field_get(f, "backendRef"), percent = field_get(f, "percent");
	struct field fraction = field_get(f, "fraction");
	struct object_route_backend b = {0};

	r->mirror.denominator = 1;
	if (!begin_map(f, names, array_size(names)))
		return;
	if (begin_map(&ref, refs, array_size(refs)) && k8s_route_backend_ref(&ref, &b)) {
		r->mirror.target = (struct route_target){.namespace = b.namespace, .service = b.name, .port = b.port};
		r->mirror.target.hash = route_target_hash(b.namespace, b.name, b.port);
		r->mirror.kind = b.kind;
	}
	decode_share(&percent, &fraction, r);
}

/* ------------------------------------------------------------------ CORS */

/* scheme://host[:port], the host "*" or with "*." before it; lower case, without the scheme's own port. */
static const char *origin(const struct field *f)
{
	const char *s = field_string(f), *host, *port;
	struct text t = {0};
	const char *copy;
	char name[256];
	long long n;
	size_t len;

	if (!s || !strcmp(s, "*"))
		return s;
	len = !strncasecmp(s, "http://", 7) ? 7 : !strncasecmp(s, "https://", 8) ? 8 : 0;
	host = s + len;
	port = strchr(host, ':');
	if (!len || strlen(s) > 253 || (port && text_number(port + 1, 1, 65535, &n))) {
		field_error(f, "\"%.60s\" is not an origin: *, or http(s)://HOST[:PORT]", s);
		return NULL;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(port ? (size_t)(port - host) : strlen(host)), host);
	for (char *c = name; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (strcmp(name, "*") && !is_host(text_starts(name, "*.") ? name + 2 : name)) {
		field_error(f, "\"%.60s\" is not the host of an origin: HOST, *.HOST or *", name);
		return NULL;
	}
	text_add(&t, "%s%s", len == 7 ? "http://" : "https://", name);
	if (port && n != (len == 7 ? 80 : 443))
		text_add(&t, ":%lld", n);
	copy = arena_string(&f->d->object->arena, t.data, t.len);
	text_free(&t);
	return copy;
}

static const char *method(const struct field *f)
{
	static const char *const methods[] = {"*", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS",
					      "TRACE", "PATCH"};
	const char *s = field_string(f);

	for (size_t i = 0; s && i < array_size(methods); i++)
		if (!strcmp(s, methods[i]))
			return s;
	if (s)
		field_error(f, "\"%.40s\" is not a method, which is written in capitals, nor *", s);
	return NULL;
}

static const char *header(const struct field *f)
{
	return k8s_route_header_name(f, false);
}

/* A list of texts that is sent as one value; "*" stands alone. */
static struct http_text joined(const struct field *list, const char *(*item)(const struct field *f))
{
	struct text t = {0};
	struct http_text ret;
	bool any = false;

	if (!field_given(list) || !field_at_most(list, MAX_LIST))
		return text("");
	for (struct field i = field_first_item(list); i.doc; field_next(&i)) {
		const char *s = item(&i);

		any |= s && !strcmp(s, "*");
		if (s)
			text_add(&t, "%s%s", t.len ? ", " : "", s);
	}
	if (any && t.len > 1)
		field_error(list, "* must stand alone");
	ret = text(t.len ? arena_string(&list->d->object->arena, t.data, t.len) : "");
	text_free(&t);
	return ret;
}

static void decode_cors(const struct field *f, struct route_filter *r)
{
	static const char *const names[] = {"allowOrigins", "allowCredentials", "allowMethods",
					    "allowHeaders", "exposeHeaders", "maxAge"};
	struct field origins = field_get(f, "allowOrigins"), credentials = field_get(f, "allowCredentials");
	struct field methods = field_get(f, "allowMethods"), headers = field_get(f, "allowHeaders");
	struct field expose = field_get(f, "exposeHeaders"), age = field_get(f, "maxAge");
	long long n = 5;

	if (!begin_map(f, names, array_size(names)))
		return;
	if (field_given(&origins) && field_at_most(&origins, MAX_LIST)) {
		r->cors.origin = field_alloc(&origins, field_count(&origins) + 1, sizeof(*r->cors.origin));
		for (struct field i = field_first_item(&origins); i.doc; field_next(&i)) {
			const char *s = origin(&i);

			if (s && !strcmp(s, "*") && field_count(&origins) > 1)
				field_error(&i, "* must stand alone");
			if (s)
				r->cors.origin[r->cors.origins++] = text(s);
		}
	}
	r->cors.methods = joined(&methods, method);
	r->cors.headers = joined(&headers, header);
	r->cors.expose = joined(&expose, header);
	r->cors.credentials = field_bool(&credentials, false);
	(void)field_number(&age, 1, INT32_MAX, &n);
	r->cors.max_age_s = (uint32_t)n;
}

/* ------------------------------------------------------------------ one filter, all filters */

static const struct {
	const char *type, *field;
	enum route_filter_kind kind;
	bool grpc; /* GRPCRoute has it too */
	bool often;
	void (*decode)(const struct field *f, struct route_filter *r); /* NULL: not supported */
	const char *why;
} types[] = {
	{"RequestHeaderModifier", "requestHeaderModifier", FILTER_REQUEST_HEADERS, .grpc = true,
	 .decode = decode_headers},
	{"ResponseHeaderModifier", "responseHeaderModifier", FILTER_RESPONSE_HEADERS, .grpc = true,
	 .decode = decode_headers},
	{"RequestMirror", "requestMirror", FILTER_MIRROR, .grpc = true, .often = true, .decode = decode_mirror},
	{"RequestRedirect", "requestRedirect", FILTER_REDIRECT, .decode = decode_redirect},
	{"URLRewrite", "urlRewrite", FILTER_REWRITE, .decode = decode_rewrite},
	{"CORS", "cors", FILTER_CORS, .decode = decode_cors},
	{"ExternalAuth", "externalAuth", .why = "is not supported: weft calls no external authorizer"},
	{"ExtensionRef", "extensionRef", .grpc = true, .why = "is not supported: weft has no filters of its own kind"},
};

static bool decode_filter(const struct field *f, bool grpc, struct route_filter *r, unsigned *seen)
{
	struct field type = field_get(f, "type"), body = *f;
	const char *s;
	bool found = false;

	if (!field_is_map(f))
		return false;
	s = field_text(&type);
	if (!s) {
		if (!field_given(&type))
			field_error(&type, "is missing");
		return false;
	}
	for (size_t i = 0; i < array_size(types); i++) {
		struct field own = field_get(f, types[i].field);

		if (strcmp(s, types[i].type) || (grpc && !types[i].grpc)) {
			if (field_given(&own))
				field_error(&own, "is not for type %.40s", s);
			continue;
		}
		found = true;
		if (!types[i].decode) {
			field_error(&type, "%s %s", s, types[i].why);
			continue;
		}
		if (!types[i].often && (*seen & 1u << i))
			field_error(&type, "%s must not be repeated", s);
		*seen |= 1u << i;
		r->kind = types[i].kind;
		body = own;
		body.up = f;
		types[i].decode(&body, r);
	}
	if (!found)
		field_error(&type, "\"%.40s\" is not a type of filter that weft knows%s", s,
			    grpc ? " for a GRPCRoute" : "");
	return found;
}

static void known_fields(const struct field *f)
{
	const char *names[array_size(types) + 1] = {"type"};

	for (size_t i = 0; i < array_size(types); i++)
		names[i + 1] = types[i].field;
	if (f->doc->kind == DOC_MAP)
		field_known(f, names, array_size(names));
}

struct route_filter *k8s_route_filters(const struct field *list, bool grpc, unsigned *ret_count)
{
	struct route_filter *filter;
	unsigned n = 0, seen = 0;

	*ret_count = 0;
	if (!field_given(list) || !field_at_most(list, MAX_FILTERS))
		return NULL;
	filter = field_alloc(list, field_count(list) + 1, sizeof(*filter));
	for (struct field i = field_first_item(list); i.doc; field_next(&i)) {
		known_fields(&i);
		if (decode_filter(&i, grpc, &filter[n], &seen))
			n++;
	}
	*ret_count = n;
	if (k8s_route_redirects(filter, n))
		for (unsigned i = 0; i < n; i++)
			if (filter[i].kind == FILTER_REWRITE)
				field_error(list, "RequestRedirect and URLRewrite exclude each other");
	return filter;
}

bool k8s_route_replaces_prefix(const struct route_filter *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if ((f[i].kind == FILTER_REDIRECT || f[i].kind == FILTER_REWRITE) && f[i].url.change == PATH_PREFIX)
			return true;
	return false;
}

bool k8s_route_redirects(const struct route_filter *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (f[i].kind == FILTER_REDIRECT)
			return true;
	return false;
}
