/* SPDX-License-Identifier: Apache-2.0 */
/* mem.c: memory that never says no, and arenas. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base.h"

/*
 * Chunks of an arena double from ARENA_FIRST to ARENA_CHUNK: an arena of one small object (there are
 * 100 000 of them in a large mesh) stays small, an arena of a large file has few chunks. What is larger
 * than a quarter of the next chunk gets a chunk of its own behind the open one, which stays in use.
 */
#define ARENA_FIRST 512
#define ARENA_CHUNK (64u << 10)
#define ARENA_ALIGN 16
#define ARENA_RESET (8u << 10) /* the largest chunk that is kept for the next use */

#define SMALL 1032 /* what glibc keeps for the next malloc() of its size */

struct arena_chunk {
	struct arena_chunk *before;
	size_t size, used; /* of data */
	_Alignas(ARENA_ALIGN) unsigned char data[];
};

/* Nothing here may allocate: this is what is left to do when there is no memory. */
static _Noreturn void out_of_memory(void)
{
	static const char text[] = "weft: out of memory\n";
	ssize_t n = send(STDERR_FILENO, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* as log.c: who reads? */

	if (n < 0 && errno == ENOTSOCK)
		n = write(STDERR_FILENO, text, sizeof(text) - 1);
	(void)n;
	abort();
}

void *mem_alloc(size_t size)
{
	void *p;

	/* glibc's calloc() knows no cache of freed pieces before 2.41: of small ones malloc() is cheaper by far. */
	if (size <= SMALL)
		p = malloc(size ? size : 1);
	else
		p = calloc(1, size);
	if (!p)
		out_of_memory();
	return size <= SMALL ? memset(p, 0, size) : p;
}

void *mem_grow(void *p, size_t count, size_t size)
{
	size_t bytes;
	void *bigger;

	if (__builtin_mul_overflow(count, size, &bytes))
		out_of_memory();
	bigger = realloc(p, bytes ? bytes : 1);
	if (!bigger)
		out_of_memory();
	return bigger;
}

char *mem_string(const char *s)
{
	char *copy = strdup(s);

	if (!copy)
		out_of_memory();
	return copy;
}

char *mem_vformat(const char *fmt, va_list ap)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		out_of_memory();
	return s;
}

char *mem_format(const char *fmt, ...)
{
	char *s;
	va_list ap;

	va_start(ap, fmt);
	s = mem_vformat(fmt, ap);
	va_end(ap);
	return s;
}

void mem_wipe(void *p, size_t size)
{
	if (size)
		explicit_bzero(p, size);
}

static struct arena_chunk *chunk_new(size_t size)
{
	struct arena_chunk *c;

	if (size > SIZE_MAX - sizeof(*c))
		out_of_memory();
	c = mem_alloc(sizeof(*c) + size);
	c->size = size;
	return c;
}

/* The next chunk: twice the last one. Its malloc header and ours included, it fills a power of two. */
static size_t chunk_size(const struct arena *a)
{
	size_t total = ARENA_FIRST;

	if (a->last)
		total = 2 * (a->last->size + sizeof(struct arena_chunk) + ARENA_ALIGN);
	if (total > ARENA_CHUNK)
		total = ARENA_CHUNK;
	return total - sizeof(struct arena_chunk) - ARENA_ALIGN;
}

void arena_reserve(struct arena *a, size_t size)
{
	if (!a->last)
		a->last = chunk_new(size);
}

void *arena_alloc(struct arena *a, size_t size)
{
	struct arena_chunk *c = a->last;
	void *p;

	if (size > SIZE_MAX / 2)
		out_of_memory();
	size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	if (!size)
		size = ARENA_ALIGN; /* two things never have one address */
	a->bytes += size;
	if (c && size <= c->size - c->used) {
		p = c->data + c->used;
		c->used += size;
		return p;
	}
	if (c && size > chunk_size(a) / 4) {
		struct arena_chunk *alone = chunk_new(size);

		alone->used = size;
		alone->before = c->before;
		c->before = alone;
		return alone->data;
	}
	c = chunk_new(size > chunk_size(a) ? size : chunk_size(a));
	c->used = size;
	c->before = a->last;
	a->last = c;
	return c->data;
}

char *arena_string(struct arena *a, const char *s, size_t len)
{
	char *copy;

	if (len == SIZE_MAX)
		out_of_memory();
	copy = arena_alloc(a, len + 1);
	if (len)
		memcpy(copy, s, len);
	return copy;
}

void arena_free(struct arena *a)
{
	struct arena_chunk *c = a->last, *before;

	/* The arena itself may live in one of its chunks (struct object does): not touched after the frees. */
	a->last = NULL;
	a->bytes = 0;
	for (; c; c = before) {
		before = c->before;
		free(c);
	}
}

void arena_reset(struct arena *a)
{
	struct arena_chunk *c = a->last, *before;

	a->bytes = 0;
	if (!c || c->size > ARENA_RESET) {
		arena_free(a);
		return;
	}
	before = c->before;
	memset(c->data, 0, c->used);
	c->used = 0;
	c->before = NULL;
	for (c = before; c; c = before) {
		before = c->before;
		free(c);
	}
}
