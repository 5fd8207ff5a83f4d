/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h: everything that weft knows of this node and its mesh, as the rows that the kernel should have.
 *
 *	store (objects) + enrolled pods + addresses of the node --world_update--> world --publish--> kernel maps
 *
 * A change costs what it touches: one EndpointSlice recompiles its service, a policy the pods that it selects.
 * One thread. Readers (admin, explain, live) may look at every field; only mesh/world*.c and control/publish.c
 * write. Pointers stay valid until the next call that changes the world.
 */
#ifndef WEFT_WORLD_H
#define WEFT_WORLD_H

#include "gateway.h"
#include "policy.h"
#include "route.h"
#include "service.h"
#include "wire.h"

/* What the supervisor said of a pod. */
struct world_enrolment {
	uint64_t netns;
	uint32_t number;
	struct abi_addr addr[WIRE_ADDRS];
	unsigned addrs;
	char *service_account; /* "default" if not given */
	struct pairs labels, annotations;
	char *text;    /* of the pairs */
	uint32_t hint; /* identity that the kernel had for it when the worker started, 0 none */
};

struct world_member; /* a place in the index of labels */

/* A pod that is enrolled here, or has a Pod object, or both: then what the object says counts, else the enrolment. */
struct world_pod {
	char *namespace, *name;
	const struct object *object;	  /* NULL: none */
	struct world_enrolment *enrolled; /* NULL: not on this node */
	struct abi_addr *addr;		  /* of both, without doubles; none if it is finished */
	unsigned addrs;
	enum abi_kind claimed;	     /* as what they stand in `addresses`: LOCAL_POD, REMOTE_POD or NONE */
	struct world_remote *remote; /* REMOTE_POD: a claim of each address */
	uint8_t flags;		     /* ABI_POD_*: annotations and labels of it and its namespace */
	/* enrolled pods only */
	struct identity *identity;
	struct policy_set *set;
	enum abi_splice splice;
	struct abi_pod kernel; /* publish.c: what the map holds */
	bool in_kernel;
	/* inside */
	bool changed, dirty;	    /* look at it anew; publish it */
	struct world_member *label; /* one per label */
	unsigned labels;
	struct table_link by_name, by_netns, by_number;
	struct list dirty_link, enrolled_link, changed_link;
};

struct world_remote { /* one address of a pod of another node */
	struct world_pod *pod;
	struct list link;
};

/* Whose address is it: the strongest claim is in the kernel (pod, node, VIP, remote pod, in this order). */
struct world_address {
	struct abi_addr addr;
	struct world_pod *pod;	    /* enrolled here */
	unsigned node, vip, remote; /* claims */
	struct list remotes;	    /* struct world_remote: those of `remote` */
	struct abi_address kernel;  /* publish.c */
	bool in_kernel, dirty;
	bool contested; /* another pod's object claims it too */
	struct table_link link;
	struct list dirty_link;
};

struct world_service;

/* One VIP and port. Several services may claim it; the oldest, then the first by name, has it. */
struct world_front {
	struct abi_service_key key;
	struct list claims;		 /* struct world_claim.front_link */
	struct world_service *owner;	 /* NULL: nobody any more */
	const struct service_port *port; /* of the owner's object */
	uint32_t number;		 /* abi_service.service */
	char name[ABI_NAME_LEN];	 /* "namespace/name:port" of the owner, cut */
	uint16_t flags;
	enum abi_splice splice;
	uint32_t affinity_seconds;
	struct abi_endpoint *endpoint; /* service and generation are filled when it is published */
	unsigned count;
	struct abi_service kernel; /* publish.c: the row that the map holds; its generation and count */
	bool in_kernel, dirty;
	bool endpoints_changed; /* the next generation must be written */
	bool touched;
	struct table_link link, by_number;
	struct list dirty_link, touched_link;
};
struct world_claim {
	struct world_front *front;
	struct world_service *service;
	unsigned port; /* index in object_service.port */
	struct list front_link;
};

struct world_service {
	char *namespace, *name;
	const struct object *object; /* NULL: deleted */
	struct world_claim *claim;   /* vips x ports */
	unsigned claims;
	struct abi_addr *vip; /* entered in addresses */
	unsigned vips;
	bool by_pods;		    /* no slice: endpoints are the pods that the selector selects */
	struct world_member *label; /* if by_pods: at one pair of the selector */
	char *problem;		    /* NULL: fine */
	char *problem_field;	    /* "spec.selector" */
	bool problem_warning;
	bool changed;
	struct table_link link;
	struct list changed_link;
	struct list troubled_link; /* while it has a problem */
};

/* One of the four kinds of routes, taken in. */
struct world_route {
	enum object_kind kind;
	char *namespace, *name;
	const struct object *object; /* NULL: deleted */
	struct route_status *status; /* one for each parentRef */
	/* inside */
	struct world_use *use;
	unsigned uses, parents; /* the first `parents` of them: attached there */
	struct table_link link;
	struct list troubled_link; /* while something of it is not in force */
	struct list edge_link;	   /* while it names a Gateway */
};
struct world_use { /* a Service that a route names, once as parent and once as backend */
	struct world_route *route;
	struct world_routed *of;
	struct list link;
};

