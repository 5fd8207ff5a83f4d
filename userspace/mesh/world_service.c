/* SPDX-License-Identifier: Apache-2.0 */
/* world_service.c: services, the VIPs and ports that they claim, and the endpoints behind each. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

struct seen_slice { /* which service a slice belonged to, for when it is gone */
	struct table_link link;
	char *namespace, *name, *service;
};

/* ------------------------------------------------------------------ finding */

struct world_service *world_service_named(const struct world *w, const char *namespace, const char *name)
{
	struct table_link *l = table_first(&w->services, world_name_hash(namespace, name));

	for (; l; l = table_next_same(l)) {
		struct world_service *s = container_of(l, struct world_service, link);

		if (!strcmp(s->name, name) && !strcmp(s->namespace, namespace))
			return s;
	}
	return NULL;
}

struct world_service *world_service_each(const struct world *w, const struct world_service *after)
{
	struct table_link *l = table_walk(&w->services, after ? &after->link : NULL);

	return l ? container_of(l, struct world_service, link) : NULL;
}

struct world_service *world_service_get(struct world *w, const char *namespace, const char *name)
{
	struct world_service *s = world_service_named(w, namespace, name);

	if (s)
		return s;
	s = mem_alloc(sizeof(*s));
	s->namespace = mem_string(namespace);
	s->name = mem_string(name);
	list_init(&s->troubled_link);
	table_add(&w->services, &s->link, world_name_hash(namespace, name));
	return s;
}

static struct world_front *front_find(const struct world *w, const struct abi_service_key *key)
{
	struct table_link *l = table_first(&w->fronts, table_hash(key, sizeof(*key)));

	for (; l; l = table_next_same(l)) {
		struct world_front *f = container_of(l, struct world_front, link);

		if (!memcmp(&f->key, key, sizeof(*key)))
			return f;
	}
	return NULL;
}

struct world_front *world_front(const struct world *w, const struct abi_addr *vip, uint16_t port)
{
	return front_find(w, &(struct abi_service_key){.vip = *vip, .port = port});
}

struct world_front *world_front_numbered(const struct world *w, uint32_t service)
{
	struct table_link *l = table_first(&w->fronts_by_number, table_hash(&service, sizeof(service)));

	for (; l; l = table_next_same(l)) {
		struct world_front *f = container_of(l, struct world_front, by_number);

		if (f->number == service)
			return f;
	}
	return NULL;
}

struct world_front *world_front_each(const struct world *w, const struct world_front *after)
{
	struct table_link *l = table_walk(&w->fronts, after ? &after->link : NULL);

	return l ? container_of(l, struct world_front, link) : NULL;
}

/* ------------------------------------------------------------------ fronts */

static void set_number(struct world *w, struct world_front *f, uint32_t number)
{
	if (f->number)
		table_del(&w->fronts_by_number, &f->by_number);
	f->number = number;
	if (number)
		table_add(&w->fronts_by_number, &f->by_number, table_hash(&number, sizeof(number)));
}

struct world_front *world_front_get(struct world *w, const struct abi_service_key *key, uint32_t number)
{
	struct world_front *f = front_find(w, key);

	if (f)
		return f;
	f = mem_alloc(sizeof(*f));
	f->key = *key;
	list_init(&f->claims);
	table_add(&w->fronts, &f->link, table_hash(key, sizeof(*key)));
	set_number(w, f, number);
	return f;
}

void world_front_dirty(struct world *w, struct world_front *f)
{
	if (f->dirty)
		return;
	f->dirty = true;
	list_add(&w->dirty_fronts, &f->dirty_link);
}

void world_front_drop(struct world *w, struct world_front *f)
{
	if (f->dirty)
		list_del(&f->dirty_link);
	set_number(w, f, 0);
	table_del(&w->fronts, &f->link);
	free(f->endpoint);
	free(f);
}

static const struct world_claim *strongest(const struct world_front *f)
{
	const struct world_claim *best = NULL;

	list_each(l, &f->claims) {
		const struct world_claim *c = container_of(l, struct world_claim, front_link);

		if (!best || (c->service == best->service ? c->port < best->port :
			      object_by_age(c->service->object, best->service->object) < 0))
			best = c;
	}
	return best;
}

