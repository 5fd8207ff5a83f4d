/* SPDX-License-Identifier: Apache-2.0 */
/* What names an end: tables of what is one, and of what is not; whatever is printed is read again. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hbone.h"

static struct abi_addr address(const char *s)
{
	struct abi_addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

static void authorities(void **state)
{
	static const struct {
		const char *text, *address;
		uint16_t port;
	} good[] = {
		{"10.0.0.1:80", "10.0.0.1", 80},
		{"10.0.0.1:65535", "10.0.0.1", 65535},
		{"[fd00::1]:1", "fd00::1", 1},
		{"[::ffff:10.0.0.1]:8080", "10.0.0.1", 8080},
		{"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535},
	};
	static const char *const bad[] = {
		"",
		":",
		":80",
		"10.0.0.1",
		"10.0.0.1:",
		"10.0.0.1:0",
		"10.0.0.1:00",
		"10.0.0.1:080",
		"10.0.0.1:65536",
		"10.0.0.1:99999999999999999999",
		"10.0.0.1:8a",
		"10.0.0.1:-1",
		"10.0.0.1:+1",
		"10.0.0.1:80 ",
		"10.0.0.1:80/",
		"10.0.0.1:80:80",
		" 10.0.0.1:80",
		"010.0.0.1:80",
		"10.0.0.300:80",
		"[10.0.0.1]:80",
		"fd00::1:80",
		"[fd00::1]",
		"[fd00::1]80",
		"[fd00::1:80",
		"[]:80",
		"[",
		"[fd00::1%eth0]:80",
		"[fd00::1]]:80",
		"user@10.0.0.1:80",
		"example.com:80",
		"localhost:80",
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:80",
	};
	struct abi_addr a = {0}, untouched = {0};
	uint16_t port = 7;
	size_t i;

	for (i = 0; i < array_size(good); i++) {
		struct abi_addr want = address(good[i].address);

		assert_int_equal(authority_parse(good[i].text, &a, &port), 0);
		assert_true(addr_equal(&a, &want));
		assert_int_equal(port, good[i].port);
	}
	port = 7;
	for (i = 0; i < array_size(bad); i++) {
		a = untouched;
		if (authority_parse(bad[i], &a, &port) != -EINVAL)
			fail_msg("\"%s\" is no authority", bad[i]);
		assert_memory_equal(&a, &untouched, sizeof(a));
		assert_int_equal(port, 7);
	}
	assert_int_equal(authority_parse(NULL, &a, &port), -EINVAL);
}

static void prints_what_it_reads(void **state)
{
	static const char *const all[] = {"10.0.0.1:80", "[fd00::1]:15008", "255.255.255.255:65535", "[::1]:1"};
	char text[ADDR_PORT_TEXT];
	struct abi_addr a;
	uint16_t port;
	size_t i;

	for (i = 0; i < array_size(all); i++) {
		assert_int_equal(authority_parse(all[i], &a, &port), 0);
		assert_string_equal(authority_text(&a, port, text), all[i]);
	}
}

static void forwarded_is_read(void **state)
{
	static const struct {
		const char *text, *address;
		uint16_t port;
	} good[] = {
		{"for=\"10.0.0.1:4711\"", "10.0.0.1", 4711},
		{"for=10.0.0.1:4711", "10.0.0.1", 4711},
		{"FOR=\"[fd00::1]:4711\";host=a.b.svc.cluster.local", "fd00::1", 4711},
		{"host=\"a;for=1,\\\"2\";for=\"10.0.0.2:1\"", "10.0.0.2", 1},
		{"proto=http;by=203.0.113.43; for=\"10.0.0.3:1\"", "10.0.0.3", 1},
		{"for=\"10.0.0.1:1\", for=\"10.0.0.2:2\"", "10.0.0.1", 1},
		{"for=\"1\\0.0.0.1:4711\"", "10.0.0.1", 4711},
	};
	static const char *const bad[] = {
		"",
		"for",
		"for=",
		"for=\"\"",
		"for=\"",
		"for=\"10.0.0.1:80",
		"for=\"10.0.0.1:80\\",
		"for=10.0.0.1",
		"for=unknown",
		"for=_hidden",
		"for=\"[fd00::1]\"",
		"host=a",
		"host=a, for=10.0.0.1:80",
		"host=\"a",
		"by=\"\\",
		";;;",
		"=10.0.0.1:80",
		"for=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"xfor=10.0.0.1:80",
	};
	struct abi_addr a;
	uint16_t port;
	size_t i;

	for (i = 0; i < array_size(good); i++) {
		struct abi_addr want = address(good[i].address);

		if (forwarded_parse(good[i].text, &a, &port) < 0)
			fail_msg("\"%s\" did not parse", good[i].text);
		assert_true(addr_equal(&a, &want));
		assert_int_equal(port, good[i].port);
	}
	for (i = 0; i < array_size(bad); i++)
		if (forwarded_parse(bad[i], &a, &port) != -EINVAL)
			fail_msg("\"%s\" says no address", bad[i]);
	assert_int_equal(forwarded_parse(NULL, &a, &port), -EINVAL);
}

static void forwarded_is_written(void **state)
{
	struct abi_addr v4 = address("10.0.0.1"), v6 = address("fd00::1"), a;
	char buf[128];
	uint16_t port;

	assert_true(forwarded_text(&v4, 80, NULL, buf, sizeof(buf)));
	assert_string_equal(buf, "for=\"10.0.0.1:80\"");
	assert_true(forwarded_text(&v4, 80, "", buf, sizeof(buf)));
	assert_string_equal(buf, "for=\"10.0.0.1:80\"");
	assert_true(forwarded_text(&v6, 65535, "a.b.svc", buf, sizeof(buf)));
	assert_string_equal(buf, "for=\"[fd00::1]:65535\";host=a.b.svc");
	assert_int_equal(forwarded_parse(buf, &a, &port), 0);
	assert_true(addr_equal(&a, &v6));
	assert_int_equal(port, 65535);
	assert_false(forwarded_text(&v6, 65535, "a.b.svc", buf, 16));
	assert_string_equal(buf, "for=\"[fd00::1]:");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(authorities),
		cmocka_unit_test(prints_what_it_reads),
		cmocka_unit_test(forwarded_is_read),
		cmocka_unit_test(forwarded_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
