/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_send.c: what leaves a connection.
 *
 * A head waits in `out` for the body's first bytes, or for the end of the turn: both leave in one write. So do small
 * pieces. What is larger is never copied: it goes from the writer's memory to the transport while he calls, a chunk's
 * head in the headroom before it. If a full transport takes only a part of a chunk, its rest is still to come
 * (write_left), and the next bytes that the owner gives are it.
 *
 * A small request waits with all of it (`held`): by then each event that came before it was looked at, so that what a
 * server has written into its idle connection is nobody's answer. That costs no system call; a large one asks once.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http1_parts.h"

#define ON_STACK 2048 /* of a head; a larger one is written to the heap */

static struct http1_message *of(struct stream *s)
{
	return container_of(s, struct http1_message, x.s);
}

void http1_later(struct http1 *h)
{
	if (!h->settling)
		loop_defer(h->c.thread->loop, &h->task);
}

void http1_end(struct http1 *h, const char *why, bool cut)
{
	if (h->over)
		return;
	h->over = true;
	h->cut = cut;
	if (!h->why)
		h->why = why;
	http1_later(h);
}

/* The timer is moved only where it would be too late: an exchange does not touch it. */
void http1_deadline(struct http1 *h, uint64_t after_ns)
{
	struct loop *l = h->c.thread->loop;

	h->deadline_ns = after_ns ? loop_now(l) + after_ns : 0;
	if (after_ns && (!h->timer.armed || h->timer.due_ns > h->deadline_ns))
		loop_arm(l, &h->timer, after_ns);
}

void http1_refuse(struct http1 *h, int status, const char *why)
{
	char text[HTTP1_REFUSAL];
	size_t len;

	if (h->over || h->closing)
		return;
	if (!h->m || !h->m->x.head_sent) {
		len = http1_write_refusal(status, why, !h->m || h->m->method != HTTP_HEAD, text);
		buf_add(&h->out, &h->c.thread->pool, text, len);
		h->refused = (uint16_t)status;
	} else {
		http1_end(h, why, true);
	}
	h->refused_why = h->why = why;
	h->closing = true;
	http1_deadline(h, h->head_ns);
	http1_later(h);
}

/* The answer is whole with what is written now, and there is no reason to wait with the close. */
static bool is_last(const struct http1 *h, bool whole)
{
	return h->c.server && !h->keep && whole && h->m && h->m->reading == READ_ENDED;
}

void http1_flush(struct http1 *h)
{
	if (h->over || !h->c.below || (h->m && h->m->held))
		return;
	if (h->out.len) {
		h->c.below->last = is_last(h, h->m && h->m->writing == FRAME_DONE);
		h->blocked = !stream_drain(h->c.below, &h->out);
		if (h->m && !h->c.server && !h->m->started) /* what left is its head */
			h->m->started = h->c.below->written_bytes != h->m->below_was;
	} else {
		h->blocked = false;
	}
	if (!h->blocked && h->finish_below) {
		h->finish_below = false;
		stream_finish(h->c.below);
	}
}

void http1_message_ended(struct http1_message *m)
{
	m->reading = READ_ENDED;
	m->x.s.ended = true;
	http1_later(m->h);
}

/* ------------------------------------------------------------------ heads */

static void put_head(struct http1 *h, const struct http_head *head, const struct http1_plan *p)
{
	size_t size = http1_head_size(head) + p->upgrade.len, len;
	char small[ON_STACK], *to = size > sizeof(small) ? mem_grow(NULL, size, 1) : small;

	len = h->c.server ? http1_write_answer(head, p, to) : http1_write_request(head, p, to);
	buf_add(&h->out, &h->c.thread->pool, to, len);
	if (to != small)
		free(to);
}

/* RFC 9110 section 15.2: HTTP/1.0 knows none. */
static void informational(struct http1_message *m, const struct http_head *head)
{
	struct http1_plan p = {.framing = FRAME_NONE};

	if (m->version == HTTP_1_0)
		return;
	m->continued |= head->status == 100;
	put_head(m->h, head, &p);
	http1_later(m->h);
}

