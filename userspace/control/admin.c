/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c: see admin.h. A client is READING its line, then WRITING its answer, then gone. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin.h"

#define SILENT_NS 100000000ull /* without a request for so long: gives way when others wait */
#define STUCK_NS 1000000000ull /* the same for one that does not read its answer */
#define FULL_AGAIN_NS 50000000ull
#define PARTS_A_TURN 1 /* some milliseconds: a fast reader must not keep the loop to itself */

struct admin;
struct client {
	struct admin *admin;
	struct loop_watch watch;
	struct loop_timer deadline;
	struct text in, out;
	size_t sent;
	struct answer *answer; /* NULL: still reading */
	uint64_t progress_ns;  /* of the last byte from or to it */
	bool all;	       /* the last part is in `out` */
	struct list link;
};

struct admin {
	struct loop *loop;
	struct loop_watch listener;
	struct loop_timer again; /* no fd was left: try again later */
	admin_ask *ask;
	void *ctx;
	struct list clients; /* who made progress last stands last */
	unsigned count;
};

/* ------------------------------------------------------------------ answers */

struct whole {
	struct answer answer;
	struct text text;
};

static int whole_more(struct answer *a, struct text *to)
{
	struct whole *w = container_of(a, struct whole, answer);

	text_add_bytes(to, w->text.data, w->text.len);
	return 0;
}

static void whole_end(struct answer *a)
{
	struct whole *w = container_of(a, struct whole, answer);

	text_free(&w->text);
	free(w);
}

static int dump(const char *data, size_t len, void *to)
{
	text_add_bytes(to, data, len);
	return 0;
}

static void add(struct text *to, json_t *value)
{
	/* NULL: a text was not UTF-8. Whoever packs uses answer_text, so this is a fault of ours. */
	if (!value ||
	    json_dump_callback(value, dump, to, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY))
		abort();
	json_decref(value);
}

struct answer *answer_json(json_t *value)
{
	struct whole *w = mem_alloc(sizeof(*w));

	w->answer = (struct answer){.more = whole_more, .end = whole_end};
	add(&w->text, value);
	text_add(&w->text, "\n");
	return &w->answer;
}

json_t *answer_text(const char *s)
{
	json_t *ret = json_string(s);
	char *copy, *p;

	if (ret)
		return ret;
	copy = mem_string(s);
	for (p = copy; *p;) {
		size_t n = text_utf8(p);

		if (!n)
			*p = '?';
		p += n ? n : 1;
	}
	ret = json_string(copy);
	free(copy);
	if (!ret)
		abort();
	return ret;
}

struct answer *answer_error(const char *fmt, ...)
{
	struct answer *a;
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vformat(fmt, ap);
	va_end(ap);
	a = answer_json(json_pack("{s:o}", "error", answer_text(text)));
	free(text);
	return a;
}

struct lists {
	struct answer answer;
	struct answer_list list[ANSWER_LISTS];
	unsigned lists, list_at, at;
	bool any; /* the list at hand has an item already */
	void *ctx;
	void (*end)(void *ctx);
};

static int lists_more(struct answer *a, struct text *to)
{
	struct lists *l = container_of(a, struct lists, answer);

	for (; l->list_at < l->lists; l->list_at++) {
		const struct answer_list *list = &l->list[l->list_at];

		if (!l->at)
			text_add(to, "%s\"%s\": [", l->list_at ? ", " : "{", list->name);
		while (l->at < list->count) {
			json_t *item = list->item(l->ctx, (const char *)list->keys + l->at++ * list->size);

			if (!item)
				continue;
			text_add(to, l->any ? ",\n " : "\n ");
			add(to, item);
			l->any = true;
			if (to->len >= ADMIN_PART)
				return 1;
		}
		text_add(to, "]");
		l->any = false;
		l->at = 0;
	}
	text_add(to, "}\n");
	return 0;
}

static void lists_end(struct answer *a)
{
	struct lists *l = container_of(a, struct lists, answer);

	for (unsigned i = 0; i < l->lists; i++)
		free(l->list[i].keys);
	if (l->end)
		l->end(l->ctx);
	free(l);
}

struct answer *answer_lists(const struct answer_list *list, unsigned lists, void *ctx, void (*end)(void *ctx))
{
	struct lists *l = mem_alloc(sizeof(*l));

	*l = (struct lists){
		.answer = {.more = lists_more, .end = lists_end}, .lists = lists, .ctx = ctx, .end = end};
	memcpy(l->list, list, lists * sizeof(*list));
	return &l->answer;
}

/* ------------------------------------------------------------------ clients */

/* The kernel took this fd before, so it takes it now. */
static void listen_again(struct admin *a)
{
	if (!a->listener.active && loop_watch(a->loop, &a->listener))
		log_error("admin socket: cannot be watched any more: weftctl will not get answers");
}

static void again_due(struct loop_timer *t)
{
	listen_again(container_of(t, struct admin, again));
}

static void client_end(struct client *k)
{
	struct admin *a = k->admin;

	loop_unwatch(a->loop, &k->watch);
	loop_disarm(a->loop, &k->deadline);
	close(k->watch.fd);
	if (k->answer) {
		if (k->answer->end)
			k->answer->end(k->answer);
		else
			free(k->answer);
	}
	text_free(&k->in);
	text_free(&k->out);
	list_del(&k->link);
	a->count--;
	free(k);
	listen_again(a); /* a place is free */
}

