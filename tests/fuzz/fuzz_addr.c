/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and blocks: whatever parses prints, and parses again to the same. */
#include <stdlib.h>
#include <string.h>

#include "base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool law)
{
	if (!law)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *s = mem_alloc(len + 1), text[ADDR_TEXT], with_port[ADDR_PORT_TEXT];
	struct abi_addr a, b;
	unsigned bits, again;
	long long n;

	if (len)
		memcpy(s, data, len);
	if (!addr_parse(s, &a)) {
		must(!addr_parse(addr_text(&a, text), &b) && addr_equal(&a, &b));
		must(strlen(addr_port_text(&a, 65535, with_port)) < sizeof(with_port));
		must(addr_is_v4(&a) || strchr(text, ':'));
		must(!addr_parse_block(s, &b, &bits) && bits == 128 && addr_equal(&a, &b));
	}
	if (!addr_parse_block(s, &a, &bits)) {
		char *block = addr_is_v4(&a) && bits >= 96 ? mem_format("%s/%u", addr_text(&a, text), bits - 96)
							   : mem_format("%s/%u", addr_text(&a, text), bits);

		must(bits <= 128 && addr_in_block(&a, &a, bits));
		/* ::ffff:0:0/90 prints as IPv4 with a length that IPv4 does not have. */
		if (!addr_is_v4(&a) || bits >= 96)
			must(!addr_parse_block(block, &b, &again) && again == bits && addr_equal(&a, &b));
		free(block);
	}
	if (!text_number(s, -1000, 1000, &n))
		must(n >= -1000 && n <= 1000);
	free(s);
	return 0;
}
