// SPDX-License-Identifier: Apache-2.0
/*
 * Real maps (root), the world written into them, read back as the BPF programs read them. The oracle of every row is
 * the world; that of the world is in tests/bpf.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

#include "cpu.h"
#include "maps.h"
#include "scene.h"

#include "decide.h"
#include "publish.h"

struct maps {
	int fd[WIRE_FD_COUNT];
};

/* In place of libc's: a kernel that has no memory for that map, after so many writes into it. */
static struct no_memory {
	int map; /* 0: it has */
	unsigned after;
} no_memory;

long syscall(long number, ...)
{
	long (*real)(long, ...) = (long (*)(long, ...))(uintptr_t)dlsym(RTLD_NEXT, "syscall");
	long arg[6];
	va_list args;

	va_start(args, number);
	for (unsigned i = 0; i < array_size(arg); i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_bpf && no_memory.map && arg[0] == BPF_MAP_UPDATE_BATCH &&
	    ((const union bpf_attr *)arg[1])->batch.map_fd == (uint32_t)no_memory.map && !no_memory.after--) {
		no_memory.after = 0;
		errno = ENOMEM;
		return -1;
	}
	return real(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

static struct maps maps_new(unsigned endpoints)
{
	struct maps m;

	maps_open(m.fd, 65536);
	maps_replace(m.fd, WIRE_FD_ENDPOINTS,
		     map_new(BPF_MAP_TYPE_HASH, sizeof(struct abi_endpoint_key), sizeof(struct abi_endpoint),
			     endpoints));
	return m;
}

static struct publish *start(struct world *w, struct maps *m)
{
	struct publish *p;
	int r;

	p = publish_new(w, m->fd, &r);
	if (!p)
		fail_msg("publish_new: %s", strerror(-r));
	return p;
}

static void must_publish(struct world *w, struct publish *p)
{
	unsigned n;

	world_update(w);
	if (publish(p))
		fail_msg("%s", publish_errors(p, &n)[0]);
}

/* What weft_inbound does. */
static enum abi_reason kernel_decides(const struct maps *m, const struct abi_addr *to, uint32_t identity,
				      const struct abi_addr *from, uint16_t port)
{
	struct abi_address a;
	struct abi_policy head;
	struct abi_bits source, block;
	struct abi_port row;
	bool have_source, have_block, have_port;

	assert_int_equal(kernel_lookup(m->fd[WIRE_FD_ADDRESSES], to, &a), 0);
	assert_int_equal(a.kind, ABI_KIND_LOCAL_POD);
	if (kernel_lookup(m->fd[WIRE_FD_POLICIES], &a.policy, &head))
		return ABI_POLICY_UNSETTLED;
	have_source = !kernel_lookup(m->fd[WIRE_FD_SOURCES],
				     &(struct abi_source_key){.set = a.policy, .identity = identity}, &source);
	have_block = !kernel_lookup(m->fd[WIRE_FD_BLOCKS],
				    &(struct abi_block_key){.prefixlen = 160, .set = a.policy, .addr = *from},
				    &block);
	have_port =
		!kernel_lookup(m->fd[WIRE_FD_PORTS], &(struct abi_port_key){.set = a.policy, .port = port}, &row);
	return decide_policy(&head, have_source ? &source : NULL, have_block ? &block : NULL,
			     have_port ? &row : NULL, identity, NULL);
}

/* ------------------------------------------------------------------ a small mesh */

static const char *const shop[] = {
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
	"spec: {clusterIPs: [10.96.0.1], clusterIP: 10.96.0.1, selector: {app: web}, "
	"ports: [{port: 80, targetPort: 8080}]}\n",
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: only-front, namespace: shop}\n"
	"spec: {selector: {matchLabels: {app: web}}, action: ALLOW, rules: [{from: [{source: {principals: "
	"[cluster.local/ns/shop/sa/front]}}], to: [{operation: {ports: [\"8080\"]}}]}]}\n",
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
	"metadata: {name: no-lab, namespace: istio-system}\n"
	"spec: {action: DENY, rules: [{from: [{source: {ipBlocks: [192.168.0.0/16], notIpBlocks: "
	"[192.168.7.0/24]}}]}]}\n",
};

static void shop_load(struct scene *s)
{
	for (size_t i = 0; i < array_size(shop); i++)
		scene_yaml(s->store, shop[i]);
}

static void shop_pods(struct scene *s)
{
	scene_enrol(s->world, 1, "shop/web1", "web", "10.1.0.1", "app=web");
	scene_enrol(s->world, 2, "shop/web2", "web", "10.1.0.2", "app=web");
	scene_enrol(s->world, 3, "shop/front", "front", "10.1.0.3", "app=front");
	scene_enrol(s->world, 4, "lab/other", "front", "10.1.0.4", "");
}

static uint32_t identity_in_kernel(const struct maps *m, unsigned pod)
{
	uint64_t netns = 1000 + pod;
	struct abi_pod row;

	assert_int_equal(kernel_lookup(m->fd[WIRE_FD_PODS], &netns, &row), 0);
	return row.identity;
}

static void small_mesh(void **state)
{
	struct abi_addr web = scene_addr("10.1.0.1"), front = scene_addr("10.1.0.3"), vip = scene_addr("10.96.0.1");
	struct abi_addr lab = scene_addr("192.168.1.1"), fine = scene_addr("192.168.7.1");
	struct maps m = maps_new(1024);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	struct abi_service svc;
	struct abi_endpoint e;
	struct abi_address a;

	shop_load(&s);
	shop_pods(&s);
	must_publish(s.world, p);
	assert_int_equal(kernel_decides(&m, &web, identity_in_kernel(&m, 3), &front, 8080), ABI_NONE);
	assert_int_equal(kernel_decides(&m, &web, identity_in_kernel(&m, 3), &front, 8081), ABI_NOT_ALLOWED);
	assert_int_equal(kernel_decides(&m, &web, identity_in_kernel(&m, 4), &front, 8080), ABI_NOT_ALLOWED);
	assert_int_equal(kernel_decides(&m, &web, 0, &front, 8080), ABI_NOT_ALLOWED);
	assert_int_equal(kernel_decides(&m, &front, 0, &lab, 80), ABI_DENIED);
	assert_int_equal(kernel_decides(&m, &front, 0, &fine, 80), ABI_NONE);

	assert_int_equal(kernel_lookup(m.fd[WIRE_FD_ADDRESSES], &vip, &a), 0);
	assert_int_equal(a.kind, ABI_KIND_VIP);
	assert_int_equal(kernel_lookup(m.fd[WIRE_FD_SERVICES], &(struct abi_service_key){.vip = vip, .port = 80}, &svc),
			 0);
	assert_int_equal(svc.count, 2);
	assert_string_equal(svc.name, "shop/web:80");
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(kernel_lookup(m.fd[WIRE_FD_ENDPOINTS],
					       &(struct abi_endpoint_key){svc.service, svc.generation, i}, &e),
				 0);
		assert_int_equal(e.port, 8080);
		assert_int_equal(e.share, UINT32_MAX);
	}
	/* the two web pods share a set, so do the others */
	assert_int_equal(map_entries(m.fd[WIRE_FD_POLICIES], 4), 2);

	/* nothing to do: nothing is written */
	assert_int_equal(publish(p), 0);
	assert_int_equal(publish_stats(p)->updates, 0);
	/* everything goes: nothing is left */
	for (unsigned i = 1; i <= 4; i++)
		world_release(s.world, 1000 + i);
	store_del(s.store, KIND_SERVICE, "shop", "web");
	must_publish(s.world, p);
	assert_int_equal(map_entries(m.fd[WIRE_FD_PODS], 8), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_ADDRESSES], 16), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_SERVICES], sizeof(struct abi_service_key)), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_ENDPOINTS], sizeof(struct abi_endpoint_key)), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_POLICIES], 4), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_SOURCES], 8), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_BLOCKS], sizeof(struct abi_block_key)), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_PORTS], 8), 0);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

