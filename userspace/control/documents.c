/* SPDX-License-Identifier: Apache-2.0 */
/* documents.c: the documents of one file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "documents.h"

#define LOGGED 20	       /* problems of one reading of one file that the log tells one by one */
#define NEARBY 16	       /* documents */
#define LIST_MIN (64u << 10)   /* bytes; smaller Lists are decoded as a whole */
#define SCRATCH_MAX (1u << 20) /* bytes of trees kept before their memory is given back */

struct document {
	struct list list; /* of reading.old */
	struct claim_place place;
	bool dropped; /* problems that there was no room for: decode it again next time */
	unsigned errors, warnings;
	struct list claims;
	struct problem *problems, **problems_end;
};

struct reject { /* while reading */
	struct list list;
	struct document *document;
	enum object_kind kind;
	bool parsed; /* false: the names were found by looking at the text alone */
	uint32_t item;
	struct object *stand_in;
	char namespace[64], name[254];
};

struct reading {
	struct k8s_sink sink;
	struct documents *documents;
	struct claims *claims;
	struct entry *entry;  /* found again or new, in order */
	uint32_t *from;	      /* for each: 1 + its place in documents.entry, or 0: new */
	unsigned count, size; /* of both */
	struct list_shape *list;
	unsigned lists;
	bool *matched;	      /* for each of documents.entry */
	unsigned expected;    /* of documents.entry: the next document, if nothing has changed */
	unsigned missed;      /* documents that were not where they were expected */
	struct list old;      /* at commit: documents that were not found again */
	struct table by_hash; /* of documents.entry */
	struct document *at;  /* being decoded */
	struct list rejects;
	struct arena scratch; /* trees of documents */
	struct arena index;   /* of the old documents and claims */
	int *room;
	int spare;	/* problems of the last reading: most of them make place for those of this one */
	uint32_t items; /* objects so far in `at` */
	uint32_t line;	/* of the next document */
	unsigned logged;
	bool json;
	bool unreadable; /* a document whose objects are not all known by name */
	bool parsed;	 /* of `at` */
	bool by_hash_built;
	bool item;  /* the part is an item of a List, not a document */
};

struct hashed { /* entry of reading.by_hash */
	struct table_link link;
	unsigned at; /* of documents.entry */
};

/* ------------------------------------------------------------------ documents */

static void forget_problems(struct documents *d, struct document *doc, int *room)
{
	struct problem *next;

	d->errors -= doc->errors;
	d->warnings -= doc->warnings;
	for (struct problem *p = doc->problems; p; p = next) {
		next = p->next;
		free(p);
		d->stored--;
		++*room;
	}
	doc->problems = NULL;
	doc->problems_end = &doc->problems;
	doc->errors = doc->warnings = 0;
}

static void document_free(struct documents *d, struct claims *c, struct document *doc, int *room)
{
	list_each_safe(pos, next, &doc->claims)
		claims_give_up(c, container_of(pos, struct claim, of_place));
	forget_problems(d, doc, room);
	free(doc);
}

static struct document *document_new(const char *file)
{
	struct document *doc = mem_alloc(sizeof(*doc));

	doc->place.file = file;
	doc->problems_end = &doc->problems;
	list_init(&doc->list);
	list_init(&doc->claims);
	return doc;
}

static void move_lines(struct document *doc, uint32_t by)
{
	for (struct problem *p = doc->problems; p; p = p->next)
		p->line += by;
	list_each(pos, &doc->claims) {
		struct claim *c = container_of(pos, struct claim, of_place);

		/* A last good version has the line of a text that is no more: near enough. */
		c->object->line += by;
	}
}

/* ------------------------------------------------------------------ decoding one document */

static void on_emit(struct k8s_sink *sink, struct object *o)
{
	struct reading *r = container_of(sink, struct reading, sink);

	claims_add(r->claims, o, CLAIM_GIVEN, &r->at->place, r->items++, &r->at->claims);
}

static void on_reject(struct k8s_sink *sink, enum object_kind kind, const char *namespace, const char *name,
		      struct object *stand_in)
{
	struct reading *r = container_of(sink, struct reading, sink);
	struct reject *j = mem_alloc(sizeof(*j));

