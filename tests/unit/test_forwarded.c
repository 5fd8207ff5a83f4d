/* SPDX-License-Identifier: Apache-2.0 */
/* What a client says of itself: kept, appended to, or taken out; ids of requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/proxy/filter.h"

static struct random dice = {{1, 2}};

static struct http_text text(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

static struct http_head *request(struct arena *a)
{
	struct http_head h = {.version = HTTP_1_1};

	return http_head_keep(a, &h, 24);
}

static void add(struct http_head *h, const char *name, const char *value)
{
	assert_true(http_field_add(h, text(name), text(value)));
}

static const char *value(struct arena *a, const struct http_head *h, const char *name)
{
	const struct http_field *f = http_field_named(h, text(name), NULL);

	if (!f)
		return NULL;
	assert_null(http_field_named(h, text(name), f));
	return arena_string(a, f->value.at, f->value.len);
}

static struct forwarded_hop hop(enum forwarded_trust trust, const char *client)
{
	struct forwarded_hop h = {.trust = trust, .random = &dice};

	if (client)
		assert_int_equal(addr_parse(client, &h.client), 0);
	return h;
}

static bool is_uuid4(const char *s)
{
	if (strlen(s) != 36 || s[14] != '4' || !strchr("89ab", s[19]))
		return false;
	for (unsigned i = 0; i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? s[i] != '-' : !strchr("0123456789abcdef", s[i]))
			return false;
	return true;
}

static void ids_are_made(void **state)
{
	const struct forwarded_hop pod = hop(FORWARDED_KEEP, NULL);
	const char *last = "";
	struct arena a = {0};

	for (unsigned i = 0; i < 1000; i++) {
		struct http_head *h = request(&a);
		struct http_text id = forwarded_apply(&a, h, &pod);

		assert_true(is_uuid4(value(&a, h, "x-request-id")));
		assert_true(http_text_equal(id, text(value(&a, h, "x-request-id"))));
		assert_string_not_equal(last, id.at);
		last = id.at;
	}
	arena_free(&a);
}

static void ids_are_kept_if_they_are_some(void **state)
{
	static const struct {
		const char *id;
		bool kept;
	} rows[] = {
		{"7", true},
		{"0f8fad5b-d9cb-469f-a165-70867728950e", true},
		{"Root=1-67891233-abcdef012345678912345678/x+y@z", true},
		{"", false},
		{"a b", false},
		{"a\"b", false},
		{"a\\b", false},
		{"a,b", false},
		{"a;b", false},
		{"<script>", false},
		{"a\tb", false},
		{"\xc3\xbc", false},
		{"0123456789012345678901234567890123456789012345678901234567890123"
		 "0123456789012345678901234567890123456789012345678901234567890123", true},
		{"0123456789012345678901234567890123456789012345678901234567890123"
		 "0123456789012345678901234567890123456789012345678901234567890123x", false},
	};
	const struct forwarded_hop pod = hop(FORWARDED_KEEP, NULL);

	for (size_t i = 0; i < array_size(rows); i++) {
		struct arena a = {0};
		struct http_head *h = request(&a);
		const char *got;

		add(h, "X-Request-Id", rows[i].id);
		forwarded_apply(&a, h, &pod);
		got = value(&a, h, "x-request-id");
		if (rows[i].kept)
			assert_string_equal(got, rows[i].id);
		else
			assert_true(is_uuid4(got));
		arena_free(&a);
	}
}

static void of_several_ids_the_first_good_one_stays(void **state)
{
	const struct forwarded_hop pod = hop(FORWARDED_KEEP, NULL);
	struct arena a = {0};
	struct http_head *h = request(&a);

	add(h, "x-request-id", "not one");
	add(h, "x-request-id", "first");
	add(h, "X-REQUEST-ID", "second");
	assert_true(http_text_equal(forwarded_apply(&a, h, &pod), text("first")));
	assert_string_equal(value(&a, h, "x-request-id"), "first");
	arena_free(&a);
}

static void nobody_says_who_he_is(void **state)
{
	static const char *const names[] = {"x-forwarded-client-cert", "X-Forwarded-Client-Cert", "l5d-client-id",
					    "L5D-Client-Id", "x-weft-source", "X-WEFT-", "x-weft-anything",
					    "X_Forwarded_Client_Cert", "x-forwarded_client-cert", "l5d_client_id",
					    "x_weft_source"};
	static const char *const others[] = {"x-weft", "x-wefty", "x_weft", "x-forwarded-client-certs",
					     "l5d-client", "l5d-ctx-deadline",
					     "x-envoy-max-retries", "traceparent", "tracestate",
					     "x-forwarded-for", "authorization", "x-b3-traceid", "baggage"};

	for (enum forwarded_trust t = FORWARDED_KEEP; t <= FORWARDED_APPEND; t++) {
		const struct forwarded_hop from = hop(t, "10.0.0.1");
		struct arena a = {0};
		struct http_head *h = request(&a);

		for (size_t i = 0; i < array_size(names); i++)
			add(h, names[i], "spiffe://a/ns/b/sa/c");
		forwarded_apply(&a, h, &from);
		assert_int_equal(h->fields, t == FORWARDED_KEEP ? 1 : 3);
		h = request(&a);
		for (size_t i = 0; i < array_size(others); i++)
			add(h, others[i], "v");
		forwarded_apply(&a, h, &from);
		for (size_t i = 0; i < array_size(others); i++)
			assert_non_null(value(&a, h, others[i]));
		arena_free(&a);
	}
}

/* A pod of the mesh: as it came, nothing is added. */
static void pods_are_passed_on(void **state)
{
	const struct forwarded_hop pod = hop(FORWARDED_KEEP, "10.0.0.1");
	struct arena a = {0};
	struct http_head *h = request(&a);

	add(h, "X-Forwarded-For", "1.2.3.4, 5.6.7.8");
	add(h, "forwarded", "for=1.2.3.4");
	add(h, "x-forwarded-proto", "https");
	add(h, "x-request-id", "7");
	forwarded_apply(&a, h, &pod);
	assert_int_equal(h->fields, 4);
	assert_string_equal(value(&a, h, "x-forwarded-for"), "1.2.3.4, 5.6.7.8");
	h = request(&a);
	forwarded_apply(&a, h, &pod);
	assert_int_equal(h->fields, 1);
	arena_free(&a);
}

