/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_parse.c: heads of HTTP/1, RFC 9112 and 9110, in place.
 *
 * Strict: what the grammar does not have is refused, so that nobody behind us reads another message than we did. What
 * the RFCs let a recipient repair (bare LF, folded lines, blanks before the colon, lists of equal lengths) is refused
 * too. What concerns this connection only, or says how long the body is, does not become a field.
 */
#include <string.h>
#include <strings.h>

#include "http1_parts.h"

#define CONNECTION_FIELDS 4
#define CONNECTION_NAMES 16 /* fields that Connection may name: each is a search through all */
#define FIELD_OVERHEAD 32   /* of each field, RFC 9113 section 10.5.1 */

/* ------------------------------------------------------------------ words */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool same(struct http_text t, const char *lower)
{
	return t.len == strlen(lower) && !strncasecmp(t.at, lower, t.len);
}

/* ------------------------------------------------------------------ state */

struct parse {
	const char *at, *end;
	const struct http1_limit *limit;
	struct http1_head *ret;
	size_t bytes; /* of fields, decoded */
	struct http_text connection[CONNECTION_FIELDS];
	struct http_text coding, upgrade;
	unsigned connections, codings, upgrades, hosts;
	bool trailer, request;
	bool said_close, said_keep, said_upgrade;
};

static int refuse(struct parse *p, int status, const char *why)
{
	p->ret->status = status;
	p->ret->why = why;
	return -1;
}

/* CR and LF at `at`: 1 and behind them, 0 more bytes, -1. */
static int line_end(struct parse *p)
{
	if (p->at < p->end && *p->at != '\r')
		return refuse(p, 400, "http1: a line does not end with CR LF");
	if (p->end - p->at < 2)
		return 0;
	if (p->at[1] != '\n')
		return refuse(p, 400, "http1: a CR that does not end a line");
	p->at += 2;
	return 1;
}

/* ------------------------------------------------------------------ fields that say something to us */

static bool parse_length(struct http_text v, uint64_t *ret)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < v.len; i++)
		if (v.at[i] < '0' || v.at[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(v.at[i] - '0'), &n))
			return false;
	*ret = n;
	return v.len && n <= INT64_MAX; /* others count in signed numbers */
}

static int content_length(struct parse *p, struct http_text v)
{
	struct http_head *h = &p->ret->h;
	uint64_t n;

	if (!parse_length(v, &n))
		return refuse(p, 400, "http1: Content-Length is not a number");
	if (h->has_length && n != h->length)
		return refuse(p, 400, "http1: two different Content-Lengths");
	h->has_length = true;
	h->length = n;
	return 1;
}

static int host(struct parse *p, struct http_text v)
{
	char text[256];
	struct http_text name;
	uint16_t port;

	if (p->hosts++)
		return refuse(p, 400, "http1: two Host fields");
	if (v.len && !http_host(v, text, &name, &port))
		return refuse(p, 400, "http1: Host is not a host");
	if (!p->ret->h.authority.at) /* the target's wins: RFC 9112 section 3.2.2 */
		p->ret->h.authority = v;
	return 1;
}

/* The next of a list with commas; false: no more. Empty ones are skipped: RFC 9110 section 5.6.1.2. */
static bool element(struct http_text *list, struct http_text *ret)
{
	do {
		const char *comma;
		size_t len;

		if (!list->len)
			return false;
		comma = memchr(list->at, ',', list->len);
		len = comma ? (size_t)(comma - list->at) : list->len;
		*ret = (struct http_text){list->at, len};
		list->at += len + !!comma;
		list->len -= len + !!comma;
		while (ret->len && is_blank(ret->at[0]))
			ret->at++, ret->len--;
		while (ret->len && is_blank(ret->at[ret->len - 1]))
			ret->len--;
	} while (!ret->len);
	return true;
}

static bool lists(struct http_text list, const char *lower)
{
	struct http_text one;

	while (element(&list, &one))
		if (same(one, lower))
			return true;
	return false;
}

