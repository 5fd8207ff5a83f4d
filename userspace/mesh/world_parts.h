/* SPDX-License-Identifier: Apache-2.0 */
/* world_parts.h: what the parts of the world (mesh/world*.c) ask of each other, bottom up. */
#ifndef WEFT_WORLD_PARTS_H
#define WEFT_WORLD_PARTS_H

#include "world.h"

/* ------------------------------------------------------------------ inline: marks, taken up by world_update */

static inline void world_pod_change(struct world *w, struct world_pod *p)
{
	if (p->changed)
		return;
	p->changed = true;
	list_add(&w->changed_pods, &p->changed_link);
}

static inline void world_service_change(struct world *w, struct world_service *s)
{
	if (s->changed)
		return;
	s->changed = true;
	list_add(&w->changed_services, &s->changed_link);
}

/* Gateways are made of this as well: all of them are made anew. */
static inline void world_gateway_touch(struct world *w)
{
	w->gateways_changed = true;
}

static inline uint64_t world_name_hash(const char *namespace, const char *name)
{
	uint64_t pair[2] = {table_hash(namespace, __builtin_strlen(namespace)),
			    table_hash(name, __builtin_strlen(name))};

	return table_hash(pair, sizeof(pair));
}

/* annotation weft.io/splice */
static inline enum abi_splice world_splice(const struct pairs *annotations)
{
	const char *s = pairs_get(annotations, "weft.io/splice");

	if (text_equal(s, "always"))
		return ABI_SPLICE_ALWAYS;
	return text_equal(s, "off") ? ABI_SPLICE_OFF : ABI_SPLICE_AUTO;
}

/* annotation weft.io/proxy */
static inline bool world_proxy(const struct pairs *annotations)
{
	return text_equal(pairs_get(annotations, "weft.io/proxy"), "always");
}

/* ------------------------------------------------------------------ world_address.c */

void world_address_count(struct world *w, const struct abi_addr *addr, enum abi_kind kind, int change);
/* The Pod object of a pod of another node names it, or no longer. */
void world_address_claim(struct world *w, const struct abi_addr *addr, struct world_remote *r);
void world_address_unclaim(struct world *w, const struct abi_addr *addr, struct world_remote *r);
/* An enrolled pod has this address, or no longer. */
void world_address_take(struct world *w, const struct abi_addr *addr, struct world_pod *p);
void world_address_leave(struct world *w, const struct abi_addr *addr, struct world_pod *p);

/* ------------------------------------------------------------------ world_label.c */

/* Index of (namespace, key, value): the pods that carry the label, the services that select by it. */
struct world_label {
	char *text; /* "namespace\0key\0value" */
	size_t len;
	struct list pods, services; /* struct world_member.link */
	unsigned pod_count, service_count;
	struct table_link link;
};
struct world_member {
	struct world_label *label;
	void *owner; /* struct world_pod or struct world_service */
	struct list link;
};
struct world_label *world_label_find(const struct world *w, const char *namespace, const struct pair *pair);
/* At the index; a service (pod false) by one pair of its selector: the one that fewest others chose. */
void world_label_join(struct world *w, struct world_member *m, const char *namespace, const struct pair *pair,
		      void *owner, bool pod);
void world_label_part(struct world *w, struct world_member *m, bool pod); /* harmless if it never joined */
/* Every service that selects by one of these labels looks at its endpoints anew. */
void world_label_touch(struct world *w, const struct world_member *m, unsigned count);

/* ------------------------------------------------------------------ world_set.c */

/* The set that says this: an old one, one that was about to die, or a new one. The caller adds its reference. */
struct policy_set *world_set_for(struct world *w, const struct policy_input *in);
void world_set_leave(struct world *w, struct world_pod *p); /* the pod's set; harmless if it has none */

/* ------------------------------------------------------------------ world_pod.c */

struct world_pod *world_pod_get(struct world *w, const char *namespace, const char *name);
/* Take in what the object and the enrolment say now; false: neither is left, the pod is freed. */
bool world_pod_refresh(struct world *w, struct world_pod *p);
void world_pod_namespace(struct world *w, const char *namespace); /* it changed: so have its pods */
/* Identities of the enrolled pods that changed. */
void world_pod_identify(struct world *w);

/* ------------------------------------------------------------------ world_policy.c */

/* The set of every pod that changed, or that a changed policy may select. */
void world_policy_update(struct world *w);
void world_policy_changed(struct world *w, const char *namespace);

/* ------------------------------------------------------------------ world_grant.c */

/* A ReferenceGrant came, changed or went. */
void world_grant_change(struct world *w, const char *namespace, const char *name);
/* May a route of this kind in namespace `from` name that Service of namespace `to`? */
bool world_granted(const struct world *w, enum object_kind kind, const char *from, const char *to, const char *service);
void world_grant_free(struct world *w);

/* ------------------------------------------------------------------ world_route.c */

void world_route_change(struct world *w, enum object_kind kind, const char *namespace, const char *name);
/* A Service came, changed or went: the tables that name it. */
void world_route_service(struct world *w, const char *namespace, const char *name);
/* Tables and statuses of all that changed; then the services whose routes came or went change too. */
void world_route_update(struct world *w);

/* The Service has weft.io/proxy: always, or has it no longer. */
void world_route_wanted(struct world *w, const char *namespace, const char *name, bool wanted);
bool world_route_attached(const struct world *w, const char *namespace, const char *name, uint16_t port);
/* Its ports, addresses or endpoints changed; of one that weft does not look into nothing happens. */
void world_route_touch(struct world *w, const char *namespace, const char *name);
/* What the last update left as changed is known now. */
void world_route_begin(struct world *w);
void world_route_free(struct world *w);
bool world_route_troubled(const struct route_status *s);
/* Is something of it not in force? Notes it. */
void world_route_judge(struct world *w, struct world_route *r);
extern const struct route_world world_route_questions; /* ctx is the world */

/* ------------------------------------------------------------------ world_gateway.c */

void world_gateway_update(struct world *w);
void world_gateway_free(struct world *w);

/* ------------------------------------------------------------------ world_service.c */

struct world_service *world_service_get(struct world *w, const char *namespace, const char *name);
void world_service_update(struct world *w); /* all that changed */
/* A slice came, changed or went: its service, and the one that it had before, change. */
void world_service_slice(struct world *w, const char *namespace, const char *name);
void world_service_free(struct world *w);

#endif
