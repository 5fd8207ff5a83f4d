/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k8s.c: one document to objects: what kind it is, its metadata, lists, and what to do with one that is wrong.
 */
#include <ctype.h>
#include <string.h>
#include <time.h>

#include "k8s_kinds.h"

#define SECURITY "security.istio.io"
#define GATEWAY "gateway.networking.k8s.io"
#define BROKEN_STAND_INS 4096 /* of one unreadable document */

struct kind {
	const char *group; /* "" for core */
	const char *versions[4];
	bool cluster; /* has no namespace */
	bool label;   /* its name is one DNS label, not a subdomain */
	void (*decode)(const struct field *root);
};

static const struct kind kinds[KIND_COUNT] = {
	[KIND_NAMESPACE] = {"", {"v1"}, .cluster = true, .label = true, .decode = k8s_core_decode},
	[KIND_NODE] = {"", {"v1"}, .cluster = true, .decode = k8s_core_decode},
	[KIND_POD] = {"", {"v1"}, .decode = k8s_core_decode},
	[KIND_SERVICE_ACCOUNT] = {"", {"v1"}, .decode = k8s_core_decode},
	[KIND_SERVICE] = {"", {"v1"}, .label = true, .decode = k8s_core_decode},
	[KIND_ENDPOINT_SLICE] = {"discovery.k8s.io", {"v1"}, .decode = k8s_core_decode},
	[KIND_AUTHORIZATION_POLICY] = {SECURITY, {"v1", "v1beta1"}},
	[KIND_PEER_AUTHENTICATION] = {SECURITY, {"v1", "v1beta1"}},
	[KIND_HTTP_ROUTE] = {GATEWAY, {"v1", "v1beta1"}, .decode = k8s_route_decode},
	[KIND_GRPC_ROUTE] = {GATEWAY, {"v1", "v1alpha2"}, .decode = k8s_route_decode},
	[KIND_TLS_ROUTE] = {GATEWAY, {"v1", "v1alpha3", "v1alpha2"}, .decode = k8s_route_decode},
	[KIND_TCP_ROUTE] = {GATEWAY, {"v1", "v1alpha2"}, .decode = k8s_route_decode},
	[KIND_REFERENCE_GRANT] = {GATEWAY, {"v1", "v1beta1"}, .decode = k8s_grant_decode},
	[KIND_GATEWAY] = {GATEWAY, {"v1", "v1beta1"}, .decode = k8s_edge_gateway},
	[KIND_SECRET] = {"", {"v1"}, .decode = k8s_edge_secret},
};

struct envelope {
	const char *kind;
	const char *group, *version;
	size_t group_len;
};

static bool is_policy(enum object_kind kind)
{
	return kind == KIND_AUTHORIZATION_POLICY || kind == KIND_PEER_AUTHENTICATION;
}

static bool in_group(const struct envelope *e, const char *group)
{
	return strlen(group) == e->group_len && !memcmp(e->group, group, e->group_len);
}

/* ------------------------------------------------------------------ names */

/* RFC 1123 label or subdomain, as Kubernetes takes them. */
static bool is_dns(const char *s, bool label)
{
	size_t len = strlen(s), part = 0;

	if (!len || len > (label ? 63 : 253))
		return false;
	for (size_t i = 0; i < len; i++) {
		bool edge = !part || i + 1 == len || s[i + 1] == '.';

		if (s[i] == '.' && !label && part && i + 1 < len) {
			part = 0;
			continue;
		}
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || (s[i] == '-' && !edge)))
			return false;
		part++;
	}
	return true;
}

static const char *read_name(const struct field *f, bool label)
{
	const char *s = field_string(f);

	if (!s) {
		if (!field_given(f))
			field_error(f, "is missing");
		return "";
	}
	if (is_dns(s, label))
		return s;
	field_error(f, "\"%.60s\" is not a valid name: at most %d of a-z, 0-9 and -%s", s, label ? 63 : 253,
		    label ? "" : ", in parts with dots between");
	return "";
}

static uint64_t read_time(const struct field *f)
{
	const char *s = field_given(f) ? field_text(f) : NULL, *end;
	struct tm tm = {0};
	time_t t;

	if (!s)
		return 0;
	end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	t = end ? timegm(&tm) : -1;
	if (t >= 0)
		return (uint64_t)t;
	field_warning(f, "\"%.40s\" is not a time like 2026-01-31T12:00:00Z: ignored", s);
	return 0;
}

