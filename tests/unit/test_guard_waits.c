// SPDX-License-Identifier: Apache-2.0
/* Requests that were judged and wait for the app's connection: each is answered, whatever becomes of that. */
#include "guards.h"

#include "pair.h"

#define GET "GET /a HTTP/1.1\r\nHost: web.example\r\n\r\n"

static struct far client2, app2;
static struct raw client, app;

/* An app that does not speak HTTP/2, and closes: of three requests it could have had one. */
static void test_app_without_http2(void **state)
{
	struct talk *t[3];
	int fd[2];

	guard(fd);
	app = raw_of(fd[1]);
	far_begin(&client2, fd[0], false, true);
	t[0] = far_ask(&client2, HTTP_GET, "GET", "/a", NULL, NULL);
	UNTIL(client2.c->settled);
	for (int i = 1; i < 3; i++)
		t[i] = far_ask(&client2, HTTP_GET, "GET", "/a", NULL, NULL);
	HEARS(&app, "PRI * HTTP/2.0\r\n\r\n");
	rest();
	raw_say(&app, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
	close(app.fd);
	app.fd = -1;
	for (int i = 0; i < 3; i++) {
		UNTIL(t[i]->ended || t[i]->failed);
		assert_true(t[i]->failed || t[i]->status == 502);
	}
	UNTIL(!site.relay_count);
	raw_close(&app);
	far_end(&client2);
}

/* The same where it goes away, or says that it takes no more while the one that it has goes on. */
static void test_app_drains(void **state)
{
	for (int goes = 0; goes < 2; goes++) {
		struct talk *t[3];
		int fd[2];

		guard(fd);
		far_begin(&app2, fd[1], true, true);
		far_begin(&client2, fd[0], false, true);
		t[0] = far_ask(&client2, HTTP_GET, "GET", "/a", NULL, NULL);
		UNTIL(app2.talks == 1);
		for (unsigned i = 1; i < 100; i++)
			(void)far_ask(&client2, HTTP_GET, "GET", "/a", NULL, NULL);
		UNTIL(app2.talks == 100);
		if (goes)
			app2.c->ops->close(app2.c, NULL);
		else
			app2.c->ops->drain(app2.c);
		UNTIL(client2.draining);
		if (!goes)
			for (unsigned i = 0; i < 100; i++)
				talk_answer(&app2.talk[i], 200, "a");
		for (unsigned i = 0; i < 100; i++)
			UNTIL(client2.talk[i].ended || client2.talk[i].failed);
		assert_true(goes || t[0]->status == 200);
		far_end(&client2);
		far_end(&app2);
		UNTIL(!site.relay_count);
	}
}

/*
 * HTTP/1: the app has answered before the request was complete, and takes no other one. What follows the request, in
 * one piece with its end, is read before the app's connection is over.
 */
static void test_app_closes_behind_an_early_answer(void **state)
{
	int fd[2];

	site_policy("ALLOW", "{to: [{operation: {paths: [/a]}}]}");
	guard(fd);
	client = raw_of(fd[0]);
	app = raw_of(fd[1]);
	raw_say(&client, "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\n01234");
	HEARS(&app, "01234");
	raw_say(&app, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig");
	HEARS(&client, "\r\n\r\nbig");
	raw_say(&client, "56789" GET);
	HEARS(&app, "56789");
	UNTIL((raw_hear(&app), app.ended || app.reset));
	UNTIL((raw_hear(&client), client.ended || client.reset || strstr(client.text, "HTTP/1.1 502")));
	raw_close(&client);
	raw_close(&app);
	UNTIL(!site.relay_count);
}

/* The client's pod leaves the node's care: so does what it had. */
static void test_client_pod_leaves(void **state)
{
	int fd[2];

	guard(fd);
	client = raw_of(fd[0]);
	app = raw_of(fd[1]);
	raw_say(&client, GET);
	HEARS(&app, "GET /a ");
	guards_end(&site, CLIENT, ABI_POD_GONE, NULL);
	assert_int_equal(site.relay_count, 0);
	UNTIL(raw_over(&client) && raw_over(&app));
	assert_true(client.reset && app.reset);
	raw_close(&client);
	raw_close(&app);
	rest();
}

/* Of a tunnel: what was looked at stays where it is, and more comes behind it. */
static void test_first_bytes_of_a_tunnel(void **state)
{
	const struct guard_plan plan = {.kind = RELAY_HBONE,
					.netns = POD,
					.to = POD,
					.spiffe = SPIFFE,
					.client = scene_addr("10.1.0.1"),
					.server = scene_addr("10.1.0.2"),
					.server_port = 80};
	struct pair_end *tunnel[2];
	int far[2];

	pair_make(thread, tunnel, 1 << 20, 0, 1);
	pair(far);
	guard_begin(&site, &tunnel[0]->s, sock_stream(thread, far[0]), &plan);
	app = raw_of(far[1]);
	for (size_t i = 0; i < sizeof(GET) - 1; i++) {
		struct stream_bytes one = {.data = (uint8_t *)GET + i, .len = 1};

		rest();
		assert_int_equal(stream_write(&tunnel[1]->s, &one, 1), 1);
	}
	HEARS(&app, "GET /a ");
	stream_close(&tunnel[1]->s, "reset by peer");
	UNTIL(!site.relay_count);
	raw_close(&app);
	rest();
}

static int each_setup(void **state)
{
	return guards_setup("{to: [{operation: {methods: [GET], paths: [/a]}}]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_app_without_http2),
		SITE_TEST(test_app_drains),
		SITE_TEST(test_app_closes_behind_an_early_answer),
		SITE_TEST(test_client_pod_leaves),
		SITE_TEST(test_first_bytes_of_a_tunnel),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
