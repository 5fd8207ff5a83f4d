/* SPDX-License-Identifier: Apache-2.0 */
/* world_edge.h: mesh/world_edge.c, for mesh/world_gateway.c. */
#ifndef WEFT_WORLD_EDGE_H
#define WEFT_WORLD_EDGE_H

#include "world_parts.h"

/* Attaches the routes that name Gateways to the plans of these, which nobody has yet; their statuses are set. */
void world_edge_routes(struct world *w);

#endif
