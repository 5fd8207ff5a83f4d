/* SPDX-License-Identifier: Apache-2.0 */
/* Paths: tables, an oracle that works on lists of segments, and laws over random ones. Hosts: tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "http.h"

struct result {
	bool good;
	char path[512], query[512];
	bool has_query;
};

/* From a copy that ends where the memory ends, to one that does; and in place. */
static struct result run(const char *s, bool merge)
{
	size_t len = strlen(s);
	char *in = malloc(len ? len : 1), *to = malloc(len ? len : 1);
	struct http_text path, query, again_path, again_query;
	struct result r = {0};
	const char *why, *again;

	memcpy(in, s, len);
	r.good = http_path_normalise((struct http_text){in, len}, merge, to, &path, &query, &why);
	if (r.good) {
		assert_null(why);
		snprintf(r.path, sizeof(r.path), "%.*s", (int)path.len, path.at);
		r.has_query = query.at;
		snprintf(r.query, sizeof(r.query), "%.*s", (int)query.len, query.len ? query.at : "");
		assert_true(path.at == to);
		if (query.at)
			assert_true(query.at == to + path.len + 1 && query.at[-1] == '?');
	} else {
		assert_true(!strncmp(why, "path: ", 6));
	}
	assert_memory_equal(in, s, len);
	assert_int_equal(
		http_path_normalise((struct http_text){in, len}, merge, in, &again_path, &again_query, &again), r.good);
	assert_true(again == why);
	if (r.good)
		assert_true(http_text_equal(again_path, path) && http_text_equal(again_query, query));
	free(in);
	free(to);
	return r;
}

static void good_paths(void **state)
{
	static const struct {
		const char *from, *to, *merged; /* NULL: the same */
	} all[] = {
		{"/", "/", NULL},
		{"*", "*", NULL},
		{"/a", "/a", NULL},
		{"/a/", "/a/", NULL},
		{"/a/b?c", "/a/b", NULL},
		{"/.", "/", NULL},
		{"/./", "/", NULL},
		{"/a/.", "/a/", NULL},
		{"/a/..", "/", NULL},
		{"/a/../", "/", NULL},
		{"/a/./b/../c", "/a/c", NULL},
		{"/a/b/../../c", "/c", NULL},
		{"/a/%2e%2E/b", "/b", NULL},
		{"/a/.%2e/b", "/b", NULL},
		{"/...", "/...", NULL},
		{"/.a/..b/c.", "/.a/..b/c.", NULL},
		{"/%61%7e%2D%5f%39", "/a~-_9", NULL},
		{"/%c3%a9", "/%C3%A9", NULL},
		{"/%20%25%252f", "/%20%25%252f", NULL},
		{"/a;x=1/b", "/a;x=1/b", NULL},
		{"/a:b@c!$&'()*+,;=", "/a:b@c!$&'()*+,;=", NULL},
		{"/[id]|^{}`\"<>", "/[id]|^{}`\"<>", NULL},
		{"//", "//", "/"},
		{"//a///b//", "//a///b//", "/a/b/"},
		{"/a//../b", "/a/b", "/b"},
		{"/a/.//b", "/a//b", "/a/b"},
	};

	for (size_t i = 0; i < array_size(all); i++) {
		for (int merge = 0; merge < 2; merge++) {
			const char *want = merge && all[i].merged ? all[i].merged : all[i].to;
			struct result r = run(all[i].from, merge);

			if (r.good != !!want || (want && strcmp(r.path, want)))
				fail_msg("%s, merge %d: %d %s", all[i].from, merge, r.good, r.path);
		}
	}
}

static void bad_paths(void **state)
{
	static const char *const all[] = {
		"",	   "a",	      "http://a/", "?",	     "**",	   "/..",     "/../a",
		"/a/../..", "/a/..%2f",  "/%2F",	   "/%2f",   "/%5c",	"/%5C",	   "/\\",     "/a\\..\\b",
		"/%00",	   "/%0a",    "/%0D",	   "/%7f",   "/%1F",	"/%",	   "/%2",     "/%2g",
		"/%g2",	   "/%-1",    "/% 1",	   "/%u0041", "/#",	"/a#b",	   "/a?b#c",  "/a b",
		"/a\tb",   "/a\r\nb", "/a\177",	   "/\303\251", "/a?\303\251", "/a?b c", "/a?\n", "/..;/a",
		"/.;/",	   "/a/..;x", "/a/..%3bx", "/a/%2e%2E%3B", "/.;",	"/a/..;",
	};

	for (size_t i = 0; i < array_size(all); i++)
		for (int merge = 0; merge < 2; merge++)
			if (run(all[i], merge).good)
				fail_msg("%s was taken", all[i]);
}

