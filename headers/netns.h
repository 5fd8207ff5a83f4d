/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netns.h: network namespaces of pods (proc/netns.c).
 *
 * Entering is setns of the whole process, which has one thread; each function is back home when it returns, and ends
 * the process if it cannot get back (nothing may go on in a foreign netns).
 */
#ifndef WEFT_NETNS_H
#define WEFT_NETNS_H

#include "wire.h"

extern const uint16_t netns_ports[WIRE_LISTENERS]; /* 15001 outbound, 15006 inbound plaintext, 15008 HBONE */

/*
 * Once, at start: remembers where home is, and whose the TCP sockets are that are made in pods. It should be nobody who
 * is in there: one of the same user could enter a group of listeners (SO_REUSEPORT) and take connections away.
 */
int netns_home(uid_t owner) must_check;

/* Opens a path and checks that it is a network namespace. fd or -errno (-EINVAL: something else). */
int netns_open(const char *path) must_check;
int netns_check(int fd) must_check; /* 0 or -EINVAL */
uint64_t netns_inode(int fd);	    /* 0 on error */
int netns_cookie(int fd, uint64_t *ret) must_check;
int netns_option(int sock, int which) must_check; /* of SOL_SOCKET; or -errno */
bool netns_is_home(int fd); /* weftd's own */
bool netns_is_host(int fd); /* of process 1 */
/* Which of these weftd's own has, on whatever interface: the first of them, or -1. Looks at all interfaces. */
int netns_home_has(const struct abi_addr *addr, unsigned count);

/* Called for each socket as it is made (before it listens): marks it as weft's own, of that path or 0. 0 or -errno */
struct netns_own {
	int (*mark)(void *ctx, int sock, enum abi_path path);
	void *ctx;
};

/*
 * Listeners on all addresses, IPv6 and IPv4 in one socket where the kernel has IPv6: one of each port for every thread,
 * those of a port in one SO_REUSEPORT group. Only those of ABI_PORT_INBOUND are marked: a child of a marked one costs
 * 1 to 2 us more, and the others are told by their port. `ret` holds threads * WIRE_LISTENERS, those of thread 0
 * first. 0 or -errno, then *ret_port is the port that failed and nothing is open.
 */
int netns_listen(int fd, unsigned threads, const struct netns_own *own, int *ret, uint16_t *ret_port) must_check;

/* Unconnected sockets: w->count fds as wire.h says. 0, or -errno and none. */
int netns_sockets(int fd, const struct wire_sockets *w, const struct netns_own *own, int ret[WIRE_SOCKET_BATCH])
	must_check;

/* The same in weftd's own netns: one listener at an address (zero: all, IPv6 and IPv4): fd or -errno; sockets. */
int netns_home_listen(const struct abi_addr *addr, uint16_t port) must_check;
int netns_home_sockets(const struct wire_sockets *w, const struct netns_own *own, int ret[WIRE_SOCKET_BATCH])
	must_check;

/* Calls inside(ctx) in there: what it says, or -errno */
int netns_run(int fd, int (*inside)(void *ctx), void *ctx) must_check;
int netns_diag(int fd) must_check; /* sock_diag socket inside; fd or -errno */
int netns_of(int sock) must_check; /* the netns of a socket; fd or -errno */
/* A TCP socket of the netns with that cookie, which listens on the port at all addresses, as netns_listen()'s do? */
bool netns_listens(int sock, uint64_t netns, uint16_t port);
bool netns_home_listens(int sock, const struct abi_addr *addr, uint16_t port); /* as netns_home_listen()'s do? */

/* Does the path still lead to that netns? (stat, no open: takes no reference) */
bool netns_at(const char *path, uint64_t inode);
/*
 * Who keeps that netns: a mount or a process, as a path that opens it. Looks through /run/netns, the mount table and
 * /proc; 0 or -ENOENT.
 */
int netns_find(uint64_t inode, char *ret, size_t size) must_check;

#endif
