/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1.c: connections of HTTP/1 and their exchanges, one at a time: how they begin, what time does to them, how they
 * end.
 *
 *	server:	idle --head--> exchange --both sides have ended, its owner closed it--> idle, or the end
 *	client:	idle --http_request()--> exchange --the same--> idle, or the end
 *
 * Everything is done in settle(): when the transport tells something, or as the turn ends; so no event comes from
 * within a call of the owner's. An idle connection is a struct and nothing else, and a server's owner may do without
 * that one too. A request that came before the exchange has ended waits in the transport.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http1_parts.h"

#define PASSES 4 /* of settle(), before others have their turn */

static struct http1 *of(const struct http_connection *c)
{
	return container_of(c, struct http1, c);
}

/* ------------------------------------------------------------------ exchanges */

static void free_message(struct http1_message *m)
{
	arena_free(&m->arena);
	free(m->trailers);
	free(m);
}

/* When the turn ends. */
static void bury(struct http1 *h, struct http1_message *m)
{
	m->dead = h->dead;
	h->dead = m;
	loop_defer(h->c.thread->loop, &h->task);
}

/*
 * An answer that its end alone shows to be cut (RFC 9112 section 8): what was read of it is delivered, its head first,
 * which a reset could overtake.
 */
static bool end_shows_the_cut(const struct http1_message *m)
{
	return m->writing == FRAME_CHUNKED || (m->writing == FRAME_LENGTH && m->write_left);
}

static void close_cut(struct http1 *h, const char *why)
{
	h->why = why;
	h->closing = true;
	http1_deadline(h, h->head_ns);
}

static void close_message(struct stream *s, const char *why)
{
	struct http1_message *m = container_of(s, struct http1_message, x.s);
	struct http1 *h = m->h;
	bool tunnel = m->reading == READ_TUNNEL || h->finish_below;

	assert(!m->left);
	m->left = true;
	s->ready = NULL;
	if (h->closed) {
		h->m = NULL;
		bury(h, m);
		return;
	}
	m->read_most = s->read_bytes + HTTP1_DRAIN;
	h->readable = true;
	http1_later(h);
	if (h->over || h->closing || http1_complete(m))
		return;
	if (tunnel && m->writing == FRAME_DONE && !why) /* the peer may go on for a while: the transport knows how */
		h->closing = true;
	else if (h->c.server && end_shows_the_cut(m))
		close_cut(h, why ? why : "http1: the answer was cut");
	else if (h->c.server && m->writing != FRAME_DONE)
		http1_end(h, why ? why : "http1: the answer was cut", true);
	else if (!h->c.server || tunnel)
		http1_end(h, why ? why : "http1: the exchange was left", true);
	else if (!h->keep && !m->x.unread)
		h->closing = true;
	else /* who hears that it ends, and what of the rest, is not to hear it by a reset */
		http1_deadline(h, h->head_ns);
}

static size_t kept(const struct http_connection *c)
{
	return buf_kept(&of(c)->out) + (c->below ? stream_kept(c->below) : 0);
}

/* It has the connection for itself. */
static size_t message_kept(const struct stream *s)
{
	return kept(&container_of(s, struct http1_message, x.s)->h->c);
}

static const struct stream_ops body_ops = {
	.peek = http1_peek,
	.consume = http1_consume,
	.room = http1_room,
	.write = http1_write,
	.finish = http1_finish,
	.close = close_message,
	.kept = message_kept,
};

/* Of a body that nobody wants: is it all there, or at least known to be no more than is read over? */
static bool small_rest(struct http1_message *m)
{
	m->read_most = m->x.s.read_bytes + HTTP1_DRAIN;
	if (m->h->tells && m->reading > READ_ASKED && !http1_read_over(m))
		return false;
	return m->reading == READ_ENDED || m->reading == READ_TRAILERS || m->reading <= READ_ASKED ||
	       (m->reading == READ_LENGTH && m->read_left <= HTTP1_DRAIN);
}

static void answer(struct http_exchange *x, const struct http_head *head)
{
	struct http1_message *m = http1_of(x);

	if (x->unread)
		m->h->keep &= small_rest(m);
	http1_answer(x, head);
}

static const struct http_exchange_ops exchange_ops = {
	.answer = answer,
	.trailers = http1_trailers,
};

/* Not zeroed as a whole: `lent` is most of it. */
static struct http1_message *new_message(struct http1 *h)
{
	struct http1_message *m = mem_grow(NULL, 1, sizeof(*m));

