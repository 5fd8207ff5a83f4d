// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * life.bpf.c: sockops, the life of a connection.
 *
 * A connection's record (`conns`) is made by the client's TCP_CONNECT_CB: the source port is known, the SYN is not
 * yet sent, so weft_inbound and the server's socket find it. Each local end joins at establishment and leaves at
 * TCP_CLOSE; the last one out removes the record and adds it to the counters. Both enter the splice at establishment,
 * if they may, and leave it early if they turn out to carry bulk.
 */
#include "bytes.bpf.h"
#include "sock.bpf.h"

#define TCP_CB_FLAGS (BPF_SOCK_OPS_STATE_CB_FLAG)

/* ------------------------------------------------------------------ who is it */

static __always_inline void ops_addrs(struct bpf_sock_ops *ops, struct abi_addr *local,
				      struct abi_addr *remote)
{
	if (ops->family == AF_INET) {
		addr_from_v4(local, ops->local_ip4);
		addr_from_v4(remote, ops->remote_ip4);
	} else {
		addr_from_v6(local, ops->local_ip6[0], ops->local_ip6[1], ops->local_ip6[2],
			     ops->local_ip6[3]);
		addr_from_v6(remote, ops->remote_ip6[0], ops->remote_ip6[1], ops->remote_ip6[2],
			     ops->remote_ip6[3]);
	}
}

/* The connection's key as its client sees it; `end` says which of the two this socket is. */
static __always_inline void ops_tuple(struct bpf_sock_ops *ops, enum abi_end end,
				      struct abi_tuple *t)
{
	__u16 local = ops->local_port, remote = bpf_ntohl(ops->remote_port);

	if (end == ABI_CLIENT) {
		ops_addrs(ops, &t->src, &t->dst);
		t->src_port = local;
		t->dst_port = remote;
	} else {
		ops_addrs(ops, &t->dst, &t->src);
		t->dst_port = local;
		t->src_port = remote;
	}
}

/* 1: the pod of the socket */
static __always_inline int ops_pod(struct bpf_sock_ops *ops, struct pod_now *ret)
{
	return pod_get(bpf_get_netns_cookie(ops), ret) == 1;
}

static __always_inline struct abi_sock *ops_sock(struct bpf_sock_ops *ops, int create)
{
	struct bpf_sock *sk = ops->sk;

	if (!sk)
		return NULL;
	return bpf_sk_storage_get(&socks, sk, NULL, create ? BPF_SK_STORAGE_GET_F_CREATE : 0);
}

static __always_inline struct abi_conn *sock_conn(struct abi_sock *s)
{
	struct abi_conn *c;

	if (!s || !(s->flags & ABI_SOCK_CONNECTED))
		return NULL;
	c = bpf_map_lookup_elem(&conns, &s->tuple);
	return c && c->conn == s->conn ? c : NULL;
}

/* What lies between a pod and an address that is not a pod of this node. */
static __always_inline enum abi_reason outside_reason(const struct abi_address *a)
{
	if (a && a->kind == ABI_KIND_REMOTE_POD)
		return ABI_OTHER_NODE;
	if (a && a->kind == ABI_KIND_NODE)
		return ABI_NODE_ITSELF;
	if (a && a->kind == ABI_KIND_LOCAL_POD)
		return ABI_PEER_UNSEEN;
	return ABI_OUTSIDE;
}

/* ------------------------------------------------------------------ counters */

static __always_inline struct abi_traffic *traffic_of(const struct abi_conn *c)
{
	struct abi_traffic_key key = {
		.source = c->source, .service = c->service, .pod = c->server_pod};
	struct abi_traffic zero = {}, *t;

	t = bpf_map_lookup_elem(&traffic, &key);
	if (t)
		return t;
	bpf_map_update_elem(&traffic, &key, &zero, BPF_NOEXIST);
	t = bpf_map_lookup_elem(&traffic, &key);
	if (!t)
		reason_count(ABI_MAP_FULL);
	return t;
}

/* ------------------------------------------------------------------ entering the splice */

static __always_inline enum abi_reason enter_ask(const struct abi_sock *s, const struct pod_now *client,
						 const struct abi_address *server)
{
	struct abi_class_key key = {.netns = server->netns, .port = s->tuple.dst_port};
	struct abi_class *class = bpf_map_lookup_elem(&classes, &key);
	const struct abi_settings *set = settings_get();
	struct decide_enter in = {
		.splice_off = set ? set->splice_off : 1,
		.kernel_safe = set ? set->kernel_safe : 0,
		.client_splice = client->splice,
		.server_splice = server->splice,
		.service_splice = s->splice,
		.sample = (bpf_get_prandom_u32() & (DECIDE_SAMPLE - 1)) == 0,
		.bulk = class ? class->bulk : 0,
		.brief = class ? class->brief : 0,
		.busy = class ? decide_busy(class, bpf_ktime_get_coarse_ns()) : 0,
	};

	return decide_enter(&in);
}