static void client_due(struct loop_timer *t)
{
	client_end(container_of(t, struct client, deadline));
}

static void progress(struct client *k)
{
	k->progress_ns = clock_ns();
	list_del(&k->link);
	list_add(&k->admin->clients, &k->link);
	loop_arm(k->admin->loop, &k->deadline, ADMIN_SECONDS * 1000000000ull);
}

/* Send what is made, make more. 1 goes on when writable, 0 done or failed. */
static int client_write(struct client *k)
{
	for (unsigned part = 0; part < PARTS_A_TURN; part++) {
		while (k->sent < k->out.len) {
			ssize_t n = send(k->watch.fd, k->out.data + k->sent, k->out.len - k->sent,
					 MSG_NOSIGNAL | MSG_DONTWAIT);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return errno == EAGAIN;
			k->sent += (size_t)n;
			progress(k);
		}
		if (k->all)
			return 0;
		k->out.len = k->sent = 0;
		int more = k->answer->more(k->answer, &k->out);

		if (more < 0)
			return 0;
		k->all = !more;
	}
	return 1;
}

static struct answer *understand(struct admin *a, const struct text *line)
{
	json_error_t error;
	json_t *request = json_loadb(line->data ? line->data : "", line->len, JSON_REJECT_DUPLICATES, &error);
	const char *command = json_string_value(json_object_get(request, "command"));
	struct answer *ret;

	if (!request)
		ret = answer_error("the request is not a line of JSON: %s", error.text);
	else if (!command)
		ret = answer_error("the request has no \"command\": send {\"command\": \"status\"}");
	else
		ret = a->ask(a->ctx, command, request);
	json_decref(request);
	return ret;
}

/* The line is there, or will never be. */
static void client_answer(struct client *k, struct answer *answer)
{
	k->answer = answer;
	k->watch.events = EPOLLOUT;
	if (!client_write(k) || loop_watch(k->admin->loop, &k->watch))
		client_end(k);
}

static void client_read(struct client *k)
{
	char buf[4096];
	ssize_t n = recv(k->watch.fd, buf, sizeof(buf), MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 || (!n && !k->in.len)) {
		client_end(k);
		return;
	}
	end = memchr(buf, '\n', (size_t)n);
	text_add_bytes(&k->in, buf, end ? (size_t)(end - buf) : (size_t)n);
	progress(k);
	if (k->in.len > ADMIN_LINE)
		client_answer(k, answer_error("the request is longer than %d bytes", ADMIN_LINE));
	else if (end || !n) /* who ends its side has ended its line */
		client_answer(k, understand(k->admin, &k->in));
}

static void client_ready(struct loop_watch *w, uint32_t events)
{
	struct client *k = container_of(w, struct client, watch);

	if (!k->answer && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		client_read(k);
	else if (k->answer && (events & (EPOLLHUP | EPOLLERR) || !client_write(k)))
		client_end(k);
}

/* All places are taken: the client that has been silent longest gives way. False: none has been so for long. */
static bool make_place(struct admin *a)
{
	uint64_t now = clock_ns();

	list_each(at, &a->clients) {
		struct client *k = container_of(at, struct client, link);

		if (now - k->progress_ns < (k->answer ? STUCK_NS : SILENT_NS))
			continue;
		client_end(k);
		return true;
	}
	return false;
}

/* Others wait in the backlog meanwhile. */
static void listen_later(struct admin *a, uint64_t after_ns)
{
	loop_unwatch(a->loop, &a->listener);
	loop_arm(a->loop, &a->again, after_ns);
}

static void listener_ready(struct loop_watch *w, uint32_t events)
{
	struct admin *a = container_of(w, struct admin, listener);
	struct client *k;
	int fd;

	if (a->count >= ADMIN_CLIENTS && !make_place(a)) {
		listen_later(a, FULL_AGAIN_NS);
		return;
	}
	fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* Out of fds or memory: it would be ready again at once */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			listen_later(a, 1000000000ull);
		return;
	}
	k = mem_alloc(sizeof(*k));
	k->admin = a;
	k->watch = (struct loop_watch){.fd = fd, .events = EPOLLIN, .ready = client_ready};
	k->deadline.due = client_due;
	list_add(&a->clients, &k->link);
	a->count++;
	progress(k);
	if (loop_watch(a->loop, &k->watch))
		client_end(k);
}

int admin_open(struct admin **ret, struct loop *loop, int listener, admin_ask *ask, void *ctx)
{
	struct admin *a = mem_alloc(sizeof(*a));
	int err;

	*a = (struct admin){.loop = loop, .ask = ask, .ctx = ctx};
	a->listener = (struct loop_watch){.fd = listener, .events = EPOLLIN, .ready = listener_ready};
	a->again.due = again_due;
	list_init(&a->clients);
	err = loop_watch(loop, &a->listener);
	if (err) {
		free(a);
		return err;
	}
	*ret = a;
	return 0;
}

void admin_close(struct admin *a)
{
	if (!a)
		return;
	list_each_safe(at, next, &a->clients)
		client_end(container_of(at, struct client, link));
	loop_unwatch(a->loop, &a->listener);
	loop_disarm(a->loop, &a->again);
	close(a->listener.fd);
	free(a);
}
