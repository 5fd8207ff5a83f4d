/* SPDX-License-Identifier: Apache-2.0 */
/* takeover.c: see takeover.h. */
#include "takeover.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "netns.h"

#define PATIENCE_SECONDS 2    /* for each message of a worker */
#define SEND_BUFFER (4 << 20) /* as spawn.c gives it */

uint64_t takeover_most_ns = 10000000000ull;

struct takeover_pod { /* those of one pod and thread */
	uint64_t netns; /* 0: they were taken from here */
	unsigned thread;
	int fd[WIRE_LISTENERS];
};

int takeover_start(struct wire_start *start, const struct loader *l, int manifests)
{
	struct stat st;

	for (unsigned i = 0; i < array_size(start->map); i++) {
		struct bpf_map_info info = {0};
		__u32 size = sizeof(info);

		if (bpf_obj_get_info_by_fd(loader_fd(l, (enum wire_fd)i), &info, &size))
			return -errno;
		start->map[i] = info.id;
	}
	if (fstat(manifests, &st))
		return -errno;
	takeover_folder(start, &st);
	return 0;
}

void takeover_folder(struct wire_start *start, const struct stat *manifests)
{
	start->folder[0] = manifests->st_dev;
	start->folder[1] = manifests->st_ino;
}

/* ------------------------------------------------------------------ the exchange */

static int reach(const struct folders *f)
{
	const struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int sock, size = SEND_BUFFER, err;

	if (snprintf(at.sun_path, sizeof(at.sun_path), "%s/" FOLDERS_RESUME, f->path) >= (int)sizeof(at.sun_path))
		return -ENAMETOOLONG; /* cannot be: instance names are short */
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	if (!setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) &&
	    !setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) &&
	    !connect(sock, (struct sockaddr *)&at, sizeof(at)))
		return sock;
	err = -errno;
	close(sock);
	return err;
}

/*
 * The worker may be hostile: what it gives is what weftd will enter the pod's netns by (proc/inside.c). Each pod's
 * threads come in order, as proxy_each_listener() tells of them.
 */
static bool sound(const struct takeover *t, const struct wire *m, const int *fd, uint32_t threads)
{
	const struct takeover_pod *last = t->pods ? &t->pod[t->pods - 1] : NULL;
	unsigned next = last && last->netns == m->pod.netns ? last->thread + 1 : 0;

	if (!m->pod.netns || m->number < 0 || (uint32_t)m->number >= threads || (unsigned)m->number != next)
		return false;
	for (unsigned i = 0; i < WIRE_LISTENERS; i++)
		if (!netns_listens(fd[i], m->pod.netns, netns_ports[i]))
			return false;
	return true;
}

static void keep(struct takeover *t, const struct wire *m, const int *fd)
{
	struct takeover_pod *p;

	t->pod = mem_grow(t->pod, t->pods + 1, sizeof(*t->pod));
	p = &t->pod[t->pods++];
	*p = (struct takeover_pod){.netns = m->pod.netns, .thread = (unsigned)m->number};
	memcpy(p->fd, fd, sizeof(p->fd));
}

/* As open_socket() in supervisor.c makes them: the next worker would answer weftctl's questions on a pod's listener. */
static bool is_socket(int sock, int type)
{
	return netns_option(sock, SO_DOMAIN) == AF_UNIX && netns_option(sock, SO_TYPE) == type &&
	       netns_option(sock, SO_ACCEPTCONN) == 1;
}

