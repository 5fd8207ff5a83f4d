/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route_index.c: sorts matches by precedence and puts them where a question finds them (route_parts.h).
 *
 * Whatever is built is built in the order of rank: lists are sorted by being appended to.
 */
#include <stdlib.h>
#include <string.h>

#include "route_parts.h"

struct regex { /* one for each pattern: 10 000 routes often share a few */
	struct table_link link;
	const char *pattern;
	struct route_regex *regex;
};

/* ------------------------------------------------------------------ what a match says */

static const struct route_regex *regex_of(struct route_table *rt, const char *pattern)
{
	uint64_t hash = route_name_hash(pattern);
	char why[ROUTE_REGEX_WHY];
	struct regex *r;

	for (struct table_link *l = table_first(&rt->regexes, hash); l; l = table_next_same(l)) {
		r = container_of(l, struct regex, link);
		if (!strcmp(r->pattern, pattern))
			return r->regex;
	}
	r = arena_alloc(&rt->arena, sizeof(*r));
	r->pattern = route_keep(&rt->arena, route_text(pattern)).at;
	r->regex = route_regex_new(pattern, why);
	if (!r->regex)
		abort(); /* it was one when the route was read */
	table_add(&rt->regexes, &r->link, hash);
	return r->regex;
}

static size_t path_length(const char *path) /* of a prefix: without a final "/" */
{
	size_t len = strlen(path);

	return len && path[len - 1] == '/' ? len - 1 : len;
}

static enum route_class classify(const struct object_route_match *m)
{
	if (m->path)
		return m->type == ROUTE_EXACT			     ? CLASS_EXACT
		       : m->type == ROUTE_REGEX			     ? CLASS_REGEX
		       : path_length(m->path) ? CLASS_PREFIX
					      : CLASS_ANY;
	if (!m->service && !m->grpc_method)
		return CLASS_ANY;
	if (m->type == ROUTE_REGEX)
		return CLASS_REGEX;
	return !m->service ? CLASS_METHOD : m->grpc_method ? CLASS_EXACT : CLASS_PREFIX;
}

static unsigned length(const struct route_draft *d)
{
	const struct object_route_match *m = d->match;

	if (m->path)
		return (unsigned)(d->class == CLASS_PREFIX ? path_length(m->path) : strlen(m->path));
	return (unsigned)((m->service ? strlen(m->service) : 0) + (m->grpc_method ? strlen(m->grpc_method) : 0));
}

static int compare(unsigned a, unsigned b, bool more_is_first)
{
	return a == b ? 0 : (a > b) == more_is_first ? -1 : 1;
}

/* The precedence of the Gateway API; docs/routes.md. Matches of one rule stand in one list: their places decide. */
static int by_precedence(const void *pa, const void *pb)
{
	const struct route_draft *a = pa, *b = pb;
	int c = compare(a->class, b->class, false);

	c = c ? c : compare(a->length, b->length, true);
	c = c ? c : compare(a->match->method != NULL, b->match->method != NULL, true);
	c = c ? c : compare(a->match->headers, b->match->headers, true);
	c = c ? c : compare(a->match->queries, b->match->queries, true);
	c = c ? c : compare(a->order, b->order, false);
	return c ? c : a->match < b->match ? -1 : a->match > b->match;
}

/* ------------------------------------------------------------------ groups, shapes, slots */

static struct route_group *add_group(struct route_table *rt, struct table *t, uint64_t hash, enum route_class class,
				     struct http_text text, uint32_t rank)
{
	struct route_group *g;

	for (struct table_link *l = t ? table_first(t, hash) : NULL; l; l = table_next_same(l)) {
		g = container_of(l, struct route_group, link);
		if (http_text_equal(g->text, text))
			return g;
	}
	g = arena_alloc(&rt->arena, sizeof(*g));
	g->class = class;
	g->text = route_keep(&rt->arena, text);
	g->first = rank;
	if (t)
		table_add(t, &g->link, hash);
	return g;
}

