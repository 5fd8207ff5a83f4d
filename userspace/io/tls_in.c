/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_in.c: records from below become what the owner reads.
 *
 * Whole records of below's run are decrypted into SCRATCH_PLAIN, one behind the other, and lent from there. A record of
 * which only a part is there waits in `in`; what the owner does not consume waits in `plain`. (TLS within TLS would
 * need a second scratch: the inner one would write where it reads.)
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "tls_parts.h"

#define IDLE_RECORDS 32 /* without content, in a row: more is an attack */
#define TICKET_MOST 65536

/* ------------------------------------------------------------------ reading records */

static void key_update(struct tls *c, uint8_t request)
{
	if (request > 1) {
		tls_fail_with(c, TLS_DECODE_ERROR, "tls: a message makes no sense");
		return;
	}
	if (tls_keys_update(&c->read) < 0) {
		tls_fail_with(c, TLS_INTERNAL_ERROR, "tls: decryption failed");
		return;
	}
	if (request) {
		c->answer_key_update = true;
		loop_defer(c->stream.thread->loop, &c->flush);
	}
}

/*
 * Messages after the handshake (section 4.6). Tickets are read over: we never resume. A KeyUpdate ends its record, for
 * what comes next has other keys. Nothing else was asked for. A header that is split between records is legal, and
 * nobody does it.
 */
static void messages(struct tls *c, const uint8_t *data, size_t len)
{
	while (len && c->state == TLS_OPEN) {
		size_t size;

		if (c->skip) {
			size = c->skip < len ? c->skip : len;
			c->skip -= size;
			data += size;
			len -= size;
			continue;
		}
		size = len < 4 ? SIZE_MAX : (size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3];
		if (data[0] == TLS_KEY_UPDATE && size == 1 && len == 5) {
			key_update(c, data[4]);
			return;
		}
		if (data[0] != TLS_NEW_SESSION_TICKET || c->server || size > TICKET_MOST) {
			tls_fail_with(c, TLS_UNEXPECTED_MESSAGE, "tls: unexpected message");
			return;
		}
		c->skip = size;
		data += 4;
		len -= 4;
	}
}

static void alert(struct tls *c, const uint8_t *data, size_t len)
{
	if (len != 2) {
		tls_fail_with(c, TLS_DECODE_ERROR, "tls: a message makes no sense");
	} else if (data[1] == TLS_CLOSE_NOTIFY) {
		c->peer_ended = true;
	} else if (data[1] != TLS_USER_CANCELED) { /* which close_notify follows; every other one is fatal (6) */
		c->alerted = true;		   /* it need not be told */
		tls_fail(c, tls_alert_why(data[1]));
	}
}

/* Bytes of content that are at `to` now: 0 if it was no data, or failed. */
static size_t open_record(struct tls *c, const uint8_t *header, const uint8_t *body, uint8_t *to)
{
	enum tls_type type;
	ssize_t n = tls_open(&c->read, header, body, to, &type);

	if (n == -EBADMSG)
		tls_fail_with(c, TLS_BAD_RECORD_MAC, "tls: a record does not decrypt");
	else if (n == -EOVERFLOW)
		tls_fail_with(c, TLS_RECORD_OVERFLOW, "tls: a record is too long");
	else if (n < 0 || (c->skip && type != TLS_HANDSHAKE))
		tls_fail_with(c, TLS_UNEXPECTED_MESSAGE, "tls: unexpected message");
	if (c->state != TLS_OPEN)
		return 0;
	if (type == TLS_DATA && n > 0) {
		c->idle_records = 0;
		return (size_t)n;
	}
	if (++c->idle_records > IDLE_RECORDS)
		tls_fail_with(c, TLS_UNEXPECTED_MESSAGE, "tls: too many records without content");
	else if (type == TLS_ALERT)
		alert(c, to, (size_t)n);
	else if (type == TLS_HANDSHAKE && n > 0)
		messages(c, to, (size_t)n);
	else if (type != TLS_DATA)
		tls_fail_with(c, TLS_UNEXPECTED_MESSAGE, "tls: unexpected message");
	return 0;
}

/* Of a header: bytes of the body; -1: failed. */
static ssize_t body_len(struct tls *c, const uint8_t *header)
{
	ssize_t n = tls_record_len(header);

	if (n == -EOVERFLOW)
		tls_fail_with(c, TLS_RECORD_OVERFLOW, "tls: a record is too long");
	else if (n < 0)
		tls_fail_with(c, TLS_UNEXPECTED_MESSAGE, "tls: what came is no record");
	return n < 0 ? -1 : n;
}

/* The first bytes of `in` to `to`. */
static void copy_in(const struct tls *c, uint8_t *to, size_t len)
{
	struct iovec iov[4]; /* a record stands in at most three chunks */
	unsigned n = buf_peek(&c->in, iov, array_size(iov)), i;

	for (i = 0; i < n && len; i++) {
		size_t part = iov[i].iov_len < len ? iov[i].iov_len : len;

		memcpy(to, iov[i].iov_base, part);
		to += part;
		len -= part;
	}
}

