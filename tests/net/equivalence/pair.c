// SPDX-License-Identifier: Apache-2.0
/*
 * pair.c: one run of one row: see equivalence.h.
 *
 * The process that calls pair_run() stays outside: it makes the two sides, answers the client's questions about the
 * path, and ends both when they hang.
 */
#include "equivalence.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TALK 16 /* bytes of a message of the conversation */
#define ROUNDS 10

/* What the client asks the coordinator; the answer is one byte: 1 go on talking, 0 enough. */
struct question {
	int port;
	bool look; /* only to write the path down */
};

struct answer {
	bool more;
	struct path path;
	long long before; /* spliced when the conversation ended */
};

/* ------------------------------------------------------------------ the conversation */

static void talk_client(struct side *s, const char *word)
{
	char data[TALK] = {};

	strncpy(data, word, TALK - 1);
	put(s, data, TALK);
	get(s, data, TALK);
}

static void talk_server(struct side *s)
{
	char data[TALK];

	do {
		get(s, data, TALK);
		put(s, data, TALK);
	} while (strcmp(data, "done"));
}

static int own_port(struct side *s)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	if (getsockname(s->fd, (void *)&a, &len))
		return 0;
	return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
					     : ((struct sockaddr_in *)&a)->sin_port);
}

static struct answer ask(struct side *s, bool only_look)
{
	struct question q = { .port = own_port(s), .look = only_look };
	struct answer a = {};

	if (write(s->boss, &q, sizeof(q)) != sizeof(q) || read(s->boss, &a, sizeof(a)) != sizeof(a))
		_exit(0);
	return a;
}

void look(struct side *s)
{
	struct answer a = {};

	if (s->boss >= 0 && s->fd >= 0)
		a = ask(s, true);
	if (a.path.path[0])
		saw(s, "~ weft: %s, %s, %lld bytes spliced since the conversation", a.path.path, a.path.reason,
		    a.path.spliced - a.before);
}

void settle(struct side *s)
{
	while (s->boss >= 0 && ask(s, false).more)
		nap(10);
}

void leave(struct side *s)
{
	for (int ms = 0; s->boss >= 0 && ms < 4000; ms += 20) {
		if (strcmp(ask(s, true).path.path, "splice"))
			return;
		nap(20);
	}
	if (s->boss >= 0)
		saw(s, "weft does not let go of it");
}

/* Until weft has done what it will do; then once more, so that a splice just made is in use both ways. */
static void converse(struct side *s)
{
	bool more;

	do {
		for (int i = 0; i < ROUNDS; i++)
			talk_client(s, "talk");
		more = s->boss >= 0 && ask(s, false).more;
		if (more)
			nap(20); /* weft looks every 25 ms at most; it need not be asked more often */
	} while (more);
	for (int i = 0; i < ROUNDS; i++)
		talk_client(s, "talk");
	talk_client(s, "done");
	if (s->boss >= 0)
		ask(s, false);
}

/* ------------------------------------------------------------------ sockets */

static void make_nonblocking(struct side *s)
{
	unsigned blocks = s->client ? ROW_CLIENT_BLOCKS : ROW_SERVER_BLOCKS;

	if (!(s->row->flags & blocks))
		must(s, fcntl(s->fd, F_SETFL, O_NONBLOCK));
}

static int make_socket(struct side *s)
{
	int protocol = s->dials ? s->row->client_protocol : s->row->server_protocol;
	int fd = socket(s->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, protocol);

	if (fd < 0 && protocol)
		absent(s, "socket with protocol %d: %s", protocol, result(-1));
	if (fd < 0)
		failed(s, "socket: %s", result(-1));
	return fd;
}

static void play(struct side *s)
{
	if (s->client)
		s->row->client(s);
	else
		s->row->server(s);
}

static void serve(struct side *s)
{
	int one = 1;

	s->fd = make_socket(s);
	must(s, setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	if (s->row->before)
		s->row->before(s);
	if (s->address.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&s->address)->sin6_addr = in6addr_any;
	else
		((struct sockaddr_in *)&s->address)->sin_addr.s_addr = htonl(INADDR_ANY);
	if (bind(s->fd, (void *)&s->address, s->address_len) || listen(s->fd, 16))
		failed(s, "listen: %s", result(-1));
	s->listener = s->fd;
	s->fd = -1;
	meet(s);
	if (!(s->row->flags & ROW_BARE)) {
		s->fd = (int)must(s, accept4(s->listener, NULL, NULL, SOCK_CLOEXEC));
		make_nonblocking(s);
		if (s->row->early)
			s->row->early(s);
		meet(s);
		if (!(s->row->flags & ROW_SILENT)) {
			talk_server(s);
			delivered(s); /* the last acknowledgement may be late, and is nobody's business */
		}
		meet(s);
	}
	play(s);
	meet(s);
}

static void visit(struct side *s)
{
	s->fd = make_socket(s);
	if (s->row->before)
		s->row->before(s);
	meet(s);
	if (!(s->row->flags & ROW_BARE)) {
		must(s, connect(s->fd, (void *)&s->address, s->address_len));
		make_nonblocking(s);
		if (s->row->early)
			s->row->early(s);
		meet(s);
		if (!(s->row->flags & ROW_SILENT)) {
			converse(s);
			delivered(s);
		}
		meet(s);
	}
	play(s);
	look(s);
	meet(s);
}

/* ------------------------------------------------------------------ two processes */

static bool enter(const struct place *at)
{
	char path[512];
	bool entered = true;
	int fd;

	if (at->cgroup) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", at->cgroup);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		entered = fd >= 0 && write(fd, "0", 1) == 1;
		if (fd >= 0)
			close(fd);
	}
	if (!entered || !at->netns)
		return entered;
	fd = open(at->netns, O_RDONLY | O_CLOEXEC);
	entered = fd >= 0 && !setns(fd, CLONE_NEWNET);
	if (fd >= 0)
		close(fd);
	return entered;
}

