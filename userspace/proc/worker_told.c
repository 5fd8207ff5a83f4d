/* SPDX-License-Identifier: Apache-2.0 */
/* worker_told.c: what is wrong, said once in the log for as long as it is wrong: see worker.h. */
#include <stdlib.h>
#include <string.h>

#include "worker.h"

struct told {
	char *key;
	unsigned round; /* the last one in which it was wrong */
	struct table_link link;
};

void worker_told_say(struct worker_told *t, enum log_level level, const char *key, const char *text)
{
	uint64_t hash = table_hash(key, strlen(key));
	struct table_link *l = table_first(&t->said, hash);
	struct told *one;

	for (; l; l = table_next_same(l)) {
		one = container_of(l, struct told, link);
		if (text_equal(one->key, key)) {
			one->round = t->round;
			return;
		}
	}
	one = mem_alloc(sizeof(*one));
	one->key = mem_string(key);
	one->round = t->round;
	table_add(&t->said, &one->link, hash);
	log_line(level, "%s", text);
}

void worker_told_begin(struct worker_told *t)
{
	t->round++;
}

void worker_told_end(struct worker_told *t)
{
	for (struct table_link *l = table_walk(&t->said, NULL), *next; l; l = next) {
		struct told *one = container_of(l, struct told, link);

		next = table_walk(&t->said, l);
		if (one->round == t->round)
			continue;
		table_del(&t->said, l);
		free(one->key);
		free(one);
	}
}
