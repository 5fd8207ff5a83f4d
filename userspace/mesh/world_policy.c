/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_policy.c: which policy set each enrolled pod has. Pods that the same objects select share the compilation,
 * pods whose policies say the same share the set.
 */
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

#define NAMESPACES_MAX 64 /* more changed at once: look at all pods */

void world_policy_changed(struct world *w, const char *namespace)
{
	if (text_equal(namespace, w->root_namespace) || w->policy_namespaces == NAMESPACES_MAX)
		w->policies_all = true;
	for (unsigned i = 0; i < w->policy_namespaces; i++)
		if (!strcmp(w->policy_namespace[i], namespace))
			return;
	if (w->policies_all)
		return;
	w->policy_namespace = mem_grow(w->policy_namespace, w->policy_namespaces + 1, sizeof(char *));
	w->policy_namespace[w->policy_namespaces++] = mem_string(namespace);
}

static bool affected(const struct world *w, const struct world_pod *p)
{
	if (p->changed || w->policies_all)
		return true;
	for (unsigned i = 0; i < w->policy_namespaces; i++)
		if (!strcmp(w->policy_namespace[i], p->namespace))
			return true;
	return false;
}

/* ------------------------------------------------------------------ selection */

/*
 * A namespace may have thousands of policies and a node hundreds of pods. Most policies select by labels that the pod
 * has not: that is seen by one number.
 */
struct entry {
	const struct object *object;
	uint64_t wants; /* label_hash of the first pair of the selector, 0 if it has none */
};

struct objects { /* of the store, in order of namespace and name */
	struct entry *item;
	unsigned count, size;
};

static uint64_t label_hash(const struct pair *label)
{
	return world_name_hash(label->key, label->value) | 1;
}

static int compare(const void *pa, const void *pb)
{
	const struct object *a = ((const struct entry *)pa)->object, *b = ((const struct entry *)pb)->object;
	int c = strcmp(a->namespace, b->namespace);

	return c ? c : strcmp(a->name, b->name);
}

static void gather(const struct world *w, enum object_kind kind, struct objects *ret)
{
	for (struct object *o = store_each(w->store, kind, NULL); o; o = store_each(w->store, kind, o)) {
		const struct pairs *selector =
			kind == KIND_AUTHORIZATION_POLICY ? &o->authorization.selector : &o->peer.selector;

		if (ret->count == ret->size) {
			ret->size = ret->size ? ret->size * 2 : 64;
			ret->item = mem_grow(ret->item, ret->size, sizeof(*ret->item));
		}
		ret->item[ret->count++] = (struct entry){
			.object = o, .wants = selector->count ? label_hash(&selector->item[0]) : 0};
	}
	if (ret->count)
		qsort(ret->item, ret->count, sizeof(*ret->item), compare);
}

