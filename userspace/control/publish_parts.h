/* SPDX-License-Identifier: Apache-2.0 */
/* publish_parts.h: what the parts of publish (control/publish*.c) share. */
#ifndef WEFT_PUBLISH_PARTS_H
#define WEFT_PUBLISH_PARTS_H

#include "kernel.h"
#include "publish.h"

#define PUBLISH_ERRORS 64

struct publish_keys { /* keys to delete in one go */
	char *key;
	size_t key_size;
	unsigned count, size;
};

struct publish_orphan { /* a pod of the kernel that nobody has enrolled since the start */
	uint64_t netns;
	struct abi_pod row;
};

/* A set that was in the kernel at the start; rows in the order of struct policy_set. */
struct publish_found {
	uint32_t number;
	bool head_there, taken;
	struct abi_policy head;
	struct policy_source_row *source;
	struct policy_block_row *block;
	struct policy_port_row *port;
	unsigned sources, blocks, ports;
	struct table_link link;
};

struct publish {
	struct world *world;
	const int *fd; /* by enum wire_fd */
	int fds[WIRE_FD_COUNT];
	struct publish_orphan *orphan;
	unsigned orphans;
	bool all_enrolled;
	struct table found;
	struct publish_keys stray;	   /* endpoints of no generation in force */
	struct publish_keys old_endpoints; /* of generations that are no longer in force */
	char *error[PUBLISH_ERRORS + 1];
	unsigned errors;
	int first_error;
	struct publish_stats stats;
};

/* ------------------------------------------------------------------ publish_write.c */

/* One element; an error is named by `what` and remembered. */
int publish_put(struct publish *p, enum wire_fd map, const void *key, const void *value, const char *what)
	must_check;
void publish_del(struct publish *p, enum wire_fd map, const void *key, const char *what);
void publish_fail(struct publish *p, int error, enum wire_fd map, const char *what);
void publish_later(struct publish_keys *k, const void *key, size_t key_size);
void publish_del_all(struct publish *p, enum wire_fd map, struct publish_keys *k, const char *what);

/* ------------------------------------------------------------------ publish_found.c: what was there at the start */

int publish_read(struct publish *p) must_check;
/* Sets of the world that the kernel has already keep their number there. */
void publish_adopt_sets(struct publish *p);
/* Remove the sets that nobody uses; keeps those of orphans. */
void publish_sweep_found(struct publish *p);
void publish_found_free(struct publish *p);

/* ------------------------------------------------------------------ publish_policy.c */

void publish_identities(struct publish *p);
void publish_sets(struct publish *p);
void publish_dead_sets(struct publish *p);

/* The rows of sets as the maps have them, to be written or deleted in one go. */
struct publish_rows {
	struct publish_keys keys[WIRE_FD_COUNT]; /* of sources, blocks, ports, policies */
	struct publish_keys values[WIRE_FD_COUNT];
};
void publish_rows_found(struct publish_rows *to, const struct publish_found *f);
void publish_delete_rows(struct publish *p, struct publish_rows *rows, const char *what); /* and forgets them */

/* ------------------------------------------------------------------ publish_services.c */

/* Next generations and their switch; what they replace goes to old_endpoints. */
void publish_fronts(struct publish *p);
/* Services that are gone: after their VIPs. */
void publish_gone_fronts(struct publish *p);

#endif
