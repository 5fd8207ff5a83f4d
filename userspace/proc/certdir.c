/* SPDX-License-Identifier: Apache-2.0 */
/* certdir.c: see certdir.h. */
#include "certdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "folders.h"

#define EVENTS \
	(IN_CREATE | IN_CLOSE_WRITE | IN_ATTRIB | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | \
	 IN_MOVE_SELF)
#define TEXT 65536 /* bytes of a file that is made */
#define LOCK_TRIES 50
#define LOCK_WAIT_NS 2000000 /* another node writes four small files meanwhile */

/* ------------------------------------------------------------------ the folder */

static const char *option(const struct certdir *d)
{
	return d->ours ? "--ca-dir" : "--certs-dir";
}

static bool of_root(const struct stat *st)
{
	return !st->st_uid || st->st_uid == geteuid();
}

/*
 * Nobody but root decides what root opens here for the worker. The worker's user owns the folder above the default
 * one: so no link as its last part. A volume of a Kubernetes Secret is writable to all, and sticky.
 */
static int folder(struct certdir *d, char text[WIRE_TEXT])
{
	int fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (d->follow ? 0 : O_NOFOLLOW)), err = 0;
	struct stat st;

	text[0] = '\0';
	if (fd < 0 || fstat(fd, &st)) {
		err = -errno;
	} else if (!of_root(&st) || (st.st_mode & 022 && !(st.st_mode & S_ISVTX))) {
		(void)snprintf(text, WIRE_TEXT,
			       "%.300s can be written by others than root: chown root it and chmod 700 it",
			       d->path);
		err = -EPERM;
	}
	if (err && err != -ENOENT && !d->told && text[0])
		log_error("certificate folder: %s", text);
	else if (err && err != -ENOENT && !d->told)
		log_error("certificate folder %s cannot be read: %s; put a folder there, or give %s another one",
			  d->path, strerror(-err), option(d));
	d->told = err != 0;
	if (!err)
		return fd;
	if (fd >= 0)
		close(fd);
	return err;
}

int certdir_open(struct certdir *d, const char *path, bool ours, bool follow)
{
	struct stat st;
	bool there;
	size_t len;

	*d = (struct certdir){.ours = ours, .follow = follow};
	text_copy(d->path, sizeof(d->path), path);
	for (len = strlen(d->path); len > 1 && d->path[len - 1] == '/'; len--)
		d->path[len - 1] = '\0'; /* behind a slash a link is followed whatever is asked for */
	there = !fstatat(AT_FDCWD, d->path, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW);
	if (there ? !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode) : errno == ENOTDIR) {
		log_error("certificate folder %s is a file, or lies below one: give %s a folder", d->path, option(d));
		return -ENOTDIR;
	}
	if (ours && mkdir(d->path, 0700) && errno != EEXIST)
		log_error("certificate folder %s cannot be made: %s; give --ca-dir another one", d->path,
			  strerror(errno));
	return 0;
}

int certdir_watch(struct certdir *d)
{
	const uint32_t events = EVENTS | IN_ONLYDIR | (d->follow ? 0 : IN_DONT_FOLLOW);
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), wd, err;

	if (fd < 0)
		return -errno;
	wd = inotify_add_watch(fd, d->path, events);
	if (wd < 0 && errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
		err = -errno;
		close(fd);
		return err;
	}
	if (d->notify)
		close(d->notify);
	d->notify = fd;
	d->wd[0] = wd < 0 ? 0 : wd;
	d->wd[1] = 0;
	return fd;
}

/*
 * Of a folder that another one took the place of nothing is told any more. So the one that is read is watched, and the
 * link that leads to it, before its files are opened. What is watched already tells nothing of it.
 */
static void watch(struct certdir *d, int at)
{
	char self[32];
	int wd[2];

	if (!d->notify)
		return;
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
	wd[0] = inotify_add_watch(d->notify, self, EVENTS | IN_ONLYDIR);
	wd[1] = inotify_add_watch(d->notify, d->path, EVENTS | IN_DONT_FOLLOW);
	for (unsigned i = 0; i < array_size(wd); i++) {
		int was = d->wd[i];

		if (was && was != wd[0] && was != wd[1])
			(void)inotify_rm_watch(d->notify, was);
		d->wd[i] = wd[i] < 0 ? 0 : wd[i];
	}
}

/*
 * Not every file system locks folders (NFS does not, for us): then what is read may be half of what another node is
 * writing, which is seen and read again.
 */
