// SPDX-License-Identifier: Apache-2.0
/* flow.c: rows about streams: back-pressure, order, integrity, how writes become segments. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#define PIECE (1 << 20)
#define MOST (64 << 20) /* a writer that is not stopped by then is not stopped at all */

static unsigned char piece[PIECE];

/* ------------------------------------------------------------------ 24, 25: the reader sleeps */

/* Writes pieces of `size` until the socket takes no more for 100 ms; gives what it took. */
static size_t fill(struct side *s, size_t size, size_t most)
{
	size_t total = 0;

	while (total < most) {
		ssize_t n;

		pattern(piece, size, total);
		n = send(s->fd, piece, size, MSG_NOSIGNAL);
		if (n > 0) {
			total += (size_t)n;
		} else if (errno != EAGAIN) {
			saw(s, "send = %s", result(n));
			break;
		} else if (!wait_for(s->fd, POLLOUT, 100)) {
			saw(s, "send = -1 EAGAIN");
			break;
		}
	}
	return total;
}

static void drain(struct side *s, size_t total)
{
	size_t got = 0;

	while (got < total) {
		ssize_t n = recv(s->fd, piece, PIECE < total - got ? PIECE : total - got, 0);

		if (n <= 0 && (n == 0 || errno != EAGAIN || !wait_for(s->fd, POLLIN, 3000))) {
			saw(s, "recv = %s", result(n));
			break;
		}
		if (n > 0 && !pattern_holds(piece, (size_t)n, got)) {
			saw(s, "wrong byte");
			break;
		}
		got += n > 0 ? (size_t)n : 0;
	}
	saw(s, "%s", got == total ? "all that was written came, right" : "bytes are missing");
}

static void fill_and_wait(struct side *s, size_t size, size_t most)
{
	size_t total = fill(s, size, most);

	saw(s, "stopped after %s", total < most ? "less than the most" : "the most");
	see_poll(s, POLLOUT, 0);
	tell(s, (long)total);
	hear(s);
	saw(s, "%s", wait_for(s->fd, POLLOUT, 3000) ? "room again" : "no room");
	put_text(s, "end");
}

static void fill_large(struct side *s)
{
	fill_and_wait(s, 65536, MOST);
}

static void fill_small(struct side *s)
{
	fill_and_wait(s, 1024, MOST);
}

static void fill_bytes(struct side *s)
{
	size_t total = fill(s, 1, 20000);

	tell(s, (long)total);
	hear(s);
	put_text(s, "end");
}

static void drain_what_waits(struct side *s)
{
	char data[3];

	drain(s, (size_t)hear(s));
	tell(s, 0);
	get(s, data, 3);
	saw(s, "\"%s\"", quoted(data, 3));
}

#define BLOCK (8 << 20)

static void blocked_writer(struct side *s)
{
	unsigned char *all = malloc(BLOCK);
	ssize_t n;

	pattern(all, BLOCK, 0);
	tell(s, 0);
	n = send(s->fd, all, BLOCK, MSG_NOSIGNAL);
	saw(s, "send(8 MiB) = %s", result(n));
	free(all);
}

static void late_reader(struct side *s)
{
	hear(s);
	wait_asleep(s, s->peer);
	drain(s, BLOCK);
}

/* What is on its way may make room for another part; but it ends. */
static void writer_times_out(struct side *s)
{
	unsigned char *all = calloc(1, BLOCK);
	struct timeval t = { .tv_usec = 100000 };
	ssize_t n;

	must(s, setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)));
	n = send(s->fd, all, BLOCK, MSG_NOSIGNAL);
	saw(s, "send(8 MiB) = %s", n > 0 && n < BLOCK ? "a part" : result(n));
	for (int i = 0; n > 0 && i < 20; i++)
		n = send(s->fd, all, BLOCK, MSG_NOSIGNAL);
	saw(s, "in the end %s", n > 0 ? "a part" : result(n));
	free(all);
}

