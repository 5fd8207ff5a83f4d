/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates of a node: needed, renewed, failed, expired; roots and CRL replaced; handshakes with what they make. */
#include <pthread.h>
#include <time.h>

#include "fakesource.h"

/* ------------------------------------------------------------------ life */

static void needed_and_released(void **state)
{
	struct fixture f;
	SSL_CTX *ctx;

	begin(&f);
	f.fake.hold = true;
	assert_none(&f, WEB, CERTS_UNKNOWN);
	need(&f, WEB);
	assert_none(&f, WEB, CERTS_WAITING);
	assert_string_equal(view(&f).state, "waiting");
	need(&f, WEB);
	assert_int_equal(f.fake.asked, 1);
	answer(&f.fake);
	ctx = context(&f, WEB);
	assert_int_equal(view(&f).pods, 2);
	assert_string_equal(view(&f).state, "valid");
	assert_int_equal(view(&f).not_after, NOON + DAY);
	assert_null(certs_problem(f.certs));
	certs_release(f.certs, WEB);
	SSL_CTX_free(ctx);
	certs_release(f.certs, WEB);
	assert_none(&f, WEB, CERTS_UNKNOWN);
	/* forgotten before its answer comes */
	need(&f, DB);
	certs_release(f.certs, DB);
	answer(&f.fake);
	assert_none(&f, DB, CERTS_UNKNOWN);
	/* and closed before */
	need(&f, DB);
	end(&f);
}

static void renewed_at_half_life(void **state)
{
	struct fixture f;
	SSL_CTX *was, *now;
	char serial[48];

	begin(&f);
	f.fake.hold = true;
	need(&f, WEB);
	answer(&f.fake);
	was = context(&f, WEB);
	text_copy(serial, sizeof(serial), view(&f).serial);
	assert_in_range(view(&f).renew_at, NOON + DAY * 9 / 20 - 1, NOON + DAY * 11 / 20 + 1);
	later(&f, DAY * 9 / 20 - 60);
	assert_int_equal(f.fake.asked, 1);
	later(&f, DAY / 10 + 120);
	assert_int_equal(f.fake.asked, 2);
	assert_string_equal(view(&f).state, "renewing");
	now = context(&f, WEB);
	assert_ptr_equal(was, now); /* until the new one is there */
	SSL_CTX_free(now);
	answer(&f.fake);
	now = context(&f, WEB);
	assert_ptr_not_equal(was, now);
	assert_string_not_equal(view(&f).serial, serial);
	SSL_CTX_free(now);
	SSL_CTX_free(was);
	end(&f);
}

static void renewals_are_spread(void **state)
{
	int64_t least = INT64_MAX, most = 0;
	struct fixture f;

	begin(&f);
	for (int i = 0; i < 24; i++) {
		need(&f, WEB);
		least = view(&f).renew_at < least ? view(&f).renew_at : least;
		most = view(&f).renew_at > most ? view(&f).renew_at : most;
		certs_release(f.certs, WEB);
	}
	assert_true(most - least > DAY / 50);
	end(&f);
}

static void failures_back_off(void **state)
{
	struct fixture f;
	unsigned asked;

	begin(&f);
	f.fake.error = "the CA is away";
	need(&f, WEB);
	assert_none(&f, WEB, CERTS_WAITING);
	assert_string_equal(view(&f).state, "failed");
	assert_string_equal(view(&f).problem, "the CA is away");
	/* 0.5, 1, 2 ... 128 seconds: within half an hour about 8 + 1800 / 150 */
	for (int i = 0; i < 1800; i++)
		later(&f, 1);
	assert_in_range(f.fake.asked, 16, 24);
	asked = f.fake.asked;
	/* the source says that it is back: at once */
	f.fake.error = NULL;
	f.fake.source.changed(&f.fake.source);
	turns(&f, false);
	assert_int_equal(f.fake.asked, asked + 1);
	assert_null(view(&f).problem);
	SSL_CTX_free(context(&f, WEB));
	/* a renewal that fails keeps what is good, until it ends */
	f.fake.error = "the CA is away";
	later(&f, DAY * 3 / 5);
	assert_string_equal(view(&f).state, "valid");
	assert_string_equal(view(&f).problem, "the CA is away");
	SSL_CTX_free(context(&f, WEB));
	later(&f, DAY * 2 / 5 + 1);
	assert_none(&f, WEB, CERTS_EXPIRED);
	assert_string_equal(view(&f).state, "failed");
	f.fake.error = NULL;
	later(&f, 200);
	SSL_CTX_free(context(&f, WEB));
	end(&f);
}

