/* SPDX-License-Identifier: Apache-2.0 */
/* filter.c: the filters of a route, on a request and later on its answer. */
#include <string.h>
#include <strings.h>

#include "filter.h"

static struct http_text join(struct arena *a, struct http_text x, const char *between, struct http_text y)
{
	size_t n = strlen(between);
	char *s = arena_alloc(a, x.len + n + y.len + 1);

	if (x.len)
		memcpy(s, x.at, x.len);
	memcpy(s + x.len, between, n);
	if (y.len)
		memcpy(s + x.len + n, y.at, y.len);
	return (struct http_text){s, x.len + n + y.len};
}

/* ------------------------------------------------------------------ fields */

enum change_kind {
	CHANGE_SET,
	CHANGE_ADD,
	CHANGE_REMOVE,
	CHANGE_VARY,
	CHANGE_CORS, /* what the backend said of it goes */
};

struct change {
	struct change *next;
	enum change_kind kind;
	struct http_text name, value; /* in the arena */
};

struct filter_changes {
	struct change *first; /* in the order in which they are made */
};

/* A route that could make a field of framing could smuggle: such a change is none (docs/http.md). */
static bool may_change(struct http_text name)
{
	return name.len && name.at[0] != ':' && !http_name_is_framing(http_name(name.at, name.len));
}

static bool is(const struct http_field *f, struct http_text name, enum http_name id)
{
	return id ? f->id == id : f->id == HTTP_NAME_OTHER && http_text_equal_nocase(f->name, name);
}

/* The first one has the value now, where it stood; there is no second one. */
static void set(struct arena *a, struct http_head *h, struct http_text name, struct http_text value)
{
	enum http_name id = http_name(name.at, name.len);
	unsigned kept = 0;
	bool done = false;

	for (unsigned i = 0; i < h->fields; i++) {
		struct http_field f = h->field[i];

		if (is(&f, name, id)) {
			if (done)
				continue;
			done = true;
			f.name = name;
			f.value = value;
		}
		h->field[kept++] = f;
	}
	h->fields = kept;
	if (!done)
		http_field_put(a, h, name, value);
}

/* Behind the last one's value, as the Gateway API writes it; a Set-Cookie is no list (RFC 9110 section 5.3). */
static void add(struct arena *a, struct http_head *h, struct http_text name, struct http_text value)
{
	enum http_name id = http_name(name.at, name.len);
	struct http_field *last = NULL;

	if (!http_text_equal_nocase(name, HTTP_TEXT("set-cookie")))
		for (unsigned i = 0; i < h->fields; i++)
			if (is(&h->field[i], name, id))
				last = &h->field[i];
	if (!last)
		http_field_put(a, h, name, value);
	else if (!last->value.len)
		last->value = value;
	else
		last->value = join(a, last->value, id == HTTP_NAME_COOKIE ? "; " : ",", value);
}

static bool lists(struct http_text list, struct http_text token)
{
	size_t at = 0;

	while (at < list.len) {
		const char *comma = memchr(list.at + at, ',', list.len - at);
		struct http_text one = {list.at + at, (comma ? (size_t)(comma - list.at) : list.len) - at};

		at += one.len + 1;
		while (one.len && (*one.at == ' ' || *one.at == '\t'))
			one.at++, one.len--;
		while (one.len && (one.at[one.len - 1] == ' ' || one.at[one.len - 1] == '\t'))
			one.len--;
		if (http_text_equal_nocase(one, token) || http_text_equal(one, HTTP_TEXT("*")))
			return true;
	}
	return false;
}

static void add_vary(struct arena *a, struct http_head *h, struct http_text name, struct http_text value)
{
	const struct http_field *f = NULL;
	struct http_field *last = NULL;

	while ((f = http_field(h, HTTP_NAME_VARY, f))) {
		if (lists(f->value, value))
			return;
		last = &h->field[f - h->field];
	}
	if (last && last->value.len)
		last->value = join(a, last->value, ", ", value);
	else
		set(a, h, name, value);
}

static void remove_cors(struct http_head *h)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < h->fields; i++)
		if (!cors_is_own(h->field[i].name))
			h->field[kept++] = h->field[i];
	h->fields = kept;
}

static void change(struct arena *a, struct http_head *h, const struct change *c)
{
	switch (c->kind) {
	case CHANGE_SET:
		set(a, h, c->name, c->value);
		return;
	case CHANGE_ADD:
		add(a, h, c->name, c->value);
		return;
	case CHANGE_REMOVE:
		http_field_remove(h, c->name);
		return;
	case CHANGE_VARY:
		add_vary(a, h, c->name, c->value);
		return;
	case CHANGE_CORS:
		remove_cors(h);
		return;
	}
}

static struct change **plan(struct arena *a, struct change **end, enum change_kind kind, struct http_text name,
			    struct http_text value)
{
	struct change *c = arena_alloc(a, sizeof(*c));

	*c = (struct change){.kind = kind, .name = name, .value = value};
	*end = c;
	return &c->next;
}

