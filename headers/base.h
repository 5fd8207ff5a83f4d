/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h: what every room stands on: memory, text, log, addresses, clock.
 *
 * Out of memory ends the process (the supervisor restarts a worker): no caller checks for NULL.
 */
#ifndef WEFT_BASE_H
#define WEFT_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "abi.h"

#define must_check __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
#define array_size(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* ------------------------------------------------------------------ memory (base/mem.c) */

void *mem_alloc(size_t size) must_check __attribute__((malloc)); /* zeroed; never NULL */
void *mem_grow(void *p, size_t count, size_t size) must_check;	 /* realloc to count * size, overflow checked */
char *mem_string(const char *s) must_check;			 /* strdup */
char *mem_format(const char *fmt, ...) must_check printf_like(1, 2);
char *mem_vformat(const char *fmt, va_list ap) must_check printf_like(1, 0);
void mem_wipe(void *p, size_t size); /* zero that the compiler keeps */

/* Arena: many small things that die together. A zeroed struct is a valid empty arena. */
struct arena_chunk;
struct arena {
	struct arena_chunk *last;
	size_t bytes; /* handed out since the last free */
};
void arena_reserve(struct arena *a, size_t size); /* of an empty one: its first chunk has so many bytes */
void *arena_alloc(struct arena *a, size_t size) must_check; /* zeroed, aligned to 16 */
char *arena_string(struct arena *a, const char *s, size_t len) must_check; /* NUL-terminated copy */
void arena_free(struct arena *a);
void arena_reset(struct arena *a); /* the same, but keeps a chunk of the usual size for what comes next */

/* ------------------------------------------------------------------ list (inline) */

struct list {
	struct list *next, *prev;
};
static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_add(struct list *head, struct list *item) /* at the end */
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}
static inline void list_del(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}
/* A place of one's own in a list, on the stack until list_del(): gcc 14 takes it for one that is forgotten there. */
static inline struct list *list_place(struct list *here)
{
	__asm__("" : "+r"(here));
	return here;
}
#define list_each(pos, head) for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
#define list_each_safe(pos, n, head)                                                               \
	for (struct list *pos = (head)->next, *n = pos->next; pos != (head); pos = n, n = n->next)

/* ------------------------------------------------------------------ hash table (base/table.c) */

/*
 * Open hash table of things that embed a struct table_link. Keys are bytes; hashed with XXH3. A zeroed
 * struct is a valid empty table; it grows by itself. Owns the buckets, not the things.
 */
struct table_link {
	struct table_link *next;
	uint64_t hash;
};
struct table {
	struct table_link **bucket;
	size_t buckets; /* power of two, or 0 */
	size_t count;
};
uint64_t table_hash(const void *key, size_t len); /* seeded per process: of no use outside of it */
/* First thing with that hash, or the next one after `link`; the caller compares the key itself. */
struct table_link *table_first(const struct table *t, uint64_t hash);
struct table_link *table_next_same(const struct table_link *link);
void table_add(struct table *t, struct table_link *link, uint64_t hash);
void table_del(struct table *t, struct table_link *link);
void table_free(struct table *t); /* the buckets */
/* Walk all; removing the current one is allowed: for (l = table_walk(t, NULL); l; l = next) */
struct table_link *table_walk(const struct table *t, const struct table_link *after);

/* ------------------------------------------------------------------ text (base/text.c) */

bool text_equal(const char *a, const char *b); /* NULL equals only NULL */
bool text_starts(const char *s, const char *prefix);
bool text_ends(const char *s, const char *suffix);
/*
 * Bytes of the UTF-8 character at s (RFC 3629 section 4: no overlong forms, no surrogates, at most U+10FFFF), 0 if it
 * is none. A NUL ends s, so a continuation byte is never read past the end.
 */
size_t text_utf8(const char *s);
/*
 * How many letters to put in, leave out, change or swap with their neighbour make one of the other: what was meant by a
 * word that nobody knows. More than 2, or longer than TEXT_WORD: 3.
 */
