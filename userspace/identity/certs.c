/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certs.c: see certs.h.
 *
 *	needed --issue--> WAITING --> VALID --half of its life--> RENEWING --> VALID
 *	                     |          ^                            |
 *	                     +--> FAILED (no good one) <--expired-- VALID, with a problem
 *
 * The table belongs to the control thread. Data threads look up a context under a lock that is held for some 100 ns; a
 * handshake costs a thousand times that, so the lock is never the place where threads meet.
 */
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "issuer.h"

#define TICK_NS 30000000000ull /* at least: the wall clock may have jumped */
#define AT_ONCE 4	       /* issues of one turn: one by an RSA key of 4096 bits takes 5 ms */
#define RETRY_MS 500
#define RETRY_MAX_MS 150000
#define LATE 10 /* a part in so many of a life: so late what others renew is worth a warning */

enum state { /* in the order of life */
	     WAITING,
	     VALID,
	     RENEWING, /* valid, and another one was asked for */
	     FAILED
};

static const char *const state_names[] = {
	[WAITING] = "waiting",
	[VALID] = "valid",
	[RENEWING] = "renewing",
	[FAILED] = "failed",
};

struct request {
	struct certs *certs;
	struct entry *entry; /* NULL: nobody needs it any more */
};

struct entry {
	char *spiffe;
	unsigned pods;
	enum state state;
	SSL_CTX *ctx;		   /* under the lock; NULL: there is no good certificate */
	const char *why;	   /* if so; under the lock */
	int64_t not_after_ms;	   /* under the lock */
	int64_t from_ms;	   /* when it begins to be valid */
	int64_t issued_ms, due_ms; /* due: to ask again; INT64_MAX: never */
	int64_t late_ms;	   /* if somebody else renews it: by then he should have */
	int64_t retry_ms;	   /* the last wait */
	char *problem;		   /* NULL: the last try was good */
	struct request *request;   /* under way */
	struct table_link link;
};

struct certs {
	struct loop *loop;
	struct cert_source *source;
	char *trust_domain;
	certs_clock *now;
	pthread_mutex_t lock;
	struct table entries;	 /* changed under the lock */
	struct trust *trust;	 /* replaced under the lock; NULL: no roots yet */
	char *roots, *crl;	 /* what it was made of */
	char trust_problem[WHY]; /* "": none */
	uint64_t leaves, number;
	struct loop_timer tick;
	void (*changed)(void *ctx, uint64_t number);
	void *ctx;
	void (*told)(void *ctx);
	void *told_ctx;
	const char *closed; /* as it was told last */
};

static int64_t jitter(int64_t most) /* 0 .. most */
{
	uint32_t n;

	if (RAND_bytes((unsigned char *)&n, sizeof(n)) != 1)
		n = (uint32_t)clock_ns();
	return most * (int64_t)(n >> 16) / 65536;
}

static struct entry *find(const struct certs *c, const char *spiffe)
{
	struct table_link *l = table_first(&c->entries, table_hash(spiffe, strlen(spiffe)));

	for (; l; l = table_next_same(l)) {
		struct entry *e = container_of(l, struct entry, link);

		if (text_equal(e->spiffe, spiffe))
			return e;
	}
	return NULL;
}

static struct entry *next_entry(const struct certs *c, struct entry *after)
{
	struct table_link *l = table_walk(&c->entries, after ? &after->link : NULL);

	return l ? container_of(l, struct entry, link) : NULL;
}

/* Takes ctx. */
static void publish(struct certs *c, struct entry *e, SSL_CTX *ctx, const char *why)
{
	SSL_CTX *was = e->ctx;

	pthread_mutex_lock(&c->lock);
	e->ctx = ctx;
	e->why = why;
	pthread_mutex_unlock(&c->lock);
	SSL_CTX_free(was); /* handshakes that have it go on with it */
}

/* ------------------------------------------------------------------ one certificate */

static void tell(const struct certs *c)
{
	if (c->told)
		c->told(c->told_ctx);
}

static void set_problem(const struct certs *c, struct entry *e, const char *problem)
{
	bool same = text_equal(problem, e->problem);

	if (problem && !text_equal(problem, e->problem))
		log_warning("certificate of %s: %s", e->spiffe, problem);
	else if (!problem && e->problem)
		log_info("certificate of %s: good again", e->spiffe);
	free(e->problem);
	e->problem = problem ? mem_string(problem) : NULL;
	if (!same)
		tell(c);
}

