// SPDX-License-Identifier: Apache-2.0
/* rows.c: all rows, topic by topic: see equivalence.h. */
#include "rows.h"

const struct row *const row_topics[] = {
	reading_rows, options_rows, urgent_rows, copying_rows, closing_rows, waiting_rows, NULL,
 };
