/* SPDX-License-Identifier: Apache-2.0 */
/*
 * races.c: connections that end in every way at every moment, many at once, from short-lived processes; see guest.h.
 *
 * Both sides are a parent and its children. A child of the client opens LANES connections and talks on each until the
 * connection is spliced, which a socket can tell: its TCP has sent less than was written. Some time later it writes
 * without waiting, so that the end meets messages on their way, and ends it in a random way: close, RST, shutdown of
 * either or both directions, connect(AF_UNSPEC) and connect again. One of six ends at any moment before, one child of
 * three is killed instead. The server's children answer, end half of their connections themselves, and are killed too.
 *
 * What arrives before an end is checked: pattern bytes with a seed that the client sends first. The server prints its
 * counts at SIGTERM, the client when the time is up. A child that does not die within 10 s of SIGKILL hangs in the
 * kernel: that, or a wrong byte, is exit code 1.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LANES 5	     /* connections of one client process */
#define SEATS 32     /* connections of one server process */
#define CLIENTS 64   /* processes at once, at most */
#define SERVERS 6
#define TALK_NS 80000000ull   /* between two messages of a conversation */
#define PATIENCE_NS 6000000000ull /* for the splice */
#define BURST_NS 8000000ull   /* before an end: writes without waiting, */
#define BURST 8		      /* so many messages at most */
#define LINGER_NS 60000000ull /* a half-closed connection is left for that long */
#define KILL_NS 800000000ull  /* a server process is killed that often */
#define FOREVER UINT64_MAX
#define MS 1000000ull

enum way { CLOSE, RST, SHUT_WRITE, SHUT_READ, SHUT_BOTH, DISCONNECT, KILL, WAYS };

static const char *const way_name[WAYS] = {
	[CLOSE] = "close", [RST] = "RST", [SHUT_WRITE] = "shutdown write", [SHUT_READ] = "shutdown read",
	[SHUT_BOTH] = "shutdown", [DISCONNECT] = "AF_UNSPEC", [KILL] = "kill -9",
};

/* Shared by a parent and its children. */
struct child {
	_Atomic pid_t pid; /* 0: the place is free */
	_Atomic unsigned open;
	_Atomic unsigned ripe; /* of the server: connections that were spliced so far */
	_Atomic uint64_t doom; /* when it is killed; 0: not yet known; FOREVER: it ends by itself */
};

struct tally {
	_Atomic unsigned long ended[WAYS]; /* by our own deed */
	_Atomic unsigned long opened;
	_Atomic unsigned long spliced;
	_Atomic unsigned long lost; /* no connection came of it, or it was reset at once */
	_Atomic unsigned long wrong;
	_Atomic unsigned long long sent, seen;
	struct child child[CLIENTS];
};

struct lane {
	int fd; /* -1: none */
	enum way way;
	uint64_t seed, seed_got; /* the server reads it from its first 8 bytes */
	uint64_t sent, seen;
	uint64_t talk_ns, end_ns, late_ns; /* late: no longer waits for the splice */
	unsigned burst;
	bool up, half; /* half: shut down already */
	bool active;   /* is to be ended by us, not by the other side or by a kill */
	bool spliced;
	bool again; /* the socket had another connection before */
};

static struct tally *tally;
static struct child *me;
static volatile sig_atomic_t ending;

static void on_ending(int sig)
{
	ending = sig;
}

/* ------------------------------------------------------------------ a connection */

static void begin(struct lane *l, int fd, uint64_t seed, uint64_t now, bool active)
{
	*l = (struct lane){.fd = fd, .seed = seed, .active = active, .late_ns = now + PATIENCE_NS, .end_ns = FOREVER};
	l->way = (enum way)random_below(KILL);
	if (active && !random_below(6))
		l->end_ns = now + random_below(400) * MS;
	atomic_fetch_add(&tally->opened, 1);
	atomic_fetch_add(&me->open, 1);
}

/* After shutdown(SHUT_RD) it is readable for ever: not asked any more. */
static bool deaf(const struct lane *l)
{
	return l->half && l->way != SHUT_WRITE;
}

