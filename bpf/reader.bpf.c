// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * reader.bpf.c: who reads a TCP socket by splice(2)? Such a reader takes from TCP's queue alone and never sees
 * redirected bytes (facts/kernel.md sections 2, 2.2; row 9), so its network namespace is written down in `readers` and
 * nothing of it is spliced any more. Likewise who asks FIONREAD, which some kernels answer wrong (row 3b). An object of
 * its own, for all instances on the machine. Ways to see it, of which the first that the kernel allows is used:
 *
 *	fentry		on tcp_splice_read, tcp_ioctl, tcp_bpf_ioctl: no cost to anybody else.
 *	TCP's tracepoint tcp_rcv_space_adjust: tcp_read_sock() ends in it, whatever it found, and of system calls only
 *			splice(2) comes by tcp_read_sock(); recv() comes by it too, so it takes some 30 ns longer. With
 *			io_uring_submit_req. It does not see FIONREAD, so it serves where the kernel answers that right.
 *	tracepoints	sys_enter_splice, sys_enter_ioctl, io_uring_submit_req: every system call on the machine takes
 *			some 40 ns longer.
 *	watchpoints	of the hardware (man perf_event_open, PERF_TYPE_BREAKPOINT) on the pointers `splice_read` and
 *			`ioctl` of inet_stream_ops and inet6_stream_ops, which nobody loads but to call them. No cost to
 *			others on bare metal; in a virtual machine a switch of context may take a microsecond longer.
 */
#include "sock.bpf.h"

#include <bpf/bpf_tracing.h>

#define SIOCINQ 0x541b /* linux/sockios.h: FIONREAD */

/* sockets of the supervisor's own, to find their proto_ops */
MAP(samples, BPF_MAP_TYPE_SK_STORAGE, int, __u32, 0, BPF_F_NO_PREALLOC);

const volatile __u64 stream_ops[2]; /* of AF_INET, AF_INET6: set before the object is loaded */

/* It is spliced, and TCP has brought bytes that were not read: FIONREAD answers without them. */
static __always_inline void misled_by(const struct sock *sk, struct abi_caught *c)
{
	__u32 one = 1;
	__u64 cookie;

	if (!sock_queue(sk) || !sock_unread(sk))
		return;
	bpf_core_read(&cookie, sizeof(cookie), &sk->__sk_common.skc_cookie.counter);
	if (bpf_map_update_elem(&misled, &cookie, &one, BPF_ANY))
		c->failed = 1;
	__sync_fetch_and_add(&c->caught, 1);
}

static __always_inline __u64 netns_cookie(struct net *net)
{
	__u64 cookie = 0;

	bpf_core_read(&cookie, sizeof(cookie), &net->net_cookie);
	return cookie;
}

/* `bit`: place of `how` in abi_reader.program */
static __always_inline int seen_in(__u64 netns, struct abi_caught *c, __u32 how, __u32 bit)
{
	struct abi_reader now = {}, *r;

	r = bpf_map_lookup_elem(&readers, &netns);
	if (r) {
		r->count++;
		if (r->how & how)
			return 0;
		bpf_get_current_comm(r->program[bit & 1], sizeof(r->program[0]));
		__sync_fetch_and_or(&r->how, how);
	} else if (!bpf_map_lookup_elem(&members, &netns)) {
		return 0;
	} else {
		now.first_ns = bpf_ktime_get_ns();
		now.count = 1;
		now.how = how;
		bpf_get_current_comm(now.program[bit & 1], sizeof(now.program[0]));
		if (bpf_map_update_elem(&readers, &netns, &now, BPF_ANY))
			c->failed = 1;
	}
	__sync_fetch_and_add(&c->caught, 1); /* after the row: whoever sees the number finds it */
	return 0;
}

static __always_inline int seen(const struct sock *sk, __u32 how, __u32 bit)
{
	struct abi_caught *c = caught_get();
	struct net *net = NULL;

	if (!c)
		return 0;
	bpf_core_read(&net, sizeof(net), &sk->__sk_common.skc_net.net);
	if (how == ABI_READS_BY_COUNT)
		misled_by(sk, c);
	return seen_in(netns_cookie(net), c, how, bit);
}

/* ------------------------------------------------------------------ fentry */

