/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.c: the threads' work as the control thread sees it: see proxy.h.
 *
 * A round is work for every thread, each in its own loop, and then something in the control thread. Rounds that were
 * begun in an order run in it.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parts.h"

#define SETTLE_NS 2000000ull	  /* what a turn closes is closed when a later one begins */
#define DRAIN_LOOK_NS 50000000ull /* are there relays left? */

struct listened { /* listeners of a pod: the threads own them, this knows their numbers */
	uint64_t netns;
	struct table_link link;
	int fd[][WIRE_LISTENERS]; /* by thread; -1 none */
};

struct edge { /* the threads own the fds, this knows their numbers */
	uint64_t netns;
	struct abi_addr addr;
	uint16_t port;
	struct list link;
	int fd[]; /* by thread; -1 none */
};

struct proxy {
	struct proxy_plan plan;
	struct thread *control;
	struct table pods; /* struct listened */
	struct list edges; /* struct edge */
	struct loop_timer drain;
	uint64_t drain_until;
	void (*drained)(void *ctx);
	void *drained_ctx;
	struct site site[THREAD_MAX];
};

static struct proxy *the; /* of this process: threads_start() hands nothing on */

/* ------------------------------------------------------------------ threads */

static void site_start(struct thread *t)
{
	struct proxy *p = the;
	struct site *at = &p->site[t->index];
	const struct socket_pool_plan sockets = {
		.control = p->control, .ask = p->plan.sockets, .ctx = p->plan.ctx};
	struct tunnels_plan tunnels = {.certs = p->plan.certs, .view = p->plan.view};

	at->thread = t;
	at->view = p->plan.view;
	at->certs = p->plan.certs;
	at->conns = p->plan.conns;
	at->affinity = p->plan.affinity;
	list_init(&at->relays);
	list_init(&at->serves);
	list_init(&at->rests);
	list_init(&at->guards);
	list_init(&at->exchanges);
	list_init(&at->mirrors);
	list_init(&at->listeners);
	list_init(&at->edges);
	list_init(&at->carriers);
	list_init(&at->handshakes.all);
	list_init(&at->edge_handshakes.all);
	at->handshakes.most = HANDSHAKES_MOST;
	at->handshakes.from = carrier_shakes_from;
	at->edge_handshakes.most = EDGE_HANDSHAKES_MOST;
	at->edge_handshakes.from = serve_shakes_from;
	stalls_start(at);
	shed_start(at, p->plan.threads);
	tunnels.sockets = socket_pool_new(t, &sockets);
	at->dialer = (struct dialer){.thread = t,
				     .view = p->plan.view,
				     .sockets = tunnels.sockets,
				     .tunnels = tunnels_new(t, &tunnels),
				     .own = p->plan.own};
	at->pool = http_pool_new(&(const struct http_pool_plan){.dialer = &at->dialer, .answer = exchange_answered});
	if (random_seed(&at->dialer.random))
		abort(); /* cannot fail once the machine has started */
	__atomic_store_n(&t->proxy, at, __ATOMIC_RELEASE); /* other threads may look */
}

static void relay_end_one(struct list *l, void *arg)
{
	struct relay *r = container_of(l, struct relay, link);
	const struct ending *e = arg;

	if (!e->netns || r->netns == e->netns || r->to == e->netns)
		relay_close(r, e->reason, e->why);
}

static void relays_end(struct site *at, uint64_t netns, enum abi_reason reason, const char *why)
{
	struct ending e = {.netns = netns, .reason = reason, .why = why};

	list_visit(&at->relays, relay_end_one, &e);
}

static void site_end(struct thread *t)
{
	struct site *at = t->proxy;

	loop_disarm(t->loop, &at->resume);
	loop_disarm(t->loop, &at->stalls);
	shed_end(at);
	guests_leave(at, 0);
	edge_close(at, 0, NULL, 0);
	relays_end(at, 0, ABI_RESET, "the worker ends");
	carriers_end(at, 0, "the worker ends");
	serves_end(at, 0, ABI_RESET, "the worker ends");
	guards_end(at, 0, ABI_RESET, "the worker ends");
	mirrors_close(at);
	http_pool_free(at->pool);
	tunnels_free(at->dialer.tunnels);
	loop_settle(t->loop);
	exchanges_free(at);
	socket_pool_free(at->dialer.sockets);
	table_free(&at->guests);
}

