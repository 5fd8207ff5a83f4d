/* SPDX-License-Identifier: Apache-2.0 */
/* Files as they are read: what is known again without splitting, and bytes that go away meanwhile. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "content.h"
#include "doc.h"

#define LARGE (1u << 20) /* is mapped */

static int file_of(const char *bytes, size_t size)
{
	int fd = memfd_create("content", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (bytes)
		assert_int_equal(pwrite(fd, bytes, size, 0), size);
	return fd;
}

/* "---\na: AAAA...\n", twice, and a bit of a third. */
static char *large_text(size_t *ret_second)
{
	char *text = malloc(LARGE);

	memset(text, 'A', LARGE);
	for (unsigned i = 0; i < 3; i++)
		memcpy(text + i * (LARGE * 2 / 5), i ? "\n---\na: " : "\n\n---\na:", 8);
	*ret_second = LARGE * 2 / 5 + 1;
	return text;
}

static void documents_of_small_and_large(void **state)
{
	size_t second, len;
	char *text = large_text(&second);
	const char *bytes;

	for (unsigned large = 0; large < 2; large++) {
		const char *all = large ? text : "\n\n---\na: 1\n---\nb: 1\n";
		size_t size = large ? LARGE : strlen(all), first = large ? second : 11, at = 0;
		int fd = file_of(all, size);
		struct content c;

		assert_int_equal(content_open(&c, fd, size), 0);
		assert_int_equal(c.mapped, large);
		assert_int_equal(c.begin, 0);
		assert_int_equal(content_document(&c, 0, false, &bytes, &len), 0);
		assert_int_equal(len, first);
		for (at = 0; at < size; at += len) {
			assert_int_equal(content_document(&c, at, false, &bytes, &len), 0);
			assert_memory_equal(bytes, all + at, len);
			assert_int_equal(content_same(&c, at, len, table_hash(bytes, len)), at > 0);
			assert_int_equal(content_same(&c, at, len, table_hash(bytes, len) + 1), 0);
			assert_int_equal(content_same(&c, at, len - 1, table_hash(bytes, len - 1)), 0);
			assert_int_equal(content_same(&c, at, size - at + 1, 0), 0);
		}
		assert_int_equal(at, size);
		content_close(&c);
		close(fd);
	}
	free(text);
}

static void mark_of_utf8(void **state)
{
	static const char text[] = "\xef\xbb\xbf---\n";
	struct content c;

	for (size_t size = 0; size < sizeof(text); size++) {
		int fd = file_of(text, size);

		assert_int_equal(content_open(&c, fd, size), 0);
		assert_int_equal(c.begin, size < 3 ? 0 : 3);
		content_close(&c);
		close(fd);
	}
}

static void another_size(void **state)
{
	int fd = file_of("a: 1\n", 5);
	struct content c;

	assert_int_equal(content_open(&c, fd, 4), -EAGAIN);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(content_open(&c, fd, 6), -EAGAIN);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(content_open(&c, fd, LARGE), -EIO);
	close(fd);
	assert_int_equal(content_open(&c, -1, 5), -EBADF);
	assert_int_equal(content_open(&c, -1, LARGE), -EBADF);
}

static void a_file_that_gets_shorter(void **state)
{
	size_t second, len;
	char *text = large_text(&second);
	int fd = file_of(text, LARGE);
	const char *bytes;
	struct content c;

	for (int again = 0; again < 3; again++) {
		assert_int_equal(ftruncate(fd, LARGE), 0);
		assert_int_equal(pwrite(fd, text, LARGE, 0), LARGE);
		assert_int_equal(content_open(&c, fd, LARGE), 0);
		assert_true(c.mapped);
		assert_int_equal(content_document(&c, 0, false, &bytes, &len), 0);
		assert_int_equal(ftruncate(fd, 4096), 0);
		assert_memory_equal(bytes, text, len); /* ours */
		assert_int_equal(content_document(&c, second, false, &bytes, &len), -EIO);
		assert_int_equal(content_same(&c, second, 100, 0), -EIO);
		assert_int_equal(content_document(&c, 0, false, &bytes, &len), -EIO);
		content_close(&c);
	}
	free(text);
	close(fd);
}

/* Bytes of somebody else that are not there end the process, as they would without us. */
static void another_fault_is_not_ours(void **state)
{
	int fd = file_of(NULL, LARGE), status;
	struct content c;
	pid_t child;

	assert_int_equal(content_open(&c, fd, LARGE), 0);
	child = fork();
	if (!child) {
		int other = file_of(NULL, 4096);
		const char *bytes = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, other, 0);

		alarm(10);
		_exit(*(const volatile char *)(bytes + 4096));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
	content_close(&c);
	close(fd);
}

/* ------------------------------------------------------------------ what is known again is what would be split off */

static size_t random_stream(unsigned *seed, char *to, size_t room)
{
	static const char *const pieces[] = {"---", "---", "---\n", "...\n", "--- x\n", "a: 1\n", "# c\n", "\n",
					     "%YAML 1.1\n", " ---\n", "b: |\n  ---\n", "-", "."};
	size_t len = 0;

	for (unsigned n = (unsigned)rand_r(seed) % 8; n; n--) {
		const char *piece = pieces[(unsigned)rand_r(seed) % array_size(pieces)];

		if (len + strlen(piece) > room)
			break;
		memcpy(to + len, piece, strlen(piece));
		len += strlen(piece);
	}
	return len;
}

static void known_again_is_split_so(void **state)
{
	unsigned seed = 1, known = 0;
	char was[64], is[128];

	for (unsigned turn = 0; turn < 30000; turn++) {
		size_t old = random_stream(&seed, was, sizeof(was)), len, at, size;
		struct content c;
		int fd;

		/* A document of the old stream, with something else behind it. */
		for (at = 0; at < old; at += len) {
			len = doc_split(was + at, old - at, false);
			memcpy(is, was + at, len);
			size = len + random_stream(&seed, is + len, sizeof(is) - len);
			fd = file_of(is, size);
			assert_int_equal(content_open(&c, fd, size), 0);
			if (content_same(&c, 0, len, table_hash(is, len))) {
				assert_int_equal(doc_split(is, size, false), len);
				known++;
			}
			content_close(&c);
			close(fd);
		}
	}
	print_message("    %u known again\n", known);
	assert_true(known > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents_of_small_and_large),
		cmocka_unit_test(mark_of_utf8),
		cmocka_unit_test(another_size),
		cmocka_unit_test(a_file_that_gets_shorter),
		cmocka_unit_test(another_fault_is_not_ours),
		cmocka_unit_test(known_again_is_split_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
