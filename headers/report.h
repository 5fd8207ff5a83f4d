/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h: the answers of the admin socket, out of the world, the kernel's maps and the sources. They read only.
 * docs/admin.md has the JSON of each.
 */
#ifndef WEFT_REPORT_H
#define WEFT_REPORT_H

#include "admin.h"
#include "protocol.h"
#include "proxy.h"
#include "publish.h"
#include "source.h"

/* What the answers are made from: the worker's state, which outlives them. Pointers are NULL until there is a world. */
struct report {
	struct world *world;
	struct source *source;
	struct publish *publish;
	int fd[WIRE_FD_COUNT];
	bool ready;
	char why[256]; /* not ready: why */
	bool splice_on, kernel_safe;
	char at_stake[WIRE_STAKE]; /* if not safe: what a forced splice risks */
	uint64_t destroyed; /* connections ended because a policy forbade them */
	uint64_t swept;	    /* records removed because no socket backed them */
	/* of the threads: proxy_relays() and the like, which stand above this room; NULL: there are none */
	int (*relays)(struct proxy *p, struct relay_row **ret, unsigned *ret_count);
	int (*tunnels)(struct proxy *p, struct tunnel_row **ret, unsigned *ret_count);
	int (*stats)(struct proxy *p, struct proxy_stats **ret, unsigned *ret_count);
	struct proxy *proxy;
	struct certs *certs; /* NULL: not yet */
};

/* control/report.c: every command: admin_ask with a struct report. */
struct answer *report_ask(void *ctx, const char *command, const json_t *request);
/* Everything that makes the worker not ready or worth a warning, of sources, world and publication. */
void report_problems(const struct report *r, void (*each)(void *ctx, const struct problem *p), void *ctx,
		     unsigned *ret_errors, unsigned *ret_warnings);

/*
 * control/forced.c: on a kernel that is not safe a warning for each pod of this node and each service with
 * weft.io/splice: always; part of report_problems, apart for the worker's log.
 */
void report_forced(const struct report *r, void (*each)(void *ctx, const struct problem *p), void *ctx);

/* control/name.c: names for what the kernel numbers; JSON strings, "" where there is none */
json_t *name_full(const char *namespace, const char *name);	 /* "shop/web" */
json_t *name_identity(const struct world *w, uint32_t identity); /* "cluster.local/ns/shop/sa/web" */
json_t *name_pod(const struct world *w, uint32_t number);	 /* "shop/web-1" */
json_t *name_service(const struct world *w, uint32_t service);	 /* "shop/web" */
json_t *name_address(const struct abi_addr *a);
json_t *name_place(const char *file, uint32_t line); /* "FILE:LINE" */
/*
 * A pod that a request names, NAMESPACE/NAME. NULL and a sentence in why[]. `enrolled`: it must be of this node.
 */
struct world_pod *name_find_pod(const struct world *w, const char *text, bool enrolled, char why[256]);

/*
 * control/destination.c: 10.0.0.1:80, [fd00::1]:80, NAMESPACE/POD:80, NAME.NAMESPACE:80 (a service), NAMESPACE/NAME,
 * NAME in the namespace of the source; without a port where there is just one.
 */
struct destination {
	const struct world *world;
	const struct world_pod *source;
	/* found */
	struct abi_addr addr;
	struct abi_addr from; /* the source's address that it connects from; zero: it has none of the family */
	uint16_t port;
	char why[256]; /* not found: why, and what to do */
};
bool destination_parse(struct destination *d, const char *text) must_check;
void destination_from(struct destination *d); /* chooses `from` by the family of addr */
/*
 * decide_capture() for a connect() of d->source to an address, or to an endpoint of a service: `front`, NULL for none.
 * ABI_NONE, ABI_TUNNELLED, ABI_PROXIED, ABI_ROUTES, or why it is refused.
 */
enum abi_reason destination_need(const struct destination *d, const struct world_front *front,
				 const struct abi_addr *addr, uint16_t port);

/* control/connections.c */
struct answer *connections_answer(struct report *r, const json_t *request);
/* control/tunnel_report.c */
struct answer *tunnel_report(struct report *r, const json_t *request);
json_t *tunnel_report_threads(const struct report *r); /* what each thread of the data plane has and did */
/* control/cert_report.c: certs, issue; what status says of them; what makes us not ready */
struct answer *cert_report(struct report *r, const json_t *request);
struct answer *cert_report_issue(struct report *r, const json_t *request);
json_t *cert_report_status(const struct report *r);
void cert_report_problems(const struct report *r, void (*each)(void *ctx, const struct problem *p), void *ctx);
/* control/traffic.c */
struct answer *traffic_answer(struct report *r, const json_t *request);
/*
 * Counters of pods and services that are gone stay for whoever asks late, until their map has more than `above` rows:
 * then they make room. Returns how many went, or -errno.
 */
int traffic_make_room(const struct report *r, unsigned above) must_check;
/* One counter of map `reasons`, of all CPUs. 0 or -errno */
int traffic_reason(int map, uint32_t reason, uint64_t *ret) must_check;
/* Adds to a counter that only the worker counts. */
int traffic_reason_add(int map, uint32_t reason, uint64_t more) must_check;
/* control/route_report.c */
struct answer *route_report(struct report *r, const json_t *request);
/* control/gateway_report.c */
struct answer *gateway_report(struct report *r, const json_t *request);
/* control/explain.c */
struct answer *explain_answer(struct report *r, const json_t *request);

#endif
