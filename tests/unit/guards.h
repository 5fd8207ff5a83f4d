/* SPDX-License-Identifier: Apache-2.0 */
/* guards.h: a site (site.h) whose pod 1002 has a policy that asks for what HTTP says, and connections to it. */
#ifndef WEFT_TEST_GUARDS_H
#define WEFT_TEST_GUARDS_H

#include "site.h"

#define SPIFFE "spiffe://cluster.local/ns/shop/sa/client"
#define CLIENT 1001
#define POD 1002

/* A connection of the client's pod: the far ends of what the client and the app have. */
static void guard(int fd[2])
{
	const struct guard_plan plan = {.kind = RELAY_LOCAL,
					.netns = CLIENT,
					.to = POD,
					.spiffe = SPIFFE,
					.client = scene_addr("10.1.0.1"),
					.server = scene_addr("10.1.0.2"),
					.client_port = 4711,
					.server_port = 80};
	int client[2], app[2];

	pair(client);
	pair(app);
	guard_begin(&site, sock_stream(thread, client[0]), sock_stream(thread, app[0]), &plan);
	fd[0] = client[1];
	fd[1] = app[1];
}

static inline int guards_setup(const char *rules)
{
	int r = site_begin(NULL);

	site_policy("ALLOW", rules);
	return r;
}

static void guards_clear(void)
{
	guards_end(&site, 0, ABI_RESET, "the test has failed");
}

static int each_teardown(void **state)
{
	return site_end(guards_clear);
}

#endif
