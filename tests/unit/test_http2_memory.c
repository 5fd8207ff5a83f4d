/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection of HTTP/2 holds while nothing happens on it, and that it misses nothing of what it gave back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
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

/* Of a machine with larger pages nothing is packed. */
static bool asleep(struct scene *x)
{
	return served()->asleep || sysconf(_SC_PAGESIZE) != PAGES_SIZE;
}

/* Nobody holds an exchange that is over. */
static void let_go(void)
{
	unsigned i;

	scene_turns(&m.s);
	for (i = 0; i < m.server.talks; i++)
		if (m.server.talk[i].x)
			talk_close(&m.server.talk[i], NULL);
	for (i = 0; i < m.client.talks; i++)
		if (m.client.talk[i].x)
			talk_close(&m.client.talk[i], m.client.talk[i].ended ? NULL : "not wanted");
}

static void sleeps_and_misses_nothing(void **state)
{
	unsigned i;

	start(1 << 20, 0);
	/* nghttp2's large pieces are there: those of 1.52; later ones make their table of streams when they need it. */
	assert_in_range(served()->block_used, nghttp2_version(0)->version_num > 0x013400 ? 4000 : 9000, PAGES_BLOCK);
	for (i = 0; i < 2; i++) {
		struct talk *hello = ask("/hello");

		hello->keeps = true;
		scene_turns(&m.s);
		assert_true(hello->ended);
		assert_string_equal(hello->text.data, "hello");
		ask("/wait");
		scene_turns(&m.s);
		assert_int_equal(served()->streams, 1);
		let_go();
		assert_true(scene_until(&m.s, asleep));
		assert_string_equal(http2_waits(served()), "nothing");
		assert_int_equal(served()->rest_shift, served()->asleep ? i : 0); /* sooner waked, later packed */
	}
	assert_int_equal(m.server.talks, 4);
	meeting_end(&m);
	assert_int_equal(m.s.thread.pages.lent, 0);
}

static bool over(struct scene *x)
{
	return m.server.closed && m.client.closed;
}

/* Whatever ends it, or time does to it, wakes it. */
static void ends_asleep(void **state)
{
	unsigned way;

	for (way = 0; way < 4; way++) {
		start(1 << 20, 0);
		ask("/hello");
		let_go();
		assert_true(scene_until(&m.s, asleep));
		switch (way) {
		case 0:
			m.server.c->ops->drain(m.server.c);
			break;
		case 1:
			m.server.c->ops->close(m.server.c, "enough");
			break;
		case 2:
			m.client.c->ops->close(m.client.c, NULL);
			break;
		case 3:
			served()->limit.idle_ns = 1;
			served()->tick.due(&served()->tick);
			break;
		}
		assert_true(scene_until(&m.s, over));
		assert_true(m.client.talk[0].ended);
		meeting_end(&m);
	}
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
		cmocka_unit_test(sleeps_and_misses_nothing),
		cmocka_unit_test(ends_asleep),
		cmocka_unit_test(frames_share_a_place),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	free(m.client.talk);
	free(m.server.talk);
	return r;
}
