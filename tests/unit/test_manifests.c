/* SPDX-License-Identifier: Apache-2.0 */
/* A real folder with real events. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "folder.h"

struct names {
	char name[32][64];
	unsigned count;
};

static void changed(void *ctx, enum object_kind kind, const char *namespace, const char *name)
{
	struct names *n = ctx;

	assert_true(n->count < array_size(n->name));
	assert_true(text_copy(n->name[n->count++], sizeof(n->name[0]), name));
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Takes the events; the names of what changed must be these, in any order. */
static void expect_changes(struct folder *f, bool load, const char *wanted)
{
	int rc = load ? source_load(f->source) : source_ready(f->source);
	struct names n = {0};
	struct text t = {0};

	assert_true(rc >= 0);
	store_changes(f->store, changed, &n);
	qsort(n.name, n.count, sizeof(n.name[0]), by_text);
	text_add(&t, "%s", n.count ? n.name[0] : "");
	for (unsigned i = 1; i < n.count; i++)
		text_add(&t, " %s", n.name[i]);
	assert_string_equal(t.data, wanted);
	assert_true(rc > 0 || !n.count);
	text_free(&t);
}

#define POLICY(name, spec) \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " name "}\nspec: " spec "\n"

static struct object *policy(struct folder *f, const char *name)
{
	return store_get(f->store, KIND_AUTHORIZATION_POLICY, "default", name);
}

static void load_and_follow(void **state)
{
	struct folder f;

	begin(&f);
	put(&f, "b.yaml", NS("b") "---\n" NS("c"));
	put(&f, "a.yml", NS("a"));
	put(&f, "j.json", "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"j\"}}\n"
			  "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"k\"}}");
	put(&f, "y.yaml", "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"y1\"}}\n"
			  "---\n\n{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":\n{\"name\":7}}");
	put(&f, ".hidden.yaml", NS("hidden"));
	put(&f, "readme.txt", "not: [yaml");
	put(&f, "empty.yaml", "");
	assert_int_equal(mkdirat(f.fd, "sub", 0755), 0);
	put(&f, "sub/s.yaml", NS("sub"));
	assert_false(f.source->loaded);
	expect_changes(&f, true, "a b c j k y1");
	assert_true(f.source->loaded);
	expect_problems(&f, "y.yaml:5 Namespace | metadata.name | must be text, but 7 is a number: write it "
			    "in quotes\n");
	put(&f, "y.yaml", NS("y1"));
	expect_changes(&f, false, "y1");
	expect_problems(&f, "");
	expect_changes(&f, false, "");
	put(&f, "d.yaml", NS("d"));
	assert_int_equal(renameat(f.fd, "a.yml", f.fd, "e.yaml"), 0);
	expect_changes(&f, false, "a d");
	assert_string_equal(store_get(f.store, KIND_NAMESPACE, "", "a")->file, "e.yaml");
	assert_int_equal(unlinkat(f.fd, "b.yaml", 0), 0);
	expect_changes(&f, false, "b c");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 5);
	assert_int_equal(source_load(f.source), 0);
	end(&f);
}

/* A folder of which ends[1] tells, in place of inotify. */
static void begin_told(struct folder *f, int ends[2])
{
	assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	begin(f);
	source_free(f->source);
	f->source = new_source(f->path, f->store, ends[0], NULL, NULL);
}

/* Who tells of a rename: interrupted between its two events. */
static void *second_event(void *arg)
{
	const int *pipe_end = arg;
	struct {
		struct inotify_event e;
		char name[16];
	} to = {.e = {.mask = IN_MOVED_TO, .cookie = 7, .len = 16}, .name = "new.yaml"};

	assert_int_equal(usleep(60000), 0);
	assert_int_equal(write(*pipe_end, &to, sizeof(to)), sizeof(to));
	return NULL;
}

