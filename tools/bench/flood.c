// SPDX-License-Identifier: Apache-2.0
/*
 * flood.c: a writer that never stops and a reader that does not read. First a conversation, so that the
 * connection is spliced if it can be (--told: until a line comes on stdin; the driver sees when it is); then
 * the writer sends until the kernel takes no more for a second. It prints what happened, waits for a line on
 * stdin (the driver looks at queues and slab meanwhile), then half-closes. The reader starts when it gets a
 * line on stdin, and every byte is checked.
 */
#include "load.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 200	/* of the conversation, unless it is told when to end */
#define BALL 64		/* bytes of its messages; the last one begins with LAST */
#define LAST 'l'
#define BLOCKED_MS 1000 /* no room for so long: blocked */
#define FLOOD_MAX (512ull << 20)
#define HOLD_BUFFER (64u << 10)

/* Unbuffered: what told() polls must not sit in a FILE. */
static void wait_line(void)
{
	char c;

	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
		;
}

static bool told(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

	if (poll(&p, 1, 0) <= 0)
		return false;
	wait_line();
	return true;
}

static bool converse(struct waiter *w, const struct load *l)
{
	char ball[BALL] = "flood";
	bool last = false;

	for (int i = 1; !last; i++) {
		last = l->told ? told() : i == ROUNDS;
		if (last)
			ball[0] = LAST;
		if (!waiter_write(w, ball, sizeof(ball)) || !waiter_read(w, ball, sizeof(ball)))
			return false;
	}
	return true;
}

struct flood {
	uint64_t bytes, writes;
	bool blocked;
	int error; /* errno that a write gave, 0 none */
};

static struct flood pour(int fd, size_t size)
{
	struct flood f = {};

	while (f.bytes < FLOOD_MAX && !f.error && !f.blocked) {
		ssize_t n = send(fd, pattern_at(f.bytes), size, MSG_NOSIGNAL);

		if (n > 0) {
			f.bytes += (uint64_t)n;
			f.writes++;
		} else if (errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			f.blocked = !poll(&p, 1, BLOCKED_MS);
		} else if (errno != EINTR) {
			f.error = errno;
		}
	}
	return f;
}

int flood_client(const struct load *l)
{
	struct load patient = *l;
	struct flood f;
	struct waiter w;
	char verdict;

	patient.blocking = false;
	w = waiter_open(endpoint_connect(&patient), false);
	if (!converse(&w, l)) {
		fprintf(stderr, "load: the peer closed in the conversation\n");
		return 1;
	}
	f = pour(w.fd, l->size);
	printf("{\"test\":\"flood\",\"size\":%zu,\"bytes\":%llu,\"writes\":%llu,\"blocked\":%s,"
	       "\"error\":\"%s\"}\n",
	       l->size, (unsigned long long)f.bytes, (unsigned long long)f.writes,
	       f.blocked ? "true" : "false", f.error ? strerror(f.error) : "");
	wait_line();
	if (shutdown(w.fd, SHUT_WR))
		fail("shutdown");
	if (!waiter_read(&w, &verdict, 1) || verdict != 'k') {
		fprintf(stderr, "load: the reader saw a wrong byte or lost some of %llu\n",
			(unsigned long long)f.bytes);
		return 1;
	}
	printf("{\"test\":\"flood\",\"intact\":true}\n");
	waiter_close(&w);
	return 0;
}

int flood_hold(const struct load *l)
{
	struct endpoint e = endpoint_parse(l->endpoint);
	int listener = endpoint_listen(&e);
	unsigned char *buf = malloc(HOLD_BUFFER);

	if (!buf)
		fail("malloc");
	for (;;) {
		struct waiter w = waiter_open(endpoint_accept(listener, l), l->blocking);
		uint64_t bytes = 0;
		bool good = true;
		size_t n;

		do
			good = waiter_read(&w, buf, BALL) && waiter_write(&w, buf, BALL);
		while (good && buf[0] != LAST);
		wait_line();
		while (good && (n = waiter_read_some(&w, buf, HOLD_BUFFER))) {
			good = !memcmp(buf, pattern_at(bytes), n);
			bytes += n;
		}
		if (!waiter_write(&w, good ? "k" : "x", 1))
			fprintf(stderr, "load: the writer is gone\n");
		printf("{\"test\":\"hold\",\"bytes\":%llu,\"good\":%s}\n", (unsigned long long)bytes,
		       good ? "true" : "false");
		waiter_close(&w);
	}
}
