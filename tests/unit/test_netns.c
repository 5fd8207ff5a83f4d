/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets made in another network namespace: real ones, in namespaces of the test's own, so this needs root. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "netns.h"
#include "stream.h"

#define OWNER 15008
#define THREADS 3
#define COUNT (THREADS * WIRE_LISTENERS)

static int pod, home, marked;

static enum abi_path path;

static int mark(void *ctx, int sock, enum abi_path of)
{
	assert_true(sock >= 0);
	path = of;
	marked++;
	return *(int *)ctx;
}

static int answer;
static const struct netns_own own = {.mark = mark, .ctx = &answer};

static int setup(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNET)) {
		print_error("unshare: %s: run the tests as root\n", strerror(errno));
		return -1;
	}
	pod = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (pod < 0 || unshare(CLONE_NEWNET) || netns_home(OWNER))
		return -1;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return home < 0 ? -1 : 0;
}

static int option(int sock, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(sock, level, name, &value, &len), 0);
	return value;
}

/* Of the pod's netns, of weft's user, not blocking, closed at exec; `far`: kept alive; and we are home. */
static void of_the_pod(int sock, bool far)
{
	int netns = netns_of(sock), here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct linger linger = {0};
	socklen_t len;
	struct stat st;

	assert_true(netns >= 0);
	assert_true(netns_inode(netns) == netns_inode(pod));
	assert_true(netns_is_home(here));
	assert_int_equal(fstat(sock, &st), 0);
	assert_int_equal(st.st_uid, OWNER);
	assert_true(fcntl(sock, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fcntl(sock, F_GETFD), FD_CLOEXEC);
	assert_int_equal(option(sock, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option(sock, SOL_SOCKET, SO_KEEPALIVE), far);
	if (far)
		assert_int_equal(option(sock, IPPROTO_TCP, TCP_KEEPIDLE), SOCK_KEEPALIVE_S);
	len = sizeof(linger);
	assert_int_equal(getsockopt(sock, SOL_SOCKET, SO_LINGER, &linger, &len), 0);
	assert_true(linger.l_onoff && !linger.l_linger);
	close(netns);
	close(here);
}

static void listeners_of_every_thread(void **state)
{
	int sock[COUNT], more[COUNT];
	uint16_t port;

	(void)state;
	marked = 0;
	assert_int_equal(netns_listen(pod, THREADS, &own, sock, &port), 0);
	assert_int_equal(marked, THREADS); /* those of 15006: of the others each connection would pay for it */
	for (unsigned i = 0; i < COUNT; i++) {
		struct sockaddr_in6 at = {0};
		socklen_t len = sizeof(at);

		of_the_pod(sock[i], netns_ports[i % WIRE_LISTENERS] != ABI_PORT_OUTBOUND);
		assert_int_equal(getsockname(sock[i], (struct sockaddr *)&at, &len), 0);
		assert_int_equal(ntohs(at.sin6_port), netns_ports[i % WIRE_LISTENERS]);
		assert_int_equal(option(sock[i], SOL_SOCKET, SO_ACCEPTCONN), 1);
		assert_int_equal(option(sock[i], SOL_SOCKET, SO_REUSEPORT), 1);
		assert_int_equal(option(sock[i], IPPROTO_IPV6, IPV6_V6ONLY), 0);
	}
	/* Another user cannot join them; and what failed half way leaves nothing open. */
	close(sock[0]);
	close(sock[3]);
	close(sock[6]);
	assert_int_equal(netns_home(OWNER + 1), 0);
	assert_int_equal(netns_listen(pod, THREADS, &own, more, &port), -EADDRINUSE);
	assert_int_equal(port, 15006);
	for (unsigned i = 0; i < COUNT; i++)
		if (i % WIRE_LISTENERS)
			close(sock[i]);
	assert_int_equal(netns_listen(pod, 1, &own, more, &port), 0);
	for (unsigned i = 0; i < WIRE_LISTENERS; i++)
		close(more[i]);
	assert_int_equal(netns_home(OWNER), 0);
}

static void outgoing_sockets(void **state)
{
	struct wire_sockets w = {.count = WIRE_SOCKET_BATCH};
	int sock[WIRE_SOCKET_BATCH];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		w.kind = i & 1 ? WIRE_SOCKET_APP : WIRE_SOCKET_OUT;
		w.ipv6 = i >> 1;
		marked = 0;
		assert_int_equal(netns_sockets(pod, &w, &own, sock), 0);
		assert_int_equal(marked, WIRE_SOCKET_BATCH);
		assert_int_equal(path, i & 1 ? ABI_PATH_TUNNEL : ABI_PATH_NONE);
		for (unsigned k = 0; k < w.count; k++) {
			bool app = w.kind == WIRE_SOCKET_APP;

			of_the_pod(sock[k], !app);
			assert_int_equal(option(sock[k], SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
			assert_int_equal(option(sock[k], SOL_SOCKET, SO_DOMAIN), w.ipv6 ? AF_INET6 : AF_INET);
			assert_int_equal(option(sock[k], SOL_SOCKET, SO_MARK), app ? WIRE_SOCKET_MARK : 0);
			assert_int_equal(option(sock[k], IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
			assert_int_equal(option(sock[k], IPPROTO_IP, IP_TRANSPARENT), app);
			if (w.ipv6)
				assert_int_equal(option(sock[k], IPPROTO_IPV6, IPV6_V6ONLY), 0);
			close(sock[k]);
		}
	}
	assert_int_equal(netns_sockets(-1, &w, &own, sock), -EBADF);
	assert_int_equal(geteuid(), setfsuid((uid_t)-1)); /* ourselves again */
	assert_int_equal(netns_of(pod), -ENOTTY);
	answer = -ENOSPC; /* who cannot be marked is not made */
	assert_int_equal(netns_sockets(pod, &w, &own, sock), -ENOSPC);
	answer = 0;
}

/* No pod can be enrolled with one of these. */
static void addresses_of_the_node(void **state)
{
	struct ifreq lo = {.ifr_name = "lo"};
	struct sockaddr_in *at = (struct sockaddr_in *)&lo.ifr_addr;
	struct abi_addr a[2] = {{.byte = {0x20, [15] = 1}}, {.byte = {[10] = 0xff, 0xff, 192, 0, 2, 1}}};
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(netns_home_has(a, 2), -1);
	at->sin_family = AF_INET;
	at->sin_addr.s_addr = htonl(0xc0000201);
	assert_int_equal(ioctl(sock, SIOCSIFADDR, &lo), 0);
	lo.ifr_flags = IFF_UP;
	assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &lo), 0);
	close(sock);
	assert_int_equal(netns_home_has(a, 2), 1);
	assert_int_equal(netns_home_has(a, 1), -1);
	a[1].byte[15] = 2;
	assert_int_equal(netns_home_has(a, 2), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listeners_of_every_thread),
		cmocka_unit_test(outgoing_sockets),
		cmocka_unit_test(addresses_of_the_node),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
