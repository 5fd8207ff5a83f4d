/* SPDX-License-Identifier: Apache-2.0 */
/* pulse.c: see pulse.h. */
#include "pulse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "spawn.h"

#define SAID_NS 5000000000ull /* WIRE_STUCK comes every 2 s while it is so */
#define FIRST 10	      /* times the CPU: what it reads before its first beat may be large */

uint64_t pulse_look_ns = 2000000000ull;
uint64_t pulse_most_ns = 30000000000ull;

struct still { /* a thread that does not go on */
	pid_t thread; /* 0: none */
	bool seen;    /* cpu_ns is of the last look */
	uint64_t cpu_ns;
	uint64_t hung_ns;
};

struct pulse {
	struct pulse_plan plan;
	volatile const uint64_t *beat;
	struct loop_timer look;
	pid_t worker;
	uint64_t looked_ns;
	uint64_t last; /* beat of the worker; 0: none yet of this one */
	uint64_t before; /* of the one before it */
	bool said_goes;	 /* since the last look */
	struct still control, stuck;
	uint32_t turn; /* of `stuck` */
	uint64_t said_ns;
};

/* Fields 3, 14 and 15 of /proc/PID/task/TID/stat. */
static int thread_state(pid_t worker, pid_t thread, char *ret_state, uint64_t *ret_cpu_ns)
{
	unsigned long long user, system;
	char path[64], text[SPAWN_STAT];
	const char *at;
	int err;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)worker, (int)thread);
	err = spawn_stat(path, text, &at);
	if (err)
		return err;
	if (sscanf(at, "%c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu", ret_state, &user, &system) != 3)
		return -EBADMSG;
	*ret_cpu_ns = (user + system) * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK));
	return 0;
}

/* Another look, so much later, at one that has not gone on in between. true: it hangs. Of its CPU one share counts. */
static bool look_at(const struct pulse *p, struct still *s, uint64_t elapsed_ns, unsigned share)
{
	uint64_t cpu_ns, used;
	char state;

	if (thread_state(p->worker, s->thread, &state, &cpu_ns))
		return false;
	used = s->seen && cpu_ns > s->cpu_ns ? cpu_ns - s->cpu_ns : 0;
	s->seen = true;
	s->cpu_ns = cpu_ns;
	if (state == 'T' || state == 't')
		s->hung_ns = 0;
	else
		s->hung_ns += state == 'S' ? elapsed_ns : used / share;
	return s->hung_ns >= pulse_most_ns;
}

static bool has_beaten(struct pulse *p)
{
	uint64_t now = *p->beat;

	/* The kernel's programs write there too, with that bit: not a word of the worker's. */
	if (now & ABI_BEAT_LATE || now == p->before || now == p->last)
		return false;
	p->last = now;
	return true;
}

static void hangs(struct pulse *p, const struct still *s, const char *which)
{
	char what[96];

	(void)snprintf(what, sizeof(what), "%s %d has not gone on for %llu s", which, (int)s->thread,
		       (unsigned long long)(s->hung_ns / 1000000000));
	pulse_stop(p);
	p->plan.hangs(p->plan.ctx, what);
}

static void look_due(struct loop_timer *t)
{
	struct pulse *p = container_of(t, struct pulse, look);
	uint64_t now = clock_ns(), elapsed = now - p->looked_ns;
	bool late = elapsed > 2 * pulse_look_ns, beaten = has_beaten(p) || (!p->last && p->said_goes);

	p->looked_ns = now;
	p->said_goes = false;
	loop_arm(p->plan.loop, &p->look, pulse_look_ns);
	if (now - p->said_ns > SAID_NS)
		p->stuck.thread = 0;
	if (beaten)
		p->control = (struct still){.thread = p->worker};
	if (late)
		p->control.seen = p->stuck.seen = false;
	else if (!beaten && look_at(p, &p->control, elapsed, p->last ? 1 : FIRST))
		hangs(p, &p->control, "its control thread");
	else if (p->stuck.thread && look_at(p, &p->stuck, elapsed, 1))
		hangs(p, &p->stuck, "its thread");
}

void pulse_start(struct pulse *p, pid_t worker)
{
	p->worker = worker;
	p->before = *p->beat;
	p->last = 0;
	p->control = (struct still){.thread = worker};
	p->stuck = (struct still){0};
	p->said_goes = false;
	p->looked_ns = clock_ns();
	loop_arm(p->plan.loop, &p->look, pulse_look_ns);
}

void pulse_stop(struct pulse *p)
{
	loop_disarm(p->plan.loop, &p->look);
}

void pulse_stuck(struct pulse *p, pid_t thread, uint32_t turn)
{
	p->said_goes |= !thread;
	if (thread <= 0)
		return;
	p->said_ns = clock_ns();
	if (p->stuck.thread == thread && p->turn == turn)
		return;
	p->stuck = (struct still){.thread = thread};
	p->turn = turn;
}

int pulse_open(struct pulse **ret, const struct pulse_plan *plan)
{
	struct pulse *p = mem_alloc(sizeof(*p));
	int err;

	p->plan = *plan;
	p->look.due = look_due;
	p->beat = mmap(NULL, sizeof(*p->beat), PROT_READ, MAP_SHARED, plan->beat, 0);
	if (p->beat == MAP_FAILED) {
		err = -errno;
		free(p);
		return err;
	}
	*ret = p;
	return 0;
}

void pulse_close(struct pulse *p)
{
	if (!p)
		return;
	pulse_stop(p);
	(void)munmap((void *)(uintptr_t)p->beat, sizeof(*p->beat));
	free(p);
}
