// SPDX-License-Identifier: Apache-2.0
/* One request at a time, from a client's connection to an endpoint's: where it goes, who else is asked, how it ends. */
#include "exchanges.h"

static const char world[] =
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
	"spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80, targetPort: 8080}]}\n"
	"---\n"
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: two}\n"
	"spec: {clusterIPs: [None], ports: [{name: http, port: 80, targetPort: 8080}]}\n"
	"---\n"
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: none}\n"
	"spec: {clusterIPs: [None], ports: [{name: http, port: 80, targetPort: 8080}]}\n"
	"---\n"
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: app}\n"
	"spec: {clusterIPs: [None], selector: {app: app}, ports: [{name: http, port: 80, targetPort: 8080}]}\n"
	"---\n"
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
	"metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\n"
	"endpoints: [{addresses: [10.3.0.1]}]\nports: [{name: http, port: 8080}]\n"
	"---\n"
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
	"metadata: {namespace: shop, name: two-1, labels: {kubernetes.io/service-name: two}}\naddressType: IPv4\n"
	"endpoints: [{addresses: [10.3.0.1]}, {addresses: [10.3.0.2]}]\nports: [{name: http, port: 8080}]\n"
	"---\n"
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
	"metadata: {namespace: shop, name: app-1, labels: {kubernetes.io/service-name: app}}\naddressType: IPv4\n"
	"endpoints: [{addresses: [10.1.0.2]}]\nports: [{name: http, port: 8080}]\n"
	"---\n"
	"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: web}\n"
	"spec:\n"
	"  parentRefs: [{group: '', kind: Service, name: web}]\n"
	"  rules:\n"
	"  - {matches: [{path: {value: /two}}], backendRefs: [{name: two, port: 80}]}\n"
	"  - {matches: [{path: {value: /app}}], backendRefs: [{name: app, port: 80}]}\n"
	"  - {matches: [{path: {value: /none}}], backendRefs: [{name: none, port: 80}]}\n"
	"  - {matches: [{path: {value: /bad}}], backendRefs: [{name: nobody, port: 80}]}\n"
	"  - {matches: [{path: {value: /zero}}], backendRefs: [{name: web, port: 80, weight: 0}]}\n"
	"  - {matches: [{path: {value: /late}}], backendRefs: [{name: web, port: 80}], timeouts: {request: 150ms}}\n"
	"  - {matches: [{path: {value: /try}}], backendRefs: [{name: web, port: 80}],\n"
	"     timeouts: {request: 5s, backendRequest: 150ms}}\n"
	"  - {matches: [{path: {value: /a}}], backendRefs: [{name: web, port: 80}]}\n";

/* Nothing of it is left: no exchange, no load. */
static void over(struct raw *r)
{
	exchanges_over(r);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const names[] = {"web", "two", "app"};
		const struct view_service *s =
			view_backend(view, &(struct route_target){.namespace = "shop",
								  .service = names[i],
								  .port = 80,
								  .hash = route_target_hash("shop", names[i], 80)});

		for (unsigned k = 0; s && k < s->endpoints; k++)
			assert_int_equal(s->endpoint[k].load->active, 0);
	}
}

/* ------------------------------------------------------------------ where it goes */

static void test_routed(void **state)
{
	struct raw c = client(), e, other;

	raw_say(&c, GET("/a/./b?c=d"));
	e = endpoint(listening);
	HEARS(&e, "GET /a/b?c=d HTTP/1.1\r\n");
	HEARS(&e, "x-request-id: ");
	raw_say(&e, OK("2") "ok");
	HEARS(&c, "\r\n\r\nok");
	/* the next one, by the same connection */
	raw_say(&c, POST("/a", "3") "abc");
	HEARS(&e, "\r\n\r\nabc");
	raw_say(&e, "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n"
		    "2\r\nxy\r\n0\r\nX-T: t\r\n\r\n");
	HEARS(&c, "HTTP/1.1 103 ");
	HEARS(&c, "HTTP/1.1 201 Made");
	HEARS(&c, "X-T: t\r\n\r\n");
	assert_true(accept4(listening, NULL, NULL, SOCK_CLOEXEC) < 0);
	/* to the pod of this node, which sees the client's own address */
	close(listening);
	listening = site_listen("10.1.0.2", PORT);
	raw_say(&c, GET("/app"));
	other = endpoint(listening);
	HEARS(&other, "GET /app ");
	raw_say(&other, OK("0"));
	HEARS(&c, "HTTP/1.1 200 OK\r\nContent-Length: 0");
	raw_close(&other);
	raw_close(&e);
	over(&c);
}