static void sleep_on(struct side *s)
{
	see_poll(s, POLLIN, 2000);
}

/* ------------------------------------------------------------------ 27, 35: order and integrity */

struct half {
	size_t done;
	unsigned random;
};

static unsigned next(struct half *h)
{
	h->random = h->random * 1103515245u + 12345;
	return h->random >> 8;
}

/* Sizes of a real mixture: single bytes, messages, and what is larger than weft hands over in a turn. */
static size_t some_size(struct half *h)
{
	static const unsigned most[] = { 1, 17, 300, 1500, 4096, 8192, 70000, 300000 };

	return 1 + next(h) % most[next(h) % (sizeof(most) / sizeof(most[0]))];
}

static void write_some(struct side *s, struct half *h, size_t total)
{
	size_t size = some_size(h);
	ssize_t n;

	if (size > total - h->done)
		size = total - h->done;
	pattern(piece, size, h->done);
	n = send(s->fd, piece, size, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		failed(s, "send: %s", result(n));
	h->done += n > 0 ? (size_t)n : 0;
}

static void read_some(struct side *s, struct half *h)
{
	ssize_t n = recv(s->fd, piece, some_size(h), 0);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		failed(s, "recv after %zu bytes: %s", h->done, result(n));
	if (n > 0 && !pattern_holds(piece, (size_t)n, h->done))
		failed(s, "wrong byte within %zd at %zu", n, h->done);
	h->done += n > 0 ? (size_t)n : 0;
}

/* Writes `out` and reads `in` bytes, whatever can be done first. */
static void exchange(struct side *s, size_t out, size_t in)
{
	struct half w = { .random = s->client ? 1 : 2 }, r = { .random = s->client ? 3 : 4 };

	while (w.done < out || r.done < in) {
		struct pollfd p = { .fd = s->fd, .events = (short)((w.done < out ? POLLOUT : 0) |
								   (r.done < in ? POLLIN : 0)) };

		if (poll(&p, 1, 5000) <= 0)
			failed(s, "nothing moves: %zu written, %zu read", w.done, r.done);
		if ((p.revents & POLLOUT) && w.done < out)
			write_some(s, &w, out);
		if ((p.revents & (POLLIN | POLLHUP | POLLERR)) && r.done < in)
			read_some(s, &r);
	}
	saw(s, "%zu bytes written, %zu read, all right", out, in);
}

#define STREAM (12 << 20)

static void stream_out(struct side *s)
{
	exchange(s, STREAM, 0);
	meet(s);
}

static void stream_in(struct side *s)
{
	exchange(s, 0, STREAM);
	meet(s);
}

static void stream_both(struct side *s)
{
	exchange(s, STREAM, STREAM);
	meet(s);
}

/* Large messages go by TCP once a turn is used up; small ones that follow must not overtake them. */
static void large_then_small(struct side *s)
{
	size_t at = 0;

	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 24; i++, at += 6000) {
			pattern(piece, 6000, at);
			put(s, piece, 6000);
		}
		for (int i = 0; i < 24; i++, at += 50) {
			pattern(piece, 50, at);
			put(s, piece, 50);
		}
		delivered(s);
		tell(s, (long)at);
		hear(s);
	}
}

/* Half of what waits, then the rest with what has come since. */
static void read_late(struct side *s)
{
	size_t at = 0;

	for (int round = 0; round < 4; round++) {
		size_t end = (size_t)hear(s), stop = round < 3 ? end - 70000 : end;

		get(s, piece, stop - at);
		saw(s, "%zu to %zu %s", at, stop, pattern_holds(piece, stop - at, at) ? "right" : "wrong");
		at = stop;
		tell(s, 0);
	}
}

static void large_buffers(struct side *s)
{
	int size = 4 << 20;

	must(s, setsockopt(s->fd, SOL_SOCKET, s->client ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, &size, sizeof(size)));
}

/* ------------------------------------------------------------------ 26: what holds bytes back */