#define ON(kind) (1u << KIND_##kind)

/* docs/manifests.md has the same table, for people. */
static const struct {
	const char *key;
	unsigned kinds;
} known[] = {
	{"weft.io/splice", ON(POD) | ON(SERVICE)},
	{"weft.io/proxy", ON(POD) | ON(NAMESPACE) | ON(SERVICE)},
	{"weft.io/egress", ON(POD) | ON(NAMESPACE)},
	{"weft.io/fail-open", ON(POD) | ON(NAMESPACE)},
	{"weft.io/stall-timeout", ON(SERVICE)},
	{"weft.io/service-account", ON(GATEWAY)},
	{"weft.io/weight", ON(ENDPOINT_SLICE)},
};

static void check_annotations(const struct field *metadata)
{
	enum object_kind kind = metadata->d->object->kind;
	struct field list = field_get(metadata, "annotations");

	for (struct field i = field_first_key(&list); i.doc; field_next(&i)) {
		size_t n = 0;

		if (!text_starts(i.key, "weft.io/"))
			continue;
		while (n < array_size(known) && strcmp(i.key, known[n].key))
			n++;
		if (n == array_size(known))
			field_warning(&i, "weft does not know this annotation: see docs/manifests.md");
		else if (!(known[n].kinds & 1u << kind))
			field_warning(&i, "has no effect on a %s: see docs/manifests.md", object_kind_name(kind));
	}
}

static void title(struct decode *d, const char *kind)
{
	const struct object *o = d->object;

	if (!*o->name)
		snprintf(d->title, sizeof(d->title), "%.63s", kind);
	else if (!*o->namespace)
		snprintf(d->title, sizeof(d->title), "%.63s %.253s", kind, o->name);
	else /* the namespace is a label: at most 63 */
		snprintf(d->title, sizeof(d->title), "%.63s %.63s/%.190s", kind, o->namespace, o->name);
}

static void read_metadata(const struct field *root, const struct kind *k, const char *kind)
{
	struct decode *d = root->d;
	struct object *o = d->object;
	struct field m = field_get(root, "metadata");
	struct field name = field_get(&m, "name"), space = field_get(&m, "namespace");
	struct field labels = field_get(&m, "labels"), annotations = field_get(&m, "annotations");
	struct field created = field_get(&m, "creationTimestamp");
	bool whose = true;

	o->line = root->doc->line;
	o->file = arena_string(&o->arena, d->file, strlen(d->file));
	title(d, kind);
	if (!k->cluster)
		o->namespace = "default";
	if (!field_given(&m)) {
		field_error(&m, "is missing");
		return;
	}
	if (!field_is_map(&m))
		return;
	if (!k->cluster && field_given(&space)) {
		const char *s = read_name(&space, true);

		whose = *s;
		if (whose)
			o->namespace = s;
	}
	o->name = read_name(&name, k->label);
	title(d, kind);
	field_pairs(&labels, &o->labels);
	field_pairs(&annotations, &o->annotations);
	o->created = read_time(&created);
	check_annotations(&m);
	if (!whose) /* it is not the one of that name in `default`: which one was meant is not known */
		o->name = "";
}

/* ------------------------------------------------------------------ one object */

/* Gives the object to the sink, or says that it was rejected. */
static void finish(struct decode *d, bool effect)
{
	struct object *o = d->object;
	struct k8s_sink *sink = d->sink;

	if (!d->errors) {
		if (effect)
			sink->emit(sink, o);
		else
			object_free(o);
		return;
	}
	if (is_policy(o->kind) && effect) {
		if (!*o->name)
			o->name = arena_string(&o->arena, "(unreadable)", strlen("(unreadable)"));
		k8s_security_stand_in(o);
		sink->reject(sink, o->kind, o->namespace, o->name, o);
		return;
	}
	sink->reject(sink, o->kind, o->namespace, o->name, NULL);
	object_free(o);
}

static void decode_object(const struct doc *doc, enum object_kind kind, const char *file,
			  struct k8s_sink *sink)
{
	struct decode d = {.sink = sink, .file = file, .line = doc->line, .object = object_new(kind)};
	struct field root = {.d = &d, .doc = doc};
	bool effect = true;

