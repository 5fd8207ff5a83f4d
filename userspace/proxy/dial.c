/* SPDX-License-Identifier: Apache-2.0 */
/* dial.c: the server's side of a relay: a socket or a tunnel, then what it says. Lives until that stands or fails. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"
#include "parts.h"

#define DIAL_NS 20000000000ull	  /* until there is a socket or a tunnel; those have deadlines of their own */
#define TRIES 3			  /* of a CONNECT that the peer did not look at */
#define CONNECT_NS 10000000000ull /* TCP */

struct dial {
	struct relay *relay;
	struct socket_wait socket;
	struct tunnel_wait tunnel;
	struct loop_timer deadline;
	unsigned tries;
	struct abi_own own;
	struct hbone_request ask;
	char authority[ADDR_PORT_TEXT], forwarded[ADDR_PORT_TEXT + 16], baggage[BAGGAGE], trace[56];
};

static void deadline_due(struct loop_timer *t)
{
	struct dial *d = container_of(t, struct dial, deadline);

	relay_close(d->relay, d->relay->kind == RELAY_TUNNEL ? ABI_TUNNEL_FAILED : ABI_UNREACHABLE,
		    "no socket in time");
}

static void dial_end(struct relay *r)
{
	struct dial *d = r->dial;

	r->dial = NULL;
	socket_pool_cancel(&d->socket);
	tunnels_cancel(&d->tunnel);
	loop_disarm(r->site->thread->loop, &d->deadline);
	free(d);
}

static struct dial *dial_new(struct relay *r)
{
	struct dial *d = mem_alloc(sizeof(*d));

	d->relay = r;
	d->deadline.due = deadline_due;
	loop_arm(r->site->thread->loop, &d->deadline, DIAL_NS);
	r->dial = d;
	r->dial_end = dial_end;
	return d;
}

/* ------------------------------------------------------------------ sockets */

/* What the supervisor has said of a WIRE_SOCKET_APP */
static const struct abi_own as_made = {.own = 1, .path = ABI_PATH_TUNNEL};

static void socket_came(struct socket_wait *w, int fd)
{
	struct dial *d = container_of(w, struct dial, socket);
	struct relay *r = d->relay;
	struct site *at = r->site;
	int err = fd < 0 ? fd : 0;

	if (!err && d->own.own) {
		/* Where the client's address is the app's own one, it would be a loop: then the app sees its pod. */
		if (!addr_equal(&r->client, &r->server))
			err = socket_pool_bind(fd, &r->client);
		if (!err && memcmp(&d->own, &as_made, sizeof(as_made)))
			err = kernel_update(at->own, &fd, &d->own);
	}
	if (err) {
		if (fd >= 0)
			close(fd);
		log_debug("no socket in a pod: %s", strerror(-err));
		relay_close(r, ABI_UNREACHABLE,
			    fd < 0 ? "no socket in the pod" : "the client's address cannot be bound");
		return;
	}
	loop_disarm(at->thread->loop, &d->deadline);
	relay_dialled(r, sock_connect(at->thread, fd, &r->server, r->server_port, CONNECT_NS));
}

void dial_out(struct relay *r)
{
	struct dial *d = dial_new(r);

	d->socket.got = socket_came;
	socket_pool_take(r->site->sockets, r->netns, WIRE_SOCKET_OUT, !addr_is_v4(&r->server), &d->socket);
}

void dial_app(struct relay *r, const struct abi_own *own)
{
	struct dial *d = dial_new(r);

	d->own = *own;
	d->own.own = 1;
	d->socket.got = socket_came;
	socket_pool_take(r->site->sockets, r->to, WIRE_SOCKET_APP, !addr_is_v4(&r->server), &d->socket);
}

/* ------------------------------------------------------------------ tunnels */

/* xorshift128+ (Vigna 2017): a trace id need not be a secret */
static uint64_t random_next(uint64_t s[2])
{
	uint64_t a = s[0], b = s[1];

	s[0] = b;
	a ^= a << 23;
	s[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
	return s[1] + b;
}

static void tunnel_came(struct tunnel_wait *w, struct stream *s, const char *why)
{
	struct dial *d = container_of(w, struct dial, tunnel);
	struct relay *r = d->relay;

	if (!s) {
		relay_close(r, ABI_TUNNEL_FAILED, why);
		return;
	}
	loop_disarm(r->site->thread->loop, &d->deadline);
	relay_dialled(r, s);
}

static void describe(struct dial *d, const struct view_pod *from)
{
	struct relay *r = d->relay;
	uint64_t *random = r->site->random, id[3] = {random_next(random), random_next(random), random_next(random)};

	authority_text(&r->server, r->server_port, d->authority);
	(void)forwarded_text(&r->client, r->client_port, NULL, d->forwarded, sizeof(d->forwarded));
	relay_baggage(from, d->baggage);
	snprintf(d->trace, sizeof(d->trace), "00-%016llx%016llx-%016llx-00", (unsigned long long)id[0],
		 (unsigned long long)id[1] | 1, (unsigned long long)id[2] | 1);
	d->ask = (struct hbone_request){.authority = d->authority,
					.forwarded = d->forwarded,
					.baggage = d->baggage,
					.traceparent = d->trace};
}

static void connect_tunnel(struct relay *r, const struct view_pod *from, const struct view_peer *to)
{
	const struct tunnel_key key = {.source = from->spiffe,
				       .server = to->spiffe,
				       .addr = to->addr,
				       .from = r->client,
				       .netns = r->netns,
				       .generation = to->generation,
				       .port = HBONE_PORT};

	tunnels_connect(r->site->tunnels, &key, &r->dial->tunnel);
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

static bool dial_again(struct relay *r, const char *why)
{
	const struct view_pod *from = view_pod(r->site->view, r->netns);
	const struct view_peer *to = view_peer(r->site->view, &r->server);
	struct dial *d = r->dial;

	if (!worth_another(why) || hbone_status(r->side[RELAY_SERVER]) || ++d->tries == TRIES)
		return false;
	if (!from || !to || !to->mesh)
		return false;
	stream_close(r->side[RELAY_SERVER], why);
	r->side[RELAY_SERVER] = NULL;
	loop_arm(r->site->thread->loop, &d->deadline, DIAL_NS);
	connect_tunnel(r, from, to);
	return true;
}

void dial_tunnel(struct relay *r, const struct view_pod *from, const struct view_peer *to)
{
	struct dial *d = dial_new(r);

	describe(d, from);
	d->tunnel.ask = &d->ask;
	d->tunnel.done = tunnel_came;
	r->dial_again = dial_again;
	connect_tunnel(r, from, to);
}