struct reading {
	uint8_t *to;
	size_t have, most; /* bytes of content: there, wanted */
};

static bool reads_on(const struct tls *c, const struct reading *r)
{
	return c->state == TLS_OPEN && !c->peer_ended && r->have < r->most && r->have + TLS_BODY <= THREAD_SCRATCH;
}

/*
 * The record that began in `in`, with the bytes at `data`: how many of them it took. It is gathered where its content
 * goes, and decrypted in place.
 */
static size_t finish_in(struct tls *c, struct reading *r, const uint8_t *data, size_t len)
{
	struct buf_pool *pool = &c->stream.thread->pool;
	uint8_t header[TLS_HEADER], *to = r->to + r->have;
	size_t took = 0, missing, had;
	ssize_t body;

	if (c->in.len < TLS_HEADER) {
		took = TLS_HEADER - c->in.len < len ? TLS_HEADER - c->in.len : len;
		buf_add(&c->in, pool, data, took);
		if (c->in.len < TLS_HEADER)
			return took;
	}
	copy_in(c, header, TLS_HEADER);
	body = body_len(c, header);
	if (body < 0)
		return took;
	missing = c->in.len < TLS_HEADER + (size_t)body ? TLS_HEADER + (size_t)body - c->in.len : 0;
	if (missing > len - took) {
		buf_add(&c->in, pool, data + took, len - took);
		return len;
	}
	buf_consume(&c->in, pool, TLS_HEADER);
	had = (size_t)body - missing;
	copy_in(c, to, had);
	buf_consume(&c->in, pool, had);
	if (missing)
		memcpy(to + had, data + took, missing);
	r->have += open_record(c, header, to, to);
	return took + missing;
}

/* Whole records of a run, and the part of one that ends it. How many bytes were used. */
static size_t eat(struct tls *c, struct reading *r, const uint8_t *data, size_t len)
{
	size_t at = 0;

	while (at < len && reads_on(c, r)) {
		ssize_t body;

		if (c->in.len) {
			at += finish_in(c, r, data + at, len - at);
			continue;
		}
		body = len - at < TLS_HEADER ? TLS_BODY : body_len(c, data + at);
		if (body < 0)
			break;
		if (len - at < TLS_HEADER + (size_t)body) {
			buf_add(&c->in, &c->stream.thread->pool, data + at, len - at);
			return len;
		}
		r->have += open_record(c, data + at, data + at + TLS_HEADER, r->to + r->have);
		at += TLS_HEADER + (size_t)body;
	}
	return at;
}

/* true: below gave something. */
static bool read_below(struct tls *c, struct reading *r)
{
	size_t most = r->most < THREAD_SCRATCH ? r->most + (r->most / TLS_PLAIN + 1) * TLS_OVERHEAD : THREAD_SCRATCH;
	struct stream_bytes run[STREAM_RUNS];
	unsigned n = stream_peek(c->below, run, most < THREAD_SCRATCH ? most : THREAD_SCRATCH), i;
	size_t used = 0;

	for (i = 0; i < n; i++) {
		size_t took = eat(c, r, run[i].data, run[i].len);

		used += took;
		if (took < run[i].len)
			break;
	}
	if (n)
		stream_consume(c->below, used);
	return n > 0;
}

static unsigned lend(struct tls *c, struct stream_bytes *run, const struct reading *r)
{
	size_t len = r->have < r->most ? r->have : r->most;

	c->lent = r->have;
	c->lent_plain = false;
	run[0] = (struct stream_bytes){.data = r->to, .len = len, .headroom = THREAD_HEADROOM};
	return 1;
}

unsigned tls_in_peek(struct tls *c, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	struct stream *s = &c->stream;
	struct reading r = {.to = s->thread->scratch[SCRATCH_PLAIN], .most = most};

	assert(!c->lent);
	if (s->ended || !most || c->state > TLS_OPEN)
		return 0;
	if (c->plain.len) {
		c->lent_plain = true;
		return stream_lend(&c->plain, run, most, &c->lent);
	}
	while (c->state == TLS_OPEN && !c->peer_ended && !r.have) {
		size_t before = c->in.len;

		/* What came with the end of the handshake may be whole records. */
		if (before >= TLS_HEADER)
			finish_in(c, &r, s->thread->scratch[SCRATCH_PLAIN], 0);
		if (c->in.len == before && reads_on(c, &r) && !read_below(c, &r))
			break;
	}
	if (r.have) {
		s->read_bytes += r.have;
		return lend(c, run, &r);
	}
	if (c->peer_ended)
		s->ended = true;
	else if (c->state == TLS_OPEN && c->below->ended)
		tls_fail_with(c, TLS_DECODE_ERROR, "tls: the connection ended without close_notify");
	else
		c->want_read = true;
	return 0;
}

void tls_in_consume(struct tls *c, size_t len)
{
	struct thread *t = c->stream.thread;

	assert(len <= c->lent);
	if (c->lent_plain)
		buf_consume(&c->plain, &t->pool, len);
	else
		buf_add(&c->plain, &t->pool, t->scratch[SCRATCH_PLAIN] + len, c->lent - len);
	c->lent = 0;
}
