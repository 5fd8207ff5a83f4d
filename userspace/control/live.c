/* SPDX-License-Identifier: Apache-2.0 */
/* live.c: see live.h. */
#include <stdlib.h>
#include <string.h>

#include "backing.h"
#include "decide.h"
#include "kernel.h"
#include "live.h"
#include "netlink.h"

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

void live_join(const struct abi_tuple *tuple, const struct abi_conn *conn, unsigned count,
	       const struct abi_live *live, unsigned lives, struct live_row *ret)
{
	struct backing b;

	backing_open(&b, live, lives);
	for (unsigned i = 0; i < count; i++) {
		const struct abi_live *client = backing_find(&b, conn[i].end[ABI_CLIENT].cookie);
		const struct abi_live *server = backing_find(&b, conn[i].end[ABI_SERVER].cookie);
		const struct abi_live *one = client ? client : server;
		struct live_row *r = &ret[i];

		*r = (struct live_row){.tuple = tuple[i], .conn = conn[i], .backed = one != NULL};
		r->srtt_us = one ? one->srtt_us : 0;
		r->retransmits = one ? one->retransmits : 0;
		r->queued[ABI_CLIENT] = client ? client->queue_bytes : 0;
		r->queued[ABI_SERVER] = server ? server->queue_bytes : 0;
		live_bytes(&conn[i], client, server, &r->sent, &r->received);
	}
	backing_close(&b);
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
		err = backing_read(iterator, &live, &lives);
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

/* ------------------------------------------------------------------ what no socket backs */

static void look_stale(const struct abi_tuple *tuple, const struct abi_conn *conn, unsigned count,
		       const struct backing *b, uint64_t now_ns, struct wire_stale *ret)
{
	for (unsigned i = 0; i < count && ret->count < WIRE_STALES; i++)
		if (conn[i].opened_ns + BACKING_OLD_NS < now_ns && !backing_has(b, &conn[i]))
			ret->item[ret->count++] = (struct wire_stale_one){.tuple = tuple[i], .conn = conn[i].conn};
}

int live_stale(int conns, int iterator, uint64_t now_ns, struct wire_stale *ret)
{
	struct abi_live *live;
	void *tuples, *records;
	unsigned lives, count;
	struct backing b;
	int err;

	ret->count = 0;
	if (iterator < 0)
		return 0; /* without the look at sockets nothing can be said */
	/* Records first, as in live_dump(). */
	err = kernel_dump(conns, sizeof(struct abi_tuple), sizeof(struct abi_conn), &tuples, &records, &count);
	if (err)
		return err;
	err = backing_read(iterator, &live, &lives);
	if (!err) {
		backing_open(&b, live, lives);
		look_stale(tuples, records, count, &b, now_ns, ret);
		backing_close(&b);
		free(live);
	}
	free(tuples);
	free(records);
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
