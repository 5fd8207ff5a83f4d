// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * live.bpf.c: iter/bpf_map_elem over `conns`: one struct abi_live for each live socket of a connection that weft
 * knows, of every netns: what TCP counted, what waits in the splice queue.
 */
#include "bytes.bpf.h"
#include "sock.bpf.h"

#define QUEUE_WALK 1024

static __always_inline void live_queue(const struct sock *sk, struct abi_live *l)
{
	struct list_head *head = sock_queue(sk), *at = NULL;
	__u32 size;

	if (!head)
		return;
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

/* One end; its socket may be another's by now. */
static __always_inline void live_end(struct seq_file *seq, const struct abi_tuple *t, const struct abi_conn *c,
				     __u32 end)
{
	const struct sock *sk = (const struct sock *)c->end[end].sock;
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	struct abi_live l = {};
	struct bytes_seen b;

	if (!c->end[end].cookie || !sock_is(sk, c->end[end].cookie))
		return;
	l.tuple = *t;
	l.conn = c->conn;
	l.end = end;
	l.cookie = c->end[end].cookie;
	bpf_core_read(&l.state, sizeof(l.state), &sk->__sk_common.skc_state);
	bytes_probe(sk, &b);
	l.bytes_acked = bytes_acked(&b);
	l.bytes_received = bytes_received(&b);
	bpf_core_read(&l.srtt_us, sizeof(l.srtt_us), &tp->srtt_us);
	l.srtt_us >>= 3; /* tcp_sock keeps eight times the value */
	bpf_core_read(&l.retransmits, sizeof(l.retransmits), &tp->total_retrans);
	live_queue(sk, &l);
	bpf_seq_write(seq, &l, sizeof(l));
}

SEC("iter/bpf_map_elem")
int weft_live(struct bpf_iter__bpf_map_elem *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	const struct abi_tuple *key = ctx->key;
	const struct abi_conn *c;
	struct abi_tuple t;

	if (!key)
		return 0;
	t = *key;
	c = bpf_map_lookup_elem(&conns, &t);
	if (!c)
		return 0;
	for (__u32 end = 0; end < 2; end++)
		live_end(seq, &t, c, end);
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
