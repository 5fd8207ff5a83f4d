/* SPDX-License-Identifier: Apache-2.0 */
/* What names an end: whatever parses prints, and parses again to the same. */
#include <stdlib.h>
#include <string.h>

#include "hbone.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool law)
{
	if (!law)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *s = mem_alloc(len + 1), text[ADDR_PORT_TEXT], line[128];
	uint16_t port, again;
	struct abi_addr a, b;

	if (len)
		memcpy(s, data, len);
	if (!authority_parse(s, &a, &port)) {
		must(port);
		must(!authority_parse(authority_text(&a, port, text), &b, &again));
		must(addr_equal(&a, &b) && port == again);
	}
	if (!forwarded_parse(s, &a, &port)) {
		must(port && forwarded_text(&a, port, "a.b.svc.cluster.local", line, sizeof(line)));
		must(!forwarded_parse(line, &b, &again));
		must(addr_equal(&a, &b) && port == again);
	}
	free(s);
	return 0;
}