static void rename_interrupted(void **state)
{
	struct {
		struct inotify_event e;
		char name[16];
	} from = {.e = {.mask = IN_MOVED_FROM, .cookie = 7, .len = 16}, .name = "old.yaml"};
	pthread_t thread;
	struct folder f;
	int ends[2];

	begin_told(&f, ends);
	put(&f, "old.yaml", NS("kept"));
	expect_changes(&f, true, "kept");
	assert_int_equal(renameat(f.fd, "old.yaml", f.fd, "new.yaml"), 0);
	assert_int_equal(write(ends[1], &from, sizeof(from)), sizeof(from));
	assert_int_equal(pthread_create(&thread, NULL, second_event, &ends[1]), 0);
	expect_changes(&f, false, "kept"); /* in another file: it was never away */
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_string_equal(store_get(f.store, KIND_NAMESPACE, "", "kept")->file, "new.yaml");
	close(ends[1]);
	end(&f);
}

struct mover {
	int pipe;
	atomic_bool enough;
	unsigned moved;
};

/* One file after the other leaves the folder. */
static void *move_many(void *arg)
{
	struct mover *m = arg;
	struct {
		struct inotify_event e;
		char name[16];
	} from = {.e = {.mask = IN_MOVED_FROM, .len = 16}};

	for (; m->moved < 200 && !m->enough; m->moved++) {
		from.e.cookie = m->moved + 1;
		snprintf(from.name, sizeof(from.name), "%u.yaml", m->moved);
		assert_int_equal(write(m->pipe, &from, sizeof(from)), sizeof(from));
		assert_int_equal(usleep(50000), 0);
	}
	return NULL;
}

/* Who moves files away for long is not waited for all the time: the one who waits has more to do. */
static void patience_ends(void **state)
{
	struct mover mover = {0};
	pthread_t thread;
	struct folder f;
	int ends[2];

	begin_told(&f, ends);
	put(&f, "a.yaml", NS("a"));
	expect_changes(&f, true, "a");
	mover.pipe = ends[1];
	assert_int_equal(pthread_create(&thread, NULL, move_many, &mover), 0);
	assert_int_equal(poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, -1), 1);
	expect_changes(&f, false, "");
	mover.enough = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_in_range(mover.moved, 0, 199);
	close(ends[1]);
	end(&f);
}

