/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock.c: a TCP connection as a stream.
 *
 * One epoll registration for its life: no system call but recv() and sendmsg() where bytes move. What the kernel has
 * told is remembered (may_read, may_write), and who asked in vain is remembered (want_read, want_write); where the two
 * meet, the owner is called.
 *
 * A short read does not mean that nothing is left: bytes that sk_msg moved and bytes that TCP brought are two queues
 * and one recv() takes from one of them. Told by edges, it reads until EAGAIN, but for sockets that carry TCP only.
 * Told by level, it need not: the next wait tells of what is left, and looks itself, which is cheaper than a call. But
 * what nobody wants to read, and room to write, would be told for ever: then it changes to edges, and back when it has
 * found nothing so often that it is worth the call.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

#define EDGES (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define LEVEL (EPOLLIN | EPOLLRDHUP)
#define DRY 8 /* reads that brought nothing, until it is told by level */
#define LINGER_NS 2000000000ull /* for what a peer still sends after our close() in order */
#define SILENT_NS 50000000ull /* until epoll hears of a peer who has said that he sends no more */

enum sock_state {
	SOCK_CONNECTING,
	SOCK_OPEN,
	SOCK_FAILED,  /* `why` is set; the owner is told at the end of this turn, or was */
	SOCK_LINGERS, /* the owner has closed it: what the peer sends is thrown away until it has finished */
	SOCK_CLOSED,  /* freed at the end of this turn */
};

struct sock {
	struct stream stream;
	struct loop_watch watch;
	struct loop_timer deadline; /* of connecting, of lingering, of being unwatched */
	struct loop_task task;	    /* while it is open: push(), say_fin() and such; tells the failure, or frees */
	struct thread_orphan orphan;
	struct buf rest; /* was received and not consumed */
	size_t lent;	 /* bytes of scratch, or of rest, that the owner looks at */
	unsigned scratch; /* 0: they are in SCRATCH_SOCK; 1: in SCRATCH_SOCK_2 */
	int fd;
	enum sock_state state;
	bool lent_rest;
	bool tcp_only; /* sock_tcp_only() */
	bool unwatched; /* epoll does not know it yet: watch_soon() */
	bool over;	/* epoll has told of an error or a hang-up: it tells of nothing more */
	bool may_read, may_write;
	bool want_read, want_write;
	uint8_t dry; /* reads that brought nothing, told by edges */
};

static struct sock *of(const struct stream *s)
{
	return container_of(s, struct sock, stream);
}

/* ------------------------------------------------------------------ state */

static void set_state(struct sock *k, enum sock_state to)
{
	assert(to > k->state);
	k->state = to;
	if (to != SOCK_LINGERS)
		loop_disarm(k->stream.thread->loop, &k->deadline);
}

static void tell_failure(struct loop_task *t)
{
	struct sock *k = container_of(t, struct sock, task);

	k->stream.ready(&k->stream, STREAM_FAILED);
}

static void fail(struct sock *k, int error)
{
	if (k->state >= SOCK_FAILED)
		return;
	set_state(k, SOCK_FAILED);
	k->stream.why = sock_error(error);
	k->task.run = tell_failure;
	loop_defer(k->stream.thread->loop, &k->task);
}

static int pending_error(const struct sock *k)
{
	socklen_t len = sizeof(int);
	int error = 0;

	getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return error;
}

static void free_sock(struct loop_task *t)
{
	struct sock *k = container_of(t, struct sock, task);

	buf_clear(&k->rest, &k->stream.thread->pool);
	free(k);
}

static void end(struct sock *k)
{
	struct loop *l = k->stream.thread->loop;

	set_state(k, SOCK_CLOSED);
	list_del(&k->orphan.link);
	loop_forget(l, &k->watch);
	close(k->fd);
	k->fd = -1;
	loop_cancel(l, &k->task);
	k->task.run = free_sock;
	loop_defer(l, &k->task);
}

/* ------------------------------------------------------------------ by edges or by level */

static bool by_level(const struct sock *k)
{
	return !(k->watch.events & EPOLLET);
}

