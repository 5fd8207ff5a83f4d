// SPDX-License-Identifier: Apache-2.0
/* explain.c: prints the worker's explanation of one connection: numbered steps, then the verdict. See ctl.h. */
#include "ctl.h"
#include "grid.h"

#include <stdlib.h>
#include <string.h>

#define STEP_COLUMN 20 /* where the text of a step starts */

/* Text from column STEP_COLUMN on, broken between words where the terminal ends. */
static void wrap(const struct ctl *c, const char *s)
{
	unsigned width = c->width > STEP_COLUMN + 20 ? c->width - STEP_COLUMN : 0, at = 0;
	char *safe = grid_safe(s), *rest = safe, *word;

	while ((word = strsep(&rest, " "))) {
		unsigned len = grid_columns_of(word);

		if (at && width && at + 1 + len > width) {
			fprintf(c->out, "\n%*s", STEP_COLUMN, "");
			at = 0;
		}
		fprintf(c->out, "%s%s", at ? " " : "", word);
		at += len + (at ? 1 : 0);
	}
	fputc('\n', c->out);
	free(safe);
}

static void print_step(const struct ctl *c, const json_t *step, size_t number)
{
	const char *object = string_of(step, "object"), *place = string_of(step, "place");

	fprintf(c->out, "%3zu. %-*s", number, STEP_COLUMN - 5, string_of(step, "step"));
	wrap(c, string_of(step, "text"));
	if (!*object)
		return;
	char *safe = grid_safe(object), *where = grid_safe(place);

	fprintf(c->out, "%*s%s%s%s%s\n", STEP_COLUMN, "", safe, *where ? " (" : "", where, *where ? ")" : "");
	free(where);
	free(safe);
}

int explain_run(const struct ctl *c, const struct args *a)
{
	json_t *answer, *step;
	bool refused;
	size_t i;
	int err = ask_worker_said(c,
				  json_pack("{s:s, s:s, s:s}", "command", "explain", "source", a->word[0],
					    "destination", a->word[1]),
				  &answer);

	if (err)
		return err;
	refused = text_equal(string_of(answer, "verdict"), "refused");
	if (c->json) {
		ask_print_json(c, answer);
	} else {
		const char *on = c->colour ? (refused ? "\033[31m" : "\033[32m") : "",
			   *off = c->colour ? "\033[0m" : "";

		json_array_foreach(json_object_get(answer, "steps"), i, step) print_step(c, step, i + 1);
		fprintf(c->out, "  => %s%-*s%s", on, STEP_COLUMN - 5, string_of(answer, "verdict"), off);
		wrap(c, string_of(answer, "summary"));
	}
	json_decref(answer);
	return refused && command_given(a, "--check") ? CTL_FAILED : CTL_DONE;
}
