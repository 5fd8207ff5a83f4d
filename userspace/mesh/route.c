/* SPDX-License-Identifier: Apache-2.0 */
/* route.c: asks a table of routes (route_parts.h): which rule is a request's, a server name's, a connection's. */
#include <stdlib.h>
#include <string.h>

#include "route_parts.h"

struct route_table *route_table_hold(const struct route_table *t)
{
	struct route_table *held = (struct route_table *)t;

	__atomic_add_fetch(&held->holders, 1, __ATOMIC_RELAXED);
	return held;
}

static const struct route_set *set_of(const struct route_table *t, const char *namespace)
{
	struct table_link *l;

	if (t->consumers.count && namespace)
		for (l = table_first(&t->consumers, route_name_hash(namespace)); l; l = table_next_same(l)) {
			const struct route_set *s = container_of(l, struct route_set, link);

			if (!strcmp(s->namespace, namespace))
				return s;
		}
	return t->producer;
}

bool route_table_has(const struct route_table *t, enum route_kind kind, const char *client_namespace)
{
	const struct route_set *s = set_of(t, client_namespace);

	return s && s->kind == kind;
}

const struct route_backend *route_backend(const struct route_rule *r, uint64_t random)
{
	uint64_t at = (uint64_t)(((unsigned __int128)random * r->weights) >> 64);

	for (unsigned i = 0; i < r->backends; i++) {
		if (at < r->backend[i].weight)
			return &r->backend[i];
		at -= r->backend[i].weight;
	}
	return NULL;
}

/* ------------------------------------------------------------------ values of a request */

struct asked { /* one question */
	const struct route_question *q;
	const struct route_set *set;
	struct arena scratch; /* joined headers, decoded parameters: hardly ever */
	struct route_regex_work work;
	const struct route_entry *best;
	unsigned steps;
};

/* A header that came more than once is one with commas (RFC 9110 section 5.3); cookies have their own separator. */
static struct http_text join(struct asked *a, struct http_text name, const struct http_field *f)
{
	bool cookie = http_text_equal(name, HTTP_TEXT("cookie"));
	const struct http_field *i;
	size_t len = 0;
	char *to, *at;

	for (i = f; i; i = http_field_named(a->q->head, name, i))
		len += i->value.len + 2;
	to = at = arena_alloc(&a->scratch, len);
	for (i = f; i; i = http_field_named(a->q->head, name, i)) {
		if (i != f && cookie) {
			*at++ = ';';
			*at++ = ' ';
		} else if (i != f) {
			*at++ = ',';
		}
		memcpy(at, i->value.at, i->value.len);
		at += i->value.len;
	}
	return (struct http_text){to, (size_t)(at - to)};
}

/* Host is matched in the form that it is compared in elsewhere: lower case, without the port. */
static bool header_value(struct asked *a, struct http_text name, struct http_text *ret)
{
	const struct http_field *f;

	if (http_text_equal(name, HTTP_TEXT("host"))) {
		*ret = a->q->host;
		return ret->len > 0;
	}
	f = http_field_named(a->q->head, name, NULL);
	if (!f)
		return false;
	*ret = http_field_named(a->q->head, name, f) ? join(a, name, f) : f->value;
	return true;
}

static int digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? memchr(digits, c | (c >= 'A' && c <= 'F' ? 32 : 0), 16) : NULL;

	return at ? (int)(at - digits) : -1;
}

static struct http_text decoded(struct asked *a, const char *at, size_t len)
{
	char *to;
	size_t n = 0;

	if (!memchr(at, '%', len))
		return (struct http_text){at, len};
	to = arena_alloc(&a->scratch, len);
	for (size_t i = 0; i < len; i++) {
		bool escape = at[i] == '%' && i + 2 < len && digit(at[i + 1]) >= 0 && digit(at[i + 2]) >= 0;

		to[n++] = escape ? (char)(16 * digit(at[i + 1]) + digit(at[i + 2])) : at[i];
		i += escape ? 2 : 0;
	}
	return (struct http_text){to, n};
}

