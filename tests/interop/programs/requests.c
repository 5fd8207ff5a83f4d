/* SPDX-License-Identifier: Apache-2.0 */
/*
 * requests: what weft's HTTP/1 reads in bytes of a client, for comparison with others' parsers.
 *
 *	requests	reads blocks from stdin, each 4 bytes of length (big endian) and so many bytes: what one client
 *			says before it ends. For each a line: the bodies' lengths of the requests that were complete,
 *			then "refused STATUS" or "end". A request that was begun is not told.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../unit/pair.h"
#include "http.h"

#define BLOCK_MAX (16u << 20)

struct client {
	struct http_connection *http;
	struct pair_end *end[2];
	bool over, deaf;
	int refused;
};

struct asked { /* one request */
	struct client *client;
	struct http_exchange *x;
	uint64_t length;
	bool connect;
};

static struct loop *loop;
static struct thread *thread;

static void leave(struct asked *a, const char *why)
{
	stream_close(&a->x->s, why);
	free(a);
}

static void answer(struct asked *a)
{
	http_answer(a->x, &(const struct http_head){.status = 404, .body = HTTP_LENGTH, .has_length = true});
	stream_finish(&a->x->s);
}

static void look(struct asked *a)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned runs;

	while ((runs = stream_peek(&a->x->s, run, SIZE_MAX))) {
		size_t all = 0;

		for (unsigned i = 0; i < runs; i++)
			all += run[i].len;
		a->length += all;
		stream_consume(&a->x->s, all);
	}
	if (!a->x->s.ended)
		return;
	if (!a->x->s.finished) /* not before all of it was read: else it may end the connection */
		answer(a);
	if (!a->client->deaf)
		printf("%llu ", (unsigned long long)a->length);
	a->client->deaf |= a->connect; /* what follows is no request */
	leave(a, NULL);
}

static void ready(struct stream *s, unsigned events)
{
	struct asked *a = s->owner;

	if (events & STREAM_FAILED)
		leave(a, s->why);
	else
		look(a);
}

static void requested(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	struct asked *a = mem_alloc(sizeof(*a));

	a->client = c->owner;
	a->x = x;
	a->connect = h->method == HTTP_CONNECT;
	x->s.owner = a;
	x->s.ready = ready;
	if (a->connect || h->upgrade.len)
		answer(a); /* no tunnel */
	look(a);
}

static void refused(struct http_connection *c, int status, const char *why)
{
	struct client *client = c->owner;

	client->refused = status ? status : 400;
}

static void draining(struct http_connection *c)
{
}

static void closed(struct http_connection *c, const char *why)
{
	struct client *client = c->owner;

	client->over = true;
}

static const struct http_events events = {
	.request = requested, .refused = refused, .draining = draining, .closed = closed};

/* The client's end: answers go nowhere. */
static void hear(struct stream *s, unsigned happened)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned runs;

	while (!(happened & STREAM_FAILED) && (runs = stream_peek(s, run, SIZE_MAX))) {
		size_t all = 0;

		for (unsigned i = 0; i < runs; i++)
			all += run[i].len;
		stream_consume(s, all);
	}
}

static void stop(struct loop_timer *t)
{
	loop_stop(loop);
}

static void turn(void)
{
	struct loop_timer end = {.due = stop};

	loop_arm(loop, &end, 0);
	if (loop_run(loop))
		abort();
}

static void play(const uint8_t *data, size_t len)
{
	struct client c = {0};
	struct stream_bytes run = {.data = (uint8_t *)data, .len = len};

	pair_make(thread, c.end, BLOCK_MAX, 0, 1);
	c.end[1]->s.ready = hear;
	c.http = http1_server(thread, &c.end[0]->s, NULL, &events, &c);
	if (stream_write(&c.end[1]->s, &run, 1) != len)
		abort();
	stream_finish(&c.end[1]->s);
	hear(&c.end[1]->s, 0);
	for (unsigned quiet = 0; !c.over && quiet < 200; quiet++)
		turn();
	if (c.refused)
		printf("refused %d\n", c.refused);
	else
		puts("end");
	if (!c.over)
		c.http->ops->close(c.http, "the client has gone");
	stream_close(&c.end[1]->s, NULL);
	for (unsigned i = 0; i < 4 || !c.over; i++)
		turn();
}

int main(void)
{
	static uint8_t block[BLOCK_MAX];
	uint32_t size;

	log_open("requests", false, LOG_ERROR);
	loop = loop_new();
	thread = thread_control(loop);
	while (fread(&size, sizeof(size), 1, stdin) == 1) {
		size = ntohl(size);
		if (size > sizeof(block) || fread(block, 1, size, stdin) != size)
			return 1;
		play(block, size);
	}
	thread_control_end(thread);
	loop_free(loop);
	return 0;
}
