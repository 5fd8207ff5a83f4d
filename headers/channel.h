/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel.h: the worker, seen from the supervisor (proc/channel.c): its process, its socket, its answers.
 * A worker that dies, or hangs and is killed (pulse.h), is started again at once; the sixth in a row that dies within
 * 10 s, after 100 ms, doubled up to 5 s. One that has closed its socket has 3 s to end.
 */
#ifndef WEFT_CHANNEL_H
#define WEFT_CHANNEL_H

#include "certdir.h"
#include "folders.h"
#include "loop.h"
#include "pods.h"
#include "spawn.h"

struct channel;

struct channel_plan {
	struct loop *loop;
	struct pods *pods;
	struct loader *loader;
	const struct folders *folders;
	const struct wire_start *start; /* borrowed; splice_on is read at each start */
	int fd[WIRE_FD_COUNT]; /* borrowed; WIRE_FD_NOTIFY and WIRE_FD_CERTS are made anew for each worker */
	struct certdir *certs; /* borrowed */
	const struct spawn *taken; /* a worker that is there already, or NULL; its fds are taken */
	const char *instance, *log_format, *log_level; /* arguments of the worker */
	uid_t uid;
	gid_t gid;
	/* what the owner wants to know; each may be called from any channel function but channel_open */
	void (*ready)(void *ctx); /* channel_ready() or its reason changed */
	void (*enrolled)(void *ctx, struct pod *pod, int error, const char *why); /* after pods_accepted/refused */
	void (*released)(void *ctx, struct pod *pod); /* before the pod is freed */
	void *ctx;
};

int channel_open(struct channel **ret, const struct channel_plan *plan) must_check; /* starts the worker */
void channel_pump(struct channel *c); /* sends what pods wait for */
void channel_splice(struct channel *c); /* tells that start->splice_on changed */
void channel_read_again(struct channel *c); /* SIGHUP */
void channel_restart(struct channel *c); /* the worker: what it was started with has changed */
bool channel_ready(const struct channel *c, char *why, size_t size);
bool channel_answered(const struct channel *c); /* the first world was read, well or not */
pid_t channel_pid(const struct channel *c); /* 0: none */
/* How often it was started again, when the last one ended (0: none has) and how. */
unsigned channel_restarts(const struct channel *c, uint64_t *ret_ended_ns, char *ret_how, size_t size);
void channel_close(struct channel *c); /* ends the worker: SIGTERM, waited 3 s, killed */

extern unsigned channel_end_ms; /* for tests */

#endif