static void reasons(void **state)
{
	static const struct {
		const char *path, *why;
	} all[] = {
		{"a", "path: it does not begin with a slash"},
		{"/%2f", "path: an escaped slash or backslash"},
		{"/%00", "path: an escaped control character"},
		{"/%zz", "path: a percent sign without two hex digits"},
		{"/a\\b", "path: a backslash"},
		{"/a#b", "path: a fragment"},
		{"/a?#b", "path: a fragment"},
		{"/a b", "path: a character that no URI has"},
		{"/a?b c", "path: a character that no URI has"},
		{"/..", "path: above the root"},
		{"/..;", "path: a dot segment with parameters"},
	};
	char to[32];

	for (size_t i = 0; i < array_size(all); i++) {
		struct http_text p, q;
		const char *why;

		struct http_text in = {all[i].path, strlen(all[i].path)};

		assert_false(http_path_normalise(in, false, to, &p, &q, &why));
		assert_string_equal(why, all[i].why);
	}
}

static void queries(void **state)
{
	struct result r = run("/a?", false);

	assert_true(r.good && r.has_query);
	assert_string_equal(r.query, "");
	r = run("/a", false);
	assert_true(r.good && !r.has_query);
	r = run("/%61/../b?x=%2F%00&y=/../\\?z", false); /* no business of a path */
	assert_true(r.good);
	assert_string_equal(r.path, "/b");
	assert_string_equal(r.query, "x=%2F%00&y=/../\\?z");
}

/* ------------------------------------------------------------------ the oracle */

static int digit(char c)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	const char *at = c ? strchr(digits, c) : NULL;

	return !at ? -1 : at - digits < 16 ? (int)(at - digits) : (int)(at - digits) - 6;
}

