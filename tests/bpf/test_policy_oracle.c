// SPDX-License-Identifier: Apache-2.0
/*
 * test_policy_oracle.c: random policies, pods and connections: what the compiled tables decide by the kernel's own
 * code against what the naive oracle says. The world changes under way, so that sharing of sets, identities that
 * come later and incremental selection are in it. WEFT_SEED repeats a run; WEFT_DECISIONS changes its length.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "policy_oracle.h"
#include "policy_random.h"
#include "world.h"

#define PODS 12
#define POLICIES 14
#define PEERS 8

static uint64_t seed_of_run(void)
{
	const char *s = getenv("WEFT_SEED");

	return s ? strtoull(s, NULL, 10) : (uint64_t)time(NULL);
}

static unsigned decisions_of_run(void)
{
	const char *s = getenv("WEFT_DECISIONS");

	return s ? (unsigned)strtoul(s, NULL, 10) : 120000;
}

struct scene {
	struct random_source r;
	struct store *store;
	struct world *world;
	unsigned number; /* of pods */
	unsigned decisions, refused, mixed, closed, requests, by_http, hopeless;
	bool many; /* several addresses of one family */
};

static void mutate_policy(struct scene *s)
{
	char name[16];
	const char *namespace = random_namespace(&s->r);

	snprintf(name, sizeof(name), "p%u", random_draw(&s->r, POLICIES / 4));
	if (random_chance(&s->r, 30))
		store_del(s->store, KIND_AUTHORIZATION_POLICY, namespace, name);
	else
		store_put(s->store, random_policy(&s->r, namespace, name));
}

static void mutate_peer(struct scene *s)
{
	char name[16];
	const char *namespace = random_namespace(&s->r);

	snprintf(name, sizeof(name), "m%u", random_draw(&s->r, 2));
	if (random_chance(&s->r, 50))
		store_del(s->store, KIND_PEER_AUTHENTICATION, namespace, name);
	else
		store_put(s->store, random_peer(&s->r, namespace, name));
}

static void mutate_pod(struct scene *s)
{
	unsigned slot = random_draw(&s->r, PODS);
	struct wire_pod *p = calloc(1, sizeof(*p));
	char why[256];

	if (random_chance(&s->r, 20)) {
		world_release(s->world, 1000 + slot);
		free(p);
		return;
	}
	p->netns = 1000 + slot;
	p->pod = 1 + slot;
	p->addr[p->addrs++] = random_addr(&s->r, false);
	if (random_chance(&s->r, 60))
		p->addr[p->addrs++] = random_addr(&s->r, true);
	if (s->many && random_chance(&s->r, 50))
		p->addr[p->addrs++] = random_addr(&s->r, false);
	snprintf(p->namespace, sizeof(p->namespace), "%s", slot % 3 ? "shop" : slot % 2 ? "a"
											: RANDOM_ROOT);
	snprintf(p->name, sizeof(p->name), "pod%u", slot);
	snprintf(p->service_account, sizeof(p->service_account), "%s", random_account(&s->r));
	random_labels(&s->r, p->labels, sizeof(p->labels));
	assert_int_equal(world_enrol(s->world, p, why), 0);
	free(p);
}

static struct world_pod *some_pod(struct scene *s)
{
	unsigned skip;

	if (!s->world->enrolled_count)
		return NULL;
	skip = random_draw(&s->r, s->world->enrolled_count);
	list_each(l, &s->world->enrolled)
		if (!skip--)
			return container_of(l, struct world_pod, enrolled_link);
	return NULL;
}

static struct http_text text_of(const char *s)
{
	return (struct http_text){s, strlen(s)};
}

/* One request on that connection, by the oracle and by the rules that the set kept. */
static void request(struct scene *s, const struct world_pod *to, const struct identity *who,
		    const struct oracle_connection *on)
{
	struct oracle_request ask = {.http = random_chance(&s->r, 85),
				     .host = random_host(&s->r),
				     .method = random_method(&s->r),
				     .path = random_path(&s->r),
				     .values = random_draw(&s->r, 4)};
	struct http_field field[3];
	struct http_head head = {.method_text = text_of(ask.method),
				 .authority = text_of(ask.host),
				 .path = text_of(ask.path),
				 .field = field,
				 .fields = ask.values};
	struct policy_request q = {.who = who,
				   .source = &on->from,
				   .port = on->port,
				   .head = ask.http ? &head : NULL,
				   .host = text_of(ask.host),
				   .path = text_of(ask.path)};
	struct oracle_connection c = *on;
	enum abi_reason want, got, foreseen;

	for (unsigned i = 0; i < ask.values; i++) {
		ask.value[i] = random_value(&s->r);
		field[i] = (struct http_field){.name = text_of("X-A"), .value = text_of(ask.value[i])};
	}
	c.request = &ask;
	want = oracle_decide(s->store, RANDOM_ROOT, &c);
	got = policy_judge_request(to->set, &q);
	s->requests++;
	s->by_http += policy_judge(to->set, who, &on->from, on->port) == ABI_NEEDS_WORKER && got != ABI_NEEDS_WORKER;
	if (got == ABI_NEEDS_WORKER && want != got && (s->many || to->set->head.closed))
		return;
	if (want != got)
		fail_msg("%s/%s from %s port %u: %s %s%s, %u values of x-a: oracle %s, rules %s (decision %u)",
			 to->namespace, to->name, who ? who->principal : "nobody", c.port, ask.method, ask.host,
			 ask.path, ask.values, reason_name(want), reason_name(got), s->decisions);
	foreseen = policy_foresee(to->set, who, &on->from, on->port, NULL);
	s->hopeless += foreseen == ABI_NEEDS_WORKER && !to->set->head.closed;
	if (foreseen == ABI_NEEDS_WORKER ? got == ABI_NONE : foreseen != ABI_PROXIED && foreseen != got)
		fail_msg("%s/%s from %s port %u: foreseen %s, rules %s (decision %u)", to->namespace, to->name,
			 who ? who->principal : "nobody", c.port, reason_name(foreseen), reason_name(got),
			 s->decisions);
	/* a connection that needs no HTTP is not asked for it */
	if (!policy_needs_http(to->set, on->port))
		assert_int_equal(got, policy_judge(to->set, who, &on->from, on->port));
}