static void failed(struct certs *c, struct entry *e, const char *problem)
{
	e->retry_ms = e->retry_ms ? 2 * e->retry_ms : RETRY_MS;
	if (e->retry_ms > RETRY_MAX_MS)
		e->retry_ms = RETRY_MAX_MS;
	e->due_ms = c->now() + e->retry_ms - e->retry_ms / 5 + jitter(2 * e->retry_ms / 5);
	e->state = e->ctx ? VALID : FAILED;
	set_problem(c, e, problem);
}

/* Half of what is left, give or take a twentieth, so that a restarted node does not renew everything at one time. */
static int64_t renewal(const struct certs *c, const struct entry *e)
{
	int64_t life = e->not_after_ms - e->issued_ms;

	if (!c->source->renews)
		return INT64_MAX;
	return e->issued_ms + life / 2 - life / 20 + jitter(life / 10);
}

/* The source looked again and nothing is new: what is in use stays, and nothing is made. */
static bool in_use(const struct entry *e, const STACK_OF(X509) * chain)
{
	STACK_OF(X509) *between = NULL;
	bool same;

	if (!e->ctx)
		return false;
	(void)SSL_CTX_get0_chain_certs(e->ctx, &between);
	same = !X509_cmp(SSL_CTX_get0_certificate(e->ctx), sk_X509_value(chain, 0)) &&
	       sk_X509_num(chain) == 1 + (between ? sk_X509_num(between) : 0);
	for (int i = 1; same && i < sk_X509_num(chain); i++)
		same = !X509_cmp(sk_X509_value(between, i - 1), sk_X509_value(chain, i));
	return same;
}

static SSL_CTX *make_context(struct certs *c, const struct entry *e, const struct cert *cert, char why[WHY])
{
	STACK_OF(X509) *chain = x509_read(cert->chain, "its chain", why);
	EVP_PKEY *key = chain ? x509_key(cert->key, "its key", why) : NULL;
	SSL_CTX *ctx = NULL;

	if (key && !sk_X509_num(chain))
		snprintf(why, WHY, "its chain holds no certificate in PEM");
	else if (key && !x509_fits(sk_X509_value(chain, 0), key))
		snprintf(why, WHY, "its key does not fit its certificate");
	else if (key && !c->trust)
		snprintf(why, WHY, CERTS_UNTRUSTED);
	else if (key && x509_lasts(sk_X509_value(chain, 0), c->now() / 1000, "it", why) &&
		 trust_own(c->trust, chain, e->spiffe, c->now() / 1000, why)) {
		ctx = in_use(e, chain) ? e->ctx : context_new(chain, key, c->trust, why);
		if (ctx == e->ctx)
			(void)SSL_CTX_up_ref(ctx);
	}
	x509_free(chain);
	EVP_PKEY_free(key);
	return ctx;
}

static void take(struct certs *c, struct entry *e, const struct cert *cert)
{
	char why[WHY] = "";
	int64_t not_before, not_after;
	SSL_CTX *ctx = make_context(c, e, cert, why);

	if (!ctx) {
		failed(c, e, why);
		return;
	}
	not_before = x509_time(X509_get0_notBefore(SSL_CTX_get0_certificate(ctx)));
	not_after = x509_time(X509_get0_notAfter(SSL_CTX_get0_certificate(ctx)));
	pthread_mutex_lock(&c->lock);
	e->not_after_ms = not_after > INT64_MAX / 1000 ? INT64_MAX : not_after * 1000;
	pthread_mutex_unlock(&c->lock);
	publish(c, e, ctx, NULL);
	e->from_ms = not_before * 1000;
	e->issued_ms = c->now();
	e->due_ms = renewal(c, e);
	e->late_ms = e->not_after_ms - (e->not_after_ms - e->from_ms) / LATE;
	e->retry_ms = 0;
	e->state = VALID;
	set_problem(c, e, NULL);
}

static void issued(void *asked, struct cert *cert, const char *error)
{
	struct request *r = asked;

	if (r->entry) {
		r->entry->request = NULL;
		if (cert)
			take(r->certs, r->entry, cert);
		else
			failed(r->certs, r->entry, error);
		loop_arm(r->certs->loop, &r->certs->tick, 0);
	}
	cert_free(cert);
	free(r);
}

static void ask(struct certs *c, struct entry *e)
{
	struct request *r = mem_alloc(sizeof(*r));

	*r = (struct request){.certs = c, .entry = e};
	e->request = r;
	e->state = e->ctx ? RENEWING : e->state == FAILED ? FAILED
							  : WAITING;
	e->due_ms = INT64_MAX;
	c->source->issue(c->source, e->spiffe, r, issued);
}

