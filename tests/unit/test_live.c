/* SPDX-License-Identifier: Apache-2.0 */
/* Live connections: joining with sockets against nested loops, bytes, and what a policy forbids (real map, root). */
#include "cpu.h"
#include "maps.h"
#include "scene.h"

#include "live.h"

static uint64_t seed = 12345;

static uint32_t draw(uint32_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33) % below;
}

static int conns_new(void)
{
	return map_new(BPF_MAP_TYPE_HASH, sizeof(struct abi_tuple), sizeof(struct abi_conn), 32768);
}

/* ------------------------------------------------------------------ bytes */

static void bytes_both_ends(void **state)
{
	struct abi_conn c = {.end = {{.spliced_bytes = 1000}, {.spliced_bytes = 2000}}};
	struct abi_live client = {.bytes_acked = 51, .bytes_received = 70},
			server = {.bytes_acked = 70, .bytes_received = 50};
	uint64_t sent, received;

	live_bytes(&c, &client, &server, &sent, &received);
	assert_int_equal(sent, 1050);
	assert_int_equal(received, 2070);
}

static void bytes_one_end(void **state)
{
	struct abi_conn c = {.end = {{.spliced_bytes = 7}, {.spliced_bytes = 9}}};
	struct abi_live client = {.bytes_acked = 51, .bytes_received = 70},
			server = {.bytes_acked = 70, .bytes_received = 50};
	uint64_t sent, received;

	/* the client alone: its SYN counts as a byte in bytes_acked */
	live_bytes(&c, &client, NULL, &sent, &received);
	assert_int_equal(sent, 57);
	assert_int_equal(received, 79);
	live_bytes(&c, NULL, &server, &sent, &received);
	assert_int_equal(sent, 57);
	assert_int_equal(received, 79);
	client.bytes_acked = 0;
	live_bytes(&c, &client, NULL, &sent, &received);
	assert_int_equal(sent, 7);
	live_bytes(&c, NULL, NULL, &sent, &received);
	assert_int_equal(sent, 7);
	assert_int_equal(received, 9);
}

/* ------------------------------------------------------------------ joining */

static void join_as_nested_loops(void **state)
{
	enum { CONNS = 300,
	       LIVES = 400 };
	struct abi_tuple *tuple = mem_alloc(CONNS * sizeof(*tuple));
	struct abi_conn *conn = mem_alloc(CONNS * sizeof(*conn));
	struct abi_live *live = mem_alloc(LIVES * sizeof(*live));
	struct live_row *row = mem_alloc(CONNS * sizeof(*row));

	for (unsigned i = 0; i < CONNS; i++) {
		tuple[i].src_port = (uint16_t)i;
		for (unsigned e = 0; e < 2; e++)
			conn[i].end[e].cookie = draw(3) ? 1 + draw(600) : 0;
	}
	for (unsigned i = 0; i < LIVES; i++)
		live[i] = (struct abi_live){
			.cookie = 1 + i, .bytes_received = draw(1000), .queue_bytes = draw(50)};
	live_join(tuple, conn, CONNS, live, LIVES, row);
	for (unsigned i = 0; i < CONNS; i++) {
		const struct abi_live *end[2] = {NULL, NULL};
		uint64_t sent, received;

		for (unsigned e = 0; e < 2; e++)
			for (unsigned k = 0; k < LIVES; k++)
				if (live[k].cookie == conn[i].end[e].cookie)
					end[e] = &live[k];
		live_bytes(&conn[i], end[0], end[1], &sent, &received);
		assert_int_equal(row[i].tuple.src_port, i);
		assert_int_equal(row[i].backed, end[0] || end[1]);
		assert_int_equal(row[i].sent, sent);
		assert_int_equal(row[i].received, received);
		assert_int_equal(row[i].queued[ABI_SERVER], end[1] ? end[1]->queue_bytes : 0);
	}
	free(tuple);
	free(conn);
	free(live);
	free(row);
}

static void join_of_nothing(void **state)
{
	live_join(NULL, NULL, 0, NULL, 0, NULL);
}

/* ------------------------------------------------------------------ policy */

static void put(int map, const char *src, const char *dst, uint16_t port, uint32_t number,
		const struct world *w)
{
	struct abi_tuple t = {.src = scene_addr(src),
			      .dst = scene_addr(dst),
			      .src_port = (uint16_t)(1024 + number),
			      .dst_port = port};
	const struct world_address *from = world_address(w, &t.src), *to = world_address(w, &t.dst);
	struct abi_conn c = {.conn = number, .established = 1};

	if (from && from->pod) {
		c.client_pod = from->pod->enrolled->number;
		c.client_netns = from->pod->enrolled->netns;
		c.source = from->pod->identity->number;
		c.end[ABI_CLIENT].cookie = 2 * number;
	}
	if (to && to->pod) {
		c.server_pod = to->pod->enrolled->number;
		c.server_netns = to->pod->enrolled->netns;
		c.end[ABI_SERVER].cookie = 2 * number + 1;
	}
	assert_int_equal(kernel_update(map, &t, &c), 0);
}

static const char allow_b[] = "apiVersion: security.istio.io/v1\n"
			      "kind: AuthorizationPolicy\n"
			      "metadata: {name: only-b, namespace: shop}\n"
			      "spec:\n"
			      "  selector: {matchLabels: {app: web}}\n"
			      "  rules:\n"
			      "  - from: [{source: {principals: [cluster.local/ns/shop/sa/b]}}]\n";

