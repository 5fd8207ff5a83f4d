/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inbound.c: what comes to a pod of this node: HBONE of other nodes (15008), plaintext that the kernel gave us (15006).
 *
 * A carrier is one HBONE connection of a peer: TLS first, whose client is a SPIFFE identity of our trust domain; then
 * each CONNECT is a relay. How many may be in the handshake is bounded (handshakes.c).
 */
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parts.h"

#define HANDSHAKE_NS 10000000000ull

struct carrier {
	struct site *site;
	int fd; /* until there is a certificate; else -1 */
	struct certs_wait certificate;
	struct stream *tls; /* hbone's once that is there */
	struct hbone *hbone;
	uint64_t netns;
	struct abi_addr client, own;
	uint32_t place; /* shares.h: the client's */
	uint16_t client_port;
	uint64_t trust; /* number of what its handshake believes, at the latest */
	struct list link;
	struct peer *peer; /* known when the handshake is done */
	char *spiffe;	   /* ours */
};

static const char *carrier_peer(const struct carrier *c)
{
	return c->peer ? c->peer->spiffe : "";
}

static void carrier_free(struct carrier *c)
{
	list_del(&c->link);
	--*(c->hbone ? &c->site->carrier_count : &c->site->handshakes.count);
	shares_let_go(c->site->thread, c->place);
	peer_drop(c->peer);
	free(c->spiffe);
	certs_wait_cancel(&c->certificate);
	if (c->fd >= 0)
		sock_reset(c->fd);
	free(c);
}

/* ------------------------------------------------------------------ CONNECT */

static enum abi_reason judge(const struct relay *r, const struct carrier *c, const struct view_pod *pod,
			     const char **ret_why)
{
	if (!addr_equal(&r->server, &c->own)) {
		*ret_why = "the authority is not the address that was dialled";
		return ABI_BAD_REQUEST;
	}
	if (r->server_port == ABI_PORT_OUTBOUND || r->server_port == ABI_PORT_INBOUND || r->server_port == HBONE_PORT) {
		*ret_why = "a port of weft's own";
		return ABI_OWN_PORT;
	}
	return view_allows(pod, r->peer->spiffe, &r->client, r->server_port);
}

/* To the app of the pod r->to. */
static void relay_to_app(struct relay *r, uint8_t path)
{
	const struct dial_plan plan = {.kind = DIAL_APP,
				       .netns = r->to,
				       .client = r->client,
				       .client_port = r->client_port,
				       .server = r->server,
				       .server_port = r->server_port,
				       .own.path = path,
				       .place = r->place};

	relay_dial(r, &plan);
}

static void asked(struct hbone *h, struct stream *s, const struct hbone_request *ask)
{
	struct carrier *c = hbone_owner(h);
	const struct view_pod *pod = view_pod(c->site->view, c->netns);
	struct relay *r = relay_new(c->site, RELAY_HBONE, s);
	const char *why = NULL;
	enum abi_reason reason;

	r->peer = c->peer;
	r->peer->holders++;
	r->netns = r->to = c->netns;
	r->client = c->client;
	r->client_port = c->client_port;
	c->site->accepted++;
	relay_hold(r, c->place);
	if (authority_parse(ask->authority, &r->server, &r->server_port)) {
		relay_close(r, ABI_BAD_REQUEST, "the authority is not an address with a port");
		return;
	}
	if (!pod) {
		relay_close(r, ABI_POD_GONE, NULL);
		return;
	}
	r->policy = pod->policy;
	reason = judge(r, c, pod, &why);
	r->guarded = reason == ABI_NEEDS_WORKER;
	if (reason && !r->guarded)
		relay_close(r, reason, why);
	else
		relay_to_app(r, ABI_PATH_TUNNEL);
}

static void closed(struct hbone *h, const char *why)
{
	struct carrier *c = hbone_owner(h);
	char from[ADDR_PORT_TEXT];

	if (log_wants(LOG_DEBUG))
		log_debug("tunnel from %s closed: %s: peer=%s", addr_port_text(&c->client, c->client_port, from),
			  why ? why : "in order", carrier_peer(c));
	carrier_free(c);
}

