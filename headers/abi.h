/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h: the contract between weft's BPF programs and user space.
 *
 * Compiled by clang for BPF (after vmlinux.h), by gcc for the daemon, the tools and the native tests. Whoever changes
 * the size or the meaning of anything here raises ABI_VERSION: the supervisor refuses to adopt pins of another version
 * and replaces them (connections that live then fall back to TCP).
 *
 * Conventions
 *   address   struct abi_addr; IPv4 is ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), whatever family the socket has
 *   port      host byte order.
 *   time      CLOCK_MONOTONIC nanoseconds (bpf_ktime_get_ns).
 *   pod       a network namespace, known by its cookie (SO_NETNS_COOKIE); never by cgroup or by ifindex.
 *   identity  a number that the worker gives to a trust domain + namespace + service account; 0: nobody proved anything
 *
 * Who writes what. The programs follow kernel addresses that stand in `conns` and `pairs`: the worker only reads these.
 *   map        type       key                 value               written by    read by
 *   settings   array      0                   abi_settings        supervisor    all programs
 *   pods       hash       netns cookie        abi_pod             worker        connect, sockops
 *   addresses  hash       abi_addr            abi_address         worker        connect, sockops, inbound
 *   services   hash       abi_service_key     abi_service         worker        connect
 *   endpoints  hash       abi_endpoint_key    abi_endpoint        worker        connect
 *   affinity   lru hash   abi_affinity_key    abi_affinity        connect       connect
 *   policies   hash       set number          abi_policy          worker        connect, inbound
 *   sources    hash       abi_source_key      abi_bits            worker        connect, inbound
 *   blocks     lpm trie   abi_block_key       abi_bits            worker        connect, inbound
 *   ports      hash       abi_port_key        abi_port            worker        connect, inbound
 *   asks       array      any                 abi_ask (maps.bpf.h)   connect       sockops
 *   socks      sk_storage socket              abi_sock            connect, sockops, enter   watch, sk_msg, getpeername
 *   conns      hash       abi_tuple           abi_conn            sockops, watch, supervisor   worker (connections)
 *   holds      array      decide_place()      number              sockops, supervisor   sockops
 *   pairs      array      slot                abi_pair            watch, sk_msg, supervisor   worker (connections)
 *   seats      array      any                 abi_seat (maps.bpf.h)   enter        sk_msg
 *   splices    sockhash   socket cookie       socket              watch         sk_msg
 *   own        sk_storage socket              abi_own             supervisor, worker   connect, sockops
 *   beat       array      0                   nanoseconds         worker, connect, inbound   connect, inbound
 *   listeners  sockhash   netns cookie        socket              supervisor    inbound
 *   members    lru hash   netns cookie        number              supervisor    reader
 *   misled     lru hash   socket cookie       number              reader        watch
 *   readers    lru hash   netns cookie        abi_reader          reader        watch, supervisor
 *   caught     array      0                   abi_caught          reader        watch, sk_msg, supervisor
 *   watches    array      0                   abi_watch           sockops, watch   supervisor
 *   wake       ringbuf    -                   number              sockops       supervisor
 *   traffic    percpu     abi_traffic_key     abi_traffic         sockops       worker (metrics)
 *   refusals   percpu     abi_refusal_key     number              connect, inbound   worker (metrics)
 *   reasons    percpu     enum abi_reason     number              all programs  worker (status)
 *
 * When a map is full: an insertion by a program fails, is counted as `map_full`, and the connection goes on by TCP
 * without a record; an insertion by the worker is an error in `weftctl status`. `conns` is shared out (decide_hold).
 */
#ifndef WEFT_ABI_H
#define WEFT_ABI_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#include <stddef.h>
#endif

#define ABI_VERSION 6

/* Sizes of maps: entries. The big ones are not preallocated, so an empty one costs only its buckets. */
#define ABI_MAX_PODS 4096
#define ABI_MAX_ADDRESSES 262144
#define ABI_MAX_SERVICES 65536
#define ABI_MAX_ENDPOINTS 262144
#define ABI_MAX_AFFINITY 16384
#define ABI_MAX_POLICIES 8192
#define ABI_MAX_SOURCES 131072
#define ABI_MAX_BLOCKS 131072
#define ABI_MAX_PORTS 65536
#define ABI_MAX_CONNS 131072
#define ABI_HOLDS_ARRIVED 16384 /* from here on those of what comes to a pod, not of what it opens; power of two */
#define ABI_MAX_HOLDS (2 * ABI_HOLDS_ARRIVED)
#define ABI_MAX_PAIRS 16384 /* connections that are spliced at one time; power of two */
#define ABI_MAX_SPLICES (2 * ABI_MAX_PAIRS)
#define ABI_MAX_READERS 16384
#define ABI_MAX_MISLED 4096
#define ABI_WAKE_BYTES 4096
#define ABI_MAX_TRAFFIC 65536
#define ABI_MAX_REFUSALS 65536

