/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.h: the objects that weft reads, decoded; and the world made of them.
 *
 *	bytes --doc_parse--> doc --k8s_decode--> object --store_put--> store --world_update--> world --> kernel maps
 *
 * Objects are immutable once decoded; the store owns them. Pure: no fd, no clock, no log.
 */
#ifndef WEFT_MODEL_H
#define WEFT_MODEL_H

#include "base.h"
#include "doc.h"

enum object_kind {
	KIND_NAMESPACE,
	KIND_NODE,
	KIND_POD,
	KIND_SERVICE_ACCOUNT,
	KIND_SERVICE,
	KIND_ENDPOINT_SLICE,
	KIND_AUTHORIZATION_POLICY,
	KIND_PEER_AUTHENTICATION,
	KIND_HTTP_ROUTE,
	KIND_GRPC_ROUTE,
	KIND_TLS_ROUTE,
	KIND_TCP_ROUTE,
	KIND_REFERENCE_GRANT,
	KIND_GATEWAY,
	KIND_SECRET,
	KIND_COUNT
};
const char *object_kind_name(enum object_kind kind); /* "AuthorizationPolicy" */

struct pair {
	const char *key, *value;
};
struct pairs {
	struct pair *item;
	unsigned count;
};
const char *pairs_get(const struct pairs *p, const char *key); /* NULL if absent */

struct strings { /* a list of the YAML: order kept */
	const char **item;
	unsigned count;
};

struct block { /* CIDR */
	struct abi_addr addr;
	unsigned bits; /* of 128 */
};
struct blocks {
	struct block *item;
	unsigned count;
};

struct ports {
	uint16_t *item;
	unsigned count;
};

/* ------------------------------------------------------------------ one struct per kind */

struct object_namespace { /* labels and annotations are in struct object */
	char unused;
};
struct object_node {
	struct abi_addr *addr; /* status.addresses that are IPs */
	unsigned addrs;
};
struct pod_port {
	const char *name;
	uint16_t port;
};
struct object_pod {
	const char *service_account; /* NULL if not given */
	const char *node;	     /* spec.nodeName, NULL */
	struct abi_addr *addr;	     /* status.podIPs (or podIP) */
	unsigned addrs;
	struct pod_port *port; /* containers[].ports[] with a name: for targetPort by name */
	unsigned ports;
	bool host_network;
	bool finished;	  /* phase Succeeded or Failed: its addresses are nobody's */
	bool unready;	  /* status.conditions has type Ready and its status is not "True" */
	bool terminating; /* metadata.deletionTimestamp is set */
};
struct service_port {
	const char *name; /* "" if not given */
	uint16_t port;
	uint16_t target;	 /* targetPort as number; = port if absent; 0 if by name */
	const char *target_name; /* or NULL */
	const char *app_protocol;
};
struct object_service {
	struct abi_addr *vip; /* clusterIPs; none if headless or ExternalName */
	unsigned vips;
	bool headless;
	struct service_port *port; /* TCP only */
	unsigned ports;
	struct pairs selector; /* count 0: endpoints come from slices alone */
	bool affinity;
	uint32_t affinity_seconds;
	uint64_t stall_ns; /* annotation weft.io/stall-timeout; 0: none */
	bool publish_not_ready; /* publishNotReadyAddresses */
};
struct slice_endpoint {
	struct abi_addr addr;
	const char *node; /* nodeName or NULL */
	/* conditions; absent: ready true, serving = ready, terminating false */
	bool ready, serving, terminating;
	uint16_t weight; /* annotation weft.io/weight of the slice; 1 by default, 0: no new connections */
};
struct slice_port {
	const char *name; /* "" if not given */
	uint16_t port;
};
struct object_slice {
	const char *service; /* label kubernetes.io/service-name */
	bool ipv6;
	struct slice_endpoint *endpoint;
	unsigned endpoints;
	struct slice_port *port; /* TCP only */
	unsigned ports;
};

