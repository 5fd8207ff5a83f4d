/* SPDX-License-Identifier: Apache-2.0 */
/* issuer.c: see issuer.h. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "issuer.h"

struct issuer {
	X509 *cert;
	EVP_PKEY *key;
	char *chain;		       /* PEM that goes behind a leaf: up to the root, without it */
	int64_t not_before, not_after; /* within which all above a leaf last */
};

/* ------------------------------------------------------------------ the files against each other */

static bool can_sign(const X509 *cert, char why[WHY])
{
	X509 *x = (X509 *)cert; /* OpenSSL 3.0 caches what it parses */

	if (X509_check_ca(x) == 1 && X509_get_key_usage(x) & KU_KEY_CERT_SIGN)
		return true;
	snprintf(why, WHY, "ca-cert.pem is not of a CA: it wants basicConstraints CA:TRUE and keyUsage keyCertSign");
	return false;
}

/* Which file of the operator's has it? `depth` is that of the chain from ca-cert.pem. */
static void explain(X509_STORE_CTX *ctx, int64_t now, char why[WHY])
{
	int error = X509_STORE_CTX_get_error(ctx), depth = X509_STORE_CTX_get_error_depth(ctx);
	const X509 *at = X509_STORE_CTX_get_current_cert(ctx);
	const char *file = depth ? "root-cert.pem or cert-chain.pem" : "ca-cert.pem";
	char subject[128] = "", what[128];

	if (at)
		x509_subject(at, subject);
	(void)snprintf(what, sizeof(what), "\"%.60s\" of %s", subject, file);
	if (at && (error == X509_V_ERR_CERT_HAS_EXPIRED || error == X509_V_ERR_CERT_NOT_YET_VALID) &&
	    !x509_lasts(at, now, what, why))
		return;
	if (error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
	    error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT || error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
	    error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN)
		snprintf(why, WHY, "ca-cert.pem leads to no root of root-cert.pem: the issuer of %s is missing, or is "
				   "another one",
			 what);
	else
		snprintf(why, WHY, "ca-cert.pem does not verify: %s: %s", what, X509_verify_cert_error_string(error));
}

static void take_chain(struct issuer *i, STACK_OF(X509) * chain)
{
	X509 *sent[X509_MOST];
	unsigned count = 0;

	i->not_before = INT64_MIN;
	i->not_after = INT64_MAX;
	for (int k = 0; k < sk_X509_num(chain); k++) {
		X509 *x = sk_X509_value(chain, k);
		int64_t from = x509_time(X509_get0_notBefore(x)), to = x509_time(X509_get0_notAfter(x));

		i->not_before = from > i->not_before ? from : i->not_before;
		i->not_after = to < i->not_after ? to : i->not_after;
		/* Who verifies has the root already: it costs bytes of each handshake and proves nothing. */
		if (k < sk_X509_num(chain) - 1 && count < array_size(sent))
			sent[count++] = x;
	}
	i->chain = x509_text(sent, count);
}

static bool verify(struct issuer *i, STACK_OF(X509) * roots, STACK_OF(X509) * between, int64_t now, char why[WHY])
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	bool good;

	for (int k = 0; k < sk_X509_num(roots); k++)
		(void)X509_STORE_add_cert(store, sk_X509_value(roots, k));
	if (X509_STORE_CTX_init(ctx, store, i->cert, between) != 1)
		abort(); /* out of memory */
	X509_STORE_CTX_set_time(ctx, 0, (time_t)now);
	good = X509_verify_cert(ctx) == 1;
	if (good)
		take_chain(i, X509_STORE_CTX_get0_chain(ctx));
	else
		explain(ctx, now, why);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	ERR_clear_error();
	return good;
}

static bool take_own(struct issuer *i, const struct issuer_files *files, int64_t now, char why[WHY])
{
	STACK_OF(X509) *certs = x509_read(files->cert, "ca-cert.pem", why);

	if (!certs)
		return false;
	if (sk_X509_num(certs))
		i->cert = sk_X509_shift(certs);
	else
		snprintf(why, WHY, "ca-cert.pem holds no certificate in PEM");
	x509_free(certs);
	if (!i->cert)
		return false;
	i->key = x509_key(files->key, "ca-key.pem", why);
	if (!i->key)
		return false;
	if (!x509_fits(i->cert, i->key)) {
		snprintf(why, WHY,
			 "ca-key.pem is not the key of ca-cert.pem: put the pair there that belongs together");
		return false;
	}
	return can_sign(i->cert, why) && x509_lasts(i->cert, now, "ca-cert.pem", why);
}