	j->document = r->at;
	j->kind = kind;
	j->parsed = r->parsed;
	j->item = r->items++;
	j->stand_in = stand_in;
	text_copy(j->namespace, sizeof(j->namespace), namespace);
	text_copy(j->name, sizeof(j->name), name);
	if (!*name || *name == '(')
		r->unreadable = true;
	list_add(&r->rejects, &j->list);
}

static void on_report(struct k8s_sink *sink, const struct problem *p)
{
	struct reading *r = container_of(sink, struct reading, sink);
	struct documents *d = r->documents;
	struct document *doc = r->at;
	struct problem *copy;

	doc->errors += !p->warning;
	doc->warnings += p->warning;
	d->errors += !p->warning;
	d->warnings += p->warning;
	if (r->logged++ < LOGGED)
		log_line(p->warning ? LOG_WARNING : LOG_ERROR, "%s line %u: %s%s%s%s%s", p->file, p->line,
			 p->object, *p->object ? ": " : "", p->field, *p->field ? " " : "", p->reason);
	if (*r->room + r->spare <= 0) {
		doc->dropped = true;
		return;
	}
	copy = mem_alloc(sizeof(*copy));
	*copy = *p;
	copy->next = NULL;
	*doc->problems_end = copy;
	doc->problems_end = &copy->next;
	d->stored++;
	--*r->room;
}

/* kubectl takes JSON in a .yaml too, and YAML does not take all of JSON. */
static bool parse_json_in_yaml(struct reading *r, const char *bytes, size_t len, struct doc **ret)
{
	struct doc_error error;
	uint32_t line = r->line;
	size_t i = len >= 3 && !memcmp(bytes, "---", 3) ? 3 : 0;

	for (; i < len && strchr(" \t\r\n", bytes[i]) && bytes[i]; i++)
		line += bytes[i] == '\n';
	return i < len && bytes[i] == '{' && !doc_parse(&r->scratch, bytes + i, len - i, true, line, ret, &error);
}

static void decode(struct reading *r, const char *bytes, size_t len)
{
	const char *file = r->documents->file;
	struct doc_error error;
	struct doc *tree;

	r->items = 0;
	r->parsed = true;
	if ((!r->json && parse_json_in_yaml(r, bytes, len, &tree)) ||
	    !doc_parse(&r->scratch, bytes, len, r->json, r->line, &tree, &error)) {
		if (r->item && !r->json) /* a list of the one */
			for (tree = tree->child; tree; tree = tree->next)
				k8s_decode(tree, file, &r->sink);
		else
			k8s_decode(tree, file, &r->sink);
	} else {
		r->parsed = false;
		r->unreadable = true;
		k8s_broken(bytes, len, r->line, &error, file, &r->sink);
	}
	if (r->scratch.bytes > SCRATCH_MAX)
		arena_free(&r->scratch);
}

/* ------------------------------------------------------------------ what is still the same */

static void build_by_hash(struct reading *r)
{
	r->by_hash_built = true;
	for (unsigned i = 0; i < r->documents->count; i++) {
		struct hashed *h = arena_alloc(&r->index, sizeof(*h));

		h->at = i;
		table_add(&r->by_hash, &h->link, r->documents->entry[i].hash);
	}
}

static bool same(const struct reading *r, unsigned i, uint64_t hash, size_t len)
{
	const struct entry *e = &r->documents->entry[i];

	return e->hash == hash && e->len == len && !r->matched[i];
}

/*
 * Where the document was, or -1. A few changes are looked for nearby; only when documents have moved further away
 * is the index worth its price. What is not found is decoded again, which is never wrong.
 */
static int find_old(struct reading *r, uint64_t hash, size_t len)
{
	unsigned expected = r->expected, count = r->documents->count;

	if (expected < count && same(r, expected, hash, len))
		return (int)expected;
	for (unsigned i = expected > NEARBY ? expected - NEARBY : 0; i < expected + NEARBY && i < count; i++)
		if (same(r, i, hash, len))
			return (int)i;
	if (r->missed++ < NEARBY)
		return -1;
	if (!r->by_hash_built)
		build_by_hash(r);
	for (struct table_link *l = table_first(&r->by_hash, hash); l; l = table_next_same(l)) {
		struct hashed *h = container_of(l, struct hashed, link);

		if (same(r, h->at, hash, len))
			return (int)h->at;
	}
	return -1;
}

static uint32_t count_lines(const char *bytes, size_t len)
{
	uint32_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += bytes[i] == '\n';
	return n;
}

