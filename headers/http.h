/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h: messages of HTTP, whatever version carries them, and the connections that do (http/http1*.c, our own;
 * http/http2*.c over nghttp2). RFC 9110, 9112, 9113, 8441.
 *
 *	server:	events.request(c, x, head)  -->  http_answer(x, head)    both bodies: x->s, a struct stream
 *	client:	x = http_request(c, head)   -->  events.answer(x, head)
 *
 * One exchange (struct http_exchange) is one request and its answer. Its body is a struct stream: what the peer sends
 * is read from it, what we send is written to it, and back-pressure, half-close and failure are those of stream.h. So a
 * proxy joins two exchanges as a relay joins two sockets. `s.ended`: the peer's message is complete, with its trailers;
 * stream_finish(): ours is. A message that was cut is STREAM_FAILED, never an end.
 *
 * What is passed on is a message, never bytes: framing and what concerns one connection only (Content-Length,
 * Transfer-Encoding, Connection and what it names, Keep-Alive, Proxy-Connection, Upgrade, TE but "trailers", Host,
 * pseudo fields) is taken out of the fields by who reads, and made anew by who writes.
 */
#ifndef WEFT_HTTP_H
#define WEFT_HTTP_H

#include "stream.h"

/* ------------------------------------------------------------------ heads */

struct http_text { /* not NUL-terminated; never holds NUL, CR or LF */
	const char *at;
	size_t len;
};
#define HTTP_TEXT(literal) ((struct http_text){literal, sizeof(literal) - 1})

enum http_version { HTTP_1_0, HTTP_1_1, HTTP_2 };
enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE, HTTP_CONNECT, HTTP_OPTIONS, HTTP_TRACE,
		   HTTP_PATCH, HTTP_METHOD_OTHER };

/* What a field is, where weft asks for it by name; http/name.c. */
#define HTTP_NAMES(X)                                                                                             \
	X(ACCEPT_ENCODING, "accept-encoding")                                                                     \
	X(ACCESS_CONTROL_REQUEST_HEADERS, "access-control-request-headers")                                       \
	X(ACCESS_CONTROL_REQUEST_METHOD, "access-control-request-method")                                         \
	X(AUTHORIZATION, "authorization")                                                                         \
	X(CONNECTION, "connection")                                                                               \
	X(CONTENT_LENGTH, "content-length")                                                                       \
	X(CONTENT_TYPE, "content-type")                                                                           \
	X(COOKIE, "cookie")                                                                                       \
	X(DATE, "date")                                                                                           \
	X(EXPECT, "expect")                                                                                       \
	X(FORWARDED, "forwarded")                                                                                 \
	X(GRPC_MESSAGE, "grpc-message")                                                                           \
	X(GRPC_STATUS, "grpc-status")                                                                             \
	X(GRPC_TIMEOUT, "grpc-timeout")                                                                           \
	X(HOST, "host")                                                                                           \
	X(HTTP2_SETTINGS, "http2-settings")                                                                       \
	X(KEEP_ALIVE, "keep-alive")                                                                               \
	X(LOCATION, "location")                                                                                   \
	X(ORIGIN, "origin")                                                                                       \
	X(PROXY_CONNECTION, "proxy-connection")                                                                   \
	X(SEC_WEBSOCKET_ACCEPT, "sec-websocket-accept")                                                           \
	X(SEC_WEBSOCKET_KEY, "sec-websocket-key")                                                                 \
	X(SERVER, "server")                                                                                       \
	X(TE, "te")                                                                                               \
	X(TRACEPARENT, "traceparent")                                                                             \
	X(TRAILER, "trailer")                                                                                     \
	X(TRANSFER_ENCODING, "transfer-encoding")                                                                 \
	X(UPGRADE, "upgrade")                                                                                     \
	X(VARY, "vary")                                                                                           \
	X(VIA, "via")                                                                                             \
	X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert")                                                     \
	X(X_FORWARDED_FOR, "x-forwarded-for")                                                                     \
	X(X_FORWARDED_HOST, "x-forwarded-host")                                                                   \
	X(X_FORWARDED_PROTO, "x-forwarded-proto")                                                                 \
	X(X_REQUEST_ID, "x-request-id")

