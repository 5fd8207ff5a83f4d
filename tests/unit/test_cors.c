/* SPDX-License-Identifier: Apache-2.0 */
/* Cross-origin requests: the table of GEP-1767, and origins that only look like allowed ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/proxy/filter.h"

static struct http_text text(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

static struct http_head *request(struct arena *a, enum http_method method, const char *origin, const char *asks_method,
				 const char *asks_headers)
{
	struct http_head h = {.method = method}, *kept = http_head_keep(a, &h, 4);

	if (origin)
		assert_true(http_field_add(kept, text("Origin"), text(origin)));
	if (asks_method)
		assert_true(http_field_add(kept, text("Access-Control-Request-Method"), text(asks_method)));
	if (asks_headers)
		assert_true(http_field_add(kept, text("Access-Control-Request-Headers"), text(asks_headers)));
	return kept;
}

static const char *value(struct arena *a, const struct cors *c, const char *name)
{
	const char *found = NULL;

	for (unsigned i = 0; i < c->fields; i++) {
		if (!http_text_equal_nocase(c->field[i].name, text(name)))
			continue;
		assert_null(found);
		found = arena_string(a, c->field[i].value.at, c->field[i].value.len);
	}
	return found;
}

static struct http_text origins[] = {
	HTTP_TEXT("https://www.foo.com"), HTTP_TEXT("https://*.bar.com"), HTTP_TEXT("http://a.b:8080"),
	HTTP_TEXT("https://port.com:443"),
};
static struct http_text everybody[] = {HTTP_TEXT("*")}, hosts[] = {HTTP_TEXT("https://*")};

static const struct route_filter listed = {
	.kind = FILTER_CORS,
	.cors = {.origin = origins,
		 .origins = array_size(origins),
		 .methods = HTTP_TEXT("GET, OPTIONS"),
		 .headers = HTTP_TEXT("x-header-1, x-header-2"),
		 .expose = HTTP_TEXT("x-header-3, x-header-4"),
		 .credentials = true,
		 .max_age_s = 3600},
};

static struct route_filter open_to(struct http_text *origin, bool credentials)
{
	return (struct route_filter){.kind = FILTER_CORS,
				     .cors = {.origin = origin,
					      .origins = 1,
					      .methods = HTTP_TEXT("*"),
					      .headers = HTTP_TEXT("*"),
					      .expose = HTTP_TEXT("*"),
					      .credentials = credentials,
					      .max_age_s = 5}};
}

static void origins_that_are_allowed(void **state)
{
	static const struct {
		const char *origin;
		bool good;
	} rows[] = {
		{"https://www.foo.com", true},
		{"HTTPS://WWW.FOO.COM", true},
		{"https://www.foo.com:443", true},
		{"https://www.foo.com:8443", false},
		{"http://www.foo.com", false},
		{"https://foo.com", false},
		{"https://www.foo.com.evil.com", false},
		{"https://www.foo.comx", false},
		{"https://www.foo.com/", false},
		{"https://www.foo.com:", false},
		{"https://www.foo.com@evil.com", false},
		{"https://www.bar.com", true},
		{"https://xpto.www.bar.com", true},
		{"https://bar.com", false},
		{"https://.bar.com", false},
		{"https://foobar.com", false},
		{"https://www.bar.com:444", false},
		{"http://a.b:8080", true},
		{"http://a.b", false},
		{"http://a.b:08080", false},
		{"https://port.com", true},
		{"null", false},
		{"", false},
		{"*", false},
		{"https", false},
		{"https:", false},
		{"https:/", false},
		{"https://", false},
		{"://www.foo.com", false},
		{"https://:443", false},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct arena a = {0};
		struct cors c;

		cors_judge(&a, &listed, request(&a, HTTP_GET, rows[i].origin, NULL, NULL), &c);
		assert_int_equal(c.allowed, rows[i].good);
		assert_false(c.preflight);
		assert_true(text_equal(value(&a, &c, "access-control-allow-origin"),
				       rows[i].good ? rows[i].origin : NULL));
		assert_string_equal(value(&a, &c, "vary"), "Origin");
		arena_free(&a);
	}
}

static void a_preflight(void **state)
{
	struct arena a = {0};
	struct cors c;

	cors_judge(&a, &listed,
		   request(&a, HTTP_OPTIONS, "https://www.foo.com", "GET", "x-header-1, x-header-2"), &c);
	assert_true(c.preflight && c.allowed);
	assert_string_equal(value(&a, &c, "access-control-allow-origin"), "https://www.foo.com");
	assert_string_equal(value(&a, &c, "access-control-allow-methods"), "GET, OPTIONS");
	assert_string_equal(value(&a, &c, "access-control-allow-headers"), "x-header-1, x-header-2");
	assert_string_equal(value(&a, &c, "access-control-expose-headers"), "x-header-3, x-header-4");
	assert_string_equal(value(&a, &c, "access-control-max-age"), "3600");
	assert_string_equal(value(&a, &c, "access-control-allow-credentials"), "true");
	assert_non_null(strstr(value(&a, &c, "vary"), "Access-Control-Request-Headers"));
	assert_true(c.fields <= CORS_FIELDS);

	cors_judge(&a, &listed, request(&a, HTTP_OPTIONS, "https://foobar.com", "GET", NULL), &c);
	assert_true(c.preflight && !c.allowed);
	assert_null(value(&a, &c, "access-control-allow-origin"));
	assert_null(value(&a, &c, "access-control-allow-methods"));

	/* OPTIONS that asks for nothing, and a GET that does, are requests as others */
	cors_judge(&a, &listed, request(&a, HTTP_OPTIONS, "https://www.foo.com", NULL, NULL), &c);
	assert_true(!c.preflight && c.allowed);
	cors_judge(&a, &listed, request(&a, HTTP_GET, "https://www.foo.com", "GET", "x-header-1"), &c);
	assert_true(!c.preflight && c.allowed);
	assert_null(value(&a, &c, "access-control-allow-methods"));
	cors_judge(&a, &listed, request(&a, HTTP_OPTIONS, NULL, "GET", NULL), &c);
	assert_true(!c.preflight && !c.allowed);
	arena_free(&a);
}

