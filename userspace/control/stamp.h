/* SPDX-License-Identifier: Apache-2.0 */
/* stamp.h: what of a file tells that its content is another (control/stamp.c). */
#ifndef WEFT_STAMP_H
#define WEFT_STAMP_H

#include <sys/stat.h>

#include "base.h"

struct stamp { /* the same: the content is the same, if it is old enough */
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec modified, changed;
};

struct stamp stamp_of(const struct stat *st);
bool stamp_same(const struct stamp *a, const struct stamp *b);
/* Whoever writes from now on will leave another stamp. */
bool stamp_old_enough(const struct stamp *s);

#endif
