/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_parts.h: HTTP/1 between its files. Outside of userspace/http and its tests nobody includes this.
 *
 *	http1_scan.c	which characters may stand where
 *	http1_parse.c	heads: bytes to struct http_head, in place
 *	http1_chunk.c	frames of a chunked body, both ways
 *	http1_write.c	heads: struct http_head to bytes
 *	http1_send.c	what leaves a connection: heads, bodies
 *	http1_receive.c	what comes: heads, bodies, the end
 *	http1.c		connections and exchanges: how they begin, what time does to them, how they end
 */
#ifndef WEFT_HTTP1_PARTS_H
#define WEFT_HTTP1_PARTS_H

#include "http.h"

/* ------------------------------------------------------------------ http1_scan.c: pure */

extern const bool http1_token[256]; /* RFC 9110 section 5.6.2 */
bool http1_is_token(const char *data, size_t len); /* not empty */
/* The first byte that a field's value cannot hold: control characters but HTAB. */
size_t http1_scan_value(const char *data, size_t len);

/* ------------------------------------------------------------------ http1_parse.c: pure */

#define HTTP1_FIELDS 256 /* room in the array of a head that came: limits are below, who changes it adds */

struct http1_limit {
	uint32_t head_bytes, line_bytes, fields;
};

struct http1_head { /* `h.field` and `h.room` are set by who asks */
	struct http_head h;
	bool keep;    /* the connection may be used again */
	bool chunked; /* HTTP_STREAM: else to the end of the connection */
	int status;   /* of a refusal */
	const char *why;
};

/* What an answer is the answer to. */
struct http1_asked {
	enum http_method method;
	bool upgrade;
};

/* >0: bytes of the head; 0: it is not all there; <0: refused, with ret->status and ret->why. Texts are in `data`. */
int http1_parse_request(const char *data, size_t len, const struct http1_limit *l, struct http1_head *ret) must_check;
int http1_parse_answer(const char *data, size_t len, const struct http1_limit *l, const struct http1_asked *asked,
		       struct http1_head *ret) must_check;
/* What stands behind the last chunk. Fields that have no business there are dropped. */
int http1_parse_trailers(const char *data, size_t len, const struct http1_limit *l, struct http1_head *ret) must_check;
/* May a trailer have it? RFC 9110 section 6.5.1. */
bool http1_trailer(const struct http_field *f);

/* ------------------------------------------------------------------ http1_chunk.c: pure */

enum http1_chunk_state {
	CHUNK_SIZE,	/* the digits of a size */
	CHUNK_SPACE,	/* behind them: ";" begins an extension, blanks before it */
	CHUNK_EXTENSION,
	CHUNK_SIZE_LF,	/* its CR was read */
	CHUNK_DATA,
	CHUNK_DATA_CR,	/* data was read, CR must come */
	CHUNK_DATA_LF,
	CHUNK_TRAILERS, /* the last chunk's line was read: trailers, or the empty line */
};

struct http1_chunk { /* zeroed: before the first */
	uint64_t left; /* CHUNK_DATA: bytes of it; CHUNK_SIZE: what its digits say so far */
	uint64_t paid; /* bytes of frames that data does not pay for: see http1_chunk.c */
	uint8_t state, digits;
};

/*
 * Eats what is not data: until CHUNK_DATA, CHUNK_TRAILERS, or the end of what is there. How many bytes; <0: it is no
 * chunked body, *ret_why, and *c is as it was: the same bytes are met again.
 */
ssize_t http1_chunk_frame(struct http1_chunk *c, const uint8_t *data, size_t len, const char **ret_why) must_check;
void http1_chunk_data(struct http1_chunk *c, uint64_t len); /* CHUNK_DATA: so much of it was read */

#define HTTP1_CHUNK_HEAD 18 /* 16 digits, CR, LF */
/* The line before `len` bytes of data, which is not 0; how long. */
size_t http1_chunk_head(uint64_t len, uint8_t to[HTTP1_CHUNK_HEAD]);

