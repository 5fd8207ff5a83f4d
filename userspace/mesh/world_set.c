/* SPDX-License-Identifier: Apache-2.0 */
/* world_set.c: the policy sets that pods share: born by signature, dying when the last pod leaves. */
#include <string.h>

#include "world_parts.h"

struct policy_set *world_set(const struct world *w, uint32_t number)
{
	list_each(l, &w->all_sets) {
		struct policy_set *s = container_of(l, struct policy_set, all);

		if (s->number == number)
			return s;
	}
	return NULL;
}

void world_set_drop(struct world *w, struct policy_set *s)
{
	list_del(&s->all);
	table_del(&w->sets, &s->link);
	w->set_count--;
	policy_free(s);
}

void world_set_leave(struct world *w, struct world_pod *p)
{
	struct policy_set *s = p->set;

	p->set = NULL;
	if (!s || --s->refs)
		return;
	if (!s->published) {
		world_set_drop(w, s);
		return;
	}
	list_del(&s->all);
	list_add(&w->dead_sets, &s->all);
}

static struct policy_set *find(const struct world *w, const struct text *signature, uint64_t hash)
{
	struct table_link *l = table_first(&w->sets, hash);

	for (; l; l = table_next_same(l)) {
		struct policy_set *s = container_of(l, struct policy_set, link);

		if (s->signature.len == signature->len &&
		    !memcmp(s->signature.data, signature->data, signature->len))
			return s;
	}
	return NULL;
}

struct policy_set *world_set_for(struct world *w, const struct policy_input *in)
{
	struct policy_set *s = policy_new(in), *old;
	uint64_t hash = table_hash(s->signature.data, s->signature.len);

	old = find(w, &s->signature, hash);
	if (old) {
		policy_free(s);
		if (!old->refs) {
			list_del(&old->all);
			list_add(&w->all_sets, &old->all);
		}
		return old;
	}
	policy_build(s, w->trust_domain, &w->identities);
	s->number = w->next_set++;
	table_add(&w->sets, &s->link, hash);
	list_add(&w->all_sets, &s->all);
	w->set_count++;
	return s;
}
