// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * life.bpf.c: sockops, the life of a connection.
 *
 * A connection's record (`conns`) is made by the client's TCP_CONNECT_CB: the source port is known, the SYN is not
 * yet sent, so weft_inbound and the server's socket find it. A server's end joins at establishment. The record goes
 * when its client's socket is closed, and is added to the counters then; one whose client is elsewhere is made by the
 * server's socket and goes with that. A captured one's stays until the worker's socket is closed as well: the app may
 * have said all and be gone before the worker asks where it wanted to go. Whether a connection is spliced is not
 * decided here: see watch.bpf.c, which looks at those of which an end has sent WATCH_SEGS segments. Most of those that
 * are made for one request end earlier.
 *
 * Of weft's own sockets only those that deliver a connection to the pod's app have a record, and it says whose
 * connection that is. What the worker accepts from other nodes and what it dials has none. A connection of two pods of
 * this node that goes through the worker has one at its start and one at its end: the first counts.
 */
#include "ask.bpf.h"
#include "bytes.bpf.h"
#include "pair.bpf.h"
#include "record.bpf.h"
#include "sock.bpf.h"

#define WATCH_SEGS 2 /* with data */

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

/* Of what TCP shall call us for; other programs may have asked for more. */
static __always_inline void flags_add(struct bpf_sock_ops *ops, int flags)
{
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | flags);
}

struct found { /* the record that a socket has made */
	struct abi_conn *c;
	struct abi_tuple t;
	__u32 end; /* enum abi_end */
};

/* The compiler knows that it is 0 or 1, the verifier has forgotten. */
static __always_inline __u32 end_bounded(__u32 end)
{
	asm volatile("%0 &= 1" : "+r"(end));
	return end;
}

