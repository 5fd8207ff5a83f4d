// SPDX-License-Identifier: Apache-2.0
/*
 * test_publish_random.c: objects and pods that come, change and go at random, published into real maps (root). After
 * each step the maps must be what naive loops over the objects say, with nothing left over. The worker is restarted
 * and, in a child, killed at random moments: whatever it leaves must be whole, and the next one must finish it.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../unit/maps.h"
#include "../unit/scene.h"

#include "decide.h"
#include "policy_oracle.h"
#include "publish_lab.h"

/* ------------------------------------------------------------------ the maps against the oracle */

/* Returns how many endpoints the row leads to. */
static unsigned check_service(const struct lab *l, const struct abi_service_key *key)
{
	unsigned port = 0, found = 0;
	const struct object *svc = lab_owner(l, key, &port);
	struct abi_service row;
	int r = kernel_lookup(l->fd[WIRE_FD_SERVICES], key, &row);
	struct lab_endpoints want;

	if (!svc) {
		assert_int_equal(r, -ENOENT);
		return 0;
	}
	assert_int_equal(r, 0);
	lab_expect(l, svc, port, addr_is_v4(&key->vip), &want);
	assert_int_equal(row.count, want.count);
	assert_int_equal(row.flags & ~ABI_SERVICE_PROXY, svc->service.affinity ? ABI_SERVICE_AFFINITY : 0);
	for (unsigned i = 0; i < row.count; i++) {
		struct abi_endpoint e;

		assert_int_equal(kernel_lookup(l->fd[WIRE_FD_ENDPOINTS],
					       &(struct abi_endpoint_key){row.service, row.generation, i}, &e),
				 0);
		assert_int_equal(e.service, row.service);
		assert_int_equal(e.generation, row.generation);
		for (unsigned k = 0; k < want.count; k++)
			found += !memcmp(&want.one[k].addr, &e.addr, 16) && want.one[k].port == e.port &&
				 want.one[k].weight == e.weight;
	}
	assert_int_equal(found, want.count);
	return row.count;
}

static void check_services(const struct lab *l)
{
	unsigned endpoints = 0, rows = 0, port;

	for (unsigned v = 0; v < VIPS; v++) {
		for (unsigned p = 80; p <= 81; p++) {
			struct abi_service_key key = {.vip = lab_vip(v), .port = p};

			endpoints += check_service(l, &key);
			rows += lab_owner(l, &key, &port) != NULL;
		}
	}
	assert_int_equal(map_entries(l->fd[WIRE_FD_SERVICES], 20), rows);
	assert_int_equal(map_entries(l->fd[WIRE_FD_ENDPOINTS], 12), endpoints);
}

static unsigned check_address(const struct lab *l, struct abi_addr a)
{
	enum abi_kind want = lab_kind(l, &a);
	struct abi_address row = {0};

	if (kernel_lookup(l->fd[WIRE_FD_ADDRESSES], &a, &row))
		row.kind = ABI_KIND_NONE;
	assert_int_equal(row.kind, want);
	assert_int_equal(row.flags, lab_address_flags(l, &a));
	return want != ABI_KIND_NONE;
}

static void check_addresses(const struct lab *l)
{
	unsigned rows = 0;

	for (unsigned v = 0; v < VIPS; v++)
		rows += check_address(l, lab_vip(v));
	for (unsigned slot = 0; slot < PODS; slot++)
		for (unsigned which = 0; which < 3; which++)
			rows += check_address(l, lab_pod_addr(slot, which));
	assert_int_equal(map_entries(l->fd[WIRE_FD_ADDRESSES], 16), rows);
}

/* What weft_inbound would say, from the maps alone. */
static enum abi_reason kernel_decides(const struct lab *l, uint32_t set, uint32_t identity,
				      const struct abi_addr *from, uint16_t port)
{
	struct abi_policy head;
	struct abi_bits source, block;
	struct abi_port row;
	bool have_source, have_block, have_port;

	if (kernel_lookup(l->fd[WIRE_FD_POLICIES], &set, &head))
		return ABI_POLICY_UNSETTLED;
	have_source = !kernel_lookup(l->fd[WIRE_FD_SOURCES], &(struct abi_source_key){set, identity}, &source);
	have_block =
		!kernel_lookup(l->fd[WIRE_FD_BLOCKS], &(struct abi_block_key){160, set, *from}, &block);
	have_port = !kernel_lookup(l->fd[WIRE_FD_PORTS], &(struct abi_port_key){set, port, 0}, &row);
	return decide_policy(&head, have_source ? &source : NULL, have_block ? &block : NULL,
			     have_port ? &row : NULL, identity, NULL);
}

