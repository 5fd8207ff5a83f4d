// SPDX-License-Identifier: Apache-2.0
/* Two are drawn, the one with less to do gets it: weights, load, families, and those that failed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "pick.h"

#define MANY 3000

static struct view_load load[MANY];
static struct view_endpoint endpoint[MANY];
static struct pick_memory memory;

/* As the view has it, after weights were set. */
static void weigh(struct view_service *s)
{
	uint64_t sum = 0;

	s->even = true;
	for (unsigned i = 0; i < s->endpoints; i++) {
		endpoint[i].upto = sum += endpoint[i].weight;
		s->even &= endpoint[i].weight == endpoint[0].weight;
	}
}

static struct view_service service(unsigned ipv4, unsigned ipv6)
{
	struct view_service s = {.endpoint = endpoint, .endpoints = ipv4 + ipv6};

	memset(load, 0, sizeof(load));
	memset(&memory, 0, sizeof(memory));
	for (unsigned i = 0; i < ipv4 + ipv6; i++) {
		endpoint[i] = (struct view_endpoint){.port = (uint16_t)(1000 + i), .weight = 1, .load = &load[i]};
		assert_int_equal(addr_parse(i < ipv4 ? "10.0.0.1" : "fd00::1", &endpoint[i].addr), 0);
	}
	weigh(&s);
	return s;
}

static const struct view_endpoint *one(const struct view_service *s, bool ipv4, uint64_t random)
{
	const struct pick_question q = {.ipv4 = ipv4, .memory = &memory, .now_ns = 1, .random = random * 977};

	return pick(s, &q);
}

static unsigned share(const struct view_service *s, unsigned which, unsigned draws)
{
	unsigned n = 0;

	for (unsigned i = 0; i < draws; i++)
		n += one(s, true, i) == &endpoint[which];
	return n;
}

static void test_families(void **state)
{
	struct view_service s = service(3, 2);

	for (unsigned i = 0; i < 200; i++) {
		assert_true(one(&s, true, i) < endpoint + 3);
		assert_true(one(&s, false, i) >= endpoint + 3);
	}
	s = service(0, 2);
	assert_null(one(&s, true, 1));
	s = service(2, 0);
	assert_null(one(&s, false, 1));
	s = service(0, 0);
	assert_null(one(&s, true, 1));
}

static void test_weights(void **state)
{
	struct view_service s = service(3, 0);
	unsigned n;

	n = share(&s, 1, 9000);
	assert_in_range(n, 2800, 3200);
	endpoint[0].weight = 7;
	endpoint[1].weight = 2;
	weigh(&s);
	n = share(&s, 0, 10000);
	assert_in_range(n, 6800, 7200);
	n = share(&s, 1, 10000);
	assert_in_range(n, 1850, 2150);
	/* One of no weight is never drawn; those of the other family take no part; however many there are. */
	s = service(MANY - 1, 1);
	for (unsigned i = 0; i < MANY - 1; i++)
		endpoint[i].weight = i % 3 ? 0 : i == 999 ? 9990 : 10;
	endpoint[MANY - 1].weight = 65535;
	weigh(&s);
	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal((one(&s, true, i) - endpoint) % 3, 0);
	n = share(&s, 999, 10000);
	assert_in_range(n, 4750, 5250);
	assert_ptr_equal(one(&s, false, 1), &endpoint[MANY - 1]);
}

/* Requests that stay: what is under way is as the weights are. */
static void test_load(void **state)
{
	struct view_service s = service(2, 0);

	endpoint[1].weight = 3;
	weigh(&s);
	for (unsigned i = 0; i < 4000; i++)
		pick_raise(one(&s, true, i)->load);
	assert_in_range(load[0].active, 900, 1100);
	for (unsigned i = 0; i < 4; i++)
		pick_lower(endpoint[0].load);
	s = service(10, 0);
	load[4].active = 1000;
	assert_int_equal(share(&s, 4, 1000), 0);
	/* never the busy one, however many there are */
	s = service(MANY, 0);
	load[7].active = 1000;
	assert_int_equal(share(&s, 7, 20000), 0);
}

static void test_failed(void **state)
{
	struct view_service s = service(4, 0);
	struct pick_question q = {.ipv4 = true, .memory = &memory, .now_ns = 100};

	for (unsigned i = 0; i < 3; i++)
		pick_failed(&memory, &endpoint[i].addr, endpoint[i].port, 100);
	for (q.random = 0; q.random < 200; q.random++)
		assert_ptr_equal(pick(&s, &q), &endpoint[3]);
	/* it was tried: those that failed lately are better than none */
	q.tried[q.tries++] = endpoint[3].load;
	for (q.random = 0; q.random < 200; q.random++)
		assert_true(pick(&s, &q) && pick(&s, &q) != &endpoint[3]);
	q.tries = 0;
	q.now_ns = 101 + PICK_AGO_NS;
	for (q.random = 0; pick(&s, &q) == &endpoint[3]; q.random++)
		assert_true(q.random < 200);
	s = service(1, 0);
	q.tried[0] = endpoint[0].load;
	q.tries = 1;
	assert_null(pick(&s, &q));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
