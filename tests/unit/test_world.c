// SPDX-License-Identifier: Apache-2.0
/* The world from objects and pods: what is claimed by whom, what changes when something changes, what is wrong. */
#include <sys/resource.h>
#include <unistd.h>

#include "cpu.h"
#include "scene.h"

static struct world_front *front(struct scene *s, const char *vip, uint16_t port)
{
	struct abi_addr a = scene_addr(vip);

	return world_front(s->world, &a, port);
}

static enum abi_kind kind(struct scene *s, const char *addr)
{
	struct abi_addr a = scene_addr(addr);
	struct world_address *w = world_address(s->world, &a);
	struct abi_address row;

	return w && world_address_row(w, &row) ? row.kind : ABI_KIND_NONE;
}

/* What publish() does to the rows, without a kernel. */
static void settle(struct world *w)
{
	while (!list_empty(&w->dirty_pods)) {
		struct world_pod *p = container_of(w->dirty_pods.next, struct world_pod, dirty_link);

		p->in_kernel = world_pod_row(p, &p->kernel);
		list_del(&p->dirty_link);
		p->dirty = false;
		if (!p->enrolled && !p->object)
			world_pod_drop(w, p);
	}
	while (!list_empty(&w->dirty_fronts)) {
		struct world_front *f = container_of(w->dirty_fronts.next, struct world_front, dirty_link);

		list_del(&f->dirty_link);
		f->dirty = f->endpoints_changed = false;
		f->in_kernel = f->owner != NULL;
		if (!f->owner)
			world_front_drop(w, f);
	}
	while (!list_empty(&w->dirty_addresses)) {
		struct world_address *a = container_of(w->dirty_addresses.next, struct world_address, dirty_link);

		list_del(&a->dirty_link);
		a->dirty = false;
	}
}

static void update(struct scene *s)
{
	world_update(s->world);
	settle(s->world);
}

static unsigned length(const struct list *l)
{
	unsigned n = 0;

	list_each(i, l)
		n++;
	return n;
}

static char last_problem[640];
static unsigned problems;

static void note(void *ctx, const struct problem *p)
{
	problems++;
	snprintf(last_problem, sizeof(last_problem), "%s%s: %s", p->warning ? "warning: " : "", p->object, p->reason);
}

static const char *problem(struct scene *s)
{
	problems = 0;
	last_problem[0] = '\0';
	world_problems(s->world, note, NULL);
	return last_problem;
}

#define SERVICE(name, more) \
	"apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: shop}\nspec: {" more "}\n"

/* ------------------------------------------------------------------ addresses */

static void addresses(void **state)
{
	struct abi_addr node[] = {scene_addr("10.0.0.1"), scene_addr("10.96.0.9")};
	struct scene s = scene_new();

	scene_yaml(s.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: far, namespace: shop}\n"
			    "spec: {nodeName: node2}\nstatus: {podIPs: [{ip: 10.2.0.1}, {ip: 'fd00::2:1'}]}\n");
	scene_yaml(s.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: near, namespace: shop}\n"
			    "spec: {nodeName: node1}\nstatus: {podIP: 10.1.0.7}\n");
	scene_yaml(s.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: hosty, namespace: shop}\n"
			    "spec: {nodeName: node2, hostNetwork: true}\nstatus: {podIP: 10.0.0.2}\n");
	scene_yaml(s.store, "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\n"
			    "status: {addresses: [{type: InternalIP, address: 172.16.0.1}]}\n");
	scene_yaml(s.store, SERVICE("web", "clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ports: [{port: 80}]"));
	world_node_addresses(s.world, node, 2);
	update(&s);
	assert_int_equal(kind(&s, "10.2.0.1"), ABI_KIND_REMOTE_POD);
	assert_int_equal(kind(&s, "fd00::2:1"), ABI_KIND_REMOTE_POD);
	assert_int_equal(kind(&s, "10.1.0.7"), ABI_KIND_NONE); /* of this node, and nobody enrolled it */
	assert_int_equal(kind(&s, "10.0.0.2"), ABI_KIND_NONE); /* a node's, not a pod's */
	assert_int_equal(kind(&s, "172.16.0.1"), ABI_KIND_NODE);
	assert_int_equal(kind(&s, "10.0.0.1"), ABI_KIND_NODE);
	assert_int_equal(kind(&s, "10.96.0.9"), ABI_KIND_NODE); /* stronger than the VIP */
	world_node_addresses(s.world, node, 1);
	assert_int_equal(kind(&s, "10.96.0.9"), ABI_KIND_VIP);

	scene_enrol(s.world, 1, "shop/near", "web", "10.1.0.8", "app=web");
	scene_enrol(s.world, 2, "shop/far", "web", "10.2.0.9", "");
	update(&s);
	assert_int_equal(kind(&s, "10.1.0.7"), ABI_KIND_LOCAL_POD); /* the object's */
	assert_int_equal(kind(&s, "10.1.0.8"), ABI_KIND_LOCAL_POD); /* the enrolment's */
	assert_int_equal(kind(&s, "10.2.0.1"), ABI_KIND_LOCAL_POD);
	world_release(s.world, 1002);
	store_del(s.store, KIND_POD, "shop", "near");
	update(&s);
	assert_int_equal(kind(&s, "10.2.0.1"), ABI_KIND_REMOTE_POD);
	assert_int_equal(kind(&s, "10.2.0.9"), ABI_KIND_NONE);
	assert_int_equal(kind(&s, "10.1.0.7"), ABI_KIND_NONE);
	assert_int_equal(kind(&s, "10.1.0.8"), ABI_KIND_LOCAL_POD);
	scene_free(&s);
}