/* 1: it is no field of the message; 0: it is one; -1. */
static int special(struct parse *p, enum http_name id, struct http_text v)
{
	switch (id) {
	case HTTP_NAME_HOST:
		return p->request ? host(p, v) : 1; /* of an answer it says nothing */
	case HTTP_NAME_CONTENT_LENGTH:
		return content_length(p, v);
	case HTTP_NAME_TRANSFER_ENCODING:
		p->coding = v;
		p->codings++;
		return 1;
	case HTTP_NAME_CONNECTION:
		if (p->connections == CONNECTION_FIELDS)
			return refuse(p, 400, "http1: too many Connection fields");
		p->connection[p->connections++] = v;
		return 1;
	case HTTP_NAME_UPGRADE:
		p->upgrade = v;
		p->upgrades++;
		return 1;
	case HTTP_NAME_TE:
		p->ret->h.trailers |= p->request && lists(v, "trailers");
		return 1;
	case HTTP_NAME_EXPECT:
		if (p->ret->h.version == HTTP_1_0)
			return 1;
		p->ret->h.expect |= p->request && same(v, "100-continue");
		return 0;
	case HTTP_NAME_KEEP_ALIVE:
	case HTTP_NAME_PROXY_CONNECTION:
	case HTTP_NAME_HTTP2_SETTINGS:
		return 1;
	default:
		return 0;
	}
}

bool http1_trailer(const struct http_field *f)
{
	return !http_name_is_framing(f->id) && f->id != HTTP_NAME_AUTHORIZATION && f->id != HTTP_NAME_CONTENT_TYPE &&
	       f->id != HTTP_NAME_COOKIE;
}

/* ------------------------------------------------------------------ fields */

static int keep_field(struct parse *p, struct http_text name, struct http_text value)
{
	struct http_head *h = &p->ret->h;
	struct http_field f = {.name = name, .value = value, .id = http_name(name.at, name.len)};
	int taken = 0;

	p->bytes += name.len + value.len + FIELD_OVERHEAD;
	if (p->bytes > p->limit->head_bytes)
		return refuse(p, 431, "http1: the head is too large");
	if (p->trailer && !http1_trailer(&f))
		return 1;
	if (f.id != HTTP_NAME_OTHER && !p->trailer)
		taken = special(p, f.id, value);
	if (taken)
		return taken;
	h->field[h->fields++] = f;
	return 1;
}

/* 1: one more; 2: that was the empty line; 0, -1 */
static int field(struct parse *p)
{
	const char *name = p->at, *colon, *value, *last;
	int r;

	if (p->at == p->end)
		return 0;
	if (*p->at == '\r') {
		r = line_end(p);
		return r > 0 ? 2 : r;
	}
	while (p->at < p->end && http1_token[(uint8_t)*p->at])
		p->at++;
	if (p->at < p->end && *p->at != ':')
		return refuse(p, 400, is_blank(*name) ? "http1: a line begins with a blank"
							: "http1: the name of a field is not one");
	if (p->at < p->end && p->at == name)
		return refuse(p, 400, "http1: a field without a name");
	if ((size_t)(p->at - name) > p->limit->head_bytes)
		return refuse(p, 431, "http1: the head is too large");
	if (p->at == p->end)
		return 0;
	colon = p->at;
	value = colon + 1;
	while (value < p->end && is_blank(*value))
		value++;
	last = value + http1_scan_value(value, (size_t)(p->end - value));
	if ((size_t)(last - name) > p->limit->head_bytes)
		return refuse(p, 431, "http1: the head is too large");
	p->at = last;
	if (last < p->end && *last != '\r')
		return refuse(p, 400, *last == '\n' ? "http1: a line does not end with CR LF"
						    : "http1: a control character in a field");
	r = line_end(p);
	if (r <= 0)
		return r;
	while (last > value && is_blank(last[-1]))
		last--;
	return keep_field(p, (struct http_text){name, (size_t)(colon - name)},
			  (struct http_text){value, (size_t)(last - value)});
}

static int fields(struct parse *p)
{
	unsigned seen;
	int r;

	for (seen = 0;; seen++) {
		r = field(p);
		if (r != 1)
			return r;
		if (seen == p->limit->fields)
			return refuse(p, 431, "http1: too many fields");
	}
}

/* ------------------------------------------------------------------ what the fields mean together */

