/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route_regex.h: regular expressions of routes (mesh/route_regex.c over PCRE2, without JIT).
 *
 * A pattern is the author's of a route, a value is a stranger's. A pattern matches the whole value. One that would
 * cost more than ROUTE_REGEX_STEPS of backtracking, or ROUTE_REGEX_HEAP, does not match; nor does a longer value.
 *
 * Patterns may be many, and a value bad for all of them: of one question ROUTE_REGEX_DEAR may cost so much. When they
 * have, what costs more than ROUTE_REGEX_CHEAP, which nearly all patterns are far below, does not match either.
 */
#ifndef WEFT_ROUTE_REGEX_H
#define WEFT_ROUTE_REGEX_H

#include "http.h"

#define ROUTE_REGEX_STEPS 20000u
#define ROUTE_REGEX_CHEAP 500u
#define ROUTE_REGEX_DEAR 8u
#define ROUTE_REGEX_HEAP 1024u /* KiB, for the time of one question */
#define ROUTE_REGEX_VALUE 4096u
#define ROUTE_REGEX_WHY 160

struct route_regex; /* immutable: any thread may ask it */

/* NULL: it is none, why[] says what and where. */
struct route_regex *route_regex_new(const char *pattern, char why[ROUTE_REGEX_WHY]) must_check;
void route_regex_free(struct route_regex *r);

/* Memory for one question after the other, of one thread; zeroed: none yet. */
struct route_regex_work {
	void *data, *limits;
	unsigned dear; /* those that were */
};
bool route_regex_match(const struct route_regex *r, struct http_text value, struct route_regex_work *w);
void route_regex_done(struct route_regex_work *w);

#endif