/*
 * Istio AuthorizationPolicy. Each list is OR, lists of one source or operation are AND, items of
 * from[] are OR, items of to[] are OR, from AND to AND when. Absent (count 0 and not `given`) = any.
 * Patterns: "*" present, "prefix*", "*suffix", exact; principals without "spiffe://".
 */
struct match_strings {
	struct strings values;
	bool given; /* an empty list that was written matches nothing (not-form: everything) */
};
struct match_blocks {
	struct blocks values;
	bool given;
};
struct match_ports {
	struct ports values;
	bool given;
};
struct policy_source {
	struct match_strings principals, not_principals;
	struct match_strings namespaces, not_namespaces;
	struct match_strings service_accounts, not_service_accounts; /* "name" (policy's namespace) or "ns/name" */
	struct match_strings trust_domains, not_trust_domains;
	struct match_blocks ip_blocks, not_ip_blocks;
	bool l7; /* also has fields that only HTTP can tell (requestPrincipals, remoteIpBlocks) */
};
struct policy_operation {
	struct match_ports ports, not_ports;
	bool l7; /* any of these: only HTTP can tell */
	struct match_strings hosts, not_hosts, methods, not_methods, paths, not_paths;
};
struct policy_condition { /* when[] item: key with values AND notValues */
	enum {
		WHEN_SOURCE_IP,
		WHEN_SOURCE_NAMESPACE,
		WHEN_SOURCE_PRINCIPAL,
		WHEN_SOURCE_SERVICE_ACCOUNT,
		WHEN_DESTINATION_IP,
		WHEN_DESTINATION_PORT,
		WHEN_L7 /* request.headers[...]: only the worker can tell; connection.sni, remote.ip ...: nobody yet */
	} key;
	const char *key_text;
	const char *header;			 /* of WHEN_L7: request.headers[], lower case; NULL: another key */
	struct match_strings values, not_values; /* string keys */
	struct match_blocks blocks, not_blocks;	 /* *_IP */
	struct match_ports ports, not_ports;	 /* DESTINATION_PORT */
};
struct policy_rule {
	struct policy_source *from;
	unsigned froms; /* 0: any source */
	struct policy_operation *to;
	unsigned tos; /* 0: any operation */
	struct policy_condition *when;
	unsigned whens;
};
enum policy_action { POLICY_ALLOW,
		     POLICY_DENY };
struct object_authorization {
	enum policy_action action;
	struct pairs selector; /* count 0: all pods of the namespace; in the root namespace: of the mesh */
	struct policy_rule *rule;
	unsigned rules; /* 0: matches nothing: ALLOW without rules closes, DENY without rules does nothing */
	/*
	 * Stands for an object that could not be understood and has no last good version: ALLOW allows nothing,
	 * DENY denies everything that the selector (or, if that is unreadable, the namespace) selects.
	 */
	bool stand_in;
};
struct port_mtls {
	uint16_t port;
	enum abi_mtls mtls;
};
struct object_peer_authentication {
	struct pairs selector;
	bool mtls_given; /* false: UNSET, inherits */
	enum abi_mtls mtls;
	struct port_mtls *port; /* only with a selector */
	unsigned ports;
	bool stand_in; /* as of an AuthorizationPolicy: STRICT */
};

/*
 * Routes of the Gateway API and ReferenceGrant as they are written, defaults filled in; what they mean to a Service is
 * route.h's. Only what weft can do gets here: a route that asks for more is rejected. docs/routes.md.
 */
