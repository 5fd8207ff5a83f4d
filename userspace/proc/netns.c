/* SPDX-License-Identifier: Apache-2.0 */
/* netns.c: see netns.h. */
#include "netns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "netlink.h"
#include "stream.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn of the pod */
#define RUN_NETNS "/run/netns"

const uint16_t netns_ports[WIRE_LISTENERS] = {15001, 15006, 15008};

static int home = -1;
static uid_t owner;

int netns_home(uid_t sockets)
{
	owner = sockets;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return home < 0 ? -errno : 0;
}

int netns_check(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return -errno;
	return fs.f_type == NSFS_MAGIC && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET ? 0 : -EINVAL;
}

int netns_open(const char *path)
{
	/* Non-blocking: a FIFO in its place must not hold us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err;

	if (fd < 0)
		return -errno;
	err = netns_check(fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

uint64_t netns_inode(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

bool netns_is_home(int fd)
{
	return netns_inode(fd) == netns_inode(home);
}

bool netns_is_host(int fd)
{
	struct stat st;

	/* Process 1 may be one that we may not look at; kernel threads live in the first netns too. */
	if (stat("/proc/1/ns/net", &st) && stat("/proc/2/ns/net", &st))
		return false;
	return netns_inode(fd) == st.st_ino;
}

static int enter(int fd)
{
	return setns(fd, CLONE_NEWNET) ? -errno : 0;
}

static void leave(void)
{
	if (!setns(home, CLONE_NEWNET))
		return;
	log_error("cannot return from a pod's network namespace: %s", strerror(errno));
	_exit(1);
}

int netns_run(int fd, int (*inside)(void *ctx), void *ctx)
{
	int err = enter(fd);

	if (err)
		return err;
	err = inside(ctx);
	leave();
	return err;
}

static int cookie_of(int sock, uint64_t *ret)
{
	socklen_t len = sizeof(*ret);

	return getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, ret, &len) ? -errno : 0;
}

int netns_cookie(int fd, uint64_t *ret)
{
	int err = enter(fd), sock;

	if (err)
		return err;
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	err = sock < 0 ? -errno : cookie_of(sock, ret);
	leave();
	if (sock >= 0)
		close(sock);
	return err;
}

static bool set(int sock, int level, int option, int value)
{
	return !setsockopt(sock, level, option, &value, sizeof(value));
}

/*
 * What a listener hands on to all that it accepts: here once, and not in the worker for each connection. `far`: the
 * other end may be on another machine, which can vanish. An app's is in the same netns, and the kernel that has both
 * cannot lose one of them.
 */
static bool set_stream(int sock, bool far)
{
	const struct linger reset = {.l_onoff = 1};

	return set(sock, IPPROTO_TCP, TCP_NODELAY, 1) &&
	       !setsockopt(sock, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) &&
	       (!far || (set(sock, SOL_SOCKET, SO_KEEPALIVE, 1) &&
			 set(sock, IPPROTO_TCP, TCP_KEEPIDLE, SOCK_KEEPALIVE_S)));
}

/* After enter_as_owner(): the file system's user is who makes a socket, for the kernel. `own` NULL: no mark. */
static int make_socket(int family, bool far, enum abi_path path, const struct netns_own *own)
{
	int sock = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP), err;

	if (sock < 0)
		return -errno;
	err = set_stream(sock, far) ? 0 : -errno;
	if (!err && own)
		err = own->mark(own->ctx, sock, path);
	if (!err)
		return sock;
	close(sock);
	return err;
}

static int enter_as_owner(int fd)
{
	int err = enter(fd);

	if (!err)
		(void)setfsuid(owner);
	return err;
}

static void leave_as_us(void)
{
	(void)setfsuid(geteuid());
	leave();
}

