/* SPDX-License-Identifier: Apache-2.0 */
/* http2_session.c: one HTTP/2 connection: how it starts, what keeps it alive, how it ends. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http2_parts.h"

/* ------------------------------------------------------------------ the end */

/* In order, as soon as all that we have to say has left. */
static void leave(struct http2 *h)
{
	if (h->doomed)
		return;
	h->doomed = true;
	nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
	http2_settle_later(h);
}

static void fail_all(struct http2 *h)
{
	list_each_safe(at, next, &h->all) {
		struct http2_stream *x = container_of(at, struct http2_stream, link);

		if (x->gone)
			continue; /* it needs the connection no more: what waits in it may still be read */
		http2_stream_gone(x, NGHTTP2_INTERNAL_ERROR);
		if (x->s.why)
			x->s.why = h->why ? h->why : h->user->reason[HTTP2_WHY_CLOSED_HERE];
	}
}

/* The one door out. */
static void end(struct http2 *h)
{
	h->closed = true;
	loop_disarm(h->thread->loop, &h->tick);
	loop_disarm(h->thread->loop, &h->again);
	fail_all(h);
	http2_tell(h);
	http2_offer(h); /* whose answer was whole: what they still say goes nowhere, and needs no connection */
	assert(!h->streams);
	if (!h->cut)
		http2_uncork(h);
	buf_clear(&h->corked, &h->thread->pool);
	buf_clear(&h->out, &h->thread->pool);
	http2_memory_end(h);
	h->below->ready = NULL;
	stream_close(h->below, h->cut ? h->why : NULL);
	h->below = NULL;
	h->user->closed(h, h->why);
	loop_defer(h->thread->loop, &h->end);
}

/* Nothing is to be said or heard any more. What waits for the end of the turn goes down now: is there room for it? */
static bool is_done(struct http2 *h)
{
	if (h->out.len || nghttp2_session_want_read(h->session) || nghttp2_session_want_write(h->session))
		return false;
	http2_uncork(h);
	return !h->out.len;
}

/* Tells what waits, sends what waits, until nothing does. */
void http2_settle(struct http2 *h)
{
	if (h->settling || h->closed)
		return;
	http2_memory_wake(h);
	h->settling = true;
	do {
		http2_tell(h);
		if (h->user->settled && !h->over)
			h->user->settled(h);
		if (h->may_write && !h->over)
			http2_offer(h);
		if (!h->over)
			http2_flush(h);
		if (h->draining && !h->told_draining) {
			h->told_draining = true;
			h->user->draining(h);
		}
		/* A server that drains waits until nothing can be on its way to it any more. */
		if (h->draining && !h->streams && (h->last_goaway || !h->drain_asked))
			leave(h);
		if (h->over)
			break;
	} while (!list_empty(&h->touched) || h->may_write ||
		 (nghttp2_session_want_write(h->session) && !h->out.len));
	if (!h->over && is_done(h))
		http2_end(h, NULL);
	h->settling = false;
	if (h->over) {
		end(h);
		return;
	}
	if (h->more)
		loop_arm(h->thread->loop, &h->again, 0);
	if (!h->corked.len && list_empty(&h->free))
		loop_cancel(h->thread->loop, &h->end); /* the turn's end would find nothing to do */
}

static void free_streams(struct http2 *h)
{
	while (!list_empty(&h->free)) {
		struct http2_stream *x = container_of(h->free.next, struct http2_stream, link);

		list_del(&x->link);
		assert(x->state == HTTP2_FREE && !x->kept.len);
		h->held--;
		free(x);
	}
}

static void on_end_of_turn(struct loop_task *task)
{
	struct http2 *h = container_of(task, struct http2, end);

	http2_settle(h);
	if (!http2_may_wait(h))
		http2_uncork(h);
	else if (!h->again.armed)
		loop_arm(h->thread->loop, &h->again, HTTP2_ACK_NS);
	if (h->closed)
		http2_tell(h); /* the last words of streams that outlive it */
	free_streams(h);
	if (h->closed && !h->held) {
		loop_cancel(h->thread->loop, &h->end);
		free(h->reset_id);
		free(h);
	}
}

/* ------------------------------------------------------------------ the transport */

static void on_below(struct stream *below, unsigned events)
{
	struct http2 *h = below->owner;

	http2_memory_wake(h);
	if (events & STREAM_FAILED) {
		h->cut = true;
		http2_end(h, below->why);
	}
	if ((events & STREAM_DRAINING) && !h->server)
		http2_drain(h);
	if ((events & STREAM_WRITABLE) && !h->over) {
		http2_flush(h);
		h->may_write = true;
	}
	if (!h->over && ((events & STREAM_READABLE) || h->deaf)) {
		h->deaf = false;
		http2_read(h);
	}
	http2_settle(h);
}

