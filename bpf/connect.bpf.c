// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * connect.bpf.c: cgroup/connect4, connect6, getpeername4/6.
 *
 * Asked at connect(), before a source port is chosen (kernel: pre_connect), of every process below the cgroup:
 *	1. is it TCP, and is the netns one of our pods?		else not our business
 *	2. is the socket weft's own?				pass: the worker has asked
 *	3. loopback, 0.0.0.0, ::, or the pod itself?		pass: not our business
 *	4. is the destination a service?			pick an endpoint, or refuse; routes: to 7
 *	5. is it a port of weft's, or nobody of the mesh for a pod that may reach no other?	refuse
 *	6. is the destination a pod of this node?		ask its policy now: ECONNREFUSED costs no packet;
 *								not for HBONE, where mutual TLS says who it is
 *	7. does it need the worker (decide_capture)?		send it to ABI_PORT_OUTBOUND of the pod itself; is the
 *								worker gone, refuse, or pass if the pod fails open
 *								and no policy has to be asked there
 * The netns cookie comes from the socket, so a pod cannot claim to be another, and only the supervisor makes a socket
 * weft's own. The answer is not final for (6): weft_inbound asks again when the SYN arrives, with the source address
 * that was really used.
 *
 * A captured connection goes to the pod's own address, so that getsockname() says what it would say without weft; a pod
 * that was enrolled without an address of the family is sent to its loopback. The source port is not known yet: the
 * sockops program writes the record by which the worker finds what was asked.
 */
#include "ask.bpf.h"
#include "policy.bpf.h"

#define ALLOW 1
#define REFUSE 0

struct ask { /* one connect(), families folded into one */
	struct pod_now pod;
	int known; /* see pod_of() */
	struct abi_addr dst;
	__u16 port;
	struct abi_addr bound; /* source address, if the socket is bound; else all zero */
	struct abi_addr asked; /* the VIP, if the destination was one */
	__u16 asked_port;
	__u32 service;
	__u32 policy; /* set that allowed it */
	__u8 splice;  /* enum abi_splice of the service */
	__u16 flags;  /* ABI_SERVICE_* of the service */
	__u8 why;     /* enum abi_reason: of the capture, or why there is none */
	__u16 target_port; /* not 0: captured, and dst is the worker's */
	struct abi_addr target;
};

/*
 * The address that the pod will connect from: bound, or the pod's only one of the family; else unknown (zero). A
 * socket that is bound to ::ffff:0.0.0.0 is as free as one that is not bound.
 */
static __always_inline void ask_source(const struct ask *q, struct abi_addr *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	if (addr_word(&q->bound, 3) || !(addr_v4(&q->bound) || addr_zero(&q->bound)))
		*ret = q->bound;
	else if (addr_v4(&q->dst) && !q->pod.many_ipv4)
		*ret = q->pod.ipv4;
	else if (!addr_v4(&q->dst) && !q->pod.many_ipv6)
		*ret = q->pod.ipv6;
}

static __always_inline int endpoint_is(const struct abi_endpoint *e, const struct abi_affinity *a)
{
	return e->port == a->port && addr_same(&e->addr, &a->addr);
}

struct search { /* an endpoint by address, after the table changed under an affinity */
	struct abi_endpoint_key key;
	struct abi_affinity *want;
	__u32 found; /* 1: key.index */
};

static long search_step(__u32 index, void *ctx)
{
	struct search *s = ctx;
	const struct abi_endpoint *e;

	s->key.index = index;
	e = bpf_map_lookup_elem(&endpoints, &s->key);
	if (!e || !s->want)
		return 1;
	if (endpoint_is(e, s->want)) {
		s->found = 1;
		return 1;
	}
	return 0;
}

