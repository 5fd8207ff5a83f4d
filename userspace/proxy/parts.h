/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h: what the files of this room ask of each other, bottom up. All of it belongs to one thread. */
#ifndef WEFT_PROXY_PARTS_H
#define WEFT_PROXY_PARTS_H

#include "http_pool.h"
#include "pick.h"
#include "proxy.h"

#define SERVE_MEMORY 256
#define SERVE_FIRST_NS 60000000000ull /* from outside: until the first byte; and until the first request */
#define SITE_LAST_NS 500000000ull /* http_connection.last_ns of those that drain with the worker */

/*
 * TLS of strangers, oldest first. How many may be at once is bounded, and somebody must go for one more: who means it
 * is done within milliseconds, so it is the oldest one; but who comes in great number pushes out nobody but himself.
 */
struct handshakes {
	struct list all;
	unsigned count, most;
	const struct abi_addr *(*from)(const struct list *l); /* of one in the list */
};
#define HANDSHAKES_MOST 1024	  /* of peers */
#define EDGE_HANDSHAKES_MOST 4096 /* from outside: what they hold is the stranger's to say */

/* Everything that one thread serves: thread.proxy. */
struct site {
	struct thread *thread;
	const struct view *view;
	struct certs *certs;
	int conns, affinity; /* fds of the kernel's maps */
	struct dialer dialer;
	struct table guests;	/* struct guest */
	struct list listeners;	/* struct listener: all */
	struct list edges;	/* struct edge_listener */
	struct handshakes edge_handshakes; /* struct serve */
	struct list relays;	/* struct relay */
	struct list serves;	/* struct serve */
	struct list rests;	/* struct rest: in the order in which they began to */
	struct list guards;	/* struct guard */
	struct list exchanges;	/* struct exchange: without a request, for the next one */
	struct list mirrors;	/* struct mirror */
	unsigned exchanges_kept, mirror_count;
	struct http_pool *pool;
	struct pick_memory pick;
	struct site_found { /* exchange_pick.c: of the view, in this turn; each request of a batch asks for the same */
		uint64_t turn;	 /* loop_now() */
		uint64_t netns;	 /* whose `source` is */
		const struct view_pod *source, *to;
		struct abi_addr addr; /* whose `peer` and `to` are */
		const struct view_peer *peer;
		uint32_t number; /* of `service` */
		const struct view_service *service;
	} found;
	uint32_t spoken[SERVE_MEMORY]; /* numbers of services of which a client was seen to speak HTTP first */
	struct list carriers;	/* struct carrier: open ones */
	struct handshakes handshakes; /* and those that are not */
	unsigned relay_count; /* and serves, and rests; other threads look at it */
	unsigned rest_count;
	unsigned next;	      /* thread that is looked at for it */
	unsigned carrier_count;
	bool draining;
	struct loop_timer resume; /* listeners rest: no file descriptors */
	uint64_t say_again_ns;	  /* that they do */
	uint64_t say_share_ns;	  /* that those of one pod do */
	uint64_t tell_again_ns;	  /* of one that was refused for that */
	struct loop_timer rests_over; /* the first rest has lasted long enough */
	struct loop_timer shed; /* shed.c: too many bytes wait */
	uint64_t say_shed_ns;
	struct loop_timer stalls; /* requests of which nobody takes the bytes are looked for */
	/* written here, read by the control thread */
	uint64_t accepted, refused, requests;
	uint64_t reasons[ABI_REASON_MAX];
};

static inline void relay_count_reason(struct site *at, enum abi_reason reason)
{
	uint64_t *n = &at->reasons[reason];

	__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED); /* one writer */
}

/* ------------------------------------------------------------------ handshakes.c */

/* Who makes room for one who comes from there; NULL: there is room. */
struct list *handshakes_room(const struct handshakes *h, const struct abi_addr *from);

/* ------------------------------------------------------------------ guard.c */

