// SPDX-License-Identifier: Apache-2.0
/* closing.c: rows about the end of a connection: FIN, RST, half close, what comes after. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ALL (POLLIN | POLLOUT | POLLRDHUP | POLLPRI)

/* Until the events are there; the play says so itself when they do not come. */
static void wait_until(struct side *s, short events)
{
	if (!wait_for(s->fd, events, 3000))
		saw(s, "poll: nothing came");
}

static void see_close(struct side *s)
{
	saw(s, "close = %s", result(close(s->fd)));
	s->fd = -1;
}

static void reset(struct side *s)
{
	struct linger l = { .l_onoff = 1 };

	must(s, setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	see_close(s);
}

/* ------------------------------------------------------------------ 17: shutdown, FIN */

static void data_and_fin(struct side *s)
{
	put_text(s, "abcde");
	put_text(s, "fghij");
	saw(s, "shutdown(WR) = %s", result(shutdown(s->fd, SHUT_WR)));
	delivered(s);
	see_poll(s, ALL, 0);
	see_send(s, "after", 0);
	tell(s, 0);
	hear(s);
	wait_until(s, POLLIN);
	see_recv(s, 100, 0);
	tell(s, 0);
	hear(s);
	wait_until(s, POLLHUP);
	see_poll(s, ALL, 0);
	see_recv(s, 100, 0);
}

static void half_closed_reader(struct side *s)
{
	hear(s);
	see_poll(s, ALL, 0);
	see_recv(s, 5, 0);
	see_poll(s, ALL, 0);
	see_recv(s, 100, 0);
	see_recv(s, 100, 0);
	see_poll(s, ALL, 0);
	see_send(s, "answer", 0);
	tell(s, 0);
	hear(s);
	saw(s, "shutdown(WR) = %s", result(shutdown(s->fd, SHUT_WR)));
	delivered(s);
	tell(s, 0);
	see_poll(s, ALL, 0);
	see_recv(s, 100, 0);
}

static void close_after_data(struct side *s)
{
	put_text(s, "abcde");
	see_close(s);
	tell(s, 0);
}

static void read_to_the_end(struct side *s)
{
	hear(s);
	wait_until(s, POLLRDHUP);
	see_poll(s, ALL, 0);
	see_recv(s, 3, 0);
	see_recv(s, 100, 0);
	see_recv(s, 100, 0);
	see_poll(s, ALL, 0);
}

/* What the other end writes after we have stopped reading is taken and lost. */
static void stop_reading(struct side *s)
{
	saw(s, "shutdown(RD) = %s", result(shutdown(s->fd, SHUT_RD)));
	see_poll(s, ALL, 0);
	see_recv(s, 100, 0);
	meet(s);
	hear(s);
	see_recv(s, 100, 0);
	see_recv(s, 100, 0);
	see_send(s, "still", 0);
	delivered(s);
	tell(s, 0);
}

static void write_to_a_deaf_end(struct side *s)
{
	meet(s);
	see_send(s, "abcde", 0);
	delivered(s);
	tell(s, 0);
	hear(s);
	see_recv(s, 100, 0);
	see_poll(s, ALL, 0);
}

/* Who has ended both ways has nobody for what comes then: TCP answers with a reset, and the writer learns of it. */
static void stop_all(struct side *s)
{
	saw(s, "shutdown(RDWR) = %s", result(shutdown(s->fd, SHUT_RDWR)));
	see_poll(s, ALL, 0);
	tell(s, 0);
	hear(s);
	see_poll(s, ALL, 0);
	see_recv(s, 100, 0);
}

static void write_to_who_has_stopped(struct side *s)
{
	hear(s);
	wait_until(s, POLLRDHUP);
	see_send(s, "abcde", 0);
	wait_until(s, POLLHUP);
	see_send(s, "fghij", 0);
	see_poll(s, ALL, 0);
	tell(s, 0);
}

static void see_epoll(struct side *s, int ep, int ms)
{
	struct epoll_event e;
	int n = epoll_wait(ep, &e, 1, ms);

	saw(s, "epoll_wait = %s%s", n == 1 ? "" : result(n),
	    n == 1 ? events_name((short)(e.events & 0x7fff)) : "");
}

static void edges(struct side *s)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	must(s, epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e));
	see_epoll(s, ep, 0);
	for (int i = 0; i < 4; i++) {
		tell(s, 0);
		await(s);
		see_epoll(s, ep, 0);
		see_epoll(s, ep, 0);
		if (i != 1) /* once nothing is read before the next comes */
			see_recv(s, 100, 0);
	}
	tell(s, 0);
	hear(s);
	see_epoll(s, ep, 2000);
	see_epoll(s, ep, 0);
	see_recv(s, 100, 0);
}

static void make_edges(struct side *s)
{
	for (int i = 0; i < 4; i++) {
		hear(s);
		arrive(s, "edge");
	}
	hear(s);
	must(s, shutdown(s->fd, SHUT_WR));
	delivered(s);
	tell(s, 0);
}

/* ------------------------------------------------------------------ 18 to 20, 30: RST */

static void write_and_wait_for_the_end(struct side *s)
{
	arrive(s, "abcdefghij");
	hear(s);
	wait_until(s, POLLRDHUP);
	by_nature(s, true);
	see_poll(s, ALL, 0);
	see_recv(s, 100, 0);
	see_send(s, "more", 0);
	by_nature(s, false);
	wait_until(s, POLLHUP);
	see_send(s, "more", 0);
}

static void close_without_reading(struct side *s)
{
	await(s);
	see_close(s);
	tell(s, 0);
}

