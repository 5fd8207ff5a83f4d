/* SPDX-License-Identifier: Apache-2.0 */
/* exchange_pick.c: an endpoint for a request, and in which version of HTTP it is asked. */
#include <string.h>

#include "exchange.h"

const struct view_pod *exchange_source(const struct exchange *x)
{
	return view_pod(x->site->view, x->serve->netns);
}

const struct view_service *exchange_service(const struct exchange *x)
{
	const struct view *v = x->site->view;

	return x->itself ? view_service(v, x->serve->service) : view_backend(v, &x->target);
}

/* A client that is answered by HTTP/2 is asked in it, where the backend did not say. */
static enum http_version version_for(const struct exchange *x, const struct view_service *s)
{
	bool http2 = x->down->connection->version == HTTP_2;

	switch (s->protocol) {
	case VIEW_HTTP:
		return http2 && http_is_grpc(x->head) ? HTTP_2 : HTTP_1_1;
	case VIEW_HTTP2:
		return HTTP_2;
	default: /* a pod knows what the other one speaks; a client of a Gateway does not */
		return http2 && (!x->serve->edge || http_is_grpc(x->head)) ? HTTP_2 : HTTP_1_1;
	}
}

enum abi_reason exchange_allowed(const struct exchange *x, const struct http_head *h, const struct http_pool_key *k)
{
	const struct view *v = x->site->view;
	const struct view_peer *peer = view_peer(v, &k->server);
	const struct view_pod *to = peer && peer->kind == ABI_KIND_LOCAL_POD ? view_pod(v, peer->netns) : NULL;
	const struct view_pod *from = exchange_source(x);
	struct http_text host = {0}, path = h->path;
	const char *query;
	char buf[256];
	uint16_t port;

	if (!to || !from || !view_needs_http(to, k->port))
		return ABI_NONE;
	if (h->authority.len && !http_host(h->authority, buf, &host, &port))
		return ABI_MALFORMED;
	query = path.len ? memchr(path.at, '?', path.len) : NULL;
	if (query)
		path.len = (size_t)(query - path.at);
	return view_allows_request(to, from->spiffe, &k->client, k->port, h, host, path);
}

struct view_load *exchange_endpoint(struct exchange *x, const struct view_service *s, struct pick_question *q,
				    struct http_pool_key *ret)
{
	const struct serve *v = x->serve;
	struct site *at = x->site;
	const struct view_pod *from = exchange_source(x);
	const struct pick_affinity of = {
		.map = at->affinity, .number = x->itself ? v->service : s ? s->number : 0, .client = &v->client};
	const struct view_endpoint *e;
	const struct view_peer *peer;

	q->ipv4 = addr_is_v4(&v->client);
	q->memory = &at->pick;
	q->now_ns = loop_now(at->thread->loop);
	q->random = random_next(&at->dialer.random);
	q->near = v->server ? &v->plan.server : NULL;
	q->near_port = v->plan.server_port;
	e = from && s ? pick_for(&of, s, q) : NULL;
	if (!e && s && from && from->gateway) { /* families are the backends' own business: nobody's address is kept */
		q->ipv4 = !q->ipv4;
		e = pick_for(&of, s, q);
	}
	if (!e)
		return NULL;
	peer = view_peer(at->view, &e->addr);
	*ret = (struct http_pool_key){.netns = v->netns,
				      .generation = peer ? peer->generation : 0,
				      .client = v->client,
				      .server = e->addr,
				      .identity = from->identity,
				      .service = v->service,
				      .port = e->port,
				      .client_port = v->client_port,
				      .version = version_for(x, s)};
	if (from->gateway) { /* connections are the Gateway's, and shared by all of its clients */
		ret->client = from->gateway->source[addr_is_v4(&e->addr) ? 0 : 1];
		if (addr_is_zero(&ret->client))
			ret->client = e->addr; /* then the app sees its own pod: see dial.c */
		ret->client_port = 0;
	}
	pick_raise(e->load);
	return e->load;
}
