/* SPDX-License-Identifier: Apache-2.0 */
/* TLS that was closed in order while below is full: as long as the peer reads, it gets all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sockets.h"
#include "tls_ends.h"

#define TAKES 5000 /* below, at once */

static struct pair_end *pair_ends[2];
static struct signer ca, leaf;
static SSL_CTX *ctx;
static struct owner o[2];

static void start(struct owner *of, struct pair_end *below, bool server)
{
	struct tls_plan plan = {.ctx = ctx, .server = server};

	*of = (struct owner){.random = server};
	of->s = tls_stream(thread, &below->s, &plan);
	of->s->owner = of;
	of->s->ready = ready;
}

/* What it has sealed and below does not take, and what came and nobody reads, is memory that it holds. */
static void what_it_keeps(void **state)
{
	static uint8_t bytes[200000];
	struct stream_bytes b = {.data = bytes, .len = sizeof(bytes)}, run[STREAM_RUNS];

	pair_make(thread, pair_ends, TAKES, 0, 7);
	start(&o[0], pair_ends[0], false);
	start(&o[1], pair_ends[1], true);
	UNTIL(o[0].opened && o[1].opened);
	pair_ends[1]->s.ready = NULL; /* nobody reads */
	assert_int_equal(stream_kept(o[0].s) + stream_kept(o[1].s), 0);
	assert_int_equal(stream_write(o[0].s, &b, 1), sizeof(bytes));
	rest();
	assert_true(stream_kept(o[0].s) > sizeof(bytes) - 2 * TAKES);
	assert_int_equal(stream_peek(o[1].s, run, 1), 0); /* a part of a record */
	assert_int_equal(stream_kept(o[1].s), BUF_CHUNK);
	stream_close(o[0].s, "reset by peer");
	stream_close(o[1].s, "reset by peer");
	rest();
}

/* Ours has written and closed, and the peer has not read. */
static struct tls *closed(const uint8_t *bytes, size_t len)
{
	struct stream_bytes b = {.data = (uint8_t *)bytes, .len = len};
	struct tls *ours;

	pair_make(thread, pair_ends, TAKES, 0, 7);
	start(&o[0], pair_ends[0], false);
	start(&o[1], pair_ends[1], true);
	UNTIL(o[0].opened && o[1].opened);
	ours = of_tls(o[0].s);
	pair_ends[1]->s.ready = NULL;
	assert_int_equal(stream_write(o[0].s, &b, 1), len);
	stream_close(o[0].s, NULL);
	rest();
	assert_false(list_empty(&thread->orphans));
	return ours;
}

/* A look at what the peer has taken. */
static void look(struct tls *ours)
{
	assert_true(ours->deadline.armed);
	loop_disarm(loop, &ours->deadline);
	ours->deadline.due(&ours->deadline);
	rest();
}

/* One bufferful of below, and then nothing for a while: as long as he takes some, he has time. */
static void slow_reader(void **state)
{
	static uint8_t bytes[200000];
	struct tls *ours = closed(bytes, sizeof(bytes));

	for (unsigned i = 1; !list_empty(&thread->orphans); i++) {
		work(&o[1]);
		rest();
		if (i % 8 == 0 && !list_empty(&thread->orphans))
			look(ours);
	}
	UNTIL((work(&o[1]), o[1].s->ended));
	assert_int_equal(o[1].got, sizeof(bytes));
	assert_int_equal(o[1].failed, 0);
	stream_close(o[1].s, NULL);
	rest();
}

/* A little now and then: not for ever. */
static void slowest_reader(void **state)
{
	static uint8_t bytes[200000];
	struct tls *ours = closed(bytes, sizeof(bytes));
	unsigned looks = 0;

	while (!list_empty(&thread->orphans)) {
		assert_true(++looks < 20);
		work(&o[1]);
		rest();
		look(ours);
	}
	assert_true(looks > 10 && o[1].got < sizeof(bytes));
	assert_true(pair_ends[1]->broken); /* it is not told as an end */
	stream_close(o[1].s, "reset by peer");
	rest();
}

/* Who reads nothing has only so much. */
static void no_reader(void **state)
{
	static uint8_t bytes[200000];
	struct tls *ours = closed(bytes, sizeof(bytes));
	uint64_t due = ours->deadline.due_ns;

	rest();
	assert_true(ours->deadline.armed && ours->deadline.due_ns == due);
	look(ours);
	assert_true(list_empty(&thread->orphans));
	stream_close(o[1].s, "reset by peer");
	rest();
}

static int begin(void **state)
{
	setup(state);
	ca = signer_new("ca", NULL, 0, DAY);
	leaf = signer_new("leaf", &ca, 0, DAY);
	ctx = tls_ends_ctx(&ca, &leaf, true);
	return 0;
}

static int end(void **state)
{
	SSL_CTX_free(ctx);
	signer_free(&leaf);
	signer_free(&ca);
	return teardown(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_it_keeps, begin, end),
		cmocka_unit_test_setup_teardown(slow_reader, begin, end),
		cmocka_unit_test_setup_teardown(slowest_reader, begin, end),
		cmocka_unit_test_setup_teardown(no_reader, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
