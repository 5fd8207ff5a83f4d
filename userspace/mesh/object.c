/* SPDX-License-Identifier: Apache-2.0 */
/* object.c: one object in its own arena, and its kinds. */
#include <string.h>

#include "model.h"

static const char *const kind_names[KIND_COUNT] = {
	[KIND_NAMESPACE] = "Namespace",
	[KIND_NODE] = "Node",
	[KIND_POD] = "Pod",
	[KIND_SERVICE_ACCOUNT] = "ServiceAccount",
	[KIND_SERVICE] = "Service",
	[KIND_ENDPOINT_SLICE] = "EndpointSlice",
	[KIND_AUTHORIZATION_POLICY] = "AuthorizationPolicy",
	[KIND_PEER_AUTHENTICATION] = "PeerAuthentication",
	[KIND_HTTP_ROUTE] = "HTTPRoute",
	[KIND_GRPC_ROUTE] = "GRPCRoute",
	[KIND_TLS_ROUTE] = "TLSRoute",
	[KIND_TCP_ROUTE] = "TCPRoute",
	[KIND_REFERENCE_GRANT] = "ReferenceGrant",
	[KIND_GATEWAY] = "Gateway",
	[KIND_SECRET] = "Secret",
};

const char *object_kind_name(enum object_kind kind)
{
	return kind < KIND_COUNT ? kind_names[kind] : "object";
}

const char *pairs_get(const struct pairs *p, const char *key)
{
	for (unsigned i = 0; i < p->count; i++)
		if (!strcmp(p->item[i].key, key))
			return p->item[i].value;
	return NULL;
}

struct object *object_new(enum object_kind kind)
{
	struct arena a = {0};
	struct object *o = arena_alloc(&a, sizeof(*o));

	o->kind = kind;
	o->namespace = "";
	o->name = "";
	o->file = "";
	list_init(&o->siblings);
	list_init(&o->of_service);
	o->arena = a;
	return o;
}

void object_free(struct object *o)
{
	struct arena a;

	if (!o)
		return;
	if (o->kind == KIND_SECRET && o->secret.key)
		mem_wipe(o->secret.key, strlen(o->secret.key));
	a = o->arena; /* the arena holds the struct that holds it */
	arena_free(&a);
}

int object_by_age(const struct object *a, const struct object *b)
{
	int c = strcmp(a->namespace, b->namespace);

	if (a->created != b->created)
		return a->created < b->created ? -1 : 1;
	return c ? c : strcmp(a->name, b->name);
}
