/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: what is sound arrives whole, what is not is refused, and no fd is ever left open. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "wire.h"

static int pair[2];
static struct wire *sent, *got;
static int fds[WIRE_FDS];
static unsigned nfds, fds_before;

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int setup(void **state)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	sent = wire_new(WIRE_POD_ADD);
	got = wire_new(WIRE_DONE);
	fds_before = open_fds();
	return 0;
}

static int teardown(void **state)
{
	unsigned now = open_fds();

	close(pair[0]);
	close(pair[1]);
	free(sent);
	free(got);
	return now == fds_before ? 0 : -1; /* a leak */
}

/* ------------------------------------------------------------------ whole messages */

static void fill(struct wire *m)
{
	m->seq = 77;
	m->number = -5;
	text_copy(m->text, sizeof(m->text), "hello");
	text_copy(m->pod.namespace, WIRE_NAME, "shop");
	text_copy(m->pod.name, WIRE_NAME, "web");
	m->pod.addrs = WIRE_ADDRS;
	assert_true(wire_pairs_add(m->pod.labels, "app=web"));
	assert_true(wire_pairs_add(m->pod.labels, "empty="));
}

static void a_message_arrives_whole(void **state)
{
	fill(sent);
	assert_int_equal(wire_send(pair[0], sent, NULL, 0), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	assert_int_equal(nfds, 0);
	assert_memory_equal(sent, got, sizeof(*sent));
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), -EAGAIN);
}

static void every_type_travels(void **state)
{
	unsigned type;

	for (type = WIRE_POD_ADD; type < WIRE_TYPE_MAX; type++) {
		struct wire *m = wire_new(type);

		assert_int_equal(m->version, WIRE_VERSION);
		assert_int_equal(m->type, type);
		assert_string_not_equal(wire_type_name(type), "unknown");
		assert_int_equal(wire_send(pair[0], m, NULL, 0), 0);
		assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
		assert_int_equal(got->type, type);
		free(m);
	}
	assert_string_equal(wire_type_name(0), "unknown");
	assert_string_equal(wire_type_name(WIRE_TYPE_MAX), "unknown");
	assert_string_equal(wire_type_name(UINT32_MAX), "unknown");
}

/* A small message is a small packet, and nothing of an earlier one shows behind it. */
static void no_more_than_it_needs(void **state)
{
	static const struct wire_sockets asked = {.netns = 9, .kind = WIRE_SOCKET_APP, .ipv6 = 1, .count = 32};
	struct wire *m = wire_new(WIRE_SOCKETS);
	const char *rest;

	assert_int_equal(wire_size(0), 0);
	assert_int_equal(wire_size(WIRE_TYPE_MAX), 0);
	assert_true(wire_size(WIRE_SOCKETS) < 600 && wire_size(WIRE_ENROLLED) < 600 && wire_size(WIRE_READY) < 600);
	fill(sent);
	assert_int_equal(wire_send(pair[0], sent, NULL, 0), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	m->sockets = asked;
	assert_int_equal(wire_send(pair[0], m, NULL, 0), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	assert_memory_equal(&got->sockets, &asked, sizeof(asked));
	for (rest = (char *)got + wire_size(WIRE_SOCKETS); rest < (char *)(got + 1); rest++)
		assert_int_equal(*rest, 0);
	m->type = WIRE_TYPE_MAX;
	assert_int_equal(wire_send(pair[0], m, NULL, 0), -EINVAL);
	free(m);
}

static void files_are_checked(void **state)
{
	struct wire *m = wire_new(WIRE_CERTS);

	m->files.count = WIRE_FILES;
	memset(m->files.name[WIRE_FILES - 1], 'x', WIRE_FILE_NAME - 1);
	assert_int_equal(wire_send(pair[0], m, NULL, 0), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	m->files.name[WIRE_FILES - 1][WIRE_FILE_NAME - 1] = 'x';
	assert_int_equal(wire_send(pair[0], m, NULL, 0), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), -EBADMSG);
	m->files = (struct wire_files){.count = WIRE_FILES + 1};
	assert_int_equal(wire_send(pair[0], m, NULL, 0), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), -EBADMSG);
	free(m);
}

static void fds_travel(void **state)
{
	int mine[WIRE_FDS];
	unsigned i;

	for (i = 0; i < WIRE_FDS; i++)
		mine[i] = i % 2 ? pair[0] : STDIN_FILENO;
	assert_int_equal(wire_send(pair[0], sent, mine, WIRE_FDS), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	assert_int_equal(nfds, WIRE_FDS);
	for (i = 0; i < nfds; i++) {
		struct stat a, b;

		assert_int_equal(fstat(fds[i], &a), 0);
		assert_int_equal(fstat(mine[i], &b), 0);
		assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev); /* in this order */
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		close(fds[i]);
	}
	assert_int_equal(wire_send(pair[0], sent, mine, WIRE_FDS + 1), -EINVAL);
}

static void the_end(void **state)
{
	int other[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, other), 0);
	assert_int_equal(wire_send(other[0], sent, NULL, 0), 0);
	close(other[0]);
	assert_int_equal(wire_recv(other[1], got, fds, &nfds), 1); /* first what was sent before */
	assert_int_equal(wire_recv(other[1], got, fds, &nfds), 0);
	assert_int_equal(wire_send(other[1], sent, NULL, 0), -EPIPE); /* and no SIGPIPE */
	close(other[1]);
	assert_int_equal(wire_send(-1, sent, NULL, 0), -EBADF);
	assert_int_equal(wire_recv(-1, got, fds, &nfds), -EBADF);
}

