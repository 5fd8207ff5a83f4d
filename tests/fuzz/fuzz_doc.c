/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes to a tree. Beside crashes: a document that is both JSON and YAML means the same as either.
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

/* Depth, keys and texts of a tree are in order; returns its nodes. */
static size_t check(const struct doc *d, unsigned depth, uint32_t lines)
{
	size_t nodes = 1;

	require(depth <= DOC_MAX_DEPTH);
	require(d->line >= 1 && d->line <= lines);
	require(d->kind >= DOC_LIST || d->kind == DOC_NULL || d->text);
	require(d->kind >= DOC_LIST || !d->child);
	for (const struct doc *c = d->child; c; c = c->next) {
		require(!!c->key == (d->kind == DOC_MAP));
		nodes += check(c, depth + 1, lines);
	}
	return nodes;
}

static bool number_or_text(enum doc_kind k)
{
	return k == DOC_NUMBER || k == DOC_STRING; /* JSON's 1E5 and 1e+5 are not all numbers in YAML 1.1 */
}

static void compare(const struct doc *a, const struct doc *b)
{
	require(a->kind == b->kind || (number_or_text(a->kind) && number_or_text(b->kind)));
	require(text_equal(a->key, b->key));
	if (a->kind == DOC_NUMBER || a->kind == DOC_STRING || a->kind == DOC_BOOL)
		require(text_equal(a->text, b->text));
	a = a->child;
	b = b->child;
	for (; a && b; a = a->next, b = b->next)
		compare(a, b);
	require(!a && !b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a = {0};
	struct doc_error error;
	struct doc *yaml = NULL, *json = NULL;
	char *bytes = malloc(size ? size : 1); /* of exact size: a byte too far is seen */

	memcpy(bytes, data, size);
	/* NEL, LS and PS are line breaks for libyaml as well. */
	if (!doc_parse(&a, bytes, size, false, 1, &yaml, &error))
		require(check(yaml, 0, (uint32_t)size + 1) <= DOC_MAX_NODES);
	else
		require(*error.reason && error.line <= size + 1);
	if (!doc_parse(&a, bytes, size, true, 1, &json, &error))
		require(check(json, 0, (uint32_t)size + 1) <= DOC_MAX_NODES);
	else
		require(*error.reason && error.line <= size + 1);
	if (yaml && json && json->kind != DOC_NULL)
		compare(json, yaml);
	arena_free(&a);
	free(bytes);
	return 0;
}
