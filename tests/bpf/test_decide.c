/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_decide.c: the splice decisions of bpf/decide.h, compiled natively: who enters, what a port teaches, and a
 * model of one direction (sender, splice queue, TCP queue, reader) driven at random.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "decide.h"

static const struct abi_settings settings = {DECIDE_LIMITS};

static uint64_t seed = 1;

static uint32_t draw(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((seed >> 33) % below);
}

/* ------------------------------------------------------------------ one direction and its reader */

#define MODEL_QUEUE 4096

struct model {
	struct abi_flow me;
	uint64_t heard; /* what the peer has said */
	/* numbers and sizes of messages that wait; the reader takes `splice` before `tcp`, as tcp_bpf_recvmsg does */
	struct {
		uint32_t number[MODEL_QUEUE], size[MODEL_QUEUE];
		unsigned first, count;
	} splice, tcp;
	uint32_t splice_bytes, next_write, next_read;
	uint32_t most_bytes, most_msgs, by_splice, by_tcp;
};

#define put(q, n, s)                                                                               \
	do {                                                                                       \
		unsigned at_ = ((q).first + (q).count++) % MODEL_QUEUE;                            \
		(q).number[at_] = n;                                                               \
		(q).size[at_] = s;                                                                 \
	} while (0)

static void model_new(struct model *m)
{
	memset(m, 0, sizeof(*m));
	m->me.by_tcp = 1; /* as flow_begin in watch.bpf.c */
}

/* What weft_msg does with one message; false: TCP has no room and the sender sleeps. */
static int model_write(struct model *m, uint32_t size)
{
	enum decide_look look = decide_look(&m->me, &settings, size);
	int drained = !m->tcp.count, empty = !m->splice.count;
	int free = look == DECIDE_LOOK_ORDER ? drained && empty : empty;
	int redirect = decide_message(&m->me, &settings, m->heard, size, look, free);

	if (!redirect && m->tcp.count == MODEL_QUEUE)
		return 0;
	m->me.said++;
	m->me.by_tcp = !redirect;
	if (redirect) {
		assert_true(m->splice.count < MODEL_QUEUE);
		m->me.turn_bytes += size;
		m->me.turn_msgs++;
		put(m->splice, m->next_write++, size);
		m->splice_bytes += size;
		m->by_splice++;
	} else {
		put(m->tcp, m->next_write++, size);
		m->by_tcp++;
	}
	if (m->splice_bytes > m->most_bytes)
		m->most_bytes = m->splice_bytes;
	if (m->splice.count > m->most_msgs)
		m->most_msgs = m->splice.count;
	return 1;
}

#define take(q) ((q).count--, (q).first = ((q).first + 1) % MODEL_QUEUE)

static int model_read(struct model *m)
{
	if (m->splice.count) {
		assert_int_equal(m->splice.number[m->splice.first], m->next_read++);
		m->splice_bytes -= m->splice.size[m->splice.first];
		take(m->splice);
		return 1;
	}
	if (!m->tcp.count)
		return 0;
	assert_int_equal(m->tcp.number[m->tcp.first], m->next_read++);
	take(m->tcp);
	return 1;
}

static void order_and_bounds_hold_at_random(void **state)
{
	static struct model m;

	(void)state;
	for (int run = 0; run < 400; run++) {
		uint32_t eager = 1 + draw(8), talk = draw(50), largest = 1u << draw(19);

		model_new(&m);
		for (int step = 0; step < 5000; step++) {
			if (draw(8) < eager)
				model_write(&m, 1 + draw(largest));
			else if (draw(8) >= eager)
				model_read(&m);
			if (draw(50) < talk)
				m.heard++;
		}
		assert_true(m.most_bytes <= 1 << 20);
		assert_true(m.most_msgs <= 1000);
		while (model_read(&m))
			;
		assert_int_equal(m.next_read, m.next_write); /* nothing lost */
	}
}

static void conversation_is_spliced(void **state)
{
	static struct model m;

	(void)state;
	for (uint32_t size = 1; size <= 65536; size *= 16) {
		model_new(&m);
		for (int i = 0; i < 1000; i++) {
			assert_true(model_write(&m, size));
			model_read(&m);
			m.heard++;
		}
		assert_int_equal(m.by_tcp, 0);
	}
}

static void bulk_is_left_to_tcp(void **state)
{
	static struct model m;

	(void)state;
	model_new(&m);
	for (int i = 0; i < 1000; i++) {
		assert_true(model_write(&m, 131072));
		model_read(&m);
	}
	assert_int_equal(m.by_splice, 1);
}