enum http_name {
	HTTP_NAME_OTHER,
#define X(symbol, text) HTTP_NAME_##symbol,
	HTTP_NAMES(X)
#undef X
	HTTP_NAME_COUNT
};
enum http_name http_name(const char *at, size_t len); /* any case */
/* Of one connection only (RFC 9110 section 7.6.1, RFC 9113 section 8.2.2), or said in another way in each version. */
static inline bool http_name_is_hop(enum http_name n)
{
	switch (n) {
	case HTTP_NAME_CONNECTION:
	case HTTP_NAME_CONTENT_LENGTH:
	case HTTP_NAME_HOST:
	case HTTP_NAME_HTTP2_SETTINGS:
	case HTTP_NAME_KEEP_ALIVE:
	case HTTP_NAME_PROXY_CONNECTION:
	case HTTP_NAME_TE:
	case HTTP_NAME_TRANSFER_ENCODING:
	case HTTP_NAME_UPGRADE:
		return true;
	default:
		return false;
	}
}
/* Those, and what else is of framing: made anew by who writes a message; no route adds, changes or removes one. */
static inline bool http_name_is_framing(enum http_name n)
{
	return http_name_is_hop(n) || n == HTTP_NAME_EXPECT || n == HTTP_NAME_TRAILER;
}

struct http_field {
	struct http_text name, value; /* the name as it came: HTTP/1 keeps its case, HTTP/2 has lower case */
	enum http_name id;
	bool secret; /* HPACK: never indexed */
};

enum http_body {
	HTTP_NO_BODY, /* nothing follows; `length` may still be known (HEAD, 304) */
	HTTP_LENGTH,  /* exactly `length` bytes */
	HTTP_STREAM,  /* until it ends by itself: chunked, END_STREAM, or (answers to HTTP/1.0) the end */
	HTTP_TUNNEL,  /* no message any more: bytes both ways (101, 2xx of CONNECT) */
};

/*
 * A request's head or an answer's. What codecs give is borrowed for the call (http_head_keep() copies). Who sends one
 * owns its texts for the call.
 */
struct http_head {
	enum http_version version; /* that it came by */
	/* request */
	enum http_method method;
	struct http_text method_text;
	struct http_text scheme;    /* "http" where HTTP/1 does not say */
	struct http_text authority; /* of the target, else Host; may be empty (HTTP/1.0) */
	struct http_text path;	    /* origin-form with its query; "*"; empty for CONNECT */
	/*
	 * "websocket": a request to switch protocols: Upgrade with method GET, and extended CONNECT of HTTP/2 (RFC
	 * 8441) alike, which come and go as GET here. The answer that agrees has status 101 here, over HTTP/2 too.
	 */
	struct http_text upgrade;
	bool expect; /* 100-continue; also left in the fields */
	bool trailers; /* TE: trailers */
	/* answer */
	uint16_t status;
	struct http_text reason; /* HTTP/1 */
	/* both */
	enum http_body body;
	bool has_length;
	uint64_t length;
	struct http_field *field; /* in order; `room` of them may be used by who changes it */
	unsigned fields, room;
};

/* Deep copy into an arena, with room for `more` fields. */
struct http_head *http_head_keep(struct arena *a, const struct http_head *h, unsigned more) must_check;
/* First field of that name, or the next one after `after`; NULL. */
const struct http_field *http_field(const struct http_head *h, enum http_name id, const struct http_field *after);
/* The same for names without an id: `name` in lower case. */
const struct http_field *http_field_named(const struct http_head *h, struct http_text name,
					  const struct http_field *after);
/* false: no room. Texts are not copied. */
bool http_field_add(struct http_head *h, struct http_text name, struct http_text value) must_check;
/* The same with room made in the arena where there is none. */
void http_field_put(struct arena *a, struct http_head *h, struct http_text name, struct http_text value);
void http_field_remove(struct http_head *h, struct http_text name); /* all of them; lower case */
struct http_text http_text_keep(struct arena *a, struct http_text t) must_check; /* a copy, NUL-terminated */
bool http_text_equal(struct http_text a, struct http_text b);
bool http_text_equal_nocase(struct http_text a, struct http_text b);
bool http_is_grpc(const struct http_head *h); /* content-type application/grpc, with or without +proto */
/*
 * One protocol (RFC 9110 section 7.8: name[/version]) that requests may ask to switch to, by Upgrade or :protocol. Not
 * HTTP/2 and TLS: of what is said behind one nobody could judge or count a request. http/http1_scan.c
 */
bool http_may_switch_to(struct http_text protocol);

/* ------------------------------------------------------------------ exchanges and connections */

struct http_exchange {
	struct stream s; /* the body; also tells of its end and failure */
	struct http_connection *connection;
	const struct http_exchange_ops *ops;
	/* of the peer, good from s.ended until the close; NULL: none */
	const struct http_head *trailers;
	/*
	 * RFC 9113 section 7. Of a failure: what the peer's RST_STREAM said, or what HTTP/1 comes to (CANCEL: cut).
	 * To be set before stream_close(why != NULL): what the peer shall hear. HTTP/1 closes the connection.
	 */
	uint32_t error;
	/* Of a failure, client: the server has certainly not acted on it (REFUSED_STREAM, GOAWAY, nothing sent). */
	bool unprocessed;
	bool head_sent, head_came; /* of the final head */
	/*
	 * Server, set before the final answer(): the owner reads no more of the request. HTTP/1 says with the answer
	 * if the connection ends for that.
	 */
	bool unread;
};

