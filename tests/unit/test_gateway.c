/* SPDX-License-Identifier: Apache-2.0 */
/* Host names of listeners and routes: what fits, what two have in common, and which one counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway.h"

static struct http_text text(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

static void names(void **state)
{
	static const struct {
		const char *name, *host;
		bool is;
	} rows[] = {
		{"", "", true},			       {"", "a.example", true},
		{"a.example", "a.example", true},      {"a.example", "b.a.example", false},
		{"a.example", "", false},	       {"*.example", "a.example", true},
		{"*.example", "b.a.example", true},    {"*.example", "example", false},
		{"*.example", ".example", false},      {"*.example", "aexample", false},
		{"*.a.example", "b.a.example", true},  {"*.a.example", "a.example", false},
	};

	for (size_t i = 0; i < array_size(rows); i++)
		if (gateway_name_is(rows[i].name, text(rows[i].host)) != rows[i].is)
			fail_msg("%s and %s", rows[i].name, rows[i].host);
}

static void in_common(void **state)
{
	static const struct {
		const char *a, *b, *both;
	} rows[] = {
		{"", "", ""},
		{"", "*.example", "*.example"},
		{"a.example", "", "a.example"},
		{"a.example", "a.example", "a.example"},
		{"a.example", "b.example", NULL},
		{"a.example", "*.example", "a.example"},
		{"b.a.example", "*.example", "b.a.example"},
		{"example", "*.example", NULL},
		{"*.example", "*.example", "*.example"},
		{"*.a.example", "*.example", "*.a.example"},
		{"*.aexample", "*.example", NULL},
		{"*.a.example", "*.b.example", NULL},
		{"*.a.example", "a.example", NULL},
		{"x.y", "*.very.long.example", NULL},
		{"*.long.name.example", "e.x", NULL},
	};

	for (size_t i = 0; i < array_size(rows); i++)
		for (unsigned turn = 0; turn < 2; turn++) {
			const char *a = turn ? rows[i].b : rows[i].a, *b = turn ? rows[i].a : rows[i].b;

			if (!text_equal(gateway_name_both(a, b), rows[i].both))
				fail_msg("%s and %s", a, b);
		}
}

static const char *chosen(const struct gateway *g, uint16_t port, const char *host)
{
	const struct gateway_listener *l = gateway_listener(g, port, text(host));

	return l ? l->name : NULL;
}

static void the_most_specific_listener(void **state)
{
	struct gateway_listener l[] = {
		{.name = "wide", .hostname = "*.example", .port = 443},
		{.name = "narrow", .hostname = "*.a.example", .port = 443},
		{.name = "exact", .hostname = "b.a.example", .port = 443},
		{.name = "any", .hostname = "", .port = 80},
	};
	const struct gateway g = {.listener = l, .listeners = array_size(l)};

	assert_string_equal(chosen(&g, 443, "b.a.example"), "exact");
	assert_string_equal(chosen(&g, 443, "c.a.example"), "narrow");
	assert_string_equal(chosen(&g, 443, "a.example"), "wide");
	assert_null(chosen(&g, 443, "other"));
	assert_null(chosen(&g, 443, ""));
	assert_string_equal(chosen(&g, 80, "other"), "any");
	assert_null(chosen(&g, 81, "other"));
}

static void the_most_specific_routes(void **state)
{
	static const char *const name[] = {"a.example", "*.a.example", "*.example", ""};
	struct gateway_host host[4] = {0};
	struct gateway_listener l = {0};
	char tables[4]; /* of which only the places are looked at */
	char longest[300];

	for (unsigned i = 0; i < 4; i++) {
		host[i].name = name[i];
		host[i].routes = (struct route_table *)&tables[i];
		table_add(&l.hosts, &host[i].link, table_hash(name[i], strlen(name[i])));
	}
	assert_ptr_equal(gateway_routes(&l, text("a.example")), &tables[0]);
	assert_ptr_equal(gateway_routes(&l, text("b.a.example")), &tables[1]);
	assert_ptr_equal(gateway_routes(&l, text("c.b.a.example")), &tables[1]);
	assert_ptr_equal(gateway_routes(&l, text("b.example")), &tables[2]);
	assert_ptr_equal(gateway_routes(&l, text("example")), &tables[3]);
	assert_ptr_equal(gateway_routes(&l, text("")), &tables[3]);
	memset(longest, 'a', sizeof(longest));
	for (size_t len = 250; len < sizeof(longest); len++)
		assert_ptr_equal(gateway_routes(&l, (struct http_text){longest, len}), &tables[3]);
	memcpy(longest + 247, ".example", 8);
	assert_ptr_equal(gateway_routes(&l, (struct http_text){longest, 255}), &tables[2]);
	table_del(&l.hosts, &host[3].link);
	assert_null(gateway_routes(&l, text("other")));
	table_free(&l.hosts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(in_common),
		cmocka_unit_test(the_most_specific_listener),
		cmocka_unit_test(the_most_specific_routes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
