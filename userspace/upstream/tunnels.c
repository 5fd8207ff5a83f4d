/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tunnels.c: see tunnels.h.
 *
 *	TUNNEL_WANTS --certificate, socket--> TUNNEL_CONNECTS --TCP, TLS, its certificate is the one--> TUNNEL_OPEN
 *	TUNNEL_OPEN --GOAWAY, no stream ids--> TUNNEL_DRAINS --last stream--> freed; from anywhere --why--> freed
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tunnels.h"

#define CONNECT_NS 10000000000ull
#define HANDSHAKE_NS 10000000000ull
#define STREAMS_HOPED 100 /* of a connection whose peer has not said how many it takes */

enum tunnel_state { TUNNEL_WANTS,
		    TUNNEL_CONNECTS,
		    TUNNEL_OPEN,
		    TUNNEL_DRAINS };

struct group {		       /* the connections of one key */
	struct tunnel_key key; /* its texts are behind the struct */
	struct tunnels *tunnels;
	struct list open;    /* struct tunnel: TUNNEL_OPEN */
	struct list pending; /* before that */
	struct list rest;    /* TUNNEL_DRAINS */
	struct list waits;   /* struct tunnel_wait */
	unsigned busy;	     /* calls that still look at it */
	unsigned most;	     /* streams that a connection takes, as the last one has said; 0: none for now */
	struct table_link link;
	char text[];
};

struct tunnel {
	enum tunnel_state state;
	struct group *group;
	struct certs_wait certificate;
	SSL_CTX *ctx;
	struct socket_wait want;
	struct stream *below; /* TLS; hbone's once it is open */
	struct hbone *hbone;
	const char *ends; /* it is being ended, and why */
	uint32_t most;	  /* hbone_most(), as it was seen */
	uint64_t started_ns;
	uint64_t trust; /* number of what its handshake believes, at the latest */
	struct list link;
};

struct tunnels {
	struct thread *thread;
	struct tunnels_plan plan;
	struct table groups;
	unsigned count;
};

struct tunnels *tunnels_new(struct thread *t, const struct tunnels_plan *plan)
{
	struct tunnels *ts = mem_alloc(sizeof(*ts));

	ts->thread = t;
	ts->plan = *plan;
	return ts;
}

/* ------------------------------------------------------------------ groups */

static uint64_t key_hash(const struct tunnel_key *k)
{
	const struct {
		uint64_t source, server, netns, generation;
		struct abi_addr addr, from;
		uint64_t port;
	} all = {table_hash(k->source, strlen(k->source)),
		 table_hash(k->server, strlen(k->server)),
		 k->netns,
		 k->generation,
		 k->addr,
		 k->from,
		 k->port};

	return table_hash(&all, sizeof(all));
}

static bool key_equal(const struct tunnel_key *a, const struct tunnel_key *b)
{
	return a->netns == b->netns && a->generation == b->generation && a->port == b->port &&
	       addr_equal(&a->addr, &b->addr) && addr_equal(&a->from, &b->from) && !strcmp(a->source, b->source) &&
	       !strcmp(a->server, b->server);
}

static struct group *group_get(struct tunnels *ts, const struct tunnel_key *key)
{
	size_t source = strlen(key->source) + 1, server = strlen(key->server) + 1;
	uint64_t hash = key_hash(key);
	struct group *g;

	for (struct table_link *l = table_first(&ts->groups, hash); l; l = table_next_same(l)) {
		g = container_of(l, struct group, link);
		if (key_equal(&g->key, key))
			return g;
	}
	g = mem_alloc(sizeof(*g) + source + server);
	g->key = *key;
	g->key.source = memcpy(g->text, key->source, source);
	g->key.server = memcpy(g->text + source, key->server, server);
	g->tunnels = ts;
	g->most = STREAMS_HOPED;
	list_init(&g->open);
	list_init(&g->pending);
	list_init(&g->rest);
	list_init(&g->waits);
	table_add(&ts->groups, &g->link, hash);
	return g;
}

static bool group_empty(const struct group *g)
{
	return list_empty(&g->open) && list_empty(&g->pending) && list_empty(&g->rest) && list_empty(&g->waits);
}

static void group_put(struct group *g)
{
	if (g->busy || !group_empty(g))
		return;
	table_del(&g->tunnels->groups, &g->link);
	free(g);
}

static void answer(struct tunnel_wait *w, struct stream *s, const char *why)
{
	list_del(&w->link);
	w->waiting = false;
	w->done(w, s, why);
}

/* ------------------------------------------------------------------ one connection */

