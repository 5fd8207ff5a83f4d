/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_body.c: the bodies of a request and its answer, each from one stream to the other, and how both end.
 *
 * An answer may be complete before its request is: the request goes on for as long as the endpoint takes it, and not
 * for ever. A request may be complete long before its answer.
 *
 * Sockets of a thread read into one buffer, and a codec lends what lies there while it tells of it. So within an event
 * only who tells is read from; the other direction waits for the end of the turn.
 */
#include "exchange.h"

#define NEEDLESS_NS 30000000000ull /* for what follows of a request that was answered already */

static void pass_trailers(struct exchange *x, const struct http_exchange *in, struct http_exchange *out)
{
	enum forwarded_trust trust = x->serve->caller.edge ? FORWARDED_REPLACE : FORWARDED_KEEP;
	const struct http_head *t = x->trailers;

	if (in != x->down || !in->trailers) {
		http_pass_trailers(in, out);
		return;
	}
	if (!t)
		t = forwarded_trailers(&x->arena, in->trailers, trust);
	if (t != in->trailers) /* else they are the codec's, which may take them away */
		x->trailers = t;
	http_trailers(out, t->field, t->fields);
}

/* true: stopped for others' sake, there may be more */
static bool pump(struct exchange *x, struct http_exchange *in, struct http_exchange *out, uint64_t *bytes)
{
	bool request = in == x->down && !list_empty(&x->mirrors);

	pass_trailers(x, in, out); /* if they came with what is left of the body, they leave with it */
	switch (stream_pump_heard(&in->s, &out->s, bytes, request ? mirrors_feed : NULL, &x->mirrors)) {
	case STREAM_PUMP_MORE:
		return true;
	case STREAM_PUMP_ENDED:
		pass_trailers(x, in, out);
		if (request)
			mirrors_end(&x->mirrors, NULL);
		stream_finish(&out->s);
		return false;
	default:
		return false;
	}
}

static bool complete(const struct http_exchange *in, const struct http_exchange *out)
{
	return in->s.ended && out->s.finished;
}

static void look(struct exchange *x, bool more)
{
	struct loop *loop = x->site->thread->loop;

	if (x->state == EXCHANGE_ANSWERED && complete(x->up, x->down)) {
		if (complete(x->down, x->up)) {
			exchange_close(x, ABI_NONE, NULL);
			return;
		}
		if (!x->needless) {
			x->needless = true;
			loop_disarm(loop, &x->deadline);
			loop_arm(loop, &x->backend_deadline, NEEDLESS_NS);
		}
	}
	if (more)
		loop_defer(loop, &x->again);
}

static bool pump_request(struct exchange *x)
{
	return !x->up->s.finished && pump(x, x->down, x->up, &x->bytes[RELAY_CLIENT]);
}

static bool pump_answer(struct exchange *x)
{
	return x->state == EXCHANGE_ANSWERED && !x->down->s.finished &&
	       pump(x, x->up, x->down, &x->bytes[RELAY_SERVER]);
}

void exchange_pump_request(struct exchange *x)
{
	look(x, pump_request(x));
}

void exchange_pump_answer(struct exchange *x)
{
	look(x, pump_answer(x));
}

void exchange_pump(struct exchange *x)
{
	bool more = pump_request(x);

	more = pump_answer(x) || more;
	look(x, more);
}
