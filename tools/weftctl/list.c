// SPDX-License-Identifier: Apache-2.0
/* list.c: commands that ask the worker for a list and print it: docs/admin.md has the JSON. See ctl.h. */
#include "ctl.h"
#include "grid.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

static const char *or_dash(const char *s)
{
	return *s ? s : "-";
}

/* ["a", "b"] as "a, b"; free it */
static char *joined(const json_t *list)
{
	struct text t = {0};
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
		text_add(&t, "%s%s", i ? ", " : "", json_is_string(one) ? json_string_value(one) : "?");
	if (!t.data)
		text_add(&t, "-");
	return t.data;
}

/* ------------------------------------------------------------------ pods */

int list_pods(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"POD", GRID_CUT},
		{"ADDRESSES", GRID_CUT},
		{"IDENTITY", GRID_CUT},
		{"MTLS", GRID_LEFT},
		{"SPLICE", GRID_LEFT},
		{"POLICIES", GRID_RIGHT},
	};
	struct grid g;
	json_t *answer, *p;
	size_t i;
	int err = ask_fetch(c, ask_request("pods", "pod", a), &answer);

	if (err || !answer)
		return err;
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "pods"), i, p)
	{
		char *addresses = joined(json_object_get(p, "addresses"));

		grid_add(&g, "%s", string_of(p, "pod"));
		grid_add(&g, "%s", addresses);
		grid_add(&g, "%s", or_dash(string_of(p, "identity")));
		grid_add(&g, "%s", or_dash(string_of(p, "mtls")));
		grid_add(&g, "%s", string_of(p, "splice"));
		grid_add(&g, "%llu", (unsigned long long)number_of(p, "policies"));
		free(addresses);
	}
	grid_print(&g, c, "no pods are enrolled: weftctl help pod add");
	json_decref(answer);
	return CTL_DONE;
}

/* ------------------------------------------------------------------ services */

/* "10.96.0.10:80"; NULL: an empty cell */
static void add_vip(struct grid *g, const json_t *service)
{
	const char *vip = service ? string_of(service, "vip") : "";

	if (!service)
		grid_add(g, "%s", "");
	else
		grid_add(g, strchr(vip, ':') ? "[%s]:%llu" : "%s:%llu", vip,
			 (unsigned long long)number_of(service, "port"));
}

static int endpoints_of_one(const struct ctl *c, const json_t *answer)
{
	static const struct grid_column column[] = {
		{"SERVICE", GRID_CUT},
		{"VIP", GRID_LEFT},
		{"ENDPOINT", GRID_LEFT},
		{"POD", GRID_CUT},
		{"WEIGHT", GRID_RIGHT},
		{"SHARE", GRID_RIGHT},
	};
	struct grid g;
	json_t *s, *e;
	size_t i, j;

	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "services"), i, s)
	{
		json_array_foreach(json_object_get(s, "endpoints"), j, e)
		{
			grid_add(&g, "%s", j ? "" : string_of(s, "service"));
			add_vip(&g, j ? NULL : s);
			grid_add(&g, "%s", string_of(e, "address"));
			grid_add(&g, "%s", or_dash(string_of(e, "pod")));
			grid_add(&g, "%llu", (unsigned long long)number_of(e, "weight"));
			grid_add(&g, "%.1f %%", 100 * json_number_value(json_object_get(e, "share")));
		}
		if (j)
			continue;
		grid_add(&g, "%s", string_of(s, "service"));
		add_vip(&g, s);
		grid_add(&g, "none: connections are refused");
		for (unsigned rest = 0; rest < 3; rest++)
			grid_add(&g, "%s", "");
	}
	grid_print(&g, c, "");
	return CTL_DONE;
}

int list_services(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"SERVICE", GRID_CUT},
		{"VIP", GRID_LEFT},
		{"ENDPOINTS", GRID_RIGHT},
		{"AFFINITY", GRID_RIGHT},
		{"SPLICE", GRID_LEFT},
	};
	const struct ask_name name = {.name = a->words ? a->word[0] : NULL,
				      .array = "services",
				      .what = "service",
				      .doubt = " in the kernel: has it a clusterIP?"};
	struct grid g;
	json_t *answer, *s;
	char affinity[UNIT_TEXT];
	size_t i;
	json_t *r = ask_request("services", "service", a);
	int err;

	if (!c->json && !a->words)
		json_object_set_new(r, "endpoints", json_false()); /* only their number is shown */
	err = ask_named(c, &name, r, &answer);
	if (err || !answer)
		return err;
	if (a->words) {
		err = endpoints_of_one(c, answer);
		json_decref(answer);
		return err;
	}
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "services"), i, s)
	{
		uint64_t seconds = number_of(s, "affinity_seconds");

		grid_add(&g, "%s", string_of(s, "service"));
		add_vip(&g, s);
		grid_add(&g, "%llu", (unsigned long long)number_of(s, "endpoint_count"));
		grid_add(&g, "%s", seconds ? unit_time(seconds * 1000000000ull, affinity) : "-");
		grid_add(&g, "%s", string_of(s, "splice"));
	}
	grid_print(&g, c, "no services in the kernel");
	json_decref(answer);
	return CTL_DONE;
}

