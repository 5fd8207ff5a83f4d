/* SPDX-License-Identifier: Apache-2.0 */
/* worker_link.c: see worker.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "worker.h"

#define MESSAGES_A_TURN 256
/*
 * Without a supervisor pods that are gone are held by their listeners and no socket can be had, so this cannot last; it
 * is long enough to mend what keeps weftd from starting.
 */
#define ALONE_NS 600000000000ull
#define RESUME_SECONDS 1 /* for a new supervisor to say what it wants, and to take the answer */

struct parcel {
	struct wire_files files;
	int fd[WIRE_FDS];
	unsigned fds;
	bool edge; /* files are none, but this: */
	struct wire_edge at;
};

struct note { /* a small message that waits: struct wire has 19 KB, and thousands may wait */
	enum wire_type type;
	uint32_t seq;
	int number;
	struct wire_sockets sockets; /* or the netns alone, which is first in wire_pod too */
	struct parcel *parcel;	     /* of WIRE_CERTS, WIRE_EDGE_* */
	struct wire_stale *stale;
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
	bool lost; /* no supervisor: plan.sock is -1 */

	/* after worker_link_stay() */
	bool stays;
	struct loop_watch arrivals;
	struct loop_timer alone;
	struct wire_start start;
	int give[2]; /* the sockets that a supervisor keeps for its next worker */
};

static void end(struct link *l, int error)
{
	l->over = true;
	loop_unwatch(l->plan.loop, &l->watch);
	loop_unwatch(l->plan.loop, &l->arrivals);
	loop_disarm(l->plan.loop, &l->alone);
	l->plan.gone(l->plan.ctx, error);
}

static void free_note(struct note *n)
{
	while (n->parcel && n->parcel->fds)
		close(n->parcel->fd[--n->parcel->fds]);
	list_del(&n->link);
	free(n->parcel);
	free(n->stale);
	free(n->text);
	free(n);
}

/* What was not sent is not for the next supervisor: it asks for all of it. */
static void drop_all(struct link *l)
{
	list_each_safe(at, next, &l->notes)
		free_note(container_of(at, struct note, link));
	l->destroyed = l->destroys = 0;
}

