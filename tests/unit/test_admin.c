/* SPDX-License-Identifier: Apache-2.0 */
/* The admin socket: whole and broken requests, answers in parts, slow and many clients; all in one thread. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "admin.h"

#define MANY 20000 /* items of the long answer: more than a socket buffer holds */

static struct loop *loop;
static struct admin *admin;
static struct sockaddr_un address;
static socklen_t address_len;
static unsigned asked, ended;

/* ------------------------------------------------------------------ what is asked */

static json_t *number(void *ctx, const void *key)
{
	uint32_t n;

	memcpy(&n, key, sizeof(n));
	return n % 7 == 3 ? NULL
			  : json_pack("{s:i, s:s}", "n", (int)n, "text", "a text that takes some room");
}

static void list_end(void *ctx)
{
	ended++;
}

static struct answer *numbers(unsigned count)
{
	uint32_t *keys = mem_alloc(count * sizeof(*keys) + 1);
	struct answer_list list[2] = {
		{.name = "first", .keys = keys, .size = 4, .count = count, .item = number},
		{.name = "second", .size = 4, .item = number}};

	for (uint32_t i = 0; i < count; i++)
		keys[i] = i;
	return answer_lists(list, 2, NULL, list_end);
}

static struct answer *ask(void *ctx, const char *command, const json_t *request)
{
	asked++;
	assert_ptr_equal(ctx, &loop);
	if (text_equal(command, "many"))
		return numbers(MANY);
	if (text_equal(command, "none"))
		return numbers(0);
	if (text_equal(command, "echo"))
		return answer_json(json_pack("{s:O}", "echo", json_object_get(request, "word")));
	return answer_error("no such command: %s", command);
}

static int setup(void **state)
{
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	asked = ended = 0;
	loop = loop_new();
	address = (struct sockaddr_un){.sun_family = AF_UNIX};
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)),
			 0); /* the kernel names it */
	address_len = sizeof(address);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &address_len), 0);
	assert_int_equal(listen(listener, 64), 0);
	return admin_open(&admin, loop, listener, ask, &loop);
}

static int teardown(void **state)
{
	admin_close(admin);
	loop_free(loop);
	return 0;
}

/* ------------------------------------------------------------------ a client in the same loop */

struct peer {
	struct loop_watch watch;
	struct text got;
	bool over;
	size_t most; /* stop the loop after so many bytes; 0: at the end */
};

static void peer_ready(struct loop_watch *w, uint32_t events)
{
	struct peer *p = container_of(w, struct peer, watch);
	char buf[65536];
	size_t room = p->most ? p->most - p->got.len : sizeof(buf);
	ssize_t n = read(w->fd, buf, room < sizeof(buf) ? room : sizeof(buf));

	if (n <= 0)
		p->over = true;
	else
		text_add_bytes(&p->got, buf, (size_t)n);
	if (p->over || (p->most && p->got.len >= p->most)) {
		loop_unwatch(loop, w);
		loop_stop(loop);
	}
}

static void dial(struct peer *p)
{
	*p = (struct peer){.watch = {.events = EPOLLIN, .ready = peer_ready}};
	p->watch.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(p->watch.fd, (struct sockaddr *)&address, address_len), 0);
}

static void say(struct peer *p, const char *text, size_t len)
{
	assert_int_equal(send(p->watch.fd, text, len, MSG_NOSIGNAL), len);
}

static void hang_up(struct peer *p)
{
	loop_unwatch(loop, &p->watch);
	close(p->watch.fd);
	text_free(&p->got);
}

/* Runs the loop until the peer has what it wants. */
static void hear(struct peer *p, size_t most)
{
	p->most = most;
	assert_int_equal(loop_watch(loop, &p->watch), 0);
	assert_int_equal(loop_run(loop), 0);
}

static void breathe_due(struct loop_timer *t)
{
	loop_stop(loop);
}

/* Lets the loop do what is ready. */
static void breathe(void)
{
	struct loop_timer t = {.due = breathe_due};

	for (unsigned i = 0; i < 4; i++) {
		loop_arm(loop, &t, 1000000);
		assert_int_equal(loop_run(loop), 0);
	}
}

