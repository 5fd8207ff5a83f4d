/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab.c: see slab.h.
 *
 *	block	| next, prev, free, ... | piece | piece | piece |
 *	piece				| its block, or: free, and the next one | what was asked for |
 *
 * Pieces are taken from the block that was full last: those that are nearly empty get empty.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "slab.h"

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#define SIZE_MOST 1024

struct piece {
	union {
		struct slab_block *block; /* while it is lent */
		struct piece *next;	  /* free */
	};
	uint8_t bytes[];
};

struct slab_block {
	struct slab_block *next, *prev; /* of slab.open */
	struct piece *free;
	uint32_t size; /* of a piece's bytes */
	uint16_t lent, pieces;
};

static void open_block(struct slab *s, struct slab_block *b)
{
	b->prev = NULL;
	b->next = s->open;
	if (b->next)
		b->next->prev = b;
	s->open = b;
}

static void shut_block(struct slab *s, struct slab_block *b)
{
	if (b->next)
		b->next->prev = b->prev;
	if (b->prev)
		b->prev->next = b->next;
	else
		s->open = b->next;
}

static struct slab_block *block_new(struct pages *p, size_t size)
{
	struct slab_block *b = pages_take(p);
	size_t step = sizeof(struct piece) + size;

	b->size = (uint32_t)size;
	b->pieces = (uint16_t)((PAGES_BLOCK - sizeof(*b)) / step);
	for (unsigned i = b->pieces; i; i--) {
		struct piece *k = (struct piece *)((uint8_t *)(b + 1) + (i - 1) * step);

		k->next = b->free;
		b->free = k;
		ASAN_POISON_MEMORY_REGION(k->bytes, size);
	}
	return b;
}

void *slab_take(struct slab *s, struct pages *p, size_t size)
{
	struct slab_block *b = s->open;
	struct piece *k;

	size = (size + 7) & ~(size_t)7;
	assert(size <= SIZE_MOST);
	if (!b) {
		b = s->spare ? s->spare : block_new(p, size);
		s->spare = NULL;
		open_block(s, b);
	}
	assert(b->size == size);
	k = b->free;
	b->free = k->next;
	k->block = b;
	if (++b->lent == b->pieces)
		shut_block(s, b);
	ASAN_UNPOISON_MEMORY_REGION(k->bytes, size);
	return memset(k->bytes, 0, size);
}

static void block_give(struct pages *p, struct slab_block *b)
{
	ASAN_UNPOISON_MEMORY_REGION(b, PAGES_BLOCK);
	pages_give(p, b);
}

void slab_give(struct slab *s, struct pages *p, void *piece)
{
	struct piece *k = container_of(piece, struct piece, bytes);
	struct slab_block *b = k->block;

	k->next = b->free;
	b->free = k;
	ASAN_POISON_MEMORY_REGION(k->bytes, b->size);
	if (b->lent-- == b->pieces)
		open_block(s, b);
	if (b->lent)
		return;
	shut_block(s, b);
	if (s->spare)
		block_give(p, b);
	else
		s->spare = b;
}

void slab_end(struct slab *s, struct pages *p)
{
	if (s->spare)
		block_give(p, s->spare);
	s->spare = NULL;
}
