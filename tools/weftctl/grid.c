// SPDX-License-Identifier: Apache-2.0
/* grid.c: see grid.h */
#include "grid.h"

#include <stdlib.h>
#include <string.h>

#define GAP 2
#define CUT_LEAST 8 /* a column is not cut below this */

void grid_open(struct grid *g, const struct grid_column *column, unsigned columns)
{
	*g = (struct grid){.column = column, .columns = columns};
}

/* Length of the UTF-8 sequence at s, 0 if it is none that a terminal should see. */
static unsigned sequence(const unsigned char *s)
{
	unsigned n = s[0] < 0x80   ? 1
		     : s[0] < 0xc2 ? 0
		     : s[0] < 0xe0 ? 2
		     : s[0] < 0xf0 ? 3
		     : s[0] < 0xf5 ? 4
				   : 0;

	if (n == 1)
		return s[0] >= 0x20 && s[0] != 0x7f;
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if (n == 2 && s[0] == 0xc2 && s[1] < 0xa0)
		return 0; /* C1 controls */
	if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)))
		return 0; /* too long, or half of a surrogate pair: JSON takes neither */
	if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)))
		return 0;
	return n;
}

char *grid_safe(const char *s)
{
	char *copy = mem_string(s);
	unsigned char *p = (unsigned char *)copy;

	while (*p) {
		unsigned n = sequence(p);

		if (!n) {
			*p = '?';
			n = 1;
		}
		p += n;
	}
	return copy;
}

unsigned grid_columns_of(const char *s)
{
	unsigned n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void grid_add(struct grid *g, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
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

/* Bytes of the first `columns` columns of s. */
static int bytes_of(const char *s, unsigned columns)
{
	const char *p = s;

	while (*p && (columns || ((unsigned char)*p & 0xc0) == 0x80)) {
		if (((unsigned char)*p & 0xc0) != 0x80)
			columns--;
		p++;
	}
	return (int)(p - s);
}

/* Spaces are owed until something follows: lines do not end in them. */
static void print_cell(const struct ctl *c, const char *s, unsigned width, enum grid_kind kind, unsigned *owed)
{
	unsigned len = grid_columns_of(s);
	unsigned pad = len < width ? width - len : 0;

	if (kind == GRID_RIGHT)
		*owed += pad;
	if (len) {
		fprintf(c->out, "%*s", (int)*owed, "");
		*owed = 0;
	}
	if (len > width)
		fprintf(c->out, "%.*s%s", bytes_of(s, width - 1), s, c->utf8 ? "\u2026" : "~");
	else
		fputs(s, c->out);
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
