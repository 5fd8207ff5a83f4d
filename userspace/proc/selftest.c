/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.c: see selftest.h. */
#include "selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "selftest_rig.h"

#define KILL_MS 500  /* for a process that was killed to be gone; one that hangs in the kernel is left there */
#define STEP_MS 500  /* between two looks whether it still runs; the second is at SELFTEST_MS */
#define MS 1000000ull
#define SETUP "setup" /* the row of what comes before the first one */

/* ------------------------------------------------------------------ the process of its own */

static void tell(int to, const struct wire_probe *row)
{
	if (write(to, row, sizeof(*row)) != sizeof(*row)) /* below PIPE_BUF: all or nothing */
		_exit(1);
}

static void run_row(struct rig *r, const struct selftest_row *which, struct wire_probe *ret)
{
	text_copy(ret->name, sizeof(ret->name), which->name);
	rig_start_row(r);
	if (!which->run(r)) {
		ret->state = which->kept_out ? WIRE_PROBE_OFF : WIRE_PROBE_FAILED;
		(void)snprintf(ret->detail, sizeof(ret->detail), "%s: %s", rig_why(r),
			       which->kept_out ? which->kept_out : which->stake);
	} else {
		ret->state = rig_is_off(r) ? WIRE_PROBE_OFF : WIRE_PROBE_OK;
		text_copy(ret->detail, sizeof(ret->detail), rig_is_off(r) ? rig_why(r) : which->passed);
	}
}

/* Everything that it makes is nameless, so that the end of the process is the end of it all. */
static void child(int to, pid_t parent)
{
	struct wire_probe row = {.name = SETUP, .state = WIRE_PROBE_FAILED};
	const char *why = NULL;
	struct rig *r = NULL;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(1);
	(void)prctl(PR_SET_NAME, "weftd-selftest"); /* whoever sees it by this name sees one that weftd takes along */
	/* A busy machine must not look like a broken kernel. */
	(void)setpriority(PRIO_PROCESS, 0, -20);
	if (unshare(CLONE_NEWNET))
		(void)snprintf(row.detail, sizeof(row.detail), "a network namespace: %s", strerror(errno));
	else
		r = rig_open(&why);
	if (why && !r)
		text_copy(row.detail, sizeof(row.detail), why);
	if (!r) {
		tell(to, &row);
		_exit(0);
	}
	for (unsigned i = 0; i < selftest_row_count; i++) {
		row = (struct wire_probe){0};
		run_row(r, &selftest_rows[i], &row);
		tell(to, &row);
	}
	_exit(0);
}

/* ------------------------------------------------------------------ and who waits for it */

static void add(struct selftest *t, const char *name, enum wire_probe_state state, const char *detail)
{
	struct wire_probe *row = &t->row[t->rows];

	if (t->rows == WIRE_SELFTESTS)
		return;
	t->rows++;
	text_copy(row->name, sizeof(row->name), name);
	text_copy(row->detail, sizeof(row->detail), detail);
	row->state = state;
}

static int left_ms(uint64_t deadline)
{
	uint64_t now = clock_ns();

	return now >= deadline ? 0 : (int)((deadline - now + 999999) / 1000000);
}

/* CPU time of the process; 0 if it is gone */
static uint64_t cpu_ns(pid_t pid)
{
	struct timespec used;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &used))
		return 0;
	return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

/* Rows until the process closes its end. false: it sleeps past the deadline, or runs past the last one. */
static bool collect(struct selftest *t, int from, pid_t pid, uint64_t start)
{
	uint64_t deadline = start + (SELFTEST_MS - STEP_MS) * MS, last = start + SELFTEST_BUSY_MS * MS, used = 0;
	struct pollfd p = {.fd = from, .events = POLLIN};

	for (;;) {
		int ready = poll(&p, 1, left_ms(deadline));
		struct wire_probe row;

		if (ready == 1) {
			if (read(from, &row, sizeof(row)) != sizeof(row))
				return true;
			row.name[sizeof(row.name) - 1] = row.detail[sizeof(row.detail) - 1] = '\0';
			add(t, row.name, (enum wire_probe_state)row.state, row.detail);
			continue;
		}
		if (ready < 0 && errno == EINTR)
			continue;
		/* each step costs it a little CPU time, or it sleeps */
		if (clock_ns() >= last || cpu_ns(pid) == used)
			return false;
		used = cpu_ns(pid);
		deadline = clock_ns() + STEP_MS * MS;
	}
}

/* What the process died of; "" if it ended by itself. It is not waited for where the kernel does not let it die. */
static void reap(pid_t pid, bool hangs, char *ret_why, size_t size)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0), status = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};

	ret_why[0] = '\0';
	if (hangs)
		(void)kill(pid, SIGKILL);
	if (poll(&p, 1, KILL_MS) == 1 && waitpid(pid, &status, WNOHANG) == pid) {
		if (hangs)
			text_copy(ret_why, size, "it did not end in time");
		else if (WIFSIGNALED(status))
			(void)snprintf(ret_why, size, "the process was killed by signal %d: see dmesg",
				       WTERMSIG(status));
	} else {
		(void)snprintf(ret_why, size, "the process hangs in the kernel: see dmesg");
		log_error("self-test: process %d hangs in the kernel: see dmesg", (int)pid);
	}
	if (fd >= 0)
		close(fd);
}

