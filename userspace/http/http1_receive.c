/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_receive.c: what comes.
 *
 * A head is parsed where the transport has put it, and its owner is told while it is there: he may take the body from
 * behind it in the same call (`batch`), so that nothing is copied. Only a head that comes in parts is kept, and parsed
 * when its empty line has come: whatever the pieces, each byte is looked at twice. Bodies are lent from the transport;
 * of a chunked one the runs between the frames are.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http1_parts.h"

#define FRAME_MORE 64 /* bytes that are peeked at besides what is asked for: frames of chunks */

static struct http1_message *of(struct stream *s)
{
	return container_of(s, struct http1_message, x.s);
}

/* ------------------------------------------------------------------ bytes */

static unsigned peek_batch(const struct http1_batch *b, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	size_t skip = b->used;
	unsigned i, n = 0;

	for (i = 0; i < b->runs && most; i++) {
		size_t len = b->run[i].len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = len - skip < most ? len - skip : most;
		run[n++] = (struct stream_bytes){.data = b->run[i].data + skip, .len = len}; /* heads are before it */
		most -= len;
		skip = 0;
	}
	return n;
}

/* 0: nothing now; then `ended` of the transport, or its event, says more. */
static unsigned raw_peek(struct http1 *h, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	unsigned n;

	if (h->over)
		return 0;
	if (h->batch)
		return peek_batch(h->batch, run, most);
	n = stream_peek(h->c.below, run, most);
	if (!n) {
		h->armed = true;
		h->peer_ended |= h->c.below->ended;
	}
	return n;
}

static void raw_consume(struct http1 *h, size_t len)
{
	if (h->batch)
		h->batch->used += len;
	else
		stream_consume(h->c.below, len);
}

/* What came is no HTTP. */
static void bad(struct http1 *h, int status, const char *why)
{
	if (h->m && !h->m->x.error)
		h->m->x.error = HTTP1_PROTOCOL_ERROR;
	if (h->c.server)
		http1_refuse(h, status, why);
	else
		http1_end(h, why, true);
}

static void cut(struct http1 *h)
{
	http1_end(h, h->c.server ? "http1: the request was cut" : "http1: the answer was cut", true);
}

/* ------------------------------------------------------------------ a head in parts */

static void append(struct http1 *h, const uint8_t *data, size_t len)
{
	struct http1_held *k = h->held;
	size_t size = k ? k->size : 0;

	if (!k || k->len + len > size) {
		do
			size = size ? size * 2 : 512;
		while (size < (k ? k->len : 0) + len);
		k = mem_grow(k, 1, sizeof(*k) + size);
		if (!h->held)
			*k = (struct http1_held){0};
		k->size = size;
		h->held = k;
	}
	memcpy(k->bytes + k->len, data, len);
	k->len += len;
}

static void drop_held(struct http1 *h)
{
	free(h->held);
	h->held = NULL;
}

/*
 * Takes bytes up to the end of the head: how many. *ret_whole: it is to be parsed now: its empty line is there, or a
 * line that ends in no way that we take, or it is too large.
 */
static size_t hold(struct http1 *h, const uint8_t *data, size_t len, bool trailers, bool *ret_whole)
{
	size_t used = 0, most = (size_t)h->limit.line_bytes + h->limit.head_bytes;

	*ret_whole = false;
	while (used < len && !*ret_whole) {
		const uint8_t *end = memchr(data + used, '\n', len - used);
		size_t n = end ? (size_t)(end - data) + 1 - used : len - used;
		struct http1_held *k;

		append(h, data + used, n);
		used += n;
		k = h->held;
		if (end) {
			size_t line = k->len - k->line;

			*ret_whole = line == 1 || k->bytes[k->len - 2] != '\r' || (line == 2 && (k->lines || trailers));
			k->line = k->len;
			k->lines++;
		}
		*ret_whole |= k->len > most;
	}
	return used;
}

typedef int parse_head(struct http1 *h, const char *data, size_t len, struct http1_head *ret);

/*
 * From the batch, whole or what is held of it: >0 it is there, its texts in the batch or in `held`; 0 more bytes; <0
 * refused.
 */
static int next_head(struct http1 *h, parse_head *parse, bool trailers, struct http1_head *ret)
{
	struct stream_bytes run[STREAM_RUNS];
	bool whole;
	int r;

	if (!peek_batch(h->batch, run, SIZE_MAX))
		return 0;
	if (!h->held) {
		r = parse(h, (const char *)run[0].data, run[0].len, ret);
		if (r > 0)
			h->batch->used += (size_t)r;
		if (r)
			return r;
	}
	h->batch->used += hold(h, run[0].data, run[0].len, trailers, &whole);
	if (!whole)
		return peek_batch(h->batch, run, 1) ? next_head(h, parse, trailers, ret) : 0;
	r = parse(h, h->held->bytes, h->held->len, ret);
	if (!r) { /* too large to wait for the rest */
		ret->status = h->held->lines ? 431 : 414;
		ret->why = "http1: the head is too large";
		r = -1;
	}
	return r;
}