static void start_watch(struct sock *k)
{
	int r = loop_watch(k->stream.thread->loop, &k->watch);

	k->unwatched = false;
	if (r < 0)
		fail(k, -r);
}

static void tell_by(struct sock *k, uint32_t events)
{
	k->dry = 0;
	if (k->watch.events == events || (!k->watch.active && !k->unwatched))
		return;
	k->watch.events = events;
	start_watch(k);
}

static void watch_due(struct loop_timer *t)
{
	start_watch(container_of(t, struct sock, deadline));
}

/* Who has asked for one answer and said that he sends no more has it, mostly, before there is anything to tell. */
static void watch_run(struct loop_task *t)
{
	struct sock *k = container_of(t, struct sock, task);

	k->deadline.due = watch_due;
	if (k->stream.silent)
		loop_arm(k->stream.thread->loop, &k->deadline, SILENT_NS);
	else
		start_watch(k);
}

/* When this turn ends, behind who reads its first bytes then. */
static void watch_soon(struct loop_task *t)
{
	t->run = watch_run;
	loop_defer(container_of(t, struct sock, task)->stream.thread->loop, t);
}

/* ------------------------------------------------------------------ reading */

/* Of a socket that is never spliced TCP says what is left: if nothing, the next recv() is spared. A FIN is a byte. */
static ssize_t receive(struct sock *k, uint8_t *to, size_t most)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {.iov_base = to, .iov_len = most};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	ssize_t n;
	int left;

	do
		n = k->tcp_only ? recvmsg(k->fd, &m, MSG_DONTWAIT) : recv(k->fd, to, most, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (by_level(k) && n > 0 && (size_t)n < most)
		k->may_read = false;
	c = k->tcp_only && n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_level == SOL_TCP && c->cmsg_type == TCP_CM_INQ && c->cmsg_len == CMSG_LEN(sizeof(left))) {
		memcpy(&left, CMSG_DATA(c), sizeof(left));
		k->may_read = left > 0 || k->over; /* a reset is none */
	}
	return n;
}

/* A batch of HTTP is looked at, and what it brings lets its owner read the other side: so there are two. */
static void lend(struct sock *k, size_t len)
{
	unsigned i = k->scratch;

	assert(!k->stream.thread->lender[i]);
	k->stream.thread->lender[i] = k;
	k->lent = len;
	k->lent_rest = false;
}

static void take_back(struct sock *k)
{
	if (k->stream.thread->lender[k->scratch] == k)
		k->stream.thread->lender[k->scratch] = NULL;
	k->lent = 0;
}

static void nothing_came(struct sock *k, ssize_t n)
{
	if (n == 0) {
		k->stream.ended = true;
	} else if (errno == EAGAIN) {
		k->may_read = false;
		k->want_read = true;
		if (!by_level(k) && !k->tcp_only && k->may_write && ++k->dry == DRY)
			tell_by(k, LEVEL);
	} else {
		fail(k, errno);
	}
}

/* Somebody looks at both scratches: what comes waits where unconsumed bytes do. */
static unsigned peek_kept(struct sock *k, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	uint8_t to[BUF_CHUNK];
	ssize_t n = receive(k, to, most < sizeof(to) ? most : sizeof(to));

	if (n <= 0) {
		nothing_came(k, n);
		return 0;
	}
	k->stream.read_bytes += (uint64_t)n;
	buf_add(&k->rest, &k->stream.thread->pool, to, (size_t)n);
	k->lent_rest = true;
	return stream_lend(&k->rest, run, most, &k->lent);
}