/* The next one: documents.entry[was] again, or new (-1). */
static struct entry *push(struct reading *r, int was)
{
	struct entry *e;

	if (r->count == r->size) {
		r->size = r->size ? 2 * r->size : r->documents->count + 16;
		r->entry = mem_grow(r->entry, r->size, sizeof(*r->entry));
		r->from = mem_grow(r->from, r->size, sizeof(*r->from));
	}
	e = &r->entry[r->count];
	r->from[r->count++] = (uint32_t)(was + 1);
	if (was < 0)
		return e;
	*e = r->documents->entry[was];
	e->line = r->line;
	r->matched[was] = true;
	r->expected = (unsigned)was + 1;
	r->line += e->lines;
	return e;
}

static void take_part(struct reading *r, const char *bytes, size_t len)
{
	uint64_t hash = table_hash(bytes, len) ^ (r->item ? ITEMS_HASH : 0);
	int was = find_old(r, hash, len);
	struct entry *e = push(r, was);

	if (was >= 0)
		return;
	*e = (struct entry){.document = document_new(r->documents->file),
			    .hash = hash,
			    .len = (uint32_t)len,
			    .line = r->line,
			    .lines = count_lines(bytes, len)};
	r->at = e->document;
	r->at->place.index = r->count - 1;
	decode(r, bytes, len);
	if (r->at->dropped)
		e->len = 0;
	r->line += e->lines;
}

static void add_shape(struct reading *r, const struct list_shape *s, unsigned count)
{
	r->list = mem_grow(r->list, r->lists + 1, sizeof(*r->list));
	r->list[r->lists] = *s;
	r->list[r->lists].first = r->count;
	r->list[r->lists++].count = count;
}

/* `item`: as doc_split_list found them in the List of these bytes. */
static void take_items(struct reading *r, const char *bytes, size_t len, const struct doc_part *item, unsigned count)
{
	size_t head = item[0].at, end = item[count - 1].at + item[count - 1].len;
	struct list_shape s = {.head = head,
			       .head_hash = table_hash(bytes, head),
			       .head_lines = count_lines(bytes, head),
			       .tail = len - end,
			       .tail_hash = table_hash(bytes + end, len - end),
			       .tail_lines = count_lines(bytes + end, len - end)};
	size_t at = 0;

	while (bytes[head + s.dash] == ' ')
		s.dash++;
	if (!r->json)
		add_shape(r, &s, count);
	r->item = true;
	for (unsigned i = 0; i < count; i++) {
		r->line += count_lines(bytes + at, item[i].at - at);
		take_part(r, bytes + item[i].at, item[i].len);
		at = item[i].at + item[i].len;
	}
	r->item = false;
	r->line += s.tail_lines;
}

/*
 * A document, or the items of a large List one by one: so a change in it costs one item, and its tree never stands
 * in memory as a whole. False: too many.
 */
static bool take_document(struct reading *r, const char *bytes, size_t len)
{
	unsigned count = 0;
	struct doc_part *item = len < LIST_MIN ? NULL : doc_split_list(bytes, len, r->json, &count);
	bool fits = r->count + (item ? count : 1) <= DOCUMENTS_MAX;

	if (fits && item)
		take_items(r, bytes, len, item, count);
	else if (fits)
		take_part(r, bytes, len);
	free(item);
	return fits;
}

/* ------------------------------------------------------------------ last good versions */

struct good { /* an object of a document that is no more */
	struct table_link link;
	struct claim *claim;
};

static uint64_t name_hash(enum object_kind kind, const char *namespace, const char *name)
{
	return table_hash(namespace, strlen(namespace)) * 0x9e3779b97f4a7c15u +
	       table_hash(name, strlen(name)) + kind;
}

static void index_good(struct reading *r, struct table *t, unsigned *ret_policies)
{
	list_each(d, &r->old) {
		struct document *doc = container_of(d, struct document, list);

		list_each(pos, &doc->claims) {
			struct claim *c = container_of(pos, struct claim, of_place);
			struct good *g = arena_alloc(&r->index, sizeof(*g));

			g->claim = c;
			if (c->rank == CLAIM_STAND_IN)
				continue;
			*ret_policies += c->object->kind == KIND_AUTHORIZATION_POLICY ||
					 c->object->kind == KIND_PEER_AUTHENTICATION;
			table_add(t, &g->link, name_hash(c->object->kind, c->object->namespace, c->object->name));
		}
	}
}

