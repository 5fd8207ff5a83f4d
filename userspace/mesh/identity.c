/* SPDX-License-Identifier: Apache-2.0 */
/* identity.c: numbers for service accounts. */
#include <stdlib.h>
#include <string.h>

#include "policy.h"

static uint64_t name_hash(const char *principal)
{
	return table_hash(principal, strlen(principal));
}

static struct identity *find(const struct identities *t, const char *principal)
{
	struct table_link *l = table_first(&t->by_name, name_hash(principal));

	for (; l; l = table_next_same(l)) {
		struct identity *i = container_of(l, struct identity, link);

		if (text_equal(i->principal, principal))
			return i;
	}
	return NULL;
}

static struct identity *birth(struct identities *t, char *principal, const char *trust_domain,
			      const char *namespace, const char *service_account, uint32_t number)
{
	struct identity *i = mem_alloc(sizeof(*i));

	i->number = number;
	i->principal = principal;
	i->trust_domain = mem_string(trust_domain);
	i->namespace = mem_string(namespace);
	i->service_account = mem_string(service_account);
	i->account = mem_format("%s/%s", namespace, service_account);
	if (t->count == t->size) {
		t->size = t->size ? t->size * 2 : 64;
		t->all = mem_grow(t->all, t->size, sizeof(struct identity *));
	}
	t->all[t->count++] = i;
	if (number >= t->next)
		t->next = number + 1;
	table_add(&t->by_name, &i->link, name_hash(principal));
	return i;
}

struct identity *identity_claim(struct identities *t, const char *trust_domain, const char *namespace,
				const char *service_account, uint32_t number)
{
	char *principal = mem_format("%s/ns/%s/sa/%s", trust_domain, namespace, service_account);
	struct identity *i = find(t, principal);

	if (i) {
		free(principal);
		return i;
	}
	if (!t->next)
		t->next = 1;
	if (!number || identity_by_number(t, number))
		number = t->next;
	return birth(t, principal, trust_domain, namespace, service_account, number);
}

struct identity *identity_get(struct identities *t, const char *trust_domain, const char *namespace,
			      const char *service_account)
{
	return identity_claim(t, trust_domain, namespace, service_account, 0);
}

struct identity *identity_by_number(const struct identities *t, uint32_t number)
{
	/* one per service account with a pod on this node: few; asked by people and by live connections */
	for (unsigned i = 0; i < t->count; i++)
		if (t->all[i]->number == number)
			return t->all[i];
	return NULL;
}

void identities_free(struct identities *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		free((char *)t->all[i]->trust_domain);
		free((char *)t->all[i]->namespace);
		free((char *)t->all[i]->service_account);
		free(t->all[i]->principal);
		free(t->all[i]->account);
		free(t->all[i]);
	}
	free(t->all);
	table_free(&t->by_name);
	*t = (struct identities){0};
}
