// SPDX-License-Identifier: Apache-2.0
/* soak.c: command line and the loop over all connections. See soak.h. */
#include "soak.h"

#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CONNS_MAX 1024
#define WATCH_MS 500 /* how often a connection that stands still is looked for */

struct soak {
	enum side side;
	const char *endpoints; /* of the client: separated by commas, taken in turn */
	uint64_t bytes, seed, patience_ms, flow_max;
	unsigned connections;
	int epoll, listener;
	struct conn conns[CONNS_MAX];
	uint64_t opened;
	struct totals totals; /* of connections that have ended */
};

static volatile sig_atomic_t stop;

static void on_term(int number)
{
	(void)number;
	stop = 1;
}

static void add(struct totals *sum, const struct totals *t)
{
	sum->sent += t->sent;
	sum->checked += t->checked;
	sum->talks += t->talks;
	sum->rounds += t->rounds;
	sum->flows += t->flows;
	sum->pauses += t->pauses;
}

static struct totals all(const struct soak *s)
{
	struct totals sum = s->totals;

	for (int i = 0; i < CONNS_MAX; i++) {
		if (s->conns[i].fd >= 0)
			add(&sum, &s->conns[i].totals);
	}
	return sum;
}

/* A client's `sent` is checked by the server, which ends with an error if it is wrong. */
static bool finished(const struct soak *s)
{
	struct totals t = all(s);

	return s->side == CLIENT && t.sent + t.checked >= s->bytes;
}

static void watch(struct soak *s, struct conn *c, int op)
{
	struct epoll_event ev = { .events = conn_interest(c), .data.ptr = c };

	if (op == EPOLL_CTL_MOD && ev.events == c->armed)
		return;
	if (epoll_ctl(s->epoll, op, c->fd, &ev))
		fail("epoll_ctl");
	c->armed = ev.events;
}

static struct conn *vacant(struct soak *s)
{
	for (int i = 0; i < CONNS_MAX; i++) {
		if (s->conns[i].fd < 0)
			return &s->conns[i];
	}
	return NULL;
}

static void dial(struct soak *s)
{
	struct rng r = { s->seed + s->opened };
	char name[64];
	const char *from = s->endpoints;
	struct load l = { .endpoint = name, .nodelay = rng_chance(&r, 500) };
	unsigned count = 1;
	struct conn *c = vacant(s);

	for (const char *p = from; *p; p++)
		count += *p == ',';
	for (uint64_t skip = s->opened % count; skip; skip--)
		from = strchr(from, ',') + 1;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(from, ","), from);
	conn_open(c, CLIENT, endpoint_connect(&l), s->seed, s->opened++, s->flow_max);
	watch(s, c, EPOLL_CTL_ADD);
}

static void take(struct soak *s)
{
	for (;;) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct conn *c = vacant(s);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0)
			fail("accept");
		if (!c) {
			fprintf(stderr, "soak: more than %d connections at once\n", CONNS_MAX);
			exit(1);
		}
		conn_open(c, SERVER, fd, 0, 0, s->flow_max);
		s->opened++;
		watch(s, c, EPOLL_CTL_ADD);
	}
}

static void step(struct soak *s, struct conn *c, bool finish)
{
	if (conn_step(c, finish)) {
		watch(s, c, EPOLL_CTL_MOD);
		return;
	}
	add(&s->totals, &c->totals);
	if (s->side == CLIENT && !finish)
		dial(s);
}

/* Until the next reader's pause is over, at most WATCH_MS. */
static int patience(const struct soak *s)
{
	int least = WATCH_MS;

	for (int i = 0; i < CONNS_MAX; i++) {
		int ms = s->conns[i].fd >= 0 ? conn_timeout(&s->conns[i]) : -1;

		if (ms >= 0 && ms < least)
			least = ms;
	}
	return least;
}