static struct good *find_good(const struct table *t, const struct reject *j)
{
	struct table_link *l = table_first(t, name_hash(j->kind, j->namespace, j->name));

	for (; l; l = table_next_same(l)) {
		struct good *g = container_of(l, struct good, link);
		const struct object *o = g->claim->object;

		if (o->kind == j->kind && !strcmp(o->name, j->name) && !strcmp(o->namespace, j->namespace))
			return g;
	}
	return NULL;
}

/* Nothing goes away while the file cannot be read: all that is left stays, under the first unreadable document. */
static unsigned keep_all(struct reading *r)
{
	struct document *to = container_of(r->rejects.next, struct reject, list)->document;
	unsigned kept = 0;

	list_each(d, &r->old) {
		struct document *doc = container_of(d, struct document, list);

		list_each_safe(pos, next, &doc->claims) {
			struct claim *c = container_of(pos, struct claim, of_place);
			bool stand_in = c->rank == CLAIM_STAND_IN;

			claims_move(r->claims, c, stand_in ? CLAIM_STAND_IN : CLAIM_LAST_GOOD, &to->place,
				    &to->claims);
			kept++;
		}
	}
	return kept;
}

/* Each rejected object keeps its last good version, or gets its stand-in. */
static void resolve_rejects(struct reading *r)
{
	struct table good = {0};
	unsigned kept = 0, policies = 0;

	if (list_empty(&r->rejects))
		return;
	index_good(r, &good, &policies);
	list_each(pos, &r->rejects) {
		struct reject *j = container_of(pos, struct reject, list);
		struct good *g = find_good(&good, j);

		if (g) {
			claims_move(r->claims, g->claim, CLAIM_LAST_GOOD, &j->document->place,
				    &j->document->claims);
			table_del(&good, &g->link);
			kept++;
		}
		/*
		 * The name of a policy in a text that is not YAML is a guess: where the file had a policy that is
		 * nowhere else now, that one is what the text was.
		 */
		if (g || (!j->parsed && policies)) {
			policies -= policies && j->stand_in;
			object_free(j->stand_in);
		} else if (j->stand_in) {
			claims_add(r->claims, j->stand_in, CLAIM_STAND_IN, &j->document->place, j->item,
				   &j->document->claims);
		}
	}
	if (r->unreadable)
		kept += keep_all(r);
	if (kept)
		log_warning("%s: the last good version of %u object%s stays in force", r->documents->file, kept,
			    text_plural(kept));
	list_each_safe(pos, next, &r->rejects)
		free(container_of(pos, struct reject, list));
	table_free(&good);
}

/* ------------------------------------------------------------------ reading */

struct reading *documents_begin(struct documents *d, struct claims *c, bool json, int *room)
{
	struct reading *r = mem_alloc(sizeof(*r));

	r->sink = (struct k8s_sink){on_emit, on_reject, on_report};
	r->documents = d;
	r->claims = c;
	r->json = json;
	r->room = room;
	r->spare = (int)d->stored;
	r->line = 1;
	r->matched = mem_alloc(d->count * sizeof(*r->matched));
	list_init(&r->old);
	list_init(&r->rejects);
	return r;
}

static const struct list_shape *expected_list(const struct reading *r)
{
	const struct documents *d = r->documents;

	for (unsigned i = 0; i < d->lists; i++)
		if (d->list[i].first == r->expected)
			return &d->list[i];
	return NULL;
}

/* The List at `at` if it is the expected one but for some items: only those are copied. Bytes, 0: it is not, -EIO. */
static ssize_t take_expected_list(struct reading *r, struct content *c, size_t at, const struct list_shape *s)
{
	const struct entry *known = r->documents->entry + s->first;
	struct items items;
	int is = items_compare(c, at, s, known, &items);

	if (is <= 0)
		return is;
	if (r->count + items.count > DOCUMENTS_MAX) {
		free(items.item);
		return 0;
	}
	add_shape(r, s, items.count);
	r->line += s->head_lines;
	r->item = true;
	for (unsigned i = 0; i < items.count && is >= 0; i++) {
		const struct item *item = &items.item[i];
		unsigned was = s->first + (unsigned)item->was;
		const char *bytes;

		/* One that is known may be taken already, by an equal one that is new. */
		if (item->was >= 0 && !r->matched[was]) {
			(void)push(r, (int)was);
			continue;
		}
		is = content_copy(c, item->at, item->len, &bytes);
		if (!is)
			take_part(r, bytes, item->len);
	}
	r->item = false;
	r->line += s->tail_lines;
	free(items.item);
	return is < 0 ? is : (ssize_t)items.len;
}

