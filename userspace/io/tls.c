/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.c: TLS 1.3 over any stream.
 *
 *	reading: below's run --decrypt--> SCRATCH_PLAIN --lent--> the owner (tls_in.c)
 *	writing: the owner's run --encrypt--> SCRATCH_CIPHER --at the end of the turn--> below (tls_out.c)
 *
 * Here: its life. OpenSSL is there for the handshake only (tls_handshake.c).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tls_parts.h"

#define DEADLINE_NS 10000000000ull
#define SHAKES_A_TURN 8	       /* a step costs up to a millisecond, and others wait */
#define DRAIN_NS 10000000000ull /* between two looks at what waits when the owner has closed it */
#define DRAIN_LOOKS 12		/* then it is over, whatever is taken: nobody else counts it any more */

static struct tls *of(const struct stream *s)
{
	return container_of(s, struct tls, stream);
}

/* ------------------------------------------------------------------ bytes */

static unsigned tls_peek(struct stream *s, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	return tls_in_peek(of(s), run, most);
}

static void tls_consume(struct stream *s, size_t len)
{
	tls_in_consume(of(s), len);
}

static size_t tls_room(struct stream *s)
{
	size_t room = tls_out_room(of(s));

	if (!room)
		of(s)->want_write = true;
	return room;
}

static size_t tls_write(struct stream *s, const struct stream_bytes *run, unsigned runs)
{
	size_t n, all = 0;
	unsigned i;

	assert(runs <= STREAM_RUNS && !s->finished);
	for (i = 0; i < runs; i++)
		all += run[i].len;
	n = tls_out(of(s), run, runs);
	if (n < all)
		of(s)->want_write = true;
	s->written_bytes += n;
	return n;
}

static void tls_finish(struct stream *s)
{
	struct tls *c = of(s);

	if (c->state == TLS_OPEN)
		tls_say_alert(c, TLS_CLOSE_NOTIFY); /* tls_push() finishes below when it is gone */
}

static size_t tls_kept(const struct stream *s)
{
	const struct tls *c = of(s);

	return buf_kept(&c->in) + buf_kept(&c->plain) + buf_kept(&c->out) + stream_kept(c->below);
}

/* ------------------------------------------------------------------ the end */

static void free_tls(struct loop_task *t)
{
	struct tls *c = container_of(t, struct tls, task);
	struct buf_pool *pool = &c->stream.thread->pool;

	buf_clear(&c->in, pool);
	buf_clear(&c->plain, pool);
	buf_clear(&c->out, pool);
	tls_keys_free(&c->read);
	tls_keys_free(&c->write);
	if (c->handshake)
		loop_disarm(c->stream.thread->loop, &c->handshake->later);
	tls_handshake_free(c->handshake);
	X509_free(c->peer);
	free(c);
}

/* `why`: for below. */
static void end(struct tls *c, const char *why)
{
	struct thread *t = c->stream.thread;

	tls_set_state(c, TLS_CLOSED);
	list_del(&c->orphan.link);
	if (t->cipher == c)
		t->cipher = NULL;
	loop_cancel(t->loop, &c->flush);
	loop_cancel(t->loop, &c->task);
	stream_close(c->below, why);
	c->task.run = free_tls;
	loop_defer(t->loop, &c->task);
}

/* A slow peer may go on while he takes something: to cut him then would take back what is on its way. */
static void drain_look(struct loop_timer *t)
{
	struct tls *c = container_of(t, struct tls, deadline);

	if (c->out.len == c->waited || ++c->looks == DRAIN_LOOKS) {
		end(c, "timed out");
		return;
	}
	c->waited = c->out.len;
	loop_arm(c->stream.thread->loop, t, DRAIN_NS);
}

static void orphan_ends(struct thread_orphan *o)
{
	end(container_of(o, struct tls, orphan), "thread ends");
}

/*
 * In order: what was written, then close_notify. After an alert too: the peer shall read it, which a RST could prevent.
 */