/* At all addresses, or at that one. */
static int listen_at(const struct abi_addr *addr, uint16_t port, const struct netns_own *own)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	const struct sockaddr *to = (struct sockaddr *)&six;
	bool any = addr_is_zero(addr), v4 = !any && addr_is_v4(addr), far = port != ABI_PORT_OUTBOUND;
	socklen_t len = sizeof(six);
	int sock = v4 ? -EAFNOSUPPORT : make_socket(AF_INET6, far, ABI_PATH_NONE, own), err;

	memcpy(&six.sin6_addr, addr->byte, any ? 0 : sizeof(six.sin6_addr));
	memcpy(&four.sin_addr, addr->byte + 12, v4 ? sizeof(four.sin_addr) : 0);
	if (sock < 0 && (any || v4)) { /* also a kernel without IPv6, or ipv6.disable=1 */
		sock = make_socket(AF_INET, far, ABI_PATH_NONE, own);
		if (sock < 0)
			return sock;
		to = (struct sockaddr *)&four;
		len = sizeof(four);
	} else if (sock < 0) {
		return sock;
	} else if (!set(sock, IPPROTO_IPV6, IPV6_V6ONLY, any ? 0 : 1)) {
		goto fail;
	}
	if (set(sock, SOL_SOCKET, SO_REUSEADDR, 1) && set(sock, SOL_SOCKET, SO_REUSEPORT, 1) &&
	    !bind(sock, to, len) && !listen(sock, BACKLOG))
		return sock;
fail:
	err = -errno;
	close(sock);
	return err;
}

int netns_listen(int fd, unsigned threads, const struct netns_own *own, int *ret, uint16_t *ret_port)
{
	static const struct abi_addr any;
	unsigned count = threads * WIRE_LISTENERS, i;
	int err = enter_as_owner(fd);
	uint16_t port = 0;

	*ret_port = 0;
	if (err)
		return err;
	for (i = 0; i < count; i++) {
		port = netns_ports[i % WIRE_LISTENERS];
		ret[i] = listen_at(&any, port, port == ABI_PORT_INBOUND ? own : NULL);
		if (ret[i] < 0)
			break;
	}
	leave_as_us();
	if (i == count)
		return 0;
	err = ret[i];
	*ret_port = port;
	while (i--)
		close(ret[i]);
	return err;
}