/* A writer that has not closed is not read; a link is there at once. */
static void writers_and_links(void **state)
{
	struct folder f;
	int fd;

	begin(&f);
	expect_changes(&f, true, "");
	fd = openat(f.fd, "slow.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, NS("one") "---\n", strlen(NS("one")) + 4), strlen(NS("one")) + 4);
	expect_changes(&f, false, "");
	assert_int_equal(write(fd, NS("two"), strlen(NS("two"))), strlen(NS("two")));
	close(fd);
	expect_changes(&f, false, "one two");
	put(&f, "outside.txt", NS("linked"));
	assert_int_equal(symlinkat("outside.txt", f.fd, "link.yaml"), 0);
	assert_int_equal(linkat(f.fd, "slow.yaml", f.fd, "hard.yaml", 0), 0);
	expect_changes(&f, false, "linked one two");
	assert_int_equal(symlinkat("nowhere", f.fd, "dangling.yaml"), 0);
	expect_changes(&f, false, "");
	end(&f);
}

static int begin_writing(struct folder *f, const char *name)
{
	int fd = openat(f->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	return fd;
}

static void end_writing(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* Who saves a file by writing another one in its place takes nothing away meanwhile. */
static void editors(void **state)
{
	struct folder f;
	int fd;

	begin(&f);
	put(&f, "a.yaml", NS("old") "---\n" NS("stays"));
	expect_changes(&f, true, "old stays");
	assert_int_equal(renameat(f.fd, "a.yaml", f.fd, "a.yaml~"), 0); /* vim, emacs */
	fd = begin_writing(&f, "a.yaml");
	expect_changes(&f, false, "");
	assert_int_equal(write(fd, NS("new"), strlen(NS("new"))), strlen(NS("new")));
	expect_changes(&f, false, "");
	end_writing(fd, "---\n" NS("stays"));
	assert_int_equal(unlinkat(f.fd, "a.yaml~", 0), 0);
	expect_changes(&f, false, "new old");
	assert_int_equal(unlinkat(f.fd, "a.yaml", 0), 0); /* git */
	fd = begin_writing(&f, "a.yaml");
	expect_changes(&f, false, "");
	end_writing(fd, NS("stays"));
	expect_changes(&f, false, "new stays"); /* another document: it was not the first */
	assert_int_equal(renameat(f.fd, "a.yaml", f.fd, "a.yaml.off"), 0); /* and so one takes it away */
	expect_changes(&f, false, "stays");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 0);
	end(&f);
}

static void exchange(struct folder *f, const char *one, const char *other)
{
	assert_int_equal(renameat2(f->fd, one, f->fd, other, RENAME_EXCHANGE), 0);
}

/* Of two files that change places (mv --exchange) inotify tells that the second one came, then that it went. */
static void exchanged(void **state)
{
	struct folder f;
	int fd;

	begin(&f);
	put(&f, "a.yaml", NS("a"));
	put(&f, "b.yaml", NS("b"));
	put(&f, ".c", NS("c"));
	assert_int_equal(mkdirat(f.fd, "sub", 0755), 0);
	put(&f, "sub/d.yaml", NS("d"));
	expect_changes(&f, true, "a b");
	expect_changes(&f, false, "");
	exchange(&f, "a.yaml", "b.yaml");
	expect_changes(&f, false, "a b"); /* in other files */
	expect_problems(&f, "");
	assert_string_equal(store_get(f.store, KIND_NAMESPACE, "", "a")->file, "b.yaml");
	assert_string_equal(store_get(f.store, KIND_NAMESPACE, "", "b")->file, "a.yaml");
	exchange(&f, ".c", "a.yaml");
	expect_changes(&f, false, "b c");
	exchange(&f, "sub/d.yaml", "a.yaml"); /* to this folder it is one name that came and went */
	expect_changes(&f, false, "c d");
	exchange(&f, "a.yaml", "sub/d.yaml");
	expect_changes(&f, false, "c d");
	/* So is this, but what is there is being written. */
	put(&f, ".e", NS("e"));
	assert_int_equal(renameat(f.fd, ".e", f.fd, "a.yaml") | renameat(f.fd, "a.yaml", f.fd, ".off"), 0);
	fd = begin_writing(&f, "a.yaml");
	expect_changes(&f, false, "");
	end_writing(fd, NS("e"));
	expect_changes(&f, false, "c e");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 2);
	end(&f);
}

/* As the kubelet does it: files are links into ..data, which is a link that is renamed over. */
static void config_map(void **state)
{
	struct folder f;

	begin(&f);
	assert_int_equal(mkdirat(f.fd, "..1", 0755) | mkdirat(f.fd, "..2", 0755), 0);
	put(&f, "..1/a.yaml", NS("old"));
	put(&f, "..2/a.yaml", NS("new"));
	assert_int_equal(symlinkat("..1", f.fd, "..data") | symlinkat("..data/a.yaml", f.fd, "a.yaml"), 0);
	expect_changes(&f, true, "old");
	expect_changes(&f, false, "");
	assert_int_equal(symlinkat("..2", f.fd, "..tmp") | renameat(f.fd, "..tmp", f.fd, "..data"), 0);
	expect_changes(&f, false, "new old");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	end(&f);
}

/* The kubelet removes the link of a file that is gone behind the rename, when the source may have seen that. */
static void *remove_link(void *arg)
{
	const struct folder *f = arg;
	int unread = 1;

	while (unread)
		assert_int_equal(ioctl(f->source->fd, FIONREAD, &unread), 0);
	assert_int_equal(unlinkat(f->fd, "b.yaml", 0), 0);
	return NULL;
}

static void config_map_that_shrinks(void **state)
{
	struct folder f;
	pthread_t thread;

	begin(&f);
	assert_int_equal(mkdirat(f.fd, "..1", 0755) | mkdirat(f.fd, "..2", 0755), 0);
	put(&f, "..1/a.yaml", NS("a"));
	put(&f, "..1/b.yaml", NS("b"));
	put(&f, "..2/a.yaml", NS("a"));
	assert_int_equal(symlinkat("..1", f.fd, "..data") | symlinkat("..data/a.yaml", f.fd, "a.yaml") |
				 symlinkat("..data/b.yaml", f.fd, "b.yaml"), 0);
	expect_changes(&f, true, "a b");
	expect_changes(&f, false, "");
	assert_int_equal(symlinkat("..2", f.fd, "..tmp") | renameat(f.fd, "..tmp", f.fd, "..data"), 0);
	assert_int_equal(pthread_create(&thread, NULL, remove_link, &f), 0);
	expect_changes(&f, false, "b");
	expect_problems(&f, "");
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	/* one that stays is told all the same */
	assert_int_equal(symlinkat("..data/b.yaml", f.fd, "b.yaml"), 0);
	expect_changes(&f, false, "");
	expect_problems(&f, "b.yaml:0  |  | is a link that leads nowhere\n");
	end(&f);
}

/* All in one batch: what was deleted is known, and nothing is waited for. */
static void deleted_beside_a_config_map(void **state)
{
	uint64_t least = UINT64_MAX;
	struct folder f;

	begin(&f);
	for (unsigned i = 0; i < 20 && least > 100000000; i++) {
		uint64_t start, took;

		put(&f, "b.yaml", NS("b"));
		expect_changes(&f, false, "b");
		assert_int_equal(unlinkat(f.fd, "b.yaml", 0) | symlinkat("x", f.fd, "..tmp") |
					 renameat(f.fd, "..tmp", f.fd, "..data"), 0);
		start = clock_ns();
		expect_changes(&f, false, "b");
		took = clock_ns() - start;
		least = took < least ? took : least;
	}
	assert_true(least <= 100000000);
	end(&f);
}

/* What does not parse any more changes nothing. */
static void last_good(void **state)
{
	struct folder f;
	struct object *o;

	begin(&f);
	put(&f, "p.yaml", NS("a") "---\n" POLICY("deny", "{action: DENY, rules: [{}]}") "---\n" NS("b"));
	expect_changes(&f, true, "a b deny");
	o = policy(&f, "deny");
	/* one document is no YAML */
	put(&f, "p.yaml", NS("a") "---\n" POLICY("deny", "{action: DENY, rules: [{]}") "---\n" NS("b"));
	expect_changes(&f, false, "");
	expect_problems(&f, "p.yaml:8  |  | not valid YAML: did not find expected node content\n");
	assert_ptr_equal(policy(&f, "deny"), o);
	/* still broken, otherwise; the document above grew */
	put(&f, "p.yaml", NS("a") "# more\n---\n" POLICY("deny", "{action: DENY, rules: 7}") "---\n" NS("b"));
	expect_changes(&f, false, "a");
	expect_problems(&f, "p.yaml:9 AuthorizationPolicy default/deny | spec.rules | must be a list, not a "
			    "number\n");
	assert_ptr_equal(policy(&f, "deny"), o);
	/* an empty file is no broken one */
	put(&f, "p.yaml", "");
	expect_changes(&f, false, "a b deny");
	put(&f, "p.yaml", NS("a") "---\n" POLICY("deny", "{action: DENY, rules: [{}]}"));
	expect_changes(&f, false, "a deny");
	expect_problems(&f, "");
	/* its name is gone and cannot be read: it stays, a new one comes beside it */
	put(&f, "p.yaml", NS("a") "---\n" POLICY("other", "{}") "---\n" NS("b") "---\n[");
	expect_changes(&f, false, "b other");
	assert_non_null(policy(&f, "deny"));
	/* fixed: gone for good */
	put(&f, "p.yaml", NS("a") "---\n" POLICY("other", "{}") "---\n" NS("b"));
	expect_changes(&f, false, "deny");
	expect_problems(&f, "");
	/* a rejected object of a file that goes away goes with it */
	put(&f, "p.yaml", POLICY("other", "{x: 1}"));
	expect_changes(&f, false, "a b");
	assert_non_null(policy(&f, "other"));
	assert_int_equal(unlinkat(f.fd, "p.yaml", 0), 0);
	expect_changes(&f, false, "other");
	expect_problems(&f, "");
	/* of which namespace it is cannot be read */
	put(&f, "p.yaml", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
			  "metadata: {name: deny, namespace: shop}\n");
	expect_changes(&f, false, "deny");
	put(&f, "p.yaml", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
			  "metadata: {name: deny, namespace: Shop}\n");
	expect_changes(&f, false, "(unreadable)");
	assert_non_null(store_get(f.store, KIND_AUTHORIZATION_POLICY, "shop", "deny"));
	end(&f);
}

/* A policy that never was right closes; one that is given anew, or is right, takes its place. */
static void stand_in(void **state)
{
	struct folder f;

	begin(&f);
	put(&f, "p.yaml", POLICY("p", "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/99]}}]}]}"));
	put(&f, "q.yaml", "kind: AuthorizationPolicy\nmetadata:\n  name: q\n\tnamespace: shop\n");
	expect_changes(&f, true, "p q");
	assert_true(policy(&f, "p")->authorization.stand_in);
	assert_true(store_get(f.store, KIND_AUTHORIZATION_POLICY, "shop", "q")->authorization.stand_in);
	expect_problems(&f, "p.yaml:4 AuthorizationPolicy default/p | spec.rules[0].from[0].source.ipBlocks[0] | "
			    "\"10.0.0.0/99\" is not an address block: write it as 10.0.0.0/8, fd00::/8 or one "
			    "address, with no bits after the prefix\n"
			    "q.yaml:4  |  | not valid YAML: found a tab character that violates indentation (while "
			    "scanning a plain scalar that starts in line 3)\n");
	put(&f, "r.yaml", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: r}\n"
			  "spec: {mtls: {mode: SOME}}\n");
	expect_changes(&f, false, "r");
	assert_true(store_get(f.store, KIND_PEER_AUTHENTICATION, "default", "r")->peer.stand_in);
	put(&f, "r.yaml", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: r}\n"
			  "spec: {mtls: {mode: STRICT}}\n");
	expect_changes(&f, false, "r");
	assert_false(store_get(f.store, KIND_PEER_AUTHENTICATION, "default", "r")->peer.stand_in);
	/* wrong in another way: a new stand-in, with the selector of now */
	put(&f, "p.yaml", POLICY("p", "{selector: {matchLabels: {a: b}}, rules: 1}"));
	expect_changes(&f, false, "p");
	assert_int_equal(policy(&f, "p")->authorization.selector.count, 1);
	put(&f, "z.yaml", POLICY("p", "{}"));
	expect_changes(&f, false, "p");
	assert_false(policy(&f, "p")->authorization.stand_in);
	put(&f, "p.yaml", POLICY("p", "{rules: [{}]}"));
	expect_changes(&f, false, "p");
	assert_string_equal(policy(&f, "p")->file, "p.yaml");
	expect_problems(&f, "q.yaml:4  |  | not valid YAML: found a tab character that violates indentation (while "
			    "scanning a plain scalar that starts in line 3)\n"
			    "z.yaml:1 AuthorizationPolicy default/p | metadata.name | is already given in "
			    "p.yaml line "
			    "1: this one is not used\n");
	end(&f);
}

