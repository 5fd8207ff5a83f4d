// SPDX-License-Identifier: Apache-2.0
/* urgent.c: rows about urgent data: MSG_OOB, POLLPRI, SIOCATMARK, SIGURG. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static volatile sig_atomic_t urgent_signals;

static void on_urgent(int number)
{
	urgent_signals++;
}

/* Bytes, an urgent one, bytes. */
static void urgent_writer(struct side *s)
{
	meet(s);
	arrive(s, "abc");
	hear(s);
	see_send(s, "X", MSG_OOB);
	delivered(s);
	tell(s, 0);
	hear(s);
	arrive(s, "def");
	hear(s);
	look(s);
	arrive(s, "ghi");
}

static void see_mark(struct side *s)
{
	see_ioctl(s, "SIOCATMARK", SIOCATMARK);
}

static void urgent_reader(struct side *s)
{
	struct sigaction a = { .sa_handler = on_urgent };

	sigaction(SIGURG, &a, NULL);
	must(s, fcntl(s->fd, F_SETOWN, getpid()));
	meet(s);
	await(s);
	see_mark(s);
	tell(s, 0);
	hear(s);
	see_poll(s, POLLIN | POLLPRI, 0);
	saw(s, "SIGURG came %d times", (int)urgent_signals);
	by_nature(s, true);
	see_mark(s);
	by_nature(s, false);
	see_recv(s, 100, 0);
	see_mark(s);
	see_recv(s, 10, MSG_OOB | MSG_PEEK);
	see_recv(s, 10, MSG_OOB);
	tell(s, 0);
	await(s);
	see_poll(s, POLLIN | POLLPRI, 0);
	see_recv(s, 100, 0);
	see_mark(s);
	tell(s, 0);
	await(s);
	see_recv(s, 100, 0);
}

/* The urgent byte among those that wait already. */
static void urgent_in_a_queue(struct side *s)
{
	put_text(s, "abc");
	see_send(s, "deX", MSG_OOB);
	arrive(s, "fgh");
}

/* Up to the mark, or until there is no more; how many calls that takes is not promised. */
static void read_on(struct side *s)
{
	char data[100];
	size_t got = 0;
	int mark = 0;

	while (!mark && got < sizeof(data)) {
		ssize_t n = recv(s->fd, data + got, sizeof(data) - got, 0);

		if (n <= 0)
			break;
		got += (size_t)n;
		must(s, ioctl(s->fd, SIOCATMARK, &mark));
	}
	saw(s, "read \"%s\", %s", quoted(data, got), mark ? "at the mark" : "no more");
}

static void read_around_the_mark(struct side *s)
{
	await(s);
	see_poll(s, POLLIN | POLLPRI, 0);
	by_nature(s, true);
	see_mark(s);
	by_nature(s, false);
	read_on(s);
	read_on(s);
	see_recv(s, 100, 0);
}

static void inline_urgent(struct side *s)
{
	if (!s->client)
		see_option(s, "SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1);
}

static void inline_urgent_live(struct side *s)
{
	inline_urgent(s);
	tell(s, 0);
	read_around_the_mark(s);
}

static void urgent_in_a_queue_when_told(struct side *s)
{
	hear(s);
	urgent_in_a_queue(s);
}

static void urgent_both_ways(struct side *s)
{
	meet(s);
	see_send(s, s->client ? "C" : "S", MSG_OOB);
	delivered(s);
	meet(s);
	see_poll(s, POLLIN | POLLPRI, 0);
	see_recv(s, 10, MSG_OOB);
	see_recv(s, 10, 0);
}

static void nothing_urgent(struct side *s)
{
	meet(s);
	arrive(s, "abc");
}

static void ask_for_urgent(struct side *s)
{
	by_nature(s, true);
	see_recv(s, 10, MSG_OOB);
	meet(s);
	await(s);
	see_recv(s, 10, MSG_OOB);
	see_recv(s, 10, 0);
}

#define MARK "SIOCATMARK looks at TCP's queue alone, and bytes that wait in the splice queue come before it"

const struct row urgent_rows[] = {
	{ "8", "urgent", "MSG_OOB between messages; POLLPRI, SIGURG, SIOCATMARK, recv(MSG_OOB)", urgent_writer,
	  urgent_reader, .nature = MARK },
	{ "8", "urgent-queued", "MSG_OOB in the middle of bytes that wait", urgent_in_a_queue, read_around_the_mark,
	  .nature = MARK },
	{ "8", "urgent-inline", "SO_OOBINLINE set on the listener", urgent_in_a_queue, read_around_the_mark,
	  .before = inline_urgent },
	{ "8", "urgent-inline-live", "SO_OOBINLINE set after a conversation", urgent_in_a_queue_when_told,
	  inline_urgent_live },
	{ "8", "urgent-none", "recv(MSG_OOB) where nothing urgent is", nothing_urgent, ask_for_urgent,
	  .nature = "the splice queue does not know the flag: EAGAIN for EINVAL, and ordinary bytes are read" },
	{ "8", "urgent-both", "both ends send an urgent byte", urgent_both_ways, urgent_both_ways },
	{},
};
