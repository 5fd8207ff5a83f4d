// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * option.bpf.c: cgroup/setsockopt. A spliced socket that is about to use something that a splice would change goes
 * back to TCP before the option takes effect. The options are those that sock_eligible() looks for when a socket would
 * enter; nothing is refused and nothing is changed.
 */
#include "pair.bpf.h"

#define SOL_SOCKET 1 /* asm-generic/socket.h: x86-64, arm64 */
#define SO_OOBINLINE 10
#define SO_RCVLOWAT 18
#define SO_ATTACH_FILTER 26
#define SO_TIMESTAMP_OLD 29
#define SO_TIMESTAMPNS_OLD 35
#define SO_TIMESTAMPING_OLD 37
#define SO_PEEK_OFF 42
#define SO_ATTACH_BPF 50
#define SO_ZEROCOPY 60
#define SO_TIMESTAMP_NEW 63
#define SO_TIMESTAMPNS_NEW 64
#define SO_TIMESTAMPING_NEW 65

#define TCP_MD5SIG 14 /* linux/tcp.h */
#define TCP_REPAIR 19
#define TCP_ULP 31
#define TCP_MD5SIG_EXT 32
#define TCP_INQ 36
#define TCP_AO_ADD_KEY 38

static __always_inline int option_shows(int level, int name)
{
	if (level == SOL_SOCKET) {
		switch (name) {
		case SO_OOBINLINE:
		case SO_RCVLOWAT:
		case SO_ATTACH_FILTER:
		case SO_TIMESTAMP_OLD:
		case SO_TIMESTAMPNS_OLD:
		case SO_TIMESTAMPING_OLD:
		case SO_PEEK_OFF:
		case SO_ATTACH_BPF:
		case SO_ZEROCOPY:
		case SO_TIMESTAMP_NEW:
		case SO_TIMESTAMPNS_NEW:
		case SO_TIMESTAMPING_NEW:
			return 1;
		}
		return 0;
	}
	if (level != IPPROTO_TCP)
		return 0;
	switch (name) {
	case TCP_MD5SIG:
	case TCP_REPAIR:
	case TCP_ULP:
	case TCP_MD5SIG_EXT:
	case TCP_INQ:
	case TCP_AO_ADD_KEY:
		return 1;
	}
	return 0;
}

SEC("cgroup/setsockopt")
int weft_setopt(struct bpf_sockopt *ctx)
{
	struct abi_sock *s;
	struct abi_pair *p;

	if (ctx->sk && option_shows(ctx->level, ctx->optname)) {
		s = bpf_sk_storage_get(&socks, ctx->sk, NULL, 0);
		p = s && s->flags & ABI_SOCK_IN_MAP ? pair_get(s->slot, s->conn) : NULL;
		if (p && !p->leaving)
			pair_leave(p, ABI_SOCKET_OPTION);
	}
	ctx->optlen = 0; /* the kernel takes the caller's value as it is, and saves a copy */
	return 1;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
