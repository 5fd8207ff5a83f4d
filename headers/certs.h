/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certs.h: who we are and whom we believe: certificates of the node's identities (identity/certs.c), from a source:
 * an embedded CA (identity/ca.c) or PEM files (identity/pem.c); istiod and SPIRE come behind the same interface.
 *
 * The control thread makes and renews; data threads take an SSL_CTX for a handshake. A connection goes on with the
 * certificate that it began with: a renewal drops nobody.
 */
#ifndef WEFT_CERTS_H
#define WEFT_CERTS_H

#include "loop.h"

#define CERTS_ID 512 /* longest SPIFFE URI that we take, with its NUL */

/* "spiffe://TD/ns/NS/sa/SA", exactly five parts, each not empty. */
struct spiffe {
	char trust_domain[256], namespace[64], service_account[254];
};
int spiffe_parse(const char *uri, struct spiffe *ret) must_check; /* 0 or -EINVAL */
bool spiffe_text(const char *trust_domain, const char *namespace, const char *service_account, char buf[CERTS_ID]);

/* ------------------------------------------------------------------ where they come from */

struct cert {	     /* one leaf; texts are PEM; the key is wiped by cert_free */
	char *chain; /* leaf first, then intermediates */
	char *key;
};
void cert_free(struct cert *c);

/*
 * One source of certificates. Control thread only. `issue` may answer at once or later, exactly once, with done();
 * `error` NULL and the cert (taken by the callee), or why not, for people.
 */
struct cert_source {
	const char *name; /* "embedded CA in /var/lib/weft/default/ca", for messages */
	void (*issue)(struct cert_source *s, const char *spiffe, void *asked,
		      void (*done)(void *asked, struct cert *cert, const char *error));
	char *(*roots)(struct cert_source *s); /* PEM of all trusted roots; free() it; NULL: none */
	char *(*crl)(struct cert_source *s);   /* PEM; free() it; NULL: no CRL is asked for */
	/* set by certs.c: roots, CRL or a leaf changed: ask again */
	void (*changed)(struct cert_source *s, const char *spiffe); /* NULL: all, and the roots */
	void *owner;
	void (*close)(struct cert_source *s);
};

/* ------------------------------------------------------------------ identity/ca.c */

/*
 * Istio's plug-in CA files in `folder` (borrowed fd): root-cert.pem, ca-cert.pem, ca-key.pem, cert-chain.pem. Made
 * here if none is there. NULL and why[] otherwise: half a set, a key that does not fit, an expired root.
 */
struct cert_source *ca_source(struct loop *loop, int folder, const char *name, const char *trust_domain, char why[256])
	must_check;

/* ------------------------------------------------------------------ identity/pem.c */

/* Files NAMESPACE.SERVICEACCOUNT.pem (chain) and .key beside roots.pem and, if there, crl.pem; watched. */
struct cert_source *pem_source(struct loop *loop, int folder, int notify, const char *name, const char *trust_domain,
			       char why[256]) must_check;

/* ------------------------------------------------------------------ identity/certs.c */

struct certs;
struct certs *certs_new(struct loop *loop, struct cert_source *source, const char *trust_domain); /* takes the source */
void certs_free(struct certs *c);
/* A pod of this node has this identity (counted): its certificate is fetched now and renewed at half-life. */
void certs_need(struct certs *c, const char *spiffe);
void certs_release(struct certs *c, const char *spiffe); /* the last one: it is forgotten */

/*
 * Any thread: a SSL_CTX (one reference, the caller's: SSL_CTX_free) for handshakes as `spiffe`; NULL: there is no good
 * certificate (yet); *ret_why then says why, a constant. TLS 1.3, ALPN h2, both sides show a certificate; chain,
 * purpose and CRL are verified; who the peer is, is asked by certs_peer().
 */
void *certs_client(struct certs *c, const char *spiffe, const char **ret_why);
void *certs_server(struct certs *c, const char *spiffe, const char **ret_why);

/* The first SPIFFE URI SAN of a certificate: 0, or -EINVAL (none, or malformed: NUL inside, too long). */
int certs_peer(void *x509, char ret[CERTS_ID]) must_check;
/* A client's certificate, for a server of `trust_domain`. NULL: good, and its id in ret; else why not, a constant. */
const char *certs_verify_client(void *x509, const char *trust_domain, char ret[CERTS_ID]);
/* A server's: one of its URI SANs is one of `want`. */
const char *certs_verify_server(void *x509, const char *const *want, unsigned count);
/*
 * Roots or CRL changed: called in the control thread, with a number that rises. Connections whose peer certificate is
 * now revoked or has no root must end: certs_still_good() says it, from any thread.
 */
void certs_on_trust(struct certs *c, void (*changed)(void *ctx, uint64_t number), void *ctx);
const char *certs_still_good(struct certs *c, void *x509); /* NULL: yes; else why not, a constant */

struct cert_view {		    /* for weftctl certs */
	const char *spiffe, *state; /* "valid", "renewing", "failed", "waiting" */
	char serial[48];
	int64_t not_before, not_after, renew_at; /* seconds since 1970 */
	const char *problem;			 /* NULL none */
	unsigned pods;
};
/* Control thread. Calls once for each identity, in order of name. */
void certs_each(const struct certs *c, void (*one)(void *ctx, const struct cert_view *v), void *ctx);
struct root_view {
	char subject[128], sha256[65];
	int64_t not_before, not_after;
};
void certs_each_root(const struct certs *c, void (*one)(void *ctx, const struct root_view *v), void *ctx);
const char *certs_source(const struct certs *c);

#endif
