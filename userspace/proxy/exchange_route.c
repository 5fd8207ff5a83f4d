/* SPDX-License-Identifier: Apache-2.0 */
/* exchange_route.c: where a request goes: one form of host and path, a route, its filters, a backend by weight. */
#include <string.h>

#include "exchange.h"

#define FIELDS_MORE 8 /* that weft may put into a request */
#define MISDIRECTED "the connection is for another host name"

/* ------------------------------------------------------------------ which backend */

static uint64_t draw(void *ctx)
{
	return random_next(ctx);
}

/* What the log needs when the route may be gone. */
static void remember_rule(struct exchange *x, const struct route_rule *rule)
{
	x->route = arena_string(&x->arena, rule->route, strlen(rule->route));
	x->rule = arena_string(&x->arena, rule->name, strlen(rule->name));
}

static void remember_target(struct exchange *x, const struct route_target *target)
{
	x->target = *target;
	x->target.namespace = arena_string(&x->arena, target->namespace, strlen(target->namespace));
	x->target.service = arena_string(&x->arena, target->service, strlen(target->service));
}

static bool filtered(struct exchange *x, const struct route_filter *f, unsigned filters, struct filter_scene *scene,
		     struct filter_out *out)
{
	struct reply r;

	filter_request(f, filters, scene, out);
	x->changes = out->changes;
	if (!out->answer)
		return true;
	r = (struct reply){.head = out->answer};
	exchange_reply(x, &r, out->reason, NULL);
	return false;
}

/* A rule was found: its filters and its backend. false: it was answered. */
static bool follow(struct exchange *x, const struct route_rule *rule, struct filter_scene *scene)
{
	struct site *at = x->site;
	const struct route_backend *b;
	struct filter_out out = {0};

	remember_rule(x, rule);
	if (!filtered(x, rule->filter, rule->filters, scene, &out))
		return false;
	b = route_backend(rule, random_next(&at->dialer.random));
	if (!b || b->refused) {
		exchange_fail(x, ABI_BAD_BACKEND, NULL);
		return false;
	}
	x->itself = false;
	remember_target(x, &b->target);
	if (!filtered(x, b->filter, b->filters, scene, &out))
		return false;
	for (unsigned i = 0; i < out.mirrors; i++)
		mirror_begin(x, out.mirror[i]);
	x->backend_ns = rule->backend_ns;
	x->request_ns = filter_timeout(&x->arena, x->head, rule->request_ns);
	return true;
}

/* ------------------------------------------------------------------ what is asked */

/* The one form of the path takes the place of what the client wrote. */
static const char *normalise(struct exchange *x, char host[256], struct route_question *q)
{
	struct http_head *h = x->head;
	const char *why = NULL;
	uint16_t port;

	if (h->authority.len && !http_host(h->authority, host, &q->host, &port))
		return "the host is none";
	if (h->method == HTTP_CONNECT && !h->upgrade.len)
		return NULL;
	if (!http_path_normalise(h->path, false, (char *)h->path.at, &q->path, &q->query, &why))
		return why;
	h->path = (struct http_text){q->path.at, q->path.len + (q->query.at ? 1 + q->query.len : 0)};
	return NULL;
}

static bool go(struct exchange *x, const struct route_question *q, struct filter_scene *scene)
{
	const struct view_service *s = exchange_asked(x);
	struct route_found found;

	if (!s) {
		/* Of the same Service made anew, a new connection hears; this one never would. */
		x->down->connection->ops->drain(x->down->connection);
		exchange_fail(x, ABI_NO_SERVICE_PORT, NULL);
		return false;
	}
	x->itself = true;
	x->request_ns = filter_timeout(&x->arena, x->head, ROUTE_FOREVER);
	if (!s->routes || !(route_table_has(s->routes, ROUTE_HTTP, q->client_namespace) ||
			    route_table_has(s->routes, ROUTE_GRPC, q->client_namespace)))
		return true;
	found = route_find(s->routes, q);
	if (!found.rule) {
		exchange_fail(x, ABI_NO_ROUTE, NULL);
		return false;
	}
	scene->prefix = found.prefix;
	return follow(x, found.rule, scene);
}