static void lock(int fd, int how)
{
	const struct timespec wait = {.tv_nsec = LOCK_WAIT_NS};

	for (int i = 0; i < LOCK_TRIES && flock(fd, how | LOCK_NB) && errno == EWOULDBLOCK; i++)
		(void)nanosleep(&wait, NULL);
}

/* ------------------------------------------------------------------ files */

static bool valid_name(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/');
}

static int open_file(int at, const char *name)
{
	int fd = folders_open_below(at, name);
	struct stat st;

	if (fd < 0 || (!fstat(fd, &st) && of_root(&st)))
		return fd;
	close(fd);
	return -EPERM;
}

/* One text into a file beside its place. 0 or -errno */
static int write_fresh(int at, const char *fresh, int text)
{
	char *data = mem_alloc(TEXT + 1);
	ssize_t len = pread(text, data, TEXT + 1, 0);
	int err = len < 0 ? -errno : len > TEXT ? -EFBIG
						: 0;
	int fd = -1;

	if (!err && unlinkat(at, fresh, 0) && errno != ENOENT)
		err = -errno;
	if (!err) {
		fd = openat(at, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		err = fd < 0 ? -errno : 0;
	}
	if (!err && write(fd, data, (size_t)len) != len)
		err = errno ? -errno : -EIO;
	if (!err && fsync(fd))
		err = -errno;
	if (fd >= 0)
		close(fd);
	mem_wipe(data, TEXT + 1); /* it may be a key */
	free(data);
	return err;
}

/* link() and not rename(): who is second does not replace what the first has made. */
static int make(int at, const struct wire_files *f, const int *texts)
{
	char fresh[WIRE_FILES][WIRE_FILE_NAME + 32] = {0};
	int err = 0;

	for (unsigned i = 0; i < f->count && !err; i++) {
		struct stat st;

		if (!fstatat(at, f->name[i], &st, AT_SYMLINK_NOFOLLOW))
			return 0; /* some are there: they are the answer */
	}
	for (unsigned i = 0; i < f->count && !err; i++) {
		(void)snprintf(fresh[i], sizeof(fresh[i]), ".%s.new-%d", f->name[i], (int)getpid());
		err = write_fresh(at, fresh[i], texts[i]);
	}
	for (unsigned i = 0; i < f->count && !err; i++)
		if (linkat(at, fresh[i], at, f->name[i], 0))
			err = -errno;
	for (unsigned i = 0; i < f->count; i++)
		(void)unlinkat(at, fresh[i], 0);
	(void)fsync(at);
	return err == -EEXIST ? 0 : err;
}

/*
 * One file alone is missing, and its name is a link: it is there, and cannot be read, which closes if it is the CRL.
 * With others the folder is being replaced.
 */
static void find_dead_link(int at, struct wire_files *f)
{
	unsigned missing = 0, last = 0;
	struct stat st;

	for (unsigned i = 0; i < f->count; i++)
		if (f->error[i] == -ENOENT) {
			missing++;
			last = i;
		}
	if (f->count > 1 && missing == 1 && !fstatat(at, f->name[last], &st, AT_SYMLINK_NOFOLLOW) &&
	    S_ISLNK(st.st_mode))
		f->error[last] = -ENOLINK;
}

unsigned certdir_answer(struct certdir *d, const struct wire *asked, const int *texts, unsigned count,
			struct wire *answer, int fd[WIRE_FDS])
{
	const struct wire_files *f = &asked->files;
	int at, err = count && (!d->ours || count != f->count) ? -EINVAL : 0;
	unsigned opened = 0;
	bool want = false;

	answer->files = *f;
	for (unsigned i = 0; i < f->count && !err; i++)
		err = valid_name(f->name[i]) ? 0 : -EINVAL;
	if (count && !err && mkdir(d->path, 0700) && errno != EEXIST)
		err = -errno;
	at = err ? err : folder(d, answer->text);
	if (at >= 0) {
		watch(d, at);
		lock(at, count ? LOCK_EX : LOCK_SH);
		err = count ? make(at, f, texts) : 0;
	} else {
		err = at;
	}
	for (unsigned i = 0; i < f->count; i++) {
		int got = err ? err : open_file(at, f->name[i]);

		answer->files.error[i] = got < 0 ? got : 0;
		want |= wire_want(got);
		if (got >= 0)
			fd[opened++] = got;
	}
	if (want) { /* a CRL that cannot be read closes, and nothing is wrong with this one */
		while (opened)
			close(fd[--opened]);
		answer->number = -EMFILE;
	}
	if (at >= 0) {
		find_dead_link(at, &answer->files);
		close(at); /* and the lock */
	}
	return opened;
}
