/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tunnels.h: two HTTP/2 ends in memory, and apps on both ends of their tunnels that send bytes which can be checked
 * by their place alone.
 */
#ifndef WEFT_TEST_TUNNELS_H
#define WEFT_TEST_TUNNELS_H

#include "hbone.h"
#include "pair.h"

#define APPS 512

struct app { /* one end of one tunnel */
	struct stream *s;
	uint64_t seed; /* of what it sends; the other one's is ~seed */
	uint64_t send, sent, got;
	size_t piece;  /* largest write */
	bool sleeping; /* reads nothing */
	bool finish;   /* when all is sent */
	bool opened, ended, failed, closed;
	bool last; /* bytes came of which it was known that they are the last */
	unsigned drained;
	const char *why;
	uint64_t random;
	char authority[64], baggage[128];
};

struct side {
	struct hbone *h;
	struct pair_end *end;
	struct app app[APPS];
	unsigned apps;
	struct hbone_request ask; /* the last one: texts below */
	char text[4][HBONE_HEADER + 1];
	unsigned asked, draining, closed, settled;
	int answer; /* of asked(): 200, another status, 0: later */
	uint64_t send;
	bool finish, sleeping;
	const char *why;
};

struct scene {
	struct thread thread;
	struct side client, server;
	struct loop_timer step;
	bool (*until)(struct scene *s);
	uint64_t deadline_ns;
	bool late;
};

static inline uint8_t app_byte(uint64_t seed, uint64_t at)
{
	uint64_t z = (at / 8 + 1) * 0x9e3779b97f4a7c15ull ^ seed;

	z ^= z >> 29;
	z *= 0xbf58476d1ce4e5b9ull;
	return (uint8_t)(z >> (at % 8 * 8));
}

static void app_send(struct app *a)
{
	static uint8_t memory[64 + 128 * 1024];

	while (a->s && a->sent < a->send) {
		struct stream_bytes run[3];
		size_t room = stream_room(a->s), most = 1 + pair_random(&a->random) % a->piece, took, at = 0, i;
		unsigned runs = 1 + pair_random(&a->random) % 3;

		if (!room)
			return;
		if (most > room)
			most = room;
		if (most > a->send - a->sent)
			most = (size_t)(a->send - a->sent);
		if (most > sizeof(memory) - 64)
			most = sizeof(memory) - 64;
		for (i = 0; i < most; i++)
			memory[64 + i] = app_byte(a->seed, a->sent + i);
		for (i = 0; i < runs; i++) {
			size_t n = i + 1 == runs ? most - at : (most - at) / 2;

			run[i] = (struct stream_bytes){.data = memory + 64 + at, .len = n, .headroom = i ? 0 : 64};
			at += n;
		}
		took = stream_write(a->s, run, runs);
		assert(took <= most);
		a->sent += took;
		if (took < most)
			return;
	}
	if (a->s && a->finish && !a->s->finished)
		stream_finish(a->s);
}

static void app_read(struct app *a)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned i, n;

	while (a->s && !a->sleeping && (n = stream_peek(a->s, run, 1 + pair_random(&a->random) % 70000))) {
		bool last = a->s->ends_after;
		size_t all = 0, some;

		for (i = 0; i < n; i++)
			all += run[i].len;
		some = last ? all : 1 + pair_random(&a->random) % all;
		for (i = 0, all = 0; i < n && all < some; i++) {
			size_t at;

			for (at = 0; at < run[i].len && all < some; at++, all++)
				if (run[i].data[at] != app_byte(~a->seed, a->got + all))
					abort();
			memset(run[i].data - (run[i].headroom < 9 ? run[i].headroom : 9), 0xee,
			       run[i].headroom < 9 ? run[i].headroom : 9);
		}
		stream_consume(a->s, some);
		a->got += some;
		a->last |= last;
		assert(!last || a->s->ended);
	}
	if (a->s && a->s->ended && !a->ended)
		a->ended = true;
}

static void app_close(struct app *a, const char *why)
{
	struct stream *s = a->s;

	a->s = NULL;
	a->closed = true;
	stream_close(s, why);
}

static void app_ready(struct stream *s, unsigned events)
{
	struct app *a = s->owner;

	assert(a->s == s);
	if (events & STREAM_FAILED) {
		a->failed = true;
		a->why = s->why;
		app_close(a, s->why);
		return;
	}
	a->drained += !!(events & STREAM_DRAINING);
	if (events & STREAM_OPEN) {
		a->opened = true;
		text_copy(a->baggage, sizeof(a->baggage), hbone_baggage(s));
	}
	if (events & STREAM_READABLE)
		app_read(a);
	if (events & (STREAM_OPEN | STREAM_WRITABLE))
		app_send(a);
}

static struct app *app_take(struct side *side, struct stream *s, uint64_t seed)
{
	struct app *a = &side->app[side->apps++];

	assert(side->apps <= APPS);
	*a = (struct app){.s = s, .seed = seed, .random = seed, .piece = 40000, .finish = side->finish};
	a->send = side->send;
	a->sleeping = side->sleeping;
	s->owner = a;
	s->ready = app_ready;
	return a;
}

