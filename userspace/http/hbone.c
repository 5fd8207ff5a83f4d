/* SPDX-License-Identifier: Apache-2.0 */
/* hbone.c: one HTTP/2 connection of tunnels: how it starts, what keeps it alive, how it ends. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hbone_parts.h"

/* ------------------------------------------------------------------ the end */

/* In order, as soon as all that we have to say has left. */
static void leave(struct hbone *h)
{
	if (h->doomed)
		return;
	h->doomed = true;
	nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
	hbone_settle_later(h);
}

static void fail_all(struct hbone *h, struct list *all)
{
	list_each_safe(at, next, all) {
		struct tunnel *t = container_of(at, struct tunnel, link);

		if (t->gone)
			continue; /* it needs the connection no more: what waits in it may still be read */
		tunnel_gone(t, NGHTTP2_INTERNAL_ERROR);
		if (t->s.why)
			t->s.why = h->why ? h->why : "hbone: the connection was closed";
	}
}

/* The one door out. */
static void end(struct hbone *h)
{
	h->closed = true;
	loop_disarm(h->thread->loop, &h->tick);
	loop_disarm(h->thread->loop, &h->answer);
	loop_disarm(h->thread->loop, &h->again);
	fail_all(h, &h->asking);
	fail_all(h, &h->tunnels);
	hbone_tell(h);
	assert(!h->streams);
	buf_clear(&h->out, &h->thread->pool);
	nghttp2_session_del(h->session);
	h->session = NULL;
	h->below->ready = NULL;
	stream_close(h->below, h->cut ? h->why : NULL);
	h->below = NULL;
	h->events->closed(h, h->why);
	loop_defer(h->thread->loop, &h->end);
}

/* Tells what waits, sends what waits, until nothing does. */
static void settle(struct hbone *h)
{
	if (h->settling || h->closed)
		return;
	h->settling = true;
	do {
		hbone_tell(h);
		if (h->may_write && !h->over)
			hbone_offer(h);
		if (!h->over)
			hbone_flush(h);
		if (h->draining && !h->told_draining) {
			h->told_draining = true;
			h->events->draining(h);
		}
		/* A server that drains waits until nothing can be on its way to it any more. */
		if (h->draining && !h->streams && (h->last_goaway || !h->drain_asked))
			leave(h);
		if (h->over)
			break;
	} while (!list_empty(&h->touched) || h->may_write ||
		 (nghttp2_session_want_write(h->session) && !h->out.len));
	if (!h->over && !h->out.len && !nghttp2_session_want_read(h->session) &&
	    !nghttp2_session_want_write(h->session))
		hbone_end(h, NULL);
	h->settling = false;
	if (h->over)
		end(h);
	else if (h->more)
		loop_arm(h->thread->loop, &h->again, 0);
}

static void free_tunnels(struct hbone *h)
{
	while (!list_empty(&h->free)) {
		struct tunnel *t = container_of(h->free.next, struct tunnel, link);

		list_del(&t->link);
		assert(t->state == TUNNEL_FREE && !t->kept.len);
		h->held--;
		free(t);
	}
}

static void on_end_of_turn(struct loop_task *task)
{
	struct hbone *h = container_of(task, struct hbone, end);

	settle(h);
	if (h->closed)
		hbone_tell(h); /* the last words of tunnels that outlive it */
	free_tunnels(h);
	if (h->closed && !h->held) {
		loop_cancel(h->thread->loop, &h->end);
		free(h);
	}
}

/* ------------------------------------------------------------------ the transport */

static void on_below(struct stream *below, unsigned events)
{
	struct hbone *h = below->owner;

	if (events & STREAM_FAILED) {
		h->cut = true;
		hbone_end(h, below->why);
	}
	if ((events & STREAM_WRITABLE) && !h->over) {
		hbone_flush(h);
		h->may_write = true;
	}
	if (!h->over && ((events & STREAM_READABLE) || h->deaf)) {
		h->deaf = false;
		hbone_read(h);
	}
	settle(h);
}

static void on_again(struct loop_timer *timer)
{
	struct hbone *h = container_of(timer, struct hbone, again);

	hbone_read(h);
	settle(h);
}

/* ------------------------------------------------------------------ time */

