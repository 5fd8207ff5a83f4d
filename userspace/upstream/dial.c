/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dial.c: see dial.h. Lives until the connection stands or is given up: what waits for a socket or a tunnel, then for
 * the stream to open.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dial.h"
#include "kernel.h"

#define DIAL_NS 20000000000ull	  /* until there is a socket or a tunnel; those have deadlines of their own */
#define TRIES 3			  /* of a CONNECT that the peer did not look at */
#define CONNECT_NS 10000000000ull /* TCP */

struct dial {
	struct dialer *dialer;
	struct dial_wait *wait;
	struct dial_plan plan;
	struct stream *stream; /* not open yet */
	struct socket_wait socket;
	struct tunnel_wait tunnel;
	struct loop_timer deadline;
	unsigned tries;
	struct hbone_request ask;
	char authority[ADDR_PORT_TEXT], forwarded[ADDR_PORT_TEXT + 16], baggage[DIAL_BAGGAGE], trace[56];
};

static void dial_free(struct dial *d)
{
	socket_pool_cancel(&d->socket);
	tunnels_cancel(&d->tunnel);
	loop_disarm(d->dialer->thread->loop, &d->deadline);
	free(d);
}

static void dial_done(struct dial *d, struct stream *s, enum abi_reason reason, const char *why)
{
	struct dial_wait *w = d->wait;

	if (!s && d->stream)
		stream_close(d->stream, why);
	w->dial = NULL;
	dial_free(d);
	w->done(w, s, reason, why);
}

void dial_cancel(struct dial_wait *w)
{
	struct dial *d = w->dial;

	if (!d)
		return;
	w->dial = NULL;
	if (d->stream)
		stream_close(d->stream, "not wanted any more");
	dial_free(d);
}

static void deadline_due(struct loop_timer *t)
{
	struct dial *d = container_of(t, struct dial, deadline);

	dial_done(d, NULL, d->plan.kind == DIAL_TUNNEL ? ABI_TUNNEL_FAILED : ABI_UNREACHABLE, "no socket in time");
}

/* ------------------------------------------------------------------ the stream */

static enum abi_reason why_not(const struct dial *d)
{
	if (d->plan.kind != DIAL_TUNNEL)
		return ABI_UNREACHABLE;
	switch (hbone_status(d->stream)) {
	case 401:
		return ABI_PEER_REFUSED;
	case 503:
		return ABI_UNREACHABLE;
	default:
		return ABI_TUNNEL_FAILED;
	}
}

static bool dial_again(struct dial *d);

static void ready(struct stream *s, unsigned events)
{
	struct dial *d = s->owner;

	if (events & STREAM_FAILED) {
		if (!dial_again(d))
			dial_done(d, NULL, why_not(d), s->why);
	} else if (events & STREAM_OPEN) {
		d->stream = NULL;
		dial_done(d, s, ABI_NONE, NULL);
	}
}

static void watch(struct dial *d, struct stream *s)
{
	loop_disarm(d->dialer->thread->loop, &d->deadline);
	d->stream = s;
	s->ready = ready;
	s->owner = d;
}

/* ------------------------------------------------------------------ sockets */

/* What the supervisor has said of a WIRE_SOCKET_APP */
static const struct abi_own as_made = {.own = 1, .path = ABI_PATH_TUNNEL};

/* fd: that it was given; -1: none yet. */
static bool gives_way(const struct dial *d, int fd)
{
	struct thread *t = d->dialer->thread;

	return d->plan.place && shares_scarce(t) && shares_over(t, fd, d->plan.place);
}

static void socket_came(struct socket_wait *w, int fd)
{
	struct dial *d = container_of(w, struct dial, socket);
	const struct dial_plan *p = &d->plan;
	int err = fd < 0 ? fd : 0;

	if (fd >= 0 && gives_way(d, fd)) { /* many came while it waited */
		close(fd);
		dial_done(d, NULL, ABI_OVERLOADED, SHARES_WHY);
		return;
	}
	if (!err && p->kind == DIAL_APP) {
		/* Where the client's address is the app's own one, it would be a loop: then the app sees its pod. */
		if (!addr_equal(&p->client, &p->server))
			err = socket_pool_bind(fd, &p->client);
		if (!err && memcmp(&p->own, &as_made, sizeof(as_made)))
			err = kernel_update(d->dialer->own, &fd, &p->own);
	}
	if (err) {
		if (fd >= 0)
			close(fd);
		log_debug("no socket in a pod: %s", strerror(-err));
		dial_done(d, NULL, ABI_UNREACHABLE,
			  fd < 0 ? socket_pool_why(fd) : "the client's address cannot be bound");
		return;
	}
	watch(d, sock_connect(d->dialer->thread, fd, &p->server, p->server_port, CONNECT_NS));
}

/* ------------------------------------------------------------------ tunnels */

void dial_baggage(const struct view_pod *pod, char buf[DIAL_BAGGAGE])
{
	const char *name = strchr(pod->name, '/');

	snprintf(buf, DIAL_BAGGAGE, "k8s.namespace.name=%s,k8s.pod.name=%s", pod->namespace, name ? name + 1 : "");
}

static void tunnel_came(struct tunnel_wait *w, struct stream *s, const char *why)
{
	struct dial *d = container_of(w, struct dial, tunnel);

	if (s)
		watch(d, s);
	else
		dial_done(d, NULL, ABI_TUNNEL_FAILED, why);
}

