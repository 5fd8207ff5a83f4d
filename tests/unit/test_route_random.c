/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random routes and requests against an oracle that looks at every match and takes the first by the rules of
 * precedence; and what a question costs among 10 000 routes.
 */
#include <regex.h>
#include <time.h>

#include "routed.h"

#define ROUNDS 150
#define ASKED 60

static uint64_t seed;

static unsigned below(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed >> 11) % n);
}

static const char *one_of(const char *const *list, unsigned count)
{
	return list[below(count)];
}
#define ONE_OF(...) one_of((const char *const[]){__VA_ARGS__}, array_size(((const char *const[]){__VA_ARGS__})))

/* ------------------------------------------------------------------ random texts */

static void random_path(struct text *t, bool request)
{
	unsigned parts = below(4);

	for (unsigned i = 0; i < parts; i++)
		text_add(t, "/%s", ONE_OF("a", "b", "ab", "a.b"));
	if (!parts || below(6) == 0)
		text_add(t, "/");
	if (request && below(30) == 0)
		text_add(t, "/");
}

static void random_values(struct text *t, const char *key, const char *const *names, unsigned count)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++) {
		bool regex = below(4) == 0;

		if (below(4))
			continue;
		text_add(t, "%s{name: %s, type: %s, value: %s}", n++ ? ", " : key, names[i],
			 regex ? "RegularExpression" : "Exact", regex ? ONE_OF("x+", "\"x|z\"", "\".*\"") :
			ONE_OF("xx", "zz", "x"));
	}
	text_add(t, "%s", n ? "], " : "");
}

static const char *const header_names[] = {"h1", "h2", "h3"}, *const query_names[] = {"q1", "q2"};

static void random_http_match(struct text *t)
{
	text_add(t, "    - {");
	if (below(5) == 0) {
		text_add(t, "path: {type: RegularExpression, value: \"%s\"}, ",
			 ONE_OF("/a.*", "/(a|b)", "/.*", "/ab?/.*", "/a/b+"));
	} else if (below(6)) {
		text_add(t, "path: {type: %s, value: ", ONE_OF("Exact", "PathPrefix", "PathPrefix"));
		random_path(t, false);
		text_add(t, "}, ");
	}
	if (below(4) == 0)
		text_add(t, "method: %s, ", ONE_OF("GET", "POST"));
	random_values(t, "headers: [", header_names, array_size(header_names));
	random_values(t, "queryParams: [", query_names, array_size(query_names));
	text_add(t, "}\n");
}

static void random_grpc_match(struct text *t)
{
	unsigned what = below(8);

	text_add(t, "    - {");
	if (what < 3)
		text_add(t, "method: {%s%s%s%s%s}, ", what != 1 ? "service: " : "", what != 1 ? ONE_OF("a", "b",
		"a.b") : "",
			 what ? "" : ", ", what != 2 ? "method: " : "", what != 2 ? ONE_OF("a", "b", "ab") : "");
	else if (what == 3)
		text_add(t, "method: {type: RegularExpression, service: \"%s\", method: \"%s\"}, ",
			 ONE_OF("a.*", "b", ".*"), ONE_OF("a.*", "b"));
	random_values(t, "headers: [", header_names, array_size(header_names));
	text_add(t, "}\n");
}

static void random_routes(struct text *t, bool grpc)
{
	unsigned routes = 1 + below(6);

	for (unsigned i = 0; i < routes; i++) {
		text_add(t,
			 "---\napiVersion: gateway.networking.k8s.io/v1\nkind: %s\nmetadata: {name: r%u, namespace: "
			"%s, "
			 "creationTimestamp: \"2026-01-0%uT00:00:00Z\"}\nspec:\n  parentRefs: [{group: \"\", kind: "
			 "Service, name: web, namespace: shop}]\n  rules:\n",
			 grpc ? "GRPCRoute" : "HTTPRoute", i, below(4) ? "shop" : ONE_OF("lab", "far"), 1 + below(3));
		for (unsigned r = 1 + below(3); r; r--) {
			unsigned matches = below(4);

			text_add(t, "  - backendRefs: [{name: s, namespace: shop, port: 1}]\n%s",
				 matches ? "    matches:\n" : "");
			for (; matches; matches--)
				grpc ? random_grpc_match(t) : random_http_match(t);
		}
	}
}

