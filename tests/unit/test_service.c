// SPDX-License-Identifier: Apache-2.0
/* Endpoints of a service port: which slice port, which endpoints. tests/bpf/test_service_spread.c has the shares. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "service.h"

static struct abi_addr v4(unsigned n)
{
	return (struct abi_addr){.byte = {[10] = 0xff, 0xff, 10, 0, 0, n}};
}

static void ports_of_slices(void **state)
{
	struct slice_endpoint e = {.addr = v4(1), .ready = true, .weight = 1};
	struct slice_port port[] = {{"http", 8080}, {"metrics", 9090}, {"", 7070}};
	struct object_slice slice = {.endpoint = &e, .endpoints = 1, .port = port, .ports = 3};
	static const struct {
		struct service_port port;
		uint16_t want; /* 0: the slice has no such port */
	} cases[] = {
		{{.name = "http", .port = 80, .target = 1234}, 8080}, /* the slice's number, not targetPort */
		{{.name = "metrics", .port = 81}, 9090},
		{{.name = "", .port = 82}, 7070},
		{{.name = "web", .port = 83, .target_name = "http"}, 8080},
		{{.name = "web", .port = 84, .target = 8080}, 0},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct service_picks p = {0};

		assert_int_equal(service_pick_slice(&p, &slice, &cases[i].port, false), cases[i].want != 0);
		assert_int_equal(p.count, cases[i].want ? 1 : 0);
		if (p.count)
			assert_int_equal(p.pick[0].port, cases[i].want);
		free(p.pick);
	}
}

static void families(void **state)
{
	struct slice_endpoint e = {.addr = v4(1), .ready = true, .weight = 1};
	struct slice_port port = {"", 8080};
	struct object_slice slice = {.endpoint = &e, .endpoints = 1, .port = &port, .ports = 1};
	struct service_port want = {.name = ""};
	struct service_picks p = {0};

	assert_true(service_pick_slice(&p, &slice, &want, true)); /* has the port, but nothing for this VIP */
	assert_int_equal(p.count, 0);
	slice.ipv6 = true; /* says IPv6 and carries IPv4 */
	assert_true(service_pick_slice(&p, &slice, &want, true));
	assert_int_equal(p.count, 0);
	free(p.pick);
}

struct life { /* r ready, s serving, t terminating, 0 weight 0 */
	const char *in;
	bool publish_not_ready;
	const char *want; /* numbers of the endpoints that are left */
};

static void who_takes_connections(void **state)
{
	static const struct life cases[] = {
		{"rs rs", false, "12"},
		{"rs s", false, "1"},
		{"rs st t", false, "1"},
		{"st t s", false, "1"}, /* nobody is ready: who serves while it ends */
		{"s t", false, ""},	/* serving but not terminating is merely not ready */
		{"- st", false, "2"},
		{"- -", false, ""},
		{"- t s", true, "123"},
		{"rs0 rs", false, "2"},
		{"rs0 st", false, ""}, /* weight 0 is a wish, not a failure: the dying are not asked */
		{"", false, ""},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct service_picks p = {0};
		char *in = mem_string(cases[i].in), *save = NULL, got[8] = "";
		unsigned n = 0;

		for (char *at = strtok_r(in, " ", &save); at; at = strtok_r(NULL, " ", &save))
			service_pick_add(&p, &(struct service_pick){.addr = v4(++n),
								    .port = 80,
								    .weight = strchr(at, '0') ? 0 : 1,
								    .ready = strchr(at, 'r'),
								    .serving = strchr(at, 's'),
								    .terminating = strchr(at, 't')});
		service_choose(&p, cases[i].publish_not_ready);
		for (unsigned k = 0; k < p.count; k++)
			got[k] = '0' + p.pick[k].addr.byte[15];
		assert_string_equal(got, cases[i].want);
		free(p.pick);
		free(in);
	}
}

/* One endpoint in two slices is one endpoint; two ports of one address are two. */
static void doubles(void **state)
{
	struct service_picks p = {0};

	service_pick_add(&p, &(struct service_pick){.addr = v4(2), .port = 80, .weight = 3, .terminating = true});
	service_pick_add(&p, &(struct service_pick){.addr = v4(1), .port = 81, .weight = 1, .ready = true});
	service_pick_add(&p, &(struct service_pick){.addr = v4(2), .port = 80, .weight = 1, .ready = true});
	service_pick_add(&p, &(struct service_pick){.addr = v4(1), .port = 80, .weight = 1, .ready = true});
	service_choose(&p, false);
	assert_int_equal(p.count, 3);
	assert_int_equal(p.pick[0].port, 80);
	assert_int_equal(p.pick[1].port, 81);
	assert_int_equal(p.pick[2].weight, 3);
	assert_false(p.pick[2].terminating);
	free(p.pick);
}

static void alias_of_none_and_one(void **state)
{
	struct service_pick one = {.addr = v4(1), .port = 80, .weight = 65535};
	struct abi_endpoint e;

	service_alias(NULL, 0, NULL);
	service_alias(&one, 1, &e);
	assert_int_equal(e.share, UINT32_MAX);
	assert_int_equal(e.alias, 0);
	assert_int_equal(e.weight, 65535);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_of_slices),
		cmocka_unit_test(families),
		cmocka_unit_test(who_takes_connections),
		cmocka_unit_test(doubles),
		cmocka_unit_test(alias_of_none_and_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
