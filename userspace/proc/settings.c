/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c: see settings.h. */
#include "settings.h"

#include <bpf/bpf.h>

#include "decide.h"

static const struct abi_settings first = {.version = ABI_VERSION, DECIDE_LIMITS};

static int settings_read(int map, struct abi_settings *ret)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(map, &key, ret);
}

static int settings_write(int map, const struct abi_settings *s)
{
	__u32 key = 0;

	return bpf_map_update_elem(map, &key, s, BPF_ANY);
}

int settings_begin(int map, const struct probe *p, bool reader_seen)
{
	struct abi_settings was = {0}, now = first;

	if (!settings_read(map, &was) && was.version == ABI_VERSION)
		now.splice_off = was.splice_off;
	now.kernel_safe = p->kernel_safe;
	now.reader_seen = reader_seen;
	now.count_fault = !p->counts_tcp;
	return settings_write(map, &now);
}

int settings_reader_lost(int map)
{
	struct abi_settings s;
	int err = settings_read(map, &s);

	s.reader_seen = 0;
	return err ? err : settings_write(map, &s);
}

int settings_splice(int map, bool on)
{
	struct abi_settings s;
	int err = settings_read(map, &s);

	s.splice_off = !on;
	return err ? err : settings_write(map, &s);
}

bool settings_splice_on(int map)
{
	struct abi_settings s = {0};

	return !settings_read(map, &s) && !s.splice_off;
}
