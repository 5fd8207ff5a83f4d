/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of a head: found in order, added while there is room, removed, copied deep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "http.h"

#define T(s) HTTP_TEXT(s)

static void texts(void **state)
{
	assert_true(http_text_equal(T(""), (struct http_text){NULL, 0}));
	assert_true(http_text_equal(T("a"), T("a")));
	assert_false(http_text_equal(T("a"), T("A")));
	assert_false(http_text_equal(T("a"), T("ab")));
	assert_true(http_text_equal_nocase(T("Foo-Bar"), T("fOO-bAR")));
	assert_true(http_text_equal_nocase(T(""), (struct http_text){NULL, 0}));
	assert_false(http_text_equal_nocase(T("Foo"), T("Fop")));
	assert_false(http_text_equal_nocase(T("Foo"), T("Foo2")));
}

static void copies_of_texts(void **state)
{
	struct arena a = {0};
	struct http_text t = http_text_keep(&a, (struct http_text){"abcd", 3});

	assert_int_equal(t.len, 3);
	assert_string_equal(t.at, "abc");
	assert_string_equal(http_text_keep(&a, (struct http_text){NULL, 0}).at, "");
	arena_free(&a);
}

static void fields(void **state)
{
	struct http_field room[5] = {0};
	struct http_head h = {.field = room, .room = array_size(room)};
	const struct http_field *f;

	assert_null(http_field(&h, HTTP_NAME_HOST, NULL));
	assert_true(http_field_add(&h, T("Cookie"), T("a")));
	assert_true(http_field_add(&h, T("X-Mine"), T("b")));
	assert_true(http_field_add(&h, T("COOKIE"), T("c")));
	assert_true(http_field_add(&h, T("x-mine"), T("d")));
	assert_true(http_field_add(&h, T("te"), T("")));
	assert_false(http_field_add(&h, T("via"), T("e")));
	assert_int_equal(h.fields, 5);
	assert_int_equal(room[1].id, HTTP_NAME_OTHER);

	f = http_field(&h, HTTP_NAME_COOKIE, NULL);
	assert_ptr_equal(f, &room[0]);
	f = http_field(&h, HTTP_NAME_COOKIE, f);
	assert_ptr_equal(f, &room[2]);
	assert_null(http_field(&h, HTTP_NAME_COOKIE, f));
	f = http_field_named(&h, T("x-mine"), NULL);
	assert_ptr_equal(f, &room[1]);
	f = http_field_named(&h, T("x-mine"), f);
	assert_ptr_equal(f, &room[3]);
	assert_null(http_field_named(&h, T("x-mine"), f));
	assert_null(http_field_named(&h, T("x-min"), NULL));

	http_field_remove(&h, T("x-mine"));
	assert_int_equal(h.fields, 3);
	assert_true(http_text_equal(room[1].name, T("COOKIE")));
	assert_int_equal(room[2].id, HTTP_NAME_TE);
	http_field_remove(&h, T("not-there"));
	assert_int_equal(h.fields, 3);
	http_field_remove(&h, T("cookie"));
	http_field_remove(&h, T("te"));
	assert_int_equal(h.fields, 0);
}

static struct http_text heap(const char *s)
{
	size_t len = strlen(s);
	char *p = malloc(len ? len : 1);

	memcpy(p, s, len);
	return (struct http_text){p, len};
}

