/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h: the one row of map `settings` (struct abi_settings; proc/settings.c). Each: 0 or -errno. */
#ifndef WEFT_SETTINGS_H
#define WEFT_SETTINGS_H

#include "probe.h"

/* Before anything is attached. The operator's switch is kept over restarts. */
int settings_begin(int map, const struct probe *p, bool reader_seen) must_check;
int settings_reader_lost(int map) must_check; /* reader_seen = 0 */
int settings_splice(int map, bool on) must_check;
bool settings_splice_on(int map);

#endif
