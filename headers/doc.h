/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doc.h: YAML and JSON as one tree of nodes with lines (base/doc.c over libyaml and jansson, base/doc_split.c).
 *
 * Every input is hostile: bytes, depth and nodes are bounded, aliases are refused past a budget
 * (alias bombs), duplicate keys are an error. Times are linear in the input.
 */
#ifndef WEFT_DOC_H
#define WEFT_DOC_H

#include "base.h"

#define DOC_MAX_BYTES (32u << 20) /* of one file; larger is refused by name before it is read */
#define DOC_MAX_DEPTH 64
#define DOC_MAX_NODES 2000000u /* of one document */
#define DOC_MAX_ALIASED 10000u /* nodes that aliases add to one document, each time they are used */

enum doc_kind { DOC_NULL,
		DOC_BOOL,
		DOC_NUMBER,
		DOC_STRING,
		DOC_LIST,
		DOC_MAP };

struct doc { /* owned by the arena that doc_parse was given */
	enum doc_kind kind;
	uint32_t line;	   /* from 1 */
	const char *key;   /* in a map: the key; else NULL */
	const char *text;  /* scalars: the value, NUL-terminated; quoted numbers are DOC_STRING; else NULL */
	struct doc *child; /* first of a list or map */
	struct doc *next;  /* sibling */
};

struct doc_error {
	uint32_t line;
	char reason[160];
};

/*
 * One document. 0, or -EINVAL with *ret_error. `first_line` is the line of bytes[0] in its file (1 for a whole
 * file). An empty document (nothing but comments) is DOC_NULL. The tree keeps no pointer into `bytes`.
 *
 * YAML: what kubectl takes for a boolean or a number (yes, on, 0x10) is one here, so that the same file means
 * the same. Refused: tags other than !!str, merge keys, keys that are not scalars, directives other than %YAML.
 */
int doc_parse(struct arena *a, const char *bytes, size_t len, bool json, uint32_t first_line,
	      struct doc **ret, struct doc_error *ret_error) must_check;

/*
 * The length of the first document in a stream of them, with the marker that starts it, up to the marker that
 * starts the next ("---" at the start of a line; for JSON: the end of the first value). `len` if it is the last.
 */
size_t doc_split(const char *bytes, size_t len, bool json);
/* Does the line at `line` start a YAML document ("---")? `end` is that of the stream. */
bool doc_starts(const char *line, const char *end);

/*
 * The items of a document that is a `kind: List`, written plainly, as parts of it: JSON maps, or YAML lists of one
 * item. So each can be parsed alone, and again alone when it changes. NULL: parse the document as a whole. The array
 * is the caller's to free().
 */
struct doc_part {
	size_t at, len;
};
struct doc_part *doc_split_list(const char *bytes, size_t len, bool json, unsigned *ret_count) must_check;

/* Does an item of a YAML list start in this line: so many spaces, a dash, a blank? `end` is that of the stream. */
bool doc_item_starts(const char *line, const char *end, size_t dash);
/* The length of the item that starts here, as doc_split_list splits it off; 0: none, or one that it would not. */
size_t doc_item(const char *at, const char *end, size_t dash);

struct doc *doc_get(const struct doc *map, const char *key); /* NULL if absent or not a map */

#endif
