/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_proxy.c: the threads of the data plane and what the control thread does for them: see worker.h.
 *
 * Orders for sockets are asked of the supervisor one by one and answered by their number; when a new supervisor has
 * come, those without an answer are asked again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "thread.h"
#include "worker.h"

#define BEAT_NS 250000000ull /* abi.h: after 3 s without it the kernel counts us as gone */
#define BEATS_A_LOOK 8	     /* at the threads: who is in the same turn still does not go on */

struct worker_proxy {
	struct worker_proxy_plan plan;
	struct proxy *proxy;
	struct list orders; /* struct socket_order, asked of the supervisor */
	struct list deaf;   /* struct deaf */
	uint32_t seq;
	volatile uint64_t *beat;
	struct loop_timer beats;
	bool serves; /* else the supervisor is told that we go on, not the kernel */
	unsigned beaten;
	unsigned turn[THREAD_MAX]; /* at the last look */
	unsigned stuck;		   /* index of who was told of then, or THREAD_MAX */
	uint64_t counted[ABI_REASON_MAX]; /* of proxy_reasons: in the kernel's map already */
	bool full;			  /* the map of reasons cannot be written: said */
};

struct deaf { /* a pod whose listeners did not come, until its ENROL or RELEASE does */
	uint64_t netns;
	struct list link;
};

/* ------------------------------------------------------------------ listeners */

static struct deaf *deaf_find(const struct worker_proxy *p, uint64_t netns)
{
	list_each(l, &p->deaf) {
		struct deaf *d = container_of(l, struct deaf, link);

		if (d->netns == netns)
			return d;
	}
	return NULL;
}

bool worker_proxy_deaf(struct worker_proxy *p, uint64_t netns, char *why)
{
	struct deaf *d = deaf_find(p, netns);

	if (!d)
		return false;
	if (why)
		text_copy(why, 256,
			  "the worker has as many files open as it may, and no room for the pod's listeners: try "
			  "again when connections have ended, or raise LimitNOFILE of weftd");
	list_del(&d->link);
	free(d);
	return true;
}

static void left(void *ctx, uint64_t netns)
{
}

/* With those of other threads the pod would be half there. */
static void turn_deaf(struct worker_proxy *p, uint64_t netns)
{
	struct deaf *d = deaf_find(p, netns);

	if (!d) {
		d = mem_alloc(sizeof(*d));
		d->netns = netns;
		list_add(&p->deaf, &d->link);
	}
	proxy_leave(p->proxy, netns, left, NULL);
}

void worker_proxy_listen(struct worker_proxy *p, const struct wire *m, const int *fds, unsigned nfds)
{
	uint64_t netns = m->pod.netns;

	if (!m->number) /* of the first thread: all are sent anew */
		(void)worker_proxy_deaf(p, netns, NULL);
	if (m->number < 0) {
		turn_deaf(p, netns);
	} else if (!deaf_find(p, netns)) {
		proxy_listen(p->proxy, netns, (unsigned)m->number, fds, nfds);
		return;
	}
	while (nfds)
		close(fds[--nfds]);
}

/* ------------------------------------------------------------------ sockets */

static void order_send(struct worker_proxy *p, const struct socket_order *o)
{
	const struct wire_sockets w = {.netns = o->netns, .kind = o->kind, .ipv6 = o->ipv6, .count = o->count};

	worker_link_sockets(p->plan.link, o->seq, &w);
}

static void order_came(void *ctx, struct socket_order *o)
{
	struct worker_proxy *p = ctx;

	if (!++p->seq)
		p->seq = 1;
	o->seq = p->seq;
	list_add(&p->orders, &o->link);
	order_send(p, o);
}

/* So many connections that one more has no room: who wants it is refused, and what is left is the supervisor's. */
static int no_room(const int *fds, unsigned nfds)
{
	for (unsigned i = 0; i < nfds; i++)
		if (sock_is_last(fds[i]))
			return -EMFILE;
	return 0;
}

