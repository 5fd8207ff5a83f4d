/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn.h: starts the worker program (proc/spawn.c): own user, no capability, no_new_privs, limits, clean environment,
 * fd 3 and stderr only, executed by fd.
 */
#ifndef WEFT_SPAWN_H
#define WEFT_SPAWN_H

#include "base.h"

struct spawn {
	pid_t pid;
	int pidfd;
	int sock; /* SOCK_SEQPACKET to the worker, non-blocking */
};

/* Finds weft-worker beside weftd or in /usr/lib/weft, once. fd or -errno (logged). */
int spawn_find(void) must_check;
/* 0 or -errno (logged) */
int spawn_start(struct spawn *ret, int program, uid_t uid, gid_t gid, char *const argv[]) must_check;
/*
 * A worker that a killed predecessor left: asked to go, waited for, killed. `file` holds "pid starttime"; the process
 * must still be that one.
 */
void spawn_end_orphan(int folder, const char *file);
/* That worker: a pidfd, or -errno if there is none. */
int spawn_orphan(int folder, const char *file, pid_t *ret) must_check;
/* Writes that file; where there is one, a file system that is full does not matter. */
int spawn_note(int folder, const char *file, pid_t pid) must_check;

/* Field 3 and all behind it of a stat file of /proc (the name before may hold spaces): in `text`. 0 or -errno */
#define SPAWN_STAT 1024
int spawn_stat(const char *path, char text[SPAWN_STAT], const char **ret) must_check;

#endif