/* What Connection names is of this connection only: RFC 9110 section 7.6.1. */
static int connection(struct parse *p)
{
	unsigned i, names = 0;
	struct http_text one;

	for (i = 0; i < p->connections; i++) {
		struct http_text list = p->connection[i];

		while (element(&list, &one)) {
			if (same(one, "close"))
				p->said_close = true;
			else if (same(one, "keep-alive"))
				p->said_keep = true;
			else if (same(one, "upgrade"))
				p->said_upgrade = true;
			else if (++names > CONNECTION_NAMES || !http1_is_token(one.at, one.len))
				return refuse(p, 400, "http1: Connection names what is no field");
			else
				http_field_remove(&p->ret->h, one);
		}
	}
	p->ret->keep = !p->said_close && (p->ret->h.version == HTTP_1_1 || p->said_keep);
	return 1;
}

/* Codings that exist, and that we do not have: 501 says so. Everything else is no message. */
static int bad_coding(struct parse *p)
{
	static const char *const known[] = {"gzip", "x-gzip", "deflate", "compress", "x-compress"};
	struct http_text list = p->coding, one;
	size_t i;

	if (p->codings == 1 && element(&list, &one))
		for (i = 0; i < array_size(known); i++)
			if (same(one, known[i]))
				return refuse(p, 501, "http1: a transfer coding that is not chunked");
	return refuse(p, 400, "http1: Transfer-Encoding is not chunked");
}

/* Content-Length and Transfer-Encoding: RFC 9112 section 6. */
static int framing(struct parse *p)
{
	struct http_head *h = &p->ret->h;

	h->body = HTTP_NO_BODY;
	if (p->codings) {
		if (h->version == HTTP_1_0)
			return refuse(p, 400, "http1: Transfer-Encoding in HTTP/1.0");
		if (h->has_length)
			return refuse(p, 400, "http1: Content-Length with Transfer-Encoding");
		if (p->codings > 1 || !same(p->coding, "chunked"))
			return bad_coding(p);
		h->body = HTTP_STREAM;
		p->ret->chunked = true;
	} else if (h->has_length && h->length) {
		h->body = HTTP_LENGTH;
	}
	return 1;
}

/* ------------------------------------------------------------------ requests */

static const struct {
	char text[8];
	uint8_t len;
} methods[HTTP_METHOD_OTHER] = {
	[HTTP_GET] = {"GET", 3},	 [HTTP_HEAD] = {"HEAD", 4},	  [HTTP_POST] = {"POST", 4},
	[HTTP_PUT] = {"PUT", 3},	 [HTTP_DELETE] = {"DELETE", 6},	  [HTTP_CONNECT] = {"CONNECT", 7},
	[HTTP_OPTIONS] = {"OPTIONS", 7}, [HTTP_TRACE] = {"TRACE", 5},	  [HTTP_PATCH] = {"PATCH", 5},
};

static enum http_method method_of(struct http_text t)
{
	enum http_method m;

	for (m = 0; m < HTTP_METHOD_OTHER; m++)
		if (methods[m].len == t.len && !memcmp(methods[m].text, t.at, t.len))
			return m;
	return HTTP_METHOD_OTHER;
}

/* "http://host:port/path" */
static int absolute_form(struct parse *p, struct http_text t)
{
	struct http_head *h = &p->ret->h;
	struct http_text name, rest;
	size_t scheme = 0, len;
	char text[256];
	uint16_t port;

	if (t.len > 7 && !strncasecmp(t.at, "http://", 7))
		scheme = 7, h->scheme = HTTP_TEXT("http");
	else if (t.len > 8 && !strncasecmp(t.at, "https://", 8))
		scheme = 8, h->scheme = HTTP_TEXT("https");
	else
		return refuse(p, 400, "http1: the target is neither a path nor a URI");
	rest = (struct http_text){t.at + scheme, t.len - scheme};
	for (len = 0; len < rest.len && rest.at[len] != '/' && rest.at[len] != '?';)
		len++;
	h->authority = (struct http_text){rest.at, len};
	h->path = (struct http_text){rest.at + len, rest.len - len};
	if (!http_host(h->authority, text, &name, &port) || (h->path.len && h->path.at[0] == '?'))
		return refuse(p, 400, "http1: the target is neither a path nor a URI");
	if (!h->path.len) /* RFC 9112 section 3.2.4 */
		h->path = h->method == HTTP_OPTIONS ? HTTP_TEXT("*") : HTTP_TEXT("/");
	return 1;
}

