// SPDX-License-Identifier: Apache-2.0
/* path.c: what weft says of a connection: see equivalence.h. */
#include "equivalence.h"

#include <stdlib.h>
#include <string.h>

/* The value of a name within [at, end), after its colon; NULL: not there. */
static const char *value_of(const char *at, const char *end, const char *name)
{
	size_t len = strlen(name);

	for (; (size_t)(end - at) > len + 2; at++) {
		if (*at != '"' || strncmp(at + 1, name, len) || at[len + 1] != '"')
			continue;
		for (at += len + 2; at < end && (*at == ':' || *at == ' ' || *at == '\n');)
			at++;
		return at;
	}
	return NULL;
}

static void word(const char *at, char *ret, size_t size)
{
	size_t len = at && *at == '"' ? strcspn(at + 1, "\"") : 0;

	snprintf(ret, size, "%.*s", (int)len, at ? at + 1 : "");
}

/* The end of the object that begins at `at`; names of pods hold no brackets. */
static const char *object_end(const char *at)
{
	int depth = 0;

	for (; *at; at++) {
		depth += (*at == '{') - (*at == '}');
		if (!depth)
			return at + 1;
	}
	return at;
}

static char *read_all(FILE *from)
{
	size_t size = 1 << 16, len = 0;
	char *text = malloc(size);

	while (text) {
		len += fread(text + len, 1, size - len - 1, from);
		if (len < size - 1)
			break;
		size *= 2;
		text = realloc(text, size);
	}
	if (text)
		text[len] = 0;
	return text;
}

bool path_ask(const char *command, int port, struct path *ret)
{
	FILE *from = popen(command, "re");
	char *text = from ? read_all(from) : NULL;
	const char *at = text ? strstr(text, "\"connections\"") : NULL;
	bool found = false;

	if (from)
		pclose(from);
	for (at = at ? strchr(at, '[') : NULL; at && (at = strchr(at, '{')) && !found;) {
		const char *end = object_end(at);
		const char *source = value_of(at, end, "source");
		const char *of = source ? value_of(source, object_end(source), "port") : NULL;
		const char *spliced = value_of(at, end, "bytes_spliced");

		if (of && strtol(of, NULL, 10) == port) {
			word(value_of(at, end, "path"), ret->path, sizeof(ret->path));
			word(value_of(at, end, "reason"), ret->reason, sizeof(ret->reason));
			ret->spliced = spliced ? strtoll(spliced, NULL, 10) : 0;
			found = true;
		}
		at = end;
	}
	free(text);
	return found;
}
