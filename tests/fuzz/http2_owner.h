/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2_owner.h: owners of HTTP/2 exchanges who do anything at any time, and a peer who sends anything, in pieces of
 * any size, over a transport with little room. What both fuzzers of HTTP/2 share.
 *
 *	byte 0		the bits below
 *	bytes 1-2	seed of everything random
 *	the rest	raw bytes, or frames: type, flags, stream, length of the payload, payload
 */
#ifndef WEFT_FUZZ_HTTP2_OWNER_H
#define WEFT_FUZZ_HTTP2_OWNER_H

#include "../unit/frames.h"
#include "http.h"

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
static struct http_exchange *owned[OWNED];
static struct http_connection *connection;
static unsigned closed;

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
	struct http_exchange *x = owned[i];

	owned[i] = NULL;
	if (!dice(4))
		x->error = dice(16);
	stream_close(&x->s, why);
}

/* What HTTP/1 would be split by is in none of it. */
static void clean(struct http_text t)
{
	size_t i;

	for (i = 0; i < t.len; i++)
		must(t.at[i] && t.at[i] != '\r' && t.at[i] != '\n');
}

static void check_fields(const struct http_head *h)
{
	unsigned i, j;

	must(h->fields <= 100);
	for (i = 0; i < h->fields; i++) {
		const struct http_field *f = &h->field[i];

		must(f->name.len && f->name.at[0] != ':' && f->id == http_name(f->name.at, f->name.len));
		for (j = 0; j < f->name.len; j++) {
			char c = f->name.at[j];

			must(c > ' ' && c != ':' && !(c >= 'A' && c <= 'Z'));
		}
		clean(f->value);
		must(f->id != HTTP_NAME_CONNECTION && f->id != HTTP_NAME_HOST && f->id != HTTP_NAME_CONTENT_LENGTH);
		must(f->id != HTTP_NAME_TRANSFER_ENCODING && f->id != HTTP_NAME_UPGRADE);
	}
}

static void read_some(struct http_exchange *x)
{
	struct stream_bytes run[STREAM_RUNS];
	size_t most = 1 + dice(3 << dice(15)), all = 0;
	unsigned i, n = stream_peek(&x->s, run, most);

	must(!n || x->head_came);
	for (i = 0; i < n; i++) {
		volatile uint8_t first = run[i].data[0], last = run[i].data[run[i].len - 1];

		must(run[i].len);
		memset(run[i].data - run[i].headroom, first ^ last, run[i].headroom);
		all += run[i].len;
	}
	must(all <= most);
	if (n)
		stream_consume(&x->s, dice(4) ? all : dice((unsigned)all + 1));
	if (x->s.ended && x->trailers)
		check_fields(x->trailers);
}

static void write_some(struct http_exchange *x)
{
	static uint8_t bytes[64 + 40000];
	size_t len = 1 + dice(1u << dice(15)), room = stream_room(&x->s), took;
	struct stream_bytes run[2] = {
		{.data = bytes + 64, .len = len / 2, .headroom = dice(2) ? 64 : 0},
		{.data = bytes + 64 + len / 2, .len = len - len / 2},
	};

	if (x->s.finished)
		return;
	took = stream_write(&x->s, run, 2);
	must(took <= len);
	must(took <= room);
}

static const struct http_field some_fields[] = {
	{HTTP_TEXT("X-One"), HTTP_TEXT("1"), HTTP_NAME_OTHER, false},
	{HTTP_TEXT("authorization"), HTTP_TEXT("secret"), HTTP_NAME_AUTHORIZATION, true},
	{HTTP_TEXT("connection"), HTTP_TEXT("close"), HTTP_NAME_CONNECTION, false},
};

static void answer_some(struct http_exchange *x)
{
	static const uint16_t status[] = {100, 103, 200, 200, 200, 204, 304, 404, 101};
	struct http_head h = {
		.status = status[dice(array_size(status))],
		.body = (enum http_body)dice(4),
		.has_length = dice(2),
		.length = dice(100),
		.field = (struct http_field *)some_fields,
		.fields = dice(array_size(some_fields) + 1),
	};

	if (x->connection->server && !x->head_sent)
		http_answer(x, &h);
}

static void act(unsigned i)
{
	struct http_exchange *x = owned[i];

	switch (dice(26)) {
	case 0:
		let_go(i, NULL);
		break;
	case 1:
		let_go(i, "reset by peer");
		break;
	case 2:
		if (!x->s.finished)
			stream_finish(&x->s);
		break;
	case 3:
		http_trailers(x, some_fields, dice(array_size(some_fields) + 1));
		break;
	case 4 ... 6:
		answer_some(x);
		break;
	case 7 ... 14:
		read_some(x);
		break;
	case 15 ... 22:
		write_some(x);
		break;
	default:
		break;
	}
}

static void ready(struct stream *s, unsigned events)
{
	unsigned i;

	for (i = 0; i < OWNED && (!owned[i] || &owned[i]->s != s); i++)
		;
	must(i < OWNED && events);
	if (events & STREAM_FAILED) {
		must(s->why != NULL);
		let_go(i, s->why);
		return;
	}
	while (owned[i] && &owned[i]->s == s && dice(3))
		act(i);
}

static void own(struct http_exchange *x)
{
	unsigned i;

	for (i = 0; i < OWNED && owned[i]; i++)
		;
	must(i < OWNED);
	owned[i] = x;
	x->s.ready = ready;
	if (!dice(3))
		act(i);
}