	memset(m, 0, offsetof(struct http1_message, lent));
	m->h = h;
	m->x.s.ops = &body_ops;
	m->x.s.thread = h->c.thread;
	m->x.connection = &h->c;
	m->x.ops = &exchange_ops;
	return m;
}

static void fail_message(struct http1 *h, struct http1_message *m)
{
	struct http_exchange *x = &m->x;

	m->failed = true;
	x->unprocessed = !h->c.server && !m->started && !x->head_came;
	if (x->unprocessed)
		x->error = HTTP1_REFUSED_STREAM;
	else if (!x->error)
		x->error = HTTP1_CANCEL;
	x->s.why = h->why ? h->why : "http1: the connection was closed";
	if (x->s.ready)
		x->s.ready(&x->s, STREAM_FAILED);
}

/* ------------------------------------------------------------------ settling */

static bool has_body(const struct http1_message *m)
{
	return m->reading > READ_ASKED && m->reading != READ_TRAILERS;
}

static void read_more(struct http1 *h)
{
	struct http1_message *m = h->m;

	h->readable = false;
	if (h->c.server ? !m && !h->out.len : m && m->reading == READ_HEAD)
		http1_read_head(h, new_message);
	else if (m && m->reading == READ_TRAILERS)
		http1_read_trailers(m);
	m = h->m;
	if (h->over || !m || m->failed)
		return;
	if (m->left) {
		if (m->writing == FRAME_DONE && !http1_read_over(m))
			h->closing = true;
	} else if (m->want_read && has_body(m) && m->x.s.ready) {
		m->want_read = false;
		m->x.s.ready(&m->x.s, STREAM_READABLE);
	}
}

static void write_more(struct http1 *h)
{
	struct http1_message *m = h->m;

	if (!m || m->left || m->failed || !m->want_write || h->blocked || m->writing == FRAME_HEAD)
		return;
	if (!stream_room(h->c.below))
		return;
	m->want_write = false;
	if (m->x.s.ready)
		m->x.s.ready(&m->x.s, STREAM_WRITABLE);
}

/* Time runs from now, without an exchange. Its timer is that of the rest, where there is one: see on_timer(). */
static void begin_idle(struct http1 *h)
{
	struct loop *l = h->c.thread->loop;

	h->idle_since_ns = loop_now(l);
	if (h->rest_ns && (!h->timer.armed || h->timer.due_ns > h->idle_since_ns + 2 * h->rest_ns))
		loop_arm(l, &h->timer, h->rest_ns);
	http1_deadline(h, h->draining ? h->c.last_ns : h->idle_ns);
}

/* The exchange is over: the connection is free for another, or has done its work. */
static void retire(struct http1 *h)
{
	struct http1_message *m = h->m;

	if (!m || !m->left || !http1_complete(m) || h->finish_below)
		return;
	http1_look_ahead(h);
	h->m = NULL;
	bury(h, m);
	if (!h->keep || h->peer_ended) {
		h->closing = true;
		return;
	}
	begin_idle(h);
	h->readable = true;
	h->told_free = false;
}

static void tell(struct http1 *h)
{
	const struct http_events *e = h->c.events;

	if (h->refused_why) {
		const char *why = h->refused_why;

		h->refused_why = NULL;
		if (e->refused)
			e->refused(&h->c, h->refused, why);
	}
	if (h->draining && !h->told_draining) {
		h->told_draining = true;
		if (e->draining)
			e->draining(&h->c);
	}
	if (!h->c.server && !h->told_free && h->c.ops->free(&h->c)) {
		h->told_free = true;
		if (e->free)
			e->free(&h->c);
	}
}

/* The server has answered and closed: nobody reads the rest of the request (RFC 9112 section 9.6). */
static bool answered_for_good(const struct http1 *h)
{
	const struct http1_message *m = h->m;

	return !h->c.server && h->peer_ended && m && m->reading == READ_ENDED && m->writing != FRAME_TUNNEL &&
	       m->writing != FRAME_DONE;
}

/* Nothing is under way: the end, if it is time for it. */
static void rest(struct http1 *h)
{
	bool quiet = !h->m && !h->out.len;

	if (h->closing && h->m && !h->m->left && !h->m->failed && !http1_complete(h->m))
		fail_message(h, h->m);
	if (h->closing && !h->out.len && !h->finish_below)
		http1_end(h, h->why, false);
	else if (quiet && h->draining && !h->held && !(h->c.server && h->c.last_ns))
		http1_end(h, NULL, false);
	else if (!h->c.server && !h->m)
		http1_look_ahead(h);
	else if (h->m && h->m->reading == READ_ENDED)
		http1_look_ahead(h);
	if (!h->c.server && !h->m && h->peer_ended)
		http1_end(h, NULL, false);
	else if (!h->over && answered_for_good(h))
		http1_end(h, "http1: the server closed before the request was complete", true);
	if (h->closing && !h->over && !h->deadline_ns) /* who takes the rest has no less time than who is idle */
		http1_deadline(h, h->idle_ns);
}

