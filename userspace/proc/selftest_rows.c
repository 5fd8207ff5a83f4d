/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest_rows.c: the rows of the self-test: what a spliced connection must do as a direct one does, and what differs
 * between kernels (facts in docs/splice.md). Each makes its own connections; none waits for what should not come.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "selftest.h"
#include "selftest_rig.h"

#define BUFFERS 65536	  /* of the row with back-pressure: the kernel doubles it */
#define MUCH (8u << 20)	  /* more than any window with these buffers */
#define MESSAGES 200	  /* of the row with alternation */
#define UNREAD (96 << 10) /* there: bytes that wait for the reader at most */
#define LAST_SENDS 5	  /* to a peer that is gone: TCP takes one, perhaps two */

/* ------------------------------------------------------------------ entering and leaving */

/* First bytes by TCP, some of them unread when the socket enters; then redirect, both ways. */
static bool enters_live(struct rig *r, struct rig_pair *p)
{
	return rig_connect(r, p, AF_INET, 0) && rig_say(r, &p->client, RIG_TCP, 1000) &&
	       rig_hear(r, &p->server, 400, 0) && rig_enter(r, p) && rig_hear(r, &p->server, 600, 0) &&
	       rig_say(r, &p->server, RIG_TCP, 1000) && rig_hear(r, &p->client, 1000, 0) &&
	       rig_say(r, &p->client, RIG_SPLICE, 1000) && rig_hear(r, &p->server, 1000, 0) &&
	       rig_say(r, &p->server, RIG_SPLICE, 1000) && rig_hear(r, &p->client, 1000, 0) &&
	       rig_nothing(r, &p->client) && rig_nothing(r, &p->server);
}

/* Out with an empty queue: TCP carries on at once, and it may come back. */
static bool leaves(struct rig *r, struct rig_pair *p)
{
	return rig_pair(r, p) && rig_say(r, &p->client, RIG_SPLICE, 1000) && rig_hear(r, &p->server, 1000, 0) &&
	       rig_leave(r, p) && rig_say(r, &p->client, RIG_TCP, 1000) && rig_inq(r, &p->server, 1000) &&
	       rig_hear(r, &p->server, 1000, 0) && rig_say(r, &p->server, RIG_TCP, 1000) &&
	       rig_hear(r, &p->client, 1000, 0) && rig_enter(r, p) &&
	       rig_say(r, &p->server, RIG_SPLICE, 1000) && rig_hear(r, &p->client, 1000, 0);
}

/* Does weft see this of the server's socket? */
static bool looks_like(struct rig *r, const struct rig_pair *p, const char *when, bool empty, bool unread)
{
	struct selftest_seen seen;

	if (!rig_look(r, &p->server, &seen))
		return false;
	if (seen.empty == empty && seen.unread == unread && seen.drained == !unread)
		return true;
	return rig_fail(r, "%s: empty %u, unread %u, drained %u", when, seen.empty, seen.unread, seen.drained);
}

/* What weft's programs read out of a socket: its queue, what TCP brought, whether it lives, is accepted, blocks. */
static bool looks(struct rig *r, struct rig_pair *p)
{
	struct rig_end *c = &p->client, *s = &p->server;
	struct selftest_seen seen;

	if (!rig_pair(r, p) || !looks_like(r, p, "idle", true, false) || !rig_say(r, c, RIG_SPLICE, 10) ||
	    !looks_like(r, p, "10 bytes redirected", false, false) || !rig_hear(r, s, 10, 0) ||
	    !looks_like(r, p, "read", true, false) || !rig_say(r, c, RIG_TCP, 10) ||
	    !rig_arrived(r, s) || !looks_like(r, p, "10 bytes by TCP", true, true) ||
	    !rig_hear(r, s, 10, 0) || !looks_like(r, p, "read again", true, false) || !rig_look(r, s, &seen))
		return false;
	if (!seen.live || !seen.accepted || seen.blocks)
		return rig_fail(r, "live %u, accepted %u, blocking %u", seen.live, seen.accepted, seen.blocks);
	if (fcntl(s->fd, F_SETFL, 0))
		return rig_failed(r, "fcntl");
	if (!rig_look(r, s, &seen))
		return false;
	if (!seen.blocks)
		return rig_fail(r, "a blocking socket is not seen to block");
	if (shutdown(s->fd, SHUT_WR))
		return rig_failed(r, "shutdown");
	if (!rig_look(r, s, &seen))
		return false;
	return !seen.live || rig_fail(r, "a half closed socket is seen as established");
}

