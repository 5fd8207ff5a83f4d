/* SPDX-License-Identifier: Apache-2.0 */
/* destroy.h: connections that policy now forbids are ended in their pods (proc/destroy.c). */
#ifndef WEFT_DESTROY_H
#define WEFT_DESTROY_H

#include "pods.h"

void destroy(struct pods *pods, const struct wire_destroys *all); /* as WIRE_DESTROY asks; what fails is logged */

#endif
