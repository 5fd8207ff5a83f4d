/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * selftest_map.h: what bpf/selftest.bpf.c and the self-test's process (proc/selftest_rig.c) tell each other. Both are
 * of one build and live for a moment: no version. Ends of connections are known by their port: both are in one netns,
 * which is the self-test's own.
 */
#ifndef WEFT_SELFTEST_MAP_H
#define WEFT_SELFTEST_MAP_H

#include <linux/types.h>

struct selftest_mark { /* map selftest_marks: what the iterator is to do with this socket */
	__u32 port;
	__u32 enter; /* 1: into the sockhash; the iterator makes it 0 */
	__u64 peer;  /* kernel address of the other end, 0 not known yet */
	__u32 number; /* of the socket: one that was closed may still be seen when its port is another's */
	__u32 reserved;
};

struct selftest_end { /* map selftest_ends, by port: what happens to the messages of this end */
	__u32 redirect;	  /* 1: to the peer's queue, 0: by TCP */
	__u32 redirected; /* messages so far */
	__u32 passed;
};

struct selftest_seen { /* the iterator's record of one socket */
	__u32 number;
	__s32 entered;	/* of mark.enter: 0 or -errno */
	__u64 sock;	/* kernel address */
	__u32 eligible; /* sock_eligible: enum abi_reason */
	__u8 empty;	/* sock_queue_empty */
	__u8 drained;	/* sock_drained: this one has read all that the peer gave to TCP */
	__u8 unread;	/* sock_unread */
	__u8 arrived;	/* TCP has nothing under way from the peer to this one */
	__u8 live;	/* sock_live */
	__u8 accepted;	/* sock_file */
	__u8 blocks;	/* file_blocks */
	__u8 reserved;
};

#endif
