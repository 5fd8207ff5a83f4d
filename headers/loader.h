/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader.h: the kernel side: loads, attaches, pins, takes over (proc/loader.c, proc/pins.c).
 *
 *	/sys/fs/bpf/weft/INSTANCE/NAME		every map of abi.h
 *	                          progs/NAME	every program, for people with bpftool
 *	                          links/NAME	cgroup links and the iterator
 *	                          netns/NUMBER	sk_lookup link of that pod's netns
 *
 * Pins outlive the daemon: the kernel goes on deciding and splicing while no weftd runs. A new weftd takes the maps
 * over if ABI_VERSION and every definition agree, and gives each link the new program in place (BPF_LINK_UPDATE):
 * there is no moment without a program. Sockets that are in `splices` keep the sk_msg program that they were
 * inserted with (facts/kernel.md, fact 8): old and new program of one ABI_VERSION work on the same maps. Maps of
 * another version are replaced; their splice is switched off first, so that their sockets go on by TCP.
 */
#ifndef WEFT_LOADER_H
#define WEFT_LOADER_H

#include "probe.h"

struct loader;

/*
 * Load, attach and pin for `instance`. Programs that the kernel refuses are left out if weft can do without them;
 * rows of `p` say so. Errors are logged. 0 or -errno.
 */
int loader_open(struct loader **ret, const char *instance, struct probe *p) must_check;
void loader_close(struct loader *l); /* closes fds; pins stay */

/* Loads each program by itself, attaches and pins nothing: rows of `p`. 0, or -errno if one that weft needs fails. */
int loader_try(struct probe *p) must_check;

bool loader_live(const struct loader *l); /* WIRE_FD_LIVE is an iterator */
int loader_fd(const struct loader *l, enum wire_fd which); /* borrowed; WIRE_FD_SETTINGS .. WIRE_FD_LIVE */

struct loader_watch { /* fds, borrowed: what proc/watch.c and proc/sweep.c work with */
	int link;    /* iterator weft_watch; -1: the kernel refused it */
	int enter;   /* program weft_enter */
	int watches; /* struct abi_watch, may be mapped */
	int wake;    /* ring buffer */
	int caught;  /* struct abi_caught, may be mapped */
	int members, misled;
	int conns, pairs; /* to write; the worker's only read */
	int holds; /* may be mapped */
};
const struct loader_watch *loader_watch(const struct loader *l);

/* The netns with that cookie is a pod's: how it reads is written down from now on. 0 or -errno */
int loader_member(struct loader *l, uint64_t netns) must_check;
void loader_member_gone(struct loader *l, uint64_t netns);

/*
 * Marks a TCP socket as weft's own (struct abi_own), before the worker gets it: a listener before it listens, and its
 * children are marked with it. 0 or -errno
 */
int loader_own(struct loader *l, int sock, enum abi_path path) must_check;
/* This listening socket of ABI_PORT_INBOUND takes plaintext for the pod; its SO_REUSEPORT group shares it. */
int loader_listener(struct loader *l, uint64_t netns, int sock) must_check;
void loader_listener_gone(struct loader *l, uint64_t netns); /* before its last socket is closed; no error if none */

int loader_reader_lost(struct loader *l) must_check; /* settings.reader_seen = 0 */

int loader_splice(struct loader *l, bool on) must_check; /* the operator's switch; kept over restarts */
bool loader_splice_on(const struct loader *l);

/* Gives the netns its sk_lookup link, or takes the pinned one over. 0 or -errno. */
int loader_inbound(struct loader *l, uint32_t pod, int netns) must_check;
void loader_inbound_gone(struct loader *l, uint32_t pod); /* no error if there is none */
/* All but those that are kept go: one of a weftd that was killed between a link and its name. 0 or -errno */
int loader_inbound_rest(struct loader *l, bool (*stays)(void *ctx, uint32_t pod), void *ctx) must_check;

/* -------- pins.c */

#define PINS_ROOT "/sys/fs/bpf/weft"

/*
 * Removes links, programs and maps of an instance: links are detached, splice switched off, pins unlinked. 0 also if
 * there was nothing; errors are logged.
 */
int pins_remove(const char *instance) must_check;
/* Pin over whatever is at dir/name, in one step for those who look (rename). 0 or -errno */
int pins_replace(int fd, const char *dir, const char *name) must_check;
/* Unlinks all that is pinned in a folder, but for folders in it; links are detached first. 0 or -errno */
int pins_unlink(const char *dir, bool links) must_check;
/* Detaches and unlinks one link, if it is there. */
void pins_drop(const char *dir, const char *name);
/* The same for each link in a folder that is not named by a number that is kept. 0 or -errno */
int pins_rest(const char *dir, bool (*stays)(void *ctx, uint32_t number), void *ctx) must_check;
int pins_folder(const char *path) must_check; /* mkdir, 0700; 0 if it is there */
int pins_switch_off(int settings) must_check; /* splice_off = 1, whatever the version */

#endif
