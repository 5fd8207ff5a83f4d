/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k8s_core.c: Node, Pod, Service, EndpointSlice.
 *
 * Fields that weft does not use are not looked at: a newer Kubernetes may have more of them.
 */
#include <string.h>

#include "k8s_kinds.h"
#include "wire.h"

/* Of one object; Kubernetes has two addresses and fewer ports. They bound loops over all pairs. */
#define MAX_ADDRS 16
#define MAX_PORTS 1024

static bool tcp(const struct field *port)
{
	struct field f = field_get(port, "protocol");
	const char *s = field_text(&f);

	if (s && strcmp(s, "TCP") && strcmp(s, "UDP") && strcmp(s, "SCTP")) {
		field_error(&f, "must be TCP, UDP or SCTP, not \"%.20s\"", s);
		return false;
	}
	return !s || !strcmp(s, "TCP");
}

/* An address that a pod or service can have: not one that would lead back to the client itself. */
static bool usable_address(const struct field *f, struct abi_addr *ret)
{
	const char *what = NULL;

	if (!field_address(f, ret))
		return false;
	if (addr_is_zero(ret))
		what = "the unspecified address";
	else if (addr_is_loopback(ret))
		what = "a loopback address";
	else if (addr_is_link_local(ret))
		what = "a link-local address";
	else if (addr_is_v4(ret) ? ret->byte[12] >= 224 : ret->byte[0] == 0xff)
		what = "a multicast or reserved address";
	if (what)
		field_error(f, "\"%.60s\" is %s; it cannot be reached from another pod", f->doc->text, what);
	return !what;
}

static bool has_address(const struct abi_addr *list, unsigned count, const struct abi_addr *a)
{
	for (unsigned i = 0; i < count; i++)
		if (addr_equal(&list[i], a))
			return true;
	return false;
}

/* ------------------------------------------------------------------ Node */

static void decode_node(const struct field *root)
{
	struct object_node *n = &root->d->object->node;
	struct field status = field_get(root, "status"), list = field_get(&status, "addresses");

	if (!field_is_map(&status))
		return;
	if (field_given(&list))
		n->addr = field_alloc(&list, field_count(&list), sizeof(*n->addr));
	for (struct field i = field_first_item(&list); i.doc; field_next(&i)) {
		struct field type = field_get(&i, "type"), address = field_get(&i, "address");
		const char *s = field_is_map(&i) ? field_text(&type) : NULL;

		if (s && text_ends(s, "IP") && field_address(&address, &n->addr[n->addrs]))
			n->addrs++;
	}
}

/* ------------------------------------------------------------------ Pod */

static unsigned count_ports(const struct field *spec, const char *key)
{
	struct field list = field_get(spec, key);
	unsigned n = 0;

	for (const struct doc *c = list.doc ? list.doc->child : NULL; c; c = c->next)
		for (const struct doc *p = doc_get(c, "ports") ? doc_get(c, "ports")->child : NULL; p;
		     p = p->next)
			n++;
	return n;
}

static void container_ports(const struct field *container)
{
	struct object_pod *pod = &container->d->object->pod;
	struct field list = field_get(container, "ports");

	for (struct field i = field_first_item(&list); i.doc; field_next(&i)) {
		struct field name = field_get(&i, "name"), number = field_get(&i, "containerPort");
		const char *s;
		long long port;

		if (!field_is_map(&i) || !tcp(&i))
			continue;
		s = field_string(&name);
		if (s && field_number(&number, 1, 65535, &port))
			pod->port[pod->ports++] = (struct pod_port){.name = s, .port = (uint16_t)port};
	}
}

static void pod_ports(const struct field *spec)
{
	static const char *const lists[] = {"containers", "initContainers"};
	struct object_pod *pod = &spec->d->object->pod;
	unsigned n = count_ports(spec, lists[0]) + count_ports(spec, lists[1]);

	if (n)
		pod->port = field_alloc(spec, n, sizeof(*pod->port));
	for (unsigned l = 0; l < array_size(lists); l++) {
		struct field list = field_get(spec, lists[l]);

		for (struct field i = field_first_item(&list); i.doc; field_next(&i)) {
			struct field restart = field_get(&i, "restartPolicy");
			const char *policy;

			if (!field_is_map(&i))
				continue;
			policy = field_text(&restart);
			/* An init container that restarts always is a sidecar: it serves while the pod lives. */
			if (!l || (policy && !strcmp(policy, "Always")))
				container_ports(&i);
		}
	}
}

