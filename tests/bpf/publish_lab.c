// SPDX-License-Identifier: Apache-2.0
/* publish_lab.c: what comes, changes and goes. */
#include "../unit/scene.h"

#include "publish_lab.h"

const char *lab_space(unsigned n)
{
	static const char *const spaces[] = {"shop", "a", RANDOM_ROOT};

	return spaces[n];
}

struct abi_addr lab_vip(unsigned n)
{
	struct abi_addr a = {.byte = {[10] = 0xff, 0xff, 10, 96, 0, n + 1}};

	if (n < VIPS - 2)
		return a;
	return (struct abi_addr){.byte = {0xfd, [15] = n + 1}};
}

struct abi_addr lab_pod_addr(unsigned slot, unsigned which)
{
	if (which == 1)
		return (struct abi_addr){.byte = {0xfd, 1, [15] = slot + 1}};
	return (struct abi_addr){.byte = {[10] = 0xff, 0xff, 10, which ? 2 : 1, 0, slot + 1}};
}

static const char *const annotation[][3] = {
	{"weft.io/proxy", "always", "auto"},
	{"weft.io/egress", "registry-only", "any"},
	{"weft.io/fail-open", "true", "false"},
};

static void annotate(struct lab *l, struct object *o)
{
	struct pairs *to = &o->annotations;

	to->item = arena_alloc(&o->arena, array_size(annotation) * sizeof(*to->item));
	for (unsigned i = 0; i < array_size(annotation); i++)
		if (random_chance(&l->r, 40))
			to->item[to->count++] =
				(struct pair){annotation[i][0], annotation[i][1 + random_chance(&l->r, 40)]};
}

/* As weftctl pod add --annotation gives them. */
static void annotate_text(struct lab *l, char *text, size_t size)
{
	size_t len = 0;

	memset(text, 0, size);
	for (unsigned i = 0; i < array_size(annotation); i++)
		if (random_chance(&l->r, 40))
			len += (size_t)snprintf(text + len, size - len, "%s=%s", annotation[i][0],
						annotation[i][1 + random_chance(&l->r, 40)]) +
			       1;
}

static void add_mode(struct lab *l, struct pairs *to)
{
	if (random_chance(&l->r, 30))
		to->item[to->count++] =
			(struct pair){"istio.io/dataplane-mode", random_chance(&l->r, 60) ? "none" : "ambient"};
}

static void add_labels(struct lab *l, struct object *o, struct pairs *ret)
{
	char text[64];

	random_labels(&l->r, text, sizeof(text));
	ret->item = arena_alloc(&o->arena, 3 * sizeof(*ret->item));
	for (char *at = text; *at; at += strlen(at) + 1) {
		char *eq = strchr(at, '=');

		ret->item[ret->count++] = (struct pair){arena_string(&o->arena, at, eq - at),
							arena_string(&o->arena, eq + 1, strlen(eq + 1))};
	}
}

static void mutate_service(struct lab *l)
{
	unsigned n = random_draw(&l->r, SERVICES);
	const char *space = lab_space(n % 2);
	struct object *o;
	char name[16];

	snprintf(name, sizeof(name), "s%u", n);
	if (random_chance(&l->r, 25)) {
		store_del(l->store, KIND_SERVICE, space, name);
		return;
	}
	o = scene_object(KIND_SERVICE, space, name);
	o->created = random_draw(&l->r, 2);
	o->service.vips = random_draw(&l->r, 3);
	o->service.vip = arena_alloc(&o->arena, 3 * sizeof(struct abi_addr));
	for (unsigned i = 0; i < o->service.vips; i++)
		o->service.vip[i] = lab_vip((n + random_draw(&l->r, 3) + 4 * i) % VIPS);
	o->service.ports = random_draw(&l->r, 3);
	o->service.port = arena_alloc(&o->arena, 3 * sizeof(struct service_port));
	for (unsigned i = 0; i < o->service.ports; i++)
		o->service.port[i] = (struct service_port){.name = i ? "two" : "",
							   .port = 80 + i,
							   .target = 8080 + i,
							   .target_name = random_chance(&l->r, 30) ? "http" : NULL};
	if (random_chance(&l->r, 70))
		add_labels(l, o, &o->service.selector);
	annotate(l, o);
	o->service.affinity = random_chance(&l->r, 20);
	o->service.affinity_seconds = 100;
	o->service.publish_not_ready = random_chance(&l->r, 10);
	store_put(l->store, o);
}

static void mutate_slice(struct lab *l)
{
	unsigned n = random_draw(&l->r, SERVICES), part = random_draw(&l->r, 2);
	const char *space = lab_space(n % 2);
	struct object *o;
	char name[16], service[16];

	snprintf(name, sizeof(name), "x%u-%u", n, part);
	snprintf(service, sizeof(service), "s%u", random_chance(&l->r, 80) ? n : random_draw(&l->r, SERVICES));
	if (random_chance(&l->r, 50)) {
		store_del(l->store, KIND_ENDPOINT_SLICE, space, name);
		return;
	}
	o = scene_object(KIND_ENDPOINT_SLICE, space, name);
	o->slice.service = arena_string(&o->arena, service, strlen(service));
	o->slice.ipv6 = random_chance(&l->r, 20);
	o->slice.endpoints = random_draw(&l->r, 6);
	o->slice.endpoint = arena_alloc(&o->arena, 6 * sizeof(struct slice_endpoint));
	for (unsigned i = 0; i < o->slice.endpoints; i++)
		o->slice.endpoint[i] = (struct slice_endpoint){
			.addr = lab_pod_addr(random_draw(&l->r, 12), o->slice.ipv6 ? 1 : 0),
			.ready = random_chance(&l->r, 60),
			.serving = random_chance(&l->r, 70),
			.terminating = random_chance(&l->r, 30),
			.weight = random_draw(&l->r, 4)};
	o->slice.ports = random_draw(&l->r, 3);
	o->slice.port = arena_alloc(&o->arena, 3 * sizeof(struct slice_port));
	for (unsigned i = 0; i < o->slice.ports; i++)
		o->slice.port[i] =
			(struct slice_port){.name = !i ? "" : random_chance(&l->r, 50) ? "two"
										       : "http",
					    .port = 9000 + i};
	store_put(l->store, o);
}

