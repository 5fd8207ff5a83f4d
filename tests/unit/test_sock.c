/* SPDX-License-Identifier: Apache-2.0 */
/* TCP streams over real sockets of the loopback: edges, half-closes, resets, slow readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "owner.h"

static uint8_t junk[1 << 20];

/* ------------------------------------------------------------------ edges */

static void readable_comes_once_and_only_if_asked(void **state)
{
	struct owner o;
	struct stream *s;
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(write(fd[1], "one", 3), 3);
	rest();
	assert_int_equal(o.readable, 0); /* nobody has peeked */
	assert_int_equal(peeked(s, 100), 3);
	assert_memory_equal(run[0].data, "one", 3);
	assert_true(run[0].headroom >= 64);
	memset(run[0].data - run[0].headroom, 0, run[0].headroom);
	stream_consume(s, 3);
	assert_int_equal(peeked(s, 100), 0);
	rest();
	assert_int_equal(o.readable, 0);
	assert_int_equal(write(fd[1], "two", 3), 3);
	UNTIL(o.readable == 1);
	assert_int_equal(write(fd[1], "three", 5), 5);
	rest();
	assert_int_equal(o.readable, 1);
	assert_int_equal(peeked(s, 100), 8);
	stream_consume(s, 8);
	assert_int_equal(s->read_bytes, 11);
	stream_close(s, NULL);
	close(fd[1]);
	rest();
}

/* What one has lent is not what another reads into, however many are looked at. */
static void several_are_looked_at_at_once(void **state)
{
	static const char *const said[] = {"one", "two", "three", "four"};
	struct stream_bytes first[array_size(said)];
	struct stream *s[array_size(said)];
	struct owner o[array_size(said)];
	int fd[array_size(said)][2];

	for (unsigned i = 0; i < array_size(said); i++) {
		pair(fd[i]);
		s[i] = own(sock_stream(thread, fd[i][0]), &o[i]);
		assert_int_equal(write(fd[i][1], said[i], strlen(said[i])), strlen(said[i]));
		rest();
		assert_int_equal(peeked(s[i], 100), strlen(said[i]));
		first[i] = run[0];
	}
	for (unsigned i = 0; i < array_size(said); i++) {
		assert_memory_equal(first[i].data, said[i], strlen(said[i]));
		stream_consume(s[i], 1);
	}
	for (unsigned i = 0; i < array_size(said); i++) {
		assert_int_equal(peeked(s[i], 100), strlen(said[i]) - 1);
		assert_memory_equal(run[0].data, said[i] + 1, strlen(said[i]) - 1);
		stream_consume(s[i], strlen(said[i]) - 1);
		assert_int_equal(s[i]->read_bytes, strlen(said[i]));
		stream_close(s[i], NULL);
		close(fd[i][1]);
	}
	rest();
}

/* TCP says what is left, and nobody waits for what is there: bytes, the end, urgent data in between. */
static void tcp_only(void **state)
{
	struct owner o;
	struct stream *s;
	unsigned i;
	int fd[2];

	for (i = 0; i < 2; i++) {
		pair(fd);
		s = own(sock_stream(thread, fd[0]), &o);
		sock_tcp_only(s);
		assert_int_equal(write(fd[1], "one", 3), 3);
		rest();
		assert_int_equal(peeked(s, 2), 2);
		stream_consume(s, 2);
		assert_int_equal(peeked(s, 100), 1);
		stream_consume(s, 1);
		assert_int_equal(peeked(s, 100), 0);
		assert_int_equal(write(fd[1], "two", 3), 3);
		UNTIL(o.readable == 1);
		assert_int_equal(peeked(s, 100), 3);
		stream_consume(s, 3);
		assert_int_equal(write(fd[1], "bytes", 5), 5);
		assert_int_equal(send(fd[1], "!", 1, MSG_OOB), 1);
		assert_int_equal(write(fd[1], "behind", 6), 6);
		if (i)
			assert_int_equal(shutdown(fd[1], SHUT_WR), 0);
		while (s->read_bytes < 17)
			stream_consume(s, peeked(s, 100) ? run[0].len : (turn(MS / 2), 0));
		assert_int_equal(peeked(s, 100), 0);
		if (!i) {
			assert_false(s->ended);
			o.readable = 0;
			assert_int_equal(shutdown(fd[1], SHUT_WR), 0);
			UNTIL(o.readable == 1);
			assert_int_equal(peeked(s, 100), 0);
		}
		assert_true(s->ended);
		stream_close(s, NULL);
		close(fd[1]);
		rest();
	}
}

