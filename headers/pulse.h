/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pulse.h: does the worker still go on? (proc/pulse.c)
 *
 * Its control thread writes the time into map `beat` four times a second, from when the first world is in the kernel,
 * and tells which thread of the data plane is in one turn of its loop for long (WIRE_STUCK). Until then it says that it
 * goes on itself, by the same message. One that does not go on hangs when it has done so for 30 s. What counts is
 *	asleep			the time: it waits for something that does not come
 *	running, or wants to	the CPU that it used: a busy machine is no reason; before the first world a tenth of it
 *	in the disk's hands	the same
 *	stopped, or debugged	nothing: it begins anew
 * and nothing while we came late ourselves: the machine stood still.
 */
#ifndef WEFT_PULSE_H
#define WEFT_PULSE_H

#include "loop.h"

struct pulse;
struct pulse_plan {
	struct loop *loop;
	int beat; /* borrowed: map `beat` */
	void (*hangs)(void *ctx, const char *what); /* "its control thread ..."; once for each worker */
	void *ctx;
};
int pulse_open(struct pulse **ret, const struct pulse_plan *plan) must_check; /* 0 or -errno */
void pulse_close(struct pulse *p);
void pulse_start(struct pulse *p, pid_t worker);
void pulse_stop(struct pulse *p);
void pulse_stuck(struct pulse *p, pid_t thread, uint32_t turn); /* as WIRE_STUCK says */

extern uint64_t pulse_look_ns, pulse_most_ns; /* for tests */

#endif
