/* SPDX-License-Identifier: Apache-2.0 */
/* backing.c: see backing.h. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "backing.h"
#include "kernel.h"

#define READ_PART 262144

int backing_read(int iterator, struct abi_live **ret, unsigned *ret_count)
{
	int fd = kernel_iterate(iterator), err = 0;
	size_t len = 0, size = 0;
	char *data = NULL;

	*ret = NULL;
	*ret_count = 0;
	if (fd < 0)
		return fd;
	for (;;) {
		ssize_t n;

		if (size - len < READ_PART) {
			size = size ? size * 2 : 2 * READ_PART;
			data = mem_grow(data, size, 1);
		}
		n = read(fd, data + len, size - len);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue; /* EAGAIN: a million sockets that were not ours; it goes on from there */
		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	if (err) {
		free(data);
		return err;
	}
	*ret = (struct abi_live *)(void *)data;
	*ret_count = (unsigned)(len / sizeof(**ret));
	return 0;
}

struct backing_socket {
	const struct abi_live *live;
	struct table_link link;
};

void backing_open(struct backing *b, const struct abi_live *live, unsigned lives)
{
	*b = (struct backing){.socket = mem_alloc(lives * sizeof(*b->socket) + 1)};
	for (unsigned i = 0; i < lives; i++) {
		b->socket[i].live = &live[i];
		table_add(&b->table, &b->socket[i].link, table_hash(&live[i].cookie, sizeof(live[i].cookie)));
	}
}

void backing_close(struct backing *b)
{
	table_free(&b->table);
	free(b->socket);
}

const struct abi_live *backing_find(const struct backing *b, uint64_t cookie)
{
	struct table_link *l = cookie ? table_first(&b->table, table_hash(&cookie, sizeof(cookie))) : NULL;

	for (; l; l = table_next_same(l)) {
		const struct abi_live *live = container_of(l, struct backing_socket, link)->live;

		if (live->cookie == cookie)
			return live;
	}
	return NULL;
}

bool backing_has(const struct backing *b, const struct abi_conn *c)
{
	return backing_find(b, c->end[ABI_CLIENT].cookie) || backing_find(b, c->end[ABI_SERVER].cookie);
}
