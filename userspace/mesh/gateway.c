/* SPDX-License-Identifier: Apache-2.0 */
/* gateway.c: see gateway.h. */
#include <stdlib.h>
#include <string.h>

#include "gateway.h"

struct gateway *gateway_hold(const struct gateway *g)
{
	struct gateway *held = (struct gateway *)g;

	__atomic_add_fetch(&held->holders, 1, __ATOMIC_RELAXED);
	return held;
}

void gateway_drop(struct gateway *g)
{
	struct table_link *next;

	if (!g || __atomic_sub_fetch(&g->holders, 1, __ATOMIC_ACQ_REL))
		return;
	for (unsigned i = 0; i < g->listeners; i++) {
		struct table *hosts = &g->listener[i].hosts;

		for (struct table_link *l = table_walk(hosts, NULL); l; l = next) {
			next = table_walk(hosts, l);
			route_table_drop(container_of(l, struct gateway_host, link)->routes);
		}
		table_free(hosts);
	}
	for (unsigned i = 0; i < g->ports; i++)
		if (g->port[i].tls)
			g->port[i].tls_free(g->port[i].tls);
	arena_free(&g->arena);
	free(g);
}

/* ------------------------------------------------------------------ names */

bool gateway_name_is(const char *name, struct http_text host)
{
	size_t len = strlen(name);

	if (!len)
		return true;
	if (*name != '*')
		return len == host.len && !memcmp(name, host.at, len);
	len--; /* ".example" behind at least one character */
	return host.len > len && !memcmp(host.at + host.len - len, name + 1, len);
}

const char *gateway_name_both(const char *a, const char *b)
{
	const char *longer = strlen(a) >= strlen(b) ? a : b, *other = longer == a ? b : a;

	if (!*other || !strcmp(longer, other))
		return longer;
	if (*other != '*')
		return *longer == '*' && gateway_name_is(longer, (struct http_text){other, strlen(other)}) ? other
													   : NULL;
	/* "*.a.example" is all within "*.example" */
	if (*longer == '*')
		return text_ends(longer, other + 1) ? longer : NULL;
	return gateway_name_is(other, (struct http_text){longer, strlen(longer)}) ? longer : NULL;
}

/* ------------------------------------------------------------------ questions */

const struct gateway_port *gateway_port(const struct gateway *g, uint16_t port)
{
	for (unsigned i = 0; i < g->ports; i++)
		if (g->port[i].port == port)
			return &g->port[i];
	return NULL;
}

size_t gateway_name_rank(const char *name)
{
	return *name && *name != '*' ? SIZE_MAX : strlen(name);
}

const struct gateway_listener *gateway_listener(const struct gateway *g, uint16_t port, struct http_text host)
{
	const struct gateway_listener *best = NULL;

	for (unsigned i = 0; i < g->listeners; i++) {
		const struct gateway_listener *l = &g->listener[i];

		if (l->port == port && gateway_name_is(l->hostname, host) &&
		    (!best || gateway_name_rank(l->hostname) > gateway_name_rank(best->hostname)))
			best = l;
	}
	return best;
}

static const struct route_table *named(const struct gateway_listener *l, const char *name, size_t len)
{
	for (struct table_link *at = table_first(&l->hosts, table_hash(name, len)); at; at = table_next_same(at)) {
		const struct gateway_host *h = container_of(at, struct gateway_host, link);

		if (strlen(h->name) == len && !memcmp(h->name, name, len))
			return h->routes;
	}
	return NULL;
}

const struct route_table *gateway_routes(const struct gateway_listener *l, struct http_text host)
{
	const struct route_table *t = NULL;
	char name[257] = "*";

	if (host.len && host.len < 256) {
		t = named(l, host.at, host.len);
		memcpy(name + 1, host.at, host.len);
	}
	for (size_t at = 2; !t && at <= host.len && host.len < 256; at++) {
		char kept = name[at - 1];

		if (name[at] != '.')
			continue;
		name[at - 1] = '*';
		t = named(l, name + at - 1, host.len - at + 2);
		name[at - 1] = kept;
	}
	return t ? t : named(l, "", 0);
}
