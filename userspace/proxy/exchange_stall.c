/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_stall.c: requests of which bytes wait that nobody takes: a client that keeps its HTTP/2 window shut or never
 * reads, a backend that does not take the body. They would hold both sides for ever.
 *
 * Who is merely quiet stalls nothing: a stream of gRPC without a message, a backend that thinks. So no request pays for
 * a timer: all of a thread are looked at now and then, and only one that could move and did not, since the last looks,
 * ends.
 */
#include "exchange.h"

#define LOOKS 4 /* in the time of a stall */

static void arm(struct site *at, uint64_t stall_ns)
{
	struct loop *loop = at->thread->loop;

	if (!at->stalls.armed || at->stalls.due_ns > loop_now(loop) + stall_ns / LOOKS)
		loop_arm(loop, &at->stalls, stall_ns / LOOKS);
}

void stall_watch(struct exchange *x, uint64_t stall_ns)
{
	x->stall_ns = stall_ns;
	if (stall_ns)
		arm(x->site, stall_ns);
}

/*
 * `in` has bytes, and `out` no room for them. Or `in` has ended, which is seen here first: nobody reads where there is
 * no room, and the end of a message of HTTP/2 needs none.
 */
static bool waits(struct exchange *x, struct http_exchange *in, struct http_exchange *out)
{
	struct stream_bytes run[STREAM_RUNS];

	if (out->s.finished || stream_room(&out->s))
		return false;
	if (stream_peek(&in->s, run, 1)) {
		stream_consume(&in->s, 0);
		return true;
	}
	if (in->s.ended)
		loop_defer(x->site->thread->loop, &x->again);
	return false;
}

/* NULL: nobody is waited for. */
static const char *who(struct exchange *x)
{
	if (x->state == EXCHANGE_REPLIES || (x->state == EXCHANGE_ANSWERED && waits(x, x->up, x->down)))
		return "the client does not take the answer";
	if (x->up && !x->needless && waits(x, x->down, x->up))
		return "the backend does not take the request";
	return NULL;
}

static void look(struct exchange *x, uint64_t now)
{
	uint64_t moved = x->bytes[RELAY_CLIENT] + x->bytes[RELAY_SERVER];
	const char *why = who(x);

	if (!why || moved != x->moved) {
		x->moved = moved;
		x->stalled_ns = why ? now : 0;
	} else if (!x->stalled_ns) {
		x->stalled_ns = now;
	} else if (now - x->stalled_ns >= x->stall_ns && x->state == EXCHANGE_SENT) {
		exchange_fail(x, ABI_STALLED, why);
	} else if (now - x->stalled_ns >= x->stall_ns) {
		exchange_cut(x, ABI_STALLED, why, H2_CANCEL);
	}
}

static void look_at_exchange(struct list *l, void *arg)
{
	struct exchange *x = container_of(l, struct exchange, link);
	uint64_t *least = arg, stall_ns = x->stall_ns;

	if (!stall_ns)
		return;
	if (!*least || *least > stall_ns)
		*least = stall_ns;
	look(x, loop_now(x->site->thread->loop));
}

static void look_at_serve(struct list *l, void *arg)
{
	list_visit(&container_of(l, struct serve, link)->exchanges, look_at_exchange, arg);
}

static void stalls_due(struct loop_timer *t)
{
	struct site *at = container_of(t, struct site, stalls);
	uint64_t least = 0;

	list_visit(&at->serves, look_at_serve, &least);
	if (least)
		arm(at, least);
}

void stalls_start(struct site *at)
{
	at->stalls.due = stalls_due;
}
