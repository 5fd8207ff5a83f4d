// SPDX-License-Identifier: Apache-2.0
/*
 * command.c: the one table of commands and options. Parsing, help and completion all read it, so they cannot
 * drift; docs/man/weftctl.1 is compared with it by a unit test.
 */
#include "ctl.h"
#include "grid.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "version.h"

const struct option command_globals[] = {
	{"--instance", "NAME", "the weftd to talk to (default: \"default\", or $WEFT_INSTANCE)"},
	{"--output", "FORMAT", "table or json; -o is short for it", .hint = HINT_FORMAT},
	{"--watch", "SECONDS", "show it again every 2 s, or every SECONDS, until interrupted"},
	{"--help", NULL, "what a command does; -h is short for it", .hint = HINT_FLAG},
	{"--version", NULL, "version of weftctl", .hint = HINT_FLAG},
	{NULL},
};

static const struct option status_options[] = {
	{"--wait", "DURATION", "wait up to so long (10s, 500ms, 2m) until weftd is ready"},
	{NULL},
};

static const struct option add_options[] = {
	{"--netns", "PATH", "network namespace: a path, /proc/PID/ns/net, or a name of `ip netns`",
	 .hint = HINT_NETNS, .needed = true},
	{"--ip", "ADDR[,ADDR]", "addresses of the pod, IPv4 and IPv6", .needed = true, .repeats = true},
	{"--service-account", "NAME", "service account, which is its identity (default: default)"},
	{"--label", "KEY=VALUE", "label; may be given again", .repeats = true},
	{"--annotation", "KEY=VALUE", "annotation, such as weft.io/splice=off; may be given again",
	 .repeats = true},
	{"--uid", "UID", "metadata.uid of the pod, for a CNI plugin"},
	{NULL},
};

static const struct option issue_options[] = {
	{"--to", "DIR", "folder for NAMESPACE.NAME.pem, NAMESPACE.NAME.key (mode 600) and roots.pem",
	 .hint = HINT_FOLDER, .needed = true},
	{NULL},
};

static const struct option explain_options[] = {
	{"--check", NULL, "exit 1 if the connection would be refused", .hint = HINT_FLAG},
	{NULL},
};

static const struct option reasons_options[] = {
	{"--markdown", NULL, "as docs/reasons.md", .hint = HINT_FLAG},
	{NULL},
};

static const struct option names_options[] = {
	{"--of", "KIND", "pods, services or commands"},
	{NULL},
};

