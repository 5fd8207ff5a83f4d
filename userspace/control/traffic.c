/* SPDX-License-Identifier: Apache-2.0 */
/* traffic.c: the kernel's counters per source and destination, summed over CPUs: see report.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "report.h"

struct traffic_row {
	struct abi_traffic_key key;
	struct abi_traffic sum;
};

struct refusal_row {
	struct abi_refusal_key key;
	uint64_t sum;
};

int traffic_reason(int map, uint32_t reason, uint64_t *ret)
{
	unsigned cpus = kernel_cpus();
	uint64_t *value = mem_alloc(cpus * sizeof(*value));
	int err = kernel_lookup(map, &reason, value);

	*ret = 0;
	for (unsigned i = 0; !err && i < cpus; i++)
		*ret += value[i];
	free(value);
	return err;
}

int traffic_reason_add(int map, uint32_t reason, uint64_t more)
{
	unsigned cpus = kernel_cpus();
	uint64_t *value = mem_alloc(cpus * sizeof(*value));
	int err = kernel_lookup(map, &reason, value);

	value[0] += more;
	if (!err)
		err = kernel_update(map, &reason, value);
	free(value);
	return err;
}

/* Rows of one per-CPU map, with the values of all CPUs added up as arrays of u64. */
static int sums(int map, size_t key_size, size_t value_size, void **ret_rows, size_t row_size,
		unsigned *ret_count)
{
	unsigned cpus = kernel_cpus(), words = (unsigned)(value_size / 8);
	void *keys, *values;
	const uint64_t *from;
	char *row;
	int err = kernel_dump(map, key_size, cpus * value_size, &keys, &values, ret_count);

	*ret_rows = NULL;
	if (err)
		return err;
	row = mem_alloc(*ret_count * row_size + 1);
	*ret_rows = row;
	from = values;
	for (unsigned i = 0; i < *ret_count; i++, row += row_size) {
		uint64_t *to = (uint64_t *)(void *)(row + row_size - value_size);

		memcpy(row, (char *)keys + i * key_size, key_size);
		for (unsigned k = 0; k < cpus * words; k++)
			to[k % words] += *from++;
	}
	free(keys);
	free(values);
	return 0;
}

static json_t *traffic_item(void *ctx, const void *key)
{
	const struct world *w = ((struct report *)ctx)->world;
	const struct traffic_row *row = key;
	const struct abi_traffic *t = &row->sum;

	return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "source",
			 name_identity(w, row->key.source), "service", name_service(w, row->key.service),
			 "pod", name_pod(w, row->key.pod), "opened", (json_int_t)t->opened, "closed",
			 (json_int_t)t->closed, "failed", (json_int_t)t->failed, "sent_bytes",
			 (json_int_t)t->sent_bytes, "received_bytes", (json_int_t)t->received_bytes,
			 "spliced_bytes", (json_int_t)t->spliced_bytes, "spliced_messages",
			 (json_int_t)t->spliced_msgs, "switches", (json_int_t)t->switches, "connect_us",
			 (json_int_t)(t->opened ? t->connect_ns / t->opened / 1000 : 0), "srtt_us",
			 (json_int_t)(t->closed ? t->srtt_us / t->closed : 0), "retransmits",
			 (json_int_t)t->retransmits);
}

static json_t *refusal_item(void *ctx, const void *key)
{
	const struct world *w = ((struct report *)ctx)->world;
	const struct refusal_row *row = key;

	return json_pack("{s:o, s:o, s:o, s:s, s:I}", "source", name_identity(w, row->key.source), "service",
			 name_service(w, row->key.service), "pod", name_pod(w, row->key.pod), "reason",
			 reason_name(row->key.reason), "count", (json_int_t)row->sum);
}

static int traffic_order(const void *a, const void *b)
{
	const struct traffic_row *x = a, *y = b;
	uint64_t p = x->sum.sent_bytes + x->sum.received_bytes, q = y->sum.sent_bytes + y->sum.received_bytes;

	if (p != q)
		return p > q ? -1 : 1;
	return memcmp(&x->key, &y->key, sizeof(x->key));
}

static int refusal_order(const void *a, const void *b)
{
	const struct refusal_row *x = a, *y = b;

	if (x->sum != y->sum)
		return x->sum > y->sum ? -1 : 1;
	return memcmp(&x->key, &y->key, sizeof(x->key));
}

struct answer *traffic_answer(struct report *r, const json_t *request)
{
	struct answer_list list[2] = {
		{.name = "traffic", .size = sizeof(struct traffic_row), .item = traffic_item},
		{.name = "refusals", .size = sizeof(struct refusal_row), .item = refusal_item},
	};
	int err = sums(r->fd[WIRE_FD_TRAFFIC], sizeof(struct abi_traffic_key), sizeof(struct abi_traffic),
		       &list[0].keys, list[0].size, &list[0].count);

	if (!err)
		err = sums(r->fd[WIRE_FD_REFUSALS], sizeof(struct abi_refusal_key), sizeof(uint64_t),
			   &list[1].keys, list[1].size, &list[1].count);
	if (err) {
		free(list[0].keys);
		return answer_error("the counters of the kernel cannot be read: %s", strerror(-err));
	}
	qsort(list[0].keys, list[0].count, list[0].size, traffic_order);
	qsort(list[1].keys, list[1].count, list[1].size, refusal_order);
	return answer_lists(list, 2, r, NULL);
}

/* ------------------------------------------------------------------ room */

struct row_key { /* as both keys begin */
	uint32_t source, service, pod, more;
};
_Static_assert(sizeof(struct row_key) == sizeof(struct abi_traffic_key), "abi_traffic_key");
_Static_assert(sizeof(struct row_key) == sizeof(struct abi_refusal_key), "abi_refusal_key");

static bool gone(const struct world *w, const struct row_key *k)
{
	return (k->pod && !world_pod_numbered(w, k->pod)) || (k->service && !world_front_numbered(w, k->service));
}

static int make_room(const struct world *w, int map, size_t value_size, unsigned above)
{
	unsigned count, going = 0;
	struct row_key *key;
	void *keys, *values;
	int r = kernel_dump(map, sizeof(*key), kernel_cpus() * value_size, &keys, &values, &count);

	if (r)
		return r;
	key = keys;
	for (unsigned i = 0; count > above && i < count; i++)
		if (gone(w, &key[i]))
			key[going++] = key[i];
	r = kernel_delete_batch(map, key, going, sizeof(*key));
	free(keys);
	free(values);
	return r ? r : (int)going;
}

int traffic_make_room(const struct report *r, unsigned above)
{
	int traffic = make_room(r->world, r->fd[WIRE_FD_TRAFFIC], sizeof(struct abi_traffic), above), refusals;

	if (traffic < 0)
		return traffic;
	refusals = make_room(r->world, r->fd[WIRE_FD_REFUSALS], sizeof(uint64_t), above);
	return refusals < 0 ? refusals : traffic + refusals;
}
