// SPDX-License-Identifier: Apache-2.0
/* reading.c: rows about recv() and its flags, counting and peeking. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

/* ------------------------------------------------------------------ 1: MSG_WAITALL */

static void two_pieces(struct side *s)
{
	arrive(s, "abcde");
	meet(s);
	arrive(s, "fghij");
}

static void waitall_nonblocking(struct side *s)
{
	await(s);
	see_recv(s, 10, MSG_WAITALL);
	meet(s);
	await(s);
	see_recv(s, 10, MSG_WAITALL);
	see_recv(s, 10, MSG_WAITALL);
}

static void both_pieces(struct side *s)
{
	put_text(s, "abcde");
	put_text(s, "fghij");
	put_text(s, "klmno");
	arrive(s, "p");
}

static void waitall_queued(struct side *s)
{
	await(s);
	see_recv(s, 10, MSG_WAITALL);
	see_recv(s, 10, MSG_WAITALL);
}

/* The reader sleeps inside recv() when each piece comes. */
static void pieces_to_a_sleeper(struct side *s)
{
	hear(s);
	wait_asleep(s, s->peer);
	arrive(s, "abcde");
	wait_asleep(s, s->peer);
	put_text(s, "fghij");
	delivered(s);
}

static void waitall_blocked(struct side *s)
{
	tell(s, 0);
	see_recv(s, 10, MSG_WAITALL);
	await(s);
}

static void waitall_made_blocking(struct side *s)
{
	saw(s, "clear O_NONBLOCK = %s", result(fcntl(s->fd, F_SETFL, 0)));
	waitall_blocked(s);
}

/* ------------------------------------------------------------------ 3: FIONREAD */

static void some_bytes(struct side *s)
{
	meet(s);
	arrive(s, "0123456789012345678901234567890123456789");
	meet(s);
	arrive(s, "0123456789");
}

static void count_them(struct side *s)
{
	see_ioctl(s, "FIONREAD", FIONREAD);
	meet(s);
	await(s);
	see_ioctl(s, "FIONREAD", FIONREAD);
	see_recv(s, 15, 0);
	see_ioctl(s, "FIONREAD", FIONREAD);
	meet(s);
	await(s);
	see_ioctl(s, "FIONREAD", FIONREAD);
	see_recv(s, 100, 0);
	see_ioctl(s, "FIONREAD", FIONREAD);
}

/* More than weft hands over in one turn (128 KiB), so the rest goes by TCP, onto a socket that is in the map. */
#define MANY (21 * 8192)

static void large_window(struct side *s)
{
	int size = 1 << 20;

	must(s, setsockopt(s->fd, SOL_SOCKET, s->client ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, &size, sizeof(size)));
}

static void many_bytes(struct side *s)
{
	static unsigned char data[MANY];

	pattern(data, MANY, 0);
	for (size_t at = 0; at < MANY; at += 8192)
		put(s, data + at, 8192);
	delivered(s);
	tell(s, 0);
}

static void read_many(struct side *s, size_t from, size_t len)
{
	static unsigned char data[MANY];

	get(s, data, len);
	saw(s, "%zu bytes %s", len, pattern_holds(data, len, from) ? "right" : "wrong");
}

/*
 * The first count of a pod may be wrong where the kernel counts only the splice queue; then the connection must be
 * ended, and soon.
 */
static void first_count(struct side *s)
{
	by_nature(s, true);
	see_ioctl(s, "FIONREAD", FIONREAD);
	by_nature(s, false);
	if (wait_for(s->fd, POLLRDHUP, 500))
		if_ended(s, "the connection");
}

static void count_many(struct side *s)
{
	hear(s);
	first_count(s);
	read_many(s, 0, 1000);
	see_ioctl(s, "FIONREAD", FIONREAD);
	read_many(s, 1000, MANY - 11000);
	see_ioctl(s, "FIONREAD", FIONREAD);
	read_many(s, MANY - 10000, 10000);
	see_ioctl(s, "FIONREAD", FIONREAD);
}

/* Bytes that wait, come by TCP, while weft decides about a connection that has talked. */
static void leave_some(struct side *s)
{
	char data[4];

	for (int i = 0; i < 12; i++) {
		put_text(s, "talk");
		get(s, data, 4);
	}
	arrive(s, "abc");
	settle(s);
	arrive(s, "defgh");
	hear(s);
	arrive(s, "ijk");
}

static void count_what_waited(struct side *s)
{
	char data[4];

	for (int i = 0; i < 12; i++) {
		get(s, data, 4);
		put(s, data, 4);
	}
	await(s);
	await(s);
	first_count(s);
	see_recv(s, 100, MSG_PEEK);
	see_recv(s, 2, 0);
	see_ioctl(s, "FIONREAD", FIONREAD);
	see_recv(s, 100, 0);
	tell(s, 0);
	await(s);
	see_ioctl(s, "FIONREAD", FIONREAD);
	see_recv(s, 100, 0);
}

/* ------------------------------------------------------------------ 4: SIOCOUTQ */

static void outq_writer(struct side *s)
{
	int left = -1;

	see_ioctl(s, "SIOCOUTQ", SIOCOUTQ);
	meet(s);
	put_text(s, "0123456789");
	must(s, ioctl(s->fd, SIOCOUTQ, &left));
	saw(s, "~ SIOCOUTQ right after send(10) = %d", left); /* an acknowledgement may be faster than we are */
	saw(s, "SIOCOUTQ right after send(10) is %s", left >= 0 && left <= 10 ? "0 to 10" : "out of bounds");
	delivered(s);
	tell(s, 0);
	hear(s);
	see_ioctl(s, "SIOCOUTQ", SIOCOUTQ);
	see_ioctl(s, "SIOCOUTQNSD", SIOCOUTQNSD);
}

