/* SPDX-License-Identifier: Apache-2.0 */
/* messages.h: owners of HTTP exchanges, on either end: what was asked, answered and said is kept as text. */
#ifndef WEFT_TEST_MESSAGES_H
#define WEFT_TEST_MESSAGES_H

#include "http.h"
#include "tunnels.h"

#define TALKS 1024

struct party;

struct talk { /* one exchange */
	struct party *party;
	struct http_exchange *x;
	char head[4096];     /* the last that came */
	char trailers[1024]; /* the same */
	unsigned heads;	     /* answers, 1xx too */
	unsigned status;
	enum http_body body;
	uint64_t send, sent, got, seed;
	struct text text; /* what came, if `keeps` */
	bool keeps, sleeping, finish, echo;
	const struct http_field *trail; /* to be sent before the end */
	unsigned trails;
	bool ended, failed, closed, unprocessed;
	uint32_t error;
	const char *why;
};

struct party {
	struct http_connection *c;
	struct pair_end *end;
	struct talk *talk; /* TALKS of them, in turn */
	unsigned talks;
	void (*serve)(struct talk *t, const struct http_head *h);
	unsigned draining, closed, free, refused, settled;
	int refused_status;
	const char *why, *refused_why;
};

struct meeting {
	struct scene s; /* its thread and turns */
	struct party client, server;
};

static inline void head_text(char *to, size_t size, const struct http_head *h)
{
	struct text t = {0};
	unsigned i;

	if (h->method_text.len)
		text_add(&t, "%.*s %.*s %.*s %.*s%s%.*s\n", (int)h->method_text.len, h->method_text.at,
			 (int)h->scheme.len, h->scheme.at, (int)h->authority.len, h->authority.at, (int)h->path.len,
			 h->path.at, h->upgrade.len ? " " : "", (int)h->upgrade.len, h->upgrade.at);
	else if (h->status)
		text_add(&t, "%u\n", h->status);
	if (h->has_length)
		text_add(&t, "(%llu)\n", (unsigned long long)h->length);
	if (h->trailers)
		text_add(&t, "(te)\n");
	for (i = 0; i < h->fields; i++) {
		const struct http_field *f = &h->field[i];

		assert(f->id == http_name(f->name.at, f->name.len));
		text_add(&t, "%.*s: %.*s%s\n", (int)f->name.len, f->name.at, (int)f->value.len, f->value.at,
			 f->secret ? " (secret)" : "");
	}
	text_copy(to, size, t.data ? t.data : "");
	text_free(&t);
}

static void talk_close(struct talk *t, const char *why)
{
	struct http_exchange *x = t->x;

	t->x = NULL;
	t->closed = true;
	stream_close(&x->s, why);
}

static void talk_send(struct talk *t)
{
	static uint8_t memory[64 + 65536];

	while (t->x && t->sent < t->send) {
		size_t room = stream_room(&t->x->s), most = sizeof(memory) - 64, i, took;
		struct stream_bytes run = {.data = memory + 64, .headroom = 64};

		if (!room)
			return;
		most = room < most ? room : most;
		if (most > t->send - t->sent)
			most = (size_t)(t->send - t->sent);
		for (i = 0; i < most; i++)
			memory[64 + i] = app_byte(t->seed, t->sent + i);
		run.len = most;
		took = stream_write(&t->x->s, &run, 1);
		t->sent += took;
		if (took < most)
			return;
	}
	if (t->x && t->finish && !t->x->s.finished) {
		if (t->trails)
			http_trailers(t->x, t->trail, t->trails);
		stream_finish(&t->x->s);
	}
}

static void talk_read(struct talk *t)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned i, n;

	while (t->x && !t->sleeping) {
		size_t most = t->echo ? stream_room(&t->x->s) : SIZE_MAX, all = 0;

		if (!most)
			return;
		n = stream_peek(&t->x->s, run, most);
		if (!n)
			break;
		for (i = 0; i < n; i++) {
			all += run[i].len;
			if (t->keeps)
				text_add_bytes(&t->text, run[i].data, run[i].len);
		}
		if (t->echo)
			all = stream_write(&t->x->s, run, n);
		stream_consume(&t->x->s, all);
		t->got += all;
	}
	if (!t->x || !t->x->s.ended || t->ended)
		return;
	t->ended = true;
	if (t->x->trailers)
		head_text(t->trailers, sizeof(t->trailers), t->x->trailers);
	if (t->echo) {
		if (t->x->trailers)
			http_trailers(t->x, t->x->trailers->field, t->x->trailers->fields);
		stream_finish(&t->x->s);
	}
}

