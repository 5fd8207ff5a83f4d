/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pods.h: the enrolled pods (proc/pods.c), and the watch that notices when a netns is gone (proc/vigil.c).
 *
 *	asked for --> POD_NEW --ENROL sent--> POD_SENT --accepted--> POD_ENROLLED --deleted, netns gone-->
 *	POD_LEAVING --RELEASE sent--> POD_LEFT --released--> freed
 *
 * From POD_LEAVING on weftd holds nothing of the netns: no listener, no link, no fd. A worker that restarts puts
 * POD_SENT and POD_ENROLLED back to POD_NEW, POD_LEFT back to POD_LEAVING.
 */
#ifndef WEFT_PODS_H
#define WEFT_PODS_H

#include "loader.h"
#include "loop.h"
#include "netns.h"

enum pod_state {
	POD_NEW,      /* to be sent to the worker */
	POD_SENT,     /* the worker has not answered yet */
	POD_ENROLLED, /* in the kernel */
	POD_LEAVING,  /* out of the netns; the worker must be told */
	POD_LEFT,     /* told; it has not answered yet */
};

struct pod {
	enum pod_state state; /* changed by set_state() in pods.c only */
	bool update; /* a changed enrolment waits for the worker: file NUMBER-new */
	bool kept; /* file NUMBER exists: it was accepted once */
	uint32_t number;
	uint32_t seq; /* of the last message about it: an older answer does not count */
	uint64_t netns; /* cookie */
	uint64_t inode;
	char *namespace, *name, *path;
	struct abi_addr addr[WIRE_ADDRS];
	unsigned addrs;
	int *listener; /* of each thread WIRE_LISTENERS, those of thread 0 first; NULL: none */
	unsigned listeners; /* how many */
	unsigned served; /* of how many threads this worker has them */
	/*
	 * Its netns could not be entered: there may be no listeners, no link, no vigil. Only of one that was accepted
	 * before: the kernel keeps what it has of it, and we try again until it works or the netns is gone.
	 */
	bool outside;
	bool routed; /* the way back of what the worker delivers is there (proc/routes.c), or was refused */
	uint64_t sockets_ns; /* how far its share of sockets is used: inside.c */
	int diag; /* sock_diag in the netns, opened at first use; -1 */
	struct vigil *vigil; /* NULL once it is leaving */
	struct pods *pods;
	struct list link;
};

#define PODS_WHY 512 /* as wire.text */

struct pods_hooks {
	void (*to_send)(void *ctx); /* some pod is POD_NEW or POD_LEAVING */
	void *ctx;
};

struct pods;
struct pods_plan {
	struct loop *loop;
	struct loader *loader;
	int folder; /* borrowed */
	unsigned threads; /* of the worker: each has listeners of its own */
	/* what a worker that is there already gave back; read by pods_adopt() */
	struct takeover *takeover;
	struct pods_hooks hooks;
};
int pods_open(struct pods **ret, const struct pods_plan *plan) must_check;
void pods_close(struct pods *p); /* files and pins stay */

/*
 * Takes back what the folder holds: pods whose netns is still the same; the others go to POD_LEAVING. -errno: nothing
 * can be read, and nothing is given up for it.
 */
int pods_adopt(struct pods *p) must_check;

/* Texts and addresses of a pod that is to be enrolled: 0, or -EINVAL and why, for people. */
int pods_check(const struct wire_pod *a, char why[PODS_WHY]) must_check;
/*
 * Enrol, or change the enrolment of the same pod in the same netns. `netns` is borrowed, -1 if only the path is given.
 * 0 and the pod (POD_NEW), or -errno and why, for people. Nothing is changed on error.
 */
int pods_add(struct pods *p, const struct wire_pod *asked, int netns, struct pod **ret, char why[PODS_WHY]) must_check;
/* Lets go of the netns; the pod is POD_LEAVING. -ENOENT and why. */
int pods_del(struct pods *p, const char *namespace, const char *name, struct pod **ret, char why[PODS_WHY]) must_check;

