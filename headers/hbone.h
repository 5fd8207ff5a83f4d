/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbone.h: HTTP/2 CONNECT tunnels, both sides (http/hbone*.c over nghttp2). facts/ambient.md section 2 is the wire.
 *
 * Sees no socket: it stands on a struct stream (TLS in life, anything in tests) and gives out a struct stream for each
 * CONNECT. Time comes from the thread's loop.
 */
#ifndef WEFT_HBONE_H
#define WEFT_HBONE_H

#include "stream.h"

#define HBONE_PORT 15008
/* Reasons of a CONNECT that was not answered, after which it may be asked again: on what connection there is then. */
#define HBONE_UNPROCESSED "hbone: the peer refuses the stream"
#define HBONE_CLOSED "hbone: the peer has closed the connection"
#define HBONE_SHUT "hbone: the peer allows no streams"
#define HBONE_HEADER 1024 /* longest value of a header that we keep */

struct hbone; /* one HTTP/2 connection */

/*
 * Zero means the default, which is what ztunnel uses where facts/ambient.md 2.4 names one.
 *
 * A stream's window starts at 64 KiB and grows while its reader keeps up; a reader who sleeps costs what his window is
 * and never closes the connection's, so he stalls nobody. One connection can make us keep streams * 64 KiB +
 * connection_window / 4.
 */
struct hbone_limits {
	uint32_t stream_window;		   /* to which one grows: 4 MiB */
	uint32_t connection_window;	   /* 16 MiB; a quarter of it is for streams that grow */
	uint32_t frame_size;		   /* that we take: 1 MiB */
	uint32_t header_list;		   /* 16 KiB client, 64 KiB server */
	uint32_t streams;		   /* server: 200; client: min(100, what the peer allows) */
	uint64_t ping_ns, ping_timeout_ns; /* 10 s, 20 s */
	uint64_t idle_ns;		   /* client without streams: 5 min; server: 0, never */
	uint64_t answer_ns;		   /* client: from CONNECT to its answer: 10 s */
};

/* What a CONNECT says. Texts are NUL-terminated and good for the call; NULL or "": absent. */
struct hbone_request {
	const char *authority;
	const char *forwarded, *baggage, *traceparent;
};

struct hbone_events { /* of one connection */
	/*
	 * Server: a peer asks. `s` is the tunnel; answer with hbone_accept() or hbone_refuse(), now or later. What is
	 * not a CONNECT, or has no authority, was answered 400 before.
	 */
	void (*asked)(struct hbone *h, struct stream *s, const struct hbone_request *ask);
	/* Client: the peer has said how many streams it takes, or another number: hbone_most(). May be NULL. */
	void (*settled)(struct hbone *h);
	/* No new streams any more: GOAWAY came or was sent, or stream ids ran out. Those that stand go on. Once. */
	void (*draining)(struct hbone *h);
	/*
	 * It is over; why NULL: in order. Every stream of it has failed before this, but one that had ended both ways:
	 * what it has may still be read. It is freed when the turn ends and its last stream was closed. Last call.
	 */
	void (*closed)(struct hbone *h, const char *why);
};

/* `below` is taken and must be open. No event comes from within this call, nor from any other of these. */
struct hbone *hbone_client(struct thread *t, struct stream *below, const struct hbone_limits *l,
			   const struct hbone_events *e, void *owner) must_check;
struct hbone *hbone_server(struct thread *t, struct stream *below, const struct hbone_limits *l,
			   const struct hbone_events *e, void *owner) must_check;
void *hbone_owner(const struct hbone *h);
struct stream *hbone_below(const struct hbone *h); /* borrowed */

/* Client: a new tunnel, or NULL: hbone_free() is 0. STREAM_OPEN with 200; else STREAM_FAILED. */
struct stream *hbone_connect(struct hbone *h, const struct hbone_request *ask) must_check;
/*
 * Client: streams that there may be at once; HBONE_UNSAID: the peer has not said it. 0: none for now; if it does not
 * allow some within the time that it has for the answer to a PING, the connection ends.
 */
#define HBONE_UNSAID UINT32_MAX
uint32_t hbone_most(const struct hbone *h);
unsigned hbone_free(const struct hbone *h); /* streams that may be opened now; 0 too while its window is closed */
unsigned hbone_streams(const struct hbone *h);
int hbone_status(const struct stream *s); /* that was answered; 0: none yet */
struct hbone *hbone_of(const struct stream *s);
/* Client: what the answer said of the destination, "" if nothing; good within ready(STREAM_OPEN). */
const char *hbone_baggage(const struct stream *s);

/* Server. `baggage` of the answer may be NULL. */
void hbone_accept(struct stream *s, const char *baggage); /* 200; STREAM_OPEN is not sent for it */
void hbone_refuse(struct stream *s, int status);	  /* and closes it; closed unanswered it is 503 */

void hbone_drain(struct hbone *h);		    /* GOAWAY; ends when the last stream has ended */
void hbone_close(struct hbone *h, const char *why); /* now; `closed` is called in this turn */

struct hbone_view { /* for weftctl tunnels and connections */
	uint32_t streams;
	uint64_t opened;		  /* streams since the start */
	int64_t send_window, recv_window; /* of the connection */
	uint64_t age_ns, ping_rtt_ns;	  /* 0: no PING answered yet */
	bool draining;
	const char *waits; /* "nothing", "window of the peer", "socket" */
};
void hbone_look(const struct hbone *h, struct hbone_view *ret);
struct hbone_stream_view {
	int32_t send_window, recv_window;
	const char *waits; /* these, "reader", "answer" */
};
void hbone_stream_look(const struct stream *s, struct hbone_stream_view *ret);

/* ------------------------------------------------------------------ http/authority.c: pure */

/* "10.0.0.1:80", "[fd00::1]:80". 0, or -EINVAL: a host name, no port, port 0, anything after it. */
int authority_parse(const char *s, struct abi_addr *ret, uint16_t *ret_port) must_check;
const char *authority_text(const struct abi_addr *a, uint16_t port, char buf[ADDR_PORT_TEXT]); /* returns buf */
/* `for="10.0.0.1:4711"` (RFC 7239); with host if it is not empty. Returns false if it was cut. */
bool forwarded_text(const struct abi_addr *from, uint16_t port, const char *host, char *buf, size_t size);
int forwarded_parse(const char *s, struct abi_addr *ret, uint16_t *ret_port) must_check; /* its `for`; -EINVAL */

#endif