/* Put this socket into the map and note it in its end of the record. */
static __always_inline enum abi_reason enter(struct bpf_sock_ops *ops, struct abi_flow *me)
{
	enum abi_reason why = sock_eligible((const struct sock *)me->sock);
	__u64 key = me->cookie;
	long err;

	if (why)
		return why;
	err = bpf_sock_hash_update(ops, &splices, &key, BPF_NOEXIST);
	if (err == -EBUSY)
		return ABI_FOREIGN_OWNER;
	if (err && err != -EEXIST) /* a socket that connects again is still there under its cookie */
		return ABI_MAP_FULL;
	me->in_map = 1;
	return ABI_NONE;
}

/* The end of the record that belongs to this socket starts its life. */
static __always_inline void flow_open(struct bpf_sock_ops *ops, struct abi_flow *me)
{
	me->sock = (__u64)ops->sk;
	me->cookie = bpf_get_socket_cookie(ops);
	me->by_tcp = 1;
}

/* ------------------------------------------------------------------ the events */

/*
 * A socket that was spliced connects again (after connect(AF_UNSPEC)). What its first peer sent and nobody read
 * would be read as the second one's: it goes with the entry.
 */
static __always_inline void enter_undo(struct bpf_sock_ops *ops)
{
	struct abi_sock *s = ops_sock(ops, 0);
	__u64 key;

	if (!s || !(s->flags & ABI_SOCK_IN_MAP))
		return;
	s->flags &= ~ABI_SOCK_IN_MAP;
	key = bpf_get_socket_cookie(ops);
	bpf_map_delete_elem(&splices, &key);
}

/*
 * The record of a client. One that uses an address that it was not enrolled with has a record too, so that it is
 * judged as what it is; it replaces no record. If another pod's is there it becomes this client's for the policy: who
 * uses an address of others gains nothing by it.
 */
static __always_inline int record_client(const struct abi_tuple *t, const struct abi_conn *c, int own)
{
	struct abi_conn *there;

	if (!bpf_map_update_elem(&conns, t, c, own ? BPF_ANY : BPF_NOEXIST))
		return 0;
	there = own ? NULL : bpf_map_lookup_elem(&conns, t);
	if (there && there->client_netns != c->client_netns) {
		there->policy = 0;
		there->source = c->source;
	}
	return -1;
}

/* A client of ours is about to send its SYN. */
static __always_inline void on_connect(struct bpf_sock_ops *ops)
{
	const struct abi_address *from, *to;
	struct abi_conn c = {};
	struct pod_now pod;
	struct abi_sock *s;
	int own;

	enter_undo(ops);
	if (!ops_pod(ops, &pod))
		return;
	s = ops_sock(ops, 1);
	if (!s)
		return;
	ops_tuple(ops, ABI_CLIENT, &s->tuple);
	if (addr_loopback(&s->tuple.dst) || addr_same(&s->tuple.src, &s->tuple.dst))
		return;
	from = address_get(&s->tuple.src);
	own = from && from->netns == pod.netns && from->kind == ABI_KIND_LOCAL_POD;
	if (!own)
		reason_count(ABI_UNKNOWN_ADDRESS);
	to = address_get(&s->tuple.dst);
	if (to && to->netns == pod.netns && to->kind == ABI_KIND_LOCAL_POD)
		return;
	if (!own && (!to || to->kind != ABI_KIND_LOCAL_POD))
		return;
	flow_open(ops, &c.end[ABI_CLIENT]);
	c.conn = (__u32)c.end[ABI_CLIENT].cookie;
	c.live = 1;
	c.service = s->service;
	c.source = pod.identity;
	c.client_pod = pod.pod;
	c.client_netns = pod.netns;
	c.opened_ns = s->connect_ns ? s->connect_ns : bpf_ktime_get_ns();
	c.policy = own ? s->policy : 0; /* it was asked for an address of the pod */
	c.asked = s->asked;
	c.asked_port = s->asked_port;
	if (to && to->kind == ABI_KIND_LOCAL_POD) {
		c.server_pod = to->pod;
		c.server_netns = to->netns;
		c.reason = own ? enter_ask(s, &pod, to) : ABI_UNKNOWN_ADDRESS;
	} else {
		c.path = ABI_PATH_DIRECT;
		c.reason = outside_reason(to);
	}
	s->conn = c.conn;
	s->end = ABI_CLIENT;
	if (record_client(&s->tuple, &c, own)) {
		reason_count(ABI_MAP_FULL);
		return;
	}
	s->flags |= ABI_SOCK_CONNECTED;
	bpf_sock_ops_cb_flags_set(ops, TCP_CB_FLAGS);
}

