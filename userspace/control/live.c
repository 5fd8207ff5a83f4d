/* SPDX-License-Identifier: Apache-2.0 */
/* live.c: see live.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "decide.h"
#include "kernel.h"
#include "live.h"
#include "netlink.h"

#define READ_PART 262144

/* ------------------------------------------------------------------ the iterator */

/* All abi_live records; free(*ret). */
static int sockets(int iterator, struct abi_live **ret, unsigned *ret_count)
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

/* ------------------------------------------------------------------ joining */

/*
 * TCP's counters say what it carried, the record what was redirected. The receiver's count is exact; the sender's
 * includes the SYN and stands in where the receiver is elsewhere.
 */
static uint64_t tcp_bytes(const struct abi_live *sender, const struct abi_live *receiver, bool from_client)
{
	uint64_t syn = from_client ? 1 : 0;

	if (receiver)
		return receiver->bytes_received;
	return sender && sender->bytes_acked > syn ? sender->bytes_acked - syn : 0;
}

void live_bytes(const struct abi_conn *c, const struct abi_live *client, const struct abi_live *server,
		uint64_t *ret_sent, uint64_t *ret_received)
{
	*ret_sent = c->end[ABI_CLIENT].spliced_bytes + tcp_bytes(client, server, true);
	*ret_received = c->end[ABI_SERVER].spliced_bytes + tcp_bytes(server, client, false);
}

/* What the splice counts for connections that are in it now is with their pairs. */
static void add_pairs(int pairs, struct abi_conn *conn, unsigned count)
{
	struct abi_pair p;

	for (unsigned i = 0; i < count; i++)
		if (conn[i].stage != ABI_STAGE_OUT && !kernel_lookup(pairs, &conn[i].slot, &p) &&
		    p.conn == conn[i].conn) /* else it has just left, and the record lacks that */
			decide_add(&conn[i], &p); /* the sums of our copy are whole now */
}

struct socket {
	const struct abi_live *live;
	struct table_link link;
};

struct index { /* sockets by cookie */
	struct socket *socket;
	struct table table;
};

static void index_open(struct index *x, const struct abi_live *live, unsigned lives)
{
	*x = (struct index){.socket = mem_alloc(lives * sizeof(*x->socket) + 1)};
	for (unsigned i = 0; i < lives; i++) {
		x->socket[i].live = &live[i];
		table_add(&x->table, &x->socket[i].link, table_hash(&live[i].cookie, sizeof(live[i].cookie)));
	}
}

static void index_close(struct index *x)
{
	table_free(&x->table);
	free(x->socket);
}

static const struct abi_live *find(const struct index *x, uint64_t cookie)
{
	struct table_link *l = cookie ? table_first(&x->table, table_hash(&cookie, sizeof(cookie))) : NULL;

	for (; l; l = table_next_same(l)) {
		const struct abi_live *live = container_of(l, struct socket, link)->live;

		if (live->cookie == cookie)
			return live;
	}
	return NULL;
}

void live_join(const struct abi_tuple *tuple, const struct abi_conn *conn, unsigned count,
	       const struct abi_live *live, unsigned lives, struct live_row *ret)
{
	struct index x;

	index_open(&x, live, lives);
	for (unsigned i = 0; i < count; i++) {
		const struct abi_live *client = find(&x, conn[i].end[ABI_CLIENT].cookie);
		const struct abi_live *server = find(&x, conn[i].end[ABI_SERVER].cookie);
		const struct abi_live *one = client ? client : server;
		struct live_row *r = &ret[i];

		*r = (struct live_row){.tuple = tuple[i], .conn = conn[i], .backed = one != NULL};
		r->srtt_us = one ? one->srtt_us : 0;
		r->retransmits = one ? one->retransmits : 0;
		r->queued[ABI_CLIENT] = client ? client->queue_bytes : 0;
		r->queued[ABI_SERVER] = server ? server->queue_bytes : 0;
		live_bytes(&conn[i], client, server, &r->sent, &r->received);
	}
	index_close(&x);
}

int live_dump(int conns, int pairs, int iterator, struct live_rows *ret)
{
	struct abi_live *live = NULL;
	void *tuples, *records;
	unsigned lives = 0, count;
	int err;

	*ret = (struct live_rows){0};
	/* Records first: a socket that comes between the two looks is not missed, one that goes is harmless. */
	err = kernel_dump(conns, sizeof(struct abi_tuple), sizeof(struct abi_conn), &tuples, &records,
			  &count);
	if (err)
		return err;
	add_pairs(pairs, records, count);
	if (iterator >= 0)
		err = sockets(iterator, &live, &lives);
	if (!err) {
		ret->row = mem_alloc(count * sizeof(*ret->row) + 1);
		ret->count = count;
		live_join(tuples, records, count, live, lives, ret->row);
	}
	free(live);
	free(tuples);
	free(records);
	return err;
}

