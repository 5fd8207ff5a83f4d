// SPDX-License-Identifier: Apache-2.0
/*
 * status.c: `weftctl status`. The supervisor says what the kernel can do and how the worker fares; the worker says
 * what is wrong with the objects. With the worker dead the first half still comes.
 */
#include "ctl.h"
#include "grid.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wire.h"

#define POLL_MS 50	/* between two looks of --wait */
#define FULL_PERCENT 80 /* a map above this is shown */

static const char *const probe_states[] = {
	[WIRE_PROBE_OK] = "ok",
	[WIRE_PROBE_OFF] = "off",
	[WIRE_PROBE_FAILED] = "failed",
};

static const char *probe_state(unsigned state)
{
	return state < array_size(probe_states) ? probe_states[state] : "unknown";
}

/* ------------------------------------------------------------------ asking */

static int look(const struct ctl *c, struct wire *ret, bool quiet)
{
	struct wire *m = wire_new(WIRE_STATUS);
	int err = ask_supervisor(c, m, NULL, 0, ret, quiet);

	free(m);
	if (!err && ret->type != WIRE_STATUS) {
		if (!quiet)
			ctl_error("weftd refused: %s", *ret->text ? ret->text : wire_type_name(ret->type));
		err = CTL_FAILED;
	}
	return err;
}

/* Until ready, or the deadline: then what there is. A weftd that does not run yet counts as not ready. */
static int look_until(const struct ctl *c, struct wire *ret, unsigned wait_ms)
{
	uint64_t deadline = clock_ns() + wait_ms * 1000000ull;
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};

	while (clock_ns() < deadline) {
		if (!look(c, ret, true) && ret->status.ready)
			return CTL_DONE;
		nanosleep(&pause, NULL);
	}
	return look(c, ret, false);
}

/* ------------------------------------------------------------------ JSON */

/* Texts of the supervisor may be cut in the middle of a character, and file names may be any bytes. */
static json_t *text_of(const char *s)
{
	char *safe = grid_safe(s);
	json_t *ret = json_string(safe);

	free(safe);
	return ret;
}

static json_t *probes_json(const struct wire_probe *probe, unsigned count)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name", text_of(probe[i].name),
						      "state", probe_state(probe[i].state), "detail",
						      text_of(probe[i].detail)));
	return list;
}

static bool selftest_passed(const struct wire_status *s)
{
	for (uint32_t i = 0; i < s->selftests && i < WIRE_SELFTESTS; i++)
		if (s->selftest[i].state == WIRE_PROBE_FAILED)
			return false;
	return s->selftests;
}

static json_t *status_json(const struct ctl *c, const struct wire_status *s, json_t *worker, const char *why)
{
	json_t *ended = s->worker_ended_ns ? json_integer((json_int_t)((clock_ns() - s->worker_ended_ns) / 1000000))
					   : NULL;

	return json_pack(
		"{s:s, s:b, s:o, s:o, s:o, s:o, s:I, s:{s:b, s:i, s:i, s:o*, s:o*}, s:i, s:{s:b, s:b}, s:o, "
		"s:{s:b, s:i, s:o}, s:o*, s:o*}",
		"instance", c->instance, "ready", s->ready != 0, "why", text_of(s->why), "version",
		text_of(s->version), "kernel", text_of(s->kernel), "node", text_of(s->node), "uptime_ms",
		(json_int_t)((clock_ns() - s->started_ns) / 1000000), "worker", "running", s->worker_pid != 0,
		"pid", (int)s->worker_pid, "restarts", (int)s->worker_restarts, "last_end",
		s->worker_ended_ns ? text_of(s->worker_end) : NULL, "ended_ms",
		ended, "pods", (int)s->pods,
		"splice", "on", s->splice_on != 0, "kernel_safe", s->kernel_safe != 0, "probes",
		probes_json(s->probe, s->probes), "selftest", "passed", selftest_passed(s), "took_ms",
		(int)s->selftest_ms, "rows", probes_json(s->selftest, s->selftests),
		"control", worker, "control_error", worker ? NULL : text_of(why));
}

/* ------------------------------------------------------------------ for people */

static void line(const struct ctl *c, const char *name, const char *fmt, ...) printf_like(3, 4);
static void line(const struct ctl *c, const char *name, const char *fmt, ...)
{
	char *text, *safe;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vformat(fmt, ap);
	va_end(ap);
	safe = grid_safe(text);
	fprintf(c->out, "%-10s %s\n", name, safe);
	free(safe);
	free(text);
}