/* ------------------------------------------------------------------ heads */

static int parse_request(struct http1 *h, const char *data, size_t len, struct http1_head *ret)
{
	return http1_parse_request(data, len, &h->limit, ret);
}

static int parse_answer(struct http1 *h, const char *data, size_t len, struct http1_head *ret)
{
	const struct http1_asked asked = {.method = h->m->method, .upgrade = h->m->asked_upgrade};

	return http1_parse_answer(data, len, &h->limit, &asked, ret);
}

static int parse_trailers(struct http1 *h, const char *data, size_t len, struct http1_head *ret)
{
	return http1_parse_trailers(data, len, &h->limit, ret);
}

static void begin_body(struct http1_message *m, const struct http1_head *head)
{
	m->x.head_came = true;
	switch (head->h.body) {
	case HTTP_NO_BODY:
		http1_message_ended(m);
		return;
	case HTTP_LENGTH:
		m->reading = READ_LENGTH;
		m->read_left = head->h.length;
		return;
	case HTTP_STREAM:
		m->reading = head->chunked ? READ_CHUNKED : READ_TO_END;
		return;
	case HTTP_TUNNEL:
		m->reading = m->h->c.server ? READ_ASKED : READ_TUNNEL;
		return;
	}
}

static void got_request(struct http1 *h, struct http1_head *head, struct http1_message *m)
{
	if (h->c.secure && head->h.path.len && head->h.path.at[0] == '/')
		head->h.scheme = HTTP_TEXT("https");
	h->keep = head->keep;
	/* RFC 9112 section 9.6: whoever asks for the close sends no further request. */
	h->c.below->silent = !head->keep && head->h.body == HTTP_NO_BODY;
	h->m = m;
	http1_deadline(h, 0);
	m->method = head->h.method;
	m->version = head->h.version;
	m->asked_upgrade = head->h.upgrade.len;
	m->expect = head->h.expect;
	begin_body(m, head);
	h->tells = true;
	h->c.events->request(&h->c, &m->x, &head->h);
	h->tells = false;
}

/* An answer that agrees to a tunnel opens it both ways; another one ends what was asked for it. */
static void settle_tunnel(struct http1_message *m, bool agreed)
{
	if (m->writing == FRAME_DONE) { /* the owner has finished before */
		m->h->finish_below |= agreed && (m->asked_upgrade || m->method == HTTP_CONNECT);
		return;
	}
	if (m->writing != FRAME_HEAD)
		return;
	m->writing = agreed ? FRAME_TUNNEL : FRAME_DONE;
	m->x.s.finished = !agreed;
}

static void got_answer(struct http1 *h, struct http1_head *head)
{
	struct http1_message *m = h->m;

	if (head->h.status < 200 && head->h.status != 101) {
		if (++m->informational > h->informational)
			bad(h, 502, "http1: too many informational answers");
		else
			h->c.events->answer(&m->x, &head->h);
		return;
	}
	h->keep = head->keep && head->h.body != HTTP_TUNNEL;
	h->draining |= !h->keep;
	settle_tunnel(m, head->h.body == HTTP_TUNNEL);
	begin_body(m, head);
	h->c.events->answer(&m->x, &head->h);
}

/* FIN in place of a head. */
static void no_more_heads(struct http1 *h)
{
	if (!h->c.server && h->m)
		http1_end(h, "http1: the server closed without an answer", true);
	else if (h->held)
		cut(h);
	else
		http1_end(h, NULL, false);
}

static bool awaits_head(const struct http1 *h)
{
	if (h->over || h->closing)
		return false;
	return h->c.server ? !h->m : h->m && h->m->reading == READ_HEAD && !h->m->left;
}

static bool one_head(struct http1 *h, struct http1_message *(*make)(struct http1 *h))
{
	struct http_field field[HTTP1_FIELDS];
	struct http1_head head;
	int r;

	head.h.field = field;
	head.h.room = HTTP1_FIELDS;
	r = next_head(h, h->c.server ? parse_request : parse_answer, false, &head);
	if (r > 0 && h->c.server)
		got_request(h, &head, make(h));
	else if (r > 0)
		got_answer(h, &head);
	else if (r < 0)
		bad(h, head.status, head.why);
	if (r)
		drop_held(h);
	else if (h->c.server && h->held && !h->deadline_ns)
		http1_deadline(h, h->head_ns);
	return r > 0;
}