static void on_again(struct loop_timer *timer)
{
	struct http2 *h = container_of(timer, struct http2, again);

	http2_memory_wake(h);
	http2_uncork(h);
	http2_read(h);
	http2_settle(h);
}

/* ------------------------------------------------------------------ time */

/* Streams that the owner has left, and whose peer opens no window for their END_STREAM. */
static void tick_streams(struct http2 *h)
{
	list_each_safe(at, next, &h->all) {
		struct http2_stream *x = container_of(at, struct http2_stream, link);

		if (x->state != HTTP2_LEFT)
			continue;
		if (x->ticked)
			http2_stream_reset(x, NGHTTP2_CANCEL);
		x->ticked = true;
	}
}

/*
 * RFC 9113 section 6.5.2: a peer that allows no streams does so for a short time, and one that wants no more ends the
 * connection. So we wait for it, and then do that ourselves. What has not left yet would never leave.
 */
static void tick_shut(struct http2 *h)
{
	bool under_way = false;

	list_each(at, &h->all)
		under_way |= container_of(at, struct http2_stream, link)->exchange.head_sent;
	if (under_way)
		http2_drain(h);
	else
		http2_doom(h, NGHTTP2_NO_ERROR, HTTP2_WHY_SHUT);
}

static void ping(struct http2 *h, uint64_t now)
{
	uint64_t heard = h->heard_ns > h->ping_ns ? h->heard_ns : h->ping_ns;

	if (!h->limit.ping_ns)
		return;
	if (!h->ping_ns && now - h->pinged_ns >= h->limit.ping_ns) {
		h->ping_ns = h->pinged_ns = now;
		nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)HTTP2_PING_ALIVE);
	} else if (h->ping_ns && now > heard && now - heard >= h->limit.ping_timeout_ns) {
		h->cut = true;
		http2_end(h, h->user->reason[HTTP2_WHY_SILENT]);
	}
}

static void on_tick(struct loop_timer *timer)
{
	struct http2 *h = container_of(timer, struct http2, tick);
	uint64_t now = clock_ns();

	loop_arm(h->thread->loop, &h->tick, h->tick_ns);
	if (h->asleep && !h->limit.ping_ns && (!h->limit.idle_ns || now - h->idle_ns < h->limit.idle_ns))
		return; /* of all that follows nothing can be due */
	http2_memory_wake(h);
	if (!h->settings && now - h->born_ns >= HTTP2_SETTINGS_NS) {
		h->cut = true;
		http2_end(h, h->user->reason[HTTP2_WHY_NO_SETTINGS]);
	}
	if (h->limit.head_ns && h->head_ns && now - h->head_ns >= h->limit.head_ns)
		http2_doom(h, NGHTTP2_ENHANCE_YOUR_CALM, HTTP2_WHY_SLOW_HEAD);
	if (h->doomed) { /* since at least a tick: he does not take our GOAWAY */
		h->cut |= h->doomed_ticks;
		if (h->doomed_ticks)
			http2_end(h, h->why);
		h->doomed_ticks = true;
	}
	tick_streams(h);
	if (h->shut_ns && now - h->shut_ns >= h->limit.ping_timeout_ns)
		tick_shut(h);
	ping(h, now);
	if (h->limit.idle_ns && !h->streams && now - h->idle_ns >= h->limit.idle_ns)
		leave(h);
	if (h->drain_asked && !h->last_goaway && now - h->drain_ns >= h->limit.ping_timeout_ns)
		h->last_goaway = true; /* he does not answer; GOAWAY was sent */
	http2_settle(h);
}

/* ------------------------------------------------------------------ the start */