/* ------------------------------------------------------------------ sweeping */

/* Keep those of the suspects that no socket backs this time either. */
static int suspects_left(int iterator, struct live_row *row, unsigned *count)
{
	struct abi_live *live;
	struct index x;
	unsigned lives, left = 0;
	int err = sockets(iterator, &live, &lives);

	if (err)
		return err;
	index_open(&x, live, lives);
	for (unsigned i = 0; i < *count; i++) {
		const struct abi_local *end = row[i].conn.end;

		if (!find(&x, end[ABI_CLIENT].cookie) && !find(&x, end[ABI_SERVER].cookie))
			memmove(&row[left++], &row[i], sizeof(*row));
	}
	*count = left;
	index_close(&x);
	free(live);
	return 0;
}

/* The pair of a connection whose end was not seen: nobody else would ever give it back. */
static void free_pair(int pairs, const struct abi_conn *c)
{
	struct abi_pair p;

	if (c->stage == ABI_STAGE_OUT || kernel_lookup(pairs, &c->slot, &p) || p.conn != c->conn)
		return;
	p.conn = 0;
	p.leaving_ns = clock_ns();
	if (kernel_update(pairs, &c->slot, &p))
		log_debug("a pair of the splice is lost");
}

int live_sweep(int conns, int pairs, int iterator, uint64_t now_ns, unsigned *ret_count)
{
	struct live_rows rows;
	unsigned suspects = 0;
	int err;

	*ret_count = 0;
	if (iterator < 0)
		return 0; /* without the look at sockets nothing can be said */
	err = live_dump(conns, pairs, iterator, &rows);
	if (err)
		return err;
	for (unsigned i = 0; i < rows.count; i++)
		if (!rows.row[i].backed && rows.row[i].conn.opened_ns + LIVE_OLD_NS < now_ns)
			rows.row[suspects++] = rows.row[i];
	if (suspects)
		err = suspects_left(iterator, rows.row, &suspects);
	for (unsigned i = 0; !err && i < suspects; i++) {
		struct abi_conn now;

		/* The tuple may be another connection's by now. */
		if (kernel_lookup(conns, &rows.row[i].tuple, &now) || now.conn != rows.row[i].conn.conn)
			continue;
		if (kernel_delete(conns, &rows.row[i].tuple))
			continue;
		++*ret_count;
		free_pair(pairs, &now);
	}
	free(rows.row);
	return err;
}

/* ------------------------------------------------------------------ what policy forbids */

static int by_netns(const void *a, const void *b)
{
	const struct wire_destroy *x = a, *y = b;

	return x->netns < y->netns ? -1 : x->netns > y->netns;
}

struct ends {
	struct wire_destroy *item;
	unsigned count, size;
};

static bool ends_add(struct ends *e, const struct abi_tuple *t, const struct abi_conn *c, enum abi_end end)
{
	uint64_t netns = end == ABI_CLIENT ? c->client_netns : c->server_netns;

	if (!netns || !c->end[end].cookie)
		return false;
	if (e->count == e->size) {
		e->size = e->size ? e->size * 2 : 256;
		e->item = mem_grow(e->item, e->size, sizeof(*e->item));
	}
	netlink_diag_end(&e->item[e->count++], t, end, netns, c->end[end].cookie);
	return true;
}

int live_forbidden(int conns, const struct world *w, bool both, struct wire_destroy **ret, unsigned *ret_count,
		   unsigned *ret_conns)
{
	const struct abi_tuple *tuple;
	const struct abi_conn *conn;
	struct ends ends = {0};
	void *tuples, *records;
	unsigned count;
	int err = kernel_dump(conns, sizeof(*tuple), sizeof(*conn), &tuples, &records, &count);

	*ret = NULL;
	*ret_count = *ret_conns = 0;
	if (err)
		return err;
	tuple = tuples;
	conn = records;
	for (unsigned i = 0; i < count; i++) {
		if (!conn[i].server_netns || !world_forbids(w, &tuple[i], &conn[i]))
			continue;
		++*ret_conns;
		if (!ends_add(&ends, &tuple[i], &conn[i], ABI_SERVER) || both)
			(void)ends_add(&ends, &tuple[i], &conn[i], ABI_CLIENT);
	}
	free(tuples);
	free(records);
	if (ends.count)
		qsort(ends.item, ends.count, sizeof(*ends.item), by_netns);
	*ret = ends.item;
	*ret_count = ends.count;
	return 0;
}
