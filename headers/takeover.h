/* SPDX-License-Identifier: Apache-2.0 */
/*
 * takeover.h: the worker of a weftd that was killed, taken over by the next one (proc/takeover.c).
 *
 *	killed --> the worker waits at resume.sock --same start--> it gives back the listeners and goes on: no
 *	connection notices					   --another--> it ends, and a new one is started
 */
#ifndef WEFT_TAKEOVER_H
#define WEFT_TAKEOVER_H

#include <sys/stat.h>

#include "folders.h"
#include "loader.h"
#include "spawn.h"

struct takeover { /* zeroed: nothing was taken over */
	bool taken;
	struct spawn worker;	/* not our child; the fds are whose closes them: takeover_close() does not */
	int admin, resume;	/* its listening sockets; as above */
	struct takeover_pod *pod; /* listeners as they came */
	unsigned pods;
};

/* A worker may take so long to give all back: 4096 pods with 64 threads take about 5 s. Tests have less time. */
extern uint64_t takeover_most_ns;

/* Members .map and .folder: what ties a worker to the kernel's maps and to the manifest folder that it has. */
int takeover_start(struct wire_start *start, const struct loader *l, int manifests) must_check;
void takeover_folder(struct wire_start *start, const struct stat *manifests); /* .folder alone: another one by now */
/*
 * Looks for such a worker; one that is there is taken over, or has ended when this returns (logged). Waits 20 s
 * at most.
 */
void takeover_try(struct takeover *ret, const struct folders *f, const struct wire_start *start);
/*
 * The listeners of a pod, of all threads, as netns_listen() gives them: the caller's, free() them. NULL: it has none,
 * or not all of them.
 */
int *takeover_listeners(struct takeover *t, uint64_t netns, unsigned threads);
uint64_t takeover_rest(const struct takeover *t); /* a netns whose listeners nobody has taken; 0: none */
void takeover_drop(struct takeover *t, uint64_t netns); /* closes the listeners of that one */
void takeover_close(struct takeover *t); /* what nobody has taken */

#endif
