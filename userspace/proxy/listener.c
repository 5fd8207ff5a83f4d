/* SPDX-License-Identifier: Apache-2.0 */
/* listener.c: one thread's listeners, of pods and of Gateways: accept(2), and when to leave it. See parts.h. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "parts.h"

#define ACCEPTS_A_TURN 64
#define ACCEPTS_CAUTION 32 /* events that take one only, after one try too many: it makes a file, for nobody */
#define REST_NS 100000000ull /* without file descriptors */
#define SAY_NS 60000000000ull

static struct listener *of(struct list *l)
{
	return container_of(l, struct listener, link);
}

static void watch(struct listener *k)
{
	int err = k->site->draining || k->early ? 0 : loop_watch(k->site->thread->loop, &k->watch);

	if (err)
		log_error("a listener cannot be watched: %s", strerror(-err));
}

static void resume_due(struct loop_timer *t)
{
	list_each(l, &container_of(t, struct site, resume)->listeners)
		watch(of(l));
}

/* Out of descriptors or memory: a listener that stays readable would take all of the CPU. */
static void rest(struct site *at, int error)
{
	uint64_t now = loop_now(at->thread->loop);

	if (now >= at->say_again_ns) {
		log_error("connections wait: accept: %s: raise the worker's limit of open files", strerror(error));
		at->say_again_ns = now + SAY_NS;
	}
	list_each(l, &at->listeners)
		loop_unwatch(at->thread->loop, &of(l)->watch);
	at->resume.due = resume_due;
	loop_arm(at->thread->loop, &at->resume, REST_NS);
}

/*
 * Has whoever comes to `k` his share, and others go short? The node's own address does not count: from there come the
 * kubelet's probes, which decide whether pods live.
 */
static bool has_share(const struct listener *k, int fd, const struct abi_tuple *t)
{
	struct thread *thread = k->site->thread;
	const struct view_peer *peer;

	if (!shares_over(thread, fd, k->captured ? shares_pod(k->netns) : shares_stranger(&t->src)))
		return false;
	peer = k->captured ? NULL : view_peer(k->site->view, &t->src);
	return !peer || peer->kind != ABI_KIND_NODE;
}

/* What a pod dials waits, whoever else is refused. */
static void hold_back(struct listener *k, const struct view_pod *pod, int fd, const struct abi_tuple *t)
{
	struct site *at = k->site;
	uint64_t now = loop_now(at->thread->loop);

	if (now >= at->tell_again_ns) {
		relay_refuse(at, fd, ABI_OVERLOADED, t, SHARES_WHY);
		at->tell_again_ns = now + REST_NS;
	} else { /* a line for each would be another flood */
		sock_reset(fd);
		relay_count_reason(at, ABI_OVERLOADED);
		at->refused++;
	}
	if (!k->captured)
		return;
	if (now >= at->say_share_ns) {
		log_error("connections of pod %s/%s wait: it holds most of the worker's open files", pod->namespace,
			  pod->name);
		at->say_share_ns = now + SAY_NS;
	}
	loop_unwatch(at->thread->loop, &k->watch);
	at->resume.due = resume_due;
	if (!at->resume.armed)
		loop_arm(at->thread->loop, &at->resume, REST_NS);
}

/* Nobody waits any more, or accept(2) has failed otherwise. */
static void accept_failed(struct listener *k, int err)
{
	k->tries = 1;
	k->caution = ACCEPTS_CAUTION;
	if (err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS)
		rest(k->site, err);
	else if (err == EINVAL || err == EBADF || err == EOPNOTSUPP)
		loop_unwatch(k->site->thread->loop, &k->watch); /* it listens no more */
}

/* All were taken that were tried for: the next event, which comes as long as somebody waits, may try for more. */
static void accepted_all(struct listener *k)
{
	if (k->caution)
		k->caution--;
	else if (k->tries < ACCEPTS_A_TURN)
		k->tries *= 2;
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct listener *k = container_of(w, struct listener, watch);
	struct site *at = k->site;
	const struct view_pod *pod = view_pod(at->view, k->netns);

	if (!pod || (k->knows && !k->knows(k, pod))) {
		k->early = true;
		loop_unwatch(at->thread->loop, w);
		return;
	}
	for (unsigned i = 0; i < k->tries; i++) {
		struct abi_tuple t = {0};
		int fd = sock_accept(w->fd, &t.src, &t.src_port);

		if (fd == -ECONNABORTED || fd == -EINTR)
			continue;
		if (fd < 0) {
			accept_failed(k, -fd);
			return;
		}
		if (has_share(k, fd, &t)) {
			hold_back(k, pod, fd, &t);
			if (!k->captured)
				continue;
			return;
		}
		if (sock_is_last(fd)) {
			relay_refuse(at, fd, ABI_OVERLOADED, &t, "too many open files");
			accept_failed(k, EMFILE);
			return;
		}
		at->accepted++;
		k->accepted(k, pod, fd, &t);
	}
	accepted_all(k);
}

void listener_open(struct listener *k, struct site *at, uint64_t netns, int fd)
{
	k->site = at;
	k->netns = netns;
	k->tries = 1;
	k->watch = (struct loop_watch){.fd = fd, .events = EPOLLIN, .ready = ready};
	list_add(&at->listeners, &k->link);
	watch(k);
}

void listener_close(struct listener *k)
{
	loop_unwatch(k->site->thread->loop, &k->watch);
	close(k->watch.fd);
	list_del(&k->link);
}

void listeners_view_changed(struct site *at)
{
	list_each(l, &at->listeners) {
		struct listener *k = of(l);

		if (!k->early)
			continue;
		k->early = false;
		watch(k);
	}
}
