// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * selftest.bpf.c: the kernel side of the self-test (proc/selftest.c), an object of its own. It enters sockets the way
 * weft does (an iterator over socket storage), looks into them with the very functions of sock.bpf.h, and redirects
 * each message or leaves it to TCP as the test says: the tests are about the kernel, not about weft's rules.
 */
#include "selftest_map.h"
#include "sock.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} selftest_socks SEC(".maps"), selftest_other SEC(".maps"); /* `other`: of somebody else */

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct selftest_mark);
} selftest_marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct selftest_end);
} selftest_ends SEC(".maps");

SEC("sk_msg")
int selftest_msg(struct sk_msg_md *msg)
{
	__u32 port = msg->local_port, peer = bpf_ntohl(msg->remote_port);
	struct selftest_end *end = bpf_map_lookup_elem(&selftest_ends, &port);

	if (!end)
		return SK_PASS;
	if (end->redirect && bpf_msg_redirect_hash(msg, &selftest_socks, &peer, BPF_F_INGRESS) == SK_PASS)
		end->redirected++;
	else
		end->passed++;
	return SK_PASS;
}

static __always_inline int arrived(const struct sock *from, const struct sock *to)
{
	__u32 written = 0, got = 1;

	bpf_core_read(&written, sizeof(written), &((const struct tcp_sock *)from)->write_seq);
	bpf_core_read(&got, sizeof(got), &((const struct tcp_sock *)to)->rcv_nxt);
	return written == got;
}

SEC("iter/bpf_sk_storage_map")
int selftest_look(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct selftest_mark *mark = ctx->value;
	struct selftest_seen seen = {};
	struct sock *sk = ctx->sk;
	const struct file *file;
	__u32 port;

	if (!mark || !sk)
		return 0;
	port = mark->port;
	seen.number = mark->number;
	seen.sock = (__u64)sk;
	seen.eligible = sock_eligible(sk);
	seen.empty = sock_queue_empty(sk);
	seen.drained = mark->peer && sock_drained((const struct sock *)mark->peer, sock_read_at(sk));
	seen.arrived = mark->peer && arrived((const struct sock *)mark->peer, sk);
	seen.unread = sock_unread(sk);
	seen.live = sock_live(sk);
	file = sock_file(sk);
	seen.accepted = file != NULL;
	seen.blocks = file && file_blocks(file);
	if (mark->enter) {
		seen.entered = bpf_map_update_elem(&selftest_socks, &port, sk, BPF_ANY);
		mark->enter = 0;
	}
	bpf_seq_write(ctx->meta->seq, &seen, sizeof(seen));
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
