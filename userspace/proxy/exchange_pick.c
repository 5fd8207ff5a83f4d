/* SPDX-License-Identifier: Apache-2.0 */
/* exchange_pick.c: an endpoint for a request, and in which version of HTTP it is asked. */
#include <string.h>

#include "exchange.h"

/*
 * What the view gave stays good until the turn ends (thread.h), so it is asked once in a turn for what each request of
 * a batch asks for. Who hears that it has changed forgets (proxy.c).
 */
static struct site_found *found_in(struct site *at)
{
	uint64_t turn = loop_now(at->thread->loop);

	if (at->found.turn != turn)
		at->found = (struct site_found){.turn = turn};
	return &at->found;
}

const struct view_pod *exchange_source(const struct exchange *x)
{
	struct site_found *f = found_in(x->site);

	if (!f->source || f->netns != x->serve->caller.netns) {
		f->netns = x->serve->caller.netns;
		f->source = view_pod(x->site->view, f->netns);
	}
	return f->source;
}

const struct view_service *exchange_asked(const struct exchange *x)
{
	struct site_found *f = found_in(x->site);

	if (!f->service || f->number != x->serve->caller.service) {
		f->number = x->serve->caller.service;
		f->service = view_service(x->site->view, f->number);
	}
	return f->service;
}

const struct view_service *exchange_service(const struct exchange *x)
{
	return x->itself ? exchange_asked(x) : view_backend(x->site->view, &x->target);
}

/* *ret_to: the pod of this node that it is; NULL: none. */
static const struct view_peer *peer_of(const struct exchange *x, const struct abi_addr *addr,
				       const struct view_pod **ret_to)
{
	struct site_found *f = found_in(x->site);
	const struct view *v = x->site->view;

	if (!f->peer || !addr_equal(&f->addr, addr)) {
		f->addr = *addr;
		f->peer = view_peer(v, addr);
		f->to = f->peer && f->peer->kind == ABI_KIND_LOCAL_POD ? view_pod(v, f->peer->netns) : NULL;
	}
	*ret_to = f->to;
	return f->peer;
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
		return http2 && (!x->serve->caller.edge || http_is_grpc(x->head)) ? HTTP_2 : HTTP_1_1;
	}
}

enum abi_reason exchange_allowed(const struct exchange *x, const struct http_head *h, const struct http_pool_key *k)
{
	const struct view_pod *from = exchange_source(x), *to;
	struct http_text host = {0}, path = h->path;
	const char *query;
	char buf[256];
	uint16_t port;

	(void)peer_of(x, &k->server, &to);
	if (!to || !from || !view_needs_http(to, k->port))
		return ABI_NONE;
	if (h->authority.len && !http_host(h->authority, buf, &host, &port))
		return ABI_MALFORMED;
	query = path.len ? memchr(path.at, '?', path.len) : NULL;
	if (query)
		path.len = (size_t)(query - path.at);
	return view_allows_request(to, from->spiffe, &k->client, k->port, h, host, path);
}

/*
 * HTTP/1 has a socket for each that is under way. Not a tunnel's stream; and of one client's connection the first is as
 * the other side of a relay, which counts once.
 */
bool exchange_takes_file(const struct exchange *x, const struct http_pool_key *k)
{
	const struct view_peer *peer;
	const struct view_pod *to;

	if (k->version == HTTP_2 || x->serve->exchanges.next == &x->link)
		return false;
	peer = peer_of(x, &k->server, &to);
	return !peer || !peer->mesh || peer->kind == ABI_KIND_LOCAL_POD;
}

struct view_load *exchange_endpoint(struct exchange *x, const struct view_service *s, struct pick_question *q,
				    struct http_pool_key *ret)
{
	const struct serve *v = x->serve;
	struct site *at = x->site;
	const struct view_pod *from = exchange_source(x), *to;
	const struct pick_affinity of = {
		.map = at->affinity,
		.number = x->itself ? v->caller.service : s ? s->number : 0,
		.client = &v->caller.tuple.src};
	const struct view_endpoint *e;
	const struct view_peer *peer;

	q->ipv4 = addr_is_v4(&v->caller.tuple.src);
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
	peer = peer_of(x, &e->addr, &to);
	*ret = (struct http_pool_key){.netns = v->caller.netns,
				      .generation = peer ? peer->generation : 0,
				      .client = v->caller.tuple.src,
				      .server = e->addr,
				      .identity = from->identity,
				      .service = v->caller.service,
				      .port = e->port,
				      .client_port = v->caller.tuple.src_port,
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
