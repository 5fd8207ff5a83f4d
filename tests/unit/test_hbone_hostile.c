/* SPDX-License-Identifier: Apache-2.0 */
/* A peer that writes HTTP/2 by hand, and wrong: each ends as RFC 9113 or our limits say, the others go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "frames.h"

enum { NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, REFUSED_STREAM = 7, CANCEL, COMPRESSION_ERROR,
       CONNECT_ERROR, ENHANCE_YOUR_CALM };

static struct scene s;
static struct raw r;

static void finds(bool law, const char *what)
{
	if (!law)
		fail_msg("%s", what);
}

static void no_http2(void **state)
{
	static const char *const all[] = {
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello inside of TLS",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nwhat follows is no frame of any kind that there is, or was",
	};
	size_t i;

	for (i = 0; i < array_size(all); i++) {
		struct pair_end *ends[2];

		scene_thread(&s);
		pair_make(&s.thread, ends, 1 << 20, 0, 1);
		raw_take(&s, &r, ends[0], false);
		s.server.h = hbone_server(&s.thread, &ends[1]->s, NULL, &side_events, &s.server);
		raw_bytes(&r, all[i], strlen(all[i]));
		scene_turns(&s);
		assert_int_equal(s.server.closed, 1);
		assert_non_null(s.server.why);
		assert_true(r.ended || r.failed);
		raw_end(&s, &r);
	}
}

static void what_is_no_connect(void **state)
{
	uint8_t block[300];
	size_t len;

	raw_client(&s, &r, NULL);
	scene_turns(&s);
	assert_int_equal(r.max_streams, 200);
	assert_int_equal(r.initial_window, 65535);

	len = raw_field(block, ":method", "GET");
	len += raw_field(block + len, ":scheme", "https");
	len += raw_field(block + len, ":path", "/");
	len += raw_field(block + len, ":authority", "10.0.0.1:80");
	raw_frame(&r, F_HEADERS, END_HEADERS, 1, block, len);
	scene_turns(&s);
	assert_int_equal(r.status_id, 1);
	assert_int_equal(r.status[0], 0x8c); /* static table: 400 */
	assert_int_equal(r.rst_id, 1);	     /* it had not ended */
	assert_int_equal(r.rst_code, NO_ERROR);

	raw_connect(&r, 3, NULL); /* malformed */
	scene_turns(&s);
	assert_int_equal(r.rst_id, 3);
	assert_int_equal(r.rst_code, PROTOCOL_ERROR);
	raw_connect(&r, 5, "");
	scene_turns(&s);
	finds(r.rst_id == 5 || r.status_id == 5, "an empty authority");
	len = raw_field(block, ":method", "CONNECT");
	len += raw_field(block + len, ":path", "/");
	len += raw_field(block + len, ":scheme", "https");
	len += raw_field(block + len, ":authority", "10.0.0.1:80");
	raw_frame(&r, F_HEADERS, END_HEADERS, 7, block, len);
	scene_turns(&s);
	assert_int_equal(r.rst_id, 7);
	assert_int_equal(s.server.asked, 0);

	raw_connect(&r, 9, "10.0.0.1:1"); /* and it still serves */
	scene_turns(&s);
	assert_int_equal(s.server.asked, 1);
	assert_int_equal(r.status[0], 0x88);
	assert_int_equal(hbone_streams(s.server.h), 1);
	raw_end(&s, &r);
}

static void too_many_streams(void **state)
{
	char text[32];
	uint32_t i;

	raw_client(&s, &r, NULL);
	for (i = 0; i < 210; i++) {
		snprintf(text, sizeof(text), "10.0.0.1:%u", i + 1);
		raw_connect(&r, 2 * i + 1, text);
		scene_turns(&s);
	}
	assert_int_equal(s.server.asked, 200);
	assert_int_equal(r.rsts[REFUSED_STREAM], 10);
	assert_int_equal(r.count[F_RST_STREAM], 10);
	assert_int_equal(r.rst_id, 2 * 209 + 1);
	assert_int_equal(hbone_streams(s.server.h), 200);
	assert_int_equal(s.server.closed, 0);
	raw_rst(&r, 1, CANCEL); /* there is room again */
	raw_connect(&r, 2 * i + 1, "10.0.0.1:1");
	scene_turns(&s);
	assert_int_equal(s.server.asked, 201);
	raw_end(&s, &r);
}

