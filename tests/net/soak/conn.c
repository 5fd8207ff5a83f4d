// SPDX-License-Identifier: Apache-2.0
/* conn.c: one connection that plays its script. See soak.h. */
#include "soak.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST 16	/* system calls of one kind in one step, so that connections take turns */
#define LAST_MARK 0x5a	/* what the first byte of the last message of a conversation is XORed with */
#define PLACE_BYTES 64	/* looked at to find where they belong */
#define TALK_MS_MIN 100 /* a conversation shorter than this would hardly be spliced */
#define TALK_MS_MAX 500

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* One line with all that is needed to see where it stands, then the end. */
static _Noreturn void wrong(const struct conn *c, const char *what)
{
	static const char *const kinds[] = { [PHASE_TALK] = "talk", [PHASE_FLOW] = "flow" };

	fprintf(stderr,
		"soak: %s: seed %" PRIu64 " connection %" PRIu64 ": %s; phase %u (%s, round %" PRIu64
		", turn of the %s), sent %" PRIu64 ", got %" PRIu64 ", to send %" PRIu64 ", to get %" PRIu64 ", %s\n",
		c->side == CLIENT ? "client" : "server", c->seed, c->id, what, c->phases, kinds[c->phase.kind],
		c->rounds, c->turn == CLIENT ? "client" : "server", c->sent, c->got, c->out_left, c->in_left,
		c->paused_until ? "reader paused" : "reader awake");
	exit(1);
}

static _Noreturn void wrong_byte(const struct conn *c, const unsigned char *read, size_t size)
{
	unsigned char buf[PLACE_BYTES];
	char what[200];
	uint64_t at;

	if (size > sizeof(buf))
		size = sizeof(buf);
	memcpy(buf, read, size);
	if (size < sizeof(buf)) { /* the place shows in eight bytes of one word */
		ssize_t more = recv(c->fd, buf + size, sizeof(buf) - size, MSG_DONTWAIT);

		size += more > 0 ? (size_t)more : 0;
	}
	if (pattern_place(c->key_in, buf, size, &at))
		snprintf(what, sizeof(what),
			 "wrong byte at %" PRIu64 ": what is there belongs at %" PRIu64 ", %" PRIu64 " %s", c->got, at,
			 at < c->got ? c->got - at : at - c->got, at < c->got ? "earlier" : "later");
	else if (pattern_place(c->key_out, buf, size, &at))
		snprintf(what, sizeof(what),
			 "wrong byte at %" PRIu64 ": what is there this end itself wrote at %" PRIu64, c->got, at);
	else
		snprintf(what, sizeof(what), "wrong byte at %" PRIu64 ": it is of no stream of this connection",
			 c->got);
	wrong(c, what);
}

void conn_watch(const struct conn *c, uint64_t patience_ms)
{
	if (!c->paused_until && now_ms() - c->moved_ms > patience_ms)
		wrong(c, "stands still");
}

/* ------------------------------------------------------------------ phases */

static bool pending(const struct conn *c)
{
	return c->out_at < c->out_size;
}

static void begin_round(struct conn *c)
{
	c->question = rng_between(&c->script, 1, c->phase.message_max);
	c->answer = rng_between(&c->script, 1, c->phase.message_max);
	c->turn = CLIENT;
	c->last = c->side == CLIENT && now_ms() >= c->talk_until;
	c->rounds++;
	*(c->side == CLIENT ? &c->out_left : &c->in_left) = c->question;
}

static void begin_phase(struct conn *c)
{
	c->phase = script_next(&c->script, c->phases++ ? &c->phase : NULL, c->flow_max);
	c->rounds = 0;
	if (c->phase.kind == PHASE_TALK) {
		c->totals.talks++;
		c->talk_until = now_ms() + rng_between(&c->own, TALK_MS_MIN, TALK_MS_MAX);
		begin_round(c);
		return;
	}
	c->totals.flows++;
	c->out_left = c->phase.bytes[c->side];
	c->in_left = c->phase.bytes[!c->side];
}

/* Nothing left to send or to get: what comes next. The client ends only where the server waits for its word. */
static void advance(struct conn *c, bool finish)
{
	while (!c->out_left && !pending(c) && !c->in_left && !c->ended) {
		c->paused_until = 0;
		if (c->phase.kind == PHASE_TALK && c->turn == CLIENT) {
			c->turn = SERVER;
			*(c->side == SERVER ? &c->out_left : &c->in_left) = c->answer;
		} else if (c->phase.kind == PHASE_TALK && !c->last) {
			c->totals.rounds++;
			begin_round(c);
		} else {
			begin_phase(c);
			if (c->side != CLIENT || c->phase.kind != PHASE_TALK || !(finish || c->phases > c->life))
				continue;
			c->ended = true;
			c->out_left = 0;
			if (shutdown(c->fd, SHUT_WR))
				wrong(c, strerror(errno));
		}
	}
}

static void keys(struct conn *c)
{
	struct rng r = { c->seed ^ c->id * 0xd1342543de82ef95u };
	uint64_t key[2] = { rng_next(&r), rng_next(&r) };

	c->key_out = key[c->side];
	c->key_in = key[!c->side];
	c->script.state = rng_next(&r);
	c->own.state = rng_next(&r) + c->side;
	c->life = (unsigned)rng_between(&c->own, 4, 40);
}

