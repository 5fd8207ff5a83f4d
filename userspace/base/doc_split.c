/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doc_split.c: where the documents of a stream, and the items of a List, begin and end.
 *
 * Only as much of the syntax is looked at as that needs; whether a part is well formed is doc_parse's business.
 */
#include <stdlib.h>
#include <string.h>

#include "doc.h"

/* ------------------------------------------------------------------ documents of a stream */

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool marker(const char *line, const char *end, char c)
{
	return end - line >= 3 && line[0] == c && line[1] == c && line[2] == c &&
	       (end - line == 3 || blank(line[3]));
}

bool doc_starts(const char *line, const char *end)
{
	return marker(line, end, '-');
}

/* Is there anything but blank lines, comments, directives and end markers in these lines? */
static bool has_content(const char *at, const char *end)
{
	while (at < end) {
		const char *eol = memchr(at, '\n', (size_t)(end - at));
		const char *stop = eol ? eol : end, *p = at;

		while (p < stop && blank(*p))
			p++;
		if (p < stop && *p != '#' && !(p == at && (*p == '%' || marker(at, end, '.'))))
			return true;
		at = stop + 1;
	}
	return false;
}

#define BLOCK 64

/*
 * The next line that starts with --- or ..., or NULL. Most of a large stream is neither, so whole blocks are looked
 * at without a branch first: the compiler makes vector code of that, three times as fast as going by lines.
 */
static const char *next_marker(const char *at, const char *end)
{
	while (end - at >= BLOCK + 3) {
		unsigned char hit = 0;

		for (unsigned i = 0; i < BLOCK; i++)
			hit |= (at[i] == '\n') & ((at[i + 1] == '-') | (at[i + 1] == '.')) &
			       (at[i + 2] == at[i + 1]) & (at[i + 3] == at[i + 1]);
		for (unsigned i = 0; hit && i < BLOCK; i++)
			if (at[i] == '\n' && (marker(at + i + 1, end, '-') || marker(at + i + 1, end, '.')))
				return at + i + 1;
		at += BLOCK;
	}
	while ((at = memchr(at, '\n', (size_t)(end - at))) && ++at < end)
		if (marker(at, end, '-') || marker(at, end, '.'))
			return at;
	return NULL;
}

static size_t split_yaml(const char *bytes, size_t len)
{
	const char *end = bytes + len, *at = bytes, *looked = bytes;
	bool started = marker(bytes, end, '-');

	while ((at = next_marker(at, end))) {
		bool content = started || has_content(looked, at);

		looked = at;
		if (*at == '-') {
			if (content)
				return (size_t)(at - bytes);
			started = true;
		} else if (content) {
			const char *eol = memchr(at, '\n', (size_t)(end - at));

			/* What follows is a document without a marker, or the directives of the next. */
			return eol ? (size_t)(eol + 1 - bytes) : len;
		}
	}
	return len;
}

static const char *skip_blanks(const char *at, const char *end)
{
	while (at < end && blank(*at))
		at++;
	return at;
}

static const char *skip_string(const char *at, const char *end)
{
	for (at++; at < end && *at != '"'; at++)
		at += *at == '\\' && at + 1 < end;
	return at < end ? at + 1 : end;
}

/* Behind the list or map that starts here; `end` if it does not end. */
static const char *skip_brackets(const char *at, const char *end)
{
	size_t depth = 0;

	while (at < end) {
		char c = *at;

		if (c == '"') {
			at = skip_string(at, end);
			continue;
		}
		at++;
		if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && --depth == 0)
			break;
	}
	return at;
}

static size_t split_json(const char *bytes, size_t len)
{
	const char *end = bytes + len, *at = skip_blanks(bytes, end);

	if (at == end || (*at != '{' && *at != '['))
		return len;
	at = skip_brackets(at, end);
	return skip_blanks(at, end) == end ? len : (size_t)(at - bytes);
}

size_t doc_split(const char *bytes, size_t len, bool json)
{
	if (!len)
		return 0;
	return json ? split_json(bytes, len) : split_yaml(bytes, len);
}

/* ------------------------------------------------------------------ items of a List */

struct parts {
	struct doc_part *part;
	unsigned count, size;
	const char *begin, *end; /* of all items, in the document */
};

static void add_part(struct parts *p, const char *bytes, const char *from, const char *to)
{
	if (p->count == p->size) {
		p->size = p->size ? 2 * p->size : 64;
		p->part = mem_grow(p->part, p->size, sizeof(*p->part));
	}
	p->part[p->count++] = (struct doc_part){.at = (size_t)(from - bytes), .len = (size_t)(to - from)};
}

static const char *next_line(const char *at, const char *end)
{
	const char *eol = memchr(at, '\n', (size_t)(end - at));

	return eol ? eol + 1 : end;
}

static bool has_anchor(const char *at, const char *end)
{
	for (; (at = memchr(at, '&', (size_t)(end - at))); at++)
		if (at + 1 < end && !blank(at[1]) && (blank(at[-1]) || strchr("[{,", at[-1])))
			return true;
	return false;
}

