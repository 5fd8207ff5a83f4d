/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h: what something costs, however long others keep the CPU meanwhile. */
#ifndef WEFT_TEST_CPU_H
#define WEFT_TEST_CPU_H

#include <stdint.h>
#include <time.h>

/* CPU time of this thread */
static inline uint64_t cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

#endif
