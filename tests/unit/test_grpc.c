/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's tables against its documents; timeouts there and back; messages that are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "grpc.h"

static struct http_text text(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

/* A copy that ends at an unreadable page. */
static struct http_text fenced(const char *s)
{
	static char *page;
	size_t size = (size_t)sysconf(_SC_PAGESIZE), len = strlen(s);

	if (!page) {
		page = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(page, MAP_FAILED);
		assert_int_equal(mprotect(page + size, size, PROT_NONE), 0);
	}
	memcpy(page + size - len, s, len);
	return (struct http_text){page + size - len, len};
}

static void statuses_have_their_names(void **state)
{
	assert_string_equal(grpc_status_name(0), "OK");
	assert_string_equal(grpc_status_name(4), "DEADLINE_EXCEEDED");
	assert_string_equal(grpc_status_name(12), "UNIMPLEMENTED");
	assert_string_equal(grpc_status_name(13), "INTERNAL");
	assert_string_equal(grpc_status_name(14), "UNAVAILABLE");
	assert_string_equal(grpc_status_name(16), "UNAUTHENTICATED");
	assert_string_equal(grpc_status_name(17), "");
	assert_string_equal(grpc_status_name(UINT32_MAX), "");
	for (unsigned i = 0; i < GRPC_STATUS_COUNT; i++)
		assert_true(*grpc_status_name(i));
}

static void a_status_is_a_number_of_grpc(void **state)
{
	static const struct {
		const char *text;
		int status;
	} rows[] = {
		{"0", 0}, {"5", 5}, {"16", 16}, {"00", 0}, {"17", -1}, {"99", -1}, {"", -1},
		{"1x", -1}, {"-1", -1}, {" 1", -1}, {"001", -1}, {"4294967296", -1},
	};

	for (size_t i = 0; i < array_size(rows); i++)
		assert_int_equal(grpc_status_parse(fenced(rows[i].text)), rows[i].status);
}

/* grpc/doc/http-grpc-status-mapping.md, whole */
static void what_http_means(void **state)
{
	for (unsigned s = 0; s < 700; s++) {
		enum grpc_status want = GRPC_UNKNOWN;

		if (s == 400)
			want = GRPC_INTERNAL;
		if (s == 401)
			want = GRPC_UNAUTHENTICATED;
		if (s == 403)
			want = GRPC_PERMISSION_DENIED;
		if (s == 404)
			want = GRPC_UNIMPLEMENTED;
		if (s == 429 || (s >= 502 && s <= 504))
			want = GRPC_UNAVAILABLE;
		assert_int_equal(grpc_status_of_http(s), want);
	}
}

static void timeouts(void **state)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t ns;
	} rows[] = {
		{"1n", true, 1},
		{"0n", true, 0},
		{"0S", true, 0},
		{"1u", true, 1000},
		{"1m", true, 1000000},
		{"100m", true, 100000000},
		{"1S", true, 1000000000},
		{"1M", true, 60000000000},
		{"1H", true, 3600000000000},
		{"00000001S", true, 1000000000},
		{"99999999n", true, 99999999},
		{"99999999S", true, GRPC_TIMEOUT_MOST}, /* three years */
		{"99999999M", true, GRPC_TIMEOUT_MOST},
		{"99999999H", true, GRPC_TIMEOUT_MOST}, /* 2^64 ns is less */
		{"2400H", true, GRPC_TIMEOUT_MOST},
		{"2399H", true, 2399ull * 3600000000000},
		/* junk */
		{"", false, 0},
		{"S", false, 0},
		{"1", false, 0},
		{"123456789S", false, 0}, /* nine digits */
		{"000000001S", false, 0},
		{"99999999999999999999999H", false, 0},
		{"-1S", false, 0},
		{"+1S", false, 0},
		{"1.5S", false, 0},
		{"1s", false, 0},
		{"1h", false, 0},
		{"1ms", false, 0},
		{"1 S", false, 0},
		{" 1S", false, 0},
		{"1S ", false, 0},
		{"0x1S", false, 0},
		{"infinite", false, 0},
		{"1\xc2\xb5", false, 0},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		uint64_t ns = 7;

		assert_int_equal(grpc_timeout_parse(fenced(rows[i].text), &ns), rows[i].good);
		assert_true(ns == (rows[i].good ? rows[i].ns : 7));
	}
}

