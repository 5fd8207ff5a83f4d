/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shed.c: bytes that nobody takes, of all connections of a thread. Each connection may make us keep some: what was read
 * and is not written, and what HTTP/2 has allowed (http2_parts.h), as long as a stall may last. So much for each is too
 * much for a memory where many are. The more there is, the less is read at once (buf_share()). Where that is not
 * enough, who holds most gives way: of the place that holds most (shares.h) the connections that do, until there are
 * fewer.
 */
#include "exchange.h"

#define MOST_OF_ALL (1024u << 20) /* bytes, of all threads together */
#define MOST_LEAST (256u << 20)	  /* of one, however many there are */
#define AGAIN_NS 20000000ull	  /* what was cut has gone by then */
#define LATER_NS 100000000ull
#define SAY_NS 60000000000ull
#define WHY "too many bytes wait, and it holds most of them"

struct heap {
	enum { WEIGH, RANK, CUT, DONE } step;
	size_t place[SHARES_COLUMNS];
	size_t all, most; /* of one place */
	size_t greatest;  /* connection of such a one */
};

/* One connection in that step. true: it is to be cut. */
static bool consider(struct heap *heap, uint32_t place, size_t kept)
{
	size_t *all = &heap->place[place % SHARES_COLUMNS];

	if (heap->step == WEIGH) {
		*all += kept;
		heap->all += kept;
		heap->most = *all > heap->most ? *all : heap->most;
	} else if (*all == heap->most && heap->step == RANK) {
		heap->greatest = kept > heap->greatest ? kept : heap->greatest;
	} else if (*all == heap->most) {
		return 2 * kept >= heap->greatest;
	}
	return false;
}

static void look_at_serve(struct list *l, void *heap)
{
	struct serve *v = container_of(l, struct serve, link);
	size_t kept = v->http ? http_kept(v->http) : 0;

	list_each(at, &v->exchanges) {
		const struct exchange *x = container_of(at, struct exchange, link);

		kept += x->up ? stream_kept(&x->up->s) : 0;
	}
	if (consider(heap, caller_place(&v->caller), kept))
		serve_close(v, ABI_OVERLOADED, WHY);
}

static void look_at_guard(struct list *l, void *heap)
{
	struct guard *g = guard_of(l);
	uint32_t place;
	size_t kept = guard_kept(g, &place);

	if (consider(heap, place, kept))
		guard_shed(g, WHY);
}

static void look_at_relay(struct list *l, void *heap)
{
	struct relay *r = container_of(l, struct relay, link);
	size_t kept = 0;

	for (int i = 0; i < 2; i++)
		kept += r->side[i] ? stream_kept(r->side[i]) : 0;
	if (consider(heap, r->place, kept))
		relay_close(r, ABI_OVERLOADED, WHY);
}

static void look(struct site *at, struct heap *heap)
{
	list_visit(&at->serves, look_at_serve, heap);
	list_visit(&at->guards, look_at_guard, heap);
	list_visit(&at->relays, look_at_relay, heap);
	heap->step++;
}

static void say(struct site *at, uint64_t now)
{
	if (now < at->say_shed_ns)
		return;
	at->say_shed_ns = now + SAY_NS;
	log_error("%zu MiB wait for readers that do not take them: who holds most is cut",
		  at->thread->pool.lent * BUF_CHUNK >> 20);
}

/* Until there are fewer; copies of requests and connections of tunnels keep some too, which nobody here answers for. */
static void shed_due(struct loop_timer *t)
{
	struct site *at = container_of(t, struct site, shed);
	struct buf_pool *pool = &at->thread->pool;
	struct heap heap = {0};

	if (pool->lent < pool->most) {
		pool->tell = pool->most;
		return;
	}
	look(at, &heap);
	if (heap.all < pool->lent * BUF_CHUNK / 2) {
		loop_arm(at->thread->loop, t, LATER_NS);
		return;
	}
	say(at, loop_now(at->thread->loop));
	while (heap.step < DONE)
		look(at, &heap);
	loop_arm(at->thread->loop, t, AGAIN_NS);
}

static void full(struct buf_pool *pool)
{
	struct site *at = container_of(pool, struct thread, pool)->proxy;

	pool->tell = 0; /* shed_due() asks again */
	loop_arm(at->thread->loop, &at->shed, 0);
}

void shed_start(struct site *at, unsigned threads)
{
	size_t most = MOST_OF_ALL / (threads ? threads : 1);
	struct buf_pool *pool = &at->thread->pool;

	pool->most = (most > MOST_LEAST ? most : MOST_LEAST) / BUF_CHUNK;
	pool->tell = pool->most;
	pool->full = full;
	at->shed.due = shed_due;
}

void shed_end(struct site *at)
{
	at->thread->pool.most = at->thread->pool.tell = 0;
	loop_disarm(at->thread->loop, &at->shed);
}