static void on_asked(struct hbone *h, struct stream *s, const struct hbone_request *ask)
{
	struct side *side = hbone_owner(h);
	unsigned number = 0;
	struct app *a;

	side->asked++;
	text_copy(side->text[0], sizeof(side->text[0]), ask->authority);
	text_copy(side->text[1], sizeof(side->text[1]), ask->forwarded ? ask->forwarded : "");
	text_copy(side->text[2], sizeof(side->text[2]), ask->baggage ? ask->baggage : "");
	text_copy(side->text[3], sizeof(side->text[3]), ask->traceparent ? ask->traceparent : "");
	if (side->answer && side->answer != 200) {
		hbone_refuse(s, side->answer);
		return;
	}
	sscanf(ask->authority, "10.0.0.1:%u", &number);
	a = app_take(side, s, ~(uint64_t)number);
	if (side->answer) {
		hbone_accept(s, "k8s.namespace.name=there");
		app_send(a);
	}
}

static void on_draining(struct hbone *h)
{
	((struct side *)hbone_owner(h))->draining++;
}

static void on_settled(struct hbone *h)
{
	((struct side *)hbone_owner(h))->settled++;
}

static void on_closed(struct hbone *h, const char *why)
{
	struct side *side = hbone_owner(h);

	assert(side->h == h);
	side->closed++;
	side->why = why;
	side->h = NULL;
}

static const struct hbone_events side_events = {
	.asked = on_asked, .settled = on_settled, .draining = on_draining, .closed = on_closed};

/* Opens tunnel `number`; the first is 1. */
static inline struct app *scene_connect(struct scene *s, unsigned number)
{
	struct hbone_request ask = {
		.baggage = "k8s.namespace.name=here",
		.forwarded = "for=\"10.0.0.2:4711\"",
		.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
	};
	struct app *a = NULL;
	struct stream *t;
	char text[64];

	snprintf(text, sizeof(text), "10.0.0.1:%u", number);
	ask.authority = text;
	t = hbone_connect(s->client.h, &ask);
	if (t)
		a = app_take(&s->client, t, number);
	return a;
}

#define SCENE_FRAME 16394 /* no more than nghttp2 has asked for */

static void scene_step(struct loop_timer *timer)
{
	struct scene *s = container_of(timer, struct scene, step);

	memset(s->thread.scratch[SCRATCH_FRAME], 0xa5, SCENE_FRAME); /* nobody counts on it from turn to turn */
	s->late = clock_ns() > s->deadline_ns;
	if (s->late || s->until(s))
		loop_stop(s->thread.loop);
	else
		loop_arm(s->thread.loop, timer, 0);
}

/* false: it did not become so within a minute. */
static inline bool scene_until(struct scene *s, bool (*until)(struct scene *s))
{
	s->until = until;
	s->deadline_ns = clock_ns() + 60000000000ull;
	s->step.due = scene_step;
	loop_arm(s->thread.loop, &s->step, 0);
	if (loop_run(s->thread.loop) < 0)
		abort();
	return !s->late;
}

static bool ten_turns(struct scene *s)
{
	static unsigned turns;

	return ++turns % 10 == 0;
}

/* Until everybody has said what he had to say; nothing here waits for a clock. */
static inline void scene_turns(struct scene *s)
{
	if (!scene_until(s, ten_turns))
		abort();
}

static inline void scene_thread(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s->thread.loop = loop_new();
	buf_pool_init(&s->thread.pool, 16);
	s->thread.scratch[SCRATCH_FRAME] = mem_alloc(SCENE_FRAME);
}

static inline void scene_start(struct scene *s, size_t capacity, size_t slice, const struct hbone_limits *client,
			       const struct hbone_limits *server)
{
	struct pair_end *ends[2];

	scene_thread(s);
	pair_make(&s->thread, ends, capacity, slice, 1);
	s->client.end = ends[0];
	s->server.end = ends[1];
	s->server.answer = 200;
	s->client.h = hbone_client(&s->thread, &ends[0]->s, client, &side_events, &s->client);
	s->server.h = hbone_server(&s->thread, &ends[1]->s, server, &side_events, &s->server);
}

static inline void side_end(struct side *side)
{
	unsigned i;

	if (side->h)
		hbone_close(side->h, NULL);
	for (i = 0; i < side->apps; i++)
		if (side->app[i].s)
			app_close(&side->app[i], NULL);
}

static inline void scene_end(struct scene *s)
{
	side_end(&s->client);
	side_end(&s->server);
	scene_turns(s);
	buf_pool_free(&s->thread.pool); /* asserts that nothing is lent */
	for (unsigned i = 0; i < SLAB_COUNT; i++)
		slab_end(&s->thread.slab[i], &s->thread.pages);
	pages_free(&s->thread.pages);	/* the same */
	free(s->thread.scratch[SCRATCH_FRAME]);
	loop_free(s->thread.loop);
}

#endif