/* Pauses that are over; connections that stand still. False: none is open. */
static bool look_at_all(struct soak *s, bool finish)
{
	bool open = false;

	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &s->conns[i];

		if (c->fd < 0)
			continue;
		conn_watch(c, s->patience_ms);
		if (!conn_timeout(c))
			step(s, c, finish);
		open = open || c->fd >= 0;
	}
	return open;
}

static void report(const struct soak *s, uint64_t start)
{
	struct totals t = all(s);
	unsigned open = 0;

	for (int i = 0; i < CONNS_MAX; i++)
		open += s->conns[i].fd >= 0;
	printf("{\"test\":\"soak\",\"side\":\"%s\",\"seed\":%" PRIu64 ",\"seconds\":%.3f,\"sent\":%" PRIu64
	       ",\"checked\":%" PRIu64 ",\"connections\":%" PRIu64 ",\"open\":%u,\"talks\":%" PRIu64
	       ",\"rounds\":%" PRIu64 ",\"flows\":%" PRIu64 ",\"pauses\":%" PRIu64 "}\n",
	       s->side == CLIENT ? "client" : "server", s->seed, (double)(now_ms() - start) / 1e3, t.sent, t.checked,
	       s->opened, open, t.talks, t.rounds, t.flows, t.pauses);
}

static int run(struct soak *s)
{
	struct epoll_event ev[64];
	uint64_t start = now_ms();

	for (unsigned i = 0; s->side == CLIENT && i < s->connections; i++)
		dial(s);
	while (!stop) {
		int n = epoll_wait(s->epoll, ev, 64, patience(s));
		bool finish = finished(s);

		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (!c)
				take(s);
			else if (c->fd >= 0)
				step(s, c, finish);
		}
		if (!look_at_all(s, finish) && s->side == CLIENT)
			break;
	}
	report(s, start);
	return 0;
}

static bool options(int argc, char **argv, struct soak *s)
{
	static const struct option known[] = {
		{ "bytes", required_argument, NULL, 'b' },  { "connections", required_argument, NULL, 'c' },
		{ "seed", required_argument, NULL, 's' },   { "patience", required_argument, NULL, 'p' },
		{ "flow", required_argument, NULL, 'f' },   {},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		uint64_t value = optarg ? strtoull(optarg, NULL, 10) : 0;

		if (c == 'b')
			s->bytes = value;
		else if (c == 'c')
			s->connections = (unsigned)value;
		else if (c == 's')
			s->seed = value;
		else if (c == 'p')
			s->patience_ms = value * 1000;
		else if (c == 'f')
			s->flow_max = value;
		else
			return false;
	}
	if (optind + 2 != argc || (strcmp(argv[optind], "client") && strcmp(argv[optind], "server")))
		return false;
	s->side = strcmp(argv[optind], "client") ? SERVER : CLIENT;
	s->endpoints = argv[optind + 1];
	return s->patience_ms && s->flow_max && s->connections && s->connections <= CONNS_MAX &&
	       (s->side == SERVER || s->bytes);
}

int main(int argc, char **argv)
{
	static struct soak s = { .seed = 1, .patience_ms = 30000, .connections = 8, .flow_max = FLOW_MAX };
	struct sigaction term = { .sa_handler = on_term };
	struct epoll_event ev = { .events = EPOLLIN };
	struct endpoint e;

	for (int i = 0; i < CONNS_MAX; i++)
		s.conns[i].fd = -1;
	if (!options(argc, argv, &s)) {
		fprintf(stderr, "soak: usage: soak server ENDPOINT | soak client ENDPOINT[,ENDPOINT...] --bytes TOTAL "
				"[--connections N] [--seed S] [--patience SECONDS] [--flow BYTES]\n");
		return 2;
	}
	s.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s.epoll < 0 || sigaction(SIGTERM, &term, NULL))
		fail("setup");
	if (s.side == SERVER) {
		e = endpoint_parse(s.endpoints);
		s.listener = endpoint_listen(&e);
		if (fcntl(s.listener, F_SETFL, O_NONBLOCK) || epoll_ctl(s.epoll, EPOLL_CTL_ADD, s.listener, &ev))
			fail("listen");
	}
	return run(&s);
}
