/* SPDX-License-Identifier: Apache-2.0 */
/* items.c: see items.h. */
#include <errno.h>
#include <stdlib.h>

#include "items.h"

#define NEARBY 16 /* items that may have gone in front of one that is known */

/* Which of the known ones, from `next` on, stands here: its number; -ENOENT: none; -EIO. */
static int find(const struct content *c, size_t at, const struct list_shape *s, const struct entry *known,
		unsigned next)
{
	for (unsigned i = next; i < s->count && i < next + NEARBY; i++) {
		int same = known[i].len ? content_equal(c, at, known[i].len, known[i].hash ^ ITEMS_HASH) : 0;

		if (same)
			return same < 0 ? same : (int)i;
	}
	return -ENOENT;
}

/* All items from `at` on. 1, 0: one takes a closer look, -EIO. */
static int walk(const struct content *c, size_t *at, const struct list_shape *s, const struct entry *known,
		struct items *to)
{
	unsigned next = 0, size = s->count + 16;
	int starts;

	to->item = mem_grow(NULL, size, sizeof(*to->item));
	while ((starts = content_item_starts(c, *at, s->dash)) > 0) {
		struct item item = {.at = *at, .was = find(c, *at, s, known, next)};
		size_t len;

		if (item.was >= 0) {
			item.len = known[item.was].len;
			next = (unsigned)item.was + 1;
		} else {
			int is = item.was == -ENOENT ? content_item(c, *at, s->dash, &len) : item.was;

			if (is <= 0)
				return is;
			item.len = (uint32_t)len;
			item.was = -1;
		}
		if (to->count == size)
			to->item = mem_grow(to->item, size *= 2, sizeof(*to->item));
		to->item[to->count++] = item;
		*at += item.len;
	}
	return starts < 0 ? starts : to->count > 0;
}

int items_compare(const struct content *c, size_t at, const struct list_shape *s, const struct entry *known,
		  struct items *ret)
{
	size_t begin = at;
	int is = content_equal(c, at, s->head, s->head_hash);

	*ret = (struct items){0};
	at += s->head;
	if (is > 0)
		is = walk(c, &at, s, known, ret);
	if (is > 0)
		is = content_equal(c, at, s->tail, s->tail_hash);
	if (is > 0)
		is = content_document_ends(c, at + s->tail);
	if (is > 0) {
		ret->len = at + s->tail - begin;
	} else {
		free(ret->item);
		*ret = (struct items){0};
	}
	return is;
}