static void arm_answer(struct hbone *h)
{
	uint64_t now = loop_now(h->thread->loop), due;
	struct tunnel *first;

	if (list_empty(&h->asking)) {
		loop_disarm(h->thread->loop, &h->answer);
		return;
	}
	first = container_of(h->asking.next, struct tunnel, link);
	due = first->asked_ns + h->limit.answer_ns;
	loop_arm(h->thread->loop, &h->answer, due > now ? due - now : 1);
}

static void on_answer_due(struct loop_timer *timer)
{
	struct hbone *h = container_of(timer, struct hbone, answer);
	uint64_t now = loop_now(h->thread->loop);

	list_each_safe(at, next, &h->asking) {
		struct tunnel *t = container_of(at, struct tunnel, link);

		if (t->asked_ns + h->limit.answer_ns > now)
			break;
		list_del(&t->link);
		list_add(&h->tunnels, &t->link);
		tunnel_fail(t, "hbone: no answer to CONNECT in time");
		tunnel_reset(t, NGHTTP2_CANCEL);
	}
	arm_answer(h);
	settle(h);
}

/* Tunnels that the owner has left, and whose peer opens no window for their END_STREAM. */
static void tick_tunnels(struct hbone *h)
{
	list_each_safe(at, next, &h->tunnels) {
		struct tunnel *t = container_of(at, struct tunnel, link);

		if (t->state != TUNNEL_LEFT)
			continue;
		if (t->ticked)
			tunnel_reset(t, NGHTTP2_CANCEL);
		t->ticked = true;
	}
}

static void ping(struct hbone *h, uint64_t now)
{
	uint64_t heard = h->heard_ns > h->ping_ns ? h->heard_ns : h->ping_ns;

	if (!h->ping_ns && now - h->pinged_ns >= h->limit.ping_ns) {
		h->ping_ns = h->pinged_ns = now;
		nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)HBONE_PING_ALIVE);
	} else if (h->ping_ns && now > heard && now - heard >= h->limit.ping_timeout_ns) {
		h->cut = true;
		hbone_end(h, "hbone: the peer is silent");
	}
}

static void on_tick(struct loop_timer *timer)
{
	struct hbone *h = container_of(timer, struct hbone, tick);
	uint64_t now = clock_ns();

	loop_arm(h->thread->loop, &h->tick, h->tick_ns);
	if (!h->settings && now - h->born_ns >= HBONE_SETTINGS_NS) {
		h->cut = true;
		hbone_end(h, "hbone: no SETTINGS from the peer in time");
	}
	if (h->doomed) { /* since at least a tick: he does not take our GOAWAY */
		h->cut |= h->doomed_ticks;
		if (h->doomed_ticks)
			hbone_end(h, h->why);
		h->doomed_ticks = true;
	}
	tick_tunnels(h);
	ping(h, now);
	if (h->limit.idle_ns && !h->streams && now - h->idle_ns >= h->limit.idle_ns)
		leave(h);
	if (h->drain_asked && !h->last_goaway && now - h->drain_ns >= h->limit.ping_timeout_ns)
		h->last_goaway = true; /* he does not answer; GOAWAY was sent */
	settle(h);
}

/* ------------------------------------------------------------------ the start */

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}