static void start_session(struct http2 *h)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h->window_start},
		{NGHTTP2_SETTINGS_MAX_FRAME_SIZE, h->limit.frame_size},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h->limit.head_bytes},
		{NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
		/* The server's: tell_limit() of http2_send.c says what the peer reads. The client's: no push. */
		{h->server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS : NGHTTP2_SETTINGS_ENABLE_PUSH,
		 h->server ? h->limit.streams + HTTP2_SLICE_FRAMES : 0},
		{NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}, /* the last: not every user wants it */
	};
	bool extended = h->server && h->user->extended_connect;
	nghttp2_session_callbacks *calls;
	nghttp2_option *option;
	unsigned type;
	int r;

	if (nghttp2_session_callbacks_new(&calls) || nghttp2_option_new(&option))
		abort(); /* out of memory */
	http2_send_callbacks(calls);
	http2_receive_callbacks(calls);
	for (type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++)
		nghttp2_option_set_user_recv_extension_type(option, (uint8_t)type); /* ignored, but counted */
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	nghttp2_option_set_max_outbound_ack(option, HTTP2_SLICE_FRAMES);
	/* Ours is glitch(), which knows a stream that served from one that was only opened. */
	nghttp2_option_set_stream_reset_rate_limit(option, HTTP2_GLITCHES_SAVED, HTTP2_GLITCHES_SAVED);
	r = http2_memory_session(h, calls, option);
	if (!r)
		http2_frame_limit(h);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(calls);
	if (r)
		abort();
	/* Out of memory is all that could fail here, and shows at the first send. */
	nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
				array_size(settings) - !extended);
	nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, (int32_t)h->limit.connection_window);
}

void http2_start(struct http2 *h, struct thread *t, struct stream *below, const struct http2_user *user,
		 const struct http2_limits *l, bool server)
{
	h->thread = t;
	h->below = below;
	h->user = user;
	h->limit = *l;
	h->server = server;
	list_init(&h->all);
	list_init(&h->touched);
	list_init(&h->waiting);
	list_init(&h->free);
	h->tick.due = on_tick;
	h->again.due = on_again;
	h->end.run = on_end_of_turn;
	h->born_ns = h->heard_ns = h->idle_ns = h->pinged_ns = clock_ns();
	h->glitch_ns = h->reset_ns = loop_now(t->loop);
	h->window_start = l->stream_window < HTTP2_WINDOW_START ? l->stream_window : HTTP2_WINDOW_START;
	h->tick_ns = l->ping_ns ? l->ping_ns : HTTP2_SETTINGS_NS;
	if (l->idle_ns && l->idle_ns < h->tick_ns)
		h->tick_ns = l->idle_ns;
	if (l->head_ns && l->head_ns < h->tick_ns)
		h->tick_ns = l->head_ns;
	h->frame.left = sizeof(NGHTTP2_CLIENT_MAGIC) - 1;
	start_session(h);
	below->owner = h;
	below->ready = on_below;
	loop_arm(t->loop, &h->tick, h->tick_ns);
	http2_memory_idle(h);
	/* The transport may have bytes already, of which no event will tell. */
	h->more = true;
	http2_settle_later(h);
}

/* ------------------------------------------------------------------ questions */

unsigned http2_free(const struct http2 *h)
{
	uint32_t most = h->limit.streams, peer;

	if (h->over || h->draining || h->doomed || h->server || !nghttp2_session_check_request_allowed(h->session))
		return 0;
	/*
	 * Readers who sleep may close the window of all (Envoy's: one stream holds 16 MiB of 24, and what others have
	 * read is told only when it is 12): a new stream would sleep with them.
	 */
	if (nghttp2_session_get_remote_window_size(h->session) < HTTP2_RECORD)
		return 0;
	peer = nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	if (most > peer)
		most = peer;
	return most > h->streams ? most - h->streams : 0;
}

const char *http2_waits(const struct http2 *h)
{
	if (h->over || h->asleep)
		return "nothing";
	if (h->out.len)
		return "socket";
	return nghttp2_session_get_remote_window_size(h->session) > 0 ? "nothing" : "window of the peer";
}

const char *http2_stream_waits(const struct http2_stream *x)
{
	if (x->kept.len)
		return "reader";
	if (x->gone || !x->h->session || list_empty(&x->waiting))
		return "nothing";
	if (!x->writable)
		return "answer";
	if (nghttp2_session_get_stream_remote_window_size(x->h->session, x->id) <= 0)
		return "window of the peer";
	return http2_waits(x->h);
}

/* ------------------------------------------------------------------ what the owner does */

void http2_drain(struct http2 *h)
{
	if (h->drain_asked || h->over)
		return;
	http2_memory_wake(h);
	h->drain_asked = h->draining = true;
	h->drain_ns = clock_ns();
	if (h->server) {
		/* RFC 9113 section 6.8: first that there will be an end, then, when he has heard of it, which. */
		nghttp2_submit_shutdown_notice(h->session);
		nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)HTTP2_PING_DRAIN);
	} else {
		h->last_goaway = true;
		nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
	}
	http2_settle_later(h);
}

void http2_close(struct http2 *h, const char *why)
{
	if (h->over)
		return;
	http2_memory_wake(h);
	if (!h->doomed) {
		h->doomed = true;
		nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
		http2_flush(h);
	}
	h->why = why;
	http2_end(h, why);
	loop_defer(h->thread->loop, &h->end);
}
