/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doc.c: YAML (libyaml's events) and JSON (jansson's tree) to one tree of nodes with lines.
 *
 * libyaml's own document API is not used: it expands nothing, but it also bounds nothing. Here each event
 * costs at most one node of the caller's arena, and aliases share the children of their anchor: a bomb of
 * aliases costs no memory, and its walk is bounded because each use of an alias counts all that it shows.
 *
 * jansson keeps no positions. Since it has checked the text, a second, trivial scan in step with its tree
 * finds the line of each value (json_value).
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "doc.h"

#define ANCHORS 256 /* of one document */

struct anchor {
	const char *name;
	const struct doc *node; /* NULL while it is still open: an alias to it would be a cycle */
	uint32_t nodes, height;
};

struct frame { /* an open list or map */
	struct doc *node, *last;
	const char *key; /* of the next value; NULL: the next scalar is a key */
	uint32_t children;
	uint32_t nodes_before;
	uint32_t height;
	int anchor; /* -1: none */
};

struct build {
	struct arena *arena;
	struct doc *root;
	struct frame frame[DOC_MAX_DEPTH];
	unsigned depth;
	uint32_t first_line;
	uint32_t nodes;	  /* with what aliases show */
	uint32_t aliased; /* what aliases show */
	struct anchor anchor[ANCHORS];
	unsigned anchors;
	struct doc_error *error;
};

static int fail(struct doc_error *e, uint32_t line, const char *reason)
{
	e->line = line;
	text_copy(e->reason, sizeof(e->reason), reason);
	return -EINVAL;
}

/* ------------------------------------------------------------------ plain scalars */

static bool any_of(const char *s, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(s, words[i]))
			return true;
	return false;
}

static size_t digits(const char **p, const char *set)
{
	size_t n = strspn(*p, set);

	*p += n;
	return n;
}

static bool is_number(const char *s)
{
	static const char *const special[] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF",
					      "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN"};
	size_t n;

	if (any_of(s, special, array_size(special)))
		return true;
	s += *s == '+' || *s == '-';
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		s += 2;
		return digits(&s, "0123456789abcdefABCDEF_") && !*s;
	}
	if (s[0] == '0' && (s[1] == 'o' || s[1] == 'b')) {
		s += 2;
		return digits(&s, "01234567_") && !*s;
	}
	n = strcspn(s, "0123456789.") ? 0 : digits(&s, "0123456789_");
	if (*s == '.') {
		s++;
		n += digits(&s, "0123456789_");
	}
	if (n && (*s == 'e' || *s == 'E')) {
		s++;
		s += *s == '+' || *s == '-';
		if (!digits(&s, "0123456789"))
			return false;
	}
	return n && !*s;
}

/* What kubectl (go-yaml) makes of a plain scalar. */
static enum doc_kind plain_kind(const char *s, size_t len)
{
	static const char *const null[] = {"~", "null", "Null", "NULL"};
	static const char *const yes_no[] = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE",
					     "on", "On", "ON", "n", "N", "no", "No", "NO",
					     "false", "False", "FALSE", "off", "Off", "OFF"};

	if (!len)
		return DOC_NULL;
	if (strchr("0123456789+-.", s[0]))
		return is_number(s) ? DOC_NUMBER : DOC_STRING;
	if (len > 5 || !strchr("~nNyYtTfFoO", s[0]))
		return DOC_STRING;
	if (any_of(s, null, array_size(null)))
		return DOC_NULL;
	return any_of(s, yes_no, array_size(yes_no)) ? DOC_BOOL : DOC_STRING;
}

/* ------------------------------------------------------------------ the tree */

static int by_key(const void *a, const void *b)
{
	const struct doc *x = *(const struct doc *const *)a, *y = *(const struct doc *const *)b;
	int c = strcmp(x->key, y->key);

	return c ? c : (x->line > y->line) - (x->line < y->line);
}

static int duplicate(struct doc_error *e, const struct doc *first, const struct doc *second)
{
	char reason[160];

	snprintf(reason, sizeof(reason), "key \"%.60s\" is given twice in one map (first in line %u)",
		 second->key, first->line);
	return fail(e, second->line, reason);
}

static int check_keys(const struct doc *map, uint32_t children, struct doc_error *e)
{
	const struct doc **sorted;
	uint32_t n = 0;
	int rc = 0;

	if (children <= 16) {
		for (const struct doc *b = map->child; b; b = b->next)
			for (const struct doc *a = map->child; a != b; a = a->next)
				if (a->key[0] == b->key[0] && !strcmp(a->key, b->key))
					return duplicate(e, a, b);
		return 0;
	}
	sorted = mem_grow(NULL, children, sizeof(*sorted));
	for (const struct doc *c = map->child; c; c = c->next)
		sorted[n++] = c;
	qsort(sorted, n, sizeof(*sorted), by_key);
	for (uint32_t i = 1; i < n && !rc; i++)
		if (!strcmp(sorted[i - 1]->key, sorted[i]->key))
			rc = duplicate(e, sorted[i - 1], sorted[i]);
	free(sorted);
	return rc;
}