/* ------------------------------------------------------------------ what a reader asks */

static bool counts_spliced(struct rig *r, struct rig_pair *p)
{
	return rig_pair(r, p) && rig_say(r, &p->client, RIG_SPLICE, 1000) && rig_inq(r, &p->server, 1000) &&
	       rig_say(r, &p->client, RIG_SPLICE, 500) && rig_inq(r, &p->server, 1500) &&
	       rig_hear(r, &p->server, 1200, 0) && rig_inq(r, &p->server, 300);
}

static bool counts_tcp(struct rig *r, struct rig_pair *p)
{
	return rig_pair(r, p) && rig_say(r, &p->client, RIG_TCP, 1000) && rig_inq(r, &p->server, 1000) &&
	       rig_hear(r, &p->server, 700, 0) && rig_inq(r, &p->server, 300) &&
	       rig_hear(r, &p->server, 300, 0) && rig_say(r, &p->client, RIG_SPLICE, 1000) &&
	       rig_say(r, &p->client, RIG_TCP, 500) && rig_inq(r, &p->server, 1500) &&
	       rig_hear(r, &p->server, 1100, 0) && rig_inq(r, &p->server, 400);
}

static bool peeks(struct rig *r, struct rig_pair *p)
{
	char head[100], again[100];

	if (!rig_pair(r, p) || !rig_say(r, &p->client, RIG_SPLICE, 60) || !rig_say(r, &p->client, RIG_SPLICE, 60) ||
	    !(rig_await(&p->server, POLLIN) & POLLIN))
		return rig_why(r)[0] ? false : rig_fail(r, "poll does not see the bytes");
	for (int i = 0; i < 2; i++) {
		ssize_t n = recv(p->server.fd, i ? again : head, sizeof(head), MSG_PEEK);

		if (n != sizeof(head))
			return rig_fail(r, "MSG_PEEK across two messages gives %zd of 100 bytes", n);
	}
	return memcmp(head, again, sizeof(head)) ? rig_fail(r, "MSG_PEEK gives other bytes the second time")
						 : rig_hear(r, &p->server, 120, 0);
}

/* One edge for each arrival, whichever way it came: an edge is queued by a wake-up only. */
static bool edges(struct rig *r, struct rig_pair *p, int epoll)
{
	static const enum rig_by by[] = {RIG_SPLICE, RIG_SPLICE, RIG_TCP, RIG_TCP};
	struct epoll_event e;

	for (unsigned i = 0; i < array_size(by); i++) {
		/* the second of each kind comes on top of unread bytes */
		if (i == 2 && !rig_hear(r, &p->server, (size_t)(p->client.said - p->server.heard), 0))
			return false;
		if (!rig_say(r, &p->client, by[i], 10))
			return false;
		if (epoll_wait(epoll, &e, 1, RIG_WAIT_MS) != 1 || !(e.events & EPOLLIN))
			return rig_fail(r, "no edge for message %u, which went by %s", i + 1,
					by[i] == RIG_TCP ? "TCP" : "redirect");
	}
	return rig_hear(r, &p->server, (size_t)(p->client.said - p->server.heard), 0);
}

