/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of a stream, items of a List: tables of where they begin and end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "doc.h"

static void split_streams(void **state)
{
	static const struct {
		bool json;
		const char *in;
		const char *parts; /* lengths */
	} cases[] = {
		{false, "a: 1\n", "5"},
		{false, "---\na: 1\n---\nb: 1\n", "9 9"},
		{false, "a: 1\n---\nb: 1\n", "5 9"},
		{false, "# c\n\n---\na: 1\n---\n", "14 4"},
		{false, "%YAML 1.1\n---\na: 1\n", "19"},
		{false, "---\r\na: 1\r\n--- # x\r\nb: 1\r\n", "11 15"},
		{false, "a: 1\n----\n---x\n --- \n", "21"},
		{false, "a: 1\n...\nb: 1\n...\n---\nc: 1\n", "9 9 9"},
		{false, "a: |\n  ---\n---\nb", "11 5"},
		{false, "---", "3"},
		{false, "a\n---", "2 3"},
		{false, "---\n---\n", "4 4"},
		{true, "{}", "2"},
		{true, "{}\n", "3"},
		{true, " {\"a\":\"}\\\"{\"} [1,[2]]\n", "13 9"},
		{true, "{\"a\"", "4"},
		{true, "nonsense {}", "11"},
		{true, "[[]]]{}", "4 3"},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		size_t len = strlen(cases[i].in), at = 0;
		struct text t = {0};

		while (at < len) {
			size_t part = doc_split(cases[i].in + at, len - at, cases[i].json);

			assert_in_range(part, 1, len - at);
			text_add(&t, "%s%zu", at ? " " : "", part);
			at += part;
		}
		if (strcmp(t.data, cases[i].parts))
			fail_msg("case %zu: \"%s\", not \"%s\"", i, t.data, cases[i].parts);
		text_free(&t);
	}
	assert_int_equal(doc_split("", 0, false), 0);
}

/* Markers at every place of a block against going by lines; and a stream of end markers takes no longer than others. */
static void split_blocks(void **state)
{
	char in[300], *many = malloc(8 << 20);

	for (size_t at = 2; at < 250; at++) {
		memset(in, 'x', sizeof(in));
		memcpy(in + at - 1, "\n---\n", 5);
		in[at / 2] = '\n';
		assert_int_equal(doc_split(in, sizeof(in), false), at);
		in[at + 1] = '.';
		assert_int_equal(doc_split(in, sizeof(in), false), sizeof(in));
		memcpy(in + at, "...", 3);
		assert_int_equal(doc_split(in, sizeof(in), false), at + 4);
		assert_int_equal(doc_split(in, at + 3, false), at + 3);
	}
	for (size_t i = 0; i < 8 << 20; i += 4)
		memcpy(many + i, "...\n", 4);
	assert_int_equal(doc_split(many, 8 << 20, false), 8 << 20);
	free(many);
}

