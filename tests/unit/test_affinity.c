// SPDX-License-Identifier: Apache-2.0
/* A client keeps its endpoint while it is there, by the kernel's map. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "maps.h"
#include "pick.h"

#define ALL 8
#define SECOND 1000000000ull
#define NUMBER 7

static struct view_load load[ALL];
static struct view_endpoint endpoint[ALL];
static struct pick_memory memory;
static struct view_service service;
static struct abi_addr client[64];
static int map;

static void endpoints(unsigned from, unsigned count)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++)
		endpoint[from + i].upto = sum += endpoint[from + i].weight;
	service.endpoint = endpoint + from;
	service.endpoints = count;
}

static int fresh(void **state)
{
	map = map_make(BPF_MAP_TYPE_LRU_HASH, sizeof(struct abi_affinity_key), sizeof(struct abi_affinity), 4096, 0);
	memset(&memory, 0, sizeof(memory));
	service = (struct view_service){.even = true, .affinity_seconds = 100};
	for (unsigned i = 0; i < ALL; i++) {
		endpoint[i] = (struct view_endpoint){.port = 80, .weight = 1, .load = &load[i]};
		assert_int_equal(addr_parse("10.0.0.1", &endpoint[i].addr), 0);
		endpoint[i].addr.byte[15] = (uint8_t)(10 + i);
	}
	for (unsigned i = 0; i < array_size(client); i++) {
		assert_int_equal(addr_parse("10.1.0.0", &client[i]), 0);
		client[i].byte[15] = (uint8_t)i;
	}
	endpoints(0, 4);
	return 0;
}

static int done(void **state)
{
	return close(map);
}

static const struct view_endpoint *ask(unsigned who, uint64_t now_ns, uint32_t number, const struct view_load *tried)
{
	static uint64_t random;
	const struct pick_affinity of = {.map = map, .number = number, .client = &client[who]};
	const struct pick_question q = {.ipv4 = true,
					.memory = &memory,
					.now_ns = now_ns,
					.random = random++ * 977,
					.tried = {tried},
					.tries = tried != NULL};

	return pick_for(&of, &service, &q);
}

static void test_kept(void **state)
{
	const struct view_endpoint *first[array_size(client)];
	unsigned used[ALL] = {0};

	for (unsigned i = 0; i < array_size(client); i++) {
		first[i] = ask(i, SECOND, NUMBER, NULL);
		used[first[i] - endpoint]++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(used[i], 4, 28); /* of 64: clients are drawn, not their requests */
	endpoints(0, ALL); /* others come: nobody moves */
	for (unsigned n = 0; n < 10; n++)
		for (unsigned i = 0; i < array_size(client); i++)
			assert_ptr_equal(ask(i, (2 + 20 * n) * SECOND, NUMBER, NULL), first[i]);
	endpoints(1, ALL - 1); /* one goes: only its clients do, and stay where they are then */
	for (unsigned i = 0; i < array_size(client); i++) {
		const struct view_endpoint *now = ask(i, 190 * SECOND, NUMBER, NULL);

		assert_true(first[i] == &endpoint[0] ? now != first[i] : now == first[i]);
		assert_ptr_equal(ask(i, 191 * SECOND, NUMBER, NULL), now);
	}
}

static void test_forgotten(void **state)
{
	const struct view_endpoint *first = ask(0, SECOND, NUMBER, NULL);
	struct abi_affinity_key key = {.client = client[0], .service = NUMBER};
	struct abi_affinity a;
	unsigned moved = 0;

	assert_int_equal(kernel_lookup(map, &key, &a), 0);
	assert_true(addr_equal(&a.addr, &first->addr) && a.port == 80 && a.used_ns == SECOND);
	for (unsigned n = 1; n <= 64; n++)
		moved += ask(0, n * 200 * SECOND, NUMBER, NULL) != first;
	assert_in_range(moved, 24, 63);
	/* A Service that has no number, or does not ask for it. */
	for (unsigned n = moved = 0; n < 64; n++)
		moved += ask(1, SECOND, 0, NULL) != ask(1, SECOND, 0, NULL);
	assert_true(moved);
	service.affinity_seconds = 0;
	for (unsigned n = moved = 0; n < 64; n++)
		moved += ask(1, SECOND, NUMBER, NULL) != ask(1, SECOND, NUMBER, NULL);
	assert_true(moved);
}

/* Who cannot be reached is left, for the one that could. */
static void test_unreachable(void **state)
{
	const struct view_endpoint *first = ask(0, SECOND, NUMBER, NULL), *second;

	pick_failed(&memory, &first->addr, first->port, SECOND);
	second = ask(0, SECOND + 1, NUMBER, first->load);
	assert_true(second && second != first);
	for (unsigned n = 0; n < 20; n++)
		assert_ptr_equal(ask(0, (2 + 10 * n) * SECOND, NUMBER, NULL), second);
	endpoints(0, 0);
	assert_null(ask(0, 3 * SECOND, NUMBER, NULL));
}

/* What the kernel has bound holds for requests. */
static void test_of_the_kernel(void **state)
{
	struct abi_affinity_key key = {.client = client[5], .service = NUMBER};
	struct abi_affinity a = {.addr = endpoint[2].addr, .port = 80, .used_ns = SECOND, .index = 2}, now;

	assert_int_equal(kernel_create(map, &key, &a), 0);
	assert_int_equal(kernel_create(map, &key, &a), -EEXIST);
	for (unsigned n = 0; n < 20; n++)
		assert_ptr_equal(ask(5, 50 * SECOND, NUMBER, NULL), &endpoint[2]);
	assert_int_equal(kernel_lookup(map, &key, &now), 0);
	assert_true(now.used_ns == 50 * SECOND && now.index == 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept, fresh, done),
		cmocka_unit_test_setup_teardown(test_forgotten, fresh, done),
		cmocka_unit_test_setup_teardown(test_unreachable, fresh, done),
		cmocka_unit_test_setup_teardown(test_of_the_kernel, fresh, done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
