/* SPDX-License-Identifier: Apache-2.0 */
/* weftctl: command line, tables, units; and that help, completion files, man page and docs follow the one table. */
#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../tools/weftctl/ctl.h"
#include "../../tools/weftctl/grid.h"
#include "../../tools/weftctl/unit.h"

#define WORDS 24

static struct ctl ctl;
static struct args args;

/* "pod add x/y --netns z" */
static int parse(const char *line)
{
	static char copy[512];
	char *argv[WORDS] = {(char *)"weftctl"}, *rest = copy, *word;
	int argc = 1;

	assert_true(text_copy(copy, sizeof(copy), line));
	while ((word = strsep(&rest, " "))) {
		assert_true(argc < WORDS);
		argv[argc++] = word;
	}
	ctl = (struct ctl){.instance = "default", .out = stdout};
	return command_parse(&ctl, &args, argc, argv);
}

/* ------------------------------------------------------------------ command line */

static void good_lines(void **state)
{
	unsigned at = 0;

	assert_int_equal(parse("status"), 0);
	assert_string_equal(args.command->name, "status");
	assert_int_equal(parse("-o json --instance node-1 connections"), 0);
	assert_true(ctl.json);
	assert_string_equal(ctl.instance, "node-1");
	assert_string_equal(args.command->name, "connections");
	assert_int_equal(parse("connections -o json"), 0);
	assert_true(ctl.json);
	assert_int_equal(parse("connections --output=table shop/a"), 0);
	assert_false(ctl.json);
	assert_string_equal(args.word[0], "shop/a");
	assert_int_equal(parse("--watch pods"), 0);
	assert_int_equal(ctl.watch_ms, 2000);
	assert_int_equal(parse("pods --watch"), 0);
	assert_int_equal(parse("--watch 0.5 pods"), 0);
	assert_int_equal(ctl.watch_ms, 500);
	assert_int_equal(parse("--watch=3 pods"), 0);
	assert_int_equal(ctl.watch_ms, 3000);
	assert_int_equal(parse("status --wait 10s"), 0);
	assert_string_equal(command_given(&args, "--wait"), "10s");
	assert_int_equal(parse("pod add a/b --netns x --ip 1.2.3.4,::1 --label k=v --label l= --ip ::2"), 0);
	assert_string_equal(args.command->name, "pod add");
	assert_string_equal(args.word[0], "a/b");
	assert_string_equal(command_each(&args, "--label", &at), "k=v");
	assert_string_equal(command_each(&args, "--label", &at), "l=");
	assert_null(command_each(&args, "--label", &at));
	assert_string_equal(command_given(&args, "--ip"), "::2"); /* the last one */
	assert_null(command_given(&args, "--uid"));
	assert_int_equal(parse("explain a/b [fd00::1]:80 --check"), 0);
	assert_string_equal(command_given(&args, "--check"), "");
	assert_int_equal(parse("splice off"), 0);
	assert_int_equal(parse("help pod add"), 0);
	assert_int_equal(parse("--help"), 0);
	assert_null(args.command);
	assert_int_equal(parse("pod add --help"), 0); /* needs nothing then */
	assert_int_equal(parse("pods -- -odd/x"), 0);
	assert_string_equal(args.word[0], "-odd/x");
}

