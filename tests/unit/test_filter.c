/* SPDX-License-Identifier: Apache-2.0 */
/* Filters of routes: header changes against a naive oracle; paths and redirects by the tables of the Gateway API. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <cmocka.h>

#include "../../userspace/proxy/filter.h"

static struct http_text text(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

static const char *string(struct arena *a, struct http_text t)
{
	return arena_string(a, t.len ? t.at : "", t.len);
}

static const char *value(struct arena *a, const struct http_head *h, const char *name)
{
	const struct http_field *f = http_field_named(h, text(name), NULL);

	if (!f)
		return NULL;
	assert_null(http_field_named(h, text(name), f));
	return string(a, f->value);
}

static void add(struct http_head *h, const char *name, const char *of)
{
	assert_true(http_field_add(h, text(name), text(of)));
}

static uint64_t drawn;
static uint64_t draw(void *ctx)
{
	return drawn;
}

/* A request of that path, as exchanges have it. */
static struct filter_scene scene(struct arena *a, const char *authority, const char *path, const char *query,
				 size_t prefix)
{
	struct http_head h = {.version = HTTP_1_1, .method = HTTP_GET, .scheme = HTTP_TEXT("http")};
	char *whole = arena_alloc(a, 512);

	snprintf(whole, 512, "%s%s%s", path, query ? "?" : "", query ? query : "");
	h.authority = text(authority);
	h.path = text(whole);
	return (struct filter_scene){.arena = a,
				     .head = http_head_keep(a, &h, 8),
				     .path = text(path),
				     .query = query ? text(query) : (struct http_text){NULL, 0},
				     .prefix = prefix,
				     .scheme = HTTP_TEXT("http"),
				     .port = 80,
				     .random = draw};
}

/* ------------------------------------------------------------------ headers */

static struct http_field fields[] = {
	{.name = HTTP_TEXT("my-header"), .value = HTTP_TEXT("bar")},
};
static struct http_field lists[] = {
	{.name = HTTP_TEXT("my-header"), .value = HTTP_TEXT("bar,baz")},
};
static struct http_text gone[] = {HTTP_TEXT("my-header1"), HTTP_TEXT("my-header3")};

/* The three examples of HTTPHeaderFilter. */
static void the_examples_of_the_api(void **state)
{
	struct route_filter f = {.kind = FILTER_REQUEST_HEADERS, .headers = {.set = fields, .sets = 1}};
	struct arena a = {0};
	struct filter_scene s = scene(&a, "x", "/foo", NULL, 0);
	struct filter_out out = {0};

	add(s.head, "My-Header", "foo");
	add(s.head, "MY-HEADER", "more");
	filter_request(&f, 1, &s, &out);
	assert_string_equal(value(&a, s.head, "my-header"), "bar");

	s = scene(&a, "x", "/foo", NULL, 0);
	f = (struct route_filter){.kind = FILTER_REQUEST_HEADERS, .headers = {.add = lists, .adds = 1}};
	add(s.head, "my-header", "foo");
	filter_request(&f, 1, &s, &out);
	assert_string_equal(value(&a, s.head, "my-header"), "foo,bar,baz");

	s = scene(&a, "x", "/foo", NULL, 0);
	f = (struct route_filter){.kind = FILTER_REQUEST_HEADERS, .headers = {.remove = gone, .removes = 2}};
	add(s.head, "my-header1", "foo");
	add(s.head, "My-Header2", "bar");
	add(s.head, "MY-HEADER3", "baz");
	filter_request(&f, 1, &s, &out);
	assert_int_equal(s.head->fields, 1);
	assert_string_equal(value(&a, s.head, "my-header2"), "bar");

	assert_true(!out.answer && !out.changes && !out.mirrors);
	arena_free(&a);
}