/* First all escapes, then a list of segments, then they are joined. */
static bool oracle(const char *s, bool merge, char out[512])
{
	static char list[256][512];
	char flat[512], *at = flat;
	int n = 0;

	if (*s != '/')
		return false;
	for (; *s && *s != '?'; s++) {
		if (*s <= ' ' || *s > '~' || *s == '#' || *s == '\\')
			return false;
		if (*s != '%') {
			*at++ = *s;
			continue;
		}
		if (digit(s[1]) < 0 || digit(s[2]) < 0)
			return false;
		int c = digit(s[1]) * 16 + digit(s[2]);

		if (c < 32 || c == 127 || c == '/' || c == '\\')
			return false;
		if (c < 128 && (strchr("-._~", c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
				(c >= 'A' && c <= 'Z')))
			*at++ = (char)c;
		else
			at += snprintf(at, 4, "%%%02X", (unsigned)c);
		s += 2;
	}
	*at = 0;
	for (at = flat + 1;; at++) {
		char *end = strchrnul(at, '/'), segment[512];
		bool last = !*end;

		snprintf(segment, sizeof(segment), "%.*s", (int)(end - at), at);
		if (!strncmp(segment, ".;", 2) || !strncmp(segment, "..;", 3) || !strncmp(segment, ".%3B", 4) ||
		    !strncmp(segment, "..%3B", 5))
			return false;
		if (!strcmp(segment, "..")) {
			if (!n--)
				return false;
		} else if (strcmp(segment, ".") && (*segment || !merge || last)) {
			snprintf(list[n++], sizeof(list[0]), "%s", segment);
		}
		if (last) {
			/* a dot segment at the end leaves its slash */
			if (!strcmp(segment, ".") || !strcmp(segment, ".."))
				list[n++][0] = 0;
			break;
		}
		at = end;
	}
	out[0] = 0;
	for (int i = 0; i < n; i++) {
		size_t len = strlen(out);

		snprintf(out + len, 512 - len, "/%s", list[i]);
	}
	return true;
}

static void random_paths(void **state)
{
	static const char *const piece[] = {"/",   "/",	  "/",	 ".",	"..",  "a",   "b",    ";",     "%2e",	"%2E",
					    "%61", "%c3", "%3b", "%3B", "%25", "%2f", "\\",   "#",     "%",	"?",
					    "~",   "/./", "/../", "//", "x/y", "[",   "%7E", "%41%42", "%2525", "/.."};
	unsigned good = 0, i;

	srand(4711);
	for (i = 0; i < 60000; i++) {
		char s[256] = "/", want[512];
		/* Most of them without what is refused at once. */
		unsigned pieces = (unsigned)rand() % 14, kinds = rand() % 4 ? 15 : array_size(piece);
		bool merge = rand() & 1, expect;
		struct result r, again;

		for (unsigned n = 0; n < pieces; n++) {
			size_t len = strlen(s);

			snprintf(s + len, sizeof(s) - len, "%s", piece[(unsigned)rand() % kinds]);
		}
		r = run(s, merge);
		expect = oracle(s, merge, want) && !(strchr(s, '?') && strchr(strchr(s, '?'), '#'));
		if (r.good != expect || (expect && strcmp(r.path, want)))
			fail_msg("%s, merge %d: %d %s, should be %d %s", s, merge, r.good, r.path, expect, want);
		if (!r.good)
			continue;
		good++;
		/* The form is the form's own. */
		again = run(r.path, merge);
		assert_true(again.good);
		assert_string_equal(again.path, r.path);
		assert_true(merge ? !strstr(r.path, "//") : true);
		assert_null(strstr(r.path, "/../"));
		assert_null(strstr(r.path, "/./"));
	}
	assert_true(good > i / 4);
}

/* A megabyte of each nasty piece costs what a megabyte costs. */
static void linear(void **state)
{
	static const char *const piece[] = {"/a", "/.", "//", "/a/..", "%2e", "/a/a/a/../../..", "%C3", ";", "/.a"};
	size_t most = 1 << 20, len;
	char *s = malloc(most), *to = malloc(most);

	for (size_t i = 0; i < array_size(piece); i++) {
		struct http_text p, q;
		const char *why;

		for (len = 1, s[0] = '/'; len + strlen(piece[i]) < most; len += strlen(piece[i]))
			memcpy(s + len, piece[i], strlen(piece[i]));
		if (!http_path_normalise((struct http_text){s, len}, i & 1, to, &p, &q, &why))
			fail_msg("%s: %s", piece[i], why);
	}
	free(s);
	free(to);
}

/* ------------------------------------------------------------------ hosts */

static void good_hosts(void **state)
{
	static const struct {
		const char *from, *host;
		uint16_t port;
	} all[] = {
		{"a", "a", 0},
		{"Example.COM", "example.com", 0},
		{"example.com.", "example.com", 0},
		{"example.com.:80", "example.com", 80},
		{"a:", "a", 0},
		{"a_b-c~d.0:65535", "a_b-c~d.0", 65535},
		{"10.0.0.1:8080", "10.0.0.1", 8080},
		{"[FD00::1]", "[fd00::1]", 0},
		{"[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]", 1},
		{"a:00080", "a", 80},
	};

	for (size_t i = 0; i < array_size(all); i++) {
		size_t len = strlen(all[i].from);
		char *in = malloc(len), to[256];
		struct http_text host;
		uint16_t port;

		memcpy(in, all[i].from, len);
		assert_true(http_host((struct http_text){in, len}, to, &host, &port));
		assert_true(http_text_equal(host, (struct http_text){all[i].host, strlen(all[i].host)}));
		assert_int_equal(port, all[i].port);
		free(in);
	}
}

static void bad_hosts(void **state)
{
	static const char *const all[] = {
		"", ":80", ".", "..", ".a", "a..b", "a..", "a b", "a,b", "user@a", "a/b", "a?b", "a#b", "a%41", "a%",
		"a:b", "a:80:80", "a:+1", "a:-1", "a:0", "a:65536", "a:000080", "a: 80", "a:80 ", "[", "[]", "[]:80",
		"[::1", "::1", "[::1]80", "[::1]x", "[::1%25eth0]", "[10.0.0.1]", "[v1.x]", "a[", "a\\b", "a\"b",
		"a\303\251", "a\t", "a\r\nb", "<a>",
	};
	char to[256], name[300];
	struct http_text host;
	uint16_t port;

	for (size_t i = 0; i < array_size(all); i++)
		if (http_host((struct http_text){all[i], strlen(all[i])}, to, &host, &port))
			fail_msg("%s was taken", all[i]);
	assert_false(http_host((struct http_text){"a\0b", 3}, to, &host, &port));
	assert_false(http_host((struct http_text){"[::1\0]", 6}, to, &host, &port));
	memset(name, 'x', sizeof(name));
	assert_true(http_host((struct http_text){name, 255}, to, &host, &port));
	assert_false(http_host((struct http_text){name, 256}, to, &host, &port));
	assert_false(http_host((struct http_text){name, 300}, to, &host, &port));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_paths),
		cmocka_unit_test(bad_paths),
		cmocka_unit_test(reasons),
		cmocka_unit_test(queries),
		cmocka_unit_test(random_paths),
		cmocka_unit_test(linear),
		cmocka_unit_test(good_hosts),
		cmocka_unit_test(bad_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