static void random_request(struct text *t)
{
	unsigned queries = 0;

	text_add(t, "%s ", ONE_OF("GET", "POST", "PUT"));
	random_path(t, true);
	for (unsigned i = 0; i < array_size(query_names); i++)
		if (below(2))
			text_add(t, "%c%s=%s", queries++ ? '&' : '?', query_names[i], ONE_OF("x", "xx", "zz", "z"));
	for (unsigned i = 0; i < array_size(header_names); i++)
		for (unsigned n = below(5) ? below(2) : 2; n; n--)
			text_add(t, " %s:%s", below(2) ? header_names[i] : ONE_OF("H1", "H2", "H3"), ONE_OF("x", "xx",
			"zz"));
	text_add(t, " @%s", ONE_OF("shop", "shop", "lab", "far", "else"));
}

/* ------------------------------------------------------------------ the oracle */

static bool posix(const char *pattern, const char *value)
{
	char *whole = mem_format("^(%s)$", pattern);
	regex_t re;
	bool ret;

	assert_int_equal(regcomp(&re, whole, REG_EXTENDED | REG_NOSUB), 0);
	ret = !regexec(&re, value, 0, NULL, 0);
	regfree(&re);
	free(whole);
	return ret;
}

static bool value_fits(const struct object_route_value *v, const char *value)
{
	return value && (v->regex ? posix(v->value, value) : !strcmp(v->value, value));
}

struct plain { /* a request, read naively */
	const char *method, *path;
	char *query[2], *header[3];
};

static bool path_fits(const struct object_route_match *m, const char *path)
{
	size_t len;

	if (m->type == ROUTE_REGEX)
		return posix(m->path, path);
	if (m->type == ROUTE_EXACT)
		return !strcmp(m->path, path);
	len = strlen(m->path);
	len -= m->path[len - 1] == '/';
	return !strncmp(m->path, path, len) && (!path[len] || path[len] == '/');
}

static bool grpc_fits(const struct object_route_match *m, const char *path)
{
	const char *slash = strchr(path + 1, '/');
	char service[64] = "", method[64] = "";

	if (slash) {
		snprintf(service, sizeof(service), "%.*s", (int)(slash - path - 1), path + 1);
		text_copy(method, sizeof(method), slash + 1);
	}
	if (m->type == ROUTE_REGEX)
		return (!m->service || posix(m->service, service)) && (!m->grpc_method || posix(m->grpc_method,
		method));
	if (m->service && m->grpc_method)
		return slash && !strcmp(m->service, service) && !strcmp(m->grpc_method, method);
	if (m->service) {
		size_t len = strlen(m->service);

		return !strncmp(path + 1, m->service, len) && (!path[1 + len] || path[1 + len] == '/');
	}
	return !m->grpc_method || (slash && !strcmp(m->grpc_method, method));
}

static bool fits(const struct object_route_match *m, const struct plain *p)
{
	if (m->path ? !path_fits(m, p->path) : !grpc_fits(m, p->path))
		return false;
	if (m->method && strcmp(m->method, p->method))
		return false;
	for (unsigned i = 0; i < m->headers; i++)
		if (!value_fits(&m->header[i], p->header[m->header[i].name[1] - '1']))
			return false;
	for (unsigned i = 0; i < m->queries; i++)
		if (!value_fits(&m->query[i], p->query[m->query[i].name[1] - '1']))
			return false;
	return true;
}

/* The larger, the earlier. */
static uint64_t specific(const struct object_route_match *m)
{
	uint64_t class = 0, length = 0;

	if (m->path) {
		size_t len = strlen(m->path);

		length = m->type == ROUTE_PREFIX && m->path[len - 1] == '/' ? len - 1 : len;
		class = m->type == ROUTE_EXACT ? 4 : m->type == ROUTE_REGEX ? 1 : length ? 3 : 0;
	} else if (m->service || m->grpc_method) {
		length = (m->service ? strlen(m->service) : 0) + (m->grpc_method ? strlen(m->grpc_method) : 0);
		class = m->type == ROUTE_REGEX ? 1 : !m->service ? 2 : m->grpc_method ? 4 : 3;
	}
	if (class == 4 || class == 2)
		length = 0;
	return class << 40 | length << 20 | (m->method ? 1u : 0u) << 16 | m->headers << 8 | m->queries;
}

struct candidate {
	const struct object *o;
	unsigned rule;
	uint64_t specific;
};

static bool earlier(const struct candidate *a, const struct candidate *b)
{
	if (!b->o)
		return true;
	if (a->specific != b->specific)
		return a->specific > b->specific;
	if (a->o->created != b->o->created)
		return a->o->created < b->o->created;
	if (a->o != b->o)
		return strcmp(a->o->name, b->o->name) < 0;
	return a->rule < b->rule;
}