static void test_own_answers(void **state)
{
	static const struct {
		const char *request, *answer;
		enum abi_reason reason;
	} rows[] = {
		{GET("/other"), "HTTP/1.1 404 ", ABI_NO_ROUTE},
		{GET("/none"), "HTTP/1.1 503 ", ABI_NO_ENDPOINT},
		{GET("/bad"), "HTTP/1.1 500 ", ABI_BAD_BACKEND},
		{GET("/zero"), "HTTP/1.1 500 ", ABI_BAD_BACKEND},
		{GET("/a%2fb"), "HTTP/1.1 400 ", ABI_MALFORMED},
		{"HEAD /other HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 404 ", ABI_NO_ROUTE},
		{"POST /x.Y/Z HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
		 "grpc-status: 12\r\n", ABI_NO_ROUTE},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		uint64_t before = site.reasons[rows[i].reason];
		struct raw c = client();

		raw_say(&c, rows[i].request);
		HEARS(&c, rows[i].answer);
		HEARS(&c, "\r\n\r\n");
		if (counted(rows[i].reason) != before + 1)
			fail_msg("row %zu: %s", i, c.text);
		over(&c);
	}
	assert_true(accept4(listening, NULL, NULL, SOCK_CLOEXEC) < 0);
}

/* An answer of weft's own to a body that is not all there, or is none: it is said that nothing can follow. */
static void test_own_answers_to_bodies(void **state)
{
#define CHUNKED "POST /other HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	static const struct {
		const char *request, *more;
		bool ends, fin;
	} rows[] = {
		{POST("/other", "3") "ab", "c", false, false},
		{POST("/other", "100000") "ab", "", true, false},
		{CHUNKED "2\r\nab\r\n0\r\n\r\n", "", false, false},
		{CHUNKED "2\r\nab\r\n", "0\r\n\r\n", true, false},
		{CHUNKED "2\r\nab\r\n0\r\nX", ": y\r\n\r\n", false, false},
		{CHUNKED "what\r\n", "", true, false},
		{CHUNKED "2\r\nab\r\n", "", true, true},
		{POST("/other", "3") "ab", "", true, true},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		struct raw c = client();

		raw_say(&c, rows[i].request);
		if (rows[i].fin)
			shutdown(c.fd, SHUT_WR);
		if (!rows[i].ends) {
			HEARS(&c, "HTTP/1.1 404 ");
			raw_say(&c, rows[i].more);
			raw_say(&c, GET("/none"));
			HEARS(&c, "HTTP/1.1 503 ");
			assert_null(strstr(c.text, "onnection: close"));
		} else {
			raw_say(&c, rows[i].more);
			UNTIL(raw_over(&c));
			if (!rows[i].fin)
				assert_non_null(strstr(c.text, "onnection: close\r\n"));
		}
		over(&c);
	}
}

/* The line has what the client has: a status of its own is in no answer to gRPC. */
static void test_log_of_grpc(void **state)
{
	struct raw c = client();
	char line[4096] = "";
	int to[2], before = dup(STDERR_FILENO);

	assert_int_equal(pipe2(to, O_CLOEXEC | O_NONBLOCK), 0);
	dup2(to[1], STDERR_FILENO);
	log_open("test", false, LOG_INFO);
	raw_say(&c, "POST /x.Y/Z HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n");
	UNTIL(read(to[0], line, sizeof(line) - 1) > 0);
	dup2(before, STDERR_FILENO);
	log_open("test", false, LOG_ERROR);
	HEARS(&c, "HTTP/1.1 200 ");
	assert_non_null(strstr(line, " status=200 grpc_status=12 reason=no_route "));
	close(before);
	close(to[0]);
	close(to[1]);
	over(&c);
}