void http1_read_head(struct http1 *h, struct http1_message *(*make)(struct http1 *h))
{
	struct stream_bytes run[STREAM_RUNS];
	struct http1_batch batch = {.run = run};
	struct stream *below = h->c.below;
	bool held = h->held;

	batch.runs = raw_peek(h, run, stream_share(below, THREAD_SCRATCH)); /* a body may be behind it */
	if (!batch.runs) {
		if (!h->over && below->ended)
			no_more_heads(h);
		return;
	}
	if (h->c.server && !held) /* the time of a head begins with its first byte */
		h->deadline_ns = 0;
	h->batch = &batch;
	while (awaits_head(h) && one_head(h, make))
		;
	h->batch = NULL;
	h->readable = true;
	stream_consume(below, batch.used);
}

/* ------------------------------------------------------------------ trailers */

void http1_read_trailers(struct http1_message *m)
{
	struct http_field field[HTTP1_FIELDS];
	struct stream_bytes run[STREAM_RUNS];
	struct http1_batch batch = {.run = run};
	struct http1_head head;
	struct http1 *h = m->h;
	int r;

	head.h.field = field;
	head.h.room = HTTP1_FIELDS;
	assert(m->reading == READ_TRAILERS && !h->batch);
	batch.runs = raw_peek(h, run, THREAD_SCRATCH);
	if (!batch.runs) {
		if (!h->over && h->c.below->ended)
			cut(h);
		return;
	}
	h->batch = &batch;
	r = next_head(h, parse_trailers, true, &head);
	h->batch = NULL;
	if (r > 0) {
		if (head.h.fields)
			m->x.trailers = http_head_keep(&m->arena, &head.h, 0);
		http1_message_ended(m);
	} else if (r < 0) {
		bad(h, head.status, head.why);
	}
	if (r)
		drop_held(h);
	h->readable = true; /* the owner may be who reads: no event tells of what is left below */
	http1_later(h);
	stream_consume(h->c.below, batch.used);
}

/* ------------------------------------------------------------------ chunked bodies */

struct scan {
	struct http1_chunk chunk;
	size_t raw; /* bytes that were looked at */
	bool last;  /* the end, without trailers */
	const char *why;
};

/* Lends the data in one run of the transport's; false: that is enough. */
static bool scan_run(struct http1_message *m, struct scan *s, const struct stream_bytes *from, struct stream_bytes *run,
		     size_t *most)
{
	size_t at = 0, clear = from->headroom; /* bytes before `at` that nobody reads again */

	while (at < from->len) {
		uint64_t len = from->len - at;

		if (s->chunk.state == CHUNK_TRAILERS) {
			s->last = len >= 2 && from->data[at] == '\r' && from->data[at + 1] == '\n';
			s->raw += s->last ? 2 : 0;
			return false;
		}
		if (s->chunk.state != CHUNK_DATA) {
			ssize_t n = http1_chunk_frame(&s->chunk, from->data + at, (size_t)len, &s->why);

			if (n < 0)
				return false;
			at += (size_t)n;
			clear += (size_t)n;
			s->raw += (size_t)n;
			continue;
		}
		if (m->lents == HTTP1_LENT || !*most)
			return false;
		len = len < s->chunk.left ? len : s->chunk.left;
		len = len < *most ? len : *most;
		m->lent[m->lents] = (struct http1_lent){.raw = s->raw, .len = (size_t)len, .chunk = s->chunk};
		run[m->lents++] = (struct stream_bytes){
			.data = from->data + at,
			.len = (size_t)len,
			.headroom = m->h->batch ? 0 : clear,
		};
		http1_chunk_data(&s->chunk, len);
		*most -= (size_t)len;
		at += (size_t)len;
		s->raw += (size_t)len;
		clear = 0;
	}
	return true;
}

static void after_chunks(struct http1_message *m, const struct scan *s)
{
	m->chunk = s->chunk;
	if (s->last)
		http1_message_ended(m);
	else if (s->chunk.state == CHUNK_TRAILERS)
		m->reading = READ_TRAILERS;
}

