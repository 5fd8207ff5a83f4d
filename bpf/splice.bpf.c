// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * splice.bpf.c: sk_msg, run for each message that a spliced socket sends: hand it to the peer's queue, or leave it to
 * TCP? The rule is decide_look and decide_message in decide.h; here are the facts that they ask for, and the accounts.
 *
 * Who may be redirected into: a socket that watch.bpf.c put into `splices` under its own cookie. A cookie is never
 * given twice, so an entry that outlives its connection (connect(AF_UNSPEC)) can not be reached by another one.
 */
#include "pair.bpf.h"
#include "sock.bpf.h"

/* Account one message that was spliced or left to TCP. */
static __always_inline void flow_count(struct abi_flow *me, const struct abi_flow *peer,
				       const struct abi_settings *set, __u32 size, int spliced)
{
	if (peer->said != me->heard) {
		me->heard = peer->said;
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

/*
 * Is what decide_look asks for true? A reader that was inside recv() when its socket entered the map waits for TCP
 * alone, so it must have read something since (facts/kernel.md section 8).
 */
static __always_inline int flow_free(struct abi_flow *me, const struct abi_flow *peer,
				     enum decide_look look)
{
	const struct sock *to = (const struct sock *)peer->sock;

	if (look == DECIDE_LOOK_NOT)
		return 0;
	if (!sock_is(to, peer->cookie))
		return 0;
	if (look == DECIDE_LOOK_ORDER) {
		__u32 read = sock_read_at(to);

		if (!sock_drained((const struct sock *)me->sock, read) ||
		    (!me->spliced_msgs && read == peer->read_at))
			return 0;
	}
	return sock_queue_empty(to);
}

extern int LINUX_KERNEL_VERSION __kconfig;
/* 6.2: a load that may fault, without a call */
extern void *bpf_rdonly_cast(const void *obj, __u32 type) __ksym __weak;

/* Registers of the system call that we are in. */
static __always_inline void *call_regs(const struct abi_pair *p)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (LINUX_KERNEL_VERSION < KERNEL_VERSION(6, 2, 0))
		return (void *)bpf_task_pt_regs(task);
	/* of either architecture: what stands behind ___ does not count */
	return bpf_rdonly_cast((const void *)((__u64)task->stack + p->regs),
			       bpf_core_type_id_kernel(struct pt_regs___x86));
}

/* flags of the send(2) that brought us here; 0 also where they cannot be known (io_uring, sendfile) */
static __always_inline __u32 send_flags(const struct abi_pair *p)
{
	void *regs = call_regs(p);
	const struct pt_regs___x86 *x86 = regs;
	const struct pt_regs___of_arm64 *arm64 = regs;

	if (bpf_core_field_exists(x86->orig_ax)) {
		switch (x86->orig_ax) {
		case 44:  /* sendto, as send() is */
		case 307: /* sendmmsg */
			return x86->r10;
		case 46: /* sendmsg */
			return x86->dx;
		}
		return 0;
	}
	if (bpf_core_field_exists(arm64->syscallno)) {
		switch (arm64->syscallno) {
		case 206:
		case 269:
			return arm64->regs[3];
		case 211:
			return arm64->regs[2];
		}
	}
	return 0;
}

/* Does its recv() wait inside the kernel, or is the socket mapped into memory? Asked for every message. */
static __always_inline int reader_differs(const struct abi_flow *reader)
{
	const struct rb_root *root;
	const struct file *file;

	if (LINUX_KERNEL_VERSION < KERNEL_VERSION(6, 2, 0))
		return file_blocks((const struct file *)reader->file) || mappings_there(reader->mapped);
	file = bpf_rdonly_cast((const void *)reader->file, bpf_core_type_id_kernel(struct file));
	root = bpf_rdonly_cast((const void *)reader->mapped, bpf_core_type_id_kernel(struct rb_root));
	return !(file->f_flags & O_NONBLOCK) || root->rb_node;
}

/* The grant is there; is there anything about this message, or about the reader at this moment, that TCP must carry? */
static __always_inline int message_may(struct abi_pair *p, struct abi_flow *me, const struct abi_flow *peer)
{
	if (me->refresh) {
		me->refresh = 0;
		return 0;
	}
	if (send_flags(p) & MSG_OOB) { /* row 8 */
		pair_leave(p, ABI_URGENT);
		return 0;
	}
	return !peer->file || !reader_differs(peer);
}

/*
 * Something new is known of readers: of these two? A reader by splice(2) takes from TCP alone, so while redirected
 * bytes wait for it, nothing may go by TCP: it would overtake them. The supervisor ends such a connection
 * (watch.bpf.c).
 */
static __always_inline void pair_judge(struct abi_pair *p, __u32 caught)
{
	p->caught = caught;
	if (!p->leaving && !p->always &&
	    (reader_how(p->netns[ABI_CLIENT]) | reader_how(p->netns[ABI_SERVER])) & ABI_READS_BY_SPLICE)
		pair_leave(p, ABI_READER_SPLICES);
}

static __always_inline int pair_overtakes(const struct abi_pair *p, const struct abi_flow *peer, __u32 peer_end)
{
	return p->leaving == ABI_READER_SPLICES && reader_how(p->netns[peer_end & 1]) & ABI_READS_BY_SPLICE &&
	       !flow_quiet(peer);
}

/* The pair of a spliced socket, by its place in `seats`; 6.1 cannot read a cookie here but by a call. */
static __always_inline struct abi_pair *pair_seated(const struct bpf_sock *sk, __u32 *ret_end)
{
	const struct sock_common *common;
	const struct abi_seat *seat;
	struct abi_pair *p;
	__u64 cookie;
	__u32 at;

	if (LINUX_KERNEL_VERSION < KERNEL_VERSION(6, 2, 0))
		return NULL;
	common = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct sock_common));
	cookie = common->skc_cookie.counter;
	at = cookie & (ABI_MAX_SEATS - 1);
	seat = bpf_map_lookup_elem(&seats, &at);
	if (!seat)
		return NULL;
	*ret_end = seat->seat & 1;
	p = pair_get(seat->seat >> 1, seat->conn);
	return p && p->conn && p->end[*ret_end & 1].cookie == cookie ? p : NULL;
}