static void outq_reader(struct side *s)
{
	meet(s);
	hear(s);
	see_recv(s, 100, 0);
	tell(s, 0);
}

/* ------------------------------------------------------------------ 5: MSG_PEEK */

static void peek(struct side *s)
{
	await(s);
	see_recv(s, 3, MSG_PEEK);
	see_recv(s, 8, MSG_PEEK);
	see_recv(s, 100, MSG_PEEK);
	see_recv(s, 7, 0);
	see_recv(s, 100, MSG_PEEK);
	see_recv(s, 100, MSG_PEEK | MSG_TRUNC);
	see_recv(s, 100, 0);
	see_recv(s, 100, MSG_PEEK);
}

/* ------------------------------------------------------------------ 6: SO_PEEK_OFF */

static void peek_offset(struct side *s)
{
	int zero = 0;

	if (s->client)
		return;
	if (setsockopt(s->fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)))
		absent(s, "SO_PEEK_OFF of TCP: %s", result(-1));
}

static void peek_on(struct side *s)
{
	await(s);
	see_recv(s, 3, MSG_PEEK);
	see_recv(s, 3, MSG_PEEK);
	see_recv(s, 4, 0);
	see_recv(s, 3, MSG_PEEK);
	see_recv(s, 100, MSG_PEEK);
	see_recv(s, 100, MSG_PEEK);
	see_recv(s, 100, 0);
}

static void peek_on_live(struct side *s)
{
	peek_offset(s);
	meet(s);
	peek_on(s);
}

static void meet_then_both_pieces(struct side *s)
{
	meet(s);
	both_pieces(s);
}

/* Set while bytes wait; those keep what they came with. */
static void peek_on_queued(struct side *s)
{
	char data[3];

	hear(s);
	peek_offset(s);
	by_nature(s, true);
	see_recv(s, 2, MSG_PEEK);
	see_recv(s, 2, MSG_PEEK);
	by_nature(s, false);
	get(s, data, 3);
	saw(s, "read \"%s\"", quoted(data, 3));
	peek_offset(s);
	tell(s, 0);
	peek_on(s);
}

static void pieces_before_and_after(struct side *s)
{
	arrive(s, "abc");
	hear(s);
	both_pieces(s);
}

/* ------------------------------------------------------------------ 7: MSG_TRUNC */

static void discard(struct side *s)
{
	char rest[32];
	ssize_t n;

	await(s);
	by_nature(s, true);
	n = recv(s->fd, NULL, 4, MSG_TRUNC);
	saw(s, "recv(NULL, 4, TRUNC) = %s", result(n));
	n = recv(s->fd, rest, 4, 0);
	saw(s, "recv(4) = %s \"%s\"", result(n), n > 0 ? quoted(rest, (size_t)n) : "");
	n = recv(s->fd, NULL, 1000, MSG_TRUNC);
	saw(s, "recv(NULL, 1000, TRUNC) = %s", result(n));
	see_recv(s, 100, 0);
}

/* ------------------------------------------------------------------ the table */

#define COUNT "this kernel counts only the splice queue; a pod that asks is seen, and not spliced any more"
#define QUEUED "bytes that wait in the splice queue when an option is set keep what they came with until they are read"

const struct row reading_rows[] = {
	{ "1", "waitall", "recv(MSG_WAITALL) on a non-blocking socket, pieces come one by one", two_pieces,
	  waitall_nonblocking },
	{ "1", "waitall-queued", "recv(MSG_WAITALL) of several messages that wait", both_pieces, waitall_queued },
	{ "1", "waitall-blocked", "recv(MSG_WAITALL) sleeps in a blocking socket until all has come",
	  pieces_to_a_sleeper, waitall_blocked, .flags = ROW_SERVER_BLOCKS },
	{ "1", "waitall-made-blocking", "the socket is made blocking after a conversation, then MSG_WAITALL",
	  pieces_to_a_sleeper, waitall_made_blocking },
	{ "3", "fionread", "FIONREAD of small messages", some_bytes, count_them,
	  .flags = ROW_ALONE | ROW_ENDS },
	{ "3b", "fionread-mixed", "FIONREAD of 168 KiB, of which the last part comes by TCP", many_bytes, count_many,
	  .before = large_window, .flags = ROW_ALONE | ROW_ENDS, .nature = COUNT },
	{ "3b", "fionread-known", "the same once more, between the same pods", many_bytes, count_many,
	  .before = large_window, .flags = ROW_AFTER },
	{ "3b", "fionread-waiting", "FIONREAD of bytes that wait while weft decides", leave_some, count_what_waited,
	  .flags = ROW_SILENT | ROW_DIALS | ROW_ALONE | ROW_ENDS, .nature = COUNT },
	{ "4", "siocoutq", "SIOCOUTQ of the writer", outq_writer, outq_reader },
	{ "5", "peek", "MSG_PEEK within and across messages", both_pieces, peek },
	{ "6", "peek-offset", "SO_PEEK_OFF set at the start", both_pieces, peek_on, .early = peek_offset },
	{ "6", "peek-offset-live", "SO_PEEK_OFF set after a conversation", meet_then_both_pieces, peek_on_live },
	{ "6", "peek-offset-queued", "SO_PEEK_OFF set while bytes wait, and after them", pieces_before_and_after,
	  peek_on_queued, .nature = QUEUED },
	{ "7", "trunc", "recv(NULL, n, MSG_TRUNC) discards", both_pieces, discard,
	  .nature = "the splice queue is read by a copy, and there is nowhere to copy to: EFAULT, nothing is lost" },
	{},
};
