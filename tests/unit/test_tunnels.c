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
	unsigned most;	/* streams of a connection; 0: 200 */
	bool by_hand;	/* no HTTP/2 of ours: tls[] says what a test wants, and hears nothing */
	bool waits;   /* with the handshake, until it is told */
	int waiting;  /* who has come meanwhile; -1: nobody */
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
	else if (happened & STREAM_OPEN && server.by_hand)
		server.tls[server.count++] = s;
	else if (happened & STREAM_OPEN)
		server.hbone[server.count++] =
			hbone_server(thread, s, &(struct hbone_limits){.streams = server.most}, &events, NULL);
}

/* SETTINGS by hand, with the streams that it takes. */
static void allow(unsigned char streams)
{
	uint8_t text[] = {0, 0, 6, 4, 0, 0, 0, 0, 0, /**/ 0, 3, 0, 0, 0, streams};
	struct stream_bytes run = {.data = text, .len = sizeof(text)};

	assert_int_equal(stream_write(server.tls[server.count - 1], &run, 1), sizeof(text));
}

static void welcome(int fd)
{
	struct tls_plan plan = {.server = true, .deadline_ns = 10000 * MS};
	const char *why;
	struct stream *s;

	plan.ctx = certs_server(f.certs, server.identity, &why);
	assert_non_null(plan.ctx);
	s = tls_stream(thread, sock_stream(thread, fd), &plan);
	SSL_CTX_free(plan.ctx);
	s->ready = tls_ready;
}

static void accept_ready(struct loop_watch *w, uint32_t happened)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	server.accepted++;
	if (server.refuses)
		reset(fd);
	else if (server.waits)
		server.waiting = fd;
	else
		welcome(fd);
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
	server = (struct server){.identity = DB, .waiting = -1};
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