/* ------------------------------------------------------------------ floods */

static void ping(uint32_t i)
{
	raw_frame(&r, F_PING, 0, 0, "01234567", 8);
}

static void unasked_pong(uint32_t i)
{
	raw_frame(&r, F_PING, ACK, 0, "01234567", 8);
}

static void settings(uint32_t i)
{
	raw_frame(&r, F_SETTINGS, 0, 0, NULL, 0);
}

static void priority(uint32_t i)
{
	raw_frame(&r, F_PRIORITY, 0, 3 + 2 * i, "\0\0\0\0\x10", 5);
}

static void empty_data(uint32_t i)
{
	raw_frame(&r, F_DATA, 0, 1, NULL, 0);
}

static void padding(uint32_t i)
{
	raw_frame(&r, F_DATA, 8, 1, "\x03\0\0\0", 4);
}

static void unknown(uint32_t i)
{
	raw_frame(&r, 10 + i % 246, 0, i, "what", 4);
}

static void updates(uint32_t i)
{
	raw_update(&r, 0, 1);
}

static void rapid_reset(uint32_t i)
{
	raw_connect(&r, 3 + 2 * i, "10.0.0.1:1");
	raw_rst(&r, 3 + 2 * i, CANCEL);
}

static void rapid_malformed(uint32_t i)
{
	raw_connect(&r, 3 + 2 * i, NULL);
}

static void rapid_get(uint32_t i)
{
	uint8_t block[300];
	size_t len = raw_field(block, ":method", "GET");

	len += raw_field(block + len, ":scheme", "https");
	len += raw_field(block + len, ":path", "/");
	raw_frame(&r, F_HEADERS, END_HEADERS | END_STREAM, 3 + 2 * i, block, len);
}

static void over_the_limit(uint32_t i)
{
	raw_connect(&r, 3 + 2 * i, "10.0.0.1:1");
}

static void trailers(uint32_t i)
{
	uint8_t block[64];

	raw_frame(&r, F_HEADERS, END_HEADERS, 1, block, raw_field(block, "a", "b"));
}

static void floods(void **state)
{
	static const struct {
		const char *name;
		void (*one)(uint32_t i);
		bool calm; /* ENHANCE_YOUR_CALM; else nghttp2 finds it wrong at once */
	} all[] = {
		{"PING", ping, true},
		{"answers to no PING", unasked_pong, true},
		{"SETTINGS", settings, true},
		{"PRIORITY", priority, true},
		{"empty DATA", empty_data, true},
		{"padding", padding, true},
		{"unknown frames", unknown, true},
		{"WINDOW_UPDATE", updates, true},
		{"rapid reset", rapid_reset, true},
		{"malformed CONNECT", rapid_malformed, true},
		{"GET", rapid_get, true},
		{"streams over the limit", over_the_limit, true},
		{"trailers without an end", trailers, false},
	};
	struct hbone_limits limit = {.streams = 50};
	uint32_t i, n;

	for (i = 0; i < array_size(all); i++) {
		raw_client(&s, &r, &limit);
		raw_connect(&r, 1, "10.0.0.1:1");
		scene_turns(&s);
		assert_int_equal(s.server.asked, 1);
		for (n = 0; n < 5000; n++)
			all[i].one(n);
		scene_turns(&s);
		finds(s.server.closed || all[i].one == trailers, all[i].name);
		finds(!all[i].calm || r.goaway_code == ENHANCE_YOUR_CALM, all[i].name);
		finds(!all[i].calm || s.server.app[0].failed, all[i].name);
		finds(s.server.asked <= 1 + limit.streams, all[i].name);
		raw_end(&s, &r);
	}
}

