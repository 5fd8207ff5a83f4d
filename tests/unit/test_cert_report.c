/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of certificates: the answers of the admin socket, and what makes the worker not ready. */
#include <jansson.h>

#include "fakesource.h"
#include "report.h"

struct told {
	struct fixture f;
	struct report report;
};

static void start(struct told *t)
{
	begin(&t->f);
	t->report = (struct report){.certs = t->f.certs};
}

/* The JSON of an answer. */
static json_t *said(struct answer *a)
{
	struct text text = {0};
	json_error_t error;
	json_t *ret;

	while (a->more(a, &text) > 0)
		;
	if (a->end)
		a->end(a);
	else
		free(a);
	ret = json_loads(text.data, 0, &error);
	if (!ret)
		fail_msg("%s: %s", error.text, text.data);
	text_free(&text);
	return ret;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void certificates_and_roots(void **state)
{
	struct told t;
	json_t *answer, *one;

	start(&t);
	need(&t.f, WEB);
	need(&t.f, DB);
	answer = said(cert_report(&t.report, NULL));
	assert_string_equal(text_of(answer, "source"), "fake");
	assert_string_equal(text_of(answer, "problem"), "");
	assert_string_equal(text_of(answer, "crl"), "none");
	assert_int_equal(json_array_size(json_object_get(answer, "identities")), 2);
	one = json_array_get(json_object_get(answer, "identities"), 1); /* in order of name */
	assert_string_equal(text_of(one, "identity"), "cluster.local/ns/shop/sa/web");
	assert_string_equal(text_of(one, "state"), "valid");
	assert_string_equal(text_of(one, "not_after"), "2027-01-16T08:00:00Z");
	assert_int_equal(strlen(text_of(one, "serial")), 32);
	assert_int_equal(json_integer_value(json_object_get(one, "pods")), 1);
	one = json_array_get(json_object_get(answer, "roots"), 0);
	assert_string_equal(text_of(one, "subject"), "CN=root");
	json_decref(answer);
	answer = cert_report_status(&t.report);
	assert_int_equal(json_integer_value(json_object_get(answer, "valid")), 2);
	json_decref(answer);
	end(&t.f);
}

static void before_there_is_anything(void **state)
{
	struct report none = {0};
	json_t *answer = said(cert_report(&none, NULL));

	assert_non_null(strstr(text_of(answer, "error"), "is starting"));
	json_decref(answer);
	answer = cert_report_status(&none);
	assert_true(json_is_null(answer));
	json_decref(answer);
}

struct problems {
	unsigned errors, warnings;
	struct problem last;
};

static void count(void *ctx, const struct problem *p)
{
	struct problems *all = ctx;

	++*(p->warning ? &all->warnings : &all->errors);
	all->last = *p;
}

static void problems_of(struct told *t, struct problems *ret)
{
	*ret = (struct problems){0};
	cert_report_problems(&t->report, count, ret);
}

static void told_count(void *ctx)
{
	++*(unsigned *)ctx;
}

static void what_is_wrong(void **state)
{
	struct problems p;
	struct told t;
	unsigned told = 0, was;

	start(&t);
	certs_on_change(t.f.certs, told_count, &told);
	problems_of(&t, &p);
	assert_int_equal(p.errors + p.warnings, 0);
	/* one identity: its tunnels fail, the others do not */
	t.f.fake.error = "shop.web.key is missing";
	need(&t.f, WEB);
	assert_int_equal(told, 1);
	problems_of(&t, &p);
	assert_int_equal(p.warnings, 1);
	assert_int_equal(p.errors, 0);
	assert_string_equal(p.last.object, "certificate of " WEB);
	assert_string_equal(p.last.reason, "shop.web.key is missing");
	/* the source */
	t.f.fake.source.problem = "ca-key.pem is missing";
	t.f.fake.source.changed(&t.f.fake.source);
	assert_int_equal(told, 2);
	problems_of(&t, &p);
	assert_int_equal(p.errors, 1);
	assert_string_equal(p.last.object, "fake");
	t.f.fake.source.problem = NULL;
	t.f.fake.error = NULL;
	t.f.fake.source.changed(&t.f.fake.source);
	turns(&t.f, false);
	problems_of(&t, &p);
	assert_int_equal(p.errors + p.warnings, 0);
	/* time alone */
	t.f.fake.crl = pki_crl(&t.f.fake.ca, NULL, 0, NOON - HOUR, NOON + HOUR);
	t.f.fake.source.changed(&t.f.fake.source);
	turns(&t.f, true);
	was = told;
	later(&t.f, HOUR);
	assert_true(told > was);
	problems_of(&t, &p);
	assert_string_equal(p.last.reason, CERTS_CRL_EXPIRED);
	end(&t.f);
}

static json_t *issue(struct told *t, const char *request)
{
	json_t *r = json_loads(request, 0, NULL), *answer = said(cert_report_issue(&t->report, r));

	json_decref(r);
	return answer;
}

static void certificates_for_others(void **state)
{
	struct told t;
	char why[WHY] = "", id[CERTS_ID];
	STACK_OF(X509) * chain;
	EVP_PKEY *key;
	json_t *answer;

	start(&t);
	answer = issue(&t, "{\"namespace\": \"shop\", \"service_account\": \"envoy\"}");
	assert_non_null(strstr(text_of(answer, "error"), "weft has no CA here"));
	json_decref(answer);
	t.f.fake.source.issues = true;
	answer = issue(&t, "{\"namespace\": \"shop\", \"service_account\": \"envoy\"}");
	assert_string_equal(text_of(answer, "identity"), "cluster.local/ns/shop/sa/envoy");
	chain = x509_read(text_of(answer, "chain"), "chain", why);
	assert_int_equal(certs_peer(sk_X509_value(chain, 0), id), 0);
	assert_string_equal(id, "spiffe://cluster.local/ns/shop/sa/envoy");
	key = x509_key(text_of(answer, "key"), "key", why);
	assert_true(x509_fits(sk_X509_value(chain, 0), key));
	EVP_PKEY_free(key);
	x509_free(chain);
	assert_non_null(strstr(text_of(answer, "roots"), "BEGIN CERTIFICATE"));
	json_decref(answer);
	for (size_t i = 0; i < 4; i++) {
		static const char *const bad[] = {"{}", "{\"namespace\": 1, \"service_account\": \"a\"}",
						  "{\"namespace\": \"a/b\", \"service_account\": \"c\"}",
						  "{\"namespace\": \"a\", \"service_account\": \"\"}"};

		answer = issue(&t, bad[i]);
		assert_non_null(strstr(text_of(answer, "error"), "issue needs"));
		json_decref(answer);
	}
	t.f.fake.error = "the CA is away";
	answer = issue(&t, "{\"namespace\": \"shop\", \"service_account\": \"envoy\"}");
	assert_string_equal(text_of(answer, "error"), "no certificate: the CA is away");
	json_decref(answer);
	end(&t.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(certificates_and_roots),
		cmocka_unit_test(before_there_is_anything),
		cmocka_unit_test(what_is_wrong),
		cmocka_unit_test(certificates_for_others),
	};

	log_open("test_cert_report", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
