/* SPDX-License-Identifier: Apache-2.0 */
/* worker_stale.c: records of connections that no socket backs are told to the supervisor: see worker.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "live.h"
#include "worker.h"

void worker_stale_look(struct link *l, const struct report *r, struct worker_told *told)
{
	struct wire_stale *s = mem_alloc(sizeof(*s));
	int err = live_stale(r->fd[WIRE_FD_CONNS], r->fd[WIRE_FD_LIVE], clock_ns(), s);

	if (err)
		worker_told_say(told, LOG_WARNING, "sweep",
				"the sockets of live connections cannot be listed: stale records stay in the kernel");
	else if (s->count)
		worker_link_stale(l, s);
	free(s);
}

bool worker_stale_swept(struct report *r, struct worker_told *told, int number)
{
	if (number == -EAGAIN)
		return true;
	if (number < 0)
		worker_told_say(told, LOG_WARNING, "swept", "weftd cannot remove records that no socket backs");
	if (number <= 0)
		return false;
	log_info("%d record%s of connections without a socket removed", number, text_plural((unsigned)number));
	r->swept += (uint64_t)number;
	return number == WIRE_STALES;
}
