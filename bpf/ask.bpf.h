/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ask.bpf.h: places in `asks`. One whose `connect_ns` is 0 and whose cookie is not belongs to who made it so, alone: to
 * connect4/6 until it is filled, to sockops while it is read. Each step is one compare-and-swap, so that a connect()
 * that comes back after ABI_ASK_NS finds its place taken, and never what another wrote there.
 */
#ifndef WEFT_ASK_BPF_H
#define WEFT_ASK_BPF_H

#include "verdict.bpf.h"

static __always_inline struct abi_ask *ask_at(__u64 cookie, __u32 try)
{
	__u32 at = (cookie + try) & (ABI_MAX_ASKS - 1);

	return bpf_map_lookup_elem(&asks, &at);
}

/* The place is nobody else's from now on. */
static __always_inline int ask_seize(struct abi_ask *a, __u64 since)
{
	return since && __sync_val_compare_and_swap(&a->sock.connect_ns, since, 0) == since;
}

/* A place to fill, NULL if there is none; ask_put() ends it. */
static __always_inline struct abi_ask *ask_claim(__u64 cookie, __u64 now)
{
	for (__u32 try = 0; try < ABI_ASK_TRIES; try++) {
		struct abi_ask *a = ask_at(cookie, try);
		__u64 who, since;

		if (!a)
			return NULL;
		who = *(volatile __u64 *)&a->cookie;
		since = *(volatile __u64 *)&a->sock.connect_ns;
		if (!who) {
			if (!__sync_val_compare_and_swap(&a->cookie, 0, cookie))
				return a;
		} else if ((who == cookie || (__s64)(now - since) > (__s64)ABI_ASK_NS) && ask_seize(a, since)) {
			a->cookie = cookie;
			return a;
		}
	}
	return NULL;
}

static __always_inline void ask_put(struct abi_ask *a, __u64 now)
{
	(void)__sync_lock_test_and_set(&a->sock.connect_ns, now);
}

/* What this socket left, NULL if nothing; ask_give() ends it. */
static __always_inline struct abi_ask *ask_take(__u64 cookie)
{
	for (__u32 try = 0; try < ABI_ASK_TRIES; try++) {
		struct abi_ask *a = ask_at(cookie, try);
		__u64 since;

		if (!a)
			return NULL;
		since = *(volatile __u64 *)&a->sock.connect_ns;
		if (*(volatile __u64 *)&a->cookie != cookie || !ask_seize(a, since))
			continue;
		if (*(volatile __u64 *)&a->cookie == cookie)
			return a;
		ask_put(a, since); /* another's by now */
	}
	return NULL;
}

static __always_inline void ask_give(struct abi_ask *a, __u64 cookie)
{
	(void)__sync_val_compare_and_swap(&a->cookie, cookie, 0);
}

#endif
