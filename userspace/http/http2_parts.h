/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2_parts.h: what the files of HTTP/2 share, and nobody else sees.
 *
 *	http2_memory.c	what nghttp2 keeps of a connection
 *	http2_send.c	frames down: nghttp2's own, gathered; DATA, straight from the writer's memory
 *	http2_stream.c	one stream: its bytes, its life, its windows
 *	http2_receive.c	frames up: what nghttp2 found, handed on when the bytes were all read
 *	http2_session.c	one connection: its life, its timers
 *
 * and on top of them what the streams are for, a struct http2_user each:
 *
 *	http2_head.c, http2.c	messages (http.h)
 *	hbone.c			tunnels (hbone.h)
 *
 * Nothing of an owner is called from within nghttp2, or from within a call of his: what happened is noted in the stream
 * (`events`, `news`, list `touched`) and told by http2_tell(), from a ready() of the transport, a timer, or the turn's
 * end.
 */
#ifndef WEFT_HTTP2_PARTS_H
#define WEFT_HTTP2_PARTS_H

#include <nghttp2/nghttp2.h>

#include "http.h"

#define HTTP2_RECORD 16384   /* plaintext of one TLS record: frame and header together fill whole ones */
#define HTTP2_FRAME_HEAD 9   /* RFC 9113 section 4.1 */
#define HTTP2_GATHER 2048    /* nghttp2's frames that go down in one write */
#define HTTP2_CORK 4096	     /* a write of no more waits for the end of the turn, where the user wants that */
#define HTTP2_LITTLE 1024    /* bytes for a transport that has less room than a frame's header takes */
#define HTTP2_BATCH_RUNS 256 /* runs of one batch; what is more is copied */
#define HTTP2_SLICE 16384    /* bytes given to nghttp2 between two looks at what it has to say */
#define HTTP2_SLICE_FRAMES (HTTP2_SLICE / HTTP2_FRAME_HEAD + 1)

/*
 * A stream's window starts small and grows when its reader keeps up (as TCP's does): a reader that sleeps costs no more
 * than the start, and the connection's own window never closes because of him, since its bytes count as read when they
 * come. So what one connection can make us keep is streams * HTTP2_WINDOW_START + connection_window / HTTP2_GROWTH.
 * All that is granted may stand in a queue before a small message of another stream: with 16 bulk streams at 3 Gbit/s
 * 16 MiB of growth were 59 ms to it, 4 MiB are 27, 2 MiB 18; below 4 MiB the CPU for each byte rises by a third.
 */
#define HTTP2_WINDOW_START 65535
#define HTTP2_WINDOW_STEP 4 /* times */
#define HTTP2_GROWTH 4	    /* part of the connection's window */

/* Frames that move nothing. One that carries bytes, or a request that was answered, pays for one. */
#define HTTP2_GLITCHES 1000	   /* that may come at once */
#define HTTP2_GLITCHES_SECOND 50   /* that are forgiven each second */
#define HTTP2_GLITCHES_SAVED 65536 /* that a good past pays for */
#define HTTP2_UPDATE_LEAST 512	   /* bytes of DATA for which a WINDOW_UPDATE is no glitch */
#define HTTP2_ANSWERED 2	   /* what an answer of the owner pays: the HEADERS, and its RST_STREAM */
/* Requests taken back, or that we had to reset: nghttp2's numbers. No good past pays for them. */
#define HTTP2_RESETS 1000
#define HTTP2_RESETS_SECOND 33
/*
 * A peer that measures its round trips (gRPC's) asks with PING behind each DATA that it reads: alone, the answer would
 * be as many writes again, and wake him for nothing else. So it leaves with what is said next, or when this has passed.
 */