static void pod_address(const struct field *f)
{
	struct object_pod *pod = &f->d->object->pod;
	struct abi_addr a;

	if (!field_given(f) || (f->doc->text && !f->doc->text[0]) || !usable_address(f, &a))
		return;
	if (!has_address(pod->addr, pod->addrs, &a))
		pod->addr[pod->addrs++] = a;
}

static void pod_status(const struct field *root)
{
	struct object_pod *pod = &root->d->object->pod;
	struct field status = field_get(root, "status"), phase = field_get(&status, "phase");
	struct field ip = field_get(&status, "podIP"), ips = field_get(&status, "podIPs");
	struct field conditions = field_get(&status, "conditions");
	const char *s;

	if (!field_is_map(&status) || !field_at_most(&ips, MAX_ADDRS))
		return;
	s = field_text(&phase);
	pod->finished = s && (!strcmp(s, "Succeeded") || !strcmp(s, "Failed"));
	pod->addr = field_alloc(&status, field_count(&ips) + 1, sizeof(*pod->addr));
	pod_address(&ip);
	for (struct field i = field_first_item(&ips); i.doc; field_next(&i)) {
		struct field item = field_get(&i, "ip");

		if (field_is_map(&i))
			pod_address(&item);
	}
	for (struct field i = field_first_item(&conditions); i.doc; field_next(&i)) {
		struct field type = field_get(&i, "type"), value = field_get(&i, "status");

		if (!field_is_map(&i) || !(s = field_text(&type)) || strcmp(s, "Ready"))
			continue;
		s = field_text(&value);
		pod->unready = !s || strcmp(s, "True");
	}
}

static void check_annotations(const struct field *root)
{
	const struct pairs *given = &root->d->object->annotations;
	struct field metadata = field_get(root, "metadata"), list = field_get(&metadata, "annotations");

	for (unsigned i = 0; i < given->count; i++) {
		const char *words = wire_annotation_words(given->item[i].key, given->item[i].value);
		struct field f = field_get(&list, given->item[i].key);

		if (words)
			field_error(&f, "must be %s, not \"%.40s\"", words, given->item[i].value);
	}
}

static void decode_pod(const struct field *root)
{
	struct object_pod *pod = &root->d->object->pod;
	struct field spec = field_get(root, "spec"), account = field_get(&spec, "serviceAccountName");
	struct field old_account = field_get(&spec, "serviceAccount");
	struct field node = field_get(&spec, "nodeName"), host = field_get(&spec, "hostNetwork");
	struct field metadata = field_get(root, "metadata"), deleted = field_get(&metadata, "deletionTimestamp");

	check_annotations(root);
	pod->terminating = field_given(&deleted);
	if (field_is_map(&spec)) {
		const char *s = field_string(&account);

		if (!s || !*s)
			s = field_string(&old_account);
		if (s && *s)
			pod->service_account = s;
		s = field_string(&node);
		pod->node = s && *s ? s : NULL;
		pod->host_network = field_bool(&host, false);
		pod_ports(&spec);
	}
	pod_status(root);
}

/* ------------------------------------------------------------------ Service */

static void service_port(const struct field *i)
{
	struct object_service *s = &i->d->object->service;
	struct field name = field_get(i, "name"), number = field_get(i, "port");
	struct field target = field_get(i, "targetPort"), protocol = field_get(i, "appProtocol");
	struct service_port *p = &s->port[s->ports];
	long long n;

	if (!field_is_map(i) || !tcp(i))
		return;
	if (!field_given(&number)) {
		field_error(&number, "is missing");
		return;
	}
	if (!field_number(&number, 1, 65535, &n))
		return;
	p->port = p->target = (uint16_t)n;
	p->name = field_string(&name);
	if (!p->name)
		p->name = "";
	p->app_protocol = field_string(&protocol);
	if (field_given(&target) && target.doc->kind == DOC_STRING) {
		p->target = 0;
		p->target_name = field_string(&target);
		if (!*p->target_name)
			field_error(&target, "must be a number or the name of a container's port");
	} else if (field_number(&target, 1, 65535, &n)) {
		p->target = (uint16_t)n;
	}
	for (unsigned k = 0; k < s->ports; k++) {
		if (s->port[k].port == p->port)
			field_error(&number, "%u is given twice", p->port);
		if (!strcmp(s->port[k].name, p->name))
			field_error(&name, "\"%.60s\" is given twice: ports need different names", p->name);
	}
	s->ports++;
}

