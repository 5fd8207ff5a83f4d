/* SPDX-License-Identifier: Apache-2.0 */
/* field.c: typed reading of fields. */
#include <ctype.h>
#include <string.h>

#include "field.h"

#define REPORTS 16 /* errors of one object, and warnings as well: an error is never hidden by warnings */
#define PAIRS 1024 /* of one map of labels or annotations */

/* ------------------------------------------------------------------ messages */

static void path(const struct field *f, char *to, size_t size)
{
	const struct field *chain[DOC_MAX_DEPTH];
	size_t n = 0, len = 0;

	for (; f && f->up && n < array_size(chain); f = f->up)
		chain[n++] = f;
	to[0] = 0;
	while (n-- && len < size) {
		const struct field *c = chain[n];

		if (!c->key)
			len += (size_t)snprintf(to + len, size - len, "[%u]", c->index);
		else if (strpbrk(c->key, "./[]"))
			len += (size_t)snprintf(to + len, size - len, "[\"%s\"]", c->key);
		else
			len += (size_t)snprintf(to + len, size - len, "%s%s", len ? "." : "", c->key);
	}
}

static void report(const struct field *f, bool warning, const char *fmt, va_list ap)
{
	const struct field *at = f;
	struct decode *d = f->d;
	struct problem p = {.warning = warning};

	if ((warning ? d->warned++ : d->reports++) >= REPORTS)
		return;
	while (!at->doc && at->up)
		at = at->up;
	p.line = at->doc ? at->doc->line : d->line;
	text_copy(p.file, sizeof(p.file), d->file);
	text_copy(p.object, sizeof(p.object), d->title);
	path(f, p.field, sizeof(p.field));
	vsnprintf(p.reason, sizeof(p.reason), fmt, ap);
	d->sink->report(d->sink, &p);
}

void field_error(const struct field *f, const char *fmt, ...)
{
	va_list ap;

	f->d->errors++;
	va_start(ap, fmt);
	report(f, false, fmt, ap);
	va_end(ap);
}

void field_warning(const struct field *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(f, true, fmt, ap);
	va_end(ap);
}

static const char *kind_text(const struct doc *doc)
{
	switch (doc->kind) {
	case DOC_NULL:
		return "null";
	case DOC_BOOL:
		return "a boolean";
	case DOC_NUMBER:
		return "a number";
	case DOC_STRING:
		return "text";
	case DOC_LIST:
		return "a list";
	case DOC_MAP:
		return "a map";
	}
	return "?";
}

static void wrong_type(const struct field *f, const char *wanted)
{
	if (f->doc->text && f->doc->kind != DOC_STRING && !strcmp(wanted, "text"))
		field_error(f, "must be text, but %.40s is %s: write it in quotes", f->doc->text,
			    kind_text(f->doc));
	else
		field_error(f, "must be %s, not %s", wanted, kind_text(f->doc));
}

/* ------------------------------------------------------------------ places */

struct field field_get(const struct field *map, const char *key)
{
	return (struct field){.d = map->d, .doc = doc_get(map->doc, key), .up = map, .key = key};
}

bool field_given(const struct field *f)
{
	return f->doc && f->doc->kind != DOC_NULL;
}

static bool is(const struct field *f, enum doc_kind kind, const char *wanted)
{
	if (!field_given(f))
		return false;
	if (f->doc->kind == kind)
		return true;
	wrong_type(f, wanted);
	return false;
}

bool field_is_map(const struct field *f)
{
	return is(f, DOC_MAP, "a map");
}

static struct field first(const struct field *f, enum doc_kind kind, const char *wanted)
{
	struct field i = {.d = f->d, .up = f};

	if (is(f, kind, wanted))
		i.doc = f->doc->child;
	i.key = i.doc ? i.doc->key : NULL;
	return i;
}

struct field field_first_item(const struct field *list)
{
	return first(list, DOC_LIST, "a list");
}

struct field field_first_key(const struct field *map)
{
	return first(map, DOC_MAP, "a map");
}

void field_next(struct field *i)
{
	i->doc = i->doc->next;
	i->key = i->doc ? i->doc->key : NULL;
	i->index++;
}

unsigned field_count(const struct field *list)
{
	unsigned n = 0;

	if (list->doc)
		for (const struct doc *c = list->doc->child; c; c = c->next)
			n++;
	return n;
}

