/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c: the worker program, weft-worker: started by weftd with fd 3 and no privilege.
 *
 *	WIRE_START --> maps, folder --> source_load --loaded, all pods named--> update() --> WIRE_READY
 *	file changed, pod enrolled or released, node's addresses changed --> update() --> answers
 *
 * update() is world_update, publish, answers. Nothing is published before everything that was there has been read:
 * the kernel goes on by what the last worker wrote, and a world without its policies would open what they close.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "report.h"
#include "worker.h"
#include "worker_certs.h"

#define WORKER_SOCK 3
#define SWEEP_NS 30000000000ull /* records that no socket backs */
#define AGAIN_NS 1000000000ull /* a folder or a map that failed */
#define DRAIN_NS 2000000000ull	    /* weftd waits 3 s for us */

struct asked { /* a pod whose ENROL or RELEASE is answered when the kernel has it */
	uint64_t netns;
	uint32_t seq;
	bool release;
	struct list link;
};

struct worker {
	struct loop *loop;
	struct link *link;
	struct view *view;
	struct worker_certs *certs;
	struct worker_proxy *proxy;
	struct worker_gateway *gateway;
	struct admin *admin;
	struct store *store;
	struct report report; /* world, source, publish, fds: what the answers are made from */
	char *folder;
	struct list asked, leaving; /* RELEASEs wait for the threads */
	bool started, all_named, published;
	bool changed; /* something came in this turn */
	bool ready_said;
	char *why; /* not ready: as it was said last */
	struct worker_told told;
	struct worker_addresses addresses;
	struct loop_watch signals, files;
	struct loop_timer sweep, retry;
	bool read_again; /* the folder, when `retry` is due */
	struct worker_forbidden forbidden;
	int exit_code;
};

static void update(struct worker *w);

/* ------------------------------------------------------------------ what is wrong, said once */

/* "service.yaml line 3: Service shop/web: spec.selector: matches no pod ..." */
static void add_problem(struct text *to, const struct problem *p, bool line)
{
	if (p->file[0])
		text_add(to, "%s", p->file);
	if (p->file[0] && p->line && line)
		text_add(to, " line %u", p->line);
	text_add(to, "%s%s%s%s%s%s", p->file[0] ? ": " : "", p->object, p->object[0] ? ": " : "", p->field,
		 p->field[0] ? ": " : "", p->reason);
}

static void tell_problem(void *ctx, const struct problem *p)
{
	struct text key = {0}, text = {0};

	add_problem(&key, p, false);
	add_problem(&text, p, true);
	worker_told_say(&((struct worker *)ctx)->told, p->warning ? LOG_WARNING : LOG_ERROR, key.data, text.data);
	text_free(&key);
	text_free(&text);
}

/* The source logs what is wrong with files; here it is the world and the kernel's maps. */
static void tell_problems(struct worker *w)
{
	unsigned count;
	const char *const *error = publish_errors(w->report.publish, &count);

	worker_told_begin(&w->told);
	world_problems(w->report.world, tell_problem, w);
	report_forced(&w->report, tell_problem, w);
	for (unsigned i = 0; i < count; i++)
		worker_told_say(&w->told, LOG_ERROR, error[i], error[i]);
	worker_told_end(&w->told);
}

/* ------------------------------------------------------------------ ready or not */

static void first_error(void *ctx, const struct problem *p)
{
	struct text *first = ctx;

	if (p->warning || first->len)
		return;
	add_problem(first, p, true);
}

static void say_ready(struct worker *w)
{
	struct text first = {0};
	unsigned errors = 0, warnings;
	char *why;
	bool same;

	report_problems(&w->report, first_error, &first, &errors, &warnings);
	if (!w->published)
		why = mem_format("the manifests in %s are not read yet", w->folder);
	else if (errors)
		why = mem_format("%u error%s: %s", errors, errors == 1 ? "" : "s, first",
				 first.len ? first.data : "");
	else
		why = mem_string("");
	same = w->ready_said && text_equal(why, w->why);
	free(w->why);
	w->why = why;
	text_free(&first);
	if (same)
		return;
	w->ready_said = true;
	w->report.ready = !*why;
	text_copy(w->report.why, sizeof(w->report.why), why);
	worker_link_send(w->link, WIRE_READY, 0, w->report.ready, 0, why);
	if (w->report.ready)
		log_info("ready: %u pod%s, %zu service port%s", w->report.world->enrolled_count,
			 text_plural(w->report.world->enrolled_count), w->report.world->fronts.count,
			 text_plural(w->report.world->fronts.count));
	else
		log_debug("not ready: %s", why); /* weftd says it, and the problem itself is in the log */
}

