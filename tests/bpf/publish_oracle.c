// SPDX-License-Identifier: Apache-2.0
/* publish_oracle.c: endpoints and addresses by naive loops over all objects, without the code of mesh/. */
#include <stdio.h>
#include <string.h>

#include "publish_lab.h"

static void set_add(struct lab_endpoints *s, struct lab_endpoint o)
{
	for (unsigned i = 0; i < s->count; i++) {
		struct lab_endpoint *x = &s->one[i];

		if (memcmp(&x->addr, &o.addr, 16) || x->port != o.port)
			continue;
		x->weight = x->weight > o.weight ? x->weight : o.weight;
		x->ready = x->ready || o.ready;
		x->serving = x->serving || o.serving;
		x->terminating = x->terminating && o.terminating;
		return;
	}
	s->one[s->count++] = o;
}

static bool is_v4(const struct abi_addr *a)
{
	return a->byte[10] == 0xff && a->byte[11] == 0xff && !a->byte[0];
}

static const struct slice_port *named(const struct object_slice *s, const struct service_port *port)
{
	for (unsigned i = 0; i < s->ports; i++)
		if (!strcmp(s->port[i].name, port->name))
			return &s->port[i];
	for (unsigned i = 0; port->target_name && i < s->ports; i++)
		if (!strcmp(s->port[i].name, port->target_name))
			return &s->port[i];
	return NULL;
}

static bool from_slices(const struct lab *l, const struct object *svc, const struct service_port *port, bool v4,
			struct lab_endpoints *ret)
{
	const struct object *o = NULL;
	bool any = false;

	while ((o = store_each(l->store, KIND_ENDPOINT_SLICE, o))) {
		const struct slice_port *p = named(&o->slice, port);

		if (strcmp(o->slice.service, svc->name) || strcmp(o->namespace, svc->namespace))
			continue;
		any = true;
		for (unsigned i = 0; p && o->slice.ipv6 != v4 && i < o->slice.endpoints; i++) {
			const struct slice_endpoint *e = &o->slice.endpoint[i];

			set_add(ret, (struct lab_endpoint){e->addr, p->port, e->weight, e->ready,
							   e->serving, e->terminating});
		}
	}
	return any;
}

/* What the object says of a pod, or NULL: what it was enrolled with. */
static const struct pairs *counts(const struct lab *l, unsigned slot, const struct pairs *said)
{
	return said && (said->count || !l->pod[slot].in) ? said : NULL;
}

static bool has_label(const struct pairs *object_labels, const char *text, const struct pair *want)
{
	char both[128];

	if (object_labels) {
		for (unsigned i = 0; i < object_labels->count; i++)
			if (!strcmp(object_labels->item[i].key, want->key) &&
			    !strcmp(object_labels->item[i].value, want->value))
				return true;
		return false;
	}
	snprintf(both, sizeof(both), "%s=%s", want->key, want->value);
	for (; *text; text += strlen(text) + 1)
		if (!strcmp(text, both))
			return true;
	return false;
}

/* The addresses that a pod has by its object and its enrolment. */
static unsigned pod_addrs(const struct lab *l, unsigned slot, const struct object *o, struct abi_addr *ret)
{
	const struct enrolled *e = &l->pod[slot];
	unsigned n = 0;

	for (unsigned which = 0; which < 3; which++) {
		struct abi_addr a = lab_pod_addr(slot, which);
		bool has = e->in && (which == 0 || (which == 1 && slot % 2));

		if (o && !o->pod.finished && !(o->pod.host_network && e->in))
			for (unsigned i = 0; i < o->pod.addrs; i++)
				has = has || !memcmp(&o->pod.addr[i], &a, 16);
		if (has)
			ret[n++] = a;
	}
	return n;
}

static struct object *pod_object(const struct lab *l, unsigned slot)
{
	char name[16];

	snprintf(name, sizeof(name), "p%u", slot);
	return store_get(l->store, KIND_POD, lab_space(slot % 3), name);
}