static void set_state(struct tunnel *t, enum tunnel_state state)
{
	struct group *g = t->group;

	list_del(&t->link);
	list_add(state == TUNNEL_OPEN ? &g->open : state == TUNNEL_DRAINS ? &g->rest
									  : &g->pending,
		 &t->link);
	t->state = state;
}

/* The last thing that is done with it; its group stays. */
static void tunnel_drop(struct tunnel *t)
{
	socket_pool_cancel(&t->want);
	certs_wait_cancel(&t->certificate);
	SSL_CTX_free(t->ctx);
	list_del(&t->link);
	t->group->tunnels->count--;
	free(t);
}

/* Who waits hears why, unless another one is on its way. */
static void refuse_waits(struct group *g, const char *why)
{
	g->busy++;
	while (list_empty(&g->pending) && !list_empty(&g->waits))
		answer(container_of(g->waits.next, struct tunnel_wait, link), NULL, why);
	g->busy--;
}

/* It did not come to stand. */
static void tunnel_failed(struct tunnel *t, const char *why)
{
	struct group *g = t->group;
	char at[ADDR_PORT_TEXT];

	log_info("no tunnel to %s: %s: source=%s expected=%s", addr_port_text(&g->key.addr, g->key.port, at), why,
		 g->key.source, g->key.server);
	if (t->below)
		stream_close(t->below, why);
	tunnel_drop(t);
	refuse_waits(g, why);
	group_put(g);
}

static void group_serve(struct group *g);

/* Its peer may have said how many streams it takes, and we were not told of it yet. */
static void look(struct tunnel *t)
{
	uint32_t most = hbone_most(t->hbone);

	if (most == t->most)
		return;
	t->most = most;
	t->group->most = most;
}

static void hbone_settled(struct hbone *h)
{
	struct tunnel *t = hbone_owner(h);

	if (t->state != TUNNEL_OPEN)
		return;
	look(t);
	group_serve(t->group);
}

static void hbone_draining(struct hbone *h)
{
	struct tunnel *t = hbone_owner(h);

	if (t->state == TUNNEL_OPEN)
		set_state(t, TUNNEL_DRAINS);
	if (!t->most) /* until its end: whoever was asked next would say the same */
		refuse_waits(t->group, HBONE_SHUT);
}

static void hbone_closed(struct hbone *h, const char *why)
{
	struct tunnel *t = hbone_owner(h);
	struct group *g = t->group;
	const char *lost = !t->most ? HBONE_SHUT : t->most != HBONE_UNSAID ? NULL : why ? why : HBONE_CLOSED;
	char at[ADDR_PORT_TEXT];

	log_debug("tunnel to %s closed: %s: source=%s", addr_port_text(&g->key.addr, g->key.port, at),
		  why ? why : "in order", g->key.source);
	tunnel_drop(t);
	if (lost)
		refuse_waits(g, lost);
	group_put(g);
}

static const struct hbone_events events = {
	.settled = hbone_settled, .draining = hbone_draining, .closed = hbone_closed};

static void below_ready(struct stream *s, unsigned happened)
{
	struct tunnel *t = s->owner;
	struct group *g = t->group;

	if (happened & STREAM_FAILED) {
		tunnel_failed(t, s->why);
		return;
	}
	if (!(happened & STREAM_OPEN))
		return;
	if (strcmp(tls_alpn(s), "h2")) {
		tunnel_failed(t, "tls: the peer does not speak h2");
		return;
	}
	t->hbone = hbone_client(g->tunnels->thread, s, NULL, &events, t);
	set_state(t, TUNNEL_OPEN);
	group_serve(g);
}

static const char *verify(void *arg, void *x509)
{
	const struct tunnel *t = arg;
	const char *want[] = {t->group->key.server}, *why = certs_verify_server(x509, want, 1);

	return why ? why : certs_good_since(t->group->tunnels->plan.certs, t->trust, x509);
}

static void socket_came(struct socket_wait *w, int fd)
{
	struct tunnel *t = container_of(w, struct tunnel, want);
	struct group *g = t->group;
	struct thread *thread = g->tunnels->thread;
	const struct tls_plan plan = {.ctx = t->ctx, .deadline_ns = HANDSHAKE_NS, .verify = verify, .arg = t};
	struct stream *tcp;

	if (fd < 0) {
		tunnel_failed(t, socket_pool_why(fd));
		return;
	}
	/* a pod may have several addresses: it must be the one of the key */
	if (socket_pool_bind(fd, &g->key.from)) {
		close(fd);
		tunnel_failed(t, "the pod's address cannot be bound");
		return;
	}
	tcp = sock_connect(thread, fd, &g->key.addr, g->key.port, CONNECT_NS);
	t->below = tls_stream(thread, tcp, &plan);
	t->below->ready = below_ready;
	t->below->owner = t;
	set_state(t, TUNNEL_CONNECTS);
}