/* Who speaks with whom. */
struct guard_plan {
	enum relay_kind kind; /* of the relay that it was */
	uint64_t netns;	      /* of the pod whose listener it came to */
	uint64_t to;	      /* of the pod that is guarded */
	const char *spiffe;   /* who the client has proved to be; NULL: nobody */
	struct abi_tuple tuple; /* as the kernel has it in `conns` */
	struct abi_addr client, server;
	uint16_t client_port, server_port;
	uint32_t service, place;
	uint64_t opened_ns;
};
/* Both streams (taken) stand; view_allows() said NEEDS_WORKER of the pod: each request is judged. */
void guard_begin(struct site *at, struct stream *client, struct stream *server, const struct guard_plan *plan);
struct guard;
void guard_row(const struct guard *g, struct relay_row *ret);
struct guard *guard_of(struct list *link); /* of site.guards */
size_t guard_kept(const struct guard *g, uint32_t *ret_place); /* bytes that wait; shares.h */
void guard_shed(struct guard *g, const char *why);
void guards_end(struct site *at, uint64_t netns, enum abi_reason reason, const char *why); /* 0: all */
void guards_view_changed(struct site *at); /* those end that no request may use any more */
void guards_drain(struct site *at);

/*
 * Visits each. What is called may take any of them out of the list, also the next one: so the place in it is kept by a
 * link of its own.
 */
static inline void list_visit(struct list *all, void (*one)(struct list *l, void *arg), void *arg)
{
	struct list here, *l = all->next;

	while (l != all) {
		list_init(&here);
		list_add(l->next, list_place(&here)); /* before the next one */
		one(l, arg);
		l = here.next;
		list_del(&here);
	}
}

/* What ends, and why. */
struct ending {
	uint64_t netns; /* of this pod; 0: all */
	enum abi_reason reason;
	const char *why;
};

/* ------------------------------------------------------------------ relay.c */

enum relay_end { RELAY_CLIENT,
		 RELAY_SERVER };
enum relay_state {
	RELAY_DIALS, /* the server's side does not stand yet; nothing is read from the client */
	RELAY_OPEN,
	RELAY_CLOSED, /* freed at the end of the turn */
};

/* Who is at the other end of a carrier: relays may outlive it, to be read to their end. */
struct peer {
	unsigned holders;
	char spiffe[];
};
struct peer *peer_new(const char *spiffe);
void peer_drop(struct peer *p); /* harmless if NULL */

/* Two streams, and what goes from one to the other. An idle one costs this struct and those of its streams. */
struct relay {
	struct site *site;
	struct stream *side[2]; /* by enum relay_end; NULL: not there (any more) */
	struct dial_wait dial;
	struct peer *peer; /* RELAY_HBONE: who asks */
	enum relay_kind kind;
	enum relay_state state;
	struct loop_task again; /* stopped for others' sake, or is to be freed */
	uint64_t bytes[2];	/* that came from this side and were taken by the other */
	uint64_t opened_ns;
	uint64_t netns;	 /* of the pod whose listener it came to */
	uint64_t to;	 /* of the pod of this node that it goes to; 0: none */
	uint32_t policy; /* of that pod, when it was asked last */
	uint32_t identity; /* RELAY_LOCAL: of the pod that asks, at that time */
	uint32_t service;
	uint32_t place; /* shares.h: that it counts for; 0: it was handed on */
	bool guarded; /* its policy asks for HTTP: a guard takes over when both sides stand */
	struct abi_tuple tuple; /* of the client's socket; not of a CONNECT */
	struct abi_addr client, server;
	uint16_t client_port, server_port;
	struct list link;
};

struct relay *relay_new(struct site *at, enum relay_kind kind, struct stream *client);
void relay_hold(struct relay *r, uint32_t place); /* it counts for that place */
/* What was captured in that netns is to go where `plan` says, as bytes; relay_dial() or relay_join() follows. */
struct relay *relay_captured(struct site *at, uint64_t netns, const struct abi_tuple *t, struct stream *client,
			     const struct dial_plan *plan);
/* A server's side: also from within it ends, if there is none. */
void relay_dial(struct relay *r, const struct dial_plan *plan);
void relay_join(struct relay *r, struct stream *server); /* that stands already */
/*
 * The one door out: RELAY_CLOSED. ABI_NONE: in order. Else at once and visibly, by RST; `why` (a constant) is for the
 * log. A CONNECT that was not answered yet is answered.
 */
