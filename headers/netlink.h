/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netlink.h: ending connections from outside (io/netlink.c): sock_diag's SOCK_DESTROY, man 7 sock_diag,
 * kernel net/ipv4/tcp_diag.c. Both sides' apps see ECONNABORTED or a reset at once, spliced or not.
 *
 * Needs CAP_NET_ADMIN in the network namespace and CONFIG_INET_DIAG_DESTROY; netlink_diag_probe tells.
 */
#ifndef WEFT_NETLINK_H
#define WEFT_NETLINK_H

#include "wire.h"

/*
 * A sock_diag socket of the network namespace that the thread is in now; it stays that namespace's wherever
 * the thread goes afterwards, and holds the namespace while it is open. fd (O_CLOEXEC) or -errno.
 */
int netlink_diag_open(void) must_check;

/* What names one end of a connection to the functions below: the socket with that cookie in that netns. */
void netlink_diag_end(struct wire_destroy *ret, const struct abi_tuple *t, enum abi_end end, uint64_t netns,
		      uint64_t cookie);

/*
 * End one connection. 0; -ENOENT it is already gone (or another one has its addresses: the cookie tells);
 * -EPERM, -EOPNOTSUPP as the kernel says; -EINVAL without a cookie. Never blocks.
 */
int netlink_diag_destroy(int diag, const struct wire_destroy *d) must_check;

/*
 * The same for many, pipelined: ret_result[i] is what netlink_diag_destroy would return for d[i].
 * 0, or -errno if the socket itself failed: then results that are not known are that -errno too.
 */
int netlink_diag_destroy_many(int diag, const struct wire_destroy *d, unsigned count, int *ret_result) must_check;

/* Can this kernel do it, here, by this process? Ends a listener of its own on 127.0.0.1. 0 or -errno. */
int netlink_diag_probe(void) must_check;

#endif
