/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2_head.c: see http2_head.h. RFC 9113 section 8.
 *
 * nghttp2 has checked each field (characters, upper case, fields of the connection), the pseudo fields (known, once,
 * before the others, those that must be), and compares Content-Length with what comes. What it leaves to us is here.
 */
#include <stdlib.h>
#include <string.h>

#include "http2_head.h"

struct http2_head *http2_head_new(void)
{
	struct http2_head *in = mem_grow(NULL, 1, sizeof(*in));

	memset(in, 0, offsetof(struct http2_head, first_field));
	in->h.version = HTTP_2;
	in->h.field = in->first_field;
	in->h.room = HTTP2_HEAD_FIELDS;
	in->text = in->first_text;
	in->text_room = HTTP2_HEAD_TEXTS;
	return in;
}

static void let_go(struct http2_head *in)
{
	while (in->texts)
		nghttp2_rcbuf_decref(in->text[--in->texts]);
	in->h.fields = 0;
}

void http2_head_free(struct http2_head *in)
{
	if (!in)
		return;
	let_go(in);
	if (in->h.field != in->first_field)
		free(in->h.field);
	if (in->text != in->first_text)
		free(in->text);
	free(in->joined);
	free(in);
}

/* ------------------------------------------------------------------ what comes */

static struct http_text hold(struct http2_head *in, const struct http2_text *text)
{
	if (!nghttp2_rcbuf_is_static(text->of)) {
		if (in->texts == in->text_room) {
			in->text_room *= 2;
			if (in->text == in->first_text) {
				in->text = mem_grow(NULL, in->text_room, sizeof(*in->text));
				memcpy(in->text, in->first_text, sizeof(in->first_text));
			} else {
				in->text = mem_grow(in->text, in->text_room, sizeof(*in->text));
			}
		}
		nghttp2_rcbuf_incref(text->of);
		in->text[in->texts++] = text->of;
	}
	return (struct http_text){(const char *)text->v.base, text->v.len};
}

static struct http_field *next_field(struct http2_head *in)
{
	struct http_head *h = &in->h;

	if (h->fields == h->room) {
		h->room *= 2;
		if (h->field == in->first_field) {
			h->field = mem_grow(NULL, h->room, sizeof(*h->field));
			memcpy(h->field, in->first_field, sizeof(in->first_field));
		} else {
			h->field = mem_grow(h->field, h->room, sizeof(*h->field));
		}
	}
	return &h->field[h->fields++];
}

static bool is(nghttp2_vec name, const char *want, size_t len)
{
	return name.len == len && !memcmp(name.base, want, len);
}
#define IS(name, literal) is(name, literal, sizeof(literal) - 1)

static enum http_method method_of(struct http_text t)
{
	static const char *const name[] = {
		[HTTP_GET] = "GET",	    [HTTP_HEAD] = "HEAD",	[HTTP_POST] = "POST",
		[HTTP_PUT] = "PUT",	    [HTTP_DELETE] = "DELETE",	[HTTP_CONNECT] = "CONNECT",
		[HTTP_OPTIONS] = "OPTIONS", [HTTP_TRACE] = "TRACE",	[HTTP_PATCH] = "PATCH",
	};
	unsigned i;

	for (i = 0; i < array_size(name); i++)
		if (t.len == strlen(name[i]) && !memcmp(t.at, name[i], t.len))
			return (enum http_method)i;
	return HTTP_METHOD_OTHER;
}

static void add_pseudo(struct http2_head *in, nghttp2_vec name, const struct http2_text *text)
{
	struct http_text value = hold(in, text);

	if (IS(name, ":method")) {
		in->h.method_text = value;
		in->h.method = method_of(value);
	} else if (IS(name, ":path")) {
		in->h.path = value;
	} else if (IS(name, ":authority")) {
		in->h.authority = value;
	} else if (IS(name, ":scheme")) {
		in->h.scheme = value;
	} else if (IS(name, ":protocol")) {
		in->protocol = value;
	} else if (IS(name, ":status") && value.len == 3) {
		in->h.status = (uint16_t)((value.at[0] - '0') * 100 + (value.at[1] - '0') * 10 + value.at[2] - '0');
	}
}

