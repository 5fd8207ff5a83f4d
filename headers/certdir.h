/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certdir.h: the certificate folder, seen from the supervisor (proc/certdir.c). Its files are root's, so that the
 * supervisor opens them for the worker. It does not look into them.
 */
#ifndef WEFT_CERTDIR_H
#define WEFT_CERTDIR_H

#include "wire.h"

struct certdir {
	char path[WIRE_PATH];
	bool ours;   /* of the embedded CA: the folder and its first files are made */
	bool follow; /* the path may be a link */
	bool told;   /* what is wrong with it is in the log */
	int notify;  /* inotify, the worker's as well; 0: none */
	int wd[2];   /* there: the folder, and the last part of its path, which may be a link; 0: not watched */
};

/*
 * Makes the folder if it is ours and not there. What fails is in the log; files cannot be opened then. -ENOTDIR: a file
 * is in its place, which no time will mend.
 */
int certdir_open(struct certdir *d, const char *path, bool ours, bool follow) must_check;
/*
 * inotify, anew: an fd, borrowed until this is called again, or -errno. A folder that is not there is not watched:
 * whoever wants its files asks again, and is answered out of one that is watched.
 */
int certdir_watch(struct certdir *d) must_check;
/*
 * The answer to a WIRE_CERTS: opens files, or makes them of texts[] (borrowed) first. How many fds are in fd[].
 * Two nodes that share a folder and start at once make one set. answer->number is -EMFILE, and there are none, if we
 * could not open what may well be there: to be asked again.
 */
unsigned certdir_answer(struct certdir *d, const struct wire *asked, const int *texts, unsigned count,
			struct wire *answer, int fd[WIRE_FDS]);

#endif