struct route_filter; /* route.h */
struct object_route_parent { /* parentRefs[] */
	const char *kind;	 /* of what is no Service ("Gateway"); NULL: a Service */
	bool gateway;		 /* a Gateway of the Gateway API: weft's or another's */
	const char *namespace, *name;
	const char *section; /* name of its port or listener; NULL: any */
	uint16_t port;	     /* 0: any */
};
struct object_route_backend { /* backendRefs[] */
	const char *kind;     /* of what is no Service: refused; NULL: a Service */
	const char *namespace, *name;
	uint16_t port; /* 0 only where it is no Service */
	uint32_t weight;
	struct route_filter *filter;
	unsigned filters;
};
struct object_route_value { /* headers[], queryParams[] of a match */
	const char *name;   /* headers: lower case */
	const char *value;
	bool regex;
};
enum object_route_path { ROUTE_EXACT, ROUTE_PREFIX, ROUTE_REGEX };
struct object_route_match {
	enum object_route_path type;	   /* of path, or (ROUTE_EXACT, ROUTE_REGEX) of service and method */
	const char *path;		   /* HTTPRoute */
	const char *service, *grpc_method; /* GRPCRoute; NULL: any */
	const char *method;		   /* HTTPRoute; NULL: any */
	struct object_route_value *header, *query;
	unsigned headers, queries;
};
struct object_route_rule {
	const char *name;		  /* "" if not given */
	struct object_route_match *match; /* HTTPRoute, GRPCRoute: at least one */
	unsigned matches;
	struct route_filter *filter;
	unsigned filters;
	struct object_route_backend *backend;
	unsigned backends;
	uint64_t request_ns, backend_ns; /* timeouts; 0: none */
};
struct object_route {
	struct object_route_parent *parent;
	unsigned parents;
	struct strings hostnames; /* lower case; but for TLSRoute they mean nothing to a Service (GEP-1294) */
	struct object_route_rule *rule;
	unsigned rules;
};
struct object_grant_from {
	enum object_kind kind; /* of a route, which names Services, or KIND_GATEWAY, which names Secrets */
	const char *namespace;
};
struct object_grant { /* ReferenceGrant: every `from` may name every `to` of its own namespace */
	struct object_grant_from *from;
	const char **to; /* names of Services; "": all of them */
	const char **secret; /* the same of Secrets */
	unsigned froms, tos, secrets;
};

/*
 * Gateway (Gateway API) of any class: only those of ours are more than a name. A field that weft cannot do rejects the
 * object. docs/gateway.md.
 */
#define GATEWAY_CLASS "weft"
#define GATEWAY_LISTENERS 64 /* the CRD's */
enum object_gateway_protocol { GATEWAY_HTTP, GATEWAY_HTTPS };
enum object_gateway_from { GATEWAY_SAME, GATEWAY_ALL, GATEWAY_SELECTOR };
struct object_gateway_expression { /* allowedRoutes.namespaces.selector.matchExpressions[] */
	enum { SELECT_IN, SELECT_NOT_IN, SELECT_EXISTS, SELECT_NOT_EXISTS } op;
	const char *key;
	struct strings values;
};
struct object_gateway_ref { /* a Secret */
	const char *namespace, *name;
};
struct object_gateway_listener {
	const char *name;
	const char *hostname; /* lower case; "" any; "*.example" */
	uint16_t port;
	enum object_gateway_protocol protocol;
	struct object_gateway_ref *certificate; /* HTTPS: at least one */
	unsigned certificates;
	enum object_gateway_from from;
	struct pairs labels; /* GATEWAY_SELECTOR: all of these, and all expressions */
	struct object_gateway_expression *expression;
	unsigned expressions;
	bool http, grpc;   /* kinds of routes that it takes */
	bool other_kinds; /* allowedRoutes.kinds names some that it cannot take */
};
struct object_gateway {
	const char *class;
	bool ours;		   /* class is GATEWAY_CLASS; else nothing below is read */
	struct abi_addr *addr;	   /* spec.addresses; none: all of the node */
	unsigned addrs;
	const char *account;	   /* whose identity it has: annotation weft.io/service-account */
	struct object_gateway_listener *listener;
	unsigned listeners;
};
struct object_secret { /* of type kubernetes.io/tls; of others nothing is kept */
	char *certificate, *key; /* PEM; NULL: another type. Wiped with the object */
};

