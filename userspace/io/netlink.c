/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.c: SOCK_DESTROY by sock_diag. The kernel does the work inside sendmsg, so answers are there at once. */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netlink.h"

/*
 * Requests of one sendmsg. Each answer waits in our receive buffer, at about 1 KiB of truesize: 32 of them
 * fit the default of 208 KiB many times.
 */
#define BATCH 32

#define REQUEST_LEN (MNL_ALIGN(sizeof(struct nlmsghdr)) + MNL_ALIGN(sizeof(struct inet_diag_req_v2)))

int netlink_diag_open(void)
{
	int one = 1, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd < 0)
		return -errno;
	/* Answers without the request in them. */
	if (setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* idiag_src is the socket's own side. A mapped address of an AF_INET6 socket stays mapped: the kernel looks. */
static void put_request(void *at, uint32_t seq, const struct wire_destroy *d)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(at);
	struct inet_diag_req_v2 *req;

	h->nlmsg_type = SOCK_DESTROY;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	h->nlmsg_seq = seq;
	req = mnl_nlmsg_put_extra_header(h, sizeof(*req)); /* zeroed */
	req->sdiag_protocol = IPPROTO_TCP;
	req->idiag_states = ~0u;
	req->id.idiag_sport = htons(d->local_port);
	req->id.idiag_dport = htons(d->remote_port);
	req->id.idiag_cookie[0] = (uint32_t)d->cookie;
	req->id.idiag_cookie[1] = (uint32_t)(d->cookie >> 32);
	if (d->ipv6_socket) {
		req->sdiag_family = AF_INET6;
		memcpy(req->id.idiag_src, d->local.byte, 16);
		memcpy(req->id.idiag_dst, d->remote.byte, 16);
	} else {
		req->sdiag_family = AF_INET;
		memcpy(req->id.idiag_src, d->local.byte + 12, 4);
		memcpy(req->id.idiag_dst, d->remote.byte + 12, 4);
	}
}

/* ~0 would be INET_DIAG_NOCOOKIE, with which the kernel ends whatever it finds at these addresses. */
static bool sound(const struct wire_destroy *d)
{
	if (!d->cookie || d->cookie == UINT64_MAX)
		return false;
	return d->ipv6_socket || (addr_is_v4(&d->local) && addr_is_v4(&d->remote));
}

struct answers {
	uint32_t first; /* seq of ret[0] */
	unsigned count, missing;
	int *ret;
};

static int take_answer(const struct nlmsghdr *h, void *data)
{
	struct answers *a = data;
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	uint32_t i = h->nlmsg_seq - a->first;

	if (h->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(h) < sizeof(e->error))
		return MNL_CB_OK;
	if (i >= a->count || a->ret[i] != -EINPROGRESS)
		return MNL_CB_OK; /* of an earlier batch that failed */
	/* -ESTALE: another socket has these addresses now. */
	a->ret[i] = e->error == -ESTALE ? -ENOENT : e->error;
	a->missing--;
	return MNL_CB_OK;
}

static int read_answers(int diag, struct answers *a)
{
	char buf[8192] __attribute__((aligned(8)));

	while (a->missing) {
		struct sockaddr_nl from = {0};
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(diag, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &len);
		const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
		int left;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -EIO : -errno; /* the kernel answers before sendmsg returns */
		if (from.nl_pid)
			continue; /* not from the kernel */
		for (left = (int)n; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
			take_answer(h, a);
	}
	return 0;
}

static int destroy_batch(int diag, const struct wire_destroy *d, unsigned count, int *ret)
{
	static _Atomic uint32_t next_seq = 1;
	char buf[BATCH * REQUEST_LEN] __attribute__((aligned(8))) = {0};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct answers a = {.count = count, .ret = ret};
	size_t len = 0;
	unsigned i;
	ssize_t n;

	a.first = atomic_fetch_add_explicit(&next_seq, count, memory_order_relaxed);
	for (i = 0; i < count; i++) {
		ret[i] = -EINVAL;
		if (!sound(&d[i]))
			continue;
		put_request(buf + len, a.first + i, &d[i]);
		len += REQUEST_LEN;
		ret[i] = -EINPROGRESS;
		a.missing++;
	}
	if (!a.missing)
		return 0;
	do {
		n = sendto(diag, buf, len, 0, (struct sockaddr *)&kernel, sizeof(kernel));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return read_answers(diag, &a);
}

int netlink_diag_destroy_many(int diag, const struct wire_destroy *d, unsigned count, int *ret_result)
{
	unsigned i, at, n;
	int r = 0;

	for (at = 0; at < count; at += n) {
		n = count - at < BATCH ? count - at : BATCH;
		for (i = 0; i < n; i++)
			ret_result[at + i] = -EINPROGRESS;
		if (!r)
			r = destroy_batch(diag, d + at, n, ret_result + at);
		for (i = 0; i < n; i++)
			if (ret_result[at + i] == -EINPROGRESS)
				ret_result[at + i] = r;
	}
	return r;
}

int netlink_diag_destroy(int diag, const struct wire_destroy *d)
{
	int result, r = netlink_diag_destroy_many(diag, d, 1, &result);

	return r < 0 ? r : result;
}

static int destroy_listener(int diag, int sock)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct wire_destroy d = {0};
	socklen_t len = sizeof(sa), cookie_len = sizeof(d.cookie);

	if (bind(sock, (struct sockaddr *)&sa, len) < 0 || listen(sock, 1) < 0 ||
	    getsockname(sock, (struct sockaddr *)&sa, &len) < 0 ||
	    getsockopt(sock, SOL_SOCKET, SO_COOKIE, &d.cookie, &cookie_len) < 0)
		return -errno;
	if (addr_parse("127.0.0.1", &d.local) < 0 || addr_parse("0.0.0.0", &d.remote) < 0)
		return -EINVAL;
	d.local_port = ntohs(sa.sin_port);
	return netlink_diag_destroy(diag, &d);
}

int netlink_diag_probe(void)
{
	int diag = netlink_diag_open(), sock, r;

	if (diag < 0)
		return diag;
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	r = sock < 0 ? -errno : destroy_listener(diag, sock);
	if (sock >= 0)
		close(sock);
	close(diag);
	return r;
}
