/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.h: blocks of memory that can be put away as small images of themselves (base/pages.c).
 *
 * For what a library holds of something that is at rest most of the time: it cannot be freed, it has pointers into
 * itself, and most of it is zeros. Packed, what is not zero is kept elsewhere and the pages go back to the machine; the
 * addresses stay the block's, so when it is unpacked it is as it was. One thread: no lock anywhere.
 */
#ifndef WEFT_PAGES_H
#define WEFT_PAGES_H

#include "base.h"

#define PAGES_SIZE 4096 /* of one; where the machine's are larger, nothing is packed */
#define PAGES_BLOCK (3 * PAGES_SIZE)

struct pages_slab;
struct pages_image;

struct pages { /* zeroed: none */
	struct pages_slab *slabs;
	void **free;
	unsigned frees, room; /* of `free` */
	unsigned lent;
};

void *pages_take(struct pages *p) must_check; /* PAGES_BLOCK zeros, aligned to pages; never NULL */
void pages_give(struct pages *p, void *block); /* not while it is packed */
/* Nothing may touch the block until it is unpacked. NULL: it is not worth it, or cannot be: it is as it was. */
struct pages_image *pages_pack(void *block) must_check;
void pages_unpack(void *block, struct pages_image *image); /* frees the image */
void pages_free(struct pages *p);			   /* asserts that nothing is lent */

#endif
