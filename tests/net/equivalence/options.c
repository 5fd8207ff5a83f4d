// SPDX-License-Identifier: Apache-2.0
/* options.c: rows about socket options that change what a reader sees, set before the connection and while it lives. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static void one_message(struct side *s)
{
	arrive(s, "abcde");
}

/* The reader changes something; then the writer's message comes. */
static void one_message_when_told(struct side *s)
{
	hear(s);
	arrive(s, "abcde");
}

/* A message comes, the reader changes something while it waits, another message comes. */
static void one_message_before_one_after(struct side *s)
{
	arrive(s, "ABC");
	hear(s);
	arrive(s, "abcde");
}

/* How many calls it takes is not promised. */
static void read_all(struct side *s, size_t len)
{
	char data[100];

	get(s, data, len);
	saw(s, "read \"%s\"", quoted(data, len));
}

/* ------------------------------------------------------------------ 2: SO_RCVLOWAT */

static void low_water(struct side *s)
{
	if (!s->client)
		see_option(s, "SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 10);
}

static void two_messages(struct side *s)
{
	arrive(s, "abcde");
	hear(s);
	arrive(s, "fghij");
	hear(s);
	arrive(s, "klm");
}

static void above_low_water(struct side *s)
{
	await(s);
	see_poll(s, POLLIN, 0);
	tell(s, 0);
	await(s);
	see_poll(s, POLLIN, 0);
	see_recv(s, 100, 0);
	tell(s, 0);
	await(s);
	see_poll(s, POLLIN, 0);
	see_recv(s, 100, 0);
}

static void two_messages_when_told(struct side *s)
{
	hear(s);
	two_messages(s);
}

static void low_water_live(struct side *s)
{
	low_water(s);
	tell(s, 0);
	above_low_water(s);
}

static void low_water_queued(struct side *s)
{
	await(s);
	see_poll(s, POLLIN, 0);
	low_water(s);
	by_nature(s, true);
	see_poll(s, POLLIN, 0);
	tell(s, 0);
	await(s);
	see_poll(s, POLLIN, 0);
	by_nature(s, false);
	read_all(s, 8);
	tell(s, 0);
	above_low_water(s);
}

static void one_before_three_after(struct side *s)
{
	one_message_before_one_after(s);
	hear(s);
	two_messages(s);
}

/* ------------------------------------------------------------------ control messages */

static const char *stamps_name(const struct scm_timestamping *t)
{
	return t->ts[0].tv_sec ? (t->ts[2].tv_sec ? "software and hardware" : "software")
			       : (t->ts[2].tv_sec ? "hardware" : "empty");
}

static void see_control(struct side *s, const struct cmsghdr *c)
{
	struct scm_timestamping t;
	struct sock_extended_err e;
	int inq;

	if (c->cmsg_level == IPPROTO_TCP && c->cmsg_type == TCP_CM_INQ) {
		memcpy(&inq, CMSG_DATA(c), sizeof(inq));
		saw(s, "with TCP_INQ %d", inq);
	} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING) {
		memcpy(&t, CMSG_DATA(c), sizeof(t));
		saw(s, "with timestamping %s", stamps_name(&t));
	} else if (c->cmsg_level == SOL_SOCKET) {
		saw(s, "with %s", c->cmsg_type == SO_TIMESTAMP ? "timestamp" : c->cmsg_type == SO_TIMESTAMPNS
			? "timestamp in ns" : "other");
	} else if (c->cmsg_type == (c->cmsg_level == SOL_IPV6 ? IPV6_RECVERR : IP_RECVERR)) {
		memcpy(&e, CMSG_DATA(c), sizeof(e));
		saw(s, "with error %u origin %u type %u code %u, %u to %u", e.ee_errno, e.ee_origin, e.ee_type,
		    e.ee_code, e.ee_info, e.ee_data);
	}
}

