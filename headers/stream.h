/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h: the one interface to bytes: a TCP socket (io/sock.c), TLS over a stream (io/tls.c), a CONNECT stream of
 * HTTP/2 (http/hbone.c). One thread each, never blocks, copies only where the other side cannot take what has come.
 *
 *	pump(from, to):
 *		room = stream_room(to)			0: to's ready(STREAM_WRITABLE) will come
 *		n = stream_peek(from, bytes, room)	0: from's ready(STREAM_READABLE) will come, or it has ended
 *		took = stream_write(to, bytes, n)
 *		stream_consume(from, took)
 *
 * So back-pressure needs nobody's help: who is not peeked at reads no more from below (a socket's receive window, a
 * stream's HTTP/2 window closes), and who has no room is not written to.
 *
 * Events are edges. After peek() gave 0, or write() took less than it was given, or room() said 0, the event comes when
 * that has changed; not before, and once. A stream of HTTP/2 shows what comes behind bytes that nobody has consumed: so
 * the event comes after consume(0) too. Others show no more until that was taken.
 */
#ifndef WEFT_STREAM_H
#define WEFT_STREAM_H

#include "thread.h"

enum stream_event {			 /* bits */
		    STREAM_OPEN = 1,	 /* the far end took it: established, handshake done, 200 */
		    STREAM_READABLE = 2, /* bytes, or the end of what the peer sends */
		    STREAM_WRITABLE = 4,
		    STREAM_FAILED = 8, /* it is over, `why` says it; nothing more is called; the owner closes it */
		    STREAM_DRAINING = 16, /* who carries it wants to end: `draining`; all else goes on */
};

/* A run of bytes. The reader may overwrite `headroom` bytes before `data` (to put a frame header there). */
struct stream_bytes {
	uint8_t *data;
	size_t len;
	size_t headroom;
};
#define STREAM_RUNS 16 /* runs in one peek or write, at most */

struct stream;

struct stream_ops {
	/*
	 * What can be read now, at most `most` bytes, in at most STREAM_RUNS runs: how many runs, or 0. Borrowed until
	 * consume(), which must be called before the caller returns to the loop, with what was used of it (0 too).
	 */
	unsigned (*peek)(struct stream *s, struct stream_bytes run[STREAM_RUNS], size_t most);
	void (*consume)(struct stream *s, size_t len);
	/* Bytes that write() will take for sure, as far as can be known; a socket that is not full says SIZE_MAX. */
	size_t (*room)(struct stream *s);
	/* Bytes taken, from the front: less than all only if it is full. Borrowed for the call. */
	size_t (*write)(struct stream *s, const struct stream_bytes *run, unsigned runs);
	/* No more will be written: FIN, close_notify, END_STREAM, behind what was written. Once. */
	void (*finish)(struct stream *s);
	/*
	 * Ends it and frees it when this turn ends; no event after this. why NULL: in order (what was written is still
	 * sent). Else at once, so that the peer sees a failure: RST, RST_STREAM; for TLS an alert where there is one.
	 */
	void (*close)(struct stream *s, const char *why);
	/* Bytes of memory in which some wait, here and in what it alone stands on. NULL: none. */
	size_t (*kept)(const struct stream *s);
};

struct stream {
	const struct stream_ops *ops;
	struct thread *thread;
	/* The owner's. Called from the loop or from a lower layer; never from within his own call into this stream. */
	void (*ready)(struct stream *s, unsigned events);
	void *owner;
	const char *why; /* of STREAM_FAILED: a constant, as in docs/reasons.md: "reset by peer" */
	bool ended;	 /* the peer has finished and everything was consumed: peek() gives 0 for ever */
	bool finished;	 /* we have finished */
	bool silent;	 /* set by the owner: the peer has said that it sends no more; close() need not hear its end */
	bool ends_after; /* what peek() has lent is all that will come; who cannot know it says false */
	bool last;	 /* set by the owner: what is written is the last; finish or close, this turn, leave with it */
	bool draining;	 /* a tunnel's that was told to end: nothing new should begin on it */
	bool windowed;	 /* a message of HTTP/2: peek() asks nobody, and its end needs no window */
	/* counted by each kind of stream */
	uint64_t read_bytes, written_bytes;
};