static void describe(struct dial *d, const struct view_pod *from)
{
	const struct dial_plan *p = &d->plan;
	struct random *random = &d->dialer->random;
	uint64_t id[3] = {random_next(random), random_next(random) | 1, random_next(random) | 1};
	char *to = mempcpy(d->trace, "00-", 3);

	authority_text(&p->server, p->server_port, d->authority);
	(void)forwarded_text(&p->client, p->client_port, NULL, d->forwarded, sizeof(d->forwarded));
	dial_baggage(from, d->baggage);
	to = text_hex(text_hex(to, id[0], 16), id[1], 16);
	*to++ = '-';
	to = text_hex(to, id[2], 16);
	memcpy(to, "-00", 4);
	d->ask = (struct hbone_request){.authority = d->authority,
					.forwarded = d->forwarded,
					.baggage = d->baggage,
					.traceparent = d->trace};
}

/* The peer did not take the CONNECT, or has gone with its answer: no byte of the app was on its way. */
static bool worth_another(const char *why)
{
	static const char *const reasons[] = {HBONE_UNPROCESSED, HBONE_CLOSED, "reset by peer"};

	for (size_t i = 0; i < array_size(reasons); i++)
		if (!strcmp(why, reasons[i]))
			return true;
	return false;
}

/* A Gateway speaks from whatever address of the node leads there. */
static struct abi_addr unspecified(const struct abi_addr *like)
{
	return addr_is_v4(like) ? (struct abi_addr){.byte = {[10] = 0xff, [11] = 0xff}} : (struct abi_addr){0};
}

/* false: there is no way to it any more. */
static bool connect_tunnel(struct dial *d)
{
	const struct dial_plan *p = &d->plan;
	const struct view_pod *from = view_pod(d->dialer->view, p->netns);
	const struct view_peer *to = view_peer(d->dialer->view, &p->server);
	struct tunnel_key key;

	if (!from || !to || !to->mesh)
		return false;
	if (!d->ask.authority)
		describe(d, from);
	key = (struct tunnel_key){.source = from->spiffe,
				  .server = to->spiffe,
				  .addr = to->addr,
				  .from = from->gateway ? unspecified(&to->addr) : p->client,
				  .netns = p->netns,
				  .generation = to->generation,
				  .port = HBONE_PORT};
	d->tunnel.ask = &d->ask;
	d->tunnel.done = tunnel_came;
	tunnels_connect(d->dialer->tunnels, &key, &d->tunnel);
	return true;
}

static bool dial_again(struct dial *d)
{
	struct stream *s = d->stream;

	if (d->plan.kind != DIAL_TUNNEL || !worth_another(s->why) || hbone_status(s) || ++d->tries == TRIES)
		return false;
	d->stream = NULL;
	loop_arm(d->dialer->thread->loop, &d->deadline, DIAL_NS);
	if (!connect_tunnel(d)) {
		d->stream = s;
		return false;
	}
	stream_close(s, s->why);
	return true;
}

/* ------------------------------------------------------------------ begin */

enum abi_reason dial_choose(const struct dialer *d, const struct view_pod *from, struct dial_plan *plan,
			    const struct view_pod **ret_to)
{
	const struct view_peer *peer = view_peer(d->view, &plan->server);
	const struct view_pod *to;

	*ret_to = NULL;
	plan->netns = from->netns;
	plan->kind = peer && peer->mesh ? DIAL_TUNNEL : DIAL_OUT;
	if (!peer || peer->kind != ABI_KIND_LOCAL_POD)
		return ABI_NONE;
	to = view_pod(d->view, peer->netns);
	if (!to)
		return ABI_POD_GONE;
	plan->kind = DIAL_APP;
	plan->netns = to->netns;
	plan->own.source = from->identity;
	plan->own.path = ABI_PATH_PROXY;
	*ret_to = to;
	return view_allows(to, from->spiffe, &plan->client, plan->server_port);
}

bool dial_blames(enum abi_reason reason, const char *why)
{
	switch (reason) {
	case ABI_UNREACHABLE:
	case ABI_TUNNEL_FAILED:
	case ABI_POD_GONE:
	case ABI_BAD_ANSWER:
	case ABI_OVERLOADED:
		return strcmp(why, SOCK_RESOURCES) && strcmp(why, SHARES_WHY);
	default: /* a policy's word about who asks */
		return false;
	}
}

void dial_begin(struct dialer *d, const struct dial_plan *plan, struct dial_wait *w)
{
	struct dial *new = mem_alloc(sizeof(*new));

	new->dialer = d;
	new->wait = w;
	new->plan = *plan;
	new->plan.own.own = 1;
	new->deadline.due = deadline_due;
	w->dial = new;
	loop_arm(d->thread->loop, &new->deadline, DIAL_NS);
	if (plan->kind != DIAL_TUNNEL && gives_way(new, -1)) {
		dial_done(new, NULL, ABI_OVERLOADED, SHARES_WHY);
	} else if (plan->kind != DIAL_TUNNEL) {
		new->socket.got = socket_came;
		socket_pool_take(d->sockets, plan->netns, plan->kind == DIAL_APP ? WIRE_SOCKET_APP : WIRE_SOCKET_OUT,
				 !addr_is_v4(&plan->server), &new->socket);
	} else if (!connect_tunnel(new)) {
		dial_done(new, NULL, ABI_POD_GONE, "the destination has left the mesh");
	}
}
