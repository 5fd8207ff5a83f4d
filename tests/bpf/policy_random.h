/* SPDX-License-Identifier: Apache-2.0 */
/* policy_random.h: random objects from small universes, so that rules and connections often meet. */
#ifndef WEFT_POLICY_RANDOM_H
#define WEFT_POLICY_RANDOM_H

#include "model.h"

struct random_source {
	uint64_t state;
};
uint32_t random_draw(struct random_source *r, uint32_t below);
bool random_chance(struct random_source *r, unsigned percent);
const char *random_of(struct random_source *r, const char *const *list, unsigned count);
struct abi_addr random_addr(struct random_source *r, bool ipv6);
uint16_t random_port(struct random_source *r);
const char *random_namespace(struct random_source *r);
const char *random_account(struct random_source *r);
const char *random_host(struct random_source *r);
const char *random_method(struct random_source *r);
const char *random_path(struct random_source *r);
const char *random_value(struct random_source *r);
/* "app=web" and the like into `text` as wire_pod has them. */
void random_labels(struct random_source *r, char *text, size_t size);
struct object *random_policy(struct random_source *r, const char *namespace, const char *name);
struct object *random_peer(struct random_source *r, const char *namespace, const char *name);

#define RANDOM_ROOT "istio-system"
#define RANDOM_TRUST_DOMAIN "cluster.local"

#endif