static void draining(struct hbone *h)
{
}

static const struct hbone_events events = {.asked = asked, .draining = draining, .closed = closed};

/* ------------------------------------------------------------------ TLS */

static void handshake_failed(struct carrier *c, const char *why)
{
	char from[ADDR_PORT_TEXT];

	relay_count_reason(c->site, ABI_HANDSHAKE_FAILED);
	c->site->refused++;
	if (log_wants(LOG_INFO))
		log_info("handshake failed: %s: from=%s identity=%s", why,
			 addr_port_text(&c->client, c->client_port, from), c->spiffe);
	if (c->tls)
		stream_close(c->tls, why);
	carrier_free(c);
}

static const char *verify(void *arg, void *x509)
{
	struct carrier *c = arg;
	char peer[CERTS_ID];
	struct certs *certs = c->site->certs;
	const char *why = certs_verify_client(x509, certs_trust_domain(certs), peer);

	if (!why)
		why = certs_good_since(certs, c->trust, x509);
	if (!why)
		c->peer = peer_new(peer);
	return why;
}

static void tls_ready(struct stream *s, unsigned happened)
{
	struct carrier *c = s->owner;
	struct site *at = c->site;

	if (happened & STREAM_FAILED) {
		handshake_failed(c, s->why);
		return;
	}
	if (!(happened & STREAM_OPEN))
		return;
	if (strcmp(tls_alpn(s), "h2")) {
		handshake_failed(c, "tls: the peer does not speak h2");
		return;
	}
	list_del(&c->link);
	list_add(&at->carriers, &c->link);
	at->handshakes.count--;
	at->carrier_count++;
	c->hbone = hbone_server(at->thread, s, NULL, &events, c);
	if (at->draining)
		hbone_drain(c->hbone);
}

static void certificate_came(struct certs_wait *w, void *ctx, const char *why)
{
	struct carrier *c = container_of(w, struct carrier, certificate);
	struct site *at = c->site;
	struct tls_plan plan = {
		.server = true, .ctx = ctx, .deadline_ns = HANDSHAKE_NS, .verify = verify, .arg = c};

	if (!ctx) {
		handshake_failed(c, why);
		return;
	}
	c->tls = tls_stream(at->thread, sock_prepared(at->thread, c->fd), &plan);
	c->fd = -1;
	SSL_CTX_free(ctx);
	c->tls->ready = tls_ready;
	c->tls->owner = c;
}

const struct abi_addr *carrier_shakes_from(const struct list *l)
{
	return &container_of(l, struct carrier, link)->client;
}

void inbound_hbone(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	struct list *oldest = handshakes_room(&at->handshakes, &t->src);
	struct carrier *c = mem_alloc(sizeof(*c));

	if (sock_local(fd, &c->own, &(uint16_t){0})) {
		close(fd);
		free(c);
		return;
	}
	if (oldest)
		handshake_failed(container_of(oldest, struct carrier, link), "too many at once");
	c->client = t->src;
	c->client_port = t->src_port;
	c->site = at;
	c->place = shares_stranger(&t->src);
	shares_hold(at->thread, c->place);
	c->fd = fd;
	c->netns = pod->netns;
	c->spiffe = mem_string(pod->spiffe);
	c->trust = at->certs ? certs_trust_number(at->certs) : 0;
	list_add(&at->handshakes.all, &c->link);
	at->handshakes.count++;
	c->certificate =
		(struct certs_wait){.certs = at->certs, .spiffe = c->spiffe, .server = true, .got = certificate_came};
	certs_wait(&c->certificate, at->thread->loop);
}

/* ------------------------------------------------------------------ plaintext */

