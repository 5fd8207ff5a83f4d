/* SPDX-License-Identifier: Apache-2.0 */
/* worker_addresses.c: see worker.h. */
#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker.h"

#define NODE_ADDRS 1024

static bool node_address(const struct sockaddr *sa, struct abi_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (sa && sa->sa_family == AF_INET) {
		ret->byte[10] = ret->byte[11] = 0xff;
		memcpy(ret->byte + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	} else if (sa && sa->sa_family == AF_INET6) {
		memcpy(ret->byte, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
		/* fe80::/10 says nothing about who it is: every link has its own */
		if (ret->byte[0] == 0xfe && (ret->byte[1] & 0xc0) == 0x80)
			return false;
	} else {
		return false;
	}
	return !addr_is_loopback(ret) && !addr_is_zero(ret);
}

static int read_all(struct abi_addr **ret, unsigned *ret_count)
{
	struct abi_addr *addr;
	struct ifaddrs *list, *at;
	unsigned count = 0;

	if (getifaddrs(&list))
		return -errno;
	addr = mem_alloc(NODE_ADDRS * sizeof(*addr));
	for (at = list; at && count < NODE_ADDRS; at = at->ifa_next)
		if (node_address(at->ifa_addr, &addr[count]))
			count++;
	freeifaddrs(list);
	*ret = addr;
	*ret_count = count;
	return 0;
}

static int watch_fd(void)
{
	struct sockaddr_nl nl = {.nl_family = AF_NETLINK,
				 .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), err;

	if (fd < 0)
		return -errno;
	if (!bind(fd, (struct sockaddr *)&nl, sizeof(nl)))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct worker_addresses *a = container_of(w, struct worker_addresses, watch);
	char buf[8192];

	/* What changed does not matter: all are read anew. ENOBUFS says that there was more. */
	while (recv(w->fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	a->changed(a->ctx);
}

void worker_addresses_watch(struct worker_addresses *a, struct loop *loop, void (*changed)(void *ctx), void *ctx)
{
	int fd = watch_fd(), err = fd < 0 ? fd : 0;

	a->changed = changed;
	a->ctx = ctx;
	a->watch = (struct loop_watch){.fd = fd, .events = EPOLLIN, .ready = ready};
	if (!err)
		err = loop_watch(loop, &a->watch);
	if (!err)
		return;
	log_warning("changes of this node's addresses are not noticed: %s", strerror(-err));
	if (fd >= 0)
		close(fd);
}

void worker_addresses_tell(struct world *w)
{
	struct abi_addr *addr = NULL;
	unsigned count = 0;
	int err = read_all(&addr, &count);

	if (err) {
		log_warning("the addresses of this node cannot be read: %s: probes of the kubelet may be "
			    "refused under STRICT",
			    strerror(-err));
		return;
	}
	world_node_addresses(w, addr, count);
	free(addr);
}