/* The one door out. */
static void conclude(struct http1 *h)
{
	struct http1_message *m = h->m;
	struct stream *below = h->c.below;
	bool cut = h->cut;

	h->closed = true;
	loop_disarm(h->c.thread->loop, &h->timer);
	free(h->held);
	h->held = NULL;
	if (m && !http1_complete(m)) {
		cut |= !h->closing; /* what was begun must not look complete */
		if (!m->left && !m->failed)
			fail_message(h, m);
	}
	if (cut && h->c.server && !below->why) /* it may arrive before the reset does */
		(void)stream_drain(below, &h->out);
	buf_clear(&h->out, &h->c.thread->pool);
	below->ready = NULL;
	stream_close(below, cut ? (h->why ? h->why : "http1: the exchange was cut") : NULL);
	h->c.below = NULL;
	if (h->m && h->m->left) {
		bury(h, h->m);
		h->m = NULL;
	}
	h->c.events->closed(&h->c, h->why);
	loop_defer(h->c.thread->loop, &h->task);
}

static void settle(struct http1 *h)
{
	unsigned pass;

	if (h->settling || h->closed)
		return;
	h->settling = true;
	for (pass = 0; !h->over && pass < PASSES && (h->readable || !pass); pass++) {
		http1_flush(h);
		if (h->readable && !h->closing)
			read_more(h);
		write_more(h);
		retire(h);
		tell(h);
	}
	if (!h->over)
		http1_flush(h);
	if (!h->over)
		rest(h);
	h->settling = false;
	if (h->over) {
		tell(h);
		conclude(h);
	} else if (h->readable && !h->closing) {
		loop_defer(h->c.thread->loop, &h->task);
	}
}

static void on_task(struct loop_task *task)
{
	struct http1 *h = container_of(task, struct http1, task);
	struct http1_message *dead = h->dead, *next;

	h->dead = NULL;
	if (h->m && h->m->held) {
		http1_look_before(h);
		h->m->held = false;
	}
	settle(h);
	for (; dead; dead = next) {
		next = dead->dead;
		free_message(dead);
	}
	if (!h->closed || h->m)
		return;
	if (h->dead) /* since then */
		loop_defer(h->c.thread->loop, &h->task);
	else if (!h->task.waiting)
		slab_give(&h->c.thread->slab[SLAB_HTTP1], &h->c.thread->pages, h);
}

/* ------------------------------------------------------------------ the transport, time */

static void on_below(struct stream *below, unsigned events)
{
	struct http1 *h = below->owner;

	if (events & STREAM_FAILED)
		http1_end(h, below->why, true);
	if (events & (STREAM_READABLE | STREAM_OPEN)) {
		h->armed = false;
		h->readable = true;
		http1_look_before(h);
	}
	h->draining |= !h->c.server && events & STREAM_DRAINING;
	if (events & (STREAM_WRITABLE | STREAM_OPEN)) {
		h->blocked = false;
		h->readable |= !h->m; /* the next request may have waited for the last answer to leave */
	}
	settle(h);
}

/* `below` alone knows all there is to know, and tells of whatever comes. */
static bool may_rest(const struct http1 *h)
{
	return h->rest_ns && h->c.events->rests && !h->m && !h->held && !h->out.len && !h->dead && h->armed &&
	       !h->readable && !h->peer_ended && !h->refused_why && !h->draining && !h->closing && !h->over &&
	       !h->task.waiting;
}

/* It is early: of a rest, or of a deadline that has moved. */
static void look_at_time(struct http1 *h, uint64_t now)
{
	uint64_t idle = now - h->idle_since_ns, left = h->deadline_ns - now;
	bool rests = may_rest(h);

	if (rests && idle < h->rest_ns && h->rest_ns - idle < left)
		left = h->rest_ns - idle;
	loop_arm(h->c.thread->loop, &h->timer, left);
	if (rests && idle >= h->rest_ns)
		h->c.events->rests(&h->c);
}