/* Text that is no YAML and speaks of a policy, in a file that had policies: those stay, no other closes more. */
static void broken_beside_last_good(void **state)
{
	struct folder f;

	begin(&f);
	put(&f, "p.yaml", POLICY("p", "{rules: [{}]}"));
	expect_changes(&f, true, "p");
	put(&f, "p.yaml", "kind: AuthorizationPolicy\nmetadata: {name: [\n");
	expect_changes(&f, false, "");
	assert_int_equal(store_count(f.store, KIND_AUTHORIZATION_POLICY), 1);
	assert_int_equal(policy(&f, "p")->authorization.rules, 1);
	/* another one that never was good does close */
	put(&f, "p.yaml", "kind: AuthorizationPolicy\nmetadata: {name: [\n---\nkind: AuthorizationPolicy\n"
			  "metadata: {name: new, x: [\n");
	expect_changes(&f, false, "new");
	assert_true(policy(&f, "new")->authorization.stand_in);
	assert_int_equal(policy(&f, "p")->authorization.rules, 1);
	end(&f);
}

static void one_name_twice(void **state)
{
	struct folder f;

	begin(&f);
	put(&f, "b.yaml", NS("x") "---\n" NS("x"));
	expect_changes(&f, true, "x");
	expect_problems(&f, "b.yaml:5 Namespace x | metadata.name | is already given in b.yaml line 1: this "
			    "one is not "
			    "used\n");
	put(&f, "a.yaml", "\n" NS("x"));
	expect_changes(&f, false, "x");
	expect_problems(&f,
			"b.yaml:1 Namespace x | metadata.name | is already given in a.yaml line 2: this one "
			"is not used\n"
			"b.yaml:5 Namespace x | metadata.name | is already given in a.yaml line 2: this one "
			"is not used\n");
	assert_int_equal(unlinkat(f.fd, "a.yaml", 0), 0);
	expect_changes(&f, false, "x");
	assert_string_equal(store_get(f.store, KIND_NAMESPACE, "", "x")->file, "b.yaml");
	assert_int_equal(store_get(f.store, KIND_NAMESPACE, "", "x")->line, 1);
	/* the order of the two is turned: lines follow */
	put(&f, "b.yaml", "# first\n" NS("x") "---\n" NS("z"));
	expect_changes(&f, false, "x z");
	expect_problems(&f, "");
	end(&f);
}

