/* SPDX-License-Identifier: Apache-2.0 */
/* table.c: hash table of embedded links. */
#include <stdlib.h>
#include <sys/random.h>

#define XXH_INLINE_ALL /* the header alone: no library to link */
#include <xxhash.h>

#include "base.h"
#include "table_wide.h"

#define TABLE_FIRST 16 /* buckets */

static uint64_t seed;
static bool wide; /* this CPU can */

/*
 * Keys are names that strangers choose: with a seed of its own for each process they cannot choose
 * collisions. Where there is no randomness the seed stays 0, which is only easier to guess.
 */
static __attribute__((constructor)) void choose(void)
{
	if (getrandom(&seed, sizeof(seed), GRND_INSECURE) != (ssize_t)sizeof(seed))
		seed = 0;
	wide = TABLE_WIDE;
}

uint64_t table_hash(const void *key, size_t len)
{
	return wide && len >= TABLE_WIDE_MIN ? table_wide(key, len, seed) : XXH3_64bits_withSeed(key, len, seed);
}

struct table_link *table_next_same(const struct table_link *link)
{
	struct table_link *l;

	for (l = link->next; l; l = l->next)
		if (l->hash == link->hash)
			return l;
	return NULL;
}

struct table_link *table_first(const struct table *t, uint64_t hash)
{
	struct table_link *l;

	if (!t->buckets)
		return NULL;
	for (l = t->bucket[hash & (t->buckets - 1)]; l; l = l->next)
		if (l->hash == hash)
			return l;
	return NULL;
}

static void grow(struct table *t)
{
	size_t i, buckets = t->buckets ? 2 * t->buckets : TABLE_FIRST;
	struct table_link **bucket = mem_grow(NULL, buckets, sizeof(struct table_link *));

	for (i = 0; i < buckets; i++)
		bucket[i] = NULL;
	for (i = 0; i < t->buckets; i++) {
		struct table_link *l = t->bucket[i], *next;

		for (; l; l = next) {
			struct table_link **to = &bucket[l->hash & (buckets - 1)];

			next = l->next;
			l->next = *to;
			*to = l;
		}
	}
	free(t->bucket);
	t->bucket = bucket;
	t->buckets = buckets;
}

void table_add(struct table *t, struct table_link *link, uint64_t hash)
{
	struct table_link **head;

	if (t->count >= t->buckets)
		grow(t);
	head = &t->bucket[hash & (t->buckets - 1)];
	link->hash = hash;
	link->next = *head;
	*head = link;
	t->count++;
}

void table_del(struct table *t, struct table_link *link)
{
	struct table_link **at;

	if (!t->buckets)
		return;
	for (at = &t->bucket[link->hash & (t->buckets - 1)]; *at; at = &(*at)->next) {
		if (*at != link)
			continue;
		*at = link->next;
		link->next = NULL;
		t->count--;
		return;
	}
}

void table_free(struct table *t)
{
	free(t->bucket);
	*t = (struct table){0};
}

struct table_link *table_walk(const struct table *t, const struct table_link *after)
{
	size_t i = 0;

	if (after) {
		if (after->next)
			return after->next;
		i = (after->hash & (t->buckets - 1)) + 1;
	}
	for (; i < t->buckets; i++)
		if (t->bucket[i])
			return t->bucket[i];
	return NULL;
}
