/* SPDX-License-Identifier: Apache-2.0 */
/* The log line of a request: its keys, and values that would like to be more than values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/proxy/filter.h"

static struct http_text text(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

static void a_whole_line(void **state)
{
	char buf[ACCESS_TEXT];
	struct abi_addr client, endpoint;
	struct access x = {
		.method = HTTP_TEXT("GET"),
		.authority = HTTP_TEXT("web.shop"),
		.path = HTTP_TEXT("/a?b=c"),
		.id = HTTP_TEXT("7"),
		.client_version = HTTP_1_1,
		.server_version = HTTP_2,
		.status = 200,
		.grpc_status = 14,
		.reason = ABI_NO_ENDPOINT,
		.why = "no endpoint is ready",
		.request_bytes = 12,
		.answer_bytes = UINT64_MAX,
		.total_ns = 1234567,
		.backend_ns = 1000,
		.route = "shop/canary",
		.rule = "first",
		.backend = "shop/web:80",
		.client = &client,
		.client_port = 40000,
		.endpoint = &endpoint,
		.endpoint_port = 8080,
		.source = "spiffe://cluster.local/ns/shop/sa/web",
		.tries = 2,
	};
	size_t len;

	assert_int_equal(addr_parse("10.0.0.1", &client), 0);
	assert_int_equal(addr_parse("fd00::2", &endpoint), 0);
	len = access_text(&x, buf);
	assert_string_equal(buf,
			    "method=\"GET\" authority=\"web.shop\" path=\"/a?b=c\" version=1.1 status=200 "
			    "grpc_status=14 reason=no_endpoint why=\"no endpoint is ready\" request_bytes=12 "
			    "answer_bytes=18446744073709551615 ms=1.234 backend_ms=0.001 "
			    "source=\"spiffe://cluster.local/ns/shop/sa/web\" client=10.0.0.1:40000 "
			    "route=\"shop/canary\" rule=\"first\" backend=\"shop/web:80\" endpoint=[fd00::2]:8080 "
			    "backend_version=2 tries=2 id=\"7\"");
	assert_int_equal(len, strlen(buf));
}

static void what_is_not_known_is_left_out(void **state)
{
	char buf[ACCESS_TEXT];
	struct access x = {.grpc_status = -1, .rule = "", .tries = 1};

	access_text(&x, buf);
	assert_string_equal(buf, "version=1.0 status=0 reason=none request_bytes=0 answer_bytes=0 ms=0.000");
}

/* A value does not end, the line does not either, whatever a client sends. */
static void values_stay_values(void **state)
{
	static const struct {
		const char *path, *want;
	} rows[] = {
		{"/a\" status=200 x=\"", "path=\"/a\\\" status=200 x=\\\"\""},
		{"/a\\", "path=\"/a\\\\\""},
		{"/a\r\nerror weftd: forged", "path=\"/a\\x0d\\x0aerror weftd: forged\""},
		{"\x1b[2J\x7f", "path=\"\\x1b[2J\\x7f\""},
		{"\xc2\x9b\xff", "path=\"\\xc2\\x9b\\xff\""},
		{"{\"a\":1}", "path=\"{\\\"a\\\":1}\""},
		{"%n%s", "path=\"%n%s\""},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		char buf[ACCESS_TEXT];
		struct access x = {.path = text(rows[i].path)};

		access_text(&x, buf);
		assert_true(text_starts(buf, rows[i].want));
		assert_int_equal(buf[strlen(rows[i].want)], ' ');
	}
}

/* The longest that there can be: nothing is lost but what was cut. */
static void long_values_are_cut(void **state)
{
	enum { LONG = 70000 };
	char *much = malloc(LONG + 1), *buf = malloc(ACCESS_TEXT);
	struct abi_addr addr;
	struct access x = {
		.client_version = HTTP_1_1,
		.status = 599,
		.reason = ABI_HANDSHAKE_FAILED,
		.request_bytes = UINT64_MAX,
		.answer_bytes = UINT64_MAX,
		.total_ns = UINT64_MAX,
		.backend_ns = UINT64_MAX,
		.client = &addr,
		.client_port = 65535,
		.endpoint = &addr,
		.endpoint_port = 65535,
		.tries = UINT32_MAX,
		.grpc_status = 16,
	};
	const char *path;
	size_t len;

	memset(&addr, 0xfe, sizeof(addr));
	memset(much, '\n', LONG);
	much[LONG] = 0;
	x.why = x.route = x.rule = x.backend = x.source = much;
	x.method = x.authority = x.path = x.id = (struct http_text){much, LONG};
	len = access_text(&x, buf);
	assert_in_range(len, 2300, ACCESS_TEXT - 1);
	assert_int_equal(strlen(buf), len);
	assert_string_equal(buf + len - 8, "\\x0a...\""); /* the id, which is the last one */
	path = strstr(buf, " path=\"");
	assert_non_null(path);
	assert_int_equal(strcspn(path + 7, "."), 256);
	free(buf);
	free(much);
}

/* Whatever bytes: printable, balanced quotes, bounded. */
static void random_values(void **state)
{
	srandom(35);
	for (unsigned turn = 0; turn < 5000; turn++) {
		char bytes[600], buf[ACCESS_TEXT];
		struct access x = {.path = {bytes, (size_t)random() % sizeof(bytes)}};
		unsigned quotes = 0;
		size_t len;

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = random() % 4 ? (char)random() : "\"\\\n "[random() % 4];
		x.id = x.path;
		len = access_text(&x, buf);
		for (size_t i = 0; i < len; i++) {
			assert_in_range((unsigned char)buf[i], 0x20, 0x7e);
			if (buf[i] == '\\')
				i++;
			else
				quotes += buf[i] == '"';
		}
		assert_int_equal(quotes, x.path.len ? 4 : 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_line),
		cmocka_unit_test(what_is_not_known_is_left_out),
		cmocka_unit_test(values_stay_values),
		cmocka_unit_test(long_values_are_cut),
		cmocka_unit_test(random_values),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