#define HTTP2_ACK_NS 4000000
#define HTTP2_PING_ALIVE "weft-png"
#define HTTP2_PING_DRAIN "weft-drn"
#define HTTP2_QUEUE 256			 /* frames that wait for the transport: more, and we read no further */
#define HTTP2_OUT (64 * 1024)		 /* bytes that wait for it: the same */
#define HTTP2_SETTINGS_NS 10000000000ull /* until the peer's SETTINGS */
#define HTTP2_RESETS_KEPT 256		 /* streams that we reset lately, whose frames may still come */
#define HTTP2_NEWS (128 * 1024)		 /* bytes of heads that nobody was told of: more, and they are told */

/* Why connections and streams end. Each user has a table of them, with its own name before each. */
#define HTTP2_WHYS(X)                                                   \
	X(CLOSED, "the peer has closed the connection")                    \
	X(CLOSED_HERE, "the connection was closed")                        \
	X(SILENT, "the peer is silent")                                    \
	X(NO_SETTINGS, "no SETTINGS from the peer in time")                \
	X(SLOW_HEAD, "headers do not end in time")                         \
	X(STREAM_CLOSED, "frames of a stream that has ended")              \
	X(GLITCHES, "too many frames that move nothing")                   \
	X(RESETS, "too many streams that were reset")                      \
	X(FLOOD, "too many frames that want an answer")                    \
	X(HEADERS, "headers too large")                                    \
	X(CANNOT_SEND, "cannot send a frame")                              \
	X(PROTOCOL, "protocol error of the peer")                          \
	X(GOAWAY, "the peer has sent GOAWAY with an error")                \
	X(NO_HTTP2, "the peer does not speak HTTP/2")                      \
	X(UNPROCESSED, "the peer refuses the stream")                      \
	X(SHUT, "the peer allows no streams")                              \
	X(RESET, "reset by the peer")                                      \
	X(MALFORMED, "malformed message")                                  \
	X(STREAMS, "more streams than there may be")                       \
	X(INFORMATIONAL, "too many answers before the final one")          \
	X(CANNOT_ANSWER, "cannot answer")

enum http2_why {
#define X(symbol, text) HTTP2_WHY_##symbol,
	HTTP2_WHYS(X)
#undef X
	HTTP2_WHY_COUNT
};

enum http2_state {		 /* in order of life */
		   HTTP2_NEW,	 /* server: its headers are coming; client: they go out */
		   HTTP2_ASKED,	 /* server: the owner has it and has not answered */
		   HTTP2_OPEN,	 /* it was answered */
		   HTTP2_LEFT,	 /* the owner has closed it; END_STREAM or RST_STREAM is on its way */
		   HTTP2_FREE,	 /* nobody has it; freed when the turn ends */
};

struct http2;

struct http2_run {
	uint8_t *data;
	size_t len, headroom;
	unsigned next; /* index + 1 */
};

/* What one read of the transport brought. Lives on the stack of who reads: an idle connection costs nothing. */
struct http2_batch {
	const uint8_t *slice; /* being parsed */
	bool head;	      /* a frame header was parsed, nothing after it yet */
	unsigned runs;
	struct http2_run run[HTTP2_BATCH_RUNS];
};

struct http2_stream { /* the first member of what a user makes of it */
	union {
		struct stream s; /* its first member */
		struct http_exchange exchange;
	};
	struct http2 *h;
	struct list link;    /* h->all, or h->free */
	struct list touched; /* h->touched */
	struct list waiting; /* h->waiting: for room */
	struct buf kept;     /* bytes that the owner has not read yet, before those of the batch */
	unsigned first, last; /* runs of the batch: index + 1 */
	int32_t id;
	uint32_t window;   /* what we let the peer send */
	uint32_t read_new; /* since the window grew */
	uint8_t state;	   /* enum http2_state */
	uint8_t events;	   /* enum stream_event, to be told */
	bool news;	   /* the user has something to tell, before them */
	bool unheard;	   /* server: the owner does not know of it yet */
	bool readable;	   /* the owner may hear of bytes: HEADERS came before them */
	bool writable;	   /* HEADERS have been submitted: DATA may follow */
	bool want_read;	   /* peek() gave 0 */
	bool peer_ended;   /* END_STREAM, or RST_STREAM that says as much: nothing comes any more */
	bool gone;	   /* nghttp2 has no such stream any more */
	bool cut;	   /* gone by RST_STREAM: what the owner writes reaches nobody */
	bool end_said;	   /* nghttp2 knows that nothing follows but trailers, and has these */
	bool end_sent;	   /* END_STREAM has left */
	bool reset_sent;   /* RST_STREAM has left: what follows is our doing */
	bool ticked;	   /* HTTP2_LEFT: has seen one tick already */
};

