/* SPDX-License-Identifier: Apache-2.0 */
/* options.c: the command line and the file of weftd. See supervisor.h. */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor.h"
#include "version.h"

#define DEFAULT_TRUST_DOMAIN "cluster.local"
#define THREADS_MAX 64 /* as THREAD_MAX of thread.h, which is the worker's */
#define DEFAULT_ROOT_NAMESPACE "istio-system"

enum value { VALUE_INSTANCE,
	     VALUE_NAMESPACE,
	     VALUE_TRUST_DOMAIN,
	     VALUE_NODE,
	     VALUE_FOLDER,
	     VALUE_FILE,
	     VALUE_THREADS,
	     VALUE_FORMAT,
	     VALUE_LEVEL,
	     VALUE_MODE };

/* One table drives the command line, the file, and the help. */
static const struct row {
	const char *name;
	enum value value;
	size_t at, size; /* of the text in struct options */
	int mode;
	const char *argument, *help;
} rows[] = {
#define TEXT(member) offsetof(struct options, member), sizeof(((struct options *)0)->member), 0
	{"instance", VALUE_INSTANCE, TEXT(instance), "NAME", "several can run on one kernel (default: default)"},
	{"node", VALUE_NODE, TEXT(node), "NAME", "name of this node (default: the hostname)"},
	{"manifests", VALUE_FOLDER, TEXT(manifests), "DIR",
	 "folder of Kubernetes objects, *.yaml *.yml *.json, watched (default: none is read)"},
	{"trust-domain", VALUE_TRUST_DOMAIN, TEXT(trust_domain), "TD",
	 "trust domain of identities (default: " DEFAULT_TRUST_DOMAIN ")"},
	{"root-namespace", VALUE_NAMESPACE, TEXT(root_namespace), "NS",
	 "namespace of mesh-wide policies (default: " DEFAULT_ROOT_NAMESPACE ")"},
	{"cgroup", VALUE_FOLDER, TEXT(cgroup), "DIR",
	 "cgroup v2 folder whose processes weft sees (default: the root, from /proc/mounts)"},
	{"ca-dir", VALUE_FOLDER, TEXT(ca_dir), "DIR",
	 "embedded CA: root-cert.pem, ca-cert.pem, ca-key.pem, cert-chain.pem; made if none is there\n"
	 "(default: /var/lib/weft/INSTANCE/ca)"},
	{"certs-dir", VALUE_FOLDER, TEXT(certs_dir), "DIR",
	 "no CA: NAMESPACE.SERVICEACCOUNT.pem and .key of each identity, roots.pem, crl.pem; watched"},
	{"threads", VALUE_THREADS, 0, 0, 0, "N",
	 "threads of the data plane, 1 to 64 (default: one for each core that weftd may use)"},
	{"log-format", VALUE_FORMAT, 0, 0, 0, "text|json", "lines on stderr (default: text)"},
	{"log-level", VALUE_LEVEL, 0, 0, 0, "LEVEL", "error, warning, info or debug (default: info)"},
	{"config", VALUE_FILE, 0, 0, 0, "FILE", "lines `option = value` with the names above; the command line wins"},
	{"probe", VALUE_MODE, 0, 0, OPTIONS_PROBE, NULL,
	 "load every BPF program, print what this kernel can do, leave nothing; exit 1 if weft cannot run"},
	{"uninstall", VALUE_MODE, 0, 0, OPTIONS_UNINSTALL, NULL,
	 "remove every trace of a stopped instance: links, maps, pins, run and state folder"},
	{"help", VALUE_MODE, 0, 0, OPTIONS_DONE, NULL, "this text"},
	{"version", VALUE_MODE, 0, 0, OPTIONS_DONE, NULL, "version"},
#undef TEXT
};

static void help(void)
{
	(void)printf("usage: weftd [OPTION]...\n"
		     "\n"
		     "The supervisor of weft: loads the BPF programs, enrols pods, runs the worker. Stays in\n"
		     "the foreground and logs to stderr. SIGTERM ends it in order; what is in the kernel stays\n"
		     "and goes on deciding until weftd starts again or --uninstall removes it. SIGHUP reads the\n"
		     "manifests again.\n"
		     "\n");
	for (unsigned i = 0; i < array_size(rows); i++) {
		char left[40];

		(void)snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].argument ? " " : "",
			       rows[i].argument ? rows[i].argument : "");
		(void)printf("  %-24s ", left);
		for (const char *at = rows[i].help; *at; at++)
			(void)printf(*at == '\n' ? "\n%27s" : "%.1s", *at == '\n' ? "" : at);
		(void)printf("\n");
	}
	(void)printf("\nExit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong usage.\n");
}