/* A change costs its document, and the others only move. */
static void one_document_of_many(void **state)
{
	struct folder f;
	struct object *first, *last;

	begin(&f);
	put(&f, "m.yaml", NS("a") "---\n" NS("b") "---\n" NS("c"));
	expect_changes(&f, true, "a b c");
	first = store_get(f.store, KIND_NAMESPACE, "", "a");
	last = store_get(f.store, KIND_NAMESPACE, "", "c");
	assert_int_equal(last->line, 9 - 1 + 1);
	put(&f, "m.yaml", NS("a") "---\n# b\n\n" NS("b2") "---\n" NS("c"));
	expect_changes(&f, false, "b b2");
	assert_ptr_equal(store_get(f.store, KIND_NAMESPACE, "", "a"), first);
	assert_ptr_equal(store_get(f.store, KIND_NAMESPACE, "", "c"), last);
	assert_int_equal(last->line, 11);
	/* documents change places; nothing is decoded again */
	put(&f, "m.yaml", "---\n" NS("c") "---\n# b\n\n" NS("b2"));
	expect_changes(&f, false, "a");
	assert_ptr_equal(store_get(f.store, KIND_NAMESPACE, "", "c"), last);
	assert_int_equal(last->line, 2);
	end(&f);
}

/* A List of more than 64 KiB: read by items, and one change costs one. */
static void large_list(void **state)
{
	const struct object *o, *other;
	struct folder f;
	struct text t = {0};

	begin(&f);
	for (int json = 0; json < 2; json++) {
		const char *name = json ? "l.json" : "l.yaml";

		for (int turn = 0; turn < 2; turn++) {
			t.len = 0;
			text_add(&t, json ? "{\"kind\":\"List\",\"apiVersion\":\"v1\",\n\"items\":[" : "items:\n");
			for (unsigned i = 0; i < 2000; i++)
				text_add(&t,
					 json ? "%s{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\n"
						"\"metadata\":{\"name\":\"j%u\"}}"
					      : "%s- apiVersion: v1\n  kind: Namespace\n  metadata: {name: y%u}\n",
					 json && i ? ",\n" : "", turn && i == 7 ? 9999 : i);
			text_add(&t, json ? "]}\n" : "apiVersion: v1\nkind: List\n");
			put(&f, name, t.data);
			if (turn) {
				expect_changes(&f, false, json ? "j7 j9999" : "y7 y9999");
				continue;
			}
			assert_int_equal(source_load(f.source), 1);
			store_changes(f.store, NULL, NULL);
			o = store_get(f.store, KIND_NAMESPACE, "", json ? "j1999" : "y1999");
			assert_non_null(o);
			assert_int_equal(o->line, json ? 2 + 2 * 1999 : 2 + 3 * 1999);
		}
		other = store_get(f.store, KIND_NAMESPACE, "", json ? "j1999" : "y1999");
		assert_ptr_equal(other, o);
		expect_problems(&f, "");
	}
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 4000);
	text_free(&t);
	end(&f);
}