/* The same frames as part of traffic are nobody's fault. */
static void busy_is_no_flood(void **state)
{
	uint8_t data[100];
	uint32_t i, n;

	memset(data, 7, sizeof(data));
	raw_client(&s, &r, NULL);
	s.server.sleeping = true;
	raw_connect(&r, 1, "10.0.0.1:1");
	for (i = 0; i < 500; i++) {
		raw_frame(&r, F_DATA, 0, 1, data, sizeof(data));
		raw_frame(&r, F_PING, 0, 0, "01234567", 8);
	}
	for (n = 0; n < 2000; n++) { /* each is answered, then reset */
		raw_connect(&r, 3 + 2 * n, "10.0.0.1:1");
		s.server.apps = 1;
		s.server.answer = n % 2 ? 200 : 403;
		scene_turns(&s);
		raw_rst(&r, 3 + 2 * n, CONNECT_ERROR);
		scene_turns(&s);
	}
	assert_int_equal(s.server.closed, 0);
	assert_int_equal(s.server.asked, 2001);
	assert_false(s.server.app[0].failed);
	raw_end(&s, &r);
}

/* A peer that sends what wants an answer and reads none: what we keep for it is bounded. */
static void deaf_peer(void **state)
{
	unsigned i;

	raw_client(&s, &r, NULL);
	raw_connect(&r, 1, "10.0.0.1:1");
	scene_turns(&s);
	r.deaf = true;
	r.end->capacity = 1000;
	s.server.app[0].send = 10000000;
	s.server.app[0].s->ready(s.server.app[0].s, STREAM_WRITABLE);
	for (i = 0; i < 20000; i++)
		raw_connect(&r, 3 + 2 * i, NULL);
	for (i = 0; i < 100; i++)
		scene_turns(&s);
	assert_in_range(s.server.app[0].sent, 0, 65535 + 2000);
	assert_in_range(s.thread.pool.lent, 0, 1 + 20000 * 30 / BUF_CHUNK + 64); /* mostly the transport's own */
	raw_end(&s, &r);
}

/* ------------------------------------------------------------------ sizes and windows */

static void large_frames(void **state)
{
	static uint8_t data[(1 << 20) + 1];
	size_t i;

	raw_client(&s, &r, NULL);
	raw_connect(&r, 1, "10.0.0.1:1");
	scene_turns(&s);
	for (i = 0; i < 65535; i++)
		data[i] = app_byte(1, i);
	raw_frame(&r, F_DATA, 0, 1, data, 65535);
	scene_turns(&s);
	assert_int_equal(s.server.app[0].got, 65535);
	for (i = 0; i < 1 << 20; i++)
		data[i] = app_byte(1, 65535 + i);
	raw_frame(&r, F_DATA, 0, 1, data, 1 << 20); /* more than its window */
	scene_turns(&s);
	finds(r.rst_code == FLOW_CONTROL_ERROR || r.goaway_code == FLOW_CONTROL_ERROR, "over the window");
	raw_end(&s, &r);

	raw_client(&s, &r, NULL);
	raw_connect(&r, 1, "10.0.0.1:1");
	scene_turns(&s);
	raw_frame(&r, F_DATA, 0, 1, data, sizeof(data)); /* no such frame */
	scene_turns(&s);
	assert_int_equal(r.goaway_code, 6); /* FRAME_SIZE_ERROR */
	assert_int_equal(s.server.closed, 1);
	raw_end(&s, &r);
}

/* Once the reader has kept up for a while a frame of 1 MiB is in the window. */
static void a_frame_of_a_mebibyte(void **state)
{
	static uint8_t data[1 << 20];
	uint64_t at = 0;
	unsigned i;

	raw_client(&s, &r, NULL);
	raw_connect(&r, 1, "10.0.0.1:1");
	scene_turns(&s);
	for (i = 0; i < 40; i++) {
		size_t n = i < 39 ? 50000 : sizeof(data), j;

		for (j = 0; j < n; j++)
			data[j] = app_byte(1, at + j);
		raw_frame(&r, F_DATA, 0, 1, data, n);
		at += n;
		scene_turns(&s);
		assert_int_equal(s.server.app[0].got, at);
	}
	assert_int_equal(s.server.closed, 0);
	assert_int_equal(r.count[F_RST_STREAM], 0);
	raw_end(&s, &r);
}

