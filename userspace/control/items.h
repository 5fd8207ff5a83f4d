/* SPDX-License-Identifier: Apache-2.0 */
/*
 * items.h: a YAML List that is read again (control/items.c): which of its items are as they were.
 *
 * A List of 10 000 items in which one has changed is not split anew: what is in front of its items and behind them must
 * be as it was, and of the items those count as known that stand there by their hash. Nothing is taken in yet: a List
 * of which any part takes a closer look is left to doc_split_list as a whole.
 */
#ifndef WEFT_ITEMS_H
#define WEFT_ITEMS_H

#include "content.h"

struct document;

/*
 * What the next reading needs to know a document, or an item of a List, again. In an array beside the documents: a
 * file of 20 000 of them is then compared without touching one of them.
 */
struct entry {
	struct document *document;
	uint64_t hash;
	uint32_t len;	      /* 0: do not know it again */
	uint32_t line, lines; /* where it starts, how many it has */
};

#define ITEMS_HASH 1 /* an item has another hash than a document of these bytes */

/* A List: its head, its items one behind the other, its tail (keys behind the items, if any). */
struct list_shape {
	unsigned first, count; /* entries */
	size_t head, tail;     /* bytes */
	uint64_t head_hash, tail_hash;
	uint32_t head_lines, tail_lines;
	size_t dash; /* spaces in front of the dash of an item */
};

struct item {
	size_t at;
	uint32_t len;
	int was; /* which of the known ones, -1: none of them, or not where it was looked for */
};

struct items {
	struct item *item; /* free() it */
	unsigned count;
	size_t len; /* of the whole List */
};

/*
 * The List that starts at `at`, if it has this shape. `known` are the entries of its items when it was read last. 1;
 * 0: another shape, or one that takes a closer look; -EIO: it cannot be read. *ret only with 1.
 */
int items_compare(const struct content *c, size_t at, const struct list_shape *s, const struct entry *known,
		  struct items *ret) must_check;

#endif