void relay_close(struct relay *r, enum abi_reason reason, const char *why);
/* What has no relay yet is refused: RST, counted, logged. Takes the fd. */
void relay_refuse(struct site *at, int fd, enum abi_reason reason, const struct abi_tuple *t, const char *why);
/* The policy of who it goes to may have changed: it ends if that forbids it now. */
void relay_judge(struct relay *r);
void relay_row(const struct relay *r, struct relay_row *ret);
const char *relay_kind_name(enum relay_kind kind);

/* ------------------------------------------------------------------ serve*.c */

enum serve_state {
	SERVE_LISTENS, /* for the first bytes, which say what is spoken */
	SERVE_HTTP,
	SERVE_CLOSED, /* freed at the end of the turn; also if it has become a relay */
};

/* What is known of a client's connection without the client. */
struct caller {
	uint64_t netns; /* of the client's pod; edge: of the Gateway */
	uint64_t opened_ns, requests, sent, received;
	struct abi_tuple tuple;	    /* its source is the client */
	uint32_t service, listener; /* secure: the one whose certificate it was shown */
	struct abi_addr asked;
	uint16_t asked_port;
	bool edge;   /* from outside, to a Gateway */
	bool secure; /* the same, by TLS */
};
/* shares.h: that it counts for, as a serve and as a rest */
static inline uint32_t caller_place(const struct caller *c)
{
	return c->edge ? shares_stranger(&c->tuple.src) : shares_pod(c->netns);
}
/* One that HTTP is spoken on. */
void caller_row(const struct caller *c, struct relay_row *ret);

/* A client's connection to a Service that is looked into. */
struct serve {
	struct site *site;
	struct caller caller;
	enum serve_state state;
	struct stream *stream; /* SERVE_LISTENS: the client's */
	struct buf first;      /* the same: its first bytes, while they do not say enough */
	struct stream *server; /* who may speak first; SERVE_HTTP: until the first request has its endpoint */
	struct dial_wait dial; /* of that */
	struct dial_plan plan;
	unsigned tries;
	bool declared;	       /* HTTP, by the Service */
	bool looks;	       /* whether it is HTTP */
	bool bytes;	       /* no: what goes on is bytes, to the server */
	bool untold;	       /* some have come, which do not say it: `late` runs for the rest */
	bool shakes;	       /* caller.secure: its handshake is not done */
	struct list shaking;   /* the same: in the site's list of those */
	bool guarded;	       /* whose policy asks for HTTP: a guard has the last word on them */
	struct loop_timer late; /* the client says nothing, or too little; caller.edge: asks for nothing */
	struct http_connection *http;
	struct list exchanges; /* struct exchange */
	struct loop_task task; /* frees */
	uint64_t to;	       /* netns of the pod of this node that the plan goes to; 0: none */
	uint32_t policy;
	uint64_t generation; /* of the plan's server in the view, and who asked, when it was made */
	uint32_t identity;
	struct list link;
};

struct serve *serve_new(struct site *at); /* in its list */
void serve_set_state(struct serve *v, enum serve_state to);
void serve_leave(struct serve *v); /* it is no more: freed when the turn ends */
void serve_close(struct serve *v, enum abi_reason reason, const char *why);
void serve_shaken(struct serve *v); /* its handshake is over */
const struct abi_addr *serve_shakes_from(const struct list *l); /* handshakes.from */

/* HTTP on v->stream. */
void serve_http(struct serve *v, bool http2);
void serve_http_drain(struct serve *v);
void serve_http_late(struct serve *v); /* from outside: has it asked for anything by now? */
/*
 * A serve of HTTP/1.1 that has nothing to do for a while is none: this keeps what is needed, its names are the same,
 * and it becomes one again by whatever happens.
 */
struct rest {
	struct stream *stream; /* the client's */
	struct list link;      /* site.rests */
	uint64_t until_ns;     /* then it ends */
	struct caller caller;
};
void rest_row(const struct rest *r, struct relay_row *ret);
void rests_end(struct site *at, uint64_t netns, enum abi_reason reason, const char *why); /* 0: all */
void rests_drain(struct site *at);

