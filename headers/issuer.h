/* SPDX-License-Identifier: Apache-2.0 */
/*
 * issuer.h: inside the room identity: texts of PEM, checks, and the embedded CA's own hand.
 * x509.c reads and looks, issuer_make.c makes a root, issuer.c holds a CA and signs leaves, trust.c holds roots and CRL
 * and verifies peers, context.c makes a SSL_CTX of a leaf and a trust.
 */
#ifndef WEFT_ISSUER_H
#define WEFT_ISSUER_H

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "certs.h"

#define WHY 256			      /* a sentence for people */
#define LEAF_SECONDS (24 * 3600)      /* a leaf's life */
#define SKEW_SECONDS 300	      /* backdated by this: other nodes' clocks are behind */
#define ROOT_SECONDS (3652ll * 86400) /* ten years */

/* ------------------------------------------------------------------ x509.c */

#define X509_MOST 256	    /* certificates in one file */
#define X509_FILE (1 << 20) /* bytes of one file */

/*
 * The file's whole text, fd is closed; free() it. NULL and why. `secret`: only its owner may be able to read it. The
 * text of a key is wiped by x509_wipe().
 */
char *x509_file(int fd, const char *name, bool secret, char why[WHY]) must_check;
void x509_wipe(char *pem); /* wipes and frees; NULL is harmless */

/* All certificates in a text, none is fine; NULL and why if one does not parse. x509_free() it. */
STACK_OF(X509) * x509_read(const char *pem, const char *name, char why[WHY]) must_check;
void x509_free(STACK_OF(X509) * all);
/* RSA of 2048 bits or more, or ECDSA. NULL and why. EVP_PKEY_free() it. */
EVP_PKEY *x509_key(const char *pem, const char *name, char why[WHY]) must_check;
bool x509_fits(const X509 *cert, const EVP_PKEY *key);
char *x509_text(X509 *const *cert, unsigned count) must_check; /* PEM, one after the other; free() it */
char *x509_key_text(EVP_PKEY *key) must_check;		       /* PEM; x509_wipe() it; NULL: no memory */
int64_t x509_time(const ASN1_TIME *t);			       /* seconds since 1970; INT64_MAX if it is none */
void x509_date(int64_t t, char buf[32]);		       /* "2026-11-21 18:00 UTC" */
void x509_subject(const X509 *cert, char buf[128]);
void x509_serial(const X509 *cert, char buf[48]); /* hexadecimal */
void x509_fingerprint(const X509 *cert, char buf[65]);
/* Lasts now (in seconds since 1970, as every time in this header)? false and why: "NAME expired on DATE" */
bool x509_lasts(const X509 *cert, int64_t now, const char *name, char why[WHY]) must_check;

/* ------------------------------------------------------------------ issuer_make.c */

/* A self-signed root for a trust domain and its key, both PEM; free() and x509_wipe(). false and why. */
bool issuer_make_root(const char *trust_domain, int64_t now, char **ret_cert, char **ret_key, char why[WHY]) must_check;
/* Serial number, validity, the key of the subject, and who signs: what root and leaf have in common. */
X509 *issuer_blank(int64_t not_before, int64_t not_after, EVP_PKEY *key) must_check;
bool issuer_extend(X509 *cert, X509 *by, int nid, const char *value) must_check; /* one extension, as in openssl.cnf */

/* ------------------------------------------------------------------ issuer.c */

struct issuer_files { /* PEM, borrowed */
	const char *roots, *cert, *key, *chain;
};
struct issuer;
/* A CA out of its files, all of them checked against each other. NULL and why. */
struct issuer *issuer_new(const struct issuer_files *files, int64_t now, char why[WHY]) must_check;
void issuer_free(struct issuer *i);
/* A leaf for a SPIFFE URI. NULL and why. */
struct cert *issuer_sign(const struct issuer *i, const char *spiffe, int64_t now, char why[WHY]) must_check;
bool issuer_same(const struct issuer *a, const struct issuer *b); /* the same signing certificate; NULL is none */

/* ------------------------------------------------------------------ trust.c */

/* Roots and CRL: immutable, counted, shared by every SSL_CTX made with it. */
struct trust;
/* crl: NULL none, "" cannot be read. NULL and why: no root can be read. One reference is the caller's. */
struct trust *trust_new(const char *roots, const char *crl, certs_clock *now, char why[WHY]) must_check;
struct trust *trust_ref(struct trust *t);
void trust_unref(struct trust *t);
X509_STORE *trust_store(const struct trust *t); /* borrowed */
const STACK_OF(X509) * trust_roots(const struct trust *t);
/* May handshakes be made? NULL, or why not, a constant: CRL not readable or expired, every root expired. */
const char *trust_closed(const struct trust *t, int64_t now);
/* Any thread. Of a handshake: SSL_CTX_set_cert_verify_callback(ctx, trust_verify, trust). */
int trust_verify(X509_STORE_CTX *ctx, void *trust);
/* Any thread. Of a peer that was good under another trust. NULL, or why not. Its validity in time does not count. */
const char *trust_still_good(struct trust *t, X509 *peer);
/* Takes the place of `was`, and knows the intermediates that peers have shown to that, also those that are to come. */
void trust_follow(struct trust *t, struct trust *was);
/*
 * What our own leaf is in the eyes of others: chain leads to a root, lasts, is for TLS of both sides, and its only
 * SPIFFE identity is this one. chain[0] is the leaf. false and why.
 */
bool trust_own(struct trust *t, STACK_OF(X509) * chain, const char *spiffe, int64_t now, char why[WHY]) must_check;

/* ------------------------------------------------------------------ context.c */

/* For both sides of a handshake. Keeps a reference to the trust as long as it lives. NULL and why. */
SSL_CTX *context_new(STACK_OF(X509) * chain, EVP_PKEY *key, struct trust *trust, char why[WHY]) must_check;

/* The same certificate and key under another trust. */
SSL_CTX *context_again(SSL_CTX *was, struct trust *trust, char why[WHY]) must_check;

#endif