static void kept(void **state)
{
	struct http_field room[] = {
		{.name = heap("Host"), .value = heap("a"), .id = HTTP_NAME_HOST},
		{.name = heap("x"), .value = heap(""), .secret = true},
	};
	struct http_head h = {
		.version = HTTP_1_1,
		.method = HTTP_METHOD_OTHER,
		.method_text = heap("PURGE"),
		.scheme = heap("http"),
		.authority = heap("a"),
		.path = heap("/x?y"),
		.upgrade = heap("websocket"),
		.reason = heap("OK"),
		.status = 7,
		.body = HTTP_LENGTH,
		.has_length = true,
		.length = 9,
		.field = room,
		.fields = 2,
		.room = 2,
	};
	struct http_text *all[] = {&h.method_text, &h.scheme, &h.authority, &h.path, &h.upgrade, &h.reason,
				   &room[0].name, &room[0].value, &room[1].name, &room[1].value};
	struct arena a = {0};
	struct http_head *k = http_head_keep(&a, &h, 3);

	for (size_t i = 0; i < array_size(all); i++)
		free((char *)all[i]->at);
	assert_true(http_text_equal(k->method_text, T("PURGE")));
	assert_true(http_text_equal(k->scheme, T("http")));
	assert_true(http_text_equal(k->authority, T("a")));
	assert_true(http_text_equal(k->path, T("/x?y")));
	assert_true(http_text_equal(k->upgrade, T("websocket")));
	assert_true(http_text_equal(k->reason, T("OK")));
	assert_int_equal(k->length, 9);
	assert_int_equal(k->fields, 2);
	assert_int_equal(k->room, 5);
	assert_int_equal(k->field[0].id, HTTP_NAME_HOST);
	assert_true(k->field[1].secret);
	assert_true(http_text_equal(k->field[0].value, T("a")));
	assert_true(http_field_add(k, T("a"), T("1")) && http_field_add(k, T("b"), T("2")) &&
		    http_field_add(k, T("c"), T("3")));
	assert_false(http_field_add(k, T("d"), T("4")));
	k = http_head_keep(&a, &(struct http_head){.status = 200}, 0);
	assert_int_equal(k->fields, 0);
	arena_free(&a);
}

/* As many as there are, in order, wherever they have moved to. */
static void room_is_made(void **state)
{
	struct arena a = {0};
	struct http_field one = {.name = T("first"), .value = T("0")};
	struct http_head h = {.field = &one, .fields = 1, .room = 1}, none = {0};
	unsigned i;

	for (i = 1; i < 300; i++)
		http_field_put(&a, &h, i % 2 ? T("Host") : T("x"), T("v"));
	assert_int_equal(h.fields, 300);
	assert_true(h.room >= 300 && h.room < 700);
	assert_true(http_text_equal(h.field[0].name, T("first")));
	for (i = 1; i < 300; i++)
		assert_int_equal(h.field[i].id, i % 2 ? HTTP_NAME_HOST : HTTP_NAME_OTHER);
	http_field_put(&a, &none, T("a"), T("b"));
	assert_int_equal(none.fields, 1);
	arena_free(&a);
}

static void framing(void **state)
{
	unsigned n, all = 0;

	for (n = 0; n < HTTP_NAME_COUNT; n++)
		all += http_name_is_framing(n);
	assert_int_equal(all, 11);
	assert_true(http_name_is_framing(http_name("Content-Length", 14)));
	assert_true(http_name_is_framing(http_name("TRANSFER-ENCODING", 17)));
	assert_false(http_name_is_framing(HTTP_NAME_OTHER));
}

static void grpc(void **state)
{
	static const struct {
		const char *type;
		bool is;
	} all[] = {
		{"application/grpc", true},
		{"application/grpc+proto", true},
		{"Application/GRPC;charset=x", true},
		{"application/grpc ; x", true},
		{"application/grpc-web", false},
		{"application/grpcx", false},
		{"application/grp", false},
		{"text/plain", false},
		{"", false},
	};

	for (size_t i = 0; i < array_size(all); i++) {
		struct http_text v = heap(all[i].type);
		struct http_field f = {.name = T("content-type"), .value = v, .id = HTTP_NAME_CONTENT_TYPE};

		assert_int_equal(http_is_grpc(&(struct http_head){.field = &f, .fields = 1}), all[i].is);
		free((char *)v.at);
	}
	assert_false(http_is_grpc(&(struct http_head){0}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),
		cmocka_unit_test(copies_of_texts),
		cmocka_unit_test(fields),
		cmocka_unit_test(kept),
		cmocka_unit_test(room_is_made),
		cmocka_unit_test(framing),
		cmocka_unit_test(grpc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
