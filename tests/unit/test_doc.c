/* SPDX-License-Identifier: Apache-2.0 */
/* YAML and JSON to trees: a table of dumps, a table of errors with their lines, bombs, streams of documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "doc.h"

/* Parses a copy that ends at an unreadable page: one byte too far is a crash. */
static int parse(struct arena *a, const char *bytes, size_t len, bool json, struct doc **ret, struct doc_error *e)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (len + page - 1) / page * page + page;
	char *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at;
	int rc;

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map + room - page, page, PROT_NONE), 0);
	at = map + room - page - len;
	memcpy(at, bytes, len);
	rc = doc_parse(a, at, len, json, 1, ret, e);
	munmap(map, room);
	return rc;
}

/* kind letter, line, text: {1 a=s2'x' b=[3 n3'1' ] } */
static void dump(struct text *t, const struct doc *d)
{
	static const char letters[] = {'0', 'b', 'n', 's', '[', '{'};

	if (d->key)
		text_add(t, "%s=", d->key);
	text_add(t, "%c%u", letters[d->kind], d->line);
	if (d->kind < DOC_LIST) {
		text_add(t, "'%s'", d->text ? d->text : "");
		return;
	}
	for (const struct doc *c = d->child; c; c = c->next) {
		text_add(t, " ");
		dump(t, c);
	}
	text_add(t, d->kind == DOC_LIST ? "]" : "}");
}

static void trees(void **state)
{
	static const struct {
		bool json;
		const char *in, *out;
	} cases[] = {
		{false, "", "01''"},
		{false, "# nothing\n\n", "01''"},
		{false, "---\n", "02''"},
		{false, "a: x\nb:\n- 1\n- true\n- ~\n", "{1 a=s1'x' b=[3 n3'1' b4'true' 05'~']}"},
		{false, "a: \"1\"\nb: '1'\nc: 1\nd: !!str 1\n", "{1 a=s1'1' b=s2'1' c=n3'1' d=s4'1'}"},
		{false, "a:\nb: ''\nc: null\nd: \"null\"\n", "{1 a=01'' b=s2'' c=03'null' d=s4'null'}"},
		{false, "[yes, No, on, off, y, N, true, maybe, nO]",
		 "[1 b1'yes' b1'No' b1'on' b1'off' b1'y' b1'N' b1'true' s1'maybe' s1'nO']"},
		{false, "[1, -1, +1, 0x1F, 0o17, 1_000, 1.5, .5, 1e3, 1e, 1.2.3, 10.0.0.1, 0x, -, ., .inf, 1a]",
		 "[1 n1'1' n1'-1' n1'+1' n1'0x1F' n1'0o17' n1'1_000' n1'1.5' n1'.5' n1'1e3' s1'1e' s1'1.2.3' "
		 "s1'10.0.0.1' s1'0x' s1'-' s1'.' n1'.inf' s1'1a']"},
		{false, "2026-01-31T12:00:00Z", "s1'2026-01-31T12:00:00Z'"},
		{false, "a: |\n  x\n  --- \n  y\nb: 1\n", "{1 a=s1'x\n--- \ny\n' b=n5'1'}"},
		{false, "{\"a\":1,\n\t\"b\":[1,2]}", "{1 a=n1'1' b=[2 n2'1' n2'2']}"},
		{false, "a: &x {b: 1}\nc: *x\nd: [*x, *x]\n",
		 "{1 a={1 b=n1'1'} c={2 b=n1'1'} d=[3 {3 b=n1'1'} {3 b=n1'1'}]}"},
		{false, "a: &x 1\nb: &x 2\nc: *x\n", "{1 a=n1'1' b=n2'2' c=n3'2'}"},
		{false, "8080: a\n\"8081\": b\n", "{1 8080=s1'a' 8081=s2'b'}"},
		{false, "\"<<\": 1\n", "{1 <<=n1'1'}"},
		{false, "a: \xf0\x9f\x98\x80\r\nb: 2\r\n", "{1 a=s1'\xf0\x9f\x98\x80' b=n2'2'}"},
		{false, "\xef\xbb\xbf"
			"a: 1\n",
		 "{1 a=n1'1'}"},
		{false, "%YAML 1.1\n---\na: 1\n...\n", "{3 a=n3'1'}"},
		{true, "", "01''"},
		{true, " \n\t\n", "01''"},
		{true, "{}", "{1}"},
		{true, "{\"a\":\"x\",\n\"b\"\n:\n[1,-2.50e1\n,true,null],\"c\":{}}",
		 "{1 a=s1'x' b=[4 n4'1' n4'-2.50e1' b5'true' 05'null'] c={5}}"},
		{true, "[\"\\ud83d\\ude00\\t\\/\\\"\\\\\",\n\"]\",\n\"a,b:c\"]",
		 "[1 s1'\xf0\x9f\x98\x80\t/\"\\' s2']' s3'a,b:c']"},
		{true, "{\"a\\n\\\"b\":\n1}", "{1 a\n\"b=n2'1'}"},
	};

	for (size_t i = 0; i < array_size(cases); i++) {
		struct arena a = {0};
		struct text t = {0};
		struct doc_error e = {0};
		struct doc *d;

		if (parse(&a, cases[i].in, strlen(cases[i].in), cases[i].json, &d, &e))
			fail_msg("case %zu: line %u: %s", i, e.line, e.reason);
		dump(&t, d);
		assert_string_equal(t.data, cases[i].out);
		text_free(&t);
		arena_free(&a);
	}
}

