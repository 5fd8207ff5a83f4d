/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.c: see front.h. Each certificate has a SSL_CTX of its own; a handshake begins with that of the port, and the
 * name that the client asks for says which one it goes on with. What OpenSSL asks a context in a handshake it asks the
 * last one: keys' way out (tls_prepare), ALPN. Tickets it asks the first one.
 */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "front.h"
#include "gateway.h"
#include "issuer.h"
#include "stream.h"

#define TICKET_KEYS 3	/* the one in use and those before it */
#define TICKET_S 7200	/* how long one is good: less than two turns of front_rotate() */

/* Clients from outside: classic groups first, their shares are what they send. */
static const char groups[] = "X25519:P-256:P-384";

struct choice { /* of one listener */
	char *hostname;
	SSL_CTX **ctx; /* one for each of its certificates */
	unsigned count;
};
struct front { /* of the SSL_CTX of a port, which frees it */
	struct choice *choice;
	unsigned count;
};

/* ------------------------------------------------------------------ tickets */

static struct ticket_key {
	bool there;
	unsigned char name[16], cipher[32], mac[32];
} ticket_keys[TICKET_KEYS];
static pthread_mutex_t ticket_lock = PTHREAD_MUTEX_INITIALIZER;

int front_rotate(void)
{
	struct ticket_key k = {.there = true};

	if (RAND_bytes(k.name, sizeof(k.name)) != 1 || RAND_priv_bytes(k.cipher, sizeof(k.cipher)) != 1 ||
	    RAND_priv_bytes(k.mac, sizeof(k.mac)) != 1)
		return -EIO;
	pthread_mutex_lock(&ticket_lock);
	memmove(ticket_keys + 1, ticket_keys, (TICKET_KEYS - 1) * sizeof(k));
	ticket_keys[0] = k;
	pthread_mutex_unlock(&ticket_lock);
	mem_wipe(&k, sizeof(k));
	return 0;
}

/* The one in use, or that of a name. -1: none */
static int take_key(const unsigned char *name, struct ticket_key *ret)
{
	int found = -1;

	pthread_mutex_lock(&ticket_lock);
	for (int i = 0; i < TICKET_KEYS && found < 0; i++)
		if (ticket_keys[i].there && (!name || !memcmp(ticket_keys[i].name, name, sizeof(ret->name)))) {
			*ret = ticket_keys[i];
			found = i;
		}
	pthread_mutex_unlock(&ticket_lock);
	return found;
}

static bool use_key(struct ticket_key *k, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac, sizeof(k->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"sha256", 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv, encrypt) == 1 &&
	       EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb: 1 with the key in use, 2 with an old one, 0 without: a full handshake. */
static int ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
		  int encrypt)
{
	struct ticket_key k;
	int at = take_key(encrypt ? NULL : name, &k);
	bool done;

	if (at < 0)
		return 0;
	if (encrypt) {
		if (RAND_bytes(iv, 16) != 1)
			return -1;
		memcpy(name, k.name, sizeof(k.name));
	}
	done = use_key(&k, iv, cipher, mac, encrypt);
	mem_wipe(&k, sizeof(k));
	return !done ? -1 : at && !encrypt ? 2 : 1;
}

/* ------------------------------------------------------------------ in a handshake */

static int pick_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned len,
		     void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";

	if (SSL_select_next_proto((unsigned char **)out, out_len, ours, sizeof(ours) - 1, in, len) ==
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_OK;
	return SSL_TLSEXT_ERR_ALERT_FATAL; /* what he speaks is not HTTP */
}

static const struct choice *choose(const struct front *f, struct http_text name)
{
	const struct choice *best = NULL;

	for (unsigned i = 0; i < f->count; i++) {
		const struct choice *c = &f->choice[i];

		if (gateway_name_is(c->hostname, name) &&
		    (!best || gateway_name_rank(c->hostname) > gateway_name_rank(best->hostname)))
			best = c;
	}
	return best;
}

