// SPDX-License-Identifier: Apache-2.0
/* Connections to endpoints: used again, one request each at a time, and ended with what they stand for. */
#include <fcntl.h>
#include <urcu-qsbr.h>

#include "scene.h"

#include "dialer.h"
#include "http_pool.h"

struct asker {
	struct http_pool_wait wait;
	struct http_exchange *x;
	struct http_connection *connection;
	enum abi_reason reason;
	unsigned calls, status;
	bool fresh, failed;
};

static struct scene scene;
static struct view *view;
static struct dialer dialer;
static struct http_pool *pool;
static struct abi_addr server;
static uint16_t port;
static int listening;

static void body_ready(struct stream *s, unsigned events)
{
	struct asker *a = s->owner;

	a->failed = events & STREAM_FAILED;
}

static void answered(struct http_exchange *x, const struct http_head *h)
{
	struct asker *a = x->s.owner;

	a->status = h->status;
}

static void done(struct http_pool_wait *w, struct http_connection *c, bool fresh, enum abi_reason reason,
		 const char *why)
{
	struct asker *a = container_of(w, struct asker, wait);
	const struct http_head head = {.version = HTTP_1_1,
				       .method = HTTP_GET,
				       .method_text = HTTP_TEXT("GET"),
				       .scheme = HTTP_TEXT("http"),
				       .authority = HTTP_TEXT("web"),
				       .path = HTTP_TEXT("/"),
				       .body = HTTP_NO_BODY};

	assert_true(!!c == !reason && !!c == !why);
	a->calls++;
	a->reason = reason;
	a->connection = c;
	a->fresh = fresh;
	if (!c)
		return;
	a->x = http_request(c, &head, true);
	assert_non_null(a->x);
	a->x->s.ready = body_ready;
	a->x->s.owner = a;
}

static void take_by(struct asker *a, uint64_t netns, enum http_version version)
{
	const struct http_pool_key key = {.netns = netns,
					  .client = scene_addr("10.1.0.1"),
					  .server = server,
					  .identity = view_pod(view, netns) ? view_pod(view, netns)->identity : 0,
					  .port = port,
					  .version = version};

	*a = (struct asker){.wait.done = done};
	http_pool_take(pool, &key, &a->wait);
}

static void take(struct asker *a, uint64_t netns)
{
	take_by(a, netns, HTTP_1_1);
}