/* Set, add, remove: the order of the API's fields. It matters only for a name that is in two of them. */
static struct change **plan_headers(struct arena *a, struct change **end, const struct route_filter *f)
{
	for (unsigned i = 0; i < f->headers.sets; i++)
		if (may_change(f->headers.set[i].name))
			end = plan(a, end, CHANGE_SET, http_text_keep(a, f->headers.set[i].name),
				   http_text_keep(a, f->headers.set[i].value));
	for (unsigned i = 0; i < f->headers.adds; i++)
		if (may_change(f->headers.add[i].name))
			end = plan(a, end, CHANGE_ADD, http_text_keep(a, f->headers.add[i].name),
				   http_text_keep(a, f->headers.add[i].value));
	for (unsigned i = 0; i < f->headers.removes; i++)
		if (may_change(f->headers.remove[i]))
			end = plan(a, end, CHANGE_REMOVE, http_text_keep(a, f->headers.remove[i]), HTTP_TEXT(""));
	return end;
}

static struct change **plan_cors(struct arena *a, struct change **end, const struct cors *c)
{
	end = plan(a, end, CHANGE_CORS, HTTP_TEXT(""), HTTP_TEXT(""));
	for (unsigned i = 0; i < c->fields; i++)
		end = plan(a, end, c->field[i].id == HTTP_NAME_VARY ? CHANGE_VARY : CHANGE_SET, c->field[i].name,
			   c->field[i].value);
	return end;
}

/* ------------------------------------------------------------------ URLs */

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Has a path this character (RFC 3986 section 3.3)? */
static bool is_path(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("-._~!$&'()*+,;=:@/", c));
}

/* A route's text as a path: what none has is escaped, "%" too, unless it is an escape. */
static struct http_text escape(struct arena *a, struct http_text t)
{
	static const char hex[] = "0123456789ABCDEF";
	char *s = arena_alloc(a, 3 * t.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < t.len; i++) {
		char c = t.at[i];

		if (is_path(c) || (c == '%' && i + 2 < t.len && is_hex(t.at[i + 1]) && is_hex(t.at[i + 2]))) {
			s[len++] = c;
			continue;
		}
		s[len++] = '%';
		s[len++] = hex[(unsigned char)c >> 4];
		s[len++] = hex[(unsigned char)c & 15];
	}
	return (struct http_text){s, len};
}

static struct http_text rooted(struct arena *a, struct http_text path)
{
	return path.len && path.at[0] == '/' ? path : join(a, HTTP_TEXT("/"), "", path);
}

/* Both the prefix that matched and what replaces it are whole elements: their last slashes do not count. */
static struct http_text replace_prefix(const struct filter_scene *s, struct http_text by)
{
	struct http_text to = escape(s->arena, by), rest = s->path;
	size_t n = s->prefix < s->path.len ? s->prefix : s->path.len;

	while (n && s->path.at[n - 1] == '/')
		n--;
	rest.at += n;
	rest.len -= n;
	while (to.len && to.at[to.len - 1] == '/')
		to.len--;
	return rooted(s->arena, join(s->arena, to, "", rest));
}

/* With the query. */
static struct http_text new_path(const struct filter_scene *s, const struct route_filter *f)
{
	struct http_text path = s->path;

	if (f->url.change == PATH_FULL)
		path = rooted(s->arena, escape(s->arena, f->url.path));
	else if (f->url.change == PATH_PREFIX)
		path = replace_prefix(s, f->url.path);
	return s->query.at ? join(s->arena, path, "?", s->query) : path;
}

static bool has_path(const struct filter_scene *s)
{
	return s->path.len && s->path.at[0] == '/'; /* not "*", not CONNECT */
}

static void rewrite(const struct filter_scene *s, const struct route_filter *f)
{
	if (f->url.host.len)
		s->head->authority = http_text_keep(s->arena, f->url.host);
	if (f->url.change != PATH_KEPT && has_path(s))
		s->head->path = new_path(s, f);
}

/* The port of the API's rule; 0: it is the scheme's own, which is not written. */
static unsigned redirect_port(const struct filter_scene *s, const struct route_filter *f, struct http_text scheme)
{
	unsigned own = 0, port = f->url.port;

	if (http_text_equal_nocase(scheme, HTTP_TEXT("http")))
		own = 80;
	if (http_text_equal_nocase(scheme, HTTP_TEXT("https")))
		own = 443;
	if (!port)
		port = f->url.scheme.len && own ? own : s->port;
	return port == own ? 0 : port;
}

static struct http_text location(const struct filter_scene *s, const struct route_filter *f)
{
	struct http_text scheme = f->url.scheme.len ? f->url.scheme : s->scheme, host = f->url.host;
	struct http_text path = has_path(s) ? new_path(s, f) : HTTP_TEXT("/"), front;
	unsigned port = redirect_port(s, f, scheme);
	char name[256], digits[8];
	uint16_t dialled;
	int n;

