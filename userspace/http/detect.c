/* SPDX-License-Identifier: Apache-2.0 */
/*
 * detect.c: what a client speaks, by its first bytes. Pure; asked again with more bytes where they do not tell.
 *
 * HTTP/1 is a whole request line up to " HTTP/": "GET key" is Redis and memcached too, "USER a b" FTP and IRC. Only a
 * line that is long already is believed by its beginning.
 */
#include <string.h>

#include "http.h"

#define METHOD_MAX 32
#define LINE_ENOUGH 2048 /* bytes of a method and a target that nobody but HTTP sends */

#define HELLO_MAX 32768	 /* bytes of a ClientHello */
#define HELLO_RECORDS 32 /* that it may be cut into */
#define RECORD_HEAD 5
#define RECORD_MAX 16384

/* ------------------------------------------------------------------ HTTP */

static bool is_token(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static enum http_spoken http1(const uint8_t *data, size_t len)
{
	static const char version[] = " HTTP/";
	size_t i = 0, method, target, n;

	/* RFC 9112 section 2.2: an empty line before it */
	if (len && data[0] == '\r') {
		if (len > 1 && data[1] != '\n')
			return HTTP_SPOKEN_OTHER;
		i = len > 1 ? 2 : 1;
	}
	for (method = i; i < len && is_token(data[i]); i++)
		if (i - method == METHOD_MAX)
			return HTTP_SPOKEN_OTHER;
	if (i == len)
		return HTTP_SPOKEN_UNKNOWN;
	if (data[i] != ' ' || i == method)
		return HTTP_SPOKEN_OTHER;
	for (target = ++i; i < len && data[i] > ' ' && data[i] != 0x7f;)
		i++;
	if (i == len)
		return i - target < LINE_ENOUGH ? HTTP_SPOKEN_UNKNOWN
		       : data[target] == '/'	? HTTP_SPOKEN_HTTP1
						: HTTP_SPOKEN_OTHER;
	if (i == target)
		return HTTP_SPOKEN_OTHER;
	n = len - i < sizeof(version) - 1 ? len - i : sizeof(version) - 1;
	if (memcmp(data + i, version, n))
		return HTTP_SPOKEN_OTHER;
	return n == sizeof(version) - 1 ? HTTP_SPOKEN_HTTP1 : HTTP_SPOKEN_UNKNOWN;
}

enum http_spoken http_detect(const uint8_t *data, size_t len)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	/* A record with a handshake of any version, a ClientHello in it; its length says nothing here. */
	static const struct {
		uint8_t least, most;
	} hello[] = {{22, 22}, {3, 3}, {0, 4}, {0, 64}, {0, 255}, {1, 1}};
	size_t n = len < sizeof(preface) - 1 ? len : sizeof(preface) - 1, i;

	if (!len)
		return HTTP_SPOKEN_UNKNOWN;
	if (!memcmp(data, preface, n))
		return n == sizeof(preface) - 1 ? HTTP_SPOKEN_HTTP2 : HTTP_SPOKEN_UNKNOWN;
	for (i = 0; i < len && i < array_size(hello); i++)
		if (data[i] < hello[i].least || data[i] > hello[i].most)
			break;
	if (i == array_size(hello))
		return HTTP_SPOKEN_TLS;
	if (i == len)
		return HTTP_SPOKEN_UNKNOWN;
	return http1(data, len);
}

/* ------------------------------------------------------------------ TLS */

/* The bytes of a handshake message, across the records that it is cut into. */
struct hello {
	const uint8_t *data;
	size_t at;     /* in data */
	size_t record; /* bytes left of the record */
	size_t left;   /* bytes left of what is read; checked by who reads */
};

/* Is all of it there, up to `need` bytes? 1 yes, 0 more, -1 it is none. In time of the number of records. */
static int complete(const uint8_t *data, size_t len, size_t need)
{
	size_t at = 0, have = 0;
	unsigned records;

	for (records = 0; have < need; records++) {
		size_t size;

		if (records == HELLO_RECORDS || (len > at && data[at] != 22) || (len > at + 1 && data[at + 1] != 3))
			return -1;
		if (len < at + RECORD_HEAD)
			return 0;
		size = (size_t)data[at + 3] << 8 | data[at + 4];
		if (!size || size > RECORD_MAX)
			return -1;
		at += RECORD_HEAD;
		have += size < len - at ? size : len - at;
		if (size > len - at && have < need)
			return 0;
		at += size;
	}
	return 1;
}

static uint8_t byte(struct hello *h)
{
	if (!h->record) {
		h->record = (size_t)h->data[h->at + 3] << 8 | h->data[h->at + 4];
		h->at += RECORD_HEAD;
	}
	h->record--;
	h->left--;
	return h->data[h->at++];
}

static bool number(struct hello *h, unsigned bytes, size_t *ret)
{
	*ret = 0;
	if (h->left < bytes)
		return false;
	while (bytes--)
		*ret = *ret << 8 | byte(h);
	return true;
}

static bool skip(struct hello *h, size_t len)
{
	if (h->left < len)
		return false;
	while (len--)
		byte(h);
	return true;
}

/* A vector whose length has so many bytes. */
static bool skip_vector(struct hello *h, unsigned bytes)
{
	size_t len;

	return number(h, bytes, &len) && skip(h, len);
}

/* RFC 6066 section 3: a list of names, of which only host_name was ever defined, and only one may be. */
static int server_name(struct hello *h, char name[256])
{
	size_t list, type, len, i;
	struct http_text host;
	char text[256];
	uint16_t port;

	if (!number(h, 2, &list) || !number(h, 1, &type) || !number(h, 2, &len) || type || list != len + 3)
		return -1;
	if (!len || len > 255 || h->left < len)
		return -1;
	for (i = 0; i < len; i++)
		text[i] = (char)byte(h);
	if (memchr(text, ':', len) || !http_host((struct http_text){text, len}, name, &host, &port))
		return -1;
	name[host.len] = 0;
	return (int)host.len;
}

int http_sni(const uint8_t *data, size_t len, char name[256])
{
	struct hello h = {.data = data, .left = 4};
	size_t type, size, extensions;
	int r = complete(data, len, 4);

	if (r <= 0)
		return r;
	if (!number(&h, 1, &type) || !number(&h, 3, &size) || type != 1 || size > HELLO_MAX)
		return -1;
	r = complete(data, len, 4 + size);
	if (r <= 0)
		return r;
	h.left = size;
	/* version, random; session id; cipher suites; compression methods */
	if (!skip(&h, 2 + 32) || !skip_vector(&h, 1) || !skip_vector(&h, 2) || !skip_vector(&h, 1))
		return -1;
	if (!number(&h, 2, &extensions) || extensions != h.left)
		return -1;
	while (number(&h, 2, &type)) {
		if (type == 0 && number(&h, 2, &size) && size <= h.left) {
			h.left = size;
			return server_name(&h, name);
		}
		if (type == 0 || !skip_vector(&h, 2))
			break;
	}
	return -1;
}
