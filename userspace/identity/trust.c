/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trust.c: see issuer.h.
 *
 * What a CRL says counts for certificates of its issuer: one of whose issuer the file has no CRL passes, one whose
 * issuer has a CRL there that does not verify or has expired is refused. A file that cannot be read or has a CRL that
 * has expired closes everything.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "issuer.h"

#define LEARNED 64 /* intermediates of peers that are remembered; a mesh has a few */

/* Intermediates that peers have shown: of a trust and of those that took its place, one after the other. */
struct learned {
	unsigned references; /* atomic */
	pthread_mutex_t lock;
	STACK_OF(X509) * certs;
};

struct trust {
	unsigned references; /* atomic */
	certs_clock *now;
	X509_STORE *store;
	STACK_OF(X509) * roots;
	STACK_OF(X509_CRL) * crls; /* NULL: no CRL is asked for */
	bool crl_unreadable;
	int64_t crl_from, crl_until; /* within which all CRLs are good */
	int64_t roots_until;	     /* the last of them */
	struct learned *learned;
};

/* ------------------------------------------------------------------ what was learned */

static struct learned *learned_new(void)
{
	struct learned *l = mem_alloc(sizeof(*l));

	l->references = 1;
	l->certs = sk_X509_new_null();
	if (!l->certs)
		abort(); /* out of memory */
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

static void learned_unref(struct learned *l)
{
	if (__atomic_sub_fetch(&l->references, 1, __ATOMIC_ACQ_REL))
		return;
	x509_free(l->certs);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/*
 * A certificate that is looked at again later comes without its intermediates. They were verified, so that only our own
 * CAs can fill the list. It is the trust of that time that looks, and a handshake goes on with the one that it began
 * with: so all have one list. That the old one knew the new one instead would keep all between them for an old tunnel.
 */
static void learn(struct learned *l, X509 *x)
{
	bool known = false;

	pthread_mutex_lock(&l->lock);
	for (int i = 0; i < sk_X509_num(l->certs) && !known; i++)
		known = !X509_cmp(sk_X509_value(l->certs, i), x);
	if (!known && sk_X509_num(l->certs) == LEARNED)
		X509_free(sk_X509_shift(l->certs));
	if (!known && (X509_up_ref(x) != 1 || sk_X509_push(l->certs, x) <= 0))
		abort(); /* out of memory */
	pthread_mutex_unlock(&l->lock);
}

/* ------------------------------------------------------------------ made of texts */

static STACK_OF(X509_CRL) * read_crls(const char *pem, bool *ret_good)
{
	STACK_OF(X509_CRL) *all = sk_X509_CRL_new_null();
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509_CRL *crl;

	ERR_clear_error();
	while (sk_X509_CRL_num(all) < X509_MOST && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)))
		if (sk_X509_CRL_push(all, crl) <= 0)
			abort(); /* out of memory */
	*ret_good = sk_X509_CRL_num(all) && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	ERR_clear_error();
	BIO_free(bio);
	return all;
}

static void take_crl(struct trust *t, const char *pem)
{
	bool good;

	t->crls = read_crls(pem, &good);
	t->crl_unreadable = !good;
	for (int i = 0; i < sk_X509_CRL_num(t->crls); i++) {
		X509_CRL *crl = sk_X509_CRL_value(t->crls, i);
		int64_t from = x509_time(X509_CRL_get0_lastUpdate(crl));
		int64_t until = x509_time(X509_CRL_get0_nextUpdate(crl)); /* none: for ever */

		t->crl_from = from > t->crl_from ? from : t->crl_from;
		t->crl_until = until < t->crl_until ? until : t->crl_until;
		(void)X509_STORE_add_crl(t->store, crl);
	}
}

struct trust *trust_new(const char *roots, const char *crl, certs_clock *now, char why[WHY])
{
	STACK_OF(X509) *all = x509_read(roots, "the roots", why);
	struct trust *t;