void worker_proxy_sockets(struct worker_proxy *p, const struct wire *m, const int *fds, unsigned nfds)
{
	list_each(l, &p->orders) {
		struct socket_order *o = container_of(l, struct socket_order, link);

		if (o->seq != m->seq)
			continue;
		list_del(l);
		if (m->number)
			log_debug("sockets in a pod: %s: %s", strerror(-m->number), m->text);
		socket_pool_answer(o, m->number ? m->number : no_room(fds, nfds), fds, nfds);
		return;
	}
	while (nfds)
		close(fds[--nfds]);
}

void worker_proxy_back(struct worker_proxy *p)
{
	list_each(l, &p->orders)
		order_send(p, container_of(l, struct socket_order, link));
}

/* ------------------------------------------------------------------ every 250 ms */

static void count_reasons(struct worker_proxy *p)
{
	uint64_t now[ABI_REASON_MAX];

	proxy_reasons(p->proxy, now);
	for (unsigned i = 1; i < ABI_REASON_MAX; i++) {
		int err = now[i] != p->counted[i]
				  ? traffic_reason_add(p->plan.fd[WIRE_FD_REASONS], i, now[i] - p->counted[i])
				  : 0;

		if (!err) {
			p->counted[i] = now[i];
		} else if (!p->full) {
			p->full = true;
			log_warning("counters of reasons cannot be written: %s", strerror(-err));
		}
	}
}

/*
 * One that does not go on is told to the supervisor, who sees whether it hangs, or only has no CPU: the same as last
 * time, if that still does not; else the first.
 */
static void look_at_threads(struct worker_proxy *p)
{
	unsigned stuck = THREAD_MAX;
	pid_t who = 0;

	for (unsigned i = 0; i < threads_count(); i++) {
		pid_t id;
		unsigned turn = thread_turn(thread_at(i), &id);

		if (turn & 1 && turn == p->turn[i] && (stuck == THREAD_MAX || i == p->stuck)) {
			stuck = i;
			who = id;
		}
		p->turn[i] = turn;
	}
	p->stuck = stuck;
	if (stuck < THREAD_MAX)
		worker_link_send(p->plan.link, WIRE_STUCK, p->turn[stuck], who, 0, NULL);
}

static void beats_due(struct loop_timer *t)
{
	struct worker_proxy *p = container_of(t, struct worker_proxy, beats);

	loop_arm(p->plan.loop, t, BEAT_NS);
	p->beaten++;
	if (p->serves) {
		*p->beat = clock_ns() & ~ABI_BEAT_LATE;
		count_reasons(p);
	}
	if (p->beaten % BEATS_A_LOOK == 0 && p->serves)
		look_at_threads(p);
	else if (p->beaten % BEATS_A_LOOK == 0)
		worker_link_send(p->plan.link, WIRE_STUCK, 0, 0, 0, NULL);
}

void worker_proxy_serve(struct worker_proxy *p)
{
	p->serves = true;
	beats_due(&p->beats);
}

/* ------------------------------------------------------------------ life */

int worker_proxy_open(struct worker_proxy **ret, const struct worker_proxy_plan *plan)
{
	struct worker_proxy *p = mem_alloc(sizeof(*p));
	const struct proxy_plan proxy = {.loop = plan->loop,
					 .view = plan->view,
					 .certs = plan->certs,
					 .conns = plan->fd[WIRE_FD_CONNS],
					 .own = plan->fd[WIRE_FD_OWN],
					 .affinity = plan->fd[WIRE_FD_AFFINITY],
					 .threads = plan->threads,
					 .sockets = order_came,
					 .ctx = p};
	int err;

	p->plan = *plan;
	p->beats.due = beats_due;
	list_init(&p->orders);
	list_init(&p->deaf);
	p->beat = mmap(NULL, sizeof(*p->beat), PROT_READ | PROT_WRITE, MAP_SHARED, plan->fd[WIRE_FD_BEAT], 0);
	err = p->beat == MAP_FAILED ? -errno : proxy_open(&p->proxy, &proxy);
	if (err) {
		free(p);
		return err;
	}
	loop_arm(plan->loop, &p->beats, BEAT_NS);
	*ret = p;
	return 0;
}

struct proxy *worker_proxy(struct worker_proxy *p)
{
	return p->proxy;
}
