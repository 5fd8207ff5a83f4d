/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_oracle.h: what Istio's words say about one connection, by asking every object in turn. Written apart from
 * userspace/mesh/{terms,policy}.c and without their code; slow and plain on purpose.
 */
#ifndef WEFT_POLICY_ORACLE_H
#define WEFT_POLICY_ORACLE_H

#include "model.h"

/* One request; `x-a` is its only field, with so many values. Not http: some other protocol. */
struct oracle_request {
	bool http;
	const char *host, *method, *path, *value[3];
	unsigned values;
};

struct oracle_connection {
	/* destination pod */
	const char *namespace;
	const struct pairs *labels;
	struct abi_addr to;
	uint16_t port;
	/* source */
	bool known; /* has an identity */
	const char *source_trust_domain, *source_namespace, *source_account;
	struct abi_addr from;
	const struct oracle_request *request; /* NULL: nobody has asked for one */
};

/* ABI_NONE, or why it is refused. */
enum abi_reason oracle_decide(const struct store *store, const char *root_namespace,
			      const struct oracle_connection *c);

#endif
