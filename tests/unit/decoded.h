/* SPDX-License-Identifier: Apache-2.0 */
/* decoded.h: YAML of several documents to objects, and what was said about them. All functions are static. */
#ifndef WEFT_TEST_DECODED_H
#define WEFT_TEST_DECODED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model.h"

#define DECODED_FN static __attribute__((unused))
#define DECODED_MAX 16384

struct decoded {
	struct k8s_sink sink;
	struct object **object;
	unsigned objects, rejects;
	struct text problems; /* a line each: [warning ]LINE OBJECT | FIELD | REASON */
};

DECODED_FN void decoded_emit(struct k8s_sink *sink, struct object *o)
{
	struct decoded *d = container_of(sink, struct decoded, sink);

	assert_true(d->objects < DECODED_MAX);
	d->object[d->objects++] = o;
}

DECODED_FN void decoded_reject(struct k8s_sink *sink, enum object_kind kind, const char *namespace, const char *name,
			       struct object *stand_in)
{
	container_of(sink, struct decoded, sink)->rejects++;
	object_free(stand_in);
}

DECODED_FN void decoded_report(struct k8s_sink *sink, const struct problem *p)
{
	text_add(&container_of(sink, struct decoded, sink)->problems, "%s%u %s | %s | %s\n",
		 p->warning ? "warning " : "", p->line, p->object, p->field, p->reason);
}

DECODED_FN void decoded_begin(struct decoded *d)
{
	*d = (struct decoded){.sink = {decoded_emit, decoded_reject, decoded_report}};
	d->object = mem_alloc(DECODED_MAX * sizeof(struct object *));
	text_add(&d->problems, "%s", "");
}

DECODED_FN void decoded_add(struct decoded *d, const char *yaml)
{
	size_t left = strlen(yaml);

	while (left) {
		size_t len = doc_split(yaml, left, false);
		struct arena a = {0};
		struct doc_error e = {0};
		struct doc *doc;

		if (doc_parse(&a, yaml, len, false, 1, &doc, &e))
			fail_msg("line %u: %s\n%.*s", e.line, e.reason, (int)len, yaml);
		k8s_decode(doc, "f.yaml", &d->sink);
		arena_free(&a);
		yaml += len;
		left -= len;
	}
}

DECODED_FN void decoded_end(struct decoded *d)
{
	for (unsigned i = 0; i < d->objects; i++)
		object_free(d->object[i]);
	free(d->object);
	text_free(&d->problems);
}

#endif
