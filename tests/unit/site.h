/* SPDX-License-Identifier: Apache-2.0 */
/*
 * site.h: what a thread serves, over real sockets: a view built from manifests, a dialer whose sockets are made at
 * once, and peers that are raw text (HTTP/1) or weft's own codec at the far end (HTTP/2). Needs root: its addresses,
 * all of 10.0.0.0/8, are those of a netns of its own.
 */
#ifndef WEFT_TEST_SITE_H
#define WEFT_TEST_SITE_H

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <urcu-qsbr.h>

#include "grpc.h"
#include "scene.h"

#include "../../userspace/proxy/parts.h"
#include "dialer.h"
#include "maps.h"

#define SITE_FN static __attribute__((unused))

static struct scene scene;
static struct view *view;
static struct site site;

/* ------------------------------------------------------------------ the world */

/* What publish.c does to the world, but for the maps. */
SITE_FN void site_take_in(void)
{
	world_update(scene.world);
	view_gather(view, scene.world);
	list_each_safe(l, next, &scene.world->dirty_pods) {
		struct world_pod *p = container_of(l, struct world_pod, dirty_link);

		p->in_kernel = world_pod_row(p, &p->kernel);
		p->dirty = false;
		list_del(l);
		if (p->set)
			p->set->published = true;
	}
	list_each_safe(l, next, &scene.world->dirty_addresses) {
		struct world_address *a = container_of(l, struct world_address, dirty_link);
		struct abi_address row;

		a->dirty = false;
		list_del(l);
		if (!world_address_row(a, &row))
			world_address_drop(scene.world, a);
	}
	(void)view_update(view, scene.world);
	list_each_safe(l, next, &scene.world->dead_sets)
		world_set_drop(scene.world, container_of(l, struct policy_set, all));
	rcu_quiescent_state();
}

/* Documents of YAML with fields of printf. */
SITE_FN void site_yaml(const char *fmt, ...) printf_like(1, 2);
SITE_FN void site_yaml(const char *fmt, ...)
{
	char *text = NULL, *at;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	at = text;
	for (size_t left = strlen(text), len; left; at += len, left -= len) {
		char *one;

		len = doc_split(at, left, false);
		one = strndup(at, len);
		scene_yaml(scene.store, one);
		free(one);
	}
	free(text);
	site_take_in();
}

/* The one AuthorizationPolicy of that action in namespace shop; rules "": it goes. */
SITE_FN void site_policy(const char *action, const char *rules)
{
	const char *name = !strcmp(action, "DENY") ? "deny" : "allow";

	if (!*rules) {
		store_del(scene.store, KIND_AUTHORIZATION_POLICY, "shop", name);
		site_take_in();
		return;
	}
	site_yaml("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
		  "metadata: {namespace: shop, name: %s}\nspec: {action: %s, rules: [%s]}\n",
		  name, action, rules);
}

/* ------------------------------------------------------------------ raw peers: text that a test says and hears */

struct raw {
	int fd;
	char *text; /* NUL-terminated */
	size_t len;
	bool ended, reset;
};
#define RAW_TEXT (1u << 20)

SITE_FN struct raw raw_of(int fd)
{
	struct raw r = {.fd = fd, .text = malloc(RAW_TEXT)};

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	r.text[0] = '\0';
	return r;
}