SEC("fentry/tcp_splice_read")
int BPF_PROG(weft_spliced, struct socket *socket)
{
	return seen(socket->sk, ABI_READS_BY_SPLICE, 0);
}

SEC("fentry/tcp_ioctl")
int BPF_PROG(weft_counted, struct sock *sk, int cmd)
{
	return cmd == SIOCINQ ? seen(sk, ABI_READS_BY_COUNT, 1) : 0;
}

SEC("fentry/tcp_bpf_ioctl")
int BPF_PROG(weft_counted_in, struct sock *sk, int cmd)
{
	return cmd == SIOCINQ ? seen(sk, ABI_READS_BY_COUNT, 1) : 0;
}

/* ------------------------------------------------------------------ TCP's tracepoint */

/* Is it splice(2) that we are in? One of a ring is seen as it is submitted. */
static __always_inline int in_splice(void)
{
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	const struct pt_regs___x86 *x86 = regs;
	const struct pt_regs___of_arm64 *arm64 = regs;

	if (bpf_core_field_exists(x86->orig_ax)) {
		switch (x86->orig_ax & ~0x40000000ul) { /* the bit of x32 */
		case 275:
		case 313: /* of a 32-bit program; of another it is finit_module, which reads no socket */
			return 1;
		}
		return 0;
	}
	if (bpf_core_field_exists(arm64->syscallno))
		return arm64->syscallno == 76 || arm64->syscallno == 340;
	return 1; /* who knows? */
}

SEC("raw_tp/tcp_rcv_space_adjust")
int weft_read_sock(struct bpf_raw_tracepoint_args *ctx)
{
	return in_splice() ? seen((const struct sock *)ctx->args[0], ABI_READS_BY_SPLICE, 0) : 0;
}

/* ------------------------------------------------------------------ tracepoints */

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define IORING_OP_SPLICE 30
#define IORING_OP_URING_CMD 46 /* SOCKET_URING_OP_SIOCINQ is one of them */

struct enter { /* events/syscalls/sys_enter_NAME/format */
	__u64 common;
	__s64 number;
	__u64 argument[6];
};

struct submit { /* events/io_uring/io_uring_submit_req/format */
	__u64 common;
	void *ring, *request;
	__u64 user_data;
	__u8 opcode;
};

/* The TCP socket behind a file descriptor of the task that is running. */
static __always_inline const struct sock *socket_by_fd(__u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct files_struct *files = NULL;
	struct fdtable *table = NULL;
	struct file **all = NULL, *file = NULL;
	struct socket *socket = NULL;
	struct inode *inode = NULL;
	struct sock *sk = NULL;
	unsigned int max = 0;
	__u16 mode = 0, protocol = 0;

	bpf_core_read(&files, sizeof(files), &task->files);
	bpf_core_read(&table, sizeof(table), &files->fdt);
	bpf_core_read(&max, sizeof(max), &table->max_fds);
	bpf_core_read(&all, sizeof(all), &table->fd);
	if (fd >= max || bpf_probe_read_kernel(&file, sizeof(file), all + fd) || !file)
		return NULL;
	bpf_core_read(&inode, sizeof(inode), &file->f_inode);
	bpf_core_read(&mode, sizeof(mode), &inode->i_mode);
	if ((mode & S_IFMT) != S_IFSOCK)
		return NULL;
	bpf_core_read(&socket, sizeof(socket), &file->private_data);
	bpf_core_read(&sk, sizeof(sk), &socket->sk);
	bpf_core_read(&protocol, sizeof(protocol), &sk->sk_protocol);
	return protocol == IPPROTO_TCP ? sk : NULL;
}

SEC("tracepoint/syscalls/sys_enter_splice")
int weft_sys_splice(struct enter *ctx)
{
	const struct sock *sk = socket_by_fd(ctx->argument[0]);

	return sk ? seen(sk, ABI_READS_BY_SPLICE, 0) : 0;
}

SEC("tracepoint/syscalls/sys_enter_ioctl")
int weft_sys_ioctl(struct enter *ctx)
{
	const struct sock *sk;

	if ((__u32)ctx->argument[1] != SIOCINQ)
		return 0;
	sk = socket_by_fd(ctx->argument[0]);
	return sk ? seen(sk, ABI_READS_BY_COUNT, 1) : 0;
}

