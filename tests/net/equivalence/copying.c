// SPDX-License-Identifier: Apache-2.0
/* copying.c: rows about bytes that move without read() and write(): splice, sendfile, zero copy. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif

/* ------------------------------------------------------------------ 9: splice(2) out of the socket */

static int pipes[2];

static void make_pipe(struct side *s)
{
	must(s, pipe2(pipes, O_CLOEXEC | O_NONBLOCK));
}

/*
 * As programs do: EAGAIN although poll() says that there is something is taken for a false alarm, and tried again.
 * A program's luck in that does not count; bytes do, and that it does not wait for ever.
 */
static ssize_t see_splice(struct side *s, size_t len)
{
	char data[512];
	ssize_t n = -1, got;

	for (int ms = 0; ms < 1000; ms++) {
		n = splice(s->fd, NULL, pipes[1], NULL, len, SPLICE_F_NONBLOCK);
		if (n >= 0 || errno != EAGAIN)
			break;
		nap(1);
	}
	if (n <= 0)
		if_ended(s, "splice");
	if (n < 0 && errno == EAGAIN) {
		saw(s, "splice(%zu): nothing for a second", len);
		exit(0);
	}
	got = n > 0 ? read(pipes[0], data, sizeof(data)) : 0;
	saw(s, "splice(%zu) = %s \"%s\"", len, result(n), got > 0 ? quoted(data, (size_t)got) : "");
	return n;
}

/* Ten messages; the reader answers each by a byte, so both ends know where they are. */
static void answered_messages(struct side *s)
{
	for (int i = 0; i < 10; i++) {
		char text[16], answer;

		snprintf(text, sizeof(text), "message %d.", i);
		put_text(s, text);
		get(s, &answer, 1);
		saw(s, "answer came");
	}
}

static void splice_and_answer(struct side *s)
{
	make_pipe(s);
	for (int i = 0; i < 10; i++) {
		if (!wait_for(s->fd, POLLIN, 3000))
			failed(s, "message %d did not come", i);
		see_splice(s, 100);
		put_text(s, "a");
	}
}

/* Nobody waits for an answer: what is caught late must not let later bytes in before earlier ones. */
#define RUSH 200

static void rush(struct side *s)
{
	for (int i = 0; i < RUSH; i++) {
		unsigned char text[20];

		pattern(text, sizeof(text), (size_t)i * sizeof(text));
		put(s, text, sizeof(text));
		if (i % 10 == 9)
			nap(1);
	}
	delivered(s);
	saw(s, "all was sent");
	hear(s);
}

static void splice_the_rush(struct side *s)
{
	unsigned char data[512];
	size_t got = 0;
	int left = 1000; /* false alarms */

	make_pipe(s);
	while (got < RUSH * 20) {
		ssize_t n = splice(s->fd, NULL, pipes[1], NULL, sizeof(data), SPLICE_F_NONBLOCK);

		if (n < 0 && errno == EAGAIN && left-- > 0 && wait_for(s->fd, POLLIN | POLLRDHUP, 2000)) {
			nap(1);
			continue;
		}
		if (n <= 0)
			if_ended(s, "splice");
		if (n <= 0 || read(pipes[0], data, sizeof(data)) != n)
			failed(s, "splice after %zu bytes: %s", got, result(n));
		if (!pattern_holds(data, (size_t)n, got)) {
			saw(s, "wrong bytes after %zu", got);
			return;
		}
		got += (size_t)n;
	}
	saw(s, "%zu bytes, all right", got);
	tell(s, 0);
}

static void splice_when_queued(struct side *s)
{
	make_pipe(s);
	await(s);
	see_splice(s, 4);
	see_splice(s, 100);
	tell(s, 0);
	await(s);
	see_splice(s, 100);
}

static void queue_and_queue(struct side *s)
{
	put_text(s, "abc");
	arrive(s, "def");
	hear(s);
	put_text(s, "ghi");
	delivered(s);
	tell(s, 0);
}

/* The head by recv(), the body by splice(), as HAProxy does. */
static void head_then_body(struct side *s)
{
	make_pipe(s);
	await(s);
	see_recv(s, 4, 0);
	see_splice(s, 100);
	tell(s, 0);
	await(s);
	see_recv(s, 1, 0);
	see_splice(s, 100);
}

static void on_alarm(int number)
{
}

