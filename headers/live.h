/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live.h: the connections that exist now (control/live.c): the records of the kernel (`conns`) joined with what TCP
 * counts for their sockets (the iterator weft_live).
 */
#ifndef WEFT_LIVE_H
#define WEFT_LIVE_H

#include "world.h"

struct live_row {
	struct abi_tuple tuple;
	struct abi_conn conn;
	uint64_t sent, received;       /* bytes client to server, and back */
	uint32_t srtt_us, retransmits; /* of the client's socket, else of the server's; 0: not seen */
	uint32_t queued[2];	       /* bytes in the splice queue of each end, by enum abi_end */
	bool backed;		       /* a live socket belongs to it */
};

struct live_rows { /* free(row) */
	struct live_row *row;
	unsigned count;
};

/* All connections, in no order. `conns`, `pairs` and `iterator` are fds of abi.h's maps and link. 0 or -errno */
int live_dump(int conns, int pairs, int iterator, struct live_rows *ret) must_check;

/*
 * Records that no socket backs: their socket went unseen (a CPU hit the limit of nested BPF programs, weft was detached
 * for a while). The supervisor looks a second time and removes them (sweep.h). 0 or -errno
 */
int live_stale(int conns, int iterator, uint64_t now_ns, struct wire_stale *ret) must_check;

/*
 * Every connection that the world now forbids, ordered by netns: one end of each, the server's if it is open still, for
 * it resets the other one; or `both`, for what an earlier look has left over (a reset that got lost). *ret is count
 * items to free(); *ret_conns counts connections. 0 or -errno
 */
int live_forbidden(int conns, const struct world *w, bool both, struct wire_destroy **ret, unsigned *ret_count,
		   unsigned *ret_conns) must_check;

/* -------- the pure parts, for tests */

/*
 * Joins `count` records with `lives` sockets: a row each in ret. A socket belongs to a record if its cookie stands in
 * the record's end.
 */
void live_join(const struct abi_tuple *tuple, const struct abi_conn *conn, unsigned count,
	       const struct abi_live *live, unsigned lives, struct live_row *ret);
/* Bytes each way; a socket that was not seen is NULL. */
void live_bytes(const struct abi_conn *c, const struct abi_live *client, const struct abi_live *server,
		uint64_t *ret_sent, uint64_t *ret_received);

/*
 * Where the connection goes: a captured one is seen on its way to the worker; one that is routed goes to the service,
 * and its requests wherever the routes say.
 */
static inline const struct abi_addr *live_target(const struct live_row *r, uint16_t *ret_port)
{
	const struct abi_conn *c = &r->conn;
	bool captured = c->flags & ABI_CONN_CAPTURED, routed = captured && c->reason == ABI_ROUTES;

	*ret_port = routed ? c->asked_port : captured ? c->target_port : r->tuple.dst_port;
	return routed ? &c->asked : captured ? &c->target : &r->tuple.dst;
}

#endif