/* false: nothing, and nothing more to be had now. */
static bool scan_chunks(struct http1_message *m, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	struct stream_bytes raw[STREAM_RUNS];
	struct scan s = {.chunk = m->chunk};
	struct http1 *h = m->h;
	unsigned i, n = raw_peek(h, raw, most < SIZE_MAX - FRAME_MORE ? most + FRAME_MORE : most);

	if (!n) {
		if (!h->over && !h->batch && h->c.below->ended)
			cut(h);
		return false;
	}
	m->lents = 0;
	for (i = 0; i < n && scan_run(m, &s, &raw[i], run, &most); i++)
		;
	if (m->lents) { /* what is wrong behind them is met again */
		m->raw_end = s.raw;
		m->chunk_end = s.chunk;
		m->last = s.last;
		return true;
	}
	raw_consume(h, s.raw);
	if (s.why) {
		bad(h, 400, s.why);
		return false;
	}
	after_chunks(m, &s);
	return m->reading == READ_CHUNKED;
}

static void consume_chunks(struct http1_message *m, size_t len)
{
	struct scan s = {.chunk = m->chunk_end, .raw = m->raw_end, .last = m->last};
	unsigned i;

	for (i = 0; i < m->lents && len >= m->lent[i].len; i++)
		len -= m->lent[i].len;
	if (i < m->lents) {
		s = (struct scan){.chunk = m->lent[i].chunk, .raw = m->lent[i].raw + len};
		if (len)
			http1_chunk_data(&s.chunk, len);
	}
	m->lents = 0;
	raw_consume(m->h, s.raw);
	after_chunks(m, &s);
}

/* ------------------------------------------------------------------ bodies */

static bool ends(const struct http1_message *m, const struct stream_bytes *run, unsigned runs)
{
	uint64_t all = 0;

	for (unsigned i = 0; i < runs; i++)
		all += run[i].len;
	return all == m->read_left;
}

unsigned http1_peek(struct stream *s, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	struct http1_message *m = of(s);
	struct http1 *h = m->h;
	unsigned n = 0;

	s->ends_after = false;
	if (h->over || m->failed || s->ended || !most)
		return 0;
	if (m->reading == READ_CHUNKED) {
		while (m->reading == READ_CHUNKED && !n && scan_chunks(m, run, most))
			n = m->lents;
	} else if (m->reading == READ_LENGTH) {
		n = raw_peek(h, run, most < m->read_left ? most : (size_t)m->read_left);
		s->ends_after = ends(m, run, n);
		if (!n && !h->batch && !h->over && h->c.below->ended)
			cut(h);
	} else if (m->reading == READ_TO_END || m->reading == READ_TUNNEL) {
		n = raw_peek(h, run, most);
		if (!n && !h->batch && !h->over && h->c.below->ended)
			http1_message_ended(m);
	}
	if (m->reading == READ_TRAILERS && !h->batch)
		http1_read_trailers(m);
	m->want_read = !n && !s->ended;
	return n;
}

void http1_consume(struct stream *s, size_t len)
{
	struct http1_message *m = of(s);

	s->read_bytes += len;
	if (m->reading == READ_CHUNKED) {
		consume_chunks(m, len);
		return;
	}
	raw_consume(m->h, len);
	if (m->reading == READ_LENGTH) {
		m->read_left -= len;
		if (!m->read_left)
			http1_message_ended(m);
	}
}

bool http1_read_over(struct http1_message *m)
{
	struct stream_bytes run[STREAM_RUNS];
	struct http1 *h = m->h;
	uint64_t *had = &m->x.s.read_bytes;

	while (m->reading != READ_ENDED && !h->over && !h->closing) {
		unsigned i, n;
		size_t all = 0;

		if (*had >= m->read_most || (m->reading == READ_LENGTH && m->read_left > m->read_most - *had))
			return false;
		n = http1_peek(&m->x.s, run, (size_t)(m->read_most - *had));
		for (i = 0; i < n; i++)
			all += run[i].len;
		if (!n)
			break;
		http1_consume(&m->x.s, all);
	}
	return true;
}

void http1_look_ahead(struct http1 *h)
{
	struct stream_bytes run[STREAM_RUNS];

	if (h->armed || h->peer_ended || h->over || !raw_peek(h, run, 1))
		return;
	stream_consume(h->c.below, 0);
	h->armed = true; /* whatever comes behind it waits below until it is asked for */
	if (h->c.server)
		return;
	h->keep = false;
	if (!h->m || !h->m->started)
		http1_end(h, "http1: bytes that nobody asked for", true);
}

/* Taken for the answer, they would be somebody else's. */
void http1_look_before(struct http1 *h)
{
	const struct http1_message *m = h->m;

	if (h->c.server || !m || m->started || m->reading != READ_HEAD)
		return;
	http1_look_ahead(h);
	if (h->peer_ended)
		http1_end(h, "http1: the server closed without an answer", true);
}
