/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k8s_kinds.h: the decoders of single kinds, called by mesh/k8s.c with the envelope (apiVersion, kind, metadata)
 * already read. `root` is the whole object. Errors are reported through the field and counted in root->d.
 */
#ifndef WEFT_K8S_KINDS_H
#define WEFT_K8S_KINDS_H

#include "field.h"

struct route_filter;

void k8s_core_decode(const struct field *root);	 /* Node, Pod, Service, EndpointSlice */
void k8s_route_decode(const struct field *root); /* HTTPRoute, GRPCRoute, TLSRoute, TCPRoute */
void k8s_grant_decode(const struct field *root); /* ReferenceGrant */
void k8s_edge_gateway(const struct field *root); /* Gateway */
void k8s_edge_secret(const struct field *root);  /* Secret */
/* A host name, or one behind "*.", in lower case in the object's arena; NULL: absent or wrong (reported). */
const char *k8s_edge_hostname(const struct field *f);


/* -------- mesh/k8s_route_filter.c, for routes alone */

/* Into the object's arena; NULL if there is none. `rule`: of a rule, not of a backend. */
struct route_filter *k8s_route_filters(const struct field *list, bool grpc, unsigned *ret_count);
/* Does one of them replace the prefix that matched? */
bool k8s_route_replaces_prefix(const struct route_filter *f, unsigned count);
bool k8s_route_redirects(const struct route_filter *f, unsigned count);
/* group, kind, namespace, name, port of something that is to get requests. False: reported. */
bool k8s_route_backend_ref(const struct field *f, struct object_route_backend *ret);
/* A name of a header, in the object's arena, in lower case if asked for; NULL: absent or wrong (reported). */
const char *k8s_route_header_name(const struct field *f, bool lower);
/*
 * AuthorizationPolicy, PeerAuthentication. False: right, but without effect (AUDIT, dry-run; a warning says so).
 * With errors the object's selector and action are still what could be read safely: k8s_security_stand_in.
 */
bool k8s_security_decode(const struct field *root);
/* Turns an object that has errors into one that closes what it selects. */
void k8s_security_stand_in(struct object *o);

#endif
