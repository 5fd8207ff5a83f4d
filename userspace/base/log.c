/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c: one line, one write(2). No allocation and no stdio: a line goes out even when memory is short,
 * and lines of several threads and processes on one stderr do not mix (pipes up to PIPE_BUF, files always).
 *
 * Who writes does not wait for who reads: these are the threads of the data plane. What there is no room for is lost,
 * counted, and told of before the next line that goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base.h"

#define LOG_MESSAGE 4096		 /* longer ones are cut and end in "..." */
#define LOG_LINE (6 * LOG_MESSAGE + 256) /* worst case: each byte becomes \u00xx */
#define LOG_PIPE (1 << 20)		 /* bytes, if it may be so large: for a reader that is away for a moment */

static const char *const levels[] = {
	[LOG_ERROR] = "error",
	[LOG_WARNING] = "warning",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

/* Written by log_open, before threads start. */
static char program_name[64] = "weft";
static bool as_json;
static enum log_level most = LOG_INFO;
static enum {
	PLAIN,	/* a file, or open in a way of its own that does not wait */
	SOCKET, /* asked each time not to */
	LOOK,	/* neither can be had: poll() first, which is not sure where others write too */
} way;

static atomic_uint lost; /* messages, since that was told last */
static atomic_bool torn; /* of the last one that went the end is missing */

struct line {
	char byte[LOG_LINE];
	size_t len;
};

static void put(struct line *l, const char *s, size_t len)
{
	if (len > sizeof(l->byte) - l->len)
		len = sizeof(l->byte) - l->len;
	memcpy(l->byte + l->len, s, len);
	l->len += len;
}

static void put_text(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

/* C0 controls, DEL and C1 (a terminal obeys U+009B as it does ESC [). */
static bool is_control(const unsigned char *s)
{
	return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

static void put_escaped(struct line *l, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	char code[8];

	while (*s) {
		size_t i, len = text_utf8((const char *)s);

		if (len && !is_control(s)) {
			if (as_json && (*s == '"' || *s == '\\'))
				put(l, "\\", 1);
			put(l, (const char *)s, len);
			s += len;
			continue;
		}
		if (as_json) {
			/* A byte that is no text has no JSON form: U+FFFD stands for it (Unicode 3.9). */
			unsigned point = len == 2 ? s[1] : s[0];

			snprintf(code, sizeof(code), "\\u%04x", len ? point : 0xfffd);
			put_text(l, code);
			s += len ? len : 1;
			continue;
		}
		for (i = 0; i < (len ? len : 1); i++, s++) {
			snprintf(code, sizeof(code), "\\x%02x", *s);
			if (*s == '\n' || *s == '\t')
				text_copy(code, sizeof(code), *s == '\n' ? "\\n" : "\\t");
			put_text(l, code);
		}
	}
}

static void put_time(struct line *l)
{
	struct timespec ts;
	char s[40], whole[24];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (!gmtime_r(&ts.tv_sec, &tm))
		tm = (struct tm){.tm_mday = 1, .tm_year = 70};
	strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(s, sizeof(s), "%s.%03uZ", whole, (unsigned)(ts.tv_nsec / 1000000) % 1000);
	put_text(l, s);
}

static ssize_t put_out(const char *byte, size_t len)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (way == SOCKET)
		return send(STDERR_FILENO, byte, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (way == LOOK && poll(&p, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (way == LOOK && len > PIPE_BUF) /* pipe(7): for so much there is room, and for more it would wait */
		len = PIPE_BUF;
	return write(STDERR_FILENO, byte, len);
}

/* false: lost, or a part of it, or there is nobody to tell */
static bool emit(const struct line *l)
{
	size_t at = 0;

	while (at < l->len) {
		ssize_t n = put_out(l->byte + at, l->len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += (size_t)n;
		if (at < l->len || atomic_load(&torn))
			atomic_store(&torn, at < l->len);
	}
	return true;
}

static void compose(struct line *l, enum log_level level, const char *message)
{
	l->len = 0;
	if (atomic_load(&torn))
		put_text(l, "\n");
	if (as_json)
		put_text(l, "{\"time\":\"");
	put_time(l);
	put_text(l, as_json ? "\",\"level\":\"" : " ");
	put_text(l, levels[level]);
	put_text(l, as_json ? "\",\"program\":\"" : " ");
	put_escaped(l, program_name);
	put_text(l, as_json ? "\",\"message\":\"" : ": ");
	put_escaped(l, message);
	put_text(l, as_json ? "\"}\n" : "\n");
}

/* false: there is no room for that either */
static bool tell_lost(struct line *l)
{
	unsigned count = atomic_load(&lost) ? atomic_exchange(&lost, 0) : 0;
	char message[64];

	if (!count)
		return true;
	(void)snprintf(message, sizeof(message), "%u message%s lost: the log had no room", count, text_plural(count));
	compose(l, LOG_WARNING, message);
	if (emit(l))
		return true;
	atomic_fetch_add(&lost, count);
	return false;
}

/*
 * O_NONBLOCK is of an open file, and this one is shared with whoever gave it to us: a pipe or a terminal is opened once
 * more. The worker has it from us.
 */
static void wait_never(void)
{
	int flags = fcntl(STDERR_FILENO, F_GETFL), fd;
	struct stat st;

	way = PLAIN;
	if (flags < 0 || fstat(STDERR_FILENO, &st))
		return;
	if (S_ISSOCK(st.st_mode))
		way = SOCKET;
	if (flags & O_NONBLOCK || !(S_ISFIFO(st.st_mode) || isatty(STDERR_FILENO)))
		return;
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		way = LOOK;
	if (fd >= 0)
		close(fd);
	if (S_ISFIFO(st.st_mode) && fcntl(STDERR_FILENO, F_GETPIPE_SZ) < LOG_PIPE)
		(void)fcntl(STDERR_FILENO, F_SETPIPE_SZ, LOG_PIPE);
}

void log_open(const char *program, bool json, enum log_level max)
{
	text_copy(program_name, sizeof(program_name), program);
	as_json = json;
	most = max;
	wait_never();
}

bool log_wants(enum log_level level)
{
	return level <= most;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char message[LOG_MESSAGE];
	int n, saved = errno;
	struct line l;
	va_list ap;

	if (level > most)
		return;
	va_start(ap, fmt);
	errno = saved; /* for %m */
	n = vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	if (n < 0)
		text_copy(message, sizeof(message), fmt);
	if (n >= (int)sizeof(message))
		text_copy(message + sizeof(message) - 4, 4, "...");
	if (tell_lost(&l)) {
		compose(&l, level, message);
		if (emit(&l)) {
			errno = saved;
			return;
		}
	}
	atomic_fetch_add(&lost, 1);
	errno = saved;
}
