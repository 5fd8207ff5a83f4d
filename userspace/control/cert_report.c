/* SPDX-License-Identifier: Apache-2.0 */
/* cert_report.c: certificates of this node's identities, roots, and what is wrong with them: see report.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "certs.h"
#include "report.h"

/* RFC 3339; "" for none */
static json_t *date(int64_t seconds)
{
	time_t t = (time_t)seconds;
	char text[32] = "";
	struct tm tm;

	if (seconds && (!gmtime_r(&t, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm)))
		text[0] = '\0';
	return json_string(text);
}

/* "cluster.local/ns/shop/sa/web", as everywhere */
static json_t *principal(const char *spiffe)
{
	static const char scheme[] = "spiffe://";

	return answer_text(text_starts(spiffe, scheme) ? spiffe + sizeof(scheme) - 1 : spiffe);
}

static void add_identity(void *ctx, const struct cert_view *v)
{
	json_t *j = json_pack("{s:o, s:s, s:s, s:o, s:o, s:o, s:i, s:o}", "identity", principal(v->spiffe), "state",
			      v->state, "serial", v->serial, "not_before", date(v->not_before), "not_after",
			      date(v->not_after), "renew_at", date(v->renew_at), "pods", (int)v->pods, "problem",
			      answer_text(v->problem ? v->problem : ""));

	if (json_array_append_new(ctx, j))
		abort();
}

static void add_root(void *ctx, const struct root_view *v)
{
	json_t *j = json_pack("{s:o, s:s, s:o, s:o}", "subject", answer_text(v->subject), "sha256", v->sha256,
			      "not_before", date(v->not_before), "not_after", date(v->not_after));

	if (json_array_append_new(ctx, j))
		abort();
}

struct answer *cert_report(struct report *r, const json_t *request)
{
	json_t *identities, *roots;
	const char *problem;

	if (!r->certs)
		return answer_error("the worker is starting: it has no source of certificates yet");
	identities = json_array();
	roots = json_array();
	problem = certs_problem(r->certs);
	certs_each(r->certs, add_identity, identities);
	certs_each_root(r->certs, add_root, roots);
	return answer_json(json_pack("{s:o, s:s, s:o, s:s, s:o, s:o}", "source", answer_text(certs_source(r->certs)),
				     "trust_domain", certs_trust_domain(r->certs), "problem",
				     answer_text(problem ? problem : ""), "crl", certs_crl(r->certs), "identities",
				     identities, "roots", roots));
}

struct answer *cert_report_issue(struct report *r, const json_t *request)
{
	const char *namespace = json_string_value(json_object_get(request, "namespace"));
	const char *account = json_string_value(json_object_get(request, "service_account"));
	char spiffe[CERTS_ID], why[256] = "", *roots = NULL;
	struct answer *answer;
	struct cert *c;

	if (!r->certs)
		return answer_error("the worker is starting: it has no source of certificates yet");
	if (!namespace || !account ||
	    !spiffe_text(certs_trust_domain(r->certs), namespace, account, spiffe))
		return answer_error("issue needs a \"namespace\" and a \"service_account\"");
	c = certs_issue(r->certs, spiffe, &roots, why);
	if (!c)
		return answer_error("no certificate: %s", why);
	answer = answer_json(json_pack("{s:o, s:o, s:o, s:o}", "identity", principal(spiffe), "chain",
				       answer_text(c->chain), "key", answer_text(c->key), "roots",
				       answer_text(roots ? roots : "")));
	cert_free(c);
	free(roots);
	return answer;
}

/* ------------------------------------------------------------------ problems */

struct complaint {
	void (*each)(void *ctx, const struct problem *p);
	void *ctx;
};

static void complain(void *ctx, const struct cert_view *v)
{
	const struct complaint *c = ctx;
	struct problem p = {.warning = true};

	if (!v->problem)
		return;
	(void)snprintf(p.object, sizeof(p.object), "certificate of %.280s", v->spiffe);
	text_copy(p.reason, sizeof(p.reason), v->problem);
	c->each(c->ctx, &p);
}

void cert_report_problems(const struct report *r, void (*each)(void *ctx, const struct problem *p), void *ctx)
{
	struct complaint c = {.each = each, .ctx = ctx};
	const char *problem = r->certs ? certs_problem(r->certs) : NULL;
	struct problem p = {0};

	if (!r->certs)
		return;
	if (!problem) {
		certs_each(r->certs, complain, &c);
		return;
	}
	text_copy(p.object, sizeof(p.object), certs_source(r->certs));
	text_copy(p.reason, sizeof(p.reason), problem);
	each(ctx, &p);
}

json_t *cert_report_status(const struct report *r)
{
	const char *problem;
	json_t *identities, *roots, *ret;
	size_t i, good = 0;
	json_t *one;

	if (!r->certs)
		return json_null();
	identities = json_array();
	roots = json_array();
	problem = certs_problem(r->certs);
	certs_each(r->certs, add_identity, identities);
	certs_each_root(r->certs, add_root, roots);
	json_array_foreach(identities, i, one)
	{
		const char *state = json_string_value(json_object_get(one, "state"));

		good += text_equal(state, "valid") || text_equal(state, "renewing");
	}
	ret = json_pack("{s:o, s:o, s:s, s:i, s:i, s:i}", "source", answer_text(certs_source(r->certs)), "problem",
			answer_text(problem ? problem : ""), "crl", certs_crl(r->certs), "identities",
			(int)json_array_size(identities), "valid", (int)good, "roots", (int)json_array_size(roots));
	json_decref(identities);
	json_decref(roots);
	return ret;
}
