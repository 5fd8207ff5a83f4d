/* SPDX-License-Identifier: Apache-2.0 */
/* socket_pool.c: see socket_pool.h. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "socket_pool.h"
#include "stream.h"

#define STOCK_FIRST 2
#define SOON_NS 50000000ull /* a stock that had to be ordered again so soon is doubled */

struct shelf { /* sockets of one pod, kind and family */
	struct shelf_key {
		uint64_t netns;
		uint32_t kind, ipv6;
	} key;
	int fd[POOL_STOCK];
	unsigned count;
	unsigned ordered; /* under way */
	unsigned stock;	  /* there and under way, when it was ordered last */
	unsigned taken;	  /* since idle_due() looked */
	uint64_t ordered_ns, used_ns;
	struct list waits; /* struct socket_wait */
	struct table_link link;
};

struct socket_pool {
	struct thread *thread;
	struct socket_pool_plan plan;
	struct table shelves;
	unsigned spare;
	struct loop_timer idle;
};

static void idle_due(struct loop_timer *t);

struct socket_pool *socket_pool_new(struct thread *t, const struct socket_pool_plan *plan)
{
	struct socket_pool *p = mem_alloc(sizeof(*p));

	p->thread = t;
	p->plan = *plan;
	p->idle.due = idle_due;
	return p;
}

static struct shelf *find(const struct socket_pool *p, const struct shelf_key *key)
{
	struct table_link *l = table_first(&p->shelves, table_hash(key, sizeof(*key)));

	for (; l; l = table_next_same(l)) {
		struct shelf *s = container_of(l, struct shelf, link);

		if (s->key.netns == key->netns && s->key.kind == key->kind && s->key.ipv6 == key->ipv6)
			return s;
	}
	return NULL;
}

static struct shelf *shelf_get(struct socket_pool *p, const struct shelf_key *key)
{
	struct shelf *s = find(p, key);

	if (s)
		return s;
	s = mem_alloc(sizeof(*s));
	s->key = *key;
	s->stock = STOCK_FIRST;
	list_init(&s->waits);
	table_add(&p->shelves, &s->link, table_hash(key, sizeof(*key)));
	return s;
}

static void shelf_cut(struct socket_pool *p, struct shelf *s, unsigned most)
{
	while (s->count > most) {
		close(s->fd[--s->count]);
		p->spare--;
	}
}

static void shelf_drop(struct socket_pool *p, struct shelf *s)
{
	shelf_cut(p, s, 0);
	table_del(&p->shelves, &s->link);
	free(s);
}

void socket_pool_free(struct socket_pool *p)
{
	if (!p)
		return;
	loop_disarm(p->thread->loop, &p->idle);
	for (struct table_link *l = table_walk(&p->shelves, NULL), *next; l; l = next) {
		next = table_walk(&p->shelves, l);
		shelf_drop(p, container_of(l, struct shelf, link));
	}
	table_free(&p->shelves);
	free(p);
}

unsigned socket_pool_spare(const struct socket_pool *p)
{
	return p->spare;
}

/* ------------------------------------------------------------------ orders */

static void order_asked(struct thread *control, struct thread_job *job)
{
	struct socket_order *o = container_of(job, struct socket_order, job);

	o->pool->plan.ask(o->pool->plan.ctx, o);
}

static void order(struct socket_pool *p, struct shelf *s, unsigned count)
{
	struct socket_order *o = mem_alloc(sizeof(*o));

	s->ordered += count;
	*o = (struct socket_order){.netns = s->key.netns,
				   .kind = s->key.kind,
				   .ipv6 = s->key.ipv6,
				   .count = count,
				   .asked = count,
				   .job.run = order_asked,
				   .pool = p,
				   .thread = p->thread};
	thread_do(p->plan.control, &o->job);
}

static unsigned waiting(const struct shelf *s)
{
	unsigned n = 0;

	list_each(l, &s->waits) {
		if (++n == POOL_STOCK)
			break;
	}
	return n;
}

/*
 * Half of the stock is left when the next one is ordered, so nobody waits unless a half is gone before the supervisor
 * has had its turn; where it lasts for SOON_NS it is large enough.
 */
static void refill(struct socket_pool *p, struct shelf *s)
{
	unsigned wanted = waiting(s), have = s->count + s->ordered;
	uint64_t now = loop_now(p->thread->loop);
	bool scarce;

	if (have >= wanted && have - wanted >= s->stock / 2)
		return;
	scarce = shares_scarce(p->thread); /* then only for who waits: nobody has needed the others yet */
	if (!scarce && s->ordered_ns && now - s->ordered_ns < SOON_NS && s->stock < POOL_STOCK)
		s->stock *= 2;
	s->ordered_ns = now;
	if (!scarce && wanted < s->stock)
		wanted = s->stock;
	while (have < wanted) {
		unsigned count = wanted - have < WIRE_SOCKET_BATCH ? wanted - have : WIRE_SOCKET_BATCH;

		order(p, s, count);
		have += count;
	}
}

