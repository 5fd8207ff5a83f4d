// SPDX-License-Identifier: Apache-2.0
/* script.c: random numbers and the phases of a connection. See soak.h. */
#include "soak.h"

/* SplitMix64 (Steele, Lea, Flood 2014): every seed is a good one. */
uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t rng_between(struct rng *r, uint64_t low, uint64_t high)
{
	return low + rng_next(r) % (high - low + 1);
}

uint64_t rng_size(struct rng *r, uint64_t max)
{
	unsigned magnitudes = 64 - (unsigned)__builtin_clzll(max);
	uint64_t size = rng_between(r, 1, 1ull << rng_between(r, 0, magnitudes));

	return size < max ? size : max;
}

bool rng_chance(struct rng *r, unsigned per_mille)
{
	return rng_next(r) % 1000 < per_mille;
}

/* A conversation may be left out between two flows; writes of few bytes carry few bytes in all. */
struct phase script_next(struct rng *script, const struct phase *previous, uint64_t flow_max)
{
	struct phase p = { .kind = PHASE_TALK };

	if (!previous || (previous->kind == PHASE_FLOW && rng_chance(script, 800))) {
		p.message_max = 1u << rng_between(script, 0, 17); /* to the length of a turn */
		return p;
	}
	p.kind = PHASE_FLOW;
	for (int side = 0; side < 2; side++) {
		uint64_t most = flow_max;

		p.write_max[side] = 1u << rng_between(script, 0, 20);
		if (rng_chance(script, 400))
			p.write_max[side] = PIECE_MAX;
		if (most > flow_max / 4096 * p.write_max[side])
			most = flow_max / 4096 * p.write_max[side];
		p.bytes[side] = rng_between(script, 1, most);
		if (rng_chance(script, 500)) {
			p.pauses[side] = (uint32_t)rng_between(script, 1, 50);
			p.pause_ms[side] = (uint32_t)rng_between(script, 1, 10);
		}
		if (rng_chance(script, 100)) { /* a reader that sleeps */
			p.pauses[side] = 5;
			p.pause_ms[side] = 1000;
		}
	}
	if (rng_chance(script, 400))
		p.bytes[rng_between(script, CLIENT, SERVER)] = 0; /* one way */
	return p;
}
