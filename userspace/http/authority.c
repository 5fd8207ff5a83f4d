/* SPDX-License-Identifier: Apache-2.0 */
/* authority.c: the texts of a CONNECT that name an end: `:authority` (RFC 9113 section 8.5), `forwarded` (RFC 7239). */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "hbone.h"

#define PORT_DIGITS 5

/* All of s: a port, written as anybody would. */
static int parse_port(const char *s, uint16_t *ret)
{
	unsigned n = 0, digits;

	for (digits = 0; s[digits]; digits++) {
		if (s[digits] < '0' || s[digits] > '9' || digits == PORT_DIGITS)
			return -EINVAL;
		n = n * 10 + (unsigned)(s[digits] - '0');
	}
	if (!n || n > UINT16_MAX || *s == '0')
		return -EINVAL;
	*ret = (uint16_t)n;
	return 0;
}

/* "10.0.0.1", "[fd00::1]" at s; *ret_end is behind it. */
static int parse_host(const char *s, struct abi_addr *ret, const char **ret_end)
{
	bool v6 = *s == '[';
	const char *end = s + strcspn(s, v6 ? "]" : ":");
	char text[ADDR_TEXT];
	size_t len;

	s += v6;
	if (v6 && *end != ']')
		return -EINVAL;
	len = (size_t)(end - s);
	if (len >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = 0;
	if (v6 != !!strchr(text, ':')) /* the brackets are of IPv6 and of nothing else */
		return -EINVAL;
	*ret_end = end + v6;
	return addr_parse(text, ret);
}

int authority_parse(const char *s, struct abi_addr *ret, uint16_t *ret_port)
{
	struct abi_addr a;
	const char *end;
	uint16_t port;

	if (!s || parse_host(s, &a, &end) < 0 || *end != ':' || parse_port(end + 1, &port) < 0)
		return -EINVAL;
	*ret = a;
	*ret_port = port;
	return 0;
}

const char *authority_text(const struct abi_addr *a, uint16_t port, char buf[ADDR_PORT_TEXT])
{
	return addr_port_text(a, port, buf);
}

bool forwarded_text(const struct abi_addr *from, uint16_t port, const char *host, char *buf, size_t size)
{
	char text[ADDR_PORT_TEXT];
	bool named = host && *host;
	int n;

	n = snprintf(buf, size, "for=\"%s\"%s%s", addr_port_text(from, port, text), named ? ";host=" : "",
		     named ? host : "");
	return n >= 0 && (size_t)n < size;
}

/*
 * A value at s: a token or a quoted string (RFC 9110 section 5.6). Unquoted into buf; where it is longer it is no
 * address. Returns what is behind it, or NULL: it does not end.
 */
static const char *parse_value(const char *s, char *buf, size_t size, bool *ret_fits)
{
	bool quoted = *s == '"';
	size_t len = 0;

	s += quoted;
	while (*s && (quoted ? *s != '"' : !strchr(";, \t", *s))) {
		if (quoted && *s == '\\' && !*++s)
			return NULL;
		if (len + 1 < size)
			buf[len] = *s;
		len++;
		s++;
	}
	if (quoted && *s++ != '"')
		return NULL;
	*ret_fits = len + 1 < size;
	buf[*ret_fits ? len : 0] = 0;
	return s;
}

int forwarded_parse(const char *s, struct abi_addr *ret, uint16_t *ret_port)
{
	while (s && *s && *s != ',') { /* the first element: who asked first */
		char value[ADDR_PORT_TEXT];
		size_t name;
		bool fits;

		s += strspn(s, "; \t");
		name = strcspn(s, "=;, \t");
		if (s[name] != '=')
			return -EINVAL;
		if (name == 3 && !strncasecmp(s, "for", 3)) {
			if (!parse_value(s + name + 1, value, sizeof(value), &fits) || !fits)
				return -EINVAL;
			return authority_parse(value, ret, ret_port);
		}
		s = parse_value(s + name + 1, value, sizeof(value), &fits);
	}
	return -EINVAL;
}