/* A Pod object whose status names the address of another pod does not take it. */
static void addresses_that_two_claim(void **state)
{
	struct abi_addr a = scene_addr("10.1.0.1");
	struct scene s = scene_new();

	scene_yaml(s.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: liar, namespace: shop}\n"
			    "spec: {nodeName: node1}\nstatus: {podIP: 10.1.0.1}\n");
	scene_enrol(s.world, 2, "shop/liar", "web", "10.1.0.2", "");
	update(&s);
	assert_string_equal(world_address(s.world, &a)->pod->name, "liar");
	scene_enrol(s.world, 1, "shop/owner", "web", "10.1.0.1", "");
	update(&s);
	assert_string_equal(world_address(s.world, &a)->pod->name, "owner");
	scene_enrol(s.world, 2, "shop/liar", "web", "10.1.0.2", "x=y"); /* told anew */
	update(&s);
	assert_string_equal(world_address(s.world, &a)->pod->name, "owner");
	world_release(s.world, 1001);
	update(&s);
	assert_string_equal(world_address(s.world, &a)->pod->name, "liar");
	scene_free(&s);
}

static uint8_t pod_flags(const struct scene *s, unsigned number)
{
	struct abi_pod row;

	assert_true(world_pod_row(world_pod_numbered(s->world, number), &row));
	return row.flags;
}

static uint8_t address_flags(const struct scene *s, const char *addr)
{
	struct abi_addr a = scene_addr(addr);
	struct abi_address row;

	assert_true(world_address_row(world_address(s->world, &a), &row));
	return row.flags;
}

static void annotations_and_membership(void **state)
{
	struct scene s = scene_new();

	scene_enrol(s.world, 1, "shop/web", "web", "10.1.0.1", "");
	scene_enrol(s.world, 2, "shop/db", "db", "10.1.0.2", "istio.io/dataplane-mode=none");
	scene_yaml(s.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: far, namespace: shop}\n"
			    "spec: {nodeName: node2}\nstatus: {podIP: 10.2.0.1}\n");
	scene_yaml(s.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: old, namespace: shop, labels: "
			    "{istio.io/dataplane-mode: none}}\nspec: {nodeName: node2}\nstatus: {podIP: 10.2.0.2}\n");
	update(&s);
	assert_int_equal(pod_flags(&s, 1), 0);
	assert_int_equal(pod_flags(&s, 2), ABI_POD_PLAIN);
	assert_int_equal(address_flags(&s, "10.2.0.1"), ABI_ADDRESS_MESH);
	assert_int_equal(address_flags(&s, "10.2.0.2"), 0);

	scene_yaml(s.store, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: "
			    "{istio.io/dataplane-mode: none}, "
			    "annotations: {weft.io/egress: registry-only, weft.io/proxy: always}}\n");
	scene_yaml(s.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, annotations: "
			    "{weft.io/egress: any, weft.io/fail-open: 'true'}}\nstatus: {podIP: 10.1.0.1}\n");
	update(&s);
	assert_int_equal(pod_flags(&s, 1), ABI_POD_FAIL_OPEN | ABI_POD_PROXY | ABI_POD_PLAIN);
	assert_int_equal(pod_flags(&s, 2), ABI_POD_REGISTRY_ONLY | ABI_POD_PROXY | ABI_POD_PLAIN);
	assert_int_equal(address_flags(&s, "10.2.0.1"), 0);

	store_del(s.store, KIND_NAMESPACE, "", "shop");
	update(&s);
	assert_int_equal(pod_flags(&s, 1), ABI_POD_FAIL_OPEN);
	assert_int_equal(pod_flags(&s, 2), ABI_POD_PLAIN);
	assert_int_equal(address_flags(&s, "10.2.0.1"), ABI_ADDRESS_MESH);
	scene_free(&s);
}

