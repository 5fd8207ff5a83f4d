/* SPDX-License-Identifier: Apache-2.0 */
/* claims.c: which object has a name when several places give it. */
#include <stdlib.h>
#include <string.h>

#include "claims.h"

#define LOGGED 20 /* names given twice that the log tells one by one */

struct claimed { /* one name; the texts stand behind it */
	struct table_link link;
	struct list claims;    /* claim.of_name */
	struct list unsettled; /* while something about it changed */
	struct list contested; /* while more than one claim is left after settling */
	struct claim *in_store;
	enum object_kind kind;
	const char *namespace, *name;
};

struct claims {
	struct store *store;
	struct table names;
	struct list unsettled, contested;
};

struct claims *claims_new(struct store *store)
{
	struct claims *c = mem_alloc(sizeof(*c));

	c->store = store;
	list_init(&c->unsettled);
	list_init(&c->contested);
	return c;
}

static void claimed_free(struct claims *c, struct claimed *n)
{
	table_del(&c->names, &n->link);
	list_del(&n->unsettled);
	list_del(&n->contested);
	free(n);
}

void claims_free(struct claims *c)
{
	struct table_link *next;

	if (!c)
		return;
	for (struct table_link *l = table_walk(&c->names, NULL); l; l = next) {
		struct claimed *n = container_of(l, struct claimed, link);

		next = table_walk(&c->names, l);
		list_each_safe(pos, after, &n->claims) {
			struct claim *claim = container_of(pos, struct claim, of_name);

			if (claim != n->in_store)
				object_free(claim->object);
			free(claim);
		}
		claimed_free(c, n);
	}
	table_free(&c->names);
	free(c);
}

static struct claimed *claimed_of(struct claims *c, const struct object *o)
{
	size_t len_space = strlen(o->namespace) + 1, len_name = strlen(o->name) + 1;
	uint64_t h = table_hash(o->namespace, len_space) * 0x9e3779b97f4a7c15u +
		     table_hash(o->name, len_name) + o->kind;
	struct claimed *n;
	char *text;

	for (struct table_link *l = table_first(&c->names, h); l; l = table_next_same(l)) {
		n = container_of(l, struct claimed, link);
		if (n->kind == o->kind && !strcmp(n->name, o->name) && !strcmp(n->namespace, o->namespace))
			return n;
	}
	n = mem_alloc(sizeof(*n) + len_space + len_name);
	text = (char *)(n + 1);
	n->kind = o->kind;
	n->namespace = memcpy(text, o->namespace, len_space);
	n->name = memcpy(text + len_space, o->name, len_name);
	list_init(&n->claims);
	list_init(&n->unsettled);
	list_init(&n->contested);
	table_add(&c->names, &n->link, h);
	return n;
}

static void unsettle(struct claims *c, struct claimed *n)
{
	if (list_empty(&n->unsettled))
		list_add(&c->unsettled, &n->unsettled);
}

void claims_add(struct claims *c, struct object *o, enum claim_rank rank, const struct claim_place *place,
		uint32_t item, struct list *of_place)
{
	struct claim *claim = mem_alloc(sizeof(*claim));

	claim->claimed = claimed_of(c, o);
	claim->object = o;
	claim->rank = rank;
	claim->place = place;
	claim->item = item;
	list_add(of_place, &claim->of_place);
	list_add(&claim->claimed->claims, &claim->of_name);
	unsettle(c, claim->claimed);
}

void claims_move(struct claims *c, struct claim *claim, enum claim_rank rank,
		 const struct claim_place *place, struct list *of_place)
{
	list_del(&claim->of_place);
	list_add(of_place, &claim->of_place);
	claim->place = place;
	claim->rank = rank;
	unsettle(c, claim->claimed);
}

void claims_give_up(struct claims *c, struct claim *claim)
{
	list_del(&claim->of_place);
	claim->place = NULL;
	unsettle(c, claim->claimed);
}

void claims_reordered(struct claims *c)
{
	list_each(pos, &c->contested)
		unsettle(c, container_of(pos, struct claimed, contested));
}

/* ------------------------------------------------------------------ settling */

static bool before(const struct claim *a, const struct claim *b)
{
	int order;

	if (a->rank != b->rank)
		return a->rank < b->rank;
	order = strcmp(a->place->file, b->place->file);
	if (order)
		return order < 0;
	if (a->place->index != b->place->index)
		return a->place->index < b->place->index;
	return a->item < b->item;
}

static void drop(struct claims *c, struct claimed *n, struct claim *claim)
{
	if (n->in_store == claim) {
		n->in_store = NULL;
		store_del(c->store, n->kind, n->namespace, n->name);
	} else {
		object_free(claim->object);
	}
	list_del(&claim->of_name);
	free(claim);
}

static bool settle(struct claims *c, struct claimed *n)
{
	struct claim *best = NULL;
	bool changed = false;
	unsigned left = 0;

	list_del(&n->unsettled);
	list_each_safe(pos, next, &n->claims) {
		struct claim *claim = container_of(pos, struct claim, of_name);

		if (!claim->place) {
			changed = true;
			drop(c, n, claim);
			continue;
		}
		left++;
		if (!best || before(claim, best))
			best = claim;
	}
	if (best != n->in_store) {
		if (n->in_store) /* it lives on as a claim: store_put would free it */
			(void)store_take(c->store, n->kind, n->namespace, n->name);
		store_put(c->store, best->object);
		n->in_store = best;
		best->told = false;
		changed = true;
	}
	if (left < 2)
		list_del(&n->contested);
	else if (list_empty(&n->contested))
		list_add(&c->contested, &n->contested);
	changed = changed || left > 1;
	if (!left)
		claimed_free(c, n);
	return changed;
}

bool claims_settle(struct claims *c)
{
	bool changed = false;

	list_each_safe(pos, next, &c->unsettled)
		if (settle(c, container_of(pos, struct claimed, unsettled)))
			changed = true;
	return changed;
}

unsigned claims_losers(const struct claims *c,
		       void (*loser)(void *ctx, struct claim *loser, const struct object *winner), void *ctx)
{
	unsigned count = 0;

	list_each(pos, &c->contested) {
		struct claimed *n = container_of(pos, struct claimed, contested);

		list_each(p, &n->claims) {
			struct claim *claim = container_of(p, struct claim, of_name);

			if (claim == n->in_store || claim->rank != CLAIM_GIVEN)
				continue;
			count++;
			if (loser)
				loser(ctx, claim, n->in_store->object);
		}
	}
	return count;
}

static void log_loser(void *ctx, struct claim *loser, const struct object *winner)
{
	unsigned *logged = ctx;

	if (loser->told)
		return;
	loser->told = true;
	if ((*logged)++ < LOGGED)
		log_error("%s line %u: %s %s%s%s: metadata.name is already given in %s line %u: this one is not used",
			  loser->object->file, loser->object->line, object_kind_name(loser->object->kind),
			  loser->object->namespace, *loser->object->namespace ? "/" : "", loser->object->name,
			  winner->file, winner->line);
}

void claims_log(const struct claims *c)
{
	unsigned logged = 0;

	claims_losers(c, log_loser, &logged);
}