static bool wakes(struct rig *r, struct rig_pair *p)
{
	struct epoll_event edge = {.events = EPOLLIN | EPOLLET}, level = {.events = EPOLLIN}, e;
	int et = epoll_create1(EPOLL_CLOEXEC), lt = epoll_create1(EPOLL_CLOEXEC);
	bool good = false;

	if (et < 0 || lt < 0 || !rig_pair(r, p) || epoll_ctl(et, EPOLL_CTL_ADD, p->server.fd, &edge) ||
	    epoll_ctl(lt, EPOLL_CTL_ADD, p->server.fd, &level)) {
		(void)(rig_why(r)[0] || rig_failed(r, "epoll"));
	} else if (epoll_wait(et, &e, 1, 0) || epoll_wait(lt, &e, 1, 0)) {
		(void)rig_fail(r, "epoll says readable where nothing is");
	} else if (!rig_say(r, &p->client, RIG_SPLICE, 10)) {
		good = false;
	} else if (epoll_wait(lt, &e, 1, RIG_WAIT_MS) != 1 || epoll_wait(lt, &e, 1, RIG_WAIT_MS) != 1) {
		(void)rig_fail(r, "epoll (level) does not say readable for as long as bytes wait");
	} else if (epoll_wait(et, &e, 1, RIG_WAIT_MS) != 1 || !rig_hear(r, &p->server, 10, 0)) {
		(void)(rig_why(r)[0] || rig_fail(r, "epoll (edge) does not say readable"));
	} else if (epoll_wait(lt, &e, 1, 0)) {
		(void)rig_fail(r, "epoll (level) says readable after all was read");
	} else {
		good = edges(r, p, et);
	}
	if (et >= 0)
		close(et);
	if (lt >= 0)
		close(lt);
	return good;
}

/* ------------------------------------------------------------------ order */

/* The two changes of carrier that weft makes: to TCP at any time, back when TCP has nothing under way. */
static bool order(struct rig *r, struct rig_pair *p)
{
	return rig_pair(r, p) && rig_say(r, &p->client, RIG_TCP, 1000) && rig_hear(r, &p->server, 1000, 0) &&
	       rig_say(r, &p->client, RIG_SPLICE, 3000) && rig_say(r, &p->client, RIG_SPLICE, 5000) &&
	       rig_say(r, &p->client, RIG_TCP, 20000) && rig_say(r, &p->client, RIG_TCP, 300) &&
	       rig_hear(r, &p->server, 28300, 0) && rig_nothing(r, &p->server);
}

/* Both directions, random sizes, a reader that lags and reads in odd pieces. */
static bool alternates(struct rig *r, struct rig_pair *p)
{
	uint64_t tcp_until[2] = {0}; /* by direction: bytes said when TCP last had the floor */
	uint32_t random = 1;

	if (!rig_pair(r, p))
		return false;
	for (unsigned i = 0; i < MESSAGES; i++) {
		struct rig_end *from = i & 1 ? &p->server : &p->client, *to = from->peer;
		enum rig_by by;
		size_t unread;

		random = random * 1664525 + 1013904223; /* Numerical Recipes, 1992 */
		by = tcp_until[i & 1] <= to->heard && random & 0x10000 ? RIG_SPLICE : RIG_TCP;
		if (!rig_say(r, from, by, 1 + (random >> 18)))
			return false;
		if (by == RIG_TCP)
			tcp_until[i & 1] = from->said;
		unread = (size_t)(from->said - to->heard);
		if (unread > UNREAD || random & 0x20000)
			if (!rig_hear(r, to, random & 0x8000 ? unread : unread / 2, 500 + (random >> 19)))
				return false;
	}
	return rig_hear(r, &p->server, (size_t)(p->client.said - p->server.heard), 0) &&
	       rig_hear(r, &p->client, (size_t)(p->server.said - p->client.heard), 0);
}

/* A reader that sleeps with bytes in both queues: the writer gets EAGAIN, and goes on when it reads. */
static bool holds_back(struct rig *r, struct rig_pair *p)
{
	size_t said, more;

	if (!rig_connect(r, p, AF_INET, BUFFERS) || !rig_enter(r, p) || !rig_say(r, &p->client, RIG_SPLICE, 1000) ||
	    !rig_say(r, &p->client, RIG_TCP, 1000) || !rig_fill(r, &p->client, 16384, MUCH, &said))
		return false;
	if (said >= MUCH)
		return rig_fail(r, "TCP took %zu bytes for a reader that sleeps", said);
	/* a poll that says writable at once is right too, if send then agrees */
	if (!rig_hear(r, &p->server, (size_t)p->client.said, 0))
		return false;
	if (!(rig_await(&p->client, POLLOUT) & POLLOUT))
		return rig_fail(r, "the writer is not woken when the reader has read");
	if (!rig_fill(r, &p->client, 1000, 4000, &more))
		return false;
	if (!more)
		return rig_fail(r, "the writer cannot go on when the reader has read");
	return rig_hear(r, &p->server, more, 0) && rig_say(r, &p->client, RIG_SPLICE, 1000) &&
	       rig_hear(r, &p->server, 1000, 0);
}