static int outgoing(const struct wire_sockets *w, const struct netns_own *own)
{
	bool app = w->kind == WIRE_SOCKET_APP, good;
	int sock = make_socket(w->ipv6 ? AF_INET6 : AF_INET, !app, app ? ABI_PATH_TUNNEL : ABI_PATH_NONE, own), err;

	if (sock < 0)
		return sock;
	good = (!w->ipv6 || set(sock, IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
	       set(sock, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (good && app)
		good = set(sock, w->ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, w->ipv6 ? IPV6_TRANSPARENT : IP_TRANSPARENT,
			   1) &&
		       set(sock, SOL_SOCKET, SO_MARK, WIRE_SOCKET_MARK);
	if (good)
		return sock;
	err = -errno;
	close(sock);
	return err;
}

int netns_sockets(int fd, const struct wire_sockets *w, const struct netns_own *own, int ret[WIRE_SOCKET_BATCH])
{
	int err = enter_as_owner(fd);
	unsigned i;

	if (err)
		return err;
	for (i = 0; i < w->count; i++) {
		ret[i] = outgoing(w, own);
		if (ret[i] < 0)
			break;
	}
	leave_as_us();
	if (i == w->count)
		return 0;
	err = ret[i];
	while (i--)
		close(ret[i]);
	return err;
}

int netns_home_listen(const struct abi_addr *addr, uint16_t port)
{
	int sock;

	(void)setfsuid(owner);
	sock = listen_at(addr, port, NULL);
	(void)setfsuid(geteuid());
	return sock;
}

int netns_home_sockets(const struct wire_sockets *w, const struct netns_own *own, int ret[WIRE_SOCKET_BATCH])
{
	return netns_sockets(home, w, own, ret);
}

int netns_of(int sock)
{
	int fd = ioctl(sock, SIOCGSKNS);

	return fd < 0 ? -errno : fd;
}

/* At all addresses: IPv6 or, where the kernel has none, IPv4. Both have the port in one place. */
static bool is_at(const struct sockaddr_in6 *at, const struct abi_addr *addr, uint16_t port)
{
	static const struct in6_addr any;
	const struct in_addr *four = &((const struct sockaddr_in *)at)->sin_addr;

	if (at->sin6_port != htons(port) || (at->sin6_family != AF_INET6 && at->sin6_family != AF_INET))
		return false;
	if (addr_is_zero(addr))
		return at->sin6_family == AF_INET6 ? !memcmp(&at->sin6_addr, &any, sizeof(any)) : !four->s_addr;
	if (addr_is_v4(addr))
		return at->sin6_family == AF_INET && !memcmp(four, addr->byte + 12, sizeof(*four));
	return at->sin6_family == AF_INET6 && !memcmp(&at->sin6_addr, addr->byte, sizeof(any));
}

int netns_option(int sock, int which)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(sock, SOL_SOCKET, which, &value, &len) ? -errno : value;
}

static bool listens(int sock, uint64_t netns, const struct abi_addr *addr, uint16_t port)
{
	struct sockaddr_in6 at = {0};
	socklen_t len = sizeof(at);
	uint64_t cookie;

	return !cookie_of(sock, &cookie) && cookie == netns && netns_option(sock, SO_PROTOCOL) == IPPROTO_TCP &&
	       netns_option(sock, SO_ACCEPTCONN) == 1 &&
	       !getsockname(sock, (struct sockaddr *)&at, &len) && is_at(&at, addr, port);
}

bool netns_listens(int sock, uint64_t netns, uint16_t port)
{
	static const struct abi_addr any;

	return listens(sock, netns, &any, port);
}

bool netns_home_listens(int sock, const struct abi_addr *addr, uint16_t port)
{
	uint64_t cookie;

	return !netns_cookie(home, &cookie) && listens(sock, cookie, addr, port);
}

static bool has_address(const struct sockaddr *sa, const struct abi_addr *addr)
{
	if (sa && sa->sa_family == AF_INET)
		return addr_is_v4(addr) &&
		       !memcmp(&((const struct sockaddr_in *)(const void *)sa)->sin_addr, addr->byte + 12, 4);
	return sa && sa->sa_family == AF_INET6 &&
	       !memcmp(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, addr->byte, sizeof(addr->byte));
}

int netns_home_has(const struct abi_addr *addr, unsigned count)
{
	struct ifaddrs *all;
	int found = -1;

	if (getifaddrs(&all))
		return found;
	for (const struct ifaddrs *at = all; at && found < 0; at = at->ifa_next)
		for (unsigned i = 0; i < count && found < 0; i++)
			found = has_address(at->ifa_addr, &addr[i]) ? (int)i : -1;
	freeifaddrs(all);
	return found;
}

int netns_diag(int fd)
{
	int err = enter(fd), sock;

	if (err)
		return err;
	sock = netlink_diag_open();
	leave();
	return sock;
}

bool netns_at(const char *path, uint64_t inode)
{
	struct statfs fs;
	struct stat st;

	return !stat(path, &st) && st.st_ino == inode && !statfs(path, &fs) && fs.f_type == NSFS_MAGIC;
}

static int find_run(uint64_t inode, char *ret, size_t size)
{
	DIR *dir = opendir(RUN_NETNS);
	const struct dirent *e;
	int err = -ENOENT;

	if (!dir)
		return err;
	while (err && (e = readdir(dir))) {
		(void)snprintf(ret, size, RUN_NETNS "/%s", e->d_name);
		if (e->d_name[0] != '.' && netns_at(ret, inode))
			err = 0;
	}
	closedir(dir);
	return err;
}

/* Bind mounts elsewhere: lines of mountinfo whose root is "net:[INODE]"; the mount point is the next word. */
static int find_mount(uint64_t inode, char *ret, size_t size)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[4096], want[40];
	int err = -ENOENT;

	if (!file)
		return err;
	(void)snprintf(want, sizeof(want), " net:[%llu] ", (unsigned long long)inode);
	while (err && fgets(line, sizeof(line), file)) {
		char *at = strstr(line, want);

		if (!at)
			continue;
		at += strlen(want);
		at[strcspn(at, " \n")] = '\0';
		if (text_copy(ret, size, at) && netns_at(ret, inode))
			err = 0;
	}
	(void)fclose(file);
	return err;
}

static int find_process(uint64_t inode, char *ret, size_t size)
{
	DIR *dir = opendir("/proc");
	const struct dirent *e;
	int err = -ENOENT;
	long long pid;

	if (!dir)
		return err;
	while (err && (e = readdir(dir))) {
		if (text_number(e->d_name, 1, INT32_MAX, &pid))
			continue;
		(void)snprintf(ret, size, "/proc/%s/ns/net", e->d_name);
		if (netns_at(ret, inode))
			err = 0;
	}
	closedir(dir);
	return err;
}

int netns_find(uint64_t inode, char *ret, size_t size)
{
	int err = find_run(inode, ret, size);

	if (err)
		err = find_mount(inode, ret, size);
	return err ? find_process(inode, ret, size) : 0;
}
