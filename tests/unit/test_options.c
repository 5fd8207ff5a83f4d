/* SPDX-License-Identifier: Apache-2.0 */
/* The command line and the file of weftd. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "supervisor.h"

static struct options o;

static char said[512]; /* on stderr */

/* Words up to NULL. */
static int parse(const char *word, ...)
{
	char *argv[16] = {(char *)"weftd", (char *)word};
	int argc = word ? 2 : 1, code, saved, err;
	va_list more;

	va_start(more, word);
	while (word && (argv[argc] = va_arg(more, char *)))
		argc++;
	va_end(more);
	saved = dup(2);
	err = memfd_create("stderr", MFD_CLOEXEC);
	dup2(err, 2);
	code = options_parse(&o, argc, argv);
	dup2(saved, 2);
	close(saved);
	memset(said, 0, sizeof(said));
	assert_true(pread(err, said, sizeof(said) - 1, 0) >= 0);
	close(err);
	return code;
}

static void defaults(void **state)
{
	char host[256] = "";

	assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
	assert_int_equal(parse(NULL), 0);
	assert_int_equal(o.mode, OPTIONS_RUN);
	assert_string_equal(o.instance, "default");
	assert_string_equal(o.node, host);
	assert_string_equal(o.trust_domain, "cluster.local");
	assert_string_equal(o.root_namespace, "istio-system");
	assert_string_equal(o.manifests, "");
	assert_string_equal(o.cgroup, "");
	assert_int_equal(o.log_level, LOG_INFO);
	assert_true(o.threads >= 1 && o.threads <= 64);
	assert_false(o.log_json);
}

static void words(void **state)
{
	assert_int_equal(parse("--instance", "n1", "--node=worker-1", "--log-format", "json", "--log-level=debug",
			       "--threads", "4", NULL),
			 0);
	assert_string_equal(o.instance, "n1");
	assert_string_equal(o.node, "worker-1");
	assert_true(o.log_json);
	assert_int_equal(o.log_level, LOG_DEBUG);
	assert_int_equal(o.threads, 4);
	assert_int_equal(parse("--uninstall", "--instance", "n2", NULL), 0);
	assert_int_equal(o.mode, OPTIONS_UNINSTALL);
	assert_string_equal(o.instance, "n2");
	assert_int_equal(parse("--probe", NULL), 0);
	assert_int_equal(o.mode, OPTIONS_PROBE);
}

static void names_of_instances(void **state)
{
	static const char *const bad[] = {"", "A", "a.b", "a/b", "..", "a b", "-a", "a\n", "\xc3\xa4"};
	char name[80];

	for (unsigned i = 0; i < array_size(bad); i++)
		assert_int_equal(parse("--instance", bad[i], NULL), 2);
	memset(name, 'a', sizeof(name));
	name[63] = '\0';
	assert_int_equal(parse("--instance", name, NULL), 0);
	name[63] = 'a';
	name[64] = '\0';
	assert_int_equal(parse("--instance", name, NULL), 2);
}