#define ABI_NAME_LEN 64 /* names in values are for people with bpftool: cut, always NUL-terminated */

struct abi_addr {
	__u8 byte[16];
};

/* One TCP connection as its client sees it on the wire: after the service's address was replaced. */
struct abi_tuple {
	struct abi_addr src; /* client */
	struct abi_addr dst; /* server: the endpoint, not the VIP */
	__u16 src_port;
	__u16 dst_port;
};

/*
 * Reasons: why a connection takes its path, or why it was refused. One list for counters, the CLI, logs, metrics and
 * docs/reasons.md. X(number, SYMBOL, "name", "what it means and what to do"). Numbers are never reused.
 */
#define ABI_REASONS(X)                                                                             \
	X(0, NONE, "none", "not decided yet")                                                      \
	/* same node, carried by the splice */                                                     \
	X(1, SPLICED, "spliced", "both ends are in the splice map; small messages skip TCP")       \
	/* same node, carried by TCP */                                                            \
	X(16, BULK, "bulk", "one side sends more than a turn without an answer; TCP carries bulk") \
	X(17, SWITCHED_OFF, "switched_off", "splice is off for the node: weftctl splice on")       \
	X(18, POD_OFF, "pod_off", "annotation weft.io/splice: off on one of the pods")             \
	X(19, SERVICE_OFF, "service_off", "annotation weft.io/splice: off on the service")         \
	X(20, KERNEL_UNSAFE, "kernel_unsafe",                                                      \
	  "this kernel has sockmap faults: see weftctl status; weft.io/splice: always overrides")  \
	X(21, SOCKET_OPTION, "socket_option",                                                      \
	  "the socket uses something that a splice would change: zerocopy, ULP, filter, lowat, timestamps") \
	X(22, FOREIGN_OWNER, "foreign_owner", "another program already owns the socket (EBUSY)")   \
	X(23, MAP_FULL, "map_full", "a kernel map is full: see weftctl status")                    \
	X(26, PEER_UNSEEN, "peer_unseen",                                                          \
	  "the other end was not seen at its start (older than weft, or outside its cgroup)")      \
	X(27, MPTCP, "mptcp", "Multipath TCP owns the socket")                                     \
	X(28, SAME_POD, "same_pod", "both ends in one pod: not weft's business")                   \
	X(29, WATCHED, "watched", "by TCP until it has shown that it is a conversation; then it is spliced") \
	X(30, BLOCKING, "blocking", "an end uses its socket in blocking mode, in which a splice could be noticed") \
	X(31, READER_SPLICES, "reader_splices",                                                    \
	  "a program of one of the pods reads by splice(2), which does not see spliced bytes")     \
	X(32, READER_UNSEEN, "reader_unseen",                                                      \
	  "this kernel gives no way to see readers by splice(2); weft.io/splice: always overrides") \
	X(33, URGENT, "urgent", "urgent data (MSG_OOB) was sent, which TCP alone can mark")        \
	X(35, READER_COUNTS, "reader_counts",                                                      \
	  "a program of one of the pods asks FIONREAD, which this kernel answers wrong in a splice") \
	X(34, UNACCEPTED, "unaccepted", "the server has not accepted it yet")                      \
	/* through the worker */                                                                   \
	X(36, TUNNELLED, "tunnelled",                                                              \
	  "the peer is a pod of another node: carried by mutual TLS between the nodes' workers")   \
	X(37, PROXIED, "proxied", "the destination wants the worker: weft.io/proxy: always, or a policy on HTTP") \
	X(38, ANSWERED, "answered", "a filter of the route answered the request: redirect or CORS preflight") \
	X(39, ROUTES, "routes", "routes are attached to the service: weft routes each request or connection") \
	/* not on this node */                                                                     \
	X(40, OTHER_NODE, "other_node",                                                            \
	  "the peer is a pod of another node and one of the two is out of the mesh, or it is HBONE already") \
	X(41, OUTSIDE, "outside", "the peer is not in the mesh")                                   \
	X(42, NODE_ITSELF, "node_itself", "the peer is this node (kubelet, host process): passed untouched") \
	X(43, UNKNOWN_ADDRESS, "unknown_address",                                                  \
	  "an end has an address that its pod was not enrolled with: not spliced; reached at it, " \
	  "a pod is not asked")                                                                    \
	X(44, FAIL_OPEN, "fail_open", "it needs the worker, which is gone; weft.io/fail-open let it pass as it is") \
	/* refused */                                                                              \
	X(64, DENIED, "denied", "an AuthorizationPolicy with action DENY matches")                 \
	X(65, NOT_ALLOWED, "not_allowed", "AuthorizationPolicies with action ALLOW select the pod and none matches") \
	X(66, MTLS_REQUIRED, "mtls_required", "PeerAuthentication STRICT and the source has no identity") \
	X(67, NO_ENDPOINT, "no_endpoint", "the service has no ready endpoint")                     \
	X(68, NO_SERVICE_PORT, "no_service_port", "the service does not listen on this port")      \
	X(69, NEEDS_WORKER, "needs_worker",                                                        \
	  "its policy asks for what weft cannot know of it: JWT ..., or is of more than 256 terms") \
	X(70, POLICY_UNSETTLED, "policy_unsettled",                                                \
	  "the policy of the pod was missing or kept changing while it was read")                  \
	X(71, POLICY_CHANGED, "policy_changed", "a new policy forbids the live connection")        \
	X(72, ENDPOINT_GONE, "endpoint_gone", "the endpoint left while it was being picked")       \
	X(73, LINK_LOCAL, "link_local",                                                            \
	  "a pod was reached at its link-local address, which no policy can know: use its own")    \
	X(74, OWN_PORT, "own_port",                                                                \
	  "ports 15001 and 15006 of a pod are weft's own and are not reached from outside of it")  \
	X(75, WORKER_GONE, "worker_gone",                                                          \
	  "it needs the worker, which has not been seen for 3 seconds; weft.io/fail-open: true lets it pass") \
	X(76, EGRESS, "egress",                                                                    \
	  "the destination is not in the mesh, and weft.io/egress: registry-only allows nothing else") \
	/* ended by the worker */                                                                  \
	X(80, UNREACHABLE, "unreachable",                                                          \
	  "the destination did not take the connection: refused, no route or no answer")           \
	X(81, TUNNEL_FAILED, "tunnel_failed", "no tunnel to the destination's node: the worker's log says why") \
	X(82, PEER_REFUSED, "peer_refused", "the destination's node refused it by its policy")     \
	X(83, POD_GONE, "pod_gone", "the pod at one end has gone, or its address is another pod's now") \
	X(84, HANDSHAKE_FAILED, "handshake_failed",                                                \
	  "a peer's TLS handshake failed or its certificate was refused: the worker's log says why") \
	X(85, BAD_REQUEST, "bad_request", "a peer asked for what no pod is: a wrong address, or a port of weft's own") \
	X(86, RESET, "reset", "one end broke the connection off")                                  \
	/* requests of HTTP, answered by the worker */                                             \
	X(87, NO_ROUTE, "no_route", "no route of the Service matches the request: see weftctl routes") \
	X(88, BAD_BACKEND, "bad_backend", "the route's backend is missing, not granted or without weight") \
	X(89, TIMEOUT, "timeout", "the route's timeout, or the client's grpc-timeout, was over before the answer") \
	X(90, BAD_ANSWER, "bad_answer", "the backend's answer is not valid HTTP, or was cut off within its head") \
	X(91, MALFORMED, "malformed", "the request is not valid HTTP, or could be read in two ways: see the log") \
	X(92, OVERLOADED, "overloaded",                                                            \
	  "too many requests wait for the backend already (503); or the worker lacks files or memory for it (reset)") \
	X(93, STALLED, "stalled", "the client, or the backend, took nothing for as long as weft.io/stall-timeout says")