/* Where both have ended, close() says FIN; if it does not come, the turn's end does. */
static void the_last_fin(void **state)
{
	struct owner o;
	struct stream *s;
	unsigned i;
	char c;
	int fd[2];

	for (i = 0; i < 2; i++) {
		pair(fd);
		s = own(sock_stream(thread, fd[0]), &o);
		assert_int_equal(shutdown(fd[1], SHUT_WR), 0);
		while (!s->ended) {
			assert_int_equal(peeked(s, 100), 0);
			turn(MS / 2);
		}
		stream_finish(s);
		assert_int_equal(recv(fd[1], &c, 1, MSG_DONTWAIT), -1);
		assert_int_equal(errno, EAGAIN);
		if (i)
			stream_close(s, NULL);
		else
			rest();
		assert_int_equal(recv(fd[1], &c, 1, 0), 0);
		if (!i)
			stream_close(s, NULL);
		close(fd[1]);
		rest();
	}
}

/* What is not consumed is there again, in whatever portions. */
static void a_rest_is_kept(void **state)
{
	struct owner o;
	struct stream *s;
	size_t got = 0;
	unsigned i, n;
	int fd[2];

	for (i = 0; i < 100000; i++)
		junk[i] = (uint8_t)(i * 7 + i / 256);
	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(write(fd[1], junk, 100000), 100000);
	srandom(3);
	while (got < 100000) {
		size_t all = peeked(s, (size_t)random() % 50000), take, at = 0;

		if (!all) {
			turn(MS / 2);
			continue;
		}
		take = (size_t)random() % (all + 1);
		for (n = 0; at < take; at += run[n++].len) {
			size_t part = run[n].len < take - at ? run[n].len : take - at;

			assert_memory_equal(run[n].data, junk + got + at, part);
		}
		stream_consume(s, take);
		got += take;
	}
	assert_int_equal(thread->pool.lent, 0);
	stream_close(s, "done");
	close(fd[1]);
	rest();
}

static void full_and_room_again(void **state)
{
	size_t written = 0, n, got = 0;
	struct owner o;
	struct stream *s;
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(stream_room(s), SIZE_MAX);
	do {
		n = write_bytes(s, junk, sizeof(junk));
		written += n;
	} while (n == sizeof(junk));
	assert_int_equal(stream_room(s), 0);
	assert_int_equal(write_bytes(s, junk, 1), 0);
	rest();
	assert_int_equal(o.writable, 0);
	while (got < written)
		got += (size_t)read(fd[1], junk, sizeof(junk));
	UNTIL(o.writable == 1);
	assert_int_equal(stream_room(s), SIZE_MAX);
	rest();
	assert_int_equal(o.writable, 1);
	assert_int_equal(s->written_bytes, written);
	stream_close(s, NULL);
	close(fd[1]);
	rest();
}

/* ------------------------------------------------------------------ the ends */

static void peer_finishes_first(void **state)
{
	struct owner o;
	struct stream *s;
	char c[8];
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(peeked(s, 100), 0);
	assert_int_equal(write(fd[1], "last", 4), 4);
	assert_int_equal(shutdown(fd[1], SHUT_WR), 0);
	UNTIL(o.readable);
	assert_int_equal(peeked(s, 100), 4);
	assert_false(s->ended);
	stream_consume(s, 2);
	assert_int_equal(peeked(s, 100), 2);
	stream_consume(s, 2);
	while (!s->ended) {
		assert_int_equal(peeked(s, 100), 0);
		turn(MS / 2);
	}
	assert_int_equal(peeked(s, 100), 0);
	assert_int_equal(write_bytes(s, "answer", 6), 6);
	stream_finish(s);
	rest();
	assert_int_equal(recv(fd[1], c, 6, MSG_WAITALL), 6);
	assert_int_equal(read(fd[1], c, 1), 0);
	assert_int_equal(o.failed, 0);
	stream_close(s, NULL);
	close(fd[1]);
	rest();
}

