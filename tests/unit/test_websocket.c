/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake of WebSocket where the two sides speak different versions of HTTP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "http.h"

#define SAMPLE_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define SAMPLE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static const uint8_t nonce[16] = "the sample nonce"; /* of RFC 6455 section 1.3 */

static struct http_text text(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

static struct http_head *head(struct arena *a, enum http_version version, bool upgrade)
{
	struct http_head h = {.version = version, .method = HTTP_GET, .path = HTTP_TEXT("/chat")};

	if (upgrade)
		h.upgrade = text("WebSocket");
	return http_head_keep(a, &h, 4);
}

static struct http_head *answer(struct arena *a, unsigned status, const char *accept)
{
	struct http_head h = {.status = (uint16_t)status, .version = HTTP_1_1}, *kept = http_head_keep(a, &h, 3);

	if (accept)
		assert_true(http_field_add(kept, text("Sec-WebSocket-Accept"), text(accept)));
	return kept;
}

static void add(struct http_head *h, const char *name, const char *value)
{
	assert_true(http_field_add(h, text(name), text(value)));
}

static void accept_of_the_rfc(void **state)
{
	char accept[29];

	websocket_accept(text(SAMPLE_KEY), accept);
	assert_string_equal(accept, SAMPLE_ACCEPT);
	websocket_accept(text("x3JJHMbDL1EzLkh9GBhXDw=="), accept);
	assert_string_equal(accept, "HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
	websocket_accept(text("short"), accept);
	assert_int_equal(strlen(accept), 28);
}

static void http1_client_and_http2_server(void **state)
{
	struct arena a = {0};
	struct http_head *h = head(&a, HTTP_1_1, true), *r = answer(&a, 101, NULL);
	const struct http_field *f;
	struct websocket w;

	add(h, "Sec-WebSocket-Version", "13");
	add(h, "Sec-WebSocket-Key", SAMPLE_KEY);
	assert_null(websocket_request(&a, h, HTTP_2, nonce, &w));
	assert_null(http_field(h, HTTP_NAME_SEC_WEBSOCKET_KEY, NULL));
	assert_int_equal(h->fields, 1);
	assert_null(websocket_answer(&w, r));
	f = http_field(r, HTTP_NAME_SEC_WEBSOCKET_ACCEPT, NULL);
	assert_non_null(f);
	assert_true(http_text_equal(f->value, text(SAMPLE_ACCEPT)));
	arena_free(&a);
}

static void http2_client_and_http1_server(void **state)
{
	static const struct {
		const char *accept;
		bool good;
	} rows[] = {
		{SAMPLE_ACCEPT, true},
		{NULL, false},
		{"", false},
		{"s3pPLMBiTxaQ9kYGzzhZRbK+xOO=", false},
		{"s3pplmbitxaq9kygzzhzrbk+xoo=", false},
		{SAMPLE_ACCEPT " ", false},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct arena a = {0};
		struct http_head *h = head(&a, HTTP_2, true), *r = answer(&a, 101, rows[i].accept);
		const struct http_field *f;
		struct websocket w;

		add(h, "sec-websocket-key", "not one at all"); /* RFC 8441: ignored */
		assert_null(websocket_request(&a, h, HTTP_1_1, nonce, &w));
		f = http_field(h, HTTP_NAME_SEC_WEBSOCKET_KEY, NULL);
		assert_non_null(f);
		assert_true(http_text_equal(f->value, text(SAMPLE_KEY)));
		assert_null(http_field(h, HTTP_NAME_SEC_WEBSOCKET_KEY, f));
		assert_int_equal(websocket_answer(&w, r) == NULL, rows[i].good);
		if (rows[i].good)
			assert_null(http_field(r, HTTP_NAME_SEC_WEBSOCKET_ACCEPT, NULL));
		arena_free(&a);
	}
}

static void two_accepts_are_none(void **state)
{
	struct arena a = {0};
	struct http_head *h = head(&a, HTTP_2, true), *r = answer(&a, 101, SAMPLE_ACCEPT);
	struct websocket w;

	assert_null(websocket_request(&a, h, HTTP_1_1, nonce, &w));
	add(r, "sec-websocket-accept", SAMPLE_ACCEPT);
	assert_non_null(websocket_answer(&w, r));
	arena_free(&a);
}

/* What refuses the upgrade goes on as it is; what was sent by one version is not looked at. */
static void all_others_are_left_alone(void **state)
{
	struct arena a = {0};
	struct http_head *h = head(&a, HTTP_2, true), *r = answer(&a, 404, "x");
	struct websocket w;

	assert_null(websocket_request(&a, h, HTTP_1_1, nonce, &w));
	assert_null(websocket_answer(&w, r));
	assert_int_equal(r->fields, 1);

	h = head(&a, HTTP_1_1, true);
	add(h, "sec-websocket-key", "odd");
	assert_null(websocket_request(&a, h, HTTP_1_1, nonce, &w));
	assert_int_equal(h->fields, 1);
	r = answer(&a, 101, "odd");
	assert_null(websocket_answer(&w, r));
	assert_int_equal(r->fields, 1);

	h = head(&a, HTTP_1_1, false);
	add(h, "sec-websocket-key", "odd");
	assert_null(websocket_request(&a, h, HTTP_2, nonce, &w));
	assert_int_equal(h->fields, 1);
	arena_free(&a);
}

static void keys_that_are_none(void **state)
{
	static const char *const keys[] = {
		"", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZR==",
		"dGhlIHNhbXBsZSBub25j!Q==", "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25=ZQ==",
	};
	struct arena a = {0};
	struct http_head *h = head(&a, HTTP_1_1, true);
	struct websocket w;

	assert_non_null(websocket_request(&a, h, HTTP_2, nonce, &w));
	for (size_t i = 0; i < array_size(keys); i++) {
		h = head(&a, HTTP_1_1, true);
		add(h, "sec-websocket-key", keys[i]);
		assert_non_null(websocket_request(&a, h, HTTP_2, nonce, &w));
	}
	h = head(&a, HTTP_1_1, true);
	add(h, "sec-websocket-key", SAMPLE_KEY);
	add(h, "sec-websocket-key", SAMPLE_KEY);
	assert_non_null(websocket_request(&a, h, HTTP_2, nonce, &w));
	arena_free(&a);
}

static void no_room_is_an_error(void **state)
{
	struct arena a = {0};
	struct http_head request = {.version = HTTP_2, .upgrade = HTTP_TEXT("websocket")};
	struct http_head late = {.version = HTTP_2, .status = 101};
	struct http_head *h = http_head_keep(&a, &request, 0);
	struct websocket w;

	assert_non_null(websocket_request(&a, h, HTTP_1_1, nonce, &w));
	h = head(&a, HTTP_1_1, true);
	add(h, "sec-websocket-key", SAMPLE_KEY);
	assert_null(websocket_request(&a, h, HTTP_2, nonce, &w));
	assert_non_null(websocket_answer(&w, http_head_keep(&a, &late, 0)));
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accept_of_the_rfc),
		cmocka_unit_test(http1_client_and_http2_server),
		cmocka_unit_test(http2_client_and_http1_server),
		cmocka_unit_test(two_accepts_are_none),
		cmocka_unit_test(all_others_are_left_alone),
		cmocka_unit_test(keys_that_are_none),
		cmocka_unit_test(no_room_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