	read_metadata(&root, &kinds[kind], object_kind_name(kind));
	if (is_policy(kind))
		effect = k8s_security_decode(&root);
	else
		kinds[kind].decode(&root);
	finish(&d, effect);
}

/*
 * Not of a kind that weft reads, but it may have been meant as a policy: an error, and a stand-in that denies
 * everything in its namespace, under the name that it has.
 */
static void suspect(const struct doc *doc, enum object_kind kind, const struct envelope *e, const char *file,
		    struct k8s_sink *sink, bool stand_in, const char *field, const char *reason)
{
	struct decode d = {.sink = sink, .file = file, .line = doc->line, .object = object_new(kind)};
	struct field root = {.d = &d, .doc = doc}, f = field_get(&root, field);

	read_metadata(&root, &kinds[kind], e->kind);
	if (kind == KIND_AUTHORIZATION_POLICY)
		d.object->authorization.action = POLICY_DENY;
	field_error(&f, reason, f.key && text_equal(f.key, "kind") ? e->kind : e->group);
	finish(&d, stand_in);
}

/* Something whose kind cannot even be told. */
static void unknown(const struct doc *doc, const char *file, struct k8s_sink *sink, const char *field,
		    const char *reason)
{
	struct problem p = {.line = doc->line};

	text_copy(p.file, sizeof(p.file), file);
	text_copy(p.field, sizeof(p.field), field);
	text_copy(p.reason, sizeof(p.reason), reason);
	sink->report(sink, &p);
	sink->reject(sink, KIND_COUNT, "", "", NULL);
}

static void unread_kind(const struct doc *doc, const struct envelope *e, const char *file,
			struct k8s_sink *sink)
{
	struct problem p = {.warning = true, .line = doc->line};
	const struct doc *m = doc_get(doc, "metadata"), *name = doc_get(m, "name");
	const struct doc *space = doc_get(m, "namespace");

	text_copy(p.file, sizeof(p.file), file);
	snprintf(p.object, sizeof(p.object), "%.60s %.63s%s%.180s", e->kind,
		 space && space->text ? space->text : "", space && space->text ? "/" : "",
		 name && name->text ? name->text : "");
	text_copy(p.field, sizeof(p.field), "kind");
	snprintf(p.reason, sizeof(p.reason), "weft does not read %.*s%s%.60s: ignored",
		 (int)(e->group_len < 60 ? e->group_len : 60), e->group, e->group_len ? " " : "", e->kind);
	sink->report(sink, &p);
}

static bool has_version(const struct kind *k, const char *version)
{
	for (size_t i = 0; i < array_size(k->versions) && k->versions[i]; i++)
		if (!strcmp(k->versions[i], version))
			return true;
	return false;
}

/* AuthorisationPolcy does; an Authorino does not. */
static bool sounds_like_policy(const char *kind)
{
	return (!strncasecmp(kind, "Authori", 7) && strpbrk(kind + 7, "Pp")) || !strncasecmp(kind, "PeerAuth", 8);
}

/*
 * A map without a kind or without an apiVersion (mistyped, or of another type): do its texts, or those of the list that
 * it is of, speak of a policy? KIND_COUNT: no.
 */
static enum object_kind meant(const struct doc *doc, const struct envelope *from)
{
	enum object_kind kind = from && text_starts(from->group, SECURITY "/") ? KIND_AUTHORIZATION_POLICY : KIND_COUNT;

	for (const struct doc *i = doc->child; i; i = i->next) {
		if (i->kind != DOC_STRING)
			continue;
		if (text_equal(i->text, "RequestAuthentication"))
			return KIND_COUNT;
		if (text_equal(i->text, "PeerAuthentication"))
			return KIND_PEER_AUTHENTICATION;
		if (sounds_like_policy(i->text) || text_starts(i->text, SECURITY "/"))
			kind = KIND_AUTHORIZATION_POLICY;
	}
	return kind;
}

static void decode_one(const struct doc *doc, const struct envelope *e, const char *file,
		       struct k8s_sink *sink)
{
	bool linkerd = in_group(e, "policy.linkerd.io"); /* has an AuthorizationPolicy of its own */