static void we_finish_first(void **state)
{
	struct owner o;
	struct stream *s;
	char c[8];
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(write_bytes(s, "last", 4), 4);
	stream_finish(s);
	assert_int_equal(recv(fd[1], c, 4, MSG_WAITALL), 4);
	assert_int_equal(read(fd[1], c, 1), 0);
	assert_int_equal(peeked(s, 100), 0);
	assert_int_equal(write(fd[1], "answer", 6), 6);
	UNTIL(o.readable);
	assert_int_equal(peeked(s, 100), 6);
	stream_consume(s, 6);
	close(fd[1]);
	while (!s->ended) {
		assert_int_equal(peeked(s, 100), 0);
		turn(MS / 2);
	}
	assert_int_equal(o.failed, 0);
	stream_close(s, NULL);
	rest();
}

static void close_with_a_reason_resets(void **state)
{
	struct owner o;
	struct stream *s;
	char c;
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(write_bytes(s, "lost", 4), 4);
	stream_close(s, "no more");
	while (read(fd[1], &c, 1) > 0)
		;
	assert_int_equal(errno, ECONNRESET);
	close(fd[1]);
	rest();
	assert_int_equal(o.failed, 0);
}

/* The peer sends what we have not read and never will: our last bytes and FIN arrive all the same. */
static void close_in_order_with_unread_bytes(void **state)
{
	struct owner o;
	struct stream *s;
	size_t sent, got = 0;
	ssize_t n;
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(write(fd[1], junk, 50000), 50000);
	rest();
	assert_int_equal(peeked(s, 1000), 1000);
	stream_consume(s, 0);
	sent = write_bytes(s, junk, 200000);
	assert_true(sent > 0);
	stream_close(s, NULL);
	assert_int_equal(write(fd[1], junk, 50000), 50000);
	rest();
	while (got < sent && (n = read(fd[1], junk, sizeof(junk))) > 0)
		got += (size_t)n;
	assert_int_equal(got, sent);
	assert_int_equal(read(fd[1], junk, 1), 0);
	close(fd[1]);
	UNTIL(list_empty(&thread->orphans));
	assert_int_equal(o.failed, 0);
	rest();
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Told by level: of what a short read left, of room, of the end; and nothing that nobody wants keeps the loop awake. */
static void by_level(void **state)
{
	size_t written = 0, n, got = 0;
	struct owner o;
	struct stream *s;
	uint64_t before;
	int fd[2];

	pair(fd);
	s = own(sock_awaited(thread, fd[0]), &o);
	for (unsigned i = 1; i <= 20; i++) {
		assert_int_equal(peeked(s, 100), 0);
		assert_int_equal(write(fd[1], junk, 150), 150);
		UNTIL(o.readable == 2 * i - 1);
		assert_int_equal(peeked(s, 100), 100);
		stream_consume(s, 100);
		assert_int_equal(peeked(s, 100), 50); /* that read was full */
		stream_consume(s, 50);
		assert_int_equal(peeked(s, 100), 0);
		assert_int_equal(write(fd[1], junk, 10), 10);
		UNTIL(o.readable == 2 * i);
		assert_int_equal(peeked(s, 100), 10);
		stream_consume(s, 10);
		if (i % 5)
			continue;
		/* Bytes that nobody asks for, then asked for again. */
		assert_int_equal(write(fd[1], junk, 30), 30);
		before = cpu_ns();
		turn(50 * MS);
		assert_true(cpu_ns() - before < 30 * MS);
		assert_int_equal(o.readable, 2 * i);
		assert_int_equal(peeked(s, 100), 30);
		stream_consume(s, 30);
	}
	do {
		n = write_bytes(s, junk, sizeof(junk));
		written += n;
	} while (n == sizeof(junk));
	assert_int_equal(stream_room(s), 0);
	while (got < written)
		got += (size_t)read(fd[1], junk, sizeof(junk));
	UNTIL(o.writable == 1);
	assert_int_equal(peeked(s, 100), 0);
	close(fd[1]);
	UNTIL(o.readable == 41);
	assert_int_equal(peeked(s, 100), 0);
	assert_true(s->ended);
	before = cpu_ns();
	turn(50 * MS);
	assert_true(cpu_ns() - before < 30 * MS);
	stream_close(s, NULL);
	rest();
}

/* Who has said that he sends no more is not waited for, unless he has sent something nevertheless. */
static void close_of_a_silent_peer(void **state)
{
	struct owner o;
	struct stream *s;
	char c[8];
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(peeked(s, 100), 0);
	assert_int_equal(write_bytes(s, "last", 4), 4);
	s->silent = true;
	stream_close(s, NULL);
	assert_true(list_empty(&thread->orphans));
	rest();
	assert_int_equal(read(fd[1], c, sizeof(c)), 4);
	assert_int_equal(read(fd[1], c, sizeof(c)), 0);
	close(fd[1]);
	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(write(fd[1], "more", 4), 4);
	UNTIL(peeked(s, 100) == 4);
	stream_consume(s, 2);
	assert_int_equal(write_bytes(s, "last", 4), 4);
	s->silent = true;
	stream_close(s, NULL);
	assert_false(list_empty(&thread->orphans));
	rest();
	assert_int_equal(read(fd[1], c, sizeof(c)), 4);
	assert_int_equal(read(fd[1], c, sizeof(c)), 0);
	close(fd[1]);
	UNTIL(list_empty(&thread->orphans));
	rest();
}

/* What lingers does so for a while, and no longer than its thread. */
static void a_peer_that_never_ends(void **state)
{
	struct owner o;
	int fd[2];

	pair(fd);
	stream_close(own(sock_stream(thread, fd[0]), &o), NULL);
	rest();
	assert_false(list_empty(&thread->orphans));
	teardown(state);
	close(fd[1]);
	setup(state);
}

static void close_in_the_event(struct stream *s, unsigned events)
{
	struct owner *o = s->owner;

	count(s, events);
	if (o->readable)
		stream_close(s, NULL);
}

static void no_event_after_close(void **state)
{
	struct owner o;
	struct stream *s;
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	s->ready = close_in_the_event;
	assert_int_equal(peeked(s, 1), 0);
	assert_int_equal(write(fd[1], "x", 1), 1);
	UNTIL(o.readable);
	reset(fd[1]);
	rest();
	assert_int_equal(o.readable, 1);
	assert_int_equal(o.failed, 0);
	/* And a failure that is known but was not yet told. */
	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	reset(fd[1]);
	assert_int_equal(peeked(s, 1), 0);
	stream_close(s, "other");
	rest();
	assert_int_equal(o.failed, 0);
}

/* ------------------------------------------------------------------ pump */

struct pipe {
	struct stream *a, *b;
	bool a_done, b_done;
	unsigned failed;
};

static bool pump(struct stream *from, struct stream *to)
{
	struct stream_bytes bytes[STREAM_RUNS];

	while (!from->ended) {
		size_t room = stream_room(to);
		unsigned n = room ? stream_peek(from, bytes, room) : 0;

		if (!n)
			break;
		stream_consume(from, stream_write(to, bytes, n));
	}
	if (!from->ended)
		return false;
	if (!to->finished)
		stream_finish(to);
	return true;
}

static void piped(struct stream *s, unsigned events)
{
	struct pipe *p = s->owner;

	if (events & STREAM_FAILED) {
		p->failed++;
		return;
	}
	p->a_done = pump(p->a, p->b);
	p->b_done = pump(p->b, p->a);
}

/* Bytes through two streams and back, in random portions, readers that stop and go. */
static void bytes_through_a_relay(void **state)
{
	enum { ALL = 4000000 };
	uint8_t *bytes = malloc(ALL), *got = malloc(ALL);
	int left[2], right[2];
	size_t in[2] = {0}, out[2] = {0};
	bool end[2] = {false};
	struct pipe p = {0};
	unsigned i, round, small = 0;

	srandom(5);
	for (i = 0; i < ALL; i++)
		bytes[i] = (uint8_t)random();
	for (round = 0; round < 2; round++) {
		pair(left);
		pair(right);
		p = (struct pipe){.a = sock_stream(thread, left[0]), .b = sock_stream(thread, right[0])};
		sock_tcp_only(p.a);
		p.a->owner = p.b->owner = &p;
		p.a->ready = p.b->ready = piped;
		piped(p.a, 0);
		memset(in, 0, sizeof(in));
		memset(out, 0, sizeof(out));
		memset(end, 0, sizeof(end));
		memset(got, 0, ALL);
		fcntl(left[1], F_SETFL, O_NONBLOCK);
		fcntl(right[1], F_SETFL, O_NONBLOCK);
		/* round 0: left to right; round 1: the other way */
		while (!end[0]) {
			int from = round ? right[1] : left[1], to = round ? left[1] : right[1];
			size_t some = small++ % 64 ? (size_t)random() % 60000 : 1;
			ssize_t n;

			if (some > ALL - in[0])
				some = ALL - in[0];
			n = some ? write(from, bytes + in[0], some) : 0;
			in[0] += n > 0 ? (size_t)n : 0;
			if (in[0] == ALL && !end[1]) {
				shutdown(from, SHUT_WR);
				end[1] = true;
			}
			turn(0);
			if (random() % 3 && !end[1])
				continue; /* a slow reader */
			n = read(to, got + out[0], ALL - out[0] ? (size_t)random() % 90000 % (ALL - out[0]) + 1 : 0);
			if (out[0] == ALL)
				end[0] = round ? p.b_done : p.a_done;
			out[0] += n > 0 ? (size_t)n : 0;
		}
		assert_memory_equal(bytes, got, ALL);
		assert_int_equal(p.failed, 0);
		stream_close(p.a, NULL);
		stream_close(p.b, NULL);
		close(left[1]);
		close(right[1]);
		rest();
	}
	free(bytes);
	free(got);
}

static void one_byte_at_a_time(void **state)
{
	int left[2], right[2];
	struct pipe p;
	unsigned i;
	char c;

	pair(left);
	pair(right);
	p = (struct pipe){.a = sock_stream(thread, left[0]), .b = sock_stream(thread, right[0])};
	p.a->owner = p.b->owner = &p;
	p.a->ready = p.b->ready = piped;
	piped(p.a, 0);
	for (i = 0; i < 300; i++) {
		struct pollfd f = {.fd = i % 2 ? left[1] : right[1], .events = POLLIN};

		assert_int_equal(write(i % 2 ? right[1] : left[1], "0123456789" + i % 10, 1), 1);
		while (poll(&f, 1, 0) == 0)
			turn(0);
		assert_int_equal(read(f.fd, &c, 1), 1);
		assert_int_equal(c, "0123456789"[i % 10]);
	}
	close(left[1]);
	UNTIL(p.a_done);
	close(right[1]);
	UNTIL(p.b_done);
	stream_close(p.a, NULL);
	stream_close(p.b, NULL);
	rest();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(readable_comes_once_and_only_if_asked),
		TEST(several_are_looked_at_at_once),
		TEST(tcp_only),
		TEST(the_last_fin),
		TEST(a_rest_is_kept),
		TEST(full_and_room_again),
		TEST(peer_finishes_first),
		TEST(we_finish_first),
		TEST(close_with_a_reason_resets),
		TEST(close_in_order_with_unread_bytes),
		TEST(by_level),
		TEST(close_of_a_silent_peer),
		TEST(a_peer_that_never_ends),
		TEST(no_event_after_close),
		TEST(bytes_through_a_relay),
		TEST(one_byte_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