static void clock_that_goes_back(void **state)
{
	struct fixture f;
	unsigned asked;

	begin(&f);
	f.fake.error = "the CA is away";
	need(&f, WEB);
	asked = f.fake.asked;
	later(&f, -DAY / 2);
	assert_true(f.fake.asked > asked);
	f.fake.error = NULL;
	later(&f, DAY / 2);
	assert_string_equal(view(&f).state, "valid");
	/* by less than a life: no peer whose clock is right believes it before the hour at which it was made */
	asked = f.fake.asked;
	later(&f, -30);
	assert_int_equal(f.fake.asked, asked);
	later(&f, -HOUR);
	assert_int_equal(f.fake.asked, asked + 1);
	assert_true(view(&f).not_before <= pki_now);
	later(&f, 0);
	assert_int_equal(f.fake.asked, asked + 1);
	/* a source that cannot do it is not asked all the time, and what it gave stays for when the clock comes back */
	f.fake.error = "the CA is away";
	later(&f, -HOUR);
	later(&f, 0);
	assert_int_equal(f.fake.asked, asked + 2);
	assert_string_equal(view(&f).state, "valid");
	end(&f);
}

/* A source whose certificates somebody else renews. */
static void begin_files(struct fixture *f)
{
	begin_source(f);
	f->fake.source.renews = false;
	f->certs = certs_new(f->loop, &f->fake.source, TD, pki_clock);
	need(f, WEB);
}

/* Files are somebody else's to renew: they are not asked for anew. */
static void clock_that_goes_back_before_files(void **state)
{
	struct fixture f;

	begin_files(&f);
	later(&f, -HOUR);
	assert_int_equal(f.fake.asked, 1);
	end(&f);
}

static void bad_certificates_are_refused_by_name(void **state)
{
	struct fixture f;
	struct ca_pair stranger = pki_root("stranger");

	begin(&f);
	f.fake.uris = "URI:" DB;
	need(&f, WEB);
	assert_string_equal(view(&f).problem, "it is of " DB);
	f.fake.uris = "URI:" DB ",URI:" WEB; /* we would be DB to others */
	later(&f, 200);
	assert_string_equal(view(&f).problem, "it is of " DB);
	f.fake.uris = "DNS:web";
	later(&f, 200);
	assert_string_equal(view(&f).problem, "it is of nobody");
	f.fake.uris = NULL;
	f.fake.other_key = true;
	later(&f, 200);
	assert_string_equal(view(&f).problem, "its key does not fit its certificate");
	f.fake.other_key = false;
	f.fake.purposes = "clientAuth";
	later(&f, 200);
	assert_non_null(strstr(view(&f).problem, "serverAuth and clientAuth"));
	f.fake.purposes = NULL;
	f.fake.life = -10;
	later(&f, 200);
	assert_non_null(strstr(view(&f).problem, "it expired on"));
	f.fake.life = DAY;
	pki_free(&f.fake.ca);
	f.fake.ca = stranger;
	later(&f, 200);
	assert_non_null(strstr(view(&f).problem, "it does not verify"));
	assert_none(&f, WEB, CERTS_WAITING);
	end(&f);
}