static enum http1_framing answer_framing(const struct http1_message *m, const struct http_head *head)
{
	if (head->status == 101 || (m->method == HTTP_CONNECT && head->status < 300))
		return FRAME_TUNNEL;
	if (m->method == HTTP_HEAD || head->status == 204 || head->status == 304)
		return FRAME_NONE;
	switch (head->body) {
	case HTTP_STREAM:
		return m->version == HTTP_1_0 ? FRAME_TO_END : FRAME_CHUNKED;
	case HTTP_NO_BODY:
	case HTTP_LENGTH:
	case HTTP_TUNNEL:
		break;
	}
	return FRAME_LENGTH;
}

/* May another request follow? */
static bool keeps(const struct http1_message *m, enum http1_framing framing)
{
	const struct http1 *h = m->h;

	if (!h->keep || h->draining || h->peer_ended || framing == FRAME_TO_END || framing == FRAME_TUNNEL)
		return false;
	/* Are the next bytes a request, or were they for the tunnel? */
	if (m->reading == READ_ASKED && m->method == HTTP_CONNECT)
		return false;
	return !m->expect || m->continued || m->reading == READ_ENDED; /* will the body come, or not? */
}

void http1_answer(struct http_exchange *x, const struct http_head *head)
{
	struct http1_message *m = http1_of(x);
	struct http1 *h = m->h;
	struct http1_plan p = {0};

	assert(h->c.server && !x->head_sent && !m->left);
	if (h->over || h->closing)
		return;
	if (head->status < 200 && head->status != 101) {
		informational(m, head);
		return;
	}
	p.framing = answer_framing(m, head);
	if ((head->status == 101 && !m->asked_upgrade) || (head->body == HTTP_TUNNEL && p.framing != FRAME_TUNNEL)) {
		http1_refuse(h, 502, "http1: a switch of protocols that nobody asked for");
		return;
	}
	h->keep = keeps(m, p.framing);
	p.length = head->length;
	p.say_length = head->has_length && head->status != 204;
	if (head->body == HTTP_NO_BODY && p.framing == FRAME_LENGTH)
		p.length = 0;
	p.close = !h->keep && p.framing != FRAME_TUNNEL;
	p.keep = h->keep && m->version == HTTP_1_0;
	if (head->status == 101)
		p.upgrade = head->upgrade.len ? head->upgrade : HTTP_TEXT("websocket");
	put_head(h, head, &p);
	x->head_sent = true;
	m->writing = p.framing;
	m->write_left = p.framing == FRAME_LENGTH ? p.length : 0;
	if (m->reading == READ_ASKED && p.framing == FRAME_TUNNEL)
		m->reading = READ_TUNNEL;
	else if (m->reading == READ_ASKED)
		http1_message_ended(m);
	h->readable = true;
	http1_later(h);
}

/* No blank, no control character: what would end the target, or the line. */
static bool one_word(struct http_text t)
{
	size_t i;

	for (i = 0; i < t.len; i++)
		if ((uint8_t)t.at[i] <= ' ' || t.at[i] == 0x7f || t.at[i] == '#')
			return false;
	return true;
}

void http1_ask(struct http1_message *m, const struct http_head *head, bool end)
{
	struct http1 *h = m->h;
	struct http1_plan p = {.trailers = head->trailers, .framing = FRAME_NONE, .length = 0};

	m->below_was = h->c.below->written_bytes;
	if (!http1_is_token(head->method_text.at, head->method_text.len) || !one_word(head->path) ||
	    !one_word(head->authority) || (head->method != HTTP_CONNECT && !head->path.len)) {
		http1_end(h, "http1: a head that cannot be sent", false);
		return;
	}
	if (head->method == HTTP_CONNECT || head->upgrade.len) {
		p.framing = FRAME_TUNNEL;
		p.upgrade = head->upgrade;
		m->asked_upgrade = head->upgrade.len;
	} else if (!end && head->body == HTTP_STREAM) {
		p.framing = FRAME_CHUNKED;
	} else if (!end && head->body == HTTP_LENGTH) {
		p.framing = FRAME_LENGTH;
		p.length = head->length;
	} else { /* what has a meaning for a body says that it is empty: RFC 9110 section 8.6 */
		p.say_length = head->has_length || head->method == HTTP_POST || head->method == HTTP_PUT ||
			       head->method == HTTP_PATCH;
		end = true;
	}
	put_head(h, head, &p);
	m->x.head_sent = true;
	m->writing = p.framing;
	m->write_left = p.length;
	if (p.framing == FRAME_TUNNEL) {
		m->writing = FRAME_HEAD; /* nothing is written before the answer agrees */
	} else if (end) {
		m->writing = FRAME_DONE;
		m->x.s.finished = true;
	}
}

