// SPDX-License-Identifier: Apache-2.0
/* Clients from outside at the listeners of a Gateway: who asks is served, who asks for nothing has little time. */
#include <sys/resource.h>

#include "front.h"
#include "pki.h"
#include "serves.h"

#define OK(body) "HTTP/1.1 200 OK\r\nContent-Length: " body "\r\n\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: a.example\r\n\r\n"
#define PLAIN 8880
#define SECURE 8843

static int backend; /* listens */
static const struct view_pod *gate;

static void objects(void)
{
	site_yaml("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80, targetPort: 8080}]}\n"
		  "---\n"
		  "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
		  "metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}\n"
		  "addressType: IPv4\nendpoints: [{addresses: [10.3.0.1]}]\nports: [{name: http, port: 8080}]\n"
		  "---\n"
		  "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {namespace: shop, name: edge}\n"
		  "spec: {gatewayClassName: weft, listeners: [{name: http, port: %d, protocol: HTTP},\n"
		  "  {name: https, port: %d, protocol: HTTPS, tls: {certificateRefs: [{name: s}]}}]}\n"
		  "---\n"
		  "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}\n",
		  PLAIN, SECURE);
}

/* What the control thread does when it has read the Secret. */
static void certify(void)
{
	struct ca_pair root = pki_root("root"), leaf;
	int64_t now = clock_wall() / 1000;
	struct front_pair pair = {.name = "shop/s"};
	struct front_listener l = {.number = 1, .hostname = "", .pair = &pair, .pairs = 1};
	struct gateway_port *port = (struct gateway_port *)gateway_port(gate->gateway, SECURE);

	leaf = pki_leaf(&root, "DNS:a.example", "serverAuth", now - HOUR, now + HOUR);
	pair.certificate = x509_text(&leaf.cert, 1);
	pair.key = x509_key_text(leaf.key);
	assert_int_equal(front_rotate(), 0);
	port->tls = front_new(&l, 1);
	port->tls_free = front_free;
	assert_non_null(port->tls);
	x509_wipe((char *)pair.certificate);
	x509_wipe((char *)pair.key);
	pki_free(&leaf);
	pki_free(&root);
}

static int dialled_from(uint32_t source, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x0a090001)};
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static int dialled(uint16_t port)
{
	return dialled_from(INADDR_ANY, port);
}

static struct serve *first(void)
{
	UNTIL(!list_empty(&site.serves));
	return container_of(site.serves.next, struct serve, link);
}

/* It may be silent until then; and the time is up. */
static void time_is_up(void)
{
	struct serve *v = first();

	assert_true(v->late.armed);
	assert_true(v->late.due_ns <= v->caller.opened_ns + SERVE_FIRST_NS + 1000 * MS);
	v->late.due(&v->late);
}

static void answers(struct raw *s)
{
	HEARS(s, "GET /a ");
	raw_say(s, OK("2") "ok");
}

static void over(void)
{
	UNTIL(!site.relay_count);
	rest();
}

/* ------------------------------------------------------------------ without TLS */

static void test_plain(void **state)
{
	struct raw c = raw_of(dialled(PLAIN)), s;

	raw_say(&c, GET("/a"));
	s = raw_of(site_accept(backend));
	answers(&s);
	HEARS(&c, "\r\n\r\nok");
	assert_true(raw_heard(&s, "x-forwarded-proto: http\r\n"));
	time_is_up(); /* of who has asked nothing happens then */
	UNTIL(site.rest_count == 1);
	assert_false(raw_over(&c));
	raw_close(&c);
	raw_close(&s);
	over();
}

/* What was dialled says it, whatever the client writes. */
static void test_scheme(void **state)
{
	struct talk *t;
	struct far f, s;

	far_begin(&f, dialled(PLAIN), false, true);
	far_scheme = "https";
	t = far_ask(&f, HTTP_POST, "POST", "/a.B/C", "content-type: application/grpc", NULL);
	far_scheme = "http";
	far_begin(&s, site_accept(backend), true, true);
	UNTIL(s.talks == 1);
	assert_string_equal(s.talk[0].scheme, "http");
	talk_answer(&s.talk[0], 200, "ok");
	UNTIL(t->ended);
	far_end(&f);
	over();
	far_end(&s);
}

