/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_confine.c: see worker.h. What the worker can still ask of the kernel once it has what it was given.
 *
 *	seccomp		the calls below and no others: EPERM, so that a library that tries something new goes on without
 *			it; death for what nobody but a stranger in this process would try
 *	Landlock	no file by name but beneath the two folders that it was given
 *
 * Both hold for this thread and those that it makes. The kernel caches which calls are allowed whatever their arguments
 * (since 5.11), so that the data path pays nothing; those with conditions come first, as they are walked each time.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <openssl/ssl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"
#include "worker.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "worker_confine: which AUDIT_ARCH is this machine?"
#endif
#define X32 0x40000000u /* the same calls by other numbers, on x86-64 */
#define NETLINK_ROUTE 0

/* ------------------------------------------------------------------ seccomp */

static const short allowed[] = {
	/* the data path */
	SYS_epoll_pwait,
	SYS_epoll_pwait2,
	SYS_epoll_ctl,
	SYS_timerfd_settime,
	SYS_accept4,
	SYS_connect,
	SYS_bind,
	SYS_shutdown,
	SYS_close,
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_recvfrom,
	SYS_recvmsg,
	SYS_recvmmsg,
	SYS_sendto,
	SYS_sendmsg,
	SYS_sendmmsg,
	SYS_getsockopt,
	SYS_setsockopt,
	SYS_getsockname,
	SYS_getpeername,
	SYS_futex,
	SYS_clock_gettime,
	SYS_splice,
	/* files and descriptors that it has; names go by Landlock */
	SYS_openat,
	SYS_newfstatat,
	SYS_statx,
	SYS_fstat,
	SYS_getdents64,
	SYS_lseek,
	SYS_pread64,
	SYS_pwrite64,
	SYS_ftruncate,
	SYS_fsync,
	SYS_fdatasync,
	SYS_renameat2,
	SYS_unlinkat,
	SYS_mkdirat,
	SYS_fchmod,
	SYS_fcntl,
	SYS_dup,
	SYS_dup3,
	SYS_pipe2,
	SYS_eventfd2,
	SYS_epoll_create1,
	SYS_timerfd_create,
	SYS_signalfd4,
	SYS_memfd_create,
	SYS_inotify_add_watch,
	SYS_inotify_rm_watch,
	SYS_ppoll,
	/* memory, threads, time: the C library's and liburcu's */
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	SYS_brk,
	SYS_membarrier,
	SYS_rseq,
	SYS_set_robust_list,
	SYS_gettid,
	SYS_getpid,
	SYS_getuid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getegid,
	SYS_sched_yield,
	SYS_sched_getaffinity,
	SYS_sched_setaffinity,
	SYS_getcpu,
	SYS_clock_getres,
	SYS_clock_nanosleep,
	SYS_nanosleep,
	SYS_gettimeofday,
	SYS_getrandom,
	SYS_getrusage,
	SYS_sysinfo,
	SYS_uname,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_sigaltstack,
	SYS_restart_syscall,
	SYS_exit,
	SYS_exit_group,
#ifdef __x86_64__
	SYS_epoll_wait,
	SYS_poll,
	SYS_time,
	SYS_unlink,
	SYS_renameat,
#endif
};

static const short deadly[] = {
	SYS_execve,
	SYS_execveat,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_setns,
	SYS_unshare,
	SYS_mount,
	SYS_pivot_root,
	SYS_chroot,
	SYS_init_module,
	SYS_finit_module,
	SYS_kexec_load,
	SYS_open_by_handle_at,
	SYS_keyctl,
	SYS_userfaultfd,
	SYS_perf_event_open,
	SYS_io_uring_setup,
	SYS_pidfd_getfd,
};

static const int commands[] = {
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

#define ROOM 512

struct filter {
	struct sock_filter code[ROOM];
	unsigned len;
};

static void add(struct filter *f, uint16_t op, uint32_t k, unsigned yes, unsigned no)
{
	if (f->len < ROOM)
		f->code[f->len++] = (struct sock_filter){.code = op, .jt = (uint8_t)yes, .jf = (uint8_t)no, .k = k};
}

static void load(struct filter *f, size_t at)
{
	add(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)at, 0, 0);
}

static void answer(struct filter *f, uint32_t k)
{
	add(f, BPF_RET | BPF_K, k, 0, 0);
}

#define NO (SECCOMP_RET_ERRNO | EPERM)
#define DEATH SECCOMP_RET_KILL_PROCESS