static void forbidden(void **state)
{
	struct scene s = scene_new();
	int map = conns_new();
	struct wire_destroy *list;
	unsigned count, conns;

	scene_enrol(s.world, 1, "shop/a", "a", "10.0.0.1,fd00::1", "");
	scene_enrol(s.world, 2, "shop/b", "b", "10.0.0.2,fd00::2", "");
	scene_enrol(s.world, 3, "shop/web", "web", "10.0.0.3,fd00::3", "app=web");
	world_update(s.world);
	put(map, "10.0.0.1", "10.0.0.3", 80, 1, s.world);
	put(map, "10.0.0.2", "10.0.0.3", 80, 2, s.world);
	put(map, "fd00::1", "fd00::3", 80, 3, s.world);
	put(map, "192.0.2.1", "10.0.0.3", 80, 4, s.world); /* from outside */
	put(map, "10.0.0.3", "10.0.0.1", 80, 5, s.world);
	put(map, "10.0.0.3", "192.0.2.1", 80, 6, s.world);
	assert_int_equal(live_forbidden(map, s.world, true, &list, &count, &conns), 0);
	assert_int_equal(conns, 0);
	assert_int_equal(count, 0);
	free(list);

	scene_yaml(s.store, allow_b);
	world_update(s.world);
	for (int both = 0; both < 2; both++) {
		assert_int_equal(live_forbidden(map, s.world, both, &list, &count, &conns), 0);
		assert_int_equal(conns, 3);		/* 1, 3 and 4 */
		assert_int_equal(count, both ? 5 : 3); /* the client of 4 is not here */
		for (unsigned i = 0; i < count; i++) {
			uint64_t number = list[i].cookie / 2;
			bool server = list[i].cookie & 1;

			assert_true(number == 1 || number == 3 || number == 4);
			assert_int_equal(list[i].ipv6_socket, number == 3);
			assert_int_equal(server ? list[i].local_port : list[i].remote_port, 80);
			assert_int_equal(list[i].netns, server ? 1003 : 1001);
			assert_true(server || both);
			assert_true(!i || list[i - 1].netns <= list[i].netns);
		}
		free(list);
	}
	close(map);
	scene_free(&s);
}

static void unseen_ends_are_left(void **state)
{
	struct scene s = scene_new();
	int map = conns_new();
	struct wire_destroy *list;
	struct abi_tuple t;
	struct abi_conn c;
	unsigned count, conns;

	scene_enrol(s.world, 1, "shop/a", "a", "10.0.0.1", "");
	scene_enrol(s.world, 3, "shop/web", "web", "10.0.0.3", "app=web");
	scene_yaml(s.store, allow_b);
	world_update(s.world);
	put(map, "10.0.0.1", "10.0.0.3", 80, 1, s.world);
	assert_int_equal(kernel_next(map, NULL, &t), 0);
	assert_int_equal(kernel_lookup(map, &t, &c), 0);
	c.end[ABI_SERVER].cookie = 0;
	assert_int_equal(kernel_update(map, &t, &c), 0);
	assert_int_equal(live_forbidden(map, s.world, false, &list, &count, &conns), 0);
	assert_int_equal(count, 1);
	assert_int_equal(list[0].cookie, 2);
	assert_true(addr_equal(&list[0].local, &t.src));
	free(list);
	close(map);
	scene_free(&s);
}

/* 10 000 connections are looked at in far less than the 100 ms in which all must be ended. */
static void many(void **state)
{
	struct scene s = scene_new();
	int map = conns_new();
	struct wire_destroy *list;
	unsigned count, conns;
	uint64_t took;

	scene_enrol(s.world, 1, "shop/a", "a", "10.0.0.1", "");
	scene_enrol(s.world, 3, "shop/web", "web", "10.0.0.3", "app=web");
	scene_yaml(s.store, allow_b);
	world_update(s.world);
	for (unsigned i = 0; i < 10000; i++)
		put(map, "10.0.0.1", "10.0.0.3", 80, 1 + i, s.world);
	took = cpu_ns();
	assert_int_equal(live_forbidden(map, s.world, false, &list, &count, &conns), 0);
	took = cpu_ns() - took;
	print_message("10000 connections judged in %llu us, with sanitizers\n",
		      (unsigned long long)took / 1000);
	assert_int_equal(conns, 10000);
	assert_int_equal(count, 10000);
	assert_true(took < 1000000000); /* a bound for a machine under load, not the target */
	free(list);
	close(map);
	scene_free(&s);
}

static void no_iterator(void **state)
{
	int map = conns_new();
	struct abi_tuple t = {.src_port = 1};
	struct abi_conn c = {.conn = 1};
	struct live_rows rows;
	struct wire_stale stale;

	assert_int_equal(kernel_update(map, &t, &c), 0);
	/* Without a look at the sockets no record may be called stale. */
	assert_int_equal(live_stale(map, -1, UINT64_MAX, &stale), 0);
	assert_int_equal(stale.count, 0);
	assert_int_equal(live_dump(map, -1, -1, &rows), 0);
	assert_int_equal(rows.count, 1);
	free(rows.row);
	assert_true(live_dump(map, -1, map, &rows) < 0); /* a map is not a link */
	close(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_both_ends),
		cmocka_unit_test(bytes_one_end),
		cmocka_unit_test(join_as_nested_loops),
		cmocka_unit_test(join_of_nothing),
		cmocka_unit_test(forbidden),
		cmocka_unit_test(unseen_ends_are_left),
		cmocka_unit_test(many),
		cmocka_unit_test(no_iterator),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
