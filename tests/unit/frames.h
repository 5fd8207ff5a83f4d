/* SPDX-License-Identifier: Apache-2.0 */
/* frames.h: a peer that writes HTTP/2 by hand (RFC 9113 section 4), so that it can write it wrong. */
#ifndef WEFT_TEST_FRAMES_H
#define WEFT_TEST_FRAMES_H

#include "tunnels.h"

enum frame_type {
	F_DATA,
	F_HEADERS,
	F_PRIORITY,
	F_RST_STREAM,
	F_SETTINGS,
	F_PUSH_PROMISE,
	F_PING,
	F_GOAWAY,
	F_WINDOW_UPDATE,
	F_CONTINUATION,
	F_TYPES = 16,
};
#define END_STREAM 1
#define ACK 1
#define END_HEADERS 4
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

struct raw { /* the other end of a pair */
	struct pair_end *end;
	uint8_t *in; /* what came and is no whole frame yet */
	size_t len;
	bool client_magic; /* 24 bytes come before the first frame */
	bool deaf;	   /* reads nothing */
	unsigned count[F_TYPES];
	uint32_t rst_id, rst_code, goaway_last, goaway_code, status_id;
	uint64_t data_bytes;
	unsigned ends; /* END_STREAM */
	unsigned rsts[16]; /* by code */
	uint8_t status[4]; /* of the last HEADERS: its first bytes */
	bool ended, failed;
	uint64_t max_streams, initial_window;
};

static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static void raw_seen(struct raw *r, unsigned type, unsigned flags, uint32_t id, const uint8_t *p, size_t len)
{
	size_t i;

	r->ends += (type == F_DATA || type == F_HEADERS) && flags & END_STREAM;
	r->count[type < F_TYPES ? type : F_TYPES - 1]++;
	if (type == F_RST_STREAM) {
		r->rst_id = id;
		r->rst_code = get32(p);
		r->rsts[r->rst_code & 15]++;
	} else if (type == F_GOAWAY) {
		r->goaway_last = get32(p);
		r->goaway_code = get32(p + 4);
	} else if (type == F_DATA) {
		r->data_bytes += len;
	} else if (type == F_HEADERS) {
		r->status_id = id;
		memcpy(r->status, p, len < 4 ? len : 4);
	} else if (type == F_SETTINGS) {
		for (i = 0; i + 6 <= len; i += 6) {
			if (p[i + 1] == 3)
				r->max_streams = get32(p + i + 2);
			if (p[i + 1] == 4)
				r->initial_window = get32(p + i + 2);
		}
	}
}

static void raw_read(struct raw *r)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned i, n;
	size_t at;

	while (!r->deaf && (n = stream_peek(&r->end->s, run, SIZE_MAX))) {
		size_t all = 0;

		for (i = 0; i < n; i++) {
			r->in = mem_grow(r->in, r->len + run[i].len + 1, 1);
			memcpy(r->in + r->len, run[i].data, run[i].len);
			r->len += run[i].len;
			all += run[i].len;
		}
		stream_consume(&r->end->s, all);
	}
	at = r->client_magic && r->len >= sizeof(PREFACE) - 1 ? sizeof(PREFACE) - 1 : 0;
	if (at)
		r->client_magic = false;
	while (!r->client_magic && r->len - at >= 9) {
		size_t len = get32(r->in + at) >> 8;

		if (r->len - at < 9 + len)
			break;
		raw_seen(r, r->in[at + 3], r->in[at + 4], get32(r->in + at + 5), r->in + at + 9, len);
		at += 9 + len;
	}
	if (r->len > at)
		memmove(r->in, r->in + at, r->len - at);
	r->len -= at;
	r->ended |= r->end->s.ended;
}

static void raw_ready(struct stream *s, unsigned events)
{
	struct raw *r = s->owner;

	r->failed |= !!(events & STREAM_FAILED);
	if (events & STREAM_READABLE)
		raw_read(r);
}

