// SPDX-License-Identifier: Apache-2.0
/* Connections to other nodes and who may share them: real sockets, real TLS, HTTP/2 on both ends, one thread. */
#include <errno.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>

#include "fakesource.h"
#include "sockets.h"
#include "../../headers/tunnels.h" /* beside this file is another one of that name */

#define NETNS 7
#define WAITS 150

/* ------------------------------------------------------------------ the other node */

struct server {
	struct loop_watch watch;
	struct abi_addr addr;
	uint16_t port;
	unsigned accepted, asked, closed;
	bool refuses; /* RST instead of a handshake */
	const char *identity;
	struct stream *tls[16];
	struct hbone *hbone[16];
	unsigned count;
};

static struct fixture f;
static struct server server;
static struct socket_pool *pool;
static struct tunnels *tunnels;
static struct view *world_view;
static unsigned ordered;

static void drop(struct stream *s, unsigned events)
{
	if (events & STREAM_FAILED)
		stream_close(s, NULL);
}

static void asked(struct hbone *h, struct stream *s, const struct hbone_request *ask)
{
	server.asked++;
	s->ready = drop;
	hbone_accept(s, NULL);
}

static void draining(struct hbone *h)
{
}

static void closed(struct hbone *h, const char *why)
{
	server.closed++;
}

static const struct hbone_events events = {.asked = asked, .draining = draining, .closed = closed};

static void tls_ready(struct stream *s, unsigned happened)
{
	if (happened & STREAM_FAILED)
		stream_close(s, s->why);
	else if (happened & STREAM_OPEN)
		server.hbone[server.count++] = hbone_server(thread, s, NULL, &events, NULL);
}

static void accept_ready(struct loop_watch *w, uint32_t happened)
{
	struct tls_plan plan = {.server = true, .deadline_ns = 10000 * MS};
	const char *why;
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
	struct stream *s;

	assert_true(fd >= 0);
	server.accepted++;
	if (server.refuses) {
		reset(fd);
		return;
	}
	plan.ctx = certs_server(f.certs, server.identity, &why);
	assert_non_null(plan.ctx);
	s = tls_stream(thread, sock_stream(thread, fd), &plan);
	SSL_CTX_free(plan.ctx);
	s->ready = tls_ready;
}

/* ------------------------------------------------------------------ this node */

static void supply(void *ctx, struct socket_order *o)
{
	int fd[WIRE_SOCKET_BATCH];

	ordered++;
	for (unsigned i = 0; i < o->count; i++)
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socket_pool_answer(o, 0, fd, o->count);
}

struct waiter {
	struct tunnel_wait wait;
	struct stream *stream;
	const char *why;
	bool open, failed;
};

static struct waiter waiter[WAITS];

static void ready(struct stream *s, unsigned happened)
{
	struct waiter *w = s->owner;

	w->open |= !!(happened & STREAM_OPEN);
	w->failed |= !!(happened & STREAM_FAILED);
	if (happened & STREAM_FAILED)
		w->why = s->why;
}

static void done(struct tunnel_wait *wait, struct stream *s, const char *why)
{
	struct waiter *w = container_of(wait, struct waiter, wait);

	assert_true(!w->stream && !w->why);
	w->stream = s;
	w->why = why;
	if (!s)
		return;
	s->ready = ready;
	s->owner = w;
}

static struct tunnel_key key_of(const char *source)
{
	return (struct tunnel_key){.source = source,
				   .server = DB,
				   .addr = server.addr,
				   .from = server.addr,
				   .netns = NETNS,
				   .generation = 1,
				   .port = server.port};
}

static struct waiter *ask(unsigned i, const struct tunnel_key *key)
{
	static const struct hbone_request request = {.authority = "10.0.0.1:80"};

	waiter[i] = (struct waiter){.wait = {.ask = &request, .done = done}};
	tunnels_connect(tunnels, key, &waiter[i].wait);
	return &waiter[i];
}

static void let_go(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (waiter[i].stream)
			stream_close(waiter[i].stream, NULL);
	memset(waiter, 0, sizeof(waiter));
}

static int test_setup(void **state)
{
	const struct socket_pool_plan sockets = {.ask = supply};
	struct socket_pool_plan plan = sockets;

	begin(&f);
	loop = f.loop;
	thread = plan.control = thread_control(loop);
	need(&f, WEB);
	need(&f, DB);
	server = (struct server){.identity = DB};
	server.watch = (struct loop_watch){.fd = listener(AF_INET, &server.addr, &server.port, 64),
					   .events = EPOLLIN,
					   .ready = accept_ready};
	assert_int_equal(loop_watch(loop, &server.watch), 0);
	world_view = view_new();
	pool = socket_pool_new(thread, &plan);
	tunnels = tunnels_new(thread,
			      &(struct tunnels_plan){.certs = f.certs, .view = world_view, .sockets = pool});
	ordered = 0;
	return 0;
}

static int test_teardown(void **state)
{
	let_go(WAITS);
	tunnels_free(tunnels);
	for (unsigned i = 0; i < server.count; i++)
		if (server.hbone[i] && !server.closed)
			hbone_close(server.hbone[i], "end");
	rest();
	loop_unwatch(loop, &server.watch);
	close(server.watch.fd);
	socket_pool_free(pool);
	view_free(world_view);
	certs_release(f.certs, WEB);
	certs_release(f.certs, DB);
	assert_int_equal(thread->pool.lent, 0);
	thread_control_end(thread);
	end(&f);
	return 0;
}

/* ------------------------------------------------------------------ tests */

