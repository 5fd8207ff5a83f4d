/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traffic.c: one connection that carries checked bytes both ways; see guest.h.
 *
 * The client sends frames: a head that says how many bytes follow and how many it wants back. The server answers while
 * it still reads, so both directions are busy at once. All bytes but the heads are pattern bytes; both sides check
 * each.
 *
 * `run` starts with a conversation of small frames. SIGUSR1: small frames and bulk alternate at random, readers stop
 * and go. SIGTERM: the frame is finished, both sides close in order, the client prints what it has seen, exit code 0.
 */
#include "guest.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STUCK_MS 20000
#define PAUSE_MS 2 /* between small frames: a conversation, not a benchmark */
#define PIECE (256u << 10)

struct head {
	uint32_t body;
	uint32_t answer;
};

/* One end of the connection; 0 of `seed` is the client's stream, 1 the server's. */
struct end {
	int fd;
	unsigned out_seed;
	uint64_t sent; /* pattern bytes */
	uint64_t seen;
	uint64_t owed;	 /* to be written yet */
	uint64_t coming; /* to be read yet */
	struct head head; /* client: being written; server: being read */
	size_t head_done;
	bool stops; /* now and then does not read for a while */
};

static volatile sig_atomic_t mixed, ending;

static void on_mixed(int sig)
{
	mixed = sig;
}

static void on_ending(int sig)
{
	ending = sig;
}

