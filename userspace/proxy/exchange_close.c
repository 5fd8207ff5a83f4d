/* SPDX-License-Identifier: Apache-2.0 */
/* exchange_close.c: how a request ends: its states, weft's own answers, and the one door out. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

#define IDLE_KEPT 64 /* exchanges without a request, kept by a thread */

static struct loop *loop_of(const struct exchange *x)
{
	return x->site->thread->loop;
}

/* ------------------------------------------------------------------ state */

void exchange_set_state(struct exchange *x, enum exchange_state to)
{
	static const uint8_t from[] = {
		[EXCHANGE_NEW] = 0,
		[EXCHANGE_WAITS] = 1u << EXCHANGE_NEW | 1u << EXCHANGE_WAITS | 1u << EXCHANGE_SENT,
		[EXCHANGE_SENT] = 1u << EXCHANGE_WAITS,
		[EXCHANGE_ANSWERED] = 1u << EXCHANGE_SENT,
		[EXCHANGE_REPLIES] = 1u << EXCHANGE_NEW | 1u << EXCHANGE_WAITS | 1u << EXCHANGE_SENT,
		[EXCHANGE_CLOSED] = (1u << EXCHANGE_CLOSED) - 1,
	};

	assert(from[to] & 1u << x->state);
	x->state = to;
}

static void exchange_free(struct loop_task *t)
{
	struct exchange *x = container_of(t, struct exchange, again);
	struct site *at = x->site;

	arena_free(&x->large);
	if (at->exchanges_kept == IDLE_KEPT) {
		arena_free(&x->arena);
		free(x);
		return;
	}
	arena_reset(&x->arena);
	list_add(at->exchanges.next, &x->link); /* the one used last is used next */
	at->exchanges_kept++;
}

void exchanges_free(struct site *at)
{
	list_each_safe(l, next, &at->exchanges) {
		struct exchange *x = container_of(l, struct exchange, link);

		list_del(l);
		arena_free(&x->arena);
		free(x);
	}
	at->exchanges_kept = 0;
}

/* ------------------------------------------------------------------ the end */

/* In the trailers, or in a head that is all there is. */
static int grpc_status(const struct exchange *x)
{
	const struct http_head *said = x->up ? x->up->trailers : x->reply.head;
	const struct http_field *f = said ? http_field(said, HTTP_NAME_GRPC_STATUS, NULL) : NULL;

	return f ? grpc_status_parse(f->value) : x->grpc_status;
}

static void log_end(const struct exchange *x, enum abi_reason reason, const char *why)
{
	enum log_level level = reason && reason != ABI_ANSWERED ? LOG_INFO : LOG_DEBUG;
	const struct serve *v = x->serve;
	const struct view_pod *from;
	char text[ACCESS_TEXT], backend[ABI_NAME_LEN] = "";
	uint64_t now = loop_now(loop_of(x));
	struct access a;

	if (!log_wants(level))
		return;
	from = view_pod(v->site->view, v->caller.netns);
	if (x->target.service)
		snprintf(backend, sizeof(backend), "%s/%s:%u", x->target.namespace, x->target.service, x->target.port);
	a = (struct access){.method = x->head->method_text,
			    .authority = x->head->authority,
			    .path = x->head->path,
			    .id = x->id,
			    .client_version = x->down ? x->head->version : HTTP_1_1,
			    .server_version = x->key.version,
			    .status = x->status,
			    .grpc_status = grpc_status(x),
			    .reason = reason,
			    .why = why,
			    .request_bytes = x->bytes[RELAY_CLIENT],
			    .answer_bytes = x->bytes[RELAY_SERVER],
			    .total_ns = now - x->opened_ns,
			    .backend_ns = x->answered_ns ? x->answered_ns - x->sent_ns : 0,
			    .route = x->route,
			    .rule = x->rule,
			    .backend = *backend ? backend : NULL,
			    .endpoint = x->tried.tries ? &x->key.server : NULL,
			    .endpoint_port = x->key.port,
			    .source = from ? from->spiffe : NULL,
			    .client = &v->caller.tuple.src,
			    .client_port = v->caller.tuple.src_port,
			    .tries = x->tried.tries};
	(void)access_text(&a, text);
	log_line(level, "%s", text);
}

