/* SPDX-License-Identifier: Apache-2.0 */
/* First bytes: once they tell, more of them say the same. */
#include <stdlib.h>
#include <string.h>

#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool law)
{
	if (!law)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum http_spoken told = HTTP_SPOKEN_UNKNOWN, now;
	size_t i, step = len > 600 ? len / 300 : 1;
	char name[256];
	int sni = 0, r;

	for (i = 0; i <= len; i += step) {
		uint8_t *in = mem_alloc(i);

		if (i)
			memcpy(in, data, i);
		now = http_detect(in, i);
		must(told == HTTP_SPOKEN_UNKNOWN || now == told);
		told = now;
		r = http_sni(in, i, name);
		must(!sni || r == sni);
		must(r < 256 && (r <= 0 || strlen(name) == (size_t)r));
		sni = r;
		free(in);
	}
	return 0;
}
