/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/2 peer that sends anything: to our server, to our client; in pieces of any size, over a transport with little
 * room; the owners of tunnels do anything too. It ends, nothing is left, and what we send are frames in our limits.
 *
 *	byte 0		the bits below
 *	bytes 1-2	seed of everything random
 *	the rest	raw bytes, or frames: type, flags, stream, length of the payload, payload
 */
#include "../unit/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
	OUR_CLIENT = 1,
	RAW = 2,
	SMALL_PIECES = 4,
	LITTLE_ROOM = 8,
	HELLO = 16,
	KNOWS_ROOM = 32,
};

#define OWNED 600
#define TURNS 3

static struct scene scene;
static struct raw raw;
static uint64_t seed;
static struct stream *owned[OWNED];
static unsigned asked, closed;

static void must(bool law)
{
	if (!law)
		abort();
}

static unsigned dice(unsigned sides)
{
	return (unsigned)(pair_random(&seed) % sides);
}

static void let_go(unsigned i, const char *why)
{
	struct stream *s = owned[i];

	owned[i] = NULL;
	stream_close(s, why);
}

static void read_some(struct stream *s)
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
}

static void write_some(struct stream *s)
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

static void act(unsigned i)
{
	switch (dice(24)) {
	case 0:
		let_go(i, NULL);
		break;
	case 1:
		let_go(i, "reset by peer");
		break;
	case 2:
		if (!owned[i]->finished)
			stream_finish(owned[i]);
		break;
	case 3 ... 12:
		read_some(owned[i]);
		break;
	case 13 ... 20:
		write_some(owned[i]);
		break;
	default:
		break;
	}
}

static void ready(struct stream *s, unsigned events)
{
	unsigned i;

	for (i = 0; i < OWNED && owned[i] != s; i++)
		;
	must(i < OWNED && events);
	if (events & STREAM_FAILED) {
		must(s->why);
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

static void answer(unsigned i)
{
	struct stream *s = owned[i];

	if (dice(4)) {
		hbone_accept(s, dice(2) ? "k8s.namespace.name=x" : NULL);
	} else {
		owned[i] = NULL;
		hbone_refuse(s, 401);
	}
}

static void on_ask(struct hbone *h, struct stream *s, const struct hbone_request *ask)
{
	unsigned i = own(s);

	must(ask->authority && *ask->authority && strlen(ask->authority) <= HBONE_HEADER);
	must(hbone_streams(h) <= 20);
	asked++;
	if (dice(3))
		answer(i);
}

static void on_drain(struct hbone *h)
{
}

static void on_close(struct hbone *h, const char *why)
{
	struct side *side = hbone_owner(h);

	side->h = NULL;
	closed++;
}

/* What nobody asked for: an owner may do things at any time. */
static void meddle(struct hbone *h)
{
	struct hbone_stream_view stream;
	struct hbone_view view;
	unsigned i = dice(OWNED);

	if (!h)
		return;
	hbone_look(h, &view);
	if (owned[i]) {
		hbone_stream_look(owned[i], &stream);
		act(i);
	}
	if (h == scene.client.h && !dice(3)) {
		const struct hbone_request ask = {.authority = "10.0.0.1:80", .baggage = dice(2) ? "a=b" : NULL};
		struct stream *s = hbone_connect(h, &ask);

		if (s)
			own(s);
	}
	if (!dice(60))
		hbone_drain(h);
	if (!dice(200))
		hbone_close(h, dice(2) ? NULL : "why not");
}

static void turns(unsigned count)
{
	while (count--)
		scene_turns(&scene);
}

static void frame(const uint8_t **data, size_t *len)
{
	const uint8_t *p = *data;
	size_t payload = p[3] < *len - 4 ? p[3] : *len - 4;

	if (p[0] == 0xff) {
		turns(1);
		meddle(scene.client.h ? scene.client.h : scene.server.h);
	} else if (p[0] == 0xfe) {
		raw_connect(&raw, p[2], p[3] & 1 ? "10.0.0.1:80" : "[fd00::1]:80");
		payload = 0;
	} else if (p[0] == 0xfd) {
		raw_accept(&raw, p[2]);
		payload = 0;
	} else {
		raw_frame(&raw, p[0] % 11, p[1], p[2] & 0x1f, p + 4, payload);
	}
	*data += 4 + payload;
	*len -= 4 + payload;
}

static void start(uint8_t how)
{
	static const struct hbone_events events = {.asked = on_ask, .draining = on_drain, .closed = on_close};
	const struct hbone_limits limit = {.streams = 20};
	struct pair_end *ends[2];
	bool client = how & OUR_CLIENT;
	struct side *side = client ? &scene.client : &scene.server;

	scene_thread(&scene);
	pair_make(&scene.thread, ends, 1 << 20, how & SMALL_PIECES ? 50 : 0, seed);
	raw_take(&scene, &raw, ends[0], client);
	ends[1]->knows_room = how & KNOWS_ROOM;
	if (how & LITTLE_ROOM)
		ends[0]->capacity = 100;
	side->h = client ? hbone_client(&scene.thread, &ends[1]->s, &limit, &events, side)
			 : hbone_server(&scene.thread, &ends[1]->s, &limit, &events, side);
	if (how & HELLO) {
		if (!client)
			raw_bytes(&raw, PREFACE, sizeof(PREFACE) - 1);
		raw_frame(&raw, F_SETTINGS, 0, 0, NULL, 0);
		raw_frame(&raw, F_SETTINGS, ACK, 0, NULL, 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct hbone *h;
	unsigned i;
	uint8_t how;

	if (len < 3)
		return 0;
	how = data[0];
	seed = (uint64_t)data[1] << 8 | data[2];
	data += 3;
	len -= 3;
	asked = closed = 0;
	start(how);
	if (how & RAW)
		raw_bytes(&raw, data, len);
	for (i = 0; i < 3 && (how & OUR_CLIENT); i++)
		meddle(scene.client.h);
	while (!(how & RAW) && len >= 4 && !raw.failed)
		frame(&data, &len);
	for (i = 0; i < TURNS; i++) {
		turns(1);
		h = scene.client.h ? scene.client.h : scene.server.h;
		meddle(h);
	}
	must(raw.failed || raw.client_magic || raw.len < 9 || get32(raw.in) >> 8 <= 16384);
	for (i = 0; i < OWNED; i++)
		if (owned[i])
			let_go(i, dice(2) ? NULL : "gone");
	raw_end(&scene, &raw);
	must(closed == 1);
	return 0;
}
