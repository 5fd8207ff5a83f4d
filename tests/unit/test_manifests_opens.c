/* SPDX-License-Identifier: Apache-2.0 */
/* Files that another process opens, whose answers come later, or never: the test says which, and what events come. */
#include "folder.h"

struct opener {
	int folder;
	char asked[4][32];
	unsigned count;
	int answer; /* 0: open it */
	int comes;  /* not 0: what is not there now will be when it is asked for again, and the event is told there */
};

static void event(int fd, uint32_t mask, const char *name);

static int open_for(void *ctx, const char *name)
{
	struct opener *o = ctx;
	int fd;

	assert_true(o->count < array_size(o->asked));
	snprintf(o->asked[o->count++], sizeof(o->asked[0]), "%s", name);
	if (o->comes) {
		event(o->comes, IN_CREATE, name);
		fd = openat(o->folder, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		close(fd);
		o->comes = 0;
		return -ENOENT;
	}
	if (o->answer)
		return o->answer;
	fd = openat(o->folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void event(int fd, uint32_t mask, const char *name)
{
	struct {
		struct inotify_event e;
		char name[32];
	} e = {.e = {.mask = mask, .len = sizeof(e.name)}};

	snprintf(e.name, sizeof(e.name), "%s", name);
	assert_int_equal(write(fd, &e, sizeof(e)), sizeof(e));
}

/* A folder whose files `o` opens, and whose events are what the test writes. */
static void begin_asking(struct folder *f, struct opener *o, int events[2])
{
	begin(f);
	assert_int_equal(pipe2(events, O_NONBLOCK | O_CLOEXEC), 0);
	source_free(f->source);
	o->folder = f->fd;
	f->source = new_source(f->path, f->store, events[0], open_for, o);
}

/* The answer is the file itself. */
static int answered(const struct folder *f, const char *name)
{
	return manifests_opened(f->source, name, openat(f->fd, name, O_RDONLY | O_CLOEXEC), false);
}

/* As begin_asking(), and one file is read: Namespace a. */
static void begin_with_one(struct folder *f, struct opener *o, int events[2])
{
	begin_asking(f, o, events);
	put(f, "a.yaml", NS("a"));
	assert_int_equal(source_load(f->source), 0);
	assert_int_equal(answered(f, "a.yaml"), 1);
}

static void opened_elsewhere(void **state)
{
	struct opener o = {0};
	struct folder f;
	int events[2];

	begin_asking(&f, &o, events);
	put(&f, "a.yaml", NS("a"));
	put(&f, "b.yaml", NS("b"));
	/* answers come later, and nothing is applied before the last */
	o.answer = -EINPROGRESS;
	assert_int_equal(source_load(f.source), 0);
	assert_int_equal(o.count, 2);
	assert_string_equal(o.asked[0], "a.yaml");
	assert_false(f.source->loaded);
	assert_int_equal(answered(&f, "b.yaml"), 0);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 0);
	/* an event while the answer is on its way: asked once more */
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(o.count, 2);
	assert_int_equal(answered(&f, "a.yaml"), 0);
	assert_int_equal(o.count, 3);
	assert_int_equal(answered(&f, "a.yaml"), 1);
	assert_true(f.source->loaded);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 2);
	/* refused: the last good version stays. Gone while being read: gone */
	o.answer = -EACCES;
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 1);
	expect_problems(&f, "a.yaml:0  |  | cannot be opened: Permission denied (make it readable for "
			    "weft's user)\n");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 2);
	o.count = 0;
	o.answer = -ENOENT;
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 1);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	expect_problems(&f, "");
	/* a lost event */
	o.count = 0;
	o.answer = 0;
	event(events[1], IN_Q_OVERFLOW, "");
	assert_int_equal(source_ready(f.source), 1);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 2);
	/* an answer that nobody waits for */
	assert_int_equal(manifests_opened(f.source, "x.yaml", openat(f.fd, "a.yaml", O_RDONLY | O_CLOEXEC), false), 0);
	event(events[1], IN_DELETE_SELF, "");
	assert_int_equal(source_ready(f.source), 1);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 2);
	close(events[1]);
	end(&f);
}

/* Who was asked died: the next one is asked anew, and nothing waits for the first. */
static void answers_that_do_not_come(void **state)
{
	struct opener o = {.answer = -EINPROGRESS};
	struct folder f;
	int events[2];

	begin_asking(&f, &o, events);
	put(&f, "a.yaml", NS("a"));
	put(&f, "b.yaml", NS("b"));
	assert_int_equal(source_load(f.source), 0);
	assert_int_equal(answered(&f, "b.yaml"), 0);
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	o.count = 0;
	manifests_unanswered(f.source);
	assert_int_equal(source_load(f.source), 0);
	assert_int_equal(o.count, 2);
	assert_int_equal(answered(&f, "a.yaml"), 0);
	assert_int_equal(answered(&f, "b.yaml"), 1);
	assert_int_equal(o.count, 2);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 2);
	close(events[1]);
	end(&f);
}