static void on_timer(struct loop_timer *timer)
{
	struct http1 *h = container_of(timer, struct http1, timer);
	uint64_t now = loop_now(h->c.thread->loop);

	if (!h->deadline_ns)
		return;
	if (h->deadline_ns > now) {
		look_at_time(h, now);
		return;
	}
	h->deadline_ns = 0;
	if (h->closing)
		http1_end(h, h->why ? h->why : "http1: the peer takes nothing", true);
	else if (h->held)
		http1_refuse(h, 408, "http1: the head did not come in time");
	else if (h->m && h->m->left)
		h->closing = true;
	else if (!h->m)
		http1_end(h, NULL, false);
	settle(h);
}

/* ------------------------------------------------------------------ what the owner does */

static unsigned is_free(const struct http_connection *c)
{
	const struct http1 *h = of(c);

	return !c->server && !h->m && !h->over && !h->closing && !h->draining && h->keep && !h->peer_ended;
}

static unsigned active(const struct http_connection *c)
{
	const struct http1 *h = of(c);

	return h->m && !h->m->left;
}

static struct http_exchange *request(struct http_connection *c, const struct http_head *head, bool end)
{
	struct http1 *h = of(c);
	struct loop *l = c->thread->loop;

	if (!is_free(c))
		return NULL;
	if (loop_now(l) - h->idle_since_ns > HTTP1_STALE_NS && sock_stale(c->below)) {
		http1_end(h, NULL, false);
		return NULL;
	}
	h->m = new_message(h);
	h->m->method = head->method;
	h->m->reading = READ_HEAD;
	h->told_free = true; /* until it was in use */
	http1_deadline(h, 0);
	h->draining |= c->below->draining; /* the last one, then */
	h->m->held = true;
	http1_ask(h->m, head, end);
	loop_defer(l, &h->task);
	return &h->m->x;
}

static void drain(struct http_connection *c)
{
	struct http1 *h = of(c);

	h->draining = true;
	if (c->last_ns && c->server && !h->m && !h->held)
		http1_deadline(h, c->last_ns);
	http1_later(h);
}

static void close_connection(struct http_connection *c, const char *why)
{
	http1_end(of(c), why, why);
}

struct stream *http1_leave(struct http_connection *c)
{
	struct http1 *h = of(c);
	struct stream *below = c->below;

	assert(c->server && may_rest(h));
	h->over = h->closed = true;
	loop_disarm(c->thread->loop, &h->timer);
	c->below = NULL;
	below->ready = NULL;
	loop_defer(c->thread->loop, &h->task);
	return below;
}

/* ------------------------------------------------------------------ the start */

static const struct http_connection_ops ops = {
	.request = request,
	.free = is_free,
	.active = active,
	.drain = drain,
	.close = close_connection,
	.kept = kept,
};

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}

static uint64_t or_ns(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

static void set_limits(struct http1 *h, const struct http_limits *l)
{
	const struct http_limits none = {0};

	if (!l)
		l = &none;
	h->limit.head_bytes = or_default(l->head_bytes, 60u << 10);
	h->limit.line_bytes = or_default(l->line_bytes, 16u << 10);
	h->limit.fields = or_default(l->fields, 100);
	if (h->limit.fields > HTTP1_FIELDS / 2) /* the other half is for who adds some */
		h->limit.fields = HTTP1_FIELDS / 2;
	h->informational = or_default(l->informational, 16);
	h->head_ns = or_ns(l->head_ns, 10000000000ull);
	h->idle_ns = or_ns(l->idle_ns, h->c.server ? 3600000000000ull : 60000000000ull);
	h->rest_ns = h->c.server ? l->rest_ns : 0;
}

static struct http_connection *start(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner, bool server)
{
	struct http1 *h = slab_take(&t->slab[SLAB_HTTP1], &t->pages, sizeof(*h));

	h->c = (struct http_connection){
		.ops = &ops,
		.events = e,
		.thread = t,
		.below = below,
		.owner = owner,
		.version = HTTP_1_1,
		.server = server,
		.settled = true,
	};
	set_limits(h, l);
	h->keep = true;
	h->told_free = true; /* it is, from the start */
	h->readable = true;  /* of what came before, no event will tell */
	h->task.run = on_task;
	h->timer.due = on_timer;
	begin_idle(h);
	below->owner = h;
	below->ready = on_below;
	loop_defer(t->loop, &h->task);
	return &h->c;
}

struct http_connection *http1_server(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner)
{
	return start(t, below, l, e, owner, true);
}

struct http_connection *http1_client(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner)
{
	return start(t, below, l, e, owner, false);
}
