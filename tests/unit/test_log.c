/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines: as a reader of stderr gets them. jansson is the judge of JSON. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base.h"

static int reader = -1, old_stderr = -1;

/* A packet socket: each write(2) arrives as one packet, so "one line, one write" shows. */
static int setup(void **state)
{
	int pair[2], size = 1 << 20;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0)
		return -1;
	old_stderr = dup(STDERR_FILENO);
	reader = pair[0];
	if (dup2(pair[1], STDERR_FILENO) < 0)
		return -1;
	close(pair[1]);
	return 0;
}

static int teardown(void **state)
{
	dup2(old_stderr, STDERR_FILENO);
	close(old_stderr);
	close(reader);
	return 0;
}

/* The next line; NULL: none was written. */
static const char *next(void)
{
	static char line[65536];
	ssize_t n = recv(reader, line, sizeof(line) - 1, MSG_DONTWAIT);

	if (n < 0)
		return NULL;
	line[n] = 0;
	return line;
}

static void text_line(void **state)
{
	const char *line;
	int year, month, day, hour, minute, second, ms, at = 0;

	log_open("weft-test", false, LOG_INFO);
	log_warning("pod %s key=%d", "shop/web", 7);
	line = next();
	assert_non_null(line);
	assert_int_equal(sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour, &minute, &second,
				&ms, &at),
			 7);
	assert_int_equal(at, 24);
	assert_in_range(year, 2020, 2200);
	assert_string_equal(line + at, " warning weft-test: pod shop/web key=7\n");
	assert_null(next());
}

static void levels(void **state)
{
	log_open("weft-test", false, LOG_WARNING);
	log_error("a");
	assert_non_null(strstr(next(), " error weft-test: a\n"));
	log_info("b");
	log_debug("c");
	assert_null(next());
	log_open("weft-test", false, LOG_DEBUG);
	log_info("b");
	assert_non_null(strstr(next(), " info weft-test: b\n"));
	log_debug("c");
	assert_non_null(strstr(next(), " debug weft-test: c\n"));
}

static void errno_survives_and_shows(void **state)
{
	log_open("weft-test", false, LOG_INFO);
	errno = ENOENT;
	log_error("open: %m");
	assert_int_equal(errno, ENOENT);
	assert_non_null(strstr(next(), ": open: No such file or directory\n"));
}

