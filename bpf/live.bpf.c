// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * live.bpf.c: iter/bpf_sk_storage_map over `socks`: one struct abi_live for each live socket that weft knows, of
 * every netns: what TCP counted, what waits in the splice queue.
 */
#include "bytes.bpf.h"
#include "verdict.bpf.h"

#define QUEUE_WALK 1024

static __always_inline void live_queue(const struct sock *sk, struct abi_live *l)
{
	unsigned long data = (unsigned long)sk->sk_user_data;
	struct list_head *head, *at = NULL;
	struct sk_psock *psock;
	__u32 size;

	if (!(data & SK_USER_DATA_PSOCK))
		return;
	psock = (struct sk_psock *)(data & SK_USER_DATA_PTRMASK);
	head = __builtin_preserve_access_index(&psock->ingress_msg);
	bpf_core_read(&at, sizeof(at), &head->next);
	for (int i = 0; i < QUEUE_WALK; i++) {
		struct sk_msg *m;

		if (!at || at == head)
			return;
		m = (void *)at - bpf_core_field_offset(struct sk_msg, list);
		if (bpf_core_read(&size, sizeof(size), &m->sg.size))
			return;
		l->queue_bytes += size;
		l->queue_msgs++;
		if (bpf_core_read(&at, sizeof(at), &at->next))
			return;
	}
}

SEC("iter/bpf_sk_storage_map")
int weft_live(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct abi_sock *s = ctx->value;
	struct sock *sk = ctx->sk;
	struct abi_live l = {};
	struct tcp_sock *tp;

	if (!s || !sk || !(s->flags & ABI_SOCK_CONNECTED))
		return 0;
	tp = (struct tcp_sock *)sk;
	l.tuple = s->tuple;
	l.conn = s->conn;
	l.end = s->end;
	l.cookie = sk->__sk_common.skc_cookie.counter;
	l.state = sk->__sk_common.skc_state;
	l.bytes_acked = bytes_acked(sk);
	l.bytes_received = bytes_received(sk);
	bpf_core_read(&l.srtt_us, sizeof(l.srtt_us), &tp->srtt_us);
	l.srtt_us >>= 3; /* tcp_sock keeps eight times the value */
	bpf_core_read(&l.retransmits, sizeof(l.retransmits), &tp->total_retrans);
	live_queue(sk, &l);
	bpf_seq_write(ctx->meta->seq, &l, sizeof(l));
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