static void talk_ready(struct stream *s, unsigned events)
{
	struct talk *t = s->owner;

	assert(&t->x->s == s);
	if (events & STREAM_FAILED) {
		t->failed = true;
		t->why = s->why;
		t->error = t->x->error;
		t->unprocessed = t->x->unprocessed;
		talk_close(t, s->why);
		return;
	}
	if (events & STREAM_READABLE)
		talk_read(t);
	if (t->x && (events & STREAM_WRITABLE)) {
		if (t->echo)
			talk_read(t);
		else
			talk_send(t);
	}
}

static struct talk *talk_take(struct party *p, struct http_exchange *x)
{
	struct talk *t = &p->talk[p->talks++ % TALKS];

	text_free(&t->text);
	*t = (struct talk){.party = p, .x = x, .seed = p->talks};
	x->s.owner = t;
	x->s.ready = talk_ready;
	return t;
}

static void on_http_request(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	struct party *p = c->owner;
	struct talk *t;

	assert(x->connection == c && x->head_came && !x->head_sent);
	t = talk_take(p, x);
	t->body = h->body;
	head_text(t->head, sizeof(t->head), h);
	p->serve(t, h);
}

static void on_http_answer(struct http_exchange *x, const struct http_head *h)
{
	struct talk *t = x->s.owner;

	t->heads++;
	t->status = h->status;
	t->body = h->body;
	head_text(t->head, sizeof(t->head), h);
}

static void on_http_free(struct http_connection *c)
{
	assert(http_free(c));
	((struct party *)c->owner)->free++;
}

static void on_http_refused(struct http_connection *c, int status, const char *why)
{
	struct party *p = c->owner;

	p->refused++;
	p->refused_status = status;
	p->refused_why = why;
}

static void on_http_settled(struct http_connection *c)
{
	assert(c->settled);
	((struct party *)c->owner)->settled++;
}

static void on_http_draining(struct http_connection *c)
{
	((struct party *)c->owner)->draining++;
}

static void on_http_closed(struct http_connection *c, const char *why)
{
	struct party *p = c->owner;

	p->closed++;
	p->why = why;
	p->c = NULL;
}

static const struct http_events party_events = {
	.request = on_http_request,
	.answer = on_http_answer,
	.free = on_http_free,
	.refused = on_http_refused,
	.settled = on_http_settled,
	.draining = on_http_draining,
	.closed = on_http_closed,
};

/* "/echo" gives back, "/wait" says nothing yet, all others say hello. */
static void serve_all(struct talk *t, const struct http_head *h)
{
	struct http_head answer = {.status = 200};
	struct stream_bytes run = {.data = (uint8_t *)"hello", .len = 5};
	bool head = h->method == HTTP_HEAD;

	t->keeps = true;
	if (http_text_equal(h->path, HTTP_TEXT("/wait")))
		return;
	if (http_text_equal(h->path, HTTP_TEXT("/echo"))) {
		t->keeps = false;
		t->echo = true;
		answer.body = HTTP_STREAM;
		http_answer(t->x, &answer);
		return;
	}
	answer.body = head ? HTTP_NO_BODY : HTTP_LENGTH;
	answer.has_length = true;
	answer.length = 5;
	http_answer(t->x, &answer);
	if (!head) {
		assert(stream_room(&t->x->s) >= 5);
		assert(stream_write(&t->x->s, &run, 1) == 5);
		stream_finish(&t->x->s);
	}
}

static inline struct http_head ask_head(const char *path)
{
	return (struct http_head){
		.method = HTTP_GET,
		.method_text = HTTP_TEXT("GET"),
		.scheme = HTTP_TEXT("http"),
		.authority = HTTP_TEXT("a.example"),
		.path = {path, strlen(path)},
	};
}

static inline struct talk *meeting_ask(struct meeting *m, const struct http_head *h, bool end)
{
	struct http_exchange *x = http_request(m->client.c, h, end);

	return x ? talk_take(&m->client, x) : NULL;
}

static inline void meeting_thread(struct meeting *m)
{
	struct talk *keep[2] = {m->client.talk, m->server.talk};
	int i;

	memset(m, 0, sizeof(*m));
	scene_thread(&m->s);
	for (i = 0; i < 2; i++)
		if (!keep[i])
			keep[i] = mem_alloc(TALKS * sizeof(struct talk));
	m->client.talk = keep[0];
	m->server.talk = keep[1];
	memset(keep[0], 0, TALKS * sizeof(struct talk));
	memset(keep[1], 0, TALKS * sizeof(struct talk));
	m->server.serve = serve_all;
}

static inline void party_end(struct party *p)
{
	unsigned i;

	if (p->c)
		p->c->ops->close(p->c, NULL);
	for (i = 0; i < TALKS; i++) {
		if (p->talk[i].x)
			talk_close(&p->talk[i], NULL);
		text_free(&p->talk[i].text);
	}
}

static inline void meeting_end(struct meeting *m)
{
	party_end(&m->client);
	party_end(&m->server);
	scene_end(&m->s);
}

#endif
