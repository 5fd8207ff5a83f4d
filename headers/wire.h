/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h: the messages of the supervisor (io/wire.c sends and receives them).
 *
 *	weftctl, CNI plugin  --- /run/weft/INSTANCE/weftd.sock (SOCK_SEQPACKET, root only) --->  supervisor
 *	supervisor           <-- SOCK_SEQPACKET pair, fd 3 of the worker -------------------->  worker
 *
 * One message = one struct wire, one packet, as long as its type says (wire_size); fds travel as SCM_RIGHTS. Receivers
 * check size, version, type and that every text ends, and see zeros behind the packet. A client sends one request and
 * reads WIRE_DONE (or WIRE_STATUS for WIRE_STATUS). Byte order: host.
 */
#ifndef WEFT_WIRE_H
#define WEFT_WIRE_H

#include "base.h"

#define WIRE_VERSION 4
#define WIRE_NAME 254  /* Kubernetes: 253 bytes of a DNS subdomain + NUL */
#define WIRE_PATH 512
#define WIRE_PAIRS 8192 /* labels, annotations: "key=value" NUL "key=value" NUL NUL */
#define WIRE_ADDRS 8
#define WIRE_PROBES 32
#define WIRE_SELFTESTS 24
#define WIRE_STAKE 144 /* fits a problem's reason */
#define WIRE_TEXT 512
#define WIRE_FDS 32
#define WIRE_LISTENERS 3 /* of a thread in a pod: 15001, 15006, 15008, in this order */

enum wire_type {
	/* client -> supervisor */
	WIRE_POD_ADD = 1, /* wire_pod; fd: the netns if netns_path is empty. Done when the kernel knows the pod */
	WIRE_POD_DEL,	  /* wire_pod.namespace, .name; done when the kernel has forgotten it */
	WIRE_SPLICE,	  /* number: 1 on, 0 off */
	WIRE_STATUS,	  /* answered by WIRE_STATUS with wire_status */
	/* supervisor -> client */
	WIRE_DONE, /* number: 0 or -errno; text: what was wrong and what to do */
	/* supervisor -> worker */
	WIRE_START,	/* wire_start; fds: see enum wire_fd */
	WIRE_ENROL,	/* wire_pod with pod and netns set, behind its WIRE_POD_FDS; answered by WIRE_ENROLLED */
	WIRE_RELEASE,	/* wire_pod: the pod is gone; answered by WIRE_RELEASED */
	/*
	 * wire_pod.netns, .pod; fds: the pod's listeners 15001, 15006, 15008 of thread `number`, then those of the next
	 * thread, and so on: all of one port are one SO_REUSEPORT group. Several messages where WIRE_FDS are too few;
	 * the one of thread 0 replaces all that the worker had of this pod. Before WIRE_ENROL, which is refused with
	 * -EMFILE if the worker had no room for them.
	 */
	WIRE_POD_FDS,
	WIRE_SETTINGS,	/* number: 1 splice on, 0 off: so that status can tell */
	/*
	 * Answer to WIRE_OPEN. number: 0, 1 if the name is a link, or -errno, -ENOLINK of a link that leads nowhere;
	 * text: name; fd: the file
	 */
	WIRE_FILE,
	/* worker -> supervisor */
	WIRE_READY,	/* number: 1 the first world is in the kernel, 0 not (or: objects are rejected); text: why */
	WIRE_ENROLLED,	/* wire_pod.netns; number: 0 or -errno, text: why not */
	WIRE_RELEASED,	/* wire_pod.netns */
	WIRE_DESTROY,	/* wire_destroys: live connections that policy now forbids */
	WIRE_OPEN,	/* text: name below the manifest folder, for a folder that the worker's user cannot read */
	/* supervisor -> worker */
	WIRE_NAMED,	/* every pod that it knows was sent since WIRE_START: forget the others */
	/* worker -> supervisor, and the answer */
	/*
	 * wire_sockets; answer with the same seq: number: 0 and as many fds as were asked for, or -errno and text:
	 * -ENOENT the pod has left, -EBUSY it asks for too many (ask again later), else the kernel's.
	 */
	WIRE_SOCKETS,
	/*
	 * wire_files: names of the certificate folder. Without fds: open them. With as many fds (texts in files that
	 * are in memory): make these, mode 0600, if none of them is there, then open them. Answer with the same seq:
	 * error[i] is 0 or -errno, and there are as many fds as zeros, in order; text: why none, if it is known.
	 * -ENOLINK of the one that alone is missing: its name is a link that leads nowhere. number: 0, or -EMFILE:
	 * weftd, or the worker, has no room for them: ask again later.
	 */
	WIRE_CERTS,
	/*
	 * On a connection to resume.sock, where a worker waits whose supervisor is gone: wire_start as the new one
	 * would send it. Answered by the listeners of all pods (WIRE_POD_FDS), then by WIRE_RESUMED with number 0 and
	 * fds: admin socket, resume socket; the connection is what fd 3 was. Or by WIRE_RESUMED with -errno and text:
	 * the worker belongs to another start, and ends.
	 */
	WIRE_RESUME,
	WIRE_RESUMED,
	/* worker -> supervisor, and the answer to the first of them */
	/*
	 * wire_edge: listen there, for Gateways. Answer with the same seq: number 0 and the listeners of those threads,
	 * or -errno and text. With fds: the worker has these, of a supervisor that is gone; the answer brings none.
	 * What a worker has not asked for when it says WIRE_READY is closed.
	 */
	WIRE_EDGE_OPEN,
	WIRE_EDGE_CLOSE, /* wire_edge: no more */
	WIRE_STALE, /* wire_stale: records of `conns` that no socket backs, for the supervisor alone may write it */
	WIRE_SWEPT, /* the answer; number: how many of them are gone */
	/* number: id of a thread; seq: the turn of its loop, which it has been in for seconds. 0: none, see pulse.h */
	WIRE_STUCK,
	WIRE_TYPE_MAX
};