/* What other people renew: used while it lasts, and they are told in time. */
static void source_that_does_not_renew(void **state)
{
	struct fixture f;

	begin_files(&f);
	assert_int_equal(view(&f).renew_at, 0);
	later(&f, DAY * 4 / 5);
	assert_int_equal(f.fake.asked, 1);
	assert_null(view(&f).problem);
	later(&f, DAY * 3 / 20);
	assert_non_null(strstr(view(&f).problem, "was not renewed: put a new one there"));
	SSL_CTX_free(context(&f, WEB));
	f.fake.source.leaves++;
	f.fake.source.changed(&f.fake.source);
	turns(&f, false);
	assert_int_equal(f.fake.asked, 2);
	assert_null(view(&f).problem);
	end(&f);
}

static void many_are_made_a_few_at_a_time(void **state)
{
	struct fixture f;
	char spiffe[CERTS_ID];

	begin(&f);
	f.fake.hold = true;
	for (int i = 0; i < 12; i++) {
		assert_true(spiffe_text(TD, "shop", (const char[]){(char)('a' + i), '\0'}, spiffe));
		certs_need(f.certs, spiffe);
	}
	certs_tick(f.certs);
	assert_int_equal(f.fake.asked, 4);
	certs_tick(f.certs);
	certs_tick(f.certs);
	assert_int_equal(f.fake.asked, 12);
	end(&f);
}

/* ------------------------------------------------------------------ roots and CRL */

static void no_roots_no_handshakes(void **state)
{
	struct fixture f;

	begin_source(&f);
	f.fake.root_count = 0;
	f.certs = certs_new(f.loop, &f.fake.source, TD, pki_clock);
	need(&f, WEB);
	assert_none(&f, WEB, CERTS_UNTRUSTED);
	f.fake.root_count = 1;
	f.fake.source.changed(&f.fake.source);
	turns(&f, false);
	SSL_CTX_free(context(&f, WEB));
	pki_now = NOON + 366 * DAY;
	assert_string_equal(certs_problem(f.certs), CERTS_ROOT_EXPIRED);
	end(&f);
}

static X509 *peer_of(struct fixture *f, const char *uris)
{
	struct ca_pair leaf = pki_leaf(&f->fake.ca, uris, "serverAuth,clientAuth", NOON - 60, NOON + DAY);

	EVP_PKEY_free(leaf.key);
	return leaf.cert;
}

static void set_crl(struct fixture *f, char *crl)
{
	free(f->fake.crl);
	f->fake.crl = crl;
	f->fake.source.changed(&f->fake.source);
	turns(f, false);
}

static void meet_once(struct fixture *f) /* so that intermediates are known */
{
	SSL_CTX *ctx = context(f, WEB);
	struct ends e;

	assert_true(ends_meet(&e, ctx, ctx));
	ends_free(&e);
	SSL_CTX_free(ctx);
}

static void live_peers_are_judged_again(void **state)
{
	struct ca_pair second = pki_root("second");
	struct fixture f;
	X509 *peer, *other;

	begin(&f);
	need(&f, WEB);
	peer = peer_of(&f, "URI:" DB);
	other = peer_of(&f, "URI:" DB);
	assert_string_equal(certs_still_good(f.certs, peer), CERTS_NO_ROOT); /* its intermediate was never seen */
	meet_once(&f);
	assert_null(certs_still_good(f.certs, peer));

	/* two roots, then the other one alone */
	f.fake.roots[1] = second.cert;
	f.fake.root_count = 2;
	f.fake.source.changed(&f.fake.source);
	assert_int_equal(f.trusts, 1);
	assert_null(certs_still_good(f.certs, peer));
	meet_once(&f);
	f.fake.roots[0] = second.cert;
	f.fake.root_count = 1;
	f.fake.source.changed(&f.fake.source);
	assert_int_equal(f.trusts, 2);
	assert_string_equal(certs_still_good(f.certs, peer), CERTS_NO_ROOT);
	f.fake.roots[0] = f.fake.root.cert;
	f.fake.source.changed(&f.fake.source);
	assert_null(certs_still_good(f.certs, peer));

	/* revoked */
	set_crl(&f, pki_crl(&f.fake.ca, (const X509 *[]){peer}, 1, NOON - HOUR, NOON + HOUR));
	assert_int_equal(f.trusts, 4);
	assert_string_equal(certs_still_good(f.certs, peer), CERTS_REVOKED);
	assert_null(certs_still_good(f.certs, other));
	/* a connection outlives its certificate, and a CRL that has expired ends none */
	pki_now = NOON + 2 * DAY;
	assert_null(certs_still_good(f.certs, other));
	assert_string_equal(certs_still_good(f.certs, peer), CERTS_REVOKED);
	/* the intermediate is revoked by the root: all below it */
	set_crl(&f, pki_crl(&f.fake.root, (const X509 *[]){f.fake.ca.cert}, 1, NOON - HOUR, NOON + 9 * DAY));
	assert_string_equal(certs_still_good(f.certs, other), CERTS_REVOKED);
	X509_free(peer);
	X509_free(other);
	pki_free(&second);
	end(&f);
}