/* The endpoint is asked no more. */
void exchange_leave(struct exchange *x, const char *why)
{
	http_pool_cancel(&x->wait);
	if (x->up)
		stream_close(&x->up->s, why);
	x->up = NULL;
	if (x->load)
		pick_lower(x->load);
	x->load = NULL;
	shares_let_go(x->site->thread, x->place);
	x->place = 0;
}

void exchange_close(struct exchange *x, enum abi_reason reason, const char *why)
{
	struct serve *v = x->serve;
	struct loop *loop = loop_of(x);

	if (x->state == EXCHANGE_CLOSED)
		return;
	if (reason && !why)
		why = reason_name(reason);
	log_end(x, reason, why);
	if (reason)
		relay_count_reason(v->site, reason);
	exchange_set_state(x, EXCHANGE_CLOSED);
	loop_disarm(loop, &x->deadline);
	loop_disarm(loop, &x->backend_deadline);
	if (x->up && !x->up->error)
		x->up->error = H2_CANCEL;
	exchange_leave(x, x->up && x->up->s.ended && x->up->s.finished && !x->cut ? NULL : "the exchange has ended");
	stream_close(&x->down->s, x->cut ? why : NULL);
	x->down = NULL;
	mirrors_end(&x->mirrors, "the request was cut");
	list_del(&x->link);
	v->caller.sent += x->bytes[RELAY_CLIENT];
	v->caller.received += x->bytes[RELAY_SERVER];
	x->serve = NULL;
	loop_cancel(loop, &x->again);
	x->again.run = exchange_free;
	loop_defer(loop, &x->again);
}

/* Whoever reads the answer must see that it is not all. */
void exchange_cut(struct exchange *x, enum abi_reason reason, const char *why, uint32_t error)
{
	x->cut = true;
	if (!x->down->error)
		x->down->error = error;
	exchange_close(x, reason, why);
}

/* ------------------------------------------------------------------ weft's own answers */

void exchange_reply_more(struct exchange *x)
{
	const struct http_text *body = &x->reply.body;

	if (x->replied < body->len) {
		struct stream_bytes run = {.data = (uint8_t *)body->at + x->replied, .len = body->len - x->replied};

		if (stream_room(&x->down->s))
			x->replied += stream_write(&x->down->s, &run, 1);
		x->bytes[RELAY_SERVER] = x->replied;
		if (x->replied < body->len)
			return; /* its event comes */
	}
	stream_finish(&x->down->s);
	exchange_close(x, x->failed, x->failed_why);
}

void exchange_reply(struct exchange *x, const struct reply *r, enum abi_reason reason, const char *why)
{
	exchange_set_state(x, EXCHANGE_REPLIES);
	if (x->up && !x->up->error)
		x->up->error = H2_CANCEL;
	exchange_leave(x, "answered by weft");
	loop_disarm(loop_of(x), &x->deadline);
	loop_disarm(loop_of(x), &x->backend_deadline);
	x->reply = *r;
	x->status = r->head->status;
	x->failed = reason;
	x->failed_why = why;
	if (x->changes)
		filter_answer(&x->arena, x->changes, r->head);
	x->down->unread = true;
	http_answer(x->down, r->head);
	exchange_reply_more(x);
}

void exchange_fail(struct exchange *x, enum abi_reason reason, const char *why)
{
	struct reply r;

	if (x->state >= EXCHANGE_ANSWERED) {
		exchange_cut(x, reason, why, H2_INTERNAL_ERROR);
		return;
	}
	r = reply_make(&x->arena, x->head, 0, reason, why, clock_wall());
	exchange_reply(x, &r, reason, why);
}