static void wrong(void **state)
{
	assert_int_equal(parse("--no-such", NULL), 2);
	assert_int_equal(parse("word", NULL), 2);
	assert_int_equal(parse("--node", NULL), 2);
	assert_int_equal(parse("--node", "", NULL), 2);
	assert_int_equal(parse("--node", "a b", NULL), 2);
	assert_int_equal(parse("--node", "a\n", NULL), 2);
	assert_int_equal(parse("--node", "a/b", NULL), 2);
	assert_int_equal(parse("--node", "Worker_1.example", NULL), 0);
	assert_int_equal(parse("--trust-domain", "Cluster.local", NULL), 2);
	assert_int_equal(parse("--trust-domain", "a/b", NULL), 2);
	assert_int_equal(parse("--trust-domain", ".a", NULL), 2);
	assert_int_equal(parse("--trust-domain", "", NULL), 2);
	assert_int_equal(parse("--root-namespace", "Istio-System", NULL), 2);
	assert_int_equal(parse("--root-namespace", "istio system", NULL), 2);
	assert_int_equal(parse("--root-namespace", "-a", NULL), 2);
	assert_int_equal(parse("--root-namespace", "a-", NULL), 2);
	assert_int_equal(parse("--root-namespace", "", NULL), 2);
	assert_int_equal(parse("--root-namespace", "mesh-7", NULL), 0);
	assert_int_equal(parse("--ca-dir", "/a", "--certs-dir", "/b", NULL), 2);
	assert_int_equal(parse("--threads", "0", NULL), 2);
	assert_int_equal(parse("--threads", "65", NULL), 2);
	assert_int_equal(parse("--threads", "4x", NULL), 2);
	assert_int_equal(parse("--log-level", "loud", NULL), 2);
	assert_int_equal(parse("--log-format", "xml", NULL), 2);
	assert_int_equal(parse("--manifests", "", NULL), 2);
	assert_int_equal(parse("--config", "/nonexistent", NULL), 2);
	assert_int_equal(parse("--uninstall=1", NULL), 2);
	assert_int_equal(parse("--probe", "--uninstall", NULL), 2);
	assert_int_equal(parse("--uninstall", "--probe", NULL), 2);
	assert_int_equal(parse("--uninstall", "--uninstall", NULL), 0);
}

/* A folder that is not there is no mistake of the command line: some are made. */
static void relative(void **state)
{
	char here[WIRE_PATH], want[2 * WIRE_PATH];

	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(parse("--ca-dir", "no/such/folder", "--manifests", ".", NULL), 0);
	(void)snprintf(want, sizeof(want), "%s/no/such/folder", here);
	assert_string_equal(o.ca_dir, want);
	assert_string_equal(o.manifests, here);
}

static void too_long(void **state)
{
	char path[WIRE_PATH + 8];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[WIRE_PATH] = '\0';
	assert_int_equal(parse("--manifests", path, NULL), 2);
	path[WIRE_PATH - 1] = '\0';
	assert_int_equal(parse("--manifests", path, NULL), 0);
}

static int from_file(const char *content)
{
	int fd = memfd_create("config", MFD_CLOEXEC), code;
	char path[32];

	assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	code = parse("--node", "line", "--config", path, NULL);
	close(fd);
	return code;
}

static void file(void **state)
{
	assert_int_equal(from_file("# a comment\n\n  instance =  n7 \nnode=file\nlog-format = json\r\nthreads=2"), 0);
	assert_string_equal(o.instance, "n7");
	assert_string_equal(o.node, "line"); /* the command line wins, though the file came later */
	assert_true(o.log_json);
	assert_int_equal(o.threads, 2);
	assert_int_equal(from_file(""), 0);
	assert_int_equal(from_file("node\n"), 2);
	assert_int_equal(from_file("nodes = x\n"), 2);
	assert_int_equal(from_file("node =\n"), 2);
	assert_int_equal(from_file("= x\n"), 2);
	assert_int_equal(from_file("uninstall = yes\n"), 2);
	assert_int_equal(from_file("config = /tmp/x\n"), 2);
	assert_null(strstr(said, "did you mean")); /* what was written and cannot stand here */
	assert_int_equal(from_file("--node = x\n"), 2);
	assert_non_null(strstr(said, "did you mean node?"));
	assert_int_equal(parse("--nodee", "x", NULL), 2);
	assert_non_null(strstr(said, "did you mean --node?"));
	assert_int_equal(from_file("instance = ../../etc\n"), 2);
	assert_int_equal(from_file("root-namespace = \"mesh\"\n"), 2); /* quotes are no part of a value */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(words),
		cmocka_unit_test(names_of_instances),
		cmocka_unit_test(wrong),
		cmocka_unit_test(relative),
		cmocka_unit_test(too_long),
		cmocka_unit_test(file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
