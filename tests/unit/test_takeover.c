/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker that was left behind, who may be hostile: what it gives back to the next weftd. Here it is a child that
 * answers with messages of the test's choice. With real workers: tests/net/test_takeover.py. Needs root for the netns.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "netns.h"
#include "takeover.h"

#define THREADS 2

static struct folders folders;
static bool endless; /* the worker gives the same again and again */
static int given[2] = {-1, -1}; /* instead of the sockets for weftctl and for the next weftd */
static int pod, home; /* netns */
static uint64_t cookie;

static int mark(void *ctx, int sock, enum abi_path path)
{
	return 0;
}

static const struct netns_own own = {.mark = mark};

static int setup(void **state)
{
	(void)snprintf(folders.path, sizeof(folders.path), "/tmp/weft-takeover-%d", (int)getpid());
	if (mkdir(folders.path, 0700))
		return -1;
	folders.run = open(folders.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folders.run < 0 || unshare(CLONE_NEWNET)) {
		print_error("unshare: %s: run the tests as root\n", strerror(errno));
		return -1;
	}
	pod = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (pod < 0 || unshare(CLONE_NEWNET) || netns_home(getuid()))
		return -1;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return home < 0 ? -1 : netns_cookie(pod, &cookie);
}

static int teardown(void **state)
{
	(void)unlinkat(folders.run, FOLDERS_ADMIN, 0);
	(void)unlinkat(folders.run, FOLDERS_RESUME, 0);
	(void)unlinkat(folders.run, FOLDERS_WORKER, 0);
	close(folders.run);
	close(pod);
	close(home);
	return rmdir(folders.path);
}

/* ------------------------------------------------------------------ the worker */

struct gift { /* one WIRE_POD_FDS */
	int thread;
	uint64_t netns; /* 0: the pod's */
	int fd[WIRE_LISTENERS];
};

static int listener(const char *name, int type)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	(void)unlinkat(folders.run, name, 0);
	assert_true(snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", folders.path, name) > 0);
	assert_int_equal(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(sock, 1), 0);
	return sock;
}

/* Never returns. */
static void answer(int admin, int resume, const struct gift *gift, unsigned gifts)
{
	int sock = accept(resume, NULL, NULL), fds[WIRE_FDS];
	struct wire *m = wire_new(WIRE_RESUME);
	unsigned n;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* if a test fails */
	if (wire_recv(sock, m, fds, &n) != 1)
		_exit(1);
	for (unsigned i = 0; i < gifts; i++) {
		*m = (struct wire){.version = WIRE_VERSION, .type = WIRE_POD_FDS, .number = gift[i].thread};
		m->pod.netns = gift[i].netns ? gift[i].netns : cookie;
		if (wire_send(sock, m, gift[i].fd, WIRE_LISTENERS))
			break;
		if (endless && i + 1 == gifts)
			i = ~0u; /* with the first */
		if (endless)
			(void)usleep(1000);
	}
	*m = (struct wire){.version = WIRE_VERSION, .type = WIRE_RESUMED};
	if (wire_send(sock, m, (const int[]){given[0] < 0 ? admin : given[0], given[1] < 0 ? resume : given[1]}, 2))
		log_debug("refused");
	pause();
	_exit(0);
}