/* ------------------------------------------------------------------ http1_write.c: pure */

enum http1_framing {
	FRAME_HEAD,    /* no head was sent yet */
	FRAME_NONE,    /* no body: what is written goes nowhere */
	FRAME_LENGTH,
	FRAME_CHUNKED,
	FRAME_TO_END,  /* answers to HTTP/1.0: our FIN ends it */
	FRAME_TUNNEL,
	FRAME_DONE,    /* all of it was said */
};

struct http1_plan { /* what a head says besides what is in struct http_head */
	enum http1_framing framing;
	uint64_t length;
	bool say_length;	    /* FRAME_NONE: of what would have been sent (HEAD, 304), or 0 */
	bool close, keep;	    /* Connection: close; keep-alive, which only HTTP/1.0 has to be told */
	bool trailers;		    /* TE: trailers */
	struct http_text upgrade;   /* Connection: upgrade */
};

/* Bytes that the head takes at most. */
size_t http1_head_size(const struct http_head *h);
/* Writes it; how many bytes. Fields that a message cannot have are left out. */
size_t http1_write_answer(const struct http_head *h, const struct http1_plan *p, char *to);
size_t http1_write_request(const struct http_head *h, const struct http1_plan *p, char *to);
/* The last chunk with trailers and the empty line; the size first. */
size_t http1_trailers_size(const struct http_field *field, unsigned fields);
size_t http1_write_trailers(const struct http_field *field, unsigned fields, char *to);
/* An answer of the codec's own, which ends the connection; how many bytes. */
#define HTTP1_REFUSAL 512
size_t http1_write_refusal(int status, const char *why, bool body, char to[HTTP1_REFUSAL]);

/* ------------------------------------------------------------------ connections */

#define HTTP1_LENT 8	     /* runs of chunked data that are lent at once */
#define HTTP1_SMALL 4096     /* what is written in pieces so small leaves together, when the turn ends */
#define HTTP1_DRAIN (64u << 10) /* of a request's body that its owner did not want: read over for the next request */
#define HTTP1_STALE_NS 100000000ull /* idle for so long: the kernel is asked whether the server is still there */

enum http1_error { /* RFC 9113 section 7, of http_exchange.error */
	HTTP1_PROTOCOL_ERROR = 1,
	HTTP1_REFUSED_STREAM = 7,
	HTTP1_CANCEL = 8,
};

enum http1_reading { /* of the peer's message, in the order of its life */
	READ_HEAD,   /* client: no final answer yet */
	READ_ASKED,  /* server: a tunnel was asked for; client: bytes have no meaning before an answer */
	READ_LENGTH,
	READ_CHUNKED,
	READ_TRAILERS,
	READ_TO_END,
	READ_TUNNEL,
	READ_ENDED,
};

/* One exchange. It lives from its head to the end of the turn in which its owner closed it. */
struct http1_message {
	struct http_exchange x;
	struct http1 *h;
	struct http1_message *dead; /* next of those that are freed when the turn ends */
	enum http1_reading reading;
	enum http1_framing writing;
	enum http_method method;
	enum http_version version; /* of the request */
	uint64_t read_left;	   /* READ_LENGTH */
	uint64_t read_most;	   /* after the owner has left: up to here it is read over */
	uint64_t below_was;	   /* client: what the transport had taken before it */
	uint64_t write_left;	   /* FRAME_LENGTH; FRAME_CHUNKED: announced by a chunk's head and not yet sent */
	struct http1_chunk chunk;
	struct arena arena; /* trailers that came */
	char *trailers;	    /* the last chunk with ours; NULL: none */
	size_t trailers_len;
	unsigned informational;
	bool want_read, want_write;
	bool asked_upgrade, expect, continued;
	bool started; /* client: a byte of it may have left */
	bool held;    /* client: it leaves when the turn ends, if nothing has come until then */
	bool left;    /* by the owner */
	bool failed;  /* he was told */
	/* What peek() of a chunked body has lent, for consume(). */
	bool last; /* behind them is the end */
	unsigned lents;
	size_t raw_end;
	struct http1_chunk chunk_end;
	struct http1_lent {
		size_t raw, len;	 /* bytes before it with their frames; of it */
		struct http1_chunk chunk; /* as it is before it */
	} lent[HTTP1_LENT];
};

