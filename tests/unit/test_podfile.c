/* SPDX-License-Identifier: Apache-2.0 */
/* Enrolments on disk: what is written is read back; what is cut, grown or changed is refused, never misread. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "podfile.h"

struct room {
	char path[64];
	int folder;
};

static int setup(void **state)
{
	struct room *r = mem_alloc(sizeof(*r));

	(void)snprintf(r->path, sizeof(r->path), "/tmp/test_podfile.%d", (int)getpid());
	if (mkdir(r->path, 0700))
		return -1;
	r->folder = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = r;
	return r->folder < 0;
}

static void forget(void *ctx, enum podfile_kind kind, uint32_t number)
{
	podfile_remove(*(int *)ctx, kind, number);
}

static int teardown(void **state)
{
	struct room *r = *state;

	if (podfile_each(r->folder, forget, &r->folder) || (unlinkat(r->folder, "next", 0) && errno != ENOENT))
		return -1;
	close(r->folder);
	if (rmdir(r->path))
		return -1;
	free(r);
	return 0;
}

static size_t add_pair(char *to, size_t at, const char *pair)
{
	memcpy(to + at, pair, strlen(pair) + 1);
	return at + strlen(pair) + 1;
}

static struct wire_pod *example(uint32_t number)
{
	struct wire_pod *p = mem_alloc(sizeof(*p));
	size_t at = 0;

	p->netns = 0x123456789abcull + number;
	p->pod = number;
	p->addrs = 2;
	assert_int_equal(addr_parse("10.0.0.1", &p->addr[0]), 0);
	assert_int_equal(addr_parse("fd00::1", &p->addr[1]), 0);
	text_copy(p->uid, sizeof(p->uid), "8f14e45f");
	text_copy(p->namespace, sizeof(p->namespace), "shop");
	text_copy(p->name, sizeof(p->name), "web-0");
	text_copy(p->service_account, sizeof(p->service_account), "web");
	text_copy(p->netns_path, sizeof(p->netns_path), "/run/netns/web");
	at = add_pair(p->labels, at, "app=web");
	(void)add_pair(p->labels, at, "tier=front");
	(void)add_pair(p->annotations, 0, "weft.io/splice=off");
	return p;
}

static void what_is_written_is_read(void **state)
{
	const struct room *r = *state;
	struct wire_pod *in = example(7), *out = mem_alloc(sizeof(*out));
	struct stat st;

	assert_int_equal(podfile_write(r->folder, PODFILE_NEW, in), 0);
	assert_int_equal(podfile_read(r->folder, PODFILE_KEPT, 7, out), -ENOENT);
	assert_false(podfile_is(r->folder, PODFILE_KEPT, 7));
	assert_int_equal(podfile_turn(r->folder, 7, PODFILE_NEW, PODFILE_KEPT), 0);
	assert_int_equal(podfile_read(r->folder, PODFILE_KEPT, 7, out), 0);
	assert_memory_equal(in, out, sizeof(*in));
	assert_int_equal(fstatat(r->folder, "7", &st, 0), 0);
	assert_true(st.st_size < 4096); /* one page of the run folder, not five */
	assert_int_equal(st.st_mode & 0777, 0600);
	free(in);
	free(out);
}

static void full_pairs(void **state)
{
	const struct room *r = *state;
	struct wire_pod *in = example(1), *out = mem_alloc(sizeof(*out));

	memset(in->labels, 'x', sizeof(in->labels) - 2); /* the longest: two NULs at the very end */
	memset(in->labels + sizeof(in->labels) - 2, 0, 2);
	memset(in->annotations, 0, sizeof(in->annotations));
	assert_int_equal(podfile_write(r->folder, PODFILE_KEPT, in), 0);
	assert_int_equal(podfile_read(r->folder, PODFILE_KEPT, 1, out), 0);
	assert_memory_equal(in, out, sizeof(*in));
	in->labels[sizeof(in->labels) - 2] = 'x'; /* ends with one NUL */
	assert_int_equal(podfile_write(r->folder, PODFILE_KEPT, in), -EINVAL);
	in->labels[sizeof(in->labels) - 1] = 'x'; /* does not end */
	assert_int_equal(podfile_write(r->folder, PODFILE_KEPT, in), -EINVAL);
	free(in);
	free(out);
}

static size_t slurp(const struct room *r, const char *name, char *to, size_t size)
{
	int fd = openat(r->folder, name, O_RDONLY);
	ssize_t n = read(fd, to, size);

	close(fd);
	assert_true(n > 0);
	return (size_t)n;
}

