/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker holds when it begins: nothing. */
#include <errno.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "privilege.h"

#define ID 15008

/* In the child: its exit code is the line that failed, 0 if none. */
static int dropped(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uid_t uid[3];
	gid_t gid[3];

	if (privilege_drop(ID, ID))
		return __LINE__;
	if (getresuid(&uid[0], &uid[1], &uid[2]) || getresgid(&gid[0], &gid[1], &gid[2]) || getgroups(0, NULL))
		return __LINE__;
	for (unsigned i = 0; i < 3; i++)
		if (uid[i] != ID || gid[i] != ID)
			return __LINE__;
	if (syscall(SYS_capget, &head, data))
		return __LINE__;
	for (unsigned i = 0; i < 2; i++)
		if (data[i].effective || data[i].permitted || data[i].inheritable)
			return __LINE__;
	if (prctl(PR_CAPBSET_READ, CAP_NET_ADMIN, 0, 0, 0) || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return __LINE__;
	return setresuid(0, 0, 0) ? 0 : __LINE__;
}

static void nothing_is_left(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (!pid)
		_exit(dropped());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
