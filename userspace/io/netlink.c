/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netlink.c: SOCK_DESTROY by sock_diag. The kernel does the work inside sendmsg, so answers are there at once.
 *
 * Of one sendmsg it takes the requests in order and answers those that fail (netlink_rcv_skb). The last of them asks
 * for an answer in any case, which says that all were looked at: silence about the others means that they are done.
 *
 * To end a connection costs the kernel some 10 us, the way of the RST to the other pod with it, and it ends several at
 * once (until 6.8 one after the other: sock_diag_mutex). So many of them are shared out among the CPUs.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netlink.h"

/*
 * Requests of one sendmsg. All may fail, and each answer waits in our receive buffer, at about 1 KiB of truesize: those
 * of all threads fit the default of 208 KiB many times.
 */
#define BATCH 16

#define THREADS_MAX 4
#define THREAD_MIN (2 * BATCH) /* connections that pay a thread */

#define SILENT (-EINPROGRESS) /* result while it is under way: 0 if no answer comes */
#define ASKED (-EALREADY)     /* the same for the last of a batch, which must be answered */

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

void netlink_diag_end(struct wire_destroy *ret, const struct abi_tuple *t, enum abi_end end, uint64_t netns,
		      uint64_t cookie)
{
	bool client = end == ABI_CLIENT;

	*ret = (struct wire_destroy){
		.netns = netns,
		.cookie = cookie,
		.local = client ? t->src : t->dst,
		.remote = client ? t->dst : t->src,
		.local_port = client ? t->src_port : t->dst_port,
		.remote_port = client ? t->dst_port : t->src_port,
		/* sock_diag finds an AF_INET6 socket with mapped addresses as AF_INET too (inet_diag_find_one_icsk) */
		.ipv6_socket = !addr_is_v4(&t->src),
	};
}

/* idiag_src is the socket's own side. A mapped address of an AF_INET6 socket stays mapped: the kernel looks. */
static void put_request(void *at, uint32_t seq, const struct wire_destroy *d, bool answer)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(at);
	struct inet_diag_req_v2 *req;

	h->nlmsg_type = SOCK_DESTROY;
	h->nlmsg_flags = NLM_F_REQUEST | (answer ? NLM_F_ACK : 0);
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

/* One call of netlink_diag_destroy_many. */
struct job {
	int diag;
	const struct wire_destroy *d;
	unsigned count;
	int *ret;
	uint32_t first;	       /* seq of d[0] */
	_Atomic unsigned next; /* not begun yet */
	_Atomic int error;     /* of the socket */
};

/* Whoever receives it notes it: nobody else looks at that result meanwhile. */
static void take_answer(const struct nlmsghdr *h, struct job *j)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	uint32_t i = h->nlmsg_seq - j->first;

	if (h->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(h) < sizeof(e->error))
		return;
	if (i >= j->count || (j->ret[i] != SILENT && j->ret[i] != ASKED))
		return; /* of an earlier call that failed */
	/* -ESTALE: another socket has these addresses now. */
	j->ret[i] = e->error == -ESTALE ? -ENOENT : e->error;
}

/* All that have come: none is still to come for what sendmsg has returned from. */
static int read_answers(struct job *j)
{
	char buf[8192] __attribute__((aligned(8)));

	for (;;) {
		struct sockaddr_nl from = {0};
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(j->diag, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &len);
		const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
		int left;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (from.nl_pid)
			continue; /* not from the kernel */
		for (left = (int)n; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
			take_answer(h, j);
	}
}

static int destroy_batch(struct job *j, unsigned at, unsigned end)
{
	char buf[BATCH * REQUEST_LEN] __attribute__((aligned(8))) = {0};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	size_t len = 0;
	ssize_t n;

	for (; at < end; at++) {
		if (!sound(&j->d[at]))
			continue;
		put_request(buf + len, j->first + at, &j->d[at], j->ret[at] == ASKED);
		len += REQUEST_LEN;
	}
	if (!len)
		return 0;
	do {
		n = sendto(j->diag, buf, len, 0, (struct sockaddr *)&kernel, sizeof(kernel));
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : read_answers(j);
}

static void *destroy_batches(void *arg)
{
	struct job *j = arg;
	unsigned at;
	int r;

	while (!j->error && (at = atomic_fetch_add(&j->next, BATCH)) < j->count) {
		r = destroy_batch(j, at, at + BATCH < j->count ? at + BATCH : j->count);
		if (r)
			j->error = r;
	}
	return NULL;
}

/* This thread is one of them. */
static void share_out(struct job *j)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t thread[THREADS_MAX - 1];
	unsigned threads = 0;

	while (threads < THREADS_MAX - 1 && threads + 1 < cpus && (threads + 2) * THREAD_MIN <= j->count &&
	       !pthread_create(&thread[threads], NULL, destroy_batches, j))
		threads++;
	(void)destroy_batches(j);
	while (threads)
		pthread_join(thread[--threads], NULL);
}

int netlink_diag_destroy_many(int diag, const struct wire_destroy *d, unsigned count, int *ret_result)
{
	static _Atomic uint32_t next_seq = 1;
	struct job j = {.diag = diag, .d = d, .count = count, .ret = ret_result};
	bool asked = false;
	int r;

	j.first = atomic_fetch_add(&next_seq, count);
	for (unsigned i = count; i-- > 0;) {
		asked = asked && i % BATCH != BATCH - 1;
		ret_result[i] = !sound(&d[i]) ? -EINVAL : asked ? SILENT : ASKED;
		asked = asked || ret_result[i] == ASKED;
	}
	share_out(&j);
	r = j.error ? j.error : read_answers(&j);
	for (unsigned i = count; i-- > 0;) {
		if (i % BATCH == BATCH - 1 || i == count - 1)
			asked = true;
		if (ret_result[i] == ASKED)
			asked = false; /* it was not answered, so that nothing is known of those before it either */
		if (ret_result[i] == SILENT && asked && !r)
			ret_result[i] = 0;
		else if (ret_result[i] == SILENT || ret_result[i] == ASKED)
			ret_result[i] = r ? r : -EIO;
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