/* Did some of what was written not go by TCP? */
static bool is_spliced(const struct lane *l, uint64_t written)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	return !getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &info, &size) &&
	       written > info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
}

/* Spliced, or waited for it in vain: from now on its end may come. */
static bool is_ripe(struct lane *l, uint64_t written, uint64_t now)
{
	if (!l->spliced && is_spliced(l, written)) {
		l->spliced = true;
		atomic_fetch_add(&tally->spliced, 1);
		atomic_fetch_add(&me->ripe, 1);
	}
	return l->spliced || now >= l->late_ns;
}

static uint64_t soon(uint64_t now)
{
	return now + random_below(200) * MS;
}

/* How long until something is to be done, whoever speaks? `end_ns`: of the connection or of the process. */
static int pause_ms(const struct lane *l, uint64_t end_ns, uint64_t now)
{
	uint64_t due = end_ns;

	if (l->up && !l->half && l->burst < BURST && end_ns != FOREVER)
		due = end_ns - BURST_NS;
	if (l->up && !l->half && l->talk_ns < due)
		due = l->talk_ns;
	if (due >= now + 1000 * MS)
		return 1000;
	return due > now ? (int)((due - now) / MS) + 1 : 1;
}

static void end(struct lane *l)
{
	close(l->fd);
	l->fd = -1;
	atomic_fetch_sub(&me->open, 1);
}

static void say(struct lane *l, size_t most)
{
	static uint8_t piece[16384];
	size_t size = 1 + random_below(random_below(4) ? 600 : (uint32_t)most);
	ssize_t n;

	pattern_fill(l->seed, l->sent, piece, size);
	n = write(l->fd, piece, size);
	if (n > 0) {
		l->sent += (uint64_t)n;
		atomic_fetch_add(&tally->sent, (unsigned long long)n);
	}
}

/* What came, all of it. -1: nothing for now; 0: the end or an error; else bytes. */
static ssize_t hear(struct lane *l, uint64_t seed)
{
	static uint8_t piece[65536];
	ssize_t n = read(l->fd, piece, sizeof(piece));
	ptrdiff_t wrong;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -1 : 0;
	if (!n)
		return 0;
	wrong = pattern_check(seed, l->seen, piece, (size_t)n);
	if (wrong >= 0) {
		(void)fprintf(stderr, "races: byte %llu of stream %llx is wrong (%td of a read of %zd)%s%s\n",
			      (unsigned long long)(l->seen + (uint64_t)wrong), (unsigned long long)seed, wrong, n,
			      l->spliced ? ", spliced" : "", l->again ? ", a socket that was connected before" : "");
		atomic_fetch_add(&tally->wrong, 1);
		return 0;
	}
	l->seen += (uint64_t)n;
	atomic_fetch_add(&tally->seen, (unsigned long long)n);
	return n;
}

/* Ends the connection in its way. true: it lives on for a while, half closed. */
static bool strike(struct lane *l, uint64_t now)
{
	static const int how[WAYS] = {[SHUT_WRITE] = SHUT_WR, [SHUT_READ] = SHUT_RD, [SHUT_BOTH] = SHUT_RDWR};
	struct linger linger = {.l_onoff = 1};
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	if (!l->half)
		atomic_fetch_add(&tally->ended[l->way], 1);
	switch (l->half ? CLOSE : l->way) {
	case RST:
		(void)setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		break;
	case SHUT_WRITE:
	case SHUT_READ:
	case SHUT_BOTH:
		(void)shutdown(l->fd, how[l->way]);
		l->half = true;
		l->end_ns = now + LINGER_NS;
		return true;
	case DISCONNECT:
		(void)connect(l->fd, &none, sizeof(none));
		break;
	default:
		break;
	}
	return false;
}

/* ------------------------------------------------------------------ client */

static const char *address;
static unsigned port;

static void open_lane(struct lane *l, uint64_t now, bool doomed)
{
	uint64_t seed = (uint64_t)getpid() << 32 | random_below(UINT32_MAX);
	int fd = sock_connect(address, port, -1);

	l->fd = -1;
	if (fd < 0) {
		atomic_fetch_add(&tally->lost, 1);
		return;
	}
	begin(l, fd, seed << 1, now, !doomed);
}

