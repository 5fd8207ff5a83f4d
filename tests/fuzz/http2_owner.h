/* SPDX-License-Identifier: Apache-2.0 */
/* http2_owner.h: owners of HTTP/2 exchanges: what both fuzzers of HTTP/2 share; owners.h has the input's form. */
#ifndef WEFT_FUZZ_HTTP2_OWNER_H
#define WEFT_FUZZ_HTTP2_OWNER_H

#include "http.h"
#include "owners.h"

static struct http_connection *connection;

static struct http_exchange *exchange(struct stream *s)
{
	return container_of(s, struct http_exchange, s);
}

static void let_go(unsigned i, const char *why)
{
	struct http_exchange *x = exchange(owned[i]);

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
	bool came = read_any(&x->s);

	must(!came || x->head_came);
	if (x->s.ended && x->trailers)
		check_fields(x->trailers);
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
	struct http_exchange *x = exchange(owned[i]);

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
		if (!x->s.finished)
			write_any(&x->s);
		break;
	default:
		break;
	}
}

static void take(struct http_exchange *x)
{
	unsigned i = own(&x->s);

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
	take(x);
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
		take(x);
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
	uint8_t how = data[0];
	struct stream *s = meet(&data, &len, how, client);
	unsigned i;

	connection = (client ? http2_client : http2_server)(&scene.thread, s, &limit, &events, NULL);
	if (how & HELLO) {
		hello(client, "\0\x08\0\0\0\1", client ? 6 : 0); /* extended CONNECT */
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
	let_all_go();
	if (connection)
		connection->ops->close(connection, NULL);
	raw_end(&scene, &raw);
	must(closed == 1);
}

#endif
