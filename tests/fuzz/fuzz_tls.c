/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TLS connection and a hostile peer. The first byte says how: what follows is sent to a server or a client as it is
 * (the handshake), or to an open connection: as it is, or as records that are sealed with the right keys, so that the
 * fuzzer reaches what stands behind the AEAD. Records are instructions: type, length, content. Bytes come in pieces.
 */
#include <stdlib.h>
#include <string.h>

#include "../../userspace/io/tls_parts.h"
#include "../unit/pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct loop *loop;
static struct thread *thread;
static SSL_CTX *ctx;
static size_t got;
static bool failed;

static void must(bool law)
{
	if (!law)
		abort();
}

static void end_turn(struct loop_timer *t)
{
	loop_stop(loop);
}

static void turn(void)
{
	struct loop_timer end = {.due = end_turn};

	loop_arm(loop, &end, 0);
	must(loop_run(loop) == 0);
}

static void read_all(struct stream *s)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned n, i;

	while ((n = stream_peek(s, run, 5000))) {
		size_t all = 0;

		for (i = 0; i < n; i++)
			all += run[i].len;
		must(all > 0 && all <= 5000);
		stream_consume(s, all / 2 + 1);
		got += all / 2 + 1;
	}
}

static void ready(struct stream *s, unsigned events)
{
	must(!failed);
	if (events & STREAM_FAILED) {
		failed = true;
		must(s->why && s->why[0]);
		return;
	}
	read_all(s);
}

static void open_now(struct tls *c, struct tls_keys *peer)
{
	static const uint8_t secret[TLS_SECRET];

	loop_cancel(loop, &c->task);
	loop_disarm(loop, &c->handshake->later);
	tls_handshake_free(c->handshake);
	c->handshake = NULL;
	tls_set_state(c, TLS_OPEN);
	must(!tls_keys_set(&c->read, 0x1301, secret, 32, false) && !tls_keys_set(&c->write, 0x1301, secret, 32, true));
	must(!tls_keys_set(peer, 0x1301, secret, 32, true));
	read_all(&c->stream);
}

static void send_bytes(struct pair_end *e, const uint8_t *data, size_t len)
{
	unsigned stuck = 0;

	while (len && !failed && stuck < 3) {
		struct stream_bytes b = {.data = (uint8_t *)data, .len = len};
		size_t n = stream_write(&e->s, &b, 1);

		stuck += !n; /* full, and nobody reads: it has had its close_notify */
		data += n;
		len -= n;
		turn();
	}
}

/* How many bytes of content an honest reading gives at most. */
static size_t send_records(struct pair_end *e, struct tls_keys *k, const uint8_t *data, size_t len)
{
	uint8_t record[TLS_OVERHEAD + 256];
	size_t content = 0;

	while (len >= 2 && !failed) {
		size_t n = data[1] < len - 2 ? data[1] : len - 2;
		ssize_t size = tls_seal(k, record, data[0], data + 2, n);

		must(size > 0);
		send_bytes(e, record, (size_t)size);
		content += n;
		/* What an honest peer does behind a KeyUpdate; else every later record would be refused. */
		if (data[0] == TLS_HANDSHAKE && n == 5 && data[2] == TLS_KEY_UPDATE)
			must(!tls_keys_update(k));
		data += 2 + n;
		len -= 2 + n;
	}
	return content;
}

static void start(void)
{
	loop = loop_new();
	thread = thread_control(loop);
	ctx = SSL_CTX_new(TLS_method());
	if (!tls_prepare(ctx))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct tls_keys keys = {0};
	struct pair_end *end[2];
	size_t content = SIZE_MAX;
	struct stream *s;
	uint8_t how;

	if (!loop)
		start();
	if (!len)
		return 0;
	how = *data++;
	len--;
	got = 0;
	failed = false;
	pair_make(thread, end, 70000, how & 4 ? 1 + (how >> 3) * 50 : 0, how);
	s = tls_stream(thread, &end[0]->s, &(struct tls_plan){.ctx = ctx, .server = how & 1});
	s->ready = ready;
	if (how & 2)
		open_now(container_of(s, struct tls, stream), &keys);
	turn();
	if ((how & 2) && !(how & 128))
		content = send_records(end[1], &keys, data, len);
	else
		send_bytes(end[1], data, len);
	if (how & 64)
		stream_finish(&end[1]->s);
	turn();
	turn();
	must(got <= content);
	must(thread->pool.lent < 64);
	stream_close(s, how & 32 ? NULL : "over");
	stream_close(&end[1]->s, NULL);
	while (!list_empty(&thread->orphans)) {
		struct thread_orphan *o = container_of(thread->orphans.next, struct thread_orphan, link);

		o->end(o);
	}
	turn();
	turn();
	must(thread->pool.lent == 0);
	tls_keys_free(&keys);
	return 0;
}