static void crl_fails_closed(void **state)
{
	struct fixture f;
	char *first, *second, *both;

	begin(&f);
	need(&f, WEB);
	set_crl(&f, mem_string(""));
	assert_none(&f, WEB, CERTS_CRL_UNREADABLE);
	assert_string_equal(certs_problem(f.certs), CERTS_CRL_UNREADABLE);
	set_crl(&f, mem_string("-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n"));
	assert_none(&f, WEB, CERTS_CRL_UNREADABLE);
	set_crl(&f, pki_crl(&f.fake.ca, NULL, 0, NOON - 2 * HOUR, NOON - HOUR));
	assert_none(&f, WEB, CERTS_CRL_EXPIRED);
	set_crl(&f, pki_crl(&f.fake.ca, NULL, 0, NOON + HOUR, NOON + 2 * HOUR));
	assert_none(&f, WEB, CERTS_CRL_EXPIRED);
	/* one good, one expired */
	first = pki_crl(&f.fake.ca, NULL, 0, NOON - HOUR, NOON + HOUR);
	second = pki_crl(&f.fake.root, NULL, 0, NOON - HOUR, NOON - 1);
	both = mem_format("%s%s", first, second);
	free(second);
	set_crl(&f, both);
	assert_none(&f, WEB, CERTS_CRL_EXPIRED);
	set_crl(&f, first);
	meet_once(&f);
	/* it expires while contexts made with it are about */
	SSL_CTX *ctx = context(&f, WEB);
	struct ends e;

	pki_now = NOON + 2 * HOUR;
	assert_none(&f, WEB, CERTS_CRL_EXPIRED);
	assert_false(ends_meet(&e, ctx, ctx));
	assert_int_equal(SSL_get_verify_result(e.client), X509_V_ERR_CRL_HAS_EXPIRED);
	ends_free(&e);
	SSL_CTX_free(ctx);
	set_crl(&f, NULL); /* the file is gone: none is asked for */
	meet_once(&f);
	end(&f);
}

/* A CRL by somebody who has the name of our CA, but not its key, closes; one of a stranger does nothing. */
static void crl_of_others(void **state)
{
	struct ca_pair namesake = pki_ca("node", "P-256", NULL, NOON - DAY, NOON + DAY);
	struct ca_pair stranger = pki_root("stranger");
	struct fixture f;
	SSL_CTX *ctx;
	struct ends e;

	begin(&f);
	need(&f, WEB);
	set_crl(&f, pki_crl(&stranger, NULL, 0, NOON - HOUR, NOON + HOUR));
	meet_once(&f);
	set_crl(&f, pki_crl(&namesake, NULL, 0, NOON - HOUR, NOON + HOUR));
	ctx = context(&f, WEB);
	assert_false(ends_meet(&e, ctx, ctx));
	assert_int_equal(SSL_get_verify_result(e.client), X509_V_ERR_CRL_SIGNATURE_FAILURE);
	ends_free(&e);
	SSL_CTX_free(ctx);
	pki_free(&namesake);
	pki_free(&stranger);
	end(&f);
}