static void from_pods(const struct lab *l, const struct object *svc, const struct service_port *port, bool v4,
		      struct lab_endpoints *ret)
{
	for (unsigned slot = 0; slot < PODS; slot++) {
		const struct object *o = pod_object(l, slot);
		struct abi_addr addr[3];
		unsigned n = pod_addrs(l, slot, o, addr), number = port->target;
		bool ended = o && o->pod.finished;
		bool fits = (o || l->pod[slot].in) && !ended && !strcmp(svc->namespace, lab_space(slot % 3));

		for (unsigned i = 0; i < svc->service.selector.count; i++)
			fits = fits && has_label(counts(l, slot, o ? &o->labels : NULL), l->pod[slot].labels,
						 &svc->service.selector.item[i]);
		if (port->target_name)
			number = o && o->pod.ports ? o->pod.port->port : 0;
		for (unsigned i = 0; fits && number && i < n; i++) {
			bool serving = !o || !o->pod.unready, ends = o && o->pod.terminating;

			if (is_v4(&addr[i]) == v4)
				set_add(ret, (struct lab_endpoint){addr[i], number, 1, serving && !ends,
								   serving, ends});
		}
	}
}

const struct object *lab_owner(const struct lab *l, const struct abi_service_key *key, unsigned *ret_port)
{
	const struct object *best = NULL, *o = NULL;

	while ((o = store_each(l->store, KIND_SERVICE, o))) {
		for (unsigned v = 0; v < o->service.vips; v++) {
			for (unsigned p = 0; p < o->service.ports; p++) {
				bool better = !best || o->created < best->created;
				int c = best ? strcmp(o->namespace, best->namespace) : 0;

				if (memcmp(&o->service.vip[v], &key->vip, 16) || o->service.port[p].port != key->port)
					continue;
				if (best && o->created == best->created)
					better = c < 0 || (!c && strcmp(o->name, best->name) < 0);
				if (!better)
					continue;
				best = o;
				*ret_port = p;
			}
		}
	}
	return best;
}

void lab_expect(const struct lab *l, const struct object *svc, unsigned port, bool v4, struct lab_endpoints *ret)
{
	const struct service_port *p = &svc->service.port[port];
	bool any_ready = svc->service.publish_not_ready;
	struct lab_endpoints all = {.count = 0};

	ret->count = 0;
	if (!from_slices(l, svc, p, v4, &all) && svc->service.selector.count)
		from_pods(l, svc, p, v4, &all);
	for (unsigned i = 0; i < all.count; i++)
		any_ready = any_ready || all.one[i].ready;
	for (unsigned i = 0; i < all.count; i++) {
		const struct lab_endpoint *o = &all.one[i];
		bool takes = any_ready ? o->ready : o->serving && o->terminating;

		if ((takes || svc->service.publish_not_ready) && o->weight)
			ret->one[ret->count++] = *o;
	}
}

/* ------------------------------------------------------------------ flags and capture */

static bool pair_is(const struct pairs *p, const char *key, const char *value, bool *ret_said)
{
	for (unsigned i = 0; i < p->count; i++)
		if (!strcmp(p->item[i].key, key)) {
			*ret_said = true;
			return !strcmp(p->item[i].value, value);
		}
	return false;
}

static bool says(const struct lab *l, unsigned slot, const char *key, const char *value)
{
	const struct object *ns = store_get(l->store, KIND_NAMESPACE, "", lab_space(slot % 3));
	const struct object *o = pod_object(l, slot);
	bool said = false, yes = false;
	char both[128];
	size_t len;

	if (counts(l, slot, o ? &o->annotations : NULL)) {
		yes = pair_is(&o->annotations, key, value, &said);
	} else {
		snprintf(both, sizeof(both), "%s=", key);
		len = strlen(both);
		for (const char *t = l->pod[slot].annotations; *t; t += strlen(t) + 1)
			if (!strncmp(t, both, len)) {
				said = true;
				yes = !strcmp(t + len, value);
			}
	}
	if (said || !ns)
		return yes;
	return pair_is(&ns->annotations, key, value, &said);
}

