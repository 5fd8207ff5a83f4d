/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * verdict.bpf.h: what the hooks share: addresses, counters of reasons, pods.
 */
#ifndef WEFT_VERDICT_BPF_H
#define WEFT_VERDICT_BPF_H

#include "decide.h"
#include "maps.bpf.h"

#define SETTLE_TRIES 3 /* a policy or service that changes more often while it is read: refuse */

/* ------------------------------------------------------------------ addresses */

static __always_inline void addr_from_v4(struct abi_addr *to, __u32 v4_be)
{
	__builtin_memset(to->byte, 0, 10);
	to->byte[10] = to->byte[11] = 0xff;
	__builtin_memcpy(to->byte + 12, &v4_be, 4);
}

static __always_inline void addr_from_v6(struct abi_addr *to, __u32 w0, __u32 w1, __u32 w2, __u32 w3)
{
	__builtin_memcpy(to->byte, &w0, 4);
	__builtin_memcpy(to->byte + 4, &w1, 4);
	__builtin_memcpy(to->byte + 8, &w2, 4);
	__builtin_memcpy(to->byte + 12, &w3, 4);
}

static __always_inline __u32 addr_word(const struct abi_addr *a, int word)
{
	__u32 w;

	__builtin_memcpy(&w, a->byte + word * 4, 4);
	return w;
}

static __always_inline int addr_v4(const struct abi_addr *a)
{
	return !addr_word(a, 0) && !addr_word(a, 1) && addr_word(a, 2) == bpf_htonl(0xffff);
}

static __always_inline int addr_zero(const struct abi_addr *a)
{
	return !addr_word(a, 0) && !addr_word(a, 1) && !addr_word(a, 2) && !addr_word(a, 3);
}

static __always_inline int addr_loopback(const struct abi_addr *a)
{
	if (addr_v4(a))
		return a->byte[12] == 127;
	return !addr_word(a, 0) && !addr_word(a, 1) && !addr_word(a, 2) &&
	       addr_word(a, 3) == bpf_htonl(1);
}

/* 0.0.0.0 or ::, which connect() takes for the host itself */
static __always_inline int addr_unspecified(const struct abi_addr *a)
{
	return !addr_word(a, 3) && (addr_v4(a) || addr_zero(a));
}

/* fe80::/10: the same on every link, so it names no pod */
static __always_inline int addr_link_local(const struct abi_addr *a)
{
	return a->byte[0] == 0xfe && (a->byte[1] & 0xc0) == 0x80;
}

static __always_inline int addr_same(const struct abi_addr *a, const struct abi_addr *b)
{
	return addr_word(a, 0) == addr_word(b, 0) && addr_word(a, 1) == addr_word(b, 1) &&
	       addr_word(a, 2) == addr_word(b, 2) && addr_word(a, 3) == addr_word(b, 3);
}

/* ------------------------------------------------------------------ settings, counters */

static __always_inline const struct abi_settings *settings_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline struct abi_watch *watch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&watches, &zero);
}

static __always_inline struct abi_caught *caught_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&caught, &zero);
}

/* There is something for the supervisor to look at. */
static __always_inline void watch_wake(struct abi_watch *w)
{
	__u32 one = 1;

	if (!w->asleep)
		return;
	w->asleep = 0;
	bpf_ringbuf_output(&wake, &one, sizeof(one), 0);
}

static __always_inline void reason_count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&reasons, &reason);

	if (n)
		*n += 1;
}

static __always_inline void refusal_count(__u32 source, __u32 service, __u32 pod, __u32 reason)
{
	struct abi_refusal_key key = {
		.source = source, .service = service, .pod = pod, .reason = reason};
	__u64 zero = 0, *n;

	reason_count(reason);
	n = bpf_map_lookup_elem(&refusals, &key);
	if (!n) {
		bpf_map_update_elem(&refusals, &key, &zero, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&refusals, &key); /* also where another CPU was first */
	}
	if (n)
		*n += 1;
	else
		reason_count(ABI_MAP_FULL);
}

/* Nobody would take what is sent to the worker. Who fails open does not wait to see. */
static __always_inline int worker_gone(int fail_open)
{
	__u64 now = bpf_ktime_get_ns(), *at, seen;
	__u32 zero = 0;

	at = bpf_map_lookup_elem(&beat, &zero);
	if (!at)
		return 1;
	seen = *(volatile __u64 *)at;
	switch (decide_beat(seen, now)) {
	case DECIDE_BEAT_HERE:
		return 0;
	case DECIDE_BEAT_LATE:
		if (fail_open)
			return 1;
		__sync_val_compare_and_swap(at, seen, decide_beat_grace(now));
		return 0;
	default:
		return 1;
	}
}

/* ------------------------------------------------------------------ rows that the worker replaces */

static __always_inline void *row_get(void *map, const void *key)
{
	void *row = NULL;

	for (int i = 0; !row && i < ROW_LOOKS; i++)
		row = bpf_map_lookup_elem(map, key);
	return row;
}

/* What an address is: 0, and ABI_KIND_NONE in *ret if it is nobody's; -1 it kept changing, and that too. */
static __always_inline int address_get(const struct abi_addr *addr, struct abi_address *ret)
{
	struct decide_row_looks looks = {};

#pragma clang loop unroll(disable)
	for (int i = 0; i < ADDRESS_LOOKS; i++) {
		if (decide_row(&looks, bpf_map_lookup_elem(&addresses, addr))) {
			*ret = looks.said;
			return 0;
		}
	}
	__builtin_memset(ret, 0, sizeof(*ret));
	return -1;
}

/*
 * As one look says; NULL: nobody's. For records and counters: what is allowed was asked by address_get(), of the
 * identity that a socket has, and not that of its address.
 */
static __always_inline const struct abi_address *address_glance(const struct abi_addr *addr)
{
	return row_get(&addresses, addr);
}

/* ------------------------------------------------------------------ pods */

#define POD_TRIES 8

struct pod_now { /* abi_pod as it was at one moment */
	__u64 netns;
	__u32 pod, identity;
	__u8 splice, many_ipv4, many_ipv6, flags;
	struct abi_addr ipv4, ipv6;
};

static __always_inline __u64 pod_netns(const struct abi_pod *p)
{
	__u64 netns = *(volatile const __u64 *)&p->netns;

	barrier();
	return netns;
}

/*
 * The pod of a netns: 1 in *ret, 0 none, -1 it kept changing. A row that the worker replaces is freed, and the kernel
 * gives its memory to the next row at once, while we read: so what was read counts only if it is still this pod's.
 */
static __always_inline int pod_get(__u64 netns, struct pod_now *ret)
{
	for (int i = 0; i < POD_TRIES; i++) {
		const struct abi_pod *p = row_get(&pods, &netns);

		if (!p)
			return 0;
		if (pod_netns(p) != netns)
			continue;
		ret->netns = netns;
		ret->pod = p->pod;
		ret->identity = p->identity;
		ret->splice = p->splice;
		ret->many_ipv4 = p->many_ipv4;
		ret->many_ipv6 = p->many_ipv6;
		ret->flags = p->flags;
		ret->ipv4 = p->ipv4;
		ret->ipv6 = p->ipv6;
		barrier();
		/* It may have been another's in between: then what was read differs from what is there now. */
		if (pod_netns(p) == netns && *(volatile const __u32 *)&p->identity == ret->identity &&
		    *(volatile const __u32 *)&p->pod == ret->pod && pod_netns(p) == netns)
			return 1;
	}
	return -1;
}

#endif