static void cork(struct side *s)
{
	see_option(s, "TCP_CORK", IPPROTO_TCP, TCP_CORK, 1);
	put_text(s, "abc");
	tell(s, 0);
	hear(s);
	put_text(s, "def");
	see_option(s, "TCP_CORK", IPPROTO_TCP, TCP_CORK, 0);
	delivered(s);
	tell(s, 0);
}

static void more(struct side *s)
{
	see_send(s, "abc", MSG_MORE);
	tell(s, 0);
	hear(s);
	see_send(s, "def", 0);
	delivered(s);
	tell(s, 0);
}

/* The kernel holds corked bytes back for 200 ms. */
static void held_back(struct side *s)
{
	hear(s);
	by_nature(s, true);
	see_poll(s, POLLIN, 50);
	by_nature(s, false);
	tell(s, 0);
	hear(s);
	see_recv(s, 100, 0);
}

/* ------------------------------------------------------------------ 38: two threads write */

#define TORN 16384
#define EACH 8

struct writer {
	struct side *side;
	pthread_t thread;
	char letter;
	bool whole;
};

static void *write_blocks(void *ctx)
{
	struct writer *w = ctx;
	char block[TORN];

	memset(block, w->letter, sizeof(block));
	w->whole = true;
	for (int i = 0; i < EACH; i++)
		w->whole = w->whole && send(w->side->fd, block, sizeof(block), MSG_NOSIGNAL) == sizeof(block);
	return NULL;
}

static void two_writers(struct side *s)
{
	struct writer w[2] = { { .side = s, .letter = 'a' }, { .side = s, .letter = 'b' } };

	for (int i = 0; i < 2; i++)
		pthread_create(&w[i].thread, NULL, write_blocks, &w[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(w[i].thread, NULL);
	saw(s, "every send took its block: %s", w[0].whole && w[1].whole ? "yes" : "no");
}

static void read_blocks(struct side *s)
{
	char block[TORN];
	int torn = 0;

	for (int i = 0; i < 2 * EACH; i++) {
		get(s, block, sizeof(block));
		torn += memchr(block, block[0] == 'a' ? 'b' : 'a', sizeof(block)) != NULL;
	}
	saw(s, "%s", torn ? "blocks are torn" : "all blocks are whole");
}

#define HELD "the bytes are held back only to make larger segments; a splice has none and gives them at once"

const struct row flow_rows[] = {
	{ "24", "reader-sleeps", "64 KiB writes to a reader that does not read: EAGAIN, later room again", fill_large,
	  drain_what_waits },
	{ "24", "reader-sleeps-small", "the same with 1 KiB writes", fill_small, drain_what_waits },
	{ "24", "writer-blocked", "send() of 8 MiB sleeps in a blocking socket until the reader reads", blocked_writer,
	  late_reader, .flags = ROW_CLIENT_BLOCKS },
	{ "24", "sndtimeo", "SO_SNDTIMEO ends a send() that sleeps", writer_times_out, sleep_on,
	  .flags = ROW_CLIENT_BLOCKS },
	{ "25", "single-bytes", "20 000 writes of one byte to a reader that does not read", fill_bytes,
	  drain_what_waits },
	{ "26", "cork", "TCP_CORK set after a conversation", cork, held_back, .nature = HELD },
	{ "26", "more", "MSG_MORE", more, held_back, .nature = HELD },
	{ "27", "order", "large writes, then small ones, to a late reader", large_then_small, read_late,
	  .before = large_buffers },
	{ "35", "stream", "12 MiB in random sizes", stream_out, stream_in },
	{ "35", "stream-both", "12 MiB each way at once in random sizes", stream_both, stream_both },
	{ "38", "two-writers", "two threads write blocks of 16 KiB, blocking", two_writers, read_blocks,
	  .flags = ROW_CLIENT_BLOCKS, .before = large_buffers },
	{ "38", "two-writers-nonblocking", "the same on a non-blocking socket with room for all", two_writers,
	  read_blocks, .before = large_buffers },
	{},
};
