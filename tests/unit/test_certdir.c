/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate folder: what is opened for the worker, what is made once, and whose folders are refused. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "certdir.h"

static char path[64];
static struct certdir dir;
static struct wire *asked, *answer;
static int fds[WIRE_FDS];

static int setup(void **state)
{
	static unsigned count;

	snprintf(path, sizeof(path), "/tmp/weft-certdir-%d-%u", (int)getpid(), count++);
	asked = wire_new(WIRE_CERTS);
	answer = wire_new(WIRE_CERTS);
	return certdir_open(&dir, path, true, false);
}

static int teardown(void **state)
{
	char command[96];

	free(asked);
	free(answer);
	snprintf(command, sizeof(command), "rm -rf %s", path);
	return system(command);
}

static void put(const char *name, const char *text)
{
	char file[128];
	int fd;

	snprintf(file, sizeof(file), "%s/%s", path, name);
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void ask_for(const char *first, const char *second)
{
	asked->files.count = second ? 2 : 1;
	snprintf(asked->files.name[0], WIRE_FILE_NAME, "%s", first);
	snprintf(asked->files.name[1], WIRE_FILE_NAME, "%s", second ? second : "");
}

static unsigned open_two(const char *first, const char *second)
{
	ask_for(first, second);
	return certdir_answer(&dir, asked, NULL, 0, answer, fds);
}

static void close_all(unsigned count)
{
	while (count)
		close(fds[--count]);
}

static int text_in_memory(const char *text)
{
	int fd = memfd_create("text", MFD_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static unsigned make_two(const char *first, const char *second)
{
	int texts[] = {text_in_memory(first), text_in_memory(second)};
	unsigned count;

	ask_for("a.pem", "b.pem");
	count = certdir_answer(&dir, asked, texts, 2, answer, fds);
	close(texts[0]);
	close(texts[1]);
	return count;
}

static void assert_holds(int fd, const char *expected)
{
	char buf[64] = "";

	assert_int_equal(pread(fd, buf, sizeof(buf) - 1, 0), strlen(expected));
	assert_string_equal(buf, expected);
}

static void opens_what_is_there(void **state)
{
	put("b.pem", "bee");
	assert_int_equal(open_two("a.pem", "b.pem"), 1);
	assert_int_equal(answer->files.error[0], -ENOENT);
	assert_int_equal(answer->files.error[1], 0);
	assert_string_equal(answer->files.name[1], "b.pem");
	assert_holds(fds[0], "bee");
	close_all(1);
}

static void names_stay_in_the_folder(void **state)
{
	static const char *const bad[] = {"", ".", "..", "../passwd", "/etc/passwd", "sub/file", ".hidden"};
	char link[128];

	for (size_t i = 0; i < array_size(bad); i++) {
		assert_int_equal(open_two(bad[i], NULL), 0);
		assert_int_equal(answer->files.error[0], -EINVAL);
	}
	snprintf(link, sizeof(link), "%s/out.pem", path);
	assert_int_equal(symlink("/etc/passwd", link), 0);
	assert_int_equal(open_two("out.pem", NULL), 0);
	assert_int_equal(answer->files.error[0], -EXDEV);
	snprintf(link, sizeof(link), "%s/pipe.pem", path);
	assert_int_equal(mkfifo(link, 0600), 0);
	assert_int_equal(open_two("pipe.pem", NULL), 0);
	/* as a Secret volume has it */
	snprintf(link, sizeof(link), "%s/in.pem", path);
	put("real", "inside");
	assert_int_equal(symlink("real", link), 0);
	assert_int_equal(open_two("in.pem", NULL), 1);
	assert_holds(fds[0], "inside");
	close_all(1);
}

static void made_once(void **state)
{
	struct stat st;
	char file[128];

	assert_int_equal(make_two("one", "two"), 2);
	assert_holds(fds[0], "one");
	assert_holds(fds[1], "two");
	close_all(2);
	assert_int_equal(make_two("three", "four"), 2);
	assert_holds(fds[0], "one");
	close_all(2);
	snprintf(file, sizeof(file), "%s/b.pem", path);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_nlink, 1);
	/* half a set is not filled up */
	assert_int_equal(unlink(file), 0);
	assert_int_equal(make_two("five", "six"), 1);
	assert_int_equal(answer->files.error[1], -ENOENT);
	close_all(1);
}

static void many_at_once_make_one_set(void **state)
{
	int start[2], status;
	pid_t child[8];
	char byte;

	assert_int_equal(pipe(start), 0);
	for (int i = 0; i < 8; i++) {
		char text[2] = {(char)('0' + i), '\0'};

		child[i] = fork();
		if (child[i])
			continue;
		close(start[1]);
		(void)!read(start[0], &byte, 1);
		if (make_two(text, text) != 2)
			_exit(1);
		/* both files of one node */
		char a = 0, b = 1;

		_exit(pread(fds[0], &a, 1, 0) != 1 || pread(fds[1], &b, 1, 0) != 1 || a != b);
	}
	close(start[0]);
	close(start[1]);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(waitpid(child[i], &status, 0), child[i]);
		assert_int_equal(status, 0);
	}
}

static void large_texts_are_refused(void **state)
{
	char *large = mem_alloc(70001);

	memset(large, 'x', 70000);
	assert_int_equal(make_two(large, "x"), 0);
	assert_int_equal(answer->files.error[0], -EFBIG);
	assert_int_equal(open_two("a.pem", "b.pem"), 0);
	assert_int_equal(answer->files.error[0], -ENOENT);
	free(large);
}

static void folders_of_others_are_refused(void **state)
{
	char link[80];

	put("a.pem", "x");
	assert_int_equal(chmod(path, 0770), 0);
	assert_int_equal(open_two("a.pem", NULL), 0);
	assert_int_equal(answer->files.error[0], -EPERM);
	assert_non_null(strstr(answer->text, "chown root it and chmod 700 it"));
	assert_int_equal(chmod(path, 01777), 0); /* a Secret volume */
	assert_int_equal(open_two("a.pem", NULL), 1);
	close_all(1);
	/* a link only where the operator wrote the path */
	snprintf(link, sizeof(link), "%s-link", path);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(certdir_open(&dir, link, true, false), 0);
	assert_int_equal(open_two("a.pem", NULL), 0);
	assert_int_equal(certdir_open(&dir, link, true, true), 0);
	assert_int_equal(open_two("a.pem", NULL), 1);
	close_all(1);
	snprintf(link, sizeof(link), "%s-link//", path); /* else the kernel follows it whatever is asked for */
	assert_int_equal(certdir_open(&dir, link, true, false), 0);
	assert_int_equal(open_two("a.pem", NULL), 0);
	assert_int_equal(unlink(dir.path), 0);
}

static void folder_that_is_not_ours_is_not_made(void **state)
{
	char other[80];

	snprintf(other, sizeof(other), "%s-not", path);
	assert_int_equal(certdir_open(&dir, other, false, true), 0);
	assert_int_equal(open_two("a.pem", NULL), 0);
	assert_int_equal(answer->files.error[0], -ENOENT);
	assert_int_equal(make_two("a", "b"), 0);
	assert_int_equal(answer->files.error[0], -EINVAL);
	assert_int_equal(access(other, F_OK), -1);
	assert_true(certdir_watch(&dir) >= 0);
}

/* No time mends it: whoever asked for that does not get a weftd that waits for certificates for ever. */
static void a_file_is_no_folder(void **state)
{
	char file[96], below[112], link[112];

	put("file", "x");
	snprintf(file, sizeof(file), "%s/file", path);
	snprintf(below, sizeof(below), "%s/ca", file);
	snprintf(link, sizeof(link), "%s/link", path);
	assert_int_equal(symlink("file", link), 0);
	for (int ours = 0; ours < 2; ours++) {
		assert_int_equal(certdir_open(&dir, file, ours, true), -ENOTDIR);
		assert_int_equal(certdir_open(&dir, file, ours, false), -ENOTDIR);
		assert_int_equal(certdir_open(&dir, below, ours, true), -ENOTDIR);
		assert_int_equal(certdir_open(&dir, link, ours, true), -ENOTDIR);
	}
}

/* A CRL that is a link is there, and cannot be read; where all lead nowhere the folder is being replaced. */
static void a_link_that_leads_nowhere(void **state)
{
	int at = open(path, O_RDONLY | O_DIRECTORY);

	put("roots.pem", "roots");
	assert_int_equal(symlinkat("gone", at, "crl.pem"), 0);
	assert_int_equal(open_two("roots.pem", "crl.pem"), 1);
	assert_int_equal(answer->files.error[1], -ENOLINK);
	close_all(1);
	assert_int_equal(unlinkat(at, "roots.pem", 0), 0);
	assert_int_equal(open_two("roots.pem", "crl.pem"), 0);
	assert_int_equal(answer->files.error[0], -ENOENT);
	assert_int_equal(answer->files.error[1], -ENOENT);
	put("roots.pem", "roots");
	assert_int_equal(unlinkat(at, "crl.pem", 0), 0);
	assert_int_equal(open_two("roots.pem", "crl.pem"), 1);
	assert_int_equal(answer->files.error[1], -ENOENT);
	close_all(1);
	close(at);
}

/* We have no descriptor left for the second: neither is told, as nothing is known of it. */
static void no_room_for_all(void **state)
{
	int free_fd = dup(0);
	struct rlimit was, r;

	put("roots.pem", "roots");
	put("crl.pem", "crl");
	close(free_fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	r = was;
	r.rlim_cur = (rlim_t)free_fd + 3; /* the folder, the first, and a look at the second */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	assert_int_equal(open_two("roots.pem", "crl.pem"), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_int_equal(answer->number, -EMFILE);
	answer->number = 0;
	assert_int_equal(open_two("roots.pem", "crl.pem"), 2);
	assert_int_equal(answer->number, 0);
	close_all(2);
	assert_int_equal(dup(0), free_fd);
	close(free_fd);
}

/* A volume of a Secret: files are links into ..data, which is a link that is renamed over. */
static void a_secret_that_is_replaced(void **state)
{
	int fd = certdir_watch(&dir), at = open(path, O_RDONLY | O_DIRECTORY);
	char buf[4096], name[24];

	assert_true(fd >= 0);
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "..%d", i);
		assert_int_equal(mkdirat(at, name, 0755), 0);
		snprintf(name, sizeof(name), "..%d/a.pem", i);
		put(name, i ? "new" : "old");
	}
	assert_int_equal(symlinkat("..0", at, "..data") | symlinkat("..data/a.pem", at, "a.pem"), 0);
	assert_true(read(fd, buf, sizeof(buf)) > 0);
	assert_int_equal(open_two("a.pem", NULL), 1);
	assert_holds(fds[0], "old");
	close_all(1);
	assert_int_equal(read(fd, buf, sizeof(buf)), -1);
	assert_int_equal(symlinkat("..1", at, "..tmp") | renameat(at, "..tmp", at, "..data"), 0);
	assert_true(read(fd, buf, sizeof(buf)) > 0);
	assert_int_equal(open_two("a.pem", NULL), 1);
	assert_holds(fds[0], "new");
	close_all(1);
	close(at);
}

static void assert_quiet(int fd)
{
	char buf[4096];

	assert_int_equal(read(fd, buf, sizeof(buf)), -1);
	assert_int_equal(errno, EAGAIN);
}

/* Whoever is told of a change asks, until nothing new is told. */
static void ask_while_told(int fd)
{
	char buf[4096];
	unsigned told = 0;

	while (read(fd, buf, sizeof(buf)) > 0) {
		close_all(open_two("a.pem", NULL));
		assert_true(++told < 5);
	}
	assert_true(told);
}

/* The other one takes its place in one step: what happens in there is noticed as in the first one, again and again. */
static void a_folder_that_is_exchanged(void **state)
{
	int fd = certdir_watch(&dir);
	char other[80], command[96];

	snprintf(other, sizeof(other), "%s-was", path);
	snprintf(command, sizeof(command), "rm -r %s", other);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(rename(path, other), 0);
		assert_int_equal(mkdir(path, 0700), 0);
		ask_while_told(fd);
		put("a.pem", "x");
		ask_while_told(fd);
		assert_int_equal(system(command), 0); /* what becomes of the one before is nobody's matter */
		assert_quiet(fd);
	}
}