static void test_plain_silence(void **state)
{
	struct raw c = raw_of(dialled(PLAIN));

	time_is_up();
	UNTIL(raw_over(&c));
	assert_true(c.ended);
	raw_close(&c);
	over();
}

/* It has said that it speaks HTTP/2, and nothing else. */
static void test_http2_silence(void **state)
{
	struct talk *t;
	struct far f, s;

	far_begin(&f, dialled(PLAIN), false, true);
	UNTIL(first()->state == SERVE_HTTP);
	time_is_up();
	UNTIL(f.closed);
	assert_null(f.why);
	far_end(&f);
	over();
	far_begin(&f, dialled(PLAIN), false, true);
	UNTIL(first()->state == SERVE_HTTP);
	t = far_ask(&f, HTTP_GET, "GET", "/a", NULL, NULL);
	far_begin(&s, site_accept(backend), true, false);
	UNTIL(s.talks == 1);
	time_is_up();
	rest();
	assert_false(f.draining);
	talk_answer(&s.talk[0], 200, "ok");
	UNTIL(t->ended);
	assert_string_equal(t->body, "ok");
	far_end(&f);
	over();
	far_end(&s);
}

/* ------------------------------------------------------------------ TLS */

/* The far end of a handshake that is done: HTTP/1.1. */
static SSL *shaken_on(int fd)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	SSL_set_tlsext_host_name(ssl, "a.example");
	SSL_set_alpn_protos(ssl, (const uint8_t *)"\x08http/1.1", 9);
	SSL_set_fd(ssl, fd);
	UNTIL(SSL_connect(ssl) == 1);
	SSL_CTX_free(ctx);
	return ssl;
}

static SSL *shaken(void)
{
	SSL *ssl = shaken_on(dialled(SECURE));

	UNTIL(first()->state == SERVE_HTTP);
	return ssl;
}

static void hang_up(SSL *ssl)
{
	close(SSL_get_fd(ssl));
	SSL_free(ssl);
	ERR_clear_error();
}

