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
/* false, and "": a part is empty, too long, or holds what no SPIFFE ID may hold. */
bool spiffe_text(const char *trust_domain, const char *namespace, const char *service_account, char buf[CERTS_ID]);
bool spiffe_trust_domain(const char *s); /* is it one? */

/* ------------------------------------------------------------------ identity/peer.c: who a peer is */

/* What the functions below answer; all of them constants, for logs and docs/reasons.md. */
#define CERTS_NO_IDENTITY "the certificate has no SPIFFE identity"
#define CERTS_MALFORMED "the certificate has a malformed SPIFFE identity"
#define CERTS_TRUST_DOMAIN "the certificate is of another trust domain"
#define CERTS_OF_A_CA "the certificate is of a CA, which is nobody's identity"
#define CERTS_OTHER_IDENTITY "the certificate is not of the identity that was asked for"
/* What certs_client(), certs_server() and certs_still_good() answer. */
#define CERTS_UNKNOWN "no pod of this node has this identity"
#define CERTS_WAITING "there is no certificate yet"
#define CERTS_EXPIRED "our own certificate has expired and cannot be renewed"
#define CERTS_UNTRUSTED "our roots cannot be read"
#define CERTS_CRL_UNREADABLE "the CRL cannot be read"
#define CERTS_CRL_EXPIRED "the CRL has expired or is not valid yet"
#define CERTS_ROOT_EXPIRED "every root certificate has expired"
#define CERTS_REVOKED "the certificate was revoked"
#define CERTS_NO_ROOT "the certificate leads to no root that is trusted"

/* The first SPIFFE URI SAN of a certificate: 0, or -EINVAL (none, or malformed: NUL inside, too long). */
int certs_peer(void *x509, char ret[CERTS_ID]) must_check;
/*
 * A client's certificate, for a server of `trust_domain`: one of its SPIFFE identities must be of that trust domain,
 * and the first one is who it is. NULL: good, and its id in ret; else why not, a constant, and ret is "".
 */
const char *certs_verify_client(void *x509, const char *trust_domain, char ret[CERTS_ID]) must_check;
/* A server's: one of its SPIFFE identities is one of `want`. NULL, or why not. */
const char *certs_verify_server(void *x509, const char *const *want, unsigned count) must_check;

/* ------------------------------------------------------------------ where certificates come from */

struct cert {	     /* one leaf; texts are PEM */
	char *chain; /* leaf first, then intermediates */
	char *key;
};
void cert_free(struct cert *c); /* wipes the key */

/* Milliseconds since 1970, from any thread; NULL where one is asked for: clock_wall(). Tests bring their own. */
typedef int64_t certs_clock(void);

/*
 * One source of certificates. Control thread only. `issue` may answer at once or later, exactly once unless the source
 * is closed before, with done(): `error` NULL and the cert (taken by the callee), or why not, for people.
 */
struct cert_source {
	const char *name; /* "embedded CA in /var/lib/weft/default/ca", for messages */
	bool issues;	  /* a CA of ours: it answers at once, for any identity */
	bool renews;	  /* false: it has what somebody else renews, and calls changed() then */
	void (*issue)(struct cert_source *s, const char *spiffe, void *asked,
		      void (*done)(void *asked, struct cert *cert, const char *error));
	char *(*roots)(struct cert_source *s); /* PEM of all trusted roots; free() it; NULL: none (yet) */
	char *(*crl)(struct cert_source *s);   /* PEM; free() it; NULL: no CRL is asked for. "": cannot be read */
	/* rises when what was issued before is to be replaced; changed() follows */
	uint64_t leaves;
	/* NULL: it works; else why not and what to do. Borrowed until the next changed() */
	const char *problem;
	/* set by certs.c: roots, CRL, problem or leaves changed: look and ask again */
	void (*changed)(struct cert_source *s);
	void *reader; /* of certs.c */
	void *owner;
	void (*close)(struct cert_source *s);
};

/*
 * A watched folder of files that may be readable by root alone: whoever can open them does it for us (the supervisor).
 * One open() or make() at a time; opened() answers it, now or later.
 */
#define CERT_FOLDER_FILES 8
struct cert_folder {
	const char *path;    /* for messages */
	const char *problem; /* set before opened(): why none can be opened, if there is more to say than errno */
	void (*open)(struct cert_folder *f, const char *const *name, unsigned count);
	/* Writes all of them, if the folder has none of them; opened() gives what is there then, whoever made it. */
	void (*make)(struct cert_folder *f, const char *const *name, const char *const *text, unsigned count);
	/* Set by the reader; NULL: nobody reads (any more). fd[i]: taken, or -errno (-ENOENT: no such file). */
	void (*opened)(struct cert_folder *f, const int *fd, unsigned count);
	void (*changed)(struct cert_folder *f); /* files were made, replaced or removed */
	void *reader, *owner;
};

/* ------------------------------------------------------------------ identity/ca.c */