static void bad_lines(void **state)
{
	static const char *const table[] = {
		"nonsense",
		"pod",
		"pod nonsense",
		"splice",
		"splice maybe",
		"pods a/b c/d",
		"pods a",
		"pods /b",
		"services a/",
		"routes a/b/c",
		"tunnels a",
		"policy a",
		"explain a 10.0.0.1:80",
		"pod del a",
		"explain a/b",
		"explain a/b c d",
		"pod add",
		"pod add a/b",
		"pod add a/b --netns x",
		"pod add a/b --ip 1.2.3.4",
		"pod add a/b --netns",
		"-o",
		"-o yaml pods",
		"--output=xml pods",
		"--instance",
		"--instance UPPER pods",
		"--instance ../../etc pods",
		"--instance= pods",
		"--watch 0 pods",
		"--watch=x pods",
		"--watch 1 pod del a/b",
		"--nonsense pods",
		"pods --nonsense",
		"pods --netns x",
		"--help=yes",
		"status --wait",
		"explain --check=1 a/b c",
		"-x",
		"help a b c",
		"completion",
		"issue",
		"issue a/b",
		"issue --to x",
		"certs x",
		"version now",
		"pods a/b\xff",
		"services a/\x1b[2J",
		"explain a/b \xff",
		"explain a/b \xe2\x80\xae:1",
	};

	/* one line each on stderr, seen in the log of a failing run only */
	for (size_t i = 0; i < array_size(table); i++)
		if (parse(table[i]) != CTL_USAGE)
			fail_msg("\"%s\" was taken", table[i]);
	assert_int_equal(parse(""), CTL_USAGE);
}

static void instance_of_the_environment(void **state)
{
	char *pods[] = {(char *)"weftctl", (char *)"pods", NULL};
	char *named[] = {(char *)"weftctl", (char *)"--instance", (char *)"a", (char *)"pods", NULL};

	ctl = (struct ctl){.out = stdout, .instance = "n-1"};
	assert_int_equal(command_parse(&ctl, &args, 2, pods), 0);
	ctl = (struct ctl){.out = stdout, .instance = "../etc"};
	assert_int_equal(command_parse(&ctl, &args, 2, pods), CTL_USAGE);
	assert_int_equal(command_parse(&ctl, &args, 4, named), 0);
}

static void too_many_options(void **state)
{
	enum { COUNT = CTL_GIVEN + 10 };
	char **argv = mem_alloc((COUNT + 2) * sizeof(*argv));
	int argc = 0;

	argv[argc++] = (char *)"weftctl";
	argv[argc++] = (char *)"pods";
	while (argc < COUNT)
		argv[argc++] = (char *)"--watch=1";
	ctl = (struct ctl){.out = stdout};
	assert_int_equal(command_parse(&ctl, &args, argc, argv), CTL_USAGE);
	free(argv);
}

/* ------------------------------------------------------------------ what is printed */

/* Output of the command line; free it. */
static char *output(const char *line, int expected)
{
	char *data = NULL;
	size_t len;
	FILE *out = open_memstream(&data, &len);
	int code = parse(line);

	ctl.out = out;
	ctl.run = "/nonexistent";
	if (!code && command_given(&args, "--help"))
		code = command_help(&ctl, &args);
	else if (!code)
		code = args.command->run(&ctl, &args);
	fclose(out);
	if (code != expected)
		fail_msg("\"%s\" ends with %d", line, code);
	return data;
}

static char *file_text(const char *path)
{
	FILE *f = fopen(path, "re");
	struct text t = {0};
	char buf[4096];
	size_t n;

	if (!f)
		fail_msg("%s: %s: run the tests from the top of the tree", path, strerror(errno));
	while ((n = fread(buf, 1, sizeof(buf), f)))
		text_add_bytes(&t, buf, n);
	fclose(f);
	return t.data;
}

static void follows(const char *line, const char *path)
{
	char *printed = output(line, 0), *kept = file_text(path);

	if (strcmp(printed, kept))
		fail_msg("%s is not what `weftctl %s` prints: weftctl %s >%s", path, line, line, path);
	free(printed);
	free(kept);
}

static void generated_files(void **state)
{
	follows("completion bash", "tools/weftctl/completion/weftctl.bash");
	follows("completion zsh", "tools/weftctl/completion/_weftctl");
	follows("completion fish", "tools/weftctl/completion/weftctl.fish");
	follows("reasons --markdown", "docs/reasons.md");
}

static void must_hold(const char *where, const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("%s does not speak of %s", where, part);
}