static void expect_error(const char *in, size_t len, bool json, uint32_t line, const char *reason)
{
	struct arena a = {0};
	struct doc_error e = {0};
	struct doc *d;

	if (!parse(&a, in, len, json, &d, &e))
		fail_msg("accepted: %.60s", in);
	if (e.line != line || !strstr(e.reason, reason))
		fail_msg("%.60s: line %u \"%s\", not %u \"%s\"", in, e.line, e.reason, line, reason);
	assert_null(d);
	arena_free(&a);
}

static void errors(void **state)
{
	static const struct {
		bool json;
		const char *in;
		uint32_t line;
		const char *reason;
	} cases[] = {
		{false, "a: 1\nb: [1\nc: 2\n", 3, "not valid YAML: did not find expected ',' or ']'"},
		{false, "a: 1\n\tb: 2\n", 2, "not valid YAML: found a tab character that violates indentation"},
		{false, "a: \"x\n\n", 3, "not valid YAML: found unexpected end of stream"},
		{false, "a: b: c\n", 1, "mapping values are not allowed"},
		{false, "a: 1\nb: 2\n# c\na: 3\n", 4, "key \"a\" is given twice in one map (first in line 1)"},
		{false, "a: {b: 1, c: 2, b: 3}\n", 1, "key \"b\" is given twice"},
		{false, "\"a\": 1\na: 2\n", 2, "key \"a\" is given twice"},
		{false, "a:\n  <<: {b: 1}\n", 2, "merge keys (<<)"},
		{false, "a: !!binary aGk=\n", 1, "tags other than !!str"},
		{false, "a: !x {}\n", 1, "tags other than !!str"},
		{false, "a: *x\n", 1, "an anchor (&) that is not there"},
		{false, "a: &x [1,\n*x]\n", 2, "inside its own anchor"},
		{false, "? [1]\n: 2\n", 1, "must be text, not a list or a map"},
		{false, "? {a: 1}\n: 2\n", 1, "must be text, not a list or a map"},
		{false, "a: &x b\n*x : 1\n", 2, "cannot be the key"},
		{false, "&x a: 1\n", 1, "an anchor (&) on the key"},
		{false, "~: 1\n", 1, "a key of a map is missing"},
		{false, "a: 1\n\nb: \"x\\0y\"\n", 3, "NUL byte"},
		{false, "a: 1\n\nb: \xff\xfe\n", 3, "not valid YAML: invalid leading UTF-8 octet"},
		{false, "a: 1\nb: \x01\n", 2, "control characters are not allowed"},
		{false, "a: 1\n---\nb: 1\n", 2, "a second document starts here"},
		{false, "%YAML 2.0\n---\na: 1\n", 1, "not valid YAML"},
		{true, "{\"a\":1,\n\"a\":2}", 2, "not valid JSON: duplicate object key"},
		{true, "{\"a\":1,\n}", 2, "not valid JSON"},
		{true, "[1]\n[2]", 2, "not valid JSON: end of file expected"},
		{true, "[\"\\u0000\"]", 1, "not valid JSON: \\u0000 is not allowed"},
		{true, "[\"\\ud83d\"]", 1, "not valid JSON: invalid Unicode"},
		{true, "[\n\"\xff\"]", 2, "not valid JSON: unable to decode byte 0xff"},
		{true, "[\"a\nb\"]", 1, "not valid JSON"},
		{true, "[99999999999999999999]", 1, "not valid JSON: too big integer"},
		{true, "1", 1, "not valid JSON: '[' or '{' expected"},
		{true, "{'a': 1}", 1, "not valid JSON"},
		{true, "[01]", 1, "not valid JSON"},
	};

	for (size_t i = 0; i < array_size(cases); i++)
		expect_error(cases[i].in, strlen(cases[i].in), cases[i].json, cases[i].line, cases[i].reason);
	expect_error("a: 1\nb: \0\n", 10, false, 2, "a NUL byte: this is not text in UTF-8");
	expect_error("{\n\0}", 4, true, 2, "a NUL byte");
	expect_error("\xff\xfe"
		     "a\0:\0",
		     6, false, 1, "a NUL byte"); /* UTF-16 */
}