/* What is written can be read, is not shorter than what was meant, and longer by less than a hundred-thousandth. */
static void timeouts_there_and_back(void **state)
{
	char buf[GRPC_TIMEOUT_TEXT];

	srandom(40);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t ns = ((uint64_t)random() << 31 | (uint64_t)random()) >> (random() % 62), back;

		if (ns > GRPC_TIMEOUT_MOST)
			ns = GRPC_TIMEOUT_MOST;
		assert_in_range(grpc_timeout_format(ns, buf), 2, 9);
		assert_true(grpc_timeout_parse(text(buf), &back));
		assert_true(back >= ns);
		assert_true(back - ns <= ns / 100000);
	}
	grpc_timeout_format(0, buf);
	assert_string_equal(buf, "0n");
	grpc_timeout_format(99999999, buf);
	assert_string_equal(buf, "99999999n");
	grpc_timeout_format(100000000, buf);
	assert_string_equal(buf, "100000u");
	grpc_timeout_format(UINT64_MAX, buf);
	assert_string_equal(buf, "5124096H");
}

static void messages_are_escaped(void **state)
{
	char buf[64];
	size_t len;

	len = grpc_message_encode(fenced("no route: 100%\r\n\xc3\xbc\x7f"), buf, sizeof(buf));
	assert_int_equal(len, strlen("no route: 100%25%0D%0A%C3%BC%7F"));
	assert_memory_equal(buf, "no route: 100%25%0D%0A%C3%BC%7F", len);
	assert_int_equal(grpc_message_encode(text(""), buf, sizeof(buf)), 0);
}

/* Whatever the room, nothing is written behind it and no escape is cut in two. */
static void messages_are_cut_between_escapes(void **state)
{
	static const struct http_text message = HTTP_TEXT("a\nb\x80%");
	char whole[32];
	size_t most = grpc_message_encode(message, whole, sizeof(whole));

	for (size_t size = 0; size <= most; size++) {
		char *buf = malloc(size ? size : 1); /* ASan sees one byte too many */
		size_t len = grpc_message_encode(message, buf, size);

		assert_true(len <= size);
		assert_memory_equal(buf, whole, len);
		for (size_t i = 0; i < len; i++)
			if (buf[i] == '%')
				assert_true(i + 3 <= len);
		free(buf);
	}
}

static void methods(void **state)
{
	static const struct {
		const char *path, *service, *method;
	} rows[] = {
		{"/grpc.testing.TestService/EmptyCall", "grpc.testing.TestService", "EmptyCall"},
		{"/a/b", "a", "b"},
		{"/", NULL, NULL},
		{"", NULL, NULL},
		{"/a", NULL, NULL},
		{"/a/", NULL, NULL},
		{"//b", NULL, NULL},
		{"a/b/", NULL, NULL},
		{"/a/b/c", NULL, NULL},
		{"/a/b?x", NULL, NULL},
		{"*", NULL, NULL},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct http_text service, method;
		bool good = grpc_method(fenced(rows[i].path), &service, &method);

		assert_int_equal(good, rows[i].service != NULL);
		if (!good)
			continue;
		assert_true(http_text_equal(service, text(rows[i].service)));
		assert_true(http_text_equal(method, text(rows[i].method)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(statuses_have_their_names),
		cmocka_unit_test(a_status_is_a_number_of_grpc),
		cmocka_unit_test(what_http_means),
		cmocka_unit_test(timeouts),
		cmocka_unit_test(timeouts_there_and_back),
		cmocka_unit_test(messages_are_escaped),
		cmocka_unit_test(messages_are_cut_between_escapes),
		cmocka_unit_test(methods),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
