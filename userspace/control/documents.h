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
#include "items.h"

#define DOCUMENTS_MAX 131072 /* of one file */

struct documents {	  /* of one file */
	const char *file; /* its name: the owner's, and it stays */
	struct entry *entry;
	unsigned count;
	struct list_shape *list; /* large YAML Lists among them */
	unsigned lists;
	unsigned errors, warnings; /* exact */
	unsigned stored;	   /* problems kept */
};

void documents_init(struct documents *d, const char *file);
/*
 * The file has new content: begin, read, then commit or abort. Until commit nothing changes but what is claimed;
 * claims_settle after abort forgets that too.
 *
 * `*room` is how many problems may still be kept, over all files; a reading may borrow what its file had.
 */
struct reading;
struct reading *documents_begin(struct documents *d, struct claims *c, bool json, int *room) must_check;
/* Takes all documents. 0, -E2BIG: too many, or -EIO: the content cannot be read: abort. */
int documents_read(struct reading *r, struct content *c) must_check;
/* Frees r. True: something changed, if only a line. */
bool documents_commit(struct reading *r) must_check;
void documents_abort(struct reading *r);			       /* frees r */
void documents_drop(struct documents *d, struct claims *c, int *room); /* the file is gone */
/* The kept problems, in order. */
void documents_problems(const struct documents *d, void (*problem)(void *ctx, const struct problem *p), void *ctx);

#endif