/* Which file a ring works on is its own secret: whoever splices by one, or gives commands, is taken for a reader. */
SEC("tracepoint/io_uring/io_uring_submit_req")
int weft_submit(struct submit *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u8 splices = ctx->opcode == IORING_OP_SPLICE;
	struct abi_caught *c = caught_get();
	struct nsproxy *nsproxy = NULL;
	struct net *net = NULL;

	if ((!splices && ctx->opcode != IORING_OP_URING_CMD) || !c)
		return 0;
	bpf_core_read(&nsproxy, sizeof(nsproxy), &task->nsproxy);
	bpf_core_read(&net, sizeof(net), &nsproxy->net_ns);
	return seen_in(netns_cookie(net), c, splices ? ABI_READS_BY_SPLICE : ABI_READS_BY_COUNT, !splices);
}

/* ------------------------------------------------------------------ watchpoints */

/* Is it a struct socket with one of our proto_ops? */
static __always_inline const struct sock *socket_at(__u64 at)
{
	const struct socket *socket = (const struct socket *)at;
	const void *ops = NULL;
	struct sock *sk = NULL;

	if (!(at >> 63) || bpf_core_read(&ops, sizeof(ops), &socket->ops))
		return NULL;
	if (!ops || ((__u64)ops != stream_ops[0] && (__u64)ops != stream_ops[1]))
		return NULL;
	bpf_core_read(&sk, sizeof(sk), &socket->sk);
	return sk;
}

/*
 * What a program of a watchpoint is called with begins with the general registers of the machine: of x86-64 the first
 * 15 words of struct pt_regs (asm/ptrace.h), but for rsp; of arm64 regs[0] to regs[28] of struct user_pt_regs.
 */
#ifdef __TARGET_ARCH_arm64
#define REGISTERS 29
#else
#define REGISTERS 15
#endif

struct loaded {
	__u64 reg[REGISTERS];
};

/* The TCP socket whose ops were loaded. NULL: we do not know whose, so nobody is redirected into any more. */
static __always_inline const struct sock *socket_of(struct loaded *ctx)
{
	const struct sock *sk = NULL;
	struct abi_caught *c;

#pragma unroll
	for (int i = 0; i < REGISTERS; i++)
		if (!sk)
			sk = socket_at(ctx->reg[i]);
	if (sk)
		return sk;
	c = caught_get();
	if (c)
		c->failed = 1;
	return NULL;
}

SEC("perf_event")
int weft_loaded(struct loaded *ctx)
{
	const struct sock *sk = socket_of(ctx);

	return sk ? seen(sk, ABI_READS_BY_SPLICE, 0) : 0;
}

/* The command of the ioctl(2) that we are in; SIOCINQ also where it cannot be known. */
static __always_inline __u32 ioctl_command(void)
{
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	const struct pt_regs___x86 *x86 = regs;
	const struct pt_regs___of_arm64 *arm64 = regs;

	if (bpf_core_field_exists(x86->orig_ax))
		return x86->orig_ax == 16 ? x86->si : SIOCINQ;
	if (bpf_core_field_exists(arm64->syscallno))
		return arm64->syscallno == 29 ? arm64->regs[1] : SIOCINQ;
	return SIOCINQ;
}

SEC("perf_event")
int weft_asked(struct loaded *ctx)
{
	const struct sock *sk;

	if (ioctl_command() != SIOCINQ)
		return 0;
	sk = socket_of(ctx);
	return sk ? seen(sk, ABI_READS_BY_COUNT, 1) : 0;
}

SEC("iter/bpf_sk_storage_map")
int weft_ops(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	const struct proto_ops *ops = NULL;
	struct abi_ops at = {};
	struct socket *socket = NULL;
	struct sock *sk = ctx->sk;

	if (!sk)
		return 0;
	bpf_core_read(&socket, sizeof(socket), &sk->sk_socket);
	bpf_core_read(&ops, sizeof(ops), &socket->ops);
	at.ops = (__u64)ops;
	at.ioctl = (__u64)&ops->ioctl;
	at.splice_read = (__u64)&ops->splice_read;
	bpf_seq_write(ctx->meta->seq, &at, sizeof(at));
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
