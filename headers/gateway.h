/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway.h: one Gateway as data threads see it (mesh/gateway.c): ports, listeners, and the routes of each host name.
 * Made by mesh/world_gateway.c. docs/gateway.md is the user's view.
 *
 *	port --SNI--> certificate		port --host--> listener --host--> routes
 *
 * Immutable and counted; a change makes another one. A question costs the length of the host name, and the listeners
 * of the Gateway (at most GATEWAY_LISTENERS).
 */
#ifndef WEFT_GATEWAY_H
#define WEFT_GATEWAY_H

#include "route.h"

struct gateway_host { /* routes of one host name: "a.example", "*.example", "" any */
	struct table_link link;
	const char *name;
	struct route_table *routes;
};

struct gateway_listener {
	const char *name, *hostname; /* as in model.h */
	uint32_t number;	     /* its place in spec.listeners */
	uint16_t port;
	bool secure;
	struct table hosts; /* struct gateway_host */
	/* HTTPS: the Secrets that may be used; the control thread's, until the next change of the store */
	const struct object *const *secret;
	unsigned secrets;
};

struct gateway_port {
	uint16_t port;
	bool secure;
	/* HTTPS: what handshakes are made with: set by the control thread before any other has it; NULL: none */
	void *tls;
	void (*tls_free)(void *tls);
};

struct gateway {
	uint32_t holders;
	struct arena arena;
	const char *namespace, *name;
	struct gateway_listener *listener; /* those that are in force */
	unsigned listeners;
	struct gateway_port *port;
	unsigned ports;
	struct abi_addr source[2]; /* IPv4, IPv6: whom an app on this node sees; unspecified: its own pod */
};

struct gateway *gateway_hold(const struct gateway *g);
void gateway_drop(struct gateway *g); /* harmless if NULL */
const struct gateway_port *gateway_port(const struct gateway *g, uint16_t port); /* NULL: none */
/* Whose request for `host` (http_host()) is it: the listener with the most specific name. NULL: nobody's. */
const struct gateway_listener *gateway_listener(const struct gateway *g, uint16_t port, struct http_text host);
/* Routes of the most specific host name; NULL: none. */
const struct route_table *gateway_routes(const struct gateway_listener *l, struct http_text host);

/* Is it that name: "" is any, "*." one label or more. */
bool gateway_name_is(const char *name, struct http_text host);
/* The more specific the higher: an exact name is above all that have a "*.", of these the longest; "" is last. */
size_t gateway_name_rank(const char *name);
/* What both of two names allow: one of them, or NULL. */
const char *gateway_name_both(const char *a, const char *b);

#endif
