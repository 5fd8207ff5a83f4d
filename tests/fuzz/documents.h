/* SPDX-License-Identifier: Apache-2.0 */
/* documents.h: for the fuzzers whose input begins with YAML documents. */
#ifndef WEFT_TESTS_FUZZ_DOCUMENTS_H
#define WEFT_TESTS_FUZZ_DOCUMENTS_H

#include <stdlib.h>

#include "model.h"

static inline void require(bool ok)
{
	if (!ok)
		abort();
}

static inline void on_reject(struct k8s_sink *sink, enum object_kind kind, const char *namespace, const char *name,
			     struct object *stand_in)
{
	object_free(stand_in);
}

static inline void on_report(struct k8s_sink *sink, const struct problem *p)
{
	require(*p->reason);
}

/* All of them, in their order. */
static inline void documents_decode(const char *all, size_t left, struct k8s_sink *sink)
{
	while (left) {
		size_t len = doc_split(all, left, false);
		struct arena a = {0};
		struct doc_error e;
		struct doc *d;

		if (!doc_parse(&a, all, len, false, 1, &d, &e))
			k8s_decode(d, "f", sink);
		arena_free(&a);
		all += len;
		left -= len;
	}
}

#endif