/* ------------------------------------------------------------------ connections */

/* "shop/web:80", or "10.0.0.1:80" */
static void add_side(struct grid *g, const json_t *side)
{
	const char *pod = string_of(side, "pod"), *address = string_of(side, "address");
	unsigned port = (unsigned)number_of(side, "port");

	if (*pod)
		grid_add(g, "%s:%u", pod, port);
	else
		grid_add(g, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port);
}

/* Who was proved to be at the other end of a tunnel. */
static const char *proved(const json_t *connection)
{
	if (strcmp(string_of(connection, "path"), "tunnel"))
		return "";
	if (json_object_get(connection, "peer"))
		return string_of(connection, "peer");
	return string_of(connection, "identity");
}

int list_connections(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"SOURCE", GRID_CUT},
		{"DESTINATION", GRID_CUT},
		{"SERVICE", GRID_CUT},
		{"PATH", GRID_LEFT},
		{"REASON", GRID_LEFT},
		{"SENT", GRID_RIGHT},
		{"RECEIVED", GRID_RIGHT},
		{"AGE", GRID_RIGHT},
		{"IDENTITY", GRID_CUT},
	};
	char buf[UNIT_TEXT];
	struct grid g;
	json_t *answer, *k;
	size_t i;
	int err = ask_fetch(c, ask_request("connections", "pod", a), &answer);

	if (err || !answer)
		return err;
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "connections"), i, k)
	{
		add_side(&g, json_object_get(k, "source"));
		add_side(&g, json_object_get(k, "destination"));
		grid_add(&g, "%s", or_dash(string_of(k, "service")));
		grid_add(&g, "%s", string_of(k, "path"));
		grid_add(&g, "%s", string_of(k, "reason"));
		grid_add(&g, "%s", unit_bytes(number_of(k, "bytes_sent"), buf));
		grid_add(&g, "%s", unit_bytes(number_of(k, "bytes_received"), buf));
		grid_add(&g, "%s", unit_time(number_of(k, "age_ms") * 1000000, buf));
		grid_add(&g, "%s", or_dash(proved(k)));
	}
	grid_print(&g, c, "no connections");
	json_decref(answer);
	return CTL_DONE;
}

/* ------------------------------------------------------------------ tunnels */

int list_tunnels(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"DIR", GRID_LEFT},
		{"POD", GRID_CUT},
		{"PEER", GRID_CUT},
		{"IDENTITY", GRID_CUT},
		{"STATE", GRID_LEFT},
		{"STREAMS", GRID_RIGHT},
		{"SENT", GRID_RIGHT},
		{"RECEIVED", GRID_RIGHT},
		{"AGE", GRID_RIGHT},
		{"WAITS", GRID_LEFT},
	};
	char buf[UNIT_TEXT];
	struct grid g;
	json_t *answer, *t;
	size_t i;
	int err = ask_fetch(c, ask_request("tunnels", "pod", a), &answer);

	if (err || !answer)
		return err;
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "tunnels"), i, t)
	{
		grid_add(&g, "%s", string_of(t, "direction"));
		grid_add(&g, "%s", string_of(t, "pod"));
		add_side(&g, json_object_get(t, "remote"));
		grid_add(&g, "%s", or_dash(string_of(t, "peer")));
		grid_add(&g, "%s", string_of(t, "state"));
		grid_add(&g, "%llu", (unsigned long long)number_of(t, "streams"));
		grid_add(&g, "%s", unit_bytes(number_of(t, "bytes_sent"), buf));
		grid_add(&g, "%s", unit_bytes(number_of(t, "bytes_received"), buf));
		grid_add(&g, "%s", unit_time(number_of(t, "age_ms") * 1000000, buf));
		grid_add(&g, "%s", string_of(t, "waits"));
	}
	grid_print(&g, c, "no tunnels: no pod of this node speaks with a pod of another node");
	json_decref(answer);
	return CTL_DONE;
}