/* The kernel assigned it: its own address is what the client dialled. Whoever dials the port itself is a stranger. */
void inbound_plain(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t)
{
	const struct view_peer *peer;
	enum abi_reason reason;
	struct relay *r;

	if (sock_local(fd, &t->dst, &t->dst_port)) {
		close(fd);
		return;
	}
	if (t->dst_port == ABI_PORT_INBOUND || t->dst_port == ABI_PORT_OUTBOUND) {
		relay_refuse(at, fd, ABI_OWN_PORT, t, NULL);
		return;
	}
	peer = view_peer(at->view, &t->src);
	reason = peer && peer->kind == ABI_KIND_NODE ? ABI_NONE : view_allows(pod, NULL, &t->src, t->dst_port);
	if (reason && reason != ABI_NEEDS_WORKER) {
		relay_refuse(at, fd, reason, t, NULL);
		return;
	}
	r = relay_new(at, RELAY_PLAIN, sock_prepared(at->thread, fd));
	r->guarded = reason == ABI_NEEDS_WORKER;
	relay_hold(r, shares_stranger(&t->src));
	r->tuple = *t;
	r->netns = r->to = pod->netns;
	r->policy = pod->policy;
	r->client = t->src;
	r->client_port = t->src_port;
	r->server = t->dst;
	r->server_port = t->dst_port;
	relay_to_app(r, ABI_PATH_PROXY);
}

/* ------------------------------------------------------------------ all of them */

/* It leaves its list at once, so that it is ended once. */
static void carrier_end(struct carrier *c, const char *why)
{
	list_del(&c->link);
	if (c->hbone)
		hbone_close(c->hbone, why);
	else
		handshake_failed(c, why);
}

/* What is called back may end others of the list, but adds none. */
static void end_where(struct list *of, const char *(*ends)(const struct carrier *c, const void *arg), const void *arg)
{
	struct list doomed;

	list_init(&doomed);
	list_each_safe(l, next, of) {
		if (!ends(container_of(l, struct carrier, link), arg))
			continue;
		list_del(l);
		list_add(&doomed, l);
	}
	while (!list_empty(&doomed)) {
		struct carrier *c = container_of(doomed.next, struct carrier, link);

		carrier_end(c, ends(c, arg));
	}
}

static const char *ends_by_pod(const struct carrier *c, const void *arg)
{
	const struct ending *e = arg;

	return !e->netns || c->netns == e->netns ? e->why : NULL;
}

static const char *ends_by_view(const struct carrier *c, const void *arg)
{
	const struct view_pod *pod = view_pod(c->site->view, c->netns);

	return pod && !strcmp(pod->spiffe, c->spiffe) ? NULL : "the pod is another one now";
}

static const char *ends_by_trust(const struct carrier *c, const void *arg)
{
	return certs_still_good(c->site->certs, tls_peer(c->tls));
}

void carriers_end(struct site *at, uint64_t netns, const char *why)
{
	const struct ending e = {.netns = netns, .why = why};

	end_where(&at->handshakes.all, ends_by_pod, &e);
	end_where(&at->carriers, ends_by_pod, &e);
}

void carriers_view_changed(struct site *at)
{
	end_where(&at->handshakes.all, ends_by_view, NULL);
	end_where(&at->carriers, ends_by_view, NULL);
}

void carriers_trust_changed(struct site *at)
{
	end_where(&at->carriers, ends_by_trust, NULL);
}

void carriers_drain(struct site *at)
{
	for (struct list *l = at->carriers.next; l != &at->carriers;) {
		struct carrier *c = container_of(l, struct carrier, link);

		l = l->next;
		hbone_drain(c->hbone);
	}
}

void carriers_each(const struct site *at, void (*one)(void *ctx, const struct tunnel_row *r), void *ctx)
{
	const struct list *lists[] = {&at->carriers, &at->handshakes.all};

	for (size_t i = 0; i < array_size(lists); i++) {
		list_each(l, lists[i]) {
			const struct carrier *c = container_of(l, struct carrier, link);
			struct tunnel_row r = {.netns = c->netns,
					       .local = c->own,
					       .remote = c->client,
					       .local_port = HBONE_PORT,
					       .remote_port = c->client_port};

			text_copy(r.identity, sizeof(r.identity), c->spiffe);
			text_copy(r.peer, sizeof(r.peer), carrier_peer(c));
			tunnel_row_fill(&r, at->thread, c->tls, c->hbone);
			one(ctx, &r);
		}
	}
}
