/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML of Gateways, Secrets, ReferenceGrants, routes and their Services, a line "===", a host: decoded, put into a
 * world, the certificates read, asked. Beside crashes: a condition has its reason, a Secret of another namespace was
 * granted, no message has a key in it, the order of the objects makes no difference, and nothing is left behind.
 */
#include <stdlib.h>
#include <string.h>

#include "documents.h"
#include "front.h"
#include "world.h"

#define MOST 64 /* objects */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct k8s_sink sink;
	struct object *object[MOST];
	unsigned objects;
};

static void on_emit(struct k8s_sink *sink, struct object *o)
{
	struct seen *s = container_of(sink, struct seen, sink);
	bool take = s->objects < MOST;

	/* Two objects of one kind with one name cannot be: the store has the first. */
	for (unsigned i = 0; i < s->objects && take; i++)
		take = s->object[i]->kind != o->kind || strcmp(s->object[i]->name, o->name) ||
		       strcmp(s->object[i]->namespace, o->namespace);
	if (take)
		s->object[s->objects++] = o;
	else
		object_free(o);
}

/* The documents as a world; turned: the last object comes first. */
static struct world *world_of(const char *all, size_t left, bool turned)
{
	struct seen s = {.sink = {on_emit, on_reject, on_report}};
	struct store *store = store_new();
	struct world *w = world_new(store, "node1", "cluster.local", "istio-system");

	documents_decode(all, left, &s.sink);
	for (unsigned i = 0; i < s.objects; i++)
		store_put(store, s.object[turned ? s.objects - 1 - i : i]);
	(void)world_update(w);
	return w;
}

static bool has_grant(const struct world *w, const char *namespace)
{
	for (const struct object *o = store_each(w->store, KIND_REFERENCE_GRANT, NULL); o;
	     o = store_each(w->store, KIND_REFERENCE_GRANT, o))
		if (!strcmp(o->namespace, namespace))
			return true;
	return false;
}

/* As the worker reads them (proc/worker_gateway.c). */
static void read_certificates(const struct world *w, const struct gateway *g, const struct gateway_listener *l)
{
	struct front_pair *pair = mem_alloc(l->secrets * sizeof(*pair) + 1);
	struct front_listener f = {.number = l->number, .hostname = l->hostname, .pair = pair, .pairs = l->secrets};
	void *front;

	for (unsigned i = 0; i < l->secrets; i++) {
		const struct object *o = l->secret[i];

		require(o == store_get(w->store, KIND_SECRET, o->namespace, o->name));
		require(!strcmp(o->namespace, g->namespace) || has_grant(w, o->namespace));
		pair[i] = (struct front_pair){
			.name = o->name, .certificate = o->secret.certificate, .key = o->secret.key};
	}
	front = front_new(&f, 1);
	require(front || *f.why || !l->secrets);
	for (unsigned i = 0; i < l->secrets; i++)
		require(strlen(pair[i].key) < 40 || !strstr(f.why, pair[i].key));
	if (front)
		front_free(front);
	free(pair);
}

static void ask(const struct world *w, const struct world_gateway *g, struct http_text host)
{
	const struct gateway *plan = g->plan;

	for (unsigned i = 0; plan && i < plan->ports; i++) {
		const struct gateway_listener *l = gateway_listener(plan, plan->port[i].port, host);

		require(gateway_port(plan, plan->port[i].port) == &plan->port[i]);
		require(!l || (l->port == plan->port[i].port && l->secure == plan->port[i].secure));
		require(!l || gateway_name_is(l->hostname, host));
		if (l)
			(void)gateway_routes(l, host);
	}
	for (unsigned i = 0; plan && i < plan->listeners; i++)
		if (plan->listener[i].secure)
			read_certificates(w, plan, &plan->listener[i]);
}

static void compare(const struct world_gateway *g, const struct world *turned)
{
	const struct object_gateway *o = &g->object->gateway;
	const struct world_gateway *t = world_gateway_named(turned, g->namespace, g->name);

	require(t && t->object && t->sockets == g->sockets && !t->plan == !g->plan);
	for (unsigned i = 0; i < o->listeners; i++) {
		const struct world_gateway_listener *l = &g->listener[i];

		require(*l->accepted_reason && *l->resolved_reason);
		require((l->accepted && l->resolved && !l->conflicted) || *l->message);
		require(!strcmp(l->accepted_reason, t->listener[i].accepted_reason));
		require(!strcmp(l->resolved_reason, t->listener[i].resolved_reason));
		require(l->routes == t->listener[i].routes);
	}
}

static void end(struct world *w)
{
	struct store *store = w->store;

	for (int kind = 0; kind < KIND_COUNT; kind++)
		for (struct object *o; (o = store_each(store, kind, NULL));)
			store_del(store, kind, o->namespace, o->name);
	(void)world_update(w);
	world_gateway_taken(w);
	require(list_empty(&w->gateways));
	world_free(w);
	store_free(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *all = (const char *)data, *cut = size ? memmem(all, size, "\n===\n", 5) : NULL;
	size_t len = cut ? (size_t)(cut - all) + 1 : 0;
	struct world *w, *turned;
	struct http_text host;
	char name[256];
	uint16_t port;

	if (!cut || !http_host((struct http_text){cut + 5, size - len - 4}, name, &host, &port))
		return 0;
	w = world_of(all, len, false);
	turned = world_of(all, len, true);
	list_each(l, &w->gateways) {
		const struct world_gateway *g = container_of(l, struct world_gateway, link);

		if (!g->object)
			continue;
		compare(g, turned);
		ask(w, g, host);
	}
	end(w);
	end(turned);
	return 0;
}
