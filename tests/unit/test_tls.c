/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over streams in memory: however the bytes fall, whoever the peer is, and OpenSSL itself at the other end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sockets.h"
#include "tls_ends.h"

static struct signer ca, other_ca, leaf, expired, stranger;
static SSL_CTX *good, *without, *old, *strange;
static struct pair_end *pair_ends[2];

static const char *not_you(void *arg, void *x509)
{
	assert_non_null(x509);
	return "tls: not you";
}

static void start(struct owner *o, struct stream *below, SSL_CTX *ctx, bool server, uint64_t deadline)
{
	struct tls_plan plan = {.ctx = ctx, .server = server, .deadline_ns = deadline};

	*o = (struct owner){.random = server};
	o->s = tls_stream(thread, below, &plan);
	o->s->owner = o;
	o->s->ready = ready;
}

static void ends(size_t capacity, size_t slice)
{
	pair_make(thread, pair_ends, capacity, slice, 7);
}

static void both(struct owner o[2], SSL_CTX *client, SSL_CTX *server)
{
	start(&o[0], &pair_ends[0]->s, client, false, 0);
	start(&o[1], &pair_ends[1]->s, server, true, 0);
}

static void close_both(struct owner o[2])
{
	unsigned i;

	for (i = 0; i < 2; i++)
		stream_close(o[i].s, o[i].failed ? o[i].s->why : NULL);
	turn(0);
	turn(0);
}

/* ------------------------------------------------------------------ handshake */

static void names(void **state)
{
	struct owner o[2];
	unsigned i;

	ends(1 << 20, 0);
	both(o, good, good);
	assert_int_equal(o[0].opened + o[1].opened, 0);
	UNTIL(o[0].opened && o[1].opened);
	for (i = 0; i < 2; i++) {
		assert_string_equal(tls_alpn(o[i].s), "h2");
		assert_string_equal(tls_cipher(o[i].s), "TLS_AES_128_GCM_SHA256");
		assert_true(strlen(tls_group(o[i].s)) > 0);
		assert_non_null(tls_peer(o[i].s));
		assert_ptr_equal(tls_below(o[i].s), &pair_ends[i]->s);
		assert_null(of_tls(o[i].s)->handshake);
	}
	assert_int_equal(thread->pool.lent, 0);
	close_both(o);
}

/* The client learns of it after it was done: in TLS 1.3 its certificate is looked at last. */
static void refused(SSL_CTX *client, SSL_CTX *server, const char *client_why, const char *server_why)
{
	struct owner o[2];

	ends(1 << 20, 0);
	both(o, client, server);
	UNTIL(o[0].failed && o[1].failed);
	assert_string_equal(o[0].s->why, client_why);
	assert_string_equal(o[1].s->why, server_why);
	assert_int_equal(o[1].opened, 0);
	close_both(o);
}

/* Many at once: a turn does some, and none is forgotten. */
static void a_crowd(void **state)
{
	enum { CROWD = 40 };
	struct owner o[CROWD][2];
	unsigned i, opened, before = 0, most = 0;

	for (i = 0; i < CROWD; i++) {
		ends(1 << 20, 0);
		both(o[i], good, good);
	}
	do {
		turn(0);
		for (i = opened = 0; i < CROWD; i++)
			opened += o[i][0].opened + o[i][1].opened;
		most = opened - before > most ? opened - before : most;
		before = opened;
	} while (opened < 2 * CROWD);
	assert_true(most <= 8);
	for (i = 0; i < CROWD; i++)
		close_both(o[i]);
}

static void who_is_refused(void **state)
{
	refused(old, good, "tls: peer sent alert certificate_expired", "tls: certificate has expired");
	refused(good, old, "tls: certificate has expired", "tls: peer sent alert certificate_expired");
	refused(strange, good, "tls: unknown ca", "tls: peer sent alert unknown_ca");
	refused(without, good, "tls: peer sent alert certificate_required", "tls: peer sent no certificate");
	refused(good, without, "tls: peer sent alert protocol_version", "tls: no certificate of our own");
}