/* From outside: by the listeners of the Gateway, and the host names of its routes. */
static bool go_in(struct exchange *x, const struct gateway *g, const struct route_question *q,
		  struct filter_scene *scene)
{
	const struct serve *v = x->serve;
	const struct gateway_listener *l = gateway_listener(g, v->caller.asked_port, q->host);
	const struct route_table *t = l ? gateway_routes(l, q->host) : NULL;
	struct route_found found = {0};

	x->request_ns = filter_timeout(&x->arena, x->head, ROUTE_FOREVER);
	if (v->caller.secure && l && l->number != v->caller.listener) {
		/* RFC 9110 section 7.4: the connection is for another name, by the certificate that was shown */
		const struct reply r = reply_make(&x->arena, x->head, 421, ABI_NO_ROUTE, MISDIRECTED, clock_wall());

		exchange_reply(x, &r, ABI_NO_ROUTE, MISDIRECTED);
		return false;
	}
	if (t)
		found = route_find(t, q);
	if (!found.rule) {
		exchange_fail(x, ABI_NO_ROUTE, NULL);
		return false;
	}
	scene->prefix = found.prefix;
	return follow(x, found.rule, scene);
}

static size_t size_of(const struct http_head *h)
{
	size_t n = h->path.len + h->authority.len;

	for (unsigned i = 0; i < h->fields; i++)
		n += sizeof(h->field[0]) + h->field[i].name.len + h->field[i].value.len;
	return n;
}

bool exchange_route(struct exchange *x, const struct http_head *h)
{
	struct site *at = x->site;
	const struct forwarded_hop hop = {.trust = x->serve->caller.edge ? FORWARDED_REPLACE : FORWARDED_KEEP,
					  .secure = x->serve->caller.secure,
					  .client = x->serve->caller.tuple.src,
					  .random = &at->dialer.random};
	const struct view_pod *from = exchange_source(x);
	struct filter_scene scene = {
		.arena = &x->arena, .random = draw, .ctx = &at->dialer.random, .wall_ms = clock_wall()};
	struct route_question q = {0};
	char host[256];
	const char *why;

	x->head = http_head_keep(size_of(h) > EXCHANGE_HEAD ? &x->large : &x->arena, h, FIELDS_MORE);
	if (x->serve->caller.edge) /* what was dialled says it, whatever a stranger writes */
		x->head->scheme = hop.secure ? HTTP_TEXT("https") : HTTP_TEXT("http");
	if (!from) {
		exchange_fail(x, ABI_POD_GONE, NULL);
		return false;
	}
	if (!x->head->authority.len) { /* HTTP/1.0 need not say whom it asks: whom it has dialled */
		char text[ADDR_PORT_TEXT];

		authority_text(&x->serve->caller.asked, x->serve->caller.asked_port, text);
		x->head->authority = http_text_keep(&x->arena, (struct http_text){text, strlen(text)});
	}
	why = normalise(x, host, &q);
	if (why) {
		exchange_fail(x, ABI_MALFORMED, why);
		return false;
	}
	x->id = http_text_keep(&x->arena, forwarded_apply(&x->arena, x->head, &hop));
	q.head = scene.head = x->head;
	q.client_namespace = from->namespace;
	scene.path = q.path;
	scene.query = q.query;
	scene.scheme = x->head->scheme;
	scene.port = x->serve->caller.asked_port;
	if (!(from->gateway ? go_in(x, from->gateway, &q, &scene) : go(x, &q, &scene)))
		return false;
	if (!exchange_service(x)) {
		exchange_fail(x, ABI_BAD_BACKEND, NULL);
		return false;
	}
	return true;
}
