/* SPDX-License-Identifier: Apache-2.0 */
/* world_label.c: which pods carry a label, which services select by it. */
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

/* The key as one run of bytes; free() it. */
static char *key_of(const char *namespace, const struct pair *pair, size_t *ret_len)
{
	size_t a = strlen(namespace) + 1, b = strlen(pair->key) + 1;
	size_t c = pair->value ? strlen(pair->value) + 1 : 0;
	char *text = mem_alloc(a + b + c);

	memcpy(text, namespace, a);
	memcpy(text + a, pair->key, b);
	if (c)
		memcpy(text + a + b, pair->value, c);
	*ret_len = a + b + c;
	return text;
}

static struct world_label *find(const struct world *w, const char *text, size_t len, uint64_t hash)
{
	struct table_link *l = table_first(&w->labels, hash);

	for (; l; l = table_next_same(l)) {
		struct world_label *label = container_of(l, struct world_label, link);

		if (label->len == len && !memcmp(label->text, text, len))
			return label;
	}
	return NULL;
}

struct world_label *world_label_find(const struct world *w, const char *namespace, const struct pair *pair)
{
	size_t len;
	char *text = key_of(namespace, pair, &len);
	struct world_label *label = find(w, text, len, table_hash(text, len));

	free(text);
	return label;
}

void world_label_join(struct world *w, struct world_member *m, const char *namespace, const struct pair *pair,
		      void *owner, bool pod)
{
	size_t len;
	char *text = key_of(namespace, pair, &len);
	uint64_t hash = table_hash(text, len);
	struct world_label *label = find(w, text, len, hash);

	if (label) {
		free(text);
	} else {
		label = mem_alloc(sizeof(*label));
		label->text = text;
		label->len = len;
		list_init(&label->pods);
		list_init(&label->services);
		table_add(&w->labels, &label->link, hash);
	}
	*m = (struct world_member){.label = label, .owner = owner};
	list_add(pod ? &label->pods : &label->services, &m->link);
	label->pod_count += pod;
	label->service_count += !pod;
}

void world_label_part(struct world *w, struct world_member *m, bool pod)
{
	struct world_label *label = m->label;

	if (!label)
		return;
	m->label = NULL;
	list_del(&m->link);
	label->pod_count -= pod;
	label->service_count -= !pod;
	if (!list_empty(&label->pods) || !list_empty(&label->services))
		return;
	table_del(&w->labels, &label->link);
	free(label->text);
	free(label);
}

void world_label_touch(struct world *w, const struct world_member *m, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (!m[i].label)
			continue;
		list_each(l, &m[i].label->services) {
			struct world_member *s = container_of(l, struct world_member, link);

			world_service_change(w, s->owner);
		}
	}
}
