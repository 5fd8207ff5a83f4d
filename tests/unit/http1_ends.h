/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_ends.h: a connection of ours over a stream in memory whose other end is bytes that a test says and hears, and
 * an owner of exchanges who reads, writes and takes notes.
 */
#ifndef WEFT_TEST_HTTP1_ENDS_H
#define WEFT_TEST_HTTP1_ENDS_H

#include "http.h"
#include "pair.h"

#ifndef ENDS_TEXT
#define ENDS_TEXT (4u << 20)
#endif

enum ends_mode {
	ENDS_HELLO, /* answers "hello" at once */
	ENDS_ECHO,  /* answers with the request's body, as it comes */
	ENDS_HOLD,  /* the test answers */
};

struct ends_app {
	struct http_exchange *x;
	char *got;
	size_t got_len;
	bool ended, failed, closed;
	const char *why;
};

struct ends {
	struct loop *loop;
	struct thread *thread;
	struct pair_end *pair[2]; /* ours, the test's; NULL: closed */
	struct http_connection *c;
	enum ends_mode mode;
	struct ends_app app;
	unsigned requests, answers, frees, drainings, refusals, rests;
	struct stream *left; /* by http1_leave() */
	bool leaves;	     /* at the next rest */
	int refused;
	const char *refused_why, *why;
	bool over, peer_reset, peer_ended;
	char *heard; /* NUL-terminated */
	size_t heard_len;
	char *notes; /* a line for each head */
	size_t notes_len;
	struct http_head *head; /* of the last; in `arena` */
	struct arena arena;
	size_t read_most; /* of one peek; 0: all */
	bool lazy;	  /* bodies are read only by the test */
	const uint8_t *send; /* of a body of our own: as much as is taken; then the end */
	size_t send_left;
	uint64_t random;
	uint64_t sum;	  /* of all bodies and their ends, whatever the pieces */
	bool finish_late; /* ENDS_HELLO: the test finishes */
	bool unread;	  /* ENDS_HELLO: the answer is all that the owner has to say */
};

static struct ends *ends_now; /* events of a connection have only one */

static void ends_pump(struct ends *s);

