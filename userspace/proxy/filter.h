/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter.h: what happens to a message on its way, and what weft answers by itself: reply.c, filter.c,
 * forwarded.c, access.c. Pure functions over heads: no fd, no clock, no view. docs/http.md is the user's side.
 *
 *	head = http_head_keep(&x->arena, h, 8);
 *	forwarded_apply(&x->arena, head, &hop);			what clients may not say is taken out, x-request-id
 *	route = route_find(...);				path: the normalised one; head->path = it and the query
 *	filter_request(rule->filter, rule->filters, &scene, &out);
 *	if (out.answer) ...					a redirect, a preflight: answered, nobody else is asked
 *	backend = route_backend(...);
 *	filter_request(backend->filter, backend->filters, &scene, &out);	same scene, same out
 *	...
 *	filter_answer(&x->arena, out.changes, answer);		of the backend, or weft's own (reply_make)
 *
 * All texts that these make are in the arena that they are given; nothing points into the route table afterwards but
 * filter_out.mirror. Memory is bounded by the head (http_limits) and by what the route says.
 */
#ifndef WEFT_PROXY_FILTER_H
#define WEFT_PROXY_FILTER_H

#include "grpc.h"
#include "route.h"

/* ------------------------------------------------------------------ reply.c */

/*
 * An answer of weft's own. Head and body are in the arena; `length` is set. A gRPC request gets status 200 with
 * grpc-status and no body (trailers-only), HEAD gets no body.
 */
struct reply {
	struct http_head *head;
	struct http_text body; /* to be written behind the head; empty: the head alone ends it */
};
/*
 * `request` may be NULL: it could not be read. status 0: the one of the reason. `why`: a constant, for people, as log
 * and docs have it; NULL: the sentence of the reason. wall_ms: clock_wall(), for `date`.
 */
struct reply reply_make(struct arena *a, const struct http_head *request, unsigned status, enum abi_reason reason,
			const char *why, int64_t wall_ms);
unsigned reply_status(enum abi_reason reason); /* of HTTP */
/* A head without a body, with room: `server` and `date` (wall_ms 0: none). What a filter answers with. */
struct http_head *reply_head(struct arena *a, const struct http_head *request, unsigned status, int64_t wall_ms);

/* ------------------------------------------------------------------ cors.c */

/*
 * Cross-origin requests (Fetch standard, section 3.3; GEP-1767). An origin that is allowed is named in the answer,
 * never "*", so every answer varies by it. A preflight is answered by weft: 200, or 403 where it is not allowed.
 */
#define CORS_FIELDS 8
struct cors {
	bool preflight, allowed;
	struct http_field field[CORS_FIELDS]; /* of the answer, also of a preflight's; texts in the arena */
	unsigned fields;
};
void cors_judge(struct arena *a, const struct route_filter *f, const struct http_head *request, struct cors *ret);
/* What an answer of the backend may not say by itself, where the route has the say. */
bool cors_is_own(struct http_text name);

/* ------------------------------------------------------------------ filter.c */

struct filter_scene {
	struct arena *arena;	/* of the exchange */
	struct http_head *head; /* the request: changed in place; its path is normalised */
	struct http_text path;	/* the normalised path without query, as route_find() saw it: not head->path */
	struct http_text query; /* without "?"; `at` NULL: there is none, also no "?" */
	size_t prefix;		/* route_found.prefix */
	struct http_text scheme; /* that the client uses: "http", "https" */
	uint16_t port;		 /* that the client dialled: where a redirect without a port goes */
	int64_t wall_ms;	 /* clock_wall(), for `date` of an answer; 0: none */
	uint64_t (*random)(void *ctx); /* uniform in 64 bits: for mirrors */
	void *ctx;
};

struct filter_changes; /* to the answer; in the arena; NULL: none */

#define FILTER_MIRRORS 16 /* of one request; route_compile() allows no more filters in a rule or backend */
struct filter_out {
	struct http_head *answer; /* not NULL: this is the answer, without a body; `changes` apply to it too */
	enum abi_reason reason;	  /* of that answer: ABI_ANSWERED */
	struct filter_changes *changes;
	/* Copies of the request go here as well. They point into the route table: good for this turn of the loop. */
	const struct route_target *mirror[FILTER_MIRRORS];
	unsigned mirrors;
};

/*
 * Filters in order; *out is zeroed by the caller, and collects over rule and backend. A rewrite of the backend takes
 * the place of the rule's: both see the path that was matched.
 */
void filter_request(const struct route_filter *f, unsigned filters, const struct filter_scene *scene,
		    struct filter_out *out);
/* To every answer, 1xx excepted, of whomever. `answer` is in the arena (http_head_keep) or was made there. */
void filter_answer(struct arena *a, const struct filter_changes *c, struct http_head *answer);

/*
 * How long the request may take: the shorter one of the route's timeout and, for gRPC, the client's grpc-timeout;
 * ROUTE_FOREVER: as long as it likes. A gRPC request hears of the route's, if that is the shorter one.
 */
uint64_t filter_timeout(struct arena *a, struct http_head *request, uint64_t route_ns);

/* ------------------------------------------------------------------ forwarded.c */

/* What a client says of hops before it; docs/http.md has the rule. */
enum forwarded_trust {
	FORWARDED_KEEP,	   /* a pod: passed on as it is, nothing is appended: the app sees the client's own address */
	FORWARDED_APPEND,  /* a front: kept, and the client's address is appended */
	FORWARDED_REPLACE, /* an edge: taken out, the id too; what weft knows is put in */
};
struct forwarded_hop {
	enum forwarded_trust trust;
	struct abi_addr client; /* not asked for with FORWARDED_KEEP */
	bool secure;		/* it came by TLS */
	struct random *random;
};
/* Of a request, before routes see it. Its id, made or kept, for the log. */
struct http_text forwarded_apply(struct arena *a, struct http_head *request, const struct forwarded_hop *hop);
/* Of its trailers what may go on; them, where all may. There are apps that take them for fields of the head. */
const struct http_head *forwarded_trailers(struct arena *a, const struct http_head *trailers,
					   enum forwarded_trust trust);

/* ------------------------------------------------------------------ access.c */

/* Everything that the log says of one request. Empty texts and NULL: their keys are left out. */
struct access {
	struct http_text method, authority, path, id;	  /* as the client had them; the id as it was passed on */
	enum http_version client_version, server_version; /* the latter if there is an endpoint */
	unsigned status;				  /* 0: none was sent */
	int grpc_status;				  /* -1: none */
	enum abi_reason reason;				  /* ABI_NONE: in order */
	const char *why;
	uint64_t request_bytes, answer_bytes; /* of bodies */
	uint64_t total_ns, backend_ns;	      /* backend: from its head sent to its head come; 0: none came */
	const char *route, *rule, *backend;   /* "shop/canary", the name of its rule, "shop/web:80" */
	const struct abi_addr *client, *endpoint;
	uint16_t client_port, endpoint_port;
	const char *source; /* SPIFFE id */
	unsigned tries;	    /* connections that it was sent on */
};
/*
 * One line without its end for log_line(): `key=value` with blanks between, always those keys, in that order. What came
 * from outside is quoted, escaped and cut. Returns its length; NUL-terminated.
 */
#define ACCESS_TEXT 3072
size_t access_text(const struct access *x, char buf[ACCESS_TEXT]);

#endif
