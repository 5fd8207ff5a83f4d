/* SPDX-License-Identifier: Apache-2.0 */
/* sock_files.c: descriptors are counted by the kernel: which of them are not for connections. */
#include <sys/resource.h>

#include "stream.h"

#define KEPT 1024u /* and no more than an eighth of all */

unsigned sock_files(void)
{
	static unsigned first; /* of those; a process of ours has one limit for its life; 0: not looked at yet */
	unsigned from = __atomic_load_n(&first, __ATOMIC_RELAXED);
	struct rlimit r;

	if (!from) {
		if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur > INT32_MAX)
			r.rlim_cur = INT32_MAX;
		from = (unsigned)r.rlim_cur;
		from -= from / 8 < KEPT ? from / 8 : KEPT;
		__atomic_store_n(&first, from, __ATOMIC_RELAXED);
	}
	return from;
}

bool sock_is_last(int fd)
{
	return fd >= 0 && (unsigned)fd >= sock_files();
}
