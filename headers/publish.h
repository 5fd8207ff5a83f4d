/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.h: the world's rows into the kernel maps (control/publish.c), in an order that never shows half a
 * change (abi.h): a new identity is in all sets before a pod carries it; a set is complete before a pod uses
 * it; a generation of endpoints is complete before its service switches; what was replaced goes last.
 *
 *	p = publish_new(w, fds, &error)	reads what the kernel has: before the first world_update()
 *	world_update(w); publish(p);	writes the differences
 *
 * The worker may have been killed at any point of a write: what it left behind is found by publish_new and
 * removed by the first publish(), and what is right is not touched.
 */
#ifndef WEFT_PUBLISH_H
#define WEFT_PUBLISH_H

#include "world.h"

struct publish_stats {
	unsigned updates, deletes; /* map elements written by the last publish() */
	uint64_t took_ns;	   /* the last publish() */
};

struct publish;
/* fds as they came with WIRE_START (borrowed). NULL with *ret_error -errno: a map could not be read. */
struct publish *publish_new(struct world *w, const int fds[WIRE_FD_COUNT], int *ret_error) must_check;
void publish_free(struct publish *p); /* the kernel keeps what it has */
/*
 * Write what differs. 0, or the first -errno: what could not be written stays as it was in the kernel, is named
 * by publish_errors() and tried again by the next publish().
 */
int publish(struct publish *p) must_check;
/*
 * publish() in two halves, for a caller that has something to do as soon as the kernel decides by the new world: first
 * everything that it reads from now on, then away with what it reads no longer. The sweep follows each switch, before
 * the world changes again, and returns what publish() does.
 */
void publish_switch(struct publish *p);
int publish_sweep(struct publish *p) must_check;
/*
 * Pods that the kernel had at the start stay as they are until they are enrolled again. When the supervisor has
 * named all: forget the others with the next publish().
 */
void publish_all_enrolled(struct publish *p);
unsigned publish_waiting(const struct publish *p); /* pods of the kernel that are not enrolled again yet */
/* Sentences about what the last publish() could not write; NULL-terminated, owned by p. */
const char *const *publish_errors(const struct publish *p, unsigned *ret_count);
const struct publish_stats *publish_stats(const struct publish *p);

#endif