/* Between the halves the kernel decides by the new set, and the old one is still whole for who reads it. */
static void the_switch_comes_before_the_sweep(void **state)
{
	struct abi_addr web = scene_addr("10.1.0.1"), lab = scene_addr("192.168.1.1");
	struct maps m = maps_new(1024);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	unsigned sets, blocks;

	shop_load(&s);
	shop_pods(&s);
	must_publish(s.world, p);
	sets = map_entries(m.fd[WIRE_FD_POLICIES], 4);
	blocks = map_entries(m.fd[WIRE_FD_BLOCKS], sizeof(struct abi_block_key));
	assert_int_equal(kernel_decides(&m, &web, identity_in_kernel(&m, 3), &lab, 8080), ABI_DENIED);
	store_del(s.store, KIND_AUTHORIZATION_POLICY, "istio-system", "no-lab");
	world_update(s.world);
	publish_switch(p);
	assert_int_equal(kernel_decides(&m, &web, identity_in_kernel(&m, 3), &lab, 8080), ABI_NONE);
	assert_int_equal(map_entries(m.fd[WIRE_FD_POLICIES], 4), 2 * sets);
	assert_int_equal(map_entries(m.fd[WIRE_FD_BLOCKS], sizeof(struct abi_block_key)), blocks);
	assert_int_equal(publish_sweep(p), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_POLICIES], 4), sets);
	assert_int_equal(map_entries(m.fd[WIRE_FD_BLOCKS], sizeof(struct abi_block_key)), 0);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