/* Every command and option stands in the help and in the man page. */
static void nothing_forgotten(void **state)
{
	char *help = output("help", 0), *man = file_text("docs/man/weftctl.1"), *plain = mem_string(man),
	     *to = plain;

	for (const char *p = man; *p; p++) /* "\-" is "-" in roff, "\fB" and the like change the font */
		if (p[0] == '\\' && p[1] == 'f' && p[2])
			p += 2;
		else if (*p != '\\')
			*to++ = *p;
	*to = '\0';
	for (const struct command *k = commands; k->name; k++) {
		char *line = mem_format("help %s", k->name), *own;

		if (!k->hidden) {
			must_hold("help", help, k->name);
			must_hold("the man page", plain, k->name);
		}
		own = output(line, 0);
		must_hold(line, own, k->about);
		for (const struct option *o = k->options; o && o->name; o++) {
			must_hold(line, own, o->name);
			if (!k->hidden)
				must_hold("the man page", plain, o->name);
		}
		free(own);
		free(line);
	}
	for (const struct option *o = command_globals; o->name; o++) {
		must_hold("help", help, o->name);
		must_hold("the man page", plain, o->name);
	}
	free(output("pod add --help", 0));
	free(output("help nonsense", CTL_USAGE));
	free(help);
	free(man);
	free(plain);
}

static void reasons(void **state)
{
	char *json = output("-o json reasons", 0), *table = output("reasons", 0);
	json_t *all = json_loads(json, 0, NULL);

	assert_true(json_array_size(json_object_get(all, "reasons")) > 20);
	must_hold("reasons", table, "not_allowed");
	json_decref(all);
	free(json);
	free(table);
}

static void not_running(void **state)
{
	static const char *const table[] = {"status",
					    "pods",
					    "services",
					    "connections",
					    "tunnels",
					    "policy",
					    "traffic",
					    "explain a/b c.d:1",
					    "pod del a/b",
					    "splice on",
					    "splice off",
					    "names"};

	for (size_t i = 0; i < array_size(table); i++)
		free(output(table[i], CTL_FAILED));
	free(output("pod add ab --netns x --ip 1.2.3.4", CTL_USAGE));
	free(output("pod add a/b --netns x --ip 1.2.3", CTL_USAGE));
	free(output("pod add a/b --netns x --ip 1.2.3.4,", CTL_USAGE));
	free(output("pod add a/b --netns x --ip 0.0.0.0", CTL_USAGE));
	free(output("pod add a/b --netns x --ip 1.2.3.4 --label novalue", CTL_USAGE));
	free(output("pod add a/b --netns x --ip 1.2.3.4 --label =v", CTL_USAGE));
	free(output("pod add a/b --netns /nonexistent --ip 1.2.3.4", CTL_FAILED));
	free(output("pod add a/b --netns /etc/passwd --ip 1.2.3.4", CTL_FAILED));
	free(output("pod add a/b --netns /proc/self/ns/pid --ip 1.2.3.4",
		    CTL_FAILED)); /* a namespace, but not of the net */
	free(output("pod add a/b --netns /proc/self/ns/net --ip 1.2.3.4",
		    CTL_FAILED)); /* only weftd is missing */
	free(output("completion ksh", CTL_USAGE));
	free(output("status --wait 1x", CTL_USAGE));
	free(output("status --wait 60ms", CTL_FAILED));
}

/* ------------------------------------------------------------------ tables */

static char *print(unsigned width, bool utf8, void (*fill)(struct grid *g))
{
	static const struct grid_column column[] = {
		{"NAME", GRID_CUT}, {"N", GRID_RIGHT}, {"WHERE", GRID_CUT}, {"X", GRID_LEFT}};
	char *data = NULL;
	size_t len;
	struct ctl c = {.width = width, .utf8 = utf8, .out = open_memstream(&data, &len)};
	struct grid g;

	grid_open(&g, column, array_size(column));
	fill(&g);
	grid_print(&g, &c, "nothing");
	fclose(c.out);
	return data;
}

