// SPDX-License-Identifier: Apache-2.0
/* publish_policy.c: policy sets and what identities they know. */
#include <stdlib.h>
#include <string.h>

#include "publish_parts.h"

static int put_source(struct publish *p, const struct policy_set *s, const struct policy_source_row *row,
		      const char *what)
{
	struct abi_source_key key = {.set = s->number, .identity = row->identity};

	return publish_put(p, WIRE_FD_SOURCES, &key, &row->bits, what);
}

/* A new identity: every set in the kernel lists it before a pod carries it. */
void publish_identities(struct publish *p)
{
	struct world *w = p->world;
	struct list *lists[] = {&w->all_sets, &w->dead_sets};

	for (unsigned i = 0; i < w->identities.count; i++) {
		struct identity *who = w->identities.all[i];
		int r = 0;

		if (who->published)
			continue;
		for (size_t n = 0; n < array_size(lists); n++) {
			list_each(l, lists[n]) {
				struct policy_set *s = container_of(l, struct policy_set, all);
				const struct policy_source_row *row = policy_learn(s, who);

				if (s->published && row && !r)
					r = put_source(p, s, row, who->principal);
			}
		}
		who->published = !r;
	}
}

static int write_set(struct publish *p, struct policy_set *s)
{
	struct abi_policy head = s->head;
	char what[64 + 2 * WIRE_NAME];
	int r = 0;

	snprintf(what, sizeof(what), "policy set %u%s%s%s%s", s->number, s->policies ? " with " : "",
		 s->policies ? s->policy[0].namespace : "", s->policies ? "/" : "",
		 s->policies ? s->policy[0].name : "");
	for (unsigned i = 0; i < s->sources && !r; i++)
		r = put_source(p, s, &s->source[i], what);
	for (unsigned i = 0; i < s->blocks && !r; i++) {
		struct abi_block_key key = {.prefixlen = 32 + s->block[i].block.bits,
					    .set = s->number,
					    .addr = s->block[i].block.addr};

		r = publish_put(p, WIRE_FD_BLOCKS, &key, &s->block[i].bits, what);
	}
	for (unsigned i = 0; i < s->ports && !r; i++) {
		struct abi_port_key key = {.set = s->number, .port = s->port[i].port};

		r = publish_put(p, WIRE_FD_PORTS, &key, &s->port[i].value, what);
	}
	head.set = s->number;
	if (!r)
		r = publish_put(p, WIRE_FD_POLICIES, &s->number, &head, what);
	return r;
}

void publish_delete_set(struct publish *p, uint32_t number, const struct policy_source_row *source,
			unsigned sources, const struct policy_block_row *block, unsigned blocks,
			const struct policy_port_row *port, unsigned ports)
{
	char what[64];

	snprintf(what, sizeof(what), "old policy set %u", number);
	publish_del(p, WIRE_FD_POLICIES, &number, what);
	for (unsigned i = 0; i < sources; i++)
		publish_del(p, WIRE_FD_SOURCES,
			    &(struct abi_source_key){.set = number, .identity = source[i].identity}, what);
	for (unsigned i = 0; i < blocks; i++)
		publish_del(p, WIRE_FD_BLOCKS,
			    &(struct abi_block_key){.prefixlen = 32 + block[i].block.bits,
						    .set = number,
						    .addr = block[i].block.addr},
			    what);
	for (unsigned i = 0; i < ports; i++)
		publish_del(p, WIRE_FD_PORTS, &(struct abi_port_key){.set = number, .port = port[i].port}, what);
}

void publish_sets(struct publish *p)
{
	list_each(l, &p->world->all_sets) {
		struct policy_set *s = container_of(l, struct policy_set, all);

		if (s->published)
			continue;
		s->failed = write_set(p, s) < 0;
		s->published = !s->failed;
		if (s->failed) /* half of it is of no use, and the room may serve another */
			publish_delete_set(p, s->number, s->source, s->sources, s->block, s->blocks, s->port,
					   s->ports);
	}
}

static bool in_use(const struct world *w, uint32_t number)
{
	list_each(l, &w->enrolled) {
		const struct world_pod *pod = container_of(l, struct world_pod, enrolled_link);

		if (pod->in_kernel && pod->kernel.policy == number)
			return true;
	}
	return false;
}

void publish_dead_sets(struct publish *p)
{
	list_each_safe(l, next, &p->world->dead_sets) {
		struct policy_set *s = container_of(l, struct policy_set, all);

		if (in_use(p->world, s->number))
			continue; /* its successor could not be written: see publish_errors */
		publish_delete_set(p, s->number, s->source, s->sources, s->block, s->blocks, s->port, s->ports);
		world_set_drop(p->world, s);
	}
}
