/* SPDX-License-Identifier: Apache-2.0 */
/* privilege.c: see privilege.h. Raw capset: no libcap in a privileged process. */
#include "privilege.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORKER_USER "weft"
#define WORKER_ID 15008 /* where there is no such user: a number nobody else has */

#define CAP_HIGHEST 63 /* two words of the version 3 header; the kernel refuses those it does not know */

/* Each with its use; docs/operations.md repeats the list for operators. */
static const unsigned char kept[] = {
	CAP_SYS_ADMIN,	      /* setns into a pod's netns */
	CAP_NET_ADMIN,	      /* sk_lookup links, SOCK_DESTROY */
	CAP_NET_BIND_SERVICE, /* ports 80 and 443 of Gateways */
	CAP_BPF,	      /* bpf(2): links, pins, the iterator */
	CAP_SYS_PTRACE,	      /* /proc/PID/ns/net of pods' processes */
	CAP_DAC_READ_SEARCH,  /* manifests that only their owner may read (WIRE_OPEN) */
	CAP_SETUID,	      /* the worker's user */
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

void privilege_worker(uid_t *ret_uid, gid_t *ret_gid)
{
	const struct passwd *user = getpwnam(WORKER_USER);

	*ret_uid = user && user->pw_uid ? user->pw_uid : WORKER_ID;
	*ret_gid = user && user->pw_uid ? user->pw_gid : WORKER_ID;
}
