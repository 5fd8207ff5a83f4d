/* SPDX-License-Identifier: Apache-2.0 */
/*
 * origin: a server that stands on weft's codec alone, for tests and measurements: h2c, with prior knowledge.
 *
 *	origin PORT	on 127.0.0.1; 0: any. Says "PORT" on a line when it serves; ends by SIGTERM.
 *
 *	/echo		the body and its trailers come back
 *	/bytes/N	N bytes, with Content-Length;  /stream/N: without it, and with a trailer
 *	/status/N	that status, no body
 *	/head		the head as it was read, as text
 *	/early		answered before the body was read, and closed
 *	others		"hello, world\n"
 *	CONNECT and extended CONNECT: what comes goes back
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"

struct reply {
	struct http_exchange *x;
	uint64_t left; /* of the pattern */
	struct text text; /* before that */
	size_t at;
	bool echo, trailer;
};

static struct thread *thread;
static struct loop_watch listener, ended;
static uint8_t pattern[64 + 65536];

static void reply_close(struct reply *r, const char *why)
{
	stream_close(&r->x->s, why);
	text_free(&r->text);
	free(r);
}

static bool send_text(struct reply *r)
{
	while (r->at < r->text.len) {
		size_t room = stream_room(&r->x->s);
		struct stream_bytes run = {.data = (uint8_t *)r->text.data + r->at, .len = r->text.len - r->at};

		if (!room)
			return false;
		run.len = run.len < room ? run.len : room;
		r->at += stream_write(&r->x->s, &run, 1);
	}
	return true;
}

static bool send_pattern(struct reply *r)
{
	while (r->left) {
		size_t room = stream_room(&r->x->s), n = sizeof(pattern) - 64;
		struct stream_bytes run = {.data = pattern + 64, .headroom = 64};

		if (!room)
			return false;
		n = n < room ? n : room;
		run.len = n < r->left ? n : (size_t)r->left;
		r->left -= stream_write(&r->x->s, &run, 1);
	}
	return true;
}

static void echo(struct reply *r)
{
	struct stream_bytes run[STREAM_RUNS];
	size_t room;
	unsigned n;

	while ((room = stream_room(&r->x->s)) && (n = stream_peek(&r->x->s, run, room)))
		stream_consume(&r->x->s, stream_write(&r->x->s, run, n));
	if (!r->x->s.ended || r->x->s.finished)
		return;
	if (r->x->trailers)
		http_trailers(r->x, r->x->trailers->field, r->x->trailers->fields);
	stream_finish(&r->x->s);
}

static void swallow(struct reply *r)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned i, n;

	while ((n = stream_peek(&r->x->s, run, SIZE_MAX))) {
		size_t all = 0;

		for (i = 0; i < n; i++)
			all += run[i].len;
		stream_consume(&r->x->s, all);
	}
}

static void go_on(struct reply *r)
{
	static const struct http_field done = {HTTP_TEXT("x-done"), HTTP_TEXT("yes"), HTTP_NAME_OTHER, false};

	if (r->echo) {
		echo(r);
	} else {
		swallow(r);
		if (!r->x->s.finished && send_text(r) && send_pattern(r)) {
			if (r->trailer)
				http_trailers(r->x, &done, 1);
			stream_finish(&r->x->s);
		}
	}
	if (r->x->s.ended && r->x->s.finished)
		reply_close(r, NULL);
}

static void reply_ready(struct stream *s, unsigned events)
{
	struct reply *r = s->owner;

	if (events & STREAM_FAILED)
		reply_close(r, s->why);
	else
		go_on(r);
}

static void add_head(struct text *t, const struct http_head *h)
{
	unsigned i;

	text_add(t, "%.*s %.*s://%.*s%.*s\n", (int)h->method_text.len, h->method_text.at, (int)h->scheme.len,
		 h->scheme.at, (int)h->authority.len, h->authority.at, (int)h->path.len, h->path.at);
	for (i = 0; i < h->fields; i++)
		text_add(t, "%.*s: %.*s\n", (int)h->field[i].name.len, h->field[i].name.at,
			 (int)h->field[i].value.len, h->field[i].value.at);
}

