/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_mirror.c: a copy of a request goes to another Service; its answer is read and thrown away. The request never
 * waits for a copy: what of the body a mirror does not take is held up to MIRROR_BYTES, then the copy is given up. A
 * copy lives on without its request, for MIRROR_NS. Where files or memory run short, copies do first.
 */
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

#define MIRROR_BYTES 65536u
#define MIRROR_NS 15000000000ull
#define MIRRORS_MAX 1024 /* of one thread */

struct mirror {
	struct site *site;
	struct http_pool_wait wait;
	struct http_exchange *up; /* NULL: not sent yet */
	struct view_load *load;
	struct arena arena;
	struct http_head *head;
	struct buf body;    /* that was not taken yet */
	bool complete;	    /* all of the body has come */
	bool closed;
	struct loop_timer deadline;
	struct loop_task task; /* frees */
	struct list link;      /* site.mirrors */
	struct list beside;    /* exchange.mirrors: while the body flows; else empty */
};

/* What of a body may wait for it: less where many bytes wait. */
static size_t most(const struct mirror *m)
{
	return buf_share(&m->site->thread->pool, MIRROR_BYTES);
}

static void mirror_free(struct loop_task *t)
{
	struct mirror *m = container_of(t, struct mirror, task);

	arena_free(&m->arena);
	free(m);
}

static void mirror_close(struct mirror *m, const char *why)
{
	struct thread *t = m->site->thread;

	if (m->closed)
		return;
	m->closed = true;
	if (why)
		log_debug("a mirrored request is given up: %s", why);
	http_pool_cancel(&m->wait);
	if (m->up)
		stream_close(&m->up->s, why);
	pick_lower(m->load);
	loop_disarm(t->loop, &m->deadline);
	buf_clear(&m->body, &t->pool);
	list_del(&m->link);
	list_del(&m->beside);
	m->site->mirror_count--;
	m->task.run = mirror_free;
	loop_defer(t->loop, &m->task);
}

static void deadline_due(struct loop_timer *t)
{
	mirror_close(container_of(t, struct mirror, deadline), "no answer in time");
}

/* ------------------------------------------------------------------ what goes, and what comes */

static void discard(struct mirror *m)
{
	struct stream_bytes run[STREAM_RUNS];
	struct stream *s = &m->up->s;

	for (unsigned i = 0, runs; i < 64 && (runs = stream_peek(s, run, THREAD_SCRATCH)); i++) {
		size_t all = 0;

		for (unsigned k = 0; k < runs; k++)
			all += run[k].len;
		stream_consume(s, all);
	}
}

/* Never reads: the request's bytes may lie where it would read to. */
static void mirror_push(struct mirror *m)
{
	if (!m->up || m->closed)
		return;
	if (!m->up->s.finished && stream_drain(&m->up->s, &m->body) && m->complete)
		stream_finish(&m->up->s);
	if (m->up->s.finished && m->up->s.ended)
		mirror_close(m, NULL);
}

static void up_ready(struct stream *s, unsigned events)
{
	struct mirror *m = s->owner;

	if (m->closed)
		return;
	if (events & STREAM_FAILED) {
		mirror_close(m, s->why);
		return;
	}
	if (events & STREAM_READABLE && m->up->head_came)
		discard(m);
	mirror_push(m);
}

void mirror_answered(struct http_exchange *up)
{
	struct mirror *m = up->s.owner;

	if (!up->head_came)
		return;
	discard(m);
	mirror_push(m);
}

bool mirror_is(const struct http_exchange *up)
{
	return up->s.ready == up_ready;
}

static void waited(struct http_pool_wait *w, struct http_connection *c, bool fresh, enum abi_reason reason,
		   const char *why)
{
	struct mirror *m = container_of(w, struct mirror, wait);

	m->up = c ? http_request(c, m->head, m->head->body == HTTP_NO_BODY) : NULL;
	arena_free(&m->arena); /* nobody else is asked */
	m->head = NULL;
	if (!m->up) {
		mirror_close(m, why ? why : "the connection takes no request");
		return;
	}
	m->up->s.ready = up_ready;
	m->up->s.owner = m;
	mirror_push(m);
}

/* ------------------------------------------------------------------ what exchanges do */

void mirror_begin(struct exchange *x, const struct route_target *target)
{
	struct site *at = x->site;
	const struct view_service *s = view_backend(at->view, target);
	struct http_pool_key key;
	struct view_load *load;
	struct mirror *m;

	if (!s || at->mirror_count >= MIRRORS_MAX || x->head->upgrade.len || x->head->method == HTTP_CONNECT)
		return;
	load = exchange_endpoint(x, s, &(struct pick_question){0}, &key);
	if (load && exchange_allowed(x, x->head, &key)) {
		pick_lower(load);
		load = NULL;
	}
	if (!load)
		return;
	m = mem_alloc(sizeof(*m));
	m->site = at;
	m->load = load;
	m->head = http_head_keep(&m->arena, x->head, 0);
	m->head->expect = false;
	http_field_remove(m->head, HTTP_TEXT("expect"));
	m->complete = m->head->body == HTTP_NO_BODY;
	m->wait.done = waited;
	m->wait.modest = shares_scarce(at->thread);
	m->deadline.due = deadline_due;
	loop_arm(at->thread->loop, &m->deadline, MIRROR_NS);
	list_add(&at->mirrors, &m->link);
	list_init(&m->beside);
	if (!m->complete)
		list_add(&x->mirrors, &m->beside);
	at->mirror_count++;
	http_pool_take(at->pool, &key, &m->wait);
}

/* The first `len` bytes of the runs have gone on. */
void mirrors_feed(void *ctx, const struct stream_bytes *run, size_t len)
{
	struct list *mirrors = ctx;

	list_each_safe(l, next, mirrors) {
		struct mirror *m = container_of(l, struct mirror, beside);
		size_t left = len;

		if (m->body.len + len > MIRROR_BYTES + THREAD_SCRATCH) {
			mirror_close(m, "it does not keep up");
			continue;
		}
		for (unsigned i = 0; left; i++) {
			size_t n = run[i].len < left ? run[i].len : left;

			buf_add(&m->body, &m->site->thread->pool, run[i].data, n);
			left -= n;
		}
		mirror_push(m);
		if (!m->closed && m->body.len > most(m))
			mirror_close(m, "it does not keep up");
	}
}

/* The body is complete, or will never be (`why`). */
void mirrors_end(struct list *mirrors, const char *why)
{
	list_each_safe(l, next, mirrors) {
		struct mirror *m = container_of(l, struct mirror, beside);

		list_del(l);
		if (why) {
			mirror_close(m, why);
			continue;
		}
		m->complete = true;
		mirror_push(m);
	}
}

void mirrors_close(struct site *at)
{
	while (!list_empty(&at->mirrors))
		mirror_close(container_of(at->mirrors.next, struct mirror, link), "the worker ends");
}
