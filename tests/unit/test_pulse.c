/* SPDX-License-Identifier: Apache-2.0 */
/* Does the worker go on? Played by processes that sleep, spin, are stopped, beat or have a thread that does not. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "abi.h"
#include "pulse.h"

#define LOOK_NS 25000000ull /* one that comes as late again does not count */
#define MOST_NS 60000000ull
#define LONG_NS 200000000ull /* nothing has happened until then */

enum ways { SLEEPS,
	    SPINS };

struct scene {
	struct loop *loop;
	struct pulse *pulse;
	volatile uint64_t *beat;
	int map;
	pid_t worker;
	char what[128];
	unsigned hung;
	struct loop_timer enough, beats;
	uint64_t next; /* what the next beat says */
};

static void hangs(void *ctx, const char *what)
{
	struct scene *s = ctx;

	s->hung++;
	text_copy(s->what, sizeof(s->what), what);
	loop_stop(s->loop);
}

static void enough_due(struct loop_timer *t)
{
	loop_stop(container_of(t, struct scene, enough)->loop);
}

static pid_t worker_new(enum ways way)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* if a test fails */
	prctl(PR_SET_NAME, "a) R 1 (b");  /* a name may be anything */
	for (volatile unsigned i = 0;; i++)
		if (way == SLEEPS)
			pause();
}

static void begin(struct scene *s, enum ways way)
{
	*s = (struct scene){.loop = loop_new(), .enough.due = enough_due};
	s->map = memfd_create("beat", MFD_CLOEXEC);
	assert_int_equal(ftruncate(s->map, sizeof(uint64_t)), 0);
	s->beat = mmap(NULL, sizeof(*s->beat), PROT_READ | PROT_WRITE, MAP_SHARED, s->map, 0);
	assert_true(s->beat != MAP_FAILED);
	*s->beat = 1000; /* of the worker before */
	s->worker = worker_new(way);
	assert_int_equal(pulse_open(&s->pulse, &(const struct pulse_plan){
						       .loop = s->loop, .beat = s->map, .hangs = hangs, .ctx = s}),
			 0);
	pulse_start(s->pulse, s->worker);
}

static void end(struct scene *s)
{
	kill(s->worker, SIGKILL);
	assert_int_equal(waitpid(s->worker, NULL, 0), s->worker);
	pulse_close(s->pulse);
	munmap((void *)(uintptr_t)s->beat, sizeof(*s->beat));
	close(s->map);
	loop_free(s->loop);
}

/* Until it hangs, or so long. */
static void run(struct scene *s, uint64_t ns)
{
	loop_arm(s->loop, &s->enough, ns);
	assert_int_equal(loop_run(s->loop), 0);
	loop_disarm(s->loop, &s->enough);
}

#define EVER 20000000000ull /* on the busiest machine */

static void one_that_waits_for_what_does_not_come_hangs(void **state)
{
	struct scene s;

	begin(&s, SLEEPS);
	*s.beat = 2000;
	run(&s, EVER);
	assert_int_equal(s.hung, 1);
	assert_non_null(strstr(s.what, "its control thread"));
	run(&s, LONG_NS); /* said once */
	assert_int_equal(s.hung, 1);
	end(&s);
}

static void one_that_spins_hangs(void **state)
{
	struct scene s;

	begin(&s, SPINS);
	*s.beat = 2000;
	run(&s, EVER);
	assert_int_equal(s.hung, 1);
	end(&s);
}

/* One that waits, and never comes so far as to beat. */
static void one_that_never_beats_hangs(void **state)
{
	struct scene s;

	begin(&s, SLEEPS);
	*s.beat = 2000 | ABI_BEAT_LATE; /* of the kernel's programs */
	run(&s, EVER);
	assert_int_equal(s.hung, 1);
	assert_non_null(strstr(s.what, "its control thread"));
	end(&s);
}

static void said_due(struct loop_timer *t)
{
	struct scene *s = container_of(t, struct scene, beats);

	pulse_stuck(s->pulse, 0, 0);
	loop_arm(s->loop, &s->beats, LOOK_NS / 2);
}

/* Nor does it hang while it says that it goes on; once it has beaten, that counts alone. */
static void one_that_says_that_it_goes_on_does_not(void **state)
{
	struct scene s;

	begin(&s, SLEEPS);
	s.beats.due = said_due;
	said_due(&s.beats);
	run(&s, 2 * LONG_NS);
	assert_int_equal(s.hung, 0);
	*s.beat = 2000;
	run(&s, EVER);
	assert_int_equal(s.hung, 1);
	loop_disarm(s.loop, &s.beats);
	end(&s);
}

