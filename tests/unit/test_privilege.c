/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker that was taken over cannot do with the maps that it was given. */
#include <errno.h>
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "privilege.h"

/* errno of a command on an fd that is not open: EBADF where the kernel looked, EPERM where it was not asked */
static int command(unsigned number)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = 9999; /* link_fd and info.bpf_fd are at the same place */
	return syscall(SYS_bpf, number, &attr, sizeof(attr)) ? errno : 0;
}

/* In the child: its exit code is the line that failed, 0 if none. */
static int confined(void)
{
	static const unsigned kept[] = {
		BPF_MAP_LOOKUP_ELEM,  BPF_MAP_UPDATE_ELEM,  BPF_MAP_DELETE_ELEM,    BPF_MAP_GET_NEXT_KEY,
		BPF_MAP_LOOKUP_BATCH, BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH, BPF_OBJ_GET_INFO_BY_FD,
		BPF_ITER_CREATE,
	};

	if (command(BPF_MAP_FREEZE) != EBADF)
		return __LINE__; /* the kernel itself lets anybody freeze: else this test says nothing */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || privilege_confine())
		return __LINE__;
	for (unsigned i = 0; i < array_size(kept); i++)
		if (command(kept[i]) == EPERM)
			return __LINE__;
	for (unsigned i = 0; i < 64; i++) {
		bool is_kept = false;

		for (unsigned k = 0; k < array_size(kept); k++)
			is_kept |= kept[k] == i;
		if (!is_kept && command(i) != EPERM)
			return __LINE__;
	}
	return getppid() > 0 ? 0 : __LINE__; /* everything else works */
}

static void only_elements_of_maps(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (!pid)
		_exit(confined());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_elements_of_maps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