#define ABI_REASON_MAX 96 /* entries of map `reasons` */

enum abi_reason {
#define ABI_REASON_ENUM(number, symbol, name, text) ABI_##symbol = number,
	ABI_REASONS(ABI_REASON_ENUM)
#undef ABI_REASON_ENUM
};

/* ------------------------------------------------------------------ the worker */

/* Its listeners in each pod's netns. The ports are those of Istio's ambient mode. */
#define ABI_PORT_OUTBOUND 15001 /* connections of the pod, sent there by connect() */
#define ABI_PORT_INBOUND 15006	/* plaintext for the pod, given to it by sk_lookup */
#define ABI_PORT_HBONE 15008	/* mutual TLS, of other nodes as a rule: open to all */

/* `beat` holds when the worker was last there; it writes at least four times a second. Older: it is gone. */
#define ABI_BEAT_NS 3000000000ll
#define ABI_BEAT_LATE 1ull /* this bit: or the machine itself stood still; it was given the grace to wake, once */
#define ABI_BEAT_GRACE_NS 1000000000ll

/*
 * A socket of weft's own in a pod's netns: never captured, no policy asked; so are the children of a listener of
 * ABI_PORT_INBOUND (those of the other two are known by their port). The supervisor marks it, by fd, before the worker
 * gets it. The worker may say, before it connects, whose connection this socket delivers to the pod's app: counters and
 * `weftctl connections` show it.
 */
struct abi_own {
	__u32 own;     /* 1 */
	__u32 source;  /* identity of the client, 0 none that has a number */
	__u32 service; /* that the client asked for, 0 none */
	__u8 path;     /* ABI_PATH_TUNNEL or ABI_PATH_PROXY: how it came; 0: by what its address says */
	__u8 reserved[3];
};

