/* SPDX-License-Identifier: Apache-2.0 */
/* rows.h: the topics. Each file has its rows in a table at its end; an empty row ends it. */
#ifndef ROWS_H
#define ROWS_H

#include "equivalence.h"

#include <poll.h>

extern const struct row reading_rows[]; /* recv and its flags, FIONREAD, peeking */
extern const struct row options_rows[]; /* SO_RCVLOWAT, TCP_INQ, timestamps, keepalive */
extern const struct row urgent_rows[];	/* MSG_OOB */
extern const struct row copying_rows[]; /* splice, sendfile, zero copy */
extern const struct row closing_rows[]; /* FIN, RST, half close, use after them */
extern const struct row waiting_rows[]; /* sleeping readers, signals, timeouts */
extern const struct row flow_rows[];	/* back-pressure, order, integrity */
extern const struct row kinds_rows[];	/* IPv4-mapped, Multipath TCP, Fast Open, unaccepted */
extern const struct row owners_rows[];	/* kTLS, filters, other sockmaps, readers in the kernel */
extern const struct row uring_rows[];	/* io_uring */

#endif
