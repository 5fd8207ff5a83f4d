/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routed.h: routes from YAML attached to Service shop/web:80, requests in one line, answers in one line. All functions
 * are static.
 *
 *	routed_begin(&r, yaml); routed_is(&r, "GET /v2?a=b x-canary:true @lab", "web-v2:8080"); routed_end(&r);
 */
#ifndef WEFT_TEST_ROUTED_H
#define WEFT_TEST_ROUTED_H

#include "decoded.h"
#include "route.h"

struct routed {
	struct decoded d;
	const struct object **route;
	struct route_status *status;
	unsigned routes;
	struct route_table *table;
};

/* Every Service but those called "none" exists. */
DECODED_FN bool routed_service(void *ctx, const char *namespace, const char *service, uint16_t port)
{
	return strcmp(service, "none");
}

/* By the ReferenceGrants of the YAML. */
DECODED_FN bool routed_granted(void *ctx, enum object_kind kind, const char *from, const char *to, const char *service)
{
	struct routed *r = ctx;

	for (unsigned i = 0; i < r->d.objects; i++) {
		const struct object *o = r->d.object[i];

		if (o->kind == KIND_REFERENCE_GRANT && !strcmp(o->namespace, to) &&
		    route_grant_allows(o, kind, from, service))
			return true;
	}
	return false;
}

DECODED_FN void routed_compile(struct routed *r, const char *namespace, const char *service, uint16_t port,
			       const char *port_name)
{
	struct route_target parent = {.namespace = namespace, .service = service, .port = port};
	struct route_world world = {routed_service, routed_granted, r};
	enum route_kind kind;

	route_table_drop(r->table);
	free(r->route);
	free(r->status);
	r->route = mem_alloc((r->d.objects + 1) * sizeof(*r->route));
	r->status = mem_alloc((r->d.objects + 1) * sizeof(*r->status));
	r->routes = 0;
	for (unsigned i = 0; i < r->d.objects; i++)
		if (route_kind_of(r->d.object[i]->kind, &kind) &&
		    route_has_parent(r->d.object[i], namespace, service, port, port_name))
			r->route[r->routes++] = r->d.object[i];
	r->table = route_compile(r->route, r->routes, &parent, &world, r->status);
}

DECODED_FN void routed_begin(struct routed *r, const char *yaml)
{
	*r = (struct routed){0};
	decoded_begin(&r->d);
	decoded_add(&r->d, yaml);
	if (r->d.rejects)
		fail_msg("%s", r->d.problems.data);
	routed_compile(r, "shop", "web", 80, "http");
}

DECODED_FN void routed_end(struct routed *r)
{
	route_table_drop(r->table);
	free(r->route);
	free(r->status);
	decoded_end(&r->d);
}

struct routed_request { /* the memory behind a question */
	char line[70000], path[70000], host[256];
	struct http_field field[128];
	struct http_head head;
	char client[64];
	struct route_question q;
};

/* "METHOD PATH[?QUERY] [NAME:VALUE]... [@NAMESPACE]"; "_" in a value is a blank */
DECODED_FN void routed_parse(struct routed_request *a, const char *line)
{
	char *save = NULL, *word;
	const char *why;
	uint16_t port;

	assert_true(text_copy(a->line, sizeof(a->line), line));
	a->head = (struct http_head){.field = a->field, .room = array_size(a->field)};
	a->q = (struct route_question){.head = &a->head, .client_namespace = "shop"};
	a->head.method_text.at = strtok_r(a->line, " ", &save);
	a->head.method_text.len = strlen(a->head.method_text.at);
	word = strtok_r(NULL, " ", &save);
	a->head.path = (struct http_text){word, strlen(word)};
	if (!http_path_normalise(a->head.path, false, a->path, &a->q.path, &a->q.query, &why))
		fail_msg("%s: %s", line, why);
	while ((word = strtok_r(NULL, " ", &save))) {
		char *colon = strchr(word, ':');

		if (*word == '@') {
			a->q.client_namespace = word + 1;
			continue;
		}
		*colon++ = 0;
		for (char *c = colon; *c; c++)
			*c = *c == '_' ? ' ' : *c;
		if (!strcasecmp(word, "host"))
			assert_true(http_host((struct http_text){colon, strlen(colon)}, a->host, &a->q.host, &port));
		else
			assert_true(http_field_add(&a->head, (struct http_text){word, strlen(word)},
						   (struct http_text){colon, strlen(colon)}));
	}
}

/* "404"; "redirect"; "500"; backends as "[NAMESPACE/]SERVICE:PORT" with "*WEIGHT" if several, "!" for a refused one. */
DECODED_FN void routed_answer(const struct route_rule *rule, struct text *t)
{
	if (!rule) {
		text_add(t, "404");
		return;
	}
	if (*rule->name)
		text_add(t, "[%s] ", rule->name);
	if (!rule->backends) {
		bool redirect = false;

		for (unsigned i = 0; i < rule->filters; i++)
			redirect |= rule->filter[i].kind == FILTER_REDIRECT;
		text_add(t, "%s", redirect ? "redirect" : "500");
	}
	for (unsigned i = 0; i < rule->backends; i++) {
		const struct route_backend *b = &rule->backend[i];

		text_add(t, "%s%s%s%s%s:%u", i ? "+" : "", b->refused ? "!" : "",
			 strcmp(b->target.namespace, "shop") ? b->target.namespace : "",
			 strcmp(b->target.namespace, "shop") ? "/" : "", b->target.service, b->target.port);
		if (rule->backends > 1)
			text_add(t, "*%u", b->weight);
	}
}

DECODED_FN struct route_found routed_find(struct routed *r, const char *line)
{
	struct routed_request *a = malloc(sizeof(*a));
	struct route_found found;

	routed_parse(a, line);
	found = route_find(r->table, &a->q);
	free(a);
	return found;
}

DECODED_FN void routed_is(struct routed *r, const char *line, const char *want)
{
	struct text t = {0};

	routed_answer(routed_find(r, line).rule, &t);
	if (strcmp(t.data, want))
		fail_msg("%s: is %s, should be %s", line, t.data, want);
	text_free(&t);
}

#endif
