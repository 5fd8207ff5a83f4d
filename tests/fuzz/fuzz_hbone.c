/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/2 peer that sends anything: to our server, to our client; in pieces of any size, over a transport with little
 * room; the owners of tunnels do anything too. It ends, nothing is left, and what we send are frames in our limits.
 *
 * owners.h has the input's form; bit 0 of byte 0 is OUR_CLIENT.
 */
#include "owners.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define OUR_CLIENT 1
#define TURNS 3

static void let_go(unsigned i, const char *why)
{
	struct stream *s = owned[i];

	owned[i] = NULL;
	stream_close(s, why);
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
		read_any(owned[i]);
		break;
	case 13 ... 20:
		write_any(owned[i]);
		break;
	default:
		break;
	}
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

static void start(struct stream *s, bool client)
{
	static const struct hbone_events events = {.asked = on_ask, .draining = on_drain, .closed = on_close};
	const struct hbone_limits limit = {.streams = 20};
	struct side *side = client ? &scene.client : &scene.server;

	side->h = client ? hbone_client(&scene.thread, s, &limit, &events, side)
			 : hbone_server(&scene.thread, s, &limit, &events, side);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	bool client = len && data[0] & OUR_CLIENT;
	uint8_t how = len ? data[0] >> 1 : 0;
	unsigned i;

	if (len < 3)
		return 0;
	start(meet(&data, &len, how, client), client);
	if (how & HELLO)
		hello(client, NULL, 0);
	if (how & RAW)
		raw_bytes(&raw, data, len);
	for (i = 0; i < 3 && client; i++)
		meddle(scene.client.h);
	while (!(how & RAW) && len >= 4 && !raw.failed)
		frame(&data, &len);
	for (i = 0; i < TURNS; i++) {
		turns(1);
		meddle(scene.client.h ? scene.client.h : scene.server.h);
	}
	let_all_go();
	raw_end(&scene, &raw);
	must(closed == 1);
	return 0;
}
