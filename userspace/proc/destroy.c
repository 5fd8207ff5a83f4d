/* SPDX-License-Identifier: Apache-2.0 */
/* destroy.c: see destroy.h. */
#include "destroy.h"

#include <errno.h>
#include <string.h>

#include "netlink.h"

/* Connections of one pod, one after the other in the message. */
static void destroy_some(struct pods *pods, const struct wire_destroy *d, unsigned count)
{
	struct pod *pod = pods_by_netns(pods, d->netns, false);
	int result[WIRE_DESTROYS], diag, err;
	unsigned failed = 0;

	if (!pod)
		return; /* it left, and its sockets with it */
	diag = pods_diag(pod);
	err = diag < 0 ? diag : netlink_diag_destroy_many(diag, d, count, result);
	for (unsigned i = 0; i < count && diag >= 0; i++) {
		if (!result[i] || result[i] == -ENOENT) /* closed meanwhile */
			continue;
		failed++;
		err = result[i];
	}
	if (diag < 0)
		failed = count;
	if (err)
		log_warning("pod %s/%s: policy forbids %u connection%s, which cannot be ended: %s", pod->namespace,
			    pod->name, failed, text_plural(failed), strerror(-err));
}

void destroy(struct pods *pods, const struct wire_destroys *all)
{
	const struct wire_destroy *d = all->item;
	unsigned count = all->count, from = 0;

	if (count > WIRE_DESTROYS)
		return;
	for (unsigned i = 1; i <= count; i++) {
		if (i < count && d[i].netns == d[from].netns)
			continue;
		destroy_some(pods, d + from, i - from);
		from = i;
	}
}