static void check_decision(struct lab *l, const struct world_pod *to, const struct world_pod *from)
{
	struct oracle_connection c = {.namespace = to->namespace,
				      .labels = world_pod_labels(to),
				      .to = to->addr[random_draw(&l->r, to->addrs)],
				      .port = random_port(&l->r),
				      .known = random_chance(&l->r, 75),
				      .source_trust_domain = RANDOM_TRUST_DOMAIN,
				      .source_namespace = from->namespace,
				      .source_account = from->identity->service_account};
	enum abi_reason want, got;
	struct abi_address row;
	struct abi_pod pod;

	c.from = random_addr(&l->r, !addr_is_v4(&c.to));
	assert_int_equal(kernel_lookup(l->fd[WIRE_FD_ADDRESSES], &c.to, &row), 0);
	assert_int_equal(kernel_lookup(l->fd[WIRE_FD_PODS], &from->enrolled->netns, &pod), 0);
	assert_int_equal(row.netns, to->enrolled->netns);
	want = oracle_decide(l->store, RANDOM_ROOT, &c);
	got = kernel_decides(l, row.policy, c.known ? pod.identity : 0, &c.from, c.port);
	/* a pod with two addresses of one family may be closed further than asked: docs/policy.md */
	if (got != want && got != ABI_NEEDS_WORKER)
		fail_msg("%s/%s: oracle %s, kernel %s", to->namespace, to->name, reason_name(want), reason_name(got));
}

/* What weft_connect4 would do, from the maps alone. */
static enum abi_reason kernel_needs(const struct lab *l, const struct abi_pod *from, const struct abi_addr *to,
				    uint16_t port, const struct abi_service *svc)
{
	struct abi_address row;
	struct decide_dest d = {.pod = from->flags, .service = svc != NULL, .port = port};

	d.service_proxy = svc && svc->flags & ABI_SERVICE_PROXY;
	if (!kernel_lookup(l->fd[WIRE_FD_ADDRESSES], to, &row)) {
		d.kind = row.kind;
		d.address = row.flags;
	}
	return decide_capture(&d);
}

static void check_captures(struct lab *l)
{
	static const uint16_t ports[] = {80, 8080, 15001, 15006, 15008};
	unsigned which;

	for (unsigned slot = 0; slot < PODS; slot++) {
		struct abi_service_key key = {.vip = lab_vip(random_draw(&l->r, VIPS)),
					      .port = 80 + random_draw(&l->r, 2)};
		const struct object *svc = lab_owner(l, &key, &which);
		struct abi_addr to = lab_pod_addr(random_draw(&l->r, PODS + 1), random_draw(&l->r, 3));
		uint16_t port = ports[random_draw(&l->r, array_size(ports))];
		uint64_t netns = l->pod[slot].netns;
		struct abi_service row;
		struct abi_pod pod;

		if (!l->pod[slot].in)
			continue;
		assert_int_equal(kernel_lookup(l->fd[WIRE_FD_PODS], &netns, &pod), 0);
		assert_int_equal(pod.flags, lab_flags(l, slot));
		assert_int_equal(kernel_needs(l, &pod, &to, port, NULL), lab_need(l, slot, &to, port, NULL));
		if (!svc)
			continue;
		assert_int_equal(kernel_lookup(l->fd[WIRE_FD_SERVICES], &key, &row), 0);
		assert_int_equal(kernel_needs(l, &pod, &to, port, &row), lab_need(l, slot, &to, port, svc));
	}
}

static void check_policies(struct lab *l)
{
	unsigned sources = 0, blocks = 0, ports = 0, pods = 0;

	list_each(s, &l->world->all_sets) {
		const struct policy_set *set = container_of(s, struct policy_set, all);

		sources += set->sources;
		blocks += set->blocks;
		ports += set->ports;
	}
	assert_int_equal(map_entries(l->fd[WIRE_FD_POLICIES], 4), l->world->set_count);
	assert_int_equal(map_entries(l->fd[WIRE_FD_SOURCES], 8), sources);
	assert_int_equal(map_entries(l->fd[WIRE_FD_BLOCKS], sizeof(struct abi_block_key)), blocks);
	assert_int_equal(map_entries(l->fd[WIRE_FD_PORTS], 8), ports);
	for (unsigned slot = 0; slot < PODS; slot++)
		pods += l->pod[slot].in;
	assert_int_equal(map_entries(l->fd[WIRE_FD_PODS], 8), pods);
	list_each(a, &l->world->enrolled)
		list_each(b, &l->world->enrolled)
			check_decision(l, container_of(a, struct world_pod, enrolled_link),
				       container_of(b, struct world_pod, enrolled_link));
}

static void check(struct lab *l)
{
	check_services(l);
	check_addresses(l);
	check_policies(l);
	check_captures(l);
}

/* ------------------------------------------------------------------ workers that come and go */

static void start(struct lab *l)
{
	struct abi_addr a = lab_vip(0);
	int r;

	l->world = world_new(l->store, "node1", RANDOM_TRUST_DOMAIN, RANDOM_ROOT);
	l->publish = publish_new(l->world, l->fd, &r);
	if (!l->publish)
		fail_msg("publish_new: %s", strerror(-r));
	for (unsigned slot = 0; slot < PODS; slot++)
		if (l->pod[slot].in)
			lab_enrol(l, slot);
	world_node_addresses(l->world, &a, l->node);
	publish_all_enrolled(l->publish);
}

static void stop(struct lab *l)
{
	publish_free(l->publish);
	world_free(l->world);
}