static void verify_refuses(void **state)
{
	struct owner o[2];
	unsigned side;

	for (side = 0; side < 2; side++) {
		struct tls_plan plan = {.ctx = good, .server = side, .verify = not_you};

		ends(1 << 20, 0);
		start(&o[!side], &pair_ends[!side]->s, good, !side, 0);
		o[side] = (struct owner){.s = tls_stream(thread, &pair_ends[side]->s, &plan)};
		o[side].s->owner = &o[side];
		o[side].s->ready = ready;
		UNTIL(o[side].failed);
		assert_string_equal(o[side].s->why, "tls: not you");
		assert_int_equal(o[side].opened, 0);
		stream_close(o[side].s, o[side].s->why);
		UNTIL(o[!side].failed);
		assert_string_equal(o[!side].s->why, "tls: peer sent alert access_denied");
		stream_close(o[!side].s, o[!side].s->why);
		rest();
	}
}

/* Bytes instead of a handshake, toward both sides. */
static void no_handshake_at_all(void **state)
{
	static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
					    "SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01\x40\x00\xff\xff\xff"};
	unsigned i, side;

	for (i = 0; i < array_size(texts); i++)
		for (side = 0; side < 2; side++) {
			struct stream_bytes b = {.data = (uint8_t *)texts[i], .len = strlen(texts[i])};
			struct owner o;

			ends(1 << 20, 0);
			start(&o, &pair_ends[0]->s, good, side, 0);
			assert_int_equal(stream_write(&pair_ends[1]->s, &b, 1), b.len);
			stream_finish(&pair_ends[1]->s);
			UNTIL(o.failed);
			assert_int_equal(strncmp(o.s->why, "tls: ", 5), 0);
			stream_close(o.s, o.s->why);
			stream_close(&pair_ends[1]->s, NULL);
			rest();
		}
}

static void older_versions(void **state)
{
	SSL_CTX *tls12 = tls_ends_ctx(&ca, &leaf, false);
	struct openssl_end peer;
	struct owner o;

	SSL_CTX_set_max_proto_version(tls12, TLS1_2_VERSION);
	ends(1 << 20, 0);
	start(&o, &pair_ends[0]->s, good, true, 0);
	openssl_start(&peer, tls12, false, &pair_ends[1]->s);
	SSL_do_handshake(peer.ssl);
	openssl_carry(&peer);
	UNTIL(o.failed);
	assert_string_equal(o.s->why, "tls: peer does not speak TLS 1.3");
	stream_close(o.s, o.s->why);
	openssl_end(&peer, NULL);
	SSL_CTX_free(tls12);
	rest();
}

static void a_handshake_has_a_deadline(void **state)
{
	struct owner o;

	ends(1 << 20, 0);
	start(&o, &pair_ends[0]->s, good, false, 20 * MS);
	UNTIL(o.failed);
	assert_string_equal(o.s->why, "tls: handshake timed out");
	stream_close(o.s, o.s->why);
	stream_close(&pair_ends[1]->s, NULL);
	rest();
}

static void the_end_in_the_handshake(void **state)
{
	struct owner o;
	unsigned i;

	for (i = 0; i < 2; i++) {
		ends(1 << 20, 0);
		start(&o, &pair_ends[0]->s, good, i, 0);
		stream_close(&pair_ends[1]->s, i ? "gone" : NULL);
		UNTIL(o.failed);
		assert_string_equal(o.s->why, i ? "reset by peer" : "tls: peer ended the connection in the handshake");
		stream_close(o.s, o.s->why);
		rest();
	}
	/* And nobody waits for it. */
	ends(1 << 20, 0);
	start(&o, &pair_ends[0]->s, good, false, 0);
	stream_close(o.s, NULL);
	stream_close(&pair_ends[1]->s, NULL);
	rest();
}

/* ------------------------------------------------------------------ bytes */

static void carry(size_t capacity, size_t slice, size_t size)
{
	uint8_t *bytes = malloc(2 * size), *got = malloc(2 * size);
	struct owner o[2];
	unsigned i;
	size_t n;

	for (n = 0; n < 2 * size; n++)
		bytes[n] = (uint8_t)(n * 11 + n / 253);
	ends(capacity, slice);
	both(o, good, good);
	for (i = 0; i < 2; i++) {
		o[i].send = bytes + i * size;
		o[i].left = i ? size : size / 2; /* one ends long before the other */
		o[i].to = got + i * size;
		o[i].finish = true;
	}
	UNTIL((o[0].s->ended && o[1].s->ended) || o[0].failed || o[1].failed);
	assert_int_equal(o[0].failed + o[1].failed, 0);
	assert_int_equal(o[0].got, size);
	assert_int_equal(o[1].got, size / 2);
	assert_memory_equal(o[0].to, bytes + size, size);
	assert_memory_equal(o[1].to, bytes, size / 2);
	assert_int_equal(o[0].s->read_bytes, size);
	assert_int_equal(o[1].s->written_bytes, size);
	assert_int_equal(thread->pool.lent, 0);
	assert_true(pair_ends[0]->s.ended && pair_ends[1]->s.ended); /* close_notify, then FIN */
	close_both(o);
	free(bytes);
	free(got);
}