static void roots_that_cannot_be_read(void **state)
{
	struct fixture f;
	X509 *was;

	begin(&f);
	need(&f, WEB);
	was = f.fake.roots[0];
	f.fake.roots[0] = NULL;
	f.fake.source.roots = fake_crl; /* no PEM of a certificate */
	set_crl(&f, mem_string(""));
	assert_non_null(strstr(certs_problem(f.certs), "no root certificate"));
	assert_none(&f, WEB, CERTS_CRL_UNREADABLE); /* the CRL counts with the last good roots */
	f.fake.roots[0] = was;
	f.fake.source.roots = fake_roots;
	set_crl(&f, NULL);
	assert_null(certs_problem(f.certs));
	meet_once(&f);
	end(&f);
}

static void one_root(void *ctx, const struct root_view *v)
{
	assert_string_equal(v->subject, "CN=root");
	assert_int_equal(strlen(v->sha256), 64);
	++*(unsigned *)ctx;
}

static void roots_are_shown(void **state)
{
	struct fixture f;
	unsigned count = 0;

	begin(&f);
	certs_each_root(f.certs, one_root, &count);
	assert_int_equal(count, 1);
	assert_string_equal(certs_source(f.certs), "fake");
	assert_string_equal(certs_trust_domain(f.certs), TD);
	end(&f);
}

/* ------------------------------------------------------------------ over files, as in life */

static void over_files(struct fixture *f, struct dir *d, bool pem)
{
	*f = (struct fixture){.loop = loop_new()};
	pki_now = NOON;
	f->certs = certs_new(f->loop,
			     pem ? pem_source(f->loop, &d->folder) : ca_source(f->loop, &d->folder, TD, pki_clock),
			     TD, pki_clock);
	certs_on_trust(f->certs, trust_changed, f);
}

static void put_pair(struct dir *d, const struct ca_pair *by, const char *uri, EVP_PKEY *instead)
{
	struct ca_pair leaf = pki_leaf(by, uri, "serverAuth,clientAuth", NOON - HOUR, NOON + DAY);
	char *chain = x509_text(&leaf.cert, 1), *key = x509_key_text(instead ? instead : leaf.key);

	dir_put(d, "shop.web.pem", chain, 0644);
	dir_put(d, "shop.web.key", key, 0600);
	free(chain);
	x509_wipe(key);
	pki_free(&leaf);
}

static void again(struct fixture *f, struct dir *d)
{
	d->folder.changed(&d->folder);
	run_for(f, 60000000); /* until the folder has settled */
	turns(f, false);
}

static void pem_files_that_are_bad_leave_the_last_good_one(void **state)
{
	struct ca_pair root = pki_root("root"), stranger = pki_root("stranger");
	char *roots = x509_text(&root.cert, 1);
	struct fixture f;
	struct dir d;
	SSL_CTX *first, *now;

	dir_begin(&d);
	dir_put(&d, "roots.pem", roots, 0644);
	put_pair(&d, &root, "URI:" WEB, NULL);
	over_files(&f, &d, true);
	need(&f, WEB);
	first = context(&f, WEB);
	again(&f, &d); /* nothing is new: nothing is made */
	now = context(&f, WEB);
	assert_ptr_equal(now, first);
	SSL_CTX_free(now);
	put_pair(&d, &root, "URI:" WEB, stranger.key);
	again(&f, &d);
	assert_string_equal(view(&f).problem, "its key does not fit its certificate");
	put_pair(&d, &root, "URI:" DB, NULL);
	again(&f, &d);
	assert_string_equal(view(&f).problem, "it is of " DB);
	put_pair(&d, &stranger, "URI:" WEB, NULL);
	again(&f, &d);
	assert_non_null(strstr(view(&f).problem, "it does not verify"));
	now = context(&f, WEB);
	assert_ptr_equal(now, first);
	SSL_CTX_free(now);
	put_pair(&d, &root, "URI:" WEB, NULL);
	again(&f, &d);
	assert_null(view(&f).problem);
	now = context(&f, WEB);
	assert_ptr_not_equal(now, first);
	SSL_CTX_free(now);
	SSL_CTX_free(first);
	end(&f);
	free(roots);
	pki_free(&root);
	pki_free(&stranger);
	dir_end(&d);
}