/* "*" is answered by what was asked for; with credentials never by "*". */
static void wildcards(void **state)
{
	for (int credentials = 0; credentials < 2; credentials++) {
		struct route_filter f = open_to(everybody, credentials);
		struct arena a = {0};
		struct cors c;

		cors_judge(&a, &f, request(&a, HTTP_OPTIONS, "https://foobar.com:12345", "PUT", "x-a, x-b"), &c);
		assert_true(c.preflight && c.allowed);
		assert_string_equal(value(&a, &c, "access-control-allow-origin"), "https://foobar.com:12345");
		assert_string_equal(value(&a, &c, "access-control-allow-methods"), "PUT");
		assert_string_equal(value(&a, &c, "access-control-allow-headers"), "x-a, x-b");
		assert_true(text_equal(value(&a, &c, "access-control-expose-headers"), credentials ? NULL : "*"));
		assert_true(text_equal(value(&a, &c, "access-control-allow-credentials"), credentials ? "true" : NULL));

		cors_judge(&a, &f, request(&a, HTTP_OPTIONS, "null", "PUT", NULL), &c);
		assert_true(c.allowed);
		assert_null(value(&a, &c, "access-control-allow-headers"));
		arena_free(&a);
	}
}

static void any_host_of_a_scheme(void **state)
{
	struct route_filter f = open_to(hosts, false);
	struct arena a = {0};
	struct cors c;

	cors_judge(&a, &f, request(&a, HTTP_GET, "https://x", NULL, NULL), &c);
	assert_true(c.allowed);
	cors_judge(&a, &f, request(&a, HTTP_GET, "http://x", NULL, NULL), &c);
	assert_false(c.allowed);
	arena_free(&a);
}

static void two_origins_are_none(void **state)
{
	struct arena a = {0};
	struct http_head *h = request(&a, HTTP_GET, "https://www.foo.com", NULL, NULL);
	struct cors c;

	assert_true(http_field_add(h, text("origin"), text("https://www.foo.com")));
	cors_judge(&a, &listed, h, &c);
	assert_false(c.allowed);
	arena_free(&a);
}

/* What a client asks for is not given back without end. */
static void long_lists_are_not_answered(void **state)
{
	struct route_filter f = open_to(everybody, false);
	struct arena a = {0};
	static char names[5001];
	struct cors c;

	memset(names, 'x', sizeof(names) - 1);
	cors_judge(&a, &f, request(&a, HTTP_OPTIONS, "https://x", "GET", names), &c);
	assert_true(c.allowed);
	assert_null(value(&a, &c, "access-control-allow-headers"));
	arena_free(&a);
}

static void lists_that_are_empty_are_not_sent(void **state)
{
	struct route_filter f = {.kind = FILTER_CORS, .cors = {.origin = everybody, .origins = 1}};
	struct arena a = {0};
	struct cors c;

	cors_judge(&a, &f, request(&a, HTTP_OPTIONS, "https://x", "GET", "a"), &c);
	assert_int_equal(c.fields, 2); /* vary, allow-origin */
	arena_free(&a);
}

static void names_that_the_route_has_the_say_of(void **state)
{
	assert_true(cors_is_own(text("Access-Control-Allow-Origin")));
	assert_true(cors_is_own(text("access-control-allow-credentials")));
	assert_true(cors_is_own(text("access-control-expose-headers")));
	assert_false(cors_is_own(text("access-control-allow-origins")));
	assert_false(cors_is_own(text("vary")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(origins_that_are_allowed),
		cmocka_unit_test(a_preflight),
		cmocka_unit_test(wildcards),
		cmocka_unit_test(any_host_of_a_scheme),
		cmocka_unit_test(two_origins_are_none),
		cmocka_unit_test(long_lists_are_not_answered),
		cmocka_unit_test(lists_that_are_empty_are_not_sent),
		cmocka_unit_test(names_that_the_route_has_the_say_of),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
