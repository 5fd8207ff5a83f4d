/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_body.c: the bodies of a request and its answer, each from one stream to the other, and how both end.
 *
 * An answer may be complete before its request is: the request goes on for as long as the endpoint takes it, and not
 * for ever. A request may be complete long before its answer.
 */
#include "exchange.h"

#define NEEDLESS_NS 30000000000ull /* for what follows of a request that was answered already */

/* true: stopped for others' sake, there may be more */
static bool pump(struct exchange *x, struct http_exchange *in, struct http_exchange *out, uint64_t *bytes)
{
	bool request = in == x->down && !list_empty(&x->mirrors);

	switch (stream_pump_heard(&in->s, &out->s, bytes, request ? mirrors_feed : NULL, &x->mirrors)) {
	case STREAM_PUMP_MORE:
		return true;
	case STREAM_PUMP_ENDED:
		if (in->trailers)
			http_trailers(out, in->trailers->field, in->trailers->fields);
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

void exchange_pump_answer(struct exchange *x)
{
	if (!x->down->s.finished)
		(void)pump(x, x->up, x->down, &x->bytes[RELAY_SERVER]);
	loop_defer(x->site->thread->loop, &x->again);
}

void exchange_pump(struct exchange *x)
{
	struct loop *loop = x->site->thread->loop;
	bool more = false;

	if (!x->up->s.finished)
		more = pump(x, x->down, x->up, &x->bytes[RELAY_CLIENT]);
	if (x->state == EXCHANGE_ANSWERED && !x->down->s.finished)
		more = pump(x, x->up, x->down, &x->bytes[RELAY_SERVER]) || more;
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