/* One connection: from a pod's identity, from a stranger's, or from nobody's. */
static void decide(struct scene *s)
{
	struct world_pod *to = some_pod(s), *from = some_pod(s);
	struct oracle_connection c;
	const struct identity *who = NULL;
	enum abi_reason want, got;
	struct abi_bits hit;

	if (!to)
		return;
	c = (struct oracle_connection){.namespace = to->namespace,
				       .labels = world_pod_labels(to),
				       .to = to->addr[random_draw(&s->r, to->addrs)],
				       .port = random_port(&s->r)};
	c.from = random_addr(&s->r, !addr_is_v4(&c.to));
	c.source_trust_domain = c.source_namespace = c.source_account = "";
	if (random_chance(&s->r, 75)) {
		who = from->identity;
		c.known = true;
		c.source_trust_domain = who->trust_domain;
		c.source_namespace = who->namespace;
		c.source_account = who->service_account;
	}
	request(s, to, who, &c);
	want = oracle_decide(s->store, RANDOM_ROOT, &c);
	got = policy_decide(to->set, who, &c.from, c.port, &hit);
	s->decisions++;
	s->refused += want != ABI_NONE;
	if (to->set->head.closed) {
		s->closed++;
		assert_int_equal(got, ABI_NEEDS_WORKER);
		return;
	}
	if (s->many && got == ABI_NEEDS_WORKER && want != got) {
		s->mixed++; /* closed further than asked: several addresses of one family */
		return;
	}
	if (want != got) {
		char a[ADDR_TEXT], b[ADDR_TEXT];

		fail_msg("%s/%s from %s %s to %s port %u: oracle %s, tables %s (decision %u)", to->namespace,
			 to->name, who ? who->principal : "nobody", addr_text(&c.from, a), addr_text(&c.to, b),
			 c.port, reason_name(want), reason_name(got), s->decisions);
	}
	if (got == ABI_DENIED) { /* explain can name the policy */
		bool named = false;

		for (unsigned bit = 0; bit < ABI_TERMS; bit++)
			if (hit.word[bit / 64] >> (bit % 64) & 1 && to->set->terms.term[bit].deny)
				named |= policy_origin(to->set, bit) != NULL;
		assert_true(named);
	}
}

static void run(bool many, unsigned decisions)
{
	struct scene s = {.r = {.state = seed_of_run()}, .many = many};

	printf("    seed %llu\n", (unsigned long long)s.r.state);
	s.store = store_new();
	s.world = world_new(s.store, "node1", RANDOM_TRUST_DOMAIN, RANDOM_ROOT);
	for (unsigned i = 0; i < PODS; i++)
		mutate_pod(&s);
	while (s.decisions < decisions) {
		for (unsigned i = 0; i < 3; i++)
			mutate_policy(&s);
		if (random_chance(&s.r, 40))
			mutate_peer(&s);
		if (random_chance(&s.r, 30))
			mutate_pod(&s);
		world_update(s.world);
		for (unsigned i = 0; i < 100; i++)
			decide(&s);
	}
	printf("    %u decisions, %u refused, %u closed further, %u sets; %u requests, %u by HTTP\n", s.decisions,
	       s.refused, s.mixed, s.world->next_set - 1, s.requests, s.by_http);
	assert_true(s.by_http > decisions / 100);
	assert_true(s.hopeless);
	assert_true(s.refused > decisions / 10 && s.refused < decisions - decisions / 10);
	world_free(s.world);
	store_free(s.store);
}

static void exact(void **state)
{
	run(false, decisions_of_run());
}

static void several_addresses(void **state)
{
	run(true, decisions_of_run() / 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exact),
		cmocka_unit_test(several_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