static unsigned sock_peek(struct stream *s, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	struct sock *k = of(s);
	uint8_t *to;
	ssize_t n;

	assert(!k->lent);
	if (k->state > SOCK_OPEN || s->ended || !most)
		return 0;
	if (k->rest.len) {
		k->lent_rest = true;
		return stream_lend(&k->rest, run, most, &k->lent);
	}
	if (!k->may_read || k->state != SOCK_OPEN) {
		k->want_read = true;
		return 0;
	}
	k->scratch = s->thread->lender[0] ? 1 : 0;
	if (s->thread->lender[k->scratch])
		return peek_kept(k, run, most);
	to = s->thread->scratch[SCRATCH_SOCK + k->scratch];
	n = receive(k, to, most < THREAD_SCRATCH ? most : THREAD_SCRATCH);
	if (n > 0) {
		s->read_bytes += (uint64_t)n;
		lend(k, (size_t)n);
		run[0] = (struct stream_bytes){.data = to, .len = (size_t)n, .headroom = THREAD_HEADROOM};
		return 1;
	}
	nothing_came(k, n);
	return 0;
}

static void sock_consume(struct stream *s, size_t len)
{
	struct sock *k = of(s);

	assert(len <= k->lent);
	if (k->lent_rest)
		buf_consume(&k->rest, &s->thread->pool, len);
	else if (len < k->lent)
		buf_add(&k->rest, &s->thread->pool, s->thread->scratch[SCRATCH_SOCK + k->scratch] + len, k->lent - len);
	take_back(k);
}

void sock_give_back(struct stream *s, struct buf *bytes)
{
	struct sock *k = of(s);

	assert(!k->rest.len && !k->lent);
	buf_clear(&k->rest, &s->thread->pool);
	k->rest = *bytes;
	*bytes = (struct buf){0};
	s->ended = false; /* an end that was seen is seen again */
}

static size_t sock_kept(const struct stream *s)
{
	return buf_kept(&of(s)->rest);
}

/* ------------------------------------------------------------------ writing */

static void full(struct sock *k)
{
	k->may_write = false;
	k->want_write = true;
	tell_by(k, EDGES);
}

static size_t sock_room(struct stream *s)
{
	struct sock *k = of(s);

	if (k->may_write && k->state == SOCK_OPEN)
		return SIZE_MAX;
	k->want_write = true;
	return 0;
}

/* Nobody has closed it: what was held for the FIN leaves without. */
static void push(struct loop_task *t)
{
	struct sock *k = container_of(t, struct sock, task);
	int on = 1;

	setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (k->unwatched)
		start_watch(k);
}

static void hold_for_fin(struct sock *k)
{
	k->task.run = push;
	loop_defer(k->stream.thread->loop, &k->task);
}

static size_t sock_write(struct stream *s, const struct stream_bytes *run, unsigned runs)
{
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (s->last ? MSG_MORE : 0);
	struct sock *k = of(s);
	struct iovec iov[STREAM_RUNS];
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = runs};
	size_t all = 0;
	unsigned i;
	ssize_t n;

	assert(runs <= STREAM_RUNS && !s->finished);
	for (i = 0; i < runs; i++) {
		iov[i] = (struct iovec){.iov_base = run[i].data, .iov_len = run[i].len};
		all += run[i].len;
	}
	if (!all || !sock_room(s))
		return 0;
	do
		n = sendmsg(k->fd, &m, flags);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN) {
		fail(k, errno);
		return 0;
	}
	if (s->last && n > 0)
		hold_for_fin(k);
	if (n < (ssize_t)all)
		full(k);
	n = n < 0 ? 0 : n;
	s->written_bytes += (uint64_t)n;
	return (size_t)n;
}

static void say_fin(struct loop_task *t)
{
	struct sock *k = container_of(t, struct sock, task);

	shutdown(k->fd, SHUT_WR);
	if (k->unwatched)
		start_watch(k);
}

static void sock_finish(struct stream *s)
{
	struct sock *k = of(s);

	/* Fails only if the connection is gone, which epoll tells. While connecting: when it stands. */
	if (k->state != SOCK_OPEN)
		return;
	if (!s->ended) {
		if (k->task.run == push && !k->unwatched)
			loop_cancel(s->thread->loop, &k->task);
		shutdown(k->fd, SHUT_WR);
		return;
	}
	/* Both ways have ended: the owner is about to close it, and close(2) says FIN as well. */
	k->task.run = say_fin;
	loop_defer(s->thread->loop, &k->task);
}

/* ------------------------------------------------------------------ the end */