/* ------------------------------------------------------------------ settings */

enum abi_splice { /* annotation weft.io/splice of pods and services; in life order of strength */
	ABI_SPLICE_AUTO = 0,   /* if the kernel passed and the class pays */
	ABI_SPLICE_ALWAYS = 1, /* even if the kernel failed and whatever the class */
	ABI_SPLICE_OFF = 2,    /* never; wins over all others */
};

/*
 * One entry. The supervisor writes it at start and at `weftctl splice on|off`; programs read it at each decision, so
 * that a switch takes effect with the next message of every live connection.
 */
struct abi_settings {
	__u32 version;	   /* ABI_VERSION */
	__u32 splice_off;  /* 1: operator switched splice off: every message goes by TCP, nothing enters */
	__u32 kernel_safe; /* 1: the running kernel passed: `auto` may splice */
	__u32 reader_seen; /* 1: readers by splice(2) are seen (bpf/reader.bpf.c): `auto` may splice */
	__u32 count_fault; /* 1: FIONREAD misses what TCP brings to a spliced socket: who asks is kept out */
	__u32 turn_bytes;  /* bytes that one side may redirect after its peer last spoke (131072) */
	__u32 grant_msgs;  /* redirected messages that may wait for one reader (900) */
	__u32 small_bytes; /* messages up to here may stream one-way by redirect (4096) */
	__u32 stream_bytes; /* bytes of small messages that may wait for one reader (917504) */
	__u32 bulk_bytes;   /* bytes of larger messages by TCP in one turn that make a connection bulk (1 MiB) */
	__u32 refresh_s;   /* a spliced direction sends one message by TCP that often, so that nobody thinks it idle */
	__u32 reserved;
	__u64 leave_ns; /* from a connection's last possible redirect until it leaves the splice map */
};

/* ------------------------------------------------------------------ pods and addresses */

#define ABI_POD_REGISTRY_ONLY 1u /* weft.io/egress: what is not in the mesh is refused */
#define ABI_POD_FAIL_OPEN 2u	 /* weft.io/fail-open: without the worker, pass */
#define ABI_POD_PROXY 4u	 /* weft.io/proxy: connections to it go through the worker */
#define ABI_POD_PLAIN 8u	 /* istio.io/dataplane-mode: none: it does not use tunnels */

/*
 * Pod of this node. `policy` is the switch of the pod's policy: the worker first writes all entries of a new set, then
 * this value, then removes the old set. A program that finds `policy` changed after its decision decides again. netns
 * repeats the key: an element that the kernel recycled under the reader shows by it. An entry is present from before
 * `weftctl pod add` returns until the pod is gone.
 */
struct abi_pod {
	__u64 netns;
	__u32 pod;	/* number in `addresses`, counters; never reused in the life of an instance */
	__u32 identity; /* never 0 */
	__u32 policy;	/* key in `policies`; 0: no set, everything refused (policy_unsettled) */
	__u8 splice;	/* enum abi_splice */
	__u8 many_ipv4; /* 1: several IPv4 addresses: the source is known only on arrival */
	__u8 many_ipv6;
	__u8 flags;	      /* ABI_POD_* */
	struct abi_addr ipv4; /* all zero: none */
	struct abi_addr ipv6;
	char name[ABI_NAME_LEN]; /* namespace/name */
};

enum abi_kind {
	ABI_KIND_NONE = 0,
	ABI_KIND_LOCAL_POD = 1,	 /* enrolled on this instance: netns and pod are set */
	ABI_KIND_REMOTE_POD = 2, /* on another node; in the mesh if ABI_ADDRESS_MESH says so */
	ABI_KIND_VIP = 3,	 /* ClusterIP; ports are in `services` */
	ABI_KIND_NODE = 4,	 /* an address of this node: kubelet and host processes */
};

#define ABI_ADDRESS_MESH 1u	 /* REMOTE_POD: its node takes HBONE for it */
#define ABI_ADDRESS_PROXY 2u	 /* LOCAL_POD: ABI_POD_PROXY */
#define ABI_ADDRESS_FAIL_OPEN 4u /* LOCAL_POD: ABI_POD_FAIL_OPEN */

struct abi_address {
	__u64 netns;	/* LOCAL_POD */
	__u32 identity; /* pods */
	__u32 pod;	/* LOCAL_POD */
	__u32 policy;	/* LOCAL_POD: same number as in `pods`, written after it */
	__u8 kind;	/* enum abi_kind */
	__u8 splice;	/* LOCAL_POD */
	__u8 flags;	/* ABI_ADDRESS_* */
	__u8 reserved;
};

/* ------------------------------------------------------------------ services */

struct abi_service_key {
	struct abi_addr vip;
	__u16 port;
	__u16 reserved; /* 0 */
};

