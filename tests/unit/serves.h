/* SPDX-License-Identifier: Apache-2.0 */
/* serves.h: the end of a site (site.h) that has served clients by stalls_start(), exchanges and relays. */
#ifndef WEFT_TEST_SERVES_H
#define WEFT_TEST_SERVES_H

#include "../../userspace/proxy/exchange.h"
#include "site.h"

static void relay_over(struct list *l, void *arg)
{
	relay_close(container_of(l, struct relay, link), ABI_RESET, "the test is over");
}

static inline void serves_over(void)
{
	serves_end(&site, 0, ABI_RESET, "the test is over");
	list_visit(&site.relays, relay_over, NULL);
	loop_disarm(loop, &site.stalls);
	rest();
	exchanges_free(&site);
}

#endif
