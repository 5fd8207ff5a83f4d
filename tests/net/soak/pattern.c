// SPDX-License-Identifier: Apache-2.0
/*
 * pattern.c: eight bytes at a time, mix(key + number of the word). mix() is a bijection, so a word occurs once in a
 * stream, and unmix() of what was found says where it belongs. See soak.h.
 */
#include "soak.h"

#include <string.h>

#define SPAN 4096

/* The finalizer of SplitMix64, and its inverse: the factors are the inverses modulo 2^64. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t unmix(uint64_t z)
{
	z = (z ^ (z >> 31) ^ (z >> 62)) * 0x319642b2d24d8ec3u;
	z = (z ^ (z >> 27) ^ (z >> 54)) * 0x96de1b173f119089u;
	return z ^ (z >> 30) ^ (z >> 60);
}

void pattern_fill(uint64_t key, uint64_t at, unsigned char *buf, size_t size)
{
	while (size) {
		uint64_t word = mix(key + at / 8);
		size_t skip = at % 8, n = size < 8 - skip ? size : 8 - skip;

		if (n == 8) /* the usual case, as one store */
			memcpy(buf, &word, 8);
		else
			memcpy(buf, (unsigned char *)&word + skip, n);
		buf += n;
		at += n;
		size -= n;
	}
}

size_t pattern_wrong(uint64_t key, uint64_t at, const unsigned char *buf, size_t size)
{
	unsigned char want[SPAN];

	for (size_t done = 0; done < size;) {
		size_t n = size - done < SPAN ? size - done : SPAN;

		pattern_fill(key, at + done, want, n);
		if (memcmp(buf + done, want, n)) {
			while (buf[done] == want[done % SPAN])
				done++;
			return done;
		}
		done += n;
	}
	return SIZE_MAX;
}

bool pattern_place(uint64_t key, const unsigned char *buf, size_t size, uint64_t *ret_at)
{
	for (size_t skip = 0; skip < 8 && skip + 8 <= size; skip++) {
		uint64_t word, number;

		memcpy(&word, buf + skip, 8);
		number = unmix(word) - key;
		if (number >> 45 || 8 * number < skip)
			continue; /* no stream is that long: these are not eight bytes of one word */
		*ret_at = 8 * number - skip;
		return true;
	}
	return false;
}
