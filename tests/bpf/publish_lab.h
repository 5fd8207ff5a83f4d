/* SPDX-License-Identifier: Apache-2.0 */
/* publish_lab.h: a small mesh that changes at random, and what the kernel should hold for it by naive loops. */
#ifndef WEFT_PUBLISH_LAB_H
#define WEFT_PUBLISH_LAB_H

#include "policy_random.h"
#include "publish.h"

#define PODS 8
#define SERVICES 6
#define VIPS 8

struct enrolled { /* what the supervisor would remember */
	bool in;
	char account[32];
	char labels[64];
	char annotations[160];
	unsigned netns;
};

struct lab {
	struct random_source r;
	struct store *store;
	struct world *world;
	struct publish *publish;
	int fd[WIRE_FD_COUNT];
	struct enrolled pod[PODS];
	unsigned killed; /* workers, in the middle of a publish */
	bool node;	 /* the node has an address of its own, which is VIP 0 */
};

/* ------------------------------------------------------------------ publish_lab.c */

const char *lab_space(unsigned n); /* of pod n % 3, of service n % 2 */
struct abi_addr lab_vip(unsigned n);
struct abi_addr lab_pod_addr(unsigned slot, unsigned which); /* 0: v4, 1: v6, 2: another v4 */
void lab_enrol(struct lab *l, unsigned slot);
void lab_mutate(struct lab *l);

/* ------------------------------------------------------------------ publish_oracle.c */

struct lab_endpoint {
	struct abi_addr addr;
	uint16_t port;
	unsigned weight;
	bool ready, serving, terminating;
};
struct lab_endpoints {
	struct lab_endpoint one[64];
	unsigned count;
};
/* The Service that has this VIP and port, and which of its ports; NULL: none. */
const struct object *lab_owner(const struct lab *l, const struct abi_service_key *key, unsigned *ret_port);
void lab_expect(const struct lab *l, const struct object *svc, unsigned port, bool v4, struct lab_endpoints *ret);
enum abi_kind lab_kind(const struct lab *l, const struct abi_addr *a);
unsigned lab_flags(const struct lab *l, unsigned slot); /* ABI_POD_* of a pod that is enrolled or has an object */
unsigned lab_address_flags(const struct lab *l, const struct abi_addr *a); /* ABI_ADDRESS_* */
/* What connect() of a pod does with an address that is not its own; svc: the Service by which it came, or NULL. */
enum abi_reason lab_need(const struct lab *l, unsigned from, const struct abi_addr *to, uint16_t port,
			 const struct object *svc);

#endif
