/* SPDX-License-Identifier: Apache-2.0 */
/* A chunked body read whole and in pieces: the same data, the same end, the same refusal; never more than came. */
#include <stdlib.h>
#include <string.h>

#include "../../userspace/http/http1_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct result {
	uint8_t *data;
	size_t len, used;
	bool refused;
	struct http1_chunk c;
};

static void must(bool law)
{
	if (!law)
		abort();
}

static void eat(struct result *r, const uint8_t *data, size_t len)
{
	const char *why = NULL;

	while (len && !r->refused && r->c.state != CHUNK_TRAILERS) {
		size_t n;

		if (r->c.state == CHUNK_DATA) {
			n = len < r->c.left ? len : (size_t)r->c.left;
			memcpy(r->data + r->len, data, n);
			r->len += n;
			http1_chunk_data(&r->c, n);
		} else {
			ssize_t eaten = http1_chunk_frame(&r->c, data, len, &why);

			r->refused = eaten < 0;
			must(!r->refused || why);
			must(r->refused || eaten > 0);
			n = r->refused ? 0 : (size_t)eaten;
		}
		data += n;
		len -= n;
		r->used += n;
	}
}

static void again(const struct result *r)
{
	uint8_t head[HTTP1_CHUNK_HEAD];
	struct http1_chunk c = {0};
	const char *why;
	size_t n;

	if (!r->len)
		return;
	n = http1_chunk_head(r->len, head);
	must(n <= sizeof(head) && http1_chunk_frame(&c, head, n, &why) == (ssize_t)n);
	must(c.state == CHUNK_DATA && c.left == r->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct result whole = {.data = mem_alloc(len)}, pieces = {.data = mem_alloc(len)};
	size_t step, at;

	if (len) {
		step = 1 + *data++ % 7;
		len--;
		eat(&whole, data, len);
		for (at = 0; at < len; at += step)
			eat(&pieces, data + at, len - at < step ? len - at : step);
		must(whole.refused == pieces.refused && whole.len == pieces.len);
		must(!memcmp(whole.data, pieces.data, whole.len));
		if (!whole.refused)
			must(whole.used == pieces.used && whole.c.state == pieces.c.state &&
			     whole.c.left == pieces.c.left);
		again(&whole);
	}
	free(whole.data);
	free(pieces.data);
	return 0;
}
