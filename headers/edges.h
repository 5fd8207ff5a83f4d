/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edges.h: the sockets that Gateways listen on, in weftd's own netns, as the supervisor keeps them (proc/edges.c): they
 * outlive the worker, so that who connects while there is none waits.
 */
#ifndef WEFT_EDGES_H
#define WEFT_EDGES_H

#include "loader.h"
#include "wire.h"

#define EDGES_MOST 1024 /* addresses and ports */

struct edges;
struct edges *edges_new(struct loader *l, unsigned threads);
void edges_free(struct edges *e);

/* Another worker begins: what it does not ask for before edges_settle() is closed then. */
void edges_begin(struct edges *e);
void edges_settle(struct edges *e);
/*
 * As WIRE_EDGE_OPEN asks. 0 and the fds of its threads (borrowed), none if it brought some (`fds`, which are kept as
 * copies where there are none yet); or -errno and why, a sentence.
 */
int edges_open(struct edges *e, const struct wire_edge *w, const int *fds, unsigned nfds, int ret[WIRE_FDS],
	       unsigned *ret_nfds, char *why, size_t size) must_check;
void edges_close(struct edges *e, const struct wire_edge *w);
/* As WIRE_SOCKETS asks, of WIRE_GATEWAY. */
int edges_sockets(struct edges *e, const struct wire_sockets *w, int ret[WIRE_SOCKET_BATCH], char *why, size_t size)
	must_check;

#endif