/* ------------------------------------------------------------------ ends */

static bool closes(struct rig *r, struct rig_pair *p)
{
	if (!rig_pair(r, p) || !rig_say(r, &p->client, RIG_SPLICE, 1000))
		return false;
	if (shutdown(p->client.fd, SHUT_WR))
		return rig_failed(r, "shutdown");
	/* half closed: the other direction goes on */
	if (!rig_hear(r, &p->server, 1000, 0) || !rig_end_of_stream(r, &p->server) ||
	    !rig_say(r, &p->server, RIG_SPLICE, 1000) || !rig_say(r, &p->server, RIG_TCP, 1000) ||
	    !rig_hear(r, &p->client, 2000, 0))
		return false;
	rig_part(p);
	if (!rig_empty(r) || !rig_pair(r, p) || !rig_say(r, &p->client, RIG_SPLICE, 1000) ||
	    !rig_say(r, &p->client, RIG_TCP, 1000))
		return false;
	close(p->client.fd);
	p->client.fd = -1;
	return rig_hear(r, &p->server, 2000, 0) && rig_end_of_stream(r, &p->server);
}

static bool reset_by(struct rig *r, struct rig_pair *p, enum rig_by by)
{
	const struct linger now = {.l_onoff = 1};
	char byte;
	ssize_t n;

	if (!rig_pair(r, p) || !rig_say(r, &p->client, by, 1000))
		return false;
	if (setsockopt(p->client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)))
		return rig_failed(r, "SO_LINGER");
	close(p->client.fd);
	p->client.fd = -1;
	if (!(rig_await(&p->server, 0) & POLLERR)) /* comes unasked, and the bytes before it do not hide it */
		return rig_fail(r, "poll does not say that the connection was reset");
	if (!rig_hear(r, &p->server, 1000, 0))
		return false;
	n = recv(p->server.fd, &byte, 1, 0);
	if (n >= 0 || errno != ECONNRESET)
		return rig_fail(r, "recv says %s in place of ECONNRESET", n < 0 ? strerror(errno) : "end");
	rig_part(p);
	return true;
}

static bool resets(struct rig *r, struct rig_pair *p)
{
	return reset_by(r, p, RIG_SPLICE) && reset_by(r, p, RIG_TCP) && rig_empty(r);
}

/* The peer closes with unread bytes in its queue: the writer must learn it, if not with the first message. */
static bool peer_goes(struct rig *r, struct rig_pair *p)
{
	if (!rig_pair(r, p) || !rig_say(r, &p->client, RIG_SPLICE, 1000))
		return false;
	close(p->server.fd);
	p->server.fd = -1;
	for (unsigned i = 0; i < LAST_SENDS; i++) {
		if (send(p->client.fd, "x", 1, MSG_NOSIGNAL) == 1) {
			(void)rig_await(&p->client, 0); /* POLLERR, POLLHUP come unasked */
			continue;
		}
		if (errno != EPIPE && errno != ECONNRESET)
			return rig_failed(r, "send to a peer that is gone");
		rig_part(p);
		return rig_empty(r);
	}
	return rig_fail(r, "send to a peer that is gone succeeds for ever");
}

/* ------------------------------------------------------------------ who may enter */

