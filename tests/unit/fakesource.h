/* SPDX-License-Identifier: Apache-2.0 */
/* fakesource.h: a source of certificates that answers when and what it is told to, and certs over it. All static. */
#ifndef WEFT_TEST_FAKESOURCE_H
#define WEFT_TEST_FAKESOURCE_H

#include "pki.h"

/* A source that answers when it is told to. */
struct fake {
	struct cert_source source;
	struct ca_pair root, ca;
	X509 *roots[4];
	unsigned root_count;
	char *crl;
	const char *uris;     /* instead of what was asked for */
	const char *purposes; /* NULL: both */
	int64_t life;
	bool hold;
	unsigned asked;
	struct pending {
		void *asked;
		void (*done)(void *asked, struct cert *cert, const char *error);
		char spiffe[CERTS_ID];
	} pending[16];
	unsigned count;
	const char *error;
	bool other_key;
};

PKI_FN struct cert *sign(struct fake *f, const char *spiffe)
{
	char uris[CERTS_ID + 8];
	struct ca_pair leaf, other = {.key = pki_key("P-256")};
	struct cert *c = mem_alloc(sizeof(*c));
	X509 *chain[2];

	snprintf(uris, sizeof(uris), "URI:%s", spiffe);
	leaf = pki_leaf(&f->ca, f->uris ? f->uris : uris, f->purposes ? f->purposes : "serverAuth,clientAuth",
			pki_now - 60, pki_now + f->life);
	chain[0] = leaf.cert;
	chain[1] = f->ca.cert;
	c->chain = x509_text(chain, 2);
	c->key = x509_key_text(f->other_key ? other.key : leaf.key);
	pki_free(&leaf);
	EVP_PKEY_free(other.key);
	return c;
}

PKI_FN void answer(struct fake *f)
{
	struct pending p;

	assert_true(f->count);
	p = f->pending[--f->count];
	p.done(p.asked, f->error ? NULL : sign(f, p.spiffe), f->error);
}

PKI_FN void fake_issue(struct cert_source *s, const char *spiffe, void *asked,
		       void (*done)(void *asked, struct cert *cert, const char *error))
{
	struct fake *f = s->owner;
	struct pending *p = &f->pending[f->count++];

	f->asked++;
	*p = (struct pending){.asked = asked, .done = done};
	text_copy(p->spiffe, sizeof(p->spiffe), spiffe);
	if (!f->hold)
		answer(f);
}

PKI_FN char *fake_roots(struct cert_source *s)
{
	struct fake *f = s->owner;

	return f->root_count ? x509_text(f->roots, f->root_count) : NULL;
}

PKI_FN char *fake_crl(struct cert_source *s)
{
	struct fake *f = s->owner;

	return f->crl ? mem_string(f->crl) : NULL;
}

PKI_FN void fake_close(struct cert_source *s)
{
	struct fake *f = s->owner;

	free(f->crl);
	pki_free(&f->root);
	pki_free(&f->ca);
}

PKI_FN void fake_begin(struct fake *f)
{
	*f = (struct fake){.source = {.name = "fake",
				      .renews = true,
				      .issue = fake_issue,
				      .roots = fake_roots,
				      .crl = fake_crl,
				      .close = fake_close,
				      .owner = f},
			   .root = pki_root("root"),
			   .root_count = 1,
			   .life = DAY};
	f->ca = pki_ca("node", "P-256", &f->root, NOON - DAY, NOON + 300 * DAY);
	f->roots[0] = f->root.cert;
}

/* ------------------------------------------------------------------ certs over it */

struct fixture {
	struct loop *loop;
	struct fake fake;
	struct certs *certs;
	unsigned trusts;
};

PKI_FN void trust_changed(void *ctx, uint64_t number)
{
	struct fixture *f = ctx;

	assert_int_equal(number, ++f->trusts + 1);
}

PKI_FN void begin_source(struct fixture *f)
{
	*f = (struct fixture){.loop = loop_new()};
	pki_now = NOON;
	fake_begin(&f->fake);
}

PKI_FN void begin(struct fixture *f)
{
	begin_source(f);
	f->certs = certs_new(f->loop, &f->fake.source, TD, pki_clock);
	certs_on_trust(f->certs, trust_changed, f);
}

PKI_FN void end(struct fixture *f)
{
	certs_free(f->certs);
	loop_free(f->loop);
}

struct run {
	struct loop_timer timer;
	struct loop *loop;
};

PKI_FN void stop(struct loop_timer *t)
{
	loop_stop(container_of(t, struct run, timer)->loop);
}

PKI_FN void run_for(struct fixture *f, uint64_t ns)
{
	struct run r = {.timer.due = stop, .loop = f->loop};

	loop_arm(f->loop, &r.timer, ns);
	assert_int_equal(loop_run(f->loop), 0);
}

/* Some turns of the loop: what is due now is done. `look`: after the clock was moved. */
PKI_FN void turns(struct fixture *f, bool look)
{
	if (look)
		certs_tick(f->certs);
	for (int i = 0; i < 4; i++)
		run_for(f, 0);
}

PKI_FN void need(struct fixture *f, const char *spiffe)
{
	certs_need(f->certs, spiffe);
	turns(f, false);
}

PKI_FN void later(struct fixture *f, int64_t seconds)
{
	pki_now += seconds;
	turns(f, true);
}

PKI_FN void take_view(void *ctx, const struct cert_view *v)
{
	struct cert_view *to = ctx;

	if (text_equal(v->spiffe, WEB))
		*to = *v;
}

PKI_FN struct cert_view view(struct fixture *f)
{
	struct cert_view v = {0};

	certs_each(f->certs, take_view, &v);
	return v;
}

PKI_FN SSL_CTX *context(struct fixture *f, const char *spiffe)
{
	const char *why;
	SSL_CTX *ctx = certs_server(f->certs, spiffe, &why);

	if (!ctx)
		fail_msg("%s: %s", spiffe, why);
	return ctx;
}

PKI_FN void assert_none(struct fixture *f, const char *spiffe, const char *expected)
{
	const char *why = NULL;

	assert_null(certs_client(f->certs, spiffe, &why));
	assert_string_equal(why, expected);
}

#endif
