/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses against getaddrinfo and a loop over bits. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base.h"

static struct abi_addr parse(const char *s)
{
	struct abi_addr a;

	if (addr_parse(s, &a) < 0)
		fail_msg("\"%s\" did not parse", s);
	return a;
}

static void parses_both_families(void **state)
{
	static const unsigned char v4[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 7};
	static const unsigned char v6[16] = {0xfd, [15] = 1};
	struct abi_addr a;

	a = parse("10.0.0.7");
	assert_memory_equal(a.byte, v4, 16);
	a = parse("::ffff:10.0.0.7");
	assert_memory_equal(a.byte, v4, 16);
	a = parse("::ffff:a00:7");
	assert_memory_equal(a.byte, v4, 16);
	a = parse("fd00::1");
	assert_memory_equal(a.byte, v6, 16);
}

static void refuses_what_is_no_address(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"10.0.0",
		"10.0.0.256",
		"10.0.0.1.",
		"010.0.0.1",
		"10.0.0.1 ",
		" 10.0.0.1",
		"0x0a.0.0.1",
		"167772161",
		"1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9",
		"::1::",
		"fe80::1%eth0",
		"[::1]",
		"::g",
		"12345::",
		"10.0.0.1/8",
		"localhost",
		"::ffff:10.0.0.256",
		":",
		"1:",
		":1",
	};
	struct abi_addr a, before;
	unsigned i;

	memset(&a, 0x5a, sizeof(a));
	before = a;
	for (i = 0; i < array_size(bad); i++)
		if (addr_parse(bad[i], &a) != -EINVAL)
			fail_msg("\"%s\" parsed", bad[i]);
	assert_memory_equal(&a, &before, sizeof(a));
}

/* What getaddrinfo makes of it, in our form. */
static int oracle(const char *s, struct abi_addr *ret)
{
	struct addrinfo hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;

	if (getaddrinfo(s, NULL, &hint, &found))
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	if (found->ai_family == AF_INET) {
		ret->byte[10] = ret->byte[11] = 0xff;
		memcpy(ret->byte + 12, &((struct sockaddr_in *)(void *)found->ai_addr)->sin_addr, 4);
	} else {
		memcpy(ret->byte, &((struct sockaddr_in6 *)(void *)found->ai_addr)->sin6_addr, 16);
	}
	freeaddrinfo(found);
	return 0;
}

static struct abi_addr any_addr(void)
{
	struct abi_addr a = {0};
	unsigned i;

	for (i = 0; i < 16; i++)
		a.byte[i] = random() % 3 ? (unsigned char)random() : 0; /* zeros: for "::" */
	if (random() % 2) {
		memset(a.byte, 0, 10);
		a.byte[10] = a.byte[11] = 0xff;
	}
	return a;
}

static void texts_parse_back(void **state)
{
	unsigned i;

	srandom(6);
	for (i = 0; i < 50000; i++) {
		struct abi_addr a = any_addr(), b, c;
		char text[ADDR_TEXT];

		assert_ptr_equal(addr_text(&a, text), text);
		b = parse(text);
		assert_int_equal(oracle(text, &c), 0);
		if (!addr_equal(&a, &b) || !addr_equal(&a, &c))
			fail_msg("\"%s\" is not the same when read again", text);
	}
}

/* Damaged texts: we say yes exactly where getaddrinfo does (which also takes inet_aton's forms of IPv4, and zones). */
static void damage_against_getaddrinfo(void **state)
{
	static const char alphabet[] = "0123456789abcdefABCDEF:.:.g";
	unsigned i, yes = 0;

	srandom(7);
	for (i = 0; i < 50000; i++) {
		struct abi_addr a = any_addr(), ours, theirs;
		char text[ADDR_TEXT];
		size_t len, at;
		int r;

		len = strlen(addr_text(&a, text));
		at = (size_t)random() % len;
		if (random() % 2)
			text[at] = alphabet[random() % (sizeof(alphabet) - 1)];
		else
			memmove(text + at, text + at + 1, len - at);
		r = addr_parse(text, &ours);
		if (!strchr(text, ':')) {
			if (!r && (oracle(text, &theirs) || !addr_equal(&ours, &theirs)))
				fail_msg("\"%s\" parsed", text);
			continue;
		}
		if (r != oracle(text, &theirs) || (!r && !addr_equal(&ours, &theirs)))
			fail_msg("\"%s\": %d", text, r);
		yes += !r;
	}
	assert_true(yes > 1000);
}