/* Reads and throws away; true: the peer has finished, or is gone. */
static bool discard(struct sock *k)
{
	uint8_t to[16384]; /* scratch may be lent */
	unsigned i;
	ssize_t n;

	for (i = 0; i < 4; i++) {
		n = recv(k->fd, to, sizeof(to), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n == 0 || (n < 0 && errno != EINTR))
			return true;
	}
	loop_arm(k->stream.thread->loop, &k->deadline, 0); /* it sends faster than we want to read */
	return false;
}

static void lingered(struct loop_timer *t)
{
	end(container_of(t, struct sock, deadline));
}

static void orphan_ends(struct thread_orphan *o)
{
	end(container_of(o, struct sock, orphan));
}

/*
 * In order, while the peer may still send: close(2) would answer what it sends (or has sent: unread bytes) with a RST,
 * which takes back what is on its way to it. So first our FIN, then its own, for a while.
 */
static void linger(struct sock *k)
{
	struct thread *t = k->stream.thread;

	set_state(k, SOCK_LINGERS);
	loop_cancel(t->loop, &k->task);
	k->orphan.end = orphan_ends;
	list_add(&t->orphans, &k->orphan.link);
	k->deadline.due = lingered;
	loop_arm(t->loop, &k->deadline, LINGER_NS);
	if (k->unwatched)
		start_watch(k);
	if (discard(k))
		end(k);
}

/* Whether close(2), ours or the kernel's when the process dies, is a RST: what was cut must never look complete. */
static void close_resets(int fd, bool on)
{
	struct linger now = {.l_onoff = on};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

void sock_reset(int fd)
{
	close_resets(fd, true);
	close(fd);
}

static void sock_close(struct stream *s, const char *why)
{
	struct sock *k = of(s);

	assert(k->state < SOCK_LINGERS);
	take_back(k);
	if (!why)
		close_resets(k->fd, false);
	if (!why && k->state == SOCK_OPEN && !s->ended && !(s->silent && !k->may_read && !k->rest.len)) {
		if (!s->finished)
			shutdown(k->fd, SHUT_WR);
		linger(k);
		return;
	}
	end(k); /* nothing is unread: close(2) sends FIN behind what was written */
}

/* ------------------------------------------------------------------ events */

/* true: it stands. */
static bool connected(struct sock *k, uint32_t events)
{
	if (events & EPOLLERR) {
		int error = pending_error(k);

		fail(k, error ? error : ECONNREFUSED);
		return false;
	}
	if (!(events & (EPOLLOUT | EPOLLIN | EPOLLHUP)))
		return false;
	set_state(k, SOCK_OPEN);
	if (k->stream.finished)
		shutdown(k->fd, SHUT_WR);
	return true;
}

/*
 * An error, and the owner does not ask for bytes: bytes that came before it are still his. (Not FIONREAD: the kernel
 * side takes who asks it for a program that a splice could mislead.)
 */
static bool nothing_left(struct sock *k, int *ret_error)
{
	ssize_t n;
	char c;

	if (k->rest.len)
		return false;
	n = k->stream.ended ? 0 : recv(k->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n > 0)
		return false;
	*ret_error = n < 0 && errno != EAGAIN ? errno : pending_error(k); /* it is told once */
	return true;
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct sock *k = container_of(w, struct sock, watch);
	unsigned tell = 0;
	int error;

	if (k->state == SOCK_LINGERS && discard(k))
		end(k);
	if (k->state == SOCK_FAILED)
		tell_by(k, EDGES);
	if (k->state > SOCK_OPEN)
		return;
	if (k->state == SOCK_CONNECTING) {
		if (!connected(k, events))
			return;
		tell = STREAM_OPEN;
	}
	k->over |= events & (EPOLLERR | EPOLLHUP);
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) {
		k->may_read = true;
		if (k->want_read)
			tell |= STREAM_READABLE;
		else if (by_level(k))
			tell_by(k, EDGES);
		k->want_read = false;
	}
	if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
		k->may_write = true;
		if (k->want_write)
			tell |= STREAM_WRITABLE;
		k->want_write = false;
	}
	if ((events & EPOLLERR) && !(tell & STREAM_READABLE) && nothing_left(k, &error)) {
		fail(k, error ? error : ECONNRESET);
		return;
	}
	if (tell)
		k->stream.ready(&k->stream, tell);
}