/* A Service that weft looks into: a route names it, or it wants the worker. There may be no such Service. */
struct world_routed {
	char *namespace, *name;
	bool wanted;		/* annotation weft.io/proxy: always */
	struct list attached;	/* struct world_use: routes that have it as parent */
	struct list sending;	/* struct world_use: routes that have it as backend or mirror */
	struct world_routed_port *port; /* those with routes */
	unsigned ports;
	/* inside */
	bool kept;    /* it had routes, or was wanted: connections may be left, for as long as there is the Service */
	bool changed; /* to be compiled */
	bool recast;  /* other ports have routes than the rows of its addresses say */
	bool dirty;   /* to be looked at by the view */
	struct table_link link;
	struct list changed_link, dirty_link;
};
struct world_routed_port {
	uint16_t port;
	struct route_table *routes;
};

/* A Gateway of weft's. */
struct world_gateway_listener { /* conditions of the Gateway API */
	bool accepted, resolved, conflicted;
	char accepted_reason[32], resolved_reason[32];
	char message[192];
	unsigned routes; /* attached */
};
enum world_gateway_socket_state { GATEWAY_SOCKET_WANTED, GATEWAY_SOCKET_OPEN, GATEWAY_SOCKET_FAILED };
struct world_gateway_socket { /* one that the node listens on for it */
	struct abi_addr addr; /* zero: all of the node's */
	uint16_t port;
	/* set by who opens it; kept over changes */
	enum world_gateway_socket_state state;
	char why[160]; /* failed */
};
#define WORLD_GATEWAYS 64 /* of a node, by age: others are refused */
struct world_gateway {
	char *namespace, *name;
	const struct object *object; /* NULL: deleted, or of another class now; the view lets go of it */
	uint64_t netns;		     /* WIRE_GATEWAY and a number: it stands where a pod's netns does */
	struct identity *identity;
	struct world_gateway_listener *listener; /* one for each of the object's */
	struct world_gateway_socket *socket;
	unsigned sockets;
	struct gateway *plan; /* NULL: nothing is in force */
	bool dirty;	      /* the view and the sockets */
	struct list link;
};

struct world_hint {
	uint64_t netns;
	uint32_t identity;
};

struct world {
	struct store *store;
	char *node, *trust_domain, *root_namespace;
	struct identities identities;
	struct table pods, pods_by_netns, pods_by_number; /* struct world_pod */
	struct list enrolled;				  /* struct world_pod.enrolled_link, in order of enrolment */
	unsigned enrolled_count;
	struct table services;		       /* struct world_service */
	struct table fronts, fronts_by_number; /* struct world_front */
	struct table routed, routes;	       /* struct world_routed, struct world_route */
	struct table addresses;		       /* struct world_address */
	struct table sets;		       /* struct policy_set, by signature */
	struct list all_sets;
	unsigned set_count;
	struct abi_addr *node_addr; /* told by world_node_addresses */
	unsigned node_addrs;
	struct abi_addr *object_addr; /* of this node's Node object */
	unsigned object_addrs;
	/* inside */
	struct list gateways;	/* struct world_gateway, by age */
	struct list edge_routes; /* struct world_route.edge_link */
	bool gateways_changed;	/* something that Gateways are made of */
	uint32_t next_gateway;
	struct table slices, labels, grants, granted;
	struct list changed_pods, changed_services, changed_routed;
	char **grant_namespace; /* of ReferenceGrants that changed */
	unsigned grant_namespaces, grant_namespaces_size;
	struct list troubled_services, troubled_routes; /* a mesh has many of both, and few with a problem */
	bool policies_all;	       /* changed: of the root namespace, or of too many others */
	char **policy_namespace;       /* changed: of these */
	unsigned policy_namespaces;
	struct world_hint *hint; /* identities that the kernel's pods had when the worker started */
	unsigned hints;
	uint32_t next_set, next_service; /* numbers; never reused */
	/* what the last world_update() changed of `routed`, or of the endpoints of one: for mesh/view_service.c */
	struct list dirty_routed;
	/* to publish */
	struct list dirty_pods, dirty_fronts, dirty_addresses;
	struct list dead_sets; /* struct policy_set.all, refs 0, still in the kernel */
};

struct world *world_new(struct store *store, const char *node, const char *trust_domain,
			const char *root_namespace);
void world_free(struct world *w);

/*
 * The supervisor enrolled a pod, or changed it. 0, or -EINVAL with a sentence in why[]. Takes effect with the
 * next world_update.
 */