/* And by what its storage says. */
static __always_inline struct abi_pair *pair_stored(struct bpf_sock *sk, __u32 *ret_end)
{
	const struct abi_sock *s = bpf_sk_storage_get(&socks, sk, NULL, 0);

	if (!s)
		return NULL;
	*ret_end = s->end & 1;
	return pair_get(s->slot, s->conn);
}

SEC("sk_msg")
int weft_msg(struct sk_msg_md *msg)
{
	const struct abi_settings *set = settings_get();
	const struct abi_caught *readers_now = caught_get();
	struct abi_flow *me, *peer;
	enum decide_look look;
	struct abi_pair *p;
	int redirect = 0;
	__u32 end = 0;
	__u64 key;

	if (!msg->sk || !set || !readers_now || !sock_speaks(msg->sk->state))
		return SK_PASS;
	p = pair_seated(msg->sk, &end);
	if (!p)
		p = pair_stored(msg->sk, &end);
	if (!p)
		return SK_PASS;
	end &= 1;
	me = &p->end[end];
	peer = &p->end[end ^ 1];
	if (p->caught != readers_now->caught)
		pair_judge(p, readers_now->caught);
	if (p->leaving && pair_overtakes(p, peer, end ^ 1)) {
		redirect = decide_room(me, set, msg->size);
		if (!redirect)
			return SK_DROP;
	} else if (!set->splice_off && !p->leaving && peer->in_map && !readers_now->failed &&
		   (msg->sk->state == TCP_ESTABLISHED || !sock_deaf((const struct sock *)peer->sock))) {
		look = decide_look(me, set, msg->size);
		redirect = decide_message(me, set, peer->said, msg->size, look, flow_free(me, peer, look)) &&
			   message_may(p, me, peer);
	}
	if (redirect) {
		key = peer->cookie;
		/* a miss (the peer just closed) is SK_DROP here, but must not be EACCES to the app */
		if (bpf_msg_redirect_hash(msg, &splices, &key, BPF_F_INGRESS) != SK_PASS)
			redirect = 0;
	}
	flow_count(me, peer, set, msg->size, redirect);
	if (!redirect && me->turn_tcp >= set->bulk_bytes && !p->leaving)
		pair_leave(p, ABI_BULK);
	return SK_PASS;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
