/* SPDX-License-Identifier: Apache-2.0 */
/* names.h: which names a folder has, and what they are (control/names.c). */
#ifndef WEFT_NAMES_H
#define WEFT_NAMES_H

#include "base.h"

struct names { /* free each, then the array: names_free() */
	char **name;
	size_t count;
	bool more; /* than were asked for: the others are left out */
};

/* Those that `wanted` wants, at most so many, in order. 0 or -errno, then there are none. */
int names_read(struct names *ret, int folder, size_t most, bool (*wanted)(const char *name)) must_check;
void names_free(struct names *n);
/*
 * 1: all of it was there when the name was: a link of either kind, a folder. 0: a file, written when it has its name.
 * -errno: nobody can tell from here.
 */
int names_is_link(int folder, const char *name) must_check;
/*
 * What an open said: is it a link that leads nowhere? What is none and could not be opened is gone, or came after it
 * was looked for: then an event comes too.
 */
bool names_dangle(int folder, const char *name, int error);

#endif
