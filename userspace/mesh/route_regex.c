/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route_regex.c: PCRE2 with bounds.
 *
 * Options that a pattern could ask for and that would take a bound away are off: UTF (a value may hold any byte), \C.
 * "$" is the end, not a place before a final line end.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "route_regex.h"

struct route_regex {
	pcre2_code *code;
};

/* Out of memory ends the process, as everywhere: never a rule that is silently passed over. */
static void *take(size_t size, void *ctx)
{
	return mem_grow(NULL, size, 1);
}

static void give(void *p, void *ctx)
{
	free(p);
}

static pcre2_general_context *memory(void)
{
	pcre2_general_context *c = pcre2_general_context_create(take, give, NULL);

	if (!c)
		abort();
	return c;
}

struct route_regex *route_regex_new(const char *pattern, char why[ROUTE_REGEX_WHY])
{
	const uint32_t options = PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF |
				 PCRE2_NEVER_UCP | PCRE2_NEVER_BACKSLASH_C;
	pcre2_general_context *general = memory();
	pcre2_compile_context *context = pcre2_compile_context_create(general);
	struct route_regex *r = NULL;
	PCRE2_UCHAR text[120];
	pcre2_code *code;
	PCRE2_SIZE at;
	int error;

	code = pcre2_compile((PCRE2_SPTR)pattern, strlen(pattern), options, &error, &at, context);
	if (code) {
		r = mem_alloc(sizeof(*r));
		r->code = code;
	} else {
		pcre2_get_error_message(error, text, sizeof(text));
		snprintf(why, ROUTE_REGEX_WHY, "%s at character %zu", (const char *)text, (size_t)at + 1);
	}
	pcre2_compile_context_free(context);
	pcre2_general_context_free(general);
	return r;
}

void route_regex_free(struct route_regex *r)
{
	if (r)
		pcre2_code_free(r->code);
	free(r);
}

static void begin(struct route_regex_work *w)
{
	pcre2_general_context *general = memory();
	pcre2_match_context *limits = pcre2_match_context_create(general);

	w->limits = limits;
	w->data = pcre2_match_data_create(1, general);
	pcre2_set_depth_limit(limits, ROUTE_REGEX_STEPS);
	pcre2_set_heap_limit(limits, ROUTE_REGEX_HEAP);
	pcre2_general_context_free(general);
}

/* More than 0, and 0 (more groups than the one we have room for): it matches. */
static int match(const struct route_regex *r, struct http_text value, struct route_regex_work *w, uint32_t steps)
{
	pcre2_set_match_limit(w->limits, steps);
	return pcre2_match(r->code, value.len ? (PCRE2_SPTR)value.at : (PCRE2_SPTR) "", value.len, 0, 0, w->data,
			   w->limits);
}

bool route_regex_match(const struct route_regex *r, struct http_text value, struct route_regex_work *w)
{
	int error;

	if (value.len > ROUTE_REGEX_VALUE)
		return false;
	if (!w->data)
		begin(w);
	error = match(r, value, w, ROUTE_REGEX_CHEAP);
	if (error == PCRE2_ERROR_MATCHLIMIT && w->dear < ROUTE_REGEX_DEAR) {
		w->dear++;
		error = match(r, value, w, ROUTE_REGEX_STEPS);
	}
	return error >= 0;
}

void route_regex_done(struct route_regex_work *w)
{
	pcre2_match_data_free(w->data);
	pcre2_match_context_free(w->limits);
	*w = (struct route_regex_work){0};
}
