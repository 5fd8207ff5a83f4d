/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2_memory.c: what nghttp2 keeps of a connection, kept small while nothing happens on it.
 *
 *	the frame that is being written, 16 KiB, of which each header block dirties the first page. It holds something
 *	only until nghttp2_session_mem_send() is called again, and http2_flush() takes all that there is before it
 *	returns: sessions of a thread have one together. Not a client's, which has the preface in it from the start, and
 *	not those of who carries others' bytes: one of ours writes while it writes. It is known by its size: another
 *	nghttp2 may have another, then it is memory like the rest.
 *
 *	all other large pieces, 9 KiB: the session, its tables of HPACK, its table of streams, most of them zeros. They
 *	stand in a block of pages (pages.h). A server's session without a stream is packed after a second or more, and
 *	nothing is asked of nghttp2 until http2_memory_wake(): h->session is NULL meanwhile.
 *
 * Small pieces (streams, what HPACK remembers) are memory like all other.
 */
#include <stdlib.h>
#include <string.h>

#include "http2_parts.h"

#define FRAME (HTTP2_FRAME_HEAD + 1 + 16384) /* and a byte that says how long its padding is */
#define LARGE 512 /* bytes: what goes to the block */
#define REST_NS 1000000000ull
/* To pack and unpack is the work of half a request. Who was waked sooner is let be for twice as long next time. */
#define SLEEP_NS (10 * REST_NS)
#define SHIFT_MOST 6

/* Those of which there may be many. */
static bool sleeps(const struct http2 *h)
{
	return h->server && h->user->leaf;
}

static bool in_block(const struct http2 *h, const void *p)
{
	return h->block && (uintptr_t)p - (uintptr_t)h->block < PAGES_BLOCK;
}

/* Zeros, while the session is made. NULL: they stand elsewhere. */
static void *take_of_block(struct http2 *h, size_t size)
{
	void *p;

	if (h->session || !sleeps(h) || size < LARGE || h->block_used + size > PAGES_BLOCK)
		return NULL;
	if (!h->block)
		h->block = pages_take(&h->thread->pages);
	p = h->block + h->block_used;
	h->block_used += (uint16_t)((size + 15) & ~(size_t)15);
	return p;
}

/* NULL is an answer: nghttp2 ends the session then. */
static void *take(size_t size, void *arg)
{
	void *p = take_of_block(arg, size);

	return p ? p : malloc(size);
}

static void *take_zeroed(size_t count, size_t size, void *arg)
{
	void *p;

	if (size && count > SIZE_MAX / size)
		return NULL;
	p = take_of_block(arg, count * size);
	return p ? p : mem_alloc(count * size);
}

/* What stands in the block is given with it. */
static void give(void *p, void *arg)
{
	struct http2 *h = arg;

	if (p != h->written && !in_block(h, p))
		free(p);
}

static void *take_more(void *p, size_t size, void *arg)
{
	struct http2 *h = arg;
	size_t had;
	void *more;

	if (!p && !h->session && !h->written && sleeps(h) && size == FRAME) {
		h->written = h->thread->scratch[SCRATCH_FRAME];
		return h->written;
	}
	if (!p || (p != h->written && !in_block(h, p)))
		return realloc(p, size);
	had = p == h->written ? FRAME : (size_t)(h->block + PAGES_BLOCK - (uint8_t *)p);
	more = malloc(size);
	if (more)
		memcpy(more, p, size < had ? size : had);
	return more;
}

int http2_memory_session(struct http2 *h, const nghttp2_session_callbacks *calls, const nghttp2_option *option)
{
	nghttp2_mem mem = {h, take, give, take_zeroed, take_more};
	nghttp2_session *session; /* h->session is NULL while it is made: so they are known */
	int r = (h->server ? nghttp2_session_server_new3 : nghttp2_session_client_new3)(&session, calls, h, option,
											 &mem);

	if (!r)
		h->session = session;
	return r;
}

/* ------------------------------------------------------------------ rest */

static bool may_sleep(const struct http2 *h)
{
	return h->block && h->settings && !h->held && !h->head_ns && !h->over && !h->doomed && !h->draining &&
	       !h->more && !h->out.len && !h->corked.len && !nghttp2_session_want_write(h->session);
}

static void on_rest(struct loop_timer *timer)
{
	struct http2 *h = container_of(timer, struct http2, rest);
	uint64_t now = loop_now(h->thread->loop), idle = now - h->idle_ns, rest = REST_NS << h->rest_shift;

	if (h->streams)
		return; /* its last one will ask again */
	if (idle < rest) {
		loop_arm(h->thread->loop, timer, rest - idle);
		return;
	}
	if (!may_sleep(h))
		return;
	h->image = pages_pack(h->block);
	if (!h->image)
		return;
	h->asleep_ns = now;
	h->asleep = h->session;
	h->session = NULL;
}

/* Not at each last stream anew: the timer is early for those that came after it, and looks. */
void http2_memory_idle(struct http2 *h)
{
	h->rest.due = on_rest;
	if (!h->rest.armed && h->session && h->block)
		loop_arm(h->thread->loop, &h->rest, REST_NS << h->rest_shift);
}

void http2_memory_rouse(struct http2 *h)
{
	h->session = h->asleep;
	h->asleep = NULL;
	pages_unpack(h->block, h->image);
	h->image = NULL;
	if (loop_now(h->thread->loop) - h->asleep_ns >= SLEEP_NS)
		h->rest_shift = 0;
	else if (h->rest_shift < SHIFT_MOST)
		h->rest_shift++;
	http2_memory_idle(h);
}

void http2_memory_end(struct http2 *h)
{
	nghttp2_session_del(h->session);
	h->session = NULL;
	if (h->block)
		pages_give(&h->thread->pages, h->block);
	h->block = NULL;
	loop_disarm(h->thread->loop, &h->rest);
}