/* Order of the fds that come with WIRE_START. -1 never travels: the kernel side needs all of them. */
enum wire_fd {
	WIRE_FD_SETTINGS,
	WIRE_FD_PODS,
	WIRE_FD_ADDRESSES,
	WIRE_FD_SERVICES,
	WIRE_FD_ENDPOINTS,
	WIRE_FD_AFFINITY,
	WIRE_FD_POLICIES,
	WIRE_FD_SOURCES,
	WIRE_FD_BLOCKS,
	WIRE_FD_PORTS,
	WIRE_FD_CONNS,
	WIRE_FD_PAIRS,
	WIRE_FD_READERS,
	WIRE_FD_TRAFFIC,
	WIRE_FD_REFUSALS,
	WIRE_FD_REASONS,
	WIRE_FD_BEAT, /* may be mapped: the worker writes the time there */
	WIRE_FD_OWN,  /* sk_storage: key is the fd of a socket that came with WIRE_SOCKETS */
	WIRE_FD_LIVE,	   /* link of the iterator weft_live: BPF_ITER_CREATE on it, then read abi_live records */
	WIRE_FD_ADMIN,	   /* listening stream socket /run/weft/INSTANCE/admin.sock: see docs/admin.md */
	WIRE_FD_RESUME,	   /* listening SOCK_SEQPACKET socket /run/weft/INSTANCE/resume.sock: see WIRE_RESUME */
	WIRE_FD_MANIFESTS, /* the manifest folder, O_RDONLY|O_DIRECTORY */
	WIRE_FD_NOTIFY,	   /* inotify, already watching the folder */
	WIRE_FD_CERTS,	   /* inotify, watching the certificate folder: anything that happens there */
	WIRE_FD_STATE,	   /* the state folder /var/lib/weft/INSTANCE, O_RDONLY|O_DIRECTORY */
	WIRE_FD_COUNT
};

