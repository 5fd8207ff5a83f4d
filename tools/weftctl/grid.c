// SPDX-License-Identifier: Apache-2.0
/* grid.c: see grid.h */
#include "grid.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define GAP 2
#define CUT_LEAST 8 /* a column is not cut below this */

void grid_open(struct grid *g, const struct grid_column *column, unsigned columns)
{
	*g = (struct grid){.column = column, .columns = columns};
}

/* What turns the direction of text around, or is not seen: one name would look like another. */
static bool deceives(uint32_t code)
{
	static const struct {
		uint32_t first, last;
	} table[] = {{0x061c, 0x061c}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff},
		     {0xe0000, 0xe007f}};

	for (size_t i = 0; i < array_size(table); i++)
		if (code >= table[i].first && code <= table[i].last)
			return true;
	return false;
}

/* Of a character of n bytes. */
static uint32_t code_of(const char *s, size_t n)
{
	uint32_t code = (unsigned char)s[0] & (n == 1 ? 0x7f : 0x7f >> n);

	for (size_t i = 1; i < n; i++)
		code = code << 6 | (s[i] & 0x3f);
	return code;
}

/* Bytes of the character at s, 0 if it is none that a terminal should see: it obeys C1 controls, too. */
static size_t visible(const char *s)
{
	size_t n = text_utf8(s);
	uint32_t code = n ? code_of(s, n) : 0;

	return code < 0x20 || (code >= 0x7f && code < 0xa0) || deceives(code) ? 0 : n;
}

char *grid_safe(const char *s)
{
	char *copy = mem_string(s), *p = copy;

	while (*p) {
		size_t n = visible(p);

		if (!n) {
			*p = '?';
			n = 1;
		}
		p += n;
	}
	return copy;
}

/* The character at s: its bytes, and the columns it takes: none for an accent, two for an ideograph. */
static size_t character(const char *s, unsigned *ret_columns)
{
	size_t n = visible(s);
	int columns = n > 1 ? wcwidth((wchar_t)code_of(s, n)) : 1;

	*ret_columns = columns < 0 ? 1 : (unsigned)columns; /* the locale does not know it */
	return n ? n : 1;
}

unsigned grid_columns_of(const char *s)
{
	unsigned n = 0, columns;

	while (*s) {
		s += character(s, &columns);
		n += columns;
	}
	return n;
}

void grid_add(struct grid *g, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vformat(fmt, ap);
	va_end(ap);
	if (g->cells == g->size) {
		g->size = g->size ? g->size * 2 : 64;
		g->cell = mem_grow(g->cell, g->size, sizeof(*g->cell));
	}
	g->cell[g->cells++] = grid_safe(text);
	free(text);
}

/* Take from the widest column that may be cut, until the line fits or nothing can give any more. */
static void squeeze(const struct grid *g, unsigned *width, unsigned limit)
{
	unsigned total = GAP * (g->columns - 1);

	for (unsigned i = 0; i < g->columns; i++)
		total += width[i];
	while (total > limit) {
		unsigned widest = g->columns;

		for (unsigned i = 0; i < g->columns; i++)
			if (g->column[i].kind == GRID_CUT && width[i] > CUT_LEAST &&
			    (widest == g->columns || width[i] > width[widest]))
				widest = i;
		if (widest == g->columns)
			return;
		width[widest]--;
		total--;
	}
}

/* Bytes of what fits into the first `columns` columns of s; *ret_left of them stay empty, before a wide one. */
static int bytes_of(const char *s, unsigned columns, unsigned *ret_left)
{
	const char *p = s;

	while (*p) {
		unsigned takes;
		size_t n = character(p, &takes);

		if (takes > columns)
			break;
		columns -= takes;
		p += n;
	}
	*ret_left = columns;
	return (int)(p - s);
}

/* Spaces are owed until something follows: lines do not end in them. */
static void print_cell(const struct ctl *c, const char *s, unsigned width, enum grid_kind kind, unsigned *owed)
{
	unsigned len = grid_columns_of(s);
	unsigned pad = len < width ? width - len : 0;

	if (kind == GRID_RIGHT)
		*owed += pad;
	if (*s) {
		fprintf(c->out, "%*s", (int)*owed, "");
		*owed = 0;
	}
	if (len > width) {
		int bytes = bytes_of(s, width - 1, &pad);

		fprintf(c->out, "%.*s%s", bytes, s, c->utf8 ? "\u2026" : "~");
	} else {
		fputs(s, c->out);
	}
	*owed += (kind == GRID_RIGHT ? 0 : pad) + GAP;
}

static void print_row(const struct grid *g, const struct ctl *c, char *const *cell, const unsigned *width)
{
	unsigned owed = 0;

	for (unsigned i = 0; i < g->columns; i++)
		print_cell(c, cell ? cell[i] : g->column[i].title, width[i], g->column[i].kind, &owed);
	fputc('\n', c->out);
}

void grid_print(struct grid *g, const struct ctl *c, const char *empty)
{
	unsigned *width = mem_alloc(g->columns * sizeof(*width));

	for (unsigned i = 0; i < g->columns; i++)
		width[i] = grid_columns_of(g->column[i].title);
	for (unsigned i = 0; i < g->cells; i++) {
		unsigned len = grid_columns_of(g->cell[i]);

		if (len > width[i % g->columns])
			width[i % g->columns] = len;
	}
	if (c->width)
		squeeze(g, width, c->width);
	if (!g->cells) {
		fprintf(c->out, "%s\n", empty);
	} else {
		if (c->colour)
			fputs("\033[1m", c->out);
		print_row(g, c, NULL, width);
		if (c->colour)
			fputs("\033[0m", c->out);
	}
	for (unsigned i = 0; i + g->columns <= g->cells; i += g->columns)
		print_row(g, c, g->cell + i, width);
	for (unsigned i = 0; i < g->cells; i++)
		free(g->cell[i]);
	free(g->cell);
	free(width);
	*g = (struct grid){0};
}