static int count_nodes(struct build *b, uint32_t line, uint32_t nodes)
{
	if (nodes > DOC_MAX_NODES || b->nodes > DOC_MAX_NODES - nodes)
		return fail(b->error, line, "the document has too many values (more than 2000000): split it");
	b->nodes += nodes;
	return 0;
}

/* Puts a node where the next one belongs. */
static int attach(struct build *b, struct doc *node)
{
	struct frame *f = b->depth ? &b->frame[b->depth - 1] : NULL;

	if (!f) {
		b->root = node;
		return 0;
	}
	if (f->node->kind == DOC_MAP) {
		node->key = f->key;
		f->key = NULL;
	}
	if (f->last)
		f->last->next = node;
	else
		f->node->child = node;
	f->last = node;
	f->children++;
	return count_nodes(b, node->line, 1);
}

static bool wants_key(const struct build *b)
{
	return b->depth && b->frame[b->depth - 1].node->kind == DOC_MAP && !b->frame[b->depth - 1].key;
}

static void grew(struct build *b, uint32_t height)
{
	if (b->depth && b->frame[b->depth - 1].height < height)
		b->frame[b->depth - 1].height = height;
}

static int open_node(struct build *b, enum doc_kind kind, uint32_t line, int anchor)
{
	struct doc *node;
	int rc;

	if (wants_key(b))
		return fail(b->error, line, "the key of a map must be text, not a list or a map");
	if (b->depth == DOC_MAX_DEPTH)
		return fail(b->error, line, "nested too deeply (more than 64 levels)");
	node = arena_alloc(b->arena, sizeof(*node));
	node->kind = kind;
	node->line = line;
	rc = attach(b, node);
	if (rc)
		return rc;
	b->frame[b->depth++] = (struct frame){
		.node = node, .nodes_before = b->nodes, .height = 1, .anchor = anchor};
	return 0;
}

static int close_node(struct build *b)
{
	struct frame *f = &b->frame[--b->depth];

	if (f->anchor >= 0) {
		b->anchor[f->anchor].node = f->node;
		b->anchor[f->anchor].nodes = b->nodes - f->nodes_before + 1;
		b->anchor[f->anchor].height = f->height;
	}
	grew(b, f->height + 1);
	return f->node->kind == DOC_MAP ? check_keys(f->node, f->children, b->error) : 0;
}

/* ------------------------------------------------------------------ YAML */

static int new_anchor(struct build *b, const char *name, uint32_t line)
{
	struct anchor *a = NULL;

	for (unsigned i = 0; i < b->anchors; i++)
		if (!strcmp(b->anchor[i].name, name))
			a = &b->anchor[i]; /* YAML lets a later anchor take the name */
	if (!a) {
		if (b->anchors == ANCHORS)
			return fail(b->error, line, "too many anchors (more than 256)");
		a = &b->anchor[b->anchors++];
		a->name = arena_string(b->arena, name, strlen(name));
	}
	a->node = NULL;
	return (int)(a - b->anchor);
}

static int yaml_alias(struct build *b, const char *name, uint32_t line)
{
	const struct anchor *a = NULL;
	struct doc *node;
	int rc;

	for (unsigned i = 0; i < b->anchors; i++)
		if (!strcmp(b->anchor[i].name, name))
			a = &b->anchor[i];
	if (!a)
		return fail(b->error, line, "an alias (*) to an anchor (&) that is not there");
	if (!a->node)
		return fail(b->error, line, "an alias (*) inside its own anchor (&)");
	if (wants_key(b))
		return fail(b->error, line, "an alias (*) cannot be the key of a map");
	b->aliased += a->nodes;
	if (b->aliased > DOC_MAX_ALIASED)
		return fail(b->error, line, "aliases (*) show more than 10000 values: write them out");
	if (b->depth + a->height > DOC_MAX_DEPTH)
		return fail(b->error, line, "nested too deeply (more than 64 levels)");
	node = arena_alloc(b->arena, sizeof(*node));
	*node = *a->node;
	node->key = NULL;
	node->next = NULL;
	node->line = line;
	grew(b, a->height + 1);
	rc = count_nodes(b, line, a->nodes);
	return rc ? rc : attach(b, node);
}

static int yaml_key(struct build *b, const yaml_event_t *ev, const char *text, uint32_t line)
{
	bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

	if (ev->data.scalar.anchor)
		return fail(b->error, line, "an anchor (&) on the key of a map is not supported");
	if (plain && !strcmp(text, "<<"))
		return fail(b->error, line, "merge keys (<<) are not supported: write the fields out");
	if (plain && plain_kind(text, ev->data.scalar.length) == DOC_NULL)
		return fail(b->error, line, "a key of a map is missing");
	b->frame[b->depth - 1].key = arena_string(b->arena, text, ev->data.scalar.length);
	return 0;
}