/* Ten at once are one connection; one more later is on it too. */
static void test_one_connection_for_all(void **state)
{
	struct tunnel_key key = key_of(WEB);

	for (unsigned i = 0; i < 10; i++)
		ask(i, &key);
	for (unsigned i = 0; i < 10; i++)
		UNTIL(waiter[i].open);
	ask(10, &key);
	assert_non_null(waiter[10].stream); /* at once */
	UNTIL(waiter[10].open);
	assert_int_equal(server.accepted, 1);
	assert_int_equal(server.asked, 11);
	assert_int_equal(tunnels_count(tunnels), 1);
}

/* Two identities, two generations of an address, two source addresses: never one connection. */
static void test_what_is_not_shared(void **state)
{
	struct tunnel_key key = key_of(WEB), other = key_of(DB), next = key_of(WEB), from = key_of(WEB);

	next.generation = 2;
	assert_int_equal(addr_parse("127.0.0.77", &from.from), 0);
	ask(0, &key);
	ask(1, &other);
	ask(2, &next);
	ask(3, &from);
	for (unsigned i = 0; i < 4; i++)
		UNTIL(waiter[i].open);
	assert_int_equal(server.accepted, 4);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < i; k++)
			assert_ptr_not_equal(hbone_of(waiter[i].stream), hbone_of(waiter[k].stream));
}

static void test_more_streams_than_one_carries(void **state)
{
	struct tunnel_key key = key_of(WEB);

	for (unsigned i = 0; i < WAITS; i++)
		ask(i, &key);
	for (unsigned i = 0; i < WAITS; i++)
		UNTIL(waiter[i].open);
	assert_int_equal(server.accepted, 2);
	assert_int_equal(tunnels_count(tunnels), 2);
}

/* All who wait hear why; nothing is left of the attempt, and the next one tries again. */
static void test_failure_is_everybodys(void **state)
{
	struct tunnel_key key = key_of(WEB);

	server.refuses = true;
	for (unsigned i = 0; i < 5; i++)
		ask(i, &key);
	tunnels_cancel(&waiter[4].wait);
	for (unsigned i = 0; i < 4; i++)
		UNTIL(waiter[i].why);
	assert_null(waiter[4].why);
	assert_int_equal(server.accepted, 1);
	assert_int_equal(tunnels_count(tunnels), 0);
	server.refuses = false;
	ask(5, &key);
	UNTIL(waiter[5].open);
}

static void test_the_wrong_server(void **state)
{
	struct tunnel_key key = key_of(WEB);

	server.identity = WEB;
	ask(0, &key);
	UNTIL(waiter[0].why);
	assert_null(waiter[0].stream);
	assert_string_equal(waiter[0].why, CERTS_OTHER_IDENTITY);
	assert_int_equal(server.asked, 0);
}

/* A pod that has just come: its certificate is waited for, for a while. */
static void test_no_certificate_yet(void **state)
{
	static const char late[] = "spiffe://" TD "/ns/shop/sa/late";
	struct tunnel_key key = key_of(late);

	ask(0, &key);
	rest();
	assert_null(waiter[0].why);
	assert_int_equal(ordered, 0);
	need(&f, late);
	UNTIL(waiter[0].open);
	certs_release(f.certs, late);
}

/* The address is nobody's in the view: the connection ends, and what is on it fails. */
static void test_the_pod_has_gone(void **state)
{
	struct tunnel_key key = key_of(WEB);

	ask(0, &key);
	UNTIL(waiter[0].open);
	tunnels_view_changed(tunnels);
	UNTIL(waiter[0].failed);
	UNTIL(!tunnels_count(tunnels));
	tunnels_view_changed(tunnels);
}

static void test_the_source_has_gone(void **state)
{
	struct tunnel_key key = key_of(WEB);

	ask(0, &key);
	UNTIL(waiter[0].open);
	tunnels_pod_gone(tunnels, NETNS + 1);
	rest();
	assert_false(waiter[0].failed);
	tunnels_pod_gone(tunnels, NETNS);
	UNTIL(waiter[0].failed);
}

/* GOAWAY of the peer: those who stand go on, the next one gets another connection. */
static void test_drained_by_the_peer(void **state)
{
	struct tunnel_key key = key_of(WEB);

	ask(0, &key);
	UNTIL(waiter[0].open);
	hbone_drain(server.hbone[0]);
	UNTIL(!hbone_free(hbone_of(waiter[0].stream)));
	ask(1, &key);
	UNTIL(waiter[1].open);
	assert_int_equal(server.accepted, 2);
	assert_false(waiter[0].failed);
}

static void count_row(void *ctx, const struct tunnel_row *r)
{
	unsigned *count = ctx;

	++*count;
	assert_true(r->client);
	assert_string_equal(r->identity, WEB);
	assert_string_equal(r->peer, DB);
	assert_string_equal(r->alpn, "h2");
	assert_string_equal(r->state, "open");
	assert_int_equal(r->streams, 1);
	assert_int_equal(r->remote_port, server.port);
}

static void test_rows(void **state)
{
	struct tunnel_key key = key_of(WEB);
	unsigned count = 0;

	ask(0, &key);
	UNTIL(waiter[0].open);
	tunnels_each(tunnels, count_row, &count);
	assert_int_equal(count, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_connection_for_all),
		TEST(test_what_is_not_shared),
		TEST(test_more_streams_than_one_carries),
		TEST(test_failure_is_everybodys),
		TEST(test_the_wrong_server),
		TEST(test_no_certificate_yet),
		TEST(test_the_pod_has_gone),
		TEST(test_the_source_has_gone),
		TEST(test_drained_by_the_peer),
		TEST(test_rows),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
