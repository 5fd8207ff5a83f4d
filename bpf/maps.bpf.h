/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.bpf.h: every map with a line of purpose; who writes and who reads stands in abi.h. Weak, so that each
 * object may define them all and the linker keeps one.
 */
#ifndef WEFT_MAPS_BPF_H
#define WEFT_MAPS_BPF_H

#include "abi.h"
#include "kernel.bpf.h"

/*
 * What connect4/6 leaves for sockops, which takes it when the SYN goes (ask.bpf.h). A socket's place is one of
 * ABI_ASK_TRIES from its cookie on; if all are taken, or the SYN may come much later (TCP_FASTOPEN_CONNECT), it gets an
 * abi_sock at once. One that never sent its SYN leaves its place to others after ABI_ASK_NS.
 */
#define ABI_MAX_ASKS 1024 /* power of two */
#define ABI_ASK_TRIES 4
#define ABI_ASK_NS 10000000000ull

struct abi_ask {
	__u64 cookie; /* whose, 0: free */
	struct abi_sock sock;
};

/*
 * Where the pair of a spliced socket is, without the socket's storage, which costs a call for each message. The place
 * is the low bits of its cookie, so it may be another socket's: it counts if the pair says that it has this connection,
 * and this socket at this end. Whoever has lost its place asks its storage. Never cleared.
 */
#define ABI_MAX_SEATS ABI_MAX_SPLICES /* power of two */

struct abi_seat {
	__u32 conn; /* abi_pair.conn */
	__u32 seat; /* slot in `pairs` * 2 + enum abi_end */
};

#define MAP(name, map_type, key_type, value_type, entries, flags)                                  \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, entries);                                                      \
		__uint(map_flags, flags);                                                          \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps") __weak

/* switches and limits of the instance */
MAP(settings, BPF_MAP_TYPE_ARRAY, __u32, struct abi_settings, 1, 0);
/* the pods of this node, by netns cookie */
MAP(pods, BPF_MAP_TYPE_HASH, __u64, struct abi_pod, ABI_MAX_PODS, BPF_F_NO_PREALLOC);
/* whose address is this */
MAP(addresses, BPF_MAP_TYPE_HASH, struct abi_addr, struct abi_address, ABI_MAX_ADDRESSES,
    BPF_F_NO_PREALLOC);
/* VIP and port -> service */
MAP(services, BPF_MAP_TYPE_HASH, struct abi_service_key, struct abi_service, ABI_MAX_SERVICES,
    BPF_F_NO_PREALLOC);
/* the endpoints of a service, as an alias table */
MAP(endpoints, BPF_MAP_TYPE_HASH, struct abi_endpoint_key, struct abi_endpoint, ABI_MAX_ENDPOINTS,
    BPF_F_NO_PREALLOC);
/* which endpoint a client is bound to (sessionAffinity) */
MAP(affinity, BPF_MAP_TYPE_LRU_HASH, struct abi_affinity_key, struct abi_affinity, ABI_MAX_AFFINITY,
    0);
/* heads of the policy sets */
MAP(policies, BPF_MAP_TYPE_HASH, __u32, struct abi_policy, ABI_MAX_POLICIES, BPF_F_NO_PREALLOC);
/* terms by source identity */
MAP(sources, BPF_MAP_TYPE_HASH, struct abi_source_key, struct abi_bits, ABI_MAX_SOURCES,
    BPF_F_NO_PREALLOC);
/* terms by source address */
MAP(blocks, BPF_MAP_TYPE_LPM_TRIE, struct abi_block_key, struct abi_bits, ABI_MAX_BLOCKS,
    BPF_F_NO_PREALLOC);
/* terms and mTLS mode by destination port */
MAP(ports, BPF_MAP_TYPE_HASH, struct abi_port_key, struct abi_port, ABI_MAX_PORTS,
    BPF_F_NO_PREALLOC);
/* one record per connection */
MAP(conns, BPF_MAP_TYPE_HASH, struct abi_tuple, struct abi_conn, ABI_MAX_CONNS, BPF_F_NO_PREALLOC);
/* how many of these each pod holds, and all together: those that it opens, then those that come to it */
MAP(holds, BPF_MAP_TYPE_ARRAY, __u32, __u64, ABI_MAX_HOLDS, BPF_F_MMAPABLE);
/* between connect() and its SYN */
MAP(asks, BPF_MAP_TYPE_ARRAY, __u32, struct abi_ask, ABI_MAX_ASKS, 0);
/* connections that are spliced now */
MAP(pairs, BPF_MAP_TYPE_ARRAY, __u32, struct abi_pair, ABI_MAX_PAIRS, 0);
/* and where, by socket */
MAP(seats, BPF_MAP_TYPE_ARRAY, __u32, struct abi_seat, ABI_MAX_SEATS, 0);
/* pods of all instances on the machine */
MAP(members, BPF_MAP_TYPE_LRU_HASH, __u64, __u32, ABI_MAX_READERS, 0);
/* those that read by splice(2) or ask FIONREAD */
MAP(readers, BPF_MAP_TYPE_LRU_HASH, __u64, struct abi_reader, ABI_MAX_READERS, 0);
/* spliced sockets of which FIONREAD was answered wrong */
MAP(misled, BPF_MAP_TYPE_LRU_HASH, __u64, __u32, ABI_MAX_MISLED, 0);
/* how many of them */
MAP(caught, BPF_MAP_TYPE_ARRAY, __u32, struct abi_caught, 1, BPF_F_MMAPABLE);
/* between the programs that watch and the supervisor */
MAP(watches, BPF_MAP_TYPE_ARRAY, __u32, struct abi_watch, 1, BPF_F_MMAPABLE);
/* wakes the supervisor: there is something to watch */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ABI_WAKE_BYTES);
} wake SEC(".maps") __weak;
/* counters of connections and bytes */
MAP(traffic, BPF_MAP_TYPE_PERCPU_HASH, struct abi_traffic_key, struct abi_traffic, ABI_MAX_TRAFFIC,
    BPF_F_NO_PREALLOC);
/* counters of refused connections */
MAP(refusals, BPF_MAP_TYPE_PERCPU_HASH, struct abi_refusal_key, __u64, ABI_MAX_REFUSALS,
    BPF_F_NO_PREALLOC);
/* how often each reason was given */
MAP(reasons, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, ABI_REASON_MAX, 0);
/* sockets that may be redirected into, by cookie */
MAP(splices, BPF_MAP_TYPE_SOCKHASH, __u64, __u64, ABI_MAX_SPLICES, 0);
/* weft's own sockets in the pods; children inherit it */
MAP(own, BPF_MAP_TYPE_SK_STORAGE, int, struct abi_own, 0, BPF_F_NO_PREALLOC | BPF_F_CLONE);
/* when the worker was last there */
MAP(beat, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1, BPF_F_MMAPABLE);
/* who takes plaintext for a pod: one listening socket of 15006 (its group shares the connections) */
MAP(listeners, BPF_MAP_TYPE_SOCKHASH, __u64, __u64, ABI_MAX_PODS, 0);
/* what is known of one socket; dies with it */
MAP(socks, BPF_MAP_TYPE_SK_STORAGE, int, struct abi_sock, 0, BPF_F_NO_PREALLOC);

#endif