/* >0: bytes; 0: the end in order; <0: nothing yet, or a cut */
static int heard(SSL *ssl, char buf[1024])
{
	int n = SSL_read(ssl, buf, 1023);

	buf[n > 0 ? n : 0] = '\0';
	return n > 0 ? n : SSL_get_error(ssl, n) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static void test_secure_silence(void **state)
{
	uint64_t until = clock_ns() + 2200 * MS;
	char buf[1024];
	SSL *ssl = shaken();

	while (clock_ns() < until)
		turn(MS);
	assert_int_equal(site.rest_count, 0); /* else nobody would know that it has asked for nothing yet */
	time_is_up();
	UNTIL(heard(ssl, buf) == 0);
	hang_up(ssl);
	over();
}

/* A head that is under way at that moment is served. */
static void test_secure(void **state)
{
	static const char half[] = "GET /a HTTP/1.1\r\nHost: a.exa", rest_of_it[] = "mple\r\n\r\n";
	char buf[1024];
	SSL *ssl = shaken();
	struct raw s;

	UNTIL(SSL_write(ssl, half, sizeof(half) - 1) > 0);
	rest();
	time_is_up();
	rest();
	UNTIL(SSL_write(ssl, rest_of_it, sizeof(rest_of_it) - 1) > 0);
	s = raw_of(site_accept(backend));
	answers(&s);
	UNTIL(heard(ssl, buf) > 0);
	assert_non_null(strstr(buf, "200 OK"));
	assert_true(raw_heard(&s, "x-forwarded-proto: https\r\n"));
	hang_up(ssl);
	raw_close(&s);
	over();
}

/* Who comes in great number and says nothing pushes out himself; who has come before and after him is served. */
static void test_handshakes_without_end(void **state)
{
	unsigned most = site.edge_handshakes.most;
	int early = dialled_from(0x0a080001, SECURE);
	struct raw many[32];
	SSL *ssl[2];

	UNTIL(site.edge_handshakes.count == 1);
	for (unsigned i = 0; i < array_size(many); i++) {
		many[i] = raw_of(dialled_from(0x0a080002, SECURE));
		UNTIL(site.accepted == i + 2);
		assert_true(site.edge_handshakes.count <= most);
	}
	for (unsigned i = 0; i < array_size(many) - (most - 1); i++)
		UNTIL(raw_over(&many[i]));
	assert_false(raw_over(&many[array_size(many) - 1]));
	ssl[0] = shaken_on(early);
	ssl[1] = shaken_on(dialled_from(0x0a080003, SECURE));
	UNTIL(site.edge_handshakes.count == most - 1);
	for (unsigned i = 0; i < array_size(many); i++)
		raw_close(&many[i]);
	UNTIL(!site.edge_handshakes.count);
	assert_int_equal(site.relay_count, 2);
	hang_up(ssl[0]);
	hang_up(ssl[1]);
	over();
}

/* Descriptors run out: who holds most of them is reset, others are served. */
static void test_no_room_for_more(void **state)
{
	struct abi_addr many = scene_addr("10.8.0.2");
	uint64_t before = site.reasons[ABI_OVERLOADED];
	struct raw c, s;

	for (unsigned i = 0; i < 200; i++)
		shares_hold(thread, shares_stranger(&many));
	for (unsigned i = 0; i < 5 && site.reasons[ABI_OVERLOADED] == before; i++) { /* unless a turn lasts too long */
		uint64_t accepted = site.accepted;

		c = raw_of(dialled_from(0x0a080002, PLAIN));
		UNTIL((shares_seen(thread, (int)sock_files() - 1), raw_over(&c) || site.accepted > accepted));
		raw_close(&c);
	}
	assert_int_equal(site.reasons[ABI_OVERLOADED], before + 1);
	shares_seen(thread, (int)sock_files() - 1);
	c = raw_of(dialled_from(0x0a080003, PLAIN));
	raw_say(&c, GET("/a"));
	s = raw_of(site_accept(backend));
	answers(&s);
	HEARS(&c, "\r\n\r\nok");
	raw_close(&c);
	raw_close(&s);
	over();
	for (unsigned i = 0; i < 200; i++)
		shares_let_go(thread, shares_stranger(&many));
}

/* ------------------------------------------------------------------ */

static int each_setup(void **state)
{
	struct rlimit files;
	int r = site_begin(exchange_answered);
	struct abi_addr at = scene_addr("10.9.0.1");

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = 1024;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	stalls_start(&site);
	site.edge_handshakes.from = serve_shakes_from;
	list_init(&site.listeners);
	list_init(&site.edges);
	objects();
	list_each(l, &scene.world->gateways)
		gate = view_pod(view, container_of(l, struct world_gateway, link)->netns);
	assert_non_null(gate);
	certify();
	backend = site_listen("10.3.0.1", 8080);
	edge_listen(&site, gate->netns, &at, PLAIN, site_listen("10.9.0.1", PLAIN));
	edge_listen(&site, gate->netns, &at, SECURE, site_listen("10.9.0.1", SECURE));
	return r;
}

static void clear(void)
{
	edge_close(&site, 0, NULL, 0);
	assert_true(list_empty(&site.edges) && list_empty(&site.listeners));
	serves_over();
	close(backend);
}

static int each_teardown(void **state)
{
	return site_end(clear);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_plain),		SITE_TEST(test_scheme), SITE_TEST(test_plain_silence),
		SITE_TEST(test_http2_silence),	SITE_TEST(test_secure_silence), SITE_TEST(test_secure),
		SITE_TEST(test_handshakes_without_end), SITE_TEST(test_no_room_for_more),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