static inline unsigned stream_peek(struct stream *s, struct stream_bytes run[STREAM_RUNS], size_t most)
{
	return s->ops->peek(s, run, most);
}
static inline void stream_consume(struct stream *s, size_t len)
{
	s->ops->consume(s, len);
}
static inline size_t stream_room(struct stream *s)
{
	return s->ops->room(s);
}
static inline size_t stream_write(struct stream *s, const struct stream_bytes *run, unsigned runs)
{
	return s->ops->write(s, run, runs);
}
static inline void stream_finish(struct stream *s)
{
	s->finished = true;
	s->ops->finish(s);
}
static inline void stream_close(struct stream *s, const char *why)
{
	s->ops->close(s, why);
}
static inline size_t stream_kept(const struct stream *s)
{
	return s->ops->kept ? s->ops->kept(s) : 0;
}
/* What to ask for in one peek(), of `want`: who takes less of it than that leaves the rest to be kept. */
static inline size_t stream_share(const struct stream *s, size_t want)
{
	return buf_share(&s->thread->pool, want);
}

/* ------------------------------------------------------------------ io/stream.c: queues and streams */

/* The first bytes of a queue as runs without headroom, at most `most`: how many runs; *ret_len bytes. Takes nothing. */
unsigned stream_lend(const struct buf *from, struct stream_bytes run[STREAM_RUNS], size_t most, size_t *ret_len);
/* Writes what waits in a queue of its thread, as much as `to` takes. true: nothing waits any more. */
bool stream_drain(struct stream *to, struct buf *from);

enum stream_pump { STREAM_PUMP_WAITS, /* for one of the two; its event comes */
		   STREAM_PUMP_MORE,  /* stopped for others' sake: call it again, in another turn */
		   STREAM_PUMP_ENDED, /* `in` has ended, and `out` was not told yet: stream_finish() is the caller's */
};
/* Moves what there is; *count grows by what was taken. */
enum stream_pump stream_pump(struct stream *in, struct stream *out, uint64_t *count) must_check;
/* The same, and `hear` gets what was taken: the first `len` bytes of the runs. It may be NULL. */
enum stream_pump stream_pump_heard(struct stream *in, struct stream *out, uint64_t *count,
				   void (*hear)(void *ctx, const struct stream_bytes *run, size_t len), void *ctx)
	must_check;

/* ------------------------------------------------------------------ io/sock.c: TCP */

/*
 * What each socket has: O_NONBLOCK, TCP_NODELAY, SO_LINGER {1, 0}, by which whatever dies with the process is reset,
 * and SO_KEEPALIVE with TCP_KEEPIDLE unless the other end is an app in the same netns. Who makes a socket sets them,
 * and accept() hands a listener's on.
 */
#define SOCK_KEEPALIVE_S 180 /* ztunnel's */
void sock_prepare(int fd);   /* sets them */
/* fd is taken: a TCP socket, connected. They are set here. */
struct stream *sock_stream(struct thread *t, int fd) must_check;
/* The same, of one that has them. */
struct stream *sock_prepared(struct thread *t, int fd) must_check;
/*
 * The same, for who nearly always waits for bytes (a codec of HTTP): told of them by level, he is spared the recv()
 * that finds nothing behind each that took what there was.
 */
struct stream *sock_awaited(struct thread *t, int fd) must_check;
/* The next connection of a listener, and who it is: fd, O_NONBLOCK, or -errno. */
int sock_accept(int listener, struct abi_addr *ret, uint16_t *ret_port) must_check;
/*
 * The kernel gives the lowest number that is free: this fd is one of the last that the process may have
 * (RLIMIT_NOFILE). No connection gets them: where all are taken the supervisor can hand nothing over, and a message
 * whose files were lost on the way ends the worker, with all that it carries.
 */
