/* SPDX-License-Identifier: Apache-2.0 */
/*
 * equivalence: "a spliced connection behaves as a direct one", row by row.
 *
 * A row is a short play between two programs in two pods: a client and a server, each with one end of one
 * connection. Both write down what they saw (values returned, errors by name, bytes, poll events, their order),
 * never a time, so that what was seen over a direct connection and what was seen through weft are the same text or
 * there is a difference to name.
 *
 *	main.c      the command line; runs rows, several at once
 *	pair.c      one run of one row: two processes in two places, connect, talk, play
 *	path.c      what weft says of the connection
 *	compare.c   results of a direct run against those through weft, and the table of docs/equivalence.md
 *	saw.c       the vocabulary of the rows: send, receive, poll, arrive, meet
 *	rows.c      all rows in the order of the table; one file for each topic: reading.c, options.c ...
 *
 * The two sides meet through a socket pair of their own, so no row waits for time where it means a condition.
 */
#ifndef EQUIVALENCE_H
#define EQUIVALENCE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

#define ROW_CLIENT_BLOCKS 1u /* the client's socket is blocking; else O_NONBLOCK from the start */
#define ROW_SERVER_BLOCKS 2u
#define ROW_BLOCKS 3u
#define ROW_SILENT 4u	 /* no conversation before the play: the play begins with a connection just accepted */
#define ROW_BARE 8u	 /* the play itself connects and accepts: the client's `fd` is not connected, the server's -1 */
#define ROW_ENDS 16u	 /* weft may end the connection (with a reason): what was seen until then must be equal */
#define ROW_ALONE 32u	 /* teaches weft something of its pods: wants pods of its own, or runs after all others */
#define ROW_AFTER 64u	 /* wants the pods of the row before it, and what that has taught */
#define ROW_FAMILY6 128u /* the server listens on ::, the client's socket is AF_INET6 with a mapped address */
#define ROW_SERVER6 256u /* only the server's is AF_INET6 */
#define ROW_DIALS 512u	 /* the client connects in the play: never mirrored */

struct side;

struct row {
	const char *number; /* of the table in docs/equivalence.md */
	const char *name;   /* unique */
	const char *text;   /* what the programs do */
	void (*client)(struct side *s);
	void (*server)(struct side *s);
	void (*before)(struct side *s); /* on `fd` of both sides before connect() and listen() */
	void (*early)(struct side *s);	/* on `fd` of both sides right after connect() and accept() */
	unsigned flags;			/* ROW_* */
	int client_protocol, server_protocol; /* of socket(); 0 TCP */
	const char *nature; /* why weft does not hide a difference in the lines that by_nature() marks; NULL: none */
};

/* The rows in the order of the table; NULL behind the last. */
const struct row *row_at(size_t index);

/* One of the two programs of a row. Made by pair.c, used by rows. */
struct side {
	const struct row *row;
	bool client;  /* which program it plays */
	bool nature;  /* see by_nature() */
	bool dials;   /* which end of the connection it has: as the program, unless the row is played mirrored */
	int fd;	      /* the connection */
	int listener; /* of the side that does not dial */
	int other;    /* to the other side: numbers in order */
	int boss;     /* of the side that dials: to the process that can ask weft; -1 nobody to ask */
	int out;      /* what was seen */
	pid_t peer;   /* process of the other side */
	struct sockaddr_storage address; /* of the server */
	socklen_t address_len;
};

struct place {
	const char *netns;  /* path */
	const char *cgroup; /* path, NULL: stay */
};

struct plan {
	struct place client, server;
	const char *address; /* of the server */
	int port;	     /* of the first row; each row has its own */
	const char *ask;     /* command that prints `weftctl -o json connections`; NULL: no weft here */
	bool mirrored;	     /* the server plays the client's program, and the other way round */
	int limit_ms;	     /* for a row; then both sides are ended, and have hung */
	int patience_ms;     /* how long to talk before a connection that is not spliced is taken as it is */
};

/* ------------------------------------------------------------------ pair.c, path.c, compare.c */

/* Plays one row and writes its result to `out`; never longer than limit_ms. */
void pair_run(const struct plan *p, const struct row *row, int index, FILE *out);

struct path {
	char path[16];
	char reason[32];
	long long spliced; /* bytes of both directions */
};

/* What weft says of the connection from that port of a client; false: nothing. */
bool path_ask(const char *command, int port, struct path *ret);

/* Files of results: direct, through weft, and optionally with "always". Gives the number of rows that differ. */
int compare(const char *direct, const char *weft, const char *always, bool markdown, bool verbose);

/* ------------------------------------------------------------------ saw.c */

/* Writes down a line. One that begins with "~ " is shown but not compared: direct itself varies there. */
__attribute__((format(printf, 2, 3))) void saw(struct side *s, const char *format, ...);

/* Lines written from now on, until `on` is false, may differ by nature: shown and counted, but no failure. */
void by_nature(struct side *s, bool on);

/* Writes down that this kernel or machine does not have what the row is about, and ends both sides. */
__attribute__((format(printf, 2, 3), noreturn)) void absent(struct side *s, const char *format, ...);

/* Ends both sides: the row could not be played. */
__attribute__((format(printf, 2, 3), noreturn)) void failed(struct side *s, const char *format, ...);

/* "7" or "-1 EAGAIN"; good until the fourth call after. */
const char *result(ssize_t n);

/*
 * In a row in which weft may end the connection its end is an outcome: if it has ended, writes "ended: " and does not
 * return. What was seen until then must be equal.
 */
void if_ended(struct side *s, const char *what);

/* A call that must succeed, or the row has failed. */
#define must(s, call)                                                          \
	({                                                                     \
		ssize_t must_ = (call);                                        \
		if (must_ < 0)                                                 \
			failed(s, "%s: %s", #call, result(must_));             \
		must_;                                                         \
	})

void tell(struct side *s, long number);
long hear(struct side *s); /* ends this side when the other has ended */
void meet(struct side *s); /* returns when both are there */

void wait_asleep(struct side *s, pid_t task);	/* until a task (of `peer`) sleeps in the kernel */
bool wait_for(int fd, short events, int ms);	/* poll; true: there is one of the events, an error or a hang-up */
void nap(int ms);				/* between two looks at a condition */

/* Quietly: all of it, or the row has failed. Work on blocking and non-blocking sockets. */
void put(struct side *s, const void *data, size_t len);
void get(struct side *s, void *data, size_t len);
void put_text(struct side *s, const char *text);

void delivered(struct side *s);			/* until the peer's kernel has all that was sent */
void arrive(struct side *s, const char *text);	/* put_text, delivered, and say so */
void await(struct side *s);			/* the other's arrive() */
void look(struct side *s);			/* dials: what weft says now, as a line that is not compared */
void settle(struct side *s);			/* dials: until weft has decided, without talking */
void leave(struct side *s);			/* dials: until weft has let go of it; at once on the other side */

/* The same, written down as they are done. */
ssize_t see_recv(struct side *s, size_t len, int flags);
ssize_t see_send(struct side *s, const char *text, int flags);
int see_poll(struct side *s, short events, int ms);
int see_ioctl(struct side *s, const char *name, unsigned long request);
int see_option(struct side *s, const char *name, int level, int option, int value);
void see_end(struct side *s); /* reads until end or error; writes down both */

const char *quoted(const void *data, size_t len); /* printable, cut; good until the next call */
const char *events_name(short events);

/* Bytes that tell their place, for transfers too large to write down. */
void pattern(unsigned char *data, size_t len, size_t offset);
bool pattern_holds(const unsigned char *data, size_t len, size_t offset);

#endif
