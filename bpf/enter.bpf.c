// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * enter.bpf.c: sched_cls, attached nowhere: the supervisor runs it (BPF_PROG_TEST_RUN) in the netns of a pod, to put
 * one socket into `splices`. Which one, the packet says (struct abi_errand behind an Ethernet header). It is found as
 * the kernel finds the socket of a segment, so no socket needs a mark from its first day to be found by; and its cookie
 * must be the one that weft_watch meant.
 */
#include "pair.bpf.h"
#include "sock.bpf.h"

#define ETH_HLEN 14

/* As in a segment that arrives for this end. */
static __always_inline struct bpf_sock *find(struct __sk_buff *skb, const struct abi_errand *e)
{
	const struct abi_addr *from = e->end == ABI_CLIENT ? &e->tuple.dst : &e->tuple.src;
	const struct abi_addr *to = e->end == ABI_CLIENT ? &e->tuple.src : &e->tuple.dst;
	__be16 from_port = bpf_htons(e->end == ABI_CLIENT ? e->tuple.dst_port : e->tuple.src_port);
	__be16 to_port = bpf_htons(e->end == ABI_CLIENT ? e->tuple.src_port : e->tuple.dst_port);
	struct bpf_sock_tuple t = {};

	if (addr_v4(to)) {
		t.ipv4.saddr = addr_word(from, 3);
		t.ipv4.daddr = addr_word(to, 3);
		t.ipv4.sport = from_port;
		t.ipv4.dport = to_port;
		return bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(t.ipv6.saddr, from, sizeof(t.ipv6.saddr));
	__builtin_memcpy(t.ipv6.daddr, to, sizeof(t.ipv6.daddr));
	t.ipv6.sport = from_port;
	t.ipv6.dport = to_port;
	return bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
}

static __always_inline void seat_take(__u64 cookie, const struct abi_errand *e)
{
	__u32 at = cookie & (ABI_MAX_SEATS - 1);
	struct abi_seat *seat = bpf_map_lookup_elem(&seats, &at);

	if (!seat)
		return;
	seat->conn = e->conn;
	seat->seat = e->slot * 2 + (e->end & 1);
}

/* EBUSY and the like: somebody holds it, or its lock; the next pass of weft_watch asks again. */
static __always_inline void enter(struct bpf_sock *sk, const struct abi_errand *e, struct abi_flow *me)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)bpf_skc_to_tcp_sock(sk);
	__u64 key = me->cookie;
	struct abi_sock *s;

	if (!tp || !sock_is((const struct sock *)tp, key) || !sock_live((const struct sock *)tp))
		return;
	s = bpf_sk_storage_get(&socks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s)
		return;
	s->tuple = e->tuple;
	s->end = e->end;
	s->conn = e->conn;
	s->slot = e->slot;
	s->flags |= ABI_SOCK_CONNECTED;
	seat_take(key, e);
	me->read_at = sock_read_at((const struct sock *)tp);
	if (bpf_map_update_elem(&splices, &key, sk, BPF_NOEXIST))
		return;
	me->in_map = 1;
	s->flags |= ABI_SOCK_IN_MAP;
}

SEC("tc")
int weft_enter(struct __sk_buff *skb)
{
	struct abi_errand e;
	struct abi_flow *me;
	struct abi_pair *p;
	struct bpf_sock *sk;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &e, sizeof(e)))
		return 0;
	p = pair_get(e.slot, e.conn);
	if (!p)
		return 0;
	me = &p->end[e.end & 1];
	if (p->leaving || me->in_map || me->cookie != e.cookie[e.end & 1])
		return 0;
	sk = find(skb, &e);
	if (!sk)
		return 0;
	enter(sk, &e, me);
	bpf_sk_release(sk);
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