/* The first item whose namespace is not before this one, or (`behind`) is after it. */
static unsigned edge(const struct objects *all, const char *namespace, bool behind)
{
	unsigned low = 0, high = all->count;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (strcmp(all->item[mid].object->namespace, namespace) < behind)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* What may select a pod, of its namespace and of the root namespace, into `out` in order of namespace and name. */
static unsigned candidates(const struct world *w, const struct objects *all, const char *namespace,
			   const struct pairs *labels, const struct object **out)
{
	const char *space[2] = {namespace, w->root_namespace};
	int order = strcmp(namespace, w->root_namespace);
	uint64_t *has = mem_alloc(labels->count * sizeof(*has) + 1);
	unsigned n = 0;

	for (unsigned l = 0; l < labels->count; l++)
		has[l] = label_hash(&labels->item[l]);
	for (int i = 0; i < (order ? 2 : 1); i++) {
		const char *in = space[order > 0 ? !i : i];
		unsigned end = edge(all, in, true);

		for (unsigned at = edge(all, in, false); at < end; at++) {
			uint64_t wants = all->item[at].wants;
			unsigned l = 0;

			while (wants && l < labels->count && has[l] != wants)
				l++;
			if (!wants || l < labels->count)
				out[n++] = all->item[at].object;
		}
	}
	free(has);
	return n;
}

struct chosen { /* what this update has compiled already */
	struct table_link link;
	struct policy_set *set;
	struct policy_mtls mtls;
	unsigned count;
	const struct object *policy[];
};

static bool asks_destination(const struct object *o)
{
	for (unsigned r = 0; r < o->authorization.rules; r++)
		for (unsigned c = 0; c < o->authorization.rule[r].whens; c++)
			if (o->authorization.rule[r].when[c].key == WHEN_DESTINATION_IP)
				return true;
	return false;
}

static uint64_t choice_hash(const struct policy_input *in)
{
	uint64_t pair[4] = {table_hash(in->policy, in->policies * sizeof(*in->policy)), in->mtls.mtls,
			    (uintptr_t)in->mtls.from, (uintptr_t)in->mtls.port_from};

	return table_hash(pair, sizeof(pair));
}

static struct policy_set *choose(struct world *w, struct table *seen, const struct policy_input *in)
{
	uint64_t hash = choice_hash(in);
	struct chosen *c;

	for (unsigned i = 0; i < in->policies; i++)
		if (asks_destination(in->policy[i]))
			return world_set_for(w, in);
	for (struct table_link *l = table_first(seen, hash); l; l = table_next_same(l)) {
		c = container_of(l, struct chosen, link);
		if (c->count == in->policies && c->mtls.mtls == in->mtls.mtls &&
		    c->mtls.from == in->mtls.from && c->mtls.port_from == in->mtls.port_from &&
		    !memcmp(c->policy, in->policy, c->count * sizeof(*c->policy)))
			return c->set;
	}
	c = mem_alloc(sizeof(*c) + in->policies * sizeof(*c->policy));
	c->mtls = in->mtls;
	c->count = in->policies;
	memcpy(c->policy, in->policy, c->count * sizeof(*c->policy));
	c->set = world_set_for(w, in);
	c->set->refs++; /* while it is remembered: pods come and go meanwhile */
	table_add(seen, &c->link, hash);
	return c->set;
}

static void forget(struct world *w, struct table *seen)
{
	struct table_link *l = table_walk(seen, NULL), *next;

	for (; l; l = next) {
		struct chosen *c = container_of(l, struct chosen, link);
		struct world_pod nobody = {.set = c->set};

		next = table_walk(seen, l);
		table_del(seen, l);
		world_set_leave(w, &nobody);
		free(c);
	}
	table_free(seen);
}

static void assign(struct world *w, struct world_pod *p, struct policy_set *s)
{
	if (p->set == s)
		return;
	s->refs++;
	world_set_leave(w, p);
	p->set = s;
	world_pod_dirty(w, p);
}

static void update_pods(struct world *w)
{
	struct objects policies = {0}, peers = {0};
	const struct object **policy, **peer;
	struct table seen = {0};

	gather(w, KIND_AUTHORIZATION_POLICY, &policies);
	gather(w, KIND_PEER_AUTHENTICATION, &peers);
	policy = mem_alloc(policies.count * sizeof(*policy) + 1);
	peer = mem_alloc(peers.count * sizeof(*peer) + 1);
	list_each(l, &w->enrolled) {
		struct world_pod *p = container_of(l, struct world_pod, enrolled_link);
		const struct pairs *labels = world_pod_labels(p);
		struct policy_input in = {.policy = policy, .addr = p->addr, .addrs = p->addrs};
		unsigned n;

		if (!affected(w, p))
			continue;
		n = candidates(w, &policies, p->namespace, labels, policy);
		for (unsigned i = 0; i < n; i++)
			if (policy_selects(policy[i], w->root_namespace, p->namespace, labels))
				policy[in.policies++] = policy[i];
		n = candidates(w, &peers, p->namespace, labels, peer);
		policy_mtls(peer, n, w->root_namespace, p->namespace, labels, &in.mtls);
		assign(w, p, choose(w, &seen, &in));
	}
	forget(w, &seen);
	free(policies.item);
	free(peers.item);
	free(policy);
	free(peer);
}

void world_policy_update(struct world *w)
{
	bool any = w->policies_all || w->policy_namespaces;

	list_each(l, &w->changed_pods)
		any |= container_of(l, struct world_pod, changed_link)->enrolled != NULL;
	if (any && w->enrolled_count)
		update_pods(w);
	for (unsigned i = 0; i < w->policy_namespaces; i++)
		free(w->policy_namespace[i]);
	free(w->policy_namespace);
	w->policy_namespace = NULL;
	w->policy_namespaces = 0;
	w->policies_all = false;
}
