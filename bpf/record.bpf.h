/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.bpf.h: records of connections in `conns`, and whose they are: each is held by a pod (`holds`), and given back.
 */
#ifndef WEFT_RECORD_BPF_H
#define WEFT_RECORD_BPF_H

#include "decide.h"
#include "maps.bpf.h"

static __always_inline void hold_give(__u32 place)
{
	__u32 sum = decide_place_sum(place);
	__u64 *all = bpf_map_lookup_elem(&holds, &sum), *held = bpf_map_lookup_elem(&holds, &place);

	if (!all || !held)
		return;
	__sync_fetch_and_add(all, -1);
	__sync_fetch_and_add(held, -1);
}

static __always_inline void record_end(const struct abi_tuple *t, const struct abi_conn *c)
{
	__u32 place = c->holder;

	if (!bpf_map_delete_elem(&conns, t) && place)
		hold_give(place);
}

/* What is left of another connection there would be taken for the new one. */
static __always_inline void record_drop(const struct abi_tuple *t)
{
	const struct abi_conn *was = bpf_map_lookup_elem(&conns, t);

	if (was)
		record_end(t, was);
}

/*
 * A record that a pod holds from now on, if it has not got its share; `mine`: in place of whatever is there, which
 * goes in any case. -1: it was not made. What came before `holds` has no holder. (Whose close comes between our look
 * and our write has given back already what we give back again: by so much the bound is laxer.)
 */
static __always_inline int record_put(const struct abi_tuple *t, struct abi_conn *c, int mine)
{
	__u32 place = decide_place(c), opened = 0, arrived = ABI_HOLDS_ARRIVED, left = 0;
	__u64 *held = bpf_map_lookup_elem(&holds, &place), *opened_all = bpf_map_lookup_elem(&holds, &opened);
	__u64 *arrived_all = bpf_map_lookup_elem(&holds, &arrived);
	const struct abi_conn *was;

	if (!held || !opened_all || !arrived_all ||
	    !decide_hold(*(volatile __u64 *)opened_all, *(volatile __u64 *)arrived_all, *(volatile __u64 *)held,
			 !c->client_pod && !c->flags)) {
		if (mine)
			record_drop(t);
		return -1;
	}
	c->holder = place;
	if (bpf_map_update_elem(&conns, t, c, BPF_NOEXIST)) {
		was = mine ? bpf_map_lookup_elem(&conns, t) : NULL;
		if (!was)
			return -1;
		left = was->holder;
		if (bpf_map_update_elem(&conns, t, c, BPF_ANY))
			return -1;
	}
	__sync_fetch_and_add(decide_place_sum(place) ? arrived_all : opened_all, 1);
	__sync_fetch_and_add(held, 1);
	if (left)
		hold_give(left);
	return 0;
}

#endif