	if (!all)
		return NULL;
	if (!sk_X509_num(all)) {
		snprintf(why, WHY, "there is no root certificate");
		x509_free(all);
		return NULL;
	}
	t = mem_alloc(sizeof(*t));
	*t = (struct trust){.references = 1, .now = now, .roots = all, .crl_from = INT64_MIN, .crl_until = INT64_MAX};
	t->learned = learned_new();
	t->store = X509_STORE_new();
	if (!t->store)
		abort(); /* out of memory */
	for (int i = 0; i < sk_X509_num(all); i++) {
		int64_t until = x509_time(X509_get0_notAfter(sk_X509_value(all, i)));

		t->roots_until = until > t->roots_until ? until : t->roots_until;
		(void)X509_STORE_add_cert(t->store, sk_X509_value(all, i));
	}
	if (crl)
		take_crl(t, crl);
	ERR_clear_error();
	return t;
}

struct trust *trust_ref(struct trust *t)
{
	(void)__atomic_add_fetch(&t->references, 1, __ATOMIC_RELAXED);
	return t;
}

void trust_unref(struct trust *t)
{
	if (!t || __atomic_sub_fetch(&t->references, 1, __ATOMIC_ACQ_REL))
		return;
	X509_STORE_free(t->store);
	x509_free(t->roots);
	learned_unref(t->learned);
	sk_X509_CRL_pop_free(t->crls, X509_CRL_free);
	free(t);
}

X509_STORE *trust_store(const struct trust *t)
{
	return t->store;
}

const STACK_OF(X509) * trust_roots(const struct trust *t)
{
	return t->roots;
}

const char *trust_closed(const struct trust *t, int64_t now)
{
	if (t->crl_unreadable)
		return CERTS_CRL_UNREADABLE;
	if (now < t->crl_from || now >= t->crl_until)
		return CERTS_CRL_EXPIRED;
	return now < t->roots_until ? NULL : CERTS_ROOT_EXPIRED;
}

/* ------------------------------------------------------------------ CRLs */

/* Has the file a CRL of who issued this certificate? By name, and by key where both say it. */
static bool has_crl(const struct trust *t, const X509 *cert)
{
	const ASN1_OCTET_STRING *key = X509_get0_authority_key_id((X509 *)cert);
	bool found = false;

	for (int i = 0; i < sk_X509_CRL_num(t->crls) && !found; i++) {
		const X509_CRL *crl = sk_X509_CRL_value(t->crls, i);
		AUTHORITY_KEYID *id;

		if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_issuer_name(cert)))
			continue;
		id = X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, NULL, NULL);
		found = !key || !id || !id->keyid || !ASN1_OCTET_STRING_cmp(key, id->keyid);
		AUTHORITY_KEYID_free(id);
	}
	return found;
}

/* OpenSSL asks for a CRL of every issuer of the chain. */
static int excuse(int good, X509_STORE_CTX *ctx)
{
	const struct trust *t = X509_STORE_CTX_get_app_data(ctx);

	if (good || X509_STORE_CTX_get_error(ctx) != X509_V_ERR_UNABLE_TO_GET_CRL)
		return good;
	if (has_crl(t, X509_STORE_CTX_get_current_cert(ctx)))
		return 0;
	X509_STORE_CTX_set_error(ctx, X509_V_OK);
	return 1;
}

/* Flags are added to what the context says already (purpose, depth). */
static int verify(const struct trust *t, X509_STORE_CTX *ctx, unsigned long flags)
{
	X509_STORE_CTX_set_app_data(ctx, (void *)t);
	X509_STORE_CTX_set_verify_cb(ctx, excuse);
	if (t->crls)
		flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
	X509_STORE_CTX_set_flags(ctx, flags);
	return X509_verify_cert(ctx) == 1;
}

/* ------------------------------------------------------------------ peers */

void trust_follow(struct trust *t, struct trust *was)
{
	learned_unref(t->learned); /* nobody else has it yet */
	(void)__atomic_add_fetch(&was->learned->references, 1, __ATOMIC_RELAXED);
	t->learned = was->learned;
}

