/* SPDX-License-Identifier: Apache-2.0 */
/* Records that no socket backs: what goes of what a worker may say; it cannot do it itself (real maps, root). */
#include <stdlib.h>

#include "maps.h"
#include "sweep.h"

#define NOW_NS 100000000000ull

struct scene {
	int conns, pairs;
	uint64_t holds[ABI_MAX_HOLDS];
	struct wire_stale *stale;
	struct abi_live live;
	struct backing backing;
};

static void begin(struct scene *s)
{
	*s = (struct scene){.stale = mem_alloc(sizeof(*s->stale)), .live.cookie = 77};
	s->conns = map_new(BPF_MAP_TYPE_HASH, sizeof(struct abi_tuple), sizeof(struct abi_conn), 64);
	s->pairs = map_new(BPF_MAP_TYPE_ARRAY, sizeof(uint32_t), sizeof(struct abi_pair), 8);
	backing_open(&s->backing, &s->live, 1);
}

static void end(struct scene *s)
{
	backing_close(&s->backing);
	free(s->stale);
	close(s->conns);
	close(s->pairs);
}

static struct abi_tuple tuple(uint16_t port)
{
	return (struct abi_tuple){.src_port = port, .dst_port = 80};
}

static void put(const struct scene *s, uint16_t port, const struct abi_conn *c)
{
	struct abi_tuple t = tuple(port);

	assert_int_equal(kernel_update(s->conns, &t, c), 0);
}

static bool there(const struct scene *s, uint16_t port)
{
	struct abi_tuple t = tuple(port);
	struct abi_conn c;

	return !kernel_lookup(s->conns, &t, &c);
}

static void say(struct scene *s, uint16_t port, uint32_t conn)
{
	s->stale->item[s->stale->count++] = (struct wire_stale_one){.tuple = tuple(port), .conn = conn};
}

static unsigned swept(struct scene *s)
{
	const struct sweep_maps m = {.conns = s->conns, .pairs = s->pairs, .holds = s->holds};

	return sweep_backed(&m, s->stale, &s->backing, NOW_NS);
}

static void only_what_no_socket_backs_goes(void **state)
{
	struct scene s;

	begin(&s);
	put(&s, 1, &(struct abi_conn){.conn = 1, .end = {{.cookie = 5}, {.cookie = 6}}});
	put(&s, 2, &(struct abi_conn){.conn = 2, .end = {{.cookie = 77}, {.cookie = 6}}}); /* its client lives */
	put(&s, 3, &(struct abi_conn){.conn = 3, .end = {{.cookie = 5}, {.cookie = 77}}}); /* its server does */
	put(&s, 4, &(struct abi_conn){.conn = 4, .opened_ns = NOW_NS - BACKING_OLD_NS});   /* is in the making */
	put(&s, 5, &(struct abi_conn){.conn = 50});					   /* another by now */
	for (uint16_t i = 1; i <= 5; i++)
		say(&s, i, i);
	say(&s, 6, 6); /* went by itself */
	assert_int_equal(swept(&s), 1);
	assert_false(there(&s, 1));
	for (uint16_t i = 2; i <= 5; i++)
		assert_true(there(&s, i));
	end(&s);
}

static void its_pair_is_given_back_and_no_other(void **state)
{
	struct abi_conn c = {.conn = 1, .stage = ABI_STAGE_IN, .slot = 3};
	struct abi_pair p = {.conn = 1};
	uint32_t slot = 3;
	struct scene s;

	begin(&s);
	assert_int_equal(kernel_update(s.pairs, &slot, &p), 0);
	slot = 4;
	p.conn = 9;
	assert_int_equal(kernel_update(s.pairs, &slot, &p), 0);
	put(&s, 1, &c);
	c = (struct abi_conn){.conn = 2, .stage = ABI_STAGE_IN, .slot = 4}; /* which is another's by now */
	put(&s, 2, &c);
	say(&s, 1, 1);
	say(&s, 2, 2);
	assert_int_equal(swept(&s), 2);
	slot = 3;
	assert_int_equal(kernel_lookup(s.pairs, &slot, &p), 0);
	assert_int_equal(p.conn, 0);
	assert_true(p.leaving_ns);
	slot = 4;
	assert_int_equal(kernel_lookup(s.pairs, &slot, &p), 0);
	assert_int_equal(p.conn, 9);
	end(&s);
}

