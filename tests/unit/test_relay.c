// SPDX-License-Identifier: Apache-2.0
/* Relays between real sockets: bytes, ends in either order, failures of either side, readers that sleep. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../userspace/proxy/parts.h"
#include "dialer.h"

static struct site site;

static void dial(struct relay *r, const struct abi_addr *addr, uint16_t port)
{
	const struct dial_plan plan = {.kind = DIAL_OUT, .netns = 7, .server = *addr, .server_port = port};

	relay_dial(r, &plan);
}

/* A relay whose client's side is peer[0], and whose server's side peer[1] has accepted. */
static struct relay *connected(int peer[2])
{
	struct abi_addr addr;
	uint16_t port;
	int client[2], listening = listener(AF_INET, &addr, &port, 8);
	struct relay *r;

	pair(client);
	peer[0] = client[1];
	r = relay_new(&site, RELAY_PASS, sock_stream(thread, client[0]));
	assert_int_equal(site.relay_count, 1);
	dial(r, &addr, port);
	UNTIL(r->state == RELAY_OPEN);
	peer[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer[1] >= 0);
	close(listening);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fcntl(peer[i], F_SETFL, O_NONBLOCK), 0);
	return r;
}

static bool comes(int fd, const char *want)
{
	char buf[64] = "";

	return recv(fd, buf, sizeof(buf) - 1, MSG_PEEK) == (ssize_t)strlen(want) && !strcmp(buf, want);
}

static void arrives(int fd, const char *want)
{
	char buf[64];

	UNTIL(comes(fd, want));
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), strlen(want));
}

static bool ends(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) == 0;
}

static bool is_reset(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) < 0 && errno == ECONNRESET;
}

/* What a listener hands on: nothing needs to be set for each connection. */
static void test_accepted(void **state)
{
	struct abi_addr addr, peer, self;
	uint16_t port, peer_port, self_port;
	int listening = listener(AF_INET, &addr, &port, 8), fd;
	int dialled = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stream *s;

	sock_prepare(listening);
	assert_int_equal(sock_accept(listening, &peer, &peer_port), -EAGAIN);
	assert_int_equal(sock_accept(-1, &peer, &peer_port), -EBADF);
	for (int i = 0; i < 2; i++) {
		struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};

		memcpy(&to.sin_addr, addr.byte + 12, 4);
		assert_int_equal(connect(dialled, (struct sockaddr *)&to, sizeof(to)), 0);
		fd = sock_accept(listening, &peer, &peer_port);
		assert_true(fd >= 0 && fcntl(fd, F_GETFL) & O_NONBLOCK);
		assert_int_equal(sock_local(dialled, &self, &self_port), 0);
		assert_true(addr_equal(&peer, &self) && peer_port == self_port);
		if (i) { /* the process dies */
			close(fd);
			UNTIL(is_reset(dialled));
			break;
		}
		s = sock_prepared(thread, fd);
		stream_close(s, NULL);
		assert_int_equal(read(dialled, &fd, 1), 0);
		close(dialled);
		dialled = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	}
	close(dialled);
	close(listening);
	rest();
}

static void test_bytes(void **state)
{
	int peer[2];
	struct relay *r = connected(peer);
	struct relay_row row;

	assert_int_equal(send(peer[0], "to", 2, 0), 2);
	arrives(peer[1], "to");
	assert_int_equal(send(peer[1], "fro and", 7, 0), 7);
	arrives(peer[0], "fro and");
	relay_row(r, &row);
	assert_true(row.open);
	assert_int_equal(row.sent, 2);
	assert_int_equal(row.received, 7);
	close(peer[0]);
	UNTIL(ends(peer[1]));
	assert_int_equal(site.relay_count, 1);
	close(peer[1]);
	UNTIL(!site.relay_count);
}

/* What one side has ended, the other one may still answer; what was under way arrives. */
static void test_half_close(void **state)
{
	for (int first = 0; first < 2; first++) {
		int peer[2];

		connected(peer);
		assert_int_equal(send(peer[first], "question", 8, 0), 8);
		assert_int_equal(shutdown(peer[first], SHUT_WR), 0);
		arrives(peer[!first], "question");
		UNTIL(ends(peer[!first]));
		assert_int_equal(send(peer[!first], "answer", 6, 0), 6);
		arrives(peer[first], "answer");
		assert_int_equal(site.relay_count, 1);
		assert_int_equal(shutdown(peer[!first], SHUT_WR), 0);
		UNTIL(ends(peer[first]));
		UNTIL(!site.relay_count);
		close(peer[0]);
		close(peer[1]);
	}
	assert_int_equal(site.reasons[ABI_RESET], 0);
}

