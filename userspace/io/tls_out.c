/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_out.c: what is written becomes records, and they go down together.
 *
 * SCRATCH_CIPHER holds records of one connection at a time; the next one that writes sends them off first. Behind the
 * sealed records stands the open one: small writes are put together there, and sealed when it is full or sent. What has
 * a record's length is encrypted from where it stands.
 */
#include <assert.h>
#include <string.h>
#include <sys/uio.h>

#include "tls_parts.h"

#define RECORDS (THREAD_SCRATCH / (TLS_PLAIN + TLS_OVERHEAD))

/* ------------------------------------------------------------------ state */

void tls_set_state(struct tls *c, enum tls_state to)
{
	assert(to > c->state);
	c->state = to;
	if (to != TLS_DRAINS)
		loop_disarm(c->stream.thread->loop, &c->deadline);
}

static void tell_failure(struct loop_task *t)
{
	struct tls *c = container_of(t, struct tls, task);

	c->stream.ready(&c->stream, STREAM_FAILED);
}

void tls_fail(struct tls *c, const char *why)
{
	if (c->state >= TLS_FAILED)
		return;
	tls_set_state(c, TLS_FAILED);
	c->stream.why = why;
	loop_cancel(c->stream.thread->loop, &c->task);
	c->task.run = tell_failure;
	loop_defer(c->stream.thread->loop, &c->task);
}

/* ------------------------------------------------------------------ writing records */

static uint8_t *cipher(const struct tls *c)
{
	return c->stream.thread->scratch[SCRATCH_CIPHER];
}

/* false: failed */
static bool seal(struct tls *c, enum tls_type type, const uint8_t *data, size_t len)
{
	ssize_t n = tls_seal(&c->write, cipher(c) + c->sealed, type, data, len);

	if (n < 0) {
		c->alerted = true; /* no record can be made any more, an alert neither */
		tls_fail(c, "tls: encryption failed");
		return false;
	}
	c->sealed += (size_t)n;
	return true;
}

static bool seal_open(struct tls *c)
{
	size_t len = c->open;

	c->open = 0;
	return !len || seal(c, TLS_DATA, cipher(c) + c->sealed + TLS_HEADER, len);
}

/* Makes the scratch ours. */
static void take_cipher(struct tls *c)
{
	struct thread *t = c->stream.thread;

	if (t->cipher != c) {
		if (t->cipher)
			tls_flush(t->cipher);
		t->cipher = c;
		c->sealed = c->open = 0;
	}
	loop_defer(t->loop, &c->flush);
}

static bool has_room(const struct tls *c)
{
	return c->sealed + TLS_PLAIN + TLS_OVERHEAD <= THREAD_SCRATCH;
}

/* A record of its own, behind what was written. */
static void say(struct tls *c, enum tls_type type, const uint8_t *data, size_t len)
{
	take_cipher(c);
	if (!seal_open(c))
		return;
	if (!has_room(c)) {
		tls_flush(c);
		take_cipher(c);
	}
	seal(c, type, data, len);
}

void tls_say_alert(struct tls *c, enum tls_alert alert)
{
	const uint8_t text[2] = {alert == TLS_CLOSE_NOTIFY ? 1 : 2, (uint8_t)alert};

	if (c->said_close || c->alerted || !c->write.aead)
		return;
	say(c, TLS_ALERT, text, sizeof(text));
	/* Only now: what say() flushes to make room does not end with it. */
	if (alert == TLS_CLOSE_NOTIFY)
		c->said_close = true;
	else
		c->alerted = true;
}

void tls_fail_with(struct tls *c, enum tls_alert alert, const char *why)
{
	if (c->state == TLS_OPEN)
		tls_say_alert(c, alert);
	tls_fail(c, why);
}

static void update_write(struct tls *c)
{
	static const uint8_t message[5] = {TLS_KEY_UPDATE, 0, 0, 1, 0};

	c->answer_key_update = false;
	say(c, TLS_HANDSHAKE, message, sizeof(message));
	if (c->state == TLS_OPEN && tls_keys_update(&c->write) < 0) {
		c->alerted = true;
		tls_fail(c, "tls: encryption failed");
	}
}

/* What waits in `out`. true: nothing any more. */
bool tls_push(struct tls *c)
{
	if (!stream_drain(c->below, &c->out))
		return false;
	/* close_notify may still stand in the scratch. */
	if (c->said_close && c->stream.finished && !c->below->finished && c->stream.thread->cipher != c)
		stream_finish(c->below);
	return true;
}

/* What is in the scratch goes down; the scratch is free after it. */
void tls_flush(struct tls *c)
{
	struct thread *t = c->stream.thread;
	struct stream_bytes run = {.data = cipher(c), .headroom = THREAD_HEADROOM};
	size_t took = 0;

	if (t->cipher != c)
		return;
	seal_open(c);
	run.len = c->sealed;
	t->cipher = NULL;
	c->sealed = 0;
	if (!c->out.len && run.len)
		took = stream_write(c->below, &run, 1);
	buf_add(&c->out, &t->pool, run.data + took, run.len - took);
	if (!c->out.len)
		tls_push(c); /* the end, if it was the last */
}

void tls_end_of_turn(struct loop_task *task)
{
	struct tls *c = container_of(task, struct tls, flush);

	if (c->answer_key_update && !c->out.len && c->state == TLS_OPEN && !c->said_close)
		update_write(c);
	tls_flush(c);
	/* It took less than it was given for want of room in the scratch: nothing below will tell of more. */
	if (c->want_write && tls_out_room(c)) {
		c->want_write = false;
		c->stream.ready(&c->stream, STREAM_WRITABLE);
	}
}

/* ------------------------------------------------------------------ writing */

size_t tls_out_room(struct tls *c)
{
	/* `out` takes what below does not. */
	return c->state == TLS_OPEN && !c->out.len && stream_room(c->below) ? (RECORDS - 1) * TLS_PLAIN : 0;
}

/* One step: how many bytes were put behind; 0: it failed. */
static size_t put(struct tls *c, const uint8_t *data, size_t len)
{
	size_t n;

	if (c->open == TLS_PLAIN)
		seal_open(c);
	if (!c->open && c->write.sequence >= TLS_RECORDS_PER_KEY)
		update_write(c);
	if (!c->open && !has_room(c)) {
		tls_flush(c);
		take_cipher(c);
	}
	if (c->state != TLS_OPEN)
		return 0;
	if (!c->open && len >= TLS_PLAIN)
		return seal(c, TLS_DATA, data, TLS_PLAIN) ? TLS_PLAIN : 0;
	n = TLS_PLAIN - c->open < len ? TLS_PLAIN - c->open : len;
	memcpy(cipher(c) + c->sealed + TLS_HEADER + c->open, data, n);
	c->open += n;
	return n;
}

size_t tls_out(struct tls *c, const struct stream_bytes *run, unsigned runs)
{
	size_t sure = tls_out_room(c), all = 0;
	unsigned i;

	if (!sure)
		return 0;
	take_cipher(c);
	if (c->answer_key_update)
		update_write(c);
	for (i = 0; i < runs; i++) {
		size_t at = 0, n;

		for (; at < run[i].len; at += n) {
			if (all + at >= sure && c->out.len)
				return all + at; /* full: below will tell */
			n = put(c, run[i].data + at, run[i].len - at);
			if (!n)
				return all + at;
		}
		all += at;
	}
	return all;
}
