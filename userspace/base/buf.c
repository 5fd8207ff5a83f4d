/* SPDX-License-Identifier: Apache-2.0 */
/* buf.c: a queue of bytes in chunks that a pool lends. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

struct buf_chunk {
	struct buf_chunk *next;
	uint32_t start, end; /* of the bytes that wait */
	uint8_t data[BUF_CHUNK];
};

void buf_pool_init(struct buf_pool *p, unsigned keep)
{
	*p = (struct buf_pool){.keep = keep};
}

void buf_pool_free(struct buf_pool *p)
{
	assert(p->lent == 0);
	while (p->free) {
		struct buf_chunk *c = p->free;

		p->free = c->next;
		free(c);
	}
	p->kept = 0;
}

/* Not zeroed: 16 KB that are written over at once. */
static struct buf_chunk *lend(struct buf_pool *p)
{
	struct buf_chunk *c = p->free;

	if (c) {
		p->free = c->next;
		p->kept--;
	} else {
		c = mem_grow(NULL, 1, sizeof(*c));
	}
	if (++p->lent >= p->tell && p->tell)
		p->full(p);
	c->next = NULL;
	c->start = c->end = 0;
	return c;
}

static void give_back(struct buf_pool *p, struct buf_chunk *c)
{
	p->lent--;
	if (p->kept >= p->keep) {
		free(c);
		return;
	}
	c->next = p->free;
	p->free = c;
	p->kept++;
}

void buf_add(struct buf *b, struct buf_pool *p, const void *data, size_t len)
{
	const uint8_t *from = data;

	b->len += len;
	while (len) {
		size_t n;

		if (!b->last || b->last->end == BUF_CHUNK) {
			struct buf_chunk *c = lend(p);

			if (b->last)
				b->last->next = c;
			else
				b->first = c;
			b->last = c;
		}
		n = BUF_CHUNK - b->last->end;
		if (n > len)
			n = len;
		memcpy(b->last->data + b->last->end, from, n);
		b->last->end += (uint32_t)n;
		from += n;
		len -= n;
	}
}

unsigned buf_peek(const struct buf *b, struct iovec *iov, unsigned max)
{
	struct buf_chunk *c;
	unsigned n = 0;

	for (c = b->first; c && n < max; c = c->next, n++)
		iov[n] = (struct iovec){.iov_base = c->data + c->start, .iov_len = c->end - c->start};
	return n;
}

void buf_consume(struct buf *b, struct buf_pool *p, size_t len)
{
	assert(len <= b->len);
	b->len -= len;
	while (len) {
		struct buf_chunk *c = b->first;
		size_t n = c->end - c->start;

		if (n > len) {
			c->start += (uint32_t)len;
			return;
		}
		len -= n;
		b->first = c->next;
		if (!b->first)
			b->last = NULL;
		give_back(p, c);
	}
}

void buf_clear(struct buf *b, struct buf_pool *p)
{
	buf_consume(b, p, b->len);
}