SITE_FN void raw_say(struct raw *r, const char *text)
{
	size_t len = strlen(text), at = 0;

	while (at < len) {
		ssize_t n = send(r->fd, text + at, len - at, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return;
		at += n > 0 ? (size_t)n : 0;
		turn(0);
	}
}

SITE_FN void raw_hear(struct raw *r)
{
	ssize_t n;

	while (!r->ended && !r->reset) {
		n = recv(r->fd, r->text + r->len, RAW_TEXT - 1 - r->len, 0);
		if (n < 0 && errno == EAGAIN)
			return;
		r->ended = n == 0;
		r->reset = n < 0;
		r->len += n > 0 ? (size_t)n : 0;
		r->text[r->len] = '\0';
	}
}

SITE_FN bool raw_heard(struct raw *r, const char *text)
{
	raw_hear(r);
	return strstr(r->text, text) != NULL;
}

SITE_FN bool raw_over(struct raw *r)
{
	raw_hear(r);
	return r->ended || r->reset;
}

/* How often that was heard. */
SITE_FN unsigned raw_count(struct raw *r, const char *text)
{
	unsigned n = 0;

	raw_hear(r);
	for (const char *at = r->text; (at = strstr(at, text)) != NULL; at++)
		n++;
	return n;
}

SITE_FN void raw_forget(struct raw *r)
{
	raw_hear(r);
	r->len = 0;
	r->text[0] = '\0';
}

SITE_FN void raw_close(struct raw *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	free(r->text);
	r->text = NULL;
}

SITE_FN void raw_reset(struct raw *r)
{
	reset(r->fd);
	r->fd = -1;
	raw_close(r);
}

/* It comes, or the test says what came instead. */
#define HEARS(r, what)                                                                            \
	do {                                                                                      \
		uint64_t hears_began = clock_ns();                                                \
		while (!raw_heard(r, what)) {                                                     \
			if (clock_ns() - hears_began > 60000 * MS || (r)->ended || (r)->reset)    \
				fail_msg("not heard: %s\nbut: %s%s", what, (r)->text,             \
					 (r)->ended ? "<end>" : (r)->reset ? "<reset>" : "");     \
			turn(MS / 2);                                                             \
		}                                                                                 \
	} while (0)

/* ------------------------------------------------------------------ far ends by a codec */

#define FAR_TALKS 256

struct far;
struct talk { /* one exchange of it */
	struct far *far;
	struct http_exchange *x;
	unsigned status, informational;
	int grpc_status; /* of head or trailers; -1 */
	char line[4096]; /* "METHOD AUTHORITY PATH" */
	char scheme[8];
	char body[4096];
	size_t len;
	bool ended, failed, unprocessed;
	uint32_t error;
	bool sleeping; /* its body is not read */
};

struct far {
	struct http_connection *c;
	struct talk *talk; /* FAR_TALKS */
	unsigned talks;
	bool draining, closed;
	const char *why;
};

SITE_FN void talk_read(struct talk *t)
{
	struct stream_bytes run[STREAM_RUNS];
	unsigned runs;

	while (t->x && !t->sleeping && (runs = stream_peek(&t->x->s, run, 65536))) {
		size_t all = 0;

		for (unsigned i = 0; i < runs; i++) {
			size_t n = run[i].len;

			if (t->len < sizeof(t->body) - 1) {
				size_t room = sizeof(t->body) - 1 - t->len;

				memcpy(t->body + t->len, run[i].data, n < room ? n : room);
				t->len += n < room ? n : room;
			}
			all += n;
		}
		stream_consume(&t->x->s, all);
	}
	if (t->x && t->x->s.ended && !t->ended) {
		const struct http_field *f =
			t->x->trailers ? http_field(t->x->trailers, HTTP_NAME_GRPC_STATUS, NULL) : NULL;

		t->ended = true;
		t->grpc_status = f ? grpc_status_parse(f->value) : t->grpc_status;
	}
}

SITE_FN void talk_close(struct talk *t, const char *why)
{
	if (t->x)
		stream_close(&t->x->s, why);
	t->x = NULL;
}

static void talk_ready(struct stream *s, unsigned events)
{
	struct talk *t = s->owner;

	if (!t->x)
		return;
	if (events & STREAM_FAILED) {
		t->failed = true;
		t->error = t->x->error;
		t->unprocessed = t->x->unprocessed;
		talk_close(t, s->why);
		return;
	}
	if (events & STREAM_READABLE)
		talk_read(t);
	if (t->ended && t->x->s.finished)
		talk_close(t, NULL);
}

SITE_FN struct talk *talk_new(struct far *f, struct http_exchange *x)
{
	struct talk *t = &f->talk[f->talks++];

	assert_true(f->talks < FAR_TALKS);
	*t = (struct talk){.far = f, .x = x, .grpc_status = -1};
	x->s.ready = talk_ready;
	x->s.owner = t;
	return t;
}

static void far_requested(struct http_connection *c, struct http_exchange *x, const struct http_head *h)
{
	struct talk *t = talk_new(c->owner, x);

	snprintf(t->line, sizeof(t->line), "%.*s %.*s %.*s", (int)h->method_text.len, h->method_text.at,
		 (int)h->authority.len, h->authority.at, (int)h->path.len, h->path.at);
	snprintf(t->scheme, sizeof(t->scheme), "%.*s", (int)h->scheme.len, h->scheme.at);
	talk_read(t);
}

static void far_answered(struct http_exchange *x, const struct http_head *h)
{
	struct talk *t = x->s.owner;
	const struct http_field *f = http_field(h, HTTP_NAME_GRPC_STATUS, NULL);

	if (h->status < 200 && h->status != 101) {
		t->informational++;
		return;
	}
	t->status = h->status;
	t->grpc_status = f ? grpc_status_parse(f->value) : -1;
	talk_read(t);
	if (t->ended && t->x->s.finished)
		talk_close(t, NULL);
}

static void far_draining(struct http_connection *c)
{
	((struct far *)c->owner)->draining = true;
}

static void far_closed(struct http_connection *c, const char *why)
{
	struct far *f = c->owner;

	f->closed = true;
	f->why = why;
	f->c = NULL;
}

static void far_refused(struct http_connection *c, int status, const char *why)
{
}

static void far_free(struct http_connection *c)
{
}

static const struct http_events far_events = {.request = far_requested,
					      .answer = far_answered,
					      .free = far_free,
					      .refused = far_refused,
					      .draining = far_draining,
					      .closed = far_closed};

/* fd: the far end of a connection of the site's. */
SITE_FN void far_begin(struct far *f, int fd, bool server, bool http2)
{
	static const struct http_limits limits;
	struct stream *s;

	*f = (struct far){.talk = calloc(FAR_TALKS, sizeof(struct talk))};
	sock_prepare(fd);
	s = sock_stream(thread, fd);
	if (server)
		f->c = (http2 ? http2_server : http1_server)(thread, s, &limits, &far_events, f);
	else
		f->c = (http2 ? http2_client : http1_client)(thread, s, &limits, &far_events, f);
}

SITE_FN void far_end(struct far *f)
{
	for (unsigned i = 0; i < f->talks; i++)
		talk_close(&f->talk[i], "test");
	if (f->c)
		f->c->ops->close(f->c, "test");
	UNTIL(f->closed);
	rest();
	free(f->talk);
}

static const char *far_scheme = "http"; /* that is asked for */

/* field "NAME: VALUE" or NULL; `body` NULL: none; "": it comes later. */
SITE_FN struct talk *far_ask(struct far *f, enum http_method m, const char *method, const char *path,
			     const char *field, const char *body)
{
	struct http_field fields[4];
	struct http_head h = {.version = HTTP_2,
			      .method = m,
			      .method_text = {method, strlen(method)},
			      .scheme = {far_scheme, strlen(far_scheme)},
			      .authority = HTTP_TEXT("web.example"),
			      .path = {path, strlen(path)},
			      .body = body ? HTTP_STREAM : HTTP_NO_BODY,
			      .field = fields,
			      .room = 4};
	struct http_exchange *x;
	struct talk *t;

	if (field) {
		const char *colon = strchr(field, ':');

		assert_true(http_field_add(&h, (struct http_text){field, (size_t)(colon - field)},
					   (struct http_text){colon + 2, strlen(colon + 2)}));
	}
	UNTIL(http_free(f->c));
	x = http_request(f->c, &h, !body);
	assert_non_null(x);
	t = talk_new(f, x);
	if (body && *body) {
		struct stream_bytes run = {.data = (uint8_t *)body, .len = strlen(body)};

		assert_int_equal(stream_write(&x->s, &run, 1), run.len);
		stream_finish(&x->s);
	}
	return t;
}

/* The whole answer. */
SITE_FN void talk_answer(struct talk *t, unsigned status, const char *body)
{
	struct http_head h = {.version = HTTP_2,
			      .status = (uint16_t)status,
			      .body = *body ? HTTP_LENGTH : HTTP_NO_BODY,
			      .has_length = true,
			      .length = strlen(body)};
	struct stream_bytes run = {.data = (uint8_t *)body, .len = strlen(body)};

	http_answer(t->x, &h);
	if (run.len)
		assert_int_equal(stream_write(&t->x->s, &run, 1), run.len);
	stream_finish(&t->x->s);
	if (t->ended)
		talk_close(t, NULL);
}

size_t __sanitizer_get_current_allocated_bytes(void); /* ASan: of the whole process */

/* ------------------------------------------------------------------ begin and end */

/* All of 10.0.0.0/8 is ours: bound and listened at, as lo's 127.0.0.0/8 is. */
SITE_FN void site_addresses(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	struct sockaddr_in *in = (struct sockaddr_in *)&r.ifr_addr;
	int fd;

	if (unshare(CLONE_NEWNET))
		fail_msg("unshare: %s: run the tests as root", strerror(errno));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	r.ifr_flags = IFF_UP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &r), 0);
	*in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000001)};
	memcpy(r.ifr_name, "lo:1", 5);
	assert_int_equal(ioctl(fd, SIOCSIFADDR, &r), 0);
	*in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xff000000)};
	assert_int_equal(ioctl(fd, SIOCSIFNETMASK, &r), 0);
	close(fd);
}

