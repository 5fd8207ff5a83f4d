/* SPDX-License-Identifier: Apache-2.0 */
/* privilege.c: see privilege.h. Raw capset: no libcap in a privileged process. */
#include "privilege.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORKER_USER "weft"
#define WORKER_ID 15008 /* where there is no such user: a number nobody else has */

#define CAP_HIGHEST 63 /* two words of the version 3 header; the kernel refuses those it does not know */

/* Each with its use; docs/operations.md repeats the list for operators. */
static const unsigned char kept[] = {
	CAP_SYS_ADMIN,	     /* setns into a pod's netns */
	CAP_NET_ADMIN,	     /* sk_lookup links, SOCK_DESTROY */
	CAP_BPF,	     /* bpf(2): links, pins, the iterator */
	CAP_SYS_PTRACE,	     /* /proc/PID/ns/net of pods' processes */
	CAP_DAC_READ_SEARCH, /* manifests that only their owner may read (WIRE_OPEN) */
	CAP_SETUID,	     /* the worker's user */
	CAP_SETGID,
	CAP_SETPCAP, /* the worker's empty bounding set */
	CAP_KILL,    /* SIGHUP and SIGKILL to the worker */
};

static int set(uint64_t caps)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = (uint32_t)caps, .permitted = (uint32_t)caps},
		{.effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32)},
	};

	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

static int held(uint64_t *ret)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	if (syscall(SYS_capget, &head, data))
		return -errno;
	*ret = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

/* Bounding set to `caps`. PR_CAPBSET_READ says EINVAL behind the last one that the kernel knows. */
static int bound(uint64_t caps)
{
	for (unsigned cap = 0; cap <= CAP_HIGHEST; cap++) {
		int is = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (is < 0)
			break;
		if (is && !(caps & 1ull << cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return -errno;
	}
	return 0;
}

int privilege_keep(void)
{
	uint64_t want = 0, have = 0;
	int err;

	for (unsigned i = 0; i < array_size(kept); i++)
		want |= 1ull << kept[i];
	err = held(&have);
	if (!err)
		err = bound(want);
	if (!err && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		err = -errno;
	if (!err && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		err = -errno;
	/* A container may hold fewer: what is missing shows where it is used. */
	return err ? err : set(want & have);
}

int privilege_drop(uid_t uid, gid_t gid)
{
	int err = bound(0);

	if (err)
		return err;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return -errno;
	/* The system calls, not libc: this runs between fork and exec. */
	if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, gid, gid, gid) ||
	    syscall(SYS_setresuid, uid, uid, uid))
		return -errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return set(0);
}

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "privilege_confine: which AUDIT_ARCH is this machine?"
#endif
#define X32 0x40000000u /* the same calls by other numbers, on x86-64 */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no)
#define ANSWER(k) BPF_STMT(BPF_RET | BPF_K, k)
#define COMMAND(k) IF_EQUAL(k, 0, 1), ANSWER(SECCOMP_RET_ALLOW)

int privilege_confine(void)
{
	struct sock_filter code[] = {
		LOAD(arch),
		IF_EQUAL(ARCH, 1, 0),
		ANSWER(SECCOMP_RET_ERRNO | EPERM),
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32, 0, 1),
		ANSWER(SECCOMP_RET_ERRNO | EPERM),
		IF_EQUAL(SYS_bpf, 1, 0),
		ANSWER(SECCOMP_RET_ALLOW),
		/* the command is an int: the kernel looks at these 32 bits only */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		COMMAND(BPF_MAP_LOOKUP_ELEM),
		COMMAND(BPF_MAP_UPDATE_ELEM),
		COMMAND(BPF_MAP_DELETE_ELEM),
		COMMAND(BPF_MAP_GET_NEXT_KEY),
		COMMAND(BPF_MAP_LOOKUP_BATCH),
		COMMAND(BPF_MAP_UPDATE_BATCH),
		COMMAND(BPF_MAP_DELETE_BATCH),
		COMMAND(BPF_OBJ_GET_INFO_BY_FD),
		COMMAND(BPF_ITER_CREATE),
		ANSWER(SECCOMP_RET_ERRNO | EPERM),
	};
	const struct sock_fprog program = {.len = array_size(code), .filter = code};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? -errno : 0;
}

void privilege_worker(uid_t *ret_uid, gid_t *ret_gid)
{
	const struct passwd *user = getpwnam(WORKER_USER);

	*ret_uid = user && user->pw_uid ? user->pw_uid : WORKER_ID;
	*ret_gid = user && user->pw_uid ? user->pw_gid : WORKER_ID;
}