static void tls_close(struct stream *s, const char *why)
{
	struct tls *c = of(s);
	struct thread *t = s->thread;

	assert(c->state < TLS_DRAINS);
	c->lent = 0;
	if (c->state == TLS_OPEN && !why)
		tls_say_alert(c, TLS_CLOSE_NOTIFY);
	if (why && !c->alerted) {
		end(c, why);
		return;
	}
	tls_set_state(c, TLS_DRAINS);
	loop_cancel(t->loop, &c->task);
	tls_flush(c);
	if (tls_push(c)) {
		end(c, NULL);
		return;
	}
	c->orphan.end = orphan_ends;
	list_add(&t->orphans, &c->orphan.link);
	c->waited = c->out.len;
	c->deadline.due = drain_look;
	loop_arm(t->loop, &c->deadline, DRAIN_NS);
}

/* ------------------------------------------------------------------ handshake */

static void send_handshake(struct tls *c)
{
	uint8_t *to = c->stream.thread->scratch[SCRATCH_PLAIN];
	size_t n;

	while ((n = tls_handshake_says(c->handshake, to, THREAD_SCRATCH)))
		buf_add(&c->out, &c->stream.thread->pool, to, n);
	tls_push(c);
}

static void keep_names(struct tls *c, SSL *ssl)
{
	const unsigned char *name = NULL;
	const char *group = SSL_group_to_name(ssl, (int)SSL_get_negotiated_group(ssl));
	unsigned len = 0;

	SSL_get0_alpn_selected(ssl, &name, &len);
	if (len < sizeof(c->alpn))
		memcpy(c->alpn, name ? (const char *)name : "", len);
	text_copy(c->group, sizeof(c->group), group ? group : "");
	c->cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl));
	c->peer = SSL_get1_peer_certificate(ssl);
	c->mark = tls_handshake_mark(c->handshake);
}

/* The handshake is done: from here on the records are ours. */
static void opened(struct tls *c)
{
	uint8_t *to = c->stream.thread->scratch[SCRATCH_PLAIN];
	struct tls_handshake *h = c->handshake;
	const char *why;
	size_t n;

	keep_names(c, h->ssl);
	while ((n = tls_handshake_left(h, to, THREAD_SCRATCH)))
		buf_add(&c->in, &c->stream.thread->pool, to, n);
	if (tls_handshake_keys(h, &c->read, &c->write) < 0) {
		tls_fail(c, "tls: no keys from OpenSSL");
		return;
	}
	loop_disarm(c->stream.thread->loop, &h->later);
	tls_handshake_free(h);
	c->handshake = NULL;
	tls_set_state(c, TLS_OPEN);
	why = c->verify ? c->verify(c->verify_arg, c->peer) : NULL;
	if (why) {
		tls_fail_with(c, TLS_ACCESS_DENIED, why);
		return;
	}
	if (c->stream.finished)
		tls_say_alert(c, TLS_CLOSE_NOTIFY);
	c->stream.ready(&c->stream, STREAM_OPEN);
}

/* Has this turn time for a step? Else it comes later. */
static bool may_shake(struct tls *c)
{
	struct thread *t = c->stream.thread;

	if (t->shook != loop_now(t->loop))
		t->shakes = 0;
	t->shook = loop_now(t->loop);
	if (t->shakes++ < SHAKES_A_TURN)
		return true;
	loop_arm(t->loop, &c->handshake->later, 0);
	return false;
}

static void shake(struct tls *c)
{
	struct stream_bytes run[STREAM_RUNS];
	int r;

	if (!may_shake(c))
		return;

	for (;;) {
		unsigned n, i;
		size_t used = 0;

		r = tls_handshake_step(c->handshake);
		send_handshake(c);
		if (r)
			break;
		n = stream_peek(c->below, run, TLS_HEADER + TLS_BODY);
		if (!n)
			break;
		for (i = 0; i < n; i++) {
			tls_handshake_eat(c->handshake, run[i].data, run[i].len);
			used += run[i].len;
		}
		stream_consume(c->below, used);
	}
	if (c->state != TLS_SHAKES)
		return;
	if (r < 0) {
		c->alerted = true; /* by OpenSSL, if it was ours to say */
		tls_fail(c, c->handshake->why);
	} else if (r > 0) {
		opened(c);
	} else if (c->below->ended) {
		tls_fail(c, "tls: peer ended the connection in the handshake");
	}
}