/* What the channel to the worker does with them */
/* The oldest, or NULL. A new one waits until another that had its netns has left the worker. */
struct pod *pods_first(const struct pods *p, enum pod_state state);
struct pod *pods_by_netns(const struct pods *p, uint64_t netns, bool leaving);
unsigned pods_count(const struct pods *p); /* not leaving */
unsigned pods_waiting(const struct pods *p); /* not leaving, not enrolled */
const struct pod *pods_outside(const struct pods *p, unsigned *ret_count); /* one of them, or NULL */
/* What is to be sent: by its file; of one that leaves without it, what a release needs. */
int pods_read(const struct pod *pod, struct wire_pod *ret) must_check;
void pods_unreadable(struct pod *pod); /* its file is lost: back to what was accepted before, or LEAVING */
int pods_diag(struct pod *pod) must_check; /* borrowed fd or -errno */
void pods_sent(struct pod *pod, uint32_t seq); /* NEW to SENT, LEAVING to LEFT; seq of that message */
void pods_accepted(struct pod *pod); /* SENT to ENROLLED */
void pods_refused(struct pod *pod); /* back to what was accepted before, or LEAVING */
void pods_released(struct pod *pod); /* frees it */
void pods_unsent(struct pods *p); /* the worker died */

/* -------- inside.c: what weft has in a pod's netns */

int pods_say(char why[PODS_WHY], int err, const char *fmt, ...) printf_like(3, 4); /* err, and why */

/*
 * Listeners (unless pod->listener is there), sk_lookup link, the way back (routes.h). 0, or -errno and why, and nothing
 * of it is there; or, of one that was accepted before, what was there.
 */
/*
 * The netns that is meant: by path, by fd, or both (the caller resolved the path in its own mount namespace). Puts
 * a path that weftd sees into a->netns_path. Returns an fd of our own, or -errno and why.
 */
int inside_find(struct wire_pod *a, int given, char why[PODS_WHY]) must_check;
int inside_enter(struct pod *pod, struct loader *l, unsigned threads, int netns, char why[PODS_WHY]) must_check;
void inside_leave(struct pod *pod, struct loader *l); /* all of it goes */
void inside_close(struct pod *pod); /* our fds go, what is in the kernel stays */
/* The netns of an enrolment, if it is still that one: fd or -errno, of wire_want() if nobody can tell */
int inside_same(const char *path, uint64_t cookie) must_check;
void inside_forget(const struct wire_pod *info); /* what a weftd that was killed left there */
int inside_forget_all(int folder) must_check; /* the same of all pods of that folder, for --uninstall. 0 or -errno */
/* As WIRE_SOCKETS asks: w->count fds, or -errno and why, and none. */
int inside_sockets(struct pod *pod, struct loader *l, const struct wire_sockets *w, int ret[WIRE_SOCKET_BATCH],
		   char why[PODS_WHY]) must_check;

/* How sockets made in a netns are marked as weft's own, and how many the worker may ask for: */
struct netns_own inside_own(struct loader *l);
bool inside_share(uint64_t *used_ns, unsigned count); /* of one pod, or of all Gateways; 0 at first. False: too many */

/* -------- vigil.c: one netns watched without holding it */

struct vigil_room; /* one inotify fd and the slow look, shared by all */
struct vigil;
struct vigil_room *vigil_open(struct loop *loop) must_check; /* NULL: no inotify (errno) */
void vigil_close(struct vigil_room *r);
/*
 * Calls gone(ctx) once, from the loop, when nothing but weft keeps the netns: its path is unlinked or leads elsewhere,
 * or the process of /proc/PID/ns/net has ended and no other is in it.
 */
struct vigil *vigil_start(struct vigil_room *r, const char *path, uint64_t inode, void (*gone)(void *ctx), void *ctx)
	must_check;
void vigil_stop(struct vigil *v);
bool vigil_alive(const struct vigil *v); /* looks now */

#endif
