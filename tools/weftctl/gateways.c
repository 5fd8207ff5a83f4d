/* SPDX-License-Identifier: Apache-2.0 */
/* gateways.c: `weftctl gateways`. See ctl.h. */
#include "ctl.h"
#include "grid.h"

#include <stdlib.h>

/* "yes", or why not */
static void add_condition(struct grid *g, const json_t *listener, const char *is, const char *why)
{
	grid_add(g, "%s", json_is_true(json_object_get(listener, is)) ? "yes" : string_of(listener, why));
}

static void add_listener(struct grid *g, const json_t *gateway, const json_t *l, bool first)
{
	const char *hostname = string_of(l, "hostname"), *message = string_of(l, "message");

	grid_add(g, "%s", first ? string_of(gateway, "gateway") : "");
	grid_add(g, "%s", string_of(l, "name"));
	grid_add(g, "%s", *hostname ? hostname : "*");
	grid_add(g, "%lld", (long long)json_integer_value(json_object_get(l, "port")));
	grid_add(g, "%s", string_of(l, "protocol"));
	add_condition(g, l, "accepted", "accepted_reason");
	add_condition(g, l, "resolved", "resolved_reason");
	add_condition(g, l, "programmed", "programmed_reason");
	grid_add(g, "%lld", (long long)json_integer_value(json_object_get(l, "routes")));
	grid_add(g, "%s", *message ? message : "-");
}

/* One of another class: a line that says so. */
static void add_other(struct grid *g, const json_t *gateway)
{
	const char *class = string_of(gateway, "class");

	grid_add(g, "%s", string_of(gateway, "gateway"));
	for (unsigned i = 0; i < 8; i++)
		grid_add(g, "-");
	grid_add(g, "not ours: %s%s", *class ? "class " : "it has no gatewayClassName", class);
}

int gateways_list(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"GATEWAY", GRID_CUT},	   {"LISTENER", GRID_CUT},    {"HOSTNAME", GRID_CUT},	{"PORT", GRID_RIGHT},
		{"PROTOCOL", GRID_LEFT},   {"ACCEPTED", GRID_LEFT},   {"RESOLVED", GRID_LEFT},
		{"PROGRAMMED", GRID_LEFT}, {"ROUTES", GRID_RIGHT},    {"MESSAGE", GRID_CUT},
	};
	const struct ask_name name = {.name = a->words ? a->word[0] : NULL,
				      .array = "gateways",
				      .what = "Gateway",
				      .doubt = ": was it rejected?"};
	json_t *answer, *gateway, *listener;
	struct grid g;
	size_t i, k;
	int err;

	err = ask_named(c, &name, ask_request("gateways", "gateway", a), &answer);
	if (err || !answer)
		return err;
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "gateways"), i, gateway)
	{
		if (!json_is_true(json_object_get(gateway, "ours")))
			add_other(&g, gateway);
		json_array_foreach(json_object_get(gateway, "listeners"), k, listener)
			add_listener(&g, gateway, listener, !k);
	}
	grid_print(&g, c, "no Gateways");
	json_decref(answer);
	return CTL_DONE;
}