static int accepted(void)
{
	int fd;

	UNTIL((fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
	return fd;
}

/* A request comes, and is answered. */
static void serve(int fd, struct asker *a)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	char buf[512];

	UNTIL(recv(fd, buf, sizeof(buf), 0) > 0);
	assert_int_equal(send(fd, answer, sizeof(answer) - 1, 0), sizeof(answer) - 1);
	UNTIL(a->status == 200);
}

static void finish(struct asker *a)
{
	struct stream_bytes run[STREAM_RUNS];

	UNTIL(!stream_peek(&a->x->s, run, 1) && a->x->s.ended);
	stream_close(&a->x->s, NULL);
	rest();
}

static void away(int fd)
{
	close(fd);
	UNTIL(!http_pool_count(pool));
}

static void test_used_again(void **state)
{
	struct http_connection *first;
	struct asker a, b, c;
	int fd, other;

	take(&a, 1001);
	fd = accepted();
	serve(fd, &a);
	assert_true(a.fresh);
	first = a.connection;
	finish(&a);
	take(&b, 1001); /* at once */
	assert_int_equal(b.calls, 1);
	assert_ptr_equal(b.connection, first);
	assert_false(b.fresh);
	take(&c, 1001); /* that one is busy */
	other = accepted();
	serve(other, &c);
	assert_ptr_not_equal(c.connection, first);
	assert_int_equal(http_pool_count(pool), 2);
	finish(&c);
	serve(fd, &b);
	finish(&b);
	/* the one used last is used next */
	take(&a, 1001);
	assert_ptr_equal(a.connection, first);
	serve(fd, &a);
	finish(&a);
	close(other);
	away(fd);
}

/* For whom no connection is made gets one that is free. */
static void test_modest(void **state)
{
	struct asker a = {.wait = {.done = done, .modest = true}}, b;
	const struct http_pool_key key = {.netns = 1001,
					  .client = scene_addr("10.1.0.1"),
					  .server = server,
					  .identity = view_pod(view, 1001)->identity,
					  .port = port,
					  .version = HTTP_1_1};
	int fd;

	http_pool_take(pool, &key, &a.wait);
	assert_true(a.calls == 1 && a.reason == ABI_OVERLOADED && !a.connection);
	assert_int_equal(http_pool_count(pool), 0);
	take(&b, 1001);
	fd = accepted();
	serve(fd, &b);
	finish(&b);
	a.calls = 0;
	http_pool_take(pool, &key, &a.wait);
	assert_true(a.calls == 1 && a.connection == b.connection);
	serve(fd, &a);
	finish(&a);
	away(fd);
}

/* Never shared by two pods. */
static void test_two_pods(void **state)
{
	struct asker a, b;
	int fd, other;

	take(&a, 1001);
	fd = accepted();
	serve(fd, &a);
	finish(&a);
	take(&b, 1002);
	other = accepted();
	serve(other, &b);
	assert_ptr_not_equal(a.connection, b.connection);
	finish(&b);
	/* one of them goes: its connection with it, whatever it does */
	take(&a, 1001);
	http_pool_pod_gone(pool, 1001);
	UNTIL(a.failed);
	stream_close(&a.x->s, "test");
	UNTIL(http_pool_count(pool) == 1);
	close(fd);
	away(other);
}

static void test_nobody(void **state)
{
	struct asker a, b;

	take(&a, 1009);
	assert_int_equal(a.reason, ABI_POD_GONE);
	close(listening);
	take(&a, 1001);
	take(&b, 1001);
	UNTIL(a.calls && b.calls);
	assert_int_equal(a.reason, ABI_UNREACHABLE);
	assert_int_equal(b.reason, ABI_UNREACHABLE);
	assert_int_equal(http_pool_count(pool), 0);
	listening = listener(AF_INET, &server, &port, 8);
	assert_int_equal(fcntl(listening, F_SETFL, O_NONBLOCK), 0);
}

/* Who does not wait any more is not called; the connection that he had ordered serves another one. */
static void test_cancelled(void **state)
{
	struct asker a, b;
	int fd;

	take(&a, 1001);
	http_pool_cancel(&a.wait);
	http_pool_cancel(&a.wait);
	take(&b, 1001);
	fd = accepted();
	serve(fd, &b);
	finish(&b);
	assert_int_equal(a.calls, 0);
	away(fd);
}

/* An idle connection that its server closes is not used any more. */
static void test_closed_by_the_server(void **state)
{
	struct asker a, b;
	int fd;

	take(&a, 1001);
	fd = accepted();
	serve(fd, &a);
	finish(&a);
	away(fd);
	take(&b, 1001);
	fd = accepted();
	serve(fd, &b);
	assert_true(b.fresh);
	finish(&b);
	away(fd);
}

/* What is under way goes on, and then it is over; what is idle ends at once. */
static void test_drain(void **state)
{
	struct asker a, b;
	int fd, other;

	take(&a, 1001);
	fd = accepted();
	serve(fd, &a);
	take(&b, 1001);
	other = accepted();
	serve(other, &b);
	finish(&b);
	http_pool_drain(pool);
	UNTIL(http_pool_count(pool) == 1);
	finish(&a);
	UNTIL(!http_pool_count(pool));
	close(other);
	close(fd);
	/* Who comes yet is served, by a connection that ends behind him. */
	take(&a, 1001);
	take(&b, 1001);
	fd = accepted();
	other = accepted();
	serve(fd, &a);
	serve(other, &b);
	finish(&a);
	finish(&b);
	UNTIL(!http_pool_count(pool));
	close(other);
	close(fd);
}

/* The pod is somebody else now: no request of the new one on what the old one has opened. */
static void test_another_identity(void **state)
{
	struct http_pool_key key;
	struct asker a;
	int fd;

	take(&a, 1001);
	fd = accepted();
	serve(fd, &a);
	finish(&a);
	http_pool_view_changed(pool);
	rest();
	assert_int_equal(http_pool_count(pool), 1);
	key = (struct http_pool_key){.netns = 1001,
				     .client = scene_addr("10.1.0.1"),
				     .server = server,
				     .identity = 4711,
				     .port = port,
				     .version = HTTP_1_1};
	a = (struct asker){.wait.done = done};
	http_pool_take(pool, &key, &a.wait);
	close(fd);
	fd = accepted();
	serve(fd, &a);
	http_pool_view_changed(pool); /* nobody has this identity: it ends with its request */
	finish(&a);
	UNTIL(!http_pool_count(pool));
	close(fd);
}

/* SETTINGS of a server of HTTP/2, with the requests that it takes at once. */
static void allow(int fd, uint8_t requests)
{
	const uint8_t text[] = {0, 0, 6, 4, 0, 0, 0, 0, 0, /**/ 0, 3, 0, 0, 0, requests};

	assert_int_equal(send(fd, text, sizeof(text), MSG_NOSIGNAL), sizeof(text));
}

/*
 * A backend that takes no requests for now: they wait on the connection that there is, and not each on one more. They
 * go on when it takes some; where it ends instead they are refused, and the next one asks again.
 */
static void test_shut(void **state)
{
	struct asker a, more[3];
	int fd;

	take_by(&a, 1001, HTTP_2);
	fd = accepted();
	UNTIL(a.calls);
	allow(fd, 0);
	UNTIL(a.connection->shut);
	for (int i = 0; i < 3; i++)
		take_by(&more[i], 1001, HTTP_2);
	rest();
	assert_int_equal(accept4(listening, NULL, NULL, SOCK_CLOEXEC), -1);
	assert_int_equal(http_pool_count(pool), 1);
	assert_int_equal(more[0].calls, 0);
	allow(fd, 3);
	UNTIL(more[1].calls && a.connection->shut == false);
	assert_ptr_equal(more[1].connection, a.connection);
	UNTIL(http_pool_count(pool) == 2); /* the third one is too many for it */
	close(accepted());
	for (int i = 0; i < 3; i++) {
		UNTIL(more[i].calls);
		if (more[i].x)
			stream_close(&more[i].x->s, "test");
	}
	allow(fd, 0);
	UNTIL(a.connection->shut);
	for (int i = 0; i < 2; i++)
		take_by(&more[i], 1001, HTTP_2);
	close(fd);
	for (int i = 0; i < 2; i++) {
		UNTIL(more[i].calls);
		assert_int_equal(more[i].reason, ABI_OVERLOADED);
	}
	UNTIL(a.failed);
	stream_close(&a.x->s, "test");
	UNTIL(!http_pool_count(pool));
	take_by(&a, 1001, HTTP_2);
	fd = accepted();
	UNTIL(a.calls);
	assert_true(a.fresh);
	close(fd);
	UNTIL(a.failed);
	stream_close(&a.x->s, "test");
	UNTIL(!http_pool_count(pool));
}

static void take_in(void)
{
	world_update(scene.world);
	view_gather(view, scene.world);
	list_each_safe(l, next, &scene.world->dirty_pods) {
		struct world_pod *p = container_of(l, struct world_pod, dirty_link);

		p->in_kernel = world_pod_row(p, &p->kernel);
		p->dirty = false;
		list_del(l);
	}
	(void)view_update(view, scene.world);
	rcu_quiescent_state();
}

static int pool_setup(void **state)
{
	int r = setup(state);

	scene = scene_new();
	view = view_new();
	scene_enrol(scene.world, 1, "shop/web", "own", "10.1.0.1", "");
	scene_enrol(scene.world, 2, "shop/two", "own", "10.1.0.2", "");
	take_in();
	dialer_setup(&dialer);
	dialer.view = view;
	pool = http_pool_new(&(const struct http_pool_plan){.dialer = &dialer, .answer = answered});
	listening = listener(AF_INET, &server, &port, 8);
	assert_int_equal(fcntl(listening, F_SETFL, O_NONBLOCK), 0);
	return r;
}

static int pool_teardown(void **state)
{
	close(listening);
	http_pool_free(pool);
	dialer_teardown(&dialer);
	view_free(view);
	scene_free(&scene);
	return teardown(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_used_again),	cmocka_unit_test(test_two_pods),
		cmocka_unit_test(test_nobody),		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_closed_by_the_server), cmocka_unit_test(test_another_identity),
		cmocka_unit_test(test_shut),		cmocka_unit_test(test_modest),
		cmocka_unit_test(test_drain), /* the last: for ever */
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, pool_setup, pool_teardown);
}