static void cookies_are_joined_their_own_way(void **state)
{
	struct http_field more[] = {
		{.name = HTTP_TEXT("Cookie"), .value = HTTP_TEXT("b=2")},
		{.name = HTTP_TEXT("Set-Cookie"), .value = HTTP_TEXT("d=4")},
	};
	struct route_filter f = {.kind = FILTER_REQUEST_HEADERS, .headers = {.add = more, .adds = 2}};
	struct arena a = {0};
	struct filter_scene s = scene(&a, "x", "/", NULL, 0);
	struct filter_out out = {0};

	add(s.head, "cookie", "a=1");
	add(s.head, "set-cookie", "c=3");
	filter_request(&f, 1, &s, &out);
	assert_string_equal(value(&a, s.head, "cookie"), "a=1; b=2");
	assert_int_equal(s.head->fields, 3);
	assert_string_equal(string(&a, s.head->field[2].value), "d=4");
	arena_free(&a);
}

/* A route that says so makes no second framing, and takes none away. */
static void framing_is_not_a_routes(void **state)
{
	static const char *const names[] = {"Content-Length",	   "transfer-encoding", "connection", "Host",
					    "upgrade",		   "te",		"trailer",    "keep-alive",
					    "Proxy-Connection",	   ":path",		":authority", "",
					    "http2-settings",	   "expect"};

	for (size_t i = 0; i < array_size(names); i++) {
		struct http_field one = {.name = text(names[i]), .value = HTTP_TEXT("7")};
		struct http_text lower = text(names[i]);
		struct route_filter f[] = {
			{.kind = FILTER_REQUEST_HEADERS, .headers = {.set = &one, .sets = 1}},
			{.kind = FILTER_REQUEST_HEADERS, .headers = {.add = &one, .adds = 1}},
			{.kind = FILTER_REQUEST_HEADERS, .headers = {.remove = &lower, .removes = 1}},
			{.kind = FILTER_RESPONSE_HEADERS, .headers = {.set = &one, .sets = 1}},
		};
		struct arena a = {0};
		struct filter_scene s = scene(&a, "x", "/", NULL, 0);
		struct filter_out out = {0};

		add(s.head, "expect", "100-continue");
		filter_request(f, array_size(f), &s, &out);
		assert_int_equal(s.head->fields, 1);
		assert_string_equal(value(&a, s.head, "expect"), "100-continue");
		assert_null(out.changes);
		arena_free(&a);
	}
}

/* What a rule says after one change, name by name, in the most simple-minded way. */
#define NAMES 6
static const char *const names[NAMES] = {"a", "x-b", "cookie", "set-cookie", "Accept-Encoding", "x-mine"};
struct oracle {
	char value[NAMES][1024]; /* all lines, each with "|" before it */
};

static void read_head(struct oracle *o, const struct http_head *h)
{
	memset(o, 0, sizeof(*o));
	for (unsigned n = 0; n < NAMES; n++)
		for (unsigned i = 0; i < h->fields; i++)
			if (h->field[i].name.len == strlen(names[n]) &&
			    !strncasecmp(h->field[i].name.at, names[n], strlen(names[n])))
				snprintf(o->value[n] + strlen(o->value[n]), 512, "|%.*s", (int)h->field[i].value.len,
					 h->field[i].value.at);
}

static void oracle_set(struct oracle *o, unsigned n, const char *v)
{
	snprintf(o->value[n], sizeof(o->value[n]), "|%s", v);
}

static void oracle_add(struct oracle *o, unsigned n, const char *v)
{
	char *all = o->value[n];
	bool empty = !*all || all[strlen(all) - 1] == '|';
	const char *between = empty ? "" : n == 2 ? "; " : ",";

	if (!*all || n == 3)
		between = "|";
	snprintf(all + strlen(all), 512, "%s%s", between, v);
}

static struct http_text random_name(unsigned n, struct arena *a)
{
	char *s = arena_string(a, names[n], strlen(names[n]));

