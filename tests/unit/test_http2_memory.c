/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection of HTTP/2 holds while nothing happens on it, and that it misses nothing of what it gave back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../userspace/http/http2_parts.h"
#include "messages.h"

static struct meeting m;

static struct http2 *served(void)
{
	return m.server.end->s.owner;
}

static void start(size_t capacity, size_t slice)
{
	struct pair_end *ends[2];

	meeting_thread(&m);
	pair_make(&m.s.thread, ends, capacity, slice, 1);
	m.client.end = ends[0];
	m.server.end = ends[1];
	m.client.c = http2_client(&m.s.thread, &ends[0]->s, NULL, &party_events, &m.client);
	m.server.c = http2_server(&m.s.thread, &ends[1]->s, NULL, &party_events, &m.server);
}

static struct talk *ask(const char *path)
{
	struct http_head h = ask_head(path);

	return meeting_ask(&m, &h, true);
}

/* Of a machine with larger pages none is given back. */
static bool is_there(void)
{
	unsigned char there = 0xff;

	if (sysconf(_SC_PAGESIZE) == PAGES_SIZE && mincore(served()->table, PAGES_SIZE, &there))
		abort();
	return there & 1;
}

static bool at_rest(struct scene *x)
{
	return !is_there() || sysconf(_SC_PAGESIZE) != PAGES_SIZE;
}

static void gives_back_the_table_of_streams(void **state)
{
	unsigned i;

	start(1 << 20, 0);
	if (nghttp2_version(0)->version_num > 0x013400 && !served()->table) { /* later ones make it when they need it */
		assert_int_equal(m.s.thread.pages.lent, 0);
		meeting_end(&m);
		return;
	}
	assert_non_null(served()->table); /* that of 1.52 has the size that we know */
	for (i = 0; i < 2; i++) {
		struct talk *waits;

		ask("/hello");
		scene_turns(&m.s);
		assert_true(scene_until(&m.s, at_rest));
		waits = ask("/wait");
		scene_turns(&m.s);
		assert_true(is_there()); /* a stream has its place there */
		talk_close(waits, "not wanted");
		scene_turns(&m.s);
		assert_int_equal(served()->streams, 0);
	}
	assert_int_equal(m.server.talks, 4);
	assert_true(m.client.talk[0].ended && m.client.talk[2].ended);
	meeting_end(&m);
	assert_int_equal(m.s.thread.pages.lent, 0);
}

static char large[40000];

/* A head of three frames, and a body. */
static void serve_large(struct talk *t, const struct http_head *asked)
{
	struct http_field field = {.name = HTTP_TEXT("x-large"), .value = {large, sizeof(large)}};
	struct http_head h = {.status = 200, .field = &field, .fields = 1, .body = HTTP_STREAM};

	http_answer(t->x, &h);
	t->send = 70000;
	t->finish = true;
	talk_send(t);
}

/*
 * Sessions of a thread write their frames to one place (scene_step() writes over it at each turn), also those whose
 * transport takes a few bytes at a time, and heads that do not fit in one frame.
 */
static void frames_share_a_place(void **state)
{
	static const size_t capacity[] = {1 << 20, 1000, 100};
	unsigned i;

	memset(large, '~', sizeof(large)); /* of which Huffman's code makes more than it was */
	for (i = 0; i < array_size(capacity); i++) {
		struct talk *a;

		start(capacity[i], 0);
		m.server.serve = serve_large;
		assert_non_null(served()->written);
		assert_null(((struct http2 *)m.client.end->s.owner)->written); /* its preface stands there */
		a = ask("/large");
		while (!a->ended && !a->failed)
			scene_turns(&m.s);
		assert_true(a->ended);
		assert_int_equal(a->status, 200);
		assert_int_equal(a->got, 70000);
		meeting_end(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_the_table_of_streams),
		cmocka_unit_test(frames_share_a_place),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	free(m.client.talk);
	free(m.server.talk);
	return r;
}