/* As in hbone.h and http.h; zero is zero here: none. */
struct http2_limits {
	uint32_t stream_window, connection_window, frame_size;
	uint32_t head_bytes; /* of one head, decoded; four times that ends the connection */
	uint32_t fields;
	uint32_t streams;
	bool resets; /* HTTP2_RESETS holds */
	uint64_t ping_ns, ping_timeout_ns, idle_ns, head_ns;
};

struct http2_text { /* of a field that has come: who keeps it, holds it */
	nghttp2_rcbuf *of;
	nghttp2_vec v;
};

/* What the streams are for. Of these none may call an owner but tell(), draining() and closed(). */
struct http2_user {
	const char *const *reason; /* by enum http2_why */
	size_t stream_size;
	bool cork;	       /* small writes wait for the end of the turn: the transport sends each by itself */
	bool leaf;	       /* no session writes to a stream of it: http2_memory.c */
	bool extended_connect; /* server: SETTINGS_ENABLE_CONNECT_PROTOCOL */
	void (*begin)(struct http2 *h); /* a head or trailers begin: one at a time. NULL: nothing */
	/* A field of the head that is coming on x; `trouble`: it is too large already. 0, or an error of nghttp2 */
	int (*field)(struct http2_stream *x, const struct http2_text *name, const struct http2_text *value,
		     uint8_t flags, bool trouble);
	/* It has come whole, HEADERS with END_STREAM perhaps: x->peer_ended. */
	void (*head)(struct http2_stream *x, const nghttp2_frame *frame, bool trouble);
	void (*tell)(struct http2_stream *x);		    /* x->news, before its ready() */
	void (*told)(struct http2_stream *x);		    /* after that; the owner still has it. NULL: nothing */
	void (*gone)(struct http2_stream *x, uint32_t error); /* closed by RST_STREAM, or with the connection */
	void (*drop)(struct http2_stream *x);		    /* nobody asks for it any more: frees what it has */
	size_t (*write_cut)(struct http2_stream *x, size_t all);
	bool (*complete)(struct http2_stream *x); /* may it end as it is? NULL: yes */
	/* Submits trailers; `any`: also if there are none. false: not. NULL: never */
	bool (*trail)(struct http2_stream *x, bool any);
	void (*close)(struct stream *s, const char *why);
	void (*refused)(struct http2 *h, int status, enum http2_why why); /* to be noted. NULL: not */
	void (*settled)(struct http2 *h);				      /* may tell of that. NULL */
	void (*settings)(struct http2 *h);				      /* the peer's have come. NULL */
	void (*draining)(struct http2 *h);
	void (*closed)(struct http2 *h, const char *why);
};