static void service_vip(const struct field *f)
{
	struct object_service *s = &f->d->object->service;
	const char *text = field_text(f);
	struct abi_addr a;

	if (!text || !*text)
		return;
	if (!strcmp(text, "None"))
		s->headless = true;
	else if (usable_address(f, &a) && !has_address(s->vip, s->vips, &a))
		s->vip[s->vips++] = a;
}

static void service_affinity(const struct field *spec)
{
	struct object_service *s = &spec->d->object->service;
	struct field f = field_get(spec, "sessionAffinity"), config = field_get(spec, "sessionAffinityConfig");
	struct field client = field_get(&config, "clientIP"), timeout = field_get(&client, "timeoutSeconds");
	const char *text = field_text(&f);
	long long n;

	if (!text || !*text || !strcmp(text, "None"))
		return;
	if (strcmp(text, "ClientIP")) {
		field_error(&f, "must be ClientIP or None, not \"%.40s\"", text);
		return;
	}
	s->affinity = true;
	s->affinity_seconds = 10800; /* the default of Kubernetes */
	if (field_is_map(&config) && field_is_map(&client) && field_number(&timeout, 1, 86400, &n))
		s->affinity_seconds = (uint32_t)n;
}

/* Envoy's stream_idle_timeout */
#define STALL_NS 300000000000ull

static void service_stall(const struct field *root)
{
	struct field metadata = field_get(root, "metadata"), list = field_get(&metadata, "annotations");
	struct field f = field_get(&list, "weft.io/stall-timeout");

	root->d->object->service.stall_ns = STALL_NS;
	(void)field_duration(&f, &root->d->object->service.stall_ns);
}

static void decode_service(const struct field *root)
{
	struct object_service *s = &root->d->object->service;
	struct field spec = field_get(root, "spec"), ports = field_get(&spec, "ports");
	struct field vip = field_get(&spec, "clusterIP"), vips = field_get(&spec, "clusterIPs");
	struct field selector = field_get(&spec, "selector"), type = field_get(&spec, "type");
	struct field unready = field_get(&spec, "publishNotReadyAddresses");
	struct field local = field_get(&spec, "internalTrafficPolicy");
	const char *text;

	check_annotations(root);
	service_stall(root);
	if (!field_given(&spec)) {
		field_error(&spec, "is missing");
		return;
	}
	if (!field_is_map(&spec))
		return;
	text = field_text(&type);
	if (text && !strcmp(text, "ExternalName"))
		return; /* a name for DNS, nothing to balance */
	if (!field_at_most(&vips, MAX_ADDRS) || !field_at_most(&ports, MAX_PORTS))
		return;
	s->vip = field_alloc(&spec, field_count(&vips) + 1, sizeof(*s->vip));
	service_vip(&vip);
	for (struct field i = field_first_item(&vips); i.doc; field_next(&i))
		service_vip(&i);
	if (s->headless && s->vips)
		field_error(&vip, "\"None\" and an address exclude each other");
	if (!s->headless && !s->vips && !root->d->errors)
		field_warning(&vip, "is missing, and without a cluster nobody gives one: the service has no "
				    "address of its own");
	if (field_given(&ports))
		s->port = field_alloc(&ports, field_count(&ports), sizeof(*s->port));
	for (struct field i = field_first_item(&ports); i.doc; field_next(&i))
		service_port(&i);
	field_pairs(&selector, &s->selector);
	service_affinity(&spec);
	s->publish_not_ready = field_bool(&unready, false);
	text = field_text(&local);
	if (text && !strcmp(text, "Local"))
		field_warning(&local, "Local is not supported yet: endpoints of all nodes are used");
}

/* ------------------------------------------------------------------ EndpointSlice */