/* Duplicate keys in a large map are found, and found fast. */
static void many_keys(void **state)
{
	struct text t = {0};

	for (unsigned i = 0; i < 100000; i++)
		text_add(&t, "key-%u: 1\n", i);
	text_add(&t, "key-77: 2\n");
	expect_error(t.data, t.len, false, 100001, "key \"key-77\" is given twice in one map (first in line 78)");
	text_free(&t);
}

static void deep(void **state)
{
	char in[4096];
	struct arena a = {0};
	struct doc_error e;
	struct doc *d;

	for (int json = 0; json < 2; json++) {
		memset(in, '[', DOC_MAX_DEPTH);
		memset(in + DOC_MAX_DEPTH, ']', DOC_MAX_DEPTH);
		assert_int_equal(parse(&a, in, 2 * DOC_MAX_DEPTH, json, &d, &e), 0);
		memset(in, '[', sizeof(in) / 2);
		memset(in + sizeof(in) / 2, ']', sizeof(in) / 2);
		expect_error(in, sizeof(in), json, 1, "");
		expect_error(in, sizeof(in) / 2, json, 1, "");
	}
	arena_free(&a);
}

/* Billion laughs: each level shows the one below ten times. Refused at a small, known amount, and at once. */
static void alias_bomb(void **state)
{
	struct text t = {0};

	text_add(&t, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
	for (unsigned i = 1; i < 30; i++)
		text_add(&t, "a%u: &a%u [*a%u,*a%u,*a%u,*a%u,*a%u,*a%u,*a%u,*a%u,*a%u,*a%u]\n", i, i, i - 1,
			 i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	expect_error(t.data, t.len, false, 4, "aliases (*) show more than 10000 values");
	text_free(&t);
	/* Deep by aliases: each is one level deeper than the one before. */
	t = (struct text){0};
	text_add(&t, "- &a0 [x]\n");
	for (unsigned i = 1; i < 100; i++)
		text_add(&t, "- &a%u [*a%u]\n", i, i - 1);
	expect_error(t.data, t.len, false, 64, "nested too deeply");
	text_free(&t);
	t = (struct text){0};
	for (unsigned i = 0; i < 300; i++)
		text_add(&t, "- &a%u x\n", i);
	expect_error(t.data, t.len, false, 257, "too many anchors");
	text_free(&t);
}

static void too_many_values(void **state)
{
	size_t len = 2 * DOC_MAX_NODES + 2;
	char *in = malloc(len);

	in[0] = '[';
	for (size_t i = 1; i < len - 1; i++)
		in[i] = i % 2 ? '1' : ',';
	in[len - 1] = ']';
	expect_error(in, len, true, 1, "too many values");
	free(in);
}

static void lookup(void **state)
{
	static const char in[] = "a: {b: [1, 2]}\n";
	struct arena a = {0};
	struct doc_error e;
	struct doc *d;

	assert_int_equal(doc_parse(&a, in, strlen(in), false, 41, &d, &e), 0);
	assert_int_equal(d->line, 41);
	assert_int_equal(doc_get(doc_get(d, "a"), "b")->kind, DOC_LIST);
	assert_null(doc_get(d, "b"));
	assert_null(doc_get(NULL, "b"));
	assert_null(doc_get(doc_get(doc_get(d, "a"), "b"), "c"));
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trees),
		cmocka_unit_test(errors),
		cmocka_unit_test(many_keys),
		cmocka_unit_test(deep),
		cmocka_unit_test(alias_bomb),
		cmocka_unit_test(too_many_values),
		cmocka_unit_test(lookup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
