// SPDX-License-Identifier: Apache-2.0
/* main.c: command line of `equivalence`: see equivalence.h. */
#include "equivalence.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char usage[] =
	"usage: equivalence list\n"
	"       equivalence run --client-netns NS --server-netns NS --server-address IP [--client-cgroup DIR]\n"
	"                [--server-cgroup DIR] [--port BASE] [--ask COMMAND] [--patience MS] [--limit MS]\n"
	"                [--jobs N] [--mirrored] [--together | ROW...]\n"
	"       equivalence compare [--markdown | --verbose] DIRECT WEFT [ALWAYS]\n"
	"\n"
	"run plays the rows between two network namespaces (names below /run/netns, or paths) and writes what the\n"
	"programs saw. COMMAND prints the connections as JSON (weftctl -o json connections); with it, each connection\n"
	"talks until it is spliced, or weft has said why not, or MS have passed. --together leaves out the rows that\n"
	"want pods of their own (alone, after: the pods of the row before, in list); otherwise they are played last.\n"
	"--limit: a row that takes longer has hung. --mirrored: the end that was accepted plays the client's program.\n"
	"compare: exit code 1 if a row differs.\n";

struct job {
	const struct row *row;
	int index;
	pid_t pid;
	FILE *out;
};

static struct job *jobs;
static int job_count;

static bool wanted(const struct row *row, char **names, int count)
{
	for (int i = 0; i < count; i++) {
		if (!strcmp(names[i], row->name) || !strcmp(names[i], row->number))
			return true;
	}
	return !count;
}

static bool apart(const struct row *row)
{
	return row->flags & (ROW_ALONE | ROW_AFTER);
}

static void choose(char **names, int count, bool together)
{
	const struct row *row;

	for (int i = 0; (row = row_at((size_t)i)); i++) {
		if (!wanted(row, names, count) || (together && apart(row)))
			continue;
		jobs = reallocarray(jobs, (size_t)job_count + 1, sizeof(*jobs));
		if (!jobs)
			abort();
		jobs[job_count++] = (struct job){ .row = row, .index = i };
	}
}

static void start(const struct plan *p, struct job *j)
{
	j->out = tmpfile();
	fflush(stdout);
	j->pid = j->out ? fork() : -1;
	if (j->pid < 0) {
		perror("equivalence");
		exit(1);
	}
	if (!j->pid) {
		pair_run(p, j->row, j->index, j->out);
		fflush(j->out);
		_exit(0);
	}
}

/* All that may run beside others, `width` at once; then those that must be alone, in their order. */
static void play(const struct plan *p, int width)
{
	int running = 0;

	for (int i = 0; i < job_count; i++) {
		if (apart(jobs[i].row))
			continue;
		if (running == width) {
			wait(NULL);
			running--;
		}
		start(p, &jobs[i]);
		running++;
	}
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < job_count; i++) {
		if (!apart(jobs[i].row))
			continue;
		start(p, &jobs[i]);
		waitpid(jobs[i].pid, NULL, 0);
	}
	for (int i = 0; i < job_count; i++) {
		char line[1500];

		rewind(jobs[i].out);
		while (fgets(line, sizeof(line), jobs[i].out))
			fputs(line, stdout);
	}
}

static const char *netns(const char *name)
{
	char *path;

	if (strchr(name, '/'))
		return name;
	if (asprintf(&path, "/run/netns/%s", name) < 0)
		abort();
	return path;
}

static int number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*end || end == text || n < 0 || n > 65535) {
		fprintf(stderr, "equivalence: %s is no number\n", text);
		exit(2);
	}
	return (int)n;
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "client-netns", required_argument, NULL, 'c' }, { "server-netns", required_argument, NULL, 's' },
		{ "client-cgroup", required_argument, NULL, 'C' }, { "server-cgroup", required_argument, NULL, 'S' },
		{ "server-address", required_argument, NULL, 'a' }, { "port", required_argument, NULL, 'p' },
		{ "ask", required_argument, NULL, 'k' }, { "patience", required_argument, NULL, 'm' },
		{ "jobs", required_argument, NULL, 'j' }, { "limit", required_argument, NULL, 'l' },
		{ "together", no_argument, NULL, 't' },	  { "mirrored", no_argument, NULL, 'r' }, {},
	};
	struct plan p = { .port = 21000, .patience_ms = 1500, .limit_ms = 10000 };
	bool together = false;
	int c, width = 1;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'c': p.client.netns = netns(optarg); break;
		case 's': p.server.netns = netns(optarg); break;
		case 'C': p.client.cgroup = optarg; break;
		case 'S': p.server.cgroup = optarg; break;
		case 'a': p.address = optarg; break;
		case 'p': p.port = number(optarg); break;
		case 'k': p.ask = optarg; break;
		case 'm': p.patience_ms = number(optarg); break;
		case 'l': p.limit_ms = number(optarg); break;
		case 'j': width = number(optarg) ?: 1; break;
		case 't': together = true; break;
		case 'r': p.mirrored = true; break;
		default: return 2;
		}
	}
	if (!p.address) {
		fputs(usage, stderr);
		return 2;
	}
	choose(argv + optind, argc - optind, together);
	if (!job_count) {
		fprintf(stderr, "equivalence: no such row: see equivalence list\n");
		return 2;
	}
	play(&p, width);
	return 0;
}

static int list(void)
{
	const struct row *row;

	for (size_t i = 0; (row = row_at(i)); i++)
		printf("%s\t%s\t%s\t%s\n", row->number, row->name, row->text,
		       row->flags & ROW_ALONE ? "alone" : row->flags & ROW_AFTER ? "after" : "together");
	return 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	bool markdown = argc > 2 && !strcmp(argv[2], "--markdown");
	bool verbose = argc > 2 && !strcmp(argv[2], "--verbose");
	int first = markdown || verbose ? 3 : 2;

	if (!strcmp(command, "list") && argc == 2)
		return list();
	if (!strcmp(command, "run"))
		return run(argc - 1, argv + 1);
	if (!strcmp(command, "compare") && (argc - first == 2 || argc - first == 3))
		return compare(argv[first], argv[first + 1], argc - first == 3 ? argv[first + 2] : NULL, markdown,
			       verbose) ? 1 : 0;
	fputs(usage, stderr);
	return 2;
}