static void sleeping_reader_holds_one_grant(void **state)
{
	static struct model m;

	(void)state;
	for (uint32_t size = 1; size <= 65536; size *= 2) {
		model_new(&m);
		while (model_write(&m, size)) /* until TCP blocks the sender */
			m.heard++;	      /* the peer goes on talking: that must not renew anything */
		assert_true(m.most_bytes <= settings.stream_bytes);
		assert_true(m.most_msgs <= settings.grant_msgs);
		assert_true(m.by_splice > 0);
	}
}

static void small_stream_with_a_reader_that_keeps_up_is_spliced(void **state)
{
	static struct model m;

	(void)state;
	model_new(&m);
	for (int i = 0, asleep = 0; i < 100000; i++, asleep--) {
		assert_true(model_write(&m, 1024));
		if (draw(5000) == 0)
			asleep = 400; /* the scheduler took it away for a while */
		for (int n = 0; asleep <= 0 && n < 2; n++)
			model_read(&m);
	}
	if (m.by_splice <= 90000)
		fail_msg("%u of 100000 were spliced", m.by_splice);
}

static void after_a_stall_the_splice_comes_back(void **state)
{
	static struct model m;

	(void)state;
	model_new(&m);
	for (int i = 0; i < 2000; i++)
		model_write(&m, 1024);
	assert_true(m.by_tcp > 0);
	while (model_read(&m))
		;
	m.by_splice = m.by_tcp = 0;
	assert_true(model_write(&m, 1024));
	assert_int_equal(m.by_splice, 1);
}

/* ------------------------------------------------------------------ who enters */