void lab_enrol(struct lab *l, unsigned slot)
{
	struct enrolled *e = &l->pod[slot];
	struct wire_pod *p = mem_alloc(sizeof(*p));
	char why[256];

	p->netns = e->netns;
	p->pod = slot + 1;
	p->addr[p->addrs++] = lab_pod_addr(slot, 0);
	if (slot % 2)
		p->addr[p->addrs++] = lab_pod_addr(slot, 1);
	text_copy(p->namespace, sizeof(p->namespace), lab_space(slot % 3));
	snprintf(p->name, sizeof(p->name), "p%u", slot);
	text_copy(p->service_account, sizeof(p->service_account), e->account);
	memcpy(p->labels, e->labels, sizeof(e->labels));
	memcpy(p->annotations, e->annotations, sizeof(e->annotations));
	if (world_enrol(l->world, p, why))
		fail_msg("%s", why);
	free(p);
}

static void mutate_enrolment(struct lab *l)
{
	unsigned slot = random_draw(&l->r, PODS);
	struct enrolled *e = &l->pod[slot];

	if (e->in && random_chance(&l->r, 40)) {
		world_release(l->world, e->netns);
		e->in = false;
		return;
	}
	if (!e->in || random_chance(&l->r, 20)) { /* another netns: the pod was started anew */
		if (e->in)
			world_release(l->world, e->netns);
		e->netns = 1000 + slot + 100 * random_draw(&l->r, 5);
	}
	e->in = true;
	text_copy(e->account, sizeof(e->account), random_account(&l->r));
	random_labels(&l->r, e->labels, sizeof(e->labels));
	annotate_text(l, e->annotations, sizeof(e->annotations));
	lab_enrol(l, slot);
}

static void mutate_pod(struct lab *l)
{
	unsigned slot = random_draw(&l->r, PODS);
	const char *space = lab_space(slot % 3);
	struct object *o;
	char name[16];

	snprintf(name, sizeof(name), "p%u", slot);
	if (random_chance(&l->r, 40)) {
		store_del(l->store, KIND_POD, space, name);
		return;
	}
	o = scene_object(KIND_POD, space, name);
	add_labels(l, o, &o->labels);
	add_mode(l, &o->labels);
	annotate(l, o);
	o->pod.service_account = random_account(&l->r);
	o->pod.node = random_chance(&l->r, 50) ? "node1" : random_chance(&l->r, 50) ? "node2"
										    : NULL;
	o->pod.addr = arena_alloc(&o->arena, 3 * sizeof(struct abi_addr));
	for (unsigned i = 0; i < 3; i++)
		if (random_chance(&l->r, 50))
			o->pod.addr[o->pod.addrs++] = lab_pod_addr(slot, i);
	o->pod.port = arena_alloc(&o->arena, sizeof(struct pod_port));
	*o->pod.port = (struct pod_port){"http", 7000 + slot};
	o->pod.ports = random_draw(&l->r, 2);
	o->pod.host_network = random_chance(&l->r, 10);
	o->pod.finished = random_chance(&l->r, 10);
	o->pod.unready = random_chance(&l->r, 20);
	o->pod.terminating = random_chance(&l->r, 20);
	store_put(l->store, o);
}

static void mutate_namespace(struct lab *l)
{
	const char *space = lab_space(random_draw(&l->r, 3));
	struct object *o;

	if (random_chance(&l->r, 40)) {
		store_del(l->store, KIND_NAMESPACE, "", space);
		return;
	}
	o = scene_object(KIND_NAMESPACE, "", space);
	o->labels.item = arena_alloc(&o->arena, sizeof(*o->labels.item));
	add_mode(l, &o->labels);
	annotate(l, o);
	store_put(l->store, o);
}

static void mutate_policy(struct lab *l)
{
	const char *space = lab_space(random_draw(&l->r, 3));
	char name[16];

	snprintf(name, sizeof(name), "q%u", random_draw(&l->r, 3));
	if (random_chance(&l->r, 40))
		store_del(l->store, KIND_AUTHORIZATION_POLICY, space, name);
	else
		store_put(l->store, random_policy(&l->r, space, name));
	if (random_chance(&l->r, 60))
		return;
	if (random_chance(&l->r, 50))
		store_del(l->store, KIND_PEER_AUTHENTICATION, space, name);
	else
		store_put(l->store, random_peer(&l->r, space, name));
}

static void mutate_node(struct lab *l)
{
	struct abi_addr a = lab_vip(0);

	l->node = !l->node;
	world_node_addresses(l->world, &a, l->node);
}

void lab_mutate(struct lab *l)
{
	static void (*const what[])(struct lab *) = {mutate_service, mutate_slice, mutate_slice,
						     mutate_pod, mutate_policy, mutate_enrolment,
						     mutate_namespace};

	for (unsigned n = 1 + random_draw(&l->r, 4); n; n--)
		what[random_draw(&l->r, array_size(what))](l);
	if (random_chance(&l->r, 5))
		mutate_node(l);
}