void http1_trailers(struct http_exchange *x, const struct http_field *field, unsigned fields)
{
	struct http1_message *m = http1_of(x);

	if (m->writing != FRAME_CHUNKED || x->s.finished || !fields || m->trailers)
		return;
	m->trailers = mem_grow(NULL, http1_trailers_size(field, fields), 1);
	m->trailers_len = http1_write_trailers(field, fields, m->trailers);
}

/* ------------------------------------------------------------------ bodies */

size_t http1_room(struct stream *s)
{
	struct http1_message *m = of(s);
	struct http1 *h = m->h;
	size_t room;

	if (h->over || h->closing || m->writing == FRAME_NONE || m->writing == FRAME_DONE)
		return m->writing == FRAME_NONE ? SIZE_MAX : 0;
	room = m->writing == FRAME_HEAD || h->blocked ? 0 : stream_room(h->c.below);
	if (!room)
		m->want_write = true;
	return room;
}

/* One write: what waits, a frame's head, data, a frame's end. */
struct letter {
	struct stream_bytes run[STREAM_RUNS];
	unsigned runs;
	size_t waits, before, data, after;
	uint8_t head[HTTP1_CHUNK_HEAD];
};

static void add(struct letter *l, const void *data, size_t len)
{
	l->run[l->runs++] = (struct stream_bytes){.data = (uint8_t *)data, .len = len};
}

/* As much of run[], from byte `at` of the first on, as there are places; room for a head and an end is left. */
static void add_data(struct letter *l, const struct stream_bytes *run, unsigned runs, size_t at, size_t most)
{
	for (; runs && most && l->runs < STREAM_RUNS - 1; runs--, run++) {
		struct stream_bytes b = {.data = run->data + at, .len = run->len - at};

		b.len = b.len < most ? b.len : most;
		at = 0;
		if (!b.len)
			continue;
		l->data += b.len;
		most -= b.len;
		l->run[l->runs++] = b;
	}
}

/* A chunk's head: before the data if the writer leaves us the place, else as a run of its own. */
static void frame(struct letter *l, unsigned first, size_t headroom)
{
	struct stream_bytes *b = &l->run[first];
	size_t len = http1_chunk_head(l->data, l->head);

	l->before = len;
	add(l, "\r\n", 2);
	l->after = 2;
	if (headroom >= len && b[1].len) {
		b[1].data -= len;
		b[1].len += len;
		memcpy(b[1].data, l->head, len);
		l->runs--;
		memmove(b, b + 1, (l->runs - first) * sizeof(*b));
	} else {
		*b = (struct stream_bytes){.data = l->head, .len = len};
	}
}

static void keep_rest(struct http1 *h, const void *data, size_t len, size_t *took)
{
	size_t gone = *took < len ? *took : len;

	*took -= gone;
	buf_add(&h->out, &h->c.thread->pool, (const uint8_t *)data + gone, len - gone);
}

/* Sends it; how much of the data left. */
static size_t post(struct http1_message *m, struct letter *l)
{
	struct http1 *h = m->h;
	size_t all = l->waits + l->before + l->data + l->after, took, data;

	h->c.below->last = is_last(h, m->writing == FRAME_LENGTH && l->data == m->write_left);
	took = stream_write(h->c.below, l->run, l->runs);
	m->started |= took > 0;
	/* HTTP/2 takes whole records: it may have room for the next one, and then tells nothing. */
	h->blocked = took < all && (!took || !stream_room(h->c.below));
	data = took < l->waits ? took : l->waits;
	buf_consume(&h->out, &h->c.thread->pool, data);
	took -= data;
	if (l->before)
		keep_rest(h, l->head, l->before, &took);
	data = took < l->data ? took : l->data;
	took -= data;
	if (l->after && data == l->data)
		keep_rest(h, "\r\n", l->after, &took);
	return data;
}

