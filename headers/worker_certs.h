/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_certs.h: certificates in the worker (proc/worker_certs.c): their files by way of the supervisor, and which
 * identities this node's pods have.
 */
#ifndef WEFT_WORKER_CERTS_H
#define WEFT_WORKER_CERTS_H

#include "certs.h"
#include "wire.h"
#include "world.h"

struct link;
struct worker_certs;

/* `notify` (WIRE_FD_CERTS) is taken. Never fails: what is wrong with the folder is certs_problem(). */
struct worker_certs *worker_certs_open(struct loop *loop, struct link *link, const struct wire_start *start,
				       int notify) must_check;
struct certs *worker_certs(struct worker_certs *w);
/* WIRE_CERTS has come; the fds are taken. */
void worker_certs_got(struct worker_certs *w, const struct wire *m, const int *fds, unsigned nfds);
void worker_certs_back(struct worker_certs *w); /* another supervisor: asks it what the last one did not answer */
/* After each publication: identities of pods that came are needed, those of pods that left are not any more. */
void worker_certs_update(struct worker_certs *w, const struct world *world);

#endif
