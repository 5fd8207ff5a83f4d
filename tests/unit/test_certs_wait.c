/* SPDX-License-Identifier: Apache-2.0 */
/* A handshake's certificate: there, on its way, given up, not wanted any more. */
#include "fakesource.h"

struct got {
	struct certs_wait wait;
	unsigned answers;
	SSL_CTX *ctx;
	const char *why;
};

static void got(struct certs_wait *w, void *ctx, const char *why)
{
	struct got *g = container_of(w, struct got, wait);

	g->answers++;
	g->ctx = ctx;
	g->why = why;
}

static void ask(struct got *g, struct fixture *f, bool server)
{
	*g = (struct got){.wait = {.certs = f->certs, .spiffe = WEB, .server = server, .got = got}};
	certs_wait(&g->wait, f->loop);
}

static void until_answered(struct fixture *f, struct got *g)
{
	for (int i = 0; i < 1000 && !g->answers; i++)
		run_for(f, 10000000);
	assert_int_equal(g->answers, 1);
}

static void there_at_once(void **state)
{
	struct fixture f;
	struct got g;

	begin(&f);
	need(&f, WEB);
	for (int server = 0; server < 2; server++) {
		ask(&g, &f, server);
		assert_int_equal(g.answers, 1);
		assert_non_null(g.ctx);
		SSL_CTX_free(g.ctx);
		certs_wait_cancel(&g.wait);
	}
	end(&f);
}

static void comes_later(void **state)
{
	struct fixture f;
	struct got g;

	begin(&f);
	f.fake.hold = true;
	ask(&g, &f, true); /* of nobody yet: the pod is just coming */
	need(&f, WEB);
	assert_int_equal(g.answers, 0);
	answer(&f.fake);
	until_answered(&f, &g);
	assert_non_null(g.ctx);
	SSL_CTX_free(g.ctx);
	end(&f);
}

static void given_up_with_the_reason(void **state)
{
	struct fixture f;
	struct got g;

	begin(&f);
	f.fake.hold = true;
	need(&f, WEB);
	ask(&g, &f, false);
	assert_in_range(g.wait.until_ns, loop_now(f.loop) + 4000000000ull, loop_now(f.loop) + 6000000000ull);
	g.wait.until_ns = 0;
	until_answered(&f, &g);
	assert_null(g.ctx);
	assert_string_equal(g.why, CERTS_WAITING);
	end(&f);
}

static void not_wanted_any_more(void **state)
{
	struct fixture f;
	struct got g;

	begin(&f);
	ask(&g, &f, true);
	certs_wait_cancel(&g.wait);
	need(&f, WEB);
	run_for(&f, 50000000);
	assert_int_equal(g.answers, 0);
	g = (struct got){0};
	certs_wait_cancel(&g.wait); /* it was never begun */
	end(&f);
}

static void without_a_source(void **state)
{
	struct fixture f;
	struct got g;

	begin(&f);
	g = (struct got){.wait = {.spiffe = WEB, .got = got}};
	certs_wait(&g.wait, f.loop);
	assert_int_equal(g.answers, 1);
	assert_null(g.ctx);
	assert_string_equal(g.why, "no source of certificates");
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_at_once),
		cmocka_unit_test(comes_later),
		cmocka_unit_test(given_up_with_the_reason),
		cmocka_unit_test(not_wanted_any_more),
		cmocka_unit_test(without_a_source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
