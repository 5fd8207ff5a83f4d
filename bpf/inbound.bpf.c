// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * inbound.bpf.c: sk_lookup, one link per pod netns. Runs for the SYN of a new connection (and for packets that
 * match no established socket), never per data packet, and never for the pod's own loopback.
 *
 *	1. is the local address one that the pod was enrolled with?	else pass, counted; but a link-local one, which
 *			every pod has and no policy can tell from another's, is refused
 *	2. who is it?	A local client is known by the record that its connect() made, whatever address it uses. One of
 *			the pod that is on its way to the worker, or from it, has such a record too: pass. Not if the
 *			server's socket has come already: then it is another one by the same ports.
 *	3. else: is it the pod itself?				pass
 *	4. is it a port of weft's own?				drop (own_port); that of HBONE is open to all: pass
 *	5. does it come from this node itself (kubelet, host)?	pass: probes must work under STRICT
 *			Anybody else is identity 0.
 *	6. does the policy of the pod allow it?			else drop: the kernel answers RST
 *	7. is it plaintext for a pod that wants the worker?	give it to the worker's listener (sk_assign); is the
 *			worker gone, drop, or pass if the pod fails open
 * A record is made by the sockops program at connect(), so what it says of the socket is true.
 */
#include "policy.bpf.h"

/* Question 7 */
static __always_inline int to_worker(struct bpf_sk_lookup *ctx, const struct abi_address *to, int fail_open)
{
	struct bpf_sock *sk = worker_gone(fail_open) ? NULL : bpf_map_lookup_elem(&listeners, &to->netns);
	long err;

	if (sk) {
		err = bpf_sk_assign(ctx, sk, 0); /* its SO_REUSEPORT group is asked afterwards */
		bpf_sk_release(sk);
		if (!err)
			return SK_PASS;
	}
	if (fail_open)
		return SK_PASS;
	refusal_count(0, 0, to->pod, ABI_WORKER_GONE);
	return SK_DROP;
}

SEC("sk_lookup")
int weft_inbound(struct bpf_sk_lookup *ctx)
{
	struct abi_address to, from;
	const struct abi_conn *c;
	struct abi_tuple t = {};
	enum abi_reason why;
	__u32 identity = 0, set;
	int weft_port, joined, node = 0;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (ctx->family == AF_INET) {
		addr_from_v4(&t.src, ctx->remote_ip4);
		addr_from_v4(&t.dst, ctx->local_ip4);
	} else {
		addr_from_v6(&t.src, ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2],
			     ctx->remote_ip6[3]);
		addr_from_v6(&t.dst, ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
			     ctx->local_ip6[3]);
	}
	if (addr_loopback(&t.dst))
		return SK_PASS;
	t.src_port = bpf_ntohs(ctx->remote_port);
	t.dst_port = ctx->local_port;

	if (address_get(&t.dst, &to)) {
		reason_count(ABI_POLICY_UNSETTLED);
		return SK_DROP;
	}
	if (to.kind != ABI_KIND_LOCAL_POD) {
		if (addr_link_local(&t.dst) && !addr_same(&t.src, &t.dst)) {
			refusal_count(0, 0, 0, ABI_LINK_LOCAL);
			return SK_DROP;
		}
		reason_count(ABI_UNKNOWN_ADDRESS);
		return SK_PASS;
	}
	weft_port = t.dst_port == ABI_PORT_OUTBOUND || t.dst_port == ABI_PORT_INBOUND;
	/* The record first: a pod that connects from an address of the node, or of `to`, is what its socket says. */
	c = bpf_map_lookup_elem(&conns, &t);
	joined = c && c->end[ABI_SERVER].cookie;
	if (c && c->client_netns && !(c->flags && joined)) {
		if (c->flags)
			return SK_PASS;
		if (c->policy && c->policy == to.policy && !weft_port && !joined)
			return SK_PASS; /* asked at connect(), and nothing changed since */
		identity = c->source;
	} else {
		if (address_get(&t.src, &from)) {
			reason_count(ABI_POLICY_UNSETTLED);
			return SK_DROP;
		}
		if (from.kind == ABI_KIND_LOCAL_POD && from.netns == to.netns)
			return SK_PASS; /* the pod talks to itself, by one of its addresses to one of them */
		node = from.kind == ABI_KIND_NODE;
	}
	if (!weft_port) {
		if (node || t.dst_port == ABI_PORT_HBONE)
			return SK_PASS; /* sockops counts the node's when it stands */
		why = policy_ask(&t.dst, to.policy, identity, &t.src, t.dst_port, &set);
		if (!why)
			return to.flags & ABI_ADDRESS_PROXY && !identity
				       ? to_worker(ctx, &to, to.flags & ABI_ADDRESS_FAIL_OPEN)
				       : SK_PASS;
		if (why == ABI_PROXIED && !identity)
			return to_worker(ctx, &to, 0); /* it asks each request; nothing else may let it pass */
	} else {
		why = ABI_OWN_PORT;
	}
	/* a pod of this node was asked at connect(), unless its address was not known: it is too late to capture it */
	refusal_count(identity, 0, to.pod, why == ABI_PROXIED ? ABI_NEEDS_WORKER : why);
	return SK_DROP;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