/*
 * Bytes of the document at `at` if it is the expected one, as most are when a large file changes: it need not be split
 * off, nor copied. 0: it is not, or that takes a closer look.
 */
static ssize_t take_expected(struct reading *r, struct content *c, size_t at)
{
	unsigned expected = r->expected;
	const struct list_shape *list;
	const struct entry *e;
	int same;

	if (r->json || expected >= r->documents->count || r->matched[expected] || r->count == DOCUMENTS_MAX)
		return 0;
	list = expected_list(r);
	if (list)
		return take_expected_list(r, c, at, list);
	e = &r->documents->entry[expected];
	same = e->len ? content_same(c, at, e->len, e->hash) : 0;
	if (same <= 0)
		return same;
	(void)push(r, (int)expected);
	return (ssize_t)e->len;
}

int documents_read(struct reading *r, struct content *c)
{
	size_t at = c->begin, len;
	const char *bytes;

	while (at < c->size) {
		ssize_t took = take_expected(r, c, at);

		if (!took) {
			took = content_document(c, at, r->json, &bytes, &len);
			if (!took && !take_document(r, bytes, len))
				took = -E2BIG;
			if (!took)
				took = (ssize_t)len;
		}
		if (took < 0)
			return (int)took;
		at += (size_t)took;
	}
	return 0;
}

static void reading_free(struct reading *r)
{
	table_free(&r->by_hash);
	arena_free(&r->scratch);
	arena_free(&r->index);
	free(r->matched);
	free(r->from);
	free(r);
}

bool documents_commit(struct reading *r)
{
	struct documents *d = r->documents;
	bool changed = false;

	for (unsigned i = 0; i < r->count; i++) {
		uint32_t from = r->from[i], by = from ? r->entry[i].line - d->entry[from - 1].line : 0;

		if (from == i + 1 && !by)
			continue;
		changed = true;
		r->entry[i].document->place.index = i;
		if (by)
			move_lines(r->entry[i].document, by); /* wraps both ways */
	}
	for (unsigned i = 0; i < d->count; i++)
		if (!r->matched[i])
			list_add(&r->old, &d->entry[i].document->list);
	changed = changed || !list_empty(&r->old);
	free(d->entry);
	free(d->list);
	d->entry = r->entry;
	d->count = r->count;
	d->list = r->list;
	d->lists = r->lists;
	if (r->logged > LOGGED)
		log_warning("%s: %u more problem%s: weftctl status", d->file, r->logged - LOGGED,
			    text_plural(r->logged - LOGGED));
	resolve_rejects(r);
	list_each_safe(pos, next, &r->old)
		document_free(d, r->claims, container_of(pos, struct document, list), r->room);
	if (changed)
		claims_reordered(r->claims);
	reading_free(r);
	return changed;
}

void documents_abort(struct reading *r)
{
	for (unsigned i = 0; i < r->count; i++)
		if (!r->from[i])
			document_free(r->documents, r->claims, r->entry[i].document, r->room);
	list_each_safe(pos, next, &r->rejects) {
		struct reject *j = container_of(pos, struct reject, list);

		object_free(j->stand_in);
		free(j);
	}
	free(r->entry);
	free(r->list);
	reading_free(r);
}

/* ------------------------------------------------------------------ the documents of a file */

void documents_init(struct documents *d, const char *file)
{
	*d = (struct documents){.file = file};
}

void documents_drop(struct documents *d, struct claims *c, int *room)
{
	for (unsigned i = 0; i < d->count; i++)
		document_free(d, c, d->entry[i].document, room);
	free(d->entry);
	free(d->list);
	d->entry = NULL;
	d->list = NULL;
	d->count = d->lists = 0;
}

void documents_problems(const struct documents *d, void (*problem)(void *ctx, const struct problem *p), void *ctx)
{
	for (unsigned i = 0; i < d->count; i++)
		for (const struct problem *p = d->entry[i].document->problems; p; p = p->next)
			problem(ctx, p);
}