struct http2 { /* the first member of what a user makes of it: freed as one */
	nghttp2_session *session;
	struct stream *below;
	struct thread *thread;
	const struct http2_user *user;
	struct http2_limits limit;
	uint32_t window_start; /* of a stream */
	uint32_t frame_most;   /* payload of the largest DATA frame that we send */
	struct list all, touched, waiting, free;
	struct http2_stream *found; /* the last that http2_stream_find() gave; it has not gone */
	struct loop_timer tick;	     /* PING, idle, streams that do not end */
	struct loop_timer again;     /* `more`; `acks` */
	struct loop_timer rest;	     /* http2_memory.c: nothing happens */
	nghttp2_session *asleep;     /* then the session is this, and packed; `session` is NULL */
	struct pages_image *image;   /* the same: of `block` */
	uint8_t *block;		     /* the session's large pieces; NULL: they stand elsewhere */
	void *written;		     /* where nghttp2 writes a frame: SCRATCH_FRAME; NULL: to memory of its own */
	uint64_t asleep_ns;	     /* since then */
	uint16_t block_used;	     /* bytes */
	uint8_t rest_shift;	     /* how much longer than a second it must be at rest before it sleeps */
	struct loop_task end;	     /* of the turn */
	struct http2_batch *batch;   /* while something is being read */
	struct buf out;		     /* what the transport did not take */
	struct buf corked;	     /* what goes down when the turn ends */
	uint8_t *gather;	     /* while something is being sent: HTTP2_GATHER bytes */
	size_t gathered;
	size_t acks; /* bytes of answers to PING, of those that were gathered or corked since these went down */
	struct { /* server: where the peer's frames begin */
		uint32_t left; /* bytes until then */
		uint8_t have;  /* of `head` */
		uint8_t head[HTTP2_FRAME_HEAD + 4];
		uint32_t ends; /* the last stream that the peer has ended */
	} frame;
	struct { /* the write that is under way */
		struct http2_stream *x;
		const struct stream_bytes *run;
		size_t at;   /* in *run */
		size_t left; /* bytes */
		bool ends;   /* they are the last of the stream */
	} give;
	unsigned streams; /* that nghttp2 has */
	unsigned held;	  /* streams that exist */
	uint64_t opened;
	uint64_t grown; /* bytes of windows above their start */
	uint64_t born_ns, heard_ns, idle_ns, glitch_ns, reset_ns;
	uint64_t ping_ns, rtt_ns; /* sent, 0: none on its way */
	uint64_t pinged_ns, drain_ns, tick_ns;
	uint64_t head_ns;     /* since when a head is coming; 0: none is */
	uint64_t shut_ns;     /* client: since when the peer allows no stream at all; 0: it allows some */
	int glitches;	      /* below zero: saved */
	int resets;
	int32_t last_id;   /* server: the newest stream */
	int32_t *reset_id; /* HTTP2_RESETS_KEPT of them, in turn, from the first one on */
	unsigned reset_at;
	uint32_t head_bytes;  /* of the one that is coming */
	uint32_t head_fields;
	uint32_t news_bytes;  /* of heads that came in this slice and those before, and are not told */
	const char *why;
	bool server, draining, told_draining, last_goaway, settings, first_frame;
	bool over;   /* nothing is sent or read any more */
	bool closed; /* and the owner knows */
	bool settling;
	bool doomed; /* GOAWAY is the last that we say: nothing is read any more */
	bool doomed_ticks;
	bool drain_asked; /* by the owner */
	bool cut;	  /* the transport is of no use any more */
	bool deaf;	  /* the peer does not take what we say: we read no further */
	bool more;	  /* to read, when the others had their turn */
	bool may_write;	  /* somebody who waits for room may have it */
};

/* http2_memory.c */
/* Makes h->session: 0 or nghttp2's error. */
int http2_memory_session(struct http2 *h, const nghttp2_session_callbacks *calls, const nghttp2_option *option);
void http2_memory_idle(struct http2 *h); /* it has no stream now */
void http2_memory_rouse(struct http2 *h);
void http2_memory_end(struct http2 *h); /* frees h->session, which is awake */
/* Before anything is asked of h->session by who was called from outside of HTTP/2. */
static inline void http2_memory_wake(struct http2 *h)
{
	if (h->asleep)
		http2_memory_rouse(h);
}

