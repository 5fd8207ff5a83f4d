/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.h: the load programs of `make bench` and of the tests, one binary, a pair of processes per run.
 *
 *	load SERVER ENDPOINT [options]		SERVER: echo, sink, answer, hold, crowd
 *	load CLIENT ENDPOINT [options]		CLIENT: pingpong, stream, crr, flood, bulk, idle
 *	load relay ENDPOINT --to ENDPOINT	what any proxy has to do, and nothing else
 *
 * Pairs: pingpong-echo, stream-sink, crr-answer, flood-hold, bulk-crowd, idle-crowd. ENDPOINT: 10.0.0.1:80,
 * [fd00::1]:80 or unix:/path, the floor for two processes of one kernel. A server takes connections until it is
 * killed; clients print one JSON line for each run, some servers too. Sockets are non-blocking with epoll, as
 * those of real servers; --blocking makes them plain blocking.
 */
#ifndef WEFT_BENCH_LOAD_H
#define WEFT_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct load {
	const char *endpoint;
	size_t size;	  /* bytes of a message (--size) */
	double seconds;	  /* length of a run (--seconds) */
	unsigned clients; /* connections in flight: crr, bulk, idle (--clients) */
	unsigned threads; /* relay (--threads) */
	const char *to;	  /* relay (--to) */
	uint64_t bytes;	  /* stream: stop after so many, 0: after `seconds` (--bytes) */
	bool blocking;
	bool nodelay; /* TCP_NODELAY (--nodelay) */
	bool reverse; /* bulk: the server writes (--reverse) */
	bool check;   /* every byte is looked at (--check) */
	bool told;    /* flood: the conversation goes on until a line comes on stdin (--told) */
};

/* ---- endpoint.c: sockets. All end the program with a message if the kernel says no. */
struct endpoint {
	struct sockaddr_storage addr;
	socklen_t len;
};

struct endpoint endpoint_parse(const char *text);
int endpoint_listen(const struct endpoint *e);
int endpoint_listen_shared(const struct endpoint *e); /* SO_REUSEPORT, O_NONBLOCK */
/* Blocking accept; then O_NONBLOCK and TCP_NODELAY as the options say. */
int endpoint_accept(int listener, const struct load *l);
int endpoint_connect(const struct load *l);
/* Congestion control really in use, "-" for AF_UNIX. */
void endpoint_congestion(int fd, char *ret_name, size_t size);
void endpoint_nodelay(int fd);

/*
 * Reads or writes all of `size` bytes; a non-blocking socket waits in epoll between. False: the peer
 * closed (or reset) before that.
 */
struct waiter {
	int fd;
	int epoll; /* -1: the socket blocks */
	uint32_t armed;
};

struct waiter waiter_open(int fd, bool blocking);
void waiter_close(struct waiter *w);
bool waiter_read(struct waiter *w, void *buf, size_t size);
bool waiter_write(struct waiter *w, const void *buf, size_t size);
/* What is there, at least one byte; 0: end. */
size_t waiter_read_some(struct waiter *w, void *buf, size_t size);

/* ---- measure.c: clocks, CPU, percentiles, the pattern that checked transfers carry. */
uint64_t now_ns(void);

struct cpu {
	double user, system;
};
struct cpu cpu_used(void); /* of this process since its start, seconds */

struct samples {
	uint32_t *ns;
	size_t count, room;
};
void samples_add(struct samples *s, uint64_t ns);
double samples_us(struct samples *s, double quantile); /* sorts */

/* Bytes that belong at `offset` of a checked transfer; valid for at least PATTERN_SPAN bytes. */
#define PATTERN_SPAN (1u << 20)
const unsigned char *pattern_at(uint64_t offset);

_Noreturn void fail(const char *what); /* message with errno, exit 1 */

/* ---- one pair per file: pingpong.c, stream.c, crr.c, flood.c. They return the exit code. */
int pingpong_client(const struct load *l);
int pingpong_echo(const struct load *l);
int stream_client(const struct load *l);
int stream_sink(const struct load *l);
int crr_client(const struct load *l);
int crr_answer(const struct load *l);
int flood_client(const struct load *l);
int flood_hold(const struct load *l);
int crowd_server(const struct load *l);
int crowd_bulk(const struct load *l);
int crowd_idle(const struct load *l); /* stays until stdin ends */
int relay(const struct load *l);

#endif
