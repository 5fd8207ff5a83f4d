/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c: `weftctl routes`. See ctl.h. */
#include "ctl.h"
#include "grid.h"

#include <stdlib.h>

/* "shop/web:80"; of what is no Service with its kind */
static void add_parent(struct grid *g, const json_t *parent)
{
	const char *kind = string_of(parent, "kind"), *section = string_of(parent, "section");
	long long port = json_integer_value(json_object_get(parent, "port"));
	struct text t = {0};

	if (!text_equal(kind, "Service"))
		text_add(&t, "%s ", kind);
	text_add(&t, "%s", string_of(parent, "parent"));
	if (port)
		text_add(&t, ":%lld", port);
	else if (*section)
		text_add(&t, ":%s", section);
	grid_add(g, "%s", t.data);
	text_free(&t);
}

/* "http"; of several ports that differ "http, tcp" */
static void add_protocol(struct grid *g, const json_t *ports)
{
	const char *last = "";
	struct text t = {0};
	const json_t *one;
	size_t i;

	json_array_foreach(ports, i, one)
	{
		const char *is = string_of(one, "protocol");

		if (text_equal(is, last))
			continue;
		text_add(&t, "%s%s", t.len ? ", " : "", is);
		last = is;
	}
	grid_add(g, "%s", t.len ? t.data : "-");
	text_free(&t);
}

/* "yes", or why not */
static void add_condition(struct grid *g, const json_t *parent, const char *is, const char *why)
{
	const char *reason = string_of(parent, why);

	if (json_is_true(json_object_get(parent, is)))
		grid_add(g, "yes");
	else
		grid_add(g, "%s", *reason ? reason : "no");
}

static void add_route(struct grid *g, const json_t *route)
{
	const json_t *parent;
	size_t i;

	json_array_foreach(json_object_get(route, "parents"), i, parent)
	{
		const char *message = string_of(parent, "message");

		grid_add(g, "%s", i ? "" : string_of(route, "kind"));
		grid_add(g, "%s", i ? "" : string_of(route, "route"));
		add_parent(g, parent);
		add_protocol(g, json_object_get(parent, "ports"));
		add_condition(g, parent, "accepted", "accepted_reason");
		add_condition(g, parent, "resolved", "resolved_reason");
		if (i) {
			grid_add(g, "%s", "");
			grid_add(g, "%s", "");
		} else {
			grid_add(g, "%lld", (long long)json_integer_value(json_object_get(route, "rules")));
			grid_add(g, "%lld", (long long)json_integer_value(json_object_get(route, "backends")));
		}
		grid_add(g, "%s", *message ? message : "-");
	}
}

int routes_list(const struct ctl *c, const struct args *a)
{
	static const struct grid_column column[] = {
		{"KIND", GRID_LEFT},
		{"ROUTE", GRID_CUT},
		{"PARENT", GRID_CUT},
		{"PROTOCOL", GRID_LEFT},
		{"ACCEPTED", GRID_LEFT},
		{"RESOLVED", GRID_LEFT},
		{"RULES", GRID_RIGHT},
		{"BACKENDS", GRID_RIGHT},
		{"MESSAGE", GRID_CUT},
	};
	const struct ask_name name = {.name = a->words ? a->word[0] : NULL,
				      .array = "routes",
				      .what = "route",
				      .doubt = ": was it rejected?"};
	json_t *answer, *route;
	struct grid g;
	size_t i;
	int err;

	err = ask_named(c, &name, ask_request("routes", "route", a), &answer);
	if (err || !answer)
		return err;
	grid_open(&g, column, array_size(column));
	json_array_foreach(json_object_get(answer, "routes"), i, route) add_route(&g, route);
	grid_print(&g, c, "no routes");
	json_decref(answer);
	return CTL_DONE;
}
