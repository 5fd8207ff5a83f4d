/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.h: one request of a client and its answer: what exchange*.c ask of each other. parts.h has what others
 * call.
 *
 *	EXCHANGE_NEW --route, filters--> EXCHANGE_WAITS --connection--> EXCHANGE_SENT --final head--> EXCHANGE_ANSWERED
 *	EXCHANGE_SENT --not processed--> EXCHANGE_WAITS		any before a head went back --> EXCHANGE_REPLIES
 *	all --> EXCHANGE_CLOSED
 *
 * Nothing is held here: what one side cannot take stays where it is. The head is, as it is sent: another endpoint may
 * have to be asked, when the view of this turn is gone.
 */
#ifndef WEFT_PROXY_EXCHANGE_H
#define WEFT_PROXY_EXCHANGE_H

#include "filter.h"
#include "http_pool.h"
#include "parts.h"
#include "pick.h"

/* What of a head may be held while its answer is waited for: a hundred of them on a connection are less than 1 MiB. */
#define EXCHANGE_HEAD 8192

enum exchange_state {
	EXCHANGE_NEW,	   /* the head is looked at */
	EXCHANGE_WAITS,	   /* for a connection to an endpoint; nothing of the body is read */
	EXCHANGE_SENT,	   /* bodies flow; no final answer yet */
	EXCHANGE_ANSWERED, /* its head has gone to the client */
	EXCHANGE_REPLIES,  /* weft answers by itself */
	EXCHANGE_CLOSED,   /* freed at the end of the turn */
};

struct exchange {
	struct serve *serve; /* NULL once it is closed */
	struct site *site;
	struct http_exchange *down, *up; /* of the client; of the endpoint, once it was asked */
	enum exchange_state state;
	struct arena arena;
	struct arena large;	/* the head, if it is larger than EXCHANGE_HEAD: only until it was sent */
	struct http_head *head; /* as it is sent on; of a large one that was sent: what the log says of it */
	struct http_text id;
	const struct http_head *trailers; /* what is sent on of those that came, if not all is */
	struct filter_changes *changes; /* to the answer */
	/* what it was routed to: names of a Service port, since the view changes while it waits */
	struct route_target target;
	const char *route, *rule;
	bool itself; /* the Service that the client asked, by its number */
	struct http_pool_wait wait;
	bool once;  /* nobody else can be asked: the head is held no more, or an answer has begun (1xx) */
	bool fresh; /* nobody had used the connection before */
	struct pick_question tried;
	struct view_load *load; /* of the endpoint that is asked now: raised */
	uint32_t place; /* the same: that it counts for (shares.h); 0: for none */
	enum abi_reason failed; /* of the last try */
	const char *failed_why;
	struct http_pool_key key; /* of its connections */
	struct loop_timer deadline;	    /* of the whole request */
	struct loop_timer backend_deadline; /* of one try; later: of a request body that nobody needs */
	uint64_t request_ns, backend_ns;
	struct websocket websocket;
	bool cut;      /* the client must see that the answer is not all */
	bool begins;   /* within the event of its head */
	bool prepared; /* websocket_request() was asked */
	bool needless; /* the answer is complete, the request is not */
	struct loop_task again; /* stopped for others' sake, or is to be freed */
	struct reply reply;
	size_t replied; /* bytes of its body */
	unsigned status;
	int grpc_status; /* of a head that has no body behind it; -1: none */
	uint64_t opened_ns, sent_ns, answered_ns;
	uint64_t bytes[2]; /* of the request's body, of the answer's */
	uint64_t stall_ns; /* exchange_stall.c; 0: it may take for ever */
	uint64_t moved, stalled_ns; /* the same: bytes at the last look; since when nobody takes any, 0: not */
	struct list mirrors; /* struct mirror: while the body flows */
	struct list link;    /* serve.exchanges; site.exchanges when it has no request */
};

/* RFC 9113 section 7 */
#define H2_PROTOCOL_ERROR 0x1u
#define H2_INTERNAL_ERROR 0x2u
#define H2_CANCEL 0x8u

/* ------------------------------------------------------------------ exchange_pick.c */

const struct view_pod *exchange_source(const struct exchange *x);	   /* the client's; NULL: gone */
const struct view_service *exchange_asked(const struct exchange *x);   /* the client's; NULL: gone, or at an edge */
const struct view_service *exchange_service(const struct exchange *x); /* that it was routed to; NULL: gone */
/* A pod of this node may ask for what HTTP says: of the request as it is sent, at that endpoint. */
enum abi_reason exchange_allowed(const struct exchange *x, const struct http_head *h, const struct http_pool_key *k);
/* An endpoint of `s` for it, and what its connections are known by; its load is raised. NULL: there is none. */
struct view_load *exchange_endpoint(struct exchange *x, const struct view_service *s, struct pick_question *q,
				    struct http_pool_key *ret);
/* Whoever asks there has a file of ours more by it. */
bool exchange_takes_file(const struct exchange *x, const struct http_pool_key *k);

/* ------------------------------------------------------------------ exchange_mirror.c */

/* A copy of the request, as it is now, goes there as well. */
void mirror_begin(struct exchange *x, const struct route_target *target);
bool mirror_is(const struct http_exchange *up);
void mirror_answered(struct http_exchange *up);
/* The first `len` bytes of the runs have gone on; `mirrors` is the list. */
void mirrors_feed(void *mirrors, const struct stream_bytes *run, size_t len);
/* The body is complete, or will never be (`why`). */
void mirrors_end(struct list *mirrors, const char *why);

/* ------------------------------------------------------------------ exchange_close.c */

void exchange_set_state(struct exchange *x, enum exchange_state to);
/* The endpoint is asked no more. why NULL: in order */
void exchange_leave(struct exchange *x, const char *why);
/* The one door out; ABI_NONE: in order. What has not gone back to the client never will. */
void exchange_close(struct exchange *x, enum abi_reason reason, const char *why);
/* Whoever reads the answer must see that it is not all. `error`: what HTTP/2 says to the client */
void exchange_cut(struct exchange *x, enum abi_reason reason, const char *why, uint32_t error);
/* An answer of weft's own; where a head has gone back already the client sees that it was cut. */
void exchange_fail(struct exchange *x, enum abi_reason reason, const char *why);
/* A head and a body that are in the arena. */
void exchange_reply(struct exchange *x, const struct reply *r, enum abi_reason reason, const char *why);
void exchange_reply_more(struct exchange *x); /* what did not fit */

/* ------------------------------------------------------------------ exchange_stall.c */

/* It ends when bytes have waited for so long, and up to a quarter longer, that nobody takes. 0: not any more. */
void stall_watch(struct exchange *x, uint64_t stall_ns);

/* ------------------------------------------------------------------ exchange_body.c */

void exchange_pump(struct exchange *x);
/* From within an event of the client, and of the endpoint: what that one sends. */
void exchange_pump_request(struct exchange *x);
void exchange_pump_answer(struct exchange *x);

/* ------------------------------------------------------------------ exchange_route.c */

/* Where it goes: false: it was answered. */
bool exchange_route(struct exchange *x, const struct http_head *h) must_check;

#endif