static void pod_rows(void **state)
{
	struct scene s = scene_new();
	struct abi_pod row;

	scene_yaml(s.store,
		   "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}, "
		   "annotations: {weft.io/splice: always}}\nspec: {serviceAccountName: web}\n"
		   "status: {podIP: 10.1.0.1}\n");
	scene_enrol(s.world, 1, "shop/web", "other", "10.1.0.1,fd00::1", "app=old");
	scene_enrol(s.world, 2, "shop/two", "web", "10.1.0.2,10.1.0.3", "");
	world_update(s.world);
	assert_true(world_pod_row(world_pod_numbered(s.world, 1), &row));
	assert_int_equal(row.netns, 1001);
	assert_int_equal(row.splice, ABI_SPLICE_ALWAYS);
	assert_string_equal(row.name, "shop/web");
	assert_false(addr_is_zero(&row.ipv4) || addr_is_zero(&row.ipv6) || row.many_ipv4 || row.many_ipv6);
	assert_string_equal(world_pod_numbered(s.world, 1)->identity->principal, "cluster.local/ns/shop/sa/web");
	assert_ptr_equal(world_pod_numbered(s.world, 1)->identity, world_pod_numbered(s.world, 2)->identity);
	assert_string_equal(pairs_get(world_pod_labels(world_pod_numbered(s.world, 1)), "app"), "web");
	assert_true(world_pod_row(world_pod_numbered(s.world, 2), &row));
	assert_int_equal(row.many_ipv4, 1);
	/* an object that says nothing of them leaves what `pod add` said */
	scene_yaml(s.store, "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {nodeName: n1}\n"
			    "status: {podIP: 10.1.0.1}\n");
	update(&s);
	assert_string_equal(world_pod_numbered(s.world, 1)->identity->service_account, "other");
	assert_string_equal(pairs_get(world_pod_labels(world_pod_numbered(s.world, 1)), "app"), "old");
	/* nor does one that is gone */
	store_del(s.store, KIND_POD, "shop", "web");
	update(&s);
	assert_string_equal(world_pod_numbered(s.world, 1)->identity->service_account, "other");
	assert_string_equal(pairs_get(world_pod_labels(world_pod_numbered(s.world, 1)), "app"), "old");
	scene_free(&s);
}

static void bad_enrolments(void **state)
{
	struct wire_pod *p = mem_alloc(sizeof(*p));
	struct scene s = scene_new();
	char why[256];

	assert_int_equal(world_enrol(s.world, p, why), -EINVAL);
	scene_enrol(s.world, 1, "shop/web", "web", "10.1.0.1", "");
	p->netns = 1001;
	p->pod = 2;
	p->addrs = 1;
	p->addr[0] = scene_addr("10.1.0.5");
	text_copy(p->namespace, sizeof(p->namespace), "shop");
	text_copy(p->name, sizeof(p->name), "thief");
	assert_int_equal(world_enrol(s.world, p, why), -EINVAL);
	assert_non_null(strstr(why, "already enrolled as pod shop/web"));
	free(p);
	scene_free(&s);
}

/* ------------------------------------------------------------------ services */

