/* SPDX-License-Identifier: Apache-2.0 */
/* The last of a body leaves with the end of its stream, or with its trailers; a request with its first bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/http/http2_parts.h"
#include "by_hand.h"

#define GET "\x82\x86\x84\x41\x01" "a" /* of HPACK's static table: GET http / and whose */

static struct stream_bytes hello = {.data = (uint8_t *)"hello", .len = 5};

static void serve_nothing(struct talk *t, const struct http_head *h)
{
}

/* A request by hand, and its answer's head. */
static struct http_exchange *asked(struct http_head answer)
{
	by_hand_client(NULL);
	m.server.serve = serve_nothing;
	raw_frame(&r, F_HEADERS, END_HEADERS | END_STREAM, 1, GET, sizeof(GET) - 1);
	scene_turns(&m.s);
	http_answer(m.server.talk[0].x, &answer);
	return m.server.talk[0].x;
}

static void one_frame(void **state)
{
	struct http_exchange *x = asked((struct http_head){.status = 200, .body = HTTP_STREAM});

	x->s.last = true;
	assert_int_equal(stream_write(&x->s, &hello, 1), 5);
	assert_int_equal(x->s.written_bytes, 5);
	scene_turns(&m.s); /* it has left, and the owner was not told of anything: he has not finished */
	assert_int_equal(r.count[F_DATA], 1);
	assert_int_equal(r.ends, 1);
	assert_false(m.server.talk[0].failed);
	stream_finish(&x->s);
	scene_turns(&m.s);
	assert_int_equal(r.count[F_DATA], 1);
	assert_int_equal(r.count[F_RST_STREAM], 0);
	by_hand_leave();
}

static void not_the_last(void **state)
{
	struct http_exchange *x = asked((struct http_head){.status = 200, .body = HTTP_STREAM});

	assert_int_equal(stream_write(&x->s, &hello, 1), 5);
	scene_turns(&m.s);
	assert_int_equal(r.ends, 0);
	stream_finish(&x->s);
	scene_turns(&m.s);
	assert_int_equal(r.count[F_DATA], 2);
	assert_int_equal(r.ends, 1);
	by_hand_leave();
}

static void with_trailers(void **state)
{
	const struct http_field status = {.name = HTTP_TEXT("grpc-status"), .value = HTTP_TEXT("0")};
	const struct http_field late = {.name = HTTP_TEXT("late"), .value = HTTP_TEXT("1")};
	struct http_exchange *x = asked((struct http_head){.status = 200, .body = HTTP_STREAM});

	http_trailers(x, &status, 1);
	x->s.last = true;
	assert_int_equal(stream_write(&x->s, &hello, 1), 5);
	http_trailers(x, &late, 1);
	scene_turns(&m.s);
	assert_int_equal(r.count[F_DATA], 1);
	assert_int_equal(r.count[F_HEADERS], 2);
	assert_int_equal(r.ends, 1);
	stream_finish(&x->s);
	scene_turns(&m.s);
	assert_int_equal(r.count[F_DATA], 1);
	assert_int_equal(r.count[F_HEADERS], 2);
	by_hand_leave();
}

/* It has promised more: no whole message, whatever its owner says. */
static void shorter_than_promised(void **state)
{
	struct http_exchange *x =
		asked((struct http_head){.status = 200, .body = HTTP_LENGTH, .has_length = true, .length = 6});

	x->s.last = true;
	assert_int_equal(stream_write(&x->s, &hello, 1), 5);
	scene_turns(&m.s);
	assert_int_equal(r.count[F_DATA], 1);
	assert_int_equal(r.ends, 0);
	stream_finish(&x->s);
	scene_turns(&m.s);
	assert_int_equal(r.ends, 0);
	assert_int_equal(r.count[F_RST_STREAM], 1);
	by_hand_leave();
}

