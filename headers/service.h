/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h: which endpoints a port of a Service has, and the alias table that the kernel picks by
 * (mesh/service.c). Pure. docs/services.md is the user's view.
 */
#ifndef WEFT_SERVICE_H
#define WEFT_SERVICE_H

#include "model.h"

/* One candidate: an address that some slice or pod offers for the port. */
struct service_pick {
	struct abi_addr addr;
	uint16_t port;
	uint16_t weight;
	bool ready, serving, terminating;
};
struct service_picks { /* zeroed = empty; free(pick) */
	struct service_pick *pick;
	unsigned count, size;
};
void service_pick_add(struct service_picks *p, const struct service_pick *one);
/* All endpoints of a slice of one family for the port. False: the slice has no such port. */
bool service_pick_slice(struct service_picks *p, const struct object_slice *slice,
			const struct service_port *port, bool ipv6);

/*
 * The rules of kube-proxy: the ready ones; if there is none, those that are serving while they terminate;
 * all of them with publishNotReadyAddresses. Weight 0 takes nothing. Sorts and cuts *p to what is left.
 */
void service_choose(struct service_picks *p, bool publish_not_ready);

/*
 * Alias table over p[0..count): fills addr, port, weight, share and alias; not service, generation.
 * Exact to 2^-32 per entry. O(count).
 */
void service_alias(const struct service_pick *p, unsigned count, struct abi_endpoint *ret);

#endif
