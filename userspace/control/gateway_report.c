/* SPDX-License-Identifier: Apache-2.0 */
/* gateway_report.c: Gateways, their listeners, and what became of each: see report.h and docs/admin.md. */
#include <stdlib.h>
#include <string.h>

#include "report.h"

struct gateway_key { /* what is found by it may have gone meanwhile */
	char namespace[64], name[254];
};

/* Of a port: all of its addresses are open. *ret_why: else why not, "" not yet. */
static bool open_at(const struct world_gateway *g, uint16_t port, const char **ret_why)
{
	bool open = true;

	*ret_why = "";
	for (unsigned i = 0; i < g->sockets; i++) {
		if (g->socket[i].port != port)
			continue;
		open &= g->socket[i].state == GATEWAY_SOCKET_OPEN;
		if (g->socket[i].state == GATEWAY_SOCKET_FAILED)
			*ret_why = g->socket[i].why;
	}
	return open;
}

static bool has_certificate(const struct world_gateway *g, const struct object_gateway_listener *l)
{
	const struct gateway_port *p = g->plan ? gateway_port(g->plan, l->port) : NULL;

	return l->protocol != GATEWAY_HTTPS || (p && p->tls);
}

static json_t *listener_json(const struct world_gateway *g, unsigned i)
{
	const struct object_gateway_listener *l = &g->object->gateway.listener[i];
	const struct world_gateway_listener *s = &g->listener[i];
	const char *why = "", *reason = "Programmed";
	bool programmed = false;

	if (!s->accepted)
		reason = "Invalid";
	else if (!open_at(g, l->port, &why))
		reason = *why ? "PortUnavailable" : "Pending";
	else if (!has_certificate(g, l))
		reason = "Invalid";
	else
		programmed = true;
	return json_pack("{s:o, s:o, s:i, s:s, s:b, s:s, s:b, s:s, s:b, s:b, s:s, s:i, s:o}", "name",
			 answer_text(l->name), "hostname", answer_text(l->hostname), "port", (int)l->port, "protocol",
			 l->protocol == GATEWAY_HTTPS ? "HTTPS" : "HTTP", "accepted", s->accepted, "accepted_reason",
			 s->accepted_reason, "resolved", s->resolved, "resolved_reason", s->resolved_reason,
			 "conflicted", s->conflicted, "programmed", programmed, "programmed_reason", reason, "routes",
			 (int)s->routes, "message", answer_text(s->message[0] ? s->message : why));
}

static json_t *item(void *ctx, const void *key)
{
	const struct report *report = ctx;
	const struct gateway_key *k = key;
	const struct object *o = store_get(report->world->store, KIND_GATEWAY, k->namespace, k->name);
	const struct world_gateway *g = o ? world_gateway_named(report->world, k->namespace, k->name) : NULL;
	json_t *listeners = json_array(), *addresses = json_array();

	if (!o) {
		json_decref(listeners);
		json_decref(addresses);
		return NULL;
	}
	for (unsigned i = 0; g && g->object && i < o->gateway.listeners; i++)
		json_array_append_new(listeners, listener_json(g, i));
	for (unsigned i = 0; i < o->gateway.addrs; i++)
		json_array_append_new(addresses, name_address(&o->gateway.addr[i]));
	return json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:o}", "gateway", name_full(k->namespace, k->name), "class",
			 answer_text(o->gateway.class), "ours", o->gateway.ours, "identity",
			 g && g->object ? name_identity(report->world, g->identity->number) : answer_text(""),
			 "addresses", addresses, "listeners", listeners, "object", name_place(o->file, o->line));
}

static int by_name(const void *a, const void *b)
{
	const struct gateway_key *x = a, *y = b;
	int c = strcmp(x->namespace, y->namespace);

	return c ? c : strcmp(x->name, y->name);
}

static bool wanted(const struct object *o, const char *name)
{
	char *full = mem_format("%s/%s", o->namespace, o->name);
	bool is = !name || text_equal(full, name);

	free(full);
	return is;
}

struct answer *gateway_report(struct report *r, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "gateway"));
	struct answer_list list = {.name = "gateways", .size = sizeof(struct gateway_key), .item = item};
	const struct store *s = r->world->store;
	struct gateway_key *keys = mem_alloc(store_count(s, KIND_GATEWAY) * sizeof(*keys) + 1);

	for (const struct object *o = store_each(s, KIND_GATEWAY, NULL); o; o = store_each(s, KIND_GATEWAY, o)) {
		struct gateway_key *k = &keys[list.count];

		if (!wanted(o, name))
			continue;
		text_copy(k->namespace, sizeof(k->namespace), o->namespace);
		text_copy(k->name, sizeof(k->name), o->name);
		list.count++;
	}
	if (list.count)
		qsort(keys, list.count, sizeof(*keys), by_name);
	list.keys = keys;
	return answer_lists(&list, 1, r, NULL);
}
