/* SPDX-License-Identifier: Apache-2.0 */
/*
 * podfile.h: enrolments on disk (proc/podfile.c), so that a restarted weftd takes every pod back.
 *
 *	/run/weft/INSTANCE/pods/7		pod 7 as the worker accepted it
 *	                        7-new		asked for, not accepted yet; a restart drops it
 *	                        7-leaving	released, but the worker has not said so yet
 *	                        next		number for the next pod
 *
 * A file is the head of struct wire_pod and the used part of its labels and annotations: 2-3 KB rather than 18.
 * Every write is a new file and a rename.
 */
#ifndef WEFT_PODFILE_H
#define WEFT_PODFILE_H

#include "wire.h"

enum podfile_kind { PODFILE_KEPT,
		    PODFILE_NEW,
		    PODFILE_LEAVING };

int podfile_write(int folder, enum podfile_kind kind, const struct wire_pod *pod) must_check;
int podfile_read(int folder, enum podfile_kind kind, uint32_t number, struct wire_pod *ret) must_check;
int podfile_turn(int folder, uint32_t number, enum podfile_kind from, enum podfile_kind to) must_check;
bool podfile_is(int folder, enum podfile_kind kind, uint32_t number);
void podfile_remove(int folder, enum podfile_kind kind, uint32_t number);
/* Calls `found` for each file, in no order. 0 or -errno */
int podfile_each(int folder, void (*found)(void *ctx, enum podfile_kind kind, uint32_t number), void *ctx)
	must_check;
int podfile_next(int folder, uint32_t *ret) must_check; /* takes a number; never the same twice */

#endif
