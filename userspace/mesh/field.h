/* SPDX-License-Identifier: Apache-2.0 */
/*
 * field.h: typed reading of the fields of one object, with the path of each for messages (mesh/field.c).
 *
 * A struct field is a place: it may be absent (doc NULL). Readers take an absent field, and null, as not given, and
 * report a wrong type themselves. Paths are put together only when something is wrong.
 */
#ifndef WEFT_FIELD_H
#define WEFT_FIELD_H

#include "model.h"

struct decode { /* one object at work */
	struct k8s_sink *sink;
	const char *file;
	uint32_t line; /* where the object starts */
	struct object *object;
	char title[320];	  /* "Service shop/web" */
	unsigned errors;	  /* more than 0: the object is rejected */
	unsigned reports, warned; /* bounded: one object cannot fill the log */
};

struct field {
	struct decode *d;
	const struct doc *doc; /* NULL: absent */
	const struct field *up;
	const char *key; /* NULL: an item of a list */
	unsigned index;	 /* of the item */
};

void field_error(const struct field *f, const char *fmt, ...) printf_like(2, 3);   /* rejects the object */
void field_warning(const struct field *f, const char *fmt, ...) printf_like(2, 3); /* does not */

struct field field_get(const struct field *map, const char *key);
/* Walk a list or map: struct field i = field_first(&f); field_next(&i) until !i.doc. Reports what is no list or map. */
struct field field_first_item(const struct field *list);
struct field field_first_key(const struct field *map);
void field_next(struct field *i);
unsigned field_count(const struct field *list);		    /* of items, without checking */
bool field_at_most(const struct field *list, unsigned max); /* reports more items than that */
bool field_given(const struct field *f);		    /* there and not null */
bool field_is_map(const struct field *f);		    /* given and a map; reports another type */
/* Every key of the map is one of names, else an error: for objects where an unknown field may widen or narrow. */
void field_only(const struct field *map, const char *const *names, size_t count);

/* The same as a warning: for objects that a newer version of their API may have more fields of. */
void field_known(const struct field *map, const char *const *names, size_t count);

/* An error if the map has that key: the API knows the field, and weft cannot do it. */
void field_unsupported(const struct field *map, const char *key, const char *why);

const char *field_string(const struct field *f); /* in the object's arena; NULL if absent or wrong (reported) */
const char *field_text(const struct field *f);	 /* the same, in the document */
bool field_bool(const struct field *f, bool absent);
/* True and *ret set if given and right. */
bool field_number(const struct field *f, long long min, long long max, long long *ret);
bool field_duration(const struct field *f, uint64_t *ret_ns);
bool field_address(const struct field *f, struct abi_addr *ret);
void field_pairs(const struct field *f, struct pairs *ret);	     /* a map of strings */
void *field_alloc(const struct field *f, size_t count, size_t size); /* in the object's arena */

#endif
