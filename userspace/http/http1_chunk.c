/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_chunk.c: the frames of a chunked body, RFC 9112 section 7.1.
 *
 * Frames cost us more than data does: each byte of them is looked at. Data pays for FRAMES_PER_DATA of it, and
 * FRAMES_FREE are free; who goes on with chunks of one byte, or with extensions, is refused. Extensions are read over,
 * never passed on.
 */
#include "http1_parts.h"

#define FRAMES_FREE (128u << 10)
#define FRAMES_PER_DATA 4
#define DIGITS 16

static int hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static ssize_t bad(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -1;
}

/* The line has ended: how much data it announced. */
static void begin_data(struct http1_chunk *c)
{
	c->digits = 0;
	c->state = c->left ? CHUNK_DATA : CHUNK_TRAILERS;
}

static bool eat_digit(struct http1_chunk *c, uint8_t byte)
{
	int digit = hex(byte);

	if (digit < 0 || c->digits == DIGITS)
		return false;
	c->digits++;
	c->left = c->left << 4 | (unsigned)digit;
	return c->left <= INT64_MAX;
}

/* One byte of a frame; NULL: good. */
static const char *eat(struct http1_chunk *c, uint8_t byte)
{
	switch ((enum http1_chunk_state)c->state) {
	case CHUNK_SIZE:
		if (hex(byte) >= 0)
			return eat_digit(c, byte) ? NULL : "http1: the size of a chunk is too large";
		if (!c->digits)
			return "http1: a chunk without a size";
		/* fall through */
	case CHUNK_SPACE: /* RFC 9112 section 7.1.1: blanks only where an extension follows */
		if (byte == ';')
			c->state = CHUNK_EXTENSION;
		else if (byte == ' ' || byte == '\t')
			c->state = CHUNK_SPACE;
		else if (byte == '\r' && c->state == CHUNK_SIZE)
			c->state = CHUNK_SIZE_LF;
		else
			return "http1: something behind the size of a chunk";
		return NULL;
	case CHUNK_EXTENSION:
		if (byte == '\r')
			c->state = CHUNK_SIZE_LF;
		else if ((byte < ' ' && byte != '\t') || byte == 0x7f)
			return "http1: a control character in an extension of a chunk";
		return NULL;
	case CHUNK_SIZE_LF:
	case CHUNK_DATA_LF:
		if (byte != '\n')
			return "http1: a CR that does not end a line";
		if (c->state == CHUNK_SIZE_LF)
			begin_data(c);
		else
			c->state = CHUNK_SIZE;
		return NULL;
	case CHUNK_DATA_CR:
		if (byte != '\r')
			return "http1: a chunk is longer than it said";
		c->state = CHUNK_DATA_LF;
		return NULL;
	case CHUNK_DATA:
	case CHUNK_TRAILERS:
		break;
	}
	return "http1: no frame of a chunk";
}

ssize_t http1_chunk_frame(struct http1_chunk *c, const uint8_t *data, size_t len, const char **ret_why)
{
	struct http1_chunk next = *c;
	size_t at;

	for (at = 0; at < len && next.state != CHUNK_DATA && next.state != CHUNK_TRAILERS; at++) {
		const char *why = eat(&next, data[at]);

		if (why)
			return bad(ret_why, why);
		if (++next.paid > FRAMES_FREE)
			return bad(ret_why, "http1: chunks of too little data");
	}
	*c = next;
	return (ssize_t)at;
}

void http1_chunk_data(struct http1_chunk *c, uint64_t len)
{
	uint64_t pays = len > FRAMES_FREE ? FRAMES_FREE : len * FRAMES_PER_DATA;

	c->paid -= pays < c->paid ? pays : c->paid;
	c->left -= len;
	if (!c->left)
		c->state = CHUNK_DATA_CR;
}

size_t http1_chunk_head(uint64_t len, uint8_t to[HTTP1_CHUNK_HEAD])
{
	unsigned digits = (64 - (unsigned)__builtin_clzll(len) + 3) / 4;

	(void)text_hex((char *)to, len, digits);
	to[digits] = '\r';
	to[digits + 1] = '\n';
	return digits + 2;
}
