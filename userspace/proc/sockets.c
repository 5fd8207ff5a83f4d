/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sockets.c: see pods.h. Sockets that the worker connects, made in a pod's netns, which it cannot enter.
 *
 * What the worker can hold is bounded by its own limit of open files; here is bounded what one pod can make us do: as
 * many sockets in a second as a core opens connections, and a burst.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "pods.h"

#define EACH_NS 50000ull /* 20 000 a second */
#define BURST 4096

static bool within_share(struct pod *pod, unsigned count)
{
	uint64_t now = clock_ns(), used = pod->sockets_ns > now ? pod->sockets_ns : now;

	if (used + count * EACH_NS > now + BURST * EACH_NS)
		return false;
	pod->sockets_ns = used + count * EACH_NS;
	return true;
}

static int refuse(const struct pod *pod, int err, char why[PODS_WHY])
{
	const char *what = strerror(-err);

	if (err == -EPERM)
		what = "weftd needs CAP_NET_ADMIN in the user namespace that owns it, for IP_TRANSPARENT and SO_MARK";
	(void)snprintf(why, PODS_WHY, "pod %.100s/%.100s: no socket in its network namespace: %s", pod->namespace,
		       pod->name, what);
	return err;
}

static int mark(void *ctx, int sock)
{
	return loader_own(ctx, sock);
}

static int make(const struct pod *pod, struct loader *l, const struct wire_sockets *w, int ret[WIRE_SOCKET_BATCH])
{
	const struct netns_own own = {.mark = mark, .ctx = l};
	int netns = netns_of(pod->listener[0]), err;

	if (netns < 0)
		return netns;
	err = netns_sockets(netns, w, &own, ret);
	close(netns);
	return err;
}

int sockets_make(struct pod *pod, struct loader *l, const struct wire_sockets *w, int ret[WIRE_SOCKET_BATCH],
		 char why[PODS_WHY])
{
	int err;

	if (!w->count || !pod->listener)
		return -EINVAL;
	if (!within_share(pod, w->count))
		return -EBUSY;
	err = make(pod, l, w, ret);
	return err ? refuse(pod, err, why) : 0;
}