/* A pod of this node is asked for its policy, request by request. */
static void test_judged(void **state)
{
	int app = site_listen("10.1.0.2", PORT);
	struct raw c = client(), e;

	site_policy("ALLOW", "{to: [{operation: {methods: [GET]}}]}");
	raw_say(&c, GET("/app"));
	e = endpoint(app);
	HEARS(&e, "GET /app ");
	raw_say(&e, OK("1") "1");
	HEARS(&c, "\r\n\r\n1");
	raw_say(&c, POST("/app", "0"));
	HEARS(&c, "HTTP/1.1 403 ");
	assert_false(raw_heard(&e, "POST"));
	raw_say(&c, GET("/app"));
	UNTIL(raw_count(&e, "GET /app ") == 2);
	site_policy("DENY", "{to: [{operation: {paths: [/app]}}]}"); /* what is under way goes on */
	raw_say(&e, OK("1") "2");
	HEARS(&c, "\r\n\r\n2");
	raw_forget(&c);
	raw_say(&c, GET("/app"));
	HEARS(&c, "HTTP/1.1 403 ");
	assert_int_equal(counted(ABI_DENIED), 1);
	raw_close(&e);
	close(app);
	over(&c);
}

/* ------------------------------------------------------------------ who else is asked */

/* One of two refuses: the other one is asked, whatever the method; both: 503. */
static void test_another(void **state)
{
	for (int n = 0; n < 8; n++) {
		struct raw c = client(), e;

		raw_say(&c, n % 2 ? POST("/two", "1") "x" : GET("/two"));
		e = endpoint(listening); /* nobody listens at 10.3.0.2 */
		HEARS(&e, "\r\n\r\n");
		raw_say(&e, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1");
		HEARS(&c, "HTTP/1.1 200 ");
		raw_close(&e);
		over(&c);
	}
}

static void test_nobody(void **state)
{
	struct raw c = client();

	close(listening);
	raw_say(&c, GET("/two"));
	HEARS(&c, "HTTP/1.1 503 ");
	HEARS(&c, "unreachable");
	listening = site_listen("10.3.0.1", PORT);
	over(&c);
}

/* No file descriptor is to be had in the pod: the request is refused, and the next one is served. */
static void test_no_socket(void **state)
{
	struct raw c = client(), e;

	site_socket_error = -EMFILE;
	raw_say(&c, GET("/a"));
	HEARS(&c, "HTTP/1.1 503 ");
	for (unsigned i = 0; i < PICK_SLOTS; i++) /* which is no word against the endpoint */
		assert_false(site.pick.slot[i].until_ns);
	site_socket_error = 0;
	raw_say(&c, GET("/a"));
	e = endpoint(listening);
	HEARS(&e, "GET /a ");
	raw_say(&e, OK("0"));
	HEARS(&c, "HTTP/1.1 200 ");
	raw_close(&e);
	over(&c);
}

static int held(void)
{
	int all = 0;

	for (unsigned i = 0; i < SHARES_COLUMNS; i++)
		all += thread->shares.held[0][i];
	return all;
}

/*
 * A connection of HTTP/2 asks a hundred times at once, each time by a file that is its own: they count for who asks.
 * The first of them is what its own connection stands for, as in a relay.
 */
static void test_files_of_one_client(void **state)
{
	struct far c;
	struct raw e[3];
	struct talk *t[3];

	far_begin(&c, client_fd(true), false, true);
	for (int i = 0; i < 3; i++) {
		t[i] = far_ask(&c, HTTP_GET, "GET", "/a", NULL, NULL);
		e[i] = endpoint(listening);
		HEARS(&e[i], "GET /a ");
		assert_int_equal(held(), i);
	}
	raw_say(&e[1], OK("1") "1");
	UNTIL(t[1]->ended && held() == 1);
	raw_close(&e[2]); /* it is answered 502 */
	UNTIL(t[2]->ended && held() == 0);
	raw_say(&e[0], OK("1") "1");
	UNTIL(t[0]->ended);
	far_end(&c);
	UNTIL(!serve.http && list_empty(&serve.exchanges));
	raw_close(&e[0]);
	raw_close(&e[1]);
}

/* Its Service is gone, and may be back under another number: who asks again by a new connection is told the truth. */
static void test_service_gone(void **state)
{
	struct raw c = client();
	struct talk *t;
	struct far f;

	serve.caller.service = 4711;
	raw_say(&c, GET("/a") GET("/a"));
	HEARS(&c, "HTTP/1.1 503 ");
	HEARS(&c, "no_service_port");
	UNTIL(raw_over(&c));
	assert_non_null(strstr(c.text, "onnection: close\r\n"));
	assert_int_equal(counted(ABI_NO_SERVICE_PORT), 1);
	over(&c);

	far_begin(&f, client_fd(true), false, true);
	serve.caller.service = 4711;
	t = far_ask(&f, HTTP_GET, "GET", "/a", NULL, NULL);
	UNTIL(t->ended && !serve.http);
	far_end(&f);
}

/* A policy refuses who asks: others of this node, who may, are not to avoid the endpoint for it. */
static void test_refused(void **state)
{
	struct raw c = client();

	site_policy("DENY", "{from: [{source: {principals: ['*']}}]}");
	raw_say(&c, GET("/app"));
	HEARS(&c, "HTTP/1.1 403 ");
	assert_int_equal(counted(ABI_DENIED), 1);
	for (unsigned i = 0; i < PICK_SLOTS; i++)
		assert_false(site.pick.slot[i].until_ns);
	over(&c);
}

/* An idle connection that its server was just closing: asked again if that does no harm. */
static void test_stale(void **state)
{
	for (int post = 0; post < 2; post++) {
		struct raw c = client(), e, next;

		raw_say(&c, GET("/a"));
		e = endpoint(listening);
		HEARS(&e, "GET /a ");
		raw_say(&e, OK("1") "1");
		HEARS(&c, "\r\n\r\n1");
		raw_say(&c, post ? POST("/a", "1") "x" : GET("/a/2"));
		if (post)
			HEARS(&e, "POST /a ");
		else
			HEARS(&e, "GET /a/2 ");
		raw_reset(&e);
		if (post) { /* it may have been acted on */
			HEARS(&c, "HTTP/1.1 502 ");
			assert_true(accept4(listening, NULL, NULL, SOCK_CLOEXEC) < 0);
		} else {
			next = endpoint(listening);
			HEARS(&next, "GET /a/2 ");
			raw_say(&next, OK("1") "2");
			HEARS(&c, "\r\n\r\n2");
			raw_close(&next);
		}
		over(&c);
	}
}

/* Who has begun to answer has acted, by an old connection too: nobody else is asked, no client hears 1xx twice. */
static void test_begun(void **state)
{
	struct raw c = client(), e;

	raw_say(&c, GET("/a"));
	e = endpoint(listening);
	HEARS(&e, "GET /a ");
	raw_say(&e, OK("1") "1");
	HEARS(&c, "\r\n\r\n1");
	raw_say(&c, GET("/a/2"));
	HEARS(&e, "GET /a/2 ");
	raw_say(&e, "HTTP/1.1 102 Processing\r\n\r\n");
	HEARS(&c, "HTTP/1.1 102 ");
	raw_reset(&e);
	HEARS(&c, "HTTP/1.1 502 ");
	assert_true(accept4(listening, NULL, NULL, SOCK_CLOEXEC) < 0);
	over(&c);
}

/* ------------------------------------------------------------------ time */

static void test_timeouts(void **state)
{
	static const struct {
		const char *request, *answer;
		bool cut;
	} rows[] = {
		{GET("/late"), "", false},			       /* nothing comes back */
		{GET("/try"), "", false},
		{GET("/late"), "HTTP/1.1 103 Early\r\n\r\n", false},
		{GET("/late"), OK("10") "01234", true},		       /* the answer has begun */
		{GET("/try"), OK("10") "01234", true},
		{POST("/late", "10") "01234", "", false},	       /* the request is not complete */
		{POST("/try", "10") "01234", "", false},
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		uint64_t before = counted(ABI_TIMEOUT);
		struct raw c = client(), e;

		raw_say(&c, rows[i].request);
		e = endpoint(listening);
		HEARS(&e, "\r\n\r\n");
		raw_say(&e, rows[i].answer);
		if (rows[i].cut) {
			HEARS(&c, "01234");
			UNTIL(raw_over(&c));
			assert_null(strstr(c.text, "504"));
		} else {
			HEARS(&c, "HTTP/1.1 504 ");
			HEARS(&c, "timeout");
		}
		UNTIL(raw_over(&e));
		assert_int_equal(counted(ABI_TIMEOUT), before + 1);
		raw_close(&e);
		over(&c);
	}
}

static void test_timeout_of_grpc(void **state)
{
	struct raw c = client(), e;

	raw_say(&c, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTE: trailers\r\n"
		    "grpc-timeout: 150m\r\nContent-Length: 0\r\n\r\n");
	e = endpoint(listening);
	HEARS(&e, "grpc-timeout: ");
	HEARS(&c, "grpc-status: 4\r\n");
	raw_close(&e);
	over(&c);
}

/* ------------------------------------------------------------------ how it ends */

static void test_early_answer(void **state)
{
	struct raw c = client(), e;

	raw_say(&c, POST("/a", "10") "01234");
	e = endpoint(listening);
	HEARS(&e, "01234");
	raw_say(&e, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
	HEARS(&c, "\r\n\r\nbig");
	raw_say(&c, "56789" GET("/a"));
	HEARS(&e, "0123456789GET /a ");
	raw_say(&e, OK("0"));
	HEARS(&c, "HTTP/1.1 200 ");
	/* and closes behind it */
	raw_say(&c, POST("/a", "10") "01234");
	UNTIL(raw_count(&e, "01234") == 2);
	raw_say(&e, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nBIG");
	raw_close(&e);
	HEARS(&c, "\r\n\r\nBIG");
	UNTIL(list_empty(&serve.exchanges));
	assert_null(strstr(c.text, "502"));
	over(&c);
}

enum life { WAITS, IN_REQUEST, IN_ANSWER, LIVES };

static void live(enum life life, struct raw *c, struct raw *e)
{
	*c = client();
	raw_say(c, life == IN_REQUEST ? POST("/a", "10") "01234" : GET("/a"));
	*e = endpoint(listening);
	if (life == IN_REQUEST)
		HEARS(e, "01234");
	else
		HEARS(e, "GET /a ");
	if (life == IN_ANSWER) {
		raw_say(e, OK("10") "01234");
		HEARS(c, "01234");
	}
}

/* Each side goes, by an end or a reset, at each moment: the other one hears of it, and nothing looks complete. */
static void test_goes(void **state)
{
	for (int n = 0; n < 4 * LIVES; n++) {
		bool by_reset = n & 1, by_client = n & 2;
		enum life life = n / 4;
		struct raw c, e;

		live(life, &c, &e);
		if (by_client && by_reset)
			raw_reset(&c);
		else if (by_client && life != IN_REQUEST)
			raw_reset(&c); /* an end alone is half of one: the answer is still wanted */
		else if (by_client)
			raw_close(&c);
		else if (by_reset)
			raw_reset(&e);
		else
			raw_close(&e);
		if (by_client)
			UNTIL(raw_over(&e));
		else if (life == IN_ANSWER)
			UNTIL(raw_over(&c));
		else
			HEARS(&c, "HTTP/1.1 502 ");
		if (by_client && life == IN_REQUEST)
			assert_true(e.reset);
		UNTIL(list_empty(&serve.exchanges));
		if (by_client)
			raw_close(&e);
		over(&c);
	}
}

static void test_half_close(void **state)
{
	struct raw c, e;

	live(WAITS, &c, &e);
	assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
	rest();
	raw_say(&e, OK("2") "ok");
	HEARS(&c, "\r\n\r\nok");
	UNTIL(raw_over(&c));
	assert_true(c.ended);
	raw_close(&e);
	over(&c);
}

static void test_ended(void **state)
{
	for (int life = 0; life < LIVES; life++) {
		struct raw c, e;

		live(life, &c, &e);
		exchanges_end(&serve.exchanges, ABI_POD_GONE, "the pod has gone");
		assert_true(list_empty(&serve.exchanges));
		UNTIL(raw_over(&c) && raw_over(&e));
		raw_close(&e);
		over(&c);
	}
}

/* An answer that is none. */
static void test_bad_answers(void **state)
{
	static const char *const said[] = {
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfree",
		"garbage\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n",
	};

	for (size_t i = 0; i < array_size(said); i++) {
		struct raw c, e;

		live(WAITS, &c, &e);
		raw_say(&e, said[i]);
		HEARS(&c, "HTTP/1.1 502 ");
		assert_null(strstr(c.text, "free"));
		UNTIL(raw_over(&e));
		raw_close(&e);
		over(&c);
	}
}

/* Streams of one client: each goes where its route says, and one that is reset is its own business. */
static void test_streams(void **state)
{
	struct talk *a, *b, *d;
	struct far c, e;

	site_yaml("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80, targetPort: 8080, "
		  "appProtocol: kubernetes.io/h2c}]}\n");
	far_begin(&c, client_fd(true), false, true);
	a = far_ask(&c, HTTP_GET, "GET", "/a", NULL, NULL);
	far_begin(&e, site_accept(listening), true, true);
	UNTIL(e.talks == 1);
	b = far_ask(&c, HTTP_POST, "POST", "/a/b", NULL, "body");
	d = far_ask(&c, HTTP_GET, "GET", "/other", NULL, NULL);
	UNTIL(e.talks == 2 && e.talk[1].ended && d->status == 404);
	assert_string_equal(e.talk[0].line, "GET web.example /a");
	assert_string_equal(e.talk[1].body, "body");
	e.talk[0].x->error = 8; /* CANCEL */
	talk_close(&e.talk[0], "the endpoint does not want it");
	UNTIL(a->failed || a->ended);
	talk_answer(&e.talk[1], 200, "b");
	UNTIL(b->ended);
	assert_string_equal(b->body, "b");
	b = far_ask(&c, HTTP_POST, "POST", "/a/c", NULL, "");
	UNTIL(e.talks == 3);
	b->x->error = 8;
	talk_close(b, "the client does not want it");
	UNTIL(e.talk[2].failed);
	far_end(&c);
	UNTIL(!serve.http && list_empty(&serve.exchanges));
	far_end(&e);
}

/* Large heads that wait for their answers are not held. */
static void test_large_heads(void **state)
{
	char *value = malloc(30001), *field;
	struct far c, e;
	size_t before;

	memset(value, 'a', 30000);
	value[30000] = '\0';
	field = mem_format("x-large: %s", value);
	site_yaml("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\n"
		  "spec: {clusterIPs: [10.96.0.1], ports: [{name: http, port: 80, targetPort: 8080, "
		  "appProtocol: kubernetes.io/h2c}]}\n");
	far_begin(&c, client_fd(true), false, true);
	(void)far_ask(&c, HTTP_GET, "GET", "/a", NULL, NULL);
	far_begin(&e, site_accept(listening), true, true);
	UNTIL(e.talks == 1);
	before = __sanitizer_get_current_allocated_bytes();
	for (unsigned i = 0; i < 90; i++)
		(void)far_ask(&c, HTTP_GET, "GET", "/a", field, NULL);
	UNTIL(e.talks == 91);
	rest();
	assert_true(__sanitizer_get_current_allocated_bytes() - before < 1 << 20);
	far_end(&c);
	UNTIL(!serve.http && list_empty(&serve.exchanges));
	far_end(&e);
	free(field);
	free(value);
}

static int each_setup(void **state)
{
	return exchanges_begin(world);
}

static int each_teardown(void **state)
{
	return site_end(exchanges_clear);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SITE_TEST(test_routed),
		SITE_TEST(test_own_answers),
		SITE_TEST(test_own_answers_to_bodies),
		SITE_TEST(test_log_of_grpc),
		SITE_TEST(test_judged),
		SITE_TEST(test_another),
		SITE_TEST(test_nobody),
		SITE_TEST(test_no_socket),
		SITE_TEST(test_service_gone),
		SITE_TEST(test_refused),
		SITE_TEST(test_files_of_one_client),
		SITE_TEST(test_stale),
		SITE_TEST(test_begun),
		SITE_TEST(test_timeouts),
		SITE_TEST(test_timeout_of_grpc),
		SITE_TEST(test_early_answer),
		SITE_TEST(test_goes),
		SITE_TEST(test_half_close),
		SITE_TEST(test_ended),
		SITE_TEST(test_bad_answers),
		SITE_TEST(test_streams),
		SITE_TEST(test_large_heads),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
