/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c: the one form of a path and of a host.
 *
 * What two readers could read in two ways is refused, not guessed: an escaped slash or backslash (is it a separator?),
 * "\" (is it "/"?), "..;x" (servlet containers take parameters off a segment before they look whether it is ".."),
 * escaped control characters, escapes that are none.
 */
#include <string.h>

#include "http.h"

#define HOST_MAX 255
#define PORT_DIGITS 5

/* RFC 3986 section 2.3 */
static const bool unreserved[256] = {
	['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true,
	['-'] = true,	      ['.'] = true,	    ['_'] = true,	  ['~'] = true,
};

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_visible(char c)
{
	return c > ' ' && c < 0x7f;
}

/* ------------------------------------------------------------------ paths */

/* The escape at s: 1 or 3 characters for `to`; 0: refused. */
static unsigned escape(const char *s, size_t left, char to[3], const char **ret_why)
{
	int high = left > 2 ? hex(s[1]) : -1, low = left > 2 ? hex(s[2]) : -1, c = high * 16 + low;

	*ret_why = "path: a percent sign without two hex digits";
	if (high < 0 || low < 0)
		return 0;
	*ret_why = "path: an escaped control character";
	if (c < 0x20 || c == 0x7f)
		return 0;
	*ret_why = "path: an escaped slash or backslash";
	if (c == '/' || c == '\\')
		return 0;
	if (unreserved[c]) {
		to[0] = (char)c;
		return 1;
	}
	to[0] = '%';
	to[1] = "0123456789ABCDEF"[high];
	to[2] = "0123456789ABCDEF"[low];
	return 3;
}

void http_path_escapes(char *pattern)
{
	const char *s = pattern, *end = s + strlen(s), *why;
	char *to = pattern;

	while (s < end) {
		unsigned n = *s == '%' ? escape(s, (size_t)(end - s), to, &why) : 0;

		if (n)
			s += 3;
		else
			*to++ = *s++;
		to += n;
	}
	*to = 0;
}

/* A segment's characters from s to the next "/" or the end: written to `to`; where they end, or NULL: refused. */
static const char *segment(const char *s, const char *end, char *to, size_t *ret_len, const char **ret_why)
{
	size_t len = 0;

	while (s < end && *s != '/') {
		unsigned n = 1;

		if (*s == '%') {
			n = escape(s, (size_t)(end - s), to + len, ret_why);
			if (!n)
				return NULL;
			s += 3;
		} else if (!is_visible(*s) || *s == '\\' || *s == '#') {
			*ret_why = *s == '\\'  ? "path: a backslash"
				   : *s == '#' ? "path: a fragment"
					       : "path: a character that no URI has";
			return NULL;
		} else {
			to[len] = *s++;
		}
		len += n;
	}
	*ret_len = len;
	return s;
}

/* 1 for ".", 2 for "..", 0; -1: one of them with parameters. */
static int dots(const char *s, size_t len)
{
	size_t n = len && s[0] == '.' ? 1 + (len > 1 && s[1] == '.') : 0;

	if (!n || n == len)
		return (int)n;
	if (s[n] == ';' || (len - n >= 3 && !memcmp(s + n, "%3B", 3)))
		return -1;
	return 0;
}

/*
 * `to` always ends with the "/" before the segment that is read next, so that ".." takes the segment before it away
 * by looking for the "/" before that. What is written is never ahead of what was read: `to` may be the path itself.
 */
static size_t segments(const char *s, const char *end, bool merge, char *to, const char **ret_why)
{
	size_t len = 1;

	to[0] = '/';
	s++;
	for (;;) {
		size_t n;
		int dot;

		s = segment(s, end, to + len, &n, ret_why);
		if (!s)
			return 0;
		dot = dots(to + len, n);
		*ret_why = dot < 0 ? "path: a dot segment with parameters" : "path: above the root";
		if (dot < 0 || (dot == 2 && len == 1))
			return 0;
		if (dot == 2)
			for (len--; to[len - 1] != '/';)
				len--;
		else if (!dot)
			len += n;
		if (s == end)
			return len;
		s++;
		if (!dot && (n || !merge))
			to[len++] = '/';
	}
}

static bool good_query(struct http_text q, const char **ret_why)
{
	size_t i;

	for (i = 0; i < q.len; i++) {
		if (is_visible(q.at[i]) && q.at[i] != '#')
			continue;
		*ret_why = q.at[i] == '#' ? "path: a fragment" : "path: a character that no URI has";
		return false;
	}
	return true;
}

bool http_path_normalise(struct http_text path, bool merge, char *to, struct http_text *ret_path,
			 struct http_text *ret_query, const char **ret_why)
{
	const char *mark = path.len ? memchr(path.at, '?', path.len) : NULL;
	const char *end = mark ? mark : path.at + path.len;
	struct http_text query = {NULL, 0};
	size_t len = 0;

	*ret_why = "path: it does not begin with a slash";
	if (path.len == 1 && path.at[0] == '*')
		to[len++] = '*';
	else if (path.len && path.at[0] == '/')
		len = segments(path.at, end, merge, to, ret_why);
	if (!len)
		return false;
	if (mark) {
		query = (struct http_text){mark + 1, path.len - (size_t)(mark + 1 - path.at)};
		if (!good_query(query, ret_why))
			return false;
		to[len] = '?';
		memmove(to + len + 1, query.at, query.len);
		query.at = to + len + 1;
	}
	*ret_path = (struct http_text){to, len};
	*ret_query = query;
	*ret_why = NULL;
	return true;
}

/* ------------------------------------------------------------------ hosts */

/* All of it: a port, or none ("host:" is one without, RFC 3986 section 3.2.3). */
static bool port(const char *s, size_t len, uint16_t *ret)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9' || i == PORT_DIGITS)
			return false;
		n = n * 10 + (unsigned)(s[i] - '0');
	}
	if (n > UINT16_MAX || (len && !n))
		return false;
	*ret = (uint16_t)n;
	return true;
}

