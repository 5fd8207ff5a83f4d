/* SPDX-License-Identifier: Apache-2.0 */
/* sock_address.c: who a TCP socket is, and who its peer: IPv4 as mapped. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

static int address(int r, const struct sockaddr_storage *ss, struct abi_addr *ret, uint16_t *ret_port)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
	const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

	if (r < 0)
		return -errno;
	if (ss->ss_family == AF_INET6) {
		memcpy(ret->byte, &in6->sin6_addr, 16);
		*ret_port = ntohs(in6->sin6_port);
		return 0;
	}
	if (ss->ss_family != AF_INET)
		return -EAFNOSUPPORT;
	*ret = (struct abi_addr){.byte = {[10] = 0xff, [11] = 0xff}};
	memcpy(ret->byte + 12, &in->sin_addr, 4);
	*ret_port = ntohs(in->sin_port);
	return 0;
}

int sock_accept(int listener, struct abi_addr *ret, uint16_t *ret_port)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd = accept4(listener, (struct sockaddr *)&ss, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int err = address(fd, &ss, ret, ret_port);

	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

int sock_peer(int fd, struct abi_addr *ret, uint16_t *ret_port)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	return address(getpeername(fd, (struct sockaddr *)&ss, &len), &ss, ret, ret_port);
}

int sock_local(int fd, struct abi_addr *ret, uint16_t *ret_port)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	return address(getsockname(fd, (struct sockaddr *)&ss, &len), &ss, ret, ret_port);
}