/* ------------------------------------------------------------------ connections that a policy forbids */

/* Will this publish() switch the policy of a pod? Only then live connections are looked at. */
static bool policy_switches(const struct world *w)
{
	list_each(at, &w->dirty_pods) {
		const struct world_pod *p = container_of(at, struct world_pod, dirty_link);

		if (p->enrolled && p->set && p->in_kernel && p->kernel.policy != p->set->number)
			return true;
	}
	return false;
}

static void make_room(const struct report *r)
{
	int went = traffic_make_room(r, ABI_MAX_TRAFFIC / 2);

	if (went < 0)
		log_warning("counters of what is gone cannot be removed: %s", strerror(-went));
	else if (went)
		log_info("%d counters of pods and services that are gone made room", went);
}

static void sweep_due(struct loop_timer *t)
{
	struct worker *w = container_of(t, struct worker, sweep);

	worker_stale_look(w->link, &w->report, &w->told);
	if (w->published) { /* so every pod is known */
		(void)worker_forbidden_end(&w->forbidden, true);
		make_room(&w->report);
	}
	loop_arm(w->loop, &w->sweep, SWEEP_NS);
}

/* ------------------------------------------------------------------ the world into the kernel */

/* No thread holds anything of the netns any more. */
static void left(void *ctx, uint64_t netns)
{
	struct worker *w = ctx;

	list_each_safe(at, next, &w->leaving) {
		struct asked *a = container_of(at, struct asked, link);

		if (a->netns != netns)
			continue;
		worker_link_send(w->link, WIRE_RELEASED, a->seq, 0, netns, NULL);
		list_del(at);
		free(a);
	}
}

static void answer_release(struct worker *w, struct asked *a)
{
	list_add(&w->leaving, &a->link);
	proxy_leave(worker_proxy(w->proxy), a->netns, left, w);
}

static void answer_enrol(struct worker *w, struct asked *a)
{
	const struct world_pod *p = world_pod_in(w->report.world, a->netns);
	const char *const *error;
	unsigned count;

	if (p && p->in_kernel) {
		worker_link_send(w->link, WIRE_ENROLLED, a->seq, 0, a->netns, NULL);
		return;
	}
	error = publish_errors(w->report.publish, &count);
	worker_link_send(w->link, WIRE_ENROLLED, a->seq, -ENOSPC, a->netns,
			 count ? error[0] : "the kernel did not take the pod: see weftctl status");
	/* The supervisor drops it, so that it does not come with a later publish. */
	world_release(w->report.world, a->netns);
	w->changed = true;
}

static void answer_asked(struct worker *w)
{
	list_each_safe(at, next, &w->asked) {
		struct asked *a = container_of(at, struct asked, link);

		list_del(&a->link);
		if (a->release) {
			answer_release(w, a);
			continue;
		}
		answer_enrol(w, a);
		free(a);
	}
}

static void publish_world(struct worker *w)
{
	struct report *r = &w->report;
	bool switches, first = !w->published;
	unsigned deletes;
	int err;

	world_update(r->world);
	worker_certs_update(w->certs, r->world);
	worker_gateway_tls(w->gateway, r->world);
	view_gather(w->view, r->world);
	switches = first || policy_switches(r->world);
	publish_switch(r->publish);
	w->published = true;
	proxy_view_changed(worker_proxy(w->proxy), view_update(w->view, r->world));
	worker_gateway_update(w->gateway);
	if (first)
		worker_proxy_serve(w->proxy);
	if (switches)
		worker_forbidden_switched(&w->forbidden);
	deletes = publish_stats(r->publish)->deletes;
	err = publish_sweep(r->publish);
	if (err && publish_stats(r->publish)->deletes > deletes)
		w->changed = true; /* what has gone may be the room that was missing */
	else if (err)
		loop_arm(w->loop, &w->retry, AGAIN_NS);
	log_debug("published: %u updates, %u deletes, %llu us", publish_stats(r->publish)->updates,
		  publish_stats(r->publish)->deletes,
		  (unsigned long long)publish_stats(r->publish)->took_ns / 1000);
}

static void update(struct worker *w)
{
	/* Services find endpoints among the pods: without all of them a restart would refuse for a moment. */
	if (!w->started || !w->report.source->loaded || !w->all_named)
		return;
	do {
		w->changed = false;
		publish_world(w);
		answer_asked(w);
	} while (w->changed);
	tell_problems(w);
	say_ready(w);
}