/* ------------------------------------------------------------------ endpoints */

static bool selected(const struct world_pod *p, const struct pairs *selector)
{
	const struct pairs *labels = world_pod_labels(p);

	for (unsigned i = 0; i < selector->count; i++)
		if (!text_equal(pairs_get(labels, selector->item[i].key), selector->item[i].value))
			return false;
	return true;
}

/* The list of the rarest label of the selector; NULL: no pod has one of them. */
static const struct world_label *rarest(const struct world *w, const char *namespace,
					const struct pairs *selector)
{
	const struct world_label *best = NULL;

	for (unsigned i = 0; i < selector->count; i++) {
		const struct world_label *label = world_label_find(w, namespace, &selector->item[i]);

		if (!label || !label->pod_count)
			return NULL;
		if (!best || label->pod_count < best->pod_count)
			best = label;
	}
	return best;
}

static uint16_t target_port(const struct world_pod *p, const struct service_port *port)
{
	if (!port->target_name)
		return port->target;
	for (unsigned i = 0; p->object && i < p->object->pod.ports; i++)
		if (text_equal(p->object->pod.port[i].name, port->target_name))
			return p->object->pod.port[i].port;
	return 0;
}

static void pick_pod(struct service_picks *picks, const struct world_pod *p, const struct service_port *port,
		     bool ipv6)
{
	struct service_pick one = {.port = target_port(p, port), .weight = 1, .ready = true};

	if (!one.port || (p->object && p->object->pod.finished))
		return;
	if (p->object) {
		one.serving = !p->object->pod.unready;
		one.terminating = p->object->pod.terminating;
		one.ready = one.serving && !one.terminating;
	}
	for (unsigned i = 0; i < p->addrs; i++) {
		if (addr_is_v4(&p->addr[i]) == ipv6)
			continue;
		one.addr = p->addr[i];
		service_pick_add(picks, &one);
	}
}

static void gather(const struct world *w, const struct world_service *s, const struct service_port *port,
		   bool ipv6, struct service_picks *ret)
{
	const struct pairs *selector = &s->object->service.selector;
	const struct object *slice = NULL;
	const struct world_label *label;

	if (!s->by_pods) {
		while ((slice = store_slices(w->store, s->namespace, s->name, slice)))
			service_pick_slice(ret, &slice->slice, port, ipv6);
		return;
	}
	label = rarest(w, s->namespace, selector);
	if (!label)
		return;
	list_each(l, &label->pods) {
		const struct world_pod *p = container_of(l, struct world_member, link)->owner;

		if (selected(p, selector))
			pick_pod(ret, p, port, ipv6);
	}
}

void world_service_endpoints(const struct world *w, const struct world_service *s, unsigned port,
			     struct service_picks *ret)
{
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		struct service_picks one = {0};

		gather(w, s, &s->object->service.port[port], ipv6, &one);
		service_choose(&one, s->object->service.publish_not_ready);
		for (unsigned i = 0; i < one.count; i++)
			service_pick_add(ret, &one.pick[i]);
		free(one.pick);
	}
}

static bool same_endpoints(const struct world_front *f, const struct abi_endpoint *e, unsigned count)
{
	if (f->count != count)
		return false;
	for (unsigned i = 0; i < count; i++)
		if (!addr_equal(&f->endpoint[i].addr, &e[i].addr) || f->endpoint[i].port != e[i].port ||
		    f->endpoint[i].weight != e[i].weight || f->endpoint[i].share != e[i].share ||
		    f->endpoint[i].alias != e[i].alias)
			return false;
	return true;
}

static void set_endpoints(const struct world *w, struct world_front *f)
{
	struct service_picks picks = {0};
	struct abi_endpoint *e;

	if (f->owner) {
		gather(w, f->owner, f->port, !addr_is_v4(&f->key.vip), &picks);
		service_choose(&picks, f->owner->object->service.publish_not_ready);
	}
	e = mem_alloc(picks.count * sizeof(*e) + 1);
	service_alias(picks.pick, picks.count, e);
	free(picks.pick);
	if (same_endpoints(f, e, picks.count)) {
		free(e);
		return;
	}
	free(f->endpoint);
	f->endpoint = e;
	f->count = picks.count;
	f->endpoints_changed = true;
}

