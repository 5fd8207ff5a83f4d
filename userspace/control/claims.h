/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims.h: which object has a name when several places give it (control/claims.c).
 *
 * A claim is one object in one place (a document of a file). Of all claims to a name one is in the store:
 * objects given now before last good ones before stand-ins, then by file name, then by order in the file.
 * Nothing reaches the store before claims_settle: a batch of changes is applied as a whole.
 */
#ifndef WEFT_CLAIMS_H
#define WEFT_CLAIMS_H

#include "model.h"

enum claim_rank {
	CLAIM_GIVEN,	 /* the object is in the file now */
	CLAIM_LAST_GOOD, /* it was, and what stands there now cannot be understood */
	CLAIM_STAND_IN,	 /* it never was; this one closes what it would select */
};

struct claim_place { /* embedded by the owner; outlives its claims */
	const char *file;
	uint32_t index; /* order in the file */
};

struct claim {
	struct list of_place; /* the owner's list */
	struct list of_name;
	struct claimed *claimed;
	const struct claim_place *place; /* NULL: given up */
	uint32_t item;			 /* order in the place */
	enum claim_rank rank;
	bool told; /* the log has said that this one is not used */
	/* The object. It belongs to the store while it is there, else to the claim. Its line may be corrected. */
	struct object *object;
};

struct claims *claims_new(struct store *store) must_check;
void claims_free(struct claims *c); /* after all were given up; what is in the store stays there */
/* Takes the object. The claim is put at the end of `of_place`. */
void claims_add(struct claims *c, struct object *o, enum claim_rank rank, const struct claim_place *place,
		uint32_t item, struct list *of_place);
void claims_move(struct claims *c, struct claim *claim, enum claim_rank rank,
		 const struct claim_place *place, struct list *of_place);
void claims_give_up(struct claims *c, struct claim *claim); /* freed at the next settle */
/* Brings the store up to date. True: it changed, or who lost did. */
bool claims_settle(struct claims *c);
/* Order of places may have changed: look again at the names with more than one claim. */
void claims_reordered(struct claims *c);
/* Calls back for each object that is given but not used because another one has the name first. */
unsigned claims_losers(const struct claims *c,
		       void (*loser)(void *ctx, struct claim *loser, const struct object *winner), void *ctx);
void claims_log(const struct claims *c); /* those of which the log has not told yet */

#endif