/* The endpoint that this client used last, if it is still one; NULL otherwise. */
static __always_inline const struct abi_endpoint *affinity_get(const struct abi_service *svc,
							       const struct abi_affinity_key *key)
{
	struct abi_endpoint_key at = {.service = svc->service, .generation = svc->generation};
	struct abi_affinity *a = bpf_map_lookup_elem(&affinity, key);
	const struct abi_endpoint *e;
	__u64 now = bpf_ktime_get_ns();

	if (!a || decide_lapsed(*(const volatile __u64 *)&a->used_ns, now, svc->affinity_seconds))
		return NULL;
	a->used_ns = now;
	at.index = a->index;
	e = bpf_map_lookup_elem(&endpoints, &at);
	if (!e || !endpoint_is(e, a)) { /* whatever another CPU, with another generation, has written there meanwhile */
		struct search s = {.key = at, .want = a};

		bpf_loop(svc->count, search_step, &s, 0);
		if (!s.found)
			return NULL;
		a->index = at.index = s.key.index;
		e = bpf_map_lookup_elem(&endpoints, &at);
	}
	return e;
}

static __always_inline void affinity_put(const struct abi_affinity_key *key, const struct abi_endpoint *e, __u32 index)
{
	struct abi_affinity a = {.addr = e->addr, .used_ns = bpf_ktime_get_ns(), .index = index, .port = e->port};

	bpf_map_update_elem(&affinity, key, &a, BPF_ANY);
}

/* Weighted choice: two random numbers, one or two lookups, whatever the number of endpoints. */
static __always_inline const struct abi_endpoint *endpoint_pick(const struct abi_service *svc,
								__u32 *ret_index)
{
	struct abi_endpoint_key at = {.service = svc->service, .generation = svc->generation};
	const struct abi_endpoint *e;
	__u32 index;

	at.index = decide_index(bpf_get_prandom_u32(), svc->count);
	e = bpf_map_lookup_elem(&endpoints, &at);
	if (!e)
		return NULL;
	index = decide_alias(e, at.index, bpf_get_prandom_u32());
	if (index != at.index) {
		at.index = index;
		e = bpf_map_lookup_elem(&endpoints, &at);
	}
	*ret_index = index;
	return e;
}

static __always_inline int key_is(const volatile struct abi_service_key *a, const struct abi_service_key *b)
{
	for (int i = 0; i < 16; i++)
		if (a->vip.byte[i] != b->vip.byte[i])
			return 0;
	return a->port == b->port;
}

/*
 * Replaces q->dst by an endpoint of the service. The worker may switch generations meanwhile: an endpoint that is
 * missing, or a row that the kernel recycled under us (its key does not fit), means: read the service again.
 */
static __always_inline enum abi_reason service_pick(struct ask *q)
{
	struct abi_service_key key = {.vip = q->dst, .port = q->port};
	struct abi_affinity_key client = {};

	for (int i = 0; i < SETTLE_TRIES; i++) {
		const struct abi_service *found = row_get(&services, &key);
		const struct abi_endpoint *e = NULL;
		struct abi_service svc;
		struct abi_addr addr;
		__u32 index = 0;
		__u16 port;

		if (!found)
			return ABI_NO_SERVICE_PORT;
		__builtin_memcpy(&svc, found, sizeof(svc) - sizeof(svc.name));
		barrier();
		if (!key_is((const volatile struct abi_service_key *)&found->key, &key))
			continue;
		q->service = svc.service;
		q->splice = svc.splice;
		q->flags = svc.flags;
		if (!svc.count && !(svc.flags & ABI_SERVICE_ROUTES))
			return ABI_NO_ENDPOINT;
		if (!svc.count) {
			q->asked = q->dst;
			q->asked_port = q->port;
			return ABI_NONE;
		}
		if (svc.flags & ABI_SERVICE_AFFINITY) {
			client.client = addr_v4(&q->dst) ? q->pod.ipv4 : q->pod.ipv6;
			client.service = svc.service;
			e = affinity_get(&svc, &client);
		}
		if (!e) {
			e = endpoint_pick(&svc, &index);
			if (e && svc.flags & ABI_SERVICE_AFFINITY)
				affinity_put(&client, e, index);
		}
		if (!e)
			continue;
		addr = e->addr;
		port = e->port;
		if (e->service != svc.service || e->generation != svc.generation)
			continue;
		q->asked = q->dst;
		q->asked_port = q->port;
		q->dst = addr;
		q->port = port;
		return ABI_NONE;
	}
	return ABI_ENDPOINT_GONE;
}

