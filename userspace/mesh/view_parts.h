/* SPDX-License-Identifier: Apache-2.0 */
/* view_parts.h: what the parts of the view (mesh/view*.c) share; after urcu-qsbr.h and urcu/rculfhash.h. */
#ifndef WEFT_VIEW_PARTS_H
#define WEFT_VIEW_PARTS_H

#include "view.h"

/* ------------------------------------------------------------------ view_service.c */

struct view_services {
	struct cds_lfht *by_name, *by_number; /* struct service, struct number */
	bool changed;			      /* since view_update() looked */
	/* of the control thread */
	struct table groups; /* struct group: entries of one Service */
	struct table loads;  /* struct load */
	struct list idle;    /* those of `loads` that no entry has */
	struct list leaving; /* struct service: still found, until view_services_leave() */
};

struct cds_lfht *view_table_new(void);
/* Takes every entry out and gives it to `gone`. Readers are none any more. */
void view_table_free(struct cds_lfht *t, void (*gone)(struct cds_lfht_node *n));
struct cds_lfht_node *view_table_find(struct cds_lfht *t, uint64_t hash, cds_lfht_match_fct match, const void *key);

void view_services_new(struct view_services *v);
void view_services_free(struct view_services *v);
/* What the last world_update() changed. */
void view_services_take(struct view_services *v, const struct world *w);
/* Those that it left out are found no more; waits until every data thread has ended its turn, if there are any. */
void view_services_leave(struct view_services *v);

/* ------------------------------------------------------------------ view.c */

struct view {
	struct cds_lfht *peers, *pods;
	struct view_services services;
	uint64_t generation; /* the last one given */
	/* gathered, not yet taken in */
	struct abi_addr *addr;
	unsigned addrs, addr_size;
	uint64_t *netns;
	unsigned netnses, netns_size;
};

#endif
