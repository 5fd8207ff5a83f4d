/* SPDX-License-Identifier: Apache-2.0 */
/* table_wide.h: what table_hash does with long keys where the CPU can (base/table_wide.c). */
#ifndef WEFT_TABLE_WIDE_H
#define WEFT_TABLE_WIDE_H

#include <stddef.h>
#include <stdint.h>

#define TABLE_WIDE_MIN 256 /* bytes; XXH3 has other ways for fewer than 241 */

#ifdef __x86_64__
#define TABLE_WIDE (__builtin_cpu_supports("avx2") != 0)
/* XXH3 of at least TABLE_WIDE_MIN bytes: the same number as without. Only where TABLE_WIDE. */
uint64_t table_wide(const void *key, size_t len, uint64_t seed);
#else
#define TABLE_WIDE 0
static inline uint64_t table_wide(const void *key, size_t len, uint64_t seed)
{
	return 0;
}
#endif

#endif