static int yaml_scalar(struct build *b, const yaml_event_t *ev, uint32_t line)
{
	const char *text = (const char *)ev->data.scalar.value, *tag = (const char *)ev->data.scalar.tag;
	size_t len = ev->data.scalar.length;
	bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	int anchor = -1;
	struct doc *node;
	char *copy;

	if (memchr(text, 0, len))
		return fail(b->error, line, "text must not contain a NUL byte");
	if (tag && strcmp(tag, "!") && strcmp(tag, YAML_STR_TAG))
		return fail(b->error, line, "tags other than !!str are not supported");
	if (wants_key(b))
		return yaml_key(b, ev, text, line);
	if (ev->data.scalar.anchor) {
		anchor = new_anchor(b, (const char *)ev->data.scalar.anchor, line);
		if (anchor < 0)
			return anchor;
	}
	node = arena_alloc(b->arena, sizeof(*node) + len + 1);
	copy = (char *)(node + 1);
	memcpy(copy, text, len);
	node->kind = plain && !tag ? plain_kind(text, len) : DOC_STRING;
	node->line = line;
	node->text = copy;
	if (anchor >= 0) {
		b->anchor[anchor].node = node;
		b->anchor[anchor].nodes = 1;
		b->anchor[anchor].height = 0;
	}
	return attach(b, node);
}

static int yaml_open(struct build *b, enum doc_kind kind, const yaml_char_t *tag, const yaml_char_t *name,
		     uint32_t line)
{
	int anchor = -1;

	if (tag)
		return fail(b->error, line, "tags other than !!str are not supported");
	if (name) {
		anchor = new_anchor(b, (const char *)name, line);
		if (anchor < 0)
			return anchor;
	}
	return open_node(b, kind, line, anchor);
}

static int yaml_event(struct build *b, const yaml_event_t *ev)
{
	uint32_t line = b->first_line + (uint32_t)ev->start_mark.line;

	switch (ev->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (b->root)
			return fail(b->error, line,
				    "a second document starts here: start it with --- at the start of a line");
		return 0;
	case YAML_ALIAS_EVENT:
		return yaml_alias(b, (const char *)ev->data.alias.anchor, line);
	case YAML_SCALAR_EVENT:
		return yaml_scalar(b, ev, line);
	case YAML_SEQUENCE_START_EVENT:
		return yaml_open(b, DOC_LIST, ev->data.sequence_start.tag, ev->data.sequence_start.anchor,
				 line);
	case YAML_MAPPING_START_EVENT:
		return yaml_open(b, DOC_MAP, ev->data.mapping_start.tag, ev->data.mapping_start.anchor, line);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return close_node(b);
	default:
		return 0;
	}
}

static uint32_t line_of(const char *bytes, size_t offset, uint32_t first_line)
{
	for (size_t i = 0; i < offset; i++)
		first_line += bytes[i] == '\n';
	return first_line;
}

static int yaml_error(const yaml_parser_t *p, const char *bytes, size_t len, uint32_t first_line,
		      struct doc_error *e)
{
	char reason[160];
	const char *problem = p->problem ? p->problem : "it cannot be read";

	if (p->error == YAML_READER_ERROR) {
		size_t at = p->problem_offset < len ? p->problem_offset : len;

		snprintf(reason, sizeof(reason), "not valid YAML: %s", problem);
		return fail(e, line_of(bytes, at, first_line), reason);
	}
	if (p->context && p->context_mark.line != p->problem_mark.line)
		snprintf(reason, sizeof(reason), "not valid YAML: %s (%s that starts in line %zu)", problem,
			 p->context, first_line + p->context_mark.line);
	else
		snprintf(reason, sizeof(reason), "not valid YAML: %s", problem);
	return fail(e, first_line + (uint32_t)p->problem_mark.line, reason);
}

static int yaml_parse(struct build *b, const char *bytes, size_t len)
{
	yaml_parser_t p;
	bool end = false;
	int rc = 0;

	if (!yaml_parser_initialize(&p))
		abort(); /* out of memory, as mem_alloc */
	yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&p, (const unsigned char *)bytes, len);
	while (!rc && !end) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&p, &ev)) {
			if (p.error == YAML_MEMORY_ERROR)
				abort();
			rc = yaml_error(&p, bytes, len, b->first_line, b->error);
			break;
		}
		end = ev.type == YAML_STREAM_END_EVENT;
		rc = yaml_event(b, &ev);
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&p);
	return rc;
}

/* ------------------------------------------------------------------ JSON */

struct cursor { /* in text that jansson has accepted */
	const char *at, *end;
	uint32_t line;
};