/* To the worker with it. A socket that is bound to loopback would not leave the pod in any case. */
static __always_inline enum abi_reason capture(struct ask *q, enum abi_reason why)
{
	int v4 = addr_v4(&q->dst);

	if (addr_loopback(&q->bound))
		return ABI_NONE;
	if (worker_gone(q->pod.flags & ABI_POD_FAIL_OPEN)) {
		q->why = ABI_FAIL_OPEN;
		/* with routes and without an endpoint it has nowhere to go */
		if (!(q->pod.flags & ABI_POD_FAIL_OPEN) || (q->asked_port && addr_same(&q->asked, &q->dst)))
			return ABI_WORKER_GONE;
		return ABI_NONE;
	}
	if (!q->asked_port) {
		q->asked = q->dst;
		q->asked_port = q->port;
	}
	q->why = why;
	q->target = q->dst;
	q->target_port = q->port;
	q->dst = v4 ? q->pod.ipv4 : q->pod.ipv6;
	q->port = ABI_PORT_OUTBOUND;
	if (!addr_zero(&q->dst))
		return ABI_NONE;
	if (v4) /* its own one of 127.0.0.0/8, because records of all pods are in one map */
		addr_from_v4(&q->dst, bpf_htonl(0x7f000000 | (q->pod.pod & 0xffffff)));
	else
		q->dst.byte[15] = 1;
	return ABI_NONE;
}

/* Question 6: may it reach this pod of the node? */
static __always_inline enum abi_reason ask_policy(struct ask *q, const struct abi_address *to)
{
	struct abi_addr source;

	ask_source(q, &source);
	if (addr_zero(&source))
		return ABI_NONE; /* weft_inbound knows it when the SYN is there */
	return policy_ask(&q->dst, to->policy, q->pod.identity, &source, q->port, &q->policy);
}

/* Questions 3 to 7 for a pod of ours; q->dst and q->port may be replaced. */
static __always_inline enum abi_reason ask(struct ask *q)
{
	struct decide_dest d = {.pod = q->pod.flags};
	struct abi_address to;
	enum abi_reason why, need;
	__u32 pod = 0;

	if (q->known < 0) {
		reason_count(ABI_POLICY_UNSETTLED);
		return ABI_POLICY_UNSETTLED;
	}
	if (addr_loopback(&q->dst) || addr_unspecified(&q->dst) || addr_same(&q->dst, &q->pod.ipv4) ||
	    addr_same(&q->dst, &q->pod.ipv6))
		return ABI_NONE;
	if (address_get(&q->dst, &to)) {
		reason_count(ABI_POLICY_UNSETTLED);
		return ABI_POLICY_UNSETTLED;
	}
	if (to.kind == ABI_KIND_VIP) {
		why = service_pick(q);
		if (why) {
			refusal_count(q->pod.identity, q->service, 0, why);
			return why;
		}
		if (address_get(&q->dst, &to)) {
			reason_count(ABI_POLICY_UNSETTLED);
			return ABI_POLICY_UNSETTLED;
		}
	}
	d.port = q->port;
	d.service = q->asked_port != 0;
	d.service_proxy = !!(q->flags & ABI_SERVICE_PROXY);
	d.service_routes = !!(q->flags & ABI_SERVICE_ROUTES);
	d.kind = to.kind;
	d.address = to.flags;
	if (to.kind == ABI_KIND_LOCAL_POD && !d.service_routes) {
		if (to.netns == q->pod.netns)
			return ABI_NONE;
		pod = q->port == ABI_PORT_HBONE ? 0 : to.pod; /* who comes there nobody can say yet */
	}
	need = decide_capture(&d);
	why = need >= ABI_DENIED ? need : ABI_NONE;
	if (!why && pod)
		why = ask_policy(q, &to);
	if (why == ABI_PROXIED) { /* it asks each request: nothing else may let it pass */
		need = ABI_PROXIED;
		why = ABI_NONE;
		q->pod.flags &= ~ABI_POD_FAIL_OPEN;
	}
	if (!why && need)
		why = capture(q, need);
	if (why)
		refusal_count(q->pod.identity, q->service, pod, why);
	return why;
}