struct http_exchange_ops {
	/* Server: 1xx, any number, then one final answer, which is followed by the body (or finish() at once). */
	void (*answer)(struct http_exchange *x, const struct http_head *h);
	/*
	 * Fields for after the body; before stream_finish(), which sends them, or a stream_write() of the `last`, which
	 * may. The first that are given count. What the peer cannot take is dropped.
	 */
	void (*trailers)(struct http_exchange *x, const struct http_field *field, unsigned fields);
};
static inline void http_answer(struct http_exchange *x, const struct http_head *h)
{
	x->ops->answer(x, h);
}
static inline void http_trailers(struct http_exchange *x, const struct http_field *field, unsigned fields)
{
	x->ops->trailers(x, field, fields);
}
/* Those that have come, if any. */
static inline void http_pass_trailers(const struct http_exchange *from, struct http_exchange *to)
{
	if (from->trailers)
		http_trailers(to, from->trailers->field, from->trailers->fields);
}

struct http_events { /* of one connection; called from the loop or a lower layer, never from within a call into it */
	/*
	 * Server: the head of a request. Set x->s.ready and x->s.owner; end it with stream_close(&x->s, ...), when both
	 * directions have ended or at any time before. HTTP/1: the next one comes when this one was closed.
	 */
	void (*request)(struct http_connection *c, struct http_exchange *x, const struct http_head *h);
	/* Client: 1xx, any number, then the final one. */
	void (*answer)(struct http_exchange *x, const struct http_head *h);
	/* Client: it can take a request again (it was not free() for a while). */
	void (*free)(struct http_connection *c);
	/* Client, HTTP/2: the server's SETTINGS have come: c->settled; again when c->shut has changed. */
	void (*settled)(struct http_connection *c);
	/* Server: the codec has refused something by itself: for counters and the log. `status` 0: none was sent. */
	void (*refused)(struct http_connection *c, int status, const char *why);
	/*
	 * Server, HTTP/1, may be NULL: nothing has happened for limits.rest_ns, and nothing is held or under way:
	 * http1_leave() may be called now, by which the owner keeps the transport alone until it says something.
	 */
	void (*rests)(struct http_connection *c);
	/* No new requests any more; those under way go on. Once. */
	void (*draining)(struct http_connection *c);
	/* It is over; why NULL: in order. Every exchange has ended or failed before. Freed at the end of the turn. */
	void (*closed)(struct http_connection *c, const char *why);
};

/* Zero means the default. Sources of the defaults: facts/l7.md section 1.4. */
struct http_limits {
	uint32_t head_bytes; /* of one head, decoded, each field with 32 more (RFC 9113 section 10.5.1): 60 KiB */
	uint32_t line_bytes; /* HTTP/1 request line: 16 KiB; longer: 414 */
	uint32_t fields;     /* of one head or trailer, cookie crumbs too: 100 */
	uint32_t streams;    /* HTTP/2, at once: 100 server; client: min(100, what the peer allows) */
	uint32_t stream_window, connection_window; /* HTTP/2, as in hbone.h */
	uint32_t frame_size;			   /* HTTP/2: 16 KiB */
	uint32_t informational;				       /* 1xx before one final answer: 16 */
	uint64_t head_ns; /* server: from the first byte of a head (h1), or of a connection, to its end: 10 s */
	uint64_t idle_ns; /* without an exchange: server 1 h, client 60 s */
	uint64_t rest_ns; /* the same, until events.rests, up to twice as long: 0 means never */
	/* HTTP/2: 0 means none. Of a server that allows no requests: the same time later its connection ends. */
	uint64_t ping_ns, ping_timeout_ns;
};

struct http_connection_ops {
	/* Client: NULL: not free. `end`: there is no body. The head is written or copied within the call. */
	struct http_exchange *(*request)(struct http_connection *c, const struct http_head *h, bool end);
	unsigned (*free)(const struct http_connection *c); /* client: requests that may begin now */
	unsigned (*active)(const struct http_connection *c);
	void (*drain)(struct http_connection *c); /* ends when the last exchange has: GOAWAY, Connection: close */
	void (*close)(struct http_connection *c, const char *why); /* now; `closed` is called in this turn */
	size_t (*kept)(const struct http_connection *c);
};

