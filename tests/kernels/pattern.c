/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.c: see guest.h. */
#include "guest.h"

#include <string.h>

#define ODD 0x9E3779B97F4A7C15ull /* 2^64 / the golden ratio: neighbours differ in all bytes */

static uint64_t word(uint64_t seed, uint64_t index)
{
	uint64_t x = (index + 1) * ODD ^ seed;

	return x ^ x >> 29;
}

void pattern_fill(uint64_t seed, uint64_t position, void *to, size_t size)
{
	uint8_t *at = to;

	while (size) {
		size_t skip = position % 8, n = 8 - skip < size ? 8 - skip : size;
		uint64_t w = word(seed, position / 8);

		memcpy(at, (const uint8_t *)&w + skip, n);
		at += n;
		position += n;
		size -= n;
	}
}

ptrdiff_t pattern_check(uint64_t seed, uint64_t position, const void *data, size_t size)
{
	const uint8_t *at = data;
	size_t done = 0;

	while (done < size) {
		size_t skip = position % 8, n = 8 - skip < size - done ? 8 - skip : size - done;
		uint64_t w = word(seed, position / 8);

		if (memcmp(at + done, (const uint8_t *)&w + skip, n)) {
			while (at[done] == ((const uint8_t *)&w)[skip]) {
				done++;
				skip++;
			}
			return (ptrdiff_t)done;
		}
		position += n;
		done += n;
	}
	return -1;
}

/* xorshift64* (Vigna 2016) */
static uint64_t state = ODD;

void random_seed(uint64_t seed)
{
	state = seed * ODD | 1;
}

uint32_t random_below(uint32_t bound)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)(((state * 0x2545F4914F6CDD1Dull) >> 32) * bound >> 32);
}