/* RFC 9112 section 3.2 */
static int target(struct parse *p, struct http_text t)
{
	struct http_head *h = &p->ret->h;
	struct http_text name;
	char text[256];
	uint16_t port;

	h->scheme = HTTP_TEXT("http");
	if (memchr(t.at, '#', t.len))
		return refuse(p, 400, "http1: a fragment in the target");
	if (h->method == HTTP_CONNECT) {
		if (!http_host(t, text, &name, &port) || !port)
			return refuse(p, 400, "http1: the target of CONNECT is not host and port");
		h->authority = t;
		return 1;
	}
	if (t.at[0] != '/' && !(t.len == 1 && t.at[0] == '*'))
		return absolute_form(p, t);
	if (t.at[0] == '*' && h->method != HTTP_OPTIONS)
		return refuse(p, 400, "http1: the target * is of OPTIONS only");
	h->path = t;
	return 1;
}

/* "HTTP/1.x" at `at`: 1, 0, -1 */
static int version(struct parse *p)
{
	static const char name[] = "HTTP/";
	size_t n = (size_t)(p->end - p->at), name_len = sizeof(name) - 1;

	if (memcmp(p->at, name, n < name_len ? n : name_len))
		return refuse(p, 400, "http1: no version of HTTP");
	if (n < name_len + 3)
		return 0;
	p->at += name_len;
	if (p->at[0] < '0' || p->at[0] > '9' || p->at[1] != '.' || p->at[2] < '0' || p->at[2] > '9')
		return refuse(p, 400, "http1: no version of HTTP");
	if (p->at[0] != '1' || p->at[2] > '1')
		return refuse(p, 505, "http1: another version of HTTP");
	p->ret->h.version = p->at[2] == '1' ? HTTP_1_1 : HTTP_1_0;
	p->at += 3;
	return 1;
}

static int too_long(struct parse *p, const char *line)
{
	if ((size_t)(p->at - line) > p->limit->line_bytes)
		return refuse(p, 414, "http1: the request line is too long");
	return 0;
}

/* The first character that is no target's: those from 0x21 to 0x7e are. */
static const char *scan_target(const char *s, const char *end)
{
	while (s < end && (uint8_t)(*s - 0x21) < 0x7f - 0x21)
		s++;
	return s;
}

static int request_line(struct parse *p)
{
	struct http_head *h = &p->ret->h;
	const char *line = p->at, *from;
	int r;

	while (p->at < p->end && http1_token[(uint8_t)*p->at])
		p->at++;
	if (p->at < p->end && (*p->at != ' ' || p->at == line))
		return refuse(p, 400, "http1: the method is not a token");
	if (too_long(p, line) < 0)
		return -1;
	if (p->at == p->end)
		return 0;
	h->method_text = (struct http_text){line, (size_t)(p->at - line)};
	h->method = method_of(h->method_text);
	from = ++p->at;
	p->at = scan_target(from, p->end);
	if (too_long(p, line) < 0)
		return -1;
	if (p->at == p->end)
		return 0;
	if (*p->at != ' ' || p->at == from)
		return refuse(p, 400, "http1: a character that no target has");
	r = target(p, (struct http_text){from, (size_t)(p->at - from)});
	if (r < 0)
		return r;
	p->at++;
	r = version(p);
	return r > 0 ? line_end(p) : r;
}

/* What else is asked for is not passed on; who asks may go on with HTTP/1. */
static bool may_upgrade(const struct parse *p)
{
	const struct http_head *h = &p->ret->h;

	return p->upgrades == 1 && p->said_upgrade && h->version == HTTP_1_1 && h->method == HTTP_GET &&
	       h->body == HTTP_NO_BODY && http_may_switch_to(p->upgrade);
}

static int request_body(struct parse *p)
{
	struct http_head *h = &p->ret->h;

	if (h->version == HTTP_1_1 && !p->hosts)
		return refuse(p, 400, "http1: no Host");
	if (h->method == HTTP_CONNECT && (h->has_length || p->codings))
		return refuse(p, 400, "http1: CONNECT with a body");
	if (h->method == HTTP_TRACE && h->body != HTTP_NO_BODY)
		return refuse(p, 400, "http1: TRACE with a body");
	if (may_upgrade(p))
		h->upgrade = p->upgrade;
	if (h->upgrade.len || h->method == HTTP_CONNECT)
		h->body = HTTP_TUNNEL;
	return 1;
}