static void blocks(void **state)
{
	struct abi_addr a, want;
	unsigned bits;

	assert_int_equal(addr_parse_block("10.0.0.0/8", &a, &bits), 0);
	want = parse("10.0.0.0");
	assert_true(addr_equal(&a, &want));
	assert_int_equal(bits, 104);
	assert_int_equal(addr_parse_block("10.1.2.3", &a, &bits), 0);
	assert_int_equal(bits, 128);
	assert_int_equal(addr_parse_block("0.0.0.0/0", &a, &bits), 0);
	assert_int_equal(bits, 96);
	assert_int_equal(addr_parse_block("10.1.2.3/32", &a, &bits), 0);
	assert_int_equal(bits, 128);
	assert_int_equal(addr_parse_block("fd00::/8", &a, &bits), 0);
	assert_int_equal(bits, 8);
	assert_int_equal(addr_parse_block("::/0", &a, &bits), 0);
	assert_int_equal(bits, 0);
	assert_int_equal(addr_parse_block("::ffff:10.0.0.0/104", &a, &bits), 0);
	assert_int_equal(bits, 104);
	assert_true(addr_equal(&a, &want));
	assert_int_equal(addr_parse_block("fd00::1", &a, &bits), 0);
	assert_int_equal(bits, 128);
}

static void refuses_what_is_no_block(void **state)
{
	static const char *const bad[] = {
		"",
		"/",
		"/8",
		"10.0.0.0/",
		"10.0.0.0/33",
		"10.0.0.0/-1",
		"10.0.0.0/+8",
		"10.0.0.0/08",
		"10.0.0.0/8 ",
		"10.0.0.0/8/8",
		"10.0.0.1/8",
		"10.0.0.0/6",
		"fd00::/129",
		"fd00::1/64",
		"0.0.0.1/0",
		"::1/0",
		"10.0.0.0/00",
		"10.0.0/8",
		"10.0.0.0/255.0.0.0",
		"10.0.0.0/99999999999999999999",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa/64",
		"fe80::%1/64",
	};
	struct abi_addr a;
	unsigned i, bits = 7;

	for (i = 0; i < array_size(bad); i++)
		if (addr_parse_block(bad[i], &a, &bits) != -EINVAL)
			fail_msg("\"%s\" parsed", bad[i]);
	assert_int_equal(bits, 7);
}

static bool bit(const struct abi_addr *a, unsigned i)
{
	return a->byte[i / 8] >> (7 - i % 8) & 1;
}

static void in_block_against_a_loop_over_bits(void **state)
{
	unsigned i, j, inside = 0;

	srandom(8);
	for (i = 0; i < 200000; i++) {
		struct abi_addr block = any_addr(), a = block;
		unsigned bits = (unsigned)random() % 129, flip = (unsigned)random() % 128;
		bool want = true;

		if (random() % 4)
			a.byte[flip / 8] ^= (unsigned char)(0x80 >> flip % 8);
		for (j = 0; j < bits; j++)
			want &= bit(&a, j) == bit(&block, j);
		if (addr_in_block(&a, &block, bits) != want)
			fail_msg("flip %u, %u bits: not %d", flip, bits, want);
		inside += want;
	}
	assert_in_range(inside, 50000, 170000);
	assert_false(addr_in_block(&(struct abi_addr){0}, &(struct abi_addr){0}, 129));
}

static void kinds(void **state)
{
	static const struct {
		const char *text;
		bool v4, zero, loopback, link_local;
	} cases[] = {
		{"0.0.0.0", true, true, false},
		{"::", false, true, false},
		{"127.0.0.1", true, false, true},
		{"127.255.255.254", true, false, true},
		{"128.0.0.1", true, false, false},
		{"::1", false, false, true},
		{"::2", false, false, false},
		{"::ffff:127.0.0.1", true, false, true},
		{"fd00::1", false, false, false},
		{"fe80::1", false, false, false, true},
		{"febf:ffff::", false, false, false, true},
		{"fec0::1", false, false, false},
		{"::ffff:254.128.0.1", true, false, false},
		{"10.0.0.0", true, false, false},
		{"::127.0.0.1", false, false, false},
		{"::fffe:10.0.0.1", false, false, false},
	};
	unsigned i;

	for (i = 0; i < array_size(cases); i++) {
		struct abi_addr a = parse(cases[i].text);

		assert_int_equal(addr_is_v4(&a), cases[i].v4);
		assert_int_equal(addr_is_zero(&a), cases[i].zero);
		assert_int_equal(addr_is_loopback(&a), cases[i].loopback);
		assert_int_equal(addr_is_link_local(&a), cases[i].link_local);
	}
}

static void texts_with_port(void **state)
{
	char text[ADDR_PORT_TEXT];
	struct abi_addr a;

	a = parse("10.0.0.1");
	assert_string_equal(addr_port_text(&a, 80, text), "10.0.0.1:80");
	a = parse("fd00::1");
	assert_string_equal(addr_port_text(&a, 65535, text), "[fd00::1]:65535");
	memset(&a, 0xff, sizeof(a));
	assert_string_equal(addr_port_text(&a, 65535, text), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_both_families),
		cmocka_unit_test(refuses_what_is_no_address),
		cmocka_unit_test(texts_parse_back),
		cmocka_unit_test(damage_against_getaddrinfo),
		cmocka_unit_test(blocks),
		cmocka_unit_test(refuses_what_is_no_block),
		cmocka_unit_test(in_block_against_a_loop_over_bits),
		cmocka_unit_test(kinds),
		cmocka_unit_test(texts_with_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