/* An own socket that was disconnected may be connected again: the kernel must have forgotten the first connection. */
static void reopen(struct lane *l, uint64_t now)
{
	struct sockaddr_storage was;
	socklen_t size = sizeof(was);
	uint64_t seed = l->seed + 2;
	int fd = l->fd;

	if (getpeername(fd, (struct sockaddr *)&was, &size) != -1 || errno != ENOTCONN) {
		end(l);
		return;
	}
	atomic_fetch_sub(&me->open, 1);
	l->fd = -1;
	fd = sock_connect(address, port, fd);
	if (fd < 0) {
		atomic_fetch_add(&tally->lost, 1);
		return;
	}
	begin(l, fd, seed, now, true);
	l->again = true;
	l->way = l->way == DISCONNECT ? RST : l->way;
}

/* When it ends, by us or with us. */
static uint64_t last_ns(const struct lane *l)
{
	uint64_t doom = me->doom ? me->doom : FOREVER;

	return doom < l->end_ns ? doom : l->end_ns;
}

static void serve_lane(struct lane *l, uint64_t now, short events, bool doomed)
{
	if (!l->up && events & (POLLOUT | POLLERR | POLLHUP)) {
		l->up = !sock_error(l->fd) && write(l->fd, &l->seed, sizeof(l->seed)) == sizeof(l->seed);
		if (!l->up) {
			atomic_fetch_add(&tally->lost, 1);
			end(l);
			return;
		}
	}
	if (l->up && events & (POLLIN | POLLERR | POLLHUP)) {
		ssize_t n;

		while ((n = hear(l, l->seed + 1)) > 0)
			;
		if (!n) {
			end(l); /* the other side was first */
			return;
		}
	}
	if (now >= l->end_ns) {
		enum way way = l->half ? CLOSE : l->way;

		if (strike(l, now))
			return;
		if (way == DISCONNECT)
			reopen(l, now);
		else
			end(l);
		return;
	}
	if (!l->up || (l->half && l->way != SHUT_READ))
		return;
	if (now + BURST_NS >= last_ns(l)) {
		if (l->burst++ < BURST)
			say(l, 16384);
	} else if (now >= l->talk_ns) {
		l->talk_ns = now + TALK_NS;
		say(l, 1000);
		if (is_ripe(l, l->sent + sizeof(l->seed), now)) {
			if (doomed && !me->doom)
				me->doom = soon(now);
			else if (!doomed && l->end_ns == FOREVER)
				l->end_ns = soon(now);
		}
	}
}

static void client(bool doomed)
{
	struct lane lane[LANES];
	struct pollfd p[LANES];

	for (unsigned i = 0; i < LANES; i++)
		open_lane(&lane[i], now_ns(), doomed);
	for (;;) {
		uint64_t now = now_ns();
		unsigned left = 0;
		int wait = 1000;

		for (unsigned i = 0; i < LANES; i++) {
			const struct lane *l = &lane[i];

			if (l->fd >= 0) {
				int ms = pause_ms(l, last_ns(l), now);

				wait = ms < wait ? ms : wait;
				left++;
			}
			p[i] = (struct pollfd){.fd = deaf(l) ? -1 : l->fd, .events = l->up ? POLLIN : POLLOUT};
		}
		if (!left)
			return;
		if (poll(p, LANES, wait) < 0 && errno != EINTR)
			die("poll");
		now = now_ns();
		for (unsigned i = 0; i < LANES; i++)
			if (lane[i].fd >= 0)
				serve_lane(&lane[i], now, p[i].revents, doomed);
	}
}

/* ------------------------------------------------------------------ server */

