/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf.h: bytes that wait (base/buf.c).
 *
 * A thread has one pool of chunks; a queue owns chunks only while bytes wait in it, so that an idle connection costs no
 * buffer at all. One thread: no lock anywhere.
 */
#ifndef WEFT_BUF_H
#define WEFT_BUF_H

#include <sys/uio.h>

#include "base.h"

#define BUF_CHUNK 16384 /* bytes of data in one chunk */

struct buf_chunk;

/* Chunks that nobody uses are kept up to `keep`, the others are given back to the machine. */
struct buf_pool {
	struct buf_chunk *free;
	unsigned kept, keep;
	size_t lent; /* chunks in queues now: what back-pressure must keep small */
	size_t most; /* that there should be: buf_share(). 0: any number */
	size_t tell; /* so many of them, or more: full() is called for each that is lent. 0: never */
	void (*full)(struct buf_pool *p); /* from within buf_add(): it may note that, no more */
};
void buf_pool_init(struct buf_pool *p, unsigned keep);
void buf_pool_free(struct buf_pool *p); /* asserts that nothing is lent */

/* First in, first out. A zeroed struct is a valid empty queue. */
struct buf {
	struct buf_chunk *first, *last;
	size_t len; /* bytes */
};
void buf_add(struct buf *b, struct buf_pool *p, const void *data, size_t len); /* copies */
/* The first bytes without taking them: fills at most `max` entries; how many. */
unsigned buf_peek(const struct buf *b, struct iovec *iov, unsigned max);
void buf_consume(struct buf *b, struct buf_pool *p, size_t len); /* len <= b->len */
void buf_clear(struct buf *b, struct buf_pool *p);

/* Bytes of memory that it holds: of each byte that waits a chunk. */
static inline size_t buf_kept(const struct buf *b)
{
	return (b->len + BUF_CHUNK - 1) / BUF_CHUNK * BUF_CHUNK;
}
/*
 * How many of `want` bytes one may take in who perhaps has to keep them: a part of what is left to all (dynamic
 * thresholds, Choudhury and Hahne 1998). So many who keep some each leave something for who comes; and one chunk is
 * enough for what may always be taken.
 */
#define BUF_PART 256
static inline size_t buf_share(const struct buf_pool *p, size_t want)
{
	size_t left = p->lent < p->most ? (p->most - p->lent) * (BUF_CHUNK / BUF_PART) : 0;

	left = left > BUF_CHUNK / 2 ? left : BUF_CHUNK / 2;
	return p->most && left < want ? left : want;
}

#endif