/* A head, or trailers, of which a part has come. */
struct http1_held {
	size_t len, size;
	size_t line; /* where the last line begins */
	unsigned lines;
	char bytes[];
};

/* What was peeked at and is being read; what was used of it is consumed when that is done. */
struct http1_batch {
	struct stream_bytes *run;
	unsigned runs;
	size_t used;
};

struct http1 {
	struct http_connection c;
	struct http1_message *m; /* under way; NULL: idle */
	struct http1_message *dead;
	struct http1_held *held;
	struct http1_batch *batch;
	struct buf out;		   /* on its way down */
	struct loop_task task;	   /* settle */
	struct loop_timer timer;   /* may be early: deadline_ns counts */
	uint64_t deadline_ns;	   /* 0: none */
	uint64_t idle_since_ns;
	uint64_t head_ns, idle_ns, rest_ns; /* limits */
	struct http1_limit limit;
	uint32_t informational;
	const char *why;
	const char *refused_why;
	uint16_t refused; /* the owner hears of it when we settle */
	bool keep;	  /* another exchange may follow */
	bool tells;	  /* the owner, of a request: what has come of it can be read */
	bool armed;	  /* `below` will tell when there is something to read */
	bool readable;	  /* there may be something */
	bool blocked;	  /* `below` is full */
	bool finish_below;
	bool peer_ended;
	bool draining, told_draining, told_free;
	bool closing; /* in order, once all was sent */
	bool over, cut, settling, closed;
};

static inline struct http1_message *http1_of(const struct http_exchange *x)
{
	return container_of(x, struct http1_message, x);
}
static inline bool http1_complete(const struct http1_message *m)
{
	return m->reading == READ_ENDED && m->writing == FRAME_DONE;
}

/* http1_send.c */
void http1_later(struct http1 *h);				     /* settles when the turn ends */
void http1_end(struct http1 *h, const char *why, bool cut);	     /* it is over */
void http1_refuse(struct http1 *h, int status, const char *why);     /* says so, then ends in order */
void http1_deadline(struct http1 *h, uint64_t after_ns);	     /* 0: none */
void http1_flush(struct http1 *h); /* not of a request that is held */
void http1_message_ended(struct http1_message *m);		     /* the peer's is complete */
void http1_answer(struct http_exchange *x, const struct http_head *head);
void http1_trailers(struct http_exchange *x, const struct http_field *field, unsigned fields);
/* The request's head; `end`: no body follows. */
void http1_ask(struct http1_message *m, const struct http_head *head, bool end);
size_t http1_room(struct stream *s);
size_t http1_write(struct stream *s, const struct stream_bytes *run, unsigned runs);
void http1_finish(struct stream *s);

/* http1_receive.c */
unsigned http1_peek(struct stream *s, struct stream_bytes run[STREAM_RUNS], size_t most);
void http1_consume(struct stream *s, size_t len);
/* The next head, if one is awaited. `make` gives a server's exchange. */
void http1_read_head(struct http1 *h, struct http1_message *(*make)(struct http1 *h));
void http1_read_trailers(struct http1_message *m);
/* What remains of a body whose owner has left; false: it is more than another request is worth. */
bool http1_read_over(struct http1_message *m) must_check;
void http1_look_ahead(struct http1 *h);	       /* nothing is awaited: is the peer still there? */
void http1_look_before(struct http1 *h);       /* client, nothing of the request has left: the same */

#endif