/* The number behind `prefix`; false: the path is another. */
static bool numbered(struct http_text path, const char *prefix, uint64_t *ret)
{
	size_t n = strlen(prefix), i;

	if (path.len <= n || path.len > n + 12 || memcmp(path.at, prefix, n) != 0)
		return false;
	for (*ret = 0, i = n; i < path.len && path.at[i] >= '0' && path.at[i] <= '9'; i++)
		*ret = *ret * 10 + (uint64_t)(path.at[i] - '0');
	return i == path.len;
}

static void on_request(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	struct http_head answer = {.status = 200, .body = HTTP_LENGTH, .has_length = true};
	struct reply *r = mem_alloc(sizeof(*r));
	uint64_t n;

	r->x = x;
	x->s.owner = r;
	x->s.ready = reply_ready;
	if (h->body == HTTP_TUNNEL) {
		r->echo = true;
		answer = (struct http_head){.status = h->upgrade.len ? 101 : 200, .body = HTTP_TUNNEL};
	} else if (http_text_equal(h->path, HTTP_TEXT("/echo"))) {
		r->echo = true;
		answer = (struct http_head){.status = 200, .body = HTTP_STREAM};
	} else if (numbered(h->path, "/bytes/", &n)) {
		r->left = n;
	} else if (numbered(h->path, "/stream/", &n)) {
		r->left = n;
		r->trailer = true;
		answer = (struct http_head){.status = 200, .body = HTTP_STREAM};
	} else if (numbered(h->path, "/status/", &n)) {
		answer = (struct http_head){.status = n >= 200 && n < 600 ? (uint16_t)n : 400};
	} else if (http_text_equal(h->path, HTTP_TEXT("/head"))) {
		add_head(&r->text, h);
	} else {
		text_add(&r->text, "hello, world\n");
	}
	if (h->method == HTTP_HEAD)
		answer.body = HTTP_NO_BODY;
	answer.length = r->left + r->text.len;
	http_answer(x, &answer);
	if (http_text_equal(h->path, HTTP_TEXT("/early")) && send_text(r)) {
		stream_finish(&x->s);
		reply_close(r, NULL);
	}
}

static void on_nothing(struct http_connection *c)
{
}

static void on_refused(struct http_connection *c, int status, const char *why)
{
	log_debug("refused status=%d why=%s", status, why);
}

static void on_closed(struct http_connection *c, const char *why)
{
	log_debug("closed why=%s", why ? why : "in order");
}

static const struct http_events events = {
	.request = on_request,
	.free = on_nothing,
	.refused = on_refused,
	.draining = on_nothing,
	.closed = on_closed,
};

static void on_listener(struct loop_watch *w, uint32_t what)
{
	struct abi_addr from;
	uint16_t port;
	int fd, left = 64;

	while (left-- && (fd = sock_accept(w->fd, &from, &port)) >= 0) {
		sock_prepare(fd);
		if (!http2_server(thread, sock_prepared(thread, fd), NULL, &events, NULL))
			abort();
	}
}

static void on_end(struct loop_watch *w, uint32_t what)
{
	loop_stop(thread->loop);
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(at);
	struct loop *loop = loop_new();
	long long port;
	sigset_t ends;
	int one = 1;

	log_open("origin", false, getenv("ORIGIN_DEBUG") ? LOG_DEBUG : LOG_INFO);
	if (argc != 2 || text_number(argv[1], 0, 65535, &port)) {
		log_error("usage: origin PORT");
		return 2;
	}
	thread = thread_control(loop);
	at.sin_port = htons((uint16_t)port);
	listener = (struct loop_watch){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
				       .events = EPOLLIN, .ready = on_listener};
	setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (listener.fd < 0 || bind(listener.fd, (struct sockaddr *)&at, size) < 0 || listen(listener.fd, 4096) < 0 ||
	    getsockname(listener.fd, (struct sockaddr *)&at, &size) < 0 || loop_watch(loop, &listener) < 0) {
		log_error("port %lld: %m", port);
		return 1;
	}
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	ended = (struct loop_watch){.fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK), .events = EPOLLIN,
				    .ready = on_end};
	if (ended.fd < 0 || loop_watch(loop, &ended) < 0)
		return 1;
	printf("%u\n", ntohs(at.sin_port));
	fflush(stdout);
	return loop_run(loop) < 0;
}