static uint16_t slice_weight(const struct field *root)
{
	const char *s = pairs_get(&root->d->object->annotations, "weft.io/weight");
	struct field metadata = field_get(root, "metadata"), list = field_get(&metadata, "annotations");
	struct field f = field_get(&list, "weft.io/weight");
	long long n = 1;

	if (s && text_number(s, 0, 65535, &n))
		field_error(&f, "must be a whole number from 0 to 65535, not \"%.40s\"", s);
	return (uint16_t)n;
}

static void slice_endpoint(const struct field *i, uint16_t weight)
{
	struct object_slice *s = &i->d->object->slice;
	struct slice_endpoint *e = &s->endpoint[s->endpoints];
	struct field list = field_get(i, "addresses"), node = field_get(i, "nodeName");
	struct field c = field_get(i, "conditions"), ready = field_get(&c, "ready");
	struct field serving = field_get(&c, "serving"), terminating = field_get(&c, "terminating");
	struct field a;

	if (!field_is_map(i))
		return;
	a = field_first_item(&list);
	if (!a.doc) {
		field_error(&list, "is missing or empty");
		return;
	}
	if (!usable_address(&a, &e->addr))
		return;
	if (addr_is_v4(&e->addr) == s->ipv6) {
		field_error(&a, "\"%.60s\" is not of the slice's addressType %s", a.doc->text,
			    s->ipv6 ? "IPv6" : "IPv4");
		return;
	}
	if (a.doc->next)
		field_warning(&list, "only the first address of an endpoint is used, as in kube-proxy");
	e->node = field_string(&node);
	e->ready = e->serving = true;
	e->weight = weight;
	if (field_is_map(&c)) {
		e->ready = field_bool(&ready, true);
		e->serving = field_bool(&serving, e->ready);
		e->terminating = field_bool(&terminating, false);
	}
	s->endpoints++;
}

static void slice_port(const struct field *i)
{
	struct object_slice *s = &i->d->object->slice;
	struct field name = field_get(i, "name"), number = field_get(i, "port");
	const char *text;
	long long n;

	if (!field_is_map(i) || !tcp(i))
		return;
	if (!field_given(&number)) {
		field_warning(&number, "is missing (all ports): not supported, the entry is skipped");
		return;
	}
	text = field_string(&name);
	if (field_number(&number, 1, 65535, &n))
		s->port[s->ports++] = (struct slice_port){.name = text ? text : "", .port = (uint16_t)n};
}

static void decode_slice(const struct field *root)
{
	struct object_slice *s = &root->d->object->slice;
	struct field type = field_get(root, "addressType"), ports = field_get(root, "ports");
	struct field endpoints = field_get(root, "endpoints");
	uint16_t weight = slice_weight(root);
	const char *text = field_text(&type);

	s->service = pairs_get(&root->d->object->labels, "kubernetes.io/service-name");
	if (!s->service)
		field_warning(root, "has no label kubernetes.io/service-name: it belongs to no service");
	if (!field_given(&type)) {
		field_error(&type, "is missing");
		return;
	}
	if (!text)
		return;
	if (!strcmp(text, "FQDN")) {
		field_warning(&type, "FQDN is not supported: the endpoints are not used");
		return;
	}
	if (strcmp(text, "IPv4") && strcmp(text, "IPv6")) {
		field_error(&type, "must be IPv4, IPv6 or FQDN, not \"%.40s\"", text);
		return;
	}
	s->ipv6 = !strcmp(text, "IPv6");
	if (field_given(&endpoints))
		s->endpoint = field_alloc(&endpoints, field_count(&endpoints), sizeof(*s->endpoint));
	for (struct field i = field_first_item(&endpoints); i.doc; field_next(&i))
		slice_endpoint(&i, weight);
	if (field_given(&ports))
		s->port = field_alloc(&ports, field_count(&ports), sizeof(*s->port));
	for (struct field i = field_first_item(&ports); i.doc; field_next(&i))
		slice_port(&i);
}

void k8s_core_decode(const struct field *root)
{
	switch (root->d->object->kind) {
	case KIND_NODE:
		decode_node(root);
		break;
	case KIND_POD:
		decode_pod(root);
		break;
	case KIND_SERVICE:
		decode_service(root);
		break;
	case KIND_ENDPOINT_SLICE:
		decode_slice(root);
		break;
	case KIND_NAMESPACE:
		check_annotations(root);
		break;
	default: /* ServiceAccount: the name says it all */
		break;
	}
}
