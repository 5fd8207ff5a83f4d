/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h: what this machine can do (proc/probe.c): the table of `weftctl status` and `weftd --probe`.
 */
#ifndef WEFT_PROBE_H
#define WEFT_PROBE_H

#include "wire.h"

struct probe {
	struct wire_probe row[WIRE_PROBES];
	unsigned rows;
	char kernel[96]; /* "6.1.0-40-amd64 (6.1.153)": release, and the version if the release hides it */
	unsigned version[3];
	char cgroup[WIRE_PATH]; /* where programs are attached */
	int cgroup_fd;
	bool sees_own; /* weftd is in that cgroup, and so are the sockets that it makes in pods */
	bool fixes;	  /* faults that no test can see are fixed: see probe_has_fixes() */
	bool kernel_safe; /* `auto` may splice; selftest_settle() decides */
	bool iterates;	  /* iterators over socket storage are safe to run */
	bool counts_tcp;  /* FIONREAD sees what TCP brought to a socket in the map; else who asks it is not spliced */
	char at_stake[WIRE_STAKE]; /* what a forced splice risks; "" if nothing that is known */
};

/*
 * Base conditions: root, kernel, cgroup v2 (at `cgroup`, or found if NULL), bpffs (mounted if it is not), BTF.
 * The first that fails is logged as one sentence that says what to do, and -errno is returned. On success
 * cgroup_fd is open; it belongs to the caller.
 */
int probe_base(struct probe *p, const char *cgroup) must_check;

/* Adds a row, or changes the row of that name. */
void probe_row(struct probe *p, const char *name, enum wire_probe_state state, const char *fmt, ...)
	printf_like(4, 5);

/*
 * Of several warnings of libbpf about one load the one that says why: the verifier's last line before its figures, else
 * the first warning. `words` is "" before the first of them.
 */
void probe_hear(const char *said, char *words, size_t size);

/* Is the known fault that no test can see (it needs a race) fixed in this version? The rule is in probe.c. */
bool probe_has_fixes(const unsigned version[3]);

void probe_print(const struct probe *p, FILE *to);

#endif
