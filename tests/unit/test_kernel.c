/* SPDX-License-Identifier: Apache-2.0 */
/* Maps: real ones, made with bpf(2), so this needs root. The oracle is an array. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "maps.h"

static void one_element(void **state)
{
	int map = map_make(BPF_MAP_TYPE_HASH, 4, 8, 2, BPF_F_NO_PREALLOC);
	uint32_t key = 7, other = 8, third = 9, next;
	uint64_t value = 70, got = 0;

	assert_int_equal(kernel_lookup(map, &key, &got), -ENOENT);
	assert_int_equal(kernel_next(map, NULL, &next), -ENOENT);
	assert_int_equal(kernel_delete(map, &key), -ENOENT);
	assert_int_equal(kernel_update(map, &key, &value), 0);
	assert_int_equal(kernel_lookup(map, &key, &got), 0);
	assert_true(got == 70);
	value = 71;
	assert_int_equal(kernel_update(map, &key, &value), 0);
	assert_int_equal(kernel_lookup(map, &key, &got), 0);
	assert_true(got == 71);
	assert_int_equal(kernel_next(map, NULL, &next), 0);
	assert_int_equal(next, 7);
	assert_int_equal(kernel_next(map, &next, &next), -ENOENT);
	assert_int_equal(kernel_update(map, &other, &value), 0);
	assert_int_equal(kernel_update(map, &third, &value), -E2BIG);
	assert_int_equal(kernel_delete(map, &key), 0);
	assert_int_equal(kernel_update(map, &third, &value), 0);
	close(map);
	assert_int_equal(kernel_lookup(map, &key, &got), -EBADF);
	assert_int_equal(kernel_update(STDIN_FILENO, &key, &got), -EINVAL);
}

/* ------------------------------------------------------------------ batch and dump against an array */

struct value {
	uint64_t a, b, c;
};

struct shape {
	unsigned type, flags;
	const char *name;
};

static const struct shape shapes[] = {
	{BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, "hash"},
	{BPF_MAP_TYPE_LRU_HASH, 0, "lru hash"},
	{BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC, "lpm trie"},
};

/* Fits all: for the trie it is prefix length and data, all of full length. */
struct key {
	uint32_t bits, n;
};

enum { KEYS = 5000 };

static bool in[KEYS];
static struct key keys[KEYS];
static struct value values[KEYS];

static void check_dump(int map, const char *name)
{
	struct value *got_values;
	struct key *got_keys;
	bool seen[KEYS] = {false};
	unsigned i, count, want = 0;
	int r = kernel_dump(map, sizeof(*got_keys), sizeof(*got_values), (void **)&got_keys, (void **)&got_values,
			    &count);

	if (r < 0)
		fail_msg("%s: %s", name, strerror(-r));
	for (i = 0; i < KEYS; i++)
		want += in[i];
	assert_int_equal(count, want);
	for (i = 0; i < count; i++) {
		unsigned n = got_keys[i].n;

		assert_true(n < KEYS);
		assert_true(in[n] && !seen[n]);
		seen[n] = true;
		assert_memory_equal(&got_values[i], &values[n], sizeof(values[n]));
	}
	free(got_keys);
	free(got_values);
}

static void batches(const struct shape *shape)
{
	int map = map_make(shape->type, sizeof(struct key), sizeof(struct value), 4 * KEYS, shape->flags);
	unsigned i, round, from, n;

	memset(in, 0, sizeof(in));
	for (i = 0; i < KEYS; i++)
		keys[i] = (struct key){64 - 32, i};
	check_dump(map, shape->name); /* an empty one */
	for (round = 0; round < 60; round++) {
		n = (unsigned)random() % (round % 4 ? 300 : KEYS);
		from = (unsigned)random() % (KEYS - n);
		if (random() % 5 < 3) {
			for (i = from; i < from + n; i++) {
				values[i] = (struct value){round, i, (uint64_t)random()};
				in[i] = true;
			}
			assert_int_equal(kernel_update_batch(map, keys + from, values + from, n, sizeof(keys[0]),
							     sizeof(values[0])),
					 0);
		} else {
			/* Many of these are not there: as good as deleted. */
			for (i = from; i < from + n; i++)
				in[i] = false;
			assert_int_equal(kernel_delete_batch(map, keys + from, n, sizeof(keys[0])), 0);
		}
		check_dump(map, shape->name);
	}
	close(map);
}

static void batches_against_an_array(void **state)
{
	unsigned i;

	srandom(11);
	for (i = 0; i < array_size(shapes); i++)
		batches(&shapes[i]);
}