static void services_by_pods(void **state)
{
	struct scene s = scene_new();
	struct world_front *f;

	scene_yaml(s.store, SERVICE("web", "clusterIPs: [10.96.0.1, 'fd00:96::1'], clusterIP: 10.96.0.1, "
					   "selector: {app: web, tier: '1'}, ports: [{port: 80, targetPort: http}]"));
	update(&s);
	assert_non_null(strstr(problem(&s), "warning: Service shop/web: the selector matches no pod"));
	f = front(&s, "10.96.0.1", 80);
	assert_int_equal(f->count, 0);
	scene_enrol(s.world, 1, "shop/bare", "web", "10.1.0.1", "app=web,tier=1"); /* no object: no port name */
	update(&s);
	assert_int_equal(f->count, 0);
	assert_non_null(strstr(problem(&s), "a port named http"));
	scene_yaml(s.store,
		   "apiVersion: v1\nkind: Pod\nmetadata: {name: bare, namespace: shop, labels: {app: web, tier: '1'}}\n"
		   "spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}\n"
		   "status: {podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}\n");
	update(&s);
	assert_int_equal(f->count, 1);
	assert_int_equal(f->endpoint[0].port, 8080);
	assert_int_equal(front(&s, "fd00:96::1", 80)->count, 1);
	assert_string_equal(problem(&s), "");
	assert_int_not_equal(f->number, front(&s, "fd00:96::1", 80)->number);
	/* it has finished, and nobody has released it yet */
	scene_yaml(s.store,
		   "apiVersion: v1\nkind: Pod\nmetadata: {name: bare, namespace: shop, labels: {app: web, tier: '1'}}\n"
		   "spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}\n"
		   "status: {phase: Succeeded, podIP: 10.1.0.1}\n");
	update(&s);
	assert_int_equal(f->count, 0);
	/* another label: selected no more */
	scene_yaml(s.store,
		   "apiVersion: v1\nkind: Pod\nmetadata: {name: bare, namespace: shop, labels: {app: web, tier: '2'}}\n"
		   "spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}\n"
		   "status: {podIP: 10.1.0.1}\n");
	update(&s);
	assert_int_equal(f->count, 0);
	/* a slice comes: the pods count no more */
	scene_yaml(s.store, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, namespace: "
			    "shop, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\n"
			    "endpoints: [{addresses: [10.3.0.1]}, {addresses: [10.3.0.2], "
			    "conditions: {ready: false}}]\n"
			    "ports: [{name: '', port: 9000}]\n");
	update(&s);
	assert_int_equal(f->count, 1);
	assert_int_equal(f->endpoint[0].port, 9000);
	store_del(s.store, KIND_ENDPOINT_SLICE, "shop", "web-1");
	update(&s);
	assert_int_equal(f->count, 0);
	store_del(s.store, KIND_SERVICE, "shop", "web");
	update(&s);
	assert_null(front(&s, "10.96.0.1", 80));
	assert_int_equal(kind(&s, "10.96.0.1"), ABI_KIND_NONE);
	scene_free(&s);
}

static void services_that_share_an_address(void **state)
{
	struct scene s = scene_new();
	struct world_front *f;
	uint32_t number;

	scene_yaml(s.store, SERVICE("b", "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}]"));
	update(&s);
	f = front(&s, "10.96.0.1", 80);
	number = f->number;
	assert_string_equal(f->name, "shop/b:80");
	scene_yaml(s.store, SERVICE("a", "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}, {name: x, "
					 "port: 81}]"));
	update(&s);
	assert_string_equal(f->name, "shop/a:80"); /* the first by name, whatever came first */
	assert_int_not_equal(f->number, number);
	assert_non_null(strstr(problem(&s), "Service shop/b: 10.96.0.1:80 is already the address of Service shop/a"));
	assert_int_equal(problems, 1);
	assert_string_equal(front(&s, "10.96.0.1", 81)->name, "shop/a:81");
	/* the stronger alone goes, or takes another address: nothing is wrong any more */
	store_del(s.store, KIND_SERVICE, "shop", "a");
	update(&s);
	assert_string_equal(f->name, "shop/b:80");
	assert_string_equal(problem(&s), "");
	scene_yaml(s.store, SERVICE("a", "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}]"));
	update(&s);
	assert_non_null(strstr(problem(&s), "Service shop/b: 10.96.0.1:80 is already the address of Service shop/a"));
	scene_yaml(s.store, SERVICE("a", "clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2], ports: [{port: 80}]"));
	update(&s);
	assert_string_equal(problem(&s), "");
	/* both change in one go, the stronger goes */
	scene_yaml(s.store, SERVICE("a", "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}, {name: x, "
					 "port: 81}]"));
	update(&s);
	assert_non_null(strstr(problem(&s), "Service shop/b"));
	store_del(s.store, KIND_SERVICE, "shop", "a");
	scene_yaml(s.store, SERVICE("b", "clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], sessionAffinity: ClientIP, "
					 "ports: [{port: 80}]"));
	update(&s);
	assert_string_equal(f->name, "shop/b:80");
	assert_int_equal(f->flags, ABI_SERVICE_AFFINITY);
	assert_int_equal(f->affinity_seconds, 10800);
	assert_string_equal(problem(&s), "");
	assert_null(front(&s, "10.96.0.1", 81));
	assert_int_equal(kind(&s, "10.96.0.1"), ABI_KIND_VIP);
	scene_free(&s);
}

