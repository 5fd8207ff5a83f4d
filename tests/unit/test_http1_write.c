/* SPDX-License-Identifier: Apache-2.0 */
/* Heads as they are written: framing is the plan's, and nothing that stands in a field changes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/http/http1_parts.h"

#define T(s) HTTP_TEXT(s)
#define F(n, v) {.name = HTTP_TEXT(n), .value = HTTP_TEXT(v)}

static struct http_field field[] = {
	F("X-Kept", "1"),
	F("Transfer-Encoding", "chunked"),
	F("content-length", "7"),
	F("Connection", "x"),
	F("host", "evil"),
	F("upgrade", "h2c"),
	F("te", "x"),
	F("keep-alive", "x"),
	F("proxy-connection", "x"),
	F("http2-settings", "x"),
	F("x-split", "a\r\nContent-Length: 3"),
	F("x-nul", "a\0b"),
	F("x-lf", "a\nb"),
	F("x y", "space"),
	F("x:y", "colon"),
	F("x\r\ny", "line"),
	F("", "nameless"),
	F("x-Also", "a\tb"),
};

static const char *written(const struct http_head *h, const struct http1_plan *p, bool request)
{
	static char out[2048];
	size_t most = http1_head_size(h) + p->upgrade.len, len;
	char *to = malloc(most);

	len = request ? http1_write_request(h, p, to) : http1_write_answer(h, p, to);
	assert_true(len <= most);
	memcpy(out, to, len);
	out[len] = 0;
	free(to);
	return out;
}

static void fields(void **state)
{
	struct http_head h = {.status = 200, .field = field, .fields = array_size(field)};

	for (size_t i = 0; i < array_size(field); i++)
		field[i].id = http_name(field[i].name.at, field[i].name.len);
	assert_string_equal(written(&h, &(struct http1_plan){.framing = FRAME_LENGTH, .length = UINT64_MAX}, false),
			    "HTTP/1.1 200 OK\r\nX-Kept: 1\r\nx-Also: a\tb\r\n"
			    "Content-Length: 18446744073709551615\r\n\r\n");
	h = (struct http_head){
		.method_text = T("GET"),
		.authority = T("a:1"),
		.path = T("/x"),
		.field = field,
		.fields = array_size(field),
	};
	assert_string_equal(written(&h, &(struct http1_plan){.framing = FRAME_CHUNKED, .trailers = true}, true),
			    "GET /x HTTP/1.1\r\nHost: a:1\r\nX-Kept: 1\r\nx-Also: a\tb\r\n"
		 "Transfer-Encoding: chunked\r\n"
			    "TE: trailers\r\nConnection: TE\r\n\r\n");
}

static void plans(void **state)
{
	static const struct {
		struct http1_plan p;
		const char *say;
	} all[] = {
		{{.framing = FRAME_NONE}, ""},
		{{.framing = FRAME_NONE, .say_length = true}, "Content-Length: 0\r\n"},
		{{.framing = FRAME_LENGTH, .length = 10}, "Content-Length: 10\r\n"},
		{{.framing = FRAME_CHUNKED}, "Transfer-Encoding: chunked\r\n"},
		{{.framing = FRAME_TO_END, .close = true}, "Connection: close\r\n"},
		{{.framing = FRAME_LENGTH, .keep = true}, "Content-Length: 0\r\nConnection: keep-alive\r\n"},
		{{.framing = FRAME_TUNNEL, .upgrade = HTTP_TEXT("x")}, "Connection: Upgrade\r\nUpgrade: x\r\n"},
	};
	char want[256];

	for (size_t i = 0; i < array_size(all); i++) {
		snprintf(want, sizeof(want), "HTTP/1.1 299 \r\n%s\r\n", all[i].say);
		assert_string_equal(written(&(struct http_head){.status = 299}, &all[i].p, false), want);
	}
	assert_string_equal(written(&(struct http_head){.status = 404, .reason = T("a\r\nb: c")}, &all[0].p, false),
			    "HTTP/1.1 404 Not Found\r\n\r\n");
	assert_string_equal(written(&(struct http_head){.status = 404, .reason = T("Lost")}, &all[0].p, false),
			    "HTTP/1.1 404 Lost\r\n\r\n");
	assert_string_equal(written(&(struct http_head){.method = HTTP_CONNECT,
							.method_text = T("CONNECT"),
							.authority = T("b:80")},
				    &all[0].p, true),
			    "CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n");
}

static void trailers(void **state)
{
	char to[1024];
	size_t len;

	assert_true(http1_trailers_size(field, array_size(field)) < sizeof(to));
	len = http1_write_trailers(field, array_size(field), to);
	to[len] = 0;
	assert_string_equal(to, "0\r\nX-Kept: 1\r\nx-Also: a\tb\r\n\r\n");
}

static void refusals(void **state)
{
	char to[HTTP1_REFUSAL + 1], longest[400];

	to[http1_write_refusal(431, "http1: too many fields", true, to)] = 0;
	assert_string_equal(to, "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain\r\n"
				"Content-Length: 23\r\nConnection: close\r\n\r\nhttp1: too many fields\n");
	to[http1_write_refusal(400, "x", false, to)] = 0;
	assert_string_equal(to, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
				"Connection: close\r\n\r\n");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	assert_true(http1_write_refusal(431, longest, true, to) <= HTTP1_REFUSAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields),
		cmocka_unit_test(plans),
		cmocka_unit_test(trailers),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
