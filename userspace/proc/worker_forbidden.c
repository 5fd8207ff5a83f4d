/* SPDX-License-Identifier: Apache-2.0 */
/* worker_forbidden.c: connections that a policy now forbids are ended: see worker.h. */
#include <stdlib.h>
#include <string.h>

#include "live.h"
#include "worker.h"

#define AGAIN_NS 1000000000ull	    /* handshakes that were under way when a policy changed */
#define STRAGGLER_NS 16000000000ull /* the longest wait for those; then the sweep looks */
#define LEFT_OVER_NS 20000000ull    /* until the first look at what should be gone by now, */
#define A_DESTROY_NS 20000ull	    /* and for each connection what weftd needs to end it, twice over */

unsigned worker_forbidden_end(struct worker_forbidden *f, bool both)
{
	struct report *r = f->report;
	struct wire_destroy *list;
	unsigned count, conns;
	int err = live_forbidden(r->fd[WIRE_FD_CONNS], r->world, both, &list, &count, &conns);

	if (err) {
		log_error("live connections cannot be read, so that none is ended: %s", strerror(-err));
		return 0;
	}
	worker_link_destroy(f->link, list, count);
	free(list);
	if (!conns)
		return 0;
	r->destroyed += conns;
	log_info("policy ends %u live connection%s that it now forbids", conns, text_plural(conns));
	err = traffic_reason_add(r->fd[WIRE_FD_REASONS], ABI_POLICY_CHANGED, conns);
	if (err)
		log_debug("counter policy_changed: %s", strerror(-err));
	return conns;
}

/*
 * A handshake that was under way when the policy changed leaves no socket to end until it is over, and the peer
 * decides when: with TCP_DEFER_ACCEPT when it first speaks. So look again, less and less often, and with each sweep.
 */
static void straggler_due(struct loop_timer *t)
{
	struct worker_forbidden *f = container_of(t, struct worker_forbidden, straggler);

	(void)worker_forbidden_end(f, true);
	f->straggler_ns = f->straggler_ns < AGAIN_NS ? AGAIN_NS : 2 * f->straggler_ns;
	if (f->straggler_ns <= STRAGGLER_NS)
		loop_arm(f->loop, &f->straggler, f->straggler_ns);
}

void worker_forbidden_switched(struct worker_forbidden *f)
{
	f->straggler.due = straggler_due;
	f->straggler_ns = LEFT_OVER_NS + A_DESTROY_NS * worker_forbidden_end(f, false);
	loop_arm(f->loop, &f->straggler, f->straggler_ns);
}
