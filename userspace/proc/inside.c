/* SPDX-License-Identifier: Apache-2.0 */
/* inside.c: see pods.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "podfile.h"
#include "pods.h"
#include "reader.h"
#include "routes.h"

#define INBOUND 1 /* of netns_ports, of thread 0 */

/*
 * What the worker can hold is bounded by its own limit of open files; here is bounded what one pod can make us do: as
 * many sockets in a second as a core opens connections, and a burst.
 */
#define EACH_NS 50000ull /* 20 000 a second */
#define BURST 4096

static int mark(void *ctx, int sock, enum abi_path path)
{
	return loader_own(ctx, sock, path);
}

struct netns_own inside_own(struct loader *l)
{
	return (struct netns_own){.mark = mark, .ctx = l};
}

bool inside_share(uint64_t *used_ns, unsigned count)
{
	uint64_t now = clock_ns(), used = *used_ns > now ? *used_ns : now;

	if (used + count * EACH_NS > now + BURST * EACH_NS)
		return false;
	*used_ns = used + count * EACH_NS;
	return true;
}

/* ------------------------------------------------------------------ entering and leaving */

/*
 * With a rule of ours, the kernel looks up the routes of each new connection of the pod by rules, which costs it
 * 2.5 us: so not before the worker has something to deliver. Without them only that cannot be; all else works.
 */
static void make_routes(struct pod *pod, int netns)
{
	int err = pod->routed ? 0 : routes_add(netns);

	pod->routed = true;
	if (err)
		log_warning("pod %s/%s: no way back for connections from clients' addresses (%s): what comes by HBONE "
			    "will not reach its app; weft needs policy routing and a writable /proc/sys/net there",
			    pod->namespace, pod->name, strerror(-err));
}

static void remove_routes(const char *namespace, const char *name, int netns)
{
	int err = netns < 0 ? netns : routes_remove(netns);

	if (err)
		log_warning("pod %s/%s: weft's routes in its network namespace cannot be removed: %s", namespace, name,
			    strerror(-err));
}

static int listen_inside(struct pod *pod, struct loader *l, unsigned threads, int netns, char why[PODS_WHY])
{
	const struct netns_own own = inside_own(l);
	int *listener = mem_alloc(threads * WIRE_LISTENERS * sizeof(*listener)), err;
	uint16_t port;

	err = netns_listen(netns, threads, &own, listener, &port);
	if (!err) {
		pod->listener = listener;
		pod->listeners = threads * WIRE_LISTENERS;
		return 0;
	}
	free(listener);
	if (err == -EADDRINUSE)
		(void)snprintf(why, PODS_WHY,
			       "port %u in the pod is in use: weft needs 15001, 15006 and 15008 there: stop what "
			       "listens on it (`ss -ltnp` in the pod)",
			       port);
	else
		(void)snprintf(why, PODS_WHY, "cannot listen in the pod's network namespace: %s", strerror(-err));
	return err;
}

int inside_enter(struct pod *pod, struct loader *l, unsigned threads, int netns, char why[PODS_WHY])
{
	int heard = pod->listeners ? 0 : listen_inside(pod, l, threads, netns, why), err;

	/* Also where weft cannot listen: of what a kept pod is guarded by, this weftd has perhaps made new maps. */
	err = loader_member(l, pod->netns);
	if (!err && !heard)
		err = loader_listener(l, pod->netns, pod->listener[INBOUND]);
	if (!err)
		err = loader_inbound(l, pod->number, netns);
	if (err)
		(void)snprintf(why, PODS_WHY, "sk_lookup cannot be attached in the pod's network namespace: %s",
			       strerror(-err));
	err = err ? err : heard;
	if (err && !pod->kept)
		inside_leave(pod, l);
	return err;
}

void inside_close(struct pod *pod)
{
	while (pod->listeners)
		close(pod->listener[--pod->listeners]);
	free(pod->listener);
	pod->listener = NULL;
}

void inside_leave(struct pod *pod, struct loader *l)
{
	int netns = pod->listeners ? netns_of(pod->listener[0]) : -ENOENT;

	if (pod->listeners)
		remove_routes(pod->namespace, pod->name, netns);
	if (netns >= 0)
		close(netns);
	loader_listener_gone(l, pod->netns);
	inside_close(pod);
	loader_inbound_gone(l, pod->number);
	loader_member_gone(l, pod->netns);
}

