/* SPDX-License-Identifier: Apache-2.0 */
/* TCP streams of who has asked for one answer and no more: its end leaves with it, and epoll hears of few of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "owner.h"

static char junk[1 << 20];

static bool says(const char *path, int fd)
{
	FILE *f = fopen(path, "re");
	char line[256];
	bool found = false;
	int its;

	while (f && fgets(line, sizeof(line), f))
		found |= sscanf(line, "tfd: %d", &its) == 1 && its == fd;
	if (f)
		fclose(f);
	return found;
}

/* Does an epoll of this process know it? */
static bool watched(int fd)
{
	DIR *all = opendir("/proc/self/fdinfo");
	struct dirent *one;
	bool found = false;
	char path[300];

	assert_non_null(all);
	while ((one = readdir(all)) != NULL) {
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", one->d_name);
		found |= says(path, fd);
	}
	closedir(all);
	return found;
}

static unsigned segments_in(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_segs_in;
}

static void the_last_leaves_with_the_end(void **state)
{
	struct owner o;
	struct stream *s;
	unsigned before;
	char got[16];
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(peeked(s, 100), 0);
	before = segments_in(fd[1]);
	s->silent = s->last = true;
	assert_int_equal(write_bytes(s, "answer", 6), 6);
	assert_int_equal(segments_in(fd[1]), before);
	stream_close(s, NULL);
	assert_int_equal(recv(fd[1], got, sizeof(got), 0), 6);
	assert_memory_equal(got, "answer", 6);
	assert_int_equal(recv(fd[1], got, sizeof(got), 0), 0);
	assert_int_equal(segments_in(fd[1]), before + 1);
	close(fd[1]);
	rest();
}

/* The same where the peer may still send. */
static void the_last_leaves_with_our_finish(void **state)
{
	struct owner o;
	struct stream *s;
	unsigned before;
	char got[16];
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(peeked(s, 100), 0);
	before = segments_in(fd[1]);
	s->last = true;
	assert_int_equal(write_bytes(s, "answer", 6), 6);
	stream_finish(s);
	assert_int_equal(segments_in(fd[1]), before + 1);
	assert_int_equal(recv(fd[1], got, sizeof(got), 0), 6);
	assert_int_equal(recv(fd[1], got, sizeof(got), 0), 0);
	assert_int_equal(write(fd[1], "thanks", 6), 6);
	UNTIL(o.readable == 1);
	assert_int_equal(peeked(s, 100), 6);
	stream_consume(s, 6);
	stream_close(s, NULL);
	close(fd[1]);
	rest();
}

/* More than one segment: what fills one does not wait. */
static void a_long_last_arrives_whole(void **state)
{
	struct owner o;
	struct stream *s;
	size_t all = 0;
	ssize_t n;
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(peeked(s, 100), 0);
	s->silent = s->last = true;
	assert_int_equal(write_bytes(s, junk, 100001), 100001);
	stream_close(s, NULL);
	while ((n = recv(fd[1], junk, sizeof(junk), 0)) > 0)
		all += (size_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(all, 100001);
	close(fd[1]);
	rest();
}

static void the_last_of_who_is_not_closed_leaves_as_the_turn_ends(void **state)
{
	struct owner o;
	struct stream *s;
	char got[16];
	int fd[2];

	for (unsigned i = 0; i < 2; i++) {
		pair(fd);
		sock_prepare(fd[0]);
		s = own(i ? sock_awaited(thread, fd[0]) : sock_prepared(thread, fd[0]), &o);
		s->silent = s->last = true;
		assert_int_equal(write_bytes(s, "answer", 6), 6);
		turn(0);
		assert_int_equal(recv(fd[1], got, sizeof(got), MSG_DONTWAIT), 6);
		assert_true(watched(fd[0]));
		stream_close(s, NULL);
		close(fd[1]);
		rest();
	}
}

static struct stream *awaited(int fd[2], struct owner *o, bool silent)
{
	struct stream *s;

	pair(fd);
	sock_prepare(fd[0]);
	s = own(sock_awaited(thread, fd[0]), o);
	s->silent = silent;
	assert_int_equal(peeked(s, 100), 0);
	turn(0);
	return s;
}

static void who_may_send_more_is_watched_at_once(void **state)
{
	struct owner o;
	struct stream *s;
	int fd[2];

	s = awaited(fd, &o, false);
	assert_true(watched(fd[0]));
	assert_int_equal(write(fd[1], "more", 4), 4);
	UNTIL(o.readable == 1);
	stream_close(s, "done");
	close(fd[1]);
	rest();
}

static void who_sends_no_more_is_watched_when_it_takes_long(void **state)
{
	struct owner o;
	struct stream *s;
	int fd[2];

	s = awaited(fd, &o, true);
	assert_false(watched(fd[0]));
	UNTIL(watched(fd[0]));
	reset(fd[1]);
	UNTIL(o.failed || o.readable);
	if (!o.failed) {
		assert_int_equal(peeked(s, 100), 0);
		UNTIL(o.failed);
	}
	assert_string_equal(s->why, "reset by peer");
	stream_close(s, s->why);
	rest();
}

static void who_takes_too_little_is_watched(void **state)
{
	struct owner o;
	struct stream *s;
	size_t all = 0, got = 0;
	int fd[2];

	s = awaited(fd, &o, true);
	while (stream_room(s))
		all += write_bytes(s, junk, sizeof(junk));
	assert_true(watched(fd[0]));
	while (got < all) {
		ssize_t n = recv(fd[1], junk, sizeof(junk), 0);

		assert_true(n > 0);
		got += (size_t)n;
	}
	UNTIL(o.writable == 1);
	stream_close(s, "done");
	close(fd[1]);
	rest();
}

/* Closed while bytes of the peer may be on their way: its end is waited for. */
static void who_is_heard_out_is_watched(void **state)
{
	struct owner o;
	struct stream *s;
	char got[1];
	int fd[2];

	pair(fd);
	sock_prepare(fd[0]);
	s = own(sock_awaited(thread, fd[0]), &o);
	s->silent = true;
	stream_close(s, NULL);
	assert_int_equal(recv(fd[1], got, sizeof(got), 0), 0);
	turn(0);
	assert_true(watched(fd[0]));
	assert_int_equal(write(fd[1], "late", 4), 4);
	close(fd[1]);
	UNTIL(!watched(fd[0]));
	rest();
	assert_int_equal(fcntl(fd[0], F_GETFD), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_last_leaves_with_the_end),
		TEST(the_last_leaves_with_our_finish),
		TEST(a_long_last_arrives_whole),
		TEST(the_last_of_who_is_not_closed_leaves_as_the_turn_ends),
		TEST(who_may_send_more_is_watched_at_once),
		TEST(who_sends_no_more_is_watched_when_it_takes_long),
		TEST(who_takes_too_little_is_watched),
		TEST(who_is_heard_out_is_watched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