static void certificate_came(struct certs_wait *w, void *ctx, const char *why)
{
	struct tunnel *t = container_of(w, struct tunnel, certificate);
	const struct tunnel_key *key = &t->group->key;

	t->ctx = ctx;
	if (ctx)
		socket_pool_take(t->group->tunnels->plan.sockets, key->netns, WIRE_SOCKET_OUT, !addr_is_v4(&key->addr),
				 &t->want);
	else
		tunnel_failed(t, why);
}

static void tunnel_start(struct group *g)
{
	struct tunnels *ts = g->tunnels;
	struct tunnel *t = mem_alloc(sizeof(*t));

	t->group = g;
	t->want.got = socket_came;
	t->most = HBONE_UNSAID;
	t->started_ns = loop_now(ts->thread->loop);
	list_init(&t->link);
	set_state(t, TUNNEL_WANTS);
	ts->count++;
	t->trust = ts->plan.certs ? certs_trust_number(ts->plan.certs) : 0;
	t->certificate =
		(struct certs_wait){.certs = ts->plan.certs, .spiffe = g->key.source, .got = certificate_came};
	certs_wait(&t->certificate, ts->thread->loop);
}

/* ------------------------------------------------------------------ streams */

/* Before its peer has said how many it takes, no more than the last one took: what is too many comes back. */
static bool has_room(const struct group *g, struct tunnel *t)
{
	look(t);
	if (t->most == HBONE_UNSAID && hbone_streams(t->hbone) >= (g->most ? g->most : 1))
		return false;
	return hbone_free(t->hbone);
}

static struct stream *stream_of(struct group *g, const struct hbone_request *ask)
{
	list_each_safe(l, next, &g->open) {
		struct tunnel *t = container_of(l, struct tunnel, link);
		struct stream *s = has_room(g, t) ? hbone_connect(t->hbone, ask) : NULL;

		if (s)
			return s;
	}
	return NULL;
}

/* The peer takes no streams, and has to be waited for, or asked by one connection at a time. */
static bool is_shut(const struct group *g)
{
	if (g->most)
		return false;
	list_each(l, &g->open) {
		const struct tunnel *t = container_of(l, struct tunnel, link);

		if (!t->most || t->most == HBONE_UNSAID)
			return true;
	}
	return false;
}

/* One connection is made at a time, unless what waits will not fit into it. */
static bool another(const struct group *g)
{
	unsigned hoped = 0, wanted = 0;

	if (is_shut(g))
		return false;
	list_each(l, &g->pending)
		hoped += g->most ? g->most : STREAMS_HOPED;
	list_each(l, &g->waits) {
		if (++wanted > hoped)
			return true;
	}
	return false;
}

/* The group is gone after it, if nothing is left of it. */
static void group_serve(struct group *g)
{
	g->busy++;
	while (!list_empty(&g->waits)) {
		struct tunnel_wait *w = container_of(g->waits.next, struct tunnel_wait, link);
		struct stream *s = stream_of(g, w->ask);

		if (!s)
			break;
		answer(w, s, NULL);
	}
	if (another(g))
		tunnel_start(g);
	g->busy--;
	group_put(g);
}

void tunnels_connect(struct tunnels *ts, const struct tunnel_key *key, struct tunnel_wait *w)
{
	struct group *g = group_get(ts, key);

	w->waiting = true;
	list_add(&g->waits, &w->link);
	group_serve(g);
}

void tunnels_cancel(struct tunnel_wait *w)
{
	if (!w->waiting)
		return;
	list_del(&w->link);
	w->waiting = false;
}

/* ------------------------------------------------------------------ ends */

static void tunnel_end(struct tunnel *t)
{
	struct group *g = t->group;

	list_del(&t->link);
	list_add(&g->rest, &t->link);
	g->busy--;
	if (t->hbone)
		hbone_close(t->hbone, t->ends);
	else
		tunnel_failed(t, t->ends);
}

/* Every connection of which `ends` says why. What is called back may free others, but starts none of these. */
static void end_where(struct tunnels *ts, const char *(*ends)(const struct tunnel *t, const void *arg), const void *arg)
{
	struct list doomed;

	list_init(&doomed);
	for (struct table_link *l = table_walk(&ts->groups, NULL); l; l = table_walk(&ts->groups, l)) {
		struct group *g = container_of(l, struct group, link);
		struct list *lists[] = {&g->open, &g->pending, &g->rest};

		for (size_t i = 0; i < array_size(lists); i++) {
			list_each_safe(at, next, lists[i]) {
				struct tunnel *t = container_of(at, struct tunnel, link);
				const char *why = t->ends ? NULL : ends(t, arg);

				if (!why)
					continue;
				t->ends = why;
				list_del(at);
				list_add(&doomed, at);
				g->busy++;
			}
		}
	}
	while (!list_empty(&doomed))
		tunnel_end(container_of(doomed.next, struct tunnel, link));
}