static void split_lists(void **state)
{
	static const struct {
		bool json;
		const char *in, *parts; /* "" : not one that is split */
	} cases[] = {
		{false, "kind: List\nitems:\n- a\n- b: 1\n  c: 2\n", "18+4 22+14"},
		{false, "---\nitems: # x\n- a\nkind: List\n", ""},
		{false, "---\nitems: \n- a\n\n# c\n- b\nkind: List\nmetadata: {}\n", "12+9 21+4"},
		{false, "kind: List\nitems:\n  - a: |\n      x\n   - y\n  - b\nmetadata:\n  x: 1\n", "18+24 42+6"},
		{false, "kind: List\nitems:\n-\n  a: 1\n- b\n", "18+9 27+4"},
		{false, "kind: ServiceList\nitems:\n- a\n", ""},
		{false, "kind: List\nitems:\n- &x a\n- *x\n", ""},
		{false, "kind: List\nitems:\n- a: &x {}\n- b\n", ""},
		{false, "kind: List\nitems:\n- a: x&y\n- b & c\n", "18+9 27+8"},
		{false, "kind: List\nitems: [a]\n", ""},
		{false, "kind: List\nitems:\n  - a\n - b\n", ""},
		{false, "kind: List\nitems:\n\t- a\n", ""},
		{false, "kind: List\nitems:\n- a\nitems:\n- b\n", ""},
		{false, "kind: List\nx: [\nitems:\n- a\n", ""},
		{false, "kind: List\nitems:\n", ""},
		{false, "kind: List\nitems:\n- \n|\n", ""}, /* libyaml takes it for the text of the item */
		{false, "kind: List\nitems:\n- a\n!!str\n", ""},
		{true, "{\"kind\":\"List\",\"items\":[{\"a\":\"]}\"}, {}\n]}", "24+10 36+2"},
		{true, "{\"items\":[{}],\"x\":[1,{\"items\":2}],\"kind\":\"List\"}", "10+2"},
		{true, "{\"x\":-1.5e3 ,\"y\":\"items\",\"items\":[{}],\"kind\":\"List\"}", "34+2"},
		{true, "{\"kind\":\"List\",\"items\":[{},]}", ""},
		{true, "{\"kind\":\"List\",\"items\":[{} {}]}", ""},
		{true, "{\"kind\":\"List\",\"items\":[{}", ""},
		{true, "{\"kind\":\"List\",\"items\":[]}", ""},
		{true, "{\"kind\":\"List\",\"items\":[1]}", ""},
		{true, "{\"kind\":\"List\",\"items\":[{}],\"items\":[{}]}", ""},
		{true, "{\"kind\":\"Pod\",\"items\":[{}]}", ""},
		{true, "[{}]", ""},
		{true, "{", ""},
		{true, "{\"a", ""},
		{true, "{\"items\"", ""},
		{true, "{\"items\":[{\"", ""},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		size_t len = strlen(cases[i].in);
		char *exact = malloc(len);
		unsigned count;
		struct doc_part *part;
		struct text t = {0};

		memcpy(exact, cases[i].in, len);
		part = doc_split_list(exact, len, cases[i].json, &count);
		text_add(&t, "%s", "");
		for (unsigned p = 0; p < count; p++) {
			const char *at = exact + part[p].at;
			size_t dash = strspn(at, " ");

			text_add(&t, "%s%zu+%zu", p ? " " : "", part[p].at, part[p].len);
			if (cases[i].json)
				continue;
			assert_int_equal(doc_item(at, exact + len, dash), part[p].len);
			assert_int_equal(doc_item(at, exact + len, dash + 1), 0);
		}
		if (strcmp(t.data ? t.data : "", cases[i].parts))
			fail_msg("case %zu: \"%s\", not \"%s\"", i, t.data, cases[i].parts);
		free(part);
		free(exact);
		text_free(&t);
	}
}

/* An item by itself: ends where the next one starts, or whatever is not further in; with an anchor it is none. */
static void split_item(void **state)
{
	static const struct {
		const char *in;
		size_t dash, len;
	} cases[] = {
		{"- a\n- b\n", 0, 4},	       {"- a\n  b: 1\n\n# c\nx: 1\n", 0, 16}, {"  - a\n - b\n", 2, 6},
		{"  - a\n    b: 1\n", 2, 15}, {" - a\n", 2, 0},			  {"-a\n", 0, 0},
		{"-", 0, 0},		       {"-\n", 0, 2},				  {"- &x a\n", 0, 0},
		{"- a\n---\n", 0, 4},	       {"- a\n...\n", 0, 4},			  {"- a", 0, 3},
	};

	static const char marker[] = "----";

	for (size_t i = 0; i < array_size(cases); i++) {
		const char *end = cases[i].in + strlen(cases[i].in);

		if (doc_item(cases[i].in, end, cases[i].dash) != cases[i].len)
			fail_msg("case %zu: %zu", i, doc_item(cases[i].in, end, cases[i].dash));
	}
	assert_true(doc_starts(marker, marker + 3));
	assert_false(doc_starts(marker, marker + 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_streams),
		cmocka_unit_test(split_blocks),
		cmocka_unit_test(split_lists),
		cmocka_unit_test(split_item),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
