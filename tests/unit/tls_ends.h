/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_ends.h: a small CA, contexts of both sides, an owner who writes and reads, and an end that OpenSSL plays by
 * itself over a stream in memory.
 */
#ifndef WEFT_TEST_TLS_ENDS_H
#define WEFT_TEST_TLS_ENDS_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "../../userspace/io/tls_parts.h"
#include "pair.h"

#define DAY 86400

struct signer {
	X509 *cert;
	EVP_PKEY *key;
};

static inline struct signer signer_new(const char *name, const struct signer *by, long from, long to)
{
	struct signer s = {.cert = X509_new(), .key = EVP_EC_gen("P-256")};
	const char *constraint = by ? "CA:FALSE" : "critical,CA:TRUE";
	X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, NULL, NID_basic_constraints, constraint);

	if (!by)
		by = &s;
	X509_set_version(s.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(s.cert), (long)clock_ns() & 0x7fffffff);
	X509_gmtime_adj(X509_getm_notBefore(s.cert), from);
	X509_gmtime_adj(X509_getm_notAfter(s.cert), to);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(s.cert), "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
	X509_set_issuer_name(s.cert, X509_get_subject_name(by->cert));
	X509_set_pubkey(s.cert, s.key);
	X509_add_ext(s.cert, e, -1);
	X509_EXTENSION_free(e);
	X509_sign(s.cert, by->key, EVP_sha256());
	return s;
}

static inline void signer_free(struct signer *s)
{
	X509_free(s->cert);
	EVP_PKEY_free(s->key);
}

static int tls_ends_alpn(SSL *ssl, const uint8_t **out, uint8_t *len, const uint8_t *in, unsigned inlen, void *arg)
{
	int r = SSL_select_next_proto((uint8_t **)out, len, (const uint8_t *)"\2h2", 3, in, inlen);

	return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* `leaf` NULL: without a certificate. */
static inline SSL_CTX *tls_ends_ctx(const struct signer *ca, const struct signer *leaf, bool ours)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca->cert);
	if (leaf) {
		SSL_CTX_use_certificate(ctx, leaf->cert);
		SSL_CTX_use_PrivateKey(ctx, leaf->key);
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)"\2h2", 3);
	SSL_CTX_set_alpn_select_cb(ctx, tls_ends_alpn, NULL);
	if (ours)
		assert_true(tls_prepare(ctx));
	return ctx;
}

static inline struct tls *of_tls(struct stream *s)
{
	return container_of(s, struct tls, stream);
}

/* ------------------------------------------------------------------ an owner */

struct owner {
	struct stream *s;
	unsigned opened, readable, writable, failed;
	const uint8_t *send; /* bytes still to be written */
	size_t left, got;
	uint8_t *to; /* what was read */
	bool finish; /* when all is written */
	uint64_t random;
};

static inline void work(struct owner *o)
{
	struct stream_bytes run[STREAM_RUNS], b;
	unsigned n, i;

	while (o->left) {
		size_t some = 1 + pair_random(&o->random) % 40000, took;

		b = (struct stream_bytes){.data = (uint8_t *)o->send, .len = some < o->left ? some : o->left};
		took = stream_write(o->s, &b, 1);
		o->send += took;
		o->left -= took;
		if (took < b.len)
			break;
	}
	if (!o->left && o->finish && !o->s->finished)
		stream_finish(o->s);
	while ((n = stream_peek(o->s, run, 1 + pair_random(&o->random) % 60000))) {
		size_t all = 0, take;

		for (i = 0; i < n; i++) {
			if (o->to)
				memcpy(o->to + o->got + all, run[i].data, run[i].len);
			all += run[i].len;
		}
		take = pair_random(&o->random) % 4 ? all : pair_random(&o->random) % (all + 1);
		stream_consume(o->s, take);
		o->got += take;
	}
}

static inline void ready(struct stream *s, unsigned events)
{
	struct owner *o = s->owner;

	o->opened += !!(events & STREAM_OPEN);
	o->readable += !!(events & STREAM_READABLE);
	o->writable += !!(events & STREAM_WRITABLE);
	o->failed += !!(events & STREAM_FAILED);
	if (!(events & STREAM_FAILED))
		work(o);
}

/* ------------------------------------------------------------------ OpenSSL by itself */

struct openssl_end {
	SSL *ssl;
	struct stream *below;
};

/* Carries bytes between the stream and OpenSSL's memory, as far as they go. */
static inline void openssl_carry(struct openssl_end *o)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned n, i;

	while ((n = stream_peek(o->below, run, 1 << 20))) {
		size_t len = 0;

		for (i = 0; i < n; i++) {
			BIO_write(SSL_get_rbio(o->ssl), run[i].data, (int)run[i].len);
			len += run[i].len;
		}
		stream_consume(o->below, len);
	}
	for (;;) {
		struct stream_bytes b;
		char *data;
		long len = BIO_get_mem_data(SSL_get_wbio(o->ssl), &data);
		static uint8_t taken[1 << 20];
		size_t took;

		b = (struct stream_bytes){.data = (uint8_t *)data, .len = (size_t)len};
		took = len > 0 ? stream_write(o->below, &b, 1) : 0;
		if (!took)
			break;
		BIO_read(SSL_get_wbio(o->ssl), taken, (int)took);
	}
}

static void openssl_ready(struct stream *s, unsigned events)
{
	if (!(events & STREAM_FAILED))
		openssl_carry(s->owner);
}

static inline void openssl_start(struct openssl_end *o, SSL_CTX *ctx, bool server, struct stream *below)
{
	o->ssl = SSL_new(ctx);
	o->below = below;
	SSL_set_bio(o->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	if (server)
		SSL_set_accept_state(o->ssl);
	else
		SSL_set_connect_state(o->ssl);
	below->owner = o;
	below->ready = openssl_ready;
}

static inline void openssl_end(struct openssl_end *o, const char *why)
{
	stream_close(o->below, why);
	SSL_free(o->ssl);
}

#endif
