/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sock.bpf.h: looking into a socket by its kernel address: whose is it, what waits in its splice queue, what has it
 * read, may it be spliced.
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

/* Somebody has accepted it: before that nothing bounds what is queued (facts row 41). */
static __always_inline int sock_accepted(const struct sock *sk)
{
	void *file = NULL;

	bpf_core_read(&file, sizeof(file), &sk->sk_socket);
	return file != NULL;
}

/* Everything that `from` ever gave to TCP has been read by the app at `to`: same sequence space. */
static __always_inline int sock_drained(const struct sock *from, const struct sock *to)
{
	__u32 written = 0, read = 1;

	bpf_core_read(&written, sizeof(written), &((const struct tcp_sock *)from)->write_seq);
	bpf_core_read(&read, sizeof(read), &((const struct tcp_sock *)to)->copied_seq);
	return written == read;
}

/*
 * Does the socket use something that a splice would change? (zerocopy, SO_RCVLOWAT, a ULP such as kTLS, a filter,
 * Multipath TCP, a kernel owner). Asked once, when it would enter.
 */
static __always_inline enum abi_reason sock_eligible(const struct sock *sk)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	unsigned long flags = 0;
	const void *p = NULL;
	_Bool mptcp = 0;
	int lowat = 1;

	if (bpf_core_field_exists(tp->is_mptcp))
		bpf_core_read(&mptcp, sizeof(mptcp), &tp->is_mptcp);
	if (mptcp)
		return ABI_MPTCP;
	bpf_core_read(&flags, sizeof(flags), &sk->__sk_common.skc_flags);
	if (flags & (1ul << bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY)))
		return ABI_SOCKET_OPTION;
	bpf_core_read(&lowat, sizeof(lowat), &sk->sk_rcvlowat);
	if (lowat > 1 || BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock))
		return ABI_SOCKET_OPTION;
	bpf_core_read(&p, sizeof(p), &tp->inet_conn.icsk_ulp_ops);
	if (p)
		return ABI_SOCKET_OPTION;
	bpf_core_read(&p, sizeof(p), &sk->sk_filter);
	if (p)
		return ABI_SOCKET_OPTION;
	bpf_core_read(&p, sizeof(p), &sk->sk_user_data);
	if (p)
		return ABI_FOREIGN_OWNER;
	return ABI_NONE;
}

#endif
