/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML of routes, a line "===", a request in lines: decoded, compiled for every port that a route names, asked. Beside
 * crashes: what is found is a rule of the routes that were given, a prefix is one of the path, the order of the routes
 * makes no difference, and a status has its reasons.
 */
#include <stdlib.h>
#include <string.h>

#include "documents.h"
#include "route.h"

#define MOST 64 /* objects */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct k8s_sink sink;
	const struct object *object[MOST];
	unsigned objects;
};

static void on_emit(struct k8s_sink *sink, struct object *o)
{
	struct seen *s = container_of(sink, struct seen, sink);
	enum route_kind kind;

	if (s->objects < MOST && route_kind_of(o->kind, &kind))
		s->object[s->objects++] = o;
	else
		object_free(o);
}

static bool service(void *ctx, const char *namespace, const char *name, uint16_t port)
{
	return port % 7;
}

static bool granted(void *ctx, enum object_kind kind, const char *from, const char *to, const char *name)
{
	return strlen(name) % 2;
}

/* ------------------------------------------------------------------ the request */

struct request {
	struct http_field field[32];
	struct http_head head;
	struct route_question q;
	char *path, host[256];
};

static struct http_text word(struct http_text *rest, char end)
{
	struct http_text w = *rest;
	const char *at = rest->len ? memchr(rest->at, end, rest->len) : NULL;

	w.len = at ? (size_t)(at - rest->at) : rest->len;
	rest->at += w.len + (at != NULL);
	rest->len -= w.len + (at != NULL);
	return w;
}

static bool clean(struct http_text t)
{
	return !t.len || (!memchr(t.at, 0, t.len) && !memchr(t.at, '\r', t.len));
}

static bool read_request(struct request *r, struct http_text text, char client[64])
{
	struct http_text line = word(&text, '\n'), path;
	const char *why;
	uint16_t port;

	*r = (struct request){.path = malloc(text.len + line.len + 1)};
	r->head = (struct http_head){.field = r->field, .room = array_size(r->field)};
	r->head.method_text = word(&line, ' ');
	path = word(&line, ' ');
	if (!http_path_normalise(path, line.len, r->path, &r->q.path, &r->q.query, &why))
		return false;
	snprintf(client, 64, "%.*s", (int)(line.len < 63 ? line.len : 63), line.at);
	while (text.len) {
		struct http_text value = word(&text, '\n'), name = word(&value, ':');

		if (!clean(name) || !clean(value))
			continue;
		if (http_text_equal_nocase(name, HTTP_TEXT("host"))) {
			if (!http_host(value, r->host, &r->q.host, &port))
				r->q.host = HTTP_TEXT("");
		} else if (!http_field_add(&r->head, name, value)) {
			break;
		}
	}
	r->q.head = &r->head;
	r->q.client_namespace = client;
	return true;
}

/* ------------------------------------------------------------------ the table */

static void check_rule(const struct seen *s, const struct route_rule *r)
{
	const struct route_backend *b;
	uint64_t sum = 0;
	bool known = false;

	if (!r)
		return;
	for (unsigned i = 0; i < s->objects && !known; i++) {
		size_t len = strlen(s->object[i]->namespace);

		known = !strncmp(r->route, s->object[i]->namespace, len) && r->route[len] == '/' &&
			!strcmp(r->route + len + 1, s->object[i]->name);
	}
	require(known);
	for (unsigned i = 0; i < r->backends; i++)
		sum += r->backend[i].weight;
	require(sum == r->weights);
	b = route_backend(r, UINT64_MAX);
	require(!b == !sum && (!b || b->weight));
	b = route_backend(r, 0);
	require(!b == !sum && (!b || b->weight));
}

static const struct route_rule *ask(const struct seen *s, const struct route_table *t, const struct request *r)
{
	struct route_found f = route_find(t, &r->q);

	require(f.rule || !f.prefix);
	require(f.prefix <= r->q.path.len);
	require(!f.prefix || f.prefix == r->q.path.len || r->q.path.at[f.prefix] == '/');
	check_rule(s, f.rule);
	check_rule(s, route_find_tls(t, r->host, r->q.client_namespace));
	check_rule(s, route_find_tcp(t, r->q.client_namespace));
	return f.rule;
}

static void compile(const struct seen *s, const struct route_target *parent, const struct request *r)
{
	const struct route_world world = {service, granted, NULL};
	const struct object *there[MOST], *back[MOST];
	struct route_status status[MOST];
	struct route_table *t, *u;
	const struct route_rule *a, *b;
	unsigned n = 0;

	for (unsigned i = 0; i < s->objects; i++)
		if (route_has_parent(s->object[i], parent->namespace, parent->service, parent->port, "http"))
			there[n++] = s->object[i];
	for (unsigned i = 0; i < n; i++)
		back[i] = there[n - 1 - i];
	t = route_compile(there, n, parent, &world, status);
	u = route_compile(back, n, parent, &world, status);
	require(!t == !n && !u == !n);
	for (unsigned i = 0; i < n; i++)
		require(*status[i].accepted_reason && *status[i].resolved_reason);
	if (!t)
		return;
	a = ask(s, t, r);
	b = ask(s, u, r);
	require(!a == !b && (!a || !strcmp(a->route, b->route)));
	route_table_drop(route_table_hold(t));
	route_table_drop(t);
	route_table_drop(u);
}

static void count(void *ctx, const struct route_target *t)
{
	require(t->namespace && t->service && t->hash);
	++*(unsigned *)ctx;
}

static void each_parent(const struct seen *s, const struct request *r)
{
	struct route_status status;
	unsigned done = 0, targets = 0;

	for (unsigned i = 0; i < s->objects; i++) {
		const struct object_route *o = &s->object[i]->route;

		route_each_target(s->object[i], count, &targets);
		for (unsigned p = 0; p < o->parents && done < 8; p++) {
			struct route_target t = {.namespace = o->parent[p].namespace,
						 .service = o->parent[p].name,
						 .port = o->parent[p].port ? o->parent[p].port : 80};

			route_no_parent(s->object[i], p, &status);
			require(!status.accepted && *status.message);
			if (!o->parent[p].kind) {
				compile(s, &t, r);
				done++;
			}
		}
	}
}

static bool same_name(const struct object *a, const struct object *b)
{
	return a->kind == b->kind && !strcmp(a->name, b->name) && !strcmp(a->namespace, b->namespace);
}

/* Two objects of one kind with one name cannot be: the store has the first. */
static void drop_doubles(struct seen *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->objects; i++) {
		unsigned k = 0;

		while (k < n && !same_name(s->object[k], s->object[i]))
			k++;
		if (k < n)
			object_free((struct object *)s->object[i]);
		else
			s->object[n++] = s->object[i];
	}
	s->objects = n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen s = {.sink = {on_emit, on_reject, on_report}};
	const char *all = (const char *)data, *cut = size ? memmem(all, size, "\n===\n", 5) : NULL;
	size_t left = cut ? (size_t)(cut - all) + 1 : 0;
	struct request r;
	char client[64];

	if (!cut)
		return 0;
	if (!read_request(&r, (struct http_text){cut + 5, size - left - 4}, client)) {
		free(r.path);
		return 0;
	}
	documents_decode(all, left, &s.sink);
	drop_doubles(&s);
	each_parent(&s, &r);
	for (unsigned i = 0; i < s.objects; i++)
		object_free((struct object *)s.object[i]);
	free(r.path);
	return 0;
}
