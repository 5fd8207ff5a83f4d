/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that never says no; arenas. The sanitizers watch every write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base.h"

static void alloc_is_zeroed_and_never_null(void **state)
{
	unsigned char *p = mem_alloc(1000);
	void *nothing = mem_alloc(0);
	size_t i;

	for (i = 0; i < 1000; i++)
		assert_int_equal(p[i], 0);
	assert_non_null(nothing);
	free(nothing);
	free(p);
}

static void grow_keeps_what_was_there(void **state)
{
	unsigned *p = NULL;
	unsigned i, count = 0;

	for (i = 0; i < 10000; i++) {
		if (i == count) {
			count = count ? 2 * count : 1;
			p = mem_grow(p, count, sizeof(*p));
		}
		p[i] = i;
	}
	for (i = 0; i < 10000; i++)
		assert_int_equal(p[i], i);
	free(p);
}

static void strings(void **state)
{
	char *s = mem_string("weft"), *f = mem_format("%s-%d", s, 7), *empty = mem_format("%s", "");

	assert_string_equal(s, "weft");
	assert_string_equal(f, "weft-7");
	assert_string_equal(empty, "");
	free(s);
	free(f);
	free(empty);
}

static void wipe(void **state)
{
	char secret[16] = "0123456789abcde";

	mem_wipe(secret + 4, 8);
	assert_memory_equal(secret, "0123\0\0\0\0\0\0\0\0cde", 16);
	mem_wipe(secret, 0);
	assert_int_equal(secret[0], '0');
}

/* Runs f in a child whose stderr is a pipe; it must abort, and say why. */
static void must_abort(void (*f)(void))
{
	char said[64] = "";
	int fd[2], status;
	pid_t child;

	assert_int_equal(pipe(fd), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		signal(SIGABRT, SIG_DFL);
		dup2(fd[1], STDERR_FILENO);
		f();
		_exit(0);
	}
	close(fd[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_true(read(fd[0], said, sizeof(said) - 1) > 0);
	assert_string_equal(said, "weft: out of memory\n");
	close(fd[0]);
}

static volatile size_t huge = SIZE_MAX / 2; /* volatile: gcc must not see through it */

static void grow_overflows(void)
{
	free(mem_grow(NULL, huge, 3));
}

static void arena_overflows(void)
{
	struct arena a = {0};

	(void)!arena_alloc(&a, huge * 2 + 1);
}

static void arena_string_overflows(void)
{
	struct arena a = {0};

	(void)!arena_string(&a, "", huge * 2 + 1);
}

static void overflow_ends_the_process(void **state)
{
	must_abort(grow_overflows);
	must_abort(arena_overflows);
	must_abort(arena_string_overflows);
}

/* Oracle: everything that was handed out is written with its own byte and still has it at the end. */
static void arena_hands_out_disjoint_zeroed_aligned(void **state)
{
	enum { THINGS = 20000 };
	unsigned char **thing = calloc(THINGS, sizeof(*thing));
	size_t *size = calloc(THINGS, sizeof(*size)), i, j, sum = 0;
	struct arena a = {0};

	srandom(1);
	for (i = 0; i < THINGS; i++) {
		long dice = random() % 100;

		size[i] = (size_t)(dice < 90 ? random() % 100 : dice < 99 ? random() % 5000
									  : random() % 200000);
		thing[i] = arena_alloc(&a, size[i]);
		assert_int_equal((uintptr_t)thing[i] % 16, 0);
		for (j = 0; j < size[i]; j++)
			if (thing[i][j])
				fail_msg("byte %zu of %zu is not zero", j, size[i]);
		memset(thing[i], (int)(i % 251) + 1, size[i]);
		sum += size[i];
	}
	for (i = 0; i < THINGS; i++)
		for (j = 0; j < size[i]; j++)
			if (thing[i][j] != i % 251 + 1)
				fail_msg("thing %zu was overwritten", i);
	assert_true(a.bytes >= sum && a.bytes <= sum + 16 * THINGS);
	arena_free(&a);
	assert_int_equal(a.bytes, 0);
	assert_null(a.last);
	arena_free(&a); /* an empty one too */
	free(thing);
	free(size);
}

static void arena_of_nothing_gives_different_addresses(void **state)
{
	struct arena a = {0};
	void *x = arena_alloc(&a, 0), *y = arena_alloc(&a, 0);

	assert_ptr_not_equal(x, y);
	arena_free(&a);
}

static void arena_strings_end(void **state)
{
	struct arena a = {0};
	char *s = arena_string(&a, "hello world", 5), *none = arena_string(&a, NULL, 0);

	assert_string_equal(s, "hello");
	assert_string_equal(none, "");
	arena_free(&a);
}

/* struct object lives in its own arena. */
static void arena_may_hold_itself(void **state)
{
	struct arena first = {0};
	struct arena *a = arena_alloc(&first, sizeof(*a));
	void *p;

	*a = first;
	p = arena_alloc(a, 100000);
	memset(p, 1, 100000);
	arena_free(a);
}

/* What an arena hands out after a reset is zeroed, and of its usual size comes without malloc. */
static void arena_is_used_again(void **state)
{
	struct arena a = {0};
	char *first = arena_alloc(&a, 100), *again;

	memset(first, 1, 100);
	for (unsigned i = 0; i < 100; i++)
		memset(arena_alloc(&a, 40), 2, 40);
	arena_reset(&a);
	assert_int_equal(a.bytes, 0);
	again = arena_alloc(&a, 1000);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(again[i], 0);
	arena_reset(&a);
	assert_ptr_equal(arena_alloc(&a, 10), again);
	(void)!arena_alloc(&a, 1 << 20);
	arena_reset(&a);
	arena_reset(&a);
	arena_free(&a);
	arena_reset(&a);
}

static void a_reserved_chunk_is_used_again(void **state)
{
	struct arena a = {0};
	unsigned char *first;

	arena_reserve(&a, 2000);
	arena_reserve(&a, 4000); /* it has one */
	first = arena_alloc(&a, 1504);
	for (unsigned turn = 0; turn < 3; turn++) {
		memset(first, 0xee, 1504);
		assert_ptr_equal(arena_alloc(&a, 480), first + 1504);
		arena_reset(&a);
		arena_reserve(&a, 2000);
		assert_ptr_equal(arena_alloc(&a, 1504), first);
		assert_int_equal(first[0] | first[1503], 0);
	}
	arena_free(&a);
	arena_reserve(&a, 2000);
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alloc_is_zeroed_and_never_null),
		cmocka_unit_test(grow_keeps_what_was_there),
		cmocka_unit_test(strings),
		cmocka_unit_test(wipe),
		cmocka_unit_test(overflow_ends_the_process),
		cmocka_unit_test(arena_hands_out_disjoint_zeroed_aligned),
		cmocka_unit_test(arena_is_used_again),
		cmocka_unit_test(arena_of_nothing_gives_different_addresses),
		cmocka_unit_test(arena_strings_end),
		cmocka_unit_test(arena_may_hold_itself),
		cmocka_unit_test(a_reserved_chunk_is_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
