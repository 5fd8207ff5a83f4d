/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kernel.bpf.h: the few kernel types that the programs look into, written by hand; CO-RE finds the real
 * offsets when the programs are loaded (preserve_access_index), so only names and kinds must be right.
 * Contexts of programs come from <linux/bpf.h>. Seen in 6.1, 6.12 and 6.18.
 */
#ifndef WEFT_KERNEL_BPF_H
#define WEFT_KERNEL_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <linux/version.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6
#define ECONNREFUSED 111
#define O_NONBLOCK 04000 /* asm-generic/fcntl.h: x86-64 and arm64 */
#define MSG_OOB 1
#define TCP_ESTABLISHED 1 /* include/net/tcp_states.h */
#define RCV_SHUTDOWN 1	  /* include/net/sock.h */
#define TCP_CLOSE_WAIT 8

#define SK_USER_DATA_PTRMASK (~7ul) /* include/net/sock.h: NOCOPY, BPF, PSOCK */
#define SK_USER_DATA_PSOCK 4ul

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__s64 counter;
} atomic64_t;

struct list_head {
	struct list_head *next, *prev;
};

struct net {
	__u64 net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	int skc_bound_dev_if;
	unsigned long skc_flags;
	possible_net_t skc_net;
	atomic64_t skc_cookie;
};

struct sock;

struct rb_node;

struct rb_root {
	struct rb_node *rb_node;
};

struct rb_root_cached {
	struct rb_root rb_root;
};

struct address_space {
	struct rb_root_cached i_mmap;
};

struct inode {
	unsigned short i_mode;
};

struct file {
	unsigned int f_flags;
	struct address_space *f_mapping;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct nsproxy {
	struct net *net_ns;
};

struct proto_ops {
	void *ioctl;
	void *splice_read;
};

struct socket {
	struct file *file;
	struct sock *sk;
	const struct proto_ops *ops;
};

struct sk_filter;

struct sock {
	struct sock_common __sk_common;
	int sk_rcvlowat;
	__u16 sk_protocol;
	int sk_peek_off;
	__u32 sk_tsflags;
	__u8 sk_kern_sock : 1;
	__u8 sk_shutdown;
	struct sk_filter *sk_filter;
	struct socket *sk_socket;
	void *sk_user_data;
};

struct inet_sock {
	struct sock sk;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	const void *icsk_ulp_ops;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 snd_una;
	__u32 write_seq;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 srtt_us;
	__u32 total_retrans;
	__u32 data_segs_out;
	__u32 mss_cache;
	__u16 urg_data;
	__u8 recvmsg_inq : 1;
	__u8 nonagle : 4;
	__u8 fastopen_connect : 1;
	__u64 bytes_sent;
	__u64 bytes_acked;
	__u64 bytes_received;
	void *md5sig_info;
	void *ao_info;
	_Bool is_mptcp;
};

struct sk_msg_sg {
	__u32 size;
};

struct sk_msg {
	struct sk_msg_sg sg;
	struct list_head list;
};

struct sk_psock {
	struct sock *sk;
	struct list_head ingress_msg;
};

enum sock_flags {
	SOCK_DONE = 1,
	SOCK_URGINLINE = 2,
	SOCK_RCVTSTAMP = 8,
	SOCK_ZEROCOPY = 21,
};

struct task_struct {
	void *stack;
	struct files_struct *files;
	struct nsproxy *nsproxy;
};

struct pt_regs___x86 { /* arch/x86/include/asm/ptrace.h */
	unsigned long r10, dx, si, orig_ax;
};

struct pt_regs___of_arm64 { /* arch/arm64/include/asm/ptrace.h */
	__u64 regs[31];
	__s32 syscallno;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_map;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#pragma clang attribute pop

#endif
