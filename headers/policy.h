/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h: AuthorizationPolicies and PeerAuthentications as tables that the kernel decides by.
 *
 *	objects --terms_compile--> terms --policy_new--> policy set (rows of abi.h: policies, sources, blocks, ports)
 *
 * A term is (who) AND (from which address) AND (to which port); abi.h says how terms become bits. A set is
 * what all pods share that the same policies select: it is immutable but for the identities that it learns.
 * Pure: no fd, no clock, no log. docs/policy.md is the user's view.
 */
#ifndef WEFT_POLICY_H
#define WEFT_POLICY_H

#include "http.h"
#include "model.h"

/* ------------------------------------------------------------------ mesh/identity.c */

/*
 * Numbers for (trust domain, namespace, service account). Never reused while the process lives; after a
 * restart the ones that the kernel holds are taken over where that is certain (identity_claim).
 */
struct identity {
	uint32_t number; /* never 0 */
	bool published;	 /* publish.c: every set in the kernel knows it; only then a pod may carry it */
	const char *trust_domain, *namespace, *service_account;
	char *principal; /* "cluster.local/ns/shop/sa/web" */
	char *account;	 /* "shop/web" */
	struct table_link link;
};
struct identities {
	struct table by_name;
	struct identity **all; /* in order of birth */
	unsigned count, size;
	uint32_t next; /* number of the next one; 0 counts as 1 */
};
/* The identity, made with the next number if it is new. Lives as long as the table. */
struct identity *identity_get(struct identities *t, const char *trust_domain, const char *namespace,
			      const char *service_account);
/* As identity_get, but a new one takes `number` if nobody has it. */
struct identity *identity_claim(struct identities *t, const char *trust_domain, const char *namespace,
				const char *service_account, uint32_t number);
struct identity *identity_by_number(const struct identities *t, uint32_t number); /* NULL: unknown */
void identities_free(struct identities *t);

/* ------------------------------------------------------------------ mesh/terms.c */

enum dimension { DIM_SOURCE,
		 DIM_BLOCK,
		 DIM_PORT,
		 DIM_COUNT };

enum test_what {
	TEST_PRINCIPAL,
	TEST_NAMESPACE,
	TEST_SERVICE_ACCOUNT, /* "namespace/name" */
	TEST_TRUST_DOMAIN,
	TEST_BLOCK,
	TEST_PORT
};

/* One list of the YAML: holds if one of its values fits; `not` turns the answer round. */
struct test {
	enum test_what what;
	bool invert;
	unsigned count;
	const char **text;
	uint64_t *hash; /* of each text */
	bool *pattern;	/* for each text: it has a *, so that others than itself may fit */
	const struct block *block;
	const uint16_t *port;
};
struct test_all { /* every test holds; none: always */
	struct test **test;
	unsigned count;
};
struct predicate { /* one of the alternatives holds */
	struct test_all *alt;
	unsigned alts;
	uint64_t hash; /* 0: not asked for yet */
};
struct policy_origin {
	const char *namespace, *name; /* AuthorizationPolicy */
	unsigned policy;	      /* index of the object among those of the set */
	unsigned rule;		      /* spec.rules[rule] */
};
struct term {
	bool deny; /* else ALLOW */
	bool l7;   /* also needs what only HTTP can tell */
	struct predicate dim[DIM_COUNT];
	struct policy_origin *origin; /* several only where terms had to be merged to fit ABI_TERMS */
	unsigned origins;
	unsigned order;
};
struct terms {
	struct term *term;
	unsigned count;
	bool has_allow; /* an ALLOW policy is among them, even one without rules */
	bool too_many;	/* more than ABI_TERMS even after merging: the set closes */
};

/*
 * Terms of the policies (in this order) for a pod with these addresses (for destination.ip). All that they
 * point to is copied into the arena. Merges terms where that is exact.
 */
void terms_compile(struct arena *a, const struct object *const *policy, unsigned count,
		   const struct abi_addr *addr, unsigned addrs, struct terms *ret);
/* `text` fits a pattern: "*" anything, "prefix*", "*suffix", else equal (Istio's order of asking). */
bool terms_fit(const char *pattern, const char *text);
/* Who asks, as the tests of the source dimension compare it. NULL: nobody proved anything, so only not-forms hold. */
struct terms_who {
	const char *name[TEST_TRUST_DOMAIN + 1]; /* by enum test_what; the identity's */
	uint64_t hash[TEST_TRUST_DOMAIN + 1];
};
struct terms_who terms_who(const struct identity *who);
bool terms_source_holds(const struct predicate *p, const struct terms_who *who);
/* Family counts: ::/0 holds no IPv4 address. */
bool terms_in_block(const struct abi_addr *addr, const struct block *b);

/* ------------------------------------------------------------------ mesh/policy_http.c */

/*
 * A rule with fields that only HTTP can tell, whole: where a term with `l7` hits, the worker asks the rules that it
 * comes from. NULL: the rule has none. All that it points to is in the arena.
 */
struct policy_http;
struct policy_http *policy_http_new(struct arena *a, const struct object *policy, unsigned rule,
				    const struct abi_addr *addr, unsigned addrs) must_check;
void policy_http_sign(const struct policy_http *p, struct text *to); /* differs where two rules differ */

