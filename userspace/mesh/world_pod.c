/* SPDX-License-Identifier: Apache-2.0 */
/* world_pod.c: pods that are enrolled here, or known by their object, or both. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

/* ------------------------------------------------------------------ finding */

struct world_pod *world_pod_named(const struct world *w, const char *namespace, const char *name)
{
	struct table_link *l = table_first(&w->pods, world_name_hash(namespace, name));

	for (; l; l = table_next_same(l)) {
		struct world_pod *p = container_of(l, struct world_pod, by_name);

		if (!strcmp(p->name, name) && !strcmp(p->namespace, namespace))
			return p;
	}
	return NULL;
}

struct world_pod *world_pod_in(const struct world *w, uint64_t netns)
{
	struct table_link *l = table_first(&w->pods_by_netns, table_hash(&netns, sizeof(netns)));

	for (; l; l = table_next_same(l)) {
		struct world_pod *p = container_of(l, struct world_pod, by_netns);

		if (p->enrolled->netns == netns)
			return p;
	}
	return NULL;
}

struct world_pod *world_pod_numbered(const struct world *w, uint32_t number)
{
	struct table_link *l = table_first(&w->pods_by_number, table_hash(&number, sizeof(number)));

	for (; l; l = table_next_same(l)) {
		struct world_pod *p = container_of(l, struct world_pod, by_number);

		if (p->enrolled->number == number)
			return p;
	}
	return NULL;
}

struct world_pod *world_pod_each(const struct world *w, const struct world_pod *after)
{
	struct table_link *l = table_walk(&w->pods, after ? &after->by_name : NULL);

	return l ? container_of(l, struct world_pod, by_name) : NULL;
}

struct world_pod *world_pod_get(struct world *w, const char *namespace, const char *name)
{
	struct world_pod *p = world_pod_named(w, namespace, name);

	if (p)
		return p;
	p = mem_alloc(sizeof(*p));
	p->namespace = mem_string(namespace);
	p->name = mem_string(name);
	table_add(&w->pods, &p->by_name, world_name_hash(namespace, name));
	return p;
}

/* ------------------------------------------------------------------ enrolment */

/* "key=value" NUL ... NUL NUL of the wire; the pairs point into `text`. */
static void take_pairs(struct pairs *ret, char *text)
{
	unsigned size = 0;

	while (*text) {
		char *end = text + strlen(text), *value = strchr(text, '=');

		if (value)
			*value++ = '\0';
		if (ret->count == size) {
			size = size ? size * 2 : 8;
			ret->item = mem_grow(ret->item, size, sizeof(*ret->item));
		}
		ret->item[ret->count++] = (struct pair){.key = text, .value = value ? value : ""};
		text = end + 1;
	}
}

static void enrolment_free(struct world_enrolment *e)
{
	if (!e)
		return;
	free(e->service_account);
	free(e->labels.item);
	free(e->annotations.item);
	free(e->text);
	free(e);
}

static void unenrol(struct world *w, struct world_pod *p)
{
	if (!p->enrolled)
		return;
	table_del(&w->pods_by_netns, &p->by_netns);
	table_del(&w->pods_by_number, &p->by_number);
	list_del(&p->enrolled_link);
	w->enrolled_count--;
	enrolment_free(p->enrolled);
	p->enrolled = NULL;
	world_pod_change(w, p);
}

static uint32_t hint_of(const struct world *w, uint64_t netns)
{
	for (unsigned i = 0; i < w->hints; i++)
		if (w->hint[i].netns == netns)
			return w->hint[i].identity;
	return 0;
}

