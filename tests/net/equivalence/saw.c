// SPDX-License-Identifier: Apache-2.0
/* saw.c: what the sides of a row do and write down: see equivalence.h. */
#include "equivalence.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 5000
#define TCP_STATE_CLOSED 7 /* include/net/tcp_states.h */

static void write_line(struct side *s, const char *first, const char *format, va_list args)
{
	char line[1200];
	int at = snprintf(line, sizeof(line), "%s", first);
	int len = vsnprintf(line + at, sizeof(line) - (size_t)at - 1, format, args);

	at += len < (int)sizeof(line) - at - 1 ? len : (int)sizeof(line) - at - 2;
	line[at++] = '\n';
	if (write(s->out, line, (size_t)at) != at)
		_exit(3);
}

void saw(struct side *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(s, s->nature ? "^ " : "", format, args);
	va_end(args);
}

void by_nature(struct side *s, bool on)
{
	s->nature = on;
}

void absent(struct side *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(s, "absent: ", format, args);
	va_end(args);
	_exit(0);
}

void failed(struct side *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(s, "failed: ", format, args);
	va_end(args);
	_exit(1);
}

const char *result(ssize_t n)
{
	static char text[4][48];
	static unsigned at;
	char *ret = text[at++ % 4];

	if (n >= 0)
		snprintf(ret, sizeof(text[0]), "%zd", n);
	else
		snprintf(ret, sizeof(text[0]), "-1 %s", strerrorname_np(errno) ?: "?");
	return ret;
}

/* ------------------------------------------------------------------ the other side */

void tell(struct side *s, long number)
{
	if (write(s->other, &number, sizeof(number)) != sizeof(number))
		_exit(0);
}

long hear(struct side *s)
{
	long number;

	if (TEMP_FAILURE_RETRY(read(s->other, &number, sizeof(number))) != sizeof(number)) {
		if (s->row->flags & ROW_ENDS)
			saw(s, "ended: the other side");
		_exit(0);
	}
	return number;
}

void meet(struct side *s)
{
	tell(s, 0);
	hear(s);
}

void nap(int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* A task that has said that it goes to sleep, and sleeps (state S), sleeps where it meant to. */
void wait_asleep(struct side *s, pid_t task)
{
	char path[64], text[512];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", s->peer, task);
	for (int left = PATIENCE_MS; left > 0; left--) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		const char *state;

		if (fd >= 0)
			close(fd);
		if (len <= 0)
			failed(s, "%s: %s", path, result(-1));
		text[len] = 0;
		state = strrchr(text, ')');
		if (state && state[2] == 'S')
			return;
		nap(1);
	}
	failed(s, "task %d does not sleep", task);
}

bool wait_for(int fd, short events, int ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	return TEMP_FAILURE_RETRY(poll(&p, 1, ms)) > 0;
}

/* ------------------------------------------------------------------ the end by weft */

/* In a row in which weft may end the connection, its end is an outcome, not a failure: then this does not return. */
void if_ended(struct side *s, const char *what)
{
	int error = errno;
	struct tcp_info i = {};
	socklen_t len = sizeof(i);

	if (!(s->row->flags & ROW_ENDS))
		return;
	if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &i, &len) || i.tcpi_state != TCP_STATE_CLOSED) {
		errno = error;
		return;
	}
	saw(s, "ended: %s", what);
	_exit(0);
}

/* ------------------------------------------------------------------ quietly */

static bool again(int error)
{
	return error == EAGAIN || error == EINTR;
}

void put(struct side *s, const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t n = send(s->fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && !again(errno))
			if_ended(s, "send");
		if (n < 0 && (!again(errno) || !wait_for(s->fd, POLLOUT, PATIENCE_MS)))
			failed(s, "send: %s", result(n));
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
}

