/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel_report.c: the HBONE connections that the worker has, of both sides, with names: see report.h. */
#include <stdlib.h>
#include <string.h>

#include "report.h"

struct listing {
	const struct report *report;
	struct tunnel_row *row;
	unsigned count;
};

/* "cluster.local/ns/shop/sa/web", as everywhere */
static json_t *principal(const char *spiffe)
{
	static const char scheme[] = "spiffe://";

	return answer_text(text_starts(spiffe, scheme) ? spiffe + sizeof(scheme) - 1 : spiffe);
}

static json_t *end(const struct world *w, const struct abi_addr *addr, uint16_t port)
{
	const struct world_address *a = world_address(w, addr);
	const struct world_pod *p = a ? world_address_pod(a) : NULL;
	char *name = p ? mem_format("%s/%s", p->namespace, p->name) : mem_string("");
	json_t *j = json_pack("{s:o, s:o, s:i}", "pod", answer_text(name), "address", name_address(addr), "port",
			      (int)port);

	free(name);
	return j;
}

static json_t *item(void *ctx, const void *key)
{
	const struct listing *l = ctx;
	const struct tunnel_row *t = &l->row[*(const unsigned *)key];
	const struct world *w = l->report->world;
	const struct world_pod *pod = world_pod_in(w, t->netns);
	json_t *j = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:s}", "direction", t->client ? "out" : "in", "pod",
			      name_pod(w, pod ? pod->enrolled->number : 0), "local", end(w, &t->local, t->local_port),
			      "remote", end(w, &t->remote, t->remote_port), "identity", principal(t->identity),
			      "peer", principal(t->peer), "state", t->state, "waits", t->waits);

	if (!j)
		abort();
	json_object_update_new(j, json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i}", "alpn",
					    t->alpn, "cipher", t->cipher, "key_exchange", t->group, "streams",
					    (int)t->streams, "streams_opened", (json_int_t)t->opened, "age_ms",
					    (json_int_t)(t->age_ns / 1000000), "round_trip_us",
					    (json_int_t)(t->rtt_ns / 1000), "bytes_sent", (json_int_t)t->sent,
					    "bytes_received", (json_int_t)t->received, "send_window",
					    (json_int_t)t->send_window, "receive_window", (json_int_t)t->recv_window,
					    "thread", (int)t->thread));
	return j;
}

json_t *tunnel_report_threads(const struct report *r)
{
	struct proxy_stats *row = NULL;
	json_t *list = json_array();
	unsigned count = 0;

	if (r->stats && r->stats(r->proxy, &row, &count))
		count = 0; /* one does not answer: the list is empty, and says so by it */
	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, json_pack("{s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I}", "thread",
						      (int)row[i].thread, "connections", (int)row[i].relays,
						      "resting", (int)row[i].resting,
						      "tunnels", (int)row[i].tunnels, "spare_sockets",
						      (int)row[i].spare_sockets, "accepted",
						      (json_int_t)row[i].accepted, "refused",
						      (json_int_t)row[i].refused, "buffered_bytes",
						      (json_int_t)row[i].buffered));
	free(row);
	return list;
}

static int by_age(const void *a, const void *b)
{
	const struct tunnel_row *x = a, *y = b;

	return (x->age_ns < y->age_ns) - (x->age_ns > y->age_ns);
}

static void listing_free(void *ctx)
{
	struct listing *l = ctx;

	free(l->row);
	free(l);
}

struct answer *tunnel_report(struct report *r, const json_t *request)
{
	const char *pod = json_string_value(json_object_get(request, "pod"));
	struct answer_list list = {.name = "tunnels", .size = sizeof(unsigned), .item = item};
	char why[256];
	const struct world_pod *only = pod ? name_find_pod(r->world, pod, true, why) : NULL;
	struct listing *l;
	unsigned *keys;
	int err;

	if (pod && !only)
		return answer_error("%s", why);
	l = mem_alloc(sizeof(*l));
	l->report = r;
	err = r->tunnels ? r->tunnels(r->proxy, &l->row, &l->count) : 0;
	if (err) {
		free(l);
		return answer_error("the threads of the worker do not answer: %s", strerror(-err));
	}
	if (l->count)
		qsort(l->row, l->count, sizeof(*l->row), by_age);
	keys = mem_alloc(l->count * sizeof(*keys) + 1);
	for (unsigned i = 0; i < l->count; i++)
		if (!only || l->row[i].netns == only->enrolled->netns)
			keys[list.count++] = i;
	list.keys = keys;
	return answer_lists(&list, 1, l, listing_free);
}