/* ------------------------------------------------------------------ restart */

static void restart_writes_nothing(void **state)
{
	struct maps m = maps_new(1024);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	uint32_t before[5], service;
	struct abi_addr vip = scene_addr("10.96.0.1");

	shop_load(&s);
	scene_enrol(s.world, 9, "zoo/first", "front", "10.1.0.9", ""); /* numbers are not those of a fresh start */
	world_update(s.world);
	shop_pods(&s);
	must_publish(s.world, p);
	world_release(s.world, 1009);
	must_publish(s.world, p);
	for (unsigned i = 1; i <= 4; i++)
		before[i] = identity_in_kernel(&m, i);
	service = world_front(s.world, &vip, 80)->number;
	publish_free(p);
	scene_free(&s);

	s = scene_new(); /* a new worker */
	p = start(s.world, &m);
	assert_int_equal(publish_waiting(p), 4);
	shop_load(&s);
	shop_pods(&s);
	assert_int_equal(publish_waiting(p), 0);
	must_publish(s.world, p);
	assert_int_equal(publish_stats(p)->deletes, 0);
	/* the sources of taken-over sets are written once more, which changes nothing */
	assert_true(publish_stats(p)->updates <= 4);
	for (unsigned i = 1; i <= 4; i++)
		assert_int_equal(identity_in_kernel(&m, i), before[i]);
	assert_int_equal(world_front(s.world, &vip, 80)->number, service);
	publish_all_enrolled(p);
	must_publish(s.world, p);
	assert_int_equal(map_entries(m.fd[WIRE_FD_PODS], 8), 4);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

static void restart_keeps_pods_that_are_late(void **state)
{
	struct abi_addr web = scene_addr("10.1.0.1"), other = scene_addr("10.1.0.4");
	struct abi_addr lab = scene_addr("192.168.1.1"), gone = scene_addr("10.1.0.2");
	struct maps m = maps_new(1024);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	struct abi_address a;

	shop_load(&s);
	shop_pods(&s);
	must_publish(s.world, p);
	publish_free(p);
	scene_free(&s);

	s = scene_new();
	p = start(s.world, &m);
	scene_yaml(s.store, shop[0]);
	scene_yaml(s.store, shop[1]); /* no-lab is gone meanwhile */
	scene_enrol(s.world, 1, "shop/web1", "web", "10.1.0.1", "app=web");
	scene_enrol(s.world, 3, "shop/front", "front", "10.1.0.3", "app=front");
	must_publish(s.world, p);
	assert_int_equal(publish_waiting(p), 2);
	assert_int_equal(kernel_decides(&m, &web, 0, &lab, 80), ABI_NOT_ALLOWED);
	assert_int_equal(kernel_decides(&m, &other, 0, &lab, 80), ABI_DENIED); /* as before: nobody enrolled it yet */
	scene_enrol(s.world, 4, "lab/other", "front", "10.1.0.4", "");
	must_publish(s.world, p);
	assert_int_equal(kernel_decides(&m, &other, 0, &lab, 80), ABI_NONE);
	publish_all_enrolled(p);
	must_publish(s.world, p);
	assert_int_equal(publish_waiting(p), 0);
	assert_int_equal(map_entries(m.fd[WIRE_FD_PODS], 8), 3);
	assert_int_equal(kernel_lookup(m.fd[WIRE_FD_ADDRESSES], &gone, &a), -ENOENT);
	assert_int_equal(map_entries(m.fd[WIRE_FD_POLICIES], 4), s.world->set_count);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

/* A worker that was killed between any two writes leaves rows that nothing leads to. */
static void restart_removes_what_was_half_written(void **state)
{
	struct abi_endpoint e = {.service = 1, .generation = 2};
	struct maps m = maps_new(1024);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	struct abi_bits bits = {{1}};
	struct abi_port port = {{{1}}};
	struct abi_addr vip = scene_addr("10.96.0.1");
	uint32_t set = 77;

	shop_load(&s);
	shop_pods(&s);
	must_publish(s.world, p);
	publish_free(p);
	scene_free(&s);
	for (unsigned i = 0; i < 5; i++) /* the next generation of service 1, and half of a set without a head */
		assert_int_equal(kernel_update(m.fd[WIRE_FD_ENDPOINTS], &(struct abi_endpoint_key){1, 2, i}, &e), 0);
	assert_int_equal(kernel_update(m.fd[WIRE_FD_SOURCES], &(struct abi_source_key){set, 3}, &bits), 0);
	assert_int_equal(kernel_update(m.fd[WIRE_FD_BLOCKS], &(struct abi_block_key){40, set, {{10}}}, &bits), 0);
	assert_int_equal(kernel_update(m.fd[WIRE_FD_PORTS], &(struct abi_port_key){set, 80, 0}, &port), 0);

	s = scene_new();
	p = start(s.world, &m);
	shop_load(&s);
	shop_pods(&s);
	scene_enrol(s.world, 2, "shop/web2", "web", "10.1.0.2", "app=other"); /* so generation 2 is written now */
	must_publish(s.world, p);
	assert_int_equal(world_front(s.world, &vip, 80)->kernel.generation, 2);
	assert_int_equal(map_entries(m.fd[WIRE_FD_ENDPOINTS], sizeof(struct abi_endpoint_key)), 1);
	assert_int_equal(map_entries(m.fd[WIRE_FD_POLICIES], 4), s.world->set_count);
	list_each(l, &s.world->all_sets)
		assert_true(container_of(l, struct policy_set, all)->number < 90);
	assert_int_equal(kernel_lookup(m.fd[WIRE_FD_SOURCES], &(struct abi_source_key){set, 3}, &bits), -ENOENT);
	assert_int_equal(kernel_lookup(m.fd[WIRE_FD_PORTS], &(struct abi_port_key){set, 80, 0}, &port), -ENOENT);
	assert_true(s.world->next_set > set);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

/* The service account of a pod changed while no worker ran: its old number must not come to mean the new one. */
static void restart_with_another_account(void **state)
{
	struct maps m = maps_new(1024);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	uint32_t web;

	shop_pods(&s);
	must_publish(s.world, p);
	web = identity_in_kernel(&m, 1);
	publish_free(p);
	scene_free(&s);

	s = scene_new();
	p = start(s.world, &m);
	shop_pods(&s);
	scene_enrol(s.world, 2, "shop/web2", "admin", "10.1.0.2", "app=web");
	must_publish(s.world, p);
	assert_int_not_equal(identity_in_kernel(&m, 1), identity_in_kernel(&m, 2));
	assert_int_not_equal(identity_in_kernel(&m, 1), web); /* was of both: it is of nobody now */
	assert_int_not_equal(identity_in_kernel(&m, 2), web);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

/* ------------------------------------------------------------------ full maps */

static void full_map(void **state)
{
	struct maps m = maps_new(30);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	struct world_front *f;
	struct abi_addr vip = scene_addr("100.64.0.1");
	unsigned n;

	store_put(s.store, scene_service(1));
	store_put(s.store, scene_slice(1, 0, 10));
	must_publish(s.world, p);
	f = world_front(s.world, &vip, 80);
	assert_int_equal(f->kernel.count, 10);
	store_put(s.store, scene_slice(1, 0, 25)); /* both generations do not fit */
	store_put(s.store, scene_service(2));
	store_put(s.store, scene_slice(2, 100, 5));
	world_update(s.world);
	assert_int_equal(publish(p), -E2BIG);
	assert_non_null(strstr(publish_errors(p, &n)[0], "load/svc1:80: kernel map endpoints is full"));
	assert_int_equal(n, 1);
	assert_int_equal(f->kernel.count, 10); /* the old generation serves */
	assert_int_equal(map_entries(m.fd[WIRE_FD_ENDPOINTS], sizeof(struct abi_endpoint_key)), 15);
	assert_int_equal(publish(p), -E2BIG); /* not silently */
	store_put(s.store, scene_slice(1, 0, 12));
	must_publish(s.world, p);
	assert_int_equal(f->kernel.count, 12);
	assert_int_equal(map_entries(m.fd[WIRE_FD_ENDPOINTS], sizeof(struct abi_endpoint_key)), 17);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

/* A service that the kernel has switched before another one did not fit: its endpoints are not half of a failure. */
static void no_memory_after_the_switch(void **state)
{
	struct maps m = maps_new(1024);
	struct scene s = scene_new();
	struct abi_service_key key = {.vip = scene_addr("100.64.0.1"), .port = 80};
	struct abi_endpoint_key at = {0};
	struct abi_endpoint endpoint;
	struct abi_service row;
	struct publish *p;

	maps_replace(m.fd, WIRE_FD_SERVICES, map_new(BPF_MAP_TYPE_HASH, sizeof(key), sizeof(row), 1));
	p = start(s.world, &m);
	store_put(s.store, scene_service(1));
	store_put(s.store, scene_slice(1, 0, 10));
	must_publish(s.world, p);
	store_put(s.store, scene_slice(1, 0, 25));
	store_put(s.store, scene_service(2)); /* for which there is no room */
	store_put(s.store, scene_slice(2, 100, 5));
	world_update(s.world);
	no_memory = (struct no_memory){.map = m.fd[WIRE_FD_ENDPOINTS], .after = 1};
	assert_true(publish(p) < 0);
	no_memory = (struct no_memory){0};
	assert_int_equal(kernel_lookup(m.fd[WIRE_FD_SERVICES], &key, &row), 0);
	at.service = row.service;
	at.generation = row.generation;
	for (; at.index < row.count; at.index++)
		assert_int_equal(kernel_lookup(m.fd[WIRE_FD_ENDPOINTS], &at, &endpoint), 0);
	assert_int_equal(row.count, 25);
	assert_int_equal(publish(p), -E2BIG);
	assert_int_equal(map_entries(m.fd[WIRE_FD_ENDPOINTS], sizeof(at)), 25);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

static const char few_blocks[] =
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: few, namespace: shop}\n"
	"spec: {selector: {matchLabels: {app: front}}, action: DENY, rules: [{from: [{source: {ipBlocks: "
	"[192.168.0.0/16]}}]}]}\n";
static const char many_blocks[] =
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: many, namespace: shop}\n"
	"spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{from: [{source: {ipBlocks: "
	"[10.9.1.0/24, 10.9.2.0/24, 10.9.3.0/24, 10.9.4.0/24, 10.9.5.0/24, 10.9.6.0/24]}}]}]}\n";

/* Of two sets one does not fit: it is named and leaves nothing behind, and the other one is in force. */
static void full_map_of_blocks(void **state)
{
	struct abi_addr web = scene_addr("10.1.0.1"), front = scene_addr("10.1.0.3");
	struct abi_addr lab = scene_addr("192.168.1.1"), nine = scene_addr("10.9.1.1");
	struct maps m = maps_new(30);
	struct scene s = scene_new();
	struct publish *p;
	unsigned n;

	maps_replace(m.fd, WIRE_FD_BLOCKS,
		     map_new(BPF_MAP_TYPE_LPM_TRIE, sizeof(struct abi_block_key), sizeof(struct abi_bits), 4));
	p = start(s.world, &m);
	shop_pods(&s);
	must_publish(s.world, p);
	for (int again = 0; again < 2; again++) {
		scene_yaml(s.store, many_blocks);
		scene_yaml(s.store, few_blocks);
		world_update(s.world);
		assert_int_equal(publish(p), -ENOSPC);
		assert_non_null(strstr(publish_errors(p, &n)[0], "with shop/many: kernel map blocks is full"));
		assert_int_equal(n, 1);
		assert_int_equal(kernel_decides(&m, &front, 0, &lab, 80), ABI_DENIED);
		assert_int_equal(kernel_decides(&m, &web, 0, &nine, 80), ABI_NONE); /* the set of before */
		assert_int_equal(map_entries(m.fd[WIRE_FD_BLOCKS], sizeof(struct abi_block_key)), 1);
	}
	store_del(s.store, KIND_AUTHORIZATION_POLICY, "shop", "many");
	must_publish(s.world, p);
	assert_int_equal(map_entries(m.fd[WIRE_FD_POLICIES], 4), 2);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

/* ------------------------------------------------------------------ readers see no half change */

struct reader {
	pthread_t thread;
	const struct maps *m;
	struct abi_service_key key;
	struct abi_addr pod, from;
	atomic_bool stop;
	unsigned long picks, decisions, retries, wrong;
};

/* service_pick of bpf/connect.bpf.c; even generations have ports 1000.., odd ones 2000.. */
static void read_service(struct reader *r, unsigned n)
{
	struct abi_service svc;
	struct abi_endpoint e;

	for (unsigned tries = 0; tries < 1000; tries++) {
		if (kernel_lookup(r->m->fd[WIRE_FD_SERVICES], &r->key, &svc) || !svc.count) {
			r->wrong++;
			return;
		}
		if (!kernel_lookup(r->m->fd[WIRE_FD_ENDPOINTS],
				   &(struct abi_endpoint_key){svc.service, svc.generation, n % svc.count}, &e)) {
			r->wrong += e.generation != svc.generation || e.service != svc.service;
			r->picks++;
			return;
		}
		r->retries++;
	}
	r->wrong++;
}

static void read_policy(struct reader *r)
{
	for (unsigned tries = 0; tries < 1000; tries++) {
		struct abi_address before, after;
		enum abi_reason why;

		if (kernel_lookup(r->m->fd[WIRE_FD_ADDRESSES], &r->pod, &before)) {
			r->wrong++;
			return;
		}
		why = kernel_decides(r->m, &r->pod, 0, &r->from, 8080);
		if (kernel_lookup(r->m->fd[WIRE_FD_ADDRESSES], &r->pod, &after) || before.policy != after.policy) {
			r->retries++;
			continue;
		}
		r->wrong += why == ABI_NONE || why == ABI_POLICY_UNSETTLED; /* both policies refuse it */
		r->decisions++;
		return;
	}
	r->wrong++;
}

static void *read_all(void *arg)
{
	struct reader *r = arg;

	for (unsigned n = 0; !atomic_load(&r->stop); n++) {
		read_service(r, n);
		read_policy(r);
	}
	return NULL;
}

static void readers_see_whole_changes(void **state)
{
	static const char *const refuse[] = {
		"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
		"spec: {action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}]}]}\n",
		"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
		"spec: {action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}], to: [{operation: {ports: "
		"[\"8080\"]}}]}]}\n",
	};
	struct maps m = maps_new(4096);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	struct reader r = {.m = &m, .pod = scene_addr("10.1.0.1"), .from = scene_addr("10.9.9.9")};

	store_put(s.store, scene_service(1));
	store_put(s.store, scene_slice(1, 0, 20));
	scene_yaml(s.store, refuse[0]);
	scene_enrol(s.world, 1, "shop/web1", "web", "10.1.0.1", "app=web");
	must_publish(s.world, p);
	r.key = (struct abi_service_key){
		.vip = *store_get(s.store, KIND_SERVICE, "load", "svc1")->service.vip, .port = 80};
	assert_int_equal(pthread_create(&r.thread, NULL, read_all, &r), 0);
	for (unsigned i = 0; i < 1000; i++) {
		store_put(s.store, scene_slice(1, i % 7, 5 + i % 20));
		scene_yaml(s.store, refuse[i % 2]);
		must_publish(s.world, p);
	}
	atomic_store(&r.stop, true);
	pthread_join(r.thread, NULL);
	printf("    %lu picks, %lu decisions, %lu read again\n", r.picks, r.decisions, r.retries);
	assert_int_equal(r.wrong, 0);
	assert_true(r.picks > 100 && r.decisions > 100);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

/* ------------------------------------------------------------------ load */

static void full_load(void **state)
{
	struct maps m = maps_new(ABI_MAX_ENDPOINTS);
	struct scene s = scene_new();
	struct publish *p = start(s.world, &m);
	uint64_t started, world_ns, one;

	for (unsigned i = 0; i < 10000; i++) {
		store_put(s.store, scene_service(i));
		store_put(s.store, scene_slice(i, i * 10, 10));
	}
	started = cpu_ns();
	world_update(s.world);
	world_ns = cpu_ns() - started;
	must_publish(s.world, p);
	printf("    10000 services, 100000 endpoints: world %.0f ms, kernel maps %.0f ms, %u elements\n",
	       world_ns / 1e6, publish_stats(p)->took_ns / 1e6, publish_stats(p)->updates);
	assert_int_equal(publish_stats(p)->updates, 10000 + 100000 + 10000);
	for (unsigned i = 0; i < 20; i++) {
		store_put(s.store, scene_slice(5000 + i, 300000, 9));
		started = cpu_ns();
		must_publish(s.world, p);
		one = cpu_ns() - started;
		assert_int_equal(publish_stats(p)->updates, 9 + 1);
		assert_int_equal(publish_stats(p)->deletes, 10);
	}
	printf("    one slice: %.3f ms\n", one / 1e6);
	assert_true(one < 5000000);
	publish_free(p);
	scene_free(&s);

	s = scene_new(); /* a new worker finds all of it */
	started = cpu_ns();
	p = start(s.world, &m);
	printf("    reading it back: %.0f ms\n", (cpu_ns() - started) / 1e6);
	for (unsigned i = 0; i < 10000; i++) {
		store_put(s.store, scene_service(i));
		store_put(s.store, scene_slice(i, i >= 5000 && i < 5020 ? 300000 : i * 10,
					       i >= 5000 && i < 5020 ? 9 : 10));
	}
	must_publish(s.world, p);
	assert_int_equal(publish_stats(p)->updates, 0);
	assert_int_equal(publish_stats(p)->deletes, 0);
	publish_free(p);
	scene_free(&s);
	maps_close(m.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_mesh),
		cmocka_unit_test(the_switch_comes_before_the_sweep),
		cmocka_unit_test(restart_writes_nothing),
		cmocka_unit_test(restart_keeps_pods_that_are_late),
		cmocka_unit_test(restart_removes_what_was_half_written),
		cmocka_unit_test(restart_with_another_account),
		cmocka_unit_test(full_map),
		cmocka_unit_test(full_map_of_blocks),
		cmocka_unit_test(no_memory_after_the_switch),
		cmocka_unit_test(readers_see_whole_changes),
		cmocka_unit_test(full_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