/*
 * Istio's plug-in CA files: root-cert.pem, ca-cert.pem, ca-key.pem, cert-chain.pem; made if none is there; and
 * ca-crl.pem, if there. What is wrong (half a set, a key that does not fit or that others can read, an expired root) is
 * the source's `problem`; the last good set stays in force. The folder outlives the source.
 */
struct cert_source *ca_source(struct loop *loop, struct cert_folder *folder, const char *trust_domain,
			      certs_clock *now) must_check;

/* ------------------------------------------------------------------ identity/pem.c */

/* NAMESPACE.SERVICEACCOUNT.pem (chain) and NAMESPACE.SERVICEACCOUNT.key, beside roots.pem and, if there, crl.pem. */
struct cert_source *pem_source(struct loop *loop, struct cert_folder *folder) must_check;

/* ------------------------------------------------------------------ identity/certs.c */

struct certs;
struct certs *certs_new(struct loop *loop, struct cert_source *source, const char *trust_domain,
			certs_clock *now) must_check; /* takes the source */
void certs_free(struct certs *c);
void certs_tick(struct certs *c); /* the clock was moved: looks at what is due; it does so by itself in time */
/* A pod of this node has this identity (counted): its certificate is fetched now and renewed at half-life. */
void certs_need(struct certs *c, const char *spiffe);
void certs_release(struct certs *c, const char *spiffe); /* the last one: it is forgotten */

/*
 * Any thread: a SSL_CTX (one reference, the caller's: SSL_CTX_free) for handshakes as `spiffe`; NULL: there is no good
 * certificate (yet); *ret_why then says why, a constant. TLS 1.3, ALPN h2, both sides show a certificate; chain,
 * purpose and CRL are verified; who the peer is, is asked by certs_verify_client() and certs_verify_server().
 */
void *certs_client(struct certs *c, const char *spiffe, const char **ret_why) must_check;
void *certs_server(struct certs *c, const char *spiffe, const char **ret_why) must_check;
const char *certs_trust_domain(const struct certs *c); /* from any thread */

/*
 * identity/certs_wait.c: the same, for a pod that has just come: it may speak, and be spoken to, before it has its
 * certificate. One answer, now or within seconds: the SSL_CTX (taken by the callee), or NULL and why not.
 */
struct certs_wait {	     /* embedded by the owner; zeroed = not begun */
	struct certs *certs; /* NULL: there is no source */
	const char *spiffe;  /* borrowed until the answer */
	bool server;
	void (*got)(struct certs_wait *w, void *ctx, const char *why);
	struct loop *loop;	 /* of the thread that asks; the rest is certs_wait's */
	struct loop_timer again; /* to look again */
	uint64_t until_ns;
};
void certs_wait(struct certs_wait *w, struct loop *loop);
void certs_wait_cancel(struct certs_wait *w); /* any time, the answer's too */

/*
 * Roots or CRL changed: called in the control thread, with a number that rises. Connections whose peer certificate is
 * now revoked or has no root must end: certs_still_good() says it, from any thread. That a certificate has expired
 * meanwhile ends none. A handshake goes on with the trust that it began with: whoever begins one asks for the number
 * before he takes his SSL_CTX, and certs_good_since() when it is done.
 */
void certs_on_trust(struct certs *c, void (*changed)(void *ctx, uint64_t number), void *ctx);
uint64_t certs_trust_number(const struct certs *c);	   /* any thread */
const char *certs_still_good(struct certs *c, void *x509); /* NULL: yes; else why not, a constant */
const char *certs_good_since(struct certs *c, uint64_t number, void *x509); /* the same, if it is another one now */

/* ------------------------------------------------------------------ for people; control thread */

/* Why there are no handshakes, or will be none soon: of source, roots and CRL. NULL: all is well. Borrowed for now. */
const char *certs_problem(const struct certs *c);
const char *certs_source(const struct certs *c);
const char *certs_crl(const struct certs *c); /* "none", "valid", or why it closes */
/* Something that certs_problem() or certs_each() tell has changed. The callee may call them. */
void certs_on_change(struct certs *c, void (*told)(void *ctx), void *ctx);
/*
 * A certificate for somebody who is no pod of ours (an Envoy beside us), if the source is a CA of ours. NULL and why;
 * cert_free() it. *ret_roots: whom to trust; free() it.
 */
struct cert *certs_issue(struct certs *c, const char *spiffe, char **ret_roots, char why[256]) must_check;

struct cert_view {
	const char *spiffe, *state; /* "waiting", "valid", "renewing", "failed": no good one */
	char serial[48];
	int64_t not_before, not_after, renew_at; /* seconds since 1970; 0: none */
	const char *problem;			 /* of the last try; NULL none */
	unsigned pods;
};
/* Once for each identity, in order of name. */
void certs_each(const struct certs *c, void (*one)(void *ctx, const struct cert_view *v), void *ctx);
struct root_view {
	char subject[128], sha256[65];
	int64_t not_before, not_after;
};
void certs_each_root(const struct certs *c, void (*one)(void *ctx, const struct root_view *v), void *ctx);

#endif
