/* SPDX-License-Identifier: Apache-2.0 */
/* The examples of docs/routes.md: each block of YAML with the block of requests behind it. */
#include "routed.h"

static char *read_document(void)
{
	FILE *f = fopen("docs/routes.md", "r");
	struct text t = {0};
	char buf[4096];
	size_t n;

	assert_non_null(f);
	while ((n = fread(buf, 1, sizeof(buf), f)))
		text_add_bytes(&t, buf, n);
	fclose(f);
	return t.data;
}

/* The inside of the next block of that kind; the text goes on behind it. NULL: none. */
static char *block(char **text, const char *kind)
{
	char *open = mem_format("\n```%s\n", kind), *at = strstr(*text, open), *end;

	if (at) {
		at += strlen(open);
		end = strstr(at, "\n```\n");
		assert_non_null(end);
		end[1] = 0;
		*text = end + 4;
	}
	free(open);
	return at;
}

static unsigned play(char *yaml, char *requests)
{
	char *save = NULL, *line;
	struct routed r;
	unsigned n = 0;

	routed_begin(&r, yaml);
	assert_string_equal(r.d.problems.data, "");
	for (line = strtok_r(requests, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
		char *arrow = strstr(line, " -> ");

		assert_non_null(arrow);
		*arrow = 0;
		routed_is(&r, line, arrow + 4);
	}
	routed_end(&r);
	return n;
}

static void examples(void **state)
{
	char *document = read_document(), *text = document, *yaml;
	unsigned examples = 0, requests = 0;

	while ((yaml = block(&text, "yaml"))) {
		char *ask = block(&text, "requests");

		assert_non_null(ask);
		requests += play(yaml, ask);
		examples++;
	}
	assert_true(examples >= 3 && requests >= 15);
	free(document);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(examples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