struct wire_pod {
	uint64_t netns; /* cookie; set by the supervisor */
	uint32_t pod;	/* number; set by the supervisor, kept over restarts */
	uint32_t addrs;
	struct abi_addr addr[WIRE_ADDRS];
	char uid[64]; /* may be empty */
	char namespace[WIRE_NAME];
	char name[WIRE_NAME];
	char service_account[WIRE_NAME]; /* empty: "default" */
	char netns_path[WIRE_PATH];
	char labels[WIRE_PAIRS];
	char annotations[WIRE_PAIRS];
};

/* A worker is kept by the next supervisor if all of it is the same but for what stands first. */
struct wire_start {
	uint32_t splice_on;
	uint32_t kernel_safe;
	char at_stake[WIRE_STAKE]; /* if it is not: what programs of a pod with weft.io/splice: always risk */
	char version[32];
	char instance[64];
	char node[WIRE_NAME];
	char trust_domain[WIRE_NAME];
	char manifests[WIRE_PATH]; /* for messages only */
	char root_namespace[WIRE_NAME]; /* mesh-wide policies live here: istio-system */
	uint32_t threads; /* of the data plane */
	uint32_t certs_pem; /* 1: the certificate folder has files of each identity; 0: those of the embedded CA */
	char certs[WIRE_PATH]; /* the certificate folder, for messages only */
	uint32_t live; /* 1: WIRE_FD_LIVE is an iterator; 0: this kernel has none that is safe, and the fd is nothing */
	uint32_t map[WIRE_FD_LIVE]; /* ids of the kernel's maps */
	uint64_t folder[2];	    /* device and inode of the manifest folder */
};

struct wire_destroy {
	uint64_t netns;	 /* of the socket */
	uint64_t cookie; /* of the socket; sock_diag checks it */
	struct abi_addr local, remote;
	uint16_t local_port, remote_port;
	uint32_t ipv6_socket; /* 1: AF_INET6 socket (also for mapped addresses) */
};

#define WIRE_DESTROYS 192
struct wire_destroys { /* a policy may forbid thousands at once: many to a message */
	uint32_t count;
	struct wire_destroy item[WIRE_DESTROYS];
};

#define WIRE_STALES 400
struct wire_stale {
	uint32_t count;
	struct wire_stale_one {
		struct abi_tuple tuple;
		uint32_t conn; /* abi_conn.conn */
	} item[WIRE_STALES];
};

enum wire_socket {
	WIRE_SOCKET_OUT, /* toward other nodes: plain */
	WIRE_SOCKET_APP, /* toward the pod's own app, from any address: IP_TRANSPARENT, mark */
};
#define WIRE_SOCKET_BATCH WIRE_FDS
#define WIRE_GATEWAY (1ull << 63) /* in a netns: no cookie, but a Gateway: its sockets are in weftd's own netns */
#define WIRE_SOCKET_MARK 0x539 /* SO_MARK of the latter: the way back (proc/routes.c) knows it */

/*
 * Unconnected TCP sockets in a pod's netns, O_NONBLOCK, each marked as weft's own in map `own` before it is sent, those
 * of WIRE_SOCKET_APP with path ABI_PATH_TUNNEL. An AF_INET6 socket is not IPV6_V6ONLY. IP_BIND_ADDRESS_NO_PORT, and the
 * options of a stream (sock_prepared() of stream.h), as listeners have them.
 */
struct wire_sockets {
	uint64_t netns; /* of an enrolled pod */
	uint32_t kind;	/* enum wire_socket */
	uint32_t ipv6;	/* 1: AF_INET6, else AF_INET */
	uint32_t count; /* 1 .. WIRE_SOCKET_BATCH */
};

struct wire_edge { /* in weftd's own netns; all threads have one SO_REUSEPORT group */
	struct abi_addr addr; /* zero: all, IPv6 and IPv4 */
	uint16_t port;
	uint16_t first, count; /* of threads, at most WIRE_FDS at once */
};

