/* SPDX-License-Identifier: Apache-2.0 */
/* unit.h: numbers as people read them, and durations as people write them (unit.c). */
#ifndef WEFTCTL_UNIT_H
#define WEFTCTL_UNIT_H

#include "base.h"

#define UNIT_TEXT 32

const char *unit_bytes(uint64_t bytes, char buf[UNIT_TEXT]); /* "512 B", "1.5 KiB", "20 MiB" */
const char *unit_time(uint64_t ns,
		      char buf[UNIT_TEXT]);		 /* "35 us", "1.2 ms", "12 s", "3 min", "2 h", "5 d" */
const char *unit_count(uint64_t n, char buf[UNIT_TEXT]); /* "1 234 567" */
/* "500ms", "10s", "2m", "1.5s", or bare seconds; up to a day. 0 or -EINVAL */
int unit_duration(const char *s, unsigned *ret_ms) must_check;

#endif
