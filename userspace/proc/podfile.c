/* SPDX-License-Identifier: Apache-2.0 */
/* podfile.c: see podfile.h. */
#include "podfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x74666577u /* "weft" */
#define FORMAT 1
#define NEXT "next"
#define TEMPORARY "writing"
#define FILE_NAME 32

struct head {
	uint32_t magic, format;
	uint32_t fixed; /* size of what is before `labels` */
	uint32_t labels, annotations;
};

static const char *const suffix[] = {
	[PODFILE_KEPT] = "",
	[PODFILE_NEW] = "-new",
	[PODFILE_LEAVING] = "-leaving",
};

static const char *file_name(char buf[FILE_NAME], enum podfile_kind kind, uint32_t number)
{
	(void)snprintf(buf, FILE_NAME, "%u%s", number, suffix[kind]);
	return buf;
}

/* Length of "k=v" NUL "k=v" NUL NUL with the last NUL; 0 if it does not end in time. */
static size_t pairs_size(const char *pairs, size_t size)
{
	size_t at = 0;

	while (at < size && pairs[at]) {
		size_t len = strnlen(pairs + at, size - at);

		at += len + 1;
	}
	return at < size ? at + 1 : 0;
}

static int write_all(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

static int replace(int folder, const char *name, const void *data, size_t size)
{
	int fd = openat(folder, TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int err;

	if (fd < 0)
		return -errno;
	err = write_all(fd, data, size);
	if (close(fd) && !err)
		err = -errno;
	if (!err && renameat(folder, TEMPORARY, folder, name))
		err = -errno;
	return err;
}

int podfile_write(int folder, enum podfile_kind kind, const struct wire_pod *pod)
{
	const size_t fixed = offsetof(struct wire_pod, labels);
	struct head head = {.magic = MAGIC, .format = FORMAT, .fixed = (uint32_t)fixed};
	struct text t = {0};
	char name[FILE_NAME];
	int err;

	head.labels = (uint32_t)pairs_size(pod->labels, sizeof(pod->labels));
	head.annotations = (uint32_t)pairs_size(pod->annotations, sizeof(pod->annotations));
	if (!head.labels || !head.annotations)
		return -EINVAL;
	text_add_bytes(&t, &head, sizeof(head));
	text_add_bytes(&t, pod, fixed);
	text_add_bytes(&t, pod->labels, head.labels);
	text_add_bytes(&t, pod->annotations, head.annotations);
	err = replace(folder, file_name(name, kind, pod->pod), t.data, t.len);
	text_free(&t);
	return err;
}

static bool ends(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

static int decode(const char *data, size_t size, uint32_t number, struct wire_pod *ret)
{
	const size_t fixed = offsetof(struct wire_pod, labels);
	struct head head;

	if (size < sizeof(head) + fixed)
		return -EBADMSG;
	memcpy(&head, data, sizeof(head));
	data += sizeof(head);
	if (head.magic != MAGIC || head.format != FORMAT || head.fixed != fixed ||
	    head.labels > WIRE_PAIRS || head.annotations > WIRE_PAIRS ||
	    size != sizeof(head) + fixed + head.labels + head.annotations)
		return -EBADMSG;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, data, fixed);
	memcpy(ret->labels, data + fixed, head.labels);
	memcpy(ret->annotations, data + fixed + head.labels, head.annotations);
	if (ret->pod != number || ret->addrs > WIRE_ADDRS || !ends(ret->uid, sizeof(ret->uid)) ||
	    !ends(ret->namespace, WIRE_NAME) || !ends(ret->name, WIRE_NAME) ||
	    !ends(ret->service_account, WIRE_NAME) || !ends(ret->netns_path, WIRE_PATH) ||
	    !pairs_size(ret->labels, WIRE_PAIRS) || !pairs_size(ret->annotations, WIRE_PAIRS))
		return -EBADMSG;
	return 0;
}

int podfile_read(int folder, enum podfile_kind kind, uint32_t number, struct wire_pod *ret)
{
	size_t room = sizeof(struct head) + sizeof(*ret) + 1, len = 0;
	char name[FILE_NAME], *data;
	int fd = openat(folder, file_name(name, kind, number), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	data = mem_alloc(room);
	while (len < room) {
		ssize_t n = read(fd, data + len, room - len);

		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	if (!err)
		err = decode(data, len, number, ret);
	free(data);
	return err;
}

int podfile_turn(int folder, uint32_t number, enum podfile_kind from, enum podfile_kind to)
{
	char a[FILE_NAME], b[FILE_NAME];

	return renameat(folder, file_name(a, from, number), folder, file_name(b, to, number)) ? -errno : 0;
}

bool podfile_is(int folder, enum podfile_kind kind, uint32_t number)
{
	char name[FILE_NAME];

	return !faccessat(folder, file_name(name, kind, number), F_OK, 0);
}

void podfile_remove(int folder, enum podfile_kind kind, uint32_t number)
{
	char name[FILE_NAME];

	if (unlinkat(folder, file_name(name, kind, number), 0) && errno != ENOENT)
		log_warning("pods/%s cannot be removed: %s", name, strerror(errno));
}

static bool parse(const char *name, enum podfile_kind *ret_kind, uint32_t *ret)
{
	char digits[FILE_NAME];
	size_t len = strspn(name, "0123456789");
	long long n;

	if (!len || len >= sizeof(digits))
		return false;
	memcpy(digits, name, len);
	digits[len] = '\0';
	for (unsigned k = 0; k < array_size(suffix); k++) {
		if (!text_equal(name + len, suffix[k]) || text_number(digits, 1, UINT32_MAX, &n))
			continue;
		*ret_kind = (enum podfile_kind)k;
		*ret = (uint32_t)n;
		return true;
	}
	return false;
}

int podfile_each(int folder, void (*found)(void *ctx, enum podfile_kind kind, uint32_t number), void *ctx)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct {
		enum podfile_kind kind;
		uint32_t number;
	} *all = NULL;
	const struct dirent *e;
	size_t count = 0;
	DIR *dir;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	/* Read first, call later: `found` renames and removes. */
	while ((e = readdir(dir))) {
		enum podfile_kind kind;
		uint32_t number;

		if (!parse(e->d_name, &kind, &number))
			continue;
		if (!(count & (count + 1)) || !all)
			all = mem_grow(all, 2 * count + 2, sizeof(*all));
		all[count].kind = kind;
		all[count++].number = number;
	}
	closedir(dir);
	for (size_t i = 0; i < count; i++)
		found(ctx, all[i].kind, all[i].number);
	free(all);
	return 0;
}

int podfile_next(int folder, uint32_t *ret)
{
	uint32_t next = 1;
	int fd = openat(folder, NEXT, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), err;

	if (fd >= 0) {
		ssize_t n = read(fd, &next, sizeof(next));

		close(fd);
		if (n != sizeof(next) || !next)
			return -EBADMSG;
	} else if (errno != ENOENT) {
		return -errno;
	}
	*ret = next++;
	err = replace(folder, NEXT, &next, sizeof(next));
	return err;
}
