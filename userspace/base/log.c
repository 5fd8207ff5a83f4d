/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c: one line, one write(2). No allocation and no stdio: a line goes out even when memory is short,
 * and lines of several threads and processes on one stderr do not mix (pipes up to PIPE_BUF, files always).
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base.h"

#define LOG_MESSAGE 4096		 /* longer ones are cut and end in "..." */
#define LOG_LINE (6 * LOG_MESSAGE + 256) /* worst case: each byte becomes \u00xx */

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

static void emit(const struct line *l)
{
	size_t at = 0;

	while (at < l->len) {
		ssize_t n = write(STDERR_FILENO, l->byte + at, l->len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nobody to tell */
		at += (size_t)n;
	}
}

void log_open(const char *program, bool json, enum log_level max)
{
	text_copy(program_name, sizeof(program_name), program);
	as_json = json;
	most = max;
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
	l.len = 0;
	if (as_json)
		put_text(&l, "{\"time\":\"");
	put_time(&l);
	put_text(&l, as_json ? "\",\"level\":\"" : " ");
	put_text(&l, levels[level]);
	put_text(&l, as_json ? "\",\"program\":\"" : " ");
	put_escaped(&l, program_name);
	put_text(&l, as_json ? "\",\"message\":\"" : ": ");
	put_escaped(&l, message);
	put_text(&l, as_json ? "\"}\n" : "\n");
	emit(&l);
	errno = saved;
}
