/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.c: two streams and what goes between them: see parts.h.
 *
 *	RELAY_DIALS --the server's side stands--> RELAY_OPEN --both have ended, one failed, policy--> RELAY_CLOSED
 *
 * What a side has ended is finished on the other one, in either order. Nothing is held here: what the one cannot take
 * stays where it is, and so stops who sends it.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parts.h"

static const char *const kinds[] = {
	[RELAY_TUNNEL] = "tunnel",
	[RELAY_LOCAL] = "local",
	[RELAY_PASS] = "pass",
	[RELAY_HBONE] = "hbone",
	[RELAY_PLAIN] = "plain",
	[RELAY_HTTP] = "http",
};

const char *relay_kind_name(enum relay_kind kind)
{
	return kinds[kind];
}

static void set_state(struct relay *r, enum relay_state state)
{
	assert(state > r->state);
	r->state = state;
}

struct peer *peer_new(const char *spiffe)
{
	size_t size = strlen(spiffe) + 1;
	struct peer *p = mem_alloc(sizeof(*p) + size);

	p->holders = 1;
	memcpy(p->spiffe, spiffe, size);
	return p;
}

void peer_drop(struct peer *p)
{
	if (p && !--p->holders)
		free(p);
}

static void relay_free(struct loop_task *t)
{
	struct relay *r = container_of(t, struct relay, again);

	peer_drop(r->peer);
	free(r);
}

static void log_end(const struct relay *r, enum abi_reason reason, const char *why)
{
	char client[ADDR_PORT_TEXT], server[ADDR_PORT_TEXT];
	enum log_level level = reason && r->state == RELAY_DIALS ? LOG_INFO : LOG_DEBUG;

	if (!log_wants(level))
		return;
	log_line(level, "%s: %s from=%s to=%s reason=%s sent=%llu received=%llu ms=%llu%s%s", why ? why : "closed",
		 kinds[r->kind], addr_port_text(&r->client, r->client_port, client),
		 addr_port_text(&r->server, r->server_port, server), reason_name(reason),
		 (unsigned long long)r->bytes[RELAY_CLIENT], (unsigned long long)r->bytes[RELAY_SERVER],
		 (unsigned long long)(loop_now(r->site->thread->loop) - r->opened_ns) / 1000000,
		 r->peer ? " peer=" : "", r->peer ? r->peer->spiffe : "");
}

/* Of a CONNECT that was not answered: what its client's side shall hear (facts/ambient.md 2.3). */
static int status_of(enum abi_reason reason)
{
	switch (reason) {
	case ABI_DENIED:
	case ABI_NOT_ALLOWED:
	case ABI_MTLS_REQUIRED:
	case ABI_NEEDS_WORKER:
	case ABI_POLICY_CHANGED:
		return 401;
	case ABI_BAD_REQUEST:
		return 400;
	default:
		return 503;
	}
}

void relay_close(struct relay *r, enum abi_reason reason, const char *why)
{
	struct site *at = r->site;
	bool asked = r->kind == RELAY_HBONE && r->state == RELAY_DIALS;

	if (r->state == RELAY_CLOSED)
		return;
	if (reason && !why)
		why = reason_name(reason);
	log_end(r, reason, why);
	if (reason)
		relay_count_reason(at, reason);
	set_state(r, RELAY_CLOSED);
	shares_let_go(at->thread, r->place);
	dial_cancel(&r->dial);
	if (asked && reason && r->side[RELAY_CLIENT]) {
		hbone_refuse(r->side[RELAY_CLIENT], status_of(reason));
		r->side[RELAY_CLIENT] = NULL;
	}
	for (int i = 0; i < 2; i++) {
		if (r->side[i])
			stream_close(r->side[i], reason ? why : NULL);
		r->side[i] = NULL;
	}
	list_del(&r->link);
	at->relay_count--;
	loop_cancel(at->thread->loop, &r->again);
	r->again.run = relay_free;
	loop_defer(at->thread->loop, &r->again);
}

void relay_refuse(struct site *at, int fd, enum abi_reason reason, const struct abi_tuple *t, const char *why)
{
	char src[ADDR_PORT_TEXT], dst[ADDR_PORT_TEXT];

	sock_reset(fd); /* the client must not believe that somebody read */
	relay_count_reason(at, reason);
	at->refused++;
	if (log_wants(LOG_INFO))
		log_info("refused: from=%s to=%s reason=%s%s%s", addr_port_text(&t->src, t->src_port, src),
			 addr_port_text(&t->dst, t->dst_port, dst), reason_name(reason), why ? ": " : "",
			 why ? why : "");
}