	if (!scheme.len)
		scheme = HTTP_TEXT("http");
	if (!host.len && !http_host(s->head->authority, name, &host, &dialled)) {
		/* HTTP/1.0 without Host: relative to what the client asked. "//x" would be another host. */
		if (path.len > 1 && path.at[1] == '/')
			return join(s->arena, HTTP_TEXT("/."), "", path);
		return path;
	}
	front = join(s->arena, scheme, "://", host);
	if (port) {
		n = snprintf(digits, sizeof(digits), "%u", port);
		front = join(s->arena, front, ":", (struct http_text){digits, (size_t)n});
	}
	return join(s->arena, front, "", path);
}

static void redirect(const struct filter_scene *s, const struct route_filter *f, struct filter_out *out)
{
	out->answer = reply_head(s->arena, s->head, f->url.status ? f->url.status : 302, s->wall_ms);
	out->reason = ABI_ANSWERED;
	http_field_put(s->arena, out->answer, HTTP_TEXT("location"), location(s, f));
}

/* ------------------------------------------------------------------ the others */

static void mirror(const struct filter_scene *s, const struct route_filter *f, struct filter_out *out)
{
	uint32_t of = f->mirror.denominator;

	if (f->mirror.refused || out->mirrors == FILTER_MIRRORS)
		return;
	/* uniform in [0, of) to 2^-32, without a division */
	if (of && (uint64_t)((unsigned __int128)s->random(s->ctx) * of >> 64) >= f->mirror.numerator)
		return;
	out->mirror[out->mirrors++] = &f->mirror.target;
}

static void preflight(const struct filter_scene *s, const struct cors *c, struct filter_out *out)
{
	out->answer = reply_head(s->arena, s->head, c->allowed ? 200 : 403, s->wall_ms);
	out->reason = ABI_ANSWERED;
	for (unsigned i = 0; i < c->fields; i++)
		http_field_put(s->arena, out->answer, c->field[i].name, c->field[i].value);
}

/*
 * What the answer will go through, whoever makes it: so it comes first. A preflight is answered whatever else the rule
 * has: a browser takes no redirect of one.
 */
static void plan_answer(const struct route_filter *f, unsigned filters, const struct filter_scene *s,
			struct filter_out *out)
{
	struct change *first = NULL, **end = &first;
	struct cors c;

	for (unsigned i = 0; i < filters; i++) {
		if (f[i].kind == FILTER_RESPONSE_HEADERS)
			end = plan_headers(s->arena, end, &f[i]);
		if (f[i].kind != FILTER_CORS)
			continue;
		cors_judge(s->arena, &f[i], s->head, &c);
		if (c.preflight)
			preflight(s, &c, out);
		else
			end = plan_cors(s->arena, end, &c);
	}
	if (!first)
		return;
	if (!out->changes)
		out->changes = arena_alloc(s->arena, sizeof(*out->changes));
	/* An answer comes past the backend's filters first. */
	*end = out->changes->first;
	out->changes->first = first;
}

/* ------------------------------------------------------------------ all of them */

void filter_request(const struct route_filter *f, unsigned filters, const struct filter_scene *scene,
		    struct filter_out *out)
{
	plan_answer(f, filters, scene, out);
	for (unsigned i = 0; i < filters && !out->answer; i++) {
		struct change *first = NULL;

		switch (f[i].kind) {
		case FILTER_REQUEST_HEADERS:
			plan_headers(scene->arena, &first, &f[i]);
			for (; first; first = first->next)
				change(scene->arena, scene->head, first);
			break;
		case FILTER_REWRITE:
			rewrite(scene, &f[i]);
			break;
		case FILTER_REDIRECT:
			redirect(scene, &f[i], out);
			break;
		case FILTER_MIRROR:
			mirror(scene, &f[i], out);
			break;
		case FILTER_RESPONSE_HEADERS:
		case FILTER_CORS:
			break;
		}
	}
}

void filter_answer(struct arena *a, const struct filter_changes *c, struct http_head *answer)
{
	for (const struct change *one = c ? c->first : NULL; one; one = one->next)
		change(a, answer, one);
}

uint64_t filter_timeout(struct arena *a, struct http_head *request, uint64_t route_ns)
{
	const struct http_field *f;
	char text[GRPC_TIMEOUT_TEXT];
	uint64_t asked;
	size_t len;

	if (!http_is_grpc(request))
		return route_ns;
	f = http_field(request, HTTP_NAME_GRPC_TIMEOUT, NULL);
	if (f && grpc_timeout_parse(f->value, &asked) && (route_ns == ROUTE_FOREVER || asked <= route_ns))
		return asked ? asked : 1; /* none at all is not for ever */
	if (route_ns == ROUTE_FOREVER)
		return ROUTE_FOREVER;
	len = grpc_timeout_format(route_ns, text);
	set(a, request, HTTP_TEXT("grpc-timeout"), http_text_keep(a, (struct http_text){text, len}));
	return route_ns;
}
