/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clients.c: weftctl and CNI plugins at /run/weft/INSTANCE/weftd.sock: one request, one answer. See supervisor.h.
 * Only root: the folder is 0700, and the peer is asked all the same.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pods.h"
#include "supervisor.h"

#define MAX_CLIENTS 64
#define ANSWER_NS 5000000000ull /* for the worker to answer; wire.h promises no longer wait to clients */
#define IDLE_NS 30000000000ull	/* a connection that asks nothing */
#define CROWD_NS 200000000ull	/* the same, while all places are taken and somebody waits */

struct clients {
	struct clients_plan plan;
	struct loop_watch watch;
	struct loop_timer crowd; /* all places are taken */
	struct list all;
	unsigned count;
};

struct client {
	struct clients *room;
	struct loop_watch watch;
	struct loop_timer timer;
	const struct pod *pod; /* the answer waits for it; NULL */
	bool adding;
	uint32_t seq;
	struct list link;
};

static void hang_up(struct client *k)
{
	struct clients *c = k->room;

	loop_disarm(c->plan.loop, &k->timer);
	loop_unwatch(c->plan.loop, &k->watch);
	close(k->watch.fd);
	list_del(&k->link);
	if (c->count-- == MAX_CLIENTS && loop_watch(c->plan.loop, &c->watch))
		abort(); /* see listen_for() in channel.c */
	free(k);
}

/* Sends and frees the message. A client that does not read its one answer is let go. */
static void answer(struct client *k, struct wire *m)
{
	int err;

	m->seq = k->seq;
	k->pod = NULL;
	err = wire_send(k->watch.fd, m, NULL, 0);
	free(m);
	if (err)
		hang_up(k);
	else
		loop_arm(k->room->plan.loop, &k->timer, IDLE_NS);
}

static void done(struct client *k, int number, const char *text)
{
	struct wire *m = wire_new(WIRE_DONE);

	m->number = number;
	text_copy(m->text, sizeof(m->text), text);
	answer(k, m);
}

static void wait_for(struct client *k, const struct pod *pod, bool adding)
{
	k->pod = pod;
	k->adding = adding;
	loop_arm(k->room->plan.loop, &k->timer, ANSWER_NS);
}

static void add(struct client *k, const struct wire *m, int netns)
{
	char why[PODS_WHY] = "";
	struct pod *pod;
	struct clients *c = k->room;
	int err;

	/* pods_add tells the channel, whose worker answers in a later turn: waiting begins in time. */
	err = pods_add(c->plan.pods, &m->pod, netns, &pod, why);
	if (err)
		done(k, err, why);
	else
		wait_for(k, pod, true);
}

static void del(struct client *k, const struct wire *m)
{
	char why[PODS_WHY] = "";
	struct pod *pod;
	int err = pods_del(k->room->plan.pods, m->pod.namespace, m->pod.name, &pod, why);

	if (err)
		done(k, err, why);
	else
		wait_for(k, pod, false);
}

static void status(struct client *k)
{
	struct wire *m = wire_new(WIRE_STATUS);

	k->room->plan.status(k->room->plan.ctx, &m->status);
	answer(k, m);
}

static void splice(struct client *k, const struct wire *m)
{
	int err = k->room->plan.splice(k->room->plan.ctx, m->number != 0);

	done(k, err, err ? strerror(-err) : "");
}

static void request(struct client *k, const struct wire *m, const int *fd, unsigned fds)
{
	k->seq = m->seq;
	switch (m->type) {
	case WIRE_POD_ADD:
		add(k, m, fds ? fd[0] : -1);
		break;
	case WIRE_POD_DEL:
		del(k, m);
		break;
	case WIRE_STATUS:
		status(k);
		break;
	case WIRE_SPLICE:
		splice(k, m);
		break;
	default:
		done(k, -EINVAL, "weftd does not take this message from a client");
	}
}

static void client_ready(struct loop_watch *w, uint32_t events)
{
	struct client *k = container_of(w, struct client, watch);
	struct wire *m;
	int fd[WIRE_FDS], got;
	unsigned fds = 0;

	(void)events;
	m = wire_new(WIRE_DONE);
	got = wire_recv(w->fd, m, fd, &fds);
	if (got == -EBADMSG) {
		k->seq = 0;
		done(k, got, "this is not a message of this version of weft: weftctl and weftd must be of one "
			     "version");
	} else if (got == 1 && k->pod) {
		hang_up(k); /* one request at a time */
	} else if (got == 1) {
		request(k, m, fd, fds);
	} else if (got != -EAGAIN) {
		hang_up(k);
	}
	while (fds--)
		close(fd[fds]);
	free(m);
}