static int pick_certificate(SSL *ssl, int *alert, void *arg)
{
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	struct http_text host = {"", 0};
	const struct choice *c;
	SSL_CTX *ctx;
	uint16_t port;
	char name[256];

	*alert = SSL_AD_UNRECOGNIZED_NAME;
	if (asked && !http_host((struct http_text){asked, strlen(asked)}, name, &host, &port))
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	c = choose(arg, host);
	if (!c || !c->count)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	ctx = c->ctx[0];
	for (unsigned i = 0; i < c->count && host.len; i++)
		if (X509_check_host(SSL_CTX_get0_certificate(c->ctx[i]), host.at, host.len, 0, NULL) == 1) {
			ctx = c->ctx[i];
			break;
		}
	return SSL_set_SSL_CTX(ssl, ctx) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ------------------------------------------------------------------ made */

static void front_drop(void *parent, void *front, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
	struct front *f = front;

	for (unsigned i = 0; f && i < f->count; i++) {
		for (unsigned k = 0; k < f->choice[i].count; k++)
			SSL_CTX_free(f->choice[i].ctx[k]);
		free(f->choice[i].ctx);
		free(f->choice[i].hostname);
	}
	if (f)
		free(f->choice);
	free(f);
}

static int front_slot(void)
{
	static int slot = -1; /* the control thread's alone */

	if (slot < 0)
		slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, front_drop);
	return slot;
}

static SSL_CTX *context(uint32_t number)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx || !tls_prepare(ctx) || SSL_CTX_set1_groups_list(ctx, groups) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET);
	(void)SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_timeout(ctx, TICKET_S);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket);
	SSL_CTX_set_alpn_select_cb(ctx, pick_alpn, NULL);
	tls_set_mark(ctx, number);
	return ctx;
}

static bool fill(SSL_CTX *ctx, const struct front_pair *p, char why[256])
{
	STACK_OF(X509) *chain = x509_read(p->certificate, p->name, why);
	EVP_PKEY *key = chain && sk_X509_num(chain) ? x509_key(p->key, p->name, why) : NULL;
	X509 *leaf = key ? sk_X509_shift(chain) : NULL;
	bool done = leaf && SSL_CTX_use_cert_and_key(ctx, leaf, key, chain, 1) == 1;

	if (chain && !sk_X509_num(chain) && !leaf)
		snprintf(why, WHY, "%.150s: tls.crt has no certificate", p->name);
	else if (leaf && !done)
		snprintf(why, WHY, "%.150s: tls.crt and tls.key do not belong together", p->name);
	else if (done && x509_lasts(leaf, clock_wall() / 1000, p->name, why))
		why[0] = '\0'; /* else it is shown all the same: the client judges */
	X509_free(leaf);
	EVP_PKEY_free(key);
	if (chain)
		x509_free(chain);
	ERR_clear_error();
	return done;
}

static void take_pairs(struct choice *c, struct front_listener *l)
{
	c->ctx = mem_alloc(l->pairs * sizeof(*c->ctx) + 1);
	l->why[0] = '\0';
	for (unsigned i = 0; i < l->pairs; i++) {
		SSL_CTX *ctx = context(l->number);
		char why[WHY] = "";

		if (ctx && fill(ctx, &l->pair[i], why))
			c->ctx[c->count++] = ctx;
		else
			SSL_CTX_free(ctx);
		if (*why)
			text_copy(l->why, sizeof(l->why), why);
	}
}

void *front_new(struct front_listener *l, unsigned listeners)
{
	struct front *f = mem_alloc(sizeof(*f));
	SSL_CTX *ctx = context(0), *first = NULL;

	f->choice = mem_alloc(listeners * sizeof(*f->choice) + 1);
	for (; f->count < listeners; f->count++) {
		struct choice *c = &f->choice[f->count];

		c->hostname = mem_string(l[f->count].hostname);
		take_pairs(c, &l[f->count]);
		if (!first && c->count)
			first = c->ctx[0];
	}
	/* One of them is there from the beginning: OpenSSL asks for it before it asks which. */
	if (!ctx || !first ||
	    SSL_CTX_use_cert_and_key(ctx, SSL_CTX_get0_certificate(first), SSL_CTX_get0_privatekey(first), NULL,
				     1) != 1 ||
	    SSL_CTX_set_ex_data(ctx, front_slot(), f) != 1) {
		front_drop(NULL, f, NULL, 0, 0, NULL);
		SSL_CTX_free(ctx);
		ERR_clear_error();
		return NULL;
	}
	SSL_CTX_set_tlsext_servername_callback(ctx, pick_certificate);
	SSL_CTX_set_tlsext_servername_arg(ctx, f);
	return ctx;
}

void *front_hold(void *front)
{
	SSL_CTX_up_ref(front);
	return front;
}

void front_free(void *front)
{
	SSL_CTX_free(front);
}