static void strange_files(void **state)
{
	struct folder f;
	int fd;

	begin(&f);
	assert_int_equal(mkfifoat(f.fd, "fifo.yaml", 0644), 0);
	assert_int_equal(mkdirat(f.fd, "dir.yaml", 0755), 0);
	fd = openat(f.fd, "big.yaml", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(ftruncate(fd, 50 << 20), 0);
	close(fd);
	expect_changes(&f, true, "");
	assert_true(f.source->loaded);
	expect_problems(&f, "big.yaml:0  |  | has 50.0 MiB; weft reads at most 32 MiB of one file: split it\n"
			    "dir.yaml:0  |  | is a folder: weft reads the files of one folder only\n"
			    "fifo.yaml:0  |  | is not a regular file\n");
	put(&f, "big.yaml", NS("small"));
	assert_int_equal(unlinkat(f.fd, "dir.yaml", AT_REMOVEDIR) | unlinkat(f.fd, "fifo.yaml", 0), 0);
	expect_changes(&f, false, "small");
	expect_problems(&f, "");
	/* too large now: the last good version stays */
	fd = openat(f.fd, "big.yaml", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 50 << 20), 0);
	close(fd);
	expect_changes(&f, false, "");
	assert_int_equal(store_count(f.store, KIND_NAMESPACE), 1);
	end(&f);
}