/* Data that belongs together, from byte `at` of the first run on: how much of it left. */
static size_t send_piece(struct http1_message *m, const struct stream_bytes *run, unsigned runs, size_t at)
{
	struct http1 *h = m->h;
	struct letter l = {.runs = 0};
	bool chunk = m->writing == FRAME_CHUNKED && !m->write_left;
	size_t headroom = run->headroom + (run->headroom ? at : 0), data;
	unsigned first;

	l.runs = stream_lend(&h->out, l.run, SIZE_MAX, &l.waits);
	if (l.waits < h->out.len || l.runs > STREAM_RUNS - 4) { /* more waits than one write takes */
		http1_flush(h);
		return 0;
	}
	first = l.runs;
	l.runs += chunk;
	add_data(&l, run, runs, at, m->write_left ? m->write_left : SIZE_MAX);
	if (chunk)
		frame(&l, first, headroom);
	else if (m->writing == FRAME_CHUNKED && l.data == m->write_left)
		add(&l, "\r\n", 2), l.after = 2;
	if (chunk)
		m->write_left = l.data;
	data = post(m, &l);
	if (m->writing == FRAME_LENGTH || m->writing == FRAME_CHUNKED)
		m->write_left -= data;
	return data;
}

/* Small, and more may follow: copied behind what waits. */
static void gather(struct http1_message *m, const struct stream_bytes *run, unsigned runs, size_t all)
{
	struct buf_pool *pool = &m->h->c.thread->pool;
	struct buf *out = &m->h->out;
	uint8_t head[HTTP1_CHUNK_HEAD];

	if (m->writing == FRAME_CHUNKED)
		buf_add(out, pool, head, http1_chunk_head(all, head));
	for (; runs; runs--, run++)
		buf_add(out, pool, run->data, run->len);
	if (m->writing == FRAME_CHUNKED)
		buf_add(out, pool, "\r\n", 2);
	else if (m->writing == FRAME_LENGTH)
		m->write_left -= all;
	http1_later(m->h);
}

/* What is the last of its message leaves at once; small pieces of others wait for the end of the turn. */
static bool gathers(const struct http1_message *m, size_t all)
{
	if (m->h->out.len + all > HTTP1_SMALL)
		return false;
	return m->held || (m->writing == FRAME_CHUNKED && !m->write_left) ||
	       (m->writing == FRAME_LENGTH && all < m->write_left) || m->writing == FRAME_TO_END;
}

size_t http1_write(struct stream *s, const struct stream_bytes *run, unsigned runs)
{
	struct http1_message *m = of(s);
	struct http1 *h = m->h;
	size_t all = 0, done = 0, at = 0;
	unsigned i;

	assert(!s->finished && !m->left && runs <= STREAM_RUNS);
	for (i = 0; i < runs; i++)
		all += run[i].len;
	if (h->over || h->closing || m->writing == FRAME_NONE || !all)
		return h->over || h->closing ? 0 : all;
	if (!http1_room(s))
		return 0;
	if (m->writing == FRAME_LENGTH && all > m->write_left) {
		http1_end(h, "http1: a body that is longer than its length", true);
		return 0;
	}
	if (gathers(m, all)) {
		gather(m, run, runs, all);
		done = all;
	}
	if (done < all && m->held && sock_stale(h->c.below))
		http1_end(h, "http1: bytes that nobody asked for", true);
	m->held &= done == all;
	while (done < all && !h->blocked && !h->over) {
		size_t sent;

		while (runs && at == run->len)
			run++, runs--, at = 0;
		sent = send_piece(m, run, runs, at);
		done += sent;
		for (at += sent; runs && at >= run->len && done < all; run++, runs--)
			at -= run->len;
	}
	if (done < all)
		m->want_write = true;
	s->written_bytes += done;
	return done;
}

void http1_finish(struct stream *s)
{
	static const char last[] = "0\r\n\r\n";
	struct http1_message *m = of(s);
	struct http1 *h = m->h;

	if (h->over || h->closing || m->writing == FRAME_DONE)
		return;
	if ((m->writing == FRAME_LENGTH || m->writing == FRAME_CHUNKED) && m->write_left) {
		http1_end(h, "http1: a body that is shorter than its length", true);
		return;
	}
	if (m->writing == FRAME_CHUNKED)
		buf_add(&h->out, &h->c.thread->pool, m->trailers ? m->trailers : last,
			m->trailers ? m->trailers_len : sizeof(last) - 1);
	if (m->writing == FRAME_HEAD && h->c.server) {
		http1_end(h, "http1: no answer", true);
		return;
	}
	h->finish_below |= m->writing == FRAME_TUNNEL;
	m->writing = FRAME_DONE;
	http1_flush(h);
	http1_later(h);
}
