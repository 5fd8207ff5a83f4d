// SPDX-License-Identifier: Apache-2.0
/* What a port of a Service speaks: the table of docs/services.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol.h"

static enum view_protocol of(const char *app, const char *name, uint16_t port)
{
	return protocol_of(&(struct service_port){.app_protocol = app, .name = name, .port = port});
}

static void test_names(void **state)
{
	static const struct {
		const char *app, *name;
		enum view_protocol want;
	} row[] = {
		{NULL, "", VIEW_DETECT},
		{NULL, "web", VIEW_DETECT},
		{NULL, "http", VIEW_HTTP},
		{NULL, "HTTP-api", VIEW_HTTP},
		{NULL, "http-", VIEW_HTTP},
		{NULL, "httpx", VIEW_DETECT},
		{NULL, "api-http", VIEW_DETECT},
		{NULL, "http2", VIEW_HTTP2},
		{NULL, "http2-x", VIEW_HTTP2},
		{NULL, "grpc", VIEW_HTTP2},
		{NULL, "grpc-api", VIEW_HTTP2},
		{NULL, "grpc-web", VIEW_HTTP},
		{NULL, "grpc-web-x", VIEW_HTTP},
		{NULL, "https", VIEW_TLS},
		{NULL, "tls-db", VIEW_TLS},
		{NULL, "tcp-x", VIEW_TCP},
		{NULL, "mysql", VIEW_TCP},
		{NULL, "mongo-0", VIEW_TCP},
		{NULL, "redis", VIEW_TCP},
		{NULL, "udp", VIEW_TCP},
		{NULL, "kubernetes.io/h2c", VIEW_DETECT}, /* no name can be that */
		{"kubernetes.io/h2c", "tcp", VIEW_HTTP2},
		{"kubernetes.io/ws", "", VIEW_HTTP},
		{"kubernetes.io/wss", "", VIEW_TLS},
		{"http", "tcp", VIEW_HTTP},
		{"Grpc", "", VIEW_HTTP2},
		{"grpc-web", "", VIEW_HTTP},
		{"HTTPS", "http", VIEW_TLS},
		{"example.com/own", "http", VIEW_DETECT},
		{"", "http", VIEW_DETECT},
	};

	for (size_t i = 0; i < array_size(row); i++)
		if (of(row[i].app, row[i].name, 80) != row[i].want)
			fail_msg("\"%s\" \"%s\": %s", row[i].app ? row[i].app : "-", row[i].name,
				 protocol_name(of(row[i].app, row[i].name, 80)));
}

/* Who waits for the client's first bytes there waits for ever: only a word to the contrary changes that. */
static void test_greeting(void **state)
{
	static const uint16_t first[] = {21, 22, 23, 25, 110, 119, 143, 587, 3306, 5900};

	for (size_t i = 0; i < array_size(first); i++) {
		assert_int_equal(of(NULL, "", first[i]), VIEW_TCP);
		assert_int_equal(of(NULL, "db", first[i]), VIEW_TCP);
		assert_int_equal(of(NULL, "http", first[i]), VIEW_HTTP);
		assert_int_equal(of("http2", "", first[i]), VIEW_HTTP2);
	}
	assert_int_equal(of(NULL, "", 5432), VIEW_DETECT); /* PostgreSQL, Redis: the client speaks first */
	assert_int_equal(of(NULL, "", 6379), VIEW_DETECT);
	assert_string_equal(protocol_name(VIEW_HTTP2), "http2");
	assert_string_equal(protocol_name(VIEW_DETECT), "detect");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_greeting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