static void answer(struct lane *l, uint64_t now, short events)
{
	ssize_t n = -1;

	if (events && !l->up) {
		n = read(l->fd, (uint8_t *)&l->seed + l->seed_got, sizeof(l->seed) - l->seed_got);
		if (n > 0)
			l->seed_got += (uint64_t)n;
		else if (n < 0 && (errno == EAGAIN || errno == EINTR))
			n = -1;
		else
			n = 0;
		if (l->seed_got == sizeof(l->seed)) {
			l->seed++; /* our own stream */
			l->talk_ns = FOREVER; /* speaks when spoken to */
			l->up = true;
		}
	} else if (events) {
		n = hear(l, l->seed - 1);
		if (n > 0 && !l->half)
			say(l, (size_t)n > 16384 ? 16384 : (size_t)n);
		if (n > 0 && is_ripe(l, l->sent, now) && l->active && l->end_ns == FOREVER)
			l->end_ns = soon(now);
	}
	if (!n) {
		end(l);
		return;
	}
	if (l->up && now + BURST_NS >= l->end_ns && !l->half &&
	    l->burst++ < BURST)
		say(l, 16384);
	if (now >= l->end_ns && !strike(l, now))
		end(l);
}

static void take(struct lane *lane, int listener, uint64_t now)
{
	for (unsigned i = 0; i < SEATS; i++) {
		int fd;

		if (lane[i].fd >= 0)
			continue;
		fd = sock_accept(listener);
		if (fd < 0)
			return;
		begin(&lane[i], fd, 0, now, random_below(2));
	}
}

static void server(int listener)
{
	struct lane lane[SEATS];
	struct pollfd p[SEATS + 1];

	for (unsigned i = 0; i < SEATS; i++)
		lane[i].fd = -1;
	for (;;) {
		uint64_t now = now_ns();
		int wait = 1000;

		p[SEATS] = (struct pollfd){.fd = listener, .events = POLLIN};
		for (unsigned i = 0; i < SEATS; i++) {
			const struct lane *l = &lane[i];
			int ms = l->fd >= 0 ? pause_ms(l, l->end_ns, now) : 1000;

			p[i] = (struct pollfd){.fd = deaf(l) ? -1 : l->fd, .events = POLLIN};
			wait = ms < wait ? ms : wait;
		}
		if (poll(p, SEATS + 1, wait) < 0 && errno != EINTR)
			die("poll");
		now = now_ns();
		for (unsigned i = 0; i < SEATS; i++)
			if (lane[i].fd >= 0)
				answer(&lane[i], now, p[i].revents);
		if (p[SEATS].revents)
			take(lane, listener, now);
	}
}

/* ------------------------------------------------------------------ parents */

static void share(void)
{
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED)
		die("mmap");
}

/* In the child: true. */
static bool spawn(struct child *c, uint64_t doom, int niceness)
{
	uint64_t seed = (uint64_t)random_below(UINT32_MAX) << 16 ^ now_ns();
	pid_t parent = getpid(), pid;

	c->doom = doom;
	atomic_store(&c->open, 0);
	atomic_store(&c->ripe, 0);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid) {
		atomic_store(&c->pid, pid);
		return false;
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(1);
	(void)signal(SIGTERM, SIG_DFL);
	(void)setpriority(PRIO_PROCESS, 0, niceness);
	me = c;
	random_seed(seed);
	return true;
}

static void slay(struct child *c)
{
	pid_t pid = atomic_load(&c->pid);

	c->doom = FOREVER;
	atomic_fetch_add(&tally->ended[KILL], atomic_load(&c->open));
	if (kill(pid, SIGKILL))
		die("kill %d", pid);
}

/* Children that have ended; how many are there still? */
static unsigned reap(unsigned places)
{
	unsigned left = 0;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (unsigned i = 0; i < places; i++)
			if (atomic_load(&tally->child[i].pid) == pid)
				atomic_store(&tally->child[i].pid, 0);
	for (unsigned i = 0; i < places; i++)
		left += atomic_load(&tally->child[i].pid) != 0;
	return left;
}

/* Where in the kernel a process hangs. */
static void show(pid_t pid)
{
	char path[64], text[4096];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stack", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text));
	(void)fprintf(stderr, "races: process %d does not die\n%.*s", pid, n > 0 ? (int)n : 0, text);
	if (fd >= 0)
		close(fd);
}

