/* SPDX-License-Identifier: Apache-2.0 */
/* route_names.c: which Services a route names, as parent and as backend, and who granted that. */
#include <string.h>

#include "route.h"

bool route_kind_of(enum object_kind kind, enum route_kind *ret)
{
	static const enum route_kind kinds[KIND_COUNT] = {
		[KIND_HTTP_ROUTE] = ROUTE_HTTP,
		[KIND_GRPC_ROUTE] = ROUTE_GRPC,
		[KIND_TLS_ROUTE] = ROUTE_TLS,
		[KIND_TCP_ROUTE] = ROUTE_TCP,
	};

	if (kind != KIND_HTTP_ROUTE && kind != KIND_GRPC_ROUTE && kind != KIND_TLS_ROUTE && kind != KIND_TCP_ROUTE)
		return false;
	*ret = kinds[kind];
	return true;
}

bool route_parent_is(const struct object_route_parent *p, const char *namespace, const char *service, uint16_t port,
		     const char *port_name)
{
	return !p->kind && (!p->port || p->port == port) && (!p->section || !strcmp(p->section, port_name)) &&
	       !strcmp(p->name, service) && !strcmp(p->namespace, namespace);
}

bool route_has_parent(const struct object *route, const char *namespace, const char *service, uint16_t port,
		      const char *port_name)
{
	for (unsigned i = 0; i < route->route.parents; i++)
		if (route_parent_is(&route->route.parent[i], namespace, service, port, port_name))
			return true;
	return false;
}

static void each_mirror(const struct route_filter *f, unsigned count,
			void (*each)(void *ctx, const struct route_target *t), void *ctx)
{
	for (unsigned i = 0; i < count; i++)
		if (f[i].kind == FILTER_MIRROR && !f[i].mirror.kind)
			each(ctx, &f[i].mirror.target);
}

static void each_backend(const struct object_route_rule *r, void (*each)(void *ctx, const struct route_target *t),
			 void *ctx)
{
	for (unsigned i = 0; i < r->backends; i++) {
		const struct object_route_backend *b = &r->backend[i];
		struct route_target t = {.namespace = b->namespace, .service = b->name, .port = b->port};

		each_mirror(b->filter, b->filters, each, ctx);
		if (b->kind)
			continue;
		t.hash = route_target_hash(t.namespace, t.service, t.port);
		each(ctx, &t);
	}
}

void route_each_target(const struct object *route, void (*each)(void *ctx, const struct route_target *t), void *ctx)
{
	for (unsigned i = 0; i < route->route.rules; i++) {
		each_mirror(route->route.rule[i].filter, route->route.rule[i].filters, each, ctx);
		each_backend(&route->route.rule[i], each, ctx);
	}
}

bool route_grant_allows(const struct object *grant, enum object_kind kind, const char *from, const char *service)
{
	const struct object_grant *g = &grant->grant;
	bool known = false;

	for (unsigned i = 0; i < g->froms && !known; i++)
		known = g->from[i].kind == kind && !strcmp(g->from[i].namespace, from);
	for (unsigned i = 0; i < g->tos && known; i++)
		if (!*g->to[i] || !strcmp(g->to[i], service))
			return true;
	return false;
}