/* TCP_FASTOPEN_CONNECT: its SYN goes with what is written first, whenever that is. */
static __always_inline int sock_defers(struct bpf_sock *sk)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)bpf_skc_to_tcp_sock(sk);

	return !tp || BPF_CORE_READ_BITFIELD_PROBED(tp, fastopen_connect);
}

/* Leave what the sockops program needs: in `asks`, or with a socket that connects again. */
static __always_inline void ask_remember(struct bpf_sock_addr *ctx, const struct ask *q)
{
	__u64 cookie, now = bpf_ktime_get_ns();
	struct bpf_sock *sk = ctx->sk;
	struct abi_ask *a = NULL;
	struct abi_sock *s;
	__u8 kept;

	if (!sk)
		return;
	cookie = bpf_get_socket_cookie(ctx);
	s = bpf_sk_storage_get(&socks, sk, NULL, 0);
	if (!s && !sock_defers(sk))
		a = ask_claim(cookie, now);
	if (a)
		s = &a->sock;
	else if (!s)
		s = bpf_sk_storage_get(&socks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s)
		return;
	kept = a ? 0 : s->flags & (ABI_SOCK_IN_MAP | ABI_SOCK_REUSED); /* on_connect takes it out */
	__builtin_memset(s, 0, sizeof(*s)); /* of an earlier connect() */
	s->flags = kept;
	s->asked = q->asked;
	s->asked_port = q->asked_port;
	s->target = q->target;
	s->target_port = q->target_port;
	s->why = q->why;
	s->service = q->service;
	s->splice = q->splice;
	s->policy = q->policy;
	if (a)
		ask_put(a, now);
	else
		s->connect_ns = now;
}