static void give(struct shelf *s, int fd)
{
	struct socket_wait *w = container_of(s->waits.next, struct socket_wait, link);

	list_del(&w->link);
	w->waiting = false;
	w->got(w, fd);
}

static void order_came(struct thread *t, struct thread_job *job)
{
	struct socket_order *o = container_of(job, struct socket_order, job);
	struct socket_pool *p = o->pool;
	const struct shelf_key key = {.netns = o->netns, .kind = o->kind, .ipv6 = o->ipv6};
	struct shelf *s = find(p, &key);
	unsigned used = 0;

	for (unsigned i = 0; i < o->count; i++)
		shares_seen(t, o->fd[i]);
	if (s) {
		s->ordered -= s->ordered < o->asked ? s->ordered : o->asked;
		while (o->error && !list_empty(&s->waits))
			give(s, o->error);
		while (used < o->count && !list_empty(&s->waits))
			give(s, o->fd[used++]);
		/* a callback may have made the pod leave */
		s = find(p, &key);
	}
	while (s && used < o->count && s->count < array_size(s->fd)) {
		s->fd[s->count++] = o->fd[used++];
		p->spare++;
	}
	while (used < o->count)
		close(o->fd[used++]);
	if (s && !o->error)
		refill(p, s);
	free(o);
}

void socket_pool_answer(struct socket_order *o, int error, const int *fds, unsigned nfds)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < nfds; i++) {
		if (!error && kept < o->count)
			o->fd[kept++] = fds[i];
		else
			close(fds[i]);
	}
	o->error = error || kept ? error : -EIO;
	o->count = kept;
	o->job.run = order_came;
	thread_do(o->thread, &o->job);
}

/* ------------------------------------------------------------------ taking */

void socket_pool_take(struct socket_pool *p, uint64_t netns, enum wire_socket kind, bool ipv6, struct socket_wait *w)
{
	const struct shelf_key key = {.netns = netns, .kind = kind, .ipv6 = ipv6};
	struct shelf *s = shelf_get(p, &key);
	int fd = -1;

	s->used_ns = loop_now(p->thread->loop);
	s->taken++;
	if (!p->idle.armed)
		loop_arm(p->thread->loop, &p->idle, POOL_IDLE_NS);
	if (s->count) {
		fd = s->fd[--s->count];
		p->spare--;
	} else {
		w->waiting = true;
		list_add(&s->waits, &w->link);
	}
	refill(p, s);
	if (fd >= 0)
		w->got(w, fd);
}

void socket_pool_cancel(struct socket_wait *w)
{
	if (!w->waiting)
		return;
	list_del(&w->link);
	w->waiting = false;
}

void socket_pool_leave(struct socket_pool *p, uint64_t netns)
{
	for (struct table_link *l = table_walk(&p->shelves, NULL), *next; l; l = next) {
		struct shelf *s = container_of(l, struct shelf, link);

		next = table_walk(&p->shelves, l);
		if (s->key.netns != netns)
			continue;
		table_del(&p->shelves, &s->link);
		while (!list_empty(&s->waits))
			give(s, -ENOENT);
		shelf_cut(p, s, 0);
		free(s);
	}
}

const char *socket_pool_why(int error)
{
	const char *why = sock_error(-error);

	if (error == -EBUSY)
		return "too many sockets asked for";
	return strcmp(why, SOCK_RESOURCES) ? "no socket in the pod" : why;
}

int socket_pool_bind(int fd, const struct abi_addr *addr)
{
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	bool v4 = addr_is_v4(addr);
	int r;

	memcpy(&four.sin_addr, addr->byte + 12, 4);
	memcpy(&six.sin6_addr, addr->byte, 16);
	r = v4 ? bind(fd, (struct sockaddr *)&four, sizeof(four)) : bind(fd, (struct sockaddr *)&six, sizeof(six));
	return r ? -errno : 0;
}

static void idle_due(struct loop_timer *t)
{
	struct socket_pool *p = container_of(t, struct socket_pool, idle);
	uint64_t now = loop_now(p->thread->loop);

	for (struct table_link *l = table_walk(&p->shelves, NULL), *next; l; l = next) {
		struct shelf *s = container_of(l, struct shelf, link);

		next = table_walk(&p->shelves, l);
		if (now - s->used_ns >= POOL_IDLE_NS && list_empty(&s->waits) && !s->ordered) {
			shelf_drop(p, s);
			continue;
		}
		if (s->taken < s->stock && s->stock > STOCK_FIRST) {
			s->stock /= 2;
			shelf_cut(p, s, s->stock);
		}
		s->taken = 0;
	}
	if (p->shelves.count)
		loop_arm(p->thread->loop, &p->idle, POOL_IDLE_NS);
}