/* A reader that is never woken gives up after 2 s with EINTR. */
static void sleeping_splice(struct side *s)
{
	struct sigaction a = { .sa_handler = on_alarm };
	char data[64];
	ssize_t n;

	sigaction(SIGALRM, &a, NULL);
	make_pipe(s);
	tell(s, 0);
	alarm(2);
	n = splice(s->fd, NULL, pipes[1], NULL, 100, 0);
	if (n <= 0)
		if_ended(s, "splice");
	saw(s, "splice(100), blocked = %s", result(n));
	n = n > 0 ? read(pipes[0], data, sizeof(data)) : 0;
	saw(s, "\"%s\"", n > 0 ? quoted(data, (size_t)n) : "");
}

static void wake_it(struct side *s)
{
	hear(s);
	wait_asleep(s, s->peer);
	put_text(s, "abcde");
}

/* ------------------------------------------------------------------ 10: into the socket */

#define LENGTH 300000

static int file_of_pattern(struct side *s)
{
	static unsigned char data[LENGTH];
	int fd = memfd_create("equivalence", MFD_CLOEXEC);

	pattern(data, LENGTH, 0);
	must(s, fd);
	if (write(fd, data, LENGTH) != LENGTH)
		failed(s, "writing the file: %s", result(-1));
	return fd;
}

static void send_file(struct side *s)
{
	int file = file_of_pattern(s);
	off_t at = 0;

	while (at < LENGTH) {
		ssize_t n = sendfile(s->fd, file, &at, LENGTH);

		if (n < 0 && errno == EAGAIN && wait_for(s->fd, POLLOUT, 3000))
			continue;
		if (n <= 0)
			failed(s, "sendfile at %lld: %s", (long long)at, result(n));
	}
	saw(s, "sendfile: all of it");
	must(s, shutdown(s->fd, SHUT_WR));
}

static void splice_file(struct side *s)
{
	int file = file_of_pattern(s);
	loff_t at = 0;

	make_pipe(s);
	while (at < LENGTH) {
		ssize_t left = must(s, splice(file, &at, pipes[1], NULL, 65536, 0));

		while (left) {
			ssize_t n = splice(pipes[0], NULL, s->fd, NULL, (size_t)left, at < LENGTH ? SPLICE_F_MORE : 0);

			if (n < 0 && errno == EAGAIN && wait_for(s->fd, POLLOUT, 3000))
				continue;
			if (n <= 0)
				failed(s, "splice into the socket: %s", result(n));
			left -= n;
		}
	}
	saw(s, "splice: all of it");
	must(s, shutdown(s->fd, SHUT_WR));
}

static void read_file(struct side *s)
{
	static unsigned char data[LENGTH + 1];
	size_t got = 0;
	ssize_t n;

	while ((n = recv(s->fd, data + got, sizeof(data) - got, 0)) > 0 || (n < 0 && errno == EAGAIN)) {
		if (n > 0)
			got += (size_t)n;
		else if (!wait_for(s->fd, POLLIN, 3000))
			break;
	}
	saw(s, "%zu bytes, %s, then %s", got, pattern_holds(data, got, 0) ? "right" : "wrong", n ? result(n) : "end");
}

/* ------------------------------------------------------------------ 11: MSG_ZEROCOPY */

static void zero_copy(struct side *s)
{
	if (s->client)
		see_option(s, "SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY, 1);
}

static void see_completion(struct side *s)
{
	char control[256];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };
	struct sock_extended_err e;
	ssize_t n;

	wait_for(s->fd, 0, 1000);
	n = recvmsg(s->fd, &m, MSG_ERRQUEUE);
	if (n < 0 || !CMSG_FIRSTHDR(&m)) {
		saw(s, "completion: %s", result(n));
		return;
	}
	memcpy(&e, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(e));
	saw(s, "completion: origin %u, %u to %u, copied %u", e.ee_origin, e.ee_info, e.ee_data, e.ee_code);
}

static void send_zero_copy(struct side *s)
{
	static unsigned char data[20000];

	pattern(data, sizeof(data), 0);
	for (int i = 0; i < 2; i++) {
		ssize_t n = send(s->fd, data, sizeof(data), MSG_ZEROCOPY | MSG_NOSIGNAL);

		saw(s, "send(20000, ZEROCOPY) = %s", result(n));
		tell(s, n);
		hear(s);
		see_completion(s);
	}
}

static void send_zero_copy_live(struct side *s)
{
	zero_copy(s);
	send_zero_copy(s);
}