/* Who has the front now, and what is behind it. */
static void front_update(struct world *w, struct world_front *f)
{
	const struct world_claim *c = strongest(f);
	struct world_service *owner = c ? c->service : NULL;
	const struct object_service *o = owner ? &owner->object->service : NULL;
	char name[2 * WIRE_NAME + 8];

	if (f->owner && f->owner != owner)
		world_route_touch(w, f->owner->namespace, f->owner->name);
	if (owner && f->owner != owner)
		world_route_touch(w, owner->namespace, owner->name);
	f->owner = owner;
	f->port = c ? &o->port[c->port] : NULL;
	f->flags = o && o->affinity ? ABI_SERVICE_AFFINITY : 0;
	if (owner && world_proxy(&owner->object->annotations))
		f->flags |= ABI_SERVICE_PROXY;
	if (owner && w->routed.count && world_route_attached(w, owner->namespace, owner->name, f->port->port))
		f->flags |= ABI_SERVICE_ROUTES | ABI_SERVICE_PROXY;
	f->affinity_seconds = o && o->affinity ? o->affinity_seconds : 0;
	f->splice = owner ? world_splice(&owner->object->annotations) : ABI_SPLICE_AUTO;
	set_endpoints(w, f);
	if (owner) {
		char cut[ABI_NAME_LEN] = {0}; /* all of it goes to the kernel */

		snprintf(name, sizeof(name), "%s/%s:%u", owner->namespace, owner->name, f->key.port);
		text_copy(cut, sizeof(cut), name);
		/* a number is of one service: whoever takes over a VIP brings a new one */
		if (!f->number || strcmp(f->name, cut)) {
			set_number(w, f, w->next_service++);
			f->endpoints_changed = true;
		}
		memcpy(f->name, cut, sizeof(cut));
	}
	world_front_dirty(w, f);
}

/* ------------------------------------------------------------------ services */

/* The worst of what is wrong, of that the first; field and text are taken. */
static void complain(struct world_service *s, bool warning, char *field, char *text)
{
	if (s->problem && (!s->problem_warning || warning)) {
		free(field);
		free(text);
		return;
	}
	free(s->problem_field);
	free(s->problem);
	s->problem_field = field;
	s->problem = text;
	s->problem_warning = warning;
}

static void judge_claims(struct world_service *s)
{
	char at[ADDR_PORT_TEXT];

	for (unsigned i = 0; i < s->claims; i++) {
		const struct world_front *f = s->claim[i].front;

		if (f->owner == s)
			continue;
		complain(s, false, mem_string("spec.clusterIP"),
			 mem_format("%s is already the address of Service %s/%s, which is %s: "
				    "give one of them another address or port",
				    addr_port_text(&f->key.vip, f->key.port, at), f->owner->namespace,
				    f->owner->name,
				    f->owner->object->created != s->object->created ? "older" : "first by name"));
	}
}

static void judge_endpoints(const struct world *w, struct world_service *s)
{
	const struct object_service *o = &s->object->service;
	const struct object *slice = NULL;
	const struct world_label *label;
	bool any = false;

	if (!o->vips)
		return;
	if (s->by_pods) {
		label = rarest(w, s->namespace, &o->selector);
		if (label)
			list_each(l, &label->pods)
				any |= selected(container_of(l, struct world_member, link)->owner, &o->selector);
		if (!any)
			complain(s, true, mem_string("spec.selector"),
				 mem_string("the selector matches no pod and there is no EndpointSlice: "
					    "connections are refused until a pod has these labels"));
		for (unsigned i = 0; any && i < s->claims; i++)
			if (s->claim[i].front->owner == s && !s->claim[i].front->count &&
			    o->port[s->claim[i].port].target_name)
				complain(s, true, mem_format("spec.ports[%u].targetPort", s->claim[i].port),
					 mem_format("no pod that the selector matches is ready and has a port "
						    "named %.63s (targetPort of port %u)",
						    o->port[s->claim[i].port].target_name,
						    o->port[s->claim[i].port].port));
		return;
	}
	while ((slice = store_slices(w->store, s->namespace, s->name, slice))) {
		for (unsigned i = 0; i < o->ports && slice->slice.endpoints; i++) {
			struct service_picks none = {0};

			if (!service_pick_slice(&none, &slice->slice, &o->port[i], !slice->slice.ipv6))
				complain(s, true, mem_format("spec.ports[%u].name", i),
					 mem_format("EndpointSlice %.80s has no port named \"%.63s\" (port %u): "
						    "its endpoints are not used for it",
						    slice->name, o->port[i].name, o->port[i].port));
			free(none.pick);
		}
	}
}