struct http_connection {
	const struct http_connection_ops *ops;
	const struct http_events *events;
	struct thread *thread;
	struct stream *below; /* borrowed by others */
	void *owner;
	enum http_version version; /* HTTP_1_1 or HTTP_2 */
	bool server, secure;	   /* secure: below is TLS to the client (scheme https): set by the owner */
	bool settled;		   /* client: what it can do is known; HTTP/1: from the start */
	bool shut;		   /* client, HTTP/2: the server allows no request at all, for now */
	bool extended_connect;	   /* client: the peer takes extended CONNECT */
	/*
	 * Server, HTTP/1, set by the owner before drain(): an idle client has this time: a request that is on its
	 * way is answered, with Connection: close, where the end of the connection would have crossed it. 0: none.
	 */
	uint64_t last_ns;
};
static inline struct http_exchange *http_request(struct http_connection *c, const struct http_head *h, bool end)
{
	return c->ops->request(c, h, end);
}
static inline unsigned http_free(const struct http_connection *c)
{
	return c->ops->free(c);
}

/* stream_kept() of all that it has. */
static inline size_t http_kept(const struct http_connection *c)
{
	return c->ops->kept(c);
}

/* `below` is taken and must be open. No event comes from within this call, nor from any other of these. */
struct http_connection *http1_server(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner) must_check;
/*
 * In events.rests: the connection is given back without its end: it is freed when the turn ends, no event comes any
 * more. What it gives is `below`, the caller's now: http1_server() goes on with it, whatever has come on it meanwhile.
 */
struct stream *http1_leave(struct http_connection *c) must_check;
struct http_connection *http1_client(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner) must_check;
struct http_connection *http2_server(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner) must_check;
struct http_connection *http2_client(struct thread *t, struct stream *below, const struct http_limits *l,
				     const struct http_events *e, void *owner) must_check;

/* ------------------------------------------------------------------ what is spoken: http/detect.c */

enum http_spoken { HTTP_SPOKEN_UNKNOWN, /* more bytes are needed to tell */
		   HTTP_SPOKEN_HTTP1,
		   HTTP_SPOKEN_HTTP2, /* the client's preface (RFC 9113 section 3.4) */
		   HTTP_SPOKEN_TLS,   /* a ClientHello */
		   HTTP_SPOKEN_OTHER };
/* Of a client's first bytes. */
enum http_spoken http_detect(const uint8_t *data, size_t len);
/* server_name of a ClientHello that may come in parts (RFC 6066 section 3): >0 its length, 0 more bytes, <0 none */
int http_sni(const uint8_t *data, size_t len, char name[256]) must_check;

/* ------------------------------------------------------------------ http/path.c: pure */

/*
 * The one form of a path that is matched, judged and sent on: RFC 3986 section 6.2.2: unreserved characters decoded,
 * hex digits upper case, dot segments removed; "*" is itself. `to` has room for `path.len` bytes, and may be the path.
 * false: ambiguous or not a path at all (%2F, %5C, "\", "..;x", escapes of control characters, a bad escape, "#", what
 * no URI has, above the root), *ret_why says which, a constant. `merge`: "//" becomes "/". What else is escaped, or
 * not, stays so, and makes another path. The query is only looked through; ret_query->at NULL: there is none. With
 * one, `to` holds path, "?" and query as they are sent.
 */
bool http_path_normalise(struct http_text path, bool merge, char *to, struct http_text *ret_path,
			 struct http_text *ret_query, const char **ret_why) must_check;
/* Of a pattern of paths, in place: its escapes in that form. What is no escape, or makes a path be refused, stays. */
void http_path_escapes(char *pattern);
/* host[:port] as RFC 3986 has it: lower case without the port and without a final dot. false: it is not one. */
bool http_host(struct http_text authority, char to[256], struct http_text *ret_host, uint16_t *ret_port) must_check;

/* ------------------------------------------------------------------ http/websocket.c: pure */

/*
 * RFC 6455 over HTTP/1.1 and RFC 8441 over HTTP/2: the two have the same messages (struct http_head.upgrade), but
 * sec-websocket-key and -accept are of HTTP/1 alone. Where the two sides differ, weft is the one that keeps them.
 *
 *	client h1, server h2:	the key is taken out of the request, its accept is put into the 101
 *	client h2, server h1:	a key is put into the request, the accept of the 101 must be of it and is taken out
 *	both the same:		passed on as they are
 */
struct websocket {
	bool add, verify;
	char accept[29]; /* NUL-terminated */
};
/*
 * The request, before it is sent by a connection of version `to`; `random`: 16 bytes for a key. NULL, or why it is to
 * be answered with 400, a constant. Room for one more field. A head that asks for no WebSocket is left alone.
 */
const char *websocket_request(struct arena *a, struct http_head *request, enum http_version to,
			      const uint8_t random[16], struct websocket *ret) must_check;
/* The final answer, kept with room for one more field; *w must outlive it. NULL, or why the client gets 502. */
const char *websocket_answer(const struct websocket *w, struct http_head *answer) must_check;
/* base64(SHA-1(key + GUID)), RFC 6455 section 4.2.2; of a key of 24 characters */
void websocket_accept(struct http_text key, char accept[29]);

#endif