/* The first parameter of that name, percent-decoded; "+" stays what it is. */
static bool query_value(struct asked *a, struct http_text name, struct http_text *ret)
{
	const char *at = a->q->query.at, *end;

	if (!a->q->query.len)
		return false;
	end = at + a->q->query.len;
	for (const char *next; at <= end; at = next + 1) {
		const char *equals;
		size_t len;

		next = memchr(at, '&', (size_t)(end - at));
		if (!next)
			next = end;
		equals = memchr(at, '=', (size_t)(next - at));
		len = (size_t)((equals ? equals : next) - at);
		if (len < name.len || (len > name.len && !memchr(at, '%', len)) ||
		    !http_text_equal(decoded(a, at, len), name))
			continue;
		*ret = equals ? decoded(a, equals + 1, (size_t)(next - equals - 1)) : HTTP_TEXT("");
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ groups */

static bool gather(struct asked *a, const struct route_shape *s, struct http_text *value)
{
	unsigned n = 0;

	if (s->method)
		value[n++] = a->q->head->method_text;
	for (unsigned i = 0; i < s->headers; i++)
		if (!header_value(a, s->name[i], &value[n++]))
			return false;
	for (unsigned i = 0; i < s->queries; i++)
		if (!query_value(a, s->name[s->headers + i], &value[n++]))
			return false;
	return true;
}

static bool fits(struct asked *a, const struct route_entry *e, const struct http_text *value)
{
	const struct route_shape *s = e->shape;
	struct http_text v;

	a->steps++;
	for (unsigned i = 0; i < s->method + s->headers + s->queries; i++)
		if (!http_text_equal(e->value[i], value[i]))
			return false;
	for (unsigned i = 0; i < e->headers; i++)
		if (!header_value(a, e->header[i].name, &v) || !route_regex_match(e->header[i].regex, v, &a->work))
			return false;
	for (unsigned i = 0; i < e->queries; i++)
		if (!query_value(a, e->query[i].name, &v) || !route_regex_match(e->query[i].regex, v, &a->work))
			return false;
	return true;
}

static bool better(const struct asked *a, uint32_t rank)
{
	return !a->best || rank < a->best->rank;
}

static bool find_in(struct asked *a, const struct route_group *g)
{
	const struct route_entry *before = a->best;

	for (const struct route_shape *s = g->shape; s && better(a, s->first); s = s->next) {
		struct http_text value[ROUTE_VALUES];
		struct table_link *l;

		a->steps++;
		if (!gather(a, s, value))
			continue;
		l = table_first(&a->set->slots, route_slot_hash(s, value));
		if (!l)
			continue;
		for (const struct route_entry *e = container_of(l, struct route_slot, link)->first;
		     e && better(a, e->rank); e = e->next)
			if (e->shape == s && fits(a, e, value))
				a->best = e;
	}
	return a->best != before;
}

static const struct route_group *group(struct asked *a, const struct table *t, uint64_t hash, struct http_text text)
{
	for (struct table_link *l = table_first(t, hash); l; l = table_next_same(l)) {
		const struct route_group *g = container_of(l, struct route_group, link);

		a->steps++;
		if (http_text_equal(g->text, text))
			return g;
	}
	return NULL;
}

/* Of the parts of the path that end at a "/" or at its end, the longest that has a rule that fits. */
static bool find_prefix(struct asked *a, struct http_text path)
{
	struct {
		uint64_t hash;
		size_t len;
	} at[ROUTE_PATH_MOST];
	size_t n = 0, end = path.len < a->set->longest ? path.len : a->set->longest;
	uint64_t hash = 0;

	for (size_t i = 0; i < end; i++) {
		size_t len = i + 1;

		hash = route_prefix_step(hash, a->set->base, path.at[i]);
		if ((len == path.len || path.at[len] == '/') && a->set->lengths[len / 64] & 1ull << len % 64) {
			at[n].hash = hash;
			at[n++].len = len;
		}
	}
	while (n--) {
		const struct route_group *g =
			group(a, &a->set->prefix, at[n].hash, (struct http_text){path.at, at[n].len});

		a->steps++;
		if (g && find_in(a, g))
			return true;
	}
	return false;
}

struct rpc { /* "/service/method" */
	struct http_text service, method;
};

static struct rpc rpc_of(struct http_text path)
{
	struct rpc r = {0};
	const char *slash;

	if (path.len < 2 || path.at[0] != '/')
		return r;
	slash = memchr(path.at + 1, '/', path.len - 1);
	if (!slash)
		return r;
	r.service = (struct http_text){path.at + 1, (size_t)(slash - path.at - 1)};
	r.method = (struct http_text){slash + 1, path.len - r.service.len - 2};
	return r;
}

static bool find_rpc_method(struct asked *a, struct rpc rpc)
{
	const struct route_group *g;

	if (!rpc.method.len || !a->set->method.count)
		return false;
	g = group(a, &a->set->method, table_hash(rpc.method.at, rpc.method.len), rpc.method);
	return g && find_in(a, g);
}

static bool regex_fits(struct asked *a, const struct route_group *g, struct http_text path, struct rpc rpc)
{
	a->steps++;
	return (!g->path || route_regex_match(g->path, path, &a->work)) &&
	       (!g->service || route_regex_match(g->service, rpc.service, &a->work)) &&
	       (!g->method || route_regex_match(g->method, rpc.method, &a->work));
}

static void find_path(struct asked *a)
{
	struct http_text path = a->q->path;
	const struct route_group *g = NULL;
	struct rpc rpc = {0};

	if (a->set->exact.count)
		g = group(a, &a->set->exact, table_hash(path.at, path.len), path);
	if (g && find_in(a, g))
		return;
	if (find_prefix(a, path))
		return;
	if (a->set->kind == ROUTE_GRPC)
		rpc = rpc_of(path);
	if (find_rpc_method(a, rpc))
		return;
	for (g = a->set->regex; g && better(a, g->first); g = g->next)
		if (regex_fits(a, g, path, rpc))
			(void)find_in(a, g);
	if (!a->best && a->set->any)
		(void)find_in(a, a->set->any);
}

struct route_found route_find(const struct route_table *t, const struct route_question *q)
{
	struct asked a = {.q = q, .set = set_of(t, q->client_namespace)};
	struct route_found found = {0};

	if (!a.set || (a.set->kind != ROUTE_HTTP && a.set->kind != ROUTE_GRPC))
		return found;
	find_path(&a);
	if (a.best) {
		const struct route_group *g = a.best->shape->group;

		found.rule = a.best->rule;
		found.prefix = g->class == CLASS_PREFIX ? g->text.len : 0;
	}
	found.steps = a.steps;
	arena_free(&a.scratch);
	route_regex_done(&a.work);
	return found;
}

/* ------------------------------------------------------------------ TLS, TCP */

static const struct route_rule *host_rule(const struct route_set *s, const char *name)
{
	for (struct table_link *l = table_first(&s->hosts, route_name_hash(name)); l; l = table_next_same(l)) {
		const struct route_host *h = container_of(l, struct route_host, link);

		if (!strcmp(h->name, name))
			return h->rule;
	}
	return NULL;
}

const struct route_rule *route_find_tls(const struct route_table *t, const char *sni, const char *client_namespace)
{
	const struct route_set *s = set_of(t, client_namespace);
	const struct route_rule *r;
	char name[256];
	size_t len = strlen(sni);

	if (!s || s->kind != ROUTE_TLS)
		return NULL;
	if (!len || len >= sizeof(name))
		return s->rest;
	for (size_t i = 0; i <= len; i++)
		name[i] = sni[i] >= 'A' && sni[i] <= 'Z' ? (char)(sni[i] + 32) : sni[i];
	r = host_rule(s, name);
	/* "*." stands for one label or more: the longest name behind it wins. */
	for (char *dot = strchr(name, '.'); dot && dot > name && !r; dot = strchr(dot + 1, '.')) {
		char kept = dot[-1];

		dot[-1] = '*';
		r = host_rule(s, dot - 1);
		dot[-1] = kept;
	}
	return r ? r : s->rest;
}

const struct route_rule *route_find_tcp(const struct route_table *t, const char *client_namespace)
{
	const struct route_set *s = set_of(t, client_namespace);

	return s && s->kind == ROUTE_TCP ? s->rest : NULL;
}