/* What weftd says of such a worker. */
static void meet(const struct gift *gift, unsigned gifts, struct takeover *ret)
{
	const struct wire_start start = {.threads = THREADS};
	int admin = listener(FOLDERS_ADMIN, SOCK_STREAM), resume = listener(FOLDERS_RESUME, SOCK_SEQPACKET);
	pid_t pid = fork();

	if (!pid)
		answer(admin, resume, gift, gifts);
	close(admin);
	close(resume);
	assert_int_equal(spawn_note(folders.run, FOLDERS_WORKER, pid), 0);
	takeover_try(ret, &folders, &start);
	if (ret->taken)
		assert_int_equal(kill(pid, SIGKILL), 0); /* else weftd has ended it */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void finish(struct takeover *t)
{
	takeover_close(t);
	if (!t->taken)
		return;
	close(t->worker.sock);
	close(t->worker.pidfd);
	close(t->admin);
	close(t->resume);
}

static ino_t inode(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

/* ------------------------------------------------------------------ tests */

static int set[THREADS * WIRE_LISTENERS]; /* as netns_listen() makes them */

static struct gift of_thread(int thread)
{
	struct gift g = {.thread = thread};

	memcpy(g.fd, set + (thread % THREADS) * WIRE_LISTENERS, sizeof(g.fd));
	return g;
}

static void open_set(void)
{
	uint16_t port;

	assert_int_equal(netns_listen(pod, THREADS, &own, set, &port), 0);
}

static void close_set(void)
{
	for (unsigned i = 0; i < array_size(set); i++)
		close(set[i]);
}

static void test_each_thread_gets_its_own(void **state)
{
	struct takeover t;
	int *got;

	open_set();
	meet((const struct gift[]){of_thread(0), of_thread(1)}, 2, &t);
	assert_true(t.taken);
	got = takeover_listeners(&t, cookie, THREADS);
	assert_non_null(got);
	for (unsigned i = 0; i < array_size(set); i++) {
		assert_true(inode(got[i]) == inode(set[i]));
		close(got[i]);
	}
	free(got);
	assert_true(!takeover_rest(&t));
	finish(&t);
	close_set();
}

/* Of those that are not all there weftd keeps none, and makes new ones. */
static void test_one_thread_is_missing(void **state)
{
	struct takeover t;

	open_set();
	meet((const struct gift[]){of_thread(0)}, 1, &t);
	assert_true(t.taken);
	assert_null(takeover_listeners(&t, cookie, THREADS));
	assert_true(!takeover_rest(&t));
	finish(&t);
	close_set();
}

/* A thread that does not exist would be written where no listener has its place. */
static void test_threads_that_are_not(void **state)
{
	const int odd[] = {THREADS, 100000, -1, INT32_MIN};
	struct takeover t;

	open_set();
	for (unsigned i = 0; i < array_size(odd); i++) {
		struct gift bad = of_thread(0);

		bad.thread = odd[i];
		meet((const struct gift[]){of_thread(0), bad, of_thread(1)}, 3, &t);
		assert_true(!t.taken);
		finish(&t);
	}
	close_set();
}

/* Twice the same thread: not all of them may be kept, and none may be lost. */
static void test_a_thread_twice(void **state)
{
	struct takeover t;

	open_set();
	meet((const struct gift[]){of_thread(0), of_thread(0), of_thread(1)}, 3, &t);
	assert_true(!t.taken);
	finish(&t);
	close_set();
}

static unsigned open_files(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int other[THREADS * WIRE_LISTENERS]; /* of the node's own netns, whose cookie is `here` */
static uint64_t here;

static void open_other(void)
{
	uint16_t port;

	assert_int_equal(netns_cookie(home, &here), 0);
	assert_int_equal(netns_listen(home, THREADS, &own, other, &port), 0);
}

static struct gift of_other(int thread)
{
	struct gift g = {.thread = thread % THREADS, .netns = here};

	memcpy(g.fd, other + g.thread * WIRE_LISTENERS, sizeof(g.fd));
	return g;
}

static void close_other(void)
{
	for (unsigned i = 0; i < array_size(other); i++)
		close(other[i]);
}

/* Another one between them. */
static void test_a_pod_twice(void **state)
{
	int *got;
	struct gift all[6];
	struct takeover t;
	unsigned before;

	open_set();
	open_other();
	before = open_files();
	for (unsigned i = 0; i < array_size(all); i++)
		all[i] = i / THREADS == 1 ? of_other((int)i) : of_thread((int)i % THREADS);
	meet(all, array_size(all), &t);
	assert_true(t.taken);
	got = takeover_listeners(&t, cookie, THREADS);
	assert_non_null(got);
	for (unsigned i = 0; i < array_size(set); i++)
		close(got[i]);
	free(got);
	assert_true(takeover_rest(&t) == here);
	finish(&t);
	assert_int_equal(open_files(), before);
	close_other();
	close_set();
}

/* It would keep weftd from starting. */
static void test_who_never_ends(void **state)
{
	struct gift all[2 * THREADS];
	uint64_t most = takeover_most_ns;
	struct takeover t;
	unsigned before;

	open_set();
	open_other();
	before = open_files();
	for (unsigned i = 0; i < array_size(all); i++)
		all[i] = i < THREADS ? of_thread((int)i) : of_other((int)i);
	endless = true;
	takeover_most_ns = 100000000;
	meet(all, array_size(all), &t);
	takeover_most_ns = most;
	endless = false;
	assert_true(!t.taken);
	finish(&t);
	assert_int_equal(open_files(), before);
	close_other();
	close_set();
}

/*
 * weftd enters the netns of a pod's listener to make sockets and routes: one of another netns, of the node's own, would
 * lead it there.
 */
static void test_sockets_that_are_no_listeners_of_the_pod(void **state)
{
	int unborn = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), pipes[2];
	struct gift bad[5];
	struct takeover t;

	open_set();
	open_other();
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	for (unsigned i = 0; i < array_size(bad); i++)
		bad[i] = of_thread(0);
	bad[0].fd[0] = other[0]; /* of the node */
	bad[1].fd[2] = other[2];
	bad[2].fd[1] = unborn; /* that does not listen */
	bad[3].fd[1] = pipes[0]; /* no socket at all */
	bad[4].fd[1] = set[2]; /* of another port */
	for (unsigned i = 0; i < array_size(bad); i++) {
		meet((const struct gift[]){bad[i], of_thread(1)}, 2, &t);
		assert_true(!t.taken);
		finish(&t);
	}
	close_other();
	close(unborn);
	close(pipes[0]);
	close(pipes[1]);
	close_set();
}

/* Nor the two that every worker gets: on a pod's listener the next one would tell anybody what weftctl asks. */
static void test_sockets_that_are_not_those_of_the_run_folder(void **state)
{
	int unborn = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), pipes[2];
	int stream = listener("stream", SOCK_STREAM), packets = listener("packets", SOCK_SEQPACKET);
	struct takeover t;

	open_set();
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	const int bad[][2] = {{set[2], -1}, {-1, set[2]},  {unborn, -1},   {pipes[0], -1},
			      {-1, pipes[0]}, {packets, -1}, {-1, stream}};

	for (unsigned i = 0; i < array_size(bad); i++) {
		memcpy(given, bad[i], sizeof(given));
		meet((const struct gift[]){of_thread(0), of_thread(1)}, 2, &t);
		assert_true(!t.taken);
		finish(&t);
	}
	given[0] = given[1] = -1;
	close(unborn);
	close(pipes[0]);
	close(pipes[1]);
	close(stream);
	close(packets);
	(void)unlinkat(folders.run, "stream", 0);
	(void)unlinkat(folders.run, "packets", 0);
	close_set();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_thread_gets_its_own),
		cmocka_unit_test(test_one_thread_is_missing),
		cmocka_unit_test(test_threads_that_are_not),
		cmocka_unit_test(test_a_thread_twice),
		cmocka_unit_test(test_a_pod_twice),
		cmocka_unit_test(test_who_never_ends),
		cmocka_unit_test(test_sockets_that_are_no_listeners_of_the_pod),
		cmocka_unit_test(test_sockets_that_are_not_those_of_the_run_folder),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