/* Two identities, generations of an address, source addresses, pods that speak: never one connection. */
static void test_what_is_not_shared(void **state)
{
	struct tunnel_key key = key_of(WEB), other = key_of(DB), next = key_of(WEB), from = key_of(WEB),
			  pod = key_of(WEB), server_is = key_of(WEB);

	next.generation = 2;
	assert_int_equal(addr_parse("127.0.0.77", &from.from), 0);
	pod.netns = NETNS + 1;
	ask(0, &key);
	ask(1, &other);
	ask(2, &next);
	ask(3, &from);
	ask(4, &pod);
	for (unsigned i = 0; i < 5; i++)
		UNTIL(waiter[i].open);
	assert_int_equal(server.accepted, 5);
	for (unsigned i = 0; i < 5; i++)
		for (unsigned k = 0; k < i; k++)
			assert_ptr_not_equal(hbone_of(waiter[i].stream), hbone_of(waiter[k].stream));
	/* who expects somebody else there does not take what stands */
	server_is.server = WEB;
	ask(5, &server_is);
	UNTIL(waiter[5].why);
	assert_string_equal(waiter[5].why, CERTS_OTHER_IDENTITY);
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

/* What is too many comes back, once: whoever asks then is put where there is room. */
static void test_a_server_of_few_streams(void **state)
{
	struct tunnel_key key = key_of(WEB);
	unsigned stand = 0;

	server.most = 2;
	for (unsigned i = 0; i < 12; i++)
		ask(i, &key);
	for (unsigned i = 0; i < 12; i++) {
		UNTIL(waiter[i].open || waiter[i].failed);
		stand += waiter[i].open;
		if (waiter[i].open)
			continue;
		assert_string_equal(waiter[i].why, HBONE_UNPROCESSED);
		stream_close(waiter[i].stream, NULL);
		ask(i, &key);
	}
	assert_int_equal(stand, 2);
	for (unsigned i = 0; i < 12; i++)
		UNTIL(waiter[i].open || waiter[i].failed);
	assert_int_equal(server.accepted, 6);
	for (unsigned i = 12; i < 18; i++)
		ask(i, &key);
	assert_int_equal(tunnels_count(tunnels), 9); /* all that are needed at once */
	for (unsigned i = 0; i < 18; i++) {
		UNTIL(waiter[i].open || waiter[i].failed);
		assert_true(waiter[i].open);
	}
	assert_int_equal(server.accepted, 9);
}

/*
 * It takes none for now: who comes waits, on no other connection, and is served when it takes some again. Where it ends
 * instead he is refused; the next one is asked by one connection, whoever waits.
 */
static void test_a_server_of_no_streams(void **state)
{
	struct tunnel_key key = key_of(WEB);

	server.by_hand = true;
	ask(0, &key);
	UNTIL(server.count == 1);
	assert_non_null(waiter[0].stream);
	allow(0);
	UNTIL(!hbone_free(hbone_of(waiter[0].stream)));
	for (unsigned i = 1; i < 20; i++)
		ask(i, &key);
	rest();
	assert_int_equal(server.accepted, 1);
	assert_null(waiter[1].stream);
	assert_null(waiter[1].why);
	allow(20);
	for (unsigned i = 1; i < 20; i++)
		UNTIL(waiter[i].stream);
	assert_int_equal(server.accepted, 1);
	let_go(20);
	allow(0);
	rest();
	for (unsigned i = 0; i < 5; i++)
		ask(i, &key);
	stream_close(server.tls[0], NULL);
	for (unsigned i = 0; i < 5; i++) {
		UNTIL(waiter[i].why);
		assert_string_equal(waiter[i].why, HBONE_SHUT);
	}
	assert_int_equal(server.accepted, 1);
	UNTIL(!tunnels_count(tunnels));
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

/* The control thread reads other roots, or a CRL. */
static void believe(X509 *root, char *crl)
{
	if (root)
		f.fake.roots[f.fake.root_count++] = root;
	free(f.fake.crl);
	f.fake.crl = crl;
	f.fake.source.changed(&f.fake.source);
	tunnels_trust_changed(tunnels);
}

static char *revoked(const char *spiffe)
{
	const char *why;
	SSL_CTX *ctx = certs_server(f.certs, spiffe, &why);
	const X509 *leaf = SSL_CTX_get0_certificate(ctx);
	char *crl = pki_crl(&f.fake.ca, &leaf, 1, NOON - HOUR, NOON + HOUR);

	SSL_CTX_free(ctx);
	return crl;
}

/*
 * What is believed changes while the server makes us wait in the handshake, which goes on with what was believed when
 * it began. Who is good gets in, though his intermediate was never seen before; who was revoked meanwhile does not.
 */
static void test_trust_changes_in_the_handshake(void **state)
{
	struct ca_pair second = pki_root("second");
	struct tunnel_key key = key_of(WEB);

	for (unsigned i = 0; i < 2; i++) {
		server.waits = true;
		ask(i, &key);
		UNTIL(server.waiting >= 0);
		believe(i ? NULL : second.cert, i ? revoked(DB) : NULL);
		server.waits = false;
		welcome(server.waiting);
		server.waiting = -1;
		UNTIL(waiter[i].open || waiter[i].why);
		assert_true(i || waiter[i].open);
		if (!i)
			let_go(1);
		tunnels_pod_gone(tunnels, NETNS);
		UNTIL(!tunnels_count(tunnels) && server.count == i + 1 && server.closed == i + 1);
	}
	assert_null(waiter[1].stream);
	assert_string_equal(waiter[1].why, CERTS_REVOKED);
	pki_free(&second);
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
		TEST(test_a_server_of_few_streams),
		TEST(test_a_server_of_no_streams),
		TEST(test_failure_is_everybodys),
		TEST(test_the_wrong_server),
		TEST(test_trust_changes_in_the_handshake),
		TEST(test_no_certificate_yet),
		TEST(test_the_pod_has_gone),
		TEST(test_the_source_has_gone),
		TEST(test_drained_by_the_peer),
		TEST(test_rows),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
