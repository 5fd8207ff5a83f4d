/* SPDX-License-Identifier: Apache-2.0 */
/* kernel.c: bpf(2) by hand. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel.h"

#define KERNEL_ENOTSUPP 524 /* the kernel's own "this kind of map cannot"; no libc names it */
#define DUMP_CHUNK 1024	    /* entries of one batch; grows where a hash bucket holds more */
#define DUMP_RESTARTS 3

static int call(int command, union bpf_attr *attr)
{
	long r;

	do {
		r = syscall(SYS_bpf, command, attr, sizeof(*attr));
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : (int)r;
}

static uint64_t pointer(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static int element(int command, int map, const void *key, const void *value, uint64_t flags)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr)); /* the kernel refuses a dirty tail; = {0} clears only the first member */
	attr.map_fd = (uint32_t)map;
	attr.key = pointer(key);
	attr.value = pointer(value); /* next_key is the same member of the union */
	attr.flags = flags;
	return call(command, &attr);
}

int kernel_lookup(int map, const void *key, void *ret_value)
{
	return element(BPF_MAP_LOOKUP_ELEM, map, key, ret_value, 0);
}

int kernel_update(int map, const void *key, const void *value)
{
	return element(BPF_MAP_UPDATE_ELEM, map, key, value, BPF_ANY);
}

int kernel_create(int map, const void *key, const void *value)
{
	return element(BPF_MAP_UPDATE_ELEM, map, key, value, BPF_NOEXIST);
}

int kernel_delete(int map, const void *key)
{
	return element(BPF_MAP_DELETE_ELEM, map, key, NULL, 0);
}

int kernel_next(int map, const void *key, void *ret_key)
{
	return element(BPF_MAP_GET_NEXT_KEY, map, key, ret_key, 0);
}

static bool batch_missing(int r)
{
	return r == -KERNEL_ENOTSUPP || r == -EOPNOTSUPP || r == -EINVAL;
}

/* *ret_done: entries that the kernel has taken, also where it failed. */
static int batch(int command, int map, const void *keys, const void *values, unsigned count, unsigned *ret_done)
{
	union bpf_attr attr;
	int r;

	memset(&attr, 0, sizeof(attr));
	attr.batch.map_fd = (uint32_t)map;
	attr.batch.keys = pointer(keys);
	attr.batch.values = pointer(values);
	attr.batch.count = count;
	r = call(command, &attr);
	/* Where the kernel has no such operation it leaves count as it was. */
	*ret_done = r < 0 && (batch_missing(r) || attr.batch.count >= count) ? 0 : attr.batch.count;
	return r;
}

int kernel_update_batch(int map, const void *keys, const void *values, unsigned count, size_t key_size,
			size_t value_size)
{
	unsigned i, done;
	int r;

	if (!count)
		return 0;
	r = batch(BPF_MAP_UPDATE_BATCH, map, keys, values, count, &done);
	if (r >= 0 || !batch_missing(r))
		return r;
	for (i = 0; i < count; i++) {
		r = kernel_update(map, (const char *)keys + i * key_size, (const char *)values + i * value_size);
		if (r < 0)
			return r;
	}
	return 0;
}

