/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route_parts.h: what a route_table is made of: written by mesh/route_compile.c, read by mesh/route.c.
 *
 * All matches of all routes get a rank, in the order of precedence: of those that match a request, the lowest wins.
 *
 *	set (whose clients?) -> group (which path?) -> shape (which names of headers?) -> slot (which values?) -> entry
 *
 * So 10 000 routes that differ in their paths are 10 000 groups in a hash table, and 10 000 that differ in the value of
 * one header are one group with one shape and 10 000 slots in another. What cannot be hashed is looked at one after the
 * other: the distinct regular expressions of paths, and the shapes of one path (distinct sets of names).
 */
#ifndef WEFT_ROUTE_PARTS_H
#define WEFT_ROUTE_PARTS_H

#include "route.h"
#include "route_regex.h"

#define ROUTE_PATH_MOST 1025 /* longest path of a match: 1024 of the CRD, and the "/" before a service of gRPC */
#define ROUTE_VALUES 33	     /* of one match: method, 16 headers, 16 query parameters */

/* What is said about the path, the most specific first. */
enum route_class {
	CLASS_EXACT,  /* path; "/service/method" of gRPC */
	CLASS_PREFIX, /* path without a final "/"; "/service" */
	CLASS_METHOD, /* gRPC: method of any service */
	CLASS_REGEX,  /* path; service and method, each of which may be missing */
	CLASS_ANY     /* PathPrefix "/" says nothing about a path */
};

struct route_check { /* a value that must match a regular expression */
	struct http_text name;
	const struct route_regex *regex;
};
struct route_entry { /* one match of one rule */
	struct route_entry *next; /* in the slot, by rank */
	uint32_t rank;
	const struct route_shape *shape;
	struct http_text *value; /* one for each name of the shape, the method first */
	struct route_check *header, *query;
	unsigned headers, queries;
	const struct route_rule *rule;
};
struct route_slot { /* entries whose values have this hash, together with their shape */
	struct table_link link;
	struct route_entry *first, *last;
};
struct route_shape { /* the names whose values must be equal */
	struct route_shape *next; /* in the group, by their lowest ranks */
	struct table_link link;	  /* while it is compiled */
	const struct route_group *group;
	uint32_t first; /* lowest rank */
	uint64_t salt;
	bool method;
	struct http_text *name; /* headers, in lower case, then query parameters; both sorted */
	unsigned headers, queries;
};
struct route_group {
	struct table_link link;
	struct route_group *next; /* CLASS_REGEX: by their lowest ranks */
	enum route_class class;
	struct http_text text;
	const struct route_regex *path, *service, *method; /* CLASS_REGEX; NULL: any */
	uint32_t first;
	struct route_shape *shape, *last;
};
struct route_host { /* TLSRoute */
	struct table_link link;
	const char *name; /* "a.example"; "*.example" */
	const struct route_rule *rule;
};
struct route_set { /* the routes of one namespace's clients, or of all others */
	struct table_link link;
	const char *namespace;
	enum route_kind kind;
	struct table exact, prefix, method; /* struct route_group */
	uint64_t lengths[ROUTE_PATH_MOST / 64 + 1]; /* a bit for each length of a prefix that there is */
	size_t longest;
	uint64_t base; /* of the hash of prefixes */
	struct route_group *regex, *last_regex, *any;
	struct table slots, shapes, patterns; /* the last two: while it is compiled */
	struct table hosts;
	const struct route_rule *rest; /* TLSRoute without hostnames, TCPRoute */
};
struct route_table {
	uint32_t holders; /* atomic */
	struct arena arena;
	struct table consumers; /* struct route_set, by their namespace */
	struct route_set *producer; /* NULL: others than those have no routes */
	struct table regexes;
};

/* Hash of a prefix, byte by byte: a polynomial over 2^61 - 1 with a base that strangers do not know. */
static inline uint64_t route_prefix_step(uint64_t hash, uint64_t base, char c)
{
	const uint64_t p = (1ull << 61) - 1;
	unsigned __int128 product = (unsigned __int128)hash * base + (unsigned char)c + 1;
	uint64_t sum = ((uint64_t)product & p) + (uint64_t)(product >> 61);

	return sum >= p ? sum - p : sum;
}

static inline uint64_t route_slot_hash(const struct route_shape *s, const struct http_text *value)
{
	uint64_t hash = s->salt;

	for (unsigned i = 0; i < s->method + s->headers + s->queries; i++) {
		hash = (hash ^ table_hash(value[i].at, value[i].len)) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
	}
	return hash;
}

static inline uint64_t route_name_hash(const char *name)
{
	return table_hash(name, __builtin_strlen(name));
}

static inline struct http_text route_text(const char *s)
{
	return (struct http_text){s, __builtin_strlen(s)};
}

/* A copy for the table. */
static inline struct http_text route_keep(struct arena *a, struct http_text t)
{
	return (struct http_text){arena_string(a, t.len ? t.at : "", t.len), t.len};
}

static inline void *route_take(struct arena *a, size_t count, size_t size)
{
	return count ? arena_alloc(a, count * size) : NULL;
}

/* -------- compiling: mesh/route_rule.c, mesh/route_index.c */

/* The rules of the object, in the arena; status: what became of its references. */
struct route_rule *route_rules(struct arena *a, const struct object *o, const struct route_target *parent,
			       const struct route_world *w, struct route_status *s);

struct route_draft { /* one match, before it has a rank */
	const struct object_route_match *match;
	const struct route_rule *rule;
	unsigned order; /* of its rule among those of all routes, the oldest first */
	enum route_class class;
	unsigned length;
};
void route_index(struct route_table *t, struct route_set *s, struct route_draft *draft, unsigned drafts); /* sorts */
void route_index_done(struct route_set *s); /* what is needed for nothing but route_index() */
void route_index_free(struct route_table *t);

#endif