static bool has_tls(void)
{
	char list[256] = "";
	int fd = open("/proc/sys/net/ipv4/tcp_available_ulp", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof(list) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 && strstr(list, "tls");
}

struct option {
	const char *name;
	int level, option;
	const void *value;
	socklen_t size;
	bool may_lack; /* the kernel may not have it */
};

/* Sets it on a fresh connection's client and asks sock_eligible. */
static bool seen_with(struct rig *r, struct rig_pair *p, const struct option *o)
{
	struct selftest_seen seen;

	if (!rig_connect(r, p, AF_INET, 0))
		return false;
	if (setsockopt(p->client.fd, o->level, o->option, o->value, o->size))
		return (o->may_lack && (errno == EOPNOTSUPP || errno == ENOPROTOOPT)) || rig_failed(r, o->name);
	if (!rig_look(r, &p->client, &seen))
		return false;
	return seen.eligible != ABI_NONE || rig_fail(r, "%s is not seen", o->name);
}

static bool urgent_seen(struct rig *r, struct rig_pair *p)
{
	struct selftest_seen seen;

	if (!rig_connect(r, p, AF_INET, 0))
		return false;
	if (send(p->client.fd, "!", 1, MSG_OOB) != 1 || !(rig_await(&p->server, POLLPRI) & POLLPRI))
		return rig_failed(r, "urgent data");
	if (!rig_look(r, &p->server, &seen))
		return false;
	return seen.eligible != ABI_NONE || rig_fail(r, "urgent data is not seen");
}

static bool options(struct rig *r, struct rig_pair *p)
{
	static struct sock_filter all[] = {{.code = BPF_RET | BPF_K, .k = UINT32_MAX}};
	const struct sock_fprog filter = {.len = array_size(all), .filter = all};
	const int on = 1, two = 2, zero = 0;
	const struct option table[] = {
		{"SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on), false},
		{"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, &two, sizeof(two), false},
		{"SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, &on, sizeof(on), false},
		{"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on), false},
		{"SO_PEEK_OFF", SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero), true}, /* TCP: 6.9 */
		{"TCP_INQ", IPPROTO_TCP, TCP_INQ, &on, sizeof(on), false},
		{"a socket filter", SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter), false},
	};
	const struct option tls = {"TCP_ULP tls", IPPROTO_TCP, TCP_ULP, "tls", 3, false};
	struct selftest_seen seen;

	if (!rig_connect(r, p, AF_INET, 0) || !rig_look(r, &p->client, &seen))
		return false;
	if (seen.eligible != ABI_NONE)
		return rig_fail(r, "a plain socket looks like one with options (reason %u)", seen.eligible);
	for (unsigned i = 0; i < array_size(table); i++) {
		rig_part(p);
		if (!seen_with(r, p, &table[i]))
			return false;
	}
	rig_part(p);
	if (!urgent_seen(r, p))
		return false;
	rig_part(p);
	/* Only where the module is there: a test does not load modules into somebody's kernel. */
	if (!has_tls())
		return true;
	if (!seen_with(r, p, &tls))
		return false;
	return !rig_enter(r, p) || rig_fail(r, "a socket with TCP_ULP enters");
}

/* Another program's sockhash may not take what is ours; the same refusal keeps weft out of what is another's. */
static bool owners(struct rig *r, struct rig_pair *p)
{
	int err;

	if (!rig_pair(r, p))
		return false;
	err = rig_other_owner(r, &p->server);
	if (err != -EBUSY)
		return rig_fail(r, "a second owner gets %s in place of EBUSY", err ? strerror(-err) : "the socket");
	return rig_say(r, &p->client, RIG_SPLICE, 1000) && rig_hear(r, &p->server, 1000, 0);
}

static bool six(struct rig *r, struct rig_pair *p)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
		return rig_lacks(r, "no IPv6");
	if (fd >= 0)
		close(fd);
	if (access("/proc/sys/net/ipv6", F_OK))
		return rig_lacks(r, "no IPv6");
	return rig_connect(r, p, AF_INET6, 0) && rig_enter(r, p) && rig_say(r, &p->client, RIG_SPLICE, 1000) &&
	       rig_hear(r, &p->server, 1000, 0) && rig_say(r, &p->server, RIG_TCP, 1000) &&
	       rig_hear(r, &p->client, 1000, 0);
}

/* What came by TCP splice(2) must see; redirected bytes no kernel up to 7.2 shows it. */
static bool pipes(struct rig *r, struct rig_pair *p)
{
	static const enum rig_by by[] = {RIG_TCP, RIG_SPLICE};
	int pipe[2];

	if (!rig_pair(r, p))
		return false;
	if (pipe2(pipe, O_NONBLOCK | O_CLOEXEC))
		return rig_failed(r, "pipe");
	for (unsigned i = 0; i < array_size(by) && !rig_why(r)[0]; i++) {
		ssize_t n = -1;

		if (rig_say(r, &p->client, by[i], 100) && rig_await(&p->server, POLLIN))
			n = splice(p->server.fd, NULL, pipe[1], NULL, 100, SPLICE_F_NONBLOCK);
		if (n != 100 && !rig_why(r)[0])
			(void)rig_fail(r, "it sees no bytes that came by %s", by[i] == RIG_TCP ? "TCP" : "redirect");
	}
	close(pipe[0]);
	close(pipe[1]);
	return !rig_why(r)[0];
}

/* ------------------------------------------------------------------ the table */

/* Each row's connection is closed whatever became of it. */
#define ROW(which)                                    \
	static bool row_##which(struct rig *r)        \
	{                                             \
		struct rig_pair p = {0};              \
		bool good;                            \
						      \
		p.client.fd = p.server.fd = -1;       \
		good = which(r, &p);                  \
		rig_part(&p);                         \
		return good;                          \
	}

ROW(enters_live)
ROW(leaves)
ROW(looks)
ROW(counts_spliced)
ROW(counts_tcp)
ROW(peeks)
ROW(wakes)
ROW(order)
ROW(alternates)
ROW(holds_back)
ROW(closes)
ROW(resets)
ROW(peer_goes)
ROW(options)
ROW(owners)
ROW(six)
ROW(pipes)

const struct selftest_row selftest_rows[] = {
	{"enter", "a live connection enters the map; bytes that TCP brought before are read",
	 "a connection that enters the map loses bytes", NULL, row_enters_live},
	{"leave", "it leaves with an empty queue, goes on by TCP, and enters again",
	 "a connection that leaves the map hangs", NULL, row_leaves},
	{"looks", "queue, order, accept() and O_NONBLOCK are seen as they are",
	 "weft cannot see what waits for a reader: order and memory are not bounded", NULL, row_looks},
	{"FIONREAD spliced", "counts redirected bytes",
	 "readers that ask how much there is (nginx, FIONREAD) hang", NULL, row_counts_spliced},
	{SELFTEST_COUNTS_TCP, "counts bytes that TCP brought to a socket in the map",
	 "readers that ask how much there is (FIONREAD) hang while TCP carries",
	 "pods that ask FIONREAD are not spliced", row_counts_tcp},
	{"MSG_PEEK", "the same bytes again, across messages", "readers that look ahead get wrong bytes", NULL,
	 row_peeks},
	{"epoll", "wakes by level and by edge, for redirect and for TCP", "readers sleep on bytes that are there",
	 NULL, row_wakes},
	{"order", "redirect after TCP, TCP after redirect", "bytes arrive in another order", NULL, row_order},
	{"alternation", "both directions, sizes and carrier at random, a reader that lags",
	 "bytes are lost or arrive in another order", NULL, row_alternates},
	{"back-pressure", "a writer waits for a reader that sleeps, and goes on when it reads",
	 "a sleeping reader fills the kernel's memory, or its writer hangs", NULL, row_holds_back},
	{"close", "all bytes, then the end; half close goes on", "the end of a stream is lost, or bytes before it",
	 NULL, row_closes},
	{"reset", "all bytes, then ECONNRESET", "a reset connection hangs, or loses the bytes before it", NULL,
	 row_resets},
	{"peer gone", "a writer gets EPIPE or ECONNRESET", "a writer never learns that its peer is gone", NULL,
	 row_peer_goes},
	{"options", "what a splice would change (zerocopy, SO_RCVLOWAT, filter, ULP ...) is seen",
	 "sockets with options that a splice breaks are spliced", NULL, row_options},
	{"owners", "a socket has one owner (EBUSY)", "two programs fight for one socket", NULL, row_owners},
	{"IPv6", "redirect and TCP", "connections over IPv6 hang", NULL, row_six},
	{"splice(2)", "sees redirected bytes", "readers by splice(2) hang",
	 "pods that read by splice(2) are not spliced", row_pipes},
};

const unsigned selftest_row_count = array_size(selftest_rows);