static bool again(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static void write_some(struct end *e)
{
	static uint8_t piece[PIECE];
	size_t size = 1 + random_below(random_below(4) ? 4096 : PIECE);
	ssize_t n;

	if (size > e->owed)
		size = e->owed;
	pattern_fill(e->out_seed, e->sent, piece, size);
	n = write(e->fd, piece, size);
	if (n < 0 && !again())
		die("write after %llu bytes", (unsigned long long)e->sent);
	if (n > 0) {
		e->sent += (uint64_t)n;
		e->owed -= (uint64_t)n;
	}
}

/* false: there is nothing for now */
static bool read_some(struct end *e)
{
	static uint8_t piece[PIECE];
	size_t size = 1 + random_below(random_below(4) ? 8192 : PIECE);
	ptrdiff_t wrong;
	ssize_t n;

	if (e->stops && !random_below(64))
		(void)poll(NULL, 0, 5); /* a reader that stops and goes */
	if (size > e->coming)
		size = e->coming;
	n = read(e->fd, piece, size);
	if (n < 0 && !again())
		die("read after %llu bytes", (unsigned long long)e->seen);
	errno = 0;
	if (!n)
		die("end of file after %llu bytes, %llu were to come", (unsigned long long)e->seen,
		    (unsigned long long)e->coming);
	if (n < 0)
		return false;
	wrong = pattern_check(!e->out_seed, e->seen, piece, (size_t)n);
	if (wrong >= 0)
		die("byte %llu is wrong (%td of a read of %zd)", (unsigned long long)(e->seen + (uint64_t)wrong),
		    wrong, n);
	e->seen += (uint64_t)n;
	e->coming -= (uint64_t)n;
	return true;
}

/* Moves what can be moved; waits for the rest. */
static void step(const struct end *e, short events)
{
	errno = 0;
	if (!sock_wait(e->fd, events, STUCK_MS))
		die("nothing moves for %u s: %llu sent, %llu to send, %llu seen, %llu to come", STUCK_MS / 1000,
		    (unsigned long long)e->sent, (unsigned long long)e->owed, (unsigned long long)e->seen,
		    (unsigned long long)e->coming);
}

/* ------------------------------------------------------------------ client */

static void write_head(struct end *e)
{
	while (e->head_done < sizeof(e->head)) {
		ssize_t n = write(e->fd, (uint8_t *)&e->head + e->head_done, sizeof(e->head) - e->head_done);

		if (n > 0)
			e->head_done += (size_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			die("write after %llu bytes", (unsigned long long)e->sent);
		else
			step(e, POLLOUT);
	}
}

static uint32_t few(void)
{
	return 1 + random_below(2000);
}

static uint32_t many(void)
{
	return 100000 + random_below(2u << 20);
}

static void frame(struct end *e)
{
	uint32_t kind = mixed ? random_below(100) : 100;

	e->head = (struct head){.body = kind < 2 ? many() : few(), .answer = kind >= 1 && kind < 3 ? many() : few()};
	e->stops = mixed;
	e->head_done = 0;
	write_head(e);
	e->owed = e->head.body;
	e->coming = e->head.answer;
	while (e->owed || e->coming) {
		if (e->owed)
			write_some(e);
		if (e->coming)
			while (read_some(e) && e->coming)
				;
		if (e->owed || e->coming)
			step(e, (short)((e->owed ? POLLOUT : 0) | (e->coming ? POLLIN : 0)));
	}
}

static int run(const char *address, unsigned port)
{
	struct end e = {.fd = sock_connect(address, port, -1)};
	unsigned long frames = 0;
	char last;
	ssize_t n;

	if (e.fd < 0) {
		errno = -e.fd;
		die("connect");
	}
	if (!sock_wait(e.fd, POLLOUT, STUCK_MS))
		die("no connection");
	errno = -sock_error(e.fd);
	if (errno)
		die("connect");
	for (; !ending; frames++) {
		frame(&e);
		if (!mixed)
			(void)poll(NULL, 0, PAUSE_MS);
	}
	if (shutdown(e.fd, SHUT_WR))
		die("shutdown");
	step(&e, POLLIN);
	n = read(e.fd, &last, 1);
	if (n)
		die("no end of file after the last byte");
	(void)printf("%lu frames, %llu bytes there, %llu back\n", frames, (unsigned long long)e.sent,
		     (unsigned long long)e.seen);
	return 0;
}

/* ------------------------------------------------------------------ server */

/* false: the client has closed in order */
static bool read_head(struct end *e)
{
	ssize_t n = read(e->fd, (uint8_t *)&e->head + e->head_done, sizeof(e->head) - e->head_done);

	if (!n && !e->head_done)
		return false;
	if (n < 0 && !again())
		die("read after %llu bytes", (unsigned long long)e->seen);
	errno = 0;
	if (!n)
		die("end of file within a head");
	if (n < 0)
		return true;
	e->head_done += (size_t)n;
	if (e->head_done == sizeof(e->head)) {
		e->coming = e->head.body;
		e->owed += e->head.answer;
		e->stops = e->head.body > 10000;
	}
	return true;
}

static void answer(int fd)
{
	struct end e = {.fd = fd, .out_seed = 1};

	for (;;) {
		if (e.head_done < sizeof(e.head) && !read_head(&e))
			break;
		if (e.head_done == sizeof(e.head)) {
			if (e.owed)
				write_some(&e);
			if (e.coming && read_some(&e))
				continue;
			if (!e.coming && !e.owed) {
				e.head_done = 0;
				continue;
			}
			step(&e, (short)((e.owed ? POLLOUT : 0) | (e.coming ? POLLIN : 0)));
		} else {
			(void)sock_wait(e.fd, POLLIN, 3600000); /* a client may be silent */
		}
	}
	close(fd);
}

static int serve(unsigned port)
{
	int listener = sock_listen(port);

	(void)signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd;

		(void)sock_wait(listener, POLLIN, 3600000);
		fd = sock_accept(listener);
		if (fd < 0)
			continue;
		if (!fork()) {
			close(listener);
			random_seed((uint64_t)getpid());
			answer(fd);
			_exit(0);
		}
		close(fd);
	}
}

int traffic(int argc, char **argv)
{
	(void)signal(SIGUSR1, on_mixed);
	(void)signal(SIGTERM, on_ending);
	random_seed((uint64_t)getpid());
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		(void)signal(SIGTERM, SIG_DFL);
		return serve((unsigned)number(argv[2], 1, 65535));
	}
	if (argc == 4 && !strcmp(argv[1], "run"))
		return run(argv[2], (unsigned)number(argv[3], 1, 65535));
	errno = 0;
	die("usage: traffic serve PORT | traffic run ADDRESS PORT");
}
