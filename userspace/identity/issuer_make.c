/* SPDX-License-Identifier: Apache-2.0 */
/* issuer_make.c: see issuer.h. */
#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "issuer.h"

#define SERIAL 16	/* bytes; RFC 5280 section 4.1.2.2 allows 20, CAs owe 64 random bits */
#define ORGANIZATION 64 /* ub-organization-name, RFC 5280 appendix A */

/* No answer of a random source that can be gone on with: the caller says that the key could not be made. */
static bool set_serial(X509 *x)
{
	unsigned char bytes[SERIAL];
	BIGNUM *n;
	bool done;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] = (bytes[0] & 0x3f) | 0x40; /* positive, and of one length */
	n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	done = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
	BN_free(n);
	return done;
}

X509 *issuer_blank(int64_t not_before, int64_t not_after, EVP_PKEY *key)
{
	X509 *x = X509_new();

	if (x && X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
	    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)not_before) &&
	    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)not_after) && X509_set_pubkey(x, key) == 1)
		return x;
	X509_free(x);
	return NULL;
}

bool issuer_extend(X509 *cert, X509 *by, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	bool done;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, by, cert, NULL, NULL, 0);
	ext = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
	done = ext && X509_add_ext(cert, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return done;
}

/* Two roots of one name and different keys are a trap for whoever looks up by name: each gets a number. */
static bool name_root(X509 *x, const char *trust_domain)
{
	X509_NAME *name = X509_get_subject_name(x);
	char common[32], serial[48];

	x509_serial(x, serial);
	(void)snprintf(common, sizeof(common), "weft root %.8s", serial);
	if (strlen(trust_domain) <= ORGANIZATION &&
	    X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)trust_domain, -1, -1, 0) != 1)
		return false;
	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common, -1, -1, 0) == 1 &&
	       X509_set_issuer_name(x, name) == 1;
}

bool issuer_make_root(const char *trust_domain, int64_t now, char **ret_cert, char **ret_key, char why[WHY])
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = key ? issuer_blank(now - SKEW_SECONDS, now + ROOT_SECONDS, key) : NULL;
	bool done = x && name_root(x, trust_domain) &&
		    issuer_extend(x, x, NID_basic_constraints, "critical,CA:TRUE") &&
		    issuer_extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
		    issuer_extend(x, x, NID_subject_key_identifier, "hash") && X509_sign(x, key, EVP_sha256()) > 0;

	*ret_key = done ? x509_key_text(key) : NULL;
	*ret_cert = *ret_key ? x509_text(&x, 1) : NULL;
	if (!*ret_key)
		snprintf(why, WHY, "a root cannot be made: OpenSSL has no randomness or no memory");
	X509_free(x);
	EVP_PKEY_free(key);
	return *ret_key != NULL;
}