static void windows_that_overflow(void **state)
{
	raw_client(&s, &r, NULL);
	raw_connect(&r, 1, "10.0.0.1:1");
	raw_connect(&r, 3, "10.0.0.1:2");
	scene_turns(&s);
	raw_update(&r, 1, 0x7fffffff);
	scene_turns(&s);
	assert_int_equal(r.rst_id, 1);
	assert_int_equal(r.rst_code, FLOW_CONTROL_ERROR);
	assert_true(s.server.app[0].failed);
	assert_false(s.server.app[1].failed);
	raw_update(&r, 0, 0x7fffffff);
	scene_turns(&s);
	assert_int_equal(r.goaway_code, FLOW_CONTROL_ERROR);
	assert_true(s.server.app[1].failed);
	raw_end(&s, &r);
}

/* The peer opens no window: we send what it allows, keep nothing, and others go on. */
static void window_never_opened(void **state)
{
	raw_client(&s, &r, NULL);
	raw_update(&r, 0, 10 << 20);
	s.server.send = 1 << 20;
	raw_connect(&r, 1, "10.0.0.1:1");
	scene_turns(&s);
	assert_int_equal(r.data_bytes, 65535);
	assert_int_equal(s.server.app[0].sent, 65535);
	raw_connect(&r, 3, "10.0.0.1:2");
	raw_update(&r, 3, 10 << 20);
	scene_turns(&s);
	assert_int_equal(s.server.app[1].sent, 1 << 20);
	assert_int_equal(r.data_bytes, 65535 + (1 << 20));
	assert_int_equal(s.thread.pool.lent, 0);
	raw_end(&s, &r);
}

static void headers_too_large(void **state)
{
	uint8_t block[16384];
	uint32_t id = 1;
	size_t len, i;

	raw_client(&s, &r, NULL);
	/* 431: over the limit, though it is one string of the table, asked for again and again. */
	len = raw_field(block, ":method", "CONNECT");
	len += raw_field(block + len, ":authority", "10.0.0.1:1");
	block[len++] = 0x40; /* literal, indexed */
	block[len++] = 1;
	block[len++] = 'x';
	block[len++] = 100;
	memset(block + len, 'y', 100);
	len += 100;
	for (i = 0; i < 700; i++) /* 700 * 133 > 64 KiB */
		block[len++] = 0x80 | 62;
	raw_frame(&r, F_HEADERS, END_HEADERS, id, block, len);
	scene_turns(&s);
	assert_int_equal(r.status_id, id);
	assert_int_equal(s.server.asked, 0);
	assert_int_equal(s.server.closed, 0);
	/* A bomb: no end of it. */
	memset(block, 0x80 | 62, sizeof(block));
	raw_frame(&r, F_HEADERS, 0, 3, block, sizeof(block));
	scene_turns(&s);
	assert_int_equal(s.server.closed, 1);
	assert_string_equal(s.server.why, "hbone: headers too large");
	raw_end(&s, &r);

	raw_client(&s, &r, NULL);
	raw_frame(&r, F_HEADERS, 0, 1, block, raw_field(block, "a", "b"));
	for (i = 0; i < 5000; i++)
		raw_frame(&r, F_CONTINUATION, 0, 1, NULL, 0);
	scene_turns(&s);
	assert_int_equal(s.server.closed, 1);
	raw_end(&s, &r);
}

static bool server_closed(struct scene *x)
{
	return x->server.closed;
}