static void a_front_appends(void **state)
{
	static const struct {
		const char *client, *had, *want, *forwarded, *want_forwarded;
		bool secure;
	} rows[] = {
		{"10.0.0.1", NULL, "10.0.0.1", NULL, NULL, false},
		{"10.0.0.1", "1.2.3.4", "1.2.3.4, 10.0.0.1", NULL, NULL, true},
		{"10.0.0.1", "", "10.0.0.1", NULL, NULL, true},
		{"fd00::1", "unknown", "unknown, fd00::1", "for=_x", "for=_x, for=\"[fd00::1]\";proto=https", true},
		{"10.0.0.1", NULL, "10.0.0.1", "for=a;by=b", "for=a;by=b, for=10.0.0.1;proto=http", false},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct forwarded_hop front = hop(FORWARDED_APPEND, rows[i].client);
		struct arena a = {0};
		struct http_head *h = request(&a);
		const struct http_field *f = NULL;
		const char *last = NULL;

		front.secure = rows[i].secure;
		if (rows[i].had)
			add(h, "x-forwarded-for", rows[i].had);
		if (rows[i].forwarded)
			add(h, "Forwarded", rows[i].forwarded);
		forwarded_apply(&a, h, &front);
		while ((f = http_field(h, HTTP_NAME_X_FORWARDED_FOR, f)))
			last = arena_string(&a, f->value.at, f->value.len);
		assert_string_equal(last, rows[i].want);
		assert_string_equal(value(&a, h, "x-forwarded-proto"), rows[i].secure ? "https" : "http");
		assert_true(text_equal(value(&a, h, "forwarded"), rows[i].want_forwarded));
		arena_free(&a);
	}
}