#define ABI_SERVICE_AFFINITY 1u /* sessionAffinity ClientIP */
/* Routes are attached: the worker decides where it goes; so even without an endpoint (target is then the VIP). */
#define ABI_SERVICE_ROUTES 2u
#define ABI_SERVICE_PROXY 4u /* weft.io/proxy: goes through the worker, to the endpoint that was picked */

/*
 * `endpoints` holds `count` entries (service, generation, 0 .. count-1). The worker writes all of the
 * next generation first, then replaces this value (the switch), then deletes the old generation. A
 * program that misses an endpoint reads this value again.
 */
struct abi_service {
	__u32 service;	  /* number, never 0, unique per (service, port) in the life of an instance */
	__u32 generation; /* rises with each change */
	__u32 count;	  /* endpoints; 0: connections are refused with no_endpoint */
	__u16 flags;	  /* ABI_SERVICE_* */
	__u8 splice;	  /* enum abi_splice */
	__u8 reserved;
	__u32 affinity_seconds; /* sessionAffinityConfig.clientIP.timeoutSeconds, 10800 by default */
	struct abi_service_key key;
	char name[ABI_NAME_LEN]; /* namespace/name:port */
};

struct abi_endpoint_key {
	__u32 service;
	__u32 generation;
	__u32 index;
};

/*
 * Weighted choice in constant time (Walker 1977, Vose 1991, the alias method): draw an index evenly and
 * 32 random bits; below `share` it is this entry, else entry `alias`. With equal weights every share
 * is 2^32 - 1 and alias is the entry itself.
 */
struct abi_endpoint {
	struct abi_addr addr;
	__u16 port;
	__u16 weight; /* for people; the shares decide */
	__u32 share;
	__u32 alias;
	__u32 service;	  /* repeats the key: see abi_pod.netns */
	__u32 generation;
};

struct abi_affinity_key {
	struct abi_addr client; /* the pod's address of the VIP's family */
	__u32 service;
};

struct abi_affinity {
	struct abi_addr addr;
	__u64 used_ns; /* last connection; older than affinity_seconds: forgotten */
	__u32 index;   /* where it was last; if it is not there the endpoint is searched by address */
	__u16 port;
	__u16 reserved;
};

/* ------------------------------------------------------------------ L4 policy */

/*
 * How a policy set decides. The worker turns every rule that selects a pod into terms; a term is
 *	(predicate of the source identity) AND (of the source address) AND (of the destination port)
 * and owns one bit. For each of the three dimensions the kernel finds the bits of all terms whose predicate holds, by
 * one lookup (or the default in abi_policy where the key is not listed), and ANDs the three. The bits that remain are
 * the terms that match (a bit vector classifier: Lakshman and Stiliadis, SIGCOMM 1998). Then, in Istio's order:
 *	1. mTLS mode of the port STRICT and identity 0		-> refuse mtls_required
 *	2. a bit of `deny`					-> refuse denied
 *	3. a bit of `deny_l7` (matches as far as L4 can see)	-> to the worker, which asks each request
 *	4. no ALLOW policy selects the pod (has_allow 0)	-> allow
 *	5. a bit of `allow`					-> allow
 *	6. a bit of `allow_l7`					-> to the worker
 *	7. otherwise						-> refuse not_allowed
 * A set that needs more terms than there are bits is `closed`: all is refused with needs_worker.
 * What a source *is not* (notPrincipals, notIpBlocks ...) is folded into the bits by the worker.
 *
 * Example: ALLOW from namespace a on port 80; DENY from 10.1.0.0/16. Term 0 = the ALLOW: bits
 * sources[identities of a] = {0,1}, any_source = {1}; term 1 = the DENY: blocks[10.1.0.0/16] = {0,1},
 * any_block = {0}; ports[80] = {0,1}, any_port = {1}; deny = {1}, allow = {0}, has_allow = 1.
 */
#define ABI_TERMS 256
#define ABI_BIT_WORDS (ABI_TERMS / 64)

struct abi_bits {
	__u64 word[ABI_BIT_WORDS];
};

enum abi_mtls {
	ABI_MTLS_PERMISSIVE = 0,
	ABI_MTLS_STRICT = 1,
	ABI_MTLS_DISABLE = 2, /* inbound plaintext is taken, as in PERMISSIVE */
};

#define ABI_POLICY_BLOCKS 1u
#define ABI_POLICY_PORTS 2u

struct abi_policy {
	__u32 set; /* repeats the key */
	__u8 mtls; /* enum abi_mtls; for ports that `ports` does not list */
	__u8 has_allow;
	__u8 closed;
	__u8 rows; /* ABI_POLICY_*: which maps have rows of this set; the others need not be asked */
	struct abi_bits deny;
	struct abi_bits deny_l7;
	struct abi_bits allow;
	struct abi_bits allow_l7;
	struct abi_bits any_source; /* an identity that `sources` does not list */
	struct abi_bits any_block;  /* an address outside of every block */
	struct abi_bits any_port;   /* a port that is not listed */
};

