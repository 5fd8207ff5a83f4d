/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of chunked bodies: facts/l7.md rows 17 and 18; what we write is what we read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/http/http1_parts.h"

/* In pieces of `step`: data, and whether it was refused. */
static bool eat(const char *in, size_t len, size_t step, char *to, size_t *ret_len, struct http1_chunk *c,
		const char **ret_why)
{
	size_t at = 0;

	*ret_len = 0;
	*c = (struct http1_chunk){0};
	while (at < len && c->state != CHUNK_TRAILERS) {
		size_t n = len - at < step ? len - at : step;

		if (c->state == CHUNK_DATA) {
			n = n < c->left ? n : (size_t)c->left;
			memcpy(to + *ret_len, in + at, n);
			*ret_len += n;
			http1_chunk_data(c, n);
		} else {
			uint8_t *copy = malloc(n);
			struct http1_chunk before = *c;
			ssize_t r;

			memcpy(copy, in + at, n);
			r = http1_chunk_frame(c, copy, n, ret_why);
			free(copy);
			if (r < 0) {
				assert_memory_equal(c, &before, sizeof(before));
				return false;
			}
			n = (size_t)r;
		}
		at += n;
	}
	return true;
}

static void taken(void **state)
{
	static const struct {
		const char *in, *out;
		bool last;
	} all[] = {
		{"3\r\nabc\r\n0\r\n", "abc", true},
		{"a\r\n0123456789\r\n1\r\nX\r\n000\r\n", "0123456789X", true},
		{"0A\r\n0123456789\r\n", "0123456789", false},
		{"0000000000000001\r\nx\r\n", "x", false},
		{"3;a=b;c=\"d;e\"\r\nabc\r\n0;x\r\n", "abc", true},
		{"3 ;a\r\nabc\r\n", "abc", false},
		{"3\t ;a\tb\r\nabc\r\n", "abc", false},
		{"0\r\n", "", true},
	};
	char out[256];

	for (size_t i = 0; i < array_size(all); i++) {
		for (size_t step = 1; step < 30; step++) {
			struct http1_chunk c;
			const char *why = "";
			size_t len;

			if (!eat(all[i].in, strlen(all[i].in), step, out, &len, &c, &why))
				fail_msg("row %zu, step %zu: %s", i, step, why);
			assert_int_equal(len, strlen(all[i].out));
			assert_memory_equal(out, all[i].out, len);
			assert_int_equal(c.state == CHUNK_TRAILERS, all[i].last);
		}
	}
}

static void refused(void **state)
{
	static const char *const all[] = {
		" 3\r\nabc\r\n", "\t3\r\n", "+3\r\n", "-3\r\n", "0x3\r\n", "3 \r\n",
		 "3\t\r\n", "3 x\r\n", "3x\r\n", "g\r\n",
		"\r\n", ";x\r\n", "3\n", "3;x\n", "3\rabc", "3\r\rabc", "3;x\ry\r\n", "3;x\x01\r\n", "3;\x7f\r\n",
		"3\r\nabcd\r\n", "3\r\nabc\n0\r\n", "3\r\nabc\rx", "3\r\nabc0\r\n",
		 "3\r\nabc\r\n\r\n0\r\n", "3\r\nabc\r\n\n",
		"00000000000000001\r\nx", "8000000000000000\r\n", "ffffffffffffffff\r\n",
		 "10000000000000003\r\nabc", "3_0\r\n",
		"3,\r\n", "3\"\r\n", "3\x80\r\n", "3\v\r\n", "3\f;\r\n", "3\r\nabc\r\nx\r\n",
	};
	char out[256];

	for (size_t i = 0; i < array_size(all); i++) {
		for (size_t step = 1; step < 30; step += 28) {
			struct http1_chunk c;
			const char *why = NULL;
			size_t len;

			if (eat(all[i], strlen(all[i]), step, out, &len, &c, &why))
				fail_msg("row %zu was taken", i);
			assert_non_null(why);
		}
	}
	/* A NUL is no end of a text here. */
	for (size_t at = 0; at < 3; at++) {
		char in[] = "3;\r\n";
		struct http1_chunk c;
		const char *why;
		size_t len;

		in[at] = 0;
		assert_false(eat(in, 4, 4, out, &len, &c, &why));
	}
}

/* Chunks of `data` bytes with `extension` bytes more in each head: how many of them are taken, at most `most`. */
static unsigned taken_of(unsigned data, unsigned extension, unsigned most)
{
	char *head = malloc(extension + 32);
	struct http1_chunk c = {0};
	const char *why;
	unsigned n;
	int len;

	len = snprintf(head, 32, "%x%s", data, extension ? ";" : "");
	memset(head + len, 'x', extension);
	memcpy(head + len + extension, "\r\n", 2);
	for (n = 0; n < most; n++) {
		size_t size = (size_t)len + extension + 2;

		if (http1_chunk_frame(&c, (uint8_t *)head, size, &why) != (ssize_t)size)
			break;
		http1_chunk_data(&c, data);
		if (http1_chunk_frame(&c, (const uint8_t *)"\r\n", 2, &why) != 2)
			break;
	}
	free(head);
	return n;
}

static void overhead(void **state)
{
	unsigned n = taken_of(1, 0, 1u << 20);

	assert_in_range(n, 100000, 140000); /* single bytes for a long while, not for ever */
	assert_int_equal(taken_of(2, 0, 1u << 20), 1u << 20);
	assert_int_equal(taken_of(100, 50, 1u << 20), 1u << 20);
	assert_in_range(taken_of(1, 1000, 1u << 20), 100, 140);
	assert_int_equal(taken_of(1, 200000, 1u << 20), 0);
	assert_int_equal(taken_of(200000, 100000, 1000), 1000);
}

static void heads(void **state)
{
	static const uint64_t all[] = {1,	 9,	   10,	 15,	16,   255,	  256,
				       4095, 4096, 65535, 65536, 1ull << 32, INT64_MAX};
	uint8_t to[HTTP1_CHUNK_HEAD + 1];
	char want[32];

	for (size_t i = 0; i < array_size(all); i++) {
		size_t len = http1_chunk_head(all[i], to);
		struct http1_chunk c = {0};
		const char *why;

		to[len] = 0;
		snprintf(want, sizeof(want), "%llx\r\n", (unsigned long long)all[i]);
		assert_string_equal((char *)to, want);
		assert_int_equal(http1_chunk_frame(&c, to, len, &why), len);
		assert_true(c.state == CHUNK_DATA && c.left == all[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken),
		cmocka_unit_test(refused),
		cmocka_unit_test(overhead),
		cmocka_unit_test(heads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
