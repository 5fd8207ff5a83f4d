/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads. The first byte says which: a request, an answer to one of several requests, trailers. A beginning of a good
 * head is never refused nor taken; a good head, written by us, is read as the same.
 */
#include <stdlib.h>
#include <string.h>

#include "../../userspace/http/http1_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct http1_limit limit = {.head_bytes = 6000, .line_bytes = 1000, .fields = 50};
static struct http1_asked asked;
static unsigned kind;

static void must(bool law)
{
	if (!law)
		abort();
}

static int parse(const char *data, size_t len, struct http_field *field, struct http1_head *ret)
{
	ret->h.field = field;
	ret->h.room = HTTP1_FIELDS;
	if (kind == 0)
		return http1_parse_request(data, len, &limit, ret);
	if (kind == 1)
		return http1_parse_answer(data, len, &limit, &asked, ret);
	return http1_parse_trailers(data, len, &limit, ret);
}

/* From memory that ends where the bytes end. */
static int parse_copy(const uint8_t *data, size_t len)
{
	struct http_field field[HTTP1_FIELDS];
	struct http1_head head;
	char *copy = mem_alloc(len);
	int r;

	if (len)
		memcpy(copy, data, len);
	r = parse(copy, len, field, &head);
	must(r <= (int)len && (r >= 0 || (head.why && head.status >= 400)));
	free(copy);
	return r;
}

static void same_fields(const struct http_head *a, const struct http_head *b)
{
	must(a->fields == b->fields);
	for (unsigned i = 0; i < a->fields; i++)
		must(http_text_equal(a->field[i].name, b->field[i].name) &&
		     http_text_equal(a->field[i].value, b->field[i].value));
}

static void clean(struct http_text t)
{
	must(!t.len || (!memchr(t.at, 0, t.len) && !memchr(t.at, '\r', t.len) && !memchr(t.at, '\n', t.len)));
}

static void written_and_read(const struct http1_head *head)
{
	struct http_field field[HTTP1_FIELDS];
	const struct http_head *h = &head->h;
	struct http1_plan p = {.framing = FRAME_NONE, .trailers = h->trailers, .length = h->length};
	struct http1_head again;
	char *to = mem_alloc(http1_head_size(h) + h->upgrade.len);
	size_t len;
	int r;

	if (h->body == HTTP_LENGTH)
		p.framing = FRAME_LENGTH;
	if (h->body == HTTP_STREAM)
		p.framing = head->chunked ? FRAME_CHUNKED : FRAME_TO_END;
	if (h->body == HTTP_TUNNEL)
		p.framing = FRAME_TUNNEL, p.upgrade = h->upgrade;
	p.say_length = h->has_length;
	p.close = h->body != HTTP_TUNNEL && !head->keep;
	len = kind ? http1_write_answer(h, &p, to) : http1_write_request(h, &p, to);
	must(len <= http1_head_size(h) + h->upgrade.len);
	r = parse(to, len, field, &again);
	if (r < 0 && again.status != 400 && again.status != 502) { /* it has grown above a limit */
		free(to);
		return;
	}
	must(r == (int)len);
	must(again.h.body == h->body && again.h.length == h->length && again.h.status == h->status);
	must(http_text_equal(again.h.method_text, h->method_text) && http_text_equal(again.h.path, h->path));
	must(http_text_equal(again.h.authority, h->authority) && http_text_equal(again.h.upgrade, h->upgrade));
	same_fields(&again.h, h);
	free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct http_field field[HTTP1_FIELDS];
	struct http1_head head;
	size_t i, step;
	int whole;

	if (!len)
		return 0;
	kind = *data % 3;
	asked = (struct http1_asked){.upgrade = *data & 32};
	asked.method = *data & 64 ? HTTP_HEAD : *data & 128 ? HTTP_CONNECT : HTTP_GET;
	data++;
	len--;
	whole = parse((const char *)data, len, field, &head);
	step = 1 + len / 400;
	for (i = 0; i < len; i += step) {
		int r = parse_copy(data, i);

		must(whole > 0 && i < (size_t)whole ? !r : whole > 0 ? r == whole : r <= 0);
	}
	if (whole <= 0)
		return 0;
	must(parse_copy(data, (size_t)whole) == whole);
	clean(head.h.path);
	clean(head.h.authority);
	clean(head.h.reason);
	for (i = 0; i < head.h.fields; i++) {
		clean(head.h.field[i].name);
		clean(head.h.field[i].value);
		must(head.h.field[i].id != HTTP_NAME_TRANSFER_ENCODING &&
		     head.h.field[i].id != HTTP_NAME_CONTENT_LENGTH && head.h.field[i].id != HTTP_NAME_CONNECTION);
	}
	/* Written anew an HTTP/1.0 head would be one of 1.1, with what only that has. */
	if (kind < 2 && head.h.version == HTTP_1_1)
		written_and_read(&head);
	return 0;
}