static void fill_none(struct grid *g)
{
}

static void fill_two(struct grid *g)
{
	grid_add(g, "a");
	grid_add(g, "%d", 7);
	grid_add(g, "somewhere");
	grid_add(g, "x");
	grid_add(g, "a-long-name-of-something");
	grid_add(g, "%d", 12345);
	grid_add(g, "b");
	grid_add(g, "yy");
}

static void fill_odd(struct grid *g)
{
	grid_add(g, "tab\there");
	grid_add(g, "1");
	grid_add(g, "\033[2Jgone\xff\xc2\x9b");
	grid_add(g, "\xc3\xa4");
}

static void fill_wide(struct grid *g)
{
	grid_add(g, "\u4e16\u754c\u4e16\u754c\u4e16\u754c"); /* two columns each */
	grid_add(g, "1");
	grid_add(g, "e\u0301"); /* an accent of its own has none */
	grid_add(g, "x");
	grid_add(g, "\u202egnp\u202c");
	grid_add(g, "2");
	grid_add(g, "a\u200bb");
	grid_add(g, "x");
}

static void expect_table(unsigned width, bool utf8, void (*fill)(struct grid *g), const char *expected)
{
	char *got = print(width, utf8, fill);

	assert_string_equal(got, expected);
	free(got);
}

static void tables(void **state)
{
	expect_table(0, true, fill_none, "nothing\n");
	expect_table(0, true, fill_two,
		     "NAME                          N  WHERE      X\n"
		     "a                             7  somewhere  x\n"
		     "a-long-name-of-something  12345  b          yy\n");
	expect_table(36, true, fill_two,
		     "NAME                N  WHERE      X\n"
		     "a                   7  somewhere  x\n"
		     "a-long-name-o\u2026  12345  b          yy\n");
	/* no less than can be read */
	expect_table(10, false, fill_two,
		     "NAME          N  WHERE     X\n"
		     "a             7  somewhe~  x\n"
		     "a-long-~  12345  b         yy\n");
	expect_table(0, true, fill_odd,
		     "NAME      N  WHERE        X\n"
		     "tab?here  1  ?[2Jgone???  \xc3\xa4\n");
}

static void odd_widths(void **state)
{
	assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
	expect_table(0, true, fill_wide,
		     "NAME          N  WHERE  X\n"
		     "\u4e16\u754c\u4e16\u754c\u4e16\u754c  1  e\u0301      x\n"
		     "???gnp???     2  a???b  x\n");
	expect_table(23, true, fill_wide,
		     "NAME        N  WHERE  X\n"
		     "\u4e16\u754c\u4e16\u754c\u2026   1  e\u0301      x\n"
		     "???gnp???   2  a???b  x\n");
	setlocale(LC_CTYPE, "C");
}

static void expect_screen(unsigned width, unsigned height, const char *text, const char *expected)
{
	char *data = NULL;
	size_t len;
	struct ctl c = {.width = width, .height = height, .out = open_memstream(&data, &len)};

	screen_print(&c, text, strlen(text));
	fclose(c.out);
	assert_string_equal(data, expected);
	free(data);
}

static void screens(void **state)
{
	expect_screen(80, 0, "a\nb\nc\nd\n", "a\nb\nc\nd\n");
	expect_screen(80, 5, "a\nb\nc\nd\n", "a\nb\nc\nd\n");
	expect_screen(80, 4, "a\nb\nc\nd\n", "a\nb\n2 more lines: make the terminal higher\n");
	expect_screen(80, 2, "a\nb\nc\n", "3 more lines: make the terminal higher\n");
	expect_screen(80, 1, "a\nb\nc\n", "3 more lines: make the terminal higher");
	expect_screen(80, 1, "a\n", "a");
	expect_screen(80, 1, "", "");
	expect_screen(4, 4, "\033[1mabcd\033[0m\nb\nc\n", "\033[1mabcd\033[0m\nb\nc\n");
	expect_screen(4, 4, "abcd\nefghi\nc\n", "abcd\n2 more lines: make the terminal higher\n");
	expect_screen(4, 4, "a\nb\nefghijklmnop\n", "a\nb\n1 more line: make the terminal higher\n");
	expect_screen(80, 24, "", "");
}

