// SPDX-License-Identifier: Apache-2.0
/* dial.c: the server's side of a relay: a socket or a tunnel, then what it says. Lives until that stands or fails. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"
#include "parts.h"

#define DIAL_NS 20000000000ull	  /* until there is a socket or a tunnel; those have deadlines of their own */
#define CONNECT_NS 10000000000ull /* TCP */

struct dial {
	struct relay *relay;
	struct socket_wait socket;
	struct tunnel_wait tunnel;
	struct loop_timer deadline;
	struct abi_own own;
	struct hbone_request ask;
	char authority[ADDR_PORT_TEXT], forwarded[ADDR_PORT_TEXT + 16], baggage[256], trace[56];
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
		if (!err)
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
	const char *pod = strchr(from->name, '/');

	authority_text(&r->server, r->server_port, d->authority);
	(void)forwarded_text(&r->client, r->client_port, NULL, d->forwarded, sizeof(d->forwarded));
	snprintf(d->baggage, sizeof(d->baggage), "k8s.namespace.name=%s,k8s.pod.name=%s", from->namespace,
		 pod ? pod + 1 : "");
	snprintf(d->trace, sizeof(d->trace), "00-%016llx%016llx-%016llx-00", (unsigned long long)id[0],
		 (unsigned long long)id[1] | 1, (unsigned long long)id[2] | 1);
	d->ask = (struct hbone_request){.authority = d->authority,
					.forwarded = d->forwarded,
					.baggage = d->baggage,
					.traceparent = d->trace};
}

void dial_tunnel(struct relay *r, const struct view_pod *from, const struct view_peer *to)
{
	struct dial *d = dial_new(r);
	const struct tunnel_key key = {.source = from->spiffe,
				       .server = to->spiffe,
				       .addr = to->addr,
				       .from = r->client,
				       .netns = r->netns,
				       .generation = to->generation,
				       .port = HBONE_PORT};

	describe(d, from);
	d->tunnel.ask = &d->ask;
	d->tunnel.done = tunnel_came;
	tunnels_connect(r->site->tunnels, &key, &d->tunnel);
}