/* ------------------------------------------------------------------ what is due */

static void expire(struct certs *c, struct entry *e)
{
	if (!e->ctx || c->now() < e->not_after_ms)
		return;
	publish(c, e, NULL, CERTS_EXPIRED);
	e->state = FAILED;
	if (!e->problem)
		set_problem(c, e, CERTS_EXPIRED);
}

/* Its owner is late to renew it: say so while there is time. */
static void remind(const struct certs *c, struct entry *e)
{
	char date[32], *text;

	if (c->source->renews || !e->ctx || e->problem || c->now() < e->late_ms)
		return;
	x509_date(e->not_after_ms / 1000, date);
	text = mem_format("it ends on %s and was not renewed: put a new one there", date);
	set_problem(c, e, text);
	free(text);
}

/*
 * The wall clock may have gone back: no wait is longer than it would be from now, and what was made in what is the
 * future now is made anew: nobody whose clock was right all the time believes it yet.
 */
static void bound(const struct certs *c, struct entry *e)
{
	bool good = e->ctx && !e->retry_ms;
	int64_t most = good ? e->not_after_ms - e->issued_ms : 2 * RETRY_MAX_MS, now = c->now();

	if (e->due_ms != INT64_MAX && (e->due_ms - now > most || (good && now < e->from_ms)))
		e->due_ms = now;
}

static void tick_due(struct loop_timer *t)
{
	struct certs *c = container_of(t, struct certs, tick);
	int64_t now = c->now(), next = INT64_MAX;
	unsigned room = AT_ONCE;

	if (certs_problem(c) != c->closed) { /* by the clock alone */
		c->closed = certs_problem(c);
		tell(c);
	}
	/* First: a source that answers at once arms it again. */
	loop_arm(c->loop, &c->tick, TICK_NS);
	for (struct entry *e = next_entry(c, NULL); e; e = next_entry(c, e)) {
		expire(c, e);
		remind(c, e);
		bound(c, e);
		if (!e->request && e->due_ms <= now && room) {
			room--;
			ask(c, e);
		}
		next = e->due_ms < next ? e->due_ms : next;
		next = e->ctx && e->not_after_ms < next ? e->not_after_ms : next;
	}
	now = c->now();
	if (next <= now)
		loop_arm(c->loop, &c->tick, 0);
	else if ((uint64_t)(next - now) < TICK_NS / 1000000)
		loop_arm(c->loop, &c->tick, (uint64_t)(next - now) * 1000000);
}

void certs_tick(struct certs *c)
{
	tick_due(&c->tick);
}

void certs_need(struct certs *c, const char *spiffe)
{
	struct entry *e = find(c, spiffe);

	if (e) {
		e->pods++;
		return;
	}
	e = mem_alloc(sizeof(*e));
	*e = (struct entry){.spiffe = mem_string(spiffe), .pods = 1, .state = WAITING, .why = CERTS_WAITING};
	pthread_mutex_lock(&c->lock);
	table_add(&c->entries, &e->link, table_hash(spiffe, strlen(spiffe)));
	pthread_mutex_unlock(&c->lock);
	loop_arm(c->loop, &c->tick, 0);
}

static void forget(struct certs *c, struct entry *e)
{
	pthread_mutex_lock(&c->lock);
	table_del(&c->entries, &e->link);
	pthread_mutex_unlock(&c->lock);
	if (e->request)
		e->request->entry = NULL;
	SSL_CTX_free(e->ctx);
	free(e->problem);
	free(e->spiffe);
	free(e);
}

void certs_release(struct certs *c, const char *spiffe)
{
	struct entry *e = find(c, spiffe);

	if (e && !--e->pods)
		forget(c, e);
}

/* ------------------------------------------------------------------ roots, CRL, source */

/* Every context under the new trust. One that cannot be made goes: it would believe whom we do not believe any more. */
static void spread_trust(struct certs *c)
{
	char why[WHY];

	for (struct entry *e = next_entry(c, NULL); e; e = next_entry(c, e)) {
		SSL_CTX *ctx = e->ctx ? context_again(e->ctx, c->trust, why) : NULL;

		if (!e->ctx)
			continue;
		publish(c, e, ctx, ctx ? NULL : CERTS_WAITING);
		if (ctx)
			continue;
		e->state = FAILED;
		e->due_ms = 0;
	}
}

static bool replace_trust(struct certs *c, const char *roots, const char *crl)
{
	struct trust *trust = trust_new(roots, crl, c->now, c->trust_problem), *was = c->trust;

	if (!trust)
		return false;
	if (was)
		trust_follow(trust, was);
	pthread_mutex_lock(&c->lock);
	c->trust = trust;
	pthread_mutex_unlock(&c->lock);
	trust_unref(was);
	spread_trust(c);
	return true;
}