static ssize_t see_recvmsg(struct side *s, size_t len, int flags)
{
	char data[4096], control[512];
	struct iovec iov = { data, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(s->fd, &m, flags);

	saw(s, "recvmsg(%zu%s) = %s \"%s\"", len, flags & MSG_ERRQUEUE ? ", ERRQUEUE" : "", result(n),
	    n > 0 ? quoted(data, (size_t)n) : "");
	for (struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL; c; c = CMSG_NXTHDR(&m, c))
		see_control(s, c);
	return n;
}

/* ------------------------------------------------------------------ 14: TCP_INQ */

static void inq(struct side *s)
{
	if (!s->client)
		see_option(s, "TCP_INQ", IPPROTO_TCP, TCP_INQ, 1);
}

static void see_inq(struct side *s)
{
	await(s);
	see_recvmsg(s, 3, 0);
	see_recvmsg(s, 100, 0);
}

static void see_inq_live(struct side *s)
{
	inq(s);
	tell(s, 0);
	see_inq(s);
}

static void see_inq_queued(struct side *s)
{
	await(s);
	inq(s);
	by_nature(s, true);
	see_recvmsg(s, 3, 0);
	by_nature(s, false);
	tell(s, 0);
	see_inq(s);
}

/* ------------------------------------------------------------------ 16: timestamps */

/*
 * The kernel begins to stamp packets some time after the first socket asked for it (a work queue flips a static key).
 * A UDP socket of our own, kept until the process ends, asks first, and shows when it has begun.
 */
static void stamping_has_begun(struct side *s)
{
	int flags = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	must(s, setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags)));
	must(s, bind(fd, (void *)&a, sizeof(a)));
	must(s, getsockname(fd, (void *)&a, &len));
	for (int i = 0; i < 2000; i++) {
		char data[8], control[256];
		struct iovec iov = { data, sizeof(data) };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				    .msg_controllen = sizeof(control) };

		must(s, sendto(fd, "x", 1, 0, (void *)&a, sizeof(a)));
		must(s, recvmsg(fd, &m, 0));
		if (CMSG_FIRSTHDR(&m))
			return;
		nap(1);
	}
	failed(s, "the kernel does not stamp packets");
}

static void stamp(struct side *s)
{
	if (s->client)
		return;
	stamping_has_begun(s);
	see_option(s, "SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP, 1);
}

static void stamp_ns(struct side *s)
{
	if (s->client)
		return;
	stamping_has_begun(s);
	see_option(s, "SO_TIMESTAMPNS", SOL_SOCKET, SO_TIMESTAMPNS, 1);
}

static void stamping(struct side *s)
{
	if (s->client)
		return;
	stamping_has_begun(s);
	see_option(s, "SO_TIMESTAMPING", SOL_SOCKET, SO_TIMESTAMPING,
		   SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE);
}

static void see_stamp(struct side *s)
{
	await(s);
	see_recvmsg(s, 100, 0);
}

static void stamp_live(struct side *s)
{
	stamp(s);
	tell(s, 0);
	see_stamp(s);
}

static void stamp_ns_live(struct side *s)
{
	stamp_ns(s);
	tell(s, 0);
	see_stamp(s);
}

static void stamping_live(struct side *s)
{
	stamping(s);
	tell(s, 0);
	see_stamp(s);
}

static void stamp_sent(struct side *s)
{
	if (s->client)
		see_option(s, "SO_TIMESTAMPING", SOL_SOCKET, SO_TIMESTAMPING,
			   SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE |
				   SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY);
}

static void see_stamps_of_sent(struct side *s)
{
	put_text(s, "abcde");
	delivered(s);
	for (int i = 0; i < 2; i++) {
		wait_for(s->fd, 0, 500);
		see_recvmsg(s, 100, MSG_ERRQUEUE);
	}
	tell(s, 0);
}

static void see_stamps_of_sent_live(struct side *s)
{
	stamp_sent(s);
	see_stamps_of_sent(s);
}

static void hear_and_read(struct side *s)
{
	hear(s);
	see_recv(s, 100, 0);
}

/* ------------------------------------------------------------------ 13: TCP_INFO */

static struct tcp_info info(struct side *s)
{
	struct tcp_info i = {};
	socklen_t len = sizeof(i);

	must(s, getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &i, &len));
	return i;
}

static void info_writer(struct side *s)
{
	struct tcp_info before = info(s), after;

	put_text(s, "0123456789");
	delivered(s);
	after = info(s);
	by_nature(s, true);
	saw(s, "TCP_INFO bytes_acked +%llu, state %u", after.tcpi_bytes_acked - before.tcpi_bytes_acked,
	    after.tcpi_state);
	tell(s, 0);
}

static void info_reader(struct side *s)
{
	struct tcp_info before = info(s), after;

	meet(s);
	hear(s);
	see_recv(s, 100, 0);
	after = info(s);
	by_nature(s, true);
	saw(s, "TCP_INFO bytes_received +%llu, state %u", after.tcpi_bytes_received - before.tcpi_bytes_received,
	    after.tcpi_state);
}

static void info_client(struct side *s)
{
	meet(s);
	info_writer(s);
}