#define TEXT_WORD 40
unsigned text_distance(const char *a, const char *b);
/* Which of some words was meant: .word, then text_guess() for each of them. The nearest, or NULL, is .meant. */
struct text_guess {
	const char *word, *meant;
	unsigned away; /* of .meant */
};
void text_guess(struct text_guess *g, const char *name);
const char *text_plural(uint64_t count); /* "" for one, "s" for any other number of things */
/* Copy, cut to size, always NUL-terminated. Returns false if it was cut. */
bool text_copy(char *to, size_t size, const char *from);
/* Whole of s as a decimal number in [min, max]; 0 or -EINVAL / -ERANGE. */
int text_number(const char *s, long long min, long long max, long long *ret) must_check;
/*
 * Digits of n at `to`, of which there are at most TEXT_DIGITS, without a NUL behind them. Gives the place behind the
 * last one. For texts that each connection or request has: printf takes six times as long.
 */
#define TEXT_DIGITS 20
char *text_decimal(char *to, uint64_t n);
char *text_hex(char *to, uint64_t n, unsigned digits); /* the lowest ones, of 16 at most */

/* Growing text. A zeroed struct is valid and empty; `data` is NUL-terminated once something was added. */
struct text {
	char *data;
	size_t len, size;
};
void text_add(struct text *t, const char *fmt, ...) printf_like(2, 3);
void text_add_bytes(struct text *t, const void *p, size_t len);
void text_free(struct text *t);

/* ------------------------------------------------------------------ addresses (base/addr.c) */

#define ADDR_TEXT 46	  /* longest text of one address with NUL */
#define ADDR_PORT_TEXT 56 /* "[v6]:port" */
int addr_parse(const char *s, struct abi_addr *ret) must_check; /* "10.0.0.1", "fd00::1"; 0 or -EINVAL */
/* "10.0.0.0/8", "fd00::/8", or a bare address. Length in bits of the 128-bit form (v4: + 96); host bits must be 0. */
int addr_parse_block(const char *s, struct abi_addr *ret, unsigned *ret_bits) must_check;
bool addr_is_v4(const struct abi_addr *a);
bool addr_is_zero(const struct abi_addr *a); /* all zero, or ::ffff:0.0.0.0 */
bool addr_is_loopback(const struct abi_addr *a);
bool addr_is_link_local(const struct abi_addr *a); /* fe80::/10 */
bool addr_equal(const struct abi_addr *a, const struct abi_addr *b);
bool addr_in_block(const struct abi_addr *a, const struct abi_addr *block, unsigned bits);
const char *addr_text(const struct abi_addr *a, char buf[ADDR_TEXT]); /* returns buf */
const char *addr_port_text(const struct abi_addr *a, uint16_t port, char buf[ADDR_PORT_TEXT]);

/* ------------------------------------------------------------------ reasons (base/reason.c) */

/* Of numbers that this version does not know: "reason-77", good for the next three calls of the thread. */
const char *reason_name(unsigned reason); /* "bulk" */
const char *reason_text(unsigned reason); /* the sentence of abi.h */
const char *path_name(unsigned path);	  /* "splice", "tcp" ... */
const char *splice_name(unsigned splice); /* "auto", "always", "off" */

/* ------------------------------------------------------------------ clock (base/clock.c) */

uint64_t clock_ns(void); /* CLOCK_MONOTONIC, as bpf_ktime_get_ns */
int64_t clock_wall(void); /* milliseconds since 1970; may jump */

/* ------------------------------------------------------------------ random numbers (base/random.c) */

/* xorshift128+: for ids, weights and choices; whoever sees some can tell the next: never for what must stay secret. */
struct random {
	uint64_t s[2]; /* not both zero */
};
int random_seed(struct random *r) must_check; /* from the kernel; 0 or -errno */
uint64_t random_next(struct random *r);	      /* uniform in 64 bits */

/* ------------------------------------------------------------------ log (base/log.c) */

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
/*
 * One line to stderr, one write(2). Text: "2026-11-21T12:00:00.123Z warning weft-worker: message key=value".
 * JSON: {"time":...,"level":...,"program":...,"message":...}. Control bytes in values are escaped.
 * log_open() sees to it that none waits for who reads stderr: what has no room is lost, and counted in the log.
 */
void log_open(const char *program, bool json, enum log_level max);
bool log_wants(enum log_level level); /* would such a line be written: before costly values are made */
void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