static json_t *answer_of(const char *text, size_t len)
{
	struct peer p;
	json_t *ret;

	dial(&p);
	say(&p, text, len);
	hear(&p, 0);
	ret = json_loadb(p.got.data ? p.got.data : "", p.got.len, 0, NULL);
	hang_up(&p);
	assert_non_null(ret);
	return ret;
}

static void expect_error(const char *request, const char *part)
{
	json_t *a = answer_of(request, strlen(request));
	const char *error = json_string_value(json_object_get(a, "error"));

	assert_non_null(error);
	if (!strstr(error, part))
		fail_msg("\"%s\" does not speak of \"%s\"", error, part);
	json_decref(a);
}

/* ------------------------------------------------------------------ tests */

static void whole_requests(void **state)
{
	static const char request[] = "{\"command\": \"echo\", \"word\": [1, \"two\"]}\n";
	json_t *a = answer_of(request, sizeof(request) - 1);

	assert_int_equal(json_integer_value(json_array_get(json_object_get(a, "echo"), 0)), 1);
	json_decref(a);
	assert_int_equal(asked, 1);
}

static void broken_requests(void **state)
{
	expect_error("\n", "JSON");
	expect_error("nonsense\n", "JSON");
	expect_error("[1]\n", "command");
	expect_error("{}\n", "command");
	expect_error("{\"command\": 7}\n", "command");
	expect_error("{\"command\": \"x\", \"command\": \"y\"}\n", "JSON");
	expect_error("{\"command\": \"\xff\"}\n", "JSON");
	assert_int_equal(asked, 0);
	expect_error("{\"command\": \"other\"}\n", "no such command: other");
	expect_error("{\"command\": \"other\"}\nand more that nobody reads\n", "no such command");
}

static void longest_request(void **state)
{
	char *text = mem_alloc(ADMIN_LINE + 100);
	json_t *a;

	memset(text, ' ', ADMIN_LINE + 99);
	a = answer_of(text, ADMIN_LINE + 1);
	assert_non_null(strstr(json_string_value(json_object_get(a, "error")), "longer"));
	json_decref(a);
	memcpy(text, "{\"command\":\"echo\",\"word\":1}", 27);
	text[ADMIN_LINE] = '\n';
	a = answer_of(text, ADMIN_LINE + 1);
	assert_int_equal(json_integer_value(json_object_get(a, "echo")), 1);
	json_decref(a);
	free(text);
}

static void byte_by_byte(void **state)
{
	static const char request[] = "{\"command\": \"echo\", \"word\": 5}";
	struct peer p;

	dial(&p);
	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		say(&p, request + i, 1);
		if (i % 8 == 0)
			breathe();
	}
	assert_int_equal(asked, 0);
	assert_int_equal(shutdown(p.watch.fd, SHUT_WR), 0); /* ends the line as a newline does */
	hear(&p, 0);
	assert_string_equal(p.got.data, "{\"echo\":5}\n");
	hang_up(&p);
}

static void silent_end(void **state)
{
	struct peer p;

	dial(&p);
	breathe();
	assert_int_equal(shutdown(p.watch.fd, SHUT_WR), 0);
	hear(&p, 0);
	assert_int_equal(p.got.len, 0);
	assert_int_equal(asked, 0);
	hang_up(&p);
}

static void check_numbers(const struct text *t)
{
	json_t *a = json_loadb(t->data, t->len, 0, NULL), *item;
	size_t i, n = 0;

	assert_non_null(a);
	for (uint32_t k = 0; k < MANY; k++)
		n += k % 7 != 3;
	assert_int_equal(json_array_size(json_object_get(a, "first")), n);
	assert_int_equal(json_array_size(json_object_get(a, "second")), 0);
	n = 0;
	json_array_foreach(json_object_get(a, "first"), i, item)
	{
		while (n % 7 == 3)
			n++;
		assert_int_equal(json_integer_value(json_object_get(item, "n")), n++);
	}
	json_decref(a);
}

