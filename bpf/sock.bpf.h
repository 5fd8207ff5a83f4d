/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sock.bpf.h: looking into a socket by its kernel address: whose is it, what waits in its splice queue, what has it
 * read, may it be spliced. Rows are those of docs/equivalence.md.
 */
#ifndef WEFT_SOCK_BPF_H
#define WEFT_SOCK_BPF_H

#include "verdict.bpf.h"

/*
 * The kernel address of a socket is a hint: the memory may be another socket's by now (SLAB_TYPESAFE_BY_RCU).
 * Its cookie tells: it is read first, and nothing is written through the address.
 */
static __always_inline int sock_is(const struct sock *sk, __u64 cookie)
{
	__u64 c = 0;

	return sk && !bpf_core_read(&c, sizeof(c), &sk->__sk_common.skc_cookie.counter) &&
	       c == cookie;
}

/* The psock's list of redirected messages that wait for the reader; NULL if the socket has none. */
static __always_inline struct list_head *sock_queue(const struct sock *sk)
{
	unsigned long data = 0;
	struct sk_psock *psock;

	bpf_core_read(&data, sizeof(data), &sk->sk_user_data);
	if (!(data & SK_USER_DATA_PSOCK))
		return NULL;
	psock = (struct sk_psock *)(data & SK_USER_DATA_PTRMASK);
	return __builtin_preserve_access_index(&psock->ingress_msg);
}

static __always_inline int sock_queue_empty(const struct sock *sk)
{
	struct list_head *head = sock_queue(sk), *first = NULL;

	if (!head || bpf_core_read(&first, sizeof(first), &head->next))
		return 0;
	return first == head;
}

static __always_inline int sock_live(const struct sock *sk)
{
	__u8 state = 0;

	bpf_core_read(&state, sizeof(state), &sk->__sk_common.skc_state);
	return state == TCP_ESTABLISHED;
}

/* May its program still send? After shutdown() or a reset the answer is TCP's to give. */
static __always_inline int sock_speaks(__u32 state)
{
	return state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT;
}

/* It has ended both ways: what comes now is lost, and TCP resets the connection to say so (row 17). */
static __always_inline int sock_deaf(const struct sock *sk)
{
	__u8 shut = 0;

	bpf_core_read(&shut, sizeof(shut), &sk->sk_shutdown);
	return shut & RCV_SHUTDOWN;
}

/* TCP has brought bytes that the app has not read. */
static __always_inline int sock_unread(const struct sock *sk)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	__u32 got = 0, read = 0;

	bpf_core_read(&got, sizeof(got), &tp->rcv_nxt);
	bpf_core_read(&read, sizeof(read), &tp->copied_seq);
	return got != read;
}

/* Nothing waits in the splice queue of this end. */
static __always_inline int flow_quiet(const struct abi_flow *f)
{
	const struct sock *sk = (const struct sock *)f->sock;

	return !f->in_map || !sock_is(sk, f->cookie) || sock_queue_empty(sk);
}

/* TCP_NODELAY: its small writes travel as they are */
static __always_inline int sock_nodelay(const struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED((const struct tcp_sock *)sk, nonagle) & 1;
}

/* The file of the socket; NULL before somebody has accepted it: then nothing bounds what is queued (row 41). */
static __always_inline const struct file *sock_file(const struct sock *sk)
{
	struct socket *socket = NULL;
	struct file *file = NULL;

	bpf_core_read(&socket, sizeof(socket), &sk->sk_socket);
	if (socket)
		bpf_core_read(&file, sizeof(file), &socket->file);
	return file;
}

/* Its recv() waits inside the kernel, where the splice shows (rows 1, 20, 21, 22). */
static __always_inline int file_blocks(const struct file *file)
{
	__u32 flags = 0;

	bpf_core_read(&flags, sizeof(flags), &file->f_flags);
	return !(flags & O_NONBLOCK);
}

