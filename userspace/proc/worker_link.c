/* SPDX-License-Identifier: Apache-2.0 */
/* worker_link.c: see worker.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "worker.h"

#define MESSAGES_A_TURN 256

struct parcel {
	struct wire_files files;
	int fd[WIRE_FILES];
	unsigned fds;
};

struct note { /* a small message that waits: struct wire has 19 KB, and thousands may wait */
	enum wire_type type;
	uint32_t seq;
	int number;
	struct wire_sockets sockets; /* or the netns alone, which is first in wire_pod too */
	struct parcel *parcel;	     /* of WIRE_CERTS */
	char *text;
	struct list link;
};

struct link {
	struct link_plan plan;
	struct loop_watch watch;
	struct list notes;
	struct wire_destroy *destroy;
	unsigned destroys, destroyed, destroy_size; /* [destroyed, destroys) wait */
	struct wire *message;
	bool over; /* gone() was called */
};

static void over(struct link *l, int error)
{
	if (l->over)
		return;
	l->over = true;
	loop_unwatch(l->plan.loop, &l->watch);
	l->plan.gone(l->plan.ctx, error);
}

/* ------------------------------------------------------------------ sending */

static int send_destroys(struct link *l)
{
	struct wire *m = l->message;
	unsigned count = l->destroys - l->destroyed;
	int err;

	*m = (struct wire){.version = WIRE_VERSION, .type = WIRE_DESTROY};
	m->destroys.count = count < WIRE_DESTROYS ? count : WIRE_DESTROYS;
	memcpy(m->destroys.item, l->destroy + l->destroyed, m->destroys.count * sizeof(*l->destroy));
	err = wire_send(l->plan.sock, m, NULL, 0);
	if (err)
		return err;
	l->destroyed += m->destroys.count;
	if (l->destroyed == l->destroys)
		l->destroyed = l->destroys = 0;
	return 0;
}

static void free_note(struct note *n)
{
	while (n->parcel && n->parcel->fds)
		close(n->parcel->fd[--n->parcel->fds]);
	list_del(&n->link);
	free(n->parcel);
	free(n->text);
	free(n);
}

static int send_note(struct link *l, struct note *n)
{
	struct wire *m = l->message;
	int err;

	*m = (struct wire){.version = WIRE_VERSION, .type = n->type, .seq = n->seq, .number = n->number};
	if (n->parcel)
		m->files = n->parcel->files;
	else
		m->sockets = n->sockets;
	if (n->text)
		text_copy(m->text, sizeof(m->text), n->text);
	err = wire_send(l->plan.sock, m, n->parcel ? n->parcel->fd : NULL, n->parcel ? n->parcel->fds : 0);
	if (!err)
		free_note(n);
	return err;
}

static void pump(struct link *l)
{
	uint32_t events = EPOLLIN;
	int err = 0;

	while (!err && !l->over) {
		if (l->destroyed < l->destroys)
			err = send_destroys(l);
		else if (!list_empty(&l->notes))
			err = send_note(l, container_of(l->notes.next, struct note, link));
		else
			break;
	}
	if (l->over)
		return;
	if (err == -EAGAIN || err == -ENOBUFS) {
		events |= EPOLLOUT;
	} else if (err) {
		over(l, err);
		return;
	}
	if (l->watch.events == events && l->watch.active)
		return;
	l->watch.events = events;
	err = loop_watch(l->plan.loop, &l->watch);
	if (err)
		over(l, err);
}

static struct note *add_note(struct link *l, enum wire_type type, uint32_t seq)
{
	struct note *n = mem_alloc(sizeof(*n));

	n->type = type;
	n->seq = seq;
	list_add(&l->notes, &n->link);
	return n;
}

void worker_link_send(struct link *l, enum wire_type type, uint32_t seq, int number, uint64_t netns,
		      const char *text)
{
	struct note *n = add_note(l, type, seq);

	n->number = number;
	n->sockets.netns = netns;
	n->text = text ? mem_string(text) : NULL;
	pump(l);
}

void worker_link_sockets(struct link *l, uint32_t seq, const struct wire_sockets *w)
{
	add_note(l, WIRE_SOCKETS, seq)->sockets = *w;
	pump(l);
}

void worker_link_files(struct link *l, uint32_t seq, const struct wire_files *f, const int *fds, unsigned nfds)
{
	struct note *n = add_note(l, WIRE_CERTS, seq);

	n->parcel = mem_alloc(sizeof(*n->parcel));
	n->parcel->files = *f;
	n->parcel->fds = nfds;
	for (unsigned i = 0; i < nfds; i++)
		n->parcel->fd[i] = fds[i];
	pump(l);
}

void worker_link_destroy(struct link *l, const struct wire_destroy *item, unsigned count)
{
	if (!count)
		return;
	if (l->destroys + count > l->destroy_size) {
		l->destroy_size = l->destroys + count;
		l->destroy = mem_grow(l->destroy, l->destroy_size, sizeof(*l->destroy));
	}
	memcpy(l->destroy + l->destroys, item, count * sizeof(*item));
	l->destroys += count;
	pump(l);
}

/* ------------------------------------------------------------------ receiving */

static void ready(struct loop_watch *w, uint32_t events)
{
	struct link *l = container_of(w, struct link, watch);
	struct wire *m;

	if (events & EPOLLOUT)
		pump(l);
	if (l->over || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	m = mem_alloc(sizeof(*m));
	for (unsigned i = 0; i < MESSAGES_A_TURN && !l->over; i++) {
		int fds[WIRE_FDS], got;
		unsigned nfds;

		got = wire_recv(w->fd, m, fds, &nfds);
		if (got == -EAGAIN)
			break;
		if (got <= 0) {
			over(l, got == -ECONNRESET ? 0 : got);
			break;
		}
		l->plan.got(l->plan.ctx, m, fds, nfds);
	}
	free(m);
	if (!l->over)
		l->plan.turn(l->plan.ctx);
}

int worker_link_open(struct link **ret, const struct link_plan *plan)
{
	struct link *l = mem_alloc(sizeof(*l));
	int flags = fcntl(plan->sock, F_GETFL), err = 0;

	l->plan = *plan;
	list_init(&l->notes);
	l->message = mem_alloc(sizeof(*l->message));
	l->watch = (struct loop_watch){.fd = plan->sock, .events = EPOLLIN, .ready = ready};
	if (flags < 0 || fcntl(plan->sock, F_SETFL, flags | O_NONBLOCK) ||
	    fcntl(plan->sock, F_SETFD, FD_CLOEXEC))
		err = -errno;
	if (!err)
		err = loop_watch(plan->loop, &l->watch);
	if (err) {
		free(l->message);
		free(l);
		return err;
	}
	*ret = l;
	return 0;
}

void worker_link_close(struct link *l)
{
	if (!l)
		return;
	loop_unwatch(l->plan.loop, &l->watch);
	close(l->plan.sock);
	list_each_safe(at, next, &l->notes)
		free_note(container_of(at, struct note, link));
	free(l->destroy);
	free(l->message);
	free(l);
}