bool sock_is_last(int fd) must_check;
unsigned sock_files(void); /* how many there are that connections may have */
/*
 * fd is taken: an unconnected TCP socket that has them. Starts to connect; STREAM_OPEN or STREAM_FAILED comes, also
 * for what fails at once, and within timeout_ns.
 */
struct stream *sock_connect(struct thread *t, int fd, const struct abi_addr *to, uint16_t port, uint64_t timeout_ns)
	must_check;
/*
 * This one is never spliced (a tunnel's): TCP_INQ, which the kernel side takes for that too, spares a recv() after each
 * that took all. Nothing is done to a stream that is no socket.
 */
void sock_tcp_only(struct stream *s);
/*
 * Asks the kernel whether the peer of a socket has finished, or is gone, or has sent something: for who is about to
 * write to one that was idle, where the event may be on its way. Of a stream that is no socket: false.
 */
bool sock_stale(const struct stream *s) must_check;
void sock_reset(int fd); /* closes a TCP socket by RST, not FIN */
bool sock_is(const struct stream *s) must_check; /* else it is a stream of another kind, perhaps over one */
/* Bytes that were consumed, all of them, and are to be read again: `bytes` is empty after it. */
void sock_give_back(struct stream *s, struct buf *bytes);
int sock_fd(const struct stream *s); /* borrowed; for options and addresses */
#define SOCK_RESOURCES "out of resources" /* ours: of who is spoken to it says nothing */
const char *sock_error(int error); /* an errno, as in docs/reasons.md */
/* Its peer and itself, IPv4 as mapped; 0 or -errno. */
int sock_peer(int fd, struct abi_addr *ret, uint16_t *ret_port) must_check;
int sock_local(int fd, struct abi_addr *ret, uint16_t *ret_port) must_check;

/* ------------------------------------------------------------------ io/tls.c: TLS over any stream */

/*
 * TLS 1.3 and nothing else; both sides show a certificate, or the server alone; no 0-RTT, and no tickets unless the
 * context has them. OpenSSL does the handshake, io/tls_record.c the records after it. An idle connection holds no
 * buffer.
 *
 * `below` is taken; it may still be connecting. `ctx` is a SSL_CTX (a reference is taken for as long as the handshake
 * needs it). STREAM_OPEN when the handshake is done and the peer's certificate was found good; deadline_ns for both.
 * `why` of a failure names what OpenSSL or verification said ("tls: certificate has expired").
 *
 * What is written goes down when the turn ends, or 256 KB are together. STREAM_READABLE may come with nothing to read:
 * part of a record. An end of `below` without close_notify is a failure.
 */
struct tls_plan {
	void *ctx; /* SSL_CTX */
	bool server;
	bool anonymous; /* server: the client shows no certificate */
	uint64_t deadline_ns; /* 0: 10 s */
	/* Is this the peer that we want? Asked once, of a good chain. NULL: yes; else why not, a constant */
	const char *(*verify)(void *arg, void *x509);
	void *arg; /* must live until STREAM_OPEN or the close */
};
/*
 * Once for each SSL_CTX, by who makes it, before another thread has it: versions, cipher suites, and where the
 * records' keys come from; no tickets, no early data. Certificates, roots, verification and ALPN are the caller's.
 * false: OpenSSL refuses, and its error queue says why.
 */
bool tls_prepare(void *ctx) must_check;
/* A number that connections have whose handshake ended with this SSL_CTX: 0 if none was set. Control thread. */
void tls_set_mark(void *ctx, uint32_t mark);
uint32_t tls_mark(const struct stream *s);
struct stream *tls_stream(struct thread *t, struct stream *below, const struct tls_plan *plan) must_check;
struct stream *tls_below(const struct stream *s); /* borrowed */
const char *tls_alpn(const struct stream *s);	/* "h2"; "" none */
const char *tls_cipher(const struct stream *s); /* "TLS_AES_128_GCM_SHA256" */
const char *tls_group(const struct stream *s);	/* key exchange: "X25519" */
void *tls_peer(const struct stream *s);		/* X509, borrowed; NULL before STREAM_OPEN */

#endif