/* Where it stands whether a file is mapped into memory: the root of the tree of its mappings. */
static __always_inline __u64 file_mappings(const struct file *file)
{
	struct address_space *mapping = NULL;

	bpf_core_read(&mapping, sizeof(mapping), &file->f_mapping);
	return mapping ? (__u64)__builtin_preserve_access_index(&mapping->i_mmap.rb_root.rb_node) : 0;
}

/* It is, as TCP_ZEROCOPY_RECEIVE wants it, which reads TCP's queue alone (row 15). */
static __always_inline int mappings_there(__u64 at)
{
	__u64 node = 0;

	bpf_probe_read_kernel(&node, sizeof(node), (const void *)at);
	return node != 0;
}

static __always_inline __u32 sock_read_at(const struct sock *sk)
{
	__u32 at = 0;

	bpf_core_read(&at, sizeof(at), &((const struct tcp_sock *)sk)->copied_seq);
	return at;
}

/* Everything that `from` ever gave to TCP has been read by the app at `to`: same sequence space. */
static __always_inline int sock_drained(const struct sock *from, __u32 read)
{
	__u32 written = 0;

	bpf_core_read(&written, sizeof(written), &((const struct tcp_sock *)from)->write_seq);
	return written == read;
}

#define sock_flag_bit(name) (1ul << bpf_core_enum_value(enum sock_flags, name))

/*
 * Does the socket use something that a splice would change? Multipath TCP (32, 33), zerocopy (11, 12), SO_RCVLOWAT (2),
 * SO_PEEK_OFF (6), TCP_INQ (14), time stamps (16), urgent data (8), a ULP such as kTLS (28), a filter, TCP-MD5 or AO
 * (37), an owner in the kernel (39) or another psock (40).
 */
static __always_inline enum abi_reason sock_eligible(const struct sock *sk)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	unsigned long flags = 0;
	const void *p = NULL;
	_Bool mptcp = 0;
	int lowat = 1, peek = -1;
	__u16 urgent = 0;

	if (bpf_core_field_exists(tp->is_mptcp))
		bpf_core_read(&mptcp, sizeof(mptcp), &tp->is_mptcp);
	if (mptcp)
		return ABI_MPTCP;
	bpf_core_read(&flags, sizeof(flags), &sk->__sk_common.skc_flags);
	if (flags & (sock_flag_bit(SOCK_ZEROCOPY) | sock_flag_bit(SOCK_URGINLINE) | sock_flag_bit(SOCK_RCVTSTAMP)))
		return ABI_SOCKET_OPTION;
	bpf_core_read(&lowat, sizeof(lowat), &sk->sk_rcvlowat);
	bpf_core_read(&peek, sizeof(peek), &sk->sk_peek_off);
	if (lowat > 1 || peek >= 0 || BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock) ||
	    BPF_CORE_READ_BITFIELD_PROBED(sk, sk_tsflags) || BPF_CORE_READ_BITFIELD_PROBED(tp, recvmsg_inq))
		return ABI_SOCKET_OPTION;
	bpf_core_read(&urgent, sizeof(urgent), &tp->urg_data);
	if (urgent)
		return ABI_URGENT;
	bpf_core_read(&p, sizeof(p), &tp->inet_conn.icsk_ulp_ops);
	if (p)
		return ABI_SOCKET_OPTION;
	bpf_core_read(&p, sizeof(p), &sk->sk_filter);
	if (p)
		return ABI_SOCKET_OPTION;
	if (bpf_core_field_exists(tp->md5sig_info)) {
		bpf_core_read(&p, sizeof(p), &tp->md5sig_info);
		if (p)
			return ABI_SOCKET_OPTION;
	}
	if (bpf_core_field_exists(tp->ao_info)) {
		bpf_core_read(&p, sizeof(p), &tp->ao_info);
		if (p)
			return ABI_SOCKET_OPTION;
	}
	return ABI_NONE;
}

/* Somebody else's, in the kernel: an sk_msg or sk_skb program of others, NFS, KCM ... (rows 39, 40) */
static __always_inline int sock_owned(const struct sock *sk)
{
	const void *p = NULL;

	bpf_core_read(&p, sizeof(p), &sk->sk_user_data);
	return p != NULL;
}

#endif
