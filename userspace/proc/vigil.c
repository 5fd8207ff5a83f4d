/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vigil.c: notices when a netns is gone, without holding it. See pods.h.
 *
 * Our own listeners keep the namespace alive, so the kernel cannot tell us; what can be seen is who else keeps it: a
 * path (bind mount, as `ip netns` and CNI runtimes make) or a process. Paths: inotify on their folder. Processes:
 * pidfd. A slow look at all catches what neither says (a mount that was taken away below its name).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pods.h"

#define LOOK_NS 5000000000ull
#define FOLDER_EVENTS (IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define FOLDER_GONE (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT | IN_Q_OVERFLOW)

struct vigil_room {
	struct loop *loop;
	struct loop_watch watch; /* inotify */
	struct loop_timer look;
	struct list all;
};

struct vigil {
	struct vigil_room *room;
	char path[WIRE_PATH];
	uint64_t inode;
	int wd;			   /* inotify watch of the path's folder; -1 */
	struct loop_watch process; /* pidfd; fd -1 */
	bool marked;		   /* an event said something: look */
	void (*gone)(void *ctx);
	void *ctx;
	struct list link;
};

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static pid_t process_of(const char *path)
{
	char text[WIRE_PATH], *end;
	long long pid;

	if (!text_starts(path, "/proc/") || !text_ends(path, "/ns/net"))
		return 0;
	text_copy(text, sizeof(text), path + strlen("/proc/"));
	end = strchr(text, '/');
	if (!end)
		return 0;
	*end = '\0';
	return text_number(text, 1, INT32_MAX, &pid) ? 0 : (pid_t)pid;
}

static void unwatch(struct vigil *v)
{
	if (v->process.fd >= 0) {
		loop_unwatch(v->room->loop, &v->process);
		close(v->process.fd);
		v->process.fd = -1;
	}
	if (v->wd < 0)
		return;
	list_each(at, &v->room->all) {
		const struct vigil *other = container_of(at, struct vigil, link);

		if (other != v && other->wd == v->wd) {
			v->wd = -1; /* shared: the kernel gives one number for one folder */
			return;
		}
	}
	(void)inotify_rm_watch(v->room->watch.fd, v->wd);
	v->wd = -1;
}

static void judge(struct vigil *v);

static void process_ended(struct loop_watch *w, uint32_t events)
{
	(void)events;
	judge(container_of(w, struct vigil, process));
}

/* What cannot be watched is left to the slow look. */
static void watch(struct vigil *v)
{
	pid_t pid = process_of(v->path);
	char folder[WIRE_PATH];

	if (pid) {
		v->process.fd = (int)syscall(SYS_pidfd_open, pid, 0);
		v->process.events = EPOLLIN;
		v->process.ready = process_ended;
		if (v->process.fd >= 0 && loop_watch(v->room->loop, &v->process)) {
			close(v->process.fd);
			v->process.fd = -1;
		}
		return;
	}
	text_copy(folder, sizeof(folder), v->path);
	*(char *)base(folder) = '\0';
	if (folder[0])
		v->wd = inotify_add_watch(v->room->watch.fd, folder, FOLDER_EVENTS);
}

/*
 * The path is gone or leads elsewhere. A path that was a mount is the owner's word that the netns is over; a process
 * that ended may have left others in it.
 */
static void judge(struct vigil *v)
{
	char other[WIRE_PATH];

	v->marked = false;
	if (netns_at(v->path, v->inode))
		return;
	unwatch(v);
	if (process_of(v->path) && !netns_find(v->inode, other, sizeof(other))) {
		text_copy(v->path, sizeof(v->path), other);
		watch(v);
		if (netns_at(v->path, v->inode))
			return;
		unwatch(v);
	}
	v->gone(v->ctx); /* may have freed v */
}

/* `gone` may stop any vigil: begin again after each. */
static void judge_marked(struct vigil_room *r)
{
	bool again = true;

	while (again) {
		again = false;
		list_each(at, &r->all) {
			struct vigil *v = container_of(at, struct vigil, link);

			if (!v->marked)
				continue;
			judge(v);
			again = true;
			break;
		}
	}
}

static void mark(struct vigil_room *r, const struct inotify_event *e)
{
	list_each(at, &r->all) {
		struct vigil *v = container_of(at, struct vigil, link);

		if ((e->mask & IN_Q_OVERFLOW) || (v->wd == e->wd && ((e->mask & FOLDER_GONE) ||
								     (e->len && text_equal(e->name, base(v->path))))))
			v->marked = true;
		if ((e->mask & IN_IGNORED) && v->wd == e->wd)
			v->wd = -1;
	}
}

static void heard(struct loop_watch *w, uint32_t events)
{
	struct vigil_room *r = container_of(w, struct vigil_room, watch);
	union {
		struct inotify_event event;
		char bytes[16384];
	} buffer;
	ssize_t n;

	(void)events;
	while ((n = read(w->fd, &buffer, sizeof(buffer))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const void *)(buffer.bytes + at);

			mark(r, e);
			at += (ssize_t)(sizeof(*e) + e->len);
		}
	}
	judge_marked(r);
}

static void look(struct loop_timer *t)
{
	struct vigil_room *r = container_of(t, struct vigil_room, look);

	list_each(at, &r->all)
		container_of(at, struct vigil, link)->marked = true;
	judge_marked(r);
	loop_arm(r->loop, &r->look, LOOK_NS);
}

struct vigil_room *vigil_open(struct loop *loop)
{
	struct vigil_room *r = mem_alloc(sizeof(*r));

	r->loop = loop;
	list_init(&r->all);
	r->watch.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	r->watch.events = EPOLLIN;
	r->watch.ready = heard;
	if (r->watch.fd < 0 || loop_watch(loop, &r->watch)) {
		if (r->watch.fd >= 0)
			close(r->watch.fd);
		free(r);
		return NULL;
	}
	r->look.due = look;
	loop_arm(loop, &r->look, LOOK_NS);
	return r;
}

void vigil_close(struct vigil_room *r)
{
	if (!r)
		return;
	loop_disarm(r->loop, &r->look);
	loop_unwatch(r->loop, &r->watch);
	close(r->watch.fd);
	free(r);
}

struct vigil *vigil_start(struct vigil_room *r, const char *path, uint64_t inode, void (*gone)(void *ctx), void *ctx)
{
	struct vigil *v = mem_alloc(sizeof(*v));

	v->room = r;
	text_copy(v->path, sizeof(v->path), path);
	v->inode = inode;
	v->wd = -1;
	v->process.fd = -1;
	v->gone = gone;
	v->ctx = ctx;
	list_add(&r->all, &v->link);
	watch(v);
	return v;
}

void vigil_stop(struct vigil *v)
{
	unwatch(v);
	list_del(&v->link);
	free(v);
}

bool vigil_alive(const struct vigil *v)
{
	char other[WIRE_PATH];

	if (netns_at(v->path, v->inode))
		return true;
	return process_of(v->path) && !netns_find(v->inode, other, sizeof(other));
}