static void over(struct link *l, int error)
{
	if (l->over || l->lost)
		return;
	if (!l->stays) {
		end(l, error);
		return;
	}
	loop_unwatch(l->plan.loop, &l->watch);
	close(l->plan.sock);
	l->plan.sock = -1;
	l->lost = true;
	drop_all(l);
	loop_arm(l->plan.loop, &l->alone, ALONE_NS);
	l->plan.lost(l->plan.ctx);
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

static int send_note(struct link *l, struct note *n)
{
	struct wire *m = l->message;
	int err;

	*m = (struct wire){.version = WIRE_VERSION, .type = n->type, .seq = n->seq, .number = n->number};
	if (n->parcel && n->parcel->edge)
		m->edge = n->parcel->at;
	else if (n->parcel)
		m->files = n->parcel->files;
	else if (n->stale)
		m->stale = *n->stale;
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

	while (!err && !l->over && !l->lost) {
		if (l->destroyed < l->destroys)
			err = send_destroys(l);
		else if (!list_empty(&l->notes))
			err = send_note(l, container_of(l->notes.next, struct note, link));
		else
			break;
	}
	if (l->over || l->lost)
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

/* Sends what waits, or forgets it where there is nobody to send it to. */
static void send_on(struct link *l)
{
	if (l->over || l->lost)
		drop_all(l);
	else
		pump(l);
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
	send_on(l);
}

void worker_link_sockets(struct link *l, uint32_t seq, const struct wire_sockets *w)
{
	add_note(l, WIRE_SOCKETS, seq)->sockets = *w;
	send_on(l);
}

void worker_link_stale(struct link *l, const struct wire_stale *s)
{
	struct note *n = add_note(l, WIRE_STALE, 0);

	n->stale = mem_alloc(sizeof(*n->stale));
	*n->stale = *s;
	send_on(l);
}

void worker_link_files(struct link *l, uint32_t seq, const struct wire_files *f, const int *fds, unsigned nfds)
{
	struct note *n = add_note(l, WIRE_CERTS, seq);

	n->parcel = mem_alloc(sizeof(*n->parcel));
	n->parcel->files = *f;
	n->parcel->fds = nfds;
	for (unsigned i = 0; i < nfds; i++)
		n->parcel->fd[i] = fds[i];
	send_on(l);
}

void worker_link_edge(struct link *l, enum wire_type type, uint32_t seq, const struct wire_edge *e, const int *fds,
		      unsigned nfds)
{
	struct parcel *p = mem_alloc(sizeof(*p));

	p->edge = true;
	p->at = *e;
	for (unsigned i = 0; i < nfds; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

		if (fd >= 0)
			p->fd[p->fds++] = fd;
	}
	p->at.count = (uint16_t)(nfds ? p->fds : e->count);
	add_note(l, type, seq)->parcel = p;
	send_on(l);
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
	send_on(l);
}

/* ------------------------------------------------------------------ receiving */

/*
 * A message whose fds are lost, because clients have all that we may open. Who asked hears it as a failure, a pod
 * without listeners is refused; what cannot be asked for again is the end, as ever.
 */
static bool bear(struct wire *m)
{
	if (m->type != WIRE_SOCKETS && m->type != WIRE_FILE && m->type != WIRE_CERTS && m->type != WIRE_EDGE_OPEN &&
	    m->type != WIRE_POD_FDS)
		return false;
	log_debug("\"%s\" of weftd: no room for its descriptors", wire_type_name(m->type));
	if (m->number >= 0)
		m->number = -EMFILE;
	return true;
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct link *l = container_of(w, struct link, watch);
	struct wire *m;

	if (events & EPOLLOUT)
		pump(l);
	if (l->over || l->lost || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	m = mem_alloc(sizeof(*m));
	for (unsigned i = 0; i < MESSAGES_A_TURN && !l->over && !l->lost; i++) {
		int fds[WIRE_FDS], got;
		unsigned nfds;

		got = wire_recv(w->fd, m, fds, &nfds);
		if (got == -EAGAIN)
			break;
		if (got <= 0 && (got != -EMFILE || !bear(m))) {
			over(l, got == -ECONNRESET ? 0 : got);
			break;
		}
		l->plan.got(l->plan.ctx, m, fds, nfds);
	}
	free(m);
	if (!l->over && !l->lost)
		l->plan.turn(l->plan.ctx);
}

/* ------------------------------------------------------------------ another supervisor */

static void alone_due(struct loop_timer *t)
{
	struct link *l = container_of(t, struct link, alone);

	log_error("no weftd has come back for 10 minutes: ending; the kernel goes on deciding");
	end(l, 0);
}

/* What may differ is not what this worker was started from. */
static bool same_start(const struct wire_start *a, const struct wire_start *b)
{
	size_t from = offsetof(struct wire_start, version);

	return !memcmp((const char *)a + from, (const char *)b + from, sizeof(*a) - from);
}

static bool from_root(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) && len == sizeof(peer) && peer.uid == 0;
}

struct giving {
	int sock, err;
	struct wire *message;
};

static void give(void *to, uint64_t netns, unsigned thread, const int fd[3])
{
	struct giving *g = to;

	if (g->err)
		return;
	g->message->number = (int)thread;
	g->message->pod.netns = netns;
	g->err = wire_send(g->sock, g->message, fd, WIRE_LISTENERS);
}

/* All that is ours to give back. 0 or -errno */
static int give_all(const struct link *l, int sock)
{
	struct giving g = {.sock = sock, .message = wire_new(WIRE_POD_FDS)};

	l->plan.listeners(l->plan.ctx, give, &g);
	if (!g.err) {
		*g.message = (struct wire){.version = WIRE_VERSION, .type = WIRE_RESUMED};
		g.err = wire_send(sock, g.message, l->give, array_size(l->give));
	}
	free(g.message);
	return g.err;
}

static void refuse(const struct link *l, int sock, const struct wire_start *start)
{
	struct wire *m = wire_new(WIRE_RESUMED);

	m->number = -ESTALE;
	(void)snprintf(m->text, sizeof(m->text), "it is of version %s and serves another start%s", l->start.version,
		       text_equal(l->start.version, start->version) ? " (options, folders or maps have changed)" : "");
	if (wire_send(sock, m, NULL, 0))
		log_debug("a new weftd cannot be answered");
	free(m);
}

/* The new one is the supervisor from here on. */
static int change_to(struct link *l, int sock)
{
	const struct timeval none = {0};
	int flags = fcntl(sock, F_GETFL), err;

	(void)setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	if (flags < 0 || fcntl(sock, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	if (!l->lost)
		over(l, 0); /* killed, and its end not yet read */
	l->watch.fd = sock;
	l->watch.events = EPOLLIN;
	err = loop_watch(l->plan.loop, &l->watch);
	if (err)
		return err;
	l->plan.sock = sock;
	l->lost = false;
	loop_disarm(l->plan.loop, &l->alone);
	return 0;
}

/* Of the few messages that it takes none is long under way: weftd is waiting for it. */
static void arrived(struct loop_watch *w, uint32_t events)
{
	const struct timeval patience = {.tv_sec = RESUME_SECONDS};
	struct link *l = container_of(w, struct link, arrivals);
	int sock = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC), fds[WIRE_FDS], err = -EACCES;
	struct wire *m = wire_new(WIRE_RESUME);
	unsigned nfds = 0;

	(void)events;
	if (sock >= 0 && from_root(sock) &&
	    !setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) &&
	    !setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) &&
	    wire_recv(sock, m, fds, &nfds) == 1 && m->type == WIRE_RESUME) {
		if (same_start(&m->start, &l->start)) {
			err = give_all(l, sock);
		} else {
			refuse(l, sock, &m->start);
			log_info("another weftd has come, which starts a worker of its own: ending");
			close(sock);
			free(m);
			end(l, 0);
			return;
		}
	}
	while (nfds)
		close(fds[--nfds]);
	if (!err)
		err = change_to(l, sock);
	if (!err)
		l->plan.back(l->plan.ctx, &m->start);
	else if (sock >= 0)
		close(sock);
	free(m);
}

int worker_link_stay(struct link *l, const int *fd, const struct wire_start *start)
{
	int err, flags = fcntl(fd[WIRE_FD_RESUME], F_GETFL);

	if (flags < 0 || fcntl(fd[WIRE_FD_RESUME], F_SETFL, flags | O_NONBLOCK))
		return -errno;
	l->start = *start;
	l->give[0] = fd[WIRE_FD_ADMIN];
	l->give[1] = fd[WIRE_FD_RESUME];
	l->alone.due = alone_due;
	l->arrivals = (struct loop_watch){.fd = fd[WIRE_FD_RESUME], .events = EPOLLIN, .ready = arrived};
	err = loop_watch(l->plan.loop, &l->arrivals);
	l->stays = !err;
	return err;
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
	loop_unwatch(l->plan.loop, &l->arrivals);
	loop_disarm(l->plan.loop, &l->alone);
	if (l->plan.sock >= 0)
		close(l->plan.sock);
	drop_all(l);
	free(l->destroy);
	free(l->message);
	free(l);
}