void selftest_run(struct selftest *ret)
{
	uint64_t start = clock_ns();
	pid_t self = getpid(), pid;
	int pipe[2];
	char why[128];
	bool ended;

	*ret = (struct selftest){0};
	if (pipe2(pipe, O_CLOEXEC)) {
		add(ret, SETUP, WIRE_PROBE_FAILED, strerror(errno));
		return;
	}
	pid = fork();
	if (!pid)
		child(pipe[1], self);
	close(pipe[1]);
	if (pid < 0) {
		add(ret, SETUP, WIRE_PROBE_FAILED, strerror(errno));
		close(pipe[0]);
		return;
	}
	ended = collect(ret, pipe[0], pid, start);
	close(pipe[0]);
	reap(pid, !ended, why, sizeof(why));
	ret->ms = (unsigned)((clock_ns() - start) / 1000000);
	/* The first row without a result is the one that it was at. */
	if (why[0])
		add(ret, ret->rows < selftest_row_count ? selftest_rows[ret->rows].name : "end", WIRE_PROBE_FAILED,
		    why);
}

/* ------------------------------------------------------------------ what follows */

static const struct wire_probe *first_failed(const struct selftest *t)
{
	for (unsigned i = 0; i < t->rows; i++)
		if (t->row[i].state == WIRE_PROBE_FAILED)
			return &t->row[i];
	return NULL;
}

bool selftest_ok(const struct selftest *t, const char *row)
{
	for (unsigned i = 0; i < t->rows; i++)
		if (text_equal(t->row[i].name, row))
			return t->row[i].state == WIRE_PROBE_OK;
	return false;
}

bool selftest_passed(const struct selftest *t)
{
	return t->rows >= selftest_row_count && !first_failed(t);
}

static const char *stake_of(const struct wire_probe *row)
{
	for (unsigned i = 0; i < selftest_row_count; i++)
		if (text_equal(selftest_rows[i].name, row->name))
			return selftest_rows[i].stake;
	return "what this kernel does to a spliced connection is not known";
}

/* Whole sentences, each once (rows may share theirs), as many as fit. */
static void stake_add(char all[WIRE_STAKE], const char *stake)
{
	size_t len = strlen(all);

	if (strstr(all, stake))
		return;
	if (len + strlen(stake) + sizeof("; ") <= WIRE_STAKE)
		(void)snprintf(all + len, WIRE_STAKE - len, "%s%s", len ? "; " : "", stake);
	else if (len + sizeof(" ...") <= WIRE_STAKE && !text_ends(all, " ..."))
		(void)snprintf(all + len, WIRE_STAKE - len, " ...");
}

static void at_stake(const struct selftest *t, struct probe *p)
{
	p->at_stake[0] = '\0';
	if (!p->fixes)
		stake_add(p->at_stake, "the kernel can crash (use after free in the sockmap)");
	for (unsigned i = 0; i < t->rows; i++)
		if (t->row[i].state == WIRE_PROBE_FAILED)
			stake_add(p->at_stake, stake_of(&t->row[i]));
}

void selftest_settle(const struct selftest *t, struct probe *p)
{
	const struct wire_probe *bad = first_failed(t);
	bool passed = selftest_passed(t);
	unsigned failed = 0;

	for (unsigned i = 0; i < t->rows; i++)
		failed += t->row[i].state == WIRE_PROBE_FAILED;
	if (!p->iterates)
		probe_row(p, "self-test", WIRE_PROBE_OFF, "not run: see socket iterators");
	else if (passed)
		probe_row(p, "self-test", WIRE_PROBE_OK, "%u rows in %u ms", t->rows, t->ms);
	else
		probe_row(p, "self-test", WIRE_PROBE_OFF, "%u of %u rows failed; %s: %s", failed, t->rows,
			  bad ? bad->name : "rows", bad ? bad->detail : "some did not run");
	p->kernel_safe = passed && p->fixes;
	p->counts_tcp = selftest_ok(t, SELFTEST_COUNTS_TCP);
	at_stake(t, p);
	if (p->kernel_safe)
		probe_row(p, "splice auto", WIRE_PROBE_OK, "the self-test passed and the known fixes are in");
	else if (!p->iterates)
		probe_row(p, "splice auto", WIRE_PROBE_OFF, "nobody can enter: see socket iterators");
	else
		probe_row(p, "splice auto", WIRE_PROBE_OFF, "%s%s%s; annotation always overrides",
			  passed ? "" : "the self-test failed", passed || p->fixes ? "" : " and ",
			  p->fixes ? "" : "known fixes are missing");
}

void selftest_report(const struct selftest *t, struct wire_status *ret)
{
	ret->selftest_ms = t->ms;
	ret->selftests = t->rows;
	memcpy(ret->selftest, t->row, sizeof(ret->selftest));
}

void selftest_print(const struct selftest *t, FILE *to)
{
	static const char *const state[] = {
		[WIRE_PROBE_OK] = "ok",
		[WIRE_PROBE_OFF] = "off",
		[WIRE_PROBE_FAILED] = "FAILED",
	};

	(void)fprintf(to, "\nself-test of the kernel, %u ms\n", t->ms);
	for (unsigned i = 0; i < t->rows; i++)
		(void)fprintf(to, "%-16s %-7s %s\n", t->row[i].name, state[t->row[i].state], t->row[i].detail);
}