static void read_trust(struct certs *c)
{
	char *roots = c->source->roots(c->source), *crl = c->source->crl(c->source);
	bool replaced = false;

	if (!roots || (text_equal(roots, c->roots) && text_equal(crl, c->crl))) {
		free(roots);
		free(crl);
		return;
	}
	c->trust_problem[0] = '\0';
	replaced = replace_trust(c, roots, crl);
	/* Roots that cannot be read: the last good ones stay, but a CRL counts at once. */
	if (!replaced && c->roots && !text_equal(crl, c->crl)) {
		char why[WHY];

		text_copy(why, sizeof(why), c->trust_problem);
		replaced = replace_trust(c, c->roots, crl);
		text_copy(c->trust_problem, sizeof(c->trust_problem), why);
		free(roots);
		roots = mem_string(c->roots);
	}
	if (!replaced) {
		free(roots);
		free(crl);
		return;
	}
	free(c->roots);
	free(c->crl);
	c->roots = roots;
	c->crl = crl;
	log_info("roots and CRL read: %d root%s, %s", sk_X509_num(trust_roots(c->trust)),
		 text_plural((uint64_t)sk_X509_num(trust_roots(c->trust))), crl ? "a CRL" : "no CRL");
	__atomic_store_n(&c->number, c->number + 1, __ATOMIC_RELEASE); /* `trust` is there already */
	if (c->changed)
		c->changed(c->ctx, c->number);
}

static void source_changed(struct cert_source *s)
{
	struct certs *c = s->reader;
	bool all = s->leaves != c->leaves;

	read_trust(c);
	c->leaves = s->leaves;
	for (struct entry *e = next_entry(c, NULL); e; e = next_entry(c, e)) {
		if (e->request || (!all && !e->problem && e->ctx))
			continue;
		e->due_ms = 0;
		e->retry_ms = 0;
	}
	loop_arm(c->loop, &c->tick, 0);
	tell(c);
}

struct certs *certs_new(struct loop *loop, struct cert_source *source, const char *trust_domain, certs_clock *now)
{
	struct certs *c = mem_alloc(sizeof(*c));

	c->loop = loop;
	c->source = source;
	c->trust_domain = mem_string(trust_domain);
	c->now = now ? now : clock_wall;
	c->tick.due = tick_due;
	pthread_mutex_init(&c->lock, NULL);
	source->reader = c;
	source->changed = source_changed;
	source_changed(source); /* it may be there already */
	return c;
}

void certs_free(struct certs *c)
{
	struct entry *e;

	if (!c)
		return;
	c->source->close(c->source);
	while ((e = next_entry(c, NULL))) {
		free(e->request); /* a source that is closed answers nothing */
		e->request = NULL;
		forget(c, e);
	}
	loop_disarm(c->loop, &c->tick);
	table_free(&c->entries);
	trust_unref(c->trust);
	pthread_mutex_destroy(&c->lock);
	free(c->roots);
	free(c->crl);
	free(c->trust_domain);
	free(c);
}

/* ------------------------------------------------------------------ from any thread */

void *certs_client(struct certs *c, const char *spiffe, const char **ret_why)
{
	const char *why = CERTS_UNKNOWN;
	int64_t now = c->now();
	SSL_CTX *ctx = NULL;
	struct entry *e;

	pthread_mutex_lock(&c->lock);
	e = find(c, spiffe);
	if (!c->trust)
		why = CERTS_UNTRUSTED;
	else if (e)
		why = e->ctx && now >= e->not_after_ms ? CERTS_EXPIRED : trust_closed(c->trust, now / 1000);
	if (e && !why && e->ctx && SSL_CTX_up_ref(e->ctx) == 1)
		ctx = e->ctx;
	else if (e && !why)
		why = e->why;
	pthread_mutex_unlock(&c->lock);
	*ret_why = ctx ? NULL : why;
	return ctx;
}

void *certs_server(struct certs *c, const char *spiffe, const char **ret_why)
{
	return certs_client(c, spiffe, ret_why);
}

const char *certs_trust_domain(const struct certs *c)
{
	return c->trust_domain;
}

void certs_on_trust(struct certs *c, void (*changed)(void *ctx, uint64_t number), void *ctx)
{
	c->changed = changed;
	c->ctx = ctx;
}