const struct command commands[] = {
	{"status", "", "is weftd ready, what can this kernel do, what is wrong with the objects",
	 "Exit code 0 when weftd is ready, 1 when it is not: it does not run, the first world is not yet in "
	 "the\n"
	 "kernel, or an object was rejected. Rejected objects are named with file, line, field and reason; "
	 "their\n"
	 "last good version stays in force.",
	 .watches = true, .options = status_options, .run = status_run},
	{"pods", "[NAMESPACE/NAME]", "enrolled pods: addresses, identity, policy, splice", NULL, .most = 1,
	 .hint = HINT_POD, .watches = true, .run = list_pods},
	{"services", "[NAMESPACE/NAME]", "services in the kernel and their endpoints",
	 "With a name: every endpoint of that service with its weight and share.", .most = 1,
	 .hint = HINT_SERVICE, .watches = true, .run = list_services},
	{"routes", "[NAMESPACE/NAME]", "routes of services, and what became of each",
	 "One line for each parentRef of a route. PROTOCOL is what the port speaks, by its appProtocol or its\n"
	 "name. ACCEPTED and RESOLVED are the conditions of the Gateway API: yes, or the reason why the route is\n"
	 "not in force, or sends some of its requests nowhere; MESSAGE names the field.",
	 .most = 1, .watches = true, .run = routes_list},
	{"gateways", "[NAMESPACE/NAME]", "listeners of Gateways on this node, and what became of each",
	 "One line for each listener. ACCEPTED, RESOLVED and PROGRAMMED are the conditions of the Gateway API: yes,\n"
	 "or the reason why it is not in force, has not all of its certificates, or is not listened on; MESSAGE\n"
	 "names the field. ROUTES: how many are attached. A Gateway of another class is not weft's.",
	 .most = 1, .watches = true, .run = gateways_list},
	{"connections", "[NAMESPACE/POD]", "live connections: path, reason, bytes each way, age",
	 "PATH is how the bytes travel now: splice (the kernel hands them from socket to socket), tcp (same "
	 "node,\n"
	 "by TCP), proxy (same node, through the worker), tunnel (to or from another node, through the workers "
	 "of\n"
	 "both and mutual TLS), direct (to or from outside this node). REASON says why; `weftctl reasons` "
	 "explains\n"
	 "each. IDENTITY is who was proved to be at the other end of a tunnel.",
	 .most = 1, .hint = HINT_POD, .watches = true, .run = list_connections},
	{"tunnels", "[NAMESPACE/POD]", "mutual TLS to other nodes: peers, identities, cipher, streams, bytes",
	 "One line for each HTTP/2 connection on port 15008. DIR: out (our pod dialled) or in. STREAMS are "
	 "the\n"
	 "connections of pods on it. WAITS says what it waits for, if for anything: the window of the peer, "
	 "the\n"
	 "socket, a reader. With -o json also windows, round trip, cipher and key exchange.",
	 .most = 1, .hint = HINT_POD, .watches = true, .run = list_tunnels},
	{"certs", "", "certificates of this node's identities, the roots, and what is wrong with them",
	 "One line for each identity that pods of this node have: until when its certificate is good, when it is\n"
	 "renewed, how many pods have it. Then the roots that are trusted, and the CRL.",
	 .watches = true, .run = certs_list},
	{"issue", "NAMESPACE/NAME", "a certificate of the embedded CA for a peer that is no pod of weft",
	 "For an Envoy or a test beside weft: key and chain of that service account, good for 24 hours, and the\n"
	 "roots to trust, as files that weftd --certs-dir reads too. Run it again before they end; files are\n"
	 "replaced at once. Without --certs-dir only, and for root only.",
	 .least = 1, .most = 1, .options = issue_options, .run = certs_issue},
	{"policy", "[NAMESPACE/POD]", "which policies are in force for each pod", NULL, .most = 1,
	 .hint = HINT_POD, .watches = true, .run = list_policy},
	{"explain", "NAMESPACE/POD DEST[:PORT]", "would this connection be allowed, and which object says so",
	 "DEST is an address (10.0.0.1:80, [fd00::1]:80), a pod (NAMESPACE/POD:80) or a service "
	 "(NAME.NAMESPACE:80\n"
	 "or NAMESPACE/NAME:80). Without a port, one is taken from the service or the pod if it has just "
	 "one. The\n"
	 "decisions are listed in their order, each with the object that made it; the last line is what the "
	 "kernel\n"
	 "does. Exit code 0 whatever the verdict, unless --check is given.",
	 .least = 2, .most = 2, .hint = HINT_POD, .watches = true, .options = explain_options,
	 .run = explain_run},
	{"traffic", "", "connections, bytes, latency and refusals per source and destination", NULL,
	 .watches = true, .run = list_traffic},
	{"pod add", "NAMESPACE/NAME", "enrol a pod; returns when the kernel knows it",
	 "Adding the same pod again changes its enrolment. A Pod object of the same name in the manifests "
	 "overrides\n"
	 "service account, labels and annotations.",
	 .least = 1, .most = 1, .options = add_options, .run = pod_add},
	{"pod del", "NAMESPACE/NAME", "release a pod; returns when the kernel has forgotten it", NULL,
	 .least = 1, .most = 1, .hint = HINT_POD, .run = pod_del},
	{"splice on", "", "let conversations of one node skip TCP (the default)", NULL, .run = pod_splice_on},
	{"splice off", "", "send everything by TCP, from the next message on; loses no byte", NULL,
	 .run = pod_splice_off},
	{"reasons", "", "every reason that weft gives, and what it means", NULL, .options = reasons_options,
	 .run = list_reasons},
	{"completion", "SHELL", "completion script for bash, zsh or fish",
	 "bash: source <(weftctl completion bash)", .least = 1, .most = 1, .hint = HINT_SHELL,
	 .run = completion_run},
	{"help", "[COMMAND]", "this list, or what a command does", NULL, .most = 2, .hint = HINT_COMMAND,
	 .run = command_help},
	{"version", "", "version of weftctl", NULL, .run = command_version},
	{"names", "", "names for completion", NULL, .hidden = true, .options = names_options,
	 .run = list_names},
	{NULL},
};