static void a_full_map_says_so(void **state)
{
	int map = map_make(BPF_MAP_TYPE_HASH, sizeof(struct key), sizeof(struct value), 100, BPF_F_NO_PREALLOC);
	unsigned i;

	for (i = 0; i < 200; i++)
		keys[i] = (struct key){0, i};
	assert_int_equal(kernel_update_batch(map, keys, values, 200, sizeof(keys[0]), sizeof(values[0])), -E2BIG);
	assert_int_equal(kernel_update_batch(map, keys, values, 0, sizeof(keys[0]), sizeof(values[0])), 0);
	assert_int_equal(kernel_delete_batch(map, keys, 0, sizeof(keys[0])), 0);
	assert_int_equal(kernel_update_batch(-1, keys, values, 1, sizeof(keys[0]), sizeof(values[0])), -EBADF);
	assert_int_equal(kernel_delete_batch(-1, keys, 1, sizeof(keys[0])), -EBADF);
	close(map);
}

/* Arrays have no delete, and their batch cursor is a key. */
static void arrays(void **state)
{
	int map = map_make(BPF_MAP_TYPE_ARRAY, 4, 8, 3000, 0);
	uint64_t value[3000], *got_values;
	uint32_t key[3000], *got_keys;
	unsigned i, count;

	for (i = 0; i < 3000; i++) {
		key[i] = i;
		value[i] = 3 * i;
	}
	assert_int_equal(kernel_update_batch(map, key, value, 3000, 4, 8), 0);
	assert_int_equal(kernel_delete_batch(map, key, 1, 4), -EINVAL);
	assert_int_equal(kernel_dump(map, 4, 8, (void **)&got_keys, (void **)&got_values, &count), 0);
	assert_int_equal(count, 3000);
	assert_memory_equal(got_keys, key, sizeof(key));
	assert_memory_equal(got_values, value, sizeof(value));
	free(got_keys);
	free(got_values);
	close(map);
}

/* No lookup from user space at all: an error, not a wrong answer. */
static void a_kind_that_cannot_be_dumped(void **state)
{
	int map = map_make(BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 10, 0);
	void *got_keys, *got_values;
	unsigned count;

	assert_true(kernel_dump(map, 4, 4, &got_keys, &got_values, &count) < 0);
	assert_null(got_keys);
	assert_null(got_values);
	assert_int_equal(count, 0);
	close(map);
	assert_int_equal(kernel_dump(-1, 4, 4, &got_keys, &got_values, &count), -EBADF);
}