static uint64_t or_ns(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

static void set_limits(struct hbone *h, const struct hbone_limits *l)
{
	struct hbone_limits none = {0};

	if (!l)
		l = &none;
	h->limit = (struct hbone_limits){
		.stream_window = or_default(l->stream_window, 4u << 20),
		.connection_window = or_default(l->connection_window, 16u << 20),
		.frame_size = or_default(l->frame_size, 1u << 20),
		.header_list = or_default(l->header_list, h->server ? 64u << 10 : 16u << 10),
		.streams = or_default(l->streams, h->server ? 200 : 100),
		.ping_ns = or_ns(l->ping_ns, 10000000000ull),
		.ping_timeout_ns = or_ns(l->ping_timeout_ns, 20000000000ull),
		.idle_ns = or_ns(l->idle_ns, h->server ? 0 : 300000000000ull),
		.answer_ns = or_ns(l->answer_ns, 10000000000ull),
	};
	h->window_start = h->limit.stream_window < HBONE_WINDOW_START ? h->limit.stream_window : HBONE_WINDOW_START;
	h->tick_ns = h->limit.ping_ns;
	if (h->limit.idle_ns && h->limit.idle_ns < h->tick_ns)
		h->tick_ns = h->limit.idle_ns;
}

static void start_session(struct hbone *h)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h->window_start},
		{NGHTTP2_SETTINGS_MAX_FRAME_SIZE, h->limit.frame_size},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h->limit.header_list},
		{NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
		/* The server's: tell_limit() of hbone_send.c says what the peer reads. The client's: no push. */
		{h->server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS : NGHTTP2_SETTINGS_ENABLE_PUSH,
		 h->server ? h->limit.streams + HBONE_SLICE_FRAMES : 0},
	};
	nghttp2_session_callbacks *calls;
	nghttp2_option *option;
	unsigned type;
	int r;

	if (nghttp2_session_callbacks_new(&calls) || nghttp2_option_new(&option))
		abort(); /* out of memory */
	hbone_send_callbacks(calls);
	hbone_receive_callbacks(calls);
	for (type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++)
		nghttp2_option_set_user_recv_extension_type(option, (uint8_t)type); /* ignored, but counted */
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	nghttp2_option_set_max_outbound_ack(option, HBONE_SLICE_FRAMES);
	/* Ours is glitch(), which knows a tunnel that served from one that was only opened. */
	nghttp2_option_set_stream_reset_rate_limit(option, HBONE_GLITCHES_SAVED, HBONE_GLITCHES_SAVED);
	r = h->server ? nghttp2_session_server_new2(&h->session, calls, h, option)
		      : nghttp2_session_client_new2(&h->session, calls, h, option);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(calls);
	if (r)
		abort();
	/* Out of memory is all that could fail here, and shows at the first send. */
	nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, array_size(settings));
	nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, (int32_t)h->limit.connection_window);
}

static struct hbone *start(struct thread *t, struct stream *below, const struct hbone_limits *l,
			   const struct hbone_events *e, void *owner, bool server)
{
	struct hbone *h = mem_alloc(sizeof(*h));

	h->thread = t;
	h->below = below;
	h->events = e;
	h->owner = owner;
	h->server = server;
	list_init(&h->tunnels);
	list_init(&h->asking);
	list_init(&h->touched);
	list_init(&h->waiting);
	list_init(&h->free);
	h->tick.due = on_tick;
	h->answer.due = on_answer_due;
	h->again.due = on_again;
	h->end.run = on_end_of_turn;
	h->born_ns = h->heard_ns = h->idle_ns = h->pinged_ns = clock_ns();
	h->glitch_ns = loop_now(t->loop);
	set_limits(h, l);
	start_session(h);
	below->owner = h;
	below->ready = on_below;
	loop_arm(t->loop, &h->tick, h->tick_ns);
	/* The transport may have bytes already, of which no event will tell. */
	h->more = true;
	hbone_settle_later(h);
	return h;
}

struct hbone *hbone_client(struct thread *t, struct stream *below, const struct hbone_limits *l,
			   const struct hbone_events *e, void *owner)
{
	return start(t, below, l, e, owner, false);
}

struct hbone *hbone_server(struct thread *t, struct stream *below, const struct hbone_limits *l,
			   const struct hbone_events *e, void *owner)
{
	return start(t, below, l, e, owner, true);
}

/* ------------------------------------------------------------------ questions */

void *hbone_owner(const struct hbone *h)
{
	return h->owner;
}

struct stream *hbone_below(const struct hbone *h)
{
	return h->below;
}

unsigned hbone_streams(const struct hbone *h)
{
	return h->streams;
}

unsigned hbone_free(const struct hbone *h)
{
	uint32_t most = h->limit.streams, peer;

	if (h->over || h->draining || h->doomed || h->server || !nghttp2_session_check_request_allowed(h->session))
		return 0;
	/*
	 * Readers who sleep may close the window of all (Envoy's: one stream holds 16 MiB of 24, and what others have
	 * read is told only when it is 12): a new tunnel would sleep with them.
	 */
	if (nghttp2_session_get_remote_window_size(h->session) < HBONE_RECORD)
		return 0;
	peer = nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	if (most > peer)
		most = peer;
	return most > h->streams ? most - h->streams : 0;
}