/* Spaces in front of what stands in this line; `end` is behind it. *ret_blank: nothing does, or a comment. */
static size_t indent_of(const char *line, const char *end, bool *ret_blank)
{
	size_t in = 0;

	while (line + in < end && line[in] == ' ')
		in++;
	*ret_blank = skip_blanks(line + in, end) == end || line[in] == '#';
	return in;
}

bool doc_item_starts(const char *line, const char *end, size_t dash)
{
	for (size_t i = 0; i < dash; i++)
		if (line + i >= end || line[i] != ' ')
			return false;
	return end - line > (ptrdiff_t)dash + 1 && line[dash] == '-' && blank(line[dash + 1]);
}

/* Behind the item that starts at `at`: at the first line that is not further in than its dash. */
static const char *skip_item(const char *at, const char *end, size_t dash)
{
	const char *next = next_line(at, end);
	bool empty;

	for (at = next; at < end; at = next) {
		next = next_line(at, end);
		if (indent_of(at, next, &empty) <= dash && !empty)
			break;
	}
	return at;
}

size_t doc_item(const char *at, const char *end, size_t dash)
{
	const char *behind;

	if (!doc_item_starts(at, end, dash))
		return 0;
	behind = skip_item(at, end, dash);
	return has_anchor(at, behind) ? 0 : (size_t)(behind - at);
}

/*
 * "items:" at the start of a line, then lines that start with the same number of spaces and "- ", each followed by
 * lines that are further in; then the end, or a key of the List. Anything else is left to doc_parse.
 */
static bool yaml_items(const char *bytes, const char *end, struct parts *p)
{
	const char *at = bytes, *next;
	bool empty = true;
	size_t dash = 0;

	while (at < end && !(end - at > 6 && !memcmp(at, "items:", 6)))
		at = next_line(at, end);
	if (at == end || skip_blanks(at + 6, next_line(at, end)) != next_line(at, end))
		return false;
	p->begin = next_line(at, end);
	if (has_anchor(p->begin, end))
		return false; /* one item may show another */
	for (next = p->begin; empty && next < end;) {
		at = next;
		next = next_line(at, end);
		dash = indent_of(at, next, &empty);
	}
	while (!empty && doc_item_starts(at, end, dash)) {
		next = skip_item(at, end, dash);
		add_part(p, bytes, at, next);
		at = next;
	}
	p->end = at;
	/* A key behind the items is where the List's are, not somewhere in between. */
	return p->count && (at == end || !indent_of(at, next_line(at, end), &empty));
}

static bool json_items(const char *bytes, const char *end, struct parts *p)
{
	const char *at = skip_blanks(bytes, end), *key;
	size_t len;

	if (at == end || *at++ != '{')
		return false;
	for (;;) {
		key = at = skip_blanks(at, end);
		if (at == end || *at != '"')
			return false;
		at = skip_string(at, end);
		len = (size_t)(at - key);
		at = skip_blanks(at, end);
		if (at == end || *at++ != ':')
			return false;
		at = skip_blanks(at, end);
		if (len == 7 && !memcmp(key, "\"items\"", 7))
			break;
		if (at == end)
			return false;
		if (*at == '"')
			at = skip_string(at, end);
		else if (*at == '{' || *at == '[')
			at = skip_brackets(at, end);
		else
			while (at < end && *at != ',')
				at++;
		at = skip_blanks(at, end);
		if (at == end || *at++ != ',')
			return false;
	}
	if (at == end || *at++ != '[')
		return false;
	p->begin = at;
	do {
		const char *item = skip_blanks(at, end);

		if (item == end || *item != '{')
			return false;
		at = skip_brackets(item, end);
		add_part(p, bytes, item, at);
		at = skip_blanks(at, end);
	} while (at < end && *at++ == ',');
	p->end = at - 1;
	return at < end && at[-1] == ']';
}

/* What is left without the items is a List that has none. */
static bool is_list(const char *bytes, const char *end, const struct parts *p, bool json)
{
	struct arena a = {0};
	struct doc_error error;
	struct text frame = {0};
	struct doc *d;
	bool list = false;

	text_add_bytes(&frame, bytes, (size_t)(p->begin - bytes));
	text_add_bytes(&frame, p->end, (size_t)(end - p->end));
	if (!doc_parse(&a, frame.data, frame.len, json, 1, &d, &error)) {
		const struct doc *kind = doc_get(d, "kind"), *items = doc_get(d, "items");

		list = kind && kind->kind == DOC_STRING && !strcmp(kind->text, "List") && items && !items->child &&
		       items->kind == (json ? DOC_LIST : DOC_NULL); /* what follows is no part of the last item */
	}
	text_free(&frame);
	arena_free(&a);
	return list;
}

struct doc_part *doc_split_list(const char *bytes, size_t len, bool json, unsigned *ret_count)
{
	const char *end = bytes + len;
	struct parts p = {0};

	*ret_count = 0;
	if ((json ? json_items(bytes, end, &p) : yaml_items(bytes, end, &p)) && is_list(bytes, end, &p, json)) {
		*ret_count = p.count;
		return p.part;
	}
	free(p.part);
	return NULL;
}
