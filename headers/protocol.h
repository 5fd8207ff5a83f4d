/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol.h: what a port of a Service speaks, by what its object says (mesh/protocol.c). Pure. docs/services.md
 * has the table for people.
 */
#ifndef WEFT_PROTOCOL_H
#define WEFT_PROTOCOL_H

#include "model.h"

enum view_protocol {
	VIEW_DETECT, /* nobody said */
	VIEW_TCP,    /* also every server-first protocol */
	VIEW_HTTP,   /* 1.1; a client that speaks HTTP/2 by prior knowledge is understood too */
	VIEW_HTTP2,  /* kubernetes.io/h2c, http2, grpc: what upstream connections speak */
	VIEW_TLS,    /* passed on, routed by SNI */
};

/*
 * appProtocol, else the name of the port up to its first "-", as Istio reads them (pkg/config/kube/conversion.go): any
 * case; an appProtocol that nobody knows is not replaced by the name. Where neither says anything known, the ports of
 * protocols in which the server speaks first are VIEW_TCP.
 */
enum view_protocol protocol_of(const struct service_port *p);
const char *protocol_name(enum view_protocol p); /* "http" */

#endif