struct object {
	enum object_kind kind;
	const char *namespace; /* "" for Node and Namespace; "default" if not written */
	const char *name;
	struct pairs labels, annotations;
	uint64_t created; /* metadata.creationTimestamp as seconds, 0 if absent: older PeerAuthentication wins */
	const char *file; /* where it came from */
	uint32_t line;
	union {
		struct object_namespace namespace_;
		struct object_node node;
		struct object_pod pod;
		struct object_service service;
		struct object_slice slice;
		struct object_authorization authorization;
		struct object_peer_authentication peer;
		struct object_route route; /* any of the four kinds */
		struct object_grant grant;
		struct object_gateway gateway;
		struct object_secret secret;
	};
	struct arena arena;	/* owns everything above, the object itself too */
	struct table_link link; /* in the store */
	struct list siblings;	/* in the store: all of one kind */
	struct list of_service; /* in the store: EndpointSlices of one service */
};

/* What is wrong with an input, for people. A warning does not reject the object. */
struct problem {
	bool warning;
	char file[256];
	uint32_t line;
	char object[320]; /* "AuthorizationPolicy shop/deny-all", or "" before that is known */
	char field[128];  /* "spec.rules[0].from[0].source.ipBlocks[1]", or "" */
	char reason[192];
	struct problem *next;
};

/* ------------------------------------------------------------------ mesh/k8s.c */

/*
 * Decode one document; items of a List are all decoded, an empty document gives nothing. An object with an
 * error is rejected whole: report says what is wrong, reject says which object it was, so that its last good
 * version can stay. Kinds that weft does not read: a warning, or an error where it may be a mistyped policy
 * (a typo must not open anything).
 */
struct k8s_sink {
	void (*emit)(struct k8s_sink *s, struct object *o); /* takes ownership */
	/*
	 * `name` is "" if it, or the namespace, could not be read. `stand_in` (takes ownership) is NULL but for
	 * policies: to be used while there is no last good version (authorization.stand_in; PeerAuthentication:
	 * STRICT).
	 */
	void (*reject)(struct k8s_sink *s, enum object_kind kind, const char *namespace,
		       const char *name, struct object *stand_in);
	void (*report)(struct k8s_sink *s, const struct problem *p); /* borrowed */
};
void k8s_decode(const struct doc *doc, const char *file, struct k8s_sink *sink);
/*
 * A document that doc_parse refused: reports the error; where its text speaks of a policy, rejects that one
 * with a stand-in that closes the namespace it names.
 */
void k8s_broken(const char *bytes, size_t len, uint32_t first_line, const struct doc_error *error,
		const char *file, struct k8s_sink *sink);

/* ------------------------------------------------------------------ mesh/object.c */

struct object *object_new(enum object_kind kind) must_check; /* in its own arena */
void object_free(struct object *o);
/* <0: a comes before b wherever two claim the same thing: it is older, or else first by namespace, then by name. */
int object_by_age(const struct object *a, const struct object *b);

/* ------------------------------------------------------------------ mesh/store.c: all objects, by name */

struct store;
struct store *store_new(void);
void store_free(struct store *s);
struct object *store_get(const struct store *s, enum object_kind kind, const char *namespace, const char *name);
void store_put(struct store *s, struct object *o); /* takes ownership; frees what had the name */
void store_del(struct store *s, enum object_kind kind, const char *namespace, const char *name);
/* As store_del, but gives the object back to the caller instead of freeing it; NULL if absent. */
struct object *store_take(struct store *s, enum object_kind kind, const char *namespace, const char *name);
/* First of a kind (after NULL) or the next after `after`; NULL at the end. Order not defined. */
struct object *store_each(const struct store *s, enum object_kind kind, const struct object *after);
unsigned store_count(const struct store *s, enum object_kind kind);
/* Slices of a service, by the service-name label: first (after NULL) and next. O(slices of it). */
struct object *store_slices(const struct store *s, const char *namespace, const char *service,
			    const struct object *after);
/*
 * What changed since the last call, as (kind, namespace, name) of objects put or deleted; cleared by the
 * call. The callback may read the store.
 */
void store_changes(struct store *s,
		   void (*changed)(void *ctx, enum object_kind kind, const char *namespace, const char *name),
		   void *ctx);

#endif