/* All of them away: `patience_ms` for themselves, then by force. How many hang? */
static unsigned finish(unsigned places, unsigned patience_ms)
{
	for (int forced = 0; forced < 2; forced++) {
		uint64_t until = now_ns() + (forced ? 10000 : patience_ms) * MS;

		while (reap(places) && now_ns() < until)
			(void)poll(NULL, 0, 5);
		for (unsigned i = 0; i < places; i++) {
			pid_t pid = atomic_load(&tally->child[i].pid);

			if (pid && !forced)
				slay(&tally->child[i]);
			else if (pid)
				show(pid);
		}
	}
	return reap(places);
}

static int summary(double seconds, unsigned hung)
{
	unsigned long ends = 0;

	for (unsigned i = 0; i < WAYS; i++)
		ends += atomic_load(&tally->ended[i]);
	(void)printf("%lu connections, %lu ends, %.0f a second:", atomic_load(&tally->opened), ends,
		     (double)ends / seconds);
	for (unsigned i = 0; i < WAYS; i++)
		(void)printf("%s%lu %s", i ? ", " : " ", atomic_load(&tally->ended[i]), way_name[i]);
	(void)printf("; %lu spliced, %lu lost at once; %llu bytes sent, %llu seen, %lu wrong; %u processes hang\n",
		     atomic_load(&tally->spliced), atomic_load(&tally->lost), atomic_load(&tally->sent),
		     atomic_load(&tally->seen), atomic_load(&tally->wrong), hung);
	return atomic_load(&tally->wrong) || hung;
}

static int serve(void)
{
	int listener = sock_listen(port);
	uint64_t start = now_ns(), next = start + KILL_NS, took;

	while (!ending) {
		(void)reap(SERVERS);
		for (unsigned i = 0; i < SERVERS; i++)
			if (!atomic_load(&tally->child[i].pid) && spawn(&tally->child[i], FOREVER, -5))
				server(listener);
		(void)poll(NULL, 0, 5);
		if (now_ns() >= next) {
			struct child *c = &tally->child[random_below(SERVERS)];

			if (atomic_load(&c->ripe) < SEATS / 4 && now_ns() < next + 4 * KILL_NS)
				continue; /* it has not come far enough to be worth a kill */
			slay(c);
			next = now_ns() + KILL_NS;
		}
	}
	took = now_ns() - start;
	return summary((double)took / 1e9, finish(SERVERS, 0));
}

static int run(unsigned rate, unsigned seconds, unsigned places)
{
	uint64_t start = now_ns(), until = start + seconds * 1000 * MS, next = start, took;

	for (uint64_t now; (now = now_ns()) < until;) {
		(void)reap(places);
		for (unsigned i = 0; i < places; i++) {
			struct child *c = &tally->child[i];
			bool doomed;

			if (atomic_load(&c->pid) && c->doom && now >= c->doom)
				slay(c);
			if (atomic_load(&c->pid) || now < next)
				continue;
			next += 1000 * MS * LANES / rate;
			doomed = !random_below(3);
			if (spawn(c, doomed ? 0 : FOREVER, 0)) {
				client(doomed);
				_exit(0);
			}
		}
		if (next + 100 * MS < now)
			next = now; /* what could not be done is not made up for */
		(void)poll(NULL, 0, 2);
	}
	took = now_ns() - start;
	return summary((double)took / 1e9, finish(places, 2000));
}

int races(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_ending};

	share();
	(void)sigaction(SIGTERM, &action, NULL);
	(void)setpriority(PRIO_PROCESS, 0, -10); /* kills in time, however busy the children are */
	random_seed(now_ns());
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		port = (unsigned)number(argv[2], 1, 65535);
		return serve();
	}
	if (argc == 7 && !strcmp(argv[1], "run")) {
		address = argv[2];
		port = (unsigned)number(argv[3], 1, 65535);
		return run((unsigned)number(argv[4], 1, 100000), (unsigned)number(argv[5], 1, 3600),
			   (unsigned)number(argv[6], 1, CLIENTS));
	}
	errno = 0;
	die("usage: races serve PORT | races run ADDRESS PORT RATE SECONDS PROCESSES");
}
