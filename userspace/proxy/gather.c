/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gather.c: what the threads have now, for people. Each writes down its own, the control thread waits for all, not for
 * long: who asked has gone when the last one is late, so whoever is last frees.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "parts.h"

struct rows;
struct gather {
	void (*write)(struct site *at, struct rows *to);
	sem_t written;
	atomic_uint holders; /* threads that have not written, and who asked */
	struct rows {
		struct thread_job job;
		struct gather *gather;
		void *row;
		size_t size; /* of a row */
		unsigned count, room;
	} rows[];
};

static void *row_add(struct rows *r)
{
	if (r->count == r->room) {
		r->room = r->room ? 2 * r->room : 64;
		r->row = mem_grow(r->row, r->room, r->size);
	}
	return (char *)r->row + r->size * r->count++;
}

static void let_go(struct gather *g)
{
	if (atomic_fetch_sub(&g->holders, 1) != 1)
		return;
	for (unsigned i = 0; i < threads_count(); i++)
		free(g->rows[i].row);
	sem_destroy(&g->written);
	free(g);
}

static void rows_run(struct thread *t, struct thread_job *job)
{
	struct rows *r = container_of(job, struct rows, job);
	struct gather *g = r->gather;

	g->write(t->proxy, r);
	(void)sem_post(&g->written);
	let_go(g);
}

static int all_written(struct gather *g)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PROXY_GATHER_NS / 1000000000ull;
	for (unsigned i = 0; i < threads_count(); i++)
		while (sem_timedwait(&g->written, &until))
			if (errno != EINTR)
				return -errno;
	return 0;
}

/* Rows of all threads in one array; free(*ret). */
static int gather(void (*write)(struct site *at, struct rows *to), size_t size, void **ret, unsigned *ret_count)
{
	unsigned threads = threads_count(), count = 0;
	struct gather *g = mem_alloc(sizeof(*g) + threads * sizeof(g->rows[0]));
	char *all;
	int err;

	g->write = write;
	atomic_init(&g->holders, threads + 1);
	(void)sem_init(&g->written, 0, 0);
	for (unsigned i = 0; i < threads; i++) {
		g->rows[i].job.run = rows_run;
		g->rows[i].gather = g;
		g->rows[i].size = size;
		thread_do(thread_at(i), &g->rows[i].job);
	}
	err = all_written(g);
	for (unsigned i = 0; !err && i < threads; i++)
		count += g->rows[i].count;
	all = err ? NULL : mem_alloc(count * size + 1);
	*ret = all;
	*ret_count = count;
	for (unsigned i = 0; !err && i < threads; i++) {
		if (g->rows[i].count)
			memcpy(all, g->rows[i].row, g->rows[i].count * size);
		all += g->rows[i].count * size;
	}
	let_go(g);
	return err;
}

/* ------------------------------------------------------------------ rows */

static void write_relays(struct site *at, struct rows *to)
{
	list_each(l, &at->relays)
		relay_row(container_of(l, struct relay, link), row_add(to));
	list_each(l, &at->serves)
		serve_row(container_of(l, struct serve, link), row_add(to));
	list_each(l, &at->rests)
		rest_row(container_of(l, struct rest, link), row_add(to));
	list_each(l, &at->guards)
		guard_row(guard_of(l), row_add(to));
}

static void write_tunnel(void *ctx, const struct tunnel_row *r)
{
	memcpy(row_add(ctx), r, sizeof(*r));
}

static void write_tunnels(struct site *at, struct rows *to)
{
	tunnels_each(at->dialer.tunnels, write_tunnel, to);
	carriers_each(at, write_tunnel, to);
}

static void write_stats(struct site *at, struct rows *to)
{
	struct proxy_stats *s = row_add(to);

	*s = (struct proxy_stats){.thread = at->thread->index,
				  .relays = at->relay_count,
				  .resting = at->rest_count,
				  .tunnels = tunnels_count(at->dialer.tunnels) + at->carrier_count +
					     at->handshakes.count,
				  .spare_sockets = socket_pool_spare(at->dialer.sockets),
				  .http_connections = http_pool_count(at->pool),
				  .requests = at->requests,
				  .accepted = at->accepted,
				  .refused = at->refused,
				  .buffered = at->thread->pool.lent * BUF_CHUNK};
}

int proxy_relays(struct proxy *p, struct relay_row **ret, unsigned *ret_count)
{
	return gather(write_relays, sizeof(**ret), (void **)ret, ret_count);
}

int proxy_tunnels(struct proxy *p, struct tunnel_row **ret, unsigned *ret_count)
{
	return gather(write_tunnels, sizeof(**ret), (void **)ret, ret_count);
}

int proxy_stats(struct proxy *p, struct proxy_stats **ret, unsigned *ret_count)
{
	return gather(write_stats, sizeof(**ret), (void **)ret, ret_count);
}