static int refuse(const char *where, const char *fmt, ...) printf_like(2, 3);

static int refuse(const char *where, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	(void)fprintf(stderr, "weftd: %s%s (see weftd --help)\n", where, text);
	return 2;
}

/* It becomes a folder in bpffs, where a dot is not allowed, and part of socket paths of 108 bytes. */
static bool valid_instance(const char *s)
{
	size_t len = strlen(s);

	return len && len <= 63 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len && s[0] != '-';
}

/* The SPIFFE-ID standard, section 2.1: a host without a port. */
static bool valid_trust_domain(const char *s)
{
	size_t len = strlen(s);

	return len && len <= 253 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-._") == len && s[0] != '.';
}

static bool in_files(const struct row *row)
{
	return row->value != VALUE_MODE && row->value != VALUE_FILE;
}

/* `given`: as it was written, with its dashes or, in a file, without: there it may be one of the command line alone. */
static int unknown(const char *where, const char *what, const char *given)
{
	int dashes = (int)strspn(given, "-");
	struct text_guess guess = {.word = given + dashes};

	for (unsigned i = 0; i < array_size(rows); i++)
		if (!*where || in_files(&rows[i]))
			text_guess(&guess, rows[i].name);
	if (!guess.meant)
		return refuse(where, "%s%.60s", what, given);
	return refuse(where, "%s%.60s: did you mean %.*s%s?", what, given, *where ? 0 : dashes, given, guess.meant);
}

/* What may be the name of a Node, which is a DNS name, or a hostname. */
static bool valid_node(const char *s)
{
	size_t len = strlen(s);

	return len && len <= 253 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == len;
}

/* A namespace that no object can have would make the policies of the whole mesh those of nobody. */
static bool valid_namespace(const char *s)
{
	size_t len = strlen(s);

	return len && len <= 63 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len && s[0] != '-' &&
	       s[len - 1] != '-';
}

/* The worker's messages show it, and weftd may be started from anywhere. It need not be there yet. */
static int set_folder(char *to, size_t size, const struct row *row, const char *where, const char *value)
{
	char folder[WIRE_PATH], *full = realpath(value, NULL);
	bool fits;

	if (!full && !getcwd(folder, sizeof(folder)))
		return refuse(where, "%s %.200s: %s", row->name, value, strerror(errno));
	fits = full ? text_copy(to, size, full) : (size_t)snprintf(to, size, "%s/%s", folder, value) < size;
	free(full);
	return fits ? 0 : refuse(where, "%s %.200s: the path is too long", row->name, value);
}

static int set_level(struct options *o, const char *where, const char *value)
{
	static const char *const name[] = {
		[LOG_ERROR] = "error",
		[LOG_WARNING] = "warning",
		[LOG_INFO] = "info",
		[LOG_DEBUG] = "debug",
	};

	for (unsigned i = 0; i < array_size(name); i++) {
		if (!text_equal(value, name[i]))
			continue;
		o->log_level = (enum log_level)i;
		return 0;
	}
	return refuse(where, "log-level is error, warning, info or debug, not \"%.40s\"", value);
}

static int set(struct options *o, const struct row *row, const char *where, const char *value)
{
	char *to = (char *)o + row->at;
	long long n;

	switch (row->value) {
	case VALUE_INSTANCE:
		if (!valid_instance(value))
			return refuse(where, "instance \"%.80s\" is not 1 to 63 of a-z, 0-9 and -", value);
		break;
	case VALUE_TRUST_DOMAIN:
		if (!valid_trust_domain(value))
			return refuse(where, "trust-domain \"%.80s\" is not 1 to 253 of a-z, 0-9, - . and _", value);
		break;
	case VALUE_NAMESPACE:
		if (!valid_namespace(value))
			return refuse(where, "%s \"%.80s\" is not 1 to 63 of a-z, 0-9 and -", row->name, value);
		break;
	case VALUE_FOLDER:
		if (value[0] && value[0] != '/')
			return set_folder(to, row->size, row, where, value);
		break;
	case VALUE_NODE:
		if (!valid_node(value))
			return refuse(where, "node \"%.80s\" is not 1 to 253 of letters, digits, - . and _", value);
		break;
	case VALUE_THREADS:
		if (text_number(value, 1, THREADS_MAX, &n))
			return refuse(where, "threads is 1 to %d, not \"%.40s\"", THREADS_MAX, value);
		o->threads = (unsigned)n;
		return 0;
	case VALUE_FORMAT:
		if (!text_equal(value, "text") && !text_equal(value, "json"))
			return refuse(where, "log-format is text or json, not \"%.40s\"", value);
		o->log_json = text_equal(value, "json");
		return 0;
	case VALUE_LEVEL:
		return set_level(o, where, value);
	default:
		break;
	}
	if (!value[0])
		return refuse(where, "%s is empty", row->name);
	if (!text_copy(to, row->size, value))
		return refuse(where, "%s is longer than %zu bytes", row->name, row->size - 1);
	return 0;
}