int kernel_delete_batch(int map, const void *keys, unsigned count, size_t key_size)
{
	const char *key = keys;
	unsigned i, done;
	int r;

	while (count) {
		r = batch(BPF_MAP_DELETE_BATCH, map, key, NULL, count, &done);
		if (r >= 0)
			return 0;
		if (batch_missing(r))
			break;
		if (r != -ENOENT)
			return r;
		/* The one after the done ones is not there, which is as good as deleted. */
		key += (done + 1) * key_size;
		count -= done + 1;
	}
	for (i = 0; i < count; i++) {
		r = kernel_delete(map, key + i * key_size);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

struct dump {
	char *keys, *values;
	size_t key_size, value_size;
	unsigned count, room;
};

static void make_room(struct dump *d, unsigned more)
{
	unsigned need = d->count + more;

	if (need <= d->room)
		return;
	d->room = need > 2 * d->room ? need : 2 * d->room;
	d->keys = mem_grow(d->keys, d->room, d->key_size);
	d->values = mem_grow(d->values, d->room, d->value_size);
}

/*
 * Hash maps walk bucket by bucket, so this ends whatever comes and goes; their cursor is a u32. Other kinds
 * use the last key as the cursor. -ENOSPC: one bucket holds more than the chunk.
 */
static int dump_batches(int map, struct dump *d, unsigned limit)
{
	size_t cursor_size = d->key_size > 4 ? d->key_size : 4;
	char *cursor = mem_alloc(2 * cursor_size);
	unsigned chunk = DUMP_CHUNK;
	bool first = true;
	int r;

	do {
		union bpf_attr attr;

		make_room(d, chunk);
		memset(&attr, 0, sizeof(attr));
		attr.batch.map_fd = (uint32_t)map;
		attr.batch.in_batch = first ? 0 : pointer(cursor);
		attr.batch.out_batch = pointer(cursor + cursor_size);
		attr.batch.keys = pointer(d->keys + d->count * d->key_size);
		attr.batch.values = pointer(d->values + d->count * d->value_size);
		attr.batch.count = chunk;
		r = call(BPF_MAP_LOOKUP_BATCH, &attr);
		if (r == -ENOSPC && chunk < limit) {
			chunk *= 2;
			r = 0;
			continue;
		}
		if (r < 0 && r != -ENOENT)
			break; /* -ENOENT: the end, with the last entries */
		d->count += attr.batch.count;
		memcpy(cursor, cursor + cursor_size, cursor_size);
		first = false;
	} while (r >= 0 && d->count <= limit);
	free(cursor);
	if (r >= 0)
		return -EAGAIN;
	return r == -ENOENT ? 0 : r;
}

/* A key that goes while we stand on it sends the walk back to the start: the steps are bounded. */
static int dump_singly(int map, struct dump *d, unsigned limit)
{
	char *cursor = mem_alloc(d->key_size);
	unsigned step;
	int r = -EAGAIN;

	for (step = 0; step <= limit; step++) {
		char *key;

		make_room(d, 1);
		key = d->keys + d->count * d->key_size;
		r = kernel_next(map, step ? cursor : NULL, key);
		if (r < 0)
			break;
		memcpy(cursor, key, d->key_size);
		r = kernel_lookup(map, key, d->values + d->count * d->value_size);
		if (r < 0 && r != -ENOENT)
			break;
		if (!r)
			d->count++;
		r = -EAGAIN;
	}
	/* -ENOENT here is the end of the map: of a lookup it was passed over. */
	if (r == -ENOENT)
		r = 0;
	free(cursor);
	return r;
}

static int max_entries(int map, unsigned *ret)
{
	struct bpf_map_info info;
	union bpf_attr attr;
	int r;

	memset(&attr, 0, sizeof(attr));
	memset(&info, 0, sizeof(info));
	attr.info.bpf_fd = (uint32_t)map;
	attr.info.info_len = sizeof(info);
	attr.info.info = pointer(&info);
	r = call(BPF_OBJ_GET_INFO_BY_FD, &attr);
	if (r < 0)
		return r == -EBADFD ? -EBADF : r; /* this command alone spells it so */
	*ret = info.max_entries;
	return 0;
}

int kernel_dump(int map, size_t key_size, size_t value_size, void **ret_keys, void **ret_values,
		unsigned *ret_count)
{
	struct dump d = {.key_size = key_size, .value_size = value_size};
	unsigned limit, restart;
	int r;

	*ret_keys = *ret_values = NULL;
	*ret_count = 0;
	r = max_entries(map, &limit);
	if (r < 0)
		return r;
	/* Twice: entries that come into buckets ahead of the walk while others go behind it. */
	limit = limit > UINT32_MAX / 8 ? UINT32_MAX / 4 : 2 * limit + DUMP_CHUNK;
	for (restart = 0; restart < DUMP_RESTARTS; restart++) {
		d.count = 0;
		r = dump_batches(map, &d, limit);
		if (batch_missing(r)) {
			d.count = 0;
			r = dump_singly(map, &d, limit);
		}
		if (r != -EAGAIN)
			break;
	}
	if (r < 0) {
		free(d.keys);
		free(d.values);
		return r;
	}
	*ret_keys = d.keys;
	*ret_values = d.values;
	*ret_count = d.count;
	return 0;
}

/* "0-3,8-11" -> 8; 0 if it is not such a list. */
static unsigned count_cpus(const char *s)
{
	unsigned count = 0;

	while (*s >= '0' && *s <= '9') {
		char *end;
		unsigned long from = strtoul(s, &end, 10), to = from;

		if (*end == '-')
			to = strtoul(end + 1, &end, 10);
		if (to < from || to > 65535)
			return 0;
		count += (unsigned)(to - from + 1);
		if (*end != ',')
			return *end == '\n' || !*end ? count : 0;
		s = end + 1;
	}
	return 0;
}

unsigned kernel_cpus(void)
{
	static const char path[] = "/sys/devices/system/cpu/possible";
	static unsigned cpus; /* never changes while the kernel runs */
	char text[1024] = "";
	ssize_t n = -1;
	int fd;

	if (cpus)
		return cpus;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	cpus = n > 0 ? count_cpus(text) : 0;
	if (!cpus) {
		/* A wrong number would have the kernel write past the end of our buffers. */
		log_error("cannot read the number of CPUs from %s: mount sysfs on /sys", path);
		exit(1);
	}
	return cpus;
}

int kernel_iterate(int link)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.iter_create.link_fd = (uint32_t)link;
	return call(BPF_ITER_CREATE, &attr); /* O_CLOEXEC already */
}