/* If what was loaded is k: that answer. Two instructions, so that no jump is far. */
static void match(struct filter *f, uint32_t k, uint32_t then)
{
	add(f, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
	answer(f, then);
}

/* If it is call `nr`: the next `count` instructions, which end in answers. */
static void on_call(struct filter *f, int nr, unsigned count)
{
	add(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, count);
}

/* The kernel looks at the low half of these arguments only (they are ints), and both machines are little-endian. */
#define LOW(n) (offsetof(struct seccomp_data, args[n]))
#define HIGH(n) (LOW(n) + 4)

/* Call `nr` if none of `bits` is set in argument n, or (`all`) if all are. */
static void if_bits(struct filter *f, int nr, unsigned n, uint32_t bits, bool all, uint32_t refused)
{
	on_call(f, nr, 4);
	load(f, LOW(n));
	add(f, BPF_JMP | BPF_JSET | BPF_K, bits, all ? 0 : 1, all ? 1 : 0);
	answer(f, SECCOMP_RET_ALLOW);
	answer(f, refused);
}

/* Call `nr` if argument n is one of these. */
static void if_one_of(struct filter *f, int nr, unsigned n, const int *value, unsigned count)
{
	on_call(f, nr, 2 * count + 2);
	load(f, LOW(n));
	for (unsigned i = 0; i < count; i++)
		match(f, (uint32_t)value[i], SECCOMP_RET_ALLOW);
	answer(f, NO);
}

static void conditions(struct filter *f)
{
	static const int ioctls[] = {FIONREAD, TIOCOUTQ, FIONBIO, TCGETS};
	static const int prctls[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_VMA};
	const int self[] = {getpid()};

	if_bits(f, SYS_mmap, 2, PROT_EXEC, false, NO);
	if_bits(f, SYS_mprotect, 2, PROT_EXEC, false, NO);
	if_one_of(f, SYS_bpf, 0, commands, array_size(commands));
	if_one_of(f, SYS_ioctl, 1, ioctls, array_size(ioctls));
	if_one_of(f, SYS_prctl, 0, prctls, array_size(prctls));
	if_one_of(f, SYS_tgkill, 0, self, 1); /* abort() */
	if_bits(f, SYS_clone, 0, CLONE_THREAD, true, DEATH);
	match(f, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS); /* its flags are in memory: the C library takes clone then */
	/* sockets come from the supervisor; but for the one that tells of the node's addresses */
	on_call(f, SYS_socket, 6);
	load(f, LOW(0));
	add(f, BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 3);
	load(f, LOW(2));
	match(f, NETLINK_ROUTE, SECCOMP_RET_ALLOW);
	answer(f, NO);
	/* limits are read, not written: the new one is a pointer */
	on_call(f, SYS_prlimit64, 6);
	load(f, LOW(2));
	add(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
	load(f, HIGH(2));
	match(f, 0, SECCOMP_RET_ALLOW);
	answer(f, NO);
}

static int filter_calls(void)
{
	static struct filter f;
	struct sock_fprog program = {.filter = f.code};

	load(&f, offsetof(struct seccomp_data, arch));
	add(&f, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	answer(&f, DEATH);
	load(&f, offsetof(struct seccomp_data, nr));
	add(&f, BPF_JMP | BPF_JGE | BPF_K, X32, 0, 1);
	answer(&f, DEATH);
	conditions(&f);
	for (unsigned i = 0; i < array_size(allowed); i++)
		match(&f, (uint32_t)allowed[i], SECCOMP_RET_ALLOW);
	for (unsigned i = 0; i < array_size(deadly); i++)
		match(&f, (uint32_t)deadly[i], DEATH);
	answer(&f, NO);
	if (f.len == ROOM)
		return -E2BIG;
	program.len = (unsigned short)f.len;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) ? -errno : 0;
}

/* ------------------------------------------------------------------ Landlock */

/* As linux/landlock.h of a kernel that knows all of this has it; that of Debian 12 does not. */
struct ruleset {
	uint64_t files;
	uint64_t net;
	uint64_t scopes;
};
struct beneath {
	uint64_t files;
	int32_t folder;
} __attribute__((packed));
#define CREATE_VERSION 1u
#define RULE_BENEATH 1
#define READ_FILE (1ull << 2)
#define READ_FOLDER (1ull << 3)
#define EXECUTE (1ull << 0)
#define SCOPES 3ull /* abstract unix sockets and signals: of nobody but our own */

/* What each version of Landlock can refuse about files (Documentation/userspace-api/landlock.rst) */
static uint64_t file_rights(long version)
{
	return (1ull << (version < 2 ? 13 : version < 3 ? 14
				    : version < 5	? 15
							: 16)) -
	       1;
}

static int let_beneath(int rules, int folder, uint64_t rights)
{
	struct beneath b = {.files = rights, .folder = folder};

	return syscall(SYS_landlock_add_rule, rules, RULE_BENEATH, &b, 0) ? -errno : 0;
}

/* 0, -EOPNOTSUPP: this kernel has no Landlock, or -errno */
static int close_files(int manifests, int state)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
	struct ruleset all = {.files = file_rights(version), .scopes = version >= 6 ? SCOPES : 0};
	int rules, err;

	if (version < 0)
		return errno == ENOSYS ? -EOPNOTSUPP : -errno;
	rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (rules < 0)
		return -errno;
	err = let_beneath(rules, manifests, READ_FILE | READ_FOLDER);
	if (!err)
		err = let_beneath(rules, state, all.files & ~EXECUTE);
	if (!err && syscall(SYS_landlock_restrict_self, rules, 0))
		err = -errno;
	close(rules);
	return err;
}

/* What reads files of the system once reads them now. */
static int read_early(void)
{
	tzset();
	(void)kernel_cpus();
	return OPENSSL_init_ssl(0, NULL) ? 0 : -ENOMEM;
}

int worker_confine(int manifests, int state)
{
	int err = read_early();

	if (!err && (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
		err = -errno;
	if (!err)
		err = close_files(manifests, state);
	if (err == -EOPNOTSUPP) {
		log_warning("this kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, lsm=): the worker may open what "
			    "its user may read");
		err = 0;
	}
	if (!err)
		err = filter_calls();
	if (err)
		log_error("the worker cannot be confined: %s", strerror(-err));
	return err;
}
