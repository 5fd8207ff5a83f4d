/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels between two of our ends, in memory: answers, bytes, half closes, ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tunnels.h"

static struct scene s;

static bool first_opened(struct scene *x)
{
	return x->client.app[0].opened;
}

static bool first_failed(struct scene *x)
{
	return x->client.app[0].failed;
}

static bool both_closed(struct scene *x)
{
	return x->client.closed && x->server.closed;
}

/* Every app that there is has said and heard all. */
static bool all_done(struct scene *x)
{
	unsigned i;

	if (x->client.apps != x->server.apps)
		return false;
	for (i = 0; i < x->client.apps; i++)
		if (!x->client.app[i].ended || !x->server.app[i].ended)
			return false;
	return true;
}

static void answer_and_bytes(void **state)
{
	struct app *a;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	s.server.send = s.client.send = 100000;
	s.server.finish = s.client.finish = true;
	assert_int_equal(hbone_free(s.client.h), 100);
	a = scene_connect(&s, 1);
	assert_non_null(a);
	assert_int_equal(stream_room(a->s), 0); /* not before 200 */
	assert_true(scene_until(&s, first_opened));
	assert_string_equal(s.server.text[0], "10.0.0.1:1");
	assert_string_equal(s.server.text[1], "for=\"10.0.0.2:4711\"");
	assert_string_equal(s.server.text[2], "k8s.namespace.name=here");
	assert_string_equal(s.server.text[3], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
	assert_string_equal(a->baggage, "k8s.namespace.name=there");
	assert_int_equal(hbone_status(a->s), 200);
	assert_true(scene_until(&s, all_done));
	assert_int_equal(a->got, 100000);
	assert_int_equal(s.server.app[0].got, 100000);
	assert_true(a->last || s.server.app[0].last); /* the end comes in one read with bytes, at times */
	assert_int_equal(a->s->read_bytes, 100000);
	assert_int_equal(a->s->written_bytes, 100000);
	assert_int_equal(hbone_streams(s.client.h), 0);
	assert_int_equal(hbone_streams(s.server.h), 0);
	scene_end(&s);
	assert_null(s.client.why);
	assert_null(s.server.why);
}

static void refusals(void **state)
{
	static const int all[] = {400, 401, 403, 404, 503, 418};
	size_t i;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	for (i = 0; i < array_size(all); i++) {
		s.server.answer = all[i];
		s.client.apps = 0;
		assert_non_null(scene_connect(&s, 1));
		assert_true(scene_until(&s, first_failed));
		assert_non_null(s.client.app[0].why);
		assert_int_equal(hbone_streams(s.client.h), 0);
		scene_turns(&s);
		assert_int_equal(hbone_streams(s.server.h), 0);
	}
	assert_string_equal(s.client.app[0].why, "hbone: CONNECT was refused");
	assert_int_equal(s.server.apps, 0);
	scene_end(&s);
}

/* Bytes through a transport of every kind: they arrive, all, once, in order. */
static void bytes_of_any_size(void **state)
{
	static const struct {
		size_t capacity, slice;
		bool knows_room;
		unsigned tunnels;
		uint64_t bytes;
	} all[] = {
		{8 << 20, 0, false, 4, 3000000},
		{100000, 30000, false, 8, 400000},
		{100000, 30000, true, 8, 400000},
		{5000, 700, false, 3, 60000},
		{5000, 1500, true, 20, 20000},
		{40, 7, false, 2, 1500},
		{40, 7, true, 2, 1500},
		{1, 1, false, 1, 300},
	};
	size_t i;
	unsigned n;

	for (i = 0; i < array_size(all); i++) {
		scene_start(&s, all[i].capacity, all[i].slice, NULL, NULL);
		s.client.end->knows_room = s.server.end->knows_room = all[i].knows_room;
		s.server.send = s.client.send = all[i].bytes;
		s.server.finish = s.client.finish = true;
		for (n = 1; n <= all[i].tunnels; n++)
			assert_non_null(scene_connect(&s, n));
		if (!scene_until(&s, all_done))
			fail_msg("row %zu does not end", i);
		for (n = 0; n < all[i].tunnels; n++) {
			assert_int_equal(s.client.app[n].got, all[i].bytes);
			assert_int_equal(s.server.app[n].got, all[i].bytes);
		}
		scene_end(&s);
	}
}

static bool server_ended(struct scene *x)
{
	return x->server.apps && x->server.app[0].ended;
}

static bool client_ended(struct scene *x)
{
	return x->client.app[0].ended;
}

static bool client_got_all(struct scene *x)
{
	return x->client.app[0].got == 200000;
}

static void half_close_in_both_orders(void **state)
{
	struct app *c, *d;

	scene_start(&s, 1 << 20, 5000, NULL, NULL);
	s.client.send = 100000;
	s.client.finish = true;
	c = scene_connect(&s, 1);
	assert_true(scene_until(&s, server_ended));
	d = &s.server.app[0];
	assert_int_equal(d->got, 100000);
	assert_false(c->ended);
	d->send = 200000; /* the other direction stands */
	app_send(d);
	assert_true(scene_until(&s, client_got_all));
	assert_false(c->ended);
	stream_finish(d->s);
	assert_true(scene_until(&s, client_ended));

	s.client.apps = s.server.apps = 0;
	s.client.send = 0;
	s.client.finish = false;
	s.server.send = 200000;
	s.server.finish = true;
	app_close(c, NULL);
	app_close(d, NULL);
	c = scene_connect(&s, 1);
	assert_true(scene_until(&s, client_ended));
	assert_int_equal(c->got, 200000);
	c->send = 100000;
	c->finish = true;
	app_send(c);
	assert_true(scene_until(&s, server_ended));
	assert_int_equal(s.server.app[0].got, 100000);
	assert_false(c->failed);
	scene_end(&s);
}

static bool server_has_two(struct scene *x)
{
	return x->server.apps == 2;
}

static void closing_in_order_is_an_end(void **state)
{
	struct app *c, *d;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	c = scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	d = &s.server.app[0];
	app_close(c, NULL); /* END_STREAM, then RST_STREAM CANCEL */
	assert_true(scene_until(&s, server_ended));
	assert_false(d->failed);
	assert_int_equal(hbone_streams(s.client.h), 0);
	/* As with TCP: what is written to who has gone is taken, and tells that he has. */
	d->send = 10;
	app_send(d);
	scene_turns(&s);
	assert_true(d->failed);
	assert_string_equal(d->why, "hbone: the peer has closed the tunnel");
	assert_int_equal(hbone_streams(s.server.h), 0);

	s.client.apps = 0;
	c = scene_connect(&s, 2);
	assert_true(scene_until(&s, server_has_two));
	app_close(&s.server.app[1], NULL); /* END_STREAM, then RST_STREAM NO_ERROR */
	assert_true(scene_until(&s, client_ended));
	assert_false(c->failed);
	stream_finish(c->s);
	scene_turns(&s);
	assert_false(c->failed);
	scene_end(&s);
}

static bool second_failed(struct scene *x)
{
	return x->server.app[1].failed;
}

static void closing_with_a_reason_is_a_failure(void **state)
{
	scene_start(&s, 1 << 20, 0, NULL, NULL);
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	app_close(&s.server.app[0], "reset by peer");
	assert_true(scene_until(&s, first_failed));
	assert_string_equal(s.client.app[0].why, "hbone: reset by the peer");

	scene_connect(&s, 2);
	assert_true(scene_until(&s, server_has_two));
	app_close(&s.client.app[1], "reset by peer");
	scene_turns(&s);
	assert_true(second_failed(&s));
	assert_int_equal(hbone_streams(s.client.h), 0);
	assert_int_equal(hbone_streams(s.server.h), 0);
	scene_end(&s);
}

static bool server_asked(struct scene *x)
{
	return x->server.asked == 1;
}

static void answered_later(void **state)
{
	struct app *c;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	s.server.answer = 0;
	c = scene_connect(&s, 1);
	assert_true(scene_until(&s, server_asked));
	scene_turns(&s);
	assert_false(c->opened);
	assert_int_equal(stream_room(s.server.app[0].s), 0);
	hbone_accept(s.server.app[0].s, NULL);
	assert_true(scene_until(&s, first_opened));
	assert_string_equal(c->baggage, "");
	/* Who leaves before the answer takes the question back; who is closed unanswered is answered 503. */
	c = scene_connect(&s, 2);
	scene_turns(&s);
	app_close(c, "reset by peer");
	scene_turns(&s);
	assert_true(s.server.app[1].failed);
	c = scene_connect(&s, 3);
	scene_turns(&s);
	app_close(&s.server.app[2], "connection refused");
	scene_turns(&s);
	assert_true(c->failed);
	assert_string_equal(c->why, "hbone: destination unavailable (503)");
	scene_end(&s);
}

/* Of a connection that drains: what stands on it goes on to its end, and then it is over, in order. */
static void stands_and_ends(void)
{
	s.client.app[0].send = s.server.app[0].send = 100000;
	s.client.app[0].finish = s.server.app[0].finish = true;
	app_send(&s.client.app[0]);
	app_send(&s.server.app[0]);
	assert_true(scene_until(&s, all_done));
	assert_true(scene_until(&s, both_closed));
	assert_null(s.client.why);
	assert_null(s.server.why);
	scene_end(&s);
}

/* A program that connects and resets, again and again: the server's limit for that is not met by what stands. */
static void taken_back_again_and_again(void **state)
{
	unsigned begun = 0;
	struct app *c;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	s.server.answer = 0;
	while ((c = scene_connect(&s, 2))) {
		assert_true(++begun < 1000);
		scene_turns(&s);
		assert_false(c->failed);
		app_close(c, "reset by peer");
		scene_turns(&s);
		s.client.apps = s.server.apps = 1;
	}
	assert_true(begun > 200);
	assert_int_equal(s.client.draining, 1);
	assert_int_equal(s.client.closed + s.server.closed, 0);
	stands_and_ends();
}

/* What a peer answers to us is no flood of his, whatever it is. */
static void refused_again_and_again(void **state)
{
	struct app *c;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	s.server.answer = 503;
	for (int i = 0; i < 2000; i++) {
		c = scene_connect(&s, 2);
		assert_non_null(c);
		scene_turns(&s);
		assert_string_equal(c->why, "hbone: destination unavailable (503)");
		s.client.apps = 1;
	}
	assert_int_equal(s.client.draining + s.client.closed + s.server.closed, 0);
	scene_end(&s);
}

static unsigned glances;

/* Looks, and takes nothing. */
static void glance(struct stream *b, unsigned events)
{
	struct stream_bytes run[STREAM_RUNS];

	glances += !!(events & STREAM_READABLE);
	if (stream_peek(b, run, 1000))
		stream_consume(b, 0);
}

/* Who has looked at the first bytes, which did not tell him enough, hears of those that follow. */
static void looked_at(void **state)
{
	struct stream_bytes run[STREAM_RUNS];
	struct app *c;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	s.server.sleeping = true;
	c = scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	s.server.app[0].s->ready = glance;
	glance(s.server.app[0].s, 0);
	for (unsigned i = 1; i <= 3; i++) {
		c->send += 10;
		app_send(c);
		scene_turns(&s);
		assert_int_equal(glances, i);
		assert_int_equal(stream_peek(s.server.app[0].s, run, 1000), 1);
		assert_int_equal(run[0].len, 10 * i);
		stream_consume(s.server.app[0].s, 0);
	}
	s.server.app[0].s->ready = app_ready;
	scene_end(&s);
}

/* Readers that sleep cost a window each and stall nobody. */
static void sleeping_readers(void **state)
{
	unsigned i;

	scene_start(&s, 256 * 1024, 0, NULL, NULL);
	s.client.send = 400000;
	s.client.finish = s.server.finish = true;
	s.server.sleeping = true;
	for (i = 1; i <= 60; i++)
		assert_non_null(scene_connect(&s, i));
	for (i = 0; i < 20; i++)
		scene_turns(&s);
	for (i = 0; i < 60; i++)
		assert_int_equal(s.client.app[i].sent, 65535);
	assert_true(s.thread.pool.lent <= 60 * 5 + 20); /* their windows, and what the transport holds */
	s.server.sleeping = false;
	scene_connect(&s, 61);
	for (i = 0; i < 1000 && !s.server.app[60].ended; i++)
		scene_turns(&s);
	assert_int_equal(s.server.app[60].got, 400000);
	assert_int_equal(s.server.app[0].got, 0);
	for (i = 0; i < 60; i++) { /* and awake they get it all */
		s.server.app[i].sleeping = false;
		app_read(&s.server.app[i]);
	}
	assert_true(scene_until(&s, all_done));
	scene_end(&s);
}

/* A reader who keeps up gets a larger window; one who stops afterwards costs at most that. */
static void windows_grow(void **state)
{
	struct hbone_stream_view view;
	unsigned i;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	s.client.send = 1ull << 40;
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	for (i = 0; i < 10000 && s.server.app[0].got < 6000000; i++)
		scene_turns(&s);
	s.server.app[0].sleeping = true;
	for (i = 0; i < 50; i++)
		scene_turns(&s);
	hbone_stream_look(s.server.app[0].s, &view);
	assert_string_equal(view.waits, "reader");
	assert_in_range(s.client.app[0].sent - s.server.app[0].got, 3 << 19, 4 << 20); /* told of half at a time */
	hbone_stream_look(s.client.app[0].s, &view);
	assert_string_equal(view.waits, "window of the peer");
	assert_int_equal(view.send_window, 0);
	scene_end(&s);
}

/* What was sent whole and is not read yet counts as well: streams that are over do not make room for the next ones. */
static void windows_of_what_is_unread(void **state)
{
	unsigned i, n;

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	s.client.send = 6000000;
	s.server.finish = true;
	for (n = 0; n < 5; n++) {
		struct app *a;

		assert_non_null(scene_connect(&s, n + 1));
		for (i = 0; i < 10000 && (s.server.apps <= n || s.server.app[n].got < s.client.send); i++)
			scene_turns(&s);
		assert_int_equal(s.server.app[n].got, s.client.send);
		s.server.app[n].sleeping = true;
		a = &s.client.app[n];
		a->send += 1400000;
		a->finish = true;
		app_send(a);
		for (i = 0; i < 50; i++)
			scene_turns(&s);
	}
	assert_true(s.thread.pool.lent * BUF_CHUNK <= (4 << 20) + 5 * (65536 + 5 * BUF_CHUNK));
	for (n = 0; n < 5; n++) {
		s.server.app[n].sleeping = false;
		app_read(&s.server.app[n]);
	}
	assert_true(scene_until(&s, all_done));
	scene_end(&s);
}

static void drains(void **state)
{
	scene_start(&s, 1 << 20, 0, NULL, NULL);
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	hbone_drain(s.server.h);
	scene_turns(&s);
	assert_int_equal(s.client.draining, 1);
	assert_int_equal(s.server.draining, 1);
	assert_int_equal(hbone_free(s.client.h), 0);
	assert_null(scene_connect(&s, 2));
	assert_false(s.client.app[0].failed);
	assert_int_equal(s.client.app[0].drained, 1); /* who has a stream hears of it, if he did not begin it */
	assert_true(s.client.app[0].s->draining);
	assert_int_equal(s.server.app[0].drained, 0);
	stands_and_ends();

	scene_start(&s, 1 << 20, 0, NULL, NULL);
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	hbone_drain(s.client.h);
	scene_turns(&s);
	assert_int_equal(s.server.draining, 1);
	assert_int_equal(s.client.draining, 1);
	assert_int_equal(s.client.closed, 0);
	stream_finish(s.client.app[0].s);
	stream_finish(s.server.app[0].s);
	assert_true(scene_until(&s, both_closed));
	assert_null(s.client.why);
	assert_null(s.server.why);
	scene_end(&s);
}

static void closed_with_tunnels(void **state)
{
	scene_start(&s, 1 << 20, 0, NULL, NULL);
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	hbone_close(s.server.h, "identity was revoked");
	assert_true(scene_until(&s, both_closed));
	assert_string_equal(s.server.why, "identity was revoked");
	assert_string_equal(s.server.app[0].why, "identity was revoked");
	assert_true(s.client.app[0].failed);
	scene_end(&s);
}

static void transport_breaks(void **state)
{
	scene_start(&s, 1 << 20, 0, NULL, NULL);
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	scene_connect(&s, 2);
	pair_break(s.client.end);
	assert_true(scene_until(&s, both_closed));
	assert_string_equal(s.client.why, "reset by peer");
	assert_string_equal(s.client.app[0].why, "reset by peer");
	assert_string_equal(s.client.app[1].why, "reset by peer");
	assert_true(s.server.app[0].failed);
	scene_end(&s);
}

/* Both ended, then the connection goes: who has not read yet still may. */
static void what_waits_outlives_the_connection(void **state)
{
	scene_start(&s, 1 << 20, 0, NULL, NULL);
	s.client.send = 50000;
	s.client.finish = s.server.finish = true;
	s.server.sleeping = true;
	scene_connect(&s, 1);
	assert_true(scene_until(&s, first_opened));
	scene_turns(&s);
	assert_int_equal(hbone_streams(s.server.h), 0);
	hbone_close(s.server.h, "because");
	assert_true(scene_until(&s, both_closed));
	assert_false(s.server.app[0].failed);
	s.server.app[0].sleeping = false;
	app_read(&s.server.app[0]);
	assert_int_equal(s.server.app[0].got, 50000);
	assert_true(s.server.app[0].ended);
	scene_end(&s);
}

static bool rtt_known(struct scene *x)
{
	struct hbone_view view = {0};

	if (x->client.h)
		hbone_look(x->client.h, &view);
	return view.ping_rtt_ns && view.opened == 1;
}

static void times(void **state)
{
	const struct hbone_limits client = {.answer_ns = 40000000, .idle_ns = 150000000, .ping_ns = 5000000};
	uint64_t start;

	scene_start(&s, 1 << 20, 0, &client, NULL);
	start = clock_ns();
	s.server.answer = 0;
	scene_connect(&s, 1);
	assert_true(scene_until(&s, rtt_known));
	assert_true(scene_until(&s, first_failed)); /* nobody answers */
	assert_true(clock_ns() - start >= client.answer_ns);
	assert_string_equal(s.client.app[0].why, "hbone: no answer to CONNECT in time");
	scene_turns(&s);
	assert_true(s.server.app[0].failed);
	assert_true(scene_until(&s, both_closed)); /* nobody asks any more */
	assert_true(clock_ns() - start >= client.answer_ns + client.idle_ns);
	assert_null(s.client.why);
	assert_null(s.server.why);
	scene_end(&s);
}

/* One app does something of its own accord. */
static void meddle(struct side *side, uint64_t *random)
{
	struct app *a;

	if (!side->apps)
		return;
	a = &side->app[pair_random(random) % side->apps];
	if (!a->s)
		return;
	switch (pair_random(random) % 12) {
	case 0:
		app_close(a, NULL);
		break;
	case 1:
		app_close(a, "reset by peer");
		break;
	case 2:
		if (!a->s->finished && a->opened)
			stream_finish(a->s);
		break;
	case 3 ... 6:
		a->sleeping = !a->sleeping;
		app_read(a);
		break;
	default:
		if (!a->s->finished) {
			a->send += pair_random(random) % 100000;
			app_send(a);
		}
		break;
	}
}

/* Whatever the owners of both ends do: bytes are right as far as they come, it ends, nothing is left. */
static void owners_of_every_mind(void **state)
{
	static const int answers[] = {200, 200, 200, 200, 503, 0};
	static const size_t sizes[] = {60, 3000, 70000, 1 << 20};
	uint64_t random, seed;
	unsigned i, number;

	for (seed = 1; seed <= 30; seed++) {
		const struct hbone_limits limit = {.streams = 12};

		random = seed;
		number = 0;
		scene_start(&s, sizes[seed % 4], seed % 3 ? 5000 : 0, NULL, &limit);
		s.client.end->knows_room = s.server.end->knows_room = seed & 1;
		for (i = 0; i < 120 && s.client.h && s.server.h; i++) {
			s.server.answer = answers[pair_random(&random) % array_size(answers)];
			s.server.send = pair_random(&random) % 3 ? 0 : 200000;
			s.client.sleeping = s.server.sleeping = pair_random(&random) % 4 == 0;
			if (pair_random(&random) % 4 == 0)
				scene_connect(&s, ++number);
			meddle(&s.client, &random);
			meddle(&s.server, &random);
			if (pair_random(&random) % 2)
				scene_turns(&s);
			if (seed % 5 == 0 && i == 100)
				hbone_drain(seed % 2 ? s.client.h : s.server.h);
			if (seed % 7 == 0 && i == 110)
				pair_break(seed % 2 ? s.client.end : s.server.end);
		}
		assert_true(number > 10);
		scene_end(&s);
		assert_int_equal(s.client.closed, 1);
		assert_int_equal(s.server.closed, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answer_and_bytes),
		cmocka_unit_test(refusals),
		cmocka_unit_test(bytes_of_any_size),
		cmocka_unit_test(half_close_in_both_orders),
		cmocka_unit_test(closing_in_order_is_an_end),
		cmocka_unit_test(closing_with_a_reason_is_a_failure),
		cmocka_unit_test(answered_later),
		cmocka_unit_test(taken_back_again_and_again),
		cmocka_unit_test(refused_again_and_again),
		cmocka_unit_test(looked_at),
		cmocka_unit_test(sleeping_readers),
		cmocka_unit_test(windows_grow),
		cmocka_unit_test(windows_of_what_is_unread),
		cmocka_unit_test(drains),
		cmocka_unit_test(closed_with_tunnels),
		cmocka_unit_test(transport_breaks),
		cmocka_unit_test(what_waits_outlives_the_connection),
		cmocka_unit_test(times),
		cmocka_unit_test(owners_of_every_mind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