/* ------------------------------------------------------------------ looking up */

const struct command *command_find(const char *name)
{
	for (const struct command *k = commands; k->name; k++)
		if (text_equal(k->name, name))
			return k;
	return NULL;
}

const char *command_given(const struct args *a, const char *name)
{
	for (unsigned i = a->givens; i--;)
		if (text_equal(a->given[i].option->name, name))
			return a->given[i].value;
	return NULL;
}

const char *command_each(const struct args *a, const char *name, unsigned *at)
{
	for (; *at < a->givens; ++*at)
		if (text_equal(a->given[*at].option->name, name))
			return a->given[(*at)++].value;
	return NULL;
}

static const struct option *option_in(const struct option *list, const char *name, size_t len)
{
	for (; list && list->name; list++)
		if (strlen(list->name) == len && !memcmp(list->name, name, len))
			return list;
	return NULL;
}

/* ------------------------------------------------------------------ parsing */

/* Words to commands: "pod" alone is the start of one; returns how many words the name took, 0 for none. */
static unsigned resolve(char *const *word, unsigned words, const struct command **ret)
{
	char two[64];

	if (words > 1) {
		snprintf(two, sizeof(two), "%s %s", word[0], word[1]);
		*ret = command_find(two);
		if (*ret)
			return 2;
	}
	*ret = command_find(word[0]);
	return *ret ? 1 : 0;
}

static int unknown(const char *word, const char *next)
{
	struct text_guess guess = {.word = word};
	size_t len = strlen(word);

	for (const struct command *k = commands; k->name; k++) {
		if (strncmp(k->name, word, len) || k->name[len] != ' ')
			continue;
		ctl_error("%s%s%s: %s comes after %s; see `weftctl help`", word, next ? " " : "", next ? next : "",
			  text_equal(word, "pod") ? "add or del" : "on or off", word);
		return CTL_USAGE;
	}
	for (const struct command *k = commands; k->name; k++)
		if (!strchr(k->name, ' ') && !k->hidden)
			text_guess(&guess, k->name);
	if (guess.meant)
		ctl_error("unknown command \"%s\": did you mean `weftctl %s`? See `weftctl help`", word,
			  guess.meant);
	else
		ctl_error("unknown command \"%s\": see `weftctl help`", word);
	return CTL_USAGE;
}

static int instance_named(const char *name, const char *where)
{
	size_t len = strlen(name);

	if (len && len <= 63 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len)
		return CTL_DONE;
	ctl_error("%s%s: a name of a-z, 0-9 and \"-\", at most 63 characters", where, name);
	return CTL_USAGE;
}

static int global(struct ctl *c, const struct option *o, const char *value)
{
	if (text_equal(o->name, "--instance")) {
		c->instance = value;
		return instance_named(value, "--instance ");
	} else if (text_equal(o->name, "--output")) {
		c->json = text_equal(value, "json");
		if (!c->json && !text_equal(value, "table")) {
			ctl_error("--output %s: table or json", value);
			return CTL_USAGE;
		}
	} else if (text_equal(o->name, "--watch")) {
		c->watch = true;
		c->watch_ms = 2000;
		if (*value && (unit_duration(value, &c->watch_ms) || c->watch_ms < 100)) {
			ctl_error("--watch %s: seconds, at least 0.1", value);
			return CTL_USAGE;
		}
	}
	return CTL_DONE;
}

struct reader { /* the command line while it is read */
	char **argv;
	int argc, at;
	const struct option *own; /* options of the command, once it is known */
};

/* The value of an option: after "=", or the next word. --watch takes the next one only if it looks like a time. */
static int value_of(struct reader *r, const struct option *o, char *equals, const char **ret)
{
	unsigned ms;

	if (!o->value) {
		if (equals) {
			ctl_error("%s takes no value", o->name);
			return CTL_USAGE;
		}
		*ret = "";
		return CTL_DONE;
	}
	if (equals) {
		*ret = equals + 1;
		return CTL_DONE;
	}
	if (text_equal(o->name, "--watch")) {
		*ret = "";
		if (r->at < r->argc && !unit_duration(r->argv[r->at], &ms))
			*ret = r->argv[r->at++];
		return CTL_DONE;
	}
	if (r->at >= r->argc) {
		ctl_error("%s needs a value: %s %s", o->name, o->name, o->value);
		return CTL_USAGE;
	}
	*ret = r->argv[r->at++];
	return CTL_DONE;
}