	for (enum object_kind k = 0; k < KIND_COUNT; k++) {
		if (strcmp(e->kind, object_kind_name(k)))
			continue;
		if (in_group(e, kinds[k].group)) {
			if (has_version(&kinds[k], e->version))
				decode_object(doc, k, file, sink);
			else
				suspect(doc, k, e, file, sink, is_policy(k), "apiVersion",
					"\"%.60s\" is not a version that weft reads; see docs/manifests.md");
			return;
		}
		if (is_policy(k) && !linkerd) {
			suspect(doc, k, e, file, sink, true, "apiVersion",
				"\"%.60s\" is not the group of this kind: security.istio.io/v1");
			return;
		}
	}
	if (in_group(e, SECURITY))
		suspect(doc, KIND_AUTHORIZATION_POLICY, e, file, sink, strcmp(e->kind, "RequestAuthentication"),
			"kind", "\"%.60s\" of security.istio.io is not supported; a mistyped AuthorizationPolicy "
				"or PeerAuthentication?");
	else if (!linkerd && sounds_like_policy(e->kind))
		suspect(doc, KIND_AUTHORIZATION_POLICY, e, file, sink, true, "kind",
			"\"%.60s\": meant as AuthorizationPolicy or PeerAuthentication of security.istio.io/v1?");
	else
		unread_kind(doc, e, file, sink);
}

/* ------------------------------------------------------------------ documents and lists */

static void decode(const struct doc *doc, const struct envelope *from, const char *file,
		   struct k8s_sink *sink);

static void decode_list(const struct doc *doc, const struct envelope *e, const char *file,
			struct k8s_sink *sink)
{
	char kind[64] = "";
	struct envelope item = *e;
	const struct doc *items = doc_get(doc, "items");
	size_t len = strlen(e->kind) - strlen("List");
	bool typed = len > 0; /* ServiceList: its items need not say that they are Services */

	if (len < sizeof(kind))
		memcpy(kind, e->kind, len);
	item.kind = kind;
	if (!items || items->kind == DOC_NULL)
		return; /* how kubectl writes an empty list */
	if (items->kind != DOC_LIST) {
		unknown(items, file, sink, "items", "must be a list of objects");
		return;
	}
	for (const struct doc *i = items->child; i; i = i->next)
		decode(i, typed ? &item : NULL, file, sink);
}

static const char *envelope_text(const struct doc *doc, const char *key, const char *inherited)
{
	const struct doc *f = doc_get(doc, key);

	if (!f && inherited)
		return inherited;
	return f && f->kind == DOC_STRING && *f->text ? f->text : NULL;
}

/* Without a kind or an apiVersion. */
static void nameless(const struct doc *doc, const struct envelope *from, struct envelope *e, const char *file,
		     struct k8s_sink *sink)
{
	const char *missing = e->kind ? "apiVersion" : "kind", *reason = "must be there, as text";
	enum object_kind kind = meant(doc, from);

	if (kind == KIND_COUNT) {
		unknown(doc, file, sink, missing, reason);
		if (e->kind && text_equal(e->kind, "List")) /* what it holds may close something */
			decode_list(doc, e, file, sink);
		return;
	}
	if (!e->kind)
		e->kind = object_kind_name(kind);
	suspect(doc, kind, e, file, sink, true, missing, reason);
}

/* `from`: what the items of a typed list inherit, or NULL. */
static void decode(const struct doc *doc, const struct envelope *from, const char *file, struct k8s_sink *sink)
{
	struct envelope e = {.group = ""};
	const char *version, *slash;

	if (doc->kind != DOC_MAP) {
		unknown(doc, file, sink, "", "an object must be a map with apiVersion, kind and metadata");
		for (const struct doc *i = doc->kind == DOC_LIST ? doc->child : NULL; i; i = i->next)
			if (i->kind == DOC_MAP)
				decode(i, NULL, file, sink);
		return;
	}
	e.kind = envelope_text(doc, "kind", from ? from->kind : NULL);
	version = envelope_text(doc, "apiVersion", from ? from->group : NULL);
	if (!e.kind || !version) {
		nameless(doc, from, &e, file, sink);
		return;
	}
	slash = strchr(version, '/');
	e.group = version; /* the whole of apiVersion: items of a typed list inherit it */
	e.group_len = slash ? (size_t)(slash - version) : 0;
	e.version = slash ? slash + 1 : version;
	if (text_ends(e.kind, "List") && (doc_get(doc, "items") || !strcmp(e.kind, "List")))
		decode_list(doc, &e, file, sink);
	else
		decode_one(doc, &e, file, sink);
}

void k8s_decode(const struct doc *doc, const char *file, struct k8s_sink *sink)
{
	if (doc->kind != DOC_NULL)
		decode(doc, NULL, file, sink);
}