static void json_space(struct cursor *c)
{
	for (; c->at < c->end && strchr(" \t\r\n,:", *c->at); c->at++)
		c->line += *c->at == '\n';
}

static void json_skip_string(struct cursor *c)
{
	for (c->at++; c->at < c->end && *c->at != '"'; c->at++)
		c->at += *c->at == '\\' && c->at + 1 < c->end;
	c->at += c->at < c->end;
}

static int json_value(struct build *b, const json_t *j, struct cursor *c);

static int json_children(struct build *b, const json_t *j, struct cursor *c)
{
	bool map = json_is_object(j);
	const char *key;
	json_t *value;
	size_t i;
	int rc = open_node(b, map ? DOC_MAP : DOC_LIST, c->line, -1);

	if (rc)
		return rc;
	c->at++;
	if (map) {
		json_object_foreach((json_t *)j, key, value)
		{
			json_space(c);
			json_skip_string(c);
			b->frame[b->depth - 1].key = arena_string(b->arena, key, strlen(key));
			rc = json_value(b, value, c);
			if (rc)
				return rc;
		}
	} else {
		json_array_foreach(j, i, value)
		{
			rc = json_value(b, value, c);
			if (rc)
				return rc;
		}
	}
	json_space(c);
	c->at++;    /* the bracket */
	b->depth--; /* jansson has refused duplicate keys */
	return 0;
}

static int json_value(struct build *b, const json_t *j, struct cursor *c)
{
	const char *text;
	struct doc *node;
	size_t len;

	json_space(c);
	if (json_is_object(j) || json_is_array(j))
		return json_children(b, j, c);
	node = arena_alloc(b->arena, sizeof(*node));
	node->line = c->line;
	text = c->at;
	if (json_is_string(j)) {
		json_skip_string(c);
		node->kind = DOC_STRING;
		text = json_string_value(j);
		len = json_string_length(j);
	} else {
		while (c->at < c->end && !strchr(" \t\r\n,:]}", *c->at))
			c->at++;
		len = (size_t)(c->at - text);
		node->kind = json_is_number(j) ? DOC_NUMBER : json_is_boolean(j) ? DOC_BOOL
										 : DOC_NULL;
	}
	node->text = arena_string(b->arena, text, len);
	return attach(b, node);
}

static int json_parse(struct build *b, const char *bytes, size_t len)
{
	struct cursor c = {.at = bytes, .end = bytes + len, .line = b->first_line};
	size_t values = 1;
	json_error_t e;
	char reason[160];
	json_t *j;
	int rc;

	/* jansson would need 40 times the memory of a text of nothing but brackets. */
	for (size_t i = 0; i < len; i++)
		values += bytes[i] == ',' || bytes[i] == '[' || bytes[i] == '{';
	rc = values > DOC_MAX_NODES ? count_nodes(b, b->first_line, DOC_MAX_NODES + 1) : 0;
	if (rc)
		return rc;
	json_space(&c);
	if (c.at == c.end) {
		b->root = arena_alloc(b->arena, sizeof(*b->root));
		b->root->line = b->first_line;
		return 0;
	}
	j = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &e);
	if (!j) {
		uint32_t line = e.line > 0 ? (uint32_t)e.line - 1 : 0;

		snprintf(reason, sizeof(reason), "not valid JSON: %.120s", e.text);
		return fail(b->error, b->first_line + line, reason);
	}
	rc = json_value(b, j, &c);
	json_decref(j);
	return rc;
}

/* ------------------------------------------------------------------ public */

int doc_parse(struct arena *a, const char *bytes, size_t len, bool json, uint32_t first_line,
	      struct doc **ret, struct doc_error *ret_error)
{
	struct build *b = mem_alloc(sizeof(*b));
	const char *nul = memchr(bytes, 0, len);
	int rc;

	b->arena = a;
	b->first_line = first_line;
	b->error = ret_error;
	*ret = NULL;
	if (len > DOC_MAX_BYTES)
		rc = fail(ret_error, first_line, "the document is larger than 32 MiB: split it");
	else if (nul)
		rc = fail(ret_error, line_of(bytes, (size_t)(nul - bytes), first_line),
			  "a NUL byte: this is not text in UTF-8");
	else
		rc = json ? json_parse(b, bytes, len) : yaml_parse(b, bytes, len);
	if (!rc && !b->root) {
		b->root = arena_alloc(a, sizeof(*b->root));
		b->root->line = first_line;
	}
	if (!rc)
		*ret = b->root;
	free(b);
	return rc;
}

struct doc *doc_get(const struct doc *map, const char *key)
{
	if (!map || map->kind != DOC_MAP)
		return NULL;
	for (struct doc *c = map->child; c; c = c->next)
		if (!strcmp(c->key, key))
			return c;
	return NULL;
}
