/* SPDX-License-Identifier: Apache-2.0 */
/* head.c: the fields of a head: found, added, removed, copied. */
#include <string.h>
#include <strings.h>

#include "http.h"

bool http_text_equal(struct http_text a, struct http_text b)
{
	return a.len == b.len && (!a.len || !memcmp(a.at, b.at, a.len));
}

bool http_text_equal_nocase(struct http_text a, struct http_text b)
{
	return a.len == b.len && (!a.len || !strncasecmp(a.at, b.at, a.len)); /* no NUL in either */
}

struct http_text http_text_keep(struct arena *a, struct http_text t)
{
	return (struct http_text){arena_string(a, t.len ? t.at : "", t.len), t.len};
}

/* ------------------------------------------------------------------ fields */

static const struct http_field *from(const struct http_head *h, const struct http_field *after)
{
	return after ? after + 1 : h->field;
}

const struct http_field *http_field(const struct http_head *h, enum http_name id, const struct http_field *after)
{
	const struct http_field *f;

	for (f = from(h, after); f < h->field + h->fields; f++)
		if (f->id == id)
			return f;
	return NULL;
}

const struct http_field *http_field_named(const struct http_head *h, struct http_text name,
					  const struct http_field *after)
{
	const struct http_field *f;

	for (f = from(h, after); f < h->field + h->fields; f++)
		if (http_text_equal_nocase(f->name, name))
			return f;
	return NULL;
}

static struct http_field made(struct http_text name, struct http_text value)
{
	return (struct http_field){.name = name, .value = value, .id = http_name(name.at, name.len)};
}

bool http_field_add(struct http_head *h, struct http_text name, struct http_text value)
{
	if (h->fields >= h->room)
		return false;
	h->field[h->fields++] = made(name, value);
	return true;
}

void http_field_put(struct arena *a, struct http_head *h, struct http_text name, struct http_text value)
{
	struct http_field *more;
	unsigned room = 2 * h->room + 8;

	if (h->fields >= h->room) {
		more = arena_alloc(a, room * sizeof(*more));
		if (h->fields)
			memcpy(more, h->field, h->fields * sizeof(*more));
		h->field = more;
		h->room = room;
	}
	h->field[h->fields++] = made(name, value);
}

void http_field_remove(struct http_head *h, struct http_text name)
{
	unsigned i, kept = 0;

	for (i = 0; i < h->fields; i++) {
		if (http_text_equal_nocase(h->field[i].name, name))
			continue;
		if (kept != i)
			h->field[kept] = h->field[i];
		kept++;
	}
	h->fields = kept;
}

/* ------------------------------------------------------------------ copies */

static struct http_text keep(char **to, struct http_text t)
{
	struct http_text copy = {*to, t.len};

	if (t.len)
		memcpy(*to, t.at, t.len);
	*to += t.len;
	return copy;
}

static size_t text_bytes(const struct http_head *h)
{
	size_t all = h->method_text.len + h->scheme.len + h->authority.len + h->path.len + h->upgrade.len +
		     h->reason.len;
	unsigned i;

	for (i = 0; i < h->fields; i++)
		all += h->field[i].name.len + h->field[i].value.len;
	return all;
}

struct http_head *http_head_keep(struct arena *a, const struct http_head *h, unsigned more)
{
	struct http_head *copy = arena_alloc(a, sizeof(*copy));
	char *to = arena_alloc(a, text_bytes(h));
	unsigned i;

	*copy = *h;
	copy->method_text = keep(&to, h->method_text);
	copy->scheme = keep(&to, h->scheme);
	copy->authority = keep(&to, h->authority);
	copy->path = keep(&to, h->path);
	copy->upgrade = keep(&to, h->upgrade);
	copy->reason = keep(&to, h->reason);
	copy->room = h->fields + more;
	copy->field = arena_alloc(a, copy->room * sizeof(*copy->field));
	for (i = 0; i < h->fields; i++) {
		copy->field[i] = h->field[i];
		copy->field[i].name = keep(&to, h->field[i].name);
		copy->field[i].value = keep(&to, h->field[i].value);
	}
	return copy;
}

/* ------------------------------------------------------------------ gRPC */

/* "application/grpc", then nothing, "+proto", or parameters; "application/grpc-web" is another protocol. */
bool http_is_grpc(const struct http_head *h)
{
	static const struct http_text want = HTTP_TEXT("application/grpc");
	const struct http_field *f = http_field(h, HTTP_NAME_CONTENT_TYPE, NULL);
	struct http_text v;

	if (!f || f->value.len < want.len)
		return false;
	v = f->value;
	if (!http_text_equal_nocase((struct http_text){v.at, want.len}, want))
		return false;
	return v.len == want.len || v.at[want.len] == '+' || v.at[want.len] == ';' || v.at[want.len] == ' ';
}