/* ------------------------------------------------------------------ 36: keepalive and what options say */

static void see_options(struct side *s)
{
	static const struct {
		const char *name;
		int level, option;
	} options[] = {
		{ "SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE }, { "SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT },
		{ "SO_ERROR", SOL_SOCKET, SO_ERROR },	      { "SO_TYPE", SOL_SOCKET, SO_TYPE },
		{ "SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL },   { "SO_PRIORITY", SOL_SOCKET, SO_PRIORITY },
		{ "SO_MARK", SOL_SOCKET, SO_MARK },	      { "SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY },
		{ "TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY },  { "TCP_CORK", IPPROTO_TCP, TCP_CORK },
		{ "TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE },	{ "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL },
		{ "TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT },	{ "TCP_INQ", IPPROTO_TCP, TCP_INQ },
		{ "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT },
		{ "TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT },
		{ "TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		int value = -1;
		socklen_t len = sizeof(value);
		int rc = getsockopt(s->fd, options[i].level, options[i].option, &value, &len);

		saw(s, "%s = %s", options[i].name, result(rc ? rc : value));
	}
	saw(s, "O_NONBLOCK %s", fcntl(s->fd, F_GETFL) & O_NONBLOCK ? "set" : "clear");
}

static void keep_alive(struct side *s)
{
	see_option(s, "SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1);
	see_option(s, "TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 1);
	see_option(s, "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 1);
	see_option(s, "TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 1);
	see_option(s, "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 400);
}

/* 2.4 s of one-way messages, longer than idle + interval. The time is what the row is about. */
static void busy(struct side *s)
{
	for (int i = 0; i < 24; i++) {
		put_text(s, "tick");
		nap(100);
	}
	delivered(s);
	tell(s, 0);
	see_poll(s, POLLIN | POLLOUT | POLLRDHUP, 0);
}

static void listen_to_it(struct side *s)
{
	char data[4];

	for (int i = 0; i < 24; i++)
		get(s, data, 4);
	hear(s);
	see_poll(s, POLLIN | POLLOUT | POLLRDHUP, 0);
	saw(s, "all came");
}

/* ------------------------------------------------------------------ the table */

#define QUEUED "bytes that wait in the splice queue when an option is set keep what they came with until they are read"
#define COUNTERS "they count what TCP carried; weft's own counters have both"

const struct row options_rows[] = {
	{ "2", "lowat", "SO_RCVLOWAT set on the listener; poll() below and above it", two_messages, above_low_water,
	  .before = low_water },
	{ "2", "lowat-live", "SO_RCVLOWAT set after a conversation", two_messages_when_told, low_water_live },
	{ "2", "lowat-queued", "SO_RCVLOWAT set while bytes wait, and after them", one_before_three_after,
	  low_water_queued, .nature = QUEUED },
	{ "13", "tcp-info", "TCP_INFO byte counts of both ends", info_client, info_reader, .nature = COUNTERS },
	{ "14", "inq", "TCP_INQ set on the listener", one_message, see_inq, .before = inq },
	{ "14", "inq-live", "TCP_INQ set after a conversation", one_message_when_told, see_inq_live },
	{ "14", "inq-queued", "TCP_INQ set while bytes wait, and after them", one_message_before_one_after,
	  see_inq_queued, .nature = QUEUED },
	{ "16", "timestamp", "SO_TIMESTAMP set on the listener", one_message, see_stamp, .before = stamp },
	{ "16", "timestamp-live", "SO_TIMESTAMP set after a conversation", one_message_when_told, stamp_live },
	{ "16", "timestampns", "SO_TIMESTAMPNS set on the listener", one_message, see_stamp, .before = stamp_ns },
	{ "16", "timestampns-live", "SO_TIMESTAMPNS set after a conversation", one_message_when_told, stamp_ns_live },
	{ "16", "timestamping", "SO_TIMESTAMPING of received messages, set on the listener", one_message, see_stamp,
	  .before = stamping },
	{ "16", "timestamping-live", "SO_TIMESTAMPING of received messages, set after a conversation",
	  one_message_when_told, stamping_live },
	{ "16", "timestamping-sent-live", "SO_TIMESTAMPING of sent messages, set after a conversation",
	  see_stamps_of_sent_live, hear_and_read },
	{ "36", "options", "what getsockopt says of options that nobody set", see_options, see_options },
	{ "36", "keepalive", "keepalive of 1 s and TCP_USER_TIMEOUT on a connection that is busy one way", busy,
	  listen_to_it, .early = keep_alive },
	{},
};
