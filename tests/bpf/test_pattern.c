// SPDX-License-Identifier: Apache-2.0
/*
 * test_pattern.c: who is spliced when. Traffic after the pattern of known programs (who writes how much, and how long
 * until the next write; rounded, not recorded) runs through the decisions of decide.h as weft_watch and weft_msg ask
 * them, in simulated time; each pattern says what share of its bytes the splice must and may carry.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "decide.h"

#define MSS 1448
#define OLD_US 1000000 /* WATCH_OLD_NS: if there is no other, younger one */
#define PASS_US 25000
#define READ_US 20 /* a reader that keeps up has read a message this long after it was written */

static const struct abi_settings settings = {DECIDE_LIMITS};

struct message {
	char from; /* 'c' client, 's' server */
	uint32_t bytes, gap_us;
};

struct pattern {
	const char *name;
	int nodelay;
	unsigned repeat; /* of the messages */
	unsigned least, most; /* per cent of all bytes */
	struct message message[8];
};

static const struct pattern patterns[] = {
	{"wrk and nginx, small reply", 1, 50000, 95, 100, {{'c', 40, 30}, {'s', 238, 60}}},
	{"curl and nginx, 64 KiB answers, sendfile after the head", 1, 5000, 90, 100,
	 {{'c', 90, 50}, {'s', 238, 30}, {'s', 65536, 400}}},
	{"nginx, 1 MiB answers", 1, 500, 0, 2, {{'c', 90, 50}, {'s', 238, 30}, {'s', 1048576, 2000}}},
	{"redis GET", 0, 50000, 95, 100, {{'c', 36, 40}, {'s', 9, 40}}},
	{"redis, pipeline of 16", 0, 20000, 95, 100, {{'c', 576, 60}, {'s', 144, 60}}},
	{"1 MiB there, 1 MiB back", 1, 500, 0, 2, {{'c', 1048576, 300}, {'s', 1048576, 300}}},
	{"64 KiB there, 64 KiB back", 1, 10000, 95, 100, {{'c', 65536, 35}, {'s', 65536, 35}}},
	{"4 KiB there, 4 KiB back", 1, 20000, 95, 100, {{'c', 4096, 25}, {'s', 4096, 25}}},
	{"pgbench select-only", 1, 20000, 95, 100, {{'c', 60, 80}, {'s', 110, 60}}},
	{"postgres COPY out", 1, 4000, 0, 2,
	 {{'s', 8192, 15}, {'s', 8192, 15}, {'s', 8192, 15}, {'s', 8192, 15}}},
	{"gRPC unary", 1, 20000, 95, 100, {{'c', 60, 30}, {'s', 80, 40}}},
	{"a shell over ssh: keys and echoes", 1, 600, 70, 100, {{'c', 36, 3000}, {'s', 36, 120000}}},
	{"scp: 32 KiB packets, a window message every megabyte", 1, 100, 0, 5,
	 {{'c', 262144, 150}, {'c', 262144, 150}, {'c', 262144, 150}, {'c', 262144, 150}, {'s', 36, 20}}},
	{"iperf3", 0, 20000, 0, 2, {{'c', 131072, 35}}},
	{"log lines, TCP_NODELAY, one way", 1, 200000, 95, 100, {{'c', 1024, 40}}},
	{"log lines with Nagle", 0, 200000, 0, 2, {{'c', 64, 4}}},
	{"video: 60 frames a second, one way", 1, 3000, 0, 2, {{'s', 20000, 16667}}},
	{"MQTT: a message and its PUBACK", 1, 5000, 90, 100, {{'c', 300, 100}, {'s', 4, 4000}}},
	{"a single request", 1, 1, 0, 0, {{'c', 100, 50}, {'s', 4000, 50}}},
	{"a pool connection: a query a second", 1, 100, 80, 100, {{'c', 200, 300}, {'s', 800, 999700}}},
};

struct side {
	struct abi_flow flow;
	uint32_t segs;
	uint64_t bytes_tcp, bytes_splice;
	uint64_t read_us; /* when all that was sent has been read */
};

struct run {
	const struct pattern *p;
	struct side side[2];
	uint64_t now_us, pass_us, again_us, leaving_us, mark_bytes[2];
	uint64_t rest_us; /* nobody looks earlier */
	uint32_t mark_segs[2];
	int in;
	unsigned left, entered;
};

static void mark(struct run *r)
{
	for (int i = 0; i < 2; i++) {
		r->mark_bytes[i] = r->side[i].bytes_tcp;
		r->mark_segs[i] = r->side[i].segs;
	}
}