static struct candidate oracle(const struct routed *r, const struct plain *p, const char *client)
{
	struct candidate best = {0};
	const char *space = "shop";

	for (unsigned i = 0; i < r->routes; i++)
		if (!strcmp(r->route[i]->namespace, client))
			space = client;
	for (unsigned i = 0; i < r->routes; i++)
		for (unsigned n = 0; n < r->route[i]->route.rules && !strcmp(r->route[i]->namespace, space); n++)
			for (unsigned k = 0; k < r->route[i]->route.rule[n].matches; k++) {
				const struct object_route_match *m = &r->route[i]->route.rule[n].match[k];
				struct candidate c = {r->route[i], n, specific(m)};

				if (fits(m, p) && earlier(&c, &best))
					best = c;
			}
	return best;
}

static void read_plain(struct plain *p, struct routed_request *a, char *line)
{
	char *query = NULL, *save = NULL;

	*p = (struct plain){.method = a->head.method_text.at, .path = line};
	snprintf(line, 4096, "%.*s", (int)a->q.path.len, a->q.path.at);
	if (a->q.query.len)
		query = mem_format("%.*s", (int)a->q.query.len, a->q.query.at);
	for (char *w = query ? strtok_r(query, "&", &save) : NULL; w; w = strtok_r(NULL, "&", &save))
		p->query[w[1] - '1'] = mem_format("%s", w + 3);
	free(query);
	for (unsigned i = 0; i < a->head.fields; i++) {
		char **h = &p->header[a->field[i].name.at[1] - '1'], *was = *h;

		*h = was ? mem_format("%s,%s", was, a->field[i].value.at) : mem_string(a->field[i].value.at);
		free(was);
	}
}

static void ask(struct routed *r, const char *yaml)
{
	struct routed_request *a = malloc(sizeof(*a));
	struct text line = {0};
	struct route_found f;
	struct candidate c;
	struct plain p;
	char path[4096];

	random_request(&line);
	routed_parse(a, line.data);
	read_plain(&p, a, path);
	c = oracle(r, &p, a->q.client_namespace);
	f = route_find(r->table, &a->q);
	if (!f.rule != !c.o)
		fail_msg("%s: oracle %s\n%s", line.data, c.o ? c.o->name : "none", yaml);
	if (f.rule) {
		char *want = mem_format("%s/%s", c.o->namespace, c.o->name);

		/* Rules of a route stand in its order: which one is seen by its place. */
		if (strcmp(f.rule->route, want) || strcmp(f.rule->name, c.o->route.rule[c.rule].name))
			fail_msg("%s: %s %s, oracle %s %s\n%s", line.data, f.rule->route, f.rule->name, want,
				 c.o->route.rule[c.rule].name, yaml);
		free(want);
	}
	for (unsigned i = 0; i < 3; i++)
		free(p.header[i]);
	for (unsigned i = 0; i < 2; i++)
		free(p.query[i]);
	text_free(&line);
	free(a);
}

/* Rules get their numbers as names, which the API would ask to be written. */
static void name_rules(struct routed *r)
{
	for (unsigned i = 0; i < r->d.objects; i++)
		for (unsigned n = 0; n < r->d.object[i]->route.rules; n++)
			r->d.object[i]->route.rule[n].name = &"0\0001\0002\0003"[2 * n];
	routed_compile(r, "shop", "web", 80, "http");
}

static void precedence(void **state)
{
	seed = (uint64_t)time(NULL) * 2654435761u | 1;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct text yaml = {0};
		struct routed r;

		random_routes(&yaml, i % 3 == 2);
		routed_begin(&r, yaml.data);
		name_rules(&r);
		for (unsigned n = 0; n < ASKED && r.table; n++)
			ask(&r, yaml.data);
		routed_end(&r);
		text_free(&yaml);
	}
}

/* The order in which routes are given makes no difference. */
static void deterministic(void **state)
{
	seed = 42;
	for (unsigned i = 0; i < 20; i++) {
		struct text yaml = {0}, line = {0};
		struct route_found before;
		struct routed r;

		random_routes(&yaml, false);
		random_request(&line);
		routed_begin(&r, yaml.data);
		before = routed_find(&r, line.data);
		if (before.rule) {
			struct text was = {0}, is = {0};

			text_add(&was, "%s", before.rule->route);
			for (unsigned n = 0; n < r.d.objects / 2; n++) {
				struct object *o = r.d.object[n];

				r.d.object[n] = r.d.object[r.d.objects - 1 - n];
				r.d.object[r.d.objects - 1 - n] = o;
			}
			routed_compile(&r, "shop", "web", 80, "http");
			before = routed_find(&r, line.data);
			text_add(&is, "%s", before.rule->route);
			assert_string_equal(was.data, is.data);
			text_free(&was);
			text_free(&is);
		}
		routed_end(&r);
		text_free(&yaml);
		text_free(&line);
	}
}

