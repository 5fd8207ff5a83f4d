/* SPDX-License-Identifier: Apache-2.0 */
/* destination.c: what a person writes as a destination, found in the world: see report.h. */
#include <stdlib.h>
#include <string.h>

#include "decide.h"
#include "report.h"

/* The address that it connects from: the first of the family of `to`, as ask_source() of connect.bpf.c. */
void destination_from(struct destination *x)
{
	bool v4 = addr_is_v4(&x->addr);

	memset(&x->from, 0, sizeof(x->from));
	for (unsigned i = 0; i < x->source->addrs; i++) {
		if (addr_is_v4(&x->source->addr[i]) != v4)
			continue;
		x->from = x->source->addr[i];
		return;
	}
}

enum abi_reason destination_need(const struct destination *x, const struct world_front *front,
				 const struct abi_addr *addr, uint16_t port)
{
	const struct world_address *a = world_address(x->world, addr);
	struct abi_address row = {0};
	struct decide_dest d = {.pod = x->source->flags,
				.service = front != NULL,
				.service_proxy = front && front->flags & ABI_SERVICE_PROXY,
				.service_routes = front && front->flags & ABI_SERVICE_ROUTES,
				.port = port};

	if (a && world_address_row(a, &row)) {
		d.kind = row.kind;
		d.address = row.flags;
	}
	return decide_capture(&d);
}

static bool port_of(struct destination *x, const char *s)
{
	long long n;

	if (text_number(s, 1, 65535, &n)) {
		snprintf(x->why, sizeof(x->why), "\"%.64s\" is not a port: give a number from 1 to 65535", s);
		return false;
	}
	x->port = (uint16_t)n;
	return true;
}

/* Its only port, if none was given. */
static bool service_port(struct destination *x, const struct world_service *s)
{
	const struct object_service *o = &s->object->service;
	struct text list = {0};

	if (x->port || o->ports == 1) {
		x->port = x->port ? x->port : o->port[0].port;
		return true;
	}
	for (unsigned i = 0; i < o->ports; i++)
		text_add(&list, "%s%u", i ? ", " : "", o->port[i].port);
	if (list.len)
		snprintf(x->why, sizeof(x->why), "service %.64s/%.64s has several ports (%.80s): give one",
			 s->namespace, s->name, list.data);
	else
		snprintf(x->why, sizeof(x->why), "service %.64s/%.64s has no TCP port", s->namespace,
			 s->name);
	text_free(&list);
	return false;
}

/* The first VIP of a family that the source has too. A port that it has not is for the kernel to refuse. */
static bool take_service(struct destination *x, const struct world_service *s)
{
	if (!s->vips) {
		snprintf(x->why, sizeof(x->why),
			 "service %.64s/%.64s has no clusterIP that weft serves: ask for one of its pods",
			 s->namespace, s->name);
		return false;
	}
	if (!service_port(x, s))
		return false;
	for (unsigned i = 0; i < s->vips; i++) {
		x->addr = s->vip[i];
		destination_from(x);
		if (!addr_is_zero(&x->from))
			return true;
	}
	x->addr = s->vip[0];
	return true;
}

static bool take_pod(struct destination *x, const struct world_pod *p)
{
	if (!p->addrs) {
		snprintf(x->why, sizeof(x->why), "pod %.100s/%.100s has no address", p->namespace, p->name);
		return false;
	}
	for (unsigned i = 0; i < p->addrs; i++) {
		x->addr = p->addr[i];
		destination_from(x);
		if (!addr_is_zero(&x->from))
			break;
	}
	if (!x->port && p->object && p->object->pod.ports == 1)
		x->port = p->object->pod.port[0].port;
	if (x->port)
		return true;
	snprintf(x->why, sizeof(x->why), "which port? give %.100s/%.100s:PORT", p->namespace, p->name);
	return false;
}

static bool take_name(struct destination *x, const char *namespace, const char *name, bool service_only)
{
	const struct world_pod *p = service_only ? NULL : world_pod_named(x->world, namespace, name);
	const struct world_service *s = world_service_named(x->world, namespace, name);

	if (p)
		return take_pod(x, p);
	if (s && s->object)
		return take_service(x, s);
	if (!*name || !*namespace)
		snprintf(x->why, sizeof(x->why),
			 "no destination is named: give NAME.NAMESPACE, NAMESPACE/NAME or an address");
	else
		snprintf(x->why, sizeof(x->why), "there is no %sservice %.64s in namespace %.64s: %s",
			 service_only ? "" : "pod or ", name, namespace, "see weftctl services and weftctl pods");
	return false;
}

/* "web.shop", "web.shop.svc.cluster.local", "shop/web", "web" (in the namespace of the source) */
static bool take_host(struct destination *x, char *host)
{
	char *slash = strchr(host, '/'), *dot = strchr(host, '.'), *rest;

	if (slash) {
		*slash = '\0';
		return take_name(x, host, slash + 1, false);
	}
	if (!dot)
		return take_name(x, x->source->namespace, host, false);
	*dot = '\0';
	rest = strchr(dot + 1, '.');
	if (rest && strcmp(rest, ".svc") && !text_starts(rest, ".svc.")) {
		snprintf(
			x->why, sizeof(x->why),
			"\"%.64s.%.64s\" is not a service: give NAME.NAMESPACE, NAMESPACE/NAME or an address",
			host, dot + 1);
		return false;
	}
	if (rest)
		*rest = '\0';
	return take_name(x, dot + 1, host, true);
}

static bool take_addr(struct destination *x)
{
	const struct world_front *only = NULL;

	if (x->port)
		return true;
	for (struct world_front *f = world_front_each(x->world, NULL); f; f = world_front_each(x->world, f)) {
		if (!f->owner || !addr_equal(&f->key.vip, &x->addr))
			continue;
		if (only) {
			snprintf(x->why, sizeof(x->why),
				 "the service %.80s/%.80s has several ports: give one", f->owner->namespace,
				 f->owner->name);
			return false;
		}
		only = f;
	}
	if (only)
		x->port = only->key.port;
	else
		snprintf(x->why, sizeof(x->why), "which port? give ADDRESS:PORT, or [ADDRESS]:PORT for IPv6");
	return only != NULL;
}

bool destination_parse(struct destination *x, const char *text)
{
	char *copy = mem_string(text), *host = copy, *colon = strrchr(copy, ':'), *close = strchr(copy, ']');
	bool ok = true;

	if (!addr_parse(copy, &x->addr)) {
		colon = NULL; /* a bare address: colons are its own */
	} else if (copy[0] == '[' && !close) {
		snprintf(x->why, sizeof(x->why), "\"%.100s\" has no \"]\": give [ADDRESS]:PORT", text);
		ok = false;
	} else if (copy[0] == '[') {
		host = copy + 1;
		*close = '\0';
		if (close[1] && close[1] != ':') {
			snprintf(x->why, sizeof(x->why), "\"%.100s\": after \"]\" comes :PORT", text);
			ok = false;
		}
		colon = close[1] ? close + 1 : NULL;
	}
	if (ok && colon) {
		*colon = '\0';
		ok = port_of(x, colon + 1);
	}
	if (ok)
		ok = !addr_parse(host, &x->addr) ? take_addr(x) : take_host(x, host);
	free(copy);
	return ok;
}