/* As weft_watch does: look_out(), look_in() */
static void pass(struct run *r)
{
	struct decide_traffic t = {.nodelay = (uint8_t)r->p->nodelay};

	for (int i = 0; i < 2; i++)
		t.way[i] = (struct decide_way){.bytes = r->side[i].bytes_tcp - r->mark_bytes[i],
					       .segs = r->side[i].segs - r->mark_segs[i],
					       .mss = MSS};
	if (r->in) {
		if (!r->leaving_us || r->now_us - r->leaving_us < settings.leave_ns / 1000)
			return;
		r->in = 0;
		r->leaving_us = 0;
		r->again_us = r->now_us + decide_again(r->left++) / 1000;
		mark(r);
		return;
	}
	if (r->now_us < r->again_us || r->now_us < r->rest_us)
		return;
	switch (decide_kind(&t, settings.turn_bytes)) {
	case DECIDE_WAIT:
		return;
	case DECIDE_BULK:
		mark(r);
		if (decide_stays(ABI_BULK))
			r->rest_us = r->now_us + OLD_US;
		return;
	default:
		r->in = 1;
		r->entered++;
		for (int i = 0; i < 2; i++)
			r->side[i].flow = (struct abi_flow){.by_tcp = 1};
	}
}

/* As weft_msg does. */
static void write_one(struct run *r, const struct message *m)
{
	struct side *me = &r->side[m->from == 's'], *peer = &r->side[m->from != 's'];
	int redirect = 0, read = r->now_us >= me->read_us;

	if (r->in && !r->leaving_us) {
		enum decide_look look = decide_look(&me->flow, &settings, m->bytes);

		redirect = decide_message(&me->flow, &settings, peer->flow.said, m->bytes, look, read);
	}
	if (peer->flow.said != me->flow.heard) {
		me->flow.heard = peer->flow.said;
		me->flow.turn_tcp = 0;
	}
	me->flow.said++;
	me->flow.by_tcp = !redirect;
	me->read_us = r->now_us + READ_US;
	if (redirect) {
		me->bytes_splice += m->bytes;
		me->flow.turn_bytes += m->bytes;
		me->flow.turn_msgs++;
		return;
	}
	/* Nagle: what comes before the last was acknowledged travels with it, in full segments */
	me->segs += r->p->nodelay || read ? (m->bytes + MSS - 1) / MSS : m->bytes / MSS + !(me->bytes_tcp % MSS);
	me->bytes_tcp += m->bytes;
	if (m->bytes > settings.small_bytes)
		me->flow.turn_tcp += m->bytes;
	if (r->in && !r->leaving_us && me->flow.turn_tcp >= settings.bulk_bytes)
		r->leaving_us = r->now_us + 1;
}

static void play(const struct pattern *p, struct run *r)
{
	*r = (struct run){.p = p};
	for (unsigned n = 0; n < p->repeat; n++) {
		for (const struct message *m = p->message; m->from; m++) {
			write_one(r, m);
			r->now_us += m->gap_us;
			for (; r->pass_us <= r->now_us; r->pass_us += PASS_US)
				pass(r);
		}
	}
}

static void every_pattern_goes_where_it_pays(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		const struct pattern *p = &patterns[i];
		uint64_t splice, all;
		struct run r;
		unsigned share;

		play(p, &r);
		splice = r.side[0].bytes_splice + r.side[1].bytes_splice;
		all = splice + r.side[0].bytes_tcp + r.side[1].bytes_tcp;
		share = (unsigned)(splice * 100 / all);
		print_message("%-58s %3u %% spliced, entered %u times\n", p->name, share, r.entered);
		if (share < p->least || share > p->most)
			fail_msg("%s: %u %% spliced, must be %u to %u", p->name, share, p->least, p->most);
		if (!p->least && r.entered) /* to enter and leave again costs more than either */
			fail_msg("%s: must never enter", p->name);
	}
}

/* Talk, then bulk, then talk: it leaves and comes back, and does not flap. */
static void a_connection_that_changes_its_mind(void **state)
{
	static const struct pattern talk = {"talk", 1, 3000, 0, 0, {{'c', 100, 50}, {'s', 300, 50}}};
	static const struct pattern bulk = {"bulk", 1, 20000, 0, 0, {{'c', 65536, 25}}};
	struct run r, before;

	(void)state;
	play(&talk, &r);
	assert_int_equal(r.in, 1);
	for (int round = 0; round < 4; round++) {
		before = r;
		for (unsigned n = 0; n < bulk.repeat; n++) {
			write_one(&r, &bulk.message[0]);
			r.now_us += bulk.message[0].gap_us;
			for (; r.pass_us <= r.now_us; r.pass_us += PASS_US)
				pass(&r);
		}
		for (uint64_t until = r.now_us + 1000000; r.now_us < until;) /* a second of silence, and passes */
			r.now_us += PASS_US, r.pass_us = r.now_us, pass(&r);
		assert_int_equal(r.in, 0);
		assert_true(r.side[0].bytes_splice - before.side[0].bytes_splice < 2 << 20);
		for (unsigned n = 0; n < 200000 && !r.in; n++) {
			for (const struct message *m = talk.message; m->from; m++) {
				write_one(&r, m);
				r.now_us += m->gap_us;
				for (; r.pass_us <= r.now_us; r.pass_us += PASS_US)
					pass(&r);
			}
		}
		assert_int_equal(r.in, 1);
		assert_int_equal(r.entered, round + 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pattern_goes_where_it_pays),
		cmocka_unit_test(a_connection_that_changes_its_mind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