/* A new worker meets a store whose changes nobody counted: as after source_load, everything is new. */
static void again(struct lab *l)
{
	struct store *store = store_new();

	stop(l);
	for (enum object_kind k = 0; k < KIND_COUNT; k++) {
		struct object *o;

		while ((o = store_each(l->store, k, NULL)))
			store_put(store, store_take(l->store, k, o->namespace, o->name));
	}
	store_free(l->store);
	l->store = store;
	start(l);
}

static void step(struct lab *l)
{
	unsigned n;

	world_update(l->world);
	if (publish(l->publish))
		fail_msg("%s", publish_errors(l->publish, &n)[0]);
}

/* Whatever a killed worker left: what the programs can reach is whole. */
static void check_whole(const struct lab *l)
{
	struct abi_service *row;
	struct abi_service_key *key;
	struct abi_pod *pod;
	uint64_t *netns;
	unsigned n;

	if (kernel_dump(l->fd[WIRE_FD_SERVICES], sizeof(*key), sizeof(*row), (void **)&key, (void **)&row, &n))
		fail_msg("services cannot be read");
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < row[i].count; k++) {
			struct abi_endpoint e;

			assert_int_equal(kernel_lookup(l->fd[WIRE_FD_ENDPOINTS],
						       &(struct abi_endpoint_key){row[i].service, row[i].generation, k},
						       &e),
					 0);
		}
	free(key);
	free(row);
	if (kernel_dump(l->fd[WIRE_FD_PODS], sizeof(*netns), sizeof(*pod), (void **)&netns, (void **)&pod, &n))
		fail_msg("pods cannot be read");
	for (unsigned i = 0; i < n; i++) {
		struct abi_policy head;

		assert_int_equal(kernel_lookup(l->fd[WIRE_FD_POLICIES], &pod[i].policy, &head), 0);
	}
	free(netns);
	free(pod);
}

/* Let the child run until it is about to make its n-th bpf(2) call, and kill it there. False: it made fewer. */
static bool kill_before(pid_t child, unsigned n)
{
	struct { /* struct ptrace_syscall_info, linux/ptrace.h, which glibc's header does not get along with */
		uint8_t op, pad[3];
		uint32_t arch;
		uint64_t ip, sp, number, argument[6];
	} info;
	int status;

	assert_int_equal(waitpid(child, &status, 0), child); /* its SIGSTOP */
	assert_true(WIFSTOPPED(status));
	assert_int_equal(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
	for (;;) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, child, 0, 0), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status))
			return false;
		assert_true(WIFSTOPPED(status));
		assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info) > 0);
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.number == SYS_bpf && !n--)
			break;
	}
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	return true;
}

/* The worker dies between two writes of a publish, and another one starts. */
static void killed(struct lab *l)
{
	unsigned n = random_draw(&l->r, 25);
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		for (unsigned i = 0; i < 4; i++)
			lab_mutate(l);
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
			_exit(1);
		world_update(l->world);
		_exit(publish(l->publish) != 0);
	}
	l->killed += kill_before(child, n);
	check_whole(l);
	again(l); /* which knows nothing of what the dead one was about to do */
}

static uint64_t seed_of_run(void)
{
	const char *s = getenv("WEFT_SEED");

	return s ? strtoull(s, NULL, 10) : (uint64_t)time(NULL);
}

static void run(unsigned rounds, unsigned restarts, unsigned kills)
{
	struct lab l = {.r = {.state = seed_of_run()}, .store = store_new()};

	printf("    seed %llu\n", (unsigned long long)l.r.state);
	maps_open(l.fd, 16384);
	start(&l);
	for (unsigned i = 0; i < rounds; i++) {
		if (random_chance(&l.r, kills))
			killed(&l);
		lab_mutate(&l);
		if (random_chance(&l.r, restarts))
			again(&l);
		step(&l);
		check(&l);
	}
	printf("    %u rounds, killed in a publish %u times\n", rounds, l.killed);
	assert_true(!kills || l.killed > rounds / 10);
	for (unsigned slot = 0; slot < PODS; slot++) {
		if (l.pod[slot].in)
			world_release(l.world, l.pod[slot].netns);
		l.pod[slot].in = false;
	}
	world_node_addresses(l.world, NULL, 0);
	l.node = false;
	for (enum object_kind k = 0; k < KIND_COUNT; k++) {
		const struct object *o;

		while ((o = store_each(l.store, k, NULL))) {
			char *space = mem_string(o->namespace), *name = mem_string(o->name);

			store_del(l.store, k, space, name);
			free(space);
			free(name);
		}
	}
	step(&l);
	check(&l);
	for (enum wire_fd f = WIRE_FD_PODS; f <= WIRE_FD_PORTS; f++)
		if (l.fd[f] >= 0) {
			char key[64];

			assert_int_equal(kernel_next(l.fd[f], NULL, key), -ENOENT);
		}
	stop(&l);
	store_free(l.store);
	maps_close(l.fd);
}

static void changes(void **state)
{
	run(400, 0, 0);
}

static void restarts(void **state)
{
	run(150, 30, 0);
}

static void deaths(void **state)
{
	run(150, 10, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes),
		cmocka_unit_test(restarts),
		cmocka_unit_test(deaths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
