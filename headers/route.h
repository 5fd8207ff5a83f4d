/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.h: routes of the Gateway API (v1.6) attached to a Service ("mesh use", GEP-1294), compiled and asked
 * (mesh/route*.c). Pure. docs/routes.md is the user's view.
 *
 *	object_route (model.h) of one Service port --route_compile--> struct route_table --route_find--> one rule
 *
 * A table is immutable and counted; readers of the view use it under RCU. A question costs the number of characters of
 * host and path and the logarithm of the routes, not their number.
 */
#ifndef WEFT_ROUTE_H
#define WEFT_ROUTE_H

#include "http.h"
#include "model.h"

#define ROUTE_FOREVER 0 /* a timeout: none */

enum route_kind { ROUTE_HTTP, ROUTE_GRPC, ROUTE_TLS, ROUTE_TCP };

enum route_filter_kind {
	FILTER_REQUEST_HEADERS,
	FILTER_RESPONSE_HEADERS,
	FILTER_REDIRECT,
	FILTER_REWRITE,
	FILTER_MIRROR,
	FILTER_CORS,
};
enum route_path_change { PATH_KEPT, PATH_FULL, PATH_PREFIX };

/* A port of a Service that a route names. */
struct route_target {
	const char *namespace, *service;
	uint16_t port;
	uint64_t hash; /* route_target_hash(): of the three, as view_backend() wants it */
};
static inline uint64_t route_target_hash(const char *namespace, const char *service, uint16_t port)
{
	uint64_t all[3] = {table_hash(namespace, __builtin_strlen(namespace)),
			   table_hash(service, __builtin_strlen(service)), port};

	return table_hash(all, sizeof(all));
}

struct route_filter {
	enum route_filter_kind kind;
	union {
		struct {
			struct http_field *set, *add;
			unsigned sets, adds;
			struct http_text *remove; /* lower case */
			unsigned removes;
		} headers;
		struct { /* redirect and rewrite; empty texts: as it was */
			struct http_text scheme, host;
			uint16_t port; /* 0: by the Gateway API's rule */
			uint16_t status;
			enum route_path_change change;
			struct http_text path; /* full, or what replaces the prefix that matched */
		} url;
		struct {
			struct route_target target;
			const char *kind;		 /* of what is no Service: refused; NULL: a Service */
			uint32_t numerator, denominator; /* of the requests */
			bool refused; /* no ReferenceGrant, or no such Service: mirrors nothing */
		} mirror;
		struct {
			struct http_text *origin; /* "*", exact, or with a "*." before the host */
			unsigned origins;
			struct http_text methods, headers, expose; /* lists with commas; "*" any */
			bool credentials;
			uint32_t max_age_s;
		} cors;
	};
};

struct route_backend {
	struct route_target target;
	uint32_t weight;
	bool refused; /* weight counts, requests get 500: no such Service, no ReferenceGrant, another kind */
	struct route_filter *filter;
	unsigned filters;
};

struct route_rule {
	enum route_kind kind;
	const char *route; /* "shop/canary" of the object */
	const char *name;  /* of the rule, "" none */
	struct route_filter *filter;
	unsigned filters;
	struct route_backend *backend; /* none: 500, or what a filter says (a redirect) */
	unsigned backends;
	uint64_t weights; /* sum */
	uint64_t request_ns, backend_ns; /* timeouts; ROUTE_FOREVER */
};

struct route_found {
	const struct route_rule *rule; /* NULL: no route matches: 404 (gRPC: UNIMPLEMENTED) */
	/* Bytes of the path that a PathPrefix matched, without a final "/": 0 for "/". For ReplacePrefixMatch. */
	size_t prefix;
	unsigned steps; /* what was looked at to find it: does not grow with the number of routes */
};

struct route_question {
	const struct http_head *head; /* method and fields */
	struct http_text host;	      /* http_host() */
	struct http_text path, query; /* http_path_normalise() */
	const char *client_namespace; /* its own routes (consumer routes) come first */
};

struct route_table;
struct route_table *route_table_hold(const struct route_table *t);
void route_table_drop(struct route_table *t);
struct route_found route_find(const struct route_table *t, const struct route_question *q);
/* TLSRoute: by SNI ("" none) */
const struct route_rule *route_find_tls(const struct route_table *t, const char *sni, const char *client_namespace);
/* TCPRoute: the first rule of the oldest; NULL: no TCPRoute */
const struct route_rule *route_find_tcp(const struct route_table *t, const char *client_namespace);
/*
 * Has it routes of this kind for this client? A client has routes of one kind only, its own if its namespace has some
 * (consumer routes), else those of the Service's namespace. Without any it goes to the Service as if there were none.
 */
bool route_table_has(const struct route_table *t, enum route_kind kind, const char *client_namespace);
/* One of the rule's backends by weight, `random` uniform in 64 bits; NULL: all weights are zero. */
const struct route_backend *route_backend(const struct route_rule *r, uint64_t random);

/* ------------------------------------------------------------------ what an object names: mesh/route_names.c */

bool route_kind_of(enum object_kind kind, enum route_kind *ret); /* false: no route at all */
/* Is this parent (or any of the route's) that port of that Service? `port_name` "": it has none. */
bool route_parent_is(const struct object_route_parent *p, const char *namespace, const char *service, uint16_t port,
		     const char *port_name);
bool route_has_parent(const struct object *route, const char *namespace, const char *service, uint16_t port,
		      const char *port_name);
/* Every port of a Service that the route sends to: backends and mirrors; one may come more than once. */
void route_each_target(const struct object *route, void (*each)(void *ctx, const struct route_target *t), void *ctx);
/* May routes of this kind and namespace name that Service of the grant's own namespace? */
bool route_grant_allows(const struct object *grant, enum object_kind kind, const char *from, const char *service);

/* ------------------------------------------------------------------ compiling */

/* What routes of a Service port may ask of the rest of the world. */
struct route_world {
	/* Does that port exist? */
	bool (*service)(void *ctx, const char *namespace, const char *service, uint16_t port);
	/* ReferenceGrant: may a route of `from` in that namespace name a Service of `to`? */
	bool (*granted)(void *ctx, enum object_kind kind, const char *from, const char *to, const char *service);
	void *ctx;
};
/* What became of one route, for `weftctl routes`: the conditions of the Gateway API. */
struct route_status {
	bool accepted, resolved;
	bool gateway; /* the parentRef is a Gateway of weft's */
	char accepted_reason[32], resolved_reason[32]; /* "Accepted", "NoMatchingParent", "BackendNotFound", ... */
	char message[192];			       /* names the field */
};
/* 0: all is well. Of several places in which a route stands its status is that of the worst. */
static inline unsigned route_badness(const struct route_status *s)
{
	return (s->accepted ? 0 : 2) + (s->resolved ? 0 : 1);
}
/*
 * All routes that name this Service port as parent (route_has_parent), in any order, with one status each. NULL: none
 * of them. Deterministic: the same routes give the same table, whatever their order. The table keeps nothing of them.
 * With an empty parent they are those of one host name of a Gateway, whatever their namespace.
 */
struct route_table *route_compile(const struct object *const *route, unsigned routes, const struct route_target *parent,
				  const struct route_world *world, struct route_status *ret_status) must_check;
/* What every status begins as: all is well. */
void route_status_begin(struct route_status *s);
/* The status of a parent (by its index) that names no port of a Service that there is: why says "is a Gateway". */
void route_no_parent(const struct object *route, unsigned parent, struct route_status *ret);

#endif