static void forgive(struct world_service *s)
{
	free(s->problem_field);
	free(s->problem);
	s->problem_field = s->problem = NULL;
	list_del(&s->troubled_link);
}

static void release(struct world *w, struct world_service *s)
{
	for (unsigned i = 0; i < s->claims; i++)
		list_del(&s->claim[i].front_link);
	for (unsigned i = 0; i < s->vips; i++)
		world_address_count(w, &s->vip[i], ABI_KIND_VIP, -1);
	if (s->label)
		world_label_part(w, s->label, false);
	free(s->label);
	free(s->vip);
	free(s->claim);
	forgive(s);
	s->label = NULL;
	s->vip = NULL;
	s->vips = 0;
	s->claim = NULL;
	s->claims = 0;
}

/*
 * The pair of the selector that fewest services are indexed by: a pod that changes looks at all services of its
 * labels, and a label that everything has (the team, the chart) would lead to all of them.
 */
static const struct pair *least_chosen(const struct world *w, const struct world_service *s)
{
	const struct pairs *selector = &s->object->service.selector;
	unsigned best = 0, least = UINT_MAX;

	for (unsigned i = 0; i < selector->count && least; i++) {
		const struct world_label *label = world_label_find(w, s->namespace, &selector->item[i]);
		unsigned count = label ? label->service_count : 0;

		if (count < least) {
			least = count;
			best = i;
		}
	}
	return &selector->item[best];
}

static void claim(struct world *w, struct world_service *s)
{
	const struct object_service *o = &s->object->service;

	s->claim = mem_alloc((size_t)o->vips * o->ports * sizeof(*s->claim) + 1);
	s->vip = mem_alloc(o->vips * sizeof(*s->vip) + 1);
	s->vips = o->vips;
	for (unsigned v = 0; v < o->vips; v++) {
		s->vip[v] = o->vip[v];
		world_address_count(w, &o->vip[v], ABI_KIND_VIP, 1);
		for (unsigned p = 0; p < o->ports; p++) {
			struct abi_service_key key = {.vip = o->vip[v], .port = o->port[p].port};
			struct world_claim *c = &s->claim[s->claims++];

			*c = (struct world_claim){
				.front = world_front_get(w, &key, 0), .service = s, .port = p};
			list_add(&c->front->claims, &c->front_link);
		}
	}
	s->by_pods = o->selector.count && !store_slices(w->store, s->namespace, s->name, NULL);
	if (s->by_pods) {
		s->label = mem_alloc(sizeof(*s->label));
		world_label_join(w, s->label, s->namespace, least_chosen(w, s), s, false);
	}
}

static void judge(struct world *w, struct world_service *s)
{
	forgive(s);
	judge_claims(s);
	judge_endpoints(w, s);
	if (s->problem)
		list_add(&w->troubled_services, &s->troubled_link);
}

/* Those that claim a front together, or did until now: what they may complain about has changed. */
static void judge_rivals(struct world *w, const struct world_front *f)
{
	bool alone = f->claims.next == f->claims.prev;

	list_each(l, &f->claims) {
		struct world_service *s = container_of(l, struct world_claim, front_link)->service;

		if (!s->changed && (!alone || s->problem))
			judge(w, s);
	}
}

static void touch(struct list *touched, struct world_front *f)
{
	if (f->touched)
		return;
	f->touched = true;
	list_add(touched, &f->touched_link);
}