static __always_inline void ops_conn(struct bpf_sock_ops *ops, const struct abi_sock *s, struct found *f)
{
	__u64 cookie = bpf_get_socket_cookie(ops);

	f->end = ABI_CLIENT;
	if (s && s->flags & ABI_SOCK_CONNECTED) {
		f->t = s->tuple;
		f->end = s->end & 1;
	} else {
		ops_tuple(ops, ABI_CLIENT, &f->t);
	}
	f->c = bpf_map_lookup_elem(&conns, &f->t);
	if (f->c && (f->c->conn != (__u32)cookie || f->c->end[end_bounded(f->end)].cookie != cookie))
		f->c = NULL;
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
static __always_inline void enter_undo(struct abi_sock *s, __u64 cookie)
{
	if (!(s->flags & ABI_SOCK_IN_MAP))
		return;
	s->flags &= ~ABI_SOCK_IN_MAP;
	s->flags |= ABI_SOCK_REUSED;
	bpf_map_delete_elem(&splices, &cookie);
}

/*
 * The record of a client. One that uses an address that it was not enrolled with has a record too, so that it is
 * judged as what it is; it replaces no record. If another pod's is there it becomes this client's for the policy: who
 * uses an address of others gains nothing by it.
 */
static __always_inline int record_client(const struct abi_tuple *t, struct abi_conn *c, int mine)
{
	struct abi_conn *there;

	if (!record_put(t, c, mine))
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

/* What operator and annotations say from the start. ABI_NONE: `always`, so it is watched from the start. */
static __always_inline enum abi_reason reason_at_first(const struct pod_now *pod, const struct abi_sock *s,
						       const struct abi_address *to)
{
	const struct abi_settings *set = settings_get();
	struct decide_enter in = {
		.splice_off = set && set->splice_off,
		.client_splice = pod->splice,
		.server_splice = to->splice,
		.service_splice = s->splice,
	};
	enum abi_reason why = decide_enter(&in);

	return why == ABI_KERNEL_UNSAFE ? ABI_WATCHED : why; /* that and the rest are asked when it is watched */
}

/* One that goes its way without the worker. */
static __always_inline void fill_direct(struct abi_conn *c, const struct abi_sock *s, const struct pod_now *pod,
					const struct abi_address *to, int mine)
{
	if (to && to->kind == ABI_KIND_LOCAL_POD) {
		c->server_pod = to->pod;
		c->server_netns = to->netns;
		c->reason = mine ? reason_at_first(pod, s, to) : ABI_UNKNOWN_ADDRESS;
		if (!c->reason) {
			c->reason = ABI_WATCHED;
			c->watcher = 1 + ABI_CLIENT;
		}
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

/* The record of a client's socket, of which connect() has left `s`. 1: needs an abi_sock of its own */
static __always_inline int connect_record(struct bpf_sock_ops *ops, struct abi_sock *s, const struct pod_now *pod,
					  int stored)
{
	const struct abi_address *to;
	struct abi_conn c = {};
	int mine;

	ops_tuple(ops, ABI_CLIENT, &s->tuple);
	if (!s->target_port && (addr_loopback(&s->tuple.dst) || addr_same(&s->tuple.src, &s->tuple.dst)))
		return s->asked_port != 0;
	mine = !(s->flags & ABI_SOCK_OWN) && pod_owns(pod, &s->tuple.src);
	to = address_glance(s->target_port ? &s->target : &s->tuple.dst);
	if (!has_record(s, pod, to, mine))
		return s->asked_port != 0;
	local_open(ops, &c.end[ABI_CLIENT]);
	c.conn = (__u32)c.end[ABI_CLIENT].cookie;
	c.service = s->service;
	c.source = pod->identity;
	c.client_pod = pod->pod;
	c.client_netns = pod->netns;
	c.opened_ns = stored && s->connect_ns ? s->connect_ns : bpf_ktime_get_ns();
	c.policy = mine ? s->policy : 0; /* it was asked for an address of the pod */
	c.asked = s->asked;
	c.asked_port = s->asked_port;
	c.splice = s->splice;
	if (s->target_port)
		fill_captured(&c, s, to);
	else if (s->flags & ABI_SOCK_OWN)
		fill_delivered(ops, &c, s);
	else
		fill_direct(&c, s, pod, to, mine);
	if (stored)
		c.watcher = 1 + ABI_CLIENT;
	s->conn = c.conn;
	s->end = ABI_CLIENT;
	if (record_client(&s->tuple, &c, mine)) {
		reason_count(ABI_MAP_FULL);
		return s->asked_port != 0;
	}
	s->flags |= ABI_SOCK_CONNECTED;
	flags_add(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
	return c.watcher != 0;
}

/* A client of ours is about to send its SYN. */
static __always_inline void on_connect(struct bpf_sock_ops *ops)
{
	__u64 cookie = bpf_get_socket_cookie(ops);
	struct abi_sock *s = ops_sock(ops, 0), *own_one;
	struct abi_ask *a = NULL;
	struct pod_now pod;

	if (s)
		enter_undo(s, cookie);
	if (!ops_pod(ops, &pod))
		return;
	if (!s) {
		a = ask_take(cookie);
		s = a ? &a->sock : ops_sock(ops, 1);
	}
	if (!s)
		return;
	if (connect_record(ops, s, &pod, !a) && a) {
		own_one = ops_sock(ops, 1);
		if (own_one)
			*own_one = *s;
	}
	if (a)
		ask_give(a, cookie);
}

/* The record of a connection between two pods of the node that nobody watches yet. */
static __always_inline int conn_unwatched(const struct abi_conn *c)
{
	return !c->watcher && c->client_netns && c->server_netns && c->again_ns != ~0ull;
}

/* The client's side stands; the server may not know it yet. */
static __always_inline void on_active(struct bpf_sock_ops *ops)
{
	struct abi_traffic *t;
	struct abi_conn *c;
	struct found f;

	ops_conn(ops, ops_sock(ops, 0), &f);
	c = f.c;
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
	if (c->flags || !c->server_netns || (c->reason != ABI_WATCHED && c->reason != ABI_UNKNOWN_ADDRESS))
		reason_count(c->reason);
	if (conn_unwatched(c))
		flags_add(ops, BPF_SOCK_OPS_RTT_CB_FLAG);
}

/*
 * TCP has taken the time of a segment with data: it is called for each until the socket says that it has seen enough.
 * From the second one on the connection may become a conversation.
 */
static __always_inline int watch_begin(struct bpf_sock_ops *ops, __u32 end)
{
	__u64 cookie = bpf_get_socket_cookie(ops);
	struct abi_tuple t = {};
	struct abi_conn *c;
	struct abi_sock *s;
	struct abi_watch *w;

	ops_tuple(ops, end, &t);
	c = bpf_map_lookup_elem(&conns, &t);
	if (!c || c->end[end].cookie != cookie)
		return 0;
	s = conn_unwatched(c) ? ops_sock(ops, 1) : NULL;
	if (!s)
		return 1;
	s->tuple = t;
	s->conn = c->conn;
	s->end = end;
	s->flags |= ABI_SOCK_CONNECTED;
	c->watcher = 1 + end;
	w = watch_get();
	if (w)
		watch_wake(w);
	return 1;
}

static __always_inline void on_rtt(struct bpf_sock_ops *ops)
{
	int flags = ops->bpf_sock_ops_cb_flags; /* some may be another program's */

	if (ops->data_segs_out < WATCH_SEGS)
		return;
	if (!(flags & BPF_SOCK_OPS_STATE_CB_FLAG) || !watch_begin(ops, ABI_CLIENT))
		(void)watch_begin(ops, ABI_SERVER);
	bpf_sock_ops_cb_flags_set(ops, flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
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
	if (record_put(tuple, &c, 1)) {
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
	flags_add(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
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
		if (c->flags & ABI_CONN_CAPTURED)
			flags_add(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
		w = c->watcher ? watch_get() : NULL;
		if (w)
			watch_wake(w);
		else if (conn_unwatched(c))
			flags_add(ops, BPF_SOCK_OPS_RTT_CB_FLAG);
		return;
	}
	/* the worker's: where it goes on to the app it has a record */
	if (t.dst_port == ABI_PORT_HBONE || t.dst_port == ABI_PORT_OUTBOUND ||
	    (ops->sk && bpf_sk_storage_get(&own, ops->sk, NULL, 0)))
		return;
	if (!ops_pod(ops, &pod) || addr_loopback(&t.dst) || addr_same(&t.src, &t.dst))
		return;
	to = address_glance(&t.dst);
	if (to && to->kind == ABI_KIND_LOCAL_POD && to->netns == pod.netns)
		record_inbound(ops, &pod, &t);
}

/* Of the socket that is closed: without a call of the kernel for each word. */
static __always_inline void bytes_look(struct bpf_sock_ops *ops, struct bytes_seen *b)
{
	struct bpf_sock *sk = ops->sk;
	const struct tcp_sock *tp = sk ? (const struct tcp_sock *)bpf_skc_to_tcp_sock(sk) : NULL;

	*b = (struct bytes_seen){};
	if (!tp)
		return;
	b->acked = tp->bytes_acked;
	b->received = tp->bytes_received;
	b->flags = ((const struct sock *)tp)->__sk_common.skc_flags;
	b->written = tp->write_seq;
	b->una = tp->snd_una;
	b->state = ((const struct sock *)tp)->__sk_common.skc_state;
}

static __always_inline void traffic_close(struct bpf_sock_ops *ops, struct abi_conn *c, int end)
{
	const struct abi_local *client = &c->end[ABI_CLIENT], *server = &c->end[ABI_SERVER];
	struct abi_traffic *t = counts(c) ? traffic_of(c) : NULL;
	struct bytes_seen b;
	__u64 sent, received;

	if (!t)
		return;
	if (!c->established) {
		t->failed++;
		return;
	}
	/* TCP's own counters say what it carried; the splice's are in the record */
	bytes_look(ops, &b);
	sent = bytes_acked(&b);
	if (end == ABI_CLIENT && sent)
		sent--; /* its SYN */
	received = bytes_received(&b);
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

/*
 * One of the two sockets of a captured connection is gone. Is the other one? Each says so before it looks, so that of
 * two that go at once one at least finds that it was the last.
 */
static __always_inline int captured_last(struct abi_conn *c, enum abi_end gone)
{
	(void)__sync_lock_test_and_set(&c->end[gone].sock, 0);
	return !*(volatile __u64 *)&c->end[1 - gone].sock;
}

/* The worker's socket of a captured connection is gone. */
static __always_inline void on_worker_close(struct bpf_sock_ops *ops)
{
	struct abi_tuple t = {};
	struct abi_conn *c;

	ops_tuple(ops, ABI_SERVER, &t);
	c = bpf_map_lookup_elem(&conns, &t);
	if (c && c->flags & ABI_CONN_CAPTURED && c->end[ABI_SERVER].cookie == bpf_get_socket_cookie(ops) &&
	    captured_last(c, ABI_SERVER))
		record_end(&t, c);
}

/* The socket that made the record is gone. */
static __always_inline void on_close(struct bpf_sock_ops *ops)
{
	struct abi_sock *s = ops_sock(ops, 0);
	struct found f;

	ops_conn(ops, s, &f);
	if (!f.c) {
		on_worker_close(ops);
		return;
	}
	if (s)
		s->flags &= ~ABI_SOCK_CONNECTED;
	pair_close(f.c);
	traffic_close(ops, f.c, end_bounded(f.end));
	if (!(f.c->flags & ABI_CONN_CAPTURED) || captured_last(f.c, ABI_CLIENT))
		record_end(&f.t, f.c);
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
