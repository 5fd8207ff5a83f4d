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

static int open_folder(int folder, DIR **ret)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (fd < 0) /* a folder that only its owner may enter can still be read through the fd */
		fd = fcntl(folder, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	*ret = fdopendir(fd);
	if (*ret) {
		rewinddir(*ret);
		return 0;
	}
	err = -errno;
	close(fd);
	return err;
}

int names_read(struct names *ret, int folder, size_t most, bool (*wanted)(const char *name))
{
	const struct dirent *e;
	size_t room = 0;
	DIR *dir;
	int err = open_folder(folder, &dir);

	*ret = (struct names){0};
	if (err)
		return err;
	while (!ret->more && (errno = 0, e = readdir(dir))) {
		if (!wanted(e->d_name))
			continue;
		if (ret->count == most) {
			ret->more = true;
			break;
		}
		if (ret->count == room) {
			room = room ? 2 * room : 64;
			ret->name = mem_grow(ret->name, room, sizeof(*ret->name));
		}
		ret->name[ret->count++] = mem_string(e->d_name);
	}
	err = ret->more ? 0 : -errno;
	closedir(dir);
	if (err)
		names_free(ret);
	else if (ret->count)
		qsort(ret->name, ret->count, sizeof(*ret->name), in_order);
	return err;
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
