/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scene.h: objects from YAML, pods, and real kernel maps for the tests of mesh/world and control/publish. All
 * functions are static: files beside a test are linked into tests of lower floors too.
 */
#ifndef WEFT_TEST_SCENE_H
#define WEFT_TEST_SCENE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "world.h"

#define SCENE_FN static __attribute__((unused))

struct scene {
	struct store *store;
	struct world *world;
};

struct scene_sink {
	struct k8s_sink sink;
	struct store *store;
};

SCENE_FN void scene_emit(struct k8s_sink *s, struct object *o)
{
	store_put(container_of(s, struct scene_sink, sink)->store, o);
}

SCENE_FN void scene_reject(struct k8s_sink *s, enum object_kind kind, const char *namespace, const char *name,
			   struct object *stand_in)
{
	fail_msg("rejected %s %s/%s", object_kind_name(kind), namespace, name);
}

SCENE_FN void scene_report(struct k8s_sink *s, const struct problem *p)
{
	if (!p->warning)
		fail_msg("line %u %s %s: %s", p->line, p->object, p->field, p->reason);
}

/* One document of YAML into the store. */
SCENE_FN void scene_yaml(struct store *store, const char *text)
{
	struct scene_sink s = {.sink = {scene_emit, scene_reject, scene_report}, .store = store};
	struct doc_error e = {0};
	struct arena a = {0};
	struct doc *doc;

	if (doc_parse(&a, text, strlen(text), false, 0, &doc, &e))
		fail_msg("line %u: %s", e.line, e.reason);
	k8s_decode(doc, "test.yaml", &s.sink);
	arena_free(&a);
}

SCENE_FN struct scene scene_new(void)
{
	struct scene s = {.store = store_new()};

	s.world = world_new(s.store, "node1", "cluster.local", "istio-system");
	return s;
}

SCENE_FN void scene_free(struct scene *s)
{
	world_free(s->world);
	store_free(s->store);
}

/* labels: "app=web,tier=1" */
SCENE_FN void scene_enrol(struct world *w, unsigned number, const char *name, const char *account, const char *ips,
			  const char *labels)
{
	struct wire_pod *p = mem_alloc(sizeof(*p));
	char *list = mem_string(ips), *at, *save = NULL, why[256] = "";
	size_t n = 0;

	p->netns = 1000 + number;
	p->pod = number;
	text_copy(p->namespace, sizeof(p->namespace), name);
	*strchr(p->namespace, '/') = '\0';
	text_copy(p->name, sizeof(p->name), strchr(name, '/') + 1);
	text_copy(p->service_account, sizeof(p->service_account), account);
	for (at = strtok_r(list, ",", &save); at; at = strtok_r(NULL, ",", &save))
		assert_int_equal(addr_parse(at, &p->addr[p->addrs++]), 0);
	free(list);
	list = mem_string(labels);
	for (at = strtok_r(list, ",", &save); at; at = strtok_r(NULL, ",", &save)) {
		memcpy(p->labels + n, at, strlen(at));
		n += strlen(at) + 1;
	}
	free(list);
	if (world_enrol(w, p, why))
		fail_msg("%s", why);
	free(p);
}

SCENE_FN struct abi_addr scene_addr(const char *text)
{
	struct abi_addr a;

	assert_int_equal(addr_parse(text, &a), 0);
	return a;
}

SCENE_FN struct object *scene_object(enum object_kind kind, const char *namespace, const char *name)
{
	struct object *o = object_new(kind);

	o->namespace = arena_string(&o->arena, namespace, strlen(namespace));
	o->name = arena_string(&o->arena, name, strlen(name));
	return o;
}

/* VIP 100.64.0.0/10 by number, port 80 named http. */
SCENE_FN struct object *scene_service(unsigned number)
{
	struct object *o;
	char name[32];

	snprintf(name, sizeof(name), "svc%u", number);
	o = scene_object(KIND_SERVICE, "load", name);
	o->service.vip = arena_alloc(&o->arena, sizeof(struct abi_addr));
	*o->service.vip = (struct abi_addr){
		.byte = {[10] = 0xff, 0xff, 100, 64 + (number >> 16), number >> 8 & 255, number & 255}};
	o->service.vips = 1;
	o->service.port = arena_alloc(&o->arena, sizeof(struct service_port));
	*o->service.port = (struct service_port){.name = "http", .port = 80, .target = 8080};
	o->service.ports = 1;
	return o;
}

/* Endpoints 10.b.c.d, `first` and the ones after it. */
SCENE_FN struct object *scene_slice(unsigned service, unsigned first, unsigned endpoints)
{
	char name[32], slice[40];
	struct object *o;

	snprintf(name, sizeof(name), "svc%u", service);
	snprintf(slice, sizeof(slice), "%s-x", name);
	o = scene_object(KIND_ENDPOINT_SLICE, "load", slice);
	o->slice.service = arena_string(&o->arena, name, strlen(name));
	o->slice.endpoint = arena_alloc(&o->arena, endpoints * sizeof(struct slice_endpoint) + 1);
	o->slice.endpoints = endpoints;
	for (unsigned i = 0; i < endpoints; i++) {
		unsigned n = first + i;

		o->slice.endpoint[i] = (struct slice_endpoint){
			.addr = {.byte = {[10] = 0xff, 0xff, 10, n >> 16, n >> 8 & 255, n & 255}},
			.ready = true,
			.serving = true,
			.weight = 1};
	}
	o->slice.port = arena_alloc(&o->arena, sizeof(struct slice_port));
	*o->slice.port = (struct slice_port){.name = "http", .port = 8080};
	o->slice.ports = 1;
	return o;
}

#endif