/* http2_send.c */
void http2_flush(struct http2 *h);			/* what nghttp2 has to say, as far as the transport takes it */
void http2_uncork(struct http2 *h);			/* and what waits for the end of the turn */
bool http2_may_wait(const struct http2 *h);		/* that: it is nothing but `acks`, and more will follow */
void http2_settle_later(struct http2 *h);		/* at the end of the turn */
void http2_end(struct http2 *h, const char *why);	/* over; NULL: in order. closed() comes when it settles */
void http2_doom(struct http2 *h, uint32_t error, enum http2_why why); /* GOAWAY, and no more */
void http2_seen_reset(struct http2 *h);			/* one more of HTTP2_RESETS */
bool http2_was_reset(const struct http2 *h, int32_t id); /* by us, lately */
void http2_frame_limit(struct http2 *h);		/* the peer's SETTINGS have come, or none yet: `frame_most` */
ssize_t http2_on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
		      nghttp2_data_source *source, void *arg);
void http2_send_callbacks(nghttp2_session_callbacks *c);

/* http2_stream.c */
struct http2_stream *http2_stream_new(struct http2 *h, int32_t id);
void http2_stream_never(struct http2_stream *x);  /* it was never known to nghttp2: freed at once */
void http2_stream_let_go(struct http2_stream *x); /* the owner has done with it */
void http2_stream_touch(struct http2_stream *x, unsigned events);
void http2_stream_fail(struct http2_stream *x, const char *why);
void http2_stream_gone(struct http2_stream *x, uint32_t error); /* nghttp2 closed it */
void http2_stream_reset(struct http2_stream *x, uint32_t error);
void http2_stream_ended(struct http2_stream *x);						   /* END_STREAM came */
void http2_stream_take(struct http2_stream *x, uint8_t *data, size_t len, size_t headroom); /* of DATA */
void http2_stream_keep(struct http2_stream *x); /* copies what is left of the batch */
bool http2_stream_may_write(struct http2_stream *x);
void http2_stream_set_state(struct http2_stream *x, enum http2_state state);
/* Of nghttp2's, which is asked once for a row of fields and frames of one stream. NULL: it has none of ours. */
static inline struct http2_stream *http2_stream_find(struct http2 *h, int32_t id)
{
	if (!h->found || h->found->id != id)
		h->found = nghttp2_session_get_stream_user_data(h->session, id);
	return h->found;
}
static inline struct http2_stream *http2_stream_of(const struct stream *s)
{
	return container_of(s, struct http2_stream, s);
}
/* A header for nghttp2, which copies the value; v may be NULL. */
#define HTTP2_FIELD_FLAGS(n, v, f)                                                           \
	{                                                                                    \
		.name = (uint8_t *)(n), .namelen = sizeof(n) - 1, .value = (uint8_t *)(v),   \
		.valuelen = (v) ? strlen(v) : 0, .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | (f) \
	}
#define HTTP2_FIELD(n, v) HTTP2_FIELD_FLAGS(n, v, 0)

/* http2_receive.c */
void http2_read(struct http2 *h);  /* what the transport has, and tells who it is for */
void http2_tell(struct http2 *h);  /* every event that waits */
void http2_offer(struct http2 *h); /* room, to who waits for it, in turn */
void http2_receive_callbacks(nghttp2_session_callbacks *c);

/* http2_session.c */
/* `h` was allocated, zeroed, with its user's part; `below` is taken. */
void http2_start(struct http2 *h, struct thread *t, struct stream *below, const struct http2_user *user,
		 const struct http2_limits *l, bool server);
/* Of a limit that the user did not set. */
static inline uint32_t http2_or(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}
static inline uint64_t http2_or_ns(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}
unsigned http2_free(const struct http2 *h); /* streams that a client may open now */
const char *http2_waits(const struct http2 *h); /* for people: "nothing", "reader" ... */
const char *http2_stream_waits(const struct http2_stream *x);
void http2_drain(struct http2 *h);
void http2_close(struct http2 *h, const char *why);
void http2_settle(struct http2 *h); /* tells and sends until nothing waits; from a timer of a user */

#endif