/* The client's side stands; the server may not know it yet. */
static __always_inline void on_active(struct bpf_sock_ops *ops)
{
	struct abi_sock *s = ops_sock(ops, 0);
	struct abi_conn *c = sock_conn(s);
	struct abi_traffic *t;

	if (!s || !c)
		return;
	c->established = 1;
	c->established_ns = bpf_ktime_get_ns();
	t = traffic_of(c);
	if (t) {
		t->opened++;
		t->connect_ns += c->established_ns - c->opened_ns;
	}
	if (c->server_netns)
		c->path = ABI_PATH_TCP;
	if (!c->reason)
		c->reason = enter(ops, &c->end[ABI_CLIENT]);
	if (c->reason) {
		reason_count(c->reason);
		return;
	}
	s->flags |= ABI_SOCK_IN_MAP;
	bpf_sock_ops_cb_flags_set(ops, TCP_CB_FLAGS | BPF_SOCK_OPS_RTT_CB_FLAG);
}

/* A record for a connection whose client is not a socket of ours. */
static __always_inline struct abi_conn *record_inbound(struct bpf_sock_ops *ops,
						       const struct pod_now *pod,
						       struct abi_sock *s)
{
	struct abi_conn c = {};

	flow_open(ops, &c.end[ABI_SERVER]);
	c.conn = (__u32)c.end[ABI_SERVER].cookie;
	c.live = 1;
	c.established = 1;
	c.server_pod = pod->pod;
	c.server_netns = pod->netns;
	c.opened_ns = c.established_ns = bpf_ktime_get_ns();
	c.path = ABI_PATH_DIRECT;
	c.reason = outside_reason(address_get(&s->tuple.src));
	s->conn = c.conn;
	if (bpf_map_update_elem(&conns, &s->tuple, &c, BPF_ANY)) {
		reason_count(ABI_MAP_FULL);
		return NULL;
	}
	return bpf_map_lookup_elem(&conns, &s->tuple);
}

/* A child of one of our listeners stands: join the client's record, or make one. */
static __always_inline void on_passive(struct bpf_sock_ops *ops)
{
	const struct abi_address *to;
	struct abi_traffic *t;
	struct abi_sock *s;
	struct abi_conn *c;
	enum abi_reason why;
	struct pod_now pod;

	if (!ops_pod(ops, &pod))
		return;
	s = ops_sock(ops, 1);
	if (!s)
		return;
	ops_tuple(ops, ABI_SERVER, &s->tuple);
	if (addr_loopback(&s->tuple.dst) || addr_same(&s->tuple.src, &s->tuple.dst))
		return;
	to = address_get(&s->tuple.dst);
	if (!to || to->kind != ABI_KIND_LOCAL_POD || to->netns != pod.netns)
		return;
	s->end = ABI_SERVER;
	s->flags = ABI_SOCK_CONNECTED;
	c = bpf_map_lookup_elem(&conns, &s->tuple);
	if (!c || !c->client_netns || c->server_netns != pod.netns || c->end[ABI_SERVER].cookie) {
		c = record_inbound(ops, &pod, s);
		if (!c) {
			s->flags = 0;
			return;
		}
		t = traffic_of(c);
		if (t)
			t->opened++;
		reason_count(c->reason);
		bpf_sock_ops_cb_flags_set(ops, TCP_CB_FLAGS);
		return;
	}
	s->conn = c->conn;
	__sync_fetch_and_add(&c->live, 1);
	flow_open(ops, &c->end[ABI_SERVER]);
	bpf_sock_ops_cb_flags_set(ops, TCP_CB_FLAGS);
	if (!c->established && !c->reason)
		c->reason = ABI_SOCKET_OPTION; /* fast open: data in the SYN, the server stands before its client */
	if (!c->end[ABI_CLIENT].in_map)
		return; /* the client's reason stands */
	why = enter(ops, &c->end[ABI_SERVER]);
	reason_count(why ? why : ABI_SPLICED);
	if (why) {
		c->reason = why;
		c->leaving_ns = bpf_ktime_get_ns();
		c->leaving = 1;
		return;
	}
	s->flags |= ABI_SOCK_IN_MAP;
	c->reason = ABI_SPLICED;
	c->path = ABI_PATH_SPLICE;
	bpf_sock_ops_cb_flags_set(ops, TCP_CB_FLAGS | BPF_SOCK_OPS_RTT_CB_FLAG);
}

/* Nothing waits in the splice queue of this end. */
static __always_inline int flow_quiet(const struct abi_flow *f)
{
	const struct sock *sk = (const struct sock *)f->sock;

	return !f->in_map || (sock_is(sk, f->cookie) && sock_queue_empty(sk));
}

