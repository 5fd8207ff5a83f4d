/* SPDX-License-Identifier: Apache-2.0 */
/* world.c: what changed, in the order in which one thing needs another; and the questions that need several. */
#include <stdlib.h>
#include <string.h>

#include "world_parts.h"

struct world *world_new(struct store *store, const char *node, const char *trust_domain,
			const char *root_namespace)
{
	struct world *w = mem_alloc(sizeof(*w));
	struct list *lists[] = {&w->enrolled, &w->all_sets, &w->changed_pods, &w->changed_services,
				&w->dirty_pods, &w->dirty_fronts, &w->dirty_addresses, &w->dead_sets,
				&w->troubled_services, &w->dirty_routed, &w->changed_routed, &w->troubled_routes,
				&w->gateways, &w->edge_routes};

	for (size_t i = 0; i < array_size(lists); i++)
		list_init(lists[i]);
	w->store = store;
	w->node = mem_string(node);
	w->trust_domain = mem_string(trust_domain);
	w->root_namespace = mem_string(root_namespace);
	w->next_set = 1;
	w->next_service = 1;
	return w;
}

void world_free(struct world *w)
{
	struct table_link *l, *next;

	if (!w)
		return;
	for (l = table_walk(&w->pods, NULL); l; l = next) {
		next = table_walk(&w->pods, l);
		world_pod_drop(w, container_of(l, struct world_pod, by_name));
	}
	world_gateway_free(w);
	world_service_free(w);
	world_route_free(w);
	world_grant_free(w);
	for (l = table_walk(&w->addresses, NULL); l; l = next) {
		next = table_walk(&w->addresses, l);
		world_address_drop(w, container_of(l, struct world_address, link));
	}
	for (l = table_walk(&w->sets, NULL); l; l = next) {
		next = table_walk(&w->sets, l);
		world_set_drop(w, container_of(l, struct policy_set, link));
	}
	table_free(&w->pods);
	table_free(&w->pods_by_netns);
	table_free(&w->pods_by_number);
	table_free(&w->addresses);
	table_free(&w->sets);
	table_free(&w->labels);
	identities_free(&w->identities);
	for (unsigned i = 0; i < w->policy_namespaces; i++)
		free(w->policy_namespace[i]);
	free(w->policy_namespace);
	free(w->node_addr);
	free(w->object_addr);
	free(w->hint);
	free(w->node);
	free(w->trust_domain);
	free(w->root_namespace);
	free(w);
}

/* ------------------------------------------------------------------ the node's own addresses */

static void replace_node(struct world *w, struct abi_addr **list, unsigned *list_count,
			 const struct abi_addr *addr, unsigned count)
{
	for (unsigned i = 0; i < *list_count; i++)
		world_address_count(w, &(*list)[i], ABI_KIND_NODE, -1);
	free(*list);
	*list = mem_alloc(count * sizeof(*addr) + 1);
	*list_count = count;
	for (unsigned i = 0; i < count; i++) {
		(*list)[i] = addr[i];
		world_address_count(w, &addr[i], ABI_KIND_NODE, 1);
	}
}

void world_node_addresses(struct world *w, const struct abi_addr *addr, unsigned count)
{
	replace_node(w, &w->node_addr, &w->node_addrs, addr, count);
	world_gateway_touch(w);
}

/* ------------------------------------------------------------------ changes */

