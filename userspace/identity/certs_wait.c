/* SPDX-License-Identifier: Apache-2.0 */
/* certs_wait.c: a handshake of an identity that may not have its certificate yet (see certs.h). */
#include "certs.h"

#define LONGEST_NS 5000000000ull
#define AGAIN_NS 20000000ull

/* What is called may free w. */
static void look(struct certs_wait *w)
{
	const char *why = "no source of certificates";
	void *ctx = NULL;

	if (w->certs)
		ctx = w->server ? certs_server(w->certs, w->spiffe, &why) : certs_client(w->certs, w->spiffe, &why);
	if (!ctx && w->certs && loop_now(w->loop) < w->until_ns)
		loop_arm(w->loop, &w->again, AGAIN_NS);
	else
		w->got(w, ctx, why);
}

static void again_due(struct loop_timer *t)
{
	look(container_of(t, struct certs_wait, again));
}

void certs_wait(struct certs_wait *w, struct loop *loop)
{
	w->loop = loop;
	w->again.due = again_due;
	w->until_ns = loop_now(loop) + LONGEST_NS;
	look(w);
}

void certs_wait_cancel(struct certs_wait *w)
{
	if (w->loop)
		loop_disarm(w->loop, &w->again);
}