static void on_a_request(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	must(c->ops->active(c) <= 20);
	must(h->method_text.len && h->authority.len);
	must(h->method == HTTP_CONNECT || h->path.len);
	clean(h->path);
	clean(h->authority);
	clean(h->method_text);
	check_fields(h);
	own(x);
}

static void on_an_answer(struct http_exchange *x, const struct http_head *h)
{
	must(h->status >= 100 && h->status < 1000);
	check_fields(h);
}

static void on_what(struct http_connection *c)
{
}

static void on_refusal(struct http_connection *c, int status, const char *why)
{
	must(why && (!status || status >= 400));
}

static void on_end(struct http_connection *c, const char *why)
{
	connection = NULL;
	closed++;
}

static const struct http_events events = {
	.request = on_a_request,
	.answer = on_an_answer,
	.free = on_what,
	.refused = on_refusal,
	.draining = on_what,
	.closed = on_end,
};

static void ask_something(void)
{
	struct http_head h = {
		.method = dice(4) ? HTTP_GET : dice(2) ? HTTP_CONNECT : HTTP_HEAD,
		.scheme = HTTP_TEXT("http"),
		.authority = HTTP_TEXT("a.example"),
		.path = HTTP_TEXT("/"),
		.field = (struct http_field *)some_fields,
		.fields = dice(array_size(some_fields) + 1),
		.body = (enum http_body)dice(4),
		.has_length = dice(2),
		.length = dice(100),
		.trailers = dice(2),
	};
	struct http_exchange *x;

	h.method_text = h.method == HTTP_GET ? HTTP_TEXT("GET") : h.method == HTTP_HEAD ? HTTP_TEXT("HEAD")
											 : HTTP_TEXT("CONNECT");
	if (h.method == HTTP_GET && !dice(4))
		h.upgrade = HTTP_TEXT("websocket");
	x = http_request(connection, &h, dice(2));
	if (x)
		own(x);
}

/* What nobody asked for: an owner may do things at any time. */
static void meddle(void)
{
	unsigned i = dice(OWNED);

	if (owned[i])
		act(i);
	if (connection && !connection->server && !dice(3))
		ask_something();
	if (connection && !dice(60))
		connection->ops->drain(connection);
	if (connection && !dice(200))
		connection->ops->close(connection, dice(2) ? NULL : "why not");
}

static void say_request(uint32_t id, unsigned what)
{
	uint8_t block[300];
	size_t len = raw_field(block, ":method", what & 1 ? "POST" : "GET");

	len += raw_field(block + len, ":scheme", "http");
	len += raw_field(block + len, ":path", "/");
	len += raw_field(block + len, ":authority", "a");
	if (what & 2)
		len += raw_field(block + len, "content-length", "5");
	if (what & 4)
		len += raw_field(block + len, "cookie", "a=b");
	if (what & 8)
		len += raw_field(block + len, "cookie", "c");
	raw_frame(&raw, F_HEADERS, END_HEADERS | (what & 16 ? END_STREAM : 0), id, block, len);
}

static void frame(const uint8_t **data, size_t *len, bool client)
{
	const uint8_t *p = *data;
	size_t payload = p[3] < *len - 4 ? p[3] : *len - 4;

	if (p[0] == 0xff) {
		scene_turns(&scene);
		meddle();
	} else if (p[0] == 0xfe) {
		if (client)
			raw_accept(&raw, p[2]);
		else
			say_request(p[2], p[3]);
		payload = 0;
	} else {
		raw_frame(&raw, p[0] % 11, p[1], p[2] & 0x1f, p + 4, payload);
	}
	*data += 4 + payload;
	*len -= 4 + payload;
}

static void play(const uint8_t *data, size_t len, bool client)
{
	const struct http_limits limit = {.streams = 20};
	struct pair_end *ends[2];
	uint8_t how = data[0];
	unsigned i;

	seed = (uint64_t)data[1] << 8 | data[2];
	data += 3;
	len -= 3;
	closed = 0;
	scene_thread(&scene);
	pair_make(&scene.thread, ends, 1 << 20, how & SMALL_PIECES ? 50 : 0, seed);
	raw_take(&scene, &raw, ends[0], client);
	ends[1]->knows_room = how & KNOWS_ROOM;
	if (how & LITTLE_ROOM)
		ends[0]->capacity = 100;
	connection = (client ? http2_client : http2_server)(&scene.thread, &ends[1]->s, &limit, &events, NULL);
	if (how & HELLO) {
		if (!client)
			raw_bytes(&raw, PREFACE, sizeof(PREFACE) - 1);
		raw_frame(&raw, F_SETTINGS, 0, 0, "\0\x08\0\0\0\1", client ? 6 : 0); /* extended CONNECT */
		raw_frame(&raw, F_SETTINGS, ACK, 0, NULL, 0);
		scene_turns(&scene);
	}
	for (i = 0; i < 4 && client; i++)
		meddle();
	if (how & RAW)
		raw_bytes(&raw, data, len);
	while (!(how & RAW) && len >= 4 && !raw.failed)
		frame(&data, &len, client);
	for (i = 0; i < 3; i++) {
		scene_turns(&scene);
		meddle();
	}
	must(raw.failed || raw.client_magic || raw.len < 9 || get32(raw.in) >> 8 <= 16384);
	for (i = 0; i < OWNED; i++)
		if (owned[i])
			let_go(i, dice(2) ? NULL : "gone");
	if (connection)
		connection->ops->close(connection, NULL);
	raw_end(&scene, &raw);
	must(closed == 1);
}

#endif