struct policy_request {
	const struct identity *who; /* NULL: nobody proved anything */
	const struct abi_addr *source;
	uint16_t port;
	/* NULL: it is no HTTP: fields of HTTP then match nothing in ALLOW, and count as absent in DENY (Istio) */
	const struct http_head *head;
	struct http_text host; /* http_host() */
	struct http_text path; /* http_path_normalise(), without the query */
};
enum policy_answer { POLICY_NO,
		     POLICY_YES,
		     POLICY_UNKNOWN }; /* it also asks for what weft does not know: JWT, the address behind a proxy */
enum policy_answer policy_http_holds(const struct policy_http *p, const struct policy_request *q);
/* What it may say of requests of HTTP by this source to this port, whatever they ask for: 1 << enum policy_answer. */
unsigned policy_http_answers(const struct policy_http *p, const struct policy_request *q);

/* ------------------------------------------------------------------ mesh/policy.c */

struct policy_mtls { /* what PeerAuthentication says for one pod, and by which object */
	enum abi_mtls mtls;
	const struct object *from;    /* NULL: nothing said so: PERMISSIVE */
	const struct port_mtls *port; /* of `port_from` */
	unsigned ports;
	const struct object *port_from;
};

/* What a set is made from: borrowed for the call. */
struct policy_input {
	const struct object *const *policy; /* AuthorizationPolicies in order of namespace, name */
	unsigned policies;
	struct policy_mtls mtls;
	const struct abi_addr *addr; /* of the pod */
	unsigned addrs;
};

struct policy_source_row {
	uint32_t identity;
	struct abi_bits bits;
};
struct policy_block_row {
	struct block block;
	int parent; /* index of the smallest block around it, -1 none */
	struct abi_bits bits;
};
struct policy_port_row {
	uint16_t port;
	struct abi_port value;
};
struct policy_named { /* an AuthorizationPolicy that selects the pods of the set */
	const char *namespace, *name;
	bool deny, stand_in;
};

struct policy_set {
	uint32_t number;		  /* key in `policies`; given by the world, 0 before */
	unsigned refs;			  /* pods */
	unsigned holders;		  /* atomic: the world and mesh/view.c: the last one frees it */
	bool published;			  /* publish.c: all rows are in the kernel */
	bool failed;			  /* publish.c: could not be written: a map is full */
	struct abi_policy head;		  /* `set` is filled when it is published */
	struct policy_source_row *source; /* in order of identity */
	unsigned sources, source_size;
	struct policy_block_row *block; /* in order of address, then length */
	unsigned blocks;
	struct policy_port_row *port; /* in order of port */
	unsigned ports;
	struct terms terms; /* bit i is terms.term[i] */
	struct policy_named *policy;
	unsigned policies;
	struct policy_http ***http; /* [policy][rule], NULL where nothing is of HTTP; NULL: in none */
	const char *mtls_from;	    /* "namespace/name" of the PeerAuthentication in force, NULL none */
	const char *mtls_port_from; /* the one whose ports are listed, NULL none */
	struct port_mtls *mtls_port;
	unsigned mtls_ports;
	struct arena arena;
	struct text signature; /* two sets of one signature are one set */
	struct table_link link;
	struct list all;
};

/* Which PeerAuthentications speak for a pod. `object` are all of its namespace and of the root namespace. */
void policy_mtls(const struct object *const *object, unsigned count, const char *root_namespace,
		 const char *namespace, const struct pairs *labels, struct policy_mtls *ret);
bool policy_selects(const struct object *policy, const char *root_namespace, const char *namespace,
		    const struct pairs *labels);

/* Terms and signature; then, if no set has that signature yet, the rows. */
struct policy_set *policy_new(const struct policy_input *in);
void policy_build(struct policy_set *s, const char *trust_domain, const struct identities *ids);
void policy_free(struct policy_set *s); /* lets go of it: the last holder frees */
/* Any thread that knows it to be alive: one more policy_free() is due. */
struct policy_set *policy_hold(struct policy_set *s);
/* An identity is new: returns its row if the set must list it, else NULL. Idempotent. */
const struct policy_source_row *policy_learn(struct policy_set *s, const struct identity *who);
/*
 * What the kernel decides, by the same code. who NULL: no identity. ret_hit (may be NULL) gets the bits of all
 * terms that match.
 */
enum abi_reason policy_decide(const struct policy_set *s, const struct identity *who,
			      const struct abi_addr *source, uint16_t port, struct abi_bits *ret_hit);
/*
 * The same answer for an identity that need not have a number (`who->number` is not looked at), and from any thread
 * that holds the set: reads only what never changes once it is built.
 */
enum abi_reason policy_judge(const struct policy_set *s, const struct identity *who, const struct abi_addr *source,
			     uint16_t port);
/*
 * One request, where policy_judge() says NEEDS_WORKER: that again if the answer depends on what weft does not know.
 * Of a connection that is no HTTP too (q->head NULL).
 */
enum abi_reason policy_judge_request(const struct policy_set *s, const struct policy_request *q);
/* Like policy_decide(); but ABI_PROXIED where the worker is asked and may allow a request. NEEDS_WORKER: never. */
enum abi_reason policy_foresee(const struct policy_set *s, const struct identity *who, const struct abi_addr *source,
			       uint16_t port, struct abi_bits *ret_hit);
/* May there be a connection to this port that policy_judge() has no answer to? */
bool policy_needs_http(const struct policy_set *s, uint16_t port);
/* Where a bit comes from: NULL if there is no such bit. Merged terms have more: terms.term[bit].origin[]. */
const struct policy_origin *policy_origin(const struct policy_set *s, unsigned bit);
enum abi_mtls policy_mtls_of(const struct policy_set *s, uint16_t port);

#endif