int world_enrol(struct world *w, const struct wire_pod *in, char why[256])
{
	struct world_enrolment *e;
	struct world_pod *p;

	if (!in->netns || !in->pod || !in->addrs || in->addrs > WIRE_ADDRS || !in->name[0] ||
	    !in->namespace[0]) {
		snprintf(why, 256, "pod %.80s/%.80s: needs a netns, a number, a name and 1 to %u addresses",
			 in->namespace, in->name, WIRE_ADDRS);
		return -EINVAL;
	}
	p = world_pod_in(w, in->netns);
	if (p && (strcmp(p->namespace, in->namespace) || strcmp(p->name, in->name))) {
		snprintf(why, 256, "netns %llu is already enrolled as pod %.80s/%.80s",
			 (unsigned long long)in->netns, p->namespace, p->name);
		return -EINVAL;
	}
	e = mem_alloc(sizeof(*e));
	e->netns = in->netns;
	e->number = in->pod;
	e->hint = hint_of(w, in->netns);
	e->addrs = in->addrs;
	memcpy(e->addr, in->addr, in->addrs * sizeof(*e->addr));
	e->service_account = mem_string(in->service_account[0] ? in->service_account : "default");
	e->text = mem_alloc(2 * WIRE_PAIRS);
	memcpy(e->text, in->labels, WIRE_PAIRS);
	memcpy(e->text + WIRE_PAIRS, in->annotations, WIRE_PAIRS);
	e->text[WIRE_PAIRS - 2] = e->text[WIRE_PAIRS - 1] = '\0';
	e->text[2 * WIRE_PAIRS - 2] = e->text[2 * WIRE_PAIRS - 1] = '\0';
	take_pairs(&e->labels, e->text);
	take_pairs(&e->annotations, e->text + WIRE_PAIRS);

	p = world_pod_get(w, in->namespace, in->name);
	unenrol(w, p);
	p->enrolled = e;
	table_add(&w->pods_by_netns, &p->by_netns, table_hash(&e->netns, sizeof(e->netns)));
	table_add(&w->pods_by_number, &p->by_number, table_hash(&e->number, sizeof(e->number)));
	list_add(&w->enrolled, &p->enrolled_link);
	w->enrolled_count++;
	world_pod_change(w, p);
	return 0;
}

void world_release(struct world *w, uint64_t netns)
{
	struct world_pod *p = world_pod_in(w, netns);

	if (p)
		unenrol(w, p);
}

/* ------------------------------------------------------------------ what object and enrolment say */

/* What was enrolled stands until the object says something. */
static const struct pairs *word(const struct pairs *object, const struct pairs *enrolled)
{
	static const struct pairs none;

	if (object && object->count)
		return object;
	return enrolled ? enrolled : &none;
}

const struct pairs *world_pod_labels(const struct world_pod *p)
{
	return word(p->object ? &p->object->labels : NULL, p->enrolled ? &p->enrolled->labels : NULL);
}

static const struct pairs *annotations(const struct world_pod *p)
{
	return word(p->object ? &p->object->annotations : NULL, p->enrolled ? &p->enrolled->annotations : NULL);
}

const char *world_pod_account(const struct world_pod *p)
{
	if (p->object && p->object->pod.service_account)
		return p->object->pod.service_account;
	return p->enrolled ? p->enrolled->service_account : "default";
}

bool world_pod_mesh(const struct world *w, const struct world_pod *p)
{
	static const char mode[] = "istio.io/dataplane-mode";
	const struct object *namespace = store_get(w->store, KIND_NAMESPACE, "", p->namespace);

	return !text_equal(pairs_get(world_pod_labels(p), mode), "none") &&
	       !(namespace && text_equal(pairs_get(&namespace->labels, mode), "none"));
}

void world_pod_namespace(struct world *w, const char *namespace)
{
	for (struct world_pod *p = world_pod_each(w, NULL); p;) {
		struct world_pod *next = world_pod_each(w, p);

		if (!strcmp(p->namespace, namespace))
			world_pod_change(w, p);
		p = next;
	}
}

static void unclaim(struct world *w, struct world_pod *p)
{
	for (unsigned i = 0; i < p->addrs; i++) {
		if (p->claimed == ABI_KIND_LOCAL_POD)
			world_address_leave(w, &p->addr[i], p);
		else if (p->claimed == ABI_KIND_REMOTE_POD)
			world_address_unclaim(w, &p->addr[i], &p->remote[i]);
	}
	p->claimed = ABI_KIND_NONE;
	free(p->remote);
	p->remote = NULL;
	free(p->addr);
	p->addr = NULL;
	p->addrs = 0;
}