void get(struct side *s, void *data, size_t len)
{
	char *at = data;

	while (len) {
		ssize_t n = recv(s->fd, at, len, 0);

		if (n <= 0 && !again(errno))
			if_ended(s, "recv");
		if (n == 0 || (n < 0 && (!again(errno) || !wait_for(s->fd, POLLIN, PATIENCE_MS))))
			failed(s, "recv: %s, %zu bytes missing", result(n), len);
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
}

void put_text(struct side *s, const char *text)
{
	put(s, text, strlen(text));
}

/*
 * SIOCOUTQ counts what TCP has not acknowledged, so 0 says that the bytes are in the peer's receive queue; what was
 * redirected was there before send() returned.
 */
void delivered(struct side *s)
{
	int left = -1;

	for (int ms = PATIENCE_MS; ms > 0; ms--) {
		if (ioctl(s->fd, SIOCOUTQ, &left))
			failed(s, "SIOCOUTQ: %s", result(-1));
		if (!left)
			return;
		if_ended(s, "send");
		nap(1);
	}
	failed(s, "%d bytes were not acknowledged", left);
}

void arrive(struct side *s, const char *text)
{
	put_text(s, text);
	delivered(s);
	tell(s, 1);
}

void await(struct side *s)
{
	hear(s);
}

/* ------------------------------------------------------------------ written down */

const char *quoted(const void *data, size_t len)
{
	static char text[160];
	size_t at = 0;

	for (size_t i = 0; i < len && i < 80; i++) {
		unsigned char c = ((const unsigned char *)data)[i];

		text[at++] = c >= ' ' && c < 127 ? (char)c : '?';
	}
	snprintf(text + at, sizeof(text) - at, "%s", len > 80 ? "..." : "");
	return text;
}

static const char *flags_name(int flags)
{
	static const struct {
		int flag;
		const char *name;
	} names[] = { { MSG_OOB, "OOB" },	{ MSG_PEEK, "PEEK" }, { MSG_WAITALL, "WAITALL" },
		      { MSG_TRUNC, "TRUNC" },	{ MSG_MORE, "MORE" }, { MSG_DONTWAIT, "DONTWAIT" },
		      { MSG_ZEROCOPY, "ZEROCOPY" } };
	static char text[80];

	text[0] = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t at = strlen(text);

		if (flags & names[i].flag)
			snprintf(text + at, sizeof(text) - at, ", %s", names[i].name);
	}
	return text;
}

ssize_t see_recv(struct side *s, size_t len, int flags)
{
	char data[4096];
	ssize_t n = recv(s->fd, data, len < sizeof(data) ? len : sizeof(data), flags);

	if (n < 0 && errno != EAGAIN)
		if_ended(s, "recv");
	if (n > 0)
		saw(s, "recv(%zu%s) = %zd \"%s\"", len, flags_name(flags), n, quoted(data, (size_t)n));
	else
		saw(s, "recv(%zu%s) = %s", len, flags_name(flags), result(n));
	return n;
}

ssize_t see_send(struct side *s, const char *text, int flags)
{
	ssize_t n = send(s->fd, text, strlen(text), flags | MSG_NOSIGNAL);

	saw(s, "send(\"%s\"%s) = %s", quoted(text, strlen(text)), flags_name(flags), result(n));
	return n;
}

const char *events_name(short events)
{
	static const struct {
		short event;
		const char *name;
	} names[] = { { POLLIN, "IN" },	  { POLLPRI, "PRI" }, { POLLOUT, "OUT" },     { POLLERR, "ERR" },
		      { POLLHUP, "HUP" }, { POLLNVAL, "NVAL" }, { POLLRDHUP, "RDHUP" } };
	static char text[80];

	text[0] = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t at = strlen(text);

		if (events & names[i].event)
			snprintf(text + at, sizeof(text) - at, "%s%s", at ? "|" : "", names[i].name);
	}
	return text[0] ? text : "none";
}

int see_poll(struct side *s, short events, int ms)
{
	struct pollfd p = { .fd = s->fd, .events = events };
	int n = TEMP_FAILURE_RETRY(poll(&p, 1, ms));
	char asked[80];

	snprintf(asked, sizeof(asked), "%s", events_name(events));
	saw(s, "poll(%s) = %s", asked, n < 0 ? result(n) : events_name(p.revents));
	return p.revents;
}

int see_ioctl(struct side *s, const char *name, unsigned long request)
{
	int value = -1;
	int rc = ioctl(s->fd, request, &value);

	saw(s, "%s = %s", name, rc ? result(rc) : result(value));
	return value;
}

int see_option(struct side *s, const char *name, int level, int option, int value)
{
	int rc = setsockopt(s->fd, level, option, &value, sizeof(value));

	saw(s, "set %s %d = %s", name, value, result(rc));
	return rc;
}

void see_end(struct side *s)
{
	char data[65536];
	size_t total = 0;

	for (;;) {
		ssize_t n = recv(s->fd, data, sizeof(data), 0);

		if (n > 0) {
			total += (size_t)n;
		} else if (n == 0 || errno != EAGAIN || !wait_for(s->fd, POLLIN, PATIENCE_MS)) {
			saw(s, "after %zu bytes: %s", total, n ? result(n) : "end");
			return;
		}
	}
}

/* ------------------------------------------------------------------ bytes that tell their place */

static unsigned char pattern_at(size_t offset)
{
	return (unsigned char)((offset * 2654435761u) >> 13);
}

void pattern(unsigned char *data, size_t len, size_t offset)
{
	for (size_t i = 0; i < len; i++)
		data[i] = pattern_at(offset + i);
}

bool pattern_holds(const unsigned char *data, size_t len, size_t offset)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != pattern_at(offset + i))
			return false;
	}
	return true;
}