/* The peer's window takes a part of it: the end comes with the rest. */
static void in_parts(void **state)
{
	static uint8_t body[70000];
	struct stream_bytes run = {.data = body, .len = sizeof(body)};
	struct http_exchange *x = asked((struct http_head){.status = 200, .body = HTTP_STREAM});
	size_t took;

	x->s.last = true;
	took = stream_write(&x->s, &run, 1);
	assert_true(took > 0 && took < sizeof(body));
	assert_int_equal(x->s.written_bytes, took);
	scene_turns(&m.s);
	assert_int_equal(r.ends, 0);
	raw_update(&r, 0, 1 << 20);
	raw_update(&r, 1, 1 << 20);
	scene_turns(&m.s);
	run.data += took;
	run.len -= took;
	while (run.len) {
		took = stream_write(&x->s, &run, 1);
		assert_true(took);
		run.data += took;
		run.len -= took;
	}
	scene_turns(&m.s);
	assert_int_equal(r.data_bytes, sizeof(body));
	assert_int_equal(r.ends, 1);
	stream_finish(&x->s);
	scene_turns(&m.s);
	assert_int_equal(r.ends, 1);
	by_hand_leave();
}

/* A request of ours that is to have a body. */
static struct http_exchange *ask_with_a_body(void)
{
	struct http_head h = ask_head("/");

	by_hand_server(NULL);
	h.body = HTTP_STREAM;
	return meeting_ask(&m, &h, false)->x;
}

/* No stream yet, and room for its body: all of the request is one write to the transport. */
static void request_with_its_body(void **state)
{
	struct http_exchange *x = ask_with_a_body();

	assert_in_range(stream_room(&x->s), 5, 65535);
	x->s.last = true;
	assert_int_equal(stream_write(&x->s, &hello, 1), 5);
	scene_turns(&m.s);
	assert_int_equal(r.count[F_HEADERS], 1);
	assert_int_equal(r.count[F_DATA], 1);
	assert_int_equal(r.ends, 1);
	stream_finish(&x->s);
	scene_turns(&m.s);
	assert_int_equal(r.count[F_DATA], 1);
	by_hand_leave();
}

/* It ends the connection that drains, and the transport has less room than it seemed: the rest waits for more. */
static void last_of_the_connection(void **state)
{
	static uint8_t body[3000];
	struct stream_bytes run = {.data = body, .len = sizeof(body)};
	struct http_exchange *x = asked((struct http_head){.status = 200, .body = HTTP_STREAM});

	m.server.c->ops->drain(m.server.c);
	scene_turns(&m.s);
	raw_frame(&r, F_PING, ACK, 0, HTTP2_PING_DRAIN, 8);
	scene_turns(&m.s);
	r.deaf = true;
	r.end->capacity = 10;
	assert_int_equal(stream_write(&x->s, &run, 1), sizeof(body));
	stream_finish(&x->s);
	talk_close(&m.server.talk[0], NULL);
	scene_turns(&m.s);
	r.deaf = false;
	r.end->capacity = 1 << 20;
	raw_read(&r);
	scene_turns(&m.s);
	assert_int_equal(r.data_bytes, sizeof(body));
	assert_int_equal(r.ends, 1);
	assert_true(r.ended);
	assert_int_equal(m.server.closed, 1);
	assert_null(m.server.why);
	by_hand_leave();
}

/* Nothing of the body is there: the head goes alone. */
static void request_without(void **state)
{
	assert_non_null(ask_with_a_body());
	scene_turns(&m.s);
	assert_int_equal(r.count[F_HEADERS], 1);
	assert_int_equal(r.count[F_DATA], 0);
	by_hand_leave();
}

/* More than the connection's window: the rest waits for WINDOW_UPDATE as ever. */
static void request_larger_than_the_window(void **state)
{
	static uint8_t body[200000];
	struct stream_bytes run = {.data = body, .len = sizeof(body)};
	struct http_exchange *x = ask_with_a_body();
	size_t took;

	x->s.last = true;
	took = stream_write(&x->s, &run, 1);
	assert_in_range(took, 1, 65535);
	scene_turns(&m.s);
	assert_int_equal(r.data_bytes, took);
	assert_int_equal(r.ends, 0);
	assert_int_equal(stream_room(&x->s), 65535 - took);
	by_hand_leave();
}

/* ------------------------------------------------------------------ no window */