/* Where the transport is full the rest is lost: give it room. */
static inline void raw_bytes(struct raw *r, const void *data, size_t len)
{
	struct stream_bytes run = {.data = (uint8_t *)data, .len = len};

	stream_write(&r->end->s, &run, 1);
}

static inline void raw_frame(struct raw *r, unsigned type, unsigned flags, uint32_t id, const void *data, size_t len)
{
	uint8_t head[9];

	put32(head, (uint32_t)len << 8 | type);
	head[4] = (uint8_t)flags;
	put32(head + 5, id);
	raw_bytes(r, head, 9);
	if (len)
		raw_bytes(r, data, len);
}

static inline size_t raw_field(uint8_t *to, const char *name, const char *value)
{
	size_t n = strlen(name), v = strlen(value);

	assert(n < 127 && v < 127);
	*to++ = 0; /* literal, not indexed (RFC 7541 section 6.2.2) */
	*to++ = (uint8_t)n;
	memcpy(to, name, n);
	to[n] = (uint8_t)v;
	memcpy(to + n + 1, value, v);
	return n + v + 3;
}

static inline void raw_connect(struct raw *r, uint32_t id, const char *authority)
{
	uint8_t block[300];
	size_t len = raw_field(block, ":method", "CONNECT");

	if (authority)
		len += raw_field(block + len, ":authority", authority);
	raw_frame(r, F_HEADERS, END_HEADERS, id, block, len);
}

static inline void raw_update(struct raw *r, uint32_t id, uint32_t by)
{
	uint8_t payload[4];

	put32(payload, by);
	raw_frame(r, F_WINDOW_UPDATE, 0, id, payload, 4);
}

static inline void raw_rst(struct raw *r, uint32_t id, uint32_t code)
{
	uint8_t payload[4];

	put32(payload, code);
	raw_frame(r, F_RST_STREAM, 0, id, payload, 4);
}

static inline void raw_take(struct scene *s, struct raw *r, struct pair_end *end, bool victim_is_client)
{
	memset(r, 0, sizeof(*r));
	r->end = end;
	r->client_magic = victim_is_client;
	end->s.owner = r;
	end->s.ready = raw_ready;
	end->capacity = 64 << 20;
	end->other->capacity = 64 << 20;
}

/* A client by hand toward our server; has said hello. */
static inline void raw_client(struct scene *s, struct raw *r, const struct hbone_limits *l)
{
	struct pair_end *ends[2];

	scene_thread(s);
	pair_make(&s->thread, ends, 1 << 20, 0, 1);
	raw_take(s, r, ends[0], false);
	s->server.end = ends[1];
	s->server.answer = 200;
	s->server.h = hbone_server(&s->thread, &ends[1]->s, l, &side_events, &s->server);
	raw_bytes(r, PREFACE, sizeof(PREFACE) - 1);
	raw_frame(r, F_SETTINGS, 0, 0, NULL, 0);
	raw_frame(r, F_SETTINGS, ACK, 0, NULL, 0);
}

/* A server by hand toward our client. */
static inline void raw_server(struct scene *s, struct raw *r, const struct hbone_limits *l)
{
	struct pair_end *ends[2];

	scene_thread(s);
	pair_make(&s->thread, ends, 1 << 20, 0, 1);
	raw_take(s, r, ends[0], true);
	s->client.end = ends[1];
	s->client.h = hbone_client(&s->thread, &ends[1]->s, l, &side_events, &s->client);
	raw_frame(r, F_SETTINGS, 0, 0, NULL, 0);
	raw_frame(r, F_SETTINGS, ACK, 0, NULL, 0);
}

/* 200 to stream `id`: index 8 of HPACK's static table. */
static inline void raw_accept(struct raw *r, uint32_t id)
{
	raw_frame(r, F_HEADERS, END_HEADERS, id, "\x88", 1);
}

static inline void raw_end(struct scene *s, struct raw *r)
{
	stream_close(&r->end->s, NULL);
	scene_end(s);
	free(r->in);
}

#endif
