/* SPDX-License-Identifier: Apache-2.0 */
/* folder.h: a folder of manifests with real events, and a source that reads it. All functions are static. */
#ifndef WEFT_TEST_FOLDER_H
#define WEFT_TEST_FOLDER_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "source.h"

#define FOLDER_FN static __attribute__((unused))

#define NS(name) "apiVersion: v1\nkind: Namespace\nmetadata: {name: " name "}\n"

struct folder {
	char path[64];
	int fd;
	struct store *store;
	struct source *source;
};

FOLDER_FN struct source *new_source(const char *path, struct store *store, int notify,
				 int (*open_file)(void *ctx, const char *name), void *ctx)
{
	struct manifests_config c = {.path = path, .notify = notify, .store = store, .open = open_file, .ctx = ctx};

	c.folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(c.folder >= 0);
	return manifests_source(&c);
}

FOLDER_FN void begin(struct folder *f)
{
	static unsigned count;
	int notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	snprintf(f->path, sizeof(f->path), "/tmp/weft-manifests-%d-%u", (int)getpid(), count++);
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_true(inotify_add_watch(notify, f->path, MANIFESTS_EVENTS) >= 0);
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->store = store_new();
	f->source = new_source(f->path, f->store, notify, NULL, NULL);
}

FOLDER_FN void end(struct folder *f)
{
	char command[96];

	source_free(f->source);
	store_free(f->store);
	close(f->fd);
	snprintf(command, sizeof(command), "rm -rf %s", f->path);
	assert_int_equal(system(command), 0);
}

FOLDER_FN void put(struct folder *f, const char *name, const char *text)
{
	int fd = openat(f->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

FOLDER_FN void expect_problems(struct folder *f, const char *wanted)
{
	unsigned errors, warnings, seen_errors = 0, seen_warnings = 0;
	const struct problem *p = source_problems(f->source, &errors, &warnings);
	struct text t = {0};

	text_add(&t, "%s", "");
	for (; p; p = p->next) {
		const char *file = strrchr(p->file, '/');

		text_add(&t, "%s:%u %s | %s | %s\n", file ? "(folder)" : p->file, p->line, p->object, p->field,
			 p->reason);
		seen_errors += !p->warning;
		seen_warnings += p->warning;
	}
	assert_string_equal(t.data ? t.data : "", wanted);
	assert_int_equal(errors, seen_errors);
	assert_int_equal(warnings, seen_warnings);
	text_free(&t);
}

#endif