struct issuer *issuer_new(const struct issuer_files *files, int64_t now, char why[WHY])
{
	struct issuer *i = mem_alloc(sizeof(*i));
	STACK_OF(X509) *roots = x509_read(files->roots, "root-cert.pem", why);
	STACK_OF(X509) *between = roots ? x509_read(files->chain, "cert-chain.pem", why) : NULL;
	bool good = between != NULL;

	if (good && !sk_X509_num(roots)) {
		snprintf(why, WHY, "root-cert.pem holds no certificate in PEM");
		good = false;
	}
	good = good && take_own(i, files, now, why) && verify(i, roots, between, now, why);
	x509_free(roots);
	x509_free(between);
	if (good)
		return i;
	issuer_free(i);
	return NULL;
}

void issuer_free(struct issuer *i)
{
	if (!i)
		return;
	X509_free(i->cert);
	EVP_PKEY_free(i->key); /* OpenSSL wipes it */
	free(i->chain);
	free(i);
}

bool issuer_same(const struct issuer *a, const struct issuer *b)
{
	return a && b ? !X509_cmp(a->cert, b->cert) && text_equal(a->chain, b->chain) : a == b;
}

/* ------------------------------------------------------------------ leaves */

/* RFC 5758, and what TLS 1.3 wants of a chain: a digest as wide as the curve. */
static const EVP_MD *digest_of(const EVP_PKEY *key)
{
	int bits = EVP_PKEY_get_bits(key);

	if (!EVP_PKEY_is_a(key, "EC") || bits <= 256)
		return EVP_sha256();
	return bits <= 384 ? EVP_sha384() : EVP_sha512();
}

static bool extend(X509 *leaf, X509 *by, const char *spiffe)
{
	char san[CERTS_ID + 16];

	/* Critical, because the subject is empty (RFC 5280 section 4.2.1.6). The URI was parsed: it holds no comma. */
	(void)snprintf(san, sizeof(san), "critical,URI:%s", spiffe);
	return issuer_extend(leaf, by, NID_subject_alt_name, san) &&
	       issuer_extend(leaf, by, NID_basic_constraints, "critical,CA:FALSE") &&
	       issuer_extend(leaf, by, NID_key_usage, "critical,digitalSignature") &&
	       issuer_extend(leaf, by, NID_ext_key_usage, "serverAuth,clientAuth") &&
	       (!X509_get0_subject_key_id(by) ||
		issuer_extend(leaf, by, NID_authority_key_identifier, "keyid:always")) &&
	       issuer_extend(leaf, by, NID_subject_key_identifier, "hash");
}

struct cert *issuer_sign(const struct issuer *i, const char *spiffe, int64_t now, char why[WHY])
{
	int64_t from = now - SKEW_SECONDS, to = now + LEAF_SECONDS;
	struct cert *ret = NULL;
	EVP_PKEY *key = NULL;
	struct spiffe id;
	X509 *leaf = NULL;
	char date[32];

	if (spiffe_parse(spiffe, &id)) {
		snprintf(why, WHY, "\"%.100s\" is no SPIFFE identity", spiffe);
		return NULL;
	}
	from = from > i->not_before ? from : i->not_before;
	to = to < i->not_after ? to : i->not_after;
	if (to <= now) {
		x509_date(i->not_after, date);
		snprintf(why, WHY, "the CA or its root expired on %s: put a new one into its folder", date);
		return NULL;
	}
	key = EVP_EC_gen("P-256");
	leaf = key ? issuer_blank(from, to, key) : NULL;
	if (leaf && X509_set_issuer_name(leaf, X509_get_subject_name(i->cert)) == 1 && extend(leaf, i->cert, spiffe) &&
	    X509_sign(leaf, i->key, digest_of(i->key)) > 0) {
		char *own = x509_text(&leaf, 1);

		ret = mem_alloc(sizeof(*ret));
		ret->chain = mem_format("%s%s", own, i->chain);
		ret->key = x509_key_text(key);
		free(own);
	}
	if (!ret || !ret->key) {
		snprintf(why, WHY, "a certificate cannot be made: OpenSSL: %s",
			 ERR_reason_error_string(ERR_peek_last_error()));
		cert_free(ret);
		ret = NULL;
	}
	ERR_clear_error();
	X509_free(leaf);
	EVP_PKEY_free(key);
	return ret;
}
