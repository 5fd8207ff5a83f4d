/* SPDX-License-Identifier: Apache-2.0 */
/*
 * selftest_rig.h: what the rows of the self-test stand on (proc/selftest_rig.c): pairs of connected sockets, the
 * switch from TCP to redirect for each message, and the looks into a socket. Functions return false when the kernel
 * did something else than TCP would; rig_why() then has the sentence, and the row ends.
 *
 * Every byte is a function of its place in its direction, so whatever is heard is checked for order and loss.
 */
#ifndef WEFT_SELFTEST_RIG_H
#define WEFT_SELFTEST_RIG_H

#include <sys/socket.h>

#include "base.h"
#include "selftest_map.h"

#define RIG_WAIT_MS 250 /* for what a good kernel does at once; a busy machine gets its time */

struct rig;

struct rig_end {
	int fd;
	uint32_t port, number;
	uint64_t said, heard; /* bytes */
	uint64_t sock;	      /* kernel address */
	struct rig_end *peer;
};

struct rig_pair {
	struct rig_end client, server;
};

enum rig_by { RIG_TCP, RIG_SPLICE };

/* Needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and a netns of its own, whose loopback it brings up. NULL: *ret_why */
struct rig *rig_open(const char **ret_why);
void rig_close(struct rig *r);

/* Connected, non-blocking, marked; not in the sockhash. rig_part() closes what is open. */
bool rig_connect(struct rig *r, struct rig_pair *p, int family, int buffers);
bool rig_enter(struct rig *r, struct rig_pair *p); /* both, by the iterator */
bool rig_leave(struct rig *r, struct rig_pair *p); /* both out of the sockhash: their queues are empty */
bool rig_pair(struct rig *r, struct rig_pair *p);  /* connect over IPv4 and enter */
void rig_part(struct rig_pair *p);

/* One message, and how it must travel. rig_hear reads exactly `size` bytes in pieces of at most `piece` (0: any). */
bool rig_say(struct rig *r, struct rig_end *from, enum rig_by by, size_t size);
bool rig_hear(struct rig *r, struct rig_end *to, size_t size, size_t piece);
/* As many messages of `size` as the kernel takes, at most `most` bytes. *ret_said: bytes taken */
bool rig_fill(struct rig *r, struct rig_end *from, size_t size, size_t most, size_t *ret_said);
/* What poll says within RIG_WAIT_MS; 0 if nothing of `events` came. */
int rig_await(const struct rig_end *e, int events);
bool rig_nothing(struct rig *r, struct rig_end *to); /* recv says EAGAIN */
bool rig_end_of_stream(struct rig *r, struct rig_end *to);
bool rig_arrived(struct rig *r, const struct rig_end *e);	/* waits until TCP has brought all that was said */
bool rig_inq(struct rig *r, const struct rig_end *e, int want); /* then FIONREAD */

bool rig_look(struct rig *r, const struct rig_end *e, struct selftest_seen *ret);
int rig_other_owner(struct rig *r, const struct rig_end *e); /* into another program's sockhash: 0 or -errno */
bool rig_empty(struct rig *r);				      /* no entry is left in the sockhash */

bool rig_fail(struct rig *r, const char *fmt, ...) printf_like(2, 3); /* false */
bool rig_failed(struct rig *r, const char *call);		       /* false; with errno */
bool rig_lacks(struct rig *r, const char *fmt, ...) printf_like(2, 3); /* true: the row is off in this kernel */
const char *rig_why(const struct rig *r);
bool rig_is_off(const struct rig *r); /* since rig_start_row */
void rig_start_row(struct rig *r);

#endif
