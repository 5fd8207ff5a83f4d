/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k8s_kinds.h: the decoders of single kinds, called by mesh/k8s.c with the envelope (apiVersion, kind, metadata)
 * already read. `root` is the whole object. Errors are reported through the field and counted in root->d.
 */
#ifndef WEFT_K8S_KINDS_H
#define WEFT_K8S_KINDS_H

#include "field.h"

void k8s_core_decode(const struct field *root); /* Node, Pod, Service, EndpointSlice */
/*
 * AuthorizationPolicy, PeerAuthentication. False: right, but without effect (AUDIT, dry-run; a warning says so).
 * With errors the object's selector and action are still what could be read safely: k8s_security_stand_in.
 */
bool k8s_security_decode(const struct field *root);
/* Turns an object that has errors into one that closes what it selects. */
void k8s_security_stand_in(struct object *o);

#endif