struct abi_source_key {
	__u32 set;
	__u32 identity; /* 0 is listed like any other where its bits differ from any_source */
};

/* Longest prefix match; a block's bits include those of the blocks around it. */
struct abi_block_key {
	__u32 prefixlen; /* bits: 32 for the set + 128 at most for the address */
	__u32 set;
	struct abi_addr addr;
};

struct abi_port_key {
	__u32 set;
	__u16 port;
	__u16 reserved; /* 0 */
};

struct abi_port {
	struct abi_bits bits;
	__u8 mtls; /* enum abi_mtls */
	__u8 reserved[7];
};

/* ------------------------------------------------------------------ connections */

enum abi_path { /* how the bytes travel now */
	ABI_PATH_NONE = 0,   /* connecting */
	ABI_PATH_SPLICE = 1, /* same node, sk_msg */
	ABI_PATH_TCP = 2,    /* same node, the kernel's TCP */
	ABI_PATH_PROXY = 3,  /* through the worker, same node */
	ABI_PATH_TUNNEL = 4, /* through the worker and mTLS */
	ABI_PATH_DIRECT = 5, /* to or from outside this node, plain */
};

enum abi_end { /* index into abi_conn.end */
	ABI_CLIENT = 0,
	ABI_SERVER = 1,
};

#define ABI_SOCK_IN_MAP 1u	/* this socket is in `splices` */
#define ABI_SOCK_CONNECTED 2u	/* `tuple` is valid */
#define ABI_SOCK_REUSED 4u	/* was in `splices` for an earlier connection, and connected again: never enters more */
#define ABI_SOCK_OWN 8u		/* weft's own: see struct abi_own */

/* What one socket has sent by TCP. */
struct abi_sent {
	__u64 bytes;
	__u32 segs; /* with data */
	__u32 reserved;
};

/* What weft knows of a socket that is a watcher, in `splices`, or connects again: it is dear to make. Dies with it. */
struct abi_sock {
	struct abi_tuple tuple; /* key in `conns` */
	__u16 asked_port;
	__u16 target_port;     /* not 0: captured, and sent to the worker in the same pod */
	struct abi_addr asked; /* what the app asked to connect to, if it was replaced; else all zero */
	struct abi_addr target; /* captured: the endpoint, where it shall go */
	__u32 service;	       /* number of the service that was asked, 0 none */
	__u32 conn;	       /* abi_conn.conn: tells a reused tuple from ours */
	__u8 end;	       /* enum abi_end */
	__u8 splice;	       /* enum abi_splice of the service */
	__u8 flags;	       /* ABI_SOCK_* */
	__u8 why;	       /* enum abi_reason: of a capture, or why it was not captured; 0: not asked */
	__u32 policy; /* set that was asked at connect */
	__u32 slot;   /* in `pairs`; counts only while abi_pair.conn is `conn` */
	__u64 connect_ns;
	struct abi_sent mark[2]; /* of the watcher: both ends when weft_watch last judged the connection */
};

/* One direction of a pair, written by the end that sends. All of it is zero when a pair is made. */
struct abi_flow {
	__u64 cookie;	     /* of the sending socket: its key in `splices` */
	__u64 sock;	     /* kernel address of the sending socket; trusted only while its cookie is right */
	__u64 file;	     /* address of its struct file: who reads without O_NONBLOCK is not redirected into */
	__u64 mapped;	     /* and of the pointer that says whether it is mapped into memory; 0 in both: never mind */
	__u64 spliced_bytes; /* redirected */
	__u64 tcp_bytes;     /* passed to TCP while in the map */
	__u32 spliced_msgs;
	__u32 said;	   /* messages that this end has sent while in the map */
	__u32 heard;	   /* `said` of the peer when this end last spoke */
	__u32 granted;	   /* `said` of the peer when the grant was last renewed */
	__u32 turn_bytes;  /* redirected since the reader's queue was last seen empty */
	__u32 turn_msgs;
	__u32 turn_tcp;	   /* bytes of messages above small_bytes by TCP since the peer last spoke */
	__u32 switches;	   /* splice -> TCP and TCP -> splice */
	__u32 queue_bytes; /* most that was let onto the reader's queue, noted whenever it is looked at */
	__u32 queue_msgs;
	__u32 read_at; /* copied_seq of this end as it entered: nothing is redirected into it until it has moved */
	__u8 by_tcp;   /* 1: the last message (or the handshake) went by TCP: prove the order before a redirect */
	__u8 in_map;
	__u8 refresh; /* 1: the next message goes by TCP */
	__u8 reserved;
};

