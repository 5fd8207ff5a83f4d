// SPDX-License-Identifier: Apache-2.0
/* worker_addresses.c: see worker.h. */
#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
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

int worker_addresses_read(struct abi_addr **ret, unsigned *ret_count)
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

int worker_addresses_watch(void)
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

void worker_addresses_changed(int fd)
{
	char buf[8192];

	/* What changed does not matter: all are read anew. ENOBUFS says that there was more. */
	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}
