/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backing.h: the sockets that are there now, as the iterator weft_live tells of them, by cookie (io/backing.c): which
 * of the records in `conns` have one.
 */
#ifndef WEFT_BACKING_H
#define WEFT_BACKING_H

#include "abi.h"
#include "base.h"

/* All records of the iterator (WIRE_FD_LIVE); free(*ret). 0 or -errno */
int backing_read(int iterator, struct abi_live **ret, unsigned *ret_count) must_check;

struct backing_socket;
struct backing {
	struct backing_socket *socket;
	struct table table;
};
void backing_open(struct backing *b, const struct abi_live *live, unsigned lives); /* borrowed until it is closed */
void backing_close(struct backing *b);
const struct abi_live *backing_find(const struct backing *b, uint64_t cookie); /* NULL: none, as of cookie 0 */
bool backing_has(const struct backing *b, const struct abi_conn *c); /* a socket of either end */

#define BACKING_OLD_NS 10000000000ull /* a younger record without a socket may just be in the making */

#endif
