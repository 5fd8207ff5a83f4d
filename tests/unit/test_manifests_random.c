/* SPDX-License-Identifier: Apache-2.0 */
/* Random edits of a folder: what a source made of all of them is what a new one makes of the last. */
#include "folder.h"

/* Of all objects, in any order. */
static uint64_t sum(const struct store *s)
{
	uint64_t total = 0;

	for (struct object *o = store_each(s, KIND_NAMESPACE, NULL); o; o = store_each(s, KIND_NAMESPACE, o)) {
		struct text t = {0};

		text_add(&t, "%s %s:%u %s", o->name, o->file, o->line, pairs_get(&o->labels, "v"));
		total += table_hash(t.data, t.len);
		text_free(&t);
	}
	return total;
}

static void dump(const struct store *s, struct text *t)
{
	for (char c = 'a'; c < 'a' + 10; c++) {
		char name[2] = {c, 0};
		const struct object *o = store_get(s, KIND_NAMESPACE, "", name);

		if (o)
			text_add(t, "%s %s:%u %s\n", name, o->file, o->line, pairs_get(&o->labels, "v"));
	}
	text_add(t, "%u %016llx\n", store_count(s, KIND_NAMESPACE), (unsigned long long)sum(s));
}

static void dump_problems(const struct source *s, struct text *t)
{
	unsigned errors, warnings;
	const struct problem *p = source_problems(s, &errors, &warnings);

	for (; p; p = p->next)
		text_add(t, "%s:%u %s %s\n", p->file, p->line, p->object, p->reason);
	text_add(t, "%u\n", errors);
}

static void random_file(struct folder *f, unsigned *seed, const char *name)
{
	unsigned documents = (unsigned)rand_r(seed) % 6;
	struct text t = {0};

	text_add(&t, "#\n");
	for (unsigned i = 0; i < documents; i++)
		text_add(&t, "%s---\n%sapiVersion: v1\nkind: Namespace\nmetadata: {name: %c, labels: {v: v%d}}\n",
			 rand_r(seed) % 4 ? "" : "# x\n", rand_r(seed) % 4 ? "" : "\n", 'a' + rand_r(seed) % 10,
			 rand_r(seed) % 3);
	put(f, name, t.data);
	text_free(&t);
}

/*
 * Objects and problems are those of a source that reads the folder for the first time. False: it has problems, and
 * what is in force depends on what was good last: not compared.
 */
static bool as_fresh(struct folder *f, bool even_with_problems)
{
	bool compare;
	struct text got = {0}, wanted = {0};
	struct store *store = store_new();
	struct source *fresh = new_source(f->path, store, -1, NULL, NULL);

	assert_true(source_ready(f->source) >= 0);
	assert_true(source_load(fresh) >= 0);
	dump_problems(f->source, &got);
	dump_problems(fresh, &wanted);
	assert_int_equal(text_equal(got.data, "0\n"), text_equal(wanted.data, "0\n"));
	compare = even_with_problems || text_equal(wanted.data, "0\n");
	if (compare) {
		assert_string_equal(got.data, wanted.data);
		got.len = wanted.len = 0;
		dump(f->store, &got);
		dump(store, &wanted);
		assert_string_equal(got.data, wanted.data);
	}
	source_free(fresh);
	store_free(store);
	text_free(&got);
	text_free(&wanted);
	return compare;
}

/* SEED in the environment, or 1 */
static unsigned first_seed(void)
{
	const char *text = getenv("SEED");
	long long number = 1;

	if (text)
		assert_int_equal(text_number(text, 0, 1 << 30, &number), 0);
	return (unsigned)number;
}

static void random_edits(void **state)
{
	static const char *const names[] = {"a.yaml", "b.yaml", "c.yaml", "d.yaml"};
	unsigned seed = first_seed();
	struct folder f;

	begin(&f);
	assert_int_equal(source_load(f.source), 0);
	for (int step = 0; step < 300; step++) {
		for (int n = rand_r(&seed) % 3; n >= 0; n--) {
			const char *name = names[rand_r(&seed) % 4];

			if (rand_r(&seed) % 4)
				random_file(&f, &seed, name);
			else if (rand_r(&seed) % 2)
				(void)unlinkat(f.fd, name, 0);
			else
				(void)renameat(f.fd, name, f.fd, names[rand_r(&seed) % 4]);
		}
		assert_true(as_fresh(&f, true));
	}
	end(&f);
}

/* ------------------------------------------------------------------ a large List */

#define ITEMS 500

/* What is odd in one line: harmless or not, it must be seen as if the file were new. */
static const char *const oddities[] = {
	"# c\n",
	"\n",
	"  # c\n",
	"     # c\n",
	" \n",
	"---\n",
	"...\n",
	"- &a {}\n",
	"x: 1\n",
	" y: 1\n",
	"    z: 1\n",
	"-\n",
	"items:\n",
	"  - q\n",
};

static void random_list(unsigned *seed, unsigned *version, bool *odd, unsigned dash, struct text *to)
{
	unsigned changes = 1 + (unsigned)rand_r(seed) % 4;

	for (; changes; changes--) {
		unsigned i = (unsigned)rand_r(seed) % ITEMS;

		if (rand_r(seed) % 10)
			version[i] = (unsigned)rand_r(seed) % 3; /* 0: it is not there */
		else
			odd[i] = rand_r(seed) % 2; /* and another one each time */
	}
	text_add(to, "%sapiVersion: v1\nitems:\n", rand_r(seed) % 8 ? "" : "# head\n");
	for (unsigned i = 0; i < ITEMS; i++) {
		if (version[i])
			text_add(to,
				 "%*s- apiVersion: v1\n%*s  kind: Namespace\n%*s  metadata: {name: n%u, labels: {v: "
				 "v%u, w: x%059u}}\n",
				 dash, "", dash, "", dash, "", i, version[i], i);
		if (odd[i])
			text_add(to, "%s", oddities[(unsigned)rand_r(seed) % array_size(oddities)]);
	}
	text_add(to, rand_r(seed) % 5 ? "kind: List\n" : "kind: Lisp\n");
	if (!(rand_r(seed) % 3))
		text_add(to, "---\n" NS("behind"));
}

static void random_lists(void **state)
{
	static unsigned version[ITEMS];
	static bool odd[ITEMS];
	unsigned seed = first_seed(), compared = 0;
	struct folder f;

	begin(&f);
	assert_int_equal(source_load(f.source), 0);
	for (int step = 0; step < 60; step++) {
		struct text t = {0};

		for (unsigned i = 0; i < ITEMS && !(step % 10); i++) {
			version[i] = 1;
			odd[i] = false;
		}
		random_list(&seed, version, odd, step / 20 * 2, &t);
		assert_true(t.len > 64 << 10);
		put(&f, "list.yaml", t.data);
		text_free(&t);
		compared += as_fresh(&f, false);
	}
	print_message("    %u of 60 without a problem\n", compared);
	assert_in_range(compared, 10, 55);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_edits),
		cmocka_unit_test(random_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
