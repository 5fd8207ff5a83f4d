/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of any bytes. Beside crashes: the parts of a stream make up the whole; and where all items of a List can be
 * parsed alone, the List as a whole parses to just those items.
 */
#include <stdlib.h>
#include <string.h>

#include "doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void compare(const struct doc *a, const struct doc *b)
{
	require(a->kind == b->kind && a->line == b->line);
	require(text_equal(a->text, b->text));
	a = a->child;
	b = b->child;
	for (; a && b; a = a->next, b = b->next) {
		require(text_equal(a->key, b->key));
		compare(a, b);
	}
	require(!a && !b);
}

static uint32_t lines(const char *bytes, size_t len)
{
	uint32_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += bytes[i] == '\n';
	return n;
}

static void check_list(const char *bytes, size_t len, bool json)
{
	struct doc_error error;
	struct arena a = {0};
	struct doc *whole, *item[64];
	unsigned count;
	struct doc_part *part = doc_split_list(bytes, len, json, &count);
	size_t end = 0;
	bool good = part && count <= array_size(item);

	for (unsigned i = 0; i < count; i++) {
		require(part[i].at >= end && part[i].len >= 1 && part[i].at + part[i].len <= len);
		end = part[i].at + part[i].len;
	}
	for (unsigned i = 0; good && i < count; i++)
		good = !doc_parse(&a, bytes + part[i].at, part[i].len, json, 1 + lines(bytes, part[i].at),
				  &item[i], &error);
	/* The whole may be too large or too deep where its items are not; and NEL is a line only for libyaml. */
	if (good && !memmem(bytes, len, "\xc2\x85", 2) && !memmem(bytes, len, "\xe2\x80", 2) &&
	    !memchr(bytes, '\r', len) && !doc_parse(&a, bytes, len, json, 1, &whole, &error)) {
		const struct doc *of_whole = doc_get(whole, "items");

		require(of_whole && of_whole->kind == DOC_LIST);
		of_whole = of_whole->child;
		for (unsigned i = 0; i < count; i++, of_whole = of_whole->next) {
			const struct doc *alone = json ? item[i] : item[i]->child;

			require(of_whole && alone);
			require(json || (item[i]->kind == DOC_LIST && !alone->next));
			compare(alone, of_whole);
		}
		require(!of_whole);
	}
	free(part);
	arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *bytes = malloc(size ? size : 1); /* of exact size: a byte too far is seen */

	memcpy(bytes, data, size);
	for (int json = 0; json < 2; json++) {
		for (size_t at = 0; at < size;) {
			size_t part = doc_split(bytes + at, size - at, json);

			require(part >= 1 && part <= size - at);
			at += part;
		}
		check_list(bytes, size, json);
	}
	free(bytes);
	return 0;
}
