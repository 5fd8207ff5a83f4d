/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folders.h: run folder /run/weft/INSTANCE, state folder /var/lib/weft/INSTANCE, and the lock that makes weftd the
 * only one of its instance (proc/folders.c).
 */
#ifndef WEFT_FOLDERS_H
#define WEFT_FOLDERS_H

#include "base.h"

#define FOLDERS_RUN "/run/weft"
#define FOLDERS_STATE "/var/lib/weft"
#define FOLDERS_CLIENT "weftd.sock"
#define FOLDERS_ADMIN "admin.sock"
#define FOLDERS_WORKER "worker.pid"
#define FOLDERS_RESUME "resume.sock"

struct folders {
	char path[128]; /* /run/weft/INSTANCE */
	int run;
	int pods;  /* pods/: see podfile.h */
	int state; /* owned by the worker's user */
	int lock;
};

/*
 * Makes the folders and takes the lock; -EBUSY (logged, with the pid) if another weftd has it. All fds are O_CLOEXEC.
 */
int folders_open(struct folders *ret, const char *instance, uid_t uid, gid_t gid) must_check;
/* Lock for --uninstall: 0 with *ret_lock (-1: there is no run folder), -EBUSY (logged) if a weftd runs. */
int folders_lock(const char *instance, int *ret_lock) must_check;
/*
 * A regular file beneath a folder that is not ours, links followed as long as they stay there: an fd, or -errno.
 * Devices and FIFOs are not even opened.
 */
int folders_open_below(int folder, const char *name) must_check;
/*
 * The same of a name in the folder. -ENOLINK: it is a link that leads nowhere, whose objects stay in force, while those
 * of a file that is gone do not; who asks may not look himself.
 */
int folders_open_named(int folder, const char *name, bool *ret_link) must_check;
int folders_watch(int folder) must_check; /* an inotify fd, non-blocking, that tells which files come, change and go */
void folders_close(struct folders *f);
/* Removes run and state folder with all in them; links are not followed. 0 or -errno (logged). */
int folders_remove(const char *instance) must_check;

#endif
