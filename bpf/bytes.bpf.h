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

struct bytes_seen { /* what tcp_sock says */
	__u64 acked, received;
	unsigned long flags; /* enum sock_flags */
	__u32 written, una;
	__u8 state;
};

/* Of a socket that is known by its address only. */
static __always_inline void bytes_probe(const struct sock *sk, struct bytes_seen *b)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;

	*b = (struct bytes_seen){};
	bpf_core_read(&b->acked, sizeof(b->acked), &tp->bytes_acked);
	bpf_core_read(&b->received, sizeof(b->received), &tp->bytes_received);
	bpf_core_read(&b->flags, sizeof(b->flags), &sk->__sk_common.skc_flags);
	bpf_core_read(&b->written, sizeof(b->written), &tp->write_seq);
	bpf_core_read(&b->una, sizeof(b->una), &tp->snd_una);
	bpf_core_read(&b->state, sizeof(b->state), &sk->__sk_common.skc_state);
}

static __always_inline __u64 bytes_received(const struct bytes_seen *b)
{
	/* tcp_fin() sets it when the peer's FIN is taken in, and nothing else does */
	int fin = b->received && b->flags & (1ul << bpf_core_enum_value(enum sock_flags, SOCK_DONE));

	return b->received - fin;
}

static __always_inline __u64 bytes_acked(const struct bytes_seen *b)
{
	int fin = b->acked && b->una == b->written && BYTES_FIN_SENT & (1u << (b->state & 31));

	return b->acked - fin;
}

#endif