/* Whatever the width: no line is wider, unless all is at its least; and the columns stand one below the other. */
static void widths(void **state)
{
	for (unsigned width = 30; width < 60; width++) {
		char *got = print(width, false, fill_two), *rest = got, *line;

		while ((line = strsep(&rest, "\n")))
			assert_true(strlen(line) <= (width < 32 ? 32 : width));
		free(got);
	}
}

/* ------------------------------------------------------------------ units */

static void units(void **state)
{
	static const struct {
		uint64_t n;
		const char *bytes, *time, *count;
	} table[] = {
		{0, "0 B", "0 ns", "0"},
		{999, "999 B", "999 ns", "999"},
		{1000, "1000 B", "1.0 us", "1 000"},
		{1023, "1023 B", "1.0 us", "1 023"},
		{1024, "1.0 KiB", "1.0 us", "1 024"},
		{10188, "9.9 KiB", "10 us", "10 188"},
		{10200, "10 KiB", "10 us", "10 200"},
		{1048575, "1.0 MiB", "1.0 ms", "1 048 575"},
		{59400000000, "55 GiB", "59 s", "59 400 000 000"},
		{60000000000, "56 GiB", "1.0 min", "60 000 000 000"},
		{3599900000000, "3.3 TiB", "1.0 h", "3 599 900 000 000"},
		{172800000000000, "157 TiB", "2.0 d", "172 800 000 000 000"},
	};
	char buf[UNIT_TEXT];

	for (size_t i = 0; i < array_size(table); i++) {
		assert_string_equal(unit_bytes(table[i].n, buf), table[i].bytes);
		assert_string_equal(unit_time(table[i].n, buf), table[i].time);
		assert_string_equal(unit_count(table[i].n, buf), table[i].count);
	}
	assert_string_equal(unit_count(UINT64_MAX, buf), "18 446 744 073 709 551 615");
	assert_string_equal(unit_bytes(UINT64_MAX, buf), "16777216 TiB");
}

static void durations(void **state)
{
	static const struct {
		const char *s;
		unsigned ms;
	} good[] = {
		{"10", 10000},
		{"10s", 10000},
		{"500ms", 500},
		{"2m", 120000},
		{"2min", 120000},
		{"1h", 3600000},
		{"1.5s", 1500},
		{"0", 0},
		{"0.25", 250},
	};
	static const char *const bad[] = {"", "s", "-1", "+1", "1 s", "1x",
					  "1e9", "0x10", "inf", "nan", "1d", "99999999999999999999",
					  "25h", " 1", "1..2"};
	unsigned ms;

	for (size_t i = 0; i < array_size(good); i++) {
		assert_int_equal(unit_duration(good[i].s, &ms), 0);
		assert_int_equal(ms, good[i].ms);
	}
	for (size_t i = 0; i < array_size(bad); i++)
		if (!unit_duration(bad[i], &ms))
			fail_msg("\"%s\" was taken", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_lines),
		cmocka_unit_test(bad_lines),
		cmocka_unit_test(instance_of_the_environment),
		cmocka_unit_test(too_many_options),
		cmocka_unit_test(generated_files),
		cmocka_unit_test(reasons),
		cmocka_unit_test(not_running),
		cmocka_unit_test(nothing_forgotten),
		cmocka_unit_test(tables),
		cmocka_unit_test(odd_widths),
		cmocka_unit_test(screens),
		cmocka_unit_test(widths),
		cmocka_unit_test(units),
		cmocka_unit_test(durations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
