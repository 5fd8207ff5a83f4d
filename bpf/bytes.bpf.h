/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bytes.bpf.h: how many bytes of the app TCP has carried. tcp_sock counts sequence numbers, and a FIN has one: it is
 * taken off here. (So has the client's SYN: whoever knows which end it is takes that off.)
 */
#ifndef WEFT_BYTES_BPF_H
#define WEFT_BYTES_BPF_H

#include "kernel.bpf.h"

/* include/net/tcp_states.h: the states in which a FIN of ours stands in the sequence */
#define BYTES_FIN_SENT                                                                             \
	(1u << 4 /* FIN_WAIT1 */ | 1u << 5 /* FIN_WAIT2 */ | 1u << 9 /* LAST_ACK */ | 1u << 11 /* CLOSING */)

static __always_inline __u64 bytes_received(const struct sock *sk)
{
	unsigned long flags = 0;
	__u64 n = 0;

	bpf_core_read(&n, sizeof(n), &((const struct tcp_sock *)sk)->bytes_received);
	bpf_core_read(&flags, sizeof(flags), &sk->__sk_common.skc_flags);
	/* tcp_fin() sets it when the peer's FIN is taken in, and nothing else does */
	if (n && flags & (1ul << bpf_core_enum_value(enum sock_flags, SOCK_DONE)))
		n--;
	return n;
}

static __always_inline __u64 bytes_acked(const struct sock *sk)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	__u32 written = 0, una = 1;
	unsigned char state = 0;
	__u64 n = 0;

	bpf_core_read(&n, sizeof(n), &tp->bytes_acked);
	bpf_core_read(&written, sizeof(written), &tp->write_seq);
	bpf_core_read(&una, sizeof(una), &tp->snd_una);
	bpf_core_read(&state, sizeof(state), &sk->__sk_common.skc_state);
	if (n && una == written && BYTES_FIN_SENT & (1u << (state & 31)))
		n--;
	return n;
}

#endif