static void spill(const struct room *r, const char *name, const char *from, size_t size)
{
	int fd = openat(r->folder, name, O_WRONLY | O_CREAT, 0600);

	assert_int_equal(write(fd, from, size), (ssize_t)size);
	assert_int_equal(ftruncate(fd, (off_t)size), 0); /* O_TRUNC and a write would wait for the disk */
	close(fd);
}

static void every_cut_is_refused(void **state)
{
	const struct room *r = *state;
	struct wire_pod *in = example(3), *out = mem_alloc(sizeof(*out));
	char bytes[8192];
	size_t size;

	assert_int_equal(podfile_write(r->folder, PODFILE_KEPT, in), 0);
	size = slurp(r, "3", bytes, sizeof(bytes) - 1);
	for (size_t cut = 0; cut < size; cut += cut + 64 < size ? 13 : 1) {
		spill(r, "3", bytes, cut);
		assert_int_equal(podfile_read(r->folder, PODFILE_KEPT, 3, out), -EBADMSG);
	}
	bytes[size] = 0;
	spill(r, "3", bytes, size + 1);
	assert_int_equal(podfile_read(r->folder, PODFILE_KEPT, 3, out), -EBADMSG);
	spill(r, "4", bytes, size); /* the number inside is 3 */
	assert_int_equal(podfile_read(r->folder, PODFILE_KEPT, 4, out), -EBADMSG);
	free(in);
	free(out);
}

static bool ends(const char *s, size_t size)
{
	return memchr(s, 0, size) != NULL;
}

/* Random bytes changed: refused, or a struct whose texts all end. */
static void changed_bytes(void **state)
{
	const struct room *r = *state;
	struct wire_pod *in = example(5), *out = mem_alloc(sizeof(*out));
	char good[8192], bad[8192];
	size_t size;

	srand(5);
	assert_int_equal(podfile_write(r->folder, PODFILE_KEPT, in), 0);
	size = slurp(r, "5", good, sizeof(good));
	for (int i = 0; i < 2000; i++) {
		memcpy(bad, good, size);
		for (int k = rand() % 8; k >= 0; k--)
			bad[(size_t)rand() % (i & 1 ? 64 : size)] = (char)rand();
		spill(r, "5", bad, size);
		if (podfile_read(r->folder, PODFILE_KEPT, 5, out))
			continue;
		assert_true(out->addrs <= WIRE_ADDRS);
		assert_true(ends(out->uid, sizeof(out->uid)) && ends(out->namespace, WIRE_NAME));
		assert_true(ends(out->name, WIRE_NAME) && ends(out->service_account, WIRE_NAME));
		assert_true(ends(out->netns_path, WIRE_PATH));
		assert_int_equal(out->labels[WIRE_PAIRS - 1] | out->annotations[WIRE_PAIRS - 1], 0);
	}
	free(in);
	free(out);
}

static void count(void *ctx, enum podfile_kind kind, uint32_t number)
{
	unsigned *seen = ctx;

	assert_true(number >= 1 && number <= 20);
	seen[number] |= 1u << kind;
}

static void each_finds_all_and_nothing_else(void **state)
{
	const struct room *r = *state;
	unsigned seen[21] = {0};
	struct wire_pod *p;

	spill(r, "next", "x", 1);
	for (uint32_t i = 1; i <= 20; i++) {
		p = example(i);
		assert_int_equal(podfile_write(r->folder, i % 3, p), 0);
		free(p);
	}
	assert_int_equal(mkdirat(r->folder, "7-old", 0700), 0);
	assert_int_equal(podfile_each(r->folder, count, seen), 0);
	for (uint32_t i = 1; i <= 20; i++)
		assert_int_equal(seen[i], 1u << i % 3);
	assert_int_equal(unlinkat(r->folder, "7-old", AT_REMOVEDIR), 0);
}

static void numbers_are_never_the_same(void **state)
{
	const struct room *r = *state;
	uint32_t n;

	for (uint32_t i = 1; i <= 50; i++) {
		assert_int_equal(podfile_next(r->folder, &n), 0);
		assert_int_equal(n, i);
	}
	spill(r, "next", "ab", 2); /* broken: no number rather than one that was given */
	assert_int_equal(podfile_next(r->folder, &n), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_written_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(full_pairs, setup, teardown),
		cmocka_unit_test_setup_teardown(every_cut_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(changed_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(each_finds_all_and_nothing_else, setup, teardown),
		cmocka_unit_test_setup_teardown(numbers_are_never_the_same, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