void conn_open(struct conn *c, enum side side, int fd, uint64_t seed, uint64_t id, uint64_t flow_max)
{
	unsigned char *out = c->out ? c->out : malloc(PIECE_MAX);

	*c = (struct conn){ .fd = fd, .side = side, .seed = seed, .id = id, .out = out, .moved_ms = now_ms() };
	c->flow_max = flow_max;
	if (!out)
		wrong(c, "no memory");
	if (side == SERVER)
		return; /* its seed and number come with the hello */
	keys(c);
	memcpy(out, &seed, 8);
	memcpy(out + 8, &id, 8);
	c->out_size = HELLO_SIZE;
	begin_phase(c);
}

/* ------------------------------------------------------------------ bytes */

/* The next write: a random piece of what is left. */
static void compose(struct conn *c)
{
	uint64_t max = c->phase.kind == PHASE_TALK ? c->out_left : c->phase.write_max[c->side];
	uint64_t size = c->phase.kind == PHASE_TALK ? max : rng_size(&c->own, max);

	c->out_at = 0;
	c->out_size = (size_t)(size < c->out_left ? size : c->out_left);
	pattern_fill(c->key_out, c->sent, c->out, c->out_size);
	if (c->phase.kind == PHASE_TALK && c->last && c->side == CLIENT)
		c->out[0] ^= LAST_MARK;
	c->out_left -= c->out_size;
	c->sent += c->out_size;
	c->totals.sent += c->out_size;
}

static void write_some(struct conn *c)
{
	for (int i = 0; i < BURST; i++) {
		ssize_t n;

		if (!pending(c) && !c->out_left)
			return;
		if (!pending(c))
			compose(c);
		n = send(c->fd, c->out + c->out_at, c->out_size - c->out_at, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 && errno != EINTR)
			wrong(c, strerror(errno));
		if (n > 0) {
			c->out_at += (size_t)n;
			c->moved_ms = now_ms();
		}
	}
}

static void check(struct conn *c, unsigned char *buf, size_t size, bool first)
{
	size_t bad;

	if (first && c->side == SERVER && pattern_wrong(c->key_in, c->got, buf, 1) == 0) {
		buf[0] ^= LAST_MARK;
		c->last = true;
	}
	bad = pattern_wrong(c->key_in, c->got, buf, size);
	if (bad != SIZE_MAX) {
		c->got += bad;
		wrong_byte(c, buf + bad, size - bad);
	}
	c->got += size;
	c->in_left -= size;
	c->totals.checked += size;
}

/* The server's first bytes: which connection of which run this is. False: not all of it is there. */
static bool read_hello(struct conn *c)
{
	unsigned char hello[HELLO_SIZE];
	ssize_t n = recv(c->fd, hello, sizeof(hello), MSG_PEEK);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		wrong(c, n ? strerror(errno) : "closed before its hello");
	if (n < HELLO_SIZE)
		return false;
	if (recv(c->fd, hello, sizeof(hello), 0) != HELLO_SIZE)
		wrong(c, "the hello was there and is gone");
	memcpy(&c->seed, hello, 8);
	memcpy(&c->id, hello + 8, 8);
	keys(c);
	begin_phase(c);
	return true;
}

/* The peer's end is in order at one place only: before the first message of a conversation. */
static bool at_rest(const struct conn *c)
{
	return c->ended || (c->side == SERVER && c->phase.kind == PHASE_TALK && c->rounds == 1 &&
			    c->turn == CLIENT && !c->out_left && !pending(c));
}

/* False: the peer has ended, in order. */
static bool read_some(struct conn *c)
{
	static unsigned char buf[PIECE_MAX];

	for (int i = 0; i < BURST && !c->paused_until; i++) {
		bool first = c->phase.kind == PHASE_TALK && c->turn == CLIENT && c->in_left == c->question;
		uint64_t want = c->ended ? 1 : rng_size(&c->own, PIECE_MAX);
		ssize_t n;

		if (!c->in_left && !c->ended)
			return true;
		if (!c->ended && want > c->in_left)
			want = c->in_left;
		n = recv(c->fd, buf, want, 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n < 0)
			wrong(c, strerror(errno));
		if (!n && at_rest(c) && (c->ended || first))
			return false;
		if (!n)
			wrong(c, "the peer closed too early");
		if (c->ended)
			wrong(c, "bytes after the last phase");
		c->moved_ms = now_ms();
		check(c, buf, (size_t)n, first);
		if (c->phase.kind == PHASE_FLOW && rng_chance(&c->own, c->phase.pauses[c->side])) {
			c->paused_until = now_ms() + rng_between(&c->own, 1, c->phase.pause_ms[c->side]);
			c->totals.pauses++;
		}
	}
	return true;
}

bool conn_step(struct conn *c, bool finish)
{
	if (c->paused_until && now_ms() >= c->paused_until) {
		c->paused_until = 0;
		c->moved_ms = now_ms(); /* the peer had a good reason to wait */
	}
	if (!c->phases && !read_hello(c))
		return true;
	write_some(c);
	if (!read_some(c)) {
		close(c->fd);
		c->fd = -1;
		return false;
	}
	advance(c, finish);
	write_some(c); /* an answer at once, as servers do */
	advance(c, finish);
	return true;
}

uint32_t conn_interest(const struct conn *c)
{
	bool reads = !c->phases || c->ended || (c->in_left && !c->paused_until);

	return (reads ? EPOLLIN : 0u) | (c->out_left || pending(c) ? EPOLLOUT : 0u);
}

int conn_timeout(const struct conn *c)
{
	uint64_t now = now_ms();

	if (!c->paused_until)
		return -1;
	return c->paused_until > now ? (int)(c->paused_until - now) : 0;
}
