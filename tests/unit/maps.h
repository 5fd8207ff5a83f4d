/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maps.h: real kernel maps for tests (root): single ones, or those that the worker is handed. All functions are
 * static: files beside a test are linked into tests of lower floors too.
 */
#ifndef WEFT_TEST_MAPS_H
#define WEFT_TEST_MAPS_H

#include <errno.h>
#include <linux/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel.h"
#include "wire.h"

#define MAPS_FN static __attribute__((unused))

MAPS_FN int map_make(unsigned type, unsigned key_size, unsigned value_size, unsigned entries, unsigned flags)
{
	union bpf_attr attr;
	long fd;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = type;
	attr.key_size = key_size;
	attr.value_size = value_size;
	attr.max_entries = entries;
	attr.map_flags = flags;
	fd = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
	if (fd < 0)
		fail_msg("BPF_MAP_CREATE: %s: run the tests as root", strerror(errno));
	return (int)fd;
}

/* Not preallocated where that can be, as in bpf/maps.bpf.h. */
MAPS_FN int map_new(unsigned type, unsigned key_size, unsigned value_size, unsigned entries)
{
	bool array = type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY;

	return map_make(type, key_size, value_size, entries, array ? 0 : BPF_F_NO_PREALLOC);
}

MAPS_FN unsigned map_entries(int map, size_t key_size)
{
	char key[64], next[64];
	unsigned n = 0;

	while (!kernel_next(map, n ? key : NULL, next)) {
		memcpy(key, next, key_size);
		n++;
	}
	return n;
}

/* The maps among the worker's fds, of so many entries each; the other fds are -1. */
MAPS_FN void maps_open(int fd[WIRE_FD_COUNT], unsigned entries)
{
	for (unsigned i = 0; i < WIRE_FD_COUNT; i++)
		fd[i] = -1;
#define NEW(which, type, key, value, max) \
	fd[WIRE_FD_##which] = map_new(BPF_MAP_TYPE_##type, sizeof(key), sizeof(value), max)
	NEW(SETTINGS, ARRAY, uint32_t, struct abi_settings, 1);
	NEW(PODS, HASH, uint64_t, struct abi_pod, entries);
	NEW(ADDRESSES, HASH, struct abi_addr, struct abi_address, entries);
	NEW(SERVICES, HASH, struct abi_service_key, struct abi_service, entries);
	NEW(ENDPOINTS, HASH, struct abi_endpoint_key, struct abi_endpoint, entries);
	NEW(POLICIES, HASH, uint32_t, struct abi_policy, entries);
	NEW(SOURCES, HASH, struct abi_source_key, struct abi_bits, entries);
	NEW(BLOCKS, LPM_TRIE, struct abi_block_key, struct abi_bits, entries);
	NEW(PORTS, HASH, struct abi_port_key, struct abi_port, entries);
	NEW(CONNS, HASH, struct abi_tuple, struct abi_conn, entries);
	NEW(PAIRS, ARRAY, uint32_t, struct abi_pair, 64);
	NEW(READERS, HASH, uint64_t, struct abi_reader, entries);
	NEW(TRAFFIC, PERCPU_HASH, struct abi_traffic_key, struct abi_traffic, entries);
	NEW(REFUSALS, PERCPU_HASH, struct abi_refusal_key, uint64_t, entries);
	NEW(REASONS, PERCPU_ARRAY, uint32_t, uint64_t, ABI_REASON_MAX);
	NEW(BEAT, ARRAY, uint32_t, uint64_t, 1);
#undef NEW
}

/* Another map in place of one of them: of another size. */
MAPS_FN void maps_replace(int fd[WIRE_FD_COUNT], enum wire_fd which, int map)
{
	close(fd[which]);
	fd[which] = map;
}

MAPS_FN void maps_close(int fd[WIRE_FD_COUNT])
{
	for (unsigned i = 0; i < WIRE_FD_COUNT; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

#endif