static const char *ends_by_view(const struct tunnel *t, const void *arg)
{
	const struct tunnel_key *key = &t->group->key;
	const struct view *v = arg;
	const struct view_peer *p = view_peer(v, &key->addr);
	const struct view_pod *own = view_pod(v, key->netns);

	if (!p || p->generation != key->generation)
		return "the pod has gone";
	return !own || strcmp(own->spiffe, key->source) ? "the source is another pod" : NULL;
}

static const char *ends_by_trust(const struct tunnel *t, const void *arg)
{
	void *x509 = t->hbone ? tls_peer(t->below) : NULL;

	return x509 ? certs_still_good((struct certs *)arg, x509) : NULL;
}

static const char *ends_by_pod(const struct tunnel *t, const void *arg)
{
	return t->group->key.netns == *(const uint64_t *)arg ? "the pod has gone" : NULL;
}

static const char *ends_all(const struct tunnel *t, const void *arg)
{
	return "the worker ends";
}

void tunnels_view_changed(struct tunnels *ts)
{
	end_where(ts, ends_by_view, ts->plan.view);
}

void tunnels_trust_changed(struct tunnels *ts)
{
	if (ts->plan.certs)
		end_where(ts, ends_by_trust, ts->plan.certs);
}

void tunnels_pod_gone(struct tunnels *ts, uint64_t netns)
{
	end_where(ts, ends_by_pod, &netns);
}

void tunnels_free(struct tunnels *ts)
{
	if (!ts)
		return;
	end_where(ts, ends_all, NULL);
	loop_settle(ts->thread->loop);
	table_free(&ts->groups);
	free(ts);
}

unsigned tunnels_count(const struct tunnels *ts)
{
	return ts->count;
}

void tunnels_drain(struct tunnels *ts)
{
	for (struct table_link *l = table_walk(&ts->groups, NULL); l; l = table_walk(&ts->groups, l)) {
		struct group *g = container_of(l, struct group, link);

		list_each_safe(at, next, &g->open)
			hbone_drain(container_of(at, struct tunnel, link)->hbone);
	}
}

/* ------------------------------------------------------------------ what people see */

void tunnel_row_fill(struct tunnel_row *r, const struct thread *t, struct stream *tls, const struct hbone *h)
{
	struct hbone_view v;

	r->thread = t->index;
	if (tls && h) {
		text_copy(r->alpn, sizeof(r->alpn), tls_alpn(tls));
		text_copy(r->cipher, sizeof(r->cipher), tls_cipher(tls));
		text_copy(r->group, sizeof(r->group), tls_group(tls));
		r->sent = tls->written_bytes;
		r->received = tls->read_bytes;
	}
	if (!h) {
		r->state = "connecting";
		r->waits = "peer";
		return;
	}
	hbone_look(h, &v);
	r->state = v.draining ? "draining" : "open";
	r->waits = v.waits;
	r->streams = v.streams;
	r->opened = v.opened;
	r->age_ns = v.age_ns;
	r->rtt_ns = v.ping_rtt_ns;
	r->send_window = v.send_window;
	r->recv_window = v.recv_window;
}

static void row_of(const struct tunnels *ts, const struct tunnel *t, struct tunnel_row *r)
{
	const struct tunnel_key *key = &t->group->key;

	*r = (struct tunnel_row){.client = true,
				 .netns = key->netns,
				 .local = key->from,
				 .remote = key->addr,
				 .remote_port = key->port};
	text_copy(r->identity, sizeof(r->identity), key->source);
	text_copy(r->peer, sizeof(r->peer), key->server);
	tunnel_row_fill(r, ts->thread, t->below, t->hbone);
	if (!t->hbone)
		r->age_ns = loop_now(ts->thread->loop) - t->started_ns;
}

void tunnels_each(const struct tunnels *ts, void (*one)(void *ctx, const struct tunnel_row *r), void *ctx)
{
	for (struct table_link *l = table_walk(&ts->groups, NULL); l; l = table_walk(&ts->groups, l)) {
		struct group *g = container_of(l, struct group, link);
		struct list *lists[] = {&g->open, &g->pending, &g->rest};

		for (size_t i = 0; i < array_size(lists); i++) {
			list_each(at, lists[i]) {
				struct tunnel_row r;

				row_of(ts, container_of(at, struct tunnel, link), &r);
				one(ctx, &r);
			}
		}
	}
}
