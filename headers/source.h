/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h: where objects come from. A source fills the store and says what is wrong with its input.
 *
 *	struct source *s = manifests_source(&config);
 *	source_load(s); watch s->fd; when it is readable: if (source_ready(s) > 0) rebuild the world
 *
 * After each call that returns > 0, store_changes() has what changed. A source does all its work inside
 * these calls, in the caller's thread, and applies a change as a whole: the store never shows half a file.
 *
 * Rules of every source
 *   last good   what cannot be understood changes nothing: the last good version of each object stays in force
 *               until the object is given anew or its place (the file) is gone. A policy that has no last good
 *               version is replaced by one that closes what it selects.
 *   one name    of two objects of one name the first stays (by file name, then by place in the file); the other is
 *               an error that names both places and takes over when the first goes.
 */
#ifndef WEFT_SOURCE_H
#define WEFT_SOURCE_H

#include "model.h"

struct source {
	const char *name; /* "folder /etc/weft/manifests", for messages */
	int fd;		  /* readable when source_ready has something to do; -1: never */
	bool loaded;	  /* everything that was there at source_load has been read, or reported */
	const struct source_ops *ops;
};

struct source_ops { /* one table per kind of source; see the functions below */
	int (*load)(struct source *s);
	int (*ready)(struct source *s);
	const struct problem *(*problems)(const struct source *s, unsigned *ret_errors, unsigned *ret_warnings);
	void (*free)(struct source *s);
};

/* Read everything anew; what did not change costs nothing. >0 the store or the problems changed, 0 not, or -errno. */
static inline int must_check source_load(struct source *s)
{
	return s->ops->load(s);
}

/* s->fd is readable. >0 the store or the problems changed, 0 not, or -errno: the source is broken. Never blocks. */
static inline int must_check source_ready(struct source *s)
{
	return s->ops->ready(s);
}

/*
 * All that is wrong now, in order of file and line; valid until the next call of load or ready. The list is
 * cut at SOURCE_PROBLEMS; the numbers are exact.
 */
#define SOURCE_PROBLEMS 1000
static inline const struct problem *source_problems(const struct source *s, unsigned *ret_errors,
						    unsigned *ret_warnings)
{
	return s->ops->problems(s, ret_errors, ret_warnings);
}

/* Its objects stay in the store. */
static inline void source_free(struct source *s)
{
	if (s)
		s->ops->free(s);
}

/* ------------------------------------------------------------------ control/manifests.c */

#define MANIFESTS_MAX_FILES 65536
#define MANIFESTS_MAX_BYTES (256u << 20) /* of all files together */

/*
 * A folder of *.yaml, *.yml and *.json. Not its subfolders, not names that start with a dot. Symbolic links are
 * followed, so that a mounted ConfigMap works. Only regular files are read.
 */
struct manifests_config {
	const char *path;    /* of the folder: for messages only */
	int folder;	     /* O_RDONLY|O_DIRECTORY; the source takes it */
	int notify;	     /* inotify, non-blocking, watching the folder (MANIFESTS_EVENTS); taken too */
	struct store *store; /* outlives the source */
	/*
	 * Opens a file of the folder read-only and non-blocking where the process itself may not. Returns the fd,
	 * -errno, or -EINPROGRESS: manifests_opened() will be called later. NULL: openat(folder). -ENOLINK: it is
	 * a link that leads nowhere, of a folder in which the process cannot see that itself.
	 */
	int (*open)(void *ctx, const char *name);
	void *ctx;
};

#define MANIFESTS_EVENTS                                                                    \
	(IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_CREATE | \
	 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct source *manifests_source(const struct manifests_config *c) must_check;
/*
 * Answer to an open() that said -EINPROGRESS: the fd (taken) or -errno. Returns as source_ready; s->loaded turns
 * true with the last answer that source_load waited for. `link`: the name is a link, whose content is there at once: in
 * a folder that the process cannot enter it does not see that itself.
 */
int manifests_opened(struct source *s, const char *name, int fd, bool link) must_check;
void manifests_unanswered(struct source *s); /* who was asked is gone, with his answers: source_load asks anew */

#endif