/* Several fields of one name are one list (RFC 9110 section 5.3): the last one is appended to. */
static void the_last_of_several_is_appended_to(void **state)
{
	const struct forwarded_hop front = hop(FORWARDED_APPEND, "10.0.0.1");
	struct arena a = {0};
	struct http_head *h = request(&a);

	add(h, "x-forwarded-for", "1.1.1.1");
	add(h, "x-forwarded-for", "2.2.2.2");
	forwarded_apply(&a, h, &front);
	assert_true(http_text_equal(h->field[0].value, text("1.1.1.1")));
	assert_true(http_text_equal(h->field[1].value, text("2.2.2.2, 10.0.0.1")));
	arena_free(&a);
}

static void an_edge_believes_nothing(void **state)
{
	struct forwarded_hop edge = hop(FORWARDED_REPLACE, "203.0.113.9");
	struct arena a = {0};
	struct http_head *h = request(&a);

	edge.secure = true;
	add(h, "x-forwarded-for", "127.0.0.1");
	add(h, "X-Forwarded-For", "10.0.0.1");
	add(h, "forwarded", "for=127.0.0.1");
	add(h, "x-forwarded-host", "evil");
	add(h, "x-forwarded-proto", "http");
	add(h, "X-Real-IP", "127.0.0.1");
	add(h, "X-Forwarded-Port", "22");
	add(h, "x-forwarded-user", "root");
	add(h, "X_Forwarded_For", "127.0.0.1");
	add(h, "x_real_ip", "127.0.0.1");
	add(h, "x-request-id", "7");
	add(h, "traceparent", "00-1-2-00");
	add(h, "x-forwarded", "for");
	forwarded_apply(&a, h, &edge);
	assert_int_equal(h->fields, 5);
	assert_string_equal(value(&a, h, "x-forwarded-for"), "203.0.113.9");
	assert_string_equal(value(&a, h, "x-forwarded-proto"), "https");
	assert_string_equal(value(&a, h, "traceparent"), "00-1-2-00");
	assert_true(is_uuid4(value(&a, h, "x-request-id")));
	arena_free(&a);
}

/* Apps that take trailers for fields of the head are told no more by them. */
static void trailers_say_no_more(void **state)
{
	struct arena a = {0};
	struct http_head *h = request(&a);
	const struct http_head *is;

	add(h, "x-sum", "17");
	add(h, "x-forwarded-for", "127.0.0.1");
	assert_ptr_equal(forwarded_trailers(&a, h, FORWARDED_KEEP), h);
	is = forwarded_trailers(&a, h, FORWARDED_REPLACE);
	assert_int_equal(is->fields, 1);
	assert_int_equal(h->fields, 2);
	h->field[1] = (struct http_field){0};
	h->fields = 1;
	add(h, "x-request-id", "7");
	assert_int_equal(forwarded_trailers(&a, h, FORWARDED_REPLACE)->fields, 1);
	assert_ptr_equal(forwarded_trailers(&a, h, FORWARDED_KEEP), h);
	h->fields = 1;
	add(h, "x-forwarded-for", "127.0.0.1");
	add(h, "X_Forwarded_Client_Cert", "URI=spiffe://a");
	add(h, "l5d-client-id", "a");
	is = forwarded_trailers(&a, h, FORWARDED_KEEP);
	assert_int_equal(is->fields, 2);
	assert_true(http_text_equal(is->field[0].name, text("x-sum")));
	assert_true(http_text_equal(is->field[1].name, text("x-forwarded-for")));
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_are_made),
		cmocka_unit_test(ids_are_kept_if_they_are_some),
		cmocka_unit_test(of_several_ids_the_first_good_one_stays),
		cmocka_unit_test(nobody_says_who_he_is),
		cmocka_unit_test(pods_are_passed_on),
		cmocka_unit_test(a_front_appends),
		cmocka_unit_test(the_last_of_several_is_appended_to),
		cmocka_unit_test(an_edge_believes_nothing),
		cmocka_unit_test(trailers_say_no_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