/* `ln -sfn`: a link that is renamed over, to another folder. */
static void a_link_that_leads_elsewhere(void **state)
{
	char link[80], fresh[80], name[24];
	int fd, at;

	snprintf(link, sizeof(link), "%s/link", path);
	snprintf(fresh, sizeof(fresh), "%s/fresh", path);
	at = open(path, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(mkdirat(at, name, 0700), 0);
	}
	assert_int_equal(symlink("0", link), 0);
	assert_int_equal(certdir_open(&dir, link, false, true), 0);
	fd = certdir_watch(&dir);
	close_all(open_two("a.pem", NULL));
	assert_quiet(fd);
	for (int i = 1; i < 3; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(symlink(name, fresh) | rename(fresh, link), 0);
		ask_while_told(fd);
		snprintf(name, sizeof(name), "%d/a.pem", i);
		put(name, "x");
		ask_while_told(fd);
		snprintf(name, sizeof(name), "%d/a.pem", i - 1);
		put(name, "x");
		assert_quiet(fd);
	}
	close(at);
}

static void changes_are_noticed(void **state)
{
	int fd = certdir_watch(&dir);
	char buf[4096];

	assert_true(fd >= 0);
	assert_int_equal(read(fd, buf, sizeof(buf)), -1);
	assert_int_equal(open_two("a.pem", NULL), 0); /* reading is no change */
	assert_int_equal(read(fd, buf, sizeof(buf)), -1);
	put("a.pem", "x");
	assert_true(read(fd, buf, sizeof(buf)) > 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(opens_what_is_there),
		TEST(names_stay_in_the_folder),
		TEST(made_once),
		TEST(many_at_once_make_one_set),
		TEST(large_texts_are_refused),
		TEST(folders_of_others_are_refused),
		TEST(folder_that_is_not_ours_is_not_made),
		TEST(a_file_is_no_folder),
		TEST(a_link_that_leads_nowhere),
		TEST(no_room_for_all),
		TEST(a_secret_that_is_replaced),
		TEST(a_folder_that_is_exchanged),
		TEST(a_link_that_leads_elsewhere),
		TEST(changes_are_noticed),
	};

	log_open("test_certdir", false, (enum log_level) - 1); /* what it says is what is tested */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
