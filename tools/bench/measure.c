// SPDX-License-Identifier: Apache-2.0
/* measure.c: clocks, CPU, percentiles and the checked pattern. See load.h. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* A prime: a lost, doubled or swapped piece of any common size moves the pattern and shows. */
#define PATTERN_PERIOD 1000003u

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct cpu cpu_used(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (struct cpu){
		.user = (double)r.ru_utime.tv_sec + (double)r.ru_utime.tv_usec / 1e6,
		.system = (double)r.ru_stime.tv_sec + (double)r.ru_stime.tv_usec / 1e6,
	};
}

void samples_add(struct samples *s, uint64_t ns)
{
	if (s->count == s->room) {
		s->room = s->room ? 2 * s->room : 1 << 16;
		s->ns = realloc(s->ns, s->room * sizeof(*s->ns));
		if (!s->ns)
			fail("realloc");
	}
	s->ns[s->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

double samples_us(struct samples *s, double quantile)
{
	if (!s->count)
		return 0;
	qsort(s->ns, s->count, sizeof(*s->ns), by_value);
	return s->ns[(size_t)(quantile * (double)(s->count - 1))] / 1e3;
}

const unsigned char *pattern_at(uint64_t offset)
{
	static unsigned char *pattern;

	if (!pattern) {
		uint64_t x = 0x9e3779b97f4a7c15u;

		pattern = malloc(PATTERN_PERIOD + PATTERN_SPAN);
		if (!pattern)
			fail("malloc");
		for (size_t i = 0; i < PATTERN_PERIOD; i++) {
			x ^= x << 13; /* xorshift64, Marsaglia 2003 */
			x ^= x >> 7;
			x ^= x << 17;
			pattern[i] = (unsigned char)(x >> 32);
		}
		for (size_t i = 0; i < PATTERN_SPAN; i++)
			pattern[PATTERN_PERIOD + i] = pattern[i % PATTERN_PERIOD];
	}
	return pattern + offset % PATTERN_PERIOD;
}

_Noreturn void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}
