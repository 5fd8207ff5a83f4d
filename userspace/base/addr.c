/* SPDX-License-Identifier: Apache-2.0 */
/* addr.c: addresses, always 16 bytes, IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2). */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base.h"

#define V4_BITS 96 /* of the prefix ::ffff:0:0/96 */

static const unsigned char v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

int addr_parse(const char *s, struct abi_addr *ret)
{
	struct abi_addr a = {0};

	if (strchr(s, ':')) {
		if (inet_pton(AF_INET6, s, a.byte) != 1)
			return -EINVAL;
	} else {
		memcpy(a.byte, v4_prefix, sizeof(v4_prefix));
		if (inet_pton(AF_INET, s, a.byte + sizeof(v4_prefix)) != 1)
			return -EINVAL;
	}
	*ret = a;
	return 0;
}

int addr_parse_block(const char *s, struct abi_addr *ret, unsigned *ret_bits)
{
	const char *slash = strchr(s, '/');
	unsigned base, i, bits = 128;
	char text[ADDR_TEXT];
	struct abi_addr a;
	long long n;

	if (!slash)
		slash = s + strlen(s);
	if ((size_t)(slash - s) >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, (size_t)(slash - s));
	text[slash - s] = 0;
	if (addr_parse(text, &a) < 0)
		return -EINVAL;
	if (*slash) {
		/* How it is written decides: ::ffff:10.0.0.0/104 counts from the left like any IPv6. */
		base = strchr(text, ':') ? 0 : V4_BITS;
		if (slash[1] == '-' || text_number(slash + 1, 0, 128 - base, &n) < 0)
			return -EINVAL;
		if (slash[1] == '0' && slash[2])
			return -EINVAL; /* "/08": octal or decimal? */
		bits = base + (unsigned)n;
	}
	for (i = bits; i < 128; i++)
		if (a.byte[i / 8] & (0x80 >> i % 8))
			return -EINVAL;
	*ret = a;
	*ret_bits = bits;
	return 0;
}

bool addr_is_v4(const struct abi_addr *a)
{
	return !memcmp(a->byte, v4_prefix, sizeof(v4_prefix));
}

bool addr_is_zero(const struct abi_addr *a)
{
	static const unsigned char zero[16];

	if (addr_is_v4(a))
		return !memcmp(a->byte + 12, zero, 4);
	return !memcmp(a->byte, zero, 16);
}

bool addr_is_link_local(const struct abi_addr *a)
{
	return a->byte[0] == 0xfe && (a->byte[1] & 0xc0) == 0x80;
}

bool addr_is_loopback(const struct abi_addr *a)
{
	static const unsigned char one[16] = {[15] = 1};

	if (addr_is_v4(a))
		return a->byte[12] == 127;
	return !memcmp(a->byte, one, 16);
}

bool addr_equal(const struct abi_addr *a, const struct abi_addr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

bool addr_in_block(const struct abi_addr *a, const struct abi_addr *block, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	if (bits > 128 || memcmp(a->byte, block->byte, bytes))
		return false;
	return !rest || !((a->byte[bytes] ^ block->byte[bytes]) & (0xff00 >> rest) & 0xff);
}

/* Behind the text, which does not end with a 0 yet. */
static char *put(const struct abi_addr *a, char *to)
{
	if (!addr_is_v4(a)) { /* cannot fail: ADDR_TEXT is INET6_ADDRSTRLEN */
		inet_ntop(AF_INET6, a->byte, to, ADDR_TEXT);
		return to + strlen(to);
	}
	for (size_t i = sizeof(v4_prefix); i < sizeof(a->byte); i++) {
		to = text_decimal(to, a->byte[i]);
		*to++ = '.';
	}
	return to - 1;
}

const char *addr_text(const struct abi_addr *a, char buf[ADDR_TEXT])
{
	*put(a, buf) = 0;
	return buf;
}

const char *addr_port_text(const struct abi_addr *a, uint16_t port, char buf[ADDR_PORT_TEXT])
{
	bool v6 = !addr_is_v4(a);
	char *to = buf;

	if (v6)
		*to++ = '[';
	to = put(a, to);
	if (v6)
		*to++ = ']';
	*to++ = ':';
	*text_decimal(to, port) = 0;
	return buf;
}

_Static_assert(ADDR_TEXT == INET6_ADDRSTRLEN, "room for any address");