static void begin(struct parse *p, const char *data, size_t len, const struct http1_limit *l, struct http1_head *ret)
{
	struct http_field *field = ret->h.field;
	unsigned room = ret->h.room;

	*ret = (struct http1_head){.h = {.field = field, .room = room}};
	p->at = data;
	p->end = data + len;
	p->limit = l;
	p->ret = ret;
}

int http1_parse_request(const char *data, size_t len, const struct http1_limit *l, struct http1_head *ret)
{
	struct parse p = {.request = true};
	int r;

	begin(&p, data, len, l, ret);
	if (len && *data == '\r') { /* one empty line before it: RFC 9112 section 2.2 */
		r = line_end(&p);
		if (r <= 0)
			return r;
	}
	r = request_line(&p);
	if (r <= 0)
		return r;
	r = fields(&p);
	if (r <= 0)
		return r;
	if (connection(&p) < 0 || framing(&p) < 0 || request_body(&p) < 0)
		return -1;
	return (int)(p.at - data);
}

/* ------------------------------------------------------------------ answers */

static int status_line(struct parse *p)
{
	struct http_head *h = &p->ret->h;
	const char *reason;
	int r = version(p), i;

	if (r <= 0)
		return r;
	if (p->at < p->end && *p->at != ' ')
		return refuse(p, 502, "http1: no status line");
	for (i = 1; i < 4; i++) {
		if (p->at + i >= p->end)
			return 0;
		if (p->at[i] < '0' || p->at[i] > '9')
			return refuse(p, 502, "http1: no status line");
		h->status = (uint16_t)(h->status * 10 + (p->at[i] - '0'));
	}
	if (h->status < 100)
		return refuse(p, 502, "http1: no status line");
	p->at += 4;
	if (p->at < p->end && *p->at == ' ') /* some leave it away where there is no reason */
		p->at++;
	else if (p->at < p->end && *p->at != '\r')
		return refuse(p, 502, "http1: no status line");
	reason = p->at;
	p->at += http1_scan_value(reason, (size_t)(p->end - reason));
	if ((size_t)(p->at - reason) > p->limit->line_bytes)
		return refuse(p, 502, "http1: the status line is too long");
	h->reason = (struct http_text){reason, (size_t)(p->at - reason)};
	return line_end(p);
}

/* RFC 9112 section 6.3 */
static int answer_body(struct parse *p, const struct http1_asked *asked)
{
	struct http_head *h = &p->ret->h;
	bool close = p->said_close;

	if (h->status == 101) {
		if (!asked->upgrade || !p->said_upgrade || !p->upgrade.len || h->body != HTTP_NO_BODY)
			return refuse(p, 502, "http1: a switch of protocols that nobody asked for");
		h->upgrade = p->upgrade;
		h->body = HTTP_TUNNEL;
	} else if (h->status < 200) {
		if (h->body != HTTP_NO_BODY)
			return refuse(p, 502, "http1: an informational answer with a body");
		p->ret->keep |= !close;
	} else if (asked->method == HTTP_CONNECT && h->status < 300) {
		h->body = HTTP_TUNNEL; /* a length that it has says nothing */
		h->has_length = false;
		h->length = 0;
	} else if (asked->method == HTTP_HEAD || h->status == 204 || h->status == 304) {
		h->body = HTTP_NO_BODY;
		p->ret->chunked = false;
		h->has_length &= h->status != 204;
		h->length = h->has_length ? h->length : 0;
	} else if (h->body == HTTP_NO_BODY && !h->has_length) {
		h->body = HTTP_STREAM;
		p->ret->keep = false;
	}
	return 1;
}

int http1_parse_answer(const char *data, size_t len, const struct http1_limit *l, const struct http1_asked *asked,
		       struct http1_head *ret)
{
	struct parse p = {0};
	int r;

	begin(&p, data, len, l, ret);
	r = status_line(&p);
	if (r > 0)
		r = fields(&p);
	if (r > 0 && (connection(&p) < 0 || framing(&p) < 0 || answer_body(&p, asked) < 0))
		r = -1;
	if (r < 0)
		ret->status = 502;
	return r > 0 ? (int)(p.at - data) : r;
}

/* ------------------------------------------------------------------ trailers */

int http1_parse_trailers(const char *data, size_t len, const struct http1_limit *l, struct http1_head *ret)
{
	struct parse p = {.trailer = true};
	int r;

	begin(&p, data, len, l, ret);
	r = fields(&p);
	return r > 0 ? (int)(p.at - data) : r;
}
