/* SPDX-License-Identifier: Apache-2.0 */
/* access.c: the line that the log has of a request. */
#include <string.h>

#include "filter.h"

#define ACCESS_VALUE 256 /* of one value from outside, escaped; longer ones are cut and end in "..." */

struct line {
	char *at;
	size_t len;
};

/*
 * Fits by construction: the longest line is that of test_access.c, and everything from outside is cut at ACCESS_VALUE.
 * What would not fit is left out nevertheless.
 */
static void put(struct line *l, const char *s, size_t len)
{
	if (len >= ACCESS_TEXT - l->len)
		return;
	memcpy(l->at + l->len, s, len);
	l->len += len;
	l->at[l->len] = 0;
}

static void put_key(struct line *l, const char *key)
{
	if (l->len)
		put(l, " ", 1);
	put(l, key, strlen(key));
	put(l, "=", 1);
}

static void put_plain(struct line *l, const char *key, const char *value)
{
	put_key(l, key);
	put(l, value, strlen(value));
}

static void put_number(struct line *l, const char *key, uint64_t n)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	put_plain(l, key, digits);
}

/* Milliseconds with three digits behind the point. */
static void put_time(struct line *l, const char *key, uint64_t ns)
{
	char digits[32];

	snprintf(digits, sizeof(digits), "%llu.%03llu", (unsigned long long)(ns / 1000000),
		 (unsigned long long)(ns / 1000 % 1000));
	put_plain(l, key, digits);
}

/*
 * In quotes, of printable ASCII only: quotes and backslashes behind a backslash, all else as \xNN. So nothing in it
 * ends the value or the line, or speaks with a terminal. log_line() would escape again: it has nothing left to.
 */
static void put_quoted(struct line *l, const char *key, struct http_text value)
{
	char one[8];
	size_t len = 0;

	put_key(l, key);
	put(l, "\"", 1);
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.at[i];
		int n;

		if (c == '"' || c == '\\')
			n = snprintf(one, sizeof(one), "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			n = snprintf(one, sizeof(one), "\\x%02x", c);
		else
			n = snprintf(one, sizeof(one), "%c", c);
		len += (size_t)n;
		if (len > ACCESS_VALUE) {
			put(l, "...", 3);
			break;
		}
		put(l, one, (size_t)n);
	}
	put(l, "\"", 1);
}

static void put_name(struct line *l, const char *key, const char *value)
{
	if (value && *value)
		put_quoted(l, key, (struct http_text){value, strlen(value)});
}

static void put_text(struct line *l, const char *key, struct http_text value)
{
	if (value.len)
		put_quoted(l, key, value);
}

static void put_address(struct line *l, const char *key, const struct abi_addr *a, uint16_t port)
{
	char buf[ADDR_PORT_TEXT];

	if (a)
		put_plain(l, key, addr_port_text(a, port, buf));
}

static const char *version(enum http_version v)
{
	static const char *const names[] = {[HTTP_1_0] = "1.0", [HTTP_1_1] = "1.1", [HTTP_2] = "2"};

	return (unsigned)v < array_size(names) ? names[v] : "?";
}

size_t access_text(const struct access *x, char buf[ACCESS_TEXT])
{
	struct line l = {.at = buf};

	buf[0] = 0;
	put_text(&l, "method", x->method);
	put_text(&l, "authority", x->authority);
	put_text(&l, "path", x->path);
	put_plain(&l, "version", version(x->client_version));
	put_number(&l, "status", x->status);
	if (x->grpc_status >= 0)
		put_number(&l, "grpc_status", (uint64_t)x->grpc_status);
	put_plain(&l, "reason", reason_name(x->reason));
	put_name(&l, "why", x->why);
	put_number(&l, "request_bytes", x->request_bytes);
	put_number(&l, "answer_bytes", x->answer_bytes);
	put_time(&l, "ms", x->total_ns);
	if (x->backend_ns)
		put_time(&l, "backend_ms", x->backend_ns);
	put_name(&l, "source", x->source);
	put_address(&l, "client", x->client, x->client_port);
	put_name(&l, "route", x->route);
	put_name(&l, "rule", x->rule);
	put_name(&l, "backend", x->backend);
	if (x->endpoint) {
		put_address(&l, "endpoint", x->endpoint, x->endpoint_port);
		put_plain(&l, "backend_version", version(x->server_version));
	}
	if (x->tries > 1)
		put_number(&l, "tries", x->tries);
	put_text(&l, "id", x->id);
	return l.len;
}