/* ------------------------------------------------------------------ policies */

#define ALLOW(ns, name, from)                                                                                    \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " name ", namespace: " ns \
	"}\nspec: {action: ALLOW, rules: [{from: [{source: {namespaces: [" from "]}}]}]}\n"

static void only_what_changed(void **state)
{
	struct scene s = scene_new();
	struct policy_set *lab;
	struct world_pod *p;

	scene_yaml(s.store, ALLOW("shop", "p", "shop"));
	scene_yaml(s.store, ALLOW("lab", "p", "lab"));
	scene_enrol(s.world, 1, "shop/a", "a", "10.1.0.1", "");
	scene_enrol(s.world, 2, "shop/b", "b", "10.1.0.2", "");
	scene_enrol(s.world, 3, "lab/c", "c", "10.1.0.3", "");
	update(&s);
	p = world_pod_numbered(s.world, 3);
	lab = p->set;
	assert_ptr_equal(world_pod_numbered(s.world, 1)->set, world_pod_numbered(s.world, 2)->set);
	assert_int_equal(s.world->set_count, 2);
	scene_yaml(s.store, ALLOW("shop", "p", "other"));
	assert_true(world_update(s.world));
	assert_int_equal(length(&s.world->dirty_pods), 2);
	assert_ptr_equal(p->set, lab);
	settle(s.world);
	scene_yaml(s.store, ALLOW("shop", "p", "other")); /* says the same: nothing to publish */
	assert_false(world_update(s.world));
	scene_yaml(s.store, ALLOW("zoo", "p", "other")); /* selects nobody */
	assert_false(world_update(s.world));
	scene_yaml(s.store, ALLOW("istio-system", "mesh", "other"));
	assert_true(world_update(s.world));
	assert_int_equal(length(&s.world->dirty_pods), 3);
	scene_free(&s);
}

/* Sets that nobody recompiled know an identity that is born later. */
static void identities_that_come_later(void **state)
{
	struct abi_addr from = scene_addr("10.1.0.9");
	struct scene s = scene_new();
	struct policy_set *set;
	struct world_pod *p;

	scene_yaml(s.store, ALLOW("shop", "p", "late"));
	scene_enrol(s.world, 1, "shop/a", "a", "10.1.0.1", "");
	update(&s);
	set = world_pod_numbered(s.world, 1)->set;
	scene_enrol(s.world, 2, "late/b", "b", "10.1.0.2", "");
	update(&s);
	p = world_pod_numbered(s.world, 2);
	assert_ptr_equal(world_pod_numbered(s.world, 1)->set, set);
	assert_int_equal(policy_decide(set, p->identity, &from, 80, NULL), ABI_NONE);
	assert_int_equal(policy_decide(set, NULL, &from, 80, NULL), ABI_NOT_ALLOWED);
	scene_free(&s);
}

static void live_connections(void **state)
{
	struct abi_addr node = scene_addr("10.0.0.1");
	struct scene s = scene_new();
	struct abi_tuple t = {.src = scene_addr("10.1.0.2"), .dst = scene_addr("10.1.0.1"), .dst_port = 80};
	struct abi_conn c = {.client_pod = 2, .server_pod = 1, .client_netns = 1002, .server_netns = 1001};

	world_node_addresses(s.world, &node, 1);
	scene_enrol(s.world, 1, "shop/a", "a", "10.1.0.1", "");
	scene_enrol(s.world, 2, "lab/b", "b", "10.1.0.2", "");
	update(&s);
	c.source = world_pod_numbered(s.world, 2)->identity->number;
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NONE);
	scene_yaml(s.store, ALLOW("shop", "p", "shop"));
	update(&s);
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NOT_ALLOWED);
	c.source = 4711; /* of a worker before: the pod tells who it is */
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NOT_ALLOWED);
	scene_yaml(s.store, ALLOW("shop", "p", "lab"));
	update(&s);
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NONE);
	c = (struct abi_conn){.server_pod = 1, .server_netns = 1001};
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NOT_ALLOWED); /* from elsewhere: nobody */
	t.dst_port = ABI_PORT_HBONE;
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NONE);
	t.dst_port = 80;
	t.src = node;
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NONE);
	t.src = t.dst;
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NONE);
	scene_free(&s);
}