static void changed(void *ctx, enum object_kind kind, const char *namespace, const char *name)
{
	struct world *w = ctx;
	const struct object *o;

	switch (kind) {
	case KIND_POD:
		world_pod_change(w, world_pod_get(w, namespace, name));
		break;
	case KIND_SERVICE:
		world_service_change(w, world_service_get(w, namespace, name));
		world_route_service(w, namespace, name);
		break;
	case KIND_ENDPOINT_SLICE:
		world_service_slice(w, namespace, name);
		break;
	case KIND_AUTHORIZATION_POLICY:
	case KIND_PEER_AUTHENTICATION:
		world_policy_changed(w, namespace);
		break;
	case KIND_NODE:
		if (!text_equal(name, w->node))
			break;
		o = store_get(w->store, KIND_NODE, namespace, name);
		replace_node(w, &w->object_addr, &w->object_addrs, o ? o->node.addr : NULL,
			     o ? o->node.addrs : 0);
		world_gateway_touch(w);
		break;
	case KIND_NAMESPACE:
		world_pod_namespace(w, name);
		world_gateway_touch(w); /* its labels */
		break;
	case KIND_HTTP_ROUTE:
	case KIND_GRPC_ROUTE:
	case KIND_TLS_ROUTE:
	case KIND_TCP_ROUTE:
		world_route_change(w, kind, namespace, name);
		break;
	case KIND_REFERENCE_GRANT:
		world_grant_change(w, namespace, name);
		break;
	case KIND_GATEWAY:
	case KIND_SECRET:
		world_gateway_touch(w);
		break;
	default: /* ServiceAccount: nothing in the kernel depends on it */
		break;
	}
}

bool world_update(struct world *w)
{
	struct list *last;

	world_route_begin(w);
	store_changes(w->store, changed, w);
	for (struct list *l = w->changed_pods.next; l != &w->changed_pods; l = last->next) {
		last = l->prev; /* a pod that is freed leaves the list, others may join at its end */
		if (world_pod_refresh(w, container_of(l, struct world_pod, changed_link)))
			last = l;
	}
	world_pod_identify(w);
	world_policy_update(w);
	while (!list_empty(&w->changed_pods)) {
		struct world_pod *p = container_of(w->changed_pods.next, struct world_pod, changed_link);

		list_del(&p->changed_link);
		p->changed = false;
	}
	world_route_update(w);
	world_service_update(w);
	world_gateway_update(w);
	return !list_empty(&w->dirty_pods) || !list_empty(&w->dirty_fronts) ||
	       !list_empty(&w->dirty_addresses) || !list_empty(&w->dead_sets);
}

/* ------------------------------------------------------------------ questions */

enum abi_reason world_forbids(const struct world *w, const struct abi_tuple *t, const struct abi_conn *c)
{
	const struct world_pod *server = c->server_pod ? world_pod_numbered(w, c->server_pod) : NULL;
	const struct world_pod *client = c->client_pod ? world_pod_numbered(w, c->client_pod) : NULL;
	bool captured = c->flags & ABI_CONN_CAPTURED;
	const struct abi_addr *dst = captured ? &c->target : &t->dst;
	const struct world_address *to = world_address(w, dst), *from = world_address(w, &t->src);
	const struct identity *who = NULL;
	enum abi_reason why;

	if (t->dst_port == ABI_PORT_HBONE)
		return ABI_NONE; /* nor was it asked as it began */
	if (c->flags & ABI_CONN_DELIVERED || c->reason == ABI_ROUTES)
		return ABI_NONE; /* the worker knows whose it is and where it goes, and judges */
	if (!server)
		server = to ? to->pod : NULL;
	if (!server || !server->set)
		return ABI_NONE;
	if (addr_equal(&t->src, dst) || (c->client_netns && c->client_netns == server->enrolled->netns))
		return ABI_NONE;
	if (!to || to->pod != server)
		return ABI_NONE; /* reached at an address that it was not enrolled with */
	if (!c->client_netns && from && !from->pod && from->node)
		return ABI_NONE; /* the node itself, not a pod that uses its address */
	if (c->source)
		who = identity_by_number(&w->identities, c->source);
	if (!who && client)
		who = client->identity;
	why = policy_decide(server->set, who, &t->src, captured ? c->target_port : t->dst_port, NULL);
	return captured && why == ABI_NEEDS_WORKER ? ABI_NONE : why; /* the worker asks each request */
}

