// SPDX-License-Identifier: Apache-2.0
/* uring.c: rows about io_uring, which reaches sockets without the system calls of the other rows. */
#include "rows.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The smallest ring that works: one thing at a time. */
static struct {
	int fd;
	struct io_uring_params p;
	char *sq, *cq;
	struct io_uring_sqe *sqe;
} ring;

static void *map(struct side *s, size_t len, off_t what)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, what);

	if (at == MAP_FAILED)
		failed(s, "mmap of the ring: %s", result(-1));
	return at;
}

static void make_ring(struct side *s)
{
	ring.fd = (int)syscall(SYS_io_uring_setup, 4, &ring.p);
	if (ring.fd < 0)
		absent(s, "io_uring: %s", result(-1));
	ring.sq = map(s, ring.p.sq_off.array + ring.p.sq_entries * 4, IORING_OFF_SQ_RING);
	ring.cq = map(s, ring.p.cq_off.cqes + ring.p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	ring.sqe = map(s, ring.p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
}

static void submit(struct side *s, int op, void *data, unsigned len, unsigned flags)
{
	atomic_uint *tail = (void *)(ring.sq + ring.p.sq_off.tail);
	unsigned at = atomic_load(tail), slot = at & (ring.p.sq_entries - 1);

	ring.sqe[slot] = (struct io_uring_sqe){ .opcode = (unsigned char)op, .fd = s->fd, .addr = (unsigned long)data,
						.len = len, .msg_flags = flags };
	((unsigned *)(ring.sq + ring.p.sq_off.array))[slot] = slot;
	atomic_store(tail, at + 1);
	must(s, syscall(SYS_io_uring_enter, ring.fd, 1, 0, 0, NULL, 0));
}

/* Waits for one; gives its result, and whether another follows for the same request. */
static int completion(struct side *s, bool *ret_more)
{
	atomic_uint *head = (void *)(ring.cq + ring.p.cq_off.head);
	atomic_uint *tail = (void *)(ring.cq + ring.p.cq_off.tail);
	unsigned at = atomic_load(head);
	struct io_uring_cqe *cqes = (void *)(ring.cq + ring.p.cq_off.cqes), *c;
	int res;

	while (atomic_load(tail) == at)
		must(s, syscall(SYS_io_uring_enter, ring.fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	c = &cqes[at & (ring.p.cq_entries - 1)];
	res = c->res;
	*ret_more = c->flags & IORING_CQE_F_MORE;
	atomic_store(head, at + 1);
	return res;
}

static const char *outcome(int res)
{
	errno = res < 0 ? -res : 0;
	return result(res < 0 ? -1 : res);
}

static void see_op(struct side *s, const char *name, int op, const char *text)
{
	static char data[64];
	bool follows, end;
	int res;

	snprintf(data, sizeof(data), "%s", text);
	submit(s, op, data, (unsigned)strlen(data), MSG_NOSIGNAL);
	res = completion(s, &follows);
	saw(s, "%s = %s%s", name, outcome(res), follows ? ", a notification follows" : "");
	if (follows)
		saw(s, "%s notification, %s", name, outcome(completion(s, &end)));
}

static void ring_writer(struct side *s)
{
	make_ring(s);
	hear(s);
	see_op(s, "SEND", IORING_OP_SEND, "abcde");
	hear(s);
	see_op(s, "SEND", IORING_OP_SEND, "fghij");
	delivered(s);
	tell(s, 0);
}

/* A receive that is armed before the bytes come, and one after. */
static void ring_reader(struct side *s)
{
	char data[64];
	bool more;
	int res;

	make_ring(s);
	submit(s, IORING_OP_RECV, data, sizeof(data), 0);
	tell(s, 0);
	res = completion(s, &more);
	saw(s, "RECV armed before = %s \"%s\"", outcome(res), res > 0 ? quoted(data, (size_t)res) : "");
	tell(s, 0);
	hear(s);
	submit(s, IORING_OP_RECV, data, sizeof(data), 0);
	res = completion(s, &more);
	saw(s, "RECV after = %s \"%s\"", outcome(res), res > 0 ? quoted(data, (size_t)res) : "");
}

/* Whatever becomes of SEND_ZC, SEND goes on working. */
static void zero_copy_writer(struct side *s)
{
	make_ring(s);
	by_nature(s, true);
	for (int i = 0; i < 2; i++) {
		see_op(s, "SEND_ZC", IORING_OP_SEND_ZC, "abcde");
		tell(s, 0);
		hear(s);
	}
	by_nature(s, false);
	see_op(s, "SEND", IORING_OP_SEND, "fghij");
	delivered(s);
	tell(s, 0);
}

static void plain_reader(struct side *s)
{
	by_nature(s, true);
	for (int i = 0; i < 2; i++) {
		hear(s);
		wait_for(s->fd, POLLIN, 500);
		see_recv(s, 100, 0);
		tell(s, 0);
	}
	by_nature(s, false);
	hear(s);
	see_recv(s, 100, 0);
}

#define NO_ZERO_COPY "a socket that was in a sockmap has no zero copy: SEND_ZC gives EOPNOTSUPP, SEND goes on working"

const struct row uring_rows[] = {
	{ "12", "uring", "io_uring SEND; RECV armed before and after the bytes come", ring_writer, ring_reader,
	  .flags = ROW_ALONE },
	{ "12", "uring-zerocopy", "io_uring SEND_ZC from the first message", zero_copy_writer, plain_reader,
	  .flags = ROW_SILENT | ROW_ALONE },
	{ "12", "uring-zerocopy-live", "io_uring SEND_ZC after a conversation", zero_copy_writer, plain_reader,
	  .flags = ROW_ALONE, .nature = NO_ZERO_COPY },
	{},
};
