/* SPDX-License-Identifier: Apache-2.0 */
/* publish_write.c: single elements, and errors that name what could not be written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "publish_parts.h"

static const struct {
	const char *name;
	unsigned max;
} map_info[WIRE_FD_COUNT] = {
	[WIRE_FD_PODS] = {"pods", ABI_MAX_PODS},
	[WIRE_FD_ADDRESSES] = {"addresses", ABI_MAX_ADDRESSES},
	[WIRE_FD_SERVICES] = {"services", ABI_MAX_SERVICES},
	[WIRE_FD_ENDPOINTS] = {"endpoints", ABI_MAX_ENDPOINTS},
	[WIRE_FD_POLICIES] = {"policies", ABI_MAX_POLICIES},
	[WIRE_FD_SOURCES] = {"sources", ABI_MAX_SOURCES},
	[WIRE_FD_BLOCKS] = {"blocks", ABI_MAX_BLOCKS},
	[WIRE_FD_PORTS] = {"ports", ABI_MAX_PORTS},
};

void publish_fail(struct publish *p, int error, enum wire_fd map, const char *what)
{
	const char *name = map_info[map].name ? map_info[map].name : "map";

	if (!p->first_error)
		p->first_error = error;
	if (p->errors == PUBLISH_ERRORS)
		return;
	if (error == -E2BIG || error == -ENOSPC)
		p->error[p->errors++] =
			mem_format("%s: kernel map %s is full (%u entries): it stays as it was until there is room",
				   what, name, map_info[map].max);
	else
		p->error[p->errors++] = mem_format("%s: kernel map %s: %s", what, name, strerror(-error));
}

int publish_put(struct publish *p, enum wire_fd map, const void *key, const void *value, const char *what)
{
	int r = kernel_update(p->fd[map], key, value);

	if (r < 0)
		publish_fail(p, r, map, what);
	else
		p->stats.updates++;
	return r;
}

void publish_del(struct publish *p, enum wire_fd map, const void *key, const char *what)
{
	int r = kernel_delete(p->fd[map], key);

	if (r < 0 && r != -ENOENT)
		publish_fail(p, r, map, what);
	else
		p->stats.deletes++;
}

void publish_later(struct publish_keys *k, const void *key, size_t key_size)
{
	k->key_size = key_size;
	if (k->count == k->size) {
		k->size = k->size ? k->size * 2 : 256;
		k->key = mem_grow(k->key, k->size, key_size);
	}
	memcpy(k->key + k->count++ * key_size, key, key_size);
}

void publish_del_all(struct publish *p, enum wire_fd map, struct publish_keys *k, const char *what)
{
	int r = kernel_delete_batch(p->fd[map], k->key, k->count, k->key_size);

	if (r < 0)
		publish_fail(p, r, map, what);
	else
		p->stats.deletes += k->count;
	free(k->key);
	*k = (struct publish_keys){0};
}
