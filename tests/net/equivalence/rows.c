// SPDX-License-Identifier: Apache-2.0
/* rows.c: all rows, topic by topic: see equivalence.h. */
#include "rows.h"

const struct row *const row_topics[] = {
	reading_rows, options_rows, urgent_rows, copying_rows, closing_rows, waiting_rows, flow_rows,
	kinds_rows, owners_rows, uring_rows, NULL,
 };
