/* SPDX-License-Identifier: Apache-2.0 */
/* folders.c: see folders.h. */
#include "folders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOCK "lock"
#define WATCHED (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)
#define DEPTH 16 /* of folders that remove() enters: the state folder is the worker's, who may be hostile */

static int folder_at(int at, const char *path, mode_t mode)
{
	int fd;

	if (mkdirat(at, path, mode) && errno != EEXIST)
		return -errno;
	fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static pid_t holder(int lock)
{
	char text[32];
	ssize_t n = pread(lock, text, sizeof(text) - 1, 0);
	long long pid;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return text_number(text, 1, INT32_MAX, &pid) ? 0 : (pid_t)pid;
}

/* One of an earlier version has it by flock(), which does not see the other kind. */
static bool flocked(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK;
	(void)flock(fd, LOCK_UN);
	return false;
}

/*
 * Lock, then look whether the file is still the one in the folder: --uninstall may have removed it meanwhile. A lock of
 * POSIX, which is the process's own and ends with it: one of flock() would be its children's too, who end a little
 * later (the self-test) or run another program. Whoever opens and closes the file again in this process loses it.
 */
static int lock_take(int run, const char *instance)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat held, there;
	int fd, err;

	for (int i = 0; i < 100; i++) {
		fd = openat(run, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		err = fcntl(fd, F_SETLK, &whole) ? -errno : flocked(fd) ? -EAGAIN : 0;
		if (err) {
			if (err == -EAGAIN || err == -EACCES) {
				log_error("weftd of instance %s is running already (pid %d): stop it "
					  "first, or give this one another --instance",
					  instance, (int)holder(fd));
				err = -EBUSY;
			}
			close(fd);
			return err;
		}
		if (!fstat(fd, &held) && !fstatat(run, LOCK, &there, AT_SYMLINK_NOFOLLOW) &&
		    held.st_ino == there.st_ino)
			return fd;
		close(fd);
	}
	return -EAGAIN;
}

static int lock_sign(int fd)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
		return errno ? -errno : -EIO;
	return 0;
}

static int run_open(struct folders *f, const char *instance)
{
	int all = folder_at(AT_FDCWD, FOLDERS_RUN, 0755);

	if (all < 0)
		return all;
	f->run = folder_at(all, instance, 0700);
	close(all);
	if (f->run < 0)
		return f->run;
	f->lock = lock_take(f->run, instance);
	if (f->lock < 0)
		return f->lock;
	/* Only root may be in here, whoever made the folder. */
	if (fchown(f->run, 0, 0) || fchmod(f->run, 0700))
		return -errno;
	f->pods = folder_at(f->run, "pods", 0700);
	return f->pods < 0 ? f->pods : lock_sign(f->lock);
}

static int state_open(struct folders *f, const char *instance, uid_t uid, gid_t gid)
{
	int all = folder_at(AT_FDCWD, FOLDERS_STATE, 0755);

	if (all < 0)
		return all;
	f->state = folder_at(all, instance, 0700);
	close(all);
	if (f->state < 0)
		return f->state;
	return fchown(f->state, uid, gid) || fchmod(f->state, 0700) ? -errno : 0;
}

int folders_open(struct folders *ret, const char *instance, uid_t uid, gid_t gid)
{
	struct folders f = {.run = -1, .pods = -1, .state = -1, .lock = -1};
	int err;

	(void)snprintf(f.path, sizeof(f.path), FOLDERS_RUN "/%s", instance);
	err = run_open(&f, instance);
	if (err && err != -EBUSY)
		log_error("run folder %s cannot be made: %s; give weftd a file system there that it may write to",
			  f.path, strerror(-err));
	if (!err) {
		err = state_open(&f, instance, uid, gid);
		if (err)
			log_error("state folder " FOLDERS_STATE "/%s cannot be made: %s; give weftd a file system "
				  "there that it may write to", instance, strerror(-err));
	}
	if (err) {
		folders_close(&f);
		return err;
	}
	*ret = f;
	return 0;
}

int folders_lock(const char *instance, int *ret_lock)
{
	char path[128];
	int run, lock;

	*ret_lock = -1;
	(void)snprintf(path, sizeof(path), FOLDERS_RUN "/%s", instance);
	run = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (run < 0)
		return errno == ENOENT ? 0 : -errno;
	lock = lock_take(run, instance);
	close(run);
	if (lock < 0)
		return lock;
	*ret_lock = lock;
	return 0;
}

void folders_close(struct folders *f)
{
	int *fd[] = {&f->pods, &f->state, &f->run, &f->lock};

	for (unsigned i = 0; i < array_size(fd); i++) {
		if (*fd[i] >= 0)
			close(*fd[i]);
		*fd[i] = -1;
	}
}

int folders_open_below(int folder, const char *name)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int path = (int)syscall(SYS_openat2, folder, name, &how, sizeof(how)), fd;
	char self[32];
	struct stat st;

	if (path < 0)
		return -errno;
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", path);
	if (fstat(path, &st))
		fd = -errno;
	else if (!S_ISREG(st.st_mode))
		fd = -ENXIO; /* as open says of a socket */
	else
		fd = open(self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd == -1)
		fd = -errno;
	close(path);
	return fd;
}

int folders_open_named(int folder, const char *name, bool *ret_link)
{
	int fd = folders_open_below(folder, name);
	struct stat st;

	*ret_link = !strchr(name, '/') && !fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode);
	return fd == -ENOENT && *ret_link ? -ENOLINK : fd;
}

int folders_watch(int folder)
{
	char path[32];
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", folder);
	if (inotify_add_watch(fd, path, WATCHED) >= 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* Empties a folder; fd is used up. */
static int empty(int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *e;
	int err = 0;

	if (!dir) {
		err = -errno;
		close(fd);
		return err;
	}
	while (!err && (e = readdir(dir))) {
		int sub;

		if (text_equal(e->d_name, ".") || text_equal(e->d_name, ".."))
			continue;
		if (!unlinkat(dirfd(dir), e->d_name, 0))
			continue;
		if (errno != EISDIR) {
			err = errno == ENOENT ? 0 : -errno;
			continue;
		}
		sub = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0 || !depth) {
			err = sub < 0 ? -errno : -ELOOP;
			if (sub >= 0)
				close(sub);
			continue;
		}
		err = empty(sub, depth - 1);
		if (!err && unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR))
			err = -errno;
	}
	closedir(dir);
	return err;
}

static int drop(const char *root, const char *instance)
{
	char path[128];
	int fd, err;

	(void)snprintf(path, sizeof(path), "%s/%s", root, instance);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		err = empty(fd, DEPTH);
		if (!err && rmdir(path))
			err = -errno;
	} else {
		err = errno == ENOENT ? 0 : -errno;
	}
	if (err) {
		log_error("%s cannot be removed: %s", path, strerror(-err));
		return err;
	}
	/* The last instance takes the common folder with it; others keep it. */
	if (rmdir(root) && errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT)
		log_warning("%s cannot be removed: %s", root, strerror(errno));
	return 0;
}

int folders_remove(const char *instance)
{
	int run = drop(FOLDERS_RUN, instance), state = drop(FOLDERS_STATE, instance);

	return run ? run : state;
}