static void add_addr(struct world_pod *p, const struct abi_addr *addr)
{
	for (unsigned i = 0; i < p->addrs; i++)
		if (addr_equal(&p->addr[i], addr))
			return;
	p->addr[p->addrs++] = *addr;
}

static void claim(struct world *w, struct world_pod *p)
{
	const struct object_pod *o = p->object ? &p->object->pod : NULL;
	unsigned most = (p->enrolled ? p->enrolled->addrs : 0) + (o ? o->addrs : 0);

	p->addr = mem_alloc(most * sizeof(*p->addr) + 1);
	for (unsigned i = 0; p->enrolled && i < p->enrolled->addrs; i++)
		add_addr(p, &p->enrolled->addr[i]);
	/* the status of an enrolled pod on the host's network names the node's addresses, not the pod's */
	if (o && !o->finished && !(o->host_network && p->enrolled))
		for (unsigned i = 0; i < o->addrs; i++)
			add_addr(p, &o->addr[i]);
	if (p->enrolled)
		p->claimed = ABI_KIND_LOCAL_POD;
	else if (o && !o->host_network && !text_equal(o->node, w->node))
		p->claimed = ABI_KIND_REMOTE_POD;
	if (p->claimed == ABI_KIND_REMOTE_POD)
		p->remote = mem_alloc(p->addrs * sizeof(*p->remote) + 1);
	for (unsigned i = 0; i < p->addrs; i++) {
		if (p->claimed == ABI_KIND_LOCAL_POD) {
			world_address_take(w, &p->addr[i], p);
		} else if (p->claimed == ABI_KIND_REMOTE_POD) {
			p->remote[i].pod = p;
			world_address_claim(w, &p->addr[i], &p->remote[i]);
		}
	}
}

static void unindex(struct world *w, struct world_pod *p)
{
	world_label_touch(w, p->label, p->labels);
	for (unsigned i = 0; i < p->labels; i++)
		world_label_part(w, &p->label[i], true);
	free(p->label);
	p->label = NULL;
	p->labels = 0;
}

static void index_labels(struct world *w, struct world_pod *p)
{
	const struct pairs *labels = world_pod_labels(p);

	if (!p->addrs)
		return; /* no service can use it */
	p->label = mem_alloc(labels->count * sizeof(*p->label) + 1);
	p->labels = labels->count;
	for (unsigned i = 0; i < labels->count; i++)
		world_label_join(w, &p->label[i], p->namespace, &labels->item[i], p, true);
	world_label_touch(w, p->label, p->labels);
}

/* The pod's word, else its namespace's. */
static bool says(const struct pairs *pod, const struct object *namespace, const char *key, const char *value)
{
	const char *said = pairs_get(pod, key);

	if (!said && namespace)
		said = pairs_get(&namespace->annotations, key);
	return text_equal(said, value);
}

static uint8_t flags(const struct world *w, const struct world_pod *p)
{
	const struct pairs *pod = annotations(p);
	const struct object *namespace = store_get(w->store, KIND_NAMESPACE, "", p->namespace);
	unsigned f = 0;

	if (says(pod, namespace, "weft.io/egress", "registry-only"))
		f |= ABI_POD_REGISTRY_ONLY;
	if (says(pod, namespace, "weft.io/fail-open", "true"))
		f |= ABI_POD_FAIL_OPEN;
	if (says(pod, namespace, "weft.io/proxy", "always"))
		f |= ABI_POD_PROXY;
	if (!world_pod_mesh(w, p))
		f |= ABI_POD_PLAIN;
	return (uint8_t)f;
}