static void a_full_socket_does_not_block(void **state)
{
	int r, count = 0;

	do {
		r = wire_send(pair[0], sent, NULL, 0);
		count += !r;
	} while (!r && count < 10000);
	assert_int_equal(r, -EAGAIN);
	assert_true(count > 0);
	while (count--)
		assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
}

/* ------------------------------------------------------------------ what is refused */

/* Sends bytes as they are, with `count` fds, as somebody who does not use wire.c would. */
static void send_raw(const void *bytes, size_t len, unsigned count)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * 253)];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	unsigned i;

	if (count) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * count);
		for (i = 0; i < count; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &pair[0], sizeof(int));
	}
	assert_int_equal(sendmsg(pair[0], &msg, MSG_NOSIGNAL), len);
}

/* Refused; and the one after it is taken. teardown sees whether an fd stayed. */
static void refused(const void *bytes, size_t len, unsigned count)
{
	unsigned i;

	send_raw(bytes, len, count);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), -EBADMSG);
	assert_int_equal(nfds, 0);
	for (i = 0; i < WIRE_FDS; i++)
		assert_int_equal(fds[i], -1);
	assert_int_equal(open_fds(), fds_before);
}

static void wrong_sizes(void **state)
{
	char *more = mem_alloc(sizeof(*sent) + 100);

	memcpy(more, sent, sizeof(*sent));
	refused(more, 1, 0);
	refused(more, wire_size(WIRE_POD_ADD) - 1, 3);
	refused(more, wire_size(WIRE_POD_ADD) + 1, 3);
	refused(more, wire_size(WIRE_POD_ADD) + 100, WIRE_FDS);
	send_raw(more, wire_size(WIRE_POD_ADD), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	free(more);
}

/* An empty packet cannot be told from the end; its fds must not stay open either. */
static void an_empty_packet_ends_it(void **state)
{
	send_raw("", 0, 3);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 0);
	assert_int_equal(nfds, 0);
	assert_int_equal(open_fds(), fds_before);
}

static void too_many_fds(void **state)
{
	refused(sent, wire_size(WIRE_POD_ADD), WIRE_FDS + 1);
	refused(sent, wire_size(WIRE_POD_ADD), WIRE_FDS + 2);
	refused(sent, wire_size(WIRE_POD_ADD), 253); /* the most that the kernel takes */
}

