// SPDX-License-Identifier: Apache-2.0
/* Handshakes without end: who makes room for whom. */
#include "scene.h"

#include "../../userspace/proxy/parts.h"

#define MOST 256 /* one place may have 4 before it pushes out itself */

struct one {
	struct list link;
	struct abi_addr from;
};

static const struct abi_addr *from(const struct list *l)
{
	return &container_of(l, struct one, link)->from;
}

static struct handshakes all;
static struct one one[MOST];

static void comes(const char *addr)
{
	struct one *o = &one[all.count++];

	o->from = scene_addr(addr);
	list_add(&all.all, &o->link);
}

/* Which one goes for him; -1: nobody. */
static int room(const char *addr)
{
	struct abi_addr a = scene_addr(addr);
	struct list *l = handshakes_room(&all, &a);

	return l ? (int)(container_of(l, struct one, link) - one) : -1;
}

static void begin(void)
{
	all = (struct handshakes){.most = MOST, .from = from};
	list_init(&all.all);
}

static void test_room(void **state)
{
	begin();
	assert_int_equal(room("10.0.0.1"), -1);
	while (all.count < MOST - 1)
		comes("10.0.0.1");
	assert_int_equal(room("10.0.0.1"), -1);
	comes("10.0.0.1");
	assert_int_equal(room("10.0.0.1"), 0);
}

static void test_in_great_number(void **state)
{
	begin();
	comes("10.0.0.1");
	for (unsigned i = 0; i < 3; i++)
		comes("10.0.0.3");
	while (all.count < MOST)
		comes("10.0.0.2");
	assert_int_equal(room("10.0.0.2"), 4);
	assert_int_equal(room("10.0.0.3"), 0); /* three are not many */
	assert_int_equal(room("10.0.0.9"), 0);
	list_del(&one[0].link);
	list_del(&one[1].link);
	list_del(&one[2].link);
	all.count -= 3;
	assert_int_equal(room("10.0.0.2"), -1);
}

static void test_places_of_ipv6(void **state)
{
	begin();
	comes("2001:db8:0:1::1");
	while (all.count < MOST) {
		comes("2001:db8:0:2::1");
		comes("2001:db8:0:2::2");
		comes("10.0.0.1");
	}
	assert_int_equal(room("2001:db8:0:2:ffff::9"), 1);
	assert_int_equal(room("10.0.0.1"), 3);
	assert_int_equal(room("10.0.0.2"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_in_great_number),
		cmocka_unit_test(test_places_of_ipv6),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