unsigned lab_flags(const struct lab *l, unsigned slot)
{
	const struct object *ns = store_get(l->store, KIND_NAMESPACE, "", lab_space(slot % 3));
	const struct object *o = pod_object(l, slot);
	bool said, plain = (o && pair_is(&o->labels, "istio.io/dataplane-mode", "none", &said)) ||
			   (ns && pair_is(&ns->labels, "istio.io/dataplane-mode", "none", &said));

	return (says(l, slot, "weft.io/egress", "registry-only") ? ABI_POD_REGISTRY_ONLY : 0) |
	       (says(l, slot, "weft.io/fail-open", "true") ? ABI_POD_FAIL_OPEN : 0) |
	       (says(l, slot, "weft.io/proxy", "always") ? ABI_POD_PROXY : 0) | (plain ? ABI_POD_PLAIN : 0);
}

unsigned lab_address_flags(const struct lab *l, const struct abi_addr *a)
{
	enum abi_kind kind = lab_kind(l, a);

	for (unsigned slot = 0; slot < PODS; slot++)
		for (unsigned which = 0; which < 3; which++) {
			struct abi_addr mine = lab_pod_addr(slot, which);

			if (memcmp(&mine, a, 16))
				continue;
			if (kind == ABI_KIND_LOCAL_POD)
				return (lab_flags(l, slot) & ABI_POD_PROXY ? ABI_ADDRESS_PROXY : 0) |
				       (lab_flags(l, slot) & ABI_POD_FAIL_OPEN ? ABI_ADDRESS_FAIL_OPEN : 0);
			if (kind == ABI_KIND_REMOTE_POD)
				return lab_flags(l, slot) & ABI_POD_PLAIN ? 0 : ABI_ADDRESS_MESH;
		}
	return 0;
}

enum abi_reason lab_need(const struct lab *l, unsigned from, const struct abi_addr *to, uint16_t port,
			 const struct object *svc)
{
	enum abi_kind kind = lab_kind(l, to);
	bool pod = kind == ABI_KIND_LOCAL_POD || kind == ABI_KIND_REMOTE_POD, said;
	unsigned flags = lab_address_flags(l, to);

	if (pod && (port == 15001 || port == 15006))
		return ABI_OWN_PORT;
	if (pod && port == 15008)
		return ABI_NONE;
	if (kind == ABI_KIND_NONE && !svc && lab_flags(l, from) & ABI_POD_REGISTRY_ONLY)
		return ABI_EGRESS;
	if (flags & ABI_ADDRESS_MESH && !(lab_flags(l, from) & ABI_POD_PLAIN))
		return ABI_TUNNELLED;
	if (flags & ABI_ADDRESS_PROXY || (svc && pair_is(&svc->annotations, "weft.io/proxy", "always", &said)))
		return ABI_PROXIED;
	return ABI_NONE;
}

enum abi_kind lab_kind(const struct lab *l, const struct abi_addr *a)
{
	const struct object *o = NULL;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned slot = 0; slot < PODS; slot++) {
			struct abi_addr addr[3];
			bool remote;

			o = pod_object(l, slot);
			remote = !l->pod[slot].in && o && !o->pod.host_network &&
				 !(o->pod.node && !strcmp(o->pod.node, "node1"));
			for (unsigned n = pod_addrs(l, slot, o, addr); n; n--) {
				if (memcmp(&addr[n - 1], a, 16))
					continue;
				if (!pass && l->pod[slot].in)
					return ABI_KIND_LOCAL_POD;
				if (pass && remote)
					return ABI_KIND_REMOTE_POD;
			}
		}
	}
	if (l->node && !memcmp(a, &(struct abi_addr[1]){lab_vip(0)}, 16))
		return ABI_KIND_NODE;
	for (o = NULL; (o = store_each(l->store, KIND_SERVICE, o));)
		for (unsigned v = 0; v < o->service.vips; v++)
			if (!memcmp(&o->service.vip[v], a, 16))
				return ABI_KIND_VIP;
	return ABI_KIND_NONE;
}