int world_enrol(struct world *w, const struct wire_pod *p, char why[256]) must_check;
/* The pod is gone; unknown ones are ignored. Takes effect with the next world_update and publish. */
void world_release(struct world *w, uint64_t netns);
/* Addresses of the node's own interfaces (without loopback): replaces those told before. */
void world_node_addresses(struct world *w, const struct abi_addr *addr, unsigned count);
/* publish.c, before the first world_update: the pod carries this identity in the kernel. */
void world_hint(struct world *w, uint64_t netns, uint32_t identity);
/*
 * Take in what changed in the store and above. Frees nothing that a reader holds but what was deleted.
 * Returns true if something is to be published.
 */
bool world_update(struct world *w);

/* The rows as they should be; false: none. policy and identity only of what is published. */
bool world_pod_row(const struct world_pod *p, struct abi_pod *ret);
bool world_address_row(const struct world_address *a, struct abi_address *ret);
void world_pod_dirty(struct world *w, struct world_pod *p);
void world_address_dirty(struct world *w, struct world_address *a);
void world_front_dirty(struct world *w, struct world_front *f);
/* publish.c is done with it: unlink and free. */
void world_pod_drop(struct world *w, struct world_pod *p);
void world_address_drop(struct world *w, struct world_address *a);
void world_front_drop(struct world *w, struct world_front *f);
void world_set_drop(struct world *w, struct policy_set *s);
/* publish.c found it in the kernel at the start: the row, made if it is not there. */
struct world_address *world_address_get(struct world *w, const struct abi_addr *addr);
struct world_front *world_front_get(struct world *w, const struct abi_service_key *key, uint32_t number);

/* ------------------------------------------------------------------ questions */

struct world_pod *world_pod_named(const struct world *w, const char *namespace, const char *name);
struct world_pod *world_pod_numbered(const struct world *w, uint32_t number); /* enrolled pods */
struct world_pod *world_pod_in(const struct world *w, uint64_t netns);	      /* enrolled pods */
/* The object's if it has any, else the enrolment's. */
const struct pairs *world_pod_labels(const struct world_pod *p);
struct world_address *world_address(const struct world *w, const struct abi_addr *addr); /* NULL unknown */
/*
 * The pod at this address. Of several Pod objects of other nodes (one ends while another has its address already) the
 * one that is not terminating, then the youngest. NULL: no pod has it, or something stronger than a Pod object.
 */
const struct world_pod *world_address_pod(const struct world_address *a);
/* Is this pod of another node in the mesh: neither it nor its namespace has istio.io/dataplane-mode: none. */
bool world_pod_mesh(const struct world *w, const struct world_pod *p);
/* Its service account, by the object, else by the enrolment. */
const char *world_pod_account(const struct world_pod *p);
struct world_service *world_service_named(const struct world *w, const char *namespace, const char *name);
struct world_front *world_front(const struct world *w, const struct abi_addr *vip, uint16_t port);
struct world_front *world_front_numbered(const struct world *w, uint32_t service);
struct world_route *world_route_named(const struct world *w, enum object_kind kind, const char *namespace,
				      const char *name);
struct world_route *world_route_each(const struct world *w, const struct world_route *after);
/* NULL: weft does not look into it, nor did it since there is the Service. */
struct world_routed *world_routed(const struct world *w, const char *namespace, const char *name);
/* Does it still? False: the last update found that it need not. */
bool world_routed_used(const struct world_routed *r);
/* Of a port; NULL: none. */
const struct route_table *world_routed_table(const struct world_routed *r, uint16_t port);
/* Ready endpoints of a port (index in object_service.port), IPv4 then IPv6, each family chosen as the kernel has it. */
void world_service_endpoints(const struct world *w, const struct world_service *s, unsigned port,
			     struct service_picks *ret);
struct policy_set *world_set(const struct world *w, uint32_t number);
/* Walk: NULL gives the first, the last gives NULL. Order not defined; use world.enrolled for pods in order. */
struct world_service *world_service_each(const struct world *w, const struct world_service *after);
struct world_front *world_front_each(const struct world *w, const struct world_front *after);
struct world_pod *world_pod_each(const struct world *w, const struct world_pod *after);

/*
 * Would the connection be refused now? ABI_NONE: no, or not ours to say (the server is not a pod of this node,
 * the client is the node itself or the same pod); else the reason.
 */
enum abi_reason world_forbids(const struct world *w, const struct abi_tuple *t, const struct abi_conn *c);

struct world_gateway *world_gateway_named(const struct world *w, const char *namespace, const char *name);
struct world_gateway *world_gateway_in(const struct world *w, uint64_t netns);
/* "spiffe://..." is made of this */
const char *world_gateway_account(const struct world_gateway *g);
/* The certificates of a listener of the last plan are not usable: its status says so. */
void world_gateway_bad_certificate(struct world_gateway *g, uint32_t listener, const char *why);
/* The view and the sockets have taken in what changed: those that are gone are freed. */
void world_gateway_taken(struct world *w);

/* What is wrong with services, routes, Gateways and policies of this world, as problems of their objects. */
void world_problems(const struct world *w, void (*report)(void *ctx, const struct problem *p), void *ctx);

#endif
