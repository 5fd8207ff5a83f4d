/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.h: BPF maps by fd, without libbpf (io/kernel.c): what an unprivileged worker may do with fds that it
 * was given (tried on 6.18: needs no capability). All return 0 or -errno; keys and values are of abi.h.
 */
#ifndef WEFT_KERNEL_H
#define WEFT_KERNEL_H

#include "base.h"

int kernel_lookup(int map, const void *key, void *ret_value) must_check; /* -ENOENT */
int kernel_update(int map, const void *key, const void *value) must_check; /* creates or replaces; -E2BIG full */
int kernel_create(int map, const void *key, const void *value) must_check; /* -EEXIST: there is one already */
int kernel_delete(int map, const void *key) must_check;
/* next key after `key` (NULL: first); -ENOENT at the end */
int kernel_next(int map, const void *key, void *ret_key) must_check;
/* write `count` pairs; arrays of key_size / value_size strides; falls back to single updates where batch is missing */
int kernel_update_batch(int map, const void *keys, const void *values, unsigned count, size_t key_size,
			size_t value_size) must_check;
int kernel_delete_batch(int map, const void *keys, unsigned count, size_t key_size) must_check;
/*
 * Whole map into memory: *ret_keys and *ret_values are arrays that the caller frees. Entries that come and go
 * meanwhile may or may not be in it. Per-CPU maps: value_size is that of all CPUs (kernel_cpus() * rounded to 8).
 */
int kernel_dump(int map, size_t key_size, size_t value_size, void **ret_keys, void **ret_values,
		unsigned *ret_count) must_check;
unsigned kernel_cpus(void); /* possible CPUs */
/* Open an instance of the iterator link; read(2) it to the end, close it. fd or -errno */
int kernel_iterate(int link) must_check;

#endif
