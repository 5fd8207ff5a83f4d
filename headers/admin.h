/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin.h: the worker's admin socket (control/admin.c): one JSON line in, one JSON object out, then it closes.
 * docs/admin.md has the commands.
 *
 * A client that is slow, silent or hostile costs one of ADMIN_CLIENTS places for ADMIN_SECONDS and a bounded buffer,
 * never a turn of the loop, and gives way when others wait for its place. An answer is made in parts of about
 * ADMIN_PART bytes, each when the last one is sent.
 */
#ifndef WEFT_ADMIN_H
#define WEFT_ADMIN_H

#include <jansson.h>

#include "loop.h"

#define ADMIN_CLIENTS 16
#define ADMIN_LINE 65536 /* longest request */
#define ADMIN_PART 65536
#define ADMIN_SECONDS 10 /* without progress */

/*
 * An answer under way. `more` adds a part: 1 there is more, 0 that was all, -errno: the client is cut off. `end`
 * frees the answer, whether all was sent or not; NULL: free().
 */
struct answer {
	int (*more)(struct answer *a, struct text *to);
	void (*end)(struct answer *a);
};

/*
 * What to say to a request (borrowed; its "command" is a string). Never NULL: an error is an answer too
 * (answer_error).
 */
typedef struct answer *admin_ask(void *ctx, const char *command, const json_t *request);

struct admin;
/* `listener` is taken. `ask` outlives the admin. 0 or -errno */
int admin_open(struct admin **ret, struct loop *loop, int listener, admin_ask *ask, void *ctx) must_check;
void admin_close(struct admin *a);

/* {"error": sentence} */
struct answer *answer_error(const char *fmt, ...) must_check printf_like(1, 2);
/* One JSON value, taken, made into text at once. For answers that are small. */
struct answer *answer_json(json_t *value) must_check;

/*
 * {"name": [item, ...], ...}: lists whose items are made one at a time, while they are sent. Items are asked for by
 * key, because what they describe may change or go between two parts of the answer.
 */
struct answer_list {
	const char *name; /* constant */
	void *keys;	  /* count * size bytes; taken */
	size_t size;
	unsigned count;
	json_t *(*item)(void *ctx, const void *key); /* NULL: it is gone, or not wanted */
};
#define ANSWER_LISTS 2
/* `end` (may be NULL) frees ctx. */
struct answer *answer_lists(const struct answer_list *list, unsigned lists, void *ctx, void (*end)(void *ctx))
	must_check;

/* A string that is always JSON: bytes that are not UTF-8 become '?'. Never NULL. */
json_t *answer_text(const char *s) must_check;

#endif
