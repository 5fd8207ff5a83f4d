/* SPDX-License-Identifier: Apache-2.0 */
/* The names of a real folder, and what they are. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "names.h"

#define MANY 1000 /* of long names: more than one look brings */

static char path[64];
static int folder;

static int setup(void **state)
{
	snprintf(path, sizeof(path), "/tmp/weft-names-%d", (int)getpid());
	if (mkdir(path, 0700))
		return -1;
	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return folder < 0;
}

static int teardown(void **state)
{
	char command[96];

	close(folder);
	snprintf(command, sizeof(command), "rm -rf %s", path);
	return system(command);
}

static void touch(const char *name)
{
	int fd = openat(folder, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static bool plain(const char *name)
{
	return name[0] != '.';
}

static void in_order_and_no_more(void **state)
{
	struct names n;

	assert_int_equal(names_read(&n, folder, 9, plain), 0);
	assert_int_equal(n.count, 0);
	names_free(&n);
	touch("b");
	touch("c");
	touch("a");
	touch(".hidden");
	for (unsigned again = 0; again < 2; again++) {
		assert_int_equal(names_read(&n, folder, 3, plain), 0);
		assert_int_equal(n.count, 3);
		assert_false(n.more);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(n.name[i][0], 'a' + i);
		names_free(&n);
	}
	assert_int_equal(names_read(&n, folder, 2, plain), 0);
	assert_int_equal(n.count, 2);
	assert_true(n.more);
	names_free(&n);
	assert_int_equal(names_read(&n, -1, 2, plain), -EBADF);
	assert_null(n.name);
}

/* A ConfigMap that changes while clients have all that we may open. */
static void without_a_descriptor(void **state)
{
	int next = dup(0);
	struct rlimit was, r;
	struct names n;
	char name[128];
	int err;

	close(next);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%0100u", i);
		touch(name);
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	r = was;
	r.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	err = names_read(&n, folder, 2 * MANY, plain);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_int_equal(err, 0);
	assert_int_equal(n.count, MANY);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(strtoul(n.name[i], NULL, 10), i);
	names_free(&n);
}

static void links(void **state)
{
	touch("file");
	touch("two");
	assert_int_equal(linkat(folder, "two", folder, "hard", 0), 0);
	assert_int_equal(symlinkat("file", folder, "soft") | symlinkat("none", folder, "dead"), 0);
	assert_int_equal(names_is_link(folder, "file"), 0);
	assert_int_equal(names_is_link(folder, "soft"), 1);
	assert_int_equal(names_is_link(folder, "hard"), 1);
	assert_int_equal(names_is_link(folder, "none"), -ENOENT);
	assert_true(names_dangle(folder, "dead", -ENOENT));
	assert_true(names_dangle(folder, "none", -ENOLINK));
	assert_false(names_dangle(folder, "none", -ENOENT));
	assert_false(names_dangle(folder, "dead", -EACCES));
	assert_false(names_dangle(folder, "file", 3));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(in_order_and_no_more),
		TEST(without_a_descriptor),
		TEST(links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