static void read_zero_copy(struct side *s)
{
	static unsigned char data[20000];

	for (int i = 0; i < 2; i++) {
		long sent = hear(s);

		if (sent > 0 && sent <= (long)sizeof(data)) {
			get(s, data, (size_t)sent);
			saw(s, "%ld bytes %s", sent, pattern_holds(data, (size_t)sent, 0) ? "right" : "wrong");
		}
		tell(s, 0);
	}
}

/* ------------------------------------------------------------------ 15: TCP_ZEROCOPY_RECEIVE */

#define WINDOW 65536

static void three_pages(struct side *s)
{
	static unsigned char data[3 * 4096];

	pattern(data, sizeof(data), 0);
	hear(s);
	for (size_t at = 0; at < sizeof(data); at += 4096)
		put(s, data + at, 4096);
	delivered(s);
	tell(s, 0);
}

static void receive_mapped(struct side *s)
{
	static unsigned char data[3 * 4096];
	struct tcp_zerocopy_receive z = { .length = WINDOW };
	socklen_t len = sizeof(z);
	void *at = mmap(NULL, WINDOW, PROT_READ, MAP_SHARED, s->fd, 0);
	int rc;

	if (at == MAP_FAILED) {
		if (errno == ENODEV || errno == EOPNOTSUPP)
			absent(s, "mmap of a TCP socket: %s", result(-1));
		failed(s, "mmap: %s", result(-1));
	}
	z.address = (unsigned long)at;
	tell(s, 0);
	hear(s);
	rc = getsockopt(s->fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &z, &len);
	saw(s, "TCP_ZEROCOPY_RECEIVE = %s: length %u, to be read by recv %u, inq %d, err %d", result(rc), z.length,
	    z.recv_skip_hint, z.inq, z.err);
	if (rc || z.length > sizeof(data))
		return;
	memcpy(data, at, z.length);
	get(s, data + z.length, sizeof(data) - z.length);
	saw(s, "all of it %s", pattern_holds(data, sizeof(data), 0) ? "right" : "wrong");
}

/* ------------------------------------------------------------------ the table */

const struct row copying_rows[] = {
	{ "9", "splice-queued", "splice(2) to a pipe after a conversation read by recv(), bytes wait", queue_and_queue,
	  splice_when_queued, .flags = ROW_ENDS | ROW_ALONE },
	{ "9", "splice-live", "splice(2) of every message, each answered, after a conversation read by recv()",
	  answered_messages, splice_and_answer, .flags = ROW_ENDS | ROW_ALONE },
	{ "9", "splice-rush", "splice(2) after a conversation, of messages that do not wait for answers", rush,
	  splice_the_rush, .flags = ROW_ENDS | ROW_ALONE },
	{ "9", "splice-known", "the same once more, between the same pods", answered_messages, splice_and_answer,
	  .flags = ROW_AFTER },
	{ "9", "splice-head-body", "the head by recv(), the body by splice(2)", queue_and_queue, head_then_body,
	  .flags = ROW_ENDS | ROW_ALONE },
	{ "9", "splice-first", "splice(2) from the first byte", answered_messages, splice_and_answer,
	  .flags = ROW_ALONE | ROW_SILENT | ROW_ENDS },
	{ "9", "splice-blocked", "splice(2) that sleeps in a blocking socket", wake_it, sleeping_splice,
	  .flags = ROW_ALONE | ROW_SERVER_BLOCKS | ROW_ENDS },
	{ "10", "sendfile", "sendfile of 300 KB into the socket", send_file, read_file },
	{ "10", "splice-in", "splice(2) of a file through a pipe into the socket", splice_file, read_file },
	{ "11", "zerocopy", "MSG_ZEROCOPY, SO_ZEROCOPY set before connect", send_zero_copy, read_zero_copy,
	  .before = zero_copy },
	{ "11", "zerocopy-live", "MSG_ZEROCOPY, SO_ZEROCOPY set after a conversation", send_zero_copy_live,
	  read_zero_copy },
	{ "15", "zerocopy-receive", "TCP_ZEROCOPY_RECEIVE of three pages from the first byte", three_pages,
	  receive_mapped, .flags = ROW_ALONE | ROW_SILENT | ROW_ENDS },
	{ "15", "zerocopy-receive-live", "TCP_ZEROCOPY_RECEIVE of three pages after a conversation", three_pages,
	  receive_mapped, .flags = ROW_ALONE | ROW_ENDS },
	{},
};