static void answers_in_parts(void **state)
{
	static const char request[] = "{\"command\": \"many\"}\n";
	struct peer slow, quick;
	json_t *a;

	/* One client does not read; the other is answered meanwhile. */
	dial(&slow);
	say(&slow, request, sizeof(request) - 1);
	breathe();
	dial(&quick);
	say(&quick, request, sizeof(request) - 1);
	hear(&quick, 0);
	check_numbers(&quick.got);
	hang_up(&quick);
	assert_int_equal(ended, 1);
	hear(&slow, 0);
	check_numbers(&slow.got);
	hang_up(&slow);
	assert_int_equal(ended, 2);

	a = answer_of("{\"command\": \"none\"}\n", 20);
	assert_int_equal(json_array_size(json_object_get(a, "first")), 0);
	assert_int_equal(json_object_size(a), 2);
	json_decref(a);
}

static void who_leaves(void **state)
{
	static const char request[] = "{\"command\": \"many\"}\n";
	struct peer p;

	dial(&p);
	say(&p, request, sizeof(request) - 1);
	hear(&p, 1000);
	hang_up(&p);
	breathe();
	assert_int_equal(ended, 1); /* the answer was freed, and half of it never made */
}

/* More clients than places, none of whom says anything: the one who does is answered soon. */
static void too_many(void **state)
{
	static const char request[] = "{\"command\": \"echo\", \"word\": 5}\n";
	enum { SILENT = 3 * ADMIN_CLIENTS };
	struct peer silent[SILENT], next;
	uint64_t began = clock_ns();

	for (unsigned i = 0; i < SILENT; i++) {
		dial(&silent[i]);
		if (i % 3 == 1)
			say(&silent[i], request, 10);
	}
	breathe();
	dial(&next);
	say(&next, request, sizeof(request) - 1);
	breathe();
	assert_int_equal(asked, 0); /* it waits */
	hear(&next, 0);
	assert_string_equal(next.got.data, "{\"echo\":5}\n");
	assert_true(clock_ns() - began < 5000000000ull); /* far less than ADMIN_SECONDS */
	hang_up(&next);
	for (unsigned i = 0; i < SILENT; i++)
		hang_up(&silent[i]);
	breathe();
	expect_error("{}\n", "command");
}

/* Readers that do not read give way too. */
static void too_many_readers(void **state)
{
	static const char request[] = "{\"command\": \"many\"}\n";
	struct peer stuck[ADMIN_CLIENTS], next;

	for (unsigned i = 0; i < ADMIN_CLIENTS; i++) {
		dial(&stuck[i]);
		say(&stuck[i], request, sizeof(request) - 1);
	}
	breathe();
	dial(&next);
	say(&next, request, sizeof(request) - 1);
	hear(&next, 0);
	check_numbers(&next.got);
	hang_up(&next);
	assert_int_equal(ended, 2); /* one gave way */
	for (unsigned i = 0; i < ADMIN_CLIENTS; i++)
		hang_up(&stuck[i]);
	breathe();
	assert_int_equal(ended, ADMIN_CLIENTS + 1);
}

static void texts(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = {
		{"plain", "plain"},
		{"\xc3\xa4", "\xc3\xa4"},
		{"a\xff", "a?"},
		{"\xc3", "?"},
		{"\xe2\x82", "??"},
		{"\xed\xa0\x80", "???"},
		{"\xc0\x80x", "??x"},
		{"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
		{"\xf4\x90\x80\x80", "????"},
		{"\xe0\x80\x80", "???"},
	};

	for (size_t i = 0; i < array_size(table); i++) {
		json_t *t = answer_text(table[i].in);

		assert_string_equal(json_string_value(t), table[i].out);
		json_decref(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(longest_request, setup, teardown),
		cmocka_unit_test_setup_teardown(byte_by_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(silent_end, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_in_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(who_leaves, setup, teardown),
		cmocka_unit_test_setup_teardown(too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(too_many_readers, setup, teardown),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
