/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_write.c: heads as HTTP/1 writes them.
 *
 * Framing and what is of one connection is written from the plan, never from a field: a filter or a peer of HTTP/2 that
 * put such a field into a head changes nothing here. Nor does one whose name is no token or whose value has a line end.
 */
#include <string.h>

#include "http1_parts.h"

#define LINE_MORE 64 /* of a first line besides its texts: blanks, version, numbers */
#define PLAN_MORE 192 /* of the fields of a plan besides its texts */

static char *put(char *to, struct http_text t)
{
	if (t.len)
		memcpy(to, t.at, t.len);
	return to + t.len;
}
#define PUT(to, literal) ((char *)memcpy(to, literal, sizeof(literal) - 1) + sizeof(literal) - 1)

static char *put_field(char *to, struct http_text name, struct http_text value)
{
	to = put(to, name);
	to = PUT(to, ": ");
	to = put(to, value);
	return PUT(to, "\r\n");
}

/* ------------------------------------------------------------------ fields */

static bool belongs(const struct http_field *f)
{
	return !http_name_is_hop(f->id) && http1_is_token(f->name.at, f->name.len) &&
	       http1_scan_value(f->value.at, f->value.len) == f->value.len;
}

static char *put_fields(char *to, const struct http_head *h)
{
	unsigned i;

	for (i = 0; i < h->fields; i++)
		if (belongs(&h->field[i]))
			to = put_field(to, h->field[i].name, h->field[i].value);
	return to;
}

/* What the plan says, and the empty line. */
static char *put_plan(char *to, const struct http1_plan *p)
{
	if (p->framing == FRAME_LENGTH || (p->framing == FRAME_NONE && p->say_length)) {
		to = PUT(to, "Content-Length: ");
		to = text_decimal(to, p->length);
		to = PUT(to, "\r\n");
	}
	if (p->framing == FRAME_CHUNKED)
		to = PUT(to, "Transfer-Encoding: chunked\r\n");
	if (p->upgrade.len) {
		to = PUT(to, "Connection: Upgrade\r\nUpgrade: ");
		to = put(to, p->upgrade);
		to = PUT(to, "\r\n");
	}
	if (p->trailers)
		to = PUT(to, "TE: trailers\r\nConnection: TE\r\n");
	if (p->close)
		to = PUT(to, "Connection: close\r\n");
	if (p->keep)
		to = PUT(to, "Connection: keep-alive\r\n");
	return PUT(to, "\r\n");
}

size_t http1_head_size(const struct http_head *h)
{
	size_t all = LINE_MORE + PLAN_MORE + h->method_text.len + h->path.len + 2 * h->authority.len + h->reason.len +
		     h->upgrade.len;
	unsigned i;

	for (i = 0; i < h->fields; i++)
		all += h->field[i].name.len + h->field[i].value.len + 4;
	return all;
}

/* ------------------------------------------------------------------ answers */

static struct http_text reason_of(unsigned status)
{
	static const struct {
		uint16_t status;
		struct http_text text;
	} all[] = {
		{100, HTTP_TEXT("Continue")},
		{101, HTTP_TEXT("Switching Protocols")},
		{103, HTTP_TEXT("Early Hints")},
		{200, HTTP_TEXT("OK")},
		{201, HTTP_TEXT("Created")},
		{202, HTTP_TEXT("Accepted")},
		{204, HTTP_TEXT("No Content")},
		{206, HTTP_TEXT("Partial Content")},
		{301, HTTP_TEXT("Moved Permanently")},
		{302, HTTP_TEXT("Found")},
		{303, HTTP_TEXT("See Other")},
		{304, HTTP_TEXT("Not Modified")},
		{307, HTTP_TEXT("Temporary Redirect")},
		{308, HTTP_TEXT("Permanent Redirect")},
		{400, HTTP_TEXT("Bad Request")},
		{401, HTTP_TEXT("Unauthorized")},
		{403, HTTP_TEXT("Forbidden")},
		{404, HTTP_TEXT("Not Found")},
		{405, HTTP_TEXT("Method Not Allowed")},
		{408, HTTP_TEXT("Request Timeout")},
		{409, HTTP_TEXT("Conflict")},
		{413, HTTP_TEXT("Content Too Large")},
		{414, HTTP_TEXT("URI Too Long")},
		{415, HTTP_TEXT("Unsupported Media Type")},
		{429, HTTP_TEXT("Too Many Requests")},
		{431, HTTP_TEXT("Request Header Fields Too Large")},
		{500, HTTP_TEXT("Internal Server Error")},
		{501, HTTP_TEXT("Not Implemented")},
		{502, HTTP_TEXT("Bad Gateway")},
		{503, HTTP_TEXT("Service Unavailable")},
		{504, HTTP_TEXT("Gateway Timeout")},
		{505, HTTP_TEXT("HTTP Version Not Supported")},
	};
	size_t i;

	for (i = 0; i < array_size(all); i++)
		if (all[i].status == status)
			return all[i].text;
	return (struct http_text){NULL, 0};
}

static char *put_status(char *to, unsigned status, struct http_text reason)
{
	if (!reason.len || http1_scan_value(reason.at, reason.len) != reason.len)
		reason = reason_of(status);
	to = PUT(to, "HTTP/1.1 ");
	to = text_decimal(to, status);
	to = PUT(to, " ");
	to = put(to, reason);
	return PUT(to, "\r\n");
}

size_t http1_write_answer(const struct http_head *h, const struct http1_plan *p, char *to)
{
	char *at = put_status(to, h->status, h->reason);

	at = put_fields(at, h);
	return (size_t)(put_plan(at, p) - to);
}

/* The text names the reason; an answer to HEAD would have had it. */
size_t http1_write_refusal(int status, const char *why, bool body, char to[HTTP1_REFUSAL])
{
	size_t len = strnlen(why, 200);
	char *at = put_status(to, (unsigned)status, (struct http_text){NULL, 0});

	at = PUT(at, "Content-Type: text/plain\r\nContent-Length: ");
	at = text_decimal(at, len + 1);
	at = PUT(at, "\r\nConnection: close\r\n\r\n");
	if (body) {
		at = put(at, (struct http_text){why, len});
		at = PUT(at, "\n");
	}
	return (size_t)(at - to);
}

/* ------------------------------------------------------------------ requests */

size_t http1_write_request(const struct http_head *h, const struct http1_plan *p, char *to)
{
	bool connect = h->method == HTTP_CONNECT;
	char *at = put(to, h->method_text);

	at = PUT(at, " ");
	at = put(at, connect ? h->authority : h->path);
	at = PUT(at, " HTTP/1.1\r\n");
	at = put_field(at, HTTP_TEXT("Host"), h->authority);
	at = put_fields(at, h);
	return (size_t)(put_plan(at, p) - to);
}

/* ------------------------------------------------------------------ trailers */

size_t http1_trailers_size(const struct http_field *field, unsigned fields)
{
	size_t all = 8;
	unsigned i;

	for (i = 0; i < fields; i++)
		all += field[i].name.len + field[i].value.len + 4;
	return all;
}

size_t http1_write_trailers(const struct http_field *field, unsigned fields, char *to)
{
	char *at = PUT(to, "0\r\n");
	unsigned i;

	for (i = 0; i < fields; i++)
		if (http1_trailer(&field[i]) && belongs(&field[i]))
			at = put_field(at, field[i].name, field[i].value);
	return (size_t)(PUT(at, "\r\n") - to);
}