/* Bytes for 60 ms; false: this machine slept so long that they came too late. */
static bool chatter(uint64_t patience)
{
	uint64_t start = clock_ns(), last = start, now;

	do {
		raw_frame(&r, F_DATA, 0, 1, ".", 1);
		scene_turns(&s);
		now = clock_ns();
		if (now - last > patience / 2)
			return false;
		last = now;
	} while (now - start < 60000000);
	return true;
}

/* It asks and sends, but answers no PING: alive. Then it says nothing at all. */
static void silent_peer(void **state)
{
	const struct hbone_limits limit = {.ping_ns = 5000000, .ping_timeout_ns = 20000000};
	bool prompt;

	do {
		raw_client(&s, &r, &limit);
		s.server.sleeping = true;
		raw_connect(&r, 1, "10.0.0.1:1");
		prompt = chatter(limit.ping_timeout_ns);
		if (!prompt)
			raw_end(&s, &r);
	} while (!prompt);
	assert_int_equal(s.server.closed, 0);
	assert_true(scene_until(&s, server_closed));
	assert_string_equal(s.server.why, "hbone: the peer is silent");
	assert_true(s.server.app[0].failed);
	assert_true(r.failed);
	assert_int_equal(r.count[F_PING], 1);
	raw_end(&s, &r);
}

/* ------------------------------------------------------------------ as a server */

static void goaway_with_streams(void **state)
{
	uint8_t payload[8];

	raw_server(&s, &r, NULL);
	s.client.send = 1000;
	scene_connect(&s, 1);
	scene_connect(&s, 2);
	scene_connect(&s, 3);
	scene_turns(&s);
	assert_int_equal(r.count[F_HEADERS], 3);
	raw_accept(&r, 1);
	raw_accept(&r, 3);
	put32(payload, 3);
	put32(payload + 4, NO_ERROR);
	raw_frame(&r, F_GOAWAY, 0, 0, payload, 8);
	scene_turns(&s);
	assert_int_equal(s.client.draining, 1);
	assert_true(s.client.app[2].failed);
	assert_string_equal(s.client.app[2].why, "hbone: the peer refuses the stream");
	assert_int_equal(s.client.app[0].sent, 1000);
	assert_int_equal(s.client.app[1].sent, 1000);
	assert_false(s.client.app[0].failed);
	assert_null(scene_connect(&s, 4));
	stream_finish(s.client.app[0].s);
	raw_frame(&r, F_DATA, END_STREAM, 1, NULL, 0);
	scene_turns(&s);
	assert_int_equal(s.client.closed, 0);
	stream_finish(s.client.app[1].s);
	raw_frame(&r, F_DATA, END_STREAM, 3, NULL, 0);
	scene_turns(&s);
	assert_int_equal(s.client.closed, 1);
	assert_null(s.client.why);
	assert_true(r.ended);
	raw_end(&s, &r);
}

static void resets_by_the_server(void **state)
{
	static const struct {
		uint32_t code;
		bool end;
	} all[] = {{NO_ERROR, true}, {CANCEL, true}, {CONNECT_ERROR, false}, {INTERNAL_ERROR, false},
		   {REFUSED_STREAM, false}, {0x12345678, false}};
	uint32_t i;

	raw_server(&s, &r, NULL);
	for (i = 0; i < array_size(all); i++) {
		struct app *a = scene_connect(&s, i + 1);
		uint8_t byte = app_byte(~(uint64_t)(i + 1), 0);

		scene_turns(&s);
		raw_accept(&r, 2 * i + 1);
		raw_frame(&r, F_DATA, 0, 2 * i + 1, &byte, 1);
		raw_rst(&r, 2 * i + 1, all[i].code);
		scene_turns(&s);
		assert_int_equal(a->opened, all[i].end);
		assert_int_equal(a->ended, all[i].end);
		assert_int_equal(a->failed, !all[i].end);
		assert_int_equal(a->got, all[i].end);
	}
	assert_int_equal(s.client.closed, 0);
	raw_end(&s, &r);
}

