/* SPDX-License-Identifier: Apache-2.0 */
/* route_rule.c: rules of an object as a table has them: copied, and each reference looked up. */
#include <stdlib.h>
#include <string.h>

#include "route_parts.h"

struct making { /* the rules of one object */
	struct arena *arena;
	const struct object *object;
	const struct route_target *parent;
	const struct route_world *world;
	struct route_status *status;
};

/* ------------------------------------------------------------------ what a route refers to */

static printf_like(4, 5) bool refuse(struct route_status *s, const char *reason, const char *field, const char *fmt,
				     ...)
{
	size_t len;
	va_list ap;

	if (!s->resolved)
		return false; /* the first one is told */
	s->resolved = false;
	text_copy(s->resolved_reason, sizeof(s->resolved_reason), reason);
	snprintf(s->message, sizeof(s->message), "%.60s: ", field);
	len = strlen(s->message);
	va_start(ap, fmt);
	vsnprintf(s->message + len, sizeof(s->message) - len, fmt, ap);
	va_end(ap);
	return false;
}

static bool is_parent(const struct making *m, const struct route_target *t)
{
	return !strcmp(t->service, m->parent->service) && !strcmp(t->namespace, m->parent->namespace);
}

/* May and can the route send there? To the Service that the client asked for anyhow it may. */
static bool resolve(const struct making *m, const char *field, const char *kind, const struct route_target *t)
{
	const struct route_world *w = m->world;
	struct route_status *s = m->status;

	if (kind)
		return refuse(s, "InvalidKind", field, "%.40s is no kind that weft sends to: use a Service", kind);
	if (strcmp(t->namespace, m->object->namespace) && !is_parent(m, t) &&
	    !w->granted(w->ctx, m->object->kind, m->object->namespace, t->namespace, t->service))
		return refuse(s, "RefNotPermitted", field, "Service %.63s/%.63s needs a ReferenceGrant there",
			      t->namespace, t->service);
	if (!w->service(w->ctx, t->namespace, t->service, t->port))
		return refuse(s, "BackendNotFound", field, "there is no Service %.63s/%.63s with port %u", t->namespace,
			      t->service, t->port);
	return true;
}

/* ------------------------------------------------------------------ rules */

static void copy_fields(struct arena *a, struct http_field **field, unsigned count)
{
	const struct http_field *from = *field;
	struct http_field *to = route_take(a, count, sizeof(*to));

	for (unsigned i = 0; i < count; i++)
		to[i] = (struct http_field){.name = route_keep(a, from[i].name),
					    .value = route_keep(a, from[i].value),
					    .id = http_name(from[i].name.at, from[i].name.len)};
	*field = to;
}

static void copy_texts(struct arena *a, struct http_text **text, unsigned count)
{
	const struct http_text *from = *text;
	struct http_text *to = route_take(a, count, sizeof(*to));

	for (unsigned i = 0; i < count; i++)
		to[i] = route_keep(a, from[i]);
	*text = to;
}

static struct route_target copy_target(struct arena *a, const char *namespace, const char *service, uint16_t port)
{
	return (struct route_target){.namespace = route_keep(a, route_text(namespace)).at,
				     .service = route_keep(a, route_text(service)).at,
				     .port = port,
				     .hash = route_target_hash(namespace, service, port)};
}

static void copy_filter(struct making *m, const char *field, struct route_filter *f)
{
	struct arena *a = m->arena;

	switch (f->kind) {
	case FILTER_REQUEST_HEADERS:
	case FILTER_RESPONSE_HEADERS:
		copy_fields(a, &f->headers.set, f->headers.sets);
		copy_fields(a, &f->headers.add, f->headers.adds);
		copy_texts(a, &f->headers.remove, f->headers.removes);
		break;
	case FILTER_REDIRECT:
	case FILTER_REWRITE:
		f->url.scheme = route_keep(a, f->url.scheme);
		f->url.host = route_keep(a, f->url.host);
		f->url.path = route_keep(a, f->url.path);
		break;
	case FILTER_MIRROR:
		f->mirror.refused = !resolve(m, field, f->mirror.kind, &f->mirror.target);
		f->mirror.target = copy_target(a, f->mirror.target.namespace, f->mirror.target.service,
					       f->mirror.target.port);
		f->mirror.kind = f->mirror.kind ? route_keep(a, route_text(f->mirror.kind)).at : NULL;
		break;
	case FILTER_CORS:
		copy_texts(a, &f->cors.origin, f->cors.origins);
		f->cors.methods = route_keep(a, f->cors.methods);
		f->cors.headers = route_keep(a, f->cors.headers);
		f->cors.expose = route_keep(a, f->cors.expose);
		break;
	}
}

static struct route_filter *copy_filters(struct making *m, const char *where, const struct route_filter *from,
					 unsigned count)
{
	struct arena *a = m->arena;
	struct route_filter *to = route_take(a, count, sizeof(*to));
	char field[96];

	for (unsigned i = 0; i < count; i++) {
		to[i] = from[i];
		snprintf(field, sizeof(field), "%s.filters[%u].requestMirror.backendRef", where, i);
		copy_filter(m, field, &to[i]);
	}
	return to;
}

static void copy_backends(struct making *m, const char *where, const struct object_route_rule *from,
			  struct route_rule *r)
{
	struct arena *a = m->arena;
	char field[96];

	r->backends = from->backends;
	r->backend = route_take(a, r->backends, sizeof(*r->backend));
	for (unsigned i = 0; i < r->backends; i++) {
		const struct object_route_backend *b = &from->backend[i];

		snprintf(field, sizeof(field), "%s.backendRefs[%u]", where, i);
		r->backend[i].target = copy_target(a, b->namespace, b->name, b->port);
		r->backend[i].weight = b->weight;
		r->backend[i].refused = !resolve(m, field, b->kind, &r->backend[i].target);
		r->backend[i].filter = copy_filters(m, field, b->filter, b->filters);
		r->backend[i].filters = b->filters;
		r->weights += b->weight;
	}
}

struct route_rule *route_rules(struct arena *a, const struct object *o, const struct route_target *parent,
			       const struct route_world *w, struct route_status *s)
{
	struct making m = {.arena = a, .object = o, .parent = parent, .world = w, .status = s};
	struct route_rule *rule = route_take(a, o->route.rules, sizeof(*rule));
	char *name = mem_format("%s/%s", o->namespace, o->name);
	const char *route = route_keep(a, route_text(name)).at;

	free(name);
	for (unsigned i = 0; i < o->route.rules; i++) {
		const struct object_route_rule *from = &o->route.rule[i];
		struct route_rule *r = &rule[i];
		char where[48];

		snprintf(where, sizeof(where), "spec.rules[%u]", i);
		(void)route_kind_of(o->kind, &r->kind);
		r->route = route;
		r->name = route_keep(a, route_text(from->name)).at;
		r->filter = copy_filters(&m, where, from->filter, from->filters);
		r->filters = from->filters;
		r->request_ns = from->request_ns;
		r->backend_ns = from->backend_ns;
		copy_backends(&m, where, from, r);
	}
	return rule;
}