	for (char *c = s; *c; c++)
		if (random() % 2 && *c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
	return text(s);
}

static void header_changes_against_an_oracle(void **state)
{
	static const char *const values[] = {"", "1", "two", "3,4", "a=b"};

	srandom(2);
	for (unsigned turn = 0; turn < 4000; turn++) {
		struct arena a = {0};
		struct filter_scene s = scene(&a, "x", "/", NULL, 0);
		struct http_head *h = s.head;
		struct oracle want, got;
		struct http_field change[3];
		struct http_text remove[2];
		struct route_filter f = {.headers = {.set = change, .add = change + 1, .remove = remove}};
		struct filter_out out = {0};
		unsigned count = (unsigned)random() % 9, i, n;
		bool answer = random() % 2;

		for (i = 0; i < count; i++)
			http_field_put(&a, h, random_name((unsigned)random() % NAMES, &a),
				       text(values[random() % 5]));
		read_head(&want, h);
		f.kind = answer ? FILTER_RESPONSE_HEADERS : FILTER_REQUEST_HEADERS;
		if ((f.headers.sets = (unsigned)random() % 2)) {
			n = (unsigned)random() % NAMES;
			change[0] = (struct http_field){.name = random_name(n, &a),
							.value = text(values[random() % 5])};
			oracle_set(&want, n, change[0].value.at);
		}
		f.headers.adds = (unsigned)random() % 3;
		for (i = 0; i < f.headers.adds; i++) {
			n = (unsigned)random() % NAMES;
			change[1 + i] = (struct http_field){.name = random_name(n, &a),
							    .value = text(values[random() % 5])};
			oracle_add(&want, n, change[1 + i].value.at);
		}
		f.headers.removes = (unsigned)random() % 3;
		for (i = 0; i < f.headers.removes; i++) {
			n = (unsigned)random() % NAMES;
			remove[i] = text(names[n]);
			want.value[n][0] = 0;
		}
		filter_request(&f, 1, &s, &out);
		filter_answer(&a, out.changes, h);
		read_head(&got, h);
		for (n = 0; n < NAMES; n++)
			assert_string_equal(got.value[n], want.value[n]);
		assert_true(h->fields <= h->room);
		for (i = 0; i < h->fields; i++)
			assert_int_equal(h->field[i].id, http_name(h->field[i].name.at, h->field[i].name.len));
		arena_free(&a);
	}
}

/* What is not named stays where it is, as it is. */
static void the_others_keep_their_order(void **state)
{
	struct route_filter f = {.kind = FILTER_REQUEST_HEADERS, .headers = {.set = fields, .sets = 1}};
	struct arena a = {0};
	struct filter_scene s = scene(&a, "x", "/", NULL, 0);
	struct filter_out out = {0};

	add(s.head, "First", "1");
	add(s.head, "My-Header", "x");
	add(s.head, "first", "2");
	add(s.head, "my-header", "y");
	add(s.head, "last", "3");
	filter_request(&f, 1, &s, &out);
	assert_int_equal(s.head->fields, 4);
	assert_string_equal(string(&a, s.head->field[0].name), "First");
	assert_string_equal(string(&a, s.head->field[1].value), "bar");
	assert_string_equal(string(&a, s.head->field[2].value), "2");
	assert_string_equal(string(&a, s.head->field[3].value), "3");
	arena_free(&a);
}

/* The route may be gone when the answer comes; the backend's filters see it first. */
static void an_answer_passes_the_backend_first(void **state)
{
	struct http_field rule_add = {.name = HTTP_TEXT("x"), .value = HTTP_TEXT("rule")};
	struct http_field *backend_set = malloc(sizeof(*backend_set));
	char *of = strdup("backend");
	struct route_filter rule = {.kind = FILTER_RESPONSE_HEADERS, .headers = {.add = &rule_add, .adds = 1}};
	struct route_filter backend = {.kind = FILTER_RESPONSE_HEADERS, .headers = {.set = backend_set, .sets = 1}};
	struct http_head none = {.status = 200}, *answer;
	struct arena a = {0};
	struct filter_scene s = scene(&a, "x", "/", NULL, 0);
	struct filter_out out = {0};

	*backend_set = (struct http_field){.name = HTTP_TEXT("x"), .value = text(of)};
	filter_request(&rule, 1, &s, &out);
	filter_request(&backend, 1, &s, &out);
	free(of);
	free(backend_set);
	answer = http_head_keep(&a, &none, 0);
	filter_answer(&a, out.changes, answer);
	assert_string_equal(value(&a, answer, "x"), "backend,rule");
	filter_answer(&a, NULL, answer);
	assert_int_equal(answer->fields, 1);
	arena_free(&a);
}

/* ------------------------------------------------------------------ paths */

static void prefixes_by_the_table_of_the_api(void **state)
{
	static const struct {
		const char *path, *prefix, *by, *want;
	} rows[] = {
		{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz/", "/xyz/bar"},
		{"/foo", "/foo", "/xyz", "/xyz"},
		{"/foo/", "/foo", "/xyz", "/xyz/"},
		{"/foo/bar", "/foo", "", "/bar"},
		{"/foo/", "/foo", "", "/"},
		{"/foo", "/foo", "", "/"},
		{"/foo/", "/foo", "/", "/"},
		{"/foo", "/foo", "/", "/"},
		/* not in it */
		{"/bar", "/", "/xyz", "/xyz/bar"},
		{"/", "/", "/xyz", "/xyz/"},
		{"/bar", "", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", "xyz", "/xyz/bar"},
		{"/foo//bar", "/foo", "/xyz", "/xyz//bar"},
		{"/foo/bar", "/foo/bar", "/x y", "/x%20y"},
		{"/foo", "/foo/longer/than/it", "/xyz", "/xyz"},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct route_filter f = {.kind = FILTER_REWRITE,
					 .url = {.change = PATH_PREFIX, .path = text(rows[i].by)}};
		struct arena a = {0};
		struct filter_scene s = scene(&a, "x", rows[i].path, NULL, strlen(rows[i].prefix));
		struct filter_out out = {0};

		filter_request(&f, 1, &s, &out);
		assert_string_equal(string(&a, s.head->path), rows[i].want);
		s = scene(&a, "x", rows[i].path, "q=1&r", strlen(rows[i].prefix));
		filter_request(&f, 1, &s, &out);
		assert_true(text_starts(string(&a, s.head->path), rows[i].want));
		assert_true(text_ends(string(&a, s.head->path), "?q=1&r"));
		arena_free(&a);
	}
}

static void whole_paths_and_hosts(void **state)
{
	static const struct {
		const char *by, *query, *want;
	} rows[] = {
		{"/one", NULL, "/one"},
		{"/one", "", "/one?"},
		{"/one", "a=b?c", "/one?a=b?c"},
		{"", "q", "/?q"},
		{"one", NULL, "/one"},
		{"/a?b#c", "q", "/a%3Fb%23c?q"},
		{"/a b\xc3\xbc\"", NULL, "/a%20b%C3%BC%22"},
		{"/100%", NULL, "/100%25"},
		{"/%2", NULL, "/%252"},
		{"/%41%zz", NULL, "/%41%25zz"},
		{"/a\r\nx: y", NULL, "/a%0D%0Ax:%20y"},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct route_filter f = {
			.kind = FILTER_REWRITE,
			.url = {.change = PATH_FULL, .path = text(rows[i].by), .host = HTTP_TEXT("one.example.org")}};
		struct arena a = {0};
		struct filter_scene s = scene(&a, "web.shop:8080", "/old/path", rows[i].query, 0);
		struct filter_out out = {0};

		filter_request(&f, 1, &s, &out);
		assert_string_equal(string(&a, s.head->path), rows[i].want);
		assert_string_equal(string(&a, s.head->authority), "one.example.org");
		arena_free(&a);
	}
}

/* A backend's rewrite is of the path that came, not of what the rule made of it. */
static void a_backends_rewrite_takes_the_rules_place(void **state)
{
	struct route_filter rule = {.kind = FILTER_REWRITE,
				    .url = {.change = PATH_FULL, .path = HTTP_TEXT("/rule"), .host = HTTP_TEXT("r")}};
	struct route_filter backend = {.kind = FILTER_REWRITE,
				       .url = {.change = PATH_PREFIX, .path = HTTP_TEXT("/new")}};
	struct arena a = {0};
	struct filter_scene s = scene(&a, "x", "/old/path", "q", 4);
	struct filter_out out = {0};

	filter_request(&rule, 1, &s, &out);
	filter_request(&backend, 1, &s, &out);
	assert_string_equal(string(&a, s.head->path), "/new/path?q");
	assert_string_equal(string(&a, s.head->authority), "r");
	arena_free(&a);
}

static void what_has_no_path_gets_none(void **state)
{
	static const char *const paths[] = {"*", ""};
	struct route_filter f = {.kind = FILTER_REWRITE, .url = {.change = PATH_FULL, .path = HTTP_TEXT("/x")}};

	for (size_t i = 0; i < array_size(paths); i++) {
		struct arena a = {0};
		struct filter_scene s = scene(&a, "x", paths[i], NULL, 0);
		struct filter_out out = {0};

		filter_request(&f, 1, &s, &out);
		assert_string_equal(string(&a, s.head->path), paths[i]);
		arena_free(&a);
	}
}

/* ------------------------------------------------------------------ redirects */

static void redirects(void **state)
{
	static const struct {
		const char *authority, *path, *query, *scheme, *host;
		unsigned port, dialled, status;
		enum route_path_change change;
		const char *by, *want;
	} rows[] = {
		/* conformance: redirect-host-and-status, -path, -port, -scheme */
		{"h", "/hostname", NULL, "", "example.org", 0, 80, 0, 0, "", "http://example.org/hostname"},
		{"h", "/a", NULL, "", "example.org", 0, 80, 301, 0, "", "http://example.org/a"},
		{"h", "/a", NULL, "https", "", 0, 80, 302, 0, "", "https://h/a"},
		{"h:8080", "/a", NULL, "https", "", 0, 8080, 302, 0, "", "https://h/a"},
		{"h:8080", "/a", NULL, "https", "", 8443, 8080, 302, 0, "", "https://h:8443/a"},
		{"h", "/a", NULL, "https", "", 443, 80, 302, 0, "", "https://h/a"},
		{"h", "/a", NULL, "http", "", 443, 80, 302, 0, "", "http://h:443/a"},
		{"h", "/a", NULL, "", "", 8083, 80, 302, 0, "", "http://h:8083/a"},
		{"h:8080", "/a", NULL, "", "example.org", 0, 8080, 302, 0, "", "http://example.org:8080/a"},
		{"h:8080", "/a", NULL, "http", "example.org", 0, 8080, 302, 0, "", "http://example.org/a"},
		{"h:8080", "/a", NULL, "", "", 80, 8080, 302, 0, "", "http://h/a"},
		{"h:9", "/a", NULL, "", "", 0, 80, 302, 0, "", "http://h/a"},
		{"h", "/original-prefix/lemon", NULL, "", "", 0, 80, 302, PATH_PREFIX, "/replacement-prefix",
		 "http://h/replacement-prefix/lemon"},
		{"h", "/full/path/original", NULL, "", "", 0, 80, 307, PATH_FULL, "/full-path-replacement",
		 "http://h/full-path-replacement"},
		{"h", "/original-prefix", "a=b", "", "", 0, 80, 308, PATH_PREFIX, "", "http://h/?a=b"},
		{"[::1]:8080", "/a", NULL, "", "", 0, 8080, 303, 0, "", "http://[::1]:8080/a"},
		{"H.Example.", "/a", "q", "", "", 0, 80, 302, 0, "", "http://h.example/a?q"},
		/* no host: where it is */
		{"", "/a", "q", "", "", 0, 80, 302, 0, "", "/a?q"},
		{"", "//evil.com/", NULL, "", "", 0, 80, 302, 0, "", "/.//evil.com/"},
		{"h", "*", NULL, "", "", 0, 80, 302, 0, "", "http://h/"},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct route_filter f = {.kind = FILTER_REDIRECT,
					 .url = {.scheme = text(rows[i].scheme),
						 .host = text(rows[i].host),
						 .port = (uint16_t)rows[i].port,
						 .status = (uint16_t)rows[i].status,
						 .change = rows[i].change,
						 .path = text(rows[i].by)}};
		struct arena a = {0};
		struct filter_scene s = scene(&a, rows[i].authority, rows[i].path, rows[i].query,
					      strlen("/original-prefix"));
		struct filter_out out = {0};

		s.port = (uint16_t)rows[i].dialled;
		filter_request(&f, 1, &s, &out);
		assert_non_null(out.answer);
		assert_int_equal(out.reason, ABI_ANSWERED);
		assert_int_equal(out.answer->status, rows[i].status ? rows[i].status : 302);
		assert_string_equal(value(&a, out.answer, "location"), rows[i].want);
		assert_true(out.answer->has_length);
		assert_int_equal(out.answer->length, 0);
		arena_free(&a);
	}
}

/* By TLS the port that is not written is 443. */
static void redirects_of_https(void **state)
{
	struct route_filter f = {.kind = FILTER_REDIRECT, .url = {.host = HTTP_TEXT("o")}};
	struct arena a = {0};
	struct filter_scene s = scene(&a, "h", "/a", NULL, 0);
	struct filter_out out = {0};

	s.scheme = HTTP_TEXT("https");
	s.port = 443;
	filter_request(&f, 1, &s, &out);
	assert_string_equal(value(&a, out.answer, "location"), "https://o/a");
	f.url.scheme = text("http");
	out = (struct filter_out){0};
	filter_request(&f, 1, &s, &out);
	assert_string_equal(value(&a, out.answer, "location"), "http://o/a");
	arena_free(&a);
}

/* What stands behind a redirect is not done; what concerns answers is. */
static void a_redirect_ends_the_request(void **state)
{
	struct http_field one = {.name = HTTP_TEXT("x-route"), .value = HTTP_TEXT("r")};
	struct route_filter f[] = {
		{.kind = FILTER_REDIRECT, .url = {.host = HTTP_TEXT("o")}},
		{.kind = FILTER_MIRROR, .mirror = {.numerator = 1, .denominator = 1}},
		{.kind = FILTER_RESPONSE_HEADERS, .headers = {.set = &one, .sets = 1}},
	};
	struct arena a = {0};
	struct filter_scene s = scene(&a, "h", "/a", NULL, 0);
	struct filter_out out = {0};

	filter_request(f, array_size(f), &s, &out);
	assert_int_equal(out.mirrors, 0);
	filter_answer(&a, out.changes, out.answer);
	assert_string_equal(value(&a, out.answer, "x-route"), "r");
	arena_free(&a);
}

/* ------------------------------------------------------------------ mirrors */

static void mirrors(void **state)
{
	static const struct {
		uint32_t numerator, denominator;
		bool refused;
		uint64_t random;
		bool mirrored;
	} rows[] = {
		{100, 100, false, UINT64_MAX, true}, {100, 100, false, 0, true},
		{0, 100, false, 0, false},	     {0, 100, false, UINT64_MAX, false},
		{100, 100, true, 0, false},	     {1, 2, false, 0, true},
		{1, 2, false, UINT64_MAX / 2, true}, {1, 2, false, UINT64_MAX / 2 + 1, false},
		{1, 2, false, UINT64_MAX, false},    {20, 100, false, UINT64_MAX / 5 - 9, true},
		{20, 100, false, UINT64_MAX / 5 + 9, false},
		{1, UINT32_MAX, false, 1, true},     {1, UINT32_MAX, false, 1ull << 33, false},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct route_filter f = {.kind = FILTER_MIRROR,
					 .mirror = {.numerator = rows[i].numerator,
						    .denominator = rows[i].denominator,
						    .refused = rows[i].refused}};
		struct arena a = {0};
		struct filter_scene s = scene(&a, "h", "/a", NULL, 0);
		struct filter_out out = {0};

		drawn = rows[i].random;
		filter_request(&f, 1, &s, &out);
		assert_int_equal(out.mirrors, rows[i].mirrored);
		if (rows[i].mirrored)
			assert_ptr_equal(out.mirror[0], &f.mirror.target);
		arena_free(&a);
	}
}

static void mirrors_have_an_end(void **state)
{
	struct route_filter f[12] = {0};
	struct arena a = {0};
	struct filter_scene s = scene(&a, "h", "/a", NULL, 0);
	struct filter_out out = {0};

	for (size_t i = 0; i < array_size(f); i++)
		f[i] = (struct route_filter){.kind = FILTER_MIRROR, .mirror = {.numerator = 1, .denominator = 1}};
	filter_request(f, array_size(f), &s, &out);
	assert_int_equal(out.mirrors, 12);
	filter_request(f, array_size(f), &s, &out);
	assert_int_equal(out.mirrors, FILTER_MIRRORS);
	arena_free(&a);
}

/* ------------------------------------------------------------------ cors, timeouts */

static struct http_text everybody[] = {HTTP_TEXT("https://a.b")};

static void a_preflight_is_answered_before_all(void **state)
{
	struct route_filter f[] = {
		{.kind = FILTER_REDIRECT, .url = {.host = HTTP_TEXT("o")}},
		{.kind = FILTER_CORS, .cors = {.origin = everybody, .origins = 1, .methods = HTTP_TEXT("*")}},
	};
	struct arena a = {0};
	struct filter_scene s = scene(&a, "h", "/a", NULL, 0);
	struct filter_out out = {0};

	s.head->method = HTTP_OPTIONS;
	add(s.head, "origin", "https://a.b");
	add(s.head, "access-control-request-method", "PUT");
	filter_request(f, 2, &s, &out);
	assert_int_equal(out.answer->status, 200);
	assert_string_equal(value(&a, out.answer, "access-control-allow-methods"), "PUT");
	assert_null(value(&a, out.answer, "location"));

	s = scene(&a, "h", "/a", NULL, 0);
	s.head->method = HTTP_OPTIONS;
	add(s.head, "origin", "https://c.d");
	add(s.head, "access-control-request-method", "PUT");
	out = (struct filter_out){0};
	filter_request(f, 2, &s, &out);
	assert_int_equal(out.answer->status, 403);
	assert_null(value(&a, out.answer, "access-control-allow-origin"));
	arena_free(&a);
}

/* The route has the say: what the backend says of CORS goes, whether the origin is allowed or not. */
static void an_answer_of_cors(void **state)
{
	static const struct {
		const char *origin, *vary, *want_origin, *want_vary;
	} rows[] = {
		{"https://a.b", NULL, "https://a.b", "Origin"},
		{"https://a.b", "Accept-Encoding", "https://a.b", "Accept-Encoding, Origin"},
		{"https://a.b", "Accept, ORIGIN ,x", "https://a.b", "Accept, ORIGIN ,x"},
		{"https://a.b", "*", "https://a.b", "*"},
		{"https://a.b", "", "https://a.b", "Origin"},
		{"https://c.d", NULL, NULL, "Origin"},
		{NULL, "x-origin", NULL, "x-origin, Origin"},
	};
	struct route_filter f = {.kind = FILTER_CORS, .cors = {.origin = everybody, .origins = 1}};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct http_head h = {.status = 200}, *answer;
		struct arena a = {0};
		struct filter_scene s = scene(&a, "h", "/a", NULL, 0);
		struct filter_out out = {0};

		if (rows[i].origin)
			add(s.head, "Origin", rows[i].origin);
		filter_request(&f, 1, &s, &out);
		assert_null(out.answer);
		answer = http_head_keep(&a, &h, 4);
		add(answer, "Access-Control-Allow-Origin", "*");
		add(answer, "access-control-allow-credentials", "true");
		if (rows[i].vary)
			add(answer, "Vary", rows[i].vary);
		filter_answer(&a, out.changes, answer);
		assert_true(text_equal(value(&a, answer, "access-control-allow-origin"), rows[i].want_origin));
		assert_null(value(&a, answer, "access-control-allow-credentials"));
		assert_string_equal(value(&a, answer, "vary"), rows[i].want_vary);
		arena_free(&a);
	}
}

static void timeouts_of_grpc(void **state)
{
	static const struct {
		const char *asked;
		uint64_t route, want;
		const char *sent;
	} rows[] = {
		{NULL, ROUTE_FOREVER, ROUTE_FOREVER, NULL},
		{NULL, 2000000000, 2000000000, "2000000u"},
		{"1S", ROUTE_FOREVER, 1000000000, "1S"},
		{"1S", 2000000000, 1000000000, "1S"},
		{"3S", 2000000000, 2000000000, "2000000u"},
		{"2S", 2000000000, 2000000000, "2S"},
		{"0n", 2000000000, 1, "0n"},
		{"0n", ROUTE_FOREVER, 1, "0n"},
		{"junk", ROUTE_FOREVER, ROUTE_FOREVER, "junk"},
		{"junk", 1, 1, "1n"},
		{"99999999H", ROUTE_FOREVER, GRPC_TIMEOUT_MOST, "99999999H"},
		{"999999999H", ROUTE_FOREVER, ROUTE_FOREVER, "999999999H"},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct arena a = {0};
		struct filter_scene s = scene(&a, "h", "/a/b", NULL, 0), plain = scene(&a, "h", "/a/b", NULL, 0);

		if (rows[i].asked) {
			add(s.head, "grpc-timeout", rows[i].asked);
			add(plain.head, "grpc-timeout", rows[i].asked);
		}
		assert_true(filter_timeout(&a, plain.head, rows[i].route) == rows[i].route);
		assert_true(text_equal(value(&a, plain.head, "grpc-timeout"), rows[i].asked));
		add(s.head, "content-type", "application/grpc");
		assert_true(filter_timeout(&a, s.head, rows[i].route) == rows[i].want);
		assert_true(text_equal(value(&a, s.head, "grpc-timeout"), rows[i].sent));
		arena_free(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_examples_of_the_api),
		cmocka_unit_test(cookies_are_joined_their_own_way),
		cmocka_unit_test(framing_is_not_a_routes),
		cmocka_unit_test(header_changes_against_an_oracle),
		cmocka_unit_test(the_others_keep_their_order),
		cmocka_unit_test(an_answer_passes_the_backend_first),
		cmocka_unit_test(prefixes_by_the_table_of_the_api),
		cmocka_unit_test(whole_paths_and_hosts),
		cmocka_unit_test(a_backends_rewrite_takes_the_rules_place),
		cmocka_unit_test(what_has_no_path_gets_none),
		cmocka_unit_test(redirects),
		cmocka_unit_test(redirects_of_https),
		cmocka_unit_test(a_redirect_ends_the_request),
		cmocka_unit_test(mirrors),
		cmocka_unit_test(mirrors_have_an_end),
		cmocka_unit_test(a_preflight_is_answered_before_all),
		cmocka_unit_test(an_answer_of_cors),
		cmocka_unit_test(timeouts_of_grpc),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
