/* SPDX-License-Identifier: Apache-2.0 */
/* spawn.c: see spawn.h. */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "privilege.h"

#define PROGRAM "weft-worker"
#define INSTALLED "/usr/lib/weft/" PROGRAM
#define WORKER_FD 3
#define BUFFER (4 << 20) /* both ways: a wire message is 18 KB, and a restart enrols every pod */
#define FILES 65536	 /* open files of the worker, if the machine allows so many */
#define ORPHAN_MS 3000	 /* for a worker whose supervisor was killed to let go of its connections */
#define PID_TEXT 64

int spawn_find(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof(PROGRAM) - 1);
	char *slash;
	int fd;

	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
		if (slash) {
			memcpy(slash + 1, PROGRAM, sizeof(PROGRAM));
			fd = open(path, O_PATH | O_CLOEXEC);
			if (fd >= 0)
				return fd;
		}
	}
	fd = open(INSTALLED, O_PATH | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	fd = -errno;
	log_error("%s is neither beside weftd nor at %s: install it there", PROGRAM, INSTALLED);
	return fd;
}

static int limit(int what, rlim_t most)
{
	struct rlimit r;

	if (getrlimit(what, &r))
		return -errno;
	if (r.rlim_max > most)
		r.rlim_max = most;
	r.rlim_cur = r.rlim_max; /* never above what we have: no CAP_SYS_RESOURCE needed */
	return setrlimit(what, &r) ? -errno : 0;
}

static int child_signals(void)
{
	struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		(void)sigaction(s, &plain, NULL); /* SIGKILL, SIGSTOP and libc's own refuse */
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) ? -errno : 0;
}

/*
 * After fork: only system calls. `report` gets the errno if the worker cannot be executed; it has a number above
 * WORKER_FD and is O_CLOEXEC, as `program` is.
 */
static int child(int sock, int program, int report, uid_t uid, gid_t gid, char *const argv[])
{
	/*
	 * glibc's malloc has 7 freed pieces of each size at hand; a batch of requests frees some dozens. And what was
	 * large once it keeps for the next time, up to 32 MiB: each look at all connections is memory for ever.
	 */
	static char *const environment[] = {
		"PATH=/usr/bin:/bin", "LC_ALL=C",
		"GLIBC_TUNABLES=glibc.malloc.tcache_count=64:glibc.malloc.mmap_threshold=131072", NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), err;

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return -errno;
	if (dup2(sock, WORKER_FD) < 0)
		return -errno;
	/* Everything else goes at exec: we opened it O_CLOEXEC; what weftd inherited goes too. */
	if (syscall(SYS_close_range, WORKER_FD + 1, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */))
		return -errno;
	if (setsid() < 0) /* a Ctrl-C for weftd is not one for the worker: it ends in order */
		return -errno;
	err = child_signals();
	if (!err)
		err = limit(RLIMIT_NOFILE, FILES);
	if (!err)
		err = limit(RLIMIT_CORE, 0);
	if (!err && chdir("/"))
		err = -errno;
	if (!err)
		err = privilege_drop(uid, gid);
	if (err)
		return err;
	(void)report;
	syscall(SYS_execveat, program, "", argv, environment, AT_EMPTY_PATH);
	return -errno;
}

static int high(int fd)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, WORKER_FD + 1);
	int err = errno;

	close(fd);
	return up < 0 ? -err : up;
}

static int launch(struct spawn *s, int sock, int program, uid_t uid, gid_t gid, char *const argv[])
{
	int report[2], err = 0;
	ssize_t n;

	if (pipe2(report, O_CLOEXEC))
		return -errno;
	report[1] = high(report[1]);
	s->pid = report[1] < 0 ? -1 : fork();
	if (!s->pid) {
		err = child(sock, program, report[1], uid, gid, argv);
		n = write(report[1], &err, sizeof(err));
		_exit(n == sizeof(err) ? 127 : 126);
	}
	if (s->pid < 0)
		err = -errno;
	if (report[1] >= 0)
		close(report[1]);
	if (!err) {
		do { /* ends with the exec, or with the child */
			n = read(report[0], &err, sizeof(err));
		} while (n < 0 && errno == EINTR);
		if (n != sizeof(err))
			err = 0;
	}
	close(report[0]);
	if (s->pid > 0 && err)
		(void)waitpid(s->pid, NULL, 0);
	return err;
}