static void print_process(const struct ctl *c, const struct wire_status *s)
{
	char pid[32] = "not running", age[UNIT_TEXT];

	if (s->worker_pid)
		(void)snprintf(pid, sizeof(pid), "pid %u", s->worker_pid);
	if (s->worker_ended_ns)
		line(c, "worker", "%s, %u restart%s; the last one %s ago: %s", pid, s->worker_restarts,
		     text_plural(s->worker_restarts), unit_time(clock_ns() - s->worker_ended_ns, age),
		     s->worker_end);
	else
		line(c, "worker", "%s, 0 restarts", pid);
	if (!s->worker_pid)
		line(c, "", "the kernel goes on deciding by what it has");
}

static void print_head(const struct ctl *c, const struct wire_status *s)
{
	const char *lacks = wire_splice_lacks(s->probe, s->probes);
	const char *on = c->colour ? (s->ready ? "\033[32m" : "\033[31m") : "",
		   *off = c->colour ? "\033[0m" : "";
	char age[UNIT_TEXT], *why = grid_safe(s->why);

	fprintf(c->out, "%-10s %s%s%s%s%s\n", "weftd", on, s->ready ? "ready" : "not ready", off,
		s->ready || !*why ? "" : ": ", s->ready ? "" : why);
	free(why);
	line(c, "instance", "%s on node %s, up %s", c->instance, s->node,
	     unit_time(clock_ns() - s->started_ns, age));
	line(c, "version", "%s, kernel %s", s->version, s->kernel);
	print_process(c, s);
	line(c, "pods", "%u enrolled", s->pods);
	if (lacks)
		line(c, "splice", "off: this kernel cannot, see %s below", lacks);
	else
		line(c, "splice", "%s",
		     !s->splice_on    ? "off: weftctl splice on"
		     : s->kernel_safe ? "on"
				      : "on, but this kernel is not trusted: only weft.io/splice: always");
}

static void print_probes(const struct ctl *c, const char *head, const struct wire_probe *probe, unsigned count)
{
	const struct grid_column column[] = {{head, GRID_LEFT}, {"STATE", GRID_LEFT}, {"DETAIL", GRID_CUT}};
	struct grid g;

	if (!count)
		return;
	fputc('\n', c->out);
	grid_open(&g, column, array_size(column));
	for (unsigned i = 0; i < count; i++) {
		grid_add(&g, "%s", probe[i].name);
		grid_add(&g, "%s", probe_state(probe[i].state));
		grid_add(&g, "%s", probe[i].detail);
	}
	grid_print(&g, c, "");
}

/* Rejected objects one to a paragraph: their reasons are sentences, which a table would cut. */
static void print_problems(const struct ctl *c, const json_t *worker)
{
	json_t *p;
	size_t i;

	json_array_foreach(json_object_get(worker, "problems"), i, p)
	{
		const char *file = string_of(p, "file"), *object = string_of(p, "object"),
			   *field = string_of(p, "field");
		bool warning = json_is_true(json_object_get(p, "warning"));
		struct text t = {0};
		char *safe;

		text_add(&t, "%s: ", warning ? "warning" : "error");
		if (*file && number_of(p, "line"))
			text_add(&t, "%s:%llu: ", file, (unsigned long long)number_of(p, "line"));
		else if (*file)
			text_add(&t, "%s: ", file);
		text_add(&t, "%s%s%s%s%s", object, *object ? ": " : "", field, *field ? ": " : "",
			 string_of(p, "reason"));
		safe = grid_safe(t.data);
		fprintf(c->out, "%s%s\n", i ? "" : "\n", safe);
		free(safe);
		text_free(&t);
	}
}

static void print_maps(const struct ctl *c, const json_t *worker)
{
	static const struct grid_column column[] = {
		{"MAP", GRID_LEFT}, {"USED", GRID_RIGHT}, {"MAX", GRID_RIGHT}};
	struct grid g;
	json_t *m;
	size_t i;

	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(worker, "maps"), i, m)
	{
		uint64_t used = number_of(m, "used"), max = number_of(m, "max");

		if (!used || used * 100 < max * FULL_PERCENT)
			continue;
		grid_add(&g, "%s", string_of(m, "name"));
		grid_add(&g, "%llu", (unsigned long long)used);
		grid_add(&g, "%llu", (unsigned long long)max);
	}
	if (g.cells) {
		fputs("\nnearly full:\n", c->out);
		grid_print(&g, c, "");
	}
}

