// SPDX-License-Identifier: Apache-2.0
/* Tunnels that come to a pod of this node: what a CONNECT is answered, whose they are, and how many shake hands. */
#include <openssl/ssl.h>
#include <sys/epoll.h>

#define view fixture_view /* site.h has one of its own */
#include "fakesource.h"
#undef view

#include "site.h"

#define ME "spiffe://cluster.local/ns/shop/sa/client"
#define APP "spiffe://cluster.local/ns/shop/sa/app"
#define POD 1002
#define PORT 8080
#define FROM 0x0a080001u

static struct fake fake;
static struct loop_watch incoming;
static int app; /* listens */

/* ------------------------------------------------------------------ the other node */

struct node {
	struct stream *tls;
	struct hbone *hbone;
	const char *why;
	bool failed, closed;
};

static void node_draining(struct hbone *h)
{
}

static void node_closed(struct hbone *h, const char *why)
{
	struct node *n = hbone_owner(h);

	n->why = why;
	n->closed = true;
}

static const struct hbone_events node_events = {.draining = node_draining, .closed = node_closed};

static void node_ready(struct stream *s, unsigned happened)
{
	struct node *n = s->owner;

	if (happened & STREAM_FAILED) {
		n->failed = true;
		n->why = s->why;
		stream_close(s, s->why);
		n->tls = NULL;
	} else if (happened & STREAM_OPEN) {
		n->hbone = hbone_client(thread, s, NULL, &node_events, n);
	}
}

/* TCP alone. */
static int dialled(uint32_t source)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(HBONE_PORT), .sin_addr.s_addr = htonl(0x0a010002)};
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	sock_prepare(fd);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

static void node_speak(struct node *n, int fd)
{
	struct tls_plan plan = {.deadline_ns = 10000 * MS};
	const char *why = NULL;

	*n = (struct node){0};
	plan.ctx = certs_client(site.certs, ME, &why);
	assert_non_null(plan.ctx);
	n->tls = tls_stream(thread, sock_stream(thread, fd), &plan);
	n->tls->ready = node_ready;
	n->tls->owner = n;
	SSL_CTX_free(plan.ctx);
}

static void node_begin(struct node *n)
{
	node_speak(n, dialled(FROM));
	UNTIL(n->hbone);
}

static void node_end(struct node *n)
{
	if (n->hbone && !n->closed)
		hbone_close(n->hbone, "test");
	UNTIL(n->closed || !n->hbone);
}

struct asked {
	struct stream *s;
	bool open, failed;
};

static void asked_ready(struct stream *s, unsigned happened)
{
	struct asked *a = s->owner;

	a->open |= !!(happened & STREAM_OPEN);
	a->failed |= !!(happened & STREAM_FAILED);
}

static void ask(struct node *n, struct asked *a, const char *authority)
{
	UNTIL(hbone_free(n->hbone));
	*a = (struct asked){.s = hbone_connect(n->hbone, &(struct hbone_request){.authority = authority})};
	assert_non_null(a->s);
	a->s->ready = asked_ready;
	a->s->owner = a;
}

static int status(struct node *n, const char *authority)
{
	static struct asked a;
	int is;

	ask(n, &a, authority);
	UNTIL(a.open || a.failed);
	is = hbone_status(a.s);
	stream_close(a.s, NULL);
	if (is == 200)
		close(site_accept(app));
	UNTIL(!site.relay_count);
	return is;
}

/* ------------------------------------------------------------------ tests */

static void test_statuses(void **state)
{
	static const char others[] = "{from: [{source: {principals: [cluster.local/ns/shop/sa/other]}}]}",
			  mine[] = "{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]}";
	static const struct {
		const char *authority;
		int status;
	} rows[] = {
		{"10.1.0.2:8080", 200}, {"10.1.0.2:8081", 503},	 {"10.1.0.1:8080", 400}, {"127.0.0.1:8080", 400},
		{"app.shop:8080", 400}, {"10.1.0.2", 400},	 {"10.1.0.2:0", 400},	 {"10.1.0.2:15001", 503},
		{"10.1.0.2:15006", 503}, {"10.1.0.2:15008", 503},
	};
	static struct node n;

	node_begin(&n);
	for (unsigned i = 0; i < array_size(rows); i++)
		if (status(&n, rows[i].authority) != rows[i].status)
			fail_msg("%s is not answered %d", rows[i].authority, rows[i].status);
	site_policy("ALLOW", others);
	assert_int_equal(status(&n, "10.1.0.2:8080"), 401);
	assert_int_equal(status(&n, "10.1.0.2:15001"), 503);
	site_policy("ALLOW", mine);
	assert_int_equal(status(&n, "10.1.0.2:8080"), 200);
	site_policy("DENY", mine);
	assert_int_equal(status(&n, "10.1.0.2:8080"), 401);
	assert_false(n.closed);
	node_end(&n);
}