/* ------------------------------------------------------------------ the folder */

static void took(struct worker *w, int changed)
{
	if (changed < 0) {
		char *text = mem_format("%s: %s: tried again every second", w->report.source->name,
					strerror(-changed));

		worker_told_say(&w->told, LOG_ERROR, text, text);
		free(text);
		loop_arm(w->loop, &w->retry, AGAIN_NS);
		return;
	}
	if (changed || !w->published)
		update(w);
}

static void files_ready(struct loop_watch *at, uint32_t events)
{
	struct worker *w = container_of(at, struct worker, files);

	took(w, source_ready(w->report.source));
}

static void retry_due(struct loop_timer *t)
{
	struct worker *w = container_of(t, struct worker, retry);

	if (!w->report.source->loaded || w->read_again) {
		w->read_again = false;
		took(w, source_load(w->report.source));
	} else {
		update(w);
	}
}

/* There is nothing wrong with the file. */
static void read_again(struct worker *w)
{
	w->read_again = true;
	loop_arm(w->loop, &w->retry, AGAIN_NS);
}

/* The worker's user may not be able to read the file: then the supervisor opens it. */
static int open_file(void *ctx, const char *name)
{
	struct worker *w = ctx;
	int fd = openat(w->report.fd[WIRE_FD_MANIFESTS], name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int err = fd < 0 ? -errno : 0;

	if (wire_want(err))
		read_again(w);
	if (err != -EACCES && err != -EPERM)
		return err ? err : fd;
	worker_link_send(w->link, WIRE_OPEN, 0, 0, 0, name);
	return -EINPROGRESS;
}

/* ------------------------------------------------------------------ addresses of the node */

static void addresses_changed(void *ctx)
{
	struct worker *w = ctx;

	worker_addresses_tell(w->report.world);
	update(w);
}

/* ------------------------------------------------------------------ messages of the supervisor */

static void stop(struct worker *w, int code)
{
	w->exit_code = code;
	loop_stop(w->loop);
}

static int open_source(struct worker *w, const struct wire_start *s)
{
	const struct manifests_config config = {
		.path = w->folder,
		.folder = w->report.fd[WIRE_FD_MANIFESTS],
		.notify = w->report.fd[WIRE_FD_NOTIFY],
		.store = w->store,
		.open = open_file,
		.ctx = w,
	};

	w->report.source = manifests_source(&config);
	w->files = (struct loop_watch){.fd = w->report.source->fd, .events = EPOLLIN, .ready = files_ready};
	return loop_watch(w->loop, &w->files);
}

static void trust_changed(void *ctx, uint64_t number)
{
	struct worker *w = ctx;

	proxy_trust_changed(worker_proxy(w->proxy));
}

static void certs_changed(void *ctx)
{
	struct worker *w = ctx;

	if (w->published)
		say_ready(w);
}

static int open_proxy(struct worker *w, const struct wire_start *s)
{
	const struct worker_proxy_plan plan = {
		.loop = w->loop,
		.link = w->link,
		.fd = w->report.fd,
		.view = w->view,
		.certs = worker_certs(w->certs),
		.threads = s->threads,
	};
	int err = worker_proxy_open(&w->proxy, &plan);

	if (err)
		return err;
	w->report.proxy = worker_proxy(w->proxy);
	w->gateway = worker_gateway_open(&(const struct worker_gateway_plan){.loop = w->loop,
									     .link = w->link,
									     .world = w->report.world,
									     .proxy = w->report.proxy,
									     .threads = s->threads});
	w->report.relays = proxy_relays;
	w->report.tunnels = proxy_tunnels;
	w->report.stats = proxy_stats;
	certs_on_trust(worker_certs(w->certs), trust_changed, w);
	certs_on_change(worker_certs(w->certs), certs_changed, w);
	w->report.certs = worker_certs(w->certs);
	return 0;
}

static void take_settings(struct report *r, const struct wire_start *s)
{
	r->splice_on = s->splice_on;
	r->kernel_safe = s->kernel_safe;
	text_copy(r->at_stake, sizeof(r->at_stake), s->at_stake);
}

static int start(struct worker *w, const struct wire_start *s)
{
	struct report *r = &w->report;
	int err;

	w->folder = mem_string(s->manifests);
	w->store = store_new();
	take_settings(r, s);
	r->fd[WIRE_FD_LIVE] = s->live ? r->fd[WIRE_FD_LIVE] : -1; /* what came in its place is unused */
	r->world = world_new(w->store, s->node, s->trust_domain, s->root_namespace);
	r->publish = publish_new(r->world, r->fd, &err);
	if (!r->publish) {
		log_error("the kernel's maps cannot be read: %s", strerror(-err));
		return err;
	}
	w->forbidden = (struct worker_forbidden){.loop = w->loop, .link = w->link, .report = r};
	w->view = view_new();
	w->certs = worker_certs_open(w->loop, w->link, s, r->fd[WIRE_FD_CERTS]);
	err = open_proxy(w, s);
	if (err) {
		log_error("the threads of the data plane cannot be started: %s", strerror(-err));
		return err;
	}
	err = open_source(w, s);
	if (err) {
		log_error("folder %s cannot be watched: %s", w->folder, strerror(-err));
		return err;
	}
	err = admin_open(&w->admin, w->loop, r->fd[WIRE_FD_ADMIN], report_ask, r);
	if (err) {
		log_error("the admin socket cannot be used: %s", strerror(-err));
		return err;
	}
	err = worker_link_stay(w->link, r->fd, s);
	if (err) {
		log_error("the socket for the next weftd cannot be used: %s", strerror(-err));
		return err;
	}
	worker_addresses_watch(&w->addresses, w->loop, addresses_changed, w);
	worker_addresses_tell(r->world);
	w->started = true;
	sweep_due(&w->sweep);
	took(w, source_load(r->source));
	return 0;
}

static void got_start(struct worker *w, const struct wire *m, int *fds, unsigned nfds)
{
	if (w->started || nfds != WIRE_FD_COUNT) {
		log_error("weftd sent a start with %u fds instead of %d: is it of the version of weft-worker?", nfds,
			  WIRE_FD_COUNT);
		while (nfds)
			close(fds[--nfds]);
		stop(w, 1);
		return;
	}
	memcpy(w->report.fd, fds, nfds * sizeof(*fds));
	if (worker_confine(fds[WIRE_FD_MANIFESTS], fds[WIRE_FD_STATE]) || start(w, &m->start))
		stop(w, 1);
}

static void remember(struct worker *w, const struct wire *m, bool release)
{
	struct asked *a = mem_alloc(sizeof(*a));

	*a = (struct asked){.netns = m->pod.netns, .seq = m->seq, .release = release};
	list_add(&w->asked, &a->link);
	w->changed = true;
}

static void got_enrol(struct worker *w, const struct wire *m)
{
	char why[256] = "";
	int err = worker_proxy_deaf(w->proxy, m->pod.netns, why) ? -EMFILE : world_enrol(w->report.world, &m->pod, why);

	if (err)
		worker_link_send(w->link, WIRE_ENROLLED, m->seq, err, m->pod.netns, why);
	else
		remember(w, m, false);
}

static void got_file(struct worker *w, const struct wire *m, int *fds, unsigned *nfds)
{
	int fd = m->number < 0 ? m->number : *nfds == 1 ? fds[0]
							: -EBADMSG;

	if (fd >= 0)
		*nfds = 0; /* the source takes it */
	took(w, manifests_opened(w->report.source, m->text, fd, m->number > 0));
	if (wire_want(fd))
		read_again(w);
}

static void got(void *ctx, const struct wire *m, int *fds, unsigned nfds)
{
	struct worker *w = ctx;

	if (m->type == WIRE_START) {
		got_start(w, m, fds, nfds);
		return;
	}
	if (!w->started) {
		log_error("weftd sent \"%s\" before the start", wire_type_name(m->type));
		stop(w, 1);
	} else if (m->type == WIRE_ENROL) {
		got_enrol(w, m);
	} else if (m->type == WIRE_RELEASE) {
		(void)worker_proxy_deaf(w->proxy, m->pod.netns, NULL);
		world_release(w->report.world, m->pod.netns);
		remember(w, m, true);
	} else if (m->type == WIRE_POD_FDS) {
		worker_proxy_listen(w->proxy, m, fds, nfds);
		nfds = 0;
	} else if (m->type == WIRE_SOCKETS) {
		worker_proxy_sockets(w->proxy, m, fds, nfds);
		nfds = 0;
	} else if (m->type == WIRE_SETTINGS) {
		w->report.splice_on = m->number != 0;
	} else if (m->type == WIRE_CERTS) {
		worker_certs_got(w->certs, m, fds, nfds);
		nfds = 0;
	} else if (m->type == WIRE_EDGE_OPEN) {
		w->changed |= worker_gateway_got(w->gateway, m, fds, nfds);
		nfds = 0;
	} else if (m->type == WIRE_FILE) {
		got_file(w, m, fds, &nfds);
	} else if (m->type == WIRE_SWEPT) {
		if (worker_stale_swept(&w->report, &w->told, m->number))
			loop_arm(w->loop, &w->sweep, AGAIN_NS);
	} else if (m->type == WIRE_NAMED) {
		publish_all_enrolled(w->report.publish);
		w->all_named = true;
		w->changed = true;
	} else {
		log_warning("weftd sent \"%s\", which is not for a worker", wire_type_name(m->type));
	}
	while (nfds)
		close(fds[--nfds]);
}

/* Many pods that come at once are one publication. */
static void turn(void *ctx)
{
	struct worker *w = ctx;

	if (w->changed)
		update(w);
}

/* What only a supervisor can do waits for the next one. */
static void lost(void *ctx)
{
	struct worker *w = ctx;

	list_each_safe(at, next, &w->asked) { /* nobody waits for the answers */
		list_del(at);
		free(container_of(at, struct asked, link));
	}
	log_warning("weftd has gone: going on without it; no pod comes or goes until it is back");
}

static void back(void *ctx, const struct wire_start *start)
{
	struct worker *w = ctx;

	log_info("weftd is back");
	take_settings(&w->report, start);
	w->ready_said = false;
	if (w->published)
		say_ready(w);
	worker_proxy_back(w->proxy);
	worker_certs_back(w->certs);
	worker_gateway_back(w->gateway);
	manifests_unanswered(w->report.source); /* the last one died over files that it was asked to open, or before */
	took(w, source_load(w->report.source));
}

static void listeners(void *ctx, void (*each)(void *to, uint64_t netns, unsigned thread, const int fd[3]), void *to)
{
	proxy_each_listener(worker_proxy(((struct worker *)ctx)->proxy), each, to);
}

static void gone(void *ctx, int error)
{
	struct worker *w = ctx;

	if (error)
		log_error("the socket to weftd failed: %s", strerror(-error));
	else
		log_info("ending; the kernel goes on deciding");
	stop(w, error ? 1 : 0);
}

/* ------------------------------------------------------------------ the process */

static void drained(void *ctx)
{
	stop(ctx, 0);
}

static void drain(struct worker *w)
{
	if (w->proxy)
		proxy_drain(worker_proxy(w->proxy), DRAIN_NS, drained, w);
	else
		stop(w, 0);
}

static void signals_ready(struct loop_watch *at, uint32_t events)
{
	struct worker *w = container_of(at, struct worker, signals);
	struct signalfd_siginfo info;

	while (read(at->fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGHUP) {
			drain(w);
		} else if (w->started) {
			log_info("reading %s again", w->folder);
			worker_addresses_tell(w->report.world);
			w->changed = true;
			took(w, source_load(w->report.source));
			turn(w);
		}
	}
}

static int watch_signals(struct worker *w)
{
	int fd = worker_signals();

	w->signals = (struct loop_watch){.fd = fd, .events = EPOLLIN, .ready = signals_ready};
	return fd < 0 ? fd : loop_watch(w->loop, &w->signals);
}

static int run(struct worker *w)
{
	const struct link_plan plan = {.loop = w->loop,
				       .sock = WORKER_SOCK,
				       .got = got,
				       .turn = turn,
				       .gone = gone,
				       .lost = lost,
				       .back = back,
				       .listeners = listeners,
				       .ctx = w};
	int err = watch_signals(w);

	if (!err)
		err = worker_link_open(&w->link, &plan);
	if (!err)
		err = loop_run(w->loop);
	if (err)
		log_error("the loop failed: %s", strerror(-err));
	/* What is left is reset: an end by FIN would look to apps as if all had been said, and hold their netns. */
	else if (w->proxy)
		proxy_close(worker_proxy(w->proxy));
	return err ? 1 : w->exit_code;
}

int main(int argc, char **argv)
{
	static struct worker w = {
		.sweep.due = sweep_due,
		.retry.due = retry_due,
	};

	if (worker_options(argc, argv, WORKER_SOCK))
		return 2;
	w.loop = loop_new();
	list_init(&w.asked);
	list_init(&w.leaving);
	/* The kernel keeps what it has, and the process ends: nothing is taken down piece by piece. */
	return run(&w);
}
