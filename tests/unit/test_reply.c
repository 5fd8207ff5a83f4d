/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of weft's own: status and body for HTTP, trailers-only for gRPC, nothing but a head for HEAD. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/proxy/filter.h"

#define NOW 784111777000 /* RFC 9110 section 5.6.7 */

static struct http_text text(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

static const char *value(struct arena *a, const struct http_head *h, const char *name)
{
	const struct http_field *f = http_field_named(h, text(name), NULL);

	if (!f)
		return NULL;
	assert_null(http_field_named(h, text(name), f));
	return arena_string(a, f->value.at, f->value.len);
}

static struct http_head *request(struct arena *a, enum http_method method, const char *type)
{
	struct http_head h = {.version = HTTP_2, .method = method}, *kept = http_head_keep(a, &h, 1);

	if (type)
		assert_true(http_field_add(kept, text("content-type"), text(type)));
	return kept;
}

static void an_answer_names_its_reason(void **state)
{
	struct arena a = {0};
	struct reply r = reply_make(&a, request(&a, HTTP_GET, NULL), 0, ABI_NO_ROUTE, NULL, NOW);

	assert_int_equal(r.head->status, 404);
	assert_int_equal(r.head->body, HTTP_LENGTH);
	assert_true(r.head->has_length);
	assert_int_equal(r.head->length, r.body.len);
	assert_true(text_starts(r.body.at, "weft: no_route: "));
	assert_int_equal(r.body.at[r.body.len - 1], '\n');
	assert_string_equal(value(&a, r.head, "content-type"), "text/plain");
	assert_string_equal(value(&a, r.head, "server"), "weft");
	assert_string_equal(value(&a, r.head, "date"), "Sun, 06 Nov 1994 08:49:37 GMT");
	assert_string_equal(value(&a, r.head, "proxy-status"),
			    "weft; error=destination_not_found; details=\"no_route\"");
	assert_null(value(&a, r.head, "content-length")); /* who writes it makes that */
	arena_free(&a);
}

static void what_is_said_in_its_place(void **state)
{
	struct arena a = {0};
	struct reply r = reply_make(&a, NULL, 414, ABI_MALFORMED, "the request line is too long", 0);

	assert_int_equal(r.head->status, 414);
	assert_string_equal(r.body.at, "weft: malformed: the request line is too long\n");
	assert_null(value(&a, r.head, "date"));
	arena_free(&a);
}

static void head_has_no_body_but_its_length(void **state)
{
	struct arena a = {0};
	struct reply get = reply_make(&a, request(&a, HTTP_GET, NULL), 0, ABI_NO_ENDPOINT, NULL, NOW);
	struct reply r = reply_make(&a, request(&a, HTTP_HEAD, NULL), 0, ABI_NO_ENDPOINT, NULL, NOW);

	assert_int_equal(r.head->status, 503);
	assert_int_equal(r.head->body, HTTP_NO_BODY);
	assert_int_equal(r.body.len, 0);
	assert_int_equal(r.head->length, get.head->length);
	arena_free(&a);
}

static void grpc_hears_a_status_of_its_own(void **state)
{
	static const struct {
		enum abi_reason reason;
		unsigned status;
		const char *grpc;
	} rows[] = {
		{ABI_NO_ROUTE, 0, "12"},
		{ABI_BAD_BACKEND, 0, "14"},
		{ABI_TIMEOUT, 0, "4"},
		{ABI_NO_ENDPOINT, 0, "14"},
		{ABI_UNREACHABLE, 0, "14"},
		{ABI_BAD_ANSWER, 0, "14"},
		{ABI_DENIED, 0, "7"},
		{ABI_PEER_REFUSED, 0, "7"},
		{ABI_MALFORMED, 0, "13"},
		{ABI_MALFORMED, 431, "2"},
		{ABI_DENIED, 401, "16"},
		{ABI_OVERLOADED, 429, "14"},
		{ABI_TIMEOUT, 500, "2"},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct arena a = {0};
		struct reply r = reply_make(&a, request(&a, HTTP_POST, "application/grpc+proto"), rows[i].status,
					    rows[i].reason, NULL, NOW);

		assert_int_equal(r.head->status, 200);
		assert_int_equal(r.head->body, HTTP_NO_BODY);
		assert_false(r.head->has_length);
		assert_int_equal(r.body.len, 0);
		assert_string_equal(value(&a, r.head, "content-type"), "application/grpc");
		assert_string_equal(value(&a, r.head, "grpc-status"), rows[i].grpc);
		assert_true(text_starts(value(&a, r.head, "grpc-message"), "weft: "));
		arena_free(&a);
	}
}

static void messages_of_grpc_are_escaped(void **state)
{
	struct arena a = {0};
	struct reply r = reply_make(&a, request(&a, HTTP_POST, "application/grpc"), 0, ABI_BAD_ANSWER,
				    "100% \x01", NOW);

	assert_string_equal(value(&a, r.head, "grpc-message"), "weft: bad_answer: 100%25 %01");
	arena_free(&a);
}

/* Every reason that refuses has a status that says so, whatever is added to the list later. */
static void no_reason_is_without_a_status(void **state)
{
	for (unsigned i = 0; i < ABI_REASON_MAX + 10; i++)
		assert_in_range(reply_status((enum abi_reason)i), 400, 504);
}

static void dates(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} rows[] = {
		{1, "Thu, 01 Jan 1970 00:00:00 GMT"},
		{951782400000, "Tue, 29 Feb 2000 00:00:00 GMT"},
		{253402300799999, "Fri, 31 Dec 9999 23:59:59 GMT"},
		{253402300800000, NULL},
		{INT64_MAX, NULL},
		{0, NULL},
		{-1, NULL},
	};
	struct arena a = {0};

	for (size_t i = 0; i < array_size(rows); i++) {
		const char *got = value(&a, reply_head(&a, NULL, 200, rows[i].ms), "date");

		assert_true(text_equal(got, rows[i].text));
	}
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_names_its_reason),
		cmocka_unit_test(what_is_said_in_its_place),
		cmocka_unit_test(head_has_no_body_but_its_length),
		cmocka_unit_test(grpc_hears_a_status_of_its_own),
		cmocka_unit_test(messages_of_grpc_are_escaped),
		cmocka_unit_test(no_reason_is_without_a_status),
		cmocka_unit_test(dates),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