bool world_pod_refresh(struct world *w, struct world_pod *p)
{
	unclaim(w, p);
	unindex(w, p);
	p->object = store_get(w->store, KIND_POD, p->namespace, p->name);
	if (!p->enrolled) {
		world_set_leave(w, p);
		p->identity = NULL;
	}
	if (p->in_kernel || p->enrolled)
		world_pod_dirty(w, p);
	if (!p->object && !p->enrolled) {
		if (p->in_kernel)
			return true; /* publish.c drops it when the kernel has forgotten it */
		world_pod_drop(w, p);
		return false;
	}
	p->flags = flags(w, p);
	claim(w, p);
	index_labels(w, p);
	if (p->enrolled)
		p->splice = world_splice(annotations(p));
	return true;
}

void world_pod_dirty(struct world *w, struct world_pod *p)
{
	if (p->dirty)
		return;
	p->dirty = true;
	list_add(&w->dirty_pods, &p->dirty_link);
}

void world_pod_drop(struct world *w, struct world_pod *p)
{
	unenrol(w, p);
	unclaim(w, p);
	unindex(w, p);
	world_set_leave(w, p);
	if (p->dirty)
		list_del(&p->dirty_link);
	if (p->changed)
		list_del(&p->changed_link);
	table_del(&w->pods, &p->by_name);
	free(p->namespace);
	free(p->name);
	free(p);
}

/* ------------------------------------------------------------------ identities */

void world_hint(struct world *w, uint64_t netns, uint32_t identity)
{
	struct world_pod *p = world_pod_in(w, netns);

	if (p)
		p->enrolled->hint = identity;
	w->hint = mem_grow(w->hint, w->hints + 1, sizeof(*w->hint));
	w->hint[w->hints++] = (struct world_hint){.netns = netns, .identity = identity};
}

/*
 * The number that the pod has in the kernel from before the worker was restarted. Taken over if every enrolled pod
 * that had it is of one service account now: else it would speak for two.
 */
static uint32_t number_before(const struct world *w, const struct world_pod *p)
{
	uint32_t number = p->enrolled->hint;

	if (!number)
		return 0;
	list_each(l, &w->enrolled) {
		const struct world_pod *other = container_of(l, struct world_pod, enrolled_link);

		if (other->enrolled->hint == number &&
		    (strcmp(world_pod_account(other), world_pod_account(p)) ||
		     strcmp(other->namespace, p->namespace)))
			return 0;
	}
	return number;
}

void world_pod_identify(struct world *w)
{
	list_each(l, &w->changed_pods) {
		struct world_pod *p = container_of(l, struct world_pod, changed_link);
		unsigned known = w->identities.count;

		if (!p->enrolled)
			continue;
		p->identity = identity_claim(&w->identities, w->trust_domain, p->namespace, world_pod_account(p),
					     number_before(w, p));
		if (w->identities.count == known)
			continue;
		list_each(s, &w->all_sets)
			policy_learn(container_of(s, struct policy_set, all), p->identity);
		list_each(s, &w->dead_sets)
			policy_learn(container_of(s, struct policy_set, all), p->identity);
	}
}

/* ------------------------------------------------------------------ row */

bool world_pod_row(const struct world_pod *p, struct abi_pod *ret)
{
	char name[2 * WIRE_NAME + 2];

	memset(ret, 0, sizeof(*ret));
	if (!p->enrolled || !p->set || !p->identity)
		return false;
	ret->netns = p->enrolled->netns;
	ret->pod = p->enrolled->number;
	ret->identity = p->identity->number;
	ret->policy = p->set->number;
	ret->splice = p->splice;
	ret->flags = p->flags;
	for (unsigned i = 0; i < p->addrs; i++) {
		bool v4 = addr_is_v4(&p->addr[i]);
		struct abi_addr *to = v4 ? &ret->ipv4 : &ret->ipv6;

		if (!addr_is_zero(to))
			*(v4 ? &ret->many_ipv4 : &ret->many_ipv6) = 1;
		else
			*to = p->addr[i];
	}
	snprintf(name, sizeof(name), "%s/%s", p->namespace, p->name);
	text_copy(ret->name, sizeof(ret->name), name);
	return true;
}