static size_t literal(const char *s, size_t len, char *to)
{
	const char *close = memchr(s, ']', len);
	size_t n = close ? (size_t)(close - s) + 1 : 0;
	char address[ADDR_TEXT];
	struct abi_addr a;

	if (n < 2 || n - 2 >= sizeof(address))
		return 0;
	memcpy(address, s + 1, n - 2);
	address[n - 2] = 0;
	if (strlen(address) != n - 2 || !strchr(address, ':') || addr_parse(address, &a) < 0)
		return 0;
	memcpy(to, s, n);
	return n;
}

/* Labels of letters, digits, "-", "_" and "~", with one dot between two of them. */
static size_t name(const char *s, size_t len, char *to)
{
	size_t n;

	for (n = 0; n < len && s[n] != ':'; n++) {
		if (n == HOST_MAX || !unreserved[(uint8_t)s[n]])
			return 0;
		if (s[n] == '.' && (!n || s[n - 1] == '.'))
			return 0;
		to[n] = s[n];
	}
	return n;
}

bool http_host(struct http_text authority, char to[256], struct http_text *ret_host, uint16_t *ret_port)
{
	const char *s = authority.at;
	size_t len = authority.len, n, i;

	if (!len)
		return false;
	n = s[0] == '[' ? literal(s, len, to) : name(s, len, to);
	*ret_port = 0;
	if (!n || (n < len && (s[n] != ':' || !port(s + n + 1, len - n - 1, ret_port))))
		return false;
	if (to[n - 1] == '.')
		n--;
	for (i = 0; i < n; i++)
		to[i] = (char)(to[i] + ((uint8_t)(to[i] - 'A') < 26) * ('a' - 'A'));
	*ret_host = (struct http_text){to, n};
	return true;
}