int spawn_start(struct spawn *ret, int program, uid_t uid, gid_t gid, char *const argv[])
{
	struct spawn s = {.pid = -1, .pidfd = -1};
	int pair[2], size = BUFFER, err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		/* FORCE needs CAP_NET_ADMIN, which we keep; without it wmem_max bounds, and messages wait. */
		if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
			(void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	}
	if (fcntl(pair[0], F_SETFL, O_NONBLOCK))
		err = -errno;
	else
		err = launch(&s, pair[1], program, uid, gid, argv);
	close(pair[1]);
	if (!err) {
		s.pidfd = (int)syscall(SYS_pidfd_open, s.pid, 0);
		if (s.pidfd < 0)
			err = -errno;
	}
	if (err) {
		close(pair[0]);
		log_error("the worker cannot be started: %s", strerror(-err));
		return err;
	}
	s.sock = pair[0];
	*ret = s;
	return 0;
}

int spawn_stat(const char *path, char text[SPAWN_STAT], const char **ret)
{
	FILE *file = fopen(path, "re");
	const char *name_end;
	size_t n;

	if (!file)
		return -errno;
	n = fread(text, 1, SPAWN_STAT - 1, file);
	(void)fclose(file);
	text[n] = '\0';
	name_end = strrchr(text, ')');
	if (!name_end || name_end[1] != ' ')
		return -EBADMSG;
	*ret = name_end + 2;
	return 0;
}

/* Field 22 of /proc/PID/stat: with the pid it names one process for ever. */
static int start_time(pid_t pid, unsigned long long *ret)
{
	char path[32], text[SPAWN_STAT];
	const char *at;
	int err;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	err = spawn_stat(path, text, &at);
	if (err)
		return err;
	for (unsigned field = 3; at && field < 22; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	if (!at)
		return -EBADMSG;
	*ret = strtoull(at, NULL, 10);
	return 0;
}

/* In place: a file system that is full has no room for another file, and nobody finds a worker that is not noted. */
int spawn_note(int folder, const char *file, pid_t pid)
{
	unsigned long long since;
	char text[PID_TEXT];
	int err = start_time(pid, &since), fd, n;
	ssize_t done;

	if (err)
		return err;
	fd = openat(folder, file, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	n = snprintf(text, sizeof(text), "%d %llu\n", (int)pid, since);
	done = pwrite(fd, text, (size_t)n, 0);
	err = done < 0 || ftruncate(fd, n) ? -errno : done == n ? 0 : -EIO;
	close(fd);
	return err;
}

int spawn_orphan(int folder, const char *file, pid_t *ret)
{
	char text[PID_TEXT] = {0}, *end;
	int fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), pidfd;
	unsigned long long since;
	ssize_t n;
	long pid;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	pid = n > 0 ? strtol(text, &end, 10) : 0;
	if (pid <= 1 || pid > INT32_MAX)
		return -ESRCH;
	/* The fd first: what it names cannot become another process while we look. */
	pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (pidfd < 0)
		return -errno;
	if (start_time((pid_t)pid, &since) || strtoull(end, NULL, 10) != since) {
		close(pidfd);
		return -ESRCH;
	}
	*ret = (pid_t)pid;
	return pidfd;
}

void spawn_end_orphan(int folder, const char *file)
{
	pid_t pid = 0;
	int pidfd = spawn_orphan(folder, file, &pid);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	if (pidfd < 0)
		return;
	log_info("waiting for worker %d of a weftd that was killed", (int)pid);
	(void)syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
	if (poll(&p, 1, ORPHAN_MS) == 0) {
		log_warning("worker %d of a weftd that was killed does not end: killed", (int)pid);
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		(void)poll(&p, 1, ORPHAN_MS);
	}
	close(pidfd);
}
