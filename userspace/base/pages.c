/* SPDX-License-Identifier: Apache-2.0 */
/* pages.c: blocks out of slabs. A slab is address space; memory is where it was written to. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pages.h"

#define SLAB 64 /* blocks */
#define WORDS (PAGES_BLOCK / 8)
#define WORDS_MOST (WORDS / 2) /* that are not zero: of more, an image would not be small */

struct pages_image {
	uint64_t is[WORDS / 64]; /* a bit for each word that is not zero */
	uint64_t word[];	 /* those, in order */
};

struct pages_slab {
	struct pages_slab *next;
	uint8_t *at;
};

/* Of a machine with larger pages others would lose what they hold. */
static bool machine_has(void)
{
	static long size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return size == PAGES_SIZE;
}

static void add_slab(struct pages *p)
{
	struct pages_slab *s = mem_alloc(sizeof(*s));

	s->at = mmap(NULL, SLAB * PAGES_BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->at == MAP_FAILED) {
		log_error("no memory for pages: %m");
		abort();
	}
	/* A huge page would be memory for 512 of ours. Where the kernel knows none, this fails and is not needed. */
	(void)madvise(s->at, SLAB * PAGES_BLOCK, MADV_NOHUGEPAGE);
	s->next = p->slabs;
	p->slabs = s;
	p->room += SLAB;
	p->free = mem_grow(p->free, p->room, sizeof(*p->free));
	for (unsigned i = SLAB; i; i--)
		p->free[p->frees++] = s->at + (size_t)(i - 1) * PAGES_BLOCK;
}

void *pages_take(struct pages *p)
{
	if (!p->frees)
		add_slab(p);
	p->lent++;
	return p->free[--p->frees];
}

void pages_give(struct pages *p, void *block)
{
	if (!machine_has() || madvise(block, PAGES_BLOCK, MADV_DONTNEED))
		memset(block, 0, PAGES_BLOCK);
	p->lent--;
	p->free[p->frees++] = block;
}

/* Which words are not zero; how many. */
static unsigned look(const uint64_t *word, uint64_t is[WORDS / 64])
{
	unsigned count = 0;

	for (unsigned i = 0; i < WORDS / 64; i++, word += 64) {
		uint64_t bits = 0;

		for (unsigned j = 0; j < 64; j++)
			bits |= (uint64_t)(word[j] != 0) << j;
		is[i] = bits;
		count += (unsigned)__builtin_popcountll(bits);
	}
	return count;
}

struct pages_image *pages_pack(void *block)
{
	uint64_t is[WORDS / 64], *to;
	const uint64_t *word = block;
	struct pages_image *image;
	unsigned count;

	if (!machine_has())
		return NULL;
	count = look(word, is);
	if (count > WORDS_MOST)
		return NULL;
	image = mem_grow(NULL, 1, sizeof(*image) + count * sizeof(*word));
	memcpy(image->is, is, sizeof(is));
	to = image->word;
	for (unsigned i = 0; i < WORDS / 64; i++)
		for (uint64_t bits = is[i]; bits; bits &= bits - 1)
			*to++ = word[i * 64 + (unsigned)__builtin_ctzll(bits)];
	if (!madvise(block, PAGES_BLOCK, MADV_DONTNEED))
		return image;
	free(image);
	return NULL;
}

void pages_unpack(void *block, struct pages_image *image)
{
	const uint64_t *from = image->word;
	uint64_t *word = block;

	for (unsigned i = 0; i < WORDS / 64; i++)
		for (uint64_t bits = image->is[i]; bits; bits &= bits - 1)
			word[i * 64 + (unsigned)__builtin_ctzll(bits)] = *from++;
	free(image);
}

void pages_free(struct pages *p)
{
	assert(!p->lent);
	while (p->slabs) {
		struct pages_slab *s = p->slabs;

		p->slabs = s->next;
		munmap(s->at, SLAB * PAGES_BLOCK);
		free(s);
	}
	free(p->free);
	*p = (struct pages){0};
}