/* ------------------------------------------------------------------ 10 000 routes */

enum kind { EXACT, PREFIX, HEADER, QUERY, METHODS, SERVICE, RPC, HEADER_REGEX, CONSUMERS, KINDS };

static struct object *made(enum kind kind, unsigned number)
{
	enum object_kind what = kind == SERVICE || kind == RPC ? KIND_GRPC_ROUTE : KIND_HTTP_ROUTE;
	struct object *o = object_new(what);
	struct arena *a = &o->arena;
	struct object_route_rule *r = arena_alloc(a, sizeof(*r));
	struct object_route_match *m = arena_alloc(a, sizeof(*m));
	struct object_route_value *v = arena_alloc(a, 2 * sizeof(*v));
	char text[64];

	o->namespace = "shop";
	snprintf(text, sizeof(text), "r%u", number);
	o->name = arena_string(a, text, strlen(text));
	if (kind == CONSUMERS)
		o->namespace = o->name;
	o->route.rule = r;
	o->route.rules = r->matches = 1;
	r->match = m;
	r->name = "";
	m->type = kind == EXACT ? ROUTE_EXACT : ROUTE_PREFIX;
	m->path = what == KIND_HTTP_ROUTE ? "/" : NULL;
	snprintf(text, sizeof(text), kind == SERVICE || kind == RPC ? "s%u" : "/api/v1/things/%u", number);
	if (kind == EXACT || kind == PREFIX || kind == METHODS)
		m->path = arena_string(a, text, strlen(text));
	if (kind == SERVICE)
		m->service = arena_string(a, text, strlen(text));
	if (kind == SERVICE || kind == RPC)
		m->type = ROUTE_EXACT;
	if (kind == RPC)
		m->grpc_method = arena_string(a, text, strlen(text));
	if (kind == METHODS)
		m->method = "GET";
	if (kind == HEADER || kind == QUERY || kind == HEADER_REGEX) {
		v[0] = (struct object_route_value){.name = "user", .value = o->name};
		v[1] = (struct object_route_value){.name = "zone", .value = "[a-z]+", .regex = true};
		*(kind == QUERY ? &m->query : &m->header) = v;
		*(kind == QUERY ? &m->queries : &m->headers) = kind == HEADER_REGEX ? 2 : 1;
	}
	return o;
}

static unsigned cost(enum kind kind, unsigned count)
{
	static const char *const asks[KINDS] = {
		[EXACT] = "GET /api/v1/things/7",   [PREFIX] = "GET /api/v1/things/7/parts/9",
		[HEADER] = "GET /x user:r7 zone:a", [QUERY] = "GET /x?zone=a&user=r7",
		[METHODS] = "GET /api/v1/things/7", [SERVICE] = "POST /s7/Get",
		[RPC] = "POST /any.Service/s7",	    [HEADER_REGEX] = "GET /x user:r7 zone:a",
		[CONSUMERS] = "GET /x @r7"};
	struct route_target parent = {.namespace = "shop", .service = "web", .port = 80};
	struct route_world world = {routed_service, routed_granted, NULL};
	const struct object **route = mem_alloc(count * sizeof(*route));
	struct route_status *status = mem_alloc(count * sizeof(*status));
	struct routed r = {0};
	struct route_found f;

	for (unsigned i = 0; i < count; i++)
		route[i] = made(kind, i);
	r.table = route_compile(route, count, &parent, &world, status);
	f = routed_find(&r, asks[kind]);
	assert_non_null(f.rule);
	assert_true(text_ends(f.rule->route, "/r7"));
	route_table_drop(r.table);
	for (unsigned i = 0; i < count; i++)
		object_free((struct object *)route[i]);
	free(route);
	free(status);
	return f.steps;
}

static void growth(void **state)
{
	for (enum kind k = 0; k < KINDS; k++) {
		unsigned few = cost(k, 10), many = cost(k, 10000);

		if (many > 2 * few)
			fail_msg("kind %u: %u steps among 10 routes, %u among 10 000", k, few, many);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(precedence),
		cmocka_unit_test(deterministic),
		cmocka_unit_test(growth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