int proxy_open(struct proxy **ret, const struct proxy_plan *plan)
{
	struct proxy *p = mem_alloc(sizeof(*p));
	int err;

	p->plan = *plan;
	list_init(&p->edges);
	p->control = thread_control(plan->loop);
	the = p;
	err = threads_start(plan->threads, site_start, site_end);
	if (err) {
		thread_control_end(p->control);
		the = NULL;
		free(p);
		return err;
	}
	*ret = p;
	return 0;
}

void proxy_close(struct proxy *p)
{
	if (!p)
		return;
	loop_disarm(p->plan.loop, &p->drain);
	threads_stop();
	for (struct table_link *l = table_walk(&p->pods, NULL), *next; l; l = next) {
		next = table_walk(&p->pods, l);
		free(container_of(l, struct listened, link));
	}
	table_free(&p->pods);
	list_each_safe(l, next, &p->edges)
		free(container_of(l, struct edge, link));
	thread_control_end(p->control);
	the = NULL;
	free(p);
}

/* ------------------------------------------------------------------ rounds */

struct round {
	struct proxy *proxy;
	void (*work)(struct site *at, struct round *r);
	void (*done)(struct round *r); /* control thread; frees what it knows of; NULL: nothing */
	atomic_uint left;
	uint64_t netns;
	uint64_t number;
	void (*told)(void *ctx, uint64_t netns);
	void *ctx;
	struct thread_job finish;
	struct part {
		struct round *round;
		struct thread_job job;
		struct loop_timer settle;
		struct thread *thread;
	} part[];
};

static void round_finish(struct thread *control, struct thread_job *job)
{
	struct round *r = container_of(job, struct round, finish);

	if (r->done)
		r->done(r);
	free(r);
}

static void part_done(struct part *part)
{
	struct round *r = part->round;

	if (atomic_fetch_sub(&r->left, 1) == 1)
		thread_do(r->proxy->control, &r->finish);
}

static void settle_due(struct loop_timer *t)
{
	part_done(container_of(t, struct part, settle));
}

static void part_run(struct thread *t, struct thread_job *job)
{
	struct part *part = container_of(job, struct part, job);
	struct round *r = part->round;

	r->work(t->proxy, r);
	if (!r->done) {
		part_done(part);
		return;
	}
	part->settle.due = settle_due;
	loop_arm(t->loop, &part->settle, SETTLE_NS);
}

static struct round *round_new(struct proxy *p, void (*work)(struct site *at, struct round *r))
{
	struct round *r = mem_alloc(sizeof(*r) + threads_count() * sizeof(r->part[0]));

	r->proxy = p;
	r->work = work;
	r->finish.run = round_finish;
	atomic_init(&r->left, threads_count());
	return r;
}

static void round_begin(struct round *r)
{
	unsigned count = threads_count();

	for (unsigned i = 0; i < count; i++) {
		r->part[i].round = r;
		r->part[i].job.run = part_run;
		thread_do(thread_at(i), &r->part[i].job);
	}
}

/* ------------------------------------------------------------------ listeners */

struct listen_job {
	struct thread_job job;
	uint64_t netns;
	int fd[WIRE_LISTENERS];
};

static void listen_run(struct thread *t, struct thread_job *job)
{
	struct listen_job *j = container_of(job, struct listen_job, job);

	guests_listen(t->proxy, j->netns, j->fd);
	free(j);
}

static struct listened *listened_find(const struct proxy *p, uint64_t netns)
{
	struct table_link *l = table_first(&p->pods, table_hash(&netns, sizeof(netns)));

	for (; l; l = table_next_same(l)) {
		struct listened *is = container_of(l, struct listened, link);

		if (is->netns == netns)
			return is;
	}
	return NULL;
}

static struct listened *listened_get(struct proxy *p, uint64_t netns)
{
	struct listened *is = listened_find(p, netns);
	unsigned count = threads_count();

	if (is)
		return is;
	is = mem_alloc(sizeof(*is) + count * sizeof(is->fd[0]));
	is->netns = netns;
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < WIRE_LISTENERS; k++)
			is->fd[i][k] = -1;
	table_add(&p->pods, &is->link, table_hash(&netns, sizeof(netns)));
	return is;
}

