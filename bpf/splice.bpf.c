// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * splice.bpf.c: sk_msg, run for each message that a spliced socket sends: hand it to the peer's queue, or leave it to
 * TCP? The rule is decide_look and decide_message in decide.h; here are the facts that they ask for, and the accounts.
 *
 * Who may be redirected into: a socket that life.bpf.c put into `splices` under its own cookie at establishment. A
 * cookie is never given twice, so an entry that outlives its connection (connect(AF_UNSPEC)) can not be reached by
 * another one.
 */
#include "sock.bpf.h"

/* Account one message that was spliced or left to TCP. */
static __always_inline void flow_count(struct abi_flow *me, const struct abi_flow *peer,
				       const struct abi_settings *set, __u32 size, int spliced)
{
	if (peer->said != me->heard || !me->said) {
		me->heard = peer->said;
		me->turns++;
		me->turn_tcp = 0;
	}
	if (me->by_tcp == spliced) { /* was by TCP and is redirected now, or the other way */
		me->by_tcp = !spliced;
		me->switches++;
	}
	me->said++;
	if (!spliced) {
		me->tcp_bytes += size;
		if (size > set->small_bytes)
			me->turn_tcp += size;
		return;
	}
	me->spliced_bytes += size;
	me->spliced_msgs++;
	me->turn_bytes += size;
	me->turn_msgs++;
}

/* Is what decide_look asks for true? */
static __always_inline int flow_free(struct abi_flow *me, const struct abi_flow *peer,
				     enum decide_look look)
{
	const struct sock *to = (const struct sock *)peer->sock;

	if (look == DECIDE_LOOK_NOT)
		return 0;
	if (!sock_is(to, peer->cookie) || !sock_accepted(to))
		return 0;
	if (look == DECIDE_LOOK_ORDER && !sock_drained((const struct sock *)me->sock, to))
		return 0;
	return sock_queue_empty(to);
}

/* The record says what the switch does to a live connection. */
static __always_inline void conn_switch(struct abi_conn *c, __u32 splice_off)
{
	if (splice_off && c->reason == ABI_SPLICED) {
		c->path = ABI_PATH_TCP;
		c->reason = ABI_SWITCHED_OFF;
	} else if (!splice_off && c->reason == ABI_SWITCHED_OFF && c->end[ABI_CLIENT].in_map &&
		   c->end[ABI_SERVER].in_map) {
		c->path = ABI_PATH_SPLICE;
		c->reason = ABI_SPLICED;
	}
}

SEC("sk_msg")
int weft_msg(struct sk_msg_md *msg)
{
	const struct abi_settings *set = settings_get();
	struct abi_flow *me, *peer;
	enum decide_look look;
	struct abi_sock *s;
	struct abi_conn *c;
	int redirect = 0;
	__u64 key;

	if (!msg->sk || !set)
		return SK_PASS;
	s = bpf_sk_storage_get(&socks, msg->sk, NULL, 0);
	if (!s)
		return SK_PASS;
	c = bpf_map_lookup_elem(&conns, &s->tuple);
	if (!c || c->conn != s->conn)
		return SK_PASS;
	me = &c->end[s->end & 1];
	peer = &c->end[(s->end & 1) ^ 1];
	conn_switch(c, set->splice_off);
	if (!set->splice_off && !c->leaving && peer->in_map && !peer->closed) {
		look = decide_look(me, set, msg->size);
		redirect = decide_message(me, set, peer->said, msg->size, look,
					  flow_free(me, peer, look));
	}
	if (redirect) {
		key = peer->cookie;
		/* a miss (the peer just closed) is SK_DROP here, but must not be EACCES to the app */
		if (bpf_msg_redirect_hash(msg, &splices, &key, BPF_F_INGRESS) != SK_PASS)
			redirect = 0;
	}
	flow_count(me, peer, set, msg->size, redirect);
	if (!redirect && me->turn_tcp >= set->bulk_bytes && !c->leaving && c->path == ABI_PATH_SPLICE) {
		c->leaving_ns = bpf_ktime_get_ns();
		c->leaving = 1;
		c->reason = ABI_BULK;
		c->path = ABI_PATH_TCP;
		reason_count(ABI_BULK);
	}
	return SK_PASS;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