/* All that the peer's windows allow. */
static void exhaust(struct http_exchange *x)
{
	static uint8_t body[16384];
	struct stream_bytes run = {.data = body};

	while (x->s.written_bytes < 65535) {
		run.len = 65535 - x->s.written_bytes;
		run.len = run.len < sizeof(body) ? run.len : sizeof(body);
		if (!stream_write(&x->s, &run, 1))
			scene_turns(&m.s);
	}
	scene_turns(&m.s);
	assert_int_equal(r.data_bytes, 65535);
	assert_int_equal(stream_room(&x->s), 0);
}

/* RFC 9113 section 6.9.1: the end takes none. Nothing comes behind it, whatever window there is then. */
static void ends_without_a_window(void **state)
{
	const struct http_field status = {.name = HTTP_TEXT("grpc-status"), .value = HTTP_TEXT("0")};

	for (int trailers = 0; trailers < 2; trailers++)
		for (int open = 0; open < 2; open++) {
			const struct http_head head = {.status = 200, .body = HTTP_STREAM};
			struct http_exchange *x;

			by_hand_client(NULL);
			m.server.serve = serve_nothing;
			raw_frame(&r, F_HEADERS, END_HEADERS | (open ? 0 : END_STREAM), 1, GET, sizeof(GET) - 1);
			scene_turns(&m.s);
			x = m.server.talk[0].x;
			http_answer(x, &head);
			exhaust(x);
			if (trailers)
				http_trailers(x, &status, 1);
			stream_finish(&x->s);
			scene_turns(&m.s);
			assert_int_equal(r.ends, 1);
			assert_int_equal(r.count[F_HEADERS], 2);
			raw_update(&r, 0, 1 << 20);
			raw_update(&r, 1, 1 << 20);
			scene_turns(&m.s);
			assert_int_equal(r.ends, 1);
			assert_int_equal(r.data_bytes, 65535);
			assert_int_equal(r.count[F_HEADERS], 2);
			assert_int_equal(r.count[F_RST_STREAM], 0);
			assert_int_equal(r.count[F_GOAWAY], 0);
			by_hand_leave();
		}
}

static void request_ends_without_a_window(void **state)
{
	struct http_exchange *x = ask_with_a_body();

	exhaust(x);
	stream_finish(&x->s);
	scene_turns(&m.s);
	assert_int_equal(r.ends, 1);
	assert_int_equal(r.count[F_HEADERS], 2);
	by_hand_leave();
}

/* There are no trailers in a tunnel (RFC 9113 section 8.5). */
static void a_tunnel_waits(void **state)
{
	static const char connect[] = "\x42\x07" "CONNECT" "\x41\x01" "a";
	const struct http_head head = {.status = 200, .body = HTTP_TUNNEL};
	struct http_exchange *x;

	by_hand_client(NULL);
	m.server.serve = serve_nothing;
	raw_frame(&r, F_HEADERS, END_HEADERS, 1, connect, sizeof(connect) - 1);
	scene_turns(&m.s);
	x = m.server.talk[0].x;
	http_answer(x, &head);
	exhaust(x);
	stream_finish(&x->s);
	scene_turns(&m.s);
	assert_int_equal(r.ends, 0);
	raw_update(&r, 1, 1);
	raw_update(&r, 0, 1);
	scene_turns(&m.s);
	assert_int_equal(r.ends, 1);
	assert_int_equal(r.count[F_HEADERS], 1);
	by_hand_leave();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_frame),
		cmocka_unit_test(not_the_last),
		cmocka_unit_test(with_trailers),
		cmocka_unit_test(shorter_than_promised),
		cmocka_unit_test(in_parts),
		cmocka_unit_test(last_of_the_connection),
		cmocka_unit_test(request_with_its_body),
		cmocka_unit_test(request_without),
		cmocka_unit_test(request_larger_than_the_window),
		cmocka_unit_test(ends_without_a_window),
		cmocka_unit_test(request_ends_without_a_window),
		cmocka_unit_test(a_tunnel_waits),
	};
	int result = cmocka_run_group_tests(tests, NULL, NULL);

	free(m.client.talk);
	free(m.server.talk);
	return result;
}