static void too_late(struct loop_timer *t)
{
	fail(container_of(t, struct sock, deadline), ETIMEDOUT);
}

/* ------------------------------------------------------------------ made of an fd */

static const struct stream_ops ops = {
	.peek = sock_peek,
	.consume = sock_consume,
	.room = sock_room,
	.write = sock_write,
	.finish = sock_finish,
	.close = sock_close,
	.kept = sock_kept,
};

static struct sock *make(struct thread *t, int fd, enum sock_state state)
{
	struct sock *k = mem_alloc(sizeof(*k));

	k->stream.ops = &ops;
	k->stream.thread = t;
	k->fd = fd;
	k->state = state;
	list_init(&k->orphan.link);
	k->watch = (struct loop_watch){.fd = fd, .events = EDGES, .ready = ready};
	return k;
}

/* None of them can fail on a TCP socket, and it would work without. The kernel side reads O_NONBLOCK. */
void sock_prepare(int fd)
{
	int on = 1, idle = SOCK_KEEPALIVE_S;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	close_resets(fd, true);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
}

static struct sock *made(struct thread *t, int fd)
{
	struct sock *k = make(t, fd, SOCK_OPEN);

	k->may_read = k->may_write = true;
	return k;
}

struct stream *sock_prepared(struct thread *t, int fd)
{
	struct sock *k = made(t, fd);

	start_watch(k);
	return &k->stream;
}

struct stream *sock_awaited(struct thread *t, int fd)
{
	struct sock *k = made(t, fd);

	k->watch.events = LEVEL;
	k->unwatched = true;
	k->task.run = watch_soon;
	loop_defer(t->loop, &k->task);
	return &k->stream;
}

struct stream *sock_stream(struct thread *t, int fd)
{
	sock_prepare(fd);
	return sock_prepared(t, fd);
}

static int dial(int fd, const struct abi_addr *to, uint16_t port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	memcpy(&in6.sin6_addr, to->byte, 16);
	memcpy(&in.sin_addr, to->byte + 12, 4);
	/* An AF_INET6 socket calls the address of the other family too short, an AF_INET one says what it is. */
	if (addr_is_v4(to)) {
		if (!connect(fd, (struct sockaddr *)&in, sizeof(in)))
			return 0;
		if (errno != EINVAL && errno != EAFNOSUPPORT)
			return errno;
	}
	if (!connect(fd, (struct sockaddr *)&in6, sizeof(in6)))
		return 0;
	return errno == EAFNOSUPPORT ? EHOSTUNREACH : errno;
}

struct stream *sock_connect(struct thread *t, int fd, const struct abi_addr *to, uint16_t port, uint64_t timeout_ns)
{
	struct sock *k = make(t, fd, SOCK_CONNECTING);
	int error = dial(fd, to, port);

	if (error && error != EINPROGRESS) {
		fail(k, error);
		return &k->stream;
	}
	k->deadline.due = too_late;
	loop_arm(t->loop, &k->deadline, timeout_ns);
	start_watch(k); /* now: before connect() it would tell of a hang-up */
	return &k->stream;
}

void sock_tcp_only(struct stream *s)
{
	int on = 1;

	if (s->ops != &ops)
		return;
	of(s)->tcp_only = !setsockopt(of(s)->fd, SOL_TCP, TCP_INQ, &on, sizeof(on));
	tell_by(of(s), EDGES);
}

bool sock_stale(const struct stream *s)
{
	char c;

	if (s->ops != &ops)
		return false;
	return of(s)->state != SOCK_OPEN || recv(of(s)->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

bool sock_is(const struct stream *s)
{
	return s->ops == &ops;
}

int sock_fd(const struct stream *s)
{
	assert(s->ops == &ops);
	return of(s)->fd;
}