static void however_they_fall(void **state)
{
	carry(1 << 20, 1, 3000);
	carry(1 << 20, 3, 20000);
	carry(1000, 0, 300000);
	carry(7, 5, 5000);
	carry(1 << 20, 20000, 3000000);
	carry(1 << 20, 0, 10000000);
	carry(300000, 0, 5000000);
}

/* All that is written in a turn goes down at its end, in one piece. */
static void one_write_a_turn(void **state)
{
	struct owner o[2];
	unsigned i, before;

	ends(1 << 20, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	before = pair_ends[0]->writes;
	for (i = 0; i < 1000; i++) {
		struct stream_bytes b = {.data = (uint8_t *)"0123456789", .len = 10};

		assert_int_equal(stream_write(o[0].s, &b, 1), 10);
	}
	assert_int_equal(pair_ends[0]->writes, before);
	UNTIL(o[1].got == 10000);
	assert_int_equal(pair_ends[0]->writes, before + 1);
	assert_true(pair_ends[0]->s.written_bytes < 15000); /* one record */
	close_both(o);
}

/* More than the scratch holds: all of it is taken, for below is not full; and close_notify comes behind all of it. */
static void more_than_the_scratch(void **state)
{
	static uint8_t bytes[4 * THREAD_SCRATCH];
	const size_t sizes[] = {16 * TLS_PLAIN - 1, 16 * TLS_PLAIN, 16 * TLS_PLAIN + 1, sizeof(bytes)};
	struct owner o[2];
	unsigned i;

	for (i = 0; i < array_size(sizes); i++) {
		struct stream_bytes b = {.data = bytes, .len = sizes[i]};

		ends(8 << 20, 0);
		both(o, good, good);
		UNTIL(o[0].opened && o[1].opened);
		assert_int_equal(stream_write(o[0].s, &b, 1), sizes[i]);
		assert_int_equal(o[0].writable, 0);
		stream_finish(o[0].s);
		UNTIL(o[1].s->ended || o[1].failed);
		assert_int_equal(o[1].failed, 0);
		assert_int_equal(o[1].got, sizes[i]);
		close_both(o);
	}
}

/* Two connections write in turn: each one's records stay its own. */
static void they_share_the_scratch(void **state)
{
	struct owner o[2][2];
	struct pair_end *first[2];
	unsigned i, k;

	ends(1 << 20, 0);
	memcpy(first, pair_ends, sizeof(first));
	both(o[0], good, good);
	ends(1 << 20, 0);
	both(o[1], good, good);
	UNTIL(o[0][0].opened && o[0][1].opened && o[1][0].opened && o[1][1].opened);
	for (i = 0; i < 100; i++)
		for (k = 0; k < 2; k++) {
			struct stream_bytes b = {.data = (uint8_t *)"0123456789", .len = 10};

			assert_int_equal(stream_write(o[k][0].s, &b, 1), 10);
		}
	UNTIL(o[0][1].got == 1000 && o[1][1].got == 1000);
	close_both(o[0]);
	close_both(o[1]);
}

/* A reader that does not read: so much waits, and no more is taken. */
static void a_full_one_takes_no_more(void **state)
{
	static uint8_t bytes[1 << 20];
	struct stream_bytes b = {.data = bytes, .len = sizeof(bytes)};
	__typeof__(((struct stream *)0)->ready) below_ready;
	size_t took, all = 0;
	struct owner o[2];

	ends(100000, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	below_ready = pair_ends[1]->s.ready;
	pair_ends[1]->s.ready = NULL; /* deaf */
	while ((took = stream_write(o[0].s, &b, 1))) {
		all += took;
		turn(0);
		assert_true(all <= 1 << 20);
	}
	assert_int_equal(stream_room(o[0].s), 0);
	assert_true(thread->pool.lent <= 40);
	assert_int_equal(o[0].writable, 0);
	pair_ends[1]->s.ready = below_ready;
	pair_event(pair_ends[1], STREAM_READABLE);
	UNTIL(o[1].got == all);
	UNTIL(o[0].writable == 1);
	assert_true(stream_room(o[0].s) > 0);
	assert_int_equal(thread->pool.lent, 0);
	close_both(o);
}

/* ------------------------------------------------------------------ the ends */

static void cut(bool server)
{
	struct owner o[2];

	ends(1 << 20, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	/* FIN without close_notify */
	stream_finish(&pair_ends[server]->s);
	UNTIL(o[!server].failed);
	assert_string_equal(o[!server].s->why, "tls: the connection ended without close_notify");
	assert_false(o[!server].s->ended);
	close_both(o);
}

static void truncation_is_a_failure(void **state)
{
	cut(false);
	cut(true);
}

static void a_reset_is_passed_on(void **state)
{
	struct owner o[2];

	ends(1 << 20, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	stream_close(o[0].s, "enough");
	UNTIL(o[1].failed);
	assert_string_equal(o[1].s->why, "reset by peer");
	stream_close(o[1].s, o[1].s->why);
	rest();
	assert_int_equal(o[0].failed, 0);
}

/* Closed in order while below is full: all of it arrives, and close_notify. */
static void close_in_order_drains(void **state)
{
	static uint8_t bytes[200000];
	struct stream_bytes b = {.data = bytes, .len = sizeof(bytes)};
	struct owner o[2];

	ends(5000, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	assert_int_equal(stream_write(o[0].s, &b, 1), sizeof(bytes));
	stream_close(o[0].s, NULL);
	UNTIL(o[1].s->ended);
	assert_int_equal(o[1].got, sizeof(bytes));
	assert_int_equal(o[1].failed, 0);
	stream_close(o[1].s, NULL);
	UNTIL(list_empty(&thread->orphans));
	rest();
}

static void drains_no_longer_than_its_thread(void **state)
{
	static uint8_t bytes[200000];
	struct stream_bytes b = {.data = bytes, .len = sizeof(bytes)};
	struct owner o[2];

	ends(5000, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	pair_ends[1]->s.ready = NULL;
	assert_int_equal(stream_write(o[0].s, &b, 1), sizeof(bytes));
	stream_close(o[0].s, NULL);
	rest();
	assert_false(list_empty(&thread->orphans));
	stream_close(o[1].s, "gone");
	rest();
}

/* ------------------------------------------------------------------ attacks */

static void a_touched_record(void **state)
{
	struct stream_bytes b = {.data = (uint8_t *)"0123456789", .len = 10};
	struct owner o[2];
	struct iovec iov;

	ends(1 << 20, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	assert_int_equal(stream_write(o[0].s, &b, 1), 10);
	loop_defer(loop, &of_tls(o[0].s)->flush);
	of_tls(o[0].s)->flush.run(&of_tls(o[0].s)->flush);
	assert_int_equal(buf_peek(&pair_ends[1]->in, &iov, 1), 1);
	((uint8_t *)iov.iov_base)[8] ^= 1;
	UNTIL(o[1].failed);
	assert_string_equal(o[1].s->why, "tls: a record does not decrypt");
	assert_int_equal(o[1].got, 0);
	stream_close(o[1].s, o[1].s->why);
	UNTIL(o[0].failed);
	assert_string_equal(o[0].s->why, "tls: peer sent alert bad_record_mac");
	stream_close(o[0].s, o[0].s->why);
	rest();
}

/* Sends what no honest peer sends: records made with its keys. */
static void evil(enum tls_type type, const char *bytes, size_t len, unsigned times, bool from_server, const char *why)
{
	struct owner o[2];
	uint8_t record[TLS_OVERHEAD + 200];
	unsigned i;

	ends(1 << 20, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	for (i = 0; i < times; i++) {
		ssize_t n = tls_seal(&of_tls(o[from_server].s)->write, record, type, (const uint8_t *)bytes, len);
		struct stream_bytes b = {.data = record, .len = (size_t)n};

		stream_write(&pair_ends[from_server]->s, &b, 1);
	}
	if (why) {
		UNTIL(o[!from_server].failed);
		assert_string_equal(o[!from_server].s->why, why);
	} else {
		rest();
		assert_int_equal(o[!from_server].failed, 0);
	}
	stream_close(o[from_server].s, "evil");
	stream_close(o[!from_server].s, "evil");
	rest();
}

#define UNEXPECTED "tls: unexpected message"

static void what_no_honest_peer_sends(void **state)
{
	evil(TLS_DATA, "", 0, 32, false, NULL);
	evil(TLS_DATA, "", 0, 33, false, "tls: too many records without content");
	evil(TLS_HANDSHAKE, "\4\0\0\1x", 5, 33, true, "tls: too many records without content");
	evil(TLS_HANDSHAKE, "\4\0\0\1x\4\0\0\2xy", 11, 2, true, NULL); /* tickets */
	evil(TLS_HANDSHAKE, "\4\0\0\1x", 5, 1, false, UNEXPECTED);     /* to a server */
	evil(TLS_HANDSHAKE, "\4\1\0\1x", 5, 1, true, UNEXPECTED);      /* too long */
	evil(TLS_HANDSHAKE, "", 0, 1, true, UNEXPECTED);
	evil(TLS_HANDSHAKE, "\4\0\0", 3, 1, true, UNEXPECTED);
	evil(TLS_HANDSHAKE, "\30\0\0\1\2", 5, 1, false, "tls: a message makes no sense");
	evil(TLS_HANDSHAKE, "\30\0\0\1\0\30\0\0\1\0", 10, 1, false, UNEXPECTED); /* behind a change of keys */
	evil(TLS_HANDSHAKE, "\30\0\0\2\0\0", 6, 1, false, UNEXPECTED);
	evil(TLS_HANDSHAKE, "\15\0\0\0", 4, 1, true, UNEXPECTED); /* CertificateRequest: we did not offer it */
	evil(TLS_HANDSHAKE, "\1\0\0\0", 4, 1, false, UNEXPECTED); /* renegotiation */
	evil(TLS_CCS, "\1", 1, 1, false, UNEXPECTED);
	evil(0x55, "x", 1, 1, false, UNEXPECTED);
	evil(TLS_ALERT, "\2", 1, 1, false, "tls: a message makes no sense");
	evil(TLS_ALERT, "\2\52", 2, 1, false, "tls: peer sent alert bad_certificate");
	evil(TLS_ALERT, "\1\132", 2, 1, false, NULL); /* user_canceled */
	evil(TLS_ALERT, "\1\177", 2, 1, false, "tls: peer sent an unknown alert");
	evil(TLS_HANDSHAKE, "\4\0\0\7xyz", 7, 1, true, NULL); /* goes on in the next record */
	evil(TLS_HANDSHAKE, "\4\0\0\3xyz\4\0\0\5ab", 13, 1, true, NULL);
}

/* ------------------------------------------------------------------ KeyUpdate */

static void we_update_before_the_key_is_worn_out(void **state)
{
	enum { SIZE = 400000 };
	uint8_t *bytes = calloc(1, SIZE), *got = malloc(SIZE);
	struct owner o[2];

	ends(1 << 20, 0);
	both(o, good, good);
	UNTIL(o[0].opened && o[1].opened);
	of_tls(o[0].s)->write.sequence = of_tls(o[1].s)->read.sequence = TLS_RECORDS_PER_KEY - 3;
	memset(bytes, 0x42, SIZE);
	o[0].send = bytes;
	o[0].left = SIZE;
	o[1].to = got;
	work(&o[0]);
	UNTIL(o[1].got == SIZE || o[1].failed);
	assert_int_equal(o[1].failed, 0);
	assert_memory_equal(bytes, got, SIZE);
	assert_true(of_tls(o[0].s)->write.sequence < 100);
	assert_int_equal(of_tls(o[0].s)->write.sequence, of_tls(o[1].s)->read.sequence);
	close_both(o);
	free(bytes);
	free(got);
}

/* ------------------------------------------------------------------ OpenSSL at the other end */

/* Behind the `have` bytes that are there: how many then. */
static size_t openssl_read(struct openssl_end *o, uint8_t *to, size_t len, size_t have)
{
	int n;

	openssl_carry(o);
	while (have < len && (n = SSL_read(o->ssl, to + have, (int)(len - have))) > 0)
		have += (size_t)n;
	return have;
}

static void against_openssl(bool we_are_server, const char *suite)
{
	static uint8_t bytes[100000], got[100000];
	SSL_CTX *ctx = tls_ends_ctx(&ca, &leaf, false); /* as it comes: with tickets */
	struct openssl_end peer;
	struct owner o;
	unsigned i, round;

	SSL_CTX_set_ciphersuites(ctx, suite);
	ends(1 << 20, 5000);
	start(&o, &pair_ends[0]->s, good, we_are_server, 0);
	openssl_start(&peer, ctx, !we_are_server, &pair_ends[1]->s);
	UNTIL((openssl_carry(&peer), SSL_do_handshake(peer.ssl) == 1) && (openssl_carry(&peer), o.opened));
	assert_string_equal(tls_cipher(o.s), suite);
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 3 + i / 255);
	for (round = 0; round < 4; round++) {
		size_t have = 0;

		if (round)
			SSL_key_update(peer.ssl, round > 1 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
		o.to = got;
		o.got = 0;
		assert_int_equal(SSL_write(peer.ssl, bytes, sizeof(bytes)), sizeof(bytes));
		UNTIL((openssl_carry(&peer), o.got == sizeof(bytes) || o.failed));
		assert_int_equal(o.failed, 0);
		assert_memory_equal(bytes, got, sizeof(bytes));
		memset(got, 0, sizeof(got));
		o.send = bytes;
		o.left = sizeof(bytes);
		work(&o);
		UNTIL((have = openssl_read(&peer, got, sizeof(got), have)) == sizeof(got));
		assert_memory_equal(bytes, got, sizeof(bytes));
	}
	SSL_shutdown(peer.ssl);
	openssl_carry(&peer);
	UNTIL(o.s->ended);
	stream_finish(o.s);
	UNTIL((openssl_read(&peer, got, 1, 0), SSL_get_shutdown(peer.ssl) & SSL_RECEIVED_SHUTDOWN));
	stream_close(o.s, NULL);
	openssl_end(&peer, NULL);
	SSL_CTX_free(ctx);
	rest();
}

static void openssl_is_the_peer(void **state)
{
	static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					     "TLS_CHACHA20_POLY1305_SHA256"};
	unsigned i;

	for (i = 0; i < array_size(suites); i++) {
		against_openssl(false, suites[i]);
		against_openssl(true, suites[i]);
	}
}

/* ------------------------------------------------------------------ */

static int make_peers(void **state)
{
	ca = signer_new("weft test CA", NULL, -DAY, DAY);
	other_ca = signer_new("another CA", NULL, -DAY, DAY);
	leaf = signer_new("leaf", &ca, -DAY, DAY);
	expired = signer_new("expired", &ca, -2 * DAY, -DAY);
	stranger = signer_new("stranger", &other_ca, -DAY, DAY);
	good = tls_ends_ctx(&ca, &leaf, true);
	without = tls_ends_ctx(&ca, NULL, true);
	old = tls_ends_ctx(&ca, &expired, true);
	strange = tls_ends_ctx(&other_ca, &stranger, true);
	return 0;
}

static int free_peers(void **state)
{
	SSL_CTX_free(good);
	SSL_CTX_free(without);
	SSL_CTX_free(old);
	SSL_CTX_free(strange);
	signer_free(&ca);
	signer_free(&other_ca);
	signer_free(&leaf);
	signer_free(&expired);
	signer_free(&stranger);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names),
		TEST(a_crowd),
		TEST(who_is_refused),
		TEST(verify_refuses),
		TEST(no_handshake_at_all),
		TEST(older_versions),
		TEST(a_handshake_has_a_deadline),
		TEST(the_end_in_the_handshake),
		TEST(however_they_fall),
		TEST(one_write_a_turn),
		TEST(more_than_the_scratch),
		TEST(they_share_the_scratch),
		TEST(a_full_one_takes_no_more),
		TEST(truncation_is_a_failure),
		TEST(a_reset_is_passed_on),
		TEST(close_in_order_drains),
		TEST(drains_no_longer_than_its_thread),
		TEST(a_touched_record),
		TEST(what_no_honest_peer_sends),
		TEST(we_update_before_the_key_is_worn_out),
		TEST(openssl_is_the_peer),
	};

	return cmocka_run_group_tests(tests, make_peers, free_peers);
}