/* ------------------------------------------------------------------ load */

#define LOAD_SERVICES 10000
#define LOAD_ENDPOINTS 10 /* each */

static long resident_kib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void through_the_worker(void **state)
{
	struct scene s = scene_new();
	const struct abi_addr own = scene_addr("10.1.0.1");
	struct abi_tuple t = {.src = own, .dst = own, .dst_port = ABI_PORT_OUTBOUND};
	struct abi_conn c = {.client_pod = 1,
			     .server_pod = 2,
			     .client_netns = 1001,
			     .server_netns = 1001,
			     .flags = ABI_CONN_CAPTURED,
			     .target = scene_addr("10.1.0.2"),
			     .target_port = 8080};

	scene_enrol(s.world, 1, "shop/web", "web", "10.1.0.1", "");
	scene_enrol(s.world, 2, "shop/db", "db", "10.1.0.2", "");
	scene_yaml(s.store, "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
			    "metadata: {name: deny, namespace: shop}\n"
			    "spec: {action: DENY, rules: [{to: [{operation: {ports: ['8080']}}]}]}\n");
	update(&s);
	c.source = world_pod_numbered(s.world, 1)->identity->number;
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_DENIED);
	c.target_port = 8081;
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NONE);
	c.target = scene_addr("10.2.0.1"); /* of another node: judged there */
	c.server_pod = 0;
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NONE);
	/* delivered: the worker judges who it is */
	t = (struct abi_tuple){.src = scene_addr("10.2.0.1"), .dst = scene_addr("10.1.0.2"), .dst_port = 8080};
	c = (struct abi_conn){.server_pod = 2, .client_netns = 1002, .server_netns = 1002, .flags = ABI_CONN_DELIVERED};
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_NONE);
	c.flags = 0;
	c.client_netns = 0;
	assert_int_equal(world_forbids(s.world, &t, &c), ABI_DENIED);
	scene_free(&s);
}

static void full_load(void **state)
{
	struct scene s = scene_new();
	uint64_t start, took;
	long before;

	for (unsigned i = 0; i < LOAD_SERVICES; i++) {
		store_put(s.store, scene_service(i));
		store_put(s.store, scene_slice(i, i * LOAD_ENDPOINTS, LOAD_ENDPOINTS));
	}
	before = resident_kib();
	start = cpu_ns();
	world_update(s.world);
	took = cpu_ns() - start;
	printf("    %u services, %u endpoints: %.0f ms, %ld KiB\n", LOAD_SERVICES, LOAD_SERVICES * LOAD_ENDPOINTS,
	       took / 1e6, resident_kib() - before);
	assert_int_equal(s.world->fronts.count, LOAD_SERVICES);
	assert_true(took < 3000000000); /* sanitizers and a shared machine; the bench measures */
	settle(s.world);

	store_put(s.store, scene_slice(77, 200000, LOAD_ENDPOINTS));
	start = cpu_ns();
	world_update(s.world);
	took = cpu_ns() - start;
	printf("    one slice: %.3f ms\n", took / 1e6);
	assert_int_equal(length(&s.world->dirty_fronts), 1);
	assert_true(took < 20000000);
	scene_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses),
		cmocka_unit_test(addresses_that_two_claim),
		cmocka_unit_test(pod_rows),
		cmocka_unit_test(annotations_and_membership),
		cmocka_unit_test(bad_enrolments),
		cmocka_unit_test(services_by_pods),
		cmocka_unit_test(services_that_share_an_address),
		cmocka_unit_test(only_what_changed),
		cmocka_unit_test(identities_that_come_later),
		cmocka_unit_test(live_connections),
		cmocka_unit_test(through_the_worker),
		cmocka_unit_test(full_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