/* All threads together: weftctl -o json status has each. */
static void print_threads(const struct ctl *c, const json_t *threads)
{
	uint64_t conns = 0, tunnels = 0, accepted = 0, refused = 0;
	const json_t *t;
	size_t i, count = json_array_size(threads);

	json_array_foreach(threads, i, t)
	{
		conns += number_of(t, "connections");
		tunnels += number_of(t, "tunnels");
		accepted += number_of(t, "accepted");
		refused += number_of(t, "refused");
	}
	if (!count)
		line(c, "threads", "do not answer");
	else
		line(c, "threads", "%zu: %llu connection%s, %llu tunnel%s; %llu accepted, %llu refused so far", count,
		     (unsigned long long)conns, text_plural(conns), (unsigned long long)tunnels, text_plural(tunnels),
		     (unsigned long long)accepted, (unsigned long long)refused);
}

static void print_worker(const struct ctl *c, const json_t *worker, const char *why)
{
	char services[UNIT_TEXT], endpoints[UNIT_TEXT], conns[UNIT_TEXT];
	uint64_t warnings = number_of(worker, "warnings");
	const json_t *n;

	if (!worker) {
		line(c, "control", "%s", why);
		return;
	}
	n = json_object_get(worker, "counts");
	line(c, "control", "%s: %s service port%s, %s endpoint%s, %llu policy set%s, %s connection%s",
	     string_of(worker, "source"), unit_count(number_of(n, "services"), services),
	     text_plural(number_of(n, "services")), unit_count(number_of(n, "endpoints"), endpoints),
	     text_plural(number_of(n, "endpoints")), (unsigned long long)number_of(n, "policy_sets"),
	     text_plural(number_of(n, "policy_sets")), unit_count(number_of(n, "connections"), conns),
	     text_plural(number_of(n, "connections")));
	n = json_object_get(worker, "certs");
	if (json_is_object(n))
		line(c, "certs", "%s: %llu of %llu identities have one, %llu root%s, CRL: %s", string_of(n, "source"),
		     (unsigned long long)number_of(n, "valid"), (unsigned long long)number_of(n, "identities"),
		     (unsigned long long)number_of(n, "roots"), text_plural(number_of(n, "roots")),
		     string_of(n, "crl"));
	print_threads(c, json_object_get(worker, "threads"));
	n = json_object_get(worker, "counts");
	line(c, "objects", "%llu read, %llu rejected, %llu warning%s", (unsigned long long)number_of(n, "objects"),
	     (unsigned long long)number_of(worker, "errors"), (unsigned long long)warnings, text_plural(warnings));
}

int status_run(const struct ctl *c, const struct args *a)
{
	struct wire *answer = mem_alloc(sizeof(*answer));
	const char *wait = command_given(a, "--wait");
	char why[ASK_WHY] = "the worker is not running";
	json_t *worker = NULL, *all;
	unsigned wait_ms = 0;
	int err;

	if (wait && unit_duration(wait, &wait_ms)) {
		ctl_error("--wait %s: a time such as 10s, 500ms or 2m", wait);
		free(answer);
		return CTL_USAGE;
	}
	err = look_until(c, answer, wait_ms);
	if (err) {
		free(answer);
		return err;
	}
	/* ask_worker says by `why` what it could not learn: that is part of the status, not a failure of it */
	if (answer->status.worker_pid && ask_worker(c, json_pack("{s:s}", "command", "status"), &worker, why))
		worker = NULL;
	if (c->json) {
		all = status_json(c, &answer->status, worker, why);
		ask_print_json(c, all);
		json_decref(all);
		err = answer->status.ready ? CTL_DONE : CTL_FAILED;
		free(answer);
		return err;
	}
	print_head(c, &answer->status);
	print_worker(c, worker, why);
	print_probes(c, "KERNEL", answer->status.probe, answer->status.probes);
	print_probes(c, "SELF-TEST", answer->status.selftest, answer->status.selftests);
	print_maps(c, worker);
	print_problems(c, worker);
	json_decref(worker);
	err = answer->status.ready ? CTL_DONE : CTL_FAILED;
	free(answer);
	return err;
}