static void controls_are_escaped(void **state)
{
	log_open("weft-test", false, LOG_INFO);
	log_info("%s", "a\nb\tc\x1b[31m\x7f\x01 \xc2\x9b");
	assert_non_null(strstr(next(), ": a\\nb\\tc\\x1b[31m\\x7f\\x01 \\xc2\\x9b\n"));
	log_info("%s", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d");
	assert_non_null(strstr(next(), ": gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d\n"));
	/* overlong, a surrogate, too large, cut short, a lone continuation */
	log_info("%s", "\xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82 \x80");
	assert_non_null(strstr(next(), ": \\xc0\\xaf \\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80 \\xe2\\x82 \\x80\n"));
}

static void json_line(void **state)
{
	json_t *j;

	log_open("weft-test", true, LOG_INFO);
	log_error("say \"%s\" \\ %s", "x", "gr\xc3\xbc\xc3\x9f\n\xff");
	j = json_loads(next(), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	assert_int_equal(json_object_size(j), 4);
	assert_string_equal(json_string_value(json_object_get(j, "level")), "error");
	assert_string_equal(json_string_value(json_object_get(j, "program")), "weft-test");
	assert_string_equal(json_string_value(json_object_get(j, "message")),
			    "say \"x\" \\ gr\xc3\xbc\xc3\x9f\n\xef\xbf\xbd");
	assert_int_equal(strlen(json_string_value(json_object_get(j, "time"))), 24);
	json_decref(j);
}

/* Whatever bytes come: JSON that a strict reader takes; text without a control byte; always one packet. */
static void any_bytes(void **state)
{
	unsigned i, j;

	srandom(9);
	for (i = 0; i < 20000; i++) {
		char s[64];
		const char *line;
		unsigned len = (unsigned)random() % sizeof(s);

		for (j = 0; j < len; j++)
			s[j] = (char)(random() % 3 ? 0x80 + random() % 0x80 : random() % 0x80);
		s[len < sizeof(s) ? len : sizeof(s) - 1] = 0;
		log_open("weft-test", i % 2, LOG_INFO);
		log_info("%s", s);
		line = next();
		assert_non_null(line);
		if (i % 2) {
			json_t *parsed = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

			if (!parsed)
				fail_msg("not JSON: %s", line);
			json_decref(parsed);
		}
		for (j = 0; line[j + 1]; j++)
			if ((unsigned char)line[j] < 0x20 || line[j] == 0x7f)
				fail_msg("a control byte at %u", j);
		assert_int_equal(line[j], '\n');
	}
	assert_null(next());
}

static void long_lines_are_cut(void **state)
{
	char *s = calloc(1, 100001);
	const char *line;
	json_t *j;

	memset(s, 1, 100000); /* the worst: six bytes of JSON each */
	log_open("weft-test", true, LOG_INFO);
	log_info("%s", s);
	line = next();
	j = json_loads(line, 0, NULL);
	assert_non_null(j);
	assert_true(text_ends(json_string_value(json_object_get(j, "message")), "..."));
	json_decref(j);
	memset(s, 'x', 100000);
	log_open("weft-test", false, LOG_INFO);
	log_info("%s", s);
	assert_true(text_ends(next(), "xx...\n"));
	assert_null(next());
	free(s);
}

static void a_reader_that_left_is_no_harm(void **state)
{
	int keep = dup(STDERR_FILENO);

	close(STDERR_FILENO);
	log_open("weft-test", false, LOG_INFO);
	log_info("nobody hears");
	dup2(keep, STDERR_FILENO);
	close(keep);
	assert_null(next());
}

/* ------------------------------------------------------------------ nobody reads */

#define MORE 20000 /* lines of more than 100 bytes than a pipe or a socket holds */
#define EVER 60   /* seconds until one that waits for a reader is ended */

struct heard {
	unsigned whole, parts; /* lines: with a time and an end, and others */
	unsigned lost;	       /* as was told */
	size_t kept;	       /* bytes of the line that has not ended yet */
	char line[65536];
};

static void hear_line(struct heard *h, const char *line)
{
	const char *told = strstr(line, " lost: the log had no room");
	unsigned n;

	if (told) {
		while (told > line && told[-1] != ':' && told[-1] != '"')
			told--;
		assert_int_equal(sscanf(told, "%u message", &n), 1);
		h->lost += n;
	} else if (*line == '{') {
		json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

		h->whole += !!j;
		h->parts += !j;
		json_decref(j);
	} else {
		assert_int_equal(strncmp(line, "20", 2), 0);
		h->whole++;
	}
}

/* All that is there. */
static void hear(struct heard *h, int fd)
{
	ssize_t n;

	while ((n = read(fd, h->line + h->kept, sizeof(h->line) - h->kept - 1)) > 0) {
		char *at = h->line, *end;

		h->kept += (size_t)n;
		h->line[h->kept] = 0;
		for (; (end = strchr(at, '\n')); at = end + 1) {
			*end = 0;
			hear_line(h, at);
		}
		h->kept -= (size_t)(at - h->line);
		memmove(h->line, at, h->kept);
	}
}

/* stderr is to[1], and there is nobody at to[0] */
static void become(const int to[2], bool json)
{
	static struct heard before; /* of other tests */

	assert_true(dup2(to[1], STDERR_FILENO) >= 0);
	assert_int_equal(fcntl(to[0], F_SETFL, O_NONBLOCK), 0);
	alarm(EVER);
	log_open("weft-test", json, LOG_INFO);
	log_info("begins");
	hear(&before, to[0]);
}

static void part_with(const int to[2])
{
	alarm(0);
	close(to[0]);
	close(to[1]);
}

static void waits_for_nobody(const int to[2])
{
	struct heard h = {0};

	become(to, false);
	for (unsigned i = 0; i < MORE; i++)
		log_info("%0100u", i);
	assert_int_equal(fcntl(to[1], F_GETFL) & O_NONBLOCK, 0); /* it is not ours alone */
	hear(&h, to[0]);
	assert_in_range(h.whole, 1, MORE - 1);
	log_info("again");
	hear(&h, to[0]);
	assert_int_equal(h.whole + h.lost, MORE + 1);
	assert_int_equal(h.kept, 0);
	log_info("again");
	hear(&h, to[0]);
	assert_int_equal(h.whole + h.lost, MORE + 2);
	part_with(to);
}

static void a_full_pipe_is_not_waited_for(void **state)
{
	int to[2];

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	waits_for_nobody(to);
}

static void a_full_socket_is_not_waited_for(void **state)
{
	int to[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to), 0);
	waits_for_nobody(to);
}

/* More than PIPE_BUF: the pipe may take a part. What comes next begins a line of its own. */
static void what_is_torn_harms_no_other_line(void **state)
{
	struct heard h = {0};
	char s[3001];
	int to[2];

	memset(s, 1, sizeof(s) - 1);
	s[sizeof(s) - 1] = 0;
	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	become(to, true);
	for (unsigned i = 0; i < 200; i++)
		log_info("%s", s);
	hear(&h, to[0]);
	assert_int_not_equal(h.kept, 0);
	log_info("again");
	hear(&h, to[0]);
	assert_int_equal(h.whole + h.lost, 201);
	assert_int_equal(h.parts, 1);
	assert_int_equal(h.kept, 0);
	part_with(to);
}

static void *talk(void *arg)
{
	for (unsigned i = 0; i < MORE / 2; i++)
		log_info("%0100u", i);
	return NULL;
}

static void threads_lose_no_count(void **state)
{
	struct heard h = {0};
	pthread_t thread[4];
	int to[2];

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	become(to, false);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, talk, NULL), 0);
	for (unsigned i = 0; i < 100; i++)
		hear(&h, to[0]);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	hear(&h, to[0]);
	log_info("again");
	hear(&h, to[0]);
	assert_int_equal(h.whole + h.lost, 2 * MORE + 1);
	part_with(to);
}

/* Around each test, so that what cmocka says of a failure goes to the real stderr. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(text_line),
		TEST(levels),
		TEST(errno_survives_and_shows),
		TEST(controls_are_escaped),
		TEST(json_line),
		TEST(any_bytes),
		TEST(long_lines_are_cut),
		TEST(a_reader_that_left_is_no_harm),
		TEST(a_full_pipe_is_not_waited_for),
		TEST(a_full_socket_is_not_waited_for),
		TEST(what_is_torn_harms_no_other_line),
		TEST(threads_lose_no_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