int trust_verify(X509_STORE_CTX *ctx, void *arg)
{
	struct trust *t = arg;
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	int64_t now = t->now() / 1000;
	const char *closed = trust_closed(t, now);
	const unsigned char *alpn = NULL;
	unsigned len = 0;
	const STACK_OF(X509) * chain;

	/* A peer that says nothing of ALPN would else go on without it. */
	SSL_get0_alpn_selected(ssl, &alpn, &len);
	if (len != 2 || memcmp(alpn, "h2", 2)) {
		X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
		return 0;
	}
	if (closed && !text_equal(closed, CERTS_ROOT_EXPIRED)) {
		X509_STORE_CTX_set_error(ctx, t->crl_unreadable ? X509_V_ERR_UNABLE_TO_GET_CRL
								: X509_V_ERR_CRL_HAS_EXPIRED);
		return 0;
	}
	X509_STORE_CTX_set_time(ctx, 0, (time_t)now);
	if (!verify(t, ctx, 0))
		return 0;
	chain = X509_STORE_CTX_get0_chain(ctx);
	for (int i = 1; i < sk_X509_num(chain) - 1; i++)
		learn(t->learned, sk_X509_value(chain, i));
	return 1;
}

const char *trust_still_good(struct trust *t, X509 *peer)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	STACK_OF(X509) * between;
	int error = X509_V_OK;

	pthread_mutex_lock(&t->learned->lock);
	between = X509_chain_up_ref(t->learned->certs);
	pthread_mutex_unlock(&t->learned->lock);
	if (!ctx || !between || X509_STORE_CTX_init(ctx, t->store, peer, between) != 1)
		abort(); /* out of memory */
	/* A connection outlives its certificate; a CRL that has expired says the same as before. */
	if (!verify(t, ctx, X509_V_FLAG_NO_CHECK_TIME))
		error = X509_STORE_CTX_get_error(ctx);
	X509_STORE_CTX_free(ctx);
	x509_free(between);
	ERR_clear_error();
	if (error == X509_V_OK)
		return NULL;
	return error == X509_V_ERR_CERT_REVOKED ? CERTS_REVOKED : CERTS_NO_ROOT;
}

/* ------------------------------------------------------------------ ourselves */

/* NULL: others see this identity, and no other before it. */
static const char *not_ours(void *x509, const char *spiffe, char id[CERTS_ID])
{
	const char *const want[] = {spiffe}, *why = certs_verify_server(x509, want, 1);

	if (certs_peer(x509, id))
		text_copy(id, CERTS_ID, "nobody");
	return why ? why : text_equal(id, spiffe) ? NULL : CERTS_OTHER_IDENTITY;
}

bool trust_own(struct trust *t, STACK_OF(X509) * chain, const char *spiffe, int64_t now, char why[WHY])
{
	X509 *leaf = sk_X509_value(chain, 0);
	char id[CERTS_ID] = "no certificate";
	const char *wrong = leaf ? not_ours(leaf, spiffe, id) : CERTS_NO_IDENTITY;
	X509_STORE_CTX *ctx;
	bool good;

	if (wrong) {
		snprintf(why, WHY, "it is of %.180s", text_equal(wrong, CERTS_OF_A_CA) ? "a CA" : id);
		return false;
	}
	ctx = X509_STORE_CTX_new();
	if (!ctx || X509_STORE_CTX_init(ctx, t->store, leaf, chain) != 1)
		abort(); /* out of memory */
	X509_STORE_CTX_set_time(ctx, 0, (time_t)now);
	good = verify(t, ctx, 0);
	if (!good)
		snprintf(why, WHY, "it does not verify: %s",
			 X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	else if (X509_check_purpose(leaf, X509_PURPOSE_SSL_CLIENT, 0) != 1 ||
		 X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0) != 1) {
		snprintf(why, WHY, "its extendedKeyUsage wants both serverAuth and clientAuth");
		good = false;
	}
	X509_STORE_CTX_free(ctx);
	ERR_clear_error();
	return good;
}