static void shake_later(struct loop_timer *t)
{
	struct tls *c = container_of(t, struct tls_handshake, later)->connection;

	if (c->state == TLS_SHAKES)
		shake(c);
}

static void begin(struct loop_task *t)
{
	struct tls *c = container_of(t, struct tls, task);

	/* Below may still be connecting: it says STREAM_OPEN then, and takes nothing before. */
	if (!c->began && stream_room(c->below)) {
		c->began = true;
		shake(c);
	}
}

static void too_late(struct loop_timer *t)
{
	tls_fail(container_of(t, struct tls, deadline), "tls: handshake timed out");
}

/* ------------------------------------------------------------------ events of below */

static void below_failed(struct tls *c)
{
	c->alerted = false; /* nobody hears it */
	if (c->state == TLS_DRAINS)
		end(c, c->below->why);
	else
		tls_fail(c, c->below->why);
}

static void below_ready(struct stream *below, unsigned events)
{
	struct tls *c = below->owner;
	unsigned tell = 0;

	if (events & STREAM_FAILED) {
		below_failed(c);
		return;
	}
	if (events & STREAM_WRITABLE)
		tls_push(c);
	if (c->state == TLS_DRAINS && !c->out.len)
		end(c, NULL);
	if (c->state == TLS_SHAKES) {
		c->began = true;
		shake(c);
		return;
	}
	if (c->state != TLS_OPEN)
		return;
	if ((events & STREAM_READABLE) && c->want_read) {
		c->want_read = false;
		tell |= STREAM_READABLE;
	}
	if ((events & STREAM_WRITABLE) && c->want_write && !c->out.len) {
		c->want_write = false;
		tell |= STREAM_WRITABLE;
	}
	if (tell)
		c->stream.ready(&c->stream, tell);
}

/* ------------------------------------------------------------------ made */

static const struct stream_ops ops = {
	.peek = tls_peek,
	.consume = tls_consume,
	.room = tls_room,
	.write = tls_write,
	.finish = tls_finish,
	.close = tls_close,
	.kept = tls_kept,
};

struct stream *tls_stream(struct thread *t, struct stream *below, const struct tls_plan *plan)
{
	struct tls *c = mem_alloc(sizeof(*c));

	c->stream.ops = &ops;
	c->stream.thread = t;
	c->below = below;
	sock_tcp_only(below);
	below->owner = c;
	below->ready = below_ready;
	c->server = plan->server;
	c->verify = plan->verify;
	c->verify_arg = plan->arg;
	c->cipher = "";
	list_init(&c->orphan.link);
	c->handshake = tls_handshake_new(plan->ctx, plan->server, plan->anonymous);
	c->handshake->connection = c;
	c->handshake->later.due = shake_later;
	c->flush.run = tls_end_of_turn;
	c->deadline.due = too_late;
	loop_arm(t->loop, &c->deadline, plan->deadline_ns ? plan->deadline_ns : DEADLINE_NS);
	c->task.run = begin;
	loop_defer(t->loop, &c->task);
	return &c->stream;
}

static const struct tls *tls_of(const struct stream *s)
{
	assert(s->ops == &ops);
	return of(s);
}

struct stream *tls_below(const struct stream *s)
{
	return tls_of(s)->below;
}

const char *tls_alpn(const struct stream *s)
{
	return tls_of(s)->alpn;
}

const char *tls_cipher(const struct stream *s)
{
	return tls_of(s)->cipher;
}

const char *tls_group(const struct stream *s)
{
	return tls_of(s)->group;
}

uint32_t tls_mark(const struct stream *s)
{
	return tls_of(s)->mark;
}

void *tls_peer(const struct stream *s)
{
	return tls_of(s)->peer;
}