/* ------------------------------------------------------------------ bytes */

/* true: stopped for others' sake, there may be more */
static bool pump(struct relay *r, enum relay_end from)
{
	enum stream_pump is = stream_pump(r->side[from], r->side[!from], &r->bytes[from]);

	if (is == STREAM_PUMP_ENDED)
		stream_finish(r->side[!from]);
	return is == STREAM_PUMP_MORE;
}

static void pump_both(struct relay *r)
{
	bool more = pump(r, RELAY_CLIENT);

	more = pump(r, RELAY_SERVER) || more;
	if (r->side[0]->finished && r->side[1]->finished && r->side[0]->ended && r->side[1]->ended)
		relay_close(r, ABI_NONE, NULL);
	else if (more)
		loop_defer(r->site->thread->loop, &r->again);
}

static void again_run(struct loop_task *t)
{
	pump_both(container_of(t, struct relay, again));
}

/* ------------------------------------------------------------------ life */

/* 200, only now that the app's side stands. */
static void accept_connect(struct relay *r)
{
	const struct view_pod *pod = view_pod(r->site->view, r->to);
	char baggage[DIAL_BAGGAGE] = "";

	if (pod)
		dial_baggage(pod, baggage);
	hbone_accept(r->side[RELAY_CLIENT], pod ? baggage : NULL);
}

static void ready(struct stream *s, unsigned events)
{
	struct relay *r = s->owner;

	if (r->state == RELAY_CLOSED)
		return;
	if (events & STREAM_FAILED)
		relay_close(r, ABI_RESET, s->why);
	else if (r->state == RELAY_OPEN)
		pump_both(r);
}

static void side_take(struct relay *r, enum relay_end end, struct stream *s)
{
	r->side[end] = s;
	s->ready = ready;
	s->owner = r;
}

/* The streams are the guard's, and the relay is no more. */
static void hand_over(struct relay *r)
{
	const struct view_pod *from = r->kind == RELAY_LOCAL ? view_pod(r->site->view, r->netns) : NULL;
	struct stream *client = r->side[RELAY_CLIENT], *server = r->side[RELAY_SERVER];
	struct relay_row row;
	struct guard_plan plan;

	relay_row(r, &row);
	plan = (struct guard_plan){.kind = r->kind,
				   .netns = r->netns,
				   .to = r->to,
				   .spiffe = r->kind == RELAY_HBONE ? r->peer->spiffe : from ? from->spiffe : NULL,
				   .tuple = row.tuple,
				   .client = r->client,
				   .server = r->server,
				   .client_port = row.client_port,
				   .server_port = r->server_port,
				   .service = r->service,
				   .place = r->place,
				   .opened_ns = r->opened_ns};
	r->place = 0;
	r->side[RELAY_CLIENT] = r->side[RELAY_SERVER] = NULL;
	guard_begin(r->site, client, server, &plan);
	relay_close(r, ABI_NONE, NULL);
}

void relay_join(struct relay *r, struct stream *server)
{
	side_take(r, RELAY_SERVER, server);
	set_state(r, RELAY_OPEN);
	if (r->kind == RELAY_HBONE)
		accept_connect(r);
	if (r->guarded)
		hand_over(r);
	else
		pump_both(r);
}

static void dialled(struct dial_wait *w, struct stream *s, enum abi_reason reason, const char *why)
{
	struct relay *r = container_of(w, struct relay, dial);

	if (s)
		relay_join(r, s);
	else
		relay_close(r, reason, why);
}

struct relay *relay_new(struct site *at, enum relay_kind kind, struct stream *client)
{
	struct relay *r = mem_alloc(sizeof(*r));

	r->site = at;
	r->kind = kind;
	r->opened_ns = loop_now(at->thread->loop);
	r->again.run = again_run;
	r->dial.done = dialled;
	side_take(r, RELAY_CLIENT, client);
	list_add(&at->relays, &r->link);
	at->relay_count++;
	return r;
}

void relay_hold(struct relay *r, uint32_t place)
{
	r->place = place;
	shares_hold(r->site->thread, place);
}

