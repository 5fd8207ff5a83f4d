/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.h: blocks of one page that cost no memory while they hold nothing but zeros (base/pages.c).
 *
 * For tables of a library that are empty most of the time and cannot be freed while their owner lives: who knows that
 * one is at rest says so, and if it is all zeros its memory goes back to the machine. The next write has it again, by
 * a page fault. One thread: no lock anywhere.
 */
#ifndef WEFT_PAGES_H
#define WEFT_PAGES_H

#include "base.h"

#define PAGES_SIZE 4096 /* of a block; where the machine's pages are larger, nothing is given back before its end */

struct pages_slab;

struct pages { /* zeroed: none */
	struct pages_slab *slabs;
	void **free;
	unsigned frees, room; /* of `free` */
	unsigned lent;
};

void *pages_take(struct pages *p) must_check; /* zeroed, aligned; never NULL */
void pages_give(struct pages *p, void *page);
/* true: it was all zeros, and takes no memory until it is written to. What it reads as is the same either way. */
bool pages_rest(void *page);
void pages_free(struct pages *p); /* asserts that nothing is lent */

#endif
