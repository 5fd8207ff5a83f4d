/* SPDX-License-Identifier: Apache-2.0 */
/* names.c: see names.h. */
#include "names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int in_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void take(struct names *n, const char *name, size_t most)
{
	n->more = n->count == most;
	if (n->more)
		return;
	if (!(n->count & (n->count - 1))) /* 0, or a power of two: there is room for no more */
		n->name = mem_grow(n->name, n->count ? 2 * n->count : 1, sizeof(*n->name));
	n->name[n->count++] = mem_string(name);
}

/* Through the fd that is there: of a folder that only its owner may enter, and where we may open no more. */
int names_read(struct names *ret, int folder, size_t most, bool (*wanted)(const char *name))
{
	_Alignas(struct dirent64) char buf[32768];
	ssize_t n = lseek(folder, 0, SEEK_SET);

	*ret = (struct names){0};
	while (n >= 0 && !ret->more && (n = getdents64(folder, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n && !ret->more;) {
			const struct dirent64 *e = (const void *)(buf + at);

			if (wanted(e->d_name))
				take(ret, e->d_name, most);
			at += e->d_reclen;
		}
	if (n < 0) {
		int err = -errno;

		names_free(ret);
		return err;
	}
	if (ret->count)
		qsort(ret->name, ret->count, sizeof(*ret->name), in_order);
	return 0;
}

void names_free(struct names *n)
{
	while (n->count)
		free(n->name[--n->count]);
	free(n->name);
	*n = (struct names){0};
}

int names_is_link(int folder, const char *name)
{
	struct stat st;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	return !S_ISREG(st.st_mode) || st.st_nlink > 1;
}

bool names_dangle(int folder, const char *name, int error)
{
	struct stat st;

	return error == -ENOLINK ||
	       (error == -ENOENT && !fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode));
}
