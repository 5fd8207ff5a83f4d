/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest.h: does the running kernel's sockmap do what a splice needs? (proc/selftest.c runs it in a process of its
 * own, proc/selftest_rows.c has the rows, proc/selftest_rig.c the sockets and the BPF object that they use.)
 *
 * The process has a netns of its own and its own little BPF object: real TCP sockets over loopback are entered,
 * redirected into and looked at as weft does it. Nothing of it has a name (no pin, no cgroup, no folder): all of it
 * dies with the process, and the process with weftd. A row that the kernel fails, or a process that hangs or is
 * killed by a kernel fault, leaves `auto` off; weftd goes on.
 *
 * A cgroup of its own would change nothing: programs of the machine's root cgroup run for it too, and the sockets are
 * entered by an iterator, as weft enters them, not by sockops.
 */
#ifndef WEFT_SELFTEST_H
#define WEFT_SELFTEST_H

#include "probe.h"

struct selftest {
	struct wire_probe row[WIRE_SELFTESTS];
	unsigned rows;
	unsigned ms; /* it took */
};

/*
 * Runs it (40 ms). After SELFTEST_MS the process is killed and the row that it was at has failed; but where it is
 * still running, on a machine that is busy or emulated, it has up to SELFTEST_BUSY_MS. Needs every privilege: before
 * privilege_keep(). The caller has no threads yet.
 */
#define SELFTEST_MS 1000
#define SELFTEST_BUSY_MS 5000
void selftest_run(struct selftest *ret);

/*
 * What follows from it: p->kernel_safe = the known fixes are in (p->fixes) and no row failed; p->counts_tcp = row
 * SELFTEST_COUNTS_TCP passed. Adds the rows "self-test" and "splice auto" to `p`, fills p->at_stake with what a forced
 * splice risks (empty if nothing).
 */
#define SELFTEST_COUNTS_TCP "FIONREAD TCP"
void selftest_settle(const struct selftest *t, struct probe *p);

bool selftest_ok(const struct selftest *t, const char *row); /* that row ran, and the kernel passed */
bool selftest_passed(const struct selftest *t); /* every row ran, none failed */
void selftest_report(const struct selftest *t, struct wire_status *ret);
void selftest_print(const struct selftest *t, FILE *to);

/* -------- the rows (selftest_rows.c), for the process and for tests */

struct rig;

struct selftest_row {
	const char *name;
	const char *passed; /* what a kernel that passes does */
	const char *stake;  /* what programs see on one that fails */
	/* NULL: it decides about `auto`. Else the fault hurts only readers of one kind, and this is what weft does to
	 * find them and keep them out: a failed row is then `off`, not `failed`. */
	const char *kept_out;
	/* false: failed, rig_why() says how. May leave the row as `off` by rig_lacks(). */
	bool (*run)(struct rig *r);
};

extern const struct selftest_row selftest_rows[];
extern const unsigned selftest_row_count;

#endif