static void enter_table(void **state)
{
	static const struct {
		struct decide_enter in;
		enum abi_reason why;
	} row[] = {
		{{.kernel_safe = 1, .reader_seen = 1}, ABI_NONE},
		{{.kernel_safe = 0, .reader_seen = 1}, ABI_KERNEL_UNSAFE},
		{{.kernel_safe = 1, .reader_seen = 0}, ABI_READER_UNSEEN},
		{{.kernel_safe = 1, .reader_seen = 1, .readers = ABI_READS_BY_SPLICE}, ABI_READER_SPLICES},
		{{.kernel_safe = 1, .reader_seen = 1, .readers = ABI_READS_BY_SPLICE,
		  .server_splice = ABI_SPLICE_ALWAYS}, ABI_NONE},
		{{.kernel_safe = 1, .reader_seen = 1, .readers = ABI_READS_BY_COUNT}, ABI_NONE},
		{{.kernel_safe = 1, .reader_seen = 1, .readers = ABI_READS_BY_COUNT, .count_fault = 1},
		 ABI_READER_COUNTS},
		{{.client_splice = ABI_SPLICE_ALWAYS}, ABI_NONE},
		{{.service_splice = ABI_SPLICE_ALWAYS}, ABI_NONE},
		{{.kernel_safe = 1, .splice_off = 1, .server_splice = ABI_SPLICE_ALWAYS},
		 ABI_SWITCHED_OFF},
		{{.kernel_safe = 1, .client_splice = ABI_SPLICE_OFF,
		  .server_splice = ABI_SPLICE_ALWAYS}, ABI_POD_OFF},
		{{.kernel_safe = 1, .server_splice = ABI_SPLICE_OFF}, ABI_POD_OFF},
		{{.kernel_safe = 1, .service_splice = ABI_SPLICE_OFF}, ABI_SERVICE_OFF},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		assert_int_equal(decide_enter(&row[i].in), row[i].why);
}

#define WAYS(client_bytes, client_segs, server_bytes, server_segs)                                  \
	{{client_bytes, client_segs, 1448}, {server_bytes, server_segs, 1448}}

static void what_tcp_carried_tells_a_conversation_from_bulk(void **state)
{
	static const struct {
		struct decide_traffic t;
		enum decide_kind kind;
	} row[] = {
		{{.way = WAYS(0, 0, 0, 0)}, DECIDE_WAIT},
		{{.way = WAYS(7 * 100, 7, 7 * 100, 7)}, DECIDE_WAIT},
		{{.way = WAYS(8 * 100, 8, 8 * 100, 8)}, DECIDE_TALK},
		/* HTTP: a request, an answer of 64 KiB */
		{{.way = WAYS(8 * 200, 8, 8 * 65536, 8 * 46)}, DECIDE_TALK},
		/* answers of 1 MiB */
		{{.way = WAYS(8 * 100, 8, 8 * 1048576, 8 * 725)}, DECIDE_BULK},
		/* as long there as back: how often is seen by what the segments lack */
		{{.way = WAYS(8 * 65536, 8 * 46, 8 * 65536, 8 * 46)}, DECIDE_TALK},
		{{.way = WAYS(8 * 1048576, 8 * 725, 8 * 1048576, 8 * 725)}, DECIDE_BULK},
		{{.way = WAYS(1000 * 1448, 1000, 1000 * 1448, 1000)}, DECIDE_BULK},
		/* one way: full segments, small ones, too few of them */
		{{.way = WAYS(1048576, 725, 0, 0)}, DECIDE_BULK},
		{{.way = WAYS(64 * 1000, 64, 0, 0)}, DECIDE_WAIT},
		{{.way = WAYS(64 * 1000, 64, 0, 0), .nodelay = 1}, DECIDE_STREAM},
		{{.way = WAYS(64 * 64, 64, 0, 0)}, DECIDE_WAIT},
		{{.way = WAYS(64 * 64, 64, 0, 0), .nodelay = 1}, DECIDE_STREAM},
		{{.way = WAYS(63 * 1000, 63, 0, 0), .nodelay = 1}, DECIDE_WAIT},
		{{.way = WAYS(0, 0, 100 * 1448, 100), .nodelay = 1}, DECIDE_WAIT},
		/* an upload that the server acknowledges every now and then */
		{{.way = WAYS(8 << 20, 5800, 16 * 10, 16)}, DECIDE_BULK},
		{{.way = WAYS(16 * 65536, 16 * 46, 16 * 10, 16)}, DECIDE_TALK},
		/* over loopback every write is a segment: small ones, and those of a proxy that carries bulk */
		{{.way = {{64 * 1000, 64, 65483}, {0, 0, 65483}}, .nodelay = 1}, DECIDE_STREAM},
		{{.way = {{0, 0, 65483}, {64 * 16384, 64, 65483}}, .nodelay = 1}, DECIDE_BULK},
		{{.way = {{8 * 1000, 8, 65483}, {8 * 1000, 8, 65483}}, .nodelay = 1}, DECIDE_TALK},
		/* counts at their ends */
		{{.way = WAYS(UINT64_MAX / 8, UINT32_MAX, UINT64_MAX / 8, UINT32_MAX)}, DECIDE_BULK},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		assert_int_equal(decide_kind(&row[i].t, settings.turn_bytes), row[i].kind);
}

static void who_leaves_often_stays_away_longer(void **state)
{
	(void)state;
	assert_int_equal(decide_again(0), 1000000000ull);
	for (uint32_t left = 1; left < 256; left++) {
		assert_true(decide_again(left) >= decide_again(left - 1));
		assert_true(decide_again(left) <= 64000000000ull);
	}
}

static void who_stays_out_is_looked_at_seldom(void **state)
{
	static const enum abi_reason soon[] = {ABI_NONE,	  ABI_WATCHED, ABI_UNACCEPTED, ABI_BLOCKING,
					       ABI_SOCKET_OPTION, ABI_URGENT,  ABI_MAP_FULL,   ABI_SWITCHED_OFF,
					       ABI_POD_OFF,	  ABI_SERVICE_OFF};
	static const enum abi_reason stays[] = {ABI_BULK, ABI_KERNEL_UNSAFE, ABI_READER_UNSEEN, ABI_READER_SPLICES,
						ABI_READER_COUNTS};

	(void)state;
	for (size_t i = 0; i < sizeof(soon) / sizeof(soon[0]); i++)
		assert_false(decide_stays(soon[i]));
	for (size_t i = 0; i < sizeof(stays) / sizeof(stays[0]); i++)
		assert_true(decide_stays(stays[i]));
}

/* ------------------------------------------------------------------ capture */

static void what_needs_the_worker(void **state)
{
	const struct {
		struct decide_dest d;
		enum abi_reason want;
	} table[] = {
		{{.kind = ABI_KIND_REMOTE_POD, .address = ABI_ADDRESS_MESH, .port = 80}, ABI_TUNNELLED},
		{{.kind = ABI_KIND_REMOTE_POD, .address = ABI_ADDRESS_MESH, .port = 80, .service = 1}, ABI_TUNNELLED},
		{{.kind = ABI_KIND_REMOTE_POD, .port = 80}, ABI_NONE},
		{{.kind = ABI_KIND_REMOTE_POD, .address = ABI_ADDRESS_MESH, .pod = ABI_POD_PLAIN, .port = 80},
		 ABI_NONE},
		{{.kind = ABI_KIND_REMOTE_POD, .address = ABI_ADDRESS_MESH, .port = ABI_PORT_HBONE}, ABI_NONE},
		{{.kind = ABI_KIND_REMOTE_POD, .address = ABI_ADDRESS_MESH, .port = ABI_PORT_OUTBOUND}, ABI_OWN_PORT},
		{{.kind = ABI_KIND_LOCAL_POD, .port = ABI_PORT_INBOUND}, ABI_OWN_PORT},
		{{.kind = ABI_KIND_LOCAL_POD, .port = 80}, ABI_NONE},
		{{.kind = ABI_KIND_LOCAL_POD, .address = ABI_ADDRESS_PROXY, .port = 80}, ABI_PROXIED},
		{{.kind = ABI_KIND_LOCAL_POD, .address = ABI_ADDRESS_FAIL_OPEN, .port = 80}, ABI_NONE},
		{{.kind = ABI_KIND_LOCAL_POD, .service = 1, .service_proxy = 1, .port = 80}, ABI_PROXIED},
		{{.kind = ABI_KIND_LOCAL_POD, .service = 1, .service_routes = 1, .port = 80}, ABI_ROUTES},
		{{.kind = ABI_KIND_VIP, .service = 1, .service_routes = 1, .port = 80}, ABI_ROUTES},
		{{.kind = ABI_KIND_REMOTE_POD, .address = ABI_ADDRESS_MESH, .service = 1, .service_routes = 1,
		  .service_proxy = 1, .port = ABI_PORT_INBOUND}, ABI_ROUTES},
		{{.kind = ABI_KIND_NONE, .pod = ABI_POD_REGISTRY_ONLY, .service = 1, .service_routes = 1, .port = 80},
		 ABI_ROUTES},
		{{.kind = ABI_KIND_NONE, .port = 443}, ABI_NONE},
		{{.kind = ABI_KIND_NONE, .port = ABI_PORT_OUTBOUND}, ABI_NONE},
		{{.kind = ABI_KIND_NONE, .pod = ABI_POD_REGISTRY_ONLY, .port = 443}, ABI_EGRESS},
		{{.kind = ABI_KIND_NONE, .pod = ABI_POD_REGISTRY_ONLY, .service = 1, .port = 443}, ABI_NONE},
		{{.kind = ABI_KIND_NODE, .pod = ABI_POD_REGISTRY_ONLY, .port = 10250}, ABI_NONE},
		{{.kind = ABI_KIND_REMOTE_POD, .pod = ABI_POD_REGISTRY_ONLY, .port = 80}, ABI_NONE},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		assert_int_equal(decide_capture(&table[i].d), table[i].want);
	assert_int_equal(decide_path(ABI_TUNNELLED), ABI_PATH_TUNNEL);
	assert_int_equal(decide_path(ABI_PROXIED), ABI_PATH_PROXY);
	assert_int_equal(decide_path(ABI_ROUTES), ABI_PATH_PROXY);
}

static void a_late_beat_gets_one_grace(void **state)
{
	const uint64_t seen = 10000000000ull;
	uint64_t now = seen + ABI_BEAT_NS, grace;

	assert_int_equal(decide_beat(seen, now), DECIDE_BEAT_HERE);
	assert_int_equal(decide_beat(seen + 1000, seen), DECIDE_BEAT_HERE); /* of another CPU */
	assert_int_equal(decide_beat(0, now), DECIDE_BEAT_GONE);
	now++;
	assert_int_equal(decide_beat(seen, now), DECIDE_BEAT_LATE);
	grace = decide_beat_grace(now);
	assert_int_equal(decide_beat(grace, now), DECIDE_BEAT_HERE);
	assert_int_equal(decide_beat(grace, now + ABI_BEAT_GRACE_NS - 1), DECIDE_BEAT_HERE);
	assert_int_equal(decide_beat(grace, now + ABI_BEAT_GRACE_NS + 1), DECIDE_BEAT_GONE);
	assert_int_equal(decide_beat(grace, now + 1000 * ABI_BEAT_NS), DECIDE_BEAT_GONE);
}

static void records_have_a_place(void **state)
{
	struct abi_conn c = {.server_pod = 7};

	for (int arrived = 0; arrived < 2; arrived++) {
		uint32_t half = arrived ? ABI_HOLDS_ARRIVED : 0, *pod = arrived ? &c.server_pod : &c.client_pod;

		c.client_pod = 0;
		for (*pod = 1; *pod; *pod = *pod < UINT32_MAX / 5 ? *pod * 5 : 0) {
			uint32_t place = decide_place(&c);

			assert_in_range(place, half + 1, half + ABI_HOLDS_ARRIVED - 1);
			assert_int_equal(place, half + 1 + *pod % (ABI_HOLDS_ARRIVED - 1));
			assert_int_equal(decide_place_sum(place), half);
		}
	}
	assert_int_equal(2 * ABI_HOLDS_ARRIVED, ABI_MAX_HOLDS);
	c = (struct abi_conn){.client_pod = ABI_HOLDS_ARRIVED - 1, .server_pod = 1, .flags = ABI_CONN_DELIVERED};
	assert_int_equal(decide_place(&c), 1); /* of two pods here: whose it is, not where it goes */
}

static void a_greedy_pod_leaves_room(void **state)
{
	uint64_t held[4] = {0}, all = 0;
	bool more = true;

	while (decide_hold(all, 0, held[0], 0))
		held[0]++, all++;
	assert_int_equal(all, ABI_MAX_CONNS / 2);
	while (more) { /* three as greedy as that */
		more = false;
		for (unsigned i = 0; i < 3; i++) {
			if (!decide_hold(all, 0, held[i], 0))
				continue;
			more = true;
			held[i]++, all++;
		}
	}
	assert_true(ABI_MAX_CONNS - all >= ABI_MAX_CONNS / 8);
	assert_true(decide_hold(all, 0, held[3], 0));
	assert_false(decide_hold(ABI_MAX_CONNS, 0, 0, 0));
	assert_true(decide_hold((uint64_t)-1, 0, (uint64_t)-1, 0)); /* of two CPUs, one after the other */
	assert_true(decide_hold(0, (uint64_t)-1, (uint64_t)-1, 1));
}

static void who_comes_from_elsewhere_leaves_room(void **state)
{
	uint64_t held = 0, arrived = 0, opened = 0;

	while (decide_hold(0, arrived, held, 1)) /* all to one pod */
		held++, arrived++;
	assert_int_equal(arrived, ABI_MAX_CONNS / 4);
	assert_true(decide_hold(0, arrived, held, 0)); /* and more that the worker delivers to it */
	while (decide_hold(0, arrived, 0, 1)) /* and to as many pods as it likes */
		arrived++;
	assert_int_equal(arrived, ABI_MAX_CONNS / 2);
	while (decide_hold(opened, arrived, opened, 0)) /* what one of them opens itself */
		opened++;
	assert_int_equal(opened, ABI_MAX_CONNS / 4);
	assert_true(decide_hold(opened, arrived, 0, 0));
	assert_false(decide_hold(ABI_MAX_CONNS, 0, 0, 1)); /* what others hold is theirs */
}

static void an_affinity_lapses(void **state)
{
	const uint64_t used = 5000000000ull, day = 86400ull * 1000000000;

	assert_false(decide_lapsed(used, used, 1));
	assert_false(decide_lapsed(used, used + 1000000000, 1));
	assert_true(decide_lapsed(used, used + 1000000001, 1));
	assert_false(decide_lapsed(used, used + day, 86400));
	assert_true(decide_lapsed(used, used + day + 1, 86400));
	assert_false(decide_lapsed(used, used - 1, 10800)); /* by another CPU, while this one was looking */
	assert_false(decide_lapsed(used, used - 1000000, 1));
}

static void index_stays_below_count(void **state)
{
	(void)state;
	for (uint32_t count = 1; count < 5000; count += 7) {
		assert_int_equal(decide_index(0, count), 0);
		assert_int_equal(decide_index(UINT32_MAX, count), count - 1);
	}
}

int main(void)
{
	const char *given = getenv("WEFT_SEED");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_and_bounds_hold_at_random),
		cmocka_unit_test(conversation_is_spliced),
		cmocka_unit_test(bulk_is_left_to_tcp),
		cmocka_unit_test(sleeping_reader_holds_one_grant),
		cmocka_unit_test(small_stream_with_a_reader_that_keeps_up_is_spliced),
		cmocka_unit_test(after_a_stall_the_splice_comes_back),
		cmocka_unit_test(enter_table),
		cmocka_unit_test(what_tcp_carried_tells_a_conversation_from_bulk),
		cmocka_unit_test(who_leaves_often_stays_away_longer),
		cmocka_unit_test(who_stays_out_is_looked_at_seldom),
		cmocka_unit_test(what_needs_the_worker),
		cmocka_unit_test(a_late_beat_gets_one_grace),
		cmocka_unit_test(records_have_a_place),
		cmocka_unit_test(a_greedy_pod_leaves_room),
		cmocka_unit_test(who_comes_from_elsewhere_leaves_room),
		cmocka_unit_test(an_affinity_lapses),
		cmocka_unit_test(index_stays_below_count),
	};

	if (given)
		seed = strtoull(given, NULL, 10);
	printf("seed %llu (WEFT_SEED)\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