static const struct option *shorthand(const char *word)
{
	static const struct {
		const char *brief, *name;
	} map[] = {{"-o", "--output"}, {"-h", "--help"}, {"-w", "--watch"}, {"-V", "--version"}};

	for (size_t i = 0; i < array_size(map); i++)
		if (text_equal(word, map[i].brief))
			return option_in(command_globals, map[i].name, strlen(map[i].name));
	return NULL;
}

/* Global options may stand anywhere, those of a command after it. */
static const struct option *option_find(const char *word, size_t len, const struct option *own)
{
	const struct option *o = len == 2 ? shorthand(word) : option_in(command_globals, word, len);

	return o ? o : option_in(own, word, len);
}

static int take_option(struct ctl *c, struct args *a, struct reader *r, char *word)
{
	char *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct option *o = option_find(word, len, r->own);
	const char *value;
	int err;

	if (!o) {
		if (a->command)
			ctl_error("%s has no option %.*s: see `weftctl help %s`", a->command->name, (int)len,
				  word, a->command->name);
		else
			ctl_error(
				"unknown option %.*s: see `weftctl help`; a command's own options follow it",
				(int)len, word);
		return CTL_USAGE;
	}
	err = value_of(r, o, equals, &value);
	if (!err)
		err = global(c, o, value);
	if (err)
		return err;
	if (a->givens == CTL_GIVEN) {
		ctl_error("more than %u options", CTL_GIVEN);
		return CTL_USAGE;
	}
	a->given[a->givens].option = o;
	a->given[a->givens++].value = value;
	return CTL_DONE;
}

/* A name that is no text cannot be asked for: it would not get into the question, which then asks for all. */
static const char *no_text(const struct args *a)
{
	for (unsigned i = 0; i < a->words; i++) {
		char *safe = grid_safe(a->word[i]);
		bool same = text_equal(safe, a->word[i]);

		free(safe);
		if (!same)
			return a->word[i];
	}
	return NULL;
}

/* "NAMESPACE/NAME", where the command's first word is one. */
static bool well_named(const struct args *a)
{
	const char *words = a->command->words, *word = a->words ? a->word[0] : NULL, *slash;

	if (!word || strncmp(words + (*words == '['), "NAMESPACE/", strlen("NAMESPACE/")))
		return true;
	slash = strchr(word, '/');
	return slash && slash != word && slash[1] && !strchr(slash + 1, '/');
}

static int complete_enough(const struct ctl *c, const struct args *a)
{
	const struct command *k = a->command;
	const char *wrong = no_text(a);

	if (a->words < k->least) {
		ctl_error("%s needs %s: see `weftctl help %s`", k->name, k->words, k->name);
		return CTL_USAGE;
	}
	if (a->words > k->most) {
		ctl_error("%s: \"%s\" is one word too many: see `weftctl help %s`", k->name, a->word[k->most],
			  k->name);
		return CTL_USAGE;
	}
	if (wrong) {
		ctl_error("%s: \"%s\" has characters that no name has; see `weftctl help %s`", k->name, wrong, k->name);
		return CTL_USAGE;
	}
	if (!well_named(a)) {
		ctl_error("%s: \"%s\": give NAMESPACE/NAME; see `weftctl help %s`", k->name, a->word[0], k->name);
		return CTL_USAGE;
	}
	for (const struct option *o = k->options; o && o->name; o++) {
		if (!o->needed || command_given(a, o->name))
			continue;
		ctl_error("%s needs %s %s: see `weftctl help %s`", k->name, o->name, o->value, k->name);
		return CTL_USAGE;
	}
	if (c->watch && !k->watches) {
		ctl_error("%s cannot be watched", k->name);
		return CTL_USAGE;
	}
	return CTL_DONE;
}

