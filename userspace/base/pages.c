/* SPDX-License-Identifier: Apache-2.0 */
/* pages.c: pages out of slabs. A slab is address space; memory is where it was written to. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pages.h"

#define SLAB 64 /* pages */
#define KEPT 32 /* free pages whose memory is kept for the next */

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

	s->at = mmap(NULL, SLAB * PAGES_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->at == MAP_FAILED) {
		log_error("no memory for pages: %m");
		abort();
	}
	/* A huge page would be memory for 512 of ours. Where the kernel knows none, this fails and is not needed. */
	(void)madvise(s->at, SLAB * PAGES_SIZE, MADV_NOHUGEPAGE);
	s->next = p->slabs;
	p->slabs = s;
	p->room += SLAB;
	p->free = mem_grow(p->free, p->room, sizeof(*p->free));
	for (unsigned i = SLAB; i; i--)
		p->free[p->frees++] = s->at + (size_t)(i - 1) * PAGES_SIZE;
}

void *pages_take(struct pages *p)
{
	if (!p->frees)
		add_slab(p);
	p->lent++;
	return p->free[--p->frees];
}

void pages_give(struct pages *p, void *page)
{
	if (p->frees < KEPT || !machine_has() || madvise(page, PAGES_SIZE, MADV_DONTNEED))
		memset(page, 0, PAGES_SIZE);
	p->lent--;
	p->free[p->frees++] = page;
}

bool pages_rest(void *page)
{
	const uint64_t *word = page;

	for (unsigned i = 0; i < PAGES_SIZE / sizeof(*word); i += 8)
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] | word[i + 6] |
		    word[i + 7])
			return false;
	return machine_has() && !madvise(page, PAGES_SIZE, MADV_DONTNEED);
}

void pages_free(struct pages *p)
{
	assert(!p->lent);
	while (p->slabs) {
		struct pages_slab *s = p->slabs;

		p->slabs = s->next;
		munmap(s->at, SLAB * PAGES_SIZE);
		free(s);
	}
	free(p->free);
	*p = (struct pages){0};
}