static void test_reset(void **state)
{
	for (int first = 0; first < 2; first++) {
		int peer[2];

		connected(peer);
		reset(peer[first]);
		UNTIL(is_reset(peer[!first]));
		UNTIL(!site.relay_count);
		close(peer[!first]);
		assert_int_equal(site.reasons[ABI_RESET], first + 1);
	}
}

/* What the client sent before there was a server waits in its socket. */
static void test_early_bytes(void **state)
{
	struct abi_addr addr;
	uint16_t port;
	int client[2], server, listening = listener(AF_INET, &addr, &port, 8);
	struct relay *r;

	pair(client);
	assert_int_equal(send(client[1], "early", 5, 0), 5);
	assert_int_equal(shutdown(client[1], SHUT_WR), 0);
	r = relay_new(&site, RELAY_PASS, sock_stream(thread, client[0]));
	rest();
	assert_int_equal(r->state, RELAY_DIALS);
	dial(r, &addr, port);
	UNTIL(r->state == RELAY_OPEN);
	server = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	arrives(server, "early");
	UNTIL(ends(server));
	close(server);
	UNTIL(!site.relay_count);
	close(client[1]);
	close(listening);
}

/* Nobody listens: the client sees a reset, not an end. */
static void test_unreachable(void **state)
{
	uint64_t before = site.reasons[ABI_UNREACHABLE];
	struct abi_addr addr;
	uint16_t port;
	int client[2], listening = listener(AF_INET, &addr, &port, 8);
	struct relay *r;

	close(listening);
	pair(client);
	r = relay_new(&site, RELAY_PASS, sock_stream(thread, client[0]));
	dial(r, &addr, port);
	UNTIL(!site.relay_count);
	assert_int_equal(fcntl(client[1], F_SETFL, O_NONBLOCK), 0);
	UNTIL(is_reset(client[1]));
	close(client[1]);
	assert_int_equal(site.reasons[ABI_UNREACHABLE], before + 1);
}

/* Nobody reads: the sender is stopped, and no chunk of ours grows with it; then all of it arrives. */
static void test_sleeping_reader(void **state)
{
	static char block[65536], got[65536];
	size_t sent = 0, received = 0, most = 0, idle = 0;
	int peer[2];

	connected(peer);
	while (idle < 20) {
		ssize_t n = send(peer[0], block, sizeof(block), 0);

		sent += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		turn(MS);
		if (thread->pool.lent > most)
			most = thread->pool.lent;
	}
	assert_true(most * BUF_CHUNK <= 512 * 1024);
	assert_int_equal(shutdown(peer[0], SHUT_WR), 0);
	while (received < sent) {
		ssize_t n = recv(peer[1], got, sizeof(got), 0);

		received += n > 0 ? (size_t)n : 0;
		turn(0);
	}
	UNTIL(ends(peer[1]));
	close(peer[0]);
	close(peer[1]);
	UNTIL(!site.relay_count);
}

/* The owner ends it: both ends see a failure, once. */
static void test_ended(void **state)
{
	int peer[2];
	struct relay *r = connected(peer);

	relay_close(r, ABI_POLICY_CHANGED, NULL);
	relay_close(r, ABI_POLICY_CHANGED, NULL);
	assert_int_equal(site.relay_count, 0);
	UNTIL(is_reset(peer[0]));
	UNTIL(is_reset(peer[1]));
	assert_int_equal(site.reasons[ABI_POLICY_CHANGED], 1);
	close(peer[0]);
	close(peer[1]);
	rest();
}

static int site_setup(void **state)
{
	int r = setup(state);

	site.thread = thread;
	dialer_setup(&site.dialer);
	list_init(&site.relays);
	return r;
}

static int site_teardown(void **state)
{
	dialer_teardown(&site.dialer);
	return teardown(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_early_bytes),
		cmocka_unit_test(test_unreachable),
		cmocka_unit_test(test_sleeping_reader),
		cmocka_unit_test(test_ended),
	};

	log_open("test", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, site_setup, site_teardown);
}