static bool address_of(const char *text, int port, bool mapped, struct side *ret)
{
	struct sockaddr_in6 *in6 = (void *)&ret->address;
	struct sockaddr_in *in = (void *)&ret->address;
	char whole[INET6_ADDRSTRLEN];

	if (inet_pton(AF_INET, text, &in->sin_addr) == 1 && !mapped) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)port);
		ret->address_len = sizeof(*in);
		return true;
	}
	snprintf(whole, sizeof(whole), "%s%s", strchr(text, ':') ? "" : "::ffff:", text);
	*in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	ret->address_len = sizeof(*in6);
	return inet_pton(AF_INET6, whole, &in6->sin6_addr) == 1;
}

/* The whole life of the process of a side. */
__attribute__((noreturn)) static void live(const struct plan *p, struct side *s)
{
	signal(SIGPIPE, SIG_IGN);
	if (!enter(s->dials ? &p->client : &p->server))
		failed(s, "entering the place of the %s: %s", s->dials ? "client" : "server", result(-1));
	tell(s, getpid());
	s->peer = (pid_t)hear(s);
	if (s->dials)
		visit(s);
	else
		serve(s);
	_exit(0);
}

static long long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Spliced is who is seen to be: bytes of the conversation since the last question. */
static bool waits_for_more(const struct path *at, long long spliced_before)
{
	if (!strcmp(at->path, "splice"))
		return at->spliced == spliced_before;
	return !at->reason[0] || !strcmp(at->reason, "watched") || !strcmp(at->reason, "none") ||
	       !strcmp(at->reason, "peer_unseen");
}

/* Answers until the client has ended; then the server has at most the rest of the time to end too. */
static void coordinate(const struct plan *p, int client, long long until, struct path *ret)
{
	long long began = 0;
	struct question q;

	for (;;) {
		long long left = until - now_ms();
		struct answer a = {};

		if (left <= 0 || !wait_for(client, POLLIN, (int)left) || read(client, &q, sizeof(q)) != sizeof(q))
			return;
		path_ask(p->ask, q.port, &a.path);
		began = began ?: now_ms();
		a.before = ret->spliced;
		a.more = waits_for_more(&a.path, ret->spliced) && now_ms() - began < p->patience_ms;
		if (!q.look || !ret->path[0])
			*ret = a.path;
		if (write(client, &a, sizeof(a)) != sizeof(a))
			return;
	}
}

static bool end_both(pid_t *pids, long long until)
{
	bool hung = false;

	for (int i = 0; i < 2; i++) {
		while (!waitpid(pids[i], NULL, WNOHANG)) {
			if (now_ms() >= until) {
				hung = true;
				kill(pids[i], SIGKILL);
				waitpid(pids[i], NULL, 0);
				break;
			}
			nap(1);
		}
	}
	return hung;
}

static void copy_lines(const char *who, int fd, FILE *out)
{
	FILE *from = fdopen(fd, "r");
	char line[1400];

	rewind(from);
	while (fgets(line, sizeof(line), from))
		fprintf(out, "%s %s", who, line);
	fclose(from);
}

static int scratch(void)
{
	FILE *f = tmpfile();
	int fd = f ? fcntl(fileno(f), F_DUPFD_CLOEXEC, 3) : -1;

	if (f)
		fclose(f);
	if (fd < 0) {
		perror("equivalence: tmpfile");
		exit(1);
	}
	return fd;
}

void pair_run(const struct plan *p, const struct row *row, int index, FILE *out)
{
	bool mirrored = p->mirrored && !(row->flags & (ROW_BARE | ROW_DIALS));
	struct side client = { .row = row, .client = !mirrored, .dials = true, .fd = -1, .listener = -1, .boss = -1,
			       .out = scratch() };
	struct side server = { .row = row, .client = mirrored, .fd = -1, .listener = -1, .boss = -1,
			       .out = scratch() };
	long long until = now_ms() + p->limit_ms;
	struct path path = {};
	int pair[2], boss[2];
	pid_t pids[2];
	bool hung;

	if (!address_of(p->address, p->port + index, row->flags & ROW_FAMILY6, &client) ||
	    !address_of(p->address, p->port + index, row->flags & (ROW_FAMILY6 | ROW_SERVER6), &server)) {
		fprintf(stderr, "equivalence: %s is no address\n", p->address);
		exit(2);
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, boss)) {
		perror("equivalence: socketpair");
		exit(1);
	}
	/* Each keeps only its own ends, so that the end of one is seen by the others. */
	server.other = pair[1];
	pids[0] = fork();
	if (!pids[0]) {
		close(pair[0]);
		close(boss[0]);
		close(boss[1]);
		live(p, &server);
	}
	client.other = pair[0];
	client.boss = p->ask ? boss[1] : -1;
	pids[1] = fork();
	if (!pids[1]) {
		close(pair[1]);
		close(boss[0]);
		live(p, &client);
	}
	close(pair[0]);
	close(pair[1]);
	close(boss[1]);
	coordinate(p, boss[0], until, &path);
	close(boss[0]);
	hung = end_both(pids, until);
	fprintf(out, "row %s %s\n", row->number, row->name);
	if (p->ask)
		fprintf(out, "path %s %s %lld\n", path.path[0] ? path.path : "-", path.reason[0] ? path.reason : "-",
			path.spliced);
	copy_lines("client", mirrored ? server.out : client.out, out);
	copy_lines("server", mirrored ? client.out : server.out, out);
	if (hung)
		fprintf(out, "both hung\n");
	fprintf(out, "\n");
}