int command_parse(struct ctl *c, struct args *a, int argc, char **argv)
{
	struct reader r = {.argv = argv, .argc = argc, .at = 1};
	bool words_only = false;
	int err;

	*a = (struct args){0};
	while (r.at < argc) {
		char *word = argv[r.at++];

		if (!words_only && text_equal(word, "--")) {
			words_only = true;
		} else if (!words_only && word[0] == '-' && word[1]) {
			err = take_option(c, a, &r, word);
			if (err)
				return err;
		} else if (!a->command) {
			unsigned took = resolve(&argv[r.at - 1], (unsigned)(argc - r.at + 1), &a->command);

			if (!took)
				return unknown(word, r.at < argc ? argv[r.at] : NULL);
			r.at += (int)took - 1;
			r.own = a->command->options;
		} else if (a->words < CTL_WORDS) {
			a->word[a->words++] = word;
		} else {
			ctl_error("too many words: see `weftctl help %s`", a->command->name);
			return CTL_USAGE;
		}
	}
	if (command_given(a, "--help") || command_given(a, "--version"))
		return CTL_DONE;
	if (!a->command) {
		ctl_error("no command: see `weftctl help`");
		return CTL_USAGE;
	}
	err = c->instance && !command_given(a, "--instance") ? instance_named(c->instance, "WEFT_INSTANCE=") : CTL_DONE;
	if (err)
		return err;
	return complete_enough(c, a);
}

/* ------------------------------------------------------------------ help */

static void help_options(FILE *out, const struct option *o)
{
	char left[64];

	for (; o && o->name; o++) {
		bool may = text_equal(o->name, "--watch");

		snprintf(left, sizeof(left), "%s%s%s%s%s", o->name, o->value ? " " : "", may ? "[" : "",
			 o->value ? o->value : "", may ? "]" : "");
		fprintf(out, "  %-26s %s%s\n", left, o->about, o->needed ? " (needed)" : "");
	}
}

static void help_usage(FILE *out, const struct command *k)
{
	fprintf(out, "usage: weftctl %s%s%s", k->name, *k->words ? " " : "", k->words);
	for (const struct option *o = k->options; o && o->name; o++)
		fprintf(out, o->needed ? " %s%s%s%s" : " [%s%s%s]%s", o->name, o->value ? " " : "",
			o->value ? o->value : "", o->repeats ? "..." : "");
	fputc('\n', out);
}

static void help_command(FILE *out, const struct command *k)
{
	help_usage(out, k);
	fprintf(out, "\n  %s\n", k->about);
	if (k->more)
		fprintf(out, "\n%s\n", k->more);
	if (k->options) {
		fputc('\n', out);
		help_options(out, k->options);
	}
	fprintf(out, "\nOptions of every command: weftctl help\n");
}

int command_help(const struct ctl *c, const struct args *a)
{
	const struct command *k = a->command;
	char two[64];

	if (k && text_equal(k->name, "help") && !command_given(a, "--help")) {
		k = NULL;
		if (a->words) {
			snprintf(two, sizeof(two), "%s%s%s", a->word[0], a->words > 1 ? " " : "",
				 a->words > 1 ? a->word[1] : "");
			k = command_find(two);
			if (!k)
				return unknown(a->word[0], a->words > 1 ? a->word[1] : NULL);
		}
	}
	if (k) {
		help_command(c->out, k);
		return CTL_DONE;
	}
	fputs("usage: weftctl [--instance NAME] [-o table|json] [--watch [SECONDS]] COMMAND\n\n", c->out);
	for (k = commands; k->name; k++) {
		char left[64];

		if (k->hidden)
			continue;
		snprintf(left, sizeof(left), "%s%s%s", k->name, *k->words ? " " : "", k->words);
		fprintf(c->out, "  %-34s %s\n", left, k->about);
	}
	fputc('\n', c->out);
	help_options(c->out, command_globals);
	fputs("\nExit codes: 0 done, 1 failed (the reason is one line on stderr), 2 wrong usage.\n", c->out);
	return CTL_DONE;
}

int command_version(const struct ctl *c, const struct args *a)
{
	if (c->json)
		fprintf(c->out, "{\"version\": \"%s\"}\n", WEFT_VERSION);
	else
		fprintf(c->out, "weftctl %s\n", WEFT_VERSION);
	return CTL_DONE;
}