static void embedded_ca_rotates(void **state)
{
	struct ca_pair second = pki_root("second");
	struct fixture f;
	struct dir d;
	char *first, *added, *both;
	SSL_CTX *was, *now;
	struct ends e;

	dir_begin(&d);
	over_files(&f, &d, false); /* makes a root */
	need(&f, WEB);
	was = context(&f, WEB);
	first = dir_read(&d, "root-cert.pem");
	added = x509_text(&second.cert, 1);
	both = mem_format("%s%s", first, added);
	dir_put(&d, "root-cert.pem", both, 0644);
	again(&f, &d);
	assert_int_equal(f.trusts, 1);
	dir_put_ca(&d, &second.cert, 1, &second, NULL, 0);
	dir_put(&d, "root-cert.pem", both, 0644);
	again(&f, &d);
	now = context(&f, WEB);
	/* one node has changed over, the other has not read its files yet, and believes the first root alone */
	assert_false(ends_meet(&e, was, now));
	ends_free(&e);
	assert_true(ends_meet(&e, now, now));
	ends_free(&e);
	SSL_CTX_free(was);
	SSL_CTX_free(now);
	end(&f);
	free(first);
	free(added);
	free(both);
	pki_free(&second);
	dir_end(&d);
}

/* ------------------------------------------------------------------ many threads */

#define READERS 4

struct reader {
	pthread_t thread;
	struct fixture *f;
	bool *stop;
	unsigned got, refused;
};

static void *read_contexts(void *arg)
{
	struct reader *r = arg;

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		const char *why = NULL;
		SSL_CTX *ctx = certs_client(r->f->certs, WEB, &why);

		if (ctx)
			r->got++;
		else if (why)
			r->refused++;
		SSL_CTX_free(ctx);
	}
	return NULL;
}

static void threads_take_while_it_changes(void **state)
{
	struct reader reader[READERS];
	struct fixture f;
	bool stopped = false;

	begin(&f);
	need(&f, WEB);
	for (int i = 0; i < READERS; i++) {
		reader[i] = (struct reader){.f = &f, .stop = &stopped};
		assert_int_equal(pthread_create(&reader[i].thread, NULL, read_contexts, &reader[i]), 0);
	}
	for (int i = 0; i < 10; i++) {
		if (i % 2)
			set_crl(&f, pki_crl(&f.fake.ca, NULL, 0, NOON - HOUR - i, NOON + HOUR));
		f.fake.source.leaves++;
		f.fake.source.changed(&f.fake.source);
		turns(&f, false);
		if (i % 4 == 0) {
			certs_release(f.certs, WEB);
			need(&f, WEB);
		}
	}
	__atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++) {
		pthread_join(reader[i].thread, NULL);
		assert_true(reader[i].got);
	}
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(needed_and_released),
		cmocka_unit_test(renewed_at_half_life),
		cmocka_unit_test(renewals_are_spread),
		cmocka_unit_test(failures_back_off),
		cmocka_unit_test(clock_that_goes_back),
		cmocka_unit_test(clock_that_goes_back_before_files),
		cmocka_unit_test(bad_certificates_are_refused_by_name),
		cmocka_unit_test(source_that_does_not_renew),
		cmocka_unit_test(many_are_made_a_few_at_a_time),
		cmocka_unit_test(no_roots_no_handshakes),
		cmocka_unit_test(live_peers_are_judged_again),
		cmocka_unit_test(crl_fails_closed),
		cmocka_unit_test(crl_of_others),
		cmocka_unit_test(roots_that_cannot_be_read),
		cmocka_unit_test(roots_are_shown),
		cmocka_unit_test(pem_files_that_are_bad_leave_the_last_good_one),
		cmocka_unit_test(embedded_ca_rotates),
		cmocka_unit_test(threads_take_while_it_changes),
	};

	log_open("test_certs", false, LOG_ERROR); /* what it warns of is what is tested */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