static void client_due(struct loop_timer *t)
{
	struct client *k = container_of(t, struct client, timer);

	if (!k->pod)
		hang_up(k);
	else if (k->adding)
		done(k, -ETIMEDOUT, "the worker has not answered in 5 s; the pod stays enrolled and will be in force "
				    "as soon as it does: see weftctl status, or ask again");
	else
		done(k, -ETIMEDOUT, "the pod is out of its network namespace, but the worker has not answered in 5 s; "
				    "the kernel forgets the pod as soon as it does: see weftctl status");
}

static bool is_root(int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && !who.uid;
}

static void accept_ready(struct loop_watch *w, uint32_t events)
{
	struct clients *c = container_of(w, struct clients, watch);
	struct client *k;
	int fd;

	(void)events;
	while (c->count < MAX_CLIENTS) {
		fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
			break; /* else it would be ready again at once */
		if (fd < 0)
			return;
		if (!is_root(fd)) {
			close(fd);
			continue;
		}
		k = mem_alloc(sizeof(*k));
		k->room = c;
		k->watch = (struct loop_watch){.fd = fd, .events = EPOLLIN, .ready = client_ready};
		k->timer.due = client_due;
		if (loop_watch(c->plan.loop, &k->watch)) {
			close(fd);
			free(k);
			continue;
		}
		list_add(&c->all, &k->link);
		c->count++;
		loop_arm(c->plan.loop, &k->timer, IDLE_NS);
	}
	loop_unwatch(c->plan.loop, &c->watch); /* the others wait in the backlog */
	loop_arm(c->plan.loop, &c->crowd, CROWD_NS);
}

static void crowd_due(struct loop_timer *t)
{
	struct clients *c = container_of(t, struct clients, crowd);
	uint64_t late = clock_ns() + IDLE_NS - CROWD_NS;
	struct pollfd waiting = {.fd = c->watch.fd, .events = POLLIN};

	if (c->count < MAX_CLIENTS) {
		if (!c->watch.active && loop_watch(c->plan.loop, &c->watch))
			abort(); /* see listen_for() in channel.c */
		return;
	}
	if (poll(&waiting, 1, 0) > 0)
		list_each_safe(at, next, &c->all) {
			struct client *k = container_of(at, struct client, link);

			if (!k->pod && k->timer.due_ns <= late)
				hang_up(k);
		}
	loop_arm(c->plan.loop, &c->crowd, CROWD_NS);
}

void clients_enrolled(struct clients *c, const struct pod *pod, int error, const char *why)
{
	if (!c)
		return;
	list_each_safe(at, next, &c->all) {
		struct client *k = container_of(at, struct client, link);

		if (k->pod == pod && k->adding)
			done(k, error, error ? why : "");
	}
}

void clients_released(struct clients *c, const struct pod *pod)
{
	if (!c)
		return;
	list_each_safe(at, next, &c->all) {
		struct client *k = container_of(at, struct client, link);

		if (k->pod != pod)
			continue;
		if (k->adding)
			done(k, -ECANCELED, "the pod was deleted or its netns went while it was enrolled");
		else
			done(k, 0, "");
	}
}

struct clients *clients_open(const struct clients_plan *plan)
{
	struct clients *c = mem_alloc(sizeof(*c));

	c->plan = *plan;
	list_init(&c->all);
	c->crowd.due = crowd_due;
	c->watch = (struct loop_watch){.fd = plan->listener, .events = EPOLLIN, .ready = accept_ready};
	if (loop_watch(plan->loop, &c->watch)) {
		free(c);
		return NULL;
	}
	return c;
}

void clients_close(struct clients *c)
{
	if (!c)
		return;
	list_each_safe(at, next, &c->all)
		hang_up(container_of(at, struct client, link));
	loop_unwatch(c->plan.loop, &c->watch);
	loop_disarm(c->plan.loop, &c->crowd);
	free(c);
}
