/* SPDX-License-Identifier: Apache-2.0 */
/* owner.h: an owner of a stream that counts its events, and looks at it. All functions are static. */
#ifndef WEFT_TESTS_OWNER_H
#define WEFT_TESTS_OWNER_H

#include "sockets.h"

static struct stream_bytes run[STREAM_RUNS];

struct owner {
	unsigned opened, readable, writable, failed;
};

static inline void count(struct stream *s, unsigned events)
{
	struct owner *o = s->owner;

	o->opened += !!(events & STREAM_OPEN);
	o->readable += !!(events & STREAM_READABLE);
	o->writable += !!(events & STREAM_WRITABLE);
	o->failed += !!(events & STREAM_FAILED);
}

static inline struct stream *own(struct stream *s, struct owner *o)
{
	*o = (struct owner){0};
	s->owner = o;
	s->ready = count;
	return s;
}

static inline size_t peeked(struct stream *s, size_t most)
{
	unsigned i, n = stream_peek(s, run, most);
	size_t all = 0;

	for (i = 0; i < n; i++)
		all += run[i].len;
	assert_true(all <= most);
	return all;
}

static inline size_t write_bytes(struct stream *s, const void *p, size_t len)
{
	struct stream_bytes b = {.data = (uint8_t *)p, .len = len};

	return stream_write(s, &b, 1);
}

#endif