static void add_length(struct http_head *h, nghttp2_vec v)
{
	size_t i;

	h->has_length = true;
	h->length = 0;
	for (i = 0; i < v.len; i++) /* digits, no more than an int64_t: nghttp2 has looked */
		h->length = h->length * 10 + (uint64_t)(v.base[i] - '0');
}

static void add_cookie(struct http2_head *in, size_t len)
{
	if (!in->crumbs++)
		in->cookie = in->h.fields - 1;
	in->crumb_bytes += len + 2;
}

void http2_head_add(struct http2_head *in, const struct http2_text *name_of, const struct http2_text *value_of,
		    uint8_t flags, bool large)
{
	nghttp2_vec name = name_of->v, value = value_of->v;
	struct http_field *f;
	enum http_name id;

	if (large && !in->large) {
		in->large = true;
		let_go(in);
	}
	if (in->large)
		return;
	if (name.len && name.base[0] == ':') {
		add_pseudo(in, name, value_of);
		return;
	}
	id = http_name((const char *)name.base, name.len);
	if (id == HTTP_NAME_CONTENT_LENGTH) {
		add_length(&in->h, value);
	} else if (id == HTTP_NAME_HOST) {
		in->host = hold(in, value_of);
	} else if (id == HTTP_NAME_TE) {
		in->h.trailers = true; /* nghttp2 takes no other value */
	} else {
		f = next_field(in);
		f->name = hold(in, name_of);
		f->value = hold(in, value_of);
		f->id = id;
		f->secret = flags & NGHTTP2_NV_FLAG_NO_INDEX;
		if (id == HTTP_NAME_COOKIE)
			add_cookie(in, value.len);
		else if (id == HTTP_NAME_EXPECT)
			in->h.expect = http_text_equal_nocase(f->value, HTTP_TEXT("100-continue"));
	}
}

int http2_head_request(struct http2_head *in, bool ended)
{
	struct http_head *h = &in->h;
	bool connect = h->method == HTTP_CONNECT;

	if (in->large)
		return 431;
	/* RFC 9113 section 8.3.1: the target says whose it is; a Host that says otherwise is a way to be misread. */
	if (!h->authority.len)
		h->authority = in->host;
	else if (in->host.len && !http_text_equal_nocase(h->authority, in->host))
		return 400;
	if (!h->authority.len || memchr(h->authority.at, '@', h->authority.len))
		return 400;
	if (!connect || in->protocol.len) {
		if (!http_text_equal_nocase(h->scheme, HTTP_TEXT("http")) &&
		    !http_text_equal_nocase(h->scheme, HTTP_TEXT("https")))
			return 400;
		if (!h->path.len)
			return 400;
	}
	if (in->protocol.len) { /* RFC 8441; HTTP/1 would read a list as one to choose from */
		if (!http_may_switch_to(in->protocol))
			return 400;
		h->upgrade = in->protocol;
		h->method = HTTP_GET;
		h->method_text = HTTP_TEXT("GET");
	}
	if (ended)
		h->body = HTTP_NO_BODY;
	else if (connect)
		h->body = HTTP_TUNNEL;
	else
		h->body = h->has_length ? HTTP_LENGTH : HTTP_STREAM;
	return 0;
}

bool http2_head_answer(struct http2_head *in, enum http_method asked, bool upgrade, bool ended)
{
	struct http_head *h = &in->h;
	bool tunnel = (upgrade || asked == HTTP_CONNECT) && h->status >= 200 && h->status < 300;

	if (in->large || h->status < 100 || h->status == 101)
		return false;
	if (tunnel) {
		h->body = HTTP_TUNNEL;
		h->has_length = false;
		if (upgrade)
			h->status = 101;
	} else if (ended || h->status < 200 || asked == HTTP_HEAD || h->status == 204 || h->status == 304) {
		h->body = HTTP_NO_BODY;
	} else {
		h->body = h->has_length ? HTTP_LENGTH : HTTP_STREAM;
	}
	return true;
}