/* Who has no room for all fds gets none of them, and hears it; the message is there. */
static void no_room_for_fds(void **state)
{
	struct rlimit was, none;
	int first = dup(pair[0]);

	close(first); /* the lowest that is free */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = was;
	none.rlim_cur = (rlim_t)first + 2;
	fill(sent);
	for (unsigned count = 3; count <= WIRE_FDS; count += WIRE_FDS - 3) {
		send_raw(sent, wire_size(WIRE_POD_ADD), count);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
		assert_int_equal(wire_recv(pair[1], got, fds, &nfds), -EMFILE);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
		assert_int_equal(nfds, 0);
		assert_int_equal(fds[0], -1);
		assert_int_equal(got->seq, 77);
		assert_int_equal(open_fds(), fds_before);
	}
	send_raw(sent, wire_size(WIRE_POD_ADD), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
}

static void credentials_are_passed_over(void **state)
{
	int one = 1;

	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	send_raw(sent, wire_size(WIRE_POD_ADD), 2);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	assert_int_equal(nfds, 2);
	close(fds[0]);
	close(fds[1]);
}

static void wrong_versions_and_types(void **state)
{
	sent->version = WIRE_VERSION + 1;
	refused(sent, wire_size(WIRE_POD_ADD), 2);
	sent->version = WIRE_VERSION;
	sent->type = 0;
	refused(sent, wire_size(WIRE_POD_ADD), 0);
	sent->type = WIRE_TYPE_MAX;
	refused(sent, wire_size(WIRE_POD_ADD), 1);
	sent->type = UINT32_MAX;
	refused(sent, wire_size(WIRE_POD_ADD), 0);
}

/* clang-format off */
#define ENDLESS(type, member) {type, offsetof(struct wire, member), sizeof(((struct wire *)0)->member)}
/* clang-format on */

/* A text without a NUL: refused where the type uses it. */
static void texts_that_do_not_end(void **state)
{
	static const struct {
		unsigned type;
		size_t at, size;
	} texts[] = {
		ENDLESS(WIRE_SPLICE, text),
		ENDLESS(WIRE_DONE, text),
		ENDLESS(WIRE_OPEN, text),
		ENDLESS(WIRE_ENROL, text),
		ENDLESS(WIRE_POD_ADD, pod.uid),
		ENDLESS(WIRE_POD_ADD, pod.namespace),
		ENDLESS(WIRE_POD_DEL, pod.name),
		ENDLESS(WIRE_ENROL, pod.service_account),
		ENDLESS(WIRE_POD_ADD, pod.netns_path),
		ENDLESS(WIRE_POD_ADD, pod.labels),
		ENDLESS(WIRE_RELEASE, pod.annotations),
		ENDLESS(WIRE_POD_FDS, text),
		ENDLESS(WIRE_ENROLLED, text),
		ENDLESS(WIRE_RELEASED, text),
		ENDLESS(WIRE_SOCKETS, text),
		ENDLESS(WIRE_START, start.instance),
		ENDLESS(WIRE_RESUME, start.version),
		ENDLESS(WIRE_START, start.node),
		ENDLESS(WIRE_START, start.trust_domain),
		ENDLESS(WIRE_START, start.manifests),
		ENDLESS(WIRE_START, start.root_namespace),
		ENDLESS(WIRE_START, start.at_stake),
		ENDLESS(WIRE_STATUS, status.version),
		ENDLESS(WIRE_STATUS, status.kernel),
		ENDLESS(WIRE_STATUS, status.node),
		ENDLESS(WIRE_STATUS, status.why),
		ENDLESS(WIRE_STATUS, status.worker_end),
		ENDLESS(WIRE_STATUS, status.probe[0].name),
		ENDLESS(WIRE_STATUS, status.probe[WIRE_PROBES - 1].detail),
		ENDLESS(WIRE_STATUS, status.selftest[0].name),
		ENDLESS(WIRE_STATUS, status.selftest[WIRE_SELFTESTS - 1].detail),
	};
	unsigned i;

	for (i = 0; i < array_size(texts); i++) {
		struct wire *m = wire_new(texts[i].type);
		char *s = (char *)m + texts[i].at;

		memset(s, 'x', texts[i].size);
		refused(m, wire_size(m->type), 1);
		s[texts[i].size - 1] = 0;
		if (s != m->pod.labels && s != m->pod.annotations) {
			send_raw(m, wire_size(m->type), 0);
			assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
		}
		free(m);
	}
}

static void counts_that_are_too_large(void **state)
{
	struct wire *m = wire_new(WIRE_STATUS);

	sent->pod.addrs = WIRE_ADDRS + 1;
	refused(sent, wire_size(WIRE_POD_ADD), 0);
	m->status.probes = WIRE_PROBES + 1;
	refused(m, wire_size(m->type), 0);
	m->status.probes = WIRE_PROBES;
	m->status.probe[3].state = WIRE_PROBE_FAILED + 1;
	refused(m, wire_size(m->type), 0);
	m->status.probe[3].state = WIRE_PROBE_OK;
	m->status.selftests = WIRE_SELFTESTS + 1;
	refused(m, wire_size(m->type), 0);
	m->status.selftests = WIRE_SELFTESTS;
	m->status.selftest[WIRE_SELFTESTS - 1].state = WIRE_PROBE_FAILED + 1;
	refused(m, wire_size(m->type), 0);
	free(m);
	m = wire_new(WIRE_DESTROY);
	m->destroys.count = WIRE_DESTROYS + 1;
	refused(m, wire_size(m->type), 0);
	m->destroys.count = WIRE_DESTROYS;
	m->destroys.item[WIRE_DESTROYS - 1].ipv6_socket = 2;
	refused(m, wire_size(m->type), 0);
	m->destroys.item[WIRE_DESTROYS - 1].ipv6_socket = 1;
	send_raw(m, wire_size(m->type), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	free(m);
	m = wire_new(WIRE_SOCKETS);
	m->sockets.count = WIRE_SOCKET_BATCH + 1;
	refused(m, wire_size(m->type), 0);
	m->sockets = (struct wire_sockets){.kind = WIRE_SOCKET_APP + 1, .count = 1};
	refused(m, wire_size(m->type), 0);
	m->sockets = (struct wire_sockets){.ipv6 = 2, .count = 1};
	refused(m, wire_size(m->type), 0);
	free(m);
}

/* ------------------------------------------------------------------ pairs */

static void put_pairs(const char *bytes, size_t len)
{
	memset(sent->pod.labels, 0, WIRE_PAIRS);
	memcpy(sent->pod.labels, bytes, len);
}

static void bad_pairs(void **state)
{
	put_pairs("app", 3);
	refused(sent, wire_size(WIRE_POD_ADD), 0);
	put_pairs("=x", 2);
	refused(sent, wire_size(WIRE_POD_ADD), 0);
	put_pairs("a=b\0c", 5);
	refused(sent, wire_size(WIRE_POD_ADD), 0);
	/* The last pair ends at the last byte: there is no second NUL. */
	memset(sent->pod.labels, 'x', WIRE_PAIRS);
	sent->pod.labels[1] = '=';
	sent->pod.labels[WIRE_PAIRS - 1] = 0;
	refused(sent, wire_size(WIRE_POD_ADD), 0);
	sent->pod.labels[WIRE_PAIRS - 2] = 0;
	send_raw(sent, wire_size(WIRE_POD_ADD), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	/* Behind the end anything may lie: nobody looks. */
	memset(sent->pod.labels, 'x', WIRE_PAIRS);
	sent->pod.labels[0] = 0;
	send_raw(sent, wire_size(WIRE_POD_ADD), 0);
	assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	assert_null(wire_pairs_next(got->pod.labels, NULL));
}

static void annotations(void **state)
{
	assert_null(wire_annotation_words("weft.io/splice", "off"));
	assert_null(wire_annotation_words("weft.io/other", "x"));
	assert_false(wire_annotation_stray("weft.io/splice"));
	assert_false(wire_annotation_stray("example.org/weft.io/egres"));
	assert_true(wire_annotation_stray("weft.io/egres"));
	assert_true(wire_annotation_stray("weft.io/stall-timeout"));
	assert_string_equal(wire_annotation_words("weft.io/proxy", "off"), "\"auto\" or \"always\"");
	assert_string_equal(wire_annotation_words("weft.io/fail-open", ""), "\"true\" or \"false\"");
	assert_string_equal(wire_annotation_words("weft.io/egress", "registry_only"), "\"any\" or \"registry-only\"");
}

static void pairs_are_walked(void **state)
{
	const char *s;

	assert_null(wire_pairs_next(sent->pod.labels, NULL));
	assert_true(wire_pairs_add(sent->pod.labels, "app=web"));
	assert_true(wire_pairs_add(sent->pod.labels, "tier="));
	assert_true(wire_pairs_add(sent->pod.labels, "k=a=b"));
	assert_false(wire_pairs_add(sent->pod.labels, "no"));
	assert_false(wire_pairs_add(sent->pod.labels, "=no"));
	assert_false(wire_pairs_add(sent->pod.labels, ""));
	s = wire_pairs_next(sent->pod.labels, NULL);
	assert_string_equal(s, "app=web");
	s = wire_pairs_next(sent->pod.labels, s);
	assert_string_equal(s, "tier=");
	s = wire_pairs_next(sent->pod.labels, s);
	assert_string_equal(s, "k=a=b");
	assert_null(wire_pairs_next(sent->pod.labels, s));
}

/* Random pairs until nothing fits: what was added is what is walked, and the message is sound. */
static void pairs_fill_to_the_brim(void **state)
{
	unsigned round, i;

	srandom(10);
	for (round = 0; round < 50; round++) {
		char *list[WIRE_PAIRS] = {0};
		const char *s = NULL;
		unsigned count = 0;
		bool added;

		memset(sent->pod.labels, 0, WIRE_PAIRS);
		do {
			char *p = mem_format("k=%0*d", 1 + (int)random() % (round + 1) * 50, 7);

			added = wire_pairs_add(sent->pod.labels, p);
			if (added)
				list[count++] = p;
			else
				free(p);
		} while (added);
		for (i = 0; i < count; i++) {
			s = wire_pairs_next(sent->pod.labels, s);
			assert_string_equal(s, list[i]);
			free(list[i]);
		}
		assert_null(wire_pairs_next(sent->pod.labels, s));
		assert_int_equal(wire_send(pair[0], sent, NULL, 0), 0);
		assert_int_equal(wire_recv(pair[1], got, fds, &nfds), 1);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_message_arrives_whole),
		TEST(every_type_travels),
		TEST(no_more_than_it_needs),
		TEST(fds_travel),
		TEST(files_are_checked),
		TEST(the_end),
		TEST(a_full_socket_does_not_block),
		TEST(wrong_sizes),
		TEST(an_empty_packet_ends_it),
		TEST(too_many_fds),
		TEST(no_room_for_fds),
		TEST(credentials_are_passed_over),
		TEST(wrong_versions_and_types),
		TEST(texts_that_do_not_end),
		TEST(counts_that_are_too_large),
		TEST(bad_pairs),
		TEST(annotations),
		TEST(pairs_are_walked),
		TEST(pairs_fill_to_the_brim),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
