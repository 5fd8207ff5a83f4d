/* SPDX-License-Identifier: Apache-2.0 */
/* name.c: see report.h. */
#include <stdlib.h>
#include <string.h>

#include "report.h"

static json_t *formatted(const char *fmt, ...) printf_like(1, 2);
static json_t *formatted(const char *fmt, ...)
{
	char *text;
	json_t *ret;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vformat(fmt, ap);
	va_end(ap);
	ret = answer_text(text);
	free(text);
	return ret;
}

json_t *name_full(const char *namespace, const char *name)
{
	return formatted("%s/%s", namespace, name);
}

json_t *name_identity(const struct world *w, uint32_t identity)
{
	const struct identity *id = identity ? identity_by_number(&w->identities, identity) : NULL;

	return answer_text(id ? id->principal : "");
}

json_t *name_pod(const struct world *w, uint32_t number)
{
	const struct world_pod *p = number ? world_pod_numbered(w, number) : NULL;

	return p ? name_full(p->namespace, p->name) : answer_text("");
}

json_t *name_service(const struct world *w, uint32_t service)
{
	const struct world_front *f = service ? world_front_numbered(w, service) : NULL;

	if (!f || !f->owner)
		return answer_text("");
	return name_full(f->owner->namespace, f->owner->name);
}

json_t *name_address(const struct abi_addr *a)
{
	char buf[ADDR_TEXT];

	return answer_text(addr_text(a, buf));
}

json_t *name_place(const char *file, uint32_t line)
{
	return file && *file ? formatted("%s:%u", file, line) : answer_text("");
}

struct world_pod *name_find_pod(const struct world *w, const char *text, bool enrolled, char why[256])
{
	const char *slash = strchr(text, '/');
	struct world_pod *p = NULL;
	char *namespace;

	if (!slash || slash == text || !slash[1] || strchr(slash + 1, '/')) {
		snprintf(why, 256, "\"%.200s\" is not a pod: give NAMESPACE/NAME", text);
		return NULL;
	}
	namespace = mem_format("%.*s", (int)(slash - text), text);
	p = world_pod_named(w, namespace, slash + 1);
	free(namespace);
	if (p && (p->enrolled || !enrolled))
		return p;
	if (p)
		snprintf(why, 256,
			 "pod %.160s is not enrolled on this node: weftctl pods lists those that are", text);
	else
		snprintf(why, 256, "there is no pod %.160s: weftctl pods lists those that are enrolled",
			 text);
	return NULL;
}
