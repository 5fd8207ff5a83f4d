/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy.bpf.h: may this identity, at this address, reach that port of a pod of the node? Asked by connect() and by
 * sk_lookup. In a file of its own because a global function goes into every object that includes it, with its maps.
 */
#ifndef WEFT_POLICY_BPF_H
#define WEFT_POLICY_BPF_H

#include "verdict.bpf.h"

/*
 * One evaluation of one set: an enum abi_reason. ABI_PROXIED: the worker asks each request.
 * A set that is not there (yet, or any more) refuses. A global function:
 * the verifier walks through it once, and not in every state of every caller.
 */
__weak __noinline int policy_ask_set(__u32 set, __u32 identity, const struct abi_addr *source, __u16 port)
{
	struct abi_source_key source_key = {.set = set, .identity = identity};
	struct abi_port_key port_key = {.set = set, .port = port};
	struct abi_block_key block_key = {.prefixlen = 32 + 128, .set = set};
	const struct abi_bits *by_block = NULL;
	const struct abi_port *by_port = NULL;
	const struct abi_policy *p;
	enum abi_reason why;

	p = bpf_map_lookup_elem(&policies, &set);
	if (!p || p->set != set || !source)
		return ABI_POLICY_UNSETTLED;
	if (p->rows & ABI_POLICY_BLOCKS) {
		block_key.addr = *source;
		by_block = bpf_map_lookup_elem(&blocks, &block_key);
	}
	if (p->rows & ABI_POLICY_PORTS)
		by_port = bpf_map_lookup_elem(&ports, &port_key);
	why = decide_policy(p, bpf_map_lookup_elem(&sources, &source_key), by_block, by_port, identity, NULL);
	return why == ABI_NEEDS_WORKER && !p->closed ? ABI_PROXIED : why;
}

/*
 * May `identity` at `source` reach `port` of the local pod at `dst`? `set` is what address_get(dst) has just said; the
 * set that answered is in *ret_set. The pod's switch is read again afterwards: an answer counts only if the set was in
 * force all along, so no half-written and no half-deleted set ever decides.
 */
static __always_inline enum abi_reason policy_ask(const struct abi_addr *dst, __u32 set, __u32 identity,
						  const struct abi_addr *source, __u16 port, __u32 *ret_set)
{
	for (int i = 0; i < SETTLE_TRIES; i++) {
		enum abi_reason why = policy_ask_set(set, identity, source, port);
		const struct abi_address *a = row_get(&addresses, dst);
		__u32 now = a ? *(volatile const __u32 *)&a->policy : 0;

		if (now == set) {
			*ret_set = set;
			return why;
		}
		set = now; /* 0 has no set and refuses: it left between two looks */
	}
	return ABI_POLICY_UNSETTLED;
}

#endif
