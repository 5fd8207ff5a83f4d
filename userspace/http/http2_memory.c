/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2_memory.c: what nghttp2 keeps of a connection, kept small while nothing happens on it.
 *
 * Of what it asks for when it makes a session two pieces are much larger than the rest:
 *
 *	the frame that is being written, 16 KiB, of which each header block dirties the first page. It holds something
 *	only until nghttp2_session_mem_send() is called again, and http2_flush() takes all that there is before it
 *	returns: sessions of a thread have one together. Not a client's, which has the preface in it from the start, and
 *	not those of who carries others' bytes: one of ours writes while it writes.
 *
 *	the table of streams, 4 KiB, all zeros while there is no stream. After a second of that its memory is given
 *	back, if zeros is what it holds.
 *
 * Both are known by their size. Another nghttp2 may have others: then they are memory like the rest.
 */
#include <stdlib.h>
#include <string.h>

#include "http2_parts.h"

#define FRAME (HTTP2_FRAME_HEAD + 1 + 16384) /* and a byte that says how long its padding is */
#define REST_NS 1000000000ull

/* NULL is an answer: nghttp2 ends the session then. */
static void *take(size_t size, void *arg)
{
	return malloc(size);
}

static void *take_zeroed(size_t count, size_t size, void *arg)
{
	struct http2 *h = arg;

	if (size && count > SIZE_MAX / size)
		return NULL;
	if (!h->session && !h->table && count * size == PAGES_SIZE) {
		h->table = pages_take(&h->thread->pages);
		return h->table;
	}
	return mem_alloc(count * size);
}

static void give(void *p, void *arg)
{
	struct http2 *h = arg;

	if (p != h->written && p != h->table) {
		free(p);
	} else if (p && p == h->table) {
		h->table = NULL;
		pages_give(&h->thread->pages, p);
	}
}

static void *take_more(void *p, size_t size, void *arg)
{
	struct http2 *h = arg;
	size_t had;
	void *more;

	if (!p && !h->session && !h->written && h->server && h->user->leaf && size == FRAME) {
		h->written = h->thread->scratch[SCRATCH_FRAME];
		return h->written;
	}
	if (!p || (p != h->written && p != h->table))
		return realloc(p, size);
	had = p == h->written ? FRAME : PAGES_SIZE;
	more = mem_alloc(size);
	memcpy(more, p, size < had ? size : had);
	give(p, arg);
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

static void on_rest(struct loop_timer *timer)
{
	struct http2 *h = container_of(timer, struct http2, rest);
	uint64_t idle = loop_now(h->thread->loop) - h->idle_ns;

	if (h->streams || !h->table)
		return; /* its last stream will ask again */
	if (idle < REST_NS)
		loop_arm(h->thread->loop, timer, REST_NS - idle);
	else
		pages_rest(h->table);
}

/* Not at each last stream anew: the timer is late for those that came after it, and looks. */
void http2_memory_idle(struct http2 *h)
{
	h->rest.due = on_rest;
	if (h->table && !h->rest.armed)
		loop_arm(h->thread->loop, &h->rest, REST_NS);
}

void http2_memory_end(struct http2 *h)
{
	nghttp2_session_del(h->session);
	loop_disarm(h->thread->loop, &h->rest);
}
