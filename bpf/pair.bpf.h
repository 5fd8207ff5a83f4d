/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pair.bpf.h: the pair of a spliced connection: found, told to leave, given back.
 */
#ifndef WEFT_PAIR_BPF_H
#define WEFT_PAIR_BPF_H

#include "verdict.bpf.h"

static __always_inline struct abi_pair *pair_get(__u32 slot, __u32 conn)
{
	struct abi_pair *p = bpf_map_lookup_elem(&pairs, &slot);

	return p && p->conn == conn ? p : NULL;
}

static __always_inline __u8 reader_how(__u64 netns)
{
	const struct abi_reader *r = bpf_map_lookup_elem(&readers, &netns);

	return r ? r->how : 0;
}

/* Nothing is redirected from now on; weft_watch takes both sockets out of the map when they are drained. */
static __always_inline void pair_leave(struct abi_pair *p, enum abi_reason why)
{
	p->leaving_ns = bpf_ktime_get_ns();
	p->leaving = why;
	reason_count(why);
}

/* What the pair counted stays with the record of its connection; the pair is free. */
static __always_inline void pair_give(struct abi_pair *p, struct abi_conn *c)
{
	decide_add(c, p);
	p->leaving_ns = bpf_ktime_get_ns();
	p->conn = 0;
}

#endif
