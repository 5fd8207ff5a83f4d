/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c: all objects by (kind, namespace, name), slices by their service too, and what changed.
 */
#include <stdlib.h>
#include <string.h>

#include "model.h"

struct change { /* the names stand behind it */
	struct list list;
	struct table_link link;
	enum object_kind kind;
	const char *namespace, *name;
};

struct slices { /* of one service; lives while it has one. The names stand behind it */
	struct table_link link;
	struct list list; /* object.of_service */
	const char *namespace, *service;
};

struct store {
	struct table objects;	     /* struct object */
	struct table services;	     /* struct slices */
	struct table changed;	     /* struct change */
	struct list changes;	     /* the same, in order */
	struct list all[KIND_COUNT]; /* object.siblings */
	unsigned count[KIND_COUNT];
};

static uint64_t hash(enum object_kind kind, const char *namespace, const char *name)
{
	/* Two hashes instead of one over a joined key: nothing to copy. An odd factor keeps (a, b) from (b, a). */
	return table_hash(namespace, strlen(namespace)) * 0x9e3779b97f4a7c15u +
	       table_hash(name, strlen(name)) + kind;
}

/* A struct of `size` with two names behind it. */
static void *with_names(size_t size, const char *a, const char *b, const char **ret_a, const char **ret_b)
{
	size_t len_a = strlen(a) + 1, len_b = strlen(b) + 1;
	char *p = mem_alloc(size + len_a + len_b);

	*ret_a = memcpy(p + size, a, len_a);
	*ret_b = memcpy(p + size + len_a, b, len_b);
	return p;
}

struct store *store_new(void)
{
	struct store *s = mem_alloc(sizeof(*s));

	list_init(&s->changes);
	for (unsigned k = 0; k < KIND_COUNT; k++)
		list_init(&s->all[k]);
	return s;
}

struct object *store_get(const struct store *s, enum object_kind kind, const char *namespace, const char *name)
{
	struct table_link *l = table_first(&s->objects, hash(kind, namespace, name));

	for (; l; l = table_next_same(l)) {
		struct object *o = container_of(l, struct object, link);

		if (o->kind == kind && !strcmp(o->name, name) && !strcmp(o->namespace, namespace))
			return o;
	}
	return NULL;
}

static void note_change(struct store *s, enum object_kind kind, const char *namespace, const char *name)
{
	uint64_t h = hash(kind, namespace, name);
	struct table_link *l = table_first(&s->changed, h);
	const char *space_copy, *name_copy;
	struct change *c;

	for (; l; l = table_next_same(l)) {
		c = container_of(l, struct change, link);
		if (c->kind == kind && !strcmp(c->name, name) && !strcmp(c->namespace, namespace))
			return;
	}
	c = with_names(sizeof(*c), namespace, name, &space_copy, &name_copy);
	c->kind = kind;
	c->namespace = space_copy;
	c->name = name_copy;
	list_add(&s->changes, &c->list);
	table_add(&s->changed, &c->link, h);
}

/* ------------------------------------------------------------------ slices by service */

static struct slices *slices_of(const struct store *s, const char *namespace, const char *service)
{
	struct table_link *l = table_first(&s->services, hash(KIND_SERVICE, namespace, service));

	for (; l; l = table_next_same(l)) {
		struct slices *list = container_of(l, struct slices, link);

		if (!strcmp(list->service, service) && !strcmp(list->namespace, namespace))
			return list;
	}
	return NULL;
}

static void slice_add(struct store *s, struct object *o)
{
	struct slices *list;
	const char *namespace, *service;

	if (o->kind != KIND_ENDPOINT_SLICE || !o->slice.service)
		return;
	list = slices_of(s, o->namespace, o->slice.service);
	if (!list) {
		list = with_names(sizeof(*list), o->namespace, o->slice.service, &namespace, &service);
		list->namespace = namespace;
		list->service = service;
		list_init(&list->list);
		table_add(&s->services, &list->link, hash(KIND_SERVICE, namespace, service));
	}
	list_add(&list->list, &o->of_service);
}

static void slice_remove(struct store *s, struct object *o)
{
	struct slices *list;

	if (o->kind != KIND_ENDPOINT_SLICE || !o->slice.service)
		return;
	list = slices_of(s, o->namespace, o->slice.service);
	list_del(&o->of_service);
	if (!list_empty(&list->list))
		return;
	table_del(&s->services, &list->link);
	free(list);
}

struct object *store_slices(const struct store *s, const char *namespace, const char *service,
			    const struct object *after)
{
	const struct slices *list = slices_of(s, namespace, service);
	const struct list *next;

	if (!list)
		return NULL;
	next = after ? after->of_service.next : list->list.next;
	return next == &list->list ? NULL : container_of(next, struct object, of_service);
}

/* ------------------------------------------------------------------ put, take */

struct object *store_take(struct store *s, enum object_kind kind, const char *namespace, const char *name)
{
	struct object *o = store_get(s, kind, namespace, name);

	if (!o)
		return NULL;
	note_change(s, kind, o->namespace, o->name);
	slice_remove(s, o);
	table_del(&s->objects, &o->link);
	list_del(&o->siblings);
	s->count[kind]--;
	return o;
}

void store_put(struct store *s, struct object *o)
{
	object_free(store_take(s, o->kind, o->namespace, o->name));
	table_add(&s->objects, &o->link, hash(o->kind, o->namespace, o->name));
	list_add(&s->all[o->kind], &o->siblings);
	slice_add(s, o);
	s->count[o->kind]++;
	note_change(s, o->kind, o->namespace, o->name);
}

void store_del(struct store *s, enum object_kind kind, const char *namespace, const char *name)
{
	object_free(store_take(s, kind, namespace, name));
}

struct object *store_each(const struct store *s, enum object_kind kind, const struct object *after)
{
	const struct list *next = after ? after->siblings.next : s->all[kind].next;

	return next == &s->all[kind] ? NULL : container_of(next, struct object, siblings);
}

unsigned store_count(const struct store *s, enum object_kind kind)
{
	return s->count[kind];
}

void store_changes(struct store *s,
		   void (*changed)(void *ctx, enum object_kind kind, const char *namespace, const char *name),
		   void *ctx)
{
	list_each_safe(pos, next, &s->changes) {
		struct change *c = container_of(pos, struct change, list);

		if (changed)
			changed(ctx, c->kind, c->namespace, c->name);
		list_del(&c->list);
		table_del(&s->changed, &c->link);
		free(c);
	}
}

void store_free(struct store *s)
{
	if (!s)
		return;
	store_changes(s, NULL, NULL);
	for (unsigned k = 0; k < KIND_COUNT; k++) {
		list_each_safe(pos, next, &s->all[k]) {
			struct object *o = container_of(pos, struct object, siblings);

			slice_remove(s, o);
			object_free(o);
		}
	}
	table_free(&s->objects);
	table_free(&s->services);
	table_free(&s->changed);
	free(s);
}