/* SOCKHASH has no batch. Its values are fds on the way in and cookies on the way out. */
static void a_kind_that_is_walked_singly(void **state)
{
	enum { SOCKETS = 40 };
	int map = map_make(BPF_MAP_TYPE_SOCKHASH, 8, 8, 100, 0), sock[SOCKETS];
	uint64_t key[SOCKETS], value[SOCKETS], cookie[SOCKETS], *got_keys, *got_values;
	unsigned i, count = 7, sum = 0;
	socklen_t len = sizeof(cookie[0]);

	assert_int_equal(kernel_dump(map, 8, 8, (void **)&got_keys, (void **)&got_values, &count), 0);
	assert_int_equal(count, 0);
	free(got_keys);
	free(got_values);
	for (i = 0; i < SOCKETS; i++) {
		sock[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(listen(sock[i], 1), 0); /* only these and established ones may enter */
		assert_int_equal(getsockopt(sock[i], SOL_SOCKET, SO_COOKIE, &cookie[i], &len), 0);
		key[i] = i;
		value[i] = (uint64_t)sock[i];
	}
	assert_int_equal(kernel_update_batch(map, key, value, SOCKETS, 8, 8), 0);
	assert_int_equal(kernel_dump(map, 8, 8, (void **)&got_keys, (void **)&got_values, &count), 0);
	assert_int_equal(count, SOCKETS);
	for (i = 0; i < count; i++) {
		assert_true(got_keys[i] < SOCKETS && got_values[i] == cookie[got_keys[i]]);
		sum += (unsigned)got_keys[i];
	}
	assert_int_equal(sum, SOCKETS * (SOCKETS - 1) / 2);
	free(got_keys);
	free(got_values);
	key[0] = 1000; /* not there */
	assert_int_equal(kernel_delete_batch(map, key, SOCKETS, 8), 0);
	assert_int_equal(kernel_dump(map, 8, 8, (void **)&got_keys, (void **)&got_values, &count), 0);
	assert_int_equal(count, 1);
	free(got_keys);
	free(got_values);
	for (i = 0; i < SOCKETS; i++)
		close(sock[i]);
	close(map);
}

static void per_cpu(void **state)
{
	int map = map_make(BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 100, 0);
	unsigned cpus = kernel_cpus(), i, cpu, count;
	uint64_t *value = calloc(cpus, 8), *got_values;
	uint32_t *got_keys;

	assert_true(cpus >= 1 && cpus >= (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
	for (i = 0; i < 100; i++) {
		for (cpu = 0; cpu < cpus; cpu++)
			value[cpu] = 1000 * i + cpu;
		assert_int_equal(kernel_update(map, &i, value), 0);
	}
	assert_int_equal(kernel_dump(map, 4, 8 * cpus, (void **)&got_keys, (void **)&got_values, &count), 0);
	assert_int_equal(count, 100);
	for (i = 0; i < 100; i++)
		for (cpu = 0; cpu < cpus; cpu++)
			assert_true(got_values[i * cpus + cpu] == 1000 * got_keys[i] + cpu);
	free(got_keys);
	free(got_values);
	free(value);
	close(map);
}

/* ------------------------------------------------------------------ a map that changes meanwhile */

static atomic_bool done;
static int churned;

static void *churn(void *arg)
{
	unsigned seed = 12;
	struct value v = {0};

	while (!done) {
		struct key k = {0, 1000 + (unsigned)rand_r(&seed) % 3000};

		if (rand_r(&seed) % 2) {
			v.a = k.n;
			if (kernel_update(churned, &k, &v))
				break;
		} else if (kernel_delete(churned, &k) == -EBADF) {
			break;
		}
	}
	return NULL;
}

/* What stays is in every dump exactly once, whatever comes and goes around it; every value fits its key. */
static void a_dump_of_a_busy_map(void **state)
{
	unsigned i, round, count;
	pthread_t thread;

	churned = map_make(BPF_MAP_TYPE_HASH, sizeof(struct key), sizeof(struct value), 8000, BPF_F_NO_PREALLOC);
	for (i = 0; i < 1000; i++) {
		struct key k = {0, i};
		struct value v = {i, 0, 0};

		assert_int_equal(kernel_update(churned, &k, &v), 0);
	}
	assert_int_equal(pthread_create(&thread, NULL, churn, NULL), 0);
	for (round = 0; round < 200; round++) {
		unsigned char seen[4000] = {0};
		struct value *got_values;
		struct key *got_keys;

		assert_int_equal(kernel_dump(churned, sizeof(*got_keys), sizeof(*got_values), (void **)&got_keys,
					     (void **)&got_values, &count),
				 0);
		for (i = 0; i < count; i++) {
			assert_true(got_keys[i].n < 4000);
			assert_true(got_values[i].a == got_keys[i].n);
			seen[got_keys[i].n]++;
		}
		for (i = 0; i < 4000; i++)
			if (seen[i] > 1 || (i < 1000 && !seen[i]))
				fail_msg("round %u: key %u was seen %u times", round, i, seen[i]);
		free(got_keys);
		free(got_values);
	}
	done = true;
	pthread_join(thread, NULL);
	close(churned);
}

/* What the worker is: an fd, another user, no capability. Exit code: the number of the first call that failed. */
static int without_rights(int map)
{
	struct key k = {0, 3}, next;
	struct value v = {3, 0, 0};
	void *got_keys, *got_values;
	unsigned count;

	if (setgid(65534) < 0 || setuid(65534) < 0) /* capabilities go with it */
		return 1;
	if (kernel_update(map, &k, &v) < 0)
		return 2;
	if (kernel_lookup(map, &k, &v) < 0)
		return 3;
	if (kernel_next(map, NULL, &next) < 0)
		return 4;
	if (kernel_update_batch(map, keys, values, 50, sizeof(keys[0]), sizeof(values[0])) < 0)
		return 5;
	if (kernel_dump(map, sizeof(k), sizeof(v), &got_keys, &got_values, &count) < 0 || count != 51)
		return 6;
	free(got_keys);
	free(got_values);
	if (kernel_delete_batch(map, keys, 50, sizeof(keys[0])) < 0)
		return 7;
	if (kernel_delete(map, &k) < 0)
		return 8;
	return 0;
}

static void an_fd_is_all_it_needs(void **state)
{
	int map = map_make(BPF_MAP_TYPE_HASH, sizeof(struct key), sizeof(struct value), 100, BPF_F_NO_PREALLOC), status;
	unsigned i;
	pid_t child;

	for (i = 0; i < 50; i++)
		keys[i] = (struct key){0, 100 + i};
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(without_rights(map));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(map);
}

static void iterate_needs_a_link(void **state)
{
	int map = map_make(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0);

	assert_true(kernel_iterate(map) < 0);
	assert_int_equal(kernel_iterate(-1), -EBADF);
	close(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_element),
		cmocka_unit_test(batches_against_an_array),
		cmocka_unit_test(a_full_map_says_so),
		cmocka_unit_test(arrays),
		cmocka_unit_test(a_kind_that_cannot_be_dumped),
		cmocka_unit_test(a_kind_that_is_walked_singly),
		cmocka_unit_test(per_cpu),
		cmocka_unit_test(a_dump_of_a_busy_map),
		cmocka_unit_test(an_fd_is_all_it_needs),
		cmocka_unit_test(iterate_needs_a_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