static struct route_group *add_regex(struct route_table *rt, struct route_set *s, const struct object_route_match *m,
				     uint32_t rank)
{
	struct text key = {0};
	struct route_group *g, *last = s->last_regex;

	if (m->path)
		text_add(&key, "%s", m->path);
	else
		text_add(&key, "%s\n%s", m->service ? m->service : "", m->grpc_method ? m->grpc_method : "");
	g = add_group(rt, &s->patterns, table_hash(key.data, key.len), CLASS_REGEX,
		      (struct http_text){key.data, key.len}, rank);
	text_free(&key);
	if (g->first != rank)
		return g;
	g->path = m->path ? regex_of(rt, m->path) : NULL;
	g->service = m->service ? regex_of(rt, m->service) : NULL;
	g->method = m->grpc_method ? regex_of(rt, m->grpc_method) : NULL;
	if (last)
		last->next = g;
	else
		s->regex = g;
	s->last_regex = g;
	return g;
}

static struct route_group *add_prefix(struct route_table *rt, struct route_set *s, struct http_text path, uint32_t rank)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < path.len; i++)
		hash = route_prefix_step(hash, s->base, path.at[i]);
	s->lengths[path.len / 64] |= 1ull << path.len % 64;
	if (path.len > s->longest)
		s->longest = path.len;
	return add_group(rt, &s->prefix, hash, CLASS_PREFIX, path, rank);
}

static struct route_group *group_of(struct route_table *rt, struct route_set *s, const struct route_draft *d,
				    uint32_t rank)
{
	const struct object_route_match *m = d->match;
	struct route_group *g;
	struct text t = {0};

	if (d->class == CLASS_REGEX)
		return add_regex(rt, s, m, rank);
	if (d->class == CLASS_ANY) {
		if (!s->any)
			s->any = add_group(rt, NULL, 0, CLASS_ANY, HTTP_TEXT(""), rank);
		return s->any;
	}
	if (d->class == CLASS_METHOD)
		return add_group(rt, &s->method, route_name_hash(m->grpc_method), CLASS_METHOD,
				 (struct http_text){m->grpc_method, strlen(m->grpc_method)}, rank);
	if (m->path)
		text_add_bytes(&t, m->path, d->length);
	else
		text_add(&t, "/%s%s%s", m->service, m->grpc_method ? "/" : "", m->grpc_method ? m->grpc_method : "");
	if (d->class == CLASS_PREFIX)
		g = add_prefix(rt, s, (struct http_text){t.data, t.len}, rank);
	else
		g = add_group(rt, &s->exact, table_hash(t.data, t.len), CLASS_EXACT, (struct http_text){t.data, t.len},
			      rank);
	text_free(&t);
	return g;
}

static int by_name(const void *pa, const void *pb)
{
	const struct object_route_value *a = pa, *b = pb;

	return strcmp(a->name, b->name);
}

/* The exact values of a match, sorted by name, into the entry; its regular expressions beside them. */
static unsigned add_values(struct route_table *rt, const struct object_route_value *from, unsigned count, bool headers,
			   struct http_text *name, struct http_text *value, struct route_check *check)
{
	struct object_route_value v[16];
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++) {
		if (!from[i].regex)
			v[n++] = from[i];
		else
			*check++ = (struct route_check){route_keep(&rt->arena, route_text(from[i].name)),
							regex_of(rt, from[i].value)};
	}
	qsort(v, n, sizeof(v[0]), by_name);
	for (unsigned i = 0; i < n; i++) {
		struct http_text host;
		char lower[256];
		uint16_t port;

		name[i] = route_keep(&rt->arena, route_text(v[i].name));
		value[i] = route_keep(&rt->arena, route_text(v[i].value));
		if (headers && !strcmp(v[i].name, "host") && http_host(value[i], lower, &host, &port))
			value[i] = route_keep(&rt->arena, host);
	}
	return n;
}

static bool same_names(const struct route_shape *a, const struct route_shape *b)
{
	if (a->group != b->group || a->method != b->method || a->headers != b->headers || a->queries != b->queries)
		return false;
	for (unsigned i = 0; i < a->headers + a->queries; i++)
		if (!http_text_equal(a->name[i], b->name[i]))
			return false;
	return true;
}