void proxy_listen(struct proxy *p, uint64_t netns, unsigned first, const int *fds, unsigned nfds)
{
	struct listened *is = listened_get(p, netns);

	for (unsigned i = 0; i < nfds; i += WIRE_LISTENERS) {
		unsigned thread = first + i / WIRE_LISTENERS;
		struct listen_job *j;

		if (thread >= threads_count() || nfds - i < WIRE_LISTENERS) {
			for (unsigned k = i; k < nfds; k++)
				close(fds[k]);
			return;
		}
		j = mem_alloc(sizeof(*j));
		j->job.run = listen_run;
		j->netns = netns;
		memcpy(j->fd, fds + i, sizeof(j->fd));
		if (!thread)
			threads_near(fds[i]); /* the first is what catches what the pod's programs dial */
		memcpy(is->fd[thread], fds + i, sizeof(j->fd));
		thread_do(thread_at(thread), &j->job);
	}
}

void proxy_each_listener(const struct proxy *p,
			 void (*each)(void *to, uint64_t netns, unsigned thread, const int fd[3]), void *to)
{
	for (struct table_link *l = table_walk(&p->pods, NULL); l; l = table_walk(&p->pods, l)) {
		const struct listened *is = container_of(l, struct listened, link);

		for (unsigned i = 0; i < threads_count(); i++)
			if (is->fd[i][0] >= 0)
				each(to, is->netns, i, is->fd[i]);
	}
}

/* ------------------------------------------------------------------ listeners of Gateways */

struct edge_job {
	struct thread_job job;
	uint64_t netns;
	struct abi_addr addr;
	uint16_t port;
	int fd; /* -1: no more */
};

static void edge_run(struct thread *t, struct thread_job *job)
{
	struct edge_job *j = container_of(job, struct edge_job, job);

	if (j->fd >= 0)
		edge_listen(t->proxy, j->netns, &j->addr, j->port, j->fd);
	else
		edge_close(t->proxy, j->netns, &j->addr, j->port);
	free(j);
}

static void edge_do(const struct edge *e, unsigned thread, int fd)
{
	struct edge_job *j = mem_alloc(sizeof(*j));

	j->job.run = edge_run;
	j->netns = e->netns;
	j->addr = e->addr;
	j->port = e->port;
	j->fd = fd;
	thread_do(thread_at(thread), &j->job);
}

static struct edge *edge_find(const struct proxy *p, uint64_t netns, const struct abi_addr *addr, uint16_t port)
{
	list_each(l, &p->edges) {
		struct edge *e = container_of(l, struct edge, link);

		if (e->netns == netns && e->port == port && addr_equal(&e->addr, addr))
			return e;
	}
	return NULL;
}

static struct edge *edge_get(struct proxy *p, uint64_t netns, const struct abi_addr *addr, uint16_t port)
{
	struct edge *e = edge_find(p, netns, addr, port);

	if (e)
		return e;
	e = mem_alloc(sizeof(*e) + threads_count() * sizeof(e->fd[0]));
	e->netns = netns;
	e->addr = *addr;
	e->port = port;
	for (unsigned i = 0; i < threads_count(); i++)
		e->fd[i] = -1;
	list_add(&p->edges, &e->link);
	return e;
}

void proxy_edge_listen(struct proxy *p, uint64_t netns, const struct abi_addr *addr, uint16_t port, unsigned first,
		       const int *fds, unsigned nfds)
{
	struct edge *e = edge_get(p, netns, addr, port);

	for (unsigned i = 0; i < nfds; i++) {
		if (first + i >= threads_count()) {
			close(fds[i]);
			continue;
		}
		e->fd[first + i] = fds[i];
		edge_do(e, first + i, fds[i]);
	}
}

void proxy_edge_close(struct proxy *p, uint64_t netns, const struct abi_addr *addr, uint16_t port)
{
	struct edge *e = edge_find(p, netns, addr, port);

	if (!e)
		return;
	for (unsigned i = 0; i < threads_count(); i++)
		if (e->fd[i] >= 0)
			edge_do(e, i, -1);
	list_del(&e->link);
	free(e);
}

void proxy_each_edge(const struct proxy *p,
		     void (*each)(void *to, const struct abi_addr *addr, uint16_t port, unsigned thread, int fd),
		     void *to)
{
	list_each(l, &p->edges) {
		const struct edge *e = container_of(l, struct edge, link);

		for (unsigned i = 0; i < threads_count(); i++)
			if (e->fd[i] >= 0)
				each(to, &e->addr, e->port, i, e->fd[i]);
	}
}