/* Question 2. The sockops program makes a record if it goes to the pod's own app. */
static __always_inline int own_socket(struct bpf_sock *sk)
{
	struct abi_sock *s;

	if (!sk || !bpf_sk_storage_get(&own, sk, NULL, 0))
		return 0;
	s = bpf_sk_storage_get(&socks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (s) {
		s->flags = (s->flags & (ABI_SOCK_IN_MAP | ABI_SOCK_REUSED)) | ABI_SOCK_OWN;
		s->connect_ns = bpf_ktime_get_ns();
	}
	return 1;
}

/* 1: of a pod of ours, and TCP; 0: not our business; -1: it cannot be said */
static __always_inline int pod_of(struct bpf_sock_addr *ctx, struct pod_now *ret)
{
	if (ctx->protocol != IPPROTO_TCP || ctx->type != SOCK_STREAM)
		return 0;
	return pod_get(bpf_get_netns_cookie(ctx), ret);
}

SEC("cgroup/connect4")
int weft_connect4(struct bpf_sock_addr *ctx)
{
	struct ask q = {};

	q.known = pod_of(ctx, &q.pod);
	if (!q.known || own_socket(ctx->sk))
		return ALLOW;
	addr_from_v4(&q.dst, ctx->user_ip4);
	q.port = bpf_ntohs(ctx->user_port);
	if (ctx->sk && ctx->sk->src_ip4)
		addr_from_v4(&q.bound, ctx->sk->src_ip4);
	if (ask(&q)) {
		bpf_set_retval(-ECONNREFUSED);
		return REFUSE;
	}
	if (q.asked_port) {
		ctx->user_ip4 = addr_word(&q.dst, 3);
		ctx->user_port = bpf_htons(q.port);
	}
	ask_remember(ctx, &q);
	return ALLOW;
}

SEC("cgroup/connect6")
int weft_connect6(struct bpf_sock_addr *ctx)
{
	struct ask q = {};

	q.known = pod_of(ctx, &q.pod);
	if (!q.known || own_socket(ctx->sk))
		return ALLOW;
	addr_from_v6(&q.dst, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
		     ctx->user_ip6[3]);
	q.port = bpf_ntohs(ctx->user_port);
	if (ctx->sk)
		addr_from_v6(&q.bound, ctx->sk->src_ip6[0], ctx->sk->src_ip6[1],
			     ctx->sk->src_ip6[2], ctx->sk->src_ip6[3]);
	if (ask(&q)) {
		bpf_set_retval(-ECONNREFUSED);
		return REFUSE;
	}
	if (q.asked_port) { /* a mapped address stays mapped: ::ffff:VIP -> ::ffff:endpoint */
		ctx->user_ip6[0] = addr_word(&q.dst, 0);
		ctx->user_ip6[1] = addr_word(&q.dst, 1);
		ctx->user_ip6[2] = addr_word(&q.dst, 2);
		ctx->user_ip6[3] = addr_word(&q.dst, 3);
		ctx->user_port = bpf_htons(q.port);
	}
	ask_remember(ctx, &q);
	return ALLOW;
}

struct asked { /* what the app asked for, if this socket was sent elsewhere */
	const struct abi_addr *addr;
	__u16 port; /* 0: nothing */
};

/* By its record, or by its own storage: of one that has no record, because it went to its own pod. */
static __always_inline struct asked asked(struct bpf_sock_addr *ctx, struct abi_tuple *t)
{
	const struct abi_sock *s = bpf_sk_storage_get(&socks, ctx->sk, NULL, 0);
	__u64 cookie = bpf_get_socket_cookie(ctx);
	const struct abi_conn *c;

	if (s && s->asked_port)
		return (struct asked){.addr = &s->asked, .port = s->asked_port};
	t->src_port = ctx->sk->src_port;
	t->dst_port = bpf_ntohs(ctx->sk->dst_port);
	c = bpf_map_lookup_elem(&conns, t);
	if (!c || c->end[ABI_CLIENT].cookie != cookie)
		return (struct asked){};
	return (struct asked){.addr = &c->asked, .port = c->asked_port};
}

SEC("cgroup/getpeername4")
int weft_getpeer4(struct bpf_sock_addr *ctx)
{
	struct abi_tuple t = {};
	struct asked a;

	if (ctx->protocol != IPPROTO_TCP || !ctx->sk)
		return ALLOW;
	addr_from_v4(&t.src, ctx->sk->src_ip4);
	addr_from_v4(&t.dst, ctx->sk->dst_ip4);
	a = asked(ctx, &t);
	if (a.port) {
		ctx->user_ip4 = addr_word(a.addr, 3);
		ctx->user_port = bpf_htons(a.port);
	}
	return ALLOW;
}

SEC("cgroup/getpeername6")
int weft_getpeer6(struct bpf_sock_addr *ctx)
{
	struct abi_tuple t = {};
	struct asked a;

	if (ctx->protocol != IPPROTO_TCP || !ctx->sk)
		return ALLOW;
	addr_from_v6(&t.src, ctx->sk->src_ip6[0], ctx->sk->src_ip6[1], ctx->sk->src_ip6[2], ctx->sk->src_ip6[3]);
	addr_from_v6(&t.dst, ctx->sk->dst_ip6[0], ctx->sk->dst_ip6[1], ctx->sk->dst_ip6[2], ctx->sk->dst_ip6[3]);
	a = asked(ctx, &t);
	if (a.port) {
		ctx->user_ip6[0] = addr_word(a.addr, 0);
		ctx->user_ip6[1] = addr_word(a.addr, 1);
		ctx->user_ip6[2] = addr_word(a.addr, 2);
		ctx->user_ip6[3] = addr_word(a.addr, 3);
		ctx->user_port = bpf_htons(a.port);
	}
	return ALLOW;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
