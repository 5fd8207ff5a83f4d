/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid.h: aligned tables (grid.c). Cells are text; control bytes in them are replaced, so that no name out of a
 * file can drive the terminal. Where a width is given, the columns that may be cut (GRID_CUT) share what is missing.
 */
#ifndef WEFTCTL_GRID_H
#define WEFTCTL_GRID_H

#include "ctl.h"

enum grid_kind {
	GRID_LEFT,
	GRID_RIGHT, /* numbers */
	GRID_CUT,   /* left, and may be cut */
};

struct grid_column {
	const char *title;
	enum grid_kind kind;
};

struct grid {
	const struct grid_column *column;
	unsigned columns;
	char **cell; /* row after row */
	unsigned cells, size;
};

void grid_open(struct grid *g, const struct grid_column *column, unsigned columns);
void grid_add(struct grid *g, const char *fmt, ...) printf_like(2, 3); /* next cell, left to right */
/* Prints title line and rows (`empty` instead, if there is none), then frees the cells. */
void grid_print(struct grid *g, const struct ctl *c, const char *empty);
unsigned grid_columns_of(const char *s); /* columns that UTF-8 text takes, as the locale has it */
/* Text with '?' for each byte of controls, of what hides or turns text around, and of invalid UTF-8; free it. */
char *grid_safe(const char *s) must_check;

#endif