static void close_having_read_some(struct side *s)
{
	await(s);
	see_recv(s, 4, 0);
	see_close(s);
	tell(s, 0);
}

static void data_and_reset(struct side *s)
{
	arrive(s, "abcdefghij");
	hear(s);
	reset(s);
	tell(s, 0);
}

static void read_until_reset(struct side *s)
{
	await(s);
	see_recv(s, 4, 0);
	tell(s, 0);
	hear(s);
	wait_until(s, POLLHUP);
	see_poll(s, ALL, 0);
	see_recv(s, 4, 0);
	see_recv(s, 100, 0);
	see_recv(s, 100, 0);
	see_send(s, "more", 0);
	see_poll(s, ALL, 0);
}

static void reset_a_sleeper(struct side *s)
{
	hear(s);
	wait_asleep(s, s->peer);
	reset(s);
}

static void sleep_until_reset(struct side *s)
{
	tell(s, 0);
	see_recv(s, 100, 0);
	see_recv(s, 100, 0);
}

static void made_blocking_until_reset(struct side *s)
{
	saw(s, "clear O_NONBLOCK = %s", result(fcntl(s->fd, F_SETFL, 0)));
	by_nature(s, true);
	sleep_until_reset(s);
}

static void left_until_reset(struct side *s)
{
	saw(s, "clear O_NONBLOCK = %s", result(fcntl(s->fd, F_SETFL, 0)));
	meet(s);
	leave(s);
	meet(s);
	sleep_until_reset(s);
}

static void reset_when_left(struct side *s)
{
	meet(s);
	leave(s);
	meet(s);
	reset_a_sleeper(s);
}

static void reset_at_once(struct side *s)
{
	reset(s);
	tell(s, 0);
}

static void go_on_after_reset(struct side *s)
{
	hear(s);
	wait_until(s, POLLHUP);
	see_option(s, "SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 1);
	see_send(s, "one", 0);
	see_send(s, "two", 0);
	see_recv(s, 100, 0);
	see_poll(s, ALL, 0);
}

/* ------------------------------------------------------------------ 29: the socket is used again */

static void disconnect_and_reuse(struct side *s)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
	char data[8];

	saw(s, "connect(AF_UNSPEC) = %s", result(connect(s->fd, &nowhere, sizeof(nowhere))));
	tell(s, 0);
	hear(s);
	see_send(s, "lost", 0);
	must(s, fcntl(s->fd, F_SETFL, 0));
	saw(s, "connect = %s", result(connect(s->fd, (void *)&s->address, s->address_len)));
	must(s, fcntl(s->fd, F_SETFL, O_NONBLOCK));
	for (int i = 0; i < 50; i++) {
		put_text(s, "again...");
		get(s, data, sizeof(data));
	}
	saw(s, "50 messages \"%s\"", quoted(data, sizeof(data)));
	look(s);
	tell(s, 0);
	hear(s);
}

static void accept_again(struct side *s)
{
	char data[8];

	hear(s);
	wait_until(s, POLLHUP);
	see_poll(s, ALL, 0);
	see_recv(s, 100, 0);
	close(s->fd);
	tell(s, 0);
	s->fd = (int)must(s, accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	for (int i = 0; i < 50; i++) {
		get(s, data, sizeof(data));
		put(s, data, sizeof(data));
	}
	hear(s);
	saw(s, "50 messages \"%s\"", quoted(data, sizeof(data)));
	tell(s, 0);
}

/* ------------------------------------------------------------------ the table */

#define BLOCKED "weft looks at O_NONBLOCK once a second; until then EAGAIN where a blocking socket has none"
#define UNREAD "what was redirected is not in TCP's queue, so TCP sends FIN where it would send RST"

const struct row closing_rows[] = {
	{ "17", "half-close", "data, shutdown(WR), answers over the other half, then its end", data_and_fin,
	  half_closed_reader },
	{ "17", "close-after-data", "close() right after data", close_after_data, read_to_the_end },
	{ "17", "shutdown-read", "shutdown(RD), then the peer writes", write_to_a_deaf_end, stop_reading },
	{ "17", "shutdown-both", "shutdown(RDWR), then the peer writes", write_to_who_has_stopped, stop_all },
	{ "17", "edge-triggered", "EPOLLET: one event for each arrival, and for the end", make_edges, edges },
	{ "18", "close-unread", "close() with unread bytes", write_and_wait_for_the_end, close_without_reading,
	  .nature = UNREAD },
	{ "18", "close-half-read", "close() with bytes of a message unread", write_and_wait_for_the_end,
	  close_having_read_some, .nature = UNREAD },
	{ "19", "reset-after-data", "RST (linger 0) after data that is not read yet", data_and_reset,
	  read_until_reset },
	{ "20", "reset-blocked", "RST for a reader that sleeps in recv()", reset_a_sleeper, sleep_until_reset,
	  .flags = ROW_SERVER_BLOCKS },
	{ "20", "reset-made-blocking", "made blocking after a conversation, then RST for the sleeping reader",
	  reset_a_sleeper, made_blocking_until_reset, .nature = BLOCKED },
	{ "20", "reset-left", "the same once weft has let go of the connection", reset_when_left, left_until_reset },
	{ "29", "reuse", "connect(AF_UNSPEC), then connect() again with the same socket", disconnect_and_reuse,
	  accept_again, .flags = ROW_DIALS },
	{ "30", "after-reset", "a socket that is used on after the peer's RST", reset_at_once, go_on_after_reset },
	{},
};