/* Is it looked into? Else its connections go on as bytes, to the endpoint that the kernel has picked. */
bool serve_wants(const struct view_service *s);
/* The client's connection (taken), captured on its way to `c`; `s` is what was asked. */
void serve_begin(struct site *at, const struct view_pod *pod, const struct view_service *s, const struct abi_conn *c,
		 const struct abi_tuple *t, int fd);
/* From outside (taken) to a port of a Gateway; `gate` is its view_pod. */
void serve_edge(struct site *at, const struct view_pod *gate, const struct gateway_port *port,
		const struct abi_tuple *t, int fd);
void serves_end(struct site *at, uint64_t netns, enum abi_reason reason, const char *why); /* 0: all */
void serves_drain(struct site *at);
void serve_row(const struct serve *v, struct relay_row *ret);

/* ------------------------------------------------------------------ exchange*.c */

void exchange_begin(struct serve *v, struct http_exchange *down, const struct http_head *h);
void exchange_answered(struct http_exchange *up, const struct http_head *h); /* http_pool_plan.answer */
void exchanges_end(struct list *exchanges, enum abi_reason reason, const char *why); /* of one serve */
void exchanges_free(struct site *at);					     /* that have no request */
void stalls_start(struct site *at);
void mirrors_close(struct site *at);

/* ------------------------------------------------------------------ shed.c */

void shed_start(struct site *at, unsigned threads); /* of so many */
void shed_end(struct site *at);

/* ------------------------------------------------------------------ outbound.c, inbound.c */

/* Something has come to a listener of this pod; the fd is taken. `t` has the source. */
void outbound_accept(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t);
void inbound_plain(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t);
void inbound_hbone(struct site *at, const struct view_pod *pod, int fd, struct abi_tuple *t);
const struct abi_addr *carrier_shakes_from(const struct list *l); /* handshakes.from */
void carriers_end(struct site *at, uint64_t netns, const char *why); /* of this pod; 0: of all */
void carriers_view_changed(struct site *at);			     /* of pods that are somebody else now */
void carriers_trust_changed(struct site *at);
void carriers_drain(struct site *at);
void carriers_each(const struct site *at, void (*one)(void *ctx, const struct tunnel_row *r), void *ctx);

/* ------------------------------------------------------------------ listener.c */

/* A socket that listens, within what owns it, which sets the two functions and leaves the rest to listener_open(). */
struct listener {
	/* NULL: as soon as the view has the pod. false: not yet, somebody waits until the view has changed. */
	bool (*knows)(const struct listener *k, const struct view_pod *pod);
	/* Takes the fd. `t` has its source; the rest is zero. */
	void (*accepted)(struct listener *k, const struct view_pod *pod, int fd, struct abi_tuple *t);
	struct site *site;
	uint64_t netns;
	unsigned tries;	  /* of accept(2) in one event */
	unsigned caution; /* events until they are more */
	bool early;	  /* somebody waits, and the view does not have the pod yet */
	bool captured;	  /* who comes is the pod itself; else anybody */
	struct loop_watch watch;
	struct list link;
};
void listener_open(struct listener *k, struct site *at, uint64_t netns, int fd); /* taken */
void listener_close(struct listener *k);
void listeners_view_changed(struct site *at); /* pods that it did not know may be there */

/* ------------------------------------------------------------------ edge.c */

void edge_listen(struct site *at, uint64_t netns, const struct abi_addr *addr, uint16_t port, int fd); /* taken */
/* Of that Gateway, address and port; addr NULL: all of the Gateway, netns 0: all. */
void edge_close(struct site *at, uint64_t netns, const struct abi_addr *addr, uint16_t port);

/* ------------------------------------------------------------------ guests.c */

/* Listeners of a pod (taken): instead of those it had. */
void guests_listen(struct site *at, uint64_t netns, const int fd[WIRE_LISTENERS]);
void guests_leave(struct site *at, uint64_t netns); /* 0: all */

#endif