/* ------------------------------------------------------------------ what has changed */

static void leave_work(struct site *at, struct round *r)
{
	guests_leave(at, r->netns);
	edge_close(at, r->netns, NULL, 0);
	relays_end(at, r->netns, ABI_POD_GONE, NULL);
	carriers_end(at, r->netns, "the pod has gone");
	serves_end(at, r->netns, ABI_POD_GONE, NULL);
	guards_end(at, r->netns, ABI_POD_GONE, NULL);
	http_pool_pod_gone(at->pool, r->netns);
	tunnels_pod_gone(at->dialer.tunnels, r->netns);
	socket_pool_leave(at->dialer.sockets, r->netns);
}

static void leave_done(struct round *r)
{
	r->told(r->ctx, r->netns);
}

void proxy_leave(struct proxy *p, uint64_t netns, void (*done)(void *ctx, uint64_t netns), void *ctx)
{
	struct listened *is = listened_find(p, netns);
	struct round *r = round_new(p, leave_work);

	if (is) {
		table_del(&p->pods, &is->link);
		free(is);
	}
	r->netns = netns;
	r->told = done;
	r->ctx = ctx;
	r->done = leave_done;
	round_begin(r);
}

static void judge_one(struct list *l, void *arg)
{
	relay_judge(container_of(l, struct relay, link));
}

static void view_work(struct site *at, struct round *r)
{
	at->found = (struct site_found){0};
	listeners_view_changed(at);
	tunnels_view_changed(at->dialer.tunnels); /* sources and destinations */
	if (!(r->number & VIEW_POLICY))
		return; /* addresses of other nodes come and go all the time */
	http_pool_view_changed(at->pool);
	carriers_view_changed(at);
	list_visit(&at->relays, judge_one, NULL);
	guards_view_changed(at);
}

void proxy_view_changed(struct proxy *p, unsigned changed)
{
	struct round *r;

	if (!changed)
		return;
	r = round_new(p, view_work);
	r->number = changed;
	round_begin(r);
}

static void trust_work(struct site *at, struct round *r)
{
	tunnels_trust_changed(at->dialer.tunnels);
	carriers_trust_changed(at);
}

void proxy_trust_changed(struct proxy *p)
{
	round_begin(round_new(p, trust_work));
}

/* ------------------------------------------------------------------ drain */

static void drain_work(struct site *at, struct round *r)
{
	at->draining = true;
	guests_leave(at, 0);
	edge_close(at, 0, NULL, 0);
	tunnels_drain(at->dialer.tunnels);
	carriers_drain(at);
	serves_drain(at);
	guards_drain(at);
	http_pool_drain(at->pool);
}

static void drain_due(struct loop_timer *t)
{
	struct proxy *p = container_of(t, struct proxy, drain);
	unsigned left = 0;

	for (unsigned i = 0; i < threads_count(); i++)
		left += __atomic_load_n(&p->site[i].relay_count, __ATOMIC_RELAXED);
	if (left && loop_now(p->plan.loop) < p->drain_until) {
		loop_arm(p->plan.loop, t, DRAIN_LOOK_NS);
		return;
	}
	if (left)
		log_info("%u connection%s did not end in time: cut", left, text_plural(left));
	p->drained(p->drained_ctx);
}

static void drain_begun(struct round *r)
{
	drain_due(&r->proxy->drain);
}

void proxy_drain(struct proxy *p, uint64_t after_ns, void (*done)(void *ctx), void *ctx)
{
	struct round *r;

	if (p->drained)
		return;
	p->drained = done;
	p->drained_ctx = ctx;
	p->drain.due = drain_due;
	p->drain_until = clock_ns() + after_ns;
	r = round_new(p, drain_work);
	r->done = drain_begun;
	round_begin(r);
}

void proxy_reasons(const struct proxy *p, uint64_t ret[ABI_REASON_MAX])
{
	memset(ret, 0, ABI_REASON_MAX * sizeof(*ret));
	for (unsigned i = 0; i < threads_count(); i++)
		for (unsigned k = 0; k < ABI_REASON_MAX; k++)
			ret[k] += __atomic_load_n(&p->site[i].reasons[k], __ATOMIC_RELAXED);
}
