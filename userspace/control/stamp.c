/* SPDX-License-Identifier: Apache-2.0 */
/* stamp.c: see stamp.h. */
#include <time.h>

#include "stamp.h"

struct stamp stamp_of(const struct stat *st)
{
	return (struct stamp){.dev = st->st_dev,
			      .ino = st->st_ino,
			      .size = st->st_size,
			      .modified = st->st_mtim,
			      .changed = st->st_ctim};
}

static bool time_equal(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool stamp_same(const struct stamp *a, const struct stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       time_equal(a->modified, b->modified) && time_equal(a->changed, b->changed);
}

/* Kernels before 6.13 stamp files with the time of the last tick: two writes in one tick look the same. */
bool stamp_old_enough(const struct stamp *s)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec > s->modified.tv_sec + 1 && now.tv_sec > s->changed.tv_sec + 1;
}
