/* SPDX-License-Identifier: Apache-2.0 */
/* The store against a plain array, under random puts, takes and deletes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model.h"

static struct object *make(enum object_kind kind, const char *namespace, const char *name, const char *service)
{
	struct object *o = object_new(kind);

	o->namespace = arena_string(&o->arena, namespace, strlen(namespace));
	o->name = arena_string(&o->arena, name, strlen(name));
	if (service)
		o->slice.service = arena_string(&o->arena, service, strlen(service));
	return o;
}

struct changes {
	unsigned count;
	char last[200];
};

static void changed(void *ctx, enum object_kind kind, const char *namespace, const char *name)
{
	struct changes *c = ctx;

	c->count++;
	snprintf(c->last, sizeof(c->last), "%s %s/%s", object_kind_name(kind), namespace, name);
}

static void by_name(void **state)
{
	struct store *s = store_new();
	struct object *a = make(KIND_POD, "x", "a", NULL), *b = make(KIND_POD, "x", "a", NULL), *taken;
	struct changes c = {0};

	store_put(s, a);
	store_put(s, make(KIND_SERVICE, "x", "a", NULL));
	store_put(s, make(KIND_POD, "a", "x", NULL));
	assert_ptr_equal(store_get(s, KIND_POD, "x", "a"), a);
	assert_null(store_get(s, KIND_POD, "xa", ""));
	assert_null(store_get(s, KIND_NODE, "x", "a"));
	store_changes(s, changed, &c);
	assert_int_equal(c.count, 3);
	store_put(s, b); /* frees a */
	store_put(s, make(KIND_POD, "x", "a", NULL));
	assert_int_equal(store_count(s, KIND_POD), 2);
	c.count = 0;
	store_changes(s, changed, &c);
	assert_int_equal(c.count, 1);
	assert_string_equal(c.last, "Pod x/a");
	taken = store_take(s, KIND_POD, "x", "a");
	assert_null(store_get(s, KIND_POD, "x", "a"));
	assert_null(store_take(s, KIND_POD, "x", "a"));
	c.count = 0;
	store_changes(s, changed, &c);
	assert_int_equal(c.count, 1);
	store_put(s, taken);
	store_del(s, KIND_POD, "x", "a");
	store_del(s, KIND_POD, "x", "nobody");
	store_changes(s, changed, &c);
	assert_int_equal(c.count, 2);
	store_changes(s, changed, &c);
	assert_int_equal(c.count, 2);
	store_free(s);
}

/* The callback of store_changes may read the store, and a name of an object that is gone is still readable. */
static void read_in_callback(void *ctx, enum object_kind kind, const char *namespace, const char *name)
{
	struct store *s = *(struct store **)ctx;

	assert_string_equal(name, "a");
	assert_null(store_get(s, kind, namespace, name));
}

static void changes_of_the_gone(void **state)
{
	struct store *s = store_new();

	store_put(s, make(KIND_POD, "x", "a", NULL));
	store_del(s, KIND_POD, "x", "a");
	store_changes(s, read_in_callback, &s);
	store_free(s);
}

#define NAMES 12
#define SERVICES 3

/* What is in the store, one slot per name; service -1: absent. */
static void compare(const struct store *s, const int *service)
{
	unsigned count = 0, found = 0;
	char name[16], svc[16];

	for (int i = 0; i < NAMES; i++) {
		struct object *o;

		snprintf(name, sizeof(name), "n%d", i);
		o = store_get(s, KIND_ENDPOINT_SLICE, "x", name);
		assert_int_equal(!!o, service[i] >= 0);
		count += service[i] >= 0;
	}
	assert_int_equal(store_count(s, KIND_ENDPOINT_SLICE), count);
	for (const struct object *o = NULL; (o = store_each(s, KIND_ENDPOINT_SLICE, o));)
		found++;
	assert_int_equal(found, count);
	for (int v = 0; v < SERVICES; v++) {
		unsigned of_service = 0;

		found = 0;
		for (int i = 0; i < NAMES; i++)
			of_service += service[i] == v;
		snprintf(svc, sizeof(svc), "s%d", v);
		for (const struct object *o = NULL; (o = store_slices(s, "x", svc, o)); found++)
			assert_string_equal(o->slice.service, svc);
		assert_int_equal(found, of_service);
		assert_null(store_slices(s, "y", svc, NULL));
	}
}

static void random_walk(void **state)
{
	struct store *s = store_new();
	unsigned seed = 7;
	int service[NAMES];

	memset(service, -1, sizeof(service));
	for (int step = 0; step < 20000; step++) {
		int i = rand_r(&seed) % NAMES, v = rand_r(&seed) % (SERVICES + 1);
		char name[16], svc[16];

		snprintf(name, sizeof(name), "n%d", i);
		snprintf(svc, sizeof(svc), "s%d", v);
		switch (rand_r(&seed) % 4) {
		case 0:
			store_del(s, KIND_ENDPOINT_SLICE, "x", name);
			service[i] = -1;
			break;
		case 1:
			object_free(store_take(s, KIND_ENDPOINT_SLICE, "x", name));
			service[i] = -1;
			break;
		default:
			store_put(s, make(KIND_ENDPOINT_SLICE, "x", name, v < SERVICES ? svc : NULL));
			service[i] = v;
		}
		if (step % 97 == 0)
			store_changes(s, NULL, NULL);
		compare(s, service);
	}
	store_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_name),
		cmocka_unit_test(changes_of_the_gone),
		cmocka_unit_test(random_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