bool field_at_most(const struct field *list, unsigned max)
{
	unsigned n = field_count(list);

	if (n > max)
		field_error(list, "has %u items; weft takes at most %u", n, max);
	return n <= max;
}

static bool listed(const char *key, const char *const *names, size_t count)
{
	size_t n = 0;

	while (n < count && strcmp(key, names[n]))
		n++;
	return n < count;
}

void field_only(const struct field *map, const char *const *names, size_t count)
{
	for (struct field i = field_first_key(map); i.doc; field_next(&i))
		if (!listed(i.key, names, count))
			field_error(&i, "weft does not know this field; it could widen or narrow the policy");
}

void field_known(const struct field *map, const char *const *names, size_t count)
{
	for (struct field i = field_first_key(map); i.doc; field_next(&i))
		if (!listed(i.key, names, count))
			field_warning(&i, "weft does not know this field: ignored");
}

void field_unsupported(const struct field *map, const char *key, const char *why)
{
	struct field f = field_get(map, key);

	if (field_given(&f))
		field_error(&f, "is not supported: %s", why);
}

/* ------------------------------------------------------------------ values */

const char *field_text(const struct field *f)
{
	return is(f, DOC_STRING, "text") ? f->doc->text : NULL;
}

const char *field_string(const struct field *f)
{
	const char *s = field_text(f);

	return s ? arena_string(&f->d->object->arena, s, strlen(s)) : NULL;
}

bool field_bool(const struct field *f, bool absent)
{
	if (!is(f, DOC_BOOL, "true or false"))
		return absent;
	return strchr("tTyY", f->doc->text[0]) || !strcasecmp(f->doc->text, "on");
}

bool field_number(const struct field *f, long long min, long long max, long long *ret)
{
	if (!is(f, DOC_NUMBER, "a number"))
		return false;
	/* A leading zero is octal for kubectl and decimal for people. */
	if ((f->doc->text[0] == '0' && f->doc->text[1]) || text_number(f->doc->text, min, max, ret)) {
		field_error(f, "must be a whole number from %lld to %lld, not %.40s", min, max,
			    f->doc->text);
		return false;
	}
	return true;
}

/* GEP-2257: up to four numbers of at most five digits, each with h, m, s or ms. */
bool field_duration(const struct field *f, uint64_t *ret_ns)
{
	const char *s = field_text(f), *at = s;
	uint64_t sum = 0;

	if (!s)
		return false;
	for (unsigned parts = 0; *at && parts < 4; parts++) {
		uint64_t n = 0, unit;
		unsigned digits = 0;

		for (; isdigit((unsigned char)*at); at++, digits++)
			n = digits < 5 ? 10 * n + (uint64_t)(*at - '0') : n;
		unit = at[0] == 'm' && at[1] == 's' ? 1 : at[0] == 's' ? 1000 : at[0] == 'm' ? 60000 :
		       at[0] == 'h' ? 3600000 : 0;
		if (!digits || digits > 5 || !unit)
			break;
		at += unit == 1 ? 2 : 1;
		sum += n * unit;
	}
	if (*at || at == s) {
		field_error(f, "must be a duration like 10s, 1m30s or 250ms (GEP-2257), not \"%.40s\"", s);
		return false;
	}
	*ret_ns = sum * 1000000;
	return true;
}

bool field_address(const struct field *f, struct abi_addr *ret)
{
	const char *s = field_text(f);

	if (!s)
		return false;
	if (!addr_parse(s, ret))
		return true;
	field_error(f, "\"%.60s\" is not an IP address", s);
	return false;
}

void *field_alloc(const struct field *f, size_t count, size_t size)
{
	/* Both come from the counts of a parsed document: no overflow. */
	return arena_alloc(&f->d->object->arena, count * size);
}

void field_pairs(const struct field *f, struct pairs *ret)
{
	unsigned n = 0;

	if (!field_is_map(f) || !f->doc->child || !field_at_most(f, PAIRS))
		return;
	ret->item = field_alloc(f, field_count(f), sizeof(*ret->item));
	for (struct field i = field_first_key(f); i.doc; field_next(&i)) {
		const char *value = i.doc->kind == DOC_NULL ? "" : field_string(&i);

		if (!value)
			continue;
		ret->item[n].key = arena_string(&f->d->object->arena, i.key, strlen(i.key));
		ret->item[n++].value = value;
	}
	ret->count = n;
}
