/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_handshake.c: OpenSSL does the handshake, between two buffers in memory; then its two traffic secrets are taken
 * and it goes. They come through the keylog callback, the only door that OpenSSL has for them; nothing is logged.
 *
 * Its part ends exactly where the records of the application begin: tickets are all that a server still says when the
 * client has finished, one record each (the sequence number goes on behind them), and it reads record by record (what
 * follows is still in the buffer).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/bio.h>
#include <openssl/err.h>

#include "stream.h"
#include "tls_parts.h"

#define HANDSHAKE_MOST (256 * 1024) /* bytes from the peer: chains of 100 KB are the longest that OpenSSL takes */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t from_hex(const char *s, uint8_t to[TLS_SECRET])
{
	size_t n;

	for (n = 0; n < TLS_SECRET && hex(s[2 * n]) >= 0 && hex(s[2 * n + 1]) >= 0; n++)
		to[n] = (uint8_t)(hex(s[2 * n]) << 4 | hex(s[2 * n + 1]));
	return hex(s[2 * n]) < 0 ? n : 0;
}

/* "LABEL client-random secret", in hex. */
static void secret(const SSL *ssl, const char *line)
{
	struct tls_handshake *h = SSL_get_app_data(ssl);
	const char *text = strrchr(line, ' ');

	if (!h || !text)
		return;
	if (text_starts(line, "CLIENT_TRAFFIC_SECRET_0 "))
		h->hash = (uint8_t)from_hex(text + 1, h->client_secret);
	else if (text_starts(line, "SERVER_TRAFFIC_SECRET_0 "))
		h->hash = (uint8_t)from_hex(text + 1, h->server_secret);
}

bool tls_prepare(void *ctx)
{
	static const char suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

	SSL_CTX_set_keylog_callback(ctx, secret);
	SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(ctx, 0);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 && SSL_CTX_set_ciphersuites(ctx, suites) == 1 &&
	       SSL_CTX_set_num_tickets(ctx, 0) == 1 && SSL_CTX_set_max_early_data(ctx, 0) == 1;
}

static int mark_slot(void)
{
	static int slot = -1; /* set by the control thread, before any other has a context with one */

	if (slot < 0)
		slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	return slot;
}

void tls_set_mark(void *ctx, uint32_t mark)
{
	if (SSL_CTX_set_ex_data(ctx, mark_slot(), (void *)(uintptr_t)mark) != 1)
		abort(); /* out of memory */
}

uint32_t tls_handshake_mark(const struct tls_handshake *h)
{
	return h->anonymous ? (uint32_t)(uintptr_t)SSL_CTX_get_ex_data(SSL_get_SSL_CTX(h->ssl), mark_slot()) : 0;
}

struct tls_handshake *tls_handshake_new(SSL_CTX *ctx, bool server, bool anonymous)
{
	struct tls_handshake *h = mem_alloc(sizeof(*h));
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

	assert(SSL_CTX_get_keylog_callback(ctx) == secret); /* tls_prepare() */
	h->server = server;
	h->anonymous = anonymous;
	h->ssl = SSL_new(ctx);
	if (!h->ssl || !in || !out) {
		log_error("out of memory for TLS");
		abort();
	}
	SSL_set_app_data(h->ssl, h);
	SSL_set_bio(h->ssl, in, out);
	/* Whatever the context says: both sides prove who they are. */
	if (!anonymous)
		SSL_set_verify(h->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			       SSL_get_verify_callback(h->ssl));
	if (server)
		SSL_set_accept_state(h->ssl);
	else
		SSL_set_connect_state(h->ssl);
	return h;
}

void tls_handshake_free(struct tls_handshake *h)
{
	if (!h)
		return;
	SSL_set_app_data(h->ssl, NULL);
	SSL_set_quiet_shutdown(h->ssl, 1);
	SSL_free(h->ssl);
	mem_wipe(h, sizeof(*h));
	free(h);
}

void tls_handshake_eat(struct tls_handshake *h, const uint8_t *data, size_t len)
{
	h->eaten += len;
	BIO_write(SSL_get_rbio(h->ssl), data, (int)len); /* to memory: all or abort */
}

/* What is still to be sent: whole records. */
static unsigned count_records(const SSL *ssl)
{
	const uint8_t *at = NULL;
	long left = BIO_get_mem_data(SSL_get_wbio(ssl), (char **)&at);
	unsigned n = 0;

	while (left >= TLS_HEADER) {
		long len = TLS_HEADER + (at[3] << 8 | at[4]);

		n += at[0] == TLS_DATA;
		at += len;
		left -= len;
	}
	return n;
}

static int fail(struct tls_handshake *h, const char *why)
{
	h->why = why;
	ERR_clear_error();
	return -EPROTO;
}

int tls_handshake_step(struct tls_handshake *h)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(h->ssl);
	if (r != 1) {
		if (SSL_get_error(h->ssl, r) != SSL_ERROR_WANT_READ) {
			/* For want of a certificate OpenSSL blames the peer's version. */
			bool any = SSL_get_certificate(h->ssl);

			return fail(h, any ? tls_why(h->ssl) : "tls: no certificate of our own");
		}
		return h->eaten > HANDSHAKE_MOST ? fail(h, "tls: handshake is too long") : 0;
	}
	/* The first three cannot be, unless OpenSSL or the context is not what we think. */
	if (SSL_version(h->ssl) != TLS1_3_VERSION)
		return fail(h, "tls: peer does not speak TLS 1.3");
	if (!h->hash || SSL_has_pending(h->ssl))
		return fail(h, "tls: no secrets from OpenSSL");
	if (!h->anonymous &&
	    (SSL_get_verify_result(h->ssl) != X509_V_OK || !SSL_get0_peer_certificate(h->ssl)))
		return fail(h, "tls: certificate does not verify");
	if (h->server)
		h->tickets = count_records(h->ssl);
	return 1;
}

size_t tls_handshake_says(struct tls_handshake *h, uint8_t *to, size_t len)
{
	int n = BIO_read(SSL_get_wbio(h->ssl), to, (int)len);

	return n > 0 ? (size_t)n : 0;
}

size_t tls_handshake_left(struct tls_handshake *h, uint8_t *to, size_t len)
{
	int n = BIO_read(SSL_get_rbio(h->ssl), to, (int)len);

	return n > 0 ? (size_t)n : 0;
}

int tls_handshake_keys(struct tls_handshake *h, struct tls_keys *in, struct tls_keys *out)
{
	uint16_t suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(h->ssl));
	int r = tls_keys_set(in, suite, h->server ? h->client_secret : h->server_secret, h->hash, false);

	if (r)
		return r;
	r = tls_keys_set(out, suite, h->server ? h->server_secret : h->client_secret, h->hash, true);
	out->sequence = h->tickets;
	return r;
}