/* A connection that is in `splices`: what sk_msg reads and writes at each message. */
struct abi_pair {
	__u32 conn;	  /* abi_conn.conn; 0: free */
	__u32 caught;	  /* abi_caught.caught when both readers were last judged; another value: judge them */
	__u64 leaving_ns; /* when `leaving` was set; of a free pair: when it was given back */
	__u64 fresh_ns;	  /* when TCP last carried something of both directions, as far as it is known */
	__u32 leaving;	  /* enum abi_reason: nothing is redirected any more, it leaves the map when drained */
	__u32 always;	  /* annotation: whatever the readers do */
	__u64 netns[2];	  /* of both sockets */
	__u64 regs;	  /* where above its `stack` a task keeps the registers of its system call */
	struct abi_flow end[2]; /* indexed by enum abi_end */
};

/* One local end of a connection, and what its earlier stays in `splices` brought. */
struct abi_local {
	__u64 cookie; /* of the socket; 0: not on this node or not seen */
	__u64 sock;   /* its kernel address; trusted only while its cookie is right. 0 in a CAPTURED one: closed */
	__u64 spliced_bytes; /* that it sent */
	__u32 spliced_msgs;
	__u32 switches;
	__u32 queue_bytes;
	__u32 queue_msgs;
};

enum abi_stage { /* of the splice */
	ABI_STAGE_OUT = 0,	/* by TCP; weft_watch judges it if both ends are here */
	ABI_STAGE_ENTERING = 1, /* has a pair; its sockets are entered one by one */
	ABI_STAGE_IN = 2,	/* both are in `splices` */
};

/*
 * One connection with at least one end in a pod of this instance. Made at TCP_CONNECT_CB of a local client or at the
 * server's establishment if the client is elsewhere; goes with the socket that made it (CAPTURED: the last of both).
 *
 * Two kinds have one of the worker's sockets at one end, and both ends in one pod (client_netns is server_netns):
 *	CAPTURED	from an app, sent to ABI_PORT_OUTBOUND of its own pod. The key is what both sockets show;
 *			`asked` is what the app dialled, `target` where it shall go, server_pod the target's.
 *			The worker finds it by getpeername() and getsockname() of the socket that it accepted.
 *	DELIVERED	from the worker to the pod's app. The key shows the true client; client_pod if that is local.
 * Their `path` and `reason` say how the connection travels; whether this hop of it is spliced, and why not, is `hop`.
 */
#define ABI_CONN_CAPTURED 1u
#define ABI_CONN_DELIVERED 2u

struct abi_conn {
	__u32 conn;	/* number of this record */
	__u32 service;	/* asked by the client, 0 none */
	__u32 source;	/* identity, 0 unknown */
	__u32 client_pod; /* pod number, 0 not local */
	__u32 server_pod;
	__u8 path;	/* enum abi_path */
	__u8 reason;	/* enum abi_reason */
	__u8 stage;	/* enum abi_stage */
	__u8 established;
	__u64 client_netns; /* 0: not local */
	__u64 server_netns;
	__u64 opened_ns;      /* connect() */
	__u64 established_ns; /* 0: not yet */
	__u64 again_ns;	      /* has left `splices`: may not come back before */
	__u32 policy;	      /* set that allowed it at connect, 0 none asked */
	__u32 slot;	      /* in `pairs`, unless stage is OUT */
	__u16 asked_port;
	__u8 splice; /* enum abi_splice of the service */
	__u8 left;   /* times that it left `splices` */
	struct abi_addr asked; /* VIP, or whatever was dialled if it is captured; all zero: none */
	struct abi_addr target; /* CAPTURED */
	__u16 target_port;
	__u8 flags; /* ABI_CONN_* */
	__u8 hop;   /* enum abi_reason */
	__u32 watcher; /* 1 + the end by whose abi_sock weft_watch finds it; 0: it has not said enough to be watched */
	__u32 holder;  /* place in `holds` */
	struct abi_local end[2]; /* indexed by enum abi_end */
};

#define ABI_READS_BY_SPLICE 1u /* read a TCP socket by splice(2) */
#define ABI_READS_BY_COUNT 2u  /* asked FIONREAD (SIOCINQ) of one */

/*
 * `members`, `readers`, `misled` and `caught` belong to all instances on the machine
 * (/sys/fs/bpf/weft-readers-VERSION), because the hardware has only a few watchpoints. `members` are the network
 * namespaces of all their pods: of others nothing is written down. A pod in which a program was seen to do what does
 * not go with a splice:
 */
struct abi_reader {
	__u64 first_ns;
	__u64 count;
	__u32 how; /* ABI_READS_BY_* */
	__u32 reserved;
	char program[2][16]; /* task comm of the first that did, by bit of `how` */
};

struct abi_caught {
	__u32 version; /* ABI_VERSION, written by the supervisor that attached the programs; 0: nobody yet */
	__u32 caught;  /* new facts in `readers` and `misled` so far */
	__u32 failed;  /* 1: a reader could not be told: nothing is redirected any more */
};

