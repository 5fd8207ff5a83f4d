/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owners.h: owners of streams who do anything at any time, and an HTTP/2 peer who sends anything, in pieces of any
 * size, over a transport with little room. What the fuzzers of HTTP/2 and of HBONE share; act() and let_go() are
 * theirs.
 *
 *	byte 0		the bits below, of HBONE one more before them
 *	bytes 1-2	seed of everything random
 *	the rest	raw bytes, or frames: type, flags, stream, length of the payload, payload
 */
#ifndef WEFT_FUZZ_OWNERS_H
#define WEFT_FUZZ_OWNERS_H

#include "../unit/frames.h"

enum {
	RAW = 1,
	SMALL_PIECES = 2,
	LITTLE_ROOM = 4,
	HELLO = 8,
	KNOWS_ROOM = 16,
};

#define OWNED 600

static struct scene scene;
static struct raw raw;
static uint64_t seed;
static struct stream *owned[OWNED];
static unsigned closed;

static void act(unsigned i);
static void let_go(unsigned i, const char *why);

static void must(bool law)
{
	if (!law)
		abort();
}

static unsigned dice(unsigned sides)
{
	return (unsigned)(pair_random(&seed) % sides);
}

/* How many runs there were. What lies before them is ours to write to. */
static unsigned read_any(struct stream *s)
{
	struct stream_bytes run[STREAM_RUNS];
	size_t most = 1 + dice(3 << dice(15)), all = 0;
	unsigned i, n = stream_peek(s, run, most);

	for (i = 0; i < n; i++) {
		volatile uint8_t first = run[i].data[0], last = run[i].data[run[i].len - 1];

		must(run[i].len);
		memset(run[i].data - run[i].headroom, first ^ last, run[i].headroom);
		all += run[i].len;
	}
	must(all <= most);
	if (n)
		stream_consume(s, dice(4) ? all : dice((unsigned)all + 1));
	return n;
}

static void write_any(struct stream *s)
{
	static uint8_t bytes[64 + 40000];
	size_t len = 1 + dice(1u << dice(15)), room = stream_room(s), took;
	struct stream_bytes run[2] = {
		{.data = bytes + 64, .len = len / 2, .headroom = dice(2) ? 64 : 0},
		{.data = bytes + 64 + len / 2, .len = len - len / 2},
	};

	took = stream_write(s, run, 2);
	must(took <= len);
	must(took <= room);
}

static void ready(struct stream *s, unsigned events)
{
	unsigned i;

	for (i = 0; i < OWNED && owned[i] != s; i++)
		;
	must(i < OWNED && events);
	if (events & STREAM_FAILED) {
		must(s->why != NULL);
		let_go(i, s->why);
		return;
	}
	while (owned[i] == s && dice(3))
		act(i);
}

static unsigned own(struct stream *s)
{
	unsigned i;

	for (i = 0; i < OWNED && owned[i]; i++)
		;
	must(i < OWNED);
	owned[i] = s;
	s->ready = ready;
	return i;
}

/* Takes the first three bytes; the peer's end is `raw`, and ours is given. */
static struct stream *meet(const uint8_t **data, size_t *len, uint8_t how, bool client)
{
	struct pair_end *ends[2];

	seed = (uint64_t)(*data)[1] << 8 | (*data)[2];
	*data += 3;
	*len -= 3;
	closed = 0;
	scene_thread(&scene);
	pair_make(&scene.thread, ends, 1 << 20, how & SMALL_PIECES ? 50 : 0, seed);
	raw_take(&scene, &raw, ends[0], client);
	ends[1]->knows_room = how & KNOWS_ROOM;
	if (how & LITTLE_ROOM)
		ends[0]->capacity = 100;
	return &ends[1]->s;
}

/* What the peer begins with. */
static void hello(bool client, const void *settings, size_t len)
{
	if (!client)
		raw_bytes(&raw, PREFACE, sizeof(PREFACE) - 1);
	raw_frame(&raw, F_SETTINGS, 0, 0, settings, len);
	raw_frame(&raw, F_SETTINGS, ACK, 0, NULL, 0);
}

/* What we sent are frames in our limits; nobody owns anything any more. */
static void let_all_go(void)
{
	must(raw.failed || raw.client_magic || raw.len < 9 || get32(raw.in) >> 8 <= 16384);
	for (unsigned i = 0; i < OWNED; i++)
		if (owned[i])
			let_go(i, dice(2) ? NULL : "gone");
}

#endif
