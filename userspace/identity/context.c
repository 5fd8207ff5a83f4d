/* SPDX-License-Identifier: Apache-2.0 */
/* context.c: see issuer.h. One SSL_CTX serves both sides: it is 10 KB or more, and a node has hundreds. */
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "issuer.h"
#include "stream.h"

#define MOST_CERTIFICATES 32768 /* bytes of a peer's chain */
#define DEPTH 8

/*
 * AES-128 first: both are beyond reach, and it is the cheaper by a quarter. Hybrid key exchange where this OpenSSL has
 * it (3.5), with shares for both sent at once: a peer without it must not cost a round trip.
 */
static const char suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
static const char *const groups[] = {"*X25519MLKEM768:*X25519:P-256", "X25519:P-256"};

static int pick_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned len,
		     void *arg)
{
	for (unsigned at = 0; at < len; at += 1u + in[at]) {
		if (in[at] != 2 || len - at < 3 || memcmp(in + at + 1, "h2", 2))
			continue;
		*out = in + at + 1;
		*out_len = 2;
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void let_go(void *parent, void *trust, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
	trust_unref(trust);
}

static int trust_slot(void)
{
	static int slot = -1; /* the control thread's alone */

	if (slot < 0)
		slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, let_go);
	return slot;
}

static bool set_groups(SSL_CTX *ctx)
{
	for (unsigned i = 0; i < array_size(groups); i++)
		if (SSL_CTX_set1_groups_list(ctx, groups[i]) == 1)
			return true;
	return false;
}

static bool set_protocol(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_alpn_select_cb(ctx, pick_alpn, NULL);
	SSL_CTX_set_max_cert_list(ctx, MOST_CERTIFICATES);
	return tls_prepare(ctx) && SSL_CTX_set_ciphersuites(ctx, suites) == 1 && set_groups(ctx) &&
	       !SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2", 3);
}

static bool set_trust(SSL_CTX *ctx, struct trust *trust)
{
	if (SSL_CTX_set_ex_data(ctx, trust_slot(), trust) != 1)
		return false;
	trust_ref(trust);
	SSL_CTX_set1_cert_store(ctx, trust_store(trust));
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_verify_depth(ctx, DEPTH);
	SSL_CTX_set_cert_verify_callback(ctx, trust_verify, trust);
	return true;
}

SSL_CTX *context_new(STACK_OF(X509) * chain, EVP_PKEY *key, struct trust *trust, char why[WHY])
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	X509 *leaf = sk_X509_shift(chain);
	bool done = ctx && set_protocol(ctx) && set_trust(ctx, trust) &&
		    SSL_CTX_use_cert_and_key(ctx, leaf, key, chain, 1) == 1;

	if (sk_X509_unshift(chain, leaf) <= 0)
		abort(); /* out of memory */
	if (!done) {
		const char *reason = ERR_reason_error_string(ERR_peek_last_error());

		snprintf(why, WHY, "OpenSSL refuses it: %s", reason ? reason : "no reason given");
		SSL_CTX_free(ctx);
		ctx = NULL;
	}
	ERR_clear_error();
	return ctx;
}

SSL_CTX *context_again(SSL_CTX *was, struct trust *trust, char why[WHY])
{
	STACK_OF(X509) *between = NULL, *chain;
	SSL_CTX *ctx;

	(void)SSL_CTX_get0_chain_certs(was, &between);
	chain = between ? sk_X509_dup(between) : sk_X509_new_null();
	if (!chain || sk_X509_unshift(chain, SSL_CTX_get0_certificate(was)) <= 0)
		abort(); /* out of memory */
	ctx = context_new(chain, SSL_CTX_get0_privatekey(was), trust, why);
	sk_X509_free(chain);
	return ctx;
}
