/* SPDX-License-Identifier: Apache-2.0 */
/* certs.c: `weftctl certs` and `weftctl issue`. See ctl.h. */
#include "ctl.h"
#include "grid.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME "abcdefghijklmnopqrstuvwxyz0123456789.-" /* of Kubernetes */

/* ------------------------------------------------------------------ certs */

/* "in 11.9h", "3m ago"; "-" for no date */
static const char *until(const char *date, char buf[32])
{
	struct tm tm = {0};
	char unit[UNIT_TEXT];
	int64_t left;

	if (!strptime(date, "%Y-%m-%dT%H:%M:%SZ", &tm))
		return "-";
	left = (int64_t)timegm(&tm) - clock_wall() / 1000;
	(void)snprintf(buf, 32, left < 0 ? "%s ago" : "in %s",
		       unit_time((uint64_t)(left < 0 ? -left : left) * 1000000000, unit));
	return buf;
}

static void print_identities(const struct ctl *c, const json_t *answer)
{
	static const struct grid_column column[] = {
		{"IDENTITY", GRID_CUT},
		{"STATE", GRID_LEFT},
		{"ENDS", GRID_LEFT},
		{"RENEWED", GRID_LEFT},
		{"PODS", GRID_RIGHT},
		{"SERIAL", GRID_CUT},
		{"PROBLEM", GRID_CUT},
	};
	char buf[32];
	struct grid g;
	json_t *one;
	size_t i;

	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "identities"), i, one)
	{
		const char *problem = string_of(one, "problem");

		grid_add(&g, "%s", string_of(one, "identity"));
		grid_add(&g, "%s", string_of(one, "state"));
		grid_add(&g, "%s", until(string_of(one, "not_after"), buf));
		grid_add(&g, "%s", until(string_of(one, "renew_at"), buf));
		grid_add(&g, "%lld", (long long)json_integer_value(json_object_get(one, "pods")));
		grid_add(&g, "%s", string_of(one, "serial"));
		grid_add(&g, "%s", *problem ? problem : "-");
	}
	grid_print(&g, c, "no identities: no pod is enrolled on this node");
}

static void print_roots(const struct ctl *c, const json_t *answer)
{
	static const struct grid_column column[] = {
		{"ROOT", GRID_CUT}, {"ENDS", GRID_LEFT}, {"SHA256", GRID_CUT}};
	struct grid g;
	json_t *one;
	size_t i;

	fputc('\n', c->out);
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "roots"), i, one)
	{
		grid_add(&g, "%s", string_of(one, "subject"));
		grid_add(&g, "%.10s", string_of(one, "not_after"));
		grid_add(&g, "%s", string_of(one, "sha256"));
	}
	grid_print(&g, c, "no roots");
}

int certs_list(const struct ctl *c, const struct args *a)
{
	const char *problem;
	json_t *answer;
	char *safe;
	int err = ask_fetch(c, ask_request("certs", NULL, a), &answer);

	if (err || !answer)
		return err;
	safe = grid_safe(string_of(answer, "source"));
	fprintf(c->out, "source     %s\n", safe);
	free(safe);
	problem = string_of(answer, "problem");
	if (*problem) {
		safe = grid_safe(problem);
		fprintf(c->out, "problem    %s\n", safe);
		free(safe);
	}
	fprintf(c->out, "crl        %s\n\n", string_of(answer, "crl"));
	print_identities(c, answer);
	print_roots(c, answer);
	json_decref(answer);
	return CTL_DONE;
}

/* ------------------------------------------------------------------ issue */

/* Whole or not at all, and never readable by others. */
static int write_file(int at, const char *name, const char *text, mode_t mode)
{
	char fresh[512];
	int fd, err = 0;

	if (snprintf(fresh, sizeof(fresh), ".%s.new", name) >= (int)sizeof(fresh))
		return -ENAMETOOLONG;
	if (unlinkat(at, fresh, 0) && errno != ENOENT)
		return -errno;
	fd = openat(at, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd))
		err = errno ? -errno : -EIO;
	close(fd);
	if (!err && renameat(at, fresh, at, name))
		err = -errno;
	if (err)
		(void)unlinkat(at, fresh, 0);
	return err;
}

static int write_files(const char *folder, const char *namespace, const char *account, const json_t *answer)
{
	char chain[512], key[512];
	int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (at < 0) {
		ctl_error("--to %s: %s", folder, strerror(errno));
		return CTL_FAILED;
	}
	(void)snprintf(chain, sizeof(chain), "%s.%s.pem", namespace, account);
	(void)snprintf(key, sizeof(key), "%s.%s.key", namespace, account);
	err = write_file(at, "roots.pem", string_of(answer, "roots"), 0644);
	if (!err)
		err = write_file(at, key, string_of(answer, "key"), 0600);
	if (!err)
		err = write_file(at, chain, string_of(answer, "chain"), 0644);
	close(at);
	if (err) {
		ctl_error("--to %s: cannot be written: %s", folder, strerror(-err));
		return CTL_FAILED;
	}
	return CTL_DONE;
}

int certs_issue(const struct ctl *c, const struct args *a)
{
	const char *slash = strchr(a->word[0], '/'), *folder = command_given(a, "--to");
	char *namespace;
	json_t *request, *answer;
	int err;

	if (!slash || slash == a->word[0] || !slash[1] || strspn(a->word[0], NAME) != (size_t)(slash - a->word[0]) ||
	    slash[1 + strspn(slash + 1, NAME)]) {
		ctl_error("\"%s\" is no service account: give NAMESPACE/NAME", a->word[0]);
		return CTL_USAGE;
	}
	namespace = mem_format("%.*s", (int)(slash - a->word[0]), a->word[0]);
	request = json_pack("{s:s, s:s, s:s}", "command", "issue", "namespace", namespace, "service_account",
			    slash + 1);
	err = ask_worker_said(c, request, &answer);
	if (!err)
		err = write_files(folder, namespace, slash + 1, answer);
	if (!err && c->json)
		fprintf(c->out, "{\"identity\": \"%s\"}\n", string_of(answer, "identity"));
	else if (!err)
		fprintf(c->out, "%s: %s/%s.%s.pem and .key, good for 24 hours\n", string_of(answer, "identity"), folder,
			namespace, slash + 1);
	if (answer)
		json_decref(answer);
	free(namespace);
	return err;
}
