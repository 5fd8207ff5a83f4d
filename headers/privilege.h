/* SPDX-License-Identifier: Apache-2.0 */
/*
 * privilege.h: which capabilities weftd keeps, and how the worker loses all (proc/privilege.c).
 * docs/operations.md gives the reason of each.
 */
#ifndef WEFT_PRIVILEGE_H
#define WEFT_PRIVILEGE_H

#include "base.h"

/*
 * Called once, when programs are loaded and links are in place: drops every capability that a running
 * supervisor does not use, from the bounding set too, and sets no_new_privs. 0 or -errno.
 */
int privilege_keep(void) must_check;

/*
 * In the child that becomes the worker: no groups, uid and gid given, no capability in any set, no_new_privs.
 * 0 or -errno; on error the child must not exec. Allocates nothing, logs nothing.
 */
int privilege_drop(uid_t uid, gid_t gid) must_check;

/* User of the worker: `weft` if it exists, else 15008 (uid and gid). */
void privilege_worker(uid_t *ret_uid, gid_t *ret_gid);

#endif