/* ------------------------------------------------------------------ policy */

/* Nobody wrote that: it closes what an object that was rejected would select. */
static const char *stand_in(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key)) ? " (stand-in)" : "";
}

int list_policy(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"POD", GRID_CUT},
		{"KIND", GRID_LEFT},
		{"OBJECT", GRID_CUT},
		{"ACTION", GRID_LEFT},
		{"RULES", GRID_RIGHT},
		{"FROM", GRID_CUT},
	};
	struct grid g;
	json_t *answer, *p, *k;
	size_t i, j;
	int err = ask_fetch(c, ask_request("policy", "pod", a), &answer);

	if (err || !answer)
		return err;
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "pods"), i, p)
	{
		const char *from = string_of(p, "mtls_from");

		grid_add(&g, "%s", string_of(p, "pod"));
		grid_add(&g, "PeerAuthentication");
		grid_add(&g, "%s", *from ? from : "(default)");
		grid_add(&g, "%s%s", string_of(p, "mtls"), stand_in(p, "mtls_stand_in"));
		grid_add(&g, "%s", "");
		grid_add(&g, "%s", string_of(p, "mtls_place"));
		json_array_foreach(json_object_get(p, "mtls_ports"), j, k)
		{
			grid_add(&g, "%s", "");
			grid_add(&g, "PeerAuthentication");
			grid_add(&g, "%s", string_of(p, "mtls_ports_from"));
			grid_add(&g, "%s :%llu", string_of(k, "mtls"), (unsigned long long)number_of(k, "port"));
			grid_add(&g, "%s", "");
			grid_add(&g, "%s", "");
		}
		json_array_foreach(json_object_get(p, "policies"), j, k)
		{
			grid_add(&g, "%s", "");
			grid_add(&g, "%s", "AuthorizationPolicy");
			grid_add(&g, "%s", string_of(k, "policy"));
			grid_add(&g, "%s%s", string_of(k, "action"), stand_in(k, "stand_in"));
			grid_add(&g, "%llu", (unsigned long long)number_of(k, "rules"));
			grid_add(&g, "%s", string_of(k, "place"));
		}
	}
	grid_print(&g, c, a->words ? "no such pod is enrolled" : "no pods are enrolled");
	json_decref(answer);
	return CTL_DONE;
}

/* ------------------------------------------------------------------ traffic */

static void print_refusals(const struct ctl *c, const json_t *answer)
{
	static const struct grid_column column[] = {
		{"SOURCE", GRID_CUT},
		{"SERVICE", GRID_CUT},
		{"POD", GRID_CUT},
		{"REASON", GRID_LEFT},
		{"REFUSED", GRID_RIGHT},
	};
	struct grid g;
	json_t *r;
	size_t i;

	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "refusals"), i, r)
	{
		grid_add(&g, "%s", or_dash(string_of(r, "source")));
		grid_add(&g, "%s", or_dash(string_of(r, "service")));
		grid_add(&g, "%s", or_dash(string_of(r, "pod")));
		grid_add(&g, "%s", string_of(r, "reason"));
		grid_add(&g, "%llu", (unsigned long long)number_of(r, "count"));
	}
	if (!g.cells)
		return;
	fputc('\n', c->out);
	grid_print(&g, c, "");
}

int list_traffic(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"SOURCE", GRID_CUT},
		{"SERVICE", GRID_CUT},
		{"POD", GRID_CUT},
		{"OPENED", GRID_RIGHT},
		{"CLOSED", GRID_RIGHT},
		{"FAILED", GRID_RIGHT},
		{"SENT", GRID_RIGHT},
		{"RECEIVED", GRID_RIGHT},
		{"SPLICED", GRID_RIGHT},
		{"CONNECT", GRID_RIGHT},
		{"SRTT", GRID_RIGHT},
		{"RETRANS", GRID_RIGHT},
	};
	static const char *const bytes[] = {"sent_bytes", "received_bytes", "spliced_bytes"};
	char buf[UNIT_TEXT];
	struct grid g;
	json_t *answer, *t;
	size_t i;
	int err = ask_fetch(c, ask_request("traffic", NULL, a), &answer);

	if (err || !answer)
		return err;
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "traffic"), i, t)
	{
		grid_add(&g, "%s", or_dash(string_of(t, "source")));
		grid_add(&g, "%s", or_dash(string_of(t, "service")));
		grid_add(&g, "%s", or_dash(string_of(t, "pod")));
		grid_add(&g, "%llu", (unsigned long long)number_of(t, "opened"));
		grid_add(&g, "%llu", (unsigned long long)number_of(t, "closed"));
		grid_add(&g, "%llu", (unsigned long long)number_of(t, "failed"));
		for (size_t b = 0; b < array_size(bytes); b++)
			grid_add(&g, "%s", unit_bytes(number_of(t, bytes[b]), buf));
		grid_add(&g, "%s", unit_time(number_of(t, "connect_us") * 1000, buf));
		grid_add(&g, "%s", unit_time(number_of(t, "srtt_us") * 1000, buf));
		grid_add(&g, "%llu", (unsigned long long)number_of(t, "retransmits"));
	}
	grid_print(&g, c, "no traffic yet");
	print_refusals(c, answer);
	json_decref(answer);
	return CTL_DONE;
}

