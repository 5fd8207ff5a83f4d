/* SPDX-License-Identifier: Apache-2.0 */
/* TCP streams whose peer resets them: the owner hears of it, whatever came before, and without asking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "owner.h"

static void reset_tells_at_once(void **state)
{
	struct owner o;
	struct stream *s;
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	reset(fd[1]);
	UNTIL(o.failed == 1); /* though nobody reads or writes */
	assert_string_equal(s->why, "reset by peer");
	assert_int_equal(stream_room(s), 0);
	assert_int_equal(write_bytes(s, "x", 1), 0);
	assert_int_equal(peeked(s, 100), 0);
	rest();
	assert_int_equal(o.failed, 1);
	stream_close(s, s->why);
	rest();
}

/* As without us: who reads gets what came before the reset, then the reset. */
static void bytes_before_a_reset_are_read(void **state)
{
	struct owner o;
	struct stream *s;
	int fd[2];

	pair(fd);
	s = own(sock_stream(thread, fd[0]), &o);
	assert_int_equal(write(fd[1], "bytes", 5), 5);
	rest();
	reset(fd[1]);
	rest();
	assert_int_equal(o.failed, 0);
	assert_int_equal(peeked(s, 100), 5);
	stream_consume(s, 5);
	assert_int_equal(peeked(s, 100), 0);
	assert_int_equal(o.failed, 0); /* not within our own call */
	UNTIL(o.failed == 1);
	stream_close(s, s->why);
	rest();
}

/* Told in one event, and TCP says that no byte is left: there is an error yet, of which no other event tells. */
static void a_reset_behind_the_last_byte(void **state)
{
	struct owner o;
	struct stream *s;
	unsigned i;
	int fd[2];

	for (i = 0; i < 2; i++) {
		pair(fd);
		s = own(sock_stream(thread, fd[0]), &o);
		if (i)
			sock_tcp_only(s);
		rest();
		assert_int_equal(peeked(s, 100), 0);
		assert_int_equal(write(fd[1], "bytes", 5), 5);
		reset(fd[1]);
		UNTIL(o.readable == 1);
		assert_int_equal(peeked(s, 100), 5);
		stream_consume(s, 5);
		assert_int_equal(peeked(s, 100), 0);
		UNTIL(o.failed == 1);
		assert_string_equal(s->why, "reset by peer");
		stream_close(s, s->why);
		rest();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reset_tells_at_once),
		TEST(bytes_before_a_reset_are_read),
		TEST(a_reset_behind_the_last_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