struct relay *relay_captured(struct site *at, uint64_t netns, const struct abi_tuple *t, struct stream *client,
			     const struct dial_plan *plan)
{
	static const enum relay_kind how[] = {
		[DIAL_OUT] = RELAY_PASS, [DIAL_APP] = RELAY_LOCAL, [DIAL_TUNNEL] = RELAY_TUNNEL};
	struct relay *r = relay_new(at, how[plan->kind], client);
	const struct view_pod *from = view_pod(at->view, netns);

	r->tuple = *t;
	relay_hold(r, shares_pod(netns));
	r->netns = netns;
	r->identity = from ? from->identity : 0;
	r->service = plan->own.service;
	r->client = plan->client;
	r->client_port = plan->client_port;
	r->server = plan->server;
	r->server_port = plan->server_port;
	return r;
}

void relay_dial(struct relay *r, const struct dial_plan *plan)
{
	dial_begin(&r->site->dialer, plan, &r->dial);
}

/* ------------------------------------------------------------------ policy */

void relay_judge(struct relay *r)
{
	const struct view_pod *to, *from = r->kind == RELAY_LOCAL ? view_pod(r->site->view, r->netns) : NULL;
	const struct view_peer *peer;
	const char *who = NULL;
	enum abi_reason reason;

	if (!r->to)
		return;
	to = view_pod(r->site->view, r->to);
	if (!to) {
		relay_close(r, ABI_POD_GONE, NULL);
		return;
	}
	if (to->policy == r->policy && (!from || from->identity == r->identity))
		return;
	r->policy = to->policy;
	if (r->kind == RELAY_HBONE) {
		who = r->peer->spiffe;
	} else if (r->kind == RELAY_LOCAL) {
		r->identity = from ? from->identity : 0;
		who = from ? from->spiffe : NULL;
	} else {
		peer = view_peer(r->site->view, &r->client);
		if (peer && peer->kind == ABI_KIND_NODE)
			return;
	}
	reason = view_allows(to, who, &r->client, r->server_port);
	if (r->state == RELAY_DIALS && (!reason || reason == ABI_NEEDS_WORKER))
		r->guarded = reason; /* no byte has passed: each request is asked, or none any more */
	else if (reason)
		relay_close(r, ABI_POLICY_CHANGED, NULL);
}

/* ------------------------------------------------------------------ what people see */

static const char *waits(const struct relay *r)
{
	struct hbone_stream_view v;

	if (r->state == RELAY_DIALS)
		return "server";
	for (int i = 0; i < 2; i++) {
		bool hbone = (r->kind == RELAY_TUNNEL && i == RELAY_SERVER) ||
			     (r->kind == RELAY_HBONE && i == RELAY_CLIENT);

		if (hbone) {
			hbone_stream_look(r->side[i], &v);
			return v.waits;
		}
	}
	return "nothing";
}

void relay_row(const struct relay *r, struct relay_row *ret)
{
	const struct view_peer *peer = NULL;

	*ret = (struct relay_row){
		.kind = r->kind,
		.open = r->state == RELAY_OPEN,
		.thread = r->site->thread->index,
		.netns = r->netns,
		.tuple = r->tuple,
		.client = r->client,
		.server = r->server,
		.client_port = r->client_port,
		.server_port = r->server_port,
		.service = r->service,
		.sent = r->bytes[RELAY_CLIENT],
		.received = r->bytes[RELAY_SERVER],
		.opened_ns = r->opened_ns,
		.waits = waits(r),
	};
	if (r->kind == RELAY_HBONE || r->kind == RELAY_PLAIN) { /* the kernel's record is of our socket to the app */
		ret->tuple = (struct abi_tuple){.src = r->client, .dst = r->server, .dst_port = r->server_port};
		if (r->side[RELAY_SERVER] &&
		    !sock_local(sock_fd(r->side[RELAY_SERVER]), &ret->tuple.src, &ret->tuple.src_port))
			ret->client_port = ret->tuple.src_port;
	}
	if (r->kind == RELAY_HBONE) {
		text_copy(ret->peer, sizeof(ret->peer), r->peer->spiffe);
	} else if (r->kind == RELAY_TUNNEL || r->kind == RELAY_LOCAL) {
		peer = view_peer(r->site->view, &r->server);
	}
	if (peer)
		text_copy(ret->peer, sizeof(ret->peer), peer->spiffe);
}