/* The app sees who it is. */
static void test_the_source(void **state)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);
	static struct asked a;
	static struct node n;
	int fd;

	node_begin(&n);
	ask(&n, &a, "10.1.0.2:8080");
	fd = site_accept(app);
	UNTIL(a.open);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&in, &len), 0);
	assert_int_equal(ntohl(in.sin_addr.s_addr), FROM);
	stream_close(a.s, NULL);
	close(fd);
	UNTIL(!site.relay_count);
	node_end(&n);
}

static void account(const char *name, const char *label)
{
	site_yaml("apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: app, labels: {app: %s}}\n"
		  "spec: {nodeName: node1, serviceAccountName: %s}\n"
		  "status: {phase: Running, podIP: 10.1.0.2}\n",
		  label, name);
	carriers_view_changed(&site);
}

/* The pod is somebody else: what was proved as whom it was ends, also in the handshake. */
static void test_another_account(void **state)
{
	static struct asked a;
	static struct node n, late;
	int fd;

	account("app", "app");
	fd = dialled(FROM);
	node_begin(&n);
	ask(&n, &a, "10.1.0.2:8080");
	UNTIL(a.open);
	assert_int_equal(site.handshakes.count, 1);
	account("app", "other");
	rest();
	assert_false(n.closed || a.failed);
	account("db", "other");
	UNTIL(n.closed && a.failed);
	assert_int_equal(site.handshakes.count, 0);
	stream_close(a.s, NULL);
	node_speak(&late, fd);
	UNTIL(late.failed);
	assert_null(late.hbone);
	UNTIL(!site.relay_count);
}

/* As with Gateways: who comes in great number pushes out himself. */
static void test_handshakes_without_end(void **state)
{
	int early = dialled(FROM);
	static struct node n, next;
	struct raw many[32];

	UNTIL(site.handshakes.count == 1);
	for (unsigned i = 0; i < array_size(many); i++) {
		many[i] = raw_of(dialled(FROM + 1));
		UNTIL(site.accepted == i + 2);
		assert_true(site.handshakes.count <= site.handshakes.most);
	}
	for (unsigned i = 0; i < array_size(many) - (site.handshakes.most - 1); i++)
		UNTIL(raw_over(&many[i]));
	assert_false(raw_over(&many[array_size(many) - 1]));
	node_speak(&n, early);
	UNTIL(n.hbone);
	assert_int_equal(status(&n, "10.1.0.2:8080"), 200);
	node_speak(&next, dialled(FROM + 2));
	UNTIL(next.hbone);
	assert_int_equal(status(&next, "10.1.0.2:8080"), 200);
	for (unsigned i = 0; i < array_size(many); i++)
		raw_close(&many[i]);
	UNTIL(!site.handshakes.count);
	assert_int_equal(site.reasons[ABI_HANDSHAKE_FAILED], array_size(many));
	node_end(&n);
	node_end(&next);
}

/* ------------------------------------------------------------------ */

static void incoming_ready(struct loop_watch *w, uint32_t events)
{
	struct abi_tuple t = {0};
	int fd = sock_accept(w->fd, &t.src, &t.src_port);

	assert_true(fd >= 0);
	site.accepted++;
	inbound_hbone(&site, view_pod(view, POD), fd, &t);
}

static int each_setup(void **state)
{
	int r = site_begin(NULL);

	pki_now = NOON;
	fake_begin(&fake);
	site.certs = certs_new(loop, &fake.source, TD, pki_clock);
	certs_need(site.certs, APP);
	certs_need(site.certs, ME);
	rest();
	app = site_listen("10.1.0.2", PORT);
	incoming = (struct loop_watch){
		.fd = site_listen("10.1.0.2", HBONE_PORT), .events = EPOLLIN, .ready = incoming_ready};
	assert_int_equal(loop_watch(loop, &incoming), 0);
	site.handshakes.from = carrier_shakes_from;
	return r;
}

static void relay_over(struct list *l, void *arg)
{
	relay_close(container_of(l, struct relay, link), ABI_RESET, "the test is over");
}

static void clear(void)
{
	loop_unwatch(loop, &incoming);
	close(incoming.fd);
	list_visit(&site.relays, relay_over, NULL);
	carriers_end(&site, 0, "the test is over");
	rest();
	close(app);
	certs_release(site.certs, APP);
	certs_release(site.certs, ME);
	certs_free(site.certs);
}

static int each_teardown(void **state)
{
	return site_end(clear);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_statuses),
		SITE_TEST(test_the_source),
		SITE_TEST(test_another_account),
		SITE_TEST(test_handshakes_without_end),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
