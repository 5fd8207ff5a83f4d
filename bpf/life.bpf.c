// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * life.bpf.c: sockops, the life of a connection.
 *
 * A connection's record (`conns`) is made by the client's TCP_CONNECT_CB: the source port is known, the SYN is not
 * yet sent, so weft_inbound and the server's socket find it. A server's end joins at establishment. The record goes
 * when its client's socket is closed, and is added to the counters then; one whose client is elsewhere is made by the
 * server's socket and goes with that. Whether a connection is spliced is not decided here: see watch.bpf.c.
 *
 * Of weft's own sockets only those that deliver a connection to the pod's app have a record, and it says whose
 * connection that is. What the worker accepts from other nodes and what it dials has none. A connection of two pods of
 * this node that goes through the worker has one at its start and one at its end: the first counts.
 */
#include "bytes.bpf.h"
#include "pair.bpf.h"
#include "sock.bpf.h"

#define TCP_CB_FLAGS (BPF_SOCK_OPS_STATE_CB_FLAG)

/* ------------------------------------------------------------------ who is it */

/* One word of the context at a time: the verifier takes no wider loads, and the compiler would like to make some. */
#define WORD(x) (*(volatile __u32 *)&(x))

static __always_inline void ops_addrs(struct bpf_sock_ops *ops, struct abi_addr *local,
				      struct abi_addr *remote)
{
	if (ops->family == AF_INET) {
		addr_from_v4(local, ops->local_ip4);
		addr_from_v4(remote, ops->remote_ip4);
	} else {
		addr_from_v6(local, WORD(ops->local_ip6[0]), WORD(ops->local_ip6[1]), WORD(ops->local_ip6[2]),
			     WORD(ops->local_ip6[3]));
		addr_from_v6(remote, WORD(ops->remote_ip6[0]), WORD(ops->remote_ip6[1]), WORD(ops->remote_ip6[2]),
			     WORD(ops->remote_ip6[3]));
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

/* What goes through the worker from pod to pod of this node is counted where it starts. */
static __always_inline int counts(const struct abi_conn *c)
{
	return !(c->flags & ABI_CONN_DELIVERED && c->client_pod);
}

/* The end of the record that belongs to this socket starts its life. */
static __always_inline void local_open(struct bpf_sock_ops *ops, struct abi_local *me)
{
	me->sock = (__u64)ops->sk;
	me->cookie = bpf_get_socket_cookie(ops);
}

/* ------------------------------------------------------------------ the events */

/*
 * A socket that was spliced connects again (after connect(AF_UNSPEC)). What its first peer sent and nobody read
 * would be read as the second one's: it goes with the entry. A message of that peer may still be on its way, so the
 * socket never enters again: it would be delivered as one of the second peer's.
 */
static __always_inline void enter_undo(struct bpf_sock_ops *ops)
{
	struct abi_sock *s = ops_sock(ops, 0);
	__u64 key;

	if (!s || !(s->flags & ABI_SOCK_IN_MAP))
		return;
	s->flags &= ~ABI_SOCK_IN_MAP;
	s->flags |= ABI_SOCK_REUSED;
	key = bpf_get_socket_cookie(ops);
	bpf_map_delete_elem(&splices, &key);
}

/*
 * The record of a client. One that uses an address that it was not enrolled with has a record too, so that it is
 * judged as what it is; it replaces no record. If another pod's is there it becomes this client's for the policy: who
 * uses an address of others gains nothing by it.
 */
static __always_inline int record_client(const struct abi_tuple *t, const struct abi_conn *c, int mine)
{
	struct abi_conn *there;

	if (!bpf_map_update_elem(&conns, t, c, mine ? BPF_ANY : BPF_NOEXIST))
		return 0;
	there = mine || addr_loopback(&t->src) ? NULL : bpf_map_lookup_elem(&conns, t);
	if (there && there->client_netns != c->client_netns) {
		there->policy = 0;
		there->source = c->source;
		there->flags = 0;
	}
	return -1;
}

/* Is the address that the socket uses one of its pod's? */
static __always_inline int pod_owns(const struct pod_now *pod, const struct abi_addr *a)
{
	const struct abi_address *at;

	if (addr_same(a, &pod->ipv4) || addr_same(a, &pod->ipv6))
		return 1;
	at = address_glance(a);
	return at && at->netns == pod->netns && at->kind == ABI_KIND_LOCAL_POD;
}

/* A connection of the pod's app on its way to the worker: both ends are in the pod. */
static __always_inline void fill_captured(struct abi_conn *c, const struct abi_sock *s, const struct abi_address *to)
{
	c->flags = ABI_CONN_CAPTURED;
	c->reason = s->why;
	c->hop = ABI_WATCHED;
	c->target = s->target;
	c->target_port = s->target_port;
	c->server_netns = c->client_netns;
	if (to && to->kind == ABI_KIND_LOCAL_POD && s->why != ABI_ROUTES)
		c->server_pod = to->pod;
	c->again_ns = s->flags & ABI_SOCK_REUSED ? ~0ull : 0;
}

/* One from the worker to the pod's app. */
static __always_inline void fill_delivered(struct bpf_sock_ops *ops, struct abi_conn *c, const struct abi_sock *s)
{
	const struct abi_address *from = address_glance(&s->tuple.src);
	struct bpf_sock *sk = ops->sk;
	const struct abi_own *say = sk ? bpf_sk_storage_get(&own, sk, NULL, 0) : NULL;
	int local = from && from->kind == ABI_KIND_LOCAL_POD;

	c->flags = ABI_CONN_DELIVERED;
	c->reason = local ? ABI_PROXIED : ABI_TUNNELLED;
	c->hop = ABI_WATCHED;
	c->server_netns = c->client_netns;
	c->server_pod = c->client_pod;
	c->client_pod = local ? from->pod : 0;
	c->source = local ? from->identity : 0;
	if (!say)
		return;
	if (say->source)
		c->source = say->source;
	c->service = say->service;
	if (say->path)
		c->reason = say->path == ABI_PATH_PROXY ? ABI_PROXIED : ABI_TUNNELLED;
}

/* One that goes its way without the worker. */
static __always_inline void fill_direct(struct abi_conn *c, const struct abi_sock *s, const struct abi_address *to,
					int mine)
{
	if (to && to->kind == ABI_KIND_LOCAL_POD) {
		c->server_pod = to->pod;
		c->server_netns = to->netns;
		c->reason = mine ? ABI_WATCHED : ABI_UNKNOWN_ADDRESS;
		c->again_ns = mine && !(s->flags & ABI_SOCK_REUSED) ? 0 : ~0ull;
	} else {
		c->path = ABI_PATH_DIRECT;
		c->reason = s->why ? s->why : outside_reason(to);
	}
}

/* Does the connection get a record? Not what stays in the pod, unless the worker is at one of its ends. */
static __always_inline int has_record(const struct abi_sock *s, const struct pod_now *pod, const struct abi_address *to,
				      int mine)
{
	int local = to && to->kind == ABI_KIND_LOCAL_POD, same = local && to->netns == pod->netns;

	if (s->flags & ABI_SOCK_OWN)
		return same;
	if (s->target_port)
		return 1;
	if (!mine)
		reason_count(ABI_UNKNOWN_ADDRESS);
	return !same && (mine || local);
}

/* A client of ours is about to send its SYN. */
static __always_inline void on_connect(struct bpf_sock_ops *ops)
{
	const struct abi_address *to;
	struct abi_conn c = {};
	struct pod_now pod;
	struct abi_sock *s;
	int mine;

	enter_undo(ops);
	if (!ops_pod(ops, &pod))
		return;
	s = ops_sock(ops, 1);
	if (!s)
		return;
	ops_tuple(ops, ABI_CLIENT, &s->tuple);
	if (!s->target_port && (addr_loopback(&s->tuple.dst) || addr_same(&s->tuple.src, &s->tuple.dst)))
		return;
	mine = !(s->flags & ABI_SOCK_OWN) && pod_owns(&pod, &s->tuple.src);
	to = address_glance(s->target_port ? &s->target : &s->tuple.dst);
	if (!has_record(s, &pod, to, mine))
		return;
	local_open(ops, &c.end[ABI_CLIENT]);
	c.conn = (__u32)c.end[ABI_CLIENT].cookie;
	c.service = s->service;
	c.source = pod.identity;
	c.client_pod = pod.pod;
	c.client_netns = pod.netns;
	c.opened_ns = s->connect_ns ? s->connect_ns : bpf_ktime_get_ns();
	c.policy = mine ? s->policy : 0; /* it was asked for an address of the pod */
	c.asked = s->asked;
	c.asked_port = s->asked_port;
	c.splice = s->splice;
	if (s->target_port)
		fill_captured(&c, s, to);
	else if (s->flags & ABI_SOCK_OWN)
		fill_delivered(ops, &c, s);
	else
		fill_direct(&c, s, to, mine);
	s->conn = c.conn;
	s->end = ABI_CLIENT;
	if (record_client(&s->tuple, &c, mine)) {
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

	if (!c)
		return;
	c->established = 1;
	c->established_ns = bpf_ktime_get_ns();
	t = counts(c) ? traffic_of(c) : NULL;
	if (t) {
		t->opened++;
		t->connect_ns += c->established_ns - c->opened_ns;
	}
	if (c->flags)
		c->path = decide_path(c->reason);
	else if (c->server_netns)
		c->path = ABI_PATH_TCP;
	if (c->flags || !c->server_netns)
		reason_count(c->reason);
}

/* A record for a connection whose client is not a socket of ours. */
static __always_inline void record_inbound(struct bpf_sock_ops *ops, const struct pod_now *pod,
					   const struct abi_tuple *tuple)
{
	struct abi_sock *s = ops_sock(ops, 1);
	struct abi_conn c = {};
	struct abi_traffic *t;

	if (!s)
		return;
	local_open(ops, &c.end[ABI_SERVER]);
	c.conn = (__u32)c.end[ABI_SERVER].cookie;
	c.established = 1;
	c.server_pod = pod->pod;
	c.server_netns = pod->netns;
	c.opened_ns = c.established_ns = bpf_ktime_get_ns();
	c.path = ABI_PATH_DIRECT;
	c.reason = outside_reason(address_glance(&tuple->src));
	if (bpf_map_update_elem(&conns, tuple, &c, BPF_ANY)) {
		reason_count(ABI_MAP_FULL);
		return;
	}
	s->tuple = *tuple;
	s->conn = c.conn;
	s->end = ABI_SERVER;
	s->flags = ABI_SOCK_CONNECTED;
	t = traffic_of(&c);
	if (t)
		t->opened++;
	reason_count(c.reason);
	bpf_sock_ops_cb_flags_set(ops, TCP_CB_FLAGS);
}

/*
 * A child of one of our listeners stands: join the client's record, or make one. Whoever joins gets no storage of its
 * own: most connections end before they are candidates, and it would cost as much as all the rest.
 */
static __always_inline void on_passive(struct bpf_sock_ops *ops)
{
	__u64 netns = bpf_get_netns_cookie(ops);
	const struct abi_address *to;
	struct abi_tuple t = {};
	struct abi_watch *w;
	struct abi_conn *c;
	struct pod_now pod;

	ops_tuple(ops, ABI_SERVER, &t);
	c = bpf_map_lookup_elem(&conns, &t);
	if (c && c->client_netns && c->server_netns == netns && !c->end[ABI_SERVER].cookie) {
		local_open(ops, &c->end[ABI_SERVER]);
		w = watch_get();
		if (w)
			watch_wake(w);
		return;
	}
	if (ops->sk && bpf_sk_storage_get(&own, ops->sk, NULL, 0))
		return; /* the worker's: where it goes on to the app it has a record */
	if (!ops_pod(ops, &pod) || addr_loopback(&t.dst) || addr_same(&t.src, &t.dst))
		return;
	to = address_glance(&t.dst);
	if (to && to->kind == ABI_KIND_LOCAL_POD && to->netns == pod.netns)
		record_inbound(ops, &pod, &t);
}

static __always_inline void traffic_close(struct bpf_sock_ops *ops, struct abi_conn *c, int end)
{
	const struct abi_local *client = &c->end[ABI_CLIENT], *server = &c->end[ABI_SERVER];
	struct abi_traffic *t = counts(c) ? traffic_of(c) : NULL;
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
	t->closed++;
	t->retransmits += ops->total_retrans;
	t->srtt_us += ops->srtt_us >> 3;
	t->sent_bytes += client->spliced_bytes + (end == ABI_CLIENT ? sent : received);
	t->received_bytes += server->spliced_bytes + (end == ABI_CLIENT ? received : sent);
	t->spliced_bytes += client->spliced_bytes + server->spliced_bytes;
	t->spliced_msgs += client->spliced_msgs + server->spliced_msgs;
	t->switches += client->switches + server->switches;
}

/*
 * Its pair is free. Out of the map both sockets answer as any others do that are closed; what a reader has not read yet
 * stays, and its entry goes with it or with the next pass of weft_watch.
 */
static __always_inline void pair_close(struct abi_conn *c)
{
	struct abi_pair *p = c->stage == ABI_STAGE_OUT ? NULL : pair_get(c->slot, c->conn);

	if (!p)
		return;
	for (int i = 0; i < 2; i++) {
		__u64 key = p->end[i].cookie;

		if (p->end[i].in_map && flow_quiet(&p->end[i]))
			bpf_map_delete_elem(&splices, &key);
	}
	pair_give(p, c);
}

/* The socket that made the record is gone. */
static __always_inline void on_close(struct bpf_sock_ops *ops)
{
	struct abi_sock *s = ops_sock(ops, 0);
	struct abi_conn *c = sock_conn(s);

	if (!s || !c)
		return;
	s->flags &= ~ABI_SOCK_CONNECTED;
	pair_close(c);
	traffic_close(ops, c, s->end & 1);
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
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[1] == BPF_TCP_CLOSE)
			on_close(ops);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