uint64_t certs_trust_number(const struct certs *c)
{
	return __atomic_load_n(&c->number, __ATOMIC_ACQUIRE);
}

const char *certs_still_good(struct certs *c, void *x509)
{
	struct trust *t;
	const char *why;

	pthread_mutex_lock(&c->lock);
	t = c->trust ? trust_ref(c->trust) : NULL;
	pthread_mutex_unlock(&c->lock);
	if (!t)
		return CERTS_UNTRUSTED;
	why = trust_still_good(t, x509);
	trust_unref(t);
	return why;
}

const char *certs_good_since(struct certs *c, uint64_t number, void *x509)
{
	return certs_trust_number(c) == number ? NULL : certs_still_good(c, x509);
}

/* ------------------------------------------------------------------ for people */

const char *certs_source(const struct certs *c)
{
	return c->source->name;
}

const char *certs_problem(const struct certs *c)
{
	if (c->source->problem)
		return c->source->problem;
	if (c->trust_problem[0])
		return c->trust_problem;
	return c->trust ? trust_closed(c->trust, c->now() / 1000) : NULL;
}

const char *certs_crl(const struct certs *c)
{
	const char *closed = c->trust ? trust_closed(c->trust, c->now() / 1000) : NULL;

	if (!c->crl)
		return "none";
	return closed && !text_equal(closed, CERTS_ROOT_EXPIRED) ? closed : "valid";
}

void certs_on_change(struct certs *c, void (*told)(void *ctx), void *ctx)
{
	c->told = told;
	c->told_ctx = ctx;
}

struct taken {
	struct cert *cert;
	char *why;
};

static void take_at_once(void *asked, struct cert *cert, const char *error)
{
	struct taken *t = asked;

	t->cert = cert;
	if (error)
		text_copy(t->why, WHY, error);
}

struct cert *certs_issue(struct certs *c, const char *spiffe, char **ret_roots, char why[WHY])
{
	struct taken t = {.why = why};
	struct spiffe id;

	if (spiffe_parse(spiffe, &id) || !text_equal(id.trust_domain, c->trust_domain)) {
		snprintf(why, WHY, "\"%.100s\" is no SPIFFE identity of trust domain %.60s", spiffe, c->trust_domain);
		return NULL;
	}
	if (!c->source->issues) {
		snprintf(why, WHY, "certificates come from %.120s: weft has no CA here that could issue one",
			 c->source->name);
		return NULL;
	}
	c->source->issue(c->source, spiffe, &t, take_at_once);
	if (t.cert) {
		*ret_roots = c->source->roots(c->source);
		log_info("certificate of %s: issued because weftctl asked for it", spiffe);
	}
	return t.cert;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct entry *const *)a)->spiffe, (*(struct entry *const *)b)->spiffe);
}

static void view(const struct certs *c, const struct entry *e, struct cert_view *ret)
{
	const X509 *x = e->ctx ? SSL_CTX_get0_certificate(e->ctx) : NULL;

	*ret = (struct cert_view){
		.spiffe = e->spiffe, .state = state_names[e->state], .problem = e->problem, .pods = e->pods};
	if (!x)
		return;
	x509_serial(x, ret->serial);
	ret->not_before = x509_time(X509_get0_notBefore(x));
	ret->not_after = x509_time(X509_get0_notAfter(x));
	ret->renew_at = c->source->renews && e->due_ms != INT64_MAX ? e->due_ms / 1000 : 0;
}

void certs_each(const struct certs *c, void (*one)(void *ctx, const struct cert_view *v), void *ctx)
{
	struct entry **all = mem_grow(NULL, c->entries.count, sizeof(struct entry *));
	unsigned count = 0;

	for (struct entry *e = next_entry(c, NULL); e; e = next_entry(c, e))
		all[count++] = e;
	qsort(all, count, sizeof(struct entry *), by_name);
	for (unsigned i = 0; i < count; i++) {
		struct cert_view v;

		view(c, all[i], &v);
		one(ctx, &v);
	}
	free(all);
}

void certs_each_root(const struct certs *c, void (*one)(void *ctx, const struct root_view *v), void *ctx)
{
	const STACK_OF(X509) *roots = c->trust ? trust_roots(c->trust) : NULL;

	for (int i = 0; i < sk_X509_num(roots); i++) {
		const X509 *x = sk_X509_value(roots, i);
		struct root_view v = {.not_before = x509_time(X509_get0_notBefore(x)),
				      .not_after = x509_time(X509_get0_notAfter(x))};

		x509_subject(x, v.subject);
		x509_fingerprint(x, v.sha256);
		one(ctx, &v);
	}
}