/*
 * How long after `leaving` was set is the last redirect delivered? It was allowed before that; its sender may have
 * been preempted between the verdict and the delivery. Where nothing was ever redirected, as in a connection that
 * carries bulk from its first message, there is hardly anything to wait for.
 */
static __always_inline __u64 leave_after(const struct abi_conn *c, const struct abi_settings *set)
{
	__u64 spliced = c->end[ABI_CLIENT].spliced_msgs + c->end[ABI_SERVER].spliced_msgs;

	return spliced ? set->leave_ns : set->leave_ns >> 3;
}

/*
 * An ACK came for data that TCP carried: the moment at which a connection that turned out to be bulk may leave the
 * map. The last redirect has been delivered, and both queues are empty: nothing can be lost with the entry.
 */
static __always_inline void on_rtt(struct bpf_sock_ops *ops)
{
	const struct abi_settings *set = settings_get();
	struct abi_sock *s = ops_sock(ops, 0);
	struct abi_conn *c = sock_conn(s);
	__u64 now, key;

	if (!c || !set || c->leaving != 1)
		return;
	now = bpf_ktime_get_ns();
	if (now - c->leaving_ns < leave_after(c, set) || !flow_quiet(&c->end[ABI_CLIENT]) ||
	    !flow_quiet(&c->end[ABI_SERVER]))
		return;
	c->leaving = 2;
	for (int i = 0; i < 2; i++) {
		if (!c->end[i].in_map)
			continue;
		c->end[i].in_map = 0;
		key = c->end[i].cookie;
		bpf_map_delete_elem(&splices, &key);
	}
	bpf_sock_ops_cb_flags_set(ops, TCP_CB_FLAGS);
}

/* What this connection teaches about its port. Only those that entered the map can tell. */
static __always_inline void class_learn(const struct abi_conn *c, const struct abi_tuple *t)
{
	struct abi_class_key key = {.netns = c->server_netns, .port = t->dst_port};
	struct abi_class zero = {}, *class;
	const struct abi_flow *a = &c->end[ABI_CLIENT], *b = &c->end[ABI_SERVER];
	__u64 turns = a->turns + b->turns;
	__u64 bytes = a->spliced_bytes + b->spliced_bytes + a->tcp_bytes + b->tcp_bytes;

	class = bpf_map_lookup_elem(&classes, &key);
	if (!class) {
		bpf_map_update_elem(&classes, &key, &zero, BPF_NOEXIST);
		class = bpf_map_lookup_elem(&classes, &key);
		if (!class)
			return;
	}
	decide_learn(class, bytes, turns, c->leaving);
}

static __always_inline void traffic_close(struct bpf_sock_ops *ops, struct abi_conn *c, int end)
{
	struct abi_traffic *t = traffic_of(c);
	__u64 sent, received;

	if (!t)
		return;
	if (!c->established) {
		t->failed++;
		return;
	}
	/* TCP's own counters say what it carried; the splice's are in the record */
	sent = bytes_acked((const struct sock *)c->end[end].sock);
	if (end == ABI_CLIENT && sent)
		sent--; /* its SYN */
	received = bytes_received((const struct sock *)c->end[end].sock);
	c->end[end].tcp_bytes = sent;
	t->closed++;
	t->retransmits += ops->total_retrans;
	t->srtt_us += ops->srtt_us >> 3;
	t->sent_bytes += c->end[ABI_CLIENT].spliced_bytes + (end == ABI_CLIENT ? sent : received);
	t->received_bytes += c->end[ABI_SERVER].spliced_bytes + (end == ABI_CLIENT ? received : sent);
	t->spliced_bytes += c->end[ABI_CLIENT].spliced_bytes + c->end[ABI_SERVER].spliced_bytes;
}

/* A socket of ours is gone. */
static __always_inline void on_close(struct bpf_sock_ops *ops)
{
	struct abi_sock *s = ops_sock(ops, 0);
	struct abi_conn *c = sock_conn(s);
	int end;

	if (!s || !c)
		return;
	s->flags &= ~ABI_SOCK_CONNECTED;
	end = s->end & 1;
	/* The entry in `splices` goes with the socket: to delete it here would lose what a reader has not read. */
	c->end[end].closed = 1;
	if (__sync_fetch_and_sub(&c->live, 1) != 1)
		return;
	traffic_close(ops, c, end);
	if (s->flags & ABI_SOCK_IN_MAP)
		class_learn(c, &s->tuple);
	bpf_map_delete_elem(&conns, &s->tuple);
}

SEC("sockops")
int weft_sockops(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ops);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_active(ops);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_passive(ops);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		on_rtt(ops);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[1] == BPF_TCP_CLOSE)
			on_close(ops);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