static void its_pod_holds_one_less(void **state)
{
	struct scene s;

	begin(&s);
	s.holds[0] = 5;
	s.holds[7] = 3;
	s.holds[ABI_HOLDS_ARRIVED] = 2;
	s.holds[ABI_HOLDS_ARRIVED + 7] = 2;
	put(&s, 1, &(struct abi_conn){.conn = 1, .holder = 7});
	put(&s, 2, &(struct abi_conn){.conn = 2, .holder = 7, .end = {{.cookie = 77}}}); /* lives */
	put(&s, 3, &(struct abi_conn){.conn = 3, .holder = 0});
	put(&s, 4, &(struct abi_conn){.conn = 4, .holder = ABI_MAX_HOLDS});
	put(&s, 5, &(struct abi_conn){.conn = 5, .holder = ABI_HOLDS_ARRIVED + 7});
	for (uint16_t i = 1; i <= 5; i++)
		say(&s, i, i);
	assert_int_equal(swept(&s), 4);
	assert_int_equal(s.holds[0], 4);
	assert_int_equal(s.holds[7], 2);
	assert_int_equal(s.holds[ABI_HOLDS_ARRIVED], 1);
	assert_int_equal(s.holds[ABI_HOLDS_ARRIVED + 7], 1);
	end(&s);
}

static void a_count_that_lies_reads_nothing_behind(void **state)
{
	struct scene s;

	begin(&s);
	s.stale->count = UINT32_MAX;
	assert_int_equal(swept(&s), 0);
	end(&s);
}

static void looks_get_their_share_and_no_more(void **state)
{
	struct sweeps past = {0};

	assert_true(sweeps_due(&past, NOW_NS)); /* none yet */
	past = (struct sweeps){.looked_ns = NOW_NS, .cost_ns = 1000};
	assert_false(sweeps_due(&past, NOW_NS));
	assert_false(sweeps_due(&past, NOW_NS + SWEEP_SHARE * 1000 - 1));
	assert_true(sweeps_due(&past, NOW_NS + SWEEP_SHARE * 1000));
}

/* As the worker has `conns` and `pairs` (proc/loader.c). */
static int read_only(int map)
{
	struct bpf_map_info info = {0};
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (uint32_t)map;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uint64_t)(uintptr_t)&info;
	assert_int_equal(syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)), 0);
	memset(&attr, 0, sizeof(attr));
	attr.map_id = info.id;
	attr.open_flags = BPF_F_RDONLY;
	return (int)syscall(SYS_bpf, BPF_MAP_GET_FD_BY_ID, &attr, sizeof(attr));
}

static void by_an_fd_that_reads_nothing_is_written(void **state)
{
	struct abi_tuple t = tuple(1);
	struct abi_conn c = {.conn = 1};
	struct abi_pair p = {.conn = 1};
	uint32_t slot = 0;
	struct scene s;
	int conns, pairs;
	unsigned count;
	void *keys, *values;

	begin(&s);
	put(&s, 1, &c);
	conns = read_only(s.conns);
	pairs = read_only(s.pairs);
	assert_true(conns >= 0 && pairs >= 0);
	assert_int_equal(kernel_update(conns, &t, &c), -EPERM);
	assert_int_equal(kernel_create(conns, &t, &c), -EPERM);
	assert_int_equal(kernel_update_batch(conns, &t, &c, 1, sizeof(t), sizeof(c)), -EPERM);
	assert_int_equal(kernel_delete(conns, &t), -EPERM);
	assert_int_equal(kernel_delete_batch(conns, &t, 1, sizeof(t)), -EPERM);
	assert_int_equal(kernel_update(pairs, &slot, &p), -EPERM);
	assert_int_equal(kernel_lookup(pairs, &slot, &p), 0);
	assert_int_equal(kernel_dump(conns, sizeof(t), sizeof(c), &keys, &values, &count), 0);
	assert_int_equal(count, 1);
	free(keys);
	free(values);
	close(conns);
	close(pairs);
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_no_socket_backs_goes),
		cmocka_unit_test(its_pair_is_given_back_and_no_other),
		cmocka_unit_test(its_pod_holds_one_less),
		cmocka_unit_test(a_count_that_lies_reads_nothing_behind),
		cmocka_unit_test(looks_get_their_share_and_no_more),
		cmocka_unit_test(by_an_fd_that_reads_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
