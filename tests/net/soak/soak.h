/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soak.h: connections that carry random traffic in both directions for a long time, every byte checked.
 *
 *	soak server ENDPOINT
 *	soak client ENDPOINT[,ENDPOINT...] --bytes TOTAL [--connections N] [--seed S] [--patience SECONDS]
 *	both also: [--flow BYTES], the most that one end writes in one phase; the same at both
 *
 * A connection plays a script of phases, which both ends draw from the seed: conversations of random length (after
 * which a splice may carry it), then flows in one or both directions, by writes of 1 byte to 1 MB, read in pieces of
 * 1 byte to 1 MB, with readers that pause. After some phases it is closed and another one opened. The client ends
 * when TOTAL bytes, of both directions together, were checked, and prints one JSON line; the server when it gets
 * SIGTERM. A wrong byte, an error of the kernel or a connection that stands still for `patience` ends either with
 * exit code 1 and one line that names seed, connection, phase and place.
 */
#ifndef WEFT_TESTS_SOAK_H
#define WEFT_TESTS_SOAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIECE_MAX (1u << 20) /* largest write and read */

/* ---- script.c: the same numbers at both ends. */
struct rng {
	uint64_t state;
};

uint64_t rng_next(struct rng *r);
uint64_t rng_between(struct rng *r, uint64_t low, uint64_t high); /* both ends included */
uint64_t rng_size(struct rng *r, uint64_t max);			  /* 1..max, each magnitude as likely */
bool rng_chance(struct rng *r, unsigned per_mille);

enum side {
	CLIENT = 0,
	SERVER = 1,
};

enum phase_kind {
	PHASE_TALK, /* messages there and back, one at a time, until the client marks one as the last */
	PHASE_FLOW, /* both ends write `bytes` of theirs, independently */
};

struct phase {
	enum phase_kind kind;
	uint32_t message_max;  /* TALK */
	uint64_t bytes[2];     /* FLOW: what each side writes, by enum side */
	uint32_t write_max[2]; /* FLOW: its largest write */
	uint32_t pauses[2];    /* FLOW: per mille of reads after which a side pauses */
	uint32_t pause_ms[2];  /* FLOW: longest pause */
};

#define FLOW_MAX (16u << 20)

/* The phase after `previous` (NULL: the first one, a conversation). An end writes at most `flow_max` bytes in it. */
struct phase script_next(struct rng *script, const struct phase *previous, uint64_t flow_max);

/* ---- pattern.c: the byte at each place of a stream, which occurs in no other order anywhere. */
void pattern_fill(uint64_t key, uint64_t at, unsigned char *buf, size_t size);
/* SIZE_MAX: every byte is right; else the index of the first wrong one. */
size_t pattern_wrong(uint64_t key, uint64_t at, const unsigned char *buf, size_t size);
/* Where the bytes from `buf` on belong, if they are of the stream `key` at all. */
bool pattern_place(uint64_t key, const unsigned char *buf, size_t size, uint64_t *ret_at);

/* ---- conn.c: one connection, the same code at both ends. Ends the program when something is wrong. */
struct totals {
	uint64_t sent, checked, talks, rounds, flows, pauses;
};

struct conn {
	int fd; /* -1: not in use */
	enum side side;
	uint64_t seed, id;
	uint64_t key_out, key_in, sent, got;
	struct rng script, own; /* the one that both ends have, and one of its own */
	uint64_t flow_max;
	struct phase phase;
	unsigned phases;       /* begun */
	unsigned life;	       /* client: phases after which it closes */
	uint64_t out_left;     /* of this phase or message; what is in `out` is no longer counted */
	uint64_t in_left;
	enum side turn;	       /* TALK: whose message */
	uint64_t question;     /* TALK: sizes of the two messages of this round */
	uint64_t answer;
	uint64_t rounds;       /* TALK: of this phase */
	bool last;	       /* TALK: the last round of the phase */
	bool ended;	       /* client: no more phases; waits for the server's end */
	uint64_t talk_until;   /* client: ms */
	uint64_t paused_until; /* ms: does not read before; 0: reads */
	uint64_t moved_ms;     /* when a byte last moved */
	uint32_t armed;	       /* epoll's interest */
	unsigned char *out;    /* a write in progress: PIECE_MAX bytes */
	size_t out_at, out_size;
	struct totals totals;
};

#define HELLO_SIZE 16 /* seed and number, which the server learns from the first bytes */

void conn_open(struct conn *c, enum side side, int fd, uint64_t seed, uint64_t id, uint64_t flow_max);
/*
 * Moves what can be moved; a client that is to `finish` begins no more phases than it must. False: the connection has
 * ended in order; totals are final, fd is closed.
 */
bool conn_step(struct conn *c, bool finish);
uint32_t conn_interest(const struct conn *c); /* what epoll is to wait for */
int conn_timeout(const struct conn *c);	      /* ms until it wants to run without an event, -1: never */
/* Ends the program if nothing has moved for so long. */
void conn_watch(const struct conn *c, uint64_t patience_ms);

uint64_t now_ms(void);

#endif