/* ------------------------------------------------------------------ documents that cannot be parsed */

static bool word(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_' || c == '/';
}

/* The next `key: value` or `"key": "value"` at or after `at`, wherever it stands. Returns its end, or NULL. */
static const char *scan(const char *at, const char *end, const char *key, char *value, size_t size)
{
	size_t len = strlen(key), n;

	for (const char *p = at; (p = memmem(p, (size_t)(end - p), key, len)); p += len) {
		const char *v = p + len;

		if (p > at && word(p[-1]))
			continue;
		v += v < end && (*v == '"' || *v == '\'');
		while (v < end && (*v == ' ' || *v == '\t'))
			v++;
		if (v == end || *v++ != ':')
			continue;
		while (v < end && (*v == ' ' || *v == '\t' || *v == '"' || *v == '\''))
			v++;
		for (n = 0; v < end && word(*v) && n + 1 < size; n++)
			value[n] = *v++;
		value[n] = 0;
		if (n)
			return v;
	}
	return NULL;
}

struct broken { /* a text that no parser understood */
	const char *bytes, *end, *file;
	uint32_t line;
	struct k8s_sink *sink;
	char name[254], namespace[64]; /* the first of each in it, else what stands for them */
};

static void broken_names(struct broken *b)
{
	if (!scan(b->bytes, b->end, "name", b->name, sizeof(b->name)) || !is_dns(b->name, false))
		snprintf(b->name, sizeof(b->name), "(unreadable, line %u)", b->line);
	if (!scan(b->bytes, b->end, "namespace", b->namespace, sizeof(b->namespace)) || !is_dns(b->namespace, true))
		text_copy(b->namespace, sizeof(b->namespace), "default");
}

/* A policy whose kind is in this part of the text. */
static void broken_policy(struct broken *b, enum object_kind kind, const char *part, const char *part_end)
{
	struct object *o = object_new(kind);
	char name[254], space[64];

	if (!scan(part, part_end, "name", name, sizeof(name)))
		text_copy(name, sizeof(name), b->name);
	else if (!is_dns(name, false))
		snprintf(name, sizeof(name), "(unreadable, line %u)", b->line);
	if (!scan(part, part_end, "namespace", space, sizeof(space)))
		text_copy(space, sizeof(space), b->namespace);
	else if (!is_dns(space, true))
		text_copy(space, sizeof(space), "default");
	o->name = arena_string(&o->arena, name, strlen(name));
	o->namespace = arena_string(&o->arena, space, strlen(space));
	o->file = arena_string(&o->arena, b->file, strlen(b->file));
	o->line = b->line;
	if (kind == KIND_AUTHORIZATION_POLICY)
		o->authorization.action = POLICY_DENY;
	k8s_security_stand_in(o);
	b->sink->reject(b->sink, kind, o->namespace, o->name, o);
}

void k8s_broken(const char *bytes, size_t len, uint32_t first_line, const struct doc_error *error,
		const char *file, struct k8s_sink *sink)
{
	struct problem p = {.line = error->line};
	const char *end = bytes + len, *at = bytes;
	struct broken b = {.bytes = bytes, .end = end, .file = file, .line = first_line, .sink = sink};
	unsigned count = 0, others = 0;
	char value[64];

	broken_names(&b);
	text_copy(p.file, sizeof(p.file), file);
	text_copy(p.reason, sizeof(p.reason), error->reason);
	sink->report(sink, &p);
	while (count < BROKEN_STAND_INS && (at = scan(at, end, "kind", value, sizeof(value)))) {
		const char *next = memmem(at, (size_t)(end - at), "kind", 4);
		bool peer = !strcmp(value, "PeerAuthentication");

		others += !strcmp(value, "RequestAuthentication");
		if (!peer && strcmp(value, "AuthorizationPolicy"))
			continue;
		broken_policy(&b, peer ? KIND_PEER_AUTHENTICATION : KIND_AUTHORIZATION_POLICY, at, next ? next : end);
		count++;
	}
	if (!count && !others && memmem(bytes, len, SECURITY, strlen(SECURITY))) {
		broken_policy(&b, KIND_AUTHORIZATION_POLICY, bytes, end);
		count++;
	}
	if (!count)
		sink->reject(sink, KIND_COUNT, "", "", NULL);
}
