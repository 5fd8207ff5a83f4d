// SPDX-License-Identifier: Apache-2.0
/*
 * test_service_spread.c: endpoints of random services: what the alias table gives each, exactly (from the shares) and
 * by drawing with the kernel's own code (chi-squared), against plain counting of weights.
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

#include "decide.h"
#include "policy_random.h"
#include "service.h"

static uint64_t seed_of_run(void)
{
	const char *s = getenv("WEFT_SEED");

	return s ? strtoull(s, NULL, 10) : (uint64_t)time(NULL);
}

/* ------------------------------------------------------------------ the oracle: one ball per unit of weight */

struct slot {
	struct abi_addr addr;
	uint16_t port;
	unsigned weight;
	bool ready, serving, terminating;
};

static bool same(const struct slot *s, const struct service_pick *p)
{
	return !memcmp(&s->addr, &p->addr, sizeof(s->addr)) && s->port == p->port;
}

/* Which endpoints take connections, by the words of Kubernetes; returns how many. */
static unsigned eligible(struct slot *slot, unsigned slots, bool all)
{
	bool any_ready = false;
	unsigned n = 0;

	for (unsigned i = 0; i < slots; i++)
		any_ready = any_ready || slot[i].ready;
	for (unsigned i = 0; i < slots; i++) {
		bool takes = slot[i].ready;

		if (!any_ready)
			takes = slot[i].serving && slot[i].terminating;
		if (all)
			takes = true;
		if (takes && slot[i].weight)
			slot[n++] = slot[i];
	}
	return n;
}

/* Exact chance of each entry in units of 2^-32 / count. */
static void chances(const struct abi_endpoint *e, unsigned count, double *ret)
{
	for (unsigned i = 0; i < count; i++)
		ret[i] = 0;
	for (unsigned i = 0; i < count; i++) {
		double stay = ((double)e[i].share + 1) / 4294967296.0;

		assert_true(e[i].alias < count);
		ret[i] += stay / count;
		ret[e[i].alias] += (1 - stay) / count;
	}
}

static unsigned make(struct random_source *r, struct slot *slot, struct service_picks *picks)
{
	unsigned n = random_draw(r, 40), slots = 0, kind = random_draw(r, 3);

	for (unsigned i = 0; i < n; i++) {
		struct service_pick p = {.addr = {.byte = {[10] = 0xff, 0xff, 10, 0, 0, random_draw(r, 30)}},
					 .port = 8080 + random_draw(r, 2)};
		struct slot *old = NULL;

		p.weight = kind == 0 ? 1 : kind == 1 ? random_draw(r, 5)
						     : random_draw(r, 65536);
		p.serving = random_chance(r, 70);
		p.terminating = random_chance(r, 30);
		p.ready = p.serving && !p.terminating && random_chance(r, 60);
		for (unsigned k = 0; k < slots; k++)
			if (same(&slot[k], &p))
				old = &slot[k];
		if (!old) {
			old = &slot[slots++];
			*old = (struct slot){.addr = p.addr, .port = p.port, .terminating = true};
		}
		if (p.weight > old->weight)
			old->weight = p.weight;
		old->ready = old->ready || p.ready;
		old->serving = old->serving || p.serving;
		old->terminating = old->terminating && p.terminating;
		service_pick_add(picks, &p);
	}
	return slots;
}

static void shares_are_exact(void **state)
{
	struct random_source r = {.state = seed_of_run()};
	double chance[64];

	printf("    seed %llu\n", (unsigned long long)r.state);
	for (unsigned round = 0; round < 3000; round++) {
		struct service_picks picks = {0};
		struct abi_endpoint e[64];
		struct slot slot[64];
		bool all = random_chance(&r, 10);
		unsigned slots = eligible(slot, make(&r, slot, &picks), all);
		double total = 0;

		service_choose(&picks, all);
		assert_int_equal(picks.count, slots);
		service_alias(picks.pick, picks.count, e);
		chances(e, picks.count, chance);
		for (unsigned i = 0; i < slots; i++)
			total += slot[i].weight;
		for (unsigned i = 0; i < picks.count; i++) {
			const struct slot *want = NULL;

			for (unsigned k = 0; k < slots; k++)
				if (same(&slot[k], &picks.pick[i]))
					want = &slot[k];
			assert_non_null(want);
			if (__builtin_fabs(chance[i] - want->weight / total) > 1e-7)
				fail_msg("round %u: weight %u of %.0f gets %.9f", round, want->weight, total,
					 chance[i]);
		}
		free(picks.pick);
	}
}

/* Upper 0.1 % point of chi-squared; entries that are 0 are not needed. */
static const double chi_limit[] = {[1] = 10.83, [2] = 13.82, [5] = 20.52, [15] = 37.70};

static void spread(struct random_source *r, const unsigned *weight, unsigned count)
{
	struct service_pick *p = calloc(count, sizeof(*p));
	struct abi_endpoint *e = calloc(count, sizeof(*e));
	unsigned *got = calloc(count, sizeof(*got)), draws = 40000;
	double chi = 0, total = 0;

	for (unsigned i = 0; i < count; i++) {
		p[i] = (struct service_pick){.port = i + 1, .weight = weight[i], .ready = true};
		total += weight[i];
	}
	service_alias(p, count, e);
	for (unsigned i = 0; i < draws; i++) {
		uint32_t a = random_draw(r, 1u << 31) << 1, b = random_draw(r, 1u << 31) << 1;
		uint32_t at = decide_index(a, count);

		got[decide_alias(&e[at], at, b)]++;
	}
	for (unsigned i = 0; i < count; i++) {
		double want = draws * weight[i] / total;

		chi += (got[i] - want) * (got[i] - want) / want;
	}
	if (chi > chi_limit[count - 1])
		fail_msg("%u endpoints: chi-squared %.1f above %.1f", count, chi, chi_limit[count - 1]);
	free(p);
	free(e);
	free(got);
}

static void draws_are_even(void **state)
{
	static const unsigned even[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
	static const unsigned uneven[6] = {1, 2, 3, 4, 90, 900}, two[2] = {65535, 400}, three[3] = {7, 7, 7};
	struct random_source r = {.state = 20261121}; /* fixed: a limit of 0.1 % would fail now and then */

	spread(&r, even, 16);
	spread(&r, even, 2);
	spread(&r, uneven, 6);
	spread(&r, two, 2);
	spread(&r, three, 3);
}

static void large_tables_are_linear(void **state)
{
	unsigned count = 100000;
	struct service_pick *p = calloc(count, sizeof(*p));
	struct abi_endpoint *e = calloc(count, sizeof(*e));
	double *chance = calloc(count, sizeof(*chance)), total = 0;

	for (unsigned i = 0; i < count; i++) {
		p[i].weight = 1 + i % 65535;
		total += p[i].weight;
	}
	service_alias(p, count, e);
	chances(e, count, chance);
	for (unsigned i = 0; i < count; i++)
		assert_true(__builtin_fabs(chance[i] - p[i].weight / total) < 1e-9);
	free(p);
	free(e);
	free(chance);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_are_exact),
		cmocka_unit_test(draws_are_even),
		cmocka_unit_test(large_tables_are_linear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
