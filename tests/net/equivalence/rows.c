// SPDX-License-Identifier: Apache-2.0
/* rows.c: all rows in the order of their numbers: see equivalence.h. */
#include "rows.h"

#include <stdlib.h>

static const struct row *const topics[] = {
	reading_rows, options_rows, urgent_rows, copying_rows, closing_rows, waiting_rows,
	flow_rows,    kinds_rows,   owners_rows, uring_rows,
};

#define TOPICS (sizeof(topics) / sizeof(topics[0]))
#define MOST 500
#define LAST 41 /* number in the table of docs/equivalence.md */

static const struct row *all[MOST + 1];
static size_t count;

static void collect(long number)
{
	for (size_t i = 0; i < TOPICS; i++) {
		for (const struct row *row = topics[i]; row->name; row++) {
			if (strtol(row->number, NULL, 10) == number && count < MOST)
				all[count++] = row;
		}
	}
}

const struct row *row_at(size_t index)
{
	if (!count) {
		for (long number = 1; number <= LAST; number++)
			collect(number);
	}
	return all[index];
}