static inline void ends_note(struct ends *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline void ends_note(struct ends *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	s->notes_len += (size_t)vsnprintf(s->notes + s->notes_len, ENDS_TEXT - s->notes_len, fmt, ap);
	va_end(ap);
	assert(s->notes_len < ENDS_TEXT);
}

#define ENDS_T(t) (int)(t).len, (t).at

static inline void ends_note_head(struct ends *s, const struct http_head *h)
{
	static const char *const body[] = {"none", "length", "stream", "tunnel"};
	unsigned i;

	if (h->status)
		ends_note(s, "%u %.*s", h->status, ENDS_T(h->reason));
	else
		ends_note(s, "%.*s %.*s %.*s%s %.*s", ENDS_T(h->method_text), ENDS_T(h->scheme), ENDS_T(h->authority),
			  h->version == HTTP_1_0 ? " 1.0" : "", ENDS_T(h->path));
	ends_note(s, " %s", body[h->body]);
	if (h->has_length)
		ends_note(s, " %llu", (unsigned long long)h->length);
	if (h->upgrade.len)
		ends_note(s, " upgrade=%.*s", ENDS_T(h->upgrade));
	if (h->expect)
		ends_note(s, " expect");
	for (i = 0; i < h->fields; i++)
		ends_note(s, " [%.*s=%.*s]", ENDS_T(h->field[i].name), ENDS_T(h->field[i].value));
	ends_note(s, "\n");
	s->head = http_head_keep(&s->arena, h, 0);
}

static inline void ends_close(struct ends *s, const char *why)
{
	stream_close(&s->app.x->s, why);
	s->app.x = NULL;
	s->app.closed = true;
}

static inline void ends_write(struct ends *s, const char *data)
{
	struct stream_bytes b = {.data = (uint8_t *)data, .len = strlen(data)};
	size_t n = stream_write(&s->app.x->s, &b, 1);

	assert(n == b.len);
}

static inline void ends_answer(struct ends *s, unsigned status, enum http_body body, uint64_t length)
{
	http_answer(s->app.x, &(struct http_head){
				      .status = (uint16_t)status,
				      .body = body,
				      .has_length = body == HTTP_LENGTH,
				      .length = length,
			      });
}

static inline void ends_send(struct ends *s)
{
	struct stream *b = &s->app.x->s;

	while (s->send_left) {
		size_t cut = 1 + pair_random(&s->random) % 9000, len = cut < s->send_left ? cut : s->send_left;
		size_t half = len / 2, took;
		struct stream_bytes run[] = {{(uint8_t *)s->send, half, 0}, {(uint8_t *)s->send + half, len - half, 0}};

		took = stream_write(b, run, 2);
		s->send += took;
		s->send_left -= took;
		if (took < len)
			return;
		if (!s->send_left)
			stream_finish(b);
	}
}

/* Reads, echoes, finishes, and closes when both sides have ended. */
static void ends_pump(struct ends *s)
{
	struct stream_bytes run[STREAM_RUNS];
	struct ends_app *a = &s->app;
	unsigned n, i;

	if (a->x && s->send_left)
		ends_send(s);

	while (a->x && !s->lazy) {
		struct stream *b = &a->x->s;
		bool echo = s->mode == ENDS_ECHO && s->c->server;
		size_t most = s->read_most ? s->read_most : SIZE_MAX, all = 0, took;

		if (echo && !(took = stream_room(b)))
			break;
		n = stream_peek(b, run, most);
		if (!n)
			break;
		for (i = 0; i < n; i++) {
			memcpy(a->got + a->got_len + all, run[i].data, run[i].len);
			all += run[i].len;
			assert(a->got_len + all < ENDS_TEXT);
		}
		took = echo ? stream_write(b, run, n) : all;
		stream_consume(b, took);
		for (all = 0; all < took; all++)
			s->sum = (s->sum ^ (uint8_t)a->got[a->got_len + all]) * 0x100000001b3ull;
		a->got_len += took;
	}
	a->got[a->got_len] = 0;
	if (!a->x || !a->x->s.ended)
		return;
	if (!a->ended && a->x->trailers)
		for (i = 0; i < a->x->trailers->fields; i++)
			ends_note(s, "trailer [%.*s=%.*s]\n", ENDS_T(a->x->trailers->field[i].name),
				  ENDS_T(a->x->trailers->field[i].value));
	if (!a->ended)
		s->sum = (s->sum ^ 256) * 0x100000001b3ull;
	a->ended = true;
	if (s->mode == ENDS_ECHO && s->c->server && !a->x->s.finished)
		stream_finish(&a->x->s);
	if (a->x->s.finished && !s->lazy)
		ends_close(s, NULL);
}

static void ends_ready(struct stream *b, unsigned events)
{
	struct ends *s = b->owner;

	assert(!s->app.failed && s->app.x && b == &s->app.x->s);
	if (events & STREAM_FAILED) {
		s->app.failed = true;
		s->app.why = b->why;
		assert(b->why);
		return;
	}
	ends_pump(s);
}

static inline void ends_take(struct ends *s, struct http_exchange *x)
{
	char *got = s->app.got;

	got[0] = 0;
	s->app = (struct ends_app){.x = x, .got = got};
	x->s.owner = s;
	x->s.ready = ends_ready;
}

static void ends_request(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	struct ends *s = c->owner;

	assert(!s->app.x && x->head_came && !x->head_sent);
	s->requests++;
	ends_note_head(s, h);
	ends_take(s, x);
	x->unread = s->unread;
	if (s->mode == ENDS_HOLD)
		return;
	if (s->mode == ENDS_ECHO) {
		ends_answer(s, 200, HTTP_STREAM, 0);
	} else {
		ends_answer(s, 200, HTTP_LENGTH, 5);
		if (!s->finish_late) {
			ends_write(s, "hello");
			stream_finish(&x->s);
		}
	}
	ends_pump(s);
}

static void ends_got_answer(struct http_exchange *x, const struct http_head *h)
{
	struct ends *s = x->connection->owner;

	assert(x == s->app.x);
	s->answers++;
	ends_note_head(s, h);
	if (h->status >= 200 || h->status == 101)
		ends_pump(s);
}

static void ends_free_again(struct http_connection *c)
{
	struct ends *s = c->owner;

	s->frees++;
	assert(http_free(c) == 1);
}

static void ends_refused(struct http_connection *c, int status, const char *why)
{
	struct ends *s = c->owner;

	s->refusals++;
	s->refused = status;
	s->refused_why = why;
}

static void ends_rests(struct http_connection *c)
{
	struct ends *s = c->owner;

	s->rests++;
	if (!s->leaves)
		return;
	s->left = http1_leave(c);
	s->leaves = false;
	s->c = NULL;
}

static void ends_draining(struct http_connection *c)
{
	struct ends *s = c->owner;

	s->drainings++;
}

static void ends_closed(struct http_connection *c, const char *why)
{
	struct ends *s = c->owner;

	assert(!s->over);
	s->over = true;
	s->why = why;
	s->pair[0] = NULL;
}

static const struct http_events ends_events = {
	.request = ends_request,
	.answer = ends_got_answer,
	.free = ends_free_again,
	.refused = ends_refused,
	.rests = ends_rests,
	.draining = ends_draining,
	.closed = ends_closed,
};

/* ------------------------------------------------------------------ the test's end */

static void ends_hear(struct stream *b, unsigned events)
{
	struct ends *s = b->owner;
	struct stream_bytes run[STREAM_RUNS];
	unsigned n, i;

	s->peer_reset |= !!(events & STREAM_FAILED);
	while (!s->peer_reset && (n = stream_peek(b, run, SIZE_MAX))) {
		size_t all = 0;

		for (i = 0; i < n; i++) {
			assert(s->heard_len + all + run[i].len < ENDS_TEXT);
			memcpy(s->heard + s->heard_len + all, run[i].data, run[i].len);
			all += run[i].len;
		}
		stream_consume(b, all);
		s->heard_len += all;
	}
	s->heard[s->heard_len] = 0;
	s->peer_ended |= b->ended;
}

static void ends_stop(struct loop_timer *t)
{
	loop_stop(ends_now->loop);
}

static inline void ends_turn(struct ends *s)
{
	struct loop_timer end = {.due = ends_stop};
	int r;

	ends_now = s;
	loop_arm(s->loop, &end, 0);
	r = loop_run(s->loop);
	assert(!r);
	(void)r;
}

static inline void ends_turns(struct ends *s)
{
	unsigned i;

	for (i = 0; i < 6; i++)
		ends_turn(s);
}

/* All of it, in pieces of `step` bytes with a turn after each; 0: at once. */
static inline void ends_say_bytes(struct ends *s, const void *data, size_t len, size_t step)
{
	const uint8_t *at = data;
	unsigned stuck = 0;

	while (len && !s->peer_reset && stuck < 20) {
		struct stream_bytes b = {.data = (uint8_t *)at, .len = step && step < len ? step : len};
		size_t n = stream_write(&s->pair[1]->s, &b, 1);

		stuck = n ? 0 : stuck + 1;
		at += n;
		len -= n;
		ends_turn(s);
	}
	ends_turns(s);
}

static inline void ends_say(struct ends *s, const char *text)
{
	ends_say_bytes(s, text, strlen(text), 0);
}

static inline void ends_start(struct ends *s, bool server, enum ends_mode mode, const struct http_limits *l)
{
	char *keep[3] = {malloc(ENDS_TEXT), malloc(ENDS_TEXT), malloc(ENDS_TEXT)};

	*s = (struct ends){.mode = mode, .heard = keep[0], .notes = keep[1], .app = {.got = keep[2]}};
	s->heard[0] = s->notes[0] = s->app.got[0] = 0;
	s->loop = loop_new();
	s->thread = thread_control(s->loop);
	pair_make(s->thread, s->pair, 8 << 20, 0, 1);
	s->pair[1]->s.owner = s;
	s->pair[1]->s.ready = ends_hear;
	s->c = (server ? http1_server : http1_client)(s->thread, &s->pair[0]->s, l, &ends_events, s);
	ends_turns(s);
}

/* A server behind the other end of a client's transport. */
static inline void ends_join(struct ends *s, struct ends *client, enum ends_mode mode)
{
	char *keep[3] = {malloc(ENDS_TEXT), malloc(ENDS_TEXT), malloc(ENDS_TEXT)};

	*s = (struct ends){.mode = mode, .heard = keep[0], .notes = keep[1], .app = {.got = keep[2]}};
	s->notes[0] = s->app.got[0] = 0;
	s->loop = client->loop;
	s->thread = client->thread;
	s->c = http1_server(s->thread, &client->pair[1]->s, NULL, &ends_events, s);
	client->pair[1] = NULL;
}

static inline void ends_drop(struct ends *s)
{
	if (s->app.x)
		ends_close(s, NULL);
	arena_free(&s->arena);
	free(s->heard);
	free(s->notes);
	free(s->app.got);
}

static inline void ends_end(struct ends *s)
{
	if (!s->over) {
		s->c->ops->close(s->c, "the test is over");
		ends_turns(s);
	}
	assert(s->over);
	if (s->app.x)
		ends_close(s, NULL);
	if (s->pair[1])
		stream_close(&s->pair[1]->s, NULL);
	ends_turns(s);
	thread_control_end(s->thread); /* asserts that no chunk is lent */
	loop_free(s->loop);
	ends_drop(s);
}

static inline struct http_exchange *ends_ask(struct ends *s, struct http_head *h, bool end)
{
	struct http_exchange *x;

	if (!h->method_text.len)
		h->method_text = HTTP_TEXT("GET");
	if (!h->authority.at)
		h->authority = HTTP_TEXT("a");
	if (!h->path.len && h->method != HTTP_CONNECT)
		h->path = HTTP_TEXT("/");
	x = http_request(s->c, h, end);
	if (x)
		ends_take(s, x);
	return x;
}

#endif