/* The next message: 1 there are more, 0 that was the last and all is well, or -errno. `why` is what the worker says. */
static int take_one(struct takeover *t, int sock, struct wire *m, uint32_t threads)
{
	int fds[WIRE_FDS], got;
	unsigned nfds;

	m->text[0] = '\0';
	got = wire_recv(sock, m, fds, &nfds);
	if (got == 1 && m->type == WIRE_POD_FDS && nfds == WIRE_LISTENERS && sound(t, m, fds, threads)) {
		keep(t, m, fds);
		return 1;
	}
	if (got == 1 && m->type == WIRE_RESUMED && !m->number && nfds == 2 && is_socket(fds[0], SOCK_STREAM) &&
	    is_socket(fds[1], SOCK_SEQPACKET)) {
		t->admin = fds[0];
		t->resume = fds[1];
		return 0;
	}
	if (got == 1 && m->type == WIRE_RESUMED && m->number < 0)
		got = m->number;
	while (nfds)
		close(fds[--nfds]);
	return got < 0 ? got : got ? -EBADMSG
				   : -ECONNRESET;
}

static int take(struct takeover *t, const struct folders *f, const struct wire_start *start, char *why, size_t size)
{
	struct wire *m = wire_new(WIRE_RESUME);
	int sock = reach(f), got = sock < 0 ? sock : 1;
	uint64_t began = clock_ns();

	m->start = *start;
	if (got > 0)
		got = wire_send(sock, m, NULL, 0);
	m->text[0] = '\0';
	if (!got)
		do {
			got = take_one(t, sock, m, start->threads);
			if (got > 0 && clock_ns() - began > takeover_most_ns)
				got = -ETIMEDOUT; /* it may be hostile, and would keep us from starting */
		} while (got > 0);
	if (!got && fcntl(sock, F_SETFL, O_NONBLOCK))
		got = -errno;
	text_copy(why, size, m->text[0] ? m->text : strerror(-got));
	free(m);
	t->worker.sock = got ? -1 : sock;
	if (got && sock >= 0)
		close(sock);
	return got;
}

void takeover_try(struct takeover *t, const struct folders *f, const struct wire_start *start)
{
	char why[256];

	*t = (struct takeover){.admin = -1, .resume = -1};
	t->worker.pidfd = spawn_orphan(f->run, FOLDERS_WORKER, &t->worker.pid);
	if (t->worker.pidfd < 0)
		return;
	if (!take(t, f, start, why, sizeof(why))) {
		t->taken = true;
		log_info("worker %d of a weftd that was killed is taken over", (int)t->worker.pid);
		return;
	}
	log_info("worker %d of a weftd that was killed is not taken over: %s", (int)t->worker.pid, why);
	takeover_close(t);
	close(t->worker.pidfd);
	spawn_end_orphan(f->run, FOLDERS_WORKER);
}

/* ------------------------------------------------------------------ what came of it */

int *takeover_listeners(struct takeover *t, uint64_t netns, unsigned threads)
{
	int *ret = mem_alloc(threads * WIRE_LISTENERS * sizeof(*ret));
	unsigned found = 0;

	for (unsigned i = 0; i < t->pods && found < threads; i++) {
		if (t->pod[i].netns != netns || t->pod[i].thread != found)
			continue;
		memcpy(ret + found++ * WIRE_LISTENERS, t->pod[i].fd, sizeof(t->pod[i].fd));
		t->pod[i].netns = 0;
	}
	takeover_drop(t, netns); /* what is too many */
	if (found == threads)
		return ret;
	for (unsigned i = 0; i < found * WIRE_LISTENERS; i++)
		close(ret[i]);
	free(ret);
	return NULL;
}

uint64_t takeover_rest(const struct takeover *t)
{
	for (unsigned i = 0; i < t->pods; i++)
		if (t->pod[i].netns)
			return t->pod[i].netns;
	return 0;
}

void takeover_drop(struct takeover *t, uint64_t netns)
{
	for (unsigned i = 0; i < t->pods; i++) {
		if (!netns || t->pod[i].netns != netns)
			continue;
		t->pod[i].netns = 0;
		for (unsigned k = 0; k < WIRE_LISTENERS; k++)
			close(t->pod[i].fd[k]);
	}
}

void takeover_close(struct takeover *t)
{
	uint64_t netns;

	while ((netns = takeover_rest(t)))
		takeover_drop(t, netns);
	free(t->pod);
	t->pod = NULL;
	t->pods = 0;
}