/* Output of the iterator weft_ops: where a socket's struct proto_ops lies, and some of its pointers. */
struct abi_ops {
	__u64 ops;
	__u64 ioctl; /* addresses of the pointers, not what they hold */
	__u64 splice_read;
};

/* How sockops and weft_watch talk with the supervisor, who maps it into its memory. */
struct abi_watch {
	__u32 asleep; /* 1: the supervisor waits for `wake`; who wakes it sets 0 */
	/* of one pass of weft_watch, zeroed before it */
	__u32 young;	/* by TCP, and may be spliced any moment */
	__u32 pending;	/* by TCP for a while */
	__u32 entering; /* pairs of which a socket is still missing */
	__u32 spliced;	/* or leaving */
};

/* Output of weft_watch: end a connection, or run weft_enter with this behind an Ethernet header of zeros. */
struct abi_errand {
	struct abi_tuple tuple;
	__u32 reason; /* why it must end: reader_splices, reader_counts; none: its socket at `end` shall enter */
	__u32 end;    /* enum abi_end */
	__u32 conn;   /* abi_pair.conn at `slot` */
	__u32 slot;
	__u32 device;	 /* that the socket is bound to, 0 none */
	__u64 netns[2];	 /* of both sockets, by enum abi_end */
	__u64 cookie[2];
};

/* ------------------------------------------------------------------ counters */

struct abi_traffic_key {
	__u32 source;  /* identity */
	__u32 service; /* 0: the pod was asked directly */
	__u32 pod;     /* destination pod, 0 if not of this node */
	__u32 reserved;
};

struct abi_traffic {
	__u64 opened; /* established */
	__u64 closed;
	__u64 failed;	      /* closed before it was established: no answer, reset */
	__u64 sent_bytes;     /* client to server, spliced ones too */
	__u64 received_bytes; /* server to client */
	__u64 spliced_bytes;  /* both directions, as the rest */
	__u64 spliced_msgs;
	__u64 switches; /* between splice and TCP */
	__u64 connect_ns;     /* sum over opened: connect() to established */
	__u64 retransmits;    /* segments, sum at close */
	__u64 srtt_us;	      /* sum at close of smoothed RTT; divide by closed */
};

struct abi_refusal_key {
	__u32 source;
	__u32 service;
	__u32 pod;
	__u32 reason; /* enum abi_reason, 64 and above */
};

/* Output of the iterator `weft_live` (over `conns`): a record for each live socket that weft knows, without gaps. */
struct abi_live {
	struct abi_tuple tuple;
	__u32 conn;
	__u64 cookie;
	__u64 bytes_acked;    /* sent by this socket through TCP and acknowledged; a client's SYN is one of them */
	__u64 bytes_received; /* through TCP; neither counts a FIN */
	__u32 srtt_us;
	__u32 retransmits;
	__u32 queue_bytes; /* waiting in the socket's splice queue now */
	__u32 queue_msgs;  /* counted to 1024 at most */
	__u8 end;
	__u8 state; /* TCP_ESTABLISHED = 1 ... (include/net/tcp_states.h) */
	__u8 reserved[6];
};

_Static_assert(sizeof(struct abi_tuple) == 36, "abi_tuple");
_Static_assert(sizeof(struct abi_settings) == 56, "abi_settings");
_Static_assert(sizeof(struct abi_flow) == 96, "abi_flow");
_Static_assert(sizeof(struct abi_pair) == 56 + 2 * sizeof(struct abi_flow), "abi_pair");
_Static_assert(sizeof(struct abi_errand) == 88, "abi_errand");
_Static_assert(sizeof(struct abi_pod) == 56 + ABI_NAME_LEN, "abi_pod");
_Static_assert(sizeof(struct abi_address) == 24, "abi_address");
_Static_assert(sizeof(struct abi_service_key) == 20, "abi_service_key");
_Static_assert(sizeof(struct abi_service) == 20 + 20 + ABI_NAME_LEN, "abi_service");
_Static_assert(sizeof(struct abi_endpoint) == 36, "abi_endpoint");
_Static_assert(sizeof(struct abi_block_key) == 24, "abi_block_key");
_Static_assert(sizeof(struct abi_port) == 40, "abi_port");
_Static_assert(sizeof(struct abi_policy) == 8 + 7 * sizeof(struct abi_bits), "abi_policy");
_Static_assert(sizeof(struct abi_affinity) == 32, "abi_affinity");
_Static_assert(sizeof(struct abi_live) == 88, "abi_live");
_Static_assert(sizeof(struct abi_own) == 16, "abi_own");
_Static_assert(sizeof(struct abi_conn) == 120 + 2 * sizeof(struct abi_local), "abi_conn");

#endif