static void a_peer_of_few_streams(void **state)
{
	static const uint8_t two[] = {0, 3, 0, 0, 0, 2};
	struct app *a;

	raw_server(&s, &r, NULL);
	raw_frame(&r, F_SETTINGS, 0, 0, two, sizeof(two));
	scene_turns(&s);
	assert_int_equal(hbone_free(s.client.h), 2);
	a = scene_connect(&s, 1);
	assert_non_null(scene_connect(&s, 2));
	assert_null(scene_connect(&s, 3));
	scene_turns(&s);
	app_close(a, NULL);
	scene_turns(&s);
	assert_int_equal(hbone_free(s.client.h), 1);
	assert_non_null(scene_connect(&s, 4));
	raw_end(&s, &r);
}

/* One reader who sleeps may close the window of all: who comes then is not put behind him. */
static void a_peer_that_closes_the_window_of_all(void **state)
{
	struct app *a;

	raw_server(&s, &r, NULL);
	s.client.send = 1 << 20;
	a = scene_connect(&s, 1);
	scene_turns(&s);
	raw_accept(&r, 1);
	raw_update(&r, 1, 16 << 20);
	scene_turns(&s);
	assert_int_equal(a->sent, 65535);
	assert_int_equal(hbone_free(s.client.h), 0);
	assert_null(scene_connect(&s, 2));
	raw_update(&r, 0, 24 << 20);
	scene_turns(&s);
	assert_int_equal(a->sent, 1 << 20);
	assert_int_equal(hbone_free(s.client.h), 99);
	raw_end(&s, &r);
}

static void answers_that_are_none(void **state)
{
	raw_server(&s, &r, NULL);
	scene_connect(&s, 1);
	scene_connect(&s, 2);
	scene_connect(&s, 3);
	scene_connect(&s, 4);
	scene_turns(&s);
	raw_frame(&r, F_HEADERS, END_HEADERS, 1, "\x08\x03" "103", 5); /* more is to come */
	raw_frame(&r, F_HEADERS, END_HEADERS, 3, "\x08\x03" "307", 5);
	raw_frame(&r, F_HEADERS, END_HEADERS, 5, "\x08\x03" "zzz", 5);
	scene_turns(&s);
	assert_false(s.client.app[0].failed);
	assert_true(s.client.app[1].failed);
	assert_true(s.client.app[2].failed);
	raw_accept(&r, 1);
	scene_turns(&s);
	assert_true(s.client.app[0].opened);
	assert_int_equal(s.client.closed, 0);
	raw_frame(&r, F_DATA, 0, 7, "early", 5); /* before its answer */
	scene_turns(&s);
	assert_true(s.client.app[3].failed);
	assert_int_equal(r.goaway_code, PROTOCOL_ERROR);
	raw_end(&s, &r);
}

static void pushes(void **state)
{
	raw_server(&s, &r, NULL);
	scene_connect(&s, 1);
	scene_turns(&s);
	raw_frame(&r, F_PUSH_PROMISE, END_HEADERS, 1, "\0\0\0\2\x82", 5);
	scene_turns(&s);
	assert_int_equal(r.goaway_code, PROTOCOL_ERROR);
	assert_int_equal(s.client.closed, 1);
	raw_end(&s, &r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_http2),
		cmocka_unit_test(what_is_no_connect),
		cmocka_unit_test(too_many_streams),
		cmocka_unit_test(floods),
		cmocka_unit_test(busy_is_no_flood),
		cmocka_unit_test(deaf_peer),
		cmocka_unit_test(large_frames),
		cmocka_unit_test(a_frame_of_a_mebibyte),
		cmocka_unit_test(windows_that_overflow),
		cmocka_unit_test(window_never_opened),
		cmocka_unit_test(headers_too_large),
		cmocka_unit_test(silent_peer),
		cmocka_unit_test(goaway_with_streams),
		cmocka_unit_test(resets_by_the_server),
		cmocka_unit_test(a_peer_of_few_streams),
		cmocka_unit_test(a_peer_that_closes_the_window_of_all),
		cmocka_unit_test(answers_that_are_none),
		cmocka_unit_test(pushes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
