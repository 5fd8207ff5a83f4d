/* SPDX-License-Identifier: Apache-2.0 */
/* screen.c: what --watch shows at a time: no more than the terminal has rows, or its head would scroll away. */
#include "ctl.h"
#include "grid.h"

#include <stdlib.h>
#include <string.h>

/* Of one line; what weftctl itself writes between ESC and a letter moves nothing. */
static unsigned columns_of(const char *line, size_t len)
{
	char *plain = mem_alloc(len + 1);
	size_t n = 0;
	unsigned columns;

	for (size_t i = 0; i < len; i++) {
		if (line[i] != '\033') {
			plain[n++] = line[i];
			continue;
		}
		for (i++; i < len && !(line[i] >= 'A' && line[i] <= 'z' && line[i] != '['); i++)
			;
	}
	columns = grid_columns_of(plain);
	free(plain);
	return columns;
}

static unsigned rows_of(const char *line, size_t len, unsigned width)
{
	unsigned columns = width ? columns_of(line, len) : 0;

	return columns ? (columns + width - 1) / width : 1;
}

static unsigned lines_of(const char *at, const char *end)
{
	unsigned n = 0;

	for (; at < end && (at = memchr(at, '\n', (size_t)(end - at))); at++)
		n++;
	return n;
}

/* In a terminal of one row a line that ends is gone. */
static void print(const struct ctl *c, const char *data, size_t len)
{
	fwrite(data, 1, len - (c->height == 1 && len && data[len - 1] == '\n'), c->out);
}

void screen_print(const struct ctl *c, const char *data, size_t len)
{
	char more[96];
	const char *at = data, *end = data + len, *fits = data;
	unsigned room = c->height > 2 ? c->height - 1 : 1, used = 0, left; /* the cursor stands in the last row */

	while (c->height && at < end) {
		const char *line = memchr(at, '\n', (size_t)(end - at)), *next = line ? line + 1 : end;

		used += rows_of(at, (size_t)(next - at) - !!line, c->width);
		if (used < room) /* with the one that says how many are left out */
			fits = next;
		if (used > room)
			break;
		at = next;
	}
	if (!c->height || at == end) {
		print(c, data, len);
		return;
	}
	fwrite(data, 1, (size_t)(fits - data), c->out);
	if (c->colour)
		fputs("\033[0m", c->out);
	left = lines_of(fits, end);
	(void)snprintf(more, sizeof(more), "%u more line%s: make the terminal higher\n", left, text_plural(left));
	print(c, more, strlen(more));
}
