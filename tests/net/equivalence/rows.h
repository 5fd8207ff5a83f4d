/* SPDX-License-Identifier: Apache-2.0 */
/* rows.h: the topics. Each file has its rows in a table at its end; an empty row ends it. */
#ifndef ROWS_H
#define ROWS_H

#include "equivalence.h"

extern const struct row reading_rows[]; /* recv and its flags, FIONREAD, peeking */

#endif