/* `wanted` is taken over, or not if there is such a one. */
static struct route_shape *add_shape(struct route_table *rt, struct route_set *set, struct route_group *g,
				     const struct route_shape *wanted, uint32_t rank)
{
	uint64_t hash = table_hash(&g, sizeof(g)) + wanted->method + 64 * wanted->headers;
	struct route_shape *s;

	for (unsigned i = 0; i < wanted->headers + wanted->queries; i++)
		hash = hash * 0x9e3779b97f4a7c15u + table_hash(wanted->name[i].at, wanted->name[i].len);
	for (struct table_link *l = table_first(&set->shapes, hash); l; l = table_next_same(l)) {
		s = container_of(l, struct route_shape, link);
		if (same_names(s, wanted))
			return s;
	}
	s = arena_alloc(&rt->arena, sizeof(*s));
	*s = *wanted;
	s->first = rank;
	s->salt = (set->shapes.count + 1) * 0x9e3779b97f4a7c15u;
	table_add(&set->shapes, &s->link, hash);
	if (g->last)
		g->last->next = s;
	else
		g->shape = s;
	g->last = s;
	return s;
}

static void add_slot(struct route_table *rt, struct route_set *set, struct route_entry *e)
{
	uint64_t hash = route_slot_hash(e->shape, e->value);
	struct table_link *l = table_first(&set->slots, hash);
	struct route_slot *s = l ? container_of(l, struct route_slot, link) : NULL;

	if (!s) {
		s = arena_alloc(&rt->arena, sizeof(*s));
		s->first = e;
		table_add(&set->slots, &s->link, hash);
	} else {
		s->last->next = e;
	}
	s->last = e;
}

static void add_entry(struct route_table *rt, struct route_set *set, const struct route_draft *d, uint32_t rank)
{
	const struct object_route_match *m = d->match;
	struct route_group *g = group_of(rt, set, d, rank);
	struct route_entry *e = arena_alloc(&rt->arena, sizeof(*e));
	struct route_shape wanted = {.group = g, .method = m->method != NULL};

	e->rank = rank;
	e->rule = d->rule;
	e->value = route_take(&rt->arena, wanted.method + m->headers + m->queries + 1, sizeof(*e->value));
	e->header = route_take(&rt->arena, m->headers, sizeof(*e->header));
	e->query = route_take(&rt->arena, m->queries, sizeof(*e->query));
	wanted.name = route_take(&rt->arena, m->headers + m->queries + 1, sizeof(*wanted.name));
	if (wanted.method)
		e->value[0] = route_keep(&rt->arena, route_text(m->method));
	wanted.headers = add_values(rt, m->header, m->headers, true, wanted.name, e->value + wanted.method, e->header);
	wanted.queries = add_values(rt, m->query, m->queries, false, wanted.name + wanted.headers,
				    e->value + wanted.method + wanted.headers, e->query);
	e->headers = m->headers - wanted.headers;
	e->queries = m->queries - wanted.queries;
	e->shape = add_shape(rt, set, g, &wanted, rank);
	add_slot(rt, set, e);
}

/* ------------------------------------------------------------------ all of a set */

void route_index(struct route_table *rt, struct route_set *s, struct route_draft *draft, unsigned drafts)
{
	s->base = table_hash(s->namespace, strlen(s->namespace)) % ((1ull << 61) - (1ull << 32)) + (1ull << 31);
	for (unsigned i = 0; i < drafts; i++) {
		draft[i].class = classify(draft[i].match);
		draft[i].length = length(&draft[i]);
	}
	qsort(draft, drafts, sizeof(*draft), by_precedence);
	for (unsigned i = 0; i < drafts; i++)
		add_entry(rt, s, &draft[i], i);
}

void route_index_done(struct route_set *s)
{
	table_free(&s->shapes);
	table_free(&s->patterns);
	s->shapes = s->patterns = (struct table){0};
}

void route_index_free(struct route_table *rt)
{
	struct table_link *next;

	for (struct table_link *l = table_walk(&rt->regexes, NULL); l; l = next) {
		next = table_walk(&rt->regexes, l);
		route_regex_free(container_of(l, struct regex, link)->regex);
	}
	table_free(&rt->regexes);
}