int pods_say(char why[PODS_WHY], int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(why, PODS_WHY, fmt, args);
	va_end(args);
	return err;
}

int inside_find(struct wire_pod *a, int given, char why[PODS_WHY])
{
	int fd = a->netns_path[0] == '/' ? netns_open(a->netns_path) : -ENOENT;

	if (given < 0 && fd < 0) {
		if (!a->netns_path[0])
			return pods_say(why, -EINVAL, "no network namespace was given: pass --netns PATH");
		if (a->netns_path[0] != '/')
			return pods_say(why, -EINVAL, "network namespace \"%.200s\" is not an absolute path",
					a->netns_path);
		if (fd == -EINVAL)
			return pods_say(why, fd, "%.200s is not a network namespace", a->netns_path);
		return pods_say(why, fd, "network namespace %.200s cannot be opened: %s", a->netns_path, strerror(-fd));
	}
	if (given < 0)
		return fd;
	if (netns_check(given)) {
		if (fd >= 0)
			close(fd);
		return pods_say(why, -EINVAL,
				"the file descriptor that came with the request is not a network namespace");
	}
	if (fd >= 0 && netns_inode(fd) == netns_inode(given))
		return fd;
	if (fd >= 0)
		close(fd);
	if (netns_find(netns_inode(given), a->netns_path, sizeof(a->netns_path)))
		return pods_say(why, -ENOENT, "neither a path nor a process that weftd can see keeps this network "
					      "namespace: weft would not notice when the pod is gone");
	fd = netns_open(a->netns_path);
	if (fd < 0)
		return pods_say(why, fd, "network namespace %.200s cannot be opened: %s", a->netns_path,
				strerror(-fd));
	return fd;
}

int inside_same(const char *path, uint64_t cookie)
{
	int netns = netns_open(path), err;
	uint64_t there;

	if (netns < 0)
		return netns;
	err = netns_cookie(netns, &there);
	if (!err && there == cookie)
		return netns;
	close(netns);
	return wire_want(err) ? err : -ENOENT;
}

void inside_forget(const struct wire_pod *info)
{
	int netns = inside_same(info->netns_path, info->netns);

	if (netns < 0)
		return; /* it went with it */
	remove_routes(info->namespace, info->name, netns);
	close(netns);
}

static void forget(void *ctx, enum podfile_kind kind, uint32_t number)
{
	struct wire_pod *info = mem_alloc(sizeof(*info));

	if (!podfile_read(*(const int *)ctx, kind, number, info)) {
		reader_forget(info->netns);
		inside_forget(info);
	}
	free(info);
}

int inside_forget_all(int folder)
{
	return podfile_each(folder, forget, &folder);
}

/* ------------------------------------------------------------------ sockets for the worker */

static int refuse(const struct pod *pod, int err, char why[PODS_WHY])
{
	const char *what = strerror(-err);

	if (err == -EPERM)
		what = "weftd needs CAP_NET_ADMIN in the user namespace that owns it, for IP_TRANSPARENT and SO_MARK";
	(void)snprintf(why, PODS_WHY, "pod %.100s/%.100s: no socket in its network namespace: %s", pod->namespace,
		       pod->name, what);
	return err;
}

static int make(struct pod *pod, struct loader *l, const struct wire_sockets *w, int ret[WIRE_SOCKET_BATCH])
{
	const struct netns_own own = inside_own(l);
	int netns = netns_of(pod->listener[0]), err;

	if (netns < 0)
		return netns;
	if (w->kind == WIRE_SOCKET_APP)
		make_routes(pod, netns);
	err = netns_sockets(netns, w, &own, ret);
	close(netns);
	return err;
}

int inside_sockets(struct pod *pod, struct loader *l, const struct wire_sockets *w, int ret[WIRE_SOCKET_BATCH],
		   char why[PODS_WHY])
{
	int err;

	if (!w->count || !pod->listeners)
		return -EINVAL;
	if (!inside_share(&pod->sockets_ns, w->count))
		return -EBUSY;
	err = make(pod, l, w, ret);
	return err ? refuse(pod, err, why) : 0;
}