static void service_free(struct world *w, struct world_service *s)
{
	table_del(&w->services, &s->link);
	release(w, s);
	free(s->namespace);
	free(s->name);
	free(s);
}

/*
 * Three passes, so that no question meets an object that is gone: first every service that changed lets go of its old
 * object and claims by its new one, then the fronts decide, then the services are judged.
 */
void world_service_update(struct world *w)
{
	struct list touched;

	list_each(l, &w->dirty_routed) {
		struct world_routed *r = container_of(l, struct world_routed, dirty_link);
		struct world_service *s = r->recast ? world_service_named(w, r->namespace, r->name) : NULL;

		r->recast = false;
		if (s)
			world_service_change(w, s);
	}
	list_init(&touched);
	list_each(l, &w->changed_services) {
		struct world_service *s = container_of(l, struct world_service, changed_link);

		for (unsigned i = 0; i < s->claims; i++)
			touch(&touched, s->claim[i].front);
		release(w, s);
		s->object = store_get(w->store, KIND_SERVICE, s->namespace, s->name);
		if (s->object)
			claim(w, s);
		for (unsigned i = 0; i < s->claims; i++)
			touch(&touched, s->claim[i].front);
		world_route_wanted(w, s->namespace, s->name,
				   s->object && world_proxy(&s->object->annotations));
		world_route_touch(w, s->namespace, s->name);
	}
	list_each(l, &touched)
		front_update(w, container_of(l, struct world_front, touched_link));
	list_each(l, &touched)
		judge_rivals(w, container_of(l, struct world_front, touched_link));
	while (!list_empty(&touched)) {
		struct world_front *f = container_of(touched.next, struct world_front, touched_link);

		list_del(&f->touched_link);
		f->touched = false;
	}
	list_each_safe(l, next, &w->changed_services) {
		struct world_service *s = container_of(l, struct world_service, changed_link);

		list_del(l);
		s->changed = false;
		if (s->object)
			judge(w, s);
		else
			service_free(w, s);
	}
}

/* ------------------------------------------------------------------ slices */

void world_service_slice(struct world *w, const char *namespace, const char *name)
{
	const struct object *o = store_get(w->store, KIND_ENDPOINT_SLICE, namespace, name);
	const char *service = o ? o->slice.service : NULL;
	uint64_t hash = world_name_hash(namespace, name);
	struct table_link *l = table_first(&w->slices, hash);
	struct seen_slice *seen = NULL;

	for (; l && !seen; l = table_next_same(l)) {
		seen = container_of(l, struct seen_slice, link);
		if (strcmp(seen->name, name) || strcmp(seen->namespace, namespace))
			seen = NULL;
	}
	if (seen && !text_equal(seen->service, service)) {
		world_service_change(w, world_service_get(w, namespace, seen->service));
		table_del(&w->slices, &seen->link);
		free(seen->namespace);
		free(seen->name);
		free(seen->service);
		free(seen);
		seen = NULL;
	}
	if (!service)
		return;
	world_service_change(w, world_service_get(w, namespace, service));
	if (seen)
		return;
	seen = mem_alloc(sizeof(*seen));
	seen->namespace = mem_string(namespace);
	seen->name = mem_string(name);
	seen->service = mem_string(service);
	table_add(&w->slices, &seen->link, hash);
}

void world_service_free(struct world *w)
{
	struct table_link *l, *next;

	for (l = table_walk(&w->slices, NULL); l; l = next) {
		struct seen_slice *seen = container_of(l, struct seen_slice, link);

		next = table_walk(&w->slices, l);
		table_del(&w->slices, l);
		free(seen->namespace);
		free(seen->name);
		free(seen->service);
		free(seen);
	}
	table_free(&w->slices);
	for (l = table_walk(&w->services, NULL); l; l = next) {
		struct world_service *s = container_of(l, struct world_service, link);

		next = table_walk(&w->services, l);
		service_free(w, s);
	}
	table_free(&w->services);
	for (l = table_walk(&w->fronts, NULL); l; l = next) {
		next = table_walk(&w->fronts, l);
		world_front_drop(w, container_of(l, struct world_front, link));
	}
	table_free(&w->fronts);
	table_free(&w->fronts_by_number);
}