static void report_object(const struct object *o, const char *field, const char *reason, bool warning,
			  void (*report)(void *ctx, const struct problem *p), void *ctx)
{
	struct problem p = {.warning = warning, .line = o->line};

	text_copy(p.file, sizeof(p.file), o->file ? o->file : "");
	snprintf(p.object, sizeof(p.object), "%s %s/%s", object_kind_name(o->kind), o->namespace, o->name);
	text_copy(p.field, sizeof(p.field), field);
	text_copy(p.reason, sizeof(p.reason), reason);
	report(ctx, &p);
}

/* `message`: "spec.rules[0]...: what is wrong with it"; `condition`: the reason of the Gateway API */
static void report_message(const struct object *o, const char *message, const char *condition,
			   void (*report)(void *ctx, const struct problem *p), void *ctx)
{
	const char *colon = strstr(message, ": ");
	char field[128] = "spec", reason[256];

	if (colon && colon - message < (ptrdiff_t)sizeof(field))
		snprintf(field, sizeof(field), "%.*s", (int)(colon - message), message);
	snprintf(reason, sizeof(reason), "%s (%s)", colon ? colon + 2 : message, condition);
	report_object(o, field, reason, true, report, ctx);
}

/* Each parentRef that is not in force as it is written. */
static void report_route(const struct world_route *r, void (*report)(void *ctx, const struct problem *p), void *ctx)
{
	for (unsigned i = 0; i < r->object->route.parents; i++) {
		const struct route_status *s = &r->status[i];
		const char *why = s->accepted ? s->resolved_reason : s->accepted_reason;

		if (world_route_troubled(s) && (!r->object->route.parent[i].kind || s->gateway))
			report_message(r->object, s->message, why, report, ctx);
	}
}

/* Each listener that is not in force as it is written, or that the node cannot listen for. */
static void report_gateway(const struct world_gateway *g, void (*report)(void *ctx, const struct problem *p), void *ctx)
{
	for (unsigned i = 0; g->object && i < g->object->gateway.listeners; i++) {
		const struct world_gateway_listener *s = &g->listener[i];
		const char *why = s->accepted ? s->resolved_reason : s->accepted_reason;
		char message[256];

		if (!s->accepted || !s->resolved)
			report_message(g->object, s->message, why, report, ctx);
		for (unsigned k = 0; s->accepted && k < g->sockets; k++) {
			if (g->socket[k].state != GATEWAY_SOCKET_FAILED ||
			    g->socket[k].port != g->object->gateway.listener[i].port)
				continue;
			snprintf(message, sizeof(message), "spec.listeners[%u].port: %s", i, g->socket[k].why);
			report_message(g->object, message, "PortUnavailable", report, ctx);
		}
	}
}

/* The one with the most rules: where to begin if they are too many. */
static const struct object *longest_policy(const struct world *w, const struct policy_set *set)
{
	const struct object *longest = NULL;

	for (unsigned i = 0; i < set->policies; i++) {
		const struct policy_named *p = &set->policy[i];
		const struct object *o = store_get(w->store, KIND_AUTHORIZATION_POLICY, p->namespace, p->name);

		if (o && (!longest || o->authorization.rules > longest->authorization.rules))
			longest = o;
	}
	return longest;
}

void world_problems(const struct world *w, void (*report)(void *ctx, const struct problem *p), void *ctx)
{
	list_each(l, &w->troubled_services) {
		const struct world_service *s = container_of(l, struct world_service, troubled_link);

		report_object(s->object, s->problem_field, s->problem, s->problem_warning, report, ctx);
	}
	list_each(l, &w->troubled_routes)
		report_route(container_of(l, struct world_route, troubled_link), report, ctx);
	list_each(l, &w->gateways)
		report_gateway(container_of(l, struct world_gateway, link), report, ctx);
	list_each(l, &w->all_sets) {
		const struct policy_set *set = container_of(l, struct policy_set, all);
		const struct object *o = set->head.closed ? longest_policy(w, set) : NULL;

		if (o)
			report_object(o, "spec.rules",
				      "with the other policies of its pods it needs more than 256 terms: all "
				      "connections to them are refused (needs_worker); write fewer rules",
				      false, report, ctx);
	}
}
