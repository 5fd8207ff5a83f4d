/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker that was taken over by a stranger cannot do. Each question is put to a confined process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "worker.h"

static char manifests_path[] = "/tmp/weft-confine-m-XXXXXX", state_path[] = "/tmp/weft-confine-s-XXXXXX";
static int manifests, state_folder, own_netns;

static int setup(void **state)
{
	int fd;

	(void)state;
	if (!mkdtemp(manifests_path) || !mkdtemp(state_path))
		return -1;
	manifests = open(manifests_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	state_folder = open(state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	fd = openat(manifests, "a.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || symlinkat("/etc/passwd", manifests, "out"))
		return -1;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	(void)unlinkat(manifests, "a.yaml", 0);
	(void)unlinkat(manifests, "out", 0);
	(void)unlinkat(state_folder, "world", 0);
	return rmdir(manifests_path) || rmdir(state_path) ? -1 : 0;
}

/* The exit code of a confined process is the line that failed, 0 if none; or it dies: 1000 + signal. */
static int ask(int (*question)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(worker_confine(manifests, state_folder) ? 255 : question() ? 254
										 : 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Says which line it was; the exit code has no room for it. */
static int failed(int line)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "line %d: errno %d\n", line, errno);

	return write(STDERR_FILENO, text, (size_t)n) == n ? 1 : 2;
}

#define MUST(law)                                \
	do {                                     \
		if (!(law))                      \
			return failed(__LINE__); \
	} while (0)
#define REFUSED(call, with) MUST((call) == -1 && errno == (with))

static int ask_files(void)
{
	int fd = openat(manifests, "a.yaml", O_RDONLY | O_CLOEXEC);

	MUST(fd >= 0);
	fd = openat(manifests, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(fd >= 0);
	REFUSED(open("/etc/passwd", O_RDONLY | O_CLOEXEC), EACCES);
	REFUSED(open("/proc/self/maps", O_RDONLY | O_CLOEXEC), EACCES);
	REFUSED(openat(manifests, "../../etc/passwd", O_RDONLY | O_CLOEXEC), EACCES);
	REFUSED(openat(manifests, "out", O_RDONLY | O_CLOEXEC), EACCES);
	REFUSED(openat(manifests, "a.yaml", O_WRONLY | O_CLOEXEC), EACCES);
	REFUSED(openat(manifests, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), EACCES);
	REFUSED(unlinkat(manifests, "a.yaml", 0), EACCES);
	fd = openat(state_folder, "world", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	MUST(fd >= 0);
	MUST(write(fd, "x", 1) == 1 && !ftruncate(fd, 0));
	REFUSED(chmod("/tmp", 0777), EPERM);
	REFUSED(symlink("/etc", "/tmp/weft-confine-link"), EPERM);
	return 0;
}

static void no_file_outside(void **state)
{
	(void)state;
	assert_int_equal(ask(ask_files), 0);
}

static int ask_sockets(void)
{
	static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_PACKET, AF_ALG, AF_VSOCK, AF_BLUETOOTH};
	int pair[2];

	for (unsigned i = 0; i < array_size(families); i++) {
		REFUSED(socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0), EPERM);
		REFUSED(socket(families[i], SOCK_RAW | SOCK_CLOEXEC, 6), EPERM);
	}
	REFUSED(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC), EPERM);
	REFUSED(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), EPERM);
	REFUSED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), EPERM);
	MUST(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) >= 0);
	return 0;
}

static void no_socket_of_its_own(void **state)
{
	(void)state;
	assert_int_equal(ask(ask_sockets), 0);
}

/* errno of a command on an fd that is not open: EBADF where the kernel looked, EPERM where it was not asked */
static int command(unsigned number)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = 9999; /* link_fd and info.bpf_fd are at the same place */
	return syscall(SYS_bpf, number, &attr, sizeof(attr)) ? errno : 0;
}