/* ------------------------------------------------------------------ names, reasons */

int list_names(const struct ctl *c, const struct args *a)
{
	const char *of = command_given(a, "--of");
	bool pods = !of || text_equal(of, "pods");
	char why[ASK_WHY];
	json_t *answer, *one;
	size_t i;

	if (text_equal(of, "commands")) {
		for (const struct command *k = commands; k->name; k++)
			if (!k->hidden)
				fprintf(c->out, "%s\n", k->name);
		return CTL_DONE;
	}
	if (of && !pods && !text_equal(of, "services")) {
		ctl_error("--of %s: pods, services or commands", of);
		return CTL_USAGE;
	}
	/* In the middle of a completion nobody wants to read why there are no names. */
	if (ask_worker(c, json_pack("{s:s}", "command", pods ? "pods" : "services"), &answer, why))
		return CTL_FAILED;
	json_array_foreach(json_object_get(answer, pods ? "pods" : "services"), i, one)
	{
		char *name = grid_safe(string_of(one, pods ? "pod" : "service"));

		if (!pods && strchr(name, ':'))
			*strchr(name, ':') = '\0';
		fprintf(c->out, "%s\n", name);
		free(name);
	}
	json_decref(answer);
	return CTL_DONE;
}

static const unsigned reasons[] = {
#define NUMBER(number, symbol, name, text) number,
	ABI_REASONS(NUMBER)
#undef NUMBER
};

static const char *reason_group(unsigned reason)
{
	return reason < 1    ? "-"
	       : reason < 16 ? "splice"
	       : reason < 36 ? "tcp"
	       : reason < 40 ? "worker"
	       : reason < 64 ? "direct"
			     : "refused";
}

static int reasons_json(const struct ctl *c)
{
	json_t *list = json_array(), *all = json_pack("{s:o}", "reasons", list);

	for (size_t i = 0; i < array_size(reasons); i++)
		json_array_append_new(list,
				      json_pack("{s:i, s:s, s:s, s:s}", "number", (int)reasons[i], "name",
						reason_name(reasons[i]), "group", reason_group(reasons[i]),
						"text", reason_text(reasons[i])));
	ask_print_json(c, all);
	json_decref(all);
	return CTL_DONE;
}

int list_reasons(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"REASON", GRID_LEFT}, {"PATH", GRID_LEFT}, {"MEANING", GRID_LEFT}};
	struct grid g;

	if (c->json)
		return reasons_json(c);
	if (command_given(a, "--markdown")) {
		fputs("<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
		      "<!-- made by `weftctl reasons --markdown` from headers/abi.h -->\n# Reasons\n\n"
		      "Why a connection takes its path, or why it was refused: in `weftctl connections`, in\n"
		      "`weftctl explain`, in counters and in logs. Numbers and names never change their "
		      "meaning.\n\n"
		      "| number | reason | path | meaning |\n|---:|---|---|---|\n",
		      c->out);
		for (size_t i = 0; i < array_size(reasons); i++)
			fprintf(c->out, "| %u | `%s` | %s | %s |\n", reasons[i], reason_name(reasons[i]),
				reason_group(reasons[i]), reason_text(reasons[i]));
		return CTL_DONE;
	}
	grid_open(&g, column, array_size(column));
	for (size_t i = 0; i < array_size(reasons); i++) {
		grid_add(&g, "%s", reason_name(reasons[i]));
		grid_add(&g, "%s", reason_group(reasons[i]));
		grid_add(&g, "%s", reason_text(reasons[i]));
	}
	grid_print(&g, c, "");
	return CTL_DONE;
}