static void too_many_problems(void **state)
{
	struct folder f;
	struct text t = {0};
	unsigned errors, warnings, listed = 0;

	begin(&f);
	for (unsigned i = 0; i < 3 * SOURCE_PROBLEMS; i++)
		text_add(&t, "---\n- %u\n", i);
	put(&f, "a.yaml", t.data);
	expect_changes(&f, true, "");
	for (const struct problem *p = source_problems(f.source, &errors, &warnings); p; p = p->next)
		listed++;
	assert_int_equal(listed, SOURCE_PROBLEMS);
	assert_int_equal(errors, 3 * SOURCE_PROBLEMS);
	/* The first ones are mended: those that did not fit are told now. */
	t.len = 0;
	for (unsigned i = 2 * SOURCE_PROBLEMS + 1; i < 3 * SOURCE_PROBLEMS; i++)
		text_add(&t, "---\n- %u\n", i);
	put(&f, "a.yaml", t.data);
	expect_changes(&f, false, "");
	listed = 0;
	for (const struct problem *p = source_problems(f.source, &errors, &warnings); p; p = p->next)
		listed++;
	assert_int_equal(listed, SOURCE_PROBLEMS - 1);
	assert_int_equal(errors, SOURCE_PROBLEMS - 1);
	text_free(&t);
	t = (struct text){0};
	for (unsigned i = 0; i < 140000; i++)
		text_add(&t, "---\n");
	put(&f, "a.yaml", t.data);
	expect_changes(&f, false, "");
	source_problems(f.source, &errors, &warnings);
	assert_int_equal(errors, SOURCE_PROBLEMS); /* what there was, and the file as a whole */
	text_free(&t);
	end(&f);
}

static void folder_gone(void **state)
{
	struct folder f;

	begin(&f);
	put(&f, "a.yaml", NS("a"));
	expect_changes(&f, true, "a");
	assert_int_equal(unlinkat(f.fd, "a.yaml", 0), 0);
	assert_int_equal(rmdir(f.path), 0);
	assert_true(source_ready(f.source) > 0);
	assert_true(source_load(f.source) >= 0);
	expect_problems(&f, "(folder):0  |  | the folder is gone; its objects stay in force: make it again "
			    "and send weftd SIGHUP\n");
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(load_and_follow),
		cmocka_unit_test(rename_interrupted),
		cmocka_unit_test(patience_ends),
		cmocka_unit_test(config_map_that_shrinks),
		cmocka_unit_test(deleted_beside_a_config_map),
		cmocka_unit_test(writers_and_links),
		cmocka_unit_test(editors),
		cmocka_unit_test(exchanged),
		cmocka_unit_test(config_map),
		cmocka_unit_test(last_good),
		cmocka_unit_test(stand_in),
		cmocka_unit_test(broken_beside_last_good),
		cmocka_unit_test(one_name_twice),
		cmocka_unit_test(one_document_of_many),
		cmocka_unit_test(large_list),
		cmocka_unit_test(strange_files),
		cmocka_unit_test(too_many_problems),
		cmocka_unit_test(folder_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