/* Two events of one link while weftd looks for it: that it leads nowhere is the answer to both. */
static void link_that_dangles_elsewhere(void **state)
{
	struct opener o = {.answer = -EINPROGRESS};
	struct folder f;
	int events[2];

	begin_asking(&f, &o, events);
	put(&f, "target", NS("a"));
	assert_int_equal(symlinkat("target", f.fd, "a.yaml"), 0);
	assert_int_equal(source_load(f.source), 0);
	assert_int_equal(answered(&f, "a.yaml"), 1);
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(o.count, 2);
	assert_int_equal(unlinkat(f.fd, "target", 0), 0);
	assert_int_equal(manifests_opened(f.source, "a.yaml", -ENOENT, false), 0);
	assert_int_equal(o.count, 3);
	assert_int_equal(manifests_opened(f.source, "a.yaml", -ENOENT, false), 1);
	assert_int_equal(o.count, 3);
	expect_problems(&f, "a.yaml:0  |  | is a link that leads nowhere\n");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	close(events[1]);
	end(&f);
}

/* In a folder that we may not enter only weftd sees that it is a link. */
static void link_that_only_weftd_sees(void **state)
{
	struct opener o = {.answer = -EINPROGRESS};
	struct folder f;
	int events[2];

	begin_with_one(&f, &o, events);
	assert_int_equal(unlinkat(f.fd, "a.yaml", 0), 0);
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(manifests_opened(f.source, "a.yaml", -ENOLINK, false), 0);
	assert_int_equal(o.count, 3); /* once more, as a link that we see ourselves */
	assert_int_equal(manifests_opened(f.source, "a.yaml", -ENOLINK, false), 1);
	expect_problems(&f, "a.yaml:0  |  | is a link that leads nowhere\n");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	event(events[1], IN_DELETE, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(manifests_opened(f.source, "a.yaml", -ENOENT, false), 1);
	expect_problems(&f, "");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 0);
	close(events[1]);
	end(&f);
}

/* Removed, and there again, before the answer of the first look has come. */
static void gone_and_there_again(void **state)
{
	struct opener o = {.answer = -EINPROGRESS};
	struct folder f;
	int events[2];

	begin_with_one(&f, &o, events);
	event(events[1], IN_DELETE, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	put(&f, "a.yaml", NS("b"));
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(o.count, 2);
	assert_int_equal(manifests_opened(f.source, "a.yaml", -ENOENT, false), 0);
	assert_int_equal(o.count, 3);
	assert_int_equal(answered(&f, "a.yaml"), 1);
	assert_non_null(store_get(f.store, KIND_NAMESPACE, "", "b"));
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	close(events[1]);
	end(&f);
}

/* An editor has renamed it away and writes another one in its place: we come between, and only the close counts. */
static void renamed_away_and_written_anew(void **state)
{
	struct opener o = {0};
	struct folder f;
	int events[2];

	begin_asking(&f, &o, events);
	put(&f, "a.yaml", NS("a"));
	assert_int_equal(source_load(f.source), 1);
	assert_int_equal(renameat(f.fd, "a.yaml", f.fd, "a.yaml~"), 0);
	o.comes = events[1];
	event(events[1], IN_MOVED_FROM, "a.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(o.count, 3);
	assert_non_null(store_get(f.store, KIND_NAMESPACE, "", "a"));
	put(&f, "a.yaml", NS("b"));
	event(events[1], IN_CLOSE_WRITE, "a.yaml");
	assert_int_equal(source_ready(f.source), 1);
	assert_non_null(store_get(f.store, KIND_NAMESPACE, "", "b"));
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	close(events[1]);
	end(&f);
}

/* In a folder that we may not enter: a new file is not read before its writer has closed it, and a link is. */
static void new_name_that_only_weftd_sees(void **state)
{
	struct opener o = {.answer = -EINPROGRESS};
	struct folder f;
	int events[2];

	begin_with_one(&f, &o, events);
	put(&f, "b.yaml", NS("half"));
	assert_int_equal(seteuid(65534), 0); /* run as root, as others are */
	event(events[1], IN_CREATE, "b.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(o.count, 2);
	assert_int_equal(answered(&f, "b.yaml"), 0);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	event(events[1], IN_CLOSE_WRITE, "b.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(answered(&f, "b.yaml"), 1);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 2);
	assert_int_equal(seteuid(65534), 0);
	event(events[1], IN_CREATE, "c.yaml");
	assert_int_equal(source_ready(f.source), 0);
	assert_int_equal(seteuid(0), 0);
	put(&f, "c.yaml", NS("c"));
	assert_int_equal(manifests_opened(f.source, "c.yaml", openat(f.fd, "c.yaml", O_RDONLY | O_CLOEXEC), true), 1);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 3);
	close(events[1]);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opened_elsewhere),
		cmocka_unit_test(answers_that_do_not_come),
		cmocka_unit_test(link_that_dangles_elsewhere),
		cmocka_unit_test(link_that_only_weftd_sees),
		cmocka_unit_test(gone_and_there_again),
		cmocka_unit_test(renamed_away_and_written_anew),
		cmocka_unit_test(new_name_that_only_weftd_sees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
