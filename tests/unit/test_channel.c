/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's end of the worker's socket, with a worker that was there already: this test. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "channel.h"
#include "pulse.h"

#define QUESTIONS 64
#define TURNS 100

struct scene {
	struct loop *loop;
	struct pods *pods;
	struct channel *channel;
	struct folders folders;
	struct wire_start start;
	char folder[64], program[512];
	int sock; /* the worker's */
	volatile uint64_t *beat;
	struct loop_timer enough;
};

static bool stubborn; /* the worker does not end on SIGTERM */

static void nothing(void *ctx)
{
}

static void enough_due(struct loop_timer *t)
{
	loop_stop(container_of(t, struct scene, enough)->loop);
}

/* channel_open() looks for the program of the next worker, beside the one that runs. */
static void make_program(struct scene *s)
{
	static const char name[] = "weft-worker";
	ssize_t n = readlink("/proc/self/exe", s->program, sizeof(s->program) - 16);
	char *slash;
	int fd;

	assert_true(n > 0);
	slash = strrchr(s->program, '/');
	memcpy(slash + 1, name, sizeof(name));
	fd = open(s->program, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void begin(struct scene *s)
{
	struct pods_plan pods = {.folder = -1, .threads = 1, .hooks = {.to_send = nothing}};
	struct channel_plan plan = {.ready = nothing, .ctx = s};
	struct spawn worker = {0};
	int pair[2], small = 4096, beat = memfd_create("beat", MFD_CLOEXEC);

	*s = (struct scene){.loop = loop_new(), .enough.due = enough_due};
	snprintf(s->folder, sizeof(s->folder), "/tmp/weft-channel-%d", (int)getpid());
	assert_int_equal(mkdir(s->folder, 0700), 0);
	s->folders.run = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	s->sock = pair[1];
	worker.sock = pair[0];
	signal(SIGTERM, stubborn ? SIG_IGN : SIG_DFL);
	worker.pid = fork();
	if (!worker.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* if a test fails */
		pause();
		_exit(0);
	}
	signal(SIGTERM, SIG_DFL);
	worker.pidfd = (int)syscall(SYS_pidfd_open, worker.pid, 0);
	assert_true(worker.pidfd >= 0);
	pods.loop = plan.loop = s->loop;
	assert_int_equal(pods_open(&s->pods, &pods), 0);
	plan.pods = s->pods;
	plan.folders = &s->folders;
	plan.start = &s->start;
	plan.taken = &worker;
	plan.fd[WIRE_FD_MANIFESTS] = s->folders.run;
	plan.fd[WIRE_FD_BEAT] = beat;
	assert_int_equal(ftruncate(beat, sizeof(*s->beat)), 0);
	s->beat = mmap(NULL, sizeof(*s->beat), PROT_READ | PROT_WRITE, MAP_SHARED, beat, 0);
	assert_true(s->beat != MAP_FAILED);
	make_program(s);
	assert_int_equal(channel_open(&s->channel, &plan), 0);
	unlink(s->program);
	close(beat);
}

static void end(struct scene *s)
{
	channel_close(s->channel);
	munmap((void *)(uintptr_t)s->beat, sizeof(*s->beat));
	pods_close(s->pods);
	close(s->sock);
	close(s->folders.run);
	rmdir(s->folder);
	loop_free(s->loop);
}

/* The next message to the worker. */
static void receive(struct scene *s, struct wire *m)
{
	int fds[WIRE_FDS], got;
	unsigned nfds;

	for (unsigned i = 0; i < TURNS; i++) {
		got = wire_recv(s->sock, m, fds, &nfds);
		if (got != -EAGAIN)
			break;
		loop_arm(s->loop, &s->enough, 0);
		assert_int_equal(loop_run(s->loop), 0);
	}
	assert_int_equal(got, 1);
	assert_int_equal(nfds, 0);
}

/* Who asks more than there is room for answers, and is slow to read them, gets each, in order. */
static void test_no_answer_is_lost(void **state)
{
	struct wire *m = wire_new(WIRE_OPEN);
	struct scene s;

	begin(&s);
	receive(&s, m);
	assert_int_equal(m->type, WIRE_NAMED);
	for (uint32_t i = 1; i <= QUESTIONS; i++) {
		*m = (struct wire){.version = WIRE_VERSION, .type = WIRE_OPEN, .seq = i};
		text_copy(m->text, sizeof(m->text), "none.yaml");
		assert_int_equal(wire_send(s.sock, m, NULL, 0), 0);
	}
	for (unsigned i = 0; i < 4; i++) { /* until no answer has room any more */
		loop_arm(s.loop, &s.enough, 0);
		assert_int_equal(loop_run(s.loop), 0);
	}
	for (uint32_t i = 1; i <= QUESTIONS; i++) {
		receive(&s, m);
		assert_int_equal(m->type, WIRE_FILE);
		assert_int_equal(m->seq, i);
		assert_int_equal(m->number, -ENOENT);
	}
	end(&s);
	free(m);
}

static void test_a_worker_that_hangs_is_replaced(void **state)
{
	uint64_t look = pulse_look_ns, most = pulse_most_ns, ended = 0;
	struct scene s;
	char how[96];

	pulse_look_ns = 1000000;
	pulse_most_ns = 20000000;
	begin(&s);
	assert_int_equal(channel_restarts(s.channel, &ended, how, sizeof(how)), 0);
	*s.beat = 2; /* once, and never again */
	for (unsigned i = 0; i < 20000 && !ended; i++) {
		loop_arm(s.loop, &s.enough, 1000000);
		assert_int_equal(loop_run(s.loop), 0);
		(void)channel_restarts(s.channel, &ended, how, sizeof(how));
	}
	assert_string_equal(how, "hung, and killed by weftd");
	assert_true(channel_restarts(s.channel, &ended, how, sizeof(how)) >= 1); /* the next one cannot be executed */
	pulse_look_ns = look;
	pulse_most_ns = most;
	end(&s);
}

/* A worker that has closed its socket and stays: nobody would serve the pods, and nothing would tell. */
static void test_a_worker_that_parts_and_stays_is_replaced(void **state)
{
	unsigned most = channel_end_ms;
	uint64_t ended = 0;
	struct scene s;
	char how[96];

	channel_end_ms = 20;
	stubborn = true;
	begin(&s);
	stubborn = false;
	assert_int_equal(shutdown(s.sock, SHUT_RDWR), 0); /* its process has the socket, too */
	for (unsigned i = 0; i < 20000 && !ended; i++) {
		loop_arm(s.loop, &s.enough, 1000000);
		assert_int_equal(loop_run(s.loop), 0);
		(void)channel_restarts(s.channel, &ended, how, sizeof(how));
	}
	assert_string_equal(how, "killed by signal 9 (Killed)");
	channel_end_ms = most;
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_answer_is_lost),
		cmocka_unit_test(test_a_worker_that_hangs_is_replaced),
		cmocka_unit_test(test_a_worker_that_parts_and_stays_is_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