static int ask_bpf(void)
{
	static const unsigned kept[] = {
		BPF_MAP_LOOKUP_ELEM,
		BPF_MAP_UPDATE_ELEM,
		BPF_MAP_DELETE_ELEM,
		BPF_MAP_GET_NEXT_KEY,
		BPF_MAP_LOOKUP_BATCH,
		BPF_MAP_UPDATE_BATCH,
		BPF_MAP_DELETE_BATCH,
		BPF_OBJ_GET_INFO_BY_FD,
		BPF_ITER_CREATE,
	};

	for (unsigned i = 0; i < 64; i++) {
		bool is_kept = false;

		for (unsigned k = 0; k < array_size(kept); k++)
			is_kept |= kept[k] == i;
		MUST((command(i) == EPERM) == !is_kept);
	}
	return 0;
}

/* A worker could else freeze the maps for ever: BPF_MAP_FREEZE needs no privilege. */
static void only_elements_of_maps(void **state)
{
	(void)state;
	assert_int_equal(command(BPF_MAP_FREEZE), EBADF); /* else this test says nothing */
	assert_int_equal(ask(ask_bpf), 0);
}

static int ask_others(void)
{
	struct rlimit r = {.rlim_cur = 10, .rlim_max = 10};
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(page != MAP_FAILED);
	REFUSED(mprotect(page, 4096, PROT_READ | PROT_EXEC), EPERM);
	MUST(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	MUST(!mprotect(page, 4096, PROT_READ));
	REFUSED(kill(getppid(), 0), EPERM);
	REFUSED((int)syscall(SYS_tgkill, getppid(), getppid(), 0), EPERM);
	MUST(!syscall(SYS_tgkill, getpid(), getpid(), 0));
	REFUSED(setrlimit(RLIMIT_CORE, &r), EPERM);
	MUST(!getrlimit(RLIMIT_NOFILE, &r));
	MUST(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	REFUSED(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), EPERM);
	REFUSED((int)syscall(SYS_personality, 0xffffffff), EPERM);
	REFUSED((int)syscall(SYS_add_key, "user", "x", "y", 1, -2), EPERM);
	return 0;
}

static void neither_code_nor_processes_nor_limits(void **state)
{
	(void)state;
	assert_int_equal(ask(ask_others), 0);
}

static void *in_thread(void *arg)
{
	*(int *)arg = open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES &&
		      socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 && errno == EPERM;
	return NULL;
}

static int ask_threads(void)
{
	pthread_t thread;
	int same = 0;

	MUST(!pthread_create(&thread, NULL, in_thread, &same));
	MUST(!pthread_join(thread, NULL) && same);
	return 0;
}

static void threads_are_confined_too(void **state)
{
	(void)state;
	assert_int_equal(ask(ask_threads), 0);
}

static int do_exec(void)
{
	return execl("/bin/true", "true", (char *)NULL);
}

static int do_exec_fd(void)
{
	char *const none[] = {NULL};

	return (int)syscall(SYS_execveat, manifests, "a.yaml", none, none, 0);
}

static int do_fork(void)
{
	return fork() < 0;
}

static int do_ptrace(void)
{
	return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) != 0;
}

static int do_read_other(void)
{
	char byte;
	struct iovec v = {.iov_base = &byte, .iov_len = 1};

	return process_vm_readv(getppid(), &v, 1, &v, 1, 0) != 1;
}

static int do_setns(void)
{
	return setns(own_netns, CLONE_NEWNET);
}

static int do_unshare(void)
{
	return unshare(CLONE_NEWUSER);
}

static void what_only_a_stranger_does_is_the_end(void **state)
{
	static int (*const what[])(void) = {do_exec, do_exec_fd, do_fork, do_ptrace,
					    do_read_other, do_setns, do_unshare};

	(void)state;
	for (unsigned i = 0; i < array_size(what); i++)
		assert_int_equal(ask(what[i]), 1000 + SIGSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_file_outside),
		cmocka_unit_test(no_socket_of_its_own),
		cmocka_unit_test(only_elements_of_maps),
		cmocka_unit_test(neither_code_nor_processes_nor_limits),
		cmocka_unit_test(threads_are_confined_too),
		cmocka_unit_test(what_only_a_stranger_does_is_the_end),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