static char *trim(char *s)
{
	size_t len;

	s += strspn(s, " \t\r\n");
	len = strlen(s);
	while (len && strchr(" \t\r\n", s[len - 1]))
		s[--len] = '\0';
	return s;
}

static int read_line(struct options *o, const char *where, char *line)
{
	char *key = trim(line), *value = strchr(key, '=');

	if (!key[0] || key[0] == '#')
		return 0;
	if (!value)
		return refuse(where, "\"%.60s\" is not `option = value`", key);
	*value++ = '\0';
	key = trim(key);
	value = trim(value);
	for (unsigned i = 0; i < array_size(rows); i++)
		if (text_equal(rows[i].name, key) && in_files(&rows[i]))
			return set(o, &rows[i], where, value);
	return unknown(where, "in a file there is no option ", key);
}

static int read_file(struct options *o, const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = NULL, where[WIRE_PATH];
	size_t room = 0;
	unsigned n = 0;
	int code = 0;

	if (!file)
		return refuse("", "config %.200s cannot be read: %s", path, strerror(errno));
	while (!code && getline(&line, &room, file) >= 0) {
		(void)snprintf(where, sizeof(where), "%.400s:%u: ", path, ++n);
		code = read_line(o, where, line);
	}
	if (!code && ferror(file))
		code = refuse("", "config %.200s cannot be read: %s", path, strerror(errno));
	free(line);
	(void)fclose(file);
	return code;
}

static unsigned cores(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

	return (unsigned)(count < 1 ? 1 : count > THREADS_MAX ? THREADS_MAX
							      : count);
}

static void defaults(struct options *o)
{
	*o = (struct options){.mode = OPTIONS_RUN, .threads = cores(), .log_level = LOG_INFO};
	text_copy(o->instance, sizeof(o->instance), "default");
	text_copy(o->trust_domain, sizeof(o->trust_domain), DEFAULT_TRUST_DOMAIN);
	text_copy(o->root_namespace, sizeof(o->root_namespace), DEFAULT_ROOT_NAMESPACE);
	if (gethostname(o->node, sizeof(o->node) - 1))
		text_copy(o->node, sizeof(o->node), "localhost");
}

static int set_mode(struct options *o, enum options_mode mode)
{
	if (mode != OPTIONS_DONE && o->mode != OPTIONS_RUN && o->mode != mode)
		return refuse("", "--probe and --uninstall: give one of them");
	o->mode = mode;
	return 0;
}

static int walk(struct options *o, int argc, char **argv, bool files)
{
	struct option all[array_size(rows) + 1] = {0};
	int at, code = 0;

	for (unsigned i = 0; i < array_size(rows); i++) {
		all[i].name = rows[i].name;
		all[i].has_arg = rows[i].argument ? required_argument : no_argument;
		all[i].val = (int)i;
	}
	optind = 0;
	opterr = 0;
	while (!code && (at = getopt_long(argc, argv, "+:", all, NULL)) >= 0) {
		const struct row *row = &rows[at < (int)array_size(rows) ? at : 0];

		if (at == ':')
			return refuse("", "%s needs a value", argv[optind - 1]);
		if (at >= (int)array_size(rows))
			return unknown("", "unknown option ", argv[optind - 1]);
		if (row->value == VALUE_FILE)
			code = files ? read_file(o, optarg) : 0;
		else if (row->value == VALUE_MODE && !files)
			code = set_mode(o, (enum options_mode)row->mode);
		else if (row->value != VALUE_MODE && !files)
			code = set(o, row, "", optarg);
		if (row->value == VALUE_MODE && !files && o->mode == OPTIONS_DONE) {
			if (text_equal(row->name, "help"))
				help();
			else
				(void)printf("weftd %s\n", WEFT_VERSION);
			return 0;
		}
	}
	if (!code && optind < argc)
		return refuse("", "unexpected argument \"%.80s\"", argv[optind]);
	return code;
}

int options_parse(struct options *o, int argc, char **argv)
{
	int code;

	defaults(o);
	code = walk(o, argc, argv, true); /* files first: the command line wins wherever --config stands */
	if (!code)
		code = walk(o, argc, argv, false);
	if (!code && o->ca_dir[0] && o->certs_dir[0])
		return refuse("", "--ca-dir and --certs-dir: certificates come from one of them; give only that");
	return code;
}