/* A listener that does not block at an address of ours. */
SITE_FN int site_listen(const char *address, uint16_t port)
{
	struct abi_addr a = scene_addr(address);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	memcpy(&in.sin_addr, a.byte + 12, 4);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

SITE_FN int site_accept(int listening)
{
	int fd;

	UNTIL((fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
	return fd;
}

static int site_socket_error; /* what the supervisor answers who asks for sockets; 0: he gets them */

SITE_FN void site_ask(void *ctx, struct socket_order *o)
{
	if (site_socket_error)
		socket_pool_answer(o, site_socket_error, NULL, 0);
	else
		dialer_ask(ctx, o);
}

/* Pod 1001 shop/client 10.1.0.1, pod 1002 shop/app 10.1.0.2. */
SITE_FN int site_begin(void (*answered)(struct http_exchange *x, const struct http_head *h))
{
	int r;

	site_addresses();
	r = setup(NULL);
	scene = scene_new();
	view = view_new();
	scene_enrol(scene.world, 1, "shop/client", "client", "10.1.0.1", "");
	scene_enrol(scene.world, 2, "shop/app", "app", "10.1.0.2", "app=app");
	site_take_in();
	site = (struct site){.thread = thread, .view = view, .conns = -1, .affinity = -1};
	list_init(&site.relays);
	list_init(&site.serves);
	list_init(&site.rests);
	thread->proxy = &site;
	list_init(&site.guards);
	list_init(&site.exchanges);
	list_init(&site.mirrors);
	list_init(&site.carriers);
	list_init(&site.handshakes.all);
	list_init(&site.edge_handshakes.all);
	site.handshakes.most = site.edge_handshakes.most = 8;
	site_socket_error = 0;
	site.dialer = (struct dialer){.thread = thread,
				      .sockets = socket_pool_new(thread, &(const struct socket_pool_plan){
										 .control = thread, .ask = site_ask}),
				      .random = {.s = {1, 2}},
				      .view = view};
	site.dialer.own = map_new(BPF_MAP_TYPE_HASH, sizeof(int), sizeof(struct abi_own), 1024);
	if (answered)
		site.pool = http_pool_new(
			&(const struct http_pool_plan){.dialer = &site.dialer, .answer = answered});
	return r;
}

/* clear(): what a test that has failed left behind. */
SITE_FN int site_end(void (*clear)(void))
{
	unsigned left = site.relay_count;

	clear();
	rest();
	http_pool_free(site.pool);
	rest();
	close(site.dialer.own);
	dialer_teardown(&site.dialer);
	view_free(view);
	scene_free(&scene);
	teardown(NULL);
	return left ? -1 : 0;
}

#define SITE_TEST(test) cmocka_unit_test_setup_teardown(test, each_setup, each_teardown)

#endif