void http2_head_join(struct http2_head *in)
{
	struct http_head *h = &in->h;
	unsigned i, kept = in->cookie + 1;
	char *to;

	if (in->crumbs < 2)
		return;
	to = in->joined = mem_alloc(in->crumb_bytes);
	for (i = in->cookie; i < h->fields; i++) {
		const struct http_field *f = &h->field[i];

		if (f->id != HTTP_NAME_COOKIE) {
			h->field[kept++] = *f;
			continue;
		}
		if (to != in->joined) {
			*to++ = ';';
			*to++ = ' ';
		}
		if (f->value.len)
			memcpy(to, f->value.at, f->value.len);
		to += f->value.len;
	}
	h->field[in->cookie].value = (struct http_text){in->joined, (size_t)(to - in->joined)};
	h->fields = kept;
	in->crumbs = 1;
}

/* ------------------------------------------------------------------ what goes */

static nghttp2_nv own(const char *name, size_t len, struct http_text value)
{
	return (nghttp2_nv){
		.name = (uint8_t *)name,
		.namelen = len,
		.value = (uint8_t *)value.at,
		.valuelen = value.len,
		.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME,
	};
}
#define OWN(name, value) own(name, sizeof(name) - 1, value)

/* Another one in each request: in the peer's table it would take the place of one that comes again. */
static bool once(enum http_name id)
{
	return id == HTTP_NAME_X_REQUEST_ID || id == HTTP_NAME_TRACEPARENT || id == HTTP_NAME_GRPC_TIMEOUT;
}

size_t http2_head_fields(const struct http_field *field, unsigned fields, nghttp2_nv *to)
{
	size_t n = 0;
	unsigned i;

	for (i = 0; i < fields; i++) {
		const struct http_field *f = &field[i];

		if (http_name_is_hop(f->id))
			continue;
		to[n++] = (nghttp2_nv){
			.name = (uint8_t *)f->name.at, /* nghttp2 makes it lower case as it copies */
			.namelen = f->name.len,
			.value = (uint8_t *)f->value.at,
			.valuelen = f->value.len,
			.flags = f->secret || once(f->id) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
		};
	}
	return n;
}

static size_t add_number(const struct http_head *h, nghttp2_nv *to, char number[HTTP2_NUMBER])
{
	int len;

	if (!h->has_length)
		return 0;
	len = snprintf(number, 24, "%llu", (unsigned long long)h->length);
	to[0] = OWN("content-length", ((struct http_text){number, (size_t)len}));
	return 1;
}

size_t http2_head_ask(const struct http_head *h, bool extended, nghttp2_nv *to, char number[HTTP2_NUMBER])
{
	bool connect = h->method == HTTP_CONNECT;
	size_t n = 0;

	to[n++] = OWN(":method", extended ? HTTP_TEXT("CONNECT") : h->method_text);
	if (extended)
		to[n++] = OWN(":protocol", h->upgrade);
	if (!connect) {
		to[n++] = OWN(":scheme", h->scheme.len ? h->scheme : HTTP_TEXT("http"));
		to[n++] = OWN(":path", h->path);
	}
	if (h->authority.len)
		to[n++] = OWN(":authority", h->authority);
	n += http2_head_fields(h->field, h->fields, to + n);
	if (!connect && !extended)
		n += add_number(h, to + n, number);
	if (h->trailers)
		to[n++] = OWN("te", HTTP_TEXT("trailers"));
	return n;
}

size_t http2_head_say(const struct http_head *h, unsigned status, nghttp2_nv *to, char number[HTTP2_NUMBER])
{
	size_t n = 0;

	number[24] = (char)('0' + status / 100 % 10);
	number[25] = (char)('0' + status / 10 % 10);
	number[26] = (char)('0' + status % 10);
	to[n++] = OWN(":status", ((struct http_text){number + 24, 3}));
	n += http2_head_fields(h->field, h->fields, to + n);
	if (h->body != HTTP_TUNNEL && status >= 200 && status != 204)
		n += add_number(h, to + n, number);
	return n;
}