/* Reading 10 000 services on a slow machine is no reason, for ten times as long. */
static void one_that_works_before_its_first_beat_has_time(void **state)
{
	uint64_t most = pulse_most_ns;
	struct scene s;

	begin(&s, SPINS);
	pulse_most_ns = LONG_NS / 8;
	run(&s, LONG_NS);
	assert_int_equal(s.hung, 0);
	run(&s, EVER);
	assert_int_equal(s.hung, 1);
	pulse_most_ns = most;
	end(&s);
}

static void beat_due(struct loop_timer *t)
{
	struct scene *s = container_of(t, struct scene, beats);

	*s->beat = s->next += 2;
	loop_arm(s->loop, &s->beats, LOOK_NS / 2);
}

static void one_that_beats_does_not(void **state)
{
	struct scene s;

	begin(&s, SPINS);
	s.next = 2000;
	s.beats.due = beat_due;
	beat_due(&s.beats);
	run(&s, LONG_NS);
	assert_int_equal(s.hung, 0);
	loop_disarm(s.loop, &s.beats);
	*s.beat = s.next | ABI_BEAT_LATE; /* the kernel's programs are no sign of life */
	run(&s, EVER);
	assert_int_equal(s.hung, 1);
	end(&s);
}

static void one_that_is_stopped_does_not(void **state)
{
	struct scene s;
	int status;

	begin(&s, SPINS);
	*s.beat = 2000;
	kill(s.worker, SIGSTOP);
	assert_int_equal(waitpid(s.worker, &status, WUNTRACED), s.worker);
	run(&s, LONG_NS);
	assert_int_equal(s.hung, 0);
	kill(s.worker, SIGCONT);
	run(&s, EVER);
	assert_int_equal(s.hung, 1);
	end(&s);
}

/* Nothing is counted while we ourselves come late: the machine stood still. */
static void a_machine_that_stands_still_is_no_reason(void **state)
{
	uint64_t most = pulse_most_ns;
	struct scene s;

	begin(&s, SLEEPS);
	*s.beat = 2000;
	pulse_most_ns = 2 * LONG_NS;
	run(&s, 3 * LOOK_NS);
	(void)usleep(3 * LONG_NS / 1000);
	run(&s, LOOK_NS / 2);
	assert_int_equal(s.hung, 0);
	pulse_most_ns = most;
	end(&s);
}

/* ------------------------------------------------------------------ a thread of the data plane */

static void say(struct scene *s, pid_t thread, uint32_t turn)
{
	for (unsigned i = 0; i < 8 && !s->hung; i++) { /* as the control thread does */
		*s->beat = s->next += 2;
		pulse_stuck(s->pulse, thread, turn);
		run(s, LOOK_NS);
	}
}

static void a_thread_that_spins_hangs(void **state)
{
	struct scene s;

	begin(&s, SPINS);
	s.next = 2000;
	for (unsigned i = 0; i < 100 && !s.hung; i++)
		say(&s, s.worker, 7);
	assert_int_equal(s.hung, 1);
	assert_non_null(strstr(s.what, "its thread"));
	end(&s);
}

static void a_thread_that_goes_on_does_not(void **state)
{
	struct scene s;

	begin(&s, SLEEPS);
	s.next = 2000;
	for (uint32_t turn = 1; turn < 50; turn += 2) {
		*s.beat = s.next += 2;
		pulse_stuck(s.pulse, s.worker, turn);
		run(&s, LOOK_NS / 2);
	}
	assert_int_equal(s.hung, 0);
	end(&s);
}

static void a_thread_that_is_not_its_own_is_nobody(void **state)
{
	struct scene s;

	begin(&s, SPINS);
	s.next = 2000;
	say(&s, getpid(), 7);
	say(&s, -1, 7);
	say(&s, 0, 7);
	assert_int_equal(s.hung, 0);
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_waits_for_what_does_not_come_hangs),
		cmocka_unit_test(one_that_spins_hangs),
		cmocka_unit_test(one_that_never_beats_hangs),
		cmocka_unit_test(one_that_says_that_it_goes_on_does_not),
		cmocka_unit_test(one_that_works_before_its_first_beat_has_time),
		cmocka_unit_test(one_that_beats_does_not),
		cmocka_unit_test(one_that_is_stopped_does_not),
		cmocka_unit_test(a_machine_that_stands_still_is_no_reason),
		cmocka_unit_test(a_thread_that_spins_hangs),
		cmocka_unit_test(a_thread_that_goes_on_does_not),
		cmocka_unit_test(a_thread_that_is_not_its_own_is_nobody),
	};

	pulse_look_ns = LOOK_NS;
	pulse_most_ns = MOST_NS;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
