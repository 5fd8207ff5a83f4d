/* SPDX-License-Identifier: Apache-2.0 */
/* forced.c: who forces the splice on a kernel that is not safe, and what that risks. See report.h. */
#include <string.h>

#include "report.h"

struct forced {
	const struct report *report;
	void (*each)(void *ctx, const struct problem *p);
	void *ctx;
};

static void tell(const struct forced *f, const char *kind, const char *namespace, const char *name,
		 const struct object *object)
{
	struct problem p = {.warning = true, .field = "weft.io/splice"};

	if (object && object->file)
		text_copy(p.file, sizeof(p.file), object->file);
	p.line = object ? object->line : 0;
	(void)snprintf(p.object, sizeof(p.object), "%s %.60s/%.250s", kind, namespace, name);
	(void)snprintf(p.reason, sizeof(p.reason), "always, on a kernel that is not safe: %s",
		       f->report->at_stake[0] ? f->report->at_stake : "see weftctl status");
	f->each(f->ctx, &p);
}

void report_forced(const struct report *r, void (*each)(void *ctx, const struct problem *p), void *ctx)
{
	const struct forced forced = {.report = r, .each = each, .ctx = ctx};
	const struct world *w = r->world;

	if (r->kernel_safe || !w)
		return;
	list_each(at, &w->enrolled) {
		const struct world_pod *p = container_of(at, struct world_pod, enrolled_link);

		if (p->splice == ABI_SPLICE_ALWAYS)
			tell(&forced, "Pod", p->namespace, p->name, p->object);
	}
	for (struct world_front *f = world_front_each(w, NULL); f; f = world_front_each(w, f))
		if (f->owner && f->splice == ABI_SPLICE_ALWAYS && f->owner->claims &&
		    f->owner->claim[0].front == f) /* once, however many ports it has */
			tell(&forced, "Service", f->owner->namespace, f->owner->name, f->owner->object);
}