#define WIRE_FILES 8
#define WIRE_FILE_NAME 328 /* NAMESPACE.SERVICEACCOUNT.pem */

struct wire_files {
	uint32_t count; /* at most WIRE_FILES */
	int32_t error[WIRE_FILES];
	char name[WIRE_FILES][WIRE_FILE_NAME];
};

enum wire_probe_state { WIRE_PROBE_OK, WIRE_PROBE_OFF, WIRE_PROBE_FAILED };

struct wire_probe {
	char name[32];	   /* "sk_msg", "netns cookie" ... */
	uint32_t state;	   /* enum wire_probe_state */
	char detail[160]; /* what is off and why, or the version */
};

struct wire_status {
	char version[32];
	char kernel[96];
	char node[WIRE_NAME];
	uint32_t ready;	      /* the worker said so and every pod is enrolled */
	uint32_t worker_pid;  /* 0: not running */
	uint32_t worker_restarts;
	uint64_t worker_ended_ns; /* the last one; 0: none has */
	char worker_end[96];	  /* how */
	uint32_t pods;
	uint32_t splice_on;
	uint32_t kernel_safe;
	uint64_t started_ns;
	char why[256]; /* if not ready: the first reason */
	uint32_t probes;
	struct wire_probe probe[WIRE_PROBES];
	uint32_t selftest_ms;
	uint32_t selftests;
	struct wire_probe selftest[WIRE_SELFTESTS]; /* see selftest.h */
};

struct wire {
	uint32_t version; /* WIRE_VERSION */
	uint32_t type;	  /* enum wire_type */
	uint32_t seq;	  /* echoed in the answer */
	int32_t number;
	char text[WIRE_TEXT];
	union {
		struct wire_pod pod;
		struct wire_start start;
		struct wire_destroys destroys;
		struct wire_sockets sockets;
		struct wire_edge edge;
		struct wire_files files;
		struct wire_stale stale;
		struct wire_status status;
	};
};

/*
 * Send one message with fds (borrowed). 0 or -errno. Never blocks if the socket does not.
 */
int wire_send(int sock, const struct wire *m, const int *fds, unsigned nfds) must_check;
/*
 * Receive one message. Returns 1 got one, 0 the peer closed, -errno (-EAGAIN too, -EBADMSG if it is not
 * ours). fds belong to the caller, who closes all `*ret_nfds` of them, O_CLOEXEC. -EMFILE: it is there, but none of its
 * fds, as the process has no room for all of them.
 */
int wire_recv(int sock, struct wire *ret, int fds[WIRE_FDS], unsigned *ret_nfds) must_check;
/* The row of these without which nobody can be spliced, whatever is switched on; NULL: all that it takes is there. */
const char *wire_splice_lacks(const struct wire_probe *row, unsigned rows);
bool wire_want(int err); /* -errno: we have too little of files or memory. It passes, and says nothing of the matter */
size_t wire_size(unsigned type); /* of its packet; 0: no such type */
struct wire *wire_new(enum wire_type type); /* zeroed but for version and type; free() it */
const char *wire_type_name(unsigned type);

/* Labels and annotations: first pair (after NULL) or the next one after `after`; NULL at the end. */
const char *wire_pairs_next(const char pairs[WIRE_PAIRS], const char *after);
/* false: no room, no "=" or no key; nothing was added then. */
bool wire_pairs_add(char pairs[WIRE_PAIRS], const char *pair) must_check;
/*
 * What an annotation of weft's must be, in words, that says something else: a word that weft does not know would be
 * taken for its absence. NULL: it is that, or another annotation.
 */
const char *wire_annotation_words(const char *key, const char *value);
/* One of weft's by its name, which says nothing of a pod: mistyped, or of a newer weft. */
bool wire_annotation_stray(const char *key);

#endif
