/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab.h: pieces of one size, out of blocks of pages that have nothing else in them (base/slab.c).
 *
 * For what a connection holds only while something happens on it. Were it malloc()'s, it would leave holes between what
 * the connection keeps, and their pages would stay; here a block goes back to the machine with its last piece. One
 * thread: no lock anywhere.
 */
#ifndef WEFT_SLAB_H
#define WEFT_SLAB_H

#include "pages.h"

struct slab_block;

struct slab { /* zeroed: none */
	struct slab_block *open;  /* have a piece to give; the one that was full last is the first */
	struct slab_block *spare; /* empty, and kept: who comes and goes alone costs no page */
};

/* `size`, at most 1 KiB, is the same each time; zeroed, aligned to 8 bytes, never NULL. */
void *slab_take(struct slab *s, struct pages *p, size_t size) must_check;
void slab_give(struct slab *s, struct pages *p, void *piece); /* to the slab that it is from */
void slab_end(struct slab *s, struct pages *p);		      /* all were given; p asserts it */

#endif