static const char *waits_for(const struct hbone *h)
{
	if (h->over)
		return "nothing";
	if (h->out.len)
		return "socket";
	return nghttp2_session_get_remote_window_size(h->session) > 0 ? "nothing" : "window of the peer";
}

void hbone_look(const struct hbone *h, struct hbone_view *ret)
{
	*ret = (struct hbone_view){
		.streams = h->streams,
		.opened = h->opened,
		.age_ns = clock_ns() - h->born_ns,
		.ping_rtt_ns = h->rtt_ns,
		.draining = h->draining,
		.waits = waits_for(h),
	};
	if (!h->session)
		return;
	ret->send_window = nghttp2_session_get_remote_window_size(h->session);
	ret->recv_window = nghttp2_session_get_local_window_size(h->session);
}

void hbone_stream_look(const struct stream *s, struct hbone_stream_view *ret)
{
	const struct tunnel *t = container_of(s, struct tunnel, s);

	*ret = (struct hbone_stream_view){.waits = t->kept.len ? "reader" : "nothing"};
	if (t->gone || !t->h->session)
		return;
	ret->send_window = nghttp2_session_get_stream_remote_window_size(t->h->session, t->id);
	ret->recv_window = nghttp2_session_get_stream_local_window_size(t->h->session, t->id);
	if (list_empty(&t->waiting) || t->kept.len)
		return;
	ret->waits = t->state < TUNNEL_OPEN ? "answer"
		     : ret->send_window > 0 ? waits_for(t->h)
					    : "window of the peer";
}

int hbone_status(const struct stream *s)
{
	return tunnel_of(s)->status;
}

struct hbone *hbone_of(const struct stream *s)
{
	return tunnel_of(s)->h;
}

const char *hbone_baggage(const struct stream *s)
{
	const struct tunnel *t = tunnel_of(s);

	return t->ask && t->ask->baggage ? t->ask->baggage : "";
}

/* ------------------------------------------------------------------ what the owner does */

struct stream *hbone_connect(struct hbone *h, const struct hbone_request *ask)
{
	nghttp2_nv all[] = {
		FIELD(":method", "CONNECT"),
		FIELD(":authority", ask->authority),
		FIELD("baggage", ask->baggage),
		/* Of no other CONNECT: not worth a place in the table of HPACK. */
		FIELD_FLAGS("forwarded", ask->forwarded, NGHTTP2_NV_FLAG_NO_INDEX),
		FIELD_FLAGS("traceparent", ask->traceparent, NGHTTP2_NV_FLAG_NO_INDEX),
	};
	nghttp2_data_provider data = {.read_callback = hbone_on_read};
	size_t i, count = 0;
	struct tunnel *t;

	if (!hbone_free(h))
		return NULL;
	for (i = 0; i < array_size(all); i++)
		if (all[i].valuelen)
			all[count++] = all[i];
	t = tunnel_new(h, 0);
	data.source.ptr = t;
	t->id = nghttp2_submit_request(h->session, NULL, all, count, &data, t);
	if (t->id < 0) { /* stream ids have run out, which takes 2^30 of them */
		h->draining = true;
		h->streams--;
		h->held--;
		h->opened--;
		free(t);
		hbone_settle_later(h);
		return NULL;
	}
	t->ask = mem_alloc(sizeof(*t->ask));
	t->asked_ns = loop_now(h->thread->loop);
	list_add(&h->asking, &t->link);
	if (!h->answer.armed)
		arm_answer(h);
	hbone_settle_later(h);
	return &t->s;
}

void hbone_drain(struct hbone *h)
{
	if (h->drain_asked || h->over)
		return;
	h->drain_asked = h->draining = true;
	h->drain_ns = clock_ns();
	if (h->server) {
		/* RFC 9113 section 6.8: first that there will be an end, then, when he has heard of it, which. */
		nghttp2_submit_shutdown_notice(h->session);
		nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, (const uint8_t *)HBONE_PING_DRAIN);
	} else {
		h->last_goaway = true;
		nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
	}
	hbone_settle_later(h);
}

void hbone_close(struct hbone *h, const char *why)
{
	if (h->over)
		return;
	if (!h->doomed) {
		h->doomed = true;
		nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
		hbone_flush(h);
	}
	h->why = why;
	hbone_end(h, why);
	loop_defer(h->thread->loop, &h->end);
}
