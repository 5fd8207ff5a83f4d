/* SPDX-License-Identifier: Apache-2.0 */
/*
 * documents.h: the documents of one file, and what each gave (control/documents.c).
 *
 * A file is read again as a whole but decoded by document: one that has not changed (by its hash) keeps its
 * objects and problems. So one new endpoint in a file of 20 000 documents costs one document.
 *
 * An object that is rejected by name keeps its last good version. A change that makes a document unreadable takes
 * no object away: nobody can tell which of them the document still meant.
 */
#ifndef WEFT_DOCUMENTS_H
#define WEFT_DOCUMENTS_H

#include "claims.h"

#define DOCUMENTS_MAX 131072 /* of one file */

struct documents {	  /* of one file */
	const char *file; /* its name: the owner's, and it stays */
	struct list list;
	unsigned errors, warnings; /* exact */
	unsigned stored;	   /* problems kept */
};

void documents_init(struct documents *d, const char *file);
/*
 * The file has this content now. `*room` is how many problems may still be kept, over all files; it is reduced.
 * 1: something changed (if only a line), 0: nothing, -E2BIG: too many documents, and nothing changed.
 */
int documents_read(struct documents *d, struct claims *c, const char *bytes, size_t len, bool json,
		   unsigned *room) must_check;
void documents_drop(struct documents *d, struct claims *c, unsigned *room); /* the file is gone */
/* The kept problems, in order. */
void documents_problems(const struct documents *d, void (*problem)(void *ctx, const struct problem *p), void *ctx);

#endif
